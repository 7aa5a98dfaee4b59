//! Answers that lie because nobody takes them: they end in time, and all of them together fit into memory.

use std::time::Duration;

use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use prost::Message;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::codegen::Bytes;

use crate::connections::{framed, post};
use crate::events::received;
use crate::harness::{Server, anybody, eventually, start, start_default, wish};
use crate::ports::insert;

const ISSUE: &str = "acsbroker.v1.TokenService/IssueToken";
const SMS: &str = "acsbroker.v1.SmsService/SendSms";
const WATCH: &str = "acsbroker.v1.EventService/WatchEvents";
const LIST: &str = "acsbroker.v1.IdentityService/ListIdentities";

/// Longer than anything may lie.
const LONG: Duration = Duration::from_secs(50);

type Client = h2::client::SendRequest<Bytes>;

/// A connection on which no answer gets more room than this.
async fn narrow(server: &Server, window: u32) -> (Client, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window).initial_connection_window_size(1 << 30);
    let (client, connection) = builder.handshake(socket).await.unwrap();
    (client, tokio::spawn(connection))
}

async fn call(client: &mut Client, path: &str, message: &impl Message) -> h2::client::ResponseFuture {
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut body) = ready.send_request(post(path), false).unwrap();
    body.send_data(framed(message), true).unwrap();
    answer
}

/// Lets this time pass with a clock that does not wait.
async fn passes(time: Duration) {
    tokio::time::pause();
    tokio::time::sleep(time).await;
    tokio::time::resume();
}

fn ended(server: &Server, reason: &str) -> bool {
    server.metrics.render().contains(&format!("connections_ended_total{{reason=\"{reason}\"}}"))
}

fn page() -> v1::ListIdentitiesRequest {
    v1::ListIdentitiesRequest { page_size: 1000, ..Default::default() }
}

/// So many users that a page of them has some 500 KB.
async fn fill(server: &Server) {
    for number in 0..1000 {
        let (user, identity) = (format!("user-{number:0251}"), format!("8:acs:{number:0240}"));
        insert(&server.store, &user, &identity).await;
    }
}

#[tokio::test]
async fn small_answers_that_nobody_takes_end_their_connection() {
    for window in [0, 1] {
        let server = start_default().await;
        let (mut client, connection) = narrow(&server, window).await;
        let mut answers = Vec::new();
        for _ in 0..200 {
            answers.push(call(&mut client, ISSUE, &wish("user")).await);
        }
        eventually("all are answered", || server.counted(ISSUE, "OK") == 200).await;
        passes(LONG).await;
        eventually("the connection is closed", || connection.is_finished()).await;
        assert!(ended(&server, "unread"));
    }
}

#[tokio::test]
async fn a_large_answer_that_nobody_takes_ends_alone() {
    let server = start_default().await;
    fill(&server).await;
    let answer = server.identities().await.list_identities(page()).await.unwrap().into_inner();
    let whole = u32::try_from(answer.encoded_len() + 5).unwrap();
    // The last: all but a few bytes are taken, and hyper has given the rest away.
    for window in [0, 1, 20_000, whole - 7] {
        let (mut client, connection) = narrow(&server, window).await;
        let lying = call(&mut client, LIST, &page()).await;
        let mut lying = timeout(LONG, lying).await.unwrap().unwrap().into_body();
        passes(LONG).await;
        let error = loop {
            if let Err(error) = timeout(LONG, lying.data()).await.unwrap().unwrap() {
                break error;
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert!(!connection.is_finished());
        assert!(!ended(&server, "unread"));
        connection.abort();
    }
}

#[tokio::test]
async fn a_slow_reader_that_goes_on_gets_all_of_a_large_answer() {
    let server = start_default().await;
    fill(&server).await;
    let (mut client, connection) = narrow(&server, 40_000).await;
    let answer = call(&mut client, LIST, &page()).await;
    let mut body = timeout(LONG, answer).await.unwrap().unwrap().into_body();
    let mut bytes = Vec::new();
    while let Some(data) = timeout(LONG, body.data()).await.unwrap() {
        let data = data.unwrap();
        // Twenty seconds for 32 KiB: minutes for all of it.
        if bytes.len() / (32 * 1024) < (bytes.len() + data.len()) / (32 * 1024) {
            passes(Duration::from_secs(20)).await;
        }
        body.flow_control().release_capacity(data.len()).unwrap();
        bytes.extend(data);
    }
    assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    let page = v1::ListIdentitiesResponse::decode(&bytes[5..]).unwrap();
    assert_eq!(page.identities.len(), 1000);
    assert!(page.identities.is_sorted_by(|a, b| a.user_id < b.user_id));
    assert!(!connection.is_finished());
}

#[tokio::test]
async fn large_answers_that_lie_are_bounded_together_and_leave_room_for_others() {
    let server = start_default().await;
    fill(&server).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let (mut client, connection) = narrow(&server, 0).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(call(&mut client, LIST, &page()).await);
        }
        clients.push((client, connection, answers));
    }
    eventually("all pages are found", || server.counted(LIST, "OK") == 300).await;
    // Half of the room, half of what is left, and so on; a page has half a megabyte.
    let kept = 300 - refused(&server);
    assert!((45..=60).contains(&kept), "{kept} of three hundred pages lie");
    // Another gets its page, and one of the three that asks again is told.
    let mut another = server.identities().await;
    let page_of_another = timeout(LONG, another.list_identities(page())).await.unwrap().unwrap();
    assert_eq!(page_of_another.into_inner().identities.len(), 1000);
    let mut told = call(&mut clients[0].0, LIST, &page()).await;
    let answer = timeout(LONG, &mut told).await.unwrap().unwrap();
    let id = answer.headers()["x-request-id"].clone();
    let mut body = answer.into_body();
    assert!(timeout(LONG, body.data()).await.unwrap().is_none());
    let trailers = body.trailers().await.unwrap().unwrap();
    let status = tonic::Status::from_header_map(&trailers).unwrap();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let details = tonic_types::StatusExt::get_error_details(&status);
    assert_eq!(details.error_info().unwrap().reason, "BROKER_OVERLOADED");
    assert_eq!(details.request_info().unwrap().request_id, id.to_str().unwrap());
    // And the room comes back.
    passes(LONG).await;
    eventually("all are given up", || given_up(&server, "unread") == kept).await;
    let mut client = clients.remove(0).0;
    let _answer = call(&mut client, LIST, &page()).await;
    eventually("one more is found", || server.counted(LIST, "OK") == 303).await;
    assert_eq!(refused(&server), 300 - kept + 1);
}

fn given_up(server: &Server, reason: &str) -> usize {
    let name = format!("acs_broker_answers_given_up_total{{reason=\"{reason}\"}} ");
    let text = server.metrics.render();
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |value| value.parse().unwrap())
}

fn refused(server: &Server) -> usize {
    given_up(server, "no_room")
}

#[tokio::test]
async fn half_sent_messages_are_bounded_together_by_weight() {
    let server = start_default().await;
    let mut open = Vec::new();
    for path in [ISSUE, SMS, LIST] {
        let (client, connection) = narrow(&server, 1 << 20).await;
        for _ in 0..240 {
            let mut ready = client.clone().ready().await.unwrap();
            let (answer, mut body) = ready.send_request(post(path), false).unwrap();
            let half = [&[0, 0, 0, 0xfe, 0][..], &[0x7a; 60_000]].concat();
            body.send_data(half.into(), false).unwrap();
            open.push((answer, body));
        }
        std::mem::forget(connection);
    }
    let overloaded =
        || [ISSUE, SMS, LIST].iter().map(|path| server.counted(path, "RESOURCE_EXHAUSTED")).sum::<u64>();
    // Seven hundred and twenty times fifty-six weighed kilobytes are more than thirty-two megabytes.
    eventually("some are refused", || overloaded() >= 100).await;
    // A small request finds its way all the same.
    let mut tokens = server.tokens().await;
    for _ in 0..20 {
        timeout(LONG, tokens.issue_token(wish("another"))).await.unwrap().unwrap();
    }
    drop(open);
    let in_flight = || server.metrics.render().contains("acs_broker_rpcs_in_flight 0");
    eventually("the others end", in_flight).await;
    let before = overloaded();
    let large = vec![0; 60_000];
    let request = crate::harness::message(&format!("/{ISSUE}"), &large);
    let answer = timeout(LONG, server.raw(request)).await.unwrap();
    assert_ne!(answer.headers()["grpc-status"], "8");
    assert_eq!(overloaded(), before);
}

#[tokio::test]
async fn too_many_small_answers_that_lie_end_soon_and_cost_nobody_else_an_answer() {
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let mut hoards = Vec::new();
    for _ in 0..20 {
        let (mut client, connection) = narrow(&server, 0).await;
        let mut answers = Vec::new();
        for _ in 0..240 {
            answers.push(call(&mut client, ISSUE, &wish("user")).await);
        }
        hoards.push((client, connection, answers));
        timeout(LONG, tokens.issue_token(wish("another"))).await.unwrap().unwrap();
    }
    // On a slow machine the first had to go before the last had asked.
    let bounded = || server.counted(ISSUE, "RESOURCE_EXHAUSTED") > 0 || ended(&server, "unread");
    eventually("they are refused more", bounded).await;
    // Whoever takes its answers has them, also if it comes only now.
    let mut newcomer = server.tokens().await;
    for _ in 0..20 {
        timeout(LONG, tokens.issue_token(wish("another"))).await.unwrap().unwrap();
        timeout(LONG, newcomer.issue_token(wish("another"))).await.unwrap().unwrap();
    }
    passes(Duration::from_secs(6)).await;
    eventually("some had to go", || ended(&server, "unread")).await;
}

#[tokio::test]
async fn strangers_leave_few_answers_lying_and_cost_nobody_an_answer() {
    const CHECK: &str = "grpc.health.v1.Health/Check";
    let gate = std::sync::Arc::new(acs_broker::auth::Gate::open(false));
    let server = start(gate, Settings::default()).await;
    let mut hoards = Vec::new();
    for _ in 0..100 {
        let (mut client, connection) = narrow(&server, 0).await;
        let mut answers = Vec::new();
        for _ in 0..100 {
            answers.push(call(&mut client, CHECK, &tonic_health::pb::HealthCheckRequest::default()).await);
        }
        hoards.push((client, connection, answers));
    }
    eventually("all but a few are refused", || refused(&server) == 100 * (100 - 8)).await;
    let mut tokens = server.tokens().await;
    for _ in 0..20 {
        timeout(LONG, tokens.issue_token(wish("user"))).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_watcher_that_takes_nothing_is_ended_alone_and_one_that_waits_is_not() {
    let server = start_default().await;
    let mut quiet = server.events().await.watch_events(watch()).await.unwrap().into_inner();
    for window in [0, 1, 200] {
        let (mut client, connection) = narrow(&server, window).await;
        let answer = call(&mut client, WATCH, &watch()).await;
        let mut body = timeout(LONG, answer).await.unwrap().unwrap().into_body();
        // With nothing to be taken nobody is late.
        passes(LONG).await;
        for number in 0..3 {
            server.messaging.take_in(received(&format!("{window}-{number}"), "text")).await.unwrap();
            timeout(LONG, quiet.message()).await.unwrap().unwrap().unwrap();
        }
        let before = given_up(&server, "unread");
        passes(LONG).await;
        eventually("it is given up", || given_up(&server, "unread") == before + 1).await;
        let error = loop {
            if let Err(error) = timeout(LONG, body.data()).await.unwrap().unwrap() {
                break error;
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
        assert!(!connection.is_finished() && !ended(&server, "unread"));
        connection.abort();
    }
    server.messaging.take_in(received("last", "text")).await.unwrap();
    timeout(LONG, quiet.message()).await.unwrap().unwrap().unwrap();
}

fn watch() -> v1::WatchEventsRequest {
    v1::WatchEventsRequest::default()
}

/// Reflection answers strangers, one question after the other: who takes no answer can leave questions lying.
#[tokio::test]
async fn what_a_stranger_leaves_unread_is_bounded() {
    let server = start(anybody(), Settings { reflection: true, ..Settings::default() }).await;
    let (client, _connection) = narrow(&server, 0).await;
    let question = [&[0, 0, 0, 4, 0, 0x3a, 0xfd, 0x07][..], &[b'*'; 1021]].concat();
    let mut sent = 0;
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut ready = client.clone().ready().await.unwrap();
        let path = "grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
        let (answer, mut body) = ready.send_request(post(path), false).unwrap();
        while sent < 1 << 24 {
            body.reserve_capacity(question.len());
            let room = std::future::poll_fn(|cx| body.poll_capacity(cx));
            // Nothing more comes when the server reads no more.
            let Ok(room) = timeout(Duration::from_millis(500), room).await else { break };
            if room.unwrap().unwrap() < question.len() {
                continue;
            }
            body.send_data(question.clone().into(), false).unwrap();
            sent += question.len();
        }
        streams.push((answer, body));
    }
    assert!((1 << 18..=(1 << 19) + (1 << 16)).contains(&sent), "{sent} bytes are taken and lie unread");
}
