//! What is particular to messaging in the embedded store: bounds, what leaves the tables, files of before messaging.

use std::time::Duration;

use redb::{ReadableTableMetadata, TableDefinition};

use super::*;
use crate::messaging::ports::{Cursor, EventsRead};
use crate::messaging::types::MessageId;

const MINUTE: Duration = Duration::from_secs(60);

/// A store in memory of which the tables can be seen.
fn seen(bounds: Bounds) -> (MessageStores, Arc<ManualClock>, Arc<Engine>) {
    let clock = clock();
    let engine =
        Arc::new(Engine::new(file::in_memory(&Vault::plain()).unwrap(), clock.clone(), bounds).unwrap());
    let opened =
        Embedded::new(engine.clone(), Writer::inline(), bounds, Metrics::new(), Vault::plain()).into_opened();
    (opened.messages, clock, engine)
}

/// Rows of all tables of messaging but the one of two entries.
fn rows(engine: &Engine) -> [u64; 9] {
    let mut rows = [0; 9];
    engine.with_tables(|tables| {
        rows = [
            tables.messages.len().unwrap(),
            tables.message_expiry.len().unwrap(),
            tables.links.len().unwrap(),
            tables.link_expiry.len().unwrap(),
            tables.events.len().unwrap(),
            tables.event_keys.len().unwrap(),
            tables.event_key_expiry.len().unwrap(),
            tables.due.len().unwrap(),
            tables.due_order.len().unwrap(),
        ];
    });
    rows
}

fn id(number: usize) -> MessageId {
    MessageId::stored(format!("sms_{number}"))
}

async fn one_of_each(stores: &MessageStores, number: usize) {
    let (id, now) = (id(number), Timestamp::from_millis(1));
    assert!(stores.messages.insert(&id, b"one", 2 * MINUTE).await.unwrap().is_none());
    assert!(stores.messages.replace(&id, 1, b"two", MINUTE).await.unwrap().is_ok());
    for keep in [2, 1] {
        stores.messages.link(&[(format!("acs {number}"), 0)], &id, keep * MINUTE).await.unwrap();
    }
    stores.messages.schedule(&id, Some(now)).await.unwrap();
    stores.messages.schedule(&id, Some(now.plus(MINUTE))).await.unwrap();
    let cursor = stores.events.append(&format!("key {number}"), b"event", MINUTE, MINUTE).await.unwrap();
    assert!(cursor.is_some());
}

#[tokio::test]
async fn what_has_expired_leaves_the_tables() {
    let (stores, clock, engine) = seen(Bounds::default());
    for number in 0..200 {
        one_of_each(&stores, number).await;
    }
    assert_eq!(rows(&engine), [200; 9]);
    clock.advance(2 * MINUTE);
    // A few writes are enough, of whatever kind; what is due stays until somebody says that it is not.
    for number in 0..200 {
        stores.messages.schedule(&id(number), None).await.unwrap();
    }
    assert_eq!(rows(&engine), [0; 9]);
}

#[tokio::test]
async fn a_full_store_of_messages_refuses_new_ones_and_forgets_none() {
    let (stores, clock, _) = seen(Bounds { messages: 5, ..Bounds::default() });
    for number in 0..5 {
        one_of_each(&stores, number).await;
    }
    let refused = stores.messages.insert(&id(5), b"x", MINUTE).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))));
    assert!(stores.messages.schedule(&id(5), Some(clock.now())).await.is_err());
    // Those it knows can change, and be asked for.
    for number in 0..5 {
        assert!(stores.messages.insert(&id(number), b"x", MINUTE).await.unwrap().is_some());
        assert!(stores.messages.replace(&id(number), 2, b"three", MINUTE).await.unwrap().is_ok());
        stores.messages.schedule(&id(number), Some(clock.now())).await.unwrap();
    }
    clock.advance(MINUTE);
    // The write that is refused clears up what has expired; the next has room.
    let _ = stores.messages.insert(&id(6), b"x", MINUTE).await;
    assert!(stores.messages.insert(&id(7), b"x", MINUTE).await.unwrap().is_none());
}

#[tokio::test]
async fn of_too_many_events_and_links_the_first_go() {
    let (stores, _, engine) = seen(Bounds { events: 10, links: 10, ..Bounds::default() });
    let start = stores.events.end().await.unwrap();
    let mut places: Vec<Cursor> = Vec::new();
    for number in 0..30 {
        let key = format!("key {number}");
        places.extend(stores.events.append(&key, b"event", MINUTE, MINUTE).await.unwrap());
        let keep = MINUTE + Duration::from_secs(u64::try_from(number).unwrap());
        stores.messages.link(&[(key, 0)], &id(number), keep).await.unwrap();
        let rows = rows(&engine);
        assert!(rows.iter().all(|rows| *rows <= 10), "{rows:?}");
    }
    assert!(matches!(stores.events.read(&start, 10).await.unwrap(), EventsRead::TooOld));
    for (number, place) in places.iter().enumerate() {
        match stores.events.read(place, 100).await.unwrap() {
            EventsRead::Page(page) => assert_eq!(page.events.len(), 29 - number),
            EventsRead::TooOld => assert!(number < 19, "{number}"),
            EventsRead::Foreign => panic!("foreign: {number}"),
        }
    }
    for number in 0..30 {
        let linked = stores.messages.linked(&format!("key {number}")).await.unwrap();
        assert_eq!(linked.is_some(), number >= 20, "{number}");
    }
}

#[tokio::test]
async fn nothing_due_costs_no_write() {
    let (stores, clock, engine) = seen(Bounds::default());
    stores.messages.schedule(&id(1), Some(clock.now().plus(MINUTE))).await.unwrap();
    let mut taken = None;
    // While somebody else holds the engine's one write transaction, a write would wait.
    engine.with_write_blocked(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let messages = stores.messages.clone();
        let now = clock.now();
        let thread =
            std::thread::spawn(move || runtime.block_on(messages.take_due(now, MINUTE, 10)).unwrap());
        taken = Some(thread.join().unwrap());
    });
    assert_eq!(taken, Some(Vec::new()));
}

#[tokio::test]
async fn the_log_goes_on_where_it_was_when_the_file_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let open = || open(&settings(&folder), Vault::plain(), clock(), Metrics::new()).unwrap().messages.events;
    let events = open();
    let first = events.append("one", b"1", MINUTE, MINUTE).await.unwrap().unwrap();
    drop(events);
    let events = open();
    assert_eq!(events.end().await.unwrap(), first);
    assert_eq!(events.append("one", b"again", MINUTE, MINUTE).await.unwrap(), None);
    let second = events.append("two", b"2", MINUTE, MINUTE).await.unwrap().unwrap();
    let EventsRead::Page(page) = events.read(&first, 10).await.unwrap() else { panic!("no page") };
    assert_eq!(page.events, [(second, b"2".to_vec())]);
}

fn delete_tables(folder: &tempfile::TempDir, names: &[&str], forget: bool) {
    let database = redb::Database::open(settings(folder).path).unwrap();
    let transaction = database.begin_write().unwrap();
    for name in names {
        let table: TableDefinition<&[u8], &[u8]> = TableDefinition::new(name);
        assert!(transaction.delete_table(table).unwrap(), "{name}");
    }
    if forget {
        let meta: TableDefinition<&[u8], &[u8]> = TableDefinition::new("meta");
        transaction.open_table(meta).unwrap().remove(super::super::tables::MESSAGING_ENTRY).unwrap();
    }
    transaction.commit().unwrap();
}

const TABLES: [&str; 10] = [
    "messages",
    "message_expiry",
    "links",
    "link_expiry",
    "due",
    "due_order",
    "events",
    "event_keys",
    "event_key_expiry",
    "event_log",
];

#[tokio::test]
async fn a_file_of_before_messaging_is_opened_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    insert(&open_in(&folder).unwrap(), "user", "8:acs:1").await;
    delete_tables(&folder, &TABLES, true);
    for _ in 0..2 {
        let opened = open(&settings(&folder), Vault::plain(), clock(), Metrics::new()).unwrap();
        assert_eq!(find(&opened.core, "user").await, Some(record("8:acs:1")));
        opened.messages.messages.insert(&id(1), b"x", MINUTE).await.unwrap();
        assert!(opened.messages.messages.get(&id(1)).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_file_that_lost_its_messages_is_damaged_and_not_started_empty() {
    for name in TABLES {
        let folder = tempfile::tempdir().unwrap();
        insert(&open_in(&folder).unwrap(), "user", "8:acs:1").await;
        delete_tables(&folder, &[name], false);
        assert!(matches!(open_in(&folder), Err(OpenError::Damaged { .. })), "{name}");
    }
}
