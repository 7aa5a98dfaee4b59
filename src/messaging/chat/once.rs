//! Creating a thread, once per request id.
//!
//! The request is kept before ACS is asked; ACS is given an id made of it, and answers the same id with the same
//! thread. A thread that is known is read again instead. Part of `chat`.

use super::super::record::{Fingerprint, Known, Record};
use super::super::types::{Channel, Failure, MessageId, Outcome, State};
use super::check::Check;
use super::{Actor, Chat, NewParticipant, acting, name_known};
use crate::broker::error::Error;
use crate::broker::types::{Caller, UserId};
use crate::messaging::ASK_AGAIN;
use crate::messaging::limits::ChatOperation;
use crate::messaging::ports::{ChatError, Metadata, Party, RefusedParticipant, Thread};
use crate::secret::Secret;

/// What CreateChatThread is asked for.
#[derive(Clone)]
pub struct CreateThread {
    /// Names the request.
    pub request_id: uuid::Uuid,
    /// What it is about.
    pub topic: String,
    /// Who is in, beside the one who acts.
    pub participants: Vec<NewParticipant>,
    /// Texts of the app's own.
    pub metadata: Metadata,
}

/// A thread that was created.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedThread {
    /// The thread.
    pub thread: Thread,
    /// Whom ACS did not let in.
    pub refused: Vec<RefusedParticipant>,
}

impl Chat {
    /// Creates a thread, once however often it is asked for.
    pub async fn create_thread(
        &self,
        caller: &Caller,
        actor: Actor,
        wish: CreateThread,
    ) -> Result<CreatedThread, Error> {
        Check::default()
            .topic(&wish.topic)
            .participants(&wish.participants, 0, 1)
            .metadata(&wish.metadata)
            .done()?;
        let (this, caller, user) = (self.clone(), caller.clone(), acting(actor));
        self.messaging.to_the_end(async move { this.create_thread_once(&caller, &user, wish).await }).await
    }

    async fn create_thread_once(
        &self,
        caller: &Caller,
        user: &UserId,
        wish: CreateThread,
    ) -> Result<CreatedThread, Error> {
        let parts = &self.messaging.0;
        let (now, hold, keep) = (parts.clock.now(), parts.settings.hold, parts.settings.retention);
        let id = MessageId::of(Channel::Chat, caller, &wish.request_id);
        let fingerprint = fingerprint(user, &wish);
        let mut record = Record::new(Channel::Chat, caller, fingerprint.clone(), [String::new()], now, hold);
        let buckets = self.buckets(ChatOperation::CreateThread, user, "");
        let bytes = record.bytes();
        let (inserted, taken, token) = tokio::join!(
            parts.stores.messages.insert(&id, &bytes, keep),
            self.take(&buckets, caller),
            self.users.token(caller, user, false),
        );
        let mut version = 1;
        if let Some(known) = inserted? {
            record = Record::read(&known.bytes)?;
            let met = match record.meet(&fingerprint, now) {
                Ok(Known::Open) => {
                    record.claim(now, hold);
                    let claimed =
                        parts.stores.messages.replace(&id, known.version, &record.bytes(), keep).await?;
                    claimed.map(Some).map_err(|_| Error::RequestInProgress { retry_after: ASK_AGAIN })
                }
                met => met.map(|_| None),
            };
            match met {
                Ok(Some(claimed)) => version = claimed,
                other => {
                    self.unspend(&buckets, caller, &taken).await;
                    other?;
                    return self.created_before(caller, user, record).await;
                }
            }
        }
        let prepared = match (taken.all(), token) {
            (Ok(()), Ok(token)) => {
                self.identities(caller, &wish.participants).await.map(|list| (token.token, list))
            }
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        let (token, participants) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                self.unspend(&buckets, caller, &taken).await;
                self.messaging.give_back(&id, version, record, now).await;
                return Err(error);
            }
        };
        let (upstream, wish, list) = (&self.upstream, &wish, &participants);
        let repeatability_id = id.upstream("thread");
        let work = |token: Secret| async move {
            upstream.create_thread(&token, repeatability_id, &wish.topic, list, &wish.metadata).await
        };
        let result = self.renewing(caller, user, token, work).await;
        let now = parts.clock.now();
        let (mut thread, mut refused) = match result {
            Ok(created) => created,
            Err(ChatError::Unknown { retry_after, cause }) => {
                record.advance(0, State::Unknown, None, now);
                record.release(now);
                self.messaging.keep(&id, version, &record).await;
                return Err(Error::OutcomeUnknown { retry_after: retry_after.unwrap_or(ASK_AGAIN), cause });
            }
            Err(error) => {
                let error = self.told(error, &buckets).await;
                self.messaging.give_back(&id, version, record, now).await;
                return Err(error);
            }
        };
        name_known(&mut refused, list);
        record.advance(0, State::Sent, None, now);
        if let Some(outcome) = record.outcomes.first_mut() {
            outcome.upstream_id = Some(thread.id.clone());
        }
        record.outcomes.truncate(1);
        record.outcomes.extend(refused.iter().map(|one| Outcome {
            to: one.party.id.clone(),
            upstream_id: None,
            state: State::Failed,
            failure: Some(one.failure.clone()),
            updated: now,
        }));
        record.release(now);
        parts.metrics.message(Channel::Chat.name(), State::Sent.name());
        self.messaging.keep(&id, version, &record).await;
        self.name(caller, thread.creator.iter_mut().collect()).await?;
        Ok(CreatedThread { thread, refused })
    }

    /// The thread of a request that is done, as it is now.
    async fn created_before(
        &self,
        caller: &Caller,
        user: &UserId,
        record: Record,
    ) -> Result<CreatedThread, Error> {
        let mut outcomes = record.outcomes.into_iter();
        let thread = outcomes.next().and_then(|outcome| outcome.upstream_id);
        let thread = thread.ok_or_else(|| Error::internal("a record of a thread has no thread"))?;
        let actor = (!user.is_service()).then(|| user.clone());
        let thread = self.thread(caller, actor, &thread).await?;
        let nothing = || Failure { code: String::new(), detail: String::new() };
        let refused = outcomes.map(|outcome| RefusedParticipant {
            party: Party::named(outcome.to),
            failure: outcome.failure.unwrap_or_else(nothing),
        });
        let mut refused: Vec<_> = refused.collect();
        self.name(caller, refused.iter_mut().map(|one| &mut one.party).collect()).await?;
        Ok(CreatedThread { thread, refused })
    }
}

fn fingerprint(user: &UserId, wish: &CreateThread) -> Fingerprint {
    let mut parts = vec!["CreateChatThread".to_owned(), user.as_str().to_owned(), wish.topic.clone()];
    for one in &wish.participants {
        let since = one.share_history.map(|time| time.as_millis().to_string()).unwrap_or_default();
        parts.extend([one.user.as_str().to_owned(), one.display_name.clone(), since]);
    }
    // Tells where the participants end.
    parts.push(wish.participants.len().to_string());
    parts.extend(wish.metadata.iter().flat_map(|(key, value)| [key.clone(), value.clone()]));
    Fingerprint::of(parts.iter().map(String::as_bytes))
}
