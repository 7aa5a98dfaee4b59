//! `doctor`: looks at everything a broker needs, from where it would run, and says what to do about what is wrong.
//!
//! A line for each check. It changes nothing, sends ACS nothing but harmless probes, and prints no secret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::output::{Exit, Io, Stop};
use super::settings;
use crate::acs::{self, CredentialKind, Probed};
use crate::app::credential::{SKEW_TOLD, mend};
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Purpose};
use crate::metrics::Metrics;
use crate::store::{self, Backend};

/// The time for all that is asked of ACS, and for the store.
const ACS_WITHIN: Duration = Duration::from_secs(20);
const STORE_WITHIN: Duration = Duration::from_secs(10);

/// `doctor`.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// The settings file, in TOML.
    #[arg(long, env = "ACS_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

/// What the checks came to.
struct Findings<'a, 'io> {
    io: &'a mut Io<'io>,
    failed: bool,
}

impl Findings<'_, '_> {
    fn ok(&mut self, check: &str, what: &str) -> std::io::Result<()> {
        writeln!(self.io.out, "ok    {check:<11} {what}")
    }

    fn fail(&mut self, check: &str, what: &str) -> std::io::Result<()> {
        self.failed = true;
        writeln!(self.io.out, "fail  {check:<11} {what}")
    }
}

impl Doctor {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        // Problems of the settings are told as by check-config.
        let config = settings::load(Purpose::Serve, &[], self.config.as_deref(), environment, &[])?;
        super::one_call(async {
            let mut findings = Findings { io, failed: false };
            findings.ok("settings", "complete and in range")?;
            for warning in &config.warnings {
                writeln!(findings.io.err, "warning: {warning}")?;
            }
            look_at_acs(&config, &mut findings).await?;
            look_at_the_store(&config, &mut findings).await?;
            Ok(if findings.failed { Exit::Failure } else { Exit::Success })
        })
    }
}

async fn look_at_acs(config: &Config, findings: &mut Findings<'_, '_>) -> Result<(), Stop> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = match acs::Client::from_settings(&config.acs, Arc::new(SystemClock)) {
        Ok(client) => client,
        Err(error) => return told(findings.fail("credential", &error.to_string())),
    };
    let kind = config.acs.credential;
    let seen = client.examine_each(Instant::now() + ACS_WITHIN).await;
    for (place, (name, probed)) in seen.iter().enumerate() {
        let what = match (kind, place) {
            (CredentialKind::Entra, _) => format!("Entra identity ({name})"),
            (CredentialKind::Key, 0) => format!("the first key ({name})"),
            (CredentialKind::Key, _) => format!("the second key ({name})"),
        };
        match probed {
            Probed::Accepted => findings.ok("credential", &format!("{what}: ACS accepts it"))?,
            Probed::Refused(refusal) => {
                findings.fail("credential", &format!("{what}: {}", mend(*refusal, kind, client.skew())))?;
            }
            Probed::Unknown => {
                let endpoint = client.endpoint().as_str();
                let hint = "check the network, the proxy and acs.ca_file";
                findings
                    .fail("credential", &format!("{what}: no answer that tells from {endpoint}; {hint}"))?;
            }
        }
    }
    let Some(skew) = client.skew() else {
        return told(findings.fail("clock", "not compared: ACS gave no answer"));
    };
    let apart = Duration::from_millis(skew.unsigned_abs());
    let direction = if skew > 0 { "behind" } else { "ahead of" };
    let what = format!("{} s {direction} ACS's", apart.as_secs());
    if apart > SKEW_TOLD {
        findings.fail(
            "clock",
            &format!("{what}; ACS refuses signatures that are five minutes off: set the clock"),
        )?;
    } else {
        findings.ok("clock", &what)?;
    }
    Ok(())
}

async fn look_at_the_store(config: &Config, findings: &mut Findings<'_, '_>) -> Result<(), Stop> {
    if config.store.backend == Backend::Embedded {
        // It is not opened: a broker that runs has it, and one that does not would be given a new file.
        let path = &config.store.embedded.path;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let shown = path.display();
        return told(if path.is_file() {
            findings.ok("store", &format!("the file {shown} is there"))
        } else if folder.is_none_or(std::path::Path::is_dir) {
            findings.ok("store", &format!("the file {shown} will be made"))
        } else {
            findings.fail("store", &format!("the folder of {shown} does not exist: make it"))
        });
    }
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (url, password) = (config.store.redis.url.clone(), config.store.redis.password.clone());
    let opening = async {
        let opened = store::open(&config.store, url, password, clock, Metrics::new()).await;
        match opened {
            Ok(opened) => opened.core.identities.check().await.map_err(|problem| problem.to_string()),
            Err(error) => Err(error.to_string()),
        }
    };
    match tokio::time::timeout(STORE_WITHIN, opening).await {
        Ok(Ok(())) => findings.ok("store", "Redis answers and is fit")?,
        Ok(Err(problem)) => findings.fail("store", &problem)?,
        Err(_) => findings.fail("store", "Redis does not answer: check store.redis.url and the network")?,
    }
    Ok(())
}

fn told(written: std::io::Result<()>) -> Result<(), Stop> {
    written.map_err(Stop::from)
}
