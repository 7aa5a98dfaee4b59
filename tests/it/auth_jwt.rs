//! Bearer tokens at a real gRPC server, with the keys of a real HTTPS issuer: hostile tokens, rotation, outages.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use acs_broker::auth::jwks::Timing;
use acs_broker::auth::jwt::{Algorithm, Issuer, Verifier};
use acs_broker::auth::{Callers, Gate, Principal};
use acs_broker::broker::types::Caller;
use acs_broker::clock::SystemClock;
use acs_broker::grpc::proto::v1;
use acs_broker::metrics::Metrics;
use acs_broker::retry::Backoff;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::forger::Forger;
use crate::harness::messages::reason;
use crate::harness::{BrokerProcess, Rig, Wish, emulator_process, until};
use crate::key_server::{KeyServer, Reply};
use crate::token_signer::{Signer, key_set};

const SUBJECT: &str = "system:serviceaccount:shop:orders";
const DISCOVERY: &str = "/.well-known/openid-configuration";
const KEYS: &str = "/openid/v1/jwks";

/// A policy that lists one service account of the cluster.
struct Orders;

impl Callers for Orders {
    fn caller(&self, principal: &Principal) -> Option<Caller> {
        match principal {
            Principal::Token(claims) if &*claims.issuer == "cluster" && claims.subject == SUBJECT => {
                Some(Caller::unlimited("orders"))
            }
            _ => None,
        }
    }
}

/// An issuer and a broker that trusts it.
struct World {
    issuer: KeyServer,
    folder: TempDir,
    verifier: Arc<Verifier>,
    metrics: Metrics,
    rig: Rig,
}

/// A certificate authority's PEM, and a server's configuration with a certificate of it for `localhost`.
fn certified() -> (String, Arc<rustls::ServerConfig>) {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let leaf = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = leaf.signed_by(&key, &Issuer::from_params(&ca, &ca_key)).unwrap();
    let config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
            .unwrap();
    (pem, Arc::new(config))
}

/// The times of a broker, but for seconds instead of minutes.
fn hasty() -> Timing {
    Timing {
        between: Duration::from_millis(300),
        usual_age: Duration::from_secs(1),
        retry: Backoff { first: Duration::from_millis(100), cap: Duration::from_millis(500) },
        ..Timing::default()
    }
}

impl World {
    async fn start(signers: &[&Signer], timing: Timing) -> Self {
        let (ca, config) = certified();
        let issuer = KeyServer::start_tls(config).await;
        issuer.reply(KEYS, Reply::Keys(key_set(signers), 3600));
        let document = json!({"issuer": issuer.url(""), "jwks_uri": issuer.url(KEYS)});
        issuer.reply(DISCOVERY, Reply::Keys(document.to_string(), 3600));
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            folder.path().join(name).display().to_string()
        };
        let settings = Issuer {
            ca_file: file("ca.pem", &ca),
            bearer_file: file("token", "the broker's own token\n"),
            algorithms: vec![Algorithm::RS256, Algorithm::ES256],
            ..Issuer::new("cluster", issuer.url(""), "acs-broker")
        };
        let metrics = Metrics::new();
        let verifier = Verifier::with_timing(vec![settings], Arc::new(SystemClock), metrics.clone(), timing);
        let verifier = Arc::new(verifier);
        let gate = Arc::new(Gate::new(vec![verifier.clone()], Arc::new(Orders)));
        let rig = Rig::start(Wish { gate, ..Wish::default() }).await;
        Self { issuer, folder, verifier, metrics, rig }
    }

    fn claims(&self) -> Value {
        json!({"iss": self.issuer.url(""), "aud": ["acs-broker"], "sub": SUBJECT, "exp": now() + 3600, "iat": now(),
            "nbf": now(), "jti": uuid::Uuid::new_v4().to_string(), "kubernetes.io": {"namespace": "shop"}})
    }

    async fn call(&self, token: &str) -> Result<(), Status> {
        self.call_with(&[format!("Bearer {token}").as_str()]).await
    }

    async fn call_with(&self, headers: &[&str]) -> Result<(), Status> {
        let message = v1::IssueTokenRequest {
            user_id: "shop:1".into(),
            scopes: vec![v1::Scope::Chat.into()],
            ..Default::default()
        };
        let mut request = Request::new(message);
        request.set_timeout(Duration::from_secs(30));
        for header in headers {
            request.metadata_mut().append("authorization", MetadataValue::try_from(*header).unwrap());
        }
        self.rig.tokens().issue_token(request).await.map(|_| ())
    }

    /// How many tokens were judged so.
    fn judged(&self, outcome: &str) -> u64 {
        let line = format!("acs_broker_bearer_tokens_total{{outcome=\"{outcome}\"}} ");
        let text = self.metrics.render();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }

    fn failing(&self) -> bool {
        self.metrics.render().contains("acs_broker_jwks_failing 1")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[expect(clippy::disallowed_methods, reason = "tokens of this hour")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn is_refusal(status: &Status) -> bool {
    status.code() == Code::Unauthenticated && reason(status) == "CALLER_UNAUTHENTICATED"
}

/// Issue 5's promise: 10,000 hostile tokens, all refused, at most one fetch of the keys a minute, good callers unharmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_hostile_tokens_are_refused_and_good_ones_go_on() {
    const HOSTILE: usize = 10_000;
    let (rsa, ec) = (Signer::rsa("rsa"), Signer::p256("ec"));
    let world = Arc::new(World::start(&[&rsa, &ec], Timing::default()).await);
    let elsewhere = KeyServer::start().await;
    let forger = Arc::new(Forger::new(rsa, ec, world.claims(), elsewhere.url("/keys")));
    elsewhere.reply("/keys", Reply::Keys(key_set(&[forger.own_key()]), 60));
    assert!(world.call(&forger.good).await.is_ok());

    let (began, done) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let good = tokio::spawn({
        let (world, forger, done) = (world.clone(), forger.clone(), done.clone());
        async move {
            let (mut calls, mut slowest) = (0, Duration::ZERO);
            while !done.load(Ordering::SeqCst) {
                // Every other one is new, so that it is really verified.
                let token = if calls % 2 == 0 {
                    forger.good.clone()
                } else {
                    forger.rsa.sign("RS256", &world.claims())
                };
                let began = Instant::now();
                world.call(&token).await.unwrap();
                slowest = slowest.max(began.elapsed());
                calls += 1;
            }
            (calls, slowest)
        }
    });
    let next = Arc::new(AtomicUsize::new(0));
    let forging = (0..32).map(|_| {
        let (world, forger, next) = (world.clone(), forger.clone(), next.clone());
        tokio::spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::SeqCst);
                if number >= HOSTILE {
                    return;
                }
                let (kind, token) = forger.forge(number, now());
                let refused = world.call(&token).await.expect_err(kind);
                assert!(is_refusal(&refused), "{kind}: {refused:?}");
            }
        })
    });
    for task in forging.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    done.store(true, Ordering::SeqCst);
    let (calls, slowest) = good.await.unwrap();
    let took = began.elapsed();
    let minutes = usize::try_from(took.as_secs() / 60).unwrap();
    let fetches = world.issuer.asked(KEYS);
    println!(
        "{HOSTILE} hostile tokens refused in {took:?}, {fetches} fetches of the keys; meanwhile {calls} good calls, \
         the slowest {slowest:?}"
    );
    assert!((1..=1 + minutes).contains(&fetches), "{fetches} fetches in {took:?}");
    assert!(calls > 10, "{calls}");
    assert_eq!(elsewhere.heads(), [""; 0], "what a token names is followed");
    let accepted = world.judged("verified") + world.judged("known");
    assert_eq!(accepted, calls + 1);
    // Every check had something to refuse.
    for outcome in [
        "too_long",
        "malformed",
        "header",
        "algorithm",
        "issuer",
        "audience",
        "expired",
        "not_yet",
        "claims",
        "unknown_key",
        "signature",
    ] {
        assert!(world.judged(outcome) > 0, "{outcome}: {}", world.metrics.render());
    }
}

#[tokio::test]
async fn a_header_that_is_no_single_bearer_token_is_refused() {
    let signer = Signer::p256("ec");
    let world = World::start(&[&signer], Timing::default()).await;
    let token = signer.sign("ES256", &world.claims());
    let bearer = format!("Bearer {token}");
    assert!(world.call_with(&[&bearer]).await.is_ok());
    let (twice, basic) = ([bearer.as_str(), bearer.as_str()], ["Basic YTpi", bearer.as_str()]);
    let joined = format!("{bearer}, {bearer}");
    for headers in [&twice[..], &basic, &[], &["Basic YTpi"], &[&token], &["Bearer"], &[""], &[&joined]] {
        let refused = world.call_with(headers).await.unwrap_err();
        assert!(is_refusal(&refused), "{headers:?}: {refused:?}");
    }
    // So long that the transport refuses it before anybody reads it.
    let refused = world.call(&"a".repeat(20_000)).await.unwrap_err();
    assert_ne!(refused.code(), Code::Ok);
    println!("a header of 20,000 bytes: {:?}", refused.code());
    // Somebody whom the issuer knows and the policy does not list.
    let mut claims = world.claims();
    claims["sub"] = json!("system:serviceaccount:shop:other");
    assert!(is_refusal(&world.call(&signer.sign("ES256", &claims)).await.unwrap_err()));
    assert!(world.call_with(&[&bearer]).await.is_ok());
}

/// Issue 5's promise of rotation: keys published ahead, then used, then withdrawn, under load, without a failed call.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_rotated_under_load_without_a_failed_call() {
    const ROTATIONS: usize = 8;
    let first = Arc::new(Signer::p256("key-0"));
    let world = Arc::new(World::start(&[&first], hasty()).await);
    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&first]), 0));
    let (signer, done) = (Arc::new(RwLock::new(first.clone())), Arc::new(AtomicBool::new(false)));
    let load: Vec<_> = (0..8)
        .map(|_| {
            let (world, signer, done) = (world.clone(), signer.clone(), done.clone());
            tokio::spawn(async move {
                let mut calls = 0u64;
                while !done.load(Ordering::SeqCst) {
                    let signer = signer.read().unwrap().clone();
                    let token = signer.sign("ES256", &world.claims());
                    world.call(&token).await.unwrap_or_else(|refused| panic!("{}: {refused:?}", signer.kid));
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    let refetched = async || {
        let before = world.issuer.asked(KEYS);
        until("the keys were fetched twice more", async || world.issuer.asked(KEYS) >= before + 2).await;
    };
    let mut old = first;
    for number in 1..=ROTATIONS {
        let new = Arc::new(Signer::p256(&format!("key-{number}")));
        world.issuer.reply(KEYS, Reply::Keys(key_set(&[&old, &new]), 0));
        refetched().await;
        *signer.write().unwrap() = new.clone();
        // A withdrawn key is one whose tokens are not used any more.
        let stale = old.sign("ES256", &world.claims());
        let calls = world.judged("verified");
        until("calls under way with the old key have ended", async || world.judged("verified") > calls + 50)
            .await;
        assert!(world.call(&stale).await.is_ok(), "while both are published, both count");
        world.issuer.reply(KEYS, Reply::Keys(key_set(&[&new]), 0));
        refetched().await;
        assert!(
            is_refusal(&world.call(&stale).await.unwrap_err()),
            "also what was verified before is refused"
        );
        old = new;
    }
    done.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for task in load {
        calls += task.await.unwrap();
    }
    println!("{ROTATIONS} rotations of the key, {calls} calls, none failed");
    assert!(calls > 100);
}

#[tokio::test]
async fn a_key_nobody_announced_is_found_by_its_first_token() {
    let (old, new) = (Signer::p256("old"), Signer::p256("new"));
    let world =
        World::start(&[&old], Timing { between: Duration::from_millis(1), ..Timing::default() }).await;
    assert!(world.call(&old.sign("ES256", &world.claims())).await.is_ok());
    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&new]), 3600));
    assert!(world.call(&new.sign("ES256", &world.claims())).await.is_ok());
    assert_eq!(world.issuer.asked(KEYS), 2);
    assert!(is_refusal(&world.call(&old.sign("ES256", &world.claims())).await.unwrap_err()));
}

#[tokio::test]
async fn trouble_at_the_issuer_is_survived_with_the_old_keys() {
    let (signer, new) = (Signer::p256("ec"), Signer::p256("new"));
    let timing = Timing { fetch: Duration::from_secs(2), wait: Duration::from_millis(200), ..hasty() };
    let world = World::start(&[&signer], timing).await;
    let evil = KeyServer::start().await;
    evil.reply("/", Reply::Keys(key_set(&[&new]), 3600));
    let good_keys = Reply::Keys(key_set(&[&signer]), 0);
    let good_discovery = Reply::Keys(
        json!({"issuer": world.issuer.url(""), "jwks_uri": world.issuer.url(KEYS)}).to_string(),
        0,
    );
    world.issuer.reply(KEYS, good_keys.clone());
    let token = signer.sign("ES256", &world.claims());
    until("the keys are there", async || world.call(&token).await.is_ok()).await;

    let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let huge = format!("{ok}content-length: 5000000\r\n\r\n{{\"keys\":[{}", "{},".repeat(1_000_000));
    let elsewhere = format!("location: {}\r\n", evil.url("/"));
    let discovery = |document: Value| (DISCOVERY, Reply::Keys(document.to_string(), 0));
    let here = world.issuer.url("");
    for (what, (path, reply)) in [
        ("500", (KEYS, Reply::status(500, ""))),
        ("404", (KEYS, Reply::status(404, ""))),
        ("a redirect", (KEYS, Reply::status(302, &elsewhere))),
        ("a permanent redirect", (DISCOVERY, Reply::status(308, &elsewhere))),
        ("garbage", (KEYS, Reply::Raw(b"\x00\x01\x02 this is no HTTP\r\n\r\n".to_vec()))),
        ("no JSON", (KEYS, Reply::Keys("<html>maintenance</html>".into(), 0))),
        ("no keys", (KEYS, Reply::Keys(json!({"keys": []}).to_string(), 0))),
        (
            "useless keys",
            (KEYS, Reply::Keys(json!({"keys": [{"kty": "oct", "k": "AAAA", "kid": "ec"}]}).to_string(), 0)),
        ),
        ("huge", (KEYS, Reply::Raw(huge.into_bytes()))),
        ("cut off", (KEYS, Reply::Raw(format!("{ok}content-length: 500\r\n\r\n{{\"keys\"").into_bytes()))),
        ("slow", (KEYS, Reply::Stalls(ok.as_bytes().to_vec()))),
        ("slow discovery", (DISCOVERY, Reply::Stalls(Vec::new()))),
        ("closed", (KEYS, Reply::Closes)),
        (
            "another issuer's discovery",
            discovery(json!({"issuer": "https://evil.example", "jwks_uri": evil.url("/")})),
        ),
        ("keys over HTTP", discovery(json!({"issuer": here, "jwks_uri": evil.url("/")}))),
    ] {
        world.issuer.reply(path, reply);
        until("the trouble is noticed", async || world.failing()).await;
        for _ in 0..3 {
            let token = signer.sign("ES256", &world.claims());
            let began = Instant::now();
            assert!(world.call(&token).await.is_ok(), "{what}");
            assert!(began.elapsed() < Duration::from_secs(5), "{what}: {:?}", began.elapsed());
        }
        assert!(is_refusal(&world.call(&new.sign("ES256", &world.claims())).await.unwrap_err()), "{what}");
        world.issuer.reply(KEYS, good_keys.clone());
        world.issuer.reply(DISCOVERY, good_discovery.clone());
        until("the trouble is over", async || !world.failing()).await;
    }
    assert_eq!(evil.heads(), [""; 0], "a redirect was followed, or keys were taken from elsewhere");
}

#[tokio::test]
async fn an_outage_is_survived_for_so_long_and_no_longer() {
    let signer = Signer::p256("ec");
    let timing = Timing { outage: Duration::from_secs(2), ..hasty() };
    let world = World::start(&[&signer], timing).await;
    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&signer]), 0));
    let call = async || world.call(&signer.sign("ES256", &world.claims())).await;
    assert!(call().await.is_ok());
    world.issuer.reply(KEYS, Reply::Closes);
    until("the outage has lasted too long", async || call().await.is_err_and(|refused| is_refusal(&refused)))
        .await;
    assert!(world.judged("no_keys") > 0);
    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&signer]), 0));
    until("the issuer is back", async || call().await.is_ok()).await;
}

#[tokio::test]
async fn the_brokers_own_token_goes_to_the_issuer_and_to_nobody_else() {
    let signer = Signer::p256("ec");
    let world = World::start(&[&signer], hasty()).await;
    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&signer]), 0));
    let token = || signer.sign("ES256", &world.claims());
    assert!(world.call(&token()).await.is_ok());
    let heads = world.issuer.heads();
    assert!(heads.len() >= 2);
    assert!(
        heads.iter().all(|head| head.contains("authorization: Bearer the broker's own token\r\n")),
        "{heads:?}"
    );

    // The same authority vouches for another port, which is another origin.
    let (ca, config) = certified();
    let keys_elsewhere = KeyServer::start_tls(config).await;
    let both = std::fs::read_to_string(world.path("ca.pem")).unwrap() + &ca;
    std::fs::write(world.path("ca.pem"), both).unwrap();
    keys_elsewhere.reply("/keys", Reply::Keys(key_set(&[&signer]), 0));
    let document = json!({"issuer": world.issuer.url(""), "jwks_uri": keys_elsewhere.url("/keys")});
    world.issuer.reply(DISCOVERY, Reply::Keys(document.to_string(), 0));
    until("the keys are fetched elsewhere", async || keys_elsewhere.asked("/keys") > 0).await;
    assert!(world.call(&token()).await.is_ok());
    let heads = keys_elsewhere.heads();
    assert!(heads.iter().all(|head| !head.to_lowercase().contains("authorization")), "{heads:?}");
}

#[tokio::test]
async fn an_issuer_whose_certificate_nobody_vouches_for_is_not_believed() {
    let signer = Signer::p256("ec");
    let world = World::start(&[&signer], hasty()).await;
    let plain = Issuer::new("cluster", world.issuer.url(""), "acs-broker");
    let asked = world.issuer.asked(DISCOVERY);
    world.verifier.replace(vec![plain]);
    assert!(is_refusal(&world.call(&signer.sign("ES256", &world.claims())).await.unwrap_err()));
    assert!(world.failing());
    assert!(world.issuer.asked(DISCOVERY) <= asked + 1, "at most one that was under way");
}

#[tokio::test]
async fn replacing_issuers_keeps_the_keys_of_those_that_stay() {
    let signer = Signer::p256("ec");
    let world = World::start(&[&signer], Timing::default()).await;
    let call = async || world.call(&signer.sign("ES256", &world.claims())).await;
    assert!(call().await.is_ok());
    let file = |name: &str| world.path(name).display().to_string();
    let settings = Issuer {
        ca_file: file("ca.pem"),
        bearer_file: file("token"),
        algorithms: vec![Algorithm::ES256],
        leeway: Duration::from_secs(1),
        ..Issuer::new("cluster", world.issuer.url(""), "acs-broker")
    };
    let other = Issuer { name: "users".into(), audience: "shop".into(), ..settings.clone() };
    world.verifier.replace(vec![settings, other]);
    world.issuer.reply(KEYS, Reply::Closes);
    assert!(call().await.is_ok());
    assert_eq!(world.issuer.asked(KEYS), 1);
    world.verifier.replace(Vec::new());
    assert!(is_refusal(&call().await.unwrap_err()));
}

/// The real binary with a policy file: callers by their tokens, users by theirs, and a file that changes.
#[tokio::test]
async fn a_served_broker_knows_callers_and_users_by_the_issuers_of_its_policy() {
    let (cluster, portal) = (Signer::p256("cluster"), Signer::rsa("portal"));
    let issuer = KeyServer::start().await;
    issuer.reply("/cluster", Reply::Keys(key_set(&[&cluster]), 3600));
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(path("portal.json"), key_set(&[&portal])).unwrap();
    let policy = |subject: &str| {
        format!(
            "[[issuers]]\nname = \"cluster\"\nissuer = \"https://cluster.example\"\naudience = \"acs-broker\"\n\
             jwks_url = \"{}\"\n\
             [[issuers]]\nname = \"portal\"\nissuer = \"https://portal.example\"\naudience = \"shop\"\n\
             jwks_file = \"{}\"\n\
             [[callers]]\nname = \"orders\"\nmatch = [{{ issuer = \"cluster\", subject = \"{subject}\" }}]\n\
             rpcs = [\"TokenService/*\"]\nscopes = [\"chat\"]\nuser_prefixes = [\"shop:\"]\nuser_token = \"portal\"\n",
            issuer.url("/cluster"),
            path("portal.json")
        )
    };
    std::fs::write(path("policy.toml"), policy(SUBJECT)).unwrap();
    let emulator = emulator_process().await;
    let file = path("policy.toml");
    let store = path("store");
    let settings = [
        ("AUTH__MODE", "policy"),
        ("AUTH__POLICY_FILE", file.as_str()),
        ("STORE__EMBEDDED__PATH", store.as_str()),
    ];
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;

    let of_orders =
        json!({"iss": "https://cluster.example", "aud": ["acs-broker"], "sub": SUBJECT, "exp": now() + 600});
    let token = cluster.sign("ES256", &of_orders);
    let of_user = |user: &str| {
        let claims = json!({"iss": "https://portal.example", "aud": "shop", "sub": user, "exp": now() + 600});
        portal.sign("RS256", &claims)
    };
    let tokens = broker.tokens().await;
    let call = async |token: &str, user: &str, user_token: Option<&str>| {
        let message = v1::IssueTokenRequest {
            user_id: user.into(),
            scopes: vec![v1::Scope::Chat.into()],
            ..Default::default()
        };
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        if let Some(user_token) = user_token {
            request.metadata_mut().insert("x-acs-broker-user-token", user_token.parse().unwrap());
        }
        tokens.clone().issue_token(request).await.map_or_else(|refused| reason(&refused), |_| "OK".to_owned())
    };
    assert_eq!(call(&token, "shop:1", Some(&of_user("shop:1"))).await, "OK");
    assert_eq!(call(&token, "shop:2", Some(&of_user("shop:1"))).await, "PERMISSION_MISSING");
    assert_eq!(call(&token, "shop:1", None).await, "PERMISSION_MISSING");
    assert_eq!(
        call(&token, "shop:1", Some(&token)).await,
        "PERMISSION_MISSING",
        "a caller's token is no user's"
    );
    let users_own = of_user("shop:1");
    assert_eq!(
        call(&users_own, "shop:1", Some(&users_own)).await,
        "CALLER_UNAUTHENTICATED",
        "nor the reverse"
    );
    assert_eq!(call("a.b.c", "shop:1", Some(&users_own)).await, "CALLER_UNAUTHENTICATED");

    std::fs::write(path("policy.toml"), policy("system:serviceaccount:shop:other")).unwrap();
    until("the policy has changed", async || {
        call(&token, "shop:1", Some(&users_own)).await == "CALLER_UNAUTHENTICATED"
    })
    .await;
    std::fs::write(path("policy.toml"), policy(SUBJECT)).unwrap();
    until("the policy has changed back", async || call(&token, "shop:1", Some(&users_own)).await == "OK")
        .await;
    assert_eq!(issuer.asked("/cluster"), 1, "the keys were kept over the changes");
    let log = broker.log();
    assert!(!log.contains(&token) && !log.contains("shop:1") && !log.contains("serviceaccount"), "{log}");
}
