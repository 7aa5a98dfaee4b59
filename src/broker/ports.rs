//! What the core needs from outside: one port to ACS, and five small ports to the store.
//!
//! Five store ports and not one, because they fail differently: a lost mapping is a lost user, a lost cache entry is
//! one more call, a lost ledger entry is an effect done twice, a lost budget is a burst of refusals, a lost lease is
//! one call too many. Implementations live in `store` and `app/upstream.rs`; nothing here does I/O.

use std::time::Duration;

use async_trait::async_trait;

use super::error::{Cause, Error};
use super::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, KeyStanding, ScopeSet, Signing, TokenKey,
    UserId, Validity,
};
use crate::clock::Timestamp;

/// A new identity at ACS.
#[derive(Debug, Clone)]
pub struct CreatedIdentity {
    /// Its id. With the opt-in `acs.custom_id` this may be an identity that exists already.
    pub identity: IdentityId,
    /// The first token, if one was asked for.
    pub token: Option<AccessToken>,
}

/// Issues identities and tokens: ACS.
///
/// Every method ends within the upstream's own time budget, whatever happens.
#[async_trait]
pub trait TokenIssuer: Send + Sync {
    /// The credential that would sign a request now.
    fn key(&self) -> KeyId;

    /// The same, with what a rotation needs to know.
    fn signing(&self) -> Signing {
        Signing { key: self.key(), since: Timestamp::default(), spare: None }
    }

    /// What is known of a credential.
    fn standing(&self, key: KeyId) -> KeyStanding {
        if key == self.key() { KeyStanding::InUse } else { KeyStanding::Unknown }
    }

    /// Creates an identity, with a first token in the same call if asked. Not idempotent.
    async fn create_identity(
        &self,
        user: &UserId,
        first_token: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error>;

    /// Issues a token.
    async fn issue_token(
        &self,
        identity: &IdentityId,
        scopes: ScopeSet,
        validity: Validity,
    ) -> Result<AccessToken, Error>;

    /// Revokes every token of the identity.
    async fn revoke_tokens(&self, identity: &IdentityId) -> Result<(), Error>;

    /// Deletes the identity and with it all its tokens. Deleting one that is gone already succeeds.
    async fn delete_identity(&self, identity: &IdentityId) -> Result<(), Error>;
}

/// Why a store operation has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store did not answer in time or not at all. A write may or may not have happened.
    #[error("the store cannot be reached")]
    Unavailable(#[source] Cause),
    /// The store answered something this version cannot read.
    #[error("a stored record cannot be read")]
    Corrupt(#[source] Cause),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(cause) => {
                Self::StoreUnavailable { retry_after: Duration::from_secs(1), cause: Some(cause) }
            }
            StoreError::Corrupt(cause) => Self::Internal { cause: Some(cause) },
        }
    }
}

/// What became of an insertion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inserted {
    /// The record is stored now.
    New,
    /// The user has this record already; nothing changed. It may be equal to the one offered.
    Existing(IdentityRecord),
    /// The user has no record, but the ACS identity belongs to another user; nothing changed.
    LinkedElsewhere,
}

/// A page of the mapping.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IdentityPage {
    /// The entries, at most as many as asked for.
    pub entries: Vec<(UserId, IdentityRecord)>,
    /// Where the next page starts; none on the last page. Opaque bytes of the backend, at most 512.
    pub next: Option<Vec<u8>>,
}

/// Why a store that answers should not be trusted with traffic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreProblem {
    /// It does not answer.
    #[error("the store cannot be reached")]
    Unreachable,
    /// It has lost what this process knows was there.
    #[error("the store was emptied: the identity mapping is gone; import it again or restore a backup")]
    Emptied,
    /// It may forget identities under memory pressure.
    #[error(
        "the store may evict keys that never expire (maxmemory-policy {0}); set noeviction or a volatile-* policy"
    )]
    Evicts(String),
    /// It may forget requests and messages under memory pressure, which could then be done twice.
    #[error(
        "the store may evict records of messages (maxmemory-policy {0}), and a message whose record is gone may be \
         sent twice; set noeviction, or store.redis.allow_eviction"
    )]
    EvictsMessages(String),
    /// It calls users by other names than this process, which would find nobody.
    #[error("{0}")]
    OtherNames(String),
}

/// The mapping from users to identities. The truth: never expires, never evicted, never guessed.
#[async_trait]
pub trait IdentityStore: Send + Sync {
    /// The record of a user.
    async fn find(&self, user: &UserId) -> Result<Option<IdentityRecord>, StoreError>;

    /// The user an ACS identity belongs to, with the record.
    async fn find_user(&self, identity: &IdentityId) -> Result<Option<(UserId, IdentityRecord)>, StoreError>;

    /// Stores the record if the user has none and the identity belongs to nobody else. Atomic per user.
    async fn insert_if_absent(&self, user: &UserId, record: &IdentityRecord) -> Result<Inserted, StoreError>;

    /// Raises the generation of the user's record by one, if it still names `expected`. Returns the new generation,
    /// or none if the user has no record or another identity.
    async fn advance_generation(
        &self,
        user: &UserId,
        expected: &IdentityId,
    ) -> Result<Option<u64>, StoreError>;

    /// Removes the user's record if it still names `expected`; says whether it did.
    async fn remove(&self, user: &UserId, expected: &IdentityId) -> Result<bool, StoreError>;

    /// A page of at most `limit` entries, from the start or from where a page before ended, in a stable order.
    /// A `from` that no page of this backend returned yields `None`.
    async fn list(&self, from: Option<&[u8]>, limit: usize) -> Result<Option<IdentityPage>, StoreError>;

    /// Whether the store is fit for traffic; for readiness, not for the request path.
    async fn check(&self) -> Result<(), StoreProblem>;
}

/// One consistent look at a user's record and one of the user's tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The record of the mapping.
    pub record: Option<IdentityRecord>,
    /// The cached token; present only if it was issued for the record's identity and generation.
    pub token: Option<CachedToken>,
}

/// Tokens issued earlier. May forget at any time; never authoritative.
#[async_trait]
pub trait TokenCache: Send + Sync {
    /// The user's record and token, read together: one round trip, one point in time.
    async fn look_up(&self, user: &UserId, key: &TokenKey) -> Result<Snapshot, StoreError>;

    /// Keeps a token until it expires, replacing an older one, if the mapping still names the token's identity and
    /// generation. Check and write are one atomic step: this is the fence that makes revocation final.
    /// Returns whether it was kept.
    async fn put(&self, user: &UserId, key: &TokenKey, token: &CachedToken) -> Result<bool, StoreError>;

    /// Under which keys there may be tokens of the user; at least those under which there are. For a rotation, not for
    /// the request path.
    async fn keys_of(&self, user: &UserId) -> Result<Vec<TokenKey>, StoreError>;
}

/// Names one request of one caller in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerKey {
    /// The caller's name.
    pub caller: String,
    /// The operation, such as `RevokeTokens`.
    pub operation: &'static str,
    /// The caller's request id.
    pub request_id: String,
}

/// What the ledger knows of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing: it is yours to do, and reserved for you for the time asked.
    Started,
    /// Somebody is doing it; ask again after this time.
    InProgress(Duration),
    /// It was done, with this outcome.
    Finished(Vec<u8>),
    /// The id was used for a request with another digest.
    Reused,
}

/// Which requests were done, so that none is done twice.
#[async_trait]
pub trait OutcomeLedger: Send + Sync {
    /// Reserves a request for `hold`, or tells what is known of it. After `hold` an unfinished reservation lapses.
    async fn begin(&self, key: &LedgerKey, digest: &[u8; 32], hold: Duration) -> Result<Begun, StoreError>;

    /// Records the outcome of a reserved request for `keep`, also if the reservation lapsed.
    async fn finish(
        &self,
        key: &LedgerKey,
        digest: &[u8; 32],
        outcome: &[u8],
        keep: Duration,
    ) -> Result<(), StoreError>;

    /// Gives a reservation back after a failure that had no effect; a finished request stays finished.
    async fn abandon(&self, key: &LedgerKey, digest: &[u8; 32]) -> Result<(), StoreError>;
}

/// At most `max` units of cost in any window of length `window`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// The length of the window.
    pub window: Duration,
    /// The units allowed in it.
    pub max: u32,
}

/// Whether a budget allows a call now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Go ahead; this many units are left in the tightest window.
    Go {
        /// What is left.
        remaining: u32,
    },
    /// Nothing was taken; it may succeed after this time.
    ComeBack {
        /// The wait.
        after: Duration,
    },
}

/// Budgets of calls, shared by every replica that shares the store.
#[async_trait]
pub trait CallBudget: Send + Sync {
    /// Takes `cost` units from the bucket under all its limits, or nothing. In no window of any limit is more than
    /// its maximum taken; the count may be rounded against the taker, never for it.
    async fn take(&self, bucket: &str, limits: &[Limit], cost: u32) -> Result<Taken, StoreError>;
}

/// A lease that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// What it is on.
    pub name: String,
    /// Grows with every grant of the same name.
    pub fence: u64,
    /// Tells this holder from any other.
    pub nonce: [u8; 16],
}

/// The answer to a wish for a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquired {
    /// Yours, until it is released or its time is over.
    Granted(Lease),
    /// Somebody else's for at most this long.
    Held(Duration),
}

/// Leases, which only ever save work: losing one costs one more call upstream, never a wrong answer.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Tries to take the lease for `ttl`; never waits.
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<Acquired, StoreError>;

    /// Extends the lease to `ttl` from now if it is still this holder's; says whether it is.
    async fn renew(&self, lease: &Lease, ttl: Duration) -> Result<bool, StoreError>;

    /// Gives the lease back if it is still this holder's.
    async fn release(&self, lease: &Lease) -> Result<(), StoreError>;
}

/// All five ports of one backend.
#[derive(Clone)]
pub struct Stores {
    /// The mapping.
    pub identities: std::sync::Arc<dyn IdentityStore>,
    /// The tokens.
    pub tokens: std::sync::Arc<dyn TokenCache>,
    /// The requests done.
    pub ledger: std::sync::Arc<dyn OutcomeLedger>,
    /// The budgets.
    pub budget: std::sync::Arc<dyn CallBudget>,
    /// The leases.
    pub leases: std::sync::Arc<dyn LeaseStore>,
}
