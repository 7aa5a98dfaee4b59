//! Scripted ports: an ACS and a store that answer, fail or hang as the test says.
//!
//! The store is a few maps under one lock; what a real backend must do is the concern of its own suite.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use acs_broker::broker::error::Error;
use acs_broker::broker::ports::*;
use acs_broker::broker::types::*;
use acs_broker::clock::{Clock, SystemClock, Timestamp};
use acs_broker::secret::Secret;
use async_trait::async_trait;
use tokio::sync::Semaphore;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// ACS as the test wants it.
pub struct Acs {
    /// What every call fails with, if anything.
    pub failure: Mutex<Option<Error>>,
    /// A call needs a permit of it to go on; close it or take its permits to make calls hang.
    pub gate: Semaphore,
    made: Mutex<u64>,
}

impl Default for Acs {
    fn default() -> Self {
        Self { failure: Mutex::new(None), gate: Semaphore::new(1_000_000), made: Mutex::new(0) }
    }
}

impl Acs {
    pub fn fail_with(&self, error: Error) {
        *lock(&self.failure) = Some(error);
    }

    /// Makes every call wait for ever.
    pub fn hang(&self) {
        self.gate.forget_permits(usize::MAX);
    }

    async fn number(&self) -> Result<u64, Error> {
        let _permit = self.gate.acquire().await;
        if let Some(error) = lock(&self.failure).clone() {
            return Err(error);
        }
        let mut made = lock(&self.made);
        *made += 1;
        Ok(*made)
    }

    fn token(&self, number: u64, validity: Validity) -> AccessToken {
        let now = SystemClock.now();
        AccessToken {
            secret: Secret::new(format!("token-{number}")),
            issued_at: now,
            expires_at: now.plus(validity.as_duration()),
            key: self.key(),
        }
    }
}

#[async_trait]
impl TokenIssuer for Acs {
    fn key(&self) -> KeyId {
        KeyId([7; 8])
    }

    async fn create_identity(
        &self,
        _user: &UserId,
        first_token: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        let number = self.number().await?;
        let identity = IdentityId::parse(&format!("8:acs:resource_{number}")).unwrap();
        Ok(CreatedIdentity { identity, token: first_token.map(|(_, validity)| self.token(number, validity)) })
    }

    async fn issue_token(
        &self,
        _: &IdentityId,
        _: ScopeSet,
        validity: Validity,
    ) -> Result<AccessToken, Error> {
        let number = self.number().await?;
        Ok(self.token(number, validity))
    }

    async fn revoke_tokens(&self, _identity: &IdentityId) -> Result<(), Error> {
        self.number().await.map(drop)
    }

    async fn delete_identity(&self, _identity: &IdentityId) -> Result<(), Error> {
        self.number().await.map(drop)
    }
}

/// How the store fails.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub enum Trouble {
    #[default]
    None,
    Unavailable,
    Corrupt,
    /// Answers, but every removal and advance finds the record changed.
    Changes,
    /// Breaks in the middle of a call, as only a mistake in the program can.
    Panics,
}

#[derive(Default)]
struct Maps {
    records: BTreeMap<UserId, IdentityRecord>,
    tokens: HashMap<(UserId, TokenKey), CachedToken>,
    ledger: HashMap<LedgerKey, ([u8; 32], Option<Vec<u8>>)>,
    leases: HashMap<String, [u8; 16]>,
    writes_left: Option<usize>,
    trouble: Trouble,
    fence: u64,
}

/// A store of maps.
#[derive(Default)]
pub struct Store(Mutex<Maps>, std::sync::atomic::AtomicUsize);

impl Store {
    pub fn set(&self, trouble: Trouble) {
        lock(&self.0).trouble = trouble;
    }

    /// Becomes unreachable after that many insertions.
    pub fn fail_after(&self, insertions: usize) {
        lock(&self.0).writes_left = Some(insertions);
    }

    /// Every request under way looks as if it were still running.
    pub fn hold_requests(&self) {
        for (_, outcome) in lock(&self.0).ledger.values_mut() {
            *outcome = None;
        }
    }

    pub fn users(&self) -> usize {
        lock(&self.0).records.len()
    }

    pub fn stores(self: &Arc<Self>) -> Stores {
        Stores {
            identities: self.clone(),
            tokens: self.clone(),
            ledger: self.clone(),
            budget: self.clone(),
            leases: self.clone(),
        }
    }

    fn maps(&self) -> Result<MutexGuard<'_, Maps>, StoreError> {
        let maps = lock(&self.0);
        match maps.trouble {
            Trouble::None | Trouble::Changes => Ok(maps),
            Trouble::Unavailable => Err(StoreError::Unavailable(cause())),
            Trouble::Corrupt => Err(StoreError::Corrupt(cause())),
            Trouble::Panics => unreachable!("as the test wants it"),
        }
    }
}

fn cause() -> acs_broker::broker::error::Cause {
    Arc::new(std::io::Error::other("cause for the log alone"))
}

#[async_trait]
impl IdentityStore for Store {
    async fn find(&self, user: &UserId) -> Result<Option<IdentityRecord>, StoreError> {
        Ok(self.maps()?.records.get(user).cloned())
    }

    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError> {
        let maps = self.maps()?;
        let found = maps.records.iter().find(|(_, record)| record.identity == *identity);
        Ok(found.map(|(user, record)| (user.clone(), record.clone())))
    }

    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError> {
        // Insertions that run side by side take effect out of order, as on a real store.
        let turns = 7 - self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 8;
        for _ in 0..turns {
            tokio::task::yield_now().await;
        }
        let mut maps = self.maps()?;
        if let Some(left) = &mut maps.writes_left {
            *left = left.checked_sub(1).ok_or_else(|| StoreError::Unavailable(cause()))?;
        }
        if let Some(known) = maps.records.get(user) {
            return Ok(Inserted::Existing(known.clone()));
        }
        if maps.records.values().any(|known| known.identity == record.identity) {
            return Ok(Inserted::LinkedElsewhere);
        }
        maps.records.insert(user.clone(), record.clone());
        Ok(Inserted::New)
    }

    async fn advance_generation(
        &self,
        user: &UserId,
        expected: &IdentityId,
    ) -> Result<Option<u64>, StoreError> {
        let mut maps = self.maps()?;
        if maps.trouble == Trouble::Changes {
            return Ok(None);
        }
        Ok(maps.records.get_mut(user).filter(|record| record.identity == *expected).map(|record| {
            record.generation += 1;
            record.generation
        }))
    }

    async fn remove(&self, user: &UserId, expected: &IdentityId) -> Result<bool, StoreError> {
        let mut maps = self.maps()?;
        let there = maps.records.get(user).is_some_and(|record| record.identity == *expected);
        Ok(there && maps.records.remove(user).is_some())
    }

    async fn list(&self, from: Option<&[u8]>, limit: usize) -> Result<Option<IdentityPage>, StoreError> {
        let Ok(after) =
            from.map(|from| UserId::parse(std::str::from_utf8(from).unwrap_or_default())).transpose()
        else {
            return Ok(None);
        };
        let maps = self.maps()?;
        let mut rest =
            maps.records.iter().filter(|(user, _)| after.as_ref().is_none_or(|after| *user > after));
        let entries: Vec<_> =
            rest.by_ref().take(limit).map(|(user, record)| (user.clone(), record.clone())).collect();
        let more = rest.next().is_some();
        let next = entries.last().filter(|_| more).map(|(user, _)| user.as_str().as_bytes().to_vec());
        Ok(Some(IdentityPage { entries, next }))
    }

    async fn check(&self) -> Result<(), StoreProblem> {
        self.maps().map(drop).map_err(|_| StoreProblem::Unreachable)
    }
}

#[async_trait]
impl TokenCache for Store {
    async fn look_up(&self, user: &UserId, key: &TokenKey) -> Result<Snapshot, StoreError> {
        let maps = self.maps()?;
        let record = maps.records.get(user).cloned();
        let token = maps.tokens.get(&(user.clone(), *key)).cloned().filter(|token| {
            record.as_ref().is_some_and(|record| {
                record.identity == token.identity && record.generation == token.generation
            })
        });
        Ok(Snapshot { record, token })
    }

    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> Result<bool, StoreError> {
        let mut maps = self.maps()?;
        let current = maps
            .records
            .get(user)
            .is_some_and(|record| record.identity == token.identity && record.generation == token.generation);
        if current {
            maps.tokens.insert((user.clone(), *key), token.clone());
        }
        Ok(current)
    }

    async fn keys_of(&self, user: &UserId) -> Result<Vec<TokenKey>, StoreError> {
        Ok(self.maps()?.tokens.keys().filter(|(of, _)| of == user).map(|(_, key)| *key).collect())
    }
}

#[async_trait]
impl OutcomeLedger for Store {
    async fn begin(&self, key: &LedgerKey, digest: &[u8; 32], _: Duration) -> Result<Begun, StoreError> {
        let mut maps = self.maps()?;
        let begun = match maps.ledger.get(key) {
            Some((known, _)) if known != digest => Begun::Reused,
            Some((_, Some(outcome))) => Begun::Finished(outcome.clone()),
            Some((_, None)) => Begun::InProgress(Duration::from_millis(750)),
            None => Begun::Started,
        };
        if begun == Begun::Started {
            maps.ledger.insert(key.clone(), (*digest, None));
        }
        Ok(begun)
    }

    async fn finish(
        &self,
        key: &LedgerKey,
        digest: &[u8; 32],
        outcome: &[u8],
        _: Duration,
    ) -> Result<(), StoreError> {
        self.maps()?.ledger.insert(key.clone(), (*digest, Some(outcome.to_vec())));
        Ok(())
    }

    async fn abandon(&self, key: &LedgerKey, _: &[u8; 32]) -> Result<(), StoreError> {
        self.maps()?.ledger.remove(key);
        Ok(())
    }
}

#[async_trait]
impl CallBudget for Store {
    async fn take(&self, _: &str, _: &[Limit], _: u32) -> Result<Taken, StoreError> {
        Ok(Taken::Go { remaining: u32::MAX })
    }
}

#[async_trait]
impl LeaseStore for Store {
    async fn try_acquire(&self, name: &str, _: Duration) -> Result<Acquired, StoreError> {
        let mut maps = self.maps()?;
        if maps.leases.contains_key(name) {
            return Ok(Acquired::Held(Duration::from_millis(50)));
        }
        maps.fence += 1;
        let (fence, mut nonce) = (maps.fence, [0; 16]);
        nonce[..8].copy_from_slice(&fence.to_be_bytes());
        maps.leases.insert(name.to_owned(), nonce);
        Ok(Acquired::Granted(Lease { name: name.to_owned(), fence, nonce }))
    }

    async fn renew(&self, lease: &Lease, _: Duration) -> Result<bool, StoreError> {
        Ok(self.maps()?.leases.get(&lease.name) == Some(&lease.nonce))
    }

    async fn release(&self, lease: &Lease) -> Result<(), StoreError> {
        self.maps()?.leases.remove(&lease.name);
        Ok(())
    }
}

/// An entry put there by the test.
pub async fn insert(store: &Store, user: &str, identity: &str) {
    let record = IdentityRecord {
        identity: IdentityId::parse(identity).unwrap(),
        generation: 0,
        created_at: Timestamp::from_millis(1_700_000_000_000),
    };
    let inserted = store.insert_if_absent(&UserId::parse(user).unwrap(), &record).await.unwrap();
    assert_eq!(inserted, Inserted::New);
}
