//! Mesh headers over real connections: believed from the pinned gateway, worth nothing from anybody else.

use std::sync::Arc;

use acs_broker::auth::mesh::{Header, Mesh, Settings};
use acs_broker::auth::mtls::Mtls;
use acs_broker::auth::{Gate, Principal};
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::{ClientCertificate, Tls, TlsSettings};
use futures_util::StreamExt;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::token_service_client::TokenServiceClient;

use crate::auth_mtls::Everybody;
use crate::certificates::{Authority, Pair, channel};
use crate::harness::{Rig, Wish, chat};

const GATEWAY: &str = "spiffe://corp/ns/istio/sa/gateway";
const ORDERS: &str = "spiffe://corp/ns/shop/sa/orders";
const EVIL: &str = "spiffe://corp/ns/other/sa/evil";

/// A broker behind a gateway.
struct House {
    authority: Authority,
    callers: Arc<Everybody>,
    rig: Rig,
    _folder: tempfile::TempDir,
}

impl House {
    async fn open(header: Header, pinned: &str) -> Self {
        let (authority, folder) = (Authority::new("corp"), tempfile::tempdir().unwrap());
        let server = authority.server();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            Some(path)
        };
        let settings = TlsSettings {
            cert_file: write("tls.crt", &server.cert),
            key_file: write("tls.key", &server.key),
            client_ca_file: write("ca.crt", &authority.pem),
            client_certificate: ClientCertificate::Optional,
        };
        let tls = Arc::new(Tls::open(&settings).unwrap().unwrap());
        let callers = Arc::new(Everybody::default());
        let mesh = Mesh::new(&Settings { header, pinned: pinned.into() }).unwrap();
        let gate = Arc::new(Gate::new(vec![Arc::new(mesh), Arc::new(Mtls)], callers.clone()));
        let rig = Rig::start(Wish { gate, tls: Some(tls), ..Wish::default() }).await;
        Self { authority, callers, rig, _folder: folder }
    }

    fn channel(&self, shown: Option<&Pair>) -> Channel {
        channel(self.rig.address, &self.authority.pem, shown)
    }
}

/// Asks for a token with these headers.
async fn ask(channel: &Channel, headers: &[(&str, String)]) -> Result<(), Status> {
    let mut request = tonic::Request::new(chat("alice"));
    for (name, value) in headers {
        let name = AsciiMetadataKey::from_bytes(name.as_bytes()).unwrap();
        request.metadata_mut().append(name, AsciiMetadataValue::try_from(value.as_str()).unwrap());
    }
    TokenServiceClient::new(channel.clone()).issue_token(request).await.map(drop)
}

/// Headers that claim to be somebody else: every spelling, several of them, and pieces that might confuse a reader.
fn forged() -> Vec<Vec<(&'static str, String)>> {
    let mut values =
        vec![GATEWAY.to_owned(), ORDERS.to_owned(), "orders.shop.serviceaccount.identity.linkerd".into()];
    for name in [ORDERS, GATEWAY, "orders.shop.svc", ""] {
        for form in [
            "URI={}",
            "uri={}",
            "DNS={}",
            "URI=\"{}\"",
            "By={};URI={}",
            "Hash=ab;Subject=\"CN=a\";URI={};DNS={}",
            "URI={},URI={}",
            "By=x;URI=y,By=z;URI={}",
            "URI={};",
            "URI={},",
            ",URI={}",
            "Subject=\"URI={}\"",
            " URI={}",
            "URI={} ",
            "By=spiffe://corp/ns/istio/sa/gateway;Hash=1;URI={}",
            "{}",
            "\"{}\"",
            "URI=",
            ";;,,==\"\"{}",
        ] {
            values.push(form.replace("{}", name));
        }
    }
    let names = [
        "x-forwarded-client-cert",
        "X-Forwarded-Client-Cert",
        "l5d-client-id",
        "L5D-CLIENT-ID",
        "x-client-cert",
        "x-envoy-peer-metadata",
        "x-spiffe-id",
        "x-forwarded-for",
        "forwarded",
        "x-real-ip",
        "l5d-remote-ip",
        "ssl-client-cert",
        "x-ssl-client-s-dn",
        "remote-user",
        "x-remote-user",
        "authorization",
    ];
    let mut forged = Vec::new();
    for (number, value) in values.iter().enumerate() {
        // The names that are read with every value, the others with some.
        for name in if number < 6 { &names[..] } else { &names[..4] }.iter().copied() {
            forged.push(vec![(name, value.clone())]);
            forged.push(vec![(name, value.clone()), (name, value.clone())]);
        }
        forged.push(vec![(names[0], value.clone()), (names[2], value.clone())]);
    }
    for loopback in ["127.0.0.1", "::1", "localhost", "for=127.0.0.1", "127.0.0.1:1, 127.0.0.1"] {
        for name in ["x-forwarded-for", "x-real-ip", "forwarded", "x-envoy-external-address"] {
            forged.push(vec![(name, loopback.to_owned()), (names[0], format!("URI={ORDERS}"))]);
            forged.push(vec![(name, loopback.to_owned()), (names[2], "orders.shop".to_owned())]);
        }
    }
    forged
}

#[tokio::test]
async fn a_forged_header_on_a_direct_connection_proves_nothing() {
    for header in [Header::Xfcc, Header::L5dClientId] {
        let house = House::open(header, &format!("{GATEWAY}, dns:gateway.corp")).await;
        let nobody = house.channel(None);
        let evil = house.channel(Some(&house.authority.client(EVIL)));
        let nameless = house.channel(Some(&house.authority.issue(crate::certificates::named(&[], &[]))));
        let forged = forged();
        assert!(forged.len() > 800, "{}", forged.len());
        let each = forged.iter().flat_map(|headers| [(&nobody, headers), (&nameless, headers)]);
        futures_util::stream::iter(each)
            .for_each_concurrent(64, async |(channel, headers)| {
                let refused = ask(channel, headers).await.unwrap_err();
                assert_eq!(refused.code(), Code::Unauthenticated, "{headers:?}");
            })
            .await;
        assert_eq!(house.callers.were(), [], "nobody was taken for anybody");
        // Whoever has a certificate is who that says, whatever stands in a header.
        for headers in forged.iter().step_by(7) {
            ask(&evil, headers).await.unwrap();
        }
        for was in house.callers.were() {
            let Principal::Certificate(certificate) = was else { panic!("{was:?}") };
            assert_eq!(certificate.uris, [EVIL]);
        }
    }
}

#[tokio::test]
async fn the_gateway_is_believed_and_must_be_clear() {
    let house = House::open(Header::Xfcc, GATEWAY).await;
    let gateway = house.channel(Some(&house.authority.client(GATEWAY)));
    let xfcc = |value: &str| ("x-forwarded-client-cert", value.to_owned());
    ask(&gateway, &[xfcc(&format!("By={GATEWAY};Hash=12;Subject=\"CN=a,O=b\";URI={ORDERS}"))]).await.unwrap();
    // The client of the gateway sent one of its own.
    ask(&gateway, &[xfcc(&format!("URI={ORDERS},By={GATEWAY};Hash=12;URI={EVIL}"))]).await.unwrap();
    assert_eq!(house.callers.were(), [Principal::Mesh(ORDERS.into()), Principal::Mesh(EVIL.into())]);
    for malformed in [
        vec![xfcc("")],
        vec![xfcc("URI=a;URI=b")],
        vec![xfcc(&format!("URI={ORDERS},"))],
        vec![xfcc(&format!("URI={ORDERS}")), xfcc(&format!("URI={ORDERS}"))],
        vec![xfcc("Subject=\"CN=a")],
    ] {
        let refused = ask(&gateway, &malformed).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{malformed:?}");
    }
    assert_eq!(
        house.callers.were(),
        [],
        "a refused proof ends the chain: it is not taken for the gateway itself"
    );
    // Without the header the gateway speaks for itself, and the policy decides about it.
    ask(&gateway, &[]).await.unwrap();
    assert!(matches!(house.callers.were().as_slice(), [Principal::Certificate(_)]));
}

#[tokio::test]
async fn the_sidecar_on_this_machine_is_believed_if_it_is_pinned() {
    let house = House::open(Header::L5dClientId, "loopback").await;
    let sidecar = house.channel(None);
    ask(&sidecar, &[("l5d-client-id", "orders.shop".to_owned())]).await.unwrap();
    assert_eq!(house.callers.were(), [Principal::Mesh("orders.shop".into())]);
    for headers in [vec![], vec![("l5d-client-id", String::new())], vec![("l5d-client-id", "a b".to_owned())]]
    {
        assert_eq!(ask(&sidecar, &headers).await.unwrap_err().code(), Code::Unauthenticated, "{headers:?}");
    }
}
