//! The official SDKs, unmodified, judge the emulator: over HTTPS, trusting it through its CA file alone.
//!
//! The programs are `tests/conformance/python` and `tests/conformance/node`; this starts an emulator for each, runs it,
//! and holds it to the exact number of its cases and to having talked to that emulator. What they called is
//! docs/emulator-sdks.md. The SDKs are installed by `make tools`; without them these tests fail, for a skipped judge is
//! no judge.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

#[path = "conformance/table.rs"]
mod table;

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{self, EmulatorHandle, Operation, Settings};
use tokio::process::Command;
use tokio::sync::{OnceCell, Semaphore};

/// How long one program may run.
const PATIENCE: Duration = Duration::from_secs(120);

/// Programs that run at the same time: they wait most of the time.
static TURNS: Semaphore = Semaphore::const_new(6);

/// What runs a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Language {
    Python,
    Node,
}

/// The cases of one service in one language.
struct Program {
    language: Language,
    /// `sms` is `test_sms*.py` or `sms.test.js`.
    name: &'static str,
    /// How many cases it has: one that is not found is not missed otherwise.
    cases: usize,
    /// Operations that it carries out, and how often at the least.
    does: &'static [(Operation, u64)],
    verdict: OnceCell<Result<table::Report, String>>,
}

impl Program {
    const fn new(
        language: Language,
        name: &'static str,
        cases: usize,
        does: &'static [(Operation, u64)],
    ) -> Self {
        Self { language, name, cases, does, verdict: OnceCell::const_new() }
    }
}

const IDENTITY: &[(Operation, u64)] = &[
    (Operation::CreateIdentity, 20),
    (Operation::IssueToken, 10),
    (Operation::RevokeTokens, 2),
    (Operation::DeleteIdentity, 2),
];
const SMS: &[(Operation, u64)] = &[(Operation::SendSms, 10)];
const EMAIL: &[(Operation, u64)] = &[(Operation::SendEmail, 10), (Operation::GetEmailOperation, 10)];
const CHAT: &[(Operation, u64)] = &[
    (Operation::CreateThread, 40),
    (Operation::ListThreads, 5),
    (Operation::GetThread, 5),
    (Operation::UpdateThread, 2),
    (Operation::DeleteThread, 2),
    (Operation::ListParticipants, 5),
    (Operation::AddParticipants, 5),
    (Operation::RemoveParticipant, 2),
    (Operation::SendMessage, 30),
    (Operation::ListMessages, 5),
    (Operation::GetMessage, 5),
    (Operation::UpdateMessage, 1),
    (Operation::DeleteMessage, 1),
    (Operation::ListReadReceipts, 3),
    (Operation::SendReadReceipt, 3),
    (Operation::SendTyping, 1),
];
const COMMON: &[(Operation, u64)] =
    &[(Operation::IssueToken, 60), (Operation::ListThreads, 700), (Operation::GetIdentity, 2)];

const ENTRA: &[(Operation, u64)] =
    &[(Operation::CreateIdentity, 4), (Operation::IssueToken, 4), (Operation::DeleteIdentity, 4)];

/// Those that take longest begin first.
static PROGRAMS: [Program; 11] = [
    Program::new(Language::Python, "email", 42, EMAIL),
    Program::new(Language::Python, "chat", 104, CHAT),
    Program::new(Language::Node, "email", 18, EMAIL),
    Program::new(Language::Node, "common", 23, COMMON),
    Program::new(Language::Python, "identity", 48, IDENTITY),
    Program::new(Language::Node, "chat", 52, CHAT),
    Program::new(Language::Node, "identity", 31, IDENTITY),
    Program::new(Language::Python, "sms", 40, SMS),
    Program::new(Language::Node, "sms", 20, SMS),
    Program::new(Language::Python, "entra", 10, ENTRA),
    Program::new(Language::Node, "entra", 15, ENTRA),
];

/// The folder that `make tools` fills: `$ACS_BROKER_TOOLS`, or `.tools` beside Cargo.toml.
fn tools() -> PathBuf {
    match std::env::var_os("ACS_BROKER_TOOLS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"),
    }
}

fn folder(language: Language) -> PathBuf {
    let name = match language {
        Language::Python => "python",
        Language::Node => "node",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance").join(name)
}

fn installed(path: PathBuf) -> Result<PathBuf, String> {
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run `make tools` first", path.display()))
    }
}

/// The command that runs a program, with all that it is told.
fn command(program: &Program, emulator: &EmulatorHandle, results: &Path) -> Result<Command, String> {
    let mut command = match program.language {
        Language::Python => {
            let mut command = Command::new(installed(tools().join("python/bin/python3"))?);
            command.args(["-B", "run.py", program.name]);
            command
        }
        Language::Node => {
            let mut command = Command::new("node");
            command.args(["--test", "--test-reporter=tap", &format!("{}.test.js", program.name)]);
            command.env("NODE_MODULES", installed(tools().join("node/node_modules"))?);
            command
        }
    };
    // Requests are for this machine, whatever proxy the environment names.
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(name);
    }
    // Each SDK has its own way to be told of a CA; none is told in any other way.
    for name in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        command.env(name, emulator.ca_file());
    }
    command
        .current_dir(folder(program.language))
        .env("ACS_CONNECTION_STRING", emulator.connection_string_tls())
        .env("ACS_EMULATOR_HTTP", format!("http://{}", emulator.http_addr()))
        .env("ACS_EMULATOR_HTTPS", format!("https://{}", emulator.tls_addr()))
        .env("CONFORMANCE_RESULTS", results)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    Ok(command)
}

/// Runs a program against an emulator of its own.
async fn judge(program: &Program) -> Result<table::Report, String> {
    let emulator = emulator::start(Settings::on_free_ports(), Arc::new(SystemClock)).await.unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let results = scratch.path().join("results.json");
    let running = command(program, &emulator, &results)?.output();
    let output = tokio::time::timeout(PATIENCE, running)
        .await
        .map_err(|_| "it did not end in time".to_owned())?
        .map_err(|error| format!("it did not start: {error}"))?;
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if !output.status.success() {
        return Err(format!("{}\n{said}", output.status));
    }
    if ran(program.language, &said) != Some(program.cases) {
        return Err(format!("it has {} cases, all of which must run:\n{said}", program.cases));
    }
    for (operation, least) in program.does {
        let seen = emulator.successes(*operation);
        if seen < *least {
            return Err(format!("this emulator carried out {} {seen} times only", operation.name()));
        }
    }
    emulator.shutdown().await;
    std::fs::read_to_string(results).map_or_else(|_| Ok(Vec::new()), |text| table::read(&text))
}

/// How many cases ran and passed; `None` unless that was all of them.
fn ran(language: Language, said: &str) -> Option<usize> {
    let number = |before: &str| {
        let line = said.lines().find(|line| line.starts_with(before))?;
        line[before.len()..].split_whitespace().next()?.parse().ok()
    };
    match language {
        Language::Python => number("Ran ").filter(|_| said.lines().any(|line| line == "OK")),
        Language::Node => {
            let others = ["# fail ", "# cancelled ", "# skipped ", "# todo "];
            number("# pass ").filter(|_| others.iter().all(|other| number(other) == Some(0)))
        }
    }
}

/// What a program says; it runs once, however many tests ask.
async fn verdict(program: &'static Program) -> &'static Result<table::Report, String> {
    let judged = async {
        let _turn = TURNS.acquire().await;
        judge(program).await
    };
    program.verdict.get_or_init(|| judged).await
}

async fn is_satisfied(language: Language, name: &str) {
    let program = PROGRAMS.iter().find(|each| each.language == language && each.name == name);
    if let Err(problem) = verdict(program.expect("there is such a program")).await {
        panic!("{language:?}, {name}: {problem}");
    }
}

#[tokio::test]
async fn the_python_sdk_for_identity_is_satisfied() {
    is_satisfied(Language::Python, "identity").await;
}

#[tokio::test]
async fn the_python_sdk_for_sms_is_satisfied() {
    is_satisfied(Language::Python, "sms").await;
}

#[tokio::test]
async fn the_python_sdk_for_email_is_satisfied() {
    is_satisfied(Language::Python, "email").await;
}

#[tokio::test]
async fn the_python_sdk_for_chat_is_satisfied() {
    is_satisfied(Language::Python, "chat").await;
}

#[tokio::test]
async fn the_python_library_for_entra_is_satisfied() {
    is_satisfied(Language::Python, "entra").await;
}

#[tokio::test]
async fn the_javascript_library_for_entra_is_satisfied() {
    is_satisfied(Language::Node, "entra").await;
}

#[tokio::test]
async fn the_javascript_sdk_for_identity_is_satisfied() {
    is_satisfied(Language::Node, "identity").await;
}

#[tokio::test]
async fn the_javascript_sdk_for_sms_is_satisfied() {
    is_satisfied(Language::Node, "sms").await;
}

#[tokio::test]
async fn the_javascript_sdk_for_email_is_satisfied() {
    is_satisfied(Language::Node, "email").await;
}

#[tokio::test]
async fn the_javascript_sdk_for_chat_is_satisfied() {
    is_satisfied(Language::Node, "chat").await;
}

#[tokio::test]
async fn what_the_javascript_sdks_have_in_common_is_satisfied() {
    is_satisfied(Language::Node, "common").await;
}

#[test]
fn every_program_in_the_folders_is_run() {
    for language in [Language::Python, Language::Node] {
        for entry in std::fs::read_dir(folder(language)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let is_run =
                PROGRAMS.iter().filter(|each| each.language == language).any(|each| match language {
                    Language::Python => file.starts_with(&format!("test_{}", each.name)),
                    Language::Node => file == format!("{}.test.js", each.name),
                });
            let is_program = file.starts_with("test_") || file.ends_with(".test.js");
            assert!(is_run || !is_program, "nothing runs {file}");
        }
    }
}

#[tokio::test]
async fn the_page_of_sdks_says_what_was_called() {
    // All of them at once, for they wait most of the time.
    let all = futures_util::future::join_all(PROGRAMS.iter().map(verdict)).await;
    let mut reports = Vec::new();
    for (program, verdict) in PROGRAMS.iter().zip(all) {
        match verdict {
            Ok(report) => reports.extend_from_slice(report),
            Err(_) => panic!("{:?}, {} is not satisfied: see its own test", program.language, program.name),
        }
    }
    table::compare(&table::page(reports));
}

#[test]
fn cases_are_counted_only_if_all_of_them_passed() {
    let node = "# pass 21\n# fail 0\n# cancelled 0\n# skipped 0\n# todo 0\n";
    assert_eq!(ran(Language::Node, node), Some(21));
    assert_eq!(ran(Language::Node, &node.replace("# skipped 0", "# skipped 1")), None);
    assert_eq!(ran(Language::Python, "Ran 12 tests in 1.2s\n\nOK\n"), Some(12));
    assert_eq!(ran(Language::Python, "Ran 12 tests in 1.2s\n\nOK (skipped=1)\n"), None);
}
