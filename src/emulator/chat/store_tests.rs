//! What is kept, what goes first when there is no room, and that every count is right.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::emulator::chat::message::{Content, Metadata};
use crate::emulator::chat::thread::Participant;

const START: u64 = 1_795_348_800_123;

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(START + millis)
}

fn store(count: usize, bytes: usize, threads: usize) -> Store {
    let mut store = Store::new(Bounds { count, age: Duration::from_hours(24), bytes });
    store.max_threads = threads;
    store
}

fn participant(id: Arc<str>) -> Participant {
    Participant {
        id,
        display_name: None,
        share_history: Timestamp::default(),
        metadata: Metadata::new(),
        receipt: None,
    }
}

fn open(store: &mut Store, id: &str, users: &[&str], now: Timestamp) -> u64 {
    let mut thread = Thread::new(id.into(), "Lunch".into(), users[0].into(), now);
    thread.participants = users.iter().map(|user| participant(store.shared_id(user))).collect();
    let number = store.insert(thread);
    store.settle(number);
    number
}

fn say(store: &mut Store, thread: u64, text: &str, sequence: u64, now: Timestamp) -> Option<u64> {
    let draft = Draft {
        author: "a".into(),
        author_name: String::new(),
        content: Content::Text(text.into()),
        metadata: Metadata::new(),
    };
    let id = store.append(thread, draft, sequence, now).ok()?.id;
    store.settle(thread);
    Some(id)
}

/// Everything that is counted, counted again.
fn check(store: &Store) {
    let messages: Vec<&Message> = store.threads.values().flat_map(Thread::messages).collect();
    assert_eq!(store.messages.len(), messages.len());
    assert_eq!(store.message_bytes, messages.iter().map(|message| message.bytes()).sum::<usize>());
    assert_eq!(store.user_messages, messages.iter().filter(|message| message.is_of_user()).count());
    assert_eq!(store.thread_bytes, store.threads.values().map(Thread::bytes).sum::<usize>());
    assert_eq!(store.numbers.len(), store.threads.len());
    assert_eq!(store.weights.len(), store.threads.len());
    assert_eq!(store.changes.len(), store.threads.len());
    assert_eq!(store.last_changes.len(), store.threads.len());
    let places: usize = store.users.values().map(BTreeSet::len).sum();
    let taken: usize = store.threads.values().map(|thread| thread.participants.len()).sum();
    assert_eq!(places, taken);
    assert!(store.users.values().all(|threads| !threads.is_empty()));
    for (number, (thread, id)) in &store.messages {
        assert_eq!(store.threads[thread].message(*id).unwrap().number, *number);
    }
}

#[test]
fn the_oldest_messages_of_all_threads_go_first() {
    let mut store = store(3, 1 << 20, 10);
    let (one, two) = (open(&mut store, "1", &["a"], at(0)), open(&mut store, "2", &["a"], at(0)));
    for (sequence, thread) in [(1, one), (2, two), (3, one), (4, two), (5, two)] {
        say(&mut store, thread, "x", sequence, at(sequence)).unwrap();
    }
    let kept: Vec<u64> = store.messages_before(u64::MAX).map(|(_, message)| message.number).collect();
    assert_eq!(kept, [5, 4, 3]);
    assert_eq!(store.user_messages(), 3);
    check(&store);
}

#[test]
fn messages_go_by_size_also_when_an_edit_makes_one_larger() {
    let mut store = store(1000, 10_000, 10);
    let thread = open(&mut store, "1", &["a"], at(0));
    let ids: Vec<u64> =
        (1..=5).map(|n| say(&mut store, thread, &"x".repeat(1000), n, at(n)).unwrap()).collect();
    assert_eq!(store.user_messages(), 5);
    store.edit(thread, ids[4], (Some("y".repeat(6000)), None), at(9)).unwrap();
    store.settle(thread);
    assert!(store.message_bytes <= 10_000);
    assert_eq!(store.user_messages(), 3);
    assert!(store.thread(thread).unwrap().message(ids[0]).is_none());
    assert!(store.thread(thread).unwrap().message(ids[4]).is_some());
    check(&store);
}

#[test]
fn messages_go_by_age() {
    let mut store = store(1000, 1 << 20, 10);
    let thread = open(&mut store, "1", &["a"], at(0));
    say(&mut store, thread, "old", 1, at(0)).unwrap();
    say(&mut store, thread, "new", 2, at(1)).unwrap();
    store.expire(at(24 * 3_600_000));
    assert_eq!(store.user_messages(), 2, "a message may become exactly so old");
    store.expire(at(24 * 3_600_000 + 1));
    assert_eq!(store.user_messages(), 1);
    check(&store);
}

#[test]
fn the_thread_that_was_longest_without_a_change_goes_first() {
    let mut store = store(1000, 1 << 20, 2);
    let one = open(&mut store, "1", &["a", "b"], at(0));
    let two = open(&mut store, "2", &["a"], at(0));
    say(&mut store, two, "x", 1, at(0)).unwrap();
    say(&mut store, one, "x", 2, at(0)).unwrap();
    let three = open(&mut store, "3", &["b"], at(0));
    assert!(store.thread(one).is_ok());
    assert_eq!(store.thread(two).unwrap_err().status, 404);
    assert_eq!(store.threads_of("a").map(|(number, _)| number).collect::<Vec<_>>(), [one]);
    assert_eq!(store.threads_of("b").map(|(number, _)| number).collect::<Vec<_>>(), [three, one]);
    assert_eq!(store.user_messages(), 1, "its messages went with it");
    check(&store);
}

#[test]
fn threads_go_by_size_but_never_the_newest() {
    let mut store = store(1000, 10_000, 100);
    let names: Vec<String> = (0..250).map(|n| format!("user {n}")).collect();
    let users: Vec<&str> = names.iter().map(String::as_str).collect();
    for id in ["1", "2", "3"] {
        let number = open(&mut store, id, &users, at(0));
        assert!(store.thread(number).is_ok());
        assert_eq!(store.thread_count(), 1);
        check(&store);
    }
}

#[test]
fn no_room_at_all_is_no_reason_to_fail() {
    let mut store = store(0, 0, 0);
    let thread = open(&mut store, "1", &["a"], at(0));
    assert!(say(&mut store, thread, "x", 1, at(0)).is_some());
    assert_eq!(store.user_messages(), 0);
    check(&store);
}

#[test]
fn a_thread_with_a_day_to_end_ends_then() {
    let mut store = store(1000, 1 << 20, 10);
    let thread = open(&mut store, "1", &["a"], at(0));
    store.retain(thread, Some(Retention::Days(90)));
    store.retain(thread, Some(Retention::Days(30)));
    let day = 86_400_000;
    store.expire(at(30 * day - 1));
    assert!(store.thread(thread).is_ok());
    store.expire(at(30 * day));
    assert!(store.thread(thread).is_err());
    assert!(store.ends.is_empty());
    check(&store);
}

#[test]
fn a_request_whose_thread_is_gone_is_no_repetition() {
    let mut store = store(1000, 1 << 20, 1);
    let thread = open(&mut store, "1", &["a"], at(0));
    store.remember("a x".into(), thread, at(0));
    assert_eq!(store.made_by("a x"), Some(thread));
    open(&mut store, "2", &["a"], at(0));
    assert_eq!(store.made_by("a x"), None);
}

#[test]
fn two_hundred_thousand_messages_leave_the_store_as_large_as_its_bounds() {
    let mut store = store(1000, 1 << 20, 10);
    let thread = open(&mut store, "1", &["a"], at(0));
    for n in 1..=200_000 {
        say(&mut store, thread, "x", n, at(n)).unwrap();
    }
    assert_eq!(store.user_messages(), 1000);
    assert_eq!(store.thread(thread).unwrap().messages().count(), 1000);
    check(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn the_counts_are_right_whatever_happens(
        deeds in prop::collection::vec((0..7u8, 0..6usize, 0..2000usize, 0..40_000_000u64), 1..80),
        count in 0..20usize, bytes in 0..20_000usize, threads in 0..5usize,
    ) {
        let mut store = store(count, bytes, threads);
        let (mut now, mut sequence) = (0, 0);
        let users = ["a", "b", "c"];
        for (deed, which, size, later) in deeds {
            sequence += 1;
            let picked = store.threads.keys().nth(which).copied();
            match (deed, picked) {
                (0, _) | (_, None) => { open(&mut store, &sequence.to_string(), &users[..=which % 3], at(now)); }
                (1..=3, Some(thread)) => { say(&mut store, thread, &"x".repeat(size), sequence, at(now)); }
                (4, Some(thread)) => {
                    let id = store.threads[&thread].messages().map(|message| message.id).next().unwrap_or(0);
                    let _ = store.edit(thread, id, (Some("y".repeat(size)), None), at(now));
                    store.settle(thread);
                }
                (5, Some(thread)) => {
                    let id = store.threads[&thread].messages().map(|message| message.id).next().unwrap_or(0);
                    let _ = store.erase(thread, id, at(now));
                    store.settle(thread);
                }
                (_, Some(thread)) => {
                    store.retain(thread, Some(Retention::Days(30 + (size % 60) as u32)));
                    now += later;
                    store.expire(at(now));
                }
            }
            check(&store);
            prop_assert!(store.messages.len() <= count && store.message_bytes <= bytes);
            prop_assert!(store.thread_count() <= threads.max(1));
        }
    }
}
