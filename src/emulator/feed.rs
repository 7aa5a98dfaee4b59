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
