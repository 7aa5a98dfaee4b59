//! Certificates, keys and authorities that change under a running process, in the files it follows, with callers on it.
//!
//! The real binary, and calls at a steady pace over connections that stay and over new ones each moment.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acs_broker::grpc::proto::v1;
use tempfile::TempDir;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use v1::token_service_client::TokenServiceClient;

use crate::certificates::{Authority, Pair, channel};
use crate::harness::{chat, emulator_process, until};
use crate::redis_server::free_port;

const ORDERS: &str = "spiffe://corp/ns/shop/sa/orders";
const CALLERS: usize = 6;

struct Process {
    child: Child,
    folder: TempDir,
    address: std::net::SocketAddr,
    admin: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    fn start(connection_string: &str, authority: &Authority) -> Self {
        let (folder, port, admin) = (TempDir::new().unwrap(), free_port(), free_port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        command.env_clear().arg("serve").stdin(Stdio::null()).current_dir(folder.path());
        for (key, value) in [
            ("SERVER__ADDRESS", format!("127.0.0.1:{port}")),
            ("ADMIN__ADDRESS", format!("127.0.0.1:{admin}")),
            ("SERVER__TLS__CERT_FILE", "tls.crt".into()),
            ("SERVER__TLS__KEY_FILE", "tls.key".into()),
            ("SERVER__TLS__CLIENT_CA_FILE", "ca.crt".into()),
            ("ACS__CONNECTION_STRING", connection_string.into()),
        ] {
            command.env(format!("ACS_BROKER__{key}"), value);
        }
        write(&folder, &authority.server(), &authority.pem);
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command.stderr(log.try_clone().unwrap()).stdout(log).spawn().unwrap();
        Self { child, folder, address: ([127, 0, 0, 1], port).into(), admin }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Puts other files there and waits until the process has read them.
    async fn rotate(&self, server: &Pair, authorities: &str) {
        let before = self.count("acs_broker_reloads_total{what=\"tls\",outcome=\"ok\"}").await;
        write(&self.folder, server, authorities);
        until("the files are read", async || {
            self.count("acs_broker_reloads_total{what=\"tls\",outcome=\"ok\"}").await > before
        })
        .await;
    }

    async fn count(&self, name: &str) -> u64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.admin);
        let text = match reqwest::get(url).await {
            Ok(answer) => answer.text().await.unwrap(),
            Err(_) => return 0,
        };
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

/// All at once, as Kubernetes does: by one link that is pointed elsewhere.
fn write(folder: &TempDir, server: &Pair, authorities: &str) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let versions = format!("version-{number}");
    let new = folder.path().join(&versions);
    std::fs::create_dir(&new).unwrap();
    for (name, text) in [("tls.crt", server.cert.as_str()), ("tls.key", &server.key), ("ca.crt", authorities)]
    {
        std::fs::write(new.join(name), text).unwrap();
        let link = folder.path().join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(format!("current/{name}"), link).unwrap();
        }
    }
    let (next, current) = (folder.path().join(format!("next-{number}")), folder.path().join("current"));
    std::os::unix::fs::symlink(versions, &next).unwrap();
    std::fs::rename(next, current).unwrap();
}

/// What clients trust and show from now on.
struct Shown {
    trusted: String,
    pair: Pair,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_under_load_fail_no_request() {
    const ROTATIONS: usize = 3;
    let _ = rustls::crypto::ring::default_provider().install_default();
    let emulator = emulator_process().await;
    let mut authority = Authority::new("first");
    let process = Process::start(&emulator.connection_string, &authority);
    let connect = |shown: &Shown, address| channel(address, &shown.trusted, Some(&shown.pair));
    let first = Shown { trusted: authority.pem.clone(), pair: authority.client(ORDERS) };
    let ask = async |channel: Channel| TokenServiceClient::new(channel).issue_token(chat("alice")).await;
    until("it serves", async || ask(connect(&first, process.address)).await.is_ok()).await;

    let shown = Arc::new(tokio::sync::watch::Sender::new(first));
    let (asked, moved) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    let began = Instant::now();
    for caller in 0..CALLERS {
        let (mut shown, stop, address) = (shown.subscribe(), stop.clone(), process.address);
        let (asked, moved) = (asked.clone(), moved.clone());
        callers.spawn(async move {
            let mut kept = connect(&shown.borrow_and_update(), address);
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !stop.is_cancelled() {
                pace.tick().await;
                let changed = shown.has_changed().unwrap();
                // One of them connects anew for each call, the others when there is something else to show.
                if changed || caller == 0 {
                    kept = connect(&shown.borrow_and_update(), address);
                }
                let answer = TokenServiceClient::new(kept.clone()).issue_token(chat("alice")).await;
                answer.expect("no request fails");
                asked.fetch_add(1, Ordering::Relaxed);
                moved.fetch_add(changed.into(), Ordering::Relaxed);
            }
        });
    }
    let all_move = async |next: Shown| {
        let before = moved.load(Ordering::Relaxed);
        shown.send_replace(next);
        until("all callers have moved", async || moved.load(Ordering::Relaxed) == before + CALLERS).await;
    };
    for _ in 0..ROTATIONS {
        let new = Authority::new("next");
        let (both, server) = (format!("{}{}", authority.pem, new.pem), authority.server());
        // The order of docs/operations.md: trust both, then show the new, then forget the old.
        process.rotate(&server, &both).await;
        all_move(Shown { trusted: both.clone(), pair: authority.client(ORDERS) }).await;
        process.rotate(&new.server(), &both).await;
        all_move(Shown { trusted: new.pem.clone(), pair: new.client(ORDERS) }).await;
        process.rotate(&new.server(), &new.pem).await;
        authority = new;
    }
    let then = asked.load(Ordering::Relaxed);
    until("calls go on", async || asked.load(Ordering::Relaxed) > then + 100).await;
    stop.cancel();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
    let (asked, took) = (asked.load(Ordering::Relaxed), began.elapsed());
    println!("{} changes of files, {asked} requests in {took:?}, 0 failed", 3 * ROTATIONS);
    let log = process.log();
    assert!(!log.contains("PRIVATE KEY"), "a key in the log");
}
