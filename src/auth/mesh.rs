//! Evidence: what a proxy of the mesh says about whom it let through, in a header.
//!
//! A header is only as good as who wrote it. So it is read on connections of pinned peers alone: those whose own client
//! certificate has a pinned name, or the sidecar on this machine. From anybody else it is no evidence at all, and the
//! call stands on what else it brings. What a pinned peer sends must be well formed, or the call is refused. Of
//! Envoy's `x-forwarded-client-cert` only the last element counts: Envoy appends its own to what the client sent.

use std::sync::Arc;

use async_trait::async_trait;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;

use super::{Authenticator, Credentials, Peer, Principal, Verdict, mtls};

/// The longest name: what SPIFFE allows.
const MAX_NAME_BYTES: usize = 2048;

const XFCC: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const L5D: HeaderName = HeaderName::from_static("l5d-client-id");

/// `[auth.mesh]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Which header is read.
    pub header: Header,
    /// From whom it is believed, separated by commas: `spiffe://…`, `dns:…`, `loopback`.
    pub pinned: String,
}

/// A header in which a mesh tells who calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub enum Header {
    /// None is read.
    #[default]
    #[serde(rename = "")]
    None,
    /// Envoy's and Istio's `x-forwarded-client-cert`.
    #[serde(rename = "xfcc")]
    Xfcc,
    /// Linkerd's `l5d-client-id`.
    #[serde(rename = "l5d-client-id")]
    L5dClientId,
}

impl Settings {
    /// What is wrong: the key within `[auth.mesh]`, and what would be right.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        match (self.header, pins(&self.pinned)) {
            (_, Err(number)) => problems.push((
                "pinned",
                format!("must be names like spiffe://…, dns:… or loopback, separated by commas; number {number} is none"),
            )),
            (Header::Xfcc | Header::L5dClientId, Ok(pins)) if pins.is_empty() => {
                problems.push(("pinned", "must not be empty while auth.mesh.header is set".to_owned()));
            }
            (Header::None, Ok(pins)) if !pins.is_empty() => {
                problems.push(("header", "must be set while auth.mesh.pinned is".to_owned()));
            }
            _ => {}
        }
        problems
    }
}

/// A peer whose word counts.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Pin {
    /// Whoever is on this machine: the sidecar, and every other process here.
    Loopback,
    /// A certificate with this URI name.
    Uri(String),
    /// A certificate with this DNS name.
    Dns(String),
}

/// The pins in a text, or the number of the first that is none.
fn pins(text: &str) -> Result<Vec<Pin>, usize> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    (1..).zip(text.split(',').map(str::trim)).map(|(number, text)| pin(text).ok_or(number)).collect()
}

fn pin(text: &str) -> Option<Pin> {
    if text == "loopback" {
        return Some(Pin::Loopback);
    }
    if let Some(name) = text.strip_prefix("dns:") {
        // A wildcard in a pin would let in whoever gets any certificate below it.
        let plain = is_name(name) && !name.contains(['*', '/', ':']);
        return plain.then(|| Pin::Dns(name.to_ascii_lowercase()));
    }
    let rest = text.strip_prefix("spiffe://")?;
    (is_name(text) && !rest.is_empty() && !rest.contains('*')).then(|| Pin::Uri(text.to_owned()))
}

/// Takes the word of pinned proxies.
#[derive(Debug)]
pub struct Mesh {
    header: Header,
    pinned: Vec<Pin>,
}

impl Mesh {
    /// As the settings say; none if no header is read. Pins that are none pin nobody: `problems` has told of them.
    pub fn new(settings: &Settings) -> Option<Self> {
        let pinned = pins(&settings.pinned).unwrap_or_default();
        (settings.header != Header::None).then_some(Self { header: settings.header, pinned })
    }

    fn is_pinned(&self, peer: &Peer) -> bool {
        // One that must be refused as proof of who its owner is, such as one of two SPIFFE ids, makes nobody a proxy.
        let certificate = peer.certificate.as_ref().filter(|certificate| mtls::unfit(certificate).is_none());
        self.pinned.iter().any(|pin| match (pin, certificate) {
            (Pin::Loopback, _) => peer.is_local(),
            (Pin::Uri(uri), Some(certificate)) => certificate.uris.contains(uri),
            (Pin::Dns(name), Some(certificate)) => {
                certificate.dns.iter().any(|dns| dns.eq_ignore_ascii_case(name))
            }
            (Pin::Uri(_) | Pin::Dns(_), None) => false,
        })
    }
}

#[async_trait]
impl Authenticator for Mesh {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict {
        if !self.is_pinned(credentials.peer) {
            return Verdict::NotPresented;
        }
        let (name, read): (_, fn(&str) -> Result<&str, &'static str>) = match self.header {
            Header::None => return Verdict::NotPresented,
            Header::Xfcc => (XFCC, xfcc),
            Header::L5dClientId => (L5D, l5d),
        };
        match only(credentials.headers, &name) {
            Ok(None) => Verdict::NotPresented,
            Ok(Some(value)) => {
                match value.to_str().map_err(|_| "the mesh header is not plain text").and_then(read) {
                    Ok(name) => Verdict::Proven(Principal::Mesh(Arc::from(name))),
                    Err(why) => Verdict::Refused(why),
                }
            }
            Err(why) => Verdict::Refused(why),
        }
    }
}

/// The one value of a header. With two it is not clear which of them the proxy wrote.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (value, None) => Ok(value),
        (_, Some(_)) => Err("the mesh header is there more than once"),
    }
}

/// Whether a text can be the name of a workload: visible, without what separates elsewhere.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"\\,;=<>".contains(&byte);
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(plain)
}

/// The client that Linkerd names.
fn l5d(value: &str) -> Result<&str, &'static str> {
    if is_name(value) { Ok(value) } else { Err("l5d-client-id is not a name") }
}

/// The client in the last element of an `x-forwarded-client-cert`: its URI, or if it has none, its DNS name.
fn xfcc(value: &str) -> Result<&str, &'static str> {
    const MALFORMED: &str = "x-forwarded-client-cert is malformed";
    let (mut uri, mut dns) = (Names::default(), Names::default());
    let mut rest = Some(value);
    while let Some(text) = rest {
        let (pair, end, after) = pair(text).ok_or(MALFORMED)?;
        match pair.key {
            key if key.eq_ignore_ascii_case("uri") => uri.add(pair.value),
            key if key.eq_ignore_ascii_case("dns") => dns.add(pair.value),
            _ => {}
        }
        // A comma ends an element, and what it named was another hop's client.
        if end == End::Element {
            (uri, dns) = (Names::default(), Names::default());
        }
        rest = after;
    }
    let names = if uri.count > 0 { uri } else { dns };
    match (names.count, names.first) {
        (0, _) => Err("x-forwarded-client-cert names nobody"),
        (1, Some(name)) if is_name(name) => Ok(name),
        (1, _) => Err(MALFORMED),
        _ => Err("x-forwarded-client-cert has several names of a kind"),
    }
}

/// The names of one kind in one element.
#[derive(Default)]
struct Names<'a> {
    first: Option<&'a str>,
    count: usize,
}

impl<'a> Names<'a> {
    fn add(&mut self, name: &'a str) {
        // Envoy writes `URI=` also for a certificate without one.
        if name.is_empty() {
            return;
        }
        self.first = self.first.or(Some(name));
        self.count += 1;
    }
}

/// `key=value`; the value without its quotes.
struct Pair<'a> {
    key: &'a str,
    value: &'a str,
}

/// What a pair is followed by.
#[derive(PartialEq, Eq)]
enum End {
    /// Another pair of the same element.
    Pair,
    /// Another element.
    Element,
    /// Nothing.
    Text,
}

/// The first pair of a text, what ends it, and what comes after. None if there is no whole one.
fn pair(text: &str) -> Option<(Pair<'_>, End, Option<&str>)> {
    let (key, rest) = text.trim_start_matches(' ').split_once('=')?;
    if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let (value, rest) = match rest.strip_prefix('"') {
        // An escaped quote stays escaped: no name has one, and `is_name` refuses it.
        Some(quoted) => {
            quoted.split_at_checked(closing_quote(quoted)?).map(|(value, rest)| (value, rest.get(1..)))?
        }
        None => {
            let end = rest.find([',', ';']).unwrap_or(rest.len());
            let (value, rest) = rest.split_at_checked(end)?;
            if value.contains('"') {
                return None;
            }
            (value, Some(rest))
        }
    };
    let rest = rest?.trim_start_matches(' ');
    let pair = Pair { key, value };
    match rest.as_bytes().first() {
        None => Some((pair, End::Text, None)),
        Some(b';') => Some((pair, End::Pair, Some(rest.get(1..)?))),
        Some(b',') => Some((pair, End::Element, Some(rest.get(1..)?))),
        Some(_) => None,
    }
}

/// Where the first quote is that no backslash escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

#[cfg(test)]
#[path = "mesh_tests.rs"]
mod tests;
