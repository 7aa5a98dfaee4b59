//! Fuzz target: what a Redis, or whoever answers in its place, may reply.
//!
//! The ports are the real ones, with the driver's own reader of replies; only the connection is left out. Commands that
//! wait do so in a time that passes at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use redis::{Parser, RedisResult, Value};

use super::connection::Connection;
use super::facts::Facts;
use super::scripts::Scripts;
use super::{MOST_EVENTS, Redis, check};
use crate::broker::ports::{
    Acquired, CallBudget, IdentityStore, Inserted, Lease, LeaseStore, LedgerKey, Limit, OutcomeLedger,
    StoreError, Taken, TokenCache,
};
use crate::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, UserId, Validity,
};
use crate::clock::{ManualClock, Timestamp};
use crate::fuzzing::{CANARY, Input, assert_silent};
use crate::messaging::ports::{Cursor, EventLog, EventsRead, FairBudget, MessageStore};
use crate::messaging::types::MessageId;
use crate::secret::Secret;
use crate::store::fuzzing::silent;
use crate::store::keys::Keys;
use crate::store::seal::Vault;

const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_123);
/// Commands of one input at the most: each has a reply of a byte or more, or there are none left.
const MOST_REPLIES: usize = 4096;

struct Replies {
    parser: Parser,
    rest: std::io::Cursor<Vec<u8>>,
    left: usize,
}

thread_local! {
    static REPLIES: RefCell<Option<Replies>> = const { RefCell::new(None) };
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

struct Stage {
    runtime: tokio::runtime::Runtime,
    /// Without and with a key to seal with.
    stores: [Redis; 2],
}

impl Stage {
    fn new() -> Self {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        let entered = runtime.enter();
        let stores = [Vault::plain(), Vault::with_a_known_key()].map(redis);
        drop(entered);
        Self { runtime, stores }
    }
}

/// The next reply that was made up for the commands of this input, if they are.
pub(super) fn made_up() -> Option<RedisResult<Value>> {
    REPLIES.with_borrow_mut(|replies| {
        let replies = replies.as_mut()?;
        replies.left = replies.left.checked_sub(1).expect("a command is repeated without end");
        Some(replies.parser.parse_value(&mut replies.rest).and_then(Value::extract_error))
    })
}

/// A port of each kind in turn: the first byte says which command, the second with which vault; the rest is replies as
/// they come over the wire.
pub(in crate::store) fn replies(data: &[u8]) {
    let mut input = Input(data);
    let (which, vault) = (input.byte(), usize::from(input.byte()));
    let mut stage = STAGE.take().unwrap_or_else(Stage::new);
    let left = MOST_REPLIES;
    let rest = std::io::Cursor::new(input.0.to_vec());
    REPLIES.set(Some(Replies { parser: Parser::new(), rest, left }));
    let store = &mut stage.stores[vault % 2];
    // What was learned of the Redis of another input.
    store.memory = check::Memory::default();
    stage.runtime.block_on(async {
        if let Err(error) = command(store, which).await {
            silent(&error);
        }
    });
    REPLIES.set(None);
    STAGE.set(Some(stage));
    let _ = Facts::read(&input.text());
}

fn redis(vault: Vault) -> Redis {
    Redis {
        connection: Connection::nowhere(),
        keys: Keys::new("acsb", vault.clone()),
        vault,
        scripts: Scripts::new(),
        clock: Arc::new(ManualClock::at(NOW)),
        memory: check::Memory::default(),
        allow_eviction: false,
        keeps_messages: true,
        most_events: MOST_EVENTS,
        budget_clock: None,
    }
}

async fn command(redis: &Redis, which: u8) -> Result<(), StoreError> {
    const DIGEST: [u8; 32] = [7; 32];
    let minute = Duration::from_secs(60);
    let user = UserId::parse(CANARY).expect("a user");
    let identity = IdentityId::parse(&format!("8:acs:one_{CANARY}")).expect("an identity");
    let scopes = ScopeSet::new([Scope::Chat]).expect("a scope");
    let key = TokenKey { scopes, validity: Validity::MIN };
    let record = IdentityRecord { identity: identity.clone(), generation: 1, created_at: NOW };
    let entry =
        LedgerKey { caller: "shop".to_owned(), operation: "RevokeTokens", request_id: CANARY.to_owned() };
    let limits = [Limit { window: minute, max: 10 }];
    let id = MessageId::stored(format!("sms_{CANARY}"));
    match which % 29 {
        0 => drop(redis.find(&user).await?),
        1 => {
            if let Some((_, record)) = redis.find_user(&identity).await? {
                assert!(record.identity == identity, "the user of another identity");
            }
        }
        2 => {
            if let Inserted::Existing(existing) = redis.insert_if_absent(&user, &record).await? {
                assert!(!existing.identity.as_str().is_empty());
            }
        }
        3 => {
            let _ = redis.advance_generation(&user, &identity).await?;
        }
        4 => {
            let _ = IdentityStore::remove(redis, &user, &identity).await?;
        }
        5 => {
            let page = redis.list(None, 3).await?.expect("the first page is there");
            assert!(page.entries.len() <= 3 && page.next.is_none_or(|next| next.len() <= 512));
        }
        6 => {
            let _ = redis.check().await.map_err(|problem| {
                let text = format!("{problem} {problem:?}");
                // A name of a policy is told; it is a setting of Redis.
                assert!(text.contains("maxmemory-policy") || !text.to_ascii_lowercase().contains(CANARY));
            });
        }
        7 => {
            let found = redis.look_up(&user, &key).await?;
            if let (Some(token), Some(record)) = (&found.token, &found.record) {
                assert!(token.identity == record.identity && token.generation == record.generation);
                assert!(token.token.expires_at > NOW, "an expired token is served");
            }
            assert!(found.record.is_some() || found.token.is_none());
            assert_silent("Debug of what was found", &format!("{found:?}"));
        }
        8 => {
            let token = AccessToken {
                secret: Secret::new(CANARY),
                issued_at: NOW,
                expires_at: NOW.plus(minute),
                key: KeyId([1; 8]),
            };
            let token = CachedToken { identity, generation: 1, token };
            let _ = redis.put(&user, &key, &token).await?;
        }
        9 => {
            for key in redis.keys_of(&user).await? {
                assert!(
                    (60..=1440).contains(&key.validity.minutes()) && (1..32).contains(&key.scopes.bits())
                );
            }
        }
        10 => drop(redis.begin(&entry, &DIGEST, minute).await?),
        11 => redis.finish(&entry, &DIGEST, b"an outcome", minute).await?,
        12 => redis.abandon(&entry, &DIGEST).await?,
        13 => came_back(redis.take("bucket", &limits, 1).await?),
        14 => match redis.try_acquire("lease", minute).await? {
            Acquired::Granted(lease) => {
                assert!(lease.name == "lease");
                let _ = redis.renew(&lease, minute).await?;
                redis.release(&lease).await?;
            }
            Acquired::Held(time) => assert!(!time.is_zero(), "somebody comes back at once"),
        },
        15 => {
            let lease = Lease { name: "lease".to_owned(), fence: 1, nonce: [1; 16] };
            let _ = redis.renew(&lease, minute).await?;
        }
        16 => drop(MessageStore::insert(redis, &id, b"record", minute).await?),
        17 => drop(MessageStore::get(redis, &id).await?),
        18 => {
            if let Ok(version) = MessageStore::replace(redis, &id, 1, b"record", minute).await? {
                assert_eq!(version, 2);
            }
        }
        19 => {
            let _ = MessageStore::remove(redis, &id, 1).await?;
        }
        20 => redis.link(&[(CANARY.to_owned(), 1), ("two".to_owned(), 2)], &id, minute).await?,
        21 => drop(redis.linked(CANARY).await?),
        22 => redis.schedule(&id, Some(NOW)).await?,
        23 => drop(redis.take_due(NOW, minute, 10).await?),
        24 => drop(redis.append(CANARY, b"event", minute, minute).await?),
        25 => drop(redis.end().await?),
        26 => {
            let after = Cursor("r0123456789abcdef-1-0".to_owned());
            if let EventsRead::Page(page) = EventLog::read(redis, &after, 5).await? {
                assert!(page.events.len() <= 5);
            }
        }
        27 => came_back(redis.take_fair("bucket", "shop", &limits, 1).await?.taken),
        _ => {
            redis.give_back("bucket", "shop", &limits, 1, NOW).await?;
            redis.pause("bucket", minute).await?;
        }
    }
    Ok(())
}

fn came_back(taken: Taken) {
    if let Taken::ComeBack { after } = taken {
        assert!(!after.is_zero(), "somebody comes back at once");
    }
}
