//! The control paths for other processes.

use acs_broker::emulator::Operation;
use serde_json::json;

use super::harness::{Call, GA, client_builder, start};

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
    assert_eq!(identities, json!({ "alive": 1, "ids": [id] }));
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
    assert_eq!((reply.status, reply.code().as_str()), (400, "InvalidFault"));
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
async fn a_web_page_cannot_use_them() {
    let running = start().await;
    let client = client_builder().build().unwrap();
    let reset = || client.post(format!("{}/_emulator/reset", running.base()));
    let with_origin = reset().header("origin", "https://example.com").send().await.unwrap();
    assert_eq!(with_origin.status(), 403);
    let rebound = reset().header("host", "attacker.example:8082").send().await.unwrap();
    assert_eq!(rebound.status(), 403);
    for host in ["localhost:8082", "127.0.0.1", "[::1]:8082"] {
        assert_eq!(reset().header("host", host).send().await.unwrap().status(), 204, "{host}");
    }
}

#[tokio::test]
async fn there_is_nothing_else() {
    let running = start().await;
    for (method, path) in [
        ("GET", "/_emulator/"),
        ("GET", "/_emulator"),
        ("GET", "/_emulator/keys"),
        ("DELETE", "/_emulator/calls"),
    ] {
        assert_eq!(running.plain(method, path, "").await.status, 404, "{method} {path}");
    }
}
