//! What SMS calls put on the wire and what they make of the answers, against scripted servers.

use std::time::Duration;

use serde_json::{Value, json};

use super::super::testing::{Play, Server, client, settings};
use super::*;

const NUMBERS: [&str; 2] = ["+14255550123", "+14255550124"];

fn recipients() -> Vec<SmsRecipient> {
    let recipient = |(index, to): (usize, &&str)| SmsRecipient {
        to: (*to).to_owned(),
        repeatability_id: uuid::Uuid::from_u128(index as u128 + 1),
        first_sent: Timestamp::from_millis(1_741_064_767_000),
    };
    NUMBERS.iter().enumerate().map(recipient).collect()
}

fn sms(to: &[SmsRecipient]) -> Sms<'_> {
    Sms { from: "+18005550100", to, text: "Grüße", delivery_report: true, tag: Some("custom-tag") }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn taken(to: &str, id: &str) -> Value {
    json!({ "to": to, "messageId": id, "httpStatusCode": 202, "repeatabilityResult": "accepted", "successful": true })
}

fn results(items: &[Value]) -> Play {
    Play::json(202, &json!({ "value": items }).to_string())
}

#[tokio::test]
async fn a_send_says_what_the_specification_wants_and_is_signed() {
    let server = Server::start([results(&[taken(NUMBERS[0], "a"), taken(NUMBERS[1], "b")])]).await;
    let to = recipients();
    let sent = client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap();
    assert_eq!(sent.iter().map(|result| result.outcome.clone().unwrap()).collect::<Vec<_>>(), ["a", "b"]);
    let received = server.received();
    received[0].assert_signed();
    assert_eq!(
        (received[0].method.as_str(), received[0].target.as_str()),
        ("POST", "/sms?api-version=2021-03-07")
    );
    assert_eq!(
        serde_json::from_str::<Value>(&received[0].body).unwrap(),
        json!({
            "from": "+18005550100",
            "smsRecipients": [
                {
                    "to": NUMBERS[0],
                    "repeatabilityRequestId": "00000000-0000-0000-0000-000000000001",
                    "repeatabilityFirstSent": "Tue, 04 Mar 2025 05:06:07 GMT"
                },
                {
                    "to": NUMBERS[1],
                    "repeatabilityRequestId": "00000000-0000-0000-0000-000000000002",
                    "repeatabilityFirstSent": "Tue, 04 Mar 2025 05:06:07 GMT"
                }
            ],
            "message": "Grüße",
            "smsSendOptions": { "enableDeliveryReport": true, "tag": "custom-tag" }
        })
    );
}

#[tokio::test]
async fn results_come_back_in_the_order_of_the_recipients() {
    let refused = json!({
        "to": NUMBERS[0], "httpStatusCode": 400, "successful": false,
        "errorMessage": format!("Invalid To phone number format {}.", NUMBERS[0])
    });
    let server = Server::start([results(&[taken(NUMBERS[1], "b"), refused])]).await;
    let to = recipients();
    let sent = client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap();
    let refusal = sent[0].outcome.clone().unwrap_err();
    assert_eq!(refusal.status, 400);
    assert!(!format!("{refusal:?}").contains("4255550123"), "{refusal:?}");
    assert_eq!(sent[1].outcome, Ok("b".to_owned()));
}

#[tokio::test]
async fn a_send_without_an_answer_is_repeated_under_the_same_ids() {
    let good = results(&[taken(NUMBERS[0], "a"), taken(NUMBERS[1], "b")]);
    let server = Server::start([Play::Reset, Play::json(500, ""), good]).await;
    let to = recipients();
    client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap();
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|request| request.body == received[0].body));
}

#[tokio::test]
async fn a_sender_that_is_not_owned_is_no_fault_of_the_key() {
    for (body, class, target) in [
        (r#"{"error":{"code":"Unauthorized","message":""}}"#, Class::Rejected, Some("from")),
        (
            r#"{"error":{"code":"Denied","message":"Denied by the resource provider."}}"#,
            Class::CredentialsRefused,
            None,
        ),
    ] {
        let server = Server::start([Play::json(401, body)]).await;
        let to = recipients();
        let error = client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap_err();
        assert_eq!((error.class(), error.target()), (class, target));
    }
}

#[tokio::test]
async fn an_answer_that_leaves_a_recipient_out_is_no_success() {
    for answer in [results(&[taken(NUMBERS[0], "a")]), Play::json(202, "{}"), Play::json(202, "not json")] {
        let server = Server::start([answer]).await;
        let to = recipients();
        let error = client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap_err();
        assert_eq!(error.class(), Class::PerhapsSent);
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("4255550123") && !shown.contains("Grüße"), "{shown}");
    }
}

#[tokio::test]
async fn a_taken_message_without_an_id_is_not_taken_for_sent() {
    let odd = json!({ "to": NUMBERS[0], "httpStatusCode": 202, "successful": true });
    let server = Server::start([results(&[odd, taken(NUMBERS[1], "b")])]).await;
    let to = recipients();
    let sent = client(&settings(), &server.endpoint()).sms().send(&sms(&to), soon()).await.unwrap();
    assert_eq!(sent[0].outcome.clone().unwrap_err().status, 202);
}

#[tokio::test]
async fn opt_outs_are_looked_at_and_changed_in_their_own_version() {
    let checked = json!({ "value": [
        { "to": NUMBERS[0], "httpStatusCode": 200, "isOptedOut": true },
        { "to": NUMBERS[1], "httpStatusCode": 400, "errorMessage": "Invalid recipient phone number format" }
    ] });
    let numbers = NUMBERS.map(str::to_owned);
    for (change, path) in
        [(OptOutChange::Check, "check"), (OptOutChange::Add, "add"), (OptOutChange::Remove, "remove")]
    {
        let server = Server::start([Play::json(200, &checked.to_string())]).await;
        let client = client(&settings(), &server.endpoint());
        let looked = client.sms().opt_outs(change, "50505", &numbers, soon()).await.unwrap();
        assert_eq!(looked[0].outcome, Ok(Some(true)));
        assert_eq!(looked[1].outcome.clone().unwrap_err().status, 400);
        let received = server.received();
        assert_eq!(received[0].target, format!("/sms/optouts:{path}?api-version=2026-01-23"));
        assert_eq!(
            serde_json::from_str::<Value>(&received[0].body).unwrap(),
            json!({ "from": "50505", "recipients": [{ "to": NUMBERS[0] }, { "to": NUMBERS[1] }] })
        );
    }
}
