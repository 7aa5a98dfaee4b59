//! Which thread an id of a repeatable request made, so that the same request again makes no other.
//!
//! Plain data. Ids are each user's own; they are forgotten after a day, and the oldest sooner when they are too many.
//! Held by `store`.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::clock::Timestamp;

/// The most ids that are remembered, and for how long.
const MAX_IDS: usize = 20_000;
const REMEMBERED: Duration = Duration::from_hours(24);

/// A thread that a request made.
struct Made {
    thread: u64,
    at: Timestamp,
}

/// What repeatable requests made.
#[derive(Default)]
pub(super) struct Repeats {
    /// By user and id.
    made: HashMap<String, Made>,
    in_order: VecDeque<(String, Timestamp)>,
}

impl Repeats {
    /// The key of a user's request.
    pub(super) fn key(user: &str, id: &str) -> String {
        format!("{user} {id}")
    }

    /// The thread that a request made.
    pub(super) fn thread(&self, key: &str) -> Option<u64> {
        Some(self.made.get(key)?.thread)
    }

    /// Remembers what a request made.
    pub(super) fn remember(&mut self, key: String, thread: u64, at: Timestamp) {
        self.in_order.push_back((key.clone(), at));
        self.made.insert(key, Made { thread, at });
        if self.in_order.len() > MAX_IDS {
            self.forget_oldest();
        }
    }

    /// Forgets what is too old by now.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.in_order.front().is_some_and(|(_, at)| now.since(*at) > REMEMBERED) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some((key, at)) = self.in_order.pop_front() else { return };
        // The same id may have made another thread since, when the first was gone.
        if self.made.get(&key).is_some_and(|made| made.at == at) {
            self.made.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_795_348_800_123 + millis)
    }

    #[test]
    fn ids_are_remembered_for_a_day_and_are_each_users_own() {
        let mut repeats = Repeats::default();
        repeats.remember(Repeats::key("a", "x"), 7, at(0));
        assert_eq!(repeats.thread(&Repeats::key("a", "x")), Some(7));
        assert_eq!(repeats.thread(&Repeats::key("b", "x")), None);
        repeats.expire(at(86_400_000));
        assert_eq!(repeats.thread(&Repeats::key("a", "x")), Some(7));
        repeats.expire(at(86_400_001));
        assert_eq!(repeats.thread(&Repeats::key("a", "x")), None);
    }

    #[test]
    fn an_id_that_is_used_again_is_remembered_from_then_on() {
        let mut repeats = Repeats::default();
        repeats.remember("a x".into(), 7, at(0));
        repeats.remember("a x".into(), 8, at(5000));
        repeats.expire(at(86_400_001));
        assert_eq!(repeats.thread("a x"), Some(8));
    }

    #[test]
    fn no_more_ids_are_remembered_than_there_is_room_for() {
        let mut repeats = Repeats::default();
        for n in 0..MAX_IDS as u64 + 100 {
            repeats.remember(format!("a {n}"), n, at(n));
        }
        assert_eq!((repeats.made.len(), repeats.in_order.len()), (MAX_IDS, MAX_IDS));
        assert_eq!((repeats.thread("a 99"), repeats.thread("a 100")), (None, Some(100)));
    }
}
