//! The files: the one that is appended to, and the full ones beside it, `NAME.000001` and on.
//!
//! A file is only ever appended to, never cut and never rewritten, so that it may be on a medium that allows no more. It
//! is created for its owner alone and locked against a second writer. Opening finds the last whole line and what a crash
//! left after it. Used by `writer`.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::chain::{Hash, PREFIX, Read, torn_hash};
use super::record::Torn;

/// How far before its end the last whole line of a file is looked for, and the first behind its beginning. A crash or a
/// full disk leaves a part of one line there, and of each attempt to close it a part of one again, which is followed by
/// a whole one as soon as the disk has room for a block. A power cut may leave anything of what was not made durable;
/// `writer` bounds that.
pub(super) const TAIL_BYTES: u64 = 1_048_576;

/// Why the audit cannot be opened. Each text says what to change.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The system refuses.
    #[error("audit.file cannot be {doing} ({}); its folder must exist and be writable by this user", .source.kind())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another process writes there.
    #[error("another process writes to audit.file; give each process a file of its own")]
    Locked,
    /// It is a folder, a device or a pipe.
    #[error("audit.file is no regular file")]
    NotAFile,
    /// It holds something else.
    #[error(
        "audit.file holds something other than audit records, or its end is damaged; move it away, or name another file"
    )]
    Foreign,
    /// Something stands where a full file goes.
    #[error(
        "the full audit.file cannot be kept: something stands at its name followed by .{part:06} already; move that away"
    )]
    Taken {
        /// The number of the full file.
        part: u64,
    },
    /// The file is new, and the one that it continues cannot be read.
    #[error(
        "audit.file continues the newest full one, its name followed by .{part:06}, which cannot be read ({}); mend that \
         or move it away", .source.kind()
    )]
    FullUnreadable {
        /// The number of that file.
        part: u64,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is new, and in the place of the one that it continues is something else.
    #[error(
        "audit.file continues the newest full one, its name followed by .{part:06}, which holds something other than \
         audit records, or its end is damaged; move that away"
    )]
    FullForeign {
        /// The number of that file.
        part: u64,
    },
    /// Somebody replaced it while this process wrote to it.
    #[error("audit.file was replaced by another one while it was in use; move that away")]
    Replaced,
    /// A thread cannot be started.
    #[error("the audit's writer cannot be started ({})", .0.kind())]
    Thread(#[source] io::Error),
}

pub(super) fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> OpenError {
    move |source| OpenError::Io { doing, source }
}

/// The first line of a file, as far as its continuation needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) chain: String,
    pub(super) part: u64,
    pub(super) key: String,
}

/// The end of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tail {
    /// The number of the last whole line.
    pub(super) seq: u64,
    /// Its hash.
    pub(super) hash: Hash,
    /// Whether it says that the process stopped in order.
    pub(super) stopped: bool,
}

/// What a file holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Content {
    /// Its first line and its last; none if there is no whole line.
    pub(super) lines: Option<(Head, Tail)>,
    /// What is left behind the last whole line, with the line end that a reader will find.
    rest: Vec<u8>,
    /// Whether that line end is still to be written.
    pub(super) open_line: bool,
}

impl Content {
    /// Reads beginning and end.
    fn read(file: &mut File, length: u64) -> Result<Self, OpenError> {
        if length == 0 {
            return Ok(Self::default());
        }
        let at = |error| io_error("read")(error);
        file.seek(SeekFrom::Start(0)).map_err(at)?;
        let head = first_line(file).map_err(at)?.ok_or(OpenError::Foreign)?;
        let from = length.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(from)).map_err(at)?;
        let mut end = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut end).map_err(at)?;
        // A reader will find the line ended, for so it is before anything is added; perhaps only its end was missing.
        let open_line = !end.ends_with(b"\n");
        if open_line {
            end.push(b'\n');
        }
        let (tail, rest) = last_line(&end);
        match (head, tail) {
            (Some(head), Some(tail)) => {
                Ok(Self { lines: Some((head, tail)), rest: rest.to_vec(), open_line })
            }
            // Not even the first line is whole: the process ended while it wrote it.
            (None, None) if from == 0 => Ok(Self { lines: None, rest: rest.to_vec(), open_line }),
            _ => Err(OpenError::Foreign),
        }
    }

    /// Of a file without a whole line: as one with the full file before it. A crash may have left something in both.
    pub(super) fn behind(self, before: Self) -> Self {
        let rest = [before.rest, self.rest].concat();
        Self { lines: before.lines, rest, open_line: self.open_line }
    }

    /// What a reader will find between the last whole line and the next.
    pub(super) fn torn(&self) -> Option<Torn> {
        let bytes = self.rest.len() as u64;
        (bytes > 0).then(|| Torn { bytes, sha256: torn_hash(&self.rest) })
    }
}

/// The first whole line, if there is one; nothing at all if this is no file of ours. What stands before it is what a
/// full disk or a crash left of earlier attempts to begin the file.
fn first_line(file: &mut File) -> io::Result<Option<Option<Head>>> {
    let mut lines = BufReader::new(file.take(TAIL_BYTES));
    let mut line = Vec::new();
    let mut is_first = true;
    while lines.read_until(b'\n', &mut line)? > 0 {
        let whole = line.strip_suffix(b"\n").unwrap_or(&line);
        let common = whole.len().min(PREFIX.len());
        if is_first && whole.get(..common) != PREFIX.get(..common) {
            return Ok(None);
        }
        if let Some(read) = Read::parse(whole) {
            return Ok(head_of(read).map(Some));
        }
        is_first = false;
        line.clear();
    }
    Ok(Some(None))
}

fn head_of(read: Read) -> Option<Head> {
    let line = read.line;
    if line.kind != "file" {
        return None;
    }
    Some(Head { chain: line.chain?, part: line.part?, key: line.key? })
}

/// The last whole line, and what follows it.
pub(super) fn last_line(bytes: &[u8]) -> (Option<Tail>, &[u8]) {
    let mut end = bytes.len();
    while let Some(newline) = bytes.get(..end).and_then(|bytes| bytes.iter().rposition(|&byte| byte == b'\n'))
    {
        let before = bytes.get(..newline).unwrap_or_default();
        let start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if let Some(read) = before.get(start..).and_then(Read::parse) {
            let stopped = read.line.event.as_deref() == Some("stop");
            let tail = Tail { seq: read.line.seq, hash: read.hash, stopped };
            return (Some(tail), bytes.get(newline + 1..).unwrap_or_default());
        }
        end = newline;
    }
    (None, bytes)
}

/// The file that is appended to.
#[derive(Debug)]
pub(super) struct Tape {
    path: PathBuf,
    pub(super) file: File,
    pub(super) length: u64,
}

impl Tape {
    /// Opens the file, creates it if there is none, and locks it.
    pub(super) fn open(path: &Path) -> Result<(Self, Content), OpenError> {
        // A file that is moved away while it is being locked is not the one at the path any more.
        for _ in 0..3 {
            match std::fs::metadata(path) {
                Ok(metadata) if !metadata.is_file() => return Err(OpenError::NotAFile),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(io_error("looked at")(error)),
            }
            let mut options = OpenOptions::new();
            let file = for_the_owner(options.read(true).append(true).create(true))
                .open(path)
                .map_err(io_error("opened"))?;
            lock(&file)?;
            let length = file.metadata().map_err(io_error("looked at"))?.len();
            let mut tape = Self { path: path.to_owned(), file, length };
            if tape.is_as_left() {
                let content = Content::read(&mut tape.file, tape.length)?;
                return Ok((tape, content));
            }
        }
        Err(OpenError::Replaced)
    }

    /// Whether what is open is still what the path names, and as long as it should be: somebody may have moved, removed
    /// or emptied it.
    pub(super) fn is_as_left(&self) -> bool {
        match (self.file.metadata(), std::fs::metadata(&self.path)) {
            (Ok(open), Ok(named)) => same(&open, &named) && open.len() == self.length,
            _ => false,
        }
    }

    /// Renames the full file to its number, begins a new one, and removes the oldest beyond `keep`.
    pub(super) fn rotate(self, part: u64, keep: u32) -> Result<Self, OpenError> {
        let at = |error| io_error("written")(error);
        self.file.sync_all().map_err(at)?;
        let full = numbered(&self.path, part);
        // A link that leads nowhere is something, too.
        match std::fs::symlink_metadata(&full) {
            Ok(_) => return Err(OpenError::Taken { part }),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("renamed once it is full")(error)),
        }
        std::fs::rename(&self.path, &full).map_err(io_error("renamed once it is full"))?;
        let mut options = OpenOptions::new();
        let file = for_the_owner(options.read(true).append(true).create_new(true)).open(&self.path);
        let file = file.map_err(io_error("begun anew"))?;
        lock(&file)?;
        sync_folder(&self.path).map_err(at)?;
        let mut parts = parts(&self.path).map_err(at)?;
        while parts.len() > usize::try_from(keep).unwrap_or(usize::MAX) {
            let oldest = numbered(&self.path, parts.remove(0));
            if let Err(error) = std::fs::remove_file(&oldest) {
                tracing::warn!(error = %error.kind(), "an old audit file cannot be removed");
                break;
            }
        }
        Ok(Self { path: self.path, file, length: 0 })
    }
}

/// What the newest full file beside `path` holds, if there is one.
pub(super) fn newest_full(path: &Path) -> Result<Option<Content>, OpenError> {
    let Some(part) = parts(path).map_err(io_error("looked for"))?.pop() else { return Ok(None) };
    let unreadable = |source| OpenError::FullUnreadable { part, source };
    let mut file = File::open(numbered(path, part)).map_err(unreadable)?;
    let length = file.metadata().map_err(unreadable)?.len();
    match Content::read(&mut file, length) {
        Ok(content) => Ok(Some(content)),
        Err(OpenError::Io { source, .. }) => Err(unreadable(source)),
        Err(_) => Err(OpenError::FullForeign { part }),
    }
}

/// The numbers of the full files, ascending. A folder with such a name is none: nothing could continue or remove it.
fn parts(path: &Path) -> io::Result<Vec<u64>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut parts: Vec<u64> = Vec::new();
    for entry in std::fs::read_dir(folder(path))? {
        let entry = entry?;
        if !std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let entry = entry.file_name();
        let number = entry.to_str().and_then(|entry| entry.strip_prefix(&name)?.strip_prefix('.'));
        let digits = |number: &&str| number.len() >= 6 && number.bytes().all(|byte| byte.is_ascii_digit());
        parts.extend(number.filter(digits).and_then(|number| number.parse::<u64>().ok()));
    }
    parts.sort_unstable();
    Ok(parts)
}

fn numbered(path: &Path, part: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{part:06}"));
    PathBuf::from(name)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    }
}

/// Makes a file's name survive a power cut.
pub(super) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

fn lock(file: &File) -> Result<(), OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked),
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(io_error("locked")(error)),
    }
}

#[cfg(unix)]
fn for_the_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn for_the_owner(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

#[cfg(unix)]
fn same(one: &std::fs::Metadata, other: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same(_: &std::fs::Metadata, _: &std::fs::Metadata) -> bool {
    true
}
