//! The core's port to ACS, built on the ACS client: counts and times each call, tells what its failure means.
//!
//! Here `acs::Error` becomes the core's error. What ACS wrote goes to the log in the client's reduced form and never
//! into an answer to a caller. It decides nothing about identities or tokens; `broker` does.

mod channels;
mod chat;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::Instant;

use crate::acs::{self, Class, CustomId, Fate, Fingerprint};
use crate::broker::error::Error;
use crate::broker::ports::{CreatedIdentity, TokenIssuer};
use crate::broker::types::{
    AccessToken, IdentityId, KeyId, KeyStanding, ScopeSet, Signing, UserId, Validity,
};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// The wait that callers are told when ACS names none.
const DEFAULT_WAIT: Duration = Duration::from_secs(1);

/// ACS as the core sees it.
pub struct Upstream {
    client: acs::Client,
    custom_id: CustomId,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl Upstream {
    /// The port over `client`; no call takes longer than `timeout`.
    pub fn new(
        client: acs::Client,
        custom_id: CustomId,
        timeout: Duration,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self { client, custom_id, timeout, clock, metrics }
    }

    /// The client, to be looked after.
    pub(super) fn client(&self) -> &acs::Client {
        &self.client
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// What ACS is told of the user.
    fn custom_id(&self, user: &UserId) -> Option<String> {
        match self.custom_id {
            CustomId::Off => None,
            CustomId::Sha256 => Some(user.sha256_hex()),
            CustomId::Plain => Some(user.as_str().to_owned()),
        }
    }

    fn token(token: acs::Token, issued_at: Timestamp) -> AccessToken {
        let key = KeyId(token.issuer.0);
        AccessToken { secret: token.secret, issued_at, expires_at: token.expires_on, key }
    }

    /// Counts, times and logs the end of a call, and translates its failure.
    fn ended<T>(
        &self,
        operation: &'static str,
        started: Instant,
        result: Result<T, acs::Error>,
    ) -> Result<T, Error> {
        self.told(operation, started, result).map_err(translate)
    }

    /// Counts, times and logs the end of a call.
    fn told<T>(
        &self,
        operation: &'static str,
        started: Instant,
        result: Result<T, acs::Error>,
    ) -> Result<T, acs::Error> {
        let took = started.elapsed();
        self.metrics.credential_refused(self.client.standing().refused.is_some());
        let error = match result {
            Ok(value) => {
                self.metrics.upstream_call(operation, "ok", took);
                return Ok(value);
            }
            Err(error) => error,
        };
        self.metrics.upstream_call(operation, outcome(error.class()), took);
        match error.class() {
            // Nothing was sent: whoever found out has said so.
            Class::CredentialsRefused if error.attempts() == 0 => {}
            Class::CredentialsRefused => tracing::error!(
                operation,
                error = %error,
                cause = %causes(&error),
                "ACS refuses the broker's credential: check acs.connection_string and this machine's clock"
            ),
            Class::Rejected => {
                tracing::warn!(operation, error = %error, cause = %causes(&error), "ACS rejects the request");
            }
            _ => tracing::warn!(operation, error = %error, cause = %causes(&error), "ACS call failed"),
        }
        Err(error)
    }
}

const fn outcome(class: Class) -> &'static str {
    match class {
        Class::Throttled { .. } => "throttled",
        Class::NeverSent | Class::PerhapsSent | Class::ServerFailed { .. } => "unavailable",
        Class::CredentialsRefused | Class::TokenRefused => "refused",
        Class::Rejected => "rejected",
    }
}

/// What a failure means to the core.
fn translate(error: acs::Error) -> Error {
    match error.class() {
        Class::Throttled { retry_after } => {
            Error::AcsThrottled { retry_after: retry_after.unwrap_or(DEFAULT_WAIT) }
        }
        Class::NeverSent | Class::PerhapsSent => {
            Error::AcsUnavailable { retry_after: DEFAULT_WAIT, cause: Some(Arc::new(error)) }
        }
        Class::ServerFailed { retry_after } => Error::AcsUnavailable {
            retry_after: retry_after.unwrap_or(DEFAULT_WAIT),
            cause: Some(Arc::new(error)),
        },
        Class::CredentialsRefused => Error::AcsCredentialsRefused,
        Class::Rejected | Class::TokenRefused => Error::AcsRejected {
            // A request that the client itself would not send is what ACS would have called a bad request.
            status: error.status().unwrap_or(400),
            code: error.code().unwrap_or("unknown").to_owned(),
            request_id: error.client_request_id().to_owned(),
        },
    }
}

/// The chain of causes below an error, for the log.
fn causes(error: &acs::Error) -> String {
    let mut text = String::new();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[async_trait]
impl TokenIssuer for Upstream {
    fn key(&self) -> KeyId {
        KeyId(self.client.standing().in_use.0)
    }

    fn signing(&self) -> Signing {
        let standing = self.client.standing();
        let spare = standing.spare.map(|spare| KeyId(spare.0));
        Signing { key: KeyId(standing.in_use.0), since: standing.since, spare }
    }

    fn standing(&self, key: KeyId) -> KeyStanding {
        match self.client.fate(Fingerprint(key.0)) {
            Fate::InUse => KeyStanding::InUse,
            Fate::Spare => KeyStanding::Spare,
            Fate::Unknown => KeyStanding::Unknown,
            Fate::Dead => KeyStanding::Dead,
        }
    }

    async fn create_identity(
        &self,
        user: &UserId,
        first_token: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        let custom_id = self.custom_id(user);
        let scopes =
            first_token.map(|(scopes, _)| scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>());
        let first = scopes.as_deref().zip(first_token.map(|(_, validity)| validity.minutes()));
        let (issued_at, started) = (self.clock.now(), Instant::now());
        let result =
            self.client.identity().create_identity(custom_id.as_deref(), first, self.deadline()).await;
        let created = self.ended("create_identity", started, result)?;
        let identity = IdentityId::parse(&created.id).map_err(|problem| Error::AcsUnavailable {
            retry_after: DEFAULT_WAIT,
            cause: Some(Arc::new(problem)),
        })?;
        Ok(CreatedIdentity { identity, token: created.token.map(|token| Self::token(token, issued_at)) })
    }

    async fn issue_token(
        &self,
        identity: &IdentityId,
        scopes: ScopeSet,
        validity: Validity,
    ) -> Result<AccessToken, Error> {
        let scopes: Vec<_> = scopes.iter().map(|scope| scope.as_str()).collect();
        let (issued_at, started) = (self.clock.now(), Instant::now());
        let operations = self.client.identity();
        let result =
            operations.issue_token(identity.as_str(), &scopes, validity.minutes(), self.deadline()).await;
        self.ended("issue_token", started, result).map(|token| Self::token(token, issued_at))
    }

    async fn revoke_tokens(&self, identity: &IdentityId) -> Result<(), Error> {
        let started = Instant::now();
        let result = self.client.identity().revoke_tokens(identity.as_str(), self.deadline()).await;
        self.ended("revoke_tokens", started, result)
    }

    async fn delete_identity(&self, identity: &IdentityId) -> Result<(), Error> {
        let started = Instant::now();
        let result = self.client.identity().delete_identity(identity.as_str(), self.deadline()).await;
        self.ended("delete_identity", started, result)
    }
}

#[cfg(test)]
mod tests;
