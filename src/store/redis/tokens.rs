//! The token cache in Redis: a hit is one command, the record and the token together.
//!
//! A token that is expired, was issued for another identity or generation, or cannot be read is not there. Writes are
//! fenced by the record inside the script. A token that does not open is not there either. Used through the port.

use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use super::command::{self, Command};
use super::{Redis, millis};
use crate::broker::ports::{Snapshot, StoreError, TokenCache};
use crate::broker::types::{CachedToken, IdentityRecord, TokenKey, UserId};
use crate::store::codec::{Place, TokenView, decode_identity, encode_token_for};

const LOOK_UP: &str = "look_up";
const LIST: &str = "list_tokens";

#[async_trait]
impl TokenCache for Redis {
    async fn look_up(&self, user: &UserId, key: &TokenKey) -> Result<Snapshot, StoreError> {
        let user = self.vault.name(user);
        let record = self.keys.record(&user);
        let mut cmd = redis::cmd("MGET");
        cmd.arg(&record).arg(self.keys.token(&user, key));
        let reply = self.run(&Command::read(LOOK_UP, record, cmd)).await?;
        let (record, token) = command::pair(LOOK_UP, reply)?;
        let Some(record) = command::bytes(LOOK_UP, record)? else { return Ok(Snapshot::default()) };
        let record = decode_identity(&record)?;
        let token = self.usable(token, &record, Place { user: &user, key });
        Ok(Snapshot { record: Some(record), token })
    }

    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> Result<bool, StoreError> {
        let left = token.token.expires_at.since(self.clock.now());
        if left < Duration::from_millis(1) {
            return Ok(false);
        }
        let user = self.vault.name(user);
        let bytes = encode_token_for(token, Place { user: &user, key }, &self.vault)?;
        let command = self.scripts.put.on(
            [self.keys.record(&user), self.keys.token(&user, key), self.keys.tokens(&user)],
            (
                token.generation.to_be_bytes().as_slice(),
                token.identity.as_str(),
                bytes.as_slice(),
                millis(left),
                self.keys.token_part(key),
            ),
        );
        let operation = self.scripts.put.operation();
        Ok(command::number(operation, self.run(&command).await?)? == 1)
    }

    async fn keys_of(&self, user: &UserId) -> Result<Vec<TokenKey>, StoreError> {
        let list = self.keys.tokens(&self.vault.name(user));
        let mut cmd = redis::cmd("GET");
        cmd.arg(&list);
        let reply = self.run(&Command::read(LIST, list, cmd)).await?;
        Ok(command::bytes(LIST, reply)?.map(|list| listed(&list)).unwrap_or_default())
    }
}

/// The keys in a user's list of tokens: a version byte, then `scopes:minutes,` for each.
fn listed(list: &[u8]) -> Vec<TokenKey> {
    let Some((b'1', parts)) = list.split_first() else { return Vec::new() };
    let parts = std::str::from_utf8(parts).unwrap_or_default().split(',');
    parts
        .filter_map(|part| {
            let (scopes, minutes) = part.split_once(':')?;
            TokenKey::from_parts(scopes.parse().ok()?, minutes.parse().ok()?)
        })
        .collect()
}

impl Redis {
    /// The token, if it may be used. A cache may forget: one that cannot be read, such as one that a newer version
    /// wrote during an upgrade, is forgotten too.
    fn usable(&self, token: Value, record: &IdentityRecord, place: Place<'_>) -> Option<CachedToken> {
        let bytes = command::bytes(LOOK_UP, token).ok()??;
        let readable = TokenView::read(&bytes).and_then(|view| {
            let expired = view.expires_at <= self.clock.now();
            if expired { Ok(None) } else { view.token_of(record, place, &self.vault) }
        });
        readable.unwrap_or_else(|error| {
            tracing::debug!(%error, "a cached token cannot be read; it is taken as absent");
            None
        })
    }
}
