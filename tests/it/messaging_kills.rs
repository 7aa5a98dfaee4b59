//! Brokers are killed at random moments while they send: nothing is sent twice, and nobody is left in the dark.
//!
//! Three processes share a Redis; one of them at a time gets `kill -9` and is started again. Callers go on asking
//! through the others. What was cut off is open to whoever asks once the dead process's time is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acs_broker::grpc::proto::v1;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tonic::Code;
use v1::MessageState::{Failed, Sent, Unknown};

use crate::harness::emulator_with;
use crate::harness::messages::{Clients, Fleet, mail, new_id, reason, recipient, repeat, sms};

const SEED: u64 = 20_261_122;
const CALLERS: usize = 12;
/// How long a replica may have a request to itself: the least that the settings allow.
const HOLD: Duration = Duration::from_secs(10);

/// How often a broker is killed: `MESSAGING_KILLS` if there is more time than CI has.
#[allow(clippy::disallowed_methods, reason = "a wish of whoever runs the test, not a setting")]
fn kills() -> usize {
    std::env::var("MESSAGING_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(50)
}

/// A request that a caller began.
#[derive(Clone)]
enum Wish {
    Sms(v1::SendSmsRequest),
    Mail(v1::SendEmailRequest),
}

impl Wish {
    fn new(number: usize) -> Self {
        let id = new_id();
        if number.is_multiple_of(4) {
            return Self::Mail(mail(&id, &format!("reader-{number}@example.com"), "once, please"));
        }
        Self::Sms(sms(&id, vec![recipient(2 * number), recipient(2 * number + 1)], "once, please"))
    }

    fn request_id(&self) -> &str {
        match self {
            Self::Sms(wish) => &wish.request_id,
            Self::Mail(wish) => &wish.request_id,
        }
    }

    async fn send(&self, clients: &Clients) -> Result<tonic::Response<()>, tonic::Status> {
        match self {
            Self::Sms(wish) => {
                clients.sms.clone().send_sms(wish.clone()).await.map(|answer| answer.map(drop))
            }
            Self::Mail(wish) => {
                clients.email.clone().send_email(wish.clone()).await.map(|answer| answer.map(drop))
            }
        }
    }

    /// How far it has come for each part; nothing if no broker has taken it.
    async fn states(&self, clients: &Clients) -> Vec<v1::MessageState> {
        let id = self.request_id().to_owned();
        match self {
            Self::Sms(_) => {
                let name = Some(v1::get_sms_request::Name::RequestId(id));
                match clients.sms.clone().get_sms(v1::GetSmsRequest { name }).await {
                    Ok(found) => found.into_inner().outcomes.iter().map(v1::SmsOutcome::state).collect(),
                    Err(status) => none_if_unknown(&status),
                }
            }
            Self::Mail(_) => {
                let name = Some(v1::get_email_request::Name::RequestId(id));
                match clients.email.clone().get_email(v1::GetEmailRequest { name, wait: false }).await {
                    Ok(found) => vec![found.into_inner().state()],
                    Err(status) => none_if_unknown(&status),
                }
            }
        }
    }
}

fn none_if_unknown(status: &tonic::Status) -> Vec<v1::MessageState> {
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    Vec::new()
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_killed_while_sending_double_nothing_and_leave_nothing_open() {
    let started = Instant::now();
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    // So slow that most kills find something under way: before the effect or after it.
    for (commit, probability) in [("before", 0.5), ("after", 1.0)] {
        let slow = json!({
            "operation": "any", "effect": "proceed", "commit": commit, "probability": probability, "delay_ms": 25
        });
        emulator.api().fault(slow).await;
    }
    let settings = [("MESSAGES__HOLD", "10s"), ("ACS__TIMEOUT", "3s")];
    let mut fleet = Fleet::start(&emulator, 3, &settings).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();

    let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let open = Arc::new(Mutex::new(Vec::new()));
    let all = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    for caller in 0..CALLERS {
        let (stop, next, open, all) = (stop.clone(), next.clone(), open.clone(), all.clone());
        let clients = clients.clone();
        callers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                let wish = Wish::new(next.fetch_add(1, Ordering::Relaxed));
                all.lock().unwrap().push(wish.clone());
                let mut answered = false;
                for attempt in 0..3 {
                    match wish.send(&clients[(caller + attempt) % clients.len()]).await {
                        Ok(_) => answered = true,
                        Err(status) => {
                            let expected = [Code::Unavailable, Code::Aborted, Code::Cancelled, Code::Unknown];
                            let is_expected = expected.contains(&status.code()) || reason(&status).is_empty();
                            assert!(is_expected, "{status:?}");
                        }
                    }
                    if answered {
                        break;
                    }
                }
                if !answered {
                    open.lock().unwrap().push(wish);
                }
            }
        }));
    }
    let mut random = StdRng::seed_from_u64(SEED);
    let kills = kills();
    for _ in 0..kills {
        let broker = random.random_range(0..fleet.brokers.len());
        tokio::time::sleep(Duration::from_millis(random.random_range(5..150))).await;
        fleet.brokers[broker].kill();
        fleet.brokers[broker].restart().await;
    }
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let killing = started.elapsed();
    // The dead had these to themselves until now; no condition shows when that is over.
    tokio::time::sleep(HOLD + Duration::from_millis(500)).await;
    let (all, open) = (all.lock().unwrap().clone(), open.lock().unwrap().clone());
    let mut states = BTreeMap::new();
    for wish in &open {
        for state in wish.states(&clients[0]).await {
            *states.entry(state.as_str_name()).or_insert(0) += 1;
            assert!(matches!(state, Sent | Failed | Unknown), "{state:?}");
        }
    }
    for (number, wish) in open.iter().enumerate() {
        repeat(number, 1, |broker: usize| wish.send(&clients[broker % clients.len()])).await;
    }
    let (mut sms_expected, mut mails_expected) = (BTreeSet::new(), BTreeSet::new());
    for wish in &all {
        match wish {
            Wish::Sms(wish) => sms_expected.extend(wish.to.iter().cloned()),
            Wish::Mail(wish) => drop(mails_expected.insert(wish.to[0].address.clone())),
        }
    }
    let counts = emulator.api().status().await["counts"].clone();
    println!(
        "{kills} kills in {:.1} s: {} requests, {} left open by {CALLERS} callers who asked three times, their states \
         after {HOLD:?}: {states:?}; kept {} SMS of {}, {} mails of {}; {:.1} s in all",
        killing.as_secs_f64(),
        all.len(),
        open.len(),
        counts["sms"],
        sms_expected.len(),
        counts["email"],
        mails_expected.len(),
        started.elapsed().as_secs_f64()
    );
    assert_eq!(counts["sms"], sms_expected.len(), "0 lost, 0 doubled");
    assert_eq!(counts["email"], mails_expected.len(), "0 lost, 0 doubled");
    assert!(all.len() > kills, "there was load");
}
