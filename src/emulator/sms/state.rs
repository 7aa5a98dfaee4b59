//! What is kept of SMS: messages in both directions, repeatability ids, opt-outs. All of it bounded.
//!
//! One lock, held for moments and never together with another. Used by the other files of `sms`; `control` sees the
//! messages through `newest_first` and `find`.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::text;
use super::wire::Item;
use crate::clock::Timestamp;
use crate::emulator::mailbox::{Bounds, Detailed, Kind, Message};
use crate::emulator::settings::Settings;
use crate::emulator::shared::Shared;
use crate::emulator::shelf::Shelf;
use crate::emulator::times;

/// How long a repeatability id is remembered.
const REPEATABLE_FOR: Duration = Duration::from_hours(24);
/// More opt-outs than this are forgotten, the oldest first.
const MAX_OPT_OUTS: usize = 100_000;

/// A message that was sent or received.
pub(super) struct Sent {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    pub(super) from: Arc<str>,
    pub(super) to: String,
    pub(super) text: Arc<str>,
    pub(super) tag: Option<Arc<str>>,
    pub(super) is_inbound: bool,
    pub(super) delivery_report: bool,
    pub(super) repeatability_id: Option<String>,
    /// The id that a partner gave it.
    pub(super) partner_id: Option<String>,
    /// What became of it, once that is known.
    pub(super) delivery: Option<Delivery>,
}

/// What became of a message.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) code: u16,
    /// When the report came in.
    pub(super) at: Timestamp,
    /// The newest first.
    pub(super) attempts: Vec<Attempt>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    pub(super) at: Timestamp,
    pub(super) succeeded: u32,
    pub(super) failed: u32,
}

/// What was answered to a repeatability id.
pub(super) struct Repeat {
    pub(super) item: Item,
}

pub(super) struct State {
    pub(super) messages: Shelf<Sent>,
    /// By the id in lower case.
    pub(super) repeats: Shelf<Repeat>,
    /// By sender and recipient; see `pair`.
    pub(super) opt_outs: Shelf<()>,
    /// How often an item was asked for that is refused every other time.
    pub(super) refusals: u64,
    /// Whether a job waits that lets go of what is too old.
    is_sweeping: bool,
}

/// The messages and opt-outs of the resource.
pub(in crate::emulator) struct Sms(Mutex<State>);

impl Sms {
    pub(in crate::emulator) fn new(settings: &Settings) -> Self {
        let bounds = settings.bounds();
        Self(Mutex::new(State {
            messages: Shelf::new(bounds),
            repeats: Shelf::new(Bounds { age: REPEATABLE_FOR, ..bounds }),
            opt_outs: Shelf::new(Bounds { count: MAX_OPT_OUTS, age: Duration::MAX, ..bounds }),
            refusals: 0,
            is_sweeping: false,
        }))
    }

    /// Forgets all messages and opt-outs.
    pub(in crate::emulator) fn reset(&self) {
        let mut state = self.state();
        state.messages.clear();
        state.repeats.clear();
        state.opt_outs.clear();
        state.refusals = 0;
        state.is_sweeping = false;
    }

    /// Shows the messages to `see`, the newest first, until it has seen enough. `see` must not ask for messages itself.
    pub(in crate::emulator) fn newest_first(&self, see: &mut dyn FnMut(Message) -> ControlFlow<()>) {
        let state = self.state();
        for (id, sent) in state.messages.newest_first() {
            if see(sent.listed(id)).is_break() {
                return;
            }
        }
    }

    /// A message by its id.
    pub(in crate::emulator) fn find(&self, id: &str) -> Option<Detailed> {
        self.state().messages.get(id).map(|sent| sent.detailed(id))
    }

    /// How many messages are kept.
    pub(in crate::emulator) fn count(&self) -> usize {
        self.state().messages.len()
    }

    /// Never keep it across a call of anything that locks.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has what is too old go when its time comes: one job that waits for the oldest message. Call it after a message came.
pub(super) fn sweep_later(shared: &Shared) {
    let mut state = shared.sms.state();
    let due = state.messages.goes_at().filter(|_| !state.is_sweeping);
    state.is_sweeping |= due.is_some();
    drop(state);
    let Some(due) = due else { return };
    shared.scheduler.at(due, |shared| {
        let now = shared.clock.now();
        let mut state = shared.sms.state();
        state.is_sweeping = false;
        state.messages.expire(now);
        state.repeats.expire(now);
        drop(state);
        sweep_later(shared);
        shared.feed.changed();
    });
}

/// The key of an opt-out. Names of senders compare without case.
pub(super) fn pair(from: &str, to: &str) -> String {
    format!("{} {to}", from.to_ascii_lowercase())
}

impl Sent {
    /// What it takes to keep it, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let tag = self.tag.as_ref().map_or(0, |tag| tag.len());
        let repeatability = self.repeatability_id.as_ref().map_or(0, String::len);
        let parts = [self.from.len(), self.to.len(), self.text.len(), tag, repeatability];
        parts.iter().fold(0, |sum: usize, part| sum.saturating_add(*part))
    }

    fn status(&self) -> &'static str {
        match &self.delivery {
            _ if self.is_inbound => "Received",
            None => "Queued",
            Some(delivery) => delivery.status(),
        }
    }

    fn listed(&self, id: &str) -> Message {
        Message {
            sequence: self.sequence,
            kind: Kind::Sms,
            id: id.to_owned(),
            at: times::iso_8601(self.at),
            direction: if self.is_inbound { "inbound" } else { "outbound" },
            from: self.from.to_string(),
            from_name: None,
            to: vec![self.to.clone()],
            subject: None,
            text: self.text.to_string(),
            status: self.status().to_owned(),
            thread: None,
            attachments: 0,
            tag: self.tag.as_deref().map(str::to_owned),
        }
    }

    fn detailed(&self, id: &str) -> Detailed {
        let (encoding, segments) = text::segments(&self.text);
        let delivery = self.delivery.as_ref().map(|delivery| {
            json!({
                "status": delivery.status(),
                "details": delivery.details(),
                "at": times::iso_8601(delivery.at),
            })
        });
        let detail = json!({
            "repeatability_request_id": self.repeatability_id,
            "delivery_report": self.delivery_report,
            "delivery": delivery,
            "encoding": encoding.name(),
            "segments": segments,
        });
        Detailed { message: self.listed(id), detail }
    }
}
