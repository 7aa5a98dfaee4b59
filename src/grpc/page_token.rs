//! Page tokens: a position in the store as opaque text.
//!
//! base64url of a version byte, the store's bytes and the start of their SHA-256. The checksum guards against tokens
//! that were cut or mixed up, not against forgers: a position gives nothing that listing from the start would not.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// The format below. Another format takes another number.
const VERSION: u8 = 1;
/// How much of the SHA-256 is kept.
const CHECKSUM_BYTES: usize = 4;
/// The longest token looked at; the API promises at most 1 KiB.
const MAX_TEXT_BYTES: usize = 1024;
/// Likewise where the place is one that ACS made; the API promises at most 8 KiB.
const MAX_LIST_TEXT_BYTES: usize = 8 * 1024;
/// How much of the digest of a list is kept.
const SEAL_BYTES: usize = 12;

/// The token for a position.
pub(crate) fn encode(position: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(1 + position.len() + CHECKSUM_BYTES);
    bytes.push(VERSION);
    bytes.extend_from_slice(position);
    let checksum = checksum(&bytes);
    bytes.extend_from_slice(&checksum);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The position of a token; none if this function's twin did not make it.
pub(crate) fn decode(token: &str) -> Option<Vec<u8>> {
    if token.len() > MAX_TEXT_BYTES { None } else { opened(token) }
}

/// The token for a place in one list; `list` is everything that makes it another list: its name, who asks, what for.
pub(crate) fn encode_of(list: &[&str], place: &str) -> String {
    encode(&[&seal(list), place.as_bytes()].concat())
}

/// The place of a token of this very list; none for a token of any other.
pub(crate) fn decode_of(list: &[&str], token: &str) -> Option<String> {
    if token.len() > MAX_LIST_TEXT_BYTES {
        return None;
    }
    let bytes = opened(token)?;
    let (sealed, place) = bytes.split_first_chunk::<SEAL_BYTES>()?;
    if *sealed == seal(list) { String::from_utf8(place.to_vec()).ok() } else { None }
}

/// A short digest of a list, each part told from the next by its length.
fn seal(list: &[&str]) -> [u8; SEAL_BYTES] {
    let mut digest = Sha256::new();
    for part in list {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let mut seal = [0; SEAL_BYTES];
    for (to, from) in seal.iter_mut().zip(digest.finalize()) {
        *to = from;
    }
    seal
}

fn opened(token: &str) -> Option<Vec<u8>> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (content, sum) = bytes.split_last_chunk::<CHECKSUM_BYTES>()?;
    let (&version, position) = content.split_first()?;
    (version == VERSION && *sum == checksum(content)).then(|| position.to_vec())
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let mut sum = [0; CHECKSUM_BYTES];
    for (to, from) in sum.iter_mut().zip(Sha256::digest(content)) {
        *to = from;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_token_with_any_character_changed_cut_or_added_is_refused() {
        let token = encode(b"some position");
        for at in 0..token.len() {
            let mut other = token.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(decode(&String::from_utf8(other).unwrap()), None, "{at}");
            assert_eq!(decode(&token[..at]), None, "{at}");
        }
        for other in [format!("{token}A"), format!("{token}="), "é".into(), " ".into(), "A".repeat(2000)] {
            assert_eq!(decode(&other), None, "{other}");
        }
    }

    #[test]
    fn the_longest_position_of_a_store_fits_the_promised_length() {
        assert!(encode(&[7; 512]).len() <= MAX_TEXT_BYTES);
        assert_eq!(decode(&encode(&[7; 512])).unwrap(), [7; 512]);
    }

    #[test]
    fn a_token_of_another_list_or_another_user_is_refused() {
        let mine = ["messages", "alice", "thread", ""];
        let token = encode_of(&mine, "syncState=abc");
        assert_eq!(decode_of(&mine, &token).as_deref(), Some("syncState=abc"));
        for other in [
            ["messages", "bob", "thread", ""],
            ["messages", "alice", "another", ""],
            ["receipts", "alice", "thread", ""],
            ["messages", "alice", "thread", "1"],
            ["messages", "alicethread", "", ""],
        ] {
            assert_eq!(decode_of(&other, &token), None, "{other:?}");
        }
        assert_eq!(decode_of(&mine, &encode(b"some position of the mapping")), None);
    }

    proptest! {
        #[test]
        fn places_survive_the_round_trip(list in proptest::collection::vec(".{0,20}", 0..4), place in ".{0,900}") {
            let list: Vec<&str> = list.iter().map(String::as_str).collect();
            prop_assert_eq!(decode_of(&list, &encode_of(&list, &place)), Some(place));
        }

        #[test]
        fn no_text_panics_in_a_list(text in ".*") {
            let _ = decode_of(&["messages"], &text);
        }

        #[test]
        fn positions_survive_the_round_trip(position in proptest::collection::vec(any::<u8>(), 0..513)) {
            prop_assert_eq!(decode(&encode(&position)), Some(position));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = decode(&text);
        }
    }
}
