//! The policy file: issuers, callers, tests; from text to values, with every problem told together.
//!
//! Unknown keys are problems: a permission that is misspelt must not be one that is silently missing, nor one that is
//! silently there.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::case::{Case, Expected, Test};
use super::text::{Fields, MOST_TEXTS, Problem, Reading, Value};
use crate::auth::UNAUTHENTICATED;
use crate::auth::jwt::{self, Issuer};
use crate::broker::policy::{EndUserRule, Patterns, Rate, Rpc, RpcSet, Rules, mail_pattern_problem};
use crate::broker::types::{Scope, ScopeSet, UserId, Validity};

/// More callers than anybody has services.
const MAX_CALLERS: usize = 10_000;
/// The most tests: all of them run with each change of the file.
const MAX_TESTS: usize = 1000;

/// A policy as it is written.
#[derive(Debug, Default)]
pub struct File {
    /// Who issues the tokens that callers and end users bring.
    pub issuers: Vec<Issuer>,
    /// Who may call.
    pub callers: Vec<Listed>,
    /// What must be allowed and what must not.
    pub(super) tests: Vec<Test>,
}

/// A caller.
#[derive(Debug)]
pub struct Listed {
    /// What it is called in logs, metrics and records.
    pub name: String,
    /// Who it is.
    pub matches: Vec<Match>,
    /// What it may do.
    pub rules: Rules,
    /// How often.
    pub rates: Vec<(RpcSet, Rate)>,
    /// The lists as they are written, to say which entry allows something.
    pub(super) written: Written,
}

/// The lists of a caller as they are written.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) rpcs: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) sms_senders: Vec<String>,
    pub(super) email_senders: Vec<String>,
}

/// What a principal must be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Match {
    /// A certificate with this URI among its names.
    Spiffe(String),
    /// A certificate with this DNS name, in lower case.
    Dns(String),
    /// A token of this issuer for this subject.
    Subject {
        /// The policy's name of the issuer.
        issuer: String,
        /// `sub`.
        subject: String,
    },
    /// Whom a pinned proxy of the mesh vouches for.
    Mesh(String),
}

/// Reads the text of a file.
pub(super) fn parse(bytes: &[u8]) -> Result<File, Vec<Problem>> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| vec![Problem::of_file("the file is not UTF-8 text")])?;
    // What a full disk or a write that is under way leaves must not lock everybody out.
    if text.trim().is_empty() {
        return Err(vec![Problem::of_file("the file is empty; to let nobody in write callers = []")]);
    }
    let reading = Reading::new(text);
    let file = file(&reading, text);
    let problems = reading.problems();
    match file {
        Some(file) if problems.is_empty() => Ok(file),
        _ => Err(problems),
    }
}

fn file(reading: &Reading<'_>, text: &str) -> Option<File> {
    let table = reading.table()?;
    let fields = Fields::new(reading, "", table.span(), table.get_ref());
    let mut file = File::default();
    // Once more as plain values: what stands in an issuer's table is known to whoever verifies its tokens.
    let plain: toml::Table = text.parse().unwrap_or_default();
    let mut places = Vec::new();
    for (index, (path, value)) in fields.list("issuers", jwt::MAX_ISSUERS).into_iter().enumerate() {
        let Some(written) = Fields::of(reading, path, value) else { continue };
        let table = plain.get("issuers").and_then(|list| list.get(index)).cloned();
        match issuer(table.unwrap_or(toml::Value::Boolean(false))) {
            Ok(issuer) if is_name(&issuer.name) => {
                file.issuers.push(issuer);
                places.push((index, written.span));
            }
            Ok(_) => {
                reading.problem::<()>(&written.span, &written.key("name"), BAD_NAME);
            }
            Err((key, what)) => {
                reading.problem::<()>(&written.span, &written.key(&key), what);
            }
        }
    }
    for (place, key, what) in jwt::problems(&file.issuers) {
        match places.get(place) {
            Some((index, span)) => {
                reading.problem::<()>(span, &format!("issuers[{index}].{key}"), what);
            }
            None => {
                reading.problem::<()>(&fields.span, key, what);
            }
        }
    }
    // The beginning of a file, or one of comments alone, must not lock everybody out either.
    if !plain.contains_key("callers") {
        reading.problem::<()>(&fields.span, "callers", "is missing; to let nobody in write callers = []");
    }
    let mut whose = HashMap::new();
    for (path, value) in fields.list("callers", MAX_CALLERS) {
        let Some(caller) = Fields::of(reading, path, value) else { continue };
        if let Some(listed) = listed(&caller, &file, &mut whose) {
            file.callers.push(listed);
        }
    }
    for (path, value) in fields.list("tests", MAX_TESTS) {
        if let Some(test) = Fields::of(reading, path, value).and_then(|fields| test(&fields, &file)) {
            file.tests.push(test);
        }
    }
    fields.finish();
    Some(file)
}

/// An issuer, or which of its keys is wrong, and what with it; never the value.
fn issuer(table: toml::Value) -> Result<Issuer, (String, String)> {
    serde_path_to_error::deserialize(table).map_err(|error| {
        let message = error.inner().message();
        let quoted = |prefix: &str| Some(message.strip_prefix(prefix)?.split('`').next()?.to_owned());
        if let Some(key) = quoted("missing field `") {
            return (key, "is missing".to_owned());
        }
        if let Some(key) = quoted("unknown field `") {
            return (key, "is not known here".to_owned());
        }
        let what = match message.split_once(", expected ") {
            Some((_, expected)) => format!("must be {expected}"),
            None => message.lines().next().unwrap_or("is not valid").to_owned(),
        };
        (error.path().to_string(), what)
    })
}

const BAD_NAME: &str = "must be 1 to 64 letters, digits, `.`, `_` and `-`";

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
}

/// One `[[callers]]`. `whose` says which caller a match belongs to already.
fn listed(fields: &Fields<'_, '_>, file: &File, whose: &mut HashMap<Match, String>) -> Option<Listed> {
    let reading = fields.reading;
    let name = fields.required("name");
    if let Some(name) = name {
        let what = if !is_name(name) {
            Some(BAD_NAME)
        } else if name == UNAUTHENTICATED {
            Some("is what callers are called who have proven nothing; choose another name")
        } else if file.callers.iter().any(|other| other.name == name) {
            Some("is the name of another caller already")
        } else {
            None
        };
        if let Some(what) = what {
            reading.problem::<()>(&fields.place("name"), &fields.key("name"), what);
        }
    }
    let mut matches = Vec::new();
    let written = fields.list("match", MOST_TEXTS);
    for (path, value) in written.iter().cloned() {
        let Some(one) = Fields::of(reading, path.clone(), value).and_then(|one| a_match(&one, file)) else {
            continue;
        };
        if let Some(other) = whose.insert(one.clone(), name.unwrap_or_default().to_owned()) {
            let what = format!("is a match of \"{}\" already; a principal is one caller", shown_name(&other));
            reading.problem::<()>(&value.span(), &path, what);
        }
        matches.push(one);
    }
    if written.is_empty() {
        reading.problem::<()>(&fields.place("match"), &fields.key("match"), "must say who this caller is");
    }
    let (rules, written) = rules(fields, file);
    let rates = rates(fields);
    fields.finish();
    Some(Listed { name: name?.to_owned(), matches, rules, rates, written })
}

fn shown_name(name: &str) -> &str {
    if is_name(name) { name } else { "another caller" }
}

fn a_match(fields: &Fields<'_, '_>, file: &File) -> Option<Match> {
    let reading = fields.reading;
    let wrong = |key: &'static str, what: &str| reading.problem(&fields.place(key), &fields.key(key), what);
    let (spiffe, dns, mesh) = (fields.text("spiffe"), fields.text("dns"), fields.text("mesh"));
    let (issuer, subject) = (fields.text("issuer"), fields.text("subject"));
    fields.finish();
    match (spiffe, dns, mesh, issuer, subject) {
        (Some(uri), None, None, None, None) => {
            let is_id =
                uri.strip_prefix("spiffe://").is_some_and(|rest| !rest.is_empty() && !uri.contains('*'));
            if is_id {
                Some(Match::Spiffe(uri.to_owned()))
            } else {
                wrong("spiffe", "must be a whole SPIFFE id")
            }
        }
        (None, Some(name), None, None, None) => {
            let is_name = !name.is_empty() && !name.contains(['*', '/', ' ', ':']);
            if is_name {
                Some(Match::Dns(name.to_ascii_lowercase()))
            } else {
                wrong("dns", "must be a whole DNS name")
            }
        }
        (None, None, Some(name), None, None) => {
            if name.is_empty() {
                wrong("mesh", "must not be empty")
            } else {
                Some(Match::Mesh(name.to_owned()))
            }
        }
        (None, None, None, Some(issuer), Some(subject)) => {
            if !file.issuers.iter().any(|known| known.name == issuer) {
                return wrong("issuer", "must be the name of one of [[issuers]]");
            }
            if subject.is_empty() {
                return wrong("subject", "must not be empty");
            }
            Some(Match::Subject { issuer: issuer.to_owned(), subject: subject.to_owned() })
        }
        _ => reading.problem(
            &fields.span,
            &fields.path,
            "must be one of { spiffe }, { dns }, { mesh } or { issuer, subject }, each a text",
        ),
    }
}

fn rules(fields: &Fields<'_, '_>, file: &File) -> (Rules, Written) {
    let reading = fields.reading;
    let mut written = Written::default();
    let mut rules = Rules::default();
    for (path, span, pattern) in fields.texts("rpcs") {
        match RpcSet::of_pattern(pattern) {
            Some(set) => {
                rules.rpcs = rules.rpcs.and(set);
                written.rpcs.push(pattern.to_owned());
            }
            None => drop(reading.problem::<()>(&span, &path, BAD_RPC)),
        }
    }
    rules.scopes = scopes(fields);
    if let Some(value) = fields.value("max_validity") {
        rules.max_validity = validity(fields, value, "max_validity").unwrap_or(Validity::MAX);
    }
    let names = |key, problem: fn(&str) -> Option<&'static str>| -> Vec<String> {
        let mut names = Vec::new();
        for (path, span, name) in fields.texts(key) {
            match problem(name) {
                None => names.push(name.to_owned()),
                Some(what) => drop(reading.problem::<()>(&span, &path, what)),
            }
        }
        names
    };
    written.users = names("user_prefixes", |prefix| {
        (!is_prefix(prefix)).then_some("must be the beginning of user ids, or \"*\" for all")
    });
    written.sms_senders = names("sms_senders", |pattern| {
        (!is_pattern(pattern)).then_some("must be a sender, beginning*, *end or \"*\" for all")
    });
    written.email_senders = names("email_senders", mail_pattern_problem);
    rules.users = Patterns::beginnings(&written.users);
    rules.sms_senders = Patterns::senders(&written.sms_senders);
    rules.email_senders = Patterns::senders(&written.email_senders);
    rules.service_identity = fields.switch("service_identity");
    rules.every_event = match fields.text("events") {
        None | Some("own") => false,
        Some("all") => true,
        Some(_) => reading
            .problem(&fields.place("events"), &fields.key("events"), "must be \"own\" or \"all\"")
            .unwrap_or(false),
    };
    let claim = fields.text("user_claim");
    match fields.text("user_token") {
        Some(issuer) if file.issuers.iter().any(|known| known.name == issuer) => {
            let claim = claim.unwrap_or("sub");
            rules.end_user = Some(EndUserRule { issuer: Arc::from(issuer), claim: Arc::from(claim) });
        }
        Some(_) => {
            let what = "must be the name of one of [[issuers]]";
            reading.problem::<()>(&fields.place("user_token"), &fields.key("user_token"), what);
        }
        None if claim.is_some() => {
            reading.problem::<()>(
                &fields.span,
                &fields.key("user_claim"),
                "means nothing without user_token",
            );
        }
        None => {}
    }
    (rules, written)
}

const BAD_RPC: &str = "must be an RPC such as \"TokenService/IssueToken\", all of a service such as \"TokenService/*\", or \"*\"";

fn is_prefix(prefix: &str) -> bool {
    prefix == "*" || (!prefix.is_empty() && !prefix.contains('*') && prefix.len() <= 256)
}

/// One star, at the beginning or at the end.
fn is_pattern(pattern: &str) -> bool {
    let inner = pattern.strip_suffix('*').or_else(|| pattern.strip_prefix('*')).unwrap_or(pattern);
    !pattern.is_empty() && !inner.contains('*') && pattern.trim() == pattern
}

fn scopes(fields: &Fields<'_, '_>) -> Option<ScopeSet> {
    let mut scopes = Vec::new();
    for (path, span, name) in fields.texts("scopes") {
        match name.parse::<Scope>() {
            Ok(scope) => scopes.push(scope),
            Err(invalid) => drop(fields.reading.problem::<()>(&span, &path, invalid.to_string())),
        }
    }
    ScopeSet::new(scopes).ok()
}

fn validity(fields: &Fields<'_, '_>, value: &Value<'_>, key: &'static str) -> Option<Validity> {
    let parsed = value.get_ref().as_str().and_then(|text| humantime::parse_duration(text).ok());
    match parsed.and_then(|time| Validity::from_duration(time).ok()) {
        Some(validity) => Some(validity),
        None => {
            fields.wrong(value, key, "must be a duration from 1h to 24h in whole minutes, such as \"12h\"")
        }
    }
}

fn rates(fields: &Fields<'_, '_>) -> Vec<(RpcSet, Rate)> {
    let mut rates = Vec::new();
    for (path, pattern, value) in fields.entries("quotas") {
        let wrong = |at: Range<usize>, what: &str| fields.reading.problem::<()>(&at, &path, what);
        let Some(set) = RpcSet::of_pattern(pattern) else {
            wrong(value.span(), BAD_RPC);
            continue;
        };
        match value.get_ref().as_str().map(str::parse::<Rate>) {
            Some(Ok(rate)) => rates.push((set, rate)),
            Some(Err(bad)) => drop(wrong(value.span(), &bad.to_string())),
            None => drop(wrong(value.span(), "must be a text such as \"100/s\"")),
        }
    }
    rates
}

/// One `[[tests]]`.
fn test(fields: &Fields<'_, '_>, file: &File) -> Option<Test> {
    let reading = fields.reading;
    let wrong =
        |key: &'static str, what: &str| reading.problem::<()>(&fields.place(key), &fields.key(key), what);
    let caller = fields.required("caller");
    if caller.is_some_and(|name| !file.callers.iter().any(|listed| listed.name == name)) {
        wrong("caller", "must be the name of one of [[callers]]");
    }
    let rpc = fields.required("rpc").and_then(|name| {
        let rpc = Rpc::named(name);
        rpc.or_else(|| wrong("rpc", "must be an RPC such as \"TokenService/IssueToken\"").and(None))
    });
    let user = fields.text("user").and_then(|id| match UserId::parse(id) {
        Ok(user) => Some(user),
        Err(invalid) => wrong("user", &invalid.to_string()).and(None),
    });
    let scopes = scopes(fields);
    let validity = fields.value("validity").and_then(|value| validity(fields, value, "validity"));
    let sender = fields.text("sender").map(str::to_owned);
    let missing = fields.text("missing").map(str::to_owned);
    let expected = match fields.required("expect") {
        Some("allow") if missing.is_none() => Some(Expected::Allow),
        Some("deny") => Some(Expected::Deny { missing }),
        Some("allow") => wrong("missing", "means nothing where \"allow\" is expected").and(None),
        Some(_) => wrong("expect", "must be \"allow\" or \"deny\"").and(None),
        None => None,
    };
    fields.finish();
    Some(Test {
        line: reading.line(&fields.span),
        path: fields.path.clone(),
        caller: caller?.to_owned(),
        case: Case { rpc: rpc?, user, scopes, validity, sender },
        expected: expected?,
    })
}
