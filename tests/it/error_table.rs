//! Every row of docs/errors.md, provoked end to end by a gRPC client that reads the details.
//!
//! The list of reasons comes from the generated page: a row that nothing here provokes fails the test, and so does a
//! reason that the page does not know.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs;
use acs_broker::audit::{self, Audit};
use acs_broker::auth::{Authenticator, Credentials, Gate, Verdict};
use acs_broker::broker::types::{IdentityId, UserId};
use acs_broker::clock::{Clock, ManualClock, SystemClock};
use acs_broker::emulator::{AccessKey, Fault, Operation};
use acs_broker::grpc;
use acs_broker::grpc::proto::v1;
use acs_broker::messaging::{self, Event as MessageEvent, Happened};
use acs_broker::metrics::Metrics;
use acs_broker::reload::Reloadable;
use acs_broker::secret::Secret;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::messages::{NUMBER, new_id, sms};
use crate::harness::proof::{self, by};
use crate::harness::{Rig, Wish, acs_settings, chat, messages_settings, open_redis, redis_stores, until};
use crate::redis_server::RedisServer;

/// The reasons provoked so far, each checked against its row.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    /// Checks what every error has, and that the row of docs/errors.md says the same; gives the status back.
    fn row(&mut self, status: Status, reason: &str) -> Status {
        let details = status.get_error_details();
        let info = details.error_info().unwrap_or_else(|| panic!("{reason}: no ErrorInfo in {status:?}"));
        let request_id = &details.request_info().expect("a RequestInfo").request_id;
        assert_eq!(info.metadata.get("request_id"), Some(request_id), "{reason}");
        assert_eq!(status.metadata().get("x-request-id").unwrap(), request_id.as_str(), "{reason}");
        self.row_of_a_stream(status, reason)
    }

    /// The same of an error that ends a stream: the request id was in the headers at its beginning, and is not in the
    /// error.
    fn row_of_a_stream(&mut self, status: Status, reason: &str) -> Status {
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
        if let Some(retry) = details.retry_info() {
            assert!(retry.retry_delay.is_some_and(|delay| !delay.is_zero()), "{reason}: how long to wait");
        }
        for value in ["alice", "bob", "eve", "8:acs:", TO, "14255550", "a private text", "@thread"] {
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
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::PermissionDenied => "PERMISSION_DENIED",
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
    by_messages(&mut seen).await;
    by_chats(&mut seen).await;
    by_watches(&mut seen).await;
    by_the_policy(&mut seen).await;
    by_the_audit(&mut seen).await;
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

/// Somebody who cannot judge what a caller brings.
struct LacksKeys;

#[tonic::async_trait]
impl Authenticator for LacksKeys {
    async fn authenticate(&self, _: &Credentials<'_>) -> Verdict {
        Verdict::Unclear("the issuer's keys could not be fetched yet")
    }
}

async fn by_the_server(seen: &mut Seen) {
    let closed = Rig::start(Wish { gate: Arc::new(Gate::shut()), ..Wish::default() }).await;
    seen.row(closed.tokens().issue_token(chat("alice")).await.unwrap_err(), "CALLER_UNAUTHENTICATED");
    let unclear = Arc::new(Gate::new(vec![Arc::new(LacksKeys)], proof::policy("callers = []")));
    let unclear = Rig::start(Wish { gate: unclear, ..Wish::default() }).await;
    seen.row(unclear.tokens().issue_token(chat("alice")).await.unwrap_err(), "ISSUER_UNAVAILABLE");

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

const TO: &str = "+14255550123";

fn text_to(to: &str) -> v1::SendSmsRequest {
    sms(&new_id(), vec![to.into()], "a private text")
}

/// What was refused, and how often ACS was asked for it.
async fn refused_unsent(rig: &Rig, wish: v1::SendSmsRequest, asked: u64) -> Status {
    let status = rig.sms().send_sms(wish).await.unwrap_err();
    assert_eq!(rig.emulator.calls(Operation::SendSms), asked, "{status:?}");
    status
}

async fn by_the_audit(seen: &mut Seen) {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join("here");
    std::fs::create_dir(&here).unwrap();
    let file = here.join("audit.log").to_string_lossy().into_owned();
    let settings =
        audit::Settings { fail_closed: true, ..audit::Settings::to_file(file, Secret::new("k".repeat(32))) };
    let audit = Audit::open(&settings, Arc::new(SystemClock), Metrics::new()).unwrap();
    let rig = Rig::start(Wish { audit, ..Wish::default() }).await;
    std::fs::rename(&here, folder.path().join("away")).unwrap();
    seen.row(rig.tokens().issue_token(chat("alice")).await.unwrap_err(), "AUDIT_UNAVAILABLE");
    assert_eq!(rig.emulator.calls(Operation::CreateIdentity), 0);
}

async fn by_messages(seen: &mut Seen) {
    let none = messaging::Settings::default();
    let rig = Rig::start(Wish { messages: none, ..Wish::default() }).await;
    seen.row(refused_unsent(&rig, text_to(TO), 0).await, "CHANNEL_NOT_CONFIGURED");

    let mut settings = messages_settings();
    settings.sms.allow = "+4420*".into();
    let rig = Rig::start(Wish { messages: settings, ..Wish::default() }).await;
    seen.row(refused_unsent(&rig, text_to(TO), 0).await, "RECIPIENT_NOT_ALLOWED");
    let name = Some(v1::get_sms_request::Name::RequestId(new_id()));
    let unknown = rig.sms().get_sms(v1::GetSmsRequest { name }).await.unwrap_err();
    seen.row(unknown, "MESSAGE_NOT_FOUND");

    // A factor so small that one message a minute is left.
    let settings = messaging::Settings { limits: 0.0001, ..messages_settings() };
    let rig = Rig::start(Wish { messages: settings, ..Wish::default() }).await;
    rig.sms().send_sms(text_to(TO)).await.unwrap();
    let started = std::time::Instant::now();
    let limited = refused_unsent(&rig, text_to(TO), 1).await;
    assert!(started.elapsed() < Duration::from_secs(1), "at once");
    seen.row(limited, "ACS_LIMIT_REACHED");

    let settings = messaging::Settings { duplicates_within: Duration::from_hours(1), ..messages_settings() };
    let rig = Rig::start(Wish { messages: settings, ..Wish::default() }).await;
    let first = rig.sms().send_sms(text_to(TO)).await.unwrap().into_inner().sms_id;
    let duplicate = seen.row(refused_unsent(&rig, text_to(TO), 1).await, "DUPLICATE_CONTENT");
    let metadata = &duplicate.get_error_details().error_info().unwrap().metadata.clone();
    assert_eq!(metadata["earlier_message_id"], first);

    let rig = Rig::start(Wish::default()).await;
    let lost = Fault::drop_connection().after_commit();
    rig.emulator.faults().until_cleared(Operation::SendSms, lost);
    let wish = text_to(TO);
    seen.row(rig.sms().send_sms(wish.clone()).await.unwrap_err(), "OUTCOME_UNKNOWN");
    rig.emulator.faults().clear(Operation::SendSms);
    rig.sms().send_sms(wish).await.unwrap();
    rig.emulator.faults().next(Operation::SendSms, Fault::throttled(7), 1);
    let throttled = seen.row(rig.sms().send_sms(text_to(TO)).await.unwrap_err(), "ACS_THROTTLED");
    let delay = throttled.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert_eq!(delay, Duration::from_secs(7), "the wait that ACS asked for");
}

async fn by_chats(seen: &mut Seen) {
    let rig = Rig::start(Wish::default()).await;
    let wish = v1::CreateChatThreadRequest {
        acting_user_id: "alice".into(),
        request_id: new_id(),
        topic: "a private text".into(),
        ..Default::default()
    };
    let thread = rig.chats().create_chat_thread(wish).await.unwrap().into_inner().thread.unwrap();
    let say = |thread: &str| v1::SendChatMessageRequest {
        acting_user_id: "eve".into(),
        thread_id: thread.into(),
        request_id: new_id(),
        text: "a private text".into(),
        ..Default::default()
    };
    let outside = rig.chats().send_chat_message(say(&thread.thread_id)).await.unwrap_err();
    seen.row(outside, "CHAT_FORBIDDEN");
    let get = v1::GetChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.thread_id,
        message_id: "1700000000000".into(),
        ..Default::default()
    };
    seen.row(rig.chats().get_chat_message(get).await.unwrap_err(), "CHAT_NOT_FOUND");
}

async fn by_watches(seen: &mut Seen) {
    let redis = RedisServer::start();
    let stores = open_redis(&redis).await.messages;
    let rig = Rig::start(Wish { message_stores: Some(stores), ..Wish::default() }).await;
    let received = |number: usize, text: String| {
        let (from, to) = ("+14255550199".to_owned(), NUMBER.to_owned());
        let happened = Happened::SmsReceived { upstream_id: format!("in-{number}"), from, to, text };
        MessageEvent {
            id: format!("event-{number}"),
            at: SystemClock.now(),
            message: None,
            caller: None,
            happened,
        }
    };
    let mut watch = rig.events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    rig.messaging.take_in(received(0, "hello".into())).await.unwrap();
    let cursor = watch.message().await.unwrap().unwrap().cursor;
    rig.messaging.take_in(received(1, "hello".into())).await.unwrap();
    // As if it had been longer ago than events are kept.
    let keys: Vec<String> = redis.command(&["KEYS", "*"]);
    let is_stream = |key: &&String| redis.command::<String>(&["TYPE", key]) == "stream";
    let stream = keys.iter().find(is_stream).unwrap();
    redis.command::<i64>(&["XTRIM", stream, "MAXLEN", "0"]);
    let old = v1::WatchEventsRequest { cursor, ..Default::default() };
    let expired = match rig.events().watch_events(old).await {
        Ok(stream) => stream.into_inner().message().await.unwrap_err(),
        Err(status) => status,
    };
    seen.row_of_a_stream(expired, "CURSOR_EXPIRED");

    let slow = rig.events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    for number in 2..200 {
        rig.messaging.take_in(received(number, "x".repeat(20_000))).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(11)).await;
    seen.row_of_a_stream(end_of(slow).await, "WATCHER_TOO_SLOW");

    let ending = rig.events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    rig.stop.cancel();
    seen.row_of_a_stream(end_of(ending).await, "BROKER_STOPPING");
}

async fn by_the_policy(seen: &mut Seen) {
    let text = "[[callers]]\nname = \"shop\"\nmatch = [{ mesh = \"shop\" }]\nrpcs = [\"*\"]\nscopes = [\"voip\"]\n\
                user_prefixes = [\"*\"]\nquotas = { \"TokenService/IssueToken\" = \"1/m\" }\n";
    let policy = proof::policy(text);
    let rig = Rig::start(Wish { gate: proof::gate(policy.clone()), ..Wish::default() }).await;
    let ask = async || rig.tokens().issue_token(by("mesh=shop", chat("alice"))).await.unwrap_err();
    let missing = seen.row(ask().await, "PERMISSION_MISSING");
    let details = missing.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["permission"], "scope:chat");
    let spent = seen.row(ask().await, "CALLER_QUOTA_EXCEEDED");
    let details = spent.get_error_details();
    assert_eq!(details.quota_failure().unwrap().violations[0].subject, "caller");
    let delay = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(delay <= Duration::from_secs(60) && delay > Duration::from_secs(30), "{delay:?}");

    let wish = by("mesh=shop", v1::WatchEventsRequest::default());
    let watch = rig.events().watch_events(wish).await.unwrap().into_inner();
    policy.reload(vec![text.replace("voip", "chat").into_bytes()]).unwrap();
    seen.row_of_a_stream(end_of(watch).await, "POLICY_CHANGED");
}

/// Why a watch ended, after whatever it was told before.
async fn end_of(mut events: tonic::Streaming<v1::WatchEventsResponse>) -> Status {
    loop {
        match tokio::time::timeout(Duration::from_secs(20), events.message()).await.expect("it ends") {
            Ok(event) => drop(event.expect("an end with a reason")),
            Err(status) => return status,
        }
    }
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
pub(crate) async fn raw_call(rig: &Rig, path: &str, headers: &[(&str, &str)], body: &'static [u8]) -> Status {
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
