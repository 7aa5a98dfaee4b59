//! The core: which user has which identity, and which token is worth serving.
//!
//! It decides and does no I/O: ACS and the store are ports (`ports`), time comes from `clock`. It never sees gRPC.
//! Work with an effect runs in tasks of its own, so that a caller who hangs up leaves nothing half done.

pub mod error;
mod flight;
mod freshness;
mod identity;
mod once;
pub mod policy;
pub mod ports;
pub mod rotation;
mod seat;
#[cfg(test)]
mod simulation;
mod token;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::task::TaskTracker;

use self::error::Error;
use self::flight::Flights;
use self::ports::{StoreProblem, Stores, TokenIssuer};
use self::types::{AccessToken, IdentityId, ScopeSet, UserId, Validity};
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// `[tokens]`: which token is worth serving. Ranges are checked by [`Settings::problems`].
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

impl Default for Settings {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        Self {
            default_validity: Duration::from_secs(24 * 3600),
            floor: Duration::from_secs(15 * 60),
            refresh_ahead: 0.5,
            jitter: 0.05,
            availability_target: Duration::from_secs(12 * 3600),
            fallback_minimum: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// What is out of range: the key within `[tokens]`, and what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if let Err(invalid) = Validity::from_duration(self.default_validity) {
            problems.push(("default_validity", invalid.to_string()));
        }
        let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
        if !(minutes(15)..=minutes(45)).contains(&self.floor) {
            problems.push(("floor", "must be from 15m to 45m".into()));
        }
        if !(0.1..=0.9).contains(&self.refresh_ahead) {
            problems.push(("refresh_ahead", "must be from 0.1 to 0.9".into()));
        }
        if !(0.0..=0.1).contains(&self.jitter) {
            problems.push(("jitter", "must be from 0 to 0.1".into()));
        } else if self.jitter > self.refresh_ahead / 2.0 {
            problems.push(("jitter", "must be at most half of refresh_ahead".into()));
        }
        if self.availability_target > minutes(24 * 60) {
            problems.push(("availability_target", "must be from 0s to 24h".into()));
        }
        if !(Duration::from_secs(10)..=minutes(15)).contains(&self.fallback_minimum) {
            problems.push(("fallback_minimum", "must be from 10s to 15m".into()));
        }
        problems
    }

    /// The validity of new tokens when the caller names none; the longest if the setting is out of range.
    pub fn default_validity(&self) -> Validity {
        Validity::from_duration(self.default_validity).unwrap_or(Validity::MAX)
    }
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
    core: Arc<Core>,
}

struct Core {
    settings: Settings,
    issuer: Arc<dyn TokenIssuer>,
    stores: Stores,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    resolving: Flights<UserId, identity::Resolved>,
    issuing: Flights<(UserId, types::TokenKey), token::Obtained>,
    retries: token::Retries,
    rotation: rotation::Rotation,
    tasks: TaskTracker,
}

impl Broker {
    /// A core over these ports.
    pub fn new(
        settings: Settings,
        issuer: Arc<dyn TokenIssuer>,
        stores: Stores,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        Self {
            core: Arc::new(Core {
                settings,
                issuer,
                stores,
                clock,
                metrics,
                resolving: Flights::new(),
                issuing: Flights::new(),
                retries: token::Retries::default(),
                rotation: rotation::Rotation::default(),
                tasks: TaskTracker::new(),
            }),
        }
    }

    /// Whether the store is fit for traffic; for readiness.
    pub async fn check(&self) -> Result<(), StoreProblem> {
        self.core.stores.identities.check().await
    }

    /// The rules in force, for checking requests against them.
    pub fn settings(&self) -> &Settings {
        &self.core.settings
    }

    /// Waits until the work that outlived its callers is done, at most for `within`. Says whether all of it was.
    pub async fn shutdown(&self, within: Duration) -> bool {
        self.core.tasks.close();
        tokio::time::timeout(within, self.core.tasks.wait()).await.is_ok()
    }

    /// Runs work to its end even if the caller goes away.
    async fn to_its_end<T, F>(&self, work: impl FnOnce(Arc<Core>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let task = self.core.tasks.spawn(work(Arc::clone(&self.core)));
        task.await.unwrap_or_else(|_| Err(Error::internal("a task of the core ended without an answer")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_settings_are_in_range() {
        assert_eq!(Settings::default().problems(), Vec::new());
    }

    #[test]
    fn every_setting_out_of_range_is_reported() {
        let wrong = Settings {
            default_validity: Duration::from_secs(59 * 60),
            floor: Duration::from_secs(60),
            refresh_ahead: f64::NAN,
            jitter: -0.1,
            availability_target: Duration::from_secs(25 * 3600),
            fallback_minimum: Duration::from_secs(1),
        };
        let keys: Vec<_> = wrong.problems().into_iter().map(|(key, _)| key).collect();
        assert_eq!(
            keys,
            [
                "default_validity",
                "floor",
                "refresh_ahead",
                "jitter",
                "availability_target",
                "fallback_minimum"
            ]
        );
    }
}
