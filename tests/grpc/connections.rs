//! Connections that behave badly, and what others notice of them: nothing.
//!
//! Slow readers, silent and half-open connections, rapid resets, floods, calls that hang or panic, and the end of the
//! server under load. Where a well-behaved client would stand in the way, HTTP/2 is written by hand.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use futures_util::StreamExt;
use futures_util::task::AtomicWaker;
use prost::Message;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Code;
use tonic::codegen::Bytes;
use tower::ServiceExt;

use crate::harness::{Server, anybody, eventually, refused, start, start_default, wish};
use crate::ports::{Trouble, insert};

const LIMIT: Duration = Duration::from_secs(30);
const ISSUE: &str = "acsbroker.v1.TokenService/IssueToken";
const LIST: &str = "acsbroker.v1.IdentityService/ListIdentities";

/// A socket that can be kept from being read.
struct Valve {
    socket: TcpStream,
    tap: Arc<Tap>,
}

#[derive(Default)]
struct Tap {
    closed: AtomicBool,
    reader: AtomicWaker,
}

impl Tap {
    fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.closed.store(false, Ordering::SeqCst);
        self.reader.wake();
    }
}

impl AsyncRead for Valve {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.tap.reader.register(cx.waker());
        if self.tap.closed.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Valve {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A request head for this method.
pub(crate) fn post(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://any/{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A message with the five bytes before it.
pub(crate) fn framed(message: &impl Message) -> Bytes {
    let bytes = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend(bytes);
    frame.into()
}

/// Other callers are served, and the server has not lost count of them.
async fn serves_others(server: &Server) {
    let mut tokens = server.tokens().await;
    for _ in 0..20 {
        timeout(LIMIT, tokens.issue_token(wish("another"))).await.unwrap().unwrap();
    }
}

fn in_flight(server: &Server) -> i64 {
    let text = server.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix("acs_broker_rpcs_in_flight "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_slow_reader_gets_all_in_the_end_and_holds_up_nobody() {
    const PAGES: u64 = 24;
    let server = start_default().await;
    for number in 0..1000 {
        let (user, identity) = (format!("user-{number:0251}"), format!("8:acs:{number:0240}"));
        insert(&server.store, &user, &identity).await;
    }
    let tap = Arc::new(Tap::default());
    let valve = Valve { socket: TcpStream::connect(server.address).await.unwrap(), tap: tap.clone() };
    // Windows so wide that only the socket holds the answers back.
    let (client, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 30)
        .initial_connection_window_size(1 << 30)
        .handshake::<_, Bytes>(valve)
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut client = client.ready().await.unwrap();
    tap.close();
    let page = framed(&v1::ListIdentitiesRequest { page_size: 1000, ..Default::default() });
    let answers: Vec<_> = (0..PAGES)
        .map(|_| {
            let (answer, mut body) = client.send_request(post(LIST), false).unwrap();
            body.send_data(page.clone(), true).unwrap();
            answer
        })
        .collect();
    eventually("all pages are found", || server.counted(LIST, "OK") == PAGES).await;
    serves_others(&server).await;
    tap.open();
    for answer in answers {
        let mut body = timeout(LIMIT, answer).await.unwrap().unwrap().into_body();
        let mut bytes = Vec::new();
        while let Some(data) = timeout(LIMIT, body.data()).await.unwrap() {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            bytes.extend(data);
        }
        let page = v1::ListIdentitiesResponse::decode(&bytes[5..]).unwrap();
        assert_eq!(page.identities.len(), 1000);
        assert!(page.identities.is_sorted_by(|a, b| a.user_id < b.user_id));
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    }
    connection.abort();
}

#[tokio::test]
async fn silent_and_half_open_connections_are_in_nobodys_way() {
    // Twice as many descriptors, which must fit into the usual limit of a thousand and twenty-four.
    const EACH: usize = 100;
    let server = start_default().await;
    let mut open = Vec::new();
    for begin in [&b""[..], b"PRI * HTT", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        for _ in 0..EACH {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(begin).await.unwrap();
            open.push(socket);
        }
    }
    serves_others(&server).await;
    // Nor do they hold up the end.
    server.shutdown.cancel();
    let ended = timeout(Settings::default().drain_timeout + LIMIT, server.served);
    drop(open.split_off(2 * EACH));
    ended.await.unwrap().unwrap().unwrap();
}

/// HTTP/2 by hand: frames, and just enough of HPACK.
mod frames {
    pub(super) const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![length[1], length[2], length[3], kind, flags];
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    /// HEADERS that end the headers and not the stream.
    pub(super) fn headers(stream: u32, path: &str) -> Vec<u8> {
        let mut block = Vec::new();
        for (name, value) in [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", "any"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ] {
            block.push(0);
            for text in [name, value] {
                block.push(u8::try_from(text.len()).unwrap());
                block.extend(text.as_bytes());
            }
        }
        frame(1, 4, stream, &block)
    }

    /// DATA with which the request ends.
    pub(super) fn data(stream: u32, bytes: &[u8]) -> Vec<u8> {
        frame(0, 1, stream, bytes)
    }

    /// RST_STREAM that cancels.
    pub(super) fn reset(stream: u32) -> Vec<u8> {
        frame(3, 0, stream, &8u32.to_be_bytes())
    }

    /// PING.
    pub(super) fn ping() -> Vec<u8> {
        frame(6, 0, 0, &[1; 8])
    }
}

/// Reads frames up to the next answer to a PING.
async fn ponged(socket: &mut TcpStream) -> io::Result<()> {
    loop {
        let mut head = [0; 9];
        socket.read_exact(&mut head).await?;
        let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
        socket.read_exact(&mut payload).await?;
        if (head[3], head[4]) == (6, 1) {
            return Ok(());
        }
    }
}

#[tokio::test]
async fn rapid_resets_end_the_connection() {
    let server = start_default().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(frames::BEGIN).await.unwrap();
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(frames::headers(stream, &format!("/{ISSUE}")));
        flood.extend(frames::reset(stream));
    }
    let (mut reads, mut writes) = socket.into_split();
    let writing = tokio::spawn(async move {
        let _ = writes.write_all(&flood).await;
        // Kept open: it is the server that has to end it.
        std::future::pending::<()>().await;
        drop(writes);
    });
    let mut answer = Vec::new();
    // Closed or reset.
    let _ = timeout(LIMIT, reads.read_to_end(&mut answer)).await.expect("the connection ends");
    writing.abort();
    serves_others(&server).await;
    eventually("nothing is left of it", || in_flight(&server) == 0).await;
    assert!(server.counted(ISSUE, "CANCELLED") < 1000);
}

#[tokio::test]
async fn a_client_that_sends_all_its_calls_at_once_in_small_frames_is_served() {
    let server = start_default().await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let message = framed(&wish("user"));
    let (head, rest) = message.split_at(5);
    let (one, two) = rest.split_at(4);
    let part = |stream, bytes| {
        let mut frame = frames::data(stream, bytes);
        // It does not end the request.
        frame[4] = 0;
        frame
    };
    let mut calls = frames::BEGIN.to_vec();
    for stream in (1..512).step_by(2) {
        calls.extend(frames::headers(stream, &format!("/{ISSUE}")));
        calls.extend([part(stream, head), part(stream, one), part(stream, two)].concat());
        calls.extend(frames::data(stream, &[]));
    }
    socket.write_all(&calls).await.unwrap();
    eventually("all are served", || server.counted(ISSUE, "OK") == 256).await;
    socket.write_all(&frames::ping()).await.unwrap();
    timeout(LIMIT, ponged(&mut socket)).await.unwrap().unwrap();
}

/// More calls are refused than HTTP/2 takes resets before it closes a connection, and their messages come late.
async fn keeps_its_connection(server: &Server, path: &str, counted_as: (&str, &str)) {
    const ROUNDS: u32 = 30;
    const EACH: u32 = 50;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(frames::BEGIN).await.unwrap();
    for round in 0..ROUNDS {
        let streams: Vec<_> = (0..EACH).map(|at| 1 + 2 * (round * EACH + at)).collect();
        let heads: Vec<u8> = streams.iter().flat_map(|stream| frames::headers(*stream, path)).collect();
        socket.write_all(&heads).await.unwrap();
        let refused = || server.counted(counted_as.0, counted_as.1) == u64::from((round + 1) * EACH);
        eventually("the calls are refused, without waiting for their messages", refused).await;
        let message = framed(&wish("user"));
        let bodies: Vec<u8> = streams.iter().flat_map(|stream| frames::data(*stream, &message)).collect();
        socket.write_all(&[bodies, frames::ping()].concat()).await.unwrap();
        timeout(LIMIT, ponged(&mut socket)).await.unwrap().unwrap();
    }
}

/// Room for a single call, which may hang for as long as a test takes.
fn one_call() -> Settings {
    Settings { max_in_flight: 1, default_deadline: Duration::from_secs(300), ..Settings::default() }
}

#[tokio::test]
async fn a_caller_who_is_refused_often_keeps_its_connection() {
    let issue = format!("/{ISSUE}");
    // With fewer seats than calls: one that is refused holds none while its message is awaited.
    let few = Settings { max_in_flight: 60, ..Settings::default() };
    let shut = start(Arc::new(acs_broker::auth::Gate::shut()), few).await;
    keeps_its_connection(&shut, &issue, (ISSUE, "UNAUTHENTICATED")).await;

    let full = start(anybody(), one_call()).await;
    let _hanging = full.hanging_call().await;
    keeps_its_connection(&full, &issue, (ISSUE, "RESOURCE_EXHAUSTED")).await;

    let open = start_default().await;
    keeps_its_connection(&open, "/no.such/Method", ("_OTHER", "UNIMPLEMENTED")).await;
}

/// The client learns of its refusals when its messages are on their way already, as over a network.
#[tokio::test]
async fn a_real_client_whose_calls_are_refused_keeps_its_connection() {
    const ROUNDS: u64 = 30;
    const EACH: u64 = 100;
    let server = start(anybody(), one_call()).await;
    let _hanging = server.hanging_call().await;
    let (tap, address, connected) = (Arc::new(Tap::default()), server.address, Arc::new(AtomicUsize::new(0)));
    let connector = tower::service_fn({
        let (tap, connected) = (tap.clone(), connected.clone());
        move |_: http::Uri| {
            connected.fetch_add(1, Ordering::Relaxed);
            let tap = tap.clone();
            async move {
                let socket = TcpStream::connect(address).await?;
                Ok::<_, io::Error>(hyper_util::rt::TokioIo::new(Valve { socket, tap }))
            }
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://any");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    for round in 1..=ROUNDS {
        tap.close();
        let go = tokio_util::sync::CancellationToken::new();
        let sent = Arc::new(AtomicUsize::new(0));
        let mut calls = JoinSet::new();
        for _ in 0..EACH {
            let (go, sent, channel) = (go.clone(), sent.clone(), channel.clone());
            let message = tokio_stream::once(()).then(move |()| {
                let (go, sent) = (go.clone(), sent.clone());
                async move {
                    go.cancelled().await;
                    sent.fetch_add(1, Ordering::Relaxed);
                    Ok::<_, std::convert::Infallible>(hyper::body::Frame::data(framed(&wish("user"))))
                }
            });
            let body = tonic::body::Body::new(http_body_util::StreamBody::new(message));
            let (head, ()) = post(ISSUE).into_parts();
            calls.spawn(timeout(LIMIT, channel.oneshot(http::Request::from_parts(head, body))));
        }
        let all_refused = || server.counted(ISSUE, "RESOURCE_EXHAUSTED") == round * EACH;
        eventually("the calls are refused", all_refused).await;
        go.cancel();
        let all_sent = || sent.load(Ordering::Relaxed) == usize::try_from(EACH).unwrap();
        eventually("the messages are on their way", all_sent).await;
        tap.open();
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().unwrap().headers()["grpc-status"], "8");
        }
    }
    assert_eq!(connected.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn calls_reset_by_their_caller_end_and_are_counted() {
    const ROUNDS: u32 = 40;
    const EACH: u32 = 50;
    let server = start(anybody(), Settings { max_in_flight: 60, ..Settings::default() }).await;
    server.acs.hang();
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(frames::BEGIN).await.unwrap();
    for round in 0..ROUNDS {
        let streams: Vec<_> = (0..EACH).map(|at| 1 + 2 * (round * EACH + at)).collect();
        let mut bytes = Vec::new();
        for stream in &streams {
            bytes.extend(frames::headers(*stream, &format!("/{ISSUE}")));
            bytes.extend(frames::data(*stream, &framed(&wish(&format!("user-{stream}")))));
        }
        bytes.extend(frames::ping());
        socket.write_all(&bytes).await.unwrap();
        timeout(LIMIT, ponged(&mut socket)).await.unwrap().unwrap();
        eventually("the calls have begun", || in_flight(&server) == i64::from(EACH)).await;
        let resets: Vec<u8> = streams.iter().flat_map(|stream| frames::reset(*stream)).collect();
        socket.write_all(&resets).await.unwrap();
        eventually("the calls have ended", || in_flight(&server) == 0).await;
    }
    assert_eq!(server.counted(ISSUE, "CANCELLED"), u64::from(ROUNDS * EACH));
    // Their seats are free again, or these would be refused.
    server.acs.gate.add_permits(1_000_000);
    serves_others(&server).await;
}

#[tokio::test]
async fn calls_that_hang_hold_up_no_other_of_their_connection() {
    const HANGING: i64 = 255;
    let server = start_default().await;
    let tokens = server.tokens().await;
    tokens.clone().issue_token(wish("cached")).await.unwrap();
    server.acs.hang();
    let mut hanging = JoinSet::new();
    for number in 0..HANGING {
        let mut tokens = tokens.clone();
        hanging.spawn(async move { tokens.issue_token(wish(&format!("user-{number}"))).await });
    }
    eventually("all but one stream hang", || in_flight(&server) == HANGING).await;
    for _ in 0..100 {
        timeout(LIMIT, tokens.clone().issue_token(wish("cached"))).await.unwrap().unwrap();
    }
    assert_eq!(in_flight(&server), HANGING, "none of them had ended by then");
    server.acs.gate.add_permits(1000);
    for answer in hanging.join_all().await {
        answer.unwrap();
    }
    eventually("nothing is in flight", || in_flight(&server) == 0).await;
}

#[tokio::test]
async fn a_flood_on_one_connection_leaves_others_their_turn() {
    let server = start_default().await;
    for number in 0..300 {
        insert(&server.store, &format!("user-{number}"), &format!("8:acs:{number}")).await;
    }
    let flood = server.identities().await;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut floods = JoinSet::new();
    for _ in 0..256 {
        let (mut flood, answered) = (flood.clone(), answered.clone());
        floods.spawn(async move {
            let page = v1::ListIdentitiesRequest { page_size: 300, ..Default::default() };
            while flood.list_identities(page.clone()).await.is_ok() {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    eventually("the flood has begun", || server.counted(LIST, "OK") > 300).await;
    let mut tokens = server.tokens().await;
    tokens.issue_token(wish("user")).await.unwrap();
    let mut between = Vec::new();
    for _ in 0..20 {
        let before = server.counted(LIST, "OK");
        timeout(LIMIT, tokens.issue_token(wish("user"))).await.unwrap().unwrap();
        between.push(server.counted(LIST, "OK") - before);
    }
    between.sort_unstable();
    assert!(
        between[between.len() / 2] < 128,
        "calls of the flood that came before one of another: {between:?}"
    );
    drop(floods);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_under_load_loses_no_answer() {
    let server = start_default().await;
    let finished = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for connection in 0..4 {
        let tokens = server.tokens().await;
        for caller in 0..32 {
            let (mut tokens, finished) = (tokens.clone(), finished.clone());
            callers.spawn(async move {
                for call in 0.. {
                    // Most come from the cache, some need ACS.
                    let user = format!("user-{connection}-{caller}-{}", call / 10);
                    match timeout(LIMIT, tokens.issue_token(wish(&user))).await.expect("none hangs") {
                        Ok(_) => finished.fetch_add(1, Ordering::Relaxed),
                        Err(status) => return status.code(),
                    };
                }
                unreachable!()
            });
        }
    }
    eventually("the load is on", || finished.load(Ordering::Relaxed) > 1000).await;
    server.shutdown.cancel();
    let begin = std::time::Instant::now();
    timeout(LIMIT, server.served).await.unwrap().unwrap().unwrap();
    assert!(begin.elapsed() < Settings::default().drain_timeout, "no connection had to be cut");
    let refusals = callers.join_all().await;
    assert_eq!(refusals.len(), 128);
    let text = server.metrics.render();
    let counted = |code: &str| {
        let labels = format!("rpc_method=\"{ISSUE}\",rpc_response_status_code=\"{code}\"");
        let line =
            text.lines().find(|line| line.contains("duration_seconds_count") && line.contains(&labels));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    };
    assert_eq!(counted("OK"), finished.load(Ordering::Relaxed), "every answer given arrived");
    assert_eq!(counted("CANCELLED"), 0, "no call was dropped");
}

#[tokio::test]
async fn a_handler_that_panics_fails_its_own_call_alone() {
    let server = start_default().await;
    let channel = server.channel().await;
    let mut tokens = v1::token_service_client::TokenServiceClient::new(channel.clone());
    let mut identities = v1::identity_service_client::IdentityServiceClient::new(channel);
    server.acs.hang();
    let waiting = tokio::spawn({
        let mut tokens = tokens.clone();
        async move { tokens.issue_token(wish("user")).await }
    });
    eventually("a call waits", || in_flight(&server) == 1).await;
    server.store.set(Trouble::Panics);
    for _ in 0..3 {
        let status = identities.list_identities(v1::ListIdentitiesRequest::default()).await.unwrap_err();
        refused(&status, Code::Internal, "INTERNAL");
    }
    server.store.set(Trouble::None);
    server.acs.gate.add_permits(1000);
    waiting.await.unwrap().unwrap();
    tokens.issue_token(wish("user")).await.unwrap();
    eventually("nothing is in flight", || in_flight(&server) == 0).await;
}
