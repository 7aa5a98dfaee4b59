//! Messaging's ports to ACS: SMS and mail, built on the ACS client.
//!
//! Here it is decided what a failure means for the message: surely not sent, or perhaps. The upstream ids come from
//! `messaging`; nothing is made up here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{DEFAULT_WAIT, Upstream, translate};
use crate::acs::{self, Class};
use crate::broker::error::Error;
use crate::messaging::ports::{
    Attachment, ChannelError, EmailSender, Mail, MailProgress, OptOutChange, SmsAnswer, SmsBatch, SmsSender,
};
use crate::messaging::types::{EmailAddress, Failure, Number};

#[async_trait]
impl SmsSender for Upstream {
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError> {
        let to: Vec<acs::SmsRecipient> = batch
            .to
            .iter()
            .map(|recipient| acs::SmsRecipient {
                to: recipient.to.as_str().to_owned(),
                repeatability_id: recipient.repeatability_id,
                first_sent: recipient.first_sent,
            })
            .collect();
        let sms = acs::Sms {
            from: &batch.from,
            to: &to,
            text: &batch.text,
            delivery_report: batch.delivery_report,
            tag: batch.tag.as_deref(),
        };
        let started = Instant::now();
        let result = self.client.sms().send(&sms, self.deadline()).await;
        let results = self.told("send_sms", started, result).map_err(channel_error)?;
        Ok(results.into_iter().map(|result| answer(result.outcome)).collect())
    }

    async fn opt_outs(
        &self,
        change: OptOutChange,
        from: &str,
        recipients: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error> {
        let (change, operation, changed) = match change {
            OptOutChange::Check => (acs::OptOutChange::Check, "check_opt_outs", None),
            OptOutChange::Add => (acs::OptOutChange::Add, "add_opt_outs", Some(true)),
            OptOutChange::Remove => (acs::OptOutChange::Remove, "remove_opt_outs", Some(false)),
        };
        let recipients: Vec<String> = recipients.iter().map(|number| number.as_str().to_owned()).collect();
        let started = Instant::now();
        let result = self.client.sms().opt_outs(change, from, &recipients, self.deadline()).await;
        let results = self
            .told(operation, started, result)
            .map_err(|error| not_sent(&error).unwrap_or_else(|| translate(error)))?;
        let one = |outcome: acs::OptOut| match outcome.outcome {
            Ok(opted_out) => Ok(changed.or(opted_out).unwrap_or_default()),
            Err(refusal) => Err(failure(&refusal)),
        };
        Ok(results.into_iter().map(one).collect())
    }
}

#[async_trait]
impl EmailSender for Upstream {
    async fn send(&self, operation: uuid::Uuid, mail: &Mail) -> Result<MailProgress, ChannelError> {
        let (to, cc, bcc, reply_to) =
            (addresses(&mail.to), addresses(&mail.cc), addresses(&mail.bcc), addresses(&mail.reply_to));
        let attachments: Vec<acs::MailAttachment> = mail.attachments.iter().map(attachment).collect();
        let mail = acs::Mail {
            from: &mail.from,
            subject: &mail.subject,
            plain_text: mail.plain_text.as_deref(),
            html: mail.html.as_deref(),
            to: &to,
            cc: &cc,
            bcc: &bcc,
            reply_to: &reply_to,
            attachments: &attachments,
            headers: &mail.headers,
            tracking_disabled: mail.tracking_disabled,
        };
        let started = Instant::now();
        let result = self.client.email().send(operation, &mail, self.deadline()).await;
        self.told("send_email", started, result).map(progress).map_err(channel_error)
    }

    async fn status(&self, operation: uuid::Uuid) -> Result<Option<MailProgress>, ChannelError> {
        let started = Instant::now();
        let result = match self.client.email().status(operation, self.deadline()).await {
            Err(error) if error.status() == Some(404) => Ok(None),
            result => result.map(|status| Some(progress(status))),
        };
        self.told("get_email_operation", started, result).map_err(channel_error)
    }
}

/// What a failure means for the message that was being sent.
fn channel_error(error: acs::Error) -> ChannelError {
    match error.class() {
        Class::Throttled { retry_after } => ChannelError::Throttled(retry_after.unwrap_or(DEFAULT_WAIT)),
        Class::PerhapsSent => ChannelError::Unknown { retry_after: None, cause: Some(Arc::new(error)) },
        Class::ServerFailed { retry_after } => {
            ChannelError::Unknown { retry_after, cause: Some(Arc::new(error)) }
        }
        Class::NeverSent | Class::CredentialsRefused | Class::TokenRefused | Class::Rejected => {
            ChannelError::NotSent(not_sent(&error).unwrap_or_else(|| translate(error)))
        }
    }
}

/// A refusal that names a field of ours.
fn not_sent(error: &acs::Error) -> Option<Error> {
    let is_about_the_sender = error.class() == Class::Rejected
        && (error.target() == Some("from") || error.code() == Some("DomainNotLinked"));
    is_about_the_sender.then(|| Error::invalid("from", "is no sender of the ACS resource"))
}

fn answer(outcome: Result<String, acs::SmsRefusal>) -> SmsAnswer {
    match outcome {
        Ok(message_id) => SmsAnswer::Taken { message_id },
        Err(refusal) => SmsAnswer::Refused {
            failure: failure(&refusal),
            may_pass: refusal.status == 429 || refusal.status >= 500,
        },
    }
}

fn failure(refusal: &acs::SmsRefusal) -> Failure {
    Failure { code: refusal.status.to_string(), detail: refusal.message.clone().unwrap_or_default() }
}

fn progress(status: acs::MailStatus) -> MailProgress {
    let failed = |code: Option<String>, fallback: &str, detail: Option<String>| {
        let code = code.unwrap_or_else(|| fallback.to_owned());
        MailProgress::Failed(Failure { code, detail: detail.unwrap_or_default() })
    };
    match status {
        acs::MailStatus::UnderWay { ask_again } => {
            MailProgress::UnderWay(ask_again.filter(|wait| *wait < Duration::from_hours(1)))
        }
        acs::MailStatus::Succeeded => MailProgress::Sent,
        acs::MailStatus::Failed { code, message } => failed(code, "Failed", message),
        acs::MailStatus::Canceled => failed(None, "Canceled", None),
    }
}

fn addresses(list: &[EmailAddress]) -> Vec<acs::MailAddress> {
    let address = |item: &EmailAddress| acs::MailAddress {
        address: item.address().to_owned(),
        display_name: item.display_name().to_owned(),
    };
    list.iter().map(address).collect()
}

fn attachment(file: &Attachment) -> acs::MailAttachment {
    acs::MailAttachment {
        name: file.name.clone(),
        content_type: file.content_type.clone(),
        content: file.content.clone(),
        content_id: file.content_id.clone(),
    }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "limits_tests.rs"]
mod limits_tests;
