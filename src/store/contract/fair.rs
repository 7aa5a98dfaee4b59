//! The rules of `FairBudget`. How shares work out over time is simulated, on a clock that the simulation moves.

use super::*;
use crate::broker::ports::{Limit, Taken};
use crate::messaging::ports::FairBudget;

fn limit(window: Duration, max: u32) -> Limit {
    Limit { window, max }
}

async fn take(h: &Harness, bucket: &str, caller: &str, limits: &[Limit], cost: u32) -> Taken {
    h.messages.budgets.take_fair(bucket, caller, limits, cost).await.unwrap().taken
}

fn refused(taken: Taken) -> bool {
    matches!(taken, Taken::ComeBack { after } if after > Duration::ZERO)
}

pub(crate) async fn one_caller_alone_gets_all_there_is_and_no_more(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 5), limit(2 * HOUR, 7)]);
    assert_eq!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { remaining: 4 });
    assert_eq!(take(h, &bucket, "a", &limits, 3).await, Taken::Go { remaining: 1 });
    assert!(refused(take(h, &bucket, "a", &limits, 2).await));
    assert_eq!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { remaining: 0 });
    let Taken::ComeBack { after } = take(h, &bucket, "a", &limits, 1).await else {
        panic!("more than there was")
    };
    assert!(after > HOUR / 2 && after <= HOUR + HOUR / 9, "{after:?}");
}

pub(crate) async fn of_100_concurrent_takers_of_10_callers_only_as_many_as_fit_go(h: &Harness) {
    let bucket = h.name("bucket");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let (budgets, bucket) = (h.messages.budgets.clone(), bucket.clone());
        tasks.spawn(async move {
            let limits = [limit(HOUR, 60), limit(2 * HOUR, 41)];
            budgets.take_fair(&bucket, &format!("caller {}", number % 10), &limits, 2).await.unwrap().taken
        });
    }
    let taken = tasks.join_all().await;
    let gone = taken.iter().filter(|taken| matches!(taken, Taken::Go { .. })).count();
    assert!((10..=20).contains(&gone), "{gone}");
}

pub(crate) async fn what_one_limit_refuses_is_not_taken_from_the_others(h: &Harness) {
    let (bucket, both) = (h.name("bucket"), [limit(HOUR, 10), limit(2 * HOUR, 3)]);
    assert_eq!(take(h, &bucket, "a", &both, 2).await, Taken::Go { remaining: 1 });
    for _ in 0..5 {
        assert!(refused(take(h, &bucket, "a", &both, 2).await));
    }
    assert_eq!(take(h, &bucket, "a", &both, 1).await, Taken::Go { remaining: 0 });
    assert_eq!(take(h, &bucket, "a", &both[..1], 7).await, Taken::Go { remaining: 0 });
}

pub(crate) async fn what_never_fits_is_refused_and_what_costs_nothing_goes(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 5), limit(2 * HOUR, 9)]);
    assert!(refused(take(h, &bucket, "a", &limits, 6).await));
    assert!(refused(take(h, &bucket, "b", &limits, u32::MAX).await));
    assert!(refused(take(h, &bucket, "c", &[limit(HOUR, 0)], 1).await));
    // Wishes that never fit keep nothing from the others.
    assert_eq!(take(h, &bucket, "d", &limits, 5).await, Taken::Go { remaining: 0 });
    assert_eq!(take(h, &bucket, "d", &limits, 0).await, Taken::Go { remaining: 0 });
    assert!(matches!(take(h, &bucket, "d", &[], 5).await, Taken::Go { .. }));
    let (widest, other) = ([limit(Duration::MAX, u32::MAX)], h.name("bucket"));
    assert!(matches!(take(h, &other, "a", &widest, u32::MAX).await, Taken::Go { .. }));
    assert!(refused(take(h, &other, "a", &widest, 1).await));
}

pub(crate) async fn a_caller_leaves_another_one_its_share(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 10)]);
    for _ in 0..5 {
        assert!(matches!(take(h, &bucket, "b", &limits, 1).await, Taken::Go { .. }));
    }
    let mut taken = 0;
    for _ in 0..20 {
        taken += usize::from(matches!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { .. }));
    }
    assert_eq!(taken, 5);
    let other = h.name("bucket");
    assert!(matches!(take(h, &other, "b", &limits, 2).await, Taken::Go { .. }));
    let mut taken = 0;
    for _ in 0..20 {
        taken += usize::from(matches!(take(h, &other, "a", &limits, 1).await, Taken::Go { .. }));
    }
    // The other one is expected to ask for as much again at most.
    assert!((5..=8).contains(&taken), "{taken}");
    assert!(matches!(take(h, &other, "b", &limits, 1).await, Taken::Go { .. }));
}

pub(crate) async fn fair_buckets_and_callers_with_odd_names_stay_apart(h: &Harness) {
    let (stem, limits) = (h.name(""), [limit(HOUR, 1)]);
    for name in odd_names() {
        let bucket = format!("{name}{stem}");
        assert_eq!(take(h, &bucket, &name, &limits, 1).await, Taken::Go { remaining: 0 }, "{name}");
        assert!(refused(take(h, &bucket, &name, &limits, 1).await), "{name}");
    }
    // Each of them gets one of as many as they are, and then no more; more would share a place.
    let names: Vec<String> = odd_names().into_iter().take(40).collect();
    let bucket = h.name("bucket");
    let limits = [limit(HOUR, u32::try_from(names.len()).unwrap())];
    for name in &names {
        assert!(matches!(take(h, &bucket, name, &limits, 1).await, Taken::Go { .. }), "{name}");
    }
    for name in &names {
        assert!(refused(take(h, &bucket, name, &limits, 1).await), "{name}");
    }
}

pub(crate) async fn what_is_given_back_is_free_again_and_nothing_else_is(h: &Harness) {
    let (bucket, limits, budgets) =
        (h.name("bucket"), [limit(HOUR, 5), limit(2 * HOUR, 7)], &h.messages.budgets);
    let first = budgets.take_fair(&bucket, "a", &limits, 3).await.unwrap();
    assert_eq!(first.taken, Taken::Go { remaining: 2 });
    budgets.give_back(&bucket, "a", &limits, 2, first.at).await.unwrap();
    assert_eq!(take(h, &bucket, "a", &limits, 0).await, Taken::Go { remaining: 4 });
    // Neither more than was taken, nor of another time, nor another's, nor in another bucket.
    budgets.give_back(&bucket, "a", &limits, 9, first.at).await.unwrap();
    let second = budgets.take_fair(&bucket, "a", &limits, 4).await.unwrap();
    assert_eq!(second.taken, Taken::Go { remaining: 1 });
    budgets.give_back(&bucket, "a", &limits, 4, second.at.minus(HOUR)).await.unwrap();
    budgets.give_back(&bucket, "b", &limits, 4, second.at).await.unwrap();
    budgets.give_back(&h.name("bucket"), "a", &limits, 4, second.at).await.unwrap();
    assert_eq!(take(h, &bucket, "a", &limits, 0).await, Taken::Go { remaining: 1 });
}

pub(crate) async fn while_a_bucket_is_paused_nobody_gets_anything(h: &Harness) {
    let (bucket, limits, budgets) = (h.name("bucket"), [limit(HOUR, 5)], &h.messages.budgets);
    assert!(matches!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { .. }));
    budgets.pause(&bucket, LONG).await.unwrap();
    // A shorter pause does not end a longer one.
    budgets.pause(&bucket, SHORT).await.unwrap();
    for caller in ["a", "b"] {
        let Taken::ComeBack { after } = take(h, &bucket, caller, &limits, 1).await else { panic!("it went") };
        assert!(after > LONG / 2 && after <= LONG, "{after:?}");
    }
    assert!(refused(take(h, &bucket, "c", &[], 1).await));
    let other = h.name("bucket");
    assert!(matches!(take(h, &other, "a", &limits, 1).await, Taken::Go { .. }));
    budgets.pause(&other, SHORT).await.unwrap();
    h.elapse(SHORT);
    h.until("the pause is over", || async { !refused(take(h, &other, "a", &limits, 1).await) }).await;
    // What was taken before it is not forgotten.
    assert_eq!(take(h, &other, "a", &limits, 0).await, Taken::Go { remaining: 3 });
}

pub(crate) async fn a_fair_budget_comes_back_after_the_wait(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(SHORT, 3), limit(LONG, 1000)]);
    assert!(matches!(take(h, &bucket, "a", &limits, 3).await, Taken::Go { .. }));
    if let Taken::ComeBack { after } = take(h, &bucket, "a", &limits, 1).await {
        assert!(after > Duration::ZERO && after <= SHORT + SHORT / 9, "{after:?}");
        h.elapse(after);
    }
    h.until("the budget is free again", || async {
        matches!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { .. })
    })
    .await;
}

/// A caller of a simulation: when it asks, how often in a row, and for how much.
#[derive(Clone)]
struct Asker {
    name: &'static str,
    from: u64,
    until: u64,
    every: u64,
    times: usize,
    cost: u32,
    /// Comes back only when it was told to.
    is_patient: bool,
}

fn asker(name: &'static str, every: u64, times: usize, cost: u32) -> Asker {
    Asker { name, from: 0, until: u64::MAX, every, times, cost, is_patient: false }
}

/// A window of the simulations, and a tick of them.
const WINDOW: u64 = 6000;
const TICK: u64 = 100;
/// Where in five windows a simulation starts.
const PHASE: u64 = 20_000;

fn ms(limit_ms: u64, max: u32) -> Limit {
    limit(Duration::from_millis(limit_ms), max)
}

/// What each asker took, and when.
struct Outcome {
    takes: Vec<Vec<(u64, u32)>>,
}

impl Outcome {
    /// Units that an asker took from window `from` to before window `to`.
    fn of(&self, asker: usize, from: u64, to: u64) -> u32 {
        let range = from * WINDOW..to * WINDOW;
        self.takes[asker].iter().filter(|(at, _)| range.contains(at)).map(|&(_, cost)| cost).sum()
    }
}

/// Runs for so many windows; fails if in any window of any limit more than its maximum was taken.
async fn simulate(h: &Harness, limits: &[Limit], askers: &[Asker], windows: u64) -> Outcome {
    let (budgets, clock): (Arc<dyn FairBudget>, Arc<ManualClock>) = h.simulated();
    let bucket = h.name("bucket");
    // Everywhere at the same place within slices and frames, so that a simulation comes out the same.
    let start =
        Timestamp::from_millis((clock.now().as_millis() - PHASE).div_ceil(5 * WINDOW) * 5 * WINDOW + PHASE);
    let mut outcome = Outcome { takes: vec![Vec::new(); askers.len()] };
    let mut not_before = vec![0; askers.len()];
    let mut all: Vec<(u64, u32)> = Vec::new();
    for tick in 0..windows * WINDOW / TICK {
        let at = tick * TICK;
        clock.set(start.plus(Duration::from_millis(at)));
        for (number, asker) in askers.iter().enumerate() {
            if at < asker.from.max(not_before[number])
                || at >= asker.until
                || (at - asker.from) % asker.every >= TICK
            {
                continue;
            }
            for _ in 0..asker.times {
                match budgets.take_fair(&bucket, asker.name, limits, asker.cost).await.unwrap().taken {
                    Taken::Go { .. } => {
                        outcome.takes[number].push((at, asker.cost));
                        all.push((at, asker.cost));
                        for limit in limits {
                            let window = u64::try_from(limit.window.as_millis()).unwrap();
                            let within = all.iter().rev().take_while(|&&(then, _)| then + window > at);
                            let taken: u32 = within.map(|&(_, cost)| cost).sum();
                            assert!(taken <= limit.max, "{taken} at {at}, {limit:?}");
                        }
                    }
                    Taken::ComeBack { after } if asker.is_patient => {
                        not_before[number] = at + u64::try_from(after.as_millis()).unwrap();
                        break;
                    }
                    Taken::ComeBack { .. } => {}
                }
            }
        }
    }
    for (number, asker) in askers.iter().enumerate() {
        println!("{limits:?}, {windows} windows: {} took {}", asker.name, outcome.of(number, 0, windows));
    }
    outcome
}

/// Of the units of a maximum, how many a window can see: counting in slices costs up to an eleventh.
fn per_window(max: u32) -> f64 {
    f64::from(max) * 10.0 / 11.0
}

fn assert_about(what: &str, is: u32, expected: f64, tolerance: f64) {
    let off = (f64::from(is) - expected).abs() / expected;
    assert!(off <= tolerance, "{what}: {is} instead of {expected:.1}");
}

pub(crate) async fn a_flood_does_not_take_anothers_share(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    let seen = simulate(h, &limits, &[asker("flood", TICK, 4, 1), asker("steady", 200, 1, 1)], 7).await;
    let (flood, steady) = (seen.of(0, 2, 7), seen.of(1, 2, 7));
    assert_about("the flood's share", flood, per_window(20) * 5.0, 0.1);
    assert_about("the other's share", steady, per_window(20) * 5.0, 0.1);
}

pub(crate) async fn who_wants_less_than_its_share_gets_it_and_the_others_the_rest(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    let seen = simulate(h, &limits, &[asker("flood", TICK, 4, 1), asker("little", 600, 1, 1)], 7).await;
    let little: u32 = seen.of(1, 2, 7);
    assert!(little >= 45, "it asked for 50 and got {little}");
    // It asks for 10 in a window, of which up to 11 count at a time.
    assert_about("the rest", seen.of(0, 2, 7), per_window(40 - 11) * 5.0, 0.13);
}

pub(crate) async fn units_that_cannot_be_divided_go_in_turn(h: &Harness) {
    let limits = [ms(WINDOW, 5)];
    let askers = [asker("a", TICK, 2, 1), asker("b", 200, 1, 1), asker("c", 500, 1, 1)];
    let seen = simulate(h, &limits, &askers, 13).await;
    let each: Vec<u32> = (0..3).map(|number| seen.of(number, 1, 13)).collect();
    let total: u32 = each.iter().sum();
    for got in &each {
        assert_about("a third", *got, f64::from(total) / 3.0, 0.1);
    }
    assert!(f64::from(total) >= per_window(5) * 12.0 * 0.85, "{total} in all");
}

pub(crate) async fn more_callers_than_units_take_turns(h: &Harness) {
    let limits = [ms(WINDOW, 3)];
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    let askers: Vec<Asker> =
        names.into_iter().zip(1..).map(|(name, place)| asker(name, 100 * place, 1, 1)).collect();
    let seen = simulate(h, &limits, &askers, 20).await;
    let each: Vec<u32> = (0..7).map(|number| seen.of(number, 0, 20)).collect();
    let (least, most) = (each.iter().min().unwrap(), each.iter().max().unwrap());
    assert!(most - least <= 1, "{each:?}");
    assert!(f64::from(each.iter().sum::<u32>()) >= per_window(3) * 20.0 * 0.85, "{each:?}");
}

pub(crate) async fn a_batch_larger_than_a_share_gets_through_a_flood(h: &Harness) {
    let limits = [ms(WINDOW, 24)];
    let askers = [asker("a", TICK, 2, 1), asker("b", TICK, 2, 1), asker("batch", 500, 1, 20)];
    let seen = simulate(h, &limits, &askers, 16).await;
    let each: Vec<u32> = (0..3).map(|number| seen.of(number, 1, 16)).collect();
    assert!(each[2] >= 100, "{each:?}");
    assert_about("the floods are equal", each[0], f64::from(each[1]), 0.15);
    assert!(f64::from(each[2]) <= f64::from(each.iter().sum::<u32>()) * 0.5, "{each:?}");
}

pub(crate) async fn who_comes_late_has_its_share_within_a_window_or_two(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    let late = Asker { from: 3 * WINDOW + 1000, ..asker("late", 200, 1, 1) };
    let seen = simulate(h, &limits, &[asker("flood", TICK, 4, 1), late], 9).await;
    assert_about("alone", seen.of(0, 0, 3), per_window(40) * 3.0, 0.12);
    assert_about("the late one", seen.of(1, 5, 9), per_window(20) * 4.0, 0.1);
}

pub(crate) async fn two_who_begin_together_share_the_very_first_window(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    // The flood asks first and four times in a tick; the other one as often as the whole limit has units.
    let seen = simulate(h, &limits, &[asker("flood", TICK, 4, 1), asker("steady", 150, 1, 1)], 3).await;
    for window in 0..3 {
        println!(
            "window {window}: {} and {}",
            seen.of(0, window, window + 1),
            seen.of(1, window, window + 1)
        );
    }
    assert_about("the flood's first window", seen.of(0, 0, 1), 20.0, 0.1);
    assert_about("the other's first window", seen.of(1, 0, 1), 20.0, 0.1);
}

pub(crate) async fn who_is_known_has_its_share_of_the_window_that_begins_with_its_first_ask(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    // Known from before, long silent, and back at any time in the windows of a flood.
    for tick in [0, 1700, 3100, 4600].map(|step| 3 * WINDOW + step) {
        let before = Asker { until: TICK, ..asker("back", TICK, 1, 1) };
        let back = Asker { from: tick, ..asker("back", TICK, 1, 1) };
        let seen = simulate(h, &limits, &[before, asker("flood", TICK, 3, 1), back], 5).await;
        let first = seen.takes[2].first().map_or(u64::MAX, |&(at, _)| at) - tick;
        let range = tick..tick + WINDOW;
        let own: u32 = seen.takes[2].iter().filter(|(at, _)| range.contains(at)).map(|&(_, cost)| cost).sum();
        assert!(first <= WINDOW / 2 + WINDOW / 10, "it waited {first} ms at {tick}");
        assert!(own >= 18, "{own} of its share of 20 in the window that begins at {tick}");
    }
}

pub(crate) async fn whom_nobody_joined_may_take_all_at_once(h: &Harness) {
    let (bucket, limits) = (h.name("bucket"), [limit(HOUR, 100)]);
    for left in (0..100).rev() {
        assert_eq!(take(h, &bucket, "a", &limits, 1).await, Taken::Go { remaining: left });
    }
    // Once somebody else was there, half of it is kept for the second half of a window.
    let shared = h.name("bucket");
    for caller in ["a", "b"] {
        assert!(matches!(take(h, &shared, caller, &limits, 1).await, Taken::Go { .. }));
    }
    let mut taken = 1;
    while matches!(take(h, &shared, "a", &limits, 1).await, Taken::Go { .. }) {
        taken += 1;
    }
    assert_eq!(taken, 50);
}

pub(crate) async fn the_share_of_who_has_gone_is_the_others(h: &Harness) {
    let limits = [ms(WINDOW, 40)];
    let gone = Asker { until: 3 * WINDOW, ..asker("gone", TICK, 2, 1) };
    let seen = simulate(h, &limits, &[asker("stays", TICK, 2, 1), gone], 8).await;
    assert_about("both", seen.of(0, 1, 3), per_window(20) * 2.0, 0.15);
    assert_about("alone", seen.of(0, 5, 8), per_window(40) * 3.0, 0.12);
}

pub(crate) async fn shares_hold_under_two_limits_and_neither_is_passed(h: &Harness) {
    let limits = [ms(WINDOW, 12), ms(5 * WINDOW, 40)];
    let seen = simulate(h, &limits, &[asker("flood", TICK, 3, 1), asker("steady", 400, 1, 1)], 16).await;
    let (flood, steady) = (seen.of(0, 0, 16), seen.of(1, 0, 16));
    assert_about("the other's share", steady, f64::from(flood), 0.1);
    assert!(flood + steady >= 100, "{flood} {steady}");
}

pub(crate) async fn callers_who_come_back_when_told_share_it_all(h: &Harness) {
    let limits = [ms(WINDOW, 30)];
    let patient = |name, every, cost| Asker { is_patient: true, ..asker(name, every, 1, cost) };
    let askers = [patient("a", TICK, 1), patient("b", 200, 1), patient("c", 300, 2)];
    let seen = simulate(h, &limits, &askers, 9).await;
    let each: Vec<u32> = (0..3).map(|number| seen.of(number, 1, 9)).collect();
    for got in &each {
        // Who waits as told asks less than it could; how much less depends on who comes first.
        assert_about("a third", *got, per_window(10) * 8.0, 0.2);
    }
}
