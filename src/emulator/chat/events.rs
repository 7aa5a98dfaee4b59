//! The events about threads and messages, as Event Grid's schemas describe them.
//!
//! Called after the lock on the threads was let go, with copies of what is told. Every event goes once for the thread and
//! once to each participant but the one who did it. Bounded: where each of many is told of each of many, each is told of
//! itself alone. Used by the operations.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::identifier::model;
use super::message::{Content, Message, Metadata};
use super::thread::{Participant, Thread};
use super::{times, wire};
use crate::clock::Timestamp;
use crate::emulator::events::{self, Event};
use crate::emulator::shared::Shared;

/// The most pairs of somebody who is told and somebody who is told of, in one operation.
const MAX_PAIRS: usize = 2500;

/// What happened to a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum MessageChange {
    Received,
    Edited,
    Deleted,
}

/// A thread as events tell of it, and who hears them.
pub(super) struct Audience {
    thread: Arc<str>,
    created: Timestamp,
    /// Everybody who takes part.
    members: Vec<Arc<str>>,
}

impl Audience {
    /// The participants of a thread now.
    pub(super) fn of(thread: &Thread) -> Self {
        Self {
            thread: Arc::clone(&thread.id),
            created: thread.created,
            members: thread.participants.iter().map(|participant| Arc::clone(&participant.id)).collect(),
        }
    }
}

/// One operation's events.
struct Notice<'a> {
    shared: &'a Shared,
    audience: &'a Audience,
    /// Who did it.
    initiator: &'a str,
    transaction: String,
}

impl<'a> Notice<'a> {
    fn new(shared: &'a Shared, audience: &'a Audience, initiator: &'a str) -> Self {
        let [a, b, c, d, rest @ ..]: [u8; 20] = shared.random.bytes();
        let number = u32::from_be_bytes([a, b, c, d]);
        let transaction = format!("{}.1.1.1.1.{number}.1", STANDARD.encode(rest));
        Self { shared, audience, initiator, transaction }
    }

    /// What every event of the operation holds.
    fn data(&self, more: Value) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("transactionId".into(), self.transaction.as_str().into());
        data.insert("threadId".into(), (*self.audience.thread).into());
        if let Value::Object(more) = more {
            data.extend(more);
        }
        data
    }

    fn subject(&self, rest: &str) -> String {
        format!("thread/{}/{rest}", self.audience.thread)
    }

    /// The event for the thread as a whole.
    fn for_thread(&self, kind: &'static str, subject: &str, data: Map<String, Value>) {
        events::emit(self.shared, Event { kind, subject: self.subject(subject), data: data.into() });
    }

    /// The event for one participant.
    fn for_user(&self, kind: &'static str, subject: &str, mut data: Map<String, Value>, recipient: &str) {
        data.insert("recipientCommunicationIdentifier".into(), model(recipient));
        let subject = self.subject(&format!("{subject}/recipient/{recipient}"));
        events::emit(self.shared, Event { kind, subject, data: data.into() });
    }

    /// Everybody who is told of what the initiator did.
    fn recipients(&self) -> impl Iterator<Item = &Arc<str>> {
        self.audience.members.iter().filter(|member| &***member != self.initiator)
    }

    /// The events for all participants, one each.
    fn for_users(&self, kind: &'static str, subject: &str, data: &Map<String, Value>) {
        for recipient in self.recipients() {
            self.for_user(kind, subject, data.clone(), recipient);
        }
    }
}

/// A message came, was edited or was deleted.
pub(super) fn message(shared: &Shared, audience: &Audience, message: &Message, change: MessageChange) {
    let notice = Notice::new(shared, audience, &message.author);
    let mut data = notice.data(json!({
        "messageId": message.id.to_string(),
        "senderCommunicationIdentifier": model(&message.author),
        "senderDisplayName": message.author_name,
        "composeTime": times::millis(message.created),
        "type": if matches!(message.content, Content::Html(_)) { "Html" } else { "Text" },
        "version": message.version,
    }));
    let (for_user, for_thread) = match change {
        MessageChange::Received => ("ChatMessageReceived", "ChatMessageReceivedInThread"),
        MessageChange::Edited => ("ChatMessageEdited", "ChatMessageEditedInThread"),
        MessageChange::Deleted => ("ChatMessageDeleted", "ChatMessageDeletedInThread"),
    };
    if let Some(deleted) = message.deleted {
        data.insert("deleteTime".into(), times::millis(deleted).into());
    } else {
        data.insert("messageBody".into(), message.content.text().unwrap_or_default().into());
        data.insert("metadata".into(), wire::pairs(&message.metadata));
        if let Some(edited) = message.edited {
            data.insert("editTime".into(), times::millis(edited).into());
        }
    }
    let subject = format!("sender/{}", message.author);
    notice.for_users(for_user, &subject, &data);
    notice.for_thread(for_thread, &subject, data);
}

/// A thread as it is when an event tells of it as a whole.
pub(super) struct Told {
    pub(super) topic: String,
    pub(super) metadata: Metadata,
    pub(super) version: u64,
}

/// A thread was made.
pub(super) fn thread_created(
    shared: &Shared,
    audience: &Audience,
    creator: &str,
    told: &Told,
    participants: &[Participant],
) {
    let notice = Notice::new(shared, audience, creator);
    let data = |participants: Vec<Value>| {
        notice.data(json!({
            "createdByCommunicationIdentifier": model(creator),
            "properties": { "topic": told.topic },
            "metadata": wire::pairs(&told.metadata),
            "participants": participants,
            "createTime": times::millis(audience.created),
            "version": told.version,
        }))
    };
    let subject = format!("createdBy/{creator}");
    let everybody = data(participants.iter().map(participant).collect());
    if participants.len().saturating_mul(participants.len()) <= MAX_PAIRS {
        notice.for_users("ChatThreadCreatedWithUser", &subject, &everybody);
    } else {
        for one in participants.iter().filter(|one| *one.id != *creator) {
            notice.for_user("ChatThreadCreatedWithUser", &subject, data(vec![participant(one)]), &one.id);
        }
    }
    notice.for_thread("ChatThreadCreated", &subject, everybody);
}

/// A thread's topic or metadata changed.
pub(super) fn thread_updated(
    shared: &Shared,
    audience: &Audience,
    editor: &str,
    told: &Told,
    now: Timestamp,
) {
    let notice = Notice::new(shared, audience, editor);
    let data = notice.data(json!({
        "editedByCommunicationIdentifier": model(editor),
        "editTime": times::millis(now),
        "properties": { "topic": told.topic },
        "metadata": wire::pairs(&told.metadata),
        "createTime": times::millis(audience.created),
        "version": told.version,
    }));
    let subject = format!("editedBy/{editor}");
    notice.for_users("ChatThreadPropertiesUpdatedPerUser", &subject, &data);
    notice.for_thread("ChatThreadPropertiesUpdated", &subject, data);
}

/// A thread was deleted.
pub(super) fn thread_deleted(shared: &Shared, audience: &Audience, by: &str, version: u64, now: Timestamp) {
    let notice = Notice::new(shared, audience, by);
    let data = notice.data(json!({
        "deletedByCommunicationIdentifier": model(by),
        "deleteTime": times::millis(now),
        "createTime": times::millis(audience.created),
        "version": version,
    }));
    let subject = format!("deletedBy/{by}");
    notice.for_users("ChatThreadWithUserDeleted", &subject, &data);
    notice.for_thread("ChatThreadDeleted", &subject, data);
}

/// Participants joined. The audience includes them.
pub(super) fn participants_added(
    shared: &Shared,
    audience: &Audience,
    by: &str,
    (added, version): (&[Participant], u64),
    now: Timestamp,
) {
    let notice = Notice::new(shared, audience, by);
    let is_small = audience.members.len().saturating_mul(added.len()) <= MAX_PAIRS;
    for one in added {
        let data = notice.data(json!({
            "time": times::millis(now),
            "addedByCommunicationIdentifier": model(by),
            "participantAdded": participant(one),
            "createTime": times::millis(audience.created),
            "version": version,
        }));
        let (kind, subject) =
            ("ChatParticipantAddedToThreadWithUser", format!("participantAdded/{}", one.id));
        if is_small {
            notice.for_users(kind, &subject, &data);
        } else {
            notice.for_user(kind, &subject, data.clone(), &one.id);
        }
        notice.for_thread("ChatThreadParticipantAdded", &format!("participantadded/{}", one.id), data);
    }
}

/// A participant left or was removed. The audience is who was there before.
pub(super) fn participant_removed(
    shared: &Shared,
    audience: &Audience,
    by: &str,
    (removed, version): (&Participant, u64),
    now: Timestamp,
) {
    let notice = Notice::new(shared, audience, by);
    let data = notice.data(json!({
        "time": times::millis(now),
        "removedByCommunicationIdentifier": model(by),
        "participantRemoved": participant(removed),
        "createTime": times::millis(audience.created),
        "version": version,
    }));
    let subject = format!("participantRemoved/{}", removed.id);
    notice.for_users("ChatParticipantRemovedFromThreadWithUser", &subject, &data);
    notice.for_thread("ChatThreadParticipantRemoved", &format!("participantremoved/{}", removed.id), data);
}

fn participant(participant: &Participant) -> Value {
    json!({
        "displayName": participant.display_name.as_deref().unwrap_or_default(),
        "participantCommunicationIdentifier": model(&participant.id),
        "metadata": wire::pairs(&participant.metadata),
    })
}
