//! Changing the credential without losing a token: finds the tokens of other keys, replaces them, and says when it is done.
//!
//! Tokens die with the key that issued them. After a change of keys a walk over the mapping replaces every cached token of
//! another key, at a bounded rate and one replica at a time. Whether another replica signs with another key is known from
//! leases: each replica keeps one that is named for its key. Nothing here changes a key; `app` calls it every few seconds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use tokio::time::Instant;

use super::error::Error;
use super::ports::{Acquired, Lease};
use super::token::issue_lease;
use super::types::{KeyId, KeyStanding, Signing, TokenKey, UserId};
use super::{Broker, Core};
use crate::clock::Timestamp;

/// How long a replica is known to sign with its key after it last said so, and how often it says so.
const KEY_TTL: Duration = Duration::from_secs(30);
pub(crate) const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);
/// How often it is looked whether others sign with another key, and how long that may take.
const LOOK_EVERY: Duration = Duration::from_secs(3);
const LOOK_TTL: Duration = Duration::from_secs(2);
/// A key counts as used by nobody once its lease was free for so long: a replica that takes it over needs that long.
const FREE_FOR: Duration = Duration::from_secs(15);
/// How soon a walk that left tokens of other keys behind is done again.
const AGAIN_AFTER: Duration = Duration::from_secs(15);
/// The same while another replica signs with another key.
const AGAIN_AMONG_OTHERS: Duration = Duration::from_secs(60);
/// Users that are looked at together, and per second at the most.
const PAGE: usize = 200;
const TOGETHER: usize = 8;
const USERS_PER_SECOND: f64 = 2000.0;
/// The most keys that are kept in mind beside the one in use.
const OTHERS: usize = 8;

/// What a rotation has come to, as this replica sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationStatus {
    /// The key in use and the one that could take its place.
    pub signing: Signing,
    /// Cached tokens that keys other than the one in use issued, after the last whole walk; none before one.
    pub tokens_of_other_keys: Option<u64>,
    /// How many of them were replaced since the process started.
    pub reissued: u64,
    /// When the last whole walk ended.
    pub walked_at: Option<Timestamp>,
    /// Whether another replica signs with another key, or may.
    pub used_elsewhere: bool,
}

impl RotationStatus {
    /// Why the other key must not be regenerated yet; none if it may.
    pub fn not_yet(&self) -> Option<&'static str> {
        if self.used_elsewhere {
            return Some("another replica signs with another key, or did so a moment ago");
        }
        match self.tokens_of_other_keys {
            None => Some("the cached tokens have not been looked through since the key was taken into use"),
            Some(0) => None,
            Some(_) => Some("cached tokens of another key are still being replaced"),
        }
    }
}

/// What is remembered between walks.
#[derive(Default)]
pub(super) struct Rotation {
    state: Mutex<State>,
    /// Replacements are dealt out in time over all that ask for them.
    pace: tokio::sync::Mutex<Option<Instant>>,
}

#[derive(Default)]
struct State {
    /// The last whole walk: which key was in use, when it began and ended, what it left.
    walked: Option<Walked>,
    last_try: Option<Instant>,
    /// The key that was in use when it was last looked, and since when.
    key_seen: Option<(KeyId, Instant)>,
    reissued: u64,
    /// This replica's lease on its key's name.
    announced: Option<(KeyId, Lease)>,
    announced_at: Option<Instant>,
    looked_at: Option<Instant>,
    /// Other keys that were met, and since when nobody is seen to sign with them.
    others: BTreeMap<[u8; 8], Option<Instant>>,
    /// Whether somebody was seen to sign with another key since the walk that goes on, or the last one, began.
    disturbed: bool,
}

#[derive(Clone, Copy)]
struct Walked {
    key: KeyId,
    ended: Timestamp,
    left: u64,
    /// Whether nobody signed with another key any more when it began, nor was seen to before it ended.
    undisturbed: bool,
}

/// What a walk found.
#[derive(Default)]
struct Found {
    left: u64,
    reissued: u64,
    keys: BTreeMap<[u8; 8], u64>,
}

fn lease_of(key: KeyId) -> String {
    format!("acs-key/{}", key.hex())
}

impl Broker {
    /// Does what is due for a rotation: says which key this replica signs with, looks whether others sign with another,
    /// and walks over the tokens if they may be of other keys. `per_second` bounds the tokens replaced. Cheap when
    /// nothing is due.
    ///
    /// # Errors
    /// Those of the store; the next call goes on.
    pub async fn tend_rotation(&self, per_second: u32) -> Result<(), Error> {
        let core = &self.core;
        core.watch_keys().await?;
        if core.walk_is_due() {
            core.walk(per_second).await?;
        }
        core.metrics.tokens_of_other_keys(self.rotation().tokens_of_other_keys.unwrap_or(0));
        Ok(())
    }

    /// How far a rotation is.
    pub fn rotation(&self) -> RotationStatus {
        let signing = self.core.issuer.signing();
        let state = self.core.rotation.lock();
        let now = Instant::now();
        let used_elsewhere = state.others.iter().any(|(key, free)| {
            KeyId(*key) != signing.key && free.is_none_or(|since| now.duration_since(since) < FREE_FOR)
        });
        let walked = state.walked.filter(|walked| walked.key == signing.key);
        RotationStatus {
            signing,
            // Until a walk began that nobody disturbs, there may be more than the last one saw.
            tokens_of_other_keys: walked
                .filter(|walked| walked.undisturbed || walked.left > 0)
                .map(|walked| walked.left),
            reissued: state.reissued,
            walked_at: walked.map(|walked| walked.ended),
            used_elsewhere,
        }
    }
}

impl Rotation {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of the next replacement.
    async fn turn(&self, per_second: u32) {
        let apart = Duration::from_secs(1) / per_second.max(1);
        let at = {
            let mut next = self.pace.lock().await;
            let at = next.unwrap_or_else(Instant::now).max(Instant::now());
            *next = Some(at + apart);
            at
        };
        tokio::time::sleep_until(at).await;
    }

    /// ACS asks to slow down.
    async fn slow_down(&self, wait: Duration) {
        let mut next = self.pace.lock().await;
        *next = Some(next.unwrap_or_else(Instant::now).max(Instant::now() + wait));
    }
}

impl State {
    fn meet(&mut self, key: KeyId) {
        if self.others.len() >= OTHERS && !self.others.contains_key(&key.0) {
            // The one that nobody has signed with for longest; one that somebody signs with stays.
            let longest = self.others.iter().filter_map(|(key, free)| Some((free.as_ref()?, *key))).min();
            let Some((_, gone)) = longest else { return };
            self.others.remove(&gone);
        }
        self.others.entry(key.0).or_insert(None);
    }
}

impl Core {
    /// Says which key this replica signs with, and looks for those who sign with another. A walk may take minutes: it
    /// calls this too, or others would take this replica's key for one that nobody uses, and it would not see theirs.
    async fn watch_keys(&self) -> Result<(), Error> {
        self.announce().await?;
        self.look_for_others().await
    }

    /// Keeps the lease that is named for the key in use, if no other replica keeps it.
    async fn announce(&self) -> Result<(), Error> {
        let key = self.issuer.key();
        let held = {
            let mut state = self.rotation.lock();
            let changed = state.announced.as_ref().is_some_and(|(held, _)| *held != key);
            let due = changed || state.announced_at.is_none_or(|at| at.elapsed() >= ANNOUNCE_EVERY);
            if !due {
                return Ok(());
            }
            state.announced_at = Some(Instant::now());
            state.announced.take()
        };
        let leases = &self.stores.leases;
        let held = match held {
            Some((of, lease)) if of == key => leases.renew(&lease, KEY_TTL).await?.then_some(lease),
            Some((_, lease)) => {
                leases.release(&lease).await?;
                None
            }
            None => None,
        };
        let held = match held {
            Some(lease) => Some(lease),
            None => match leases.try_acquire(&lease_of(key), KEY_TTL).await? {
                Acquired::Granted(lease) => Some(lease),
                Acquired::Held(_) => None,
            },
        };
        self.rotation.lock().announced = held.map(|lease| (key, lease));
        Ok(())
    }

    /// Looks whether anybody signs with a key other than the one in use.
    async fn look_for_others(&self) -> Result<(), Error> {
        let signing = self.issuer.signing();
        let keys: Vec<_> = {
            let mut state = self.rotation.lock();
            if state.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY) {
                return Ok(());
            }
            state.looked_at = Some(Instant::now());
            if let Some(spare) = signing.spare {
                state.meet(spare);
            }
            state.others.remove(&signing.key.0);
            state.others.keys().copied().map(KeyId).collect()
        };
        for key in keys {
            // Taken for a moment, it is given back at once; whoever wants it meanwhile asks again within seconds.
            let free = match self.stores.leases.try_acquire(&lease_of(key), LOOK_TTL).await? {
                Acquired::Granted(lease) => {
                    self.stores.leases.release(&lease).await?;
                    true
                }
                // Another replica looks just now.
                Acquired::Held(left) if left <= LOOK_TTL => continue,
                Acquired::Held(_) => false,
            };
            let mut state = self.rotation.lock();
            if let Some(since) = state.others.get_mut(&key.0) {
                *since = if free { Some(since.unwrap_or_else(Instant::now)) } else { None };
            }
            if !free {
                // It may issue what the last walk could not see, or the one that goes on.
                state.disturbed = true;
                if let Some(walked) = &mut state.walked {
                    walked.undisturbed = false;
                }
            }
        }
        Ok(())
    }

    /// Whether nobody has signed with another key for a while.
    fn alone(&self, state: &State) -> bool {
        state.others.values().all(|free| free.is_some_and(|since| since.elapsed() >= FREE_FOR))
    }

    fn walk_is_due(&self) -> bool {
        let signing = self.issuer.signing();
        let mut state = self.rotation.lock();
        let now = Instant::now();
        let waited = |at: Option<Instant>, least| at.is_none_or(|at| now.duration_since(at) >= least);
        let alone = self.alone(&state);
        let again = waited(state.last_try, if alone { AGAIN_AFTER } else { AGAIN_AMONG_OTHERS });
        let due = match (state.walked, state.key_seen) {
            (Some(walked), _) if walked.key == signing.key => {
                again && (walked.left > 0 || (!walked.undisturbed && alone))
            }
            // A change of keys does not wait, unless another replica walks.
            (_, Some((seen, _))) if seen != signing.key => true,
            (Some(_), _) => waited(state.last_try, Duration::from_secs(1)),
            // After a start there is rarely anything to find.
            (None, Some((_, at))) => again && (alone || now.duration_since(at) >= AGAIN_AMONG_OTHERS),
            (None, None) => false,
        };
        if state.key_seen.is_none_or(|(seen, _)| seen != signing.key) {
            state.key_seen = Some((signing.key, now));
        }
        if due {
            state.last_try = Some(Instant::now());
        }
        due
    }

    /// Walks over all cached tokens and replaces those of other keys. Nothing happens if another replica walks.
    async fn walk(self: &Arc<Self>, per_second: u32) -> Result<(), Error> {
        let Ok(seat) = self.take_seat("rotation").await? else { return Ok(()) };
        let signing = self.issuer.signing();
        let alone = {
            let mut state = self.rotation.lock();
            state.disturbed = false;
            self.alone(&state)
        };
        let found = seat.keep_while(self.walk_all(signing, alone, per_second)).await?;
        let Some(found) = found else { return Ok(()) };
        let mut state = self.rotation.lock();
        for key in found.keys.keys() {
            state.meet(KeyId(*key));
        }
        let met = found.keys.keys().all(|key| state.others.get(key).is_some_and(Option::is_some));
        // Tokens of a key that was not known before: whether somebody signs with it has not been looked at yet.
        let undisturbed = alone && met && !state.disturbed;
        state.walked =
            Some(Walked { key: signing.key, ended: self.clock.now(), left: found.left, undisturbed });
        if found.reissued > 0 || found.left > 0 {
            tracing::info!(
                reissued = found.reissued,
                left = found.left,
                "cached tokens of other keys were looked for and replaced"
            );
        }
        Ok(())
    }

    /// None if the key in use changed meanwhile.
    async fn walk_all(
        self: &Arc<Self>,
        signing: Signing,
        alone: bool,
        per_second: u32,
    ) -> Result<Option<Found>, Error> {
        let (mut found, mut from, began) = (Found::default(), None, Instant::now());
        let mut users = 0.0;
        loop {
            let page = self.stores.identities.list(from.as_deref(), PAGE).await?.unwrap_or_default();
            users += page.entries.len() as f64;
            let looks = page
                .entries
                .into_iter()
                .map(|(user, _)| async move { self.look_through(&user, signing, alone, per_second).await });
            let mut looks = stream::iter(looks).buffer_unordered(TOGETHER);
            while let Some(one) = looks.next().await {
                let one = one?;
                found.left += one.left;
                found.reissued += one.reissued;
                for (key, count) in one.keys {
                    *found.keys.entry(key).or_default() += count;
                }
            }
            if self.issuer.key() != signing.key {
                return Ok(None);
            }
            from = page.next;
            if from.is_none() {
                return Ok(Some(found));
            }
            // Callers come first.
            tokio::time::sleep_until(began + Duration::from_secs_f64(users / USERS_PER_SECOND)).await;
        }
    }

    /// Replaces the tokens of a user that other keys issued.
    async fn look_through(
        self: &Arc<Self>,
        user: &UserId,
        signing: Signing,
        alone: bool,
        per_second: u32,
    ) -> Result<Found, Error> {
        let mut found = Found::default();
        for key in self.stores.tokens.keys_of(user).await? {
            self.watch_keys().await?;
            let Some(cached) = self.stores.tokens.look_up(user, &key).await?.token else { continue };
            let issuer = cached.token.key;
            // The dead are never served, and end by themselves.
            if issuer == signing.key || self.issuer.standing(issuer) == KeyStanding::Dead {
                continue;
            }
            *found.keys.entry(issuer.0).or_default() += 1;
            // What a replica issues that still signs with another key is let alone until it has changed too.
            if !alone && cached.token.issued_at >= signing.since {
                found.left += 1;
                continue;
            }
            self.rotation.turn(per_second).await;
            match self.reissue(user, &key, signing.key).await {
                Ok(()) => {
                    found.reissued += 1;
                    self.rotation.lock().reissued += 1;
                    self.metrics.token_reissued();
                }
                Err(error) => {
                    tracing::debug!(reason = error.reason(), "a token of another key was not replaced yet");
                    if let Some(wait) = error.retry_after() {
                        self.rotation.slow_down(wait).await;
                    }
                    found.left += 1;
                }
            }
        }
        Ok(found)
    }

    /// Issues a token in place of one of another key, unless somebody was faster.
    async fn reissue(self: &Arc<Self>, user: &UserId, key: &TokenKey, in_use: KeyId) -> Result<(), Error> {
        match self.take_seat(&issue_lease(user, key)).await? {
            // Somebody issues it right now; the next walk sees what came of it.
            Err(held_for) => {
                Err(Error::AcsUnavailable { retry_after: held_for.min(Duration::from_secs(1)), cause: None })
            }
            Ok(seat) => {
                let work = async {
                    let snapshot = self.stores.tokens.look_up(user, key).await?;
                    let (Some(record), Some(cached)) = (snapshot.record, snapshot.token) else {
                        return Ok(());
                    };
                    if cached.token.key != in_use {
                        self.issue(user, key, &record).await?;
                    }
                    Ok(())
                };
                seat.keep_while(work).await
            }
        }
    }
}
