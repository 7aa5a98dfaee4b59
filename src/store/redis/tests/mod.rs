//! The Redis backend against real servers, started by each test.

mod claims;
mod costs;
mod fair;
mod fitness;
mod messaging;
mod opening;
mod outage;
mod sealing;
mod topologies;

use std::sync::Arc;
use std::time::Duration;

use super::{OpenError, Redis, Settings, start};
use crate::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, UserId, Validity,
};
use crate::clock::{Clock, SystemClock, Timestamp};
use crate::messaging::ports::MessageStores;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::store::seal::{Name, Vault};

#[path = "../../../../tests/support/redis_server.rs"]
pub(crate) mod redis_server;

/// The stores of messaging of a replica whose budgets go by this clock, as all of its fleet must.
#[cfg_attr(not(feature = "emulator"), expect(dead_code, reason = "for tests against the emulator"))]
pub(crate) async fn replica_on(url: &str, clock: Arc<dyn Clock>) -> MessageStores {
    let started = start(&patient(url), Vault::plain(), Arc::clone(&clock), Metrics::new()).await.unwrap();
    let mut redis = Arc::into_inner(started).unwrap();
    redis.budget_clock = Some(clock);
    super::opened(Arc::new(redis)).messages
}

/// Settings for tests that are not about time: patient, for the machine may be busy with other tests.
fn patient(url: &str) -> Settings {
    Settings { url: Secret::new(url), timeout: Duration::from_secs(5), ..Settings::default() }
}

async fn open_with(settings: &Settings) -> Result<Arc<Redis>, OpenError> {
    open_sealed(settings, Vault::plain()).await
}

async fn open_sealed(settings: &Settings, vault: Vault) -> Result<Arc<Redis>, OpenError> {
    start(settings, vault, Arc::new(SystemClock), Metrics::new()).await
}

async fn open_at(url: &str) -> Arc<Redis> {
    open_with(&patient(url)).await.unwrap()
}

fn user(number: usize) -> UserId {
    UserId::parse(&format!("user-{number}")).unwrap()
}

/// What the user is called in a store without a hash key.
fn name(number: usize) -> Name {
    Vault::plain().name(&user(number))
}

fn record(number: usize) -> IdentityRecord {
    IdentityRecord {
        identity: IdentityId::parse(&format!("8:acs:resource_{number}")).unwrap(),
        generation: 0,
        created_at: Timestamp::from_millis(1),
    }
}

fn chat() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
}

fn token(number: usize) -> CachedToken {
    let now = SystemClock.now();
    CachedToken {
        identity: record(number).identity,
        generation: 0,
        token: AccessToken {
            secret: Secret::new(format!("token-{number}")),
            issued_at: now,
            expires_at: now.plus(Duration::from_secs(3600)),
            key: KeyId([7; 8]),
        },
    }
}
