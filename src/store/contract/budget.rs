//! The rules of `CallBudget`. Limits of an hour do not move while a rule runs; short ones are waited for.

use super::*;
use crate::broker::ports::{Limit, Taken};

fn limit(window: Duration, max: u32) -> Limit {
    Limit { window, max }
}

async fn take(h: &Harness, bucket: &str, limits: &[Limit], cost: u32) -> Taken {
    h.stores.budget.take(bucket, limits, cost).await.unwrap()
}

fn refused(taken: Taken) -> bool {
    matches!(taken, Taken::ComeBack { after } if after > Duration::ZERO)
}

pub(crate) async fn what_is_allowed_is_taken_and_no_more(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 5), limit(2 * HOUR, 7)]);
    assert_eq!(take(h, &bucket, &limits, 1).await, Taken::Go { remaining: 4 });
    assert_eq!(take(h, &bucket, &limits, 3).await, Taken::Go { remaining: 1 });
    assert!(refused(take(h, &bucket, &limits, 2).await));
    assert_eq!(take(h, &bucket, &limits, 1).await, Taken::Go { remaining: 0 });
    let Taken::ComeBack { after } = take(h, &bucket, &limits, 1).await else { panic!("more than there was") };
    // A window, and at most a slice of it more; nothing can be free again at once.
    assert!(after > HOUR / 2 && after <= HOUR + HOUR / 9, "{after:?}");
}

pub(crate) async fn of_100_concurrent_takers_only_as_many_as_fit_go(h: &Harness) {
    let bucket = h.name("bucket");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stores, bucket) = (h.stores.clone(), bucket.clone());
        tasks.spawn(async move {
            let limits = [limit(HOUR, 30), limit(2 * HOUR, 21)];
            stores.budget.take(&bucket, &limits, 2).await.unwrap()
        });
    }
    let taken = tasks.join_all().await;
    assert_eq!(taken.iter().filter(|taken| matches!(taken, Taken::Go { .. })).count(), 10);
}

pub(crate) async fn a_take_that_one_limit_refuses_takes_nothing_from_the_others(h: &Harness) {
    let bucket = h.name("bucket");
    let both = [limit(HOUR, 10), limit(2 * HOUR, 3)];
    assert_eq!(take(h, &bucket, &both, 2).await, Taken::Go { remaining: 1 });
    for _ in 0..5 {
        assert!(refused(take(h, &bucket, &both, 2).await));
    }
    // Only what went was counted, under the wide limit too: 2 of 10.
    assert_eq!(take(h, &bucket, &both, 1).await, Taken::Go { remaining: 0 });
    assert_eq!(take(h, &bucket, &both[..1], 7).await, Taken::Go { remaining: 0 });
}

pub(crate) async fn in_no_window_is_more_than_the_maximum_taken(h: &Harness) {
    let (bucket, window, max) = (h.name("bucket"), Duration::from_millis(300), 4);
    let limits = [limit(window, max), limit(Duration::from_millis(500), 6)];
    // When each take began and ended; it happened in between.
    let mut taken: Vec<(Timestamp, Timestamp)> = Vec::new();
    let start = h.now();
    while h.now().since(start) < Duration::from_millis(1500) {
        let before = h.now();
        if let Taken::Go { .. } = take(h, &bucket, &limits, 1).await {
            taken.push((before, h.now()));
        }
        h.elapse(Duration::from_millis(9));
        if matches!(h.time, Time::Real) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    assert!(taken.len() >= 12, "the budget does not come back: {}", taken.len());
    for limit in &limits {
        for run in taken.windows(limit.max as usize + 1) {
            let (first, last) = (run.first().unwrap(), run.last().unwrap());
            // Even if the first happened as early and the last as late as can be.
            let apart = last.1.since(first.0);
            assert!(apart >= limit.window, "{} takes within {apart:?}, {limit:?}", run.len());
        }
    }
}

pub(crate) async fn after_the_wait_it_fits_again(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(SHORT, 3), limit(LONG, 1000)]);
    assert!(matches!(take(h, &bucket, &limits, 3).await, Taken::Go { .. }));
    // On a slow machine the time may be over already.
    if let Taken::ComeBack { after } = take(h, &bucket, &limits, 1).await {
        assert!(after > Duration::ZERO && after <= SHORT + SHORT / 9, "{after:?}");
        h.elapse(after);
    }
    h.until("the budget is free again", || async {
        matches!(take(h, &bucket, &limits, 1).await, Taken::Go { .. })
    })
    .await;
}

pub(crate) async fn a_cost_that_never_fits_is_refused_and_nothing_is_taken(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 5), limit(2 * HOUR, 9)]);
    assert!(refused(take(h, &bucket, &limits, 6).await));
    assert!(refused(take(h, &bucket, &limits, u32::MAX).await));
    assert!(refused(take(h, &bucket, &[limit(HOUR, 0)], 1).await));
    assert_eq!(take(h, &bucket, &limits, 5).await, Taken::Go { remaining: 0 });
}

pub(crate) async fn no_limit_and_no_cost_always_go(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 1)]);
    assert!(matches!(take(h, &bucket, &[], 5).await, Taken::Go { .. }));
    assert_eq!(take(h, &bucket, &limits, 0).await, Taken::Go { remaining: 1 });
    assert_eq!(take(h, &bucket, &limits, 1).await, Taken::Go { remaining: 0 });
    assert_eq!(take(h, &bucket, &limits, 0).await, Taken::Go { remaining: 0 });
    // The longest window and the largest maximum are numbers like any other.
    let widest = [limit(Duration::MAX, u32::MAX)];
    let other = h.name("bucket");
    assert!(matches!(take(h, &other, &widest, u32::MAX).await, Taken::Go { .. }));
    assert!(refused(take(h, &other, &widest, 1).await));
}

pub(crate) async fn buckets_with_odd_names_stay_apart(h: &Harness) {
    let (stem, limits) = (h.name(""), [limit(HOUR, 1)]);
    for name in odd_names() {
        let bucket = format!("{name}{stem}");
        assert_eq!(take(h, &bucket, &limits, 1).await, Taken::Go { remaining: 0 }, "{name}");
        assert!(refused(take(h, &bucket, &limits, 1).await), "{name}");
    }
}
