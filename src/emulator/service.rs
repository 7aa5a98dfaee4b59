//! One request from its arrival to its answer: route, read, authenticate, check the version, limit, fault, perform.
//!
//! The order is the real service's as far as it is known: authentication before versions, versions before bodies.
//! It never panics on what it reads and never holds more of a body than the limit. Called by `server`.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, StreamBody};
use hyper::body::{Body, Bytes, Frame};
use tokio::sync::Semaphore;

use super::answer::{self, Answer};
use super::call::{Call, Principal};
use super::calls::{Calls, Entry};
use super::clock::VirtualClock;
use super::faults::{self, Commit, Effect, Fault, Faults};
use super::feed::Feed;
use super::operation::{self, Access, Operation, Route, Service};
use super::random::Random;
use super::scheduler::Scheduler;
use super::settings::Settings;
use super::signature::{self, Received, Refusal};
use super::throttle::{Subject, Throttle};
use super::version::{self, Version};
use super::{chat, control, email, events, identity, issuer, sms, times};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Bodies of the largest kind that are held at the same time; the others wait.
const LARGE_BODIES: usize = 16;
/// A body that may be larger than this is a large one.
const LARGE: usize = 1024 * 1024;
/// The longest client request id that is echoed.
const MAX_REQUEST_ID: usize = 256;

/// What an answer carries: bytes at once, or a stream of them.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// Everything that the connections of one emulator share.
pub(super) struct Shared {
    pub(super) settings: Settings,
    /// Where HTTP is served.
    pub(super) http: SocketAddr,
    /// Where HTTPS is served.
    pub(super) tls: SocketAddr,
    pub(super) clock: VirtualClock,
    pub(super) random: Random,
    pub(super) feed: Feed,
    pub(super) scheduler: Scheduler,
    pub(super) faults: Faults,
    pub(super) throttle: Throttle,
    pub(super) calls: Calls,
    pub(super) signer: identity::Signer,
    pub(super) identities: Mutex<identity::State>,
    pub(super) issuer: issuer::Issuer,
    pub(super) sms: sms::Sms,
    pub(super) email: email::Email,
    pub(super) chat: chat::Chat,
    pub(super) events: events::Events,
    pub(super) watchers: control::Watchers,
    pub(super) large_bodies: Semaphore,
}

impl Shared {
    /// The keys, identities and tokens. Never keep it across an await, nor take it twice.
    pub(super) fn state(&self) -> MutexGuard<'_, identity::State> {
        self.identities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The connection string over HTTP or HTTPS with either key.
    pub(super) fn connection_string(&self, https: bool, key: identity::AccessKey) -> String {
        let (scheme, address) = if https { ("https", self.tls) } else { ("http", self.http) };
        let key = self.state().key_text(key);
        format!("endpoint={scheme}://{}/;accesskey={}", reachable(address), key.expose())
    }

    /// The address of the inbox page, for a browser on this machine.
    pub(super) fn inbox(&self) -> String {
        format!("http://{}/_emulator/", reachable(self.http))
    }

    /// Moves the emulator's clock ahead; what falls due happens at once.
    pub(super) fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.scheduler.wake();
        self.feed.changed();
    }

    /// Forgets everything but keys, addresses and time.
    pub(super) fn reset(&self) {
        self.scheduler.clear();
        self.state().reset();
        self.issuer.reset();
        self.sms.reset();
        self.email.reset();
        self.chat.reset();
        self.events.reset();
        self.faults.clear(Operation::Any);
        self.throttle.reset();
        self.calls.reset();
        self.feed.changed();
    }
}

pub(super) fn large_bodies() -> Semaphore {
    Semaphore::new(LARGE_BODIES)
}

/// An address that clients on this machine can use: "any address" becomes loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
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
    shared: &Arc<Shared>,
    origin: Origin,
    request: Request<B>,
) -> Result<Response<ReplyBody>, Dropped>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let started = Instant::now();
    let (head, body) = request.into_parts();
    let (service, answer) = match operation::route(head.method.as_str(), head.uri.path()) {
        Route::NotEmulated(name) => (None, not_known(&head, name)),
        Route::Home => (None, answer::empty(302).with_header("location", "/_emulator/")),
        Route::Control(path) => match read(shared, body, Service::Sms).await {
            Ok(body) => match control::handle(shared, origin, &head, &path, &body).await {
                control::Reply::Answer(answer) => (None, answer),
                control::Reply::Stream(response) => return Ok(response),
            },
            Err(answer) => (None, *answer),
        },
        Route::Issuer(path) => match read(shared, body, Service::Identity).await {
            Ok(body) => (None, issuer::handle(shared, origin.scheme, &head, &path, &body)),
            Err(answer) => (None, *answer),
        },
        Route::Emulated(operation, parameters) => {
            let _in_flight = shared.calls.arrived(operation);
            let mut seen = Seen::default();
            let service = operation.service();
            let answer = match read(shared, body, service).await {
                Ok(body) => emulate(shared, origin, &head, (operation, &parameters), &body, &mut seen).await,
                Err(answer) => Ok(*answer),
            };
            log(shared, operation, &seen, answer.as_ref().map_or(0, |answer| answer.status));
            (Some(service), answer?)
        }
    };
    Ok(respond(shared, service, &head.headers, answer, started))
}

/// What became known of a request on its way, for the log of calls.
#[derive(Default)]
struct Seen {
    version: Option<Version>,
    by: Option<&'static str>,
    fault: Option<Fault>,
    throttled: bool,
    done: bool,
}

fn log(shared: &Shared, operation: Operation, seen: &Seen, status: u16) {
    shared.calls.log(Entry {
        number: 0,
        at: shared.clock.now().as_millis(),
        operation: operation.name(),
        version: seen.version.map(Version::text),
        by: seen.by,
        status,
        done: seen.done,
        fault: seen.fault.map(|fault| fault.words()),
        throttled: seen.throttled,
    });
    shared.feed.changed();
}

/// Reads the whole body within the limits of the service.
async fn read<B>(shared: &Shared, body: B, service: Service) -> Result<Bytes, Box<Answer>>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let limit = service.max_body();
    let refuse =
        |status, code, message: &str| Err(Box::new(answer::error_of(service, status, code, message)));
    let collected = async {
        // The permit is for the time of reading: what is kept afterwards is bounded by the service itself.
        let _permit = if limit > LARGE { shared.large_bodies.acquire().await.ok() } else { None };
        Limited::new(body, limit).collect().await
    };
    match tokio::time::timeout(BODY_TIMEOUT, collected).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("The request body is larger than {} KiB.", limit / 1024);
            refuse(413, "RequestEntityTooLarge", &message)
        }
        Ok(Err(_)) => refuse(400, "BadRequest", "The request body could not be read."),
        Err(_) => refuse(408, "RequestTimeout", "The request body took longer than ten seconds."),
    }
}

async fn emulate(
    shared: &Shared,
    origin: Origin,
    head: &http::request::Parts,
    (operation, parameters): (Operation, &[String]),
    body: &Bytes,
    seen: &mut Seen,
) -> Result<Answer, Dropped> {
    let service = operation.service();
    let principal = match authenticate(shared, head, operation, body) {
        Ok(principal) => principal,
        Err(answer) => return Ok(*answer),
    };
    seen.by = Some(principal.kind());
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = format!("{}://{host}", origin.scheme);
    let uri = format!("{base}{}", head.uri.path());
    let version = match version::check(head.uri.query(), &uri, operation) {
        Ok(version) => version,
        Err(answer) => return Ok(*answer),
    };
    seen.version = Some(version);
    if let Some(answer) = unsupported_media_type(service, head, body) {
        return Ok(answer);
    }

    let now = shared.clock.now();
    let raw_query = head.uri.query().unwrap_or_default();
    let headers = &head.headers;
    let call = Call { operation, version, parameters, headers, body, base: &base, raw_query, principal, now };
    if shared.throttle.is_on()
        && let Err(wait) = shared.throttle.admit(operation, &subject(shared, &call), now)
    {
        seen.throttled = true;
        let seconds = u64::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(1);
        return Ok(faults::answer(service, 429, Some(seconds.max(1))));
    }
    let fault = shared.faults.take(operation);
    seen.fault = fault;
    if let Some(fault) = fault.filter(|fault| fault.commit == Commit::Before)
        && let Some(answer) = strike(fault, service).await?
    {
        return Ok(answer);
    }
    let performed = match service {
        Service::Identity => identity::perform(shared, &call),
        Service::Sms => sms::perform(shared, &call),
        Service::Email => email::perform(shared, &call),
        Service::Chat => chat::perform(shared, &call),
    };
    let mut answer = match performed {
        Ok(answer) => {
            shared.calls.succeeded(operation);
            seen.done = true;
            answer
        }
        Err(refusal) => *refusal,
    };
    if let Some(fault) = fault.filter(|fault| fault.commit == Commit::After) {
        if let Some(instead) = strike(fault, service).await? {
            return Ok(instead);
        }
        if let Effect::SlowBody(time) = fault.effect {
            answer.trickle = Some(time.min(faults::LONGEST));
        }
    }
    Ok(answer)
}

/// Finds out who asks, in the way the operation demands.
fn authenticate(
    shared: &Shared,
    head: &http::request::Parts,
    operation: Operation,
    body: &Bytes,
) -> Result<Principal, Box<Answer>> {
    let service = operation.service();
    let denied = || Box::new(answer::error_of(service, 401, "Denied", "Denied by the resource provider."));
    let bearer = bearer(&head.headers);
    match (operation.access(), bearer) {
        (Access::Resource, Some(token)) => {
            if shared.issuer.admits(shared, token) {
                Ok(Principal::Entra)
            } else {
                Err(denied())
            }
        }
        (Access::Resource, None) => {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            let received = Received { method: head.method.as_str(), target, headers: &head.headers, body };
            let keys = shared.state().keys();
            let keys = keys.iter().map(|(number, bytes)| (*number, bytes.as_slice()));
            // Callers' clocks need not have jumped with the emulator's.
            let times = [shared.clock.base_now(), shared.clock.now()];
            signature::verify(&received, keys, &times, shared.settings.date_margin)
                .map(Principal::Key)
                .map_err(|refusal| Box::new(refused(service, refusal)))
        }
        (Access::User, Some(token)) => {
            let state = shared.state().token_state(token, shared.clock.now());
            match state {
                identity::TokenState::Valid { identity, scopes, .. } => {
                    Ok(Principal::User { id: identity, scopes })
                }
                _ => Err(Box::new(chat::unauthorized())),
            }
        }
        (Access::User, None) => Err(Box::new(chat::unauthorized())),
        (Access::EntraUser, Some(token)) => {
            Ok(Principal::EntraUser { token: crate::secret::Secret::new(token) })
        }
        (Access::EntraUser, None) => Err(denied()),
    }
}

/// The token of `Authorization: Bearer`, if that header is there exactly once.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What the limits count this call by.
fn subject(shared: &Shared, call: &Call<'_>) -> Subject {
    let user = match &call.principal {
        Principal::User { id, .. } => Some(id.clone()),
        _ => None,
    };
    match call.operation.service() {
        Service::Identity => Subject::default(),
        Service::Sms => Subject { sender: sms::sender(call), ..Subject::default() },
        Service::Email => Subject { sender: email::sending_domain(shared, call), ..Subject::default() },
        Service::Chat => Subject { user, thread: call.parameters.first().cloned(), sender: None },
    }
}

/// Lets a fault happen. Nothing returned: the request takes its course.
async fn strike(fault: Fault, service: Service) -> Result<Option<Answer>, Dropped> {
    if !fault.delay.is_zero() {
        tokio::time::sleep(fault.delay.min(faults::LONGEST)).await;
    }
    match fault.effect {
        Effect::Proceed | Effect::SlowBody(_) => Ok(None),
        Effect::Answer { status, retry_after_seconds } => {
            Ok(Some(faults::answer(service, status, retry_after_seconds)))
        }
        Effect::Drop => Err(Dropped),
        Effect::Hang => {
            // A caller that hangs up, and the end of the emulator, end this sooner.
            tokio::time::sleep(faults::LONGEST).await;
            Err(Dropped)
        }
    }
}

fn refused(service: Service, refusal: Refusal) -> Answer {
    let message = match refusal {
        Refusal::Denied => "Denied by the resource provider.",
        Refusal::ContentHash => "Request 'x-ms-content-sha256' differs from generated content hash.",
        Refusal::ClockSkew => {
            "The given request could not be resolved: the time difference between originating client and server \
             is greater than the allowed margin of 5 minutes."
        }
    };
    answer::error_of(service, 401, "Denied", message)
}

/// A body must be JSON, a PATCH of chat a merge patch; an empty one may say what it likes.
fn unsupported_media_type(service: Service, head: &http::request::Parts, body: &Bytes) -> Option<Answer> {
    let is_json = || {
        let value = head.headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next()?.trim();
        let is_patch = head.method == http::Method::PATCH
            && media_type.eq_ignore_ascii_case("application/merge-patch+json");
        Some(is_patch || media_type.eq_ignore_ascii_case("application/json"))
    };
    if body.is_empty() || is_json() == Some(true) {
        return None;
    }
    let message = "The content type of the request body must be application/json.";
    Some(answer::error_of(service, 415, "UnsupportedMediaType", message))
}

fn not_known(head: &http::request::Parts, name: &str) -> Answer {
    let path: String = head.uri.path().chars().take(200).collect();
    let message = format!(
        "The acs-broker emulator does not implement {name} ({} {path}). It emulates Identity, SMS, Email and Chat.",
        head.method
    );
    answer::error(501, "NotImplemented", &message, None)
}

/// The refusal of an operation that has a name and no handler.
pub(super) fn not_emulated(operation: Operation) -> Answer {
    let message = format!("The acs-broker emulator does not implement {}.", operation.name());
    answer::error_of(operation.service(), 501, "NotImplemented", &message)
}

/// Puts an answer on the wire with the headers the real service sends; without a service, only what HTTP asks for.
fn respond(
    shared: &Shared,
    service: Option<Service>,
    request_headers: &HeaderMap,
    answer: Answer,
    started: Instant,
) -> Response<ReplyBody> {
    let mut response = Response::new(body(answer.body, answer.trickle));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if let Some(content_type) = answer.content_type {
        set("content-type", content_type);
    }
    set("date", &times::http_date(shared.clock.now()));
    if let Some(service) = service {
        if answer.names_versions {
            set("api-supported-versions", &version::supported(service));
        }
        if matches!(service, Service::Identity | Service::Sms) {
            set("request-context", "appId=");
        }
        if service == Service::Chat {
            set("access-control-expose-headers", "*");
        }
        let vector: [u8; 16] = rand::random();
        let vector = STANDARD_NO_PAD.encode(vector);
        if service == Service::Email {
            set("mise-correlation-id", &uuid::Uuid::new_v4().to_string());
        }
        set("ms-cv", &format!("{vector}.0"));
        set("x-processing-time", &format!("{}ms", started.elapsed().as_millis()));
        set("x-cache", "CONFIG_NOCACHE");
    }
    for (name, value) in &answer.headers {
        set(name, value);
    }
    let echoes = matches!(service, None | Some(Service::Identity | Service::Email));
    let id = request_headers.get("x-ms-client-request-id").filter(|id| echoes && id.len() <= MAX_REQUEST_ID);
    if let Some(id) = id {
        headers.insert("x-ms-client-request-id", id.clone());
    }
    response
}

/// The body at once, or in small pieces spread over a time.
fn body(bytes: Bytes, trickle: Option<Duration>) -> ReplyBody {
    const PIECES: u32 = 8;
    let Some(time) = trickle.filter(|_| !bytes.is_empty()) else { return Full::new(bytes).boxed_unsync() };
    let piece = bytes.len().div_ceil(PIECES as usize).max(1);
    let pause = time / PIECES;
    let pieces = futures_util::stream::unfold(bytes, move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        tokio::time::sleep(pause).await;
        let next = rest.split_to(piece.min(rest.len()));
        Some((Ok::<_, Infallible>(Frame::data(next)), rest))
    });
    StreamBody::new(pieces).boxed_unsync()
}
