//! Who may call, from the settings: evidence, policy, shadow mode; and what of it is followed while the broker runs.

use std::sync::Arc;

use crate::auth::jwt::Verifier;
use crate::auth::mesh::Mesh;
use crate::auth::mtls::Mtls;
use crate::auth::policy::{self, BadPolicy, File, Policy};
use crate::auth::shadow::Shadow;
use crate::auth::{Authenticator, Gate, Mode, Settings};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::reload::Reloadable;

/// What decides about callers.
pub(super) struct Access {
    /// What every call passes.
    pub(super) gate: Gate,
    /// What is made of files that may change.
    pub(super) reloadables: Vec<Arc<dyn Reloadable>>,
    /// Who verifies tokens, if any count.
    pub(super) issuers: Option<Arc<Verifier>>,
    /// What shadow mode sees, while it is on.
    pub(super) shadow: Option<Arc<Shadow>>,
}

/// Builds it; reads the policy, which must be good at the start.
pub(super) fn build(
    settings: &Settings,
    clock: &Arc<dyn Clock>,
    metrics: &Metrics,
) -> Result<Access, BadPolicy> {
    match settings.mode {
        Mode::Unauthenticated => {
            let gate = Gate::open(settings.allow_off_loopback);
            Ok(Access { gate, reloadables: Vec::new(), issuers: None, shadow: None })
        }
        Mode::Policy => by_policy(settings, clock, metrics),
    }
}

fn by_policy(settings: &Settings, clock: &Arc<dyn Clock>, metrics: &Metrics) -> Result<Access, BadPolicy> {
    let file = policy::read(&settings.policy_file)?;
    let shadow =
        settings.shadow.then(|| Shadow::new(settings.allow_off_loopback, Arc::clone(clock), metrics.clone()));
    let verifier = Arc::new(Verifier::new(file.issuers.clone(), Arc::clone(clock), metrics.clone()));
    let trusting = Arc::clone(&verifier);
    let listener = move |file: &File| {
        trusting.replace(file.issuers.clone());
        Ok(())
    };
    let policy = Policy::new(&settings.policy_file, &file, shadow.clone(), Box::new(listener));
    let mut chain: Vec<Arc<dyn Authenticator>> = Vec::new();
    // What a pinned proxy says goes before the proxy's own certificate.
    if let Some(mesh) = Mesh::new(&settings.mesh) {
        chain.push(Arc::new(mesh));
    }
    chain.push(Arc::clone(&verifier) as _);
    chain.push(Arc::new(Mtls));
    let mut gate = Gate::new(chain, Arc::clone(&policy) as _).with_end_users(Arc::clone(&verifier) as _);
    if let Some(shadow) = &shadow {
        gate = gate.in_shadow(Arc::clone(shadow));
    }
    Ok(Access { gate, reloadables: vec![policy], issuers: Some(verifier), shadow })
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
