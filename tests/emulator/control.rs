//! The control paths for other processes.

use acs_broker::emulator::Operation;
use serde_json::json;

use super::harness::{Call, GA, start};
use crate::emulator_control::Control;

fn create() -> Call {
    Call::new("POST", format!("/identities?{GA}"))
}

#[tokio::test]
async fn calls_and_identities_can_be_read_and_reset() {
    let running = start().await;
    let id = running.create().await;
    running.token(&id).await;
    let calls = running.plain("GET", "/_emulator/calls", "").await;
    assert_eq!(calls.status, 200);
    let calls = calls.json();
    let called: Vec<_> = calls.as_object().unwrap().iter().filter(|(_, count)| **count != 0).collect();
    assert_eq!(calls.as_object().unwrap().len(), 39, "every operation has its count");
    assert_eq!(called, [(&"create_identity".to_owned(), &json!(1)), (&"issue_token".to_owned(), &json!(1))]);
    let identities = running.plain("GET", "/_emulator/identities", "").await.json();
    assert_eq!(identities["alive"], 1);
    assert_eq!(identities["ids"], json!([id]));
    assert_eq!(identities["identities"].as_array().unwrap().len(), 1);
    assert_eq!(running.plain("POST", "/_emulator/reset", "").await.status, 204);
    assert_eq!(running.plain("GET", "/_emulator/identities", "").await.json()["alive"], 0);
    assert_eq!(running.handle.calls(Operation::Any), 0);
    assert_eq!(running.send(create()).await.status, 201, "the keys outlive a reset");
}

#[tokio::test]
async fn faults_can_be_asked_for_and_are_gone_after_a_reset() {
    let running = start().await;
    let fault =
        r#"{"operation":"create_identity","effect":"answer","status":429,"retry_after_seconds":5,"count":1}"#;
    assert_eq!(running.plain("POST", "/_emulator/faults", fault).await.status, 204);
    let reply = running.send(create()).await;
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("5")));
    assert_eq!(running.send(create()).await.status, 201);

    let lasting = r#"{"operation":"any","effect":"answer","status":500}"#;
    assert_eq!(running.plain("POST", "/_emulator/faults", lasting).await.status, 204);
    for _ in 0..3 {
        assert_eq!(running.send(create()).await.status, 500);
    }
    running.plain("POST", "/_emulator/reset", "").await;
    assert_eq!(running.send(create()).await.status, 201);

    let reply = running.plain("POST", "/_emulator/faults", r#"{"operation":"sms","effect":"drop"}"#).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidRequest"));
}

#[tokio::test]
async fn waiting_faults_are_limited_in_number() {
    let running = start().await;
    let fault = r#"{"operation":"any","effect":"drop","count":1}"#;
    for _ in 0..1000 {
        assert_eq!(running.plain("POST", "/_emulator/faults", fault).await.status, 204);
    }
    assert_eq!(running.plain("POST", "/_emulator/faults", fault).await.status, 400);
}

#[tokio::test]
async fn every_path_has_its_methods_and_nothing_else_is_there() {
    let running = start().await;
    let control = Control::at(running.base());
    for (method, path, allowed) in [
        ("POST", "", "GET"),
        ("POST", "status", "GET"),
        ("POST", "messages", "GET"),
        ("DELETE", "messages/x", "GET"),
        ("GET", "messages/wait", "POST"),
        ("GET", "messages/assert", "POST"),
        ("POST", "threads", "GET"),
        ("DELETE", "identities", "GET, POST"),
        ("GET", "sms/inbound", "POST"),
        ("GET", "emails/x/engagement", "POST"),
        ("POST", "emails/x/source", "GET"),
        ("POST", "emails/x/preview", "GET"),
        ("POST", "emails/x/attachments/0", "GET"),
        ("PUT", "faults", "GET, POST, DELETE"),
        ("PUT", "clock", "GET, POST"),
        ("GET", "keys/rotate", "POST"),
        ("DELETE", "calls", "GET"),
        ("POST", "calls/log", "GET"),
        ("POST", "calls/log.txt", "GET"),
        ("POST", "events", "GET"),
        ("PUT", "events/validate", "GET, POST"),
        ("POST", "webhooks", "GET, PUT"),
        ("GET", "reset", "POST"),
        ("POST", "stream", "GET"),
    ] {
        let answered = control.send(control.request(method, path)).await;
        assert_eq!(answered.refused().0, 405, "{method} {path}");
        assert_eq!(answered.headers["allow"], allowed, "{method} {path}");
    }
    for path in
        ["keys", "status/", "messages/", "emails/x", "emails/x/attachments", "x%2Fy", "calls/log.json"]
    {
        let answered = control.get(path).await;
        let (status, code, message) = answered.refused();
        assert_eq!((status, code), (404, "NotFound"), "{path}");
        assert!(message.contains(&path.replace("%2F", "/")), "{message}");
    }
    assert_eq!(running.plain("GET", "/_emulator/%FF", "").await.status, 501, "as every path that is no text");
    for path in ["messages/8:nobody", "emails/x/source", "emails/x/preview", "emails/x/attachments/0"] {
        assert_eq!(control.get(path).await.refused().0, 404, "{path}");
    }
}

#[tokio::test]
async fn the_page_is_at_the_end_of_two_redirections() {
    let running = start().await;
    for path in ["/", "/_emulator", "/_emulator/"] {
        let page = running.plain("GET", path, "").await;
        assert_eq!(page.status, 200, "{path}");
        assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"), "{path}");
        assert!(page.text.to_lowercase().starts_with("<!doctype html>"), "{path}");
    }
}

#[tokio::test]
async fn a_mistake_is_answered_with_the_field_that_has_it() {
    let running = start().await;
    let control = Control::at(running.base());
    for (method, path, body, field) in [
        ("GET", "status?x=1", "", "x"),
        ("GET", "messages?kind=fax", "", "kind"),
        ("GET", "messages?direction=up", "", "direction"),
        ("GET", "messages?limit=0", "", "limit"),
        ("GET", "messages?limit=1001", "", "limit"),
        ("GET", "messages?after=x", "", "after"),
        ("GET", "messages?to=1&to=2", "", "to"),
        ("GET", "messages?form=1", "", "form"),
        ("GET", "threads?limit=-1", "", "limit"),
        ("GET", "identities?after=1", "", "after"),
        ("GET", "calls/log?limit=x", "", "limit"),
        ("GET", "events?kind=x", "", "kind"),
        ("GET", "events/validate", "", "id"),
        ("GET", "events/validate?id=x", "", "id"),
        ("DELETE", "faults?operation=fax", "", "operation"),
        ("POST", "messages/wait", "", "body"),
        ("POST", "messages/wait", "[]", "body"),
        ("POST", "messages/wait", r#"{"match":{"kind":"fax"}}"#, "match.kind"),
        ("POST", "messages/wait", r#"{"match":{"limit":1}}"#, "limit"),
        ("POST", "messages/wait", r#"{"count":0}"#, "count"),
        ("POST", "messages/wait", r#"{"count":1001}"#, "count"),
        ("POST", "messages/wait", r#"{"timeout_ms":600001}"#, "timeout_ms"),
        ("POST", "messages/wait", r#"{"timeout":1}"#, "timeout"),
        ("POST", "messages/assert", "{}", "exactly"),
        ("POST", "messages/assert", r#"{"exactly":1,"at_least":1}"#, "exactly"),
        ("POST", "messages/assert", r#"{"at_most":1,"at_least":2}"#, "at_most"),
        ("POST", "messages/assert", r#"{"at_most":-1}"#, "at_most"),
        ("POST", "identities", r#"{"users":[{"minutes":59}]}"#, "users[0].minutes"),
        ("POST", "identities", r#"{"users":[{"minutes":1441}]}"#, "users[0].minutes"),
        ("POST", "identities", r#"{"users":[{},{"scopes":["fax"]}]}"#, "users[1]"),
        ("POST", "identities", r#"{"users":[{"name":"a"}]}"#, "name"),
        ("POST", "sms/inbound", r#"{"from":"+14255550123","to":"+18005550100"}"#, "message"),
        ("POST", "sms/inbound", r#"{"from":"+14255550123","to":"+18005550199","message":"a"}"#, "to"),
        ("POST", "faults", r#"{"operation":"any","effect":"slow_body"}"#, "over_ms"),
        ("POST", "clock", r#"{"advance":"366d"}"#, "advance"),
        ("POST", "clock", r#"{"advance_ms":31536000001}"#, "advance_ms"),
        ("POST", "keys/rotate", r#"{"key":"third"}"#, "key"),
        ("PUT", "webhooks", "{}", "array"),
        ("PUT", "webhooks", r#"[{"url":5}]"#, "[0].url"),
    ] {
        let answered = control.send(control.request(method, path).body(body)).await;
        let (status, code, message) = answered.refused();
        assert_eq!((status, code), (400, "InvalidRequest"), "{method} {path} {body}: {message}");
        assert!(message.contains(field), "{method} {path} {body}: {message}");
    }
}
