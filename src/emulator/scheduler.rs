//! What is to happen later by the emulator's clock: delivery reports, the end of an operation.
//!
//! One task runs the jobs in the order they fall due. A jump of the clock makes everything due at once that would have
//! been due in between, in order. Bounded: beyond a count a job happens at once. Used by services through `Shared`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::shared::Shared;
use crate::clock::Timestamp;

/// More jobs than this do not wait.
const MAX_JOBS: usize = 250_000;
/// How long a clock that is moved by others can go unnoticed while something waits.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Something to do later. It must be quick: jobs run one after the other.
pub(super) type Job = Box<dyn FnOnce(&Shared) + Send>;

#[derive(Default)]
struct Waiting {
    jobs: BTreeMap<(Timestamp, u64), Job>,
    next: u64,
}

/// The jobs that wait for their time.
#[derive(Default)]
pub(super) struct Scheduler {
    waiting: Mutex<Waiting>,
    look: Notify,
}

impl Scheduler {
    /// Has `job` done once the emulator's clock shows `due`.
    pub(super) fn at(&self, due: Timestamp, job: impl FnOnce(&Shared) + Send + 'static) {
        let mut waiting = self.waiting();
        let due = if waiting.jobs.len() >= MAX_JOBS { Timestamp::default() } else { due };
        let number = waiting.next;
        waiting.next = number.saturating_add(1);
        waiting.jobs.insert((due, number), Box::new(job));
        drop(waiting);
        self.look.notify_one();
    }

    /// Forgets everything that waits.
    pub(super) fn clear(&self) {
        self.waiting().jobs.clear();
    }

    /// How many jobs wait.
    #[cfg(test)]
    pub(super) fn pending(&self) -> usize {
        self.waiting().jobs.len()
    }

    /// Looks at the clock now, because it was moved.
    pub(super) fn wake(&self) {
        self.look.notify_one();
    }

    fn take_due(&self, now: Timestamp) -> Option<Job> {
        let mut waiting = self.waiting();
        let entry = waiting.jobs.first_entry()?;
        (entry.key().0 <= now).then(|| entry.remove())
    }

    /// How long until it is worth looking again; nothing: until told.
    fn rest(&self, now: Timestamp) -> Option<Duration> {
        let due = self.waiting().jobs.first_key_value().map(|(key, _)| key.0)?;
        Some(due.since(now).min(LOOK_AGAIN))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs jobs as they fall due until cancelled.
pub(super) async fn run(shared: Arc<Shared>, cancel: CancellationToken) {
    loop {
        while let Some(job) = shared.scheduler.take_due(shared.clock.now()) {
            job(&shared);
        }
        let rest = shared.scheduler.rest(shared.clock.now());
        let sleep = async {
            match rest {
                Some(rest) => tokio::time::sleep(rest).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return,
            () = shared.scheduler.look.notified() => {}
            () = sleep => {}
        }
    }
}

#[cfg(test)]
#[path = "scheduler_tests.rs"]
mod tests;
