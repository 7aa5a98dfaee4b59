//! What the tests of events post to: a real HTTP receiver on a free port, and a hostile one that speaks raw bytes.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// How long a test waits for something that must happen.
pub(super) const LONG: Duration = Duration::from_secs(20);

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) method: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

/// An answer: status, headers, body.
pub(super) type Reply = (u16, Vec<(&'static str, String)>, String);

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(super) fn asks(&self) -> bool {
        self.method == "OPTIONS" || self.header("aeg-event-type") == Some("SubscriptionValidation")
    }

    /// The id of the event, in either schema.
    pub(super) fn id(&self) -> &str {
        self.body.get(0).unwrap_or(&self.body)["id"].as_str().unwrap()
    }

    /// The number a test put into the data.
    pub(super) fn number(&self) -> u64 {
        self.body.get(0).unwrap_or(&self.body)["data"]["number"].as_u64().unwrap()
    }
}

/// Says yes to the question and takes every event.
pub(super) fn willing(seen: &Seen) -> Reply {
    if seen.method == "OPTIONS" {
        return (200, vec![("webhook-allowed-origin", "*".to_owned())], String::new());
    }
    match seen.body[0]["data"]["validationCode"].as_str() {
        Some(code) => (200, Vec::new(), json!({ "validationResponse": code }).to_string()),
        None => (200, Vec::new(), String::new()),
    }
}

/// An HTTP server that keeps what it got. Dropping it ends it.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    came: watch::Receiver<()>,
    _server: AbortOnDropHandle<()>,
}

impl Receiver {
    pub(super) async fn start(answer: impl FnMut(&Seen) -> Reply + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), answer).await
    }

    pub(super) async fn start_at(
        address: SocketAddr,
        answer: impl FnMut(&Seen) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (bell, came) = watch::channel(());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, kept) = (Arc::new(Mutex::new(answer)), Arc::clone(&seen));
        let handler = move |method: Method, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let request = Seen { method: method.to_string(), headers, body };
            let (status, headers, text) = (answer.lock().unwrap())(&request);
            kept.lock().unwrap().push(request);
            bell.send_replace(());
            let mut response = text.into_response();
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            for (name, value) in headers {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            async move { response }
        };
        let app = axum::Router::new().fallback(handler);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { address, seen, came, _server: AbortOnDropHandle::new(server) }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook?key=of-the-receiver", self.address)
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The events that came so far.
    pub(super) fn events(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| !seen.asks()).collect()
    }

    /// Waits until that many requests came, of the kind that is meant.
    pub(super) async fn until(&self, count: usize, meant: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let mut came = self.came.clone();
        let enough = async {
            loop {
                came.mark_unchanged();
                let found: Vec<Seen> = self.seen().into_iter().filter(|seen| meant(seen)).collect();
                if found.len() >= count {
                    return found;
                }
                came.changed().await.unwrap();
            }
        };
        let found = tokio::time::timeout(LONG, enough).await;
        found.unwrap_or_else(|_| {
            panic!("{count} requests were to come, but only these did: {:?}", self.seen())
        })
    }

    /// Waits until that many events came.
    pub(super) async fn until_events(&self, count: usize) -> Vec<Seen> {
        self.until(count, |seen| !seen.asks()).await
    }
}

/// How a hostile receiver treats an event. It is kind to the question before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malice {
    Silent,
    Resets,
    Garbage,
    EndlessHeaders,
    EndlessBody,
    SlowBody,
    RedirectsToItself,
    LiesAboutLength,
}

/// Starts a hostile receiver and tells its address.
pub(super) async fn hostile(malice: Malice) -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            connections.spawn(treat(stream, malice));
        }
    });
    (url, AbortOnDropHandle::new(server))
}

async fn treat(mut stream: TcpStream, malice: Malice) {
    let request = request(&mut stream).await;
    if let Some(code) = request.split(r#""validationCode":""#).nth(1).and_then(|rest| rest.split('"').next())
    {
        let body = json!({ "validationResponse": code }).to_string();
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        return;
    }
    let head: &[u8] = match malice {
        Malice::Silent => return std::future::pending().await,
        Malice::Resets => {
            // Closing with unread or lingering data resets the connection.
            let _ = stream.set_zero_linger();
            return;
        }
        Malice::Garbage => b"\0\xff\xffSSH-2.0 not HTTP\r\n\r\n",
        Malice::EndlessHeaders => b"HTTP/1.1 200 OK\r\n",
        Malice::EndlessBody | Malice::SlowBody => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
        Malice::RedirectsToItself => {
            b"HTTP/1.1 307 Temporary Redirect\r\nlocation: /again\r\ncontent-length: 0\r\n\r\n"
        }
        Malice::LiesAboutLength => b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\nshort",
    };
    let more: &[u8] = match malice {
        Malice::EndlessHeaders => b"x-more: and more and more and more and more and more and more\r\n",
        Malice::EndlessBody => b"10\r\n0123456789abcdef\r\n",
        Malice::SlowBody => b"1\r\nx\r\n",
        _ => b"",
    };
    let mut written = stream.write_all(head).await;
    while written.is_ok() && !more.is_empty() {
        if malice == Malice::SlowBody {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        written = stream.write_all(more).await;
    }
    // The other side decides when it has enough.
    let _ = stream.read(&mut [0; 1]).await;
}

/// A whole request with its body.
async fn request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&request).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return String::from_utf8_lossy(&request).into_owned();
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(read @ 1..) => request.extend_from_slice(&buffer[..read]),
            _ => return String::new(),
        }
    }
}
