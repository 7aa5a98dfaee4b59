//! Bearer tokens: Kubernetes service accounts and users of any OpenID Connect issuer.
//!
//! A token counts if an issuer that is configured signed it with one of its public keys, by an algorithm that is
//! configured, for this broker, and it is valid now. All else is refused, and why is for the log alone. The checks that
//! cost nothing come first, so that only a token that could be good is ever held against a key. Never logs a token or
//! what is in it.

pub(crate) mod algorithm;
mod issuer;
#[cfg(test)]
#[path = "../../../tests/support/key_server.rs"]
pub(crate) mod key_server;
mod seen;
#[cfg(test)]
mod tests;
pub(crate) mod token;
#[cfg(test)]
#[path = "../../../tests/support/token_signer.rs"]
pub(crate) mod trial;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use http::header::AUTHORIZATION;

pub use self::algorithm::Algorithm;
pub use self::issuer::{Issuer, MAX_ISSUERS, problems};
use self::seen::{Seen, Verified};
pub use self::token::Refusal;
use super::jwks::fetch::Source;
use super::jwks::{KeySet, NoKey, Standing, Timing};
use super::{Authenticator, Claims, Credentials, EndUsers, Principal, Unproven, Verdict};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// Verifies tokens of the issuers that are configured.
pub struct Verifier {
    issuers: RwLock<Arc<[Arc<Trusted>]>>,
    seen: Seen,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    timing: Timing,
}

/// An issuer with its keys.
struct Trusted {
    settings: Issuer,
    name: Arc<str>,
    /// Tells it from every other of the process, also from an earlier one of the same name.
    id: u64,
    source: Source,
    keys: Arc<KeySet>,
}

impl Verifier {
    /// Begins to fetch the keys of these issuers. Must be called inside a runtime. An issuer that has
    /// [`Issuer::problems`] is not trusted.
    pub fn new(issuers: Vec<Issuer>, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        Self::with_timing(issuers, clock, metrics, Timing::default())
    }

    /// The same with other times, for tests.
    pub fn with_timing(
        issuers: Vec<Issuer>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        timing: Timing,
    ) -> Self {
        let verifier =
            Self { issuers: RwLock::new(Arc::new([])), seen: Seen::default(), clock, metrics, timing };
        verifier.replace(issuers);
        verifier
    }

    /// Trusts these issuers from now on and no others. The keys of those whose source stays are kept.
    pub fn replace(&self, issuers: Vec<Issuer>) {
        let mut table = self.issuers.write().unwrap_or_else(PoisonError::into_inner);
        let mut next: Vec<Arc<Trusted>> = Vec::with_capacity(issuers.len());
        for settings in issuers {
            let old = table.iter().find(|old| old.settings == settings);
            if let Some(same) = old {
                next.push(Arc::clone(same));
            } else if settings.problems().is_empty()
                && let Some(source) = settings.source()
            {
                let keys = table
                    .iter()
                    .chain(&next)
                    .find(|known| known.source == source)
                    .map_or_else(|| self.key_set(&source), |known| Arc::clone(&known.keys));
                next.push(Arc::new(Trusted::new(settings, source, keys)));
            } else {
                tracing::error!("an issuer of tokens has bad settings and is not trusted");
            }
        }
        *table = next.into();
        drop(table);
        self.seen.clear();
    }

    fn issuers(&self) -> Arc<[Arc<Trusted>]> {
        Arc::clone(&self.issuers.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an operator should know of the issuers' keys, if anything is wrong: a stable word and a text with the names
    /// that the policy or the settings give them.
    pub fn trouble(&self) -> Vec<(&'static str, String)> {
        let issuers = self.issuers();
        let those = |wanted: Standing| {
            let those = issuers.iter().filter(|trusted| trusted.keys.standing() == wanted);
            let mut names: Vec<_> = those.map(|trusted| &*trusted.name).collect();
            // What one source vouches for under one name may be several issuers.
            names.dedup();
            names.join(", ")
        };
        let (lacking, old) = (those(Standing::Lacking), those(Standing::Old));
        let mut trouble = Vec::new();
        if !lacking.is_empty() {
            let what =
                format!("there are no keys of these issuers, and calls with their tokens fail: {lacking}");
            trouble.push(("issuer_keys", what));
        }
        if !old.is_empty() {
            let what =
                format!("the keys of these issuers cannot be fetched; the old ones count for a while: {old}");
            trouble.push(("issuer_keys_old", what));
        }
        trouble
    }

    fn key_set(&self, source: &Source) -> Arc<KeySet> {
        let (name, fetch) = (source.name(), Box::new(source.clone()));
        Arc::new(KeySet::new(name, fetch, source.is_file(), self.timing, self.metrics.clone()))
    }

    /// What a token says, whichever of the issuers it is from.
    pub async fn identify(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        self.judged(token, None).await
    }

    /// Judges a token and counts how.
    async fn judged(&self, token: &str, wanted: Option<&str>) -> Result<Arc<Claims>, Refusal> {
        let judged = self.judge(token, wanted).await;
        self.metrics.bearer_token(match &judged {
            Ok((_, true)) => "known",
            Ok((_, false)) => "verified",
            Err(refusal) => refusal.label(),
        });
        judged.map(|(claims, _)| claims)
    }

    /// What a token says, and whether it was known already.
    async fn judge(&self, token: &str, wanted: Option<&str>) -> Result<(Arc<Claims>, bool), Refusal> {
        if token.len() > token::MAX_TOKEN {
            return Err(Refusal::TooLong);
        }
        let issuers = self.issuers();
        let (digest, now) = (seen::digest(token), self.clock.now());
        if let Some(verified) = self.seen.get(&digest)
            && let Some(trusted) = issuers.iter().find(|trusted| trusted.id == verified.issuer)
            && wanted.is_none_or(|wanted| *wanted == *trusted.name)
            && trusted.keys.current().is_some_and(|keys| keys.id() == verified.keys)
        {
            verified.times.check(now, trusted.settings.leeway)?;
            return Ok((verified.claims, true));
        }

        let unproven = token::read(token)?;
        let trusted = trusted(&issuers, &unproven, wanted)?;
        if !trusted.settings.algorithms.contains(&unproven.algorithm) {
            return Err(Refusal::Algorithm);
        }
        unproven.times.check(now, trusted.settings.leeway)?;
        let kid = unproven.kid.as_deref();
        let keys = trusted.keys.with(kid, unproven.algorithm).await.map_err(|no_key| match no_key {
            NoKey::Unknown => Refusal::UnknownKey,
            NoKey::NotYet => Refusal::KeysNotYet,
            NoKey::Unavailable => Refusal::NoKeys,
        })?;
        if !keys.have_signed(kid, unproven.algorithm, unproven.message, &unproven.signature) {
            return Err(Refusal::Signature);
        }
        let subject = unproven.claims.get("sub").and_then(serde_json::Value::as_str).unwrap_or_default();
        let claims =
            Claims { issuer: Arc::clone(&trusted.name), subject: subject.to_owned(), all: unproven.claims };
        let claims = Arc::new(claims);
        let verified = Verified {
            claims: Arc::clone(&claims),
            times: unproven.times,
            issuer: trusted.id,
            keys: keys.id(),
        };
        self.seen.put(digest, verified);
        Ok((claims, false))
    }
}

/// The issuer that a token says it is from, if it is for the audience agreed with it.
fn trusted<'a>(
    issuers: &'a [Arc<Trusted>],
    unproven: &token::Unproven<'_>,
    wanted: Option<&str>,
) -> Result<&'a Trusted, Refusal> {
    let issuer = unproven.issuer()?;
    let mut refusal = Refusal::Issuer;
    for trusted in issuers {
        if trusted.settings.issuer == issuer && wanted.is_none_or(|wanted| *wanted == *trusted.name) {
            if unproven.is_for(&trusted.settings.audience)? {
                return Ok(trusted);
            }
            refusal = Refusal::Audience;
        }
    }
    Err(refusal)
}

impl Trusted {
    fn new(settings: Issuer, source: Source, keys: Arc<KeySet>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = settings.name.as_str().into();
        Self { name, id: NEXT.fetch_add(1, Ordering::Relaxed), settings, source, keys }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuers", &self.issuers().len()).finish_non_exhaustive()
    }
}

/// Callers that bring `Authorization: Bearer`.
#[async_trait]
impl Authenticator for Verifier {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict {
        // Without issuers this is no kind of evidence: the header may be meant for somebody else.
        if self.issuers().is_empty() {
            return Verdict::NotPresented;
        }
        let mut headers = credentials.headers.get_all(AUTHORIZATION).into_iter();
        let Some(header) = headers.next() else { return Verdict::NotPresented };
        if headers.next().is_some() {
            return Verdict::Refused("there is more than one authorization header");
        }
        let Some((scheme, token)) = header.to_str().ok().and_then(|header| header.split_once(' ')) else {
            return Verdict::Refused("the authorization header is malformed");
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Verdict::NotPresented;
        }
        match self.identify(token.trim_matches(' ')).await {
            Ok(claims) => Verdict::Proven(Principal::Token(claims)),
            Err(refusal) if refusal.is_ours() => Verdict::Unclear(refusal.text()),
            Err(refusal) => Verdict::Refused(refusal.text()),
        }
    }
}

/// End users whose tokens callers pass on.
#[async_trait]
impl EndUsers for Verifier {
    async fn verify(&self, issuer: &str, token: &str) -> Result<Arc<Claims>, Unproven> {
        self.judged(token, Some(issuer)).await.map_err(|refusal| {
            if refusal.is_ours() { Unproven::Unclear(refusal.text()) } else { Unproven::Bad(refusal.text()) }
        })
    }
}
