//! Whom the ACS client trusts: the system's certificate authorities and, if set, those of `acs.ca_file`.
//!
//! It hands the HTTP client a finished rustls configuration with the ring provider, so that nothing depends on a
//! process-wide default. Read once, when the client is built; never on the request path.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::error::BuildError;

/// The TLS configuration towards ACS. HTTP/1.1 only: it is what every official SDK speaks to ACS.
pub(super) fn client_config(ca_file: Option<&Path>) -> Result<ClientConfig, BuildError> {
    let mut roots = RootCertStore::empty();
    // A system without a store, or with an odd certificate in it, is fine as long as somebody is trusted in the end.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = ca_file {
        add_ca_file(&mut roots, path)?;
    }
    if roots.is_empty() {
        return Err(BuildError::NoAuthorities);
    }
    trusting(roots)
}

/// For an endpoint without TLS: no handshake would succeed.
pub(super) fn trusting_nobody() -> Result<ClientConfig, BuildError> {
    trusting(RootCertStore::empty())
}

fn trusting(roots: RootCertStore) -> Result<ClientConfig, BuildError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| BuildError::Http(Box::new(error)))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn add_ca_file(roots: &mut RootCertStore, path: &Path) -> Result<(), BuildError> {
    let shown = || path.display().to_string();
    let pem = std::fs::read(path)
        .map_err(|error| BuildError::CaFileUnreadable { path: shown(), problem: error.to_string() })?;
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|_| BuildError::CaFileWithoutCertificate { path: shown() })?;
    let (added, ignored) = roots.add_parsable_certificates(certificates);
    // One unusable certificate means that the file is not what its owner believes it to be.
    if added == 0 || ignored > 0 {
        Err(BuildError::CaFileWithoutCertificate { path: shown() })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_must_be_there_and_hold_a_certificate() {
        let folder = tempfile::tempdir().unwrap();
        let missing = client_config(Some(&folder.path().join("none.pem"))).unwrap_err();
        assert!(matches!(missing, BuildError::CaFileUnreadable { .. }), "{missing}");
        for content in ["", "hello", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let path = folder.path().join("odd.pem");
            std::fs::write(&path, content).unwrap();
            let odd = client_config(Some(&path)).unwrap_err();
            assert!(matches!(odd, BuildError::CaFileWithoutCertificate { .. }), "{content}: {odd}");
        }
    }
}
