//! The Chat API: threads, participants, messages, read receipts, typing.
//!
//! Called by `service` once the user's token was found good and the version is known. What the token's scopes allow and
//! who is in which thread is checked here. Answers that ACS was never seen to give are guesses, listed in
//! docs/emulator.md.

use super::answer::{self, Answer};
use super::call::Call;
use super::service::{self, Shared};
use super::settings::Settings;

/// The threads of the resource.
pub(super) struct Chat;

impl Chat {
    pub(super) fn new(_settings: &Settings) -> Self {
        Self
    }

    /// Forgets all threads.
    pub(super) fn reset(&self) {}

    pub(super) fn newest_first(
        &self,
        _see: &mut dyn FnMut(super::mailbox::Message) -> std::ops::ControlFlow<()>,
    ) {
    }

    pub(super) fn find(&self, _id: &str) -> Option<super::mailbox::Detailed> {
        None
    }

    pub(super) fn count(&self) -> usize {
        0
    }

    pub(super) fn threads(&self, _limit: usize) -> Vec<serde_json::Value> {
        Vec::new()
    }
}

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(_shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    Err(Box::new(service::not_emulated(call.operation)))
}

/// The answer to a call without a token that is good now.
pub(super) fn unauthorized() -> Answer {
    answer::chat_error(
        401,
        "Unauthorized",
        Some("The access token is missing, not valid, or no longer valid."),
    )
}
