//! Text that must not be seen: access keys, connection strings, access tokens.
//!
//! A [`Secret`] is wiped when dropped, compares in constant time and has no readable `Debug`; it has no `Display` and
//! no serde, so that showing one is always a deliberate call of [`Secret::expose`].

use std::fmt;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// A secret text.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(SecretString::from(text.into()))
    }

    /// The text itself, for the one place that must send it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.expose().is_empty()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "<unset>" } else { "<set>" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_text_tells_only_whether_it_is_set() {
        assert_eq!(format!("{:?} {:?}", Secret::new("hunter2"), Secret::new("")), "<set> <unset>");
    }

    #[test]
    fn equality_is_that_of_the_texts() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("aa"));
    }
}
