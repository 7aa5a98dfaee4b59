//! Changing keys, on virtual time: what is replaced, what is served meanwhile, and when it is safe to let a key go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::world::*;
use crate::broker::ports::Acquired;
use crate::broker::rotation::RotationStatus;
use crate::broker::types::KeyId;

const USERS: usize = 50;

/// Time goes by, and the broker is tended as `app` does it.
async fn tend(world: &World, broker: usize, seconds: u64) -> RotationStatus {
    for _ in 0..seconds {
        world.brokers[broker].tend_rotation(1000).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    world.brokers[broker].rotation()
}

async fn everybody(world: &World, broker: usize) -> usize {
    let mut cached = 0;
    for number in 0..USERS {
        let wish = chat(&user(&format!("user-{number}")));
        cached += usize::from(world.brokers[broker].issue_token(caller(), wish).await.unwrap().from_cache);
    }
    cached
}

#[test]
fn every_token_of_the_old_key_is_replaced_before_it_is_said_to_be_safe() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        assert_eq!(everybody(&world, 0).await, 0);
        let before = tend(&world, 0, 40).await;
        assert_eq!((before.tokens_of_other_keys, before.not_yet()), (Some(0), None), "nothing to do");
        // The time passes that makes tokens older than the change.
        world.clock.advance(Duration::from_secs(60));
        world.faults.key.store(1, Ordering::SeqCst);
        world.faults.others.store(1, Ordering::SeqCst);
        assert!(world.brokers[0].rotation().not_yet().is_some(), "not looked through since the change");
        let issued = world.upstream().1;
        let after = tend(&world, 0, 60).await;
        assert_eq!((after.tokens_of_other_keys, after.not_yet()), (Some(0), None));
        assert_eq!((after.reissued, world.upstream().1 - issued), (USERS as u64, USERS as u64));
        assert_eq!(everybody(&world, 0).await, USERS, "nobody waits for a new one");
        assert_eq!(world.upstream().1 - issued, USERS as u64);
    });
}

#[test]
fn what_cannot_be_replaced_yet_is_not_safe() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        everybody(&world, 0).await;
        world.clock.advance(Duration::from_secs(60));
        world.faults.key.store(1, Ordering::SeqCst);
        world.faults.others.store(1, Ordering::SeqCst);
        world.faults.acs_away.store(true, Ordering::SeqCst);
        let status = tend(&world, 0, 120).await;
        assert_eq!(status.tokens_of_other_keys, Some(USERS as u64));
        assert!(status.not_yet().is_some());
        // They are served meanwhile, and not degraded: their key is alive.
        assert_eq!(everybody(&world, 0).await, USERS);
        world.faults.acs_away.store(false, Ordering::SeqCst);
        assert_eq!(tend(&world, 0, 120).await.not_yet(), None);
    });
}

#[test]
fn a_token_of_a_dead_key_is_not_even_served_when_acs_is_away() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let alice = user("alice");
        world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap();
        world.faults.key.store(1, Ordering::SeqCst);
        world.faults.acs_away.store(true, Ordering::SeqCst);
        world.faults.others.store(1, Ordering::SeqCst);
        assert!(world.brokers[0].issue_token(caller(), chat(&alice)).await.is_ok(), "of a living key");
        world.faults.others.store(2, Ordering::SeqCst);
        let refused = world.brokers[0].issue_token(caller(), chat(&alice)).await.unwrap_err();
        assert_eq!(refused.reason(), "ACS_UNAVAILABLE");
        assert_eq!(tend(&world, 0, 60).await.not_yet(), None, "dead tokens hold nothing up");
    });
}

/// Says, as another replica would, that somebody signs with this key; whether nobody said so before.
async fn says(world: &World, key: KeyId, seconds: u64) -> bool {
    let lease = format!("acs-key/{}", key.hex());
    let leases = &world.brokers[0].core.stores.leases;
    matches!(leases.try_acquire(&lease, Duration::from_secs(seconds)).await.unwrap(), Acquired::Granted(_))
}

/// A broker that has changed its key, and tokens of the other key whose replacement takes about 50 s.
async fn changed() -> World {
    let world = world(1, 1, 0);
    everybody(&world, 0).await;
    tend(&world, 0, 40).await;
    world.clock.advance(Duration::from_secs(60));
    world.faults.key.store(1, Ordering::SeqCst);
    world.faults.others.store(1, Ordering::SeqCst);
    world
}

#[test]
fn a_replica_that_walks_for_long_still_says_which_key_it_signs_with() {
    paused().block_on(async {
        let world = changed().await;
        let key = world.brokers[0].rotation().signing.key;
        let walk = world.brokers[0].tend_rotation(1);
        let watch = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // A lease of its own would last for 30 s.
            for second in 0..48 {
                assert!(!says(&world, key, 1).await, "nobody seems to sign with it, {second} s on");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (walked, ()) = tokio::join!(walk, watch);
        walked.unwrap();
        assert_eq!(world.brokers[0].rotation().reissued, USERS as u64, "it was all one walk");
    });
}

#[test]
fn a_walk_during_which_somebody_signed_with_another_key_proves_nothing() {
    for visited in [false, true] {
        paused().block_on(async {
            let world = changed().await;
            // The key before is the spare one now. Its tokens stay until ACS is back, and nobody signs with it.
            world.faults.spare.store(1, Ordering::SeqCst);
            world.faults.acs_away.store(true, Ordering::SeqCst);
            assert_eq!(tend(&world, 0, 60).await.tokens_of_other_keys, Some(USERS as u64));
            world.faults.acs_away.store(false, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_secs(16)).await;
            let other = world.brokers[0].rotation().signing.spare.unwrap();
            let began = tokio::time::Instant::now();
            let walk = world.brokers[0].tend_rotation(1);
            // A replica with the old settings comes and goes.
            let visit = async {
                tokio::time::sleep(Duration::from_secs(10)).await;
                assert!(!visited || says(&world, other, 8).await);
            };
            let (walked, ()) = tokio::join!(walk, visit);
            walked.unwrap();
            assert!(began.elapsed() > Duration::from_secs(40), "it was a long walk");
            let status = world.brokers[0].rotation();
            // What it issued meanwhile was not looked for.
            assert_eq!(status.not_yet().is_some(), visited, "{status:?}");
            assert_eq!(tend(&world, 0, 60).await.not_yet(), None, "another walk tells");
        });
    }
}

#[test]
fn a_key_counts_as_used_for_a_while_after_it_was_last_said() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        // No key, plus one.
        world.faults.spare.store(8, Ordering::SeqCst);
        let other = KeyId(7u64.to_be_bytes());
        assert!(says(&world, other, 30).await);
        assert!(tend(&world, 0, 10).await.used_elsewhere);
        // The one who signs with it may have been late to say so again.
        assert!(tend(&world, 0, 26).await.used_elsewhere);
        assert!(!tend(&world, 0, 20).await.used_elsewhere);
    });
}

#[test]
fn replicas_that_sign_with_different_keys_do_not_replace_each_others_tokens_in_a_ring() {
    paused().block_on(async {
        let world = world(1, 1, 0);
        let other = KeyId(0u64.to_be_bytes());
        // The clock stands still: as if they were issued by the other one after this one had changed.
        everybody(&world, 0).await;
        world.faults.key.store(1, Ordering::SeqCst);
        world.faults.spare.store(1, Ordering::SeqCst);
        world.faults.others.store(1, Ordering::SeqCst);
        assert!(says(&world, other, 3600).await);
        let status = tend(&world, 0, 200).await;
        assert_eq!((status.reissued, status.tokens_of_other_keys), (0, Some(USERS as u64)), "{status:?}");
        assert!(status.not_yet().is_some());
    });
}
