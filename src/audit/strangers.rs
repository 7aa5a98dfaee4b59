//! Calls of nobody who is known: a few have records of their own, the others are added up.
//!
//! Whoever can connect can make any number of them. One record for each would fill the queue, so that records of others
//! are lost, and the files, so that the oldest, which are kept for an auditor, go. None is forgotten: what is added up is
//! told once a minute for each reason. Reasons are words of this program, never a value of a request, so they are few.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many records of their own calls of nobody may have at once, and how long it takes until they may have one more: not
/// 40 MB a day.
const OWN: u32 = 256;
const ONE_MORE_AFTER: Duration = Duration::from_secs(1);

/// For so long calls are added up.
const ADD_UP_FOR: Duration = Duration::from_secs(60);

/// What is added up together: what was asked, and why it was refused; no reason where nobody decided.
pub(super) type Kind = (&'static str, Option<&'static str>);

/// The calls of nobody of one process.
#[derive(Debug)]
pub(super) struct Strangers(Mutex<Table>);

#[derive(Debug)]
struct Table {
    own: u32,
    counted_at: Instant,
    sums: BTreeMap<Kind, Sum>,
}

/// Calls of one kind.
#[derive(Debug)]
struct Sum {
    told: Instant,
    since: u64,
}

impl Strangers {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(Table { own: OWN, counted_at: now, sums: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one more may have a record of its own.
    pub(super) fn may_have_a_record(&self, now: Instant) -> bool {
        let mut table = self.lock();
        let passed = now.saturating_duration_since(table.counted_at).as_secs() / ONE_MORE_AFTER.as_secs();
        if let Ok(more @ 1..) = u32::try_from(passed) {
            table.own = table.own.saturating_add(more).min(OWN);
            table.counted_at += ONE_MORE_AFTER * more;
        }
        match table.own.checked_sub(1) {
            Some(left) => {
                table.own = left;
                true
            }
            None => false,
        }
    }

    /// One more of this kind. True if it is to be told at once; else it is added to the others.
    pub(super) fn add(&self, kind: Kind, now: Instant) -> bool {
        let mut table = self.lock();
        if let Some(sum) = table.sums.get_mut(&kind) {
            sum.since = sum.since.saturating_add(1);
            return false;
        }
        table.sums.insert(kind, Sum { told: now, since: 0 });
        true
    }

    /// What has been added up for long enough.
    pub(super) fn due(&self, now: Instant) -> Vec<(Kind, u64)> {
        let mut due = Vec::new();
        self.lock().sums.retain(|kind, sum| {
            if now.saturating_duration_since(sum.told) < ADD_UP_FOR {
                return true;
            }
            // After a quiet minute the next one is told at once again.
            let goes_on = sum.since > 0;
            if goes_on {
                due.push((*kind, sum.since));
            }
            *sum = Sum { told: now, since: 0 };
            goes_on
        });
        due
    }

    /// What is not told yet; for the end.
    pub(super) fn rest(&self) -> Vec<(Kind, u64)> {
        let sums = std::mem::take(&mut self.lock().sums);
        sums.into_iter().map(|(kind, sum)| (kind, sum.since)).filter(|(_, since)| *since > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::tests::{clock, lines, settings, stop, verify};
    use super::super::{Audit, Outcome};
    use super::*;
    use crate::metrics::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_few_have_records_of_their_own_and_more_as_time_passes() {
        let start = Instant::now();
        let strangers = Strangers::new(start);
        let own = |now| (0..10_000).filter(|_| strangers.may_have_a_record(now)).count();
        assert_eq!((own(start), own(start + SECOND / 2)), (256, 0));
        assert_eq!((own(start + SECOND), own(start + SECOND * 3 / 2)), (1, 0));
        assert_eq!(own(start + SECOND * 11), 10);
        assert_eq!(own(start + SECOND * 100_000), 256, "never more at once");
        assert_eq!((own(start + SECOND * 100_000), own(start)), (0, 0), "no time is counted twice");
    }

    #[test]
    fn the_first_of_a_kind_is_told_at_once_and_the_others_once_a_minute() {
        let start = Instant::now();
        let strangers = Strangers::new(start);
        let (wrong, other) = (("grpc/any", Some("WRONG")), ("grpc/any", None));
        let (mut told, mut records) = (0, 0);
        for second in 0..30 * 60 {
            let now = start + SECOND * second;
            for _ in 0..5 {
                let at_once = strangers.add(wrong, now);
                assert_eq!(at_once, second == 0 && told == 0);
                told += u64::from(at_once);
            }
            for (kind, count) in strangers.due(now) {
                assert_eq!(kind, wrong);
                told += count;
                records += 1;
            }
        }
        assert_eq!(records, 29);
        assert!(strangers.add(other, start), "each kind has its own sum");
        for _ in 0..3 {
            assert!(!strangers.add(other, start));
        }
        let rest: BTreeMap<_, _> = strangers.rest().into_iter().collect();
        assert_eq!((rest[&other], told + rest[&wrong]), (3, 30 * 60 * 5));
        assert!(strangers.rest().is_empty());

        assert!(strangers.add(wrong, start));
        assert!(strangers.due(start + SECOND * 61).is_empty());
        assert!(strangers.add(wrong, start + SECOND * 62), "after a quiet minute it is told at once again");
    }

    #[tokio::test]
    async fn a_flood_of_strangers_neither_fills_the_file_nor_crowds_out_the_records_of_others() {
        let folder = TempDir::new().unwrap();
        let metrics = Metrics::new();
        let audit = Audit::open(&settings(folder.path()), clock(), metrics.clone()).unwrap();
        let took = Duration::ZERO;
        let (mut refused, mut undecided) = (0, 0);
        for number in 0..40_000 {
            let trail = audit.trail("acsbroker.v1.TokenService/IssueToken", "request");
            if number % 4 == 0 {
                undecided += 1;
                trail.ended(None, None, Outcome { code: "CANCELLED", reason: None, took });
            } else {
                refused += 1;
                let why = Some("TOKEN_EXPIRED");
                trail.ended(None, why, Outcome { code: "UNAUTHENTICATED", reason: why, took });
            }
            if number % 400 == 0 {
                let trail = audit.trail("acsbroker.v1.TokenService/IssueToken", "known");
                trail.admitted("orders").await.unwrap();
                trail.ended(Some("orders"), None, Outcome { code: "OK", reason: None, took });
            }
        }
        stop(audit).await;
        let read = lines(&folder.path().join("audit.log"));
        assert!(read.len() < 1_000, "{} records", read.len());
        let of = |kind: &str| -> Vec<_> { read.iter().filter(|line| line["kind"] == kind).collect() };
        let (calls, sums) = (of("call"), of("refusals"));
        assert_eq!(calls.iter().filter(|call| call["caller"] == "orders").count(), 100);
        assert!(sums.iter().all(|sum| sum["rpc"] == "grpc/any"), "{sums:?}");
        for (decision, expected) in [("refused", refused), ("none", undecided)] {
            let own = calls.iter().filter(|call| call["decision"] == decision).count() as u64;
            let added: u64 = sums
                .iter()
                .filter(|sum| sum["decision"] == decision)
                .map(|sum| sum["count"].as_u64().unwrap())
                .sum();
            assert!(own > 0 && added > 0, "{decision}: {own} and {added}");
            assert_eq!(own + added, expected, "{decision}");
        }
        assert_eq!(read.last().unwrap()["event"], "stop");
        assert!(verify(folder.path()).broken.is_none());
        assert!(metrics.render().contains("acs_broker_audit_lost_total 0"));
    }
}
