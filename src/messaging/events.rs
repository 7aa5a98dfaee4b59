//! What happened to messages: taken in from ACS once, told to everybody who watches, at least once.
//!
//! Events arrive in any order, repeated, late, or before the answer to the send they belong to. A record only moves
//! forward; an event that is too early waits for its message. Whoever watches reads the log from a place of their own,
//! so that a slow one delays nobody. Called by the webhook intake and by `grpc`.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::ports::{Cursor, EventsRead};
use super::record::Record;
use super::types::{Failure, MessageId, Outcome, State};
use super::{Messaging, report as log};
use crate::broker::error::Error;
use crate::clock::Timestamp;

/// How long an event is known as taken in: longer than ACS goes on repeating it.
const UNIQUE_FOR: Duration = Duration::from_hours(25);
/// How long an event waits for the message it belongs to.
const EARLY: Duration = Duration::from_mins(10);
/// Events a watcher is handed in one go.
const AT_A_TIME: usize = 100;
/// How often a change is tried that others get in the way of.
pub(super) const TRIES: usize = 8;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// The state of an SMS.
    SmsDelivery,
    /// An SMS to the resource.
    SmsReceived,
    /// The state of a mail for a recipient.
    EmailDelivery,
    /// A mail that was opened, or a link in it.
    EmailEngagement,
    /// A chat thread.
    Chat,
}

/// What happened. Holds numbers, addresses and texts: no `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Happened {
    /// The state of an SMS to one recipient changed.
    SmsDelivery {
        /// ACS's id of the message.
        upstream_id: String,
        /// The recipient.
        to: String,
        /// The sender.
        from: String,
        /// How far it has come.
        state: State,
        /// The channel's own code and words.
        detail: Failure,
        /// The tag it was sent with.
        tag: String,
    },
    /// Somebody sent an SMS to a number of the resource.
    SmsReceived {
        /// ACS's id of the message.
        upstream_id: String,
        /// Who sent it.
        from: String,
        /// The number it was sent to.
        to: String,
        /// The text.
        text: String,
    },
    /// The state of a mail for a recipient changed.
    EmailDelivery {
        /// The operation.
        upstream_id: String,
        /// The recipient.
        address: String,
        /// How far it has come.
        state: State,
        /// The channel's own code and words.
        detail: Failure,
    },
    /// A recipient opened a mail or followed a link.
    EmailEngagement {
        /// The operation.
        upstream_id: String,
        /// The recipient.
        address: String,
        /// `view` or `click`.
        engagement: String,
        /// The link that was followed.
        link: String,
    },
    /// Something happened in a chat thread.
    Chat {
        /// ACS's name of the event without its prefix.
        name: String,
        /// The thread.
        thread: String,
        /// The message.
        message: String,
        /// Who did it, as ACS names them.
        actor: String,
        /// Whom it concerns, as ACS names them.
        subject: String,
        /// The text.
        text: String,
        /// The topic.
        topic: String,
    },
}

/// An event.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// ACS's id of the event: the same for every repetition.
    pub id: String,
    /// When it happened, as ACS says.
    pub at: Timestamp,
    /// The request of this broker that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The caller who made that request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// What happened.
    pub happened: Happened,
}

impl Event {
    /// What it is about.
    pub const fn kind(&self) -> EventKind {
        match self.happened {
            Happened::SmsDelivery { .. } => EventKind::SmsDelivery,
            Happened::SmsReceived { .. } => EventKind::SmsReceived,
            Happened::EmailDelivery { .. } => EventKind::EmailDelivery,
            Happened::EmailEngagement { .. } => EventKind::EmailEngagement,
            Happened::Chat { .. } => EventKind::Chat,
        }
    }

    /// Whether it says how a message ended.
    const fn is_final(&self) -> bool {
        match &self.happened {
            Happened::SmsDelivery { state, .. } | Happened::EmailDelivery { state, .. } => state.is_final(),
            _ => false,
        }
    }

    /// The id of ACS that ties it to a message.
    fn upstream_id(&self) -> Option<&str> {
        match &self.happened {
            Happened::SmsDelivery { upstream_id, .. }
            | Happened::EmailDelivery { upstream_id, .. }
            | Happened::EmailEngagement { upstream_id, .. } => Some(upstream_id),
            Happened::SmsReceived { .. } | Happened::Chat { .. } => None,
        }
    }
}

/// Rung when the log grew, as far as this replica knows.
#[derive(Default)]
pub(super) struct Tail(watch::Sender<u64>);

/// Somebody who watches.
pub struct Watch {
    messaging: Messaging,
    at: Cursor,
    kinds: Vec<EventKind>,
    grown: watch::Receiver<u64>,
}

impl Messaging {
    /// Takes an event in. It is safe to take the same one in again; after an error it should be. Says whether it was new.
    pub async fn take_in(&self, mut event: Event) -> Result<bool, Error> {
        let messages = &self.0.stores.messages;
        let mut linked = match event.upstream_id() {
            Some(upstream_id) => messages.linked(upstream_id).await?,
            None => None,
        };
        // Perhaps the answer to the send is not kept yet: then it is met afterwards. Only what ends a message is kept,
        // for only one event can wait.
        if let (None, Some(upstream_id), true) = (&linked, event.upstream_id(), event.is_final()) {
            let bytes = serde_json::to_vec(&event).unwrap_or_default();
            messages.insert(&early(upstream_id), &bytes, EARLY).await?;
            // The answer may have been kept between the two, and have met nothing.
            linked = messages.linked(upstream_id).await?;
        }
        if let Some((id, part)) = &linked {
            event.message = Some(id.as_str().to_owned());
            event.caller = self.apply(id, *part, &event).await?;
        }
        let bytes = serde_json::to_vec(&event).unwrap_or_default();
        let keep = self.0.settings.retention;
        let is_new = self.0.stores.events.append(&event.id, &bytes, UNIQUE_FOR, keep).await?.is_some();
        if is_new {
            self.0.tail.0.send_modify(|grown| *grown = grown.wrapping_add(1));
        }
        Ok(is_new)
    }

    /// Brings the record up to date, as far as the event takes it further. Returns whose it is.
    async fn apply(&self, id: &MessageId, part: u32, event: &Event) -> Result<Option<String>, Error> {
        let messages = &self.0.stores.messages;
        for _ in 0..TRIES {
            let Some(kept) = messages.get(id).await? else { return Ok(None) };
            let mut record = Record::read(&kept.bytes)?;
            let changed = match &event.happened {
                Happened::SmsDelivery { state, detail, .. } => {
                    let part = usize::try_from(part).unwrap_or(usize::MAX);
                    record.advance(part, *state, failure(*state, detail), event.at)
                }
                Happened::EmailDelivery { address, state, detail, .. } => {
                    let is_it = |outcome: &Outcome| outcome.to.eq_ignore_ascii_case(address);
                    let part = record.outcomes.iter().position(is_it).unwrap_or(usize::MAX);
                    record.advance(part, *state, failure(*state, detail), event.at)
                }
                _ => false,
            };
            let caller = Some(record.caller().to_owned());
            if !changed {
                return Ok(caller);
            }
            let keep = self.0.settings.retention;
            if messages.replace(id, kept.version, &record.bytes(), keep).await?.is_ok() {
                return Ok(caller);
            }
        }
        // Taken in again later, because it was not acknowledged.
        Err(Error::ConcurrentChange)
    }

    /// Applies the events that came before the answer to the send did. Nobody waits for it.
    pub(super) fn meet_early_events(&self, id: &MessageId, links: &[(String, u32)]) {
        let (this, id, links) = (self.clone(), id.clone(), links.to_vec());
        self.0.tasks.spawn(async move {
            for (upstream_id, part) in links {
                let kept = match this.0.stores.messages.get(&early(&upstream_id)).await {
                    Ok(Some(kept)) => kept,
                    Ok(None) => continue,
                    Err(error) => return log(Err(error), "a delivery report that came early may be missed"),
                };
                if let Ok(event) = serde_json::from_slice::<Event>(&kept.bytes)
                    && this.apply(&id, part, &event).await.is_err()
                {
                    tracing::warn!("a delivery report that came early may be missed");
                }
            }
        });
    }

    /// Watches from a place on, or from now on.
    pub async fn watch(&self, from: Option<Cursor>, kinds: Vec<EventKind>) -> Result<Watch, Error> {
        let events = &self.0.stores.events;
        let grown = self.0.tail.0.subscribe();
        let at = match from {
            None => events.end().await?,
            Some(cursor) => match events.read(&cursor, 1).await? {
                EventsRead::Page(_) => cursor,
                EventsRead::TooOld => return Err(Error::CursorExpired),
                EventsRead::Foreign => {
                    return Err(Error::invalid("cursor", "must be one that this stream gave out"));
                }
            },
        };
        Ok(Watch { messaging: self.clone(), at, kinds, grown })
    }

    /// Whether anybody watches on this replica.
    pub fn is_watched(&self) -> bool {
        self.0.tail.0.receiver_count() > 0
    }

    /// Looks whether the log grew on another replica; for a task that does it now and then. Returns the log's end.
    pub async fn look_at_the_log(&self, known: Option<&Cursor>) -> Result<Cursor, Error> {
        let end = self.0.stores.events.end().await?;
        if known != Some(&end) {
            self.0.tail.0.send_modify(|grown| *grown = grown.wrapping_add(1));
        }
        Ok(end)
    }
}

impl Watch {
    /// The next events with their places; waits for some. An error ends the watch.
    pub async fn next(&mut self) -> Result<Vec<(Cursor, Event)>, Error> {
        loop {
            self.grown.mark_unchanged();
            let page = match self.messaging.0.stores.events.read(&self.at, AT_A_TIME).await? {
                EventsRead::Page(page) => page,
                EventsRead::TooOld => return Err(Error::CursorExpired),
                EventsRead::Foreign => return Err(Error::internal("a watcher's place is none of the log")),
            };
            let mut events = Vec::new();
            let is_full = page.events.len() >= AT_A_TIME;
            for (cursor, bytes) in page.events {
                self.at = cursor.clone();
                match serde_json::from_slice::<Event>(&bytes) {
                    Ok(event) if self.kinds.is_empty() || self.kinds.contains(&event.kind()) => {
                        events.push((cursor, event));
                    }
                    Ok(_) => {}
                    Err(_) => tracing::warn!("an event in the log cannot be read and is left out"),
                }
            }
            if !events.is_empty() {
                return Ok(events);
            }
            // A full page of others' events says nothing about the rest.
            if !is_full && self.grown.changed().await.is_err() {
                return Err(Error::internal("the log of events has ended"));
            }
        }
    }
}

/// Where an event waits for the message it belongs to.
fn early(upstream_id: &str) -> MessageId {
    MessageId::stored(format!("early_{upstream_id}"))
}

fn failure(state: State, detail: &Failure) -> Option<Failure> {
    (state == State::Failed).then(|| detail.clone())
}
