//! Mail: from the wire and back.
//!
//! Checks the shape alone; senders, sizes, headers and repetitions are for the core. Files are moved, never copied.

use std::collections::BTreeMap;

use super::Check;
use super::sms::{failure, set, state, time};
use crate::broker::error::Error;
use crate::grpc::proto::v1;
use crate::messaging::ports::Attachment;
use crate::messaging::types::{Channel, EmailAddress, MessageName, Outcome};
use crate::messaging::{EmailReport, SendEmail};

/// The most entries of a list of addresses, and of files and headers; more are not even looked at.
const MAX_ADDRESSES: usize = 50;
const MAX_FILES: usize = 200;
const MAX_HEADERS: usize = 50;

/// SendEmail.
pub(crate) fn send(request: v1::SendEmailRequest) -> Result<SendEmail, Error> {
    let mut check = Check::default();
    let request_id = check.request_uuid(&request.request_id);
    let to = check.addresses("to", &request.to);
    let cc = check.addresses("cc", &request.cc);
    let bcc = check.addresses("bcc", &request.bcc);
    let reply_to = check.addresses("reply_to", &request.reply_to);
    check.at_most("attachments", MAX_FILES, request.attachments.len());
    check.at_most("headers", MAX_HEADERS, request.headers.len());
    match (request_id, to, cc, bcc, reply_to) {
        (Some(request_id), Some(to), Some(cc), Some(bcc), Some(reply_to)) if check.is_clean() => {
            Ok(SendEmail {
                request_id,
                from: set(request.from),
                to,
                cc,
                bcc,
                reply_to,
                subject: request.subject,
                plain_text: set(request.plain_text),
                html: set(request.html),
                attachments: request.attachments.into_iter().map(attachment).collect(),
                headers: BTreeMap::from_iter(request.headers),
                tracking_disabled: request.disable_engagement_tracking,
            })
        }
        _ => Err(check.into_error()),
    }
}

/// GetEmail: which mail, and whether to wait.
pub(crate) fn name(request: v1::GetEmailRequest) -> Result<(MessageName, bool), Error> {
    let mut check = Check::default();
    let name = match request.name {
        Some(v1::get_email_request::Name::EmailId(id)) => check.message_id("email_id", Channel::Email, &id),
        Some(v1::get_email_request::Name::RequestId(id)) => check.request_uuid(&id).map(MessageName::Request),
        None => check.violation("name", "must be set: either email_id or request_id"),
    };
    name.map(|name| (name, request.wait)).ok_or_else(|| check.into_error())
}

/// For SendEmail's caller.
pub(crate) fn sent(report: EmailReport) -> v1::SendEmailResponse {
    v1::SendEmailResponse {
        email_id: report.id.as_str().to_owned(),
        state: state(report.state).into(),
        failure: report.failure.map(failure),
    }
}

/// For GetEmail's caller.
pub(crate) fn found(report: EmailReport) -> v1::GetEmailResponse {
    v1::GetEmailResponse {
        email_id: report.id.as_str().to_owned(),
        state: state(report.state).into(),
        failure: report.failure.map(failure),
        deliveries: report.outcomes.into_iter().map(delivery).collect(),
        create_time: time(report.created),
    }
}

fn delivery(outcome: Outcome) -> v1::EmailDelivery {
    v1::EmailDelivery {
        address: outcome.to,
        state: state(outcome.state).into(),
        failure: outcome.failure.map(failure),
        update_time: time(outcome.updated),
    }
}

fn attachment(file: v1::EmailAttachment) -> Attachment {
    Attachment {
        name: file.name,
        content_type: file.content_type,
        content: file.content,
        content_id: set(file.content_id),
    }
}

impl Check {
    fn at_most(&mut self, field: &str, most: usize, entries: usize) -> bool {
        let fine = entries <= most;
        if !fine {
            self.violation::<()>(field, format!("must have at most {most} entries, has {entries}"));
        }
        fine
    }

    /// Mail addresses, each with its place.
    fn addresses(&mut self, field: &str, list: &[v1::EmailAddress]) -> Option<Vec<EmailAddress>> {
        if !self.at_most(field, MAX_ADDRESSES, list.len()) {
            return None;
        }
        let parsed =
            list.iter().enumerate().filter_map(|(index, v1::EmailAddress { address, display_name })| {
                let at = |part: &str| format!("{field}[{index}].{part}");
                // With another name it would be fine: then it is the name that is wrong.
                match EmailAddress::parse(address, "") {
                    Ok(_) => self.take(&at("display_name"), EmailAddress::parse(address, display_name)),
                    wrong => self.take(&at("address"), wrong),
                }
            });
        let parsed: Vec<_> = parsed.collect();
        (parsed.len() == list.len()).then_some(parsed)
    }
}
