//! TOML with places: where in the file a value stands, and everything that is wrong, together.
//!
//! Says lines and keys and never repeats a value.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// More problems than this are not told: whoever mends these sees the others next.
const MOST_PROBLEMS: usize = 100;

/// The longest list of texts: calls are held against some of them one by one.
pub(super) const MOST_TEXTS: usize = 1000;

/// Something that is wrong with a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, counted from 1; 0 if it is about the file as a whole.
    pub line: usize,
    /// The path of the key, such as `callers[2].rpcs[0]`; empty if it is about no key.
    pub key: String,
    /// What is wrong and what would be right.
    pub what: String,
}

impl Problem {
    /// About the file as a whole.
    pub(super) fn of_file(what: impl Into<String>) -> Self {
        Self { line: 0, key: String::new(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "line {}: ", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{} ", self.key)?;
        }
        f.write_str(&self.what)
    }
}

/// A text that is being read, and what was found wrong so far.
pub(super) struct Reading<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

/// A value in the file.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

impl<'t> Reading<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, problems: RefCell::new(Vec::new()) }
    }

    /// The table that the text is, as far as it is one.
    pub(super) fn table(&self) -> Option<Spanned<DeTable<'t>>> {
        match DeTable::parse(self.text) {
            Ok(table) => Some(table),
            Err(error) => {
                let line = error.span().map_or(0, |span| self.line(&span));
                let what = format!("this is no TOML: {}", error.message());
                self.problems.borrow_mut().push(Problem { line, key: String::new(), what });
                None
            }
        }
    }

    /// The line that a place is in.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        1 + self.text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
    }

    /// Notes a problem; returns none, so that it can stand in for the value.
    pub(super) fn problem<T>(&self, at: &Range<usize>, key: &str, what: impl Into<String>) -> Option<T> {
        // The line is counted from the beginning: for each of very many problems that would take minutes.
        if self.problems.borrow().len() < MOST_PROBLEMS {
            let problem = Problem { line: self.line(at), key: key.to_owned(), what: what.into() };
            self.problems.borrow_mut().push(problem);
        }
        None
    }

    /// What is wrong, in the order of the file.
    pub(super) fn problems(self) -> Vec<Problem> {
        let mut problems = self.problems.into_inner();
        problems.sort_by(|one, other| (one.line, &one.key).cmp(&(other.line, &other.key)));
        problems
    }
}

/// A table whose keys are taken out one by one; what is left is wrong.
pub(super) struct Fields<'r, 't> {
    pub(super) reading: &'r Reading<'t>,
    pub(super) path: String,
    pub(super) span: Range<usize>,
    table: &'r DeTable<'t>,
    known: RefCell<Vec<&'static str>>,
}

impl<'r, 't> Fields<'r, 't> {
    pub(super) fn new(
        reading: &'r Reading<'t>,
        path: impl Into<String>,
        span: Range<usize>,
        table: &'r DeTable<'t>,
    ) -> Self {
        Self { reading, path: path.into(), span, table, known: RefCell::default() }
    }

    /// The table that a value is.
    pub(super) fn of(reading: &'r Reading<'t>, path: String, value: &'r Value<'t>) -> Option<Self> {
        match value.get_ref().as_table() {
            Some(table) => Some(Self::new(reading, path, value.span(), table)),
            None => reading.problem(&value.span(), &path, "must be a table"),
        }
    }

    pub(super) fn key(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn value(&self, key: &'static str) -> Option<&'r Value<'t>> {
        let mut known = self.known.borrow_mut();
        if !known.contains(&key) {
            known.push(key);
        }
        self.table.iter().find(|(name, _)| name.get_ref().as_ref() == key).map(|(_, value)| value)
    }

    /// Where the value of a key stands; where the table begins, if it is not there.
    pub(super) fn place(&self, key: &'static str) -> Range<usize> {
        self.value(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// Notes a problem with one of the keys.
    pub(super) fn wrong<T>(&self, value: &Value<'t>, key: &str, what: impl Into<String>) -> Option<T> {
        self.reading.problem(&value.span(), &self.key(key), what)
    }

    /// A text, if it is there.
    pub(super) fn text(&self, key: &'static str) -> Option<&'r str> {
        let value = self.value(key)?;
        value.get_ref().as_str().or_else(|| self.wrong(value, key, "must be a text"))
    }

    /// A text that must be there.
    pub(super) fn required(&self, key: &'static str) -> Option<&'r str> {
        if self.value(key).is_none() {
            return self.reading.problem(&self.span, &self.key(key), "is missing");
        }
        self.text(key)
    }

    pub(super) fn switch(&self, key: &'static str) -> bool {
        let Some(value) = self.value(key) else { return false };
        value.get_ref().as_bool().or_else(|| self.wrong(value, key, "must be true or false")).unwrap_or(false)
    }

    /// The entries of a list with their paths; none if it is not there. More than `most` are a problem, told where the
    /// first of them stands, and are not looked at.
    pub(super) fn list(&self, key: &'static str, most: usize) -> Vec<(String, &'r Value<'t>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            self.wrong::<()>(value, key, "must be a list");
            return Vec::new();
        };
        let key = self.key(key);
        if let Some(beyond) = list.get(most) {
            let what = format!("is one too many: there may be at most {most}");
            self.reading.problem::<()>(&beyond.span(), &format!("{key}[{most}]"), what);
        }
        let entries = list.iter().take(most).enumerate();
        entries.map(|(index, value)| (format!("{key}[{index}]"), value)).collect()
    }

    /// The texts of a list with their paths and places.
    pub(super) fn texts(&self, key: &'static str) -> Vec<(String, Range<usize>, &'r str)> {
        let mut texts = Vec::new();
        for (path, value) in self.list(key, MOST_TEXTS) {
            match value.get_ref().as_str() {
                Some(text) => texts.push((path, value.span(), text)),
                None => drop(self.reading.problem::<()>(&value.span(), &path, "must be a text")),
            }
        }
        texts
    }

    /// The entries of a table with their paths.
    pub(super) fn entries(&self, key: &'static str) -> Vec<(String, &'r str, &'r Value<'t>)> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong::<()>(value, key, "must be a table");
            return Vec::new();
        };
        let key = self.key(key);
        let entry = |name: &'r str, value| (format!("{key}.\"{}\"", shown(name)), name, value);
        table.iter().map(|(name, value)| entry(name.get_ref().as_ref(), value)).collect()
    }

    /// Notes every key that nobody has asked for.
    pub(super) fn finish(&self) {
        let known = self.known.borrow();
        for (name, _) in self.table {
            if !known.contains(&name.get_ref().as_ref()) {
                let what = format!("is not known here; known are {}", known.join(", "));
                self.reading.problem::<()>(&name.span(), &self.key(&shown(name.get_ref())), what);
            }
        }
    }
}

/// A key that somebody typed, made fit for a terminal.
fn shown(name: &str) -> String {
    name.chars().take(60).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::MOST_PROBLEMS;

    #[test]
    fn a_file_of_nothing_but_problems_tells_the_first_of_them() {
        let entries = "\n7,".repeat(200_000);
        let text = format!("[[callers]]\nname = \"a\"\nmatch = [{{ mesh = \"a\" }}]\nrpcs = [{entries}\n]\n");
        let problems = parse(text.as_bytes()).unwrap_err();
        assert_eq!(problems.len(), MOST_PROBLEMS);
        assert_eq!((problems[0].line, problems[0].key.as_str()), (5, "callers[0].rpcs[0]"));
    }
}
