//! Where a setting came from, and what is wrong with it.
//!
//! A problem names the key, its source and the mend. It never repeats a value: any value may turn out to be a secret
//! in the wrong place. Used by the other parts of `config` and printed by `cli`.

use std::fmt;

/// Where the value of a setting came from. Later variants win over earlier ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The settings compiled into the binary.
    Default,
    /// What a command such as `dev` presumes.
    Command(&'static str),
    /// The settings file.
    File(String),
    /// `COMMUNICATION_SERVICES_CONNECTION_STRING`, the name that Azure samples use.
    AzureVariable(&'static str),
    /// A variable `ACS_BROKER__…`.
    Variable(String),
    /// A command-line flag.
    Flag(&'static str),
}

impl Source {
    /// Whether two values come from the same place, so that neither can be meant to replace the other.
    pub(super) fn same_layer(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("built-in default"),
            Self::Command(name) => write!(f, "command {name}"),
            Self::File(path) => write!(f, "file {path}"),
            Self::AzureVariable(name) => write!(f, "environment variable {name}"),
            Self::Variable(name) => write!(f, "environment variable {}", shown(name)),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The path of the key, such as `store.redis.timeout`; empty if the whole source cannot be read.
    pub key: String,
    /// Where the value came from.
    pub source: Source,
    /// What is wrong and what would be right.
    pub what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.source, self.what)
        } else {
            write!(f, "{} {} ({})", shown(&self.key), self.what, self.source)
        }
    }
}

/// Everything that is wrong with the settings, in the order found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} problem{} in the settings:", if count == 1 { "" } else { "s" })?;
        for problem in &self.0 {
            write!(f, "\n  - {problem}")?;
        }
        Ok(())
    }
}

/// A name somebody typed, made fit for a terminal: no control characters, not endless.
pub(super) fn shown(name: &str) -> String {
    const LONGEST: usize = 100;
    let mut text: String = name.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if name.chars().nth(LONGEST).is_some() {
        text.push('…');
    }
    text
}
