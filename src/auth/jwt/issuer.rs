//! `[[issuers]]` of the policy file: whose tokens count, and where their keys are.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::algorithm::Algorithm;
use crate::auth::jwks::fetch::{self, Source, Trust};

/// The most issuers: each may have a task of its own that fetches its keys.
pub const MAX_ISSUERS: usize = 32;
/// The most entries of `algorithms`; there are fewer algorithms.
const MAX_ALGORITHMS: usize = 16;
/// The longest text in a setting.
const MAX_TEXT: usize = 1024;
/// The most leeway.
const MAX_LEEWAY: Duration = Duration::from_secs(300);

/// Somebody whose tokens count.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Issuer {
    /// What the policy calls it.
    pub name: String,
    /// The `iss` of its tokens, exactly.
    pub issuer: String,
    /// What the `aud` of its tokens must name: this broker.
    pub audience: String,
    /// Where its keys are; empty: where its discovery document says.
    #[serde(default)]
    pub jwks_url: String,
    /// A file with its keys, instead of a URL.
    #[serde(default)]
    pub jwks_file: String,
    /// PEM of the authority of that HTTPS server, to trust beside the system's.
    #[serde(default)]
    pub ca_file: String,
    /// A file with a token to present when its keys are fetched.
    #[serde(default)]
    pub bearer_file: String,
    /// The algorithms its tokens may be signed with.
    #[serde(default = "usual_algorithms")]
    pub algorithms: Vec<Algorithm>,
    /// By how much its clock and ours may differ.
    #[serde(default = "usual_leeway", with = "crate::duration")]
    pub leeway: Duration,
}

fn usual_algorithms() -> Vec<Algorithm> {
    vec![Algorithm::RS256, Algorithm::ES256]
}

fn usual_leeway() -> Duration {
    Duration::from_secs(30)
}

impl Issuer {
    /// An issuer for code: usual algorithms and leeway, keys by discovery.
    pub fn new(name: impl Into<String>, issuer: impl Into<String>, audience: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            issuer: issuer.into(),
            audience: audience.into(),
            jwks_url: String::new(),
            jwks_file: String::new(),
            ca_file: String::new(),
            bearer_file: String::new(),
            algorithms: usual_algorithms(),
            leeway: usual_leeway(),
        }
    }

    /// What is wrong, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |good: bool, key: &'static str, what: &str| {
            if !good {
                problems.push((key, what.to_owned()));
            }
        };
        for (key, text) in [("name", &self.name), ("issuer", &self.issuer), ("audience", &self.audience)] {
            let good = (1..=MAX_TEXT).contains(&text.len()) && text.trim() == text;
            check(good, key, "must have 1 to 1024 bytes and no blank at either end");
        }
        let has_some = (1..=MAX_ALGORITHMS).contains(&self.algorithms.len());
        check(has_some, "algorithms", "must not be empty, and must not have more than 16 entries");
        check(self.leeway <= MAX_LEEWAY, "leeway", "must be a duration from 0s to 5m, such as \"30s\"");
        let over_https = self.jwks_file.is_empty();
        if over_https {
            if self.jwks_url.is_empty() {
                let fault = fetch::discovery(&self.issuer).err().unwrap_or_default();
                let what = format!("{fault}; or set jwks_url or jwks_file");
                check(fault.is_empty(), "issuer", &what);
            } else if let Err(fault) = fetch::url(&self.jwks_url) {
                check(false, "jwks_url", fault);
            }
        } else {
            check(self.jwks_url.is_empty(), "jwks_url", "and jwks_file are both set; keep one of them");
            for (key, path) in [("ca_file", &self.ca_file), ("bearer_file", &self.bearer_file)] {
                check(path.is_empty(), key, "is for keys that are fetched from a URL; there is a jwks_file");
            }
        }
        problems
    }

    /// Where its keys come from; none if the settings have problems.
    pub(super) fn source(&self) -> Option<Source> {
        if !self.jwks_file.is_empty() {
            return Some(Source::File(PathBuf::from(&self.jwks_file)));
        }
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        let trust = Trust { ca_file: path(&self.ca_file), bearer_file: path(&self.bearer_file) };
        if self.jwks_url.is_empty() {
            let document = fetch::discovery(&self.issuer).ok()?;
            Some(Source::Discovery { issuer: self.issuer.clone(), document, trust })
        } else {
            Some(Source::Url { jwks: fetch::url(&self.jwks_url).ok()?, trust })
        }
    }
}

/// What is wrong with a list of issuers: which of them, its key, what. What is wrong with the list as a whole comes last,
/// with a place past its end.
pub fn problems(issuers: &[Issuer]) -> Vec<(usize, &'static str, String)> {
    let mut problems = Vec::new();
    let (mut names, mut pairs) = (BTreeSet::new(), BTreeSet::new());
    for (place, issuer) in issuers.iter().enumerate() {
        problems.extend(issuer.problems().into_iter().map(|(key, what)| (place, key, what)));
        if !names.insert(&issuer.name) {
            problems.push((place, "name", "is the name of another issuer already".to_owned()));
        }
        if !pairs.insert((&issuer.issuer, &issuer.audience)) {
            let what = "is that of another issuer with the same audience already";
            problems.push((place, "issuer", what.to_owned()));
        }
    }
    if issuers.len() > MAX_ISSUERS {
        problems.push((issuers.len(), "issuers", format!("must be at most {MAX_ISSUERS}")));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Issuer, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn little_must_be_said() {
        let text = "name = \"cluster\"\nissuer = \"https://issuer.example\"\naudience = \"acs-broker\"";
        let issuer = read(text).unwrap();
        assert_eq!(issuer, Issuer::new("cluster", "https://issuer.example", "acs-broker"));
        assert_eq!(issuer.problems(), []);
        assert_eq!(issuer.algorithms, [Algorithm::RS256, Algorithm::ES256]);
        assert_eq!(issuer.leeway, Duration::from_secs(30));
    }

    #[test]
    fn symmetric_algorithms_and_none_cannot_be_written() {
        for name in ["none", "None", "HS256", "HS384", "HS512", "rs256", "RS1", "ES256K", "ES512", ""] {
            let text =
                format!("name = \"a\"\nissuer = \"https://b\"\naudience = \"c\"\nalgorithms = [\"{name}\"]");
            assert!(read(&text).is_err(), "{name}");
        }
        assert!(read("name = \"a\"\nissuer = \"https://b\"\naudience = \"c\"\nsecret = \"d\"").is_err());
    }

    #[test]
    fn every_problem_names_its_key() {
        let good = Issuer::new("a", "https://issuer.example", "acs-broker");
        let keys = |issuer: Issuer| issuer.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        let text = String::from;
        for (issuer, key) in [
            (Issuer { name: text(""), ..good.clone() }, "name"),
            (Issuer { audience: text(" a"), ..good.clone() }, "audience"),
            (
                Issuer { issuer: text("https://a").repeat(200), jwks_file: text("f"), ..good.clone() },
                "issuer",
            ),
            (Issuer { issuer: text("accounts"), ..good.clone() }, "issuer"),
            (Issuer { issuer: text("http://issuer.example"), ..good.clone() }, "issuer"),
            (Issuer { jwks_url: text("http://issuer.example/k"), ..good.clone() }, "jwks_url"),
            (Issuer { jwks_url: text("https://a"), jwks_file: text("f"), ..good.clone() }, "jwks_url"),
            (Issuer { ca_file: text("ca"), jwks_file: text("f"), ..good.clone() }, "ca_file"),
            (Issuer { bearer_file: text("t"), jwks_file: text("f"), ..good.clone() }, "bearer_file"),
            (Issuer { algorithms: Vec::new(), ..good.clone() }, "algorithms"),
            (Issuer { algorithms: vec![Algorithm::ES256; 17], ..good.clone() }, "algorithms"),
            (Issuer { leeway: Duration::from_secs(301), ..good.clone() }, "leeway"),
        ] {
            assert_eq!(keys(issuer), [key]);
        }
        let file = Issuer { issuer: text("accounts"), jwks_file: text("keys.json"), ..good.clone() };
        assert_eq!(keys(file), [""; 0], "with a file, the issuer may be any text");
        let twice = problems(&[good.clone(), Issuer { name: text("b"), ..good.clone() }, good.clone()]);
        let keys: Vec<_> = twice.iter().map(|(place, key, _)| (*place, *key)).collect();
        assert_eq!(keys, [(1, "issuer"), (2, "name"), (2, "issuer")]);
        let other = |number: usize| Issuer::new(number.to_string(), format!("https://{number}.example"), "a");
        let many: Vec<_> = (0..33).map(other).collect();
        assert_eq!(problems(&many[..32]), []);
        assert_eq!(problems(&many).len(), 1);
    }
}
