//! Budgets that are fair between callers: the arithmetic, which `redis/scripts/fair.lua` repeats step by step.
//!
//! **The maximum.** As in `embedded::budget`: a window of `W` ms is counted in slices of `S = ceil(W / 10)` ms, and what
//! is taken at `t` counts until `W` after the end of its slice. A take needs `total + cost <= max`, whoever asks.
//!
//! **The shares.** For each limit the state knows what each caller has *used* (its slices that count) and *wants*: the
//! most it asked for in this or the last frame of `W`, granted or not, a tenth and its last cost more, so that one who
//! asks steadily finds its part free before it asks. A caller is *active* while its last ask is less than `W` ago.
//! Caller `i` may take `cost` if there is room to raise every other active caller to the same level, or to what it
//! wants if that is less: with `level = used_i + cost`,
//! `total + cost + Σ max(0, min(wants_j, level) - used_j) <= max`. So while all want more than there is, each gets
//! `max / active`; what somebody does not want is the others', and never more than the maximum is out.
//!
//! **What cannot be divided** (3 callers and 5 units, or a batch larger than a share) goes in turn. Each caller has a
//! count of units it was ever *served*, lifted to at most a share behind the most served one whenever it asks, so that
//! nobody saves up. A caller may pass the common level if others still fit up to the level it has now, and nobody who
//! wants more and would stay below was served less. And for the least served of those who were refused, its whole last
//! wish is kept free until a slice after the time it was told to come back: that is how a batch gets through a flood
//! of single units.
//!
//! The wait of a refused caller is until so many slices have ended to count that it fits, turns left aside; a slice, if
//! only the turn is in the way. At most [`CALLERS`] callers are told apart; those beyond share one place. A pause ends
//! everything for its time. A clock that was set back moves all of the past back with it.
//!
//! It is pure: no I/O, no clock. Used by `embedded`, and as the model of the script.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::broker::ports::{Limit, Taken};
use crate::clock::Timestamp;

/// Callers told apart in one bucket: each of them costs every take of the bucket some time.
pub(super) const CALLERS: usize = 50;

/// The longest window in milliseconds, about 30 years: beyond it nothing adds up in a script's numbers.
const LONGEST: u64 = 1_000_000_000_000;

/// The most that is counted as asked for.
const MOST: u64 = 1_000_000_000_000;

/// A limit as the arithmetic uses it. No two in a list have the same window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Window {
    pub(super) length: u64,
    pub(super) slice: u64,
    pub(super) max: u64,
}

/// The limits, the least maximum for each window.
pub(super) fn windows(limits: &[Limit]) -> Vec<Window> {
    let mut windows: Vec<Window> = Vec::with_capacity(limits.len());
    for limit in limits {
        let length = u64::try_from(limit.window.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let max = u64::from(limit.max);
        match windows.iter_mut().find(|known| known.length == length) {
            Some(known) => known.max = known.max.min(max),
            None => windows.push(Window { length, slice: length.div_ceil(10), max }),
        }
    }
    windows
}

impl Window {
    /// When the takes of a slice end to count.
    fn end(&self, number: u64) -> u64 {
        (number + 1) * self.slice + self.length
    }
}

/// One caller under one window.
#[derive(Debug, Default)]
struct Account {
    /// The frame of the last ask: its time divided by the window.
    frame: u64,
    /// Asked for in that frame, and in the one before.
    asked: u64,
    before: u64,
    /// The number of each slice that counts and what was taken in it, oldest first.
    slices: VecDeque<(u64, u64)>,
}

impl Account {
    fn ask(&mut self, frame: u64, cost: u64) {
        if frame == self.frame + 1 {
            (self.before, self.asked) = (self.asked, 0);
        } else if frame != self.frame {
            (self.before, self.asked) = (0, 0);
        }
        self.frame = frame;
        self.asked = (self.asked + cost).min(MOST);
    }

    /// The most asked for in this frame or the last.
    fn asked(&self, frame: u64) -> u64 {
        if frame == self.frame {
            self.asked.max(self.before)
        } else if frame == self.frame + 1 {
            self.asked
        } else {
            0
        }
    }

    /// What counts at `now`.
    fn used(&self, window: &Window, now: u64) -> u64 {
        self.slices.iter().filter(|&&(number, _)| window.end(number) > now).map(|&(_, taken)| taken).sum()
    }
}

#[derive(Debug, Default)]
struct Caller {
    /// Units ever taken, lifted as the module's doc says.
    served: u64,
    /// The last ask: when, and for how much.
    seen: u64,
    cost: u64,
    /// The last wish, if it was refused, and until when it is kept free.
    wish: u64,
    until: u64,
    /// By the length of the window.
    accounts: BTreeMap<u64, Account>,
}

impl Caller {
    fn used(&self, window: &Window, now: u64) -> u64 {
        self.accounts.get(&window.length).map_or(0, |account| account.used(window, now))
    }

    fn wants(&self, window: &Window, now: u64) -> u64 {
        let asked = self.accounts.get(&window.length).map_or(0, |account| account.asked(now / window.length));
        if asked == 0 { 0 } else { asked + asked / 10 + self.cost }
    }

    fn is_active(&self, window: &Window, now: u64) -> bool {
        self.seen + window.length > now
    }
}

/// A bucket.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    seen: u64,
    paused_until: u64,
    callers: BTreeMap<String, Caller>,
}

/// Whether turns are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Turns {
    Count,
    LeftAside,
}

impl Bucket {
    /// Takes `cost` for `caller`, or says when to come back.
    pub(super) fn take(&mut self, caller: &str, windows: &[Window], cost: u32, now: Timestamp) -> Taken {
        let (now, cost) = (millis(now), u64::from(cost));
        self.move_to(now, windows);
        if self.paused_until > now {
            return come_back(self.paused_until - now);
        }
        if cost == 0 || windows.is_empty() {
            return self.go(windows, now);
        }
        let never = windows.iter().filter(|window| cost > window.max).map(|window| window.length).max();
        if let Some(wait) = never {
            return come_back(wait);
        }
        let name =
            if self.callers.contains_key(caller) || self.callers.len() < CALLERS { caller } else { "" };
        let served = self.lifted(name, windows, cost, now);
        let asker = self.callers.entry(name.to_owned()).or_default();
        (asker.served, asker.seen, asker.cost) = (served, now, cost);
        for window in windows {
            asker.accounts.entry(window.length).or_default().ask(now / window.length, cost);
        }
        let wait = windows.iter().map(|window| self.wait(name, window, cost, now)).max().unwrap_or(0);
        let Some(asker) = self.callers.get_mut(name) else { return come_back(1) };
        if wait > 0 {
            let slice = windows.iter().map(|window| window.slice).max().unwrap_or(0);
            (asker.wish, asker.until) = (cost, now + wait + slice);
            return come_back(wait);
        }
        asker.served += cost;
        asker.wish = 0;
        for window in windows {
            let slices = &mut asker.accounts.entry(window.length).or_default().slices;
            let number = now / window.slice;
            match slices.back_mut() {
                Some((last, taken)) if *last >= number => *taken += cost,
                _ => slices.push_back((number, cost)),
            }
        }
        self.go(windows, now)
    }

    /// Gives nobody anything for this long.
    pub(super) fn pause(&mut self, time: Duration, now: Timestamp) {
        let now = millis(now);
        self.move_to(now, &[]);
        let time = u64::try_from(time.as_millis()).unwrap_or(LONGEST).clamp(1, LONGEST);
        self.paused_until = self.paused_until.max(now + time);
    }

    /// Whether nothing is known that matters at `now`.
    pub(super) fn is_idle(&self, now: Timestamp) -> bool {
        let now = millis(now);
        self.paused_until <= now && self.callers.values().all(|caller| is_past(caller, now))
    }

    fn go(&self, windows: &[Window], now: u64) -> Taken {
        let left = windows.iter().map(|window| window.max.saturating_sub(self.total(window, now))).min();
        Taken::Go { remaining: left.and_then(|left| u32::try_from(left).ok()).unwrap_or(u32::MAX) }
    }

    fn total(&self, window: &Window, now: u64) -> u64 {
        self.callers.values().map(|caller| caller.used(window, now)).sum()
    }

    /// Follows the time, and forgets what is past.
    fn move_to(&mut self, now: u64, windows: &[Window]) {
        let back = self.seen.saturating_sub(now);
        self.seen = now;
        if back > 0 {
            self.paused_until = self.paused_until.saturating_sub(back);
        }
        for caller in self.callers.values_mut() {
            caller.seen = caller.seen.saturating_sub(back);
            caller.until = caller.until.saturating_sub(back);
            for (&length, account) in &mut caller.accounts {
                let window = Window { length, slice: length.div_ceil(10), max: 0 };
                if back > 0 {
                    // Rounded against the taker.
                    account.frame = account.frame.saturating_sub(back / length);
                    for (number, _) in &mut account.slices {
                        *number = number.saturating_sub(back / window.slice);
                    }
                }
                account.slices.retain(|&(number, _)| window.end(number) > now);
            }
            caller.accounts.retain(|&length, account| {
                !account.slices.is_empty()
                    || (account.frame + 2) * length > now
                    || windows.iter().any(|window| window.length == length)
            });
        }
        self.callers.retain(|_, caller| !is_past(caller, now));
    }

    /// What the asker counts as served with: at most a share behind the most served of the others.
    fn lifted(&self, name: &str, windows: &[Window], cost: u64, now: u64) -> u64 {
        let longest = windows.iter().max_by_key(|window| window.length);
        let Some(longest) = longest else { return 0 };
        let others =
            || self.callers.iter().filter(|(other, caller)| *other != name && caller.is_active(longest, now));
        let most = others().map(|(_, caller)| caller.served).max().unwrap_or(0);
        let active = others().count() as u64 + 1;
        let share = windows.iter().map(|window| window.max.div_ceil(active)).min().unwrap_or(0);
        let own = self.callers.get(name).map_or(0, |caller| caller.served);
        own.max(most.saturating_sub(share.max(cost)))
    }

    /// Whether the asker may take `cost` under this limit at `at`.
    fn allows(&self, name: &str, window: &Window, cost: u64, at: u64, now: u64, turns: Turns) -> bool {
        let Some(asker) = self.callers.get(name) else { return false };
        let room = match window.max.checked_sub(self.total(window, at) + cost) {
            Some(room) => room,
            None => return false,
        };
        let others =
            || self.callers.iter().filter(|(other, caller)| *other != name && caller.is_active(window, at));
        let (mut least, mut lump) = (asker.served, 0);
        if turns == Turns::Count {
            for (_, other) in others().filter(|(_, other)| other.wish > 0 && other.until > at) {
                if other.served < least {
                    (least, lump) = (other.served, other.wish);
                } else if other.served == least && least < asker.served {
                    lump = lump.max(other.wish);
                }
            }
        }
        let now_used = asker.used(window, at);
        let level = now_used + cost;
        // What must stay free for the others to be raised to `level` too.
        let kept = |level: u64| {
            let mut lump_fits = lump == 0;
            let mut kept = 0;
            for (_, other) in others() {
                let mut room = other.wants(window, now).min(level).saturating_sub(other.used(window, at));
                let is_first = other.wish == lump && other.served == least && other.until > at;
                if !lump_fits && is_first {
                    room = room.max(lump);
                    lump_fits = true;
                }
                kept += room;
            }
            kept
        };
        if kept(level) <= room {
            return true;
        }
        let is_in_turn = turns == Turns::LeftAside
            || others().all(|(_, other)| {
                let used = other.used(window, at);
                let waits = used < level && other.wants(window, now) > used;
                !waits || other.served >= asker.served
            });
        is_in_turn && kept(now_used) <= room
    }

    /// The time until the asker may take `cost` under this limit; zero if it may.
    fn wait(&self, name: &str, window: &Window, cost: u64, now: u64) -> u64 {
        if self.allows(name, window, cost, now, now, Turns::Count) {
            return 0;
        }
        if self.allows(name, window, cost, now, now, Turns::LeftAside) {
            return window.slice;
        }
        let accounts = self.callers.values().filter_map(|caller| caller.accounts.get(&window.length));
        let mut ends: Vec<u64> = accounts
            .flat_map(|account| account.slices.iter().map(|&(number, _)| window.end(number)))
            .collect();
        ends.sort_unstable();
        ends.dedup();
        let fits = ends.into_iter().find(|&end| self.allows(name, window, cost, end, now, Turns::LeftAside));
        fits.map_or(window.length, |end| end - now)
    }
}

/// A time that anything here may be added to.
fn millis(now: Timestamp) -> u64 {
    now.as_millis().min(LONGEST * 100)
}

/// Whether a caller neither used anything that counts nor asked lately.
fn is_past(caller: &Caller, now: u64) -> bool {
    caller.accounts.iter().all(|(&length, account)| {
        let window = Window { length, slice: length.div_ceil(10), max: 0 };
        caller.seen + length <= now && account.used(&window, now) == 0
    })
}

fn come_back(wait: u64) -> Taken {
    Taken::ComeBack { after: Duration::from_millis(wait.max(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn limit(window_ms: u64, max: u32) -> Limit {
        Limit { window: Duration::from_millis(window_ms), max }
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    proptest! {
        #[test]
        fn in_no_window_is_more_than_the_maximum_taken(
            limits in prop::collection::vec((1u64..5000, 0u32..30), 1..4),
            steps in prop::collection::vec((0u64..700, 0u32..8, 0usize..5), 1..250),
        ) {
            let limits: Vec<Limit> = limits.iter().map(|&(length, max)| limit(length, max)).collect();
            let (windows, mut bucket) = (windows(&limits), Bucket::default());
            let mut now = 1_000_000;
            let mut taken: Vec<(u64, u32)> = Vec::new();
            for (pause, cost, caller) in steps {
                now += pause;
                match bucket.take(["a", "b", "c", "d", ""][caller], &windows, cost, at(now)) {
                    Taken::Go { remaining } => {
                        taken.push((now, cost));
                        for limit in &limits {
                            let since = now - u64::try_from(limit.window.as_millis()).unwrap();
                            let within = taken.iter().filter(|&&(at, _)| at >= since);
                            let used: u32 = within.map(|&(_, cost)| cost).sum();
                            prop_assert!(used <= limit.max, "{} of {} in {:?}", used, limit.max, limit.window);
                            prop_assert!(remaining <= limit.max - used);
                        }
                    }
                    Taken::ComeBack { after } => prop_assert!(after > Duration::ZERO),
                }
            }
        }

        #[test]
        fn whoever_waits_alone_for_two_windows_gets_what_can_be_got(
            steps in prop::collection::vec((0u64..300, 1u32..9, 0usize..4), 1..120), cost in 1u32..=8,
        ) {
            let (windows, mut bucket) = (windows(&[limit(3000, 8)]), Bucket::default());
            let mut now = 1_000_000;
            for (pause, cost, caller) in steps {
                now += pause;
                bucket.take(["a", "b", "c", "d"][caller], &windows, cost, at(now));
            }
            let taken = bucket.take("a", &windows, cost, at(now + 6000));
            prop_assert!(matches!(taken, Taken::Go { .. }), "{:?}", taken);
        }
    }

    #[test]
    fn callers_are_bounded_and_those_beyond_share_a_place() {
        let (windows, mut bucket) = (windows(&[limit(60_000, 10_000)]), Bucket::default());
        for number in 0..3 * CALLERS {
            let taken = bucket.take(&number.to_string(), &windows, 1, at(1_000_000));
            assert!(matches!(taken, Taken::Go { .. }), "{number}");
        }
        assert_eq!(bucket.callers.len(), CALLERS + 1);
        // Those who are gone make room.
        bucket.take("another", &windows, 1, at(2_000_000));
        assert_eq!(bucket.callers.len(), 1);
    }

    #[test]
    fn a_clock_set_back_neither_frees_the_budget_nor_blocks_it_for_longer_than_a_window() {
        let (windows, mut bucket) = (windows(&[limit(1000, 1)]), Bucket::default());
        let mut take = |now| bucket.take("a", &windows, 1, at(now));
        assert!(matches!(take(100_000_000), Taken::Go { .. }));
        let Taken::ComeBack { after } = take(5_000) else { panic!("freed by the clock") };
        assert!(after <= Duration::from_millis(1200), "{after:?}");
        assert!(matches!(take(5_000 + 1200), Taken::Go { .. }));
        bucket.pause(Duration::from_secs(5), at(200_000_000));
        let Taken::ComeBack { after } = bucket.take("a", &windows, 1, at(1_000)) else { panic!("freed") };
        assert_eq!(after, Duration::from_secs(5));
        assert!(matches!(bucket.take("a", &windows, 1, at(u64::MAX)), Taken::Go { .. }));
    }

    #[test]
    fn one_who_asks_once_and_never_comes_back_does_not_keep_a_whole_budget() {
        let (windows, mut bucket) = (windows(&[limit(10_000, 10)]), Bucket::default());
        let mut take = |caller, cost, now| bucket.take(caller, &windows, cost, at(now));
        assert!(matches!(take("a", 1, 100_000), Taken::Go { .. }));
        let Taken::ComeBack { after } = take("b", 10, 100_000) else { panic!("more than there was") };
        // Nobody came for the batch: a slice later the others go on.
        let later = 100_000 + u64::try_from(after.as_millis()).unwrap() + 1000;
        assert!(matches!(take("a", 1, later), Taken::Go { .. }));
    }
}
