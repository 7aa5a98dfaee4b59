//! The SMS area of the ACS REST API: send, and the opt-outs of recipients.
//!
//! Sending is version 2021-03-07; opt-outs need 2026-01-23 (Azure REST API specifications). A send carries a
//! repeatability id per recipient, so that ACS takes it once however often it arrives. Nothing of a number or a text
//! gets into an error. `app` uses it.

use std::fmt;

use http::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::body;
use super::error::{Class, Error};
use super::fault;
use super::pipeline::{Call, Pipeline};
use super::signing::http_date;
use crate::clock::Timestamp;

const SEND: &str = "2021-03-07";
const OPT_OUTS: &str = "2026-01-23";

/// An SMS to several recipients.
#[derive(Clone, Copy)]
pub struct Sms<'a> {
    /// The sender: a number, a short code or an alphanumeric name that the resource owns.
    pub from: &'a str,
    /// The recipients, at most 100.
    pub to: &'a [SmsRecipient],
    /// The text, at most 2048 characters.
    pub text: &'a str,
    /// Whether ACS is to report the delivery.
    pub delivery_report: bool,
    /// What comes back in the report.
    pub tag: Option<&'a str>,
}

/// A recipient and the id by which ACS tells a repeated send from a new one.
#[derive(Clone, PartialEq, Eq)]
pub struct SmsRecipient {
    /// The number, E.164.
    pub to: String,
    /// The id; the same for every repetition.
    pub repeatability_id: uuid::Uuid,
    /// When it was first sent; the same for every repetition.
    pub first_sent: Timestamp,
}

/// What ACS says about one recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct SmsResult {
    /// The number as it was asked for.
    pub to: String,
    /// Taken, with ACS's id of the message; or refused.
    pub outcome: Result<String, SmsRefusal>,
}

/// Why ACS refused a recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmsRefusal {
    /// The status of this recipient, such as 400; 5xx are worth another try under the same id.
    pub status: u16,
    /// What ACS said, reduced to ordinary words.
    pub message: Option<String>,
}

/// What ACS says about one recipient's opt-out.
#[derive(Clone, PartialEq, Eq)]
pub struct OptOut {
    /// The number as it was asked for.
    pub to: String,
    /// Opted out or not, where it was asked for; or why it could not be done.
    pub outcome: Result<Option<bool>, SmsRefusal>,
}

/// What to do with opt-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOutChange {
    /// Nothing: only look.
    Check,
    /// Opt out.
    Add,
    /// Opt in again.
    Remove,
}

impl fmt::Debug for SmsResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmsResult").field("outcome", &self.outcome).finish_non_exhaustive()
    }
}

/// The operations of the SMS area.
#[derive(Clone, Copy)]
pub struct SmsOperations<'a>(pub(super) &'a Pipeline);

// The bodies below hold numbers and texts: no `Debug`.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SendBody<'a> {
    from: &'a str,
    sms_recipients: Vec<RecipientBody<'a>>,
    message: &'a str,
    sms_send_options: OptionsBody<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecipientBody<'a> {
    to: &'a str,
    repeatability_request_id: String,
    repeatability_first_sent: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct OptionsBody<'a> {
    enable_delivery_report: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tag: Option<&'a str>,
}

#[derive(Deserialize)]
struct Results<T> {
    value: Vec<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResultBody {
    to: String,
    message_id: Option<String>,
    http_status_code: u16,
    error_message: Option<String>,
}

#[derive(Serialize)]
struct OptOutBody<'a> {
    from: &'a str,
    recipients: Vec<OptOutRecipient<'a>>,
}

#[derive(Serialize)]
struct OptOutRecipient<'a> {
    to: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OptOutResult {
    to: String,
    http_status_code: u16,
    is_opted_out: Option<bool>,
    error_message: Option<String>,
}

impl SmsOperations<'_> {
    /// Sends; one result per recipient, in the order asked for. Tried again within the deadline: the repeatability ids
    /// make a second arrival the first one's.
    pub async fn send(&self, sms: &Sms<'_>, deadline: Instant) -> Result<Vec<SmsResult>, Error> {
        let body = SendBody {
            from: sms.from,
            sms_recipients: sms
                .to
                .iter()
                .map(|recipient| RecipientBody {
                    to: &recipient.to,
                    repeatability_request_id: recipient.repeatability_id.to_string(),
                    repeatability_first_sent: http_date(recipient.first_sent),
                })
                .collect(),
            message: sms.text,
            sms_send_options: OptionsBody { enable_delivery_report: sms.delivery_report, tag: sms.tag },
        };
        let mut private: Vec<&str> = vec![sms.text, sms.from, sms.tag.unwrap_or_default()];
        private.extend(sms.to.iter().map(|recipient| recipient.to.as_str()));
        let call = Call {
            body: body::json(&body),
            idempotent: true,
            private: &private,
            ..Call::new("send_sms", Method::POST, "/sms", SEND)
        };
        let answer = self.0.send(&call, deadline).await.map_err(unowned_sender)?;
        let asked = sms.to.iter().map(|recipient| recipient.to.as_str());
        body::parse::<Results<ResultBody>>(&answer)
            .and_then(|results| in_order(asked, results.value, |result| &result.to))
            .map(|results| results.into_iter().map(|result| result.read(&private)).collect())
            .map_err(|problem| body::unusable(&call, answer, problem))
    }

    /// Looks at or changes the opt-outs of recipients from a sender; one result per recipient, in the order asked for.
    pub async fn opt_outs(
        &self,
        change: OptOutChange,
        from: &str,
        recipients: &[String],
        deadline: Instant,
    ) -> Result<Vec<OptOut>, Error> {
        let (operation, template) = match change {
            OptOutChange::Check => ("check_opt_outs", "/sms/optouts:check"),
            OptOutChange::Add => ("add_opt_outs", "/sms/optouts:add"),
            OptOutChange::Remove => ("remove_opt_outs", "/sms/optouts:remove"),
        };
        let body =
            OptOutBody { from, recipients: recipients.iter().map(|to| OptOutRecipient { to }).collect() };
        let mut private: Vec<&str> = vec![from];
        private.extend(recipients.iter().map(String::as_str));
        let call = Call {
            body: body::json(&body),
            idempotent: true,
            private: &private,
            ..Call::new(operation, Method::POST, template, OPT_OUTS)
        };
        let answer = self.0.send(&call, deadline).await.map_err(unowned_sender)?;
        let asked = recipients.iter().map(String::as_str);
        body::parse::<Results<OptOutResult>>(&answer)
            .and_then(|results| in_order(asked, results.value, |result| &result.to))
            .map(|results| results.into_iter().map(|result| result.read(&private)).collect())
            .map_err(|problem| body::unusable(&call, answer, problem))
    }
}

/// A sender that the resource does not own is answered with 401 `Unauthorized`; a bad key with 401 `Denied`.
fn unowned_sender(error: Error) -> Error {
    if error.status() == Some(401) && error.code() == Some("Unauthorized") {
        error.meaning(Class::Rejected, Some("from"))
    } else {
        error
    }
}

/// The results in the order that was asked for. ACS was only ever seen to keep it, and is not known to promise it.
fn in_order<'a, T>(
    asked: impl Iterator<Item = &'a str>,
    mut results: Vec<T>,
    to: impl Fn(&T) -> &str,
) -> Result<Vec<T>, &'static str> {
    let mut ordered = Vec::with_capacity(results.len());
    for number in asked {
        let place = results.iter().position(|result| to(result) == number);
        ordered.push(results.remove(place.ok_or("a recipient has no result")?));
    }
    Ok(ordered)
}

impl ResultBody {
    fn read(self, private: &[&str]) -> SmsResult {
        let taken = (200..300).contains(&self.http_status_code);
        let outcome = match self.message_id.filter(|id| taken && !id.is_empty()) {
            Some(message_id) => Ok(message_id),
            None => Err(refusal(self.http_status_code, self.error_message.as_deref(), private)),
        };
        SmsResult { to: self.to, outcome }
    }
}

impl OptOutResult {
    fn read(self, private: &[&str]) -> OptOut {
        let outcome = if (200..300).contains(&self.http_status_code) {
            Ok(self.is_opted_out)
        } else {
            Err(refusal(self.http_status_code, self.error_message.as_deref(), private))
        };
        OptOut { to: self.to, outcome }
    }
}

fn refusal(status: u16, message: Option<&str>, private: &[&str]) -> SmsRefusal {
    SmsRefusal { status, message: message.and_then(|message| fault::reduce(message, private)) }
}

#[cfg(test)]
mod tests;
