//! What calls give and get: tokens, identities, pages, request ids, and odd requests.

use acs_broker::broker::error::Error;
use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use tonic::{Code, Request, Status};

use crate::harness::{anybody, eventually, message, refused, start, start_default, wish};
use crate::ports::insert;

const ISSUE: &str = "/acsbroker.v1.TokenService/IssueToken";

#[tokio::test]
async fn a_second_call_is_answered_from_the_cache() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let first = tokens.issue_token(wish("user")).await.unwrap().into_inner();
    let second = tokens.issue_token(wish("user")).await.unwrap().into_inner();
    assert_eq!((first.token.as_str(), first.source()), ("token-1", v1::TokenSource::Issued));
    assert_eq!((second.token.as_str(), second.source()), ("token-1", v1::TokenSource::Cache));
    assert_eq!(first.acs_user_id, "8:acs:resource_1");
    assert!(first.refresh_time.unwrap().seconds < first.expire_time.unwrap().seconds && !first.degraded);

    let refresh = v1::RefreshTokenRequest { user_id: "user".into(), scopes: vec![1], validity: None };
    let refreshed = tokens.refresh_token(refresh).await.unwrap().into_inner();
    assert_eq!((refreshed.token.as_str(), refreshed.acs_user_id.as_str()), ("token-2", "8:acs:resource_1"));
    assert_eq!(server.counted("acsbroker.v1.TokenService/IssueToken", "OK"), 2);
}

#[tokio::test]
async fn an_identity_is_created_found_from_both_sides_and_deleted() {
    let server = start_default().await;
    let mut identities = server.identities().await;
    let resolve = || v1::ResolveIdentityRequest { user_id: "user".into() };
    let made = identities.resolve_identity(resolve()).await.unwrap().into_inner();
    assert!(made.created);
    let identity = made.identity.unwrap();
    let again = identities.resolve_identity(resolve()).await.unwrap().into_inner();
    assert_eq!((again.created, again.identity.as_ref()), (false, Some(&identity)));
    use v1::get_identity_request::Key;
    for key in [Key::UserId("user".into()), Key::AcsUserId(identity.acs_user_id.clone())] {
        let found = identities.get_identity(v1::GetIdentityRequest { key: Some(key) }).await.unwrap();
        assert_eq!(found.into_inner().identity.as_ref(), Some(&identity));
    }
    let delete = || v1::DeleteIdentityRequest { user_id: "user".into(), request_id: String::new() };
    identities.delete_identity(delete()).await.unwrap();
    let status = identities.delete_identity(delete()).await.unwrap_err();
    refused(&status, Code::NotFound, "IDENTITY_NOT_FOUND");
}

#[tokio::test]
async fn pages_hold_every_entry_once() {
    let server = start_default().await;
    for number in 0..25 {
        insert(&server.store, &format!("user-{number:02}"), &format!("8:acs:a_{number}")).await;
    }
    let mut identities = server.identities().await;
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListIdentitiesRequest { page_size: 10, page_token: page_token.clone() };
        let page = identities.list_identities(request).await.unwrap().into_inner();
        seen.extend(page.identities.into_iter().map(|identity| identity.user_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, (0..25).map(|number| format!("user-{number:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_token_that_is_not_ours_is_refused_by_name() {
    let server = start_default().await;
    let mut identities = server.identities().await;
    // The last one decodes, but the store knows no such position.
    for page_token in ["x", "AAAA", &"A".repeat(60_000), "é", "AQrMTE3t"] {
        let request = v1::ListIdentitiesRequest { page_size: 0, page_token: page_token.into() };
        let status = identities.list_identities(request).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "page_token");
    }
}

#[tokio::test]
async fn the_request_id_is_echoed_on_success_and_error_or_made() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let with_id = |user: &str| {
        let mut request = Request::new(wish(user));
        request.metadata_mut().insert("x-request-id", "order-17".parse().unwrap());
        request
    };
    let answer = tokens.issue_token(with_id("user")).await.unwrap();
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "order-17");
    let status = tokens.issue_token(with_id("")).await.unwrap_err();
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "order-17");
    refused(&status, Code::InvalidArgument, "INVALID_FIELD");

    let answer = tokens.issue_token(wish("user")).await.unwrap();
    let made = answer.metadata().get("x-request-id").unwrap().to_str().unwrap().to_owned();
    assert!(uuid::Uuid::try_parse(&made).is_ok(), "{made}");
}

#[tokio::test]
async fn metadata_garbage_changes_nothing() {
    let server = start_default().await;
    let good = b"\x0a\x04user\x12\x01\x01";
    for (name, value) in [
        ("x-request-id", &b"\xff\xfe\x80"[..]),
        ("x-request-id", b"{\"log\": \"injection\"}"),
        ("grpc-timeout", b"\xff"),
        ("grpc-timeout", b"99999999999999999999H"),
        ("grpc-timeout", b""),
        ("authorization", b"Bearer \xc3\x28"),
        ("grpc-accept-encoding", b"\xff,,,"),
        ("traceparent", b"00-zz"),
        ("custom-bin", b"%%% not base64 %%%"),
    ] {
        let mut request = message(ISSUE, good);
        request.headers_mut().insert(name, http::HeaderValue::from_bytes(value).unwrap());
        let response = server.raw(request).await;
        assert_eq!(response.status(), 200);
        assert!(Status::from_header_map(response.headers()).is_none(), "{name}: {:?}", response.headers());
        let id = response.headers()["x-request-id"].to_str().unwrap();
        assert!(uuid::Uuid::try_parse(id).is_ok(), "{name}: {id}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_gets_an_http_status() {
    let server = start_default().await;
    let mut json = message(ISSUE, b"");
    json.headers_mut().insert("content-type", "application/json".parse().unwrap());
    assert_eq!(server.raw(json).await.status(), 415);
    let mut get = message(ISSUE, b"");
    *get.method_mut() = http::Method::GET;
    assert_eq!(server.raw(get).await.status(), 405);
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_counted_and_its_work_goes_on() {
    let server = start_default().await;
    let permits = server.acs.gate.available_permits();
    let call = server.hanging_call().await;
    call.abort();
    eventually("the call counts as cancelled", || {
        server.counted("acsbroker.v1.TokenService/IssueToken", "CANCELLED") == 1
    })
    .await;
    server.acs.gate.add_permits(permits);
    eventually("the work goes on without its caller", || server.store.users() == 1).await;
    assert!(server.metrics.render().contains("acs_broker_rpcs_in_flight 0"));
}

#[tokio::test]
async fn no_path_a_stranger_types_becomes_a_label() {
    let server = start(anybody(), Settings::default()).await;
    for number in 0..50 {
        server.raw(message(&format!("/needle{number}/needle"), b"")).await;
    }
    assert!(!server.metrics.render().contains("needle"));
    assert_eq!(server.counted("_OTHER", "UNIMPLEMENTED"), 50);
}

#[tokio::test]
async fn an_error_of_acs_while_creating_leaves_nothing_behind() {
    let server = start_default().await;
    server.acs.fail_with(Error::AcsCredentialsRefused);
    server.tokens().await.issue_token(wish("user")).await.unwrap_err();
    assert_eq!(server.store.users(), 0);
}
