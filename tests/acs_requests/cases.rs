//! The cases: our own, and the published examples where their folder is. Both have the published form: parameters by
//! name, the body among them. Changes nothing; `judged` drives the client with them.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// What one operation is to be called with.
pub(crate) struct Case {
    pub name: String,
    pub operation: String,
    pub published: bool,
    pub parameters: Value,
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of Microsoft's OpenAPI files, which is no part of the project: `$ACS_OPENAPI`, or beside the repository.
pub(crate) fn openapi() -> Option<PathBuf> {
    let folder = match std::env::var_os("ACS_OPENAPI") {
        Some(folder) => PathBuf::from(folder),
        None => root().join("../shared/acs/openapi"),
    };
    if folder.join("identity").is_dir() {
        return Some(folder);
    }
    eprintln!(
        "SKIPPED the published examples: no OpenAPI files in {}; set ACS_OPENAPI to compare with them",
        folder.display()
    );
    None
}

/// Our own cases, then the published examples of the operations that the client has.
pub(crate) fn all() -> Vec<Case> {
    let written = read(&root().join("tests/fixtures/acs/requests.json"));
    let own = written["cases"].as_array().unwrap().iter().map(|case| Case {
        name: case["name"].as_str().unwrap().to_owned(),
        operation: case["operation"].as_str().unwrap().to_owned(),
        published: false,
        parameters: case["parameters"].clone(),
    });
    let mut cases: Vec<Case> = own.collect();
    if let Some(folder) = openapi() {
        for (example, operation) in written["published"].as_object().unwrap() {
            cases.push(Case {
                name: example.clone(),
                operation: operation.as_str().unwrap().to_owned(),
                published: true,
                parameters: read(&folder.join(example))["parameters"].clone(),
            });
        }
    }
    cases
}

/// The judge, to be run with the Python of `make tools`.
pub(crate) fn judge() -> tokio::process::Command {
    let tools = std::env::var_os("ACS_BROKER_TOOLS").map_or_else(|| root().join(".tools"), PathBuf::from);
    let python = tools.join("python/bin/python3");
    assert!(python.exists(), "{} is missing: run `make tools` first", python.display());
    let mut command = tokio::process::Command::new(python);
    command.arg("-B").arg(root().join("tests/acs_requests/judge.py"));
    match openapi() {
        Some(folder) => command.env("ACS_OPENAPI", folder),
        None => command.env_remove("ACS_OPENAPI"),
    };
    command.stdin(std::process::Stdio::null()).kill_on_drop(true);
    command
}
