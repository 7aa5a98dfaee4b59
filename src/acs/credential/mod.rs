//! What the client proves itself with: an access key and a spare one, or an Entra identity.
//!
//! It decides which credential signs, and what a refusal means; it sends nothing itself (`pipeline` makes the probes) and
//! never shows a key or a token. [`ring`] holds the decisions, [`entra`] gets tokens of Entra.

pub(super) mod entra;
pub(super) mod ring;

use std::fmt;

use secrecy::{ExposeSecret, SecretSlice};
use sha2::{Digest, Sha256};

use self::entra::Principal;
use super::connection_string::ConnectionString;

/// Names a credential without telling it: the first 8 bytes of a SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 8]);

impl Fingerprint {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut sha = Sha256::new();
        for part in parts {
            sha.update(part);
        }
        let mut name = [0; 8];
        for (to, from) in name.iter_mut().zip(sha.finalize()) {
            *to = from;
        }
        Self(name)
    }
}

/// Sixteen hexadecimal digits; shown to operators, who have to tell two keys apart.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// One credential.
pub(super) struct Credential {
    pub(super) name: Fingerprint,
    pub(super) kind: Kind,
}

/// What it proves itself with. No `Debug`: it holds the key.
pub(super) enum Kind {
    /// The access key of the resource, decoded: it signs.
    Key(SecretSlice<u8>),
    /// An identity that Entra vouches for: it brings a token.
    Entra(Box<Principal>),
}

impl Credential {
    /// The key of a connection string.
    pub(super) fn key(resource: &ConnectionString) -> Self {
        let key = resource.access_key();
        Self { name: Fingerprint::of(&[key]), kind: Kind::Key(key.to_vec().into()) }
    }

    /// The decoded access key; empty if it is none.
    pub(super) fn signing_key(&self) -> &[u8] {
        match &self.kind {
            Kind::Key(key) => key.expose_secret(),
            Kind::Entra(_) => &[],
        }
    }

    /// An Entra identity.
    pub(super) fn entra(principal: Principal) -> Self {
        let name = Fingerprint::of(&[b"entra\0", principal.client_id().as_bytes()]);
        Self { name, kind: Kind::Entra(Box::new(principal)) }
    }
}
