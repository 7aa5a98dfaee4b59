//! Access tokens: RS256-signed JWTs of the shape the real service was seen to issue, marked as the emulator's.
//!
//! The signing key beside this file is public and worthless on purpose: made once with
//! `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:2048 | openssl pkcs8 -topk8 -nocrypt -outform DER`, so that
//! starting takes no time. Nothing real may ever trust it. The payload holds only characters whose base64url form has no `-` and no `_`, because one
//! official SDK decodes it with the standard alphabet. Used by `identity`.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

const PUBLISHED_KEY: &[u8] = include_bytes!("token_signing_key.der");

/// Signs tokens.
pub(in crate::emulator) struct Signer {
    key: RsaKeyPair,
    random: SystemRandom,
    /// The first part of every token, encoded.
    header: String,
}

/// The signing key could not be used.
#[derive(Debug, thiserror::Error)]
#[error("the built-in token signing key cannot be used")]
pub struct SigningKeyError;

/// What a token says.
pub(in crate::emulator) struct Contents<'a> {
    /// The raw id, `8:acs:…`.
    pub(in crate::emulator) identity: &'a str,
    pub(in crate::emulator) resource: &'a str,
    pub(in crate::emulator) scopes: &'a [&'static str],
    pub(in crate::emulator) issued: Timestamp,
    pub(in crate::emulator) expires: Timestamp,
    /// Makes two tokens issued in the same second differ.
    pub(in crate::emulator) sequence: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    skypeid: &'a str,
    scp: u32,
    csi: String,
    exp: u64,
    rgn: &'a str,
    acs_scope: String,
    resource_id: &'a str,
    resource_location: &'a str,
    iat: u64,
    /// No real token has this: it says where the token comes from.
    emulator: &'a str,
    jti: String,
}

impl Signer {
    pub(in crate::emulator) fn new() -> Result<Self, SigningKeyError> {
        let key = RsaKeyPair::from_pkcs8(PUBLISHED_KEY).map_err(|_| SigningKeyError)?;
        let digest = Sha256::digest(key.public_key().as_ref());
        let thumbprint: Vec<u8> = digest.iter().copied().take(20).collect();
        let kid: String = thumbprint.iter().map(|byte| format!("{byte:02X}")).collect();
        let header = format!(
            r#"{{"alg":"RS256","kid":"{kid}","x5t":"{}","typ":"JWT"}}"#,
            URL_SAFE_NO_PAD.encode(&thumbprint)
        );
        Ok(Self { key, random: SystemRandom::new(), header: URL_SAFE_NO_PAD.encode(header) })
    }

    /// Makes a token, or nothing when the random source of the system fails.
    pub(in crate::emulator) fn sign(&self, contents: &Contents<'_>) -> Option<String> {
        let issued = contents.issued.as_millis() / 1000;
        let claims = Claims {
            skypeid: contents.identity.strip_prefix("8:").unwrap_or(contents.identity),
            scp: 1792,
            csi: issued.to_string(),
            exp: contents.expires.as_millis() / 1000,
            rgn: "emulator",
            acs_scope: contents.scopes.join(","),
            resource_id: contents.resource,
            resource_location: "emulator",
            iat: issued,
            emulator: "acs-broker",
            jti: format!("{:016x}", contents.sequence),
        };
        let payload = serde_json::to_vec(&claims).ok()?;
        let mut token = format!("{}.{}", self.header, URL_SAFE_NO_PAD.encode(payload));
        let mut signature = vec![0; self.key.public().modulus_len()];
        self.key.sign(&RSA_PKCS1_SHA256, &self.random, token.as_bytes(), &mut signature).ok()?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};

    use super::*;

    fn contents<'a>(identity: &'a str, scopes: &'a [&'static str]) -> Contents<'a> {
        Contents {
            identity,
            resource: "ac80d96a-85de-48b1-995d-a3a3fa3627c8",
            scopes,
            issued: Timestamp::from_millis(1_700_000_000_123),
            expires: Timestamp::from_millis(1_700_003_600_999),
            sequence: 7,
        }
    }

    #[test]
    fn a_token_has_the_header_and_claims_of_a_real_one_and_a_valid_signature() {
        let signer = Signer::new().unwrap();
        let token = signer.sign(&contents("8:acs:ac80_1", &["chat", "voip.join"])).unwrap();
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        let json = |part: &str| -> serde_json::Value {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
        };
        let header = json(parts[0]);
        assert_eq!((header["alg"].as_str(), header["typ"].as_str()), (Some("RS256"), Some("JWT")));
        let kid = header["kid"].as_str().unwrap();
        assert!(kid.len() == 40 && kid.chars().all(|c| c.is_ascii_hexdigit()), "{kid}");
        assert_eq!(URL_SAFE_NO_PAD.decode(header["x5t"].as_str().unwrap()).unwrap().len(), 20);
        assert_eq!(
            json(parts[1]),
            serde_json::json!({
                "skypeid": "acs:ac80_1", "scp": 1792, "csi": "1700000000", "exp": 1_700_003_600_u64,
                "rgn": "emulator", "acsScope": "chat,voip.join",
                "resourceId": "ac80d96a-85de-48b1-995d-a3a3fa3627c8", "resourceLocation": "emulator",
                "iat": 1_700_000_000_u64, "emulator": "acs-broker", "jti": "0000000000000007"
            })
        );
        let (signed, signature) = token.rsplit_once('.').unwrap();
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, signer.key.public_key().as_ref())
            .verify(signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
            .unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_payload_reads_the_same_in_both_base64_alphabets(
            user in "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            issued in 0..253_402_300_799_000_u64,
            sequence: u64,
            scopes in proptest::sample::subsequence(super::super::wire::SCOPES.to_vec(), 1..=5),
        ) {
            let identity = format!("8:acs:{user}_{user}");
            let token = Signer::new().unwrap().sign(&Contents {
                resource: &user,
                issued: Timestamp::from_millis(issued),
                expires: Timestamp::from_millis(issued + 3_600_000),
                sequence,
                ..contents(&identity, &scopes)
            }).unwrap();
            let payload = token.split('.').nth(1).unwrap();
            prop_assert!(!payload.contains(['-', '_']), "{}", payload);
        }
    }
}
