//! The bodies of chat answers, as the REST specification and recorded answers write them.
//!
//! Pure: values in, JSON out. What the older version does not know is not in its answers. Used by the operations.

use serde_json::{Map, Value, json};

use super::identifier::model;
use super::message::{Content, Mentioned, Message, Metadata};
use super::thread::{Participant, Receipt, Retention, Thread};
use super::times::seconds;
use crate::emulator::version::Version;

/// A thread with its properties.
pub(super) fn thread(thread: &Thread, version: Version) -> Value {
    let mut body = Map::new();
    body.insert("id".into(), (*thread.id).into());
    body.insert("topic".into(), thread.topic.as_str().into());
    body.insert("createdOn".into(), seconds(thread.created).into());
    body.insert("createdByCommunicationIdentifier".into(), model(&thread.created_by));
    if let Some(deleted) = thread.deleted {
        body.insert("deletedOn".into(), seconds(deleted).into());
    }
    if version == Version::CHAT_2025 {
        add_metadata(&mut body, &thread.metadata);
        match thread.retention {
            Some(Retention::None) => {
                body.insert("retentionPolicy".into(), json!({ "kind": "none" }));
            }
            Some(Retention::Days(days)) => {
                let policy = json!({ "kind": "threadCreationDate", "deleteThreadAfterDays": days });
                body.insert("retentionPolicy".into(), policy);
            }
            None => {}
        }
    }
    Value::Object(body)
}

/// A thread in a list.
pub(super) fn thread_item(thread: &Thread) -> Value {
    let mut body = Map::new();
    body.insert("id".into(), (*thread.id).into());
    body.insert("topic".into(), thread.topic.as_str().into());
    if let Some(deleted) = thread.deleted {
        body.insert("deletedOn".into(), seconds(deleted).into());
    }
    if let Some(received) = thread.last_received {
        body.insert("lastMessageReceivedOn".into(), seconds(received).into());
    }
    Value::Object(body)
}

/// A participant in a list.
pub(super) fn participant(participant: &Participant, version: Version) -> Value {
    let mut body = mentioned(&participant.mentioned());
    if version == Version::CHAT_2025
        && let Some(body) = body.as_object_mut()
    {
        add_metadata(body, &participant.metadata);
    }
    body
}

fn mentioned(participant: &Mentioned) -> Value {
    let mut body = Map::new();
    body.insert("communicationIdentifier".into(), model(&participant.id));
    if let Some(name) = &participant.display_name {
        body.insert("displayName".into(), name.as_str().into());
    }
    body.insert("shareHistoryTime".into(), seconds(participant.share_history).into());
    Value::Object(body)
}

/// A participant that could not be taken in.
pub(super) fn invalid_participant(raw_id: &str) -> Value {
    json!({ "code": "403", "message": "Permissions check failed", "target": raw_id })
}

/// A message. What the service itself tells has an initiator and no sender.
pub(super) fn message(message: &Message) -> Value {
    let mut content = Map::new();
    let mut body = Map::new();
    body.insert("id".into(), message.id.to_string().into());
    body.insert("type".into(), message.content.kind().into());
    body.insert("sequenceId".into(), message.sequence.to_string().into());
    body.insert("version".into(), message.version.to_string().into());
    match &message.content {
        Content::Text(text) | Content::Html(text) => {
            content.insert("message".into(), text.as_str().into());
            body.insert("senderDisplayName".into(), message.author_name.as_str().into());
            body.insert("senderCommunicationIdentifier".into(), model(&message.author));
        }
        Content::TopicUpdated(topic) => {
            content.insert("topic".into(), topic.as_str().into());
            content.insert("initiatorCommunicationIdentifier".into(), model(&message.author));
        }
        Content::ParticipantAdded(who) | Content::ParticipantRemoved(who) => {
            content.insert("participants".into(), who.iter().map(mentioned).collect());
            content.insert("initiatorCommunicationIdentifier".into(), model(&message.author));
        }
    }
    body.insert("content".into(), Value::Object(content));
    body.insert("createdOn".into(), seconds(message.created).into());
    if let Some(edited) = message.edited {
        body.insert("editedOn".into(), seconds(edited).into());
    }
    if let Some(deleted) = message.deleted {
        body.insert("deletedOn".into(), seconds(deleted).into());
    }
    add_metadata(&mut body, &message.metadata);
    Value::Object(body)
}

/// How far a participant has read.
pub(super) fn receipt(reader: &Participant, receipt: Receipt) -> Value {
    json!({
        "senderCommunicationIdentifier": model(&reader.id),
        "chatMessageId": receipt.message.to_string(),
        "readOn": seconds(receipt.at),
    })
}

/// A page of a list; the link is there only if more follows.
pub(super) fn page(items: Vec<Value>, next: Option<String>) -> Value {
    let mut body = Map::new();
    body.insert("value".into(), items.into());
    if let Some(next) = next {
        body.insert("nextLink".into(), next.into());
    }
    Value::Object(body)
}

/// Metadata is in a body only if there is any.
fn add_metadata(body: &mut Map<String, Value>, metadata: &Metadata) {
    if !metadata.is_empty() {
        body.insert("metadata".into(), pairs(metadata));
    }
}

/// Metadata as JSON.
pub(super) fn pairs(metadata: &Metadata) -> Value {
    metadata
        .iter()
        .map(|(name, value)| (name.clone(), Value::from(value.as_str())))
        .collect::<Map<_, _>>()
        .into()
}
