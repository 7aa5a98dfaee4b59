//! Tokens: issue from the cache or upstream, renew ahead, refresh, revoke.
//!
//! A token is served only if the store still names its identity and generation: the mapping's generation is the fence
//! that makes revocation final. Nothing here reads a token's text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::error::Error;
use super::flight::Joined;
use super::freshness::{Decision, Issuer, Wanted, decide, refresh_at, satisfies, usable_as_fallback};
use super::identity::{Polling, ROUNDS};
use super::once::Request;
use super::ports::Snapshot;
use super::types::{AccessToken, CachedToken, Caller, IdentityRecord, KeyStanding, TokenKey, UserId};
use super::{Broker, Core, IssueToken, RefreshToken, ServedToken};
use crate::clock::Timestamp;

/// How long a caller waits for a better token while a usable one is at hand.
const FALLBACK_PATIENCE: Duration = Duration::from_secs(1);

/// A token good enough for whoever asked for it, issued or found.
pub(super) type Obtained = Result<CachedToken, Error>;

impl Broker {
    /// A token worth serving, from the cache if possible; creates the user's identity if there is none.
    ///
    /// # Errors
    /// `StoreUnavailable`, `AcsUnavailable`, `AcsThrottled`, `AcsCredentialsRefused`, `AcsRejected`,
    /// `ConcurrentChange`, `Internal`.
    pub async fn issue_token(&self, _caller: &Caller, request: IssueToken) -> Result<ServedToken, Error> {
        let core = &self.core;
        let IssueToken { user, scopes, validity, min_remaining } = request;
        let key = TokenKey { scopes, validity: validity.unwrap_or(core.settings.default_validity()) };
        for _ in 0..ROUNDS {
            let snapshot = core.stores.tokens.look_up(&user, &key).await?;
            let decision = core.decide(&user, &key, &snapshot, min_remaining);
            if let (Some(token), Decision::Reuse | Decision::ReuseAndRefresh) = (&snapshot.token, decision) {
                if decision == Decision::ReuseAndRefresh {
                    core.metrics.token_decision("reuse_and_refresh");
                    core.renew_behind_the_back(&user, &key);
                } else {
                    core.metrics.token_decision("reuse");
                }
                return Ok(core.served(&user, &key, token.clone(), true, false));
            }
            core.metrics.token_decision(if snapshot.record.is_some() { "replace" } else { "create" });

            let now = core.clock.now();
            let fallback = snapshot.token.as_ref().is_some_and(|old| core.may_bridge(&old.token, now));
            if fallback && !core.retries.may_start(&(user.clone(), key), now) {
                // ACS failed a moment ago; asking it on every call would help neither side.
                if let Some(served) = core.fall_back(&user, &key).await? {
                    return Ok(served);
                }
                continue;
            }
            let joined = core.join_issue(&user, &key, min_remaining);
            let started_here = joined.started_here;
            let result = if fallback {
                tokio::time::timeout(FALLBACK_PATIENCE, joined.result()).await.unwrap_or_else(|_| {
                    Some(Err(Error::AcsUnavailable { retry_after: FALLBACK_PATIENCE, cause: None }))
                })
            } else {
                joined.result().await
            };
            match result.unwrap_or_else(|| Err(Error::internal("issuing a token panicked"))) {
                Ok(token) => {
                    if !started_here && !core.still_current(&user, &key, &snapshot, &token).await? {
                        continue;
                    }
                    let now = core.clock.now();
                    // A token issued upon this call is the best there is. One found by work that others started may
                    // be too short for this caller.
                    let long_enough = satisfies(&core.settings, &token.token, now, min_remaining);
                    if !long_enough && !started_here {
                        continue;
                    }
                    return Ok(core.served(&user, &key, token, false, !long_enough));
                }
                Err(error) => {
                    if fallback
                        && worth_falling_back(&error)
                        && let Some(served) = core.fall_back(&user, &key).await?
                    {
                        return Ok(served);
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::ConcurrentChange)
    }

    /// A token issued for this very call.
    ///
    /// # Errors
    /// As [`Self::issue_token`], and `IdentityNotFound`.
    pub async fn refresh_token(&self, _caller: &Caller, request: RefreshToken) -> Result<ServedToken, Error> {
        let RefreshToken { user, scopes, validity } = request;
        let key = TokenKey { scopes, validity: validity.unwrap_or(self.core.settings.default_validity()) };
        self.to_its_end(|core| async move {
            for _ in 0..ROUNDS {
                let record = core.stores.identities.find(&user).await?.ok_or(Error::IdentityNotFound)?;
                if let Some(token) = core.issue(&user, &key, &record).await? {
                    return Ok(core.served(&user, &key, token, false, false));
                }
            }
            Err(Error::ConcurrentChange)
        })
        .await
    }

    /// Revokes every token of the user. Once this returns, no replica serves a token issued before.
    ///
    /// # Errors
    /// `IdentityNotFound`, `ConcurrentChange`, `RequestInProgress`, `RequestIdReused`, and those of ACS and the store.
    pub async fn revoke_tokens(
        &self,
        caller: &Caller,
        user: UserId,
        request_id: Option<String>,
    ) -> Result<(), Error> {
        let request = request_id.map(|id| Request::new(caller, "RevokeTokens", id, &user));
        self.to_its_end(|core| async move { core.once(request, core.revoke(&user)).await }).await
    }
}

impl Core {
    fn decide(
        &self,
        user: &UserId,
        key: &TokenKey,
        snapshot: &Snapshot,
        min_remaining: Duration,
    ) -> Decision {
        match &snapshot.token {
            Some(cached) => {
                let wanted = Wanted { min_remaining, issuer: self.issuer_of(&cached.token) };
                decide(&self.settings, &cached.token, spread(user, key), self.clock.now(), wanted)
            }
            None => Decision::Replace,
        }
    }

    /// What is known of whoever issued a token.
    fn issuer_of(&self, token: &AccessToken) -> Issuer {
        let standing = self.issuer.standing(token.key);
        // Asked only if it matters: nearly every token is of the key in use.
        let since =
            if standing == KeyStanding::Spare { self.issuer.signing().since } else { Timestamp::default() };
        Issuer::of(standing, token.issued_at, since)
    }

    /// Whether a token may be served, marked degraded, when no better one can be had.
    fn may_bridge(&self, token: &AccessToken, now: Timestamp) -> bool {
        usable_as_fallback(&self.settings, token, now) && self.issuer.standing(token.key) != KeyStanding::Dead
    }

    fn served(
        &self,
        user: &UserId,
        key: &TokenKey,
        cached: CachedToken,
        from_cache: bool,
        degraded: bool,
    ) -> ServedToken {
        let refresh_at = refresh_at(&self.settings, &cached.token, spread(user, key));
        ServedToken { token: cached.token, refresh_at, identity: cached.identity, from_cache, degraded }
    }

    /// Whether a token from work that was already under way may be served to a caller who came later: the work may
    /// have begun before a revocation or a deletion that this caller must see.
    async fn still_current(
        &self,
        user: &UserId,
        key: &TokenKey,
        seen: &Snapshot,
        token: &CachedToken,
    ) -> Result<bool, Error> {
        let is_of = |record: &IdentityRecord| {
            record.identity == token.identity && record.generation <= token.generation
        };
        if let Some(record) = &seen.record {
            return Ok(is_of(record));
        }
        let now_stored = self.stores.tokens.look_up(user, key).await?;
        Ok(now_stored.record.as_ref().is_some_and(is_of))
    }

    /// The cached token, marked degraded, if the store still has it and it is valid for a while.
    async fn fall_back(&self, user: &UserId, key: &TokenKey) -> Result<Option<ServedToken>, Error> {
        // Read again: a revocation may have come while ACS was being asked.
        let snapshot = self.stores.tokens.look_up(user, key).await?;
        let now = self.clock.now();
        Ok(snapshot.token.filter(|old| self.may_bridge(&old.token, now)).map(|old| {
            self.metrics.token_decision("degraded");
            self.served(user, key, old, false, true)
        }))
    }

    /// Finds or issues a token that is not due, once for all replicas.
    async fn obtain(self: &Arc<Self>, user: &UserId, key: &TokenKey, min_remaining: Duration) -> Obtained {
        let lease = issue_lease(user, key);
        let mut polling = Polling::new();
        let mut tries = 0;
        while tries < ROUNDS {
            match self.take_seat(&lease).await? {
                Ok(seat) => {
                    tries += 1;
                    if let Some(token) = seat.keep_while(self.obtain_alone(user, key, min_remaining)).await? {
                        return Ok(token);
                    }
                    // Revoked, deleted or mapped by another meanwhile: look again.
                    polling.pause(Duration::ZERO).await?;
                }
                Err(held_for) => polling.pause(held_for).await?,
            }
            let snapshot = self.stores.tokens.look_up(user, key).await?;
            if let Some(token) = self.fresh(user, key, &snapshot, min_remaining) {
                return Ok(token);
            }
        }
        Err(Error::ConcurrentChange)
    }

    /// The part of [`Self::obtain`] under the lease. None if the mapping changed and it must start over.
    async fn obtain_alone(
        self: &Arc<Self>,
        user: &UserId,
        key: &TokenKey,
        min_remaining: Duration,
    ) -> Result<Option<CachedToken>, Error> {
        // Another replica may have finished just before the lease was granted.
        let snapshot = self.stores.tokens.look_up(user, key).await?;
        if let Some(token) = self.fresh(user, key, &snapshot, min_remaining) {
            return Ok(Some(token));
        }
        if let Some(record) = snapshot.record {
            return self.issue(user, key, &record).await;
        }
        // A user's first token comes with the identity, in the same call.
        let created = self.resolve(user, Some(key)).await?;
        match created.token {
            Some(token) => self.keep(user, key, &created.record, token).await,
            None => self.issue(user, key, &created.record).await,
        }
    }

    fn fresh(
        &self,
        user: &UserId,
        key: &TokenKey,
        snapshot: &Snapshot,
        min_remaining: Duration,
    ) -> Option<CachedToken> {
        let fresh = self.decide(user, key, snapshot, min_remaining) == Decision::Reuse;
        snapshot.token.clone().filter(|_| fresh)
    }

    /// Issues a token for the record and keeps it. None if the record changed meanwhile: the token may have been
    /// issued before a revocation and must not be served.
    pub(super) async fn issue(
        &self,
        user: &UserId,
        key: &TokenKey,
        record: &IdentityRecord,
    ) -> Result<Option<CachedToken>, Error> {
        let token = self.issuer.issue_token(&record.identity, key.scopes, key.validity).await?;
        self.keep(user, key, record, token).await
    }

    async fn keep(
        &self,
        user: &UserId,
        key: &TokenKey,
        record: &IdentityRecord,
        token: AccessToken,
    ) -> Result<Option<CachedToken>, Error> {
        if token.expires_at <= self.clock.now() {
            return Err(Error::internal("ACS issued a token that is expired by this machine's clock"));
        }
        let cached = CachedToken { identity: record.identity.clone(), generation: record.generation, token };
        let kept = self.stores.tokens.put(user, key, &cached).await?;
        Ok(kept.then_some(cached))
    }

    async fn revoke(&self, user: &UserId) -> Result<(), Error> {
        let identities = &self.stores.identities;
        let record = identities.find(user).await?.ok_or(Error::IdentityNotFound)?;
        let fence = async || match identities.advance_generation(user, &record.identity).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Error::ConcurrentChange),
            Err(error) => Err(Error::from(error)),
        };
        // Before: nothing cached so far is served any more. After: nothing issued before ACS had revoked is.
        fence().await?;
        self.issuer.revoke_tokens(&record.identity).await?;
        fence().await
    }

    /// Renews a token that is due while its user is served the old one.
    fn renew_behind_the_back(self: &Arc<Self>, user: &UserId, key: &TokenKey) {
        if self.retries.may_start(&(user.clone(), *key), self.clock.now()) {
            drop(self.join_issue(user, key, Duration::ZERO));
        }
    }

    /// Joins the work that gets the user a new token, or starts it.
    fn join_issue(
        self: &Arc<Self>,
        user: &UserId,
        key: &TokenKey,
        min_remaining: Duration,
    ) -> Joined<Obtained> {
        let flight = (user.clone(), *key);
        self.issuing.join(flight.clone(), &self.tasks, || {
            let core = Arc::clone(self);
            async move {
                let obtained = core.obtain(&flight.0, &flight.1, min_remaining).await;
                match &obtained {
                    Ok(_) => core.retries.succeeded(&flight),
                    Err(error) => {
                        tracing::info!(reason = error.reason(), "a token was not issued");
                        core.retries.failed(flight, core.clock.now());
                    }
                }
                obtained
            }
        })
    }
}

/// The lease under which a token is issued.
pub(super) fn issue_lease(user: &UserId, key: &TokenKey) -> String {
    format!("issue/{}/{}/{}", user.sha256_hex(), key.scopes.bits(), key.validity.minutes())
}

/// Which failures a valid but short token may bridge: those that another try may end.
fn worth_falling_back(error: &Error) -> bool {
    matches!(error, Error::AcsUnavailable { .. } | Error::AcsThrottled { .. } | Error::AcsCredentialsRefused)
}

/// A number that differs between tokens and is the same on every replica, to spread renewals.
fn spread(user: &UserId, key: &TokenKey) -> u64 {
    // FNV-1a: stable across processes and versions, unlike the standard library's hasher.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in user.as_str().bytes().chain([key.scopes.bits()]).chain(key.validity.minutes().to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash ^ (hash >> 32)
}

/// Retries that failed and wait before they are tried again.
#[derive(Default)]
pub(super) struct Retries {
    waiting: Mutex<HashMap<(UserId, TokenKey), (Timestamp, Duration)>>,
}

impl Retries {
    /// More than this are forgotten: each then costs a call too many, not memory without bound.
    const MOST: usize = 10_000;
    const FIRST_WAIT: Duration = Duration::from_secs(1);
    const LONGEST_WAIT: Duration = Duration::from_secs(10);

    fn may_start(&self, flight: &(UserId, TokenKey), now: Timestamp) -> bool {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.get(flight).is_none_or(|(not_before, _)| now >= *not_before)
    }

    fn succeeded(&self, flight: &(UserId, TokenKey)) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(flight);
    }

    fn failed(&self, flight: (UserId, TokenKey), now: Timestamp) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= Self::MOST {
            waiting.retain(|_, (not_before, _)| *not_before > now);
            if waiting.len() >= Self::MOST {
                waiting.clear();
            }
        }
        let wait =
            waiting.get(&flight).map_or(Self::FIRST_WAIT, |(_, last)| (*last * 2).min(Self::LONGEST_WAIT));
        waiting.insert(flight, (now.plus(wait), wait));
    }
}
