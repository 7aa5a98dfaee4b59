//! Requests to webhooks: one connection each, no proxy, no redirect, and a bound on everything that comes back.
//!
//! A webhook may be slow, endless or broken; none of it lasts longer than the time given, nor takes more than a small
//! body. Used by `courier`.

use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use url::Url;

use super::envelope::Request;
use super::schedule::Outcome;

/// The most of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;
const MAX_HEADERS: usize = 100;

/// What a webhook answered.
pub(super) struct Reply {
    pub(super) status: u16,
    /// `WebHook-Allowed-Origin`.
    pub(super) allowed_origin: Option<String>,
    /// As much of the body as came in time.
    pub(super) body: Vec<u8>,
}

/// What makes the requests to one webhook.
pub(super) struct Client(reqwest::Client);

impl Client {
    /// A client for an address; the system's CAs are read only if it is HTTPS.
    pub(super) fn new(url: &Url) -> Result<Self, String> {
        let mut roots = RootCertStore::empty();
        if url.scheme() == "https" {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        // A finished configuration: nothing depends on a provider of the whole process.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .redirect(Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .http1_only()
            .http1_max_headers(MAX_HEADERS)
            // A kept connection may be dead without our knowing, and the receiver would look as if it had lost an event.
            .pool_max_idle_per_host(0)
            .build()
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Sends a request. The head of the answer must come within `patience`; for the body `rest` is enough.
    pub(super) async fn send(
        &self,
        url: &Url,
        request: Request,
        patience: Duration,
        rest: Duration,
    ) -> Result<Reply, Outcome> {
        let method = request.method.parse().map_err(|_| Outcome::Unreachable)?;
        let mut builder = self.0.request(method, url.clone()).body(request.body);
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        let response = match tokio::time::timeout(patience, builder.send()).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                // Without the address, which may hold a key.
                tracing::debug!(error = %error.without_url(), "a webhook could not be reached");
                return Err(Outcome::Unreachable);
            }
            Err(_) => return Err(Outcome::TimedOut),
        };
        let status = response.status().as_u16();
        let allowed_origin = response.headers().get("webhook-allowed-origin");
        let allowed_origin = allowed_origin.and_then(|value| value.to_str().ok()).map(str::to_owned);
        Ok(Reply { status, allowed_origin, body: body(response, rest).await })
    }
}

/// As much of a body as comes in time and fits.
async fn body(mut response: reqwest::Response, rest: Duration) -> Vec<u8> {
    let mut body = Vec::new();
    // A body that ends early, breaks or never ends is as good as what came of it.
    let _ = tokio::time::timeout(rest, async {
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > MAX_ANSWER {
                break;
            }
            body.extend_from_slice(&chunk);
        }
    })
    .await;
    body
}
