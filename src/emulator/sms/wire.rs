//! The JSON bodies of the SMS API in both versions.
//!
//! Pure: texts in, values out. Unknown properties are ignored and `null` means absent. A refusal names every field that
//! is wrong. Texts that ACS was never seen to send are guesses, listed in docs/emulator.md. Used by `sms`.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

use super::number;
use super::refusal::Problems;
use super::text;
use crate::emulator::answer::Answer;
use crate::emulator::version::Version;

/// The most recipients of one request.
const MAX_RECIPIENTS: usize = 100;
/// The longest message.
const MAX_MESSAGE: usize = 2048;
/// The least and the longest time to wait for a delivery report, in seconds.
const REPORT_TIMEOUT: (u64, u64) = (60, 43_200);

/// A request to send.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SendRequest {
    pub(super) from: String,
    pub(super) recipients: Vec<Recipient>,
    pub(super) message: String,
    pub(super) delivery_report: bool,
    pub(super) tag: Option<String>,
    /// How long the resource waits for a delivery report before it makes one up.
    pub(super) report_timeout: Option<Duration>,
    /// Whether it goes through a partner.
    pub(super) has_partner: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) to: String,
    pub(super) repeatability_id: Option<String>,
    pub(super) first_sent: Option<String>,
}

/// A request about opt-outs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct OptOutRequest {
    pub(super) from: String,
    pub(super) recipients: Vec<String>,
}

/// What became of one recipient.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) to: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message_id: Option<String>,
    pub(super) http_status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) repeatability_result: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_message: Option<&'static str>,
    pub(super) successful: bool,
}

/// What became of one recipient's opt-out.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OptOutItem {
    pub(super) to: String,
    pub(super) http_status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) is_opted_out: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_message: Option<&'static str>,
}

/// Reads a request to send.
pub(super) fn send_request(body: &[u8], version: Version) -> Result<SendRequest, Box<Answer>> {
    let body = object(body, version)?;
    let mut problems = Problems::of(version);
    let from = sender(&body, &mut problems);
    let recipients = list(&body, "smsRecipients", "SmsRecipients", &mut problems);
    let recipients = recipients.iter().filter_map(|value| recipient(value, &mut problems)).collect();
    let message = text_of(&body, "message", "Message", &mut problems);
    if message.is_none() && property(&body, "message").is_none() {
        problems.missing("Message");
    }
    let message = message.unwrap_or_default();
    if text::length(&message) > MAX_MESSAGE {
        let why = "The field Message must be a string with a maximum length of 2048.";
        problems.add("Message", why);
    }
    let mut request = SendRequest {
        from,
        recipients,
        message,
        delivery_report: false,
        tag: None,
        report_timeout: None,
        has_partner: false,
    };
    match property(&body, "smsSendOptions") {
        None => {}
        Some(Value::Object(options)) => read_options(options, version, &mut request, &mut problems),
        Some(_) => problems.malformed("SmsSendOptions"),
    }
    problems.or(request)
}

fn read_options(
    options: &Map<String, Value>,
    version: Version,
    request: &mut SendRequest,
    problems: &mut Problems,
) {
    const REPORT: &str = "SmsSendOptions.EnableDeliveryReport";
    match property(options, "enableDeliveryReport") {
        None => problems.missing(REPORT),
        Some(Value::Bool(wanted)) => request.delivery_report = *wanted,
        Some(_) => problems.malformed(REPORT),
    }
    request.tag = text_of(options, "tag", "SmsSendOptions.Tag", problems);
    if version < Version::SMS_2026 {
        return;
    }
    const TIMEOUT: &str = "SmsSendOptions.DeliveryReportTimeoutInSeconds";
    let (least, most) = REPORT_TIMEOUT;
    match property(options, "deliveryReportTimeoutInSeconds").map(Value::as_u64) {
        None => {}
        Some(Some(seconds)) if (least..=most).contains(&seconds) => {
            request.report_timeout = Some(Duration::from_secs(seconds));
        }
        Some(_) => {
            let why = "The field DeliveryReportTimeoutInSeconds must be between 60 and 43200.";
            problems.add(TIMEOUT, why);
        }
    }
    const PARTNER: &str = "SmsSendOptions.MessagingConnect";
    match property(options, "messagingConnect") {
        None => {}
        Some(Value::Object(connect)) => {
            request.has_partner = true;
            let partner = text_of(connect, "partner", &format!("{PARTNER}.Partner"), problems);
            if partner.is_none_or(|partner| partner.is_empty()) {
                problems.missing(&format!("{PARTNER}.Partner"));
            }
            match property(connect, "partnerParams") {
                Some(Value::Object(parameters)) if !parameters.is_empty() => {}
                Some(Value::Object(_)) | None => problems.missing(&format!("{PARTNER}.PartnerParams")),
                Some(_) => problems.malformed(&format!("{PARTNER}.PartnerParams")),
            }
        }
        Some(_) => problems.malformed(PARTNER),
    }
}

fn recipient(value: &Value, problems: &mut Problems) -> Option<Recipient> {
    let Value::Object(recipient) = value else {
        problems.malformed("SmsRecipients");
        return None;
    };
    if property(recipient, "to").is_none() {
        problems.missing("SmsRecipients.To");
    }
    let to = text_of(recipient, "to", "SmsRecipients", problems)?;
    if number::is_no_number_at_all(&to) {
        problems.add("SmsRecipients", "Invalid recipient phone number format.");
        return None;
    }
    Some(Recipient {
        to,
        repeatability_id: text_of(recipient, "repeatabilityRequestId", "SmsRecipients", problems),
        first_sent: text_of(recipient, "repeatabilityFirstSent", "SmsRecipients", problems),
    })
}

/// Reads a request about opt-outs. What its recipients look like is answered for each of them.
pub(super) fn opt_out_request(body: &[u8], version: Version) -> Result<OptOutRequest, Box<Answer>> {
    let body = object(body, version)?;
    let mut problems = Problems::of(version);
    let from = sender(&body, &mut problems);
    let mut recipients = Vec::new();
    for value in list(&body, "recipients", "Recipients", &mut problems) {
        match value.get("to") {
            Some(Value::String(to)) if !to.is_empty() => recipients.push(to.clone()),
            None | Some(Value::Null | Value::String(_)) => problems.missing("Recipients.To"),
            Some(_) => problems.malformed("Recipients.To"),
        }
    }
    problems.or(OptOutRequest { from, recipients })
}

fn object(body: &[u8], version: Version) -> Result<Map<String, Value>, Box<Answer>> {
    // serde_json stops at 128 levels of nesting, so a hostile body cannot exhaust the stack.
    if let Ok(Value::Object(map)) = serde_json::from_slice(body) {
        return Ok(map);
    }
    let mut problems = Problems::of(version);
    let why = if body.is_empty() {
        "A non-empty request body is required."
    } else {
        "The request body is not a valid JSON object."
    };
    problems.add("", why);
    Err(problems.answer())
}

fn sender(body: &Map<String, Value>, problems: &mut Problems) -> String {
    let Some(from) = text_of(body, "from", "From", problems) else {
        if property(body, "from").is_none() {
            problems.missing("From");
        }
        return String::new();
    };
    if number::sender(&from).is_none() {
        problems.add("From", "Invalid from phone number format.");
    }
    from
}

/// The items of a list of 1 to 100.
fn list<'b>(body: &'b Map<String, Value>, name: &str, field: &str, problems: &mut Problems) -> &'b [Value] {
    match property(body, name) {
        None => problems.missing(field),
        Some(Value::Array(items)) if (1..=MAX_RECIPIENTS).contains(&items.len()) => return items,
        Some(Value::Array(_)) => {
            problems.add(field, format!("The field {field} must hold between 1 and 100 recipients."));
        }
        Some(_) => problems.malformed(field),
    }
    &[]
}

fn text_of(object: &Map<String, Value>, name: &str, field: &str, problems: &mut Problems) -> Option<String> {
    match property(object, name)? {
        Value::String(text) => Some(text.clone()),
        _ => {
            problems.malformed(field);
            None
        }
    }
}

/// A property that is there; `null` is not.
fn property<'b>(object: &'b Map<String, Value>, name: &str) -> Option<&'b Value> {
    object.get(name).filter(|value| !value.is_null())
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
