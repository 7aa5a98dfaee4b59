//! What happened so far: the state at a glance, the calls, the events.
//!
//! Reads only.

use serde_json::{Map, Value, json};

use super::super::answer::{self, Answer};
use super::super::calls::Count;
use super::super::operation::Operation;
use super::super::shared::Shared;
use super::super::times;
use super::clock;
use super::request::{Query, Refusal};

/// `GET status`.
pub(super) fn status(shared: &Shared) -> Answer {
    let (resource, identities) = {
        let state = shared.state();
        (state.resource().to_owned(), state.alive())
    };
    answer::json(
        200,
        &json!({
            "version": env!("CARGO_PKG_VERSION"),
            "now": times::iso_8601(shared.clock.now()),
            "ahead_ms": clock::ahead(shared),
            "resource": resource,
            "counts": {
                "sms": shared.sms.count(),
                "email": shared.email.count(),
                "chat": shared.chat.count(),
                "threads": shared.chat.thread_count(),
                "identities": identities,
                "calls": shared.calls.get(Count::Calls, Operation::Any),
                "events": shared.events.count(),
            },
            "watching": shared.watchers.watching(),
        }),
    )
}

/// `GET calls`: how many of each operation arrived.
pub(super) fn calls(shared: &Shared) -> Answer {
    let calls: Map<String, Value> = Operation::ALL
        .iter()
        .map(|operation| (operation.name().to_owned(), shared.calls.get(Count::Calls, *operation).into()))
        .collect();
    answer::json(200, &calls)
}

/// `GET calls/log`.
pub(super) fn log(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let (after, limit) = (query.after()?, query.limit()?);
    query.end()?;
    Ok(answer::json(200, &json!({ "calls": shared.calls.latest(after, limit) })))
}

/// `GET calls/log.txt`.
pub(super) fn log_text(shared: &Shared) -> Answer {
    answer::content("text/plain; charset=utf-8", shared.calls.text())
}

/// `GET events`.
pub(super) fn events(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let (after, limit) = (query.after()?, query.limit()?);
    query.end()?;
    Ok(answer::json(200, &json!({ "events": shared.events.latest(after, limit) })))
}
