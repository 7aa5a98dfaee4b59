//! What messaging has done in the background: messages under way are followed, and the log of events is looked at.
//!
//! Each replica runs both; the store sees to it that a message is followed by one of them, and a replica looks at the log
//! only while somebody watches there. Both end by their token, after the step they are at or a short while. Errors make
//! them slower, never end them.

use std::pin::pin;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::broker::error::Error;
use crate::messaging::Messaging;
use crate::messaging::chat::Chat;

/// How often mails that are due are asked for; sooner while there are some.
const FOLLOW: Pace = Pace::of(Duration::from_millis(500), Duration::from_secs(30));
const FOLLOW_ON: Duration = Duration::from_millis(50);
/// How often the log's end is asked for.
const LOOK: Pace = Pace::of(Duration::from_millis(200), Duration::from_secs(5));
/// How long a step may go on after the end.
const FINISH: Duration = Duration::from_secs(2);

/// How long to wait between steps: longer with each failure in a row.
#[derive(Clone, Copy)]
struct Pace {
    usual: Duration,
    longest: Duration,
    failures: u32,
}

impl Pace {
    const fn of(usual: Duration, longest: Duration) -> Self {
        Self { usual, longest, failures: 0 }
    }

    /// The wait after a step; replicas that began together part in time.
    fn after(&mut self, failed: bool, chance: f64) -> Duration {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        let wait = self.usual.saturating_mul(2_u32.saturating_pow(self.failures)).min(self.longest);
        wait.mul_f64(0.8 + 0.4 * chance)
    }
}

/// Follows mails, and chat messages whose end is not known, until `stop`.
pub(super) async fn follow(chat: Chat, stop: CancellationToken) {
    let mut pace = FOLLOW;
    while let Some(step) = to_its_end(chat.follow_operations(), &stop).await {
        tell(&step, pace.failures, "mails and chat messages under way are not followed");
        let wait = pace.after(step.is_err(), rand::random());
        let wait = if step.is_ok_and(|count| count > 0) { FOLLOW_ON } else { wait };
        if stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_none() {
            return;
        }
    }
}

/// Wakes watchers of this replica when the log grew on another, until `stop`.
pub(super) async fn look_at_the_log(messaging: Messaging, stop: CancellationToken) {
    let (mut pace, mut known) = (LOOK, None);
    loop {
        let mut failed = false;
        if messaging.is_watched() {
            let Some(step) = to_its_end(messaging.look_at_the_log(known.as_ref()), &stop).await else {
                return;
            };
            tell(&step, pace.failures, "watchers hear of events on other replicas later");
            failed = step.is_err();
            known = step.ok().or(known);
        }
        if stop.run_until_cancelled(tokio::time::sleep(pace.after(failed, rand::random()))).await.is_none() {
            return;
        }
    }
}

/// Takes a step that may still end shortly after `stop`; none if it did not, or was not begun.
async fn to_its_end<T>(
    step: impl Future<Output = Result<T, Error>>,
    stop: &CancellationToken,
) -> Option<Result<T, Error>> {
    if stop.is_cancelled() {
        return None;
    }
    let mut step = pin!(step);
    tokio::select! {
        done = &mut step => Some(done),
        () = stop.cancelled() => tokio::time::timeout(FINISH, step).await.ok(),
    }
}

/// Says that it fails when it begins to, not each time.
fn tell<T>(step: &Result<T, Error>, failures: u32, what: &'static str) {
    match step {
        Err(error) if failures == 0 => {
            let error = error as &dyn std::error::Error;
            tracing::warn!(error, "{what}; trying again");
        }
        Err(error) => tracing::debug!(reason = error.reason(), "{what}; trying again"),
        Ok(_) if failures > 0 => tracing::info!("it works again, although a while ago: {what}"),
        Ok(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_grows_with_failures_up_to_a_bound_and_is_the_usual_after_a_success() {
        let mut pace = FOLLOW;
        let waits: Vec<_> = (0..8).map(|_| pace.after(true, 0.5).as_millis()).collect();
        assert_eq!(waits, [1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(pace.after(false, 0.5), Duration::from_millis(500));
        assert_eq!(pace.after(false, 0.0), Duration::from_millis(400));
        assert_eq!(pace.after(false, 1.0), Duration::from_millis(600));
        pace.failures = u32::MAX;
        assert_eq!(pace.after(true, 0.5), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_step_under_way_may_end_shortly_after_the_wish_to_stop() {
        let stop = CancellationToken::new();
        let step = |time| async move {
            tokio::time::sleep(time).await;
            Ok::<_, Error>(())
        };
        let asked = stop.clone();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            asked.cancel();
        });
        assert!(to_its_end(step(Duration::from_secs(1)), &stop).await.is_some_and(|done| done.is_ok()));
        assert!(to_its_end(step(Duration::ZERO), &stop).await.is_none(), "none is begun after it");
        let stop = CancellationToken::new();
        let asked = stop.clone();
        tokio::spawn(async move { asked.cancel() });
        assert!(to_its_end(step(Duration::from_hours(1)), &stop).await.is_none(), "nor waited for long");
    }
}
