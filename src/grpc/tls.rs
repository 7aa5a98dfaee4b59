//! TLS of the gRPC port: its certificate, whose clients it trusts, and the names in their certificates.
//!
//! Made of files that are followed: connections that begin after a change see the new ones, those that are open go on.
//! Files that do not fit together change nothing. A client's chain is kept with its connection, so that it can be judged
//! again when authorities change or time passes. No session is resumed where certificates are asked for: a resumed one
//! would not be judged. Private keys reach no log, error or `Debug`. Only the client of the commands knows rustls beside it.

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use serde::{Deserialize, Deserializer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::auth::Certificate;
use crate::reload::Reloadable;

/// The only protocol that is spoken.
const ALPN: &[u8] = b"h2";

/// The longest chain a client may bring, in certificates and in bytes: it is kept as long as its connection.
const MAX_CHAIN: usize = 8;
const MAX_CHAIN_BYTES: usize = 32 * 1024;

/// What a connection keeps of unsent bytes in TLS: a record, so that a slow reader is seen to be slow.
const MAX_BUFFERED: usize = 16 * 1024;

/// `[server.tls]`: paths of PEM files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSettings {
    /// The server's certificate, its chain after it. Without it the port speaks plain text.
    #[serde(deserialize_with = "path")]
    pub cert_file: Option<PathBuf>,
    /// Its private key.
    #[serde(deserialize_with = "path")]
    pub key_file: Option<PathBuf>,
    /// The authorities that clients' certificates must come from. Without it none is asked for.
    #[serde(deserialize_with = "path")]
    pub client_ca_file: Option<PathBuf>,
    /// Whether clients must have a certificate.
    pub client_certificate: ClientCertificate,
}

/// Whether clients must have a certificate, where some authority is trusted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificate {
    /// Nobody connects without one.
    #[default]
    Required,
    /// Whoever has none connects and has to prove who it is in another way.
    Optional,
}

fn path<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok((!text.is_empty()).then(|| text.into()))
}

/// The TLS of a server: what the files say, as of when they were last good.
pub struct Tls {
    files: Vec<PathBuf>,
    client_certificate: ClientCertificate,
    current: RwLock<Current>,
    changes: watch::Sender<()>,
}

#[derive(Clone)]
struct Current {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

/// The chain a client brought, its own certificate first.
pub(super) type Chain = Arc<[CertificateDer<'static>]>;

/// A client whose handshake is done.
pub(super) struct Shaken {
    pub(super) stream: TlsStream<TcpStream>,
    /// The names of its certificate, and the chain they were read from.
    pub(super) client: Option<(Arc<Certificate>, Chain)>,
}

impl Tls {
    /// Reads the files; none if TLS is off. The error names the key within `[server]`.
    pub fn open(settings: &TlsSettings) -> Result<Option<Self>, (&'static str, String)> {
        let (cert, key) = match (&settings.cert_file, &settings.key_file) {
            (Some(cert), Some(key)) => (cert.clone(), key.clone()),
            (Some(_), None) => return Err(("tls.key_file", "is not set, and tls.cert_file is".into())),
            (None, Some(_)) => return Err(("tls.cert_file", "is not set, and tls.key_file is".into())),
            (None, None) if settings.client_ca_file.is_some() => {
                let what = "is set without tls.cert_file: only TLS can ask for certificates";
                return Err(("tls.client_ca_file", what.into()));
            }
            (None, None) => return Ok(None),
        };
        let files: Vec<_> = [cert, key].into_iter().chain(settings.client_ca_file.clone()).collect();
        let mut contents = Vec::new();
        for (file, key) in files.iter().zip(KEYS) {
            // Not the path: people do put the key itself where its path belongs.
            let what = || (key, "names a file that cannot be read, or is none of at most 1 MiB".to_owned());
            contents.push(crate::reload::read(file).map_err(|_| what())?);
        }
        let current = build(&contents, settings.client_certificate)?;
        Ok(Some(Self {
            files,
            client_certificate: settings.client_certificate,
            current: RwLock::new(current),
            changes: watch::Sender::new(()),
        }))
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sees each change.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// Whether clients may have certificates, which have to be judged again from time to time.
    pub(super) fn asks(&self) -> bool {
        self.current().clients.is_some()
    }

    /// Does the server's part of the handshake. The error is for the log.
    pub(super) async fn shake(&self, stream: TcpStream) -> Result<Shaken, String> {
        let acceptor = TlsAcceptor::from(self.current().config);
        let accepting = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(MAX_BUFFERED)));
        let stream = accepting.await.map_err(|error| error.to_string())?;
        let (_, session) = stream.get_ref();
        if session.alpn_protocol() != Some(ALPN) {
            return Err("the client did not ask for HTTP/2 (ALPN h2)".into());
        }
        let client = session.peer_certificates().map(named).transpose()?;
        Ok(Shaken { stream, client })
    }

    /// Whether a chain is good as of now. Without a list of authorities none is.
    pub(super) fn trusts(&self) -> impl Fn(&Chain) -> bool + Send + Sync + use<> {
        let clients = self.current().clients;
        move |chain| {
            let Some((leaf, others)) = chain.split_first() else { return false };
            clients
                .as_ref()
                .is_some_and(|clients| clients.verify_client_cert(leaf, others, UnixTime::now()).is_ok())
        }
    }
}

impl Reloadable for Tls {
    fn name(&self) -> &'static str {
        "tls"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.files.clone()
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        let built = build(&contents, self.client_certificate)
            .map_err(|(key, what)| format!("server.{key} {what}"))?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = built;
        self.changes.send_replace(());
        Ok(())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files).finish_non_exhaustive()
    }
}

/// The keys of the files, in their order.
const KEYS: [&str; 3] = ["tls.cert_file", "tls.key_file", "tls.client_ca_file"];

/// Makes the configuration of these files: certificate, key, and perhaps authorities.
fn build(contents: &[Vec<u8>], wanted: ClientCertificate) -> Result<Current, (&'static str, String)> {
    let [cert_key, key_key, ca_key] = KEYS;
    let (cert, key) = match contents {
        [cert, key, ..] => (cert, key),
        _ => return Err((cert_key, "and its key are not there".into())),
    };
    let chain = certificates(cert).map_err(|what| (cert_key, what))?;
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| (key_key, "holds no private key in PEM form (PKCS#8, SEC1 or PKCS#1)".to_owned()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = match contents.get(2) {
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for (number, authority) in (1..).zip(certificates(authorities).map_err(|what| (ca_key, what))?) {
                roots.add(authority).map_err(|_| {
                    (ca_key, format!("holds a certificate that cannot be an authority: number {number}"))
                })?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let verifier = match wanted {
                ClientCertificate::Required => verifier,
                ClientCertificate::Optional => verifier.allow_unauthenticated(),
            };
            Some(verifier.build().map_err(|_| (ca_key, "cannot be used".to_owned()))?)
        }
        None => None,
    };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| (cert_key, "cannot be served: no version of TLS is left".to_owned()))?;
    let builder = match &clients {
        Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => (key_key, "is not the key of tls.cert_file".to_owned()),
        rustls::Error::InvalidCertificate(_) => {
            (cert_key, "holds a certificate that cannot be read".to_owned())
        }
        _ => (key_key, "holds a key that cannot be used".to_owned()),
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    if clients.is_some() {
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Current { config: Arc::new(config), clients })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if !all.is_empty() => Ok(all),
        _ => Err("holds no certificate in PEM form, or a broken one (-----BEGIN CERTIFICATE-----)".into()),
    }
}

/// The names in the first certificate of a verified chain, and the chain to keep.
pub(super) fn named(chain: &[CertificateDer<'static>]) -> Result<(Arc<Certificate>, Chain), String> {
    let bytes: usize = chain.iter().map(|certificate| certificate.len()).sum();
    let leaf = chain.first().ok_or("the client brought an empty chain")?;
    if chain.len() > MAX_CHAIN || bytes > MAX_CHAIN_BYTES {
        return Err("the client's chain of certificates is too long".into());
    }
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|error| error.to_string())?;
    let names = Certificate {
        uris: parsed.valid_uri_names().map(str::to_owned).collect(),
        dns: parsed.valid_dns_names().map(str::to_owned).collect(),
    };
    Ok((Arc::new(names), chain.into()))
}
