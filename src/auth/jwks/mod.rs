//! The public keys of one source, kept fresh in the background.
//!
//! One task per source fetches; a call never does. A call whose key is known never waits. One whose key is not known may
//! ask for a fetch, at most one a minute, and waits a bounded time for it; everybody else who asks joins that fetch. While
//! the source is away the old keys stay in force for a bounded time. A key that the source drops is dropped with the
//! next fetch.

pub(crate) mod fetch;
pub(crate) mod key;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::fetch::{Fault, Fetch, Fetched};
use self::key::Keys;
use super::jwt::algorithm::Algorithm;
use crate::metrics::Metrics;
use crate::retry::Backoff;

/// How long things take and last. The defaults are what a broker runs with; tests shorten them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// The least time from one fetch that succeeded to the next, whoever wants it.
    pub between: Duration,
    /// The time for one fetch.
    pub fetch: Duration,
    /// How long a call waits for a key it lacks.
    pub wait: Duration,
    /// How long keys are kept when the source does not say.
    pub usual_age: Duration,
    /// The longest that keys are kept before they are fetched again.
    pub longest_age: Duration,
    /// How long keys stay in force while they cannot be fetched.
    pub outage: Duration,
    /// The waits after fetches that failed.
    pub retry: Backoff,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            between: Duration::from_secs(60),
            fetch: Duration::from_secs(5),
            wait: Duration::from_secs(3),
            usual_age: Duration::from_secs(600),
            longest_age: Duration::from_secs(24 * 60 * 60),
            outage: Duration::from_secs(24 * 60 * 60),
            retry: Backoff { first: Duration::from_secs(2), cap: Duration::from_secs(60) },
        }
    }
}

/// How often a file is looked at.
const FILE_EVERY: Duration = crate::reload::INTERVAL;
/// How many calls wait for a fetch at the same time; more are refused at once.
const MAX_WAITING: usize = 512;

/// Why there is no key for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// The source has no such key.
    Unknown,
    /// The source could not be asked yet: nobody knows whether the token is good.
    NotYet,
    /// The source could not be asked for too long, or who answers is not the issuer: its tokens prove nothing any more.
    Unavailable,
}

/// What there is of a source's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// They are as fresh as they should be.
    Good,
    /// They are in force, and could not be fetched the last time.
    Old,
    /// There are none.
    Lacking,
}

/// The keys of one source. Dropping it ends the task that fetches them.
pub(crate) struct KeySet {
    shared: Arc<Shared>,
    task: Option<AbortHandle>,
}

struct Shared {
    /// For the log.
    name: String,
    fetch: Box<dyn Fetch>,
    timing: Timing,
    /// Whether the source is a file, which may be looked at any time.
    is_file: bool,
    metrics: Metrics,
    state: RwLock<State>,
    /// Says that a call lacks a key.
    wanted: Notify,
    /// Counts the fetches that ended.
    ended: watch::Sender<u64>,
    waiting: Semaphore,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<Keys>>,
    /// When `keys` were last fetched or confirmed.
    fetched: Option<Instant>,
    /// When the last fetch began.
    began: Option<Instant>,
    under_way: bool,
    failures: u32,
    /// Who answered last has not proven to be the issuer.
    impostor: bool,
    /// The set is gone; what a fetch still brings counts no more.
    ended: bool,
}

impl KeySet {
    /// Begins to fetch. Must be called inside a runtime; outside of one there are never any keys.
    pub(crate) fn new(
        name: String,
        fetch: Box<dyn Fetch>,
        is_file: bool,
        timing: Timing,
        metrics: Metrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            name,
            fetch,
            timing,
            is_file,
            metrics,
            state: RwLock::new(State { under_way: true, ..State::default() }),
            wanted: Notify::new(),
            ended: watch::Sender::new(0),
            waiting: Semaphore::new(MAX_WAITING),
        });
        shared.metrics.jwks_lacking(1);
        let task = tokio::runtime::Handle::try_current().ok().map(|runtime| {
            let shared = Arc::clone(&shared);
            runtime.spawn(async move { shared.keep_fresh().await }).abort_handle()
        });
        Self { shared, task }
    }

    /// The keys in force, without waiting.
    pub(crate) fn current(&self) -> Option<Arc<Keys>> {
        let state = self.shared.state();
        let in_force = state.fetched.is_some_and(|then| then.elapsed() <= self.shared.timing.outage);
        state.keys.clone().filter(|_| in_force)
    }

    /// How it stands with the keys.
    pub(crate) fn standing(&self) -> Standing {
        match self.current() {
            None => Standing::Lacking,
            Some(_) if self.shared.state().failures > 0 => Standing::Old,
            Some(_) => Standing::Good,
        }
    }

    /// Keys among which there is one for tokens with this header. Waits only if there is none yet.
    pub(crate) async fn with(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Keys>, NoKey> {
        let look = || match self.current() {
            Some(keys) if keys.know(kid, algorithm) => Ok(keys),
            Some(_) => Err(NoKey::Unknown),
            None => Err(self.shared.state().without_keys()),
        };
        let lacking = match look() {
            Ok(keys) => return Ok(keys),
            Err(lacking) => lacking,
        };
        let Ok(_waiting) = self.shared.waiting.try_acquire() else { return Err(lacking) };
        // Listens before it looks again, so that no end is missed.
        let mut ended = self.shared.ended.subscribe();
        match look() {
            Ok(keys) => return Ok(keys),
            Err(lacking) if !self.shared.ask() => return Err(lacking),
            Err(_) => {}
        }
        let _ = tokio::time::timeout(self.shared.timing.wait, ended.changed()).await;
        look()
    }
}

impl Drop for KeySet {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        let mut state = self.shared.state_mut();
        state.ended = true;
        if state.failures > 0 {
            self.shared.metrics.jwks_failing(-1);
        }
        if state.keys.is_none() {
            self.shared.metrics.jwks_lacking(-1);
        }
    }
}

impl State {
    /// Why there are no keys.
    const fn without_keys(&self) -> NoKey {
        if self.fetched.is_none() && !self.impostor { NoKey::NotYet } else { NoKey::Unavailable }
    }
}

impl Shared {
    fn state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        // Whoever panicked held no half-written state: every change is one assignment after another of plain values.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a fetch, if one may be had; whether one is under way or about to be.
    fn ask(&self) -> bool {
        if self.state().under_way {
            return true;
        }
        let may = self.may_fetch();
        if may {
            self.wanted.notify_one();
        }
        may
    }

    /// Whether a call may cause a fetch now.
    fn may_fetch(&self) -> bool {
        let between = if self.is_file { FILE_EVERY.min(self.timing.between) } else { self.timing.between };
        self.state().began.is_none_or(|then| then.elapsed() >= between)
    }

    async fn keep_fresh(&self) {
        loop {
            {
                let mut state = self.state_mut();
                (state.under_way, state.began) = (true, Some(Instant::now()));
            }
            // A file on a file system that hangs is read by one thread and not by another each second.
            let within = if self.is_file { Duration::MAX } else { self.timing.fetch };
            let fetched = match tokio::time::timeout(within, self.fetch.fetch()).await {
                Ok(fetched) => fetched,
                Err(_) => Err("no complete answer came in time".into()),
            };
            let next = Instant::now() + self.take(fetched);
            self.ended.send_modify(|count| *count += 1);
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    () = self.wanted.notified() => if self.may_fetch() { break },
                }
            }
        }
    }

    /// Takes over what a fetch brought; returns when the next is due.
    fn take(&self, fetched: Result<Fetched, Fault>) -> Duration {
        let name = self.name.as_str();
        let mut state = self.state_mut();
        state.under_way = false;
        if state.ended {
            return self.timing.longest_age;
        }
        let failed_before = state.failures > 0;
        let problem = match fetched {
            Ok(Fetched { keys, max_age }) => {
                let before = state.keys.as_ref().map(|before| before.are_those_of(&keys));
                if before != Some(true) {
                    tracing::info!(source = name, keys = keys.len(), "keys of an issuer were fetched");
                    state.keys = Some(Arc::new(keys));
                } else if failed_before {
                    tracing::info!(source = name, "keys of an issuer can be fetched again");
                }
                if before.is_none() {
                    self.metrics.jwks_lacking(-1);
                }
                (state.fetched, state.failures) = (Some(Instant::now()), 0);
                self.metrics.jwks_fetch("ok");
                if failed_before {
                    self.metrics.jwks_failing(-1);
                }
                return self.age(max_age);
            }
            Err(fault) => {
                state.impostor = fault.is_impostor;
                fault.what
            }
        };
        state.failures = state.failures.saturating_add(1);
        self.metrics.jwks_fetch("failed");
        if !failed_before {
            self.metrics.jwks_failing(1);
        }
        let left =
            state.fetched.map_or(Duration::ZERO, |then| self.timing.outage.saturating_sub(then.elapsed()));
        // A file is looked at every second, and its fault is told once.
        let tell = !(failed_before && self.is_file);
        if left.is_zero() && state.keys.take().is_some() {
            self.metrics.jwks_lacking(1);
        }
        if tell && state.keys.is_some() {
            let minutes_left = left.as_secs() / 60;
            tracing::warn!(
                source = name,
                problem,
                minutes_left,
                "keys of an issuer cannot be fetched; those fetched before stay in force for a while"
            );
        } else if tell {
            tracing::error!(
                source = name,
                problem,
                "keys of an issuer cannot be fetched, and there are none in force; calls with its tokens fail"
            );
        }
        if self.is_file { FILE_EVERY } else { self.timing.retry.delay(state.failures, rand::random()) }
    }

    /// How long keys are kept that may be kept for `max_age`. Somewhat less, so that replicas do not ask together.
    fn age(&self, max_age: Option<Duration>) -> Duration {
        if self.is_file {
            return FILE_EVERY;
        }
        let age = max_age.unwrap_or(self.timing.usual_age).min(self.timing.longest_age);
        age.mul_f64(1.0 - rand::random::<f64>() / 10.0).max(self.timing.between)
    }
}
