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

#[cfg(test)]
pub(crate) mod contract;
#[cfg(test)]
mod message_model;
#[cfg(test)]
mod model;

use std::sync::Arc;

use serde::Deserialize;

pub use self::embedded::memory;
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
}

impl Settings {
    /// Every problem of the backend in use: the key under `[store]`, and what is wrong with it.
    pub fn problems(&self) -> Vec<(String, String)> {
        let (section, problems) = match self.backend {
            Backend::Embedded => ("embedded", self.embedded.problems()),
            Backend::Redis => ("redis", self.redis.problems()),
        };
        problems.into_iter().map(|(key, text)| (format!("{section}.{key}"), text)).collect()
    }
}

/// An open store: what each part of the program sees of it.
#[derive(Clone)]
pub struct Opened {
    /// The ports of the core.
    pub core: Stores,
    /// The ports of messaging.
    pub messages: MessageStores,
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
    /// The process is shutting down.
    #[error("the store was not opened because the process is ending; start it again")]
    Cancelled,
}

/// Opens the store. `redis_url` and `redis_password` are the secrets after their `_file` twins were read; the embedded
/// backend needs neither.
pub async fn open(
    settings: &Settings,
    redis_url: Secret,
    redis_password: Secret,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Opened, OpenError> {
    match settings.backend {
        Backend::Embedded => {
            let settings = settings.embedded.clone();
            // It reads and checks the whole file.
            let opened = tokio::task::spawn_blocking(move || embedded::open(&settings, clock, metrics)).await;
            Ok(opened.map_err(|_| OpenError::Cancelled)??)
        }
        Backend::Redis => Ok(redis::open(&settings.redis, redis_url, redis_password, clock, metrics).await?),
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
        };
        let keys =
            |settings: &Settings| settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(&settings), ["embedded.path"]);
        settings.backend = Backend::Redis;
        assert_eq!(keys(&settings), ["redis.url"]);
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(toml::from_str::<embedded::Settings>("path = 'a'\npaht = 'b'").is_err());
        assert!(toml::from_str::<Backend>("'mongo'").is_err());
    }
}
