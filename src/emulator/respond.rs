//! Puts an answer on the wire, with the headers the real service sends.
//!
//! Used by `service`, and by `control` for what goes on.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame};

use super::answer::Answer;
use super::operation::Service;
use super::shared::Shared;
use super::{times, version};

/// The longest client request id that is echoed.
const MAX_REQUEST_ID: usize = 256;

/// What an answer carries: bytes at once, or a stream of them.
pub(super) type ReplyBody = UnsyncBoxBody<Bytes, Infallible>;

/// Puts an answer on the wire with the headers the real service sends; without a service, only what HTTP asks for.
pub(super) fn respond(
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
