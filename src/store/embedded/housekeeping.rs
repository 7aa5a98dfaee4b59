//! Keeps the embedded file from growing without bound: expired tokens and requests go, a few with every write.
//!
//! It must never touch the mapping, and never a request whose time is not over.

use redb::ReadableTable;

use super::tables::{Tables, expiry_key};
use crate::clock::Timestamp;

/// How much the store may hold beside the mapping.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Tokens; over it, those that expire first go.
    pub(super) tokens: u64,
    /// Requests in the ledger; over it, new ones are refused, because forgetting one could repeat its effect.
    pub(super) requests: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { tokens: 1_000_000, requests: 1_000_000 }
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

    let surplus = usize::try_from(tables.tokens.len()?.saturating_sub(bounds.tokens)).unwrap_or(usize::MAX);
    for count in 0..AT_ONCE {
        let Some(due) = first_key(&tables.token_expiry)? else { break };
        if count >= surplus && !is_past(&due, now) {
            break;
        }
        tables.token_expiry.remove(due.as_slice())?;
        tables.tokens.remove(key_part(&due))?;
    }
    for _ in 0..AT_ONCE {
        let Some(due) = first_key(&tables.ledger_expiry)? else { break };
        if !is_past(&due, now) {
            break;
        }
        tables.ledger_expiry.remove(due.as_slice())?;
        tables.ledger.remove(key_part(&due))?;
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
