//! Identities and their latest tokens as the inbox and the control paths show them.
//!
//! It never shows a token: six characters of its beginning and four of its end are all that is kept of one. Used by
//! `control`.

use serde_json::{Value, json};

use super::state::{Identity, State, TokenState};
use crate::clock::Timestamp;
use crate::emulator::times;

/// A shorter text is no token that was signed here, and would be shown whole.
const SHORTEST: usize = 40;

impl State {
    /// The living identities, newest first, each with its latest tokens.
    pub(in crate::emulator) fn listing(&self, now: Timestamp, limit: usize) -> Vec<Value> {
        let newest_first = self.order.values().rev().take(limit);
        newest_first
            .filter_map(|id| self.identities.get(id).map(|identity| self.describe(id, identity, now)))
            .collect()
    }

    fn describe(&self, id: &str, identity: &Identity, now: Timestamp) -> Value {
        let tokens = identity.recent.iter().rev().filter_map(|digest| self.tokens.get(digest));
        let tokens: Vec<Value> = tokens
            .map(|token| {
                json!({
                    "masked": masked(token.edges),
                    "scopes": token.scopes,
                    "issued_at": times::iso_8601(token.issued),
                    "expires_at": times::iso_8601(token.expires),
                    "state": self.state_of(token, now).name(),
                })
            })
            .collect();
        json!({
            "id": id,
            "custom_id": identity.custom_id,
            "last_token_issued_at": identity.last_token_issued.map(times::iso_8601),
            "tokens": tokens,
        })
    }
}

impl TokenState {
    /// Its name in listings.
    const fn name(&self) -> &'static str {
        match self {
            Self::Valid { .. } => "valid",
            Self::Revoked => "revoked",
            Self::Deleted => "deleted",
            Self::Expired => "expired",
            Self::KeyRotated => "key_rotated",
            Self::Unknown => "unknown",
        }
    }
}

/// What is kept of a token's text: its first six characters and its last four.
pub(super) fn edges(text: &str) -> [u8; 10] {
    let mut edges = [b'*'; 10];
    if text.len() >= SHORTEST {
        let ends = text.bytes().take(6).chain(text.bytes().skip(text.len() - 4));
        for (kept, byte) in edges.iter_mut().zip(ends) {
            *kept = byte;
        }
    }
    edges
}

/// `eyJhbG…0a1B`.
fn masked(edges: [u8; 10]) -> String {
    let (begin, end) = edges.split_at(6);
    format!("{}…{}", String::from_utf8_lossy(begin), String::from_utf8_lossy(end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn at_most_ten_characters_of_a_token_are_kept(text in "[ -~]{0,300}") {
            let shown = masked(edges(&text));
            prop_assert_eq!(shown.chars().count(), 11);
            if text.len() >= SHORTEST {
                prop_assert!(text.starts_with(&shown[..6]) && text.ends_with(&shown[shown.len() - 4..]));
            } else {
                prop_assert_eq!(shown, "******…****");
            }
        }
    }

    #[test]
    fn a_text_that_is_not_ascii_does_no_harm() {
        masked(edges(&"ü".repeat(100)));
    }
}
