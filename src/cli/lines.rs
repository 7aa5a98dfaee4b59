//! The mapping as JSON Lines: one entry a line, `{"user_id", "acs_user_id", "create_time"}`.
//!
//! Reading checks each line by itself and against the lines before it, so that nothing contradictory is sent. A message
//! names the line and the field, never the value. Bounded: a line has a greatest length, and of the lines before only
//! hashes are kept.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::output::{parse_rfc3339, rfc3339};
use crate::broker::types::{IdentityId, UserId};
use crate::grpc::client::Mapping;

/// The longest line that is read, in bytes: far more than two ids of 256 bytes can need.
const MAX_LINE_BYTES: u64 = 16_384;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    user_id: String,
    acs_user_id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    create_time: Option<String>,
}

/// An entry as a line, without the line end.
pub(super) fn write(entry: &Mapping) -> String {
    let line = Line {
        user_id: entry.user_id.clone(),
        acs_user_id: entry.acs_user_id.clone(),
        create_time: entry.created.map(rfc3339),
    };
    // Texts alone: this cannot fail.
    serde_json::to_string(&line).unwrap_or_default()
}

fn parse(text: &str) -> Result<Mapping, String> {
    let line: Line = serde_json::from_str(text).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => {
            "must be an object with the texts user_id, acs_user_id and, optionally, create_time".to_owned()
        }
        _ => format!("is not JSON (column {})", error.column()),
    })?;
    UserId::parse(&line.user_id).map_err(|wrong| format!("user_id {wrong}"))?;
    IdentityId::parse(&line.acs_user_id).map_err(|wrong| format!("acs_user_id {wrong}"))?;
    let created = match &line.create_time {
        None => None,
        Some(text) => Some(
            parse_rfc3339(text)
                .ok_or("create_time must be an RFC 3339 time since 1970, such as 2026-01-31T12:00:00Z")?,
        ),
    };
    Ok(Mapping { user_id: line.user_id, acs_user_id: line.acs_user_id, created })
}

/// What a line turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An entry to send.
    Entry(Mapping),
    /// The same entry as in an earlier line.
    Repeated,
    /// Not to be sent, and why.
    Bad(String),
}

type Hash = [u8; 16];

fn hash(text: &str) -> Hash {
    let mut hash = Hash::default();
    for (to, from) in hash.iter_mut().zip(Sha256::digest(text.as_bytes())) {
        *to = from;
    }
    hash
}

/// Reads entries line by line.
pub(super) struct Reader<R> {
    from: R,
    line: u64,
    users: HashMap<Hash, (Hash, u64)>,
    identities: HashMap<Hash, (Hash, u64)>,
}

impl<R: BufRead> Reader<R> {
    /// A reader from the first line on.
    pub(super) fn new(from: R) -> Self {
        Self { from, line: 0, users: HashMap::new(), identities: HashMap::new() }
    }

    /// The next line that is not blank, with its number; none at the end.
    pub(super) fn next(&mut self) -> std::io::Result<Option<(u64, Outcome)>> {
        loop {
            let mut bytes = Vec::new();
            let size = self.from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)?;
            if size == 0 {
                return Ok(None);
            }
            self.line += 1;
            if bytes.last() != Some(&b'\n') && size as u64 == MAX_LINE_BYTES {
                self.skip_line()?;
                return Ok(Some((self.line, Outcome::Bad(format!("is longer than {MAX_LINE_BYTES} bytes")))));
            }
            let Ok(text) = std::str::from_utf8(&bytes) else {
                return Ok(Some((self.line, Outcome::Bad("is not UTF-8".into()))));
            };
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if text.trim().is_empty() {
                continue;
            }
            let read = match parse(text) {
                Ok(entry) => self.compare(entry),
                Err(what) => Outcome::Bad(what),
            };
            return Ok(Some((self.line, read)));
        }
    }

    fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.from.fill_buf()?;
            let (length, end) = match buffer.iter().position(|byte| *byte == b'\n') {
                Some(at) => (at + 1, true),
                None => (buffer.len(), buffer.is_empty()),
            };
            self.from.consume(length);
            if end {
                return Ok(());
            }
        }
    }

    fn compare(&mut self, entry: Mapping) -> Outcome {
        let (user, identity) = (hash(&entry.user_id), hash(&entry.acs_user_id));
        match (self.users.get(&user), self.identities.get(&identity)) {
            (None, None) => {
                self.users.insert(user, (identity, self.line));
                self.identities.insert(identity, (user, self.line));
                Outcome::Entry(entry)
            }
            (Some((known, _)), _) if *known == identity => Outcome::Repeated,
            (Some((_, line)), _) => {
                Outcome::Bad(format!("contradicts line {line}: the same user_id with another acs_user_id"))
            }
            (None, Some((_, line))) => {
                Outcome::Bad(format!("contradicts line {line}: the same acs_user_id with another user_id"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Timestamp;

    fn read(text: impl AsRef<[u8]>) -> Vec<(u64, String)> {
        let mut reader = Reader::new(text.as_ref());
        let mut lines = Vec::new();
        while let Some((line, read)) = reader.next().unwrap() {
            let read = match read {
                Outcome::Entry(_) => "entry".to_owned(),
                Outcome::Repeated => "repeated".to_owned(),
                Outcome::Bad(what) => what,
            };
            lines.push((line, read));
        }
        lines
    }

    #[test]
    fn each_bad_line_is_told_by_number_and_field_without_its_value() {
        let text = concat!(
            "\u{feff}{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:1\"}\n",
            "\n",
            "{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:1\",\"create_time\":\"2026-01-31T12:00:00Z\"}\r\n",
            "{\"user_id\":\"a\",\"acs_user_id\":\"8:acs:2\"}\n",
            "{\"user_id\":\"b\",\"acs_user_id\":\"8:acs:1\"}\n",
            "{\"user_id\":\"b\"\n",
            "{\"user_id\":7,\"acs_user_id\":\"canary\"}\n",
            "{\"user_id\":\"b\",\"acs_user_id\":\"c\",\"canary\":1}\n",
            "{\"user_id\":\"\",\"acs_user_id\":\"c\"}\n",
            "{\"user_id\":\"b\",\"acs_user_id\":\" canary\"}\n",
            "{\"user_id\":\"b\",\"acs_user_id\":\"c\",\"create_time\":\"canary\"}\n",
            "{\"user_id\":\"b\",\"acs_user_id\":\"c\"}",
        );
        let object = "must be an object with the texts user_id, acs_user_id and, optionally, create_time";
        let time = "create_time must be an RFC 3339 time since 1970, such as 2026-01-31T12:00:00Z";
        let expected = [
            (1, "entry"),
            (3, "repeated"),
            (4, "contradicts line 1: the same user_id with another acs_user_id"),
            (5, "contradicts line 1: the same acs_user_id with another user_id"),
            (6, "is not JSON (column 0)"),
            (7, object),
            (8, object),
            (9, "user_id must not be empty"),
            (10, "acs_user_id must not start or end with white space"),
            (11, time),
            (12, "entry"),
        ];
        let found = read(text);
        let found: Vec<(u64, &str)> = found.iter().map(|(line, what)| (*line, what.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn an_endless_line_is_skipped_and_the_next_one_read() {
        let mut text = vec![b'x'; 100_000];
        text.extend_from_slice(b"\n{\"user_id\":\"b\",\"acs_user_id\":\"c\"}\n\xff\xfe\n");
        assert_eq!(
            read(&text),
            [
                (1, "is longer than 16384 bytes".to_owned()),
                (2, "entry".to_owned()),
                (3, "is not UTF-8".to_owned())
            ]
        );
    }

    fn id() -> impl Strategy<Value = String> {
        "[^\\p{C}]{1,40}".prop_filter("a valid id", |id| UserId::parse(id).is_ok())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(user_id in id(), acs_user_id in id(), millis in 0u64..253_402_300_799_999) {
            let entry = Mapping { user_id, acs_user_id, created: Some(Timestamp::from_millis(millis)) };
            let line = write(&entry);
            prop_assert!(!line.contains('\n'));
            prop_assert_eq!(parse(&line), Ok(entry));
        }

        #[test]
        fn no_input_makes_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes);
        }
    }
}
