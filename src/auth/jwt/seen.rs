//! Tokens that were verified, so that the same token is not verified again with every call.
//!
//! Kept by the SHA-256 of the whole token, never the token itself, and only once it is proven: a flood of forged tokens
//! cannot push a good one out. What is found here still has to be judged by time, issuer and key set; `jwt` does that.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest, Sha256};

use super::token::Times;
use crate::auth::Claims;

/// How many tokens are kept at the most, in two halves.
const HALF: usize = 1024;

/// A token that was verified.
#[derive(Clone)]
pub(super) struct Verified {
    pub(super) claims: Arc<Claims>,
    pub(super) times: Times,
    /// Which issuer of the process it was verified for.
    pub(super) issuer: u64,
    /// Which set of keys it was verified with.
    pub(super) keys: u64,
}

/// Verified tokens by their digest. When the young half is full it becomes the old one, and what was old is forgotten.
#[derive(Default)]
pub(super) struct Seen(Mutex<Halves>);

#[derive(Default)]
struct Halves {
    young: HashMap<[u8; 32], Verified>,
    old: HashMap<[u8; 32], Verified>,
}

/// What a token is kept by.
pub(super) fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Seen {
    /// What was kept of a token.
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Verified> {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verified) = halves.young.get(digest) {
            return Some(verified.clone());
        }
        let verified = halves.old.remove(digest)?;
        halves.put(*digest, verified.clone());
        Some(verified)
    }

    /// Keeps a token that was verified.
    pub(super) fn put(&self, digest: [u8; 32], verified: Verified) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).put(digest, verified);
    }

    /// Forgets every token.
    pub(super) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Halves::default();
    }
}

impl Halves {
    fn put(&mut self, digest: [u8; 32], verified: Verified) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(digest, verified);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::jwt::token::read;
    use crate::auth::jwt::trial::unsigned;

    #[test]
    fn what_is_used_stays_and_memory_is_bounded() {
        let seen = Seen::default();
        let token = unsigned();
        let verified = Verified {
            claims: Arc::new(Claims { issuer: "a".into(), subject: "b".into(), all: serde_json::Map::new() }),
            times: read(&token).unwrap().times,
            issuer: 1,
            keys: 2,
        };
        let used = digest("used");
        seen.put(used, verified.clone());
        for number in 0..10_000 {
            seen.put(digest(&number.to_string()), verified.clone());
            assert!(seen.get(&used).is_some(), "{number}");
        }
        assert!(seen.get(&digest("0")).is_none());
        let halves = seen.0.lock().unwrap();
        assert!(halves.young.len() + halves.old.len() <= 2 * HALF);
    }
}
