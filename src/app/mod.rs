//! Joins the parts: builds them from the settings, runs them, stops them in order.
//!
//! The one place that knows every part. It binds no socket by surprise and reads no signal: listeners and the wish to
//! stop come from outside, so that tests run a whole server in their own process.

mod audited;
#[cfg(feature = "emulator")]
pub mod dev;
mod messages;
mod readiness;
pub mod upstream;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::audited::Audited;
use self::upstream::Upstream;
use crate::acs;
use crate::admin::{self, Readiness};
use crate::audit::{self, Audit};
use crate::auth::Gate;
use crate::broker::Broker;
use crate::broker::ports::Stores;
use crate::clock::Clock;
use crate::config::Config;
use crate::grpc::{self, Cores, Health};
use crate::messaging::Messaging;
use crate::messaging::chat::Chat;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::{store, webhook};

/// How long work that outlived its callers may go on after the last call has ended.
const BACKGROUND_WITHIN: Duration = Duration::from_secs(5);

/// Why the process could not start. Each text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {}; change it with {mend} (port 0 takes a free one)", reason(.source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag and the setting that change it.
        mend: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Whoever reaches the webhook could forge events.
    #[error("webhook.address {address} can be reached from other machines, and webhook.secret is not set")]
    OpenWebhook {
        /// The address.
        address: SocketAddr,
    },
    /// The connection string is none. `config` has checked it before.
    #[error("acs.connection_string {0}")]
    ConnectionString(#[from] acs::ConnectionStringError),
    /// The client of ACS cannot be set up.
    #[error(transparent)]
    Acs(#[from] acs::BuildError),
    /// The audit cannot be opened.
    #[error(transparent)]
    Audit(#[from] audit::OpenError),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// The emulator cannot be started.
    #[cfg(feature = "emulator")]
    #[error(transparent)]
    Emulator(#[from] crate::emulator::StartError),
    /// The identities of an earlier run cannot be read.
    #[error("the mapping of an earlier run cannot be read")]
    Mapping(#[from] crate::broker::ports::StoreError),
}

/// What the system says of a failed bind, in words.
fn reason(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => "another process listens there".into(),
        std::io::ErrorKind::AddrNotAvailable => "this machine has no such address".into(),
        std::io::ErrorKind::PermissionDenied => "this user may not listen there".into(),
        kind => kind.to_string(),
    }
}

/// Why a running process ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API cannot be served.
    #[error(transparent)]
    Serve(#[from] grpc::ServeError),
}

/// The sockets of a broker.
#[derive(Debug)]
pub struct Listeners {
    /// For the API.
    pub grpc: TcpListener,
    /// For the admin endpoint.
    pub admin: TcpListener,
    /// For events, if any are taken in.
    pub webhook: Option<TcpListener>,
}

impl Listeners {
    /// Listens where the settings say.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let webhook = match config.webhook.address() {
            Some(address) if config.webhook.is_open() => return Err(StartError::OpenWebhook { address }),
            Some(address) => Some(bind(address, "webhook.address").await?),
            None => None,
        };
        Ok(Self {
            grpc: bind(config.server.address, "--grpc-addr or server.address").await?,
            admin: bind(config.admin.address, "--admin-addr or admin.address").await?,
            webhook,
        })
    }

    /// Where the API is served, port filled in.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc.local_addr().ok()
    }

    /// Where the admin endpoint is served, port filled in.
    pub fn admin_addr(&self) -> Option<SocketAddr> {
        self.admin.local_addr().ok()
    }

    /// Where events are taken in, port filled in.
    pub fn webhook_addr(&self) -> Option<SocketAddr> {
        self.webhook.as_ref()?.local_addr().ok()
    }
}

async fn bind(address: SocketAddr, mend: &'static str) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Bind { address, mend, source })
}

/// A broker that is built and does not run yet.
pub struct App {
    broker: Broker,
    messaging: Messaging,
    chat: Chat,
    /// What messaging still does when its callers are gone.
    tasks: TaskTracker,
    stores: Stores,
    webhook_secret: Secret,
    clock: Arc<dyn Clock>,
    server: grpc::Settings,
    gate: Arc<Gate>,
    metrics: Metrics,
    readiness: Readiness,
    audit: Audit,
}

impl App {
    /// Builds every part from the settings and opens the store. Connects to ACS on the first call only.
    pub async fn build(config: &Config, clock: Arc<dyn Clock>) -> Result<Self, StartError> {
        // One provider of cryptography for all; a second call finds it in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = Metrics::new();
        let resource = acs::ConnectionString::parse(config.acs.connection_string.expose())?;
        let client = acs::Client::new(&config.acs, resource, Arc::clone(&clock))?;
        let audit = Audit::open(&config.audit, Arc::clone(&clock), metrics.clone())?;
        let (url, password) = (config.store.redis.url.clone(), config.store.redis.password.clone());
        let opened = store::open(&config.store, url, password, Arc::clone(&clock), metrics.clone()).await?;
        let (stores, messages) = (opened.core, opened.messages);
        let upstream = Arc::new(Upstream::new(
            client,
            config.acs.custom_id,
            config.acs.timeout,
            Arc::clone(&clock),
            metrics.clone(),
        ));
        let upstream = Arc::new(Audited::new(upstream, audit.clone()));
        let tasks = TaskTracker::new();
        let messaging = Messaging::new(
            config.messages.clone(),
            messages,
            Arc::clone(&upstream) as _,
            Arc::clone(&upstream) as _,
            Arc::clone(&clock),
            metrics.clone(),
            tasks.clone(),
        );
        let broker = Broker::new(
            config.tokens.clone(),
            Arc::clone(&upstream) as _,
            stores.clone(),
            Arc::clone(&clock),
            metrics.clone(),
        );
        let chat = Chat::new(messaging.clone(), Arc::new(broker.clone()), upstream);
        Ok(Self {
            broker,
            messaging,
            chat,
            tasks,
            stores,
            webhook_secret: config.webhook.secret.clone(),
            clock,
            server: config.server.clone(),
            gate: Arc::new(config.auth.gate()),
            metrics,
            readiness: Readiness::new(),
            audit,
        })
    }

    /// The core, for tests and for commands that need no server.
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// SMS, mail and events, for tests.
    pub fn messaging(&self) -> &Messaging {
        &self.messaging
    }

    /// The store's ports.
    pub fn stores(&self) -> &Stores {
        &self.stores
    }

    /// The metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Whether traffic is welcome.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Serves until `shutdown`, then: not ready, no new calls, running calls end, background work ends, admin last.
    ///
    /// Ends at the latest `server.drain_timeout` and a few seconds after `shutdown`.
    pub async fn run(self, listeners: Listeners, shutdown: CancellationToken) -> Result<(), RunError> {
        let Self {
            broker,
            messaging,
            chat,
            tasks,
            stores,
            webhook_secret,
            clock,
            server,
            gate,
            metrics,
            readiness,
            audit,
        } = self;
        // Only the core holds the store from here on.
        drop(stores);
        let (health, watching, admin_stop) =
            (Health::new(), CancellationToken::new(), CancellationToken::new());
        // Whatever way this function is left, what it spawned ends.
        let (_watching, _admin_stop) = (watching.clone().drop_guard(), admin_stop.clone().drop_guard());

        let admin = tokio::spawn(admin::serve(
            listeners.admin,
            metrics.clone(),
            readiness.clone(),
            admin_stop.clone(),
        ));
        let watch = tokio::spawn(readiness::watch(
            broker.clone(),
            audit.clone(),
            metrics.clone(),
            readiness.clone(),
            health.clone(),
            watching.clone(),
        ));
        let follow = tokio::spawn(messages::follow_mails(messaging.clone(), watching.clone()));
        let look = tokio::spawn(messages::look_at_the_log(messaging.clone(), watching.clone()));
        // It ends with the calls: a report that is not taken in now is brought again.
        let taking_in = listeners.webhook.map(|listener| {
            let stop = shutdown.child_token();
            let guard = stop.clone().drop_guard();
            let (messaging, metrics) = (messaging.clone(), metrics.clone());
            (guard, tokio::spawn(webhook::serve(listener, webhook_secret, messaging, clock, metrics, stop)))
        });
        let draining = {
            let (shutdown, readiness) = (shutdown.clone(), readiness.clone());
            let running = watching.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = shutdown.cancelled() => {
                        readiness.draining();
                        tracing::info!("stopping: no new calls, running calls may finish");
                    }
                    () = running.cancelled() => {}
                }
            })
        };

        let serving = grpc::serve(
            listeners.grpc,
            &server,
            Cores {
                broker: broker.clone(),
                messaging: Some(messaging),
                chat: Some(chat),
                audit: audit.clone(),
            },
            gate,
            metrics,
            health,
            shutdown.clone(),
        );
        let served = serving.await;

        watching.cancel();
        if let Some((stop, task)) = taking_in {
            drop(stop);
            let _ = task.await;
        }
        for task in [follow, look] {
            let _ = task.await;
        }
        tasks.close();
        if tokio::time::timeout(BACKGROUND_WITHIN, tasks.wait()).await.is_err() {
            tracing::warn!(
                "messages were cut off while they were sent; asking again finds out what became of them"
            );
        }
        if !broker.shutdown(BACKGROUND_WITHIN).await {
            tracing::warn!(
                "background work was cut off; what it would have saved is done again on the next call"
            );
        }
        if !audit.stop(BACKGROUND_WITHIN).await {
            tracing::error!("audit records were not written before the end");
        }
        admin_stop.cancel();
        for task in [admin, watch, draining] {
            // Each ends by its own token; a panic in one was logged where it happened.
            let _ = tokio::time::timeout(Duration::from_secs(2), task).await;
        }
        served.map_err(RunError::from)
    }
}
