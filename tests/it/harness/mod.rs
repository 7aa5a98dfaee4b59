//! What the integration tests stand on: a broker in this process over a real emulator and store, and typed clients.
//!
//! No mock: the emulator is reached over HTTP, the broker over gRPC. Dropping a [`Rig`] ends all of it.

pub(crate) mod messages;
mod process;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs;
use acs_broker::app::upstream::Upstream;
use acs_broker::auth::{Authenticator, Unauthenticated};
use acs_broker::broker::ports::Stores;
use acs_broker::broker::{self, Broker};
use acs_broker::clock::{Clock, SystemClock};
use acs_broker::emulator::{self, EmulatorHandle};
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::{self, Health};
use acs_broker::metrics::Metrics;
use acs_broker::secret::Secret;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use v1::identity_service_client::IdentityServiceClient;
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
    pub(crate) chain: Vec<Arc<dyn Authenticator>>,
    pub(crate) server: grpc::Settings,
    pub(crate) acs: acs::Settings,
}

impl Default for Wish {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            core_clock: None,
            stores: None,
            connection_string: None,
            chain: vec![Arc::new(Unauthenticated { allow_off_loopback: false })],
            server: grpc::Settings { address: ([127, 0, 0, 1], 0).into(), ..grpc::Settings::default() },
            acs: acs_settings(),
        }
    }
}

/// `[acs]` with short times, so that outages are over soon.
pub(crate) fn acs_settings() -> acs::Settings {
    acs::Settings {
        connection_string: Secret::new(""),
        connection_string_file: None,
        ca_file: None,
        timeout: Duration::from_secs(2),
        attempt_timeout: Duration::from_secs(1),
        attempts: 2,
        max_concurrency: 64,
        custom_id: acs::CustomId::Off,
    }
}

/// A broker in this process.
pub(crate) struct Rig {
    pub(crate) emulator: EmulatorHandle,
    pub(crate) address: SocketAddr,
    channel: Channel,
    stop: CancellationToken,
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
        let issuer =
            Upstream::new(client, wish.acs.custom_id, wish.acs.timeout, core_clock.clone(), metrics.clone());
        let stores = wish.stores.unwrap_or_else(|| acs_broker::store::memory(core_clock.clone()).core);
        let broker =
            Broker::new(broker::Settings::default(), Arc::new(issuer), stores, core_clock, metrics.clone());
        let listener = tokio::net::TcpListener::bind(wish.server.address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let health = Health::new();
        health.set_serving(true);
        tokio::spawn(grpc::serve(
            listener,
            &wish.server,
            broker.into(),
            wish.chain,
            metrics,
            health,
            stop.clone(),
        ));
        let channel = Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { emulator, address, channel, stop }
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel.clone())
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

/// The store of a broker on this Redis.
pub(crate) async fn redis_stores(redis: &RedisServer) -> Stores {
    let mut file: toml::Table = include_str!("../../../config/default.toml").parse().unwrap();
    let mut settings: acs_broker::store::Settings = file.remove("store").unwrap().try_into().unwrap();
    settings.backend = acs_broker::store::Backend::Redis;
    let (url, password) = (Secret::new(redis.url()), Secret::new(""));
    let clock = Arc::new(SystemClock);
    acs_broker::store::open(&settings, url, password, clock, Metrics::new()).await.unwrap().core
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
