//! Fuzz target: files that somebody else made for the commands: the mapping as JSON Lines.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::lines::{Outcome, Reader, write};
use crate::fuzzing::assert_silent;

/// A file to import: what is sent is written again the same, and no complaint repeats a value.
pub fn lines(data: &[u8]) {
    let mut reader = Reader::new(data);
    let (mut before, mut entries) = (0, Vec::new());
    while let Some((line, outcome)) = reader.next().expect("bytes in memory can be read") {
        assert!(line > before, "a line comes twice");
        before = line;
        match outcome {
            Outcome::Entry(entry) => entries.push(entry),
            Outcome::Repeated => {}
            Outcome::Bad(what) => {
                assert_silent("a complaint about a line", &what);
                assert!(!what.contains(char::is_control) && what.len() <= 512);
            }
        }
    }
    let written: Vec<String> = entries.iter().map(write).collect();
    let text = written.join("\n");
    let mut again = Reader::new(text.as_bytes());
    for entry in &entries {
        let (_, outcome) = again.next().expect("bytes in memory can be read").expect("a line for each entry");
        assert!(outcome == Outcome::Entry(entry.clone()), "an entry is another after a round");
    }
    assert!(again.next().expect("bytes in memory can be read").is_none());
}
