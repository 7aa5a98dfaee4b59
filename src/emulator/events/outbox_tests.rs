//! What is kept, listed and forgotten.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::emulator::events::webhook::Webhook;
use crate::emulator::random::Random;
use std::time::Duration;

const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);

fn outbox(count: usize, bytes: usize) -> Outbox {
    let mut outbox = Outbox::new(Bounds { count, age: Duration::from_hours(1), bytes });
    let webhook: Webhook = serde_json::from_value(json!({ "url": "http://127.0.0.1:1/" })).unwrap();
    let id = outbox.next_hook();
    outbox.replace(vec![Hook::new(id, "n".to_owned(), webhook, Random::new(Some(7)))]);
    outbox
}

fn happening(text: &str) -> Happening {
    let (id, subject) = ("e".to_owned(), "s".to_owned());
    Happening { sequence: 0, id, kind: "SMSReceived", subject, at: START, data: json!({ "text": text }) }
}

#[test]
fn an_event_is_listed_with_all_its_parts() {
    let mut outbox = outbox(10, 1_000_000);
    outbox.push(happening("x"));
    let expected = json!([{
        "sequence": 1,
        "id": "e",
        "kind": "SMSReceived",
        "subject": "s",
        "at": "2026-11-22T12:00:00.0000000+00:00",
        "data": { "text": "x" },
        "deliveries": [{ "url": "http://127.0.0.1:1/", "status": "pending", "attempts": 0, "last": null }],
    }]);
    assert_eq!(Value::Array(outbox.latest(0, 10)), expected);
}

#[test]
fn events_are_listed_newest_first_after_a_number_and_up_to_a_limit() {
    let mut outbox = outbox(10, 1_000_000);
    for _ in 0..5 {
        outbox.push(happening(""));
    }
    let sequences = |after, limit| -> Vec<u64> {
        outbox.latest(after, limit).iter().map(|event| event["sequence"].as_u64().unwrap()).collect()
    };
    assert_eq!(sequences(0, 10), [5, 4, 3, 2, 1]);
    assert_eq!(sequences(3, 10), [5, 4]);
    assert_eq!(sequences(0, 2), [5, 4]);
    assert_eq!((sequences(5, 10), sequences(u64::MAX, 10), sequences(0, 0)), (vec![], vec![], vec![]));
}

#[test]
fn an_event_too_heavy_for_the_bound_is_kept_alone() {
    let mut outbox = outbox(10, 10_000);
    outbox.push(happening("small"));
    outbox.push(happening(&"x".repeat(20_000)));
    assert_eq!(outbox.count(), 1);
    outbox.push(happening("small"));
    assert_eq!(outbox.latest(0, 10)[0]["sequence"], 3);
    assert_eq!(outbox.count(), 1);
}

#[test]
fn an_event_that_made_room_at_the_webhook_is_listed_as_failed() {
    let mut outbox = outbox(20_000, usize::MAX);
    for _ in 0..=10_000 {
        outbox.push(happening(""));
    }
    let first = outbox.latest(0, usize::MAX).pop().unwrap();
    assert_eq!(first["sequence"], 1);
    assert_eq!(first["deliveries"][0]["status"], "failed");
    assert_eq!(first["deliveries"][0]["last"], "dropped: too many events wait for this webhook");
}

proptest! {
    #[test]
    fn bounds_hold_and_the_newest_are_kept(
        sizes in prop::collection::vec(0_usize..3000, 1..60), count in 0_usize..20, bytes in 0_usize..20_000,
    ) {
        let mut outbox = outbox(count, bytes);
        for (pushed, size) in (1_u64..).zip(&sizes) {
            outbox.push(happening(&"x".repeat(*size)));
            prop_assert!(outbox.count() == 1 || (outbox.count() <= count && outbox.weight <= bytes));
            let kept: usize = outbox.kept.iter().map(|record| record.weight).sum();
            prop_assert_eq!(kept, outbox.weight);
            let sequences: Vec<u64> = outbox.kept.iter().map(|record| record.happening.sequence).collect();
            let first = pushed + 1 - outbox.count() as u64;
            prop_assert_eq!(sequences, (first..=pushed).collect::<Vec<_>>());
            prop_assert_eq!(outbox.hooks[0].listing()["waiting"].as_u64(), Some(outbox.count() as u64));
        }
        outbox.clear();
        prop_assert_eq!((outbox.count(), outbox.weight), (0, 0));
    }
}
