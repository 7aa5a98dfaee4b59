//! Fair budgets in Redis, shared by all replicas: the arithmetic of `store::fair` as a script, by Redis's clock.
//!
//! The file only prepares the limits and reads the answer; `scripts/fair.lua` decides. Used through the port.

use std::time::Duration;

use async_trait::async_trait;

use super::Redis;
use super::command;
use crate::broker::ports::{Limit, StoreError, Taken};
use crate::clock::Timestamp;
use crate::messaging::ports::{FairBudget, FairTake};
use crate::store::fair::{CALLERS, windows};

impl Redis {
    /// The time for a script of fair budgets; empty for Redis's own.
    fn budget_time(&self) -> String {
        self.budget_clock.as_ref().map(|clock| clock.now().as_millis().to_string()).unwrap_or_default()
    }
}

/// The limits as the script takes them.
fn flat(limits: &[Limit]) -> Vec<u64> {
    windows(limits).iter().flat_map(|window| [window.length, window.slice, window.max]).collect()
}

#[async_trait]
impl FairBudget for Redis {
    async fn take_fair(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
    ) -> Result<FairTake, StoreError> {
        let (script, operation) = (&self.scripts.fair, self.scripts.fair.operation());
        let arguments = (self.budget_time(), caller, CALLERS, cost, flat(limits));
        let command = script.on([self.keys.fair_budget(bucket)], arguments);
        let answer = command::list(operation, self.run(&command).await?)?;
        let numbers: Result<Vec<_>, _> =
            answer.into_iter().map(|number| command::number(operation, number)).collect();
        let Ok([taken, number, now]) = <[i64; 3]>::try_from(numbers?) else {
            return Err(command::unexpected(operation));
        };
        let number = u64::try_from(number).unwrap_or(0);
        let taken = if taken == 1 {
            Taken::Go { remaining: u32::try_from(number).unwrap_or(u32::MAX) }
        } else {
            Taken::ComeBack { after: Duration::from_millis(number.max(1)) }
        };
        Ok(FairTake { taken, at: Timestamp::from_millis(u64::try_from(now).unwrap_or(0)) })
    }

    async fn give_back(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
        taken_at: Timestamp,
    ) -> Result<(), StoreError> {
        let taken = (taken_at.as_millis(), cost);
        let arguments = (self.budget_time(), caller, CALLERS, -2, taken, flat(limits));
        let command = self.scripts.give_back.on([self.keys.fair_budget(bucket)], arguments);
        self.run(&command).await.map(drop)
    }

    async fn pause(&self, bucket: &str, time: Duration) -> Result<(), StoreError> {
        let arguments = (self.budget_time(), "", CALLERS, -1, super::millis(time));
        let command = self.scripts.pause.on([self.keys.fair_budget(bucket)], arguments);
        self.run(&command).await.map(drop)
    }
}
