//! Chat in the app's own user ids: threads, participants, messages, receipts, typing.
//!
//! Every call acts as a user, with a token of the core, or as the one identity that the broker owns. Users whom a
//! request names get an identity; ids of ACS in answers become user ids where they are known. Creating a thread and
//! sending a message happen once per request id (`once`, `message`). No text is kept and none is logged. Called by
//! `grpc`.

mod check;
mod follow;
mod message;
mod once;
#[cfg(test)]
mod tests;
mod users;

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};

use self::check::Check;
pub use self::message::{SendChatMessage, UpdateMessage};
pub use self::once::{CreateThread, CreatedThread};
use super::limits::{Bucket, ChatOperation};
use super::ports::{
    ChatError, ChatPage, ChatRange, ChatUpstream, ChatUsers, Message, Metadata, Participant, Party, Receipt,
    RefusedParticipant, Thread,
};
use super::types::{Channel, MessageName};
use super::{ASK_AGAIN, Messaging, Spent};
use crate::broker::error::Error;
use crate::broker::types::{Caller, IdentityId, UserId};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// The key in a message's metadata that says which request sent it. Callers neither set nor see it.
const MARK: &str = "acsbrokerRequest";

/// Identities that are created at the same time for the users of one request.
const IDENTITIES_AT_ONCE: usize = 16;

/// Somebody to add to a thread.
#[derive(Clone, PartialEq, Eq)]
pub struct NewParticipant {
    /// Who.
    pub user: UserId,
    /// The name the others see; empty for none.
    pub display_name: String,
    /// From when on they see the messages; none for all.
    pub share_history: Option<Timestamp>,
}

/// What UpdateChatThread is asked for.
#[derive(Clone)]
pub struct UpdateThread {
    /// The thread.
    pub thread: String,
    /// The new topic.
    pub topic: Option<String>,
    /// Texts to add or replace, key by key.
    pub metadata: Option<Metadata>,
}

/// Who acts: the user named, or the identity that the broker owns.
pub type Actor = Option<UserId>;

/// Chat over the core of messaging. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Chat {
    messaging: Messaging,
    users: Arc<dyn ChatUsers>,
    upstream: Arc<dyn ChatUpstream>,
}

impl Chat {
    /// Chat over these ports.
    pub fn new(messaging: Messaging, users: Arc<dyn ChatUsers>, upstream: Arc<dyn ChatUpstream>) -> Self {
        Self { messaging, users, upstream }
    }

    /// A thread.
    pub async fn thread(&self, caller: &Caller, actor: Actor, thread: &str) -> Result<Thread, Error> {
        Check::default().thread(thread).done()?;
        let user = acting(actor);
        let upstream = &self.upstream;
        let work = |token: Secret| async move { upstream.thread(&token, thread).await };
        let mut found = self.act(caller, &user, ChatOperation::ReadThreads, thread, work).await?;
        self.name(caller, found.creator.iter_mut().collect()).await?;
        Ok(found)
    }

    /// The threads that the acting user is in.
    pub async fn threads(
        &self,
        caller: &Caller,
        actor: Actor,
        range: ChatRange,
    ) -> Result<ChatPage<Thread>, Error> {
        let (user, range, upstream) = (acting(actor), &range, &self.upstream);
        let work = |token: Secret| async move { upstream.threads(&token, range).await };
        let mut page = self.act(caller, &user, ChatOperation::ReadThreads, "", work).await?;
        self.name(caller, page.entries.iter_mut().filter_map(|thread| thread.creator.as_mut()).collect())
            .await?;
        Ok(page)
    }

    /// Changes a thread.
    pub async fn update_thread(
        &self,
        caller: &Caller,
        actor: Actor,
        wish: UpdateThread,
    ) -> Result<(), Error> {
        let mut check = Check::default().thread(&wish.thread);
        if let Some(topic) = &wish.topic {
            check = check.topic(topic);
        }
        if let Some(metadata) = &wish.metadata {
            check = check.metadata(metadata);
        }
        check.done()?;
        let (user, wish, upstream) = (acting(actor), &wish, &self.upstream);
        let work = |token: Secret| async move {
            upstream.update_thread(&token, &wish.thread, wish.topic.as_deref(), wish.metadata.as_ref()).await
        };
        self.act(caller, &user, ChatOperation::UpdateThread, &wish.thread, work).await
    }

    /// Deletes a thread; one that is gone already is deleted.
    pub async fn delete_thread(&self, caller: &Caller, actor: Actor, thread: &str) -> Result<(), Error> {
        Check::default().thread(thread).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let work = |token: Secret| async move { upstream.delete_thread(&token, thread).await };
        self.act(caller, &user, ChatOperation::DeleteThread, thread, work).await
    }

    /// Adds participants, with an identity for each; says whom ACS did not let in.
    pub async fn add_participants(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        participants: Vec<NewParticipant>,
    ) -> Result<Vec<RefusedParticipant>, Error> {
        Check::default().thread(thread).participants(&participants, 1, 0).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let list = &self.identities(caller, &participants).await?;
        let work = |token: Secret| async move { upstream.add_participants(&token, thread, list).await };
        let mut refused = self.act(caller, &user, ChatOperation::ChangeParticipants, thread, work).await?;
        name_known(&mut refused, list);
        Ok(refused)
    }

    /// The participants of a thread.
    pub async fn participants(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        range: ChatRange,
    ) -> Result<ChatPage<Participant>, Error> {
        Check::default().thread(thread).done()?;
        let (user, range, upstream) = (acting(actor), &range, &self.upstream);
        let work = |token: Secret| async move { upstream.participants(&token, thread, range).await };
        let mut page = self.act(caller, &user, ChatOperation::ListParticipants, thread, work).await?;
        self.name(caller, page.entries.iter_mut().map(|one| &mut one.party).collect()).await?;
        Ok(page)
    }

    /// Removes a participant; one without an identity is in no thread, and gets none.
    pub async fn remove_participant(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        removed: UserId,
    ) -> Result<(), Error> {
        Check::default().thread(thread).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let Some(id) = &self.users.known_identity(caller, &removed).await? else { return Ok(()) };
        let work =
            |token: Secret| async move { upstream.remove_participant(&token, thread, id.as_str()).await };
        self.act(caller, &user, ChatOperation::ChangeParticipants, thread, work).await
    }

    /// The message that a request of this caller sent; an error says what is known if it is not there.
    pub async fn message_of_request(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        request: uuid::Uuid,
    ) -> Result<Message, Error> {
        Check::default().thread(thread).done()?;
        let (_, record) = self.messaging.record(Channel::Chat, caller, MessageName::Request(request)).await?;
        let now = self.messaging.0.clock.now();
        let outcome = record.outcomes.first().filter(|outcome| outcome.to == thread);
        let outcome = outcome.ok_or(Error::MessageNotFound)?;
        match (&outcome.upstream_id, &outcome.failure) {
            (Some(message), _) => self.message(caller, actor, thread, message).await,
            (None, Some(_)) => Err(Error::MessageNotFound),
            (None, None) if record.held_until(now).is_some() => {
                Err(Error::RequestInProgress { retry_after: ASK_AGAIN })
            }
            (None, None) => Err(Error::OutcomeUnknown { retry_after: ASK_AGAIN, cause: None }),
        }
    }

    /// A message, without the broker's mark.
    pub async fn message(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        message: &str,
    ) -> Result<Message, Error> {
        Check::default().thread(thread).message(message).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let work = |token: Secret| async move { upstream.message(&token, thread, message).await };
        let mut found = self.act(caller, &user, ChatOperation::GetMessage, thread, work).await?;
        found.metadata.remove(MARK);
        self.name(caller, parties(&mut found).collect()).await?;
        Ok(found)
    }

    /// The messages of a thread, newest first, without the broker's mark.
    pub async fn messages(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        range: ChatRange,
    ) -> Result<ChatPage<Message>, Error> {
        Check::default().thread(thread).done()?;
        let (user, range, upstream) = (acting(actor), &range, &self.upstream);
        let work = |token: Secret| async move { upstream.messages(&token, thread, range).await };
        let mut page = self.act(caller, &user, ChatOperation::ListMessages, thread, work).await?;
        for message in &mut page.entries {
            message.metadata.remove(MARK);
        }
        self.name(caller, page.entries.iter_mut().flat_map(parties).collect()).await?;
        Ok(page)
    }

    /// Deletes a message of the acting user.
    pub async fn delete_message(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        message: &str,
    ) -> Result<(), Error> {
        Check::default().thread(thread).message(message).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let work = |token: Secret| async move { upstream.delete_message(&token, thread, message).await };
        self.act(caller, &user, ChatOperation::ChangeMessages, thread, work).await
    }

    /// Says that the acting user has read up to a message.
    pub async fn send_read_receipt(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        message: &str,
    ) -> Result<(), Error> {
        Check::default().thread(thread).message(message).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let work = |token: Secret| async move { upstream.send_read_receipt(&token, thread, message).await };
        self.act(caller, &user, ChatOperation::SendReceipt, thread, work).await
    }

    /// How far each participant has read.
    pub async fn read_receipts(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        range: ChatRange,
    ) -> Result<ChatPage<Receipt>, Error> {
        Check::default().thread(thread).done()?;
        let (user, range, upstream) = (acting(actor), &range, &self.upstream);
        let work = |token: Secret| async move { upstream.read_receipts(&token, thread, range).await };
        let mut page = self.act(caller, &user, ChatOperation::ListReceipts, thread, work).await?;
        self.name(caller, page.entries.iter_mut().map(|one| &mut one.reader).collect()).await?;
        Ok(page)
    }

    /// Shows the others that the acting user is typing.
    pub async fn send_typing(
        &self,
        caller: &Caller,
        actor: Actor,
        thread: &str,
        sender_display_name: &str,
    ) -> Result<(), Error> {
        Check::default().thread(thread).name("sender_display_name", sender_display_name).done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let name = (!sender_display_name.is_empty()).then_some(sender_display_name);
        let work = |token: Secret| async move { upstream.send_typing(&token, thread, name).await };
        self.act(caller, &user, ChatOperation::Typing, thread, work).await
    }

    /// One call of ACS in the name of a user, within its limits.
    async fn act<T, F, Fut>(
        &self,
        caller: &Caller,
        user: &UserId,
        operation: ChatOperation,
        thread: &str,
        work: F,
    ) -> Result<T, Error>
    where
        F: Fn(Secret) -> Fut + Send,
        Fut: Future<Output = Result<T, ChatError>> + Send,
    {
        let buckets = self.buckets(operation, user, thread);
        let (taken, token) = tokio::join!(self.take(&buckets, caller), self.users.token(caller, user, false));
        let token = match taken.all().and(token) {
            Ok(token) => token.token,
            Err(error) => {
                self.unspend(&buckets, caller, &taken).await;
                return Err(error);
            }
        };
        match self.renewing(caller, user, token, work).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.told(error, &buckets).await),
        }
    }

    /// Does `work` with a token; once more with a new one if ACS refuses it.
    async fn renewing<T, F, Fut>(
        &self,
        caller: &Caller,
        user: &UserId,
        token: Secret,
        work: F,
    ) -> Result<T, ChatError>
    where
        F: Fn(Secret) -> Fut + Send,
        Fut: Future<Output = Result<T, ChatError>> + Send,
    {
        match work(token).await {
            Err(ChatError::TokenRefused(_)) => {
                let renewed = self.users.token(caller, user, true).await.map_err(ChatError::NotDone)?;
                work(renewed.token).await
            }
            result => result,
        }
    }

    /// What a failure that leaves nothing to find out means to the caller.
    async fn told(&self, error: ChatError, buckets: &[Bucket]) -> Error {
        match error {
            ChatError::TokenRefused(error) | ChatError::NotDone(error) => error,
            ChatError::Throttled(retry_after) => {
                self.pause(buckets, retry_after).await;
                Error::AcsThrottled { retry_after }
            }
            ChatError::Unknown { retry_after, cause } => {
                Error::AcsUnavailable { retry_after: retry_after.unwrap_or(ASK_AGAIN), cause }
            }
        }
    }

    fn buckets(&self, operation: ChatOperation, user: &UserId, thread: &str) -> Vec<Bucket> {
        self.messaging.0.limits.chat(operation, user, thread)
    }

    async fn take(&self, buckets: &[Bucket], caller: &Caller) -> Takes {
        let takes = buckets.iter().map(|bucket| self.messaging.take(bucket, caller, 1));
        Takes(futures_util::future::join_all(takes).await)
    }

    /// Gives back what was taken for a call that ACS is not asked for after all.
    async fn unspend(&self, buckets: &[Bucket], caller: &Caller, taken: &Takes) {
        let each = buckets.iter().zip(&taken.0);
        let each = each.map(|(bucket, spent)| self.messaging.unspend(bucket, caller, 1, spent));
        futures_util::future::join_all(each).await;
    }

    async fn pause(&self, buckets: &[Bucket], time: Duration) {
        futures_util::future::join_all(buckets.iter().map(|bucket| self.messaging.pause(bucket, time))).await;
    }

    /// The identities of users whom a request names.
    async fn identities(&self, caller: &Caller, list: &[NewParticipant]) -> Result<Vec<Participant>, Error> {
        let one = |new: NewParticipant| async move {
            let id = self.users.identity(caller, &new.user).await?;
            Ok(Participant {
                party: Party { id: id.as_str().to_owned(), user: Some(new.user) },
                display_name: new.display_name,
                share_history: new.share_history,
            })
        };
        let all: Vec<_> = list.iter().cloned().map(one).collect();
        futures_util::stream::iter(all).buffered(IDENTITIES_AT_ONCE).try_collect().await
    }

    /// Fills in whose these ids of ACS are, where they are users of the app.
    async fn name(&self, caller: &Caller, parties: Vec<&mut Party>) -> Result<(), Error> {
        let mut ids: Vec<_> = parties.iter().filter_map(|party| IdentityId::parse(&party.id).ok()).collect();
        ids.sort();
        ids.dedup();
        if ids.is_empty() {
            return Ok(());
        }
        let users = self.users.users_of(caller, ids).await?;
        for party in parties {
            party.user = users.get(&party.id).filter(|user| !user.is_service()).cloned();
        }
        Ok(())
    }
}

/// What came of taking from each bucket that an operation is counted in.
struct Takes(Vec<Result<Spent, Error>>);

impl Takes {
    /// All of it was there, or what stands in the way.
    fn all(&self) -> Result<(), Error> {
        self.0.iter().find_map(|one| one.as_ref().err()).map_or(Ok(()), |error| Err(error.clone()))
    }
}

/// The user whose identity acts.
fn acting(actor: Actor) -> UserId {
    actor.unwrap_or_else(UserId::service)
}

/// Fills in who was refused, of those who were to be added.
fn name_known(refused: &mut [RefusedParticipant], added: &[Participant]) {
    for one in refused {
        let known = added.iter().find(|participant| participant.party.id == one.party.id);
        one.party.user = known.and_then(|participant| participant.party.user.clone());
    }
}

/// Everybody a message names.
fn parties(message: &mut Message) -> impl Iterator<Item = &mut Party> {
    let Message { sender, initiator, participants, .. } = message;
    sender.iter_mut().chain(initiator).chain(participants.iter_mut().map(|one| &mut one.party))
}
