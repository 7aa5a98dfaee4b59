//! ImportIdentities: reads a stream of entries, gives each to the core, and counts what became of it.
//!
//! A bad entry is counted and reported; only what stops the import is an error. Memory is bounded: at most a million
//! entries, a hundred reported problems, and for checks without change two hashes per entry, in one call at a time.
//! Entries run side by side unless they name the same user or identity, so the outcome is that of one after another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::stream::{FuturesOrdered, Stream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use super::convert::{self, ImportEntry};
use super::permit::Permit;
use super::proto::v1::{ImportIdentitiesRequest, ImportIdentitiesResponse, ImportProblem};
use super::status::{self, Refusal};
use crate::audit::{Trail, Whom};
use crate::broker::error::Error;
use crate::broker::{Broker, Imported};

/// Messages a call may send.
const MAX_ENTRIES: i64 = 1_000_000;

/// Entries given to the core at the same time: a store answers many almost as fast as one.
const AT_ONCE: usize = 32;

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
        permit: &Permit,
        trail: &Trail,
        entries: impl Stream<Item = Result<ImportIdentitiesRequest, Status>>,
    ) -> Result<ImportIdentitiesResponse, Status> {
        let mut entries = std::pin::pin!(entries.fuse());
        let imported = AtomicUsize::new(0);
        let mut tally = Tally::new(self, trail, &imported);
        let mut running = FuturesOrdered::new();
        let mut names = HashSet::new();
        // An entry that names what a running one names: its answer depends on theirs.
        let mut waiting: Option<Entry> = None;
        loop {
            if let Some(entry) = waiting.take_if(|_| running.is_empty()) {
                names.extend(entry.names());
                running.push_back(entry.import(broker, permit, trail, &imported));
            }
            tokio::select! {
                Some(done) = running.next() => {
                    let done: Done = done;
                    for name in done.names() {
                        names.remove(&name);
                    }
                    tally.count(done)?;
                }
                Some(request) = entries.next(), if running.len() < AT_ONCE && waiting.is_none() => {
                    let entry = Entry::new(request?);
                    tally.expect_one_more()?;
                    if entry.names().any(|name| names.contains(&name)) {
                        waiting = Some(entry);
                    } else {
                        names.extend(entry.names());
                        running.push_back(entry.import(broker, permit, trail, &imported));
                    }
                }
                else => return Ok(std::mem::take(&mut tally.response)),
            }
        }
    }
}

/// An entry with short names of its two sides; none if the entry is not acceptable.
struct Entry {
    names: Option<[Hash; 2]>,
    validate_only: bool,
    content: Result<ImportEntry, Error>,
}

/// An entry the core has answered for.
struct Done {
    names: Option<[Hash; 2]>,
    validate_only: bool,
    outcome: Result<Imported, Error>,
}

impl Entry {
    fn new(request: ImportIdentitiesRequest) -> Self {
        let validate_only = request.validate_only;
        let content = convert::import_entry(request);
        let names = content
            .as_ref()
            .ok()
            .map(|entry| [hash(b"user", entry.user.as_str()), hash(b"identity", entry.identity.as_str())]);
        Self { names, validate_only, content }
    }

    fn names(&self) -> impl Iterator<Item = Hash> + use<> {
        self.names.into_iter().flatten()
    }

    /// Counts in `imported` at once, for what is done is done, whether or not the import gets as far as telling it.
    async fn import(self, broker: &Broker, permit: &Permit, trail: &Trail, imported: &AtomicUsize) -> Done {
        let outcome = match self.content {
            Ok(ImportEntry { user, identity, created_at, validate_only }) => match permit.user(&user) {
                Ok(caller) => {
                    let (who, whose) = (user.clone(), identity.clone());
                    let outcome =
                        broker.import_identity(caller, user, identity, created_at, validate_only).await;
                    if matches!(outcome, Ok(Imported::New)) && !validate_only {
                        // A record for each: whom an identity is given to decides who gets its tokens.
                        let on = [(Whom::User, who.as_str()), (Whom::Identity, whose.as_str())];
                        trail.did("identity_imported", 1, &on);
                        imported.fetch_add(1, Ordering::Relaxed);
                    }
                    outcome
                }
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        Done { names: self.names, validate_only: self.validate_only, outcome }
    }
}

impl Done {
    fn names(&self) -> impl Iterator<Item = Hash> + use<> {
        self.names.into_iter().flatten()
    }
}

/// A name in few bytes.
type Hash = [u8; 16];

fn hash(kind: &[u8], name: &str) -> Hash {
    let mut hash = [0; 16];
    let digest = Sha256::new().chain_update(kind).chain_update([0]).chain_update(name).finalize();
    for (to, from) in hash.iter_mut().zip(digest) {
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
    fn insert(&mut self, [user, identity]: [Hash; 2]) -> Option<Imported> {
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

/// What became of the entries so far, in the order in which they were sent.
struct Tally<'a> {
    imports: &'a Imports,
    trail: &'a Trail,
    checked: Option<Checked>,
    begun: i64,
    counted: i64,
    /// Entries that changed something.
    imported: &'a AtomicUsize,
    /// Entries that would have.
    checkable: usize,
    /// Entries that were there already.
    unchanged: usize,
    /// Entries that the policy refused.
    refused: usize,
    /// Entries that could not be imported for any other reason.
    failed: usize,
    response: ImportIdentitiesResponse,
}

impl<'a> Tally<'a> {
    fn new(imports: &'a Imports, trail: &'a Trail, imported: &'a AtomicUsize) -> Self {
        Self {
            imports,
            trail,
            checked: None,
            begun: 0,
            counted: 0,
            imported,
            checkable: 0,
            unchanged: 0,
            refused: 0,
            failed: 0,
            response: ImportIdentitiesResponse::default(),
        }
    }

    fn expect_one_more(&mut self) -> Result<(), Status> {
        if self.begun >= MAX_ENTRIES {
            let limit = "must come at most 1,000,000 times a call; send the rest in another one";
            return Err(status::of(Error::invalid("identity", limit)));
        }
        self.begun += 1;
        Ok(())
    }

    /// Counts the next entry; an error that is not about the entry itself ends the import.
    fn count(&mut self, done: Done) -> Result<(), Status> {
        let validate_only = done.validate_only;
        let outcome = match (done.outcome, done.names) {
            // The store cannot know what an earlier entry would have put there.
            (Ok(Imported::New), Some(names)) if done.validate_only => {
                self.checked()?.insert(names).ok_or(Error::IdentityAlreadyLinked)
            }
            (outcome, _) => outcome,
        };
        match &outcome {
            Ok(Imported::New) => self.checkable += usize::from(validate_only),
            Ok(Imported::Unchanged) => self.unchanged += 1,
            Err(Error::PermissionMissing { .. }) => self.refused += 1,
            Err(_) => self.failed += 1,
        }
        match outcome {
            Ok(Imported::New) => self.response.imported_count += 1,
            Ok(Imported::Unchanged) => self.response.unchanged_count += 1,
            Err(
                error @ (Error::InvalidField(_)
                | Error::IdentityAlreadyLinked
                | Error::PermissionMissing { .. }),
            ) => {
                self.response.rejected_count += 1;
                if self.response.problems.len() < MAX_PROBLEMS {
                    self.response.problems.push(ImportProblem {
                        index: self.counted,
                        reason: error.reason().to_owned(),
                        message: error.to_string(),
                    });
                }
            }
            Err(error) => return Err(status::of(error)),
        }
        self.counted += 1;
        Ok(())
    }

    fn checked(&mut self) -> Result<&mut Checked, Status> {
        match &mut self.checked {
            Some(checked) => Ok(checked),
            none => {
                let memory = self.imports.memory.clone().try_acquire_owned();
                let memory = memory.map_err(|_| status::of(Refusal::Overloaded))?;
                Ok(none.insert(Checked::new(memory)))
            }
        }
    }
}

impl Drop for Tally<'_> {
    /// Also when the import ends early, or its caller hangs up: what is done is done.
    fn drop(&mut self) {
        self.trail
            .effect("identities_imported", self.imported.load(Ordering::Relaxed))
            .effect("identities_checked", self.checkable)
            .effect("identities_unchanged", self.unchanged)
            .effect("identities_refused", self.refused)
            .effect("identities_failed", self.failed);
    }
}
