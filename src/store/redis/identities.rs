//! The mapping in Redis. A user's record and place in the index change together; the way back from an ACS identity to
//! its user is in another slot of a Cluster, so it is only ever a hint that is checked against the record.
//!
//! Inserting claims the way back first, writes the record second, and confirms the claim. So a record always has been
//! claimed; a claim without a record is harmless, and after [`PATIENCE`] another user may take it over.
//! Used through the port.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use tokio::time::{Instant, sleep};

use super::Redis;
use super::command::{self, Command};
use crate::broker::ports::{IdentityPage, IdentityStore, Inserted, StoreError, StoreProblem};
use crate::broker::types::{IdentityId, IdentityRecord, UserId};
use crate::store::codec::{VERSION, decode_identity, encode_identity};
use crate::store::keys::Bucket;

/// How long a claim may wait for its record before another user may take it over: far longer than any command takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a call waits for the record of another's claim.
const PATIENCE_OF_CALLERS: Duration = Duration::from_millis(250);

/// The pause between two looks at another's claim.
const PAUSE: Duration = Duration::from_millis(5);

const FIND: &str = "find";
const FIND_USER: &str = "find_user";

/// Somebody else is linking the same ACS identity at this moment.
#[derive(Debug, thiserror::Error)]
#[error("the ACS identity is being linked by another call; retry in {} s", PATIENCE.as_secs())]
struct BeingLinked;

/// The bytes of a claim: version, time (8 bytes), user.
struct Claim(Vec<u8>);

impl Claim {
    fn user(&self) -> Option<UserId> {
        let (&VERSION, rest) = self.0.split_first()? else { return None };
        let (_time, user) = rest.split_first_chunk::<8>()?;
        UserId::parse(std::str::from_utf8(user).ok()?).ok()
    }
}

/// What became of claiming an identity.
enum Claimed {
    /// It is the user's, by this claim.
    Ours(Claim),
    /// It is another's, by a claim of this age; none if that cannot be read.
    Theirs(Claim, Option<Duration>),
}

#[async_trait]
impl IdentityStore for Redis {
    async fn find(&self, user: &UserId) -> Result<Option<IdentityRecord>, StoreError> {
        let key = self.keys.record(user);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        let reply = self.connection.run(&Command::read(FIND, key, cmd)).await?;
        command::bytes(FIND, reply)?.map(|bytes| decode_identity(&bytes)).transpose()
    }

    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError> {
        let Some(claim) = self.owner(identity).await? else { return Ok(None) };
        let user = claim.user().ok_or_else(|| command::unexpected(FIND_USER))?;
        let record = self.find(&user).await?.filter(|record| record.identity == *identity);
        Ok(record.map(|record| (user, record)))
    }

    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError> {
        let claim = match self.claim_or_refuse(user, record).await? {
            Ok(claim) => claim,
            Err(refused) => return Ok(refused),
        };
        let script = &self.scripts.insert;
        let keys = [self.keys.record(user), self.keys.index(Bucket::of_user(user))];
        let bytes = encode_identity(record);
        let reply = self.connection.run(&script.on(keys, (bytes.as_slice(), user.as_str()))).await?;
        let Some(existing) = command::bytes(script.operation(), reply)? else {
            return self.confirm(user, &record.identity).await;
        };
        let existing = decode_identity(&existing)?;
        if existing.identity != record.identity {
            // Tidiness only: a claim without a record is harmless.
            self.disclaim(&record.identity, &claim).await;
        }
        Ok(Inserted::Existing(existing))
    }

    async fn advance_generation(
        &self,
        user: &UserId,
        expected: &IdentityId,
    ) -> Result<Option<u64>, StoreError> {
        let script = &self.scripts.advance;
        let keys = [self.keys.record(user), self.keys.tokens(user)];
        let arguments = (expected.as_str(), self.keys.tokens_root(user), user.as_str());
        match self.connection.run(&script.on(keys, arguments)).await? {
            Value::Nil => Ok(None),
            Value::BulkString(bytes) => {
                let bytes = <[u8; 8]>::try_from(bytes.as_slice())
                    .map_err(|_| command::unexpected(script.operation()))?;
                Ok(Some(u64::from_be_bytes(bytes)))
            }
            _ => Err(command::unexpected(script.operation())),
        }
    }

    async fn remove(&self, user: &UserId, expected: &IdentityId) -> Result<bool, StoreError> {
        let claim = self.owner(expected).await?;
        if !self.unmap(user, expected).await? {
            return Ok(false);
        }
        // Only the claim from before: a later one belongs to a later record.
        if let Some(claim) = claim.filter(|claim| claim.user().as_ref() == Some(user)) {
            self.disclaim(expected, &claim).await;
        }
        Ok(true)
    }

    async fn list(&self, from: Option<&[u8]>, limit: usize) -> Result<Option<IdentityPage>, StoreError> {
        let after = match from {
            None => None,
            Some(token) => match self.keys.read_page_token(token) {
                Some(last) => Some(last),
                None => return Ok(None),
            },
        };
        self.page(after, limit).await.map(Some)
    }

    async fn check(&self) -> Result<(), StoreProblem> {
        self.fit().await
    }
}

impl Redis {
    async fn claim(
        &self,
        user: &UserId,
        identity: &IdentityId,
        expected: &[u8],
    ) -> Result<Claimed, StoreError> {
        let script = &self.scripts.claim;
        let operation = script.operation();
        let command = script.on([self.keys.owner(identity)], (user.as_str(), expected));
        let reply = command::list(operation, self.connection.run(&command).await?)?;
        let [claimed, claim, age]: [Value; 3] =
            reply.try_into().map_err(|_| command::unexpected(operation))?;
        let claim = Claim(command::bytes(operation, claim)?.ok_or_else(|| command::unexpected(operation))?);
        if command::number(operation, claimed)? == 1 {
            return Ok(Claimed::Ours(claim));
        }
        let age = u64::try_from(command::number(operation, age)?).ok().map(Duration::from_millis);
        Ok(Claimed::Theirs(claim, age))
    }

    /// Claims the identity for the user; or tells why the user cannot have it.
    async fn claim_or_refuse(
        &self,
        user: &UserId,
        record: &IdentityRecord,
    ) -> Result<Result<Claim, Inserted>, StoreError> {
        let give_up = Instant::now() + PATIENCE_OF_CALLERS;
        let mut expected = Vec::new();
        loop {
            let (theirs, age) = match self.claim(user, &record.identity, &expected).await? {
                Claimed::Ours(claim) => return Ok(Ok(claim)),
                Claimed::Theirs(theirs, age) => (theirs, age),
            };
            if let Some(existing) = self.find(user).await? {
                return Ok(Err(Inserted::Existing(existing)));
            }
            if self.names(&theirs, &record.identity).await? {
                return Ok(Err(Inserted::LinkedElsewhere));
            }
            expected.clear();
            if age.is_some_and(|age| age >= PATIENCE) {
                // Nobody is about to write that record any more: the claim may be taken over, if it is still this one.
                expected.extend_from_slice(&theirs.0);
            } else if Instant::now() >= give_up {
                return Err(StoreError::Unavailable(Arc::new(BeingLinked)));
            } else {
                // The record is on its way; it tells whether the identity is taken.
                sleep(PAUSE).await;
            }
        }
    }

    /// Whether the user who claimed the identity has a record that names it.
    async fn names(&self, claim: &Claim, identity: &IdentityId) -> Result<bool, StoreError> {
        let user = claim.user().ok_or_else(|| command::unexpected(self.scripts.claim.operation()))?;
        Ok(self.find(&user).await?.is_some_and(|record| record.identity == *identity))
    }

    async fn disclaim(&self, identity: &IdentityId, claim: &Claim) {
        let command = self.scripts.disclaim.on([self.keys.owner(identity)], claim.0.as_slice());
        if let Err(error) = self.connection.run(&command).await {
            tracing::debug!(%error, "a claim without a record is left behind; it does no harm");
        }
    }

    /// Says once more, after the record was written, that the identity is the user's: a removal of the same record that
    /// ran at the same time may have taken the claim away. If another has it by now, the record is taken back.
    async fn confirm(&self, user: &UserId, identity: &IdentityId) -> Result<Inserted, StoreError> {
        match self.claim(user, identity, &[]).await? {
            Claimed::Ours(_) => Ok(Inserted::New),
            Claimed::Theirs(..) => {
                self.unmap(user, identity).await?;
                Ok(Inserted::LinkedElsewhere)
            }
        }
    }

    /// Removes the user's record, if it names the identity, but not the way back.
    async fn unmap(&self, user: &UserId, identity: &IdentityId) -> Result<bool, StoreError> {
        let script = &self.scripts.remove;
        let keys = [self.keys.record(user), self.keys.index(Bucket::of_user(user)), self.keys.tokens(user)];
        let arguments = (identity.as_str(), self.keys.tokens_root(user), user.as_str());
        match command::number(script.operation(), self.connection.run(&script.on(keys, arguments)).await?)? {
            1 => Ok(true),
            0 => Ok(false),
            _ => Err(command::unexpected(script.operation())),
        }
    }

    /// Who claims the identity.
    async fn owner(&self, identity: &IdentityId) -> Result<Option<Claim>, StoreError> {
        let key = self.keys.owner(identity);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        let reply = self.connection.run(&Command::read(FIND_USER, key, cmd)).await?;
        Ok(command::bytes(FIND_USER, reply)?.map(Claim))
    }
}
