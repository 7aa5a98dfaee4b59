//! Sending a message, once per request id, although ACS cannot tell a repeated message from a new one.
//!
//! The request is kept before ACS is asked, with the time by which the try must have ended, and the message carries the
//! request's id in its metadata. Whoever meets a request whose end is not known looks for that mark in the thread. It
//! is sent again only when the mark is not there and the last try ended so long ago that it would be. Part of `chat`.

use std::time::Duration;

use super::super::ports::Versioned;
use super::super::record::{Fingerprint, Known, Record};
use super::super::types::{Channel, MessageId, State};
use super::check::Check;
use super::{Actor, Chat, MARK, acting};
use crate::broker::error::{Cause, Error};
use crate::broker::types::{Caller, UserId};
use crate::clock::Timestamp;
use crate::messaging::ASK_AGAIN;
use crate::messaging::limits::ChatOperation;
use crate::messaging::ports::{ActingToken, ChatError, ChatRange, Metadata, OutgoingMessage};
use crate::secret::Secret;

/// How long after a try may have ended its message may still turn up in the thread. Only then is "not there" certain.
pub(super) const LATE: Duration = Duration::from_secs(60);
/// How far ACS's clock may be from ours.
const SKEW: Duration = Duration::from_mins(5);
/// How soon somebody looks again for a message whose end is not known.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How much of a thread is looked through before the answer is that nobody can tell.
const PAGE: u32 = 100;
const MOST_PAGES: usize = 50;

/// What SendChatMessage is asked for.
#[derive(Clone)]
pub struct SendChatMessage {
    /// Names the request.
    pub request_id: uuid::Uuid,
    /// The thread.
    pub thread: String,
    /// The text.
    pub text: String,
    /// Whether it is HTML.
    pub is_html: bool,
    /// The name the sender goes by; empty for none.
    pub sender_display_name: String,
    /// Texts of the app's own.
    pub metadata: Metadata,
}

/// What UpdateChatMessage is asked for.
#[derive(Clone)]
pub struct UpdateMessage {
    /// The thread.
    pub thread: String,
    /// The message.
    pub message: String,
    /// The new text.
    pub text: Option<String>,
    /// The texts of the app's own that replace the old ones.
    pub metadata: Option<Metadata>,
}

/// What looking for a message came to.
pub(super) enum Look {
    Here(String),
    NotHere,
    CannotTell,
}

/// What finding out about a request came to.
enum Found<'a> {
    /// The answer to whoever asks.
    Out(Result<String, Error>),
    /// It never arrived, with the time by which the last try had ended: it may be sent again.
    NotThere(Box<Held<'a>>, Timestamp, ActingToken),
}

/// A request that this replica has to itself.
pub(super) struct Held<'a> {
    pub(super) caller: &'a Caller,
    pub(super) user: &'a UserId,
    pub(super) id: &'a MessageId,
    pub(super) version: u64,
    pub(super) record: Record,
}

impl Chat {
    /// Sends a message, once however often it is asked for; returns its id.
    pub async fn send_message(
        &self,
        caller: &Caller,
        actor: Actor,
        wish: SendChatMessage,
    ) -> Result<String, Error> {
        Check::default()
            .thread(&wish.thread)
            .text(&wish.text)
            .name("sender_display_name", &wish.sender_display_name)
            .metadata(&wish.metadata)
            .done()?;
        let (this, caller, user) = (self.clone(), caller.clone(), acting(actor));
        self.messaging.to_the_end(async move { this.send_message_once(&caller, &user, wish).await }).await
    }

    /// Changes a message of the acting user; the broker's mark stays on it.
    pub async fn update_message(
        &self,
        caller: &Caller,
        actor: Actor,
        wish: UpdateMessage,
    ) -> Result<(), Error> {
        let mut check = Check::default().thread(&wish.thread).message(&wish.message);
        if let Some(text) = &wish.text {
            check = check.text(text);
        }
        if let Some(metadata) = &wish.metadata {
            check = check.metadata(metadata);
        }
        check.done()?;
        let (user, upstream) = (acting(actor), &self.upstream);
        let mut wish = wish;
        if let Some(metadata) = &mut wish.metadata {
            // ACS replaces metadata as a whole.
            let (thread, message) = (wish.thread.as_str(), wish.message.as_str());
            let work = |token: Secret| async move { upstream.message(&token, thread, message).await };
            let mut now = self.act(caller, &user, ChatOperation::GetMessage, thread, work).await?;
            metadata.extend(now.metadata.remove_entry(MARK));
        }
        let wish = &wish;
        let work = |token: Secret| async move {
            let (text, metadata) = (wish.text.as_deref(), wish.metadata.as_ref());
            upstream.update_message(&token, &wish.thread, &wish.message, text, metadata).await
        };
        self.act(caller, &user, ChatOperation::ChangeMessages, &wish.thread, work).await
    }

    async fn send_message_once(
        &self,
        caller: &Caller,
        user: &UserId,
        wish: SendChatMessage,
    ) -> Result<String, Error> {
        let parts = &self.messaging.0;
        let (now, hold) = (parts.clock.now(), parts.settings.hold);
        let id = MessageId::of(Channel::Chat, caller, &wish.request_id);
        let fingerprint = fingerprint(user, &wish);
        let to = [wish.thread.clone()];
        let mut record = Record::new(Channel::Chat, caller, fingerprint.clone(), to, now, hold);
        record.sending_until = Some(now.plus(hold));
        record.actor = Some(user.as_str().to_owned());
        let bytes = record.bytes();
        let buckets = self.buckets(ChatOperation::ChangeMessages, user, &wish.thread);
        let ((), inserted, taken, token) = tokio::join!(
            // Should this process die, another one looks what became of it. First, so that no record is there without.
            self.look_at(&id, Some(now.plus(hold))),
            parts.stores.messages.insert(&id, &bytes, parts.settings.retention),
            self.take(&buckets, caller),
            self.users.token(caller, user, false),
        );
        let held = Held { caller, user, id: &id, version: 1, record };
        let (held, tried_until, token) = match inserted? {
            None => (held, None, token),
            Some(known) => match self.find_out(held, known, &fingerprint, token, &wish).await {
                Found::Out(result) => {
                    // Nothing is sent: what this call took for it is free again.
                    self.unspend(&buckets, caller, &taken).await;
                    if result.is_ok() {
                        self.look_at(&id, None).await;
                    }
                    return result;
                }
                Found::NotThere(held, tried_until, token) => (*held, Some(tried_until), Ok(token)),
            },
        };
        let token = match taken.all().and(token) {
            Ok(token) => token,
            Err(error) => {
                self.unspend(&buckets, caller, &taken).await;
                return Err(self.let_go(held, tried_until, error).await);
            }
        };
        let mut held = held;
        if tried_until.is_some() {
            let again = parts.clock.now();
            held.record.sending_until = Some(again.plus(parts.settings.hold));
            if let Some(outcome) = held.record.outcomes.first_mut() {
                outcome.failure = None;
            }
            self.claim(&mut held, again).await?;
        }
        self.send_held(held, tried_until, token.token, &wish).await
    }

    /// Finds out what became of a request that was asked for before.
    async fn find_out<'a>(
        &self,
        mut held: Held<'a>,
        known: Versioned,
        fingerprint: &Fingerprint,
        token: Result<ActingToken, Error>,
        wish: &SendChatMessage,
    ) -> Found<'a> {
        let parts = &self.messaging.0;
        let now = parts.clock.now();
        held.record = match Record::read(&known.bytes) {
            Ok(record) => record,
            Err(error) => return Found::Out(Err(error)),
        };
        held.version = known.version;
        let claimed = match held.record.meet(fingerprint, now) {
            Ok(Known::Settled) => {
                let sent = held.record.outcomes.into_iter().next().and_then(|outcome| outcome.upstream_id);
                let sent = sent.ok_or_else(|| Error::internal("a record of a message has no message"));
                return Found::Out(sent);
            }
            Ok(Known::Open) => self.claim(&mut held, now).await,
            Err(error) => Err(error),
        };
        if let Err(error) = claimed {
            return Found::Out(Err(error));
        }
        let tried_until = held.record.tried_until(parts.settings.hold);
        let token = match token {
            Ok(token) => token,
            Err(error) => return Found::Out(Err(self.let_go(held, Some(tried_until), error).await)),
        };
        Found::Out(match self.look(&held, token.token.clone(), &wish.thread).await {
            Ok(Look::Here(message)) => Ok(self.settle(held, message).await),
            Ok(Look::NotHere) if now >= tried_until.plus(LATE) => {
                return Found::NotThere(Box::new(held), tried_until, token);
            }
            Ok(Look::NotHere) => {
                let wait = tried_until.plus(LATE).since(now);
                Err(self.leave_unknown(held, tried_until, wait, None).await)
            }
            Ok(Look::CannotTell) => Err(self.leave_unknown(held, tried_until, LATE, None).await),
            // Nobody in this thread can be asked: what ACS says of that is the answer.
            Err(error @ (Error::ChatForbidden | Error::ChatNotFound)) => {
                Err(self.let_go(held, Some(tried_until), error).await)
            }
            Err(error) => {
                let wait = error.retry_after().unwrap_or(ASK_AGAIN);
                let cause: Cause = std::sync::Arc::new(error);
                Err(self.leave_unknown(held, tried_until, wait, Some(cause)).await)
            }
        })
    }

    /// Sends a request that is kept. `tried_until` is when an earlier try had ended, if there was one.
    async fn send_held(
        &self,
        mut held: Held<'_>,
        tried_until: Option<Timestamp>,
        token: Secret,
        wish: &SendChatMessage,
    ) -> Result<String, Error> {
        let parts = &self.messaging.0;
        let ends = held.record.sending_until.unwrap_or(held.record.created);
        // Others count on the try to be over by then: begun late, it is not begun at all.
        if parts.clock.now().plus(parts.settings.hold * 4 / 5) > ends {
            let error = Error::AcsUnavailable { retry_after: ASK_AGAIN, cause: None };
            return Err(self.let_go(held, tried_until, error).await);
        }
        let mut metadata = wish.metadata.clone();
        metadata.insert(MARK.to_owned(), held.id.as_str().to_owned());
        let name = &wish.sender_display_name;
        let message = &OutgoingMessage {
            thread: wish.thread.clone(),
            text: wish.text.clone(),
            is_html: wish.is_html,
            sender_display_name: (!name.is_empty()).then(|| name.clone()),
            metadata,
        };
        let upstream = &self.upstream;
        let work = |token: Secret| async move { upstream.send_message(&token, message).await };
        match self.renewing(held.caller, held.user, token.clone(), work).await {
            Ok(message) => Ok(self.settle(held, message).await),
            Err(ChatError::Unknown { retry_after, cause }) => {
                let ended = parts.clock.now();
                // Most often it is there already.
                if let Ok(Look::Here(message)) = self.look(&held, token, &wish.thread).await {
                    return Ok(self.settle(held, message).await);
                }
                let wait = retry_after.unwrap_or(ASK_AGAIN);
                held.record.sending_until = Some(ended);
                Err(self.leave_unknown(held, ended, wait, cause).await)
            }
            Err(error) => {
                let buckets = self.buckets(ChatOperation::ChangeMessages, held.user, &wish.thread);
                let error = self.told(error, &buckets).await;
                Err(self.let_go(held, tried_until, error).await)
            }
        }
    }

    /// Looks for a request's message in the thread, back to when the request was kept.
    pub(super) async fn look(&self, held: &Held<'_>, token: Secret, thread: &str) -> Result<Look, Error> {
        let since = held.record.created.minus(SKEW);
        let buckets = self.buckets(ChatOperation::ListMessages, held.user, thread);
        let upstream = &self.upstream;
        let mut range = ChatRange { size: Some(PAGE), since: Some(since), from: None };
        for _ in 0..MOST_PAGES {
            let taken = self.take(&buckets, held.caller).await;
            if let Err(error) = taken.all() {
                self.unspend(&buckets, held.caller, &taken).await;
                return Err(error);
            }
            let asked = &range;
            let work = |token: Secret| async move { upstream.messages(&token, thread, asked).await };
            let page = match self.renewing(held.caller, held.user, token.clone(), work).await {
                Ok(page) => page,
                Err(error) => return Err(self.told(error, &buckets).await),
            };
            let is_it = |mark: &String| mark == held.id.as_str();
            let found = page.entries.iter().find(|one| one.metadata.get(MARK).is_some_and(is_it));
            if let Some(found) = found {
                return Ok(Look::Here(found.id.clone()));
            }
            // Newest first, by the last change: nothing can be behind a page that is all older.
            let changed = |one: &crate::messaging::ports::Message| {
                one.created.max(one.edited.unwrap_or(one.created)).max(one.deleted.unwrap_or(one.created))
            };
            let all_older = !page.entries.is_empty() && page.entries.iter().all(|one| changed(one) < since);
            match page.next {
                Some(next) if !all_older => range.from = Some(next),
                _ => return Ok(Look::NotHere),
            }
        }
        Ok(Look::CannotTell)
    }

    /// Takes a request over, or takes it anew; nobody else has changed it meanwhile.
    async fn claim(&self, held: &mut Held<'_>, now: Timestamp) -> Result<(), Error> {
        let parts = &self.messaging.0;
        held.record.claim(now, parts.settings.hold);
        let (bytes, keep) = (held.record.bytes(), parts.settings.retention);
        let claimed = parts.stores.messages.replace(held.id, held.version, &bytes, keep).await?;
        held.version = claimed.map_err(|_| Error::RequestInProgress { retry_after: ASK_AGAIN })?;
        Ok(())
    }

    /// It is in the thread: keeps that for ever after.
    async fn settle(&self, mut held: Held<'_>, message: String) -> String {
        let now = self.messaging.0.clock.now();
        held.record.advance(0, State::Sent, None, now);
        if let Some(outcome) = held.record.outcomes.first_mut() {
            outcome.upstream_id = Some(message.clone());
        }
        held.record.release(now);
        self.messaging.0.metrics.message(Channel::Chat.name(), State::Sent.name());
        tokio::join!(self.messaging.keep(held.id, held.version, &held.record), self.look_at(held.id, None));
        message
    }

    /// It is not known whether it is in the thread: keeps that, open to whoever asks next.
    async fn leave_unknown(
        &self,
        mut held: Held<'_>,
        tried_until: Timestamp,
        retry_after: Duration,
        cause: Option<Cause>,
    ) -> Error {
        let now = self.messaging.0.clock.now();
        held.record.sending_until = Some(tried_until);
        held.record.advance(0, State::Unknown, None, now);
        held.record.release(now);
        self.messaging.0.metrics.message(Channel::Chat.name(), State::Unknown.name());
        tokio::join!(
            self.messaging.keep(held.id, held.version, &held.record),
            self.look_at(held.id, Some(now.plus(LOOK_AGAIN)))
        );
        Error::OutcomeUnknown { retry_after, cause }
    }

    /// This try has surely sent nothing: the request is as it was before.
    async fn let_go(&self, mut held: Held<'_>, tried_until: Option<Timestamp>, error: Error) -> Error {
        let now = self.messaging.0.clock.now();
        if tried_until.is_some() {
            held.record.sending_until = tried_until;
        }
        let next = tried_until.map(|_| now.plus(LOOK_AGAIN));
        tokio::join!(
            self.messaging.give_back(held.id, held.version, held.record, now),
            self.look_at(held.id, next)
        );
        error
    }
}

fn fingerprint(user: &UserId, wish: &SendChatMessage) -> Fingerprint {
    let kind = if wish.is_html { "html" } else { "text" };
    let parts = [
        "SendChatMessage",
        user.as_str(),
        wish.thread.as_str(),
        wish.text.as_str(),
        kind,
        wish.sender_display_name.as_str(),
    ];
    let metadata = wish.metadata.iter().flat_map(|(key, value)| [key.as_str(), value.as_str()]);
    Fingerprint::of(parts.into_iter().chain(metadata).map(str::as_bytes))
}
