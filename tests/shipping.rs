//! What is shipped and how it is checked, held together: image, licence rules, workflows, Makefile, changelog.
//!
//! There is no container engine in the tests, so the Dockerfile is read: its files must exist, its command lines must
//! be ones this binary knows. Nothing here runs a service.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a failed test"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn project(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap()
}

/// The instructions of the Dockerfile, each on one line.
fn instructions() -> Vec<String> {
    let text = project("Dockerfile").replace("\\\n", " ");
    let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

/// What the image's build copies from the project.
fn copied() -> Vec<String> {
    let copies =
        instructions().into_iter().filter(|line| line.starts_with("COPY ") && !line.contains("--from="));
    copies
        .flat_map(|line| {
            let mut words: Vec<String> = line.split(' ').skip(1).map(str::to_owned).collect();
            words.pop();
            words
        })
        .collect()
}

/// The files with this ending under a folder.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, ending));
        } else if path.to_str().unwrap().ends_with(ending) {
            found.push(path);
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        std::fs::copy(from, to).unwrap();
    }
}

#[test]
fn the_image_copies_what_exists_and_cargo_takes_it_for_the_whole_package() {
    let copied = copied();
    assert!(copied.contains(&"src".to_owned()), "{copied:?}");
    let folder = tempfile::tempdir().unwrap();
    for path in &copied {
        assert!(root().join(path).exists(), "the Dockerfile copies {path}, which does not exist");
        copy(&root().join(path), &folder.path().join(path));
    }
    // A manifest that names a file which is not copied (a bench, an example) is refused here as it would be there.
    let read = Command::new(env!("CARGO"))
        .args(["metadata", "--no-deps", "--offline", "--locked", "--format-version", "1"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
}

#[test]
fn what_the_source_embeds_is_copied_into_the_build() {
    let copied: Vec<PathBuf> = copied().iter().map(|path| root().join(path)).collect();
    let is_test =
        |file: &Path| file.components().any(|part| part.as_os_str().to_str().unwrap().contains("tests"));
    for file in
        files(&root().join("src"), ".rs").iter().filter(|file| !is_test(file.strip_prefix(root()).unwrap()))
    {
        let text = std::fs::read_to_string(file).unwrap();
        let embedded =
            ["include_str!(\"", "include_bytes!(\""].iter().flat_map(|mark| text.split(mark).skip(1));
        for path in embedded.map(|rest| rest.split('"').next().unwrap()) {
            let whole = file.parent().unwrap().join(path).canonicalize().unwrap();
            let there = copied.iter().any(|copied| whole.starts_with(copied));
            assert!(there, "{} embeds {path}, which the Dockerfile does not copy", file.display());
        }
    }
}

#[test]
fn the_builder_sees_all_that_is_copied() {
    let let_in: Vec<String> = project(".dockerignore")
        .lines()
        .filter_map(|line| line.strip_prefix('!'))
        .map(str::to_owned)
        .collect();
    for path in copied() {
        assert!(let_in.contains(&path), ".dockerignore keeps {path} from the builder");
    }
}

#[test]
fn the_image_runs_commands_this_binary_knows() {
    let line = |name: &str| instructions().into_iter().rfind(|line| line.contains(name)).unwrap();
    assert!(line("ENTRYPOINT").ends_with("[\"acs-broker\"]"));
    for (instruction, subcommand) in [("CMD [\"serve\"]", "serve"), ("HEALTHCHECK", "healthcheck")] {
        assert!(line(instruction).contains(&format!("\"{subcommand}\"]")), "{instruction}");
        let help =
            Command::new(env!("CARGO_BIN_EXE_acs-broker")).args([subcommand, "--help"]).output().unwrap();
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(
            help.status.success() && text.contains("Usage"),
            "`acs-broker {subcommand}` is no command: {text}"
        );
    }
}

#[test]
fn the_image_is_built_by_the_pinned_compiler_without_the_emulator() {
    let channel = project("rust-toolchain.toml");
    let version = instructions()[0].strip_prefix("ARG RUST_VERSION=").unwrap().to_owned();
    assert!(channel.contains(&format!("channel = \"{version}\"")), "{version} is not in rust-toolchain.toml");
    let build = instructions().into_iter().find(|line| line.contains("cargo build")).unwrap();
    for option in ["--locked", "--profile dist", "--no-default-features"] {
        assert!(build.contains(option), "{build}");
    }
    let manifest: toml::Table = project("Cargo.toml").parse().unwrap();
    assert!(manifest["profile"].as_table().unwrap().contains_key("dist"));
}

#[test]
fn the_image_runs_as_a_user_who_is_a_number_and_not_root() {
    let user = instructions().into_iter().rfind(|line| line.starts_with("USER ")).unwrap();
    let id: u32 = user["USER ".len()..].split(':').next().unwrap().parse().unwrap();
    assert!(id >= 10_000, "a user of the host might have the same number");
    let values = project("helm/acs-broker/values.yaml");
    assert!(values.contains(&format!("runAsUser: {id}")), "the chart runs it as somebody else");
}

#[test]
fn the_changelog_knows_this_version() {
    let changelog = project("CHANGELOG.md");
    let version = env!("CARGO_PKG_VERSION");
    assert!(changelog.contains("## [Unreleased]") || changelog.contains(&format!("## [{version}]")));
    assert!(changelog.contains(version), "{version} is not in the changelog");
}

#[test]
fn ci_runs_what_a_developer_runs() {
    assert!(project(".ci/run").contains("\nmake test "), ".ci/run calls make test");
    let makefile = project("Makefile");
    for file in files(&root().join(".github/workflows"), ".yml") {
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.lines().filter_map(|line| line.trim().strip_prefix("- run: ")) {
            for target in line.split("make ").skip(1).map(|rest| rest.split(' ').next().unwrap()) {
                assert!(makefile.contains(&format!("\n{target}:")), "{}: make {target}", file.display());
            }
        }
        for action in text.lines().filter_map(|line| line.trim().strip_prefix("- uses: ")) {
            let version = action.split_once('@').unwrap().1;
            assert!(version.starts_with('v'), "{action} is pinned to no version");
        }
    }
}

#[test]
fn every_dependency_is_locked_and_from_the_one_registry() {
    for (lock, own) in [("Cargo.lock", 1), ("fuzz/Cargo.lock", 2)] {
        let lock: toml::Table = project(lock).parse().unwrap();
        let packages = lock["package"].as_array().unwrap();
        assert!(packages.len() > 100, "the list is read");
        let of =
            |package: &toml::Value, key: &str| package.get(key).and_then(|v| v.as_str().map(str::to_owned));
        let ours = packages.iter().filter(|package| of(package, "source").is_none()).count();
        assert_eq!(ours, own, "a package without a source is one of this repository");
        for package in packages {
            let name = of(package, "name").unwrap();
            let Some(source) = of(package, "source") else { continue };
            assert_eq!(source, "registry+https://github.com/rust-lang/crates.io-index", "{name}");
            assert!(of(package, "checksum").is_some_and(|sum| sum.len() == 64), "{name}");
            assert!(!["rsa", "openssl-sys", "aws-lc-sys", "native-tls"].contains(&name.as_str()), "{name}");
        }
    }
}

/// The tests that the lines of the threat model name, line by line: file and name.
fn shown_by() -> Vec<(String, Vec<(String, String)>)> {
    let text = project("SECURITY.md");
    let (_, table) = text.split_once("\n## Threats\n").unwrap();
    let lines = table.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    lines
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").collect();
            assert_eq!(cells.len(), 3, "three cells: {line}");
            let named = cells[2].split('`').skip(1).step_by(2);
            let named = named.map(|name| name.split_once("::").unwrap_or_else(|| panic!("no test: {name}")));
            let named = named.map(|(file, test)| (file.to_owned(), test.to_owned())).collect();
            (cells[0].trim().to_owned(), named)
        })
        .collect()
}

#[test]
fn every_line_of_the_threat_model_names_tests_that_are_there() {
    let lines = shown_by();
    assert!(lines.len() >= 20, "the table is read");
    let mut missing = Vec::new();
    for (threat, tests) in lines {
        assert!(!tests.is_empty(), "no test shows: {threat}");
        for (file, test) in tests {
            let text = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
            let declared = format!("fn {test}(");
            // The attribute stands on one of the lines above; in `proptest!` likewise.
            let is_test = text.split(&declared).next().is_some_and(|before| {
                let above = before.lines().rev().take(6).collect::<String>();
                before.len() < text.len() && (above.contains("#[test]") || above.contains("#[tokio::test"))
            });
            if !is_test {
                missing.push(format!("{file}::{test}"));
            }
        }
    }
    assert!(missing.is_empty(), "SECURITY.md names tests that are not there: {missing:#?}");
}

#[cfg(unix)]
#[test]
fn scripts_can_be_run() {
    use std::os::unix::fs::PermissionsExt;
    for script in [".ci/run", "scripts/fuzz.sh", "scripts/tools.sh"] {
        let mode = std::fs::metadata(root().join(script)).unwrap().permissions().mode();
        assert!(mode & 0o111 != 0, "{script} is not executable");
    }
}
