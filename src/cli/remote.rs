//! The flags that every client command shares: which server, how long to wait, which output.

use std::time::Duration;

use clap::Args;

use super::output::{Exit, Stop, duration};
use crate::grpc::client::{Client, Target};

/// Where a broker is found when nothing else is said.
pub(super) const DEFAULT_SERVER: &str = "http://127.0.0.1:50051";

/// Which broker to ask, and how.
#[derive(Debug, Args)]
pub(super) struct Remote {
    /// The broker's gRPC address.
    #[arg(long, env = "ACS_BROKER_SERVER", default_value = DEFAULT_SERVER, value_name = "URL")]
    server: String,
    /// The longest a call may take.
    #[arg(long, default_value = "15s", value_parser = duration, value_name = "DURATION")]
    timeout: Duration,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub(super) json: bool,
}

impl Remote {
    /// A client of that broker.
    pub(super) fn client(&self) -> Result<Client, Stop> {
        let target = Target { server: self.server.clone(), timeout: self.timeout };
        Client::new(&target).map_err(|what| Stop::Because(Exit::Usage, format!("--server {what}")))
    }
}
