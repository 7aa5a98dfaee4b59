//! Authorities and certificates made in the test, and TLS clients that use them.
//!
//! Included by the tests that need it.

#![allow(dead_code, reason = "each including test uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, ClientTlsConfig, Endpoint, Identity};

/// A certificate with its chain, and its key, in PEM form.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A certificate authority.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// What a client's certificate says: these URI and DNS names.
pub(crate) fn named(uris: &[&str], dns: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::new(own(dns)).unwrap();
    params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        Self { pem: params.self_signed(&key).unwrap().pem(), issuer: Issuer::new(params, key) }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    /// An authority below this one, whose chains hold its own certificate.
    pub(crate) fn below(&self, name: &str) -> (Self, String) {
        let key = KeyPair::generate().unwrap();
        let params = Self::params(name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        (Self { pem: pem.clone(), issuer: Issuer::new(params, key) }, pem)
    }

    pub(crate) fn issue(&self, params: CertificateParams) -> Pair {
        let key = KeyPair::generate().unwrap();
        Pair { cert: params.signed_by(&key, &self.issuer).unwrap().pem(), key: key.serialize_pem() }
    }

    /// For a server on this machine.
    pub(crate) fn server(&self) -> Pair {
        self.issue(CertificateParams::new(own(&["127.0.0.1", "localhost"])).unwrap())
    }

    /// For a client of this SPIFFE id.
    pub(crate) fn client(&self, id: &str) -> Pair {
        self.issue(named(&[id], &[]))
    }
}

/// A gRPC channel over TLS that trusts these authorities and shows this certificate.
pub(crate) fn channel(address: SocketAddr, trusted: &str, shown: Option<&Pair>) -> Channel {
    let mut tls = ClientTlsConfig::new().ca_certificate(tonic::transport::Certificate::from_pem(trusted));
    if let Some(pair) = shown {
        tls = tls.identity(Identity::from_pem(&pair.cert, &pair.key));
    }
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect_lazy()
}

/// The configuration of a TLS client below any gRPC library; it offers these protocols.
pub(crate) fn raw_config(trusted: &str, shown: Option<&Pair>, alpn: &[&str]) -> ClientConfig {
    raw_config_of(rustls::ALL_VERSIONS, trusted, shown, alpn)
}

/// The same of these versions of TLS.
pub(crate) fn raw_config_of(
    versions: &[&'static SupportedProtocolVersion],
    trusted: &str,
    shown: Option<&Pair>,
    alpn: &[&str],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(authority.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let chain = CertificateDer::pem_slice_iter(pair.cert.as_bytes()).map(Result::unwrap).collect();
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

/// The client's part of a handshake.
pub(crate) async fn shake(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::clone(config)).connect(name, stream).await
}
