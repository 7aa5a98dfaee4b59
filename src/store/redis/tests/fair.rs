//! The script of fair budgets answers as the arithmetic in `store::fair` does, step by step.

use std::time::Duration;

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::patient;
use super::redis_server::RedisServer;
use super::topologies::simulated;
use crate::broker::ports::{Limit, Taken};
use crate::clock::Clock as _;
use crate::messaging::ports::FairBudget as _;
use crate::store::fair::{Bucket, windows};

#[derive(Debug, Clone)]
enum Step {
    Take {
        caller: String,
        limits: usize,
        cost: u32,
    },
    /// Some of an earlier take, or all of it.
    GiveBack {
        which: prop::sample::Index,
        cost: u32,
    },
    Pause {
        ms: u64,
    },
    Elapse {
        ms: u64,
    },
    SetBack {
        ms: u64,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let caller = prop_oneof![6 => "[a-d]", 1 => "[\"\\\\ü{}]{0,3}", 1 => "[a-z]{2}"];
    let cost = prop_oneof![5 => 1..3u32, 2 => 3..12u32, 1 => Just(0), 1 => Just(u32::MAX)];
    prop_oneof![
        60 => (caller, 0..4usize, cost).prop_map(|(caller, limits, cost)| Step::Take { caller, limits, cost }),
        8 => (any::<prop::sample::Index>(), 0..6u32).prop_map(|(which, cost)| Step::GiveBack { which, cost }),
        1 => (0..3000u64).prop_map(|ms| Step::Pause { ms }),
        30 => (0..900u64).prop_map(|ms| Step::Elapse { ms }),
        2 => (0..20_000u64).prop_map(|ms| Step::Elapse { ms }),
        1 => (0..20_000u64).prop_map(|ms| Step::SetBack { ms }),
    ]
}

#[tokio::test]
async fn the_script_answers_as_the_arithmetic_does() {
    let server = RedisServer::start();
    let (redis, clock) = simulated(&patient(&server.url())).await;
    let limit = |ms, max| Limit { window: Duration::from_millis(ms), max };
    let limits =
        [vec![limit(3000, 12)], vec![limit(3000, 12), limit(20_000, 30)], vec![limit(777, 3)], vec![]];
    let mut runner = TestRunner::default();
    for round in 0..24 {
        let all = prop::collection::vec(steps(), 1..300).new_tree(&mut runner).unwrap().current();
        let (mut model, bucket) = (Bucket::default(), format!("bucket {round}"));
        let mut takes = Vec::new();
        // Redis forgets by its own time, which does not stand still: a bucket begins with a limit that it keeps for 44 s.
        model.take("first", &windows(&limits[1]), 1, clock.now());
        redis.take_fair(&bucket, "first", &limits[1], 1).await.unwrap();
        for (at, step) in all.iter().enumerate() {
            match step {
                Step::Take { caller, limits: chosen, cost } => {
                    let limits = &limits[*chosen];
                    let expected = model.take(caller, &windows(limits), *cost, clock.now());
                    let take = redis.take_fair(&bucket, caller, limits, *cost).await.unwrap();
                    assert_eq!((take.taken, take.at), (expected, clock.now()), "{:#?}", &all[..=at]);
                    if matches!(expected, Taken::Go { .. }) {
                        takes.push((caller.clone(), limits.clone(), take.at));
                    }
                }
                Step::GiveBack { which, cost } if !takes.is_empty() => {
                    let (caller, limits, at) = which.get(&takes);
                    model.give_back(caller, &windows(limits), *cost, *at, clock.now());
                    redis.give_back(&bucket, caller, limits, *cost, *at).await.unwrap();
                }
                Step::GiveBack { .. } => {}
                Step::Pause { ms } => {
                    model.pause(Duration::from_millis(*ms), clock.now());
                    redis.pause(&bucket, Duration::from_millis(*ms)).await.unwrap();
                }
                Step::Elapse { ms } => clock.advance(Duration::from_millis(*ms)),
                Step::SetBack { ms } => clock.set(clock.now().minus(Duration::from_millis(*ms))),
            }
        }
    }
}

#[tokio::test]
async fn a_bucket_of_as_many_callers_as_there_may_be_stays_small() {
    let server = RedisServer::start();
    let (redis, clock) = simulated(&patient(&server.url())).await;
    let limits = [(60_000, 1_000_000), (3_600_000, 10_000_000)]
        .map(|(ms, max)| Limit { window: Duration::from_millis(ms), max });
    for callers in [1, 10, 150] {
        let bucket = format!("bucket {callers}");
        let began = std::time::Instant::now();
        for _ in 0..11 {
            for number in 0..callers {
                redis.take_fair(&bucket, &format!("caller {number}"), &limits, 1).await.unwrap();
            }
            clock.advance(Duration::from_secs(6));
        }
        let bytes: u64 = server.command(&["STRLEN", &redis.keys.fair_budget(&bucket)]);
        println!("{callers} callers: {bytes} bytes, {:?} a take", began.elapsed() / (11 * callers));
        assert!(bytes < 64 << 10, "{bytes}");
    }
}
