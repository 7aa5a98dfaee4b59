//! Mesh headers: whose are read, which of their forms name somebody, and that no text makes the reader stumble.

use std::net::SocketAddr;

use http::HeaderMap;
use proptest::prelude::*;

use super::*;
use crate::auth::Certificate;

const SIDECAR: &str = "127.0.0.1:40000";
const ELSEWHERE: &str = "10.0.0.9:40000";
const GATEWAY: &str = "spiffe://corp/ns/istio/sa/gateway";
const ORDERS: &str = "spiffe://corp/ns/shop/sa/orders";

fn mesh(header: Header, pinned: &str) -> Mesh {
    let settings = Settings { header, pinned: pinned.into() };
    assert_eq!(settings.problems(), []);
    Mesh::new(&settings).unwrap()
}

fn peer(address: &str, uris: &[&str], dns: &[&str]) -> Peer {
    let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let certificate = (!uris.is_empty() || !dns.is_empty())
        .then(|| Arc::new(Certificate { uris: own(uris), dns: own(dns) }));
    Peer { address: Some(address.parse::<SocketAddr>().unwrap()), certificate }
}

async fn verdict(mesh: &Mesh, peer: &Peer, name: HeaderName, values: &[&str]) -> Verdict {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(name.clone(), HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    mesh.authenticate(&Credentials { peer, headers: &headers }).await
}

fn proven(name: &str) -> Verdict {
    Verdict::Proven(Principal::Mesh(name.into()))
}

#[tokio::test]
async fn a_header_counts_from_a_pinned_peer_alone() {
    let pinned = format!("loopback, {GATEWAY}, dns:Proxy.corp");
    let mesh = mesh(Header::Xfcc, &pinned);
    let header = format!("By={GATEWAY};Hash=ab;URI={ORDERS}");
    for pinned in [
        peer(SIDECAR, &[], &[]),
        peer("[::1]:1", &[], &[]),
        peer("[::ffff:127.0.0.1]:1", &[], &[]),
        peer(ELSEWHERE, &[GATEWAY], &[]),
        peer(ELSEWHERE, &[], &["proxy.corp"]),
        peer(ELSEWHERE, &["spiffe://corp/other"], &["other.corp", "PROXY.corp"]),
    ] {
        assert_eq!(verdict(&mesh, &pinned, XFCC, &[&header]).await, proven(ORDERS));
        assert_eq!(verdict(&mesh, &pinned, XFCC, &[]).await, Verdict::NotPresented);
    }
    for stranger in [
        peer(ELSEWHERE, &[], &[]),
        peer("[2001:db8::1]:1", &[], &[]),
        peer(ELSEWHERE, &[ORDERS], &[]),
        peer(ELSEWHERE, &["spiffe://corp/ns/istio/sa/gateway2", "SPIFFE://corp/ns/istio/sa/gateway"], &[]),
        peer(ELSEWHERE, &[], &["x.proxy.corp", "*.corp", GATEWAY]),
        peer(ELSEWHERE, &[ORDERS, GATEWAY], &[]),
        peer(ELSEWHERE, &[ORDERS, "https://orders.corp"], &["proxy.corp"]),
        Peer::default(),
    ] {
        assert_eq!(verdict(&mesh, &stranger, XFCC, &[&header]).await, Verdict::NotPresented);
    }
}

#[tokio::test]
async fn loopback_is_pinned_only_if_said() {
    let mesh = mesh(Header::L5dClientId, GATEWAY);
    assert_eq!(verdict(&mesh, &peer(SIDECAR, &[], &[]), L5D, &["orders.shop"]).await, Verdict::NotPresented);
}

#[tokio::test]
async fn only_the_chosen_header_is_read() {
    let (linkerd, envoy) = (mesh(Header::L5dClientId, "loopback"), mesh(Header::Xfcc, "loopback"));
    let sidecar = peer(SIDECAR, &[], &[]);
    let header = format!("URI={ORDERS}");
    assert_eq!(verdict(&linkerd, &sidecar, XFCC, &[&header]).await, Verdict::NotPresented);
    assert_eq!(verdict(&envoy, &sidecar, L5D, &["orders.shop"]).await, Verdict::NotPresented);
    assert_eq!(verdict(&linkerd, &sidecar, L5D, &["orders.shop"]).await, proven("orders.shop"));
    assert_eq!(verdict(&linkerd, &sidecar, L5D, &[ORDERS]).await, proven(ORDERS));
}

#[tokio::test]
async fn what_a_pinned_peer_sends_must_be_well_formed() {
    let (linkerd, envoy) = (mesh(Header::L5dClientId, "loopback"), mesh(Header::Xfcc, "loopback"));
    let sidecar = peer(SIDECAR, &[], &[]);
    let long = "x".repeat(MAX_NAME_BYTES + 1);
    for values in [&[""][..], &["a b"], &["a,b"], &["a;b"], &["a", "a"], &["a", "b"], &["é"], &[&long]] {
        let said = verdict(&linkerd, &sidecar, L5D, values).await;
        assert!(matches!(said, Verdict::Refused(_)), "{values:?}");
    }
    for values in [&[""][..], &["URI=a", "URI=a"], &["URI=a", ""], &["URI=é"]] {
        let said = verdict(&envoy, &sidecar, XFCC, values).await;
        assert!(matches!(said, Verdict::Refused(_)), "{values:?}");
    }
}

#[test]
fn the_last_element_names_the_client() {
    for (header, name) in [
        // As Envoy's documentation writes them.
        (
            "By=http://frontend.lyft.com;Hash=468ed33be74eee6556d90c0149c1309e9ba61d6425303443c0748a02dd8de688;\
             Subject=\"/C=US/ST=CA/L=San Francisco/OU=Lyft/CN=Test Client\";URI=http://testclient.lyft.com",
            "http://testclient.lyft.com",
        ),
        (
            "By=http://frontend.lyft.com;Hash=468e;URI=http://testclient.lyft.com,\
             By=http://backend.lyft.com;Hash=9ba6;URI=http://frontend.lyft.com",
            "http://frontend.lyft.com",
        ),
        ("Hash=ab;Subject=\"\";URI=;DNS=lyft.com", "lyft.com"),
        (
            "By=spiffe://corp/b;Hash=1;Cert=\"-----BEGIN%20C%3D%0A\";Subject=\"CN=a,O=\\\"x;y\\\"\";URI=spiffe://corp/a;DNS=a;DNS=b",
            "spiffe://corp/a",
        ),
        ("URI=spiffe://corp/a", "spiffe://corp/a"),
        ("uri=\"spiffe://corp/a\"", "spiffe://corp/a"),
        ("DNS=a.corp", "a.corp"),
        // What the client sent first, Envoy's own after it.
        ("URI=spiffe://corp/admin,By=x;Hash=1;URI=spiffe://corp/evil", "spiffe://corp/evil"),
        ("URI=spiffe://corp/admin, URI=spiffe://corp/evil", "spiffe://corp/evil"),
        ("Subject=\"a,URI=spiffe://corp/admin\";URI=spiffe://corp/evil", "spiffe://corp/evil"),
    ] {
        assert_eq!(xfcc(header), Ok(name), "{header}");
    }
}

#[test]
fn an_element_that_does_not_name_one_client_is_refused() {
    for header in [
        "",
        ",",
        ";",
        "=",
        "URI",
        "URI=",
        "URI=a,",
        "URI=a;",
        ",URI=a",
        ";URI=a",
        "URI=a,,URI=b",
        "=a",
        "URI=a;URI=b",
        "URI=a;URI=a",
        "DNS=a;DNS=b",
        "By=a;Hash=b",
        "Hash=b;Subject=\"CN=admin\"",
        "URI=spiffe://corp/admin,Hash=1",
        "URI=spiffe://corp/admin,By=x;Subject=\"\"",
        "URI=\"a",
        "URI=a\"",
        "URI=\"a\"b",
        "URI=\"a\\\"",
        "URI=\"a\\\"b\"",
        "URI=a b",
        "U RI=a",
        "URI =a",
        "URI=a=b",
        "URI=a\\b",
        "Subject=\"x;URI=a",
    ] {
        assert!(xfcc(header).is_err(), "{header}");
    }
    assert!(xfcc(&format!("URI={}", "a".repeat(MAX_NAME_BYTES + 1))).is_err());
    assert!(xfcc(&format!("URI={}", "a".repeat(MAX_NAME_BYTES))).is_ok());
}

#[test]
fn settings_that_trust_nobody_or_everybody_are_refused() {
    let problems = |header, pinned: &str| {
        let settings = Settings { header, pinned: pinned.into() };
        settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    for pinned in ["loopback", "spiffe://corp/a", "dns:a.corp", " loopback , dns:a ,spiffe://corp/b "] {
        assert!(problems(Header::Xfcc, pinned).is_empty(), "{pinned}");
        assert_eq!(problems(Header::None, pinned), ["header"]);
    }
    for pinned in [
        "any",
        "*",
        "spiffe://",
        "spiffe://*",
        "spiffe://corp/*",
        "dns:",
        "dns:*",
        "dns:*.corp",
        "dns:a/b",
        "10.0.0.1",
        "loopback,",
        ",",
        "loopback loopback",
        "LOOPBACK",
        "https://a",
    ] {
        assert_eq!(problems(Header::Xfcc, pinned), ["pinned"], "{pinned}");
    }
    assert_eq!(problems(Header::L5dClientId, ""), ["pinned"]);
    assert!(problems(Header::None, "").is_empty());
    assert!(Mesh::new(&Settings::default()).is_none());
}

/// Texts of the pieces that headers are made of.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        "[;,=\"\\\\ ]",
        Just("URI=".to_owned()),
        Just("DNS=".to_owned()),
        Just("By=".to_owned()),
        "[a-z/:.]{1,6}",
        "\\PC",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_stumble(text in pieces()) {
        if let Ok(name) = xfcc(&text) {
            prop_assert!(is_name(name) && text.contains(name));
        }
        let _ = (l5d(&text), pins(&text));
    }

    /// Whatever a client sends before it, what Envoy appends is what counts, or the call is refused.
    #[test]
    fn what_a_client_sends_first_names_nobody(sent in pieces()) {
        let appended = format!("{sent},By=spiffe://corp/broker;Hash=12;Subject=\"CN=x\";URI=spiffe://corp/evil");
        prop_assert!(matches!(xfcc(&appended), Ok("spiffe://corp/evil") | Err(_)), "{}", appended);
    }
}
