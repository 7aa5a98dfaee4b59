//! One request from its arrival to its answer: route, read, authenticate, check the version, limit, fault, perform.
//!
//! The order is the real service's as far as it is known: authentication before versions, versions before bodies.
//! It never panics on what it reads and never holds more of a body than the limit. Called by `server`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Request, Response, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Bytes};

use super::answer::{self, Answer};
use super::authentication::authenticate;
use super::call::{Call, Principal};
use super::calls::Entry;
use super::faults::{self, Commit, Effect, Fault};
use super::operation::{self, Operation, Route, Service};
use super::respond::{ReplyBody, respond};
use super::shared::Shared;
use super::throttle::Subject;
use super::version::{self, Version};
use super::{chat, control, email, identity, issuer, sms};

/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// A body that may be larger than this is a large one.
const LARGE: usize = 1024 * 1024;

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
