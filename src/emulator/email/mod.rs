//! The Email API: sending and the status of what was sent.
//!
//! Called by `service` once a request is authenticated and its version known. Answers that ACS was never seen to give
//! are guesses, listed in docs/emulator.md. It never sends anything to anybody.

mod address;
mod delivery;
mod engagement;
mod plain;
mod send;
mod source;
mod state;
mod wire;

use super::answer::Answer;
use super::call::Call;
use super::operation::Operation;
use super::service;
use super::shared::Shared;

pub(super) use engagement::engage;
pub(super) use state::Email;
pub(super) use wire::Attachment;

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    match call.operation {
        Operation::SendEmail => send::perform(shared, call),
        Operation::GetEmailOperation => send::status(shared, call),
        other => Err(Box::new(service::not_emulated(other))),
    }
}

/// The domain that the mail is sent from, for the rate limits: of a request to send, or of the mail whose status is
/// asked for.
pub(super) fn sending_domain(shared: &Shared, call: &Call<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Request {
        sender_address: String,
    }
    let sender = match call.operation {
        Operation::GetEmailOperation => shared.email.sender(call.parameter(0))?,
        _ => serde_json::from_slice::<Request>(call.body).ok()?.sender_address,
    };
    address::domain(&sender).map(str::to_ascii_lowercase)
}

#[cfg(test)]
#[path = "email_tests.rs"]
mod tests;
