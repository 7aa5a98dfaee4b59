//! What is refused at the start, and that each refusal names the mend and no secret.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::super::{OpenError, Settings, Topology};
use super::redis_server::{RedisCluster, RedisServer, Sentinel, free_port, wait_until};
use super::topologies::{limited_user, tls_server, tls_settings};
use super::{open_at, open_with, patient, record, user};
use crate::broker::ports::{IdentityStore as _, StoreError, StoreProblem};
use crate::secret::Secret;

/// Opens, which must fail, and returns the error, whose texts must not show the password.
async fn refused(settings: &Settings) -> OpenError {
    let began = Instant::now();
    let error = open_with(settings).await.err().expect("it was opened");
    assert!(began.elapsed() < Duration::from_secs(4), "refused after {:?}", began.elapsed());
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    println!("{error}");
    error
}

/// A server that answers whatever it is sent with these bytes.
fn impostor(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(answer);
                // Stays open, as a server would.
                let _ = stream.read(&mut [0; 1]);
            });
        }
    });
    format!("redis://user:hunter2@127.0.0.1:{port}")
}

#[tokio::test]
async fn a_server_that_is_no_redis_is_refused() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..],
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x15\x03\x01\0\x02\x02\x16",
        b"-ERR unknown command 'HELLO', with args beginning with: '3' 'AUTH' 'user' 'hunter2'\r\n",
    ] {
        let error = refused(&patient(&impostor(answer))).await;
        assert!(
            matches!(error, OpenError::NotRedis(_) | OpenError::TooOld(..)),
            "{error:?} for {:?}",
            String::from_utf8_lossy(answer)
        );
    }
}

#[tokio::test]
async fn no_answer_however_odd_makes_the_start_hang_or_panic() {
    for answer in
        [&b"*-7\r\n"[..], b"$99999999999999999999\r\n", b"%1\r\n", b"\r\n\r\n", b"_\r\n", b"+OK\r\n+OK\r\n"]
    {
        let began = Instant::now();
        if let Ok(redis) = open_with(&patient(&impostor(answer))).await {
            assert_eq!(redis.check().await, Err(StoreProblem::Unreachable));
        }
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_missing_or_wrong_password_is_told_apart() {
    let server = RedisServer::start_with(&["--requirepass", "hunter2"]);
    assert!(matches!(refused(&patient(&server.url())).await, OpenError::PasswordNeeded(_)));
    let wrong = Settings { password: Secret::new("hunter2 "), ..patient(&server.url()) };
    assert!(matches!(refused(&wrong).await, OpenError::PasswordWrong(_)));
    let right = Settings { password: Secret::new("hunter2"), ..patient(&server.url()) };
    open_with(&right).await.unwrap();
    open_at(&format!("redis://:hunter2@127.0.0.1:{}", server.port())).await;
}

#[tokio::test]
async fn an_evicting_redis_is_refused_unless_that_is_allowed() {
    for policy in ["allkeys-lru", "allkeys-lfu", "allkeys-random"] {
        let server = RedisServer::start_with(&["--maxmemory-policy", policy]);
        let error = refused(&patient(&server.url())).await;
        assert!(matches!(&error, OpenError::Evicts(_, named) if named == policy), "{error:?}");
        let allowed = open_with(&Settings { allow_eviction: true, ..patient(&server.url()) }).await.unwrap();
        assert_eq!(allowed.check().await, Ok(()));
    }
    let cluster = RedisCluster::start();
    cluster.nodes[2].command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    let error = refused(&Settings { topology: Topology::Cluster, ..patient(&cluster.url()) }).await;
    assert!(matches!(error, OpenError::Evicts(..)), "{error:?}");
    for policy in ["noeviction", "volatile-lru"] {
        let server = RedisServer::start_with(&["--maxmemory-policy", policy]);
        open_at(&server.url()).await;
    }
}

#[tokio::test]
async fn a_redis_that_may_evict_records_of_messages_is_refused_where_messages_are_sent() {
    let server = RedisServer::start_with(&["--maxmemory-policy", "volatile-lru"]);
    let sending = Settings { keeps_messages: true, ..patient(&server.url()) };
    let error = refused(&sending).await;
    assert!(matches!(&error, OpenError::EvictsMessages(_, named) if named == "volatile-lru"), "{error:?}");
    open_with(&Settings { allow_eviction: true, ..sending.clone() }).await.unwrap();
    // Also when the policy is changed later.
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    let redis = open_with(&sending).await.unwrap();
    assert_eq!(redis.check().await, Ok(()));
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]);
    redis.memory.forget_policy();
    assert_eq!(redis.check().await, Err(StoreProblem::EvictsMessages("volatile-ttl".into())));
}

#[tokio::test]
async fn a_replica_is_refused() {
    let servers = Sentinel::start();
    assert!(matches!(refused(&patient(&servers.replica.url())).await, OpenError::Replica(_)));
}

#[tokio::test]
async fn the_wrong_topology_is_refused_and_the_right_one_named() {
    let cluster = RedisCluster::start();
    let error = refused(&patient(&cluster.nodes[0].url())).await;
    assert!(matches!(error, OpenError::IsCluster(_)));
    assert!(error.to_string().contains("\"cluster\""));
    let server = RedisServer::start();
    let error = refused(&Settings { topology: Topology::Cluster, ..patient(&server.url()) }).await;
    assert!(matches!(error, OpenError::NotCluster(_)));
    let as_sentinel =
        Settings { topology: Topology::Sentinel, sentinel_master: "main".into(), ..patient(&server.url()) };
    assert!(matches!(refused(&as_sentinel).await, OpenError::NotSentinel(_)));
    let servers = Sentinel::start();
    let unknown =
        Settings { topology: Topology::Sentinel, sentinel_master: "other".into(), ..patient(&servers.url()) };
    assert!(matches!(refused(&unknown).await, OpenError::UnknownMaster(_)));
}

#[tokio::test]
async fn tls_that_cannot_be_trusted_is_refused() {
    let (server, port) = tls_server();
    let untrusted = patient(&format!("rediss://127.0.0.1:{port}"));
    assert!(matches!(refused(&untrusted).await, OpenError::Tls(..)));
    let settings = tls_settings(&server, port);
    let other_name = Settings { url: Secret::new(format!("rediss://localhost:{port}")), ..settings.clone() };
    assert!(matches!(refused(&other_name).await, OpenError::Tls(..)));
    // A plain-text port hangs up at once, as a proxy without a server behind it does: it may yet become right.
    let plain = format!("rediss://127.0.0.1:{}", server.port());
    let redis = open_with(&Settings { url: Secret::new(plain), ..settings.clone() }).await.unwrap();
    assert_eq!(redis.check().await, Err(StoreProblem::Unreachable));
    for (file, text) in [
        ("missing.pem", None),
        ("empty.pem", Some("")),
        ("key.pem", Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
    ] {
        let path = server.folder().join(file);
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let ca_file = path.to_str().unwrap().to_owned();
        assert!(matches!(
            refused(&Settings { ca_file, ..settings.clone() }).await,
            OpenError::Setting("ca_file", _)
        ));
    }
}

#[tokio::test]
async fn bad_settings_are_refused_before_anything_is_connected() {
    let error = refused(&Settings { prefix: "{x}".into(), ..patient("redis://127.0.0.1:1") }).await;
    assert!(matches!(error, OpenError::Setting("prefix", _)));
    let error = refused(&patient("redis://:hunter2@127.0.0.1:x")).await;
    assert!(matches!(error, OpenError::Setting("url", _)));
}

#[tokio::test]
async fn a_user_who_may_not_run_info_is_served_all_the_same() {
    let mut server = RedisServer::start();
    limited_user(&mut server);
    server.command::<()>(&["ACL", "SETUSER", "broker", "-info"]);
    let settings =
        Settings { username: "broker".into(), password: Secret::new("hunter2"), ..patient(&server.url()) };
    let redis = open_with(&settings).await.unwrap();
    assert_eq!(redis.check().await, Ok(()));
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
}

#[tokio::test]
async fn a_redis_that_is_away_at_the_start_is_used_as_soon_as_it_is_there() {
    // A port that nobody listens on, and one that accepts but never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let silent_url = format!("redis://127.0.0.1:{}", silent.local_addr().unwrap().port());
    for url in [format!("redis://127.0.0.1:{}", free_port()), silent_url] {
        let began = Instant::now();
        let redis = open_at(&url).await;
        assert!(began.elapsed() < Duration::from_secs(4), "the start took {:?}", began.elapsed());
        assert_eq!(redis.check().await, Err(StoreProblem::Unreachable));
        assert!(matches!(redis.find(&user(1)).await, Err(StoreError::Unavailable(_))));
    }
    let mut server = RedisServer::start();
    server.kill();
    let redis = open_at(&server.url()).await;
    assert_eq!(redis.check().await, Err(StoreProblem::Unreachable));
    server.restart();
    let deadline = Instant::now() + Duration::from_secs(2);
    while redis.check().await.is_err() {
        assert!(Instant::now() < deadline, "not used within 2 s of its start");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    redis.insert_if_absent(&user(1), &record(1)).await.unwrap();
    wait_until("the record is there", || server.calls("evalsha") > 0);
}
