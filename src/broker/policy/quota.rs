//! How often a caller may call: so many calls in so long, per replica, as a bucket that fills evenly.
//!
//! A generic cell rate algorithm in one atomic word: no lock and no task. Never asks a store: a quota must not cost the
//! token path a round trip.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Rpc, RpcSet};

/// The most calls of a rate.
const MOST: u64 = 1_000_000;

/// So many calls in so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    calls: u64,
    period: Duration,
}

/// The text is no rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a rate such as \"100/s\": 1 to {MOST} calls per s, m, h or d")]
pub struct BadRate;

impl std::str::FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let (calls, unit) = text.split_once('/').ok_or(BadRate)?;
        let seconds = match unit {
            "s" => 1,
            "m" => 60,
            "h" => 3600,
            "d" => 86_400,
            _ => return Err(BadRate),
        };
        // A sign would parse too.
        if !calls.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadRate);
        }
        let calls = calls.parse().map_err(|_| BadRate)?;
        if !(1..=MOST).contains(&calls) {
            return Err(BadRate);
        }
        Ok(Self { calls, period: Duration::from_secs(seconds) })
    }
}

impl Rate {
    fn period(self) -> u64 {
        // A day has fewer nanoseconds than a word holds.
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Between two calls, if they come evenly.
    fn interval(self) -> u64 {
        (self.period() / self.calls).max(1)
    }
}

/// A rate for some RPCs together. Clones share what was used.
#[derive(Debug, Clone)]
pub struct Quota {
    rpcs: RpcSet,
    rate: Rate,
    bucket: Arc<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    since: Instant,
    /// When the bucket will be full again, in nanoseconds after `since`.
    full_at: AtomicU64,
}

impl Quota {
    /// A full bucket.
    pub fn new(rpcs: RpcSet, rate: Rate) -> Self {
        let bucket = Arc::new(Bucket { since: Instant::now(), full_at: AtomicU64::new(0) });
        Self { rpcs, rate, bucket }
    }

    /// Whether calls of this RPC count.
    pub const fn covers(&self, rpc: Rpc) -> bool {
        self.rpcs.contains(rpc)
    }

    /// Whether it is the same rate for the same RPCs.
    pub fn is_like(&self, other: &Self) -> bool {
        self.rpcs == other.rpcs && self.rate == other.rate
    }

    /// Takes one call out of the bucket, or says how long until there is one.
    pub fn take(&self, now: Instant) -> Result<(), Duration> {
        let now = now.saturating_duration_since(self.bucket.since).as_nanos();
        let now = u64::try_from(now).unwrap_or(u64::MAX);
        let mut full_at = self.bucket.full_at.load(Ordering::Relaxed);
        loop {
            let then = full_at.max(now).saturating_add(self.rate.interval());
            let over = then.saturating_sub(now).saturating_sub(self.rate.period());
            if over > 0 {
                return Err(Duration::from_nanos(over));
            }
            let swapped = self.bucket.full_at.compare_exchange_weak(
                full_at,
                then,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(other) => full_at = other,
            }
        }
    }
}
