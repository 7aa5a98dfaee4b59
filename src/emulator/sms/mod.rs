//! The SMS API: sending, opt-outs, delivery reports.
//!
//! Called by `service` once a request is authenticated and its version known. Answers that ACS was never seen to give
//! are guesses, listed in docs/emulator.md.

use super::answer::Answer;
use super::call::Call;
use super::service::{self, Shared};
use super::settings::Settings;

/// The messages and opt-outs of the resource.
pub(super) struct Sms;

impl Sms {
    pub(super) fn new(_settings: &Settings) -> Self {
        Self
    }

    /// Forgets all messages and opt-outs.
    pub(super) fn reset(&self) {}
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
