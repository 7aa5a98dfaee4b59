//! The bodies of the Chat area, and what the rest of the client makes of them.
//!
//! Pure. Times are read in any form and written in whole seconds, as ACS does it. An answer that lacks what it must
//! have is a problem with a fixed text. Used by `chat`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use url::Url;

use super::super::{body, fault};
use super::Page;
use crate::clock::Timestamp;

/// A party of a chat, by its raw id, such as `8:acs:<resource>_<user>`.
#[derive(Clone, PartialEq, Eq)]
pub struct Party {
    /// The raw id.
    pub id: String,
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
    /// Texts of the app's own.
    pub metadata: BTreeMap<String, String>,
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
pub struct Refused {
    /// The raw id.
    pub id: String,
    /// ACS's code.
    pub code: Option<String>,
    /// What ACS said, reduced to ordinary words.
    pub message: Option<String>,
}

/// A message of a thread.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// `text`, `html`, or what ACS wrote: `topicUpdated`, `participantAdded`, `participantRemoved`.
    pub kind: String,
    /// Its place in the thread.
    pub sequence: i64,
    /// Changes with every edit.
    pub version: String,
    /// The text.
    pub text: Option<String>,
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
    pub metadata: BTreeMap<String, String>,
    /// The new topic.
    pub topic: Option<String>,
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

// The bodies below hold ids and texts: no `Debug`.

#[derive(Serialize)]
pub(super) struct CreateBody<'a> {
    pub topic: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub participants: Vec<ParticipantBody>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct AddBody {
    pub participants: Vec<ParticipantBody>,
}

#[derive(Serialize)]
pub(super) struct TopicBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SendBody<'a> {
    pub content: &'a str,
    #[serde(rename = "type")]
    pub kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_display_name: Option<&'a str>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: &'a BTreeMap<String, String>,
}

#[derive(Serialize)]
pub(super) struct UpdateMessageBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a BTreeMap<String, String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReceiptBody<'a> {
    pub chat_message_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TypingBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender_display_name: Option<&'a str>,
}

#[derive(Deserialize)]
pub(super) struct IdBody {
    pub id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartyBody {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    raw_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    communication_user: Option<UserBody>,
}

#[derive(Serialize, Deserialize)]
struct UserBody {
    id: String,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ParticipantBody {
    communication_identifier: PartyBody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    display_name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share_history_time: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedBody {
    pub chat_thread: Option<ThreadBody>,
    #[serde(default)]
    pub invalid_participants: Option<Vec<RefusedBody>>,
}

#[derive(Deserialize)]
pub(super) struct RefusedBody {
    code: Option<String>,
    message: Option<String>,
    target: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadBody {
    id: String,
    topic: String,
    created_on: String,
    created_by_communication_identifier: PartyBody,
    deleted_on: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ThreadItemBody {
    id: String,
    topic: String,
    deleted_on: Option<String>,
    last_message_received_on: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MessageBody {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    sequence_id: String,
    version: String,
    content: Option<ContentBody>,
    sender_display_name: Option<String>,
    created_on: String,
    sender_communication_identifier: Option<PartyBody>,
    deleted_on: Option<String>,
    edited_on: Option<String>,
    metadata: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContentBody {
    message: Option<String>,
    topic: Option<String>,
    participants: Option<Vec<ParticipantBody>>,
    initiator_communication_identifier: Option<PartyBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ReadReceiptBody {
    sender_communication_identifier: PartyBody,
    chat_message_id: String,
    read_on: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageBody<T> {
    value: Vec<T>,
    next_link: Option<String>,
}

impl<T> PageBody<T> {
    pub(super) fn read<E>(
        self,
        read: impl Fn(T) -> Result<E, &'static str>,
    ) -> Result<Page<E>, &'static str> {
        let next = self.next_link.filter(|link| !link.is_empty());
        let next = next.map(|link| place(&link).ok_or("nextLink cannot be read")).transpose()?;
        let entries = self.value.into_iter().map(read).collect::<Result<_, _>>()?;
        Ok(Page { entries, next })
    }
}

/// The names that a link to the next page may have in its query; others are dropped with the link.
const CONTINUES: [&str; 4] = ["syncState", "startTime", "maxPageSize", "skip"];

/// Where a list goes on, of the absolute link to it: its query without the version. The host is left out on purpose:
/// a list is only ever continued where it began.
fn place(link: &str) -> Option<String> {
    let link = Url::parse(link).ok()?;
    let mut place = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in link.query_pairs() {
        if let Some(name) = CONTINUES.into_iter().find(|known| known.eq_ignore_ascii_case(&name)) {
            place.append_pair(name, &value);
        }
    }
    let place = place.finish();
    (!place.is_empty()).then_some(place)
}

/// The query that goes on at a place; nothing if it is no place that a link led to.
pub(super) fn continuation(place: &str) -> Option<Vec<(&'static str, String)>> {
    let mut query = Vec::new();
    for (name, value) in url::form_urlencoded::parse(place.as_bytes()) {
        let name = CONTINUES.into_iter().find(|known| *known == name)?;
        query.push((name, value.into_owned()));
    }
    (!query.is_empty()).then_some(query)
}

/// A time as ACS writes it in Chat: whole seconds, `Z`.
pub(super) fn seconds(time: Timestamp) -> Option<String> {
    let seconds = i64::try_from(time.as_millis() / 1000).ok()?;
    let at = time::OffsetDateTime::from_unix_timestamp(seconds).ok()?;
    at.format(&time::format_description::well_known::Rfc3339).ok()
}

fn optional_time(text: Option<&str>) -> Result<Option<Timestamp>, &'static str> {
    text.map(|text| body::time(text).ok_or("a time cannot be read")).transpose()
}

impl PartyBody {
    pub(super) fn of(id: &str) -> Self {
        Self { raw_id: Some(id.to_owned()), communication_user: Some(UserBody { id: id.to_owned() }) }
    }

    fn read(self) -> Result<Party, &'static str> {
        let id = self.raw_id.or(self.communication_user.map(|user| user.id));
        id.filter(|id| !id.is_empty()).map(|id| Party { id }).ok_or("an identifier has no id")
    }
}

impl ParticipantBody {
    pub(super) fn of(participant: &Participant) -> Self {
        let name = &participant.display_name;
        Self {
            communication_identifier: PartyBody::of(&participant.party.id),
            display_name: (!name.is_empty()).then(|| name.clone()),
            share_history_time: participant.share_history.and_then(seconds),
        }
    }

    pub(super) fn read(self) -> Result<Participant, &'static str> {
        Ok(Participant {
            party: self.communication_identifier.read()?,
            display_name: self.display_name.unwrap_or_default(),
            share_history: optional_time(self.share_history_time.as_deref())?,
        })
    }
}

impl Refused {
    pub(super) fn all(bodies: Option<Vec<RefusedBody>>) -> Vec<Self> {
        let one = |body: RefusedBody| {
            let id = body.target.unwrap_or_default();
            let message = body.message.and_then(|message| fault::reduce(&message, &[&id]));
            Self { code: body.code.as_deref().and_then(fault::word), message, id }
        };
        bodies.unwrap_or_default().into_iter().map(one).collect()
    }
}

impl ThreadBody {
    pub(super) fn read(self) -> Result<Thread, &'static str> {
        if self.id.is_empty() {
            return Err("the thread has an empty id");
        }
        Ok(Thread {
            id: self.id,
            topic: self.topic,
            created: optional_time(Some(&self.created_on))?,
            creator: Some(self.created_by_communication_identifier.read()?),
            deleted: optional_time(self.deleted_on.as_deref())?,
            metadata: self.metadata.unwrap_or_default(),
            last_message: None,
        })
    }
}

impl ThreadItemBody {
    pub(super) fn read(self) -> Result<Thread, &'static str> {
        Ok(Thread {
            id: self.id,
            topic: self.topic,
            created: None,
            creator: None,
            deleted: optional_time(self.deleted_on.as_deref())?,
            metadata: BTreeMap::new(),
            last_message: optional_time(self.last_message_received_on.as_deref())?,
        })
    }
}

impl MessageBody {
    pub(super) fn read(self) -> Result<Message, &'static str> {
        let content = self.content.unwrap_or(ContentBody {
            message: None,
            topic: None,
            participants: None,
            initiator_communication_identifier: None,
        });
        let participants = content.participants.unwrap_or_default();
        Ok(Message {
            id: self.id,
            kind: self.kind,
            sequence: self.sequence_id.parse().map_err(|_| "sequenceId is no number")?,
            version: self.version,
            text: content.message,
            sender: self.sender_communication_identifier.map(PartyBody::read).transpose()?,
            sender_display_name: self.sender_display_name.unwrap_or_default(),
            created: body::time(&self.created_on).ok_or("createdOn is no time")?,
            edited: optional_time(self.edited_on.as_deref())?,
            deleted: optional_time(self.deleted_on.as_deref())?,
            metadata: self.metadata.unwrap_or_default(),
            topic: content.topic,
            participants: participants.into_iter().map(ParticipantBody::read).collect::<Result<_, _>>()?,
            initiator: content.initiator_communication_identifier.map(PartyBody::read).transpose()?,
        })
    }
}

impl ReadReceiptBody {
    pub(super) fn read(self) -> Result<Receipt, &'static str> {
        Ok(Receipt {
            reader: self.sender_communication_identifier.read()?,
            message: self.chat_message_id,
            read: body::time(&self.read_on).ok_or("readOn is no time")?,
        })
    }
}
