//! Runs helm and reads what it renders. Used by the Helm tests alone; it asserts nothing about the chart's content.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A tool that `make tools` installs.
fn tool(path: &str) -> PathBuf {
    let tool = root().join(".tools").join(path);
    assert!(tool.exists(), "{} is not there: run `make tools`", tool.display());
    tool
}

/// The text of a file of the project.
pub(crate) fn project(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What helm said.
pub(crate) struct Said {
    pub(crate) succeeded: bool,
    /// Standard output.
    pub(crate) output: String,
    /// Both streams, for a reader.
    pub(crate) text: String,
}

/// Runs helm in the project's folder.
pub(crate) fn helm(arguments: &[&str]) -> Said {
    let run = Command::new(tool("node/node_modules/.bin/helm"))
        .args(arguments)
        .current_dir(root())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let output = String::from_utf8(run.stdout).unwrap();
    let text = format!("{output}{}", String::from_utf8_lossy(&run.stderr));
    Said { succeeded: run.status.success(), output, text }
}

/// Renders the chart, or says why helm would not.
pub(crate) fn template(arguments: &[&str]) -> Result<Rendered, String> {
    let said =
        helm(&[&["template", "release", "helm/acs-broker", "--namespace", "shop"], arguments].concat());
    if said.succeeded { Ok(Rendered::of(&said.output)) } else { Err(said.text) }
}

/// Renders the chart with a file of values.
pub(crate) fn render(values: &Path, more: &[&str]) -> Rendered {
    let arguments = [&["--values", values.to_str().unwrap()], more].concat();
    template(&arguments).unwrap_or_else(|said| panic!("{}: {said}", values.display()))
}

/// Why helm would not render.
#[track_caller]
pub(crate) fn refusal(arguments: &[&str]) -> String {
    match template(arguments) {
        Ok(_) => panic!("helm took what it should refuse: {arguments:?}"),
        Err(said) => said,
    }
}

/// The files of values that must all work.
pub(crate) fn value_sets() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join("tests/helm/values")).unwrap();
    let mut sets: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    sets.sort();
    sets
}

fn manifests(arguments: &[&str], text: &str) -> Vec<Value> {
    let mut run = Command::new(tool("python/bin/python"))
        .arg(root().join("tests/helm/manifests.py"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    run.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let run = run.wait_with_output().unwrap();
    assert!(run.status.success(), "{}\n{text}", String::from_utf8_lossy(&run.stderr));
    serde_json::from_slice(&run.stdout).unwrap()
}

/// The documents of a YAML file of the project.
pub(crate) fn read_yaml(path: &str) -> Vec<Value> {
    manifests(&["json"], &project(path))
}

/// Rendered manifests.
pub(crate) struct Rendered {
    text: String,
    objects: Vec<Value>,
}

impl Rendered {
    pub(crate) fn of(text: &str) -> Self {
        Self { text: text.to_owned(), objects: manifests(&["json"], text) }
    }

    /// All objects of a kind.
    pub(crate) fn all(&self, kind: &str) -> Vec<&Value> {
        self.objects.iter().filter(|object| object["kind"] == kind).collect()
    }

    /// The one object of a kind.
    #[track_caller]
    pub(crate) fn one(&self, kind: &str) -> &Value {
        let all = self.all(kind);
        assert_eq!(all.len(), 1, "{kind}");
        all[0]
    }

    /// The settings file the pod gets.
    pub(crate) fn settings(&self) -> String {
        self.file("config.toml").expect("the settings")
    }

    /// The file of that name in one of the ConfigMaps.
    pub(crate) fn file(&self, name: &str) -> Option<String> {
        let text = |map: &&Value| map["data"][name].as_str().map(str::to_owned);
        self.all("ConfigMap").iter().find_map(text)
    }

    /// What the schemas of a Kubernetes version object to.
    pub(crate) fn objections(&self, version: &str) -> Vec<Value> {
        manifests(&["validate", version], &self.text)
    }
}

/// Asserts that every object of a schema names its keys, refuses others, and stands in the default values. Sections
/// that are empty by default (`config.server`) may leave their keys out; shapes that Kubernetes defines have none.
pub(crate) fn closed_and_present(schema: &Value, values: Option<&Value>, place: &str) {
    if let Some(properties) = schema["properties"].as_object() {
        assert_eq!(schema["additionalProperties"], false, "{place}: a typo would pass unseen");
        for (key, schema) in properties {
            let place = format!("{place}.{key}");
            let value = values.map(|values| &values[key.as_str()]).filter(|value| **value != Value::Null);
            let may_be_absent = place.starts_with(".config.")
                || [".global", ".shutdown.terminationGracePeriodSeconds"].contains(&place.as_str());
            assert!(value.is_some() || may_be_absent || values.is_none(), "{place}: not in values.yaml");
            closed_and_present(schema, value, &place);
        }
    }
    if schema["items"].is_object() {
        closed_and_present(&schema["items"], None, &format!("{place}[]"));
    }
}

/// Keys of a values file with no comment right above them or above a key they belong to.
pub(crate) fn unexplained(text: &str) -> Vec<String> {
    let mut open: Vec<(usize, String, bool)> = Vec::new();
    let mut found = Vec::new();
    let mut commented = false;
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for (at, line) in lines.iter().enumerate() {
        let body = line.trim_start();
        let indent = line.len() - body.len();
        if body.starts_with('#') {
            commented = true;
            continue;
        }
        if let Some((key, _)) = body.split_once(':') {
            open.retain(|(outer, _, _)| *outer < indent);
            let explained = commented || open.iter().any(|(_, _, explained)| *explained);
            open.push((indent, key.to_owned(), explained));
            let next = lines[at + 1..].iter().find(|line| !line.trim_start().starts_with('#'));
            let leaf = next.is_none_or(|next| next.len() - next.trim_start().len() <= indent);
            if leaf && !explained {
                found.push(open.iter().map(|(_, key, _)| key.as_str()).collect::<Vec<_>>().join("."));
            }
        }
        commented = false;
    }
    found
}

/// The full names of all keys with a value.
pub(crate) fn leaves(table: &toml::Table) -> Vec<String> {
    let mut found = Vec::new();
    for (key, value) in table {
        match value {
            toml::Value::Table(inner) => {
                found.extend(leaves(inner).into_iter().map(|leaf| format!("{key}.{leaf}")))
            }
            _ => found.push(key.clone()),
        }
    }
    found
}
