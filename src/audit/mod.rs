//! The audit: a record of every decision and effect, in a chained file that nobody can change unseen.
//!
//! Calls note on a [`Trail`]; ends of calls, effects at ACS and events of the process go through a bounded queue to one
//! writer thread. It knows nothing of gRPC, ACS or the core, never holds a user id, number, address, token or text, and
//! never makes a call wait, unless `audit.fail_closed` asks for it.
//!
//! `chain` says how lines are bound together, `file` how they are kept, `verify` how that is checked.

mod chain;
mod few;
mod file;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod queue;
mod record;
mod settings;
mod strangers;
mod trail;
mod verify;
mod writer;

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod format_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use self::chain::Keys;
pub use self::file::OpenError;
use self::queue::{Entry, Queue};
use self::record::{MOST_IDS, MessageId, Record, Subject, What};
pub use self::settings::Settings;
pub use self::trail::{Outcome, Trail, Whom};
pub use self::verify::{Break, Head, Mark, Report, Unreadable, Verifier};
use self::writer::{Disk, Medium, Writer};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// How long a call waits for its decision to be on disk.
const COMMIT_WITHIN: Duration = Duration::from_secs(2);

/// The decision could not be recorded, so the call must not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit record of this call cannot be written")]
pub struct Unrecorded;

/// Where records go. Cheap to clone; clones are one. Off, it takes nothing and costs nothing.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Open>>);

/// An audit that is on.
struct Open {
    keys: Keys,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    fail_closed: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        // Whoever had no time to stop leaves a chain that says so: it has no "stop".
        self.queue.close();
    }
}

impl Audit {
    /// Nothing is recorded.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Opens the file and continues its chain, or begins one; off if the settings name no file.
    pub fn open(settings: &Settings, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Self, OpenError> {
        Self::open_on(Disk, settings, clock, metrics)
    }

    fn open_on(
        medium: impl Medium,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        if settings.file.is_empty() {
            return Ok(Self::off());
        }
        let keys = Keys::new(&settings.key);
        let queue = Arc::new(Queue::new(metrics.clone()));
        let writer = Writer::open(
            medium,
            settings,
            keys.clone(),
            Arc::clone(&queue),
            Arc::clone(&clock),
            metrics.clone(),
        )?;
        std::thread::Builder::new()
            .name("audit-writer".into())
            .spawn(move || writer.run())
            .map_err(OpenError::Thread)?;
        let fail_closed = settings.fail_closed;
        Ok(Self(Some(Arc::new(Open { keys, queue, clock, metrics, fail_closed }))))
    }

    /// Whether anything is recorded.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Whether calls are refused while nothing can be recorded.
    pub fn is_fail_closed(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.fail_closed)
    }

    /// Why records cannot be written now, if they cannot.
    pub fn problem(&self) -> Option<String> {
        self.0.as_ref().and_then(|open| open.queue.problem())
    }

    /// Something was done or tried outside of any call's sight, such as a renewal.
    pub fn effect(&self, name: &'static str, outcome: &'static str, count: usize, on: &[(Whom, &str)]) {
        self.effect_on_messages(name, outcome, count, on, &[]);
    }

    /// The same with messages that ACS knows by these ids, which stand in the record as they are: ids that ACS made or
    /// confirmed, never what somebody merely asked for.
    pub fn effect_on_messages(
        &self,
        name: &'static str,
        outcome: &'static str,
        count: usize,
        on: &[(Whom, &str)],
        ids: &[&str],
    ) {
        if let Some(open) = &self.0 {
            let on = on.iter().map(|(whom, value)| open.subject(*whom, value)).collect();
            let count = u32::try_from(count).unwrap_or(u32::MAX);
            let ids = ids.iter().take(MOST_IDS).map(|id| MessageId::of(id)).collect();
            open.put(What::Effect { rpc: None, name, outcome, count, on, ids });
        }
    }

    /// Nobody who is known asked for this and was refused. Of those there may be any number: the first is told at once,
    /// the others as one number a minute.
    pub fn refused(&self, rpc: &'static str, why: &'static str) {
        if let Some(open) = &self.0 {
            open.add_up(rpc, Some(why));
        }
    }

    /// Something happened to the process or its rules: a reload, a start. Details are words of ours or of the settings,
    /// never a value of a request.
    pub fn event(&self, name: &'static str, details: &[(&'static str, &str)]) {
        if let Some(open) = &self.0 {
            let details = details.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
            open.put(What::Event { name, details });
        }
    }

    /// Ends the chain of this process: what is queued is written, then "stop". Says whether all of it was.
    pub async fn stop(&self, within: Duration) -> bool {
        let Some(open) = &self.0 else { return true };
        for ((rpc, why), count) in open.queue.strangers.rest() {
            open.put(What::Refusals { rpc, why, count });
        }
        open.put(What::Event { name: "stop", details: Vec::new() });
        open.queue.close();
        tokio::time::timeout(within, open.queue.ended()).await.is_ok_and(|whole| whole)
    }
}

impl Open {
    fn subject(&self, whom: Whom, value: &str) -> Subject {
        Subject { kind: whom.as_str(), hash: whom.hash(&self.keys, value) }
    }

    fn put(&self, what: What) {
        let record = Record { at: self.clock.now(), what };
        if !self.queue.put(Entry { record, written: None }) {
            self.metrics.audit_lost(1);
        }
    }

    /// One more call of nobody, for which there is no record of its own.
    fn add_up(&self, rpc: &'static str, why: Option<&'static str>) {
        if self.queue.strangers.add((rpc, why), Instant::now()) {
            self.put(What::Refusals { rpc, why, count: 1 });
        }
    }

    /// Waits until the record is on disk.
    async fn commit(&self, what: What) -> Result<(), Unrecorded> {
        if self.queue.problem().is_some() {
            return Err(Unrecorded);
        }
        let (written, is_written) = tokio::sync::oneshot::channel();
        let record = Record { at: self.clock.now(), what };
        if !self.queue.put(Entry { record, written: Some(written) }) {
            return Err(Unrecorded);
        }
        match tokio::time::timeout(COMMIT_WITHIN, is_written).await {
            Ok(Ok(())) => Ok(()),
            // It failed, or is late: then it may be written all the same, of a call that was refused.
            Ok(Err(_)) | Err(_) => Err(Unrecorded),
        }
    }
}

/// The hash that stands in records for somebody, for whoever holds the key and looks for them.
pub fn subject_hash(key: &Secret, whom: Whom, value: &str) -> String {
    format!("{}:{}", whom.as_str(), chain::hex(&whom.hash(&Keys::new(key), value)))
}
