//! The way of a request to ACS and back, in stages: client request id → retry → sign → log → transport.
//!
//! A refused credential is examined by `probe`, once for all calls it struck, and each of them is then tried once more.
//! One deadline covers all attempts and waits of a call. Each attempt is signed anew. The log gets method, path
//! template, status, attempt and duration; never an id, a query beyond api-version, a header or a body.
//! Only this file knows the HTTP client; the REST areas (`identity`, `sms`, `email`, `chat`) describe calls and read answers.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Bytes, Frame, SizeHint};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use reqwest::{Method, Response, Url};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::connection_string::Endpoint;
use super::credential::entra::NoToken;
use super::credential::ring::{Next, Refusal, Ring};
use super::credential::{Credential, Fingerprint, Kind};
use super::error::{BuildError, Class, Detail, Error, Fixed, Source};
use super::failure::Failure;
use super::fault;
use super::signing::{Signable, http_date};
use super::{Settings, tls};
use crate::clock::Clock;
use crate::retry::{Backoff, Plan, RetryAfter};
use crate::secret::Secret;

/// The largest answer that is read; real ones have about 2 KiB.
const MAX_ANSWER: usize = 256 * 1024;
/// Waits between attempts.
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(200), cap: Duration::from_secs(2) };
/// Idle connections are given up early: one that the server closes just when a create is sent makes an orphan possible.
const IDLE: Duration = Duration::from_secs(30);
/// RFC 3986's unreserved characters stay, as the official SDKs do it.
const SEGMENT: AsciiSet = NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The media type of bodies.
pub(super) const JSON: &str = "application/json";
/// The media type of changes to chat threads and messages.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

const CLIENT_REQUEST_ID: &str = "x-ms-client-request-id";

/// A call, as the REST areas describe it.
pub(super) struct Call<'a> {
    /// Its name in logs and errors.
    pub operation: &'static str,
    pub method: Method,
    /// The path, with names in braces where the ids belong.
    pub template: &'static str,
    /// The ids, in the order of the braces.
    pub ids: &'a [&'a str],
    /// What the query says beside the version.
    pub query: &'a [(&'static str, String)],
    pub api_version: &'static str,
    pub proof: Proof<'a>,
    /// Headers of this call alone.
    pub headers: &'a [(&'static str, &'a str)],
    /// JSON, or nothing.
    pub body: Vec<u8>,
    pub content_type: &'static str,
    /// Whether doing it twice is as good as once.
    pub idempotent: bool,
    /// Whether doing it twice is so bad that not even a 503 is taken for "not done".
    pub single: bool,
    /// Values that ACS may repeat in a message and that must not reach a log.
    pub private: &'a [&'a str],
}

/// What shows ACS who asks.
#[derive(Clone, Copy)]
pub(super) enum Proof<'a> {
    /// The broker's own credential.
    Own,
    /// A user's access token: what Chat wants, and nothing else.
    User(&'a Secret),
}

impl<'a> Call<'a> {
    /// A call with a JSON body or none, in the broker's own name.
    pub(super) const fn new(
        operation: &'static str,
        method: Method,
        template: &'static str,
        api_version: &'static str,
    ) -> Self {
        Self {
            operation,
            method,
            template,
            ids: &[],
            query: &[],
            api_version,
            proof: Proof::Own,
            headers: &[],
            body: Vec::new(),
            content_type: JSON,
            idempotent: false,
            single: false,
            private: &[],
        }
    }
}

/// A successful answer.
pub(super) struct Answer {
    pub body: Vec<u8>,
    /// The wait that `Retry-After` asks for.
    pub retry_after: Option<Duration>,
    pub client_request_id: String,
    pub status: u16,
    pub attempts: u32,
    /// The credential that ACS accepted.
    pub by: Fingerprint,
}

/// The stages with what they need.
pub(super) struct Pipeline {
    http: reqwest::Client,
    pub(super) endpoint: Endpoint,
    pub(super) ring: Ring,
    /// Held by whoever examines the credentials, so that one does it for all.
    pub(super) examining: tokio::sync::Mutex<()>,
    pub(super) check_every: Duration,
    pub(super) plan: Plan,
    permits: Semaphore,
    clock: Arc<dyn Clock>,
    /// How far ACS's clock was ahead of ours when it last answered, in milliseconds; `i64::MIN` before.
    skew: AtomicI64,
}

impl Pipeline {
    pub(super) fn new(
        settings: &Settings,
        endpoint: Endpoint,
        ring: Ring,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        // Always a finished configuration: without one reqwest falls back to a process-wide provider, and panics if
        // there is none, even for plain HTTP.
        let tls = if endpoint.is_https() {
            tls::client_config(settings.ca_file.as_deref())?
        } else {
            tls::trusting_nobody()?
        };
        let mut http = reqwest::Client::builder()
            .user_agent(concat!("acs-broker/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls)
            .http1_only()
            // A redirect would carry the signature elsewhere, and would not verify there.
            .redirect(reqwest::redirect::Policy::none())
            // Retries are decided below, where it is known what may be repeated.
            .retry(reqwest::retry::never())
            .referer(false)
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE);
        // Elsewhere the usual HTTPS_PROXY of the environment is honoured; an emulator on this machine is never
        // behind one.
        if endpoint.is_loopback() {
            http = http.no_proxy();
        }
        Ok(Self {
            http: http.build().map_err(|error| BuildError::Http(Box::new(error)))?,
            endpoint,
            ring,
            examining: tokio::sync::Mutex::new(()),
            check_every: settings.check_every,
            plan: Plan {
                attempts: settings.attempts,
                per_attempt: settings.attempt_timeout,
                backoff: BACKOFF,
            },
            permits: Semaphore::new(settings.max_concurrency.min(Semaphore::MAX_PERMITS)),
            clock,
            skew: AtomicI64::new(i64::MIN),
        })
    }

    /// Makes the call, in as many attempts as the deadline and the plan allow.
    pub(super) async fn send(&self, call: &Call<'_>, deadline: Instant) -> Result<Answer, Error> {
        let client_request_id = uuid::Uuid::new_v4().to_string();
        let Some(url) = self.url(call) else {
            let class = Class::Rejected;
            let source = Some(Fixed("the id cannot be part of a path").into());
            let (code, target) = (Some("InvalidId".to_owned()), Some("id".to_owned()));
            let detail = Detail {
                operation: call.operation,
                class,
                status: None,
                code,
                target,
                client_request_id,
                attempts: 0,
                source,
            };
            return Err(detail.into());
        };
        let (mut attempts, mut perhaps_done, mut examined) = (0, false, false);
        let failure = loop {
            let signer = match self.signer(call, deadline).await {
                Ok(signer) => signer,
                Err(failure) => break failure,
            };
            let signed = Instant::now();
            let failure =
                match self.attempt(call, &url, &client_request_id, attempts + 1, deadline, &signer).await {
                    Ok(Success { status, body, retry_after }) => {
                        self.ring.accepted(signer.name, signed);
                        return Ok(Answer {
                            body,
                            retry_after,
                            client_request_id,
                            status,
                            attempts: attempts + 1,
                            by: signer.name,
                        });
                    }
                    Err(failure) => failure,
                };
            attempts += 1;
            // A refused request was not done, whatever it is: it may be sent again.
            if !examined && let Some(blame) = failure.blames(call) {
                examined = true;
                if self.examine(signer.name, signed, blame, deadline).await == Next::Retry {
                    continue;
                }
            }
            perhaps_done |= failure.perhaps_done();
            let left = deadline.saturating_duration_since(Instant::now());
            let wait = self.plan.wait(attempts, left, failure.asked(), rand::random());
            match wait.filter(|_| failure.may_retry(call.idempotent, call.single)) {
                Some(wait) => tokio::time::sleep(wait).await,
                None => break failure,
            }
        };
        Err(failure.explain(call, perhaps_done, client_request_id, attempts))
    }

    /// The address of the call; none if an id would change the path.
    pub(super) fn url(&self, call: &Call<'_>) -> Option<Url> {
        let mut path = String::new();
        let mut ids = call.ids.iter();
        for segment in call.template.split('/').skip(1) {
            let id = if segment.starts_with('{') { Some(ids.next()?) } else { None };
            path.push('/');
            match id {
                Some(id) => path.extend(utf8_percent_encode(id, &SEGMENT)),
                None => path.push_str(segment),
            }
        }
        let mut url = format!("{}{path}?api-version={}", self.endpoint.as_str(), call.api_version);
        for (name, value) in call.query {
            url.extend(["&", name, "="].into_iter().chain(utf8_percent_encode(value, &SEGMENT)));
        }
        let url = Url::parse(&url).ok()?;
        // "." and ".." have no escaped form that URLs leave alone: they would address something else.
        (url.path() == path).then_some(url)
    }

    /// What this call is signed with: the credential in use, with a token if it is one of Entra.
    async fn signer(&self, call: &Call<'_>, deadline: Instant) -> Result<Signer, Failure> {
        if let Proof::User(token) = call.proof {
            return Ok(Signer { name: self.ring.name(), how: How::Bearer(token.clone()) });
        }
        let credential = match self.ring.in_use() {
            Ok(credential) => credential,
            // Whoever tends the client looks every few seconds; without one, this call may.
            Err(_) if self.tend_within(deadline).await => {
                self.ring.in_use().map_err(Failure::NoCredential)?
            }
            Err(refusal) => return Err(Failure::NoCredential(refusal)),
        };
        self.sign_with(&credential, deadline).await
    }

    /// What a credential signs with.
    pub(super) async fn sign_with(
        &self,
        credential: &Arc<Credential>,
        deadline: Instant,
    ) -> Result<Signer, Failure> {
        let how = match &credential.kind {
            Kind::Key(_) => How::Key(Arc::clone(credential)),
            Kind::Entra(principal) => {
                How::Bearer(principal.token(deadline).await.map_err(|error| match error {
                    NoToken::Refused => Failure::NoCredential(Refusal::Entra),
                    NoToken::Unavailable => Failure::NeverSent(error.into()),
                })?)
            }
        };
        Ok(Signer { name: credential.name, how })
    }

    /// One attempt within its slice of the deadline; waits for its turn within the deadline.
    pub(super) async fn attempt(
        &self,
        call: &Call<'_>,
        url: &Url,
        client_request_id: &str,
        attempt: u32,
        deadline: Instant,
        signer: &Signer,
    ) -> Result<Success, Failure> {
        let turn = tokio::time::timeout_at(deadline, self.permits.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(Failure::NeverSent(Fixed("too many calls to ACS under way; no turn in time").into()));
        };
        let started = Instant::now();
        let Some(slice) = self.plan.slice(deadline.saturating_duration_since(started)) else {
            return Err(Failure::NeverSent(Fixed("no time left for an attempt").into()));
        };
        let written = Arc::new(AtomicBool::new(false));
        let request = self.sign(call, url, client_request_id, &written, signer);
        let result = match tokio::time::timeout(slice, self.transport(call, request, &written)).await {
            Ok(result) => result,
            Err(_) => Err(unanswered(call, &written, Fixed("no answer in time").into())),
        };
        let (status, outcome) = match &result {
            Ok(success) => (Some(success.status), "ok"),
            Err(failure) => (failure.status().map(|status| status.as_u16()), failure.name()),
        };
        tracing::debug!(
            method = %call.method,
            path = call.template,
            api_version = call.api_version,
            status,
            outcome,
            attempt,
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            client_request_id,
            "ACS request"
        );
        result
    }

    /// Signs an attempt with the time of this attempt.
    fn sign(
        &self,
        call: &Call<'_>,
        url: &Url,
        client_request_id: &str,
        written: &Arc<AtomicBool>,
        signer: &Signer,
    ) -> Outgoing {
        let request = self
            .http
            .request(call.method.clone(), url.clone())
            .header(ACCEPT, JSON)
            .header(CLIENT_REQUEST_ID, client_request_id);
        let mut request = match &signer.how {
            How::Bearer(token) => request.bearer_auth(token.expose()),
            How::Key(key) => {
                let date = http_date(self.clock.now());
                let path_and_query = match url.query() {
                    Some(query) => format!("{}?{query}", url.path()),
                    None => url.path().to_owned(),
                };
                let signature = Signable {
                    method: call.method.as_str(),
                    path_and_query: &path_and_query,
                    host: self.endpoint.authority(),
                    date: &date,
                    body: &call.body,
                }
                .sign(key.signing_key());
                request
                    .header("x-ms-date", date)
                    .header("x-ms-content-sha256", signature.content_sha256)
                    .header(AUTHORIZATION, signature.authorization)
            }
        };
        for (name, value) in call.headers {
            request = request.header(*name, *value);
        }
        request = if call.body.is_empty() {
            request.header(CONTENT_LENGTH, 0)
        } else {
            let body = Watched { bytes: Some(Bytes::from(call.body.clone())), written: Arc::clone(written) };
            request.header(CONTENT_TYPE, call.content_type).body(reqwest::Body::wrap(body))
        };
        Outgoing(request)
    }

    /// Sends and reads the answer, whatever it is.
    async fn transport(
        &self,
        call: &Call<'_>,
        request: Outgoing,
        written: &AtomicBool,
    ) -> Result<Success, Failure> {
        #[cfg(not(any(fuzzing, test)))]
        let sent = request.0.send().await;
        #[cfg(any(fuzzing, test))]
        let sent = match super::fuzzing::made_up() {
            Some(answer) => Ok(answer),
            None => request.0.send().await,
        };
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let connecting = error.is_connect();
                // The text of the error would name the address, and in it the id.
                let source = error.without_url().into();
                return Err(if connecting {
                    Failure::NeverSent(source)
                } else {
                    unanswered(call, written, source)
                });
            }
        };
        let status = response.status();
        self.note_skew(response.headers());
        let body = read_answer(&mut response).await;
        if status.is_success() {
            return match body {
                Ok(Some(body)) => {
                    let retry_after = self.retry_after(response.headers());
                    Ok(Success { status: status.as_u16(), body, retry_after })
                }
                Ok(None) => Err(Failure::Unusable(status, Fixed("the answer is larger than 256 KiB").into())),
                Err(error) => Err(Failure::PerhapsSent(error)),
            };
        }
        // The status says enough, even if the rest of the answer is lost or absurd.
        let body = body.ok().flatten().unwrap_or_default();
        let mut fault = fault::read(&body, call.private);
        if fault.code.is_none() {
            fault.code = header(response.headers(), "x-ms-error-code").and_then(fault::word);
        }
        Err(Failure::Answered { status, fault, retry_after: self.retry_after(response.headers()) })
    }

    /// The time by our clock.
    pub(super) fn now(&self) -> crate::clock::Timestamp {
        self.clock.now()
    }

    /// How far ACS's clock is ahead of ours, in milliseconds, by its last answer. Its dates have whole seconds.
    pub(super) fn skew(&self) -> Option<i64> {
        Some(self.skew.load(Ordering::Relaxed)).filter(|skew| *skew != i64::MIN)
    }

    fn note_skew(&self, headers: &HeaderMap) {
        let theirs = header(headers, "date").and_then(|date| httpdate::parse_http_date(date).ok());
        let Some(theirs) = theirs.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok()) else {
            return;
        };
        let theirs = i64::try_from(theirs.as_millis()).unwrap_or(i64::MAX);
        let ours = i64::try_from(self.clock.now().as_millis()).unwrap_or(i64::MAX);
        self.skew.store(theirs.saturating_sub(ours), Ordering::Relaxed);
    }

    fn retry_after(&self, headers: &HeaderMap) -> Option<Duration> {
        let millis = header(headers, "retry-after-ms").or_else(|| header(headers, "x-ms-retry-after-ms"));
        RetryAfter { millis, standard: header(headers, "retry-after"), date: header(headers, "date") }
            .wait(self.clock.now())
    }
}

/// What an attempt is signed with. No `Debug`: it holds the key or the token.
pub(super) struct Signer {
    pub(super) name: Fingerprint,
    how: How,
}

enum How {
    /// The access key.
    Key(Arc<Credential>),
    /// A token: of Entra for the broker itself, or of a user.
    Bearer(Secret),
}

/// What an attempt brought that succeeded.
pub(super) struct Success {
    status: u16,
    body: Vec<u8>,
    retry_after: Option<Duration>,
}

/// A signed request. No `Debug`: it holds the signature.
struct Outgoing(reqwest::RequestBuilder);

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Reads an answer; none if it is too large.
async fn read_answer(response: &mut Response) -> Result<Option<Vec<u8>>, Source> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// No answer came. If the body was never asked for, nothing of the request has left; of one without a body that is
/// unknown.
fn unanswered(call: &Call<'_>, written: &AtomicBool, source: Source) -> Failure {
    if call.body.is_empty() || written.load(Ordering::Acquire) {
        Failure::PerhapsSent(source)
    } else {
        Failure::NeverSent(source)
    }
}

/// A request body that notes when the connection asks for it.
///
/// HTTP/1.1 asks for the body after it has buffered the head and before it writes either: until then nothing has left.
struct Watched {
    bytes: Option<Bytes>,
    written: Arc<AtomicBool>,
}

impl Body for Watched {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.written.store(true, Ordering::Release);
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}

#[cfg(test)]
mod tests;
