//! Exact counts of what was asked of the emulator and what it did.
//!
//! Counting never blocks and never fails. Used by `service`; read through the handle and the control paths.

use std::sync::atomic::{AtomicU64, Ordering};

use super::operation::Operation;

#[derive(Default)]
struct PerOperation {
    calls: AtomicU64,
    successes: AtomicU64,
    in_flight: AtomicU64,
    most_in_flight: AtomicU64,
}

/// The counts of all operations.
#[derive(Default)]
pub(super) struct Counters {
    operations: [PerOperation; Operation::ALL.len()],
    tokens_issued: AtomicU64,
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

impl Counters {
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

    /// Back to zero; what is in flight stays so.
    pub(super) fn reset(&self) {
        self.tokens_issued.store(0, Ordering::SeqCst);
        for counts in &self.operations {
            counts.calls.store(0, Ordering::SeqCst);
            counts.successes.store(0, Ordering::SeqCst);
            counts.most_in_flight.store(counts.in_flight.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }

    fn of(&self, operation: Operation) -> Option<&PerOperation> {
        Operation::ALL.iter().zip(&self.operations).find(|(each, _)| **each == operation).map(|(_, c)| c)
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
        let counters = Counters::default();
        let first = counters.arrived(Operation::IssueToken);
        let second = counters.arrived(Operation::IssueToken);
        drop(first);
        assert_eq!(counters.get(Count::InFlight, Operation::IssueToken), 1);
        counters.reset();
        drop(second);
        assert_eq!(counters.get(Count::InFlight, Operation::Any), 0);
        assert_eq!(counters.get(Count::MostInFlight, Operation::IssueToken), 1);
        assert_eq!(counters.get(Count::Calls, Operation::Any), 0);
    }
}
