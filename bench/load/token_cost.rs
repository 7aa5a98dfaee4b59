//! What it costs to judge a bearer token: CPU time per token, verified and known already.
//!
//! `cargo run --release --example token_cost`. Tokens are signed beforehand; one thread judges them.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a program for a terminal"
)]
#![allow(missing_docs, unreachable_pub, reason = "an example")]

#[path = "../../tests/support/token_signer.rs"]
mod token_signer;

use std::sync::Arc;
use std::time::Instant;

use acs_broker::auth::jwt::{Algorithm, Issuer, Verifier};
use acs_broker::clock::{ManualClock, Timestamp};
use acs_broker::metrics::Metrics;
use serde_json::json;

use token_signer::{Signer, key_set};

const NOW: u64 = 1_800_000_000;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    // With one argument, a count, only that kind is judged: for counting instructions from outside.
    let only = std::env::args().nth(1);
    let signers =
        [("RS256", Signer::rsa("rs")), ("ES256", Signer::p256("es")), ("EdDSA", Signer::ed25519("ed"))];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("keys.json");
    std::fs::write(&file, key_set(&signers.each_ref().map(|(_, signer)| signer))).unwrap();
    let issuer = Issuer {
        jwks_file: file.display().to_string(),
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        ..Issuer::new("cluster", "https://kubernetes.default.svc.cluster.local", "acs-broker")
    };
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW * 1000)));
    let verifier = Verifier::new(vec![issuer], clock, Metrics::new());
    let claims = |number: usize| {
        json!({"iss": "https://kubernetes.default.svc.cluster.local", "aud": ["acs-broker"], "exp": NOW + 3600,
            "iat": NOW, "nbf": NOW, "sub": "system:serviceaccount:shop:orders", "jti": format!("{number:032}"),
            "kubernetes.io": {"namespace": "shop", "node": {"name": "node-1", "uid": "8c5a2b4e-0000-4000-8000-000000000000"},
                "pod": {"name": "orders-7d9f8b6c5d-x2x4z", "uid": "8c5a2b4e-0000-4000-8000-000000000001"},
                "serviceaccount": {"name": "orders", "uid": "8c5a2b4e-0000-4000-8000-000000000002"}}})
    };
    for (name, signer) in &signers {
        if only.as_ref().is_some_and(|only| !only.starts_with(name)) {
            continue;
        }
        let tokens: Vec<String> = (0..4000).map(|number| signer.sign(name, &claims(number))).collect();
        verifier.identify(&tokens[0]).await.unwrap();
        let verified = Instant::now();
        for token in &tokens[1..] {
            verifier.identify(token).await.unwrap();
        }
        let verified = verified.elapsed() / 3999;
        let rounds = 200_000;
        let known = Instant::now();
        for _ in 0..rounds {
            verifier.identify(&tokens[3999]).await.unwrap();
        }
        let known = known.elapsed() / rounds;
        println!(
            "{name}: a token of {} bytes: verified in {verified:?}, known in {known:?}",
            tokens[0].len()
        );
    }
}
