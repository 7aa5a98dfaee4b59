//! Changing the ACS key under load: three broker processes on one Redis, the keys in files as Kubernetes mounts them.
//!
//! The emulator is asked about every token that was served. The figures are printed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{self, AccessKey, EmulatorHandle, TokenState};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use crate::emulator_control::Control;
use crate::harness::messages::reason;
use crate::harness::{BrokerProcess, chat};
use crate::redis_server::RedisServer;

const REPLICAS: usize = 3;
const SENDERS: usize = 30;
const PER_SECOND: u64 = 500;
const USERS: u64 = 120;

/// The two files with connection strings.
struct Files(TempDir);

impl Files {
    fn new(first: &str, second: &str) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write(first, second);
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Each file is replaced in one step, as the kubelet does it.
    fn write(&self, first: &str, second: &str) {
        for (name, text) in [("first", first), ("second", second)] {
            let new = self.path("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(new, self.path(name)).unwrap();
        }
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        let path = |name: &str| self.path(name).to_str().unwrap().to_owned();
        [
            ("ACS__CONNECTION_STRING_FILE", path("first")),
            ("ACS__SECONDARY_CONNECTION_STRING_FILE", path("second")),
        ]
    }
}

struct Fleet {
    acs: EmulatorHandle,
    control: Control,
    files: Files,
    brokers: Vec<BrokerProcess>,
    _redis: RedisServer,
}

impl Fleet {
    async fn start(replicas: usize) -> Self {
        let settings = emulator::Settings::on_free_ports();
        let acs = emulator::start(settings, Arc::new(SystemClock)).await.unwrap();
        let first = acs.connection_string();
        let files = Files::new(&first, &acs.connection_string_with(AccessKey::Secondary));
        let base = first.split(['=', ';']).nth(1).unwrap().trim_end_matches('/').to_owned();
        let redis = RedisServer::start();
        let url = redis.url();
        let mut brokers = Vec::new();
        for _ in 0..replicas {
            let files = files.settings();
            let mut settings = vec![
                ("STORE__BACKEND", "redis"),
                ("STORE__REDIS__URL", url.as_str()),
                ("STORE__REDIS__TIMEOUT", "5s"),
                ("ACS__REISSUE_PER_SECOND", "200"),
                ("SERVER__DEFAULT_DEADLINE", "30s"),
            ];
            settings.extend(files.iter().map(|(key, value)| (*key, value.as_str())));
            brokers.push(BrokerProcess::start("", &settings).await);
        }
        Self { acs, control: Control::at(base), files, brokers, _redis: redis }
    }

    /// Waits until every replica's page of the rotation is as it should be.
    async fn all(&self, what: &str, is: impl Fn(&Value) -> bool) -> Duration {
        let began = Instant::now();
        loop {
            let mut pages = Vec::new();
            for broker in &self.brokers {
                pages.push(broker.admin_page("/rotation").await);
            }
            if pages.iter().all(&is) {
                return began.elapsed();
            }
            assert!(began.elapsed() < Duration::from_secs(120), "{what}: {pages:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Every call of ACS, collected while it grows: the log is shown newest first, in pages of a thousand.
struct Log {
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<Vec<Value>>,
}

impl Log {
    fn collect(control: &Control) -> Self {
        let (stop, control) = (Arc::new(AtomicBool::new(false)), control.clone());
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let (mut calls, mut after) = (Vec::new(), 0);
            loop {
                let last = stopped.load(Ordering::Relaxed);
                let page = control.call_log(after).await;
                assert!(page.len() < 1000, "the log is looked at before it is too long");
                after = page.first().map_or(after, |call| call["number"].as_u64().unwrap());
                calls.extend(page.into_iter().rev());
                if last {
                    return calls;
                }
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        });
        Self { stop, task }
    }

    async fn end(self) -> Vec<Value> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap()
    }
}

/// A token as it was served.
struct Served {
    asked: Instant,
    token: String,
}

/// What the load came to.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<Mutex<Vec<Served>>>,
    failed: Arc<Mutex<Vec<String>>>,
    senders: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    /// Five hundred requests a second over all replicas. One in `new_in` is for a user who has never been seen.
    async fn start(fleet: &Fleet, new_in: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (number, served, failed) = (Arc::new(AtomicU64::new(0)), Arc::default(), Arc::default());
        let mut senders = Vec::new();
        for sender in 0..SENDERS {
            let mut client = fleet.brokers[sender % REPLICAS].tokens().await;
            let (stop, number) = (Arc::clone(&stop), Arc::clone(&number));
            let served: Arc<Mutex<Vec<Served>>> = Arc::clone(&served);
            let failed: Arc<Mutex<Vec<String>>> = Arc::clone(&failed);
            senders.push(tokio::spawn(async move {
                let apart = Duration::from_millis(1000 * SENDERS as u64 / PER_SECOND);
                let mut tick = tokio::time::interval(apart);
                while !stop.load(Ordering::Relaxed) {
                    tick.tick().await;
                    let number = number.fetch_add(1, Ordering::Relaxed);
                    let user = if number.is_multiple_of(new_in) { USERS + number } else { number % USERS };
                    let asked = Instant::now();
                    match client.issue_token(chat(&format!("user-{user}"))).await {
                        Ok(answer) => {
                            let token = answer.into_inner().token;
                            served.lock().unwrap().push(Served { asked, token });
                        }
                        Err(status) => {
                            let what = format!("{:?} {}", status.code(), reason(&status));
                            failed.lock().unwrap().push(what);
                        }
                    }
                }
            }));
        }
        Self { stop, served, failed, senders }
    }

    /// How many of the tokens that were asked for since `from` are dead, and how many there are.
    fn dead(&self, acs: &EmulatorHandle, from: Instant) -> (usize, usize) {
        let served = self.served.lock().unwrap();
        let since = served.iter().filter(|one| one.asked >= from);
        let tokens: BTreeSet<_> = since.map(|one| one.token.as_str()).collect();
        let dead = tokens.iter().filter(|token| !matches!(acs.token_state(token), TokenState::Valid { .. }));
        (dead.count(), tokens.len())
    }

    /// Ends it, and says how many were served and what failed.
    async fn end(&mut self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for sender in self.senders.drain(..) {
            sender.await.unwrap();
        }
        (self.served.lock().unwrap().len(), self.failed.lock().unwrap().clone())
    }
}

/// The calls that ACS refused for their key: work, and probes.
fn refused(log: &[Value]) -> (usize, usize) {
    let denied = log.iter().filter(|call| call["status"] == 401 && call["by"].is_null());
    let (work, probes): (Vec<_>, Vec<_>) = denied.partition(|call| is_work(call));
    (work.len(), probes.len())
}

/// Whether the call is work and no probe.
fn is_work(call: &Value) -> bool {
    let operation = call["operation"].as_str().unwrap_or_default();
    ["create_identity", "issue_token", "revoke_tokens", "delete_identity"].contains(&operation)
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_at_500_requests_a_second_without_a_failed_call_or_a_dead_token() {
    let fleet = Fleet::start(REPLICAS).await;
    let acs = &fleet.acs;
    let (primary, secondary) = (acs.connection_string(), acs.connection_string_with(AccessKey::Secondary));
    let (log, began) = (Log::collect(&fleet.control), Instant::now());
    let mut load = Load::start(&fleet, 50).await;
    tokio::time::sleep(Duration::from_secs(3)).await;

    // Primary to secondary, and to the new primary.
    let mut first = primary;
    let mut other = secondary;
    for (goes, new) in
        [(AccessKey::Primary, AccessKey::Primary), (AccessKey::Secondary, AccessKey::Secondary)]
    {
        let before = fleet.brokers[0].admin_page("/rotation").await["key_in_use"].clone();
        fleet.files.write(&other, &first);
        let took = fleet.all("the keys have changed", |page| page["key_in_use"] != before).await;
        let safe = fleet.all("it is safe", |page| page["safe_to_regenerate_other_key"] == true).await;
        acs.rotate_key(goes);
        let gone = Instant::now();
        println!("{goes:?}: the other key in use everywhere after {took:?}, safe {safe:?} later");
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (dead, tokens) = load.dead(acs, gone);
        println!("{dead} of {tokens} tokens served after that are dead");
        assert_eq!(dead, 0);
        let again = acs.connection_string_with(new);
        assert_ne!(again, first, "a new key");
        (first, other) = (other, again);
    }
    let (served, failed) = load.end().await;
    let rate = served as f64 / began.elapsed().as_secs_f64();
    let (work, probes) = refused(&log.end().await);
    println!(
        "{served} served, {rate:.0}/s, {} failed; {work} calls and {probes} probes refused",
        failed.len()
    );
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(work, 0, "no request met a dead key");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_regenerated_without_notice_fails_no_call() {
    let fleet = Fleet::start(REPLICAS).await;
    let acs = &fleet.acs;
    let log = Log::collect(&fleet.control);
    // Every fifth request needs ACS.
    let mut load = Load::start(&fleet, 5).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let before = fleet.brokers[0].admin_page("/rotation").await["key_in_use"].clone();
    acs.rotate_key(AccessKey::Primary);
    let took = fleet.all("the keys have changed", |page| page["key_in_use"] != before).await;
    let changed = Instant::now();
    tokio::time::sleep(Duration::from_secs(4)).await;
    let (dead, tokens) = load.dead(acs, changed);
    let (served, failed) = load.end().await;
    let log = log.end().await;
    let (work, probes) = refused(&log);
    println!("changed everywhere after {took:?}; {served} served, {} failed", failed.len());
    println!(
        "{dead} of {tokens} tokens served after that are dead; {work} calls and {probes} probes refused"
    );
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(dead, 0);
    assert!(probes <= REPLICAS, "each replica finds out once");
    for broker in &fleet.brokers {
        let page = broker.admin_page("/readyz").await;
        assert_eq!(page["notes"][0]["code"], "acs_key", "{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_wrong_keys_are_told_within_ten_seconds_and_probed_once_in_ten() {
    let fleet = Fleet::start(1).await;
    let (acs, broker) = (&fleet.acs, &fleet.brokers[0]);
    let log = Log::collect(&fleet.control);
    let mut client = broker.tokens().await;
    client.issue_token(chat("alice")).await.unwrap();
    for key in [AccessKey::Primary, AccessKey::Secondary] {
        acs.rotate_key(key);
    }
    let began = Instant::now();
    let told = loop {
        let page = broker.admin_page("/readyz").await;
        if page["notes"][0]["code"] == "acs_credential" {
            break began.elapsed();
        }
        assert!(began.elapsed() < Duration::from_secs(20), "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    // Nobody called: it was noticed all the same.
    println!("/readyz told it after {told:?}");
    assert!(told < Duration::from_secs(10), "{told:?}");
    let mut slowest = Duration::ZERO;
    for number in 0..50 {
        let asked = Instant::now();
        let status = client.issue_token(chat(&format!("new-{number}"))).await.unwrap_err();
        assert_eq!(reason(&status), "ACS_CREDENTIALS_REFUSED");
        slowest = slowest.max(asked.elapsed());
    }
    tokio::time::sleep(Duration::from_secs(32)).await;
    // A good key in the file mends it without a restart.
    fleet.files.write(&acs.connection_string(), &acs.connection_string_with(AccessKey::Secondary));
    let mended = Instant::now();
    while client.issue_token(chat("bob")).await.is_err() {
        assert!(mended.elapsed() < Duration::from_secs(20));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("slowest refusal {slowest:?}; a good key was taken after {:?}", mended.elapsed());
    let log = log.end().await;
    let denied: Vec<_> = log.iter().filter(|call| call["status"] == 401 && call["by"].is_null()).collect();
    let at: Vec<_> = denied.iter().map(|call| call["at"].as_u64().unwrap()).collect();
    let apart: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    println!("refused calls and the milliseconds between them: {} {apart:?}", at.len());
    assert!(denied.iter().all(|call| !is_work(call)), "not one request was sent in vain: {denied:?}");
    // The two that found it out are together.
    assert!(apart[1..].iter().all(|apart| *apart >= 9_900), "{apart:?}");
    assert!((4..=5).contains(&at.len()), "{apart:?}");
}
