//! The rules of `MessageStore`.

use super::*;
use crate::messaging::ports::Versioned;
use crate::messaging::types::MessageId;

fn new_id(h: &Harness) -> MessageId {
    MessageId::stored(h.name("sms"))
}

async fn insert(h: &Harness, id: &MessageId, record: &[u8]) -> Option<(u64, Vec<u8>)> {
    plain(h.messages.messages.insert(id, record, HOUR).await.unwrap())
}

async fn get(h: &Harness, id: &MessageId) -> Option<(u64, Vec<u8>)> {
    plain(h.messages.messages.get(id).await.unwrap())
}

async fn replace(
    h: &Harness,
    id: &MessageId,
    expected: u64,
    record: &[u8],
) -> Result<u64, Option<(u64, Vec<u8>)>> {
    h.messages.messages.replace(id, expected, record, HOUR).await.unwrap().map_err(plain)
}

/// As what can be shown and compared.
fn plain(record: Option<Versioned>) -> Option<(u64, Vec<u8>)> {
    record.map(|record| (record.version, record.bytes))
}

fn is(version: u64, record: &[u8]) -> Option<(u64, Vec<u8>)> {
    Some((version, record.to_vec()))
}

pub(crate) async fn a_message_is_kept_once_and_the_first_record_stays(h: &Harness) {
    let id = new_id(h);
    assert_eq!(get(h, &id).await, None);
    assert_eq!(insert(h, &id, b"first").await, None);
    assert_eq!(insert(h, &id, b"second").await, is(1, b"first"));
    assert_eq!(get(h, &id).await, is(1, b"first"));
}

pub(crate) async fn of_100_concurrent_insertions_one_is_kept_and_the_others_see_it(h: &Harness) {
    let id = new_id(h);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100u8 {
        let (stores, id) = (h.messages.clone(), id.clone());
        tasks.spawn(
            async move { (number, plain(stores.messages.insert(&id, &[number], HOUR).await.unwrap())) },
        );
    }
    let all = tasks.join_all().await;
    let kept: Vec<u8> = all.iter().filter(|(_, known)| known.is_none()).map(|(number, _)| *number).collect();
    assert_eq!(kept.len(), 1);
    assert!(all.iter().all(|(_, known)| known.is_none() || *known == is(1, &kept)));
}

pub(crate) async fn a_message_changes_only_at_the_version_expected(h: &Harness) {
    let id = new_id(h);
    assert_eq!(replace(h, &id, 0, b"x").await, Err(None));
    assert_eq!(replace(h, &id, 1, b"x").await, Err(None));
    assert_eq!(get(h, &id).await, None, "a replacement is no insertion");
    assert_eq!(insert(h, &id, b"one").await, None);
    for wrong in [0, 2, u64::MAX] {
        assert_eq!(replace(h, &id, wrong, b"x").await, Err(is(1, b"one")));
    }
    assert_eq!(replace(h, &id, 1, b"two").await, Ok(2));
    assert_eq!(replace(h, &id, 1, b"x").await, Err(is(2, b"two")));
    assert_eq!(replace(h, &id, 2, b"").await, Ok(3));
    assert_eq!(get(h, &id).await, is(3, b""));
    assert_eq!(insert(h, &id, b"x").await, is(3, b""));
}

pub(crate) async fn of_concurrent_replacements_of_a_version_one_succeeds(h: &Harness) {
    let id = new_id(h);
    insert(h, &id, b"0").await;
    for round in 1..=10u64 {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..8u8 {
            let (stores, id) = (h.messages.clone(), id.clone());
            tasks.spawn(async move {
                let replaced = stores.messages.replace(&id, round, &[number], HOUR).await.unwrap();
                replaced.ok().map(|version| (version, vec![number]))
            });
        }
        let won: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        assert_eq!(won[0].0, round + 1);
        assert_eq!(get(h, &id).await, won.into_iter().next());
    }
}

pub(crate) async fn a_message_is_removed_only_at_the_version_expected(h: &Harness) {
    let (id, messages) = (new_id(h), &h.messages.messages);
    assert!(!messages.remove(&id, 1).await.unwrap());
    insert(h, &id, b"one").await;
    assert_eq!(replace(h, &id, 1, b"two").await, Ok(2));
    for wrong in [0, 1, 3, u64::MAX] {
        assert!(!messages.remove(&id, wrong).await.unwrap());
    }
    assert_eq!(get(h, &id).await, is(2, b"two"));
    assert!(messages.remove(&id, 2).await.unwrap());
    assert!(!messages.remove(&id, 2).await.unwrap());
    assert_eq!(get(h, &id).await, None);
    assert_eq!(insert(h, &id, b"again").await, None);
    assert_eq!(get(h, &id).await, is(1, b"again"));
}

pub(crate) async fn a_message_is_forgotten_after_its_time(h: &Harness) {
    let (id, messages) = (new_id(h), &h.messages.messages);
    let began = h.now();
    assert!(messages.insert(&id, b"brief", SHORT).await.unwrap().is_none());
    h.elapse(SHORT);
    h.until("the message is forgotten", || async { get(h, &id).await.is_none() }).await;
    assert!(h.now().since(began) + Duration::from_millis(2) >= SHORT, "forgotten before its time");
    assert_eq!(replace(h, &id, 1, b"x").await, Err(None));
    assert!(!messages.remove(&id, 1).await.unwrap());
    assert_eq!(insert(h, &id, b"new").await, None);
    assert_eq!(get(h, &id).await, is(1, b"new"));
}

pub(crate) async fn a_replacement_is_kept_for_its_own_time(h: &Harness) {
    let (longer, shorter, messages) = (new_id(h), new_id(h), &h.messages.messages);
    assert!(messages.insert(&longer, b"one", LONG / 2).await.unwrap().is_none());
    assert!(messages.insert(&shorter, b"one", HOUR).await.unwrap().is_none());
    assert!(messages.replace(&longer, 1, b"two", HOUR).await.unwrap().is_ok());
    assert!(messages.replace(&shorter, 1, b"two", SHORT).await.unwrap().is_ok());
    h.elapse(LONG);
    h.until("the shorter one is forgotten", || async { get(h, &shorter).await.is_none() }).await;
    assert_eq!(get(h, &longer).await, is(2, b"two"));
}

pub(crate) async fn a_message_of_half_a_mebibyte_is_kept_whole(h: &Harness) {
    let id = new_id(h);
    let (one, two): (Vec<u8>, Vec<u8>) =
        ((0..1u32 << 19).map(|n| (n % 251) as u8).collect(), vec![0xff; 300_000]);
    assert!(insert(h, &id, &one).await.is_none());
    // Not assert_eq: a failure would print all of it.
    assert!(get(h, &id).await == is(1, &one));
    assert!(insert(h, &id, b"x").await == is(1, &one));
    assert!(replace(h, &id, 1, &two).await == Ok(2));
    assert!(replace(h, &id, 1, b"x").await == Err(is(2, &two)));
    assert!(h.messages.messages.remove(&id, 2).await.unwrap());
}

pub(crate) async fn messages_with_odd_ids_stay_apart(h: &Harness) {
    let stem = h.name("");
    let ids: Vec<MessageId> =
        odd_names().into_iter().map(|name| MessageId::stored(format!("{name}{stem}"))).collect();
    for id in &ids {
        assert_eq!(insert(h, id, id.as_str().as_bytes()).await, None);
    }
    for id in &ids {
        assert_eq!(get(h, id).await, is(1, id.as_str().as_bytes()));
        assert!(h.messages.messages.remove(id, 1).await.unwrap());
    }
}

pub(crate) async fn ids_of_acs_lead_to_their_message_and_part(h: &Harness) {
    let (id, messages) = (new_id(h), &h.messages.messages);
    let upstream: Vec<(String, u32)> = (0..100).map(|part| (h.name("acs"), part * 1000)).collect();
    assert!(messages.linked(&upstream[0].0).await.unwrap().is_none());
    messages.link(&upstream, &id, HOUR).await.unwrap();
    messages.link(&[], &id, HOUR).await.unwrap();
    for (name, part) in &upstream {
        assert_eq!(messages.linked(name).await.unwrap(), Some((id.clone(), *part)));
    }
    // The last word counts.
    let other = new_id(h);
    messages.link(&upstream[..1], &other, HOUR).await.unwrap();
    assert_eq!(messages.linked(&upstream[0].0).await.unwrap(), Some((other, upstream[0].1)));
    assert_eq!(messages.linked(&upstream[1].0).await.unwrap(), Some((id, upstream[1].1)));
}

pub(crate) async fn links_with_odd_names_stay_apart(h: &Harness) {
    let (stem, messages) = (h.name(""), &h.messages.messages);
    let names: Vec<String> = odd_names().into_iter().map(|name| format!("{name}{stem}")).collect();
    for (name, part) in names.iter().zip(0..) {
        messages.link(&[(name.clone(), part)], &MessageId::stored(name.clone()), HOUR).await.unwrap();
    }
    for (name, part) in names.iter().zip(0..) {
        let linked = messages.linked(name).await.unwrap();
        assert_eq!(linked, Some((MessageId::stored(name.clone()), part)));
    }
}

pub(crate) async fn a_link_is_forgotten_after_its_time(h: &Harness) {
    let (id, messages, brief, lasting) = (new_id(h), &h.messages.messages, h.name("acs"), h.name("acs"));
    messages.link(&[(brief.clone(), 1)], &id, SHORT).await.unwrap();
    messages.link(&[(lasting.clone(), 2)], &id, HOUR).await.unwrap();
    h.elapse(SHORT);
    h.until("the link is forgotten", || async { messages.linked(&brief).await.unwrap().is_none() }).await;
    assert_eq!(messages.linked(&lasting).await.unwrap(), Some((id, 2)));
}

/// All rules share one store: each takes what is due in a year of its own, and leaves nothing due there.
fn year(number: u64) -> Timestamp {
    Timestamp::from_millis(number * 31_536_000_000)
}

async fn take(h: &Harness, now: Timestamp, hold: Duration, limit: usize) -> Vec<MessageId> {
    h.messages.messages.take_due(now, hold, limit).await.unwrap()
}

pub(crate) async fn what_is_due_is_taken_oldest_first_and_put_off(h: &Harness) {
    let (messages, start) = (&h.messages.messages, year(1));
    let at = |seconds| start.plus(Duration::from_secs(seconds));
    let ids: Vec<MessageId> = (0..5).map(|_| new_id(h)).collect();
    for (id, seconds) in ids.iter().zip([30, 10, 50, 20, 40]) {
        messages.schedule(id, Some(at(seconds))).await.unwrap();
    }
    let in_order = [&ids[1], &ids[3], &ids[0], &ids[4], &ids[2]].map(Clone::clone);
    let minute = Duration::from_secs(60);
    assert_eq!(take(h, at(9), minute, 10).await, []);
    assert_eq!(take(h, at(10), minute, 0).await, []);
    assert_eq!(take(h, at(39), minute, 2).await, in_order[..2]);
    assert_eq!(take(h, at(39), minute, 10).await, in_order[2..3]);
    // Those three are put off to 99.
    assert_eq!(take(h, at(98), minute, 10).await, in_order[3..]);
    let mut again = take(h, at(99), minute, 10).await;
    again.sort();
    let mut expected = in_order[..3].to_vec();
    expected.sort();
    assert_eq!(again, expected);
    for id in &ids {
        messages.schedule(id, None).await.unwrap();
    }
    assert_eq!(take(h, at(1_000_000), minute, 10).await, []);
}

pub(crate) async fn the_last_wish_to_be_looked_at_counts(h: &Harness) {
    let (messages, start, id) = (&h.messages.messages, year(2), new_id(h));
    let at = |seconds| start.plus(Duration::from_secs(seconds));
    messages.schedule(&id, Some(at(10))).await.unwrap();
    messages.schedule(&id, Some(at(20))).await.unwrap();
    assert_eq!(take(h, at(19), HOUR, 10).await, []);
    messages.schedule(&id, Some(at(5))).await.unwrap();
    assert_eq!(take(h, at(5), HOUR, 10).await, std::slice::from_ref(&id));
    // Also instead of being put off.
    messages.schedule(&id, Some(at(6))).await.unwrap();
    assert_eq!(take(h, at(6), HOUR, 10).await, std::slice::from_ref(&id));
    messages.schedule(&id, None).await.unwrap();
    messages.schedule(&id, None).await.unwrap();
    assert_eq!(take(h, at(1_000_000), HOUR, 10).await, []);
}

pub(crate) async fn of_concurrent_takers_each_due_message_has_one(h: &Harness) {
    let (messages, now) = (&h.messages.messages, year(3));
    let mut ids: Vec<MessageId> = (0..50).map(|_| new_id(h)).collect();
    for id in &ids {
        messages.schedule(id, Some(now)).await.unwrap();
    }
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let messages = h.messages.messages.clone();
        tasks.spawn(async move { messages.take_due(now, HOUR, 7).await.unwrap() });
    }
    let mut taken = tasks.join_all().await.concat();
    taken.sort();
    ids.sort();
    assert_eq!(taken, ids);
    for id in &ids {
        messages.schedule(id, None).await.unwrap();
    }
}
