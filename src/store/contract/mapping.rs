//! The rules of `IdentityStore`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::*;

pub(crate) async fn an_unknown_user_and_an_unknown_identity_are_not_found(h: &Harness) {
    let (user, record) = (h.user(), h.record());
    assert_eq!(h.find(&user).await, None);
    assert_eq!(h.stores.identities.find_user(&record.identity).await.unwrap(), None);
    assert_eq!(h.stores.identities.advance_generation(&user, &record.identity).await.unwrap(), None);
    assert!(!h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.find(&user).await, None);
}

pub(crate) async fn a_record_is_found_by_its_user_and_by_its_identity(h: &Harness) {
    let user = h.user();
    let record =
        IdentityRecord { generation: 7, created_at: Timestamp::from_millis(1_234_567_890_123), ..h.record() };
    assert_eq!(h.insert(&user, &record).await, Inserted::New);
    assert_eq!(h.find(&user).await, Some(record.clone()));
    let found = h.stores.identities.find_user(&record.identity).await.unwrap();
    assert_eq!(found, Some((user.clone(), record.clone())));
    // The very same record again changes nothing and says so.
    assert_eq!(h.insert(&user, &record).await, Inserted::Existing(record.clone()));
    assert_eq!(h.find(&user).await, Some(record));
}

pub(crate) async fn of_100_concurrent_insertions_for_a_user_one_is_new_and_the_others_see_it(h: &Harness) {
    let user = h.user();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stores, user, record) = (h.stores.clone(), user.clone(), h.record());
        tasks.spawn(async move {
            let inserted = stores.identities.insert_if_absent(&user, &record).await.unwrap();
            (record, inserted)
        });
    }
    let ended = tasks.join_all().await;
    let winners: Vec<_> = ended.iter().filter(|(_, inserted)| *inserted == Inserted::New).collect();
    assert_eq!(winners.len(), 1, "each of these was told it is the user's record");
    let winner = &winners[0].0;
    for (record, inserted) in &ended {
        if record != winner {
            assert_eq!(*inserted, Inserted::Existing(winner.clone()));
            assert_eq!(h.stores.identities.find_user(&record.identity).await.unwrap(), None);
        }
    }
    assert_eq!(h.find(&user).await, Some(winner.clone()));
    let found = h.stores.identities.find_user(&winner.identity).await.unwrap();
    assert_eq!(found, Some((user, winner.clone())));
}

pub(crate) async fn of_100_users_who_want_one_identity_one_gets_it(h: &Harness) {
    let record = h.record();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stores, user, record) = (h.stores.clone(), h.user(), record.clone());
        tasks.spawn(async move {
            let inserted = stores.identities.insert_if_absent(&user, &record).await.unwrap();
            (user, inserted)
        });
    }
    let ended = tasks.join_all().await;
    let winners: Vec<_> = ended.iter().filter(|(_, inserted)| *inserted == Inserted::New).collect();
    assert_eq!(winners.len(), 1);
    let owner = winners[0].0.clone();
    for (user, inserted) in &ended {
        if *user != owner {
            assert_eq!(*inserted, Inserted::LinkedElsewhere);
            assert_eq!(h.find(user).await, None);
        }
    }
    assert_eq!(h.stores.identities.find_user(&record.identity).await.unwrap(), Some((owner, record)));
}

pub(crate) async fn an_existing_record_wins_over_a_conflict_of_identities(h: &Harness) {
    let (_, taken) = h.mapped().await;
    let (user, record) = h.mapped().await;
    assert_eq!(h.insert(&user, &taken).await, Inserted::Existing(record.clone()));
    assert_eq!(h.insert(&h.user(), &taken).await, Inserted::LinkedElsewhere);
    assert_eq!(h.find(&user).await, Some(record));
}

pub(crate) async fn the_losers_identity_stays_free(h: &Harness) {
    let (user, record) = h.mapped().await;
    let surplus = h.record();
    assert_eq!(h.insert(&user, &surplus).await, Inserted::Existing(record));
    assert_eq!(h.stores.identities.find_user(&surplus.identity).await.unwrap(), None);
    let other = h.user();
    assert_eq!(h.insert(&other, &surplus).await, Inserted::New);
    assert_eq!(h.stores.identities.find_user(&surplus.identity).await.unwrap(), Some((other, surplus)));
}

pub(crate) async fn a_generation_grows_by_one_each_time_and_changes_nothing_else(h: &Harness) {
    let user = h.user();
    let record = IdentityRecord { generation: 41, ..h.record() };
    h.insert(&user, &record).await;
    for generation in 42..45 {
        let new = h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
        assert_eq!(new, Some(generation));
        let advanced = IdentityRecord { generation, ..record.clone() };
        assert_eq!(h.find(&user).await, Some(advanced.clone()));
        let found = h.stores.identities.find_user(&record.identity).await.unwrap();
        assert_eq!(found, Some((user.clone(), advanced)));
    }
}

pub(crate) async fn a_generation_carries_into_its_higher_bytes_and_stops_at_the_last(h: &Harness) {
    for before in [255, 65_535, (1 << 53) - 1, u64::MAX - 1, u64::MAX] {
        let user = h.user();
        let record = IdentityRecord { generation: before, ..h.record() };
        h.insert(&user, &record).await;
        let after = before.saturating_add(1);
        let told = h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
        assert_eq!((told, h.find(&user).await.unwrap().generation), (Some(after), after), "after {before}");
    }
}

pub(crate) async fn concurrent_advances_all_count(h: &Harness) {
    let (user, record) = h.mapped().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (stores, user, identity) = (h.stores.clone(), user.clone(), record.identity.clone());
        tasks.spawn(
            async move { stores.identities.advance_generation(&user, &identity).await.unwrap().unwrap() },
        );
    }
    let generations: BTreeSet<u64> = tasks.join_all().await.into_iter().collect();
    assert_eq!(generations, (1..=50).collect());
    assert_eq!(h.find(&user).await.unwrap().generation, 50);
}

pub(crate) async fn advancing_needs_the_expected_identity(h: &Harness) {
    let (user, record) = h.mapped().await;
    let (_, other) = h.mapped().await;
    for wrong in [&other.identity, &h.record().identity] {
        assert_eq!(h.stores.identities.advance_generation(&user, wrong).await.unwrap(), None);
    }
    assert_eq!(h.find(&user).await, Some(record));
}

pub(crate) async fn removal_needs_the_expected_identity_and_frees_both_names(h: &Harness) {
    let (user, record) = h.mapped().await;
    let (other_user, other) = h.mapped().await;
    for wrong in [&other.identity, &h.record().identity] {
        assert!(!h.stores.identities.remove(&user, wrong).await.unwrap());
    }
    assert_eq!(h.find(&user).await, Some(record.clone()));
    assert_eq!(h.find(&other_user).await, Some(other.clone()));

    assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.find(&user).await, None);
    assert_eq!(h.stores.identities.find_user(&record.identity).await.unwrap(), None);
    assert!(!h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.stores.identities.advance_generation(&user, &record.identity).await.unwrap(), None);

    // The user may get another identity and the identity another user.
    let (new_record, new_user) = (h.record(), h.user());
    assert_eq!(h.insert(&user, &new_record).await, Inserted::New);
    assert_eq!(h.insert(&new_user, &record).await, Inserted::New);
    let found = h.stores.identities.find_user(&record.identity).await.unwrap();
    assert_eq!(found, Some((new_user, record.clone())));
    // A removal that was meant for the old record does not hit the new one.
    assert!(!h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.find(&user).await, Some(new_record));
}

pub(crate) async fn of_concurrent_removals_one_removes(h: &Harness) {
    let (user, record) = h.mapped().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (stores, user, identity) = (h.stores.clone(), user.clone(), record.identity.clone());
        tasks.spawn(async move { stores.identities.remove(&user, &identity).await.unwrap() });
    }
    assert_eq!(tasks.join_all().await.into_iter().filter(|removed| *removed).count(), 1);
    assert_eq!(h.find(&user).await, None);
}

/// The odd names as user ids, those with room for it made unique to this run.
fn odd_users() -> Vec<UserId> {
    odd_names().iter().map(|name| UserId::parse(name).unwrap()).collect()
}

pub(crate) async fn odd_names_stay_apart(h: &Harness) {
    let users = odd_users();
    let mut records = Vec::new();
    for (number, user) in users.iter().enumerate() {
        // Odd identities too, each the odd name of another user.
        let identity = users[(number + 7) % users.len()].as_str();
        let record = IdentityRecord {
            identity: IdentityId::parse(identity).unwrap(),
            generation: number as u64,
            created_at: Timestamp::from_millis(number as u64),
        };
        assert_eq!(h.insert(user, &record).await, Inserted::New, "{:?}", user.as_str());
        records.push(record);
    }
    let listed = list_all(h, 10).await;
    for (user, record) in users.iter().zip(&records) {
        assert_eq!(h.find(user).await.as_ref(), Some(record), "{:?}", user.as_str());
        let found = h.stores.identities.find_user(&record.identity).await.unwrap();
        assert_eq!(found, Some((user.clone(), record.clone())), "{:?}", user.as_str());
        assert_eq!(listed.get(user), Some(record), "{:?}", user.as_str());
    }
    for (user, record) in users.iter().zip(&records) {
        assert!(h.stores.identities.remove(user, &record.identity).await.unwrap());
        assert_eq!(h.find(user).await, None);
    }
}

/// Every entry of every page, asserting that none comes twice and no page is too long.
async fn list_all(h: &Harness, limit: usize) -> BTreeMap<UserId, IdentityRecord> {
    list_in_order(h, limit).await.into_iter().collect()
}

async fn list_in_order(h: &Harness, limit: usize) -> Vec<(UserId, IdentityRecord)> {
    let (mut entries, mut seen) = (Vec::new(), HashSet::new());
    let mut from: Option<Vec<u8>> = None;
    loop {
        let page =
            h.stores.identities.list(from.as_deref(), limit).await.unwrap().expect("a cursor of its own");
        assert!(page.entries.len() <= limit, "{} entries on a page of {limit}", page.entries.len());
        for (user, record) in page.entries {
            assert!(seen.insert(user.clone()), "{:?} came twice", user.as_str());
            entries.push((user, record));
        }
        match page.next {
            Some(next) => {
                assert!(next.len() <= 512);
                assert_ne!(from.as_ref(), Some(&next), "the same page for ever");
                from = Some(next);
            }
            None => return entries,
        }
    }
}

pub(crate) async fn pages_hold_every_entry_once_in_a_stable_order_and_at_most_the_limit(h: &Harness) {
    let mut mine = BTreeMap::new();
    for _ in 0..25 {
        let (user, record) = h.mapped().await;
        mine.insert(user, record);
    }
    let first = list_in_order(h, 10).await;
    for (user, record) in &mine {
        assert_eq!(first.iter().filter(|entry| *entry == &(user.clone(), record.clone())).count(), 1);
    }
    for limit in [1, 7, 25, 1000, usize::MAX] {
        assert_eq!(list_in_order(h, limit).await, first, "pages of {limit}");
    }
    // What is removed is not listed, and what changed is listed as it is now.
    let (gone, record) = mine.pop_first().unwrap();
    assert!(h.stores.identities.remove(&gone, &record.identity).await.unwrap());
    let (changed, record) = mine.pop_first().unwrap();
    h.stores.identities.advance_generation(&changed, &record.identity).await.unwrap();
    let now = list_all(h, 6).await;
    assert_eq!(now.get(&gone), None);
    assert_eq!(now.get(&changed).unwrap().generation, 1);
    assert_eq!(now.len(), first.len() - 1);
}

pub(crate) async fn an_entry_that_exists_throughout_is_listed_once_while_others_come_and_go(h: &Harness) {
    let mut lasting = Vec::new();
    for _ in 0..40 {
        lasting.push(h.mapped().await.0);
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let rounds = Arc::new(AtomicU64::new(0));
    let mut passing = tokio::task::JoinSet::new();
    for start in ["0", "u", "user", "z"] {
        let (stores, stop, rounds, stem) = (h.stores.clone(), stop.clone(), rounds.clone(), h.name(start));
        passing.spawn(async move {
            while !stop.is_cancelled() {
                let name = format!("{stem}-{}", rounds.fetch_add(1, Ordering::Relaxed));
                let (user, identity) = (UserId::parse(&name).unwrap(), IdentityId::parse(&name).unwrap());
                let record = IdentityRecord { identity, generation: 0, created_at: Timestamp::default() };
                assert_eq!(stores.identities.insert_if_absent(&user, &record).await.unwrap(), Inserted::New);
                tokio::task::yield_now().await;
                assert!(stores.identities.remove(&user, &record.identity).await.unwrap());
            }
        });
    }
    for limit in [1, 3, 10, 100] {
        let before = rounds.load(Ordering::Relaxed);
        h.until("others come and go while pages are read", || async {
            // Asserts that none comes twice.
            let listed = list_all(h, limit).await;
            for user in &lasting {
                assert!(listed.contains_key(user), "left out");
            }
            rounds.load(Ordering::Relaxed) >= before + 20
        })
        .await;
    }
    stop.cancel();
    passing.join_all().await;
}

pub(crate) async fn a_cursor_of_the_longest_name_is_short_enough(h: &Harness) {
    for start in ["a", "ü", "🦀", "{", "z"] {
        let stem = h.name(start);
        let user = UserId::parse(&format!("{stem}{}", "x".repeat(256 - stem.len()))).unwrap();
        h.insert(&user, &h.record()).await;
    }
    // Pages of one end with each of them once; the lengths of cursors are asserted inside.
    assert!(list_all(h, 1).await.len() >= 5);
}

pub(crate) async fn foreign_cursors_are_refused(h: &Harness) {
    for _ in 0..3 {
        h.mapped().await;
    }
    let page = h.stores.identities.list(None, 1).await.unwrap().unwrap();
    let own = page.next.expect("there are more");
    assert!(h.stores.identities.list(Some(&own), 1).await.unwrap().is_some());
    let mut other_version = own.clone();
    other_version[0] ^= 0xff;
    let noise: Vec<u8> = (0..512u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let foreign: [&[u8]; 7] = [b"", b"\0", b"0", b"user-1", &[0xff; 16], &other_version, &noise];
    for bytes in foreign {
        assert_eq!(h.stores.identities.list(Some(bytes), 10).await.unwrap(), None, "{bytes:?}");
    }
    assert_eq!(h.stores.identities.list(Some(&vec![1; 1 << 20]), 10).await.unwrap(), None);
}

pub(crate) async fn a_store_that_answers_is_fit(h: &Harness) {
    assert_eq!(h.stores.identities.check().await, Ok(()));
}
