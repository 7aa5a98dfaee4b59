//! Messaging's port to the chat of ACS, built on the ACS client.
//!
//! Here the client's values become the core's, and it is decided what a failure means: done by nobody, done perhaps,
//! or a token that is no good any more. Whose an id is, is not known here.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::time::Instant;

use super::{DEFAULT_WAIT, Upstream, translate};
use crate::acs::{self, Class};
use crate::broker::error::Error;
use crate::messaging::ports::{
    ChatError, ChatPage, ChatRange, ChatUpstream, Message, MessageKind, Metadata, OutgoingMessage,
    Participant, Party, Receipt, RefusedParticipant, Thread,
};
use crate::messaging::types::Failure;
use crate::secret::Secret;

impl Upstream {
    /// Counts and times a call of chat, and tells what its failure means.
    async fn chat<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, acs::Error>> + Send,
    ) -> Result<T, ChatError> {
        let started = Instant::now();
        let result = call.await;
        self.told(operation, started, result).map_err(chat_error)
    }
}

#[async_trait]
impl ChatUpstream for Upstream {
    async fn create_thread(
        &self,
        token: &Secret,
        repeatability_id: uuid::Uuid,
        topic: &str,
        participants: &[Participant],
        metadata: &Metadata,
    ) -> Result<(Thread, Vec<RefusedParticipant>), ChatError> {
        let list = members(participants);
        let chat = self.client.chat(token);
        let call = chat.create_thread(repeatability_id, topic, &list, metadata, self.deadline());
        let (thread, refused) = self.chat("create_thread", call).await?;
        Ok((read_thread(thread), refused.into_iter().map(read_refused).collect()))
    }

    async fn thread(&self, token: &Secret, thread: &str) -> Result<Thread, ChatError> {
        let chat = self.client.chat(token);
        self.chat("get_thread", chat.thread(thread, self.deadline())).await.map(read_thread)
    }

    async fn threads(&self, token: &Secret, range: &ChatRange) -> Result<ChatPage<Thread>, ChatError> {
        let chat = self.client.chat(token);
        let call = chat.threads(part(range), self.deadline());
        self.chat("list_threads", call).await.map(|page| read_page(page, read_thread))
    }

    async fn update_thread(
        &self,
        token: &Secret,
        thread: &str,
        topic: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("update_thread", chat.update_thread(thread, topic, metadata, self.deadline())).await
    }

    async fn delete_thread(&self, token: &Secret, thread: &str) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("delete_thread", chat.delete_thread(thread, self.deadline())).await
    }

    async fn add_participants(
        &self,
        token: &Secret,
        thread: &str,
        participants: &[Participant],
    ) -> Result<Vec<RefusedParticipant>, ChatError> {
        let list = members(participants);
        let chat = self.client.chat(token);
        let call = chat.add_participants(thread, &list, self.deadline());
        let refused = self.chat("add_participants", call).await.map_err(|error| {
            // Their form is right, so they are too many; ACS says no more than 400.
            let too_many = "must not bring the thread over 250 participants";
            blame(error, 400, "participants", too_many)
        })?;
        Ok(refused.into_iter().map(read_refused).collect())
    }

    async fn participants(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Participant>, ChatError> {
        let chat = self.client.chat(token);
        let call = chat.participants(thread, part(range), self.deadline());
        self.chat("list_participants", call).await.map(|page| read_page(page, read_participant))
    }

    async fn remove_participant(&self, token: &Secret, thread: &str, id: &str) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("remove_participant", chat.remove_participant(thread, id, self.deadline())).await
    }

    async fn send_message(&self, token: &Secret, message: &OutgoingMessage) -> Result<String, ChatError> {
        let OutgoingMessage { thread, text, is_html, sender_display_name, metadata } = message;
        let chat = self.client.chat(token);
        let name = sender_display_name.as_deref();
        let call = chat.send_message(thread, text, *is_html, name, metadata, self.deadline());
        let too_large = "is larger than ACS takes";
        self.chat("send_message", call).await.map_err(|error| blame(error, 413, "text", too_large))
    }

    async fn message(&self, token: &Secret, thread: &str, message: &str) -> Result<Message, ChatError> {
        let chat = self.client.chat(token);
        self.chat("get_message", chat.message(thread, message, self.deadline())).await.map(read_message)
    }

    async fn messages(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Message>, ChatError> {
        let chat = self.client.chat(token);
        let call = chat.messages(thread, part(range), self.deadline());
        self.chat("list_messages", call).await.map(|page| read_page(page, read_message))
    }

    async fn update_message(
        &self,
        token: &Secret,
        thread: &str,
        message: &str,
        text: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        let call = chat.update_message(thread, message, text, metadata, self.deadline());
        self.chat("update_message", call).await
    }

    async fn delete_message(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("delete_message", chat.delete_message(thread, message, self.deadline())).await
    }

    async fn send_read_receipt(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("send_read_receipt", chat.send_read_receipt(thread, message, self.deadline())).await
    }

    async fn read_receipts(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Receipt>, ChatError> {
        let chat = self.client.chat(token);
        let call = chat.read_receipts(thread, part(range), self.deadline());
        self.chat("list_read_receipts", call).await.map(|page| read_page(page, read_receipt))
    }

    async fn send_typing(
        &self,
        token: &Secret,
        thread: &str,
        sender_display_name: Option<&str>,
    ) -> Result<(), ChatError> {
        let chat = self.client.chat(token);
        self.chat("send_typing", chat.send_typing(thread, sender_display_name, self.deadline())).await
    }
}

/// What a failure means for a chat.
fn chat_error(error: acs::Error) -> ChatError {
    match error.class() {
        Class::Throttled { retry_after } => ChatError::Throttled(retry_after.unwrap_or(DEFAULT_WAIT)),
        Class::PerhapsSent => ChatError::Unknown { retry_after: None, cause: Some(Arc::new(error)) },
        Class::ServerFailed { retry_after } => {
            ChatError::Unknown { retry_after, cause: Some(Arc::new(error)) }
        }
        Class::TokenRefused => ChatError::TokenRefused(translate(error)),
        Class::Rejected => ChatError::NotDone(match error.status() {
            Some(403) => Error::ChatForbidden,
            Some(404) => Error::ChatNotFound,
            _ => translate(error),
        }),
        Class::NeverSent | Class::CredentialsRefused => ChatError::NotDone(translate(error)),
    }
}

/// A refusal with this status, as what is wrong with a field of the request.
fn blame(error: ChatError, status: u16, field: &str, what: &str) -> ChatError {
    match error {
        ChatError::NotDone(Error::AcsRejected { status: answered, .. }) if answered == status => {
            ChatError::NotDone(Error::invalid(field, what))
        }
        error => error,
    }
}

fn part(range: &ChatRange) -> acs::ChatRange<'_> {
    acs::ChatRange { size: range.size, since: range.since, from: range.from.as_deref() }
}

fn members(list: &[Participant]) -> Vec<acs::ChatParticipant> {
    let one = |participant: &Participant| acs::ChatParticipant {
        party: acs::ChatParty { id: participant.party.id.clone() },
        display_name: participant.display_name.clone(),
        share_history: participant.share_history,
    };
    list.iter().map(one).collect()
}

fn read_page<A, B>(page: acs::ChatPage<A>, read: impl Fn(A) -> B) -> ChatPage<B> {
    ChatPage { entries: page.entries.into_iter().map(read).collect(), next: page.next }
}

fn read_party(party: acs::ChatParty) -> Party {
    Party::named(party.id)
}

fn read_thread(thread: acs::ChatThread) -> Thread {
    Thread {
        id: thread.id,
        topic: thread.topic,
        created: thread.created,
        creator: thread.creator.map(read_party),
        deleted: thread.deleted,
        metadata: thread.metadata,
        last_message: thread.last_message,
    }
}

fn read_participant(participant: acs::ChatParticipant) -> Participant {
    Participant {
        party: read_party(participant.party),
        display_name: participant.display_name,
        share_history: participant.share_history,
    }
}

fn read_refused(refused: acs::RefusedParticipant) -> RefusedParticipant {
    let failure =
        Failure { code: refused.code.unwrap_or_default(), detail: refused.message.unwrap_or_default() };
    RefusedParticipant { party: Party::named(refused.id), failure }
}

fn read_message(message: acs::ChatMessage) -> Message {
    let kind = match message.kind.as_str() {
        "text" => MessageKind::Text,
        "html" => MessageKind::Html,
        "topicUpdated" => MessageKind::TopicUpdated,
        "participantAdded" => MessageKind::ParticipantAdded,
        "participantRemoved" => MessageKind::ParticipantRemoved,
        _ => MessageKind::Other,
    };
    Message {
        id: message.id,
        kind,
        sequence: message.sequence,
        version: message.version,
        text: message.text.unwrap_or_default(),
        sender: message.sender.map(read_party),
        sender_display_name: message.sender_display_name,
        created: message.created,
        edited: message.edited,
        deleted: message.deleted,
        metadata: message.metadata,
        topic: message.topic.unwrap_or_default(),
        participants: message.participants.into_iter().map(read_participant).collect(),
        initiator: message.initiator.map(read_party),
    }
}

fn read_receipt(receipt: acs::ReadReceipt) -> Receipt {
    Receipt { reader: read_party(receipt.reader), message: receipt.message, read: receipt.read }
}

#[cfg(test)]
#[cfg(feature = "emulator")]
#[path = "chat_tests.rs"]
mod tests;
