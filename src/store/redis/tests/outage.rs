//! What callers feel when Redis dies, hangs, or is flooded: errors within the deadline, and no wrong answers.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::super::{Redis, Settings, Topology};
use super::redis_server::{RedisCluster, RedisServer};
use super::{chat, open_with, patient, record, token, user};
use crate::broker::ports::{IdentityStore as _, Inserted, StoreError, TokenCache as _};

/// The deadline of these tests, as in the default settings.
const TIMEOUT: Duration = Duration::from_millis(100);

/// How much later than the deadline a busy test machine may notice it.
const MARGIN: Duration = Duration::from_millis(150);

async fn open(server: &RedisServer) -> Arc<Redis> {
    let settings = Settings { timeout: TIMEOUT, ..patient(&server.url()) };
    let redis = open_with(&settings).await.unwrap();
    // The first commands of a connection on a busy machine may be slow.
    until(&redis, Duration::from_secs(5)).await;
    redis
}

/// Asks until there is an answer; returns how long that took and the longest time one call took.
async fn until(redis: &Redis, at_most: Duration) -> (Duration, Duration) {
    let began = Instant::now();
    let mut longest = Duration::ZERO;
    loop {
        let call = Instant::now();
        let answer = redis.find(&user(0)).await;
        longest = longest.max(call.elapsed());
        if answer.is_ok() {
            return (began.elapsed(), longest);
        }
        assert!(began.elapsed() < at_most, "no answer within {at_most:?}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn unavailable<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

/// Runs many calls at once; returns the longest and how many had an answer.
async fn many(redis: &Arc<Redis>, calls: usize) -> (Duration, usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..calls {
        let redis = Arc::clone(redis);
        tasks.spawn(async move {
            let began = Instant::now();
            let answer = redis.look_up(&user(number % 50), &chat()).await;
            assert!(answer.is_ok() || unavailable(&answer));
            (began.elapsed(), answer.is_ok())
        });
    }
    let all = tasks.join_all().await;
    let longest = all.iter().map(|(took, _)| *took).max().unwrap_or_default();
    (longest, all.iter().filter(|(_, ok)| *ok).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_fails_calls_at_once_and_its_return_is_noticed() {
    let mut server = RedisServer::start_durable();
    let redis = open(&server).await;
    for number in 0..50 {
        assert_eq!(redis.insert_if_absent(&user(number), &record(number)).await.unwrap(), Inserted::New);
        assert!(redis.put(&user(number), &chat(), &token(number)).await.unwrap());
    }
    for round in 0..3 {
        server.kill();
        let (longest, answered) = many(&redis, 200).await;
        println!("round {round}: killed: the longest of 200 calls took {longest:?}");
        assert!(longest < TIMEOUT + MARGIN, "{longest:?}");
        assert_eq!(answered, 0);
        server.restart();
        let (after, longest) = until(&redis, Duration::from_secs(2)).await;
        println!("round {round}: back: {after:?} after the restart, the longest call {longest:?}");
        assert!(longest < TIMEOUT + MARGIN, "{longest:?}");
        for number in 0..50 {
            let found = redis.look_up(&user(number), &chat()).await.unwrap();
            assert_eq!(found.record, Some(record(number)), "an acknowledged record is lost or wrong");
            assert_eq!(found.token.unwrap().token.secret, token(number).token.secret);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_a_call_no_more_than_its_deadline_and_soon_nothing() {
    let server = RedisServer::start();
    let redis = open(&server).await;
    redis.insert_if_absent(&user(0), &record(0)).await.unwrap();
    server.freeze();
    let mut longest = Duration::ZERO;
    let mut at_once = 0;
    for _ in 0..20 {
        let began = Instant::now();
        assert!(unavailable(&redis.find(&user(0)).await));
        longest = longest.max(began.elapsed());
        at_once += usize::from(began.elapsed() < Duration::from_millis(5));
    }
    println!("frozen: the longest of 20 calls in a row took {longest:?}; {at_once} were refused at once");
    assert!(longest < TIMEOUT + MARGIN, "{longest:?}");
    assert!(at_once >= 10 && !redis.connection.is_up(), "the breaker did not open");
    // Refusing costs next to nothing.
    let began = Instant::now();
    for _ in 0..1000 {
        assert!(unavailable(&redis.find(&user(0)).await));
    }
    let each = began.elapsed() / 1000;
    println!("a refusal took {each:?}");
    assert!(each < Duration::from_millis(1), "{each:?}");
    server.thaw();
    let (after, longest) = until(&redis, Duration::from_secs(2)).await;
    println!("thawed: answers after {after:?}; the longest call took {longest:?}");
    assert_eq!(redis.find(&user(0)).await.unwrap(), Some(record(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_on_a_frozen_redis_is_refused_within_bounds_and_recovers() {
    let server = RedisServer::start();
    let redis = open(&server).await;
    server.freeze();
    let began = Instant::now();
    let (longest, answered) = many(&redis, 10_000).await;
    println!(
        "10,000 calls on a frozen server: all over after {:?}, the longest {longest:?}",
        began.elapsed()
    );
    assert_eq!(answered, 0);
    // Starting 10,000 tasks takes a while by itself on a busy machine; waiting for Redis must not add to it.
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    server.thaw();
    let (after, _) = until(&redis, Duration::from_secs(2)).await;
    println!("thawed: answers after {after:?}");
    let (_, answered) = many(&redis, 500).await;
    assert!(answered > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_connection_is_replaced_and_a_read_does_not_feel_it() {
    let server = RedisServer::start();
    let settings = Settings { timeout: Duration::from_secs(5), ..patient(&server.url()) };
    let redis = open_with(&settings).await.unwrap();
    redis.insert_if_absent(&user(0), &record(0)).await.unwrap();
    for _ in 0..20 {
        // As a proxy or the server's own `timeout` does.
        server.command::<()>(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
        assert_eq!(redis.find(&user(0)).await.unwrap(), Some(record(0)));
    }
}

/// Stands between broker and server. When armed, it lets the next request through, waits for its reply, and cuts the
/// connection instead of delivering it: what was asked for is done, and nobody is told.
struct Cutter {
    port: u16,
    armed: Arc<AtomicBool>,
}

impl Cutter {
    fn before(server: &RedisServer) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let (port, armed) = (listener.local_addr().unwrap().port(), Arc::new(AtomicBool::new(false)));
        let (to, arm) = (server.port(), Arc::clone(&armed));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let (mut requests, mut to_server) =
                    (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut requests, &mut to_server));
                let (mut replies, mut to_client, arm) = (server, client, Arc::clone(&arm));
                std::thread::spawn(move || {
                    let mut bytes = [0; 65_536];
                    while let Ok(count @ 1..) = replies.read(&mut bytes) {
                        if arm.swap(false, Ordering::SeqCst) {
                            let _ = to_client.shutdown(std::net::Shutdown::Both);
                            return;
                        }
                        if to_client.write_all(&bytes[..count]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        Self { port, armed }
    }

    fn cut_next(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_connection_breaks_a_write_is_not_sent_again_and_a_read_is() {
    let server = RedisServer::start();
    let cutter = Cutter::before(&server);
    let redis = open_with(&patient(&format!("redis://127.0.0.1:{}", cutter.port))).await.unwrap();
    let (who, identity) = (user(0), record(0).identity);
    let advance = || redis.advance_generation(&who, &identity);
    redis.insert_if_absent(&user(0), &record(0)).await.unwrap();
    assert_eq!(advance().await.unwrap(), Some(1));
    server.command::<()>(&["CONFIG", "RESETSTAT"]);
    for round in 0..10 {
        cutter.cut_next();
        assert!(unavailable(&advance().await));
        assert_eq!(server.calls("evalsha"), round + 1, "sent again");
        until(&redis, Duration::from_secs(2)).await;
        cutter.cut_next();
        let record = redis.find(&user(0)).await.expect("a read survives a cut connection").unwrap();
        assert_eq!(record.generation, round + 2, "done more than once, or not at all");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_commands_than_allowed_are_refused_at_once() {
    let server = RedisServer::start();
    let settings = Settings { timeout: Duration::from_secs(1), max_concurrency: 4, ..patient(&server.url()) };
    let redis = open_with(&settings).await.unwrap();
    server.freeze();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let redis = Arc::clone(&redis);
        tasks.spawn(async move {
            let began = Instant::now();
            assert!(unavailable(&redis.find(&user(0)).await));
            began.elapsed() < Duration::from_millis(500)
        });
    }
    let at_once = tasks.join_all().await.into_iter().filter(|&at_once| at_once).count();
    assert_eq!(at_once, 16);
    server.thaw();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_node_of_a_cluster_delays_only_its_own_users_and_only_to_their_deadline() {
    let cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, timeout: TIMEOUT, ..patient(&cluster.url()) };
    let redis = open_with(&settings).await.unwrap();
    until(&redis, Duration::from_secs(5)).await;
    for number in 0..60 {
        while redis.insert_if_absent(&user(number), &record(number)).await.is_err() {}
    }
    cluster.nodes[1].freeze();
    let (mut failed, mut longest) = (0, Duration::ZERO);
    for number in 0..60 {
        let began = Instant::now();
        match redis.find(&user(number)).await {
            Ok(found) => assert_eq!(found, Some(record(number)), "a wrong answer"),
            Err(_) => failed += 1,
        }
        longest = longest.max(began.elapsed());
    }
    println!("one of three nodes frozen: {failed} of 60 calls failed, the longest took {longest:?}");
    assert!((1..=45).contains(&failed), "{failed}");
    assert!(longest < TIMEOUT + MARGIN, "{longest:?}");
    cluster.nodes[1].thaw();
    // The other nodes may have given it up; how soon they take it back is the Cluster's business.
    cluster.wait_until_whole();
    let began = Instant::now();
    for number in 0..60 {
        while redis.find(&user(number)).await.is_err() {
            assert!(began.elapsed() < Duration::from_secs(2), "still errors 2 s after the thaw");
        }
    }
    println!("whole again: all answer after {:?}", began.elapsed());
}
