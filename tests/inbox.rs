//! The inbox page in a real browser: live with official SDKs, against hostile mail, by keyboard, on a phone.
//!
//! The programs are under `tests/inbox`; this starts an emulator for each and runs it. Chromium and the tools of
//! `make tools` must be there: without them these tests fail, for a skipped proof is no proof.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a panic here is a failed test, and figures are for whoever runs it"
)]

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{self, Settings};
use acs_broker::secret::Secret;
use tokio::process::Command;
use tokio::sync::Mutex;

const CHROMIUM: &str = "/usr/bin/chromium";
const TOKEN: &str = "a-token-for-other-machines";
/// How long one program may run.
const PATIENCE: Duration = Duration::from_secs(300);
/// One browser at a time: these tests measure.
static TURN: Mutex<()> = Mutex::const_new(());

/// The folder that `make tools` fills: `$ACS_BROKER_TOOLS`, or `.tools` beside Cargo.toml.
fn tools() -> PathBuf {
    match std::env::var_os("ACS_BROKER_TOOLS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"),
    }
}

#[track_caller]
fn assert_installed(path: &Path, advice: &str) {
    assert!(path.exists(), "{} is missing: {advice}", path.display());
}

/// Runs a program against an emulator of its own and shows what it said.
async fn run(arguments: &[&str], passes: usize) {
    run_into(arguments, passes, Path::new("")).await;
}

/// The same for a program that takes pictures.
async fn run_into(arguments: &[&str], passes: usize, pictures: &Path) {
    let _turn = TURN.lock().await;
    let node_modules = tools().join("node/node_modules");
    assert_installed(Path::new(CHROMIUM), "install Chromium");
    for package in ["playwright-core", "@azure/communication-email", "@azure/communication-sms"] {
        assert_installed(&node_modules.join(package), "run `make tools` first");
    }
    let settings = Settings { control_token: Some(Secret::new(TOKEN)), ..Settings::on_free_ports() };
    let emulator = emulator::start(settings, Arc::new(SystemClock)).await.unwrap();
    let url_of = |connection_string: &str| {
        let (endpoint, _) = connection_string.split_once("/;").unwrap();
        endpoint.strip_prefix("endpoint=").unwrap().to_owned()
    };
    let mut command = Command::new("node");
    command
        .args(arguments)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/inbox"))
        .env("ACS_CONNECTION_STRING", emulator.connection_string_tls())
        .env("NODE_EXTRA_CA_CERTS", emulator.ca_file())
        .env("EMULATOR_URL", url_of(&emulator.connection_string()))
        .env("EMULATOR_TLS_URL", url_of(&emulator.connection_string_tls()))
        .env("CONTROL_TOKEN", TOKEN)
        .env("NODE_MODULES", node_modules)
        .env("PICTURES", pictures)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    // Requests are for this machine, whatever proxy the environment names.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("the program ends in time")
        .expect("node can be started");
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    assert!(output.status.success(), "{}\n{said}", output.status);
    assert!(said.contains(&format!("pass {passes}")), "{said}");
    emulator.shutdown().await;
}

#[tokio::test]
async fn what_the_sdks_send_shows_on_the_open_page_by_itself() {
    run(&["--test", "live.test.mjs"], 3).await;
}

#[tokio::test]
async fn hostile_mail_runs_nothing_and_reaches_nothing() {
    run(&["--test", "hostile.test.mjs"], 8).await;
}

#[tokio::test]
async fn the_page_is_for_keyboards_phones_and_long_lists() {
    run(&["--test", "use.test.mjs"], 5).await;
}

/// Takes the pictures of the documentation; `UPDATE_DOCS=1 cargo test --test inbox pictures` replaces those that are kept.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_DOCS asks this test to write the files")]
async fn the_pictures_of_the_documentation_can_be_taken() {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    let elsewhere = tempfile::tempdir().unwrap();
    let replaces = std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1");
    let folder = if replaces { kept.clone() } else { elsewhere.path().to_owned() };
    run_into(&["pictures.mjs"], 4, &folder).await;
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> =
            entries.map(|entry| (entry.file_name(), entry.metadata().unwrap().len())).collect();
        names.sort();
        for (name, bytes) in &names {
            assert!(
                (20_000..250_000).contains(bytes),
                "{name:?} has {bytes} bytes: an empty page, or too large to keep"
            );
        }
        names.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names(&folder), names(&kept), "the pictures that are kept are those that are taken");
}
