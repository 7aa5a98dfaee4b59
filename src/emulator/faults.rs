//! Faults on request: what the emulator is told to do wrong, to which operation and how often.
//!
//! A fault strikes only requests that would otherwise have been carried out (signed, of a supported version), in the
//! order the faults were asked for; those for one operation come before those for any. Used by `service`, `control`
//! and, through the handle, tests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::operation::Operation;
use super::wire::{self, Answer};

/// The longest delay, and the longest a request is left hanging.
pub(super) const LONGEST: Duration = Duration::from_mins(10);

/// Whether a fault strikes before or after the operation has had its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Commit {
    /// Before: nothing was done.
    #[default]
    Before,
    /// After: it was done, but the caller does not hear of it.
    After,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing: the operation takes its course, after the delay.
    Proceed,
    /// This status is answered, with a body like the real one.
    Answer {
        /// The HTTP status, 400 to 599.
        status: u16,
        /// The header `Retry-After` in seconds, if any.
        retry_after_seconds: Option<u64>,
    },
    /// The connection is closed without an answer.
    Drop,
    /// No answer comes for ten minutes, after which the connection is closed.
    Hang,
}

/// A fault: what goes wrong, before or after the effect, and after which delay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// How long to wait first, ten minutes at the most.
    pub delay: Duration,
    /// What then happens.
    pub effect: Effect,
    /// Whether the operation has had its effect by then.
    pub commit: Commit,
}

impl Fault {
    const fn of(effect: Effect) -> Self {
        Self { delay: Duration::ZERO, effect, commit: Commit::Before }
    }

    /// A slow but correct answer.
    pub const fn latency(delay: Duration) -> Self {
        Self { delay, ..Self::of(Effect::Proceed) }
    }

    /// A failure with this status.
    pub const fn status(status: u16) -> Self {
        Self::of(Effect::Answer { status, retry_after_seconds: None })
    }

    /// 429 with `Retry-After` in seconds.
    pub const fn throttled(retry_after_seconds: u64) -> Self {
        Self::of(Effect::Answer { status: 429, retry_after_seconds: Some(retry_after_seconds) })
    }

    /// A connection closed without an answer.
    pub const fn drop_connection() -> Self {
        Self::of(Effect::Drop)
    }

    /// A request that is never answered.
    pub const fn hang() -> Self {
        Self::of(Effect::Hang)
    }

    /// The same fault with `Retry-After` in seconds, if it answers at all.
    pub const fn with_retry_after(self, seconds: u64) -> Self {
        match self.effect {
            Effect::Answer { status, .. } => {
                Self { effect: Effect::Answer { status, retry_after_seconds: Some(seconds) }, ..self }
            }
            _ => self,
        }
    }

    /// The same fault, once the operation has had its effect.
    pub const fn after_commit(self) -> Self {
        Self { commit: Commit::After, ..self }
    }

    /// The same fault after a delay.
    pub const fn delayed(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

struct Rule {
    operation: Operation,
    fault: Fault,
    /// How many requests it still strikes; `None`: until cleared.
    left: Option<u64>,
}

/// The faults an emulator has been asked for.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    /// Lets the next `count` requests of `operation` meet `fault`.
    pub fn next(&self, operation: Operation, fault: Fault, count: u64) {
        if count > 0 {
            self.rules().push(Rule { operation, fault, left: Some(count) });
        }
    }

    /// Lets every request of `operation` meet `fault` until it is cleared.
    pub fn until_cleared(&self, operation: Operation, fault: Fault) {
        self.rules().push(Rule { operation, fault, left: None });
    }

    /// Forgets the faults of `operation`; for `Any`, all there are.
    pub fn clear(&self, operation: Operation) {
        self.rules().retain(|rule| operation != Operation::Any && rule.operation != operation);
    }

    /// How many faults wait for a request.
    pub fn pending(&self) -> usize {
        self.rules().len()
    }

    /// The fault that the next request of `operation` meets, counted as met.
    pub(super) fn take(&self, operation: Operation) -> Option<Fault> {
        let mut rules = self.rules();
        let index = rules
            .iter()
            .position(|rule| rule.operation == operation)
            .or_else(|| rules.iter().position(|rule| rule.operation == Operation::Any))?;
        let rule = rules.get_mut(index)?;
        let fault = rule.fault;
        if let Some(left) = &mut rule.left {
            *left = left.saturating_sub(1);
            if *left == 0 {
                rules.remove(index);
            }
        }
        Some(fault)
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a request that meets a status fault.
pub(super) fn answer(status: u16, retry_after_seconds: Option<u64>) -> Answer {
    let (code, message) = match status {
        401 => ("Denied", "Denied by the resource provider."),
        403 => ("Forbidden", "The operation is not allowed."),
        404 => ("NotFound", "The resource was not found."),
        408 => ("RequestTimeout", "The request took too long."),
        409 => ("Conflict", "The request conflicts with another one."),
        429 => ("TooManyRequests", "Too many requests. Try again later."),
        500 => ("InternalError", "An internal error occurred."),
        502 => ("BadGateway", "The service did not answer properly."),
        503 => ("ServiceUnavailable", "The service is temporarily unavailable."),
        504 => ("GatewayTimeout", "The service did not answer in time."),
        400..500 => ("BadRequest", "The request is not valid."),
        _ => ("InternalError", "An error occurred."),
    };
    Answer { retry_after_seconds, ..wire::error(status, code, message, None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_strikes_as_often_as_asked_and_its_own_operation_alone() {
        let faults = Faults::default();
        faults.next(Operation::IssueToken, Fault::status(503), 2);
        assert_eq!(faults.take(Operation::CreateIdentity), None);
        assert_eq!(faults.take(Operation::IssueToken), Some(Fault::status(503)));
        assert_eq!(faults.take(Operation::IssueToken), Some(Fault::status(503)));
        assert_eq!(faults.take(Operation::IssueToken), None);
        assert_eq!(faults.pending(), 0);
    }

    #[test]
    fn a_fault_for_the_operation_comes_before_one_for_any() {
        let faults = Faults::default();
        faults.until_cleared(Operation::Any, Fault::hang());
        faults.next(Operation::IssueToken, Fault::throttled(3), 1);
        faults.next(Operation::IssueToken, Fault::drop_connection(), 1);
        assert_eq!(faults.take(Operation::IssueToken), Some(Fault::throttled(3)));
        assert_eq!(faults.take(Operation::IssueToken), Some(Fault::drop_connection()));
        assert_eq!(faults.take(Operation::IssueToken), Some(Fault::hang()));
        faults.clear(Operation::IssueToken);
        assert_eq!(faults.take(Operation::GetIdentity), Some(Fault::hang()));
        faults.clear(Operation::Any);
        assert_eq!(faults.take(Operation::GetIdentity), None);
    }

    #[test]
    fn a_count_of_zero_is_no_fault() {
        let faults = Faults::default();
        faults.next(Operation::Any, Fault::hang(), 0);
        assert_eq!(faults.take(Operation::IssueToken), None);
    }
}
