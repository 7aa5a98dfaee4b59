//! The build without the emulator, which is what production runs: it builds, is smaller, and has none of its code.
//!
//! `make unit` runs that build's own tests; this compares the two binaries. It shares the compiled dependencies with
//! the default build, so that only this package is compiled again.
#![cfg(feature = "emulator")]
#![allow(missing_docs, reason = "a test binary has no readers of its documentation")]
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// What stands in a binary that has the emulator: its module in the names of functions, its paths, its words.
const MARKS: [&str; 3] = ["acs_broker8emulator", "/_emulator/", "Denied by the resource provider."];

fn without_emulator() -> PathBuf {
    let target = Path::new(env!("CARGO_BIN_EXE_acs-broker")).ancestors().nth(2).unwrap().to_owned();
    let apart = target.join("without-emulator");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--locked", "--quiet", "--no-default-features", "--bin", "acs-broker"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("CARGO_TARGET_DIR", &apart)
        .env("CARGO_BUILD_BUILD_DIR", &target)
        .status()
        .unwrap();
    assert!(built.success(), "the build without the emulator fails");
    apart.join("debug/acs-broker")
}

fn contains(binary: &[u8], mark: &str) -> bool {
    binary.windows(mark.len()).any(|window| window == mark.as_bytes())
}

#[test]
fn the_build_without_the_emulator_is_smaller_and_has_none_of_its_code() {
    let (with, without) = (PathBuf::from(env!("CARGO_BIN_EXE_acs-broker")), without_emulator());
    let (whole, lean) = (std::fs::read(&with).unwrap(), std::fs::read(&without).unwrap());
    println!("with the emulator {} bytes, without {}", whole.len(), lean.len());
    assert!(lean.len() < whole.len());
    for mark in MARKS {
        assert!(contains(&whole, mark), "{mark:?} marks nothing");
        assert!(!contains(&lean, mark), "{mark:?} is in the build without the emulator");
    }
    for command in ["emulator", "dev"] {
        let said = Command::new(&without).args([command, "--help"]).output().unwrap();
        assert_eq!(said.status.code(), Some(2), "{command} is not known there");
        assert!(Command::new(&with).args([command, "--help"]).output().unwrap().status.success());
    }
    let said = Command::new(&without).arg("--version").output().unwrap();
    assert!(said.status.success());
}
