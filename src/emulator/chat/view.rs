//! How the inbox and the control paths see chat: messages of users in the shape of all services, and the threads.
//!
//! Messages of the service itself (topic changed, participant added) are not shown. The lock is held for a batch at a
//! time, so that whoever looks through many messages does not stop the callers of the API. Used by `control`.

use std::ops::ControlFlow;

use serde_json::{Value, json};

use super::Chat;
use super::message::Message;
use super::thread::Thread;
use crate::emulator::mailbox::{self, Detailed, Kind};
use crate::emulator::times;

/// How many messages are copied under one hold of the lock.
const BATCH: usize = 256;

impl Chat {
    /// Shows the messages of users, the newest first, until told to stop.
    pub(in crate::emulator) fn newest_first(&self, see: &mut dyn FnMut(mailbox::Message) -> ControlFlow<()>) {
        let mut before = u64::MAX;
        loop {
            let (mut batch, mut looked_at) = (Vec::new(), 0);
            let store = self.store();
            for (thread, message) in store.messages_before(before).take(BATCH) {
                (before, looked_at) = (message.number, looked_at + 1);
                batch.extend(shown(thread, message));
            }
            drop(store);
            for message in batch {
                if see(message).is_break() {
                    return;
                }
            }
            if looked_at < BATCH {
                return;
            }
        }
    }

    /// A message of a user by thread id, a slash, message id.
    pub(in crate::emulator) fn find(&self, id: &str) -> Option<Detailed> {
        let (thread, message) = id.rsplit_once('/')?;
        let store = self.store();
        let thread = store.by_id(thread)?;
        let message = thread.message(message.parse().ok()?)?;
        let detail = json!({
            "type": message.content.kind(),
            "version": message.version.to_string(),
            "sequence_id": message.sequence.to_string(),
            "edited_at": message.edited.map(times::iso_8601),
            "deleted_at": message.deleted.map(times::iso_8601),
            "metadata": message.metadata,
        });
        Some(Detailed { message: shown(thread, message)?, detail })
    }

    /// How many messages of users are kept.
    pub(in crate::emulator) fn count(&self) -> usize {
        self.store().user_messages()
    }

    /// The threads, the newest first; those that were deleted are among them.
    pub(in crate::emulator) fn threads(&self, limit: usize) -> Vec<Value> {
        let participants = |thread: &Thread| -> Vec<Value> {
            let of =
                |one: &super::thread::Participant| json!({ "id": *one.id, "display_name": one.display_name });
            thread.participants.iter().map(of).collect()
        };
        let shown = |thread: &Thread| {
            json!({
                "id": *thread.id,
                "topic": thread.topic,
                "created_at": times::iso_8601(thread.created),
                "created_by": *thread.created_by,
                "deleted_at": thread.deleted.map(times::iso_8601),
                "participants": participants(thread),
                "messages": thread.user_messages,
            })
        };
        self.store().all_threads().take(limit).map(shown).collect()
    }

    /// How many threads are kept.
    pub(in crate::emulator) fn thread_count(&self) -> usize {
        self.store().thread_count()
    }
}

/// A message in the shape of all services; nothing if the service itself speaks.
fn shown(thread: &Thread, message: &Message) -> Option<mailbox::Message> {
    let text = message.content.text()?;
    let status = match (message.deleted, message.edited) {
        (Some(_), _) => "Deleted",
        (None, Some(_)) => "Edited",
        (None, None) => "Sent",
    };
    Some(mailbox::Message {
        sequence: message.number,
        kind: Kind::Chat,
        id: format!("{}/{}", thread.id, message.id),
        at: times::iso_8601(message.created),
        direction: "outbound",
        from: message.author.to_string(),
        from_name: Some(message.author_name.clone()).filter(|name| !name.is_empty()),
        to: Vec::new(),
        subject: Some(thread.topic.clone()),
        text: text.to_owned(),
        status: status.to_owned(),
        thread: Some(thread.id.to_string()),
        attachments: 0,
        tag: None,
    })
}
