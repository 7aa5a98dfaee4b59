//! Keeps the embedded file from growing without bound: what has expired goes, a little with every write.
//!
//! It must never touch the mapping, and never a request or a message whose time is not over.

use redb::ReadableTable;

use super::tables::{LOG_KEEP, Tables, expiry_key};
use crate::clock::Timestamp;

/// How much the store may hold beside the mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Tokens; over it, those that expire first go.
    pub(super) tokens: u64,
    /// Requests in the ledger; over it, new ones are refused, because forgetting one could repeat its effect.
    pub(super) requests: u64,
    /// Messages; over it, new ones are refused, for the same reason.
    pub(super) messages: u64,
    /// Links; over it, those that expire first go, and with them only news of a delivery.
    pub(super) links: u64,
    /// Events, and keys of events; over it, the oldest go.
    pub(super) events: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            tokens: 1_000_000,
            requests: 1_000_000,
            messages: 1_000_000,
            links: 4_000_000,
            events: 1_000_000,
        }
    }
}

/// Expired entries removed with one write, of each kind: more than a write adds, few enough not to be felt.
const AT_ONCE: usize = 64;

/// Removes what has expired, up to [`AT_ONCE`] of each kind, and what is too much.
pub(super) fn drop_expired(
    tables: &mut Tables<'_>,
    now: Timestamp,
    bounds: Bounds,
) -> Result<(), redb::Error> {
    use redb::ReadableTableMetadata;

    let surplus = tables.tokens.len()?.saturating_sub(bounds.tokens);
    expire(&mut tables.token_expiry, &mut tables.tokens, now, surplus)?;
    expire(&mut tables.ledger_expiry, &mut tables.ledger, now, 0)?;
    expire(&mut tables.message_expiry, &mut tables.messages, now, 0)?;
    let surplus = tables.links.len()?.saturating_sub(bounds.links);
    expire(&mut tables.link_expiry, &mut tables.links, now, surplus)?;
    let surplus = tables.event_keys.len()?.saturating_sub(bounds.events);
    expire(&mut tables.event_key_expiry, &mut tables.event_keys, now, surplus)?;
    drop_events(tables, now, bounds.events)
}

type Writable<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// Removes what has expired, and the first `surplus` whether they have or not.
fn expire(
    expiry: &mut Writable<'_>,
    entries: &mut Writable<'_>,
    now: Timestamp,
    surplus: u64,
) -> Result<(), redb::Error> {
    let surplus = usize::try_from(surplus).unwrap_or(usize::MAX);
    for count in 0..AT_ONCE {
        let Some(due) = first_key(expiry)? else { break };
        if count >= surplus && !is_past(&due, now) {
            break;
        }
        expiry.remove(due.as_slice())?;
        entries.remove(key_part(&due))?;
    }
    Ok(())
}

/// Removes events from the front of the log, never from its middle: a reader sees a gap there only.
fn drop_events(tables: &mut Tables<'_>, now: Timestamp, most: u64) -> Result<(), redb::Error> {
    use redb::ReadableTableMetadata;

    let keep = tables.event_log.get(LOG_KEEP)?.and_then(|keep| keep.value().first_chunk::<8>().copied());
    let keep = keep.map_or(u64::MAX, u64::from_be_bytes);
    let surplus = usize::try_from(tables.events.len()?.saturating_sub(most)).unwrap_or(usize::MAX);
    for count in 0..AT_ONCE {
        let Some((key, at)) = tables.events.first()?.map(|(key, event)| {
            let at = event.value().first_chunk::<8>().map_or(0, |at| u64::from_be_bytes(*at));
            (key.value().to_vec(), at)
        }) else {
            break;
        };
        if count >= surplus && at.saturating_add(keep) > now.as_millis() {
            break;
        }
        tables.events.remove(key.as_slice())?;
    }
    Ok(())
}

fn first_key(
    table: &impl ReadableTable<&'static [u8], &'static [u8]>,
) -> Result<Option<Vec<u8>>, redb::StorageError> {
    Ok(table.first()?.map(|(key, _)| key.value().to_vec()))
}

/// Whether the time in an expiry key has come.
fn is_past(due: &[u8], now: Timestamp) -> bool {
    due < expiry_key(now.as_millis().saturating_add(1), &[]).as_slice()
}

/// The key of the other table within an expiry key.
fn key_part(due: &[u8]) -> &[u8] {
    due.get(8..).unwrap_or_default()
}
