//! A model of messaging's stores: maps, and nothing else. Random operations must answer the same on the model and on
//! the embedded store, in memory and in a file that is closed and opened in between.
//!
//! When old events go is the store's own affair; that a reader sees all that came after its place, or learns that some
//! of it is gone, is not.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::clock::{Clock, ManualClock, Timestamp};
use crate::messaging::ports::{Cursor, EventsRead, MessageStores, Versioned};
use crate::messaging::types::MessageId;
use crate::metrics::Metrics;
use crate::store::{Vault, embedded};

#[derive(Debug, Clone)]
enum Operation {
    Insert { id: usize, record: u8, keep: u64 },
    Get { id: usize },
    Replace { id: usize, expected: u64, record: u8, keep: u64 },
    Remove { id: usize, expected: u64 },
    Link { upstream: usize, id: usize, part: u32, keep: u64 },
    Linked { upstream: usize },
    Schedule { id: usize, due: Option<u64> },
    TakeDue { hold: u64, limit: usize },
    Append { key: usize, event: u8, unique_for: u64 },
    Read { place: usize, limit: usize },
    End,
    Elapse { seconds: u64 },
    Reopen,
}

/// How long events are kept.
const KEEP: Duration = Duration::from_secs(100);

fn operations() -> impl Strategy<Value = Operation> {
    use Operation::*;
    let (id, expected, keep) = (0..4usize, 0..4u64, 1..120u64);
    prop_oneof![
        6 => (id.clone(), any::<u8>(), keep.clone()).prop_map(|(id, record, keep)| Insert { id, record, keep }),
        4 => id.clone().prop_map(|id| Get { id }),
        6 => (id.clone(), expected.clone(), any::<u8>(), keep.clone())
            .prop_map(|(id, expected, record, keep)| Replace { id, expected, record, keep }),
        3 => (id.clone(), expected).prop_map(|(id, expected)| Remove { id, expected }),
        3 => (0..3usize, id.clone(), 0..9u32, keep.clone())
            .prop_map(|(upstream, id, part, keep)| Link { upstream, id, part, keep }),
        3 => (0..3usize).prop_map(|upstream| Linked { upstream }),
        4 => (id, prop::option::of(0..200u64)).prop_map(|(id, due)| Schedule { id, due }),
        4 => (0..60u64, 0..4usize).prop_map(|(hold, limit)| TakeDue { hold, limit }),
        6 => (0..6usize, any::<u8>(), keep)
            .prop_map(|(key, event, unique_for)| Append { key, event, unique_for }),
        6 => (any::<prop::sample::Index>(), 0..6usize)
            .prop_map(|(place, limit)| Read { place: place.index(1000), limit }),
        2 => Just(End),
        4 => (0..50u64).prop_map(|seconds| Elapse { seconds }),
        1 => Just(Reopen),
    ]
}

fn id(number: usize) -> MessageId {
    MessageId::stored(["sms_1", "sms_12", "email_1", ""][number].into())
}

fn upstream(number: usize) -> String {
    ["a", "ab", "b"][number].into()
}

fn bytes(value: u8) -> Vec<u8> {
    vec![value; usize::from(value)]
}

#[derive(Default)]
struct Model {
    messages: BTreeMap<usize, (u64, Vec<u8>, Timestamp)>,
    links: BTreeMap<usize, (MessageId, u32, Timestamp)>,
    due: BTreeMap<MessageId, Timestamp>,
    keys: BTreeMap<usize, Timestamp>,
    /// Each with its place.
    events: Vec<(Cursor, Vec<u8>, Timestamp)>,
}

impl Model {
    fn message(&self, id: usize, now: Timestamp) -> Option<(u64, Vec<u8>)> {
        let (version, record, until) = self.messages.get(&id)?;
        (*until > now).then(|| (*version, record.clone()))
    }
}

fn plain(record: Option<Versioned>) -> Option<(u64, Vec<u8>)> {
    record.map(|record| (record.version, record.bytes))
}

async fn agree(
    operations: Vec<Operation>,
    clock: Arc<ManualClock>,
    mut stores: MessageStores,
    reopen: impl Fn() -> Option<MessageStores>,
) {
    let (mut model, start) = (Model::default(), stores.events.end().await.unwrap());
    let seconds = Duration::from_secs;
    for operation in operations {
        let said = format!("{operation:?}");
        let (now, messages, events) = (clock.now(), &stores.messages, &stores.events);
        match operation {
            Operation::Insert { id: number, record, keep } => {
                let known = messages.insert(&id(number), &bytes(record), seconds(keep)).await.unwrap();
                let expected = model.message(number, now);
                assert_eq!(plain(known), expected, "{said}");
                if expected.is_none() {
                    model.messages.insert(number, (1, bytes(record), now.plus(seconds(keep))));
                }
            }
            Operation::Get { id: number } => {
                let found = plain(messages.get(&id(number)).await.unwrap());
                assert_eq!(found, model.message(number, now), "{said}");
            }
            Operation::Replace { id: number, expected, record, keep } => {
                let replaced =
                    messages.replace(&id(number), expected, &bytes(record), seconds(keep)).await.unwrap();
                let known = model.message(number, now);
                if known.as_ref().is_some_and(|(version, _)| *version == expected) {
                    assert_eq!(replaced.ok(), Some(expected + 1), "{said}");
                    model.messages.insert(number, (expected + 1, bytes(record), now.plus(seconds(keep))));
                } else {
                    assert_eq!(replaced.err().map(plain), Some(known), "{said}");
                }
            }
            Operation::Remove { id: number, expected } => {
                let fits = model.message(number, now).is_some_and(|(version, _)| version == expected);
                if fits {
                    model.messages.remove(&number);
                }
                assert_eq!(messages.remove(&id(number), expected).await.unwrap(), fits, "{said}");
            }
            Operation::Link { upstream: number, id: message, part, keep } => {
                messages.link(&[(upstream(number), part)], &id(message), seconds(keep)).await.unwrap();
                model.links.insert(number, (id(message), part, now.plus(seconds(keep))));
            }
            Operation::Linked { upstream: number } => {
                let known = model.links.get(&number).filter(|(.., until)| *until > now);
                let linked = messages.linked(&upstream(number)).await.unwrap();
                assert_eq!(linked, known.map(|(id, part, _)| (id.clone(), *part)), "{said}");
            }
            Operation::Schedule { id: number, due } => {
                let due = due.map(|due| now.plus(seconds(due)).minus(seconds(50)));
                messages.schedule(&id(number), due).await.unwrap();
                match due {
                    Some(due) => model.due.insert(id(number), due),
                    None => model.due.remove(&id(number)),
                };
            }
            Operation::TakeDue { hold, limit } => {
                let mut due: Vec<(Timestamp, MessageId)> =
                    model.due.iter().map(|(id, due)| (*due, id.clone())).collect();
                due.sort();
                let due = due.into_iter().filter(|(due, _)| *due <= now).take(limit);
                let expected: Vec<MessageId> = due.map(|(_, id)| id).collect();
                let taken = messages.take_due(now, seconds(hold), limit).await.unwrap();
                assert_eq!(taken, expected, "{said}");
                model.due.extend(taken.into_iter().map(|id| (id, now.plus(seconds(hold)))));
            }
            Operation::Append { key, event, unique_for } => {
                let name = format!("key {key}");
                let cursor = events.append(&name, &bytes(event), seconds(unique_for), KEEP).await.unwrap();
                let is_known = model.keys.get(&key).is_some_and(|until| *until > now);
                assert_eq!(cursor.is_none(), is_known, "{said}");
                if let Some(cursor) = cursor {
                    model.keys.insert(key, now.plus(seconds(unique_for)));
                    model.events.push((cursor, bytes(event), now));
                }
            }
            Operation::Read { place, limit } => {
                let place = place % (model.events.len() + 1);
                let cursor = place.checked_sub(1).map_or(&start, |before| &model.events[before].0);
                let rest = &model.events[place..];
                match events.read(cursor, limit).await.unwrap() {
                    EventsRead::Page(page) => {
                        let expected: Vec<_> = rest
                            .iter()
                            .take(limit)
                            .map(|(cursor, event, _)| (cursor.clone(), event.clone()))
                            .collect();
                        assert_eq!(page.events, expected, "{said}");
                    }
                    EventsRead::TooOld => {
                        let is_old = rest.first().is_some_and(|(.., at)| at.plus(KEEP) <= now);
                        assert!(is_old, "{said}: something went before its time");
                    }
                    EventsRead::Foreign => panic!("{said}: a place of this log"),
                }
            }
            Operation::End => {
                let end = model.events.last().map_or(&start, |(cursor, ..)| cursor);
                assert_eq!(events.end().await.unwrap(), *end, "{said}");
            }
            Operation::Elapse { seconds } => clock.advance(Duration::from_secs(seconds)),
            Operation::Reopen => {
                // In this order: the file is locked until the last handle is gone.
                let before = std::mem::replace(&mut stores, embedded::memory(clock.clone()).messages);
                drop(before);
                match reopen() {
                    Some(opened) => stores = opened,
                    None => return,
                }
            }
        }
    }
}

fn run<F: Future<Output = ()>>(future: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_store_in_memory_answers_as_the_model(operations in prop::collection::vec(operations(), 1..250)) {
        let clock = clock();
        // What is in memory cannot be opened again.
        let operations =
            operations.into_iter().filter(|operation| !matches!(operation, Operation::Reopen)).collect();
        run(agree(operations, clock.clone(), embedded::memory(clock).messages, || None));
    }

    #[test]
    fn the_store_in_a_file_answers_as_the_model_also_when_it_is_opened_again(
        operations in prop::collection::vec(operations(), 1..120), sealed: bool
    ) {
        let clock = clock();
        let folder = tempfile::tempdir().unwrap();
        let settings = embedded::Settings { path: folder.path().join("model.redb") };
        let vault = if sealed { Vault::full() } else { Vault::plain() };
        let open = || embedded::open(&settings, vault.clone(), clock.clone(), Metrics::new()).unwrap().messages;
        run(agree(operations, clock.clone(), open(), || Some(open())));
    }
}
