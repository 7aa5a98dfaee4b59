//! The token cache in the embedded store. Reads are a few page look-ups in the caller's task, without a thread hop.
//!
//! A look-up gives a token only with the record it belongs to, and never an expired one. One that cannot be read or does
//! not open is not there: a cache may forget.

use async_trait::async_trait;

use super::Embedded;
use super::mapping::record_of;
use super::tables::{expiry_key, token_key, token_prefix, token_prefix_end};
use super::writer::{Keep, engine_error};
use crate::broker::ports::{Snapshot, StoreError, TokenCache};
use crate::broker::types::{CachedToken, TokenKey, UserId};
use crate::store::codec::{Place, TokenView, decode_identity, encode_token_for};

#[async_trait]
impl TokenCache for Embedded {
    async fn look_up(&self, user: &UserId, key: &TokenKey) -> Result<Snapshot, StoreError> {
        let view = self.engine.view();
        let engine = |error: redb::StorageError| engine_error(error.into());
        let user = self.vault.name(user);
        let Some(record) = view.identities.get(user.as_str().as_bytes()).map_err(engine)? else {
            return Ok(Snapshot::default());
        };
        let record = decode_identity(record.value())?;
        let stored = view.tokens.get(token_key(&user, key).as_slice()).map_err(engine)?;
        let token = stored.and_then(|bytes| {
            let readable = TokenView::read(bytes.value()).and_then(|token| {
                let expired = token.expires_at <= self.engine.clock().now();
                let place = Place { user: &user, key };
                if expired { Ok(None) } else { token.token_of(&record, place, &self.vault) }
            });
            readable.unwrap_or_else(|error| {
                tracing::debug!(%error, "a cached token cannot be read; it is taken as absent");
                None
            })
        });
        Ok(Snapshot { record: Some(record), token })
    }

    async fn keys_of(&self, user: &UserId) -> Result<Vec<TokenKey>, StoreError> {
        let view = self.engine.view();
        let engine = |error: redb::StorageError| engine_error(error.into());
        let user = self.vault.name(user);
        let (from, to) = (token_prefix(&user), token_prefix_end(&user));
        let mut keys = Vec::new();
        for entry in view.tokens.range(from.as_slice()..to.as_slice()).map_err(engine)? {
            let (key, _) = entry.map_err(engine)?;
            // What is no key of this version is not looked up either.
            if let Some([scopes, high, low]) = key.value().get(from.len()..)
                && let Some(key) = TokenKey::from_parts(*scopes, u16::from_be_bytes([*high, *low]).into())
            {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> Result<bool, StoreError> {
        let user = self.vault.name(user);
        let bytes = encode_token_for(token, Place { user: &user, key }, &self.vault)?;
        let at = token.token.expires_at;
        if at <= self.engine.clock().now() {
            return Ok(false);
        }
        let key = token_key(&user, key);
        self.write("put_token", Keep::Relaxed, move |tables| {
            let Some(record) = record_of(&tables.identities, &user)? else { return Ok(false) };
            if !TokenView::read(&bytes).is_ok_and(|token| token.belongs_to(&record)) {
                return Ok(false);
            }
            let replaced = tables
                .tokens
                .insert(key.as_slice(), bytes.as_slice())?
                .and_then(|old| TokenView::read(old.value()).ok().map(|old| old.expires_at));
            if let Some(old) = replaced {
                tables.token_expiry.remove(expiry_key(old.as_millis(), &key).as_slice())?;
            }
            tables.token_expiry.insert(expiry_key(at.as_millis(), &key).as_slice(), [].as_slice())?;
            Ok(true)
        })
        .await
    }
}
