//! What a caller may do, as values and pure questions: which RPCs, for which users, with which scopes and senders.
//!
//! Whatever is not allowed is refused: permissions made from nothing allow nothing. It never reads a file and never
//! logs; no answer of it holds a user id, a number or an address. Used by `auth`, which makes permissions from the
//! policy file, and by `grpc`, which asks before the core does anything.

mod mail;
mod quota;
mod rpc;

use std::fmt;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::mail::mail_pattern_problem;
pub use self::quota::{BadRate, Quota, Rate};
pub use self::rpc::{Rpc, RpcSet};
use super::types::{Scope, ScopeSet, UserId, Validity};

/// What a request needs beside the RPC itself.
#[derive(Clone, Copy)]
pub enum Need<'a> {
    /// To call the RPC.
    Rpc,
    /// To name this user.
    User(&'a UserId),
    /// To see all users at once.
    EveryUser,
    /// A token with these scopes.
    Scopes(ScopeSet),
    /// A token that is valid for so long.
    Validity(Validity),
    /// To send SMS from this number or name.
    SmsSender(&'a str),
    /// To send mail from this address.
    EmailSender(&'a str),
    /// To act in chat as the broker itself.
    ServiceIdentity,
    /// To watch what happens to others' messages and users too.
    EveryEvent,
}

/// A permission that is missing. Its text names the permission and never a value of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Missing {
    /// To call it.
    Rpc(Rpc),
    /// To name this user.
    User,
    /// To see all users at once.
    EveryUser,
    /// A token with this scope.
    Scope(Scope),
    /// A token that is valid for so long.
    Validity,
    /// To send SMS from there.
    SmsSender,
    /// To send mail from there.
    EmailSender,
    /// To act in chat as the broker itself.
    ServiceIdentity,
    /// To watch what happens to others' messages and users too.
    EveryEvent,
    /// The end user's own token, or one that names this user.
    EndUser,
    /// More calls in this time.
    Quota,
}

impl Missing {
    /// The kind alone, for labels.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Rpc(_) => "rpc",
            Self::User => "user",
            Self::EveryUser => "user:*",
            Self::Scope(_) => "scope",
            Self::Validity => "validity",
            Self::SmsSender => "sms_sender",
            Self::EmailSender => "email_sender",
            Self::ServiceIdentity => "service_identity",
            Self::EveryEvent => "events:all",
            Self::EndUser => "user_token",
            Self::Quota => "quota",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rpc(rpc) => write!(f, "rpc:{}", rpc.name()),
            Self::Scope(scope) => write!(f, "scope:{}", scope.as_str()),
            other => f.write_str(other.kind()),
        }
    }
}

/// A list of names in which `*` stands for any beginning or any end. The empty list holds nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns {
    any: bool,
    whole: Vec<String>,
    beginnings: Vec<String>,
    ends: Vec<String>,
}

impl Patterns {
    /// Everything.
    pub fn any() -> Self {
        Self { any: true, ..Self::default() }
    }

    /// Beginnings, exactly as written; `*` alone is everything.
    pub fn beginnings<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> Self {
        let mut patterns = Self::default();
        for item in list {
            match item.as_ref() {
                "*" => patterns.any = true,
                beginning => patterns.beginnings.push(beginning.to_owned()),
            }
        }
        patterns
    }

    /// Whole names, `beginning*`, `*end` or `*`; upper and lower case of ASCII letters are the same.
    pub fn senders<T: AsRef<str>>(list: impl IntoIterator<Item = T>) -> Self {
        let mut patterns = Self::default();
        for item in list {
            let item = item.as_ref().to_ascii_lowercase();
            match (item.as_str(), item.strip_suffix('*'), item.strip_prefix('*')) {
                ("*", ..) => patterns.any = true,
                (_, Some(beginning), _) => patterns.beginnings.push(beginning.to_owned()),
                (_, None, Some(end)) => patterns.ends.push(end.to_owned()),
                (_, None, None) => patterns.whole.push(item),
            }
        }
        patterns
    }

    /// Whether it holds everything there is.
    pub const fn is_any(&self) -> bool {
        self.any
    }

    fn holds(&self, name: &str) -> bool {
        self.any
            || self.whole.iter().any(|whole| whole == name)
            || self.beginnings.iter().any(|beginning| name.starts_with(beginning.as_str()))
            || self.ends.iter().any(|end| name.ends_with(end.as_str()))
    }

    fn holds_sender(&self, name: &str) -> bool {
        self.any || self.holds(&name.to_ascii_lowercase())
    }
}

/// That the end user must have proven who they are too, with a token of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndUserRule {
    /// The policy's name of the issuer whose token it must be.
    pub issuer: Arc<str>,
    /// The claim that must be the user id.
    pub claim: Arc<str>,
}

/// What a caller is allowed. Made from nothing it allows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The RPCs it may call.
    pub rpcs: RpcSet,
    /// The scopes its tokens may have.
    pub scopes: Option<ScopeSet>,
    /// How long its tokens may be valid.
    pub max_validity: Validity,
    /// The users it may name, by the beginnings of their ids.
    pub users: Patterns,
    /// Where its SMS may come from.
    pub sms_senders: Patterns,
    /// Where its mail may come from.
    pub email_senders: Patterns,
    /// Whether it may act in chat as the broker itself, which is in the threads of every caller that does.
    pub service_identity: bool,
    /// Whether it sees all events, not only its own.
    pub every_event: bool,
    /// Whether end users must prove themselves too.
    pub end_user: Option<EndUserRule>,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            rpcs: RpcSet::NONE,
            scopes: None,
            max_validity: Validity::MAX,
            users: Patterns::default(),
            sms_senders: Patterns::default(),
            email_senders: Patterns::default(),
            service_identity: false,
            every_event: false,
            end_user: None,
        }
    }
}

impl Rules {
    /// Everything there is.
    pub fn everything() -> Self {
        Self {
            rpcs: RpcSet::ALL,
            scopes: ScopeSet::new(Scope::ALL).ok(),
            max_validity: Validity::MAX,
            users: Patterns::any(),
            sms_senders: Patterns::any(),
            email_senders: Patterns::any(),
            service_identity: true,
            every_event: true,
            end_user: None,
        }
    }

    /// Whether this is allowed in a call of that RPC; else what is missing. The RPC itself must be asked for too.
    pub fn allow(&self, rpc: Rpc, need: Need<'_>) -> Result<(), Missing> {
        let (allowed, missing) = match need {
            Need::Rpc => (self.rpcs.contains(rpc), Missing::Rpc(rpc)),
            Need::User(user) => (self.users.holds(user.as_str()), Missing::User),
            Need::EveryUser => (self.users.is_any(), Missing::EveryUser),
            Need::Scopes(wanted) => {
                let mut lacking = wanted.iter().filter(|scope| !self.has_scope(*scope));
                return lacking.next().map_or(Ok(()), |scope| Err(Missing::Scope(scope)));
            }
            Need::Validity(wanted) => (wanted <= self.max_validity, Missing::Validity),
            Need::SmsSender(sender) => (self.sms_senders.holds_sender(sender), Missing::SmsSender),
            Need::EmailSender(sender) => (self.email_senders.holds_sender(sender), Missing::EmailSender),
            Need::ServiceIdentity => (self.service_identity, Missing::ServiceIdentity),
            Need::EveryEvent => (self.every_event, Missing::EveryEvent),
        };
        if allowed { Ok(()) } else { Err(missing) }
    }

    fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.is_some_and(|scopes| scopes.iter().any(|allowed| allowed == scope))
    }
}

/// Looks on in shadow mode: hears of everything that callers need, and whether it would have been refused.
pub trait Witness: Send + Sync {
    /// The caller of that name needed this; `missing` is the permission it does not have.
    fn needed(&self, caller: &str, rpc: Rpc, need: Need<'_>, missing: Option<Missing>);

    /// The caller would have been refused for something else.
    fn lacked(&self, caller: &str, rpc: Rpc, missing: Missing);
}

/// A caller's rules in force, with what they count.
#[derive(Default)]
pub struct Permissions {
    rules: Rules,
    quotas: Vec<Quota>,
    /// Cancelled when other rules have taken their place.
    replaced: CancellationToken,
    /// Set in shadow mode: then nothing is refused.
    witness: Option<Arc<dyn Witness>>,
}

static NOTHING: LazyLock<Arc<Permissions>> = LazyLock::new(Arc::default);
static EVERYTHING: LazyLock<Arc<Permissions>> =
    LazyLock::new(|| Arc::new(Permissions::new(Rules::everything(), Vec::new())));

impl Permissions {
    /// These rules within these quotas.
    pub fn new(rules: Rules, quotas: Vec<Quota>) -> Self {
        Self { rules, quotas, replaced: CancellationToken::new(), witness: None }
    }

    /// The same, watched by somebody instead of enforced.
    #[must_use]
    pub fn watched(mut self, witness: Arc<dyn Witness>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// None at all. Made once: cloning it allocates nothing.
    pub fn nothing() -> Arc<Self> {
        Arc::clone(&NOTHING)
    }

    /// All of them. Made once: cloning it allocates nothing.
    pub fn everything() -> Arc<Self> {
        Arc::clone(&EVERYTHING)
    }

    /// What they allow.
    pub const fn rules(&self) -> &Rules {
        &self.rules
    }

    /// How often they allow it.
    pub fn quotas(&self) -> &[Quota] {
        &self.quotas
    }

    /// Whether refusals are only noted.
    pub const fn is_shadow(&self) -> bool {
        self.witness.is_some()
    }

    /// Cancelled once other rules are in force for this caller: what goes on for long has to ask again.
    pub const fn replaced(&self) -> &CancellationToken {
        &self.replaced
    }

    /// Whether the caller of that name may have this now; else what is missing.
    pub fn judge(&self, caller: &str, rpc: Rpc, need: Need<'_>) -> Result<(), Missing> {
        let judged = self.rules.allow(rpc, need);
        match &self.witness {
            None => judged,
            Some(witness) => {
                witness.needed(caller, rpc, need, judged.err());
                Ok(())
            }
        }
    }

    /// Refuses for a reason that is found out elsewhere, unless refusals are only noted.
    pub fn refuse(&self, caller: &str, rpc: Rpc, missing: Missing) -> Result<(), Missing> {
        match &self.witness {
            None => Err(missing),
            Some(witness) => {
                witness.lacked(caller, rpc, missing);
                Ok(())
            }
        }
    }

    /// Whether the caller may learn of this user. Nothing is noted of it.
    pub fn may_know(&self, user: &UserId) -> bool {
        self.is_shadow() || self.rules.users.holds(user.as_str())
    }

    /// Counts a call; else how long to wait for the next one that is allowed. False if it is one too many where refusals
    /// are only noted.
    pub fn count(&self, caller: &str, rpc: Rpc, now: Instant) -> Result<bool, Duration> {
        for quota in self.quotas.iter().filter(|quota| quota.covers(rpc)) {
            if let Err(wait) = quota.take(now) {
                return self.refuse(caller, rpc, Missing::Quota).map(|()| false).map_err(|_| wait);
            }
        }
        Ok(true)
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permissions").field("rules", &self.rules).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
