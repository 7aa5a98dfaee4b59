//! The events so far and the webhooks they go to: what is kept, listed, and waits.
//!
//! Bounded by count and bytes: the oldest events go, and with them what still waits to be posted of them. It does no
//! I/O. Used by `events`, under its lock.

use std::collections::VecDeque;
use std::sync::Arc;

use serde_json::{Value, json};

use super::envelope::Happening;
use super::hook::Hook;
use super::schedule::{Outcome, Verdict};
use crate::clock::Timestamp;
use crate::emulator::mailbox::Bounds;
use crate::emulator::times;

/// What a kept event weighs beyond its texts; generous, so that the bound holds.
const WEIGHT: usize = 512;
/// What each of its deliveries weighs.
const DELIVERY: usize = 256;
/// What a value in its data weighs beyond its text.
const NODE: usize = 64;

#[derive(Clone, Copy)]
enum Status {
    Pending,
    Delivered,
    Failed,
}

/// What became of an event at one webhook.
struct Delivery {
    hook: u64,
    url: Arc<str>,
    status: Status,
    attempts: u32,
    last: Option<String>,
}

struct Record {
    happening: Arc<Happening>,
    weight: usize,
    deliveries: Vec<Delivery>,
}

/// The events so far and the webhooks.
pub(super) struct Outbox {
    bounds: Bounds,
    /// Their sequence numbers have no gaps.
    kept: VecDeque<Record>,
    weight: usize,
    last_sequence: u64,
    last_hook: u64,
    pub(super) hooks: Vec<Hook>,
}

impl Outbox {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, kept: VecDeque::new(), weight: 0, last_sequence: 0, last_hook: 0, hooks: Vec::new() }
    }

    /// A number for a new webhook.
    pub(super) fn next_hook(&mut self) -> u64 {
        self.last_hook = self.last_hook.saturating_add(1);
        self.last_hook
    }

    /// Takes an event in, numbers it, and has it wait for every webhook that wants it.
    pub(super) fn push(&mut self, mut happening: Happening) {
        self.last_sequence = self.last_sequence.saturating_add(1);
        happening.sequence = self.last_sequence;
        let weight = WEIGHT + happening.id.len() + happening.subject.len() + weight(&happening.data);
        let happening = Arc::new(happening);
        let mut deliveries = Vec::new();
        let mut gone = Vec::new();
        for hook in self.hooks.iter_mut().filter(|hook| hook.webhook.wants(happening.kind)) {
            gone.extend(hook.push(&happening).map(|sequence| (hook.id, sequence)));
            let url = Arc::clone(&hook.address);
            deliveries.push(Delivery {
                hook: hook.id,
                url,
                status: Status::Pending,
                attempts: 0,
                last: None,
            });
        }
        let weight = weight + deliveries.len() * DELIVERY;
        self.kept.push_back(Record { happening, weight, deliveries });
        self.weight = self.weight.saturating_add(weight);
        for (hook, sequence) in gone {
            self.end(hook, sequence, "dropped: too many events wait for this webhook");
        }
        // The newest stays, however heavy it is.
        while self.kept.len() > 1
            && (self.kept.len() > self.bounds.count || self.weight > self.bounds.bytes)
            && let Some(record) = self.kept.pop_front()
        {
            self.weight = self.weight.saturating_sub(record.weight);
            for hook in &mut self.hooks {
                hook.evict(record.happening.sequence);
            }
        }
    }

    /// An attempt to post an event ended.
    pub(super) fn attempted(&mut self, hook: u64, sequence: u64, outcome: Outcome, now: Timestamp) {
        let Some(hook) = self.hooks.iter_mut().find(|candidate| candidate.id == hook) else { return };
        let Some(attempted) = hook.attempted(sequence, outcome, now) else { return };
        let id = hook.id;
        if let Some(delivery) = self.delivery(id, sequence) {
            delivery.attempts = attempted.attempts;
            delivery.last = Some(attempted.words);
            delivery.status = match attempted.verdict {
                Verdict::Delivered => Status::Delivered,
                Verdict::Again(_) => Status::Pending,
                Verdict::GivenUp => Status::Failed,
            };
        }
    }

    /// Puts other webhooks in the place of those that are there, which end; what waits for them is not posted any more.
    pub(super) fn replace(&mut self, hooks: Vec<Hook>) {
        for hook in std::mem::replace(&mut self.hooks, hooks) {
            hook.cancel.cancel();
        }
        let alive: Vec<u64> = self.hooks.iter().map(|hook| hook.id).collect();
        let deliveries = self.kept.iter_mut().flat_map(|record| &mut record.deliveries);
        for delivery in deliveries.filter(|delivery| !alive.contains(&delivery.hook)) {
            if matches!(delivery.status, Status::Pending) {
                delivery.status = Status::Failed;
                delivery.last = Some("dropped: the webhook was removed".to_owned());
            }
        }
    }

    /// Forgets all events; numbers go on.
    pub(super) fn clear(&mut self) {
        self.kept.clear();
        self.weight = 0;
        for hook in &mut self.hooks {
            hook.clear();
        }
    }

    pub(super) fn count(&self) -> usize {
        self.kept.len()
    }

    /// The newest events after a sequence number, newest first.
    pub(super) fn latest(&self, after: u64, limit: usize) -> Vec<Value> {
        let newest = self.kept.iter().rev().take_while(|record| record.happening.sequence > after);
        newest.take(limit).map(listing).collect()
    }

    fn end(&mut self, hook: u64, sequence: u64, why: &str) {
        if let Some(delivery) = self.delivery(hook, sequence)
            && matches!(delivery.status, Status::Pending)
        {
            delivery.status = Status::Failed;
            delivery.last = Some(why.to_owned());
        }
    }

    fn delivery(&mut self, hook: u64, sequence: u64) -> Option<&mut Delivery> {
        let first = self.kept.front()?.happening.sequence;
        let index = usize::try_from(sequence.checked_sub(first)?).ok()?;
        self.kept.get_mut(index)?.deliveries.iter_mut().find(|delivery| delivery.hook == hook)
    }
}

fn listing(record: &Record) -> Value {
    let deliveries = record.deliveries.iter().map(|delivery| {
        let status = match delivery.status {
            Status::Pending => "pending",
            Status::Delivered => "delivered",
            Status::Failed => "failed",
        };
        json!({ "url": *delivery.url, "status": status, "attempts": delivery.attempts, "last": delivery.last })
    });
    let deliveries: Vec<Value> = deliveries.collect();
    let Happening { sequence, id, kind, subject, at, data } = &*record.happening;
    json!({
        "sequence": sequence,
        "id": id,
        "kind": kind,
        "subject": subject,
        "at": times::iso_8601(*at),
        "data": data,
        "deliveries": deliveries,
    })
}

/// About what a value takes in memory.
fn weight(value: &Value) -> usize {
    NODE + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(weight).sum(),
        Value::Object(members) => members.iter().map(|(name, value)| name.len() + weight(value)).sum(),
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
