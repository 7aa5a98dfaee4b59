//! Opens the file of the embedded store, or says what is wrong with it and what to do.
//!
//! It must never start empty where something was before: a file that is damaged, cut, foreign or newer is left as it is
//! and refused. A new file appears under its name only when it is complete, so a crash while it is made leaves nothing
//! in the way.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, ReadableDatabase, StorageError, TableError};

use super::tables::{
    FORMAT, FORMAT_ENTRY, LOG_LAST, LOG_NAME, MESSAGING_ENTRY, NAMES_ENTRY, Tables, all_there,
    messaging_all_there, meta,
};
use crate::store::seal::{NamesProblem, Vault};

/// Memory for pages of the file; what does not fit is read again, usually from the system's page cache.
const CACHE_BYTES: usize = 64 << 20;

/// Why the file cannot be used. Each text names the file, what is wrong, and the mend.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no folder to create it in.
    #[error("store.embedded.path: the folder of {} does not exist; create it, or name another file", .0.display())]
    FolderMissing(PathBuf),
    /// The system does not let us.
    #[error("store.embedded.path: {} cannot be opened or created: {}; it must be a file that this process may read and write", .path.display(), .source.kind())]
    Inaccessible {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Somebody has it open.
    #[error("store.embedded.path: {} is in use by another process; stop that process, or name another file", .0.display())]
    InUse(PathBuf),
    /// It is there, but empty.
    #[error("store.embedded.path: {} is empty (zero bytes), so the identity mapping it held is gone; restore it from a backup, or remove the file to start anew and import the mapping", .0.display())]
    Empty(PathBuf),
    /// It is the file of another program.
    #[error("store.embedded.path: {} is not a store of acs-broker; name another file", .0.display())]
    Foreign(PathBuf),
    /// It was a store of ours.
    #[error("store.embedded.path: {} is damaged or cut short; nothing was changed in it; restore it from a backup, or move it away to start anew and import the mapping", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        #[source]
        source: Option<redb::Error>,
    },
    /// A newer version of the program wrote it.
    #[error("store.embedded.path: {} has format {found}, written by a newer acs-broker; this one reads format {FORMAT}: run the newer version, or restore a backup from before the upgrade", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u8,
    },
    /// It calls users by other names.
    #[error("store.embedded.path: {}: {problem}", .path.display())]
    OtherNames {
        /// The file.
        path: PathBuf,
        /// How they differ.
        #[source]
        problem: NamesProblem,
    },
    /// The engine or the system failed otherwise.
    #[error("store.embedded.path: the store in {} cannot be started: {source}", .path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What happened.
        #[source]
        source: redb::Error,
    },
}

/// Which file is open, however it is named now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileId(u64, u64);

impl FileId {
    #[cfg(unix)]
    fn of(metadata: &std::fs::Metadata) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        Some(Self(metadata.dev(), metadata.ino()))
    }

    #[cfg(not(unix))]
    fn of(_: &std::fs::Metadata) -> Option<Self> {
        None
    }

    /// The file of this name now, if there is one and the system can tell.
    pub(super) fn at(path: &Path) -> std::io::Result<Option<Self>> {
        std::fs::metadata(path).map(|metadata| Self::of(&metadata))
    }
}

/// A store in memory, empty.
pub(super) fn in_memory(vault: &Vault) -> Result<Database, redb::Error> {
    let database = Builder::new()
        .set_cache_size(CACHE_BYTES)
        .create_with_backend(redb::backends::InMemoryBackend::new())?;
    initialise(&database, Some(vault.names_mark()))?;
    Ok(database)
}

/// Opens the store in the file, creating it only if there is no file of that name.
pub(super) fn open(path: &Path, vault: &Vault) -> Result<Database, OpenError> {
    match std::fs::metadata(path) {
        Ok(_) => open_existing(path, vault),
        Err(error) if error.kind() == ErrorKind::NotFound => create(path, vault),
        Err(source) => Err(OpenError::Inaccessible { path: path.into(), source }),
    }
}

fn open_file(path: &Path, create: bool) -> Result<File, OpenError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(create);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        options.mode(0o600);
    }
    let file = options.open(path).map_err(|source| OpenError::Inaccessible { path: path.into(), source })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(path.into())),
        Err(TryLockError::Error(source)) => Err(OpenError::Inaccessible { path: path.into(), source }),
    }
}

fn open_existing(path: &Path, vault: &Vault) -> Result<Database, OpenError> {
    let file = open_file(path, false)?;
    let inaccessible = |source| OpenError::Inaccessible { path: path.into(), source };
    let metadata = file.metadata().map_err(inaccessible)?;
    if metadata.len() == 0 {
        return Err(OpenError::Empty(path.into()));
    }
    warn_if_open_to_others(path, &metadata);
    let damaged = |source| OpenError::Damaged { path: path.into(), source };
    // The engine checks every page it reads here and answers with errors; should a check of it be a panic after all,
    // that too means damage, and must name the file.
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| start(file, path, vault)));
    opened.unwrap_or_else(|_| Err(damaged(None)))
}

fn start(file: File, path: &Path, vault: &Vault) -> Result<Database, OpenError> {
    let database = FileBackend::new(file)
        .and_then(|backend| {
            Builder::new()
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true)
                .create_with_backend(backend)
        })
        .map_err(|error| classify(path, error))?;
    check_format(&database, path, vault)?;
    Ok(database)
}

fn classify(path: &Path, error: DatabaseError) -> OpenError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => OpenError::InUse(path),
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
            OpenError::Foreign(path)
        }
        DatabaseError::Storage(StorageError::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => {
            OpenError::Damaged { path, source: Some(error.into()) }
        }
        DatabaseError::Storage(StorageError::Corrupted(_)) | DatabaseError::RepairAborted => {
            OpenError::Damaged { path, source: Some(error.into()) }
        }
        DatabaseError::UpgradeRequired(_) => OpenError::Foreign(path),
        other => OpenError::Failed { path, source: other.into() },
    }
}

fn check_format(database: &Database, path: &Path, vault: &Vault) -> Result<(), OpenError> {
    let failed = |source| OpenError::Failed { path: path.into(), source };
    let damaged = |source| OpenError::Damaged { path: path.into(), source: Some(source) };
    let transaction = database.begin_read().map_err(|error| failed(error.into()))?;
    let meta = match meta(&transaction) {
        Ok(meta) => meta,
        Err(TableError::Storage(error)) => return Err(damaged(error.into())),
        Err(_) => return Err(OpenError::Foreign(path.into())),
    };
    let format = meta.get(FORMAT_ENTRY).map_err(|error| damaged(error.into()))?;
    match format.as_ref().map(redb::AccessGuard::value) {
        Some([FORMAT]) => {}
        Some(&[found, ..]) if found > FORMAT => return Err(OpenError::Newer { path: path.into(), found }),
        _ => return Err(OpenError::Foreign(path.into())),
    }
    all_there(&transaction).map_err(|error| damaged(error.into()))?;
    let mark = meta.get(NAMES_ENTRY).map_err(|error| damaged(error.into()))?;
    vault
        .check_names(mark.as_ref().map(redb::AccessGuard::value).unwrap_or_default())
        .map_err(|problem| OpenError::OtherNames { path: path.into(), problem })?;
    if meta.get(MESSAGING_ENTRY).map_err(|error| damaged(error.into()))?.is_some() {
        return messaging_all_there(&transaction).map_err(|error| damaged(error.into()));
    }
    // Written before there was messaging: nothing is lost by starting that part empty.
    drop((format, mark, meta, transaction));
    initialise(database, None).map_err(failed)
}

/// Makes a new store under a name of its own and renames it when it is complete and on disk.
fn create(path: &Path, vault: &Vault) -> Result<Database, OpenError> {
    let inaccessible = |source| OpenError::Inaccessible { path: path.into(), source };
    let folder = match path.parent() {
        Some(folder) if folder.as_os_str().is_empty() => Path::new("."),
        Some(folder) => folder,
        None => return Err(inaccessible(ErrorKind::IsADirectory.into())),
    };
    if !folder.is_dir() {
        return Err(OpenError::FolderMissing(path.into()));
    }
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let unfinished = PathBuf::from(unfinished);
    // Its lock lets one process at a time create the store.
    let file = open_file(&unfinished, true).map_err(|error| match error {
        OpenError::InUse(_) => OpenError::InUse(path.into()),
        other => other,
    })?;
    if path.exists() {
        drop(file);
        let _ = std::fs::remove_file(&unfinished);
        return open_existing(path, vault);
    }
    // What a process that died on the way left there was never used.
    file.set_len(0).map_err(inaccessible)?;
    let failed = |source: redb::Error| OpenError::Failed { path: path.into(), source };
    let database = FileBackend::new(file)
        .and_then(|backend| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend))
        .map_err(|error| failed(error.into()))?;
    initialise(&database, Some(vault.names_mark())).map_err(failed)?;
    std::fs::rename(&unfinished, path).map_err(inaccessible)?;
    // The new name must survive a crash as the first acknowledged mapping does.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(inaccessible)?;
    Ok(database)
}

/// Makes the tables that are missing; marks a new store with what its names are made with.
pub(super) fn initialise(database: &Database, names_of_new: Option<&[u8]>) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut tables = Tables::open(&transaction)?;
        tables.meta.insert(FORMAT_ENTRY, [FORMAT].as_slice())?;
        tables.meta.insert(MESSAGING_ENTRY, [1].as_slice())?;
        if let Some(mark) = names_of_new.filter(|mark| !mark.is_empty()) {
            tables.meta.insert(NAMES_ENTRY, mark)?;
        }
        // Every log has a name of its own, so that a cursor of another one is noticed.
        let name = format!("{:016x}", rand::random::<u64>());
        tables.event_log.insert(LOG_NAME, name.as_bytes())?;
        tables.event_log.insert(LOG_LAST, 0u64.to_be_bytes().as_slice())?;
    }
    transaction.commit()?;
    Ok(())
}

#[cfg(unix)]
fn warn_if_open_to_others(path: &Path, metadata: &std::fs::Metadata) {
    use std::os::unix::fs::PermissionsExt;

    if metadata.permissions().mode() & 0o007 != 0 {
        tracing::warn!(path = %path.display(), "the store holds tokens and identities, and is accessible to every user of this machine; chmod 600");
    }
}

#[cfg(not(unix))]
fn warn_if_open_to_others(_: &Path, _: &std::fs::Metadata) {}
