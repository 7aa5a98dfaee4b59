//! Every row of docs/errors.md, provoked end to end by a gRPC client that reads the details.
//!
//! The list of reasons comes from the generated page: a row that nothing here provokes fails the test, and so does a
//! reason that the page does not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs;
use acs_broker::broker::types::{IdentityId, UserId};
use acs_broker::clock::{Clock, ManualClock, SystemClock};
use acs_broker::emulator::{AccessKey, Fault, Operation};
use acs_broker::grpc;
use acs_broker::grpc::proto::v1;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::{Rig, Wish, acs_settings, chat, redis_stores, until};
use crate::redis_server::RedisServer;

/// The reasons provoked so far, each checked against its row.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    /// Checks what every error has, and that the row of docs/errors.md says the same; gives the status back.
    fn row(&mut self, status: Status, reason: &str) -> Status {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{reason}: no ErrorInfo in {status:?}"));
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "acsbroker"), "{status:?}");
        let row =
            rows().into_iter().find(|row| row.0 == reason).unwrap_or_else(|| panic!("{reason} has no row"));
        assert_eq!(row.1, code_name(status.code()), "{reason}");
        assert_eq!(details.retry_info().is_some(), row.2.contains("RetryInfo"), "{reason}: {status:?}");
        assert_eq!(details.bad_request().is_some(), row.2.contains("BadRequest"), "{reason}: {status:?}");
        assert_eq!(details.resource_info().is_some(), row.2.contains("ResourceInfo"), "{reason}");
        assert_eq!(
            details.precondition_failure().is_some(),
            row.2.contains("PreconditionFailure"),
            "{reason}"
        );
        let request_id = &details.request_info().expect("a RequestInfo").request_id;
        assert_eq!(info.metadata.get("request_id"), Some(request_id), "{reason}");
        assert_eq!(status.metadata().get("x-request-id").unwrap(), request_id.as_str(), "{reason}");
        if let Some(retry) = details.retry_info() {
            assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()), "{reason}: how long to wait");
        }
        for value in ["alice", "bob", "eve", "8:acs:"] {
            assert!(
                !format!("{status:?}").contains(value),
                "{reason} repeats a value of the request: {status:?}"
            );
        }
        self.0.insert(reason.to_owned());
        status
    }
}

/// Reason, code and details of each row of the generated page.
fn rows() -> Vec<(&'static str, &'static str, &'static str)> {
    include_str!("../../docs/errors.md")
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            (cells[1], cells[2], cells[3])
        })
        .collect()
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Cancelled => "CANCELLED",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::Unauthenticated => "UNAUTHENTICATED",
        _ => "a code no row has",
    }
}

fn revoke(user: &str, request_id: &str) -> v1::RevokeTokensRequest {
    v1::RevokeTokensRequest { user_id: user.into(), request_id: request_id.into() }
}

fn entry(user: &str, identity: &str) -> v1::ImportIdentitiesRequest {
    let identity = v1::Identity { user_id: user.into(), acs_user_id: identity.into(), create_time: None };
    v1::ImportIdentitiesRequest { identity: Some(identity), validate_only: false }
}

const FIRST_ID: &str = "5e1de9f4-7b8a-4d4e-8e7e-1f5e6f0b6a01";

#[tokio::test(flavor = "multi_thread")]
async fn every_row_of_the_error_table_can_be_provoked() {
    let mut seen = Seen::default();
    by_the_request(&mut seen).await;
    by_acs(&mut seen).await;
    by_concurrent_calls(&mut seen).await;
    by_the_server(&mut seen).await;
    by_the_store(&mut seen).await;
    by_broken_transport(&mut seen).await;
    let documented: BTreeSet<_> = rows().into_iter().map(|row| row.0.to_owned()).collect();
    assert_eq!(seen.0, documented);
}

async fn by_the_request(seen: &mut Seen) {
    let rig = Rig::start(Wish::default()).await;
    let empty = rig.tokens().issue_token(v1::IssueTokenRequest::default()).await.unwrap_err();
    let empty = seen.row(empty, "INVALID_FIELD");
    let details = empty.get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|field| field.field.clone()).collect();
    assert_eq!(fields, ["user_id", "scopes"], "all violations together");

    let unknown = rig.tokens().revoke_tokens(revoke("alice", "")).await.unwrap_err();
    seen.row(unknown, "IDENTITY_NOT_FOUND");

    rig.tokens().issue_token(chat("alice")).await.unwrap();
    rig.tokens().issue_token(chat("bob")).await.unwrap();
    rig.tokens().revoke_tokens(revoke("alice", FIRST_ID)).await.unwrap();
    let reused = rig.tokens().revoke_tokens(revoke("bob", FIRST_ID)).await.unwrap_err();
    seen.row(reused, "IDEMPOTENCY_KEY_REUSED");

    // An identity that this ACS never made.
    let stray = "8:acs:00000000-0000-4000-8000-000000000000_00000000-0000-0000-0000-000000000001";
    let imported =
        rig.identities().import_identities(tokio_stream::iter([entry("eve", stray)])).await.unwrap();
    assert_eq!(imported.into_inner().imported_count, 1);
    let rejected = rig.tokens().issue_token(chat("eve")).await.unwrap_err();
    let rejected = seen.row(rejected, "ACS_REJECTED");
    let metadata = &rejected.get_error_details().error_info().unwrap().metadata.clone();
    assert!(metadata["acs_status"].starts_with('4') && !metadata["acs_request_id"].is_empty());

    // With customId, ACS answers the identity it made before; the mapping says it is another user's by now.
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let stores = acs_broker::store::memory(clock).core;
    let acs = acs::Settings { custom_id: acs::CustomId::Plain, ..acs_settings() };
    let rig = Rig::start(Wish { acs, stores: Some(stores.clone()), ..Wish::default() }).await;
    rig.tokens().issue_token(chat("alice")).await.unwrap();
    let identity = rig.emulator.identity_ids().remove(0);
    let (alice, hers) = (UserId::parse("alice").unwrap(), IdentityId::parse(&identity).unwrap());
    assert!(stores.identities.remove(&alice, &hers).await.unwrap());
    rig.identities().import_identities(tokio_stream::iter([entry("bob", &identity)])).await.unwrap();
    let linked =
        rig.identities().resolve_identity(v1::ResolveIdentityRequest { user_id: "alice".into() }).await;
    seen.row(linked.unwrap_err(), "IDENTITY_ALREADY_LINKED");
    assert_eq!(rig.emulator.identities_alive(), 1, "it is bob's and must live");
}

async fn by_acs(seen: &mut Seen) {
    let rig = Rig::start(Wish::default()).await;
    rig.emulator.faults().next(Operation::CreateIdentity, Fault::throttled(30), 1);
    let throttled = seen.row(rig.tokens().issue_token(chat("alice")).await.unwrap_err(), "ACS_THROTTLED");
    let delay = throttled.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(delay, Duration::from_secs(30), "the wait that ACS asked for");

    rig.emulator.faults().next(Operation::CreateIdentity, Fault::status(500), 10);
    seen.row(rig.tokens().issue_token(chat("alice")).await.unwrap_err(), "ACS_UNAVAILABLE");
    rig.emulator.faults().clear(Operation::Any);

    rig.emulator.faults().next(Operation::CreateIdentity, Fault::hang(), 1);
    let mut hasty = Request::new(chat("bob"));
    hasty.set_timeout(Duration::from_millis(300));
    seen.row(rig.tokens().issue_token(hasty).await.unwrap_err(), "DEADLINE_EXCEEDED");

    rig.emulator.rotate_key(AccessKey::Primary);
    seen.row(rig.tokens().issue_token(chat("eve")).await.unwrap_err(), "ACS_CREDENTIALS_REFUSED");

    // A core whose clock is two days ahead takes every token for expired.
    let ahead = SystemClock.now().plus(Duration::from_secs(48 * 3600));
    let rig =
        Rig::start(Wish { core_clock: Some(Arc::new(ManualClock::at(ahead))), ..Wish::default() }).await;
    seen.row(rig.tokens().issue_token(chat("alice")).await.unwrap_err(), "INTERNAL");
}

async fn by_concurrent_calls(seen: &mut Seen) {
    let rig = Rig::start(Wish::default()).await;
    rig.tokens().issue_token(chat("alice")).await.unwrap();
    let late = Fault::latency(Duration::from_millis(700)).after_commit();
    rig.emulator.faults().next(Operation::RevokeTokens, late, 1);
    let slow = tokio::spawn({
        let mut tokens = rig.tokens();
        async move { tokens.revoke_tokens(revoke("alice", FIRST_ID)).await }
    });
    until("the revocation at ACS", async || rig.emulator.in_flight(Operation::RevokeTokens) == 1).await;
    let running = rig.tokens().revoke_tokens(revoke("alice", FIRST_ID)).await.unwrap_err();
    seen.row(running, "REQUEST_IN_PROGRESS");
    let gone = v1::DeleteIdentityRequest { user_id: "alice".into(), request_id: String::new() };
    rig.identities().delete_identity(gone).await.unwrap();
    seen.row(slow.await.unwrap().unwrap_err(), "CONCURRENT_CHANGE");
}

async fn by_the_server(seen: &mut Seen) {
    let closed = Rig::start(Wish { chain: Vec::new(), ..Wish::default() }).await;
    seen.row(closed.tokens().issue_token(chat("alice")).await.unwrap_err(), "CALLER_UNAUTHENTICATED");

    let one_at_a_time = grpc::Settings { max_in_flight: 1, ..Wish::default().server };
    let rig = Rig::start(Wish { server: one_at_a_time, ..Wish::default() }).await;
    rig.emulator.faults().next(Operation::CreateIdentity, Fault::latency(Duration::from_millis(700)), 1);
    let first = tokio::spawn({
        let mut tokens = rig.tokens();
        async move { tokens.issue_token(chat("alice")).await }
    });
    until("the first call at ACS", async || rig.emulator.in_flight(Operation::CreateIdentity) == 1).await;
    seen.row(rig.tokens().issue_token(chat("bob")).await.unwrap_err(), "BROKER_OVERLOADED");
    first.await.unwrap().unwrap();

    let large = v1::IssueTokenRequest { user_id: "x".repeat(100_000), ..Default::default() };
    seen.row(rig.tokens().issue_token(large).await.unwrap_err(), "MESSAGE_TOO_LARGE");
}

async fn by_the_store(seen: &mut Seen) {
    let mut redis = RedisServer::start();
    let stores = redis_stores(&redis).await;
    let rig = Rig::start(Wish { stores: Some(stores), ..Wish::default() }).await;
    rig.tokens().issue_token(chat("alice")).await.unwrap();
    redis.kill();
    seen.row(rig.tokens().issue_token(chat("alice")).await.unwrap_err(), "STORE_UNAVAILABLE");
}

async fn by_broken_transport(seen: &mut Seen) {
    let rig = Rig::start(Wish::default()).await;
    let path = "/acsbroker.v1.TokenService/IssueToken";
    // A tag whose field has no end.
    let malformed = raw_call(&rig, path, &[], &[0, 0, 0, 0, 2, 0x0a, 0xff]).await;
    seen.row(malformed, "MESSAGE_MALFORMED");
    // Five bytes are announced, and the request ends after one.
    let incomplete = raw_call(&rig, path, &[], &[0, 0, 0, 0, 5, 0x0a]).await;
    seen.row(incomplete, "MESSAGE_MALFORMED");
    let compressed = raw_call(&rig, path, &[("grpc-encoding", "gzip")], &[1, 0, 0, 0, 1, 0]).await;
    seen.row(compressed, "COMPRESSION_UNSUPPORTED");
    let unknown = raw_call(&rig, "/acsbroker.v1.TokenService/StealToken", &[], &[0, 0, 0, 0, 0]).await;
    seen.row(unknown, "METHOD_UNKNOWN");
}

/// Sends these bytes as the body of a call, below any gRPC library, and reads the status from the answer's headers.
async fn raw_call(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Status {
    let stream = tokio::net::TcpStream::connect(rig.address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut request = http::Request::post(format!("http://{}{path}", rig.address))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (answer, mut sender) = client.send_request(request.body(()).unwrap(), false).unwrap();
    // An unknown method is answered before its message has been read.
    let _ = sender.send_data(body.into(), true);
    let answer = answer.await.unwrap();
    connection.abort();
    Status::from_header_map(answer.headers()).expect("an error is in the headers")
}
