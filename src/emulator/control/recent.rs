//! The latest messages, gathered once for all who wait, so that a hundred waits cost hardly more than one.
//!
//! Bounded in number and bytes: whoever falls behind looks at everything again. It may hold what is gone by now, so
//! nothing is answered from it. Used by `wait`.

use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::mailbox::Message;
use super::super::shared::Shared;
use super::matching::{self, KINDS};

const MOST: usize = 1024;
const MOST_BYTES: usize = 8 * 1024 * 1024;
/// As many numbers are remembered, to know a message that came late from one that was seen.
const MOST_KNOWN: usize = 4096;

#[derive(Default)]
pub(super) struct Recent(Mutex<Log>);

#[derive(Default)]
struct Log {
    /// Everything that was there at this revision of the feed has been seen.
    revision: Option<u64>,
    /// The greatest number seen of each kind.
    newest: [u64; KINDS.len()],
    known: BTreeSet<u64>,
    entries: VecDeque<Arc<Message>>,
    bytes: usize,
    /// The position of the first entry; positions count all entries that ever were.
    first: u64,
}

impl Recent {
    /// Gathers what is new at this revision of the feed, unless somebody did.
    pub(super) fn catch_up(&self, shared: &Shared, revision: u64) {
        let newest = {
            let log = self.log();
            if log.revision.is_some_and(|seen| seen >= revision) {
                return;
            }
            log.newest
        };
        // Without the lock, because the services have locks of their own: two may gather the same, which is noticed.
        let (mut found, mut is_all) = (Vec::new(), true);
        for (kind, newest) in KINDS.into_iter().zip(newest) {
            let (mut count, mut bytes) = (0_usize, 0_usize);
            matching::each(shared, kind, newest, &mut |message| {
                if count >= MOST || bytes > MOST_BYTES {
                    is_all = false;
                    return ControlFlow::Break(());
                }
                count = count.saturating_add(1);
                bytes = bytes.saturating_add(message.text.len());
                found.push(Arc::new(message));
                ControlFlow::Continue(())
            });
        }
        found.sort_unstable_by_key(|message| message.sequence);
        let mut log = self.log();
        if !is_all {
            log.leave_all_behind();
        }
        for message in found {
            log.add(message);
        }
        log.revision = log.revision.max(Some(revision));
    }

    /// Where the next entry will be.
    pub(super) fn end(&self) -> u64 {
        self.log().end()
    }

    /// The entries from a position on, which is moved to the end; nothing, if some of them are gone.
    pub(super) fn since(&self, position: &mut u64) -> Option<Vec<Arc<Message>>> {
        let log = self.log();
        let from = std::mem::replace(position, log.end());
        let skip = usize::try_from(from.checked_sub(log.first)?).ok()?;
        Some(log.entries.iter().skip(skip).cloned().collect())
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Log {
    fn end(&self) -> u64 {
        self.first.saturating_add(u64::try_from(self.entries.len()).unwrap_or(u64::MAX))
    }

    fn leave_all_behind(&mut self) {
        self.first = self.end().saturating_add(1);
        self.entries.clear();
        self.bytes = 0;
    }

    /// Adds a message that was not seen before. One below all that are known is an old one.
    fn add(&mut self, message: Arc<Message>) {
        let number = message.sequence;
        let is_old =
            self.known.len() >= MOST_KNOWN && self.known.first().is_some_and(|first| number < *first);
        if is_old || !self.known.insert(number) {
            return;
        }
        if self.known.len() > MOST_KNOWN {
            self.known.pop_first();
        }
        for (kind, newest) in KINDS.into_iter().zip(&mut self.newest) {
            if kind == message.kind {
                *newest = (*newest).max(number);
            }
        }
        self.bytes = self.bytes.saturating_add(message.text.len());
        self.entries.push_back(message);
        while self.entries.len() > MOST || self.bytes > MOST_BYTES {
            let Some(gone) = self.entries.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(gone.text.len());
            self.first = self.first.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emulator::mailbox::Kind;

    fn message(sequence: u64, kind: Kind, size: usize) -> Arc<Message> {
        Arc::new(Message {
            sequence,
            kind,
            id: sequence.to_string(),
            at: String::new(),
            direction: "outbound",
            from: String::new(),
            from_name: None,
            to: Vec::new(),
            subject: None,
            text: "x".repeat(size),
            status: String::new(),
            thread: None,
            attachments: 0,
            tag: None,
        })
    }

    fn numbers(recent: &Recent, position: &mut u64) -> Option<Vec<u64>> {
        Some(recent.since(position)?.iter().map(|message| message.sequence).collect())
    }

    #[test]
    fn each_reader_sees_each_message_once_even_one_that_comes_late() {
        let recent = Recent::default();
        let mut position = recent.end();
        recent.log().add(message(2, Kind::Sms, 1));
        recent.log().add(message(2, Kind::Sms, 1));
        assert_eq!(numbers(&recent, &mut position), Some(vec![2]));
        let mut other = recent.end();
        recent.log().add(message(1, Kind::Sms, 1));
        recent.log().add(message(3, Kind::Chat, 1));
        assert_eq!(numbers(&recent, &mut position), Some(vec![1, 3]));
        assert_eq!(numbers(&recent, &mut other), Some(vec![1, 3]));
        assert_eq!(numbers(&recent, &mut other), Some(vec![]));
        assert_eq!(recent.log().newest, [2, 0, 3]);
    }

    #[test]
    fn whoever_falls_behind_is_told_and_goes_on_from_the_end() {
        let recent = Recent::default();
        let (mut slow, mut fast) = (recent.end(), recent.end());
        for number in 1..=5000 {
            recent.log().add(message(number, Kind::Email, 1));
            if number % 1000 == 0 {
                assert_eq!(numbers(&recent, &mut fast).unwrap().len(), 1000);
            }
        }
        assert_eq!(numbers(&recent, &mut slow), None);
        assert_eq!(numbers(&recent, &mut slow), Some(vec![]));
        recent.log().leave_all_behind();
        recent.log().add(message(5001, Kind::Email, 1));
        assert_eq!(numbers(&recent, &mut fast), None);
        let log = recent.log();
        assert!(log.known.len() <= MOST_KNOWN && log.entries.len() <= MOST);
    }

    #[test]
    fn large_messages_are_bounded_in_bytes() {
        let recent = Recent::default();
        for number in 1..100 {
            recent.log().add(message(number, Kind::Email, MOST_BYTES / 10));
            assert!(recent.log().bytes <= MOST_BYTES);
        }
        assert!(recent.log().entries.len() <= 10);
    }
}
