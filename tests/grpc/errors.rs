//! Every row of docs/errors.md, provoked through the API by a client that reads the details.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::broker::error::Error;
use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use tonic::{Code, Request, Status};

use crate::harness::{anybody, message, refused, start, start_default, wish};
use crate::ports::{Trouble, insert};

const ISSUE: &str = "/acsbroker.v1.TokenService/IssueToken";
const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

fn unavailable() -> Error {
    Error::AcsUnavailable { retry_after: Duration::from_secs(3), cause: None }
}

#[tokio::test]
async fn all_violations_of_a_request_are_reported_together() {
    let server = start_default().await;
    let request = v1::IssueTokenRequest {
        user_id: "a\nb".into(),
        scopes: vec![1, 0, 77],
        min_remaining: Some(prost_types::Duration { seconds: -1, nanos: 0 }),
        validity: Some(prost_types::Duration { seconds: 59 * 60, nanos: 0 }),
    };
    let status = server.tokens().await.issue_token(request).await.unwrap_err();
    let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|field| field.field.as_str()).collect();
    assert_eq!(fields, ["user_id", "scopes[1]", "scopes[2]", "min_remaining", "validity"]);
    assert!(!status.message().contains('\n') && !status.message().contains("77"));
}

#[tokio::test]
async fn an_empty_chain_refuses_every_method_of_both_services() {
    let server = start(std::sync::Arc::new(acs_broker::auth::Gate::shut()), Settings::default()).await;
    let (mut tokens, mut identities) = (server.tokens().await, server.identities().await);
    let import = futures_util::stream::iter([v1::ImportIdentitiesRequest::default()]);
    let answers: Vec<Option<Status>> = vec![
        tokens.issue_token(wish("user")).await.err(),
        tokens.refresh_token(v1::RefreshTokenRequest::default()).await.err(),
        tokens.revoke_tokens(v1::RevokeTokensRequest::default()).await.err(),
        identities.resolve_identity(v1::ResolveIdentityRequest::default()).await.err(),
        identities.get_identity(v1::GetIdentityRequest::default()).await.err(),
        identities.delete_identity(v1::DeleteIdentityRequest::default()).await.err(),
        identities.list_identities(v1::ListIdentitiesRequest::default()).await.err(),
        identities.import_identities(import).await.err(),
    ];
    for answer in answers {
        refused(&answer.unwrap(), Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
    let unknown = server.raw(message("/no.such/Method", &[])).await;
    assert_eq!(Status::from_header_map(unknown.headers()).unwrap().code(), Code::Unauthenticated);
    assert_eq!(server.store.users(), 0);
}

#[tokio::test]
async fn a_user_without_identity_is_named_by_type_alone() {
    let server = start_default().await;
    let mut identities = server.identities().await;
    let key = Some(v1::get_identity_request::Key::UserId("needle".into()));
    let status = identities.get_identity(v1::GetIdentityRequest { key }).await.unwrap_err();
    let details = refused(&status, Code::NotFound, "IDENTITY_NOT_FOUND");
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("acsbroker.v1.Identity", "")
    );
    assert!(!format!("{status:?} {}", String::from_utf8_lossy(status.details())).contains("needle"));

    let refresh = v1::RefreshTokenRequest { user_id: "needle".into(), scopes: vec![1], validity: None };
    let status = server.tokens().await.refresh_token(refresh).await.unwrap_err();
    refused(&status, Code::NotFound, "IDENTITY_NOT_FOUND");
}

#[tokio::test]
async fn an_identity_that_changes_under_a_revocation_aborts_it() {
    let server = start_default().await;
    insert(&server.store, "user", "8:acs:a_b").await;
    server.store.set(Trouble::Changes);
    let request = v1::RevokeTokensRequest { user_id: "user".into(), request_id: String::new() };
    let status = server.tokens().await.revoke_tokens(request).await.unwrap_err();
    refused(&status, Code::Aborted, "CONCURRENT_CHANGE");
}

#[tokio::test]
async fn a_request_id_is_held_while_it_runs_and_is_good_for_one_request() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    insert(&server.store, "one", "8:acs:a_1").await;
    insert(&server.store, "two", "8:acs:a_2").await;
    let revoke = |user: &str| v1::RevokeTokensRequest { user_id: user.into(), request_id: UUID.into() };
    tokens.revoke_tokens(revoke("one")).await.unwrap();
    tokens.revoke_tokens(revoke("one")).await.unwrap();

    let status = tokens.revoke_tokens(revoke("two")).await.unwrap_err();
    let details = refused(&status, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "request_id");

    server.store.hold_requests();
    let status = tokens.revoke_tokens(revoke("one")).await.unwrap_err();
    let details = refused(&status, Code::Aborted, "REQUEST_IN_PROGRESS");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_millis(750)));
}

#[tokio::test]
async fn what_acs_answers_becomes_the_callers_instruction() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let seconds = Duration::from_secs;
    let rejected =
        Error::AcsRejected { status: 400, code: "BadRequest".into(), request_id: "upstream-7".into() };
    for (error, code, reason, delay) in [
        (
            Error::AcsThrottled { retry_after: seconds(7) },
            Code::ResourceExhausted,
            "ACS_THROTTLED",
            Some(seconds(7)),
        ),
        (unavailable(), Code::Unavailable, "ACS_UNAVAILABLE", Some(seconds(3))),
        (rejected, Code::FailedPrecondition, "ACS_REJECTED", None),
        (Error::AcsCredentialsRefused, Code::Internal, "ACS_CREDENTIALS_REFUSED", None),
    ] {
        server.acs.fail_with(error);
        let status = tokens.issue_token(wish("user")).await.unwrap_err();
        let details = refused(&status, code, reason);
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), delay);
        if reason == "ACS_REJECTED" {
            let metadata = &details.error_info().unwrap().metadata;
            assert_eq!(metadata["acs_request_id"], "upstream-7");
            assert_eq!(
                (metadata["acs_status"].as_str(), metadata["acs_code"].as_str()),
                ("400", "BadRequest")
            );
        }
        assert!(server.metrics.render().contains(&format!("errors_total{{reason=\"{reason}\"}} 1")));
    }
}

#[tokio::test]
async fn what_the_store_fails_with_is_never_shown() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    for (trouble, code, reason, retry) in [
        (Trouble::Unavailable, Code::Unavailable, "STORE_UNAVAILABLE", true),
        (Trouble::Corrupt, Code::Internal, "INTERNAL", false),
    ] {
        server.store.set(trouble);
        let status = tokens.issue_token(wish("user")).await.unwrap_err();
        let details = refused(&status, code, reason);
        assert_eq!(details.retry_info().is_some(), retry);
        assert!(!format!("{status:?}{}", String::from_utf8_lossy(status.details())).contains("for the log"));
    }
}

#[tokio::test]
async fn a_deadline_that_passes_is_answered_with_details_by_the_server() {
    let server = start_default().await;
    server.acs.hang();
    let by_header = || {
        let mut request = Request::new(wish("user"));
        request.metadata_mut().insert("grpc-timeout", "300m".parse().unwrap());
        request
    };
    let by_setting = || {
        let mut request = Request::new(wish("user"));
        request.set_timeout(Duration::from_millis(500));
        request
    };
    for request in [&by_header as &dyn Fn() -> _, &by_setting] {
        // The client keeps the time itself. The server's answer leaves a little before, which a busy machine may eat up;
        // if it left at the same time or later, no client would ever see it.
        let mut status = Status::ok("");
        for _ in 0..20 {
            status = server.tokens().await.issue_token(request()).await.unwrap_err();
            if !status.details().is_empty() {
                break;
            }
        }
        refused(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
    }
}

#[tokio::test]
async fn the_default_deadline_holds_for_callers_that_set_none() {
    let settings = Settings { default_deadline: Duration::from_millis(100), ..Settings::default() };
    let server = start(anybody(), settings).await;
    server.acs.hang();
    let status = server.tokens().await.issue_token(wish("user")).await.unwrap_err();
    refused(&status, Code::DeadlineExceeded, "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_call_too_many_is_refused_at_once_and_probes_are_not() {
    let server = Arc::new(start(anybody(), Settings { max_in_flight: 1, ..Settings::default() }).await);
    server.acs.hang();
    let mut tokens = server.tokens().await;
    let first = tokio::spawn({
        let mut tokens = tokens.clone();
        async move { tokens.issue_token(wish("user")).await }
    });
    let metrics = server.metrics.clone();
    crate::harness::eventually("the first call is in flight", || {
        metrics.render().contains("acs_broker_rpcs_in_flight 1")
    })
    .await;

    let status = tokens.issue_token(wish("other")).await.unwrap_err();
    let details = refused(&status, Code::ResourceExhausted, "BROKER_OVERLOADED");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel().await);
    health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();

    // The caller of the first hangs up: its seat is free again.
    first.abort();
    crate::harness::eventually("the first call counts as cancelled", || {
        server.counted("acsbroker.v1.TokenService/IssueToken", "CANCELLED") == 1
    })
    .await;
    let request = v1::GetIdentityRequest { key: Some(v1::get_identity_request::Key::UserId("user".into())) };
    let status = server.identities().await.get_identity(request).await.unwrap_err();
    refused(&status, Code::NotFound, "IDENTITY_NOT_FOUND");
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_and_one_at_the_limit_is_read() {
    let server = start(anybody(), Settings { max_message_bytes: 1024, ..Settings::default() }).await;
    let mut tokens = server.tokens().await;
    // Two bytes of the message are scopes' tag, length and content, three the user id's.
    let status = tokens.issue_token(wish(&"x".repeat(1024))).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    let status = tokens.issue_token(wish(&"x".repeat(1000))).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "INVALID_FIELD");

    // In a stream, too.
    let identity = v1::Identity { user_id: "x".repeat(2000), ..v1::Identity::default() };
    let entry = v1::ImportIdentitiesRequest { identity: Some(identity), validate_only: false };
    let import = futures_util::stream::iter([entry]);
    let status = server.identities().await.import_identities(import).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn bytes_that_are_no_message_are_the_callers_mistake() {
    let server = start_default().await;
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x0a\x05ab", b"\x0a\x02\xff\xfe"] {
        let response = server.raw(message(ISSUE, bytes)).await;
        refused(
            &Status::from_header_map(response.headers()).unwrap(),
            Code::InvalidArgument,
            "MESSAGE_MALFORMED",
        );
    }
    let mut nothing = message(ISSUE, &[]);
    *nothing.body_mut() = tonic::body::Body::empty();
    let response = server.raw(nothing).await;
    refused(
        &Status::from_header_map(response.headers()).unwrap(),
        Code::InvalidArgument,
        "MESSAGE_MALFORMED",
    );
}

#[tokio::test]
async fn unknown_methods_and_compressed_requests_are_unimplemented() {
    let server = start_default().await;
    for path in ["/no.such.Service/Method", "/acsbroker.v1.TokenService/NoSuchMethod", "/", "/a/b/c"] {
        let response = server.raw(message(path, &[])).await;
        let status = Status::from_header_map(response.headers()).unwrap();
        refused(&status, Code::Unimplemented, "METHOD_UNKNOWN");
    }
    assert_eq!(server.counted("_OTHER", "UNIMPLEMENTED"), 4);

    let mut compressed = message(ISSUE, &[]);
    compressed.headers_mut().insert("grpc-encoding", "gzip".parse().unwrap());
    let response = server.raw(compressed).await;
    let status = Status::from_header_map(response.headers()).unwrap();
    refused(&status, Code::Unimplemented, "COMPRESSION_UNSUPPORTED");
    assert_eq!(status.metadata().get("grpc-accept-encoding").unwrap(), "identity");
}
