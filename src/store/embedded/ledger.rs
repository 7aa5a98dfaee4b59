//! The ledger in the embedded store: durable, because a request forgotten may be done twice.
//!
//! A name is stored as a digest of fixed size, so that no caller's text can be long or odd. When the ledger is full of
//! requests whose time is not over it takes no new ones; it never forgets one to make room.

use std::time::Duration;

use async_trait::async_trait;
use redb::{ReadableTable, ReadableTableMetadata};

use super::Embedded;
use super::tables::{Tables, expiry_key};
use super::writer::{Failure, Keep, Refusal};
use crate::broker::ports::{Begun, LedgerKey, OutcomeLedger, StoreError};
use crate::clock::Timestamp;
use crate::store::codec::{LedgerEntry, decode_ledger, encode_ledger};
use crate::store::seal::Kind;

impl Embedded {
    /// The key of a request and what is kept of its digest.
    fn named(&self, key: &LedgerKey, digest: &[u8; 32]) -> ([u8; 32], [u8; 32]) {
        let key = self.vault.digest(&[&key.caller, key.operation, &key.request_id]);
        (key, self.vault.digest_again(digest))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a ledger entry of the embedded store is cut short")]
struct CutShort;

/// The entry and the end of its time, whether that has come or not.
fn read(tables: &Tables<'_>, key: &[u8; 32]) -> Result<Option<(Timestamp, LedgerEntry)>, Failure> {
    let Some(bytes) = tables.ledger.get(key.as_slice())? else { return Ok(None) };
    let Some((until, entry)) = bytes.value().split_first_chunk::<8>() else {
        return Err(Failure::Answer(StoreError::Corrupt(std::sync::Arc::new(CutShort))));
    };
    let until = Timestamp::from_millis(u64::from_be_bytes(*until));
    Ok(Some((until, decode_ledger(entry).map_err(Failure::Answer)?)))
}

fn forget(tables: &mut Tables<'_>, key: &[u8; 32], until: Timestamp) -> Result<(), Failure> {
    tables.ledger.remove(key.as_slice())?;
    tables.ledger_expiry.remove(expiry_key(until.as_millis(), key).as_slice())?;
    Ok(())
}

fn store(tables: &mut Tables<'_>, key: &[u8; 32], until: Timestamp, entry: &[u8]) -> Result<(), Failure> {
    let value = [until.as_millis().to_be_bytes().as_slice(), entry].concat();
    tables.ledger.insert(key.as_slice(), value.as_slice())?;
    tables.ledger_expiry.insert(expiry_key(until.as_millis(), key).as_slice(), [].as_slice())?;
    Ok(())
}

#[async_trait]
impl OutcomeLedger for Embedded {
    async fn begin(&self, key: &LedgerKey, digest: &[u8; 32], hold: Duration) -> Result<Begun, StoreError> {
        let (key, digest) = self.named(key, digest);
        let now = self.engine.clock().now();
        let (most, vault) = (self.bounds.requests, self.vault.clone());
        self.write("ledger_begin", Keep::Durably, move |tables| {
            if let Some((until, entry)) = read(tables, &key)? {
                if until > now {
                    return Ok(match entry {
                        entry if entry.digest != digest => Begun::Reused,
                        LedgerEntry { outcome: Some(outcome), .. } => {
                            let opened = vault.open(Kind::Outcome, &[&key, &digest], &outcome);
                            Begun::Finished(opened.map_err(|why| Failure::Answer(why.into()))?)
                        }
                        LedgerEntry { outcome: None, .. } => Begun::InProgress(until.since(now)),
                    });
                }
                forget(tables, &key, until)?;
            }
            if tables.ledger.len()? >= most {
                return Err(Failure::Answer(Refusal::Full.into()));
            }
            store(tables, &key, now.plus(hold), &encode_ledger(&digest, None))?;
            Ok(Begun::Started)
        })
        .await
    }

    async fn finish(
        &self,
        key: &LedgerKey,
        digest: &[u8; 32],
        outcome: &[u8],
        keep: Duration,
    ) -> Result<(), StoreError> {
        let (key, digest) = self.named(key, digest);
        let outcome = self.vault.close(Kind::Outcome, &[&key, &digest], outcome)?;
        let entry = encode_ledger(&digest, Some(&outcome));
        let now = self.engine.clock().now();
        self.write("ledger_finish", Keep::Durably, move |tables| {
            if let Some((until, known)) = read(tables, &key)? {
                // A request that is known by its outcome keeps it; an id that became another request's stays that.
                let settled = known.digest != digest || known.outcome.is_some();
                if until > now && settled {
                    return Ok(());
                }
                forget(tables, &key, until)?;
            }
            store(tables, &key, now.plus(keep), &entry)
        })
        .await
    }

    async fn abandon(&self, key: &LedgerKey, digest: &[u8; 32]) -> Result<(), StoreError> {
        let (key, digest) = self.named(key, digest);
        self.write("ledger_abandon", Keep::Durably, move |tables| match read(tables, &key)? {
            Some((until, entry)) if entry.digest == digest && entry.outcome.is_none() => {
                forget(tables, &key, until)
            }
            _ => Ok(()),
        })
        .await
    }
}
