//! One identity per user: get or create, look up, list, import, delete.
//!
//! The mapping in the store decides. Creating at ACS has no idempotency key, so it is done under a lease, and whoever
//! loses the race to `insert_if_absent` all the same deletes what it made and goes on with the winner's.

use std::sync::Arc;
use std::time::Duration;

use super::error::{Cause, Error};
use super::once::Request;
use super::ports::{IdentityPage, Inserted, StoreProblem};
use super::types::{AccessToken, Caller, IdentityId, IdentityRecord, TokenKey, UserId};
use super::{Broker, Core, Imported};
use crate::clock::Timestamp;

/// A user's record, and whether this piece of work created it.
pub(super) type Resolved = Result<(IdentityRecord, bool), Error>;

/// How long one resolve or issue may go on behind its callers, waits for other replicas included.
pub(super) const WORK_BUDGET: Duration = Duration::from_secs(20);
/// How often a replica looks whether another one has finished; grows to the second value.
const FIRST_POLL: Duration = Duration::from_millis(10);
const LAST_POLL: Duration = Duration::from_millis(100);
/// How often a call starts over because the identity changed under it.
pub(super) const ROUNDS: u32 = 5;
/// How often the fate of an identity is tried to be settled before it is given up and logged.
const SETTLE_TRIES: u32 = 12;

/// What resolving led to.
pub(super) struct Created {
    /// The user's record now, whoever made it.
    pub(super) record: IdentityRecord,
    /// Whether it is the one made here.
    pub(super) ours: bool,
    /// The first token, if asked for and the record is the one made here.
    pub(super) token: Option<AccessToken>,
}

/// Waits between looks at what another replica does, within a budget.
pub(super) struct Polling {
    ends: tokio::time::Instant,
    pause: Duration,
}

impl Polling {
    pub(super) fn new() -> Self {
        Self { ends: tokio::time::Instant::now() + WORK_BUDGET, pause: FIRST_POLL }
    }

    /// Waits for a moment, at most for `no_longer_than`; an error once the budget is used up.
    pub(super) async fn pause(&mut self, no_longer_than: Duration) -> Result<(), Error> {
        if tokio::time::Instant::now() >= self.ends {
            return Err(Error::AcsUnavailable { retry_after: Duration::from_secs(1), cause: Some(waited()) });
        }
        tokio::time::sleep(self.pause.min(no_longer_than.max(Duration::from_millis(1)))).await;
        self.pause = (self.pause * 2).min(LAST_POLL);
        Ok(())
    }
}

fn waited() -> Cause {
    #[derive(Debug, thiserror::Error)]
    #[error("another replica held the lease and did not finish")]
    struct Waited;
    Arc::new(Waited)
}

impl Broker {
    /// The user's identity, created if there is none. Says whether it was created by this or a concurrent call.
    ///
    /// # Errors
    /// `StoreUnavailable`, `AcsUnavailable`, `AcsThrottled`, `AcsCredentialsRefused`, `AcsRejected`, `Internal`.
    pub async fn resolve_identity(&self, _caller: &Caller, user: UserId) -> Resolved {
        for _ in 0..ROUNDS {
            if let Some(record) = self.core.stores.identities.find(&user).await? {
                return Ok((record, false));
            }
            let joined = self.core.resolving.join(user.clone(), &self.core.tasks, || {
                let (core, user) = (Arc::clone(&self.core), user.clone());
                async move { core.resolve(&user, None).await.map(|created| (created.record, created.ours)) }
            });
            let started_here = joined.started_here;
            let (record, created) = joined
                .result()
                .await
                .unwrap_or_else(|| Err(Error::internal("resolving an identity panicked")))?;
            if started_here {
                return Ok((record, created));
            }
            // Work joined midway may have stored its record before a deletion that this call must see.
            match self.core.stores.identities.find(&user).await? {
                Some(now) if now.identity == record.identity => return Ok((now, created)),
                _ => {}
            }
        }
        Err(Error::ConcurrentChange)
    }

    /// The user's identity, if there is one.
    ///
    /// # Errors
    /// `IdentityNotFound`, `StoreUnavailable`, `Internal`.
    pub async fn get_identity(
        &self,
        _caller: &Caller,
        user: UserId,
    ) -> Result<(UserId, IdentityRecord), Error> {
        let record = self.core.stores.identities.find(&user).await?.ok_or(Error::IdentityNotFound)?;
        Ok((user, record))
    }

    /// The user an ACS identity belongs to.
    ///
    /// # Errors
    /// `IdentityNotFound`, `StoreUnavailable`, `Internal`.
    pub async fn get_identity_by_acs_id(
        &self,
        caller: &Caller,
        identity: IdentityId,
    ) -> Result<(UserId, IdentityRecord), Error> {
        let found = self.core.stores.identities.find_user(&identity).await?;
        found.filter(|(user, _)| caller.permissions().may_know(user)).ok_or(Error::IdentityNotFound)
    }

    /// A page of the mapping; none if `from` is not the end of an earlier page.
    ///
    /// # Errors
    /// `StoreUnavailable`, `Internal`.
    pub async fn list_identities(
        &self,
        _caller: &Caller,
        from: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<Option<IdentityPage>, Error> {
        Ok(self.core.stores.identities.list(from.as_deref(), limit).await?)
    }

    /// Stores an entry made elsewhere, or with `validate_only` says what would happen. ACS is not asked.
    ///
    /// # Errors
    /// `IdentityAlreadyLinked` if the user or the identity is linked otherwise, `StoreUnavailable`, `Internal`.
    pub async fn import_identity(
        &self,
        _caller: &Caller,
        user: UserId,
        identity: IdentityId,
        created_at: Option<Timestamp>,
        validate_only: bool,
    ) -> Result<Imported, Error> {
        let identities = &self.core.stores.identities;
        let inserted = if validate_only {
            match identities.find(&user).await? {
                Some(record) => Inserted::Existing(record),
                None if identities.find_user(&identity).await?.is_some() => Inserted::LinkedElsewhere,
                None => Inserted::New,
            }
        } else {
            let mut record = self.core.new_record(identity.clone());
            record.created_at = created_at.unwrap_or(record.created_at);
            identities.insert_if_absent(&user, &record).await?
        };
        match inserted {
            Inserted::New => Ok(Imported::New),
            Inserted::Existing(record) if record.identity == identity => Ok(Imported::Unchanged),
            Inserted::Existing(_) | Inserted::LinkedElsewhere => Err(Error::IdentityAlreadyLinked),
        }
    }

    /// Deletes the user's identity at ACS and in the mapping.
    ///
    /// # Errors
    /// `IdentityNotFound`, `ConcurrentChange`, `RequestInProgress`, `RequestIdReused`, and those of resolving.
    pub async fn delete_identity(
        &self,
        caller: &Caller,
        user: UserId,
        request_id: Option<String>,
    ) -> Result<(), Error> {
        let request = request_id.map(|id| Request::new(caller, "DeleteIdentity", id, &user));
        self.to_its_end(|core| async move { core.once(request, core.delete(&user)).await }).await
    }
}

impl Core {
    /// The user's record; created, with a first token if asked for, unless it exists or another replica creates it.
    pub(super) async fn resolve(
        self: &Arc<Self>,
        user: &UserId,
        first: Option<&TokenKey>,
    ) -> Result<Created, Error> {
        let there = |record| Created { record, ours: false, token: None };
        let identities = &self.stores.identities;
        let mut polling = Polling::new();
        loop {
            if let Some(record) = identities.find(user).await? {
                return Ok(there(record));
            }
            match self.take_seat(&creation_lease(user)).await? {
                Ok(seat) => {
                    let creating = async {
                        // Another replica may have finished just before the lease was granted.
                        match identities.find(user).await? {
                            Some(record) => Ok(there(record)),
                            None => self.create(user, first).await,
                        }
                    };
                    return seat.keep_while(creating).await;
                }
                Err(held_for) => polling.pause(held_for).await?,
            }
        }
    }

    /// Creates an identity at ACS, with a first token if asked, and maps the user to it unless somebody was faster.
    async fn create(self: &Arc<Self>, user: &UserId, first: Option<&TokenKey>) -> Result<Created, Error> {
        let first = first.map(|key| (key.scopes, key.validity));
        // Who is not found in a store that was emptied, or under names that are not ours, is no new user. Readiness alone
        // does not see to that: callers keep the connections they have.
        if let Err(problem @ (StoreProblem::Emptied | StoreProblem::OtherNames(_))) =
            self.stores.identities.check().await
        {
            let (retry_after, cause) = (Duration::from_secs(1), Some(Arc::new(problem) as Cause));
            return Err(Error::StoreUnavailable { retry_after, cause });
        }
        let created = self.issuer.create_identity(user, first).await?;
        let record = self.new_record(created.identity);
        match self.stores.identities.insert_if_absent(user, &record).await {
            Ok(Inserted::New) => Ok(Created { record, ours: true, token: created.token }),
            Ok(Inserted::Existing(winner)) => {
                if winner.identity != record.identity {
                    self.discard(record.identity);
                }
                Ok(Created { record: winner, ours: false, token: None })
            }
            // With a custom id, ACS may answer an identity that an import gave to another user.
            Ok(Inserted::LinkedElsewhere) => Err(Error::IdentityAlreadyLinked),
            Err(unknown) => {
                self.settle(user.clone(), record);
                Err(unknown.into())
            }
        }
    }

    /// A record's generation starts with the time, so that it is newer than any of an earlier record of the same user
    /// and identity (an import, a custom id), whose tokens must not come back.
    fn new_record(&self, identity: IdentityId) -> IdentityRecord {
        let now = self.clock.now();
        IdentityRecord { identity, generation: now.as_millis(), created_at: now }
    }

    async fn delete(&self, user: &UserId) -> Result<(), Error> {
        let identities = &self.stores.identities;
        let record = identities.find(user).await?.ok_or(Error::IdentityNotFound)?;
        // First the fence: from here on no replica serves a token of this identity. The mapping goes last, so that a
        // deletion interrupted at any step is finished by the next one.
        if identities.advance_generation(user, &record.identity).await?.is_none() {
            return Err(Error::ConcurrentChange);
        }
        self.issuer.delete_identity(&record.identity).await?;
        // If another call removed the record meanwhile, the identity is as gone as it was asked to be.
        identities.remove(user, &record.identity).await?;
        Ok(())
    }

    /// Deletes an identity that lost the race, behind the caller's back.
    fn discard(self: &Arc<Self>, identity: IdentityId) {
        let core = Arc::clone(self);
        self.tasks.spawn(async move { core.discard_now(&identity).await });
    }

    async fn discard_now(&self, identity: &IdentityId) {
        let mut pause = Duration::from_millis(100);
        for _ in 0..SETTLE_TRIES {
            match self.issuer.delete_identity(identity).await {
                Ok(()) => {
                    self.metrics.surplus_identity("deleted");
                    return;
                }
                Err(error) => {
                    tracing::debug!(reason = error.reason(), "a surplus identity is not deleted yet")
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(30));
        }
        self.leave(identity);
    }

    /// Finds out what became of an insertion without an answer, by inserting again: the identity made here becomes the
    /// user's, or it is surplus. Merely looking would not do: the first insertion may still arrive.
    fn settle(self: &Arc<Self>, user: UserId, record: IdentityRecord) {
        let core = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut pause = Duration::from_millis(100);
            for _ in 0..SETTLE_TRIES {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(30));
                match core.stores.identities.insert_if_absent(&user, &record).await {
                    Ok(Inserted::New) => return core.metrics.surplus_identity("adopted"),
                    Ok(Inserted::Existing(winner)) if winner.identity == record.identity => {
                        return core.metrics.surplus_identity("adopted");
                    }
                    Ok(Inserted::Existing(_)) => return core.discard_now(&record.identity).await,
                    Ok(Inserted::LinkedElsewhere) => return,
                    Err(error) => {
                        tracing::debug!(
                            error = &error as &dyn std::error::Error,
                            "an insertion is not settled yet"
                        );
                    }
                }
            }
            core.leave(&record.identity);
        });
    }

    fn leave(&self, identity: &IdentityId) {
        self.metrics.surplus_identity("left");
        tracing::error!(
            acs_identity = identity.as_str(),
            "an identity without a user is left at ACS; docs/operations.md says how to remove it"
        );
    }
}

/// The lease under which a user's identity is created.
pub(super) fn creation_lease(user: &UserId) -> String {
    format!("create/{}", user.sha256_hex())
}
