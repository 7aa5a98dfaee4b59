//! The webhook intake: Azure Event Grid posts here what became of messages, over an HTTP listener of its own.
//!
//! It checks who posts and what, reads it (`read`), and hands it to `messaging`, which keeps it once. What cannot be
//! kept now is answered 503, so that Event Grid brings it again; a request that was taken in half is safe to repeat.
//! Nothing of an event is ever logged or repeated in an answer. Everything is bounded: connections, their life, heads,
//! bodies, the shape of the JSON. Run by `app`.

mod caller;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod read;
mod server;
mod shape;
#[cfg(test)]
mod tests;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::messaging::Messaging;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// The one path.
pub const PATH: &str = "/events";
/// The largest body: Event Grid posts at most 1 MB at a time.
const MAX_BODY: usize = 1_048_576;
/// The most events in one request.
const MAX_EVENTS: usize = 1000;
/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Requests that are read and taken in at the same time; more wait. Bounds the memory that bodies take once read.
const MAX_AT_WORK: usize = 8;
/// The time a client has to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time a client has to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The time to take a request in; Event Grid waits 30 s for an answer.
const TAKE_IN_WITHIN: Duration = Duration::from_secs(20);
/// The time a connection lives at the most. One connection is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(40);
/// How long requests under way may go on after the end.
const DRAIN: Duration = Duration::from_secs(5);

/// `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens; empty: nowhere.
    pub address: String,
    /// What whoever posts must know; empty if it comes from the file. `config` resolves the two.
    #[serde(deserialize_with = "secret")]
    pub secret: Secret,
    /// The file that holds the secret.
    pub secret_file: String,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// The shortest secret.
const MIN_SECRET: usize = 16;

impl Settings {
    /// Settings for code: listening at `address`, with this secret.
    pub fn at(address: impl Into<String>, secret: Secret) -> Self {
        Self { address: address.into(), secret, secret_file: String::new() }
    }

    /// Where to listen; none if nowhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.parse().ok()
    }

    /// What is wrong, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !self.secret.is_empty() && self.secret.expose().len() < MIN_SECRET {
            problems.push(("secret", format!("must have at least {MIN_SECRET} bytes")));
        }
        if self.is_open() {
            let what = "is not a loopback address, and without webhook.secret anybody could forge events; set the \
                        secret or its _file twin";
            problems.push(("address", what.into()));
        }
        problems
    }

    /// Whether anybody from another machine could post.
    pub fn is_open(&self) -> bool {
        self.secret.is_empty() && self.address().is_some_and(|address| !address.ip().is_loopback())
    }
}

/// What a request is dealt with by.
struct Intake {
    messaging: Messaging,
    secret: Secret,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    at_work: tokio::sync::Semaphore,
}

/// Serves until `shutdown`, then lets requests under way finish.
pub async fn serve(
    listener: TcpListener,
    secret: Secret,
    messaging: Messaging,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let at_work = tokio::sync::Semaphore::new(MAX_AT_WORK);
    let intake = Arc::new(Intake { messaging, secret, clock, metrics, at_work });
    server::run(listener, intake, shutdown).await;
}
