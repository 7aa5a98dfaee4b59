//! Bodies of requests and answers, as all REST areas read and write them.
//!
//! Lenient in reading: unknown properties are ignored. A problem is a fixed text, because serde's would quote what the
//! answer held. Used by `identity`, `sms`, `email`, `chat`.

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::error::{Class, Detail, Error, Fixed};
use super::pipeline::{Answer, Call};
use crate::clock::Timestamp;

/// A time: ISO 8601 with up to nine fractional digits (ACS writes seven) and `Z` or an offset; rounded down.
pub(super) fn time(text: &str) -> Option<Timestamp> {
    let at = OffsetDateTime::parse(text.trim(), &Rfc3339).ok()?;
    let millis = at.unix_timestamp_nanos().div_euclid(1_000_000);
    u64::try_from(millis).ok().map(Timestamp::from_millis)
}

pub(super) fn json(body: &impl Serialize) -> Vec<u8> {
    // Structs of texts and numbers always serialise; an empty body would be answered with a plain 400.
    serde_json::to_vec(body).unwrap_or_default()
}

/// Reads a body; its problem is a fixed text, because serde's would quote the token.
pub(super) fn parse<T: serde::de::DeserializeOwned>(answer: &Answer) -> Result<T, &'static str> {
    serde_json::from_slice(&answer.body).map_err(|_| "the answer is not the JSON it should be")
}

/// A success that cannot be used: ACS has done it, and what it did is lost.
pub(super) fn unusable(call: &Call<'_>, answer: Answer, problem: &'static str) -> Error {
    Error::from(Detail {
        operation: call.operation,
        class: Class::PerhapsSent,
        status: Some(answer.status),
        code: None,
        target: None,
        client_request_id: answer.client_request_id,
        attempts: answer.attempts,
        source: Some(Fixed(problem).into()),
    })
}
