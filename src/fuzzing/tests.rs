//! Plays the seeds to every fuzz target, with the compiler that builds the rest: no target can rot unseen.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Takes an input, and panics if that is a finding.
type Target = fn(&[u8]);

/// Every target, by the name of its program and the folder of its seeds.
const TARGETS: &[(&str, Target)] = &[
    ("grpc_requests", crate::grpc::fuzzing::requests),
    ("grpc_large_messages", crate::grpc::fuzzing::large_messages),
    ("grpc_page_tokens", crate::grpc::fuzzing::page_tokens),
    ("grpc_headers", crate::grpc::fuzzing::headers),
    ("messaging_records", crate::messaging::fuzzing::records),
    ("messaging_names", crate::messaging::fuzzing::names),
    ("store_records", crate::store::fuzzing::records),
    ("webhook_events", crate::webhook::fuzzing::events),
    ("webhook_callers", crate::webhook::fuzzing::callers),
    ("acs_answers", crate::acs::fuzzing::answers),
    ("acs_connection_strings", crate::acs::fuzzing::connection_strings),
    ("auth_policies", crate::auth::fuzzing::policies),
    ("auth_mesh_headers", crate::auth::fuzzing::mesh_headers),
    ("store_key_files", crate::store::fuzzing::key_files),
    ("store_envelopes", crate::store::fuzzing::envelopes),
    ("auth_tokens", crate::auth::fuzzing::tokens),
    ("auth_key_sets", crate::auth::fuzzing::key_sets),
    ("auth_discovery", crate::auth::fuzzing::discovery),
    ("grpc_client_certificates", crate::grpc::fuzzing::client_certificates),
    ("store_replies", crate::store::fuzzing::replies),
    ("acs_sign_ins", crate::acs::fuzzing::sign_ins),
    ("audit_lines", crate::audit::fuzzing::lines),
    ("audit_files", crate::audit::fuzzing::files),
    ("cli_lines", crate::cli::fuzzing::lines),
    ("config_settings", crate::config::fuzzing::settings),
    #[cfg(feature = "emulator")]
    ("emulator_requests", crate::emulator::fuzzing::requests),
    #[cfg(feature = "emulator")]
    ("emulator_mail_parts", crate::emulator::fuzzing::mail_parts),
];

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

/// The names in a folder, without this ending.
fn names(folder: &Path, ending: &str) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.strip_suffix(ending).map(str::to_owned))
        .collect()
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = fuzz().join("seeds").join(target);
    let read = |name: String| (format!("{target}/{name}"), std::fs::read(folder.join(&name)).unwrap());
    names(&folder, "").into_iter().map(read).collect()
}

#[test]
fn every_target_has_a_program_seeds_and_a_line_in_the_list() {
    let known: BTreeSet<String> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(known.len(), TARGETS.len());
    // A build without the emulator has none of its parsers.
    let is_built = |name: &String| cfg!(feature = "emulator") || !name.starts_with("emulator_");
    let there = |folder: &str, ending: &str| -> BTreeSet<String> {
        names(&fuzz().join(folder), ending).into_iter().filter(is_built).collect()
    };
    assert_eq!(there("fuzz_targets", ".rs"), known, "fuzz/fuzz_targets");
    assert_eq!(there("seeds", ""), known, "fuzz/seeds");
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    let list = std::fs::read_to_string(fuzz().join("README.md")).unwrap();
    for name in &known {
        assert!(list.contains(&format!("| `{name}` |")), "fuzz/README.md: {name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "fuzz/Cargo.toml: {name}");
        assert!(!seeds(name).is_empty(), "{name} has no seed");
    }
}

#[test]
fn no_seed_is_a_finding_nor_are_its_beginnings() {
    for (target, run) in TARGETS {
        for (name, seed) in seeds(target) {
            assert!(seed.len() <= 16 * 1024, "{name} is large; the fuzzer grows what it needs");
            // A handful of places to cut, so that slow targets are as quick as fast ones.
            let step = seed.len().div_ceil(8).max(1);
            for end in (0..seed.len()).step_by(step).chain([seed.len()]) {
                let beginning = &seed[..end];
                let played = std::panic::catch_unwind(|| run(beginning));
                assert!(played.is_ok(), "{name}, the first {end} bytes");
            }
        }
    }
}

#[test]
fn a_text_with_the_canary_is_a_finding() {
    let finding = std::panic::catch_unwind(|| super::assert_silent("an error", "no user CANARY4bird"));
    assert!(finding.is_err());
    super::assert_silent("an error", "no such user");
}

#[test]
fn inputs_are_cut_where_they_should_be() {
    let mut input = super::Input(b"\x07name: v\nrest\n%%\nlast");
    assert_eq!(input.byte(), 7);
    assert_eq!(input.until(b":"), b"name");
    assert_eq!(input.line(), b" v");
    assert_eq!(input.until(b"\n%%\n"), b"rest");
    assert_eq!(input.until(b"\n%%\n"), b"last");
    assert!(input.is_empty() && input.byte() == 0 && input.line().is_empty());
}
