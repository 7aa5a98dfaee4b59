//! The fleet stays within the published limits, shares them fairly, and one look at ACS tells all who wait.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acs_broker::acs;
use acs_broker::app::upstream::Upstream;
use acs_broker::broker::error::Error;
use acs_broker::broker::ports::{Limit, Taken};
use acs_broker::broker::types::Caller;
use acs_broker::clock::{Clock, SystemClock};
use acs_broker::grpc::proto::v1;
use acs_broker::messaging::ports::MessageStores;
use acs_broker::messaging::types::Number;
use acs_broker::messaging::{Messaging, SendSms, Settings};
use acs_broker::metrics::Metrics;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use v1::watch_events_response::Event;

use crate::harness::messages::{Clients, Fleet, NUMBER, mail, new_id, recipient};
use crate::harness::{BrokerProcess, Emulator, acs_settings, emulator_with, open_redis};
use crate::redis_server::RedisServer;

/// A replica's messaging in this process: the API has one caller only, the core has as many as there are.
async fn replica(emulator: &Emulator, redis: &RedisServer, limits: f64) -> Messaging {
    let metrics = Metrics::new();
    let clock = Arc::new(SystemClock);
    let resource = acs::ConnectionString::parse(&emulator.connection_string).unwrap();
    let client = acs::Client::new(&acs_settings(), resource, clock.clone()).unwrap();
    let timeout = acs_settings().timeout;
    let upstream = Upstream::new(client, acs::CustomId::Off, timeout, clock.clone(), metrics.clone());
    let upstream = Arc::new(upstream);
    let mut settings = Settings { limits, ..Settings::default() };
    settings.sms.senders = NUMBER.into();
    let stores = open_redis(redis).await.messages;
    Messaging::new(settings, stores, upstream.clone(), upstream, clock, metrics, TaskTracker::new())
}

fn one_sms(number: usize) -> SendSms {
    SendSms {
        request_id: uuid::Uuid::new_v4(),
        from: None,
        to: vec![Number::parse(&recipient(number)).unwrap()],
        text: "one of many".into(),
        delivery_report: false,
        tag: None,
    }
}

/// When each call of this operation ended at ACS, in milliseconds.
async fn times(emulator: &Emulator, operation: &str) -> Vec<u64> {
    let (mut after, mut times) = (0, Vec::new());
    loop {
        // Newest first and at most 1000: so the log must not have grown beyond that since the last look.
        let page = emulator.api().call_log(after).await;
        let Some(newest) = page.first() else { return times };
        assert!(page.len() < 1000, "the log is looked at before it is too long");
        after = newest["number"].as_u64().unwrap();
        let is_it = |call: &&Value| call["operation"] == operation;
        times.extend(page.iter().rev().filter(is_it).map(|call| call["at"].as_u64().unwrap()));
    }
}

/// The most of these in any window.
fn most_in(times: &[u64], window: u64) -> usize {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let within = |from: &u64| sorted.iter().filter(|time| (*from..from + window).contains(time)).count();
    sorted.iter().map(within).max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_floods_leaves_the_other_its_share_of_the_published_limit() {
    // 200 a minute for a number, times this.
    const FACTOR: f64 = 0.3;
    const LIMIT: usize = 60;
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let redis = RedisServer::start();
    let mut fleet = Vec::new();
    for _ in 0..3 {
        fleet.push(replica(&emulator, &redis, FACTOR).await);
    }
    let (sent, refused) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicU64::new(0)));
    let modest_at = Arc::new(Mutex::new(Vec::new()));
    let time = seconds();
    let end = Instant::now() + Duration::from_secs(time);
    let mut senders = Vec::new();
    // The flood asks from eight sides, fifty times a second each; the other one asks once a second: as much as the
    // whole limit.
    for sender in 0..9 {
        let (fleet, sent, refused, modest_at) =
            (fleet.clone(), sent.clone(), refused.clone(), modest_at.clone());
        let (name, pause) = if sender == 0 { ("modest", 1000) } else { ("flood", 20) };
        senders.push(tokio::spawn(async move {
            let caller = Caller::new(name);
            for number in 0.. {
                if Instant::now() > end {
                    return;
                }
                match fleet[number % 3].send_sms(&caller, one_sms(sender * 10_000 + number)).await {
                    Ok(_) => {
                        *sent.lock().unwrap().entry(name).or_insert(0) += 1;
                        if name == "modest" {
                            modest_at.lock().unwrap().push(SystemClock.now().as_millis());
                        }
                    }
                    Err(Error::AcsLimitReached { retry_after }) => {
                        assert!(retry_after > Duration::ZERO && retry_after <= Duration::from_secs(70));
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => panic!("{error:?}"),
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }));
    }
    for sender in senders {
        sender.await.unwrap();
    }
    let at_acs = times(&emulator, "send_sms").await;
    let sent = sent.lock().unwrap().clone();
    println!(
        "limit {LIMIT} a minute over 3 replicas: sent {sent:?}, refused {} times; at ACS {}, most in a minute {}",
        refused.load(Ordering::Relaxed),
        at_acs.len(),
        most_in(&at_acs, 60_000)
    );
    assert!(most_in(&at_acs, 60_000) <= LIMIT);
    assert_eq!(at_acs.len(), sent.values().sum::<usize>(), "every call of ACS was counted");
    // Nobody can keep free what nobody has asked for yet: shares are even from the second window on.
    let from = at_acs[0] + 60_000;
    if time >= 130 {
        let windows = (time - 60) / 60;
        let even = usize::try_from(windows).unwrap() * LIMIT / 2;
        let modest = modest_at
            .lock()
            .unwrap()
            .iter()
            .filter(|at| (from..from + windows * 60_000).contains(at))
            .count();
        println!("from the second minute on, {windows} minutes: modest {modest} of an even share of {even}");
        assert!(modest * 10 >= even * 9 && modest * 10 <= even * 11, "±10 %");
    }
}

/// How long the flood lasts: `MESSAGING_FLOOD_SECONDS` if there is more time than CI has.
#[allow(clippy::disallowed_methods, reason = "a wish of whoever runs the test, not a setting")]
fn seconds() -> u64 {
    std::env::var("MESSAGING_FLOOD_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[tokio::test(flavor = "multi_thread")]
async fn in_no_window_is_there_more_than_the_maximum_and_shares_stay_even_over_many_windows() {
    const MAX: u32 = 60;
    const WINDOW: Duration = Duration::from_secs(1);
    let redis = RedisServer::start();
    let mut replicas: Vec<MessageStores> = Vec::new();
    for _ in 0..3 {
        replicas.push(open_redis(&redis).await.messages);
    }
    let limits = [Limit { window: WINDOW, max: MAX }];
    let started = Instant::now();
    let granted = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for side in 0..9 {
        let (replicas, granted) = (replicas.clone(), granted.clone());
        callers.push(tokio::spawn(async move {
            let (name, pause) = if side == 0 { ("modest", 12) } else { ("flood", 4) };
            let mut number = side;
            while started.elapsed() < 12 * WINDOW {
                number += 1;
                let budgets = &replicas[number % 3].budgets;
                let before = started.elapsed();
                let take = budgets.take_fair("bucket", name, &limits, 1).await.unwrap();
                if let Taken::Go { .. } = take.taken {
                    granted.lock().unwrap().push((before, started.elapsed(), name));
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let granted = granted.lock().unwrap().clone();
    // Certainly within a window: what was asked for after its beginning and answered before its end.
    let within = |from: Duration| {
        granted.iter().filter(|(before, after, _)| *before >= from && *after < from + WINDOW).count()
    };
    let most = granted.iter().map(|(before, ..)| within(*before)).max().unwrap();
    // Nobody can keep free what nobody has asked for yet: shares are even once a window has passed.
    let later = || granted.iter().filter(|(before, ..)| *before >= 2 * WINDOW);
    let count = |name: &str| later().filter(|one| one.2 == name).count();
    let (modest, flood) = (count("modest"), count("flood"));
    println!("limit {MAX} a second over 3 replicas: modest {modest}, flood {flood}, most in a window {most}");
    assert!(most <= MAX as usize);
    #[allow(clippy::cast_precision_loss, reason = "small")]
    let share = modest as f64 / (modest + flood) as f64;
    assert!((0.45..=0.55).contains(&share), "half of it, ±10 %: {share}");
}

const MAILS: usize = 1000;
const WATCHERS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_mails_watched_by_fifty_callers_cost_acs_no_more_than_one_poller() {
    let started = Instant::now();
    // The published limits times 40: 1200 mails and 2400 looks at mails a minute, for all replicas together.
    let settings = [("MESSAGES__LIMITS", "40")];
    let looks_allowed = 2400;
    let emulator =
        emulator_with(&[("TELEMETRY__FILTER", "warn"), ("EMULATOR__DELIVER_AFTER", "1500ms")]).await;
    let fleet = Fleet::start(&emulator, 3, &settings).await;
    let hook = |broker: &BrokerProcess| json!({ "url": broker.webhook_with_secret() });
    emulator.post_events_to(json!([hook(&fleet.brokers[0])])).await;
    let mut watchers = Vec::new();
    for watcher in 0..WATCHERS {
        let kinds = vec![v1::EventKind::EmailDelivery.into()];
        let wish = v1::WatchEventsRequest { cursor: String::new(), kinds };
        let mut events = fleet.brokers[watcher % 3].events().watch_events(wish).await.unwrap().into_inner();
        watchers.push(tokio::spawn(async move {
            let mut told = std::collections::BTreeSet::new();
            while told.len() < MAILS {
                let event = tokio::time::timeout(Duration::from_secs(60), events.message()).await;
                let event = event.expect("an event in time").unwrap().expect("the stream goes on");
                let Some(Event::EmailDelivery(delivery)) = event.event else { panic!("of another kind") };
                told.insert(delivery.email_id);
            }
            told
        }));
    }
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let mut callers = Vec::new();
    for caller in 0..WATCHERS {
        let clients = clients.clone();
        callers.push(tokio::spawn(async move {
            let mut ids = Vec::new();
            for number in 0..MAILS / WATCHERS {
                let to = format!("reader-{caller}-{number}@example.com");
                let mut client = clients[(caller + number) % 3].email.clone();
                ids.push(
                    client.send_email(mail(&new_id(), &to, "news")).await.unwrap().into_inner().email_id,
                );
            }
            for (number, id) in ids.iter().enumerate() {
                let name = Some(v1::get_email_request::Name::EmailId(id.clone()));
                let mut client = clients[(caller + number + 1) % 3].email.clone();
                let mut wait = tonic::Request::new(v1::GetEmailRequest { name, wait: true });
                wait.set_timeout(Duration::from_secs(60));
                let state = client.get_email(wait).await.unwrap().into_inner().state();
                assert_eq!(state, v1::MessageState::Sent, "told through another replica");
            }
            ids
        }));
    }
    let mut all = std::collections::BTreeSet::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    let waited = started.elapsed();
    for watcher in watchers {
        assert_eq!(watcher.await.unwrap(), all, "every watcher is told of every mail");
    }
    let calls = emulator.api().calls().await;
    let looks = calls["get_email_operation"];
    println!(
        "{MAILS} mails, {WATCHERS} callers wait and watch: {looks} looks at ACS ({:.1} a mail, {looks_allowed} a \
         minute allowed); all have ended after {:.1} s, all events told after {:.1} s",
        looks as f64 / MAILS as f64,
        waited.as_secs_f64(),
        started.elapsed().as_secs_f64()
    );
    assert_eq!((all.len(), calls["send_email"]), (MAILS, MAILS as u64));
    assert!(looks <= looks_allowed && looks <= 3 * MAILS as u64);
}
