//! A set of public keys as RFC 7517 writes it, and which of them may have signed a token. Pure.
//!
//! A key that this broker cannot use is passed over, so that an issuer may add new kinds; a set without any usable key is
//! refused. Symmetric keys are never used. Certificates in a key (`x5c`, `x5u`) are not looked at, nothing is followed.

use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::auth::json;
use crate::auth::jwt::algorithm::{Algorithm, PublicKey};

/// The most keys in a set.
const MAX_KEYS: usize = 100;
/// The longest key id.
pub(crate) const MAX_KID: usize = 256;
/// How many keys with one id are tried at the most.
const MAX_TRIED: usize = 4;

/// Why a set of keys is of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unusable {
    #[error("it is not a JSON object with a list of `keys`")]
    NotAKeySet,
    #[error("it has more than 100 keys")]
    TooMany,
    #[error(
        "none of its keys can verify a signature (RSA from 2048 bits, P-256, P-384, Ed25519; use \"sig\")"
    )]
    NoneUsable,
}

/// The usable keys of a set.
pub(crate) struct Keys {
    keys: Vec<Key>,
    /// Tells this set from every other of the process.
    id: u64,
}

/// A public key with what it may be used for.
#[derive(PartialEq, Eq)]
struct Key {
    kid: Option<String>,
    /// The only algorithm it may be used with, if it says so.
    algorithm: Option<Algorithm>,
    key: PublicKey,
}

impl Keys {
    /// Reads a set of keys.
    pub(crate) fn read(document: &[u8]) -> Result<Self, Unusable> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let document = json::object(document).ok_or(Unusable::NotAKeySet)?;
        let Some(Value::Array(listed)) = document.get("keys") else { return Err(Unusable::NotAKeySet) };
        if listed.len() > MAX_KEYS {
            return Err(Unusable::TooMany);
        }
        let keys: Vec<Key> = listed.iter().filter_map(|key| Key::read(key.as_object()?)).collect();
        if keys.is_empty() {
            return Err(Unusable::NoneUsable);
        }
        Ok(Self { keys, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// Tells this set from every other of the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether both hold the same keys.
    pub(crate) fn are_those_of(&self, other: &Self) -> bool {
        self.keys == other.keys
    }

    /// Whether there is a key for tokens with this header.
    pub(crate) fn know(&self, kid: Option<&str>, algorithm: Algorithm) -> bool {
        self.fitting(kid, algorithm).next().is_some()
    }

    /// Whether one of the keys for tokens with this header has signed the message.
    pub(crate) fn have_signed(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        self.fitting(kid, algorithm)
            .take(MAX_TRIED)
            .any(|key| algorithm.is_signed(&key.key, message, signature))
    }

    /// The keys with this id and of the right kind. A token without a key id may be signed with any key of the set if
    /// only one of them fits: trying them all would multiply the cost of a forged one.
    fn fitting(&self, kid: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &Key> {
        let fits = move |key: &&Key| {
            kid.is_none_or(|kid| key.kid.as_deref() == Some(kid))
                && key.algorithm.is_none_or(|only| only == algorithm)
                && algorithm.takes(&key.key)
        };
        let doubtful = kid.is_none() && self.keys.iter().filter(fits).nth(1).is_some();
        self.keys.iter().filter(fits).filter(move |_| !doubtful)
    }
}

impl Key {
    /// A key of the set; none if it is not for verifying signatures, or not of a kind that is known here.
    fn read(from: &Map<String, Value>) -> Option<Self> {
        let text = |name: &str| from.get(name).and_then(Value::as_str);
        let bytes = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(text(name)?).ok();
        if from.contains_key("use") && text("use") != Some("sig") {
            return None;
        }
        if let Some(operations) = from.get("key_ops")
            && !operations.as_array()?.iter().any(|operation| operation == "verify")
        {
            return None;
        }
        let kid = match from.get("kid") {
            Some(kid) => Some(kid.as_str().filter(|kid| kid.len() <= MAX_KID)?.to_owned()),
            None => None,
        };
        let algorithm = match from.get("alg") {
            Some(name) => Some(Algorithm::named(name.as_str()?)?),
            None => None,
        };
        let key = match (text("kty")?, text("crv")) {
            ("RSA", _) => PublicKey::Rsa { n: modulus(bytes("n")?)?, e: trimmed(bytes("e")?) },
            ("EC", Some("P-256")) => PublicKey::P256(point(bytes("x")?, bytes("y")?, 32)?),
            ("EC", Some("P-384")) => PublicKey::P384(point(bytes("x")?, bytes("y")?, 48)?),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes("x").filter(|x| x.len() == 32)?),
            _ => return None,
        };
        (algorithm.is_none_or(|algorithm| algorithm.takes(&key))).then_some(Self { kid, algorithm, key })
    }
}

/// Without leading zeros, which some issuers write and ring refuses.
fn trimmed(bytes: Vec<u8>) -> Vec<u8> {
    bytes.into_iter().skip_while(|byte| *byte == 0).collect()
}

/// A modulus of 2048 to 8192 bits.
fn modulus(bytes: Vec<u8>) -> Option<Vec<u8>> {
    let n = trimmed(bytes);
    let bits = n.len() * 8 - usize::try_from(n.first()?.leading_zeros()).ok()?;
    (2048..=8192).contains(&bits).then_some(n)
}

/// An uncompressed point of a curve with coordinates of this length.
fn point(x: Vec<u8>, y: Vec<u8>, length: usize) -> Option<Vec<u8>> {
    (x.len() == length && y.len() == length).then(|| [vec![4], x, y].concat())
}
