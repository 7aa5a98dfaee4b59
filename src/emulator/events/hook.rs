//! One webhook at work: how far its handshake is, which events wait for it, and what is to be done next.
//!
//! It decides and does no I/O; times are passed in. Bounded: of too many waiting events the oldest goes. Used by
//! `outbox`, under its lock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::envelope::{Consent, Happening};
use super::handshake::Handshake;
use super::schedule::{Outcome, Verdict, verdict};
use super::webhook::Webhook;
use crate::clock::Timestamp;
use crate::emulator::random::Random;

/// More events than this do not wait for one webhook.
const MAX_WAITING: usize = 10_000;
/// How many events are shuffled among each other where that is asked for.
const SHUFFLED: usize = 4;

struct Waiting {
    happening: Arc<Happening>,
    /// How often it was posted.
    attempts: u32,
    failures: u32,
    /// How often it is still to be taken.
    copies: u32,
    due: Timestamp,
}

/// What is to be done for a webhook.
pub(super) enum Step {
    /// Ask whether it wants events, with this code.
    Ask { code: String },
    /// Post an event that was posted that often before.
    Post { happening: Arc<Happening>, attempts: u32 },
    /// Give more events a moment to come, to have some to shuffle.
    Hold,
    /// Nothing for that long, or until told.
    Rest(Option<Duration>),
}

/// What became of an attempt, for the list of events.
pub(super) struct Attempted {
    pub(super) verdict: Verdict,
    pub(super) attempts: u32,
    pub(super) words: String,
}

/// A webhook at work.
pub(super) struct Hook {
    /// Never used twice.
    pub(super) id: u64,
    pub(super) webhook: Webhook,
    /// Its address as it was given, once for all the events that name it.
    pub(super) address: Arc<str>,
    /// What Event Grid calls the name of the subscription.
    pub(super) name: String,
    /// Rung when there is more to do.
    pub(super) wake: Arc<Notify>,
    /// Ends what works for it.
    pub(super) cancel: CancellationToken,
    handshake: Handshake,
    waiting: BTreeMap<u64, Waiting>,
    due: BTreeSet<(Timestamp, u64)>,
    /// What comes next, in this order.
    batch: VecDeque<u64>,
    random: Random,
    delivered: u64,
    failed: u64,
    dropped: u64,
}

impl Hook {
    pub(super) fn new(id: u64, name: String, webhook: Webhook, random: Random) -> Self {
        let address = Arc::from(webhook.url.as_str());
        Self {
            id,
            webhook,
            address,
            name,
            wake: Arc::default(),
            cancel: CancellationToken::new(),
            handshake: Handshake::new(),
            waiting: BTreeMap::new(),
            due: BTreeSet::new(),
            batch: VecDeque::new(),
            random,
            delivered: 0,
            failed: 0,
            dropped: 0,
        }
    }

    /// Has an event wait for it. Returned: the event that had to make room.
    pub(super) fn push(&mut self, happening: &Arc<Happening>) -> Option<u64> {
        let mut gone = None;
        if self.waiting.len() >= MAX_WAITING {
            gone = self.waiting.first_key_value().map(|(sequence, _)| *sequence);
            self.dropped += gone.map_or(0, |sequence| u64::from(self.forget(sequence)));
        }
        let (sequence, due) = (happening.sequence, happening.at);
        let copies = self.webhook.duplicate.saturating_add(1);
        let happening = Arc::clone(happening);
        self.waiting.insert(sequence, Waiting { happening, attempts: 0, failures: 0, copies, due });
        self.due.insert((due, sequence));
        self.wake.notify_one();
        gone
    }

    /// An event that is not kept any more does not wait any more.
    pub(super) fn evict(&mut self, sequence: u64) {
        self.dropped += u64::from(self.forget(sequence));
    }

    fn forget(&mut self, sequence: u64) -> bool {
        let Some(waiting) = self.waiting.remove(&sequence) else { return false };
        self.due.remove(&(waiting.due, sequence));
        true
    }

    /// Forgets all that waits, and the counts.
    pub(super) fn clear(&mut self) {
        self.waiting.clear();
        self.due.clear();
        self.batch.clear();
        (self.delivered, self.failed, self.dropped) = (0, 0, 0);
    }

    /// What is to be done now. `held`: more events were already given a moment to come.
    pub(super) fn step(&mut self, now: Timestamp, held: bool) -> Step {
        if !self.handshake.is_done() {
            let next = self.handshake.next();
            if next > now {
                return Step::Rest(Some(next.since(now)));
            }
            let code = self.random.uuid().to_string();
            self.handshake.ask(&code, now);
            return Step::Ask { code };
        }
        if let Some(step) = self.take_batched(now) {
            return step;
        }
        let most = if self.webhook.reorder { SHUFFLED } else { 1 };
        let due = self.due.iter().take_while(|(due, _)| *due <= now).take(most);
        let mut due: Vec<u64> = due.map(|(_, sequence)| *sequence).collect();
        if self.webhook.reorder && !due.is_empty() {
            if due.len() < SHUFFLED && !held {
                return Step::Hold;
            }
            self.shuffle(&mut due);
        }
        self.batch = due.into();
        self.take_batched(now).unwrap_or_else(|| Step::Rest(self.due.first().map(|(due, _)| due.since(now))))
    }

    /// The next event of the batch that still waits and is due.
    fn take_batched(&mut self, now: Timestamp) -> Option<Step> {
        while let Some(sequence) = self.batch.pop_front() {
            if let Some(waiting) = self.waiting.get(&sequence)
                && waiting.due <= now
            {
                let happening = Arc::clone(&waiting.happening);
                return Some(Step::Post { happening, attempts: waiting.attempts });
            }
        }
        None
    }

    /// Any order but the one they are in.
    fn shuffle(&self, due: &mut [u64]) {
        let before = due.to_vec();
        for end in (1..due.len()).rev() {
            let at = u64::from_le_bytes(self.random.bytes()) % (end as u64 + 1);
            due.swap(end, usize::try_from(at).unwrap_or_default());
        }
        if due == before {
            due.reverse();
        }
    }

    /// An attempt ended. Nothing: the event was forgotten meanwhile.
    pub(super) fn attempted(&mut self, sequence: u64, outcome: Outcome, now: Timestamp) -> Option<Attempted> {
        let waiting = self.waiting.get_mut(&sequence)?;
        let was_delivered = waiting.copies <= self.webhook.duplicate;
        let verdict = verdict(outcome, waiting.failures, waiting.happening.at, now);
        waiting.attempts = waiting.attempts.saturating_add(1);
        let attempts = waiting.attempts;
        let again = match verdict {
            Verdict::Delivered => {
                waiting.failures = 0;
                waiting.copies = waiting.copies.saturating_sub(1);
                self.delivered += u64::from(!was_delivered);
                (waiting.copies > 0).then_some(now)
            }
            Verdict::Again(due) => {
                waiting.failures = waiting.failures.saturating_add(1);
                Some(due)
            }
            Verdict::GivenUp => {
                self.failed += u64::from(!was_delivered);
                None
            }
        };
        match again {
            Some(due) => {
                self.due.remove(&(waiting.due, sequence));
                waiting.due = due;
                self.due.insert((due, sequence));
            }
            None => {
                self.forget(sequence);
            }
        }
        // A copy that fails takes nothing back.
        let verdict = if was_delivered { Verdict::Delivered } else { verdict };
        Some(Attempted { verdict, attempts, words: outcome.words() })
    }

    pub(super) fn answered(&mut self, consent: Consent, words: String, now: Timestamp) {
        self.handshake.answered(consent, words, now);
    }

    /// See `Handshake::confirm`.
    pub(super) fn confirm(&mut self, code: &str, now: Timestamp) -> bool {
        let confirmed = self.handshake.confirm(code, now);
        if confirmed {
            self.wake.notify_one();
        }
        confirmed
    }

    /// For the list of webhooks.
    pub(super) fn listing(&self) -> Value {
        let Webhook { url, schema, kinds, duplicate, reorder } = &self.webhook;
        json!({
            "url": url,
            "schema": schema,
            "kinds": kinds,
            "duplicate": duplicate,
            "reorder": reorder,
            "subscription": self.name,
            "validation": self.handshake.listing(),
            "waiting": self.waiting.len(),
            "delivered": self.delivered,
            "failed": self.failed,
            "dropped": self.dropped,
        })
    }
}

#[cfg(test)]
#[path = "hook_tests.rs"]
mod tests;
