//! Fair budgets of this process: the arithmetic of `store::fair` under a lock, in memory as the plain budgets are.
//!
//! Bounded: a bucket of which nothing counts is dropped when room is needed, and without room a new one is refused.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Embedded;
use super::writer::Refusal;
use crate::broker::ports::{Limit, StoreError};
use crate::clock::Timestamp;
use crate::messaging::ports::{FairBudget, FairTake};
use crate::store::fair::{Bucket, windows};

/// Buckets known at the same time.
const BUCKETS: usize = 10_000;

/// All buckets of this process.
#[derive(Debug, Default)]
pub(super) struct FairBudgets(Mutex<HashMap<String, Bucket>>);

impl FairBudgets {
    fn with<R>(&self, name: &str, now: Timestamp, work: impl FnOnce(&mut Bucket) -> R) -> Result<R, Refusal> {
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !buckets.contains_key(name) && buckets.len() >= BUCKETS {
            buckets.retain(|_, bucket| !bucket.is_idle(now));
            if buckets.len() >= BUCKETS {
                return Err(Refusal::Full);
            }
        }
        Ok(work(buckets.entry(name.to_owned()).or_default()))
    }
}

#[async_trait]
impl FairBudget for Embedded {
    async fn take_fair(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
    ) -> Result<FairTake, StoreError> {
        let (windows, now) = (windows(limits), self.engine.clock().now());
        let taken = self.fair_budgets.with(bucket, now, |bucket| bucket.take(caller, &windows, cost, now))?;
        Ok(FairTake { taken, at: now })
    }

    async fn give_back(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
        taken_at: Timestamp,
    ) -> Result<(), StoreError> {
        let (windows, now) = (windows(limits), self.engine.clock().now());
        let work = |bucket: &mut Bucket| bucket.give_back(caller, &windows, cost, taken_at, now);
        Ok(self.fair_budgets.with(bucket, now, work)?)
    }

    async fn pause(&self, bucket: &str, time: Duration) -> Result<(), StoreError> {
        let now = self.engine.clock().now();
        Ok(self.fair_budgets.with(bucket, now, |bucket| bucket.pause(time, now))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_bounded_and_idle_ones_make_room() {
        let budgets = FairBudgets::default();
        let windows = windows(&[Limit { window: Duration::from_secs(1), max: 1 }]);
        let take = |name: &str, at| {
            let now = Timestamp::from_millis(at);
            budgets.with(name, now, |bucket| bucket.take("a", &windows, 1, now)).map(drop)
        };
        for number in 0..BUCKETS {
            take(&number.to_string(), 10_000).unwrap();
        }
        assert!(take("one more", 10_000).is_err());
        assert!(take("one more", 20_000).is_ok());
        assert_eq!(budgets.0.lock().unwrap().len(), 1);
    }
}
