//! Faults on request: what the emulator is told to do wrong, to which operation and how often.
//!
//! A fault strikes only requests that would otherwise have been carried out (signed, of a supported version), in the
//! order the faults were asked for; those for one operation come before those for any. Used by `service`, `control`
//! and, through the handle, tests.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::answer::{self, Answer};
use super::operation::{Operation, Service};

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
    /// The operation takes its course, and the body of its answer trickles out over this time.
    SlowBody(Duration),
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

    /// A correct answer whose body trickles out over `time`.
    pub const fn slow_body(time: Duration) -> Self {
        Self::of(Effect::SlowBody(time)).after_commit()
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

    /// The fault in words, for the log of calls.
    pub(super) fn words(&self) -> String {
        let mut words = match self.effect {
            Effect::Proceed => "latency".to_owned(),
            Effect::Answer { status, retry_after_seconds: None } => format!("answer {status}"),
            Effect::Answer { status, retry_after_seconds: Some(seconds) } => {
                format!("answer {status} retry-after {seconds}")
            }
            Effect::Drop => "drop".to_owned(),
            Effect::Hang => "hang".to_owned(),
            Effect::SlowBody(time) => format!("slow body over {} ms", time.as_millis()),
        };
        if self.commit == Commit::After && !matches!(self.effect, Effect::SlowBody(_)) {
            words.push_str(" after commit");
        }
        if !self.delay.is_zero() {
            words.push_str(&format!(" after {} ms", self.delay.as_millis()));
        }
        words
    }
}

/// A fault that strikes by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chance {
    /// How likely it strikes each request, from 0 to 1.
    pub probability: f64,
    /// Where the chance comes from: the same seed strikes the same requests, counted from the moment it is asked for.
    pub seed: u64,
}

struct Rule {
    operation: Operation,
    fault: Fault,
    /// How many requests it still strikes; `None`: until cleared.
    left: Option<u64>,
    chance: Option<(Chance, StdRng)>,
}

/// A fault that waits for its requests, for those who look.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Waiting {
    /// The operation it strikes.
    pub operation: Operation,
    /// What it does.
    pub fault: Fault,
    /// How many requests it still strikes; `None`: until cleared.
    pub left: Option<u64>,
    /// How likely it strikes; `None`: always.
    pub chance: Option<Chance>,
}

/// The faults an emulator has been asked for.
#[derive(Default)]
pub struct Faults(Mutex<Vec<Rule>>);

impl Faults {
    /// Lets the next `count` requests of `operation` meet `fault`.
    pub fn next(&self, operation: Operation, fault: Fault, count: u64) {
        self.add(Waiting { operation, fault, left: Some(count), chance: None });
    }

    /// Lets every request of `operation` meet `fault` until it is cleared.
    pub fn until_cleared(&self, operation: Operation, fault: Fault) {
        self.add(Waiting { operation, fault, left: None, chance: None });
    }

    /// Lets every request of `operation` meet `fault` by chance until it is cleared.
    pub fn by_chance(&self, operation: Operation, fault: Fault, chance: Chance) {
        self.add(Waiting { operation, fault, left: None, chance: Some(chance) });
    }

    /// Adds a fault. One that strikes no request is none.
    pub fn add(&self, wanted: Waiting) {
        let Waiting { operation, fault, left, chance } = wanted;
        if left != Some(0) {
            let chance = chance.map(|chance| (chance, StdRng::seed_from_u64(chance.seed)));
            self.rules().push(Rule { operation, fault, left, chance });
        }
    }

    /// The faults that wait, in the order they were asked for.
    pub fn waiting(&self) -> Vec<Waiting> {
        let waiting = |rule: &Rule| Waiting {
            operation: rule.operation,
            fault: rule.fault,
            left: rule.left,
            chance: rule.chance.as_ref().map(|(chance, _)| *chance),
        };
        self.rules().iter().map(waiting).collect()
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
        for wanted in [operation, Operation::Any] {
            let mut index = 0;
            while let Some(rule) = rules.get_mut(index) {
                index = index.saturating_add(1);
                if rule.operation != wanted {
                    continue;
                }
                if let Some((chance, rng)) = &mut rule.chance
                    && rng.random::<f64>() >= chance.probability
                {
                    continue;
                }
                let fault = rule.fault;
                if let Some(left) = &mut rule.left {
                    *left = left.saturating_sub(1);
                    if *left == 0 {
                        rules.remove(index.saturating_sub(1));
                    }
                }
                return Some(fault);
            }
        }
        None
    }

    fn rules(&self) -> MutexGuard<'_, Vec<Rule>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The answer to a request that meets a status fault.
pub(super) fn answer(service: Service, status: u16, retry_after_seconds: Option<u64>) -> Answer {
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
    let answer = answer::error_of(service, status, code, message);
    match retry_after_seconds {
        Some(seconds) => answer.with_retry_after(seconds),
        None => answer,
    }
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
    fn chance_strikes_the_same_requests_for_the_same_seed() {
        let struck = |seed| {
            let faults = Faults::default();
            let chance = Chance { probability: 0.3, seed };
            faults.by_chance(Operation::Any, Fault::status(503), chance);
            let struck: Vec<bool> = (0..1000).map(|_| faults.take(Operation::SendSms).is_some()).collect();
            struck
        };
        assert_eq!(struck(7), struck(7));
        assert_ne!(struck(7), struck(8));
        let count = struck(7).into_iter().filter(|struck| *struck).count();
        assert!((200..400).contains(&count), "{count} of 1000 at 30 percent");
    }

    #[test]
    fn a_count_of_zero_is_no_fault() {
        let faults = Faults::default();
        faults.next(Operation::Any, Fault::hang(), 0);
        assert_eq!(faults.take(Operation::IssueToken), None);
    }
}
