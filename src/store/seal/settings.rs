//! The settings of sealing, `[store.seal]`, and what may be wrong with them.
//!
//! Pure: the key file is not read here, and no problem repeats a value. Used by `config` and by [`super::Vault`].

use serde::{Deserialize, Deserializer};

use super::names;
use crate::secret::Secret;

/// What is done with the key ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// What is written is sealed; what is not sealed is read too.
    Seal,
    /// What is written is not sealed; what is sealed is read too. The way back.
    Open,
    /// What is written is sealed, and what is not sealed counts as not there, or as damaged.
    Require,
}

/// `[store.seal]`; `config/default.toml` explains each setting and holds its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file of the key ring; empty for none.
    pub keys_file: String,
    /// What is done with it.
    pub mode: Mode,
    /// What user ids are hashed with in keys; empty to have them there as they are.
    #[serde(deserialize_with = "secret")]
    pub hash_key: Secret,
    /// A file that holds `hash_key`.
    pub hash_key_file: String,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys_file: String::new(),
            mode: Mode::Seal,
            hash_key: Secret::new(""),
            hash_key_file: String::new(),
        }
    }
}

impl Settings {
    /// Every problem: the key under `[store.seal]`, and what is wrong with it. The hash key must be in place already.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.keys_file.is_empty() && self.mode != Mode::Seal {
            problems.push(("mode", "is set, but keys_file is not; set keys_file too".into()));
        }
        if !self.hash_key.is_empty() && self.hash_key.expose().len() < names::LEAST_KEY_BYTES {
            let what =
                format!("must have at least {} bytes; openssl rand -base64 32", names::LEAST_KEY_BYTES);
            problems.push(("hash_key", what));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_file_names_exactly_these_settings_and_defaults() {
        let file: toml::Table = toml::from_str(include_str!("../../../config/default.toml")).unwrap();
        let settings: Settings = file["store"]["seal"].clone().try_into().unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
        assert_eq!(settings.problems(), []);
    }

    #[test]
    fn a_short_hash_key_and_a_mode_without_keys_are_problems() {
        let short = Settings { hash_key: Secret::new("hunter2".repeat(4)), ..Settings::default() };
        let text = format!("{:?}", short.problems());
        assert!(text.contains("hash_key") && !text.contains("hunter2"), "{text}");
        let long = Settings { hash_key: Secret::new("x".repeat(32)), ..Settings::default() };
        assert_eq!(long.problems(), []);
        let required = Settings { mode: Mode::Require, ..Settings::default() };
        assert_eq!(required.problems().first().map(|(key, _)| *key), Some("mode"));
    }
}
