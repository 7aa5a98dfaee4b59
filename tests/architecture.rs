//! The arrows of the house, checked on the source text: who may import whom, and which crate belongs where.
//!
//! `architecture/rules.rs` has the tables. The tests in `architecture/planted.rs` show the judge one fault of each kind
//! and demand that it objects, so that a rule cannot stop working unseen. Every contributor meets this test; a change
//! that needs another arrow changes the table, in the open.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic here is a failed test")]

#[path = "architecture/paths.rs"]
mod paths;
#[path = "architecture/planted.rs"]
mod planted;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/tokens.rs"]
mod tokens;

use std::path::{Path, PathBuf};

/// The project's folder.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file under a folder of the project, in order.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut waiting = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// A file's name from the project's folder on, and its text.
fn source(path: &Path) -> (String, String) {
    let name = path.strip_prefix(root()).unwrap().to_str().unwrap().replace('\\', "/");
    (name, std::fs::read_to_string(path).unwrap())
}

/// The packages under `[dependencies]`, as Rust spells them.
fn dependencies(manifest: &str) -> Vec<String> {
    manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name.trim().replace('-', "_"))
        .collect()
}

fn our_dependencies() -> Vec<String> {
    dependencies(&std::fs::read_to_string(root().join("Cargo.toml")).unwrap())
}

#[test]
fn every_arrow_points_one_way() {
    let sources: Vec<_> = rust_files("src").iter().map(|path| source(path)).collect();
    assert!(sources.iter().any(|(name, _)| name == "src/broker/mod.rs"), "the sources are read");
    let breaches = rules::breaches(&sources, &our_dependencies());
    let text: Vec<String> =
        breaches.iter().map(|breach| format!("  {}: {}", breach.place, breach.fault)).collect();
    assert!(breaches.is_empty(), "the house rules are broken (ARCHITECTURE.md):\n{}", text.join("\n"));
}

#[test]
fn every_rust_file_says_what_it_is() {
    let files: Vec<_> = ["tests", "bench", "examples"]
        .iter()
        .flat_map(|folder| rust_files(folder))
        .chain([root().join("build.rs")])
        .collect();
    let silent: Vec<_> = files
        .iter()
        .map(|path| source(path))
        .filter(|(_, text)| !text.starts_with("//!"))
        .map(|(name, _)| name)
        .collect();
    assert!(silent.is_empty(), "these files do not begin with a `//!` doc: {silent:?}");
}

#[test]
fn dependencies_are_read_from_the_manifest() {
    let found = our_dependencies();
    assert!(found.contains(&"tonic".to_owned()) && found.contains(&"async_trait".to_owned()), "{found:?}");
    assert!(!found.contains(&"proptest".to_owned()), "what tests need is not shipped");
}
