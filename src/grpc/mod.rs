//! The transport: gRPC services over the core. The only place that knows tonic, prost and status codes.
//!
//! A call passes `connection` → `server` → `observe` → `authn` → a handler in `token`, `identity`, `sms`, `email`,
//! `chat` or `event`. Messages become the core's values in `convert`, errors become statuses in `status`. It decides
//! nothing about users, tokens or messages, and never logs a message. The app starts it with [`serve`] and speaks to it through [`Health`].

mod authn;
mod chat;
pub mod client;
mod codec;
mod connection;
mod convert;
mod email;
mod event;
mod health;
mod identity;
mod import;
mod method;
mod observe;
mod page_token;
pub mod proto;
mod scales;
mod server;
mod sms;
mod status;
mod token;
mod trail;
mod turn;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use self::health::Health;
use self::server::Server;
use crate::audit::Audit;
use crate::auth::Gate;
use crate::broker::Broker;
use crate::messaging::Messaging;
use crate::messaging::chat::Chat;
use crate::metrics::Metrics;

/// `[server]`: where and within which limits the API is served. Ranges are checked by [`Settings::problems`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the API listens.
    pub address: SocketAddr,
    /// RPCs worked on at the same time; more are refused.
    pub max_in_flight: usize,
    /// Concurrent streams of one connection.
    pub max_streams_per_connection: u32,
    /// The largest request message in bytes.
    pub max_message_bytes: usize,
    /// The longest a call may take when its caller sets no deadline.
    #[serde(with = "crate::duration")]
    pub default_deadline: Duration,
    /// How long running calls may go on after the shutdown began.
    #[serde(with = "crate::duration")]
    pub drain_timeout: Duration,
    /// Whether server reflection is on.
    pub reflection: bool,
}

impl Default for Settings {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 50051)),
            max_in_flight: 4096,
            max_streams_per_connection: 256,
            max_message_bytes: 65536,
            default_deadline: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            reflection: false,
        }
    }
}

impl Settings {
    /// What is out of range: the key within `[server]`, and what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |ok: bool, key, range: &str| {
            if !ok {
                problems.push((key, format!("must be from {range}")));
            }
        };
        check((1..=100_000).contains(&self.max_in_flight), "max_in_flight", "1 to 100000");
        check(
            (1..=10_000).contains(&self.max_streams_per_connection),
            "max_streams_per_connection",
            "1 to 10000",
        );
        check((1024..=16_777_216).contains(&self.max_message_bytes), "max_message_bytes", "1024 to 16777216");
        let deadlines = Duration::from_millis(100)..=Duration::from_secs(300);
        check(deadlines.contains(&self.default_deadline), "default_deadline", "100ms to 5m");
        check(self.drain_timeout <= Duration::from_secs(600), "drain_timeout", "0s to 10m");
        problems
    }
}

/// Why the API could not be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors compiled into the binary are not fit for reflection.
    #[error("server reflection cannot be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What the services stand on.
#[derive(Clone)]
pub struct Cores {
    /// Identities and tokens.
    pub broker: Broker,
    /// Messages and events; without it their services answer as if they were not there.
    pub messaging: Option<Messaging>,
    /// Chat; without it its service answers as if it were not there.
    pub chat: Option<Chat>,
    /// Where every call leaves its record.
    pub audit: Audit,
}

impl From<Broker> for Cores {
    /// Identities and tokens alone.
    fn from(broker: Broker) -> Self {
        Self { broker, messaging: None, chat: None, audit: Audit::off() }
    }
}

/// Serves the API on the listener until `shutdown` is cancelled and the running calls are done, or their time is up.
///
/// A gate with an empty chain refuses every call. The server says that it serves only once [`Health::set_serving`] says so.
pub fn serve(
    listener: TcpListener,
    settings: &Settings,
    cores: Cores,
    gate: Arc<Gate>,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), ServeError>> + Send + use<> {
    let limits = connection::Limits {
        max_streams: settings.max_streams_per_connection,
        drain_timeout: settings.drain_timeout,
    };
    let server = Server::new(settings, cores, gate, metrics, &health, &shutdown);
    async move {
        connection::serve(listener, Arc::new(server?), limits, health, shutdown).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct File {
        server: Settings,
    }

    #[test]
    fn the_defaults_are_those_of_the_default_file_and_in_range() {
        let file: File = toml::from_str(include_str!("../../config/default.toml")).unwrap();
        assert_eq!(format!("{:?}", file.server), format!("{:?}", Settings::default()));
        assert!(Settings::default().problems().is_empty());
    }

    #[test]
    fn every_value_out_of_range_is_named_together() {
        let settings = Settings {
            max_in_flight: 0,
            max_streams_per_connection: 10_001,
            max_message_bytes: 1023,
            default_deadline: Duration::ZERO,
            drain_timeout: Duration::from_secs(601),
            ..Settings::default()
        };
        let keys: Vec<_> = settings.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "max_in_flight",
                "max_streams_per_connection",
                "max_message_bytes",
                "default_deadline",
                "drain_timeout"
            ]
        );
    }
}
