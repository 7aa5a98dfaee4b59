//! A running emulator as the process that started it sees it: addresses, connection strings, faults, counts.
//!
//! Dropping the handle ends the emulator. Used by `app`, `cli` and tests; other processes use `control`.

use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::calls::Count;
use super::certificate::CaFile;
use super::faults::Faults;
use super::identity::{AccessKey, TokenState};
use super::operation::Operation;
use super::shared::Shared;

/// How long shutting down may take.
const SHUTDOWN: Duration = Duration::from_secs(5);

/// A running emulator. It ends when this is dropped.
pub struct EmulatorHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) ca_file: CaFile,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl EmulatorHandle {
    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.shared.http
    }

    /// Where HTTPS is served.
    pub fn tls_addr(&self) -> SocketAddr {
        self.shared.tls
    }

    /// The connection string for HTTP with the primary key. A secret as far as any key of an emulator is one.
    pub fn connection_string(&self) -> String {
        self.connection_string_with(AccessKey::Primary)
    }

    /// The connection string for HTTPS with the primary key.
    pub fn connection_string_tls(&self) -> String {
        self.connection_string_tls_with(AccessKey::Primary)
    }

    /// The connection string for HTTP with either key.
    pub fn connection_string_with(&self, key: AccessKey) -> String {
        self.shared.connection_string(false, key)
    }

    /// The connection string for HTTPS with either key.
    pub fn connection_string_tls_with(&self, key: AccessKey) -> String {
        self.shared.connection_string(true, key)
    }

    /// The address of the inbox page.
    pub fn inbox(&self) -> String {
        self.shared.inbox()
    }

    /// The PEM file of the CA that signed the HTTPS certificate.
    pub fn ca_file(&self) -> &Path {
        self.ca_file.path()
    }

    /// Replaces an access key, which kills the tokens issued with it, and returns the new connection string for HTTP.
    pub fn rotate_key(&self, key: AccessKey) -> String {
        self.shared.state().rotate(key);
        self.connection_string_with(key)
    }

    /// The faults to come.
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// How many requests of an operation arrived, whatever became of them.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.shared.calls.get(Count::Calls, operation)
    }

    /// How many requests of an operation had their effect, whether or not the caller heard of it.
    pub fn successes(&self, operation: Operation) -> u64 {
        self.shared.calls.get(Count::Successes, operation)
    }

    /// How many requests of an operation are being worked on now.
    pub fn in_flight(&self, operation: Operation) -> u64 {
        self.shared.calls.get(Count::InFlight, operation)
    }

    /// The most requests of an operation that were worked on at the same time.
    pub fn most_in_flight(&self, operation: Operation) -> u64 {
        self.shared.calls.get(Count::MostInFlight, operation)
    }

    /// How many tokens were issued, by either operation that issues them.
    pub fn tokens_issued(&self) -> u64 {
        self.shared.calls.tokens_issued()
    }

    /// How many identities are alive.
    pub fn identities_alive(&self) -> usize {
        self.shared.state().alive()
    }

    /// The raw ids of the living identities, in order.
    pub fn identity_ids(&self) -> Vec<String> {
        self.shared.state().alive_ids().into_iter().collect()
    }

    /// What the real service would think of a token now.
    pub fn token_state(&self, token: &str) -> TokenState {
        let now = self.shared.clock.now();
        self.shared.state().token_state(token, now)
    }

    /// Takes an identity of an earlier run as its own, as `dev` does with those of a mapping that was kept. False if the
    /// id is none of ACS or there is no room.
    pub fn adopt(&self, raw_id: &str) -> bool {
        self.shared.state().adopt(raw_id)
    }

    /// Moves the emulator's clock ahead of the one it was given; what falls due happens at once.
    pub fn advance(&self, by: Duration) {
        self.shared.advance(by);
    }

    /// Forgets identities, messages, threads, faults and counts; keys, addresses and the time stay.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Stops listening, closes all connections, and returns once the ports are free.
    pub async fn shutdown(self) {
        self.cancel.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(SHUTDOWN, self.tasks.wait()).await;
        if ended.is_err() {
            tracing::warn!("the emulator did not end in time");
        }
    }
}

impl Drop for EmulatorHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.tasks.close();
    }
}

impl fmt::Debug for EmulatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmulatorHandle")
            .field("http", &self.shared.http)
            .field("tls", &self.shared.tls)
            .field("ca_file", &self.ca_file.path())
            .finish_non_exhaustive()
    }
}
