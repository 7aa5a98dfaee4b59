//! What is in the inbox: the list, one message, threads, and assertions about them.
//!
//! Reads only. See `wait` for what is not there yet.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::shared::Shared;
use super::matching::{self, Match};
use super::request::{self, Query, Refusal, invalid};

/// `GET messages`.
pub(super) async fn list(shared: &Arc<Shared>, mut query: Query) -> Result<Answer, Refusal> {
    let wanted = Match::from_query(&mut query)?;
    let limit = query.limit()?;
    query.end()?;
    let (messages, more) = matching::newest(shared, &wanted, limit);
    Ok(answer::json(200, &json!({ "messages": messages, "more": more })))
}

/// `GET messages/{id}`.
pub(super) fn one(shared: &Shared, id: &str) -> Result<Answer, Refusal> {
    let found = shared.sms.find(id).or_else(|| shared.email.find(id)).or_else(|| shared.chat.find(id));
    match found {
        Some(message) => Ok(answer::json(200, &message)),
        None => Err(request::not_found("There is no message with this id.")),
    }
}

/// `GET threads`.
pub(super) fn threads(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let limit = query.limit()?;
    query.end()?;
    Ok(answer::json(200, &json!({ "threads": shared.chat.threads(limit) })))
}

/// `POST messages/assert`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Assertion {
    #[serde(default, rename = "match")]
    wanted: Match,
    #[serde(default)]
    exactly: Option<usize>,
    #[serde(default)]
    at_least: Option<usize>,
    #[serde(default)]
    at_most: Option<usize>,
}

pub(super) async fn assert(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, Refusal> {
    let Assertion { wanted, exactly, at_least, at_most } = request::object(body)?;
    let (least, most, words) = match (exactly, at_least, at_most) {
        (Some(count), None, None) => (count, count, format!("exactly {count}")),
        (None, Some(least), None) => (least, usize::MAX, format!("at least {least}")),
        (None, None, Some(most)) => (0, most, format!("at most {most}")),
        (None, Some(least), Some(most)) if least <= most => (least, most, format!("from {least} to {most}")),
        (None, Some(_), Some(_)) => return Err(invalid("at_most", "must not be less than at_least")),
        (None, None, None) => return Err(invalid("exactly", "or at_least or at_most must be there")),
        (Some(_), _, _) => return Err(invalid("exactly", "goes with neither at_least nor at_most")),
    };
    let count = matching::look_at_all(shared, &wanted).await.count();
    if (least..=most).contains(&count) {
        return Ok(answer::json(200, &json!({ "count": count })));
    }
    Ok(missed(409, "AssertionFailed", &format!("{count} messages match; {words} should."), count))
}

/// A failure that says how many did match.
pub(super) fn missed(status: u16, code: &str, message: &str, count: usize) -> Answer {
    answer::failure(status, &json!({ "error": { "code": code, "message": message }, "count": count }))
}
