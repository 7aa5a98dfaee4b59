//! The guard against the same content under another request id: optional, for callers who lose their request ids.
//!
//! A mark in the store stands for "this caller sent this content lately". It is kept in the same round trip as the
//! record of the message, by the store's own insert, so that of any number of replicas one passes. Nobody is asked again
//! unless the mark is another message's: then that message decides, for one that has failed must not stand in the way
//! of the next. It never holds the content, and never sends. Used by `sms` and `email`.

#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::record::{Fingerprint, Record};
use super::types::{Channel, MessageId};
use super::{ASK_AGAIN, Messaging, events, report};
use crate::broker::error::Error;
use crate::broker::ports::StoreError;
use crate::broker::types::Caller;
use crate::clock::Timestamp;

/// Names content that one caller sends through one channel. It is a hash of it.
pub(super) struct Content(MessageId);

impl Content {
    /// Of this fingerprint, which must cover whatever tells one message from another.
    pub(super) fn new(channel: Channel, caller: &Caller, content: &Fingerprint) -> Self {
        let parts = ["content", channel.name(), caller.name(), content.as_str()];
        let name = Fingerprint::of(parts.into_iter().map(str::as_bytes));
        Self(MessageId::stored(format!("same_{}", name.as_str())))
    }
}

/// What is kept under the name of some content.
#[derive(Serialize, Deserialize)]
pub(super) struct Mark {
    /// The message that was sent with it.
    message: String,
    /// Since when.
    since: Timestamp,
}

impl Mark {
    pub(super) fn bytes(&self) -> Vec<u8> {
        // Two short fields always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|_| Error::internal("a mark of content cannot be read"))
    }
}

/// What marking came to.
pub(super) enum Marked {
    /// There is no guard.
    Off,
    /// It is ours; `fresh` if it was not there before.
    Ours { version: u64, fresh: bool },
    /// Another message has it.
    Theirs { version: u64, bytes: Vec<u8> },
}

impl Messaging {
    /// Marks content as sent by this message, unless another one has; for the first round trip.
    pub(super) async fn mark(
        &self,
        content: &Content,
        id: &MessageId,
        now: Timestamp,
    ) -> Result<Marked, StoreError> {
        let within = self.0.settings.duplicates_within;
        if within.is_zero() {
            return Ok(Marked::Off);
        }
        let mark = Mark { message: id.as_str().to_owned(), since: now };
        Ok(match self.0.stores.messages.insert(&content.0, &mark.bytes(), within).await? {
            None => Marked::Ours { version: 1, fresh: true },
            Some(known) => match Mark::read(&known.bytes) {
                Ok(mark) if mark.message == id.as_str() => {
                    Marked::Ours { version: known.version, fresh: false }
                }
                _ => Marked::Theirs { version: known.version, bytes: known.bytes },
            },
        })
    }

    /// Whether a message may be sent as far as its content goes; it takes the mark over from one that has failed.
    pub(super) async fn pass(
        &self,
        content: &Content,
        marked: &mut Marked,
        id: &MessageId,
        now: Timestamp,
    ) -> Result<(), Error> {
        let parts = &self.0;
        let within: Duration = parts.settings.duplicates_within;
        for _ in 0..events::TRIES {
            let Marked::Theirs { version, bytes } = marked else { return Ok(()) };
            let mark = Mark::read(bytes)?;
            let earlier = MessageId::stored(mark.message);
            let is_over = match parts.stores.messages.get(&earlier).await? {
                Some(kept) => Record::read(&kept.bytes)?.has_failed(),
                // Nothing was sent, and whoever marked it has given up or died; or is at it this moment.
                None => now.since(mark.since) > parts.settings.hold,
            };
            if !is_over {
                return Err(Error::DuplicateContent { earlier: earlier.as_str().to_owned() });
            }
            let ours = Mark { message: id.as_str().to_owned(), since: now }.bytes();
            *marked = match parts.stores.messages.replace(&content.0, *version, &ours, within).await? {
                Ok(version) => Marked::Ours { version, fresh: true },
                // Somebody else took it over, perhaps a repetition of this very request.
                Err(_) => self.mark(content, id, now).await?,
            };
        }
        Err(Error::RequestInProgress { retry_after: ASK_AGAIN })
    }

    /// Nothing is sent by this call: content that it marked is free again.
    pub(super) async fn unmark(&self, content: &Content, marked: &Marked) {
        if let Marked::Ours { version, fresh: true } = marked {
            let removed = self.0.stores.messages.remove(&content.0, *version).await;
            report(removed.map(drop), "content that was not sent counts as sent for a while");
        }
    }
}
