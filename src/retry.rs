//! When to try again, as arithmetic: backoff with jitter, what Retry-After asks for, how one budget covers all attempts.
//!
//! Pure: it never sleeps, reads no clock and draws no random numbers; those are passed in. Whether a failure may be
//! retried at all is the caller's knowledge. Used by the ACS client.

use std::time::Duration;

use crate::clock::Timestamp;

/// The longest wait a server may ask for; longer ones are read as this.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The least time that makes an attempt worth starting.
pub const LEAST_ATTEMPT: Duration = Duration::from_millis(20);

/// Waits that double, with jitter, so that callers that failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait after the first failure.
    pub first: Duration,
    /// The longest wait after any failure.
    pub cap: Duration,
}

impl Backoff {
    /// The wait after that many failures: 50 to 100 % of the doubled first wait. `chance` is uniform in 0 to 1.
    pub fn delay(self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let full = self.first.saturating_mul(1 << doublings).min(self.cap);
        let chance = if chance.is_finite() { chance.clamp(0.0, 1.0) } else { 1.0 };
        full.mul_f64(0.5 + chance / 2.0).min(full)
    }
}

/// How often a call is tried, and how its time is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Attempts at the most.
    pub attempts: u32,
    /// The most time for one attempt.
    pub per_attempt: Duration,
    /// The waits between attempts.
    pub backoff: Backoff,
}

impl Plan {
    /// The time for the next attempt when `remaining` is left of the whole call; none if it is not worth starting.
    ///
    /// An attempt may use all that is left up to its own limit: dividing a short budget evenly would turn one slow
    /// success into several failures.
    pub fn slice(&self, remaining: Duration) -> Option<Duration> {
        let slice = self.per_attempt.min(remaining);
        (slice >= LEAST_ATTEMPT.min(self.per_attempt) && !slice.is_zero()).then_some(slice)
    }

    /// The wait before another attempt after `made` failed ones, or none if there must be no other: no attempts are
    /// left, or the wait leaves no time for one. `asked` is what the server asked for; it is never undercut.
    pub fn wait(
        &self,
        made: u32,
        remaining: Duration,
        asked: Option<Duration>,
        chance: f64,
    ) -> Option<Duration> {
        if made >= self.attempts {
            return None;
        }
        let wait = self.backoff.delay(made, chance).max(asked.unwrap_or_default());
        self.slice(remaining.checked_sub(wait)?).map(|_| wait)
    }
}

/// The headers by which a server says when to come back, as found in an answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct RetryAfter<'a> {
    /// `retry-after-ms` or `x-ms-retry-after-ms`: milliseconds. The most precise, so it wins.
    pub millis: Option<&'a str>,
    /// `Retry-After`: seconds, or an HTTP date.
    pub standard: Option<&'a str>,
    /// `Date` of the same answer: an HTTP date in `Retry-After` is relative to it, whatever our own clock says.
    pub date: Option<&'a str>,
}

impl RetryAfter<'_> {
    /// The wait asked for, at most [`LONGEST_WAIT`]; none if there is none or it cannot be read.
    pub fn wait(&self, now: Timestamp) -> Option<Duration> {
        let millis = self.millis.and_then(number).map(Duration::from_millis);
        let wait = millis.or_else(|| {
            let text = self.standard?.trim();
            number(text).map(Duration::from_secs).or_else(|| {
                let now = self.date.and_then(http_date).unwrap_or(now);
                http_date(text).map(|at| at.since(now))
            })
        });
        wait.map(|wait| wait.min(LONGEST_WAIT))
    }
}

/// A number of decimal digits; one that is too large for the type is the largest.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(text.parse().unwrap_or(u64::MAX))
}

fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text.trim()).ok().map(Timestamp::from_system_time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BACKOFF: Backoff = Backoff { first: Duration::from_millis(100), cap: Duration::from_secs(2) };
    const NOW: Timestamp = Timestamp::from_millis(784_111_777_000); // Sun, 06 Nov 1994 08:49:37 GMT

    fn asked(standard: &str) -> Option<Duration> {
        RetryAfter { standard: Some(standard), ..RetryAfter::default() }.wait(NOW)
    }

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_takes_up_to_half() {
        let full: Vec<u128> = (1..8).map(|made| BACKOFF.delay(made, 1.0).as_millis()).collect();
        assert_eq!(full, [100, 200, 400, 800, 1600, 2000, 2000]);
        assert_eq!(BACKOFF.delay(1, 0.0), Duration::from_millis(50));
        assert_eq!(BACKOFF.delay(u32::MAX, f64::NAN), BACKOFF.cap);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked(" 0 "), Some(Duration::ZERO));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:27 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("99999999999999999999999"), Some(LONGEST_WAIT));
        for unreadable in ["", "-1", "1.5", "soon", "+3", "0x10"] {
            assert_eq!(asked(unreadable), None, "{unreadable}");
        }
    }

    #[test]
    fn a_date_is_relative_to_the_servers_own_clock() {
        let headers = RetryAfter {
            standard: Some("Sun, 06 Nov 1994 09:00:05 GMT"),
            date: Some("Sun, 06 Nov 1994 09:00:00 GMT"),
            millis: None,
        };
        assert_eq!(headers.wait(NOW), Some(Duration::from_secs(5)));
    }

    #[test]
    fn milliseconds_win_over_seconds_unless_unreadable() {
        let both = RetryAfter { millis: Some("250"), standard: Some("9"), date: None };
        assert_eq!(both.wait(NOW), Some(Duration::from_millis(250)));
        let odd = RetryAfter { millis: Some("a while"), ..both };
        assert_eq!(odd.wait(NOW), Some(Duration::from_secs(9)));
    }

    #[test]
    fn a_wait_that_does_not_fit_ends_the_call_at_once() {
        let plan = Plan { attempts: 3, per_attempt: Duration::from_secs(3), backoff: BACKOFF };
        let second = Some(Duration::from_secs(1));
        assert_eq!(plan.wait(1, Duration::from_secs(2), second, 0.5), second);
        assert_eq!(
            plan.wait(1, Duration::from_millis(1010), second, 0.5),
            None,
            "no time left for the attempt"
        );
        assert_eq!(plan.wait(3, Duration::from_secs(60), None, 0.5), None, "no attempts left");
    }

    proptest! {
        #[test]
        fn no_header_text_panics(millis in ".{0,40}", standard in ".{0,40}", date in ".{0,40}", now: u64) {
            let headers = RetryAfter { millis: Some(&millis), standard: Some(&standard), date: Some(&date) };
            if let Some(wait) = headers.wait(Timestamp::from_millis(now)) {
                prop_assert!(wait <= LONGEST_WAIT);
            }
        }

        #[test]
        fn attempts_and_waits_together_never_outlast_the_budget(
            budget in 0u64..20_000, per_attempt in 1u64..5_000, attempts in 1u32..11,
            asked in proptest::option::of(0u64..5_000), chance in 0.0f64..1.0,
        ) {
            let plan = Plan { attempts, per_attempt: Duration::from_millis(per_attempt), backoff: BACKOFF };
            let asked = asked.map(Duration::from_millis);
            let (mut left, mut made) = (Duration::from_millis(budget), 0);
            while let Some(slice) = plan.slice(left) {
                prop_assert!(slice <= plan.per_attempt && slice <= left);
                left -= slice;
                made += 1;
                let Some(wait) = plan.wait(made, left, asked, chance) else { break };
                prop_assert!(wait >= asked.unwrap_or_default());
                prop_assert!(wait < left, "a wait leaves time for the attempt after it");
                left -= wait;
            }
            prop_assert!(made <= attempts);
        }

        #[test]
        fn jitter_keeps_between_half_and_full(failures in 1u32..40, chance in 0.0f64..=1.0) {
            let (full, some) = (BACKOFF.delay(failures, 1.0), BACKOFF.delay(failures, chance));
            prop_assert!(some <= full && some >= full / 2);
        }
    }
}
