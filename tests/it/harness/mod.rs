//! What the integration tests stand on: a broker in this process over a real emulator and store, and typed clients.
//!
//! No mock: the emulator is reached over HTTP, the broker over gRPC. Dropping a [`Rig`] ends all of it.

pub(crate) mod messages;
mod process;
pub(crate) mod proof;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs;
use acs_broker::app::upstream::Upstream;
use acs_broker::audit::Audit;
use acs_broker::auth::Gate;
use acs_broker::broker::ports::Stores;
use acs_broker::broker::{self, Broker};
use acs_broker::clock::{Clock, SystemClock};
use acs_broker::emulator::{self, EmulatorHandle};
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::{self, Cores, Doors, Health, Tls};
use acs_broker::messaging::chat::Chat;
use acs_broker::messaging::ports::MessageStores;
use acs_broker::messaging::{self, Messaging};
use acs_broker::metrics::Metrics;
use acs_broker::secret::Secret;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use v1::chat_service_client::ChatServiceClient;
use v1::email_service_client::EmailServiceClient;
use v1::event_service_client::EventServiceClient;
use v1::identity_service_client::IdentityServiceClient;
use v1::sms_service_client::SmsServiceClient;
use v1::token_service_client::TokenServiceClient;

pub(crate) use self::process::{
    Broker as BrokerProcess, Emulator, WEBHOOK_SECRET, emulator_process, emulator_with,
};
use crate::redis_server::RedisServer;

/// How a [`Rig`] is built; each field has a sensible default.
pub(crate) struct Wish {
    pub(crate) clock: Arc<dyn Clock>,
    /// The clock of the broker's core alone, if it should differ.
    pub(crate) core_clock: Option<Arc<dyn Clock>>,
    pub(crate) stores: Option<Stores>,
    /// Where ACS is, if not at the rig's own emulator.
    pub(crate) connection_string: Option<String>,
    pub(crate) gate: Arc<Gate>,
    pub(crate) server: grpc::Settings,
    /// Without it, plain text.
    pub(crate) tls: Option<Arc<Tls>>,
    pub(crate) acs: acs::Settings,
    /// What may be sent.
    pub(crate) messages: messaging::Settings,
    /// Where messages are kept, if not in memory.
    pub(crate) message_stores: Option<MessageStores>,
    /// Where calls are recorded; nowhere by default.
    pub(crate) audit: Audit,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            core_clock: None,
            stores: None,
            connection_string: None,
            gate: Arc::new(Gate::open(false)),
            server: grpc::Settings { address: ([127, 0, 0, 1], 0).into(), ..grpc::Settings::default() },
            tls: None,
            acs: acs_settings(),
            messages: messages_settings(),
            message_stores: None,
            audit: Audit::off(),
        }
    }
}

/// `[messages]` with a sender of each kind.
pub(crate) fn messages_settings() -> messaging::Settings {
    let mut settings = messaging::Settings { limits: 0.0, ..messaging::Settings::default() };
    settings.sms.senders = messages::NUMBER.into();
    settings.email.senders = messages::ADDRESS.into();
    settings
}

/// `[acs]` with short times, so that outages are over soon.
pub(crate) fn acs_settings() -> acs::Settings {
    let mut file: toml::Table = include_str!("../../../config/default.toml").parse().unwrap();
    let defaults: acs::Settings = file.remove("acs").unwrap().try_into().unwrap();
    acs::Settings {
        timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(1),
        attempts: 2,
        max_concurrency: 64,
        ..defaults
    }
}

/// A broker in this process.
pub(crate) struct Rig {
    pub(crate) emulator: EmulatorHandle,
    pub(crate) address: SocketAddr,
    /// Messaging itself, to hand it events.
    pub(crate) messaging: Messaging,
    pub(crate) metrics: Metrics,
    /// In plain text.
    channel: Channel,
    pub(crate) stop: CancellationToken,
}

impl Rig {
    pub(crate) async fn start(wish: Wish) -> Self {
        let emulator =
            emulator::start(emulator::Settings::on_free_ports(), wish.clock.clone()).await.unwrap();
        let metrics = Metrics::new();
        let connection_string = wish.connection_string.unwrap_or_else(|| emulator.connection_string());
        let resource = acs::ConnectionString::parse(&connection_string).unwrap();
        let client = acs::Client::new(&wish.acs, resource, wish.clock.clone()).unwrap();
        let core_clock = wish.core_clock.unwrap_or_else(|| wish.clock.clone());
        let upstream =
            Upstream::new(client, wish.acs.custom_id, wish.acs.timeout, core_clock.clone(), metrics.clone());
        let upstream = Arc::new(upstream);
        let memory = acs_broker::store::memory(core_clock.clone());
        let stores = wish.stores.unwrap_or(memory.core);
        let messaging = Messaging::new(
            wish.messages,
            wish.message_stores.unwrap_or(memory.messages),
            upstream.clone(),
            upstream.clone(),
            core_clock.clone(),
            metrics.clone(),
            TaskTracker::new(),
        );
        let settings = broker::Settings::default();
        let broker = Broker::new(settings, upstream.clone(), stores, core_clock, metrics.clone());
        let chat = Chat::new(messaging.clone(), Arc::new(broker.clone()), upstream);
        let cores = Cores { broker, messaging: Some(messaging.clone()), chat: Some(chat), audit: wish.audit };
        let listener = tokio::net::TcpListener::bind(wish.server.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let health = Health::new();
        health.set_serving(true);
        let doors = Doors { api: listener, tls: wish.tls, probes: None };
        let counted = metrics.clone();
        tokio::spawn(grpc::serve(doors, &wish.server, cores, wish.gate, counted, health, stop.clone()));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
        Self { emulator, address, messaging, metrics, channel, stop }
    }

    /// For clients of other services.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
    }

    pub(crate) fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.channel.clone())
    }

    pub(crate) fn emails(&self) -> EmailServiceClient<Channel> {
        EmailServiceClient::new(self.channel.clone())
    }

    pub(crate) fn chats(&self) -> ChatServiceClient<Channel> {
        ChatServiceClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone())
    }

    pub(crate) fn identities(&self) -> IdentityServiceClient<Channel> {
        IdentityServiceClient::new(self.channel.clone())
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The store of a broker's core on this Redis.
pub(crate) async fn redis_stores(redis: &RedisServer) -> Stores {
    open_within(redis, Duration::from_millis(100)).await.core
}

/// The store of a broker on this Redis. Its patience is that of a machine that also compiles.
pub(crate) async fn open_redis(redis: &RedisServer) -> acs_broker::store::Opened {
    open_within(redis, Duration::from_secs(5)).await
}

async fn open_within(redis: &RedisServer, timeout: Duration) -> acs_broker::store::Opened {
    let mut file: toml::Table = include_str!("../../../config/default.toml").parse().unwrap();
    let mut settings: acs_broker::store::Settings = file.remove("store").unwrap().try_into().unwrap();
    settings.backend = acs_broker::store::Backend::Redis;
    settings.redis.timeout = timeout;
    let (url, password) = (Secret::new(redis.url()), Secret::new(""));
    let clock = Arc::new(SystemClock);
    acs_broker::store::open(&settings, url, password, clock, Metrics::new()).await.unwrap()
}

/// A request for a chat token.
pub(crate) fn chat(user: &str) -> v1::IssueTokenRequest {
    v1::IssueTokenRequest { user_id: user.into(), scopes: vec![v1::Scope::Chat.into()], ..Default::default() }
}

/// Waits until the condition holds; fails loudly after ten seconds.
pub(crate) async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let end = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition().await {
        assert!(tokio::time::Instant::now() < end, "{what} did not happen within 10 s");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
