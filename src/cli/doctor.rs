//! `doctor`: looks at everything a broker needs, from where it would run, and says what to do about what is wrong.
//!
//! A line for each check. It changes nothing but that a Redis in which nothing is yet gets its marker, as from any broker;
//! sends ACS nothing but harmless probes, asks issuers for nothing but their public keys, and prints no secret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::output::{Exit, Io, Stop};
use super::settings;
use crate::acs::{self, CredentialKind, Probed, Refusal, SignIn};
use crate::app::credential::{SKEW_TOLD, mend};
use crate::auth::Mode;
use crate::auth::jwt::Verifier;
use crate::auth::policy;
use crate::broker::ports::StoreProblem;
use crate::clock::{Clock, SystemClock};
use crate::config::{Config, Purpose};
use crate::metrics::Metrics;
use crate::store::{self, Backend};

/// The time for all that is asked of ACS, for the store, and for all issuers together.
const ACS_WITHIN: Duration = Duration::from_secs(20);
const STORE_WITHIN: Duration = Duration::from_secs(10);
const ISSUERS_WITHIN: Duration = Duration::from_secs(5);
const NO_REDIS: &str = "Redis does not answer: check store.redis.url and the network";
/// How often it is looked whether the issuers have answered.
const LOOK_EVERY: Duration = Duration::from_millis(50);

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
            look_at_the_policy(&config, &mut findings).await?;
            look_at_the_audit(&config, &mut findings)?;
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
                let what = format!("{what}: {}", refused(*refusal, place, &config.acs, client.skew()));
                findings.fail("credential", &what)?;
            }
            Probed::Unknown => {
                let asked = match (kind, config.acs.entra.kind) {
                    (CredentialKind::Key, _) => client.endpoint().as_str().to_owned(),
                    (CredentialKind::Entra, SignIn::Managed) => {
                        format!("{} or acs.entra.metadata", client.endpoint().as_str())
                    }
                    (CredentialKind::Entra, _) => {
                        format!("{} or acs.entra.authority", client.endpoint().as_str())
                    }
                };
                let hint = "check the network, the proxy and acs.ca_file";
                findings.fail("credential", &format!("{what}: no answer that tells from {asked}; {hint}"))?;
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

/// What to do about a credential that is refused. Each key has a setting of its own.
fn refused(refusal: Refusal, place: usize, settings: &acs::Settings, skew_millis: Option<i64>) -> String {
    let skew = Duration::from_millis(skew_millis.unwrap_or_default().unsigned_abs());
    match (refusal, settings.credential) {
        (Refusal::Acs(_), CredentialKind::Key) if skew <= SKEW_TOLD => {
            let setting =
                if place == 0 { "acs.connection_string" } else { "acs.secondary_connection_string" };
            format!("ACS refuses it: copy it from the resource again into {setting} (or its _file)")
        }
        (Refusal::Entra, CredentialKind::Entra) => {
            let token = settings.entra.federated_token.as_deref();
            match token.filter(|_| settings.entra.kind == SignIn::Workload).map(std::fs::File::open) {
                Some(Err(error)) => format!("acs.entra.federated_token cannot be read ({})", error.kind()),
                _ => mend(refusal, settings.credential, skew_millis),
            }
        }
        _ => mend(refusal, settings.credential, skew_millis),
    }
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
            Ok(opened) => opened.core.identities.check().await.map_err(|problem| match problem {
                StoreProblem::Unreachable => NO_REDIS.to_owned(),
                problem => problem.to_string(),
            }),
            Err(error) => Err(error.to_string()),
        }
    };
    match tokio::time::timeout(STORE_WITHIN, opening).await {
        Ok(Ok(())) => findings.ok("store", "Redis answers and is fit")?,
        Ok(Err(problem)) => findings.fail("store", &problem)?,
        Err(_) => findings.fail("store", NO_REDIS)?,
    }
    Ok(())
}

/// The policy and, as it may name issuers, whether their keys can be fetched from here.
async fn look_at_the_policy(config: &Config, findings: &mut Findings<'_, '_>) -> Result<(), Stop> {
    if config.auth.mode != Mode::Policy {
        return Ok(());
    }
    let file = match policy::read(&config.auth.policy_file) {
        Ok(file) => file,
        Err(bad) => return told(findings.fail("policy", &bad.to_string())),
    };
    let shadow = if config.auth.shadow { "; in shadow mode: it refuses nothing" } else { "" };
    let (callers, tests) = (file.callers.len(), file.tests());
    findings.ok("policy", &format!("{callers} callers; {tests} tests passed{shadow}"))?;
    if file.issuers.is_empty() {
        return Ok(());
    }
    let count = file.issuers.len();
    let verifier = Verifier::new(file.issuers, Arc::new(SystemClock), Metrics::new());
    let all_there = async {
        while !verifier.trouble().is_empty() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    if tokio::time::timeout(ISSUERS_WITHIN, all_there).await.is_ok() {
        return told(findings.ok("issuers", &format!("{count}: their keys can be fetched")));
    }
    for (_, what) in verifier.trouble() {
        let hint =
            "check issuer, jwks_url, ca_file and bearer_file, and the network; the broker's log says more";
        findings.fail("issuers", &format!("{what}; {hint}"))?;
    }
    Ok(())
}

/// Whether records can be written. Nothing is: a broker that runs has the file.
fn look_at_the_audit(config: &Config, findings: &mut Findings<'_, '_>) -> Result<(), Stop> {
    if config.audit.file.is_empty() {
        return Ok(());
    }
    let path = std::path::Path::new(&config.audit.file);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    told(if path.exists() {
        match std::fs::OpenOptions::new().append(true).open(path) {
            Ok(_) => findings.ok("audit", "the file is there and can be written"),
            Err(error) => findings.fail("audit", &format!("audit.file cannot be written ({})", error.kind())),
        }
    } else if folder.is_none_or(std::path::Path::is_dir) {
        findings.ok("audit", "the file will be made")
    } else {
        findings.fail("audit", "the folder of audit.file does not exist: make it, writable by this user")
    })
}

fn told(written: std::io::Result<()>) -> Result<(), Stop> {
    written.map_err(Stop::from)
}
