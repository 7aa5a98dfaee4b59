//! The log of events in Redis: one stream, a head that says which log it is and where it ends, and a key per event that
//! was appended, all in one slot. `scripts/append.lua` explains ids and head. Used through the port.
//!
//! A cursor is `r<name of the log>-<ms>-<number>`. A log that was lost begins anew under another name, so cursors of
//! before are none of it. An event is as `seal` closes it; bound to nothing but being an event, for its place is only
//! known once it is there.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::command;
use super::{Redis, millis};
use crate::broker::ports::StoreError;
use crate::messaging::ports::{Cursor, EventLog, EventPage, EventsRead};
use crate::store::seal::Kind;

/// The most events read at once, whatever is asked for.
const PAGE: usize = 1000;

/// A name for a log that begins.
fn new_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn cursor(log: &str, ms: &str, number: &str) -> Cursor {
    Cursor(format!("r{log}-{ms}-{number}"))
}

/// Log, time and number of a cursor that looks like one of ours.
fn parts(cursor: &Cursor) -> Option<(&str, &str, &str)> {
    let (log, place) = cursor.0.strip_prefix('r')?.split_once('-')?;
    let (ms, number) = place.split_once('-')?;
    let is_number = |text: &str| {
        (1..=15).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_digit())
            && (text == "0" || !text.starts_with('0'))
    };
    let is_log = log.len() == 16 && log.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (is_log && is_number(ms) && is_number(number)).then_some((log, ms, number))
}

fn text(operation: &'static str, reply: Value) -> Result<String, StoreError> {
    let bytes = command::bytes(operation, reply)?.ok_or_else(|| command::unexpected(operation))?;
    String::from_utf8(bytes).map_err(|_| command::unexpected(operation))
}

#[async_trait]
impl EventLog for Redis {
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        unique_for: Duration,
        keep: Duration,
    ) -> Result<Option<Cursor>, StoreError> {
        let (script, operation) = (&self.scripts.append, self.scripts.append.operation());
        let keys = [self.keys.events(), self.keys.events_head(), self.keys.event_key(key)];
        let event = self.vault.close(Kind::Event, &[], event)?;
        let arguments = (event.as_slice(), millis(unique_for), millis(keep), self.most_events, new_name());
        let reply = self.run(&script.on(keys, arguments)).await?;
        if reply == Value::Nil {
            return Ok(None);
        }
        let (log, id) = command::pair(operation, reply)?;
        let (log, id) = (text(operation, log)?, text(operation, id)?);
        let (ms, number) = id.split_once('-').ok_or_else(|| command::unexpected(operation))?;
        Ok(Some(cursor(&log, ms, number)))
    }

    async fn end(&self) -> Result<Cursor, StoreError> {
        let script = &self.scripts.end;
        let command = script.on([self.keys.events_head()], new_name());
        let head = text(script.operation(), self.run(&command).await?)?;
        let mut parts = head.splitn(3, ':');
        match (parts.next(), parts.next(), parts.next()) {
            (Some(log), Some(ms), Some(number)) => Ok(cursor(log, ms, number)),
            _ => Err(command::unexpected(script.operation())),
        }
    }

    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError> {
        let (script, operation) = (&self.scripts.after, self.scripts.after.operation());
        let Some((log, ms, number)) = parts(after) else { return Ok(EventsRead::Foreign) };
        // At least one, to see whether there is a gap.
        let arguments = (log, ms, number, limit.clamp(1, PAGE));
        let command = script.on([self.keys.events(), self.keys.events_head()], arguments).reading();
        let mut reply = command::list(operation, self.run(&command).await?)?.into_iter();
        match reply.next() {
            Some(Value::Int(0)) => return Ok(EventsRead::Foreign),
            Some(Value::Int(1)) => return Ok(EventsRead::TooOld),
            Some(Value::Int(2)) => {}
            _ => return Err(command::unexpected(operation)),
        }
        let mut page = EventPage::default();
        while let (Some(id), Some(event)) = (reply.next(), reply.next()) {
            let id = text(operation, id)?;
            let (ms, number) = id.split_once('-').ok_or_else(|| command::unexpected(operation))?;
            let event = command::bytes(operation, event)?.ok_or_else(|| command::unexpected(operation))?;
            match self.vault.open(Kind::Event, &[], &event) {
                Ok(event) => page.events.push((cursor(log, ms, number), event)),
                // What cannot be opened is as good as gone: its reader must learn that something is missing.
                Err(_) if page.events.is_empty() => return Ok(EventsRead::TooOld),
                Err(_) => break,
            }
        }
        page.events.truncate(limit);
        Ok(EventsRead::Page(page))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_is_read_back(log: u64, ms in 0..999_999_999_999_999u64, number in 0..999_999_999_999_999u64) {
            let made = cursor(&format!("{log:016x}"), &ms.to_string(), &number.to_string());
            prop_assert!(made.0.len() <= 64);
            let (log, ms, number) = (format!("{log:016x}"), ms.to_string(), number.to_string());
            prop_assert_eq!(parts(&made), Some((log.as_str(), ms.as_str(), number.as_str())));
        }

        #[test]
        fn whatever_else_is_none(text in "[r0-9a-f-]{0,40}|\\PC{0,40}") {
            if let Some((log, ms, number)) = parts(&Cursor(text.clone())) {
                prop_assert_eq!(cursor(log, ms, number).0, text);
            }
        }
    }
}
