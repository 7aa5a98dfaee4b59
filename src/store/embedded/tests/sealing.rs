//! Sealing in the embedded file: what is copied or changed there is of no use, and names are ours or nobody's.

use std::time::Duration;

use redb::ReadableTable as _;

use super::*;
use crate::broker::types::{AccessToken, CachedToken, KeyId, Scope, ScopeSet, TokenKey, Validity};
use crate::clock::Clock as _;
use crate::messaging::ports::{EventsRead, MessageStores};
use crate::messaging::types::MessageId;
use crate::secret::Secret;
use crate::store::embedded::tables::{token_key, token_prefix};
use crate::store::seal::tests::{line, vault_of};
use crate::store::seal::{KeyRing, Mode, NamesProblem};

const OTHER_HASH_KEY: &str = "another hash key of thirty-two bytes";

fn chat() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
}

fn token(identity: &str) -> CachedToken {
    let now = clock().now();
    CachedToken {
        identity: record(identity).identity,
        generation: 0,
        token: AccessToken {
            secret: Secret::new("canary-token"),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            key: KeyId([7; 8]),
        },
    }
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn open_sealed(folder: &tempfile::TempDir, vault: &Vault) -> Result<Opened, OpenError> {
    open(&settings(folder), vault.clone(), clock(), Metrics::new())
}

async fn hit(stores: &Stores, of: &str) -> Option<CachedToken> {
    stores.tokens.look_up(&user(of), &chat()).await.unwrap().token
}

async fn fill(stores: &Stores, of: &str, identity: &str) {
    insert(stores, of, identity).await;
    assert!(stores.tokens.put(&user(of), &chat(), &token(identity)).await.unwrap());
}

/// Changes the closed file below the store.
fn change(folder: &tempfile::TempDir, work: impl FnOnce(&mut Tables<'_>)) {
    let database = redb::Database::open(settings(folder).path).unwrap();
    let transaction = database.begin_write().unwrap();
    work(&mut Tables::open(&transaction).unwrap());
    transaction.commit().unwrap();
}

fn holds(folder: &tempfile::TempDir, text: &str) -> bool {
    let bytes = std::fs::read(settings(folder).path).unwrap();
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[tokio::test]
async fn a_token_copied_to_another_user_does_not_open_there() {
    for vault in [vault_of(Mode::Seal), Vault::full()] {
        let folder = tempfile::tempdir().unwrap();
        {
            let stores = open_sealed(&folder, &vault).unwrap().core;
            fill(&stores, "user-one", "8:acs:one").await;
            fill(&stores, "user-two", "8:acs:two").await;
        }
        let (from, to) = (vault.name(&user("user-one")), vault.name(&user("user-two")));
        change(&folder, |tables| {
            let token =
                tables.tokens.get(token_key(&from, &chat()).as_slice()).unwrap().unwrap().value().to_vec();
            tables.tokens.insert(token_key(&to, &chat()).as_slice(), token.as_slice()).unwrap();
            let from = from.as_str().as_bytes();
            let mapping = tables.identities.get(from).unwrap().unwrap().value().to_vec();
            tables.identities.insert(to.as_str().as_bytes(), mapping.as_slice()).unwrap();
        });
        let stores = open_sealed(&folder, &vault).unwrap().core;
        assert_eq!(find(&stores, "user-two").await, Some(record("8:acs:one")));
        assert_eq!(hit(&stores, "user-two").await, None);
        assert!(hit(&stores, "user-one").await.is_some());
        assert!(vault.rendered_metrics().contains("{kind=\"token\",why=\"damaged\"} 1"));
    }
}

#[tokio::test]
async fn a_token_that_cannot_be_read_is_a_miss() {
    let (folder, vault) = (tempfile::tempdir().unwrap(), Vault::full());
    fill(&open_sealed(&folder, &vault).unwrap().core, "user-one", "8:acs:one").await;
    let key = token_key(&vault.name(&user("user-one")), &chat());
    assert!(key.starts_with(&token_prefix(&vault.name(&user("user-one")))));
    for bytes in [&b""[..], b"\x01", b"\x02 of a newer version", &[1; 60]] {
        change(&folder, |tables| drop(tables.tokens.insert(key.as_slice(), bytes).unwrap()));
        let stores = open_sealed(&folder, &vault).unwrap().core;
        assert_eq!(hit(&stores, "user-one").await, None);
        assert!(stores.tokens.put(&user("user-one"), &chat(), &token("8:acs:one")).await.unwrap());
        assert!(hit(&stores, "user-one").await.is_some());
    }
}

#[tokio::test]
async fn the_file_of_a_sealed_store_holds_nothing_readable() {
    for (vault, is_readable) in [(Vault::plain(), true), (Vault::full(), false)] {
        let folder = tempfile::tempdir().unwrap();
        {
            let Opened { core, messages, key_ring: _ } = open_sealed(&folder, &vault).unwrap();
            fill(&core, "canary-user", "8:acs:one").await;
            core.identities
                .advance_generation(&user("canary-user"), &record("8:acs:one").identity)
                .await
                .unwrap();
            let later = CachedToken { generation: 1, ..token("8:acs:one") };
            assert!(core.tokens.put(&user("canary-user"), &chat(), &later).await.unwrap());
            keep(&messages).await;
        }
        for text in ["canary-token", "canary-user", "canary-recipient", "canary-event"] {
            assert_eq!(holds(&folder, text), is_readable, "{text}");
        }
        let Opened { core, messages, key_ring: _ } = open_sealed(&folder, &vault).unwrap();
        assert_eq!(hit(&core, "canary-user").await.unwrap().token.secret, Secret::new("canary-token"));
        let page = core.identities.list(None, 10).await.unwrap().unwrap();
        assert_eq!(page.entries.first().map(|(found, _)| found.clone()), Some(user("canary-user")));
        let id = MessageId::stored("sms_1".into());
        assert_eq!(messages.messages.get(&id).await.unwrap().unwrap().bytes, b"canary-recipient");
    }
}

async fn keep(messages: &MessageStores) {
    let (id, hour) = (MessageId::stored("sms_1".into()), Duration::from_secs(3600));
    assert!(messages.messages.insert(&id, b"canary-recipient", hour).await.unwrap().is_none());
    messages.events.append("1", b"canary-event", hour, hour).await.unwrap();
}

#[tokio::test]
async fn a_reader_learns_of_events_that_do_not_open() {
    let hour = Duration::from_secs(3600);
    let ring = Arc::new(KeyRing::parse(&line("one", 1)).unwrap());
    let events = memory_with(Vault::of(Some(ring.clone()), Mode::Seal, None), clock()).messages.events;
    let start = events.end().await.unwrap();
    let first = events.append("1", b"first", hour, hour).await.unwrap().unwrap();
    ring.replace(&line("two", 2)).unwrap();
    events.append("2", b"second", hour, hour).await.unwrap();
    assert!(matches!(events.read(&start, 10).await.unwrap(), EventsRead::TooOld));
    let EventsRead::Page(page) = events.read(&first, 10).await.unwrap() else { panic!("not a page") };
    assert_eq!(page.events.len(), 1);
    ring.replace(&line("one", 1)).unwrap();
    let EventsRead::Page(page) = events.read(&start, 10).await.unwrap() else { panic!("not a page") };
    assert_eq!(page.events.len(), 1, "up to the one that does not open");
}

#[tokio::test]
async fn a_file_with_other_names_is_refused_and_left_as_it_is() {
    let other = || Vault::of(None, Mode::Seal, Some(OTHER_HASH_KEY));
    for (first, then, expected) in [
        (Vault::plain(), Vault::full(), NamesProblem::NotHashed),
        (Vault::full(), Vault::plain(), NamesProblem::Hashed),
        (Vault::full(), other(), NamesProblem::OtherKey),
    ] {
        let folder = tempfile::tempdir().unwrap();
        fill(&open_sealed(&folder, &first).unwrap().core, "user-one", "8:acs:one").await;
        let error = open_sealed(&folder, &then).err().unwrap();
        assert!(matches!(&error, OpenError::OtherNames { problem, .. } if *problem == expected), "{error:?}");
        assert!(error.to_string().contains("store.seal.hash_key"), "{error}");
        assert!(hit(&open_sealed(&folder, &first).unwrap().core, "user-one").await.is_some());
    }
}
