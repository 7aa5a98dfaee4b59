//! What becomes of a message that was taken in: delivery after a while, the report of it, and the event.
//!
//! Everything happens by the emulator's clock, through the scheduler. A message that is gone by then has no report.
//! Used by `sms`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::refusal;
use super::state::{Attempt, Delivery, Sent};
use crate::clock::Timestamp;
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::events::{self, Event};
use crate::emulator::magic::{self, SmsOutcome};
use crate::emulator::shared::Shared;
use crate::emulator::times;

/// The detail codes of a delivery, of a recipient who opted out, and of a report that never came.
const DELIVERED: u16 = 2000;
const OPTED_OUT: u16 = 4007;
const NO_REPORT: u16 = 5002;
/// How long before the second attempt the first one was.
const BETWEEN_ATTEMPTS: Duration = Duration::from_mins(5);

/// What is to become of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    pub(super) outcome: SmsOutcome,
    pub(super) segments: u32,
    /// How long after it was taken in a missing report is replaced.
    pub(super) timeout: Option<Duration>,
}

impl Course {
    /// How long after its acceptance a report comes, and with which code; nothing: never.
    fn report(&self, deliver_after: Duration) -> Option<(Duration, u16)> {
        let own = match self.outcome {
            SmsOutcome::Failed(code) => Some((deliver_after, code)),
            SmsOutcome::OptedOut => Some((deliver_after, OPTED_OUT)),
            SmsOutcome::Delayed(by) => Some((deliver_after.saturating_add(by), DELIVERED)),
            SmsOutcome::Never => None,
            SmsOutcome::Delivered
            | SmsOutcome::SecondAttempt
            | SmsOutcome::Unavailable
            | SmsOutcome::UnavailableOnce
            | SmsOutcome::OptOutsBroken => Some((deliver_after, DELIVERED)),
        };
        match (own, self.timeout) {
            (Some((after, code)), Some(timeout)) if after <= timeout => Some((after, code)),
            (_, Some(timeout)) => Some((timeout, NO_REPORT)),
            (own, None) => own,
        }
    }

    fn attempts(&self, code: u16, at: Timestamp) -> Vec<Attempt> {
        let whole = |at| match code {
            DELIVERED => Attempt { at, succeeded: self.segments, failed: 0 },
            _ => Attempt { at, succeeded: 0, failed: self.segments },
        };
        let mut attempts = vec![whole(at)];
        if self.outcome == SmsOutcome::SecondAttempt {
            // All but the last segment had got through by then.
            let succeeded = self.segments.saturating_sub(1);
            attempts.push(Attempt { at: at.minus(BETWEEN_ATTEMPTS), succeeded, failed: 1 });
        }
        attempts
    }
}

impl Delivery {
    pub(super) const fn status(&self) -> &'static str {
        if self.code == DELIVERED { "Delivered" } else { "Failed" }
    }

    pub(super) fn details(&self) -> String {
        format!("{}: {}", self.code, magic::sms_code(self.code))
    }
}

/// Has a message meet its fate later.
pub(super) fn schedule(shared: &Shared, id: String, now: Timestamp, course: Course) {
    let Some((after, code)) = course.report(shared.settings.deliver_after) else { return };
    let due = now.plus(after);
    shared.scheduler.at(due, move |shared| deliver(shared, &id, code, course));
}

fn deliver(shared: &Shared, id: &str, code: u16, course: Course) {
    let at = shared.clock.now();
    let delivery = Delivery { code, at, attempts: course.attempts(code, at) };
    let mut state = shared.sms.state();
    let Some(sent) = state.messages.get_mut(id) else { return };
    sent.delivery = Some(delivery.clone());
    let event = sent.delivery_report.then(|| event(id, sent, &delivery));
    drop(state);
    if let Some(event) = event {
        events::emit(shared, event);
    }
    shared.feed.changed();
}

/// `SMSDeliveryReportReceived`. The sender is printed without its plus, the recipient with it, as in every example.
fn event(id: &str, sent: &Sent, delivery: &Delivery) -> Event {
    let from = sent.from.trim_start_matches('+');
    let details = if delivery.code == DELIVERED { "No error.".to_owned() } else { delivery.details() };
    let attempts: Vec<Value> = delivery.attempts.iter().map(|attempt| attempt.json(&in_event)).collect();
    let mut data = Map::new();
    data.insert("messageId".into(), id.into());
    data.insert("from".into(), from.into());
    data.insert("to".into(), sent.to.as_str().into());
    data.insert("deliveryStatus".into(), delivery.status().into());
    data.insert("deliveryStatusDetails".into(), details.into());
    data.insert("deliveryAttempts".into(), attempts.into());
    data.insert("receivedTimestamp".into(), in_event(delivery.at).into());
    if let Some(tag) = &sent.tag {
        data.insert("tag".into(), tag.as_ref().into());
    }
    Event {
        kind: "SMSDeliveryReportReceived",
        subject: format!("/phonenumber/{from}"),
        data: Value::Object(data),
    }
}

impl Attempt {
    fn json(&self, written: &dyn Fn(Timestamp) -> String) -> Value {
        json!({
            "timestamp": written(self.at),
            "segmentsSucceeded": self.succeeded,
            "segmentsFailed": self.failed,
        })
    }
}

/// A time as SMS events write it: with `Z`.
pub(super) fn in_event(time: Timestamp) -> String {
    times::iso_8601(time).replace("+00:00", "Z")
}

/// A time as delivery reports write it: whole seconds and `Z`.
fn in_report(time: Timestamp) -> String {
    let mut text: String = times::iso_8601(time).chars().take(19).collect();
    text.push('Z');
    text
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report<'s> {
    delivery_status: &'static str,
    delivery_status_details: String,
    delivery_attempts: Vec<Value>,
    received_timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'s str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messaging_connect_partner_message_id: Option<&'s str>,
    message_id: &'s str,
    from: &'s str,
    to: &'s str,
}

/// `GET /deliveryReports/{outgoingMessageId}`: there is a report once the message has met its fate, asked for or not.
pub(super) fn report(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let id = call.parameter(0);
    let mut state = shared.sms.state();
    state.messages.expire(call.now);
    let found = state.messages.get(id).and_then(|sent| Some((sent, sent.delivery.as_ref()?)));
    let Some((sent, delivery)) = found else { return Err(refusal::no_report()) };
    let report = Report {
        delivery_status: delivery.status(),
        delivery_status_details: delivery.details(),
        delivery_attempts: delivery.attempts.iter().map(|attempt| attempt.json(&in_report)).collect(),
        received_timestamp: in_report(delivery.at),
        tag: sent.tag.as_deref(),
        messaging_connect_partner_message_id: sent.partner_id.as_deref(),
        message_id: id,
        from: &sent.from,
        to: &sent.to,
    };
    Ok(answer::json(200, &report))
}
