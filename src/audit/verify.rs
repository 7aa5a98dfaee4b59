//! Checks files against the key: is every record here, in its place and as it was written?
//!
//! It reads any number of files of one chain, in any order, of any size, in little memory. What it cannot know it says:
//! records that were cut off after the last one leave no trace in the files, unless a later number and hash are known
//! from elsewhere ([`Head`]). It changes nothing. Used by the command `audit verify`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::de::IgnoredAny;
use sha2::{Digest, Sha256};

use super::chain::{GENESIS, Hash, Keys, Line, PREFIX, Place, Read, hex, parse_hash};
use crate::secret::Secret;

/// No line is longer; what has no end within this is none.
const MAX_LINE: u64 = 1_048_576;

/// A number and its hash, as the broker's log tells them: `1234:5f0c…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    seq: u64,
    hash: Hash,
}

impl FromStr for Head {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = "must be NUMBER:HASH, as the broker's log tells it";
        let (seq, hash) = text.split_once(':').ok_or(bad)?;
        Ok(Self { seq: seq.parse().map_err(|_| bad)?, hash: parse_hash(hash).ok_or(bad)? })
    }
}

/// Where a chain breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

/// A record as a place in time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Its number.
    pub seq: u64,
    /// When it was written, by the clock of the broker.
    pub time: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Records that are in their place.
    pub records: u64,
    /// The first.
    pub first: Option<Mark>,
    /// The last that is in its place.
    pub last: Option<Mark>,
    /// Its number and hash.
    pub head: String,
    /// Records that the broker itself could not write and counted.
    pub lost: u64,
    /// Bytes at the very end that are the beginnings of lines: a crash, a full disk, or a write that is under way.
    pub torn_bytes: u64,
    /// Whether the last record says that the process stopped in order.
    pub stopped: bool,
    /// The first place where the chain breaks.
    pub broken: Option<Break>,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be read ({})", file.display(), .source.kind())]
pub struct Unreadable {
    /// The file.
    file: PathBuf,
    /// What the system said.
    #[source]
    source: io::Error,
}

/// Checks files.
pub struct Verifier {
    keys: BTreeMap<String, Keys>,
}

impl Verifier {
    /// With these keys; each file names its own.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a Secret>) -> Self {
        let named = |keys: Keys| (keys.name(), keys);
        Self { keys: keys.into_iter().map(|key| named(Keys::new(key))).collect() }
    }

    /// Reads the files of one chain. With a head, that record must be among them.
    pub fn verify(&self, files: &[PathBuf], head: Option<&Head>) -> Result<Report, Unreadable> {
        let mut ordered = Vec::new();
        for file in files {
            let begins_at = first_number(file).map_err(|source| unreadable(file, source))?;
            ordered.push((begins_at, file));
        }
        ordered.sort();
        let mut walk = Walk::new(self, head);
        for (_, file) in ordered {
            let broken = walk.read(file).map_err(|source| unreadable(file, source))?;
            walk.report.files += 1;
            if let Err(broken) = broken {
                return Ok(walk.end(Some(broken)));
            }
        }
        Ok(walk.end(None))
    }
}

fn unreadable(file: &Path, source: io::Error) -> Unreadable {
    Unreadable { file: file.to_owned(), source }
}

/// The number of the first record of a file; files without one come last.
fn first_number(path: &Path) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?.take(2 * MAX_LINE));
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        if let Some(read) = Read::parse(line.strip_suffix(b"\n").unwrap_or(&line)) {
            return Ok(read.line.seq);
        }
        line.clear();
    }
    Ok(u64::MAX)
}

/// Bytes between two records.
#[derive(Default)]
struct Between {
    bytes: u64,
    sha256: Sha256,
    /// Where they begin.
    line: u64,
    /// Those after the last line end.
    open: u64,
    /// Whether those are no line that was cut short.
    open_is_foreign: bool,
    /// Whether a line that has its end is none that was cut short: no crash leaves such.
    foreign: bool,
}

impl Between {
    /// More of it, up to a line end or not; says whether it is what a crash leaves of a line of ours.
    fn add(&mut self, bytes: &[u8], line: u64) -> bool {
        if self.bytes == 0 {
            self.line = line;
        }
        let is_torn = self.open == 0 && is_torn(bytes);
        if bytes.ends_with(b"\n") {
            self.foreign |= !is_torn;
        } else {
            self.open_is_foreign = !is_torn;
        }
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        self.open = if bytes.ends_with(b"\n") { 0 } else { self.open + bytes.len() as u64 };
        is_torn
    }

    /// The end of a file is the end of a line.
    fn close(&mut self) {
        if self.open > 0 {
            self.bytes += 1;
            self.sha256.update(b"\n");
            self.foreign |= self.open_is_foreign;
            self.open = 0;
        }
    }
}

/// Whether this is a line of ours that ends too early. On a full disk each further attempt may leave one.
fn is_torn(line: &[u8]) -> bool {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let common = line.len().min(PREFIX.len());
    // A text that is JSON but for its end was cut short; one that was changed is not JSON, or is whole.
    let ends_early = |line| serde_json::from_slice::<IgnoredAny>(line).is_err_and(|error| error.is_eof());
    common > 0 && line.get(..common) == PREFIX.get(..common) && ends_early(line)
}

struct Walk<'a> {
    verifier: &'a Verifier,
    head: Option<&'a Head>,
    report: Report,
    /// Where the next record belongs; none before the first.
    place: Option<Place>,
    keys: Option<&'a Keys>,
    chain: Option<(String, u64)>,
    between: Between,
    file: PathBuf,
}

impl<'a> Walk<'a> {
    fn new(verifier: &'a Verifier, head: Option<&'a Head>) -> Self {
        Self {
            verifier,
            head,
            report: Report::default(),
            place: None,
            keys: None,
            chain: None,
            between: Between::default(),
            file: PathBuf::new(),
        }
    }

    fn broken(&self, line: u64, what: impl Into<String>) -> Break {
        Break { file: self.file.clone(), line, what: what.into() }
    }

    fn read(&mut self, path: &Path) -> io::Result<Result<(), Break>> {
        self.file = path.to_owned();
        self.between.close();
        let mut reader = BufReader::with_capacity(131_072, File::open(path)?);
        let (mut line, mut number, mut begun, mut is_ours) = (Vec::new(), 1, false, true);
        loop {
            line.clear();
            let length = (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
            if length == 0 {
                break;
            }
            // A whole record is one even if the process ended before it ended the line.
            match Read::parse(line.strip_suffix(b"\n").unwrap_or(&line)) {
                Some(read) => {
                    if let Err(broken) = self.record(&read, number, begun) {
                        return Ok(Err(broken));
                    }
                    begun = true;
                }
                None => is_ours &= self.between.add(&line, number),
            }
            number += u64::from(line.ends_with(b"\n"));
        }
        // Of a file that was begun on a full disk, or in a crash, there may be no more than torn first lines, or nothing.
        if !begun && !is_ours {
            return Ok(Err(self.broken(1, "the file holds no record")));
        }
        Ok(Ok(()))
    }

    /// Checks the next record. `begun` is whether this file had one before.
    fn record(&mut self, read: &Read<'_>, number: u64, begun: bool) -> Result<(), Break> {
        let line = &read.line;
        self.after_a_crash(line, number)?;
        let is_head = line.kind == "file";
        if is_head == begun {
            let what = if begun {
                "a file begins in the middle of another"
            } else {
                "the file's first line is missing"
            };
            return Err(self.broken(number, what));
        }
        if is_head {
            self.begin(line, number)?;
        }
        let Some((place, keys)) = self.place.as_ref().zip(self.keys) else {
            return Err(self.broken(number, "the file's first line is missing"));
        };
        if line.seq != place.seq {
            let what = if line.seq > place.seq {
                format!("record {} where {} belongs: records are missing before it", line.seq, place.seq)
            } else {
                format!("record {} where {} belongs: it was inserted, repeated or moved", line.seq, place.seq)
            };
            return Err(self.broken(number, what));
        }
        if !read.follows(keys, &place.before) {
            let what =
                format!("record {} is not what was written here: it was changed or replaced", line.seq);
            return Err(self.broken(number, what));
        }
        if self.head.is_some_and(|head| head.seq == line.seq && head.hash != read.hash) {
            let what = format!("record {} is not the one that was told: the chain was made anew", line.seq);
            return Err(self.broken(number, what));
        }
        self.place = Some(Place { seq: line.seq.saturating_add(1), before: read.hash });
        let mark = Mark { seq: line.seq, time: line.time.clone() };
        self.report.first.get_or_insert_with(|| mark.clone());
        self.report.last = Some(mark);
        self.report.records += 1;
        self.report.stopped = line.event.as_deref() == Some("stop");
        if line.event.as_deref() == Some("records_lost") {
            let count = line.count.as_deref().and_then(|count| count.parse().ok()).unwrap_or(0);
            self.report.lost = self.report.lost.saturating_add(count);
        }
        Ok(())
    }

    /// What lies between the last record and this one must be what this one says a crash left there.
    fn after_a_crash(&mut self, line: &Line, number: u64) -> Result<(), Break> {
        let between = std::mem::take(&mut self.between);
        let (bytes, sha256) = (between.bytes, between.sha256.finalize());
        let said = (line.torn_bytes.unwrap_or(0), line.torn_sha256.as_deref().and_then(parse_hash));
        match said {
            (0, None) if bytes == 0 => Ok(()),
            (said, Some(hash)) if said == bytes && hash == Hash::from(sha256) => Ok(()),
            _ if bytes > 0 => Err(self.broken(between.line, "this is no record: it was changed or damaged")),
            _ => Err(self.broken(number, "what a crash had left before this record is gone")),
        }
    }

    /// A file's first line: which key, which chain, and where it goes on.
    fn begin(&mut self, line: &Line, number: u64) -> Result<(), Break> {
        let prev = line.prev.as_deref().and_then(parse_hash);
        let name = line.key.as_deref().unwrap_or_default();
        let (Some(prev), Some(chain), Some(part)) = (prev, line.chain.clone(), line.part) else {
            return Err(self.broken(number, "the file's first line is not complete"));
        };
        let Some(keys) = self.verifier.keys.get(name) else {
            return Err(self.broken(number, "the file was written with another key than those given"));
        };
        self.keys = Some(keys);
        if let (Some(place), Some((before, last))) = (&self.place, &self.chain) {
            if *before != chain {
                return Err(
                    self.broken(number, "the file belongs to another chain, as that of another replica does")
                );
            }
            if place.before != prev || line.seq != place.seq {
                let what = format!(
                    "file {part} of the chain does not follow file {last}: a file is missing between, or one was cut off"
                );
                return Err(self.broken(number, what));
            }
        } else {
            if line.seq == 1 && prev != GENESIS {
                return Err(self.broken(number, "the first record of all follows nothing"));
            }
            // Of what came before the first file nothing can be known but this hash.
            self.place = Some(Place { seq: line.seq, before: prev });
        }
        self.chain = Some((chain, part));
        Ok(())
    }

    fn end(mut self, broken: Option<Break>) -> Report {
        self.report.head = match (&self.place, &self.report.last) {
            (Some(place), Some(last)) => format!("{}:{}", last.seq, hex(&place.before)),
            _ => String::new(),
        };
        self.report.broken = broken.or_else(|| self.at_the_end());
        self.report.torn_bytes = if self.between.foreign { self.between.open } else { self.between.bytes };
        self.report
    }

    fn at_the_end(&self) -> Option<Break> {
        if self.between.foreign {
            return Some(self.broken(self.between.line, "this is no record: it was changed or damaged"));
        }
        let last = self.report.last.as_ref().map_or(0, |last| last.seq);
        let first = self.report.first.as_ref().map_or(0, |first| first.seq);
        let head = self.head?.seq;
        if head > last {
            let what = format!("the files end at record {last}, and {head} was told: the end was cut off");
            return Some(self.broken(0, what));
        }
        (head < first)
            .then(|| self.broken(0, format!("record {head} was told, and the files begin at {first}")))
    }
}
