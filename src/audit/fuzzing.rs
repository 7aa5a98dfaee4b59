//! Fuzz targets: the audit's own files, as crashes, full disks and other hands leave them.
//!
//! What happens to the files is written in the input; the writer, the files and the verifier are the real ones. The
//! clock stands still and nothing waits, so that an input takes as long as its files do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use super::chain::{Keys, PREFIX, Read, hex};
use super::file::last_line;
use super::queue::{Entry, Queue};
use super::record::{Record, What};
use super::verify::{Head, Report, Verifier};
use super::writer::{Medium, Writer};
use super::{OpenError, Settings};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::fuzzing::{Input, assert_silent};
use crate::metrics::Metrics;
use crate::secret::Secret;

/// The keys in turn; a file names its own.
const KEYS: [&str; 2] = ["the-first-key-of-a-fuzzed-audit-1", "the-second-key-of-a-fuzzed-audit-2"];
/// The most that one input may do.
const MOST_STEPS: usize = 48;

/// Lines: what is read of one is what every reader of JSON finds, and none follows another without the key.
pub fn lines(data: &[u8]) {
    let whole = data.strip_suffix(b"\n").unwrap_or(data);
    if let Some(read) = Read::parse(whole) {
        assert!(whole.starts_with(PREFIX));
        // What is not looked at need not be text.
        if let Ok(value) = serde_json::from_slice::<serde_json::Value>(whole) {
            assert_eq!(value["seq"].as_u64(), Some(read.line.seq));
            assert_eq!(value["hash"].as_str(), Some(hex(&read.hash).as_str()));
            assert_eq!(value["kind"].as_str(), Some(read.line.kind.as_str()));
        }
        // Nobody has this key, so nobody has made this line with it.
        let nobodys = Keys::new(&Secret::new(hex(&rand::random::<[u8; 32]>())));
        assert!(!read.follows(&nobodys, &super::chain::GENESIS), "a line is forged");
    }
    if let Ok(text) = std::str::from_utf8(data) {
        match text.parse::<Head>() {
            Ok(head) => {
                let (number, hash) = text.split_once(':').expect("a number and a hash");
                let plain = format!("{}:{hash}", number.parse::<u64>().expect("a number"));
                assert!(hash.len() == 64 && plain.parse() == Ok(head));
            }
            Err(why) => assert_silent("a refused head", why),
        }
    }
    let (tail, rest) = last_line(data);
    assert!(data.ends_with(rest) && (tail.is_some() || rest.len() == data.len()));
    let mut later = rest.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    assert!(later.all(|line| Read::parse(line).is_none()), "a later line is not the last");
}

/// A disk that holds so many more bytes, and remembers every line that was meant for it.
#[derive(Clone)]
struct Shelf(Arc<Mutex<Held>>);

struct Held {
    /// None: as many as may come.
    room: Option<usize>,
    meant: HashSet<Vec<u8>>,
}

impl Medium for Shelf {
    fn append(&mut self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        let mut held = self.0.lock().expect("a lock");
        held.meant.extend(bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec));
        let fits = held.room.unwrap_or(bytes.len()).min(bytes.len());
        held.room = held.room.map(|room| room - fits);
        file.write_all(&bytes[..fits])?;
        if fits == bytes.len() { Ok(()) } else { Err(io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self, _: &File) -> io::Result<()> {
        Ok(())
    }
}

thread_local! {
    /// Made once, for that takes longer than an input.
    static METRICS: Metrics = Metrics::new();
}

/// A folder with the audit's files, and what is known of them.
struct World {
    folder: PathBuf,
    path: PathBuf,
    shelf: Shelf,
    key: usize,
    max_bytes: u64,
    open: Option<(Writer<Shelf>, Arc<Queue>)>,
    /// The number of the next record.
    next: u32,
    /// Who waits for which record to be on disk.
    waiting: Vec<(u32, oneshot::Receiver<()>)>,
    /// Records that are on disk, as somebody was told.
    told: BTreeSet<u32>,
    /// Nothing has happened but what a crash, a full disk or a change of keys may do.
    clean: bool,
    /// A crash left something else than the beginnings of lines.
    garbage: bool,
    /// The last that was tried was done, so that nothing is left to be closed.
    settled: bool,
}

/// Memory, where there is such a folder: a disk would be what is measured.
fn folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let thread = format!("{:?}", std::thread::current().id());
    let thread: String = thread.chars().filter(char::is_ascii_digit).collect();
    base.join(format!("acs-broker-fuzzed-audit-{}-{thread}", std::process::id()))
}

impl Drop for World {
    fn drop(&mut self) {
        self.open = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl World {
    fn new(max_bytes: u64) -> Self {
        let folder = folder();
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir(&folder).expect("a folder");
        let path = folder.join("audit.log");
        let shelf = Shelf(Arc::new(Mutex::new(Held { room: None, meant: HashSet::new() })));
        Self {
            folder,
            path,
            shelf,
            key: 0,
            max_bytes,
            open: None,
            next: 0,
            waiting: Vec::new(),
            told: BTreeSet::new(),
            clean: true,
            garbage: false,
            settled: true,
        }
    }

    fn room(&self, room: Option<usize>) {
        self.shelf.0.lock().expect("a lock").room = room;
    }

    fn has_room(&self) -> bool {
        self.shelf.0.lock().expect("a lock").room.is_none()
    }

    fn open(&mut self) -> Result<(), OpenError> {
        if self.open.is_some() {
            return Ok(());
        }
        let settings = Settings {
            max_bytes: self.max_bytes,
            keep: 10_000,
            fail_closed: true,
            ..Settings::to_file(self.path.to_string_lossy().into_owned(), Secret::new(KEYS[self.key]))
        };
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_348_800_123)));
        let metrics = METRICS.with(Metrics::clone);
        let queue = Arc::new(Queue::new(metrics.clone()));
        let keys = Keys::new(&settings.key);
        self.settled = false;
        let writer = Writer::open(self.shelf.clone(), &settings, keys, Arc::clone(&queue), clock, metrics)?;
        self.settled = true;
        self.open = Some((writer, queue));
        Ok(())
    }

    /// Opens it; what was only interrupted opens as soon as there is room.
    fn opened(&mut self) -> bool {
        match self.open() {
            Ok(()) => true,
            Err(error) => {
                assert_silent("why it does not open", &format!("{error} {error:?}"));
                let must = self.clean && self.has_room();
                assert!(!must, "what a crash left does not open: {error} ({error:?})");
                false
            }
        }
    }

    /// Writes so many records, and what is still to be written.
    fn write(&mut self, records: u8) {
        let Some((writer, queue)) = &mut self.open else { return };
        for at in 0..records {
            let (told, is_written) = oneshot::channel();
            let details = vec![("number", format!("n{}", self.next))];
            let record = Record {
                at: Timestamp::from_millis(1_795_348_800_123),
                what: What::Event { name: "fuzzed", details },
            };
            // Somebody waits for every other one, so that both kinds are there.
            let written = (at % 2 == 0).then_some(told);
            assert!(queue.put(Entry { record, written }));
            self.waiting.push((self.next, is_written));
            self.next += 1;
        }
        let turn = writer.turn(Duration::ZERO, Duration::ZERO);
        let (clean, has_room) = (self.clean, self.has_room());
        assert!(!(turn.failed && clean && has_room), "there is room, and nothing is written");
        self.settled = !turn.failed;
        for (number, mut waiting) in std::mem::take(&mut self.waiting) {
            match waiting.try_recv() {
                Ok(()) => assert!(self.told.insert(number)),
                Err(oneshot::error::TryRecvError::Empty) => self.waiting.push((number, waiting)),
                Err(oneshot::error::TryRecvError::Closed) => {}
            }
        }
    }

    fn crash(&mut self) {
        self.open = None;
        self.waiting.clear();
    }

    /// Ends in order, if there is room for it.
    fn stop(&mut self) {
        let Some((mut writer, queue)) = self.open.take() else { return };
        let stop = What::Event { name: "stop", details: Vec::new() };
        let at = Timestamp::from_millis(1_795_348_800_123);
        assert!(queue.put(Entry { record: Record { at, what: stop }, written: None }));
        queue.close();
        self.settled = !writer.turn(Duration::ZERO, Duration::ZERO).failed;
        self.waiting.clear();
    }

    fn files(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&self.folder).expect("a folder");
        entries.map(|entry| entry.expect("a file").path()).collect()
    }

    fn content(&self) -> Vec<u8> {
        std::fs::read(&self.path).unwrap_or_default()
    }

    /// Lines of the input itself: those of a seed may be genuine, for the keys are known.
    fn given(&self, lines: &[u8]) {
        let lines = lines.split(|byte| *byte == b'\n').map(<[u8]>::to_vec);
        self.shelf.0.lock().expect("a lock").meant.extend(lines);
    }

    /// Changes the file behind everybody's back.
    fn change(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.crash();
        self.settled = false;
        let mut content = self.content();
        change(&mut content);
        std::fs::write(&self.path, content).expect("the file is written");
    }

    fn verified(&self) -> (Report, Vec<Vec<u8>>) {
        let files = self.files();
        let keys = KEYS.map(Secret::new);
        let report = Verifier::new(&keys).verify(&files, None).expect("the files can be read");
        let mut records = Vec::new();
        for file in files {
            let content = std::fs::read(file).expect("a file");
            let lines = content.split(|byte| *byte == b'\n');
            records.extend(lines.filter(|line| Read::parse(line).is_some()).map(<[u8]>::to_vec));
        }
        (report, records)
    }

    /// What is whole holds what was written and nothing else; what was only interrupted is whole or torn at any time, and
    /// if something else got to the disk, once it was opened again.
    fn check(&mut self) {
        let (report, records) = self.verified();
        if let Some(broken) = &report.broken {
            assert_silent("where it breaks", &broken.what);
            let must = self.clean && (self.settled || !self.garbage);
            assert!(!must, "what a crash left does not verify: {broken:?}");
            return;
        }
        if report.records == 0 {
            assert!(records.is_empty(), "a record is there that was not seen");
            return;
        }
        let meant = &self.shelf.0.lock().expect("a lock").meant;
        assert!(records.iter().all(|line| meant.contains(line)), "a line that nobody wrote is proven");
        assert_eq!(report.records, records.len() as u64);
        let (first, last) = (report.first.expect("a first").seq, report.last.expect("a last").seq);
        assert_eq!(last - first + 1, report.records, "records are missing");
        if self.clean {
            let there = numbers(&records);
            let once: BTreeSet<u32> = there.iter().copied().collect();
            assert_eq!(once.len(), there.len(), "a record is there twice");
            assert!(self.told.is_subset(&once), "a record is not there that somebody was told of");
        }
    }

    /// What was cut off is gone, and nobody expects it any more.
    fn forget(&mut self) {
        let (_, records) = self.verified();
        let there: BTreeSet<u32> = numbers(&records).into_iter().collect();
        self.told.retain(|number| there.contains(number));
    }
}

/// The numbers of our own records among these.
fn numbers(records: &[Vec<u8>]) -> Vec<u32> {
    let number = |line: &Vec<u8>| {
        let value: serde_json::Value = serde_json::from_slice(line).ok()?;
        value["number"].as_str()?.strip_prefix('n')?.parse().ok()
    };
    records.iter().filter_map(number).collect()
}

fn whole_lines(content: &[u8]) -> usize {
    content.split(|byte| *byte == b'\n').filter(|line| Read::parse(line).is_some()).count()
}

/// Steps: a letter and what it needs. After all of them the audit is opened once more, with room, and verified.
pub fn files(data: &[u8]) {
    let mut input = Input(data);
    let mut world = World::new(match input.byte() {
        b'0' => u64::MAX,
        size => 256 + u64::from(size) * 8,
    });
    for _ in 0..MOST_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut world, &mut input);
    }
    world.room(None);
    world.crash();
    if world.opened() {
        world.write(2);
        world.stop();
        world.check();
        let (report, _) = world.verified();
        assert!(!world.clean || report.stopped, "it was ended in order");
    }
    let _ = world.verified();
}

fn step(world: &mut World, input: &mut Input<'_>) {
    match input.byte() {
        b'o' => drop(world.opened()),
        b'w' => {
            let records = input.byte() % 6;
            world.write(records);
        }
        b's' => world.stop(),
        b'c' => world.crash(),
        b'v' => world.check(),
        // The disk has room for so many bytes.
        b'r' => {
            let room = usize::from(input.byte()) * 4;
            world.room(Some(room));
        }
        b'R' => world.room(None),
        b'k' => {
            world.crash();
            world.key ^= 1;
        }
        // So much of the end never got to the disk.
        b't' => {
            let cut = match usize::from(input.byte()) {
                few @ 0..128 => few,
                many => (many - 127) * 16,
            };
            world.change(|content| content.truncate(content.len() - cut.min(content.len())));
            world.forget();
        }
        // Something else got there instead.
        b'g' => {
            let garbage = input.until(b"%%").to_vec();
            world.given(&garbage);
            let before = world.content();
            world.change(|content| content.extend_from_slice(&garbage));
            let after = world.content();
            let is_torn = whole_lines(&before) > 0 && whole_lines(&before) == whole_lines(&after);
            world.clean &= is_torn || garbage.is_empty();
            world.garbage |= !garbage.is_empty();
        }
        // From here on, other hands.
        b'x' => {
            let (at, mask) = (usize::from(input.byte()) << 8 | usize::from(input.byte()), input.byte());
            world.change(|content| {
                let length = content.len().max(1);
                if let Some(byte) = content.get_mut(at % length) {
                    *byte ^= mask;
                }
            });
            world.clean = false;
        }
        b'd' => {
            let which = usize::from(input.byte());
            world.change(|content| {
                let mut lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').collect();
                if !lines.is_empty() {
                    lines.remove(which % lines.len());
                }
                *content = lines.concat();
            });
            world.clean = false;
        }
        b'a' => {
            let which = usize::from(input.byte());
            world.change(|content| {
                let lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').collect();
                let again = lines.get(which % lines.len().max(1)).map(|line| line.to_vec());
                content.extend(again.unwrap_or_default());
            });
            world.clean = false;
        }
        b'=' => {
            let other = input.until(b"\n%%\n").to_vec();
            world.given(&other);
            world.change(|content| *content = other);
            world.clean = false;
        }
        // Moved away by a log shipper while it is in use, or removed.
        b'm' => {
            let which = usize::from(input.byte());
            let mut files = world.files();
            files.sort();
            if let Some(file) = files.get(which % files.len().max(1)) {
                let _ = std::fs::remove_file(file);
            }
            world.clean = false;
        }
        _ => {}
    }
}
