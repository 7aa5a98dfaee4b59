//! The shared store: Redis as one node, behind Sentinels, or as a Cluster; all eight ports over one connection.
//!
//! `docs/store-keys.md` explains the keys. What one command must do is a script (`scripts/`), how long it may take and
//! when it is refused is `connection`'s business, and where it goes is `connect`'s. It must never wait without a
//! deadline, send a write twice, or show a key or a reply in a text. Used by `store::open`.

mod address;
mod budget;
mod check;
mod command;
mod connect;
mod connect_error;
mod connection;
mod events;
mod facts;
mod failure;
mod fair;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod identities;
mod leases;
mod ledger;
mod link;
mod list;
mod messages;
mod scripts;
mod settings;
#[cfg(test)]
pub(crate) mod tests;
mod tokens;

use std::sync::Arc;
use std::time::Duration;

use self::connect::Connector;
pub use self::connect_error::ConnectError as OpenError;
use self::connection::Connection;
use self::facts::Facts;
use self::scripts::Scripts;
pub use self::settings::{Settings, Topology};
use crate::broker::ports::{StoreProblem, Stores};
use crate::clock::Clock;
use crate::messaging::ports::MessageStores;
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::store::Opened;
use crate::store::keys::Keys;
use crate::store::seal::Vault;

/// The longest time Redis is asked to keep anything, about 30 years: its own arithmetic must not overflow.
const LONGEST_MILLIS: u64 = 1_000_000_000_000;

/// Events kept at the same time.
const MOST_EVENTS: u64 = 1_000_000;

/// A duration for Redis: whole milliseconds, at least one.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(LONGEST_MILLIS).clamp(1, LONGEST_MILLIS)
}

/// All eight ports.
struct Redis {
    connection: Connection,
    keys: Keys,
    vault: Vault,
    scripts: Scripts,
    clock: Arc<dyn Clock>,
    memory: check::Memory,
    allow_eviction: bool,
    keeps_messages: bool,
    /// Events kept; over it the oldest go.
    most_events: u64,
    /// By which fair budgets go; without one by Redis's own clock, as all replicas share that. For simulations.
    budget_clock: Option<Arc<dyn Clock>>,
}

/// Opens the store. `url` and `password` are the secrets after their `_file` twins were read.
///
/// What only a person can mend is an error: a wrong password, a server that is no Redis, one that evicts. A Redis that
/// merely cannot be reached is not: the store starts unfit for traffic (`IdentityStore::check` says so) and becomes fit
/// by itself, so that the order in which broker and Redis start does not matter.
pub async fn open(
    settings: &Settings,
    url: Secret,
    password: Secret,
    vault: Vault,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Opened, OpenError> {
    let settings = Settings { url, password, ..settings.clone() };
    Ok(opened(start(&settings, vault, clock, metrics).await?))
}

async fn start(
    settings: &Settings,
    vault: Vault,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Arc<Redis>, OpenError> {
    let connector = Connector::new(settings)?;
    let first = connector.connect().await;
    match &first {
        Err(error) if error.needs_mending() => return Err(error.clone()),
        Err(error) => tracing::warn!(%error, "starting without Redis; not ready until it answers"),
        Ok(connected) => judge_eviction(settings, &connected.node, connected.facts.as_ref())?,
    }
    let connection = Connection::keep(connector, first, settings.timeout, settings.max_concurrency, metrics);
    let redis = Redis {
        connection,
        keys: Keys::new(&settings.prefix, vault.clone()),
        vault,
        scripts: Scripts::new(),
        clock,
        memory: check::Memory::default(),
        allow_eviction: settings.allow_eviction,
        keeps_messages: settings.keeps_messages,
        most_events: MOST_EVENTS,
        budget_clock: None,
    };
    // The first check writes the marker, and asks every node of a Cluster; a Redis that is away gets both later.
    match redis.fit().await {
        Ok(()) => {}
        Err(StoreProblem::Evicts(policy)) => {
            return Err(OpenError::Evicts("one of its nodes".into(), policy));
        }
        Err(StoreProblem::EvictsMessages(policy)) => {
            return Err(OpenError::EvictsMessages("one of its nodes".into(), policy));
        }
        Err(StoreProblem::OtherNames(_)) => {
            redis.names_fit().await.map_err(OpenError::OtherNames)?;
        }
        Err(problem) => tracing::warn!(%problem, "Redis is not fit for traffic yet"),
    }
    Ok(Arc::new(redis))
}

/// Refuses a node that may lose what must last, unless the settings accept that; warns of the rest.
fn judge_eviction(settings: &Settings, node: &str, facts: Option<&Facts>) -> Result<(), OpenError> {
    let Some(facts) = facts else {
        tracing::warn!(
            "Redis does not permit its user INFO, so its eviction policy is unknown; make sure that it is noeviction, \
             or permit +info"
        );
        return Ok(());
    };
    if let Some(policy) = facts.evicting_policy() {
        if !settings.allow_eviction {
            return Err(OpenError::Evicts(node.to_owned(), policy.to_owned()));
        }
        tracing::warn!(policy, "Redis may evict identities; store.redis.allow_eviction accepts that");
    } else if let Some(policy) = facts.policy_that_evicts_messages() {
        if settings.keeps_messages && !settings.allow_eviction {
            return Err(OpenError::EvictsMessages(node.to_owned(), policy.to_owned()));
        }
        tracing::warn!(
            policy,
            "Redis may evict records of requests and chat messages when its memory is full, and what has no record \
             may be done twice; noeviction keeps them"
        );
    }
    Ok(())
}

fn opened(redis: Arc<Redis>) -> Opened {
    let core = Stores {
        identities: redis.clone(),
        tokens: redis.clone(),
        ledger: redis.clone(),
        budget: redis.clone(),
        leases: redis.clone(),
    };
    let key_ring = redis.vault.ring();
    Opened {
        core,
        messages: MessageStores { messages: redis.clone(), events: redis.clone(), budgets: redis },
        key_ring,
    }
}
