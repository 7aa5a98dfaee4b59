//! Where key sets come from: a URL, what an issuer's discovery document names, or a file.
//!
//! Follows no redirect, sends its bearer token to no other origin than the one that was configured, reads no more than
//! 256 KiB. It decides nothing about when to fetch; `jwks` does. Its problems are for the log: they name what is wrong,
//! never what a document says.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, CACHE_CONTROL, HeaderValue};
use reqwest::{Client, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use url::{Host, Url};

use super::key::Keys;
use crate::auth::json;
use crate::reload::read_up_to;

/// The largest document or file that is read.
const MAX_BYTES: usize = 262_144;
/// The largest bearer token.
const MAX_BEARER: u64 = 16_384;
/// What discovery adds to an issuer.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Keys as they were fetched.
pub(crate) struct Fetched {
    pub(crate) keys: Keys,
    /// How long the source says that they may be kept.
    pub(crate) max_age: Option<Duration>,
}

/// Why keys could not be fetched; the text is for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) what: String,
    /// Somebody answers who has not proven to be the issuer. Asking again does not mend that.
    pub(crate) is_impostor: bool,
}

impl<T: Into<String>> From<T> for Fault {
    fn from(what: T) -> Self {
        Self { what: what.into(), is_impostor: false }
    }
}

impl Fault {
    fn impostor(what: String) -> Self {
        Self { what, is_impostor: true }
    }

    fn prefixed(self, prefix: &str) -> Self {
        Self { what: format!("{prefix}: {}", self.what), ..self }
    }

    /// What a request failed for.
    fn of_request(error: &reqwest::Error) -> Self {
        Self { what: cause(error), is_impostor: is_untrusted(error) }
    }
}

/// Fetches keys.
#[async_trait]
pub(crate) trait Fetch: Send + Sync {
    /// What a source holds now, or what is wrong with it, for the log.
    async fn fetch(&self) -> Result<Fetched, Fault>;
}

/// Where an issuer's keys come from.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// A file.
    File(PathBuf),
    /// A URL.
    Url { jwks: Url, trust: Trust },
    /// What the discovery document of this issuer names.
    Discovery { issuer: String, document: Url, trust: Trust },
}

/// How to reach an HTTPS server: files that are read anew at each fetch, for both are replaced while the broker runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Trust {
    /// PEM of the authorities to trust beside the system's.
    pub(crate) ca_file: Option<PathBuf>,
    /// What to present as `Authorization: Bearer`.
    pub(crate) bearer_file: Option<PathBuf>,
}

impl Source {
    /// What to call it in a log.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Url { jwks, .. } => jwks.to_string(),
            Self::Discovery { issuer, .. } => issuer.clone(),
        }
    }

    /// Whether looking costs nobody else anything.
    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

/// A URL that keys may be fetched from: HTTPS, or HTTP on this machine, and nothing in it but scheme, host and path.
pub(crate) fn url(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text).map_err(|_| "must be a URL")?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err("must have no user and no query");
    }
    if url.fragment().is_some() {
        return Err("must have no fragment");
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        _ => Err("must begin with https:// (http:// on this machine only)"),
    }
}

/// Where an issuer's discovery document is.
pub(crate) fn discovery(issuer: &str) -> Result<Url, &'static str> {
    url(issuer)?;
    url(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/')))
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).to_canonical().is_loopback(),
        None => false,
    }
}

#[async_trait]
impl Fetch for Source {
    async fn fetch(&self) -> Result<Fetched, Fault> {
        match self {
            Self::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_up_to(&path, MAX_BYTES as u64)).await;
                let content = read.map_err(|_| "reading it was cut off".to_owned())??;
                Ok(Fetched { keys: keys(&content)?, max_age: None })
            }
            Self::Url { jwks, trust } => {
                let server = Server::new(jwks, trust).await?;
                let (body, max_age) = server.get(jwks).await?;
                Ok(Fetched { keys: keys(&body)?, max_age })
            }
            Self::Discovery { issuer, document, trust } => {
                let server = Server::new(document, trust).await?;
                let (body, _) = server.get(document).await.map_err(|fault| fault.prefixed("discovery"))?;
                let jwks = named_in(&body, issuer, document);
                let jwks = jwks.map_err(|what| Fault::impostor(format!("discovery: {what}")))?;
                let (body, max_age) = server.get(&jwks).await?;
                Ok(Fetched { keys: keys(&body)?, max_age })
            }
        }
    }
}

fn keys(document: &[u8]) -> Result<Keys, String> {
    Keys::read(document).map_err(|unusable| format!("the key set cannot be used: {unusable}"))
}

/// Where the discovery document says that the keys are. It must be that of the issuer, and must not lead out of HTTPS.
pub(crate) fn named_in(document: &[u8], issuer: &str, from: &Url) -> Result<Url, &'static str> {
    let document = json::object(document).ok_or("it is no JSON object")?;
    if document.get("issuer").and_then(Value::as_str) != Some(issuer) {
        return Err("it is that of another issuer");
    }
    let named = document.get("jwks_uri").and_then(Value::as_str).ok_or("it names no jwks_uri")?;
    let jwks = Url::parse(named).map_err(|_| "its jwks_uri is no URL")?;
    let fits = jwks.scheme() == "https" || (from.scheme() == "http" && url(named).is_ok());
    if fits { Ok(jwks) } else { Err("its jwks_uri does not begin with https://") }
}

/// An HTTPS client for one fetch. Fetches are rare, so nothing is kept between them, and new certificates count at once.
struct Server {
    http: Client,
    bearer: Option<HeaderValue>,
    /// The only origin that sees the bearer token.
    home: Url,
}

impl Server {
    async fn new(home: &Url, trust: &Trust) -> Result<Self, String> {
        let (home, trust) = (home.clone(), trust.clone());
        // Reads files.
        let built = tokio::task::spawn_blocking(move || Self::build(home, &trust)).await;
        built.map_err(|_| "setting up the client was cut off".to_owned())?
    }

    fn build(home: Url, trust: &Trust) -> Result<Self, String> {
        let mut http = Client::builder()
            .user_agent(concat!("acs-broker/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls(&home, trust.ca_file.as_deref())?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false);
        if is_loopback(&home) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|_| "the HTTP client cannot be set up".to_owned())?;
        let bearer = match &trust.bearer_file {
            Some(path) => {
                let token = read_up_to(path, MAX_BEARER)?;
                let value = [b"Bearer ", token.trim_ascii()].concat();
                let mut value = HeaderValue::from_bytes(&value)
                    .map_err(|_| format!("{} does not hold a token", path.display()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        Ok(Self { http, bearer, home })
    }

    /// The body of an answer, and how long it may be kept.
    async fn get(&self, url: &Url) -> Result<(Vec<u8>, Option<Duration>), Fault> {
        let mut request = self.http.get(url.clone());
        if let Some(bearer) = &self.bearer
            && url.origin() == self.home.origin()
        {
            request = request.header(AUTHORIZATION, bearer.clone());
        }
        let mut response = request.send().await.map_err(|error| Fault::of_request(&error.without_url()))?;
        if response.status() != StatusCode::OK {
            return Err(format!("{} answered {}", host(url), response.status().as_u16()).into());
        }
        let max_age = response.headers().get(CACHE_CONTROL).and_then(|value| max_age(value.to_str().ok()?));
        let mut body = Vec::new();
        while let Some(chunk) =
            response.chunk().await.map_err(|error| Fault::of_request(&error.without_url()))?
        {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(format!("{} answered with more than {MAX_BYTES} bytes", host(url)).into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, max_age))
    }
}

fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("the server")
}

/// What went wrong, with its causes: "connection refused" is in the last one.
fn cause(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// Whether a server has shown a certificate that nobody here vouches for.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        next = match error.downcast_ref::<std::io::Error>() {
            // What an I/O error carries is not its source.
            Some(carrier) => carrier.get_ref().map(|carried| carried as &(dyn std::error::Error + 'static)),
            None => error.source(),
        };
    }
    false
}

/// The `max-age` of a `Cache-Control` header; an answer that must not be kept has none left.
pub(crate) fn max_age(header: &str) -> Option<Duration> {
    let mut age = None;
    for directive in header.split(',').map(str::trim) {
        if directive.eq_ignore_ascii_case("no-store") || directive.eq_ignore_ascii_case("no-cache") {
            return Some(Duration::ZERO);
        }
        if let Some((name, seconds)) = directive.split_once('=')
            && name.trim().eq_ignore_ascii_case("max-age")
        {
            age = seconds.trim().trim_matches('"').parse().ok().map(Duration::from_secs);
        }
    }
    age
}

fn tls(home: &Url, ca_file: Option<&Path>) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    // Without TLS no authority is needed, and reading those of the system takes a while.
    if home.scheme() == "https" {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if let Some(path) = ca_file {
        let pem = read_up_to(path, MAX_BYTES as u64)?;
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|_| format!("{} is not a PEM file of certificates", path.display()))?;
        let (added, ignored) = roots.add_parsable_certificates(certificates);
        if added == 0 || ignored > 0 {
            return Err(format!("{} holds no certificate, or one that cannot be used", path.display()));
        }
    }
    // Named, so that nothing depends on a process-wide default.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| "TLS cannot be set up".to_owned())?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in [
            "https://issuer.example/keys",
            "https://kubernetes.default.svc/openid/v1/jwks",
            "http://127.0.0.1:8080/keys",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            assert!(url(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "issuer.example",
            "http://issuer.example/keys",
            "http://127.0.0.1.example/keys",
            "http://10.0.0.1/keys",
            "ftp://issuer.example/keys",
            "file:///etc/keys",
            "https://user@issuer.example/keys",
            "https://issuer.example/keys?a=b",
            "https://issuer.example/keys#a",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
        for issuer in ["https://issuer.example/a", "https://issuer.example/a/"] {
            assert_eq!(
                discovery(issuer).unwrap().as_str(),
                "https://issuer.example/a/.well-known/openid-configuration"
            );
        }
    }

    #[test]
    fn a_discovery_document_must_be_that_of_the_issuer_and_stay_on_https() {
        let (issuer, from) = ("https://a.example", discovery("https://a.example").unwrap());
        let named = |text: &str| named_in(text.as_bytes(), issuer, &from).map(String::from);
        let good = r#"{"issuer":"https://a.example","jwks_uri":"https://keys.example/k?v=1"}"#;
        assert_eq!(named(good).as_deref(), Ok("https://keys.example/k?v=1"));
        for bad in [
            "",
            r#"{"jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":"https://a.example/","jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":"https://b.example","jwks_uri":"https://keys.example/k"}"#,
            r#"{"issuer":"https://a.example"}"#,
            r#"{"issuer":"https://a.example","jwks_uri":"keys"}"#,
            r#"{"issuer":"https://a.example","jwks_uri":"http://keys.example/k"}"#,
            r#"{"issuer":"https://a.example","jwks_uri":"http://127.0.0.1/k"}"#,
            r#"{"issuer":"https://a.example","jwks_uri":"file:///k"}"#,
        ] {
            assert!(named(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn max_age_is_read_as_the_server_says_it() {
        let seconds = |header: &str| max_age(header).map(|age| age.as_secs());
        assert_eq!(seconds("public, max-age=3600"), Some(3600));
        assert_eq!(seconds("MAX-AGE=\"60\", must-revalidate"), Some(60));
        assert_eq!(seconds("max-age=3600, no-store"), Some(0));
        assert_eq!(seconds("no-cache"), Some(0));
        assert_eq!(seconds("private"), None);
        assert_eq!(seconds("max-age=-1, max-age=soon"), None);
        assert_eq!(seconds("s-maxage=5"), None);
    }
}
