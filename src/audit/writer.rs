//! The writer: a thread that gives records their place in the chain and writes them, many at a time.
//!
//! What cannot be written waits here, within a bound, and is tried again; those who wait for a record to be on disk are
//! told at once that it is not. After any failure the file is opened anew and its end is read, so that what it holds,
//! and not what was hoped, decides where the chain goes on.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Settings;
use super::chain::{Hash, Keys, Place, hex};
use super::file::{Head, OpenError, TAIL_BYTES, Tape, newest_full, sync_folder};
use super::queue::{CAPACITY, Entry, Queue};
use super::record::{FileHead, LONGEST_LINE, Record, Torn, What, write_recovered};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// How long a batch waits for more records when nobody waits for the disk.
const LINGER: Duration = Duration::from_millis(20);
/// How often what is written is made durable when nobody waits for it.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long after a failure the next attempt is made. Tests fill hundreds of disks.
const RETRY_EVERY: Duration = Duration::from_millis(if cfg!(test) { 10 } else { 250 });
/// How often what is added up is looked at when nothing else comes.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often the last number and hash are told to the log, when there is something new.
const TELL_EVERY: Duration = Duration::from_secs(60);
/// What is written at a time.
const CHUNK_BYTES: usize = 262_144;
/// What is written before it is made durable, whether anybody waits for it or not. Of what is not, a power cut may leave
/// anything, and all of that must fit into what is looked through for the last whole line.
const UNSYNCED_BYTES: u64 = 524_288;
const _: () = assert!(UNSYNCED_BYTES + (CHUNK_BYTES + LONGEST_LINE) as u64 <= TAIL_BYTES);

/// The event that says how many records nobody will see.
const RECORDS_LOST: &str = "records_lost";

/// How bytes get onto the disk; a seam for disks that fill up.
pub(super) trait Medium: Send + 'static {
    /// Appends all of it, or some of it and an error.
    fn append(&mut self, file: &File, bytes: &[u8]) -> io::Result<()>;
    /// Makes it durable.
    fn sync(&mut self, file: &File) -> io::Result<()>;
}

/// A real one.
pub(super) struct Disk;

impl Medium for Disk {
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&mut self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// The end of a line that was handed to the disk: its number and hash, and how many waiting records it completes.
type Mark = (u64, Hash, usize);

/// What came of taking and writing once.
pub(super) struct Turn {
    /// Nothing more will come.
    pub(super) closed: bool,
    /// Something waits that could not be written.
    pub(super) failed: bool,
}

/// The writer.
pub(super) struct Writer<M> {
    medium: M,
    path: PathBuf,
    max_bytes: u64,
    keep: u32,
    fail_closed: bool,
    keys: Keys,
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// None after a failure.
    tape: Option<Tape>,
    chain: String,
    part: u64,
    place: Place,
    /// Lines that may or may not be on disk.
    unsure: Vec<Mark>,
    /// Records that are not on disk.
    waiting: Vec<Entry>,
    /// Records nobody will see, not told yet.
    lost: u64,
    text: String,
    /// Bytes that were written and not made durable.
    unsynced: u64,
    synced_at: Instant,
    told: (u64, Instant),
}

impl<M: Medium> Writer<M> {
    /// Opens the file and says "start"; a failure here is for the operator, before anything is served.
    pub(super) fn open(
        medium: M,
        settings: &Settings,
        keys: Keys,
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Result<Self, OpenError> {
        let path = PathBuf::from(&settings.file);
        let (tape, mut content) = Tape::open(&path)?;
        let mut in_place = true;
        if content.lines.is_none()
            && let Some(before) = newest_full(&path)?
        {
            // The file is new, and continues the newest full one: a reader finds what is left in both behind one another.
            in_place = false;
            content = content.behind(before);
        }
        let after = match &content.lines {
            None => "nothing",
            Some((_, tail)) if tail.stopped => "stop",
            Some(_) => "crash",
        };
        let now = Instant::now();
        let mut writer = Self {
            medium,
            path,
            max_bytes: settings.max_bytes,
            keep: settings.keep,
            fail_closed: settings.fail_closed,
            keys,
            queue,
            clock,
            metrics,
            tape: None,
            chain: String::new(),
            part: 0,
            place: Place::START,
            unsure: Vec::new(),
            waiting: Vec::new(),
            lost: 0,
            text: String::new(),
            unsynced: 0,
            synced_at: now,
            told: (0, now),
        };
        let (mut head, torn) = (None, content.torn());
        match content.lines.take() {
            Some((found, tail)) => {
                writer.chain.clone_from(&found.chain);
                writer.part = found.part;
                writer.place = Place { seq: tail.seq.saturating_add(1), before: tail.hash };
                head = in_place.then_some(found);
            }
            None => writer.chain = hex(&rand::random::<[u8; 16]>()),
        }
        let details = vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("after", after.to_owned())];
        writer.keep_record(What::Event { name: "start", details });
        writer.begin(tape, head, torn, content.open_line)?;
        writer.flush()?;
        writer.tell(true);
        Ok(writer)
    }

    fn keep_record(&mut self, what: What) {
        let record = Record { at: self.clock.now(), what };
        self.waiting.push(Entry { record, written: None });
    }

    /// Writes until the queue is closed and empty.
    pub(super) fn run(mut self) {
        let linger = if self.fail_closed { Duration::ZERO } else { LINGER };
        loop {
            let patience = if !self.waiting.is_empty() || self.tape.is_none() || self.unsynced > 0 {
                RETRY_EVERY
            } else {
                LOOK_EVERY
            };
            let turn = self.turn(patience, linger);
            if turn.closed {
                self.tell(true);
                // Free for the next process before anybody is told.
                self.tape = None;
                self.queue.end(self.waiting.is_empty() && self.lost == 0);
                return;
            }
            self.tell(false);
            if turn.failed {
                // Every record that comes meanwhile would be another attempt.
                std::thread::sleep(RETRY_EVERY);
            }
        }
    }

    /// Takes what has come and writes it.
    pub(super) fn turn(&mut self, patience: Duration, linger: Duration) -> Turn {
        let taken = self.queue.take(&mut self.waiting, patience, linger);
        self.lost = self.lost.saturating_add(taken.lost);
        for ((rpc, why), count) in self.queue.strangers.due(Instant::now()) {
            self.keep_record(What::Refusals { rpc, why, count });
        }
        let written = self.write();
        let failed = written.is_err();
        self.settle(written);
        Turn { closed: taken.closed, failed }
    }

    /// After an attempt: says whether records can be written, and drops what can wait no longer.
    fn settle(&mut self, written: Result<(), OpenError>) {
        match written {
            Ok(()) => {
                if self.queue.problem().is_some() {
                    tracing::info!("the audit is written again");
                    self.queue.set_problem(None);
                }
            }
            Err(error) => {
                self.tape = None;
                if self.queue.problem().is_none() {
                    tracing::error!(error = &error as &dyn std::error::Error, "the audit cannot be written");
                }
                self.queue.set_problem(Some(error.to_string()));
                self.forget_refused();
                self.drop_beyond();
            }
        }
    }

    /// Calls that waited for the disk are refused now: there is nothing to record of them but their end, which follows.
    fn forget_refused(&mut self) {
        let mut kept = 0;
        let mut kept_before = vec![0];
        for entry in &self.waiting {
            kept += usize::from(entry.written.is_none());
            kept_before.push(kept);
        }
        // The marks count what waits; counting those that are gone, they would take others for written.
        for (_, _, completes) in &mut self.unsure {
            *completes = kept_before.get(*completes).copied().unwrap_or(kept);
        }
        self.waiting.retain(|entry| entry.written.is_none());
    }

    /// Drops what there is no room for. The oldest are worth most: they say how it began.
    fn drop_beyond(&mut self) {
        let beyond = self.waiting.split_off(self.waiting.len().min(CAPACITY));
        for entry in beyond {
            match told_lost(&entry) {
                // Counted already when they were lost; the number must not go with the record that tells it.
                Some(count) => self.lost = self.lost.saturating_add(count),
                None => {
                    self.lost = self.lost.saturating_add(1);
                    self.metrics.audit_lost(1);
                }
            }
        }
    }

    /// Writes everything that waits, with the file in whatever state it is.
    fn write(&mut self) -> Result<(), OpenError> {
        if self.tape.as_ref().is_some_and(|tape| !tape.is_as_left()) {
            // Moved or emptied by a log shipper, or removed: the chain goes on, and shows if something is missing.
            tracing::warn!("audit.file is not as it was left; opening it again");
            self.tape = None;
        }
        if self.tape.is_none() {
            self.reopen()?;
        }
        self.flush()
    }

    /// Opens the file after a failure. What it holds says which of the unsure lines are there.
    fn reopen(&mut self) -> Result<(), OpenError> {
        let (tape, content) = Tape::open(&self.path)?;
        let (mut head, torn) = (None, content.torn());
        if let Some((found, tail)) = content.lines {
            if tail.hash != self.place.before {
                let mark = self.unsure.iter().position(|(_, hash, _)| *hash == tail.hash);
                let mark = mark.and_then(|at| self.unsure.get(at)).ok_or(OpenError::Replaced)?;
                self.place = Place { seq: tail.seq.saturating_add(1), before: tail.hash };
                self.waiting.drain(..mark.2.min(self.waiting.len()));
            }
            self.part = found.part;
            head = Some(found);
        }
        self.unsure.clear();
        self.begin(tape, head, torn, content.open_line)
    }

    /// Writes what a file needs before its records: its first line, and a line that closes what a crash left.
    fn begin(
        &mut self,
        tape: Tape,
        head: Option<Head>,
        torn: Option<Torn>,
        open_line: bool,
    ) -> Result<(), OpenError> {
        let mut tape = tape;
        let key = self.keys.name();
        let mut text = String::new();
        let mut place = self.place.clone();
        let now = self.clock.now();
        let mut content = String::new();
        let mut part = self.part;
        let is_ours = head.as_ref().is_some_and(|head| head.key == key);
        if head.is_some() && !is_ours {
            // Each file has one key. What is torn there is closed by the first line of the next.
            tape = tape.rotate(self.part, self.keep)?;
        } else if open_line {
            text.push('\n');
        }
        if !is_ours {
            part = part.saturating_add(1);
            let prev = place.before;
            let line = FileHead { chain: &self.chain, part, key: &key, prev: &prev, torn: torn.as_ref() };
            line.write(now, &mut content);
            place.append(&self.keys, &content, &mut text);
        } else if let Some(torn) = &torn {
            write_recovered(now, torn, &mut content);
            place.append(&self.keys, &content, &mut text);
        }
        if !text.is_empty() {
            self.unsure = vec![(place.seq.saturating_sub(1), place.before, 0)];
            self.medium.append(&tape.file, text.as_bytes()).map_err(writing)?;
            self.medium.sync(&tape.file).map_err(writing)?;
            sync_folder(&self.path).map_err(writing)?;
            tape.length = tape.length.saturating_add(text.len() as u64);
            self.unsure.clear();
            self.place = place;
            // Not before it is there: each attempt on a full disk would leave a number out.
            self.part = part;
        }
        self.tape = Some(tape);
        Ok(())
    }

    /// Writes everything that waits to the open file.
    fn flush(&mut self) -> Result<(), OpenError> {
        if self.lost > 0 {
            let details = vec![("count", self.lost.to_string())];
            self.keep_record(What::Event { name: RECORDS_LOST, details });
            self.lost = 0;
        }
        let mut done = 0;
        let written = loop {
            if done == self.waiting.len() {
                break Ok(());
            }
            match self.chunk(done) {
                Ok(records) => done += records,
                Err(error) => break Err(error),
            }
        };
        let synced = self.sync_if_due(done);
        for entry in self.waiting.drain(..done) {
            // Dropped unsent where the disk did not confirm; whoever waited may be gone, too.
            if let Some(waiting) = entry.written
                && synced.is_ok()
            {
                let _ = waiting.send(());
            }
        }
        for (_, _, completes) in &mut self.unsure {
            *completes = completes.saturating_sub(done);
        }
        written.and(synced.map_err(writing))
    }

    /// Writes as many records as a chunk holds; says how many.
    fn chunk(&mut self, from: usize) -> Result<usize, OpenError> {
        let closed = || writing(io::ErrorKind::NotConnected.into());
        let mut tape = self.tape.take().ok_or_else(closed)?;
        if tape.length >= self.max_bytes {
            tape = tape.rotate(self.part, self.keep)?;
            // Rotating makes the full file durable.
            self.unsynced = 0;
            self.begin(tape, None, None, false)?;
            self.tell(true);
            tape = self.tape.take().ok_or_else(closed)?;
        } else if self.unsynced >= UNSYNCED_BYTES {
            self.sync(&tape).map_err(writing)?;
        }
        self.text.clear();
        let mut place = self.place.clone();
        let mut content = String::new();
        let mut records = 0;
        for entry in self.waiting.iter().skip(from) {
            content.clear();
            entry.record.write(&mut content);
            place.append(&self.keys, &content, &mut self.text);
            records += 1;
            self.unsure.push((place.seq.saturating_sub(1), place.before, from + records));
            if self.text.len() >= CHUNK_BYTES || tape.length + self.text.len() as u64 >= self.max_bytes {
                break;
            }
        }
        self.unsynced = self.unsynced.saturating_add(self.text.len() as u64);
        self.medium.append(&tape.file, self.text.as_bytes()).map_err(writing)?;
        tape.length = tape.length.saturating_add(self.text.len() as u64);
        self.place = place;
        self.unsure.clear();
        self.tape = Some(tape);
        self.metrics.audit_written(records as u64, self.place.seq.saturating_sub(1));
        Ok(records)
    }

    /// Makes what is written durable, if one of the first `done` records is waited for or if it is time.
    fn sync_if_due(&mut self, done: usize) -> io::Result<()> {
        let is_waited_for = self.waiting.iter().take(done).any(|entry| entry.written.is_some());
        if self.unsynced == 0 || !(is_waited_for || self.synced_at.elapsed() >= SYNC_EVERY) {
            return Ok(());
        }
        // After a failure there is no file any more, and whoever waits must not hear that it is durable.
        let Some(tape) = self.tape.take() else { return Err(io::ErrorKind::NotConnected.into()) };
        let synced = self.sync(&tape);
        self.tape = Some(tape);
        synced
    }

    fn sync(&mut self, tape: &Tape) -> io::Result<()> {
        self.medium.sync(&tape.file)?;
        self.unsynced = 0;
        self.synced_at = Instant::now();
        Ok(())
    }

    /// Tells the log the last number and hash: whoever keeps the log knows if the file's end is cut off later.
    fn tell(&mut self, now: bool) {
        let last = self.place.seq.saturating_sub(1);
        if last == self.told.0 || !(now || self.told.1.elapsed() >= TELL_EVERY) {
            return;
        }
        self.told = (last, Instant::now());
        tracing::info!(head = format!("{last}:{}", hex(&self.place.before)), "audit chain");
    }
}

/// How many lost records this one tells of, if it is such a record.
fn told_lost(entry: &Entry) -> Option<u64> {
    match &entry.record.what {
        What::Event { name: RECORDS_LOST, details } => details.first()?.1.parse().ok(),
        _ => None,
    }
}

fn writing(source: io::Error) -> OpenError {
    OpenError::Io { doing: "written", source }
}
