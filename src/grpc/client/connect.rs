//! How a client reaches its server: plain text or TLS, and what it brings to prove who it is.
//!
//! What cannot work is told before anything is sent, by the flag that mends it. A token goes over TLS, or to this
//! machine, and nowhere else. Nothing here shows a key or a token. Used by `client`.

use std::net::IpAddr;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::Target;
use crate::secret::Secret;

/// Whom to trust and what to show; all of it may be absent.
#[derive(Debug, Clone, Default)]
pub struct Proof {
    /// Authorities to trust instead of the system's, in PEM form.
    pub ca: Option<Vec<u8>>,
    /// A certificate with its chain, and its key, in PEM form.
    pub identity: Option<(Vec<u8>, Secret)>,
    /// The name that the server's certificate must have, if not that of its address.
    pub server_name: Option<String>,
    /// A token to bring with every call.
    pub token: Option<Secret>,
}

/// A flag, and what is wrong with it.
pub(super) type Wrong = (&'static str, String);

fn wrong<T>(flag: &'static str, what: &str) -> Result<T, Wrong> {
    Err((flag, what.into()))
}

/// A channel that connects on first use.
pub(super) fn channel(target: &Target) -> Result<Channel, Wrong> {
    let (server, proof) = (&target.server, &target.proof);
    let like = "must be like http://127.0.0.1:50051 or https://broker:50051";
    let is_tls = server.starts_with("https://");
    // A user name and password would do nothing, and be shown in errors.
    if !(is_tls || server.starts_with("http://")) || server.contains('@') {
        return wrong("--server", like);
    }
    let endpoint = Endpoint::from_shared(server.clone()).or_else(|_| wrong("--server", like))?;
    let endpoint = endpoint.tcp_nodelay(true);
    if is_tls {
        return Ok(endpoint.tls_config(tls(proof)?).or_else(|_| unfit(proof))?.connect_lazy());
    }
    for (flag, given) in [
        ("--ca", proof.ca.is_some()),
        ("--cert", proof.identity.is_some()),
        ("--server-name", proof.server_name.is_some()),
    ] {
        if given {
            return wrong(flag, "needs a server that speaks TLS: --server https://…");
        }
    }
    let host = endpoint.uri().host().unwrap_or_default().trim_matches(['[', ']']);
    let here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    if proof.token.is_some() && !here {
        let what = "would be sent in plain text; use --server https://…, or an address of this machine";
        return wrong("--token-file", what);
    }
    Ok(endpoint.connect_lazy())
}

fn tls(proof: &Proof) -> Result<ClientTlsConfig, Wrong> {
    let mut tls = ClientTlsConfig::new();
    tls = match &proof.ca {
        None => tls.with_native_roots(),
        Some(pem) => {
            certificates(pem).or_else(|()| wrong("--ca", "holds no certificate in PEM form"))?;
            tls.ca_certificate(Certificate::from_pem(pem))
        }
    };
    if let Some((chain, key)) = &proof.identity {
        certificates(chain).or_else(|()| wrong("--cert", "holds no certificate in PEM form"))?;
        if PrivateKeyDer::from_pem_slice(key.expose().as_bytes()).is_err() {
            return wrong("--key", "holds no private key in PEM form");
        }
        tls = tls.identity(Identity::from_pem(chain, key.expose()));
    }
    if let Some(name) = &proof.server_name {
        tls = tls.domain_name(name);
    }
    Ok(tls)
}

fn certificates(pem: &[u8]) -> Result<(), ()> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    all.ok().filter(|all| !all.is_empty()).map(drop).ok_or(())
}

/// What each part by itself did not show.
fn unfit(proof: &Proof) -> Result<Endpoint, Wrong> {
    match (&proof.identity, &proof.server_name) {
        (Some(_), _) => wrong("--key", "is not the key of --cert"),
        (None, Some(_)) => wrong("--server-name", "must be a DNS name or an IP address"),
        (None, None) => wrong("--ca", "is needed: this machine has no certificate authorities to trust"),
    }
}

/// A token as a header.
pub(super) fn bearer(token: &Secret) -> Result<MetadataValue<Ascii>, Wrong> {
    let token = token.expose().trim();
    match format!("Bearer {token}").parse::<MetadataValue<Ascii>>() {
        Ok(mut value) if !token.is_empty() => {
            value.set_sensitive(true);
            Ok(value)
        }
        _ => wrong("--token-file", "must hold a token and nothing else"),
    }
}
