//! What is kept of a request to send: who asked, what became of it, and who is working on it.
//!
//! Pure. It holds no text, no subject and no file: what is to be sent is never kept, because whoever asks again brings
//! it along, and the upstream ids are made of the record's own id. Used by `sms`, `email`, `chat`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::types::{Channel, Failure, Outcome, State};
use crate::broker::error::Error;
use crate::broker::types::Caller;
use crate::clock::Timestamp;

/// When to ask again for a request that somebody works on: most are done by then.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A fingerprint of everything a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint(String);

impl Fingerprint {
    /// Of these parts, in order. Each is told from the next by its length.
    pub(super) fn of<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> Self {
        parts.into_iter().fold(Fingerprinting::default(), Fingerprinting::add).end()
    }

    /// Its digits.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A fingerprint under way: it takes parts where they are, for files are large.
#[derive(Default)]
pub(super) struct Fingerprinting(Sha256);

impl Fingerprinting {
    /// One more part.
    pub(super) fn add(mut self, part: &[u8]) -> Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    /// The fingerprint of all of them.
    pub(super) fn end(self) -> Fingerprint {
        Fingerprint(self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// A request to send and what became of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    channel: Channel,
    caller: String,
    /// Of a chat message, the user who sends it: whoever looks for it in the thread does so as that user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) actor: Option<String>,
    fingerprint: Fingerprint,
    /// When it was first asked for; upstream ids count from here.
    pub(super) created: Timestamp,
    /// Until when one replica has it to itself.
    claimed_until: Timestamp,
    /// Of a chat message, when the last try to send it ends at the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sending_until: Option<Timestamp>,
    /// The tag it was sent with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<String>,
    /// Of a mail, how far the sending as a whole has come.
    pub(super) state: State,
    /// Of a mail, why the sending as a whole failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) failure: Option<Failure>,
    /// What became of it for each recipient, in the order asked for.
    pub(super) outcomes: Vec<Outcome>,
}

/// What to do about a request that is known already.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Its end is known: answer with it.
    Settled,
    /// Nobody works on it and its end is not known: take it over.
    Open,
}

impl Record {
    /// A request that is asked for the first time, claimed for `hold`.
    pub(super) fn new(
        channel: Channel,
        caller: &Caller,
        fingerprint: Fingerprint,
        recipients: impl IntoIterator<Item = String>,
        now: Timestamp,
        hold: Duration,
    ) -> Self {
        let outcome =
            |to| Outcome { to, upstream_id: None, state: State::Accepted, failure: None, updated: now };
        Self {
            channel,
            caller: caller.name().to_owned(),
            actor: None,
            fingerprint,
            created: now,
            claimed_until: now.plus(hold),
            sending_until: None,
            tag: None,
            state: State::Accepted,
            failure: None,
            outcomes: recipients.into_iter().map(outcome).collect(),
        }
    }

    /// Reads what was kept.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|_| Error::internal("a record of a message cannot be read"))
    }

    /// As it is kept.
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Structs of texts and numbers always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Who asked.
    pub(super) fn caller(&self) -> &str {
        &self.caller
    }

    /// Whether this caller may know of it.
    pub(super) fn is_of(&self, caller: &Caller) -> bool {
        self.caller == caller.name()
    }

    /// Whether the request that is asked for now is this one, and what to do about it.
    pub(super) fn meet(&self, fingerprint: &Fingerprint, now: Timestamp) -> Result<Known, Error> {
        if self.fingerprint != *fingerprint {
            return Err(Error::RequestIdReused);
        }
        if !self.is_open() {
            return Ok(Known::Settled);
        }
        let left = self.claimed_until.since(now);
        if left.is_zero() {
            Ok(Known::Open)
        } else {
            Err(Error::RequestInProgress { retry_after: left.min(ASK_AGAIN) })
        }
    }

    /// Whether ACS has not yet said what it makes of some part of it.
    pub(super) fn is_open(&self) -> bool {
        let open = |state| matches!(state, State::Accepted | State::Unknown);
        match self.channel {
            Channel::Email => open(self.state),
            Channel::Sms | Channel::Chat => self.outcomes.iter().any(|outcome| open(outcome.state)),
        }
    }

    /// Whether it reached nobody and never will.
    pub(super) fn has_failed(&self) -> bool {
        self.outcomes.iter().all(|outcome| outcome.state == State::Failed)
    }

    /// Whether some of it may have reached ACS, as far as was kept.
    pub(super) fn was_tried(&self) -> bool {
        let tried = |one: &Outcome| one.state != State::Accepted || one.upstream_id.is_some();
        self.state != State::Accepted || self.outcomes.iter().any(tried)
    }

    /// The parts of which ACS has not yet said what it makes of them.
    pub(super) fn open_parts(&self) -> impl Iterator<Item = usize> {
        let is_open = |one: &Outcome| matches!(one.state, State::Accepted | State::Unknown);
        self.outcomes.iter().enumerate().filter(move |(_, one)| is_open(one)).map(|(part, _)| part)
    }

    /// Of a chat message, when the last try to send it has ended for certain.
    pub(super) fn tried_until(&self, hold: Duration) -> Timestamp {
        self.sending_until.unwrap_or(self.created.plus(hold))
    }

    /// Until when somebody has it, if that is not over.
    pub(super) fn held_until(&self, now: Timestamp) -> Option<Timestamp> {
        (self.claimed_until > now).then_some(self.claimed_until)
    }

    /// Takes it for `hold`.
    pub(super) fn claim(&mut self, now: Timestamp, hold: Duration) {
        self.claimed_until = now.plus(hold);
    }

    /// Lets whoever asks next take it.
    pub(super) fn release(&mut self, now: Timestamp) {
        self.claimed_until = now;
    }

    /// The outcomes as they are now: what somebody once had claimed and never finished is not known.
    pub(super) fn seen(mut self, now: Timestamp) -> Self {
        if self.claimed_until > now {
            return self;
        }
        let mut is_known = false;
        for outcome in &mut self.outcomes {
            // With an id ACS has it; with a failure ACS has refused it for now.
            if outcome.upstream_id.is_some() || outcome.failure.is_some() {
                is_known = true;
            } else if outcome.state == State::Accepted {
                outcome.state = State::Unknown;
            }
        }
        if self.channel == Channel::Email && self.state == State::Accepted && !is_known {
            self.state = State::Unknown;
        }
        self
    }

    /// Goes as far as another version of the same record has come.
    pub(super) fn take_over(&mut self, other: &Self) {
        for (part, theirs) in other.outcomes.iter().enumerate() {
            self.advance(part, theirs.state, theirs.failure.clone(), theirs.updated);
            if let Some(ours) = self.outcomes.get_mut(part)
                && ours.upstream_id.is_none()
            {
                ours.upstream_id.clone_from(&theirs.upstream_id);
            }
        }
        if self.state != other.state && self.state.may_become(other.state) {
            self.state = other.state;
            self.failure.clone_from(&other.failure);
        }
    }

    /// Moves one recipient forward; says whether that changed anything.
    pub(super) fn advance(
        &mut self,
        part: usize,
        state: State,
        failure: Option<Failure>,
        now: Timestamp,
    ) -> bool {
        match self.outcomes.get_mut(part) {
            Some(outcome) if outcome.state.may_become(state) && outcome.state != state => {
                outcome.state = state;
                outcome.failure = failure;
                outcome.updated = now;
                true
            }
            _ => false,
        }
    }
}
