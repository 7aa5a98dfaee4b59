//! Budgets in Redis, shared by all replicas: the arithmetic of `embedded::budget` as a script, by Redis's clock.
//!
//! The file only prepares the limits and reads the answer; `scripts/take.lua` decides. Used through the port.

use std::time::Duration;

use async_trait::async_trait;

use super::Redis;
use super::command;
use crate::broker::ports::{CallBudget, Limit, StoreError, Taken};

/// The longest window in milliseconds, about 30 years: beyond it nothing adds up in a script's numbers.
const LONGEST: u64 = 1_000_000_000_000;

/// Slices of a window, as `embedded::budget` counts them.
const SLICES: u64 = 10;

/// The arguments of the script: cost, then window, slice and the least maximum for each window.
fn arguments(limits: &[Limit], cost: u32) -> Vec<u64> {
    let mut least: Vec<(u64, u64)> = Vec::with_capacity(limits.len());
    for limit in limits {
        let window = u64::try_from(limit.window.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let max = u64::from(limit.max);
        match least.iter_mut().find(|(known, _)| *known == window) {
            Some((_, known)) => *known = max.min(*known),
            None => least.push((window, max)),
        }
    }
    let each = least.into_iter().flat_map(|(window, max)| [window, window.div_ceil(SLICES).max(1), max]);
    std::iter::once(u64::from(cost)).chain(each).collect()
}

#[async_trait]
impl CallBudget for Redis {
    async fn take(&self, bucket: &str, limits: &[Limit], cost: u32) -> Result<Taken, StoreError> {
        let script = &self.scripts.take;
        let command = script.on([self.keys.budget(bucket)], arguments(limits, cost));
        let (taken, number) = command::pair(script.operation(), self.run(&command).await?)?;
        let number = command::number(script.operation(), number)?;
        Ok(if command::number(script.operation(), taken)? == 1 {
            Taken::Go { remaining: u32::try_from(number).unwrap_or(u32::MAX) }
        } else {
            Taken::ComeBack { after: Duration::from_millis(u64::try_from(number).unwrap_or(0).max(1)) }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_with_the_same_window_become_the_least_of_them() {
        let limit = |ms, max| Limit { window: Duration::from_millis(ms), max };
        assert_eq!(
            arguments(&[limit(1000, 5), limit(60_000, 9), limit(1000, 3)], 2),
            [2, 1000, 100, 3, 60_000, 6000, 9]
        );
        assert_eq!(arguments(&[limit(0, 5)], 1), [1, 1, 1, 5]);
        assert_eq!(arguments(&[], 1), [1]);
    }
}
