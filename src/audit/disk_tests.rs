//! What a failing disk does to records of calls that wait for it, to numbers and to what two crashes left, on real files.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use proptest::prelude::*;
use tempfile::TempDir;

use super::tests::*;
use super::*;

/// A disk that is held up as long as somebody else holds the lock.
#[derive(Clone)]
struct Slow {
    held: Arc<Mutex<()>>,
    begun: Arc<AtomicUsize>,
    small: Small,
}

impl Medium for Slow {
    fn append(&mut self, file: &std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let _held = self.held.lock().unwrap();
        self.small.append(file, bytes)
    }

    fn sync(&mut self, file: &std::fs::File) -> std::io::Result<()> {
        self.small.sync(file)
    }
}

fn ended(audit: &Audit, request: &str) {
    let outcome = Outcome { code: "OK", reason: None, took: Duration::ZERO };
    audit.trail("m", request).ended(Some("orders"), None, outcome);
}

#[tokio::test]
async fn a_disk_that_fills_up_behind_a_refused_call_takes_no_other_record_with_it() {
    for whole_lines in 0..4 {
        let folder = TempDir::new().unwrap();
        let strict = Settings { fail_closed: true, ..settings(folder.path()) };
        let slow = Slow { held: Arc::default(), begun: Arc::default(), small: Small::of(1_000_000) };
        let audit = Audit::open_on(slow.clone(), &strict, clock(), Metrics::new()).unwrap();
        let begun = slow.begun.load(Ordering::SeqCst);
        let waiting: Vec<_> = {
            let held = slow.held.lock().unwrap();
            ended(&audit, "e0");
            until_now(|| slow.begun.load(Ordering::SeqCst) > begun);
            // These are written together, once the disk goes on: two calls that wait for it, and ends of others.
            let waiting = ["d1", "d2"].map(|request| {
                let (written, is_written) = tokio::sync::oneshot::channel();
                let trail = audit.trail("m", request);
                let open = audit.0.as_ref().unwrap();
                let what = What::Event { name: "decision", details: vec![("number", request.to_owned())] };
                let record = Record { at: open.clock.now(), what };
                assert!(open.queue.put(Entry { record, written: Some(written) }));
                ended(&audit, &format!("e{}", &request[1..]));
                drop(trail);
                is_written
            });
            let line = line_length(folder.path());
            // What is being written, so many lines of what follows, and a part of one.
            slow.small.0.store(line * (1 + whole_lines) + line / 2, Ordering::SeqCst);
            drop(held);
            waiting.into()
        };
        for is_written in waiting {
            assert!(is_written.await.is_err(), "refused: the disk was full");
        }
        slow.small.0.store(1_000_000, Ordering::SeqCst);
        until("it is written again", || audit.problem().is_none()).await;
        stop(audit).await;
        let report = verify(folder.path());
        assert_eq!((report.broken, report.lost), (None, 0));
        let lines = lines_of(&folder.path().join("audit.log"));
        let ends: Vec<_> = lines.iter().filter(|line| line["kind"] == "call").collect();
        let ends: Vec<_> = ends.iter().map(|line| line["request_id"].as_str().unwrap()).collect();
        assert_eq!(ends, ["e0", "e1", "e2"], "each once, with room for {whole_lines} lines");
    }
}

/// As `until`, for a moment in which nothing else may run.
fn until_now(mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < end, "it did not happen");
        std::thread::yield_now();
    }
}

/// How long a record of a call is there.
fn line_length(folder: &std::path::Path) -> u64 {
    std::fs::read_to_string(folder.join("audit.log")).unwrap().lines().next_back().unwrap().len() as u64
}

#[tokio::test]
async fn how_many_records_were_lost_is_not_lost_itself() {
    let folder = TempDir::new().unwrap();
    let (audit, room, metrics) = on_a_full_disk(folder.path()).await;
    let lost = || {
        let text = metrics.render();
        let line = text.lines().find(|line| line.starts_with("acs_broker_audit_lost_total "));
        line.unwrap().rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let mut all = 1;
    // Each round finds the writer with all it may hold, and the queue full.
    for _ in 0..4 {
        let before = lost();
        while lost() == before {
            audit.event("reload", &[]);
            all += 1;
        }
    }
    room.0.store(100_000_000, Ordering::SeqCst);
    until("it is written again", || audit.problem().is_none()).await;
    stop(audit).await;
    let report = verify(folder.path());
    assert_eq!(report.broken, None);
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let written = text.matches("\"event\":\"reload\"").count() as u64;
    assert_eq!(written + report.lost, all, "each is written or counted");
    assert_eq!(lost(), report.lost);
}

#[tokio::test]
async fn a_first_line_that_finds_no_room_leaves_no_number_out() {
    let folder = TempDir::new().unwrap();
    let settings = Settings { max_bytes: 900, keep: 100, ..settings(folder.path()) };
    let room = Small::of(1_000_000);
    let audit = Audit::open_on(room.clone(), &settings, clock(), Metrics::new()).unwrap();
    for _ in 0..4 {
        // The next file begins, and its first line is written a few bytes at a time.
        room.0.store(700, Ordering::SeqCst);
        while audit.problem().is_none() {
            let before = room.0.load(Ordering::SeqCst);
            audit.event("reload", &[]);
            let changed = || audit.problem().is_some() || room.0.load(Ordering::SeqCst) != before;
            until("it is written or the disk is full", changed).await;
        }
        for _ in 0..5 {
            room.0.fetch_add(3, Ordering::SeqCst);
            until("another attempt was made", || room.0.load(Ordering::SeqCst) == 0).await;
        }
        room.0.store(1_000_000, Ordering::SeqCst);
        until("it is written again", || audit.problem().is_none()).await;
    }
    stop(audit).await;
    let mut heads: Vec<_> = files(folder.path()).iter().map(|path| lines_of(path).swap_remove(0)).collect();
    heads.sort_by_key(|head| head["seq"].as_u64());
    let parts: Vec<_> = heads.iter().map(|head| head["part"].as_u64().unwrap()).collect();
    assert_eq!(parts, (1..=parts.len() as u64).collect::<Vec<_>>());
    assert_eq!(verify(folder.path()).broken, None);
}

#[tokio::test]
async fn what_a_crash_left_of_two_files_is_closed_together() {
    let whole = 300;
    for room in [1, 20, whole] {
        let folder = TempDir::new().unwrap();
        let path = written(folder.path(), 3).await;
        // A crash in the middle of a line; another key, and no room for the first line of the file that it begins.
        let torn = std::fs::read(&path).unwrap();
        std::fs::write(&path, &torn[..torn.len() - 10]).unwrap();
        let key = Secret::new("another-key-for-tests-0123456789");
        let other = Settings { key: key.clone(), ..settings(folder.path()) };
        assert!(Audit::open_on(Small::of(room), &other, clock(), Metrics::new()).is_err());
        stop(Audit::open(&other, clock(), Metrics::new()).unwrap()).await;
        stop(Audit::open(&other, clock(), Metrics::new()).unwrap()).await;
        let both = [key, Secret::new(KEY)];
        let report = Verifier::new(&both).verify(&files(folder.path()), None).unwrap();
        assert_eq!((report.broken, report.files), (None, 2), "{room}");
    }
}

/// A disk that takes everything and cannot say that it has kept it.
#[derive(Clone)]
struct Unsure(Arc<std::sync::atomic::AtomicBool>);

impl Medium for Unsure {
    fn append(&mut self, file: &std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
        Disk.append(file, bytes)
    }

    fn sync(&mut self, file: &std::fs::File) -> std::io::Result<()> {
        if self.0.load(Ordering::SeqCst) { Err(std::io::Error::other("no")) } else { Disk.sync(file) }
    }
}

#[tokio::test]
async fn what_the_disk_does_not_confirm_lets_no_call_go_on() {
    let folder = TempDir::new().unwrap();
    let strict = Settings { fail_closed: true, ..settings(folder.path()) };
    let unsure = Unsure(Arc::default());
    let audit = Audit::open_on(unsure.clone(), &strict, clock(), Metrics::new()).unwrap();
    assert_eq!(audit.trail("m", "r1").admitted("orders").await, Ok(()));
    unsure.0.store(true, Ordering::SeqCst);
    assert_eq!(audit.trail("m", "r2").admitted("orders").await, Err(Unrecorded));
    unsure.0.store(false, Ordering::SeqCst);
    until("the disk is sure again", || audit.problem().is_none()).await;
    assert_eq!(audit.trail("m", "r3").admitted("orders").await, Ok(()));
    stop(audit).await;
    assert_eq!(verify(folder.path()).broken, None);
}

#[tokio::test]
async fn a_file_in_the_place_of_a_full_one_is_not_overwritten() {
    let folder = TempDir::new().unwrap();
    written(folder.path(), 3).await;
    let there = folder.path().join("audit.log.000001");
    std::fs::write(&there, "somebody else's").unwrap();
    let small = Settings { max_bytes: 300, ..settings(folder.path()) };
    let said = Audit::open(&small, clock(), Metrics::new()).err().unwrap().to_string();
    assert!(said.contains("full audit.file") && said.contains(".000001"), "{said}");
    assert!(said.contains("move that away"), "{said}");
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "somebody else's");
    std::fs::rename(&there, folder.path().join("elsewhere")).unwrap();
    stop(Audit::open(&small, clock(), Metrics::new()).unwrap()).await;
    assert_eq!(verify(folder.path()).broken, None);
}

#[tokio::test]
async fn whole_lines_at_the_end_that_are_no_records_break_the_chain() {
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 3).await;
    let whole = std::fs::read(&path).unwrap();
    for (more, broken, torn) in [("half", false, 4), ("all\n", true, 0), ("all\nhalf", true, 4)] {
        std::fs::write(&path, [&whole, more.as_bytes()].concat()).unwrap();
        let report = verify(folder.path());
        assert_eq!((report.broken.is_some(), report.torn_bytes), (broken, torn), "{more:?}");
    }
}

#[tokio::test]
async fn a_file_just_begun_on_a_full_disk_is_torn_and_not_broken_at_any_time() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    let mut expected = 0;
    // An attempt for each: it leaves some bytes of the first line, and then the next finds them.
    for room in [0, 1, 5, 60, 1, 200] {
        assert!(Audit::open_on(Small::of(room), &settings(folder.path()), clock(), Metrics::new()).is_err());
        let length = std::fs::metadata(&path).unwrap().len();
        expected += room;
        assert_eq!(length, expected);
        let report = verify(folder.path());
        assert_eq!((report.broken, report.records, report.torn_bytes), (None, 0, length));
        let head: Head = format!("1:{}", "0".repeat(64)).parse().unwrap();
        let cut = Verifier::new([&Secret::new(KEY)]).verify(std::slice::from_ref(&path), Some(&head));
        assert!(cut.unwrap().broken.unwrap().what.contains("the end was cut off"));
    }
    written(folder.path(), 1).await;
    let report = verify(folder.path());
    assert_eq!((report.broken, report.torn_bytes, report.stopped), (None, 0, true));
}

#[tokio::test]
async fn several_torn_lines_at_the_end_are_what_a_full_disk_leaves() {
    let folder = TempDir::new().unwrap();
    let (audit, room, _) = on_a_full_disk(folder.path()).await;
    let path = folder.path().join("audit.log");
    let whole = verify(folder.path()).records;
    let mut length = std::fs::metadata(&path).unwrap().len();
    for more in [40, 25, 1, 33] {
        room.0.store(more, Ordering::SeqCst);
        length += more;
        until("another attempt was made", || std::fs::metadata(&path).unwrap().len() == length).await;
    }
    let report = verify(folder.path());
    assert_eq!((report.broken, report.records, report.torn_bytes), (None, whole, 99));
    room.0.store(1_000_000, Ordering::SeqCst);
    until("it is written again", || audit.problem().is_none()).await;
    stop(audit).await;
    assert_eq!(verify(folder.path()).broken, None);
}

#[tokio::test]
async fn what_is_no_beginning_of_a_record_is_not_taken_for_a_torn_one() {
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 1).await;
    let line = lines_of(&path).remove(0).to_string();
    let changed = line.replace("\"kind\":\"file\"", "\"kind\":\"file");
    for content in
        ["somebody else's", "{\"sea\"", "\n", "{\"seq\":1}", &line.replace("hash", "hush"), &changed]
    {
        std::fs::write(&path, content).unwrap();
        assert!(verify(folder.path()).broken.is_some(), "{content}");
    }
}

/// A step of the fuzz target for files, and a look at what it left.
fn a_step() -> impl Strategy<Value = Vec<u8>> {
    let bare = proptest::sample::select(b"oosckR".to_vec()).prop_map(|step| vec![step]);
    let counted = proptest::sample::select(b"wrrt".to_vec());
    let counted = (counted, prop_oneof![0u8..40, any::<u8>()]).prop_map(|(step, count)| vec![step, count]);
    prop_oneof![bare, counted].prop_map(|step| [step.as_slice(), b"v"].concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn whatever_crashes_full_disks_and_new_keys_leave_is_whole_or_torn_at_any_time(
        size in any::<u8>(), steps in proptest::collection::vec(a_step(), 1..24),
    ) {
        fuzzing::files(&[vec![size], steps.concat()].concat());
    }
}

/// A disk that remembers how much it was given and not asked to keep.
#[derive(Clone)]
struct Noted {
    small: Small,
    unsynced: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Noted {
    fn of(room: u64) -> Self {
        Self { small: Small::of(room), unsynced: Arc::default(), most: Arc::default() }
    }
}

impl Medium for Noted {
    fn append(&mut self, file: &std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
        let length = bytes.len() as u64;
        self.most.fetch_max(self.unsynced.fetch_add(length, Ordering::SeqCst) + length, Ordering::SeqCst);
        self.small.append(file, bytes)
    }

    fn sync(&mut self, file: &std::fs::File) -> std::io::Result<()> {
        self.unsynced.store(0, Ordering::SeqCst);
        self.small.sync(file)
    }
}

/// A writer that writes when it is told to.
fn by_hand(medium: Noted, settings: &Settings) -> (Writer<Noted>, Arc<Queue>) {
    let queue = Arc::new(Queue::new(Metrics::new()));
    let keys = Keys::new(&settings.key);
    let writer = Writer::open(medium, settings, keys, Arc::clone(&queue), clock(), Metrics::new());
    (writer.unwrap(), queue)
}

fn an_entry(written: Option<tokio::sync::oneshot::Sender<()>>) -> Entry {
    let what = What::Event { name: "fuller", details: vec![("with", "x".repeat(800))] };
    Entry { record: Record { at: clock().now(), what }, written }
}

#[test]
fn a_batch_is_made_durable_before_a_power_cut_could_take_more_of_it_than_is_looked_through() {
    let folder = TempDir::new().unwrap();
    let disk = Noted::of(u64::MAX);
    let (mut writer, queue) = by_hand(disk.clone(), &settings(folder.path()));
    for _ in 0..queue::CAPACITY {
        assert!(queue.put(an_entry(None)));
    }
    assert!(!writer.turn(Duration::ZERO, Duration::ZERO).failed);
    let length = std::fs::metadata(folder.path().join("audit.log")).unwrap().len();
    assert!(length > 8 * file::TAIL_BYTES, "{length} bytes were written at once");
    let most = disk.most.load(Ordering::SeqCst);
    assert!(most < file::TAIL_BYTES, "{most} bytes were at risk");
}

#[test]
fn nobody_is_told_of_a_record_that_is_written_and_not_durable() {
    let folder = TempDir::new().unwrap();
    let disk = Noted::of(u64::MAX);
    let (mut writer, queue) = by_hand(disk.clone(), &settings(folder.path()));
    let (written, mut is_written) = tokio::sync::oneshot::channel();
    assert!(queue.put(an_entry(Some(written))));
    for _ in 0..1000 {
        assert!(queue.put(an_entry(None)));
    }
    // The first chunk fits, and the disk is full in the next.
    disk.small.0.store(400_000, Ordering::SeqCst);
    assert!(writer.turn(Duration::ZERO, Duration::ZERO).failed);
    assert!(disk.unsynced.load(Ordering::SeqCst) > 0, "nothing was made durable");
    assert_eq!(is_written.try_recv(), Err(tokio::sync::oneshot::error::TryRecvError::Closed));
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_full_file_is_named_until_it_is_moved_away() {
    let folder = TempDir::new().unwrap();
    let there = folder.path().join("audit.log.000001");
    std::fs::create_dir(&there).unwrap();
    let small = Settings { max_bytes: 900, ..settings(folder.path()) };
    let audit = Audit::open(&small, clock(), Metrics::new()).unwrap();
    for number in 0..10 {
        audit.event("reload", &[("number", &number.to_string())]);
    }
    until("it cannot go on", || audit.problem().is_some()).await;
    let said = audit.problem().unwrap();
    assert!(said.contains("full audit.file") && said.contains(".000001"), "{said}");
    assert!(said.contains("move that away"), "{said}");
    std::fs::remove_dir(&there).unwrap();
    until("it goes on", || audit.problem().is_none()).await;
    stop(audit).await;
    let report = verify(folder.path());
    assert_eq!((report.broken, report.lost), (None, 0));
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_leads_nowhere_is_not_overwritten_by_a_full_file() {
    let folder = TempDir::new().unwrap();
    written(folder.path(), 3).await;
    let there = folder.path().join("audit.log.000001");
    std::os::unix::fs::symlink("nowhere", &there).unwrap();
    let small = Settings { max_bytes: 300, ..settings(folder.path()) };
    let refused = Audit::open(&small, clock(), Metrics::new()).err();
    assert!(matches!(refused, Some(OpenError::Taken { part: 1 })), "{refused:?}");
    assert_eq!(std::fs::read_link(&there).unwrap().to_str(), Some("nowhere"));
}

#[tokio::test]
async fn what_a_new_file_cannot_continue_is_named() {
    let folder = TempDir::new().unwrap();
    let there = folder.path().join("audit.log.000007");
    std::fs::write(&there, "somebody else's").unwrap();
    let said = Audit::open(&settings(folder.path()), clock(), Metrics::new()).err().unwrap().to_string();
    assert!(said.contains("newest full one") && said.contains(".000007"), "{said}");
    std::fs::remove_file(&there).unwrap();
    // A folder is no full file: nothing is to be continued from it, and the older ones beyond `keep` go past it.
    std::fs::create_dir(folder.path().join("audit.log.000000")).unwrap();
    let small = Settings { max_bytes: 300, keep: 1, ..settings(folder.path()) };
    for _ in 0..3 {
        stop(Audit::open(&small, clock(), Metrics::new()).unwrap()).await;
    }
    let full = files(folder.path()).iter().filter(|path| path.is_file()).count();
    assert_eq!(full, 2, "one that is written to, and one that is kept");
}
