//! Reads the settings for a command and starts logging by them.

use std::collections::BTreeMap;
use std::path::Path;

use super::output::{Exit, Stop};
use crate::config::{self, Config, Given, Inputs, Purpose, Source};
use crate::telemetry::{self, FlushOnDrop};

/// A value from a flag, if the flag was given.
pub(super) fn flag(key: &'static str, name: &'static str, value: Option<&str>) -> Option<Given> {
    value.map(|value| Given { key, value: value.into(), source: Source::Flag(name) })
}

/// The settings, or everything that is wrong with them.
pub(super) fn load(
    purpose: Purpose,
    presumed: &[Given],
    file: Option<&Path>,
    environment: &BTreeMap<String, String>,
    flags: &[Given],
) -> Result<Config, Stop> {
    config::load(&Inputs { purpose, presumed, file, environment, flags })
        .map_err(|problems| Stop::Because(Exit::Usage, problems.to_string()))
}

/// Starts logging, and logs what is unwise in the settings. Logs until the result is dropped.
pub(super) fn start_logging(config: &Config) -> Result<FlushOnDrop, Stop> {
    let flush = telemetry::init(&config.telemetry)
        .map_err(|error| Stop::Because(Exit::Failure, error.to_string()))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(flush)
}
