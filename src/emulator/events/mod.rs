//! Events about messages and threads, as Event Grid posts them to webhooks.
//!
//! Services emit events; this numbers, keeps and posts them, and never makes a service wait. Bounded: the oldest events
//! go. One task works for each webhook and ends with it or with the emulator. Used by `sms`, `email`, `chat` and
//! `control`.

mod client;
mod courier;
mod envelope;
mod handshake;
mod hook;
mod outbox;
mod schedule;
mod webhook;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::client::Client;
use self::courier::Courier;
use self::envelope::{Consent, Happening};
use self::hook::{Hook, Step};
use self::outbox::Outbox;
use self::schedule::Outcome;
pub(super) use self::webhook::Webhook;
use super::random::Random;
use super::settings::{Settings, StartError};
use super::shared::Shared;
use crate::clock::Timestamp;

/// How long a webhook may take over an answer, in real time.
const PATIENCE: Duration = Duration::from_secs(30);

/// An event as a service emits it.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The type without its prefix `Microsoft.Communication.`, such as `SMSDeliveryReportReceived`.
    pub(super) kind: &'static str,
    pub(super) subject: String,
    /// What the type's schema says, in camelCase.
    pub(super) data: Value,
}

/// The events so far and where they go.
pub(super) struct Events {
    outbox: Mutex<Outbox>,
    /// What names the emulated resource in every event.
    topic: String,
    /// A stream of chance of its own: jobs emit while requests are answered, and the ids of a seeded run must not
    /// depend on which comes first.
    random: Random,
    /// The webhooks of the settings, until `start` takes them.
    configured: Vec<Webhook>,
    /// `PATIENCE`, but for tests that cannot wait that long.
    patience: Mutex<Duration>,
    tasks: TaskTracker,
    ended: CancellationToken,
}

impl Events {
    /// No events yet. What works for webhooks is spawned on `tasks` and ends with `ended`.
    pub(super) fn new(
        settings: &Settings,
        tasks: TaskTracker,
        ended: CancellationToken,
    ) -> Result<Self, StartError> {
        let configured = Webhook::from_settings(&settings.webhook_url, &settings.webhook_schema);
        let configured: Vec<Webhook> = configured.map_err(StartError::Webhook)?.into_iter().collect();
        webhook::checked(&configured).map_err(StartError::Webhook)?;
        let random = Random::new(settings.seed().map(|seed| !seed));
        let subscription = random.uuid();
        Ok(Self {
            outbox: Mutex::new(Outbox::new(settings.bounds())),
            topic: envelope::topic(&subscription.to_string()),
            random,
            configured,
            patience: Mutex::new(PATIENCE),
            tasks,
            ended,
        })
    }

    /// Replaces the webhooks. One that stays the same goes on as it is, with what waits for it; any other is asked
    /// first whether it wants events, and gets those from now on.
    pub(super) fn set_webhooks(shared: &Arc<Shared>, webhooks: Vec<Webhook>) -> Result<(), String> {
        let urls = webhook::checked(&webhooks)?;
        let mut new = Vec::new();
        for (webhook, url) in webhooks.into_iter().zip(urls) {
            let client = Client::new(&url)?;
            // Each has its own stream of chance: the tasks run at the same time, and a seeded run must not depend on how.
            new.push((
                webhook,
                url,
                client,
                Random::new(Some(u64::from_le_bytes(shared.events.random.bytes()))),
            ));
        }
        let events = &shared.events;
        let mut couriers = Vec::new();
        let mut outbox = events.outbox();
        let mut old = std::mem::take(&mut outbox.hooks);
        let mut hooks = Vec::new();
        for (webhook, url, client, random) in new {
            if let Some(same) = old.iter().position(|hook| hook.webhook == webhook) {
                hooks.push(old.remove(same));
                continue;
            }
            let id = outbox.next_hook();
            let name = format!("WEBHOOK-{id}");
            let hook = Hook::new(id, name.clone(), webhook, random);
            let (schema, wake) = (hook.webhook.schema, Arc::clone(&hook.wake));
            couriers.push((Courier { hook: hook.id, url, schema, name, client, wake }, hook.cancel.clone()));
            hooks.push(hook);
        }
        outbox.hooks = old;
        outbox.replace(hooks);
        drop(outbox);
        for (courier, removed) in couriers {
            events.tasks.spawn(courier.run(Arc::clone(shared), removed, events.ended.clone()));
        }
        shared.feed.changed();
        Ok(())
    }

    /// The webhooks and how far they are.
    pub(super) fn webhooks(&self) -> Vec<Value> {
        self.outbox().hooks.iter().map(Hook::listing).collect()
    }

    /// The newest events after a sequence number, newest first.
    pub(super) fn latest(&self, after: u64, limit: usize) -> Vec<Value> {
        self.outbox().latest(after, limit)
    }

    /// How many events are kept.
    pub(super) fn count(&self) -> usize {
        self.outbox().count()
    }

    /// Forgets all events and deliveries that wait; the webhooks stay.
    pub(super) fn reset(&self) {
        self.outbox().clear();
    }

    fn step(&self, hook: u64, now: Timestamp, held: bool) -> Option<Step> {
        let mut outbox = self.outbox();
        outbox.hooks.iter_mut().find(|candidate| candidate.id == hook).map(|hook| hook.step(now, held))
    }

    fn answered(&self, hook: u64, consent: Consent, words: String, now: Timestamp) {
        let mut outbox = self.outbox();
        if let Some(hook) = outbox.hooks.iter_mut().find(|candidate| candidate.id == hook) {
            hook.answered(consent, words, now);
        }
    }

    fn attempted(&self, hook: u64, sequence: u64, outcome: Outcome, now: Timestamp) {
        self.outbox().attempted(hook, sequence, outcome, now);
    }

    fn topic(&self) -> &str {
        &self.topic
    }

    fn patience(&self) -> Duration {
        *self.patience.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn outbox(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Begins to work for the webhooks of the settings.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(), StartError> {
    Events::set_webhooks(shared, shared.events.configured.clone()).map_err(StartError::Webhook)
}

/// Takes an event in. It happened now, by the emulator's clock.
pub(super) fn emit(shared: &Shared, event: Event) {
    let Event { kind, subject, data } = event;
    let (id, at) = (shared.events.random.uuid().to_string(), shared.clock.now());
    tracing::trace!(kind, "an event");
    // Its number is given under the lock of the outbox, so that numbers have no gaps.
    shared.events.outbox().push(Happening { sequence: 0, id, kind, subject, at, data });
    shared.feed.changed();
}

/// The address in a validation was called. False: there is no such code, or it is too old.
pub(super) fn confirm(shared: &Shared, code: &str) -> bool {
    let now = shared.clock.now();
    let confirmed = shared.events.outbox().hooks.iter_mut().any(|hook| hook.confirm(code, now));
    if confirmed {
        shared.feed.changed();
    }
    confirmed
}

#[cfg(test)]
#[path = "receiver_tests.rs"]
mod receiver;
#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
