//! The faults to come: asking for them, listing them, taking them back.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::answer::{self, Answer};
use super::super::faults::{Chance, Commit, Effect, Fault, LONGEST, Waiting};
use super::super::operation::Operation;
use super::super::shared::Shared;
use super::request::{self, Query, Refusal, invalid};

/// More waiting faults than this are refused.
const MAX_FAULTS: usize = 1000;

/// `POST faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    operation: Operation,
    effect: EffectName,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    retry_after_seconds: Option<u64>,
    #[serde(default)]
    over_ms: Option<u64>,
    #[serde(default)]
    commit: Option<CommitName>,
    #[serde(default)]
    delay_ms: u64,
    /// How many requests it strikes; absent: until it is cleared.
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    probability: Option<f64>,
    #[serde(default)]
    seed: Option<u64>,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum EffectName {
    Proceed,
    Answer,
    Drop,
    Hang,
    SlowBody,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum CommitName {
    Before,
    After,
}

pub(super) fn add(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let wanted = read(body, shared.settings.seed())?;
    if shared.faults.pending() >= MAX_FAULTS {
        let message = "Too many faults are waiting. Clear some, or reset the emulator.";
        return Err(Box::new(answer::error(400, "TooManyFaults", message, None)));
    }
    shared.faults.add(wanted);
    shared.feed.changed();
    Ok(answer::no_content())
}

fn read(body: &[u8], default_seed: Option<u64>) -> Result<Waiting, Refusal> {
    let request: FaultRequest = request::object(body)?;
    let longest = u64::try_from(LONGEST.as_millis()).unwrap_or(u64::MAX);
    let only_for = |name: &str, is_there: bool, effect: EffectName, called: &str| {
        if is_there && request.effect != effect {
            return Err(invalid(name, format_args!("goes with the effect {called} only")));
        }
        Ok(())
    };
    only_for("status", request.status.is_some(), EffectName::Answer, "answer")?;
    only_for("retry_after_seconds", request.retry_after_seconds.is_some(), EffectName::Answer, "answer")?;
    only_for("over_ms", request.over_ms.is_some(), EffectName::SlowBody, "slow_body")?;
    let effect = match request.effect {
        EffectName::Answer => match request.status {
            Some(status) if (400..600).contains(&status) => {
                Effect::Answer { status, retry_after_seconds: request.retry_after_seconds }
            }
            _ => return Err(invalid("status", "must be there, from 400 to 599")),
        },
        EffectName::SlowBody => match request.over_ms {
            Some(over) if over <= longest => Effect::SlowBody(Duration::from_millis(over)),
            _ => return Err(invalid("over_ms", format_args!("must be there, {longest} at the most"))),
        },
        EffectName::Proceed => Effect::Proceed,
        EffectName::Drop => Effect::Drop,
        EffectName::Hang => Effect::Hang,
    };
    let commit = match (request.commit, request.effect) {
        (Some(CommitName::Before), EffectName::SlowBody) => {
            return Err(invalid(
                "commit",
                "cannot be before: a slow body is that of an operation that was done",
            ));
        }
        (Some(CommitName::After), _) | (None, EffectName::SlowBody) => Commit::After,
        (Some(CommitName::Before) | None, _) => Commit::Before,
    };
    if request.delay_ms > longest {
        return Err(invalid("delay_ms", format_args!("must be {longest} at the most")));
    }
    let chance = match (request.probability, request.seed) {
        (Some(probability), seed) if (0.0..=1.0).contains(&probability) => {
            Some(Chance { probability, seed: seed.or(default_seed).unwrap_or_else(rand::random) })
        }
        (Some(_), _) => return Err(invalid("probability", "must be from 0 to 1")),
        (None, Some(_)) => return Err(invalid("seed", "goes with a probability only")),
        (None, None) => None,
    };
    let fault = Fault { delay: Duration::from_millis(request.delay_ms), effect, commit };
    Ok(Waiting { operation: request.operation, fault, left: request.count, chance })
}

/// `GET faults`: each as it could be asked for, with what is left of its count.
pub(super) fn list(shared: &Shared) -> Answer {
    let faults: Vec<Value> = shared.faults.waiting().iter().map(shown).collect();
    answer::json(200, &json!({ "faults": faults }))
}

fn shown(waiting: &Waiting) -> Value {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let (effect, status, retry_after, over) = match waiting.fault.effect {
        Effect::Proceed => ("proceed", None, None, None),
        Effect::Answer { status, retry_after_seconds } => ("answer", Some(status), retry_after_seconds, None),
        Effect::Drop => ("drop", None, None, None),
        Effect::Hang => ("hang", None, None, None),
        Effect::SlowBody(over) => ("slow_body", None, None, Some(millis(over))),
    };
    let commit = match waiting.fault.commit {
        Commit::Before => "before",
        Commit::After => "after",
    };
    json!({
        "operation": waiting.operation.name(),
        "effect": effect,
        "status": status,
        "retry_after_seconds": retry_after,
        "over_ms": over,
        "commit": commit,
        "delay_ms": millis(waiting.fault.delay),
        "count": waiting.left,
        "probability": waiting.chance.map(|chance| chance.probability),
        "seed": waiting.chance.map(|chance| chance.seed),
    })
}

/// `DELETE faults`.
pub(super) fn clear(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let operation = match query.take("operation").as_deref() {
        None | Some("any") => Operation::Any,
        Some(name) => Operation::named(name)
            .ok_or_else(|| invalid("operation", "must be the name of an operation, or any"))?,
    };
    query.end()?;
    shared.faults.clear(operation);
    shared.feed.changed();
    Ok(answer::no_content())
}

#[cfg(test)]
#[path = "faults_tests.rs"]
mod tests;
