//! SMS and opt-outs: from the wire and back, and what every kind of message has in common on the wire.
//!
//! Checks the shape alone; senders, lengths and repetitions are for the core.

use prost_types::Timestamp as ProtoTimestamp;

use super::{Check, timestamp};
use crate::broker::error::Error;
use crate::clock::Timestamp;
use crate::grpc::proto::v1;
use crate::messaging::types::{Channel, Failure, MessageId, MessageName, Number, Outcome, State};
use crate::messaging::{OptOut, SendSms, SmsReport};

/// The most recipients of a request; more are not even looked at.
const MAX_RECIPIENTS: usize = 100;

/// SendSms.
pub(crate) fn send(request: v1::SendSmsRequest) -> Result<SendSms, Error> {
    let mut check = Check::default();
    let request_id = check.request_uuid(&request.request_id);
    let to = check.numbers("to", &request.to);
    match (request_id, to) {
        (Some(request_id), Some(to)) => Ok(SendSms {
            request_id,
            from: set(request.from),
            to,
            text: request.text,
            delivery_report: request.enable_delivery_report,
            tag: set(request.tag),
        }),
        _ => Err(check.into_error()),
    }
}

/// GetSms.
pub(crate) fn name(request: v1::GetSmsRequest) -> Result<MessageName, Error> {
    let mut check = Check::default();
    let name = match request.name {
        Some(v1::get_sms_request::Name::SmsId(id)) => check.message_id("sms_id", Channel::Sms, &id),
        Some(v1::get_sms_request::Name::RequestId(id)) => check.request_uuid(&id).map(MessageName::Request),
        None => check.violation("name", "must be set: either sms_id or request_id"),
    };
    name.ok_or_else(|| check.into_error())
}

/// The sender, if one is named, and the recipients of a question about opt-outs.
pub(crate) fn recipients(
    from: String,
    recipients: &[String],
) -> Result<(Option<String>, Vec<Number>), Error> {
    let mut check = Check::default();
    let numbers = check.numbers("recipients", recipients);
    numbers.map(|numbers| (set(from), numbers)).ok_or_else(|| check.into_error())
}

/// For SendSms's caller.
pub(crate) fn sent(report: SmsReport) -> v1::SendSmsResponse {
    v1::SendSmsResponse {
        sms_id: report.id.as_str().to_owned(),
        outcomes: report.outcomes.into_iter().map(outcome).collect(),
    }
}

/// For GetSms's caller.
pub(crate) fn found(report: SmsReport) -> v1::GetSmsResponse {
    v1::GetSmsResponse {
        sms_id: report.id.as_str().to_owned(),
        outcomes: report.outcomes.into_iter().map(outcome).collect(),
        tag: report.tag.unwrap_or_default(),
        create_time: time(report.created),
    }
}

/// Opt-outs, one per recipient.
pub(crate) fn opt_outs(opt_outs: Vec<OptOut>) -> Vec<v1::SmsOptOut> {
    opt_outs
        .into_iter()
        .map(|OptOut { recipient, outcome }| {
            let (opted_out, failure) = match outcome {
                Ok(opted_out) => (opted_out, None),
                Err(why) => (false, Some(failure(why))),
            };
            v1::SmsOptOut { recipient: recipient.into(), opted_out, failure }
        })
        .collect()
}

fn outcome(outcome: Outcome) -> v1::SmsOutcome {
    v1::SmsOutcome {
        to: outcome.to,
        message_id: outcome.upstream_id.unwrap_or_default(),
        state: state(outcome.state).into(),
        failure: outcome.failure.map(failure),
        update_time: time(outcome.updated),
    }
}

/// How far a message has come.
pub(super) const fn state(state: State) -> v1::MessageState {
    match state {
        State::Accepted => v1::MessageState::Accepted,
        State::Unknown => v1::MessageState::Unknown,
        State::Sent => v1::MessageState::Sent,
        State::Failed => v1::MessageState::Failed,
        State::Delivered => v1::MessageState::Delivered,
    }
}

/// Why a message failed.
pub(super) fn failure(failure: Failure) -> v1::MessageFailure {
    v1::MessageFailure { code: failure.code, detail: failure.detail }
}

/// A text that is there if it is not empty.
pub(super) fn set(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// A point in time, always there.
#[expect(clippy::unnecessary_wraps, reason = "prost wraps every message that is a field")]
pub(super) fn time(time: Timestamp) -> Option<ProtoTimestamp> {
    Some(timestamp(time))
}

impl Check {
    /// Telephone numbers, each with its place.
    fn numbers(&mut self, field: &str, numbers: &[String]) -> Option<Vec<Number>> {
        if !(1..=MAX_RECIPIENTS).contains(&numbers.len()) {
            let what = format!("must have 1 to {MAX_RECIPIENTS} entries, has {}", numbers.len());
            return self.violation(field, what);
        }
        let parsed = numbers
            .iter()
            .enumerate()
            .filter_map(|(index, number)| self.take(&format!("{field}[{index}]"), Number::parse(number)));
        let parsed: Vec<_> = parsed.collect();
        (parsed.len() == numbers.len()).then_some(parsed)
    }

    /// The id of a message that was given out.
    pub(super) fn message_id(&mut self, field: &str, channel: Channel, id: &str) -> Option<MessageName> {
        self.take(field, MessageId::parse(channel, id)).map(MessageName::Id)
    }
}
