//! ImportIdentities: reads a stream of entries, gives each to the core, and counts what became of it.
//!
//! A bad entry is counted and reported; only what stops the import is an error. Memory is bounded: at most a million
//! entries, a hundred reported problems, and for checks without change a few hashes per entry, in one call at a time.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::{Stream, TryStreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::convert::{self, ImportEntry};
use super::proto::v1::{ImportIdentitiesRequest, ImportIdentitiesResponse, ImportProblem};
use super::status::{self, Refusal};
use crate::broker::error::Error;
use crate::broker::types::Caller;
use crate::broker::{Broker, Imported};

/// Messages a call may send.
const MAX_ENTRIES: i64 = 1_000_000;

/// Problems a response lists.
const MAX_PROBLEMS: usize = 100;

/// The imports of one server.
pub(crate) struct Imports {
    /// One call at a time may remember what it has checked: a million entries take some 90 MB.
    memory: Arc<Semaphore>,
}

impl Default for Imports {
    fn default() -> Self {
        Self { memory: Arc::new(Semaphore::new(1)) }
    }
}

impl Imports {
    /// Imports a stream to its end.
    pub(crate) async fn run(
        &self,
        broker: &Broker,
        caller: &Caller,
        entries: impl Stream<Item = Result<ImportIdentitiesRequest, Status>>,
    ) -> Result<ImportIdentitiesResponse, Status> {
        let mut entries = std::pin::pin!(entries);
        let mut tally = Tally::default();
        let mut checked = None;
        while let Some(request) = entries.try_next().await? {
            if tally.index >= MAX_ENTRIES {
                let limit = "must be at most 1,000,000 a call; those before this one are imported";
                return Err(status::of(Error::invalid("identity", limit)));
            }
            let outcome = match convert::import_entry(request) {
                Ok(entry) => self.import(broker, caller, entry, &mut checked).await,
                Err(error) => Err(error.into()),
            };
            tally.count(outcome)?;
        }
        Ok(tally.response)
    }

    async fn import(
        &self,
        broker: &Broker,
        caller: &Caller,
        entry: ImportEntry,
        checked: &mut Option<Checked>,
    ) -> Result<Imported, status::Failure> {
        let ImportEntry { user, identity, created_at, validate_only } = entry;
        let names = validate_only.then(|| (hash(user.as_str()), hash(identity.as_str())));
        let imported = broker.import_identity(caller, user, identity, created_at, validate_only).await?;
        match names {
            // The store cannot know what an earlier entry would have put there.
            Some((user, identity)) if imported == Imported::New => {
                self.checked(checked)?.insert(user, identity).ok_or(Error::IdentityAlreadyLinked.into())
            }
            _ => Ok(imported),
        }
    }

    fn checked<'a>(&self, checked: &'a mut Option<Checked>) -> Result<&'a mut Checked, Refusal> {
        if checked.is_none() {
            let permit = self.memory.clone().try_acquire_owned().map_err(|_| Refusal::Overloaded)?;
            *checked = Some(Checked::new(permit));
        }
        checked.as_mut().ok_or(Refusal::Overloaded)
    }
}

/// A name in few bytes.
type Hash = [u8; 16];

fn hash(name: &str) -> Hash {
    let mut hash = [0; 16];
    for (to, from) in hash.iter_mut().zip(Sha256::digest(name)) {
        *to = from;
    }
    hash
}

/// The entries of this call that would be new.
struct Checked {
    identities_of: HashMap<Hash, Hash>,
    linked: HashSet<Hash>,
    _memory: OwnedSemaphorePermit,
}

impl Checked {
    fn new(memory: OwnedSemaphorePermit) -> Self {
        Self { identities_of: HashMap::new(), linked: HashSet::new(), _memory: memory }
    }

    /// What the entry would be after those before it; none if it contradicts one.
    fn insert(&mut self, user: Hash, identity: Hash) -> Option<Imported> {
        match self.identities_of.get(&user) {
            Some(known) if *known == identity => Some(Imported::Unchanged),
            Some(_) => None,
            None if !self.linked.insert(identity) => None,
            None => {
                self.identities_of.insert(user, identity);
                Some(Imported::New)
            }
        }
    }
}

/// What became of the entries so far.
#[derive(Default)]
struct Tally {
    index: i64,
    response: ImportIdentitiesResponse,
}

impl Tally {
    /// Counts an entry; an error that is not about the entry itself ends the import.
    fn count(&mut self, outcome: Result<Imported, status::Failure>) -> Result<(), Status> {
        match outcome {
            Ok(Imported::New) => self.response.imported_count += 1,
            Ok(Imported::Unchanged) => self.response.unchanged_count += 1,
            Err(status::Failure::Core(error @ (Error::InvalidField(_) | Error::IdentityAlreadyLinked))) => {
                self.response.rejected_count += 1;
                if self.response.problems.len() < MAX_PROBLEMS {
                    self.response.problems.push(ImportProblem {
                        index: self.index,
                        reason: error.reason().to_owned(),
                        message: error.to_string(),
                    });
                }
            }
            Err(failure) => return Err(status::of(failure)),
        }
        self.index += 1;
        Ok(())
    }
}
