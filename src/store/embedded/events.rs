//! The log of events in the embedded store: events numbered from 1 without a gap, in the order they were appended.
//!
//! A cursor is `f<name of the log>-<number>`; the name was made with the file, so a cursor of another file, of Redis or
//! of an emptied store is none of this log. Events leave from the front only (`housekeeping`). Used through the port.

use std::time::Duration;

use async_trait::async_trait;
use redb::ReadableTable;

use super::Embedded;
use super::tables::{LOG_KEEP, LOG_LAST, LOG_NAME, expiry_key};
use super::writer::{Failure, Keep, engine_error};
use crate::broker::ports::StoreError;
use crate::messaging::ports::{Cursor, EventLog, EventPage, EventsRead};
use crate::store::seal::Kind;

#[derive(Debug, thiserror::Error)]
#[error("the log of events of the embedded store is damaged")]
struct Damaged;

fn damaged() -> StoreError {
    StoreError::Corrupt(std::sync::Arc::new(Damaged))
}

/// Name and last number of the log, from its table.
fn head(log: &impl ReadableTable<&'static [u8], &'static [u8]>) -> Result<(String, u64), Failure> {
    let name = log.get(LOG_NAME)?.and_then(|name| String::from_utf8(name.value().to_vec()).ok());
    let last = log.get(LOG_LAST)?.and_then(|last| last.value().first_chunk::<8>().copied());
    match (name, last) {
        (Some(name), Some(last)) => Ok((name, u64::from_be_bytes(last))),
        _ => Err(Failure::Answer(damaged())),
    }
}

fn answer(failure: Failure) -> StoreError {
    match failure {
        Failure::Answer(error) => error,
        Failure::Engine(error) => engine_error(error),
    }
}

fn cursor(name: &str, number: u64) -> Cursor {
    Cursor(format!("f{name}-{number}"))
}

/// The number in a cursor of the log of that name.
fn number(cursor: &Cursor, name: &str) -> Option<u64> {
    let text = cursor.0.strip_prefix('f')?.strip_prefix(name)?.strip_prefix('-')?;
    // Only as it was written: no sign, no leading zero.
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

#[async_trait]
impl EventLog for Embedded {
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        unique_for: Duration,
        keep: Duration,
    ) -> Result<Option<Cursor>, StoreError> {
        let now = self.engine.clock().now();
        let (key, until) = (self.vault.digest_text(key), now.plus(unique_for).as_millis());
        let event = self.vault.close(Kind::Event, &[], event)?;
        let value = [now.as_millis().to_be_bytes().as_slice(), &event].concat();
        let keep = u64::try_from(keep.as_millis()).unwrap_or(u64::MAX).to_be_bytes();
        self.write("event_append", Keep::Durably, move |tables| {
            let key = key.as_slice();
            let known =
                tables.event_keys.get(key)?.and_then(|until| until.value().first_chunk::<8>().copied());
            if let Some(known) = known {
                let known = u64::from_be_bytes(known);
                if known > now.as_millis() {
                    return Ok(None);
                }
                tables.event_key_expiry.remove(expiry_key(known, key).as_slice())?;
            }
            let (name, last) = head(&tables.event_log)?;
            let next = last.saturating_add(1);
            tables.event_keys.insert(key, until.to_be_bytes().as_slice())?;
            tables.event_key_expiry.insert(expiry_key(until, key).as_slice(), [].as_slice())?;
            tables.events.insert(next.to_be_bytes().as_slice(), value.as_slice())?;
            tables.event_log.insert(LOG_LAST, next.to_be_bytes().as_slice())?;
            tables.event_log.insert(LOG_KEEP, keep.as_slice())?;
            Ok(Some(cursor(&name, next)))
        })
        .await
    }

    async fn end(&self) -> Result<Cursor, StoreError> {
        let (name, last) = head(&self.engine.view().event_log).map_err(answer)?;
        Ok(cursor(&name, last))
    }

    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError> {
        let view = self.engine.view();
        let (name, last) = head(&view.event_log).map_err(answer)?;
        let Some(after) = number(after, &name).filter(|after| *after <= last) else {
            return Ok(EventsRead::Foreign);
        };
        let engine = |error: redb::StorageError| engine_error(error.into());
        let start = after.saturating_add(1).to_be_bytes();
        let mut page = EventPage::default();
        let mut expected = after;
        // At least one, to see whether there is a gap.
        for entry in view.events.range::<&[u8]>(start.as_slice()..).map_err(engine)?.take(limit.max(1)) {
            let (key, value) = entry.map_err(engine)?;
            let at = key.value().first_chunk::<8>().map(|number| u64::from_be_bytes(*number));
            expected = expected.saturating_add(1);
            if at != Some(expected) {
                return Ok(EventsRead::TooOld);
            }
            let event = value.value().get(8..).ok_or_else(damaged)?;
            match self.vault.open(Kind::Event, &[], event) {
                Ok(event) => page.events.push((cursor(&name, expected), event)),
                // What cannot be opened is as good as gone: its reader must learn that something is missing.
                Err(_) if page.events.is_empty() => return Ok(EventsRead::TooOld),
                Err(_) => break,
            }
        }
        if expected == after && after < last {
            return Ok(EventsRead::TooOld);
        }
        page.events.truncate(limit);
        Ok(EventsRead::Page(page))
    }
}
