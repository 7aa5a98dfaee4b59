//! What surrounds every call: request id, span, deadline, limit of calls in flight, metrics and the log line.
//!
//! It never looks at a message and never lets a user's value into a log or label. It is on the path of every cached
//! token, so it allocates little: names are static, the request id is the header itself, no future is boxed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::field::{self, DisplayValue};
use tracing::{Instrument, Level, Span};

use super::method::Method;
use super::status::{self, Causes, Failure, Refusal};
use crate::audit::{Audit, Outcome, Trail};
use crate::auth::Unidentified;
use crate::broker::error::Error;
use crate::broker::types::Caller;
use crate::metrics::Metrics;

/// The header of the request id, in requests and in responses.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id taken from a caller.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// No call runs longer, whatever its caller asks for.
const MAX_DEADLINE: Duration = Duration::from_secs(3600);

/// How much before the caller's own deadline the answer leaves, at the most; else the caller gives up without it.
const HEAD_START: Duration = Duration::from_millis(25);

/// The target of the log line of a call, for filters: `info,acs_broker::rpc=debug` shows successful calls too.
const LOG: &str = "acs_broker::rpc";

/// Who a call turned out to come from; empty until that is known.
pub(crate) type Identified = OnceLock<Result<Caller, Unidentified>>;

/// The log line of a call. A macro, because the level of an event is fixed where it is written.
macro_rules! line {
    ($call:expr, $level:expr, $code:expr, $failure:expr, $took:expr) => {
        tracing::event!(
            target: LOG,
            $level,
            rpc.method = $call.method.name,
            code = $code,
            reason = $failure.map(Failure::reason),
            duration_ms = $took.as_secs_f64() * 1e3,
            request_id = $call.request_id.to_str().unwrap_or_default(),
            caller = $call.caller(),
            refusal = $call.refusal(),
            cause = $failure.map(Causes).filter(Causes::any).map(field::display),
            "rpc"
        )
    };
}

/// Measures and limits the calls of one server.
pub(crate) struct Observer {
    metrics: Metrics,
    default_deadline: Duration,
    max_in_flight: usize,
    in_flight: AtomicUsize,
    audit: Audit,
}

impl Observer {
    /// One with these limits.
    pub(crate) fn new(
        metrics: Metrics,
        audit: Audit,
        default_deadline: Duration,
        max_in_flight: usize,
    ) -> Self {
        Self { metrics, default_deadline, max_in_flight, in_flight: AtomicUsize::new(0), audit }
    }

    /// A call arrives; `who` is where the caller is noted once it is known.
    pub(crate) fn begin<'a>(
        &'a self,
        method: &'static Method,
        headers: &HeaderMap,
        who: &'a Identified,
    ) -> Call<'a> {
        let started = Instant::now();
        let request_id = request_id(headers.get(REQUEST_ID));
        let id = request_id.to_str().unwrap_or_default();
        // At debug, for a span costs more than finding a cached token; the log line itself repeats what is in it.
        let span = tracing::debug_span!(target: LOG, "rpc", rpc.method = method.name, request_id = id);
        let deadline = started + budget(headers.get("grpc-timeout"), self.default_deadline);
        self.metrics.rpc_started();
        // Probes decide nothing and do nothing.
        let trail = if method.is_open() { Trail::default() } else { self.audit.trail(method.name, id) };
        Call {
            observer: self,
            method,
            who,
            request_id,
            span,
            started,
            deadline,
            trail,
            seated: false,
            finished: false,
        }
    }
}

/// The request id of a call, for handlers whose answers go on after the call has been observed.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(HeaderValue);

impl RequestId {
    pub(crate) fn as_str(&self) -> Option<&str> {
        self.0.to_str().ok()
    }
}

/// A call on its way. Dropped before it finished, it counts as cancelled by its caller.
pub(crate) struct Call<'a> {
    observer: &'a Observer,
    method: &'static Method,
    who: &'a Identified,
    request_id: HeaderValue,
    span: Span,
    started: Instant,
    deadline: Instant,
    trail: Trail,
    seated: bool,
    finished: bool,
}

impl Call<'_> {
    /// Where its handler notes what it is about.
    pub(crate) fn trail(&self) -> Trail {
        self.trail.clone()
    }

    /// What the caller knows this call by.
    pub(crate) fn request_id(&self) -> RequestId {
        RequestId(self.request_id.clone())
    }

    /// Does the work within the call's limits and answers, whatever becomes of it.
    pub(crate) async fn run(mut self, work: impl Future<Output = Response<Body>>) -> Response<Body> {
        if !self.take_seat() {
            return self.finish(status::of(Refusal::Overloaded).into_http());
        }
        let work = AssertUnwindSafe(work).catch_unwind().instrument(self.span.clone());
        let response = match timeout_at(self.deadline, work).await {
            Ok(Ok(response)) => response,
            // The message of the panic is in the log already, from the panic hook.
            Ok(Err(_)) => status::of(Error::internal("the handler panicked")).into_http(),
            Err(_) => status::of(Error::DeadlineExceeded).into_http(),
        };
        self.finish(response)
    }

    fn take_seat(&mut self) -> bool {
        if !self.method.takes_a_seat() {
            return true;
        }
        // Counted even when refused; the drop gives it back.
        self.seated = true;
        self.observer.in_flight.fetch_add(1, Ordering::Relaxed) < self.observer.max_in_flight
    }

    fn finish(mut self, response: Response<Body>) -> Response<Body> {
        let mut response = match code_of(&response) {
            Code::Ok => {
                self.record(Code::Ok, None);
                response
            }
            // Health and reflection are not of our API: their statuses are those of their own definitions.
            code if self.method.is_open() => {
                self.record(code, None);
                response
            }
            _ => self.fail(response),
        };
        response.headers_mut().insert(REQUEST_ID, self.request_id.clone());
        response
    }

    /// Gives an error its full details.
    fn fail(&mut self, response: Response<Body>) -> Response<Body> {
        let status = match response.extensions().get::<Status>() {
            Some(status) => status.clone(),
            None => Status::from_header_map(response.headers()).unwrap_or_else(|| Status::unknown("")),
        };
        let failure = status::failure_of(&status, self.method.is_known());
        let mut complete = failure.status(self.request_id.to_str().ok());
        *complete.metadata_mut() = status.metadata().clone();
        self.record(complete.code(), Some(&failure));
        complete.into_http()
    }

    fn record(&mut self, code: Code, failure: Option<&Failure>) {
        self.finished = true;
        let took = self.started.elapsed();
        let code_name = status::code_name(code);
        self.observer.metrics.rpc_finished(self.method.name, code_name, took);
        if let Some(failure) = failure {
            self.observer.metrics.error(failure.reason());
        }
        let refused = failure.and_then(Failure::refusal_of_the_caller);
        let outcome = Outcome { code: code_name, reason: failure.map(Failure::reason), took };
        self.trail.ended(self.caller(), refused, outcome);
        let level = match code {
            Code::Internal | Code::Unknown | Code::DataLoss | Code::Unavailable => Level::WARN,
            // A line costs a third of a cached token, and success is what the metrics count. Probes are noise.
            Code::Ok => Level::DEBUG,
            _ if self.method.is_open() => Level::DEBUG,
            _ => Level::INFO,
        };
        match level {
            Level::WARN => line!(self, Level::WARN, code_name, failure, took),
            Level::INFO => line!(self, Level::INFO, code_name, failure, took),
            _ => line!(self, Level::DEBUG, code_name, failure, took),
        }
    }

    fn caller(&self) -> Option<&str> {
        self.who.get().and_then(|who| who.as_ref().ok()).map(Caller::name)
    }

    /// Why the caller was refused, if it was; for the log.
    fn refusal(&self) -> Option<DisplayValue<&Unidentified>> {
        self.who.get().and_then(|who| who.as_ref().err()).map(field::display)
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if self.seated {
            self.observer.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if !self.finished {
            self.record(Code::Cancelled, None);
        }
    }
}

/// The code an answer carries: in the headers if it is an error, for an answer with a message is OK so far.
fn code_of(response: &Response<Body>) -> Code {
    response.headers().get(Status::GRPC_STATUS).map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()))
}

/// The caller's request id if it is fit for logs, else a new one.
pub(super) fn request_id(sent: Option<&HeaderValue>) -> HeaderValue {
    let fit = |id: &&HeaderValue| {
        let id = id.as_bytes();
        (1..=MAX_REQUEST_ID_BYTES).contains(&id.len())
            && id.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    sent.filter(fit).cloned().unwrap_or_else(new_request_id)
}

fn new_request_id() -> HeaderValue {
    // From the thread's generator: the system's costs a system call.
    let uuid = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
    let mut text = uuid::Uuid::encode_buffer();
    let text: &str = uuid.hyphenated().encode_lower(&mut text);
    // Hexadecimal digits and hyphens are fit for a header.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

/// The time a call has: the caller's `grpc-timeout` less a head start for the answer, or the default.
/// A malformed timeout counts as none.
pub(crate) fn budget(timeout: Option<&HeaderValue>, default: Duration) -> Duration {
    match timeout.and_then(|timeout| parse_timeout(timeout.as_bytes())) {
        Some(timeout) => {
            let timeout = timeout.min(MAX_DEADLINE);
            timeout.saturating_sub((timeout / 10).min(HEAD_START))
        }
        None => default,
    }
}

/// `grpc-timeout`: one to eight digits and a unit.
fn parse_timeout(text: &[u8]) -> Option<Duration> {
    let (&unit, digits) = text.split_last()?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0u64, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some(match unit {
        b'H' => Duration::from_secs(value * 3600),
        b'M' => Duration::from_secs(value * 60),
        b'S' => Duration::from_secs(value),
        b'm' => Duration::from_millis(value),
        b'u' => Duration::from_micros(value),
        b'n' => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
