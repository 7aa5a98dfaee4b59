//! One thread: who takes part, its messages in order, and who has read how far.
//!
//! Plain data without I/O or locks. Ids, versions and sequence numbers are unique and grow, also when many messages fall
//! in one millisecond or the clock goes back. Held by `store`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::message::{Content, Mentioned, Message, Metadata, bytes_of};
use crate::clock::Timestamp;

/// When the service itself deletes a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    None,
    /// So many days after it was created.
    Days(u32),
}

/// How far a participant has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Receipt {
    pub(super) message: u64,
    pub(super) at: Timestamp,
}

/// Who takes part in a thread.
#[derive(Debug, Clone)]
pub(super) struct Participant {
    pub(super) id: Arc<str>,
    pub(super) display_name: Option<String>,
    /// Older messages are not for this participant.
    pub(super) share_history: Timestamp,
    pub(super) metadata: Metadata,
    pub(super) receipt: Option<Receipt>,
}

impl Participant {
    /// How a message tells of this participant.
    pub(super) fn mentioned(&self) -> Mentioned {
        Mentioned {
            id: Arc::clone(&self.id),
            display_name: self.display_name.clone(),
            share_history: self.share_history,
        }
    }
}

/// A thread.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) id: Arc<str>,
    pub(super) topic: String,
    pub(super) created: Timestamp,
    pub(super) created_by: Arc<str>,
    pub(super) deleted: Option<Timestamp>,
    pub(super) metadata: Metadata,
    pub(super) retention: Option<Retention>,
    /// In the order of joining.
    pub(super) participants: Vec<Participant>,
    /// When the last message of a user came.
    pub(super) last_received: Option<Timestamp>,
    /// How many messages of users it holds.
    pub(super) user_messages: usize,
    /// By sequence number, so that the newest change comes last.
    messages: BTreeMap<u64, Message>,
    /// Sequence numbers by message id.
    places: HashMap<u64, u64>,
    last_sequence: u64,
    last_stamp: u64,
}

/// A message before it has its numbers.
pub(super) struct Draft {
    pub(super) author: Arc<str>,
    pub(super) author_name: String,
    pub(super) content: Content,
    pub(super) metadata: Metadata,
}

impl Draft {
    /// What the service itself tells of somebody's deed.
    pub(super) fn of_service(initiator: &Arc<str>, content: Content) -> Self {
        Self { author: Arc::clone(initiator), author_name: String::new(), content, metadata: Metadata::new() }
    }
}

impl Thread {
    pub(super) fn new(id: Arc<str>, topic: String, created_by: Arc<str>, created: Timestamp) -> Self {
        Self {
            id,
            topic,
            created,
            created_by,
            deleted: None,
            metadata: Metadata::new(),
            retention: None,
            participants: Vec::new(),
            last_received: None,
            user_messages: 0,
            messages: BTreeMap::new(),
            places: HashMap::new(),
            last_sequence: 0,
            last_stamp: 0,
        }
    }

    pub(super) fn participant(&self, user: &str) -> Option<&Participant> {
        self.participants.iter().find(|participant| &*participant.id == user)
    }

    pub(super) fn participant_mut(&mut self, user: &str) -> Option<&mut Participant> {
        self.participants.iter_mut().find(|participant| &*participant.id == user)
    }

    /// A time in epoch milliseconds that this thread never used before: ids of messages and versions.
    pub(super) fn stamp(&mut self, now: Timestamp) -> u64 {
        self.last_stamp = now.as_millis().max(self.last_stamp.saturating_add(1));
        self.last_stamp
    }

    fn next_sequence(&mut self) -> u64 {
        self.last_sequence = self.last_sequence.saturating_add(1);
        self.last_sequence
    }

    /// Takes a message in; `number` is its number among those of all threads.
    pub(super) fn append(&mut self, draft: Draft, number: u64, now: Timestamp) -> Message {
        let id = self.stamp(now);
        let message = Message {
            id,
            sequence: self.next_sequence(),
            version: id,
            number,
            author: draft.author,
            author_name: draft.author_name,
            content: draft.content,
            metadata: draft.metadata,
            created: now,
            edited: None,
            deleted: None,
        };
        if message.is_of_user() {
            self.last_received = Some(now);
            self.user_messages = self.user_messages.saturating_add(1);
        }
        self.places.insert(id, message.sequence);
        self.messages.insert(message.sequence, message.clone());
        message
    }

    pub(super) fn message(&self, id: u64) -> Option<&Message> {
        self.messages.get(self.places.get(&id)?)
    }

    /// Replaces text and metadata as far as they are given, and moves the message to the front of the list.
    pub(super) fn edit(
        &mut self,
        id: u64,
        text: Option<String>,
        metadata: Option<Metadata>,
        now: Timestamp,
    ) -> Option<Message> {
        let mut message = self.messages.remove(self.places.get(&id)?)?;
        if let Some(text) = text {
            message.content.set_text(text);
        }
        if let Some(metadata) = metadata {
            message.metadata = metadata;
        }
        message.edited = Some(now);
        message.version = self.stamp(now);
        message.sequence = self.next_sequence();
        self.places.insert(id, message.sequence);
        self.messages.insert(message.sequence, message.clone());
        Some(message)
    }

    /// Takes away what a message says; it stays in its place.
    pub(super) fn erase(&mut self, id: u64, now: Timestamp) -> Option<Message> {
        let version = self.stamp(now);
        let message = self.messages.get_mut(self.places.get(&id)?)?;
        message.content.set_text(String::new());
        message.metadata.clear();
        message.deleted = Some(now);
        message.version = version;
        Some(message.clone())
    }

    /// Forgets a message; says what it weighed, and whether a user had sent it.
    pub(super) fn forget(&mut self, id: u64) -> Option<Message> {
        let message = self.messages.remove(&self.places.remove(&id)?)?;
        if message.is_of_user() {
            self.user_messages = self.user_messages.saturating_sub(1);
        }
        Some(message)
    }

    /// All messages, in no order.
    pub(super) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    /// The next `size` messages that are wanted, newest change first, of those before a place in the list; and the
    /// place from which to go on, if more are wanted.
    pub(super) fn page(
        &self,
        before: Option<u64>,
        size: usize,
        is_wanted: impl Fn(&Message) -> bool,
    ) -> (Vec<&Message>, Option<u64>) {
        let end = before.unwrap_or(u64::MAX);
        let mut wanted =
            self.messages.range(..end).rev().map(|(_, message)| message).filter(|message| is_wanted(message));
        let page: Vec<&Message> = wanted.by_ref().take(size).collect();
        let next = wanted.next().and(page.last()).map(|last| last.sequence);
        (page, next)
    }

    /// About what it takes in memory without its messages.
    pub(super) fn bytes(&self) -> usize {
        const OVERHEAD: usize = 600;
        // A shared id is counted with the participant, as if nobody else had it.
        const EACH: usize = size_of::<Participant>() + 2 * 96;
        let participants: usize = self
            .participants
            .iter()
            .map(|one| {
                EACH + one.id.len()
                    + one.display_name.as_ref().map_or(0, String::len)
                    + bytes_of(&one.metadata)
            })
            .sum();
        OVERHEAD + self.topic.len() + bytes_of(&self.metadata) + participants
    }
}

#[cfg(test)]
#[path = "thread_tests.rs"]
mod tests;
