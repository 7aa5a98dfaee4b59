//! Whether this Redis is fit for traffic: does it answer, does it still hold what it held, may it evict.
//!
//! A marker written at the first start tells an emptied Redis from one that never held anything. It is never written
//! again by a process that has seen it: an emptied store must not look healthy by itself. Used for readiness.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::Redis;
use super::command::{self, Command, Effect, Target};
use super::facts::Facts;
use crate::broker::ports::{StoreError, StoreProblem};

/// How long an answer about eviction holds.
const POLICY_HOLDS: Duration = Duration::from_secs(30);

/// The version of the marker; 16 random bytes follow.
const VERSION: u8 = 1;

const META: &str = "check";
const POLICY: &str = "check_policy";

/// What this process remembers between checks.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Remembered>);

#[derive(Debug, Default, Clone)]
struct Remembered {
    /// The marker it has seen.
    marker: Option<Vec<u8>>,
    /// What it was told about eviction, and when.
    policy: Option<(Instant, Option<String>)>,
}

impl Memory {
    fn get(&self) -> Remembered {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// As if the answer about eviction were old.
    #[cfg(test)]
    pub(super) fn forget_policy(&self) {
        self.update(|memory| memory.policy = None);
    }

    fn update(&self, change: impl FnOnce(&mut Remembered)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Redis {
    /// Whether the store is fit for traffic.
    pub(super) async fn fit(&self) -> Result<(), StoreProblem> {
        let known = self.memory.get();
        let marker = self.marker(known.marker.is_some()).await.map_err(|_| StoreProblem::Unreachable)?;
        match (known.marker, marker) {
            (None, marker) => self.memory.update(|memory| memory.marker = marker),
            (Some(known), Some(marker)) if known == marker => {}
            (Some(_), _) => return Err(StoreProblem::Emptied),
        }
        if self.allow_eviction {
            return Ok(());
        }
        let policy = match known.policy {
            Some((at, policy)) if at.elapsed() < POLICY_HOLDS => policy,
            _ => {
                let policy = self.evicting_policy().await;
                self.memory.update(|memory| memory.policy = Some((Instant::now(), policy.clone())));
                policy
            }
        };
        policy.map_or(Ok(()), |policy| Err(StoreProblem::Evicts(policy)))
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
        marker.extend_from_slice(&rand::random::<[u8; 16]>());
        let script = &self.scripts.mark;
        let reply = self.connection.run(&script.on([key], marker.as_slice())).await?;
        command::bytes(script.operation(), reply)
    }

    /// A policy that may evict lasting keys, of any primary. None also if it may not be asked.
    async fn evicting_policy(&self) -> Option<String> {
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
        texts.iter().find_map(|text| Facts::read(text).evicting_policy().map(str::to_owned))
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
