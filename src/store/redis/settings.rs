//! The settings of the Redis backend, `[store.redis]`, and what may be wrong with them.
//!
//! Pure: checking settings never connects. Problems name the key and the mend, never a value that may be secret.
//! Used by `config`, which composes and checks settings, and by `redis::open`.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::secret::Secret;

/// How the Redis nodes are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topology {
    /// One node, or one address that always leads to the primary.
    Single,
    /// A Redis Cluster.
    Cluster,
    /// A primary with replicas, watched by Sentinels.
    Sentinel,
}

/// `[store.redis]`; `config/default.toml` explains each setting and holds its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The URLs of the nodes or Sentinels, separated by commas.
    #[serde(deserialize_with = "secret")]
    pub url: Secret,
    /// A file that holds `url`.
    pub url_file: String,
    /// How the nodes are arranged.
    pub topology: Topology,
    /// The name of the monitored master.
    pub sentinel_master: String,
    /// The ACL user; empty for the one in the URL, or the default user.
    pub username: String,
    /// The password; empty for the one in the URL, or none.
    #[serde(deserialize_with = "secret")]
    pub password: Secret,
    /// A file that holds `password`.
    pub password_file: String,
    /// A PEM file of a CA to trust beside the system's.
    pub ca_file: String,
    /// Put before every key.
    pub prefix: String,
    /// The time for one command, reconnecting included.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// Commands under way at the same time.
    pub max_concurrency: usize,
    /// Start although the Redis may evict keys that never expire.
    pub allow_eviction: bool,
    /// Whether messages are sent, whose records must not be evicted; known from other settings.
    #[serde(skip)]
    pub keeps_messages: bool,
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            url: Secret::new(""),
            url_file: String::new(),
            topology: Topology::Single,
            sentinel_master: String::new(),
            username: String::new(),
            password: Secret::new(""),
            password_file: String::new(),
            ca_file: String::new(),
            prefix: "acsb".into(),
            timeout: Duration::from_millis(100),
            max_concurrency: 1024,
            allow_eviction: false,
            keeps_messages: false,
        }
    }
}

impl Settings {
    /// Every problem: the key under `[store.redis]`, and what is wrong with it. Secrets that come from a `_file` must
    /// be in place already.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(problem) = super::address::parse(self) {
            problems.push(problem);
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if self.prefix.is_empty() || self.prefix.len() > 32 || !self.prefix.bytes().all(allowed) {
            problems.push(("prefix", "must be 1 to 32 ASCII letters, digits, `-` or `_`".into()));
        }
        if !(Duration::from_millis(10)..=Duration::from_secs(5)).contains(&self.timeout) {
            problems.push(("timeout", "must be from 10ms to 5s".into()));
        }
        if !(1..=100_000).contains(&self.max_concurrency) {
            problems.push(("max_concurrency", "must be from 1 to 100000".into()));
        }
        match (self.topology, self.sentinel_master.is_empty()) {
            (Topology::Sentinel, true) => problems.push((
                "sentinel_master",
                "must be set with topology \"sentinel\": the name in `sentinel monitor <name> …`".into(),
            )),
            (Topology::Single | Topology::Cluster, false) => problems.push((
                "sentinel_master",
                "is set, but topology is not \"sentinel\"; unset one of them".into(),
            )),
            _ => {}
        }
        if !self.username.is_empty() && self.password.is_empty() {
            problems
                .push(("username", "is set without a password; set password or password_file too".into()));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings { url: Secret::new("redis://127.0.0.1:6379"), ..Settings::default() }
    }

    fn keys_of(settings: &Settings) -> Vec<&'static str> {
        settings.problems().into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_default_file_names_exactly_these_settings_and_defaults() {
        let file: toml::Table = toml::from_str(include_str!("../../../config/default.toml")).unwrap();
        let section = file["store"]["redis"].clone();
        let settings: Settings = section.try_into().unwrap();
        assert_eq!(format!("{settings:?}"), format!("{:?}", Settings::default()));
    }

    #[test]
    fn each_bad_setting_is_named_and_all_are_reported_together() {
        assert_eq!(keys_of(&good()), Vec::<&str>::new());
        let bad = Settings {
            url: Secret::new("http://x"),
            prefix: "a b".into(),
            timeout: Duration::from_secs(6),
            max_concurrency: 0,
            topology: Topology::Sentinel,
            username: "broker".into(),
            ..good()
        };
        assert_eq!(
            keys_of(&bad),
            ["url", "prefix", "timeout", "max_concurrency", "sentinel_master", "username"]
        );
        assert_eq!(keys_of(&Settings { sentinel_master: "m".into(), ..good() }), ["sentinel_master"]);
        for prefix in ["", "a{b", "a:b", "ä", &"x".repeat(33)] {
            assert_eq!(keys_of(&Settings { prefix: prefix.into(), ..good() }), ["prefix"], "{prefix}");
        }
    }

    #[test]
    fn no_problem_and_no_debug_text_shows_a_secret() {
        for url in ["hunter2", "redis://u:hunter2@", "redis://:hunter2@h:99999", "http://:hunter2@h"] {
            let bad =
                Settings { url: Secret::new(url), password: Secret::new("hunter2"), ..Settings::default() };
            let text = format!("{:?} {:?}", bad, bad.problems());
            assert!(!bad.problems().is_empty(), "{url}");
            assert!(!text.contains("hunter2"), "{text}");
        }
    }
}
