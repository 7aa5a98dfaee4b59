//! The task that works for one webhook: asks it, posts to it, waits.
//!
//! One request at a time, so that events arrive in the order in which they fall due. It ends with the webhook and with
//! the emulator, in the middle of a request if need be. Started by `events`.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::client::Client;
use super::envelope::{self, Consent};
use super::hook::Step;
use super::schedule::Outcome;
use super::webhook::Schema;
use crate::emulator::shared::{Shared, reachable};

/// How long a clock that is moved can go unnoticed while something waits.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long it waits for more events to shuffle.
const HOLD: Duration = Duration::from_millis(100);
/// How much of the time for an attempt the rest of a body may take, once it is known that an event arrived.
const REST: Duration = Duration::from_secs(1);

/// What works for one webhook.
pub(super) struct Courier {
    pub(super) hook: u64,
    pub(super) url: Url,
    pub(super) schema: Schema,
    pub(super) name: String,
    pub(super) client: Client,
    pub(super) wake: Arc<Notify>,
}

impl Courier {
    /// Works until the webhook is gone or either token is cancelled.
    pub(super) async fn run(self, shared: Arc<Shared>, removed: CancellationToken, ended: CancellationToken) {
        tokio::select! {
            () = ended.cancelled() => {}
            () = removed.cancelled() => {}
            () = self.work(&shared) => {}
        }
    }

    async fn work(&self, shared: &Shared) {
        let mut held = false;
        while let Some(step) = shared.events.step(self.hook, shared.clock.now(), held) {
            held = matches!(step, Step::Hold);
            match step {
                Step::Ask { code } => self.ask(shared, &code).await,
                Step::Post { happening, attempts } => self.post(shared, &happening, attempts).await,
                Step::Hold => tokio::time::sleep(HOLD).await,
                Step::Rest(None) => self.wake.notified().await,
                Step::Rest(Some(time)) => {
                    let _ = tokio::time::timeout(time.min(LOOK_AGAIN), self.wake.notified()).await;
                }
            }
        }
    }

    /// Asks whether the webhook wants events.
    async fn ask(&self, shared: &Shared, code: &str) {
        let url = format!("http://{}/_emulator/events/validate?id={code}", reachable(shared.http));
        let topic = shared.events.topic();
        let now = shared.clock.now();
        let request = envelope::validation(self.schema, topic, &self.name, code, &url, now);
        let patience = shared.events.patience();
        let (consent, words) = match self.client.send(&self.url, request, patience, patience).await {
            Ok(reply) => {
                let allowed = reply.allowed_origin.as_deref();
                let consent = envelope::consent(self.schema, code, reply.status, allowed, &reply.body);
                (consent, reply.status.to_string())
            }
            Err(outcome) => (Consent::Refused, outcome.words()),
        };
        tracing::debug!(webhook = self.name, ?consent, words, "a webhook was asked whether it wants events");
        shared.events.answered(self.hook, consent, words, shared.clock.now());
        shared.feed.changed();
        if consent == Consent::Refused {
            // However the clock is moved, and be it to its end, asking must not become a flood.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Posts an event.
    async fn post(&self, shared: &Shared, happening: &envelope::Happening, attempts: u32) {
        let topic = shared.events.topic();
        let request = envelope::notification(self.schema, topic, &self.name, happening, attempts);
        let outcome = match self.client.send(&self.url, request, shared.events.patience(), REST).await {
            Ok(reply) => Outcome::Status(reply.status),
            Err(outcome) => outcome,
        };
        tracing::debug!(webhook = self.name, kind = happening.kind, ?outcome, "an event was posted");
        shared.events.attempted(self.hook, happening.sequence, outcome, shared.clock.now());
        shared.feed.changed();
    }
}
