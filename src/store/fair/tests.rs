//! The arithmetic of fair budgets, by properties: no window holds more than its maximum, and shares are even.

use super::*;
use proptest::prelude::*;

fn limit(window_ms: u64, max: u32) -> Limit {
    Limit { window: Duration::from_millis(window_ms), max }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

proptest! {
    #[test]
    fn in_no_window_is_more_than_the_maximum_taken(
        limits in prop::collection::vec((1u64..5000, 0u32..30), 1..4),
        steps in prop::collection::vec((0u64..700, 0u32..8, 0usize..5), 1..250),
    ) {
        let limits: Vec<Limit> = limits.iter().map(|&(length, max)| limit(length, max)).collect();
        let (windows, mut bucket) = (windows(&limits), Bucket::default());
        let mut now = 1_000_000;
        let mut taken: Vec<(u64, u32)> = Vec::new();
        for (pause, cost, caller) in steps {
            now += pause;
            match bucket.take(["a", "b", "c", "d", ""][caller], &windows, cost, at(now)) {
                Taken::Go { remaining } => {
                    taken.push((now, cost));
                    for limit in &limits {
                        let since = now - u64::try_from(limit.window.as_millis()).unwrap();
                        let within = taken.iter().filter(|&&(at, _)| at >= since);
                        let used: u32 = within.map(|&(_, cost)| cost).sum();
                        prop_assert!(used <= limit.max, "{} of {} in {:?}", used, limit.max, limit.window);
                        prop_assert!(remaining <= limit.max - used);
                    }
                }
                Taken::ComeBack { after } => prop_assert!(after > Duration::ZERO),
            }
        }
    }

    #[test]
    fn whoever_waits_alone_for_two_windows_gets_what_can_be_got(
        steps in prop::collection::vec((0u64..300, 1u32..9, 0usize..4), 1..120), cost in 1u32..=8,
    ) {
        let (windows, mut bucket) = (windows(&[limit(3000, 8)]), Bucket::default());
        let mut now = 1_000_000;
        for (pause, cost, caller) in steps {
            now += pause;
            bucket.take(["a", "b", "c", "d"][caller], &windows, cost, at(now));
        }
        let taken = bucket.take("a", &windows, cost, at(now + 6000));
        prop_assert!(matches!(taken, Taken::Go { .. }), "{:?}", taken);
    }
}

#[test]
fn callers_are_bounded_and_those_beyond_share_a_place() {
    let (windows, mut bucket) = (windows(&[limit(60_000, 10_000)]), Bucket::default());
    for number in 0..3 * CALLERS {
        let taken = bucket.take(&number.to_string(), &windows, 1, at(1_000_000));
        assert!(matches!(taken, Taken::Go { .. }), "{number}");
    }
    assert_eq!(bucket.callers.len(), CALLERS + 1);
    // Those who are gone make room.
    bucket.take("another", &windows, 1, at(2_000_000));
    assert_eq!(bucket.callers.len(), 1);
}

#[test]
fn a_clock_set_back_neither_frees_the_budget_nor_blocks_it_for_longer_than_a_window() {
    let (windows, mut bucket) = (windows(&[limit(1000, 1)]), Bucket::default());
    let mut take = |now| bucket.take("a", &windows, 1, at(now));
    assert!(matches!(take(100_000_000), Taken::Go { .. }));
    let Taken::ComeBack { after } = take(5_000) else { panic!("freed by the clock") };
    assert!(after <= Duration::from_millis(1200), "{after:?}");
    assert!(matches!(take(5_000 + 1200), Taken::Go { .. }));
    bucket.pause(Duration::from_secs(5), at(200_000_000));
    let Taken::ComeBack { after } = bucket.take("a", &windows, 1, at(1_000)) else { panic!("freed") };
    assert_eq!(after, Duration::from_secs(5));
    assert!(matches!(bucket.take("a", &windows, 1, at(u64::MAX)), Taken::Go { .. }));
}

#[test]
fn one_who_asks_once_and_never_comes_back_does_not_keep_a_whole_budget() {
    let (windows, mut bucket) = (windows(&[limit(10_000, 10)]), Bucket::default());
    let mut take = |caller, cost, now| bucket.take(caller, &windows, cost, at(now));
    assert!(matches!(take("a", 1, 100_000), Taken::Go { .. }));
    let Taken::ComeBack { after } = take("b", 10, 100_000) else { panic!("more than there was") };
    // Nobody came for the batch: a slice later the others go on.
    let later = 100_000 + u64::try_from(after.as_millis()).unwrap() + 1000;
    assert!(matches!(take("a", 1, later), Taken::Go { .. }));
}

/// Runs a flood that asks every 10 ms against one who asks from `from` on, every `every` ms; both are known here. The
/// times at which the other one got a unit.
fn flooded(window: u64, max: u32, phase: u64, from: u64, every: u64, until: u64) -> Vec<u64> {
    let (windows, mut bucket) = (windows(&[limit(window, max)]), Bucket::default());
    let start = 1_000_000_000 + phase;
    bucket.take("other", &windows, 1, at(start));
    let mut got = Vec::new();
    for now in (10..until).step_by(10) {
        bucket.take("flood", &windows, 1, at(start + now));
        if now >= from
            && (now - from) % every < 10
            && matches!(bucket.take("other", &windows, 1, at(start + now)), Taken::Go { .. })
        {
            got.push(now);
        }
    }
    got
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Against a flood a caller that the bucket knows waits for half a window and a slice at most, and has its even
    /// share of the window that begins with its first ask, whenever that is.
    #[test]
    fn a_known_caller_has_its_share_from_its_first_ask_on(
        max in 8u32..60, phase in 0u64..2000, from in 10u64..7000, spread in 1u64..4,
    ) {
        let window = 2000;
        let every = (window / u64::from(max) / (spread + 1)).max(10);
        let got = flooded(window, max, phase, from, every, from + window);
        let share = f64::from(max) / 2.0;
        // The unit by which it became known is of its share as long as it counts.
        let known_by = usize::from(from < window + window / 10);
        prop_assert!(got.first().is_some_and(|first| first - from <= window / 2 + window / 10), "{:?}", got.first());
        let all = got.len() + known_by;
        prop_assert!(all as f64 >= (share * 0.9).floor(), "{all} of {share}");
    }
}
