//! Events on the wire: Event Grid's own schema and CloudEvents 1.0, and the validation of a webhook.
//!
//! Pure. What is posted is an array of one in Event Grid's schema (batching is off there unless asked for) and a single
//! object in CloudEvents. Used by `courier`.

use serde::Serialize;
use serde_json::{Value, json};

use super::webhook::{PREFIX, Schema};
use crate::clock::Timestamp;
use crate::emulator::times;

/// Who Event Grid says asks for permission to post.
pub(super) const ORIGIN: &str = "eventgrid.azure.net";
const DATA_VERSION: &str = "1.0";
const METADATA_VERSION: &str = "1";
const SPEC_VERSION: &str = "1.0";

/// An event that happened, as it is kept and posted.
pub(super) struct Happening {
    pub(super) sequence: u64,
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) subject: String,
    pub(super) at: Timestamp,
    pub(super) data: Value,
}

/// A request to a webhook, but for its address.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EventGrid<'a> {
    id: &'a str,
    topic: &'a str,
    subject: &'a str,
    data: &'a Value,
    event_type: String,
    event_time: String,
    data_version: &'static str,
    metadata_version: &'static str,
}

#[derive(Serialize)]
struct CloudEvent<'a> {
    id: &'a str,
    source: &'a str,
    subject: &'a str,
    #[serde(rename = "type")]
    kind: String,
    time: String,
    data: &'a Value,
    specversion: &'static str,
}

/// The resource that events are about, as Azure names it.
pub(super) fn topic(subscription: &str) -> String {
    format!(
        "/subscriptions/{subscription}/resourceGroups/acs-broker/providers/Microsoft.Communication/\
         CommunicationServices/emulator"
    )
}

/// The delivery of an event to the webhook with this subscription name, after that many attempts.
pub(super) fn notification(
    schema: Schema,
    topic: &str,
    name: &str,
    happening: &Happening,
    attempts: u32,
) -> Request {
    let kind = format!("{PREFIX}{}", happening.kind);
    let time = time(happening.at);
    let Happening { id, subject, data, .. } = happening;
    let (content_type, body, versions) = match schema {
        Schema::EventGrid => {
            let event = EventGrid {
                id,
                topic,
                subject,
                data,
                event_type: kind,
                event_time: time,
                data_version: DATA_VERSION,
                metadata_version: METADATA_VERSION,
            };
            let versions =
                vec![("aeg-data-version", DATA_VERSION), ("aeg-metadata-version", METADATA_VERSION)];
            ("application/json; charset=utf-8", serde_json::to_vec(&[event]), versions)
        }
        Schema::CloudEvents => {
            let event =
                CloudEvent { id, source: topic, subject, kind, time, data, specversion: SPEC_VERSION };
            // Of its headers, the data version does not apply to CloudEvents, and the other is that of its specification.
            let versions = vec![("aeg-metadata-version", SPEC_VERSION)];
            ("application/cloudevents+json; charset=utf-8", serde_json::to_vec(&event), versions)
        }
    };
    let mut headers = headers(content_type, "Notification", name, attempts, &versions);
    headers.push(("aeg-output-event-id", id.clone()));
    Request { method: "POST", headers, body: body.unwrap_or_default() }
}

/// The question whether the webhook wants events; `url` is where a person or program can say so later.
pub(super) fn validation(
    schema: Schema,
    topic: &str,
    name: &str,
    code: &str,
    url: &str,
    now: Timestamp,
) -> Request {
    if schema == Schema::CloudEvents {
        let headers =
            vec![("webhook-request-origin", ORIGIN.to_owned()), ("webhook-request-callback", url.to_owned())];
        return Request { method: "OPTIONS", headers, body: Vec::new() };
    }
    let event = EventGrid {
        id: code,
        topic,
        subject: "",
        data: &json!({ "validationCode": code, "validationUrl": url }),
        event_type: "Microsoft.EventGrid.SubscriptionValidationEvent".to_owned(),
        event_time: time(now),
        data_version: METADATA_VERSION,
        metadata_version: METADATA_VERSION,
    };
    let versions = [("aeg-data-version", METADATA_VERSION), ("aeg-metadata-version", METADATA_VERSION)];
    let content_type = "application/json; charset=utf-8";
    Request {
        method: "POST",
        headers: headers(content_type, "SubscriptionValidation", name, 0, &versions),
        body: serde_json::to_vec(&[event]).unwrap_or_default(),
    }
}

fn headers(
    content_type: &str,
    kind: &str,
    name: &str,
    attempts: u32,
    versions: &[(&'static str, &str)],
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("content-type", content_type.to_owned()),
        ("aeg-event-type", kind.to_owned()),
        ("aeg-subscription-name", name.to_owned()),
        ("aeg-delivery-count", attempts.to_string()),
    ];
    headers.extend(versions.iter().map(|(name, version)| (*name, (*version).to_owned())));
    headers
}

/// A time as events write it: UTC, seven fractional digits, `Z`.
fn time(at: Timestamp) -> String {
    times::iso_8601(at).replace("+00:00", "Z")
}

/// What a webhook said to the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Consent {
    /// It wants events.
    Given,
    /// It heard the question, and may still say so at the address in it.
    Open,
    /// It does not, or not in the form asked for.
    Refused,
}

/// Reads the answer to the question. `allowed` is `WebHook-Allowed-Origin`.
pub(super) fn consent(
    schema: Schema,
    code: &str,
    status: u16,
    allowed: Option<&str>,
    body: &[u8],
) -> Consent {
    match schema {
        // 202 says that somebody else will look at it: not accepted.
        Schema::EventGrid if status == 200 => {
            let answer: Option<Value> = serde_json::from_slice(body).ok();
            match answer.as_ref().and_then(|answer| answer.get("validationResponse")) {
                Some(Value::String(response)) if response == code => Consent::Given,
                Some(_) => Consent::Refused,
                None => Consent::Open,
            }
        }
        Schema::CloudEvents if (200..=204).contains(&status) => match allowed.map(str::trim) {
            Some(origin) if origin == "*" || origin.eq_ignore_ascii_case(ORIGIN) => Consent::Given,
            Some(_) => Consent::Refused,
            None => Consent::Open,
        },
        _ => Consent::Refused,
    }
}

#[cfg(test)]
#[path = "envelope_tests.rs"]
mod tests;
