//! The rules of the house, as tables, and the judge that holds the sources to them.
//!
//! ARCHITECTURE.md says the same in words. To add a module or a crate, add its row here; the test names the row that
//! is missing. The judge knows files only as name and text, so that the tests can show it a planted fault.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{File, Named, read};

/// Our modules from the ground up: what each may name of ours. `store` may name `broker::ports`, not `broker`.
/// A module may always name itself. `main` and `lib` are the two crate roots.
pub(crate) const LAYERS: &[(&str, &[&str])] = &[
    // 0: small foundations that know nobody outside this layer.
    ("secret", &[]),
    ("clock", &[]),
    ("duration", &[]),
    ("retry", &["clock"]),
    ("telemetry", &["duration", "secret"]),
    // 1
    ("metrics", &["clock", "duration", "retry", "secret"]),
    ("reload", &["metrics"]),
    // 2 and 3: the core. It decides and does no I/O.
    ("broker", &["clock", "duration", "metrics", "retry", "secret"]),
    ("messaging", &["broker", "clock", "duration", "metrics", "retry", "secret"]),
    // 4: adapters. `acs` and `emulator` know neither the core nor each other.
    (
        "store",
        &[
            "broker::ports",
            "broker::types",
            "clock",
            "duration",
            "messaging::ports",
            "messaging::types",
            "metrics",
            "reload",
            "retry",
            "secret",
        ],
    ),
    ("audit", &["clock", "duration", "metrics", "secret"]),
    (
        "auth",
        &["broker::policy", "broker::types", "clock", "duration", "metrics", "reload", "retry", "secret"],
    ),
    ("listener", &[]),
    ("acs", &["clock", "duration", "reload", "retry", "secret"]),
    ("emulator", &["clock", "duration", "retry", "secret"]),
    // 5: transports.
    (
        "grpc",
        &[
            "audit",
            "auth",
            "broker",
            "clock",
            "duration",
            "messaging",
            "metrics",
            "reload",
            "retry",
            "secret",
        ],
    ),
    (
        "admin",
        &["auth", "broker", "clock", "duration", "listener", "messaging", "metrics", "retry", "secret"],
    ),
    (
        "webhook",
        &[
            "audit",
            "auth::jwt",
            "broker",
            "clock",
            "duration",
            "listener",
            "messaging",
            "metrics",
            "retry",
            "secret",
        ],
    ),
    // 6: settings of all components, composed.
    (
        "config",
        &[
            "acs",
            "admin",
            "audit",
            "auth",
            "broker",
            "clock",
            "duration",
            "emulator::Settings",
            "grpc",
            "messaging",
            "metrics",
            "secret",
            "store",
            "telemetry",
            "webhook",
        ],
    ),
    // 7: what joins them.
    ("app", &[EVERYTHING]),
    ("cli", &[EVERYTHING]),
    ("main", &["cli"]),
    ("lib", &[]),
];

const EVERYTHING: &str = "*";

/// Third-party crates with one home: the modules (by full name, or its beginning) that may name them. Every dependency
/// stands here or in `ANYWHERE`.
pub(crate) const HOMES: &[(&str, &[&str])] = &[
    // gRPC and its status codes. The client commands of `cli` go through `grpc::client`.
    ("tonic", &["grpc"]),
    ("tonic_health", &["grpc"]),
    ("tonic_prost", &["grpc"]),
    ("tonic_reflection", &["grpc"]),
    ("tonic_types", &["grpc"]),
    ("prost", &["grpc"]),
    ("prost_types", &["grpc"]),
    ("tower", &["grpc", "admin", "emulator", "webhook"]),
    // HTTP.
    ("reqwest", &["acs", "auth::jwks", "emulator::events"]),
    ("url", &["acs", "auth", "store::redis", "emulator"]),
    ("percent_encoding", &["acs", "app", "emulator", "webhook"]),
    ("axum", &["admin", "emulator", "listener", "webhook"]),
    ("hyper", &["acs", "grpc", "admin", "emulator", "listener", "webhook"]),
    ("hyper_util", &["grpc", "admin", "emulator", "listener", "webhook"]),
    ("http", &["acs", "auth", "grpc", "admin", "emulator", "webhook"]),
    ("http_body_util", &["acs", "grpc", "admin", "emulator", "webhook"]),
    // Signing in at Entra.
    ("azure_core", &["acs::credential::entra"]),
    ("azure_identity", &["acs::credential::entra"]),
    // Cryptography.
    ("hmac", &["acs", "audit", "auth", "emulator", "store"]),
    ("chacha20poly1305", &["store::seal"]),
    ("ring", &["acs", "app", "auth", "emulator", "grpc", "store::seal"]),
    ("rustls", &["acs", "app", "auth", "cli", "emulator", "grpc", "store::redis"]),
    ("rustls_native_certs", &["acs", "auth::jwks", "emulator::events", "store::redis"]),
    ("tokio_rustls", &["emulator", "grpc"]),
    ("webpki", &["grpc"]),
    ("rcgen", &["emulator"]),
    // Stores.
    ("redis", &["store::redis"]),
    ("redb", &["store::embedded"]),
    // Formats with one reader.
    ("toml", &["config", "auth::policy", "auth::shadow"]),
    ("serde_path_to_error", &["auth::policy", "config", "emulator::control"]),
    ("httpdate", &["acs", "emulator", "retry"]),
    ("time", &["acs", "app", "audit", "clock", "emulator", "cli", "webhook"]),
    // The rim.
    ("clap", &["cli"]),
    ("tracing_subscriber", &["telemetry"]),
    ("prometheus_client", &["metrics", "admin"]),
];

/// Crates that do no I/O by themselves and may stand anywhere, the core included.
pub(crate) const ANYWHERE: &[&str] = &[
    "async_trait",
    "base64",
    "futures_util",
    "humantime",
    "rand",
    "secrecy",
    "serde",
    "serde_json",
    "sha2",
    "subtle",
    "thiserror",
    "tokio",
    "tokio_stream",
    "tokio_util",
    "tracing",
    "uuid",
];

/// What the core may take from tokio: waiting, never a socket, a file or a process.
const TOKIO_OF_THE_CORE: &[&str] = &["join", "pin", "select", "spawn", "sync", "task", "time", "try_join"];

/// Parts of the standard library with homes of their own: the path's beginning, and who may name it. The first row that
/// fits counts.
const STD_HOMES: &[(&[&str], &[&str])] = &[
    // Where the emulator's CA file goes when nobody says where; no setting is read there.
    (&["std", "env", "temp_dir"], &["cli", "emulator"]),
    (&["std", "env"], &["cli", "main"]),
    (&["std", "time", "SystemTime", "now"], &["clock"]),
];

/// What the core must not name of the standard library.
const NOT_IN_THE_CORE: &[&[&str]] =
    &[&["std", "fs"], &["std", "net"], &["std", "env"], &["std", "process"], &["std", "os"]];

const CORE: [&str; 2] = ["broker", "messaging"];

/// A breach: where, and what is wrong with it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Breach {
    pub(crate) place: String,
    pub(crate) fault: String,
}

/// Every breach in these files (name, text), given the names of the packages Cargo.toml depends on.
pub(crate) fn breaches(sources: &[(String, String)], dependencies: &[String]) -> Vec<Breach> {
    let read: Vec<File> = sources.iter().map(|(name, text)| read(name, text)).collect();
    let tests: Vec<&Vec<String>> = read.iter().flat_map(|file| &file.test_modules).collect();
    let files: Vec<&File> =
        read.iter().filter(|file| !tests.iter().any(|test| file.module.starts_with(test))).collect();

    let mut found = Vec::new();
    for dependency in dependencies {
        if !ANYWHERE.contains(&dependency.as_str()) && home_of(dependency).is_none() {
            let fault =
                format!("`{dependency}` has no home: add it to HOMES or ANYWHERE in the architecture test");
            found.push(Breach { place: "Cargo.toml".to_owned(), fault });
        }
    }
    for (name, text) in sources {
        if !text.starts_with("//!") {
            found.push(Breach {
                place: format!("{name}:1"),
                fault: "does not begin with a `//!` doc".to_owned(),
            });
        }
    }
    for file in &files {
        for named in &file.named {
            if let Some(fault) = judge(file, named, dependencies) {
                found.push(Breach { place: format!("{}:{}", file.name, named.line), fault });
            }
        }
        for named in &file.hiding {
            let fault = format!("imports all of `{}`, which hides what it names", named.path.join("::"));
            found.push(Breach { place: format!("{}:{}", file.name, named.line), fault });
        }
        for line in &file.moved {
            let fault = "`#[path]` lets a file live in another module than its name says".to_owned();
            found.push(Breach { place: format!("{}:{line}", file.name), fault });
        }
    }
    if let Some(cycle) = cycle(&graph(&files)) {
        let fault = format!("modules import each other in a circle: {}", cycle.join(" -> "));
        found.push(Breach { place: "src".to_owned(), fault });
    }
    found.sort();
    found.dedup();
    found
}

/// The top-level module a file belongs to.
fn top(file: &File) -> &str {
    match file.module.first() {
        Some(first) => first,
        None if file.name.ends_with("main.rs") => "main",
        None => "lib",
    }
}

/// What is wrong with naming this path in this file, if anything.
fn judge(file: &File, named: &Named, dependencies: &[String]) -> Option<String> {
    let (path, first) = (named.path.as_slice(), named.path.first()?.as_str());
    if first == "crate" { ours(file, path, named.binds) } else { theirs(file, path, first, dependencies) }
}

fn ours(file: &File, path: &[String], binds: bool) -> Option<String> {
    let (here, target) = (top(file), path.get(1)?.as_str());
    let Some((_, allowed)) = LAYERS.iter().find(|(module, _)| *module == here) else {
        return Some(format!("module `{here}` has no layer: add it to LAYERS in the architecture test"));
    };
    if target == here {
        return None;
    }
    if !LAYERS.iter().any(|(module, _)| *module == target) {
        return Some(format!("`{}` is in no module that has a layer", path.join("::")));
    }
    let permitted = allowed.iter().any(|entry| {
        let mut entry = entry.split("::").peekable();
        let rest = path[1..].iter().skip_while(|part| entry.next_if_eq(&part.as_str()).is_some()).count();
        // All of the entry stands in the path; or the path only names a part of the way to it.
        entry.peek().is_none() || (binds && rest == 0)
    });
    let permitted = permitted || allowed.contains(&EVERYTHING);
    // `main` may name only the command line, and nothing but these two may name the whole.
    let reserved = target == "app" && !matches!(here, "cli" | "main");
    (!permitted || reserved).then(|| format!("`{here}` must not name `{}`", path[1..].join("::")))
}

fn theirs(file: &File, path: &[String], first: &str, dependencies: &[String]) -> Option<String> {
    let here = top(file);
    let begins = |beginning: &[&str]| beginning.iter().eq(path.iter().take(beginning.len()));
    let in_core = CORE.contains(&here);
    if in_core && NOT_IN_THE_CORE.iter().any(|beginning| begins(beginning)) {
        return Some(format!("the core does no I/O: `{here}` must not name `{}`", path.join("::")));
    }
    if let Some((_, homes)) = STD_HOMES.iter().find(|(beginning, _)| begins(beginning))
        && !homes.contains(&here)
    {
        return Some(format!("`{}` belongs to {homes:?}", path.join("::")));
    }
    if !dependencies.iter().any(|dependency| dependency == first) {
        return None;
    }
    if in_core && first == "tokio" {
        let part = path.get(1).map_or("", String::as_str);
        if !TOKIO_OF_THE_CORE.contains(&part) {
            return Some(format!("the core does no I/O: `{here}` must not name `{}`", path.join("::")));
        }
    }
    let homes = home_of(first)?;
    let module = if file.module.is_empty() { vec![here.to_owned()] } else { file.module.clone() };
    let at_home = homes.iter().any(|home| home.split("::").eq(module.iter().take(home.split("::").count())));
    (!at_home).then(|| format!("`{first}` belongs to {homes:?}; here is `{}`", module.join("::")))
}

fn home_of(package: &str) -> Option<&'static [&'static str]> {
    HOMES.iter().find(|(name, _)| *name == package).map(|(_, homes)| *homes)
}

/// Which top-level module names which other.
fn graph(files: &[&File]) -> BTreeMap<String, BTreeSet<String>> {
    let mut graph: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let targets = graph.entry(top(file).to_owned()).or_default();
        for named in &file.named {
            if let [first, target, ..] = named.path.as_slice()
                && first == "crate"
                && target != top(file)
            {
                targets.insert(target.clone());
            }
        }
    }
    graph
}

/// A circle in the graph, if it has one: the modules in order, the first again at the end.
pub(crate) fn cycle(graph: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<String>> {
    fn visit(
        module: &str,
        graph: &BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<String>,
        done: &mut BTreeSet<String>,
    ) -> Option<Vec<String>> {
        if let Some(start) = way.iter().position(|seen| seen == module) {
            return Some(way[start..].iter().cloned().chain([module.to_owned()]).collect());
        }
        if !done.insert(module.to_owned()) {
            return None;
        }
        way.push(module.to_owned());
        let circle = graph.get(module).into_iter().flatten().find_map(|next| visit(next, graph, way, done));
        way.pop();
        circle
    }
    let mut done = BTreeSet::new();
    graph.keys().find_map(|module| visit(module, graph, &mut Vec::new(), &mut done))
}
