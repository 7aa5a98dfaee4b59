//! Fuzz targets: what callers bring as proof, and what issuers and operators write.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use futures_util::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::mesh::{self, Header, Mesh};
use super::{Authenticator, Credentials, Peer, Principal, Verdict, policy};
use crate::fuzzing::{Input, assert_silent};

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
