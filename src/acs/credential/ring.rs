//! Which of the credentials signs, and what follows from a refusal. Pure decisions over times that are handed in.
//!
//! One credential is *in use*. It is left only for another that a signed probe has just shown to be good, so that a wrong
//! clock, which makes ACS refuse both, moves nothing. While none is accepted nothing is sent but one probe per
//! [`PROBE_EVERY`]. It holds credentials and never shows them. Used by `pipeline`.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::{Credential, Fingerprint};
use crate::clock::Timestamp;

/// How often a refused credential is tried again.
pub(crate) const PROBE_EVERY: Duration = Duration::from_secs(10);
/// How many credentials that died are remembered; each rotation leaves one.
const DEAD: usize = 16;

/// What a probe showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// ACS looked at the request: the credential is good.
    Accepted,
    /// ACS refused the credential, or Entra would not vouch for it.
    Refused(Refusal),
    /// No answer that tells.
    Unknown,
}

/// Who refused, for the hint to the operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// ACS, with this status.
    Acs(u16),
    /// Entra: it gives no token.
    Entra,
}

/// What a call that was refused does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// It is tried once more, with whatever is in use now.
    Retry,
    /// The refusal is about the call, or cannot be told: it stands.
    Stand,
}

/// How sure a refusal is to be about the credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is.
    Surely,
    /// It may be about what was asked: a sender of SMS, say.
    Perhaps,
}

/// A piece of work for whoever tends the ring.
#[derive(Clone)]
pub(crate) enum Due {
    /// Is the one in use still good?
    Check,
    /// None was accepted: is this one now?
    Recover(Arc<Credential>),
    /// The operator put this one first: is it good?
    Prefer(Arc<Credential>),
}

/// What is known of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It signs.
    InUse,
    /// It could, and was not refused.
    Spare,
    /// It is none of the client's.
    Unknown,
    /// It was refused when another was accepted.
    Dead,
}

/// What the operator is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The credential in use.
    pub in_use: Fingerprint,
    /// Since when it is: tokens of others that were issued before are to be replaced.
    pub since: Timestamp,
    /// The other one, if there is one.
    pub spare: Option<Fingerprint>,
    /// Why ACS is not asked any more, if it refuses all there are.
    pub refused: Option<Refusal>,
    /// The one that the operator put first is refused, and another is in use.
    pub first_refused: bool,
}

enum Health {
    Good,
    Refused { why: Refusal, next: Instant, turn: usize },
}

struct State {
    /// In the operator's order.
    all: Vec<Arc<Credential>>,
    in_use: Arc<Credential>,
    since: Timestamp,
    health: Health,
    /// When one was last accepted, and when the last check began.
    accepted: Option<Instant>,
    checked: Option<Instant>,
    /// When the last examination began that left things as they are.
    confirmed: Option<Instant>,
    /// When to try the first of `all`, if it is not in use and the operator has just put it there.
    prefer: Option<Instant>,
    first_refused: bool,
    dead: VecDeque<Fingerprint>,
    /// Raised by every change of `in_use`.
    changes: u64,
}

/// The credentials with their state.
pub(crate) struct Ring(Mutex<State>);

impl Ring {
    /// Credentials in order of preference. The first is in use.
    pub(crate) fn new(first: Credential, second: Option<Credential>, at: Timestamp) -> Self {
        let first = Arc::new(first);
        let spare = second.filter(|second| second.name != first.name).map(Arc::new);
        Self(Mutex::new(State {
            all: std::iter::once(Arc::clone(&first)).chain(spare).collect(),
            in_use: first,
            since: at,
            health: Health::Good,
            accepted: None,
            checked: None,
            confirmed: None,
            prefer: None,
            first_refused: false,
            dead: VecDeque::new(),
            changes: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credential to sign with; none is worth it while all are refused.
    pub(crate) fn in_use(&self) -> Result<Arc<Credential>, Refusal> {
        let state = self.lock();
        match state.health {
            Health::Good => Ok(Arc::clone(&state.in_use)),
            Health::Refused { why, .. } => Err(why),
        }
    }

    /// The name of the one in use, good or not.
    pub(crate) fn name(&self) -> Fingerprint {
        self.lock().in_use.name
    }

    /// The credential of that name, if it is one of the operator's.
    pub(crate) fn find(&self, name: Fingerprint) -> Option<Arc<Credential>> {
        self.lock().all.iter().find(|one| one.name == name).cloned()
    }

    /// All of them, in the operator's order.
    pub(crate) fn every(&self) -> Vec<Arc<Credential>> {
        self.lock().all.clone()
    }

    /// What there is to see.
    pub(crate) fn standing(&self) -> Standing {
        let state = self.lock();
        let refused = match state.health {
            Health::Good => None,
            Health::Refused { why, .. } => Some(why),
        };
        Standing {
            in_use: state.in_use.name,
            since: state.since,
            spare: state.others().next().map(|other| other.name),
            refused,
            first_refused: state.first_refused && refused.is_none(),
        }
    }

    /// What is known of the credential of that name.
    pub(crate) fn fate(&self, name: Fingerprint) -> Fate {
        let state = self.lock();
        if state.in_use.name == name {
            Fate::InUse
        } else if state.dead.contains(&name) {
            Fate::Dead
        } else if state.all.iter().any(|one| one.name == name) {
            Fate::Spare
        } else {
            Fate::Unknown
        }
    }

    /// How often the one in use has changed.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// ACS has looked at a request that this one signed.
    pub(crate) fn accepted(&self, name: Fingerprint, now: Instant) {
        let mut state = self.lock();
        if state.in_use.name == name {
            state.accepted = Some(now);
        }
    }

    /// What to do about a refusal before anything is probed; none if an examination is called for. `signed` is when the
    /// refused request was signed, with the credential of that name.
    pub(crate) fn known(
        &self,
        refused: Fingerprint,
        signed: Instant,
        blame: Blame,
        now: Instant,
    ) -> Option<Next> {
        let state = self.lock();
        if matches!(state.health, Health::Refused { .. }) {
            return Some(Next::Stand);
        }
        if state.in_use.name != refused {
            return Some(Next::Retry);
        }
        // Somebody else's examination that began later than this request tells the same.
        let confirmed = state.confirmed?;
        match blame {
            Blame::Surely => (confirmed > signed).then_some(Next::Retry),
            // Callers could otherwise have as many probes made as they like.
            Blame::Perhaps => (now.duration_since(confirmed) < PROBE_EVERY).then_some(Next::Stand),
        }
    }

    /// The one in use was probed at `began`: it is good after all.
    pub(crate) fn confirmed(&self, name: Fingerprint, began: Instant) {
        let mut state = self.lock();
        if state.in_use.name == name {
            (state.confirmed, state.accepted, state.checked) = (Some(began), Some(began), Some(began));
            state.health = Health::Good;
            state.dead.retain(|dead| *dead != name);
        }
    }

    /// The others, to be tried in this order when the one in use is refused.
    pub(crate) fn others(&self) -> Vec<Arc<Credential>> {
        self.lock().others().cloned().collect()
    }

    /// `good` was just accepted: it is used from now on. `dead` was just refused.
    pub(crate) fn switch(
        &self,
        good: &Arc<Credential>,
        dead: Option<Fingerprint>,
        now: Instant,
        at: Timestamp,
    ) {
        let mut state = self.lock();
        if let Some(dead) = dead {
            state.bury(dead);
            let first = state.all.first().map(|first| first.name);
            state.first_refused = first == Some(dead);
        }
        if state.all.first().is_some_and(|first| first.name == good.name) {
            (state.prefer, state.first_refused) = (None, false);
        }
        state.dead.retain(|name| *name != good.name);
        if state.in_use.name != good.name {
            state.changes += 1;
            state.since = at;
        }
        state.in_use = Arc::clone(good);
        state.health = Health::Good;
        (state.accepted, state.checked, state.confirmed) = (Some(now), Some(now), None);
    }

    /// All of them were just refused. That tells of none that it is dead: it may be the clock.
    pub(crate) fn all_refused(&self, why: Refusal, now: Instant) {
        let mut state = self.lock();
        state.health = Health::Refused { why, next: now + PROBE_EVERY, turn: 0 };
    }

    /// The operator's credentials have changed. The one in use stays until a probe has shown another to be good.
    pub(crate) fn replace(&self, first: Credential, second: Option<Credential>, now: Instant) -> bool {
        let mut state = self.lock();
        // A credential that is known keeps what is known of it: an Entra token in hand, say.
        let known: Vec<_> = state.all.iter().chain([&state.in_use]).map(Arc::clone).collect();
        let keep = |one: Credential| {
            known.iter().find(|known| known.name == one.name).cloned().unwrap_or_else(|| Arc::new(one))
        };
        let first = keep(first);
        let second = second.map(keep).filter(|second| second.name != first.name);
        let all: Vec<_> = std::iter::once(Arc::clone(&first)).chain(second).collect();
        if all.iter().map(|one| one.name).eq(state.all.iter().map(|one| one.name)) {
            return false;
        }
        state.prefer = (first.name != state.in_use.name).then_some(now);
        state.first_refused = false;
        state.all = all;
        if let Health::Refused { next, turn, .. } = &mut state.health {
            (*next, *turn) = (now, 0);
        }
        true
    }

    /// What is to be done now, if anything; it counts as begun. `check_every` is how long the one in use may go unproven.
    pub(crate) fn due(&self, check_every: Duration, now: Instant) -> Option<Due> {
        let mut state = self.lock();
        if let Health::Refused { next, turn, why } = state.health {
            if now < next {
                return None;
            }
            let candidate = state.all.get(turn % state.all.len().max(1)).cloned();
            state.health = Health::Refused { why, next: now + PROBE_EVERY, turn: turn.wrapping_add(1) };
            return candidate.map(Due::Recover);
        }
        if state.prefer.is_some_and(|at| now >= at) {
            state.prefer = Some(now + PROBE_EVERY);
            let first = state.all.first().filter(|first| first.name != state.in_use.name).cloned();
            if first.is_none() {
                state.prefer = None;
            }
            return first.map(Due::Prefer);
        }
        let recent = |at: Option<Instant>| at.is_some_and(|at| now.duration_since(at) < check_every);
        if recent(state.accepted) || recent(state.checked) {
            return None;
        }
        state.checked = Some(now);
        Some(Due::Check)
    }

    /// The one that the operator put first was probed and refused.
    pub(crate) fn first_refused(&self) {
        self.lock().first_refused = true;
    }

    /// Another probe while all are refused brought another reason.
    pub(crate) fn still_refused(&self, reason: Refusal) {
        if let Health::Refused { why, .. } = &mut self.lock().health {
            *why = reason;
        }
    }
}

impl State {
    fn others(&self) -> impl Iterator<Item = &Arc<Credential>> {
        self.all.iter().filter(|one| one.name != self.in_use.name)
    }

    fn bury(&mut self, name: Fingerprint) {
        self.dead.retain(|dead| *dead != name);
        if self.dead.len() >= DEAD {
            self.dead.pop_front();
        }
        self.dead.push_back(name);
    }
}

#[cfg(test)]
mod tests;
