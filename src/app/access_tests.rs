//! What the settings make of the parts that decide about callers: their order, and whom shadow mode lets in.

use super::*;
use crate::auth::mesh::{self, Header};
use crate::auth::{Certificate, Credentials, Peer, Unidentified};
use crate::clock::SystemClock;
use http::HeaderMap;

const POLICY: &str = r#"
[[callers]]
name = "gateway"
match = [{ spiffe = "spiffe://corp/gateway" }]

[[callers]]
name = "orders"
match = [{ mesh = "spiffe://corp/orders" }]
"#;

/// The name of a caller with this certificate and header, by the policy.
async fn name_of(
    shadow: Option<bool>,
    address: &str,
    uri: Option<&str>,
    header: Option<&str>,
) -> Result<String, Unidentified> {
    let folder = tempfile::tempdir().unwrap();
    let policy_file = folder.path().join("policy.toml");
    std::fs::write(&policy_file, POLICY).unwrap();
    let settings = Settings {
        mode: Mode::Policy,
        allow_off_loopback: shadow.unwrap_or_default(),
        policy_file,
        shadow: shadow.is_some(),
        mesh: mesh::Settings { header: Header::Xfcc, pinned: "spiffe://corp/gateway".into() },
    };
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let access = build(&settings, &clock, &Metrics::new()).unwrap();
    let certificate = uri.map(|uri| Arc::new(Certificate { uris: vec![uri.into()], dns: Vec::new() }));
    let peer = Peer { address: Some(address.parse().unwrap()), certificate };
    let mut headers = HeaderMap::new();
    if let Some(header) = header {
        headers.insert("x-forwarded-client-cert", header.parse().unwrap());
    }
    let caller = access.gate.identify(&Credentials { peer: &peer, headers: &headers }).await?;
    Ok(caller.name().to_owned())
}

#[tokio::test]
async fn what_a_pinned_proxy_says_goes_before_its_own_certificate() {
    let gateway = Some("spiffe://corp/gateway");
    let named = name_of(None, "10.0.0.1:1", gateway, Some("URI=spiffe://corp/orders")).await;
    assert_eq!(named.unwrap(), "orders");
    assert_eq!(name_of(None, "10.0.0.1:1", gateway, None).await.unwrap(), "gateway");
    let malformed = name_of(None, "10.0.0.1:1", gateway, Some("\"")).await;
    assert!(matches!(malformed, Err(Unidentified::Refused(_))), "not taken for the gateway: {malformed:?}");
}

#[tokio::test]
async fn shadow_mode_lets_strangers_in_from_elsewhere_only_if_that_was_said_too() {
    let stranger =
        async |shadow, address: &str| name_of(shadow, address, Some("spiffe://corp/new"), None).await;
    for address in ["127.0.0.1:1", "10.0.0.1:1"] {
        assert_eq!(stranger(None, address).await, Err(Unidentified::NotListed), "the policy is in force");
        assert!(stranger(Some(true), address).await.is_ok(), "{address}");
    }
    assert!(stranger(Some(false), "127.0.0.1:1").await.is_ok());
    assert_eq!(stranger(Some(false), "10.0.0.1:1").await, Err(Unidentified::NotListed));
}
