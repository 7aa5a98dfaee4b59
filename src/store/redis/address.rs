//! From settings to addresses: the URLs, who to log in as, whom to trust.
//!
//! Pure but for the CA file, which is read once. It never repeats a URL, for a URL may hold a password.
//! Used by `settings`, to check, and by `connect`.

use redis::io::tcp::TcpSettings;
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    TlsCertificates,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::settings::{Settings, Topology};

/// The nodes the settings name, ready to connect to.
#[derive(Clone)]
pub(super) struct Addresses {
    /// The first of the nodes.
    pub(super) first: ConnectionInfo,
    /// What the URLs name: the node, the seeds of a Cluster, or the Sentinels.
    pub(super) nodes: Vec<ConnectionInfo>,
    /// How to log in to a data node that is not in a URL: the master that a Sentinel names.
    pub(super) login: RedisConnectionInfo,
    /// Whether the URLs ask for TLS.
    pub(super) tls: bool,
}

/// A problem with a setting: its key, and a text that follows it.
pub(super) type Problem = (&'static str, String);

/// The addresses in the settings.
pub(super) fn parse(settings: &Settings) -> Result<Addresses, Problem> {
    let wrong = |what: &str| ("url", what.to_owned());
    if settings.url.is_empty() {
        return Err(wrong("must be set: redis://host:port, or rediss://host:port for TLS (or set url_file)"));
    }
    let mut nodes = Vec::new();
    for url in settings.url.expose().split(',').map(str::trim) {
        let scheme_known = url.starts_with("redis://") || url.starts_with("rediss://");
        if !scheme_known {
            return Err(wrong("must start with redis:// or rediss:// (each of them, if there are several)"));
        }
        if url.contains('#') {
            return Err(wrong("must not have a `#` part; percent-encode a `#` in the password as %23"));
        }
        // The parser's own words are dropped: they may repeat what they do not understand.
        let info = url
            .into_connection_info()
            .map_err(|_| wrong("must be redis://[user:password@]host:port[/db]; percent-encode special characters in the password"))?;
        nodes.push(info);
    }
    let is_tls = |info: &ConnectionInfo| matches!(info.addr(), ConnectionAddr::TcpTls { .. });
    let tls = nodes.iter().any(is_tls);
    if tls != nodes.iter().all(is_tls) {
        return Err(wrong("must use redis:// for all nodes or rediss:// for all"));
    }
    if settings.topology == Topology::Single && nodes.len() > 1 {
        return Err(wrong(
            "must name one node with topology \"single\"; several are for cluster or sentinel",
        ));
    }
    if settings.topology == Topology::Cluster && nodes.iter().any(|node| node.redis_settings().db() != 0) {
        return Err(wrong("must not name a database: a Cluster has only database 0"));
    }
    let nodes: Vec<_> = nodes
        .into_iter()
        .map(|node| {
            // A Sentinel's own URL says how to log in to it; the settings are for the master it names.
            let login = match settings.topology {
                Topology::Sentinel => speak(node.redis_settings().clone()),
                Topology::Single | Topology::Cluster => log_in_as(node.redis_settings().clone(), settings),
            };
            node.set_redis_settings(login).set_tcp_settings(tcp())
        })
        .collect();
    let Some(first) = nodes.first().cloned() else { return Err(wrong("must name a node")) };
    let login = log_in_as(first.redis_settings().clone(), settings);
    Ok(Addresses { first, nodes, login, tls })
}

fn speak(login: RedisConnectionInfo) -> RedisConnectionInfo {
    // RESP3, because only there does a lost connection report itself at once.
    login.set_protocol(ProtocolVersion::RESP3).set_skip_set_lib_name()
}

fn log_in_as(mut login: RedisConnectionInfo, settings: &Settings) -> RedisConnectionInfo {
    if !settings.username.is_empty() {
        login = login.set_username(&settings.username);
    }
    if !settings.password.is_empty() {
        login = login.set_password(settings.password.expose());
    }
    speak(login)
}

/// Without `TCP_NODELAY` a command may wait for the acknowledgement of the one before.
pub(super) fn tcp() -> TcpSettings {
    TcpSettings::default().set_nodelay(true)
}

/// A host and port for messages: neither is secret, unlike the rest of a URL.
pub(super) fn shown(info: &ConnectionInfo) -> String {
    info.addr().to_string()
}

/// The certificates to trust with `ca_file`: its own and the system's, as one PEM text. None without `ca_file`.
pub(super) fn trusted(settings: &Settings) -> Result<Option<Vec<u8>>, Problem> {
    use base64::Engine as _;

    if settings.ca_file.is_empty() {
        return Ok(None);
    }
    let wrong = |what: String| ("ca_file", what);
    let mut pem = std::fs::read(&settings.ca_file)
        .map_err(|error| wrong(format!("cannot be read: {} ({})", settings.ca_file, error.kind())))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let usable = certificate.ok().is_some_and(|der| rustls::RootCertStore::empty().add(der).is_ok());
        if !usable {
            return Err(wrong(format!("holds something that is no CA certificate: {}", settings.ca_file)));
        }
        count += 1;
    }
    if count == 0 {
        return Err(wrong(format!("holds no PEM certificate: {}", settings.ca_file)));
    }
    // The driver trusts either the system's store or the one it is given, so the two are put together here; what
    // rustls cannot use is left out, as it would be in the system's store.
    for certificate in rustls_native_certs::load_native_certs().certs {
        if rustls::RootCertStore::empty().add(certificate.clone()).is_ok() {
            let body = base64::engine::general_purpose::STANDARD.encode(&certificate);
            pem.extend_from_slice(
                format!("\n-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").as_bytes(),
            );
        }
    }
    Ok(Some(pem))
}

/// The driver's client for one node.
pub(super) fn client(info: ConnectionInfo, trusted: Option<&Vec<u8>>) -> redis::RedisResult<Client> {
    match (info.addr(), trusted) {
        (ConnectionAddr::TcpTls { .. }, Some(pem)) => {
            Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: Some(pem.clone()) })
        }
        _ => Client::open(info),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn parsed(topology: Topology, url: &str) -> Result<Addresses, Problem> {
        let settings =
            Settings { topology, url: Secret::new(url), sentinel_master: "m".into(), ..Settings::default() };
        parse(&settings)
    }

    #[test]
    fn urls_are_taken_as_documented() {
        let one = parsed(Topology::Single, "redis://bob:p%40ss@example.com:7000/3").unwrap();
        let node = &one.nodes[0];
        assert_eq!(shown(node), "example.com:7000");
        assert_eq!(node.redis_settings().username(), Some("bob"));
        assert_eq!(node.redis_settings().password(), Some("p@ss"));
        assert_eq!(node.redis_settings().db(), 3);
        assert!(node.tcp_settings().nodelay());
        let many = parsed(Topology::Cluster, "rediss://a:1, rediss://b:2").unwrap();
        assert_eq!(many.nodes.iter().map(shown).collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert!(many.tls);
    }

    #[test]
    fn the_settings_win_over_the_url_except_towards_a_sentinel() {
        let settings = |topology| Settings {
            topology,
            url: Secret::new("redis://u:one@a:1"),
            username: "v".into(),
            password: Secret::new("two"),
            ..Settings::default()
        };
        let single = parse(&settings(Topology::Single)).unwrap();
        assert_eq!(single.nodes[0].redis_settings().password(), Some("two"));
        let sentinel = parse(&settings(Topology::Sentinel)).unwrap();
        assert_eq!(sentinel.nodes[0].redis_settings().password(), Some("one"));
        assert_eq!(sentinel.login.password(), Some("two"));
        assert_eq!(sentinel.login.username(), Some("v"));
    }

    #[test]
    fn urls_that_cannot_work_are_refused() {
        for (topology, url) in [
            (Topology::Single, ""),
            (Topology::Single, "localhost:6379"),
            (Topology::Single, "redis://a,redis://b"),
            (Topology::Single, "rediss://a#insecure"),
            (Topology::Single, "unix:///run/redis.sock"),
            (Topology::Single, "redis://a/x"),
            (Topology::Cluster, "redis://a,rediss://b"),
            (Topology::Cluster, "redis://a/1"),
            (Topology::Cluster, "redis://a,,redis://b"),
        ] {
            assert!(parsed(topology, url).is_err(), "{url}");
        }
    }
}
