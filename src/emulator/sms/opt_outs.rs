//! `POST /sms/optouts:add`, `:remove`, `:check`: who does not want to hear from which sender.
//!
//! The answer is 200 with an item for each recipient, in order. Used by `sms`.

use serde_json::json;

use super::number;
use super::refusal;
use super::state::pair;
use super::wire::{self, OptOutItem};
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::magic::{self, SmsOutcome};
use crate::emulator::operation::Operation;
use crate::emulator::shared::Shared;

pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let request = wire::opt_out_request(call.body, call.version)?;
    if !shared.settings.owns_sender(&request.from) {
        return Err(refusal::not_owned());
    }
    let mut items = Vec::new();
    let mut state = shared.sms.state();
    for to in request.recipients {
        let item = |status, is_opted_out, error_message| OptOutItem {
            to: to.clone(),
            http_status_code: status,
            is_opted_out,
            error_message,
        };
        let outcome = magic::sms(&to);
        if !number::is_recipient(&to) {
            items.push(item(400, None, Some("Invalid recipient phone number format")));
            continue;
        }
        if outcome == SmsOutcome::OptOutsBroken {
            items.push(item(500, None, Some("Internal Server Error")));
            continue;
        }
        let key = pair(&request.from, &to);
        let mut is_opted_out = None;
        match call.operation {
            Operation::AddOptOuts => state.opt_outs.put(&key, call.now, 0, ()),
            Operation::RemoveOptOuts => {
                state.opt_outs.remove(&key);
            }
            _ => {
                let listed = state.opt_outs.get(&key).is_some();
                is_opted_out = Some(listed || outcome == SmsOutcome::OptedOut);
            }
        }
        items.push(item(200, is_opted_out, None));
    }
    drop(state);
    shared.feed.changed();
    Ok(answer::json(200, &json!({ "value": items })))
}
