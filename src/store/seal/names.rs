//! What users are called in the store: by their ids, or, with a hash key, by keyed hashes of them.
//!
//! Without the key nobody can tell which user a name is, not even by trying all ids. As names cannot be read back, the
//! id itself is kept beside, sealed under a key made of the same hash key: it must last as long as the mapping does, so
//! it is not the key ring's business. A store is marked with what key its names were made with; another key would find
//! nobody and give everybody a second identity. Used by [`super::Vault`].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};

use super::envelope::{self, CannotSeal};
use crate::broker::types::UserId;

/// The shortest hash key.
pub(super) const LEAST_KEY_BYTES: usize = 32;

/// The bytes of a mark.
const MARK_BYTES: usize = 8;

/// The hash key is too short to be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must have at least {LEAST_KEY_BYTES} bytes; openssl rand -base64 32")]
pub struct ShortHashKey;

/// Why the names in a store are not those the settings make. To serve all the same would give every user a second
/// identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NamesProblem {
    /// The store was filled without a hash key.
    #[error(
        "the store was filled without store.seal.hash_key, and it is set now; unset it, or move to a new store: \
         export the mapping, name another file or prefix, import (docs/operations.md)"
    )]
    NotHashed,
    /// The store was filled with a hash key.
    #[error(
        "the store was filled with a store.seal.hash_key, and none is set now; set the same one again, or move to a \
         new store: export the mapping with the old key, name another file or prefix, import (docs/operations.md)"
    )]
    Hashed,
    /// The store was filled with another hash key.
    #[error(
        "the store was filled with another store.seal.hash_key; set that one again, or move to a new store: export \
         the mapping with the old key, name another file or prefix, import (docs/operations.md)"
    )]
    OtherKey,
}

/// Whether `ours` is what a store with the mark `found` was filled with.
pub(super) fn check(ours: &[u8], found: &[u8]) -> Result<(), NamesProblem> {
    match (ours.is_empty(), found.is_empty()) {
        _ if ours == found => Ok(()),
        (false, true) => Err(NamesProblem::NotHashed),
        (true, false) => Err(NamesProblem::Hashed),
        _ => Err(NamesProblem::OtherKey),
    }
}

/// A user in keys and tables.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Name {
    text: Box<str>,
    /// The first byte of a hash of the user: which group the user is in.
    bucket: u8,
}

impl Name {
    /// The id itself.
    pub(super) fn plain(user: &UserId) -> Self {
        let bucket = first(&Sha256::digest(user.as_str().as_bytes()));
        Self { text: user.as_str().into(), bucket }
    }

    fn of_digest(digest: &[u8; 32]) -> Self {
        Self { text: URL_SAFE_NO_PAD.encode(digest).into(), bucket: first(digest) }
    }

    /// A keyed hash as text, if it is one.
    pub(super) fn hashed(text: &str) -> Option<Self> {
        let digest = URL_SAFE_NO_PAD.decode(text).ok()?;
        <[u8; 32]>::try_from(digest).ok().map(|digest| Self::of_digest(&digest))
    }

    /// The text in keys: no control character is in it.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn bucket(&self) -> u8 {
        self.bucket
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Name(…)")
    }
}

fn first(bytes: &[u8]) -> u8 {
    bytes.first().copied().unwrap_or_default()
}

type Sub = Zeroizing<[u8; 32]>;

/// Makes names from a hash key. What it holds is wiped when dropped.
pub(super) struct Names {
    users: Sub,
    parts: Sub,
    digests: Sub,
    ids: Sub,
    mark: [u8; MARK_BYTES],
}

impl Names {
    pub(super) fn new(hash_key: &str) -> Result<Self, ShortHashKey> {
        if hash_key.len() < LEAST_KEY_BYTES {
            return Err(ShortHashKey);
        }
        // A key of its own for each use, so that no use helps against another.
        let sub = |label: &str| Zeroizing::new(mac(hash_key.as_bytes(), &[label.as_bytes()]));
        let mut mark = [0; MARK_BYTES];
        mark.iter_mut().zip(sub("acs-broker store mark").iter()).for_each(|(to, from)| *to = *from);
        Ok(Self {
            users: sub("acs-broker store users"),
            parts: sub("acs-broker store parts"),
            digests: sub("acs-broker store digests"),
            ids: sub("acs-broker store user ids"),
            mark,
        })
    }

    pub(super) fn name(&self, user: &UserId) -> Name {
        Name::of_digest(&mac(self.users.as_slice(), &[user.as_str().as_bytes()]))
    }

    pub(super) fn again(&self, digest: &[u8; 32]) -> [u8; 32] {
        mac(self.digests.as_slice(), &[digest])
    }

    pub(super) fn mark(&self) -> &[u8] {
        &self.mark
    }

    /// The id, sealed and bound to the name.
    pub(super) fn seal(&self, user: &UserId, name: &Name) -> Result<Vec<u8>, CannotSeal> {
        let mut bytes = Vec::new();
        let bound_to = envelope::bound_to_name(name.as_str());
        envelope::seal_with(&self.ids, &mut bytes, &bound_to, user.as_str().as_bytes())?;
        Ok(bytes)
    }

    /// The id that was sealed under this name.
    pub(super) fn open(&self, name: &Name, sealed: &[u8]) -> Option<UserId> {
        let id = envelope::open_with(&self.ids, &envelope::bound_to_name(name.as_str()), sealed)?;
        UserId::parse(std::str::from_utf8(&id).ok()?).ok()
    }
}

/// HMAC-SHA-256 of the bytes, one after the other.
fn mac(key: &[u8], bytes: &[&[u8]]) -> [u8; 32] {
    // Keys of any length are taken.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return [0; 32] };
    bytes.iter().for_each(|bytes| mac.update(bytes));
    mac.finalize().into_bytes().into()
}

/// A digest of parts, each with its length first: no two lists of parts are digested from the same bytes.
pub(super) fn digest(names: Option<&Names>, parts: &[&str]) -> [u8; 32] {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    }
    match names {
        None => Sha256::digest(&bytes).into(),
        Some(names) => mac(names.parts.as_slice(), &[&bytes]),
    }
}

pub(super) fn digest_text(names: Option<&Names>, text: &str) -> [u8; 32] {
    match names {
        None => Sha256::digest(text.as_bytes()).into(),
        Some(names) => mac(names.parts.as_slice(), &[b"text", text.as_bytes()]),
    }
}
