//! The Email area of the ACS REST API: send, and ask what became of the sending.
//!
//! Version 2025-09-01 (Azure REST API specifications), the one that knows inline images. A send carries an
//! `Operation-Id`, so that ACS takes it once however often it arrives. Nothing of an address or a text gets into an
//! error. `app` uses it.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::body;
use super::error::Error;
use super::fault;
use super::pipeline::{Call, Pipeline};

const VERSION: &str = "2025-09-01";

/// A mail.
#[derive(Clone, Copy)]
pub struct Mail<'a> {
    /// The sender's address, of a domain that is linked to the resource.
    pub from: &'a str,
    /// The subject.
    pub subject: &'a str,
    /// The mail as plain text.
    pub plain_text: Option<&'a str>,
    /// The mail as HTML.
    pub html: Option<&'a str>,
    /// The recipients.
    pub to: &'a [MailAddress],
    /// Recipients of a copy.
    pub cc: &'a [MailAddress],
    /// Recipients that the others do not see.
    pub bcc: &'a [MailAddress],
    /// Where answers go.
    pub reply_to: &'a [MailAddress],
    /// Files.
    pub attachments: &'a [MailAttachment],
    /// More headers.
    pub headers: &'a BTreeMap<String, String>,
    /// Whether opens and clicks are not tracked.
    pub tracking_disabled: bool,
}

/// An address with the name it is shown with.
#[derive(Clone, PartialEq, Eq)]
pub struct MailAddress {
    /// The address.
    pub address: String,
    /// The name; empty for none.
    pub display_name: String,
}

/// A file that goes with a mail.
#[derive(Clone, PartialEq, Eq)]
pub struct MailAttachment {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The file itself.
    pub content: Vec<u8>,
    /// Makes it an inline image.
    pub content_id: Option<String>,
}

/// How far a sending has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailStatus {
    /// ACS is at it; worth asking again after this wait.
    UnderWay {
        /// The wait.
        ask_again: Option<Duration>,
    },
    /// It is out for delivery.
    Succeeded,
    /// It will not be sent.
    Failed {
        /// The error code of ACS.
        code: Option<String>,
        /// What ACS said, reduced to ordinary words.
        message: Option<String>,
    },
    /// It was stopped.
    Canceled,
}

/// The operations of the Email area.
#[derive(Clone, Copy)]
pub struct EmailOperations<'a>(pub(super) &'a Pipeline);

// The bodies below hold addresses and texts: no `Debug`.

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SendBody<'a> {
    sender_address: &'a str,
    content: ContentBody<'a>,
    recipients: RecipientsBody<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<AttachmentBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reply_to: Vec<AddressBody<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    user_engagement_tracking_disabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContentBody<'a> {
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plain_text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    html: Option<&'a str>,
}

#[derive(Serialize)]
struct RecipientsBody<'a> {
    // Required by the schema, also when it is empty.
    to: Vec<AddressBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<AddressBody<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    bcc: Vec<AddressBody<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AddressBody<'a> {
    address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    display_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AttachmentBody<'a> {
    name: &'a str,
    content_type: &'a str,
    content_in_base64: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct OperationBody {
    status: String,
    error: Option<FaultBody>,
}

#[derive(Deserialize)]
struct FaultBody {
    code: Option<String>,
    message: Option<String>,
}

impl EmailOperations<'_> {
    /// Sends under an operation id of the caller's. Tried again within the deadline: the id makes a second arrival the
    /// first one's.
    pub async fn send(
        &self,
        operation_id: uuid::Uuid,
        mail: &Mail<'_>,
        deadline: Instant,
    ) -> Result<MailStatus, Error> {
        let body = SendBody {
            sender_address: mail.from,
            content: ContentBody { subject: mail.subject, plain_text: mail.plain_text, html: mail.html },
            recipients: RecipientsBody {
                to: addresses(mail.to),
                cc: addresses(mail.cc),
                bcc: addresses(mail.bcc),
            },
            attachments: mail.attachments.iter().map(MailAttachment::body).collect(),
            reply_to: addresses(mail.reply_to),
            headers: mail.headers,
            user_engagement_tracking_disabled: mail.tracking_disabled,
        };
        let mut private: Vec<&str> = vec![mail.from, mail.subject];
        private.extend(mail.plain_text.into_iter().chain(mail.html));
        for list in [mail.to, mail.cc, mail.bcc, mail.reply_to] {
            private.extend(list.iter().flat_map(|item| [item.address.as_str(), item.display_name.as_str()]));
        }
        let operation_id = operation_id.to_string();
        let call = Call {
            headers: &[("operation-id", &operation_id)],
            body: body::json(&body),
            idempotent: true,
            private: &private,
            ..Call::new("send_email", Method::POST, "/emails:send", VERSION)
        };
        let answer = match self.0.send(&call, deadline).await {
            Ok(answer) => answer,
            // Some were seen to get this for a repeated id; what became of the first arrival is then worth asking.
            Err(error) if error.status() == Some(409) => {
                return self.status_of(&operation_id, deadline).await;
            }
            Err(error) => return Err(error),
        };
        read(&answer).map_err(|problem| body::unusable(&call, answer, problem))
    }

    /// How far the sending with this operation id has come.
    pub async fn status(&self, operation_id: uuid::Uuid, deadline: Instant) -> Result<MailStatus, Error> {
        self.status_of(&operation_id.to_string(), deadline).await
    }

    async fn status_of(&self, operation_id: &str, deadline: Instant) -> Result<MailStatus, Error> {
        let call = Call {
            ids: &[operation_id],
            idempotent: true,
            ..Call::new("get_email_operation", Method::GET, "/emails/operations/{id}", VERSION)
        };
        let answer = self.0.send(&call, deadline).await?;
        read(&answer).map_err(|problem| body::unusable(&call, answer, problem))
    }
}

fn addresses(list: &[MailAddress]) -> Vec<AddressBody<'_>> {
    list.iter().map(|item| AddressBody { address: &item.address, display_name: &item.display_name }).collect()
}

impl MailAttachment {
    fn body(&self) -> AttachmentBody<'_> {
        AttachmentBody {
            name: &self.name,
            content_type: &self.content_type,
            content_in_base64: STANDARD.encode(&self.content),
            content_id: self.content_id.as_deref(),
        }
    }
}

/// Reads the state of an operation. States compare without case, as the official SDKs do it.
fn read(answer: &super::pipeline::Answer) -> Result<MailStatus, &'static str> {
    let body: OperationBody = body::parse(answer)?;
    let error = body.error;
    Ok(match body.status.to_ascii_lowercase().as_str() {
        "notstarted" | "running" => MailStatus::UnderWay { ask_again: answer.retry_after },
        "succeeded" => MailStatus::Succeeded,
        "failed" => MailStatus::Failed {
            code: error.as_ref().and_then(|error| fault::word(error.code.as_deref()?)),
            message: error.and_then(|error| fault::reduce(error.message.as_deref()?, &[])),
        },
        "canceled" => MailStatus::Canceled,
        _ => return Err("the status is none that is known"),
    })
}

#[cfg(test)]
mod tests;
