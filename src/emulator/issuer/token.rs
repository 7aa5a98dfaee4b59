//! Entra tokens of version 1.0, signed and verified with the issuer's own key; and the tokens others sign, read only.
//!
//! The key beside this file is public and worthless on purpose, made as the one of `identity` was. Nothing real may
//! ever trust it. Whatever is not exactly a token of ours is refused without a word why. Used by `issuer`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::emulator::SigningKeyError;

const PUBLISHED_KEY: &[u8] = include_bytes!("entra_signing_key.der");
/// No token of ours is nearly as long.
const LONGEST: usize = 16 * 1024;

/// What a token says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Claims {
    pub(super) aud: String,
    pub(super) iss: String,
    pub(super) iat: u64,
    pub(super) nbf: u64,
    pub(super) exp: u64,
    /// The application.
    pub(super) appid: String,
    /// How the application proved itself: 0 not at all, 1 by a secret, 2 by an assertion or certificate.
    pub(super) appidacr: String,
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub(super) groups: Vec<String>,
    /// `app` or `user`.
    pub(super) idtyp: String,
    /// The user or service principal.
    pub(super) oid: String,
    /// The permissions of a user, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub(super) scp: Option<String>,
    pub(super) sub: String,
    pub(super) tid: String,
    pub(super) uti: String,
    pub(super) ver: String,
    /// No real token has this: it says where the token comes from.
    #[serde(default)]
    pub(super) emulator: String,
}

/// The key of the issuer.
pub(super) struct Key {
    key: RsaKeyPair,
    random: SystemRandom,
    id: String,
    header: String,
}

impl Key {
    pub(super) fn new() -> Result<Self, SigningKeyError> {
        let key = RsaKeyPair::from_pkcs8(PUBLISHED_KEY).map_err(|_| SigningKeyError)?;
        let digest = Sha256::digest(key.public_key().as_ref());
        let thumbprint: Vec<u8> = digest.iter().copied().take(20).collect();
        let id = URL_SAFE_NO_PAD.encode(thumbprint);
        let header = json!({ "typ": "JWT", "alg": "RS256", "x5t": id, "kid": id }).to_string();
        Ok(Self { key, random: SystemRandom::new(), id, header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// Makes a token, or nothing when the random source of the system fails.
    pub(super) fn sign(&self, claims: &Claims) -> Option<String> {
        let payload = serde_json::to_vec(claims).ok()?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature).ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }

    /// The claims of a token that this key signed, whatever they are.
    pub(super) fn verify(&self, token: &str) -> Option<Claims> {
        if token.len() > LONGEST {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let header = object(header)?;
        let named = |name: &str| header.get(name).and_then(Value::as_str);
        if named("alg") != Some("RS256") || named("kid") != Some(self.id.as_str()) {
            return None;
        }
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, self.key.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
    }

    /// The key as a key set publishes it.
    pub(super) fn published(&self) -> Value {
        let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(self.key.public());
        json!({
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.id,
            "x5t": self.id,
            "n": URL_SAFE_NO_PAD.encode(n),
            "e": URL_SAFE_NO_PAD.encode(e),
        })
    }
}

/// The claims of somebody else's token, whose signature nobody here can check. Nothing if it has not the shape of a
/// signed token.
pub(super) fn read_foreign(token: &str) -> Option<serde_json::Map<String, Value>> {
    let parts: Vec<&str> = token.split('.').take(4).collect();
    let [header, payload, signature] = parts.as_slice() else { return None };
    let header = object(header)?;
    let is_signed =
        header.get("alg").and_then(Value::as_str).is_some_and(|alg| !alg.eq_ignore_ascii_case("none"));
    let has_signature = URL_SAFE_NO_PAD.decode(signature).is_ok_and(|bytes| !bytes.is_empty());
    if token.len() > LONGEST || !is_signed || !has_signature {
        return None;
    }
    object(payload)
}

fn object(part: &str) -> Option<serde_json::Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
