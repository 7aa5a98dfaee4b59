//! TLS and client certificates: whose certificate lets them in, whose does not, and what a change of files does.
//!
//! Real certificates, real handshakes, real calls. What a gRPC client would never do is done with TLS alone.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acs_broker::auth::mtls::Mtls;
use acs_broker::auth::{Callers, Gate, Principal};
use acs_broker::broker::types::Caller;
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::{ClientCertificate, Tls, TlsSettings};
use acs_broker::reload::Reloadable;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd};
use rustls::HandshakeKind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use v1::token_service_client::TokenServiceClient;

use crate::certificates::{Authority, Pair, channel, named, raw_config, raw_config_of, shake};
use crate::harness::{Rig, Wish, until};

const LIMIT: Duration = Duration::from_secs(30);
const ORDERS: &str = "spiffe://corp/ns/shop/sa/orders";

/// Lets everybody in and remembers who they were.
#[derive(Default)]
pub(crate) struct Everybody(Mutex<Vec<Principal>>);

impl Callers for Everybody {
    fn caller(&self, principal: &Principal) -> Option<Caller> {
        self.0.lock().unwrap().push(principal.clone());
        Some(Caller::unlimited("somebody"))
    }
}

impl Everybody {
    /// Who they were since this was last asked.
    pub(crate) fn were(&self) -> Vec<Principal> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// The files of a server's TLS.
struct Files {
    folder: TempDir,
    client_ca: bool,
}

impl Files {
    fn new(server: &Pair, client_ca: Option<&str>) -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap(), client_ca: client_ca.is_some() };
        files.write("tls.crt", &server.cert);
        files.write("tls.key", &server.key);
        if let Some(ca) = client_ca {
            files.write("ca.crt", ca);
        }
        files
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    fn settings(&self, client_certificate: ClientCertificate) -> TlsSettings {
        TlsSettings {
            cert_file: Some(self.path("tls.crt")),
            key_file: Some(self.path("tls.key")),
            client_ca_file: self.client_ca.then(|| self.path("ca.crt")),
            client_certificate,
        }
    }

    fn tls(&self, client_certificate: ClientCertificate) -> Arc<Tls> {
        Arc::new(Tls::open(&self.settings(client_certificate)).unwrap().unwrap())
    }
}

/// What `reload::follow` does when it sees a change.
fn read_again(tls: &Tls) -> Result<(), String> {
    tls.reload(tls.files().iter().map(|path: &PathBuf| std::fs::read(Path::new(path)).unwrap()).collect())
}

/// A broker that takes client certificates of one authority.
struct House {
    authority: Authority,
    files: Files,
    tls: Arc<Tls>,
    callers: Arc<Everybody>,
    rig: Rig,
}

impl House {
    async fn open(client_certificate: ClientCertificate) -> Self {
        let authority = Authority::new("corp");
        let files = Files::new(&authority.server(), Some(&authority.pem));
        let tls = files.tls(client_certificate);
        let callers = Arc::new(Everybody::default());
        let gate = Arc::new(Gate::new(vec![Arc::new(Mtls)], callers.clone()));
        let rig = Rig::start(Wish { gate, tls: Some(tls.clone()), ..Wish::default() }).await;
        Self { authority, files, tls, callers, rig }
    }

    fn channel(&self, shown: Option<&Pair>) -> Channel {
        channel(self.rig.address, &self.authority.pem, shown)
    }
}

/// Asks for a token.
pub(crate) async fn ask(channel: Channel) -> Result<String, Status> {
    let request = v1::IssueTokenRequest {
        user_id: "alice".into(),
        scopes: vec![v1::Scope::Chat.into()],
        ..Default::default()
    };
    let asking = TokenServiceClient::new(channel);
    let answer = timeout(LIMIT, async move { { asking }.issue_token(request).await });
    answer.await.expect("it ends").map(|issued| issued.into_inner().token)
}

#[tokio::test]
async fn a_certificate_of_the_authority_proves_its_names() {
    let house = House::open(ClientCertificate::Required).await;
    let (below, its_own) = house.authority.below("shop");
    let mut through = below.client(ORDERS);
    through.cert.push_str(&its_own);
    let mut no_usage = named(&[ORDERS], &[]);
    no_usage.extended_key_usages.clear();
    for (pair, uris, dns) in [
        (house.authority.client(ORDERS), &[ORDERS][..], &[][..]),
        (house.authority.issue(named(&[], &["orders.shop.svc"])), &[], &["orders.shop.svc"]),
        (
            house.authority.issue(named(&[ORDERS], &["orders", "orders.shop", "orders.shop.svc"])),
            &[ORDERS],
            &["orders", "orders.shop", "orders.shop.svc"],
        ),
        (house.authority.issue(no_usage), &[ORDERS], &[]),
        (through, &[ORDERS], &[]),
    ] {
        ask(house.channel(Some(&pair))).await.unwrap();
        let were = house.callers.were();
        let [Principal::Certificate(proven)] = were.as_slice() else { panic!("{were:?}") };
        assert_eq!((proven.uris.as_slice(), proven.dns.as_slice()), (&own(uris)[..], &own(dns)[..]));
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[tokio::test]
async fn a_certificate_that_is_not_good_opens_nothing() {
    let house = House::open(ClientCertificate::Required).await;
    let ours = &house.authority;
    // The same name as ours, another key.
    let (theirs, same_name) = (Authority::new("other"), Authority::new("corp"));
    let with = |change: &dyn Fn(&mut CertificateParams)| {
        let mut params = named(&[ORDERS], &[]);
        change(&mut params);
        ours.issue(params)
    };
    let own_key = KeyPair::generate().unwrap();
    let self_signed = Pair {
        cert: named(&[ORDERS], &[]).self_signed(&own_key).unwrap().pem(),
        key: own_key.serialize_pem(),
    };
    let mut long = ours.client(ORDERS);
    for number in 0..12 {
        long.cert.push_str(&ours.below(&format!("below {number}")).1);
    }
    let mut without_its_chain = ours.below("shop").0.client(ORDERS);
    without_its_chain.cert.push_str(&theirs.pem);
    for (what, pair) in [
        ("of another authority", theirs.client(ORDERS)),
        ("of an authority of the same name", same_name.client(ORDERS)),
        ("expired", with(&|params| params.not_after = date_time_ymd(2020, 1, 1))),
        ("not valid yet", with(&|params| params.not_before = date_time_ymd(2120, 1, 1))),
        (
            "for servers",
            with(&|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ),
        (
            "of an authority itself",
            with(&|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained)),
        ),
        ("signed by itself", self_signed),
        ("with an endless chain", long),
        ("without the chain it needs", without_its_chain),
    ] {
        let refused = ask(house.channel(Some(&pair))).await.unwrap_err();
        assert!(!refused.metadata().contains_key("x-request-id"), "{what}: a call was answered");
    }
    let refused = ask(house.channel(None)).await.unwrap_err();
    assert!(!refused.metadata().contains_key("x-request-id"), "without one");
    assert_eq!(house.callers.were(), [], "nobody came as far as to be somebody");
    ask(house.channel(Some(&ours.client(ORDERS)))).await.unwrap();
}

#[tokio::test]
async fn a_good_certificate_that_names_nobody_is_no_proof() {
    let house = House::open(ClientCertificate::Required).await;
    for params in [
        named(&[], &[]),
        named(&[ORDERS, "spiffe://corp/ns/shop/sa/admin"], &[]),
        named(&["https://orders.shop", ORDERS], &["orders.shop"]),
        // An address is no name of a workload.
        named(&[], &["10.0.0.1"]),
    ] {
        let refused = ask(house.channel(Some(&house.authority.issue(params)))).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert!(refused.metadata().contains_key("x-request-id"));
    }
    assert_eq!(house.callers.were(), []);
}

#[tokio::test]
async fn without_a_certificate_optional_means_connected_and_nobody() {
    let house = House::open(ClientCertificate::Optional).await;
    assert_eq!(ask(house.channel(None)).await.unwrap_err().code(), Code::Unauthenticated);
    let bad = Authority::new("other").client(ORDERS);
    let refused = ask(house.channel(Some(&bad))).await.unwrap_err();
    assert!(!refused.metadata().contains_key("x-request-id"), "a bad one is worse than none");
    assert_eq!(house.callers.were(), []);
    ask(house.channel(Some(&house.authority.client(ORDERS)))).await.unwrap();
}

/// Whether the server answers SETTINGS on this stream.
async fn speaks_http2(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> bool {
    let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let mut frame = [0; 9];
    let spoken = async {
        stream.write_all(begin).await.ok()?;
        stream.flush().await.ok()?;
        stream.read_exact(&mut frame).await.ok()?;
        let mut payload = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
        stream.read_exact(&mut payload).await.ok()
    };
    timeout(LIMIT, spoken).await.expect("it ends").is_some() && frame[3] == 4
}

#[tokio::test]
async fn only_http2_over_tls_1_2_and_1_3_is_spoken() {
    let house = House::open(ClientCertificate::Required).await;
    let pair = house.authority.client(ORDERS);
    let config = |alpn: &[&str]| raw_config(&house.authority.pem, Some(&pair), alpn);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = raw_config_of(&[version], &house.authority.pem, Some(&pair), &["h2"]);
        let mut stream = shake(house.rig.address, &Arc::new(config)).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version().unwrap(), version.version);
        assert!(speaks_http2(&mut stream).await);
    }
    for alpn in [&[][..], &["http/1.1"], &["h2c", "grpc-exp"]] {
        match shake(house.rig.address, &Arc::new(config(alpn))).await {
            Ok(mut stream) => assert!(!speaks_http2(&mut stream).await, "{alpn:?}"),
            Err(_) => assert!(!alpn.is_empty(), "without ALPN the handshake itself is fine"),
        }
    }
    let mut both = shake(house.rig.address, &Arc::new(config(&["http/1.1", "h2"]))).await.unwrap();
    assert!(speaks_http2(&mut both).await);
    // Plain text, and TLS 1.1: a ClientHello whose highest version is 3.2, with one cipher suite.
    let mut plain = TcpStream::connect(house.rig.address).await.unwrap();
    assert!(!speaks_http2(&mut plain).await);
    let mut hello = vec![0x16, 3, 1, 0, 45, 1, 0, 0, 41, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0xc0, 0x13, 1, 0]);
    let mut old = TcpStream::connect(house.rig.address).await.unwrap();
    old.write_all(&hello).await.unwrap();
    let mut answer = Vec::new();
    let _ = timeout(LIMIT, old.read_to_end(&mut answer)).await.expect("it is hung up");
    assert!(answer.is_empty() || answer[0] == 0x15, "an alert, or nothing: {answer:?}");
}

#[tokio::test]
async fn no_session_is_resumed_where_certificates_are_asked_for() {
    let house = House::open(ClientCertificate::Required).await;
    let pair = house.authority.client(ORDERS);
    let asked = Arc::new(raw_config(&house.authority.pem, Some(&pair), &["h2"]));
    for _ in 0..3 {
        let mut stream = shake(house.rig.address, &asked).await.unwrap();
        assert!(speaks_http2(&mut stream).await);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
    }
    // And the check sees resumption where there is some.
    let files = Files::new(&house.authority.server(), None);
    let tls = files.tls(ClientCertificate::Required);
    let rig = Rig::start(Wish { tls: Some(tls), ..Wish::default() }).await;
    let anybody = Arc::new(raw_config(&house.authority.pem, None, &["h2"]));
    let mut first = shake(rig.address, &anybody).await.unwrap();
    assert!(speaks_http2(&mut first).await);
    let second = shake(rig.address, &anybody).await.unwrap();
    assert_eq!(second.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
}

#[tokio::test]
async fn new_files_count_for_new_connections_and_old_ones_go_on() {
    let house = House::open(ClientCertificate::Required).await;
    let pair = house.authority.client(ORDERS);
    let before = house.channel(Some(&pair));
    ask(before.clone()).await.unwrap();

    // Files that do not fit together, or are none, change nothing.
    let (new, other) = (Authority::new("new"), Authority::new("new"));
    let (server, stranger) = (new.server(), other.server());
    for (name, text, said) in [
        ("tls.crt", &server.cert, "server.tls.key_file is not the key of tls.cert_file"),
        ("tls.crt", &"nonsense".to_owned(), "server.tls.cert_file holds no certificate"),
        ("tls.key", &"nonsense".to_owned(), "server.tls.key_file holds no private key"),
        ("tls.key", &stranger.key, "server.tls.key_file is not the key of tls.cert_file"),
        ("ca.crt", &String::new(), "server.tls.client_ca_file holds no certificate"),
        ("ca.crt", &server.key, "server.tls.client_ca_file holds no certificate"),
    ] {
        let good = std::fs::read_to_string(house.files.path(name)).unwrap();
        house.files.write(name, text);
        let problem = read_again(&house.tls).unwrap_err();
        assert!(problem.starts_with(said), "{name}: {problem}");
        assert!(!problem.contains("PRIVATE"), "{problem}");
        ask(house.channel(Some(&pair))).await.unwrap();
        house.files.write(name, &good);
    }

    house.files.write("tls.crt", &server.cert);
    house.files.write("tls.key", &server.key);
    house.files.write("ca.crt", &format!("{}{}", house.authority.pem, new.pem));
    read_again(&house.tls).unwrap();
    ask(channel(house.rig.address, &new.pem, Some(&new.client(ORDERS)))).await.unwrap();
    ask(channel(house.rig.address, &new.pem, Some(&pair))).await.unwrap();
    ask(house.channel(Some(&pair))).await.unwrap_err();
    ask(before).await.expect("the connection from before goes on, its authority is still trusted");
}

#[tokio::test]
async fn whoever_came_with_an_authority_that_is_gone_has_to_leave() {
    let house = House::open(ClientCertificate::Required).await;
    let (old, new) = (house.authority.client(ORDERS), Authority::new("new"));
    house.files.write("ca.crt", &format!("{}{}", house.authority.pem, new.pem));
    read_again(&house.tls).unwrap();
    let trusted = |pair: &Pair| {
        let pair = pair.clone();
        raw_config(&house.authority.pem, Some(&pair), &["h2"])
    };
    let mut leaving = shake(house.rig.address, &Arc::new(trusted(&old))).await.unwrap();
    assert!(speaks_http2(&mut leaving).await);
    let staying = house.channel(Some(&new.client(ORDERS)));
    ask(staying.clone()).await.unwrap();

    house.files.write("ca.crt", &new.pem);
    read_again(&house.tls).unwrap();
    // Its farewell is a GOAWAY; it may not say a word to it.
    let mut frame = [0; 9];
    let goodbye = async {
        loop {
            leaving.read_exact(&mut frame).await.unwrap();
            if frame[3] == 7 {
                return;
            }
            let mut payload = vec![0; usize::from(frame[1]) << 8 | usize::from(frame[2])];
            leaving.read_exact(&mut payload).await.unwrap();
        }
    };
    timeout(LIMIT, goodbye).await.expect("it is told to go");
    until("it is counted", async || {
        house.rig.metrics.render().contains("connections_ended_total{reason=\"certificate\"} 1")
    })
    .await;
    ask(staying).await.unwrap();
    ask(house.channel(Some(&old))).await.unwrap_err();
}

/// A change of everything under load, in the order that docs/operations.md gives.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_under_load_fails_no_request() {
    const CALLERS: usize = 4;
    let house = House::open(ClientCertificate::Required).await;
    let new = Authority::new("new");
    let both = format!("{}{}", house.authority.pem, new.pem);
    let shown = Arc::new(tokio::sync::watch::Sender::new(house.authority.client(ORDERS)));
    let (asked, moved) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (mut shown, both, stop) = (shown.subscribe(), both.clone(), stop.clone());
        let (asked, moved, address) = (asked.clone(), moved.clone(), house.rig.address);
        callers.spawn(async move {
            let mut kept = channel(address, &both, Some(&shown.borrow_and_update()));
            while !stop.is_cancelled() {
                // Half of them connect anew for each call, half only when they have another certificate.
                let changed = shown.has_changed().unwrap();
                if changed || caller % 2 == 0 {
                    kept = channel(address, &both, Some(&shown.borrow_and_update()));
                }
                ask(kept.clone()).await.expect("no request fails");
                asked.fetch_add(1, Ordering::Relaxed);
                moved.fetch_add(changed.into(), Ordering::Relaxed);
            }
        });
    }
    let some_more = async || {
        let then = asked.load(Ordering::Relaxed);
        until("calls go on", async || asked.load(Ordering::Relaxed) > then + 100).await;
    };
    let read = |name: &str, text: &str| {
        house.files.write(name, text);
        read_again(&house.tls)
    };
    some_more().await;
    read("ca.crt", &both).unwrap();
    some_more().await;
    let server = new.server();
    house.files.write("tls.crt", &server.cert);
    read("tls.key", &server.key).unwrap();
    some_more().await;
    shown.send_replace(new.client(ORDERS));
    until("all have moved", async || moved.load(Ordering::Relaxed) == CALLERS).await;
    read("ca.crt", &new.pem).unwrap();
    some_more().await;
    stop.cancel();
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}
