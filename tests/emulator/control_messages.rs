//! The inbox over the control API: the list, one message, assertions.

use serde_json::json;

use super::harness::{Call, Running, start};
use crate::emulator_control::{Control, Missed};

pub(crate) const SENDER: &str = "+18005550100";
pub(crate) const ALICE: &str = "+14255550123";
pub(crate) const BOB: &str = "+14255550124";

/// Sends an SMS through the SMS API, signed.
pub(crate) async fn send_sms(running: &Running, to: &str, text: &str) -> String {
    let id = format!(
        "00000000-0000-4000-8000-{:012x}",
        running.handle.calls(acs_broker::emulator::Operation::SendSms) + 1
    );
    let first = running.clock_date();
    let body = json!({
        "from": SENDER,
        "smsRecipients": [{ "to": to, "repeatabilityRequestId": id, "repeatabilityFirstSent": first }],
        "message": text,
        "smsSendOptions": { "enableDeliveryReport": true, "tag": "greeting" },
    });
    let call = Call::new("POST", "/sms?api-version=2021-03-07").body(body.to_string());
    let reply = running.send(call).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.json()["value"][0]["messageId"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_was_sent_is_listed_newest_first_and_found_by_its_id() {
    let running = start().await;
    let control = Control::at(running.base());
    let first = send_sms(&running, ALICE, "Hello Alice").await;
    let second = send_sms(&running, BOB, "Hello Bob").await;
    let third = control.receive_sms(ALICE, SENDER, "Thank you").await;

    let all = control.messages(&[]).await;
    let ids: Vec<&str> = all.messages.iter().map(|message| message.id.as_str()).collect();
    assert_eq!(ids, [&third, &second, &first]);
    assert!(!all.more);
    assert!(all.messages.is_sorted_by(|newer, older| newer.sequence > older.sequence));
    let newest = &all.messages[0];
    assert_eq!((newest.kind.as_str(), newest.direction.as_str()), ("sms", "inbound"));
    assert_eq!((newest.from.as_str(), newest.text.as_str()), (ALICE, "Thank you"));
    assert_eq!(newest.to, [SENDER]);

    let found = control.message(&first).await.unwrap();
    assert_eq!(found.message, all.messages[2]);
    assert_eq!(found.message.tag.as_deref(), Some("greeting"));
    assert_eq!(found.detail["delivery_report"], true);
    assert!(control.message("Outgoing_nothing").await.is_none());

    let status = control.status().await;
    assert_eq!(status["counts"]["sms"], 3);
    assert_eq!(status["counts"]["calls"], 2);
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
}

#[tokio::test]
async fn a_list_holds_what_fits_and_says_whether_there_is_more() {
    let running = start().await;
    let control = Control::at(running.base());
    for number in 0..5 {
        send_sms(&running, ALICE, &format!("Code {number}")).await;
    }
    control.receive_sms(BOB, SENDER, "code please").await;
    let count = async |wanted: &[(&str, &str)]| control.messages(wanted).await.messages.len();
    assert_eq!(count(&[("to", ALICE)]).await, 5);
    assert_eq!(count(&[("to", ALICE), ("direction", "inbound")]).await, 0);
    assert_eq!(count(&[("contains", "CODE")]).await, 6);
    assert_eq!(count(&[("from", BOB)]).await, 1);
    assert_eq!(count(&[("kind", "email")]).await, 0);
    assert_eq!(count(&[("tag", "greeting"), ("kind", "sms")]).await, 5);
    assert_eq!(count(&[("kind", ""), ("to", "")]).await, 6, "what is empty is not asked for");
    let page = control.messages(&[("limit", "2")]).await;
    assert!(page.more && page.messages.len() == 2);
    let after = page.messages[1].sequence.to_string();
    assert_eq!(control.messages(&[("after", &after)]).await.messages, page.messages[..1]);
    let all = control.messages(&[("limit", "6")]).await;
    assert!(!all.more && all.messages.len() == 6);
}

#[tokio::test]
async fn an_assertion_holds_or_says_how_many_there_are() {
    let running = start().await;
    let control = Control::at(running.base());
    send_sms(&running, ALICE, "one").await;
    send_sms(&running, ALICE, "two").await;
    let to_alice = json!({ "to": ALICE });
    assert_eq!(control.assert(to_alice.clone(), "exactly", 2).await, Ok(2));
    assert_eq!(control.assert(to_alice.clone(), "exactly", 1).await, Err(Missed { count: 2 }));
    assert_eq!(control.assert(to_alice.clone(), "at_least", 2).await, Ok(2));
    assert_eq!(control.assert(to_alice.clone(), "at_least", 3).await, Err(Missed { count: 2 }));
    assert_eq!(control.assert(to_alice.clone(), "at_most", 2).await, Ok(2));
    assert_eq!(control.assert(to_alice.clone(), "at_most", 1).await, Err(Missed { count: 2 }));
    assert_eq!(control.assert(json!({ "to": BOB }), "exactly", 0).await, Ok(0));
    let range = json!({ "match": to_alice, "at_least": 1, "at_most": 2 });
    assert_eq!(control.post("messages/assert", &range).await.status, 200);
    assert_eq!(control.post("messages/assert", &json!({ "exactly": 2 })).await.status, 200, "all of them");
}

#[tokio::test]
async fn a_reset_empties_the_inbox_and_leaves_keys_and_time() {
    let running = start().await;
    let control = Control::at(running.base());
    let id = running.create().await;
    send_sms(&running, ALICE, "one").await;
    control.fault(json!({ "operation": "any", "effect": "drop" })).await;
    control.advance("1h").await;
    control.reset().await;
    assert!(control.messages(&[]).await.messages.is_empty());
    assert!(control.faults().await.is_empty());
    assert!(control.call_log_text().await.is_empty());
    assert_eq!(control.calls().await.values().sum::<u64>(), 0);
    let counts = &control.status().await["counts"];
    assert!(counts.as_object().unwrap().values().all(|count| *count == 0), "{counts}");
    assert_eq!(control.clock().await.ahead_ms, 3_600_000);
    assert_ne!(running.create().await, id);
}
