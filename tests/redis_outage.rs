//! Redis dies and returns under load, through the public store: two replicas, readers and writers all the while.
//!
//! What it proves: no wrong answer, no call over its deadline, nothing acknowledged is lost, and normal within 2 s of
//! the return, without a restart of anything else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

#[path = "support/redis_server.rs"]
mod redis_server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use acs_broker::broker::ports::{Inserted, StoreError, Stores};
use acs_broker::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, UserId, Validity,
};
use acs_broker::clock::{Clock as _, SystemClock, Timestamp};
use acs_broker::metrics::Metrics;
use acs_broker::secret::Secret;
use acs_broker::store::{Vault, redis};

use redis_server::RedisServer;

/// The default of `store.redis.timeout`.
const TIMEOUT: Duration = Duration::from_millis(100);

/// How much later than its deadline a task may be woken on a busy test machine.
const MARGIN: Duration = Duration::from_millis(400);

/// An insertion is at most three commands in a row, or a few looks at another's claim.
const LONGEST_CALL: Duration = Duration::from_millis(3 * 100 + 250);

async fn replica(server: &RedisServer) -> Stores {
    let settings = redis::Settings { timeout: TIMEOUT, ..redis::Settings::default() };
    let url = Secret::new(server.url());
    redis::open(&settings, url, Secret::new(""), Vault::plain(), Arc::new(SystemClock), Metrics::new())
        .await
        .unwrap()
        .core
}

fn user(number: usize) -> UserId {
    UserId::parse(&format!("user-{number}")).unwrap()
}

fn record(number: usize) -> IdentityRecord {
    IdentityRecord {
        identity: IdentityId::parse(&format!("8:acs:resource_{number}")).unwrap(),
        generation: 0,
        created_at: Timestamp::from_millis(1),
    }
}

fn key() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Voip]).unwrap(), validity: Validity::MIN }
}

fn token(number: usize) -> CachedToken {
    let now = SystemClock.now();
    CachedToken {
        identity: record(number).identity,
        generation: 0,
        token: AccessToken {
            secret: Secret::new(format!("token-{number}")),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            key: KeyId([7; 8]),
        },
    }
}

/// What the load saw.
#[derive(Default)]
struct Seen {
    over: AtomicBool,
    answers: AtomicUsize,
    errors: AtomicUsize,
    /// Insertions that were acknowledged: users 0 to this number, of each writer.
    acknowledged: [AtomicUsize; 2],
}

impl Seen {
    /// Counts an answer or an error; anything but "cannot be reached" is a wrong answer.
    fn count<T>(&self, began: Instant, longest: Duration, result: Result<T, StoreError>) -> Option<T> {
        let took = began.elapsed();
        assert!(took < longest + MARGIN, "a call took {took:?}");
        match result {
            Ok(answer) => {
                self.answers.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(StoreError::Unavailable(_)) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                None
            }
            Err(error @ StoreError::Corrupt(_)) => panic!("{error:?}"),
        }
    }
}

/// Reads users that are there throughout, and one that never is.
async fn read(stores: Stores, seen: Arc<Seen>) {
    for round in 0.. {
        if seen.over.load(Ordering::Relaxed) {
            return;
        }
        let number = round % 20;
        let began = Instant::now();
        if let Some(found) = seen.count(began, TIMEOUT, stores.tokens.look_up(&user(number), &key()).await) {
            assert_eq!(found.record, Some(record(number)), "a wrong record");
            // The cache may have forgotten; it must not mix up.
            if let Some(found) = found.token {
                assert_eq!(found.token.secret, token(number).token.secret, "a wrong token");
            }
        }
        let began = Instant::now();
        if let Some(found) = seen.count(began, TIMEOUT, stores.identities.find(&user(999_999)).await) {
            assert_eq!(found, None);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Inserts one new user after another, each until it is acknowledged.
async fn write(stores: Stores, seen: Arc<Seen>, writer: usize) {
    for count in 0.. {
        let number = 1000 + writer * 100_000 + count;
        loop {
            if seen.over.load(Ordering::Relaxed) {
                return;
            }
            let began = Instant::now();
            let result = stores.identities.insert_if_absent(&user(number), &record(number)).await;
            match seen.count(began, LONGEST_CALL, result) {
                Some(Inserted::New) => break,
                // The try before was done although its answer was lost.
                Some(Inserted::Existing(there)) => {
                    assert_eq!(there, record(number));
                    break;
                }
                Some(Inserted::LinkedElsewhere) => panic!("an identity that nobody has"),
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
        seen.acknowledged[writer].store(count + 1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_killed_under_load_and_back_gives_no_wrong_answer_and_loses_nothing() {
    let mut server = RedisServer::start_durable();
    let replicas = [replica(&server).await, replica(&server).await];
    for number in 0..20 {
        replicas[0].identities.insert_if_absent(&user(number), &record(number)).await.unwrap();
        assert!(replicas[0].tokens.put(&user(number), &key(), &token(number)).await.unwrap());
    }
    let seen = Arc::new(Seen::default());
    let mut load = tokio::task::JoinSet::new();
    for (writer, stores) in replicas.iter().enumerate() {
        load.spawn(write(stores.clone(), Arc::clone(&seen), writer));
        for _ in 0..4 {
            load.spawn(read(stores.clone(), Arc::clone(&seen)));
        }
    }
    for round in 0..5 {
        let before = seen.answers.load(Ordering::Relaxed);
        within("the load runs", Duration::from_secs(10), || {
            seen.answers.load(Ordering::Relaxed) > before + 200
        })
        .await;
        tokio::task::block_in_place(|| server.kill());
        let errors = seen.errors.load(Ordering::Relaxed);
        within("the loss is felt", Duration::from_secs(5), || {
            seen.errors.load(Ordering::Relaxed) > errors + 20
        })
        .await;
        tokio::task::block_in_place(|| server.restart());
        let back = Instant::now();
        let answers = seen.answers.load(Ordering::Relaxed);
        within("calls are answered again", Duration::from_secs(2), || {
            seen.answers.load(Ordering::Relaxed) > answers + 20
        })
        .await;
        println!("round {round}: normal {:?} after the return", back.elapsed());
    }
    seen.over.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let mut acknowledged = 0;
    for (writer, count) in seen.acknowledged.iter().enumerate() {
        for count in 0..count.load(Ordering::Relaxed) {
            let number = 1000 + writer * 100_000 + count;
            let found = replicas[0].identities.find(&user(number)).await.unwrap();
            assert_eq!(found, Some(record(number)), "an acknowledged record is lost");
            let owner = replicas[1].identities.find_user(&record(number).identity).await.unwrap();
            assert_eq!(owner, Some((user(number), record(number))), "the way back is lost");
            acknowledged += 1;
        }
    }
    let (answers, errors) = (seen.answers.load(Ordering::Relaxed), seen.errors.load(Ordering::Relaxed));
    println!("{answers} answers, {errors} errors, {acknowledged} acknowledged insertions, none lost");
    assert!(acknowledged > 50);
}

async fn within(what: &str, limit: Duration, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_replica_writes_another_sees_and_a_revocation_holds_for_both() {
    let server = RedisServer::start();
    let (one, two) = (replica(&server).await, replica(&server).await);
    assert_eq!(one.identities.insert_if_absent(&user(1), &record(1)).await.unwrap(), Inserted::New);
    let second = IdentityRecord { identity: IdentityId::parse("8:acs:other").unwrap(), ..record(1) };
    assert_eq!(
        two.identities.insert_if_absent(&user(1), &second).await.unwrap(),
        Inserted::Existing(record(1)),
        "the second replica adopts the first identity"
    );
    assert!(two.tokens.put(&user(1), &key(), &token(1)).await.unwrap());
    assert!(one.tokens.look_up(&user(1), &key()).await.unwrap().token.is_some());
    one.identities.advance_generation(&user(1), &record(1).identity).await.unwrap();
    assert!(two.tokens.look_up(&user(1), &key()).await.unwrap().token.is_none());
    assert!(!two.tokens.put(&user(1), &key(), &token(1)).await.unwrap(), "a late renewal publishes");
}
