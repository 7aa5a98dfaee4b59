//! What was asked of the emulator: exact counts per operation, and a log of the latest calls.
//!
//! The log names operations, statuses and faults, never a body, an id or a number. Counting never blocks; the log is
//! bounded. Used by `service`; read through the handle and the control paths.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::operation::Operation;

/// More calls than this are forgotten, the oldest first.
const MAX_LOG: usize = 20_000;

#[derive(Default)]
struct PerOperation {
    calls: AtomicU64,
    successes: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

/// The counts of all operations, and the log.
pub(super) struct Calls {
    operations: Vec<PerOperation>,
    tokens_issued: AtomicU64,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    entries: VecDeque<Entry>,
    logged: u64,
}

/// One finished call.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Entry {
    /// Counts from 1 since the start or the last reset, in the order calls were finished.
    pub(super) number: u64,
    /// When it was finished, by the emulator's clock, in milliseconds since 1970.
    pub(super) at: u64,
    pub(super) operation: &'static str,
    /// The version it was made in, once that was known.
    pub(super) version: Option<&'static str>,
    /// Who asked: `key`, `entra`, `user`; nothing if that was never known.
    pub(super) by: Option<&'static str>,
    /// The status that was answered; 0 if the connection was closed instead.
    pub(super) status: u16,
    /// Whether it had its effect.
    pub(super) done: bool,
    /// The fault it met, in words.
    pub(super) fault: Option<String>,
    /// Whether a published limit refused it.
    pub(super) throttled: bool,
}

/// What is counted per operation.
#[derive(Debug, Clone, Copy)]
pub(super) enum Count {
    /// Requests that arrived, whatever became of them.
    Calls,
    /// Requests that had their effect, whether or not the caller heard of it.
    Successes,
    /// Requests being worked on now.
    InFlight,
    /// The most requests worked on at the same time.
    MostInFlight,
}

/// Counts a request as in flight while it lives.
pub(super) struct InFlight<'c>(Option<&'c PerOperation>);

impl Default for Calls {
    fn default() -> Self {
        Self {
            operations: Operation::ALL.iter().map(|_| PerOperation::default()).collect(),
            tokens_issued: AtomicU64::new(0),
            log: Mutex::default(),
        }
    }
}

impl Calls {
    /// Counts the arrival of a request.
    pub(super) fn arrived(&self, operation: Operation) -> InFlight<'_> {
        let counts = self.of(operation);
        if let Some(counts) = counts {
            counts.calls.fetch_add(1, Ordering::SeqCst);
            let now = counts.in_flight.fetch_add(1, Ordering::SeqCst).saturating_add(1);
            counts.most_in_flight.fetch_max(now, Ordering::SeqCst);
        }
        InFlight(counts)
    }

    pub(super) fn succeeded(&self, operation: Operation) {
        if let Some(counts) = self.of(operation) {
            counts.successes.fetch_add(1, Ordering::SeqCst);
        }
    }

    pub(super) fn token_issued(&self) {
        self.tokens_issued.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn tokens_issued(&self) -> u64 {
        self.tokens_issued.load(Ordering::SeqCst)
    }

    /// A count of one operation, or of all together. The most in flight of all is the sum of each one's most.
    pub(super) fn get(&self, count: Count, operation: Operation) -> u64 {
        Operation::ALL
            .iter()
            .zip(&self.operations)
            .filter(|(each, _)| operation == Operation::Any || **each == operation)
            .map(|(_, counts)| {
                let counter = match count {
                    Count::Calls => &counts.calls,
                    Count::Successes => &counts.successes,
                    Count::InFlight => &counts.in_flight,
                    Count::MostInFlight => &counts.most_in_flight,
                };
                counter.load(Ordering::SeqCst)
            })
            .sum()
    }

    /// Writes a finished call down; its number is given here.
    pub(super) fn log(&self, entry: Entry) {
        let mut log = self.lock();
        log.logged = log.logged.saturating_add(1);
        let number = log.logged;
        if log.entries.len() >= MAX_LOG {
            log.entries.pop_front();
        }
        log.entries.push_back(Entry { number, ..entry });
    }

    /// The latest calls after `after`, at most `limit`, newest first.
    pub(super) fn latest(&self, after: u64, limit: usize) -> Vec<Entry> {
        self.lock()
            .entries
            .iter()
            .rev()
            .take_while(|entry| entry.number > after)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The whole log as text, oldest first, one line per call, without times: two runs that met the same calls and the
    /// same faults give the same bytes.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for entry in &self.lock().entries {
            let Entry { number, operation, status, done, .. } = entry;
            let version = entry.version.unwrap_or("-");
            let by = entry.by.unwrap_or("-");
            let fault = entry.fault.as_deref().unwrap_or("-");
            let throttled = if entry.throttled { "throttled" } else { "-" };
            let done = if *done { "done" } else { "-" };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{number} {operation} {version} {by} {status} {done} {throttled} {fault}");
        }
        text
    }

    /// Back to zero; what is in flight stays so.
    pub(super) fn reset(&self) {
        self.tokens_issued.store(0, Ordering::SeqCst);
        for counts in &self.operations {
            counts.calls.store(0, Ordering::SeqCst);
            counts.successes.store(0, Ordering::SeqCst);
            counts.most_in_flight.store(counts.in_flight.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        *self.lock() = Log::default();
    }

    fn of(&self, operation: Operation) -> Option<&PerOperation> {
        Operation::ALL.iter().zip(&self.operations).find(|(each, _)| **each == operation).map(|(_, c)| c)
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if let Some(counts) = self.0 {
            counts.in_flight.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_in_flight_until_they_end() {
        let calls = Calls::default();
        let first = calls.arrived(Operation::IssueToken);
        let second = calls.arrived(Operation::IssueToken);
        drop(first);
        assert_eq!(calls.get(Count::InFlight, Operation::IssueToken), 1);
        calls.reset();
        drop(second);
        assert_eq!(calls.get(Count::InFlight, Operation::Any), 0);
        assert_eq!(calls.get(Count::MostInFlight, Operation::IssueToken), 1);
        assert_eq!(calls.get(Count::Calls, Operation::Any), 0);
    }

    fn entry(status: u16) -> Entry {
        Entry {
            number: 0,
            at: 5,
            operation: "send_sms",
            version: Some("2021-03-07"),
            by: Some("key"),
            status,
            done: status == 202,
            fault: (status != 202).then(|| "answer 503".to_owned()),
            throttled: false,
        }
    }

    #[test]
    fn the_log_is_numbered_bounded_and_the_same_for_the_same_calls() {
        let calls = Calls::default();
        for _ in 0..MAX_LOG {
            calls.log(entry(202));
        }
        calls.log(entry(503));
        assert_eq!(calls.latest(0, usize::MAX).len(), MAX_LOG);
        assert_eq!(calls.latest(20_000, 10).first().map(|entry| entry.number), Some(20_001));
        calls.reset();
        calls.log(entry(202));
        calls.log(entry(503));
        assert_eq!(
            calls.text(),
            "1 send_sms 2021-03-07 key 202 done - -\n2 send_sms 2021-03-07 key 503 - - answer 503\n"
        );
    }
}
