//! What is particular to messaging in Redis: round trips, one slot per script, bounds, a log that was lost.

use std::sync::Arc;
use std::time::Duration;

use super::super::{Redis, Settings, Topology};
use super::redis_server::{RedisCluster, RedisServer};
use super::{open_at, open_with, patient};
use crate::broker::ports::Limit;
use crate::clock::{Clock as _, SystemClock};
use crate::messaging::ports::{EventLog as _, EventsRead, FairBudget as _, MessageStore as _};
use crate::messaging::types::MessageId;

const HOUR: Duration = Duration::from_secs(3600);

fn id(number: usize) -> MessageId {
    MessageId::stored(format!("sms_{number}"))
}

fn limits() -> [Limit; 2] {
    [Limit { window: Duration::from_secs(60), max: 1000 }, Limit { window: HOUR, max: 10_000 }]
}

/// Each operation once.
async fn each(redis: &Redis, number: usize) {
    let upstream = [(format!("acs {number}"), 0)];
    assert!(redis.insert(&id(number), b"one", HOUR).await.unwrap().is_none());
    assert_eq!(redis.replace(&id(number), 1, b"two", HOUR).await.unwrap().ok(), Some(2));
    redis.link(&upstream, &id(number), HOUR).await.unwrap();
    redis.schedule(&id(number), Some(SystemClock.now())).await.unwrap();
    redis.take_fair("bucket", "caller", &limits(), 1).await.unwrap();
    redis.append(&format!("key {number}"), b"event", HOUR, HOUR).await.unwrap().unwrap();
    redis.end().await.unwrap();
}

#[tokio::test]
async fn each_operation_of_a_send_is_one_round_trip() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    // The first of each sends the script's text.
    each(&redis, 0).await;
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    each(&redis, 1).await;
    assert_eq!((server.calls("evalsha"), server.calls("eval")), (6, 0));
    // Beside the one of the schedule, `zadd` and `get` are what the scripts did.
    assert_eq!((server.calls("zadd"), server.calls("get")), (1, 5));
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    assert!(redis.get(&id(1)).await.unwrap().is_some());
    assert!(redis.linked("acs 1").await.unwrap().is_some());
    redis.schedule(&id(1), None).await.unwrap();
    assert_eq!((server.calls("get"), server.calls("zrem"), server.all_calls()), (2, 1, 3));
}

#[tokio::test]
async fn the_links_of_100_recipients_are_at_most_16_commands_sent_together() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let upstream: Vec<(String, u32)> = (0..100).map(|part| (format!("acs {part}"), part)).collect();
    redis.link(&upstream[..1], &id(0), HOUR).await.unwrap();
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    redis.link(&upstream, &id(0), HOUR).await.unwrap();
    assert!((1..=16).contains(&server.calls("evalsha")), "{}", server.calls("evalsha"));
    assert_eq!(server.calls("set"), 100);
}

#[tokio::test]
async fn messages_are_spread_over_a_cluster() {
    let cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, ..patient(&cluster.url()) };
    let redis = open_with(&settings).await.unwrap();
    cluster.nodes.iter().for_each(|node| node.command::<()>(&["CONFIG", "RESETSTAT"]));
    for number in 0..30 {
        each(&redis, number).await;
    }
    assert!(cluster.nodes.iter().all(|node| node.calls("evalsha") > 30), "all messages are on one node");
}

#[tokio::test]
async fn the_log_holds_as_many_events_as_it_may_and_a_reader_learns_what_is_missing() {
    let server = RedisServer::start();
    let mut redis = Arc::into_inner(open_at(&server.url()).await).unwrap();
    redis.most_events = 50;
    let start = redis.end().await.unwrap();
    let mut places = Vec::new();
    for number in 0..250 {
        places.push(redis.append(&format!("{number}"), b"event", HOUR, HOUR).await.unwrap().unwrap());
        let length: u64 = server.command(&["XLEN", &redis.keys.events()]);
        assert!(length <= 50, "{length}");
    }
    assert!(matches!(redis.read(&start, 1000).await.unwrap(), EventsRead::TooOld));
    for (number, place) in places.iter().enumerate() {
        match redis.read(place, 1000).await.unwrap() {
            EventsRead::Page(page) => assert_eq!(page.events.len(), 249 - number),
            EventsRead::TooOld => assert!(number < 199, "{number}"),
            EventsRead::Foreign => panic!("foreign: {number}"),
        }
    }
}

#[tokio::test]
async fn a_log_that_was_lost_begins_anew_and_knows_no_place_of_before() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let before = redis.append("key", b"event", HOUR, HOUR).await.unwrap().unwrap();
    for gone in [vec![redis.keys.events_head()], vec![redis.keys.events(), redis.keys.events_head()]] {
        let (at, gone): (_, Vec<&str>) =
            (redis.end().await.unwrap(), gone.iter().map(String::as_str).collect());
        server.command::<()>(&[&["DEL"], gone.as_slice()].concat());
        for place in [&before, &at] {
            assert!(matches!(redis.read(place, 10).await.unwrap(), EventsRead::Foreign));
        }
        let start = redis.end().await.unwrap();
        redis.append(&format!("{start:?}"), b"new", HOUR, HOUR).await.unwrap().unwrap();
        let EventsRead::Page(page) = redis.read(&start, 10).await.unwrap() else { panic!("no page") };
        assert_eq!(page.events.len(), 1);
        assert!(matches!(redis.read(&at, 10).await.unwrap(), EventsRead::Foreign));
    }
    // The stream alone, as an eviction would do it: something is missing, and says so.
    let (at, start) =
        (redis.end().await.unwrap(), redis.append("a", b"", HOUR, HOUR).await.unwrap().unwrap());
    server.command::<()>(&["DEL", &redis.keys.events()]);
    assert!(matches!(redis.read(&at, 10).await.unwrap(), EventsRead::TooOld));
    let EventsRead::Page(page) = redis.read(&start, 10).await.unwrap() else { panic!("no page") };
    assert!(page.events.is_empty());
}

#[tokio::test]
async fn a_place_that_was_never_given_out_is_foreign_while_its_neighbours_are_there() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    let mut last = None;
    for number in 0..3 {
        last = redis.append(&format!("{number}"), b"event", HOUR, HOUR).await.unwrap();
    }
    let last = last.unwrap().0;
    let mut parts = last.split('-');
    let (log, ms) = (parts.next().unwrap(), parts.next().unwrap().parse::<u64>().unwrap());
    for (ms, number) in [(ms - 50_000, 1), (ms + 50_000, 2), (ms + 1, 3), (5, 0)] {
        let place = crate::messaging::ports::Cursor(format!("{log}-{ms}-{number}"));
        assert!(matches!(redis.read(&place, 10).await.unwrap(), EventsRead::Foreign), "{place:?}");
    }
}

#[tokio::test]
async fn what_has_its_time_leaves_redis_by_itself() {
    let server = RedisServer::start();
    let redis = open_at(&server.url()).await;
    each(&redis, 1).await;
    redis.schedule(&id(1), None).await.unwrap();
    for key in server.command::<Vec<String>>(&["KEYS", "*"]) {
        let left: i64 = server.command(&["PTTL", &key]);
        let is_for_ever = key == redis.keys.events_head() || key == redis.keys.meta();
        assert_eq!(left > 0, !is_for_ever, "{key}");
    }
}
