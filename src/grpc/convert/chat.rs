//! Chat: from the wire and back.
//!
//! Checks the shape alone: users, times, masks, page tokens; lengths and repetitions are for the core. A page token is
//! bound to its list, its user and its thread.

use super::sms::set;
use super::{BAD_PAGE_TOKEN, Check, timestamp};
use crate::broker::error::Error;
use crate::broker::types::UserId;
use crate::clock::Timestamp;
use crate::grpc::page_token;
use crate::grpc::proto::v1;
use crate::messaging::chat::{
    Actor, CreateThread, CreatedThread, NewParticipant, SendChatMessage, UpdateMessage, UpdateThread,
};
use crate::messaging::ports::{
    ChatPage, ChatRange, Message, MessageKind, Participant, Party, Receipt, RefusedParticipant, Thread,
};

/// Entries of a page when the caller does not say, and at the most.
const MAX_PAGE: i32 = 100;
/// More participants than this are not even looked at.
const MAX_PARTICIPANTS: usize = 200;

/// A request for a page, and what binds its tokens.
pub(crate) struct PageOf {
    /// Who acts.
    pub(crate) actor: Actor,
    /// What is wanted.
    pub(crate) range: ChatRange,
    list: [String; 4],
}

impl PageOf {
    /// The token for the page after this one; empty if it is the last.
    pub(crate) fn next<T>(&self, page: &ChatPage<T>) -> String {
        let list = self.list.each_ref().map(String::as_str);
        page.next.as_deref().map(|place| page_token::encode_of(&list, place)).unwrap_or_default()
    }
}

/// What a request for a page of a list holds.
pub(crate) struct Wanted<'a> {
    /// The list's name.
    pub(crate) list: &'static str,
    pub(crate) acting_user_id: &'a str,
    /// Empty for a list that is in no thread.
    pub(crate) thread_id: &'a str,
    pub(crate) page_size: i32,
    pub(crate) page_token: &'a str,
    pub(crate) start_time: Option<prost_types::Timestamp>,
}

/// A page of any list.
pub(crate) fn page(wanted: Wanted<'_>) -> Result<PageOf, Error> {
    let Wanted { list, acting_user_id, thread_id, page_size, page_token, start_time } = wanted;
    let mut check = Check::default();
    let actor = check.actor(acting_user_id);
    let since = check.timestamp("start_time", start_time);
    let size = match u32::try_from(page_size) {
        Ok(0) => Some(MAX_PAGE.unsigned_abs()),
        Ok(size) if page_size <= MAX_PAGE => Some(size),
        _ => check.violation("page_size", format!("must be from 0 to {MAX_PAGE}; 0 means {MAX_PAGE}")),
    };
    let since_text = since.flatten().map(|time| time.as_millis().to_string()).unwrap_or_default();
    let list = [list.to_owned(), acting_user_id.to_owned(), thread_id.to_owned(), since_text];
    let from = if page_token.is_empty() {
        Some(None)
    } else {
        match page_token::decode_of(&list.each_ref().map(String::as_str), page_token) {
            Some(place) => Some(Some(place)),
            None => check.violation("page_token", BAD_PAGE_TOKEN),
        }
    };
    match (actor, since, size, from) {
        (Some(actor), Some(since), Some(size), Some(from)) => {
            Ok(PageOf { actor, range: ChatRange { size: Some(size), since, from }, list })
        }
        _ => Err(check.into_error()),
    }
}

/// Who acts.
pub(crate) fn actor(acting_user_id: &str) -> Result<Actor, Error> {
    let mut check = Check::default();
    check.actor(acting_user_id).ok_or_else(|| check.into_error())
}

/// What GetChatMessage is asked for.
pub(crate) struct MessageWanted {
    pub(crate) actor: Actor,
    /// The request that sent it, if it is asked for by that.
    pub(crate) request: Option<uuid::Uuid>,
}

/// GetChatMessage.
pub(crate) fn message_wanted(request: &v1::GetChatMessageRequest) -> Result<MessageWanted, Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let by_request = match (request.request_id.as_str(), request.message_id.as_str()) {
        ("", _) => Some(None),
        (id, "") => check.request_uuid(id).map(Some),
        _ => check.violation("request_id", "must be empty if message_id is set"),
    };
    match (actor, by_request) {
        (Some(actor), Some(request)) => Ok(MessageWanted { actor, request }),
        _ => Err(check.into_error()),
    }
}

/// CreateChatThread.
pub(crate) fn create(request: v1::CreateChatThreadRequest) -> Result<(Actor, CreateThread), Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let request_id = check.request_uuid(&request.request_id);
    let participants = check.participants(request.participants);
    match (actor, request_id, participants) {
        (Some(actor), Some(request_id), Some(participants)) => {
            let metadata = request.metadata.into_iter().collect();
            Ok((actor, CreateThread { request_id, topic: request.topic, participants, metadata }))
        }
        _ => Err(check.into_error()),
    }
}

/// UpdateChatThread.
pub(crate) fn update_thread(request: v1::UpdateChatThreadRequest) -> Result<(Actor, UpdateThread), Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let mask = check.mask(request.update_mask, ["topic", "metadata"]);
    match (actor, mask) {
        (Some(actor), Some([topic, metadata])) => {
            let wish = UpdateThread {
                thread: request.thread_id,
                topic: topic.then_some(request.topic),
                metadata: metadata.then(|| request.metadata.into_iter().collect()),
            };
            Ok((actor, wish))
        }
        _ => Err(check.into_error()),
    }
}

/// AddChatParticipants.
pub(crate) fn add(
    request: v1::AddChatParticipantsRequest,
) -> Result<(Actor, String, Vec<NewParticipant>), Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let participants = check.participants(request.participants);
    match (actor, participants) {
        (Some(actor), Some(participants)) => Ok((actor, request.thread_id, participants)),
        _ => Err(check.into_error()),
    }
}

/// RemoveChatParticipant.
pub(crate) fn remove(acting_user_id: &str, user_id: &str) -> Result<(Actor, UserId), Error> {
    let mut check = Check::default();
    let actor = check.actor(acting_user_id);
    let removed = check.user("user_id", user_id);
    match (actor, removed) {
        (Some(actor), Some(removed)) => Ok((actor, removed)),
        _ => Err(check.into_error()),
    }
}

/// SendChatMessage.
pub(crate) fn send(request: v1::SendChatMessageRequest) -> Result<(Actor, SendChatMessage), Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let request_id = check.request_uuid(&request.request_id);
    let is_html = match v1::ChatMessageType::try_from(request.r#type) {
        Ok(v1::ChatMessageType::Unspecified | v1::ChatMessageType::Text) => Some(false),
        Ok(v1::ChatMessageType::Html) => Some(true),
        _ => check.violation("type", "must be text or html; not set means text"),
    };
    match (actor, request_id, is_html) {
        (Some(actor), Some(request_id), Some(is_html)) => {
            let wish = SendChatMessage {
                request_id,
                thread: request.thread_id,
                text: request.text,
                is_html,
                sender_display_name: request.sender_display_name,
                metadata: request.metadata.into_iter().collect(),
            };
            Ok((actor, wish))
        }
        _ => Err(check.into_error()),
    }
}

/// UpdateChatMessage.
pub(crate) fn update_message(request: v1::UpdateChatMessageRequest) -> Result<(Actor, UpdateMessage), Error> {
    let mut check = Check::default();
    let actor = check.actor(&request.acting_user_id);
    let mask = check.mask(request.update_mask, ["text", "metadata"]);
    match (actor, mask) {
        (Some(actor), Some([text, metadata])) => {
            let wish = UpdateMessage {
                thread: request.thread_id,
                message: request.message_id,
                text: text.then_some(request.text),
                metadata: metadata.then(|| request.metadata.into_iter().collect()),
            };
            Ok((actor, wish))
        }
        _ => Err(check.into_error()),
    }
}

/// For CreateChatThread's caller.
pub(crate) fn created(created: CreatedThread) -> v1::CreateChatThreadResponse {
    v1::CreateChatThreadResponse {
        thread: Some(thread(created.thread)),
        refused: created.refused.into_iter().map(refused).collect(),
    }
}

/// A thread.
pub(crate) fn thread(thread: Thread) -> v1::ChatThread {
    v1::ChatThread {
        thread_id: thread.id,
        topic: thread.topic,
        create_time: thread.created.map(timestamp),
        creator: thread.creator.map(party),
        delete_time: thread.deleted.map(timestamp),
        metadata: thread.metadata.into_iter().collect(),
        last_message_time: thread.last_message.map(timestamp),
    }
}

/// Somebody in a thread.
pub(crate) fn participant(one: Participant) -> v1::ChatParticipant {
    // ACS says "all of them" with the beginning of time.
    let since = one.share_history.filter(|time| *time > Timestamp::from_millis(0));
    v1::ChatParticipant {
        party: Some(party(one.party)),
        display_name: one.display_name,
        share_history_time: since.map(timestamp),
    }
}

/// Somebody whom ACS did not let in.
pub(crate) fn refused(one: RefusedParticipant) -> v1::RefusedParticipant {
    v1::RefusedParticipant {
        party: Some(party(one.party)),
        code: one.failure.code,
        detail: one.failure.detail,
    }
}

/// A message.
pub(crate) fn message(message: Message) -> v1::ChatMessage {
    let kind = match message.kind {
        MessageKind::Text => v1::ChatMessageType::Text,
        MessageKind::Html => v1::ChatMessageType::Html,
        MessageKind::TopicUpdated => v1::ChatMessageType::TopicUpdated,
        MessageKind::ParticipantAdded => v1::ChatMessageType::ParticipantAdded,
        MessageKind::ParticipantRemoved => v1::ChatMessageType::ParticipantRemoved,
        MessageKind::Other => v1::ChatMessageType::Unspecified,
    };
    v1::ChatMessage {
        message_id: message.id,
        r#type: kind.into(),
        sequence: message.sequence,
        version: message.version,
        text: message.text,
        sender: message.sender.map(party),
        sender_display_name: message.sender_display_name,
        create_time: Some(timestamp(message.created)),
        edit_time: message.edited.map(timestamp),
        delete_time: message.deleted.map(timestamp),
        metadata: message.metadata.into_iter().collect(),
        topic: message.topic,
        participants: message.participants.into_iter().map(participant).collect(),
        initiator: message.initiator.map(party),
    }
}

/// How far somebody has read.
pub(crate) fn receipt(receipt: Receipt) -> v1::ReadReceipt {
    v1::ReadReceipt {
        reader: Some(party(receipt.reader)),
        message_id: receipt.message,
        read_time: Some(timestamp(receipt.read)),
    }
}

fn party(party: Party) -> v1::ChatParty {
    let user_id = party.user.map(|user| user.as_str().to_owned()).unwrap_or_default();
    v1::ChatParty { user_id, acs_user_id: party.id }
}

impl Check {
    fn actor(&mut self, id: &str) -> Option<Actor> {
        if id.is_empty() { Some(None) } else { self.user("acting_user_id", id).map(Some) }
    }

    /// Which of the fields that may change are named; at least one, no other.
    fn mask<const N: usize>(
        &mut self,
        mask: Option<prost_types::FieldMask>,
        fields: [&str; N],
    ) -> Option<[bool; N]> {
        let paths = mask.unwrap_or_default().paths;
        let known = paths.iter().all(|path| fields.contains(&path.as_str()));
        if paths.is_empty() || !known {
            return self.violation("update_mask", format!("must name at least one of {}", fields.join(", ")));
        }
        Some(fields.map(|field| paths.iter().any(|path| path == field)))
    }

    fn participants(&mut self, list: Vec<v1::ChatParticipant>) -> Option<Vec<NewParticipant>> {
        if list.len() > MAX_PARTICIPANTS {
            let what = format!("must have at most {MAX_PARTICIPANTS} entries, has {}", list.len());
            return self.violation("participants", what);
        }
        let expected = list.len();
        let mut parsed = Vec::with_capacity(expected);
        for (index, one) in list.into_iter().enumerate() {
            let party = one.party.unwrap_or_default();
            let user = self.user(&format!("participants[{index}].party.user_id"), &party.user_id);
            let field = format!("participants[{index}].share_history_time");
            let share_history = self.timestamp(&field, one.share_history_time);
            if let (Some(user), Some(share_history)) = (user, share_history) {
                let display_name = set(one.display_name).unwrap_or_default();
                parsed.push(NewParticipant { user, display_name, share_history });
            }
        }
        (parsed.len() == expected).then_some(parsed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(error: Error) -> Vec<String> {
        let Error::InvalidField(violations) = error else { panic!("{error:?}") };
        violations.into_iter().map(|violation| violation.field).collect()
    }

    fn wanted<'a>(list: &'static str, user: &'a str, token: &'a str) -> Wanted<'a> {
        Wanted {
            list,
            acting_user_id: user,
            thread_id: "19:t@thread.v2",
            page_size: 0,
            page_token: token,
            start_time: None,
        }
    }

    #[test]
    fn the_brokers_own_user_id_is_refused_wherever_a_caller_names_somebody() {
        let own = "acsbroker:service";
        assert_eq!(fields(actor(own).err().unwrap()), ["acting_user_id"]);
        assert_eq!(fields(remove(own, own).err().unwrap()), ["acting_user_id", "user_id"]);
        let party = Some(v1::ChatParty { user_id: own.into(), ..Default::default() });
        let request = v1::AddChatParticipantsRequest {
            participants: vec![v1::ChatParticipant { party, ..Default::default() }],
            ..Default::default()
        };
        assert_eq!(fields(add(request).err().unwrap()), ["participants[0].party.user_id"]);
        assert!(actor("").unwrap().is_none() && actor("alice").unwrap().is_some());
    }

    #[test]
    fn a_page_token_continues_the_list_it_came_from_and_no_other() {
        let first = page(wanted("messages", "alice", "")).unwrap();
        assert_eq!((first.range.size, first.range.from.clone()), (Some(100), None));
        let token = first.next(&ChatPage::<()> { entries: vec![], next: Some("syncState=1".into()) });
        let second = page(wanted("messages", "alice", &token)).unwrap();
        assert_eq!(second.range.from.as_deref(), Some("syncState=1"));
        for (list, user) in [("messages", "bob"), ("participants", "alice"), ("messages", "")] {
            assert_eq!(fields(page(wanted(list, user, &token)).err().unwrap()), ["page_token"]);
        }
        assert!(first.next(&ChatPage::<()> { entries: vec![], next: None }).is_empty());
        for size in [-1, 101] {
            let wrong = page(Wanted { page_size: size, ..wanted("messages", "alice", "") });
            assert_eq!(fields(wrong.err().unwrap()), ["page_size"]);
        }
    }

    #[test]
    fn a_mask_names_at_least_one_field_that_may_change() {
        let request = |paths: &[&str]| v1::UpdateChatMessageRequest {
            text: "t".into(),
            update_mask: Some(prost_types::FieldMask {
                paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            }),
            ..Default::default()
        };
        for bad in [&[][..], &["sender"], &["text", "id"]] {
            assert_eq!(fields(update_message(request(bad)).err().unwrap()), ["update_mask"]);
        }
        let (_, wish) = update_message(request(&["text"])).unwrap();
        assert_eq!((wish.text.as_deref(), wish.metadata), (Some("t"), None));
    }

    #[test]
    fn only_text_and_html_can_be_sent_and_only_under_a_request_id() {
        let request = |kind: i32| v1::SendChatMessageRequest {
            request_id: "f81d4fae-7dec-41d0-a765-00a0c91e6bf6".into(),
            r#type: kind,
            ..Default::default()
        };
        assert!(!send(request(0)).unwrap().1.is_html && send(request(2)).unwrap().1.is_html);
        for kind in [3, 4, 5, 77, -1] {
            assert_eq!(fields(send(request(kind)).err().unwrap()), ["type"]);
        }
        let without = v1::SendChatMessageRequest { request_id: String::new(), ..request(0) };
        assert_eq!(fields(send(without).err().unwrap()), ["request_id"]);
    }
}
