//! The signature algorithms of tokens: a fixed list, each with the one kind of key that fits.
//!
//! `none` and the `HS` family are not on it and cannot be written in settings: a key set is public, and whoever reads it
//! could sign with it. Verification is ring's, which also checks that RSA keys have at least 2048 bits, that curve points
//! lie on their curve, and that no half of an ECDSA signature is zero.

use ring::signature::{
    self, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// A signature algorithm of RFC 7518 or RFC 8037.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS #1 with SHA-256.
    RS256,
    /// RSA PKCS #1 with SHA-384.
    RS384,
    /// RSA PKCS #1 with SHA-512.
    RS512,
    /// RSA-PSS with SHA-256.
    PS256,
    /// RSA-PSS with SHA-384.
    PS384,
    /// RSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// Ed25519.
    #[serde(alias = "Ed25519")]
    EdDSA,
}

/// A public key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum PublicKey {
    /// Modulus and exponent, big-endian without leading zeros.
    Rsa {
        /// The modulus.
        n: Vec<u8>,
        /// The exponent.
        e: Vec<u8>,
    },
    /// An uncompressed point.
    P256(Vec<u8>),
    /// An uncompressed point.
    P384(Vec<u8>),
    /// The 32 bytes of RFC 8032.
    Ed25519(Vec<u8>),
}

impl Algorithm {
    /// The algorithm that a token's header names; case counts.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::RS256,
            "RS384" => Self::RS384,
            "RS512" => Self::RS512,
            "PS256" => Self::PS256,
            "PS384" => Self::PS384,
            "PS512" => Self::PS512,
            "ES256" => Self::ES256,
            "ES384" => Self::ES384,
            // RFC 9864 gives Ed25519 a name of its own.
            "EdDSA" | "Ed25519" => Self::EdDSA,
            _ => return None,
        })
    }

    /// Whether a key is of the kind that this algorithm takes.
    pub(crate) fn takes(self, key: &PublicKey) -> bool {
        match self {
            Self::RS256 | Self::RS384 | Self::RS512 | Self::PS256 | Self::PS384 | Self::PS512 => {
                matches!(key, PublicKey::Rsa { .. })
            }
            Self::ES256 => matches!(key, PublicKey::P256(_)),
            Self::ES384 => matches!(key, PublicKey::P384(_)),
            Self::EdDSA => matches!(key, PublicKey::Ed25519(_)),
        }
    }

    /// Whether `signature` is that of `message` under `key`. No key of another kind ever fits.
    pub(crate) fn is_signed(self, key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
        let rsa = match self {
            Self::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
            Self::ES256 | Self::ES384 | Self::EdDSA => {
                return match (self, key) {
                    (Self::ES256, PublicKey::P256(point)) => {
                        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
                    }
                    (Self::ES384, PublicKey::P384(point)) => {
                        UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point).verify(message, signature)
                    }
                    (Self::EdDSA, PublicKey::Ed25519(bytes)) => {
                        UnparsedPublicKey::new(&ED25519, bytes).verify(message, signature)
                    }
                    _ => return false,
                }
                .is_ok();
            }
        };
        match key {
            PublicKey::Rsa { n, e } => {
                RsaPublicKeyComponents { n, e }.verify(rsa, message, signature).is_ok()
            }
            _ => false,
        }
    }
}
