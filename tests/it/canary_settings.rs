//! A canary test of the settings: no secret of them in what `check-config` prints, in a problem, or in `Debug`.
//!
//! Which settings are secrets is read from the defaults: each has a `_file` twin. A new one is tested without a change.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use acs_broker::config::{self, Inputs, Purpose};

/// In every secret.
const CANARY: &str = "canary0of0the0settings0d3a7";
/// In those that are base64.
const IN_BASE64: &str = "Y2FuYXJ5MG9mMHRoZTBzZXR0aW5nczBkM2E3";

/// The paths of all settings that are secrets.
fn secrets() -> Vec<String> {
    fn walk(table: &toml::Table, path: &str, found: &mut Vec<String>) {
        for (name, value) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                toml::Value::Table(inner) => walk(inner, &key, found),
                _ if table.contains_key(&format!("{name}_file")) => found.push(key),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&config::DEFAULTS.parse().unwrap(), "", &mut found);
    found
}

/// A value with the canary that the setting takes.
fn planted(key: &str) -> String {
    if key.ends_with("connection_string") {
        // Two keys of one resource; `==` is none of the canary's own.
        let last = if key.contains("secondary") { "Mg==" } else { "MQ==" };
        format!("endpoint=https://contoso.communication.azure.com/;accesskey={IN_BASE64}{last}")
    } else if key.ends_with("url") {
        format!("redis://:{CANARY}@127.0.0.1:1/0")
    } else {
        format!("{CANARY}-{}", key.replace('.', "-"))
    }
}

fn variable(key: &str) -> String {
    format!("ACS_BROKER__{}", key.to_uppercase().replace('.', "__"))
}

/// Every secret in the environment, or in a file that the environment names.
fn environments(folder: &Path) -> [BTreeMap<String, String>; 2] {
    let common = [("ACS_BROKER__STORE__BACKEND".to_owned(), "redis".to_owned())];
    let mut inline = BTreeMap::from(common.clone());
    let mut files = BTreeMap::from(common);
    for key in secrets() {
        let path = folder.join(&key);
        std::fs::write(&path, planted(&key)).unwrap();
        inline.insert(variable(&key), planted(&key));
        files.insert(format!("{}_FILE", variable(&key)), path.to_string_lossy().into_owned());
    }
    [inline, files]
}

fn assert_silent(what: &str, said: &str) {
    for part in [CANARY, IN_BASE64] {
        if let Some(at) = said.find(part) {
            panic!("{what} holds a secret after: {}", &said[at.saturating_sub(200)..at]);
        }
    }
}

#[test]
fn no_secret_of_the_settings_is_printed_whether_they_are_good_or_bad() {
    let secrets = secrets();
    assert!(secrets.len() >= 5 && secrets.contains(&"acs.connection_string".to_owned()), "{secrets:?}");
    let folder = tempfile::tempdir().unwrap();
    for good in environments(folder.path()) {
        let bad = [("SERVER__MAX_IN_FLIGHT", CANARY), ("ACS__TIMEOUT", CANARY), ("TOKENS__FLOOR", "1s")];
        let bad = bad.map(|(key, value)| (format!("ACS_BROKER__{key}"), value.to_owned()));
        let bad: BTreeMap<_, _> = good.clone().into_iter().chain(bad).collect();
        for environment in [&good, &bad] {
            let (purpose, flags) = (Purpose::Serve, &[][..]);
            match config::load(&Inputs { purpose, presumed: &[], file: None, environment, flags }) {
                Ok(config) => {
                    assert_silent("what is printed", config.render());
                    assert_silent("Debug of the settings", &format!("{config:?} {:?}", config.warnings));
                    for key in &secrets {
                        let name = key.rsplit('.').next().unwrap();
                        assert!(config.render().contains(&format!("{name} = \"<set>\"")), "{key} is not set");
                    }
                }
                Err(problems) => {
                    assert!(environment == &bad, "{problems}");
                    assert_silent("a problem with the settings", &format!("{problems} {problems:?}"));
                }
            }
            let checked = Command::new(env!("CARGO_BIN_EXE_acs-broker"))
                .arg("check-config")
                .env_clear()
                .envs(environment)
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let said = [checked.stdout, checked.stderr].concat();
            assert!(!said.is_empty());
            assert_silent("check-config", &String::from_utf8_lossy(&said));
        }
    }
}
