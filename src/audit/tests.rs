//! The audit as a whole, on real files: what is written is read again, whatever happens in between.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::clock::{ManualClock, Timestamp};

pub(super) const KEY: &str = "a-key-for-tests-0123456789abcdef";

pub(super) fn settings(folder: &Path) -> Settings {
    let file = folder.join("audit.log").to_string_lossy().into_owned();
    Settings::to_file(file, Secret::new(KEY))
}

pub(super) fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_123)))
}

fn open(settings: &Settings) -> Audit {
    Audit::open(settings, clock(), Metrics::new()).unwrap()
}

/// A disk that holds so many more bytes.
#[derive(Clone)]
pub(super) struct Small(pub(super) Arc<AtomicU64>);

impl Small {
    pub(super) fn of(room: u64) -> Self {
        Self(Arc::new(AtomicU64::new(room)))
    }
}

impl Medium for Small {
    fn append(&mut self, file: &std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
        let room = self.0.load(Ordering::SeqCst).min(bytes.len() as u64);
        self.0.fetch_sub(room, Ordering::SeqCst);
        let fits = usize::try_from(room).unwrap();
        Disk.append(file, &bytes[..fits])?;
        if fits == bytes.len() { Ok(()) } else { Err(std::io::ErrorKind::StorageFull.into()) }
    }

    fn sync(&mut self, file: &std::fs::File) -> std::io::Result<()> {
        Disk.sync(file)
    }
}

/// Every file of the chain in this folder.
pub(super) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("audit.log")).collect()
}

pub(super) fn verify_files(files: &[PathBuf]) -> Report {
    Verifier::new([&Secret::new(KEY)]).verify(files, None).unwrap()
}

pub(super) fn verify(folder: &Path) -> Report {
    verify_files(&files(folder))
}

pub(super) fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(super) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < end, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(super) async fn stop(audit: Audit) {
    assert!(audit.stop(Duration::from_secs(20)).await, "all of it was written");
}

/// An audit whose disk has just filled up, with one record waiting for room.
pub(super) async fn on_a_full_disk(folder: &Path) -> (Audit, Small, Metrics) {
    let room = Small::of(100_000_000);
    let metrics = Metrics::new();
    let audit = Audit::open_on(room.clone(), &settings(folder), clock(), metrics.clone()).unwrap();
    room.0.store(0, Ordering::SeqCst);
    audit.event("reload", &[]);
    until("the disk is full", || audit.problem().is_some()).await;
    (audit, room, metrics)
}

/// A chain of one file: its first line, "start", `events`, "stop".
pub(super) async fn written(folder: &Path, events: usize) -> PathBuf {
    let audit = open(&settings(folder));
    for number in 0..events {
        audit.event("reload", &[("number", &number.to_string())]);
    }
    stop(audit).await;
    folder.join("audit.log")
}

#[tokio::test]
async fn a_call_leaves_what_was_noted_of_it_and_nothing_plain() {
    let folder = TempDir::new().unwrap();
    let audit = open(&settings(folder.path()));
    let trail = audit.trail("acsbroker.v1.TokenService/IssueToken", "request-1");
    trail.subject(Whom::User, "alice").subject(Whom::User, "alice").scopes(["chat"]).degraded(false);
    trail.admitted("orders").await.unwrap();
    trail.subject(Whom::Identity, "8:acs:x").effect("token_issued", 1).effect("none", 0);
    let took = Duration::from_millis(12);
    trail.ended(Some("orders"), None, Outcome { code: "OK", reason: None, took });
    let trail = audit.trail("_OTHER", "request-2");
    let reason = Some("CALLER_UNAUTHENTICATED");
    trail.ended(None, reason, Outcome { code: "UNAUTHENTICATED", reason, took });
    let trail = audit.trail("acsbroker.v1.SmsService/SendSms", "request-3");
    trail.would_refuse("NO_RULE").degraded(true);
    trail.admitted("or\"ders").await.unwrap();
    trail.ended(Some("or\"ders"), None, Outcome { code: "OK", reason: None, took });
    audit.effect("token_renewed", "unavailable", 2, &[(Whom::Identity, "8:acs:x")]);
    stop(audit).await;

    let path = folder.path().join("audit.log");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("alice") && !text.contains("8:acs"), "{text}");
    let read = lines(&path);
    assert_eq!(
        read.iter().map(|line| line["seq"].as_u64().unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6, 7]
    );
    let kinds: Vec<_> = read.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["file", "event", "call", "call", "call", "effect", "event"]);
    assert!(read.iter().all(|line| line["time"] == "2023-11-14T22:13:20.123Z"));
    let alice = subject_hash(&Secret::new(KEY), Whom::User, "alice");
    let hers = subject_hash(&Secret::new(KEY), Whom::Identity, "8:acs:x");
    let call = &read[2];
    assert_eq!((&call["caller"], &call["decision"]), (&"orders".into(), &"allowed".into()));
    assert_eq!((&call["request_id"], &call["code"]), (&"request-1".into(), &"OK".into()));
    assert_eq!(call["rpc"], "acsbroker.v1.TokenService/IssueToken");
    assert_eq!(
        (&call["for"], &call["scopes"]),
        (&serde_json::json!([alice, hers]), &serde_json::json!(["chat"]))
    );
    assert_eq!((&call["effects"], &call["ms"]), (&serde_json::json!({"token_issued": 1}), &12.into()));
    assert_eq!((call.get("degraded"), call.get("reason"), call.get("why")), (None, None, None));
    let refused = &read[3];
    assert_eq!(
        (&refused["decision"], &refused["why"]),
        (&"refused".into(), &"CALLER_UNAUTHENTICATED".into())
    );
    assert_eq!((refused.get("caller"), &refused["reason"]), (None, &"CALLER_UNAUTHENTICATED".into()));
    let shadowed = &read[4];
    assert_eq!((&shadowed["decision"], &shadowed["why"]), (&"would_refuse".into(), &"NO_RULE".into()));
    assert_eq!((&shadowed["caller"], &shadowed["degraded"]), (&"or\"ders".into(), &true.into()));
    let effect = &read[5];
    assert_eq!((&effect["effect"], &effect["outcome"]), (&"token_renewed".into(), &"unavailable".into()));
    assert_eq!((&effect["count"], &effect["for"]), (&2.into(), &serde_json::json!([hers])));
    let report = verify(folder.path());
    assert_eq!((report.records, report.broken, report.stopped), (7, None, true));
}

#[tokio::test]
async fn off_it_takes_everything_and_writes_nothing() {
    let audit = Audit::open(&Settings::default(), clock(), Metrics::new()).unwrap();
    assert!(!audit.is_on() && !audit.is_fail_closed() && audit.problem().is_none());
    let trail = audit.trail("m", "r");
    trail.subject(Whom::User, "alice");
    assert_eq!(trail.admitted("orders").await, Ok(()));
    audit.event("reload", &[]);
    stop(audit).await;
}

#[tokio::test]
async fn a_restart_continues_the_chain_and_says_how_it_ended_before() {
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 2).await;
    drop(open(&settings(folder.path())));
    // The writer of the one that was dropped still holds the file for a moment.
    until("the lock is free", || Audit::open(&settings(folder.path()), clock(), Metrics::new()).is_ok())
        .await;
    until("the third start is written", || {
        lines(&path).iter().filter(|line| line["event"] == "start").count() == 3
    })
    .await;
    let after: Vec<_> = lines(&path)
        .into_iter()
        .filter(|line| line["event"] == "start")
        .map(|line| line["after"].clone())
        .collect();
    assert_eq!(after, ["nothing", "stop", "crash"]);
    assert_eq!(verify(folder.path()).broken, None);
    assert_eq!(lines(&path).iter().filter(|line| line["kind"] == "file").count(), 1);
}

#[tokio::test]
async fn two_processes_do_not_write_to_one_file() {
    let folder = TempDir::new().unwrap();
    let first = open(&settings(folder.path()));
    let second = Audit::open(&settings(folder.path()), clock(), Metrics::new());
    assert!(matches!(second, Err(OpenError::Locked)));
    stop(first).await;
}

#[tokio::test]
async fn what_is_no_audit_file_is_refused_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    let refused =
        || Audit::open(&settings(folder.path()), clock(), Metrics::new()).err().unwrap().to_string();
    for content in ["something else\n", "{\"sea\"", "{\"seq\":1,\"but\":\"no hash\"}\nmore\n"] {
        // A beginning like ours could be a first line that a crash cut short, but such a line has no end.
        let content = content.repeat(if content.starts_with("{\"seq") { 40_000 } else { 1 });
        std::fs::write(&path, &content).unwrap();
        assert!(refused().contains("something other"), "{}", &content[..7]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(refused().contains("no regular file"));
    let nowhere = Settings {
        file: folder.path().join("no/such").to_string_lossy().into_owned(),
        ..settings(folder.path())
    };
    let error = Audit::open(&nowhere, clock(), Metrics::new()).err().unwrap().to_string();
    assert!(error.contains("folder must exist"), "{error}");
}

#[cfg(unix)]
#[tokio::test]
async fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 0).await;
    assert_eq!(std::fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn full_files_are_numbered_kept_up_to_a_number_and_chained() {
    let folder = TempDir::new().unwrap();
    let small = Settings { max_bytes: 2000, keep: 3, ..settings(folder.path()) };
    let audit = open(&small);
    for number in 0..100 {
        audit.event("reload", &[("number", &number.to_string())]);
    }
    stop(audit).await;
    let mut all = files(folder.path());
    all.sort();
    assert_eq!(all.len(), 4, "{all:?}");
    for path in &all {
        assert!(std::fs::metadata(path).unwrap().len() < 2500, "a line over the limit at the most");
        assert_eq!(lines(path)[0]["kind"], "file");
    }
    let report = verify_files(&all);
    assert_eq!((report.broken, report.files), (None, 4));
    assert!(report.first.unwrap().seq > 1, "the oldest are gone");
    let number = |path: &Path| path.extension().unwrap().to_string_lossy().parse::<u64>();
    let newest = number(&all[3]).unwrap();
    assert_eq!(number(&all[1]).unwrap() + 2, newest);

    // A restart goes on after them, even if the current file was shipped away.
    std::fs::remove_file(folder.path().join("audit.log")).unwrap();
    stop(open(&small)).await;
    let missing = verify(folder.path());
    assert_eq!(missing.broken, None, "the chain goes on from the newest that is there");
    std::fs::remove_file(&all[2]).unwrap();
    let broken = verify(folder.path()).broken.unwrap();
    assert!(broken.what.contains("a file is missing"), "{broken:?}");
}

#[tokio::test]
async fn a_new_key_begins_a_new_file_and_both_keys_verify_the_chain() {
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 3).await;
    // A crash in the middle of a line, and then another key.
    let torn = std::fs::read(&path).unwrap();
    std::fs::write(&path, &torn[..torn.len() - 10]).unwrap();
    let key = "another-key-for-tests-0123456789";
    stop(open(&Settings { key: Secret::new(key), ..settings(folder.path()) })).await;
    let all = files(folder.path());
    assert_eq!(all.len(), 2);
    let both = [Secret::new(key), Secret::new(KEY)];
    assert_eq!(Verifier::new(&both).verify(&all, None).unwrap().broken, None);
    let broken = Verifier::new([&both[0]]).verify(&all, None).unwrap().broken.unwrap();
    assert!(broken.what.contains("another key"), "{broken:?}");
    assert!(verify_files(&all).broken.unwrap().what.contains("another key"));
}

#[tokio::test]
async fn a_moved_file_is_followed_by_a_new_one_of_the_same_chain() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    let audit = open(&settings(folder.path()));
    std::fs::rename(&path, folder.path().join("audit.log.shipped")).unwrap();
    audit.event("reload", &[]);
    stop(audit).await;
    assert_eq!(verify(folder.path()).broken, None);
    assert_eq!(files(folder.path()).len(), 2);
}

#[tokio::test]
async fn a_file_that_was_replaced_is_not_written_to() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    let other = TempDir::new().unwrap();
    let foreign = written(other.path(), 3).await;
    let audit = open(&Settings { fail_closed: true, ..settings(folder.path()) });
    std::fs::copy(&foreign, folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), &path).unwrap();
    assert_eq!(audit.trail("m", "r").admitted("orders").await, Err(Unrecorded));
    assert!(audit.problem().unwrap().contains("replaced"));
    assert_eq!(std::fs::read(&path).unwrap(), std::fs::read(&foreign).unwrap());
}

#[tokio::test]
async fn fail_closed_a_call_waits_for_the_disk_and_is_refused_without_it() {
    let folder = TempDir::new().unwrap();
    let strict = Settings { fail_closed: true, ..settings(folder.path()) };
    let room = Small::of(100_000);
    let audit = Audit::open_on(room.clone(), &strict, clock(), Metrics::new()).unwrap();
    let path = folder.path().join("audit.log");
    let trail = audit.trail("m", "r1");
    trail.subject(Whom::User, "alice");
    assert_eq!(trail.admitted("orders").await, Ok(()));
    let decision = lines(&path).pop().unwrap();
    assert_eq!((&decision["kind"], &decision["decision"]), (&"decision".into(), &"allowed".into()));
    assert_eq!(decision["for"], serde_json::json!([subject_hash(&Secret::new(KEY), Whom::User, "alice")]));

    // Half a line more, and the disk is full.
    room.0.store(100, Ordering::SeqCst);
    assert_eq!(audit.trail("m", "r2").admitted("orders").await, Err(Unrecorded));
    assert!(audit.problem().unwrap().contains("cannot be written"));
    let began = std::time::Instant::now();
    assert_eq!(audit.trail("m", "r3").admitted("orders").await, Err(Unrecorded), "at once while it lasts");
    assert!(began.elapsed() < Duration::from_millis(200));
    let outcome = Outcome { code: "UNAVAILABLE", reason: Some("AUDIT_UNAVAILABLE"), took: Duration::ZERO };
    audit.trail("m", "r3").ended(Some("orders"), None, outcome);

    room.0.store(100_000, Ordering::SeqCst);
    until("there is room again", || audit.problem().is_none()).await;
    assert_eq!(audit.trail("m", "r4").admitted("orders").await, Ok(()));
    stop(audit).await;
    let report = verify(folder.path());
    assert_eq!((report.broken, report.lost), (None, 0));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"recovered\"") && text.contains("AUDIT_UNAVAILABLE") && text.contains("\"r4\""));
    // The torn half of r2 is there and covered; no whole line is of r2.
    let whole = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok());
    assert!(!whole.into_iter().any(|line| line.contains("\"r2\"")));
}

#[tokio::test]
async fn what_finds_no_room_is_counted_and_told_in_the_file() {
    let folder = TempDir::new().unwrap();
    let (audit, room, metrics) = on_a_full_disk(folder.path()).await;
    let beyond = 5000;
    // What the writer holds and what the queue holds, and more.
    for _ in 0..2 * queue::CAPACITY + beyond {
        audit.event("reload", &[]);
    }
    room.0.store(100_000_000, Ordering::SeqCst);
    until("it is written again", || audit.problem().is_none()).await;
    stop(audit).await;
    let report = verify(folder.path());
    assert_eq!(report.broken, None);
    assert!(report.lost >= beyond as u64, "{report:?}");
    let all = (1 + 2 * queue::CAPACITY + beyond) as u64;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let written = text.matches("\"event\":\"reload\"").count() as u64;
    assert_eq!(written + report.lost, all, "each is written or counted");
    assert!(metrics.render().contains(&format!("acs_broker_audit_lost_total {}", report.lost)));
    assert!(metrics.render().contains("acs_broker_audit_available 1"));
}

#[tokio::test]
async fn the_end_cut_off_is_seen_only_by_who_knows_what_was_told() {
    let folder = TempDir::new().unwrap();
    let path = written(folder.path(), 5).await;
    let whole = verify(folder.path());
    let head: Head = whole.head.parse().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let cut: String = text.lines().take(5).flat_map(|line| [line, "\n"]).collect();
    std::fs::write(&path, cut).unwrap();
    let report = verify(folder.path());
    assert_eq!((report.broken, report.records, report.stopped), (None, 5, false));
    let verifier = Verifier::new([&Secret::new(KEY)]);
    let report = verifier.verify(std::slice::from_ref(&path), Some(&head)).unwrap();
    assert!(report.broken.unwrap().what.contains("the end was cut off"));
    // Another chain with the same key, as a forger who has it would make.
    std::fs::remove_file(&path).unwrap();
    written(folder.path(), 5).await;
    let report = verifier.verify(&[path], Some(&head)).unwrap();
    assert!(report.broken.unwrap().what.contains("made anew"));
}

/// What somebody without the key may do to a file that does not end early.
#[derive(Debug, Clone)]
enum Tampering {
    Edit { line: usize, byte: usize, to: u8 },
    Remove { line: usize },
    Repeat { line: usize, at: usize },
    Swap { line: usize, other: usize },
    Insert { at: usize },
    CutBytes { line: usize, byte: usize },
}

fn tampering() -> impl Strategy<Value = Tampering> {
    prop_oneof![
        4 => (any::<usize>(), any::<usize>(), any::<u8>())
            .prop_map(|(line, byte, to)| Tampering::Edit { line, byte, to }),
        1 => any::<usize>().prop_map(|line| Tampering::Remove { line }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(line, at)| Tampering::Repeat { line, at }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(line, other)| Tampering::Swap { line, other }),
        1 => any::<usize>().prop_map(|at| Tampering::Insert { at }),
        1 => (any::<usize>(), any::<usize>()).prop_map(|(line, byte)| Tampering::CutBytes { line, byte }),
    ]
}

/// The lines after it was done to any but the last; none if it would change nothing.
fn tampered(lines: &[Vec<u8>], by: &Tampering) -> Option<Vec<Vec<u8>>> {
    let mut result = lines.to_vec();
    let inner = lines.len() - 1;
    match *by {
        Tampering::Edit { line, byte, to } => {
            let line = &mut result[line % inner];
            let byte = byte % line.len();
            line[byte] = to;
        }
        Tampering::Remove { line } => drop(result.remove(line % inner)),
        Tampering::Repeat { line, at } => result.insert(at % inner + 1, lines[line % inner].clone()),
        Tampering::Swap { line, other } => result.swap(line % inner, other % inner),
        Tampering::Insert { at } => {
            result.insert(at % inner, b"{\"seq\":3,\"time\":\"t\",\"kind\":\"event\"}".to_vec())
        }
        Tampering::CutBytes { line, byte } => {
            let line = &mut result[line % inner];
            line.truncate(byte % line.len());
        }
    }
    (result != lines).then_some(result)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_done_to_a_chain_before_its_end_is_found(by in tampering()) {
        static CHAIN: std::sync::LazyLock<Vec<Vec<u8>>> = std::sync::LazyLock::new(|| {
            let folder = TempDir::new().unwrap();
            let path = runtime().block_on(written(folder.path(), 8));
            // With a crash in the middle of it.
            let mut content = std::fs::read(&path).unwrap();
            content.truncate(content.len() - 30);
            std::fs::write(&path, content).unwrap();
            runtime().block_on(written(folder.path(), 4));
            assert_eq!(verify(folder.path()).broken, None);
            let content = std::fs::read(&path).unwrap();
            content.strip_suffix(b"\n").unwrap().split(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect()
        });
        let Some(lines) = tampered(&CHAIN, &by) else { return Ok(()) };
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("audit.log");
        let mut content = lines.join(&b'\n');
        content.push(b'\n');
        std::fs::write(&path, content).unwrap();
        let report = verify_files(&[path]);
        prop_assert!(report.broken.is_some(), "{by:?}: {report:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn a_file_torn_anywhere_is_continued_and_verifies(keep in 0usize..2600, twice in any::<bool>()) {
        let folder = TempDir::new().unwrap();
        let path = runtime().block_on(written(folder.path(), 6));
        let content = std::fs::read(&path).unwrap();
        let keep = keep.min(content.len());
        std::fs::write(&path, &content[..keep]).unwrap();
        if twice {
            // The next process ends while it closes what the first one left.
            runtime().block_on(written(folder.path(), 0));
            let again = std::fs::read(&path).unwrap();
            let cut = keep + (again.len() - keep) / 3;
            std::fs::write(&path, &again[..cut]).unwrap();
        }
        runtime().block_on(written(folder.path(), 2));
        let report = verify(folder.path());
        prop_assert_eq!(report.broken, None);
        prop_assert!(report.stopped);
    }

    #[test]
    fn a_disk_that_fills_up_anywhere_leaves_a_chain_without_a_gap(
        rooms in proptest::collection::vec(0u64..1500, 1..4), max_bytes in prop_oneof![Just(900u64), Just(1_000_000)],
    ) {
        let folder = TempDir::new().unwrap();
        let settings = Settings { max_bytes, keep: 100, ..settings(folder.path()) };
        let room = Small::of(1_000_000);
        runtime().block_on(async {
            let audit = Audit::open_on(room.clone(), &settings, clock(), Metrics::new()).unwrap();
            let mut number = 0;
            for more in rooms {
                room.0.store(more, Ordering::SeqCst);
                for _ in 0..6 {
                    audit.event("reload", &[("number", &number.to_string())]);
                    number += 1;
                }
                let left = room.clone();
                until("it is full or all is written", || {
                    audit.problem().is_some() || left.0.load(Ordering::SeqCst) < more
                }).await;
                room.0.store(1_000_000, Ordering::SeqCst);
                until("it is written again", || audit.problem().is_none()).await;
            }
            stop(audit).await;
            let mut all = files(folder.path());
            all.sort_by_key(|path| lines_of(path).first().map(|line| line["seq"].as_u64()));
            let report = verify_files(&all);
            assert_eq!((report.broken, report.lost), (None, 0));
            let numbers: Vec<_> = all
                .iter()
                .flat_map(|path| lines_of(path))
                .filter_map(|line| line["number"].as_str().map(|number| number.parse::<u32>().unwrap()))
                .collect();
            assert_eq!(numbers, (0..number).collect::<Vec<_>>(), "each once, in order");
        });
    }
}

#[test]
fn a_first_line_torn_twice_anywhere_is_in_nobodys_way_afterwards() {
    let whole = {
        let folder = TempDir::new().unwrap();
        let path = runtime().block_on(written(folder.path(), 0));
        std::fs::read(path).unwrap().iter().position(|&byte| byte == b'\n').unwrap()
    };
    for cut in (0..12).chain((12..whole).step_by(29)).chain([whole - 1, whole]) {
        let folder = TempDir::new().unwrap();
        let settings = settings(folder.path());
        for room in [cut, whole - cut] {
            let room = Small::of(u64::try_from(room).unwrap());
            assert!(Audit::open_on(room, &settings, clock(), Metrics::new()).is_err(), "no room at {cut}");
        }
        // The first finds two torn lines and begins; the second must find where that was.
        for events in [1, 2] {
            runtime().block_on(written(folder.path(), events));
        }
        let report = verify(folder.path());
        assert_eq!((report.broken, report.stopped), (None, true), "{cut}");
    }
}

#[test]
fn what_crashes_leave_in_a_full_file_and_in_the_next_is_closed_together() {
    for cut in [1, 40, 200] {
        let folder = TempDir::new().unwrap();
        let path = runtime().block_on(written(folder.path(), 2));
        let mut content = std::fs::read(&path).unwrap();
        content.truncate(content.len() - 30);
        std::fs::write(&path, content).unwrap();
        // Another key needs another file; the process ends while it writes its first line.
        let other = Secret::new("another-key-for-tests-0123456789");
        let other = Settings { key: other, ..settings(folder.path()) };
        let failed = Audit::open_on(Small::of(cut), &other, clock(), Metrics::new());
        assert!(failed.is_err(), "no room at {cut}");
        runtime().block_on(stop(open(&other)));
        let keys = [Secret::new(KEY), other.key];
        let report = Verifier::new(&keys).verify(&files(folder.path()), None).unwrap();
        assert_eq!((report.broken, report.stopped), (None, true), "{cut}");
    }
}

/// The whole lines of a file.
pub(super) fn lines_of(path: &Path) -> Vec<Value> {
    let content = std::fs::read(path).unwrap();
    content.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
