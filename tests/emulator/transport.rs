//! Below HTTP: HTTPS with the CA file, malformed and hostile input, and addresses that are refused.

use std::time::Duration;

use acs_broker::emulator::{Settings, StartError};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::harness::{GA, Running, client_builder, start, start_with};

/// Sends bytes as they are and reads to the end of the connection.
async fn raw(running: &Running, bytes: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(running.handle.http_addr()).await.unwrap();
        // The emulator may have answered and closed before it was sent everything.
        let _ = stream.write_all(bytes).await;
        let _ = stream.shutdown().await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(Duration::from_secs(10), exchange).await.expect("the connection ends by itself")
}

#[tokio::test]
async fn https_is_trusted_through_the_ca_file_alone() {
    let folder = tempfile::tempdir().unwrap();
    let running =
        start_with(Settings { data_dir: Some(folder.path().to_owned()), ..Settings::on_free_ports() }).await;
    assert!(running.handle.ca_file().starts_with(folder.path()));
    let pem = std::fs::read(running.handle.ca_file()).unwrap();
    let ca = reqwest::Certificate::from_pem(&pem).unwrap();
    let trusting = client_builder().tls_certs_only([ca]).build().unwrap();
    let port = running.handle.tls_addr().port();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("https://{host}:{port}/identities?{GA}");
        assert_eq!(trusting.post(url).send().await.unwrap().status(), 401, "{host}: reached, but not signed");
    }
    let other = start().await;
    let pem = std::fs::read(other.handle.ca_file()).unwrap();
    let wrong = reqwest::Certificate::from_pem(&pem).unwrap();
    let distrusting = client_builder().tls_certs_only([wrong]).build().unwrap();
    let error = distrusting.get(format!("https://127.0.0.1:{port}/")).send().await.unwrap_err();
    assert!(error.is_connect(), "{error:?}");
}

#[tokio::test]
async fn addresses_off_loopback_are_refused_unless_allowed() {
    let settings = Settings { address: "0.0.0.0:0".into(), ..Settings::on_free_ports() };
    let clock = std::sync::Arc::new(acs_broker::clock::SystemClock);
    let error = acs_broker::emulator::start(settings.clone(), clock).await.unwrap_err();
    assert!(matches!(error, StartError::OffLoopback { .. }), "{error}");
    let running = start_with(Settings { allow_off_loopback: true, ..settings }).await;
    let port = running.handle.http_addr().port();
    assert!(running.handle.connection_string().starts_with(&format!("endpoint=http://127.0.0.1:{port}/;")));
}

#[tokio::test]
async fn malformed_requests_are_answered_or_cut_off_and_harm_nobody() {
    let running = start().await;
    let long_line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000));
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(1000));
    for (bytes, status) in [
        ("GARBAGE\r\n\r\n", "HTTP/1.1 400"),
        ("POST /identities HTTP/9.9\r\n\r\n", "HTTP/1.1 400"),
        ("POST /identities HTTP/1.1\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 400"),
        ("POST /identities HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc", ""),
        ("POST /identities HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP/1.1 400"),
        ("POST /identities HTTP/1.1\r\n\r\n", "HTTP/1.1 401"),
        ("POST http://elsewhere/identities HTTP/1.1\r\n\r\n", "HTTP/1.1 401"),
        ("OPTIONS * HTTP/1.1\r\n\r\n", "HTTP/1.1 501"),
        ("GET /_emulator/calls HTTP/1.1\r\n\r\n", "HTTP/1.1 403"),
        (long_line.as_str(), "HTTP/1.1 4"),
        (many_headers.as_str(), "HTTP/1.1 431"),
        ("\u{16}\u{3}\u{1}", ""),
    ] {
        let answer = raw(&running, bytes.as_bytes()).await;
        assert!(answer.starts_with(status), "{:.60}: {answer:.80}", bytes);
    }
    let endless = format!("POST /identities HTTP/1.1\r\nContent-Length: 70000\r\n\r\n{}", "a".repeat(70_000));
    assert!(raw(&running, endless.as_bytes()).await.starts_with("HTTP/1.1 413"));
    running.create().await;
    assert_eq!(running.handle.identities_alive(), 1);
}

#[tokio::test]
async fn a_connection_closed_without_a_word_harms_nobody() {
    let running = start().await;
    for address in [running.handle.http_addr(), running.handle.tls_addr()] {
        for _ in 0..50 {
            drop(TcpStream::connect(address).await.unwrap());
        }
    }
    running.create().await;
}

#[test]
fn no_bytes_can_stop_the_emulator() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let running = runtime.block_on(start());
    let line = ("[A-Z]{1,8}", "/[ -~]{0,60}", proptest::collection::vec("[a-z-]{1,12}: [ -~]{0,40}", 0..6));
    let body = proptest::collection::vec(any::<u8>(), 0..80);
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) };
    proptest!(config, |((method, target, headers) in line, body in body)| {
        let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: h\r\n{}\r\n\r\n", headers.join("\r\n"))
            .into_bytes();
        bytes.extend(body);
        runtime.block_on(raw(&running, &bytes));
    });
    runtime.block_on(running.create());
}
