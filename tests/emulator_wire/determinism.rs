//! The same seed, faults and calls on two fresh emulators: the log of calls is the same byte by byte.

use std::sync::Arc;

use acs_broker::clock::{Clock, SystemClock};
use acs_broker::emulator::{Chance, Fault, Operation, Settings, start};

use super::harness::{program, run, settings};

/// Runs the sequence on a fresh emulator, with faults asked for over HTTP or in process; the log, and the ids it made.
async fn met(seed: u64, faults: u64, over_http: bool) -> (String, String) {
    let settings = Settings { seed, ..settings() };
    let emulator = start(settings, Arc::new(SystemClock) as Arc<dyn Clock>).await.unwrap();
    let mut command = program("sequence.py");
    command.env("ACS_CONNECTION_STRING", emulator.connection_string());
    if over_http {
        command.arg(faults.to_string());
    } else {
        let chance = |probability, seed| Chance { probability, seed };
        // Not on what prepares the sequence, which must succeed.
        emulator.faults().by_chance(Operation::SendSms, Fault::throttled(1), chance(0.3, faults));
        emulator.faults().by_chance(Operation::SendEmail, Fault::status(503), chance(0.2, faults + 1));
        emulator.faults().by_chance(
            Operation::ListMessages,
            Fault::drop_connection(),
            chance(0.2, faults + 2),
        );
    }
    let said = run(command).await;
    emulator.shutdown().await;
    let (log, ids) = said.split_once("ids\n").unwrap();
    (log.to_owned(), ids.to_owned())
}

/// What of the ids is drawn: the last group of an identity's id, all of the others'.
fn drawn(ids: &str) -> Vec<&str> {
    ids.lines().map(|id| if id.starts_with("8:") { id.rsplit('-').next().unwrap() } else { id }).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_seed_gives_the_same_log_of_calls_whoever_asked_for_the_faults() {
    for over_http in [true, false] {
        let (first, ids) = met(7, 11, over_http).await;
        let (second, same_ids) = met(7, 11, over_http).await;
        assert!(first.lines().count() >= 300, "{first}");
        assert!(first.contains(" 503 ") && first.contains(" 429 ") && first.contains(" 0 "), "{first}");
        assert!(first == second, "first\n{first}\nsecond\n{second}");
        assert_ne!(first, met(7, 12, over_http).await.0, "other chance, other faults");
        assert_eq!(drawn(&ids), drawn(&same_ids));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_seed_of_the_settings_decides_what_is_drawn() {
    let (log, ids) = met(7, 11, true).await;
    let (same_log, same_ids) = met(7, 11, true).await;
    let (_, other_ids) = met(8, 11, true).await;
    assert_eq!(log, same_log);
    assert_eq!(drawn(&ids), drawn(&same_ids));
    assert_ne!(drawn(&ids), drawn(&other_ids));
}
