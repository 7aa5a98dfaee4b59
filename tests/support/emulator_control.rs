//! A client of the emulator's control API, for tests: the emulator may run in this process or in another one.
//!
//! It is written from docs/emulator.md alone, as anybody's own client would be. Included by the tests that need it; a
//! request that fails otherwise than a method says is a failed test.

#![allow(dead_code, reason = "each including test uses a part of it")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// A way to a running emulator's control API.
#[derive(Clone)]
pub(crate) struct Control {
    base: String,
    http: reqwest::Client,
    token: Option<String>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Value,
}

/// A message in the inbox.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Message {
    pub(crate) sequence: u64,
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) at: String,
    pub(crate) direction: String,
    pub(crate) from: String,
    pub(crate) from_name: Option<String>,
    pub(crate) to: Vec<String>,
    pub(crate) subject: Option<String>,
    pub(crate) text: String,
    pub(crate) status: String,
    pub(crate) thread: Option<String>,
    pub(crate) attachments: usize,
    pub(crate) tag: Option<String>,
}

/// A message with what only its kind has.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Detailed {
    #[serde(flatten)]
    pub(crate) message: Message,
    pub(crate) detail: Value,
}

/// A page of the inbox.
#[derive(Debug, Deserialize)]
pub(crate) struct Messages {
    pub(crate) messages: Vec<Message>,
    #[serde(default)]
    pub(crate) more: bool,
}

/// How many messages matched when it was not as many as it should be.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Missed {
    pub(crate) count: u64,
}

/// A user that was made on request.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Seeded {
    pub(crate) id: String,
    pub(crate) custom_id: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) expires_on: Option<String>,
}

/// What the emulator's clock shows.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Time {
    pub(crate) now: String,
    pub(crate) ahead_ms: u64,
}

/// The connection strings with a new key.
#[derive(Debug, Deserialize)]
pub(crate) struct Rotated {
    pub(crate) connection_string: String,
    pub(crate) connection_string_tls: String,
}

impl Control {
    /// The control API of the emulator at `base`, such as `http://127.0.0.1:8082`.
    pub(crate) fn at(base: impl Into<String>) -> Self {
        // reqwest wants a process default.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // No proxy, whatever the environment says; and longer than the longest wait.
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(660)).build().unwrap();
        Self { base: base.into(), http, token: None }
    }

    /// The same, bringing a token.
    pub(crate) fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    /// A request before it is sent, for what has no method here.
    pub(crate) fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method.parse().unwrap(), format!("{}/_emulator/{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answered {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let text = || Value::String(String::from_utf8_lossy(&bytes).into_owned());
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| text());
        Answered { status, headers, body }
    }

    /// `GET`.
    pub(crate) async fn get(&self, path: &str) -> Answered {
        self.send(self.request("GET", path)).await
    }

    /// `POST` with a JSON body.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answered {
        self.send(self.request("POST", path).json(body)).await
    }

    pub(crate) async fn status(&self) -> Value {
        self.get("status").await.done()
    }

    /// The messages that match, newest first. Names as in a query: `kind`, `to`, `contains`, `limit` …
    pub(crate) async fn messages(&self, wanted: &[(&str, &str)]) -> Messages {
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(wanted).finish();
        self.get(&format!("messages?{query}")).await.done()
    }

    pub(crate) async fn message(&self, id: &str) -> Option<Detailed> {
        let id: String = id.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answered = self.get(&format!("messages/{id}")).await;
        (answered.status != 404).then(|| answered.done())
    }

    /// Waits until `count` messages match.
    pub(crate) async fn wait(
        &self,
        wanted: Value,
        count: usize,
        timeout: Duration,
    ) -> Result<Vec<Message>, Missed> {
        let timeout = u64::try_from(timeout.as_millis()).unwrap();
        let body = json!({ "match": wanted, "count": count, "timeout_ms": timeout });
        let answered = self.post("messages/wait", &body).await;
        let messages: Messages = answered.done_or_missed(408, "WaitTimedOut")?;
        Ok(messages.messages)
    }

    /// Says how many messages match, if it is `exactly`, `at_least` or `at_most` this many.
    pub(crate) async fn assert(&self, wanted: Value, how: &str, count: u64) -> Result<u64, Missed> {
        let answered = self.post("messages/assert", &json!({ "match": wanted, how: count })).await;
        let body: Value = answered.done_or_missed(409, "AssertionFailed")?;
        Ok(body["count"].as_u64().unwrap())
    }

    pub(crate) async fn threads(&self) -> Vec<Value> {
        self.list("threads", "threads").await
    }

    pub(crate) async fn identities(&self) -> Value {
        self.get("identities").await.done()
    }

    /// Makes users: `[{"custom_id","scopes","minutes"}]`, every field optional.
    pub(crate) async fn seed(&self, users: Value) -> Vec<Seeded> {
        #[derive(Deserialize)]
        struct Users {
            users: Vec<Seeded>,
        }
        self.post("identities", &json!({ "users": users })).await.done::<Users>().users
    }

    /// Sends an SMS to the resource, and returns its id.
    pub(crate) async fn receive_sms(&self, from: &str, to: &str, message: &str) -> String {
        let body = json!({ "from": from, "to": to, "message": message });
        let answer: Value = self.post("sms/inbound", &body).await.done();
        answer["id"].as_str().unwrap().to_owned()
    }

    /// Has a recipient open a mail (`view`) or follow a link in it (`click`).
    pub(crate) async fn engage(&self, id: &str, recipient: &str, kind: &str) {
        let body = json!({ "recipient": recipient, "type": kind });
        self.post(&format!("emails/{id}/engagement"), &body).await.empty();
    }

    pub(crate) async fn fault(&self, fault: Value) {
        self.post("faults", &fault).await.empty();
    }

    pub(crate) async fn faults(&self) -> Vec<Value> {
        self.list("faults", "faults").await
    }

    /// Takes faults back: those of one operation, or all.
    pub(crate) async fn clear_faults(&self, operation: Option<&str>) {
        let path = operation.map_or("faults".to_owned(), |name| format!("faults?operation={name}"));
        self.send(self.request("DELETE", &path)).await.empty();
    }

    pub(crate) async fn clock(&self) -> Time {
        self.get("clock").await.done()
    }

    pub(crate) async fn advance(&self, by: &str) -> Time {
        self.post("clock", &json!({ "advance": by })).await.done()
    }

    /// Replaces the `primary` or `secondary` key.
    pub(crate) async fn rotate(&self, key: &str) -> Rotated {
        self.post("keys/rotate", &json!({ "key": key })).await.done()
    }

    pub(crate) async fn calls(&self) -> BTreeMap<String, u64> {
        self.get("calls").await.done()
    }

    /// The calls after number `after`, newest first.
    pub(crate) async fn call_log(&self, after: u64) -> Vec<Value> {
        self.list(&format!("calls/log?after={after}&limit=1000"), "calls").await
    }

    pub(crate) async fn call_log_text(&self) -> String {
        let response = self.request("GET", "calls/log.txt").send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.text().await.unwrap()
    }

    /// The events after number `after`, newest first.
    pub(crate) async fn events(&self, after: u64) -> Vec<Value> {
        self.list(&format!("events?after={after}&limit=1000"), "events").await
    }

    pub(crate) async fn webhooks(&self) -> Vec<Value> {
        self.list("webhooks", "webhooks").await
    }

    pub(crate) async fn set_webhooks(&self, webhooks: Value) {
        self.send(self.request("PUT", "webhooks").json(&webhooks)).await.empty();
    }

    pub(crate) async fn reset(&self) {
        self.send(self.request("POST", "reset")).await.empty();
    }

    async fn list(&self, path: &str, name: &str) -> Vec<Value> {
        let answer: Value = self.get(path).await.done();
        answer[name].as_array().unwrap().clone()
    }
}

impl Answered {
    /// The body of a success.
    #[track_caller]
    pub(crate) fn done<T: DeserializeOwned>(self) -> T {
        assert_eq!(self.status, 200, "{}", self.body);
        serde_json::from_value(self.body).unwrap()
    }

    /// A success without a body.
    #[track_caller]
    pub(crate) fn empty(self) {
        assert_eq!((self.status, &self.body), (204, &Value::String(String::new())));
    }

    /// The code and message of a refusal.
    #[track_caller]
    pub(crate) fn refused(&self) -> (u16, &str, &str) {
        let error = &self.body["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("{}", self.body));
        (self.status, text("code"), text("message"))
    }

    #[track_caller]
    fn done_or_missed<T: DeserializeOwned>(self, status: u16, code: &str) -> Result<T, Missed> {
        if self.status == status {
            assert_eq!(self.refused().1, code);
            return Err(Missed { count: self.body["count"].as_u64().unwrap() });
        }
        Ok(self.done())
    }
}
