//! A server on a free port over scripted ports, clients for it, and waiting for a condition.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::auth::Gate;
use acs_broker::broker::{self, Broker};
use acs_broker::clock::SystemClock;
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::proto::v1::email_service_client::EmailServiceClient;
use acs_broker::grpc::proto::v1::event_service_client::EventServiceClient;
use acs_broker::grpc::proto::v1::identity_service_client::IdentityServiceClient;
use acs_broker::grpc::proto::v1::sms_service_client::SmsServiceClient;
use acs_broker::grpc::proto::v1::token_service_client::TokenServiceClient;
use acs_broker::grpc::{self, Cores, Doors, Health, ServeError, Settings, Tls};
use acs_broker::messaging::Messaging;
use acs_broker::metrics::Metrics;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};
use tower::ServiceExt;

use crate::messages::{self, World};
use crate::ports::{Acs, Store};

pub struct Server {
    /// The ports of messaging, and messaging over them.
    pub world: Arc<World>,
    pub messaging: Messaging,
    pub acs: Arc<Acs>,
    pub store: Arc<Store>,
    pub metrics: Metrics,
    pub health: Health,
    pub shutdown: CancellationToken,
    pub served: JoinHandle<Result<(), ServeError>>,
    pub address: std::net::SocketAddr,
    /// Where probes are answered.
    pub probes: std::net::SocketAddr,
}

/// The gate of a server for anybody on this machine.
pub fn anybody() -> Arc<Gate> {
    Arc::new(Gate::open(false))
}

/// Lets every event be of interest to somebody, from before the first one on. Tests share a process, and tracing
/// remembers of a line of code that nobody listens, if a test without a log gets there first.
pub fn listen() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(tracing_subscriber::registry()).unwrap());
}

pub async fn start(gate: Arc<Gate>, settings: Settings) -> Server {
    start_messaging(gate, settings, messages::settings()).await
}

/// One that speaks TLS.
pub async fn start_tls(gate: Arc<Gate>, settings: Settings, tls: Arc<Tls>) -> Server {
    start_all(gate, settings, Some(tls), messages::settings()).await
}

pub async fn start_messaging(
    gate: Arc<Gate>,
    settings: Settings,
    messages: acs_broker::messaging::Settings,
) -> Server {
    start_all(gate, settings, None, messages).await
}

async fn start_all(
    gate: Arc<Gate>,
    settings: Settings,
    tls: Option<Arc<Tls>>,
    messages: acs_broker::messaging::Settings,
) -> Server {
    listen();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let probing = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let probes = probing.local_addr().unwrap();
    let (acs, store) = (Arc::new(Acs::default()), Arc::new(Store::default()));
    let (metrics, health, shutdown) = (Metrics::new(), Health::new(), CancellationToken::new());
    let broker = Broker::new(
        broker::Settings::default(),
        acs.clone(),
        store.stores(),
        Arc::new(SystemClock),
        metrics.clone(),
    );
    let world = Arc::new(World::default());
    let messaging = world.messaging(messages);
    let served = tokio::spawn(grpc::serve(
        Doors { api: listener, tls, probes: Some(probing) },
        &settings,
        Cores {
            broker,
            messaging: Some(messaging.clone()),
            chat: None,
            audit: acs_broker::audit::Audit::off(),
        },
        gate,
        metrics.clone(),
        health.clone(),
        shutdown.clone(),
    ));
    health.set_serving(true);
    Server { world, messaging, acs, store, metrics, health, shutdown, served, address, probes }
}

pub async fn start_default() -> Server {
    start(anybody(), Settings::default()).await
}

impl Server {
    /// An IssueToken that hangs at ACS, as every later one does, and is in flight by now.
    pub async fn hanging_call(&self) -> JoinHandle<Result<Response<v1::IssueTokenResponse>, Status>> {
        self.acs.hang();
        let mut tokens = self.tokens().await;
        let call = tokio::spawn(async move { tokens.issue_token(wish("user")).await });
        let in_flight = || self.metrics.render().contains("acs_broker_rpcs_in_flight 1");
        eventually("the call is in flight", in_flight).await;
        call
    }

    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    pub async fn tokens(&self) -> TokenServiceClient<Channel> {
        TokenServiceClient::new(self.channel().await)
    }

    pub async fn identities(&self) -> IdentityServiceClient<Channel> {
        IdentityServiceClient::new(self.channel().await)
    }

    pub async fn sms(&self) -> SmsServiceClient<Channel> {
        SmsServiceClient::new(self.channel().await)
    }

    pub async fn email(&self) -> EmailServiceClient<Channel> {
        EmailServiceClient::new(self.channel().await)
    }

    pub async fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel().await)
    }

    /// Sends any HTTP request there is.
    pub async fn raw(&self, request: http::Request<Body>) -> http::Response<Body> {
        // The client keeps the path and overwrites scheme and authority.
        self.channel().await.oneshot(request).await.unwrap()
    }

    pub fn counted(&self, method: &str, code: &str) -> u64 {
        let labels = format!("rpc_method=\"{method}\",rpc_response_status_code=\"{code}\"");
        let text = self.metrics.render();
        let line =
            text.lines().find(|line| line.contains("duration_seconds_count") && line.contains(&labels));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0)
    }
}

/// A gRPC request with these bytes as its message.
pub fn message(path: &str, bytes: &[u8]) -> http::Request<Body> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(bytes);
    http::Request::post(format!("http://any{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(http_body_util::Full::from(frame)))
        .unwrap()
}

/// A request for a token for `user`.
pub fn wish(user: &str) -> v1::IssueTokenRequest {
    v1::IssueTokenRequest {
        user_id: user.into(),
        scopes: vec![v1::Scope::Chat.into()],
        min_remaining: None,
        validity: None,
    }
}

/// Checks what every error promises; returns its details.
#[track_caller]
pub fn refused(status: &Status, code: Code, reason: &str) -> ErrorDetails {
    let details = status.get_error_details();
    assert_eq!(status.code(), code, "{status:?}");
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "acsbroker"));
    let id = &details.request_info().unwrap().request_id;
    assert_eq!(info.metadata.get("request_id"), Some(id));
    assert_eq!(status.metadata().get("x-request-id").unwrap().to_str().unwrap(), id);
    assert!(!status.message().is_empty());
    details
}

/// Waits until the condition holds, at most ten seconds.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(tokio::time::Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
