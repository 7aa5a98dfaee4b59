//! The Email API: sending and the status of what was sent.
//!
//! Called by `service` once a request is authenticated and its version known. Answers that ACS was never seen to give
//! are guesses, listed in docs/emulator.md.

use super::answer::Answer;
use super::call::Call;
use super::service::{self, Shared};
use super::settings::Settings;

/// The mail of the resource.
pub(super) struct Email;

impl Email {
    pub(super) fn new(_settings: &Settings) -> Self {
        Self
    }

    /// Forgets all mail.
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
}

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(_shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    Err(Box::new(service::not_emulated(call.operation)))
}

/// The domain that the mail is sent from, for the rate limits: of a request to send, or of the mail whose status is
/// asked for.
pub(super) fn sending_domain(_shared: &Shared, _call: &Call<'_>) -> Option<String> {
    None
}

pub(super) fn engage(
    _shared: &Shared,
    _operation_id: &str,
    _recipient: &str,
    _kind: &str,
) -> Result<(), String> {
    Err("there is no such mail".into())
}
