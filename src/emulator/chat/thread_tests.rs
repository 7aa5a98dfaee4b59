//! Numbers and order of messages within a thread, and its pages.

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_795_348_800_123;

fn thread() -> Thread {
    Thread::new("19:x@thread.v2".into(), "Lunch".into(), "8:acs:a".into(), Timestamp::from_millis(NOW))
}

fn say(thread: &mut Thread, text: &str, now: u64) -> Message {
    let draft = Draft {
        author: "8:acs:a".into(),
        author_name: String::new(),
        content: Content::Text(text.into()),
        metadata: Metadata::new(),
    };
    thread.append(draft, 0, Timestamp::from_millis(now))
}

fn ids(thread: &Thread) -> Vec<u64> {
    thread.page(None, usize::MAX, |_| true).0.iter().map(|message| message.id).collect()
}

#[test]
fn ids_are_times_and_stay_unique_within_one_millisecond() {
    let mut thread = thread();
    let messages = [say(&mut thread, "a", NOW), say(&mut thread, "b", NOW), say(&mut thread, "c", NOW - 5)];
    assert_eq!(messages.each_ref().map(|message| message.id), [NOW, NOW + 1, NOW + 2]);
    assert_eq!(messages.each_ref().map(|message| message.version), [NOW, NOW + 1, NOW + 2]);
    assert_eq!(messages.each_ref().map(|message| message.sequence), [1, 2, 3]);
}

#[test]
fn an_edit_moves_a_message_to_the_front_and_a_deletion_leaves_it_in_place() {
    let mut thread = thread();
    let (a, b) = (say(&mut thread, "a", NOW), say(&mut thread, "b", NOW));
    let later = Timestamp::from_millis(NOW + 7000);
    let edited = thread.edit(a.id, Some("A".into()), None, later).unwrap();
    assert_eq!((edited.id, edited.created, edited.edited), (a.id, a.created, Some(later)));
    assert_eq!((edited.version, edited.sequence), (NOW + 7000, 3));
    assert_eq!(ids(&thread), [a.id, b.id]);

    let erased = thread.erase(b.id, later).unwrap();
    assert_eq!((erased.sequence, erased.content.text()), (b.sequence, Some("")));
    assert_eq!((erased.version, erased.deleted), (NOW + 7001, Some(later)));
    assert_eq!(ids(&thread), [a.id, b.id], "still listed");
    assert_eq!(thread.message(b.id).unwrap().deleted, Some(later), "still readable");
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let mut thread = thread();
    let now = Timestamp::from_millis(NOW);
    assert!(thread.edit(1, None, None, now).is_none());
    assert!(thread.erase(1, now).is_none());
    assert!(thread.forget(1).is_none());
}

/// What happens to a thread in a property test.
#[derive(Debug, Clone)]
enum Deed {
    Say(u16),
    Edit(usize, u16),
    Erase(usize, u16),
    Forget(usize),
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        4 => (0..50u16).prop_map(Deed::Say),
        2 => (0..60usize, 0..50u16).prop_map(|(which, time)| Deed::Edit(which, time)),
        1 => (0..60usize, 0..50u16).prop_map(|(which, time)| Deed::Erase(which, time)),
        1 => (0..60usize).prop_map(Deed::Forget),
    ];
    prop::collection::vec(deed, 0..60)
}

proptest! {
    #[test]
    fn versions_grow_and_places_and_ids_are_never_used_twice(deeds in deeds()) {
        let mut thread = thread();
        let (mut ids, mut versions, mut sequences) = (Vec::new(), Vec::new(), Vec::new());
        for deed in deeds {
            let pick = |which: usize| ids.get(which).copied().unwrap_or(0);
            let at = |time: u16| Timestamp::from_millis(NOW + u64::from(time));
            let (change, is_new, is_moved) = match deed {
                Deed::Say(time) => (Some(say(&mut thread, "x", NOW + u64::from(time))), true, true),
                Deed::Edit(which, time) => (thread.edit(pick(which), Some("y".into()), None, at(time)), false, true),
                Deed::Erase(which, time) => (thread.erase(pick(which), at(time)), false, false),
                Deed::Forget(which) => { thread.forget(pick(which)); (None, false, false) }
            };
            let Some(message) = change else { continue };
            prop_assert!(versions.iter().all(|version| *version < message.version));
            versions.push(message.version);
            if is_new {
                prop_assert!(!ids.contains(&message.id));
                prop_assert_eq!(message.id, message.version);
                ids.push(message.id);
            }
            if is_moved {
                prop_assert!(sequences.iter().all(|sequence| *sequence < message.sequence));
                sequences.push(message.sequence);
            }
        }
        prop_assert_eq!(thread.user_messages, thread.messages().count());
        prop_assert_eq!(thread.places.len(), thread.messages.len());
        for (id, place) in &thread.places {
            prop_assert_eq!(thread.messages[place].id, *id);
        }
    }

    #[test]
    fn pages_of_any_size_show_every_wanted_message_once(
        count in 0..60usize, edits in prop::collection::vec(0..60usize, 0..20), size in 1..25usize, wanted: u64,
    ) {
        let mut thread = thread();
        let said: Vec<Message> = (0..count).map(|n| say(&mut thread, "x", NOW + n as u64)).collect();
        for which in edits {
            if let Some(message) = said.get(which) {
                thread.edit(message.id, None, None, Timestamp::from_millis(NOW));
            }
        }
        let is_wanted = |message: &Message| wanted.rotate_left((message.id % 64) as u32) & 1 == 0;
        let (all, none) = thread.page(None, usize::MAX, is_wanted);
        prop_assert_eq!(none, None);
        let (mut seen, mut before) = (Vec::new(), None);
        loop {
            let (page, next) = thread.page(before, size, is_wanted);
            prop_assert!(page.len() <= size);
            prop_assert!(next.is_none() || page.len() == size, "only the last page is short");
            prop_assert!(next.is_none() || seen.len() + page.len() < all.len(), "no empty page follows");
            seen.extend(page.iter().map(|message| message.id));
            before = next;
            if next.is_none() { break }
        }
        prop_assert_eq!(seen, all.iter().map(|message| message.id).collect::<Vec<_>>());
        prop_assert!(all.windows(2).all(|two| two[0].sequence > two[1].sequence));
    }
}
