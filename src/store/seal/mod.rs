//! Sealing at rest: what the store writes down tells nothing to whoever reads the store alone.
//!
//! Two things, each with a key of its own from outside the store. The **key ring** (`ring`) seals tokens, records of
//! messages, events and outcomes; keys come and go with the file. The **hash key** (`names`) turns user ids into names,
//! and seals the ids themselves for listing; it stays as long as the store does. Without either, everything is written
//! as it is. [`Vault`] is both, as the backends see them; `docs/adr/0017` says why it is so.
//!
//! It must never show a key, an id or a content in a text, and no bytes of a store make it panic. Used by the backends,
//! `codec` and `keys`.

mod envelope;
mod names;
mod ring;
mod settings;
#[cfg(test)]
pub(crate) mod tests;

use std::path::Path;
use std::sync::Arc;

pub(crate) use self::names::Name;
pub use self::names::{NamesProblem, ShortHashKey};
pub use self::ring::{KeyFileError, KeyRing};
pub use self::settings::{Mode, Settings};
use crate::broker::ports::StoreError;
use crate::broker::types::UserId;
use crate::metrics::Metrics;
use names::Names;

/// The first byte of a payload that is not as its writer gave it; no payload of ours begins with it by itself.
const MARK: u8 = 0;
/// After [`MARK`]: the payload follows as it is, and happens to begin with [`MARK`].
const AS_IS: u8 = 0;
/// After [`MARK`]: an envelope follows.
const SEALED: u8 = 1;

/// What is sealed. Part of what an envelope is bound to, so that nothing opens as something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A cached token.
    Token,
    /// The record of a message.
    Message,
    /// An event.
    Event,
    /// The outcome of a request.
    Outcome,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Message => "message",
            Self::Event => "event",
            Self::Outcome => "outcome",
        }
    }
}

/// Why something stored cannot be had; tells nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unopened {
    /// No key of the ring has its id.
    #[error("it is sealed with a key that is not in store.seal.keys_file; put that key back")]
    NoKey,
    /// The key is there, but this is not what it sealed.
    #[error("it does not open: it was changed, or it belongs elsewhere, or its key has another content now")]
    Damaged,
    /// It is not sealed, and must be.
    #[error("it is not sealed, and store.seal.mode is \"require\"")]
    Plain,
}

impl Unopened {
    const fn name(self) -> &'static str {
        match self {
            Self::NoKey => "no_key",
            Self::Damaged => "damaged",
            Self::Plain => "plain",
        }
    }
}

impl From<Unopened> for StoreError {
    fn from(why: Unopened) -> Self {
        let cause = Arc::new(why);
        match why {
            // The key file of this replica may only be late: worth another try.
            Unopened::NoKey => Self::Unavailable(cause),
            Unopened::Damaged | Unopened::Plain => Self::Corrupt(cause),
        }
    }
}

/// Why the vault cannot be made.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    /// The key file.
    #[error("store.seal.keys_file: {0}")]
    Keys(#[from] KeyFileError),
    /// The hash key.
    #[error("store.seal.hash_key: {0}")]
    HashKey(#[from] ShortHashKey),
}

/// Key ring and hash key as the backends see them. Cheap to clone.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    ring: Option<Arc<KeyRing>>,
    mode: Mode,
    names: Option<Names>,
    metrics: Option<Metrics>,
}

impl Vault {
    /// Without any key: everything is written as it is.
    pub fn plain() -> Self {
        Self(Arc::new(Inner { ring: None, mode: Mode::Seal, names: None, metrics: None }))
    }

    /// With the keys that the settings name. Reads the key file.
    pub fn new(settings: &Settings, metrics: Metrics) -> Result<Self, VaultError> {
        let ring = if settings.keys_file.is_empty() {
            None
        } else {
            Some(Arc::new(KeyRing::read(Path::new(&settings.keys_file))?))
        };
        let names =
            if settings.hash_key.is_empty() { None } else { Some(Names::new(settings.hash_key.expose())?) };
        Ok(Self(Arc::new(Inner { ring, mode: settings.mode, names, metrics: Some(metrics) })))
    }

    /// The key ring, to be followed while its file changes; none without one.
    pub fn ring(&self) -> Option<Arc<KeyRing>> {
        self.0.ring.clone()
    }

    /// Whether what is written is sealed.
    pub(crate) fn seals(&self) -> bool {
        self.0.ring.is_some() && self.0.mode != Mode::Open
    }

    /// Counts something that did not open.
    pub(crate) fn unopened(&self, kind: Kind, why: Unopened) {
        if let Some(metrics) = &self.0.metrics {
            metrics.store_unopened(kind.name(), why.name());
        }
    }

    /// Appends `plain` to `into`, sealed with the first key of the ring and bound to these parts.
    pub(crate) fn seal_onto(
        &self,
        into: &mut Vec<u8>,
        kind: Kind,
        bound_to: &[&[u8]],
        plain: &[u8],
    ) -> Result<(), StoreError> {
        let Some(ring) = &self.0.ring else { return Err(Unopened::NoKey.into()) };
        envelope::seal(&ring.now(), into, kind, bound_to, plain)
            .map_err(|error| StoreError::Unavailable(Arc::new(error)))
    }

    /// What is in an envelope that was bound to these parts.
    pub(crate) fn unseal(
        &self,
        kind: Kind,
        bound_to: &[&[u8]],
        envelope: &[u8],
    ) -> Result<envelope::Opened, Unopened> {
        let Some(ring) = &self.0.ring else { return Err(Unopened::NoKey) };
        envelope::open(&ring.now(), kind, bound_to, envelope)
    }

    /// Whether what is not sealed is read too.
    pub(crate) fn reads_plain(&self) -> bool {
        self.0.ring.is_none() || self.0.mode != Mode::Require
    }

    /// The bytes to store for `plain`: sealed and bound to these parts, or as it is.
    pub(crate) fn close(&self, kind: Kind, bound_to: &[&[u8]], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        if self.seals() {
            let mut bytes = Vec::with_capacity(2 + envelope::overhead() + plain.len());
            bytes.extend_from_slice(&[MARK, SEALED]);
            self.seal_onto(&mut bytes, kind, bound_to, plain)?;
            return Ok(bytes);
        }
        Ok(match plain.first() {
            Some(&MARK) => [&[MARK, AS_IS], plain].concat(),
            _ => plain.to_vec(),
        })
    }

    /// What [`Self::close`] was given, whether it was sealed then or not. What does not open is counted.
    pub(crate) fn open(&self, kind: Kind, bound_to: &[&[u8]], stored: &[u8]) -> Result<Vec<u8>, Unopened> {
        let opened = match stored {
            [MARK, SEALED, envelope @ ..] => {
                self.unseal(kind, bound_to, envelope).map(|opened| opened.to_vec())
            }
            _ if !self.reads_plain() => Err(Unopened::Plain),
            [MARK, AS_IS, plain @ ..] => Ok(plain.to_vec()),
            [MARK, ..] => Err(Unopened::Damaged),
            plain => Ok(plain.to_vec()),
        };
        opened.inspect_err(|why| self.unopened(kind, *why))
    }

    /// The name of a user in keys and tables: the id itself, or its keyed hash.
    pub(crate) fn name(&self, user: &UserId) -> Name {
        match &self.0.names {
            None => Name::plain(user),
            Some(names) => names.name(user),
        }
    }

    /// The name that this text is; none if it is not one of this vault's.
    pub(crate) fn read_name(&self, text: &str) -> Option<Name> {
        match &self.0.names {
            None => UserId::parse(text).ok().map(|user| Name::plain(&user)),
            Some(_) => Name::hashed(text),
        }
    }

    /// The user id to keep with a user's record, sealed; none where the name is the id itself.
    pub(crate) fn keep_user(&self, user: &UserId, name: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(names) = &self.0.names else { return Ok(None) };
        names.seal(user, name).map(Some).map_err(|error| StoreError::Unavailable(Arc::new(error)))
    }

    /// The user of that name, given what [`Self::keep_user`] kept.
    pub(crate) fn user(&self, name: &Name, kept: Option<&[u8]>) -> Result<UserId, StoreError> {
        let user = match &self.0.names {
            None => UserId::parse(name.as_str()).ok(),
            Some(names) => kept.and_then(|kept| names.open(name, kept)),
        };
        user.ok_or_else(|| Unopened::Damaged.into())
    }

    /// A digest of these parts, each told from the next by its length; keyed, if there is a hash key.
    pub(crate) fn digest(&self, parts: &[&str]) -> [u8; 32] {
        names::digest(self.0.names.as_ref(), parts)
    }

    /// A digest of a text alone.
    pub(crate) fn digest_text(&self, text: &str) -> [u8; 32] {
        names::digest_text(self.0.names.as_ref(), text)
    }

    /// What is kept of the digest of a request, which whoever knows what was asked could make again.
    pub(crate) fn digest_again(&self, digest: &[u8; 32]) -> [u8; 32] {
        self.0.names.as_ref().map_or(*digest, |names| names.again(digest))
    }

    /// What tells the hash key from any other, to mark the store with; empty without one.
    pub(crate) fn names_mark(&self) -> &[u8] {
        self.0.names.as_ref().map_or(&[], Names::mark)
    }

    /// Whether a store with that mark was filled with the names this vault makes.
    pub(crate) fn check_names(&self, mark: &[u8]) -> Result<(), NamesProblem> {
        names::check(self.names_mark(), mark)
    }
}

#[cfg(any(fuzzing, test))]
impl Vault {
    /// With one key that everybody knows, for the fuzz targets.
    pub(crate) fn with_a_known_key() -> Self {
        let ring = KeyRing::parse("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").ok().map(Arc::new);
        Self(Arc::new(Inner { ring, mode: Mode::Seal, names: None, metrics: None }))
    }
}

#[cfg(test)]
impl Vault {
    /// With this ring and hash key.
    pub(crate) fn of(ring: Option<Arc<KeyRing>>, mode: Mode, hash_key: Option<&str>) -> Self {
        let names = hash_key.map(|key| Names::new(key).unwrap());
        Self(Arc::new(Inner { ring, mode, names, metrics: Some(Metrics::new()) }))
    }

    /// With a ring of one key and a hash key.
    pub(crate) fn full() -> Self {
        let ring = KeyRing::parse(&tests::line("k1", 1)).unwrap();
        Self::of(Some(Arc::new(ring)), Mode::Seal, Some(tests::HASH_KEY))
    }

    /// What has been counted.
    pub(crate) fn rendered_metrics(&self) -> String {
        self.0.metrics.as_ref().map(Metrics::render).unwrap_or_default()
    }
}
