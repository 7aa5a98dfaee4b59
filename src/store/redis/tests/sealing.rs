//! Sealing in Redis: what is copied or changed there is of no use, keys rotate without a miss, names are ours or nobody's.

use std::sync::Arc;
use std::time::Duration;

use super::super::Redis;
use super::redis_server::RedisServer;
use super::{OpenError, chat, open_sealed, open_with, patient, record, token, user};
use crate::broker::ports::{
    Begun, IdentityStore, Inserted, LedgerKey, OutcomeLedger as _, StoreError, StoreProblem, TokenCache as _,
};
use crate::broker::types::CachedToken;
use crate::messaging::ports::{EventLog as _, EventsRead, MessageStore as _};
use crate::messaging::types::MessageId;
use crate::store::seal::tests::{line, vault_of};
use crate::store::seal::{KeyRing, Mode, NamesProblem, Vault};

const OTHER_HASH_KEY: &str = "another hash key of thirty-two bytes";

async fn open(server: &RedisServer, vault: &Vault) -> Arc<Redis> {
    open_sealed(&patient(&server.url()), vault.clone()).await.unwrap()
}

async fn hit(redis: &Redis, number: usize) -> Option<CachedToken> {
    redis.look_up(&user(number), &chat()).await.unwrap().token
}

/// A user with a token.
async fn fill(redis: &Redis, number: usize) {
    assert_eq!(redis.insert_if_absent(&user(number), &record(number)).await.unwrap(), Inserted::New);
    assert!(redis.put(&user(number), &chat(), &token(number)).await.unwrap());
}

#[tokio::test]
async fn a_token_copied_to_another_user_does_not_open_there() {
    let (server, vault) = (RedisServer::start(), Vault::full());
    let redis = open(&server, &vault).await;
    fill(&redis, 1).await;
    fill(&redis, 2).await;
    let (from, to) = (vault.name(&user(1)), vault.name(&user(2)));
    let copy = |from: String, to: String| {
        let bytes: Vec<u8> = server.command(&["GET", &from]);
        let mut connection = redis::Client::open(server.url()).unwrap().get_connection().unwrap();
        redis::cmd("SET").arg(to).arg(bytes).exec(&mut connection).unwrap();
    };
    copy(redis.keys.token(&from, &chat()), redis.keys.token(&to, &chat()));
    assert_eq!(hit(&redis, 2).await, None, "it is of another identity");
    // Whoever also changes whose identity it is gets no token for it either, nor the other one's id.
    copy(redis.keys.record(&from), redis.keys.record(&to));
    assert_eq!(redis.find(&user(2)).await.unwrap(), Some(record(1)));
    assert_eq!(hit(&redis, 2).await, None);
    assert!(hit(&redis, 1).await.is_some());
    assert!(matches!(redis.list(None, 10).await, Err(StoreError::Corrupt(_))));
    let counted = vault.rendered_metrics();
    assert!(counted.contains("store_unopened_total{kind=\"token\",why=\"damaged\"} 1"), "{counted}");
}

#[tokio::test]
async fn keys_rotate_without_a_miss_and_a_key_that_is_gone_is_one() {
    let server = RedisServer::start();
    let (old, new) = (line("old", 1), line("new", 2));
    let ring = Arc::new(KeyRing::parse(&old).unwrap());
    let redis = open(&server, &Vault::of(Some(ring.clone()), Mode::Seal, None)).await;
    // A replica that has the keys in the other order, as while a fleet rotates.
    let both = Arc::new(KeyRing::parse(&format!("{new}\n{old}")).unwrap());
    let other = open(&server, &Vault::of(Some(both), Mode::Seal, None)).await;
    for number in 0..50 {
        fill(&redis, number).await;
    }
    ring.replace(&format!("{old}\n{new}")).unwrap();
    let sealed_with = |number: usize| {
        let key = redis.keys.token(&super::name(number), &chat());
        let bytes: Vec<u8> = server.command(&["GET", &key]);
        if bytes.windows(4).any(|part| part == b"\x03new") { "new" } else { "old" }
    };
    let mut misses = 0;
    for number in 0..50 {
        misses += usize::from(hit(&redis, number).await.is_none());
        misses += usize::from(hit(&other, number).await.is_none());
        assert!(other.put(&user(number), &chat(), &token(number)).await.unwrap());
        misses += usize::from(hit(&redis, number).await.is_none());
        assert_eq!(sealed_with(number), "new");
    }
    assert_eq!(misses, 0);
    println!("150 looks while the keys rotated: {misses} misses");
    assert!(redis.put(&user(0), &chat(), &token(0)).await.unwrap());
    assert_eq!(sealed_with(0), "old", "this replica still seals with the old key");
    ring.replace(&new).unwrap();
    assert_eq!(hit(&redis, 0).await, None, "its key is gone");
    assert!(hit(&redis, 1).await.is_some());
    assert!(redis.put(&user(0), &chat(), &token(0)).await.unwrap());
    assert!(hit(&redis, 0).await.is_some());
}

#[tokio::test]
async fn sealing_is_turned_on_off_and_made_a_must_over_a_store_in_use() {
    let server = RedisServer::start();
    let plain = open(&server, &Vault::plain()).await;
    fill(&plain, 1).await;
    let seal = open(&server, &vault_of(Mode::Seal)).await;
    assert!(hit(&seal, 1).await.is_some(), "what is not sealed is read");
    assert!(seal.put(&user(1), &chat(), &token(1)).await.unwrap());
    let stored: Vec<u8> = server.command(&["GET", &seal.keys.token(&super::name(1), &chat())]);
    assert!(!stored.windows(7).any(|part| part == b"token-1"), "it is sealed with the next write");
    assert!(hit(&*open(&server, &vault_of(Mode::Open)).await, 1).await.is_some());
    assert_eq!(hit(&plain, 1).await, None, "without keys it is as if it were not there");
    let require = open(&server, &vault_of(Mode::Require)).await;
    assert!(hit(&require, 1).await.is_some());
    assert!(plain.put(&user(1), &chat(), &token(1)).await.unwrap());
    assert_eq!(hit(&require, 1).await, None);
}

#[tokio::test]
async fn a_message_that_does_not_open_is_an_error_and_never_a_message_that_was_not_sent() {
    let server = RedisServer::start();
    let (id, keep) = (MessageId::stored("sms_1".into()), Duration::from_secs(60));
    let redis = open(&server, &vault_of(Mode::Seal)).await;
    assert!(redis.insert(&id, b"to +14255550123", keep).await.unwrap().is_none());
    let keyless = open(&server, &Vault::plain()).await;
    assert!(matches!(keyless.insert(&id, b"again", keep).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(keyless.get(&id).await, Err(StoreError::Unavailable(_))));
    assert_eq!(redis.get(&id).await.unwrap().unwrap().bytes, b"to +14255550123");
    server.command::<()>(&["APPEND", &redis.keys.message(&id), "x"]);
    assert!(matches!(redis.insert(&id, b"again", keep).await, Err(StoreError::Corrupt(_))));
}

#[tokio::test]
async fn a_reader_learns_of_events_that_do_not_open() {
    let (server, hour) = (RedisServer::start(), Duration::from_secs(3600));
    let ring = Arc::new(KeyRing::parse(&line("one", 1)).unwrap());
    let redis = open(&server, &Vault::of(Some(ring.clone()), Mode::Seal, None)).await;
    let start = redis.end().await.unwrap();
    let first = redis.append("1", b"first", hour, hour).await.unwrap().unwrap();
    ring.replace(&format!("{}\n{}", line("two", 2), line("one", 1))).unwrap();
    redis.append("2", b"second", hour, hour).await.unwrap();
    let EventsRead::Page(page) = redis.read(&start, 10).await.unwrap() else { panic!("not a page") };
    assert_eq!(
        page.events.iter().map(|(_, event)| event.as_slice()).collect::<Vec<_>>(),
        [&b"first"[..], b"second"]
    );
    ring.replace(&line("two", 2)).unwrap();
    assert!(matches!(redis.read(&start, 10).await.unwrap(), EventsRead::TooOld));
    let EventsRead::Page(page) = redis.read(&first, 10).await.unwrap() else { panic!("not a page") };
    assert_eq!(page.events.len(), 1);
    ring.replace(&line("one", 1)).unwrap();
    let EventsRead::Page(page) = redis.read(&start, 10).await.unwrap() else { panic!("not a page") };
    assert_eq!(page.events.len(), 1, "up to the one that does not open");
}

#[tokio::test]
async fn with_a_hash_key_no_user_id_is_in_redis_and_every_way_to_a_user_works() {
    let (server, vault) = (RedisServer::start(), Vault::full());
    let redis = open(&server, &vault).await;
    for number in 0..30 {
        fill(&redis, number).await;
    }
    let (found, _) = redis.find_user(&record(7).identity).await.unwrap().unwrap();
    assert_eq!(found, user(7));
    let (mut listed, mut from) = (Vec::new(), None);
    loop {
        let page = redis.list(from.as_deref(), 7).await.unwrap().unwrap();
        listed.extend(page.entries.into_iter().map(|(user, _)| user));
        from = page.next;
        let Some(from) = &from else { break };
        assert!(!from.windows(5).any(|part| part == b"user-"), "a page token tells a user id");
    }
    listed.sort();
    let mut expected: Vec<_> = (0..30).map(user).collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(redis.advance_generation(&user(1), &record(1).identity).await.unwrap(), Some(1));
    assert_eq!(hit(&redis, 1).await, None);
    let mut later = token(1);
    later.generation = 1;
    assert!(redis.put(&user(1), &chat(), &later).await.unwrap(), "the record still holds its user");
    assert!(redis.list(None, 100).await.unwrap().unwrap().entries.iter().any(|(found, _)| *found == user(1)));
    for number in 0..30 {
        assert!(IdentityStore::remove(&*redis, &user(number), &record(number).identity).await.unwrap());
    }
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*"]), ["acsb:1:meta"]);
}

#[tokio::test]
async fn a_hit_with_all_sealed_is_one_command_and_an_insertion_three() {
    let (server, vault) = (RedisServer::start(), Vault::full());
    let redis = open(&server, &vault).await;
    fill(&redis, 0).await;
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    for _ in 0..100 {
        assert!(hit(&redis, 0).await.is_some());
    }
    assert_eq!((server.calls("mget"), server.all_calls()), (100, 100));
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    assert_eq!(server.calls("evalsha"), 3);
    redis.put(&user(1), &chat(), &token(1)).await.unwrap();
    assert_eq!((server.calls("evalsha"), server.calls("eval")), (4, 0));
}

#[tokio::test]
async fn a_redis_with_other_names_is_refused_at_the_start() {
    let other = || Vault::of(None, Mode::Seal, Some(OTHER_HASH_KEY));
    for (first, then, expected) in [
        (Vault::plain(), Vault::full(), NamesProblem::NotHashed),
        (Vault::full(), Vault::plain(), NamesProblem::Hashed),
        (Vault::full(), other(), NamesProblem::OtherKey),
    ] {
        let server = RedisServer::start();
        fill(&*open(&server, &first).await, 1).await;
        let error = open_sealed(&patient(&server.url()), then).await.err().unwrap();
        assert_eq!(error, OpenError::OtherNames(expected));
        assert!(error.to_string().contains("store.seal.hash_key"), "{error}");
        fill(&*open(&server, &first).await, 2).await;
    }
}

#[tokio::test]
async fn a_redis_that_comes_late_with_other_names_is_told_from_an_empty_one() {
    let mut server = RedisServer::start();
    let settings = patient(&server.url());
    server.kill();
    let redis = open_with(&settings).await.unwrap();
    server.restart();
    // Somebody else is faster, and fills it with a hash key.
    let sealed = open_sealed(&settings, Vault::full()).await.unwrap();
    fill(&sealed, 1).await;
    // To find nobody would be to give the user a second identity.
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match redis.look_up(&user(1), &chat()).await {
            Err(StoreError::Unavailable(cause)) if cause.to_string().contains("hash_key") => break,
            Err(_) => assert!(tokio::time::Instant::now() < end, "it is not told"),
            Ok(found) => panic!("it was looked into: {found:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(redis.insert_if_absent(&user(1), &record(2)).await.is_err());
    assert!(matches!(redis.check().await, Err(StoreProblem::OtherNames(_))));
    assert!(hit(&sealed, 1).await.is_some());
}

#[tokio::test]
async fn an_outcome_that_does_not_open_is_an_error_and_never_one_of_nothing() {
    let server = RedisServer::start();
    let with =
        |number| Vault::of(Some(Arc::new(KeyRing::parse(&line("k", number)).unwrap())), Mode::Seal, None);
    let (one, two) = (open(&server, &with(1)).await, open(&server, &with(2)).await);
    let key = LedgerKey { caller: "shop".into(), operation: "RevokeTokens", request_id: "r".into() };
    let hold = Duration::from_secs(60);
    assert_eq!(one.begin(&key, &[1; 32], hold).await.unwrap(), Begun::Started);
    one.finish(&key, &[1; 32], b"done", hold).await.unwrap();
    assert_eq!(one.begin(&key, &[1; 32], hold).await.unwrap(), Begun::Finished(b"done".to_vec()));
    assert!(matches!(two.begin(&key, &[1; 32], hold).await, Err(StoreError::Corrupt(_))));
}
