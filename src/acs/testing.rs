//! Small scripted HTTP servers and settings for the tests of the client and of what stands on it.
//!
//! The server checks nothing by itself: it plays its script and keeps what it received. Signatures are checked here
//! with another HMAC implementation than the client's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Client, ConnectionString, Settings};
use crate::clock::{Clock, Timestamp};

/// The key of every test resource.
pub(crate) const ACCESS_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The default settings.
pub(crate) fn settings() -> Settings {
    let defaults: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    defaults["acs"].clone().try_into().unwrap()
}

/// Settings with attempts so short that tests of failures are quick.
pub(crate) fn hasty() -> Settings {
    Settings { attempt_timeout: Duration::from_millis(250), ..settings() }
}

/// A client of that resource.
pub(crate) fn client(settings: &Settings, endpoint: &str) -> Client {
    let text = format!("endpoint={endpoint}/;accesskey={ACCESS_KEY}");
    Client::new(settings, ConnectionString::parse(&text).unwrap(), Arc::new(Ticking::default())).unwrap()
}

/// A clock that shows another second each time it is read, starting at Tue, 04 Mar 2025 05:06:07 GMT.
#[derive(Debug, Default)]
pub(crate) struct Ticking(AtomicU64);

impl Clock for Ticking {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_741_064_767_000 + 1000 * self.0.fetch_add(1, Ordering::SeqCst))
    }
}

/// What the server does with a request.
#[derive(Clone)]
pub(crate) enum Play {
    /// Writes these bytes and keeps the connection.
    Answer(String),
    /// Writes these bytes and closes the connection.
    Cut(String),
    /// Closes the connection with a reset, without a word.
    Reset,
    /// Never answers.
    Hang,
    /// Writes this head, then body bytes without end.
    Endless(String),
}

impl Play {
    /// An answer with a JSON body.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::with(status, "Content-Type: application/json\r\n", body)
    }

    /// An answer with these header lines.
    pub(crate) fn with(status: u16, headers: &str, body: &str) -> Self {
        Self::Answer(format!("HTTP/1.1 {status} S\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// 204.
    pub(crate) fn no_content() -> Self {
        Self::Answer("HTTP/1.1 204 S\r\n\r\n".to_owned())
    }
}

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> &str {
        let mut values = self.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let value = values.next().unwrap_or_default();
        assert_eq!(values.next(), None, "{name} came twice");
        value
    }

    /// Verifies body hash and signature over what arrived.
    pub(crate) fn assert_signed(&self) {
        self.assert_signed_with(ACCESS_KEY);
    }

    /// The same with another key.
    pub(crate) fn assert_signed_with(&self, key: &str) {
        let hash = STANDARD.encode(ring::digest::digest(&ring::digest::SHA256, self.body.as_bytes()));
        assert_eq!(self.header("x-ms-content-sha256"), hash);
        let signed = format!(
            "{}\n{}\n{};{};{hash}",
            self.method,
            self.target,
            self.header("x-ms-date"),
            self.header("host")
        );
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &STANDARD.decode(key).unwrap());
        let proof = STANDARD.encode(ring::hmac::sign(&key, signed.as_bytes()));
        assert_eq!(
            self.header("authorization"),
            format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={proof}")
        );
    }
}

/// A server on loopback that plays a script, one entry per request; requests after its end are reset.
pub(crate) struct Server {
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(script: impl IntoIterator<Item = Play>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let script: Arc<[Play]> = script.into_iter().collect();
        let kept = Arc::clone(&received);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(play(stream, Arc::clone(&script), Arc::clone(&kept)));
            }
        });
        Self { address, received, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    /// Waits until that many requests have arrived.
    pub(crate) async fn wait_for(&self, requests: usize) {
        let waiting = async {
            while self.received().len() < requests {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the requests arrive");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address that refuses connections for as long as this lives: bound, so that nobody else gets the port, but not
/// listening.
pub(crate) struct Closed(tokio::net::TcpSocket);

impl Closed {
    pub(crate) fn new() -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

async fn play(mut stream: TcpStream, script: Arc<[Play]>, received: Arc<Mutex<Vec<Received>>>) {
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await {
        let place = {
            let mut received = received.lock().unwrap();
            received.push(request);
            received.len() - 1
        };
        match script.get(place) {
            Some(Play::Answer(bytes)) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Some(Play::Cut(bytes)) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Some(Play::Endless(head)) => {
                let mut wanted = stream.write_all(head.as_bytes()).await.is_ok();
                while wanted {
                    wanted = stream.write_all(&[b' '; 4096]).await.is_ok();
                }
                return;
            }
            Some(Play::Hang) => std::future::pending().await,
            Some(Play::Reset) | None => {
                let _ = stream.set_zero_linger();
                return;
            }
        }
    }
}

async fn read_request(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<Received> {
    let head_end = loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break at + 4;
        }
        read_more(stream, buffer).await?;
    };
    let head = String::from_utf8(buffer[..head_end].to_vec()).unwrap();
    let mut lines = head.lines();
    let mut start = lines.next().unwrap().split(' ');
    let (method, target) = (start.next().unwrap().to_owned(), start.next().unwrap().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    assert!(headers.iter().all(|(name, _)| name != "transfer-encoding"), "bodies have a length: {head}");
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    while buffer.len() < head_end + length {
        read_more(stream, buffer).await?;
    }
    let body = String::from_utf8(buffer[head_end..head_end + length].to_vec()).unwrap();
    buffer.drain(..head_end + length);
    Some(Received { method, target, headers, body })
}

async fn read_more(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Option<()> {
    let read = stream.read_buf(buffer).await.ok()?;
    (read > 0).then_some(())
}
