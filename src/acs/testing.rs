//! Small scripted HTTP servers and settings for the tests of the client and of what stands on it.

use super::Settings;

/// The default settings.
pub(crate) fn settings() -> Settings {
    let defaults: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    defaults["acs"].clone().try_into().unwrap()
}
