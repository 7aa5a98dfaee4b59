//! What chat needs from outside: ACS in the name of a user, and the users themselves.
//!
//! Parties are raw ids of ACS here; whose they are is for `chat` to fill in. Nothing here does I/O. No type has a
//! `Debug` that shows a text or a name.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_trait::async_trait;

use super::ActingToken;
use crate::broker::error::{Cause, Error};
use crate::broker::types::{Caller, IdentityId, UserId};
use crate::clock::Timestamp;
use crate::messaging::types::Failure;
use crate::secret::Secret;

/// Texts of the app's own.
pub type Metadata = BTreeMap<String, String>;

/// A party of a chat.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    /// The raw id of ACS.
    pub id: String,
    /// The app's user, once that is known to be one.
    pub user: Option<UserId>,
}

impl Party {
    /// A party that ACS named.
    pub fn named(id: impl Into<String>) -> Self {
        Self { id: id.into(), user: None }
    }
}

/// A thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// When it was created; not told in lists.
    pub created: Option<Timestamp>,
    /// Who created it; not told in lists.
    pub creator: Option<Party>,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Texts of the app's own; not told in lists.
    pub metadata: Metadata,
    /// When the last message came in; told in lists only.
    pub last_message: Option<Timestamp>,
}

/// Somebody in a thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Participant {
    /// Who it is.
    pub party: Party,
    /// The name the others see; empty for none.
    pub display_name: String,
    /// From when on they see the messages; none for all.
    pub share_history: Option<Timestamp>,
}

/// A participant that ACS did not let in.
#[derive(Clone, PartialEq, Eq)]
pub struct RefusedParticipant {
    /// Who it is.
    pub party: Party,
    /// Why.
    pub failure: Failure,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// Plain text.
    Text,
    /// HTML.
    Html,
    /// Written by ACS: the topic changed.
    TopicUpdated,
    /// Written by ACS: somebody was added.
    ParticipantAdded,
    /// Written by ACS: somebody was removed.
    ParticipantRemoved,
    /// Something this version does not know.
    Other,
}

/// A message of a thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What it is.
    pub kind: MessageKind,
    /// Its place in the thread.
    pub sequence: i64,
    /// Changes with every edit.
    pub version: String,
    /// The text; empty if there is none.
    pub text: String,
    /// Who sent it; none for what ACS wrote.
    pub sender: Option<Party>,
    /// The name the sender went by; empty for none.
    pub sender_display_name: String,
    /// When it was sent.
    pub created: Timestamp,
    /// When it was last edited.
    pub edited: Option<Timestamp>,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Texts of the app's own.
    pub metadata: Metadata,
    /// The new topic; empty if there is none.
    pub topic: String,
    /// Who was added or removed.
    pub participants: Vec<Participant>,
    /// Who changed the topic or the participants.
    pub initiator: Option<Party>,
}

/// How far a participant has read.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who has read.
    pub reader: Party,
    /// The last message read.
    pub message: String,
    /// When it was read.
    pub read: Timestamp,
}

/// A page of a list.
#[derive(Clone, PartialEq, Eq)]
pub struct ChatPage<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where the list goes on; none on the last page. Opaque.
    pub next: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ChatRange {
    /// Entries at the most.
    pub size: Option<u32>,
    /// Only what is newer, where the list knows of time.
    pub since: Option<Timestamp>,
    /// Where to go on.
    pub from: Option<String>,
}

/// A message to send.
#[derive(Clone)]
pub struct OutgoingMessage {
    /// The thread.
    pub thread: String,
    /// The text.
    pub text: String,
    /// Whether it is HTML.
    pub is_html: bool,
    /// The name the sender goes by.
    pub sender_display_name: Option<String>,
    /// Texts of the app's own, and the mark of the request.
    pub metadata: Metadata,
}

/// How a call failed, by what may be done next.
#[derive(Debug, Clone)]
pub enum ChatError {
    /// ACS does not take the token: nothing was done, and a new token may mend it.
    TokenRefused(Error),
    /// ACS throttles: nothing was done, and nobody should try for this long.
    Throttled(Duration),
    /// Nothing was done. The error is for the caller.
    NotDone(Error),
    /// It may have been done.
    Unknown {
        /// The wait that ACS asked for, if any.
        retry_after: Option<Duration>,
        /// What happened, for the log.
        cause: Option<Cause>,
    },
}

/// The chat of ACS in the name of the user whose token is given. Every method ends within the upstream's own time
/// budget.
#[async_trait]
pub trait ChatUpstream: Send + Sync {
    /// Creates a thread; the same `repeatability_id` gives the same thread.
    async fn create_thread(
        &self,
        token: &Secret,
        repeatability_id: uuid::Uuid,
        topic: &str,
        participants: &[Participant],
        metadata: &Metadata,
    ) -> Result<(Thread, Vec<RefusedParticipant>), ChatError>;

    /// Reads a thread.
    async fn thread(&self, token: &Secret, thread: &str) -> Result<Thread, ChatError>;

    /// Lists the user's threads.
    async fn threads(&self, token: &Secret, range: &ChatRange) -> Result<ChatPage<Thread>, ChatError>;

    /// Changes a thread.
    async fn update_thread(
        &self,
        token: &Secret,
        thread: &str,
        topic: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError>;

    /// Deletes a thread; one that is gone already is deleted.
    async fn delete_thread(&self, token: &Secret, thread: &str) -> Result<(), ChatError>;

    /// Adds participants; says whom ACS did not let in.
    async fn add_participants(
        &self,
        token: &Secret,
        thread: &str,
        participants: &[Participant],
    ) -> Result<Vec<RefusedParticipant>, ChatError>;

    /// Lists the participants.
    async fn participants(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Participant>, ChatError>;

    /// Removes a participant.
    async fn remove_participant(&self, token: &Secret, thread: &str, id: &str) -> Result<(), ChatError>;

    /// Sends a message, at most once per call, and returns its id.
    async fn send_message(&self, token: &Secret, message: &OutgoingMessage) -> Result<String, ChatError>;

    /// Reads a message.
    async fn message(&self, token: &Secret, thread: &str, message: &str) -> Result<Message, ChatError>;

    /// Lists the messages, newest first.
    async fn messages(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Message>, ChatError>;

    /// Changes the text of a message, or replaces its metadata.
    async fn update_message(
        &self,
        token: &Secret,
        thread: &str,
        message: &str,
        text: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError>;

    /// Deletes a message.
    async fn delete_message(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError>;

    /// Says that the user has read up to a message.
    async fn send_read_receipt(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError>;

    /// Lists how far each participant has read.
    async fn read_receipts(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Receipt>, ChatError>;

    /// Shows the others that the user is typing.
    async fn send_typing(
        &self,
        token: &Secret,
        thread: &str,
        sender_display_name: Option<&str>,
    ) -> Result<(), ChatError>;
}

/// The users of chat: the core of identities and tokens.
#[async_trait]
pub trait ChatUsers: Send + Sync {
    /// A token to act as the user: a cached one, or with `renew` one issued for this very call.
    async fn token(&self, caller: &Caller, user: &UserId, renew: bool) -> Result<ActingToken, Error>;

    /// The user's identity, created if there is none.
    async fn identity(&self, caller: &Caller, user: &UserId) -> Result<IdentityId, Error>;

    /// The user's identity; none is created.
    async fn known_identity(&self, caller: &Caller, user: &UserId) -> Result<Option<IdentityId>, Error>;

    /// Which of these ids of ACS belong to users, and to whom.
    async fn users_of(&self, caller: &Caller, ids: Vec<IdentityId>)
    -> Result<HashMap<String, UserId>, Error>;
}
