//! The Email API without HTTP: what is answered, kept, delivered later, reported and forgotten.

use std::time::Duration;

use serde_json::{Value, json};

use super::{engage, sending_domain};
use crate::emulator::call::{Call, Principal};
use crate::emulator::operation::Operation;
use crate::emulator::settings::Settings;
use crate::emulator::trial::{START, Said, Trial, trial, trial_with};
use crate::emulator::version::Version;

const ID: &str = "8540c0de-899f-5cce-acb5-3ec493af3800";
const V2023: Version = Version::EMAIL_2023;
const V2025: Version = Version::EMAIL_2025;
/// Longer than delivery takes.
const A_WHILE: Duration = Duration::from_secs(1);

fn to(addresses: &[&str]) -> Value {
    let to: Vec<Value> = addresses.iter().map(|address| json!({ "address": address })).collect();
    json!({
        "senderAddress": "info@contoso.com",
        "content": { "subject": "Hello", "html": "<p>Hi <a href='https://example.com/x?y=1'>there</a></p>" },
        "recipients": { "to": to },
    })
}

impl Trial {
    fn mail(&self, version: Version, body: &Value) -> Said {
        self.ask(Operation::SendEmail, version, body)
    }

    fn mail_as(&self, id: &str, body: &Value) -> Said {
        self.ask_with(Operation::SendEmail, V2025, &[], &[("operation-id", id)], body.to_string())
    }

    fn mailed(&self, addresses: &[&str]) -> String {
        let said = self.mail(V2025, &to(addresses));
        assert_eq!(said.status, 202, "{}", said.body);
        said.body["id"].as_str().unwrap().to_owned()
    }

    fn operation(&self, id: &str) -> Said {
        self.get(Operation::GetEmailOperation, V2025, id)
    }

    /// Recipients and statuses of the delivery reports.
    fn reports(&self) -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap().to_owned();
        self.events("EmailDeliveryReportReceived")
            .iter()
            .map(|event| (word(&event["data"]["recipient"]), word(&event["data"]["status"])))
            .collect()
    }
}

#[tokio::test]
async fn a_mail_is_accepted_runs_and_succeeds() {
    let trial = trial().await;
    for version in [V2023, V2025] {
        let said = trial.mail(version, &to(&["a@example.com"]));
        let id = said.body["id"].as_str().unwrap().to_owned();
        assert!(uuid::Uuid::try_parse(&id).is_ok());
        let running = json!({ "id": id, "status": "Running", "error": null });
        assert_eq!((said.status, &said.body, said.header("retry-after")), (202, &running, Some("1")));
        let location =
            format!("https://127.0.0.1:8083/emails/operations/{id}?api-version={}", version.text());
        assert_eq!(said.header("operation-location"), Some(location.as_str()));

        let said = trial.get(Operation::GetEmailOperation, version, &id);
        assert_eq!((said.status, &said.body, said.header("retry-after")), (200, &running, Some("1")));
        trial.pass(A_WHILE).await;
        let said = trial.get(Operation::GetEmailOperation, version, &id.to_uppercase());
        assert_eq!(said.body, json!({ "id": id, "status": "Succeeded", "error": null }));
        assert_eq!((said.status, said.header("retry-after")), (200, None));
        assert_eq!(said.header("operation-location"), None);
    }
    let said = trial.operation(ID);
    assert_eq!((said.status, &said.body["error"]["code"]), (404, &json!("NotFound")));
    assert_eq!(said.header("x-ms-error-code"), Some("NotFound"));
}

#[tokio::test]
async fn retry_after_is_what_the_settings_say() {
    let settings = Settings { email_retry_after: 30, ..Settings::on_free_ports() };
    let trial = trial_with(settings).await;
    let said = trial.mail(V2023, &to(&["a@example.com"]));
    assert_eq!(said.header("retry-after"), Some("30"));
}

#[tokio::test]
async fn the_same_operation_id_is_the_same_mail() {
    let trial = trial().await;
    let first = trial.mail_as(&ID.to_uppercase(), &to(&["a@example.com"]));
    assert_eq!(first.body, json!({ "id": ID.to_uppercase(), "status": "Running", "error": null }));
    let again = trial.mail_as(ID, &to(&["a@example.com"]));
    assert_eq!((again.status, &again.body), (202, &first.body), "as it was first written");
    assert_eq!(again.header("operation-location"), first.header("operation-location"));
    trial.pass(A_WHILE).await;
    let other = trial.mail_as(ID, &to(&["b@example.com"]));
    assert_eq!(other.body["status"], "Succeeded", "what another mail says does not matter");
    assert_eq!((other.status, other.header("retry-after")), (202, None));
    trial.pass(A_WHILE).await;
    assert_eq!(trial.shared().email.count(), 1);
    assert_eq!(trial.reports(), [("a@example.com".into(), "Delivered".into())], "nothing is sent twice");
    for bad in [
        "",
        "1",
        "8540c0de899f5cceacb53ec493af3800",
        "{540c0de-899f-5cce-acb5-3ec493af3800}",
        "ü540c0de-899f-5cce-acb5-3ec493af380",
    ] {
        let said = trial.mail_as(bad, &to(&["a@example.com"]));
        assert_eq!((said.status, &said.body["error"]["target"]), (400, &json!("Operation-Id")), "{bad:?}");
    }
}

#[tokio::test]
async fn a_domain_that_is_not_linked_cannot_send() {
    let trial = trial().await;
    let mut body = to(&["a@example.com"]);
    body["senderAddress"] = json!("info@Not-Linked.example.net");
    let said = trial.mail(V2025, &body);
    let error = json!({
        "code": "DomainNotLinked", "message": "The specified sender domain has not been linked.",
        "target": null, "details": null, "innererror": null,
    });
    assert_eq!((said.status, said.done, &said.body["error"]), (404, false, &error));
    assert_eq!(said.header("x-ms-error-code"), Some("DomainNotLinked"));
    assert_eq!(trial.shared().email.count(), 0);
}

#[tokio::test]
async fn each_recipient_has_a_report_in_the_words_of_the_schema() {
    let trial = trial().await;
    let mut body = to(&["a@example.com", "bounce+7@magic.example.net", "fail@magic.example.net"]);
    body["recipients"]["cc"] =
        json!([{ "address": "spam@magic.example.net" }, { "address": "A@example.com" }]);
    body["recipients"]["bcc"] = json!([
        { "address": "quarantine@magic.example.net" }, { "address": "suppressed@magic.example.net" },
        { "address": "delay@magic.example.net" }, { "address": "never@magic.example.net" },
        { "address": "deliver@magic.example.net" }, { "address": "drop@magic.example.net" },
    ]);
    let id = trial.mail(V2025, &body).body["id"].as_str().unwrap().to_owned();
    assert!(trial.reports().is_empty());
    trial.pass(Duration::from_millis(200)).await;
    assert_eq!(trial.operation(&id).body["status"], "Succeeded");
    let mut expected: Vec<(String, String)> = [
        ("a@example.com", "Delivered"),
        ("bounce+7@magic.example.net", "Bounced"),
        ("fail@magic.example.net", "Failed"),
        ("spam@magic.example.net", "FilteredSpam"),
        ("quarantine@magic.example.net", "Quarantined"),
        ("suppressed@magic.example.net", "Suppressed"),
        ("deliver@magic.example.net", "Delivered"),
        ("drop@magic.example.net", "Failed"),
    ]
    .map(|(recipient, status)| (recipient.into(), status.into()))
    .to_vec();
    assert_eq!(trial.reports(), expected, "once for whoever is named twice");
    trial.pass(Duration::from_mins(10)).await;
    expected.push(("delay@magic.example.net".into(), "Delivered".into()));
    trial.pass(Duration::from_hours(10)).await;
    assert_eq!(trial.reports(), expected);

    let events = trial.events("EmailDeliveryReportReceived");
    assert_eq!(events[0]["subject"], format!("sender/info@contoso.com/message/{id}"));
    assert_eq!(
        events[0]["data"],
        json!({
            "sender": "info@contoso.com", "recipient": "a@example.com", "messageId": id, "status": "Delivered",
            "deliveryAttemptTimestamp": "2026-11-22T12:00:00.3230000+00:00",
        })
    );
    assert_eq!(
        events[1]["data"]["deliveryStatusDetails"],
        json!({ "statusMessage": "The recipient's address does not exist." })
    );
    let detail = trial.shared().email.find(&id).unwrap().detail;
    assert_eq!(detail["deliveries"].as_array().unwrap().len(), 9);
    assert_eq!(
        detail["deliveries"][1],
        json!({ "recipient": "bounce+7@magic.example.net", "status": "Bounced", "details": "The recipient's address does not exist." })
    );
}

#[tokio::test]
async fn an_operation_fails_if_nobody_is_left_to_send_to() {
    let trial = trial().await;
    let (suppressed, dropped) = ("suppressed@magic.example.net", "drop@magic.example.net");
    for (addresses, error) in [
        (
            vec![suppressed, "suppressed+2@magic.example.net"],
            json!({
                "code": "EmailDroppedAllRecipientsSuppressed",
                "message": "Message dropped because all recipients were suppressed",
            }),
        ),
        (
            vec![dropped, suppressed],
            json!({ "code": "EmailDropped", "message": "Email was dropped after several attempts to deliver." }),
        ),
        (vec![dropped, suppressed, "never@magic.example.net"], Value::Null),
    ] {
        let id = trial.mailed(&addresses);
        trial.pass(A_WHILE).await;
        let said = trial.operation(&id);
        let status = if error.is_null() { "Succeeded" } else { "Failed" };
        assert_eq!(said.body, json!({ "id": id, "status": status, "error": error }));
        assert_eq!((said.status, said.header("retry-after")), (200, None));
    }
    assert_eq!(trial.mails()[2].status, "Failed");
}

#[tokio::test]
async fn a_mail_is_shown_as_it_was_sent() {
    let trial = trial().await;
    let text = r#"{"unknown":1.50,"senderAddress":"info@contoso.com","content":{"subject":"Hello","html":"<p>Hi</p><p>you</p>"},"recipients":{"to":[{"address":"a@example.com","displayName":"A"}],"bcc":[{"address":"b@example.com"}]},"replyTo":[{"address":"r@example.com"}],"headers":{"X-One":"1"},"attachments":[{"name":"n.txt","contentType":"text/plain","contentInBase64":"aGk=","contentId":"i"}]}"#;
    let said = trial.ask_with(Operation::SendEmail, V2025, &[], &[("operation-id", ID)], text);
    assert_eq!(said.status, 202);
    let email = &trial.shared().email;
    let found = email.find(&ID.to_uppercase()).unwrap();
    assert_eq!(
        serde_json::to_value(&found.message).unwrap(),
        json!({
            "sequence": found.message.sequence, "kind": "email", "id": ID, "at": "2026-11-22T12:00:00.1230000+00:00",
            "direction": "outbound", "from": "info@contoso.com", "from_name": null,
            "to": ["a@example.com", "b@example.com"], "subject": "Hello", "text": "Hi you", "status": "Running",
            "thread": null, "attachments": 1, "tag": null,
        })
    );
    assert_eq!(
        found.detail,
        json!({
            "sender": "info@contoso.com",
            "to": [{ "address": "a@example.com", "display_name": "A" }],
            "cc": [],
            "bcc": [{ "address": "b@example.com", "display_name": null }],
            "reply_to": [{ "address": "r@example.com", "display_name": null }],
            "headers": { "X-One": "1" },
            "html": "<p>Hi</p><p>you</p>",
            "plain_text": null,
            "attachments": [{ "name": "n.txt", "content_type": "text/plain", "content_id": "i", "size": 2 }],
            "tracking_disabled": false,
            "operation_id": ID,
            "deliveries": [],
        })
    );
    assert_eq!(email.html(ID).as_deref(), Some("<p>Hi</p><p>you</p>"));
    let source = email.source(ID).unwrap();
    assert!(source.starts_with("{\n  \"unknown\": 1.50,\n  \"senderAddress\": "), "{source}");
    assert_eq!(serde_json::from_str::<Value>(&source).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    let attachment = email.attachment(ID, 0).unwrap();
    assert_eq!((attachment.name.as_str(), &attachment.bytes[..]), ("n.txt", &b"hi"[..]));
    assert_eq!(
        (attachment.content_type.as_str(), attachment.content_id.as_deref()),
        ("text/plain", Some("i"))
    );
    assert!(email.attachment(ID, 1).is_none());
    for nobody in ["", "8540c0de-899f-5cce-acb5-3ec493af3801"] {
        assert!(email.find(nobody).is_none() && email.html(nobody).is_none());
        assert!(email.source(nobody).is_none() && email.attachment(nobody, 0).is_none());
    }
    trial.handle.reset();
    assert_eq!(email.count(), 0);
}

#[tokio::test]
async fn engagement_is_told_unless_tracking_is_off() {
    let trial = trial().await;
    let id = trial.mailed(&["a@example.com"]);
    let tell = |id: &str, recipient: &str, kind: &str| engage(trial.shared(), id, recipient, kind);
    assert_eq!(tell(&id, "A@example.com", "view"), Ok(()));
    assert_eq!(tell(&id, "a@example.com", "click"), Ok(()));
    let events = trial.events("EmailEngagementTrackingReportReceived");
    assert_eq!(events[0]["subject"], format!("sender/info@contoso.com/message/{id}"));
    let data = |kind: &str, context: &str| {
        json!({
            "sender": "info@contoso.com", "recipient": "a@example.com", "messageId": id,
            "userActionTimestamp": "2026-11-22T12:00:00.1230000+00:00", "engagementContext": context,
            "userAgent": "acs-broker emulator", "engagementType": kind,
        })
    };
    assert_eq!(events[0]["data"], data("view", ""));
    assert_eq!(events[1]["data"], data("click", "https://example.com/x?y=1"));

    let mut body = to(&["a@example.com"]);
    body["userEngagementTrackingDisabled"] = json!(true);
    let off = trial.mail(V2025, &body).body["id"].as_str().unwrap().to_owned();
    for (id, recipient, kind) in [
        (off.as_str(), "a@example.com", "view"),
        (&id, "b@example.com", "view"),
        (&id, "a@example.com", "open"),
        (ID, "a@example.com", "view"),
    ] {
        let wrong = tell(id, recipient, kind).unwrap_err();
        assert!(!wrong.contains("example.com"), "no address in {wrong:?}");
    }
    assert_eq!(trial.events("EmailEngagementTrackingReportReceived").len(), 2);
}

#[tokio::test]
async fn limits_go_by_the_domain_of_the_sender() {
    let trial = trial().await;
    let mut body = to(&["a@example.com"]);
    body["senderAddress"] = json!("info@Contoso.com");
    let id = trial.mail(V2025, &body).body["id"].as_str().unwrap().to_owned();
    let domain = |operation, parameter: &str, body: String| {
        let call = Call {
            operation,
            version: V2025,
            parameters: &[parameter.to_owned()],
            headers: &http::HeaderMap::new(),
            body: &body.into(),
            base: "",
            raw_query: "",
            principal: Principal::Key(0),
            now: START,
        };
        sending_domain(trial.shared(), &call)
    };
    assert_eq!(domain(Operation::SendEmail, "", body.to_string()).as_deref(), Some("contoso.com"));
    assert_eq!(domain(Operation::SendEmail, "", "{".into()), None);
    assert_eq!(domain(Operation::GetEmailOperation, &id, String::new()).as_deref(), Some("contoso.com"));
    assert_eq!(domain(Operation::GetEmailOperation, ID, String::new()), None);
}

#[tokio::test]
async fn beyond_the_bounds_the_oldest_are_as_if_they_had_never_been() {
    let settings =
        Settings { max_messages: 3, max_age: Duration::from_hours(1), ..Settings::on_free_ports() };
    let trial = trial_with(settings).await;
    let first = trial.mail_as(ID, &to(&["a@example.com"]));
    assert_eq!(first.status, 202);
    for _ in 0..3 {
        trial.mailed(&["a@example.com"]);
    }
    assert_eq!((trial.shared().email.count(), trial.operation(ID).status), (3, 404));
    trial.pass(A_WHILE).await;
    assert_eq!(trial.reports().len(), 3, "a mail that went has no reports");
    assert_eq!(trial.mail_as(ID, &to(&["a@example.com"])).body["status"], "Running", "its id is free again");
    trial.advance(Duration::from_hours(1));
    // Nobody asks: it goes by itself.
    trial.until("what is too old is gone", |shared| shared.email.count() == 0).await;
    trial.until("nothing is left to do", |shared| shared.scheduler.pending() == 0).await;
}

#[tokio::test]
async fn the_bound_in_bytes_counts_what_mails_weigh() {
    let settings = Settings { max_megabytes: 4, ..Settings::on_free_ports() };
    let trial = trial_with(settings).await;
    let mut body = to(&["a@example.com"]);
    // 400 KiB of text weigh twice that: in the request, and read from it.
    body["content"]["plainText"] = json!("a".repeat(400 * 1024));
    for _ in 0..20 {
        assert_eq!(trial.mail(V2025, &body).status, 202);
    }
    assert_eq!(trial.shared().email.count(), 5);
    body["content"]["plainText"] = json!("a".repeat(9 * 1024 * 1024));
    let large = trial.mail(V2025, &body).body["id"].as_str().unwrap().to_owned();
    assert_eq!(trial.shared().email.count(), 1);
    assert_eq!(trial.operation(&large).status, 200, "the newest stays, however large");
}
