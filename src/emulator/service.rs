//! One request from its arrival to its answer: route, read, authenticate, check the version, meet faults, perform.
//!
//! The order is the real service's as far as it is known: authentication before versions, versions before bodies.
//! It never panics on what it reads and never holds more of a body than the limit. Called by `server`.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};

use super::control;
use super::counters::Counters;
use super::faults::{self, Commit, Effect, Fault, Faults};
use super::identity::{self, Call};
use super::operation::{self, Operation, Route};
use super::signature::{self, Received, Refusal};
use super::state::State;
use super::token::Signer;
use super::version;
use super::wire::{self, Answer};
use crate::clock::Clock;

/// The longest request body. The Identity API needs a few hundred bytes.
const MAX_BODY: usize = 64 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest client request id that is echoed.
const MAX_REQUEST_ID: usize = 256;

/// Everything that the connections of one emulator share.
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    pub(super) signer: Signer,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) date_margin: Duration,
    pub(super) faults: Faults,
    pub(super) counters: Counters,
}

impl Shared {
    /// The state. Never keep it across an await, nor take it twice.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The connection is to be closed without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed without an answer, as was asked for")]
pub(super) struct Dropped;

/// Where a request came in.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) peer: SocketAddr,
    pub(super) scheme: &'static str,
}

/// Answers one request.
pub(super) async fn handle<B>(
    shared: &Shared,
    origin: Origin,
    request: Request<B>,
) -> Result<Response<Full<Bytes>>, Dropped>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let answer = match operation::route(head.method.as_str(), head.uri.path()) {
        Route::NotEmulated(name) => not_emulated(&head, name),
        Route::Control(path) => match read(body).await {
            Ok(body) => control::handle(shared, origin.peer, &head, &path, &body),
            Err(answer) => *answer,
        },
        Route::Emulated(operation, id) => {
            let _in_flight = shared.counters.arrived(operation);
            match read(body).await {
                Ok(body) => {
                    let id = id.unwrap_or_default();
                    emulate(shared, origin, &head, operation, &id, &body).await?
                }
                Err(answer) => *answer,
            }
        }
    };
    Ok(respond(shared, &head.headers, answer, started))
}

/// Reads the whole body within its limits.
async fn read<B>(body: B) -> Result<Bytes, Box<Answer>>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let refuse = |status, code, message: &str| Err(Box::new(wire::error(status, code, message, None)));
    let collected = Limited::new(body, MAX_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            refuse(413, "RequestEntityTooLarge", "The request body is larger than 64 KiB.")
        }
        Ok(Err(_)) => refuse(400, "BadRequest", "The request body could not be read."),
        Err(_) => refuse(408, "RequestTimeout", "The request body took longer than ten seconds."),
    }
}

async fn emulate(
    shared: &Shared,
    origin: Origin,
    head: &http::request::Parts,
    operation: Operation,
    id: &str,
    body: &Bytes,
) -> Result<Answer, Dropped> {
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let received = Received { method: head.method.as_str(), target, headers: &head.headers, body };
    let keys = shared.state().keys();
    let keys = keys.iter().map(|(number, bytes)| (*number, bytes.as_slice()));
    let key = match signature::verify(&received, keys, shared.clock.now(), shared.date_margin) {
        Ok(key) => key,
        Err(refusal) => return Ok(refused(refusal)),
    };
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let uri = format!("{}://{host}{}", origin.scheme, head.uri.path());
    let version = match version::check(head.uri.query(), &uri, operation) {
        Ok(version) => version,
        Err(answer) => return Ok(*answer),
    };
    if let Some(answer) = unsupported_media_type(&head.headers, body) {
        return Ok(answer);
    }

    let call = Call { operation, id, version, body, key };
    let fault = shared.faults.take(operation);
    if let Some(fault) = fault.filter(|fault| fault.commit == Commit::Before)
        && let Some(answer) = strike(fault).await?
    {
        return Ok(answer);
    }
    let answer = match identity::perform(shared, &call) {
        Ok(answer) => {
            shared.counters.succeeded(operation);
            answer
        }
        Err(refusal) => *refusal,
    };
    if let Some(fault) = fault.filter(|fault| fault.commit == Commit::After)
        && let Some(answer) = strike(fault).await?
    {
        return Ok(answer);
    }
    Ok(answer)
}

/// Lets a fault happen. Nothing returned: the request takes its course.
async fn strike(fault: Fault) -> Result<Option<Answer>, Dropped> {
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay.min(faults::LONGEST)).await;
    }
    match fault.effect {
        Effect::Proceed => Ok(None),
        Effect::Answer { status, retry_after_seconds } => {
            Ok(Some(faults::answer(status, retry_after_seconds)))
        }
        Effect::Drop => Err(Dropped),
        Effect::Hang => {
            // A caller that hangs up, and the end of the emulator, end this sooner.
            tokio::time::sleep(faults::LONGEST).await;
            Err(Dropped)
        }
    }
}

fn refused(refusal: Refusal) -> Answer {
    let message = match refusal {
        Refusal::Denied => "Denied by the resource provider.",
        Refusal::ContentHash => "Request 'x-ms-content-sha256' differs from generated content hash.",
        Refusal::ClockSkew => {
            "The given request could not be resolved: the time difference between originating client and server \
             is greater than the allowed margin of 5 minutes."
        }
    };
    wire::error(401, "Denied", message, None)
}

/// A body must be JSON; an empty one may say what it likes.
fn unsupported_media_type(headers: &HeaderMap, body: &Bytes) -> Option<Answer> {
    let is_json = || {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next()?.trim();
        Some(media_type.eq_ignore_ascii_case("application/json"))
    };
    if body.is_empty() || is_json() == Some(true) {
        return None;
    }
    let message = "The content type of the request body must be application/json.";
    Some(wire::error(415, "UnsupportedMediaType", message, None))
}

fn not_emulated(head: &http::request::Parts, name: &str) -> Answer {
    let path: String = head.uri.path().chars().take(200).collect();
    let message = format!(
        "The acs-broker emulator does not implement {name} ({} {path}). It emulates the Identity API.",
        head.method
    );
    wire::error(501, "NotImplemented", &message, None)
}

/// Puts an answer on the wire with the headers the real service sends.
fn respond(
    shared: &Shared,
    request_headers: &HeaderMap,
    answer: Answer,
    started: Instant,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: Result<HeaderValue, _>| {
        if let Ok(value) = value {
            headers.insert(name, value);
        }
    };
    if let Some(content_type) = answer.content_type {
        set(
            "content-type",
            Ok::<_, http::header::InvalidHeaderValue>(HeaderValue::from_static(content_type)),
        );
    }
    if answer.names_versions {
        set("api-supported-versions", Ok(HeaderValue::from_static(version::SUPPORTED)));
    }
    if let Some(seconds) = answer.retry_after_seconds {
        set("retry-after", Ok(HeaderValue::from(seconds)));
    }
    set("date", HeaderValue::from_str(&wire::http_date(shared.clock.now())));
    set("request-context", Ok(HeaderValue::from_static("appId=")));
    let vector: [u8; 16] = rand::random();
    set("ms-cv", HeaderValue::from_str(&format!("{}.0", STANDARD_NO_PAD.encode(vector))));
    set("x-processing-time", HeaderValue::from_str(&format!("{}ms", started.elapsed().as_millis())));
    set("x-cache", Ok(HeaderValue::from_static("CONFIG_NOCACHE")));
    if let Some(id) = request_headers.get("x-ms-client-request-id").filter(|id| id.len() <= MAX_REQUEST_ID) {
        set("x-ms-client-request-id", Ok(id.clone()));
    }
    response
}
