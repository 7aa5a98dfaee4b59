//! Joins the parts: builds them from the settings, runs them, stops them in order.
//!
//! The one place that knows every part. It binds no socket by surprise and reads no signal: listeners and the wish to
//! stop come from outside, so that tests run a whole server in their own process.

mod access;
mod audited;
pub(crate) mod credential;
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
use crate::auth::jwt::Verifier;
use crate::auth::policy::BadPolicy;
use crate::auth::shadow::Shadow;
use crate::broker::Broker;
use crate::broker::ports::Stores;
use crate::clock::Clock;
use crate::config::Config;
use crate::grpc::{self, Cores, Doors, Health};
use crate::messaging::Messaging;
use crate::messaging::chat::Chat;
use crate::metrics::Metrics;
use crate::reload::{self, Reloadable};
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
    /// The files of TLS cannot be used. `config` has checked them before.
    #[error("server.{key} {what}")]
    Tls {
        /// The setting.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// Whoever reaches the webhook could forge events.
    #[error(
        "webhook.address {address} can be reached from other machines, and neither webhook.secret nor webhook.entra_tenant is set"
    )]
    OpenWebhook {
        /// The address.
        address: SocketAddr,
    },
    /// The policy is none.
    #[error(transparent)]
    Policy(#[from] BadPolicy),
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
    /// For health alone in plain text, if it has a port of its own.
    pub probe: Option<TcpListener>,
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
        let probe = match config.server.probe_address {
            Some(address) => Some(bind(address, "server.probe_address").await?),
            None => None,
        };
        Ok(Self {
            grpc: bind(config.server.address, "--grpc-addr or server.address").await?,
            probe,
            admin: bind(config.admin.address, "--admin-addr or admin.address").await?,
            webhook,
        })
    }

    /// Where the API is served, port filled in.
    pub fn grpc_addr(&self) -> Option<SocketAddr> {
        self.grpc.local_addr().ok()
    }

    /// Where health alone is served, port filled in.
    pub fn probe_addr(&self) -> Option<SocketAddr> {
        self.probe.as_ref()?.local_addr().ok()
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

/// What the admin endpoint shows of a rotation.
fn rotation_page(broker: &Broker) -> admin::Page {
    let broker = broker.clone();
    Arc::new(move || credential::rotation(&broker))
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
    upstream: Arc<Upstream>,
    manner: credential::Manner,
    webhook: webhook::Settings,
    clock: Arc<dyn Clock>,
    server: grpc::Settings,
    tls: Option<Arc<grpc::Tls>>,
    gate: Arc<Gate>,
    /// What is made of files that may change.
    reloadables: Vec<Arc<dyn Reloadable>>,
    issuers: Option<Arc<Verifier>>,
    shadow: Option<Arc<Shadow>>,
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
        let audit = Audit::open(&config.audit, Arc::clone(&clock), metrics.clone())?;
        let access = access::build(&config.auth, &clock, &metrics)?;
        let tls = grpc::Tls::open(&config.server.tls).map_err(|(key, what)| StartError::Tls { key, what })?;
        let tls = tls.map(Arc::new);
        let mut reloadables = access.reloadables;
        reloadables.extend(tls.iter().map(|tls| Arc::clone(tls) as _));
        let client = acs::Client::from_settings(&config.acs, Arc::clone(&clock))?;
        let (url, password) = (config.store.redis.url.clone(), config.store.redis.password.clone());
        let opened = store::open(&config.store, url, password, Arc::clone(&clock), metrics.clone()).await?;
        let (stores, messages) = (opened.core, opened.messages);
        reloadables.extend(opened.key_ring.map(|ring| ring as Arc<dyn Reloadable>));
        let upstream = Arc::new(Upstream::new(
            client,
            config.acs.custom_id,
            config.acs.timeout,
            Arc::clone(&clock),
            metrics.clone(),
        ));
        let audited = Arc::new(Audited::new(Arc::clone(&upstream), audit.clone()));
        let tasks = TaskTracker::new();
        let messaging = Messaging::new(
            config.messages.clone(),
            messages,
            Arc::clone(&audited) as _,
            Arc::clone(&audited) as _,
            Arc::clone(&clock),
            metrics.clone(),
            tasks.clone(),
        );
        let broker = Broker::new(
            config.tokens.clone(),
            Arc::clone(&audited) as _,
            stores.clone(),
            Arc::clone(&clock),
            metrics.clone(),
        );
        let chat = Chat::new(messaging.clone(), Arc::new(broker.clone()), Arc::clone(&audited) as _);
        let manner = credential::Manner::of(&config.acs);
        reloadables.extend(credential::Keys::of(&config.acs, &upstream));
        // Rules and keys that are read again leave a record.
        let reloadables =
            reloadables.into_iter().map(|thing| Arc::new(Audited::new(thing, audit.clone())) as _).collect();
        Ok(Self {
            broker,
            messaging,
            chat,
            tasks,
            stores,
            upstream,
            manner,
            webhook: config.webhook.clone(),
            clock,
            server: config.server.clone(),
            gate: Arc::new(access.gate),
            reloadables,
            issuers: access.issuers,
            shadow: access.shadow,
            tls,
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
            upstream,
            manner,
            webhook,
            clock,
            server,
            tls,
            gate,
            reloadables,
            issuers,
            shadow,
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
            admin::Shown {
                metrics: metrics.clone(),
                readiness: readiness.clone(),
                rotation: rotation_page(&broker),
                shadow,
            },
            admin_stop.clone(),
        ));
        let intake = listeners
            .webhook
            .map(|listener| (listener, webhook::Callers::new(&webhook, Arc::clone(&clock), metrics.clone())));
        let of_the_intake = intake.as_ref().and_then(|(_, posters)| posters.issuers());
        let watch = tokio::spawn(readiness::watch(
            broker.clone(),
            audit.clone(),
            issuers.into_iter().chain(of_the_intake).collect(),
            readiness.clone(),
            health.clone(),
            watching.clone(),
        ));
        let following = tokio::spawn(reload::follow(reloadables, metrics.clone(), watching.clone()));
        let tending = tokio::spawn(credential::tend(
            upstream,
            broker.clone(),
            manner,
            metrics.clone(),
            readiness.clone(),
            watching.clone(),
        ));
        let follow = tokio::spawn(messages::follow(chat.clone(), watching.clone()));
        let look = tokio::spawn(messages::look_at_the_log(messaging.clone(), watching.clone()));
        // It ends with the calls: a report that is not taken in now is brought again.
        let taking_in = intake.map(|(listener, posters)| {
            let stop = shutdown.child_token();
            let guard = stop.clone().drop_guard();
            let (messaging, metrics, audit) = (messaging.clone(), metrics.clone(), audit.clone());
            let serving = webhook::serve(listener, posters, messaging, audit, clock, metrics, stop);
            (guard, tokio::spawn(serving))
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
            Doors { api: listeners.grpc, tls, probes: listeners.probe },
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
        for task in [following, tending] {
            // What is under way reads a file or asks ACS; neither is worth waiting for.
            task.abort();
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
