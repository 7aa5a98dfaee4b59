//! What the audit hears of the intake: who posted, what was decided, and what became of the events.
//!
//! Somebody who is known leaves a record for each request, which with `audit.fail_closed` is on disk before an event takes
//! effect. Of strangers there may be any number; the audit adds them up. No number, address, id or text of an event gets here
//! but to be hashed. Used by `server`.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::audit::{Audit, Outcome, Trail, Unrecorded, Whom};
use crate::messaging::{Event, EventKind, Happened};

/// What a request to the intake is called where a call has its method.
const RPC: &str = "webhook/events";

/// The account of one listener.
pub(super) struct Account {
    audit: Audit,
}

impl Account {
    pub(super) const fn new(audit: Audit) -> Self {
        Self { audit }
    }

    /// Somebody who is not known was refused.
    pub(super) fn refused(&self, why: &'static str) {
        self.audit.refused(RPC, why);
    }

    /// Somebody who is known posts something.
    pub(super) fn visit(&self, who: &'static str) -> Visit {
        let trail = if self.audit.is_on() {
            self.audit.trail(RPC, &uuid::Uuid::new_v4().to_string())
        } else {
            Trail::default()
        };
        Visit { trail, who, began: Instant::now(), became: BTreeMap::new(), reason: None, ended: false }
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    /// It was taken in.
    Taken(EventKind),
    /// It had been before.
    Repeated,
    /// It is of a type that nobody here knows.
    Ignored,
    /// It could not be kept.
    Failed,
}

impl Became {
    /// Its word in records.
    const fn word(self) -> &'static str {
        match self {
            Self::Taken(EventKind::SmsDelivery) => "sms_reports_taken",
            Self::Taken(EventKind::SmsReceived) => "sms_received",
            Self::Taken(EventKind::EmailDelivery) => "mail_reports_taken",
            Self::Taken(EventKind::EmailEngagement) => "mail_engagements_taken",
            Self::Taken(EventKind::Chat) => "chat_events_taken",
            Self::Repeated => "events_repeated",
            Self::Ignored => "events_ignored",
            Self::Failed => "events_failed",
        }
    }
}

/// A request of somebody who is known. Dropped before it ended, whoever posted has hung up: what was done is done.
pub(super) struct Visit {
    trail: Trail,
    who: &'static str,
    began: Instant,
    became: BTreeMap<&'static str, usize>,
    reason: Option<&'static str>,
    ended: bool,
}

impl Visit {
    /// Whom an event is about. Each is hashed at once.
    pub(super) fn about(&self, event: &Event) {
        let note = |whom, value: &str| {
            if !value.is_empty() {
                self.trail.subject(whom, value);
            }
        };
        match &event.happened {
            Happened::SmsDelivery { to, from, .. } | Happened::SmsReceived { to, from, .. } => {
                note(Whom::Sender, from);
                note(Whom::Recipient, to);
            }
            Happened::EmailDelivery { address, .. } | Happened::EmailEngagement { address, .. } => {
                note(Whom::Recipient, address);
            }
            Happened::Chat { thread, actor, subject, .. } => {
                note(Whom::Thread, thread);
                note(Whom::Identity, actor);
                note(Whom::Identity, subject);
            }
        }
    }

    /// What was posted may take effect. With `audit.fail_closed` it waits until that is on disk.
    pub(super) async fn admitted(&mut self) -> Result<(), Unrecorded> {
        let admitted = self.trail.admitted(self.who).await;
        if admitted.is_err() {
            self.reason = Some("AUDIT_UNAVAILABLE");
        }
        admitted
    }

    /// An event became this.
    pub(super) fn became(&mut self, what: Became) {
        *self.became.entry(what.word()).or_default() += 1;
    }

    /// An event could not be kept, for this reason.
    pub(super) fn failed(&mut self, reason: &'static str) {
        self.became(Became::Failed);
        self.reason = Some(reason);
    }

    /// There was not enough time.
    pub(super) fn late(&mut self) {
        self.reason = Some("DEADLINE_EXCEEDED");
    }

    /// It was answered with this status; `refused` says why, if nothing of it was taken in.
    pub(super) fn ended(mut self, code: &'static str, refused: Option<&'static str>) {
        self.end(code, refused);
    }

    fn end(&mut self, code: &'static str, refused: Option<&'static str>) {
        self.ended = true;
        for (word, count) in &self.became {
            self.trail.effect(word, *count);
        }
        let outcome = Outcome { code, reason: self.reason, took: self.began.elapsed() };
        self.trail.ended(Some(self.who), refused, outcome);
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if !self.ended {
            self.end("gone", None);
        }
    }
}
