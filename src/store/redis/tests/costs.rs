//! How many commands each operation costs, counted by the server itself.
//!
//! A server counts the commands inside a script too; what went over the wire is counted by its name.

use std::time::Duration;

use super::super::{Settings, Topology};
use super::redis_server::{RedisCluster, RedisServer};
use super::{chat, name, open_at, open_with, patient, record, token, user};
use crate::broker::ports::{IdentityStore as _, Inserted, TokenCache as _};
use crate::broker::types::{Scope, ScopeSet, TokenKey};
use crate::clock::{Clock as _, SystemClock};

#[tokio::test]
async fn a_token_hit_is_exactly_one_command() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    assert_eq!(redis.insert_if_absent(&user(1), &record(1)).await.unwrap(), Inserted::New);
    assert!(redis.put(&user(1), &chat(), &token(1)).await.unwrap());
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    for _ in 0..100 {
        assert!(redis.look_up(&user(1), &chat()).await.unwrap().token.is_some());
    }
    assert_eq!((server.calls("mget"), server.all_calls()), (100, 100));
}

#[tokio::test]
async fn a_miss_is_one_command_too() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    assert!(redis.look_up(&user(1), &chat()).await.unwrap().token.is_none());
    assert!(redis.look_up(&user(2), &chat()).await.unwrap().record.is_none());
    assert_eq!((server.calls("mget"), server.all_calls()), (2, 2));
}

#[tokio::test]
async fn a_put_is_one_round_trip_and_an_insertion_three() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    // The first of each sends the script's text.
    redis.insert_if_absent(&user(0), &record(0)).await.unwrap();
    redis.put(&user(0), &chat(), &token(0)).await.unwrap();
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    assert_eq!((server.calls("evalsha"), server.calls("eval"), server.calls("mget")), (3, 0, 0));
    redis.put(&user(1), &chat(), &token(1)).await.unwrap();
    assert_eq!((server.calls("evalsha"), server.calls("eval"), server.calls("mget")), (4, 0, 0));
}

#[tokio::test]
async fn the_list_of_a_users_tokens_lives_as_long_as_the_longest_of_them() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    let (mut brief, long) = (token(1), token(1));
    brief.token.expires_at = SystemClock.now().plus(Duration::from_secs(60));
    let other = TokenKey { scopes: ScopeSet::new([Scope::Voip]).unwrap(), ..chat() };
    assert!(redis.put(&user(1), &chat(), &brief).await.unwrap());
    assert!(redis.put(&user(1), &other, &long).await.unwrap());
    let left = |key: String| server.command::<i64>(&["PTTL", &key]);
    let (list, longest) = (left(redis.keys.tokens(&name(1))), left(redis.keys.token(&name(1), &other)));
    assert!(list > 60_000 && (list - longest).abs() < 1000, "{list} {longest}");
    // So a revocation finds all of them.
    redis.advance_generation(&user(1), &record(1).identity).await.unwrap();
    assert_eq!(left(redis.keys.token(&name(1), &other)), -2);
    assert_eq!(left(redis.keys.token(&name(1), &chat())), -2);
}

#[tokio::test]
async fn a_token_hit_in_a_cluster_is_exactly_one_command_of_one_node() {
    let cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, ..patient(&cluster.url()) };
    let redis = open_with(&settings).await.unwrap();
    for number in 0..20 {
        redis.insert_if_absent(&user(number), &record(number)).await.unwrap();
        assert!(redis.put(&user(number), &chat(), &token(number)).await.unwrap());
    }
    cluster.nodes.iter().for_each(|node| node.command::<()>(&["CONFIG", "RESETSTAT"]));
    for number in 0..20 {
        assert!(redis.look_up(&user(number), &chat()).await.unwrap().token.is_some());
    }
    assert_eq!(cluster.calls("mget"), 20);
    assert_eq!(cluster.nodes.iter().map(RedisServer::all_calls).sum::<u64>(), 20);
    assert!(cluster.nodes.iter().all(|node| node.calls("mget") > 0), "all users are on one node");
}

#[tokio::test]
async fn a_script_the_server_has_forgotten_is_sent_again() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    redis.put(&user(1), &chat(), &token(1)).await.unwrap();
    server.command::<()>(&["SCRIPT", "FLUSH"]);
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    assert!(redis.put(&user(1), &chat(), &token(1)).await.unwrap());
    assert_eq!(server.calls("eval"), 1);
    assert!(redis.put(&user(1), &chat(), &token(1)).await.unwrap());
    assert_eq!((server.calls("eval"), server.calls("evalsha")), (1, 2));
}

#[tokio::test]
async fn revocation_and_removal_leave_no_token_of_the_user_in_redis() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let tokens = || server.command::<Vec<String>>(&["KEYS", "acsb:1:*:t:*"]).len();
    let lists = || server.command::<Vec<String>>(&["KEYS", "acsb:1:*:k:*"]).len();
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    assert!(redis.put(&user(1), &chat(), &token(1)).await.unwrap());
    let hour = crate::broker::types::TokenKey { validity: crate::broker::types::Validity::MIN, ..chat() };
    assert!(redis.put(&user(1), &hour, &token(1)).await.unwrap());
    assert!(redis.put(&user(1), &hour, &token(1)).await.unwrap());
    assert_eq!((tokens(), lists()), (2, 1));
    let expiring: i64 = server.command(&["PTTL", &redis.keys.tokens(&name(1))]);
    assert!(expiring > 0, "the list of tokens outlives them");
    assert_eq!(redis.advance_generation(&user(1), &record(1).identity).await.unwrap(), Some(1));
    assert_eq!((tokens(), lists()), (0, 0));
    let mut later = token(1);
    later.generation = 1;
    assert!(redis.put(&user(1), &chat(), &later).await.unwrap());
    assert!(redis.remove(&user(1), &record(1).identity).await.unwrap());
    // Nothing is left but the marker: no record, no index, no way back.
    assert_eq!(server.command::<Vec<String>>(&["KEYS", "*"]), ["acsb:1:meta"]);
}

#[tokio::test]
async fn listing_few_users_takes_few_round_trips_in_a_row() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    for number in 0..3 {
        redis.insert_if_absent(&user(number), &record(number)).await.unwrap();
    }
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    let began = std::time::Instant::now();
    let page = redis.list(None, 100).await.unwrap().unwrap();
    println!("a page over 256 buckets: {:?}", began.elapsed());
    assert_eq!((page.entries.len(), page.next), (3, None));
    assert_eq!(server.calls("zrange"), 256);
}
