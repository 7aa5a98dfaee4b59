//! `POST /sms`: takes messages in, one for each recipient, and has their delivery happen later.
//!
//! The answer is 202 even if no recipient is any good; each has an item of its own, in order. Used by `sms`.

use std::sync::Arc;

use serde_json::json;
use uuid::Uuid;

use super::delivery::{self, Course};
use super::number;
use super::refusal;
use super::state::{self, Repeat, Sent, State};
use super::text;
use super::wire::{self, Item, Recipient, SendRequest};
use crate::clock::Timestamp;
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::magic::{self, SmsOutcome};
use crate::emulator::shared::Shared;
use crate::emulator::times;
use crate::emulator::version::Version;

const BAD_NUMBER: &str = "Invalid To phone number format.";
const BAD_DATE: &str = "Request sent with Invalid DateTime value for repeatability-first-sent. Expected is DateTime ,RFC1123 pattern.";
const BAD_ID: &str =
    "Request sent with Invalid value for repeatability-request-id. Expected is a UUID of 36 characters.";
const OTHER_RECIPIENT: &str = "The repeatability-request-id was used for another recipient.";

/// A message that was taken in, and what is to become of it.
struct Taken {
    id: String,
    course: Course,
}

/// What is the same for all recipients of a request.
struct Common {
    from: Arc<str>,
    text: Arc<str>,
    tag: Option<Arc<str>>,
    segments: u32,
    now: Timestamp,
}

pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let request = wire::send_request(call.body, call.version)?;
    if !shared.settings.owns_sender(&request.from) {
        return Err(refusal::not_owned());
    }
    let common = Common {
        from: request.from.as_str().into(),
        text: request.message.as_str().into(),
        tag: request.tag.as_deref().map(Arc::from),
        segments: text::segments(&request.message).1,
        now: call.now,
    };
    // Chance has a lock of its own, and two are never held.
    let ids: Vec<Uuid> = request.recipients.iter().map(|_| shared.random.uuid()).collect();
    let partner_ids: Vec<Option<String>> = request
        .recipients
        .iter()
        .map(|_| request.has_partner.then(|| shared.random.uuid().to_string()))
        .collect();

    let mut taken = Vec::new();
    let mut items = Vec::new();
    let mut state = shared.sms.state();
    state.repeats.expire(call.now);
    for ((recipient, id), partner_id) in request.recipients.iter().zip(ids).zip(partner_ids) {
        let id = message_id(call.version, call.now, id);
        let mut item = Item { to: recipient.to.clone(), ..Item::default() };
        if let Some(course) = admit(&mut state, &request, recipient, &id, &mut item, &common) {
            let sequence = shared.feed.next_sequence();
            let sent = sent(&request, recipient, &common, sequence, partner_id);
            state.messages.put(&id, call.now, sent.bytes(), sent);
            taken.push(Taken { id, course });
        }
        items.push(item);
    }
    drop(state);
    for Taken { id, course } in taken {
        delivery::schedule(shared, id, call.now, course);
    }
    state::sweep_later(shared);
    shared.feed.changed();
    Ok(answer::json(202, &json!({ "value": items })))
}

/// Fills the item of a recipient. Returned: the message is to be kept, and this is to become of it.
fn admit(
    state: &mut State,
    request: &SendRequest,
    recipient: &Recipient,
    id: &str,
    item: &mut Item,
    common: &Common,
) -> Option<Course> {
    let mut refuse = |status, result: Option<&'static str>, why| {
        item.http_status_code = status;
        item.repeatability_result = result;
        item.error_message = Some(why);
        None
    };
    if !number::is_recipient(&recipient.to) {
        return refuse(400, None, BAD_NUMBER);
    }
    let key = recipient.repeatability_id.as_deref().map(str::to_ascii_lowercase);
    if let Some(key) = &key {
        if key.len() != 36 || Uuid::try_parse(key).is_err() {
            return refuse(400, Some("rejected"), BAD_ID);
        }
        if !recipient.first_sent.as_deref().is_some_and(is_rfc_1123) {
            return refuse(400, Some("rejected"), BAD_DATE);
        }
        if let Some(repeat) = state.repeats.get(key) {
            if repeat.item.to != recipient.to {
                return refuse(400, Some("rejected"), OTHER_RECIPIENT);
            }
            *item = repeat.item.clone();
            return None;
        }
    }
    let outcome = magic::sms(&recipient.to);
    if is_unavailable(outcome, state) {
        return refuse(503, None, "ServiceUnavailable");
    }
    item.message_id = Some(id.to_owned());
    item.http_status_code = 202;
    item.successful = true;
    if let Some(key) = &key {
        item.repeatability_result = Some("accepted");
        let bytes = item.to.len().saturating_add(id.len());
        state.repeats.put(key, common.now, bytes, Repeat { item: item.clone() });
    }
    let has_opted_out = state.opt_outs.get(&state::pair(&request.from, &recipient.to)).is_some();
    let outcome = if has_opted_out { SmsOutcome::OptedOut } else { outcome };
    Some(Course { outcome, segments: common.segments, timeout: request.report_timeout })
}

fn is_unavailable(outcome: SmsOutcome, state: &mut State) -> bool {
    match outcome {
        SmsOutcome::Unavailable => true,
        SmsOutcome::UnavailableOnce => {
            state.refusals = state.refusals.wrapping_add(1);
            state.refusals % 2 == 1
        }
        _ => false,
    }
}

fn sent(
    request: &SendRequest,
    recipient: &Recipient,
    common: &Common,
    sequence: u64,
    partner_id: Option<String>,
) -> Sent {
    Sent {
        sequence,
        at: common.now,
        from: Arc::clone(&common.from),
        to: recipient.to.clone(),
        text: Arc::clone(&common.text),
        tag: common.tag.clone(),
        is_inbound: false,
        delivery_report: request.delivery_report,
        repeatability_id: recipient.repeatability_id.clone(),
        partner_id,
        delivery: None,
    }
}

/// A message id in the form of the version: time and a UUID, with a prefix and a suffix in 2021.
fn message_id(version: Version, now: Timestamp, uuid: Uuid) -> String {
    let (before, after) = if version < Version::SMS_2026 { ("Outgoing_", "_noam") } else { ("", "") };
    format!("{before}{}{uuid}{after}", compact(now))
}

/// A time as message ids write it: `yyyyMMddHHmmss`.
pub(super) fn compact(time: Timestamp) -> String {
    times::iso_8601(time).chars().take(19).filter(char::is_ascii_digit).collect()
}

/// Whether a text is a date as RFC 1123 writes it, and not in one of the older forms.
fn is_rfc_1123(text: &str) -> bool {
    httpdate::parse_http_date(text).is_ok_and(|time| httpdate::fmt_http_date(time) == text)
}
