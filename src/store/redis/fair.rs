//! Fair budgets in Redis, shared by all replicas: the arithmetic of `store::fair` as a script, by Redis's clock.
//!
//! The file only prepares the limits and reads the answer; `scripts/fair.lua` decides. Used through the port.

use std::time::Duration;

use async_trait::async_trait;

use super::Redis;
use super::command;
use crate::broker::ports::{Limit, StoreError, Taken};
use crate::messaging::ports::FairBudget;
use crate::store::fair::{CALLERS, windows};

impl Redis {
    /// The time for a script of fair budgets; empty for Redis's own.
    fn budget_time(&self) -> String {
        self.budget_clock.as_ref().map(|clock| clock.now().as_millis().to_string()).unwrap_or_default()
    }
}

#[async_trait]
impl FairBudget for Redis {
    async fn take_fair(
        &self,
        bucket: &str,
        caller: &str,
        limits: &[Limit],
        cost: u32,
    ) -> Result<Taken, StoreError> {
        let (script, operation) = (&self.scripts.fair, self.scripts.fair.operation());
        let limits: Vec<u64> =
            windows(limits).iter().flat_map(|window| [window.length, window.slice, window.max]).collect();
        let arguments = (self.budget_time(), caller, CALLERS, cost, limits);
        let command = script.on([self.keys.fair_budget(bucket)], arguments);
        let (taken, number) = command::pair(operation, self.run(&command).await?)?;
        let number = command::number(operation, number)?;
        Ok(if command::number(operation, taken)? == 1 {
            Taken::Go { remaining: u32::try_from(number).unwrap_or(u32::MAX) }
        } else {
            Taken::ComeBack { after: Duration::from_millis(u64::try_from(number).unwrap_or(0).max(1)) }
        })
    }

    async fn pause(&self, bucket: &str, time: Duration) -> Result<(), StoreError> {
        let arguments = (self.budget_time(), "", CALLERS, -1, super::millis(time));
        let command = self.scripts.pause.on([self.keys.fair_budget(bucket)], arguments);
        self.run(&command).await.map(drop)
    }
}
