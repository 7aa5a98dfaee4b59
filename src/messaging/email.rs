//! Mail: taken once per request id, sent under an operation id made of it, and asked after by one replica for all.
//!
//! ACS takes a mail as an operation that ends later. Whoever waits for its end looks at the record; the record is
//! brought up to date by `follow_operations`, which one replica at a time does for each mail. Called by `grpc` and by
//! `app`, which runs the following.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use tokio::time::Instant;

use super::duplicates::Content;
use super::limits::{self, Bucket};
use super::ports::{Attachment, ChannelError, Mail, MailProgress};
use super::record::{Fingerprint, Fingerprinting, Known, Record};
use super::types::{Channel, EmailAddress, Failure, MessageId, MessageName, Outcome, State};
use super::{ASK_AGAIN, Messaging, media, report as log, safety};
use crate::broker::error::{Error, FieldViolation};
use crate::broker::types::Caller;
use crate::clock::Timestamp;

const MAX_RECIPIENTS: usize = 50;
/// The whole mail as ACS gets it, files in base64.
const MAX_BYTES: usize = 10 * 1024 * 1024;
const MAX_SUBJECT: usize = 998;
const MAX_HEADERS: usize = 50;
/// How often those who wait look at the record.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Mails that are asked after in one go.
const AT_A_TIME: usize = 32;
/// How long a replica has a mail to itself that it asks after.
const FOLLOW: Duration = Duration::from_secs(30);
/// Headers that have a field of their own, or that decide where a mail goes.
const RESERVED: [&str; 13] = [
    "from",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "subject",
    "sender",
    "date",
    "message-id",
    "content-type",
    "content-transfer-encoding",
    "mime-version",
    "return-path",
];

/// What SendEmail is asked for.
#[derive(Clone)]
pub struct SendEmail {
    /// Names the request.
    pub request_id: uuid::Uuid,
    /// The sender; none for the default.
    pub from: Option<String>,
    /// The recipients.
    pub to: Vec<EmailAddress>,
    /// Recipients of a copy.
    pub cc: Vec<EmailAddress>,
    /// Recipients that the others do not see.
    pub bcc: Vec<EmailAddress>,
    /// Where answers go.
    pub reply_to: Vec<EmailAddress>,
    /// The subject.
    pub subject: String,
    /// As plain text.
    pub plain_text: Option<String>,
    /// As HTML.
    pub html: Option<String>,
    /// Files.
    pub attachments: Vec<Attachment>,
    /// More headers.
    pub headers: BTreeMap<String, String>,
    /// Whether opens and clicks are not tracked.
    pub tracking_disabled: bool,
}

/// What is known of a mail.
#[derive(Clone, PartialEq, Eq)]
pub struct EmailReport {
    /// Names it.
    pub id: MessageId,
    /// How far the sending has come.
    pub state: State,
    /// Why it failed.
    pub failure: Option<Failure>,
    /// What became of it for each recipient, in the order of to, cc, bcc.
    pub outcomes: Vec<Outcome>,
    /// When it was first asked for.
    pub created: Timestamp,
}

impl SendEmail {
    fn recipients(&self) -> impl Iterator<Item = (&'static str, usize, &EmailAddress)> {
        [("to", &self.to), ("cc", &self.cc), ("bcc", &self.bcc)]
            .into_iter()
            .flat_map(|(field, list)| list.iter().enumerate().map(move |(index, item)| (field, index, item)))
    }

    /// How large it is on the way to ACS, within a few KiB.
    fn size(&self) -> usize {
        let files =
            self.attachments.iter().map(|file| file.content.len().div_ceil(3) * 4 + file.name.len() + 128);
        let texts = [Some(&self.subject), self.plain_text.as_ref(), self.html.as_ref()];
        let addresses =
            self.recipients().map(|(.., item)| item.address().len() + item.display_name().len() + 64);
        files.sum::<usize>()
            + texts.into_iter().flatten().map(String::len).sum::<usize>()
            + addresses.sum::<usize>()
    }

    fn fingerprint(&self, from: &str) -> Fingerprint {
        let mut parts = Fingerprinting::default()
            .add(from.as_bytes())
            .add(self.subject.as_bytes())
            .add(self.plain_text.as_deref().unwrap_or_default().as_bytes())
            .add(self.html.as_deref().unwrap_or_default().as_bytes())
            .add(&[u8::from(self.tracking_disabled)]);
        for list in [&self.to, &self.cc, &self.bcc, &self.reply_to] {
            parts = parts.add(&list.len().to_be_bytes());
            for item in list {
                parts = parts.add(item.address().as_bytes()).add(item.display_name().as_bytes());
            }
        }
        for file in &self.attachments {
            parts = add_file(parts, file);
        }
        for (name, value) in &self.headers {
            parts = parts.add(name.as_bytes()).add(value.as_bytes());
        }
        parts.end()
    }

    /// What makes it the same mail again, whatever it is asked for by.
    fn content(&self, caller: &Caller, from: &str) -> Content {
        let mut parts = Fingerprinting::default()
            .add(from.as_bytes())
            .add(self.subject.as_bytes())
            .add(self.plain_text.as_deref().unwrap_or_default().as_bytes())
            .add(self.html.as_deref().unwrap_or_default().as_bytes());
        for list in [&self.to, &self.cc, &self.bcc] {
            let mut addresses: Vec<_> = list.iter().map(EmailAddress::address).collect();
            addresses.sort_unstable();
            parts = parts.add(&addresses.len().to_be_bytes());
            parts = addresses.into_iter().map(str::as_bytes).fold(parts, Fingerprinting::add);
        }
        let parts = self.attachments.iter().fold(parts, add_file);
        Content::new(Channel::Email, caller, &parts.end())
    }
}

fn add_file(parts: Fingerprinting, file: &Attachment) -> Fingerprinting {
    parts
        .add(file.name.as_bytes())
        .add(file.content_type.as_bytes())
        .add(&file.content)
        .add(file.content_id.as_deref().unwrap_or_default().as_bytes())
}

impl Messaging {
    /// Sends a mail, once however often it is asked for.
    pub async fn send_email(&self, caller: &Caller, request: SendEmail) -> Result<EmailReport, Error> {
        let from = self.check_email(&request)?;
        let (this, caller) = (self.clone(), caller.clone());
        self.to_the_end(async move { this.send_email_once(&caller, &from, request).await }).await
    }

    /// What is known of a mail that this caller sent; with a deadline, once the sending has ended or shortly before it.
    pub async fn get_email(
        &self,
        caller: &Caller,
        name: MessageName,
        wait_until: Option<Instant>,
    ) -> Result<EmailReport, Error> {
        loop {
            let (id, record) = self.record(Channel::Email, caller, name.clone()).await?;
            let look_again = Instant::now() + LOOK_AGAIN;
            let waits = record.is_open() && wait_until.is_some_and(|until| look_again + LOOK_AGAIN < until);
            if !waits {
                return Ok(report(id, record));
            }
            tokio::time::sleep_until(look_again).await;
        }
    }

    /// Everything that can be wrong with a request before anybody is asked; returns the sender.
    fn check_email(&self, request: &SendEmail) -> Result<EmailAddress, Error> {
        let settings = &self.0.settings.email;
        if safety::sender(&settings.senders, None).is_none() {
            return Err(Error::ChannelNotConfigured { channel: "email" });
        }
        let mut violations = Vec::new();
        let asked = request.from.as_deref().filter(|asked| !asked.is_empty());
        let from =
            safety::sender(&settings.senders, asked).and_then(|from| EmailAddress::parse(from, "").ok());
        if from.is_none() {
            violations.push(FieldViolation::new("from", "must be one of the configured senders"));
        }
        check_recipients(request, &mut violations);
        check_content(request, &mut violations);
        match from {
            Some(from) if violations.is_empty() => {
                let mut all = request.recipients();
                if all.any(|(.., item)| !safety::allows(&settings.allow, item.address())) {
                    return Err(Error::RecipientNotAllowed);
                }
                Ok(from)
            }
            _ => Err(Error::InvalidField(violations)),
        }
    }

    async fn send_email_once(
        &self,
        caller: &Caller,
        from: &EmailAddress,
        request: SendEmail,
    ) -> Result<EmailReport, Error> {
        let parts = &self.0;
        let (messages, hold) = (&parts.stores.messages, parts.settings.hold);
        let now = parts.clock.now();
        let id = MessageId::of(Channel::Email, caller, &request.request_id);
        let operation = id.upstream(OPERATION);
        let fingerprint = request.fingerprint(from.address());
        let recipients: Vec<String> =
            request.recipients().map(|(.., item)| item.address().to_owned()).collect();
        let mut record = Record::new(Channel::Email, caller, fingerprint.clone(), recipients, now, hold);
        record.tag = limits::is_managed(from).then(|| MANAGED.to_owned());
        let bucket = parts.limits.email_send(from);
        let bytes = record.bytes();
        let links = [(operation.to_string(), 0)];
        let content = request.content(caller, from.address());
        let (inserted, taken, scheduled, (), marked) = tokio::join!(
            messages.insert(&id, &bytes, parts.settings.retention),
            self.take(&bucket, caller, 1),
            messages.schedule(&id, Some(now.plus(hold))),
            self.keep_links(&id, &links),
            self.mark(&content, &id, now),
        );
        let mut version = 1;
        let mut may_be_a_duplicate = true;
        if let Some(known) = inserted? {
            record = Record::read(&known.bytes)?;
            let acs_has_it = record.outcomes.iter().any(|outcome| outcome.upstream_id.is_some());
            if acs_has_it && record.is_open() {
                // This call has put off when it is asked after.
                messages.schedule(&id, Some(soon(now))).await?;
            }
            let met = match record.meet(&fingerprint, now) {
                // How far it came is asked after by whoever follows it.
                Ok(Known::Open) if acs_has_it => Ok(None),
                Ok(Known::Open) => {
                    may_be_a_duplicate = !record.was_tried();
                    record.claim(now, hold);
                    let bytes = record.bytes();
                    let claimed = messages.replace(&id, known.version, &bytes, parts.settings.retention);
                    let claimed = claimed.await?;
                    claimed.map(Some).map_err(|_| Error::RequestInProgress { retry_after: ASK_AGAIN })
                }
                met => met.map(|_| None),
            };
            match met {
                Ok(Some(claimed)) => version = claimed,
                // Nothing is sent: what this call took for it is free again.
                other => {
                    self.unspend(&bucket, caller, 1, &taken).await;
                    if let Ok(marked) = &marked {
                        self.unmark(&content, marked).await;
                    }
                    return other.map(|_| report(id, record));
                }
            }
        }
        let mut marked = match marked {
            Ok(marked) => marked,
            Err(error) => {
                self.unspend(&bucket, caller, 1, &taken).await;
                self.give_back(&id, version, record, now).await;
                return Err(error.into());
            }
        };
        let passed = match (&taken, scheduled) {
            (Err(error), _) => Err(error.clone()),
            (_, Err(error)) => Err(error.into()),
            _ if may_be_a_duplicate => self.pass(&content, &mut marked, &id, now).await,
            _ => Ok(()),
        };
        if let Err(error) = passed {
            self.unspend(&bucket, caller, 1, &taken).await;
            self.unmark(&content, &marked).await;
            self.give_back(&id, version, record, now).await;
            return Err(error);
        }
        let sent = parts.email.send(operation, &self.mail(from, request)).await;
        let sent = self.keep_sending(&id, version, record, sent, &bucket).await;
        if version == 1 && matches!(&sent, Err(error) if !matches!(error, Error::OutcomeUnknown { .. })) {
            self.unmark(&content, &marked).await;
        }
        sent
    }

    /// The mail for ACS; with a redirect, to that address alone.
    fn mail(&self, from: &EmailAddress, request: SendEmail) -> Mail {
        let redirect = EmailAddress::parse(&self.0.settings.email.redirect, "").ok();
        let elsewhere = redirect.is_some();
        let or_none = |list: Vec<EmailAddress>| if elsewhere { Vec::new() } else { list };
        Mail {
            from: from.address().to_owned(),
            to: redirect.map_or(request.to, |address| vec![address]),
            cc: or_none(request.cc),
            bcc: or_none(request.bcc),
            reply_to: request.reply_to,
            subject: request.subject,
            plain_text: request.plain_text,
            html: request.html,
            attachments: request.attachments,
            headers: request.headers,
            tracking_disabled: request.tracking_disabled,
        }
    }

    /// Keeps what ACS said to a sending.
    async fn keep_sending(
        &self,
        id: &MessageId,
        version: u64,
        mut record: Record,
        sent: Result<MailProgress, ChannelError>,
        bucket: &Bucket,
    ) -> Result<EmailReport, Error> {
        let now = self.0.clock.now();
        let messages = &self.0.stores.messages;
        let progress = match sent {
            Ok(progress) => progress,
            Err(ChannelError::NotSent(error)) => {
                self.give_back(id, version, record, now).await;
                log(messages.schedule(id, None).await, "a mail that is gone is asked after once");
                return Err(error);
            }
            Err(ChannelError::Throttled(retry_after)) => {
                self.pause(bucket, retry_after).await;
                self.give_back(id, version, record, now).await;
                log(messages.schedule(id, None).await, "a mail that is gone is asked after once");
                return Err(Error::AcsThrottled { retry_after });
            }
            Err(ChannelError::Unknown { retry_after, cause }) => {
                record.state = State::Unknown;
                record.release(now);
                let soon = now.plus(retry_after.unwrap_or(ASK_AGAIN));
                let (scheduled, ()) =
                    tokio::join!(messages.schedule(id, Some(soon)), self.keep(id, version, &record));
                log(scheduled, "a mail is asked after later than it could be");
                return Err(Error::OutcomeUnknown { retry_after: retry_after.unwrap_or(ASK_AGAIN), cause });
            }
        };
        let operation = id.upstream(OPERATION).to_string();
        for outcome in &mut record.outcomes {
            outcome.upstream_id = Some(operation.clone());
        }
        let next = settle(&mut record, &progress, now);
        record.release(now);
        self.0.metrics.message(Channel::Email.name(), record.state.name());
        let (scheduled, ()) = tokio::join!(messages.schedule(id, next), self.keep(id, version, &record));
        log(scheduled, "a mail is asked after later than it could be");
        Ok(report(id.clone(), record))
    }

    /// Takes messages that are due to be looked at, for a while: no other replica looks at them meanwhile.
    pub(super) async fn due(&self) -> Result<Vec<MessageId>, Error> {
        Ok(self.0.stores.messages.take_due(self.0.clock.now(), FOLLOW, AT_A_TIME).await?)
    }

    /// Asks ACS after mails that are due, each by one replica at a time; says how many it looked at. Without chat: a
    /// broker follows its chat messages too, with `Chat::follow_operations`.
    pub async fn follow_operations(&self) -> Result<usize, Error> {
        let due = self.due().await?;
        for id in due.iter().filter(|id| id.is_of(Channel::Email)) {
            self.follow(id).await?;
        }
        Ok(due.len())
    }

    pub(super) async fn follow(&self, id: &MessageId) -> Result<(), Error> {
        let messages = &self.0.stores.messages;
        let now = self.0.clock.now();
        let Some(kept) = messages.get(id).await? else { return Ok(messages.schedule(id, None).await?) };
        let mut record = Record::read(&kept.bytes)?;
        if !record.is_open() {
            return Ok(messages.schedule(id, None).await?);
        }
        let bucket = self.0.limits.email_status(record.tag.as_deref() == Some(MANAGED));
        if let Err(error) = self.take(&bucket, &Caller::new(FOLLOWER), 1).await {
            let after = error.retry_after().unwrap_or(ASK_AGAIN);
            return Ok(messages.schedule(id, Some(now.plus(after))).await?);
        }
        let next = match self.0.email.status(id.upstream(OPERATION)).await {
            Ok(Some(progress)) => settle(&mut record, &progress, now),
            // Never arrived, or not yet. Whoever is sending it right now still has it.
            Ok(None) if now.since(record.created) > self.0.settings.find_out_within => {
                let failure = Failure { code: "NotSent".into(), detail: "it never reached ACS".into() };
                settle(&mut record, &MailProgress::Failed(failure), now)
            }
            Err(ChannelError::Throttled(wait)) => {
                self.pause(&bucket, wait).await;
                Some(now.plus(wait))
            }
            Ok(None) | Err(_) => Some(now.plus(ASK_AGAIN)),
        };
        // Somebody else may have changed it meanwhile: then it is looked at again.
        let replaced = messages.replace(id, kept.version, &record.bytes(), self.0.settings.retention).await?;
        let next = if replaced.is_ok() { next } else { Some(now) };
        Ok(messages.schedule(id, next).await?)
    }
}

/// The part of a message id that a mail's operation is named by.
const OPERATION: &str = "operation";
/// Marks the record of a mail from a domain with lower limits.
const MANAGED: &str = "managed-domain";
/// In whose name ACS is asked after mails.
pub(super) const FOLLOWER: &str = "acs-broker";

/// A time within `ASK_AGAIN`: the same for all who ask at about the same time, so that none of them puts it off.
fn soon(now: Timestamp) -> Timestamp {
    let step = u64::try_from(ASK_AGAIN.as_millis()).unwrap_or(u64::MAX);
    let into_the_step = now.as_millis().checked_rem(step).unwrap_or(0);
    now.plus(Duration::from_millis(step.saturating_sub(into_the_step)))
}

/// Takes over how far ACS has come; returns when to ask again, if that is of use.
fn settle(record: &mut Record, progress: &MailProgress, now: Timestamp) -> Option<Timestamp> {
    match progress {
        MailProgress::UnderWay(wait) => {
            record.state = State::Accepted;
            return Some(now.plus(wait.unwrap_or(ASK_AGAIN).max(Duration::from_secs(1))));
        }
        MailProgress::Sent => {
            record.state = State::Sent;
            for part in 0..record.outcomes.len() {
                record.advance(part, State::Sent, None, now);
            }
        }
        MailProgress::Failed(failure) => {
            record.state = State::Failed;
            record.failure = Some(failure.clone());
            for part in 0..record.outcomes.len() {
                record.advance(part, State::Failed, Some(failure.clone()), now);
            }
        }
    }
    None
}

fn report(id: MessageId, record: Record) -> EmailReport {
    EmailReport {
        id,
        state: record.state,
        failure: record.failure,
        outcomes: record.outcomes,
        created: record.created,
    }
}

pub(super) fn check_recipients(request: &SendEmail, violations: &mut Vec<FieldViolation>) {
    let count = request.recipients().count();
    if !(1..=MAX_RECIPIENTS).contains(&count) {
        let what =
            format!("must have 1 to {MAX_RECIPIENTS} recipients together with cc and bcc, has {count}");
        violations.push(FieldViolation::new("to", what));
    }
    let mut seen = HashSet::new();
    for (field, index, item) in request.recipients() {
        if !seen.insert(item.address().to_ascii_lowercase()) {
            violations.push(FieldViolation::new(format!("{field}[{index}].address"), "must not be repeated"));
        }
    }
    if request.reply_to.len() > MAX_RECIPIENTS {
        violations
            .push(FieldViolation::new("reply_to", format!("must have at most {MAX_RECIPIENTS} entries")));
    }
}

pub(super) fn check_content(request: &SendEmail, violations: &mut Vec<FieldViolation>) {
    let mut wrong = |field: String, what: &str| violations.push(FieldViolation::new(field, what));
    let unprintable = |text: &str| text.chars().any(char::is_control);
    if !(1..=MAX_SUBJECT).contains(&request.subject.len()) || unprintable(&request.subject) {
        wrong("subject".into(), "must have 1 to 998 bytes and no control characters");
    }
    let is_empty = |text: &Option<String>| text.as_ref().is_none_or(String::is_empty);
    if is_empty(&request.plain_text) && is_empty(&request.html) {
        wrong("plain_text".into(), "must not be empty if html is");
    }
    for (index, file) in request.attachments.iter().enumerate() {
        let at = |field: &str| format!("attachments[{index}].{field}");
        let is_name = (1..=256).contains(&file.name.len())
            && !unprintable(&file.name)
            && !file.name.contains(['/', '\\']);
        if !is_name {
            wrong(at("name"), "must have 1 to 256 bytes, no control characters, no / and no \\");
        }
        let is_type = file.content_type.len() <= 127
            && file
                .content_type
                .split_once('/')
                .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty())
            && file.content_type.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        if !is_type {
            wrong(at("content_type"), "must be a media type such as application/pdf");
        }
        if file.content.is_empty() {
            wrong(at("content"), "must not be empty");
        } else if is_type && media::is_a_lie(&file.content_type, &file.content) {
            wrong(at("content_type"), "must be the type of the content, which begins otherwise");
        }
        let is_id = |id: &String| {
            (1..=128).contains(&id.len())
                && id.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-@".contains(&b))
        };
        if file.content_id.as_ref().is_some_and(|id| !is_id(id)) {
            wrong(at("content_id"), "must have 1 to 128 letters, digits, '.', '_', '-' or '@'");
        }
    }
    if request.headers.len() > MAX_HEADERS {
        wrong("headers".into(), "must have at most 50 entries");
    }
    // Neither names nor values are the broker's to repeat: a header is told by its place, names in ascending order.
    for (index, (name, value)) in request.headers.iter().enumerate() {
        let is_name =
            (1..=76).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !is_name {
            wrong(format!("headers[{index}]"), "must have a name of 1 to 76 letters, digits and '-'");
        } else if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
            wrong(format!("headers[{index}]"), "has a field of its own");
        } else if value.len() > MAX_SUBJECT || unprintable(value) {
            wrong(format!("headers[{index}]"), "must have at most 998 bytes and no control characters");
        }
    }
    if request.size() > MAX_BYTES {
        wrong("attachments".into(), "make the mail larger than 10 MB, files counted in base64");
    }
}
