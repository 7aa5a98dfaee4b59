//! A model of the stores: maps, and nothing else. Random operations must answer the same on the model and on the
//! embedded store, in memory and in a file that is closed and opened in between.
//!
//! Names are few, so that operations meet: users take each other's identities, tokens of old generations come late.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::broker::ports::{Begun, Inserted, LedgerKey, Stores};
use crate::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, UserId, Validity,
};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::store::{Vault, embedded};

/// Names of which some are the beginning of others.
const USERS: [&str; 5] = ["a", "a:", "a{", "ab", "\u{1f980}"];

#[derive(Debug, Clone)]
enum Operation {
    Find { user: usize },
    FindUser { identity: usize },
    Insert { user: usize, identity: usize, generation: u64 },
    Advance { user: usize, identity: usize },
    Remove { user: usize, identity: usize },
    List { limit: usize },
    LookUp { user: usize, scope: usize },
    Put { user: usize, identity: usize, generation: u64, scope: usize, life: u64, text: u16 },
    Begin { request: usize, digest: u8, hold: u64 },
    Finish { request: usize, digest: u8, outcome: u8, keep: u64 },
    Abandon { request: usize, digest: u8 },
    Elapse { seconds: u64 },
    Reopen,
}

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (user, identity, scope, request) = (0..USERS.len(), 0..4usize, 0..3usize, 0..3usize);
    prop_oneof![
        3 => user.clone().prop_map(|user| Find { user }),
        2 => identity.clone().prop_map(|identity| FindUser { identity }),
        6 => (user.clone(), identity.clone(), 0..2u64)
            .prop_map(|(user, identity, generation)| Insert { user, identity, generation }),
        3 => (user.clone(), identity.clone()).prop_map(|(user, identity)| Advance { user, identity }),
        3 => (user.clone(), identity.clone()).prop_map(|(user, identity)| Remove { user, identity }),
        2 => (1..4usize).prop_map(|limit| List { limit }),
        6 => (user.clone(), scope.clone()).prop_map(|(user, scope)| LookUp { user, scope }),
        8 => (user, identity, 0..3u64, scope, 0..100u64, any::<u16>()).prop_map(
            |(user, identity, generation, scope, life, text)| Put { user, identity, generation, scope, life, text }
        ),
        4 => (request.clone(), 0..2u8, 0..60u64).prop_map(|(request, digest, hold)| Begin { request, digest, hold }),
        2 => (request.clone(), 0..2u8, any::<u8>(), 0..90u64)
            .prop_map(|(request, digest, outcome, keep)| Finish { request, digest, outcome, keep }),
        1 => (request, 0..2u8).prop_map(|(request, digest)| Abandon { request, digest }),
        3 => (0..50u64).prop_map(|seconds| Elapse { seconds }),
        1 => Just(Reopen),
    ]
}

fn user(number: usize) -> UserId {
    UserId::parse(USERS[number]).unwrap()
}

fn identity(number: usize) -> IdentityId {
    IdentityId::parse(&format!("8:acs:{number}")).unwrap()
}

fn token_key(scope: usize) -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::ALL[scope]]).unwrap(), validity: Validity::MAX }
}

fn ledger_key(request: usize) -> LedgerKey {
    LedgerKey { caller: "c".into(), operation: "Op", request_id: request.to_string() }
}

struct Request {
    digest: u8,
    outcome: Option<Vec<u8>>,
    until: Timestamp,
}

#[derive(Default)]
struct Model {
    records: BTreeMap<UserId, IdentityRecord>,
    tokens: BTreeMap<(UserId, usize), CachedToken>,
    ledger: BTreeMap<usize, Request>,
}

impl Model {
    fn owner(&self, identity: &IdentityId) -> Option<(UserId, IdentityRecord)> {
        self.records
            .iter()
            .find(|(_, record)| record.identity == *identity)
            .map(|(user, record)| (user.clone(), record.clone()))
    }

    fn insert(&mut self, user: &UserId, record: &IdentityRecord) -> Inserted {
        if let Some(existing) = self.records.get(user) {
            return Inserted::Existing(existing.clone());
        }
        if self.owner(&record.identity).is_some() {
            return Inserted::LinkedElsewhere;
        }
        self.records.insert(user.clone(), record.clone());
        Inserted::New
    }

    fn expected(&mut self, user: &UserId, identity: &IdentityId) -> Option<&mut IdentityRecord> {
        self.records.get_mut(user).filter(|record| record.identity == *identity)
    }

    fn begin(&mut self, request: usize, digest: u8, now: Timestamp, hold: Duration) -> Begun {
        match self.ledger.get(&request).filter(|known| known.until > now) {
            Some(known) if known.digest != digest => Begun::Reused,
            Some(Request { outcome: Some(outcome), .. }) => Begun::Finished(outcome.clone()),
            Some(known) => Begun::InProgress(known.until.since(now)),
            None => {
                self.ledger.insert(request, Request { digest, outcome: None, until: now.plus(hold) });
                Begun::Started
            }
        }
    }
}

async fn agree(
    operations: Vec<Operation>,
    clock: Arc<ManualClock>,
    mut stores: Stores,
    reopen: impl Fn() -> Option<Stores>,
) {
    let mut model = Model::default();
    for operation in operations {
        let said = format!("{operation:?}");
        let now = clock.now();
        match operation {
            Operation::Find { user: number } => {
                let user = user(number);
                assert_eq!(
                    stores.identities.find(&user).await.unwrap(),
                    model.records.get(&user).cloned(),
                    "{said}"
                );
            }
            Operation::FindUser { identity: number } => {
                let identity = identity(number);
                let found = stores.identities.find_user(&identity).await.unwrap();
                assert_eq!(found, model.owner(&identity), "{said}");
            }
            Operation::Insert { user: number, identity: id, generation } => {
                let (user, record) =
                    (user(number), IdentityRecord { identity: identity(id), generation, created_at: now });
                let inserted = stores.identities.insert_if_absent(&user, &record).await.unwrap();
                assert_eq!(inserted, model.insert(&user, &record), "{said}");
            }
            Operation::Advance { user: number, identity: id } => {
                let (user, identity) = (user(number), identity(id));
                let expected = model.expected(&user, &identity).map(|record| {
                    record.generation += 1;
                    record.generation
                });
                let advanced = stores.identities.advance_generation(&user, &identity).await.unwrap();
                assert_eq!(advanced, expected, "{said}");
            }
            Operation::Remove { user: number, identity: id } => {
                let (user, identity) = (user(number), identity(id));
                let expected = model.expected(&user, &identity).is_some();
                if expected {
                    model.records.remove(&user);
                    model.tokens.retain(|(owner, _), _| *owner != user);
                }
                assert_eq!(stores.identities.remove(&user, &identity).await.unwrap(), expected, "{said}");
            }
            Operation::List { limit } => {
                let (mut listed, mut from) = (Vec::new(), None);
                loop {
                    let page = stores.identities.list(from.as_deref(), limit).await.unwrap().unwrap();
                    assert!(page.entries.len() <= limit, "{said}");
                    listed.extend(page.entries);
                    from = page.next;
                    if from.is_none() {
                        break;
                    }
                }
                // The order is the store's own.
                listed.sort_by(|(one, _), (two, _)| one.cmp(two));
                let expected: Vec<_> = model.records.clone().into_iter().collect();
                assert_eq!(listed, expected, "{said}");
            }
            Operation::LookUp { user: number, scope } => {
                let user = user(number);
                let found = stores.tokens.look_up(&user, &token_key(scope)).await.unwrap();
                let record = model.records.get(&user).cloned();
                let token = model.tokens.get(&(user, scope)).filter(|token| {
                    token.token.expires_at > now
                        && record.as_ref().is_some_and(|record| {
                            (&record.identity, record.generation) == (&token.identity, token.generation)
                        })
                });
                assert_eq!((found.record, found.token), (record.clone(), token.cloned()), "{said}");
            }
            Operation::Put { user: number, identity: id, generation, scope, life, text } => {
                let (user, identity) = (user(number), identity(id));
                let token = CachedToken {
                    identity: identity.clone(),
                    generation,
                    token: AccessToken {
                        secret: Secret::new(format!("token {text}")),
                        issued_at: now,
                        expires_at: now.plus(Duration::from_secs(life)),
                        key: KeyId([7; 8]),
                    },
                };
                let fits =
                    model.expected(&user, &identity).is_some_and(|record| record.generation == generation);
                let kept = stores.tokens.put(&user, &token_key(scope), &token).await.unwrap();
                assert_eq!(kept, fits && life > 0, "{said}");
                if kept {
                    model.tokens.insert((user, scope), token);
                }
            }
            Operation::Begin { request, digest, hold } => {
                let hold = Duration::from_secs(hold);
                let begun = stores.ledger.begin(&ledger_key(request), &[digest; 32], hold).await.unwrap();
                assert_eq!(begun, model.begin(request, digest, now, hold), "{said}");
            }
            Operation::Finish { request, digest, outcome, keep } => {
                let keep = Duration::from_secs(keep);
                let done = vec![outcome; usize::from(outcome)];
                stores.ledger.finish(&ledger_key(request), &[digest; 32], &done, keep).await.unwrap();
                let settled = model.ledger.get(&request).is_some_and(|known| {
                    known.until > now && (known.digest != digest || known.outcome.is_some())
                });
                if !settled {
                    model
                        .ledger
                        .insert(request, Request { digest, outcome: Some(done), until: now.plus(keep) });
                }
            }
            Operation::Abandon { request, digest } => {
                stores.ledger.abandon(&ledger_key(request), &[digest; 32]).await.unwrap();
                if model
                    .ledger
                    .get(&request)
                    .is_some_and(|known| known.digest == digest && known.outcome.is_none())
                {
                    model.ledger.remove(&request);
                }
            }
            Operation::Elapse { seconds } => clock.advance(Duration::from_secs(seconds)),
            Operation::Reopen => {
                // In this order: the file is locked until the last handle is gone.
                let before = std::mem::replace(&mut stores, embedded::memory(clock.clone()).core);
                drop(before);
                match reopen() {
                    Some(opened) => stores = opened,
                    None => return,
                }
            }
        }
    }
}

fn run<F: Future<Output = ()>>(future: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_in_memory_answers_as_the_model(operations in prop::collection::vec(operations(), 1..250)) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        // What is in memory cannot be opened again.
        let operations =
            operations.into_iter().filter(|operation| !matches!(operation, Operation::Reopen)).collect();
        run(agree(operations, clock.clone(), embedded::memory(clock).core, || None));
    }

    #[test]
    fn the_store_in_a_file_answers_as_the_model_also_when_it_is_opened_again(
        operations in prop::collection::vec(operations(), 1..120), sealed: bool
    ) {
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)));
        let folder = tempfile::tempdir().unwrap();
        let settings = embedded::Settings { path: folder.path().join("model.redb") };
        let vault = if sealed { Vault::full() } else { Vault::plain() };
        let open = || embedded::open(&settings, vault.clone(), clock.clone(), Metrics::new()).unwrap().core;
        run(agree(operations, clock.clone(), open(), || Some(open())));
    }
}
