//! The way back from an ACS identity to its user, which cannot change in one step with the record: what a claim
//! without a record does, and that no order of events leaves a record without its claim.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::redis_server::RedisServer;
use super::{open_at, record, user};
use crate::broker::ports::{IdentityStore as _, Inserted, StoreError};
use crate::clock::{Clock as _, SystemClock};

/// The bytes of a claim of this age.
fn claim(number: usize, age: Duration) -> Vec<u8> {
    let made = SystemClock.now().minus(age).as_millis() * 1000;
    [&[1][..], &made.to_be_bytes(), user(number).as_str().as_bytes()].concat()
}

fn plant(server: &RedisServer, key: &str, value: &[u8]) {
    let client = redis::Client::open(server.url()).unwrap();
    redis::cmd("SET").arg(key).arg(value).exec(&mut client.get_connection().unwrap()).unwrap();
}

#[tokio::test]
async fn a_claim_without_a_record_is_no_answer_and_is_taken_over_when_it_is_old() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let owner = redis.keys.owner(&record(1).identity);
    plant(&server, &owner, &claim(1, Duration::from_secs(11)));
    assert_eq!(redis.find_user(&record(1).identity).await.unwrap(), None);
    assert_eq!(redis.insert_if_absent(&user(2), &record(1)).await.unwrap(), Inserted::New);
    assert_eq!(redis.find_user(&record(1).identity).await.unwrap(), Some((user(2), record(1))));
    // The one who came too late.
    assert_eq!(redis.insert_if_absent(&user(1), &record(1)).await.unwrap(), Inserted::LinkedElsewhere);
    assert_eq!(redis.find(&user(1)).await.unwrap(), None);
}

#[tokio::test]
async fn a_fresh_claim_of_another_is_waited_for_and_then_the_call_fails_without_a_trace() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let owner = redis.keys.owner(&record(1).identity);
    plant(&server, &owner, &claim(1, Duration::ZERO));
    let began = Instant::now();
    let answer = redis.insert_if_absent(&user(2), &record(1)).await;
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "{answer:?}");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(redis.find(&user(2)).await.unwrap(), None);
    // Whose claim it is may go on at once.
    assert_eq!(redis.insert_if_absent(&user(1), &record(1)).await.unwrap(), Inserted::New);
    assert_eq!(redis.insert_if_absent(&user(2), &record(1)).await.unwrap(), Inserted::LinkedElsewhere);
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_is_an_error_and_is_never_overwritten() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let owner = redis.keys.owner(&record(1).identity);
    for odd in [&b"\x02newer"[..], b"", b"\x01short", b"\x01\0\0\0\0\0\0\0\0", b"\x01\0\0\0\0\0\0\0\0\xff"] {
        plant(&server, &owner, odd);
        assert!(matches!(redis.find_user(&record(1).identity).await, Err(StoreError::Corrupt(_))));
        let answer = redis.insert_if_absent(&user(2), &record(1)).await;
        assert!(matches!(answer, Err(StoreError::Corrupt(_))), "{answer:?}");
        assert_eq!(server.command::<Vec<u8>>(&["GET", &owner]), odd);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_that_is_removed_and_made_at_the_same_time_is_whole_or_gone() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let mut both = [0, 0];
    for number in 0..400 {
        redis.insert_if_absent(&user(number), &record(number)).await.unwrap();
        let (one, two) = (Arc::clone(&redis), Arc::clone(&redis));
        let removing = tokio::spawn(async move { one.remove(&user(number), &record(number).identity).await });
        let making = tokio::spawn(async move { two.insert_if_absent(&user(number), &record(number)).await });
        assert!(removing.await.unwrap().unwrap());
        making.await.unwrap().unwrap();
        let found = redis.find(&user(number)).await.unwrap();
        let back = redis.find_user(&record(number).identity).await.unwrap();
        both[usize::from(found.is_some())] += 1;
        assert_eq!(back, found.map(|found| (user(number), found)), "a record without its way back");
        let claimed: Option<Vec<u8>> = server.command(&["GET", &redis.keys.owner(&record(number).identity)]);
        assert!(claimed.is_some() || redis.find(&user(number)).await.unwrap().is_none());
    }
    println!("gone {}, whole {}", both[0], both[1]);
    assert!(both.iter().all(|&times| times > 0), "the calls did not meet: {both:?}");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_an_error_and_is_never_overwritten() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let key = redis.keys.record(&super::name(1));
    for odd in [&b"\x02newer version, longer than a header"[..], b"", b"\x01short"] {
        plant(&server, &key, odd);
        assert!(matches!(redis.find(&user(1)).await, Err(StoreError::Corrupt(_))));
        let identity = record(1).identity;
        assert!(redis.insert_if_absent(&user(1), &record(1)).await.is_err());
        assert!(redis.advance_generation(&user(1), &identity).await.is_err());
        assert!(redis.remove(&user(1), &identity).await.is_err());
        assert_eq!(server.command::<Vec<u8>>(&["GET", &key]), odd);
    }
}
