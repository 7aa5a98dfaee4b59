//! Checks the HMAC-SHA256 signature of a request (Microsoft Learn, "Authenticate to Azure Communication Services").
//!
//! Pure. It signs what was received: the raw request target, the `Host` header as sent, the values of the headers
//! that `SignedHeaders` lists. It never tells more than the real service does about what was wrong. Used by `service`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::clock::Timestamp;

/// The parts of a request that a signature covers.
pub(super) struct Received<'a> {
    pub(super) method: &'a str,
    /// Path and query exactly as on the request line.
    pub(super) target: &'a str,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// Why a request is refused with 401.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Refusal {
    /// No signature, or not one made with a current key.
    Denied,
    /// The body is not the one whose hash was signed.
    ContentHash,
    /// Well signed, but too long ago or too far ahead.
    ClockSkew,
}

/// More names than this in `SignedHeaders` is no client's doing.
const MAX_SIGNED_HEADERS: usize = 16;

/// Finds the key that signed the request. Each key comes with the number that the answer names it by. The date must be
/// within `margin` of one of the clocks.
pub(super) fn verify<'k>(
    received: &Received<'_>,
    keys: impl Iterator<Item = (u64, &'k [u8])>,
    clocks: &[Timestamp],
    margin: Duration,
) -> Result<u64, Refusal> {
    let presented = single(received.headers, "authorization").ok_or(Refusal::Denied)?;
    let (signed_headers, signature) = parse(presented).ok_or(Refusal::Denied)?;
    let stated_hash = single(received.headers, "x-ms-content-sha256").ok_or(Refusal::Denied)?;
    let hash = STANDARD.encode(Sha256::digest(received.body));
    if !bool::from(hash.as_bytes().ct_eq(stated_hash.as_bytes())) {
        return Err(Refusal::ContentHash);
    }

    let lists = |name: &str| signed_headers.iter().any(|signed| signed.eq_ignore_ascii_case(name));
    let date_header = ["x-ms-date", "date"].into_iter().find(|name| lists(name)).ok_or(Refusal::Denied)?;
    if !lists("host") || !lists("x-ms-content-sha256") {
        return Err(Refusal::Denied);
    }
    let values: Option<Vec<&str>> =
        signed_headers.iter().map(|name| single(received.headers, name)).collect();
    let values = values.ok_or(Refusal::Denied)?.join(";");
    let text = format!("{}\n{}\n{values}", received.method, received.target);

    // Every key is tried to the end, so that the time taken does not tell which one was nearer.
    let mut signer = None;
    for (number, key) in keys {
        let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { continue };
        mac.update(text.as_bytes());
        let made: Choice = mac.finalize().into_bytes().as_slice().ct_eq(signature.as_slice());
        if bool::from(made) {
            signer = Some(number);
        }
    }
    let signer = signer.ok_or(Refusal::Denied)?;

    let date = single(received.headers, date_header).and_then(imf_fixdate).ok_or(Refusal::Denied)?;
    if !clocks.iter().any(|now| now.since(date).max(date.since(*now)) <= margin) {
        return Err(Refusal::ClockSkew);
    }
    Ok(signer)
}

/// The value of a header that is there exactly once; a repeated one could be read in two ways.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

/// Reads `HMAC-SHA256 SignedHeaders=a;b;c&Signature=base64`.
fn parse(authorization: &str) -> Option<(Vec<&str>, Vec<u8>)> {
    let (scheme, parameters) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("HMAC-SHA256") {
        return None;
    }
    let (mut headers, mut signature) = (None, None);
    for parameter in parameters.trim().split('&') {
        let (name, value) = parameter.split_once('=')?;
        match name {
            "SignedHeaders" if headers.is_none() => headers = Some(value.split(';').collect::<Vec<_>>()),
            "Signature" if signature.is_none() => signature = Some(STANDARD.decode(value).ok()?),
            _ => return None,
        }
    }
    let headers = headers?;
    if headers.len() > MAX_SIGNED_HEADERS || headers.iter().any(|name| name.is_empty()) {
        return None;
    }
    Some((headers, signature?))
}

/// An RFC 1123 date in its one canonical form: two-digit day, English names, the right weekday, `GMT`.
fn imf_fixdate(text: &str) -> Option<Timestamp> {
    let time = httpdate::parse_http_date(text).ok()?;
    (httpdate::fmt_http_date(time) == text).then(|| Timestamp::from_system_time(time))
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
