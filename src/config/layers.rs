//! Lays the sources of settings over each other and remembers where each value came from.
//!
//! The embedded default file names every setting, so it is also the list of what may be set and of which type. A value
//! that does not fit is reported and left out, so that one run finds every problem. Never panics, whatever it is given.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::problem::{Problem, Source, shown};

/// Every setting with its default.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// Problems after which no setting is guessed that somebody may have meant.
const MOST_GUESSES: usize = 32;

/// The settings so far.
#[derive(Debug, Clone)]
pub(super) struct Layers {
    defaults: Table,
    values: Table,
    sources: BTreeMap<String, Source>,
    pub(super) problems: Vec<Problem>,
}

impl Layers {
    /// The defaults alone.
    pub(super) fn new() -> Self {
        let mut problems = Vec::new();
        // The file is compiled in and a test reads it, so this cannot fail in a binary that was tested.
        let defaults: Table = toml::from_str(DEFAULTS).unwrap_or_else(|_| {
            problems.push(Problem {
                key: String::new(),
                source: Source::Default,
                what: "is not valid TOML".into(),
            });
            Table::new()
        });
        Self { values: defaults.clone(), defaults, sources: BTreeMap::new(), problems }
    }

    /// Reports a problem with the value that is in force for `key`.
    pub(super) fn problem(&mut self, key: &str, what: impl Into<String>) {
        let source = self.source(key);
        self.problem_from(key, source, what);
    }

    fn problem_from(&mut self, key: &str, source: Source, what: impl Into<String>) {
        self.problems.push(Problem { key: key.into(), source, what: what.into() });
    }

    /// Whether a problem with this key was reported already.
    pub(super) fn has_problem(&self, key: &str) -> bool {
        self.problems.iter().any(|problem| problem.key == key)
    }

    /// Where the value in force came from.
    pub(super) fn source(&self, key: &str) -> Source {
        self.sources.get(key).cloned().unwrap_or(Source::Default)
    }

    /// The value in force.
    pub(super) fn value(&self, key: &str) -> Option<&Value> {
        find(&self.values, key)
    }

    /// The text in force; empty if the key holds none.
    pub(super) fn text(&self, key: &str) -> &str {
        self.value(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The table of a section.
    pub(super) fn section(&self, key: &str) -> Table {
        self.values.get(key).and_then(Value::as_table).cloned().unwrap_or_default()
    }

    /// All values in force.
    pub(super) fn values(&self) -> &Table {
        &self.values
    }

    /// The path of every setting there is.
    pub(super) fn keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        collect(&self.defaults, "", &mut keys);
        keys
    }

    /// Replaces the value in force without changing its source; for secrets that were taken out.
    pub(super) fn replace(&mut self, key: &str, value: Value) {
        if let Some(slot) = find_mut(&mut self.values, key) {
            *slot = value;
        }
    }

    /// Puts the default back in force; false if there is no such key.
    pub(super) fn reset(&mut self, key: &str) -> bool {
        let Some(default) = find(&self.defaults, key).cloned() else { return false };
        self.replace(key, default);
        true
    }

    /// Lays the text of a TOML file over the settings.
    pub(super) fn lay_file(&mut self, text: &str, path: &str) {
        let source = Source::File(path.into());
        match toml::from_str::<Table>(text) {
            Ok(table) => self.lay_table("", &table, &source),
            Err(error) => {
                // The error's own text quotes the line, which may hold a secret: say where, not what.
                let at = error.span().map_or(0, |span| span.start);
                let line = text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
                let what = if error.message().starts_with("duplicate key") {
                    "a key is set twice"
                } else {
                    "not valid TOML"
                };
                self.problem_from("", source, format!("{what}, at line {line}"));
            }
        }
    }

    fn lay_table(&mut self, prefix: &str, table: &Table, source: &Source) {
        for (name, value) in table {
            let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
            // A quoted key may hold dots; it must not reach into another table.
            let known = if name.contains('.') { None } else { find(&self.defaults, &key) };
            match (known, value) {
                (None, _) => {
                    let what = if name.contains('.') {
                        "is one quoted name with dots; write a section and a key".into()
                    } else {
                        self.unknown(&key)
                    };
                    self.problem_from(&key, source.clone(), what);
                }
                (Some(Value::Table(_)), Value::Table(inner)) => self.lay_table(&key, inner, source),
                (Some(Value::Table(_)), _) => {
                    self.problem_from(&key, source.clone(), format!("must be a section, written [{key}]"));
                }
                (Some(default), value) => match fit(default, value) {
                    Ok(value) => self.set(&key, value, source),
                    Err(what) => self.problem_from(&key, source.clone(), what),
                },
            }
        }
    }

    /// Lays one value given as text over the settings; `key` may be one that does not exist.
    pub(super) fn lay_text(&mut self, key: &str, text: &str, source: &Source) {
        let parsed = match find(&self.defaults, key) {
            None => Err(self.unknown(key)),
            Some(Value::Table(_)) => Err("is a section; name one of its settings".into()),
            Some(default) => from_text(default, text),
        };
        match parsed {
            Ok(value) => self.set(key, value, source),
            Err(what) => self.problem_from(key, source.clone(), what),
        }
    }

    fn set(&mut self, key: &str, value: Value, source: &Source) {
        self.replace(key, value);
        self.sources.insert(key.into(), source.clone());
    }

    fn unknown(&self, key: &str) -> String {
        // After so many the file is no settings file, and each guess looks at every setting.
        let near = if self.problems.len() < MOST_GUESSES { self.nearest(key) } else { None };
        match near {
            Some(near) => format!("is not a setting; did you mean {near}?"),
            None => "is not a setting; `acs-broker check-config` prints all of them".into(),
        }
    }

    /// The setting or section somebody may have meant: the nearest in spelling, or one of the same last name.
    fn nearest(&self, key: &str) -> Option<String> {
        if key.len() > 80 {
            return None;
        }
        let mut candidates = self.keys();
        candidates.extend(self.defaults.keys().cloned());
        let last = key.rsplit('.').next().unwrap_or(key);
        let close =
            candidates.iter().map(|candidate| (distance(key, candidate), candidate)).min_by_key(|(d, _)| *d);
        match close {
            Some((far, candidate)) if far <= 1 + last.len() / 4 => Some(candidate.clone()),
            _ => candidates.iter().find(|candidate| candidate.rsplit('.').next() == Some(last)).cloned(),
        }
    }
}

fn find<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = value.as_table()?.get(part)?;
    }
    Some(value)
}

fn find_mut<'a>(table: &'a mut Table, key: &str) -> Option<&'a mut Value> {
    let mut parts = key.split('.');
    let mut value = table.get_mut(parts.next()?)?;
    for part in parts {
        value = value.as_table_mut()?.get_mut(part)?;
    }
    Some(value)
}

fn collect(table: &Table, prefix: &str, into: &mut Vec<String>) {
    for (name, value) in table {
        let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
        match value {
            Value::Table(inner) => collect(inner, &key, into),
            _ => into.push(key),
        }
    }
}

/// What a value of the default's type is called.
fn wanted(default: &Value) -> &'static str {
    match default {
        Value::String(_) => "must be text in quotes",
        Value::Integer(_) => "must be a whole number",
        Value::Float(_) => "must be a number",
        Value::Boolean(_) => "must be true or false",
        _ => "has the wrong type",
    }
}

fn fit(default: &Value, value: &Value) -> Result<Value, String> {
    match (default, value) {
        (Value::Float(_), Value::Integer(whole)) => {
            i32::try_from(*whole).map(|whole| Value::Float(whole.into())).map_err(|_| wanted(default).into())
        }
        (default, value) if default.same_type(value) => Ok(value.clone()),
        _ => Err(wanted(default).into()),
    }
}

fn from_text(default: &Value, text: &str) -> Result<Value, String> {
    let parsed = match default {
        Value::String(_) if text.contains('\u{fffd}') => return Err("must be valid UTF-8".into()),
        Value::String(_) => Some(Value::String(text.into())),
        Value::Integer(_) => text.trim().parse().ok().map(Value::Integer),
        Value::Float(_) => text.trim().parse().ok().map(Value::Float),
        Value::Boolean(_) => text.trim().parse().ok().map(Value::Boolean),
        _ => None,
    };
    parsed.ok_or_else(|| wanted(default).into())
}

/// How many letters must change to make one text of the other.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.chars().collect();
    let mut row: Vec<usize> = (0..=two.len()).collect();
    for (above, a) in one.chars().enumerate() {
        let mut diagonal = above;
        let mut left = above + 1;
        for (slot, b) in row.iter_mut().skip(1).zip(&two) {
            let best = (diagonal + usize::from(a != *b)).min(left + 1).min(*slot + 1);
            diagonal = *slot;
            *slot = best;
            left = best;
        }
        if let Some(first) = row.first_mut() {
            *first = above + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

/// The path of the setting that a variable `ACS_BROKER__SECTION__KEY` names.
pub(super) fn key_of_variable(name: &str) -> Option<String> {
    let rest = name.strip_prefix("ACS_BROKER__")?;
    Some(shown(&rest.to_lowercase().split("__").collect::<Vec<_>>().join(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_letters() {
        for (one, two, changes) in
            [("", "", 0), ("a", "", 1), ("timeout", "timout", 1), ("ab", "ba", 2), ("floor", "door", 2)]
        {
            assert_eq!(distance(one, two), changes, "{one} {two}");
            assert_eq!(distance(two, one), changes, "{two} {one}");
        }
    }

    #[test]
    fn the_defaults_are_valid_toml_and_each_setting_has_a_comment() {
        let layers = Layers::new();
        assert!(layers.problems.is_empty());
        let lines: Vec<&str> = DEFAULTS.lines().collect();
        for (index, line) in lines.iter().enumerate() {
            let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) else { continue };
            let above = lines[index - 1];
            let twin = above.starts_with(&format!("{} = ", name.trim_end_matches("_file")));
            let pair = name == "password" && above.starts_with("username")
                || name == "tls_address" && above.starts_with("address");
            assert!(above.starts_with('#') || twin || pair, "line {}: {name} has no comment", index + 1);
        }
    }
}
