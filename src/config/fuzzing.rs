//! Fuzz targets: settings files and environments, as an operator may mistype them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::layers::{Layers, key_of_variable};
use super::{Purpose, Source, settle};
use crate::fuzzing::{CANARY, assert_silent};

thread_local! {
    /// Read once: the file of defaults is larger than any input.
    static DEFAULTS: Layers = Layers::new();
    static PATHS: Vec<String> = {
        let is_path = |key: &String| key.ends_with("_file") || key.ends_with("data_dir");
        DEFAULTS.with(Layers::keys).into_iter().filter(is_path).collect()
    };
}

/// A settings file; after a line `%%`, variables, one a line. No value is repeated, neither in a problem nor, if it is a
/// secret, in what `check-config` prints or in `Debug`.
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (file, variables) = text.split_once("\n%%\n").unwrap_or((text, ""));
    let mut layers = DEFAULTS.with(Layers::clone);
    layers.lay_file(file, "fuzzed.toml");
    for variable in variables.lines() {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        if let Some(key) = key_of_variable(name) {
            layers.lay_text(&key, value, &Source::Variable(name.to_owned()));
        }
    }
    // Paths are opened; what is there is the machine's business and no parser's.
    PATHS.with(|paths| paths.iter().for_each(|key| assert!(layers.reset(key))));
    let flag = Source::Flag("--planted");
    layers.lay_text("webhook.secret", &format!("{CANARY}-of-the-webhook"), &flag);
    layers.lay_text("store.redis.password", &format!("{CANARY}-of-redis"), &flag);
    layers.lay_text(
        "acs.connection_string",
        &format!("endpoint=https://acs.example/;accesskey={CANARY}="),
        &flag,
    );
    match settle(layers, Purpose::Serve) {
        Ok(config) => {
            let shown = config.render();
            if !named(text) {
                assert_silent("Debug of the settings", &format!("{config:?}"));
                assert_silent("check-config", shown);
            }
            toml::from_str::<toml::Table>(shown).expect("what check-config prints is TOML");
        }
        Err(problems) => {
            assert!(!problems.0.is_empty());
            for problem in &problems.0 {
                // A key is named, also an unknown one; a value never is.
                if !problem.key.to_ascii_lowercase().contains(CANARY) && !named(&problem.source.to_string()) {
                    assert_silent("a problem with the settings", &problem.to_string());
                }
            }
        }
    }
}

/// Whether the canary stands somewhere that is shown on purpose: in a plain setting.
fn named(text: &str) -> bool {
    text.to_ascii_lowercase().contains(CANARY)
}
