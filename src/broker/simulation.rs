//! The core under seeded interleavings: a store and an ACS made of plain maps, with delays drawn from a seed on virtual
//! time, and several brokers over them. No I/O: what happens depends on the seed alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::error::Error;
use super::ports::*;
use super::types::*;
use super::{Broker, IssueToken, RefreshToken, Settings};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::metrics::Metrics;
use crate::secret::Secret;

/// Delays drawn from a seed, on tokio's (paused) time.
#[derive(Clone)]
struct Delays {
    random: Arc<Mutex<StdRng>>,
    longest_ms: u64,
    /// Whether the store's answers, too, take their time; if not, its steps happen at the moment they return.
    late_answers: bool,
}

impl Delays {
    fn new(seed: u64, longest_ms: u64) -> Self {
        Self { random: Arc::new(Mutex::new(StdRng::seed_from_u64(seed))), longest_ms, late_answers: true }
    }

    async fn some(&self) {
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Maps {
    records: BTreeMap<UserId, IdentityRecord>,
    owners: HashMap<IdentityId, UserId>,
    tokens: HashMap<(UserId, TokenKey), CachedToken>,
    leases: HashMap<String, (u64, tokio::time::Instant)>,
    fence: u64,
    ledger: HashMap<LedgerKey, ([u8; 32], Option<Vec<u8>>)>,
}

/// A store of plain maps: every operation is one atomic step with delays before and after it.
#[derive(Clone)]
struct MapStore {
    maps: Arc<Mutex<Maps>>,
    delays: Delays,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
}

/// What goes wrong on request.
#[derive(Default)]
struct Faults {
    /// Every lease is granted to everybody, as if all had lapsed.
    leases_void: AtomicBool,
    /// The next insertion is stored, but its answer is lost.
    lose_insertion: AtomicBool,
    /// ACS answers "unavailable".
    acs_away: AtomicBool,
    /// ACS takes this many milliseconds longer.
    acs_slow_ms: AtomicU64,
    /// Which credential signs.
    key: AtomicU64,
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

    fn stores(&self) -> Stores {
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
struct AcsState {
    /// Identity to the first serial number that a revocation has not killed.
    alive: BTreeMap<IdentityId, u64>,
    made: u64,
    creates: u64,
    issues: u64,
}

/// An ACS of plain maps whose tokens are their serial numbers.
#[derive(Clone)]
struct MapAcs {
    state: Arc<Mutex<AcsState>>,
    serial: Arc<AtomicU64>,
    delays: Delays,
    clock: Arc<ManualClock>,
    faults: Arc<Faults>,
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
        AccessToken {
            secret: Secret::new(serial.to_string()),
            issued_at: asked_at,
            expires_at: self.clock.now().plus(validity.as_duration()),
            key: self.key(),
        }
    }

    fn serial_of(token: &AccessToken) -> u64 {
        token.secret.expose().parse().unwrap()
    }
}

fn gone() -> Error {
    Error::AcsRejected { status: 404, code: "IdentityNotFound".into(), request_id: "-".into() }
}

#[async_trait]
impl TokenIssuer for MapAcs {
    fn key(&self) -> KeyId {
        KeyId(self.faults.key.load(Ordering::SeqCst).to_be_bytes())
    }

    async fn create_identity(
        &self,
        _user: &UserId,
        first: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        let asked_at = self.clock.now();
        self.step(|acs| {
            acs.made += 1;
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

impl World {
    /// How many identities were asked for, tokens issued apart from those, and identities alive.
    fn upstream(&self) -> (u64, u64, usize) {
        let acs = lock(&self.acs.state);
        (acs.creates, acs.issues, acs.alive.len())
    }

    async fn settled(&self) {
        for broker in &self.brokers {
            assert!(broker.shutdown(Duration::from_secs(600)).await, "work did not end");
        }
    }
}

struct World {
    clock: Arc<ManualClock>,
    acs: MapAcs,
    store: MapStore,
    faults: Arc<Faults>,
    brokers: Vec<Broker>,
}

fn world(seed: u64, brokers: usize, longest_ms: u64) -> World {
    world_with(brokers, Delays::new(seed, longest_ms))
}

fn world_with(brokers: usize, delays: Delays) -> World {
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
    let brokers = (0..brokers)
        .map(|_| {
            Broker::new(
                Settings::default(),
                Arc::new(acs.clone()),
                store.stores(),
                clock.clone(),
                Metrics::new(),
            )
        })
        .collect();
    World { clock, acs, store, faults, brokers }
}

fn caller() -> &'static Caller {
    static CALLER: std::sync::LazyLock<Caller> = std::sync::LazyLock::new(|| Caller::new("simulation"));
    &CALLER
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn chat(user: &UserId) -> IssueToken {
    IssueToken {
        user: user.clone(),
        scopes: ScopeSet::new([Scope::Chat]).unwrap(),
        validity: None,
        min_remaining: Duration::ZERO,
    }
}

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn refresh(user: &UserId) -> RefreshToken {
    RefreshToken { user: user.clone(), scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: None }
}

#[test]
fn no_token_from_before_a_revocation_is_served_after_it_over_10_000_interleavings() {
    const INTERLEAVINGS: u64 = 10_000;
    let (mut served, mut after_a_revocation) = (0_u64, 0_u64);
    for seed in 0..INTERLEAVINGS {
        paused().block_on(async {
            // Every other world answers at once, so that a token returned later than a revocation was also decided on
            // later, even if its call began before.
            let late_answers = seed % 2 == 0;
            let world = world_with(2, Delays { late_answers, ..Delays::new(seed, 4) });
            let alice = user("alice");
            let identity = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap().identity;
            // The serial number from which on tokens are good, as the revocations that have returned left it.
            let good_from = Arc::new(Mutex::new((0, tokio::time::Instant::now())));
            let revoking = Arc::new(AtomicU64::new(0));
            let mut random = StdRng::seed_from_u64(!seed);
            let mut calls = Vec::new();
            for number in 0..10 {
                let broker = world.brokers[random.random_range(0..2)].clone();
                let start = Duration::from_millis(random.random_range(0..40));
                let kind = if number < 2 { 0 } else { random.random_range(1..4) };
                let (alice, identity, acs) = (alice.clone(), identity.clone(), world.acs.clone());
                let (good_from, revoking) = (good_from.clone(), revoking.clone());
                calls.push(tokio::spawn(async move {
                    tokio::time::sleep(start).await;
                    if kind == 0 {
                        let issued_before = acs.serial.load(Ordering::SeqCst);
                        revoking.fetch_add(1, Ordering::SeqCst);
                        broker.revoke_tokens(caller(), alice, None).await.unwrap();
                        let alone = revoking.fetch_sub(1, Ordering::SeqCst) == 1;
                        // What ACS revoked up to is this revocation's mark only if no other one is under way.
                        let mark = if alone { lock(&acs.state).alive[&identity] } else { issued_before };
                        let mut good_from = lock(&good_from);
                        if mark > good_from.0 {
                            *good_from = (mark, tokio::time::Instant::now());
                        }
                        return (0, 0);
                    }
                    let (mut must_be_from, _) = *lock(&good_from);
                    let served = match kind {
                        1 => broker.refresh_token(caller(), refresh(&alice)).await,
                        _ => broker.issue_token(caller(), chat(&alice)).await,
                    };
                    let serial = MapAcs::serial_of(&served.unwrap().token);
                    let (mark, since) = *lock(&good_from);
                    if !late_answers && tokio::time::Instant::now() > since {
                        must_be_from = mark;
                    }
                    assert!(
                        serial >= must_be_from,
                        "seed {seed}: token {serial}, revoked below {must_be_from}"
                    );
                    (1, u64::from(must_be_from > 0))
                }));
            }
            for call in calls {
                let (one, after) = call.await.unwrap();
                served += one;
                after_a_revocation += after;
            }
        });
    }
    println!("{served} tokens served, {after_a_revocation} of them to calls that began after a revocation");
    assert!(after_a_revocation > INTERLEAVINGS, "the interleavings must exercise the rule");
}

#[test]
fn a_fleet_makes_one_identity_with_one_call() {
    for seed in 0..200 {
        paused().block_on(async {
            let world = world(seed, 3, 20);
            let alice = user("alice");
            let calls: Vec<_> = (0..60)
                .map(|number| {
                    let (broker, alice) = (world.brokers[number % 3].clone(), alice.clone());
                    tokio::spawn(async move {
                        if number % 10 == 9 {
                            return broker.resolve_identity(caller(), alice).await.unwrap().0.identity;
                        }
                        broker.issue_token(caller(), chat(&alice)).await.unwrap().identity
                    })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap().as_str(), "8:acs:sim_1", "seed {seed}");
            }
            world.settled().await;
            let (creates, issues, alive) = world.upstream();
            assert_eq!((creates, alive), (1, 1), "seed {seed}");
            assert!(issues <= 1, "seed {seed}: a bare resolve may come first, then one token is issued");
        });
    }
}

#[test]
fn without_leases_the_losers_adopt_the_winner_and_delete_their_surplus() {
    let mut surplus = 0;
    for seed in 0..200 {
        paused().block_on(async {
            let world = world(seed, 3, 20);
            world.faults.leases_void.store(true, Ordering::SeqCst);
            let alice = user("alice");
            let calls: Vec<_> = world
                .brokers
                .iter()
                .cloned()
                .map(|broker| {
                    let alice = alice.clone();
                    tokio::spawn(
                        async move { broker.issue_token(caller(), chat(&alice)).await.unwrap().identity },
                    )
                })
                .collect();
            let mut named = std::collections::BTreeSet::new();
            for call in calls {
                named.insert(call.await.unwrap());
            }
            world.settled().await;
            let (creates, _, alive) = world.upstream();
            assert_eq!((named.len(), alive), (1, 1), "seed {seed}");
            assert!(lock(&world.acs.state).alive.contains_key(named.first().unwrap()));
            surplus += creates - 1;
        });
    }
    assert!(surplus > 0, "the race must have happened");
}

#[test]
fn an_insertion_without_an_answer_is_settled_and_the_identity_used() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.lose_insertion.store(true, Ordering::SeqCst);
        let alice = user("alice");
        let error = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(error.reason(), "STORE_UNAVAILABLE");
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert_eq!(served.identity.as_str(), "8:acs:sim_1");
        world.settled().await;
        assert_eq!(world.upstream(), (1, 1, 1));
    });
}

#[test]
fn the_work_of_a_replica_that_died_is_taken_over_within_seconds() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let lease = super::identity::creation_lease(&alice);
        let held = world.store.try_acquire(&lease, Duration::from_secs(3)).await.unwrap();
        assert!(matches!(held, Acquired::Granted(_)));
        let began = tokio::time::Instant::now();
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let took = began.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_slow_upstream_call_keeps_its_lease_and_is_not_repeated() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        world.faults.acs_slow_ms.store(8_000, Ordering::SeqCst);
        let alice = user("alice");
        let (one, two) = tokio::join!(
            world.brokers[0].issue_token(caller(), chat(&alice)),
            world.brokers[1].issue_token(caller(), chat(&alice)),
        );
        assert_eq!(one.unwrap().identity, two.unwrap().identity);
        assert_eq!(world.upstream(), (1, 0, 1));
    });
}

#[test]
fn a_second_call_is_answered_from_the_cache_and_a_renewal_happens_once_behind_it() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!first.from_cache);
        let second = world.brokers[1].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.from_cache && second.token == first.token && !second.degraded);
        world.clock.set(first.refresh_at);
        for broker in &world.brokers {
            for _ in 0..10 {
                let due = broker.issue_token(caller(), chat(&alice)).await.unwrap();
                assert!(due.from_cache && due.token == first.token);
            }
        }
        world.settled().await;
        assert_eq!(world.upstream(), (1, 1, 1));
        let renewed = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(renewed.from_cache && renewed.token != first.token);
    });
}

#[test]
fn scopes_are_exact_and_so_is_validity() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let mut serials = std::collections::BTreeSet::new();
        for bits in 1..32_u8 {
            let scopes: Vec<_> = Scope::ALL
                .into_iter()
                .enumerate()
                .filter(|(at, _)| bits & (1 << at) != 0)
                .map(|(_, s)| s)
                .collect();
            for minutes in [60, 1440] {
                let request = IssueToken {
                    scopes: ScopeSet::new(scopes.iter().rev().chain(&scopes).copied()).unwrap(),
                    validity: Some(Validity::from_minutes(minutes).unwrap()),
                    ..chat(&alice)
                };
                let one = world.brokers[0].issue_token(caller(), request.clone()).await.unwrap();
                let two = world.brokers[0].issue_token(caller(), request).await.unwrap();
                assert!(two.from_cache && one.token == two.token);
                serials.insert(MapAcs::serial_of(&one.token));
            }
        }
        assert_eq!(serials.len(), 62);
    });
}

#[test]
fn a_refresh_is_never_from_the_cache_and_feeds_it() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let missing = world.brokers[0].refresh_token(caller(), refresh(&alice)).await.unwrap_err();
        assert_eq!(missing.reason(), "IDENTITY_NOT_FOUND");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let second = world.brokers[0].refresh_token(caller(), refresh(&alice)).await.unwrap();
        assert!(second.token != first.token && !second.from_cache);
        let third = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(third.token == second.token && third.from_cache);
    });
}

#[test]
fn while_acs_is_away_a_short_token_is_served_degraded_until_its_last_minute() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(served.degraded && served.token == first.token);
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(59)));
        let refused = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(refused.reason(), "ACS_UNAVAILABLE");
        world.faults.acs_away.store(false, Ordering::SeqCst);
        let again = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!again.degraded && again.token != first.token);
    });
}

#[test]
fn a_hanging_acs_costs_a_caller_with_a_usable_token_one_second_and_the_next_ones_nothing_new() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        world.faults.acs_slow_ms.store(8_000, Ordering::SeqCst);
        let began = tokio::time::Instant::now();
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(served.degraded);
        assert_eq!(began.elapsed().as_secs(), 1);
        world.settled().await;
        assert_eq!(world.upstream().1, 1);
        let better = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(better.from_cache && !better.degraded, "the work behind the caller's back was not lost");
    });
}

#[test]
fn a_revocation_during_an_outage_leaves_nothing_to_fall_back_to() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        world.faults.acs_slow_ms.store(500, Ordering::SeqCst);
        world.faults.acs_away.store(true, Ordering::SeqCst);
        let waiting = {
            let (broker, alice) = (world.brokers[0].clone(), alice.clone());
            tokio::spawn(async move { broker.issue_token(caller(), chat(&alice)).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        // ACS does not answer, so the revocation is not complete; the fence is up all the same.
        let revoked = world.brokers[1].revoke_tokens(caller(), alice, None).await;
        assert_eq!(revoked.unwrap_err().reason(), "ACS_UNAVAILABLE");
        assert_eq!(waiting.await.unwrap().unwrap_err().reason(), "ACS_UNAVAILABLE");
    });
}

#[test]
fn a_token_of_a_credential_no_longer_in_use_is_replaced() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.key.store(1, Ordering::SeqCst);
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!second.from_cache && second.token != first.token);
    });
}

#[test]
fn a_caller_who_hangs_up_leaves_the_work_running() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.acs_slow_ms.store(1_000, Ordering::SeqCst);
        let alice = user("alice");
        let gave_up = tokio::time::timeout(
            Duration::from_millis(10),
            world.brokers[0].issue_token(caller(), chat(&alice)),
        );
        assert!(gave_up.await.is_err());
        world.settled().await;
        assert!(world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap().from_cache);
        assert_eq!(world.upstream(), (1, 0, 1));
    });
}

#[test]
fn a_retried_revocation_spares_the_tokens_issued_since() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let (alice, bob) = (user("alice"), user("bob"));
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let id = || Some("7f2c".to_owned());
        world.brokers[0].revoke_tokens(caller(), alice.clone(), id()).await.unwrap();
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.token != first.token);
        world.brokers[1].revoke_tokens(caller(), alice.clone(), id()).await.unwrap();
        let third = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(third.token == second.token);
        let reused = world.brokers[1].revoke_tokens(caller(), bob, id()).await.unwrap_err();
        assert_eq!(reused.reason(), "IDEMPOTENCY_KEY_REUSED");
    });
}

#[test]
fn a_failed_revocation_can_be_retried_under_the_same_id() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        let id = || Some("7f2c".to_owned());
        assert!(world.brokers[0].revoke_tokens(caller(), alice.clone(), id()).await.is_err());
        world.faults.acs_away.store(false, Ordering::SeqCst);
        world.brokers[0].revoke_tokens(caller(), alice, id()).await.unwrap();
        assert_eq!(lock(&world.acs.state).alive.values().next(), Some(&1));
    });
}

#[test]
fn a_request_that_still_runs_is_not_run_twice() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_slow_ms.store(1_000, Ordering::SeqCst);
        let id = || Some("7f2c".to_owned());
        let (one, two) = tokio::join!(
            world.brokers[0].revoke_tokens(caller(), alice.clone(), id()),
            world.brokers[1].revoke_tokens(caller(), alice.clone(), id()),
        );
        one.unwrap();
        assert_eq!(two.unwrap_err().reason(), "REQUEST_IN_PROGRESS");
    });
}

#[test]
fn a_deleted_user_starts_over_with_a_new_identity() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.brokers[1].delete_identity(caller(), alice.clone(), None).await.unwrap();
        assert_eq!(world.upstream().2, 0);
        let missing = world.brokers[0].get_identity(caller(), alice.clone()).await.unwrap_err();
        assert_eq!(missing.reason(), "IDENTITY_NOT_FOUND");
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.identity != first.identity && second.token != first.token);
        let again = world.brokers[1].delete_identity(caller(), user("bob"), None).await.unwrap_err();
        assert_eq!(again.reason(), "IDENTITY_NOT_FOUND");
    });
}

#[test]
fn a_deletion_interrupted_by_acs_is_finished_by_the_next_one() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        assert!(world.brokers[0].delete_identity(caller(), alice.clone(), None).await.is_err());
        let found = world.brokers[0].get_identity(caller(), alice.clone()).await.unwrap();
        assert_eq!(found.1.identity, first.identity);
        world.faults.acs_away.store(false, Ordering::SeqCst);
        world.brokers[0].delete_identity(caller(), alice, None).await.unwrap();
        assert_eq!(world.upstream().2, 0);
    });
}

#[test]
fn an_import_changes_nothing_it_contradicts() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let broker = &world.brokers[0];
        let (alice, bob) = (user("alice"), user("bob"));
        let (one, two) = (IdentityId::parse("8:acs:one").unwrap(), IdentityId::parse("8:acs:two").unwrap());
        let import = async |user: &UserId, identity: &IdentityId, dry| {
            broker
                .import_identity(caller(), user.clone(), identity.clone(), None, dry)
                .await
                .map_err(|e| e.reason())
        };
        assert_eq!(import(&alice, &one, true).await, Ok(super::Imported::New));
        assert_eq!(import(&alice, &one, false).await, Ok(super::Imported::New));
        for dry in [true, false] {
            assert_eq!(import(&alice, &one, dry).await, Ok(super::Imported::Unchanged));
            assert_eq!(import(&alice, &two, dry).await, Err("IDENTITY_ALREADY_LINKED"));
            assert_eq!(import(&bob, &one, dry).await, Err("IDENTITY_ALREADY_LINKED"));
        }
        let found = broker.get_identity_by_acs_id(caller(), one).await.unwrap();
        assert_eq!(found.0, alice);
    });
}

#[test]
fn no_expired_or_short_token_is_served_undegraded_over_100_000_cases() {
    const WORLDS: u64 = 2_000;
    const CALLS: u64 = 50;
    let (mut served, mut cached, mut degraded, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in 0..WORLDS {
        paused().block_on(async {
            let world = world(seed, 2, 0);
            let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
            let users = [user("alice"), user("bob")];
            for _ in 0..CALLS {
                let step = match random.random_range(0..4) {
                    0 => 0,
                    1 => random.random_range(0..600),
                    2 => random.random_range(0..7_200),
                    _ => random.random_range(0..90_000),
                };
                world.clock.advance(Duration::from_secs(step));
                world.faults.acs_away.store(random.random_range(0..3) == 0, Ordering::SeqCst);
                let validity = Validity::from_minutes(random.random_range(60..=1440)).unwrap();
                let validity = [validity, Validity::MIN, Validity::MAX][random.random_range(0..3)];
                let most = validity.as_duration().as_secs() - 300;
                let min_remaining =
                    Duration::from_secs(if random.random() { 0 } else { random.random_range(0..=most) });
                let request = IssueToken {
                    validity: Some(validity),
                    min_remaining,
                    ..chat(&users[random.random_range(0..2)])
                };
                match world.brokers[random.random_range(0..2)].issue_token(caller(), request).await {
                    Ok(token) => {
                        let left = token.token.expires_at.since(world.clock.now());
                        assert!(left >= Duration::from_secs(60), "seed {seed}: {left:?} left");
                        let promised = min_remaining.max(Duration::from_secs(15 * 60));
                        assert!(token.degraded || left >= promised, "seed {seed}: {left:?} of {promised:?}");
                        assert!(token.refresh_at < token.token.expires_at);
                        served += 1;
                        cached += u64::from(token.from_cache);
                        degraded += u64::from(token.degraded);
                    }
                    Err(error) => {
                        assert_eq!(error.reason(), "ACS_UNAVAILABLE", "seed {seed}");
                        refused += 1;
                    }
                }
            }
        });
    }
    println!("{served} served: {cached} from the cache, {degraded} degraded; {refused} refused");
    assert_eq!(served + refused, 100_000);
    assert!(cached > 10_000 && degraded > 100, "every outcome must be exercised");
}
