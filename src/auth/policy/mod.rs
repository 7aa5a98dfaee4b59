//! The policy: which caller a proven principal is, and what it may do, from one file that may change at any time.
//!
//! A file is taken over as a whole or not at all: one that has a problem, or whose own tests fail, changes nothing.
//! Whoever is not listed is nobody. It never logs what is in the file. Made by `app`; the file's form is told in
//! docs/policy.md.

mod case;
mod file;
mod text;

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

pub use self::case::{BadCase, Case, Step};
pub use self::file::{File, Listed, Match};
pub use self::text::Problem;
use super::shadow::Shadow;
use super::{Callers, Certificate, Principal};
use crate::broker::policy::{Permissions, Quota, Witness};
use crate::broker::types::Caller;
use crate::reload::{self, Reloadable};

/// The largest policy that is read.
pub const MAX_BYTES: u64 = 1_048_576;

/// A file that is no policy: everything that is wrong with it.
#[derive(Debug, thiserror::Error)]
pub struct BadPolicy {
    /// Its path.
    pub path: PathBuf,
    /// What is wrong, in the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.problems.len();
        let plural = if count == 1 { "" } else { "s" };
        write!(f, "{count} problem{plural} in the policy {}:", self.path.display())?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  - {problem}"))
    }
}

/// Hears of each policy just before it is in force, and may refuse it: whoever verifies the tokens of its issuers. Callers
/// wait meanwhile, so it must be quick and must not look one up.
pub type Listener = Box<dyn Fn(&File) -> Result<(), String> + Send + Sync>;

/// The policy in force.
pub struct Policy {
    path: PathBuf,
    shadow: Option<Arc<Shadow>>,
    listener: Listener,
    table: RwLock<Arc<Table>>,
    /// Changes with the table, while that is locked.
    edition: AtomicU64,
}

/// A policy, compiled for looking callers up.
#[derive(Default)]
struct Table {
    callers: Vec<Caller>,
    spiffe: HashMap<String, usize>,
    dns: HashMap<String, usize>,
    mesh: HashMap<String, usize>,
    /// By the policy's name of the issuer, then by subject.
    subjects: HashMap<String, HashMap<String, usize>>,
}

/// Reads a policy and runs its tests.
///
/// # Errors
/// Everything that is wrong with it.
pub fn read(path: &Path) -> Result<File, BadPolicy> {
    let bad = |problems| BadPolicy { path: path.to_owned(), problems };
    let bytes = reload::content(path, MAX_BYTES)
        .map_err(|what| bad(vec![Problem::of_file(format!("the file {what}"))]))?;
    parse(&bytes).map_err(bad)
}

/// As [`read`], from the bytes of the file.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<File, Vec<Problem>> {
    let file = file::parse(bytes)?;
    let failed = file.failed_tests();
    if failed.is_empty() { Ok(file) } else { Err(failed) }
}

impl Policy {
    /// This policy, in force. The `listener` hears of each later one before that is in force.
    pub fn new(path: &Path, file: &File, shadow: Option<Arc<Shadow>>, listener: Listener) -> Arc<Self> {
        let table = Table::compile(file, shadow.as_ref(), &Table::default());
        let table = RwLock::new(Arc::new(table));
        Arc::new(Self { path: path.to_owned(), shadow, listener, table, edition: AtomicU64::new(0) })
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Callers for Policy {
    fn caller(&self, principal: &Principal) -> Option<Caller> {
        self.table().caller(principal)
    }

    fn edition(&self) -> u64 {
        self.edition.load(Ordering::SeqCst)
    }
}

impl Reloadable for Policy {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn files(&self) -> Vec<PathBuf> {
        vec![self.path.clone()]
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        let bytes = contents.into_iter().next().unwrap_or_default();
        let file = parse(&bytes).map_err(|problems| {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            format!("{}: {}", self.path.display(), problems.join("; "))
        })?;
        let before = self.table();
        let table = Arc::new(Table::compile(&file, self.shadow.as_ref(), &before));
        {
            // Whoever looks a caller up meanwhile waits, and then sees another edition: nobody is proven by the issuers
            // of one policy and let in by the callers of another.
            let mut in_force = self.table.write().unwrap_or_else(PoisonError::into_inner);
            (self.listener)(&file)?;
            *in_force = Arc::clone(&table);
            self.edition.fetch_add(1, Ordering::SeqCst);
        }
        // What goes on for long asks again where something has changed for its caller.
        for caller in &before.callers {
            if !table.callers.iter().any(|now| std::ptr::eq(now.permissions(), caller.permissions())) {
                caller.permissions().replaced().cancel();
            }
        }
        Ok(())
    }
}

impl Table {
    /// Callers whose rules are as `before` stay the same callers; quotas that are as before go on from where they are.
    fn compile(file: &File, shadow: Option<&Arc<Shadow>>, before: &Self) -> Self {
        let mut table = Self::default();
        for (index, listed) in file.callers.iter().enumerate() {
            let old = before.callers.iter().find(|caller| caller.name() == listed.name);
            table.callers.push(Self::caller_of(listed, shadow, old));
            for one in &listed.matches {
                match one {
                    Match::Spiffe(uri) => table.spiffe.insert(uri.clone(), index),
                    Match::Dns(name) => table.dns.insert(name.clone(), index),
                    Match::Mesh(name) => table.mesh.insert(name.clone(), index),
                    Match::Subject { issuer, subject } => {
                        table.subjects.entry(issuer.clone()).or_default().insert(subject.clone(), index)
                    }
                };
            }
        }
        table
    }

    fn caller_of(listed: &Listed, shadow: Option<&Arc<Shadow>>, old: Option<&Caller>) -> Caller {
        let old_quotas = old.map_or(&[][..], |old| old.permissions().quotas());
        let mut buckets = old_quotas.to_vec();
        let quotas: Vec<Quota> = listed
            .rates
            .iter()
            .map(|(rpcs, rate)| {
                let new = Quota::new(*rpcs, *rate);
                // Two ways to write the same RPCs are two quotas: one bucket must not be emptied by both.
                let place = buckets.iter().position(|old| old.is_like(&new));
                place.map_or(new, |place| buckets.remove(place))
            })
            .collect();
        if let Some(old) = old
            && *old.permissions().rules() == listed.rules
            && old_quotas.len() == quotas.len()
            && old_quotas.iter().zip(&quotas).all(|(old, new)| old.is_like(new))
        {
            return old.clone();
        }
        let mut permissions = Permissions::new(listed.rules.clone(), quotas);
        if let Some(shadow) = shadow {
            permissions = permissions.watched(Arc::clone(shadow) as Arc<dyn Witness>);
        }
        Caller::allowed(listed.name.as_str(), Arc::new(permissions))
    }

    fn caller(&self, principal: &Principal) -> Option<Caller> {
        let index = match principal {
            Principal::Anybody => None,
            Principal::Certificate(certificate) => self.of_certificate(certificate),
            Principal::Token(claims) => self.subjects.get(&*claims.issuer)?.get(&claims.subject).copied(),
            Principal::Mesh(name) => self.mesh.get(&**name).copied(),
        };
        self.callers.get(index?).cloned()
    }

    /// The one caller that the certificate's names stand for. Names of two callers in one certificate are nobody's:
    /// whoever issued it and whoever wrote the policy do not mean the same.
    fn of_certificate(&self, certificate: &Certificate) -> Option<usize> {
        let uris = certificate.uris.iter().filter_map(|uri| self.spiffe.get(uri));
        let dns = certificate.dns.iter().filter_map(|name| self.dns.get(&name.to_ascii_lowercase()));
        let mut found = uris.chain(dns);
        let first = found.next()?;
        found.all(|other| other == first).then_some(*first)
    }
}

#[cfg(test)]
mod tests;
