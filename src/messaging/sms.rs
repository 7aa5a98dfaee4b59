//! SMS: taken once per request id, sent under ids made of it, told recipient by recipient.
//!
//! Two round trips to the store on the way of a new message: the record and the budget are asked for together before
//! ACS is, the outcome and the links together after. The work runs in a task of its own, so that a caller who hangs up
//! leaves nothing half done. Called by `grpc`.

use super::duplicates::Content;
use super::limits::Bucket;
use super::ports::{ChannelError, OptOutChange, SmsAnswer, SmsBatch, SmsRecipient};
use super::record::{Fingerprint, Known, Record};
use super::types::{Channel, Failure, MessageId, MessageName, Number, Outcome, State};
use super::{ASK_AGAIN, Messaging, safety};
use crate::broker::error::{Error, FieldViolation};
use crate::broker::types::Caller;
use crate::clock::Timestamp;
use std::collections::HashSet;

/// The most recipients of a request, and the longest text in UTF-16 code units (Azure REST API specification).
const MAX_RECIPIENTS: usize = 100;
const MAX_TEXT: usize = 2048;
const MAX_TAG: usize = 128;

/// What SendSms is asked for.
#[derive(Clone)]
pub struct SendSms {
    /// Names the request.
    pub request_id: uuid::Uuid,
    /// The sender; none for the default.
    pub from: Option<String>,
    /// The recipients.
    pub to: Vec<Number>,
    /// The text.
    pub text: String,
    /// Whether ACS is to report the delivery.
    pub delivery_report: bool,
    /// What comes back in the report.
    pub tag: Option<String>,
}

/// What is known of an SMS.
#[derive(Clone, PartialEq, Eq)]
pub struct SmsReport {
    /// Names it.
    pub id: MessageId,
    /// What became of it for each recipient, in the order asked for.
    pub outcomes: Vec<Outcome>,
    /// The tag it was sent with.
    pub tag: Option<String>,
    /// When it was first asked for.
    pub created: Timestamp,
}

/// What is known of a recipient's opt-out, or why it could not be found out or changed.
pub struct OptOut {
    /// The recipient.
    pub recipient: Number,
    /// Opted out or not.
    pub outcome: Result<bool, Failure>,
}

impl Messaging {
    /// Sends an SMS, once however often it is asked for.
    pub async fn send_sms(&self, caller: &Caller, request: SendSms) -> Result<SmsReport, Error> {
        let from = self.check_sms(&request)?;
        let (this, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move { this.send_sms_once(&caller, from, request).await }).await
    }

    /// What is known of an SMS that this caller sent.
    pub async fn get_sms(&self, caller: &Caller, name: MessageName) -> Result<SmsReport, Error> {
        let (id, record) = self.record(Channel::Sms, caller, name).await?;
        Ok(report(id, record))
    }

    /// Looks at or changes the opt-outs of recipients.
    pub async fn opt_outs(
        &self,
        change: OptOutChange,
        from: Option<String>,
        recipients: Vec<Number>,
    ) -> Result<Vec<OptOut>, Error> {
        let mut violations = Vec::new();
        let from = self.sms_sender(from.as_deref(), &mut violations)?;
        check_numbers("recipients", &recipients, &mut violations);
        if !violations.is_empty() {
            return Err(Error::InvalidField(violations));
        }
        let outcomes = self.0.sms.opt_outs(change, &from, &recipients).await?;
        Ok(recipients
            .into_iter()
            .zip(outcomes)
            .map(|(recipient, outcome)| OptOut { recipient, outcome })
            .collect())
    }

    /// The sender to use. A sender that is none of ours is a violation; no sender at all is not set up.
    fn sms_sender(&self, asked: Option<&str>, violations: &mut Vec<FieldViolation>) -> Result<String, Error> {
        let senders = &self.0.settings.sms.senders;
        if safety::sender(senders, None).is_none() {
            return Err(Error::ChannelNotConfigured { channel: "sms" });
        }
        let from = safety::sender(senders, asked.filter(|asked| !asked.is_empty()));
        if from.is_none() {
            violations.push(FieldViolation::new("from", "must be one of the configured senders"));
        }
        Ok(from.unwrap_or_default().to_owned())
    }

    /// Everything that can be wrong with a request before anybody is asked; returns the sender.
    fn check_sms(&self, request: &SendSms) -> Result<String, Error> {
        let mut violations = Vec::new();
        let from = self.sms_sender(request.from.as_deref(), &mut violations)?;
        check_numbers("to", &request.to, &mut violations);
        let units = request.text.encode_utf16().count();
        if !(1..=MAX_TEXT).contains(&units) {
            let what = format!("must have 1 to {MAX_TEXT} UTF-16 code units, has {units}");
            violations.push(FieldViolation::new("text", what));
        }
        if let Some(tag) = &request.tag
            && (tag.len() > MAX_TAG || tag.chars().any(char::is_control))
        {
            let what = format!("must have at most {MAX_TAG} bytes and no control characters");
            violations.push(FieldViolation::new("tag", what));
        }
        if !violations.is_empty() {
            return Err(Error::InvalidField(violations));
        }
        let allow = &self.0.settings.sms.allow;
        if request.to.iter().any(|to| !safety::allows(allow, to.as_str())) {
            return Err(Error::RecipientNotAllowed);
        }
        Ok(from)
    }

    async fn send_sms_once(
        &self,
        caller: &Caller,
        from: String,
        request: SendSms,
    ) -> Result<SmsReport, Error> {
        let parts = &self.0;
        let now = parts.clock.now();
        let id = MessageId::of(Channel::Sms, caller, &request.request_id);
        let fingerprint = fingerprint(&from, &request);
        let recipients = request.to.iter().map(|to| to.as_str().to_owned());
        let mut record =
            Record::new(Channel::Sms, caller, fingerprint.clone(), recipients, now, parts.settings.hold);
        record.tag.clone_from(&request.tag);
        let bucket = parts.limits.sms(&from);
        let cost = u32::try_from(request.to.len()).unwrap_or(u32::MAX);
        let bytes = record.bytes();
        let content = content(caller, &from, &request);
        let (inserted, taken, marked) = tokio::join!(
            parts.stores.messages.insert(&id, &bytes, parts.settings.retention),
            self.take(&bucket, caller, cost),
            self.mark(&content, &id, now),
        );
        let mut version = 1;
        let mut may_be_a_duplicate = true;
        if let Some(known) = inserted? {
            record = Record::read(&known.bytes)?;
            let met = match record.meet(&fingerprint, now) {
                Ok(Known::Open) => {
                    may_be_a_duplicate = !record.was_tried();
                    record.claim(now, parts.settings.hold);
                    let bytes = record.bytes();
                    let claimed =
                        parts.stores.messages.replace(&id, known.version, &bytes, parts.settings.retention);
                    let claimed = claimed.await?;
                    claimed.map(Some).map_err(|_| Error::RequestInProgress { retry_after: ASK_AGAIN })
                }
                met => met.map(|_| None),
            };
            match met {
                Ok(Some(claimed)) => version = claimed,
                // Nothing is sent: what this call took for it is free again.
                other => {
                    self.unspend(&bucket, caller, cost, &taken).await;
                    if let Ok(marked) = &marked {
                        self.unmark(&content, marked).await;
                    }
                    return other.map(|_| report(id, record.seen(now)));
                }
            }
        }
        let mut marked = match marked {
            Ok(marked) => marked,
            Err(error) => {
                self.unspend(&bucket, caller, cost, &taken).await;
                self.give_back(&id, version, record, now).await;
                return Err(error.into());
            }
        };
        let passed = match &taken {
            Ok(_) if may_be_a_duplicate => self.pass(&content, &mut marked, &id, now).await,
            Ok(_) => Ok(()),
            Err(error) => Err(error.clone()),
        };
        if let Err(error) = passed {
            self.unspend(&bucket, caller, cost, &taken).await;
            self.unmark(&content, &marked).await;
            self.give_back(&id, version, record, now).await;
            return Err(error);
        }
        let open = u32::try_from(record.open_parts().count()).unwrap_or(u32::MAX);
        self.unspend(&bucket, caller, cost.saturating_sub(open), &taken).await;
        let sent = self.send_open_recipients(&id, version, record, &from, &request, &bucket).await;
        if version == 1 && matches!(&sent, Err(error) if !matches!(error, Error::OutcomeUnknown { .. })) {
            self.unmark(&content, &marked).await;
        }
        sent
    }

    /// Sends to those recipients whose fate ACS has not told, and keeps what it says.
    async fn send_open_recipients(
        &self,
        id: &MessageId,
        version: u64,
        mut record: Record,
        from: &str,
        request: &SendSms,
        bucket: &Bucket,
    ) -> Result<SmsReport, Error> {
        let redirect = &self.0.settings.sms.redirect;
        let redirect = if redirect.is_empty() { None } else { Number::parse(redirect).ok() };
        let open: Vec<usize> = record.open_parts().collect();
        let recipient = |part: &usize| {
            let to = request.to.get(*part)?;
            Some(SmsRecipient {
                to: redirect.clone().unwrap_or_else(|| to.clone()),
                repeatability_id: id.upstream(to.as_str()),
                first_sent: record.created,
            })
        };
        let batch = SmsBatch {
            from: from.to_owned(),
            to: open.iter().filter_map(recipient).collect(),
            text: request.text.clone(),
            delivery_report: request.delivery_report,
            tag: request.tag.clone(),
        };
        let answers = self.0.sms.send(&batch).await;
        let now = self.0.clock.now();
        let answers = match answers {
            Ok(answers) => answers,
            Err(ChannelError::NotSent(error)) => {
                self.give_back(id, version, record, now).await;
                return Err(error);
            }
            Err(ChannelError::Throttled(retry_after)) => {
                self.pause(bucket, retry_after).await;
                self.give_back(id, version, record, now).await;
                return Err(Error::AcsThrottled { retry_after });
            }
            Err(ChannelError::Unknown { retry_after, cause }) => {
                for part in open {
                    record.advance(part, State::Unknown, None, now);
                }
                record.release(now);
                self.keep(id, version, &record).await;
                return Err(Error::OutcomeUnknown { retry_after: retry_after.unwrap_or(ASK_AGAIN), cause });
            }
        };
        let mut links = Vec::new();
        for (part, answer) in open.into_iter().zip(answers) {
            match answer {
                SmsAnswer::Taken { message_id } => {
                    record.advance(part, State::Sent, None, now);
                    if let Some(outcome) = record.outcomes.get_mut(part) {
                        outcome.upstream_id = Some(message_id.clone());
                    }
                    links.push((message_id, u32::try_from(part).unwrap_or(u32::MAX)));
                }
                SmsAnswer::Refused { failure, may_pass: false } => {
                    record.advance(part, State::Failed, Some(failure), now);
                }
                // Still accepted, and open to whoever asks again: the failure says why it is not sent yet.
                SmsAnswer::Refused { failure, may_pass: true } => {
                    if let Some(outcome) = record.outcomes.get_mut(part) {
                        outcome.failure = Some(failure);
                        outcome.updated = now;
                    }
                }
            }
        }
        record.release(now);
        for outcome in &record.outcomes {
            self.0.metrics.message(Channel::Sms.name(), outcome.state.name());
        }
        tokio::join!(self.keep(id, version, &record), self.keep_links(id, &links));
        if request.delivery_report {
            self.meet_early_events(id, &links);
        }
        Ok(report(id.clone(), record))
    }
}

fn report(id: MessageId, record: Record) -> SmsReport {
    SmsReport { id, outcomes: record.outcomes, tag: record.tag, created: record.created }
}

fn fingerprint(from: &str, request: &SendSms) -> Fingerprint {
    let tag = request.tag.as_deref().unwrap_or_default();
    let parts = [from, &request.text, tag, if request.delivery_report { "report" } else { "" }];
    let numbers = request.to.iter().map(Number::as_str);
    Fingerprint::of(parts.into_iter().chain(numbers).map(str::as_bytes))
}

/// What makes it the same SMS again, whatever it is asked for by.
fn content(caller: &Caller, from: &str, request: &SendSms) -> Content {
    let mut numbers: Vec<_> = request.to.iter().map(Number::as_str).collect();
    numbers.sort_unstable();
    let parts = [from, &request.text].into_iter().chain(numbers);
    Content::new(Channel::Sms, caller, &Fingerprint::of(parts.map(str::as_bytes)))
}

fn check_numbers(field: &str, numbers: &[Number], violations: &mut Vec<FieldViolation>) {
    if !(1..=MAX_RECIPIENTS).contains(&numbers.len()) {
        let what = format!("must have 1 to {MAX_RECIPIENTS} entries, has {}", numbers.len());
        violations.push(FieldViolation::new(field, what));
    }
    let mut seen = HashSet::new();
    for (index, number) in numbers.iter().enumerate() {
        if !seen.insert(number) {
            violations.push(FieldViolation::new(format!("{field}[{index}]"), "must not be repeated"));
        }
    }
}
