//! `serve`: runs the broker until SIGTERM or SIGINT, then drains. A second signal ends the process at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use tokio_util::sync::CancellationToken;

use super::output::{Exit, Stop};
use super::settings::{self, flag};
use crate::app::{App, Listeners, RunError, StartError};
use crate::clock::SystemClock;
use crate::config::Purpose;

/// `serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// The settings file, in TOML. `check-config` prints every setting with its default.
    #[arg(long, env = "ACS_BROKER_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the gRPC API listens; wins over server.address.
    #[arg(long, value_name = "ADDRESS")]
    grpc_addr: Option<String>,
    /// Where /livez, /readyz and /metrics are served; wins over admin.address.
    #[arg(long, value_name = "ADDRESS")]
    admin_addr: Option<String>,
}

impl From<StartError> for Stop {
    fn from(error: StartError) -> Self {
        Self::Because(Exit::Failure, with_causes(&error))
    }
}

impl From<RunError> for Stop {
    fn from(error: RunError) -> Self {
        Self::Because(Exit::Failure, with_causes(&error))
    }
}

/// An error and its causes in one line; causes that the text tells already are left out.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

impl Serve {
    pub(super) fn run(&self, environment: &BTreeMap<String, String>) -> Result<Exit, Stop> {
        let flags: Vec<_> = [
            flag("server.address", "--grpc-addr", self.grpc_addr.as_deref()),
            flag("admin.address", "--admin-addr", self.admin_addr.as_deref()),
        ]
        .into_iter()
        .flatten()
        .collect();
        let config = settings::load(Purpose::Serve, &[], self.config.as_deref(), environment, &flags)?;
        let _logging = settings::start_logging(&config)?;
        super::to_the_end(async {
            let stop = stop_on_signal()?;
            let listeners = Listeners::bind(&config).await?;
            let (grpc, admin) = (listeners.grpc_addr(), listeners.admin_addr());
            let (webhook, probe) = (listeners.webhook_addr(), listeners.probe_addr());
            let app = App::build(&config, Arc::new(SystemClock)).await?;
            tracing::info!(
                grpc = grpc.map(tracing::field::display),
                admin = admin.map(tracing::field::display),
                webhook = webhook.map(tracing::field::display),
                probe = probe.map(tracing::field::display),
                tls = config.server.tls.cert_file.is_some(),
                version = env!("CARGO_PKG_VERSION"),
                "acs-broker is listening"
            );
            app.run(listeners, stop).await?;
            tracing::info!("stopped");
            Ok(Exit::Success)
        })
    }
}

/// A token that the first SIGTERM or SIGINT cancels; the second one ends the process.
///
/// A thread of its own waits for them, so that the second one works even if every worker of the runtime is stuck.
pub(super) fn stop_on_signal() -> Result<CancellationToken, Stop> {
    let cannot = |error: std::io::Error| {
        Stop::Because(Exit::Failure, format!("cannot listen to signals ({})", error.kind()))
    };
    let stop = CancellationToken::new();
    let asked = stop.clone();
    let waiting = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(cannot)?;
    let (listening, is_listening) = std::sync::mpsc::sync_channel(1);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            waiting.block_on(async {
                let mut signals = match Signals::listen() {
                    Ok(signals) => signals,
                    Err(error) => {
                        let _ = listening.send(Err(error));
                        return;
                    }
                };
                let _ = listening.send(Ok(()));
                signals.next().await;
                asked.cancel();
                signals.next().await;
                tracing::warn!("asked to stop twice: ending at once");
                std::process::exit(Exit::Failure as i32);
            });
        })
        .map_err(cannot)?;
    // A signal that comes before somebody listens would end the process without a drain.
    match is_listening.recv() {
        Ok(Ok(())) => Ok(stop),
        Ok(Err(error)) => Err(cannot(error)),
        Err(_) => Err(Stop::Because(Exit::Failure, "cannot listen to signals".into())),
    }
}

#[cfg(unix)]
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
