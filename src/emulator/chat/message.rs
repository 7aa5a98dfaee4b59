//! A chat message, of a user or of the service itself.
//!
//! Plain data. What a message weighs is counted here, because all of them together are bounded. Used by `thread`,
//! `store`, `wire` and `events`.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::clock::Timestamp;

/// Name and value pairs of a thread, a participant or a message.
pub(super) type Metadata = BTreeMap<String, String>;

/// What a message weighs beside its texts, in bytes: its fields, and its places in the indexes.
const OVERHEAD: usize = 400;

/// A participant as a message tells of one.
#[derive(Debug, Clone)]
pub(super) struct Mentioned {
    pub(super) id: Arc<str>,
    pub(super) display_name: Option<String>,
    pub(super) share_history: Timestamp,
}

/// What a message says.
#[derive(Debug, Clone)]
pub(super) enum Content {
    Text(String),
    Html(String),
    TopicUpdated(String),
    ParticipantAdded(Vec<Mentioned>),
    ParticipantRemoved(Vec<Mentioned>),
}

impl Content {
    /// Its type, as bodies name it.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Html(_) => "html",
            Self::TopicUpdated(_) => "topicUpdated",
            Self::ParticipantAdded(_) => "participantAdded",
            Self::ParticipantRemoved(_) => "participantRemoved",
        }
    }

    /// The text that a user wrote; nothing if the service itself speaks.
    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) | Self::Html(text) => Some(text),
            _ => None,
        }
    }

    /// Replaces the text that a user wrote.
    pub(super) fn set_text(&mut self, new: String) {
        if let Self::Text(text) | Self::Html(text) = self {
            *text = new;
        }
    }
}

/// A message in a thread.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// Epoch milliseconds, unique in its thread.
    pub(super) id: u64,
    /// Its place in the list; an edit gives a new one.
    pub(super) sequence: u64,
    /// The id at first, then the time of the last change in epoch milliseconds.
    pub(super) version: u64,
    /// Its number among messages of all kinds and threads.
    pub(super) number: u64,
    /// Who sent it, or did what the service tells of.
    pub(super) author: Arc<str>,
    pub(super) author_name: String,
    pub(super) content: Content,
    pub(super) metadata: Metadata,
    pub(super) created: Timestamp,
    pub(super) edited: Option<Timestamp>,
    pub(super) deleted: Option<Timestamp>,
}

impl Message {
    /// Whether a user sent it.
    pub(super) fn is_of_user(&self) -> bool {
        self.content.text().is_some()
    }

    /// About what it takes in memory.
    pub(super) fn bytes(&self) -> usize {
        let content = match &self.content {
            Content::Text(text) | Content::Html(text) | Content::TopicUpdated(text) => text.len(),
            Content::ParticipantAdded(who) | Content::ParticipantRemoved(who) => who
                .iter()
                .map(|one| size_of::<Mentioned>() + one.display_name.as_ref().map_or(0, String::len))
                .sum(),
        };
        OVERHEAD + content + self.author_name.len() + bytes_of(&self.metadata)
    }
}

/// About what pairs take in memory.
pub(super) fn bytes_of(metadata: &Metadata) -> usize {
    const EACH: usize = 64;
    metadata.iter().map(|(name, value)| EACH + name.len() + value.len()).sum()
}
