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
use crate::store::codec::{VERSION, decode_identity, decode_mapping, encode_mapping};
use crate::store::keys::Bucket;
use crate::store::seal::{Name, Vault};

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

/// The bytes of a claim: version, time (8 bytes), the user's name.
struct Claim(Vec<u8>);

impl Claim {
    /// The name of the user who claims.
    fn user(&self, vault: &Vault) -> Option<Name> {
        let (&VERSION, rest) = self.0.split_first()? else { return None };
        let (_time, user) = rest.split_first_chunk::<8>()?;
        vault.read_name(std::str::from_utf8(user).ok()?)
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
        self.find_named(&self.vault.name(user)).await
    }

    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError> {
        let Some(claim) = self.owner(identity).await? else { return Ok(None) };
        let name = claim.user(&self.vault).ok_or_else(|| command::unexpected(FIND_USER))?;
        let Some(bytes) = self.record_bytes(&name).await? else { return Ok(None) };
        let (record, kept) = decode_mapping(&bytes)?;
        if record.identity != *identity {
            return Ok(None);
        }
        Ok(Some((self.vault.user(&name, kept)?, record)))
    }

    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError> {
        let name = &self.vault.name(user);
        let claim = match self.claim_or_refuse(name, record).await? {
            Ok(claim) => claim,
            Err(refused) => return Ok(refused),
        };
        let script = &self.scripts.insert;
        let keys = [self.keys.record(name), self.keys.index(Bucket::of_user(name))];
        let bytes = encode_mapping(record, self.vault.keep_user(user, name)?.as_deref());
        let reply = self.run(&script.on(keys, (bytes.as_slice(), name.as_str()))).await?;
        let Some(existing) = command::bytes(script.operation(), reply)? else {
            return self.confirm(name, &record.identity).await;
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
        let (script, user) = (&self.scripts.advance, &self.vault.name(user));
        let keys = [self.keys.record(user), self.keys.tokens(user)];
        let arguments = (expected.as_str(), self.keys.tokens_root(user), user.as_str());
        match self.run(&script.on(keys, arguments)).await? {
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
        let user = &self.vault.name(user);
        let claim = self.owner(expected).await?;
        if !self.unmap(user, expected).await? {
            return Ok(false);
        }
        // Only the claim from before: a later one belongs to a later record.
        if let Some(claim) = claim.filter(|claim| claim.user(&self.vault).as_ref() == Some(user)) {
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
    async fn record_bytes(&self, user: &Name) -> Result<Option<Vec<u8>>, StoreError> {
        let key = self.keys.record(user);
        let mut cmd = redis::cmd("GET");
        cmd.arg(&key);
        command::bytes(FIND, self.run(&Command::read(FIND, key, cmd)).await?)
    }

    async fn find_named(&self, user: &Name) -> Result<Option<IdentityRecord>, StoreError> {
        self.record_bytes(user).await?.map(|bytes| decode_identity(&bytes)).transpose()
    }

    async fn claim(
        &self,
        user: &Name,
        identity: &IdentityId,
        expected: &[u8],
    ) -> Result<Claimed, StoreError> {
        let script = &self.scripts.claim;
        let operation = script.operation();
        let command = script.on([self.keys.owner(identity)], (user.as_str(), expected));
        let reply = command::list(operation, self.run(&command).await?)?;
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
        user: &Name,
        record: &IdentityRecord,
    ) -> Result<Result<Claim, Inserted>, StoreError> {
        let give_up = Instant::now() + PATIENCE_OF_CALLERS;
        let mut expected = Vec::new();
        loop {
            let (theirs, age) = match self.claim(user, &record.identity, &expected).await? {
                Claimed::Ours(claim) => return Ok(Ok(claim)),
                Claimed::Theirs(theirs, age) => (theirs, age),
            };
            if let Some(existing) = self.find_named(user).await? {
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
        let user = claim.user(&self.vault);
        let user = user.ok_or_else(|| command::unexpected(self.scripts.claim.operation()))?;
        Ok(self.find_named(&user).await?.is_some_and(|record| record.identity == *identity))
    }

    async fn disclaim(&self, identity: &IdentityId, claim: &Claim) {
        let command = self.scripts.disclaim.on([self.keys.owner(identity)], claim.0.as_slice());
        if let Err(error) = self.run(&command).await {
            tracing::debug!(%error, "a claim without a record is left behind; it does no harm");
        }
    }

    /// Says once more, after the record was written, that the identity is the user's: a removal of the same record that
    /// ran at the same time may have taken the claim away. If another has it by now, the record is taken back.
    async fn confirm(&self, user: &Name, identity: &IdentityId) -> Result<Inserted, StoreError> {
        match self.claim(user, identity, &[]).await? {
            Claimed::Ours(_) => Ok(Inserted::New),
            Claimed::Theirs(..) => {
                self.unmap(user, identity).await?;
                Ok(Inserted::LinkedElsewhere)
            }
        }
    }

    /// Removes the user's record, if it names the identity, but not the way back.
    async fn unmap(&self, user: &Name, identity: &IdentityId) -> Result<bool, StoreError> {
        let script = &self.scripts.remove;
        let keys = [self.keys.record(user), self.keys.index(Bucket::of_user(user)), self.keys.tokens(user)];
        let arguments = (identity.as_str(), self.keys.tokens_root(user), user.as_str());
        match command::number(script.operation(), self.run(&script.on(keys, arguments)).await?)? {
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
        let reply = self.run(&Command::read(FIND_USER, key, cmd)).await?;
        Ok(command::bytes(FIND_USER, reply)?.map(Claim))
    }
}
