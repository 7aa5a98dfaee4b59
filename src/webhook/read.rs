//! Reads what Event Grid posts, in its own schema or as CloudEvents 1.0, into the events of messaging.
//!
//! Lenient where the published examples differ: names of fields have no case, numbers may lack their `+`, states any
//! case. Strict where a mistake would be kept: what lacks the ids that tie it to a message, or has longer parts than ACS
//! ever sends, is malformed. Pure; no input makes it panic. Used by `server`.

use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::words;
use crate::clock::Timestamp;
use crate::messaging::types::{Failure, State};
use crate::messaging::{Event, Happened};

const PREFIX: &str = "Microsoft.Communication.";
const VALIDATION: &str = "Microsoft.EventGrid.SubscriptionValidationEvent";
/// The longest id, number, address or name.
const MAX_SHORT: usize = 1024;
/// The longest text: a chat message has at most 28 KB.
const MAX_LONG: usize = 65_536;

/// The events of chat that are known.
const CHAT: &[&str] = &[
    "ChatMessageReceived",
    "ChatMessageReceivedInThread",
    "ChatMessageEdited",
    "ChatMessageEditedInThread",
    "ChatMessageDeleted",
    "ChatMessageDeletedInThread",
    "ChatThreadCreated",
    "ChatThreadCreatedWithUser",
    "ChatThreadDeleted",
    "ChatThreadWithUserDeleted",
    "ChatThreadPropertiesUpdated",
    "ChatThreadPropertiesUpdatedPerUser",
    "ChatThreadParticipantAdded",
    "ChatThreadParticipantRemoved",
    "ChatParticipantAddedToThreadWithUser",
    "ChatParticipantRemovedFromThreadWithUser",
];

/// What a request holds.
pub(super) enum Post {
    /// The question whether events are wanted, with the code to answer.
    Validation(String),
    /// Events; none where one is of a type that is not known.
    Events(Vec<Option<Event>>),
}

/// Why a request cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// It is no JSON, or neither an object nor a list.
    Body,
    /// More events than `limit`.
    TooMany,
    /// The event at this place, from 1.
    Event(usize),
}

/// Reads a body; `now` stands in for times that are missing or wrong.
pub(super) fn read(body: &[u8], limit: usize, now: Timestamp) -> Result<Post, Malformed> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let items = match serde_json::from_slice(body) {
        Ok(Value::Array(items)) => items,
        Ok(item @ Value::Object(_)) => vec![item],
        _ => return Err(Malformed::Body),
    };
    if items.len() > limit {
        return Err(Malformed::TooMany);
    }
    if let [Value::Object(item)] = items.as_slice()
        && kind(item).is_some_and(|kind| kind.eq_ignore_ascii_case(VALIDATION))
    {
        let code = object(item, "data").and_then(|data| short(data, "validationCode").ok());
        return code.filter(|code| !code.is_empty()).map(Post::Validation).ok_or(Malformed::Event(1));
    }
    let events = items.iter().enumerate().map(|(place, item)| {
        let item = item.as_object().ok_or(Malformed::Event(place + 1))?;
        event(item, now).map_err(|Wrong| Malformed::Event(place + 1))
    });
    events.collect::<Result<_, _>>().map(Post::Events)
}

/// An event that lacks something or has too much of it.
struct Wrong;

/// One event; none if its type is not known.
fn event(item: &Map<String, Value>, now: Timestamp) -> Result<Option<Event>, Wrong> {
    let kind = kind(item).ok_or(Wrong)?;
    let id = id(item, "id")?;
    let happened = match without_prefix(kind) {
        Some(name) => happened(name, item)?,
        None => None,
    };
    let at = text(item, "eventTime").or_else(|| text(item, "time")).and_then(date).unwrap_or(now);
    Ok(happened.map(|happened| Event { id, at, message: None, caller: None, happened }))
}

fn happened(name: &str, item: &Map<String, Value>) -> Result<Option<Happened>, Wrong> {
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    let chat = CHAT.iter().find(|known| is(known));
    let data = || object(item, "data").ok_or(Wrong);
    Ok(Some(if is("SMSDeliveryReportReceived") {
        sms_delivery(data()?)?
    } else if is("SMSReceived") {
        let data = data()?;
        Happened::SmsReceived {
            upstream_id: id(data, "messageId")?,
            from: number(data, "from")?,
            to: number(data, "to")?,
            text: long(data, "message")?,
        }
    } else if is("EmailDeliveryReportReceived") {
        email_delivery(data()?)?
    } else if is("EmailEngagementTrackingReportReceived") {
        let data = data()?;
        Happened::EmailEngagement {
            upstream_id: operation(data)?,
            address: short(data, "recipient")?,
            engagement: short(data, "engagementType")?.to_ascii_lowercase(),
            link: long(data, "engagementContext")?,
        }
    } else if let Some(name) = chat {
        self::chat(name, data()?)?
    } else {
        return Ok(None);
    }))
}

fn sms_delivery(data: &Map<String, Value>) -> Result<Happened, Wrong> {
    let status = short(data, "deliveryStatus")?;
    let state = match status.to_ascii_lowercase().as_str() {
        "delivered" => State::Delivered,
        "failed" => State::Failed,
        _ => NO_CHANGE,
    };
    Ok(Happened::SmsDelivery {
        upstream_id: id(data, "messageId")?,
        to: number(data, "to")?,
        from: number(data, "from")?,
        state,
        detail: Failure {
            code: words::code(&status),
            detail: words::ordinary(&long(data, "deliveryStatusDetails")?),
        },
        tag: long(data, "tag")?,
    })
}

fn email_delivery(data: &Map<String, Value>) -> Result<Happened, Wrong> {
    let status = short(data, "status")?;
    let state = match status.to_ascii_lowercase().as_str() {
        "delivered" => State::Delivered,
        "bounced" | "failed" | "filteredspam" | "quarantined" | "suppressed" => State::Failed,
        // `Expanded` among them: a list of recipients was replaced by its members.
        _ => NO_CHANGE,
    };
    let said = match object(data, "deliveryStatusDetails") {
        Some(details) => long(details, "statusMessage")?,
        None => long(data, "deliveryStatusDetails")?,
    };
    Ok(Happened::EmailDelivery {
        upstream_id: operation(data)?,
        address: short(data, "recipient")?,
        state,
        detail: Failure { code: words::code(&status), detail: words::ordinary(&said) },
    })
}

fn chat(name: &str, data: &Map<String, Value>) -> Result<Happened, Wrong> {
    let party = |names: &[&str]| {
        let found = names.iter().find_map(|name| object(data, name));
        found.map_or(Ok(String::new()), raw_id)
    };
    let subject = match ["participantAdded", "participantRemoved"].iter().find_map(|name| object(data, name))
    {
        Some(participant) => {
            object(participant, "participantCommunicationIdentifier").map_or(Ok(String::new()), raw_id)?
        }
        None => party(&["recipientCommunicationIdentifier"])?,
    };
    Ok(Happened::Chat {
        name: name.to_owned(),
        thread: id(data, "threadId")?,
        message: short(data, "messageId")?,
        actor: party(&[
            "senderCommunicationIdentifier",
            "createdByCommunicationIdentifier",
            "deletedByCommunicationIdentifier",
            "editedByCommunicationIdentifier",
            "addedByCommunicationIdentifier",
            "removedByCommunicationIdentifier",
        ])?,
        subject,
        text: long(data, "messageBody")?,
        topic: object(data, "properties")
            .map_or(Ok(String::new()), |properties| long(properties, "topic"))?,
    })
}

/// A state that nothing can be brought to: the event is told, and changes nothing.
const NO_CHANGE: State = State::Accepted;

/// The type, in either schema.
fn kind(item: &Map<String, Value>) -> Option<&str> {
    text(item, "eventType").or_else(|| text(item, "type")).filter(|kind| !kind.is_empty())
}

fn without_prefix(kind: &str) -> Option<&str> {
    let (prefix, name) = (kind.get(..PREFIX.len())?, kind.get(PREFIX.len()..)?);
    prefix.eq_ignore_ascii_case(PREFIX).then_some(name)
}

/// How ACS names a participant of a chat.
fn raw_id(identifier: &Map<String, Value>) -> Result<String, Wrong> {
    let raw = short(identifier, "rawId")?;
    match object(identifier, "communicationUser") {
        Some(user) if raw.is_empty() => short(user, "id"),
        _ => Ok(raw),
    }
}

/// A field by name: exactly, or else in whatever case.
fn field<'v>(object: &'v Map<String, Value>, name: &str) -> Option<&'v Value> {
    let in_any_case =
        || object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    object.get(name).or_else(in_any_case)
}

fn object<'v>(within: &'v Map<String, Value>, name: &str) -> Option<&'v Map<String, Value>> {
    field(within, name)?.as_object()
}

fn text<'v>(within: &'v Map<String, Value>, name: &str) -> Option<&'v str> {
    field(within, name)?.as_str()
}

/// A text of at most this many bytes; empty if there is none.
fn bounded(within: &Map<String, Value>, name: &str, most: usize) -> Result<String, Wrong> {
    match field(within, name) {
        Some(Value::String(text)) if text.len() <= most => Ok(text.clone()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(_)) => Err(Wrong),
        _ => Ok(String::new()),
    }
}

fn long(within: &Map<String, Value>, name: &str) -> Result<String, Wrong> {
    bounded(within, name, MAX_LONG)
}

/// A short text without control characters.
fn short(within: &Map<String, Value>, name: &str) -> Result<String, Wrong> {
    bounded(within, name, MAX_SHORT)
        .and_then(|text| if text.chars().any(char::is_control) { Err(Wrong) } else { Ok(text) })
}

/// A short text that must not be empty.
fn id(within: &Map<String, Value>, name: &str) -> Result<String, Wrong> {
    short(within, name).and_then(|id| if id.is_empty() { Err(Wrong) } else { Ok(id) })
}

/// The operation of a mail, written as the broker writes it.
fn operation(data: &Map<String, Value>) -> Result<String, Wrong> {
    let id = id(data, "messageId")?;
    Ok(uuid::Uuid::try_parse(&id).map_or(id, |uuid| uuid.to_string()))
}

/// A telephone number with its `+`, which the published examples leave out; anything else as it is.
fn number(data: &Map<String, Value>, name: &str) -> Result<String, Wrong> {
    let number = short(data, name)?;
    let is_long = (7..=15).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    Ok(if is_long { format!("+{number}") } else { number })
}

fn date(text: &str) -> Option<Timestamp> {
    let date = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(date.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
