//! Prints the settings in force as TOML, for `check-config`: secrets only as `<set>` or `<unset>`, and beside every
//! value that is not the default where it came from.

use std::fmt::Write;

use toml::{Table, Value};

use super::layers::Layers;
use super::problem::{Source, shown};
use super::rules;
use super::secrets::Secrets;

/// The settings as text.
pub(super) fn render(layers: &Layers, secrets: &Secrets) -> String {
    let mut text = String::new();
    table(&mut text, layers, secrets, "", layers.values());
    text
}

fn table(text: &mut String, layers: &Layers, secrets: &Secrets, path: &str, values: &Table) {
    let (sections, settings): (Vec<_>, Vec<_>) = values.iter().partition(|(_, value)| value.is_table());
    if !path.is_empty() && !settings.is_empty() {
        let gap = if text.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{gap}[{path}]");
    }
    for (name, value) in settings {
        let key = join(path, name);
        let value = if rules::secrets().any(|secret| secret == key) {
            format!("\"{:?}\"", secrets.get(&key))
        } else {
            value.to_string()
        };
        let _ = write!(text, "{name} = {value}");
        match layers.source(&key) {
            Source::Default => {}
            source => {
                let _ = write!(text, "  # {}", shown(&source.to_string()));
            }
        }
        text.push('\n');
    }
    for (name, value) in sections {
        if let Value::Table(inner) = value {
            table(text, layers, secrets, &join(path, name), inner);
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}
