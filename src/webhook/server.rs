//! The listener of the intake: connections, and each request from its head to its answer.
//!
//! The order is: path, method, who posts, type, size, shape, content; nothing is read for somebody who is not known. The
//! answers follow what Event Grid does with them: 400 and 413 end the delivery, 401 and 404 delay it, 503 repeats it.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::account::{Became, Visit};
use super::caller::Poster;
use super::read::{self, Malformed, Post};
use super::{
    BODY_TIMEOUT, CONNECTION_TIMEOUT, DRAIN, HEAD_TIMEOUT, Intake, MAX_BODY, MAX_CONNECTIONS, MAX_EVENTS,
    PATH, TAKE_IN_WITHIN, shape,
};
use crate::listener::{self, Limits};
use crate::messaging::{Event, EventKind};

/// What came of a request; each has its answer and its word in the metrics.
enum Outcome {
    Taken,
    Validated(String),
    Welcome(HeaderValue),
    NoSuchPath,
    NoSuchMethod,
    Unknown(&'static str),
    Unclear,
    WrongType,
    TooLarge,
    TooSlow,
    Malformed(String),
    Failed,
}

/// Accepts and serves until `shutdown`.
pub(super) async fn run(listener: TcpListener, intake: Arc<Intake>, shutdown: CancellationToken) {
    let service = tower::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let intake = Arc::clone(&intake);
        async move { Ok::<_, std::convert::Infallible>(intake.answer(request.map(Body::new)).await) }
    });
    let service = TowerToHyperService::new(service);
    let limits = Limits {
        connections: MAX_CONNECTIONS,
        head: HEAD_TIMEOUT,
        connection: CONNECTION_TIMEOUT,
        drain: DRAIN,
    };
    if !listener::serve(listener, service, "the webhook", limits, shutdown).await {
        tracing::warn!("requests to the webhook were cut off; Event Grid brings them again");
    }
}

impl Intake {
    /// Deals with a request and counts what came of it.
    async fn answer(&self, request: Request) -> Response {
        let outcome = self.deal_with(request).await;
        self.metrics.webhook_request(outcome.name());
        tracing::debug!(outcome = outcome.name(), "a request to the webhook was answered");
        outcome.into_response()
    }

    async fn deal_with(&self, request: Request) -> Outcome {
        let (head, body) = request.into_parts();
        let stranger = if head.uri.path() != PATH {
            Outcome::NoSuchPath
        } else if head.method != Method::POST && head.method != Method::OPTIONS {
            Outcome::NoSuchMethod
        } else {
            match self.callers.know(&head).await {
                Poster::Known(who) => {
                    let mut visit = self.account.visit(who);
                    let outcome = self.welcome(&head, body, &mut visit).await;
                    visit.ended(outcome.code(), outcome.refusal());
                    return outcome;
                }
                Poster::Unknown(why) => Outcome::Unknown(why),
                Poster::Unclear => Outcome::Unclear,
            }
        };
        if let Some(why) = stranger.refusal() {
            self.account.refused(why);
        }
        stranger
    }

    /// Deals with a request of somebody who is known.
    async fn welcome(&self, head: &Parts, body: Body, visit: &mut Visit) -> Outcome {
        if head.method == Method::OPTIONS {
            return match head.headers.get("webhook-request-origin") {
                Some(origin) if (1..=255).contains(&origin.len()) => match visit.admitted().await {
                    Ok(()) => Outcome::Welcome(origin.clone()),
                    Err(_) => Outcome::Failed,
                },
                _ => Outcome::Malformed("WebHook-Request-Origin is missing".to_owned()),
            };
        }
        if !is_json(&head.headers) {
            return Outcome::WrongType;
        }
        // Not only a courtesy: a body that is announced as too large is never begun.
        let announced =
            head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if announced.is_some_and(|size: u64| size > MAX_BODY as u64) {
            return Outcome::TooLarge;
        }
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Outcome::TooLarge,
            Ok(Err(_)) => return Outcome::Malformed("the body ended early".to_owned()),
            Err(_) => return Outcome::TooSlow,
        };
        match tokio::time::timeout(TAKE_IN_WITHIN, self.take_in(&body, visit)).await {
            Ok(outcome) => outcome,
            Err(_) => {
                visit.late();
                Outcome::Failed
            }
        }
    }

    /// Takes a body in, event by event in order. All of it is read, and recorded if it must be, before any of it is kept.
    async fn take_in(&self, body: &[u8], visit: &mut Visit) -> Outcome {
        let Ok(_at_work) = self.at_work.acquire().await else { return Outcome::Failed };
        if !shape::is_sane(body) {
            self.metrics.webhook_event("other", "malformed");
            return Outcome::Malformed("the JSON is too deep or has too many parts".to_owned());
        }
        let events = match read::read(body, MAX_EVENTS, self.clock.now()) {
            Ok(Post::Validation(code)) => {
                return match visit.admitted().await {
                    Ok(()) => Outcome::Validated(code),
                    Err(_) => Outcome::Failed,
                };
            }
            Ok(Post::Events(events)) => events,
            Err(malformed) => {
                self.metrics.webhook_event("other", "malformed");
                return Outcome::Malformed(match malformed {
                    Malformed::Body => "not a JSON object or list".to_owned(),
                    Malformed::TooMany => format!("more than {MAX_EVENTS} events"),
                    Malformed::Event(place) => format!("event {place} lacks something or has too much of it"),
                });
            }
        };
        events.iter().flatten().for_each(|event| visit.about(event));
        if let Err(unrecorded) = visit.admitted().await {
            let error = &unrecorded as &dyn std::error::Error;
            tracing::warn!(error, "events were not taken in; Event Grid brings them again");
            return Outcome::Failed;
        }
        for event in events {
            let Some(event) = event else {
                self.metrics.webhook_event("other", "ignored");
                visit.became(Became::Ignored);
                continue;
            };
            let (kind, kind_name) = (event.kind(), name(&event));
            match self.messaging.take_in(event).await {
                Ok(is_new) => visit.became(if is_new { Became::Taken(kind) } else { Became::Repeated }),
                Err(failed) => {
                    self.metrics.webhook_event(kind_name, "failed");
                    visit.failed(failed.reason());
                    let error = &failed as &dyn std::error::Error;
                    tracing::warn!(
                        kind = kind_name,
                        error,
                        "an event could not be taken in; Event Grid brings it again"
                    );
                    return Outcome::Failed;
                }
            }
            self.metrics.webhook_event(kind_name, "taken");
        }
        Outcome::Taken
    }
}

/// The kind of an event in metrics and logs.
const fn name(event: &Event) -> &'static str {
    match event.kind() {
        EventKind::SmsDelivery => "sms_delivery",
        EventKind::SmsReceived => "sms_received",
        EventKind::EmailDelivery => "email_delivery",
        EventKind::EmailEngagement => "email_engagement",
        EventKind::Chat => "chat",
    }
}

/// Whether the body says that it is JSON, in UTF-8.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let mut parts = value.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let known = ["application/json", "application/cloudevents+json", "application/cloudevents-batch+json"];
    known.iter().any(|known| essence.eq_ignore_ascii_case(known))
        && parts.all(|part| match part.split_once('=') {
            Some((name, charset)) if name.eq_ignore_ascii_case("charset") => {
                charset.trim_matches('"').eq_ignore_ascii_case("utf-8")
            }
            _ => true,
        })
}

impl Outcome {
    const fn name(&self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Validated(_) | Self::Welcome(_) => "handshake",
            Self::NoSuchPath | Self::NoSuchMethod | Self::WrongType => "refused",
            Self::Unknown(_) => "forged",
            Self::TooLarge => "oversized",
            Self::TooSlow => "slow",
            Self::Malformed(_) => "malformed",
            Self::Failed | Self::Unclear => "failed",
        }
    }

    /// Why nothing of it was done, in a word for the audit; none if it was let in.
    const fn refusal(&self) -> Option<&'static str> {
        match self {
            Self::Taken | Self::Validated(_) | Self::Welcome(_) | Self::Failed => None,
            Self::NoSuchPath => Some("path"),
            Self::NoSuchMethod => Some("method"),
            Self::Unknown(why) => Some(why),
            Self::Unclear => Some("keys_not_yet"),
            Self::WrongType => Some("type"),
            Self::TooLarge | Self::TooSlow | Self::Malformed(_) => Some(self.name()),
        }
    }

    /// Its status, as text.
    const fn code(&self) -> &'static str {
        match self {
            Self::Taken | Self::Validated(_) | Self::Welcome(_) => "200",
            Self::Malformed(_) => "400",
            Self::Unknown(_) => "401",
            Self::NoSuchPath => "404",
            Self::NoSuchMethod => "405",
            Self::TooSlow => "408",
            Self::TooLarge => "413",
            Self::WrongType => "415",
            Self::Failed | Self::Unclear => "503",
        }
    }
}

impl IntoResponse for Outcome {
    fn into_response(self) -> Response {
        const METHODS: (header::HeaderName, &str) = (header::ALLOW, "OPTIONS, POST");
        let said = |status: StatusCode, text: &str| (status, format!("{text}\n")).into_response();
        match self {
            Self::Taken => StatusCode::OK.into_response(),
            Self::Validated(code) => {
                axum::Json(serde_json::json!({ "validationResponse": code })).into_response()
            }
            Self::Welcome(origin) => {
                let mut response = (StatusCode::OK, [METHODS]).into_response();
                response.headers_mut().insert("webhook-allowed-origin", origin);
                response.headers_mut().insert("webhook-allowed-rate", HeaderValue::from_static("*"));
                response
            }
            Self::NoSuchPath => said(StatusCode::NOT_FOUND, "events are taken at /events"),
            Self::NoSuchMethod => {
                (StatusCode::METHOD_NOT_ALLOWED, [METHODS], "only OPTIONS and POST\n").into_response()
            }
            Self::Unknown(_) => {
                let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
                (StatusCode::UNAUTHORIZED, challenge, "the secret or token is missing or wrong\n")
                    .into_response()
            }
            Self::WrongType => said(StatusCode::UNSUPPORTED_MEDIA_TYPE, "only JSON in UTF-8"),
            Self::TooLarge => said(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB"),
            Self::TooSlow => said(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
            Self::Malformed(what) => said(StatusCode::BAD_REQUEST, &what),
            Self::Failed | Self::Unclear => {
                let wait = [(header::RETRY_AFTER, "10")];
                (StatusCode::SERVICE_UNAVAILABLE, wait, "not taken in; post it again\n").into_response()
            }
        }
    }
}
