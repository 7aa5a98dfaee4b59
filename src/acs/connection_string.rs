//! The connection string of an ACS resource: `endpoint=https://<host>/;accesskey=<base64>`.
//!
//! As tolerant as the official SDKs where that is harmless: any order, any case of the keys, spaces around keys and
//! values, a trailing `;`, slashes after the host, unknown further pairs (ignored, as the Python and .NET SDKs do).
//! Whatever would break the signature later is refused now. No error and no `Debug` text ever shows a value.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretSlice};
use url::{Host, Url};

/// The longest text that is looked at; a real one has about 200 bytes.
const MAX_BYTES: usize = 8192;

/// Where an ACS resource is and the key that signs requests to it.
#[derive(Clone)]
pub struct ConnectionString {
    endpoint: Endpoint,
    access_key: SecretSlice<u8>,
}

/// Where an ACS resource is. No secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `https://host[:port]`, without a trailing slash.
    base: String,
    /// `host[:port]`, the port only if it is not the scheme's own: what the `Host` header says and the signature covers.
    authority: String,
    loopback: bool,
}

/// What is wrong with a connection string, and the mend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// Nothing there.
    #[error("is empty; copy it from the resource's Keys page: endpoint=https://<host>/;accesskey=<base64>")]
    Empty,
    /// Far too long.
    #[error("is longer than {MAX_BYTES} bytes; it should be one endpoint=…;accesskey=… text")]
    TooLong,
    /// Starts with a quotation mark.
    #[error("starts with a quotation mark; remove the quotation marks around it")]
    Quoted,
    /// A part without `=`.
    #[error(
        "has a part that is not name=value; copy the whole text again: endpoint=https://<host>/;accesskey=<base64>"
    )]
    NotAPair,
    /// No endpoint.
    #[error("has no endpoint=https://<host>/ part; copy the whole text again")]
    EndpointMissing,
    /// No key.
    #[error("has no accesskey=<base64> part, it may be cut off; copy the whole text again")]
    AccessKeyMissing,
    /// `endpoint` twice.
    #[error("names endpoint more than once; keep one")]
    EndpointTwice,
    /// `accesskey` twice.
    #[error("names accesskey more than once; keep one")]
    AccessKeyTwice,
    /// `endpoint=` without a value.
    #[error("has an empty endpoint; write endpoint=https://<host>/")]
    EndpointEmpty,
    /// `accesskey=` without a value.
    #[error("has an empty accesskey, it may be cut off; copy the whole text again")]
    AccessKeyEmpty,
    /// Neither http nor https.
    #[error("has an endpoint that does not start with https://; write endpoint=https://<host>/")]
    EndpointScheme,
    /// http to another machine.
    #[error(
        "has an http:// endpoint that is not on this machine; write https://, for only an emulator on loopback may be called unencrypted"
    )]
    EndpointNotEncrypted,
    /// No URL.
    #[error("has an endpoint that is no URL; write endpoint=https://<host>/")]
    EndpointNotUrl,
    /// A path, query or fragment.
    #[error(
        "has an endpoint with a path, query or fragment, which would break signatures; end it after the host"
    )]
    EndpointPath,
    /// A user or password.
    #[error("has an endpoint with a user name or password; remove it, the accesskey is the credential")]
    EndpointUser,
    /// Not base64.
    #[error("has an accesskey that is not base64, it may be cut off; copy the whole key again")]
    AccessKeyNotBase64,
}

impl ConnectionStringError {
    /// The same of an endpoint that stands alone.
    pub(crate) fn of_endpoint(self) -> String {
        match self {
            Self::Empty | Self::EndpointEmpty => {
                "is not set; write https://<resource>.communication.azure.com".to_owned()
            }
            other => other
                .to_string()
                .replace("has an endpoint", "is an endpoint")
                .replace("endpoint=https", "https"),
        }
    }
}

impl ConnectionString {
    /// Reads a connection string.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        use ConnectionStringError as Wrong;
        let text = text.trim();
        if text.is_empty() {
            return Err(Wrong::Empty);
        }
        if text.len() > MAX_BYTES {
            return Err(Wrong::TooLong);
        }
        if text.starts_with(['"', '\'']) {
            return Err(Wrong::Quoted);
        }
        let (mut endpoint, mut access_key) = (None, None);
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            // Values hold `=` themselves (base64 padding): the first one separates.
            let (name, value) = part.split_once('=').ok_or(Wrong::NotAPair)?;
            let (name, value) = (name.trim(), value.trim());
            if name.eq_ignore_ascii_case("endpoint") {
                if endpoint.replace(value).is_some() {
                    return Err(Wrong::EndpointTwice);
                }
            } else if name.eq_ignore_ascii_case("accesskey") && access_key.replace(value).is_some() {
                return Err(Wrong::AccessKeyTwice);
            }
        }
        let endpoint = Endpoint::parse(endpoint.ok_or(Wrong::EndpointMissing)?)?;
        let access_key = match access_key {
            None => return Err(Wrong::AccessKeyMissing),
            Some("") => return Err(Wrong::AccessKeyEmpty),
            Some(key) => STANDARD.decode(key).map_err(|_| Wrong::AccessKeyNotBase64)?.into(),
        };
        Ok(Self { endpoint, access_key })
    }

    /// Where the resource is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The decoded key, for signing and for fingerprints of it.
    pub(crate) fn access_key(&self) -> &[u8] {
        self.access_key.expose_secret()
    }
}

impl Endpoint {
    /// Reads an endpoint: `https://<host>[:port]`, slashes after it do no harm. On this machine `http://` will do.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        read_endpoint(text.trim())
    }

    /// `https://host[:port]` without a trailing slash.
    pub fn as_str(&self) -> &str {
        &self.base
    }

    /// `host[:port]` as requests name it and signatures cover it.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        self.loopback
    }

    /// Whether requests are encrypted.
    pub(crate) fn is_https(&self) -> bool {
        self.base.starts_with("https://")
    }
}

fn read_endpoint(text: &str) -> Result<Endpoint, ConnectionStringError> {
    use ConnectionStringError as Wrong;
    if text.is_empty() {
        return Err(Wrong::EndpointEmpty);
    }
    let scheme = |name: &str| text.get(..name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name));
    let https = scheme("https://");
    if !https && !scheme("http://") {
        return Err(Wrong::EndpointScheme);
    }
    // The URL parser quietly drops tabs and reads `\` as `/`; no such text is a host that anybody meant.
    if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '\\') {
        return Err(Wrong::EndpointNotUrl);
    }
    let url = Url::parse(text).map_err(|_| Wrong::EndpointNotUrl)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Wrong::EndpointUser);
    }
    if url.path().bytes().any(|byte| byte != b'/') || url.query().is_some() || url.fragment().is_some() {
        return Err(Wrong::EndpointPath);
    }
    let host = url.host().ok_or(Wrong::EndpointNotUrl)?;
    let loopback = match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => is_loopback_v4(address),
        Host::Ipv6(address) => is_loopback_v6(address),
    };
    if !https && !loopback {
        return Err(Wrong::EndpointNotEncrypted);
    }
    let authority = match url.port() {
        None => host.to_string(),
        Some(port) => format!("{host}:{port}"),
    };
    Ok(Endpoint { base: format!("{}://{authority}", url.scheme()), authority, loopback })
}

fn is_loopback_v4(address: Ipv4Addr) -> bool {
    address.is_loopback()
}

fn is_loopback_v6(address: Ipv6Addr) -> bool {
    address.is_loopback() || address.to_ipv4_mapped().is_some_and(is_loopback_v4)
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnectionString({}, access key <set>)", self.endpoint.base)
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionStringError as Wrong;
    use super::*;
    use proptest::prelude::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    fn parse(text: &str) -> Result<ConnectionString, ConnectionStringError> {
        ConnectionString::parse(&text.replace("KEY", KEY))
    }

    #[test]
    fn the_forms_that_mean_no_harm_are_one_and_the_same() {
        for text in [
            "endpoint=https://contoso.communication.azure.com/;accesskey=KEY",
            "accesskey=KEY;endpoint=https://contoso.communication.azure.com/",
            "EndPoint=https://contoso.communication.azure.com;AccessKey=KEY",
            "endpoint=https://contoso.communication.azure.com/;accesskey=KEY;",
            " endpoint = https://contoso.communication.azure.com// ; accesskey = KEY ;\n",
            "endpoint=https://CONTOSO.communication.azure.com:443/;accesskey=KEY;region=eu;;",
            "endpoint=HTTPS://contoso.communication.azure.com/;accesskey=KEY",
        ] {
            let parsed = parse(text).unwrap_or_else(|wrong| panic!("{text}: {wrong}"));
            assert_eq!(parsed.endpoint().as_str(), "https://contoso.communication.azure.com", "{text}");
            assert_eq!(parsed.endpoint().authority(), "contoso.communication.azure.com", "{text}");
            assert_eq!(parsed.access_key(), (0..32).collect::<Vec<u8>>(), "{text}");
            assert!(parsed.endpoint().is_https() && !parsed.endpoint().is_loopback());
        }
    }

    #[test]
    fn unencrypted_endpoints_are_for_loopback_only() {
        for (host, authority) in [
            ("127.0.0.1:8082", "127.0.0.1:8082"),
            ("127.8.9.1", "127.8.9.1"),
            ("localhost:1", "localhost:1"),
            ("[::1]:8082", "[::1]:8082"),
            ("[::ffff:127.0.0.1]", "[::ffff:7f00:1]"),
            ("127.0.0.1:80", "127.0.0.1"),
        ] {
            let parsed = parse(&format!("endpoint=http://{host}/;accesskey=KEY")).unwrap();
            assert_eq!(parsed.endpoint().authority(), authority);
            assert!(parsed.endpoint().is_loopback() && !parsed.endpoint().is_https(), "{host}");
        }
        for host in ["contoso.communication.azure.com", "10.0.0.1", "[2001:db8::1]", "localhost.example.com"]
        {
            let wrong = parse(&format!("endpoint=http://{host}/;accesskey=KEY")).unwrap_err();
            assert_eq!(wrong, Wrong::EndpointNotEncrypted, "{host}");
        }
    }

    #[test]
    fn each_fault_has_its_own_mend() {
        for (text, wrong) in [
            ("", Wrong::Empty),
            (" \n ", Wrong::Empty),
            ("\"endpoint=https://h/;accesskey=KEY\"", Wrong::Quoted),
            ("endpoint=https://h/;acces", Wrong::NotAPair),
            ("KEY", Wrong::EndpointMissing),
            ("endpoint=https://h/", Wrong::AccessKeyMissing),
            ("endpoint=https://h/;acesskey=KEY", Wrong::AccessKeyMissing),
            ("accesskey=KEY", Wrong::EndpointMissing),
            ("endpoint=https://h/;endpoint=https://h/;accesskey=KEY", Wrong::EndpointTwice),
            ("endpoint=https://h/;accesskey=KEY;AccessKey=KEY", Wrong::AccessKeyTwice),
            ("endpoint=;accesskey=KEY", Wrong::EndpointEmpty),
            ("endpoint=https://h/;accesskey=", Wrong::AccessKeyEmpty),
            ("endpoint=h.example.com;accesskey=KEY", Wrong::EndpointScheme),
            ("endpoint=ftp://h/;accesskey=KEY", Wrong::EndpointScheme),
            ("endpoint=https://;accesskey=KEY", Wrong::EndpointNotUrl),
            ("endpoint=https://h h/;accesskey=KEY", Wrong::EndpointNotUrl),
            ("endpoint=https:\\\\h/;accesskey=KEY", Wrong::EndpointScheme),
            ("endpoint=https://h:99999/;accesskey=KEY", Wrong::EndpointNotUrl),
            ("endpoint=https://h/identities;accesskey=KEY", Wrong::EndpointPath),
            ("endpoint=https://h/?x=y;accesskey=KEY", Wrong::EndpointPath),
            ("endpoint=https://h/#x;accesskey=KEY", Wrong::EndpointPath),
            ("endpoint=https://u:p@h/;accesskey=KEY", Wrong::EndpointUser),
            ("endpoint=https://h/;accesskey=not base64!", Wrong::AccessKeyNotBase64),
            (
                "endpoint=https://h/;accesskey=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBka_-w=",
                Wrong::AccessKeyNotBase64,
            ),
            ("endpoint=https://h/;accesskey=AAECAwQFBgcICQoLDA0ODxARE", Wrong::AccessKeyNotBase64),
        ] {
            assert_eq!(parse(text).unwrap_err(), wrong, "{text}");
        }
        assert_eq!(ConnectionString::parse(&"x=y;".repeat(4000)).unwrap_err(), Wrong::TooLong);
    }

    #[test]
    fn no_text_about_it_shows_the_key() {
        let parsed = parse("endpoint=https://contoso.communication.azure.com/;accesskey=KEY").unwrap();
        let shown = format!("{parsed:?} {parsed:#?}");
        assert!(shown.contains("contoso") && shown.contains("<set>"), "{shown}");
        assert!(!shown.contains("AAEC") && !shown.contains("[0"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}") {
            let _ = ConnectionString::parse(&text);
        }

        #[test]
        fn no_mutilated_string_panics_or_is_shown(cut in 0usize..200, insert in ".{0,3}") {
            let whole = format!("endpoint=https://contoso.communication.azure.com/;accesskey={KEY};");
            let cut = cut.min(whole.len());
            let text = format!("{}{insert}{}", &whole[..cut], &whole[cut..]);
            for text in [&text, &whole[..cut]] {
                if let Err(wrong) = ConnectionString::parse(text) {
                    let shown = format!("{wrong} {wrong:?}");
                    prop_assert!(!shown.contains("AAEC") && !shown.contains("contoso"), "{}", shown);
                }
            }
        }

        #[test]
        fn what_is_written_is_read_back(
            host in "[a-z][a-z0-9]{0,20}(\\.[a-z][a-z0-9]{0,10}){0,3}",
            port in proptest::option::of(1u16..),
            key in proptest::collection::vec(any::<u8>(), 1..80),
            swapped: bool, trailing: bool,
        ) {
            let port = port.filter(|&port| port != 443);
            let authority = port.map_or(host.clone(), |port| format!("{host}:{port}"));
            let (endpoint, access) = (format!("endpoint=https://{authority}/"), format!("accesskey={}", STANDARD.encode(&key)));
            let (first, second) = if swapped { (&access, &endpoint) } else { (&endpoint, &access) };
            let parsed = ConnectionString::parse(&format!("{first};{second}{}", if trailing { ";" } else { "" })).unwrap();
            prop_assert_eq!(parsed.endpoint().authority(), &authority);
            prop_assert_eq!(parsed.endpoint().as_str(), format!("https://{authority}"));
            prop_assert_eq!(parsed.access_key(), key);
        }
    }
}
