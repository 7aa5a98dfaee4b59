//! What the core learns of each way a call can end, against scripted servers.

use super::*;
use crate::acs::testing::{ACCESS_KEY, Play, Server, client, hasty, settings};
use crate::clock::ManualClock;

const ID: &str = "8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";
const NOW: Timestamp = Timestamp::from_millis(1_741_064_767_000);

fn upstream(server: &Server, custom_id: CustomId) -> (Upstream, Metrics) {
    let metrics = Metrics::new();
    let clock = Arc::new(ManualClock::at(NOW));
    let client = client(&settings(), &server.endpoint());
    (Upstream::new(client, custom_id, Duration::from_secs(8), clock, metrics.clone()), metrics)
}

fn identity() -> IdentityId {
    IdentityId::parse(ID).unwrap()
}

fn chat() -> ScopeSet {
    ScopeSet::new([crate::broker::types::Scope::Chat]).unwrap()
}

fn token_body() -> &'static str {
    r#"{"token":"t.t.t","expiresOn":"2025-03-04T06:06:07.0000000+00:00"}"#
}

async fn issue(upstream: &Upstream) -> Result<AccessToken, Error> {
    upstream.issue_token(&identity(), chat(), Validity::MIN).await
}

#[tokio::test]
async fn a_token_knows_its_times_and_the_key_that_issued_it() {
    let server = Server::start([Play::json(200, token_body())]).await;
    let (upstream, metrics) = upstream(&server, CustomId::Off);
    let token = issue(&upstream).await.unwrap();
    assert_eq!((token.issued_at, token.expires_at), (NOW, NOW.plus(Duration::from_secs(3600))));
    assert_eq!(token.secret.expose(), "t.t.t");
    let key: Vec<u8> = (0..32).collect();
    assert_eq!((token.key, upstream.key()), (KeyId::of(&key), KeyId::of(&key)));
    let text = metrics.render();
    assert!(
        text.contains(r#"upstream_call_duration_seconds_count{operation="issue_token",outcome="ok"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn acs_is_told_of_the_user_as_the_setting_says() {
    let created =
        || Play::json(201, &format!(r#"{{"identity":{{"id":"{ID}"}},"accessToken":{}}}"#, token_body()));
    // printf alice | sha256sum
    let hash = "2bd806c97f0e00af1a1fc3328fa763a9269723c8db8fac4f93af71db186d6e90";
    for (custom_id, sent) in [
        (CustomId::Off, String::new()),
        (CustomId::Plain, r#""customId":"alice","#.to_owned()),
        (CustomId::Sha256, format!(r#""customId":"{hash}","#)),
    ] {
        let server = Server::start([created()]).await;
        let (upstream, _) = upstream(&server, custom_id);
        let user = UserId::parse("alice").unwrap();
        let created = upstream.create_identity(&user, Some((chat(), Validity::MAX))).await.unwrap();
        assert_eq!(created.identity, identity());
        assert_eq!(created.token.unwrap().issued_at, NOW);
        let body = server.received().pop().unwrap().body;
        assert_eq!(body, format!(r#"{{{sent}"createTokenWithScopes":["chat"],"expiresInMinutes":1440}}"#));
    }
}

#[tokio::test]
async fn each_failure_tells_the_core_what_to_do_and_is_counted() {
    let second = Duration::from_secs(1);
    let half_minute = Duration::from_secs(30);
    for (play, outcome, reason, wait) in [
        (Play::with(429, "Retry-After: 30\r\n", ""), "throttled", "ACS_THROTTLED", Some(half_minute)),
        (Play::with(503, "Retry-After: 30\r\n", ""), "unavailable", "ACS_UNAVAILABLE", Some(half_minute)),
        (Play::json(501, ""), "unavailable", "ACS_UNAVAILABLE", Some(second)),
        (Play::json(200, "?"), "unavailable", "ACS_UNAVAILABLE", Some(second)),
        (Play::json(401, ""), "refused", "ACS_CREDENTIALS_REFUSED", None),
        (Play::json(404, ""), "rejected", "ACS_REJECTED", None),
    ] {
        let server = Server::start([play]).await;
        let (upstream, metrics) = upstream(&server, CustomId::Off);
        let error = issue(&upstream).await.unwrap_err();
        assert_eq!((error.reason(), error.retry_after()), (reason, wait), "{error:?}");
        let text = metrics.render();
        assert!(text.contains(&format!(r#"{{operation="issue_token",outcome="{outcome}"}} 1"#)), "{text}");
    }
}

#[tokio::test]
async fn throttling_without_a_delay_asks_callers_to_wait_a_second() {
    let server = Server::start(vec![Play::json(429, ""); 3]).await;
    let (upstream, _) = upstream(&server, CustomId::Off);
    let error = issue(&upstream).await.unwrap_err();
    assert_eq!((error.reason(), error.retry_after()), ("ACS_THROTTLED", Some(Duration::from_secs(1))));
    assert_eq!(server.received().len(), 3);
}

#[tokio::test]
async fn a_rejection_carries_status_code_and_request_id() {
    let body = r#"{"error":{"code":"ValidationError","message":"secret words"}}"#;
    let server = Server::start([Play::json(400, body)]).await;
    let (upstream, _) = upstream(&server, CustomId::Off);
    let Err(Error::AcsRejected { status, code, request_id }) = issue(&upstream).await else {
        panic!("rejected")
    };
    assert_eq!((status, code.as_str()), (400, "ValidationError"));
    assert_eq!(request_id, server.received()[0].header("x-ms-client-request-id"));
}

#[tokio::test]
async fn the_gauge_shows_a_refused_credential_and_nothing_more_is_sent() {
    let gauge = |metrics: &Metrics| {
        let text = metrics.render();
        text.lines()
            .find_map(|line| line.strip_prefix("acs_broker_acs_credential_refused "))
            .unwrap()
            .to_owned()
    };
    // The call and the probe after it; what comes later is not sent at all.
    let server = Server::start([Play::json(401, ""), Play::json(401, "")]).await;
    let (upstream, metrics) = upstream(&server, CustomId::Off);
    assert_eq!(gauge(&metrics), "0");
    for _ in 0..3 {
        assert_eq!(issue(&upstream).await.unwrap_err().reason(), "ACS_CREDENTIALS_REFUSED");
        assert_eq!(gauge(&metrics), "1");
    }
    assert_eq!(server.received().len(), 2);
    // What refuses one call and not the probe is no fault of the credential.
    let server = Server::start([Play::json(403, ""), Play::json(400, "")]).await;
    let (upstream, metrics) = super::tests::upstream(&server, CustomId::Off);
    assert_eq!(issue(&upstream).await.unwrap_err().reason(), "ACS_CREDENTIALS_REFUSED");
    assert_eq!(gauge(&metrics), "0");
}

#[tokio::test]
async fn no_call_outlasts_the_timeout() {
    let server = Server::start(vec![Play::Hang; 9]).await;
    let metrics = Metrics::new();
    let clock = Arc::new(ManualClock::at(NOW));
    let patient = acs::Settings { attempts: 10, ..hasty() };
    let client = client(&patient, &server.endpoint());
    let upstream = Upstream::new(client, CustomId::Off, Duration::from_millis(400), clock, metrics);
    let started = Instant::now();
    let error = upstream.revoke_tokens(&identity()).await.unwrap_err();
    assert_eq!(error.reason(), "ACS_UNAVAILABLE");
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_id_that_the_core_cannot_hold_is_no_identity() {
    let body = format!(r#"{{"identity":{{"id":"{}"}}}}"#, "x".repeat(257));
    let server = Server::start([Play::json(201, &body)]).await;
    let (upstream, _) = upstream(&server, CustomId::Off);
    let error = upstream.create_identity(&UserId::parse("alice").unwrap(), None).await.unwrap_err();
    assert_eq!(error.reason(), "ACS_UNAVAILABLE");
}

#[tokio::test]
async fn errors_and_their_causes_name_no_id_key_or_upstream_text() {
    let body = format!(r#"{{"error":{{"code":"X","message":"Identity {ID} secretly"}}}}"#);
    for status in [400, 401, 501] {
        let server = Server::start([Play::json(status, &body)]).await;
        let (upstream, _) = upstream(&server, CustomId::Off);
        let error = issue(&upstream).await.unwrap_err();
        assert!(!error.to_string().contains("secretly"), "{error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(ID) && !shown.contains(ACCESS_KEY), "{shown}");
    }
}
