//! SMS, mail and events over the API, for the commands of `cli`.

use std::collections::BTreeMap;

use tonic::Streaming;

use super::{Client, Failure, time};
use crate::clock::Timestamp;
use crate::grpc::proto::v1;
use crate::grpc::proto::v1::watch_events_response::Event as Told;
use crate::messaging::EventKind;
use crate::messaging::ports::{Attachment, OptOutChange};

/// An SMS to send; empty texts stand for the server's defaults.
#[derive(Clone, Default)]
pub struct NewSms {
    /// A UUID that names the request.
    pub request_id: String,
    /// The sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// The text.
    pub text: String,
    /// Whether the delivery is to be reported.
    pub delivery_report: bool,
    /// What comes back in the report.
    pub tag: String,
}

/// A mail to send; empty texts stand for none, or the server's defaults. Addresses come with the name they are shown by.
#[derive(Clone, Default)]
pub struct NewEmail {
    /// A UUID that names the request.
    pub request_id: String,
    /// The sender.
    pub from: String,
    /// The recipients.
    pub to: Vec<(String, String)>,
    /// Recipients of a copy.
    pub cc: Vec<(String, String)>,
    /// Recipients that the others do not see.
    pub bcc: Vec<(String, String)>,
    /// Where answers go.
    pub reply_to: Vec<(String, String)>,
    /// The subject.
    pub subject: String,
    /// As plain text.
    pub plain_text: String,
    /// As HTML.
    pub html: String,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// Whether opens and clicks are not tracked.
    pub tracking_disabled: bool,
}

/// By what a message is asked for.
#[derive(Clone)]
pub enum Name {
    /// The id that the service gave out.
    Id(String),
    /// The caller's own request id.
    Request(String),
}

/// What became of a message for one recipient.
#[derive(Clone)]
pub struct Delivery {
    /// The number or address.
    pub to: String,
    /// ACS's id of an SMS.
    pub message_id: String,
    /// `ACCEPTED`, `SENT`, `DELIVERED`, `FAILED` or `UNKNOWN`.
    pub state: &'static str,
    /// The channel's code and words.
    pub failure: Option<(String, String)>,
    /// When that was learnt.
    pub updated: Option<Timestamp>,
}

/// What is known of a message.
#[derive(Clone)]
pub struct Message {
    /// Names it.
    pub id: String,
    /// Of a mail, how far the sending as a whole has come.
    pub state: Option<&'static str>,
    /// Of a mail, why that failed.
    pub failure: Option<(String, String)>,
    /// One per recipient; none in the answer to the sending of a mail.
    pub deliveries: Vec<Delivery>,
    /// The tag of an SMS.
    pub tag: String,
    /// When the request was taken, if the answer says.
    pub created: Option<Timestamp>,
}

/// A recipient's opt-out, or why it could not be looked at or changed.
pub struct OptOut {
    /// The number.
    pub recipient: String,
    /// Opted out or not; else code and words.
    pub outcome: Result<bool, (String, String)>,
}

/// An event: its name and fields as in the proto file, with the state by name.
pub struct Happening {
    /// Where to go on after it.
    pub cursor: String,
    /// When it happened.
    pub at: Option<Timestamp>,
    /// Such as `sms_delivery`.
    pub kind: &'static str,
    /// Fields that are not empty, in order.
    pub fields: Vec<(&'static str, String)>,
}

/// A stream of events.
pub struct Events {
    client: Client,
    answers: Streaming<v1::WatchEventsResponse>,
}

impl Events {
    /// The next one; waits without end. None once the server has nothing more to say.
    pub async fn next(&mut self) -> Result<Option<Happening>, Failure> {
        match self.answers.message().await {
            Ok(answer) => Ok(answer.map(happening)),
            Err(status) => Err(self.client.failure(&status)),
        }
    }
}

impl Client {
    fn sms(&self) -> v1::sms_service_client::SmsServiceClient<super::Channel> {
        v1::sms_service_client::SmsServiceClient::new(self.channel.clone())
    }

    fn email(&self) -> v1::email_service_client::EmailServiceClient<super::Channel> {
        v1::email_service_client::EmailServiceClient::new(self.channel.clone())
    }

    /// `SmsService.SendSms`.
    pub async fn send_sms(&self, sms: NewSms) -> Result<Message, Failure> {
        let request = v1::SendSmsRequest {
            request_id: sms.request_id,
            from: sms.from,
            to: sms.to,
            text: sms.text,
            enable_delivery_report: sms.delivery_report,
            tag: sms.tag.clone(),
        };
        let sent = self.call(self.sms().send_sms(self.request(request))).await?;
        let deliveries = sent.outcomes.into_iter().map(outcome).collect();
        Ok(Message { id: sent.sms_id, state: None, failure: None, deliveries, tag: sms.tag, created: None })
    }

    /// `SmsService.GetSms`.
    pub async fn get_sms(&self, name: Name) -> Result<Message, Failure> {
        let name = Some(match name {
            Name::Id(id) => v1::get_sms_request::Name::SmsId(id),
            Name::Request(id) => v1::get_sms_request::Name::RequestId(id),
        });
        let found = self.call(self.sms().get_sms(self.request(v1::GetSmsRequest { name }))).await?;
        Ok(Message {
            id: found.sms_id,
            state: None,
            failure: None,
            deliveries: found.outcomes.into_iter().map(outcome).collect(),
            tag: found.tag,
            created: time(found.create_time),
        })
    }

    /// `SmsService.CheckSmsOptOuts`, `AddSmsOptOuts`, `RemoveSmsOptOuts`.
    pub async fn opt_outs(
        &self,
        change: OptOutChange,
        from: String,
        recipients: Vec<String>,
    ) -> Result<Vec<OptOut>, Failure> {
        let mut sms = self.sms();
        let opt_outs = match change {
            OptOutChange::Check => {
                let request = v1::CheckSmsOptOutsRequest { from, recipients };
                self.call(sms.check_sms_opt_outs(self.request(request))).await?.opt_outs
            }
            OptOutChange::Add => {
                let request = v1::AddSmsOptOutsRequest { from, recipients };
                self.call(sms.add_sms_opt_outs(self.request(request))).await?.opt_outs
            }
            OptOutChange::Remove => {
                let request = v1::RemoveSmsOptOutsRequest { from, recipients };
                self.call(sms.remove_sms_opt_outs(self.request(request))).await?.opt_outs
            }
        };
        let opt_out = |opt_out: v1::SmsOptOut| OptOut {
            recipient: opt_out.recipient,
            outcome: failure(opt_out.failure).map_or(Ok(opt_out.opted_out), Err),
        };
        Ok(opt_outs.into_iter().map(opt_out).collect())
    }

    /// `EmailService.SendEmail`.
    pub async fn send_email(&self, mail: NewEmail) -> Result<Message, Failure> {
        let addresses = |list: Vec<(String, String)>| {
            let one = |(address, display_name)| v1::EmailAddress { address, display_name };
            list.into_iter().map(one).collect()
        };
        let attachment = |file: Attachment| v1::EmailAttachment {
            name: file.name,
            content_type: file.content_type,
            content: file.content,
            content_id: file.content_id.unwrap_or_default(),
        };
        let request = v1::SendEmailRequest {
            request_id: mail.request_id,
            from: mail.from,
            to: addresses(mail.to),
            cc: addresses(mail.cc),
            bcc: addresses(mail.bcc),
            reply_to: addresses(mail.reply_to),
            subject: mail.subject,
            plain_text: mail.plain_text,
            html: mail.html,
            attachments: mail.attachments.into_iter().map(attachment).collect(),
            headers: mail.headers.into_iter().collect(),
            disable_engagement_tracking: mail.tracking_disabled,
        };
        let sent = self.call(self.email().send_email(self.request(request))).await?;
        Ok(Message {
            state: Some(state(sent.state())),
            id: sent.email_id,
            failure: failure(sent.failure),
            deliveries: Vec::new(),
            tag: String::new(),
            created: None,
        })
    }

    /// `EmailService.GetEmail`; with `wait`, once the sending has ended or shortly before the client's time is over.
    pub async fn get_email(&self, name: Name, wait: bool) -> Result<Message, Failure> {
        let name = Some(match name {
            Name::Id(id) => v1::get_email_request::Name::EmailId(id),
            Name::Request(id) => v1::get_email_request::Name::RequestId(id),
        });
        let request = self.request(v1::GetEmailRequest { name, wait });
        let found = self.call(self.email().get_email(request)).await?;
        Ok(Message {
            state: Some(state(found.state())),
            id: found.email_id,
            failure: failure(found.failure),
            deliveries: found.deliveries.into_iter().map(delivery).collect(),
            tag: String::new(),
            created: time(found.create_time),
        })
    }

    /// `EventService.WatchEvents`. The client's time is for its beginning; it has no end.
    pub async fn watch_events(&self, cursor: &str, kinds: &[EventKind]) -> Result<Events, Failure> {
        let kinds = kinds.iter().map(|kind| wire(*kind).into()).collect();
        let request = v1::WatchEventsRequest { cursor: cursor.into(), kinds };
        let mut events = v1::event_service_client::EventServiceClient::new(self.channel.clone());
        let answers = self.call(events.watch_events(self.untimed(request))).await?;
        Ok(Events { client: self.clone(), answers })
    }
}

const fn wire(kind: EventKind) -> v1::EventKind {
    match kind {
        EventKind::SmsDelivery => v1::EventKind::SmsDelivery,
        EventKind::SmsReceived => v1::EventKind::SmsReceived,
        EventKind::EmailDelivery => v1::EventKind::EmailDelivery,
        EventKind::EmailEngagement => v1::EventKind::EmailEngagement,
        EventKind::Chat => v1::EventKind::Chat,
    }
}

const fn state(state: v1::MessageState) -> &'static str {
    match state {
        v1::MessageState::Unspecified => "UNSPECIFIED",
        v1::MessageState::Accepted => "ACCEPTED",
        v1::MessageState::Sent => "SENT",
        v1::MessageState::Delivered => "DELIVERED",
        v1::MessageState::Failed => "FAILED",
        v1::MessageState::Unknown => "UNKNOWN",
    }
}

fn failure(failure: Option<v1::MessageFailure>) -> Option<(String, String)> {
    failure.map(|failure| (failure.code, failure.detail))
}

fn outcome(outcome: v1::SmsOutcome) -> Delivery {
    Delivery {
        state: state(outcome.state()),
        to: outcome.to,
        message_id: outcome.message_id,
        failure: failure(outcome.failure),
        updated: time(outcome.update_time),
    }
}

fn delivery(delivery: v1::EmailDelivery) -> Delivery {
    Delivery {
        state: state(delivery.state()),
        to: delivery.address,
        message_id: String::new(),
        failure: failure(delivery.failure),
        updated: time(delivery.update_time),
    }
}

fn happening(answer: v1::WatchEventsResponse) -> Happening {
    let (cursor, at) = (answer.cursor, time(answer.event_time));
    // An event of a kind this client does not know.
    let (kind, fields) = answer.event.map_or(("unknown", Vec::new()), fields);
    let fields = fields.into_iter().filter(|(_, value)| !value.is_empty()).collect();
    Happening { cursor, at, kind, fields }
}

fn fields(event: Told) -> (&'static str, Vec<(&'static str, String)>) {
    let detail = |detail: Option<v1::MessageFailure>| {
        let (code, text) = failure(detail).unwrap_or_default();
        [("code", code), ("detail", text)]
    };
    match event {
        Told::SmsDelivery(event) => {
            let now = state(event.state()).to_owned();
            let mut fields = vec![
                ("sms_id", event.sms_id),
                ("message_id", event.message_id),
                ("to", event.to),
                ("from", event.from),
                ("state", now),
                ("tag", event.tag),
            ];
            fields.extend(detail(event.detail));
            ("sms_delivery", fields)
        }
        Told::SmsReceived(event) => {
            let fields = [
                ("message_id", event.message_id),
                ("from", event.from),
                ("to", event.to),
                ("text", event.text),
            ];
            ("sms_received", fields.into())
        }
        Told::EmailDelivery(event) => {
            let now = state(event.state()).to_owned();
            let mut fields = vec![("email_id", event.email_id), ("address", event.address), ("state", now)];
            fields.extend(detail(event.detail));
            ("email_delivery", fields)
        }
        Told::EmailEngagement(event) => {
            let fields = [
                ("email_id", event.email_id),
                ("address", event.address),
                ("engagement", event.engagement),
                ("link", event.link),
            ];
            ("email_engagement", fields.into())
        }
        Told::Chat(event) => {
            let (actor, subject) = (event.actor.unwrap_or_default(), event.subject.unwrap_or_default());
            let fields = [
                ("type", event.r#type),
                ("thread_id", event.thread_id),
                ("message_id", event.message_id),
                ("actor_user_id", actor.user_id),
                ("actor_acs_user_id", actor.acs_user_id),
                ("subject_user_id", subject.user_id),
                ("subject_acs_user_id", subject.acs_user_id),
                ("text", event.text),
                ("topic", event.topic),
            ];
            ("chat", fields.into())
        }
    }
}
