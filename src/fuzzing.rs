//! What the fuzz targets have in common: how they cut an input into parts, and the canary that no error may repeat.
//!
//! Only built for cargo-fuzz and for tests; no part of the library. Each component has its targets in a `fuzzing` of its
//! own, because that is where its parsers can be seen. `fuzz/fuzz_targets` has one program for each, and the tests here
//! play the inputs in `fuzz/seeds` to all of them, so that no target can rot.

/// Stands in the seeds wherever somebody's own text does: ids, numbers, tokens, texts. No error may hold it.
pub const CANARY: &str = "canary4bird";

/// Fails if a text holds the canary; `what` says which text.
///
/// # Panics
///
/// It does: that is how a fuzzer learns of a finding.
#[track_caller]
pub fn assert_silent(what: &str, text: &str) {
    let found = text.to_ascii_lowercase().contains(CANARY);
    assert!(!found, "{what} repeats a value: {text}");
}

/// An input that is being cut into parts.
#[derive(Debug, Clone, Copy)]
pub struct Input<'d>(pub &'d [u8]);

impl<'d> Input<'d> {
    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// What is left up to a line end, which is dropped.
    pub fn line(&mut self) -> &'d [u8] {
        self.until(b"\n")
    }

    /// What is left up to this separator, which is dropped; all of it if there is none.
    pub fn until(&mut self, separator: &[u8]) -> &'d [u8] {
        let at = self.0.windows(separator.len().max(1)).position(|window| window == separator);
        let (part, rest) = match at {
            Some(at) => (self.0.get(..at), self.0.get(at + separator.len()..)),
            None => (Some(self.0), None),
        };
        self.0 = rest.unwrap_or_default();
        part.unwrap_or_default()
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All that is left, as text; bytes that are none are replaced.
    pub fn text(self) -> String {
        String::from_utf8_lossy(self.0).into_owned()
    }
}

#[cfg(test)]
mod tests;
