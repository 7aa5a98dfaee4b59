//! A broker and the ACS emulator in one process, on this machine, with nothing to set up.
//!
//! The emulator forgets its identities when it ends, while a mapping that is kept does not. So `start` hands the
//! identities of the mapping to the new emulator before the first call; their old tokens are not handed over, because
//! the new emulator has a new key, and the core issues new ones for it. Used by `cli` and by tests.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::{App, Listeners, RunError, StartError};
use crate::broker::ports::Stores;
use crate::clock::Clock;
use crate::config::Config;
use crate::emulator::{self, EmulatorHandle};
use crate::secret::Secret;
use crate::webhook;

/// Where everything is, as the ready file says it.
#[derive(Debug, Clone, Serialize)]
pub struct Whereabouts {
    /// The API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grpc: Option<SocketAddr>,
    /// The admin endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<SocketAddr>,
    /// Where the broker takes events in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook: Option<SocketAddr>,
    /// The emulator over HTTP.
    pub emulator: SocketAddr,
    /// The emulator over HTTPS.
    pub emulator_tls: SocketAddr,
    /// The connection string of the emulator over HTTP. Its key is made up at every start.
    pub connection_string: String,
    /// The connection string of the emulator over HTTPS.
    pub connection_string_tls: String,
    /// The PEM file of the authority to trust for HTTPS.
    pub ca_file: PathBuf,
    /// The page that shows what was sent.
    pub inbox: String,
}

impl Whereabouts {
    /// Where an emulator alone is.
    pub fn of_emulator(emulator: &EmulatorHandle) -> Self {
        Self {
            grpc: None,
            admin: None,
            webhook: None,
            emulator: emulator.http_addr(),
            emulator_tls: emulator.tls_addr(),
            connection_string: emulator.connection_string(),
            connection_string_tls: emulator.connection_string_tls(),
            ca_file: emulator.ca_file().to_owned(),
            inbox: emulator.inbox(),
        }
    }
}

/// A broker and its emulator, built and about to run.
pub struct Dev {
    app: App,
    emulator: EmulatorHandle,
    listeners: Listeners,
    /// How many identities of the mapping the emulator knows from the start.
    pub adopted: usize,
    /// How many identities of the mapping are none that the emulator could have made.
    pub not_adopted: usize,
}

impl Dev {
    /// Starts the emulator with its CA file in `data_dir`, and builds a broker in front of it.
    pub async fn start(config: Config, data_dir: &Path, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        let mut config = config;
        // Before anything else, so that a taken port is told at once.
        let listeners = Listeners::bind(&config).await?;
        let mut settings =
            emulator::Settings { data_dir: Some(data_dir.to_owned()), ..config.emulator.clone() };
        if settings.webhook_url.is_empty()
            && let Some(address) = listeners.webhook_addr()
        {
            // The listener takes connections from here on, and the broker answers them once it runs.
            settings.webhook_url = webhook_url(address, &config.webhook.secret);
        }
        let emulator = emulator::start(settings, Arc::clone(&clock)).await?;
        config.acs.connection_string = Secret::new(emulator.connection_string());
        let app = App::build(&config, clock).await?;
        let (adopted, not_adopted) = adopt(app.stores(), &emulator).await?;
        Ok(Self { app, emulator, listeners, adopted, not_adopted })
    }

    /// Where everything is.
    pub fn whereabouts(&self) -> Whereabouts {
        Whereabouts {
            grpc: self.listeners.grpc_addr(),
            admin: self.listeners.admin_addr(),
            webhook: self.listeners.webhook_addr(),
            ..Whereabouts::of_emulator(&self.emulator)
        }
    }

    /// The broker.
    pub fn app(&self) -> &App {
        &self.app
    }

    /// Serves until `shutdown`; the emulator ends last, because the broker still finishes calls to it.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), RunError> {
        let served = self.app.run(self.listeners, shutdown).await;
        self.emulator.shutdown().await;
        served
    }
}

/// Where the emulator posts to, with what it must bring.
fn webhook_url(address: SocketAddr, secret: &Secret) -> String {
    let mut address = address;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    let mut url = format!("http://{address}{}", webhook::PATH);
    if !secret.is_empty() {
        let code = percent_encoding::utf8_percent_encode(secret.expose(), percent_encoding::NON_ALPHANUMERIC);
        url.push_str(&format!("?code={code}"));
    }
    url
}

/// Makes the emulator know every identity of the mapping.
async fn adopt(stores: &Stores, emulator: &EmulatorHandle) -> Result<(usize, usize), StartError> {
    let (mut adopted, mut not_adopted) = (0, 0);
    let mut from: Option<Vec<u8>> = None;
    loop {
        let Some(page) = stores.identities.list(from.as_deref(), 1000).await? else { break };
        for (_, record) in &page.entries {
            if emulator.adopt(record.identity.as_str()) {
                adopted += 1;
            } else {
                not_adopted += 1;
            }
        }
        match page.next {
            Some(next) => from = Some(next),
            None => break,
        }
    }
    Ok((adopted, not_adopted))
}

#[cfg(test)]
#[path = "dev_tests.rs"]
mod tests;
