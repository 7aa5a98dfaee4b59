//! What a request may say, and that no body makes reading fail.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NEW: Version = Version::CHAT_2025;
const OLD: Version = Version::CHAT_2024;
const USER: &str = "8:acs:ac80d96a-85de-48b1-995d-a3a3fa3627c8_0000001a-9f42-71b4-88f7-08482200b429";

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}

fn status<T>(result: Result<T, Refusal>) -> u16 {
    result.err().map_or(200, |refusal| refusal.status)
}

fn user() -> Value {
    json!({ "communicationIdentifier": { "communicationUser": { "id": USER } } })
}

#[test]
fn a_create_request_is_read_with_all_its_parts() {
    let body = bytes(&json!({
        "topic": "Lunch",
        "participants": [{
            "communicationIdentifier": { "rawId": USER, "communicationUser": { "id": USER } },
            "displayName": "Bob",
            "shareHistoryTime": "2024-05-06T07:08:09.5Z",
            "metadata": { "a": "1" },
        }],
        "metadata": { "b": "2" },
        "retentionPolicy": { "kind": "threadCreationDate", "deleteThreadAfterDays": 30 },
        "unknown": true,
    }));
    let request = create_thread(&body, NEW).unwrap();
    assert_eq!(request.topic, "Lunch");
    assert_eq!(request.metadata, Metadata::from([("b".into(), "2".into())]));
    assert_eq!(request.retention, Some(Retention::Days(30)));
    let wanted = NewParticipant {
        id: USER.into(),
        display_name: Some("Bob".into()),
        share_history: Timestamp::from_millis(1_714_979_289_500),
        metadata: Metadata::from([("a".into(), "1".into())]),
    };
    assert_eq!(request.participants, [wanted]);

    let request = create_thread(&body, OLD).unwrap();
    assert_eq!((request.metadata.len(), request.retention), (0, None), "unknown to the older version");
    assert_eq!(request.participants[0].metadata.len(), 0);
}

#[test]
fn null_means_absent() {
    let body = json!({ "topic": "x", "participants": null, "metadata": null, "retentionPolicy": null });
    assert!(create_thread(&bytes(&body), NEW).unwrap().participants.is_empty());
    let body = json!({ "content": "x", "senderDisplayName": null, "type": null, "metadata": null });
    let request = send_message(&bytes(&body)).unwrap();
    assert_eq!((request.sender_name.as_str(), request.is_html), ("", false));
    let body = json!({ "topic": null, "metadata": { "a": null, "b": "2" } });
    let request = update_thread(&bytes(&body), NEW).unwrap();
    assert_eq!(request.topic, None);
    assert_eq!(request.metadata, [("a".into(), None), ("b".into(), Some("2".into()))]);
    assert!(update_thread(&bytes(&body), OLD).unwrap().metadata.is_empty());
}

#[test]
fn a_create_request_that_breaks_a_rule_is_refused() {
    let many = |count: usize| Value::from(vec![user(); count]);
    for (body, wanted) in [
        (json!({ "topic": "x", "participants": many(200) }), 200),
        (json!({ "topic": "x", "participants": many(201) }), 400),
        (json!({ "topic": "x".repeat(250) }), 200),
        (json!({ "topic": "é".repeat(250) }), 200),
        (json!({ "topic": "x".repeat(251) }), 400),
        (json!({ "topic": "" }), 400),
        (json!({ "topic": null }), 400),
        (json!({ "topic": 7 }), 400),
        (json!({}), 400),
        (json!([]), 400),
        (json!({ "topic": "x", "participants": {} }), 400),
        (json!({ "topic": "x", "participants": ["8:acs:a_b"] }), 400),
        (json!({ "topic": "x", "participants": [{ "displayName": "Bob" }] }), 400),
        (json!({ "topic": "x", "metadata": [] }), 400),
        (json!({ "topic": "x", "metadata": { "a": 1 } }), 400),
        (json!({ "topic": "x", "metadata": { "a": null } }), 400),
        (json!({ "topic": "x", "metadata": { "a": "x".repeat(1023) } }), 200),
        (json!({ "topic": "x", "metadata": { "a": "x".repeat(1024) } }), 400),
        (json!({ "topic": "x", "retentionPolicy": { "kind": "none" } }), 200),
        (json!({ "topic": "x", "retentionPolicy": { "kind": "forever" } }), 400),
        (json!({ "topic": "x", "retentionPolicy": "none" }), 400),
    ] {
        assert_eq!(status(create_thread(&bytes(&body), NEW)), wanted, "{body:.200}");
    }
    for (days, wanted) in [
        (json!(29), 400),
        (json!(30), 200),
        (json!(90), 200),
        (json!(91), 400),
        (json!("30"), 400),
        (json!(-1), 400),
    ] {
        let policy = json!({ "kind": "threadCreationDate", "deleteThreadAfterDays": days });
        let body = json!({ "topic": "x", "retentionPolicy": policy });
        assert_eq!(status(create_thread(&bytes(&body), NEW)), wanted, "{days}");
    }
    for (change, wanted) in [
        (json!({ "displayName": "x".repeat(256) }), 200),
        (json!({ "displayName": "x".repeat(257) }), 400),
        (json!({ "displayName": 7 }), 400),
        (json!({ "shareHistoryTime": "soon" }), 400),
        (json!({ "shareHistoryTime": 7 }), 400),
        (json!({ "metadata": { "a": true } }), 400),
    ] {
        let mut participant = user();
        participant.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let body = json!({ "participants": [participant] });
        assert_eq!(status(add_participants(&bytes(&body), NEW)), wanted, "{change:.100}");
    }
    assert_eq!(status(add_participants(b"{}", NEW)), 400);
    assert_eq!(status(add_participants(br#"{"participants":[]}"#, NEW)), 400);
}

#[test]
fn a_message_that_breaks_a_rule_is_refused() {
    for (body, wanted) in [
        (json!({ "content": "x".repeat(MAX_MESSAGE) }), 200),
        (json!({ "content": "x".repeat(MAX_MESSAGE + 1) }), 413),
        (json!({ "content": "é".repeat(MAX_MESSAGE / 2 + 1) }), 413),
        (json!({ "content": "" }), 400),
        (json!({ "content": null }), 400),
        (json!({ "content": { "message": "x" } }), 400),
        (json!({}), 400),
        (json!({ "content": "x", "type": "Text" }), 200),
        (json!({ "content": "x", "type": "html" }), 200),
        (json!({ "content": "x", "type": "topicUpdated" }), 400),
        (json!({ "content": "x", "type": "image" }), 400),
        (json!({ "content": "x", "senderDisplayName": "x".repeat(257) }), 400),
        (json!({ "content": "x", "metadata": { "a": 1 } }), 400),
        (json!({ "content": "x", "metadata": { "a": "x".repeat(1024) } }), 400),
    ] {
        assert_eq!(status(send_message(&bytes(&body))), wanted, "{body:.100}");
    }
    assert_eq!(status(update_message(b"{}")), 200);
    assert_eq!(status(update_message(br#"{"content":""}"#)), 400);
    assert_eq!(status(update_message(&bytes(&json!({ "content": "x".repeat(MAX_MESSAGE + 1) })))), 413);
}

#[test]
fn receipts_name_a_message_and_typing_needs_no_body() {
    assert_eq!(read_receipt(br#"{"chatMessageId":"1592435762364"}"#).ok(), Some(1_592_435_762_364));
    for (body, wanted) in [
        (r#"{"chatMessageId":"x"}"#, 404),
        (r#"{"chatMessageId":"+1"}"#, 404),
        (r#"{"chatMessageId":"01"}"#, 404),
        (r#"{"chatMessageId":""}"#, 400),
        (r#"{"chatMessageId":7}"#, 400),
        ("{}", 400),
        ("", 400),
    ] {
        assert_eq!(status(read_receipt(body.as_bytes())), wanted, "{body}");
    }
    for (body, wanted) in
        [("", 200), ("{}", 200), (r#"{"senderDisplayName":"Bob"}"#, 200), ("[]", 400), ("{", 400)]
    {
        assert_eq!(status(typing(body.as_bytes())), wanted, "{body}");
    }
}

proptest! {
    #[test]
    fn no_body_makes_reading_fail(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = create_thread(&body, NEW);
        let _ = update_thread(&body, NEW);
        let _ = add_participants(&body, NEW);
        let _ = remove_participant(&body);
        let _ = send_message(&body);
        let _ = update_message(&body);
        let _ = read_receipt(&body);
        let _ = typing(&body);
    }

    #[test]
    fn what_is_read_keeps_its_limits(topic in ".{0,300}", name in ".{0,5}", value in ".{0,1100}") {
        let body = bytes(&json!({ "topic": topic, "metadata": { name: value } }));
        if let Ok(request) = create_thread(&body, NEW) {
            prop_assert!((1..=MAX_TOPIC).contains(&request.topic.chars().count()));
            prop_assert!(request.metadata.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>() <= MAX_METADATA);
        }
    }
}
