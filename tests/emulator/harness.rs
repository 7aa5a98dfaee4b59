//! A running emulator on a clock that stands still, and a client that signs by hand.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::{Clock, ManualClock, Timestamp};
use acs_broker::emulator::{self, AccessKey, EmulatorHandle, Settings};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};

/// 2026-11-22T12:00:00.123Z: within the validity of the certificates, which live in real time.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_348_800_123);
pub(crate) const GA: &str = "api-version=2023-10-01";
pub(crate) const PREVIEW: &str = "api-version=2025-03-02-preview";

pub(crate) struct Running {
    pub(crate) handle: EmulatorHandle,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) http: reqwest::Client,
}

/// A request before it is signed.
pub(crate) struct Call {
    pub(crate) method: &'static str,
    pub(crate) target: String,
    pub(crate) body: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) key: Option<String>,
    pub(crate) date: Option<String>,
    /// What is sent instead of the signed body.
    pub(crate) tampered: Option<String>,
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

pub(crate) async fn start() -> Running {
    start_with(Settings::on_free_ports()).await
}

pub(crate) async fn start_with(settings: Settings) -> Running {
    let clock = Arc::new(ManualClock::at(START));
    let handle = emulator::start(settings, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    // No proxy, whatever the environment says: these requests are for this machine.
    let http = client_builder().build().unwrap();
    Running { handle, clock, http }
}

pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // reqwest wants a process default; the emulator itself does without one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20))
}

impl Call {
    pub(crate) fn new(method: &'static str, target: impl Into<String>) -> Self {
        Self {
            method,
            target: target.into(),
            body: String::new(),
            headers: Vec::new(),
            key: None,
            date: None,
            tampered: None,
        }
    }

    pub(crate) fn body(self, body: impl Into<String>) -> Self {
        Self { body: body.into(), ..self }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl Running {
    pub(crate) fn base(&self) -> String {
        format!("http://{}", self.handle.http_addr())
    }

    /// Now, as headers write it.
    pub(crate) fn clock_date(&self) -> String {
        httpdate::fmt_http_date(self.clock.now().to_system_time())
    }

    pub(crate) fn access_key(&self, key: AccessKey) -> String {
        let text = self.handle.connection_string_with(key);
        text.split_once(";accesskey=").unwrap().1.to_owned()
    }

    /// Signs and sends.
    pub(crate) async fn send(&self, call: Call) -> Reply {
        self.try_send(call).await.unwrap()
    }

    pub(crate) async fn try_send(&self, call: Call) -> Result<Reply, reqwest::Error> {
        let host = self.handle.http_addr().to_string();
        let date = call.date.unwrap_or_else(|| httpdate::fmt_http_date(self.clock.now().to_system_time()));
        let key = call.key.unwrap_or_else(|| self.access_key(AccessKey::Primary));
        let hash = STANDARD.encode(Sha256::digest(&call.body));
        let authorization = sign(call.method, &call.target, &date, &host, &hash, &key);
        let method = call.method.parse().unwrap();
        let mut request = self
            .http
            .request(method, format!("{}{}", self.base(), call.target))
            .header("x-ms-date", date)
            .header("x-ms-content-sha256", hash)
            .header("authorization", authorization);
        if !call.headers.iter().any(|(name, _)| *name == "content-type") {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        request = request.body(call.tampered.unwrap_or(call.body));
        read(request.send().await?).await
    }

    /// A request without a signature, for what needs none.
    pub(crate) async fn plain(&self, method: &str, target: &str, body: &str) -> Reply {
        let request = self.http.request(method.parse().unwrap(), format!("{}{target}", self.base()));
        read(request.body(body.to_owned()).send().await.unwrap()).await.unwrap()
    }

    /// A request with these headers and no others of ours.
    pub(crate) async fn bare(
        &self,
        method: &str,
        target: &str,
        body: String,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = self.http.request(method.parse().unwrap(), format!("{}{target}", self.base()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        read(request.body(body).send().await.unwrap()).await.unwrap()
    }

    pub(crate) async fn create(&self) -> String {
        let reply = self.send(Call::new("POST", format!("/identities?{GA}"))).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["identity"]["id"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn issue(&self, id: &str, body: &str) -> Reply {
        self.send(Call::new("POST", action(id, "issueAccessToken")).body(body)).await
    }

    /// A fresh token for `chat`, issued with the primary key.
    pub(crate) async fn token(&self, id: &str) -> String {
        let reply = self.issue(id, r#"{"scopes":["chat"]}"#).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["token"].as_str().unwrap().to_owned()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The code of the error envelope.
    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap().to_owned()
    }
}

async fn read(response: reqwest::Response) -> Result<Reply, reqwest::Error> {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Ok(Reply { status, headers, text: response.text().await? })
}

/// `/identities/{id}` with the id percent-encoded, as the official SDKs write it.
pub(crate) fn of(id: &str) -> String {
    format!("/identities/{}?{GA}", id.replace(':', "%3A"))
}

/// `/identities/{id}/:action`.
pub(crate) fn action(id: &str, action: &str) -> String {
    format!("/identities/{}/:{action}?{GA}", id.replace(':', "%3A"))
}

/// The header `Authorization` of the published scheme.
pub(crate) fn sign(method: &str, target: &str, date: &str, host: &str, hash: &str, key: &str) -> String {
    let text = format!("{method}\n{target}\n{date};{host};{hash}");
    let mut mac = Hmac::<Sha256>::new_from_slice(&STANDARD.decode(key).unwrap()).unwrap();
    mac.update(text.as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}")
}

#[test]
fn signing_by_hand_gives_the_published_signatures() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let date = "Tue, 04 Mar 2025 05:06:07 GMT";
    for (method, target, host, body, signature) in [
        (
            "GET",
            "/identities/8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000000-0000-0000-0000-000000000001\
             ?api-version=2025-03-02-preview",
            "contoso.communication.azure.com",
            "",
            "rI8xnLZXTbcLF6S8tHUHqxqIJcAHaa3WlxAhTZqv570=",
        ),
        (
            "POST",
            "/identities?api-version=2023-10-01",
            "contoso.communication.azure.com",
            r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#,
            "A1upm3yb4/iMMm2iBDz+A+C5/3VlE2L3klOeb7+nqoA=",
        ),
        (
            "POST",
            "/sms?api-version=2021-03-07&trace=a%2Cb",
            "127.0.0.1:8080",
            r#"{"from":"+18005550100","smsRecipients":[{"to":"+14255550123"}],"message":"Grüße"}"#,
            "hhh2NFB1fzGiOYJ0T8egOCf5+cUx1dTOSezcJvjrnpE=",
        ),
    ] {
        let hash = STANDARD.encode(Sha256::digest(body));
        let made = sign(method, target, date, host, &hash, key);
        assert!(made.ends_with(&format!("&Signature={signature}")), "{made}");
    }
}
