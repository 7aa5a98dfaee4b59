//! Where the mapping and the tokens live: the core's five store ports, over one embedded file or over Redis.
//!
//! It decides nothing about freshness or revocation; it keeps what the ports' contracts promise, the same on every
//! backend (`contract.rs` holds them to it). Used by `app`, which opens it, and by tests, which take `memory`.

pub mod codec;
pub mod embedded;

pub use self::embedded::memory;

/// Shim.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Backend.
    pub backend: Backend,
    /// Embedded.
    pub embedded: embedded::Settings,
    /// Redis.
    pub redis: toml::Table,
}

/// Shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// Shim.
    Embedded,
    /// Shim.
    Redis,
}

/// Shim.
pub type OpenError = embedded::OpenError;

/// Shim.
pub async fn open(
    settings: &Settings,
    clock: std::sync::Arc<dyn crate::clock::Clock>,
    metrics: crate::metrics::Metrics,
) -> Result<crate::broker::ports::Stores, OpenError> {
    embedded::open(&settings.embedded, clock, metrics)
}
