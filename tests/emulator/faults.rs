//! Faults on request: each strikes as asked, before or after the effect.

use std::time::{Duration, Instant};

use acs_broker::emulator::{Fault, Operation};

use super::harness::{Call, GA, Running, action, of, start};

fn create() -> Call {
    Call::new("POST", format!("/identities?{GA}"))
}

#[tokio::test]
async fn a_throttled_operation_answers_429_with_or_without_retry_after_and_then_recovers() {
    let running = start().await;
    let faults = running.handle.faults();
    faults.next(Operation::CreateIdentity, Fault::throttled(7), 1);
    faults.next(Operation::CreateIdentity, Fault::status(429), 1);
    for retry_after in [Some("7"), None] {
        let reply = running.send(create()).await;
        assert_eq!((reply.status, reply.header("retry-after")), (429, retry_after));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.code(), "TooManyRequests");
    }
    assert_eq!(running.handle.identities_alive(), 0);
    assert_eq!(running.send(create()).await.status, 201);
    assert_eq!(running.handle.calls(Operation::CreateIdentity), 3);
    assert_eq!(running.handle.successes(Operation::CreateIdentity), 1);
}

#[tokio::test]
async fn a_failure_strikes_before_or_after_the_effect() {
    let running = start().await;
    let faults = running.handle.faults();
    faults.next(Operation::CreateIdentity, Fault::status(500), 1);
    assert_eq!(running.send(create()).await.status, 500);
    assert_eq!(running.handle.identities_alive(), 0);
    faults.next(Operation::CreateIdentity, Fault::status(503).with_retry_after(1).after_commit(), 1);
    let reply = running.send(create()).await;
    assert_eq!((reply.status, reply.code().as_str()), (503, "ServiceUnavailable"));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert_eq!(running.handle.identities_alive(), 1);
}

#[tokio::test]
async fn a_dropped_connection_strikes_before_or_after_the_effect() {
    let running = start().await;
    let id = running.create().await;
    for (fault, alive) in [(Fault::drop_connection(), 1), (Fault::drop_connection().after_commit(), 0)] {
        running.handle.faults().next(Operation::DeleteIdentity, fault, 1);
        let error = running.try_send(Call::new("DELETE", of(&id))).await.err().unwrap();
        assert!(error.is_request() && !error.is_timeout(), "{error:?}");
        assert_eq!(running.handle.identities_alive(), alive);
    }
    assert_eq!(running.handle.calls(Operation::DeleteIdentity), 2);
    assert_eq!(running.handle.successes(Operation::DeleteIdentity), 1);
}

#[tokio::test]
async fn each_operation_has_its_own_faults_and_any_means_all() {
    let running = start().await;
    let id = running.create().await;
    let issue = || Call::new("POST", action(&id, "issueAccessToken")).body(r#"{"scopes":["chat"]}"#);
    let revoke = || Call::new("POST", action(&id, "revokeAccessTokens"));
    running.handle.faults().until_cleared(Operation::IssueToken, Fault::status(500));
    for _ in 0..3 {
        assert_eq!(running.send(issue()).await.status, 500);
    }
    assert_eq!(running.send(revoke()).await.status, 204);
    running.handle.faults().clear(Operation::IssueToken);
    assert_eq!(running.send(issue()).await.status, 200);
    running.handle.faults().next(Operation::Any, Fault::status(502), 2);
    assert_eq!(running.send(revoke()).await.status, 502);
    assert_eq!(running.send(Call::new("DELETE", of(&id))).await.status, 502);
    assert_eq!(running.send(Call::new("DELETE", of(&id))).await.status, 204);
}

#[tokio::test]
async fn a_refused_request_uses_no_fault_up() {
    let running = start().await;
    running.handle.faults().next(Operation::CreateIdentity, Fault::status(503), 1);
    let wrong = Call { key: Some("AAEC".into()), ..create() };
    assert_eq!(running.send(wrong).await.status, 401);
    assert_eq!(running.handle.faults().pending(), 1);
    assert_eq!(running.send(create()).await.status, 503);
}

#[tokio::test]
async fn latency_delays_a_correct_answer() {
    let running = start().await;
    running.handle.faults().next(Operation::CreateIdentity, Fault::latency(Duration::from_millis(80)), 1);
    let before = Instant::now();
    assert_eq!(running.send(create()).await.status, 201);
    assert!(before.elapsed() >= Duration::from_millis(80));
}

/// Waits until the emulator is in the state described; the deadline is for a test that fails.
async fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::task::yield_now().await;
    }
}

async fn hung(running: &Running, fault: Fault, alive: usize) {
    running.handle.faults().next(Operation::CreateIdentity, fault, 1);
    {
        let request = running.try_send(create());
        let hangs = wait_until("the request hangs", || {
            running.handle.in_flight(Operation::CreateIdentity) == 1
                && running.handle.faults().pending() == 0
                && running.handle.identities_alive() == alive
        });
        tokio::select! {
            reply = request => panic!("it was answered: {:?}", reply.map(|reply| reply.status)),
            () = hangs => {}
        }
    }
    // The request was given up, so its connection is closed and the emulator forgets it.
    wait_until("the request is forgotten", || running.handle.in_flight(Operation::Any) == 0).await;
}

#[tokio::test]
async fn a_hanging_request_ends_with_its_caller_and_had_its_effect_only_when_asked() {
    let running = start().await;
    hung(&running, Fault::hang(), 0).await;
    hung(&running, Fault::hang().after_commit(), 1).await;
}

#[tokio::test]
async fn shutting_down_ends_what_hangs() {
    let running = start().await;
    running.handle.faults().next(Operation::CreateIdentity, Fault::hang(), 1);
    let url = format!("{}/identities?{GA}", running.base());
    let host = running.handle.http_addr().to_string();
    let key = running.access_key(acs_broker::emulator::AccessKey::Primary);
    let date = "Sun, 22 Nov 2026 12:00:00 GMT";
    let hash = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
    let target = format!("/identities?{GA}");
    let authorization = super::harness::sign("POST", &target, date, &host, hash, &key);
    let request = super::harness::client_builder()
        .build()
        .unwrap()
        .post(url)
        .header("x-ms-date", date)
        .header("x-ms-content-sha256", hash)
        .header("authorization", authorization);
    let caller = tokio::spawn(request.send());
    wait_until("the request hangs", || {
        running.handle.in_flight(Operation::CreateIdentity) == 1 && running.handle.faults().pending() == 0
    })
    .await;
    let before = Instant::now();
    running.handle.shutdown().await;
    assert!(before.elapsed() < Duration::from_secs(2));
    assert!(caller.await.unwrap().is_err());
}

#[tokio::test]
async fn concurrent_requests_are_counted() {
    let running = start().await;
    running.handle.faults().next(Operation::CreateIdentity, Fault::hang(), 4);
    {
        let calls = futures_util::future::join_all((0..4).map(|_| running.send(create())));
        let all_there =
            wait_until("all are there", || running.handle.in_flight(Operation::CreateIdentity) == 4);
        tokio::select! {
            _ = calls => panic!("they were answered"),
            () = all_there => {}
        }
    }
    wait_until("all are gone", || running.handle.in_flight(Operation::Any) == 0).await;
    assert_eq!(running.handle.most_in_flight(Operation::CreateIdentity), 4);
    running.handle.reset();
    assert_eq!(running.handle.most_in_flight(Operation::CreateIdentity), 0);
}
