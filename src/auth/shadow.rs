//! Shadow mode: nothing is refused; what would be is logged and counted, and what callers really use is remembered, so
//! that the smallest policy that fits can be written from it.
//!
//! It remembers names of services, RPCs, scopes, senders and the beginnings that many user ids share; never a user id,
//! a recipient or a token. Everything is bounded. Made by `app` when `auth.shadow` is on; printed by `admin`.

mod seen;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::seen::Seen;
use super::{Peer, Principal, UNAUTHENTICATED, Unidentified};
use crate::broker::policy::{Missing, Need, Permissions, Rpc, Rules, Witness};
use crate::broker::types::Caller;
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// Callers that are remembered; more share one entry.
const MAX_CALLERS: usize = 256;

/// Different refusals of which it is remembered when they were last logged.
const MAX_LOGGED: usize = 4096;

/// The same refusal is logged once in this time, and counted each time.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// What would have been refused, and what was used.
pub struct Shadow {
    allow_off_loopback: bool,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    notes: Mutex<Notes>,
}

#[derive(Default)]
struct Notes {
    seen: HashMap<Arc<str>, Seen>,
    logged: HashMap<(Arc<str>, Rpc, &'static str, String), Timestamp>,
}

impl Shadow {
    /// One that lets strangers in from this machine, and from elsewhere if told so.
    pub fn new(allow_off_loopback: bool, clock: Arc<dyn Clock>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { allow_off_loopback, clock, metrics, notes: Mutex::default() })
    }

    /// Lets somebody in whom the gate refuses, with whatever they want, unless even unauthenticated callers would not
    /// be let in from there.
    pub(super) fn stranger(
        self: &Arc<Self>,
        peer: &Peer,
        principal: Option<&Principal>,
        why: Unidentified,
    ) -> Result<Caller, Unidentified> {
        if !(peer.is_local() || self.allow_off_loopback) {
            return Err(why);
        }
        let called = principal.map_or_else(|| "a stranger".to_owned(), described);
        let witness = Stranger { shadow: Arc::clone(self), called: called.into(), why };
        let permissions = Permissions::new(Rules::default(), Vec::new()).watched(Arc::new(witness));
        Ok(Caller::allowed(UNAUTHENTICATED, Arc::new(permissions)))
    }

    /// What callers used, as the policy that allows just that.
    pub fn policy(&self) -> String {
        let notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let mut callers: Vec<_> = notes.seen.iter().collect();
        callers.sort_by_key(|(name, _)| Arc::clone(name));
        let mut text = String::from(
            "# What callers of this replica have used since it started, as a policy that allows just that.\n\
             # Other replicas have seen other calls. Check it before you trust it.\n",
        );
        for (name, seen) in callers {
            text.push_str(&seen.rendered(name));
        }
        text
    }

    fn note(&self, called: &Arc<str>, rpc: Rpc, need: Need<'_>) {
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = notes.seen.contains_key(called);
        let called =
            if is_known || notes.seen.len() < MAX_CALLERS { Arc::clone(called) } else { "all others".into() };
        notes.seen.entry(called).or_default().note(rpc, need);
    }

    /// Counts a refusal and logs it, unless the same one was logged a moment ago.
    fn would_refuse(&self, called: &Arc<str>, rpc: Rpc, kind: &'static str, permission: String) {
        self.metrics.shadow_refusal(rpc.name(), kind);
        let now = self.clock.now();
        let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
        let logged = &mut notes.logged;
        let key = (Arc::clone(called), rpc, kind, permission);
        if logged.get(&key).is_some_and(|last| now.since(*last) < LOG_EVERY) {
            return;
        }
        if logged.len() >= MAX_LOGGED {
            logged.clear();
        }
        tracing::warn!(
            caller = &*key.0,
            rpc.method = rpc.name(),
            permission = key.3,
            "shadow mode: this would be refused"
        );
        logged.insert(key, now);
    }
}

impl Witness for Shadow {
    fn needed(&self, caller: &str, rpc: Rpc, need: Need<'_>, missing: Option<Missing>) {
        let called = caller.into();
        self.note(&called, rpc, need);
        if let Some(missing) = missing {
            self.would_refuse(&called, rpc, missing.kind(), missing.to_string());
        }
    }

    fn lacked(&self, caller: &str, rpc: Rpc, missing: Missing) {
        self.would_refuse(&caller.into(), rpc, missing.kind(), missing.to_string());
    }
}

/// Notes what somebody uses whom the gate would have refused.
struct Stranger {
    shadow: Arc<Shadow>,
    called: Arc<str>,
    why: Unidentified,
}

impl Witness for Stranger {
    fn needed(&self, _: &str, rpc: Rpc, need: Need<'_>, _: Option<Missing>) {
        self.shadow.note(&self.called, rpc, need);
        // Refused once, for being a stranger, and not for each thing besides.
        if let Need::Rpc = need {
            self.shadow.would_refuse(&self.called, rpc, "caller", self.why.to_string());
        }
    }

    fn lacked(&self, _: &str, _: Rpc, _: Missing) {}
}

/// What a principal would be matched by, in the words of a policy; of tokens only subjects that are no person's.
fn described(principal: &Principal) -> String {
    let quoted = |text: &str| toml::Value::from(text.chars().take(256).collect::<String>()).to_string();
    match principal {
        Principal::Anybody => "a stranger".to_owned(),
        Principal::Certificate(certificate) => match (certificate.uris.first(), certificate.dns.first()) {
            (Some(uri), _) => format!("{{ spiffe = {} }}", quoted(uri)),
            (None, Some(dns)) => format!("{{ dns = {} }}", quoted(dns)),
            (None, None) => "a certificate without names".to_owned(),
        },
        Principal::Token(claims) if claims.subject.starts_with("system:serviceaccount:") => {
            format!("{{ issuer = {}, subject = {} }}", quoted(&claims.issuer), quoted(&claims.subject))
        }
        Principal::Token(claims) => format!("a subject of issuer {}", quoted(&claims.issuer)),
        Principal::Mesh(name) => format!("{{ mesh = {} }}", quoted(name)),
    }
}

#[cfg(test)]
mod tests;
