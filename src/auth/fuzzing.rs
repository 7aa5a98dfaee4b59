//! Fuzz targets: what callers bring as proof, and what issuers and operators write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::sync::Arc;

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest, Sha256};

use super::jwks::fetch;
use super::jwks::key::Keys;
use super::jwt::algorithm::Algorithm;
use super::jwt::token;
use super::mesh::{self, Header, Mesh};
use super::mtls::Mtls;
use super::{Authenticator, Certificate, Credentials, Peer, Principal, Verdict, json, policy};
use crate::fuzzing::{Input, assert_silent};

/// Public keys, whose private halves nobody has.
const KEY_SET: &str = concat!(
    "{\"keys\": [{\"kty\": \"RSA\", \"use\": \"sig\", \"alg\": \"RS256\", \"kid\": \"r\", \"n\": \"qj7Q46TuPuOrBtvHe",
    "cY8tGFGWZcoeLkbAXk-bsy9Ki4Ep28JxQU_HeLDE1Xdwio_zsRMNKa4XcYQ-ubzTOjZwqttfrLv3qFbFl-BcTMEOLg",
    "-bNFcdWljMQAFe1ja-pj3TYXdEh693aqwA86f4irzH1ugtoO0dqCpaaPtoo1XGbFX-ONXebUvou--YbUj7x6VHnFGF",
    "G55McbPPUFFawQ1-5qZIhAJiZKAyK8XZryKaeZIgXUU5IaWG9G3EkJq90JipWRVr4GVtnuL2D8EyInn3m-iV2kx3Ot",
    "2pvOSCRCAYSEplIvFBzO5FEYSQJlj2UzwK7-UzFeaATl-UQvvMs6BWw\", \"e\": \"AQAB\"}, {\"kty\": \"EC\", \"crv",
    "\": \"P-256\", \"kid\": \"e\", \"x\": \"fy6bf3-fjLhd443o9MCDr-CGsErLSMLxcL3hP8mQGk4\", \"y\": \"gxHG-aXj",
    "Ng1DX6EtSq5GDuvbvNBUlJiDZMdqweiE9Lo\"}, {\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"kid\": \"d\", \"x\": \"",
    "Svae8Gz2tbdRbmXiBHfL66Q7lMnxW4gA7wZDE0DQFlU\"}]}",
);
/// SHA-256 of what those private halves have signed: no other token can be genuine.
const SIGNED: [&str; 5] = [
    "3cb53a01ea0fddf317d27e29fd399c646104e2f50c2b508a7ec0262214bc68e9",
    "57fe93d39e586619b3a519fa629c93aa6c0d514ab7126693ec184a791510773f",
    "a946f746ae8626ff1e098c82a6be38deb1576052ef49d9059c7166d094cd58b3",
    "c6a5361a388e6a54d11d3b66c689e35bd290fc7d61d9007db674584756ef25aa",
    "90d9390212fb441b143365219f205af9f326da360be7f2a84289a33ca7def1e8",
];

const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

thread_local! {
    static KEYS: Keys = Keys::read(KEY_SET.as_bytes()).expect("a set of keys");
}

/// Bearer tokens: refused without a word of theirs, or read as every other reader would; and none is forged.
pub fn tokens(data: &[u8]) {
    let text = Input(data).text();
    match token::read(&text) {
        Ok(read) => {
            assert!(text.len() <= 8192 && text.as_bytes().starts_with(read.message));
            let again = serde_json::from_slice::<serde_json::Value>(&payload(read.message));
            assert_eq!(again.expect("claims are JSON").as_object(), Some(&read.claims));
            let subject = read.claims["sub"].as_str().expect("a subject is a text");
            assert!((1..=1024).contains(&subject.len()));
            let kid = read.kid.as_deref();
            let signed = |keys: &Keys| keys.have_signed(kid, read.algorithm, read.message, &read.signature);
            if KEYS.with(signed) {
                let digest: String =
                    Sha256::digest(read.message).iter().map(|byte| format!("{byte:02x}")).collect();
                assert!(SIGNED.contains(&digest.as_str()), "a forged token is accepted");
            }
        }
        Err(refusal) => assert_silent("a refusal", &format!("{refusal} {refusal:?} {}", refusal.label())),
    }
}

fn payload(message: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let payload = message.split(|byte| *byte == b'.').nth(1).expect("a message has two parts");
    base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).expect("a payload is base64url")
}

/// Key sets of issuers: of no use, or such that any signature can be held against them.
pub fn key_sets(data: &[u8]) {
    if let Some(object) = json::object(data) {
        // Strict reading never finds what lenient reading does not.
        let lenient = serde_json::from_slice::<serde_json::Value>(data).expect("it is JSON");
        assert_eq!(lenient.as_object(), Some(&object));
    }
    match Keys::read(data) {
        Ok(keys) => {
            assert!((1..=100).contains(&keys.len()));
            let again = Keys::read(data).expect("what was read is read again");
            assert!(keys.are_those_of(&again) && keys.id() != again.id());
            for algorithm in ALGORITHMS {
                for signature in [&[][..], &[0; 64], &[0; 96], &[0; 256], data] {
                    let forged = keys.have_signed(None, algorithm, b"a message", signature);
                    assert!(!forged, "nobody has signed that");
                }
            }
        }
        Err(unusable) => assert_silent("a key set of no use", &format!("{unusable} {unusable:?}")),
    }
}

/// Policies: each problem is one line that a terminal can show; what is read is read the same again.
pub fn policies(data: &[u8]) {
    match policy::parse(data) {
        Ok(file) => {
            let again = policy::parse(data).expect("what was read is read again");
            assert_eq!(again.callers.len(), file.callers.len());
            let names: std::collections::HashSet<_> =
                file.callers.iter().map(|caller| &caller.name).collect();
            assert_eq!(names.len(), file.callers.len(), "two callers of one name");
            for caller in &file.callers {
                assert!(!caller.matches.is_empty(), "a caller whom nobody is");
                for one in &caller.matches {
                    let of = file.callers.iter().filter(|other| other.matches.contains(one)).count();
                    assert_eq!(of, 1, "somebody is two callers");
                }
            }
        }
        Err(problems) => {
            assert!(!problems.is_empty(), "refused without a reason");
            for problem in problems {
                let text = problem.to_string();
                assert!(!text.contains(|c: char| c.is_control()), "{text:?}");
                assert!(text.len() <= 4096, "{} bytes about one problem", text.len());
            }
        }
    }
}

/// The names of two proxies' own clients, as Envoy writes its element.
const PROXIES: [(&str, &str); 4] = [
    ("By=spiffe://c/p;Hash=00ff;Subject=\"CN=shop,O=corp\";URI=spiffe://c/shop", "spiffe://c/shop"),
    ("Hash=00ff;Subject=\"\";URI=spiffe://c/shop;DNS=shop.corp;DNS=b.corp", "spiffe://c/shop"),
    ("By=spiffe://c/p;Hash=00ff;Cert=\"-----BEGIN%20CERT\";URI=;DNS=shop.corp", "shop.corp"),
    ("URI=spiffe://c/shop", "spiffe://c/shop"),
];

/// Mesh headers: whatever the client wrote before the proxy's own element, it is the proxy's client who calls, or nobody.
/// The first byte says which proxy and which header.
pub fn mesh_headers(data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let (element, client) = PROXIES[which % PROXIES.len()];
    let local = Peer { address: Some(([127, 0, 0, 1], 40_000).into()), certificate: None };
    let stranger = Peer { address: Some(([192, 0, 2, 1], 40_000).into()), certificate: None };

    let appended = [input.0, b",", element.as_bytes()].concat();
    if let Some(headers) = header("x-forwarded-client-cert", &appended) {
        match asked(Header::Xfcc, &local, &headers) {
            Verdict::Proven(Principal::Mesh(name)) => assert_eq!(&*name, client, "the client chose its name"),
            Verdict::Refused(why) => assert_silent("a refused header", why),
            _ => panic!("a header of a pinned peer is evidence or refused"),
        }
        assert!(
            matches!(asked(Header::Xfcc, &stranger, &headers), Verdict::NotPresented),
            "anybody is believed"
        );
    }
    for (kind, name) in [(Header::Xfcc, "x-forwarded-client-cert"), (Header::L5dClientId, "l5d-client-id")] {
        let Some(headers) = header(name, input.0) else { continue };
        match asked(kind, &local, &headers) {
            Verdict::Proven(Principal::Mesh(name)) => {
                assert!((1..=2048).contains(&name.len()));
                assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && !b"\",;=".contains(&byte)));
            }
            Verdict::Refused(why) => assert_silent("a refused header", why),
            _ => panic!("a header of a pinned peer is evidence or refused"),
        }
        assert!(matches!(asked(kind, &stranger, &headers), Verdict::NotPresented));
    }
}

fn header(name: &'static str, value: &[u8]) -> Option<HeaderMap> {
    let value = HeaderValue::from_bytes(value).ok()?;
    Some(HeaderMap::from_iter([(HeaderName::from_static(name), value)]))
}

fn asked(header: Header, peer: &Peer, headers: &HeaderMap) -> Verdict {
    let mesh =
        Mesh::new(&mesh::Settings { header, pinned: "loopback".to_owned() }).expect("a header is read");
    let verdict = mesh.authenticate(&Credentials { peer, headers }).now_or_never();
    verdict.expect("it waits for nothing")
}

/// Discovery documents: keys come from where the issuer says, and never from outside of HTTPS. The first line is the
/// issuer, the second a `Cache-Control`.
pub fn discovery(data: &[u8]) {
    let mut input = Input(data);
    let mut line = || String::from_utf8_lossy(input.line()).into_owned();
    let (issuer, cache) = (line(), line());
    let document = input.0;
    if let Some(age) = fetch::max_age(&cache) {
        assert!(age.is_zero() || cache.to_ascii_lowercase().contains("max-age"));
    }
    let from = match fetch::discovery(&issuer) {
        Ok(url) => url,
        Err(why) => return assert_silent("a refused issuer", why),
    };
    assert!(from.username().is_empty() && from.password().is_none() && from.query().is_none());
    assert!(from.scheme() == "https" || is_here(&from), "keys would come over a network in plain text");
    match fetch::named_in(document, &issuer, &from) {
        Ok(keys) => {
            assert!(
                keys.scheme() == "https" || is_here(&keys),
                "keys would come over a network in plain text"
            );
            assert!(keys.has_host());
            let said: serde_json::Value = serde_json::from_slice(document).expect("it is JSON");
            assert_eq!(said["issuer"].as_str(), Some(issuer.as_str()));
        }
        Err(why) => assert_silent("a document of no use", why),
    }
}

fn is_here(url: &url::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = |ip: std::net::IpAddr| ip.to_canonical().is_loopback();
    host == "localhost" || host.parse().is_ok_and(is_loopback)
}

/// The names in a verified client certificate: none that it does not hold, and a word of ours if they cannot stand for
/// somebody.
pub(crate) fn names(certificate: &Arc<Certificate>, holds: &[u8]) {
    let is_held = |name: &String| holds.windows(name.len().max(1)).any(|window| window == name.as_bytes());
    let mut names = certificate.uris.iter().chain(&certificate.dns).filter(|name| !name.is_empty());
    let is_nobody = names.clone().next().is_none();
    assert!(names.all(is_held), "a name is made up");
    let peer = Peer { address: None, certificate: Some(Arc::clone(certificate)) };
    assert_silent("Debug of a certificate", &format!("{certificate:?} {peer:?}"));
    let headers = HeaderMap::new();
    let verdict = Mtls.authenticate(&Credentials { peer: &peer, headers: &headers }).now_or_never();
    match verdict.expect("it waits for nothing") {
        Verdict::Proven(Principal::Certificate(proven)) => {
            assert!(proven == *certificate && !is_nobody);
            let spiffe = proven.uris.iter().filter(|uri| uri.starts_with("spiffe://")).count();
            assert!(spiffe == 0 || proven.uris.len() == 1, "two workloads in one certificate");
        }
        Verdict::Refused(why) => assert_silent("a refused certificate", why),
        _ => panic!("a certificate is evidence or refused"),
    }
}
