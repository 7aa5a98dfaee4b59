//! An HTTP answer before it is put on the wire, and the error envelopes, which differ by service.
//!
//! Pure. Texts that ACS was never seen to send are guesses, listed in docs/emulator.md. Used by every service.

use std::time::Duration;

use hyper::body::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::operation::Service;

/// An HTTP answer before it is put on the wire.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Bytes,
    pub(super) content_type: Option<&'static str>,
    /// Whether `api-supported-versions` is sent: not when the failure came before versions were looked at.
    pub(super) names_versions: bool,
    /// Headers of this answer alone, such as `Location`; the names are in lower case.
    pub(super) headers: Vec<(&'static str, String)>,
    /// Over how long the body trickles out, when a fault asks for it.
    pub(super) trickle: Option<Duration>,
}

impl Answer {
    /// The same answer with one more header.
    pub(super) fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// The same answer with `Retry-After` in whole seconds.
    pub(super) fn with_retry_after(self, seconds: u64) -> Self {
        self.with_header("retry-after", seconds.to_string())
    }

    /// The same answer, which tells the supported versions: the failure came after they were looked at.
    pub(super) fn naming_versions(self) -> Self {
        Self { names_versions: true, ..self }
    }
}

/// A success with a JSON body.
pub(super) fn json(status: u16, body: &impl Serialize) -> Answer {
    Answer {
        status,
        body: serde_json::to_vec(body).unwrap_or_default().into(),
        content_type: Some("application/json; charset=utf-8"),
        names_versions: true,
        headers: Vec::new(),
        trickle: None,
    }
}

/// A success without a body, and so without a content type: 204, and the 200 of chat notifications.
pub(super) fn empty(status: u16) -> Answer {
    Answer {
        status,
        body: Bytes::new(),
        content_type: None,
        names_versions: true,
        headers: Vec::new(),
        trickle: None,
    }
}

/// 204 without a body.
pub(super) fn no_content() -> Answer {
    empty(204)
}

/// A body of any type, for what is not ACS: pages, attachments.
pub(super) fn content(content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    Answer { content_type: Some(content_type), body: body.into(), names_versions: false, ..empty(200) }
}

/// A failure in the envelope of Identity, SMS and Email: `{"error":{"code","message","target"?}}`.
pub(super) fn error(status: u16, code: &str, message: &str, target: Option<&str>) -> Answer {
    let mut inner = Map::new();
    inner.insert("code".into(), code.into());
    inner.insert("message".into(), message.into());
    if let Some(target) = target {
        inner.insert("target".into(), target.into());
    }
    failure(status, &json!({ "error": inner }))
}

/// A failure as Email sends it: every field is there, and the code stands in a header too.
pub(super) fn email_error(status: u16, code: &str, message: &str, target: Option<&str>) -> Answer {
    let body = json!({ "error": {
        "code": code, "message": message, "target": target, "details": null, "innererror": null,
    } });
    failure(status, &body).with_header("x-ms-error-code", code)
}

/// A failure as Chat sends it: `{"CommunicationError":{"Code","Message"?,"Details":[]}}`.
pub(super) fn chat_error(status: u16, code: &str, message: Option<&str>) -> Answer {
    let mut inner = Map::new();
    inner.insert("Code".into(), code.into());
    if let Some(message) = message {
        inner.insert("Message".into(), message.into());
    }
    inner.insert("Details".into(), Value::Array(Vec::new()));
    failure(status, &json!({ "CommunicationError": inner }))
}

/// A failure in the envelope of the service that was asked.
pub(super) fn error_of(service: Service, status: u16, code: &str, message: &str) -> Answer {
    match service {
        Service::Identity | Service::Sms => error(status, code, message, None),
        Service::Email => email_error(status, code, message, None),
        Service::Chat => chat_error(status, code, Some(message)),
    }
}

/// A failure of the version rules: it has `innerError`, spelt with a capital and null, whatever the service.
pub(super) fn version_error(code: &str, message: &str) -> Answer {
    failure(400, &json!({ "error": { "code": code, "message": message, "innerError": null } }))
        .naming_versions()
}

/// A failure with a body of its own shape.
pub(super) fn failure(status: u16, body: &Value) -> Answer {
    Answer {
        status,
        body: body.to_string().into(),
        content_type: Some("application/json"),
        names_versions: false,
        headers: Vec::new(),
        trickle: None,
    }
}
