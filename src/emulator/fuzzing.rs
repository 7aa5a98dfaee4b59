//! Fuzz targets: what anybody on this machine may send to the emulator.
//!
//! One emulator without connections; requests go to it as they would come out of HTTP. Time stands still but for the
//! waits, which pass at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use sha2::{Digest, Sha256};

use super::events::Events;
use super::handle::EmulatorHandle;
use super::service::{self, Origin};
use super::settings::Settings;
use super::shared::Shared;
use crate::clock::{ManualClock, Timestamp};
use crate::fuzzing::Input;
use crate::secret::Secret;

/// Within the validity of the certificates, which live in real time.
const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_123);
/// The access key, and in base64.
const KEY: &[u8] = b"the access key of a fuzzed emulator";
/// Requests of one input at the most.
const MOST_REQUESTS: usize = 8;
/// The longest answer that is looked at.
const LONGEST: usize = 64 * 1024 * 1024;

thread_local! {
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

struct Stage {
    runtime: tokio::runtime::Runtime,
    emulator: EmulatorHandle,
    keys: [(u64, Vec<u8>); 2],
}

impl Stage {
    fn new() -> Self {
        // Waits pass at once: a fault that delays an answer must not slow the fuzzer down.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let settings = Settings {
            access_key: Some(Secret::new(STANDARD.encode(KEY))),
            seed: 7,
            ..Settings::on_free_ports()
        };
        let emulator =
            runtime.block_on(super::start(settings, Arc::new(ManualClock::at(NOW)))).expect("an emulator");
        // Nothing may leave: no connection comes in, and what would post to webhooks ends before it begins.
        emulator.cancel.cancel();
        let keys = emulator.shared.state().keys();
        Self { runtime, emulator, keys }
    }

    /// As it was before anything was asked of it; nothing if a request has changed what a reset leaves alone.
    fn again(self) -> Option<Self> {
        let shared = &self.emulator.shared;
        let same = shared.state().keys() == self.keys;
        if !shared.events.webhooks().is_empty() {
            Events::set_webhooks(shared, Vec::new()).expect("no webhooks at all are good");
        }
        shared.clock.rewind();
        shared.reset();
        same.then_some(self)
    }
}

/// What later requests of an input may name of earlier answers.
struct Known {
    user: String,
    thread: String,
    message: String,
    token: Option<String>,
}

/// Requests, separated by a line `%%`. `@U`, `@T` and `@M` in them stand for the user who asks, the last thread and the
/// last message. `authorization: key` signs, `authorization: user` brings a token of that user.
pub fn requests(data: &[u8]) {
    let stage = STAGE.take().unwrap_or_else(Stage::new);
    let mut known = Known {
        user: "8:acs:nobody".to_owned(),
        thread: "19:none@thread.v2".to_owned(),
        message: "1".to_owned(),
        token: None,
    };
    let mut input = Input(data);
    for _ in 0..MOST_REQUESTS {
        if input.is_empty() {
            break;
        }
        let one = input.until(b"\n%%\n");
        stage.runtime.block_on(request(&stage.emulator.shared, one, &mut known));
    }
    STAGE.set(stage.again());
}

/// Writes an id where its name stands.
fn filled(bytes: &[u8], known: &Known) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut input = Input(bytes);
    while !input.is_empty() {
        let rest = input.0.len();
        let plain = input.until(b"@");
        out.extend_from_slice(plain);
        if plain.len() == rest {
            break;
        }
        let id = match input.0.first() {
            Some(b'U') => &known.user,
            Some(b'T') => &known.thread,
            Some(b'M') => &known.message,
            _ => {
                out.push(b'@');
                continue;
            }
        };
        input.byte();
        out.extend_from_slice(id.as_bytes());
    }
    out
}

async fn request(shared: &Arc<Shared>, bytes: &[u8], known: &mut Known) {
    let names_a_user =
        [&b"@U"[..], b"authorization: user"].iter().any(|name| bytes.windows(name.len()).any(|w| w == *name));
    if names_a_user && known.token.is_none() {
        Box::pin(become_a_user(shared, known)).await;
    }
    let mut input = Input(bytes);
    let head = filled(input.line(), known);
    let mut words = Input(&head);
    let (method, target) = (words.until(b" ").to_owned(), String::from_utf8_lossy(words.0).into_owned());
    let mut request = Request::builder().method(method.as_slice()).uri(target.as_str());
    let mut proof = None;
    let mut host = true;
    loop {
        let line = input.line();
        if line.is_empty() || request.headers_ref().is_some_and(|headers| headers.len() >= 64) {
            break;
        }
        let mut line = Input(line);
        let name = HeaderName::from_bytes(line.until(b":"));
        let value = filled(line.0.trim_ascii(), known);
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(&value)) else { continue };
        if name == header::AUTHORIZATION && matches!(value.as_bytes(), b"key" | b"user") {
            proof = Some(value.as_bytes() == b"key");
            continue;
        }
        host &= name != header::HOST;
        request = request.header(name, value);
    }
    let body = Bytes::from(filled(input.0, known));
    if host {
        request = request.header(header::HOST, "127.0.0.1:8082");
    }
    request = match proof {
        Some(true) => signed(request, &method, &target, &body),
        Some(false) => request
            .header(header::AUTHORIZATION, format!("Bearer {}", known.token.as_deref().unwrap_or("none"))),
        None => request,
    };
    let Ok(request) = request.body(Full::new(body)) else { return };
    let path = request.uri().path().to_owned();
    if let Some(answer) = answered(shared, request).await {
        looked_at(&path, &answer);
        remember(&answer.2, known);
    }
}

/// Status, media type and body of what was answered; nothing if the connection was closed, or the answer has no end.
async fn answered(shared: &Arc<Shared>, request: Request<Full<Bytes>>) -> Option<(u16, String, Bytes)> {
    let origin = Origin { peer: ([127, 0, 0, 1], 40_000).into(), scheme: "http" };
    let response = service::handle(shared, origin, request).await.ok()?;
    let status = response.status().as_u16();
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    let kind = kind.unwrap_or_default().to_owned();
    let body = response.into_body().collect();
    let body = tokio::time::timeout(Duration::from_secs(3600), body).await.ok()?.ok()?.to_bytes();
    Some((status, kind, body))
}

fn looked_at(path: &str, (status, kind, body): &(u16, String, Bytes)) {
    assert!((200..=599).contains(status) && body.len() <= LONGEST);
    if kind.starts_with("application/json") {
        serde_json::from_slice::<serde_json::Value>(body).expect("an answer that says it is JSON is JSON");
    }
    // Only the inbox has a page, and it is the same whatever was sent.
    assert!(!kind.contains("html") || path.trim_end_matches('/') == "/_emulator", "{path} is a document");
}

fn remember(body: &Bytes, known: &mut Known) {
    let Ok(body) = serde_json::from_slice::<serde_json::Value>(body) else { return };
    let text = |pointer: &str| body.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    if let Some(thread) = text("/chatThread/id") {
        known.thread = thread;
    } else if let Some(message) = text("/id").or_else(|| text("/value/0/messageId")) {
        known.message = message;
    }
}

/// Creates a user with a token for chat.
async fn become_a_user(shared: &Arc<Shared>, known: &mut Known) {
    let body = Bytes::from_static(br#"{"createTokenWithScopes":["chat","voip"]}"#);
    let target = "/identities?api-version=2023-10-01";
    let request = Request::builder()
        .method("POST")
        .uri(target)
        .header(header::HOST, "127.0.0.1:8082")
        .header(header::CONTENT_TYPE, "application/json");
    let Ok(request) = signed(request, b"POST", target, &body).body(Full::new(body)) else { return };
    // An input that asked for faults gets them here too.
    let Some((201, _, body)) = answered(shared, request).await else { return };
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    let text = |pointer: &str| body.pointer(pointer).and_then(serde_json::Value::as_str).map(str::to_owned);
    if let (Some(user), Some(token)) = (text("/identity/id"), text("/accessToken/token")) {
        known.user = user;
        known.token = Some(token);
    }
}

fn signed(
    request: http::request::Builder,
    method: &[u8],
    target: &str,
    body: &Bytes,
) -> http::request::Builder {
    let host = request.headers_ref().and_then(|headers| headers.get(header::HOST)?.to_str().ok());
    let host = host.unwrap_or_default().to_owned();
    let date = httpdate::fmt_http_date(std::time::UNIX_EPOCH + Duration::from_millis(NOW.as_millis()));
    let hash = STANDARD.encode(Sha256::digest(body));
    let text = format!("{}\n{target}\n{date};{host};{hash}", String::from_utf8_lossy(method));
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("a key");
    mac.update(text.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    request.header("x-ms-date", date).header("x-ms-content-sha256", hash).header(
        header::AUTHORIZATION,
        format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}"),
    )
}

/// The parts of a mail that the inbox hands out.
pub fn mail_parts(data: &[u8]) {
    super::inbox::fuzzing::parts(data);
}
