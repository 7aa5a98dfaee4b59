//! The rules of `LeaseStore`.

use std::time::Duration;

use super::*;
use crate::broker::ports::{Acquired, Lease};

async fn wish(h: &Harness, name: &str, ttl: Duration) -> Acquired {
    h.stores.leases.try_acquire(name, ttl).await.unwrap()
}

async fn granted(h: &Harness, name: &str, ttl: Duration) -> Lease {
    match wish(h, name, ttl).await {
        Acquired::Granted(lease) => lease,
        Acquired::Held(wait) => panic!("held by somebody for {wait:?}"),
    }
}

async fn held_for(h: &Harness, name: &str) -> Duration {
    match wish(h, name, LONG).await {
        Acquired::Granted(_) => panic!("granted although it is held"),
        Acquired::Held(wait) => wait,
    }
}

pub(crate) async fn a_lease_is_exclusive(h: &Harness) {
    let name = h.name("lease");
    let lease = granted(h, &name, LONG).await;
    assert_eq!(lease.name, name);
    for _ in 0..2 {
        let wait = held_for(h, &name).await;
        assert!(wait > Duration::ZERO && wait <= LONG, "{wait:?}");
    }
}

pub(crate) async fn of_100_concurrent_wishes_one_is_granted(h: &Harness) {
    let name = h.name("lease");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stores, name) = (h.stores.clone(), name.clone());
        tasks.spawn(async move { stores.leases.try_acquire(&name, LONG).await.unwrap() });
    }
    let answers = tasks.join_all().await;
    assert_eq!(answers.iter().filter(|answer| matches!(answer, Acquired::Granted(_))).count(), 1);
}

pub(crate) async fn a_released_lease_is_granted_again_with_a_larger_fence(h: &Harness) {
    let name = h.name("lease");
    let mut before = granted(h, &name, LONG).await;
    for _ in 0..5 {
        h.stores.leases.release(&before).await.unwrap();
        let next = granted(h, &name, LONG).await;
        assert!(next.fence > before.fence, "{} after {}", next.fence, before.fence);
        assert_ne!(next.nonce, before.nonce);
        before = next;
    }
}

pub(crate) async fn only_its_holder_releases_a_lease(h: &Harness) {
    let name = h.name("lease");
    let first = granted(h, &name, LONG).await;
    h.stores.leases.release(&first).await.unwrap();
    let second = granted(h, &name, LONG).await;
    // Released twice, released with another's nonce: the second holder keeps it.
    h.stores.leases.release(&first).await.unwrap();
    held_for(h, &name).await;
    h.stores.leases.release(&Lease { nonce: [0; 16], ..second.clone() }).await.unwrap();
    held_for(h, &name).await;
    h.stores.leases.release(&second).await.unwrap();
    granted(h, &name, LONG).await;
}

pub(crate) async fn a_lease_ends_by_itself_and_its_fence_grows(h: &Harness) {
    let name = h.name("lease");
    let began = h.now();
    let first = granted(h, &name, SHORT).await;
    h.elapse(SHORT);
    let second = std::sync::Mutex::new(None);
    h.until("the lease ends", || async {
        match wish(h, &name, LONG).await {
            Acquired::Granted(lease) => second.lock().unwrap().replace(lease).is_none(),
            Acquired::Held(_) => false,
        }
    })
    .await;
    assert!(h.now().since(began) + Duration::from_millis(2) >= SHORT, "ended before its time");
    let second = second.into_inner().unwrap().unwrap();
    assert!(second.fence > first.fence);
    // The first holder has lost it for good.
    assert!(!h.stores.leases.renew(&first, LONG).await.unwrap());
    h.stores.leases.release(&first).await.unwrap();
    held_for(h, &name).await;
}

pub(crate) async fn a_renewed_lease_lasts_longer(h: &Harness) {
    let name = h.name("lease");
    let lease = granted(h, &name, LONG / 2).await;
    assert!(held_for(h, &name).await <= LONG / 2);
    assert!(h.stores.leases.renew(&lease, LONG).await.unwrap());
    assert!(held_for(h, &name).await > LONG / 2);
    // It may be made shorter, too.
    assert!(h.stores.leases.renew(&lease, SHORT).await.unwrap());
    h.elapse(SHORT);
    // Each look renews it, so it must end sooner than the next look comes.
    let moment = Duration::from_millis(1);
    h.until("the lease ends", || async { !h.stores.leases.renew(&lease, moment).await.unwrap() }).await;
}

pub(crate) async fn only_its_holder_renews_a_lease(h: &Harness) {
    let name = h.name("lease");
    let lease = granted(h, &name, LONG / 2).await;
    assert!(!h.stores.leases.renew(&Lease { nonce: [0; 16], ..lease.clone() }, LONG).await.unwrap());
    assert!(held_for(h, &name).await <= LONG / 2);
    h.stores.leases.release(&lease).await.unwrap();
    assert!(!h.stores.leases.renew(&lease, LONG).await.unwrap());
    granted(h, &name, LONG).await;
}

pub(crate) async fn leases_with_odd_names_stay_apart(h: &Harness) {
    let stem = h.name("");
    for name in odd_names() {
        let name = format!("{name}{stem}");
        let lease = granted(h, &name, LONG).await;
        held_for(h, &name).await;
        h.stores.leases.release(&lease).await.unwrap();
        granted(h, &name, LONG).await;
    }
}
