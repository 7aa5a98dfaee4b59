//! Jobs on a clock that stands still unless it is moved.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::clock::{Clock, ManualClock};
use crate::emulator::{self, EmulatorHandle, Settings};

const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);
/// How long a test waits for something that must happen.
const LONG: Duration = Duration::from_secs(20);

/// What ran, in order.
#[derive(Clone, Default)]
struct Ran(Arc<Mutex<Vec<u64>>>, Arc<Notify>);

impl Ran {
    fn job(&self, number: u64) -> impl FnOnce(&Shared) + Send + 'static {
        let ran = self.clone();
        move |_| {
            ran.0.lock().unwrap().push(number);
            ran.1.notify_one();
        }
    }

    fn so_far(&self) -> Vec<u64> {
        self.0.lock().unwrap().clone()
    }

    async fn until(&self, count: usize) -> Vec<u64> {
        let enough = async {
            while self.so_far().len() < count {
                self.1.notified().await;
            }
        };
        assert!(tokio::time::timeout(LONG, enough).await.is_ok(), "only {:?} ran", self.so_far());
        self.so_far()
    }
}

async fn start() -> (EmulatorHandle, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(START));
    let given = Arc::clone(&clock) as Arc<dyn Clock>;
    (emulator::start(Settings::on_free_ports(), given).await.unwrap(), clock)
}

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

#[tokio::test]
async fn a_jump_runs_what_fell_due_in_between_in_order_and_nothing_else() {
    let (emulator, _) = start().await;
    let (scheduler, ran) = (&emulator.shared.scheduler, Ran::default());
    for (number, seconds) in [(3, 30), (1, 10), (5, 3601), (2, 20), (4, 3600)] {
        scheduler.at(after(seconds), ran.job(number));
    }
    emulator.advance(Duration::from_hours(1));
    assert_eq!(ran.until(4).await, [1, 2, 3, 4]);
    assert_eq!(scheduler.pending(), 1);
    emulator.advance(Duration::from_secs(1));
    assert_eq!(ran.until(5).await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn jobs_of_the_same_time_run_in_the_order_they_came() {
    let (emulator, _) = start().await;
    let ran = Ran::default();
    for number in 0..100 {
        emulator.shared.scheduler.at(after(1), ran.job(number));
    }
    emulator.advance(Duration::from_secs(1));
    assert_eq!(ran.until(100).await, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_job_that_is_due_already_runs_without_a_jump() {
    let (emulator, _) = start().await;
    let ran = Ran::default();
    emulator.shared.scheduler.at(START, ran.job(1));
    emulator.shared.scheduler.at(Timestamp::default(), ran.job(2));
    assert_eq!(ran.until(2).await.len(), 2);
}

#[tokio::test]
async fn a_clock_that_somebody_else_moves_is_noticed() {
    let (emulator, clock) = start().await;
    let ran = Ran::default();
    emulator.shared.scheduler.at(after(60), ran.job(1));
    clock.advance(Duration::from_mins(1));
    assert_eq!(ran.until(1).await, [1]);
}

#[tokio::test]
async fn a_job_may_ask_for_another_which_a_jump_reaches_too() {
    let (emulator, _) = start().await;
    let ran = Ran::default();
    let second = ran.job(2);
    emulator.shared.scheduler.at(after(10), move |shared| shared.scheduler.at(after(20), second));
    emulator.advance(Duration::from_mins(1));
    assert_eq!(ran.until(1).await, [2]);
}

#[tokio::test]
async fn a_reset_forgets_what_waits_and_the_next_job_runs() {
    let (emulator, _) = start().await;
    let ran = Ran::default();
    emulator.shared.scheduler.at(after(10), ran.job(1));
    emulator.reset();
    assert_eq!(emulator.shared.scheduler.pending(), 0);
    emulator.shared.scheduler.at(after(20), ran.job(2));
    emulator.advance(Duration::from_mins(1));
    assert_eq!(ran.until(1).await, [2]);
}

#[test]
fn a_job_too_many_does_not_wait() {
    let scheduler = Scheduler::default();
    for _ in 0..MAX_JOBS {
        scheduler.at(after(60), |_| {});
    }
    assert!(scheduler.take_due(START).is_none());
    scheduler.at(after(60), |_| {});
    assert!(scheduler.take_due(START).is_some(), "it is due at once");
    assert!(scheduler.take_due(START).is_none(), "and it alone");
}

proptest! {
    /// Whatever the times, jobs are taken in the order of their times, and not before.
    #[test]
    fn jobs_are_taken_in_order_and_never_early(
        times in prop::collection::vec(0_u64..50, 0..60), jumps in prop::collection::vec(0_u64..20, 0..20),
    ) {
        let scheduler = Scheduler::default();
        for time in &times {
            scheduler.at(Timestamp::from_millis(*time), |_| {});
        }
        let mut now = 0;
        for jump in jumps {
            now += jump;
            let expected = times.iter().filter(|time| **time <= now).count();
            while scheduler.take_due(Timestamp::from_millis(now)).is_some() {}
            prop_assert_eq!(times.len() - scheduler.pending(), expected);
            let next = times.iter().filter(|time| **time > now).min();
            let rest = next.map(|next| Duration::from_millis(next - now).min(LOOK_AGAIN));
            prop_assert_eq!(scheduler.rest(Timestamp::from_millis(now)), rest);
        }
    }
}
