//! The body of a mail: what is read, and the refusal of each field that is wrong.

use proptest::prelude::*;

use super::*;

fn good() -> Value {
    json!({
        "senderAddress": "info@contoso.com",
        "content": { "subject": "S", "plainText": "P" },
        "recipients": { "to": [{ "address": "a@example.com" }] },
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut body = good();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    body.pointer_mut(parent).unwrap()[name] = value;
    body
}

fn read(body: &Value, version: Version) -> Result<Mail, (u16, Value)> {
    mail(body.to_string().as_bytes(), version).map_err(|answer| {
        let read: Value = serde_json::from_slice(&answer.body).unwrap();
        let code = answer.headers.iter().find(|(name, _)| *name == "x-ms-error-code").unwrap();
        assert_eq!(read["error"]["code"], code.1, "the code is in a header too");
        assert!(read["error"]["details"].is_null() && read["error"]["innererror"].is_null());
        (answer.status, read["error"].clone())
    })
}

#[test]
fn everything_a_mail_can_say_is_read() {
    let body = json!({
        "headers": { "X-One": "1" },
        "senderAddress": "info@contoso.com",
        "content": { "subject": "S", "plainText": "P", "html": "<p>H</p>" },
        "recipients": {
            "to": [{ "address": "a@example.com", "displayName": "A" }],
            "cc": [{ "address": "b@example.com", "displayName": null }],
            "bcc": [{ "address": "c@example.com" }],
        },
        "attachments": [{ "name": "n.txt", "contentType": "text/plain", "contentInBase64": "aGk=", "contentId": "i" }],
        "replyTo": [{ "address": "r@example.com" }],
        "userEngagementTrackingDisabled": true,
        "unknown": {},
    });
    let plain = |address: &str| Address { address: address.into(), display_name: None };
    let attachment = Attachment {
        name: "n.txt".into(),
        content_type: "text/plain".into(),
        bytes: Bytes::from_static(b"hi"),
        content_id: Some("i".into()),
    };
    let expected = Mail {
        sender: "info@contoso.com".into(),
        subject: "S".into(),
        plain_text: Some("P".into()),
        html: Some("<p>H</p>".into()),
        to: vec![Address { address: "a@example.com".into(), display_name: Some("A".into()) }],
        cc: vec![plain("b@example.com")],
        bcc: vec![plain("c@example.com")],
        reply_to: vec![plain("r@example.com")],
        headers: json!({ "X-One": "1" }).as_object().unwrap().clone(),
        attachments: vec![attachment.clone()],
        is_tracking_disabled: true,
    };
    assert_eq!(read(&body, Version::EMAIL_2025), Ok(expected.clone()));
    // 2023 does not know how to refer to an attachment.
    let attachment = Attachment { content_id: None, ..attachment };
    assert_eq!(read(&body, Version::EMAIL_2023), Ok(Mail { attachments: vec![attachment], ..expected }));
}

#[test]
fn a_mail_needs_anybody_to_go_to_and_not_somebody_in_to() {
    let one = json!([{ "address": "a@example.com" }]);
    for recipients in
        [json!({ "to": [], "cc": one }), json!({ "to": null, "bcc": one }), json!({ "cc": one, "bcc": one })]
    {
        assert!(read(&with("/recipients", recipients.clone()), Version::EMAIL_2023).is_ok(), "{recipients}");
    }
    for recipients in [json!({}), json!({ "to": [] }), json!({ "to": [], "cc": [], "bcc": null })] {
        let (status, error) = read(&with("/recipients", recipients), Version::EMAIL_2023).unwrap_err();
        assert_eq!((status, &error["target"]), (400, &json!("recipients")));
    }
}

#[test]
fn fifty_recipients_are_the_most_in_all() {
    let some = |count: usize| json!(vec![json!({ "address": "a@example.com" }); count]);
    for (to, cc, bcc, fits) in [(50, 0, 0, true), (20, 20, 10, true), (20, 20, 11, false), (51, 0, 0, false)]
    {
        let recipients = json!({ "to": some(to), "cc": some(cc), "bcc": some(bcc) });
        assert_eq!(
            read(&with("/recipients", recipients), Version::EMAIL_2025).is_ok(),
            fits,
            "{to} {cc} {bcc}"
        );
    }
}

#[test]
fn each_wrong_field_has_its_refusal() {
    let address = |address: Value| json!([{ "address": "a@example.com" }, { "address": address }]);
    let file = |name: &str, value: Value| {
        let mut file = json!({ "name": "n", "contentType": "t/p", "contentInBase64": "aGk=" });
        file[name] = value;
        with("/attachments", json!([file]))
    };
    for (body, target) in [
        (with("/senderAddress", json!(null)), "senderAddress"),
        (with("/senderAddress", json!(1)), "senderAddress"),
        (with("/content", json!(null)), "content"),
        (with("/content", json!("x")), "content"),
        (with("/content/subject", json!(null)), "content.subject"),
        (with("/content/subject", json!("")), "content.subject"),
        (with("/content/subject", json!(1)), "content.subject"),
        (with("/content/subject", json!("a\r\nBcc: b@c.d")), "content.subject"),
        (with("/content/plainText", json!(null)), "content"),
        (with("/content/plainText", json!("")), "content"),
        (with("/content/html", json!(1)), "content.html"),
        (with("/recipients", json!(null)), "recipients"),
        (with("/recipients/to", json!({})), "recipients.to"),
        (with("/recipients/to", json!(["a@example.com"])), "recipients.to[0]"),
        (with("/recipients/cc", address(json!(null))), "recipients.cc[1].address"),
        (
            with("/recipients/to", json!([{ "address": "a@b.c", "displayName": "a\nb" }])),
            "recipients.to[0].displayName",
        ),
        (
            with("/recipients/to", json!([{ "address": "a@b.c", "displayName": 1 }])),
            "recipients.to[0].displayName",
        ),
        (with("/replyTo", json!(1)), "replyTo"),
        (with("/headers", json!([])), "headers"),
        (with("/headers", json!({ "a": 1 })), "headers"),
        (with("/headers", json!({ "a": "b\rc" })), "headers"),
        (with("/headers", json!({ "a b": "c" })), "headers"),
        (with("/headers", json!({ "a:": "c" })), "headers"),
        (with("/headers", json!({ "": "c" })), "headers"),
        (with("/attachments", json!({})), "attachments"),
        (with("/attachments", json!([1])), "attachments[0]"),
        (file("name", json!(null)), "attachments[0].name"),
        (file("name", json!("")), "attachments[0].name"),
        (file("name", json!("a\nb")), "attachments[0].name"),
        (file("contentType", json!(null)), "attachments[0].contentType"),
        (file("contentType", json!("a/b\r\nx: y")), "attachments[0].contentType"),
        (file("contentInBase64", json!(null)), "attachments[0].contentInBase64"),
        (file("contentInBase64", json!(1)), "attachments[0].contentInBase64"),
        (file("contentInBase64", json!("a")), "attachments[0].contentInBase64"),
        (file("contentInBase64", json!("aGk")), "attachments[0].contentInBase64"),
        (file("contentInBase64", json!("_-==")), "attachments[0].contentInBase64"),
        (file("contentId", json!(1)), "attachments[0].contentId"),
        (with("/userEngagementTrackingDisabled", json!("true")), "userEngagementTrackingDisabled"),
    ] {
        let (status, error) = read(&body, Version::EMAIL_2025).unwrap_err();
        assert_eq!(
            (status, &error["code"], &error["target"]),
            (400, &json!("BadRequest"), &json!(target)),
            "{body}"
        );
    }
    for (body, target) in [
        (with("/senderAddress", json!("info")), "senderAddress"),
        (with("/recipients/to", json!([{ "address": "a@" }])), "recipients.to[0].address"),
        (with("/recipients/bcc", address(json!("not an address"))), "recipients.bcc[1].address"),
        (with("/replyTo", address(json!("a@b"))), "replyTo[1].address"),
    ] {
        let (status, error) = read(&body, Version::EMAIL_2025).unwrap_err();
        let expected = json!({
            "code": "InvalidEmailAddress", "message": "Invalid format for email address", "target": target,
            "details": null, "innererror": null,
        });
        assert_eq!((status, error), (400, expected));
    }
}

#[test]
fn a_request_may_be_of_ten_megabytes_and_no_more() {
    let empty = with("/content/plainText", json!("")).to_string().len();
    for (length, fits) in [(MAX_REQUEST, true), (MAX_REQUEST + 1, false)] {
        let body = with("/content/plainText", json!("a".repeat(length - empty)));
        assert_eq!(body.to_string().len(), length);
        let read = read(&body, Version::EMAIL_2025);
        assert_eq!(read.as_ref().err().map(|(status, _)| *status), (!fits).then_some(413));
    }
}

proptest! {
    #[test]
    fn no_body_is_a_problem(body in prop::collection::vec(any::<u8>(), 0..100)) {
        let _ = mail(&body, Version::EMAIL_2025);
    }

    #[test]
    fn what_is_accepted_is_what_was_written(
        subject in "\\PC{1,30}",
        text in "\\PC{1,60}",
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        name in "[ -~]{1,12}",
        header in ("[!-9;-~]{1,10}", "[ -~]{0,20}"),
        display in prop::option::of("[^\r\n\0]{0,20}"),
    ) {
        let body = json!({
            "senderAddress": "info@contoso.com",
            "content": { "subject": subject, "html": text },
            "recipients": { "bcc": [{ "address": "a@example.com", "displayName": display }] },
            "headers": { header.0.clone(): header.1 },
            "attachments": [{ "name": name, "contentType": "a/b", "contentInBase64": STANDARD.encode(&bytes) }],
        });
        let mail = read(&body, Version::EMAIL_2023).unwrap();
        prop_assert_eq!(mail.subject, subject);
        prop_assert_eq!(mail.html, Some(text));
        prop_assert_eq!(&mail.attachments[0].bytes[..], &bytes[..]);
        prop_assert_eq!(&mail.attachments[0].name, &name);
        prop_assert_eq!(&mail.bcc[0].display_name, &display);
        prop_assert_eq!(mail.headers.get(&header.0), Some(&json!(header.1)));
    }
}
