//! Budgets of calls as sliding windows counted in slices: the arithmetic, which the script in Redis repeats.
//!
//! A window of `W` ms is counted in slices of `S = max(1, ceil(W / 10))` ms; slice `i` covers the times `i*S` to
//! `(i+1)*S - 1`. A take at time `t` counts in slice `floor(t / S)` until a whole window after the end of its slice:
//! at time `now` while `now < (i+1)*S + W`. As the end of a slice is later than any take in it, everything taken in the
//! last `W` ms counts at every take: so in no window more than the maximum is taken. The error, at most a slice (a
//! tenth of the window), is against the taker.
//!
//! A take of `cost` under several limits: for each, `used` = the sum of the slices that count. If `used + cost <= max`
//! for all, `cost` is added to the current slice of each, and what remains is the least `max - used - cost`. If not,
//! nothing is added, and for each limit in the way the wait is until so many slices, oldest first, have ended to count
//! that the cost fits; the longest of these waits is the answer. A cost over `max` never fits: the wait is the window.
//! Limits with the same window share their count; the least maximum of them holds.
//!
//! Embedded, this is process memory: one process owns the file, so there is nobody to share the count with, and after
//! a restart the start-up time of the process is all that is forgotten. It is bounded: a bucket without a counting
//! slice is dropped when room is needed, and without room a new bucket is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Embedded;
use super::writer::Refusal;
use crate::broker::ports::{CallBudget, Limit, StoreError, Taken};
use crate::clock::Timestamp;

/// Buckets counted at the same time.
const BUCKETS: usize = 10_000;

/// The window in milliseconds, at least one.
fn window_ms(limit: &Limit) -> u64 {
    u64::try_from(limit.window.as_millis()).unwrap_or(u64::MAX / 4).clamp(1, u64::MAX / 4)
}

/// The takes under one window.
#[derive(Debug)]
struct Window {
    length: u64,
    /// The number of each slice that may still count and what was taken in it, oldest first.
    slices: VecDeque<(u64, u64)>,
}

impl Window {
    fn slice(&self) -> u64 {
        self.length.div_ceil(10).max(1)
    }

    /// When the takes of a slice end to count.
    fn end(&self, number: u64) -> u64 {
        number.saturating_add(1).saturating_mul(self.slice()).saturating_add(self.length)
    }

    fn forget_past(&mut self, now: u64) {
        while self.slices.front().is_some_and(|&(number, _)| self.end(number) <= now) {
            self.slices.pop_front();
        }
    }

    fn used(&self) -> u64 {
        self.slices.iter().map(|&(_, taken)| taken).sum()
    }

    /// The time until `cost` fits under `max`; zero if it does.
    fn wait(&self, max: u64, cost: u64, now: u64) -> u64 {
        if cost > max {
            return self.length;
        }
        let mut used = self.used();
        for &(number, taken) in &self.slices {
            if used + cost <= max {
                return 0;
            }
            used -= taken;
            if used + cost <= max {
                return self.end(number).saturating_sub(now).max(1);
            }
        }
        0
    }

    fn take(&mut self, cost: u64, now: u64) {
        let number = now / self.slice();
        match self.slices.back_mut() {
            // Later only right after the clock was set back; then too the order stays.
            Some((last, taken)) if *last >= number => *taken += cost,
            _ => self.slices.push_back((number, cost)),
        }
    }

    /// Follows a clock that was set back, as if all takes had been made that much earlier, rounded against the taker.
    fn shift(&mut self, back: u64) {
        let by = back / self.slice();
        for (number, _) in &mut self.slices {
            *number = number.saturating_sub(by);
        }
    }
}

#[derive(Debug, Default)]
struct Bucket {
    windows: Vec<Window>,
    seen: u64,
}

/// All buckets of this process.
#[derive(Debug, Default)]
pub(super) struct Budgets(Mutex<HashMap<String, Bucket>>);

impl Budgets {
    fn take(&self, name: &str, limits: &[Limit], cost: u32, now: Timestamp) -> Result<Taken, Refusal> {
        let (now, cost) = (now.as_millis(), u64::from(cost));
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(name) && buckets.len() >= BUCKETS {
            buckets.retain(|_, bucket| {
                bucket
                    .windows
                    .iter()
                    .any(|window| window.slices.back().is_some_and(|&(last, _)| window.end(last) > now))
            });
            if buckets.len() >= BUCKETS {
                return Err(Refusal::Full);
            }
        }
        let bucket = buckets.entry(name.to_owned()).or_default();
        if now < bucket.seen {
            let back = bucket.seen - now;
            bucket.windows.iter_mut().for_each(|window| window.shift(back));
        }
        bucket.seen = now;
        bucket.windows.iter_mut().for_each(|window| window.forget_past(now));
        Ok(bucket.take(limits, cost, now))
    }
}

impl Bucket {
    fn take(&mut self, limits: &[Limit], cost: u64, now: u64) -> Taken {
        // The least maximum for each window.
        let mut most: Vec<(u64, u64)> = Vec::with_capacity(limits.len());
        for limit in limits {
            let (length, max) = (window_ms(limit), u64::from(limit.max));
            match most.iter_mut().find(|(known, _)| *known == length) {
                Some((_, least)) => *least = max.min(*least),
                None => most.push((length, max)),
            }
            if !self.windows.iter().any(|window| window.length == length) {
                self.windows.push(Window { length, slices: VecDeque::new() });
            }
        }
        let mut wait = 0;
        let mut remaining = u64::from(u32::MAX);
        for window in &self.windows {
            let Some(&(_, max)) = most.iter().find(|(length, _)| *length == window.length) else { continue };
            wait = wait.max(window.wait(max, cost, now));
            remaining = remaining.min(max.saturating_sub(window.used()).saturating_sub(cost));
        }
        if wait > 0 {
            return Taken::ComeBack { after: Duration::from_millis(wait) };
        }
        if cost > 0 {
            for window in &mut self.windows {
                if most.iter().any(|(length, _)| *length == window.length) {
                    window.take(cost, now);
                }
            }
        }
        Taken::Go { remaining: u32::try_from(remaining).unwrap_or(u32::MAX) }
    }
}

#[async_trait]
impl CallBudget for Embedded {
    async fn take(&self, bucket: &str, limits: &[Limit], cost: u32) -> Result<Taken, StoreError> {
        Ok(self.budgets.take(bucket, limits, cost, self.engine.clock().now())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(window_ms: u64, max: u32) -> Limit {
        Limit { window: Duration::from_millis(window_ms), max }
    }

    proptest! {
        #[test]
        fn in_no_window_is_more_than_the_maximum_taken(
            windows in prop::collection::vec((1u64..5000, 0u32..30), 1..4),
            steps in prop::collection::vec((0u64..700, 0u32..8), 1..200),
        ) {
            let limits: Vec<Limit> = windows.iter().map(|&(length, max)| limit(length, max)).collect();
            let budgets = Budgets::default();
            let mut now = 1_000_000;
            let mut taken: Vec<(u64, u32)> = Vec::new();
            for (pause, cost) in steps {
                now += pause;
                match budgets.take("b", &limits, cost, Timestamp::from_millis(now)).unwrap() {
                    Taken::Go { remaining } => {
                        taken.push((now, cost));
                        for limit in &limits {
                            let since = now - u64::try_from(limit.window.as_millis()).unwrap();
                            let used: u32 = taken.iter().filter(|&&(at, _)| at >= since).map(|&(_, cost)| cost).sum();
                            prop_assert!(used <= limit.max, "{} of {} in {:?}", used, limit.max, limit.window);
                            prop_assert!(remaining <= limit.max - used);
                        }
                    }
                    Taken::ComeBack { after } => prop_assert!(after > Duration::ZERO),
                }
            }
        }

        #[test]
        fn after_the_wait_it_fits_and_the_wait_is_at_most_a_slice_too_long(
            window in 1u64..5000, max in 1u32..30, steps in prop::collection::vec((0u64..300, 1u32..4), 1..80),
        ) {
            let limits = [limit(window, max)];
            let budgets = Budgets::default();
            let mut now = 1_000_000;
            let mut taken: Vec<(u64, u32)> = Vec::new();
            for (pause, cost) in steps {
                now += pause;
                let cost = cost.min(max);
                match budgets.take("b", &limits, cost, Timestamp::from_millis(now)).unwrap() {
                    Taken::Go { .. } => taken.push((now, cost)),
                    Taken::ComeBack { after } => {
                        let after = u64::try_from(after.as_millis()).unwrap();
                        // An exact count would have refused it a slice and a millisecond before, too.
                        let slice = window.div_ceil(10);
                        let before = now + after - slice - 1;
                        let used: u32 = taken
                            .iter()
                            .filter(|&&(at, _)| at + window > before)
                            .map(|&(_, cost)| cost)
                            .sum();
                        prop_assert!(before < now || used + cost > max);
                        now += after;
                        let again = budgets.take("b", &limits, cost, Timestamp::from_millis(now)).unwrap();
                        prop_assert!(matches!(again, Taken::Go { .. }), "{:?}", again);
                        taken.push((now, cost));
                    }
                }
            }
        }
    }

    #[test]
    fn a_clock_set_back_neither_frees_the_budget_nor_blocks_it_for_longer_than_a_window() {
        let budgets = Budgets::default();
        let limits = [limit(1000, 1)];
        let take = |at| budgets.take("b", &limits, 1, Timestamp::from_millis(at)).unwrap();
        assert!(matches!(take(100_000_000), Taken::Go { .. }));
        let Taken::ComeBack { after } = take(5_000) else { panic!("freed by the clock") };
        assert!(after <= Duration::from_millis(1200), "{after:?}");
        assert!(matches!(take(5_000 + 1200), Taken::Go { .. }));
    }

    #[test]
    fn buckets_are_bounded_and_idle_ones_make_room() {
        let budgets = Budgets::default();
        let limits = [limit(1000, 1)];
        for number in 0..BUCKETS {
            budgets.take(&number.to_string(), &limits, 1, Timestamp::from_millis(10_000)).unwrap();
        }
        assert!(budgets.take("one more", &limits, 1, Timestamp::from_millis(10_000)).is_err());
        assert!(budgets.take("one more", &limits, 1, Timestamp::from_millis(20_000)).is_ok());
        assert_eq!(budgets.0.lock().unwrap().len(), 1);
    }
}
