//! When a delivery is tried again and when it is given up: Event Grid's published schedule as arithmetic.
//!
//! Pure: times are passed in. The published schedule has a little randomness in each step, which is left out here so
//! that a test can foresee it. Used by `outbox`.

use std::time::Duration;

use crate::clock::Timestamp;

/// The waits after the first failures; after the last of them, once an hour.
const WAITS: [Duration; 7] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(30),
    Duration::from_hours(1),
];
/// After that many failures there is no other attempt.
const MAX_FAILURES: u32 = 30;
/// An event that was not delivered by then is not delivered any more.
const TIME_TO_LIVE: Duration = Duration::from_hours(24);
/// How long at least after an answer that only a person can change.
const PERSON: Duration = Duration::from_mins(5);

/// What came of posting something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was answered.
    Status(u16),
    /// It was not answered in time.
    TimedOut,
    /// Nobody listens there, or the connection broke.
    Unreachable,
}

impl Outcome {
    /// For the list of deliveries.
    pub(super) fn words(self) -> String {
        match self {
            Self::Status(status) => status.to_string(),
            Self::TimedOut => "no answer in time".to_owned(),
            Self::Unreachable => "no connection".to_owned(),
        }
    }
}

/// What follows from an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    /// Never again.
    GivenUp,
    /// Again at this time.
    Again(Timestamp),
}

/// What follows from the outcome of an event that happened `at` and failed that often before.
pub(super) fn verdict(outcome: Outcome, failures_before: u32, at: Timestamp, now: Timestamp) -> Verdict {
    let least = match outcome {
        Outcome::Status(200..=204) => return Verdict::Delivered,
        Outcome::Status(400 | 413) => return Verdict::GivenUp,
        Outcome::Status(401 | 403 | 404) => PERSON,
        _ => Duration::ZERO,
    };
    let step = usize::try_from(failures_before).unwrap_or(usize::MAX);
    let wait = WAITS.get(step).copied().unwrap_or(Duration::from_hours(1)).max(least);
    let due = now.plus(wait);
    if failures_before.saturating_add(1) >= MAX_FAILURES || due > at.plus(TIME_TO_LIVE) {
        return Verdict::GivenUp;
    }
    Verdict::Again(due)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Timestamp = Timestamp::from_millis(1_795_348_800_000);

    /// The waits until it is given up, with each attempt made the moment it is due.
    fn waits(outcome: Outcome) -> Vec<u64> {
        let (mut now, mut waits) = (AT, Vec::new());
        for failures in 0.. {
            match verdict(outcome, failures, AT, now) {
                Verdict::Again(due) => {
                    waits.push(due.since(now).as_secs());
                    now = due;
                }
                other => {
                    assert_eq!(other, Verdict::GivenUp);
                    break;
                }
            }
        }
        waits
    }

    #[test]
    fn retries_follow_the_published_schedule_for_a_day_and_thirty_attempts() {
        let all = waits(Outcome::Status(503));
        assert_eq!(all[..9], [10, 30, 60, 300, 600, 1800, 3600, 3600, 3600]);
        assert_eq!(all.len(), 29, "the first attempt and 29 more");
        assert!(all.iter().sum::<u64>() <= 24 * 3600);
        assert_eq!(waits(Outcome::TimedOut), all);
        assert_eq!(waits(Outcome::Unreachable), all);
    }

    #[test]
    fn what_only_a_person_can_change_waits_five_minutes() {
        for status in [401, 403, 404] {
            assert_eq!(waits(Outcome::Status(status))[..6], [300, 300, 300, 300, 600, 1800], "{status}");
        }
    }

    #[test]
    fn only_200_to_204_is_delivered_and_400_and_413_are_final() {
        for status in 100..600 {
            let expected = match status {
                200..=204 => Verdict::Delivered,
                400 | 413 => Verdict::GivenUp,
                401 | 403 | 404 => Verdict::Again(AT.plus(Duration::from_mins(5))),
                _ => Verdict::Again(AT.plus(Duration::from_secs(10))),
            };
            assert_eq!(verdict(Outcome::Status(status), 0, AT, AT), expected, "{status}");
        }
    }

    #[test]
    fn a_day_after_the_event_a_failure_is_the_last() {
        let late = AT.plus(Duration::from_hours(23) + Duration::from_secs(3590));
        assert_eq!(verdict(Outcome::TimedOut, 0, AT, late), Verdict::Again(AT.plus(TIME_TO_LIVE)));
        let later = late.plus(Duration::from_millis(1));
        assert_eq!(verdict(Outcome::TimedOut, 0, AT, later), Verdict::GivenUp);
    }

    proptest! {
        #[test]
        fn no_number_makes_it_fail_and_another_attempt_is_always_ahead(
            status in any::<u16>(), failures in any::<u32>(), at in any::<u64>(), now in any::<u64>(),
        ) {
            let now = Timestamp::from_millis(now);
            if let Verdict::Again(due) = verdict(Outcome::Status(status), failures, Timestamp::from_millis(at), now) {
                prop_assert!(due > now || now == Timestamp::from_millis(u64::MAX));
            }
        }
    }
}
