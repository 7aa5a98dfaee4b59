//! `check-config`: prints the settings in force, or everything that is wrong with them and with the policy; and says
//! what a policy makes of a call. Starts and connects nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{Exit, Io, Stop};
use super::settings;
use crate::auth::policy::{self, Case, File};
use crate::broker::policy::Rpc;
use crate::broker::types::{Scope, ScopeSet, UserId, Validity};
use crate::config::Purpose;

/// `check-config`.
#[derive(Debug, Args)]
pub(super) struct CheckConfig {
    /// The settings file, in TOML.
    #[arg(long, env = "ACS_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check this policy and run its tests, and nothing else; no settings are needed.
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Say whether the policy lets this caller call that RPC, and which entry decides it. Exit code 0: allowed; 1: not.
    #[arg(long, num_args = 2, value_names = ["CALLER", "RPC"])]
    explain: Option<Vec<String>>,
    /// For this user.
    #[arg(long, requires = "explain")]
    user: Option<String>,
    /// With this scope; may be given several times.
    #[arg(long, requires = "explain")]
    scope: Vec<String>,
    /// From this sender of SMS or mail.
    #[arg(long, requires = "explain")]
    sender: Option<String>,
    /// For so long, such as 12h.
    #[arg(long, requires = "explain", value_name = "DURATION")]
    validity: Option<String>,
}

fn usage(what: impl ToString) -> Stop {
    Stop::Because(Exit::Usage, what.to_string())
}

impl CheckConfig {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>, io: &mut Io<'_>) -> Result<Exit, Stop> {
        if let Some(path) = &self.policy {
            let policy = read(path)?;
            return self.answer(&policy, path, io);
        }
        let config = settings::load(Purpose::Serve, &[], self.config.as_deref(), environment, &[])?;
        let path = &config.auth.policy_file;
        let policy = if path.as_os_str().is_empty() { None } else { Some(read(path)?) };
        if self.explain.is_some() {
            let policy =
                policy.ok_or_else(|| usage("auth.policy_file is not set; name a policy with --policy"))?;
            return self.answer(&policy, path, io);
        }
        write!(io.out, "{}", config.render())?;
        for warning in &config.warnings {
            writeln!(io.err, "warning: {warning}")?;
        }
        Ok(Exit::Success)
    }

    /// What the policy makes of the call, or that it is one.
    fn answer(&self, policy: &File, path: &Path, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let Some([caller, rpc]) = self.explain.as_deref() else {
            let (callers, tests) = (policy.callers.len(), policy.tests());
            writeln!(io.out, "{}: {callers} callers; {tests} tests passed", path.display())?;
            return Ok(Exit::Success);
        };
        let case = self.case(rpc)?;
        let steps = policy.explain(caller, &case).map_err(usage)?;
        let mut exit = Exit::Success;
        for step in steps {
            match step.answer {
                Ok(by) => writeln!(io.out, "allowed  {}: {by}", step.asked)?,
                Err(missing) => {
                    writeln!(io.out, "REFUSED  {}: the permission {missing} is missing", step.asked)?;
                    exit = Exit::Failure;
                }
            }
        }
        Ok(exit)
    }

    fn case(&self, rpc: &str) -> Result<Case, Stop> {
        // Logs and audit records write the package before it.
        let rpc = Rpc::named(rpc.trim_start_matches('/').trim_start_matches("acsbroker.v1."))
            .ok_or_else(|| usage("RPC must be one of the API, such as TokenService/IssueToken"))?;
        let user = self.user.as_deref().map(UserId::parse).transpose();
        let user = user.map_err(|invalid| usage(format!("--user {invalid}")))?;
        let scopes: Result<Vec<Scope>, _> = self.scope.iter().map(|scope| scope.parse()).collect();
        let scopes = scopes.map_err(|invalid| usage(format!("--scope {invalid}")))?;
        let validity = match &self.validity {
            None => None,
            Some(text) => {
                let time =
                    humantime::parse_duration(text).map_err(|_| usage("--validity must be a duration"))?;
                let validity = Validity::from_duration(time);
                Some(validity.map_err(|invalid| usage(format!("--validity {invalid}")))?)
            }
        };
        Ok(Case { rpc, user, scopes: ScopeSet::new(scopes).ok(), validity, sender: self.sender.clone() })
    }
}

fn read(path: &Path) -> Result<File, Stop> {
    policy::read(path).map_err(usage)
}
