//! The ledger in Redis: reservations and outcomes that lapse by themselves. Used through the port.
//!
//! What is known of a request is judged here, from the entry a script returned; a script only reserves, records or
//! gives back. Times are Redis's own, so replicas with different clocks agree.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::command;
use super::{Redis, millis};
use crate::broker::ports::{Begun, LedgerKey, OutcomeLedger, StoreError};
use crate::store::codec::{LedgerEntry, decode_ledger, encode_ledger};
use crate::store::seal::Kind;

#[async_trait]
impl OutcomeLedger for Redis {
    async fn begin(&self, key: &LedgerKey, digest: &[u8; 32], hold: Duration) -> Result<Begun, StoreError> {
        let (script, name) = (&self.scripts.begin, self.keys.ledger(key));
        let digest = &self.vault.digest_again(digest);
        let reservation = encode_ledger(digest, None);
        let command = script.on([name.clone()], (reservation.as_slice(), millis(hold)));
        let reply = self.run(&command).await?;
        if reply == Value::Nil {
            return Ok(Begun::Started);
        }
        let (known, left) = command::pair(script.operation(), reply)?;
        let known = command::bytes(script.operation(), known)?
            .ok_or_else(|| command::unexpected(script.operation()))?;
        Ok(match decode_ledger(&known)? {
            entry if entry.digest != *digest => Begun::Reused,
            LedgerEntry { outcome: Some(outcome), .. } => {
                Begun::Finished(self.vault.open(Kind::Outcome, &[name.as_bytes(), digest], &outcome)?)
            }
            LedgerEntry { outcome: None, .. } => {
                let left = command::number(script.operation(), left)?;
                Begun::InProgress(Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1)))
            }
        })
    }

    async fn finish(
        &self,
        key: &LedgerKey,
        digest: &[u8; 32],
        outcome: &[u8],
        keep: Duration,
    ) -> Result<(), StoreError> {
        let (name, digest) = (self.keys.ledger(key), &self.vault.digest_again(digest));
        let outcome = self.vault.close(Kind::Outcome, &[name.as_bytes(), digest], outcome)?;
        let (entry, reservation) = (encode_ledger(digest, Some(&outcome)), encode_ledger(digest, None));
        let arguments = (entry.as_slice(), millis(keep), reservation.as_slice());
        let command = self.scripts.finish.on([name], arguments);
        self.run(&command).await.map(drop)
    }

    async fn abandon(&self, key: &LedgerKey, digest: &[u8; 32]) -> Result<(), StoreError> {
        let reservation = encode_ledger(&self.vault.digest_again(digest), None);
        let command = self.scripts.abandon.on([self.keys.ledger(key)], reservation.as_slice());
        self.run(&command).await.map(drop)
    }
}
