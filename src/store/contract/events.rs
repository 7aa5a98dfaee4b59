//! The rules of `EventLog`. All rules append to one log: each looks only at what comes after a place of its own.

use super::*;
use crate::messaging::ports::{Cursor, EventsRead};

async fn append(h: &Harness, key: &str, event: &[u8]) -> Option<Cursor> {
    h.messages.events.append(key, event, HOUR, HOUR).await.unwrap()
}

async fn end(h: &Harness) -> Cursor {
    h.messages.events.end().await.unwrap()
}

async fn page(h: &Harness, after: &Cursor, limit: usize) -> Vec<(Cursor, Vec<u8>)> {
    match h.messages.events.read(after, limit).await.unwrap() {
        EventsRead::Page(page) => page.events,
        EventsRead::TooOld => panic!("too old: {after:?}"),
        EventsRead::Foreign => panic!("foreign: {after:?}"),
    }
}

fn assert_well_formed(cursor: &Cursor) {
    assert!((1..=64).contains(&cursor.0.len()), "{cursor:?}");
    assert!(cursor.0.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'), "{cursor:?}");
}

pub(crate) async fn events_are_read_in_the_order_they_were_appended(h: &Harness) {
    let start = end(h).await;
    assert_well_formed(&start);
    assert_eq!(page(h, &start, 10).await, []);
    let mut appended = Vec::new();
    for number in 0..25u8 {
        let event = vec![number; usize::from(number)];
        let cursor = append(h, &h.name("event"), &event).await.expect("a new key");
        assert_well_formed(&cursor);
        assert_eq!(end(h).await, cursor);
        appended.push((cursor, event));
    }
    assert_eq!(page(h, &start, 100).await, appended);
    // From any place on, in pages of any length.
    for limit in [1, 7, 25] {
        let (mut at, mut read) = (start.clone(), Vec::new());
        loop {
            let events = page(h, &at, limit).await;
            assert!(events.len() <= limit);
            let Some((last, _)) = events.last() else { break };
            at = last.clone();
            read.extend(events);
        }
        assert_eq!(read, appended);
    }
    assert_eq!(page(h, &appended[23].0, 10).await, appended[24..]);
    assert_eq!(page(h, &appended[24].0, 10).await, []);
    assert_eq!(page(h, &appended[3].0, 0).await, []);
}

pub(crate) async fn an_event_is_appended_once_for_its_key(h: &Harness) {
    let (start, key) = (end(h).await, h.name("event"));
    let first = append(h, &key, b"first").await.unwrap();
    for _ in 0..3 {
        assert_eq!(append(h, &key, b"again").await, None);
    }
    assert_eq!(end(h).await, first);
    assert_eq!(page(h, &start, 10).await, [(first, b"first".to_vec())]);
}

pub(crate) async fn of_100_concurrent_appends_with_one_key_one_succeeds(h: &Harness) {
    let (start, key) = (end(h).await, h.name("event"));
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let (stores, key) = (h.messages.clone(), key.clone());
        tasks.spawn(async move { stores.events.append(&key, &[number], HOUR, HOUR).await.unwrap() });
    }
    let appended = tasks.join_all().await;
    assert_eq!(appended.iter().filter(|cursor| cursor.is_some()).count(), 1);
    assert_eq!(page(h, &start, 10).await.len(), 1);
}

pub(crate) async fn concurrent_appends_are_all_read_once(h: &Harness) {
    let start = end(h).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let (stores, key) = (h.messages.clone(), h.name("event"));
        tasks.spawn(async move {
            let cursor = stores.events.append(&key, &[number], HOUR, HOUR).await.unwrap().expect("a new key");
            (cursor, vec![number])
        });
    }
    // Whoever follows meanwhile misses nothing and sees nothing twice.
    let (mut at, mut followed) = (start.clone(), Vec::new());
    while followed.len() < 100 {
        let events = page(h, &at, 9).await;
        if let Some((last, _)) = events.last() {
            at = last.clone();
        }
        followed.extend(events);
        tokio::task::yield_now().await;
    }
    let mut appended = tasks.join_all().await;
    let by_event = |events: &mut Vec<(Cursor, Vec<u8>)>| events.sort_by(|one, two| one.1.cmp(&two.1));
    assert_eq!(page(h, &start, 1000).await, followed);
    by_event(&mut appended);
    by_event(&mut followed);
    assert_eq!(followed, appended);
}

pub(crate) async fn a_key_is_forgotten_after_its_time(h: &Harness) {
    let (start, key, began) = (end(h).await, h.name("event"), h.now());
    assert!(h.messages.events.append(&key, b"one", SHORT, HOUR).await.unwrap().is_some());
    h.elapse(SHORT);
    h.until("the key is forgotten", || async {
        h.messages.events.append(&key, b"two", HOUR, HOUR).await.unwrap().is_some()
    })
    .await;
    assert!(h.now().since(began) + Duration::from_millis(2) >= SHORT, "forgotten before its time");
    let events: Vec<_> = page(h, &start, 10).await.into_iter().map(|(_, event)| event).collect();
    assert_eq!(events, [b"one".to_vec(), b"two".to_vec()]);
}

pub(crate) async fn events_with_odd_keys_stay_apart(h: &Harness) {
    let stem = h.name("");
    for name in odd_names() {
        let key = format!("{name}{stem}");
        assert!(append(h, &key, b"x").await.is_some(), "{name}");
        assert!(append(h, &key, b"x").await.is_none(), "{name}");
    }
}

pub(crate) async fn events_that_are_old_go_and_a_reader_learns_that(h: &Harness) {
    let (before, began) = (append(h, &h.name("event"), b"before").await.unwrap(), h.now());
    let old = h.messages.events.append(&h.name("event"), b"old", HOUR, SHORT).await.unwrap().unwrap();
    h.elapse(SHORT);
    // Every append clears up; here each has the same short time.
    h.until("the old event goes", || async {
        h.messages.events.append(&h.name("event"), b"new", HOUR, SHORT).await.unwrap();
        matches!(h.messages.events.read(&before, 1000).await.unwrap(), EventsRead::TooOld)
    })
    .await;
    assert!(h.now().since(began) + Duration::from_millis(2) >= SHORT, "gone before its time");
    // A place right before what is still there is as good as ever; the end always is.
    let end = end(h).await;
    assert_eq!(page(h, &end, 10).await, []);
    assert!(!matches!(h.messages.events.read(&old, 1000).await.unwrap(), EventsRead::Foreign));
    let last = append(h, &h.name("event"), b"last").await.unwrap();
    assert_eq!(page(h, &end, 10).await, [(last, b"last".to_vec())]);
}

pub(crate) async fn a_reader_sees_all_that_came_after_a_place_or_that_something_is_missing(h: &Harness) {
    let mut places = vec![(end(h).await, 0)];
    for number in 1..=60usize {
        let cursor =
            h.messages.events.append(&h.name("event"), &[number as u8], HOUR, SHORT).await.unwrap().unwrap();
        places.push((cursor, number));
        h.elapse(SHORT / 20);
        if matches!(h.time, Time::Real) {
            tokio::time::sleep(SHORT / 20).await;
        }
    }
    let mut too_old = 0;
    for (place, number) in places {
        match h.messages.events.read(&place, 1000).await.unwrap() {
            EventsRead::Page(page) => {
                let events: Vec<_> = page.events.into_iter().map(|(_, event)| event).collect();
                let all: Vec<_> = (number + 1..=60).map(|number| vec![number as u8]).collect();
                assert_eq!(events, all, "after {number}");
            }
            EventsRead::TooOld => too_old += 1,
            EventsRead::Foreign => panic!("foreign: {number}"),
        }
    }
    assert!((20..=60).contains(&too_old), "{too_old}");
}

pub(crate) async fn what_is_no_place_of_this_log_is_foreign(h: &Harness) {
    let start = append(h, &h.name("event"), b"x").await.unwrap();
    let mut foreign: Vec<String> = odd_names();
    foreign.extend(["0", "0-0", "1-1", "r", "f", "", "-", "18446744073709551616"].map(String::from));
    // Another log: of this backend, and of the other.
    foreign.extend(["r0000000000000000-0-0", "f0000000000000000-0"].map(String::from));
    let elsewhere = crate::store::memory(Arc::new(SystemClock));
    foreign.push(elsewhere.messages.events.end().await.unwrap().0);
    foreign.push(elsewhere.messages.events.append("k", b"", HOUR, HOUR).await.unwrap().unwrap().0);
    // This log, but nowhere in it.
    let (head, last) = start.0.rsplit_once('-').unwrap();
    let last: u64 = last.parse().unwrap();
    for beyond in [last + 1, last + 1000, u64::MAX] {
        foreign.push(format!("{head}-{beyond}"));
    }
    foreign.extend([format!("{head}-0{last}"), format!("{head}-+{last}"), format!("{head}-{last} ")]);
    foreign.extend([format!("{}-", start.0), start.0.to_uppercase(), head.to_owned()]);
    for text in foreign {
        let read = h.messages.events.read(&Cursor(text.clone()), 10).await.unwrap();
        assert!(matches!(read, EventsRead::Foreign), "{text:?}");
    }
    assert_eq!(page(h, &start, 10).await, []);
}

pub(crate) async fn an_event_of_256_kib_is_kept_whole(h: &Harness) {
    let (start, event) = (end(h).await, vec![0xfe; 256 << 10]);
    let cursor = append(h, &h.name("event"), &event).await.unwrap();
    assert!(page(h, &start, 10).await == [(cursor, event)]);
}
