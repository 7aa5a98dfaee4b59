//! Messages in the embedded store: durable, because a message forgotten may be sent twice.
//!
//! A full store of messages whose time is not over takes no new ones; it never forgets one to make room. What has
//! expired is not there, whether housekeeping has come by or not. Used through the port.

use std::time::Duration;

use async_trait::async_trait;
use redb::{ReadableTable, ReadableTableMetadata};

use super::Embedded;
use super::tables::{Tables, expiry_key};
use super::writer::{Failure, Keep, Refusal, engine_error};
use crate::broker::ports::StoreError;
use crate::clock::Timestamp;
use crate::messaging::ports::{MessageStore, Versioned};
use crate::messaging::types::MessageId;
use crate::store::records::{
    decode_link, decode_message, encode_link, encode_message, message_id, message_version,
};
use crate::store::seal::Vault;

/// The bytes of a value whose time is not over.
fn alive(value: &[u8], now: Timestamp) -> Option<&[u8]> {
    let (until, bytes) = value.split_first_chunk::<8>()?;
    (u64::from_be_bytes(*until) > now.as_millis()).then_some(bytes)
}

/// The end of the time of a value, as bytes.
fn until_of(value: &[u8]) -> u64 {
    value.first_chunk::<8>().map_or(0, |until| u64::from_be_bytes(*until))
}

type Writable<'txn> = redb::Table<'txn, &'static [u8], &'static [u8]>;

/// Stores a value until then, instead of any other.
fn store(
    (entries, expiry): (&mut Writable<'_>, &mut Writable<'_>),
    key: &[u8],
    until: Timestamp,
    bytes: &[u8],
) -> Result<(), Failure> {
    let value = [until.as_millis().to_be_bytes().as_slice(), bytes].concat();
    let replaced = entries.insert(key, value.as_slice())?.map(|old| until_of(old.value()));
    if let Some(old) = replaced {
        expiry.remove(expiry_key(old, key).as_slice())?;
    }
    expiry.insert(expiry_key(until.as_millis(), key).as_slice(), [].as_slice())?;
    Ok(())
}

fn store_message(
    tables: &mut Tables<'_>,
    id: &MessageId,
    until: Timestamp,
    bytes: &[u8],
) -> Result<(), Failure> {
    store((&mut tables.messages, &mut tables.message_expiry), id.as_str().as_bytes(), until, bytes)
}

fn message_of(
    tables: &Tables<'_>,
    vault: &Vault,
    id: &MessageId,
    now: Timestamp,
) -> Result<Option<Versioned>, Failure> {
    let found = tables.messages.get(id.as_str().as_bytes())?;
    let found = found.as_ref().and_then(|value| alive(value.value(), now));
    found.map(|bytes| decode_message(vault, id, bytes)).transpose().map_err(Failure::Answer)
}

/// The version alone: the record may be long.
fn version_of(tables: &Tables<'_>, id: &MessageId, now: Timestamp) -> Result<Option<u64>, Failure> {
    let found = tables.messages.get(id.as_str().as_bytes())?;
    let found = found.as_ref().and_then(|value| alive(value.value(), now));
    found.map(|bytes| message_version(bytes).map(|(version, _)| version)).transpose().map_err(Failure::Answer)
}

/// Forgets when a message is due; says whether it was to be at all.
fn unschedule(tables: &mut Tables<'_>, id: &[u8]) -> Result<bool, Failure> {
    let due = tables.due.remove(id)?.map(|due| until_of(due.value()));
    if let Some(due) = due {
        tables.due_order.remove(expiry_key(due, id).as_slice())?;
    }
    Ok(due.is_some())
}

fn schedule(tables: &mut Tables<'_>, id: &[u8], due: Timestamp) -> Result<(), Failure> {
    tables.due.insert(id, due.as_millis().to_be_bytes().as_slice())?;
    tables.due_order.insert(expiry_key(due.as_millis(), id).as_slice(), [].as_slice())?;
    Ok(())
}

#[async_trait]
impl MessageStore for Embedded {
    async fn insert(
        &self,
        id: &MessageId,
        record: &[u8],
        keep: Duration,
    ) -> Result<Option<Versioned>, StoreError> {
        let (bytes, now) = (encode_message(&self.vault, id, 1, record)?, self.engine.clock().now());
        let (id, vault) = (id.clone(), self.vault.clone());
        let most = self.bounds.messages;
        self.write("message_insert", Keep::Durably, move |tables| {
            if let Some(known) = message_of(tables, &vault, &id, now)? {
                return Ok(Some(known));
            }
            if tables.messages.len()? >= most {
                return Err(Failure::Answer(Refusal::Full.into()));
            }
            store_message(tables, &id, now.plus(keep), &bytes)?;
            Ok(None)
        })
        .await
    }

    async fn get(&self, id: &MessageId) -> Result<Option<Versioned>, StoreError> {
        let view = self.engine.view();
        let found = view.messages.get(id.as_str().as_bytes()).map_err(|error| engine_error(error.into()))?;
        let found = found.as_ref().and_then(|value| alive(value.value(), self.engine.clock().now()));
        found.map(|bytes| decode_message(&self.vault, id, bytes)).transpose()
    }

    async fn replace(
        &self,
        id: &MessageId,
        expected: u64,
        record: &[u8],
        keep: Duration,
    ) -> Result<Result<u64, Option<Versioned>>, StoreError> {
        let version = expected.saturating_add(1);
        let (bytes, now) = (encode_message(&self.vault, id, version, record)?, self.engine.clock().now());
        let (id, vault) = (id.clone(), self.vault.clone());
        self.write("message_replace", Keep::Durably, move |tables| {
            if version_of(tables, &id, now)? != Some(expected) {
                return Ok(Err(message_of(tables, &vault, &id, now)?));
            }
            store_message(tables, &id, now.plus(keep), &bytes)?;
            Ok(Ok(version))
        })
        .await
    }

    async fn remove(&self, id: &MessageId, expected: u64) -> Result<bool, StoreError> {
        let (id, now) = (id.clone(), self.engine.clock().now());
        self.write("message_remove", Keep::Durably, move |tables| {
            if version_of(tables, &id, now)? != Some(expected) {
                return Ok(false);
            }
            let key = id.as_str().as_bytes();
            let until = tables.messages.remove(key)?.map(|old| until_of(old.value()));
            if let Some(until) = until {
                tables.message_expiry.remove(expiry_key(until, key).as_slice())?;
            }
            Ok(true)
        })
        .await
    }

    async fn link(
        &self,
        upstream: &[(String, u32)],
        id: &MessageId,
        keep: Duration,
    ) -> Result<(), StoreError> {
        if upstream.is_empty() {
            return Ok(());
        }
        let until = self.engine.clock().now().plus(keep);
        let links: Vec<(String, Vec<u8>)> =
            upstream.iter().map(|(upstream, part)| (upstream.clone(), encode_link(id, *part))).collect();
        self.write("message_link", Keep::Durably, move |tables| {
            for (upstream, link) in &links {
                store((&mut tables.links, &mut tables.link_expiry), upstream.as_bytes(), until, link)?;
            }
            Ok(())
        })
        .await
    }

    async fn linked(&self, upstream: &str) -> Result<Option<(MessageId, u32)>, StoreError> {
        let view = self.engine.view();
        let found = view.links.get(upstream.as_bytes()).map_err(|error| engine_error(error.into()))?;
        let found = found.as_ref().and_then(|value| alive(value.value(), self.engine.clock().now()));
        found.map(decode_link).transpose()
    }

    async fn schedule(&self, id: &MessageId, due: Option<Timestamp>) -> Result<(), StoreError> {
        let (id, most) = (id.clone(), self.bounds.messages);
        self.write("message_schedule", Keep::Durably, move |tables| {
            let id = id.as_str().as_bytes();
            let known = unschedule(tables, id)?;
            let Some(due) = due else { return Ok(()) };
            if !known && tables.due.len()? >= most {
                return Err(Failure::Answer(Refusal::Full.into()));
            }
            schedule(tables, id, due)
        })
        .await
    }

    async fn take_due(
        &self,
        now: Timestamp,
        hold: Duration,
        limit: usize,
    ) -> Result<Vec<MessageId>, StoreError> {
        let end = expiry_key(now.as_millis().saturating_add(1), &[]);
        // Most looks find nothing: they must not cost a write.
        let is_none = |error: redb::StorageError| engine_error(error.into());
        let first =
            self.engine.view().due_order.first().map_err(is_none)?.map(|(key, _)| key.value().to_vec());
        if first.is_none_or(|first| first >= end) {
            return Ok(Vec::new());
        }
        self.write("message_take_due", Keep::Durably, move |tables| {
            let mut taken = Vec::new();
            for entry in tables.due_order.range::<&[u8]>(..end.as_slice())?.take(limit) {
                taken.push(entry?.0.value().get(8..).unwrap_or_default().to_vec());
            }
            for id in &taken {
                unschedule(tables, id)?;
                schedule(tables, id, now.plus(hold))?;
            }
            taken.iter().map(|id| message_id(id)).collect::<Result<_, _>>().map_err(Failure::Answer)
        })
        .await
    }
}
