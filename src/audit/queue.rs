//! Between calls and the writer: a bounded list behind a short lock, taken whole.
//!
//! Whoever puts something in never waits and seldom wakes the writer: it lingers a moment after the first record of a
//! batch, unless somebody waits for the disk. What finds no room is counted and told later. Used by the audit and
//! `writer`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::record::Record;
use super::strangers::Strangers;
use crate::metrics::Metrics;

/// Records that may wait; with what they note, some 600 bytes each.
pub(super) const CAPACITY: usize = 16_384;

/// So many end the writer's lingering.
const ENOUGH: usize = CAPACITY / 8;

/// A record on its way, and who waits for it to be on disk. Dropped, it was not written.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) written: Option<oneshot::Sender<()>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// At work; it looks again by itself.
    No,
    /// For anything.
    Idle,
    /// For more of it.
    Lingering,
}

struct State {
    entries: Vec<Entry>,
    lost: u64,
    /// Somebody waits for the disk.
    urgent: bool,
    closed: bool,
    waiting: Waiting,
}

/// The queue.
pub(super) struct Queue {
    state: Mutex<State>,
    bell: Condvar,
    /// Read for each call that must be recorded first.
    broken: AtomicBool,
    problem: Mutex<Option<String>>,
    ended: watch::Sender<Option<bool>>,
    /// What no record was put in for.
    pub(super) strangers: Strangers,
    metrics: Metrics,
}

/// What else a batch comes with.
pub(super) struct Taken {
    /// Records that found no room since the last batch.
    pub(super) lost: u64,
    /// Nothing more will come.
    pub(super) closed: bool,
}

impl Queue {
    pub(super) fn new(metrics: Metrics) -> Self {
        let state =
            State { entries: Vec::new(), lost: 0, urgent: false, closed: false, waiting: Waiting::No };
        Self {
            state: Mutex::new(state),
            bell: Condvar::new(),
            broken: AtomicBool::new(false),
            problem: Mutex::new(None),
            ended: watch::Sender::new(None),
            strangers: Strangers::new(Instant::now()),
            metrics,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a record in, if there is room for it; says whether there was.
    pub(super) fn put(&self, entry: Entry) -> bool {
        let urgent = entry.written.is_some();
        let mut state = self.lock();
        if state.closed || state.entries.len() >= CAPACITY {
            // A decision that is not taken stops its call; only what happens all the same is lost.
            state.lost = state.lost.saturating_add(u64::from(!urgent));
            return false;
        }
        state.entries.push(entry);
        state.urgent |= urgent;
        let ring = match state.waiting {
            Waiting::No => false,
            Waiting::Idle => true,
            Waiting::Lingering => state.urgent || state.entries.len() >= ENOUGH,
        };
        if ring {
            state.waiting = Waiting::No;
        }
        drop(state);
        if ring {
            self.bell.notify_one();
        }
        true
    }

    /// Takes everything, waiting at most `patience` for the first record and `linger` for more.
    pub(super) fn take(&self, into: &mut Vec<Entry>, patience: Duration, linger: Duration) -> Taken {
        let until = Instant::now() + patience;
        let mut state = self.lock();
        while state.entries.is_empty() && !state.closed {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.waiting = Waiting::Idle;
            state = self.bell.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let more = |state: &mut State| {
            !state.entries.is_empty() && !state.urgent && !state.closed && state.entries.len() < ENOUGH
        };
        if !linger.is_zero() && more(&mut state) {
            state.waiting = Waiting::Lingering;
            let waited = self.bell.wait_timeout_while(state, linger, more);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.waiting = Waiting::No;
        state.urgent = false;
        if into.is_empty() {
            std::mem::swap(&mut state.entries, into);
        } else {
            into.append(&mut state.entries);
        }
        Taken { lost: std::mem::take(&mut state.lost), closed: state.closed }
    }

    /// Takes nothing more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.bell.notify_one();
    }

    /// The writer has ended; whether it wrote everything.
    pub(super) fn end(&self, whole: bool) {
        self.close();
        self.ended.send_replace(Some(whole));
    }

    /// Waits until the writer has ended; whether it wrote everything.
    pub(super) async fn ended(&self) -> bool {
        let mut ended = self.ended.subscribe();
        ended.wait_for(Option::is_some).await.is_ok_and(|ended| ended.unwrap_or(false))
    }

    /// Says whether records can be written, and why not.
    pub(super) fn set_problem(&self, problem: Option<String>) {
        self.broken.store(problem.is_some(), Ordering::Release);
        self.metrics.audit_available(problem.is_none());
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = problem;
    }

    /// Why records cannot be written, if they cannot.
    pub(super) fn problem(&self) -> Option<String> {
        if !self.broken.load(Ordering::Acquire) {
            return None;
        }
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
