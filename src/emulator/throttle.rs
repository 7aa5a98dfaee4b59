//! The published rate limits, as data (`limits.json`), scaled by a factor; off unless asked for.
//!
//! A window slides: a call is let through if fewer than the limit came in the window before it. A refused call counts
//! too, as the service's documentation warns. Bounded by the number of keys. Used by `service`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;

use super::operation::Operation;
use super::settings::StartError;
use crate::clock::Timestamp;

/// More keys than this are forgotten, so that nobody can fill the memory with invented ones.
const MAX_KEYS: usize = 50_000;

/// What the calls of a limit are counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Per {
    /// All calls to the resource together.
    Resource,
    /// The calls from one toll-free or geographic number.
    TollFreeNumber,
    /// The calls from one short code.
    ShortCode,
    /// The calls from all alphanumeric senders together.
    AlphanumericSenders,
    /// The calls about mail of domains of one's own together.
    CustomDomains,
    /// The calls about mail of domains that Azure manages together.
    ManagedDomains,
    /// The calls of one user.
    User,
    /// The calls about one chat thread.
    Thread,
    /// The calls of one user about one chat thread.
    UserAndThread,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limit {
    operations: Vec<Operation>,
    per: Per,
    window_seconds: u64,
    calls: u32,
}

/// What a limit can be counted by, as far as the call shows it.
#[derive(Debug, Clone, Default)]
pub(super) struct Subject {
    /// The user that calls.
    pub(super) user: Option<String>,
    /// The chat thread it is about.
    pub(super) thread: Option<String>,
    /// The sender of an SMS, or the domain that a mail is sent from.
    pub(super) sender: Option<String>,
}

/// The limits and who used how much of them.
pub(super) struct Throttle {
    limits: Vec<Limit>,
    windows: Mutex<HashMap<(usize, String), VecDeque<Timestamp>>>,
}

impl Throttle {
    /// The published limits times `factor`, each at least 1; with a factor of zero there are none.
    pub(super) fn new(factor: f64) -> Result<Self, StartError> {
        let mut limits = Vec::new();
        if factor > 0.0 {
            limits = serde_json::from_str(include_str!("limits.json")).map_err(|_| StartError::Limits)?;
        }
        for limit in &mut limits {
            let scaled: &mut Limit = limit;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a float beyond the range of u32 becomes its end, which is meant"
            )]
            let calls = (f64::from(scaled.calls) * factor) as u32;
            scaled.calls = calls.max(1);
        }
        Ok(Self { limits, windows: Mutex::default() })
    }

    /// Whether there is any limit, and so any need to know what a call is about.
    pub(super) fn is_on(&self) -> bool {
        !self.limits.is_empty()
    }

    /// Counts a call. Refused: how long until the limit that refused it would let it through.
    pub(super) fn admit(
        &self,
        operation: Operation,
        subject: &Subject,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wait = Duration::ZERO;
        for (index, limit) in self.limits.iter().enumerate() {
            if !limit.operations.contains(&operation) {
                continue;
            }
            let Some(key) = key(limit.per, subject) else { continue };
            if windows.len() >= MAX_KEYS {
                windows.clear();
            }
            let window = Duration::from_secs(limit.window_seconds);
            let calls = windows.entry((index, key)).or_default();
            while calls.front().is_some_and(|first| now.since(*first) >= window) {
                calls.pop_front();
            }
            if calls.len() >= limit.calls as usize {
                // The oldest makes room for this one, which counts although it is refused.
                calls.pop_front();
                let next = calls.front().copied().unwrap_or(now);
                wait = wait.max(window.saturating_sub(now.since(next)));
            }
            calls.push_back(now);
        }
        if wait.is_zero() { Ok(()) } else { Err(wait) }
    }

    /// Forgets all calls.
    pub(super) fn reset(&self) {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What the calls of a limit are told apart by; nothing: the limit does not concern this call.
fn key(per: Per, subject: &Subject) -> Option<String> {
    let sender = subject.sender.as_deref().unwrap_or_default();
    let is_short_code = (5..=6).contains(&sender.len()) && sender.bytes().all(|b| b.is_ascii_digit());
    let is_managed = sender.ends_with(".azurecomm.net");
    match per {
        Per::Resource => Some(String::new()),
        Per::TollFreeNumber => sender.starts_with('+').then(|| sender.to_owned()),
        Per::ShortCode => is_short_code.then(|| sender.to_owned()),
        Per::AlphanumericSenders => (!sender.starts_with('+') && !is_short_code).then(String::new),
        Per::CustomDomains => (!is_managed).then(String::new),
        Per::ManagedDomains => is_managed.then(String::new),
        Per::User => subject.user.clone(),
        Per::Thread => subject.thread.clone(),
        Per::UserAndThread => Some(format!("{} {}", subject.user.as_deref()?, subject.thread.as_deref()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000 + seconds * 1000)
    }

    fn from(sender: &str) -> Subject {
        Subject { sender: Some(sender.to_owned()), ..Subject::default() }
    }

    #[test]
    fn a_limit_lets_its_number_through_in_any_window() {
        let throttle = Throttle::new(0.01).unwrap();
        let number = from("+18005550100");
        // 200 a minute, a hundredth of it: two.
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(0)), Ok(()));
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(30)), Ok(()));
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(59)), Err(Duration::from_secs(31)));
        assert_eq!(
            throttle.admit(Operation::SendSms, &from("+18005550101"), at(59)),
            Ok(()),
            "another number"
        );
        // The refused call counts: it and the one of second 30 are in the window until second 90.
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(61)), Err(Duration::from_secs(58)));
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(121)), Ok(()));
        throttle.reset();
        assert_eq!(throttle.admit(Operation::SendSms, &number, at(121)), Ok(()));
    }

    #[test]
    fn without_a_factor_nothing_is_limited() {
        let throttle = Throttle::new(0.0).unwrap();
        assert!(!throttle.is_on());
        for _ in 0..10_000 {
            assert_eq!(throttle.admit(Operation::SendSms, &from("50505"), at(0)), Ok(()));
        }
    }

    #[test]
    fn the_published_limits_are_read_and_every_service_has_some() {
        let throttle = Throttle::new(1.0).unwrap();
        for operation in
            [Operation::IssueToken, Operation::SendSms, Operation::SendEmail, Operation::SendMessage]
        {
            assert!(
                throttle.limits.iter().any(|limit| limit.operations.contains(&operation)),
                "{operation:?}"
            );
        }
        assert!(throttle.limits.iter().all(|limit| limit.window_seconds > 0 && limit.calls > 0));
    }

    #[test]
    fn keys_are_bounded() {
        let throttle = Throttle::new(1.0).unwrap();
        for user in 0..=MAX_KEYS {
            let subject = Subject { user: Some(user.to_string()), ..Subject::default() };
            assert_eq!(throttle.admit(Operation::ListThreads, &subject, at(0)), Ok(()));
        }
        assert!(throttle.windows.lock().unwrap().len() <= MAX_KEYS);
    }

    /// What `limits.json` says, read by the letter: every call so far, and a count over each window.
    #[derive(Default)]
    struct Naive(Vec<(Operation, Subject, Timestamp)>);

    impl Naive {
        fn admits(
            &mut self,
            limits: &[Limit],
            operation: Operation,
            subject: &Subject,
            now: Timestamp,
        ) -> bool {
            let in_all = limits.iter().filter(|limit| limit.operations.contains(&operation)).all(|limit| {
                let Some(wanted) = key(limit.per, subject) else { return true };
                let before = self.0.iter().filter(|(operation, subject, at)| {
                    limit.operations.contains(operation)
                        && key(limit.per, subject).as_ref() == Some(&wanted)
                        && now.since(*at) < Duration::from_secs(limit.window_seconds)
                });
                before.count() < limit.calls as usize
            });
            self.0.push((operation, subject.clone(), now));
            in_all
        }
    }

    fn subject() -> impl Strategy<Value = Subject> {
        let users = prop::sample::select(vec!["a", "b"]);
        let threads = prop::sample::select(vec!["x", "y"]);
        let senders = prop::sample::select(vec![
            "+18005550100",
            "+18005550101",
            "50505",
            "Contoso",
            "a.example",
            "b.azurecomm.net",
        ]);
        (users, threads, senders).prop_map(|(user, thread, sender)| Subject {
            user: Some(user.to_owned()),
            thread: Some(thread.to_owned()),
            sender: Some(sender.to_owned()),
        })
    }

    proptest! {
        #[test]
        fn it_decides_as_a_naive_count_of_all_calls_does(
            factor in prop::sample::select(vec![0.01, 0.1, 0.3]),
            calls in prop::collection::vec(
                (prop::sample::select(Operation::ALL.to_vec()), subject(), 0_u64..4000), 0..120,
            ),
            few in any::<bool>(),
        ) {
            let throttle = Throttle::new(factor).unwrap();
            let (mut naive, mut now) = (Naive::default(), at(0));
            for (operation, subject, millis) in calls {
                now = now.plus(Duration::from_millis(millis));
                // Few operations make crowded windows.
                let operation = if few { Operation::SendTyping } else { operation };
                let admitted = throttle.admit(operation, &subject, now);
                prop_assert_eq!(admitted.is_ok(), naive.admits(&throttle.limits, operation, &subject, now));
            }
        }

        /// Who waits as long as told, and calls no more, is let through.
        #[test]
        fn the_wait_it_names_is_enough_and_no_longer_than_needed(
            gaps in prop::collection::vec(0_u64..5000, 1..60), subject in subject(),
        ) {
            let throttle = Throttle::new(0.1).unwrap();
            let mut now = at(0);
            let mut wait = None;
            for gap in gaps {
                now = now.plus(Duration::from_millis(gap));
                wait = throttle.admit(Operation::SendTyping, &subject, now).err();
            }
            if let Some(wait) = wait {
                let copy = |moment| {
                    let windows = throttle.windows.lock().unwrap().clone();
                    let throttle = Throttle { limits: throttle.limits.clone(), windows: Mutex::new(windows) };
                    throttle.admit(Operation::SendTyping, &subject, moment)
                };
                prop_assert_eq!(copy(now.plus(wait)), Ok(()));
                prop_assert!(copy(now.plus(wait).minus(Duration::from_millis(1))).is_err());
            }
        }
    }
}
