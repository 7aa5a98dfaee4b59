//! Is a cached token worth serving, and when is a newer one due? Pure: times in, decision out.
//!
//! The rules are in one place so that they can be tested over all times. Nothing here knows where tokens come from.

use std::time::Duration;

use super::Settings;
use super::types::{AccessToken, KeyStanding};
use crate::clock::Timestamp;

/// What to do with a cached token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Serve it.
    Reuse,
    /// Serve it, and renew it behind the caller's back.
    ReuseAndRefresh,
    /// Issue another before answering.
    Replace,
}

/// What a caller may expect of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// The least time the caller needs; zero leaves the floor in force.
    pub(super) min_remaining: Duration,
    /// What is known of the credential that issued the token.
    pub(super) issuer: Issuer,
}

/// The credential that issued a token, as far as it concerns the token's use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Issuer {
    /// It signs still, or it is what another replica signs with.
    Good,
    /// It is about to go: the token serves until there is another.
    Leaving,
    /// It is dead or not known: the token may be dead too.
    Gone,
}

impl Issuer {
    /// What becomes of a token that this credential issued at that time.
    pub(super) fn of(standing: KeyStanding, issued_at: Timestamp, signing_since: Timestamp) -> Self {
        match standing {
            KeyStanding::InUse => Self::Good,
            // Replicas learn of new keys at different times. One that signs with the spare has issued this token since:
            // replacing it would have the two of them replace each other's tokens in turn.
            KeyStanding::Spare if issued_at >= signing_since => Self::Good,
            KeyStanding::Spare => Self::Leaving,
            KeyStanding::Unknown | KeyStanding::Dead => Self::Gone,
        }
    }
}

/// Decides over a cached token at `now`. `spread` differs between tokens and is the same on every replica.
pub(super) fn decide(
    rules: &Settings,
    token: &AccessToken,
    spread: u64,
    now: Timestamp,
    wanted: Wanted,
) -> Decision {
    if wanted.issuer == Issuer::Gone || !satisfies(rules, token, now, wanted.min_remaining) {
        Decision::Replace
    } else if wanted.issuer == Issuer::Leaving || now >= refresh_at(rules, token, spread) {
        Decision::ReuseAndRefresh
    } else {
        Decision::Reuse
    }
}

/// Whether the token has as much time left as promised: the larger of the floor and `min_remaining`.
pub(super) fn satisfies(
    rules: &Settings,
    token: &AccessToken,
    now: Timestamp,
    min_remaining: Duration,
) -> bool {
    token.expires_at.since(now) >= rules.floor.max(min_remaining)
}

/// Whether the token may be served, marked degraded, when no better one can be had.
pub(super) fn usable_as_fallback(rules: &Settings, token: &AccessToken, now: Timestamp) -> bool {
    token.expires_at.since(now) >= rules.fallback_minimum
}

/// From when on a use of the token starts its renewal.
///
/// That is at `refresh_ahead` of its life; earlier if an outage of `availability_target` is to be lived through, though
/// not before a quarter of its life; never later than the floor allows. The jitter only moves it earlier, so that the
/// promise of the availability target holds.
pub(super) fn refresh_at(rules: &Settings, token: &AccessToken, spread: u64) -> Timestamp {
    let life = token.expires_at.since(token.issued_at);
    let by_share = token.issued_at.plus(life.mul_f64(rules.refresh_ahead.clamp(0.0, 1.0)));
    let by_target =
        token.expires_at.minus(rules.availability_target).max(token.issued_at.plus(life.mul_f64(0.25)));
    let by_floor = token.expires_at.minus(rules.floor);
    // 1/65536 steps are finer than any life in seconds.
    let share = f64::from(u16::try_from(spread & 0xffff).unwrap_or(0)) / 65_536.0;
    let earlier = life.mul_f64((rules.jitter * share).clamp(0.0, 1.0));
    by_share.min(by_target).min(by_floor).minus(earlier).max(token.issued_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::types::KeyId;
    use crate::secret::Secret;
    use proptest::prelude::*;

    const HOUR: u64 = 3600;

    fn token(issued: u64, expires: u64) -> AccessToken {
        AccessToken {
            secret: Secret::new("t"),
            issued_at: Timestamp::from_millis(issued * 1000),
            expires_at: Timestamp::from_millis(expires * 1000),
            key: KeyId([0; 8]),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn wanted(min_remaining: u64) -> Wanted {
        Wanted { min_remaining: Duration::from_secs(min_remaining), issuer: Issuer::Good }
    }

    #[test]
    fn a_day_is_reused_for_half_of_it_and_replaced_at_the_floor() {
        let rules = Settings { jitter: 0.0, ..Settings::default() };
        let day = token(0, 24 * HOUR);
        let decision = |now| decide(&rules, &day, 7, at(now), wanted(0));
        assert_eq!(decision(0), Decision::Reuse);
        assert_eq!(decision(12 * HOUR - 1), Decision::Reuse);
        assert_eq!(decision(12 * HOUR), Decision::ReuseAndRefresh);
        assert_eq!(decision(24 * HOUR - 15 * 60), Decision::ReuseAndRefresh);
        assert_eq!(decision(24 * HOUR - 15 * 60 + 1), Decision::Replace);
        assert_eq!(decision(25 * HOUR), Decision::Replace);
    }

    #[test]
    fn min_remaining_above_the_floor_decides() {
        let rules = Settings::default();
        let day = token(0, 24 * HOUR);
        assert_eq!(decide(&rules, &day, 0, at(HOUR), wanted(23 * HOUR)), Decision::Reuse);
        assert_eq!(decide(&rules, &day, 0, at(HOUR + 1), wanted(23 * HOUR)), Decision::Replace);
    }

    #[test]
    fn a_token_of_another_credential_is_replaced_at_the_latest_when_that_is_gone() {
        let decision = |issuer| {
            let wanted = Wanted { issuer, ..wanted(0) };
            decide(&Settings::default(), &token(0, 24 * HOUR), 0, at(0), wanted)
        };
        assert_eq!(decision(Issuer::Good), Decision::Reuse);
        assert_eq!(decision(Issuer::Leaving), Decision::ReuseAndRefresh);
        assert_eq!(decision(Issuer::Gone), Decision::Replace);
    }

    #[test]
    fn replicas_that_sign_with_different_keys_let_each_others_tokens_be() {
        let of = |standing, issued| Issuer::of(standing, at(issued), at(100));
        assert_eq!(of(KeyStanding::InUse, 50), Issuer::Good);
        assert_eq!(of(KeyStanding::Spare, 99), Issuer::Leaving, "issued before this replica changed keys");
        assert_eq!(
            of(KeyStanding::Spare, 100),
            Issuer::Good,
            "issued since, by one that has not changed yet"
        );
        assert_eq!(of(KeyStanding::Unknown, 100), Issuer::Gone);
        assert_eq!(of(KeyStanding::Dead, 100), Issuer::Gone);
    }

    proptest! {
        #[test]
        fn renewal_falls_within_the_life_and_before_the_floor(
            issued in 0u64..2_000_000_000,
            minutes in 60u64..=1440,
            ahead in 0.1f64..0.9,
            jitter in 0.0f64..0.05,
            target_hours in 0u64..=24,
            spread: u64,
        ) {
            let rules = Settings {
                refresh_ahead: ahead,
                jitter,
                availability_target: Duration::from_secs(target_hours * HOUR),
                ..Settings::default()
            };
            let token = token(issued, issued + minutes * 60);
            let due = refresh_at(&rules, &token, spread);
            prop_assert!(due > token.issued_at, "a token just issued is not due");
            prop_assert!(due <= token.expires_at.minus(rules.floor));
            let life = token.expires_at.since(token.issued_at);
            prop_assert!(due <= token.issued_at.plus(life.mul_f64(ahead)));
            let target = rules.availability_target.min(life.mul_f64(0.75));
            prop_assert!(token.expires_at.since(due) >= target, "it lives through the target outage");
        }

        #[test]
        fn served_without_degradation_means_long_enough(
            issued in 0u64..1_000_000, life in 0u64..200_000, now in 0u64..2_000_000,
            min_remaining in 0u64..100_000, spread: u64,
        ) {
            let rules = Settings::default();
            let token = token(issued, issued + life);
            if decide(&rules, &token, spread, at(now), wanted(min_remaining)) != Decision::Replace {
                let left = (issued + life).saturating_sub(now);
                prop_assert!(left >= min_remaining.max(15 * 60));
            }
        }

        #[test]
        fn no_time_however_odd_panics(issued: u64, expires: u64, now: u64, spread: u64, minimum: u64) {
            let token = AccessToken {
                secret: Secret::new("t"),
                issued_at: Timestamp::from_millis(issued),
                expires_at: Timestamp::from_millis(expires),
                key: KeyId([0; 8]),
            };
            decide(&Settings::default(), &token, spread, Timestamp::from_millis(now), wanted(minimum / 1000));
        }
    }
}
