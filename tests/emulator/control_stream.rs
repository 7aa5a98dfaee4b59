//! The stream of changes.

use std::time::{Duration, Instant};

use serde_json::json;

use super::control_messages::{ALICE, SENDER};
use super::harness::start;
use crate::emulator_control::Control;

const LONG: Duration = Duration::from_secs(30);

/// The events of an open stream.
struct Events(reqwest::Response, String);

impl Events {
    async fn open(control: &Control) -> Self {
        let response = control.request("GET", "stream").send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        assert_eq!(response.headers()["cache-control"], "no-store");
        Self(response, String::new())
    }

    /// The revision of the next event; nothing at the end of the stream.
    async fn next(&mut self) -> Option<u64> {
        loop {
            if let Some((event, rest)) = self.1.split_once("\n\n") {
                let revision = event.strip_prefix("event: changed\ndata: ").map(|data| {
                    let data: serde_json::Value = serde_json::from_str(data).unwrap();
                    data["revision"].as_u64().unwrap()
                });
                self.1 = rest.to_owned();
                match revision {
                    Some(revision) => return Some(revision),
                    // A comment.
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(LONG, self.0.chunk()).await.unwrap();
            self.1.push_str(std::str::from_utf8(&chunk.ok()??).unwrap());
        }
    }
}

#[tokio::test]
async fn it_speaks_at_once_and_after_each_change_with_a_greater_revision() {
    let running = start().await;
    let control = Control::at(running.base());
    let mut events = Events::open(&control).await;
    let mut last = events.next().await.unwrap();
    for step in 0..4 {
        match step {
            0 => drop(control.receive_sms(ALICE, SENDER, "hello").await),
            1 => drop(control.advance("1m").await),
            2 => control.fault(json!({ "operation": "any", "effect": "drop", "count": 1 })).await,
            _ => control.reset().await,
        }
        let revision = events.next().await.unwrap();
        assert!(revision > last, "step {step}: {revision} after {last}");
        last = revision;
    }
}

#[tokio::test]
async fn many_changes_become_few_events() {
    let running = start().await;
    let control = Control::at(running.base());
    let mut events = Events::open(&control).await;
    let first = events.next().await.unwrap();
    let began = Instant::now();
    for number in 0..300 {
        control.receive_sms(ALICE, SENDER, &format!("hello {number}")).await;
    }
    let mut count = 0_u128;
    while events.next().await.unwrap() < first + 300 {
        count += 1;
    }
    let most = began.elapsed().as_millis() / 100 + 1;
    assert!(count <= most, "{count} events in {:?}", began.elapsed());
}

#[tokio::test]
async fn streams_are_limited_in_number_and_free_their_place() {
    let running = start().await;
    let control = Control::at(running.base());
    let mut open = Vec::new();
    for _ in 0..64 {
        open.push(Events::open(&control).await);
    }
    assert_eq!(control.get("stream").await.refused().0, 503);
    drop(open);
    let deadline = Instant::now() + LONG;
    while control.status().await["watching"]["streams"] != 0 {
        assert!(Instant::now() < deadline, "places are not freed");
    }
    assert!(Events::open(&control).await.next().await.is_some());
}

#[tokio::test]
async fn it_ends_with_the_emulator() {
    let running = start().await;
    let control = Control::at(running.base());
    let mut events = Events::open(&control).await;
    assert!(events.next().await.is_some());
    let began = Instant::now();
    running.handle.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "it did not wait for the reader");
    assert_eq!(events.next().await, None);
}
