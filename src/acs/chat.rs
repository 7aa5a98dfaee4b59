//! The Chat area of the ACS REST API: threads, participants, messages, read receipts, typing.
//!
//! Version 2025-03-15 (Azure REST API specifications). Every call is made with a user's access token; the access key
//! opens nothing here. Creating a thread carries a repeatability id, so that ACS does it once; sending a message has no
//! such id and is never tried again once ACS may have done it. Nothing of a text or an id gets into an error. `app`
//! uses it; `wire` holds the bodies.

mod wire;

use std::collections::BTreeMap;

use http::Method;
use tokio::time::Instant;

use self::wire::{
    AddBody, CreateBody, CreatedBody, IdBody, MessageBody, PageBody, ParticipantBody, PartyBody, ReceiptBody,
    SendBody, ThreadBody, ThreadItemBody, TopicBody, TypingBody, UpdateMessageBody,
};
pub use self::wire::{Message, Participant, Party, Receipt, Refused, Thread};
use super::body;
use super::error::{Class, Error};
use super::pipeline::{Answer, Call, MERGE_PATCH, Pipeline, Proof};
use crate::clock::Timestamp;
use crate::secret::Secret;

const VERSION: &str = "2025-03-15";

/// A page of a list, and where the next one is.
#[derive(Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// What continues the list, for `from`; none on the last page. Opaque.
    pub next: Option<String>,
}

/// Which part of a list is wanted.
#[derive(Clone, Copy, Default)]
pub struct Range<'a> {
    /// Entries at the most.
    pub size: Option<u32>,
    /// Only what is newer, where the list knows of time.
    pub since: Option<Timestamp>,
    /// Where to go on.
    pub from: Option<&'a str>,
}

/// The operations of the Chat area in the name of one user.
#[derive(Clone, Copy)]
pub struct ChatOperations<'a> {
    pub(super) pipeline: &'a Pipeline,
    pub(super) token: &'a Secret,
}

impl<'a> ChatOperations<'a> {
    /// Creates a thread; the same `repeatability_id` gives the same thread.
    pub async fn create_thread(
        &self,
        repeatability_id: uuid::Uuid,
        topic: &str,
        participants: &[Participant],
        metadata: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Result<(Thread, Vec<Refused>), Error> {
        let repeatability_id = repeatability_id.to_string();
        let body = CreateBody {
            topic,
            participants: participants.iter().map(ParticipantBody::of).collect(),
            metadata,
        };
        let private = private(participants, [topic]);
        let call = Call {
            headers: &[("repeatability-request-id", &repeatability_id)],
            body: body::json(&body),
            idempotent: true,
            private: &private,
            ..self.call("create_thread", Method::POST, "/chat/threads")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |body: CreatedBody| {
            let thread = body.chat_thread.ok_or("the thread is missing")?.read()?;
            Ok((thread, Refused::all(body.invalid_participants)))
        })
    }

    /// Reads a thread.
    pub async fn thread(&self, thread: &str, deadline: Instant) -> Result<Thread, Error> {
        let call = Call {
            ids: &[thread],
            idempotent: true,
            private: &[thread],
            ..self.call("get_thread", Method::GET, "/chat/threads/{thread}")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, ThreadBody::read)
    }

    /// Lists the user's threads.
    pub async fn threads(&self, range: Range<'_>, deadline: Instant) -> Result<Page<Thread>, Error> {
        let query = self.range(range)?;
        let call = Call {
            query: &query,
            idempotent: true,
            ..self.call("list_threads", Method::GET, "/chat/threads")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |page: PageBody<ThreadItemBody>| page.read(ThreadItemBody::read))
    }

    /// Changes a thread's topic, or adds and replaces metadata key by key.
    pub async fn update_thread(
        &self,
        thread: &str,
        topic: Option<&str>,
        metadata: Option<&BTreeMap<String, String>>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call {
            ids: &[thread],
            body: body::json(&TopicBody { topic, metadata }),
            content_type: MERGE_PATCH,
            idempotent: true,
            private: &[thread, topic.unwrap_or_default()],
            ..self.call("update_thread", Method::PATCH, "/chat/threads/{thread}")
        };
        self.pipeline.send(&call, deadline).await.map(drop)
    }

    /// Deletes a thread. One that is gone already is deleted.
    pub async fn delete_thread(&self, thread: &str, deadline: Instant) -> Result<(), Error> {
        let call = Call {
            ids: &[thread],
            idempotent: true,
            private: &[thread],
            ..self.call("delete_thread", Method::DELETE, "/chat/threads/{thread}")
        };
        gone_is_done(self.pipeline.send(&call, deadline).await)
    }

    /// Adds participants; those who are in already stay as they are. Says whom ACS did not let in.
    pub async fn add_participants(
        &self,
        thread: &str,
        participants: &[Participant],
        deadline: Instant,
    ) -> Result<Vec<Refused>, Error> {
        let private = private(participants, [thread]);
        let body = AddBody { participants: participants.iter().map(ParticipantBody::of).collect() };
        let call = Call {
            ids: &[thread],
            body: body::json(&body),
            idempotent: true,
            private: &private,
            ..self.call("add_participants", Method::POST, "/chat/threads/{thread}/participants/:add")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |body: CreatedBody| Ok(Refused::all(body.invalid_participants)))
    }

    /// Lists the participants.
    pub async fn participants(
        &self,
        thread: &str,
        range: Range<'_>,
        deadline: Instant,
    ) -> Result<Page<Participant>, Error> {
        let query = self.range(range)?;
        let call = Call {
            ids: &[thread],
            query: &query,
            idempotent: true,
            private: &[thread],
            ..self.call("list_participants", Method::GET, "/chat/threads/{thread}/participants")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |page: PageBody<ParticipantBody>| page.read(ParticipantBody::read))
    }

    /// Removes a participant.
    pub async fn remove_participant(&self, thread: &str, id: &str, deadline: Instant) -> Result<(), Error> {
        let call = Call {
            ids: &[thread],
            body: body::json(&PartyBody::of(id)),
            idempotent: true,
            private: &[thread, id],
            ..self.call("remove_participant", Method::POST, "/chat/threads/{thread}/participants/:remove")
        };
        gone_is_done(self.pipeline.send(&call, deadline).await)
    }

    /// Sends a message and returns its id. Never tried again once ACS may have done it.
    pub async fn send_message(
        &self,
        thread: &str,
        text: &str,
        is_html: bool,
        sender_display_name: Option<&str>,
        metadata: &BTreeMap<String, String>,
        deadline: Instant,
    ) -> Result<String, Error> {
        let kind = if is_html { "html" } else { "text" };
        let body = SendBody { content: text, kind, sender_display_name, metadata };
        let call = Call {
            ids: &[thread],
            body: body::json(&body),
            single: true,
            private: &[thread, text, sender_display_name.unwrap_or_default()],
            ..self.call("send_message", Method::POST, "/chat/threads/{thread}/messages")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |body: IdBody| {
            if body.id.is_empty() { Err("the message has an empty id") } else { Ok(body.id) }
        })
    }

    /// Reads a message.
    pub async fn message(&self, thread: &str, message: &str, deadline: Instant) -> Result<Message, Error> {
        let call = Call {
            ids: &[thread, message],
            idempotent: true,
            private: &[thread],
            ..self.call("get_message", Method::GET, "/chat/threads/{thread}/messages/{message}")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, MessageBody::read)
    }

    /// Lists the messages, newest first.
    pub async fn messages(
        &self,
        thread: &str,
        range: Range<'_>,
        deadline: Instant,
    ) -> Result<Page<Message>, Error> {
        let query = self.range(range)?;
        let call = Call {
            ids: &[thread],
            query: &query,
            idempotent: true,
            private: &[thread],
            ..self.call("list_messages", Method::GET, "/chat/threads/{thread}/messages")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |page: PageBody<MessageBody>| page.read(MessageBody::read))
    }

    /// Changes the text of a message, or replaces its metadata.
    pub async fn update_message(
        &self,
        thread: &str,
        message: &str,
        text: Option<&str>,
        metadata: Option<&BTreeMap<String, String>>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call {
            ids: &[thread, message],
            body: body::json(&UpdateMessageBody { content: text, metadata }),
            content_type: MERGE_PATCH,
            idempotent: true,
            private: &[thread, text.unwrap_or_default()],
            ..self.call("update_message", Method::PATCH, "/chat/threads/{thread}/messages/{message}")
        };
        self.pipeline.send(&call, deadline).await.map(drop)
    }

    /// Deletes a message; its place in the list stays.
    pub async fn delete_message(&self, thread: &str, message: &str, deadline: Instant) -> Result<(), Error> {
        let call = Call {
            ids: &[thread, message],
            idempotent: true,
            private: &[thread],
            ..self.call("delete_message", Method::DELETE, "/chat/threads/{thread}/messages/{message}")
        };
        self.pipeline.send(&call, deadline).await.map(drop)
    }

    /// Says that the user has read up to a message.
    pub async fn send_read_receipt(
        &self,
        thread: &str,
        message: &str,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call {
            ids: &[thread],
            body: body::json(&ReceiptBody { chat_message_id: message }),
            idempotent: true,
            private: &[thread],
            ..self.call("send_read_receipt", Method::POST, "/chat/threads/{thread}/readReceipts")
        };
        self.pipeline.send(&call, deadline).await.map(drop)
    }

    /// Lists how far each participant has read.
    pub async fn read_receipts(
        &self,
        thread: &str,
        range: Range<'_>,
        deadline: Instant,
    ) -> Result<Page<Receipt>, Error> {
        let query = self.range(range)?;
        let call = Call {
            ids: &[thread],
            query: &query,
            idempotent: true,
            private: &[thread],
            ..self.call("list_read_receipts", Method::GET, "/chat/threads/{thread}/readReceipts")
        };
        let answer = self.pipeline.send(&call, deadline).await?;
        self.read(&call, answer, |page: PageBody<wire::ReadReceiptBody>| {
            page.read(wire::ReadReceiptBody::read)
        })
    }

    /// Shows the others that the user is typing.
    pub async fn send_typing(
        &self,
        thread: &str,
        sender_display_name: Option<&str>,
        deadline: Instant,
    ) -> Result<(), Error> {
        let call = Call {
            ids: &[thread],
            body: body::json(&TypingBody { sender_display_name }),
            idempotent: true,
            private: &[thread, sender_display_name.unwrap_or_default()],
            ..self.call("send_typing", Method::POST, "/chat/threads/{thread}/typing")
        };
        self.pipeline.send(&call, deadline).await.map(drop)
    }

    fn call(&self, operation: &'static str, method: Method, template: &'static str) -> Call<'a> {
        Call { proof: Proof::User(self.token), ..Call::new(operation, method, template, VERSION) }
    }

    fn read<B: serde::de::DeserializeOwned, T>(
        &self,
        call: &Call<'_>,
        answer: Answer,
        read: impl FnOnce(B) -> Result<T, &'static str>,
    ) -> Result<T, Error> {
        body::parse::<B>(&answer).and_then(read).map_err(|problem| body::unusable(call, answer, problem))
    }

    /// The query of a list: where an earlier page ended, or a new start.
    fn range(&self, range: Range<'_>) -> Result<Vec<(&'static str, String)>, Error> {
        if let Some(from) = range.from {
            return wire::continuation(from).ok_or_else(|| {
                Error::unsendable("list", "from", "the place to go on is none that ACS gave")
            });
        }
        let size = range.size.map(|size| ("maxPageSize", size.to_string()));
        let since = range.since.and_then(wire::seconds).map(|since| ("startTime", since));
        Ok(size.into_iter().chain(since).collect())
    }
}

/// What is not there any more needs no removing.
fn gone_is_done(result: Result<Answer, Error>) -> Result<(), Error> {
    match result {
        Err(error) if error.status() == Some(404) && error.class() == Class::Rejected => Ok(()),
        result => result.map(drop),
    }
}

/// What ACS may repeat in a message about participants.
fn private<'p, const N: usize>(participants: &'p [Participant], more: [&'p str; N]) -> Vec<&'p str> {
    let of =
        |participant: &'p Participant| [participant.party.id.as_str(), participant.display_name.as_str()];
    participants.iter().flat_map(of).chain(more).collect()
}

#[cfg(test)]
mod tests;
