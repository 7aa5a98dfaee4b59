//! SMS over HTTP: what the handlers' own tests cannot see, namely status lines, headers, versions and the clock.

use std::time::Duration;

use acs_broker::emulator::Operation;
use serde_json::{Value, json};

use super::harness::{Call, Reply, Running, start};

const V2021: &str = "api-version=2021-03-07";
const V2026: &str = "api-version=2026-01-23";

fn body(from: &str, to: &str) -> String {
    json!({
        "from": from,
        "smsRecipients": [{ "to": to }],
        "message": "Hello",
        "smsSendOptions": { "enableDeliveryReport": true },
    })
    .to_string()
}

impl Running {
    async fn sms(&self, version: &str, body: impl Into<String>) -> Reply {
        self.send(Call::new("POST", format!("/sms?{version}")).body(body)).await
    }

    async fn report(&self, id: &str) -> Reply {
        self.send(Call::new("GET", format!("/deliveryReports/{id}?{V2026}"))).await
    }
}

#[tokio::test]
async fn a_message_is_accepted_in_each_version() {
    let running = start().await;
    for version in [V2021, V2026] {
        let reply = running.sms(version, body("+18005550100", "+14255550123")).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("api-supported-versions"), Some("2021-03-07, 2026-01-23"));
        let items = reply.json()["value"].as_array().unwrap().clone();
        assert_eq!((items.len(), &items[0]["successful"]), (1, &json!(true)));
    }
    assert_eq!(running.handle.successes(Operation::SendSms), 2);
}

#[tokio::test]
async fn whole_requests_are_refused_in_the_shape_of_the_version() {
    let running = start().await;
    let malformed = body("+1425555012345", "+14255550123");
    let reply = running.sms(V2021, &malformed).await;
    assert_eq!((reply.status, reply.header("content-type")), (400, Some("application/json")));
    assert_eq!(reply.json(), json!({ "From": ["Invalid from phone number format."] }));
    assert_eq!(reply.header("api-supported-versions"), None);
    let reply = running.sms(V2026, &malformed).await;
    assert_eq!(
        (reply.status, &reply.json()["title"]),
        (400, &json!("One or more validation errors occurred."))
    );
    for version in [V2021, V2026] {
        let reply = running.sms(version, body("+18005550199", "+14255550123")).await;
        let unauthorized = json!({ "error": { "code": "Unauthorized", "message": "" } });
        assert_eq!((reply.status, reply.json()), (401, unauthorized));
        assert_eq!(running.sms(version, "").await.status, 400);
    }
    assert_eq!(running.handle.successes(Operation::SendSms), 0);
}

#[tokio::test]
async fn a_delivery_report_comes_by_the_emulators_clock() {
    let running = start().await;
    let reply = running.sms(V2026, body("50505", "+12065550105")).await;
    let id = reply.json()["value"][0]["messageId"].as_str().unwrap().to_owned();
    let reply = running.report(&id).await;
    assert_eq!((reply.status, &reply.json()["title"]), (404, &json!("Not Found")));
    running.handle.advance(Duration::from_secs(1));
    let mut report = Value::Null;
    // The emulator's own task delivers: the answer changes soon, but not at once.
    for _ in 0..1000 {
        let reply = running.report(&id).await;
        if reply.status == 200 {
            report = reply.json();
            break;
        }
        tokio::task::yield_now().await;
    }
    assert_eq!((&report["deliveryStatus"], &report["messageId"]), (&json!("Failed"), &json!(id)));
    assert_eq!(report["deliveryStatusDetails"], "4005: The message was blocked by the carrier");
    running.handle.reset();
    assert_eq!(running.report(&id).await.status, 404);
}

#[tokio::test]
async fn opt_outs_and_reports_are_for_the_newer_version_alone() {
    let running = start().await;
    let list = json!({ "from": "+18005550100", "recipients": [{ "to": "+14255550123" }] }).to_string();
    for (path, expected) in [
        ("add", json!({ "to": "+14255550123", "httpStatusCode": 200 })),
        ("check", json!({ "to": "+14255550123", "httpStatusCode": 200, "isOptedOut": true })),
        ("remove", json!({ "to": "+14255550123", "httpStatusCode": 200 })),
        ("check", json!({ "to": "+14255550123", "httpStatusCode": 200, "isOptedOut": false })),
    ] {
        let target = format!("/sms/optouts:{path}");
        let reply = running.send(Call::new("POST", format!("{target}?{V2026}")).body(&list)).await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "value": [expected] })), "{path}");
        let reply = running.send(Call::new("POST", format!("{target}?{V2021}")).body(&list)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "UnsupportedApiVersion"));
    }
    let reply = running.send(Call::new("GET", format!("/deliveryReports/x?{V2021}"))).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "UnsupportedApiVersion"));
}
