//! What a webhook does next, without any network.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);

fn hook(properties: Value) -> Hook {
    let mut webhook = properties;
    webhook["url"] = "http://127.0.0.1:1/".into();
    let webhook: Webhook = serde_json::from_value(webhook).unwrap();
    let mut hook = Hook::new(1, "n".to_owned(), webhook, Random::new(Some(7)));
    assert!(matches!(hook.step(START, false), Step::Ask { .. }));
    hook.answered(Consent::Given, "200".to_owned(), START);
    hook
}

fn happening(sequence: u64, at: Timestamp) -> Arc<Happening> {
    let (id, subject) = (sequence.to_string(), String::new());
    Arc::new(Happening { sequence, id, kind: "SMSReceived", subject, at, data: Value::Null })
}

/// The event it wants to post now.
fn post(hook: &mut Hook, now: Timestamp) -> Option<u64> {
    match hook.step(now, true) {
        Step::Post { happening, .. } => Some(happening.sequence),
        _ => None,
    }
}

#[test]
fn before_it_agreed_it_asks_and_then_waits_its_time() {
    let mut hook = hook(json!({}));
    hook.handshake = Handshake::new();
    hook.push(&happening(1, START));
    let Step::Ask { code } = hook.step(START, false) else { panic!("it does not ask") };
    assert_eq!(code.len(), 36);
    hook.answered(Consent::Refused, "500".to_owned(), START);
    assert!(matches!(hook.step(START, true), Step::Rest(Some(rest)) if rest == Duration::from_secs(1)));
    assert!(matches!(hook.step(START.plus(Duration::from_secs(1)), true), Step::Ask { .. }));
}

#[test]
fn a_404_is_not_tried_again_for_five_minutes() {
    let mut hook = hook(json!({}));
    hook.push(&happening(1, START));
    assert_eq!(post(&mut hook, START), Some(1));
    hook.attempted(1, Outcome::Status(404), START);
    let due = START.plus(Duration::from_mins(5));
    assert_eq!(post(&mut hook, due.minus(Duration::from_millis(1))), None);
    assert_eq!(post(&mut hook, due), Some(1));
}

#[test]
fn an_event_that_waits_for_its_retry_does_not_hold_up_the_next() {
    let mut hook = hook(json!({}));
    hook.push(&happening(1, START));
    assert_eq!(post(&mut hook, START), Some(1));
    hook.attempted(1, Outcome::TimedOut, START);
    let later = START.plus(Duration::from_secs(1));
    hook.push(&happening(2, later));
    assert_eq!(post(&mut hook, later), Some(2));
    hook.attempted(2, Outcome::Status(200), later);
    assert!(matches!(hook.step(later, true), Step::Rest(Some(rest)) if rest == Duration::from_secs(9)));
    assert_eq!(
        post(&mut hook, later.plus(Duration::from_hours(25))),
        Some(1),
        "a jump makes it due, once more"
    );
    let ended = hook.attempted(1, Outcome::TimedOut, later.plus(Duration::from_hours(25))).unwrap();
    assert_eq!(ended.verdict, Verdict::GivenUp);
    assert!(matches!(hook.step(later, true), Step::Rest(None)));
}

#[test]
fn after_thirty_failures_it_is_given_up() {
    let mut hook = hook(json!({}));
    hook.push(&happening(1, START));
    let (mut now, mut attempts) = (START, 0);
    loop {
        assert_eq!(post(&mut hook, now), Some(1));
        attempts += 1;
        match hook.attempted(1, Outcome::Status(500), now).unwrap().verdict {
            Verdict::Again(due) => now = due,
            verdict => break assert_eq!(verdict, Verdict::GivenUp),
        }
    }
    assert_eq!(attempts, 30);
    assert_eq!((hook.listing()["failed"].clone(), hook.listing()["waiting"].clone()), (json!(1), json!(0)));
}

#[test]
fn a_copy_that_fails_takes_the_delivery_not_back() {
    let mut hook = hook(json!({ "duplicate": 1 }));
    hook.push(&happening(1, START));
    assert_eq!(post(&mut hook, START), Some(1));
    assert_eq!(hook.attempted(1, Outcome::Status(200), START).unwrap().verdict, Verdict::Delivered);
    assert_eq!(post(&mut hook, START), Some(1), "the copy");
    assert_eq!(hook.attempted(1, Outcome::Status(400), START).unwrap().verdict, Verdict::Delivered);
    assert_eq!(post(&mut hook, START), None);
    assert_eq!((hook.listing()["delivered"].clone(), hook.listing()["failed"].clone()), (json!(1), json!(0)));
}

#[test]
fn of_too_many_waiting_events_the_oldest_goes() {
    let mut hook = hook(json!({}));
    for sequence in 1..=MAX_WAITING as u64 {
        assert_eq!(hook.push(&happening(sequence, START)), None);
    }
    assert_eq!(hook.push(&happening(MAX_WAITING as u64 + 1, START)), Some(1));
    assert_eq!((hook.waiting.len(), hook.due.len(), hook.dropped), (MAX_WAITING, MAX_WAITING, 1));
    assert_eq!(post(&mut hook, START), Some(2));
}

#[test]
fn an_attempt_at_an_event_that_was_forgotten_meanwhile_counts_for_nothing() {
    let mut hook = hook(json!({}));
    hook.push(&happening(1, START));
    assert_eq!(post(&mut hook, START), Some(1));
    hook.clear();
    assert!(hook.attempted(1, Outcome::Status(200), START).is_none());
    assert_eq!(hook.listing()["delivered"], 0);
}

#[test]
fn out_of_order_waits_for_company_only_once() {
    let mut hook = hook(json!({ "reorder": true }));
    hook.push(&happening(1, START));
    assert!(matches!(hook.step(START, false), Step::Hold));
    hook.push(&happening(2, START));
    assert_eq!((post(&mut hook, START), post(&mut hook, START)), (Some(2), Some(1)));
}

proptest! {
    /// Whatever the webhook answers, no event is lost: each is delivered, given up, or still waits. And the two orders
    /// in which a webhook keeps what waits agree.
    #[test]
    fn every_event_ends_or_waits(
        events in 1_u64..40,
        answers in prop::collection::vec(prop::sample::select(vec![200_u16, 200, 204, 500, 404, 400]), 1..200),
        duplicate in 0_u32..3,
        reorder in any::<bool>(),
        step in 1_u64..100,
    ) {
        let mut hook = hook(json!({ "duplicate": duplicate, "reorder": reorder }));
        let mut now = START;
        for sequence in 1..=events {
            hook.push(&happening(sequence, now));
        }
        let mut taken = BTreeMap::new();
        for status in answers {
            let Some(sequence) = post(&mut hook, now) else {
                now = now.plus(Duration::from_secs(step));
                continue;
            };
            hook.attempted(sequence, Outcome::Status(status), now);
            if status < 300 {
                *taken.entry(sequence).or_insert(0) += 1;
            }
            prop_assert_eq!(hook.waiting.len(), hook.due.len());
            let ended = hook.delivered + hook.failed;
            // A copy of a delivered event may still wait.
            prop_assert!(ended + hook.waiting.len() as u64 >= events);
        }
        prop_assert!(taken.values().all(|times| *times <= duplicate + 1));
        prop_assert_eq!(taken.len() as u64, hook.delivered);
    }
}
