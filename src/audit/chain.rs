//! The chain: how a record becomes a line, and how a line is bound to all before it.
//!
//! A line is a JSON object whose last member is `hash`: HMAC-SHA-256, under a key made of `audit.key`, of the hash before
//! and of the bytes of this line before `,"hash"`. Whoever lacks the key can neither change a line nor add, drop or move
//! one without breaking every hash after it. Pure: no file is touched here. Used by `file` to write and `verify` to read.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// The hash of a line.
pub(super) type Hash = [u8; 32];

/// The hash before the first line of all.
pub(super) const GENESIS: Hash = [0; 32];

/// `,"hash":"` and 64 digits and `"}`.
const SUFFIX: usize = 9 + 64 + 2;

/// What every line of ours begins with; tells an audit file from any other.
pub(super) const PREFIX: &[u8] = b"{\"seq\":";

/// What is made of the audit key. Has no `Debug`.
#[derive(Clone)]
pub(super) struct Keys {
    chain: Hmac<Sha256>,
    subject: Hmac<Sha256>,
    /// Tells keys apart; says nothing about them.
    pub(super) id: [u8; 8],
}

#[expect(
    clippy::expect_used,
    reason = "HMAC takes keys of any length: RFC 2104 hashes long ones, pads short ones"
)]
fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any key length")
}

impl Keys {
    /// Two keys and a name, none of which tells the others.
    pub(super) fn new(key: &Secret) -> Self {
        let made = |purpose: &str| -> Hash {
            let mac = keyed(key.expose().as_bytes());
            mac.chain_update(b"acs-broker audit ").chain_update(purpose).finalize().into_bytes().into()
        };
        Self { chain: keyed(&made("chain")), subject: keyed(&made("subject")), id: first(&made("key id")) }
    }

    /// The hash of a line with this body after a line with that hash.
    pub(super) fn link(&self, before: &Hash, body: &[u8]) -> Hash {
        self.chain.clone().chain_update(before).chain_update(body).finalize().into_bytes().into()
    }

    /// Stands for a user, a number or an address: the same for the same one, and telling nothing without the key.
    pub(super) fn subject(&self, kind: &str, value: &str) -> [u8; 16] {
        let mac = self.subject.clone().chain_update(kind).chain_update([0]).chain_update(value);
        first(&mac.finalize().into_bytes().into())
    }

    /// The key's name as lines write it.
    pub(super) fn name(&self) -> String {
        hex(&self.id)
    }
}

fn first<const N: usize>(hash: &Hash) -> [u8; N] {
    let mut part = [0; N];
    for (to, from) in part.iter_mut().zip(hash) {
        *to = *from;
    }
    part
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push_hex(&mut text, bytes);
    text
}

/// Appends bytes as lower-case hexadecimal digits.
pub(super) fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    for byte in bytes {
        for digit in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(digit)).copied().unwrap_or('0'));
        }
    }
}

/// The hash that 64 lower-case hexadecimal digits write.
pub(super) fn parse_hash(text: &str) -> Option<Hash> {
    let text = text.as_bytes();
    let mut hash = [0; 32];
    if text.len() != 64 {
        return None;
    }
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for (to, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *to = digit(*high)? << 4 | digit(*low)?;
    }
    Some(hash)
}

/// SHA-256 of what a crash left of a line, for the record that closes it.
pub(super) fn torn_hash(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Where the next line goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the next line; the first of all is 1.
    pub(super) seq: u64,
    /// The hash of the line before.
    pub(super) before: Hash,
}

impl Place {
    /// The beginning of a chain.
    pub(super) const START: Self = Self { seq: 1, before: GENESIS };

    /// Appends the line of `content`, which is JSON members without their braces, and moves on.
    pub(super) fn append(&mut self, keys: &Keys, content: &str, to: &mut String) {
        let start = to.len();
        // Writing to a String cannot fail.
        let _ = write!(to, "{{\"seq\":{},{content}", self.seq);
        let body = to.get(start..).unwrap_or_default();
        self.before = keys.link(&self.before, body.as_bytes());
        self.seq = self.seq.saturating_add(1);
        to.push_str(",\"hash\":\"");
        push_hex(to, &self.before);
        to.push_str("\"}\n");
    }
}

/// What a reader needs of a line; other members are for people.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Line {
    /// Its number.
    pub(super) seq: u64,
    /// When it was written.
    pub(super) time: String,
    /// `file`, `call`, `decision`, `effect` or `event`.
    pub(super) kind: String,
    /// What happened, of an event.
    #[serde(default)]
    pub(super) event: Option<String>,
    /// Of a `file` line: the chain it belongs to.
    #[serde(default)]
    pub(super) chain: Option<String>,
    /// Of a `file` line: which file of the chain this is, from 1.
    #[serde(default)]
    pub(super) part: Option<u64>,
    /// Of a `file` line: the name of the key of this file.
    #[serde(default)]
    pub(super) key: Option<String>,
    /// Of a `file` line: the last hash of the file before.
    #[serde(default)]
    pub(super) prev: Option<String>,
    /// Of an event: how many.
    #[serde(default, deserialize_with = "text_or_number")]
    pub(super) count: Option<String>,
    /// How many bytes before this line a crash left.
    #[serde(default)]
    pub(super) torn_bytes: Option<u64>,
    /// Their SHA-256.
    #[serde(default)]
    pub(super) torn_sha256: Option<String>,
    /// The hash, as written.
    hash: String,
}

/// Details of events are texts, the count of an effect is a number.
fn text_or_number<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match serde_json::Value::deserialize(deserializer)? {
        serde_json::Value::String(text) => Some(text),
        other => Some(other.to_string()),
    })
}

/// A line, told apart into what is hashed and the hash.
#[derive(Debug, Clone)]
pub(super) struct Read<'a> {
    /// Its members.
    pub(super) line: Line,
    /// What the hash covers.
    body: &'a [u8],
    /// The hash.
    pub(super) hash: Hash,
}

impl<'a> Read<'a> {
    /// Reads a line without its line end; none if it is no line of ours.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if !bytes.starts_with(PREFIX) {
            return None;
        }
        let (body, suffix) = bytes.split_at_checked(bytes.len().checked_sub(SUFFIX)?)?;
        let line: Line = serde_json::from_slice(bytes).ok()?;
        let hash = parse_hash(&line.hash)?;
        // The hash must stand where it is looked for, not only somewhere in the object.
        let written = format!(",\"hash\":\"{}\"}}", line.hash);
        (suffix == written.as_bytes()).then_some(Self { line, body, hash })
    }

    /// Whether this line follows the one with that hash.
    pub(super) fn follows(&self, keys: &Keys, before: &Hash) -> bool {
        keys.link(before, self.body).ct_eq(&self.hash).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new(&Secret::new("0123456789abcdef0123456789abcdef"))
    }

    #[test]
    fn a_line_is_read_as_it_was_written_and_follows_only_its_own_place() {
        let (keys, mut place, mut text) = (keys(), Place::START, String::new());
        place.append(&keys, "\"time\":\"t\",\"kind\":\"event\"", &mut text);
        let middle = place.clone();
        place.append(&keys, "\"time\":\"t\",\"kind\":\"event\"", &mut text);
        assert_eq!(place.seq, 3);
        let lines: Vec<_> = text.lines().map(|line| Read::parse(line.as_bytes()).unwrap()).collect();
        assert_eq!(lines.iter().map(|read| read.line.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(lines[0].follows(&keys, &GENESIS) && lines[1].follows(&keys, &middle.before));
        assert!(!lines[0].follows(&keys, &middle.before) && !lines[1].follows(&keys, &GENESIS));
        let other = Keys::new(&Secret::new("0123456789abcdef0123456789abcdeF"));
        assert!(!lines[0].follows(&other, &GENESIS));
    }

    #[test]
    fn the_hash_is_that_of_the_published_construction() {
        // Computed with Python's hmac module from the description at the top of this file.
        let (keys, mut place, mut text) = (keys(), Place::START, String::new());
        place.append(
            &keys,
            "\"time\":\"2026-01-02T03:04:05.006Z\",\"kind\":\"event\",\"event\":\"x\"",
            &mut text,
        );
        assert_eq!(hex(&place.before), PYTHON_HASH);
        assert_eq!(hex(&keys.subject("user", "alice")), PYTHON_SUBJECT);
        assert_eq!(keys.name(), PYTHON_KEY);
    }

    const PYTHON_HASH: &str = "0da1a6ec65d5af93f5f1f18dc96159d60a7257c818a91f6cc0ff07265ad12a0a";
    const PYTHON_SUBJECT: &str = "e21587cb2718bfe1a635ffa2aed52ab6";
    const PYTHON_KEY: &str = "1f2d1e699f8d7078";

    #[test]
    fn what_is_no_line_is_not_read_as_one() {
        let (keys, mut place, mut text) = (keys(), Place::START, String::new());
        place.append(&keys, "\"time\":\"t\",\"kind\":\"event\"", &mut text);
        let line = text.trim_end();
        for end in 0..line.len() {
            assert!(Read::parse(&line.as_bytes()[..end]).is_none(), "{end}");
        }
        for other in ["", "{}", "{\"seq\":1}", &format!("{line} "), &line.replace("\"kind\"", "\"sort\"")] {
            assert!(Read::parse(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn hashes_survive_being_written_and_read() {
        let hash = torn_hash(b"x");
        assert_eq!(parse_hash(&hex(&hash)), Some(hash));
        assert_eq!(parse_hash(&hex(&hash).to_uppercase()), None);
        assert_eq!(parse_hash("00"), None);
    }

    #[test]
    fn kinds_of_subjects_do_not_meet() {
        let keys = keys();
        assert_ne!(keys.subject("user", "a"), keys.subject("number", "a"));
        assert_eq!(keys.subject("user", "a"), keys.subject("user", "a"));
    }
}
