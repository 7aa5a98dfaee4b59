//! The bodies of the SMS API: what is read, what is refused, and in which shape.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn good() -> Value {
    json!({ "from": "+18005550100", "smsRecipients": [{ "to": "+14255550123" }], "message": "Hello" })
}

fn read(body: &Value, version: Version) -> Result<SendRequest, Value> {
    send_request(body.to_string().as_bytes(), version).map_err(|answer| {
        assert_eq!(answer.status, 400);
        assert_eq!(answer.content_type, Some("application/json"));
        assert!(!answer.names_versions, "refused before versions are reported");
        serde_json::from_slice(&answer.body).unwrap()
    })
}

#[test]
fn everything_a_request_can_say_is_read() {
    let body = json!({
        "from": "+18005550100",
        "smsRecipients": [
            { "to": "+14255550123", "repeatabilityRequestId": "id", "repeatabilityFirstSent": "date" },
            { "to": "+123", "repeatabilityRequestId": null, "unknown": 1 },
        ],
        "message": "",
        "smsSendOptions": {
            "enableDeliveryReport": true,
            "tag": "t",
            "deliveryReportTimeoutInSeconds": 60,
            "messagingConnect": { "partner": "p", "partnerParams": { "apiKey": "k" } },
        },
    });
    let expected = SendRequest {
        from: "+18005550100".into(),
        recipients: vec![
            Recipient {
                to: "+14255550123".into(),
                repeatability_id: Some("id".into()),
                first_sent: Some("date".into()),
            },
            Recipient { to: "+123".into(), repeatability_id: None, first_sent: None },
        ],
        message: String::new(),
        delivery_report: true,
        tag: Some("t".into()),
        report_timeout: Some(Duration::from_secs(60)),
        has_partner: true,
    };
    assert_eq!(read(&body, Version::SMS_2026), Ok(expected));
    let older = read(&body, Version::SMS_2021).unwrap();
    assert_eq!((older.report_timeout, older.has_partner), (None, false), "not known in 2021");
}

#[test]
fn each_version_refuses_in_its_own_shape() {
    let mut body = good();
    body["from"] = json!("+1425555012345");
    assert_eq!(read(&body, Version::SMS_2021), Err(json!({ "From": ["Invalid from phone number format."] })));
    let refusal = read(&body, Version::SMS_2026).unwrap_err();
    let trace = refusal["traceId"].as_str().unwrap();
    assert_eq!(trace.len(), 55, "{trace}");
    assert_eq!(
        refusal,
        json!({
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
            "title": "One or more validation errors occurred.",
            "status": 400,
            "errors": { "From": ["Invalid from phone number format."] },
            "traceId": trace,
        })
    );
}

#[test]
fn every_wrong_field_is_named() {
    let options = |options: Value| json!({ "smsSendOptions": options });
    let many = |count: usize| json!({ "smsRecipients": vec![json!({ "to": "+14255550123" }); count] });
    for (change, field) in [
        (json!({ "from": null }), "From"),
        (json!({ "from": 1 }), "From"),
        (json!({ "from": "" }), "From"),
        (json!({ "smsRecipients": null }), "SmsRecipients"),
        (json!({ "smsRecipients": {} }), "SmsRecipients"),
        (many(0), "SmsRecipients"),
        (many(101), "SmsRecipients"),
        (json!({ "smsRecipients": ["+14255550123"] }), "SmsRecipients"),
        (json!({ "smsRecipients": [{}] }), "SmsRecipients.To"),
        (json!({ "smsRecipients": [{ "to": 1 }] }), "SmsRecipients"),
        (json!({ "smsRecipients": [{ "to": "Ad155500000000000" }] }), "SmsRecipients"),
        (json!({ "smsRecipients": [{ "to": "+14255550123" }, { "to": "" }] }), "SmsRecipients"),
        (json!({ "smsRecipients": [{ "to": "+123", "repeatabilityRequestId": 1 }] }), "SmsRecipients"),
        (json!({ "message": null }), "Message"),
        (json!({ "message": 1 }), "Message"),
        (json!({ "message": "a".repeat(2049) }), "Message"),
        (json!({ "message": "😀".repeat(1025) }), "Message"),
        (options(json!(1)), "SmsSendOptions"),
        (options(json!({})), "SmsSendOptions.EnableDeliveryReport"),
        (options(json!({ "enableDeliveryReport": "true" })), "SmsSendOptions.EnableDeliveryReport"),
        (options(json!({ "enableDeliveryReport": true, "tag": 1 })), "SmsSendOptions.Tag"),
    ] {
        let mut body = good();
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        for version in [Version::SMS_2021, Version::SMS_2026] {
            let refusal = read(&body, version).unwrap_err();
            let fields = if version == Version::SMS_2021 { &refusal } else { &refusal["errors"] };
            let names: Vec<&String> = fields.as_object().unwrap().keys().collect();
            assert_eq!(names, [field], "{change} in {version:?}");
        }
    }
    for body in [good(), json!({ "message": "a".repeat(2048) }), many(100), many(1)] {
        let mut whole = good();
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        assert!(read(&whole, Version::SMS_2021).is_ok());
    }
}

#[test]
fn what_is_new_in_2026_is_checked_in_2026_alone() {
    for (options, field) in [
        (json!({ "deliveryReportTimeoutInSeconds": 59 }), "DeliveryReportTimeoutInSeconds"),
        (json!({ "deliveryReportTimeoutInSeconds": 43_201 }), "DeliveryReportTimeoutInSeconds"),
        (json!({ "deliveryReportTimeoutInSeconds": "60" }), "DeliveryReportTimeoutInSeconds"),
        (json!({ "deliveryReportTimeoutInSeconds": -60 }), "DeliveryReportTimeoutInSeconds"),
        (json!({ "messagingConnect": 1 }), "MessagingConnect"),
        (json!({ "messagingConnect": { "partnerParams": { "a": 1 } } }), "MessagingConnect.Partner"),
        (
            json!({ "messagingConnect": { "partner": "", "partnerParams": { "a": 1 } } }),
            "MessagingConnect.Partner",
        ),
        (json!({ "messagingConnect": { "partner": "p" } }), "MessagingConnect.PartnerParams"),
        (
            json!({ "messagingConnect": { "partner": "p", "partnerParams": {} } }),
            "MessagingConnect.PartnerParams",
        ),
        (
            json!({ "messagingConnect": { "partner": "p", "partnerParams": [] } }),
            "MessagingConnect.PartnerParams",
        ),
    ] {
        let mut body = good();
        body["smsSendOptions"] = options.clone();
        body["smsSendOptions"]["enableDeliveryReport"] = json!(false);
        assert!(read(&body, Version::SMS_2021).is_ok(), "{options}");
        let refusal = read(&body, Version::SMS_2026).unwrap_err();
        let names: Vec<&String> = refusal["errors"].as_object().unwrap().keys().collect();
        assert_eq!(names, [&format!("SmsSendOptions.{field}")], "{options}");
    }
}

#[test]
fn a_body_that_is_no_object_is_refused() {
    for (body, why) in [
        ("", "A non-empty request body is required."),
        ("[]", "The request body is not a valid JSON object."),
        ("{", "The request body is not a valid JSON object."),
    ] {
        let answer = send_request(body.as_bytes(), Version::SMS_2021).unwrap_err();
        let read: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(read, json!({ "": [why] }));
        assert!(opt_out_request(body.as_bytes(), Version::SMS_2026).is_err());
    }
}

proptest! {
    #[test]
    fn no_body_is_a_problem(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = send_request(&body, Version::SMS_2026);
        let _ = opt_out_request(&body, Version::SMS_2026);
    }

    #[test]
    fn what_is_accepted_is_what_was_written(
        numbers in prop::collection::vec("\\+[0-9]{1,16}|[0-9 -]{1,12}", 1..100),
        message in "\\PC{0,200}",
        report in any::<bool>(),
    ) {
        let recipients: Vec<Value> = numbers.iter().map(|to| json!({ "to": to })).collect();
        let body = json!({
            "from": "50505",
            "smsRecipients": recipients,
            "message": message,
            "smsSendOptions": { "enableDeliveryReport": report },
        });
        match send_request(body.to_string().as_bytes(), Version::SMS_2026) {
            Ok(request) => {
                let read: Vec<&str> = request.recipients.iter().map(|r| r.to.as_str()).collect();
                prop_assert_eq!(read, numbers);
                prop_assert_eq!(request.message, message);
                prop_assert_eq!(request.delivery_report, report);
            }
            Err(_) => prop_assert!(numbers.iter().any(|number| number.trim().is_empty())),
        }
    }
}
