//! The core's promises under seeded interleavings on virtual time, over the maps of `world`.
//!
//! Each test's name is the promise it proves. A failure names the seed that shows it.

mod rotation;
mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::world::*;
use super::ports::{Acquired, LeaseStore};
use super::types::*;
use super::{Imported, IssueToken};
use crate::clock::Clock;

#[test]
fn no_token_from_before_a_revocation_is_served_after_it_over_10_000_interleavings() {
    const INTERLEAVINGS: u64 = 10_000;
    let (mut served, mut after_a_revocation) = (0_u64, 0_u64);
    for seed in 0..INTERLEAVINGS {
        paused().block_on(async {
            // Every other world answers at once, so that a token returned later than a revocation was also decided on
            // later, even if its call began before.
            let late_answers = seed % 2 == 0;
            let world = world_with(2, Delays { late_answers, ..Delays::new(seed, 4) });
            let alice = user("alice");
            let identity = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap().identity;
            // The serial number from which on tokens are good, as the revocations that have returned left it.
            let good_from = Arc::new(Mutex::new((0, tokio::time::Instant::now())));
            let revoking = Arc::new(AtomicU64::new(0));
            let mut random = StdRng::seed_from_u64(!seed);
            let mut calls = Vec::new();
            for number in 0..10 {
                let broker = world.brokers[random.random_range(0..2)].clone();
                let start = Duration::from_millis(random.random_range(0..40));
                let kind = if number < 2 { 0 } else { random.random_range(1..4) };
                let (alice, identity, acs) = (alice.clone(), identity.clone(), world.acs.clone());
                let (good_from, revoking) = (good_from.clone(), revoking.clone());
                calls.push(tokio::spawn(async move {
                    tokio::time::sleep(start).await;
                    if kind == 0 {
                        let issued_before = acs.serial.load(Ordering::SeqCst);
                        revoking.fetch_add(1, Ordering::SeqCst);
                        broker.revoke_tokens(caller(), alice, None).await.unwrap();
                        let alone = revoking.fetch_sub(1, Ordering::SeqCst) == 1;
                        // What ACS revoked up to is this revocation's mark only if no other one is under way.
                        let mark = if alone { lock(&acs.state).alive[&identity] } else { issued_before };
                        let mut good_from = lock(&good_from);
                        if mark > good_from.0 {
                            *good_from = (mark, tokio::time::Instant::now());
                        }
                        return (0, 0);
                    }
                    let (mut must_be_from, _) = *lock(&good_from);
                    let served = match kind {
                        1 => broker.refresh_token(caller(), refresh(&alice)).await,
                        _ => broker.issue_token(caller(), chat(&alice)).await,
                    };
                    let serial = MapAcs::serial_of(&served.unwrap().token);
                    let (mark, since) = *lock(&good_from);
                    if !late_answers && tokio::time::Instant::now() > since {
                        must_be_from = mark;
                    }
                    assert!(
                        serial >= must_be_from,
                        "seed {seed}: token {serial}, revoked below {must_be_from}"
                    );
                    (1, u64::from(must_be_from > 0))
                }));
            }
            for call in calls {
                let (one, after) = call.await.unwrap();
                served += one;
                after_a_revocation += after;
            }
        });
    }
    println!("{served} tokens served, {after_a_revocation} of them to calls that began after a revocation");
    assert!(after_a_revocation > INTERLEAVINGS, "the interleavings must exercise the rule");
}

#[test]
fn a_fleet_makes_one_identity_with_one_call() {
    for seed in 0..200 {
        paused().block_on(async {
            let world = world(seed, 3, 20);
            let alice = user("alice");
            let calls: Vec<_> = (0..60)
                .map(|number| {
                    let (broker, alice) = (world.brokers[number % 3].clone(), alice.clone());
                    tokio::spawn(async move {
                        if number % 10 == 9 {
                            return broker.resolve_identity(caller(), alice).await.unwrap().0.identity;
                        }
                        broker.issue_token(caller(), chat(&alice)).await.unwrap().identity
                    })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap().as_str(), "8:acs:sim_1", "seed {seed}");
            }
            world.settled().await;
            let (creates, issues, alive) = world.upstream();
            assert_eq!((creates, alive), (1, 1), "seed {seed}");
            assert!(issues <= 1, "seed {seed}: a bare resolve may come first, then one token is issued");
        });
    }
}

#[test]
fn without_leases_the_losers_adopt_the_winner_and_delete_their_surplus() {
    let mut surplus = 0;
    for seed in 0..200 {
        paused().block_on(async {
            let world = world(seed, 3, 20);
            world.faults.leases_void.store(true, Ordering::SeqCst);
            let alice = user("alice");
            let calls: Vec<_> = world
                .brokers
                .iter()
                .cloned()
                .map(|broker| {
                    let alice = alice.clone();
                    tokio::spawn(
                        async move { broker.issue_token(caller(), chat(&alice)).await.unwrap().identity },
                    )
                })
                .collect();
            let mut named = BTreeSet::new();
            for call in calls {
                named.insert(call.await.unwrap());
            }
            world.settled().await;
            let (creates, _, alive) = world.upstream();
            assert_eq!((named.len(), alive), (1, 1), "seed {seed}");
            assert!(lock(&world.acs.state).alive.contains_key(named.first().unwrap()));
            surplus += creates - 1;
        });
    }
    assert!(surplus > 0, "the race must have happened");
}

#[test]
fn with_custom_ids_the_losers_leave_the_one_identity_alone() {
    let mut creations = 0;
    for seed in 0..50 {
        paused().block_on(async {
            let world = world(seed, 3, 20);
            world.faults.leases_void.store(true, Ordering::SeqCst);
            world.faults.one_identity.store(true, Ordering::SeqCst);
            let calls: Vec<_> = world
                .brokers
                .iter()
                .cloned()
                .map(|broker| {
                    tokio::spawn(async move { broker.issue_token(caller(), chat(&user("alice"))).await })
                })
                .collect();
            for call in calls {
                assert_eq!(call.await.unwrap().unwrap().identity.as_str(), "8:acs:sim_1", "seed {seed}");
            }
            world.settled().await;
            let (creates, _, alive) = world.upstream();
            assert_eq!(alive, 1, "seed {seed}: the user's identity was deleted as surplus");
            creations += creates;
        });
    }
    assert!(creations > 50, "the race must have happened");
}

#[test]
fn a_surplus_identity_that_cannot_be_deleted_is_counted_as_left() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.lose_insertion.store(true, Ordering::SeqCst);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        lock(&world.store.maps).records.get_mut(&alice).unwrap().identity =
            IdentityId::parse("8:acs:sim_other").unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        world.settled().await;
        let left = "acs_broker_surplus_identities_total{outcome=\"left\"} 1";
        assert!(world.metrics.render().contains(left), "{}", world.metrics.render());
    });
}

#[test]
fn an_insertion_that_arrives_after_another_ones_leaves_no_surplus() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        world.faults.lose_insertion.store(true, Ordering::SeqCst);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        // The insertion that got no answer was lost altogether, and another replica mapped the user meanwhile.
        let lost = lock(&world.store.maps).records.remove(&alice).unwrap().identity;
        lock(&world.store.maps).owners.remove(&lost);
        let served = world.brokers[1].issue_token(caller(), chat(&alice)).await.unwrap();
        assert_ne!(served.identity, lost);
        world.settled().await;
        let alive: Vec<_> = lock(&world.acs.state).alive.keys().cloned().collect();
        assert_eq!(alive, [served.identity]);
    });
}

#[test]
fn an_insertion_without_an_answer_is_settled_and_the_identity_used() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.lose_insertion.store(true, Ordering::SeqCst);
        let alice = user("alice");
        let error = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(error.reason(), "STORE_UNAVAILABLE");
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert_eq!(served.identity.as_str(), "8:acs:sim_1");
        world.settled().await;
        assert_eq!(world.upstream(), (1, 1, 1));
    });
}

#[test]
fn the_work_of_a_replica_that_died_is_taken_over_within_seconds() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let lease = super::identity::creation_lease(&alice);
        let held = world.store.try_acquire(&lease, Duration::from_secs(3)).await.unwrap();
        assert!(matches!(held, Acquired::Granted(_)));
        let began = tokio::time::Instant::now();
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let took = began.elapsed();
        assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&took), "{took:?}");
    });
}

#[test]
fn a_slow_upstream_call_keeps_its_lease_and_is_not_repeated() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        world.faults.acs_slow_ms.store(8_000, Ordering::SeqCst);
        let alice = user("alice");
        let (one, two) = tokio::join!(
            world.brokers[0].issue_token(caller(), chat(&alice)),
            world.brokers[1].issue_token(caller(), chat(&alice)),
        );
        assert_eq!(one.unwrap().identity, two.unwrap().identity);
        assert_eq!(world.upstream(), (1, 0, 1));
    });
}

#[test]
fn a_second_call_is_answered_from_the_cache_and_a_renewal_happens_once_behind_it() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!first.from_cache);
        let second = world.brokers[1].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.from_cache && second.token == first.token && !second.degraded);
        world.clock.set(first.refresh_at);
        for broker in &world.brokers {
            for _ in 0..10 {
                let due = broker.issue_token(caller(), chat(&alice)).await.unwrap();
                assert!(due.from_cache && due.token == first.token);
            }
        }
        world.settled().await;
        assert_eq!(world.upstream(), (1, 1, 1));
        let renewed = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(renewed.from_cache && renewed.token != first.token);
    });
}

#[test]
fn scopes_are_exact_and_so_is_validity() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let mut serials = BTreeSet::new();
        for bits in 1..32_u8 {
            let scopes: Vec<_> = Scope::ALL
                .into_iter()
                .enumerate()
                .filter(|(at, _)| bits & (1 << at) != 0)
                .map(|(_, s)| s)
                .collect();
            for minutes in [60, 1440] {
                let request = IssueToken {
                    scopes: ScopeSet::new(scopes.iter().rev().chain(&scopes).copied()).unwrap(),
                    validity: Some(Validity::from_minutes(minutes).unwrap()),
                    ..chat(&alice)
                };
                let one = world.brokers[0].issue_token(caller(), request.clone()).await.unwrap();
                let two = world.brokers[0].issue_token(caller(), request).await.unwrap();
                assert!(two.from_cache && one.token == two.token);
                serials.insert(MapAcs::serial_of(&one.token));
            }
        }
        assert_eq!(serials.len(), 62);
    });
}

#[test]
fn a_refresh_is_never_from_the_cache_and_feeds_it() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let missing = world.brokers[0].refresh_token(caller(), refresh(&alice)).await.unwrap_err();
        assert_eq!(missing.reason(), "IDENTITY_NOT_FOUND");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let second = world.brokers[0].refresh_token(caller(), refresh(&alice)).await.unwrap();
        assert!(second.token != first.token && !second.from_cache);
        let third = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(third.token == second.token && third.from_cache);
    });
}

#[test]
fn while_acs_is_away_a_short_token_is_served_degraded_until_its_last_minute() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(served.degraded && served.token == first.token);
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(59)));
        let refused = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(refused.reason(), "ACS_UNAVAILABLE");
        world.faults.acs_away.store(false, Ordering::SeqCst);
        let again = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!again.degraded && again.token != first.token);
    });
}

#[test]
fn a_hanging_acs_costs_a_caller_with_a_usable_token_one_second_and_the_next_ones_nothing_new() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        world.faults.acs_slow_ms.store(8_000, Ordering::SeqCst);
        let began = tokio::time::Instant::now();
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(served.degraded);
        assert_eq!(began.elapsed().as_secs(), 1);
        world.settled().await;
        assert_eq!(world.upstream().1, 1);
        let better = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(better.from_cache && !better.degraded, "the work behind the caller's back was not lost");
    });
}

#[test]
fn a_revocation_during_an_outage_leaves_nothing_to_fall_back_to() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.clock.set(first.token.expires_at.minus(Duration::from_secs(600)));
        world.faults.acs_slow_ms.store(500, Ordering::SeqCst);
        world.faults.acs_away.store(true, Ordering::SeqCst);
        let waiting = {
            let (broker, alice) = (world.brokers[0].clone(), alice.clone());
            tokio::spawn(async move { broker.issue_token(caller(), chat(&alice)).await })
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        // ACS does not answer, so the revocation is not complete; the fence is up all the same.
        let revoked = world.brokers[1].revoke_tokens(caller(), alice, None).await;
        assert_eq!(revoked.unwrap_err().reason(), "ACS_UNAVAILABLE");
        assert_eq!(waiting.await.unwrap().unwrap_err().reason(), "ACS_UNAVAILABLE");
    });
}

#[test]
fn a_token_that_is_expired_on_arrival_is_refused_after_one_call_upstream() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.acs_clock_behind_ms.store(48 * 3_600_000, Ordering::SeqCst);
        let refused = world.brokers[0].issue_token(caller(), chat(&user("alice"))).await.unwrap_err();
        assert_eq!(refused.reason(), "INTERNAL");
        assert_eq!(world.upstream(), (1, 0, 1));
    });
}

#[test]
fn a_token_of_a_credential_no_longer_in_use_is_replaced() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.key.store(1, Ordering::SeqCst);
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(!second.from_cache && second.token != first.token);
    });
}

#[test]
fn a_caller_who_hangs_up_leaves_the_work_running() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        world.faults.acs_slow_ms.store(1_000, Ordering::SeqCst);
        let alice = user("alice");
        let gave_up = tokio::time::timeout(
            Duration::from_millis(10),
            world.brokers[0].issue_token(caller(), chat(&alice)),
        );
        assert!(gave_up.await.is_err());
        world.settled().await;
        assert!(world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap().from_cache);
        assert_eq!(world.upstream(), (1, 0, 1));
    });
}

#[test]
fn a_retried_revocation_spares_the_tokens_issued_since() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let (alice, bob) = (user("alice"), user("bob"));
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        let id = || Some("7f2c".to_owned());
        world.brokers[0].revoke_tokens(caller(), alice.clone(), id()).await.unwrap();
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.token != first.token);
        world.brokers[1].revoke_tokens(caller(), alice.clone(), id()).await.unwrap();
        let third = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(third.token == second.token);
        let reused = world.brokers[1].revoke_tokens(caller(), bob, id()).await.unwrap_err();
        assert_eq!(reused.reason(), "IDEMPOTENCY_KEY_REUSED");
    });
}

#[test]
fn a_failed_revocation_can_be_retried_under_the_same_id() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        let id = || Some("7f2c".to_owned());
        assert!(world.brokers[0].revoke_tokens(caller(), alice.clone(), id()).await.is_err());
        world.faults.acs_away.store(false, Ordering::SeqCst);
        world.brokers[0].revoke_tokens(caller(), alice, id()).await.unwrap();
        assert_eq!(lock(&world.acs.state).alive.values().next(), Some(&1));
    });
}

#[test]
fn a_request_that_still_runs_is_not_run_twice() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_slow_ms.store(1_000, Ordering::SeqCst);
        let id = || Some("7f2c".to_owned());
        let (one, two) = tokio::join!(
            world.brokers[0].revoke_tokens(caller(), alice.clone(), id()),
            world.brokers[1].revoke_tokens(caller(), alice.clone(), id()),
        );
        one.unwrap();
        let running = two.unwrap_err();
        assert_eq!(running.reason(), "REQUEST_IN_PROGRESS");
        assert_eq!(running.retry_after(), Some(Duration::from_secs(1)), "not as long as the claim may last");
    });
}

#[test]
fn a_deleted_user_starts_over_with_a_new_identity() {
    paused().block_on(async {
        let world = world(1, 2, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.brokers[1].delete_identity(caller(), alice.clone(), None).await.unwrap();
        assert_eq!(world.upstream().2, 0);
        let missing = world.brokers[0].get_identity(caller(), alice.clone()).await.unwrap_err();
        assert_eq!(missing.reason(), "IDENTITY_NOT_FOUND");
        let second = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        assert!(second.identity != first.identity && second.token != first.token);
        let again = world.brokers[1].delete_identity(caller(), user("bob"), None).await.unwrap_err();
        assert_eq!(again.reason(), "IDENTITY_NOT_FOUND");
    });
}

#[test]
fn a_deletion_interrupted_by_acs_is_finished_by_the_next_one() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        let first = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.acs_away.store(true, Ordering::SeqCst);
        assert!(world.brokers[0].delete_identity(caller(), alice.clone(), None).await.is_err());
        let found = world.brokers[0].get_identity(caller(), alice.clone()).await.unwrap();
        assert_eq!(found.1.identity, first.identity);
        // A deletion that has begun ends the tokens, whatever becomes of it.
        let served = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(served.reason(), "ACS_UNAVAILABLE");
        world.faults.acs_away.store(false, Ordering::SeqCst);
        world.brokers[0].delete_identity(caller(), alice, None).await.unwrap();
        assert_eq!(world.upstream().2, 0);
    });
}

#[test]
fn an_import_changes_nothing_it_contradicts() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let broker = &world.brokers[0];
        let (alice, bob) = (user("alice"), user("bob"));
        let (one, two) = (IdentityId::parse("8:acs:one").unwrap(), IdentityId::parse("8:acs:two").unwrap());
        let import = async |user: &UserId, identity: &IdentityId, dry| {
            broker
                .import_identity(caller(), user.clone(), identity.clone(), None, dry)
                .await
                .map_err(|e| e.reason())
        };
        assert_eq!(import(&alice, &one, true).await, Ok(Imported::New));
        assert_eq!(import(&alice, &one, false).await, Ok(Imported::New));
        for dry in [true, false] {
            assert_eq!(import(&alice, &one, dry).await, Ok(Imported::Unchanged));
            assert_eq!(import(&alice, &two, dry).await, Err("IDENTITY_ALREADY_LINKED"));
            assert_eq!(import(&bob, &one, dry).await, Err("IDENTITY_ALREADY_LINKED"));
        }
        let found = broker.get_identity_by_acs_id(caller(), one).await.unwrap();
        assert_eq!(found.0, alice);
    });
}

#[test]
fn no_expired_or_short_token_is_served_undegraded_over_100_000_cases() {
    const WORLDS: u64 = 2_000;
    const CALLS: u64 = 50;
    let (mut served, mut cached, mut degraded, mut refused) = (0_u64, 0_u64, 0_u64, 0_u64);
    for seed in 0..WORLDS {
        paused().block_on(async {
            let world = world(seed, 2, 0);
            let mut random = StdRng::seed_from_u64(seed ^ 0x5eed);
            let users = [user("alice"), user("bob")];
            for _ in 0..CALLS {
                let step = match random.random_range(0..4) {
                    0 => 0,
                    1 => random.random_range(0..600),
                    2 => random.random_range(0..7_200),
                    _ => random.random_range(0..90_000),
                };
                world.clock.advance(Duration::from_secs(step));
                world.faults.acs_away.store(random.random_range(0..3) == 0, Ordering::SeqCst);
                let validity = Validity::from_minutes(random.random_range(60..=1440)).unwrap();
                let validity = [validity, Validity::MIN, Validity::MAX][random.random_range(0..3)];
                let most = validity.as_duration().as_secs() - 300;
                let min_remaining =
                    Duration::from_secs(if random.random() { 0 } else { random.random_range(0..=most) });
                let request = IssueToken {
                    validity: Some(validity),
                    min_remaining,
                    ..chat(&users[random.random_range(0..2)])
                };
                match world.brokers[random.random_range(0..2)].issue_token(caller(), request).await {
                    Ok(token) => {
                        let left = token.token.expires_at.since(world.clock.now());
                        assert!(left >= Duration::from_secs(60), "seed {seed}: {left:?} left");
                        let promised = min_remaining.max(Duration::from_secs(15 * 60));
                        assert!(token.degraded || left >= promised, "seed {seed}: {left:?} of {promised:?}");
                        assert!(token.refresh_at < token.token.expires_at);
                        served += 1;
                        cached += u64::from(token.from_cache);
                        degraded += u64::from(token.degraded);
                    }
                    Err(error) => {
                        assert_eq!(error.reason(), "ACS_UNAVAILABLE", "seed {seed}");
                        refused += 1;
                    }
                }
            }
        });
    }
    println!("{served} served: {cached} from the cache, {degraded} degraded; {refused} refused");
    assert_eq!(served + refused, 100_000);
    assert!(cached > 10_000 && degraded > 100, "every outcome must be exercised");
}
