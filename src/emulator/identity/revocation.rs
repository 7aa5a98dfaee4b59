//! What was revoked of one identity, and from when on: the real service takes up to 15 minutes to notice.
//!
//! Pure and bounded: a caller that revokes without end makes some tokens die sooner, never memory grow. Tokens are
//! known by the numbers they were begun under. Used by `state`.

use crate::clock::Timestamp;

/// How many revocations of one identity may wait for their moment.
const WAITING: usize = 8;

/// Every token up to a number is dead from a moment on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Revocation {
    through: u64,
    from: Timestamp,
}

/// The revocations of one identity, oldest first.
#[derive(Debug, Default)]
pub(super) struct Revocations(Vec<Revocation>);

impl Revocations {
    /// Revokes every token up to `through`, with effect at `from`.
    pub(super) fn add(&mut self, through: u64, from: Timestamp, now: Timestamp) {
        // One that is in force makes those before it superfluous.
        let in_force = self.0.iter().rposition(|revocation| revocation.from <= now).unwrap_or(0);
        self.0.drain(..in_force);
        let is_full = self.0.len() >= WAITING;
        match self.0.last_mut() {
            Some(last) if last.through == through && last.from <= from => {}
            Some(last) if is_full => last.through = through,
            _ => self.0.push(Revocation { through, from }),
        }
    }

    /// Whether the token of this number is dead at this time.
    pub(super) fn cover(&self, sequence: u64, now: Timestamp) -> bool {
        self.0.iter().any(|revocation| sequence <= revocation.through && revocation.from <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_revocation_bites_from_its_moment_on_and_only_what_came_before_it() {
        let mut revocations = Revocations::default();
        revocations.add(5, at(100), at(0));
        assert!(!revocations.cover(5, at(99)));
        assert!(revocations.cover(5, at(100)) && revocations.cover(1, at(u64::MAX)));
        assert!(!revocations.cover(6, at(u64::MAX)));
    }

    #[test]
    fn a_second_revocation_does_not_put_off_the_first() {
        let mut revocations = Revocations::default();
        revocations.add(5, at(100), at(0));
        revocations.add(5, at(150), at(50));
        revocations.add(7, at(160), at(60));
        assert!(
            revocations.cover(5, at(100)) && !revocations.cover(7, at(159)) && revocations.cover(7, at(160))
        );
    }

    #[test]
    fn revoking_without_end_takes_no_memory_and_spares_nothing() {
        let mut revocations = Revocations::default();
        for n in 0..1000 {
            revocations.add(n, at(n + 500), at(n));
        }
        assert!(revocations.0.len() <= WAITING, "{}", revocations.0.len());
        assert!(revocations.cover(999, at(1499)));
        assert!(!revocations.cover(1000, at(u64::MAX)));
        revocations.add(1000, at(5000), at(5000));
        assert_eq!(revocations.0.len(), 2, "what is superfluous goes");
        assert!(revocations.cover(1000, at(5000)) && revocations.cover(3, at(5000)));
    }

    proptest! {
        #[test]
        fn what_is_revoked_stays_so_and_what_came_later_is_spared(
            steps in proptest::collection::vec((0..3_u64, 0..40_u64), 1..60),
            delay in 0..100_u64,
        ) {
            let (mut revocations, mut all) = (Revocations::default(), Vec::new());
            let (mut sequence, mut now, mut was_full) = (0, 0, false);
            for (issued, passed) in steps {
                sequence += issued;
                now += passed;
                revocations.add(sequence, at(now + delay), at(now));
                all.push((sequence, now + delay));
                // From then on some share a moment, and the later of them die with the earlier.
                was_full |= revocations.0.len() >= WAITING;
                for token in 0..=sequence + 1 {
                    for time in [now, now + delay / 2, now + delay] {
                        let wanted = all.iter().any(|(through, from)| token <= *through && *from <= time);
                        let covered = revocations.cover(token, at(time));
                        prop_assert!(covered || !wanted, "token {token} at {time} was spared");
                        prop_assert!(!covered || wanted || was_full, "token {token} died early at {time}");
                    }
                }
                prop_assert!(!revocations.cover(sequence + 1, at(u64::MAX)));
            }
        }
    }
}
