//! The mail that is kept, by the id of the operation that sends it. Bounded.
//!
//! One lock, held for moments and never together with another. Used by the other files of `email`; `control` and the
//! inbox see the mail through `newest_first`, `find`, `html`, `source` and `attachment`.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::plain;
use super::source;
use super::wire::{self, Address, Attachment, Mail};
use crate::clock::Timestamp;
use crate::emulator::mailbox::{Detailed, Kind, Message};
use crate::emulator::settings::Settings;
use crate::emulator::shared::Shared;
use crate::emulator::shelf::Shelf;
use crate::emulator::times;

/// How far an operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Running,
    Succeeded,
    /// With code and message.
    Failed(&'static str, &'static str),
}

impl Status {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed(..) => "Failed",
        }
    }
}

/// What was reported of a recipient.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    pub(super) recipient: String,
    pub(super) status: &'static str,
    pub(super) details: Option<&'static str>,
}

/// A mail and how far it is.
pub(super) struct Kept {
    pub(super) sequence: u64,
    pub(super) at: Timestamp,
    /// The operation's id as it was first written.
    pub(super) id: String,
    /// Shared, so that what is done with a large mail need not be done under the lock.
    pub(super) mail: Arc<Mail>,
    /// The request as it was received.
    pub(super) request: Bytes,
    pub(super) status: Status,
    pub(super) deliveries: Vec<Delivery>,
}

pub(super) struct State {
    /// By the operation's id in lower case.
    pub(super) mails: Shelf<Kept>,
    /// Whether a job waits that lets go of what is too old.
    is_sweeping: bool,
}

/// The mail of the resource.
pub(in crate::emulator) struct Email(Mutex<State>);

impl Email {
    pub(in crate::emulator) fn new(settings: &Settings) -> Self {
        Self(Mutex::new(State { mails: Shelf::new(settings.bounds()), is_sweeping: false }))
    }

    /// Forgets all mail.
    pub(in crate::emulator) fn reset(&self) {
        let mut state = self.state();
        state.mails.clear();
        state.is_sweeping = false;
    }

    /// Shows the mail to `see`, the newest first, until it has seen enough. `see` must not ask for mail itself.
    pub(in crate::emulator) fn newest_first(&self, see: &mut dyn FnMut(Message) -> ControlFlow<()>) {
        let state = self.state();
        for (_, kept) in state.mails.newest_first() {
            if see(kept.listed()).is_break() {
                return;
            }
        }
    }

    /// A mail by the id of its operation.
    pub(in crate::emulator) fn find(&self, id: &str) -> Option<Detailed> {
        self.state().mails.get(&key(id)).map(Kept::detailed)
    }

    /// How much mail is kept.
    pub(in crate::emulator) fn count(&self) -> usize {
        self.state().mails.len()
    }

    /// The HTML of a mail that has some.
    pub(in crate::emulator) fn html(&self, id: &str) -> Option<String> {
        self.mail(id)?.html.clone()
    }

    /// The request that a mail came with, as it was received but laid out for reading.
    pub(in crate::emulator) fn source(&self, id: &str) -> Option<String> {
        let request = self.state().mails.get(&key(id))?.request.clone();
        std::str::from_utf8(&request).ok().map(source::pretty)
    }

    /// A file of a mail, counted from 0.
    pub(in crate::emulator) fn attachment(&self, id: &str, index: usize) -> Option<Attachment> {
        self.mail(id)?.attachments.get(index).cloned()
    }

    /// Who sent a mail.
    pub(super) fn sender(&self, id: &str) -> Option<String> {
        Some(self.mail(id)?.sender.clone())
    }

    fn mail(&self, id: &str) -> Option<Arc<Mail>> {
        self.state().mails.get(&key(id)).map(|kept| Arc::clone(&kept.mail))
    }

    /// Never keep it across a call of anything that locks.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a mail is kept by: ids compare without case.
pub(super) fn key(id: &str) -> String {
    id.to_ascii_lowercase()
}

/// Has what is too old go when its time comes: one job that waits for the oldest mail. Call it after a mail came.
pub(super) fn sweep_later(shared: &Shared) {
    let mut state = shared.email.state();
    let due = state.mails.goes_at().filter(|_| !state.is_sweeping);
    state.is_sweeping |= due.is_some();
    drop(state);
    let Some(due) = due else { return };
    shared.scheduler.at(due, |shared| {
        let now = shared.clock.now();
        let mut state = shared.email.state();
        state.is_sweeping = false;
        state.mails.expire(now);
        drop(state);
        sweep_later(shared);
        shared.feed.changed();
    });
}

impl Kept {
    /// What it takes to keep it, in bytes: the request, and what was read from it once more.
    pub(super) fn bytes(&self) -> usize {
        let mail = &self.mail;
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let address = |address: &Address| {
            address.address.len().saturating_add(text(&address.display_name)).saturating_add(64)
        };
        let attachment = |attachment: &Attachment| {
            let texts = attachment.name.len().saturating_add(attachment.content_type.len());
            attachment
                .bytes
                .len()
                .saturating_add(texts)
                .saturating_add(text(&attachment.content_id))
                .saturating_add(128)
        };
        let header = |(name, value): (&String, &Value)| {
            name.len().saturating_add(value.as_str().map_or(0, str::len)).saturating_add(128)
        };
        let parts = [self.request.len(), mail.subject.len(), text(&mail.plain_text), text(&mail.html)];
        // An address once more for what is reported of it.
        let addresses = mail.recipients().chain(mail.recipients()).chain(&mail.reply_to).map(address);
        let attachments = mail.attachments.iter().map(attachment);
        let all =
            parts.into_iter().chain(addresses).chain(attachments).chain(mail.headers.iter().map(header));
        all.fold(0, usize::saturating_add)
    }

    fn listed(&self) -> Message {
        let mail = &self.mail;
        let text = mail.plain_text.clone();
        Message {
            sequence: self.sequence,
            kind: Kind::Email,
            id: self.id.clone(),
            at: times::iso_8601(self.at),
            direction: "outbound",
            from: mail.sender.clone(),
            from_name: None,
            to: mail.recipients().map(|address| address.address.clone()).collect(),
            subject: Some(mail.subject.clone()),
            text: text.unwrap_or_else(|| plain::text(mail.html.as_deref().unwrap_or_default())),
            status: self.status.name().to_owned(),
            thread: None,
            attachments: mail.attachments.len(),
            tag: None,
        }
    }

    fn detailed(&self) -> Detailed {
        let mail = &self.mail;
        let attachment = |attachment: &Attachment| {
            json!({
                "name": attachment.name,
                "content_type": attachment.content_type,
                "content_id": attachment.content_id,
                "size": attachment.bytes.len(),
            })
        };
        let delivery = |delivery: &Delivery| {
            json!({
                "recipient": delivery.recipient,
                "status": delivery.status,
                "details": delivery.details,
            })
        };
        let headers: &Map<String, Value> = &mail.headers;
        let detail = json!({
            "sender": mail.sender,
            "to": wire::shown(&mail.to),
            "cc": wire::shown(&mail.cc),
            "bcc": wire::shown(&mail.bcc),
            "reply_to": wire::shown(&mail.reply_to),
            "headers": headers,
            "html": mail.html,
            "plain_text": mail.plain_text,
            "attachments": mail.attachments.iter().map(attachment).collect::<Vec<_>>(),
            "tracking_disabled": mail.is_tracking_disabled,
            "operation_id": self.id,
            "deliveries": self.deliveries.iter().map(delivery).collect::<Vec<_>>(),
        });
        Detailed { message: self.listed(), detail }
    }
}
