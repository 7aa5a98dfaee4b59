//! What a call leaves in the log: one line that says what happened and nothing about whom it was for.

use std::io;
use std::sync::{Arc, Mutex};

use acs_broker::broker::error::Error;
use tonic::Request;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::EnvFilter;

use crate::harness::{listen, start, start_default, wish};
use crate::ports::Trouble;

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Captures what this thread logs; the test's server runs on it too.
    fn capture(filter: &str) -> (Self, DefaultGuard) {
        listen();
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_env_filter(EnvFilter::new(filter))
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn rpcs(&self) -> Vec<serde_json::Value> {
        let text = self.text();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.filter(|line| line["target"] == "acs_broker::rpc").collect()
    }
}

#[tokio::test]
async fn a_call_leaves_one_line_with_method_code_reason_duration_id_and_caller() {
    let (log, _guard) = Log::capture("info,acs_broker::rpc=debug");
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let request = |user: &str| {
        let mut request = Request::new(wish(user));
        request.metadata_mut().insert("x-request-id", "order-17".parse().unwrap());
        request
    };
    tokens.issue_token(request("user")).await.unwrap();
    tokens.issue_token(request("")).await.unwrap_err();
    server.store.set(Trouble::Unavailable);
    tokens.issue_token(request("user")).await.unwrap_err();

    let lines = log.rpcs();
    assert_eq!(lines.len(), 3, "{}", log.text());
    for (line, level, code, reason) in [
        (&lines[0], "DEBUG", "OK", serde_json::Value::Null),
        (&lines[1], "INFO", "INVALID_ARGUMENT", "INVALID_FIELD".into()),
        (&lines[2], "WARN", "UNAVAILABLE", "STORE_UNAVAILABLE".into()),
    ] {
        assert_eq!(line["level"], level);
        assert_eq!((&line["fields"]["code"], &line["fields"]["reason"]), (&code.into(), &reason));
        assert!(line["fields"]["duration_ms"].as_f64().unwrap() > 0.0);
        assert_eq!(line["fields"]["rpc.method"], "acsbroker.v1.TokenService/IssueToken");
        let (id, caller) = (&line["fields"]["request_id"], &line["fields"]["caller"]);
        assert_eq!((id, caller), (&"order-17".into(), &"unauthenticated".into()));
    }
    // Whoever runs the broker sees why; the caller does not.
    assert!(lines[2]["fields"]["cause"].as_str().unwrap().contains("cause for the log alone"));
}

#[tokio::test]
async fn what_succeeds_is_left_to_the_metrics_at_info() {
    let (log, _guard) = Log::capture("info");
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    tokens.issue_token(wish("user")).await.unwrap();
    tokens.issue_token(wish("")).await.unwrap_err();
    let lines = log.rpcs();
    assert_eq!(lines.len(), 1, "{}", log.text());
    assert_eq!(lines[0]["fields"]["reason"], "INVALID_FIELD");
    assert!(lines[0]["fields"]["request_id"].is_string());
}

#[tokio::test]
async fn a_refused_caller_is_logged_with_the_reason_it_is_not_told() {
    let (log, _guard) = Log::capture("info");
    let server =
        start(std::sync::Arc::new(acs_broker::auth::Gate::shut()), acs_broker::grpc::Settings::default())
            .await;
    server.tokens().await.issue_token(wish("user")).await.unwrap_err();
    let fields = &log.rpcs()[0]["fields"];
    assert_eq!(fields["reason"], "CALLER_UNAUTHENTICATED");
    assert_eq!(fields["refusal"], "no authenticator claims the caller");
}

#[tokio::test]
async fn no_level_of_detail_shows_a_user_or_a_token() {
    let (log, _guard) = Log::capture("trace");
    let server = start_default().await;
    let mut tokens = server.tokens().await;
    let issued = tokens.issue_token(wish("needle-user")).await.unwrap().into_inner();
    tokens.issue_token(wish("needle-user\n")).await.unwrap_err();
    server.acs.fail_with(Error::AcsCredentialsRefused);
    tokens.issue_token(wish("needle-other")).await.unwrap_err();
    let text = log.text();
    assert!(text.contains("acs_broker::rpc"));
    for secret in ["needle", issued.token.as_str(), "resource_1"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
}
