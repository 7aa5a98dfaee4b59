//! What readiness learns: an emptied store, a store that came to evict.

use super::redis_server::RedisServer;
use super::{open_at, record, user};
use crate::broker::ports::{IdentityStore as _, StoreProblem};

#[tokio::test]
async fn an_emptied_store_is_seen_and_stays_unfit_until_its_marker_is_back() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    assert_eq!(redis.check().await, Ok(()));
    let marker: Vec<u8> = server.command(&["GET", "acsb:1:meta"]);
    server.command::<()>(&["FLUSHALL"]);
    for _ in 0..3 {
        assert_eq!(redis.check().await, Err(StoreProblem::Emptied));
    }
    // A replica that starts now sees a store like any new one, but does not vouch for the old content.
    let newcomer = open_at(&server.url()).await;
    assert_eq!(newcomer.check().await, Ok(()));
    assert_eq!(redis.check().await, Err(StoreProblem::Emptied));
    // A restored backup brings the marker with it.
    let client = redis::Client::open(server.url()).unwrap();
    redis::cmd("SET").arg("acsb:1:meta").arg(marker).exec(&mut client.get_connection().unwrap()).unwrap();
    assert_eq!(redis.check().await, Ok(()));
}

#[tokio::test]
async fn a_store_that_comes_to_evict_is_seen() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    assert_eq!(redis.check().await, Ok(()));
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    // What it learned holds for a while; not for ever.
    assert_eq!(redis.check().await, Ok(()));
    redis.memory.forget_policy();
    assert_eq!(redis.check().await, Err(StoreProblem::Evicts("allkeys-lru".into())));
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    redis.memory.forget_policy();
    assert_eq!(redis.check().await, Ok(()));
}

#[tokio::test]
async fn brokers_with_different_prefixes_do_not_see_each_other() {
    let server = RedisServer::start();
    let one = open_at(&server.url()).await;
    let two =
        super::open_with(&super::Settings { prefix: "other".into(), ..super::patient(&server.url()) }).await;
    let two = two.unwrap();
    one.insert_if_absent(&user(1), &record(1)).await.unwrap();
    assert_eq!(two.find(&user(1)).await.unwrap(), None);
    assert_eq!(two.find_user(&record(1).identity).await.unwrap(), None);
    assert!(two.list(None, 10).await.unwrap().unwrap().entries.is_empty());
}
