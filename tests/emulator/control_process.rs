//! The emulator as its users start it: a process of its own, found through its ready file.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::control_messages::{ALICE, SENDER};
use crate::emulator_control::Control;

const PATIENCE: Duration = Duration::from_secs(30);

/// A running emulator; killed by its id when dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) folder: TempDir,
    pub(crate) places: Value,
    /// From the start of the process to its ready file.
    pub(crate) took: Duration,
}

impl Process {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let ready = folder.path().join("ready.json");
        let out = std::fs::File::create(folder.path().join("out")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        command
            .env_clear()
            .env("TMPDIR", folder.path())
            .args(["emulator", "--emulator-addr", "127.0.0.1:0", "--emulator-tls-addr", "127.0.0.1:0"])
            .arg("--ready-file")
            .arg(&ready)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(Stdio::null());
        let began = Instant::now();
        let child = command.spawn().unwrap();
        let mut process = Self { child, folder, places: Value::Null, took: Duration::ZERO };
        process.until(|| ready.exists());
        process.took = began.elapsed();
        process.places = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        process
    }

    /// What it has printed, once it has printed all.
    pub(crate) fn printed(&mut self) -> String {
        let out: PathBuf = self.folder.path().join("out");
        let read = || std::fs::read_to_string(&out).unwrap();
        self.until(|| read().contains("Stop it with Ctrl-C"));
        read()
    }

    pub(crate) fn control(&self) -> Control {
        Control::at(format!("http://{}", self.places["emulator"].as_str().unwrap()))
    }

    fn until(&mut self, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(self.child.try_wait().unwrap().is_none(), "the emulator ended");
            assert!(Instant::now() < deadline, "it never happened");
            // There is no wait for a file in the standard library.
            std::thread::park_timeout(Duration::from_micros(500));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_control_api_is_the_same_in_a_process_of_its_own() {
    let process = Process::start(&[]);
    let control = process.control();
    let before = control.status().await;
    control.receive_sms(ALICE, SENDER, "hello").await;
    let waited = control.wait(json!({ "from": ALICE }), 1, PATIENCE).await.unwrap();
    assert_eq!(waited[0].text, "hello");
    let rotated = control.rotate("primary").await;
    assert_ne!(rotated.connection_string, process.places["connection_string"].as_str().unwrap());
    control.reset().await;
    assert_eq!(control.status().await["resource"], before["resource"], "the resource outlives a reset");
    assert_eq!(control.assert(json!({}), "exactly", 0).await, Ok(0));
}

#[tokio::test]
async fn it_says_where_everything_is() {
    let mut process = Process::start(&[]);
    let places: Vec<&str> = process.places.as_object().unwrap().keys().map(String::as_str).collect();
    let wanted =
        ["ca_file", "connection_string", "connection_string_tls", "emulator", "emulator_tls", "inbox"];
    assert_eq!(places, wanted);
    let places = process.places.clone();
    let printed = process.printed();
    for place in wanted {
        assert!(printed.contains(places[place].as_str().unwrap()), "{place} is not printed:\n{printed}");
    }
    let inbox = places["inbox"].as_str().unwrap();
    let page = super::harness::client_builder().build().unwrap().get(inbox).send().await.unwrap();
    assert_eq!(
        (page.status().as_u16(), &page.headers()["content-type"]),
        (200, &"text/html; charset=utf-8".parse().unwrap())
    );
}

#[tokio::test]
async fn the_control_token_comes_from_a_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "t0ken\n").unwrap();
    let process = Process::start(&["--control-token-file", file.to_str().unwrap()]);
    let from_elsewhere = async |control: &Control| {
        control.send(control.request("GET", "status").header("host", "emulator.test")).await.status
    };
    let control = process.control();
    assert_eq!(from_elsewhere(&control).await, 401);
    assert_eq!(from_elsewhere(&control.clone().with_token("t0ken")).await, 200);
    assert_eq!(control.get("status").await.status, 200);

    std::fs::write(&file, "\n").unwrap();
    for (path, code) in [(file.as_path(), 2), (Path::new("/nowhere/token"), 1)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        let output =
            command.env_clear().args(["emulator", "--control-token-file"]).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains("--control-token-file"), "{said}");
    }
}

/// The target is 100 ms. The bound is generous, because other tests run beside this one; the best of five is what counts.
#[test]
fn it_serves_soon_after_its_start() {
    let mut took: Vec<Duration> = (0..5).map(|_| Process::start(&[]).took).collect();
    took.sort_unstable();
    eprintln!("from the start of the process to ready: {took:?}");
    assert!(took[0] < Duration::from_millis(500), "{took:?}");
}
