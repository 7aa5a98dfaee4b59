//! How many may connect, for how long, with how much; and the probe port, where there is health and nothing else.

use std::time::Duration;

use acs_broker::auth::Gate;
use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::harness::{Server, anybody, eventually, start, wish};

const LIMIT: Duration = Duration::from_secs(30);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// A connection from this address of this machine.
async fn connect_from(address: &str, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{address}:0").parse().unwrap()).unwrap();
    socket.connect(server.address).await.unwrap()
}

/// Whether the server hangs up without a word more than HTTP/2's first ones.
async fn is_hung_up(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut rest)).await.is_ok()
}

/// Whether HTTP/2 is spoken on a new connection.
async fn is_served(stream: &mut TcpStream) -> bool {
    let mut frame = [0; 9];
    let served = async {
        stream.write_all(&[PREFACE, SETTINGS].concat()).await.ok()?;
        stream.read_exact(&mut frame).await.ok()
    };
    timeout(LIMIT, served).await.unwrap().is_some() && frame[3] == 4
}

fn ended(server: &Server, reason: &str) -> u64 {
    let text = server.metrics.render();
    let name = format!("acs_broker_connections_ended_total{{reason=\"{reason}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |count| count.parse().unwrap())
}

fn open(server: &Server) -> u64 {
    let text = server.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix("acs_broker_connections_open "));
    line.unwrap().parse().unwrap()
}

#[tokio::test]
async fn whoever_does_not_begin_in_time_is_hung_up_on() {
    let settings = Settings { handshake_timeout: Duration::from_secs(1), ..Settings::default() };
    let server = start(anybody(), settings).await;
    let mut waiting = Vec::new();
    for begin in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        for _ in 0..20 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all(begin).await.unwrap();
            waiting.push(stream);
        }
    }
    let mut begun = TcpStream::connect(server.address).await.unwrap();
    assert!(is_served(&mut begun).await);
    for stream in &mut waiting {
        assert!(is_hung_up(stream).await);
    }
    eventually("only the one that has begun is left", || open(&server) == 1).await;
    assert_eq!(ended(&server, "slow"), 60);
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(is_hung_up(&mut other).await);
    assert_eq!(ended(&server, "not_http2"), 1);
}

#[tokio::test]
async fn an_address_has_so_many_connections_and_takes_none_from_others() {
    let settings = Settings { max_connections_per_peer: 5, ..Settings::default() };
    let server = start(anybody(), settings).await;
    let mut first = Vec::new();
    for _ in 0..5 {
        let mut stream = connect_from("127.0.0.66", &server).await;
        assert!(is_served(&mut stream).await);
        first.push(stream);
    }
    for _ in 0..50 {
        assert!(is_hung_up(&mut connect_from("127.0.0.66", &server).await).await);
    }
    assert!(is_served(&mut connect_from("127.0.0.67", &server).await).await);
    assert_eq!(ended(&server, "peer_limit"), 50);
    first.clear();
    eventually("its places are free again", || open(&server) == 0).await;
    assert!(is_served(&mut connect_from("127.0.0.66", &server).await).await);
}

#[tokio::test]
async fn an_idle_connection_is_told_to_go_and_its_next_call_takes_another() {
    let settings = Settings { max_connection_idle: Duration::from_secs(1), ..Settings::default() };
    let server = start(anybody(), settings).await;
    let mut tokens = server.tokens().await;
    let mut watch = HealthClient::new(server.channel().await)
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for round in 1..=3 {
        // A call that meets the farewell halfway is never sent; tonic's client says so and leaves it to its caller.
        if let Err(status) = tokens.issue_token(wish("user")).await {
            assert_eq!(status.code(), Code::Cancelled, "{status:?}");
            tokens.issue_token(wish("user")).await.unwrap();
        }
        eventually("it is idle", || ended(&server, "idle") == round).await;
    }
    // A stream that says nothing is a call that runs.
    server.health.set_serving(false);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
}

#[tokio::test]
async fn headers_have_a_limit_and_others_do_not_feel_it() {
    let server = start(anybody(), Settings { max_header_bytes: 4096, ..Settings::default() }).await;
    let mut tokens = server.tokens().await;
    for (bytes, fits) in [(3000, true), (5000, false), (16_000, false)] {
        let mut request = tonic::Request::new(wish("user"));
        request.metadata_mut().insert("x-large", "x".repeat(bytes).parse().unwrap());
        assert_eq!(tokens.issue_token(request).await.is_ok(), fits, "{bytes} bytes");
    }
    // Headers without an end: the connection ends, before it has eaten the memory.
    let mut endless = TcpStream::connect(server.address).await.unwrap();
    assert!(is_served(&mut endless).await);
    let (mut reads, mut writes) = endless.into_split();
    let flood = tokio::spawn(async move {
        let frame = |kind: u8, size: usize| {
            let length = u32::try_from(size).unwrap().to_be_bytes();
            let mut frame = vec![length[1], length[2], length[3], kind, 0, 0, 0, 0, 1];
            frame.resize(9 + size, b'a');
            frame
        };
        let mut sent = 0;
        writes.write_all(&frame(1, 1)).await.unwrap();
        while writes.write_all(&frame(9, 16_000)).await.is_ok() {
            sent += 16_000;
        }
        sent
    });
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, reads.read_to_end(&mut rest)).await.unwrap();
    drop(reads);
    // What the system's buffers of a socket hold, and no more.
    assert!(timeout(LIMIT, flood).await.unwrap().unwrap() < 32_000_000);
    tokens.issue_token(wish("user")).await.unwrap();
}

#[tokio::test]
async fn the_probe_port_answers_health_and_nothing_else_to_the_end() {
    let server =
        start(std::sync::Arc::new(Gate::open(true)), Settings { reflection: true, ..Settings::default() })
            .await;
    let channel: Channel =
        Endpoint::from_shared(format!("http://{}", server.probes)).unwrap().connect().await.unwrap();
    let mut health = HealthClient::new(channel.clone());
    let check = |service: &str| HealthCheckRequest { service: service.into() };
    let status = health.check(check("")).await.unwrap().into_inner().status();
    assert_eq!(status, ServingStatus::Serving);
    let mut tokens = v1::token_service_client::TokenServiceClient::new(channel.clone());
    assert_eq!(tokens.issue_token(wish("user")).await.unwrap_err().code(), Code::Unimplemented);
    let mut reflection =
        tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient::new(channel);
    let asked = reflection.server_reflection_info(tokio_stream::empty()).await;
    assert_eq!(asked.unwrap_err().code(), Code::Unimplemented);
    assert!(!server.metrics.render().contains("rpc_method=\"acsbroker"), "and no call came to the API");

    // While the API drains, kubelet still gets an answer.
    let permits = server.acs.gate.available_permits();
    let call = server.hanging_call().await;
    server.shutdown.cancel();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while health.check(check("")).await.unwrap().into_inner().status() != ServingStatus::NotServing {
        assert!(tokio::time::Instant::now() < deadline, "it never says that it drains");
    }
    assert_eq!(health.check(check("liveness")).await.unwrap().into_inner().status(), ServingStatus::Serving);
    server.acs.gate.add_permits(permits);
    call.await.unwrap().unwrap();
    timeout(LIMIT, server.served).await.unwrap().unwrap().unwrap();
    assert!(health.check(check("")).await.is_err(), "and it ends with the API");
}
