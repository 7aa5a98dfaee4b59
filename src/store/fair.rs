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
//! **What is kept for those who come later.** While a bucket is shared, that is, for [`MEMORY`] windows after another
//! caller asked than the one before, whoever is beyond an even share (of two at least) takes no more than half of the
//! maximum goes out in half a window. So what nobody has asked for yet is not gone in the first moment: a caller known
//! here waits for half a window at most, and has its share of the window that begins with its first ask. One alone,
//! whom nobody ever joined, may take all at once.
//!
//! What was taken for nothing is given back to the slice it was taken in, and to no other: a later one counts longer.
//!
//! The wait of a refused caller is until so many slices have ended to count that it fits, turns left aside; a slice, if
//! only the turn is in the way. At most [`CALLERS`] callers are told apart; those beyond share one place. A pause ends
//! everything for its time. A clock that was set back moves all of the past back with it.
//!
//! It is pure: no I/O, no clock. Used by `embedded`, and as the model of the script.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::broker::ports::{Limit, Taken};
use crate::clock::Timestamp;

/// Callers told apart in one bucket: each of them costs every take of the bucket some time.
pub(super) const CALLERS: usize = 50;

/// For how many of its longest windows a bucket is known as shared.
const MEMORY: u64 = 10;

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

    /// When they are no longer among those of half a window.
    fn half_end(&self, number: u64) -> u64 {
        (number + 1) * self.slice + (self.length / 2).saturating_sub(self.slice)
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

    /// Takes back what was taken in that slice; says how much.
    fn undo(&mut self, number: u64, cost: u64) -> u64 {
        let Some(at) = self.slices.iter().position(|&(slice, _)| slice == number) else { return 0 };
        let Some((_, taken)) = self.slices.get_mut(at) else { return 0 };
        let undone = cost.min(*taken);
        *taken -= undone;
        if *taken == 0 {
            self.slices.remove(at);
        }
        undone
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
    /// Who asked last, and until when the bucket is known as shared.
    last: Option<String>,
    shared_until: u64,
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
        if self.last.as_deref() != Some(name) {
            if self.last.is_some() {
                let longest = windows.iter().map(|window| window.length).max().unwrap_or(0);
                self.shared_until = now + MEMORY * longest;
            }
            self.last = Some(name.to_owned());
        }
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

    /// Takes back what `caller` took at `taken_at` and did not need.
    pub(super) fn give_back(
        &mut self,
        caller: &str,
        windows: &[Window],
        cost: u32,
        taken_at: Timestamp,
        now: Timestamp,
    ) {
        let (now, taken_at, cost) = (millis(now), millis(taken_at), u64::from(cost));
        self.move_to(now, windows);
        let name = if self.callers.contains_key(caller) { caller } else { "" };
        let Some(taker) = self.callers.get_mut(name) else { return };
        let mut most = 0;
        for window in windows {
            let Some(account) = taker.accounts.get_mut(&window.length) else { continue };
            let undone = account.undo(taken_at / window.slice, cost);
            if account.frame == taken_at / window.length {
                account.asked = account.asked.saturating_sub(undone);
            }
            most = most.max(undone);
        }
        taker.served = taker.served.saturating_sub(most);
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
            self.shared_until = self.shared_until.saturating_sub(back);
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
        if self.is_kept(name, window, cost, at, now) {
            return false;
        }
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

    /// Whether what there is is kept for others who may come: see the module's doc.
    fn is_kept(&self, name: &str, window: &Window, cost: u64, at: u64, now: u64) -> bool {
        if self.shared_until <= now {
            return false;
        }
        let is_other = |other: &String, caller: &Caller| other != name && caller.is_active(window, at);
        let others = self.callers.iter().filter(|(other, caller)| is_other(other, caller)).count() as u64;
        let share = window.max.div_ceil((others + 1).max(2));
        let used = self.callers.get(name).map_or(0, |caller| caller.used(window, at));
        if used + cost <= share {
            return false;
        }
        let accounts = self.callers.values().filter_map(|caller| caller.accounts.get(&window.length));
        let counting = accounts.flat_map(|account| &account.slices);
        let lately: u64 =
            counting.filter(|&&(number, _)| window.half_end(number) > at).map(|&(_, taken)| taken).sum();
        let half = window.max.div_ceil(2);
        lately + cost.min(half) > half
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
            .flat_map(|account| &account.slices)
            .flat_map(|&(number, _)| [window.half_end(number), window.end(number)])
            .filter(|&end| end > now)
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
