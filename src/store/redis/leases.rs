//! Leases in Redis: a key that lapses by itself, held by whoever's nonce is in it. Used through the port.
//!
//! A Redis that fails over may forget a lease; two holders then make one call too many, never a wrong answer.

use std::time::Duration;

use async_trait::async_trait;

use super::command;
use super::{Redis, millis};
use crate::broker::ports::{Acquired, Lease, LeaseStore, StoreError};

/// The version of the value of a lease; the nonce of its holder follows.
const VERSION: u8 = 1;

fn holder(nonce: &[u8; 16]) -> Vec<u8> {
    let mut value = vec![VERSION];
    value.extend_from_slice(nonce);
    value
}

#[async_trait]
impl LeaseStore for Redis {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Acquired, StoreError> {
        let script = &self.scripts.acquire;
        let nonce: [u8; 16] = rand::random();
        let keys = [self.keys.lease(name), self.keys.fence(name)];
        let command = script.on(keys, (holder(&nonce).as_slice(), millis(ttl)));
        let (granted, number) = command::pair(script.operation(), self.run(&command).await?)?;
        let number = u64::try_from(command::number(script.operation(), number)?).unwrap_or(0);
        Ok(if command::number(script.operation(), granted)? == 1 {
            Acquired::Granted(Lease { name: name.to_owned(), fence: number, nonce })
        } else {
            Acquired::Held(Duration::from_millis(number.max(1)))
        })
    }

    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError> {
        let script = &self.scripts.renew;
        let arguments = (holder(&lease.nonce).as_slice().to_vec(), millis(ttl));
        let command = script.on([self.keys.lease(&lease.name)], arguments);
        Ok(command::number(script.operation(), self.run(&command).await?)? == 1)
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        let command =
            self.scripts.release.on([self.keys.lease(&lease.name)], holder(&lease.nonce).as_slice());
        self.run(&command).await.map(drop)
    }
}
