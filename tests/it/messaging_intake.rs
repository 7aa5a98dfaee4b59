//! What happens to events while stores and brokers die: whoever posts them is told to come again, none is lost, and
//! nobody is told twice. The tests post as Event Grid does: what was not answered with 200 is posted again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acs_broker::grpc::proto::v1;
use rand::RngExt;
use serde_json::Value;
use v1::MessageState::{Delivered, Sent};

use crate::harness::messages::{Clients, Fleet, new_id, recipient, sending, sms};
use crate::harness::{BrokerProcess, emulator_with, until};
use crate::messaging_events::{next, outcomes, post, report, try_to_post, watch};
use crate::redis_server::RedisServer;

/// An SMS that was answered: by its id, the recipients with ACS's ids.
type Acknowledged = (v1::SendSmsRequest, v1::SendSmsResponse);

async fn send(clients: &Clients, to: Vec<String>) -> Option<Acknowledged> {
    let wish = sms(&new_id(), to, "are you there?");
    let answer = clients.sms.clone().send_sms(wish.clone()).await.ok()?.into_inner();
    Some((wish, answer))
}

fn event(outcome: &v1::SmsOutcome) -> Value {
    report(&format!("event-{}", outcome.message_id), &outcome.message_id, &outcome.to, "Delivered")
}

/// A place in the log before everything that a test does: that of an event of nobody.
async fn beginning(broker: &BrokerProcess) -> String {
    let mut events = watch(broker, "").await;
    let first = report("the-first", "a-message-of-nobody", &recipient(0), "Delivered");
    assert_eq!(post(&broker.webhook_with_secret(), &first).await, 200);
    next(&mut events).await.0
}

/// How often each message is told of after this place; reads until the event that was posted last.
async fn told_since(broker: &BrokerProcess, cursor: &str) -> BTreeMap<String, usize> {
    let last = report("the-last", "the-end", &recipient(0), "Delivered");
    assert_eq!(post(&broker.webhook_with_secret(), &last).await, 200);
    let (mut events, mut told) = (watch(broker, cursor).await, BTreeMap::new());
    loop {
        let message = next(&mut events).await.1.message_id;
        if message == "the-end" {
            return told;
        }
        *told.entry(message).or_insert(0) += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_gone_events_are_refused_and_when_it_is_back_none_is_lost_or_doubled() {
    const REQUESTS: usize = 4;
    const POSTERS: usize = 8;
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let mut redis = RedisServer::start_durable();
    let url = redis.url();
    let mut brokers = Vec::new();
    for _ in 0..2 {
        let common = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", url.as_str())];
        let settings: Vec<_> = common.into_iter().chain(sending()).collect();
        brokers.push(BrokerProcess::start(&emulator.connection_string, &settings).await);
    }
    let clients: Vec<_> = brokers.iter().map(Clients::of).collect();
    let mut sent = Vec::new();
    for request in 0..REQUESTS {
        let to = (0..100).map(|part| recipient(1 + request * 100 + part)).collect();
        sent.push(send(&clients[request % 2], to).await.expect("sent").1);
    }
    let start = beginning(&brokers[0]).await;

    let events: Arc<Vec<Value>> = Arc::new(sent.iter().flat_map(|one| &one.outcomes).map(event).collect());
    let (taken, refused) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
    let next_event = Arc::new(AtomicUsize::new(0));
    let hooks: Vec<_> = brokers.iter().map(BrokerProcess::webhook_with_secret).collect();
    let mut posters = Vec::new();
    for poster in 0..POSTERS {
        let (events, hooks, next_event) = (events.clone(), hooks.clone(), next_event.clone());
        let (taken, refused) = (taken.clone(), refused.clone());
        posters.push(tokio::spawn(async move {
            while let Some(event) = events.get(next_event.fetch_add(1, Ordering::SeqCst)) {
                for attempt in poster.. {
                    match try_to_post(&hooks[attempt % 2], event).await.expect("the brokers are there") {
                        200 => break,
                        503 => refused.fetch_add(1, Ordering::SeqCst),
                        other => panic!("{other}"),
                    };
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                taken.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    for kill in 1..=3 {
        until("some events are in", async || taken.load(Ordering::SeqCst) >= kill * 80).await;
        redis.kill();
        let so_far = refused.load(Ordering::SeqCst);
        until("events are refused", async || refused.load(Ordering::SeqCst) > so_far + 10).await;
        tokio::task::block_in_place(|| redis.restart());
    }
    for poster in posters {
        poster.await.unwrap();
    }
    until("the other broker is back", async || {
        let name = Some(v1::get_sms_request::Name::SmsId(sent[0].sms_id.clone()));
        let mut client = clients[1].sms.clone();
        client.get_sms(v1::GetSmsRequest { name }).await.is_ok()
    })
    .await;
    for one in &sent {
        assert!(outcomes(&clients[1], &one.sms_id).await.iter().all(|one| one.state() == Delivered));
    }
    let mut told = told_since(&brokers[1], &start).await;
    println!(
        "{} events by {POSTERS} posters to 2 brokers while Redis was killed 3 times: {} answers of 503, {} told once",
        events.len(),
        refused.load(Ordering::SeqCst),
        told.len()
    );
    assert!(told.values().all(|times| *times == 1), "none is doubled");
    for outcome in sent.iter().flat_map(|one| &one.outcomes) {
        assert!(told.remove(&outcome.message_id).is_some(), "none is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_on_the_embedded_file_that_is_killed_forgets_no_message_and_no_event_it_acknowledged() {
    const KILLS: usize = 20;
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    let settings: Vec<_> = sending().into_iter().chain([("STORE__EMBEDDED__PATH", path.as_str())]).collect();
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let (clients, hook) = (Clients::of(&broker), broker.webhook_with_secret());
    let start = beginning(&broker).await;
    let acknowledged: Arc<Mutex<Vec<Acknowledged>>> = Arc::default();
    let taken: Arc<Mutex<Vec<String>>> = Arc::default();
    let number = Arc::new(AtomicUsize::new(1));
    for _ in 0..KILLS {
        let (mut workers, killed) = (Vec::new(), Arc::new(AtomicBool::new(false)));
        for _ in 0..6 {
            let killed = killed.clone();
            let (clients, hook, number) = (clients.clone(), hook.clone(), number.clone());
            let (acknowledged, taken) = (acknowledged.clone(), taken.clone());
            workers.push(tokio::spawn(async move {
                while !killed.load(Ordering::SeqCst) {
                    let first = number.fetch_add(2, Ordering::SeqCst);
                    let sent = send(&clients, vec![recipient(first), recipient(first + 1)]).await;
                    // A connection of before the last kill fails once.
                    let Some(sent) = sent else { continue };
                    acknowledged.lock().unwrap().push(sent.clone());
                    // Of the second recipient nobody reports.
                    let outcome = &sent.1.outcomes[0];
                    if try_to_post(&hook, &event(outcome)).await == Some(200) {
                        taken.lock().unwrap().push(outcome.message_id.clone());
                    }
                }
            }));
        }
        let so_far = taken.lock().unwrap().len();
        until("some events are in", async || taken.lock().unwrap().len() > so_far + 2).await;
        // And then at any moment.
        let until_the_kill = rand::rng().random_range(0..50);
        tokio::time::sleep(Duration::from_millis(until_the_kill)).await;
        broker.kill();
        killed.store(true, Ordering::SeqCst);
        for worker in workers {
            worker.await.unwrap();
        }
        broker.restart().await;
    }
    let (acknowledged, taken) = (acknowledged.lock().unwrap().clone(), taken.lock().unwrap().clone());
    assert!(acknowledged.len() > KILLS && taken.len() > KILLS, "there was load");
    let at_acs = emulator.api().status().await["counts"]["sms"].as_u64().unwrap();
    for (wish, answer) in &acknowledged {
        let known = outcomes(&clients, &answer.sms_id).await;
        let ids = |outcomes: &[v1::SmsOutcome]| -> Vec<String> {
            outcomes.iter().map(|one| one.message_id.clone()).collect()
        };
        assert_eq!(ids(&known), ids(&answer.outcomes), "{}", answer.sms_id);
        if taken.contains(&known[0].message_id) {
            assert_eq!(known[0].state(), Delivered, "an event that was acknowledged counts");
        }
        assert_eq!(known[1].state(), Sent);
        let again = clients.sms.clone().send_sms(wish.clone()).await.unwrap().into_inner();
        assert_eq!(ids(&again.outcomes), ids(&answer.outcomes), "a repetition sends nothing");
    }
    assert_eq!(emulator.api().status().await["counts"]["sms"], at_acs);
    // Event Grid brings what was not acknowledged again; here all of it, which changes nothing for the rest.
    for (_, answer) in &acknowledged {
        assert_eq!(post(&hook, &event(&answer.outcomes[0])).await, 200);
    }
    let told = told_since(&broker, &start).await;
    println!(
        "{KILLS} kills: {} SMS requests acknowledged, {} events; {} told, each once; {at_acs} SMS at ACS",
        acknowledged.len(),
        taken.len(),
        told.len()
    );
    assert!(told.values().all(|times| *times == 1), "{told:?}");
    for (_, answer) in &acknowledged {
        assert!(told.contains_key(&answer.outcomes[0].message_id));
        assert_eq!(outcomes(&clients, &answer.sms_id).await[0].state(), Delivered);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_of_one_replica_hears_soon_of_what_another_one_took_in() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let fleet = Fleet::start(&emulator, 2, &[]).await;
    let mut events = watch(&fleet.brokers[0], "").await;
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let body =
            report(&format!("event-{number}"), &format!("message-{number}"), &recipient(0), "Delivered");
        assert_eq!(post(&fleet.brokers[1].webhook_with_secret(), &body).await, 200);
        let taken_in = Instant::now();
        assert_eq!(next(&mut events).await.1.message_id, format!("message-{number}"));
        slowest = slowest.max(taken_in.elapsed());
    }
    println!("20 events taken in by one replica were told by the other within {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}
