//! ChatService for the commands of `cli`: plain values in, plain values out.
//!
//! Texts and ids are for the user's terminal alone: no type here shows them in its `Debug`.

use super::super::proto::v1;
use super::{Client, Failure, time};
use crate::clock::Timestamp;

/// A thread.
pub struct ChatThread {
    /// Its id.
    pub thread_id: String,
    /// What it is about.
    pub topic: String,
    /// When it was created; not told in lists.
    pub created: Option<Timestamp>,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
    /// Who created it; not told in lists.
    pub creator: Option<ChatPerson>,
}

/// Somebody in a chat.
pub struct ChatPerson {
    /// The app's own id; empty if there is none.
    pub user_id: String,
    /// The ACS identity.
    pub acs_user_id: String,
    /// The name the others see; empty for none.
    pub display_name: String,
}

/// Somebody who was not let in, with ACS's code and what it says.
pub struct RefusedPerson {
    /// Who.
    pub person: ChatPerson,
    /// The code.
    pub code: String,
    /// What ACS says.
    pub detail: String,
}

/// A message.
pub struct ChatMessage {
    /// Its id.
    pub message_id: String,
    /// Such as `TEXT`.
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// Who sent it, if anybody of flesh.
    pub sender: Option<ChatPerson>,
    /// When it was sent.
    pub created: Option<Timestamp>,
    /// When it was last edited.
    pub edited: Option<Timestamp>,
    /// When it was deleted.
    pub deleted: Option<Timestamp>,
}

/// A message to send.
pub struct ChatSend<'a> {
    /// Who acts; empty for the broker itself.
    pub actor: &'a str,
    /// The thread.
    pub thread: &'a str,
    /// Names the request.
    pub request_id: &'a str,
    /// The text.
    pub text: &'a str,
    /// Whether it is HTML.
    pub is_html: bool,
    /// The name the sender goes by; empty for none.
    pub display_name: &'a str,
}

/// Entries of a list and where it goes on; empty on the last page.
pub type Listed<T> = (Vec<T>, String);

impl Client {
    fn chats(&self) -> v1::chat_service_client::ChatServiceClient<super::Channel> {
        v1::chat_service_client::ChatServiceClient::new(self.channel.clone())
    }

    /// `ChatService.CreateChatThread`.
    pub async fn create_chat_thread(
        &self,
        actor: &str,
        request_id: &str,
        topic: &str,
        users: &[String],
    ) -> Result<(ChatThread, Vec<RefusedPerson>), Failure> {
        let request = v1::CreateChatThreadRequest {
            acting_user_id: actor.into(),
            request_id: request_id.into(),
            topic: topic.into(),
            participants: users.iter().map(|user| participant(user)).collect(),
            ..Default::default()
        };
        let created = self.call(self.chats().create_chat_thread(self.request(request))).await?;
        let refused = created.refused.into_iter().map(refused).collect();
        Ok((thread(created.thread.unwrap_or_default()), refused))
    }

    /// `ChatService.GetChatThread`.
    pub async fn get_chat_thread(&self, actor: &str, id: &str) -> Result<ChatThread, Failure> {
        let request = v1::GetChatThreadRequest { acting_user_id: actor.into(), thread_id: id.into() };
        let found = self.call(self.chats().get_chat_thread(self.request(request))).await?;
        Ok(thread(found.thread.unwrap_or_default()))
    }

    /// `ChatService.ListChatThreads`.
    pub async fn list_chat_threads(
        &self,
        actor: &str,
        size: i32,
        page: &str,
    ) -> Result<Listed<ChatThread>, Failure> {
        let request = v1::ListChatThreadsRequest {
            acting_user_id: actor.into(),
            page_size: size,
            page_token: page.into(),
            start_time: None,
        };
        let found = self.call(self.chats().list_chat_threads(self.request(request))).await?;
        Ok((found.threads.into_iter().map(thread).collect(), found.next_page_token))
    }

    /// `ChatService.DeleteChatThread`.
    pub async fn delete_chat_thread(&self, actor: &str, id: &str) -> Result<(), Failure> {
        let request = v1::DeleteChatThreadRequest { acting_user_id: actor.into(), thread_id: id.into() };
        self.call(self.chats().delete_chat_thread(self.request(request))).await.map(drop)
    }

    /// `ChatService.AddChatParticipants`.
    pub async fn add_chat_participants(
        &self,
        actor: &str,
        id: &str,
        users: &[String],
    ) -> Result<Vec<RefusedPerson>, Failure> {
        let request = v1::AddChatParticipantsRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            participants: users.iter().map(|user| participant(user)).collect(),
        };
        let added = self.call(self.chats().add_chat_participants(self.request(request))).await?;
        Ok(added.refused.into_iter().map(refused).collect())
    }

    /// `ChatService.ListChatParticipants`.
    pub async fn list_chat_participants(
        &self,
        actor: &str,
        id: &str,
        size: i32,
        page: &str,
    ) -> Result<Listed<ChatPerson>, Failure> {
        let request = v1::ListChatParticipantsRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            page_size: size,
            page_token: page.into(),
        };
        let found = self.call(self.chats().list_chat_participants(self.request(request))).await?;
        let named = |one: v1::ChatParticipant| ChatPerson {
            display_name: one.display_name,
            ..person(one.party.unwrap_or_default())
        };
        Ok((found.participants.into_iter().map(named).collect(), found.next_page_token))
    }

    /// `ChatService.RemoveChatParticipant`.
    pub async fn remove_chat_participant(&self, actor: &str, id: &str, user: &str) -> Result<(), Failure> {
        let request = v1::RemoveChatParticipantRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            user_id: user.into(),
        };
        self.call(self.chats().remove_chat_participant(self.request(request))).await.map(drop)
    }

    /// `ChatService.SendChatMessage`; returns the message's id.
    pub async fn send_chat_message(&self, send: ChatSend<'_>) -> Result<String, Failure> {
        let kind = if send.is_html { v1::ChatMessageType::Html } else { v1::ChatMessageType::Text };
        let request = v1::SendChatMessageRequest {
            acting_user_id: send.actor.into(),
            thread_id: send.thread.into(),
            request_id: send.request_id.into(),
            text: send.text.into(),
            r#type: kind.into(),
            sender_display_name: send.display_name.into(),
            ..Default::default()
        };
        self.call(self.chats().send_chat_message(self.request(request))).await.map(|sent| sent.message_id)
    }

    /// `ChatService.ListChatMessages`, newest first.
    pub async fn list_chat_messages(
        &self,
        actor: &str,
        id: &str,
        size: i32,
        page: &str,
    ) -> Result<Listed<ChatMessage>, Failure> {
        let request = v1::ListChatMessagesRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            page_size: size,
            page_token: page.into(),
            start_time: None,
        };
        let found = self.call(self.chats().list_chat_messages(self.request(request))).await?;
        Ok((found.messages.into_iter().map(message).collect(), found.next_page_token))
    }

    /// `ChatService.GetChatMessage`.
    pub async fn get_chat_message(&self, actor: &str, id: &str, of: &str) -> Result<ChatMessage, Failure> {
        let request = v1::GetChatMessageRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            message_id: of.into(),
            ..Default::default()
        };
        let found = self.call(self.chats().get_chat_message(self.request(request))).await?;
        Ok(message(found.message.unwrap_or_default()))
    }

    /// `ChatService.DeleteChatMessage`.
    pub async fn delete_chat_message(&self, actor: &str, id: &str, of: &str) -> Result<(), Failure> {
        let request = v1::DeleteChatMessageRequest {
            acting_user_id: actor.into(),
            thread_id: id.into(),
            message_id: of.into(),
        };
        self.call(self.chats().delete_chat_message(self.request(request))).await.map(drop)
    }
}

fn participant(user: &str) -> v1::ChatParticipant {
    let party = Some(v1::ChatParty { user_id: user.into(), acs_user_id: String::new() });
    v1::ChatParticipant { party, ..Default::default() }
}

fn person(party: v1::ChatParty) -> ChatPerson {
    ChatPerson { user_id: party.user_id, acs_user_id: party.acs_user_id, display_name: String::new() }
}

fn refused(one: v1::RefusedParticipant) -> RefusedPerson {
    RefusedPerson { person: person(one.party.unwrap_or_default()), code: one.code, detail: one.detail }
}

fn thread(thread: v1::ChatThread) -> ChatThread {
    ChatThread {
        thread_id: thread.thread_id,
        topic: thread.topic,
        created: time(thread.create_time),
        deleted: time(thread.delete_time),
        creator: thread.creator.map(person),
    }
}

fn message(message: v1::ChatMessage) -> ChatMessage {
    let kind = message.r#type().as_str_name().trim_start_matches("CHAT_MESSAGE_TYPE_");
    let name = message.sender_display_name;
    ChatMessage {
        message_id: message.message_id,
        kind,
        text: message.text,
        sender: message.sender.map(|party| ChatPerson { display_name: name, ..person(party) }),
        created: time(message.create_time),
        edited: time(message.edit_time),
        deleted: time(message.delete_time),
    }
}
