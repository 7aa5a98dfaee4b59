//! A token in its compact form, read and judged by everything but its signature. Pure.
//!
//! Nothing in here is proven: what a token says decides at most which key it is held against. No key, URL or certificate
//! that a token brings along (`jwk`, `jku`, `x5u`, `x5c`) is ever looked at.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::algorithm::Algorithm;
use crate::auth::json;
use crate::auth::jwks::key::MAX_KID;
use crate::clock::Timestamp;

/// The longest token. Header lists are limited to 16 KiB, and Kubernetes' tokens have about 1 KiB, Entra's 2 KiB.
pub(crate) const MAX_TOKEN: usize = 8192;
/// The longest `sub`.
const MAX_SUBJECT: usize = 1024;

/// Why a token is refused; for the log and the metrics, never for whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than any token should be, or several where one belongs.
    TooLong,
    /// No compact JWS with JSON objects in it.
    Malformed,
    /// A header that asks for what is not understood here.
    Header,
    /// An algorithm that is not on the issuer's list.
    Algorithm,
    /// An issuer that is not configured.
    Issuer,
    /// A token for somebody else.
    Audience,
    /// A token that was good once.
    Expired,
    /// A token that will be good, or that was issued in the future.
    NotYet,
    /// A required claim is missing, or one is of the wrong type.
    Claims,
    /// A key the issuer does not have.
    UnknownKey,
    /// The issuer's keys could not be fetched yet: whether the token is good cannot be said.
    KeysNotYet,
    /// The issuer's keys could not be fetched for too long, or who brings them is not the issuer.
    NoKeys,
    /// A signature that is not the key's.
    Signature,
}

impl Refusal {
    /// Its text; holds nothing of the token.
    pub fn text(self) -> &'static str {
        match self {
            Self::TooLong => "the token is too long",
            Self::Malformed => "the token is malformed",
            Self::Header => "the token's header asks for something that is not supported",
            Self::Algorithm => "the token's algorithm is not allowed",
            Self::Issuer => "the token's issuer is not configured",
            Self::Audience => "the token is for another audience",
            Self::Expired => "the token has expired",
            Self::NotYet => "the token is not valid yet",
            Self::Claims => "the token lacks a claim, or one is of the wrong type",
            Self::UnknownKey => "the issuer has no such key",
            Self::KeysNotYet => "the issuer's keys could not be fetched yet",
            Self::NoKeys => "the issuer's keys are not available",
            Self::Signature => "the token's signature is wrong",
        }
    }

    /// Whether the broker cannot say that the token is bad: it is the broker that lacks something.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::KeysNotYet)
    }

    /// Its word in the metrics.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::Header => "header",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Claims => "claims",
            Self::UnknownKey => "unknown_key",
            Self::KeysNotYet => "keys_not_yet",
            Self::NoKeys => "no_keys",
            Self::Signature => "signature",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl std::error::Error for Refusal {}

/// What a token says, unproven.
pub(crate) struct Unproven<'a> {
    /// What the signature is of.
    pub(crate) message: &'a [u8],
    pub(crate) signature: Vec<u8>,
    pub(crate) algorithm: Algorithm,
    pub(crate) kid: Option<String>,
    pub(crate) times: Times,
    pub(crate) claims: Map<String, Value>,
}

/// When a token may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Times {
    expires: Timestamp,
    /// The later of `nbf` and `iat`.
    begins: Option<Timestamp>,
}

impl Times {
    /// Whether the token may be used now.
    pub(crate) fn check(self, now: Timestamp, leeway: Duration) -> Result<(), Refusal> {
        if now >= self.expires.plus(leeway) {
            return Err(Refusal::Expired);
        }
        match self.begins {
            Some(begins) if now.plus(leeway) < begins => Err(Refusal::NotYet),
            _ => Ok(()),
        }
    }
}

/// Reads a token.
pub(crate) fn read(token: &str) -> Result<Unproven<'_>, Refusal> {
    if token.len() > MAX_TOKEN {
        return Err(Refusal::TooLong);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(Refusal::Malformed)?;
    // A dot left over in either part is no base64.
    let (header, claims) = message.split_once('.').ok_or(Refusal::Malformed)?;
    let decoded = |part: &str| BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Malformed);
    let object = |part: &str| json::object(&decoded(part)?).ok_or(Refusal::Malformed);
    let (header, claims, signature) = (object(header)?, object(claims)?, decoded(signature)?);
    let (algorithm, kid) = of_header(&header)?;
    let times = times(&claims)?;
    let subject = claims.get("sub").and_then(Value::as_str).ok_or(Refusal::Claims)?;
    if !(1..=MAX_SUBJECT).contains(&subject.len()) {
        return Err(Refusal::Claims);
    }
    Ok(Unproven { message: message.as_bytes(), signature, algorithm, kid, times, claims })
}

impl Unproven<'_> {
    /// `iss`.
    pub(crate) fn issuer(&self) -> Result<&str, Refusal> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(Refusal::Claims)
    }

    /// Whether `aud`, a text or a list of texts, names this audience.
    pub(crate) fn is_for(&self, audience: &str) -> Result<bool, Refusal> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => Ok(one == audience),
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => {
                Ok(list.iter().any(|one| one == audience))
            }
            _ => Err(Refusal::Claims),
        }
    }
}

fn of_header(header: &Map<String, Value>) -> Result<(Algorithm, Option<String>), Refusal> {
    // Extensions that must be understood, and none is; a payload that is not what it looks like; a token in a token.
    for name in ["crit", "b64", "zip", "enc", "cty"] {
        if header.contains_key(name) {
            return Err(Refusal::Header);
        }
    }
    // Tokens for other uses have types of their own, such as `dpop+jwt` or `logout+jwt`.
    if let Some(kind) = header.get("typ") {
        let kind = kind.as_str().ok_or(Refusal::Header)?.to_ascii_lowercase();
        if !["jwt", "at+jwt", "application/jwt", "application/at+jwt"].contains(&kind.as_str()) {
            return Err(Refusal::Header);
        }
    }
    let algorithm = header.get("alg").and_then(Value::as_str).ok_or(Refusal::Malformed)?;
    let algorithm = Algorithm::named(algorithm).ok_or(Refusal::Algorithm)?;
    let kid = match header.get("kid") {
        None => None,
        Some(Value::String(kid)) if kid.len() <= MAX_KID => Some(kid.clone()),
        Some(_) => return Err(Refusal::Header),
    };
    Ok((algorithm, kid))
}

fn times(claims: &Map<String, Value>) -> Result<Times, Refusal> {
    let at = |name: &str| claims.get(name).map(|value| date(value).ok_or(Refusal::Claims)).transpose();
    let expires = at("exp")?.ok_or(Refusal::Claims)?;
    Ok(Times { expires, begins: at("nbf")?.max(at("iat")?) })
}

/// Seconds since 1970, perhaps with a fraction.
fn date(value: &Value) -> Option<Timestamp> {
    if let Some(seconds) = value.as_u64() {
        return Some(Timestamp::from_millis(seconds.saturating_mul(1000)));
    }
    let seconds = value.as_f64().filter(|seconds| *seconds >= 0.0)?;
    Duration::try_from_secs_f64(seconds).ok().map(|since| Timestamp::default().plus(since))
}
