//! Evidence: the certificate that a client has shown in the TLS handshake.
//!
//! The transport has verified chain, validity and the possession of the key before this is asked, and takes the
//! certificate away from a connection on which it is no longer good. Here is only whether its names can stand for
//! somebody. Nothing in a header is ever looked at.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Authenticator, Certificate, Credentials, Principal, Verdict};

/// What SPIFFE ids begin with.
const SPIFFE: &str = "spiffe://";

/// Takes verified client certificates as proof.
#[derive(Debug, Clone, Copy)]
pub struct Mtls;

#[async_trait]
impl Authenticator for Mtls {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict {
        let Some(certificate) = &credentials.peer.certificate else { return Verdict::NotPresented };
        match unfit(certificate) {
            Some(why) => Verdict::Refused(why),
            None => Verdict::Proven(Principal::Certificate(Arc::clone(certificate))),
        }
    }
}

/// Why the names of a certificate cannot stand for somebody, if they cannot.
pub(super) fn unfit(certificate: &Certificate) -> Option<&'static str> {
    // An empty name is written easily and names nobody.
    if certificate.uris.iter().chain(&certificate.dns).all(String::is_empty) {
        return Some("the client certificate has neither a URI nor a DNS name");
    }
    // SPIFFE: a certificate with a SPIFFE id has that one URI alone, or it must be refused.
    let spiffe = certificate.uris.iter().any(|uri| uri.starts_with(SPIFFE));
    (spiffe && certificate.uris.len() > 1)
        .then_some("the client certificate has a SPIFFE id and another URI name")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Peer;
    use http::HeaderMap;

    fn names(uris: &[&str], dns: &[&str]) -> Option<Arc<Certificate>> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Some(Arc::new(Certificate { uris: own(uris), dns: own(dns) }))
    }

    async fn verdict(certificate: Option<Arc<Certificate>>) -> Verdict {
        let (peer, headers) = (Peer { address: None, certificate }, HeaderMap::new());
        Mtls.authenticate(&Credentials { peer: &peer, headers: &headers }).await
    }

    #[tokio::test]
    async fn a_certificate_with_names_proves_them() {
        for certificate in [
            names(&["spiffe://corp/a"], &[]),
            names(&["spiffe://corp/a"], &["a.corp", "b.corp"]),
            names(&[], &["a.corp"]),
            names(&["https://a.corp", "https://b.corp"], &[]),
        ] {
            let expected = Principal::Certificate(certificate.clone().unwrap());
            assert_eq!(verdict(certificate).await, Verdict::Proven(expected));
        }
    }

    #[tokio::test]
    async fn no_certificate_is_no_evidence_and_one_that_names_nobody_is_refused() {
        assert_eq!(verdict(None).await, Verdict::NotPresented);
        for certificate in [
            names(&[], &[]),
            names(&[""], &[]),
            names(&["", ""], &[""]),
            names(&["spiffe://corp/a", ""], &[]),
            names(&["spiffe://corp/a", "spiffe://corp/b"], &[]),
            names(&["https://corp/a", "spiffe://corp/b"], &["a.corp"]),
        ] {
            assert!(matches!(verdict(certificate).await, Verdict::Refused(_)));
        }
    }
}
