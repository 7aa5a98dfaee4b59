//! Nothing grows without bound, and nothing waits for ever: expiry, limits, a full queue, a dead writer.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redb::{ReadableDatabase, ReadableTableMetadata};

use super::super::tables::View;
use super::*;
use crate::broker::ports::{Begun, LedgerKey};
use crate::broker::types::{AccessToken, CachedToken, KeyId, Scope, ScopeSet, TokenKey, Validity};
use crate::secret::Secret;

fn chat() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
}

fn token(identity: &str, expires_at: Timestamp) -> CachedToken {
    CachedToken {
        identity: IdentityId::parse(identity).unwrap(),
        generation: 0,
        token: AccessToken {
            secret: Secret::new("t".repeat(1100)),
            issued_at: Timestamp::from_millis(0),
            expires_at,
            key: KeyId([0; 8]),
        },
    }
}

fn request(number: usize) -> LedgerKey {
    LedgerKey { caller: "c".into(), operation: "Op", request_id: number.to_string() }
}

/// A store in memory of which the tables can be seen.
struct Seen {
    stores: Stores,
    clock: Arc<ManualClock>,
    engine: Arc<Engine>,
}

fn seen(bounds: Bounds) -> Seen {
    let clock = clock();
    let engine =
        Arc::new(Engine::new(file::in_memory(&Vault::plain()).unwrap(), clock.clone(), bounds).unwrap());
    let stores = Embedded::new(engine.clone(), Writer::inline(), bounds, Metrics::new(), Vault::plain())
        .into_opened()
        .core;
    Seen { stores, clock, engine }
}

impl Seen {
    /// Rows of the tables of tokens and requests and of their expiry tables.
    fn rows(&self) -> [u64; 4] {
        let mut rows = [0; 4];
        self.engine.with_tables(|tables| {
            rows = [
                tables.tokens.len().unwrap(),
                tables.token_expiry.len().unwrap(),
                tables.ledger.len().unwrap(),
                tables.ledger_expiry.len().unwrap(),
            ];
        });
        rows
    }

    async fn put(&self, user: &str, identity: &str, life: Duration) -> bool {
        let token = token(identity, self.clock.now().plus(life));
        self.stores.tokens.put(&UserId::parse(user).unwrap(), &chat(), &token).await.unwrap()
    }
}

#[tokio::test]
async fn expired_tokens_and_requests_leave_the_tables() {
    let seen = seen(Bounds::default());
    let minute = Duration::from_secs(60);
    for number in 0..300 {
        let (user, identity) = (format!("user {number}"), format!("8:acs:{number}"));
        insert(&seen.stores, &user, &identity).await;
        assert!(seen.put(&user, &identity, minute).await);
        // Replaced once, begun and finished: still one row each.
        assert!(seen.put(&user, &identity, 2 * minute).await);
        let begun = seen.stores.ledger.begin(&request(number), &[0; 32], minute).await.unwrap();
        assert_eq!(begun, Begun::Started);
        seen.stores.ledger.finish(&request(number), &[0; 32], b"done", 2 * minute).await.unwrap();
    }
    assert_eq!(seen.rows(), [300; 4]);
    seen.clock.advance(2 * minute);
    // A few writes are enough, of whatever kind.
    for number in 0..6 {
        insert(&seen.stores, &format!("later {number}"), &format!("8:acs:later-{number}")).await;
    }
    assert_eq!(seen.rows(), [0; 4]);
    assert_eq!(find(&seen.stores, "user 299").await, Some(record("8:acs:299")), "the mapping stays");
}

#[tokio::test]
async fn revoked_and_removed_tokens_leave_the_tables() {
    let seen = seen(Bounds::default());
    for number in 0..2 {
        let (user, identity) = (format!("user {number}"), format!("8:acs:{number}"));
        insert(&seen.stores, &user, &identity).await;
        assert!(seen.put(&user, &identity, Duration::from_secs(60)).await);
    }
    let user = |number| UserId::parse(&format!("user {number}")).unwrap();
    seen.stores.identities.advance_generation(&user(0), &record("8:acs:0").identity).await.unwrap();
    assert_eq!(seen.rows()[..2], [1, 1]);
    assert!(seen.stores.identities.remove(&user(1), &record("8:acs:1").identity).await.unwrap());
    assert_eq!(seen.rows()[..2], [0, 0]);
}

#[tokio::test]
async fn of_too_many_tokens_those_that_expire_first_go() {
    let seen = seen(Bounds { tokens: 10, ..Bounds::default() });
    for number in 0..30u64 {
        let (user, identity) = (format!("user {number}"), format!("8:acs:{number}"));
        insert(&seen.stores, &user, &identity).await;
        assert!(seen.put(&user, &identity, Duration::from_secs(100 + number)).await);
        assert!(seen.rows()[0] <= 10);
    }
    for number in 0..30 {
        let user = UserId::parse(&format!("user {number}")).unwrap();
        let found = seen.stores.tokens.look_up(&user, &chat()).await.unwrap();
        assert_eq!(found.token.is_some(), number >= 20, "{number}");
        assert!(found.record.is_some(), "the mapping is not bounded");
    }
}

#[tokio::test]
async fn a_full_ledger_refuses_new_requests_and_forgets_none() {
    let seen = seen(Bounds { requests: 5, ..Bounds::default() });
    let (minute, ledger) = (Duration::from_secs(60), &seen.stores.ledger);
    for number in 0..5 {
        assert_eq!(ledger.begin(&request(number), &[0; 32], minute).await.unwrap(), Begun::Started);
    }
    assert!(matches!(ledger.begin(&request(5), &[0; 32], minute).await, Err(StoreError::Unavailable(_))));
    // Those it knows can end.
    for number in 0..5 {
        ledger.finish(&request(number), &[0; 32], b"done", minute).await.unwrap();
    }
    assert_eq!(ledger.begin(&request(0), &[0; 32], minute).await.unwrap(), Begun::Finished(b"done".to_vec()));
    seen.clock.advance(minute);
    // The write that is refused clears up what has expired; the next has room.
    let _ = ledger.begin(&request(6), &[0; 32], minute).await;
    assert_eq!(ledger.begin(&request(7), &[0; 32], minute).await.unwrap(), Begun::Started);
}

#[tokio::test]
async fn the_file_stays_as_large_as_what_it_holds() {
    let (folder, clock) = (tempfile::tempdir().unwrap(), clock());
    let stores = open(&settings(&folder), Vault::plain(), clock.clone(), Metrics::new()).unwrap().core;
    for number in 0..20 {
        insert(&stores, &format!("user {number}"), &format!("8:acs:{number}")).await;
    }
    let mut sizes = Vec::new();
    for _ in 0..12 {
        for _ in 0..20 {
            for number in 0..20 {
                let user = UserId::parse(&format!("user {number}")).unwrap();
                let token = token(&format!("8:acs:{number}"), clock.now().plus(Duration::from_secs(60)));
                assert!(stores.tokens.put(&user, &chat(), &token).await.unwrap());
            }
            clock.advance(Duration::from_secs(61));
        }
        sizes.push(std::fs::metadata(settings(&folder).path).unwrap().len());
    }
    // 4,800 tokens of 1.1 KB went through it.
    assert!(sizes[11] < 1 << 20 && sizes[11] <= 2 * sizes[3], "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_at_once_and_recovers() {
    let folder = tempfile::tempdir().unwrap();
    let database = file::open(&settings(&folder).path, &Vault::plain()).unwrap();
    let engine = Arc::new(Engine::new(database, clock(), Bounds::default()).unwrap());
    let writer = Writer::thread(&engine).unwrap();
    let stores = Embedded::new(engine.clone(), writer, Bounds::default(), Metrics::new(), Vault::plain())
        .into_opened()
        .core;
    let (mut tasks, ended) = (tokio::task::JoinSet::new(), Arc::new(AtomicUsize::new(0)));
    // While somebody else holds the engine's one write transaction, nothing is committed.
    engine.with_write_blocked(|| {
        for number in 0..3000 {
            let stores = stores.clone();
            let ended = ended.clone();
            tasks.spawn(async move {
                let user = UserId::parse(&format!("user {number}")).unwrap();
                let inserted =
                    stores.identities.insert_if_absent(&user, &record(&format!("8:acs:{number}"))).await;
                ended.fetch_add(1, Ordering::SeqCst);
                inserted
            });
        }
        // The queue and the batch that waits hold 1,280; the others are refused while nothing moves.
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while ended.load(Ordering::SeqCst) < 3000 - 1280 {
            assert!(std::time::Instant::now() < deadline, "they wait instead of being refused");
            std::thread::yield_now();
        }
    });
    let (mut done, mut refused) = (0, 0);
    for inserted in tasks.join_all().await {
        match inserted {
            Ok(Inserted::New) => done += 1,
            Err(StoreError::Unavailable(_)) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(done >= 1024 && refused >= 3000 - 1280, "{done} done, {refused} refused");
    insert(&stores, "later", "8:acs:later").await;
    assert_eq!(stores.identities.check().await, Ok(()));
}

#[test]
fn a_view_sees_what_was_committed_when_it_was_made() {
    let database = file::in_memory(&Vault::plain()).unwrap();
    let before = View::open(&database.begin_read().unwrap()).unwrap();
    let transaction = database.begin_write().unwrap();
    Tables::open(&transaction).unwrap().identities.insert([1].as_slice(), [2].as_slice()).unwrap();
    transaction.commit().unwrap();
    assert!(before.identities.get([1].as_slice()).unwrap().is_none());
    let after = View::open(&database.begin_read().unwrap()).unwrap();
    assert!(after.identities.get([1].as_slice()).unwrap().is_some());
}
