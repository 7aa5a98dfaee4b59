//! `check-config`: prints the settings in force, or everything that is wrong with them. Starts and connects nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use super::output::{Exit, Io, Stop};
use super::settings;
use crate::config::Purpose;

/// `check-config`.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    /// The settings file, in TOML.
    #[arg(long, env = "ACS_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

impl CheckConfig {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let config = settings::load(Purpose::Serve, &[], self.config.as_deref(), environment, &[])?;
        write!(io.out, "{}", config.render())?;
        for warning in &config.warnings {
            writeln!(io.err, "warning: {warning}")?;
        }
        Ok(Exit::Success)
    }
}
