//! `POST /emails:send` and `GET /emails/operations/{id}`: takes mail in, and tells how far it is.
//!
//! An operation is what sends one mail. The same `Operation-Id` again is the same operation: nothing more is sent. Used
//! by `email`.

use std::sync::Arc;

use hyper::body::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::address;
use super::delivery;
use super::state::{self, Kept, Status};
use super::wire;
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::shared::Shared;

pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let chosen = operation_id(call)?;
    let mail = wire::mail(call.body, call.version)?;
    if !address::domain(&mail.sender).is_some_and(|domain| shared.settings.is_linked(domain)) {
        return Err(wire::not_linked());
    }
    // Drawn in any case, because chance has a lock of its own, and two are never held.
    let drawn = shared.random.uuid().to_string();
    let id = chosen.unwrap_or(drawn);
    let key = state::key(&id);
    let mut kept = Kept {
        sequence: 0,
        at: call.now,
        id: id.clone(),
        mail: Arc::new(mail),
        // A copy, so that the buffer it was read into can go.
        request: Bytes::copy_from_slice(call.body),
        status: Status::Running,
        deliveries: Vec::new(),
    };
    let bytes = kept.bytes();
    let mut state = shared.email.state();
    state.mails.expire(call.now);
    let known = state.mails.get(&key).map(|known| (known.id.clone(), known.status));
    if known.is_none() {
        kept.sequence = shared.feed.next_sequence();
        state.mails.put(&key, call.now, bytes, kept);
    }
    drop(state);
    if let Some((id, status)) = known {
        return Ok(accepted(shared, call, &id, status));
    }
    delivery::schedule(shared, key, call.now);
    state::sweep_later(shared);
    shared.feed.changed();
    Ok(accepted(shared, call, &id, Status::Running))
}

/// The id that the caller chose, as it was written.
fn operation_id(call: &Call<'_>) -> Result<Option<String>, Box<Answer>> {
    let Some(value) = call.headers.get("operation-id") else { return Ok(None) };
    let id = value.to_str().unwrap_or_default();
    if id.len() != 36 || Uuid::try_parse(id).is_err() {
        return Err(wire::bad("Operation-Id", "must be a UUID"));
    }
    Ok(Some(id.to_owned()))
}

fn accepted(shared: &Shared, call: &Call<'_>, id: &str, status: Status) -> Answer {
    let location = format!("{}/emails/operations/{id}?api-version={}", call.base, call.version.text());
    operation(shared, 202, id, status).with_header("operation-location", location)
}

/// `GET /emails/operations/{id}`
pub(super) fn status(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let mut state = shared.email.state();
    state.mails.expire(call.now);
    let known = state.mails.get(&state::key(call.parameter(0))).map(|kept| (kept.id.clone(), kept.status));
    drop(state);
    let (id, status) = known.ok_or_else(wire::no_operation)?;
    Ok(operation(shared, 200, &id, status))
}

/// An operation as both answers show it; with `Retry-After` while it is under way.
fn operation(shared: &Shared, http_status: u16, id: &str, status: Status) -> Answer {
    let error = match status {
        Status::Failed(code, message) => json!({ "code": code, "message": message }),
        Status::Running | Status::Succeeded => serde_json::Value::Null,
    };
    let answer = answer::json(http_status, &json!({ "id": id, "status": status.name(), "error": error }));
    match status {
        Status::Running => answer.with_retry_after(shared.settings.email_retry_after),
        _ => answer,
    }
}
