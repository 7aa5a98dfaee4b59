//! Finding out about messages whose answer was lost or whose sender died, while no caller asks.
//!
//! One replica at a time looks for a message's mark in its thread, as a repetition of the request would. It never sends:
//! the text is not kept. What it finds stands in the record, where GetChatMessage and a repetition meet it. It gives up
//! when nobody can tell any more. Called by `app`, in turns with mails.

use super::super::email::FOLLOWER;
use super::super::record::Record;
use super::super::types::{Channel, Failure, MessageId, State};
use super::super::{ASK_AGAIN, report as log};
use super::Chat;
use super::message::{Held, LATE, LOOK_AGAIN, Look};
use crate::broker::error::Error;
use crate::broker::types::{Caller, UserId};
use crate::clock::Timestamp;

impl Chat {
    /// Has the message looked at then; with none, never.
    pub(super) async fn look_at(&self, id: &MessageId, due: Option<Timestamp>) {
        let scheduled = self.messaging.0.stores.messages.schedule(id, due).await;
        log(scheduled, "what became of a chat message is found out when its caller asks again");
    }

    /// Looks at mails and chat messages that are due, each by one replica at a time; says how many it looked at.
    pub async fn follow_operations(&self) -> Result<usize, Error> {
        let due = self.messaging.due().await?;
        for id in &due {
            if id.is_of(Channel::Chat) {
                let next = self.follow(id).await?;
                self.messaging.0.stores.messages.schedule(id, next).await?;
            } else {
                self.messaging.follow(id).await?;
            }
        }
        Ok(due.len())
    }

    /// Looks for one message; says when to look again, if that is of use.
    async fn follow(&self, id: &MessageId) -> Result<Option<Timestamp>, Error> {
        let parts = &self.messaging.0;
        let now = parts.clock.now();
        let Some(kept) = parts.stores.messages.get(id).await? else { return Ok(None) };
        let record = Record::read(&kept.bytes)?;
        let user = record.actor.as_deref().and_then(|actor| UserId::parse(actor).ok());
        let (Some(user), true) = (user, record.is_open()) else { return Ok(None) };
        if let Some(until) = record.held_until(now) {
            return Ok(Some(until));
        }
        let certain = record.tried_until(parts.settings.hold).plus(LATE);
        if now > certain.plus(parts.settings.find_out_within) {
            return Ok(None);
        }
        let caller = &Caller::new(FOLLOWER);
        let Some(thread) = record.outcomes.first().map(|outcome| outcome.to.clone()) else { return Ok(None) };
        let mut held = Held { caller, user: &user, id, version: kept.version, record };
        let look = match self.users.token(caller, &user, false).await {
            Ok(token) => self.look(&held, token.token, &thread).await,
            Err(error) => Err(error),
        };
        match look {
            Ok(Look::Here(message)) => {
                held.record.advance(0, State::Sent, None, now);
                if let Some(outcome) = held.record.outcomes.first_mut() {
                    outcome.upstream_id = Some(message);
                }
                parts.metrics.message(Channel::Chat.name(), State::Sent.name());
            }
            Ok(Look::NotHere) if now >= certain => {
                // Open all the same: whoever asks again has it sent.
                if let Some(outcome) = held.record.outcomes.first_mut() {
                    outcome.state = State::Unknown;
                    outcome.failure =
                        Some(Failure { code: "NotSent".into(), detail: "it never reached ACS".into() });
                    outcome.updated = now;
                }
            }
            Ok(Look::NotHere) => return Ok(Some(now.plus(LOOK_AGAIN).min(certain))),
            Ok(Look::CannotTell) | Err(Error::ChatForbidden | Error::ChatNotFound) => return Ok(None),
            Err(error) => return Ok(Some(now.plus(error.retry_after().unwrap_or(ASK_AGAIN).max(ASK_AGAIN)))),
        }
        let (bytes, keep) = (held.record.bytes(), parts.settings.retention);
        // Its caller may have come meanwhile: then it is looked at again.
        let replaced = parts.stores.messages.replace(id, held.version, &bytes, keep).await?;
        Ok(replaced.is_err().then(|| now.plus(ASK_AGAIN)))
    }
}
