//! Waiting for messages: at once when they come, never longer than asked, and nothing slips through.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;

use super::control_messages::{ALICE, BOB, SENDER, send_sms};
use super::harness::start;
use crate::emulator_control::{Control, Missed};

const LONG: Duration = Duration::from_secs(30);

/// Returns once this many waits are open.
async fn until_waiting(control: &Control, count: u64) {
    let deadline = Instant::now() + LONG;
    while control.status().await["watching"]["waits"] != count {
        assert!(Instant::now() < deadline, "there are never {count} waits");
    }
}

#[tokio::test]
async fn a_wait_is_answered_by_what_is_there_already() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "one").await;
    send_sms(&running, ALICE, "two").await;
    let waited = control.wait(json!({ "to": ALICE }), 2, LONG).await.unwrap();
    let texts: Vec<&str> = waited.iter().map(|message| message.text.as_str()).collect();
    assert_eq!(texts, ["two", "one"], "newest first");
}

#[tokio::test]
async fn a_wait_is_answered_by_what_comes() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "before").await;
    let (waited, ()) = tokio::join!(control.wait(json!({ "contains": "code" }), 2, LONG), async {
        until_waiting(&control, 1).await;
        send_sms(&running, BOB, "nothing").await;
        send_sms(&running, ALICE, "code 1").await;
        until_waiting(&control, 1).await;
        control.receive_sms(BOB, SENDER, "which code?").await;
    });
    let texts: Vec<String> = waited.unwrap().into_iter().map(|message| message.text).collect();
    assert_eq!(texts, ["which code?", "code 1"]);
}

#[tokio::test]
async fn a_wait_that_is_in_vain_says_how_many_matched() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "one").await;
    let began = Instant::now();
    let missed = control.wait(json!({ "to": ALICE }), 2, Duration::from_millis(150)).await;
    assert_eq!(missed, Err(Missed { count: 1 }));
    assert!(began.elapsed() >= Duration::from_millis(150));
    assert_eq!(control.wait(json!({ "to": BOB }), 1, Duration::ZERO).await, Err(Missed { count: 0 }));
}

#[tokio::test]
async fn a_wait_sees_a_message_become_delivered_when_the_clock_jumps() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "one").await;
    let delivered = json!({ "to": ALICE, "status": "delivered" });
    assert_eq!(control.assert(delivered.clone(), "exactly", 0).await, Ok(0), "its clock stands still");
    let (waited, ()) = tokio::join!(control.wait(delivered, 1, LONG), async {
        until_waiting(&control, 1).await;
        control.advance("10s").await;
    });
    let waited = waited.unwrap();
    assert_eq!(waited[0].status, "Delivered");
    let detailed = control.message(&waited[0].id).await.unwrap();
    assert!(detailed.detail["delivery"]["at"].is_string(), "{}", detailed.detail);
}

#[tokio::test]
async fn what_a_reset_took_is_not_counted() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "one").await;
    let (waited, ()) =
        tokio::join!(control.wait(json!({ "to": ALICE }), 2, Duration::from_millis(400)), async {
            until_waiting(&control, 1).await;
            control.reset().await;
            send_sms(&running, ALICE, "two").await;
        });
    assert_eq!(waited, Err(Missed { count: 1 }));
}

/// However sends and waits interleave, every wait ends with its message: between subscribing and looking, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_message_slips_between_subscribing_and_looking() {
    let running = start().await;
    let control = Control::at(running.base());
    for round in 0..50 {
        let waits = (0..8).map(|number| {
            let wanted = json!({ "contains": format!("round {round} number {number}.") });
            let control = control.clone();
            async move { control.wait(wanted, 1, LONG).await }
        });
        let sends = (0..8).map(|number| {
            let (control, text) = (control.clone(), format!("round {round} number {number}."));
            async move { control.receive_sms(ALICE, SENDER, &text).await }
        });
        let (waited, sent) = tokio::join!(join_all(waits), join_all(sends));
        for (waited, id) in waited.into_iter().zip(sent) {
            assert_eq!(waited.unwrap()[0].id, id);
        }
    }
}

/// How long after the answer to the send the answer to the wait is there; both run over real connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_answered_within_50_ms_of_the_event() {
    let running = start().await;
    let control = Control::at(running.base());
    let mut late = Vec::new();
    for number in 0..200 {
        let wanted = json!({ "contains": format!("number {number}.") });
        let waiting = tokio::spawn({
            let control = control.clone();
            async move {
                let waited = control.wait(wanted, 1, LONG).await;
                (Instant::now(), waited)
            }
        });
        until_waiting(&control, 1).await;
        send_sms(&running, ALICE, &format!("number {number}.")).await;
        let sent = Instant::now();
        let (answered, waited) = waiting.await.unwrap();
        assert_eq!(waited.unwrap().len(), 1);
        late.push(answered.saturating_duration_since(sent));
    }
    late.sort_unstable();
    let (p50, p99) = (late[late.len() / 2], late[late.len() * 99 / 100]);
    eprintln!(
        "a wait is answered after the send: p50 {p50:?}, p99 {p99:?}, worst {:?}",
        late[late.len() - 1]
    );
    assert!(p99 < Duration::from_millis(50), "p99 {p99:?}");
}

#[tokio::test]
async fn waits_are_limited_in_number_and_free_their_place_when_the_caller_hangs_up() {
    let running = start().await;
    let control = Control::at(running.base());
    let waits: Vec<_> = (0..256)
        .map(|_| {
            let control = control.clone();
            tokio::spawn(async move { control.wait(json!({ "to": BOB }), 1, LONG).await })
        })
        .collect();
    until_waiting(&control, 256).await;
    let wait = json!({ "match": { "to": ALICE }, "timeout_ms": 0 });
    let answered = control.post("messages/wait", &wait).await;
    assert_eq!((answered.refused().0, answered.refused().1), (503, "TooManyWatchers"));
    for wait in waits {
        wait.abort();
    }
    until_waiting(&control, 0).await;
    assert_eq!(control.post("messages/wait", &wait).await.refused().0, 408);
}

#[tokio::test]
async fn a_wait_ends_with_the_emulator() {
    let running = start().await;
    let control = Control::at(running.base());
    let waiting = tokio::spawn({
        let control = control.clone();
        async move { control.request("POST", "messages/wait").body(r#"{"timeout_ms":600000}"#).send().await }
    });
    until_waiting(&control, 1).await;
    let began = Instant::now();
    running.handle.shutdown().await;
    assert!(waiting.await.unwrap().is_err());
    assert!(began.elapsed() < Duration::from_secs(4), "it did not wait for the wait");
}
