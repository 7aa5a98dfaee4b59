//! An emulator of Azure Communication Services (Identity, SMS, Email, Chat): what the official SDKs cannot tell from the real thing.
//!
//! Written from the published REST specifications and recorded answers alone. It shares no type with the client in
//! `acs`, so that both cannot be wrong together; the official SDKs are the judges (`tests/conformance`). What it does
//! not emulate it refuses with 501, never with a plausible fake. Started by `app` and `cli` for `dev` and `emulator`,
//! and by tests. docs/emulator.md lists what is emulated, what is guessed, and the faults.

mod answer;
mod authentication;
mod call;
mod calls;
mod certificate;
mod chat;
mod clock;
mod control;
mod email;
mod events;
mod faults;
mod feed;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod handle;
mod identity;
mod inbox;
mod issuer;
mod magic;
mod mailbox;
mod operation;
mod random;
mod respond;
mod scheduler;
mod server;
mod service;
mod settings;
mod shared;
mod shelf;
mod signature;
mod sms;
mod throttle;
mod times;
#[cfg(test)]
mod trial;
mod version;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use faults::{Chance, Commit, Effect, Fault, Faults, Waiting};
pub use handle::EmulatorHandle;
pub use identity::{AccessKey, SigningKeyError, TokenState};
pub use operation::Operation;
pub use settings::{Settings, StartError};

use crate::clock::Clock;

/// Starts an emulator: listens on both addresses and serves until the handle is shut down or dropped.
pub async fn start(settings: Settings, clock: Arc<dyn Clock>) -> Result<EmulatorHandle, StartError> {
    let (http, tls) = settings.addresses()?;
    let random = random::Random::new(settings.seed());
    let limits = identity::Limits::default();
    let identities = identity::State::new(settings.access_key.as_ref(), limits, random.uuid())?;
    let issuer = issuer::Issuer::new()?;
    let signer = identity::Signer::new()?;
    let throttle = throttle::Throttle::new(settings.throttle)?;
    let certificates = certificate::make(tls.ip())?;
    let http_listener = bind("emulator.address", http).await?;
    let tls_listener = bind("emulator.tls_address", tls).await?;
    let (http, tls) = (local(&http_listener, http), local(&tls_listener, tls));
    let ca_file = certificate::CaFile::write(settings.data_dir.as_deref(), &certificates.ca_pem)?;
    let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());

    let shared = Arc::new(shared::Shared {
        http,
        tls,
        clock: clock::VirtualClock::over(clock),
        random,
        feed: feed::Feed::default(),
        scheduler: scheduler::Scheduler::default(),
        faults: Faults::default(),
        throttle,
        calls: calls::Calls::default(),
        signer,
        identities: Mutex::new(identities),
        issuer,
        sms: sms::Sms::new(&settings),
        email: email::Email::new(&settings),
        chat: chat::Chat::new(&settings),
        events: events::Events::new(&settings, tasks.clone(), cancel.clone())?,
        watchers: control::Watchers::default(),
        large_bodies: shared::large_bodies(),
        settings,
    });
    events::start(&shared)?;
    tasks.spawn(scheduler::run(Arc::clone(&shared), cancel.clone()));
    let acceptor = TlsAcceptor::from(certificates.tls);
    for (listener, acceptor) in [(http_listener, None), (tls_listener, Some(acceptor))] {
        tasks.spawn(server::accept(listener, acceptor, Arc::clone(&shared), tasks.clone(), cancel.clone()));
    }
    tracing::info!(%http, %tls, "the ACS emulator is listening");
    Ok(EmulatorHandle { shared, ca_file, tasks, cancel })
}

async fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { setting, address, source })
}

/// The address with the port the system chose.
fn local(listener: &TcpListener, wanted: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(wanted)
}
