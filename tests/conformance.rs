//! The official SDKs, unmodified, judge the emulator: over HTTPS, trusting it through its CA file alone.
//!
//! The programs are `tests/conformance/python` and `tests/conformance/node`; this starts an emulator and runs them.
//! The SDKs are installed by `make tools`; without them these tests fail, for a skipped judge is no judge.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{self, Operation, Settings};
use tokio::process::Command;

/// How long one SDK's programs may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// The folder that `make tools` fills: `$ACS_BROKER_TOOLS`, or `.tools` beside Cargo.toml.
fn tools() -> PathBuf {
    match std::env::var_os("ACS_BROKER_TOOLS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"),
    }
}

fn programs(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(folder)
}

#[track_caller]
fn assert_installed(path: &Path) {
    assert!(path.exists(), "{} is missing: run `make tools` first", path.display());
}

/// Runs a judge to its end and shows what it said when it is not satisfied.
async fn run(mut command: Command) -> String {
    // Requests are for this machine, whatever proxy the environment names.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("the SDK's programs end in time")
        .expect("the SDK's programs start");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{said}", output.status);
    said
}

#[tokio::test]
async fn the_official_python_sdk_is_satisfied() {
    let python = tools().join("python/bin/python3");
    assert_installed(&python);
    let emulator = emulator::start(Settings::on_free_ports(), Arc::new(SystemClock)).await.unwrap();
    let mut command = Command::new(python);
    command
        .args(["-B", "-m", "unittest", "-v"])
        .current_dir(programs("python"))
        .env("ACS_CONNECTION_STRING", emulator.connection_string_tls())
        .env("REQUESTS_CA_BUNDLE", emulator.ca_file());
    let said = run(command).await;
    assert!(said.contains("Ran 12 tests"), "{said}");
    assert!(emulator.successes(Operation::IssueToken) >= 10, "it was this emulator that they talked to");
    emulator.shutdown().await;
}

#[tokio::test]
async fn the_official_javascript_sdk_is_satisfied() {
    let node_modules = tools().join("node/node_modules");
    assert_installed(&node_modules.join("@azure/communication-identity"));
    let emulator = emulator::start(Settings::on_free_ports(), Arc::new(SystemClock)).await.unwrap();
    let mut command = Command::new("node");
    command
        .args(["--test", "identity.test.js"])
        .current_dir(programs("node"))
        .env("ACS_CONNECTION_STRING", emulator.connection_string_tls())
        .env("NODE_EXTRA_CA_CERTS", emulator.ca_file())
        .env("NODE_MODULES", node_modules);
    let said = run(command).await;
    assert!(said.contains("pass 21"), "{said}");
    assert!(emulator.successes(Operation::IssueToken) >= 20, "it was this emulator that they talked to");
    emulator.shutdown().await;
}
