//! The admin endpoint over HTTP: `/livez`, `/readyz`, `/metrics`, `/rotation`, and in shadow mode `/policy/seen`. For
//! kubelet, Prometheus and people on call.
//!
//! It shows states and counts, never a user id, a token or an address, and changes nothing. Everything is bounded:
//! connections, their life, the head of a request. A request with a body is not read.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::service::TowerToHyperService;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::auth::shadow::Shadow;
use crate::listener::{self, Limits};
use crate::metrics::Metrics;

/// `[admin]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens.
    pub address: std::net::SocketAddr,
}

/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// The time a client has to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time a connection lives at the most. One connection is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// One reason for not being ready, or one thing worth knowing although ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// A stable word: `starting`, `draining`, `store`, `audit`, `acs_credential`, `acs_key`.
    pub code: &'static str,
    /// For people.
    pub message: String,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether to send traffic here.
    pub ready: bool,
    /// Why not.
    pub reasons: Vec<Reason>,
    /// What an operator should see although traffic is served: a refused credential does not make a replica unready,
    /// because every replica shares it and cached tokens are still good.
    pub notes: Vec<Reason>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Facts {
    started: bool,
    draining: bool,
    store: Option<String>,
    audit: Option<String>,
    audit_closes: bool,
    credential: Option<Reason>,
    issuers: Vec<Reason>,
}

impl Facts {
    fn report(&self) -> Report {
        let mut reasons = Vec::new();
        let mut because = |applies: bool, code, message: &str| {
            if applies {
                reasons.push(Reason { code, message: message.into() });
            }
        };
        because(self.draining, "draining", "the process was asked to stop and finishes what it began");
        because(!self.started && !self.draining, "starting", "the process has not finished starting");
        because(self.store.is_some(), "store", self.store.as_deref().unwrap_or_default());
        let audit = self.audit.as_deref().unwrap_or_default();
        because(self.audit.is_some() && self.audit_closes, "audit", audit);
        let mut notes: Vec<_> = self.credential.iter().cloned().collect();
        if self.audit.is_some() && !self.audit_closes {
            notes.push(Reason { code: "audit", message: audit.into() });
        }
        notes.extend(self.issuers.iter().cloned());
        Report { ready: reasons.is_empty(), reasons, notes }
    }
}

/// Whether the process should get traffic, and why not. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct Readiness {
    facts: Arc<watch::Sender<Facts>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::new()
    }
}

impl Readiness {
    /// Not ready: starting.
    pub fn new() -> Self {
        Self { facts: Arc::new(watch::Sender::new(Facts::default())) }
    }

    /// The process has started. There is no way back.
    pub fn started(&self) {
        self.change(|facts| facts.started = true);
    }

    /// The process is about to stop. There is no way back.
    pub fn draining(&self) {
        self.change(|facts| facts.draining = true);
    }

    /// What is wrong with the store, if anything.
    pub fn store(&self, problem: Option<String>) {
        self.change(|facts| facts.store = problem);
    }

    /// Why audit records cannot be written, if they cannot, and whether calls are refused meanwhile.
    pub fn audit(&self, problem: Option<String>, closes: bool) {
        self.change(|facts| (facts.audit, facts.audit_closes) = (problem, closes));
    }

    /// What is wrong with the broker's credential towards ACS, if anything.
    pub fn credential(&self, problem: Option<Reason>) {
        self.change(|facts| facts.credential = problem);
    }

    /// What is wrong with the keys of token issuers. It does not make a replica unready: callers with certificates are
    /// served, and so are those of other issuers.
    pub fn issuers(&self, problems: Vec<Reason>) {
        self.change(|facts| facts.issuers = problems);
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        self.facts.send_if_modified(|facts| {
            let before = facts.clone();
            change(facts);
            *facts != before
        });
    }

    /// The state now.
    pub fn report(&self) -> Report {
        self.facts.borrow().report()
    }

    /// Waits until the state is `ready` or not, and returns at once if it is.
    pub async fn wait_for(&self, ready: bool) {
        let mut facts = self.facts.subscribe();
        // The sender is held by `self`, so the channel cannot close meanwhile.
        let _ = facts.wait_for(|facts| facts.report().ready == ready).await;
    }
}

/// A page that is made when it is asked for.
pub type Page = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// What the endpoint shows.
#[derive(Clone)]
pub struct Shown {
    /// The metrics.
    pub metrics: Metrics,
    /// Whether traffic is welcome.
    pub readiness: Readiness,
    /// What `/rotation` shows.
    pub rotation: Page,
    /// What shadow mode has seen, while it is on.
    pub shadow: Option<Arc<Shadow>>,
}

fn router(shown: Shown) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(render))
        .route("/rotation", get(rotated))
        .route("/policy/seen", get(policy_seen))
        .with_state(shown)
}

async fn readyz(State(shown): State<Shown>) -> Response {
    let report = shown.readiness.report();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report)).into_response()
}

async fn rotated(State(shown): State<Shown>) -> Response {
    Json((shown.rotation)()).into_response()
}

async fn render(State(shown): State<Shown>) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, OPEN_METRICS)], shown.metrics.render()).into_response()
}

/// The policy that allows just what callers have used.
async fn policy_seen(State(shown): State<Shown>) -> Response {
    match &shown.shadow {
        Some(shadow) => {
            ([(header::CONTENT_TYPE, "application/toml; charset=utf-8")], shadow.policy()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "auth.shadow is off\n").into_response(),
    }
}

/// Serves until `shutdown`, then lets answers under way finish.
pub async fn serve(listener: TcpListener, shown: Shown, shutdown: CancellationToken) {
    let service = TowerToHyperService::new(router(shown));
    let limits = Limits {
        connections: MAX_CONNECTIONS,
        head: HEAD_TIMEOUT,
        connection: CONNECTION_TIMEOUT,
        drain: Duration::from_secs(1),
    };
    let _ = listener::serve(listener, service, "the admin endpoint", limits, shutdown).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    struct Admin {
        address: std::net::SocketAddr,
        readiness: Readiness,
        metrics: Metrics,
        _stop: tokio_util::sync::DropGuard,
    }

    async fn start() -> Admin {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, readiness, metrics) =
            (listener.local_addr().unwrap(), Readiness::new(), Metrics::new());
        let stop = CancellationToken::new();
        let rotation: Page = Arc::new(|| serde_json::json!({ "safe": true }));
        let shown = Shown { metrics: metrics.clone(), readiness: readiness.clone(), rotation, shadow: None };
        tokio::spawn(serve(listener, shown, stop.clone()));
        Admin { address, readiness, metrics, _stop: stop.drop_guard() }
    }

    impl Admin {
        async fn ask(&self, request: &str) -> String {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        }

        async fn get(&self, path: &str) -> String {
            self.ask(&format!("GET {path} HTTP/1.1\r\nhost: admin\r\n\r\n")).await
        }
    }

    #[tokio::test]
    async fn readyz_says_why_not() {
        let admin = start().await;
        let answer = admin.get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"starting\""), "{answer}");
        admin.readiness.started();
        assert!(admin.get("/readyz").await.starts_with("HTTP/1.1 200"));
        admin.readiness.store(Some("the store cannot be reached".into()));
        let answer = admin.get("/readyz").await;
        assert!(
            answer.starts_with("HTTP/1.1 503") && answer.contains("the store cannot be reached"),
            "{answer}"
        );
        admin.readiness.store(None);
        admin.readiness.draining();
        let answer = admin.get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("\"draining\""), "{answer}");
        assert!(admin.get("/livez").await.starts_with("HTTP/1.1 200"), "alive while draining");
    }

    #[tokio::test]
    async fn a_refused_credential_is_told_but_keeps_the_replica_ready() {
        let admin = start().await;
        admin.readiness.started();
        admin.readiness.credential(Some(Reason { code: "acs_credential", message: "refused".into() }));
        let answer = admin.get("/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("acs_credential"), "{answer}");
    }

    #[tokio::test]
    async fn a_rotation_is_shown_as_json() {
        let answer = start().await.get("/rotation").await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with(r#"{"safe":true}"#), "{answer}");
    }

    #[tokio::test]
    async fn metrics_are_open_metrics() {
        let admin = start().await;
        admin.metrics.error("INTERNAL");
        let answer = admin.get("/metrics").await;
        assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0"), "{answer}");
        assert!(answer.contains("acs_broker_errors_total{reason=\"INTERNAL\"} 1"), "{answer}");
        assert!(answer.ends_with("# EOF\n"), "{answer}");
    }

    #[tokio::test]
    async fn other_paths_methods_and_nonsense_are_refused() {
        let admin = start().await;
        assert!(admin.get("/").await.starts_with("HTTP/1.1 404"));
        assert!(
            admin.ask("POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n").await.contains(" 405 ")
        );
        assert!(admin.ask("\u{1}\u{2}\r\n\r\n").await.starts_with("HTTP/1.1 400"));
        let endless = format!("GET /livez HTTP/1.1\r\nx: {}", "x".repeat(1 << 20));
        let mut stream = TcpStream::connect(admin.address).await.unwrap();
        // The server may hang up before all of it is sent.
        let _ = stream.write_all(endless.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        assert!(
            answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"),
            "{}",
            String::from_utf8_lossy(&answer)
        );
        assert!(admin.get("/livez").await.starts_with("HTTP/1.1 200"), "still alive");
    }

    #[tokio::test]
    async fn idle_connections_do_not_lock_others_out() {
        let admin = start().await;
        tokio::time::pause();
        let mut idle = Vec::new();
        for _ in 0..MAX_CONNECTIONS + 8 {
            idle.push(TcpStream::connect(admin.address).await.unwrap());
        }
        let answer = tokio::time::timeout(Duration::from_secs(60), admin.get("/livez")).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }

    #[tokio::test]
    async fn waiting_for_a_state_ends_when_it_comes() {
        let readiness = Readiness::new();
        readiness.wait_for(false).await;
        let other = readiness.clone();
        let waiting = tokio::spawn(async move { other.wait_for(true).await });
        readiness.started();
        tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap();
    }
}
