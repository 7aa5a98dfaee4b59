//! What the reader makes of events as they are published, of their odd variants, and of nonsense.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);
const AT: &str = "2026-11-22T12:30:15.1234567Z";
const AT_MILLIS: u64 = 1_795_350_615_123;

fn grid(kind: &str, data: &Value) -> Value {
    json!([{
        "id": "event-1", "topic": "/subscriptions/s", "subject": "x", "data": data,
        "eventType": format!("Microsoft.Communication.{kind}"), "eventTime": AT,
        "dataVersion": "1.0", "metadataVersion": "1",
    }])
}

fn cloud(kind: &str, data: &Value) -> Value {
    json!({
        "id": "event-1", "source": "/subscriptions/s", "subject": "x", "data": data,
        "type": format!("Microsoft.Communication.{kind}"), "time": AT, "specversion": "1.0",
    })
}

fn events(body: &Value) -> Result<Vec<Option<Event>>, Malformed> {
    match read(body.to_string().as_bytes(), 1000, NOW)? {
        Post::Events(events) => Ok(events),
        Post::Validation(_) => panic!("this is no handshake"),
    }
}

/// The one event, which must come out the same in either schema.
fn one(kind: &str, data: &Value) -> Event {
    let [grid, cloud] = [grid(kind, data), cloud(kind, data)].map(|body| {
        let mut events = events(&body).unwrap_or_else(|malformed| panic!("{malformed:?}"));
        assert_eq!(events.len(), 1);
        events.remove(0).unwrap_or_else(|| panic!("{kind} is not known"))
    });
    assert!(grid == cloud, "the schemas differ for {kind}");
    grid
}

#[test]
fn a_delivery_report_of_an_sms_is_read_in_every_casing_seen() {
    for data in [
        json!({"MessageId": "Outgoing_1", "From": "18005550100", "To": "+14255550123",
               "DeliveryStatus": "Delivered", "DeliveryStatusDetails": "No error.",
               "ReceivedTimestamp": AT, "DeliveryAttempts": [{"Timestamp": AT, "SegmentsSucceeded": 1}]}),
        json!({"messageId": "Outgoing_1", "from": "18005550100", "to": "14255550123", "Tag": "",
               "deliveryStatus": "delivered", "deliveryStatusDetails": "No error."}),
    ] {
        let event = one("SMSDeliveryReportReceived", &data);
        assert_eq!((event.id.as_str(), event.at), ("event-1", Timestamp::from_millis(AT_MILLIS)));
        assert!(event.message.is_none());
        let Happened::SmsDelivery { upstream_id, to, from, state, detail, tag } = event.happened else {
            panic!("another kind")
        };
        assert_eq!(
            [upstream_id.as_str(), &to, &from, &tag],
            ["Outgoing_1", "+14255550123", "+18005550100", ""]
        );
        assert_eq!(state, State::Delivered);
        assert!(detail.code.eq_ignore_ascii_case("delivered") && detail.detail == "No error.");
    }
}

#[test]
fn states_of_sms_and_mail_are_mapped_and_unknown_ones_change_nothing() {
    for (status, expected) in
        [("Delivered", State::Delivered), ("FAILED", State::Failed), ("Pondered", NO_CHANGE), ("", NO_CHANGE)]
    {
        let data = json!({"messageId": "m", "from": "50505", "to": "+14255550123", "deliveryStatus": status});
        let Happened::SmsDelivery { state, from, .. } = one("SMSDeliveryReportReceived", &data).happened
        else {
            panic!("another kind")
        };
        assert_eq!((state, from.as_str()), (expected, "50505"), "{status}: a short code gets no +");
    }
    for (status, expected) in [
        ("delivered", State::Delivered),
        ("Delivered", State::Delivered),
        ("Bounced", State::Failed),
        ("Failed", State::Failed),
        ("FilteredSpam", State::Failed),
        ("Quarantined", State::Failed),
        ("suppressed", State::Failed),
        ("Expanded", NO_CHANGE),
        ("OutForDelivery", NO_CHANGE),
    ] {
        let data = json!({"messageId": "950850F5-BCDF-4315-B77A-6447CF56FAC9", "sender": "a@b.example",
                          "recipient": "c@d.example", "status": status,
                          "deliveryStatusDetails": {"statusMessage": "mailbox of c@d.example is full"},
                          "deliveryAttemptTimeStamp": AT});
        let Happened::EmailDelivery { upstream_id, address, state, detail } =
            one("EmailDeliveryReportReceived", &data).happened
        else {
            panic!("another kind")
        };
        assert_eq!(state, expected, "{status}");
        assert_eq!(upstream_id, "950850f5-bcdf-4315-b77a-6447cf56fac9", "as the broker writes it");
        assert_eq!((address.as_str(), detail.code.as_str()), ("c@d.example", status));
        assert_eq!(detail.detail, "mailbox of … is full");
    }
    for from in [State::Accepted, State::Unknown, State::Sent, State::Failed, State::Delivered] {
        assert!(from == NO_CHANGE || !from.may_become(NO_CHANGE), "nothing can be brought to {from:?}");
    }
}

#[test]
fn received_sms_and_engagement_are_read() {
    let data =
        json!({"MessageId": "Incoming_1", "From": "14255550123", "To": "+18005550100", "Message": "STOP\n"});
    let Happened::SmsReceived { upstream_id, from, to, text } = one("SMSReceived", &data).happened else {
        panic!("another kind")
    };
    assert_eq!(
        [upstream_id.as_str(), &from, &to, &text],
        ["Incoming_1", "+14255550123", "+18005550100", "STOP\n"]
    );
    // The published example has no recipient.
    let data = json!({"sender": "a@b.example", "messageId": "m", "engagementType": "Click",
                      "engagementContext": "www.example.com", "userAgent": "Desktop"});
    let Happened::EmailEngagement { upstream_id, address, engagement, link } =
        one("EmailEngagementTrackingReportReceived", &data).happened
    else {
        panic!("another kind")
    };
    assert_eq!([upstream_id.as_str(), &address, &engagement, &link], ["m", "", "click", "www.example.com"]);
}

#[test]
fn every_event_of_chat_is_read_with_who_did_it_and_whom_it_concerns() {
    let user = |id: &str| json!({"rawId": id, "communicationUser": {"id": id}});
    let data = json!({
        "threadId": "19:t@thread.v2", "messageId": "1", "messageBody": "Hello", "version": 7,
        "senderCommunicationIdentifier": user("8:acs:a"), "recipientCommunicationIdentifier": user("8:acs:b"),
        "properties": {"topic": "Lunch"},
    });
    for name in CHAT {
        let event = one(name, &data);
        let Happened::Chat { name: read, thread, message, actor, subject, text, topic } = event.happened
        else {
            panic!("another kind")
        };
        assert_eq!(read, *name);
        assert_eq!([thread.as_str(), &message, &text, &topic], ["19:t@thread.v2", "1", "Hello", "Lunch"]);
        assert_eq!([actor.as_str(), &subject], ["8:acs:a", "8:acs:b"]);
    }
    for who in ["createdBy", "deletedBy", "editedBy", "addedBy", "removedBy"] {
        let data = json!({"threadId": "t", (format!("{who}CommunicationIdentifier")): user("8:acs:c")});
        let Happened::Chat { actor, subject, .. } = one("ChatThreadDeleted", &data).happened else {
            panic!("another kind")
        };
        assert_eq!([actor.as_str(), &subject], ["8:acs:c", ""], "{who}");
    }
    let data = json!({"threadId": "t", "participantAdded": {"participantCommunicationIdentifier": user("8:acs:d")},
                      "recipientCommunicationIdentifier": user("8:acs:e")});
    let Happened::Chat { subject, .. } = one("ChatParticipantAddedToThreadWithUser", &data).happened else {
        panic!("another kind")
    };
    assert_eq!(subject, "8:acs:d", "who was added, not who is told");
}

#[test]
fn times_are_read_in_the_forms_in_use_and_others_become_now() {
    let event = |time: Value| {
        let mut body = grid("SMSReceived", &json!({"messageId": "m"}));
        body[0]["eventTime"] = time;
        events(&body).unwrap().remove(0).unwrap().at.as_millis()
    };
    assert_eq!(event(json!("2026-11-22T12:30:15Z")), AT_MILLIS - 123);
    assert_eq!(event(json!("2026-11-22T14:30:15.123+02:00")), AT_MILLIS);
    for odd in [json!("yesterday"), json!(""), json!(7), Value::Null, json!("1969-12-31T23:59:59Z")] {
        assert_eq!(event(odd), NOW.as_millis());
    }
}

#[test]
fn the_question_of_event_grid_is_told_from_events() {
    let question = |data: Value| {
        let kind = "Microsoft.EventGrid.SubscriptionValidationEvent";
        json!([{"id": "1", "topic": "/t", "subject": "", "data": data, "eventType": kind, "eventTime": AT}])
    };
    let asked = question(json!({"validationCode": "512d38b6", "validationUrl": "https://rp.example/"}));
    let read_post = |body: &Value| read(body.to_string().as_bytes(), 10, NOW);
    assert!(matches!(read_post(&asked), Ok(Post::Validation(code)) if code == "512d38b6"));
    for broken in
        [json!({}), json!({"validationCode": ""}), json!({"validationCode": "x".repeat(2000)}), json!(1)]
    {
        assert!(matches!(read_post(&question(broken)), Err(Malformed::Event(1))));
    }
    // Among events it is one whose type is not known.
    let mut mixed = asked;
    mixed.as_array_mut().unwrap().push(grid("SMSReceived", &json!({"messageId": "m"}))[0].clone());
    assert!(
        matches!(read_post(&mixed), Ok(Post::Events(events)) if events[0].is_none() && events[1].is_some())
    );
}

#[test]
fn types_that_are_not_known_are_no_mistake() {
    for kind in ["CallStarted", "ChatSomethingNew", ""] {
        assert!(events(&grid(kind, &json!({}))).is_ok_and(|events| events[0].is_none()), "{kind}");
    }
    let other = json!({"id": "1", "type": "Microsoft.Storage.BlobCreated", "specversion": "1.0"});
    assert!(events(&other).is_ok_and(|events| events[0].is_none()));
    let short = json!({"id": "1", "type": "ä", "specversion": "1.0"});
    assert!(events(&short).is_ok_and(|events| events[0].is_none()));
}

#[test]
fn what_is_no_event_is_malformed_and_named_by_its_place() {
    let good = grid("SMSReceived", &json!({"messageId": "m"}))[0].clone();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut event = good.clone();
        change(&mut event);
        json!([good, event])
    };
    for (what, body) in [
        ("no id", with(&|event| event["id"] = Value::Null)),
        ("an empty id", with(&|event| event["id"] = json!(""))),
        ("a long id", with(&|event| event["id"] = json!("x".repeat(1025)))),
        ("an id of two lines", with(&|event| event["id"] = json!("a\nb"))),
        ("no type", with(&|event| event["eventType"] = Value::Null)),
        ("no data", with(&|event| event["data"] = Value::Null)),
        ("no message id", with(&|event| event["data"] = json!({"from": "+14255550123"}))),
        ("a long text", with(&|event| event["data"]["message"] = json!("x".repeat(65_537)))),
        ("no object", json!([good, 7])),
        ("a list", json!([good, []])),
    ] {
        assert_eq!(events(&body).err(), Some(Malformed::Event(2)), "{what}");
    }
    for text in ["", "7", "null", "\"x\"", "{", "[{}", "{}x", "\u{feff}7"] {
        assert!(matches!(read(text.as_bytes(), 10, NOW), Err(Malformed::Body)), "{text:?}");
    }
    assert!(matches!(read(b"\xff\xfe", 10, NOW), Err(Malformed::Body)));
    assert!(events(&json!([])).is_ok_and(|events| events.is_empty()));
    let many = Value::Array(vec![good; 11]).to_string();
    assert!(matches!(read(many.as_bytes(), 10, NOW), Err(Malformed::TooMany)));
    let marked = format!("\u{feff}{}", grid("SMSReceived", &json!({"messageId": "m"})));
    assert!(read(marked.as_bytes(), 10, NOW).is_ok(), "a byte order mark is forgiven");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,20}".prop_map(Value::from),
        Just(json!("Microsoft.Communication.SMSReceived")),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let name = prop_oneof![
            Just("id".to_owned()),
            Just("TYPE".to_owned()),
            Just("eventType".to_owned()),
            Just("data".to_owned()),
            Just("messageId".to_owned()),
            Just("to".to_owned()),
            Just("threadId".to_owned()),
            ".{0,8}",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name, inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body, 10, NOW);
    }

    #[test]
    fn no_json_makes_it_panic_and_what_is_read_is_bounded(body in any_json()) {
        if let Ok(Post::Events(events)) = read(body.to_string().as_bytes(), 10, NOW) {
            prop_assert!(events.len() <= 10);
            prop_assert!(events.iter().flatten().all(|event| (1..=MAX_SHORT).contains(&event.id.len())));
        }
    }

    #[test]
    fn no_data_of_a_known_type_makes_it_panic(data in any_json(), kind in 0..CHAT.len() + 4) {
        let kinds = ["SMSReceived", "SMSDeliveryReportReceived", "EmailDeliveryReportReceived",
                     "EmailEngagementTrackingReportReceived"];
        let kind = CHAT.get(kind).or_else(|| kinds.get(kind - CHAT.len())).unwrap();
        let _ = events(&grid(kind, &data));
    }
}
