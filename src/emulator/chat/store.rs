//! Every thread of the resource with its messages, and who is where. Bounded.
//!
//! Plain data behind the one lock of `Chat`; no I/O, no events. Messages go by count, age and size, the oldest of all
//! threads first; threads go by count and size, the one that was longest without a change first. Used by the operations.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::message::{Message, Metadata};
use super::refusal::{self, Refusal};
use super::repeats::Repeats;
use super::thread::{Draft, Retention, Thread};
use crate::clock::Timestamp;
use crate::emulator::mailbox::Bounds;

/// The most threads that are kept.
const MAX_THREADS: usize = 20_000;

pub(super) struct Store {
    bounds: Bounds,
    max_threads: usize,
    /// By number, in the order of creation.
    threads: BTreeMap<u64, Thread>,
    numbers: HashMap<Arc<str>, u64>,
    /// The threads of each user.
    users: HashMap<Arc<str>, BTreeSet<u64>>,
    /// The threads by their last change, and the last change of each.
    changes: BTreeMap<u64, u64>,
    last_changes: HashMap<u64, u64>,
    change: u64,
    next: u64,
    /// Thread and id of every message, by its number among messages of all kinds.
    messages: BTreeMap<u64, (u64, u64)>,
    message_bytes: usize,
    user_messages: usize,
    /// What each thread weighs without its messages, and all together.
    weights: HashMap<u64, usize>,
    thread_bytes: usize,
    /// The threads that have a day to end.
    ends: BTreeSet<(Timestamp, u64)>,
    repeats: Repeats,
}

impl Store {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            max_threads: MAX_THREADS,
            threads: BTreeMap::new(),
            numbers: HashMap::new(),
            users: HashMap::new(),
            changes: BTreeMap::new(),
            last_changes: HashMap::new(),
            change: 0,
            next: 0,
            messages: BTreeMap::new(),
            message_bytes: 0,
            user_messages: 0,
            weights: HashMap::new(),
            thread_bytes: 0,
            ends: BTreeSet::new(),
            repeats: Repeats::default(),
        }
    }

    /// How many messages of users are kept.
    pub(super) fn user_messages(&self) -> usize {
        self.user_messages
    }

    /// The one text of a user's id, so that a thousand threads share it.
    pub(super) fn shared_id(&self, user: &str) -> Arc<str> {
        match self.users.get_key_value(user) {
            Some((id, _)) => Arc::clone(id),
            None => user.into(),
        }
    }

    pub(super) fn thread(&self, number: u64) -> Result<&Thread, Refusal> {
        self.threads.get(&number).ok_or_else(refusal::not_found)
    }

    pub(super) fn thread_mut(&mut self, number: u64) -> Result<&mut Thread, Refusal> {
        self.threads.get_mut(&number).ok_or_else(refusal::not_found)
    }

    /// The number of a thread that the user takes part in, deleted or not.
    pub(super) fn entered(&self, id: &str, user: &str) -> Result<u64, Refusal> {
        let number = *self.numbers.get(id).ok_or_else(refusal::not_found)?;
        let thread = self.thread(number)?;
        if thread.participant(user).is_none() { Err(refusal::forbidden()) } else { Ok(number) }
    }

    /// The same for a thread that is not deleted.
    pub(super) fn entered_alive(&self, id: &str, user: &str) -> Result<u64, Refusal> {
        let number = self.entered(id, user)?;
        if self.thread(number)?.deleted.is_some() { Err(refusal::not_found()) } else { Ok(number) }
    }

    /// Takes a thread in. Nothing else may be done with it before its first message: see `settle`.
    pub(super) fn insert(&mut self, thread: Thread) -> u64 {
        let number = self.next;
        self.next = number.saturating_add(1);
        self.numbers.insert(Arc::clone(&thread.id), number);
        for participant in &thread.participants {
            self.users.entry(Arc::clone(&participant.id)).or_default().insert(number);
        }
        self.threads.insert(number, thread);
        number
    }

    /// Notes that a user joined a thread.
    pub(super) fn joined(&mut self, number: u64, user: &Arc<str>) {
        self.users.entry(Arc::clone(user)).or_default().insert(number);
    }

    /// Notes that a user left a thread.
    pub(super) fn left(&mut self, number: u64, user: &str) {
        if let Some(threads) = self.users.get_mut(user) {
            threads.remove(&number);
            if threads.is_empty() {
                self.users.remove(user);
            }
        }
    }

    /// Sets when the service deletes the thread.
    pub(super) fn retain(&mut self, number: u64, retention: Option<Retention>) {
        let Some(thread) = self.threads.get_mut(&number) else { return };
        if let Some(end) = end(thread) {
            self.ends.remove(&(end, number));
        }
        thread.retention = retention;
        if let Some(end) = end(thread) {
            self.ends.insert((end, number));
        }
    }

    /// Adds a message to a thread; `sequence` is its number among those of all kinds.
    pub(super) fn append(
        &mut self,
        number: u64,
        draft: Draft,
        sequence: u64,
        now: Timestamp,
    ) -> Result<Message, Refusal> {
        let message = self.thread_mut(number)?.append(draft, sequence, now);
        self.messages.insert(sequence, (number, message.id));
        self.message_bytes = self.message_bytes.saturating_add(message.bytes());
        if message.is_of_user() {
            self.user_messages = self.user_messages.saturating_add(1);
        }
        Ok(message)
    }

    /// Changes a message of a thread, if it is there.
    pub(super) fn edit(
        &mut self,
        number: u64,
        id: u64,
        (text, metadata): (Option<String>, Option<Metadata>),
        now: Timestamp,
    ) -> Result<Message, Refusal> {
        self.weighed(number, id, |thread| thread.edit(id, text, metadata, now))
    }

    /// Empties a message of a thread, if it is there.
    pub(super) fn erase(&mut self, number: u64, id: u64, now: Timestamp) -> Result<Message, Refusal> {
        self.weighed(number, id, |thread| thread.erase(id, now))
    }

    fn weighed(
        &mut self,
        number: u64,
        id: u64,
        change: impl FnOnce(&mut Thread) -> Option<Message>,
    ) -> Result<Message, Refusal> {
        let thread = self.threads.get_mut(&number).ok_or_else(refusal::not_found)?;
        let before = thread.message(id).map_or(0, Message::bytes);
        let message = change(thread).ok_or_else(refusal::not_found)?;
        self.message_bytes = self.message_bytes.saturating_sub(before).saturating_add(message.bytes());
        Ok(message)
    }

    /// Ends a change of a thread: notes it and makes room. The thread or its messages may be gone afterwards.
    pub(super) fn settle(&mut self, number: u64) {
        let Some(thread) = self.threads.get(&number) else { return };
        let weight = thread.bytes();
        let before = self.weights.insert(number, weight).unwrap_or(0);
        self.thread_bytes = self.thread_bytes.saturating_sub(before).saturating_add(weight);
        self.change = self.change.saturating_add(1);
        if let Some(before) = self.last_changes.insert(number, self.change) {
            self.changes.remove(&before);
        }
        self.changes.insert(self.change, number);
        self.make_room();
    }

    fn make_room(&mut self) {
        // The newest thread stays, however little room there is: its maker was told of it.
        while self.threads.len() > 1
            && (self.threads.len() > self.max_threads || self.thread_bytes > self.bounds.bytes)
        {
            let Some((_, number)) = self.changes.pop_first() else { break };
            self.forget_thread(number);
        }
        while self.messages.len() > self.bounds.count || self.message_bytes > self.bounds.bytes {
            if !self.forget_oldest_message() {
                break;
            }
        }
    }

    /// Forgets what is too old by now. Called before anything is looked at.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while let Some((_, (number, id))) = self.messages.first_key_value() {
            let message = self.threads.get(number).and_then(|thread| thread.message(*id));
            if message.is_some_and(|message| now.since(message.created) <= self.bounds.age) {
                break;
            }
            self.forget_oldest_message();
        }
        while let Some((end, number)) = self.ends.first().copied() {
            if end > now {
                break;
            }
            self.forget_thread(number);
            self.ends.remove(&(end, number));
        }
        self.repeats.expire(now);
    }

    fn forget_oldest_message(&mut self) -> bool {
        let Some((_, (number, id))) = self.messages.pop_first() else { return false };
        if let Some(message) = self.threads.get_mut(&number).and_then(|thread| thread.forget(id)) {
            self.let_go(&message);
        }
        true
    }

    fn let_go(&mut self, message: &Message) {
        self.message_bytes = self.message_bytes.saturating_sub(message.bytes());
        if message.is_of_user() {
            self.user_messages = self.user_messages.saturating_sub(1);
        }
    }

    fn forget_thread(&mut self, number: u64) {
        let Some(thread) = self.threads.remove(&number) else { return };
        self.numbers.remove(&thread.id);
        if let Some(change) = self.last_changes.remove(&number) {
            self.changes.remove(&change);
        }
        self.thread_bytes = self.thread_bytes.saturating_sub(self.weights.remove(&number).unwrap_or(0));
        if let Some(end) = end(&thread) {
            self.ends.remove(&(end, number));
        }
        for participant in &thread.participants {
            self.left(number, &participant.id);
        }
        for message in thread.messages() {
            self.messages.remove(&message.number);
            self.let_go(message);
        }
    }

    /// The thread that a repeatable request made, if it is still there.
    pub(super) fn made_by(&self, key: &str) -> Option<u64> {
        self.repeats.thread(key).filter(|number| self.threads.contains_key(number))
    }

    /// Remembers what a repeatable request made.
    pub(super) fn remember(&mut self, key: String, thread: u64, at: Timestamp) {
        self.repeats.remember(key, thread, at);
    }

    /// The threads of a user, the newest first.
    pub(super) fn threads_of(&self, user: &str) -> impl Iterator<Item = (u64, &Thread)> {
        let numbers = self.users.get(user).into_iter().flatten().rev();
        numbers.filter_map(|number| Some((*number, self.threads.get(number)?)))
    }

    /// All threads, the newest first.
    pub(super) fn all_threads(&self) -> impl Iterator<Item = &Thread> {
        self.threads.values().rev()
    }

    /// The messages of all threads with a smaller number, the newest first.
    pub(super) fn messages_before(&self, number: u64) -> impl Iterator<Item = (&Thread, &Message)> {
        self.messages.range(..number).rev().filter_map(|(_, (thread, id))| {
            let thread = self.threads.get(thread)?;
            Some((thread, thread.message(*id)?))
        })
    }

    /// How many threads are kept.
    pub(super) fn thread_count(&self) -> usize {
        self.threads.len()
    }

    /// A thread by its id, whoever asks.
    pub(super) fn by_id(&self, id: &str) -> Option<&Thread> {
        self.threads.get(self.numbers.get(id)?)
    }
}

/// When the service deletes the thread.
fn end(thread: &Thread) -> Option<Timestamp> {
    match thread.retention? {
        Retention::None => None,
        Retention::Days(days) => {
            Some(thread.created.plus(Duration::from_secs(u64::from(days).saturating_mul(86_400))))
        }
    }
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
