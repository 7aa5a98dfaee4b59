//! `[audit]`: whether, where and how strictly is recorded. Used by `config`.

use serde::Deserialize;

use crate::secret::Secret;

/// `[audit]`. Ranges are checked by [`Settings::problems`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file; empty: nothing is recorded.
    pub file: String,
    /// What the chain and the hashes are made with; empty if it comes from the file. `config` resolves the two.
    #[serde(deserialize_with = "secret")]
    pub key: Secret,
    /// The file that holds the key.
    pub key_file: String,
    /// Whether calls are refused while their records cannot be written.
    pub fail_closed: bool,
    /// How long a file gets before the next one is begun.
    pub max_bytes: u64,
    /// How many full files are kept.
    pub keep: u32,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

impl Default for Settings {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        Self {
            file: String::new(),
            key: Secret::new(""),
            key_file: String::new(),
            fail_closed: false,
            max_bytes: 67_108_864,
            keep: 16,
        }
    }
}

impl Settings {
    /// The shortest key, in bytes.
    pub const MIN_KEY: usize = 32;

    /// Records to this file with this key.
    pub fn to_file(file: impl Into<String>, key: Secret) -> Self {
        Self { file: file.into(), key, ..Self::default() }
    }

    /// What is wrong, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let length = self.key.expose().len();
        if self.file.is_empty() {
            if self.fail_closed {
                let what = "must be set, for audit.fail_closed refuses every call that is not recorded";
                problems.push(("file", what.into()));
            }
        } else if length == 0 {
            let what = "is not set; set it or its _file twin, for the chain and the hashes are made with it";
            problems.push(("key", what.into()));
        }
        if (1..Self::MIN_KEY).contains(&length) {
            problems.push(("key", format!("must have at least {} bytes", Self::MIN_KEY)));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        audit: Settings,
    }

    #[test]
    fn the_defaults_are_those_of_the_default_file() {
        let file: File = toml::from_str(include_str!("../../config/default.toml")).unwrap();
        assert_eq!(format!("{:?}", file.audit), format!("{:?}", Settings::default()));
        assert!(Settings::default().problems().is_empty());
    }

    #[test]
    fn a_file_needs_a_key_and_fail_closed_needs_a_file() {
        let keys =
            |settings: Settings| settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let with = |file: &str, key: &str| Settings::to_file(file, Secret::new(key));
        assert_eq!(keys(with("audit.log", "")), ["key"]);
        assert_eq!(keys(with("audit.log", &"x".repeat(31))), ["key"]);
        assert_eq!(keys(with("audit.log", &"x".repeat(32))), [""; 0]);
        assert_eq!(keys(Settings { fail_closed: true, ..with("", "") }), ["file"]);
    }
}
