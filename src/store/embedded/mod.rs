//! The embedded store: one process, one crash-safe file, no server; or the same in memory, for tests.
//!
//! Reads go straight to the pages, in the caller's task. Writes go through one writer that commits in batches. The
//! mapping and the ledger are on disk before they are acknowledged; tokens within a second. Budgets and leases live in
//! process memory, because a file that one process owns has nobody to share them with.
//! It must never start empty over a file that held something (`file`).

mod budget;
mod events;
mod fair;
mod file;
mod housekeeping;
mod leases;
mod ledger;
mod mapping;
mod messages;
mod tables;
mod tokens;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use serde::Deserialize;

use self::file::FileId;
pub use self::file::OpenError;
use self::housekeeping::Bounds;
use self::tables::Tables;
use self::writer::{Engine, Failure, Keep, Writer};
use crate::broker::ports::{StoreError, StoreProblem, Stores};
use crate::clock::Clock;
use crate::messaging::ports::MessageStores;
use crate::metrics::Metrics;
use crate::store::Opened;
use crate::store::seal::Vault;

/// `[store.embedded]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The file; its folder must exist.
    pub path: PathBuf,
}

impl Settings {
    /// Every problem: the key under `[store.embedded]`, and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.path.as_os_str().is_empty() {
            problems.push(("path", "must name a file".into()));
        }
        problems
    }
}

/// One open store; all eight ports.
struct Embedded {
    engine: Arc<Engine>,
    writer: Writer,
    budgets: budget::Budgets,
    fair_budgets: fair::FairBudgets,
    leases: leases::Leases,
    bounds: Bounds,
    metrics: Metrics,
    vault: Vault,
    /// The file as it was opened; none in memory.
    file: Option<(PathBuf, FileId)>,
}

impl Embedded {
    fn new(engine: Arc<Engine>, writer: Writer, bounds: Bounds, metrics: Metrics, vault: Vault) -> Self {
        Self {
            engine,
            writer,
            budgets: budget::Budgets::default(),
            fair_budgets: fair::FairBudgets::default(),
            leases: leases::Leases::default(),
            bounds,
            metrics,
            vault,
            file: None,
        }
    }

    fn into_opened(self) -> Opened {
        let all = Arc::new(self);
        let core = Stores {
            identities: all.clone(),
            tokens: all.clone(),
            ledger: all.clone(),
            budget: all.clone(),
            leases: all.clone(),
        };
        let key_ring = all.vault.ring();
        let messages = MessageStores { messages: all.clone(), events: all.clone(), budgets: all };
        Opened { core, messages, key_ring }
    }

    /// Writes, and counts how long it took. Reads are not counted: they take less time than counting them.
    async fn write<R: Send + 'static>(
        &self,
        operation: &'static str,
        keep: Keep,
        work: impl FnOnce(&mut Tables<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, StoreError> {
        let began = Instant::now();
        let result = self.writer.write(&self.engine, keep, work).await;
        self.metrics.store_command(operation, if result.is_ok() { "ok" } else { "failed" }, began.elapsed());
        if self.engine.is_stopped() {
            self.metrics.store_available(false);
        }
        result
    }

    /// Whether the store takes writes and they go to the file of that name.
    fn fit(&self) -> Result<(), StoreProblem> {
        if self.engine.is_stopped() || self.writer.is_dead() {
            return Err(StoreProblem::Unreachable);
        }
        match &self.file {
            None => Ok(()),
            Some((path, opened)) => match FileId::at(path) {
                Ok(Some(now)) if now == *opened => Ok(()),
                Ok(None) => Ok(()),
                // Replaced or removed: what is written now is lost with this process.
                Ok(Some(_)) => Err(StoreProblem::Emptied),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(StoreProblem::Emptied),
                Err(_) => Err(StoreProblem::Unreachable),
            },
        }
    }
}

/// Opens the store in the file of the settings, creating it only if there is none. Blocks while it reads the file.
pub fn open(
    settings: &Settings,
    vault: Vault,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
) -> Result<Opened, OpenError> {
    open_bounded(settings, vault, clock, metrics, Bounds::default())
}

fn open_bounded(
    settings: &Settings,
    vault: Vault,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    bounds: Bounds,
) -> Result<Opened, OpenError> {
    let path = settings.path.clone();
    let database = file::open(&path, &vault)?;
    let failed = |source: redb::Error| OpenError::Failed { path: path.clone(), source };
    let engine = Arc::new(Engine::new(database, clock, bounds).map_err(failed)?);
    let writer =
        Writer::thread(&engine).map_err(|source| OpenError::Inaccessible { path: path.clone(), source })?;
    let mut store = Embedded::new(engine, writer, bounds, metrics, vault);
    let id = FileId::at(&path).map_err(|source| OpenError::Inaccessible { path: path.clone(), source })?;
    store.file = id.map(|id| (path.clone(), id));
    Ok(store.into_opened())
}

/// A store in memory, empty, with the same code but for the file and the writer's thread. For tests and simulations.
///
/// # Panics
/// If the engine cannot make an empty database in memory, which only a lack of memory can cause.
pub fn memory(clock: Arc<dyn Clock>) -> Opened {
    memory_with(Vault::plain(), clock)
}

/// The same with what is stored as this vault has it.
///
/// # Panics
/// As [`memory`].
#[expect(clippy::expect_used, reason = "an empty database in memory has no I/O that could fail")]
pub fn memory_with(vault: Vault, clock: Arc<dyn Clock>) -> Opened {
    let bounds = Bounds::default();
    let database = file::in_memory(&vault).expect("memory has no I/O errors");
    let engine = Arc::new(Engine::new(database, clock, bounds).expect("memory has no I/O errors"));
    Embedded::new(engine, Writer::inline(), bounds, Metrics::new(), vault).into_opened()
}

#[cfg(test)]
mod tests;
