//! The tables of the embedded store: their names, their keys, and the two forms they are used in.
//!
//! [`Tables`] is a batch of writes under way, [`View`] one point in time for readers. Nothing here decides what a
//! write does. All keys and values are plain bytes: the engine's typed keys would trust a damaged file.

use redb::{ReadOnlyTable, ReadTransaction, Table, TableDefinition, WriteTransaction};

use crate::broker::types::TokenKey;
use crate::store::seal::Name;

type Bytes = &'static [u8];
type Definition = TableDefinition<'static, Bytes, Bytes>;
type Writable<'txn> = Table<'txn, Bytes, Bytes>;
type Readable = ReadOnlyTable<Bytes, Bytes>;

/// The format this code writes; a file with a newer one is refused.
pub(super) const FORMAT: u8 = 1;

/// The entry of `meta` that holds the format, as one byte.
pub(super) const FORMAT_ENTRY: &[u8] = b"format";

/// The entry of `meta` that says that the tables of messaging were made: files of before it have none.
pub(super) const MESSAGING_ENTRY: &[u8] = b"messaging";

/// The entry of `meta` that tells which hash key names users in this file; absent without one.
pub(super) const NAMES_ENTRY: &[u8] = b"names";

/// The entry of `event_log` with the name of the log.
pub(super) const LOG_NAME: &[u8] = b"name";

/// The entry of `event_log` with the number of the last event, 8 bytes.
pub(super) const LOG_LAST: &[u8] = b"last";

/// The entry of `event_log` with the milliseconds that events are kept for, 8 bytes; absent before the first event.
pub(super) const LOG_KEEP: &[u8] = b"keep";

/// Name of the user → identity record.
const IDENTITIES: Definition = TableDefinition::new("identities");
/// ACS id → name of the user.
const USERS: Definition = TableDefinition::new("users");
/// Name of the user, 0, scopes, validity → token record.
const TOKENS: Definition = TableDefinition::new("tokens");
/// Expiry, token key → nothing.
const TOKEN_EXPIRY: Definition = TableDefinition::new("token_expiry");
/// Digest of the request's name → end of its time, ledger entry.
const LEDGER: Definition = TableDefinition::new("ledger");
/// End of its time, digest of the request's name → nothing.
const LEDGER_EXPIRY: Definition = TableDefinition::new("ledger_expiry");
/// Message id → end of its time, message record.
const MESSAGES: Definition = TableDefinition::new("messages");
/// End of its time, message id → nothing.
const MESSAGE_EXPIRY: Definition = TableDefinition::new("message_expiry");
/// Id at ACS → end of its time, link.
const LINKS: Definition = TableDefinition::new("links");
/// End of its time, id at ACS → nothing.
const LINK_EXPIRY: Definition = TableDefinition::new("link_expiry");
/// Message id → when it is due.
const DUE: Definition = TableDefinition::new("due");
/// When it is due, message id → nothing.
const DUE_ORDER: Definition = TableDefinition::new("due_order");
/// Number of the event, from 1 without a gap → when it was appended, event.
const EVENTS: Definition = TableDefinition::new("events");
/// Digest of an event's key → end of the time it is remembered for.
const EVENT_KEYS: Definition = TableDefinition::new("event_keys");
/// End of that time, digest of the key → nothing.
const EVENT_KEY_EXPIRY: Definition = TableDefinition::new("event_key_expiry");
/// The name of the log of events, its last number, and how long it keeps events.
const EVENT_LOG: Definition = TableDefinition::new("event_log");
/// What the file is.
const META: Definition = TableDefinition::new("meta");

/// All tables, open for writing in one transaction.
pub(super) struct Tables<'txn> {
    pub(super) identities: Writable<'txn>,
    pub(super) users: Writable<'txn>,
    pub(super) tokens: Writable<'txn>,
    pub(super) token_expiry: Writable<'txn>,
    pub(super) ledger: Writable<'txn>,
    pub(super) ledger_expiry: Writable<'txn>,
    pub(super) messages: Writable<'txn>,
    pub(super) message_expiry: Writable<'txn>,
    pub(super) links: Writable<'txn>,
    pub(super) link_expiry: Writable<'txn>,
    pub(super) due: Writable<'txn>,
    pub(super) due_order: Writable<'txn>,
    pub(super) events: Writable<'txn>,
    pub(super) event_keys: Writable<'txn>,
    pub(super) event_key_expiry: Writable<'txn>,
    pub(super) event_log: Writable<'txn>,
    pub(super) meta: Writable<'txn>,
}

impl<'txn> Tables<'txn> {
    pub(super) fn open(transaction: &'txn WriteTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            identities: transaction.open_table(IDENTITIES)?,
            users: transaction.open_table(USERS)?,
            tokens: transaction.open_table(TOKENS)?,
            token_expiry: transaction.open_table(TOKEN_EXPIRY)?,
            ledger: transaction.open_table(LEDGER)?,
            ledger_expiry: transaction.open_table(LEDGER_EXPIRY)?,
            messages: transaction.open_table(MESSAGES)?,
            message_expiry: transaction.open_table(MESSAGE_EXPIRY)?,
            links: transaction.open_table(LINKS)?,
            link_expiry: transaction.open_table(LINK_EXPIRY)?,
            due: transaction.open_table(DUE)?,
            due_order: transaction.open_table(DUE_ORDER)?,
            events: transaction.open_table(EVENTS)?,
            event_keys: transaction.open_table(EVENT_KEYS)?,
            event_key_expiry: transaction.open_table(EVENT_KEY_EXPIRY)?,
            event_log: transaction.open_table(EVENT_LOG)?,
            meta: transaction.open_table(META)?,
        })
    }
}

/// The tables that are read, at one point in time. Cheap to read from many threads at once.
pub(super) struct View {
    pub(super) identities: Readable,
    pub(super) users: Readable,
    pub(super) tokens: Readable,
    pub(super) messages: Readable,
    pub(super) links: Readable,
    pub(super) due_order: Readable,
    pub(super) events: Readable,
    pub(super) event_log: Readable,
}

impl View {
    pub(super) fn open(transaction: &ReadTransaction) -> Result<Self, redb::Error> {
        Ok(Self {
            identities: transaction.open_table(IDENTITIES)?,
            users: transaction.open_table(USERS)?,
            tokens: transaction.open_table(TOKENS)?,
            messages: transaction.open_table(MESSAGES)?,
            links: transaction.open_table(LINKS)?,
            due_order: transaction.open_table(DUE_ORDER)?,
            events: transaction.open_table(EVENTS)?,
            event_log: transaction.open_table(EVENT_LOG)?,
        })
    }
}

/// The table that says what the file is; absent in a file of another program.
pub(super) fn meta(transaction: &ReadTransaction) -> Result<Readable, redb::TableError> {
    transaction.open_table(META)
}

/// Opens every table, so that a file without one of them is noticed before it serves anybody.
pub(super) fn all_there(transaction: &ReadTransaction) -> Result<(), redb::TableError> {
    for table in [IDENTITIES, USERS, TOKENS, TOKEN_EXPIRY, LEDGER, LEDGER_EXPIRY] {
        transaction.open_table(table)?;
    }
    Ok(())
}

/// The same for the tables of messaging, which a file has that says so with [`MESSAGING_ENTRY`].
pub(super) fn messaging_all_there(transaction: &ReadTransaction) -> Result<(), redb::TableError> {
    for table in [
        MESSAGES,
        MESSAGE_EXPIRY,
        LINKS,
        LINK_EXPIRY,
        DUE,
        DUE_ORDER,
        EVENTS,
        EVENT_KEYS,
        EVENT_KEY_EXPIRY,
        EVENT_LOG,
    ] {
        transaction.open_table(table)?;
    }
    Ok(())
}

/// The start of the keys of all tokens of a user. Names hold no control characters, so the 0 ends the name.
pub(super) fn token_prefix(user: &Name) -> Vec<u8> {
    let mut key = Vec::with_capacity(user.as_str().len() + 4);
    key.extend_from_slice(user.as_str().as_bytes());
    key.push(0);
    key
}

/// The first key after all tokens of a user.
pub(super) fn token_prefix_end(user: &Name) -> Vec<u8> {
    let mut key = token_prefix(user);
    if let Some(last) = key.last_mut() {
        *last = 1;
    }
    key
}

/// The key of one token of a user.
pub(super) fn token_key(user: &Name, key: &TokenKey) -> Vec<u8> {
    let mut bytes = token_prefix(user);
    bytes.push(key.scopes.bits());
    bytes.extend_from_slice(&key.validity.minutes().to_be_bytes());
    bytes
}

/// The key of an expiry table: sorts by time.
pub(super) fn expiry_key(at: u64, key: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.extend_from_slice(&at.to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}
