//! What is noted of one call on its way: who it is for, what it asks, what was decided and what came of it.
//!
//! The transport makes a [`Trail`] for each call and puts it into the request; handlers note on it. Users, numbers and
//! addresses are hashed here, at once, so that none is ever kept. With auditing off a trail is empty and costs nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::chain::Keys;
use super::few::Few;
use super::record::{Decision, Subject, What, member};
use super::{Audit, Open, Unrecorded};

/// Subjects of one record: a chat thread takes 200 participants, an SMS 100 recipients.
pub(super) const MOST_SUBJECTS: usize = 256;

/// What a call of nobody asked for, where calls are added up.
const ANY: &str = "grpc/any";

/// The kinds of those a call can be about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// A user, by the app's id.
    User,
    /// An ACS identity.
    Identity,
    /// Whom a message goes to: a number or an address.
    Recipient,
    /// Whom a message comes from.
    Sender,
    /// A message or the request that sent it.
    Message,
    /// A chat thread.
    Thread,
}

impl Whom {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::User, Self::Identity, Self::Recipient, Self::Sender, Self::Message, Self::Thread];

    /// The word in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Identity => "identity",
            Self::Recipient => "recipient",
            Self::Sender => "sender",
            Self::Message => "message",
            Self::Thread => "thread",
        }
    }
}

impl Whom {
    /// Stands for the value: numbers and addresses do not differ by their case.
    pub(super) fn hash(self, keys: &Keys, value: &str) -> [u8; 16] {
        let fold = matches!(self, Self::Recipient | Self::Sender);
        if fold && value.bytes().any(|byte| byte.is_ascii_uppercase()) {
            keys.subject(self.as_str(), &value.to_ascii_lowercase())
        } else {
            keys.subject(self.as_str(), value)
        }
    }
}

/// A call that leaves records.
#[derive(Debug)]
pub(super) struct Rpc {
    method: &'static str,
    request_id: Box<str>,
    noted: Mutex<Noted>,
}

/// What is noted of a call.
#[derive(Debug, Default)]
pub(super) struct Noted {
    caller: Option<Box<str>>,
    pub(super) decision: Option<Decision>,
    pub(super) subjects: Few<Subject, 2, MOST_SUBJECTS>,
    pub(super) scopes: Few<&'static str, 2, 8>,
    pub(super) effects: Few<(&'static str, u32), 1, 8>,
    pub(super) degraded: bool,
}

impl Rpc {
    pub(super) fn with_noted<T>(&self, work: impl FnOnce(&mut Noted) -> T) -> T {
        work(&mut self.noted.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Appends who asked for what.
    pub(super) fn write(&self, to: &mut String) {
        member("request_id", &self.request_id, to);
        self.with_noted(|noted| {
            if let Some(caller) = &noted.caller {
                member("caller", caller, to);
            }
        });
        member("rpc", self.method, to);
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The name of its status code.
    pub code: &'static str,
    /// The stable reason of its error.
    pub reason: Option<&'static str>,
    /// How long it took.
    pub took: Duration,
}

/// Notes of one call. Cheap to clone; clones are one.
#[derive(Clone, Default)]
pub struct Trail(Option<(Arc<Open>, Arc<Rpc>)>);

/// Shows nothing of the call.
impl std::fmt::Debug for Trail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trail").field("is_on", &self.0.is_some()).finish()
    }
}

impl Trail {
    pub(super) fn new(open: &Arc<Open>, method: &'static str, request_id: &str) -> Self {
        let rpc = Rpc { method, request_id: request_id.into(), noted: Mutex::default() };
        Self(Some((Arc::clone(open), Arc::new(rpc))))
    }

    fn note(&self, work: impl FnOnce(&Open, &mut Noted)) {
        if let Some((open, rpc)) = &self.0 {
            rpc.with_noted(|noted| work(open, noted));
        }
    }

    /// Whom it concerns. The value is hashed at once.
    pub fn subject(&self, whom: Whom, value: &str) -> &Self {
        self.note(|open, noted| noted.subjects.add(open.subject(whom, value)));
        self
    }

    /// Several of a kind.
    pub fn subjects<T: AsRef<str>>(&self, whom: Whom, values: impl IntoIterator<Item = T>) -> &Self {
        if self.0.is_some() {
            for value in values {
                self.subject(whom, value.as_ref());
            }
        }
        self
    }

    /// What is asked for.
    pub fn scopes(&self, scopes: impl IntoIterator<Item = &'static str>) -> &Self {
        self.note(|_, noted| scopes.into_iter().for_each(|scope| noted.scopes.add(scope)));
        self
    }

    /// What came of it, how many times; not at all if zero.
    pub fn effect(&self, name: &'static str, count: usize) -> &Self {
        if count > 0 {
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            self.note(|_, noted| noted.effects.add((name, count)));
        }
        self
    }

    /// The answer is less than was asked for.
    pub fn degraded(&self, yes: bool) -> &Self {
        self.note(|_, noted| noted.degraded |= yes);
        self
    }

    /// The rules that are tried out would refuse it; the first word stays.
    pub fn would_refuse(&self, why: &'static str) -> &Self {
        self.note(|_, noted| {
            if matches!(noted.decision, None | Some(Decision::Allowed)) {
                noted.decision = Some(Decision::WouldRefuse(why));
            }
        });
        self
    }

    /// The rules refuse it, and the error that its caller gets does not say so.
    pub fn refused(&self, why: &'static str) -> &Self {
        self.note(|_, noted| {
            noted.decision.get_or_insert(Decision::Refused(why));
        });
        self
    }

    /// The call may go on: nothing of it has been done yet. With `audit.fail_closed` this waits until that is on disk,
    /// and if it cannot be, the call must not go on.
    pub async fn admitted(&self, caller: &str) -> Result<(), Unrecorded> {
        let Some((open, rpc)) = &self.0 else { return Ok(()) };
        rpc.with_noted(|noted| {
            noted.caller.get_or_insert_with(|| caller.into());
            noted.decision.get_or_insert(Decision::Allowed);
        });
        if open.fail_closed { open.commit(What::Decision { rpc: Arc::clone(rpc) }).await } else { Ok(()) }
    }

    /// Something that was done in the course of the call and has a record of its own.
    pub fn did(&self, name: &'static str, count: u32, on: &[(Whom, &str)]) {
        if let Some((open, rpc)) = &self.0 {
            let on = on.iter().map(|(whom, value)| open.subject(*whom, value)).collect();
            let (rpc, ids) = (Some(Arc::clone(rpc)), Vec::new());
            open.put(What::Effect { rpc, name, outcome: "ok", count, on, ids });
        }
    }

    /// The call ended. `refused` says why it was, if nobody knows whose it is.
    pub fn ended(&self, caller: Option<&str>, refused: Option<&'static str>, outcome: Outcome) {
        let Some((open, rpc)) = &self.0 else { return };
        let is_known = rpc.with_noted(|noted| {
            if let Some(caller) = caller {
                noted.caller.get_or_insert_with(|| caller.into());
            }
            if let Some(why) = refused {
                noted.decision.get_or_insert(Decision::Refused(why));
            }
            noted.caller.is_some()
        });
        if !is_known && !open.queue.strangers.may_have_a_record(Instant::now()) {
            return open.add_up(ANY, refused);
        }
        let Outcome { code, reason, took } = outcome;
        open.put(What::Call { rpc: Arc::clone(rpc), code, reason, took });
    }
}

impl Audit {
    /// The trail of a call that begins; one that notes nothing if auditing is off.
    pub fn trail(&self, method: &'static str, request_id: &str) -> Trail {
        self.0.as_ref().map_or_else(Trail::default, |open| Trail::new(open, method, request_id))
    }
}
