//! The mapping in the embedded store: every change is durable before it is acknowledged.
//!
//! A user's record and the way back from the ACS identity are always written together. A token never outlives the
//! generation or the identity it was issued for: what changes either removes the user's tokens.

use std::sync::Arc;

use async_trait::async_trait;
use redb::ReadableTable;
use sha2::{Digest, Sha256};

use super::Embedded;
use super::tables::{Tables, expiry_key, token_prefix, token_prefix_end};
use super::writer::{Failure, Keep, engine_error};
use crate::broker::ports::{IdentityPage, IdentityStore, Inserted, StoreError, StoreProblem};
use crate::broker::types::{IdentityId, IdentityRecord, UserId};
use crate::store::codec::{TokenView, decode_identity, decode_mapping, encode_mapping};
use crate::store::seal::{Name, Vault};

/// The version of the cursors of this backend.
const CURSOR: u8 = 0xE1;
/// The bytes of a cursor before the user id: the version and a check.
const CURSOR_HEAD: usize = 5;
/// The most entries on a page, whatever is asked for.
const PAGE: usize = 1000;

#[derive(Debug, thiserror::Error)]
#[error("a key of the embedded store is damaged")]
struct DamagedKey;

fn damaged_key() -> StoreError {
    StoreError::Corrupt(Arc::new(DamagedKey))
}

fn name_from(vault: &Vault, bytes: &[u8]) -> Result<Name, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| damaged_key())?;
    vault.read_name(text).ok_or_else(damaged_key)
}

/// The user's record inside a batch.
pub(super) fn record_of(
    identities: &impl ReadableTable<&'static [u8], &'static [u8]>,
    user: &Name,
) -> Result<Option<IdentityRecord>, Failure> {
    match identities.get(user.as_str().as_bytes())? {
        Some(bytes) => decode_identity(bytes.value()).map(Some).map_err(Failure::Answer),
        None => Ok(None),
    }
}

/// Removes every token of the user.
fn drop_tokens(tables: &mut Tables<'_>, user: &Name) -> Result<(), Failure> {
    let mut keys = Vec::new();
    for entry in tables.tokens.range(token_prefix(user).as_slice()..token_prefix_end(user).as_slice())? {
        let (key, value) = entry?;
        // A record that cannot be read goes too; what is left of it in the expiry table leads nowhere.
        let expires_at = TokenView::read(value.value()).ok().map(|token| token.expires_at);
        keys.push((key.value().to_vec(), expires_at));
    }
    for (key, expires_at) in keys {
        tables.tokens.remove(key.as_slice())?;
        if let Some(at) = expires_at {
            tables.token_expiry.remove(expiry_key(at.as_millis(), &key).as_slice())?;
        }
    }
    Ok(())
}

/// A cursor: what page ended with `last`. The check makes it unlikely that foreign bytes are taken for one.
fn cursor(last: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CURSOR_HEAD + last.len());
    bytes.push(CURSOR);
    bytes.extend(Sha256::digest(last).iter().take(CURSOR_HEAD - 1));
    bytes.extend_from_slice(last);
    bytes
}

/// The name of the user a cursor tells; none if it is no cursor of this backend.
fn read_cursor<'b>(vault: &Vault, bytes: &'b [u8]) -> Option<&'b [u8]> {
    let last = bytes.get(CURSOR_HEAD..)?;
    (cursor(last) == bytes && name_from(vault, last).is_ok()).then_some(last)
}

#[async_trait]
impl IdentityStore for Embedded {
    async fn find(&self, user: &UserId) -> Result<Option<IdentityRecord>, StoreError> {
        let (view, user) = (self.engine.view(), self.vault.name(user));
        let found =
            view.identities.get(user.as_str().as_bytes()).map_err(|error| engine_error(error.into()))?;
        found.map(|bytes| decode_identity(bytes.value())).transpose()
    }

    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError> {
        let view = self.engine.view();
        let engine = |error: redb::StorageError| engine_error(error.into());
        let Some(user) = view.users.get(identity.as_str().as_bytes()).map_err(engine)? else {
            return Ok(None);
        };
        let name = name_from(&self.vault, user.value())?;
        // One point in time, and both written together: the record is there.
        let record =
            view.identities.get(name.as_str().as_bytes()).map_err(engine)?.ok_or_else(damaged_key)?;
        let (record, kept) = decode_mapping(record.value())?;
        Ok(Some((self.vault.user(&name, kept)?, record)))
    }

    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError> {
        let (name, record) = (self.vault.name(user), record.clone());
        let bytes = encode_mapping(&record, self.vault.keep_user(user, &name)?.as_deref());
        self.write("insert_if_absent", Keep::Durably, move |tables| {
            if let Some(existing) = record_of(&tables.identities, &name)? {
                return Ok(Inserted::Existing(existing));
            }
            let identity = record.identity.as_str().as_bytes();
            if tables.users.get(identity)?.is_some() {
                return Ok(Inserted::LinkedElsewhere);
            }
            tables.identities.insert(name.as_str().as_bytes(), bytes.as_slice())?;
            tables.users.insert(identity, name.as_str().as_bytes())?;
            Ok(Inserted::New)
        })
        .await
    }

    async fn advance_generation(
        &self,
        user: &UserId,
        expected: &IdentityId,
    ) -> Result<Option<u64>, StoreError> {
        let (user, expected) = (self.vault.name(user), expected.clone());
        self.write("advance_generation", Keep::Durably, move |tables| {
            let key = user.as_str().as_bytes();
            let Some(bytes) = tables.identities.get(key)?.map(|bytes| bytes.value().to_vec()) else {
                return Ok(None);
            };
            let (mut record, kept) = decode_mapping(&bytes).map_err(Failure::Answer)?;
            if record.identity != expected {
                return Ok(None);
            }
            record.generation = record.generation.saturating_add(1);
            tables.identities.insert(key, encode_mapping(&record, kept).as_slice())?;
            drop_tokens(tables, &user)?;
            Ok(Some(record.generation))
        })
        .await
    }

    async fn remove(&self, user: &UserId, expected: &IdentityId) -> Result<bool, StoreError> {
        let (user, expected) = (self.vault.name(user), expected.clone());
        self.write("remove", Keep::Durably, move |tables| {
            match record_of(&tables.identities, &user)? {
                Some(record) if record.identity == expected => {}
                _ => return Ok(false),
            }
            tables.identities.remove(user.as_str().as_bytes())?;
            tables.users.remove(expected.as_str().as_bytes())?;
            drop_tokens(tables, &user)?;
            Ok(true)
        })
        .await
    }

    async fn list(&self, from: Option<&[u8]>, limit: usize) -> Result<Option<IdentityPage>, StoreError> {
        use std::ops::Bound;

        let after = match from.map(|from| read_cursor(&self.vault, from)) {
            None => Bound::Unbounded,
            Some(Some(last)) => Bound::Excluded(last),
            Some(None) => return Ok(None),
        };
        let limit = limit.min(PAGE);
        let view = self.engine.view();
        let engine = |error: redb::StorageError| engine_error(error.into());
        let (mut entries, mut last) = (Vec::new(), Vec::new());
        let mut rest = view.identities.range::<&[u8]>((after, Bound::Unbounded)).map_err(engine)?;
        while entries.len() < limit {
            let Some(entry) = rest.next() else { return Ok(Some(IdentityPage { entries, next: None })) };
            let (key, record) = entry.map_err(engine)?;
            let (record, kept) = decode_mapping(record.value())?;
            let name = name_from(&self.vault, key.value())?;
            entries.push((self.vault.user(&name, kept)?, record));
            last = key.value().to_vec();
        }
        let next = rest.next().filter(|_| !last.is_empty()).map(|_| cursor(&last));
        Ok(Some(IdentityPage { entries, next }))
    }

    async fn check(&self) -> Result<(), StoreProblem> {
        self.fit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_cursor_names_the_user_it_was_made_of(last in "[a-z{}:*ü]{1,100}") {
            let bytes = cursor(last.as_bytes());
            prop_assert!(bytes.len() <= 512);
            prop_assert_eq!(read_cursor(&Vault::plain(), &bytes), Some(last.as_bytes()));
        }

        #[test]
        fn changed_bytes_are_no_cursor(last in "[a-z]{1,100}", at: prop::sample::Index, bit in 0u8..8) {
            let mut bytes = cursor(last.as_bytes());
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert_eq!(read_cursor(&Vault::plain(), &bytes), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_cursor(bytes: Vec<u8>) {
            prop_assert_eq!(read_cursor(&Vault::plain(), &bytes), None);
        }
    }
}
