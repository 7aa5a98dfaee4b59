//! Starts emulators and runs the Python programs against them. Used by every test here.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{self, EmulatorHandle, Settings};
use tokio::process::Command;

/// How long one program may run.
const PATIENCE: Duration = Duration::from_secs(180);

/// The senders of the published examples beside those of the defaults.
pub(crate) fn settings() -> Settings {
    Settings {
        senders: "+18005550100, 50505, Contoso, +18001110000, +18001234567".into(),
        ..Settings::on_free_ports()
    }
}

pub(crate) async fn start(settings: Settings) -> EmulatorHandle {
    emulator::start(settings, Arc::new(SystemClock)).await.unwrap()
}

/// The folder of Microsoft's OpenAPI files, which is no part of the project: `$ACS_OPENAPI`, or beside the repository.
pub(crate) fn openapi() -> Option<PathBuf> {
    let folder = match std::env::var_os("ACS_OPENAPI") {
        Some(folder) => PathBuf::from(folder),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/acs/openapi"),
    };
    if folder.join("identity").is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED: no OpenAPI files in {}; set ACS_OPENAPI to judge by the published ones",
        folder.display()
    );
    None
}

pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator_wire")
}

/// One of the programs, to be run with the Python of `make tools`.
pub(crate) fn program(name: &str) -> Command {
    let tools = match std::env::var_os("ACS_BROKER_TOOLS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"),
    };
    let python = tools.join("python/bin/python3");
    assert!(python.exists(), "{} is missing: run `make tools` first", python.display());
    let mut command = Command::new(python);
    command.arg("-B").arg(programs().join(name)).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs a program to its end and gives what it printed; shows it when the program is not satisfied.
pub(crate) async fn run(mut command: Command) -> String {
    let output = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("the program ends in time")
        .expect("the program starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{complained}", output.status);
    eprintln!("{said}{complained}");
    said
}
