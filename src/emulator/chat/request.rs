//! The bodies of chat requests, as the REST specification writes them.
//!
//! Pure: bytes in, values out. Unknown properties are ignored and `null` means absent. What the older version does not
//! know is not read from its requests. Used by the operations.

use serde_json::{Map, Value};

use super::identifier;
use super::message::Metadata;
use super::refusal::{self, Refusal};
use super::thread::Retention;
use super::times;
use crate::clock::Timestamp;
use crate::emulator::version::Version;

/// The most participants that one request may name.
const MAX_PARTICIPANTS: usize = 200;
/// The longest message, in bytes.
pub(super) const MAX_MESSAGE: usize = 28 * 1024;
/// The longest topic and the longest name, in characters.
const MAX_TOPIC: usize = 250;
const MAX_NAME: usize = 256;
/// All names and values of one object together, in bytes.
const MAX_METADATA: usize = 1024;
/// The days after which a thread may be deleted.
const DAYS: std::ops::RangeInclusive<u64> = 30..=90;

/// A participant to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NewParticipant {
    pub(super) id: String,
    pub(super) display_name: Option<String>,
    pub(super) share_history: Timestamp,
    pub(super) metadata: Metadata,
}

#[derive(Debug)]
pub(super) struct CreateThread {
    pub(super) topic: String,
    pub(super) participants: Vec<NewParticipant>,
    pub(super) metadata: Metadata,
    pub(super) retention: Option<Retention>,
}

/// What is to change; what is absent stays.
#[derive(Debug)]
pub(super) struct UpdateThread {
    pub(super) topic: Option<String>,
    /// A name without a value goes.
    pub(super) metadata: Vec<(String, Option<String>)>,
    pub(super) retention: Option<Retention>,
}

#[derive(Debug)]
pub(super) struct SendMessage {
    pub(super) text: String,
    pub(super) sender_name: String,
    pub(super) is_html: bool,
    pub(super) metadata: Metadata,
}

/// What is to change; what is absent stays.
#[derive(Debug)]
pub(super) struct UpdateMessage {
    pub(super) text: Option<String>,
    pub(super) metadata: Option<Metadata>,
}

pub(super) fn create_thread(body: &[u8], version: Version) -> Result<CreateThread, Refusal> {
    let body = object(body)?;
    let topic = topic(&body)?.ok_or_else(|| refusal::bad_request("The Topic field is required."))?;
    let participants = match property(&body, "participants") {
        Some(list) => participants(list, version)?,
        None => Vec::new(),
    };
    let (metadata, retention) = if version == Version::CHAT_2025 {
        (metadata(&body)?.unwrap_or_default(), retention(&body)?)
    } else {
        (Metadata::new(), None)
    };
    Ok(CreateThread { topic, participants, metadata, retention })
}

pub(super) fn update_thread(body: &[u8], version: Version) -> Result<UpdateThread, Refusal> {
    let body = object(body)?;
    let topic = topic(&body)?;
    let (mut metadata, mut kept) = (Vec::new(), None);
    if version == Version::CHAT_2025 {
        kept = retention(&body)?;
        for (name, value) in pairs(&body)?.into_iter().flatten() {
            match value {
                Value::Null => metadata.push((name.clone(), None)),
                value => metadata.push((name.clone(), Some(pair_value(value)?))),
            }
        }
    }
    Ok(UpdateThread { topic, metadata, retention: kept })
}

pub(super) fn add_participants(body: &[u8], version: Version) -> Result<Vec<NewParticipant>, Refusal> {
    let body = object(body)?;
    let list = property(&body, "participants")
        .ok_or_else(|| refusal::bad_request("The Participants field is required."))?;
    let participants = participants(list, version)?;
    if participants.is_empty() {
        return Err(refusal::bad_request("At least one participant is required."));
    }
    Ok(participants)
}

/// Whom to remove: the body is an identifier model.
pub(super) fn remove_participant(body: &[u8]) -> Result<String, Refusal> {
    identifier::read(&Value::Object(object(body)?))
}

pub(super) fn send_message(body: &[u8]) -> Result<SendMessage, Refusal> {
    let body = object(body)?;
    let text = content(&body)?.ok_or_else(|| refusal::bad_request("The Content field is required."))?;
    let kind = string(&body, "type")?.unwrap_or_else(|| "text".to_owned());
    let is_html = match kind.to_ascii_lowercase().as_str() {
        "text" => false,
        "html" => true,
        _ => return Err(refusal::bad_request("Only messages of the types text and html can be sent.")),
    };
    let sender_name = name(&body, "senderDisplayName")?.unwrap_or_default();
    Ok(SendMessage { text, sender_name, is_html, metadata: metadata(&body)?.unwrap_or_default() })
}

pub(super) fn update_message(body: &[u8]) -> Result<UpdateMessage, Refusal> {
    let body = object(body)?;
    Ok(UpdateMessage { text: content(&body)?, metadata: metadata(&body)? })
}

/// The message that was read.
pub(super) fn read_receipt(body: &[u8]) -> Result<u64, Refusal> {
    let id = string(&object(body)?, "chatMessageId")?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| refusal::bad_request("The ChatMessageId field is required."))?;
    message_id(&id)
}

/// Checks what is said of who types; nothing need be said.
pub(super) fn typing(body: &[u8]) -> Result<(), Refusal> {
    if !body.is_empty() {
        name(&object(body)?, "senderDisplayName")?;
    }
    Ok(())
}

/// The id of a message. What is no number names no message.
pub(super) fn message_id(text: &str) -> Result<u64, Refusal> {
    // Written one way only: `+1` and `01` name nothing.
    text.parse().ok().filter(|id: &u64| id.to_string() == text).ok_or_else(refusal::not_found)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Refusal> {
    // serde_json stops at 128 levels of nesting, so a hostile body cannot exhaust the stack.
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(refusal::bad_request("The request body is not a valid JSON object.")),
    }
}

/// A property that is there and not null.
fn property<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

fn string(body: &Map<String, Value>, name: &str) -> Result<Option<String>, Refusal> {
    match property(body, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(refusal::bad_request(&format!("The property {name} must be a string."))),
    }
}

fn name(body: &Map<String, Value>, property: &str) -> Result<Option<String>, Refusal> {
    let name = string(body, property)?;
    if name.as_ref().is_some_and(|name| name.chars().count() > MAX_NAME) {
        let message = format!("The property {property} must have at most {MAX_NAME} characters.");
        return Err(refusal::bad_request(&message));
    }
    Ok(name)
}

fn topic(body: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let topic = string(body, "topic")?;
    if topic.as_ref().is_some_and(|topic| topic.is_empty() || topic.chars().count() > MAX_TOPIC) {
        let message = format!("The property topic must have 1 to {MAX_TOPIC} characters.");
        return Err(refusal::bad_request(&message));
    }
    Ok(topic)
}

fn content(body: &Map<String, Value>) -> Result<Option<String>, Refusal> {
    let content = string(body, "content")?;
    match &content {
        Some(text) if text.is_empty() => Err(refusal::bad_request("The Content field is required.")),
        Some(text) if text.len() > MAX_MESSAGE => Err(refusal::too_large()),
        _ => Ok(content),
    }
}

fn participants(list: &Value, version: Version) -> Result<Vec<NewParticipant>, Refusal> {
    let Some(list) = list.as_array() else {
        return Err(refusal::bad_request("The property participants must be an array."));
    };
    if list.len() > MAX_PARTICIPANTS {
        return Err(refusal::too_many_participants());
    }
    list.iter().map(|item| participant(item, version)).collect()
}

fn participant(item: &Value, version: Version) -> Result<NewParticipant, Refusal> {
    let item = item.as_object().ok_or_else(|| refusal::bad_request("A participant must be an object."))?;
    let identifier = property(item, "communicationIdentifier")
        .ok_or_else(|| refusal::bad_request("The CommunicationIdentifier field is required."))?;
    let share_history = match string(item, "shareHistoryTime")? {
        Some(text) => times::read(&text)
            .ok_or_else(|| refusal::bad_request("The property shareHistoryTime must be a date and time."))?,
        None => Timestamp::default(),
    };
    let metadata = if version == Version::CHAT_2025 { metadata(item)? } else { None };
    Ok(NewParticipant {
        id: identifier::read(identifier)?,
        display_name: name(item, "displayName")?,
        share_history,
        metadata: metadata.unwrap_or_default(),
    })
}

/// The object `metadata`, if it is there and within its limit.
fn pairs(body: &Map<String, Value>) -> Result<Option<&Map<String, Value>>, Refusal> {
    let pairs = match property(body, "metadata") {
        None => return Ok(None),
        Some(Value::Object(pairs)) => pairs,
        Some(_) => return Err(refusal::bad_request("The property metadata must be an object.")),
    };
    let size: usize = pairs.iter().map(|(name, value)| name.len() + value.as_str().map_or(0, str::len)).sum();
    if size > MAX_METADATA {
        return Err(metadata_too_large());
    }
    Ok(Some(pairs))
}

fn pair_value(value: &Value) -> Result<String, Refusal> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| refusal::bad_request("The values of metadata must be strings."))
}

fn metadata(body: &Map<String, Value>) -> Result<Option<Metadata>, Refusal> {
    let Some(pairs) = pairs(body)? else { return Ok(None) };
    pairs
        .iter()
        .map(|(name, value)| Ok((name.clone(), pair_value(value)?)))
        .collect::<Result<_, _>>()
        .map(Some)
}

fn metadata_too_large() -> Refusal {
    refusal::bad_request("Metadata must have at most 1 KB in total.")
}

/// Whether pairs that were merged are still within the limit.
pub(super) fn check_merged(metadata: &Metadata) -> Result<(), Refusal> {
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA { Err(metadata_too_large()) } else { Ok(()) }
}

fn retention(body: &Map<String, Value>) -> Result<Option<Retention>, Refusal> {
    let Some(policy) = property(body, "retentionPolicy") else { return Ok(None) };
    let kind = policy.get("kind").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "none" => Ok(Some(Retention::None)),
        "threadCreationDate" => {
            let days = policy.get("deleteThreadAfterDays").and_then(Value::as_u64);
            let days = days.filter(|days| DAYS.contains(days)).and_then(|days| u32::try_from(days).ok());
            let refuse = || refusal::bad_request("The property deleteThreadAfterDays must be from 30 to 90.");
            Ok(Some(Retention::Days(days.ok_or_else(refuse)?)))
        }
        _ => Err(refusal::bad_request("The kind of a retentionPolicy must be threadCreationDate or none.")),
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
