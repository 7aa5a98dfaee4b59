//! Every command that the emulator prints works when it is pasted into a shell.
//!
//! The official SDKs are installed by `make tools`; without them this fails.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;

use super::control_process::Process;

/// How long one command may take; a mail is polled for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The folder that `make tools` fills: `$ACS_BROKER_TOOLS`, or `.tools` beside Cargo.toml.
fn tools() -> PathBuf {
    match std::env::var_os("ACS_BROKER_TOOLS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"),
    }
}

async fn paste(command: &str) -> String {
    let (python, node_modules) = (tools().join("python/bin"), tools().join("node/node_modules"));
    for path in [&python, &node_modules] {
        assert!(path.exists(), "{} is missing: run `make tools` first", path.display());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([python].into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env_clear().env("PATH", path).env("NODE_PATH", node_modules);
    shell.stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, shell.output()).await.expect("it ends in time").unwrap();
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success(), "{command}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
    said
}

async fn every_command_works(language: &str, starts_with: &str) {
    let mut process = Process::start(&[]);
    let control = process.control();
    let printed = process.printed();
    let commands: Vec<&str> =
        printed.lines().map(str::trim).filter(|line| line.starts_with(starts_with)).collect();
    assert_eq!(commands.len(), 4, "{printed}");
    for (kind, command) in ["identity", "sms", "email", "chat"].into_iter().zip(commands) {
        let said = paste(command).await;
        if kind == "identity" {
            assert_eq!(control.identities().await["ids"], json!([said]));
            continue;
        }
        let wanted = json!({ "kind": kind, "contains": format!("Hello from {language}") });
        let arrived = control.wait(wanted, 1, PATIENCE).await.unwrap();
        assert!(!said.is_empty() && arrived[0].id.ends_with(&said), "{kind}: {said}, {}", arrived[0].id);
    }
}

#[tokio::test]
async fn every_python_command_works() {
    every_command_works("Python", "REQUESTS_CA_BUNDLE=").await;
}

#[tokio::test]
async fn every_javascript_command_works() {
    every_command_works("JavaScript", "NODE_EXTRA_CA_CERTS=").await;
}
