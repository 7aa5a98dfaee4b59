//! A store and an ACS made of plain maps, with delays drawn from a seed on virtual time, and brokers over them.
//!
//! No I/O and no other source of chance: what happens depends on the seed alone. Faults are switches.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::broker::error::Error;
use crate::broker::ports::*;
use crate::broker::types::*;
use crate::broker::{Broker, IssueToken, RefreshToken, Settings};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::metrics::Metrics;
use crate::secret::Secret;

/// Delays drawn from a seed, on tokio's (paused) time.
#[derive(Clone)]
pub(super) struct Delays {
    pub(super) random: Arc<Mutex<StdRng>>,
    pub(super) longest_ms: u64,
    /// Whether the store's answers, too, take their time; if not, its steps happen at the moment they return.
    pub(super) late_answers: bool,
}

impl Delays {
    pub(super) fn new(seed: u64, longest_ms: u64) -> Self {
        Self { random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))), longest_ms, late_answers: true }
    }

    pub(super) async fn some(&self) {
        if self.longest_ms == 0 {
            return;
        }
        let (yields, wait) = {
            let mut random = lock(&self.random);
            (random.random_range(0..3), random.random_range(0..=self.longest_ms))
        };
        for _ in 0..yields {
            tokio::task::yield_now().await;
        }
        if wait > 0 {
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
pub(super) struct Maps {
    pub(super) records: BTreeMap<UserId, IdentityRecord>,
    pub(super) owners: HashMap<IdentityId, UserId>,
    pub(super) tokens: HashMap<(UserId, TokenKey), CachedToken>,
    pub(super) leases: HashMap<String, (u64, tokio::time::Instant)>,
    pub(super) fence: u64,
    pub(super) ledger: HashMap<LedgerKey, ([u8; 32], Option<Vec<u8>>)>,
}

/// A store of plain maps: every operation is one atomic step with delays before and after it.
#[derive(Clone)]
pub(super) struct MapStore {
    pub(super) maps: Arc<Mutex<Maps>>,
    pub(super) delays: Delays,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Arc<Faults>,
}

/// What goes wrong on request.
#[derive(Default)]
pub(super) struct Faults {
    /// Every lease is granted to everybody, as if all had lapsed.
    pub(super) leases_void: AtomicBool,
    /// The next insertion is stored, but its answer is lost.
    pub(super) lose_insertion: AtomicBool,
    /// ACS answers "unavailable".
    pub(super) acs_away: AtomicBool,
    /// ACS takes this many milliseconds longer.
    pub(super) acs_slow_ms: AtomicU64,
    /// The clock of ACS is behind by this many milliseconds.
    pub(super) acs_clock_behind_ms: AtomicU64,
    /// Which credential signs.
    pub(super) key: AtomicU64,
    /// The credential that could take its place, plus one; zero if there is none.
    pub(super) spare: AtomicU64,
    /// What is known of the others: nothing, that they are spare, that they are dead.
    pub(super) others: AtomicU64,
    /// ACS answers every creation with the same identity, as it does under one custom id.
    pub(super) one_identity: AtomicBool,
}

impl MapStore {
    async fn step<T>(&self, what: impl FnOnce(&mut Maps) -> T) -> Result<T, StoreError> {
        self.delays.some().await;
        let done = what(&mut lock(&self.maps));
        if self.delays.late_answers {
            self.delays.some().await;
        }
        Ok(done)
    }

    pub(super) fn stores(&self) -> Stores {
        let all = Arc::new(self.clone());
        Stores {
            identities: all.clone(),
            tokens: all.clone(),
            ledger: all.clone(),
            budget: all.clone(),
            leases: all,
        }
    }
}

#[async_trait]
impl IdentityStore for MapStore {
    async fn find(&self, user: &UserId) -> Result<Option<IdentityRecord>, StoreError> {
        self.step(|maps| maps.records.get(user).cloned()).await
    }

    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError> {
        self.step(|maps| {
            let user = maps.owners.get(identity)?;
            Some((user.clone(), maps.records.get(user)?.clone()))
        })
        .await
    }

    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError> {
        let inserted = self.step(|maps| {
            if let Some(existing) = maps.records.get(user) {
                return Inserted::Existing(existing.clone());
            }
            if maps.owners.contains_key(&record.identity) {
                return Inserted::LinkedElsewhere;
            }
            maps.owners.insert(record.identity.clone(), user.clone());
            maps.records.insert(user.clone(), record.clone());
            Inserted::New
        });
        let inserted = inserted.await?;
        if self.faults.lose_insertion.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unavailable(Arc::new(std::io::Error::other("lost on purpose"))));
        }
        Ok(inserted)
    }

    async fn advance_generation(
        &self,
        user: &UserId,
        expected: &IdentityId,
    ) -> Result<Option<u64>, StoreError> {
        self.step(|maps| {
            let record = maps.records.get_mut(user).filter(|record| record.identity == *expected)?;
            record.generation += 1;
            Some(record.generation)
        })
        .await
    }

    async fn remove(&self, user: &UserId, expected: &IdentityId) -> Result<bool, StoreError> {
        self.step(|maps| {
            let there = maps.records.get(user).is_some_and(|record| record.identity == *expected);
            if there {
                maps.records.remove(user);
                maps.owners.remove(expected);
            }
            there
        })
        .await
    }

    async fn list(&self, _from: Option<&[u8]>, limit: usize) -> Result<Option<IdentityPage>, StoreError> {
        self.step(|maps| {
            let entries =
                maps.records.iter().take(limit).map(|(user, record)| (user.clone(), record.clone()));
            Some(IdentityPage { entries: entries.collect(), next: None })
        })
        .await
    }

    async fn check(&self) -> Result<(), StoreProblem> {
        Ok(())
    }
}

#[async_trait]
impl TokenCache for MapStore {
    async fn look_up(&self, user: &UserId, key: &TokenKey) -> Result<Snapshot, StoreError> {
        let now = self.clock.now();
        self.step(|maps| {
            let record = maps.records.get(user).cloned();
            let token = maps.tokens.get(&(user.clone(), *key)).cloned().filter(|token| {
                token.token.expires_at > now
                    && record.as_ref().is_some_and(|record| {
                        record.identity == token.identity && record.generation == token.generation
                    })
            });
            Snapshot { record, token }
        })
        .await
    }

    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> Result<bool, StoreError> {
        self.step(|maps| {
            let current = maps.records.get(user).is_some_and(|record| {
                record.identity == token.identity && record.generation == token.generation
            });
            if current {
                maps.tokens.insert((user.clone(), *key), token.clone());
            }
            current
        })
        .await
    }

    async fn keys_of(&self, user: &UserId) -> Result<Vec<TokenKey>, StoreError> {
        self.step(|maps| maps.tokens.keys().filter(|(of, _)| of == user).map(|(_, key)| *key).collect()).await
    }
}

#[async_trait]
impl OutcomeLedger for MapStore {
    async fn begin(&self, key: &LedgerKey, digest: &[u8; 32], hold: Duration) -> Result<Begun, StoreError> {
        self.step(|maps| match maps.ledger.get(key) {
            None => {
                maps.ledger.insert(key.clone(), (*digest, None));
                Begun::Started
            }
            Some((other, _)) if other != digest => Begun::Reused,
            Some((_, None)) => Begun::InProgress(hold),
            Some((_, Some(outcome))) => Begun::Finished(outcome.clone()),
        })
        .await
    }

    async fn finish(
        &self,
        key: &LedgerKey,
        digest: &[u8; 32],
        outcome: &[u8],
        _keep: Duration,
    ) -> Result<(), StoreError> {
        self.step(|maps| {
            maps.ledger.insert(key.clone(), (*digest, Some(outcome.to_vec())));
        })
        .await
    }

    async fn abandon(&self, key: &LedgerKey, _digest: &[u8; 32]) -> Result<(), StoreError> {
        self.step(|maps| {
            if maps.ledger.get(key).is_some_and(|(_, outcome)| outcome.is_none()) {
                maps.ledger.remove(key);
            }
        })
        .await
    }
}

#[async_trait]
impl CallBudget for MapStore {
    async fn take(&self, _bucket: &str, _limits: &[Limit], _cost: u32) -> Result<Taken, StoreError> {
        Ok(Taken::Go { remaining: u32::MAX })
    }
}

#[async_trait]
impl LeaseStore for MapStore {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Acquired, StoreError> {
        self.step(|maps| {
            let now = tokio::time::Instant::now();
            let void = self.faults.leases_void.load(Ordering::SeqCst);
            if let Some((_, until)) = maps.leases.get(name).filter(|(_, until)| *until > now && !void) {
                return Acquired::Held(*until - now);
            }
            maps.fence += 1;
            maps.leases.insert(name.to_owned(), (maps.fence, now + ttl));
            Acquired::Granted(Lease { name: name.to_owned(), fence: maps.fence, nonce: [0; 16] })
        })
        .await
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        self.step(|maps| {
            let now = tokio::time::Instant::now();
            maps.leases
                .get_mut(&lease.name)
                .filter(|(fence, until)| *fence == lease.fence && *until > now)
                .is_some_and(|(_, until)| {
                    *until = now + ttl;
                    true
                })
        })
        .await
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.step(|maps| {
            if maps.leases.get(&lease.name).is_some_and(|(fence, _)| *fence == lease.fence) {
                maps.leases.remove(&lease.name);
            }
        })
        .await
    }
}

/// What ACS knows: which identities live, and from which serial number on their tokens are good.
#[derive(Default)]
pub(super) struct AcsState {
    /// Identity to the first serial number that a revocation has not killed.
    pub(super) alive: BTreeMap<IdentityId, u64>,
    pub(super) made: u64,
    pub(super) creates: u64,
    pub(super) issues: u64,
}

/// An ACS of plain maps whose tokens are their serial numbers.
#[derive(Clone)]
pub(super) struct MapAcs {
    pub(super) state: Arc<Mutex<AcsState>>,
    pub(super) serial: Arc<AtomicU64>,
    pub(super) delays: Delays,
    pub(super) clock: Arc<ManualClock>,
    pub(super) faults: Arc<Faults>,
}

impl MapAcs {
    async fn step<T>(&self, what: impl FnOnce(&mut AcsState) -> Result<T, Error>) -> Result<T, Error> {
        self.delays.some().await;
        tokio::time::sleep(Duration::from_millis(self.faults.acs_slow_ms.load(Ordering::SeqCst))).await;
        if self.faults.acs_away.load(Ordering::SeqCst) {
            return Err(Error::AcsUnavailable { retry_after: Duration::from_secs(1), cause: None });
        }
        let done = what(&mut lock(&self.state));
        self.delays.some().await;
        done
    }

    fn token(&self, asked_at: Timestamp, validity: Validity) -> AccessToken {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let behind = Duration::from_millis(self.faults.acs_clock_behind_ms.load(Ordering::SeqCst));
        AccessToken {
            secret: Secret::new(serial.to_string()),
            issued_at: asked_at,
            expires_at: self.clock.now().minus(behind).plus(validity.as_duration()),
            key: self.key(),
        }
    }

    pub(super) fn serial_of(token: &AccessToken) -> u64 {
        token.secret.expose().parse().unwrap()
    }
}

pub(super) fn gone() -> Error {
    Error::AcsRejected { status: 404, code: "IdentityNotFound".into(), request_id: "-".into() }
}

#[async_trait]
impl TokenIssuer for MapAcs {
    fn key(&self) -> KeyId {
        KeyId(self.faults.key.load(Ordering::SeqCst).to_be_bytes())
    }

    fn signing(&self) -> Signing {
        let spare = self.faults.spare.load(Ordering::SeqCst).checked_sub(1);
        let spare = spare.map(|spare| KeyId(spare.to_be_bytes()));
        Signing { key: self.key(), since: self.clock.now(), spare }
    }

    fn standing(&self, key: KeyId) -> KeyStanding {
        match self.faults.others.load(Ordering::SeqCst) {
            _ if key == self.key() => KeyStanding::InUse,
            0 => KeyStanding::Unknown,
            1 => KeyStanding::Spare,
            _ => KeyStanding::Dead,
        }
    }

    async fn create_identity(
        &self,
        _user: &UserId,
        first: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        let asked_at = self.clock.now();
        self.step(|acs| {
            if acs.made == 0 || !self.faults.one_identity.load(Ordering::SeqCst) {
                acs.made += 1;
            }
            acs.creates += 1;
            let identity = IdentityId::parse(&format!("8:acs:sim_{}", acs.made)).unwrap();
            acs.alive.insert(identity.clone(), 0);
            Ok(CreatedIdentity { identity, token: first.map(|(_, validity)| self.token(asked_at, validity)) })
        })
        .await
    }

    async fn issue_token(
        &self,
        identity: &IdentityId,
        _scopes: ScopeSet,
        validity: Validity,
    ) -> Result<AccessToken, Error> {
        let asked_at = self.clock.now();
        self.step(|acs| {
            acs.issues += 1;
            if acs.alive.contains_key(identity) { Ok(self.token(asked_at, validity)) } else { Err(gone()) }
        })
        .await
    }

    async fn revoke_tokens(&self, identity: &IdentityId) -> Result<(), Error> {
        self.step(|acs| {
            let next = self.serial.load(Ordering::SeqCst);
            acs.alive.get_mut(identity).map(|good_from| *good_from = next).ok_or_else(gone)
        })
        .await
    }

    async fn delete_identity(&self, identity: &IdentityId) -> Result<(), Error> {
        self.step(|acs| {
            acs.alive.remove(identity);
            Ok(())
        })
        .await
    }
}

/// Everything of one simulated world.
pub(super) struct World {
    pub(super) clock: Arc<ManualClock>,
    pub(super) acs: MapAcs,
    pub(super) store: MapStore,
    pub(super) faults: Arc<Faults>,
    pub(super) brokers: Vec<Broker>,
    pub(super) metrics: Metrics,
}

impl World {
    /// How many identities were asked for, tokens issued apart from those, and identities alive.
    pub(super) fn upstream(&self) -> (u64, u64, usize) {
        let acs = lock(&self.acs.state);
        (acs.creates, acs.issues, acs.alive.len())
    }

    pub(super) async fn settled(&self) {
        for broker in &self.brokers {
            assert!(broker.shutdown(Duration::from_secs(600)).await, "work did not end");
        }
    }
}

pub(super) fn world(seed: u64, brokers: usize, longest_ms: u64) -> World {
    world_with(brokers, Delays::new(seed, longest_ms))
}

pub(super) fn world_with(brokers: usize, delays: Delays) -> World {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
    let faults = Arc::<Faults>::default();
    let store = MapStore {
        maps: Arc::default(),
        delays: delays.clone(),
        clock: clock.clone(),
        faults: faults.clone(),
    };
    let acs = MapAcs {
        state: Arc::default(),
        serial: Arc::default(),
        delays,
        clock: clock.clone(),
        faults: faults.clone(),
    };
    let metrics = Metrics::new();
    let brokers = (0..brokers)
        .map(|_| {
            Broker::new(
                Settings::default(),
                Arc::new(acs.clone()),
                store.stores(),
                clock.clone(),
                metrics.clone(),
            )
        })
        .collect();
    World { clock, acs, store, faults, brokers, metrics }
}

pub(super) fn caller() -> &'static Caller {
    static CALLER: std::sync::LazyLock<Caller> = std::sync::LazyLock::new(|| Caller::unlimited("simulation"));
    &CALLER
}

pub(super) fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

pub(super) fn chat(user: &UserId) -> IssueToken {
    IssueToken {
        user: user.clone(),
        scopes: ScopeSet::new([Scope::Chat]).unwrap(),
        validity: None,
        min_remaining: Duration::ZERO,
    }
}

pub(super) fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

pub(super) fn refresh(user: &UserId) -> RefreshToken {
    RefreshToken { user: user.clone(), scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: None }
}
