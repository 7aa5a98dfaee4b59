//! What messaging needs from outside: a port to each channel of ACS, and two to the store beside the core's own.
//!
//! Implementations live in `app/upstream` and `store`; nothing here does I/O. The store keeps records as bytes and
//! decides nothing: what a record means, and when it may change, is for `record` and the channels.

mod chat;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;

pub use self::chat::{
    ChatError, ChatPage, ChatRange, ChatUpstream, ChatUsers, Message, MessageKind, Metadata, OutgoingMessage,
    Participant, Party, Receipt, RefusedParticipant, Thread,
};
use super::types::{EmailAddress, Failure, MessageId, Number};
use crate::broker::error::{Cause, Error};
use crate::broker::ports::{Limit, StoreError, Taken};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A record with the number of its current version.
#[derive(Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Grows with every replacement; from 1.
    pub version: u64,
    /// The record.
    pub bytes: Vec<u8>,
}

/// Records of what was sent, each under an id made of caller and request id: outcome ledger and memory in one.
#[async_trait]
pub trait MessageStore: Send + Sync {
    /// Keeps a new record for `keep`, unless there is one already: then nothing changes and that one is returned.
    async fn insert(
        &self,
        id: &MessageId,
        record: &[u8],
        keep: Duration,
    ) -> Result<Option<Versioned>, StoreError>;

    /// The record of this id.
    async fn get(&self, id: &MessageId) -> Result<Option<Versioned>, StoreError>;

    /// Replaces the record if its version is `expected`; keeps it for `keep` from now. Returns the new version, or the
    /// record as it is (none if there is none) when somebody else changed it.
    async fn replace(
        &self,
        id: &MessageId,
        expected: u64,
        record: &[u8],
        keep: Duration,
    ) -> Result<Result<u64, Option<Versioned>>, StoreError>;

    /// Removes the record if its version is `expected`; says whether it did.
    async fn remove(&self, id: &MessageId, expected: u64) -> Result<bool, StoreError>;

    /// Remembers for `keep` that these ids of ACS belong to that record; the number tells which part of it.
    async fn link(
        &self,
        upstream: &[(String, u32)],
        id: &MessageId,
        keep: Duration,
    ) -> Result<(), StoreError>;

    /// The record and the part of it that an id of ACS belongs to.
    async fn linked(&self, upstream: &str) -> Result<Option<(MessageId, u32)>, StoreError>;

    /// Has the record looked at once `due` has come, instead of any earlier wish; with none, never.
    async fn schedule(&self, id: &MessageId, due: Option<Timestamp>) -> Result<(), StoreError>;

    /// Takes up to `limit` records that are due at `now`, oldest first, and puts each off to `now` + `hold`, so that no
    /// other replica takes it meanwhile.
    async fn take_due(
        &self,
        now: Timestamp,
        hold: Duration,
        limit: usize,
    ) -> Result<Vec<MessageId>, StoreError>;
}

/// A place in the log of events. Texts of 1 to 64 letters, digits, `-`; compares only by the store that made it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Cursor(pub String);

/// A part of the log of events.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct EventPage {
    /// Events with their places, in order.
    pub events: Vec<(Cursor, Vec<u8>)>,
}

/// What became of a wish to read the log.
#[derive(Clone, PartialEq, Eq)]
pub enum EventsRead {
    /// The events after the cursor; perhaps none.
    Page(EventPage),
    /// What came right after the cursor is no longer kept.
    TooOld,
    /// The cursor is none of this log.
    Foreign,
}

/// Events for watchers, in the order they were taken in, shared by every replica that shares the store.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Appends an event, unless one with this key was appended within `unique_for`: then none is returned. Events older
    /// than `keep` may go.
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        unique_for: Duration,
        keep: Duration,
    ) -> Result<Option<Cursor>, StoreError>;

    /// The place of the newest event, for those who want only what comes from now on.
    async fn end(&self) -> Result<Cursor, StoreError>;

    /// At most `limit` events after a place.
    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError>;
}

/// What a wish to take from a fair budget came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FairTake {
    /// Whether it was taken.
    pub taken: Taken,
    /// When, by the store's own clock: what is not needed is given back to that time.
    pub at: Timestamp,
}

/// Budgets of calls that are fair between callers.
#[async_trait]
pub trait FairBudget: Send + Sync {
    /// Takes `cost` units from the bucket for `caller` under all its limits, or nothing. In no window of any limit is
    /// more than its maximum taken. While several callers want more than there is, each gets an equal share: a caller
    /// who has had its share of a window makes room for those who have not.
    async fn take_fair(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
    ) -> Result<FairTake, StoreError>;

    /// Gives back some of what the caller took at that time and did not need. The limits are those it was taken under.
    async fn give_back(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
        taken_at: Timestamp,
    ) -> Result<(), StoreError>;

    /// Empties the bucket for this long, for all callers: ACS said 429.
    async fn pause(&self, bucket: &str, time: Duration) -> Result<(), StoreError>;
}

/// The store as messaging sees it.
#[derive(Clone)]
pub struct MessageStores {
    /// Records.
    pub messages: std::sync::Arc<dyn MessageStore>,
    /// Events.
    pub events: std::sync::Arc<dyn EventLog>,
    /// Budgets.
    pub budgets: std::sync::Arc<dyn FairBudget>,
}

/// How a call to a channel failed, by what may be done next.
#[derive(Debug, Clone)]
pub enum ChannelError {
    /// Nothing was sent: ACS cannot be reached, or throttles, or refuses. The error is for the caller.
    NotSent(Error),
    /// ACS throttles: nothing was sent, and nobody should try for this long.
    Throttled(Duration),
    /// It may have been sent. Only the same upstream id may be sent again.
    Unknown {
        /// The wait that ACS asked for, if any.
        retry_after: Option<Duration>,
        /// What happened, for the log.
        cause: Option<Cause>,
    },
}

/// A recipient of an SMS with its upstream id.
#[derive(Clone)]
pub struct SmsRecipient {
    /// The number.
    pub to: Number,
    /// The same for every try.
    pub repeatability_id: uuid::Uuid,
    /// When it was first tried; the same for every try.
    pub first_sent: Timestamp,
}

/// An SMS for one call of ACS.
#[derive(Clone)]
pub struct SmsBatch {
    /// The sender.
    pub from: String,
    /// At most 100 recipients.
    pub to: Vec<SmsRecipient>,
    /// The text.
    pub text: String,
    /// Whether ACS is to report the delivery.
    pub delivery_report: bool,
    /// What comes back in the report.
    pub tag: Option<String>,
}

/// What ACS said about a recipient: its id of the message, or why it refuses; a refusal that `may_pass` is worth another
/// try under the same id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SmsAnswer {
    /// Taken.
    Taken {
        /// ACS's id of the message.
        message_id: String,
    },
    /// Refused.
    Refused {
        /// Why.
        failure: Failure,
        /// Whether it may pass.
        may_pass: bool,
    },
}

/// What to do with opt-outs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptOutChange {
    /// Only look.
    Check,
    /// Opt out.
    Add,
    /// Opt in again.
    Remove,
}

/// Sends SMS: ACS. Every method ends within the upstream's own time budget.
#[async_trait]
pub trait SmsSender: Send + Sync {
    /// Sends; one answer per recipient, in order.
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError>;

    /// Looks at or changes opt-outs; per recipient whether they are opted out now, or why it could not be done.
    async fn opt_outs(
        &self,
        change: OptOutChange,
        from: &str,
        recipients: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error>;
}

/// A file that goes with a mail.
#[derive(Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub content_type: String,
    /// The file itself.
    pub content: Vec<u8>,
    /// Makes it an inline image.
    pub content_id: Option<String>,
}

/// A mail for one call of ACS.
#[derive(Clone)]
pub struct Mail {
    /// The sender's address.
    pub from: String,
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

/// How far ACS has come with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MailProgress {
    /// At it; worth asking again after this wait.
    UnderWay(Option<Duration>),
    /// Out for delivery.
    Sent,
    /// It will not be sent.
    Failed(Failure),
}

/// Sends mail: ACS. Every method ends within the upstream's own time budget.
#[async_trait]
pub trait EmailSender: Send + Sync {
    /// Sends under this operation id; the same id never sends twice.
    async fn send(&self, operation: uuid::Uuid, mail: &Mail) -> Result<MailProgress, ChannelError>;

    /// How far it has come; none if ACS knows no such operation.
    async fn status(&self, operation: uuid::Uuid) -> Result<Option<MailProgress>, ChannelError>;
}

/// A token to act with in a chat.
#[derive(Debug, Clone)]
pub struct ActingToken {
    /// The token.
    pub token: Secret,
    /// Whose it is, as ACS names them.
    pub acs_user_id: String,
}
