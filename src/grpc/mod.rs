//! The transport: gRPC services over the core. The only place that knows tonic, prost and status codes.
//!
//! A call passes `connection` → `server` → `observe` → `authn` and `permit` → a handler in `token`, `identity`, `sms`, `email`,
//! `chat` or `event`. Messages become the core's values in `convert`, errors become statuses in `status`. It decides
//! nothing about users, tokens or messages, and never logs a message. The app starts it with [`serve`] and speaks to it through [`Health`].

mod answer;
mod arriving;
mod authn;
mod chat;
pub mod client;
mod codec;
mod connection;
mod convert;
mod email;
mod event;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod guests;
mod health;
mod identity;
mod import;
mod method;
mod observe;
mod page_token;
mod permit;
mod probe;
pub mod proto;
mod scales;
mod server;
mod sms;
mod socket;
mod status;
mod tls;
mod token;
mod trail;
mod turn;
mod unread;

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::connection::{Calls, Door, Limits};
pub use self::health::Health;
use self::probe::Probes;
use self::server::Server;
pub use self::tls::{ClientCertificate, Tls, TlsSettings};
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
    /// Where health alone is served in plain text; nowhere if none.
    #[serde(deserialize_with = "address_or_none")]
    pub probe_address: Option<SocketAddr>,
    /// `[server.tls]`.
    pub tls: TlsSettings,
    /// Connections open at the same time; more wait.
    pub max_connections: usize,
    /// Connections of one address at the same time; more are closed.
    pub max_connections_per_peer: usize,
    /// The longest a connection may take to begin.
    #[serde(with = "crate::duration")]
    pub handshake_timeout: Duration,
    /// How long a connection may stay, more or less a tenth; 0 for ever.
    #[serde(with = "crate::duration")]
    pub max_connection_age: Duration,
    /// How long a connection may stay without a call; 0 for ever.
    #[serde(with = "crate::duration")]
    pub max_connection_idle: Duration,
    /// Bytes of all headers of a request.
    pub max_header_bytes: u32,
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
            probe_address: None,
            tls: TlsSettings::default(),
            max_connections: 16_384,
            max_connections_per_peer: 512,
            handshake_timeout: Duration::from_secs(10),
            max_connection_age: Duration::ZERO,
            max_connection_idle: Duration::from_secs(1800),
            max_header_bytes: 16_384,
            max_in_flight: 4096,
            max_streams_per_connection: 256,
            max_message_bytes: 65536,
            default_deadline: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(20),
            reflection: false,
        }
    }
}

fn address_or_none<'de, D>(deserializer: D) -> Result<Option<SocketAddr>, D::Error>
where
    D: serde::Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    (!text.is_empty()).then(|| text.parse().map_err(serde::de::Error::custom)).transpose()
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
        check((1..=1_000_000).contains(&self.max_connections), "max_connections", "1 to 1000000");
        check(
            (1..=1_000_000).contains(&self.max_connections_per_peer),
            "max_connections_per_peer",
            "1 to 1000000",
        );
        check((4096..=262_144).contains(&self.max_header_bytes), "max_header_bytes", "4096 to 262144");
        let handshakes = Duration::from_secs(1)..=Duration::from_secs(60);
        check(handshakes.contains(&self.handshake_timeout), "handshake_timeout", "1s to 1m");
        let day = Duration::from_secs(86_400);
        check(self.max_connection_age <= day, "max_connection_age", "0s to 24h");
        check(self.max_connection_idle <= day, "max_connection_idle", "0s to 24h");
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

/// The sockets of the API and what protects them.
#[derive(Debug)]
pub struct Doors {
    /// For the API.
    pub api: TcpListener,
    /// The TLS of the API; without it, plain text.
    pub tls: Option<Arc<Tls>>,
    /// For health alone, in plain text.
    pub probes: Option<TcpListener>,
}

impl From<TcpListener> for Doors {
    /// The API alone, in plain text.
    fn from(api: TcpListener) -> Self {
        Self { api, tls: None, probes: None }
    }
}

/// Serves the API on the listener until `shutdown` is cancelled and the running calls are done, or their time is up.
/// Probes are answered until then.
///
/// A gate with an empty chain refuses every call. The server says that it serves only once [`Health::set_serving`] says so.
pub fn serve<D: Into<Doors>>(
    doors: D,
    settings: &Settings,
    cores: Cores,
    gate: Arc<Gate>,
    metrics: Metrics,
    health: Health,
    shutdown: CancellationToken,
) -> impl Future<Output = Result<(), ServeError>> + Send + use<D> {
    let Doors { api, tls, probes } = doors.into();
    let limits = settings.limits();
    let server = Server::new(settings, cores, gate, metrics.clone(), &health, &shutdown);
    async move {
        let server = server?;
        let probing = probes.map(|listener| {
            let calls = Calls::Probes(Probes::new(&health));
            // Whatever way this function is left, it ends.
            let stop = CancellationToken::new();
            let guard = stop.clone().drop_guard();
            let door =
                Door { listener, tls: None, calls, limits: limits.of_probes(), metrics: metrics.clone() };
            (guard, tokio::spawn(connection::serve(door, || (), stop)))
        });
        let door = Door { listener: api, tls, calls: Calls::Api(server), limits, metrics };
        connection::serve(door, || health.drain(), shutdown).await;
        if let Some((stop, task)) = probing {
            drop(stop);
            // A panic in it was logged where it happened.
            let _ = task.await;
        }
        Ok(())
    }
}

impl Settings {
    fn limits(&self) -> Limits {
        let unless_zero = |time: Duration| Some(time).filter(|time| !time.is_zero());
        Limits {
            max_connections: self.max_connections,
            max_per_peer: self.max_connections_per_peer,
            handshake: self.handshake_timeout,
            age: unless_zero(self.max_connection_age),
            idle: unless_zero(self.max_connection_idle),
            max_streams: self.max_streams_per_connection,
            max_header_bytes: self.max_header_bytes,
            drain_timeout: self.drain_timeout,
        }
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
            max_connections: 0,
            max_connections_per_peer: 0,
            handshake_timeout: Duration::from_secs(61),
            max_connection_age: Duration::from_secs(86_401),
            max_connection_idle: Duration::from_secs(86_401),
            max_header_bytes: 4095,
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
                "max_connections",
                "max_connections_per_peer",
                "max_header_bytes",
                "handshake_timeout",
                "max_connection_age",
                "max_connection_idle",
                "max_message_bytes",
                "default_deadline",
                "drain_timeout"
            ]
        );
    }
}
