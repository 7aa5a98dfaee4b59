//! Finds every path a source file names, and says it in full: `crate::store::open`, `redis::cmd`, `std::env::var`.
//!
//! It opens grouped imports, resolves `self`, `super` and `acs_broker`, and leaves out names that stand for something
//! of the file's own. It judges nothing; `rules.rs` does.

use std::collections::BTreeMap;

use super::tokens::{Token, tokens, without_tests};

/// A path in full, and where it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) path: Vec<String>,
    pub(crate) line: usize,
    /// A private import, which only gives the path a name here: every use of that name is said in full elsewhere.
    pub(crate) binds: bool,
}

/// What one source file says.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// As given, `src/store/redis.rs`.
    pub(crate) name: String,
    /// `["store", "redis"]`; empty for `lib.rs` and `main.rs`.
    pub(crate) module: Vec<String>,
    /// Every path named outside test code.
    pub(crate) named: Vec<Named>,
    /// Imports that would hide what is named: `use crate as x`, `use std::*`.
    pub(crate) hiding: Vec<Named>,
    /// Lines with `#[path = …]`, which puts a file somewhere else than its name says.
    pub(crate) moved: Vec<usize>,
    /// Full names of modules that are test code as a whole, as their files' names give them.
    pub(crate) test_modules: Vec<Vec<String>>,
}

/// Words after which a path begins.
const KEYWORDS: [&str; 14] = [
    "as", "await", "break", "const", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return",
    "where",
];

/// Reads one file.
pub(crate) fn read(name: &str, source: &str) -> File {
    let module = module_of(name);
    let (tokens, tests) = without_tests(&tokens(source));
    let mut file = File { name: name.to_owned(), module: module.clone(), ..File::default() };
    for test in tests {
        // `mod tests;` lies under this module; `#[path = "x.rs"]` lies beside this file.
        let moved = test.strip_prefix('"').map(|path| path.trim_end_matches('"'));
        let beside = name.rsplit_once('/').map_or("", |(folder, _)| folder);
        file.test_modules.push(match moved {
            Some(path) => module_of(&format!("{beside}/{path}")),
            None => module.iter().cloned().chain([test]).collect(),
        });
    }
    // The first reading learns what the imports call things, the second says every path in full.
    let mut learning = File { module: module.clone(), ..File::default() };
    let names = own_names(&tokens, &module);
    let mut reader =
        Reader { tokens: &tokens, at: 0, inner: Vec::new(), names, published: false, file: &mut learning };
    reader.run();
    let names = reader.names;
    Reader { tokens: &tokens, at: 0, inner: Vec::new(), names, published: false, file: &mut file }.run();
    file
}

/// `src/store/redis.rs` and `src/store/redis/mod.rs` are both `store::redis`.
fn module_of(name: &str) -> Vec<String> {
    let inside = name.trim_start_matches("src/").trim_end_matches(".rs");
    let mut parts: Vec<String> = inside.split('/').map(str::to_owned).collect();
    if matches!(parts.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        parts.pop();
    }
    parts
}

/// What the file calls its own: the modules it declares, each with its full path.
fn own_names(tokens: &[Token], module: &[String]) -> BTreeMap<String, Vec<String>> {
    let declared = tokens.windows(2).filter(|pair| pair[0].is("mod")).map(|pair| pair[1].text.clone());
    let full = |name: &String| {
        ["crate".to_owned()].into_iter().chain(module.to_vec()).chain([name.clone()]).collect()
    };
    declared.map(|name| (name.clone(), full(&name))).collect()
}

struct Reader<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Modules written inside the file, each with the depth of braces at which it ends.
    inner: Vec<(String, usize)>,
    /// What the file's imports and modules stand for: `redis` may be `crate::store::redis`, `time` be `tokio::time`.
    names: BTreeMap<String, Vec<String>>,
    /// Whether the import being read is a `pub use`.
    published: bool,
    file: &'a mut File,
}

impl Reader<'_> {
    fn run(&mut self) {
        let mut depth = 0_usize;
        while let Some(token) = self.tokens.get(self.at) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => {
                    depth = depth.saturating_sub(1);
                    if self.inner.last().is_some_and(|(_, end)| *end == depth) {
                        self.inner.pop();
                    }
                }
                "mod" if self.text(2) == "{" => {
                    self.inner.push((self.text(1).to_owned(), depth));
                    self.at += 1;
                }
                "path" if self.at >= 2 && self.tokens[self.at - 1].is("[") && self.text(1) == "=" => {
                    self.file.moved.push(token.line);
                }
                "use" => {
                    let before =
                        self.at.checked_sub(1).map_or("", |before| self.tokens[before].text.as_str());
                    self.published = ["pub", ")"].contains(&before);
                    self.at += 1;
                    let absolute = self.eat("::");
                    self.import(&[], absolute);
                    continue;
                }
                "extern" if self.text(1) == "crate" => {
                    let (name, line) = (self.text(2).to_owned(), token.line);
                    self.name(vec![name], line, true);
                    self.at += 2;
                }
                "::" if !self.follows_a_path() && self.next_is_word() => {
                    self.at += 1;
                    self.inline(true);
                    continue;
                }
                _ if token.is_word() && self.text(1) == "::" => {
                    self.inline(false);
                    continue;
                }
                _ => {}
            }
            self.at += 1;
        }
    }

    fn text(&self, ahead: usize) -> &str {
        self.tokens.get(self.at + ahead).map_or("", |token| token.text.as_str())
    }

    fn next_is_word(&self) -> bool {
        self.tokens.get(self.at + 1).is_some_and(Token::is_word)
    }

    /// `a::b` and `<T>::b` go on; a `::` after anything else (a keyword, `->`, `=>`) begins at the crates.
    fn follows_a_path(&self) -> bool {
        let back = |n: usize| self.at.checked_sub(n).and_then(|at| self.tokens.get(at));
        match back(1) {
            Some(token) if token.is(">") => !back(2).is_some_and(|arrow| arrow.is("-") || arrow.is("=")),
            Some(token) => token.is_word() && !KEYWORDS.contains(&token.text.as_str()),
            None => false,
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let there = self.text(0) == text;
        self.at += usize::from(there);
        there
    }

    /// A path in code: `crate::store::open`.
    fn inline(&mut self, absolute: bool) {
        let line = self.tokens[self.at].line;
        let mut path = vec![self.text(0).to_owned()];
        while self.text(1) == "::" && self.tokens.get(self.at + 2).is_some_and(Token::is_word) {
            self.at += 2;
            path.push(self.text(0).to_owned());
        }
        self.at += 1;
        self.name(path, line, absolute);
    }

    /// The tree after `use`, with what stands before it.
    fn import(&mut self, before: &[String], absolute: bool) {
        let mut path = before.to_vec();
        loop {
            let Some(token) = self.tokens.get(self.at) else { return };
            let line = token.line;
            match token.text.as_str() {
                "{" => {
                    self.at += 1;
                    while !self.text(0).is_empty() && !self.eat("}") {
                        self.import(&path, absolute);
                        self.eat(",");
                    }
                    return;
                }
                "*" => {
                    self.at += 1;
                    self.leaf(path, line, absolute, None);
                    return;
                }
                _ if token.is_word() => {
                    // `use a::{self}` names a.
                    if !token.is("self") || path.is_empty() {
                        path.push(token.text.clone());
                    }
                    self.at += 1;
                }
                _ => {
                    self.at += 1;
                    return;
                }
            }
            if !self.eat("::") {
                let mut alias = path.last().cloned().unwrap_or_default();
                if self.eat("as") {
                    alias = self.text(0).to_owned();
                    self.at += 1;
                }
                self.leaf(path, line, absolute, Some(alias));
                return;
            }
        }
    }

    fn leaf(&mut self, path: Vec<String>, line: usize, absolute: bool, alias: Option<String>) {
        let full = self.resolve(&path, absolute);
        if full.len() == 1 && ["crate", "std", "core"].contains(&full[0].as_str()) {
            self.file.hiding.push(Named { path: full.clone(), line, binds: false });
        }
        let binds = alias.is_some() && !self.published;
        if let Some(alias) = alias {
            self.names.insert(alias, full.clone());
        }
        self.file.named.push(Named { path: full, line, binds });
    }

    fn name(&mut self, path: Vec<String>, line: usize, absolute: bool) {
        let path = self.resolve(&path, absolute);
        self.file.named.push(Named { path, line, binds: false });
    }

    /// From the crate's root, if it is a path of ours; with the import opened, if it begins with an imported name.
    fn resolve(&self, path: &[String], absolute: bool) -> Vec<String> {
        let known = path.first().filter(|_| !absolute).and_then(|first| self.names.get(first));
        if let Some(known) = known {
            return known.iter().chain(&path[1..]).cloned().collect();
        }
        let mut here: Vec<String> =
            self.file.module.iter().cloned().chain(self.inner.iter().map(|(name, _)| name.clone())).collect();
        let mut rest = path;
        match path.first().map(String::as_str) {
            Some("crate" | "acs_broker") => {
                here.clear();
                rest = &path[1..];
            }
            Some("self" | "super") => {
                while let Some(first) = rest.first() {
                    match first.as_str() {
                        "self" => {}
                        "super" => drop(here.pop()),
                        _ => break,
                    }
                    rest = &rest[1..];
                }
            }
            _ => return path.to_vec(),
        }
        std::iter::once("crate".to_owned()).chain(here).chain(rest.iter().cloned()).collect()
    }
}
