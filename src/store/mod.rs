//! Where the mapping and the tokens live: the core's five store ports, over one embedded file or over Redis.
//!
//! It decides nothing about freshness or revocation; it keeps what the ports' contracts promise, the same on every
//! backend (`contract.rs` holds them to it). Used by `app`, which opens it, and by tests, which take `memory`.

pub mod codec;
pub mod embedded;
mod keys;
pub mod redis;

use std::sync::Arc;

use serde::Deserialize;

pub use self::embedded::memory;
use crate::broker::ports::Stores;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// `[store]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which backend is used; the other's settings are not looked at.
    pub backend: Backend,
    /// `[store.embedded]`.
    pub embedded: embedded::Settings,
    /// `[store.redis]`.
    pub redis: redis::Settings,
}

/// Where things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In one file, by one process.
    Embedded,
    /// In Redis, shared by every replica.
    Redis,
}

impl Settings {
    /// What is wrong with the chosen backend's settings: the key below `[store]`, and a text that follows it.
    pub fn problems(&self) -> Vec<(String, String)> {
        match self.backend {
            Backend::Embedded => self
                .embedded
                .validate()
                .into_iter()
                .map(|(key, what)| (format!("embedded.{key}"), what))
                .collect(),
            Backend::Redis => {
                self.redis.validate().into_iter().map(|(key, what)| (format!("redis.{key}"), what)).collect()
            }
        }
    }
}

/// Why a store cannot be used; names the mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded file.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// Redis.
    #[error(transparent)]
    Redis(#[from] redis::OpenError),
}

/// Opens the chosen backend. The secrets of `settings` are in place, whether or not they came from a file.
pub async fn open(settings: &Settings, clock: Arc<dyn Clock>, metrics: Metrics) -> Result<Stores, OpenError> {
    match settings.backend {
        Backend::Embedded => Ok(embedded::open(&settings.embedded, clock, metrics)?),
        Backend::Redis => {
            let (url, password) = (settings.redis.url.clone(), settings.redis.password.clone());
            Ok(redis::open(&settings.redis, url, password, clock, metrics).await?)
        }
    }
}

#[cfg(test)]
pub(crate) mod contract;
