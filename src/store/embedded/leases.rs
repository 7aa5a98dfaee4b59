//! Leases in the embedded store: process memory, because one process owns the file and a lease dies with its holder.
//!
//! Bounded: expired leases make room, and without room a new one is refused. Fences start at the time of the start, so
//! that they grow over restarts too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::Embedded;
use super::writer::Refusal;
use crate::broker::ports::{Acquired, Lease, LeaseStore, StoreError};
use crate::clock::Timestamp;

/// Leases held at the same time.
const LEASES: usize = 100_000;

#[derive(Debug)]
struct Held {
    nonce: [u8; 16],
    since: Timestamp,
    until: Timestamp,
}

impl Held {
    /// A lease from the future was granted before the clock was set back; it must not last that much longer.
    fn holds(&self, now: Timestamp) -> bool {
        self.since <= now && now < self.until
    }
}

#[derive(Debug, Default)]
struct State {
    held: HashMap<String, Held>,
    fence: u64,
}

/// All leases of this process.
#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<State>);

impl Leases {
    fn try_acquire(&self, name: &str, ttl: Duration, now: Timestamp) -> Result<Acquired, Refusal> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.held.get(name) {
            Some(held) if held.holds(now) => return Ok(Acquired::Held(held.until.since(now))),
            Some(_) => {}
            None if state.held.len() >= LEASES => {
                state.held.retain(|_, held| held.holds(now));
                if state.held.len() >= LEASES {
                    return Err(Refusal::Full);
                }
            }
            None => {}
        }
        state.fence = state.fence.saturating_add(1).max(now.as_millis());
        let lease = Lease { name: name.to_owned(), fence: state.fence, nonce: rand::random() };
        let held = Held { nonce: lease.nonce, since: now, until: now.plus(ttl) };
        state.held.insert(name.to_owned(), held);
        Ok(Acquired::Granted(lease))
    }

    fn renew(&self, lease: &Lease, ttl: Duration, now: Timestamp) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.held.get_mut(&lease.name) {
            Some(held) if held.nonce == lease.nonce && held.holds(now) => {
                (held.since, held.until) = (now, now.plus(ttl));
                true
            }
            _ => false,
        }
    }

    fn release(&self, lease: &Lease) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.held.get(&lease.name).is_some_and(|held| held.nonce == lease.nonce) {
            state.held.remove(&lease.name);
        }
    }
}

#[async_trait]
impl LeaseStore for Embedded {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Acquired, StoreError> {
        Ok(self.leases.try_acquire(name, ttl, self.engine.clock().now())?)
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        Ok(self.leases.renew(lease, ttl, self.engine.clock().now()))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.leases.release(lease);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_bounded_and_expired_ones_make_room() {
        let leases = Leases::default();
        let second = Duration::from_secs(1);
        for number in 0..LEASES {
            leases.try_acquire(&number.to_string(), second, Timestamp::from_millis(0)).unwrap();
        }
        assert!(leases.try_acquire("one more", second, Timestamp::from_millis(0)).is_err());
        assert!(leases.try_acquire("one more", second, Timestamp::from_millis(1000)).is_ok());
        assert_eq!(leases.0.lock().unwrap().held.len(), 1);
    }
}
