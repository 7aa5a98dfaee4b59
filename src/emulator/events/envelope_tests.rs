//! The shapes of what is posted, byte for byte, and the published samples of what a webhook may answer.

use serde_json::json;

use super::*;
use proptest::prelude::*;

fn happening() -> Happening {
    Happening {
        sequence: 3,
        id: "e1".to_owned(),
        kind: "SMSReceived",
        subject: "/phonenumber/18005550100".to_owned(),
        at: Timestamp::from_millis(1_600_388_867_000),
        data: json!({ "from": "14255550123" }),
    }
}

fn text(request: &Request) -> &str {
    std::str::from_utf8(&request.body).unwrap()
}

#[test]
fn the_topic_is_the_path_of_a_resource() {
    assert_eq!(
        topic("s"),
        "/subscriptions/s/resourceGroups/acs-broker/providers/Microsoft.Communication/CommunicationServices/emulator"
    );
}

#[test]
fn an_event_grid_notification_is_an_array_of_one() {
    let request = notification(Schema::EventGrid, "/t", "WEBHOOK-1", &happening(), 2);
    assert_eq!(
        text(&request),
        r#"[{"id":"e1","topic":"/t","subject":"/phonenumber/18005550100","data":{"from":"14255550123"},"eventType":"Microsoft.Communication.SMSReceived","eventTime":"2020-09-18T00:27:47.0000000Z","dataVersion":"1.0","metadataVersion":"1"}]"#
    );
    let headers: Vec<(&str, &str)> =
        request.headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let expected = [
        ("content-type", "application/json; charset=utf-8"),
        ("aeg-event-type", "Notification"),
        ("aeg-subscription-name", "WEBHOOK-1"),
        ("aeg-delivery-count", "2"),
        ("aeg-data-version", "1.0"),
        ("aeg-metadata-version", "1"),
        ("aeg-output-event-id", "e1"),
    ];
    assert_eq!(headers, expected);
}

#[test]
fn a_cloud_event_is_one_object() {
    let request = notification(Schema::CloudEvents, "/t", "WEBHOOK-1", &happening(), 0);
    assert_eq!(
        text(&request),
        r#"{"id":"e1","source":"/t","subject":"/phonenumber/18005550100","type":"Microsoft.Communication.SMSReceived","time":"2020-09-18T00:27:47.0000000Z","data":{"from":"14255550123"},"specversion":"1.0"}"#
    );
    assert!(!request.headers.iter().any(|(name, _)| *name == "aeg-data-version"));
    assert!(request.headers.contains(&("aeg-metadata-version", "1.0".to_owned())));
}

#[test]
fn the_question_in_event_grids_schema_is_an_event() {
    let now = Timestamp::from_millis(1_600_388_867_000);
    let request = validation(Schema::EventGrid, "/t", "WEBHOOK-1", "c", "http://u/", now);
    assert_eq!(
        text(&request),
        r#"[{"id":"c","topic":"/t","subject":"","data":{"validationCode":"c","validationUrl":"http://u/"},"eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","eventTime":"2020-09-18T00:27:47.0000000Z","dataVersion":"1","metadataVersion":"1"}]"#
    );
    assert!(request.headers.contains(&("aeg-event-type", "SubscriptionValidation".to_owned())));
}

#[test]
fn the_question_of_cloud_events_is_in_headers() {
    let request = validation(Schema::CloudEvents, "/t", "n", "c", "http://u/", Timestamp::default());
    let headers = vec![
        ("webhook-request-origin", "eventgrid.azure.net".to_owned()),
        ("webhook-request-callback", "http://u/".to_owned()),
    ];
    assert_eq!(request, Request { method: "OPTIONS", headers, body: Vec::new() });
}

#[test]
fn event_grid_accepts_200_with_the_code_and_nothing_else() {
    let right = br#"{"validationResponse":"c"}"#;
    for (status, body, expected) in [
        (200, right.as_slice(), Consent::Given),
        (202, right, Consent::Refused),
        (204, right, Consent::Refused),
        (500, right, Consent::Refused),
        (200, br#"{"validationResponse":"d"}"#, Consent::Refused),
        (200, br#"{"validationResponse":7}"#, Consent::Refused),
        (200, b"", Consent::Open),
        (200, b"OK", Consent::Open),
        (200, b"{}", Consent::Open),
        (204, b"", Consent::Refused),
    ] {
        assert_eq!(consent(Schema::EventGrid, "c", status, Some("*"), body), expected, "{status} {body:?}");
    }
}

#[test]
fn cloud_events_accept_the_origin_or_a_star() {
    for (status, allowed, expected) in [
        (200, Some("*"), Consent::Given),
        (204, Some(" eventgrid.azure.net "), Consent::Given),
        (200, Some("evil.example"), Consent::Refused),
        (200, Some(""), Consent::Refused),
        (200, None, Consent::Open),
        (405, Some("*"), Consent::Refused),
        (302, None, Consent::Refused),
    ] {
        assert_eq!(consent(Schema::CloudEvents, "c", status, allowed, b""), expected, "{status} {allowed:?}");
    }
}

proptest! {
    #[test]
    fn no_answer_but_the_code_itself_is_consent(body in any::<Vec<u8>>(), status in any::<u16>(), code in "[a-z]{8}") {
        prop_assert_ne!(consent(Schema::EventGrid, &code, status, None, &body), Consent::Given);
        let answer = serde_json::to_vec(&json!({ "validationResponse": code })).unwrap();
        let expected = if status == 200 { Consent::Given } else { Consent::Refused };
        prop_assert_eq!(consent(Schema::EventGrid, &code, status, None, &answer), expected);
    }

    #[test]
    fn whatever_an_event_says_both_schemas_carry_it_unchanged(
        subject in ".*", text in ".*", number in any::<i64>(), millis in any::<u64>(),
    ) {
        let data = json!({ "text": text, "number": number });
        let at = Timestamp::from_millis(millis);
        let happening = Happening { subject: subject.clone(), at, data: data.clone(), ..happening() };
        for schema in [Schema::EventGrid, Schema::CloudEvents] {
            let request = notification(schema, "/t", "n", &happening, u32::MAX);
            let read: Value = serde_json::from_slice(&request.body).unwrap();
            let event = read.get(0).unwrap_or(&read);
            prop_assert_eq!(&event["data"], &data);
            prop_assert_eq!(&event["subject"], &subject);
        }
    }
}
