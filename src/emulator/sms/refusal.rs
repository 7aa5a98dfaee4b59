//! The refusals of the SMS API, whose shapes differ between its versions.
//!
//! Pure. Texts that ACS was never seen to send are guesses, listed in docs/emulator.md. Used by `sms`.

use serde_json::{Map, Value, json};

use crate::emulator::answer::{self, Answer};
use crate::emulator::version::Version;

/// The fields of a request that are wrong, and why.
pub(super) struct Problems {
    version: Version,
    fields: Map<String, Value>,
}

impl Problems {
    pub(super) fn of(version: Version) -> Self {
        Self { version, fields: Map::new() }
    }

    /// A field is wrong for this reason. What was in the field is not said.
    pub(super) fn add(&mut self, field: &str, why: impl Into<String>) {
        let whys = self.fields.entry(field).or_insert_with(|| json!([]));
        if let Value::Array(whys) = whys {
            whys.push(Value::String(why.into()));
        }
    }

    pub(super) fn missing(&mut self, field: &str) {
        let name = field.rsplit('.').next().unwrap_or(field);
        self.add(field, format!("The {name} field is required."));
    }

    pub(super) fn malformed(&mut self, field: &str) {
        self.add(field, "The JSON value could not be converted to the type of the field.");
    }

    /// The bare map of fields in 2021, problem details since.
    pub(super) fn answer(self) -> Box<Answer> {
        let fields = Value::Object(self.fields);
        if self.version < Version::SMS_2026 {
            return Box::new(answer::failure(400, &fields));
        }
        let body = json!({
            "type": "https://tools.ietf.org/html/rfc9110#section-15.5.1",
            "title": "One or more validation errors occurred.",
            "status": 400,
            "errors": fields,
            "traceId": trace_id(),
        });
        Box::new(answer::failure(400, &body))
    }

    /// `value`, unless a field was wrong.
    pub(super) fn or<T>(self, value: T) -> Result<T, Box<Answer>> {
        if self.fields.is_empty() { Ok(value) } else { Err(self.answer()) }
    }
}

/// The sender is none of the resource's own.
pub(super) fn not_owned() -> Box<Answer> {
    Box::new(answer::error(401, "Unauthorized", "", None))
}

/// There is no delivery report of this message.
pub(super) fn no_report() -> Box<Answer> {
    let body = json!({
        "type": "https://tools.ietf.org/html/rfc9110#section-15.5.5",
        "title": "Not Found",
        "status": 404,
        "traceId": trace_id(),
    });
    Box::new(answer::failure(404, &body).naming_versions())
}

/// A trace id as W3C Trace Context writes it. Not from the emulator's own chance: a refusal must not change the ids of
/// a seeded run.
fn trace_id() -> String {
    let (trace, span): (u128, u64) = (rand::random(), rand::random());
    format!("00-{trace:032x}-{span:016x}-00")
}
