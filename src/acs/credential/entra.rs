//! Tokens of Entra for the broker itself: workload identity, managed identity, client secret.
//!
//! The sign-in is that of `azure_identity`, over a transport of our own: our TLS, no redirects, bounded answers. That
//! crate goes on trying for over a minute while its issuer fails, and holds a lock meanwhile: so each sign-in is made
//! anew, ends at a deadline, and a token in hand is served while the next is fetched. Nothing here shows a token, a
//! secret or what the issuer wrote.

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use azure_core::cloud::CustomConfiguration;
use azure_core::credentials::TokenCredential;
use azure_core::error::ErrorKind;
use azure_core::http::headers::Headers;
use azure_core::http::{AsyncRawResponse, Body, ClientOptions, HttpClient, Request, RetryOptions, Transport};
use azure_identity::{
    ClientAssertionCredentialOptions, ClientSecretCredential, ClientSecretCredentialOptions,
    ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId, WorkloadIdentityCredential,
    WorkloadIdentityCredentialOptions,
};
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::super::error::BuildError;
use super::super::{path, secret, tls};
use crate::clock::{Clock, Timestamp};
use crate::secret::Secret;

/// What is asked for: the audience of ACS itself ends in a slash.
const SCOPE: &str = "https://communication.azure.com//.default";
/// Where Azure's machines find their metadata service.
const METADATA: &str = "http://169.254.169.254";
/// The time for one sign-in.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(10);
/// A token with less time left is not used.
const LEAST_LEFT: Duration = Duration::from_secs(60);
/// A token is renewed this long before its end, or at half of its life if that is sooner.
const RENEW_BEFORE: Duration = Duration::from_secs(20 * 60);
/// How soon a renewal that failed is tried again.
const RENEW_AGAIN: Duration = Duration::from_secs(30);
/// The longest life of a token, in seconds: a year. Entra's live for a day at the most.
const LONGEST_LIFE: i64 = 365 * 24 * 3600;
/// The largest answer of an issuer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// `[acs.entra]`: as whom the broker signs in at Entra.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How.
    pub kind: SignIn,
    /// The tenant.
    pub tenant_id: String,
    /// The application, or the user-assigned identity.
    pub client_id: String,
    /// The application's secret.
    #[serde(deserialize_with = "secret")]
    pub client_secret: Secret,
    /// The file that holds the secret. `config` resolves the two.
    #[serde(deserialize_with = "path")]
    pub client_secret_file: Option<PathBuf>,
    /// The file with the token of the Kubernetes service account.
    #[serde(deserialize_with = "path")]
    pub federated_token: Option<PathBuf>,
    /// Entra's address.
    pub authority: String,
    /// The metadata service's address.
    pub metadata: String,
}

/// How the broker signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignIn {
    /// With the token of its Kubernetes service account.
    Workload,
    /// As the identity of the machine it runs on.
    Managed,
    /// With a secret.
    Secret,
}

impl Settings {
    /// What is wrong: key within `[acs.entra]`, and what would be right.
    pub(crate) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut needed = |key, missing: bool, why: &str| {
            if missing {
                problems.push((key, format!("is not set, and {why} needs it")));
            }
        };
        match self.kind {
            SignIn::Managed => {}
            SignIn::Workload => {
                let why = "acs.entra.kind = \"workload\"";
                needed("tenant_id", self.tenant_id.is_empty(), why);
                needed("client_id", self.client_id.is_empty(), why);
                needed("federated_token", self.federated_token.is_none(), why);
            }
            SignIn::Secret => {
                let why = "acs.entra.kind = \"secret\"";
                needed("tenant_id", self.tenant_id.is_empty(), why);
                needed("client_id", self.client_id.is_empty(), why);
                needed("client_secret", self.client_secret.is_empty(), why);
            }
        }
        let authority = Url::parse(&self.authority).ok();
        if authority.is_none_or(|url| url.scheme() != "https" || url.host().is_none()) {
            problems.push(("authority", "must be an https:// address".to_owned()));
        }
        let metadata = Url::parse(&self.metadata).ok();
        if metadata.is_none_or(|url| !matches!(url.scheme(), "http" | "https") || url.host().is_none()) {
            problems.push(("metadata", "must be an http:// address".to_owned()));
        }
        problems
    }
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoToken {
    /// The issuer refuses to give one.
    #[error("Entra refuses the sign-in")]
    Refused,
    /// The issuer cannot be reached, or does not answer as it should.
    #[error("Entra gives no token at the moment")]
    Unavailable,
}

/// An identity that Entra vouches for, with its token.
pub(crate) struct Principal {
    settings: Settings,
    metadata: Url,
    http: reqwest::Client,
    /// To the metadata service: never through a proxy.
    near: reqwest::Client,
    held: Mutex<Option<Held>>,
    getting: tokio::sync::Mutex<()>,
    clock: Arc<dyn Clock>,
}

struct Held {
    token: Secret,
    expires_at: Timestamp,
    renew_at: Timestamp,
}

impl Principal {
    /// The identity; it signs in on the first use.
    pub(crate) fn new(
        settings: Settings,
        ca_file: Option<&std::path::Path>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let failed = |error: reqwest::Error| BuildError::Http(Box::new(error));
        let client = |tls| {
            reqwest::Client::builder()
                .user_agent(concat!("acs-broker/", env!("CARGO_PKG_VERSION")))
                .tls_backend_preconfigured(tls)
                .http1_only()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .timeout(SIGN_IN_WITHIN)
        };
        let trusted = tls::client_config(ca_file)?;
        let metadata = Url::parse(&settings.metadata).map_err(|error| BuildError::Http(Box::new(error)))?;
        Ok(Self {
            settings,
            metadata,
            http: client(trusted.clone()).build().map_err(failed)?,
            near: client(trusted).no_proxy().build().map_err(failed)?,
            held: Mutex::new(None),
            getting: tokio::sync::Mutex::new(()),
            clock,
        })
    }

    /// The application's id; empty for the machine's own identity.
    pub(crate) fn client_id(&self) -> &str {
        &self.settings.client_id
    }

    /// A token that is good for a while: the one in hand, or a new one within the deadline.
    pub(crate) async fn token(&self, deadline: Instant) -> Result<Secret, NoToken> {
        if let Some(token) = self.in_hand() {
            return Ok(token);
        }
        self.sign_in(deadline, false).await
    }

    /// The token in hand is not to be used any more.
    pub(crate) fn forget(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Renews the token if it is time to, while it still serves.
    pub(crate) async fn renew_if_due(&self) {
        let due = {
            let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
            let now = self.clock.now();
            match held.as_mut() {
                Some(held) if now >= held.renew_at => {
                    held.renew_at = now.plus(RENEW_AGAIN);
                    true
                }
                _ => false,
            }
        };
        if due && let Err(error) = self.sign_in(Instant::now() + SIGN_IN_WITHIN, true).await {
            tracing::warn!(%error, "the Entra token was not renewed; the one in hand serves on");
        }
    }

    fn in_hand(&self) -> Option<Secret> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let held = held.as_ref()?;
        (held.expires_at.since(self.clock.now()) > LEAST_LEFT).then(|| held.token.clone())
    }

    /// Signs in, one call at a time; whoever waited takes what the one before got, unless a newer one is wanted.
    async fn sign_in(&self, deadline: Instant, anew: bool) -> Result<Secret, NoToken> {
        let deadline = deadline.min(Instant::now() + SIGN_IN_WITHIN);
        let within = tokio::time::timeout_at(deadline, async {
            let _turn = self.getting.lock().await;
            if !anew && let Some(token) = self.in_hand() {
                return Ok(token);
            }
            self.ask().await
        });
        within.await.unwrap_or(Err(NoToken::Unavailable))
    }

    async fn ask(&self) -> Result<Secret, NoToken> {
        let seen = Arc::new(AtomicU16::new(0));
        let credential = self.credential(&seen).map_err(|error| {
            tracing::warn!(kind = %error.kind(), "the Entra sign-in cannot be made: check [acs.entra] and its files");
            NoToken::Refused
        })?;
        let asked_at = self.clock.now();
        let token = credential.get_token(&[SCOPE], None).await.map_err(|error| {
            let status = seen.load(Ordering::Acquire);
            tracing::warn!(
                kind = %error.kind(), status, "Entra gives no token: check [acs.entra], and the identity's federation"
            );
            if matches!(status, 400 | 401 | 403) { NoToken::Refused } else { NoToken::Unavailable }
        })?;
        let millis = token.expires_on.unix_timestamp_nanos().div_euclid(1_000_000);
        let expires_at = Timestamp::from_millis(u64::try_from(millis).map_err(|_| NoToken::Unavailable)?);
        let life = expires_at.since(asked_at);
        let renew_at = expires_at.minus(RENEW_BEFORE).max(asked_at.plus(life / 2));
        let token = Secret::new(token.token.secret());
        // An answer without one reads as an empty one, and ACS would take that for a dead credential.
        if token.is_empty() || HeaderValue::from_str(token.expose()).is_err() {
            tracing::warn!("Entra's answer holds no token");
            return Err(NoToken::Unavailable);
        }
        let held = Held { token: token.clone(), expires_at, renew_at };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        Ok(token)
    }

    /// The official credential, with nothing in its cache.
    fn credential(&self, seen: &Arc<AtomicU16>) -> azure_core::Result<Arc<dyn TokenCredential>> {
        let transport = Issuer {
            http: self.http.clone(),
            near: self.near.clone(),
            metadata: self.metadata.clone(),
            seen: Arc::clone(seen),
        };
        let mut cloud = CustomConfiguration::default();
        cloud.authority_host.clone_from(&self.settings.authority);
        let options = ClientOptions {
            retry: RetryOptions::none(),
            transport: Some(Transport::new(Arc::new(transport))),
            cloud: Some(Arc::new(cloud.into())),
            ..ClientOptions::default()
        };
        let Settings { tenant_id, client_id, client_secret, federated_token, .. } = &self.settings;
        Ok(match self.settings.kind {
            SignIn::Workload => WorkloadIdentityCredential::new(Some(WorkloadIdentityCredentialOptions {
                credential_options: ClientAssertionCredentialOptions { client_options: options },
                client_id: Some(client_id.clone()),
                tenant_id: Some(tenant_id.clone()),
                token_file_path: federated_token.clone(),
            }))?,
            SignIn::Managed => ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: (!client_id.is_empty())
                    .then(|| UserAssignedId::ClientId(client_id.clone())),
                client_options: options,
            }))?,
            SignIn::Secret => ClientSecretCredential::new(
                tenant_id,
                client_id.clone(),
                client_secret.expose().to_owned().into(),
                Some(ClientSecretCredentialOptions { client_options: options }),
            )?,
        })
    }
}

impl fmt::Debug for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Principal").field("kind", &self.settings.kind).finish_non_exhaustive()
    }
}

/// How the sign-in reaches its issuer.
#[derive(Clone)]
struct Issuer {
    http: reqwest::Client,
    near: reqwest::Client,
    metadata: Url,
    /// The last status that came; 0 if none did.
    seen: Arc<AtomicU16>,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Issuer")
    }
}

/// Whether an answer names a lifetime that cannot be added to the time of day: that crate adds it all the same, which
/// would end the task that signs in.
fn is_beyond_time(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        expires_in: i64,
    }
    serde_json::from_slice::<Answer>(body)
        .is_ok_and(|answer| !(0..=LONGEST_LIFE).contains(&answer.expires_in))
}

fn lost(error: reqwest::Error) -> azure_core::Error {
    let kind = if error.is_connect() { ErrorKind::Connection } else { ErrorKind::Io };
    azure_core::Error::new(kind, error.without_url())
}

#[async_trait]
impl HttpClient for Issuer {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<AsyncRawResponse> {
        let mut url = request.url().clone();
        let is_near = url.as_str().starts_with(METADATA);
        if is_near {
            // The address is a constant of that crate.
            let moved = url
                .set_scheme(self.metadata.scheme())
                .and_then(|()| url.set_host(self.metadata.host_str()).map_err(|_| ()))
                .and_then(|()| url.set_port(self.metadata.port()));
            if moved.is_err() {
                return Err(azure_core::Error::with_message(
                    ErrorKind::Other,
                    "acs.entra.metadata is no address",
                ));
            }
        }
        let method = reqwest::Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| azure_core::Error::new(ErrorKind::Other, error))?;
        let client = if is_near { &self.near } else { &self.http };
        let mut outgoing = client.request(method, url);
        for (name, value) in request.headers().iter() {
            outgoing = outgoing.header(name.as_str(), value.as_str());
        }
        if let Body::Bytes(bytes) = request.body() {
            outgoing = outgoing.body(bytes.clone());
        }
        #[cfg(not(any(fuzzing, test)))]
        let sent = outgoing.send().await;
        #[cfg(any(fuzzing, test))]
        let sent = match super::super::fuzzing::made_up() {
            Some(answer) => Ok(answer),
            None => outgoing.send().await,
        };
        let mut response = sent.map_err(lost)?;
        let status = response.status().as_u16();
        self.seen.store(status, Ordering::Release);
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(azure_core::Error::with_message(
                    ErrorKind::Io,
                    "the issuer's answer is too large",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        if is_beyond_time(&body) {
            return Err(azure_core::Error::with_message(ErrorKind::Io, "the issuer's token has no end"));
        }
        Ok(AsyncRawResponse::from_bytes(status.into(), Headers::new(), body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lifetime_that_reaches_beyond_time_is_refused_before_it_is_added_up() {
        for beyond in [i64::MAX, i64::MIN, -1, LONGEST_LIFE + 1] {
            assert!(is_beyond_time(format!("{{\"expires_in\":{beyond}}}").as_bytes()), "{beyond}");
        }
        for good in ["{\"expires_in\":3599}", "{\"expires_in\":0}", "{\"error\":\"x\"}", "", "[]"] {
            assert!(!is_beyond_time(good.as_bytes()), "{good}");
        }
    }
}
