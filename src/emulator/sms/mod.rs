//! The SMS API: sending, opt-outs, delivery reports.
//!
//! Called by `service` once a request is authenticated and its version known. Answers that ACS was never seen to give
//! are guesses, listed in docs/emulator.md.

use super::answer::Answer;
use super::call::Call;
use super::service::{self, Shared};
use super::settings::Settings;

/// The messages and opt-outs of the resource.
#[derive(Default)]
pub(super) struct Sms(std::sync::Mutex<Vec<super::mailbox::Message>>);

impl Sms {
    pub(super) fn new(_settings: &Settings) -> Self {
        Self::default()
    }

    /// Forgets all messages and opt-outs.
    pub(super) fn reset(&self) {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }

    pub(super) fn newest_first(
        &self,
        see: &mut dyn FnMut(super::mailbox::Message) -> std::ops::ControlFlow<()>,
    ) {
        for message in self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).iter().rev() {
            if see(message.clone()).is_break() {
                return;
            }
        }
    }

    pub(super) fn find(&self, id: &str) -> Option<super::mailbox::Detailed> {
        let messages = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let message = messages.iter().find(|message| message.id == id)?.clone();
        Some(super::mailbox::Detailed { message, detail: serde_json::Value::Null })
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).len()
    }
}

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(_shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    Err(Box::new(service::not_emulated(call.operation)))
}

/// The sender that a request names, for the rate limits.
pub(super) fn sender(call: &Call<'_>) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(call.body).ok()?;
    body.get("from")?.as_str().map(str::to_owned)
}

pub(super) fn receive(shared: &Shared, from: &str, to: &str, text: &str) -> Result<String, String> {
    if to != "+18005550100" {
        return Err("to is not a sender of the resource".into());
    }
    let id = shared.random.uuid().to_string();
    let message = super::mailbox::Message {
        sequence: shared.feed.next_sequence(),
        kind: super::mailbox::Kind::Sms,
        id: id.clone(),
        at: super::times::iso_8601(shared.clock.now()),
        direction: "inbound",
        from: from.into(),
        from_name: None,
        to: vec![to.into()],
        subject: None,
        text: text.into(),
        status: "Received".into(),
        thread: None,
        attachments: 0,
        tag: None,
    };
    shared.sms.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(message);
    shared.feed.changed();
    Ok(id)
}
