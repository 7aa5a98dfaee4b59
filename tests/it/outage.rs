//! Redis dies under load and comes back: no wrong answer, no call over its budget, normal within two seconds.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use acs_broker::grpc::proto::v1;
use tonic_types::StatusExt;

use crate::harness::{BrokerProcess, chat, emulator_process, until};
use crate::redis_server::RedisServer;

/// What a call may take at the most: far below the ten seconds a caller without deadline has, far above the store's
/// 100 ms, so that a busy machine does not matter and a hang does.
const NO_HANG: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_redis_costs_clear_errors_only_and_two_seconds_after_its_return() {
    // On disk, so that the return is a restart and not a loss of data.
    let mut redis = RedisServer::start_durable();
    let emulator = emulator_process().await;
    let settings = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", &redis.url())];
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let first: BTreeMap<String, String> = {
        let mut tokens = broker.tokens().await;
        let mut first = BTreeMap::new();
        for number in 0..20 {
            let user = format!("user-{number}");
            let answer = tokens.issue_token(chat(&user)).await.unwrap().into_inner();
            first.insert(user, answer.acs_user_id);
        }
        first
    };

    let stop = Arc::new(AtomicBool::new(false));
    let (answered, refused) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let slowest = Arc::new(Mutex::new(Duration::ZERO));
    let mut workers = Vec::new();
    for worker in 0..16_usize {
        let mut tokens = broker.tokens().await;
        let (stop, answered, refused) = (stop.clone(), answered.clone(), refused.clone());
        let (slowest, first) = (slowest.clone(), first.clone());
        workers.push(tokio::spawn(async move {
            for turn in worker.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (user, identity) = first.iter().nth(turn % first.len()).unwrap();
                let began = Instant::now();
                match tokens.issue_token(chat(user)).await {
                    Ok(answer) => {
                        assert_eq!(&answer.into_inner().acs_user_id, identity, "a wrong answer");
                        answered.fetch_add(1, Ordering::SeqCst);
                    }
                    Err(status) => {
                        let details = status.get_error_details();
                        assert_eq!(details.error_info().unwrap().reason, "STORE_UNAVAILABLE", "{status:?}");
                        assert!(details.retry_info().is_some());
                        refused.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                let mut slowest = slowest.lock().unwrap();
                *slowest = (*slowest).max(began.elapsed());
            }
        }));
    }
    let mut recoveries = Vec::new();
    for _ in 0..3 {
        let so_far = answered.load(Ordering::SeqCst);
        until("load", async || answered.load(Ordering::SeqCst) > so_far + 500).await;
        redis.kill();
        let so_far = refused.load(Ordering::SeqCst);
        until("refusals", async || refused.load(Ordering::SeqCst) > so_far + 100).await;
        tokio::task::block_in_place(|| redis.restart());
        let back = Instant::now();
        let mut probe = broker.tokens().await;
        until("normal service", async || probe.issue_token(chat("user-0")).await.is_ok()).await;
        // From here on every call succeeds.
        for number in 0..20 {
            probe.issue_token(chat(&format!("user-{number}"))).await.expect("normal means normal");
        }
        recoveries.push(back.elapsed());
    }
    stop.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    let slowest = *slowest.lock().unwrap();
    println!(
        "{} answered, {} refused; slowest call {slowest:?}; normal after {recoveries:?}",
        answered.load(Ordering::SeqCst),
        refused.load(Ordering::SeqCst)
    );
    assert!(slowest < NO_HANG, "{slowest:?}");
    assert!(recoveries.iter().all(|took| *took < Duration::from_secs(2)), "{recoveries:?}");
    let calls = emulator.control("calls").await;
    assert_eq!(calls["create_identity"], 20, "no second identity for anybody: {calls}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_an_emptied_redis_nobody_gets_a_second_identity_and_an_import_brings_all_back() {
    let redis = RedisServer::start();
    let emulator = emulator_process().await;
    let settings = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", &redis.url())];
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let (mut tokens, mut identities) = (broker.tokens().await, broker.identities().await);
    let before = tokens.issue_token(chat("alice")).await.unwrap().into_inner().acs_user_id;
    let resolve = |user: &str| v1::ResolveIdentityRequest { user_id: user.into() };
    identities.resolve_identity(resolve("alice")).await.unwrap();

    redis.command::<()>(&["FLUSHALL"]);
    // At once, over the connection it has, and before anything is reported as not ready.
    for status in [
        tokens.issue_token(chat("alice")).await.unwrap_err(),
        identities.resolve_identity(resolve("alice")).await.unwrap_err(),
    ] {
        assert_eq!(
            status.get_error_details().error_info().unwrap().reason,
            "STORE_UNAVAILABLE",
            "{status:?}"
        );
    }
    assert_eq!(emulator.control("identities").await["alive"], 1);

    let entry = v1::Identity { user_id: "alice".into(), acs_user_id: before.clone(), ..Default::default() };
    let import = v1::ImportIdentitiesRequest { identity: Some(entry), ..Default::default() };
    let imported = identities.import_identities(futures_util::stream::iter([import])).await.unwrap();
    assert_eq!(imported.into_inner().imported_count, 1);
    broker.terminate().await;
    broker.restart().await;
    let after = broker.tokens().await.issue_token(chat("alice")).await.unwrap().into_inner().acs_user_id;
    assert_eq!(after, before);
}
