//! Mail over HTTP: what the handlers' own tests cannot see, namely status lines, headers, limits and the clock.

use std::time::Duration;

use acs_broker::emulator::Operation;
use serde_json::{Value, json};

use super::harness::{Call, Reply, Running, start};

const V2023: &str = "api-version=2023-03-31";
const V2025: &str = "api-version=2025-09-01";
const ID: &str = "8540c0de-899f-5cce-acb5-3ec493af3800";

fn body(to: &str) -> Value {
    json!({
        "senderAddress": "info@contoso.com",
        "content": { "subject": "Hello", "plainText": "Hi" },
        "recipients": { "to": [{ "address": to }] },
    })
}

impl Running {
    async fn mail(&self, version: &str, body: &Value) -> Reply {
        self.send(Call::new("POST", format!("/emails:send?{version}")).body(body.to_string())).await
    }

    /// Polls where the answer says, until the operation has ended.
    async fn ended(&self, location: &str) -> Reply {
        let target = location.strip_prefix(&self.base()).unwrap().to_owned();
        for _ in 0..1000 {
            let reply = self.send(Call::new("GET", target.clone())).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            if reply.json()["status"] != "Running" {
                return reply;
            }
            assert_eq!(reply.header("retry-after"), Some("1"));
            tokio::task::yield_now().await;
        }
        panic!("the operation did not end");
    }
}

#[tokio::test]
async fn a_mail_is_accepted_in_each_version_and_polled_where_the_answer_says() {
    let running = start().await;
    for version in [V2023, V2025] {
        let reply = running.mail(version, &body("a@example.com")).await;
        assert_eq!(reply.status, 202, "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("api-supported-versions"), Some("2023-03-31, 2025-09-01"));
        assert_eq!(reply.header("retry-after"), Some("1"));
        assert!(reply.header("mise-correlation-id").is_some());
        let id = reply.json()["id"].as_str().unwrap().to_owned();
        assert_eq!(reply.json(), json!({ "id": id, "status": "Running", "error": null }));
        let location = reply.header("operation-location").unwrap();
        assert_eq!(location, format!("{}/emails/operations/{id}?{version}", running.base()));
        running.handle.advance(Duration::from_secs(1));
        let ended = running.ended(location).await;
        assert_eq!(ended.json(), json!({ "id": id, "status": "Succeeded", "error": null }));
        assert_eq!(ended.header("retry-after"), None);
    }
    assert_eq!(running.handle.successes(Operation::SendEmail), 2);
}

#[tokio::test]
async fn an_operation_fails_if_all_recipients_are_suppressed() {
    let running = start().await;
    let reply = running.mail(V2023, &body("suppressed@magic.example.net")).await;
    running.handle.advance(Duration::from_secs(1));
    let ended = running.ended(reply.header("operation-location").unwrap()).await;
    assert_eq!(
        (&ended.json()["status"], &ended.json()["error"]["code"]),
        (&json!("Failed"), &json!("EmailDroppedAllRecipientsSuppressed"))
    );
}

#[tokio::test]
async fn an_operation_id_of_the_callers_own_makes_a_repetition_harmless() {
    let running = start().await;
    let send = || {
        let call = Call::new("POST", format!("/emails:send?{V2025}"));
        running.send(call.body(body("a@example.com").to_string()).header("operation-id", ID))
    };
    let (first, again) = (send().await, send().await);
    assert_eq!((first.status, &first.json()["id"]), (202, &json!(ID)));
    assert_eq!((again.status, again.json()), (202, first.json()));
    assert_eq!(again.header("operation-location"), first.header("operation-location"));
}

#[tokio::test]
async fn refusals_have_the_envelope_of_email_and_their_code_in_a_header() {
    let running = start().await;
    let mut unlinked = body("a@example.com");
    unlinked["senderAddress"] = json!("info@not-linked.example.net");
    for (body, status, code, target) in [
        (unlinked, 404, "DomainNotLinked", Value::Null),
        (body("nobody"), 400, "InvalidEmailAddress", json!("recipients.to[0].address")),
        (json!([]), 400, "BadRequest", json!("emailMessage")),
    ] {
        let reply = running.mail(V2025, &body).await;
        assert_eq!((reply.status, reply.header("x-ms-error-code")), (status, Some(code)), "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        let error = reply.json()["error"].clone();
        assert_eq!((&error["code"], &error["target"]), (&json!(code), &target));
        assert_eq!(error["innererror"], Value::Null);
    }
    let reply = running.send(Call::new("GET", format!("/emails/operations/{ID}?{V2023}"))).await;
    assert_eq!((reply.status, reply.header("x-ms-error-code")), (404, Some("NotFound")));
    assert_eq!(running.handle.successes(Operation::SendEmail), 0);
}

#[tokio::test]
async fn a_mail_of_ten_megabytes_is_taken_and_a_larger_one_is_not() {
    let running = start().await;
    for (megabytes, status) in [(9, 202), (11, 413), (13, 413)] {
        let mut body = body("a@example.com");
        body["content"]["plainText"] = json!("a".repeat(megabytes * 1024 * 1024));
        let reply = running.mail(V2025, &body).await;
        assert_eq!(reply.status, status, "{megabytes} MB");
        if status == 413 {
            assert_eq!(reply.header("x-ms-error-code"), Some("RequestEntityTooLarge"));
        }
    }
}
