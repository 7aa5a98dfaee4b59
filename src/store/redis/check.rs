//! Whether this Redis is fit for traffic: does it answer, does it still hold what it held, may it evict, does it call
//! users by our names.
//!
//! A marker written at the first start tells an emptied Redis from one that never held anything, and which hash key its
//! names were made with. It is never written again by a process that has seen it: an emptied store must not look healthy
//! by itself. Used for readiness, and before the first command of all.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Redis;
use super::command::{self, Command, Effect, Target};
use super::facts::Facts;
use crate::broker::ports::{StoreError, StoreProblem};
use crate::store::seal::{NamesProblem, Vault};

/// How long an answer about eviction holds.
const POLICY_HOLDS: Duration = Duration::from_secs(30);

/// The version of the marker; 16 random bytes follow, and then the mark of the hash key, if there is one.
const VERSION: u8 = 1;

/// The bytes of a marker before the mark of the hash key.
const MARKER_BYTES: usize = 17;

const META: &str = "check";
const POLICY: &str = "check_policy";

/// What this process remembers between checks.
#[derive(Debug, Default)]
pub(super) struct Memory {
    remembered: Mutex<Remembered>,
    /// Whether the names in this Redis are known to be ours.
    names_checked: AtomicBool,
}

/// A policy of Redis, by what it may drop.
enum Policy {
    /// Keys that never expire.
    Lasting(String),
    /// Keys with a time to live.
    Expiring(String),
}

/// The hash key a marker tells of, against ours.
fn check_names(vault: &Vault, marker: &[u8]) -> Result<(), NamesProblem> {
    vault.check_names(marker.get(MARKER_BYTES..).unwrap_or_default())
}

#[derive(Debug, Default, Clone)]
struct Remembered {
    /// The marker it has seen.
    marker: Option<Vec<u8>>,
    /// What it was told about eviction, and when.
    policy: Option<(Instant, Option<StoreProblem>)>,
}

impl Memory {
    fn get(&self) -> Remembered {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As if the answer about eviction were old.
    #[cfg(test)]
    pub(super) fn forget_policy(&self) {
        self.update(|memory| memory.policy = None);
    }

    fn update(&self, change: impl FnOnce(&mut Remembered)) {
        change(&mut self.remembered.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Redis {
    /// Sends a command, but never to a Redis whose users have other names: looking there finds nobody, and who is not
    /// found gets a second identity. A Redis that was away at the start is looked at here, once.
    pub(super) async fn run(&self, command: &Command) -> Result<Value, StoreError> {
        if !self.memory.names_checked.load(Ordering::Acquire) {
            let marker = self.marker(false).await?.unwrap_or_default();
            check_names(&self.vault, &marker)
                .map_err(|problem| StoreError::Unavailable(Arc::new(problem)))?;
            self.memory.names_checked.store(true, Ordering::Release);
        }
        self.connection.run(command).await
    }

    /// Whether the names here are ours; also if Redis cannot be asked now.
    pub(super) async fn names_fit(&self) -> Result<(), NamesProblem> {
        match self.marker(false).await {
            Ok(Some(marker)) => check_names(&self.vault, &marker),
            Ok(None) | Err(_) => Ok(()),
        }
    }

    /// Whether the store is fit for traffic.
    pub(super) async fn fit(&self) -> Result<(), StoreProblem> {
        let known = self.memory.get();
        let marker = self.marker(known.marker.is_some()).await.map_err(|_| StoreProblem::Unreachable)?;
        match (known.marker, marker) {
            (None, marker) => {
                check_names(&self.vault, marker.as_deref().unwrap_or_default())
                    .map_err(|problem| StoreProblem::OtherNames(problem.to_string()))?;
                self.memory.names_checked.store(true, Ordering::Release);
                self.memory.update(|memory| memory.marker = marker);
            }
            (Some(known), Some(marker)) if known == marker => {}
            (Some(_), _) => return Err(StoreProblem::Emptied),
        }
        if self.allow_eviction {
            return Ok(());
        }
        let policy = match known.policy {
            Some((at, policy)) if at.elapsed() < POLICY_HOLDS => policy,
            _ => {
                let problem = match self.evicting_policy().await {
                    Some(Policy::Lasting(policy)) => Some(StoreProblem::Evicts(policy)),
                    Some(Policy::Expiring(policy)) if self.keeps_messages => {
                        Some(StoreProblem::EvictsMessages(policy))
                    }
                    _ => None,
                };
                self.memory.update(|memory| memory.policy = Some((Instant::now(), problem.clone())));
                problem
            }
        };
        policy.map_or(Ok(()), Err)
    }

    /// The marker in Redis. Where none was ever seen, one is written if there is none.
    async fn marker(&self, seen: bool) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.keys.meta();
        if seen {
            let mut cmd = redis::cmd("GET");
            cmd.arg(&key);
            return command::bytes(META, self.connection.run(&Command::read(META, key, cmd)).await?);
        }
        let mut marker = vec![VERSION];
        marker.extend_from_slice(&rand::random::<[u8; MARKER_BYTES - 1]>());
        marker.extend_from_slice(self.vault.names_mark());
        let script = &self.scripts.mark;
        let reply = self.connection.run(&script.on([key], marker.as_slice())).await?;
        command::bytes(script.operation(), reply)
    }

    /// The worst policy of any primary that may evict. None also if it may not be asked.
    async fn evicting_policy(&self) -> Option<Policy> {
        let to_all = |cmd: Cmd| Command {
            operation: POLICY,
            effect: Effect::Read,
            target: Target::Primaries,
            cmd,
            with_source: None,
        };
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let reply = self.connection.run(&to_all(info)).await.ok()?;
        let mut texts = Vec::new();
        collect_texts(reply, &mut texts);
        let facts: Vec<Facts> = texts.iter().map(|text| Facts::read(text)).collect();
        let lasting = facts.iter().find_map(Facts::evicting_policy);
        let expiring = || facts.iter().find_map(Facts::policy_that_evicts_messages);
        lasting
            .map(|policy| Policy::Lasting(policy.to_owned()))
            .or_else(|| expiring().map(|policy| Policy::Expiring(policy.to_owned())))
    }
}

/// The texts in a reply of one node, or of several as a map.
fn collect_texts(reply: Value, into: &mut Vec<String>) {
    match reply {
        Value::BulkString(bytes) => into.extend(String::from_utf8(bytes)),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => into.push(text),
        Value::Map(nodes) => nodes.into_iter().for_each(|(_, reply)| collect_texts(reply, into)),
        _ => {}
    }
}
