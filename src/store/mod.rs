//! Where the mapping, the tokens and the messages live: the core's five store ports and messaging's three, over one
//! embedded file or over Redis.
//!
//! It decides nothing about freshness or revocation; it keeps what the ports' contracts promise, the same on every
//! backend (`contract` holds them to it). Used by `app`, which opens it, and by tests, which take [`memory`].

pub mod codec;
pub mod embedded;
mod fair;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod keys;
mod records;
pub mod redis;
pub mod seal;

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
mod message_model;
#[cfg(test)]
mod model;

use std::sync::Arc;

use serde::Deserialize;

pub use self::embedded::memory;
pub use self::seal::Vault;
use crate::broker::ports::Stores;
use crate::clock::Clock;
use crate::messaging::ports::MessageStores;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// Which backend keeps the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// One process, one file.
    Embedded,
    /// Shared by all replicas.
    Redis,
}

/// `[store]`; `config/default.toml` explains each setting and holds its default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which of the two below is used.
    pub backend: Backend,
    /// The embedded backend.
    pub embedded: embedded::Settings,
    /// The Redis backend.
    pub redis: redis::Settings,
    /// What is sealed, and with what.
    pub seal: seal::Settings,
}

impl Settings {
    /// Every problem of the backend in use: the key under `[store]`, and what is wrong with it.
    pub fn problems(&self) -> Vec<(String, String)> {
        let (section, problems) = match self.backend {
            Backend::Embedded => ("embedded", self.embedded.problems()),
            Backend::Redis => ("redis", self.redis.problems()),
        };
        let of_backend = problems.into_iter().map(|(key, text)| (format!("{section}.{key}"), text));
        let of_seal = self.seal.problems().into_iter().map(|(key, text)| (format!("seal.{key}"), text));
        of_backend.chain(of_seal).collect()
    }
}

/// An open store: what each part of the program sees of it.
#[derive(Clone)]
pub struct Opened {
    /// The ports of the core.
    pub core: Stores,
    /// The ports of messaging.
    pub messages: MessageStores,
    /// The keys that what is stored is sealed with, to be read again when their file changes; none without any.
    pub key_ring: Option<Arc<seal::KeyRing>>,
}

/// Why the store cannot be opened. Each text says what is wrong and what to do, and shows nothing secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded file cannot be used.
    #[error(transparent)]
    Embedded(#[from] embedded::OpenError),
    /// The Redis cannot be used.
    #[error(transparent)]
    Redis(#[from] redis::OpenError),
    /// The keys cannot be used.
    #[error(transparent)]
    Seal(#[from] seal::VaultError),
    /// The process is shutting down.
    #[error("the store was not opened because the process is ending; start it again")]
    Cancelled,
}

/// Opens the store. `redis_url` and `redis_password` are the secrets after their `_file` twins were read; the embedded
/// backend needs neither. The hash key must be in the settings already; the key file is read here.
pub async fn open(
    settings: &Settings,
    redis_url: Secret,
    redis_password: Secret,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Opened, OpenError> {
    let vault = Vault::new(&settings.seal, metrics.clone())?;
    if let Some(ring) = vault.ring() {
        tracing::info!(
            keys = ring.ids().join(","),
            "what is stored is sealed; the first of these keys seals"
        );
    }
    match settings.backend {
        Backend::Embedded => {
            let settings = settings.embedded.clone();
            // It reads and checks the whole file.
            let opened =
                tokio::task::spawn_blocking(move || embedded::open(&settings, vault, clock, metrics)).await;
            Ok(opened.map_err(|_| OpenError::Cancelled)??)
        }
        Backend::Redis => {
            Ok(redis::open(&settings.redis, redis_url, redis_password, vault, clock, metrics).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_read_and_are_good() {
        #[derive(Deserialize)]
        struct File {
            store: Settings,
        }
        let file: File = toml::from_str(include_str!("../../config/default.toml")).unwrap();
        assert_eq!(file.store.backend, Backend::Embedded);
        assert_eq!(file.store.problems(), []);
    }

    #[test]
    fn only_the_backend_in_use_is_checked_and_its_keys_are_named_in_full() {
        let mut settings = Settings {
            backend: Backend::Embedded,
            embedded: embedded::Settings { path: "".into() },
            redis: redis::Settings::default(),
            seal: seal::Settings::default(),
        };
        let keys =
            |settings: &Settings| settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(&settings), ["embedded.path"]);
        settings.backend = Backend::Redis;
        settings.seal.hash_key = Secret::new("short");
        assert_eq!(keys(&settings), ["redis.url", "seal.hash_key"]);
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(toml::from_str::<embedded::Settings>("path = 'a'\npaht = 'b'").is_err());
        assert!(toml::from_str::<Backend>("'mongo'").is_err());
    }
}
