//! Connections nobody is known on: bounded together, and in nobody's way; honest crowds are none.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use acs_broker::auth::Gate;
use acs_broker::grpc::proto::v1::token_service_client::TokenServiceClient;
use acs_broker::grpc::{ClientCertificate, Settings, Tls, TlsSettings};
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::codegen::Bytes;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::certificates::Authority;
use crate::harness::{Server, anybody, eventually, start, start_tls, wish};

const LIMIT: Duration = Duration::from_secs(60);
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// More strangers than are let in at a time.
const CROWD: usize = 400;

/// Lets this process have more sockets than the usual thousand.
fn room_for_sockets() {
    let pid = std::process::id().to_string();
    let told = std::process::Command::new("prlimit").args(["--pid", &pid, "--nofile=8192:"]).status();
    assert!(told.unwrap().success(), "prlimit of util-linux raises the limit of open files");
}

/// The nth address of this machine.
fn address(number: usize) -> IpAddr {
    Ipv4Addr::new(127, 0, 7, 1 + u8::try_from(number % 8).unwrap()).into()
}

async fn connect_from(address: IpAddr, server: &Server) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((address, 0).into()).unwrap();
    socket.connect(server.address).await.unwrap()
}

fn value(server: &Server, name: &str) -> usize {
    let text = server.metrics.render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

fn open(server: &Server) -> usize {
    value(server, "acs_broker_connections_open")
}

fn crowded_out(server: &Server) -> usize {
    value(server, "acs_broker_connections_ended_total{reason=\"crowded_out\"}")
}

/// Connections that say this, and nothing more.
async fn crowd(server: &Server, said: &[u8]) -> Vec<TcpStream> {
    let mut crowd = Vec::new();
    for number in 0..CROWD {
        let mut stream = connect_from(address(number), server).await;
        // One that has to go at once may be closed before it has said it.
        let _ = stream.write_all(said).await;
        crowd.push(stream);
    }
    crowd
}

/// A call whose message never comes to its end.
fn half_a_call() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/acsbroker.v1.TokenService/IssueToken"),
        (":authority", "any"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "3600S"),
    ] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.as_bytes());
        }
    }
    let frame = |kind: u8, flags: u8, payload: &[u8]| {
        let mut frame = vec![0, 0, u8::try_from(payload.len()).unwrap(), kind, flags, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    };
    [BEGIN, &frame(1, 4, &block), &frame(0, 0, &[0, 0, 0, 200, 0, 1])].concat()
}

/// IssueToken on this very connection.
async fn call(connection: &mut h2::client::SendRequest<Bytes>) {
    let request = http::Request::post("http://any/acsbroker.v1.TokenService/IssueToken")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let message = wish("user").encode_to_vec();
    let frame = [&[0, 0, 0, 0, u8::try_from(message.len()).unwrap()], &message[..]].concat();
    let (answer, mut body) = connection.clone().ready().await.unwrap().send_request(request, false).unwrap();
    body.send_data(frame.into(), true).unwrap();
    let mut body = timeout(LIMIT, answer).await.unwrap().unwrap().into_body();
    while let Some(data) = timeout(LIMIT, body.data()).await.unwrap() {
        body.flow_control().release_capacity(data.unwrap().len()).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    assert_eq!(trailers.get("grpc-status").unwrap(), "0");
}

#[tokio::test]
async fn strangers_make_room_for_each_other_and_take_none_from_the_known() {
    room_for_sockets();
    let server = start(anybody(), Settings::default()).await;
    // Below any gRPC library, which would connect anew and say nothing.
    let known = TcpStream::connect(server.address).await.unwrap();
    let (mut known, connection) = h2::client::handshake(known).await.unwrap();
    let connection = tokio::spawn(connection);
    call(&mut known).await;
    // Of those who have begun a call some never send its message: they are strangers too.
    for said in [&b""[..], BEGIN, &half_a_call()] {
        let before = crowded_out(&server);
        let crowd = crowd(&server, said).await;
        eventually("some have to go", || crowded_out(&server) > before).await;
        eventually("they are gone", || open(&server) <= 129).await;
        call(&mut known).await;
        let mut others = TokenServiceClient::new(server.channel().await);
        timeout(LIMIT, others.issue_token(wish("another"))).await.unwrap().unwrap();
        drop(crowd);
        drop(others);
        eventually("the crowd is gone", || open(&server) == 1).await;
    }
    assert!(!connection.is_finished());
}

#[tokio::test]
async fn a_channel_that_had_to_make_room_before_its_first_call_connects_anew_for_it() {
    room_for_sockets();
    let server = start(anybody(), Settings::default()).await;
    let mut lazy = TokenServiceClient::new(server.channel().await);
    let (mut probe, mut watch) =
        (HealthClient::new(server.channel().await), HealthClient::new(server.channel().await));
    probe.check(HealthCheckRequest::default()).await.unwrap();
    let mut watch = watch.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    for _ in 0..2 {
        let before = crowded_out(&server);
        let crowd = crowd(&server, BEGIN).await;
        eventually("the oldest have to go", || crowded_out(&server) >= before + 20).await;
        // Whoever only asks for health proves nothing, and may find a new connection with each question.
        timeout(LIMIT, probe.check(HealthCheckRequest::default())).await.unwrap().unwrap();
        timeout(LIMIT, lazy.issue_token(wish("user"))).await.unwrap().unwrap();
        drop(crowd);
        eventually("the crowd is gone", || open(&server) <= 3).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_clients_that_connect_at_once_are_all_served() {
    room_for_sockets();
    let authority = Authority::new("authority");
    let (folder, pair) = (tempfile::tempdir().unwrap(), authority.server());
    let file = |name: &str, text: &str| {
        std::fs::write(folder.path().join(name), text).unwrap();
        Some(folder.path().join(name))
    };
    let tls = TlsSettings {
        cert_file: file("tls.crt", &pair.cert),
        key_file: file("tls.key", &pair.key),
        client_ca_file: None,
        client_certificate: ClientCertificate::Required,
    };
    let tls = Arc::new(Tls::open(&tls).unwrap().unwrap());
    let server = start_tls(Arc::new(Gate::open(false)), Settings::default(), tls).await;
    let mut clients = JoinSet::new();
    for number in 0..1000 {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&authority.pem));
        let endpoint = Endpoint::from_shared(format!("https://{}", server.address)).unwrap();
        let endpoint = endpoint.tls_config(tls).unwrap().local_address(Some(address(number)));
        clients.spawn(async move {
            let channel: Channel = timeout(LIMIT, endpoint.connect()).await.unwrap().unwrap();
            let mut tokens = TokenServiceClient::new(channel.clone());
            timeout(LIMIT, tokens.issue_token(wish("user"))).await.unwrap().unwrap();
            channel
        });
    }
    assert_eq!(clients.join_all().await.len(), 1000);
    assert_eq!(server.counted("acsbroker.v1.TokenService/IssueToken", "OK"), 1000);
}

#[tokio::test]
async fn whoever_does_not_answer_the_farewell_is_cut_off() {
    room_for_sockets();
    let server = start(anybody(), Settings::default()).await;
    let mut silent = connect_from(address(0), &server).await;
    silent.write_all(BEGIN).await.unwrap();
    let crowd = crowd(&server, b"").await;
    let mut rest = Vec::new();
    timeout(LIMIT, silent.read_to_end(&mut rest)).await.expect("it is cut off").unwrap();
    // SETTINGS first, and a GOAWAY before the end.
    assert_eq!(rest[3], 4);
    assert!(rest.windows(9).any(|head| head[3..] == [7, 0, 0, 0, 0, 0]), "{rest:?}");
    drop(crowd);
}
