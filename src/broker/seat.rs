//! A lease that is kept while the work under it runs, and given back after.
//!
//! Leases are short and renewed, so that the work of a replica that died is taken over within seconds, while a slow
//! call to ACS keeps the others waiting instead of calling too. Losing a lease is never wrong, only wasteful.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::Core;
use super::error::Error;
use super::ports::{Acquired, Lease, LeaseStore};

/// How long a lease lasts without renewal: how soon the work of a dead replica is taken over.
const TTL: Duration = Duration::from_secs(3);
/// How often a lease is renewed.
const RENEW_EVERY: Duration = Duration::from_secs(1);

/// A held lease.
pub(super) struct Seat {
    leases: Arc<dyn LeaseStore>,
    lease: Lease,
    tasks: TaskTracker,
}

impl Core {
    /// Tries to take the lease `name`; `Err(Ok(for_how_long))` if somebody else holds it.
    pub(super) async fn take_seat(&self, name: &str) -> Result<Result<Seat, Duration>, Error> {
        Ok(match self.stores.leases.try_acquire(name, TTL).await? {
            Acquired::Granted(lease) => {
                Ok(Seat { leases: Arc::clone(&self.stores.leases), lease, tasks: self.tasks.clone() })
            }
            Acquired::Held(until) => Err(until),
        })
    }
}

impl Seat {
    /// Runs the work, renewing the lease meanwhile, and gives it back.
    pub(super) async fn keep_while<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut held = true;
        let done = loop {
            tokio::select! {
                done = &mut work => break done,
                // A lost lease only risks a second call upstream: the work goes on without it.
                () = tokio::time::sleep(RENEW_EVERY), if held => {
                    held = self.leases.renew(&self.lease, TTL).await.unwrap_or(true);
                }
            }
        };
        // Behind the caller's back: between the work's last step and its answer nothing may wait.
        self.tasks.spawn(async move {
            if let Err(error) = self.leases.release(&self.lease).await {
                tracing::debug!(error = &error as &dyn std::error::Error, "a lease was left to lapse");
            }
        });
        done
    }
}
