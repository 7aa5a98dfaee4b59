//! The core: which user has which identity, and which token is worth serving.
//!
//! It decides and does no I/O: ACS and the store are ports (`ports`), time comes from `clock`. It never sees gRPC.

pub mod error;
pub mod ports;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;

use self::error::Error;
use self::ports::{IdentityPage, StoreProblem, Stores, TokenIssuer};
use self::types::{AccessToken, Caller, IdentityId, IdentityRecord, ScopeSet, UserId, Validity};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// `[tokens]`: which token is worth serving. Ranges are checked by `validate`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The validity of new tokens when the caller names none.
    #[serde(with = "crate::duration")]
    pub default_validity: Duration,
    /// No token with less time left is served, unless marked degraded.
    #[serde(with = "crate::duration")]
    pub floor: Duration,
    /// The share of a token's life after which a use of it starts a renewal.
    pub refresh_ahead: f64,
    /// Renewal starts earlier by up to this share of a token's life.
    pub jitter: f64,
    /// Renew early enough to live through an ACS outage of this length.
    #[serde(with = "crate::duration")]
    pub availability_target: Duration,
    /// The least time a degraded token has left.
    #[serde(with = "crate::duration")]
    pub fallback_minimum: Duration,
}

/// What IssueToken is asked for.
#[derive(Debug, Clone)]
pub struct IssueToken {
    /// For whom.
    pub user: UserId,
    /// Exactly these scopes.
    pub scopes: ScopeSet,
    /// The validity; none for the default.
    pub validity: Option<Validity>,
    /// The least time the token must still be valid.
    pub min_remaining: Duration,
}

/// What RefreshToken is asked for.
#[derive(Debug, Clone)]
pub struct RefreshToken {
    /// For whom.
    pub user: UserId,
    /// Exactly these scopes.
    pub scopes: ScopeSet,
    /// The validity; none for the default.
    pub validity: Option<Validity>,
}

/// A token with what a caller needs to know of it.
#[derive(Debug, Clone)]
pub struct ServedToken {
    /// The token.
    pub token: AccessToken,
    /// From when on it is worth asking again.
    pub refresh_at: Timestamp,
    /// Whose it is.
    pub identity: IdentityId,
    /// Whether it had been issued for an earlier call.
    pub from_cache: bool,
    /// Whether it has less time left than asked for, because ACS could not issue a better one.
    pub degraded: bool,
}

/// What an import did, or would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Imported {
    /// The entry was not known.
    New,
    /// The entry equals what is stored.
    Unchanged,
}

/// The core, cheap to clone.
#[derive(Clone)]
pub struct Broker {
    #[allow(dead_code, reason = "signatures first; the core follows")]
    inner: Arc<Inner>,
}
struct Inner;

#[allow(missing_docs, clippy::unused_async, unused_variables, reason = "signatures first; the core follows")]
impl Broker {
    pub fn new(
        settings: Settings,
        issuer: Arc<dyn TokenIssuer>,
        stores: Stores,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self { inner: Arc::new(Inner) }
    }
    pub async fn issue_token(&self, caller: &Caller, request: IssueToken) -> Result<ServedToken, Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn refresh_token(&self, caller: &Caller, request: RefreshToken) -> Result<ServedToken, Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn revoke_tokens(
        &self,
        caller: &Caller,
        user: UserId,
        request_id: Option<String>,
    ) -> Result<(), Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn resolve_identity(
        &self,
        caller: &Caller,
        user: UserId,
    ) -> Result<(IdentityRecord, bool), Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn get_identity(
        &self,
        caller: &Caller,
        user: UserId,
    ) -> Result<(UserId, IdentityRecord), Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn get_identity_by_acs_id(
        &self,
        caller: &Caller,
        identity: IdentityId,
    ) -> Result<(UserId, IdentityRecord), Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn delete_identity(
        &self,
        caller: &Caller,
        user: UserId,
        request_id: Option<String>,
    ) -> Result<(), Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn list_identities(
        &self,
        caller: &Caller,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Option<IdentityPage>, Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn import_identity(
        &self,
        caller: &Caller,
        user: UserId,
        identity: IdentityId,
        created_at: Option<Timestamp>,
        validate_only: bool,
    ) -> Result<Imported, Error> {
        Err(Error::internal("not built yet"))
    }
    pub async fn check(&self) -> Result<(), StoreProblem> {
        Ok(())
    }
    pub async fn shutdown(&self, within: Duration) {}
}
