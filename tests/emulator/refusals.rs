//! What the emulator turns away before any operation is looked at, and how.

use std::time::Duration;

use acs_broker::emulator::{AccessKey, Operation, Settings};
use serde_json::json;

use super::harness::{Call, GA, Reply, Running, start, start_with};

const DENIED: &str = "Denied by the resource provider.";

fn create() -> Call {
    Call::new("POST", format!("/identities?{GA}"))
}

#[track_caller]
fn assert_denied(reply: &Reply, message: &str) {
    assert_eq!(reply.status, 401, "{}", reply.text);
    assert_eq!(reply.json(), json!({ "error": { "code": "Denied", "message": message } }));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("api-supported-versions"), None, "authentication comes before versions");
}

async fn assert_nothing_was_made(running: &Running) {
    assert_eq!(running.handle.identities_alive(), 0);
    assert_eq!(running.handle.successes(Operation::Any), 0);
}

#[tokio::test]
async fn only_the_two_access_keys_open_the_door() {
    let running = start().await;
    for key in [AccessKey::Primary, AccessKey::Secondary] {
        let call = Call { key: Some(running.access_key(key)), ..create() };
        assert_eq!(running.send(call).await.status, 201);
    }
    running.handle.reset();
    let wrong = Call { key: Some("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=".into()), ..create() };
    assert_denied(&running.send(wrong.header("x-ms-client-request-id", "9")).await, DENIED);
    assert_denied(&running.plain("POST", &format!("/identities?{GA}"), "").await, DENIED);
    assert_nothing_was_made(&running).await;
    assert_eq!(running.handle.calls(Operation::CreateIdentity), 2, "refused calls are calls");
}

#[tokio::test]
async fn a_body_changed_after_signing_is_refused_with_its_own_message() {
    let running = start().await;
    let call = Call {
        tampered: Some(r#"{"createTokenWithScopes":["voip"]}"#.into()),
        ..create().body(r#"{"createTokenWithScopes":["chat"]}"#)
    };
    let message = "Request 'x-ms-content-sha256' differs from generated content hash.";
    assert_denied(&running.send(call).await, message);
    assert_nothing_was_made(&running).await;
}

#[tokio::test]
async fn a_date_outside_the_window_is_refused_and_the_window_can_be_set() {
    let running = start().await;
    // The clock shows 12:00:00.123.
    for (date, status) in [
        ("Sun, 22 Nov 2026 11:55:01 GMT", 201),
        ("Sun, 22 Nov 2026 12:05:00 GMT", 201),
        ("Sun, 22 Nov 2026 11:55:00 GMT", 401),
        ("Sun, 22 Nov 2026 12:05:01 GMT", 401),
    ] {
        let reply = running.send(Call { date: Some(date.into()), ..create() }).await;
        assert_eq!(reply.status, status, "{date}");
        if status == 401 {
            assert!(reply.text.contains("greater than the allowed margin of 5 minutes"), "{}", reply.text);
        }
    }
    let settings = Settings { date_margin: Duration::from_secs(10), ..Settings::on_free_ports() };
    let strict = start_with(settings).await;
    let late = Call { date: Some("Sun, 22 Nov 2026 12:00:11 GMT".into()), ..create() };
    assert_eq!(strict.send(late).await.status, 401);
}

#[tokio::test]
async fn each_fault_of_the_version_has_its_published_answer() {
    let running = start().await;
    let uri = format!("{}/identities", running.base());
    for (query, code, message) in [
        ("", "ApiVersionUnspecified", "An API version is required, but was not specified.".to_owned()),
        (
            "?api-version=2024-12-10w-preview",
            "InvalidApiVersion",
            format!(
                "The HTTP resource that matches the request URI '{uri}' does not support the API version \
                 '2024-12-10w-preview'."
            ),
        ),
        (
            "?api-version=2021-03-07",
            "UnsupportedApiVersion",
            format!(
                "The HTTP resource that matches the request URI '{uri}' does not support the API version \
                 '2021-03-07'."
            ),
        ),
    ] {
        let reply = running.send(Call::new("POST", format!("/identities{query}"))).await;
        assert_eq!(reply.status, 400);
        let wanted = json!({ "error": { "code": code, "message": message, "innerError": null } });
        assert_eq!(reply.json(), wanted);
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert!(reply.header("api-supported-versions").is_some());
    }
    for version in ["2023-10-01", "2025-03-02-preview", "2025-06-30"] {
        let reply = running.send(Call::new("POST", format!("/identities?api-version={version}"))).await;
        assert_eq!(reply.status, 201, "{version}");
    }
    let both = running.send(Call { key: Some("AAEC".into()), ..Call::new("POST", "/identities") }).await;
    assert_denied(&both, DENIED);
}

#[tokio::test]
async fn what_is_not_emulated_says_so_by_name() {
    let running = start().await;
    for (method, path, name) in [
        ("GET", "/sms?api-version=2021-03-07", "an SMS operation"),
        ("GET", "/emails/1/status?api-version=2021-10-01-preview", "an Email operation"),
        ("POST", "/chat/threads/1/images?api-version=2025-03-15", "a Chat operation"),
        ("GET", "/rooms?api-version=2024-04-15", "a Rooms operation"),
        ("GET", "/identities?api-version=2023-10-01", "an Identity operation"),
        ("PUT", "/identities/x?api-version=2023-10-01", "an Identity operation"),
        ("POST", "/", "an operation it does not know"),
    ] {
        let reply = running.plain(method, path, "").await;
        assert_eq!((reply.status, reply.code().as_str()), (501, "NotImplemented"), "{method} {path}");
        let message = reply.json()["error"]["message"].as_str().unwrap().to_owned();
        let plain_path = path.split('?').next().unwrap();
        assert!(message.contains(name) && message.contains(plain_path), "{message}");
    }
    assert_eq!(running.handle.calls(Operation::Any), 0);
}

#[tokio::test]
async fn bodies_that_cannot_be_meant_are_refused() {
    let running = start().await;
    let id = running.create().await;
    for body in
        ["{", "[]", "\"chat\"", r#"{"scopes":"chat"}"#, r#"{"scopes":[]}"#, r#"{"scopes":["pstn"]}"#, ""]
    {
        let reply = running.issue(&id, body).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "ValidationError"), "{body}");
    }
    let xml = create().body("<x/>").header("content-type", "text/xml");
    let reply = running.send(xml).await;
    assert_eq!((reply.status, reply.code().as_str()), (415, "UnsupportedMediaType"));
    let reply = running.send(create().body(format!("\"{}\"", "x".repeat(64 * 1024)))).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "RequestEntityTooLarge"));
    assert_eq!(running.handle.identities_alive(), 1);
}

#[tokio::test]
async fn a_request_id_too_long_to_be_one_is_not_echoed() {
    let running = start().await;
    let reply = running.send(create().header("x-ms-client-request-id", "x".repeat(257))).await;
    assert_eq!(reply.status, 201);
    assert_eq!(reply.header("x-ms-client-request-id"), None);
}
