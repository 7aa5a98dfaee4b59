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

    /// Back to its base, for the next input of a fuzz target.
    #[cfg(any(fuzzing, test))]
    pub(super) fn rewind(&self) {
        self.ahead_millis.store(0, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);

    fn clock() -> (Arc<ManualClock>, VirtualClock) {
        let base = Arc::new(ManualClock::at(START));
        (Arc::clone(&base), VirtualClock::over(base))
    }

    #[test]
    fn moving_it_ahead_leaves_its_base_where_it_is() {
        let (base, clock) = clock();
        clock.advance(Duration::from_hours(12));
        clock.advance(Duration::from_millis(1));
        assert_eq!(clock.ahead(), Duration::from_hours(12) + Duration::from_millis(1));
        assert_eq!(clock.now(), START.plus(clock.ahead()));
        assert_eq!((clock.base_now(), base.now()), (START, START));
    }

    #[test]
    fn it_goes_on_with_its_base() {
        let (base, clock) = clock();
        clock.advance(Duration::from_hours(1));
        base.advance(Duration::from_secs(5));
        assert_eq!(clock.now(), START.plus(Duration::from_secs(3605)));
    }

    #[test]
    fn no_jump_takes_it_past_the_end_or_back() {
        let (_, clock) = clock();
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::from_millis(u64::MAX));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp::from_millis(u64::MAX));
    }

    #[test]
    fn jumps_at_the_same_time_all_count() {
        let (_, clock) = clock();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| clock.advance(Duration::from_millis(1))));
            }
        });
        assert_eq!(clock.ahead(), Duration::from_secs(4));
    }
}
