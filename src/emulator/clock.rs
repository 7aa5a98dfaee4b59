//! The emulator's own time: that of the clock it was given, moved ahead on request.
//!
//! Everything the emulator decides by time (expiry, delivery, windows of limits) goes by this clock, so that twelve
//! hours can pass in a moment. It never goes back. Used by every service through `Shared`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Timestamp};

/// A clock that can be moved ahead of the one it is based on.
#[derive(Debug)]
pub(super) struct VirtualClock {
    base: Arc<dyn Clock>,
    ahead_millis: AtomicU64,
}

impl VirtualClock {
    pub(super) fn over(base: Arc<dyn Clock>) -> Self {
        Self { base, ahead_millis: AtomicU64::new(0) }
    }

    /// The emulator's time.
    pub(super) fn now(&self) -> Timestamp {
        self.base.now().plus(self.ahead())
    }

    /// The time of the clock it is based on: what callers' own clocks show.
    pub(super) fn base_now(&self) -> Timestamp {
        self.base.now()
    }

    /// How far it is ahead of its base.
    pub(super) fn ahead(&self) -> Duration {
        Duration::from_millis(self.ahead_millis.load(Ordering::SeqCst))
    }

    /// Moves it ahead.
    pub(super) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        // `fetch_update` never fails with a closure that always returns Some.
        let _ = self
            .ahead_millis
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |ahead| Some(ahead.saturating_add(by)));
    }
}
