//! What a control request says, read strictly: an unknown field or parameter is a mistake that is named.
//!
//! Pure. A refusal quotes at most a few words of the request. Used by every part of `control`.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::super::answer::{self, Answer};

/// An answer that says why not.
pub(super) type Refusal = Box<Answer>;

/// The longest description of a mistake, in characters.
const MAX_MESSAGE: usize = 300;

/// 400, naming the field.
pub(super) fn invalid(field: &str, what: impl Display) -> Refusal {
    let separator = if field.is_empty() { "" } else { ": " };
    let message: String = format!("{field}{separator}{what}").chars().take(MAX_MESSAGE).collect();
    let target: String = field.chars().take(MAX_MESSAGE).collect();
    let target = Some(target.as_str()).filter(|target| !target.is_empty());
    Box::new(answer::error(400, "InvalidRequest", &message, target))
}

/// 404.
pub(super) fn not_found(message: &str) -> Refusal {
    Box::new(answer::error(404, "NotFound", message, None))
}

/// 503: all places of this kind are taken.
pub(super) fn busy(what: &str, most: usize) -> Refusal {
    let message = format!("There are {most} {what} already. End some of them.");
    Box::new(answer::error(503, "TooManyWatchers", &message, None))
}

/// Reads a JSON object.
pub(super) fn object<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    json(body, "an object", Value::is_object)
}

/// Reads a JSON array.
pub(super) fn array<T: DeserializeOwned>(body: &[u8]) -> Result<Vec<T>, Refusal> {
    json(body, "an array", Value::is_array)
}

fn json<T: DeserializeOwned>(body: &[u8], form: &str, is_it: fn(&Value) -> bool) -> Result<T, Refusal> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| invalid("", format_args!("the body is not JSON: {error}")))?;
    // Without this serde would take an array for an object whose fields all have a default.
    if !is_it(&value) {
        return Err(invalid("", format_args!("the body must be {form}")));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        invalid(if path == "." { "" } else { &path }, error.inner())
    })
}

/// The parameters of a query, decoded. Empty ones count as absent, as a form sends them.
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads the raw query. The head of a request is bounded, and so is this.
    pub(super) fn read(raw: Option<&str>) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for (name, value) in url::form_urlencoded::parse(raw.unwrap_or_default().as_bytes()) {
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(invalid(&name, "is there more than once"));
            }
            pairs.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    /// Takes a parameter out.
    pub(super) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        Some(self.0.swap_remove(index).1).filter(|value| !value.is_empty())
    }

    /// Takes a number out.
    pub(super) fn number(&mut self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.take(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) if range.contains(&number) => Ok(Some(number)),
            _ => Err(invalid(
                name,
                format_args!("must be a whole number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    /// `limit`: how many at the most.
    pub(super) fn limit(&mut self) -> Result<usize, Refusal> {
        const DEFAULT: u64 = 100;
        let limit = self.number("limit", 1..=1000)?.unwrap_or(DEFAULT);
        Ok(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// `after`: only what has a greater number.
    pub(super) fn after(&mut self) -> Result<u64, Refusal> {
        Ok(self.number("after", 0..=u64::MAX)?.unwrap_or_default())
    }

    /// Refuses what is left.
    pub(super) fn end(self) -> Result<(), Refusal> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(invalid(&name, "is no parameter of this request")),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
