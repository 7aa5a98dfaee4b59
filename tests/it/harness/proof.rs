//! Callers that are proven by a header: for tests of what comes after the proof.

use std::path::Path;
use std::sync::Arc;

use acs_broker::auth::policy::{self, Policy};
use acs_broker::auth::{Authenticator, Certificate, Claims, Credentials, Gate, Principal, Verdict};
use async_trait::async_trait;

/// The header.
const PROOF: &str = "x-test-proof";

/// Takes `spiffe=…`, `dns=…`, `mesh=…` or `token=issuer=subject` for proven.
pub(crate) struct Proof;

#[async_trait]
impl Authenticator for Proof {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict {
        let Some(proof) = credentials.headers.get(PROOF) else { return Verdict::NotPresented };
        let (kind, name) = proof.to_str().unwrap().split_once('=').unwrap();
        Verdict::Proven(match kind {
            "spiffe" => certificate(vec![name.into()], vec![]),
            "dns" => certificate(vec![], vec![name.into()]),
            "mesh" => Principal::Mesh(name.into()),
            "token" => {
                let (issuer, subject) = name.split_once('=').unwrap();
                let (issuer, subject) = (issuer.into(), subject.to_owned());
                Principal::Token(Arc::new(Claims { issuer, subject, all: serde_json::Map::new() }))
            }
            other => panic!("no such proof: {other}"),
        })
    }
}

fn certificate(uris: Vec<String>, dns: Vec<String>) -> Principal {
    Principal::Certificate(Arc::new(Certificate { uris, dns }))
}

/// A gate that believes the header and asks this policy.
pub(crate) fn gate(policy: Arc<Policy>) -> Arc<Gate> {
    Arc::new(Gate::new(vec![Arc::new(Proof)], policy))
}

/// The policy of this text.
pub(crate) fn policy(text: &str) -> Arc<Policy> {
    let file = policy::parse(text.as_bytes()).unwrap_or_else(|problems| panic!("{problems:?}"));
    Policy::new(Path::new("policy.toml"), &file, None, Box::new(|_| Ok(())))
}

/// A request with a proof.
pub(crate) fn by<T>(proof: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert(PROOF, proof.parse().unwrap());
    request
}
