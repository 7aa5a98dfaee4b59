//! Chat in the name of a user, with a record of what changes something. Reading leaves none here: the call has its own.

use async_trait::async_trait;

use super::{Audited, OK};
use crate::audit::Whom;
use crate::messaging::ports::{
    ChatError, ChatPage, ChatRange, ChatUpstream, Message, Metadata, OutgoingMessage, Participant, Receipt,
    RefusedParticipant, Thread,
};
use crate::secret::Secret;

fn word<T>(result: &Result<T, ChatError>) -> &'static str {
    match result {
        Ok(_) => OK,
        Err(ChatError::NotDone(error) | ChatError::TokenRefused(error)) => error.reason(),
        Err(ChatError::Throttled(_)) => "ACS_THROTTLED",
        Err(ChatError::Unknown { .. }) => "OUTCOME_UNKNOWN",
    }
}

impl<T> Audited<T> {
    fn in_thread<R>(
        &self,
        name: &'static str,
        thread: &str,
        result: Result<R, ChatError>,
    ) -> Result<R, ChatError> {
        self.audit.effect(name, word(&result), 1, &[(Whom::Thread, thread)]);
        result
    }

    /// The id is ACS's own if this succeeded; if not, it is what somebody asked for, and may be anything.
    fn on_message<R>(
        &self,
        name: &'static str,
        thread: &str,
        message: Option<&str>,
        result: &Result<R, ChatError>,
    ) {
        let ids: Vec<_> = message.filter(|_| result.is_ok()).into_iter().collect();
        self.audit.effect_on_messages(name, word(result), 1, &[(Whom::Thread, thread)], &ids);
    }
}

fn parties(participants: &[Participant]) -> impl Iterator<Item = (Whom, &str)> {
    participants.iter().map(|participant| (Whom::Identity, participant.party.id.as_str()))
}

#[async_trait]
impl<T: ChatUpstream> ChatUpstream for Audited<T> {
    async fn create_thread(
        &self,
        token: &Secret,
        repeatability_id: uuid::Uuid,
        topic: &str,
        participants: &[Participant],
        metadata: &Metadata,
    ) -> Result<(Thread, Vec<RefusedParticipant>), ChatError> {
        let result = self.inner.create_thread(token, repeatability_id, topic, participants, metadata).await;
        let thread = result.as_ref().ok().map(|(thread, _)| (Whom::Thread, thread.id.as_str()));
        let on: Vec<_> = thread.into_iter().chain(parties(participants)).collect();
        self.audit.effect("chat_thread_created", word(&result), 1, &on);
        result
    }

    async fn thread(&self, token: &Secret, thread: &str) -> Result<Thread, ChatError> {
        self.inner.thread(token, thread).await
    }

    async fn threads(&self, token: &Secret, range: &ChatRange) -> Result<ChatPage<Thread>, ChatError> {
        self.inner.threads(token, range).await
    }

    async fn update_thread(
        &self,
        token: &Secret,
        thread: &str,
        topic: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        let result = self.inner.update_thread(token, thread, topic, metadata).await;
        self.in_thread("chat_thread_updated", thread, result)
    }

    async fn delete_thread(&self, token: &Secret, thread: &str) -> Result<(), ChatError> {
        let result = self.inner.delete_thread(token, thread).await;
        self.in_thread("chat_thread_deleted", thread, result)
    }

    async fn add_participants(
        &self,
        token: &Secret,
        thread: &str,
        participants: &[Participant],
    ) -> Result<Vec<RefusedParticipant>, ChatError> {
        let result = self.inner.add_participants(token, thread, participants).await;
        let refused = result.as_ref().map_or(0, Vec::len);
        let on: Vec<_> = std::iter::once((Whom::Thread, thread)).chain(parties(participants)).collect();
        let added = participants.len().saturating_sub(refused);
        self.audit.effect("chat_participants_added", word(&result), added, &on);
        result
    }

    async fn participants(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Participant>, ChatError> {
        self.inner.participants(token, thread, range).await
    }

    async fn remove_participant(&self, token: &Secret, thread: &str, id: &str) -> Result<(), ChatError> {
        let result = self.inner.remove_participant(token, thread, id).await;
        let on = [(Whom::Thread, thread), (Whom::Identity, id)];
        self.audit.effect("chat_participant_removed", word(&result), 1, &on);
        result
    }

    async fn send_message(&self, token: &Secret, message: &OutgoingMessage) -> Result<String, ChatError> {
        let result = self.inner.send_message(token, message).await;
        let id = result.as_ref().ok().map(String::as_str);
        self.on_message("chat_message_sent", &message.thread, id, &result);
        result
    }

    async fn message(&self, token: &Secret, thread: &str, message: &str) -> Result<Message, ChatError> {
        self.inner.message(token, thread, message).await
    }

    async fn messages(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Message>, ChatError> {
        self.inner.messages(token, thread, range).await
    }

    async fn update_message(
        &self,
        token: &Secret,
        thread: &str,
        message: &str,
        text: Option<&str>,
        metadata: Option<&Metadata>,
    ) -> Result<(), ChatError> {
        let result = self.inner.update_message(token, thread, message, text, metadata).await;
        self.on_message("chat_message_updated", thread, Some(message), &result);
        result
    }

    async fn delete_message(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError> {
        let result = self.inner.delete_message(token, thread, message).await;
        self.on_message("chat_message_deleted", thread, Some(message), &result);
        result
    }

    async fn send_read_receipt(&self, token: &Secret, thread: &str, message: &str) -> Result<(), ChatError> {
        let result = self.inner.send_read_receipt(token, thread, message).await;
        self.on_message("chat_read_receipt_sent", thread, Some(message), &result);
        result
    }

    async fn read_receipts(
        &self,
        token: &Secret,
        thread: &str,
        range: &ChatRange,
    ) -> Result<ChatPage<Receipt>, ChatError> {
        self.inner.read_receipts(token, thread, range).await
    }

    async fn send_typing(
        &self,
        token: &Secret,
        thread: &str,
        sender_display_name: Option<&str>,
    ) -> Result<(), ChatError> {
        let result = self.inner.send_typing(token, thread, sender_display_name).await;
        self.in_thread("chat_typing_shown", thread, result)
    }
}
