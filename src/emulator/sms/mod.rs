//! The SMS API: sending, opt-outs, delivery reports.
//!
//! Called by `service` once a request is authenticated and its version known. Answers that ACS was never seen to give
//! are guesses, listed in docs/emulator.md. It never sends anything to anybody.

mod delivery;
mod inbound;
mod number;
mod opt_outs;
mod refusal;
mod send;
mod state;
mod text;
mod wire;

use super::answer::Answer;
use super::call::Call;
use super::operation::Operation;
use super::service;
use super::shared::Shared;

pub(super) use inbound::receive;
pub(super) use state::Sms;

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    match call.operation {
        Operation::SendSms => send::perform(shared, call),
        Operation::AddOptOuts | Operation::RemoveOptOuts | Operation::CheckOptOuts => {
            opt_outs::perform(shared, call)
        }
        Operation::GetDeliveryReport => delivery::report(shared, call),
        other => Err(Box::new(service::not_emulated(other))),
    }
}

/// The sender that a request names, for the rate limits.
pub(super) fn sender(call: &Call<'_>) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Request {
        from: String,
    }
    serde_json::from_slice::<Request>(call.body).ok().map(|request| request.from)
}

#[cfg(test)]
#[path = "sms_tests.rs"]
mod tests;
