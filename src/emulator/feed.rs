//! Tells whoever waits that something happened, and numbers what happens across all services.
//!
//! It carries no content: a waiter looks for itself. Never blocks. Used by services to tell, by `control` to wait.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The bell of an emulator.
pub(super) struct Feed {
    sequence: AtomicU64,
    rung: watch::Sender<u64>,
}

impl Default for Feed {
    fn default() -> Self {
        Self { sequence: AtomicU64::new(0), rung: watch::Sender::new(0) }
    }
}

impl Feed {
    /// The next number; numbers grow across messages of all kinds, from 1.
    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::SeqCst).saturating_add(1)
    }

    /// Says that something changed that can be seen now. Call it after letting go of all locks.
    pub(super) fn changed(&self) {
        self.rung.send_modify(|rung| *rung = rung.wrapping_add(1));
    }

    /// A receiver that sees every change from now on. Subscribe first, then look, then wait.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.rung.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    #[test]
    fn numbers_begin_at_one_and_no_two_are_the_same() {
        let feed = Feed::default();
        let numbers = std::thread::scope(|scope| {
            let draw = || (0..500).map(|_| feed.next_sequence()).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(draw)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
        });
        assert_eq!(numbers, (1..=2000).collect());
    }

    #[tokio::test]
    async fn a_change_after_subscribing_is_seen_even_if_it_came_before_the_waiting() {
        let feed = Feed::default();
        feed.changed();
        let mut late = feed.subscribe();
        assert!(!late.has_changed().unwrap(), "what was before is not new");
        feed.changed();
        feed.changed();
        tokio::time::timeout(Duration::from_secs(10), late.changed()).await.unwrap().unwrap();
        assert!(!late.has_changed().unwrap(), "two changes are seen at once");
    }

    #[test]
    fn telling_needs_nobody_who_listens() {
        let feed = Feed::default();
        drop(feed.subscribe());
        feed.changed();
        assert_eq!(*feed.subscribe().borrow(), 1);
    }
}
