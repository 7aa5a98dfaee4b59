//! The SMS API without HTTP: what is answered, kept, delivered later, reported and forgotten.

use std::time::Duration;

use serde_json::{Value, json};

use crate::emulator::operation::Operation;
use crate::emulator::settings::Settings;
use crate::emulator::trial::{START, Said, Trial, trial, trial_with};
use crate::emulator::version::Version;

const FROM: &str = "+18005550100";
const TO: &str = "+14255550123";
const ID: &str = "fda6d242-46aa-4247-8bf6-619a1206f9c3";
const DATE: &str = "Mon, 01 Apr 2019 06:22:03 GMT";
const V2021: Version = Version::SMS_2021;
const V2026: Version = Version::SMS_2026;
/// Longer than delivery takes.
const A_WHILE: Duration = Duration::from_secs(1);

fn to_all(recipients: &[&str]) -> Value {
    let recipients: Vec<Value> = recipients.iter().map(|to| json!({ "to": to })).collect();
    json!({ "from": FROM, "smsRecipients": recipients, "message": "Hello" })
}

fn reported(recipients: &[&str]) -> Value {
    let mut body = to_all(recipients);
    body["smsSendOptions"] = json!({ "enableDeliveryReport": true, "tag": "t" });
    body
}

impl Trial {
    fn send(&self, version: Version, body: &Value) -> Vec<Value> {
        let said = self.ask(Operation::SendSms, version, body);
        assert_eq!(said.status, 202, "{}", said.body);
        said.body["value"].as_array().unwrap().clone()
    }

    fn send_one(&self, body: &Value) -> String {
        let items = self.send(V2026, body);
        assert_eq!(items.len(), 1);
        items[0]["messageId"].as_str().unwrap().to_owned()
    }

    fn report(&self, id: &str) -> Said {
        self.get(Operation::GetDeliveryReport, V2026, id)
    }

    fn status(&self, id: &str) -> String {
        self.shared().sms.find(id).unwrap().message.status
    }

    fn repeat(&self, to: &str, id: &str, date: Option<&str>) -> Value {
        let mut body = to_all(&[to]);
        body["smsRecipients"][0]["repeatabilityRequestId"] = json!(id);
        body["smsRecipients"][0]["repeatabilityFirstSent"] = json!(date);
        self.send(V2021, &body)[0].clone()
    }

    fn opt_outs(&self, operation: Operation, recipients: &[&str]) -> Said {
        let recipients: Vec<Value> = recipients.iter().map(|to| json!({ "to": to })).collect();
        self.ask(operation, V2026, &json!({ "from": FROM, "recipients": recipients }))
    }

    fn is_opted_out(&self, to: &str) -> bool {
        self.opt_outs(Operation::CheckOptOuts, &[to]).body["value"][0]["isOptedOut"].as_bool().unwrap()
    }
}

#[tokio::test]
async fn each_recipient_has_an_item_in_order_and_bad_numbers_are_refused_alone() {
    let trial = trial().await;
    let recipients = [TO, "+15550000000", "+12065550134", "+1425555012345", "+4915112345678"];
    for (version, before, after) in [(V2021, "Outgoing_", "_noam"), (V2026, "", "")] {
        trial.shared().sms.reset();
        let items = trial.send(version, &to_all(&recipients));
        let id = |at: usize| items[at]["messageId"].as_str().unwrap().to_owned();
        let bad = |to: &str| json!({ "to": to, "httpStatusCode": 400, "errorMessage": "Invalid To phone number format.", "successful": false });
        assert_eq!(
            items,
            [
                json!({ "to": TO, "messageId": id(0), "httpStatusCode": 202, "successful": true }),
                bad("+15550000000"),
                json!({ "to": "+12065550134", "httpStatusCode": 503, "errorMessage": "ServiceUnavailable", "successful": false }),
                bad("+1425555012345"),
                json!({ "to": "+4915112345678", "messageId": id(4), "httpStatusCode": 202, "successful": true }),
            ]
        );
        let first = id(0);
        let uuid = first.strip_prefix(&format!("{before}20261122120000")).unwrap();
        let uuid = uuid.strip_suffix(after).unwrap();
        assert!(uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok(), "{uuid}");
        assert_ne!(first, id(4));
        let kept: Vec<String> = trial.sms().into_iter().map(|message| message.to[0].clone()).collect();
        assert_eq!(kept, ["+4915112345678", TO], "only what was accepted is kept, newest first");
    }
}

#[tokio::test]
async fn a_sender_of_somebody_else_is_refused_whatever_its_kind() {
    let trial = trial().await;
    for (from, status) in [
        ("+18005550100", 202),
        ("50505", 202),
        ("contoso", 202),
        ("+18005550199", 401),
        ("+15550000000", 401),
        ("50506", 401),
        ("Fabrikam", 401),
        ("+1425555012345", 400),
        ("50", 400),
        ("Contoso & Sons", 400),
    ] {
        for version in [V2021, V2026] {
            let mut body = to_all(&[TO]);
            body["from"] = json!(from);
            let said = trial.ask(Operation::SendSms, version, &body);
            assert_eq!((said.status, said.done), (status, status == 202), "{from}");
            if status == 401 {
                assert_eq!(said.body, json!({ "error": { "code": "Unauthorized", "message": "" } }));
            }
        }
    }
    assert_eq!(trial.shared().sms.count(), 6, "what was refused is not kept");
}

#[tokio::test]
async fn the_same_repeatability_id_is_the_same_message() {
    let trial = trial().await;
    let first = trial.repeat(TO, ID, Some(DATE));
    let id = first["messageId"].as_str().unwrap();
    assert_eq!(
        first,
        json!({ "to": TO, "messageId": id, "httpStatusCode": 202, "repeatabilityResult": "accepted", "successful": true })
    );
    trial.pass(Duration::from_hours(23)).await;
    assert_eq!(trial.repeat(TO, &ID.to_uppercase(), Some(DATE)), first, "without regard to case");
    assert_eq!(trial.shared().sms.count(), 1);
    let other = trial.repeat("+14255550124", ID, Some(DATE));
    assert_eq!((&other["httpStatusCode"], &other["repeatabilityResult"]), (&json!(400), &json!("rejected")));
    trial.pass(Duration::from_hours(1)).await;
    let again = trial.repeat(TO, ID, Some(DATE));
    assert_eq!(again["httpStatusCode"], 202);
    assert_ne!(again["messageId"], first["messageId"], "a day later it is forgotten");
}

#[tokio::test]
async fn a_repeatability_id_needs_its_form_and_its_date() {
    let trial = trial().await;
    let wrong_date = "Request sent with Invalid DateTime value for repeatability-first-sent. Expected is DateTime ,RFC1123 pattern.";
    for date in [
        None,
        Some(""),
        Some("2019-04-01T06:22:03Z"),
        Some("Monday, 01-Apr-19 06:22:03 GMT"),
        Some("Tue, 01 Apr 2019 06:22:03 GMT"),
    ] {
        let item = trial.repeat(TO, ID, date);
        assert_eq!(
            item,
            json!({ "to": TO, "httpStatusCode": 400, "repeatabilityResult": "rejected", "errorMessage": wrong_date, "successful": false }),
            "{date:?}"
        );
    }
    for id in ["", "1", "fda6d24246aa42478bf6619a1206f9c3", "{da6d242-46aa-4247-8bf6-619a1206f9c3}"] {
        let item = trial.repeat(TO, id, Some(DATE));
        assert_eq!(
            (&item["httpStatusCode"], &item["repeatabilityResult"]),
            (&json!(400), &json!("rejected")),
            "{id}"
        );
    }
    assert_eq!(trial.shared().sms.count(), 0);
}

#[tokio::test]
async fn an_item_that_was_unavailable_can_be_repeated_until_it_is_accepted() {
    let trial = trial().await;
    let statuses: Vec<Value> =
        (0..3).map(|_| trial.repeat("+12065550134", ID, Some(DATE))["httpStatusCode"].clone()).collect();
    assert_eq!(statuses, [503, 202, 202]);
    assert_eq!(trial.shared().sms.count(), 1);
}

#[tokio::test]
async fn a_message_is_delivered_after_a_while_and_reported_if_asked() {
    let trial = trial().await;
    let quiet = trial.send_one(&to_all(&[TO]));
    let asked = trial.send_one(&reported(&[TO]));
    assert_eq!(trial.status(&asked), "Queued");
    let said = trial.report(&asked);
    assert_eq!(said.status, 404);
    assert_eq!(
        said.body,
        json!({
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.5",
            "title": "Not Found",
            "status": 404,
            "traceId": said.body["traceId"],
        })
    );
    trial.pass(Duration::from_millis(199)).await;
    assert_eq!(trial.status(&asked), "Queued");
    trial.pass(Duration::from_millis(1)).await;
    assert_eq!((trial.status(&asked), trial.status(&quiet)), ("Delivered".into(), "Delivered".into()));

    let said = trial.report(&asked);
    assert_eq!(said.status, 200);
    assert_eq!(
        said.body,
        json!({
            "deliveryStatus": "Delivered",
            "deliveryStatusDetails": "2000: No Error",
            "deliveryAttempts": [
                { "timestamp": "2026-11-22T12:00:00Z", "segmentsSucceeded": 1, "segmentsFailed": 0 },
            ],
            "receivedTimestamp": "2026-11-22T12:00:00Z",
            "tag": "t",
            "messageId": asked,
            "from": FROM,
            "to": TO,
        })
    );
    assert_eq!(trial.report(&quiet).body.get("tag"), None);

    let events = trial.events("SMSDeliveryReportReceived");
    assert_eq!(events.len(), 1, "only the one that asked for it");
    assert_eq!(events[0]["subject"], "/phonenumber/18005550100");
    assert_eq!(
        events[0]["data"],
        json!({
            "messageId": asked,
            "from": "18005550100",
            "to": TO,
            "deliveryStatus": "Delivered",
            "deliveryStatusDetails": "No error.",
            "deliveryAttempts": [
                { "timestamp": "2026-11-22T12:00:00.3230000Z", "segmentsSucceeded": 1, "segmentsFailed": 0 },
            ],
            "receivedTimestamp": "2026-11-22T12:00:00.3230000Z",
            "tag": "t",
        })
    );
    let detail = trial.shared().sms.find(&asked).unwrap().detail;
    assert_eq!(
        detail,
        json!({
            "repeatability_request_id": null,
            "delivery_report": true,
            "delivery": { "status": "Delivered", "details": "2000: No Error", "at": "2026-11-22T12:00:00.3230000+00:00" },
            "encoding": "GSM-7",
            "segments": 1,
        })
    );
}

#[tokio::test]
async fn each_magic_number_has_its_fate() {
    let trial = trial().await;
    let mut ids = Vec::new();
    let codes = [
        ("00", "2000"),
        ("02", "4002"),
        ("03", "4003"),
        ("04", "4004"),
        ("05", "4005"),
        ("06", "4006"),
        ("07", "4007"),
        ("08", "4008"),
        ("09", "4009"),
        ("10", "4010"),
        ("20", "4020"),
        ("32", "2000"),
        ("35", "2000"),
        ("40", "4000"),
        ("50", "5000"),
        ("51", "5001"),
        ("52", "5002"),
        ("99", "9999"),
    ];
    for (last, _) in codes {
        ids.push(trial.send_one(&reported(&[&format!("+120655501{last}")])));
    }
    let (late, never) =
        (trial.send_one(&reported(&["+12065550130"])), trial.send_one(&reported(&["+12065550131"])));
    trial.pass(A_WHILE).await;
    for ((last, code), id) in codes.into_iter().zip(&ids) {
        let report = trial.report(id).body;
        let details = report["deliveryStatusDetails"].as_str().unwrap();
        assert!(details.starts_with(&format!("{code}: ")), "{last}: {details}");
        let is_delivered = code == "2000";
        assert_eq!(report["deliveryStatus"], if is_delivered { "Delivered" } else { "Failed" });
        assert_eq!(report["deliveryAttempts"][0]["segmentsFailed"], u32::from(!is_delivered));
        let attempts = report["deliveryAttempts"].as_array().unwrap();
        assert_eq!(attempts.len(), if last == "32" { 2 } else { 1 });
        if last == "32" {
            assert_eq!(
                attempts[1],
                json!({ "timestamp": "2026-11-22T11:55:01Z", "segmentsSucceeded": 0, "segmentsFailed": 1 })
            );
        }
    }
    let failed: Vec<Value> = trial
        .events("SMSDeliveryReportReceived")
        .into_iter()
        .filter(|event| event["data"]["deliveryStatus"] == "Failed")
        .collect();
    assert_eq!(failed.len(), 15);
    assert_eq!(failed[0]["data"]["deliveryStatusDetails"], "4002: The recipient's number is not valid");
    assert_eq!((trial.status(&late), trial.status(&never)), ("Queued".into(), "Queued".into()));
    trial.pass(Duration::from_mins(10)).await;
    assert_eq!((trial.status(&late), trial.status(&never)), ("Delivered".into(), "Queued".into()));
    for _ in 0..2 {
        assert_eq!(trial.send(V2026, &to_all(&["+12065550133"]))[0]["httpStatusCode"], 503);
    }
}

#[tokio::test]
async fn a_report_that_is_not_in_time_is_replaced() {
    let trial = trial().await;
    let with_timeout = |to: &str, seconds: u64| {
        let mut body = reported(&[to]);
        body["smsSendOptions"]["deliveryReportTimeoutInSeconds"] = json!(seconds);
        trial.send_one(&body)
    };
    let in_time = with_timeout(TO, 60);
    let late = with_timeout("+12065550130", 60);
    let never = with_timeout("+12065550131", 120);
    trial.pass(Duration::from_secs(59)).await;
    assert_eq!(trial.status(&in_time), "Delivered");
    assert_eq!((trial.report(&late).status, trial.report(&never).status), (404, 404));
    trial.pass(Duration::from_secs(61)).await;
    for id in [&late, &never] {
        assert_eq!(trial.report(id).body["deliveryStatusDetails"], "5002: The carrier sent no report");
    }
    trial.pass(Duration::from_mins(20)).await;
    assert_eq!(trial.status(&late), "Failed", "what comes after the timeout is not heard");
    assert_eq!(trial.events("SMSDeliveryReportReceived").len(), 3);
}

#[tokio::test]
async fn a_message_through_a_partner_has_the_partners_id_in_its_report() {
    let trial = trial().await;
    let mut body = reported(&[TO]);
    body["smsSendOptions"]["messagingConnect"] =
        json!({ "partner": "p", "partnerParams": { "apiKey": "k" } });
    let id = trial.send_one(&body);
    trial.pass(A_WHILE).await;
    let partner_id = trial.report(&id).body["messagingConnectPartnerMessageId"].as_str().unwrap().to_owned();
    assert!(uuid::Uuid::try_parse(&partner_id).is_ok());
}

#[tokio::test]
async fn opt_outs_are_added_checked_and_removed_for_each_recipient() {
    let trial = trial().await;
    let recipients = [TO, "+123", "+12065550135", "+12065550107"];
    let bad =
        |to: &str, status: u16, why: &str| json!({ "to": to, "httpStatusCode": status, "errorMessage": why });
    let number = bad("+123", 400, "Invalid recipient phone number format");
    let broken = bad("+12065550135", 500, "Internal Server Error");
    let good = |to: &str| json!({ "to": to, "httpStatusCode": 200 });
    let checked = |to: &str, is: bool| json!({ "to": to, "httpStatusCode": 200, "isOptedOut": is });
    for (operation, first, last) in [
        (Operation::CheckOptOuts, checked(TO, false), checked("+12065550107", true)),
        (Operation::AddOptOuts, good(TO), good("+12065550107")),
        (Operation::AddOptOuts, good(TO), good("+12065550107")),
        (Operation::CheckOptOuts, checked(TO, true), checked("+12065550107", true)),
        (Operation::RemoveOptOuts, good(TO), good("+12065550107")),
        (Operation::RemoveOptOuts, good(TO), good("+12065550107")),
        (Operation::CheckOptOuts, checked(TO, false), checked("+12065550107", true)),
    ] {
        let said = trial.opt_outs(operation, &recipients);
        assert_eq!(said.status, 200);
        assert_eq!(said.body["value"], json!([first, number, broken, last]), "{operation:?}");
    }
}

#[tokio::test]
async fn opt_outs_are_of_one_sender_and_fail_what_is_sent() {
    let trial = trial().await;
    trial.opt_outs(Operation::AddOptOuts, &[TO]);
    let blocked = trial.send_one(&to_all(&[TO]));
    let mut body = to_all(&[TO]);
    body["from"] = json!("50505");
    let other = trial.send_one(&body);
    trial.pass(A_WHILE).await;
    assert_eq!(trial.report(&blocked).body["deliveryStatusDetails"], "4007: The recipient has opted out");
    assert_eq!(trial.status(&other), "Delivered");
}

#[tokio::test]
async fn opt_outs_refuse_whole_requests_like_sending_does() {
    let trial = trial().await;
    let many = vec![json!({ "to": TO }); 101];
    for (body, status, field) in [
        (json!({ "from": "+1", "recipients": [{ "to": TO }] }), 400, "From"),
        (json!({ "recipients": [{ "to": TO }] }), 400, "From"),
        (json!({ "from": FROM }), 400, "Recipients"),
        (json!({ "from": FROM, "recipients": [] }), 400, "Recipients"),
        (json!({ "from": FROM, "recipients": many }), 400, "Recipients"),
        (json!({ "from": FROM, "recipients": [{ "to": "" }] }), 400, "Recipients.To"),
        (json!({ "from": FROM, "recipients": [{ "to": 1 }] }), 400, "Recipients.To"),
        (json!({ "from": "+18005550199", "recipients": [{ "to": TO }] }), 401, ""),
    ] {
        for operation in [Operation::AddOptOuts, Operation::RemoveOptOuts, Operation::CheckOptOuts] {
            let said = trial.ask(operation, V2026, &body);
            assert_eq!((said.status, said.done), (status, false), "{body}");
            match status {
                400 => assert!(said.body["errors"][field].is_array(), "{}", said.body),
                _ => assert_eq!(said.body, json!({ "error": { "code": "Unauthorized", "message": "" } })),
            }
        }
    }
}

#[tokio::test]
async fn what_comes_in_is_kept_and_told() {
    let trial = trial().await;
    let id = super::receive(trial.shared(), TO, FROM, "Hi €").unwrap();
    assert!(id.starts_with("Incoming_20261122120000"), "{id}");
    let message = trial.sms().remove(0);
    assert_eq!(
        (message.direction, message.status.as_str(), message.from.as_str()),
        ("inbound", "Received", TO)
    );
    let events = trial.events("SMSReceived");
    assert_eq!(events[0]["subject"], "/phonenumber/18005550100");
    assert_eq!(
        events[0]["data"],
        json!({
            "messageId": id,
            "from": "14255550123",
            "to": "18005550100",
            "message": "Hi €",
            "receivedTimestamp": "2026-11-22T12:00:00.1230000Z",
            "segmentCount": 1,
        })
    );
    assert_eq!(trial.report(&id).status, 404, "there are reports of outgoing messages only");
    for (from, to, text) in [
        ("Contoso", FROM, "x".to_owned()),
        (TO, "+18005550199", "x".to_owned()),
        (TO, "Contoso", "x".to_owned()),
        (TO, FROM, "x".repeat(2049)),
    ] {
        let wrong = super::receive(trial.shared(), from, to, &text).unwrap_err();
        assert!(!wrong.contains("555"), "no number in {wrong:?}");
    }
    assert_eq!(trial.shared().sms.count(), 1);
}

#[tokio::test]
async fn keywords_to_a_toll_free_number_opt_out_and_in() {
    let trial = trial().await;
    for (text, is) in [
        (" stop\n", true),
        ("HELP", true),
        ("please start", true),
        ("Start", false),
        ("STOP", true),
        ("UNSTOP", false),
        ("stop it", false),
    ] {
        super::receive(trial.shared(), TO, FROM, text).unwrap();
        assert_eq!(trial.is_opted_out(TO), is, "{text:?}");
    }
    super::receive(trial.shared(), TO, "50505", "STOP").unwrap();
    let said =
        trial.ask(Operation::CheckOptOuts, V2026, &json!({ "from": "50505", "recipients": [{ "to": TO }] }));
    assert_eq!(said.body["value"][0]["isOptedOut"], false, "a short code's owner hears it and decides");
}

#[tokio::test]
async fn the_list_shows_what_was_sent_newest_first_until_enough_was_seen() {
    let trial = trial().await;
    let mut body = reported(&[TO]);
    let id = trial.send_one(&body);
    body["message"] = json!("жж");
    trial.send_one(&body);
    let seen = trial.sms();
    assert!(seen[0].sequence > seen[1].sequence);
    let oldest = &seen[1];
    assert_eq!(
        serde_json::to_value(oldest).unwrap(),
        json!({
            "sequence": oldest.sequence, "kind": "sms", "id": id, "at": "2026-11-22T12:00:00.1230000+00:00",
            "direction": "outbound", "from": FROM, "from_name": null, "to": [TO], "subject": null, "text": "Hello",
            "status": "Queued", "thread": null, "attachments": 0, "tag": "t",
        })
    );
    let mut count = 0;
    trial.shared().sms.newest_first(&mut |_| {
        count += 1;
        std::ops::ControlFlow::Break(())
    });
    assert_eq!(count, 1);
    assert_eq!(trial.shared().sms.find(&seen[0].id).unwrap().detail["encoding"], "UCS-2");
    assert!(trial.shared().sms.find("nobody").is_none());
    trial.handle.reset();
    assert_eq!(trial.shared().sms.count(), 0);
}

#[tokio::test]
async fn beyond_the_bounds_the_oldest_are_as_if_they_had_never_been() {
    let settings =
        Settings { max_messages: 3, max_age: Duration::from_hours(1), ..Settings::on_free_ports() };
    let trial = trial_with(settings).await;
    let first = trial.send_one(&reported(&[TO]));
    trial.pass(A_WHILE).await;
    assert_eq!(trial.report(&first).status, 200);
    trial.send(V2026, &to_all(&[TO, "+14255550124", "+14255550125"]));
    assert_eq!(trial.shared().sms.count(), 3);
    assert_eq!(trial.report(&first).status, 404);
    assert!(trial.shared().sms.find(&first).is_none());
    trial.advance(Duration::from_hours(1));
    // Nobody asks: it goes by itself.
    trial.until("what is too old is gone", |shared| shared.sms.count() == 0).await;
    let last = trial.send_one(&to_all(&[TO]));
    trial.advance(Duration::from_hours(2));
    assert_eq!(trial.report(&last).status, 404);
    trial
        .until("it goes once more", |shared| shared.sms.count() == 0 && shared.scheduler.pending() == 0)
        .await;
}

#[tokio::test]
async fn however_many_are_sent_no_more_is_kept_than_the_bounds_allow() {
    let settings = Settings { max_messages: 300, ..Settings::on_free_ports() };
    let trial = trial_with(settings).await;
    let mut body = to_all(&[TO; 100]);
    body["smsSendOptions"] = json!({ "enableDeliveryReport": true });
    for round in 0..200 {
        if round % 20 == 0 {
            for at in 0..100 {
                let id = format!("00000000-0000-4000-8000-{:012}", round * 100 + at);
                body["smsRecipients"][at]["repeatabilityRequestId"] = json!(id);
                body["smsRecipients"][at]["repeatabilityFirstSent"] = json!(DATE);
            }
        } else {
            body = to_all(&[TO; 100]);
        }
        trial.send(V2021, &body);
        let number = format!("+14255550{round:03}");
        super::receive(trial.shared(), &number, FROM, "STOP").unwrap();
    }
    {
        let state = trial.shared().sms.state();
        assert_eq!(state.messages.len(), 300);
        assert_eq!(state.repeats.len(), 300);
        assert_eq!(state.opt_outs.len(), 200);
    }
    trial.pass(A_WHILE).await;
    assert_eq!(trial.shared().scheduler.pending(), 1, "only the sweep is left");
}

#[tokio::test]
async fn opt_outs_are_bounded() {
    let trial = trial().await;
    let mut state = trial.shared().sms.state();
    for number in 0..100_001 {
        state.opt_outs.put(&super::state::pair(FROM, &format!("+1425{number:07}")), START, 0, ());
    }
    assert_eq!(state.opt_outs.len(), 100_000);
    assert!(state.opt_outs.get(&super::state::pair(FROM, "+14250000000")).is_none(), "the oldest goes");
}

#[tokio::test]
async fn a_seed_gives_the_same_ids_again() {
    let mut ids = Vec::new();
    for seed in [7, 7, 8] {
        let trial = trial_with(Settings { seed, ..Settings::on_free_ports() }).await;
        ids.push(trial.send_one(&to_all(&[TO])));
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2]);
}
