//! The one way to Redis: every command has a deadline of its own, a place among a bounded number, and a breaker.
//!
//! A task of its own (the *keeper*) owns the connection: it connects, notices a loss, probes, and reconnects, so that
//! no caller ever pays for that with more than its own deadline. While the store is known to be away commands are
//! refused at once. A write is never sent twice; a read is, once, if its connection broke. Used by the ports' files.
//!
//! | state | meaning | a command |
//! |---|---|---|
//! | connecting | the connection was just lost, or never made | waits for it within its deadline |
//! | up | the last word was good | is sent |
//! | down | several commands in a row failed, or connecting did | is refused at once |

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::Value;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::command::{Command, Effect};
use super::connect::{Connected, Connector, Link, ping};
use super::connect_error::ConnectError;
use super::failure::{self, Failure};
use crate::broker::ports::StoreError;
use crate::metrics::Metrics;

/// How many failures in a row open the breaker.
const FAILURES: u32 = 5;

/// How long the keeper waits between attempts to connect.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// How long replies are waited for on a connection that was given up.
const LAST_REPLIES: Duration = Duration::from_millis(50);

#[derive(Clone)]
enum State {
    Connecting,
    Up { number: u64, link: Link, lost: CancellationToken },
    Down,
}

struct Shared {
    state: watch::Sender<State>,
    permits: Semaphore,
    /// Failures since the last success.
    failures: AtomicU32,
    /// Told when `FAILURES` is reached.
    suspect: Notify,
    timeout: Duration,
    metrics: Metrics,
}

/// The way to Redis; cheap to clone, closed when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    _keeper: Arc<Keeper>,
}

struct Keeper(JoinHandle<()>);

impl Drop for Keeper {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Starts with a connection that was made already, or with none yet, and keeps it from then on.
    pub(super) fn keep(
        connector: Connector,
        first: Result<Connected, ConnectError>,
        timeout: Duration,
        max_concurrency: usize,
        metrics: Metrics,
    ) -> Self {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Connecting),
            permits: Semaphore::new(max_concurrency.min(Semaphore::MAX_PERMITS)),
            failures: AtomicU32::new(0),
            suspect: Notify::new(),
            timeout,
            metrics,
        });
        let first = match first {
            Ok(connected) => {
                shared.up(1, &connected);
                Some(connected)
            }
            Err(error) => {
                shared.down(&error);
                None
            }
        };
        let keeper = tokio::spawn(keep(Arc::clone(&shared), connector, first));
        Self { shared, _keeper: Arc::new(Keeper(keeper)) }
    }

    /// Sends a command and returns its reply, within the deadline.
    pub(super) async fn run(&self, command: &Command) -> Result<Value, StoreError> {
        let started = Instant::now();
        let deadline = started + self.shared.timeout;
        #[cfg(not(any(fuzzing, test)))]
        let result = self.shared.run(command, deadline).await;
        #[cfg(any(fuzzing, test))]
        let result = match super::fuzzing::made_up() {
            Some(reply) => reply.map_err(|error| failure::classify(&error)),
            None => self.shared.run(command, deadline).await,
        };
        let outcome = match &result {
            Ok(_) => "ok",
            Err(failure) => failure.outcome(),
        };
        self.shared.metrics.store_command(command.operation, outcome, started.elapsed());
        result.map_err(StoreError::from)
    }

    /// To nothing: for replies that are made up.
    #[cfg(any(fuzzing, test))]
    pub(super) fn nowhere() -> Self {
        let shared = Arc::new(Shared {
            state: watch::Sender::new(State::Down),
            permits: Semaphore::new(0),
            failures: AtomicU32::new(0),
            suspect: Notify::new(),
            timeout: Duration::ZERO,
            metrics: Metrics::new(),
        });
        Self { shared, _keeper: Arc::new(Keeper(tokio::spawn(std::future::pending()))) }
    }

    /// Whether commands are let through.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Up { .. })
    }
}

impl Shared {
    async fn run(&self, command: &Command, deadline: Instant) -> Result<Value, Failure> {
        let Ok(_permit) = self.permits.try_acquire() else { return Err(Failure::Busy) };
        let mut may_repeat = command.effect == Effect::Read;
        loop {
            let (number, mut link, lost) = self.link(deadline).await?;
            let result = tokio::select! {
                biased;
                result = timeout_at(deadline, link.send(command)) => match result {
                    Ok(result) => result.map_err(|error| failure::classify(&error)),
                    Err(_) => Err(Failure::TimedOut),
                },
                () = last_replies(&lost) => Err(Failure::Broken),
            };
            let Err(failure) = result else {
                self.succeeded();
                return result;
            };
            if failure.ends_connection() {
                // The link itself may not have noticed: a demoted primary answers readily.
                lost.cancel();
            }
            if failure.counts() {
                self.failed(number);
            }
            if failure == Failure::Broken && may_repeat {
                may_repeat = false;
                // Wait for the next connection, not for the one that just broke.
                self.replaced(number, deadline).await?;
                continue;
            }
            return Err(failure);
        }
    }

    /// The link, as soon as there is one.
    async fn link(&self, deadline: Instant) -> Result<(u64, Link, CancellationToken), Failure> {
        let at_once = self.state.borrow().clone();
        match at_once {
            State::Up { number, link, lost } => return Ok((number, link, lost)),
            State::Down => return Err(Failure::Down),
            State::Connecting => {}
        }
        let mut states = self.state.subscribe();
        let settled = states.wait_for(|state| !matches!(state, State::Connecting));
        match timeout_at(deadline, settled).await {
            Ok(Ok(state)) => match &*state {
                State::Up { number, link, lost } => Ok((*number, link.clone(), lost.clone())),
                State::Down | State::Connecting => Err(Failure::Down),
            },
            Ok(Err(_)) | Err(_) => Err(Failure::TimedOut),
        }
    }

    /// Waits until connection `number` is not the current one.
    async fn replaced(&self, number: u64, deadline: Instant) -> Result<(), Failure> {
        let mut states = self.state.subscribe();
        let gone = states.wait_for(|state| !matches!(state, State::Up { number: now, .. } if *now == number));
        match timeout_at(deadline, gone).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Failure::Broken),
        }
    }

    fn succeeded(&self) {
        // Read first: writing a shared counter on every command costs more than the look.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn failed(&self, number: u64) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 < FAILURES {
            return;
        }
        let opened = self.state.send_if_modified(|state| {
            let current = matches!(state, State::Up { number: now, .. } if *now == number);
            if current {
                *state = State::Down;
            }
            current
        });
        if opened {
            self.metrics.store_available(false);
            tracing::warn!(
                failures = FAILURES,
                "Redis failed several commands in a row; refusing commands until it answers"
            );
            self.suspect.notify_one();
        }
    }

    fn up(&self, number: u64, connected: &Connected) {
        self.failures.store(0, Ordering::Relaxed);
        self.metrics.store_available(true);
        let (link, lost) = (connected.link.clone(), connected.lost.clone());
        self.state.send_replace(State::Up { number, link, lost });
    }

    fn connecting(&self) {
        self.state.send_replace(State::Connecting);
    }

    fn down(&self, error: &ConnectError) {
        let was = self.state.send_replace(State::Down);
        self.metrics.store_available(false);
        if matches!(was, State::Down) {
            tracing::debug!(%error, "Redis is still away");
        } else {
            tracing::warn!(%error, "Redis is away");
        }
    }
}

/// Waits until a connection is lost and has had time for its last replies. The driver may take a command in the moment in
/// which it sees the connection end, and then neither sends it nor says so.
async fn last_replies(lost: &CancellationToken) {
    lost.cancelled().await;
    sleep(LAST_REPLIES).await;
}

/// The keeper's work, until it is aborted.
async fn keep(shared: Arc<Shared>, connector: Connector, mut next: Option<Connected>) {
    for number in 1.. {
        let mut current = match next.take() {
            Some(connected) => connected,
            None => connect(&shared, &connector).await,
        };
        shared.up(number, &current);
        tracing::debug!(node = %current.node, "Redis answers");
        tokio::select! {
            () = current.lost.cancelled() => {
                tracing::info!(node = %current.node, "the connection to Redis is gone; connecting anew");
                shared.connecting();
            }
            () = shared.suspect.notified() => {
                // Down already. A connection that still answers a ping is kept.
                match timeout(shared.timeout, ping(&mut current.link)).await {
                    Ok(Ok(())) => next = Some(current),
                    _ => current.lost.cancel(),
                }
            }
        }
    }
}

async fn connect(shared: &Shared, connector: &Connector) -> Connected {
    loop {
        let attempt = connector.connect();
        tokio::pin!(attempt);
        let result = match timeout(shared.timeout, &mut attempt).await {
            Ok(result) => result,
            Err(_) => {
                // No command waits longer than this anyway: from now on they are refused at once.
                shared.down(&ConnectError::Unreachable("its address".into(), "no answer yet".into()));
                attempt.await
            }
        };
        match result {
            Ok(connected) => {
                tracing::info!(node = %connected.node, "connected to Redis");
                return connected;
            }
            Err(error) => shared.down(&error),
        }
        sleep(RETRY_EVERY).await;
    }
}
