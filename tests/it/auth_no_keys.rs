//! An issuer whose keys a real broker could not fetch since it started: calls with its tokens are told that it is the
//! broker's fault, operators see which issuer it is, and nobody else notices.

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;
use v1::token_service_client::TokenServiceClient;

use crate::harness::messages::reason;
use crate::harness::{BrokerProcess, Emulator, emulator_process, until};
use crate::key_server::{KeyServer, Reply};
use crate::token_signer::{Signer, key_set};

const KEYS: &str = "/keys";

#[expect(clippy::disallowed_methods, reason = "tokens of this hour")]
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

fn claims(issuer: &str, subject: &str) -> Value {
    json!({"iss": format!("https://{issuer}.example"), "aud": "acs-broker", "sub": subject, "exp": now() + 600})
}

struct World {
    issuer: KeyServer,
    broker: BrokerProcess,
    tokens: TokenServiceClient<Channel>,
    _emulator: Emulator,
    _folder: TempDir,
}

impl World {
    /// A broker that trusts `away`, which answers with 500, and `here`, whose keys it has.
    async fn start(here: &Signer) -> Self {
        let issuer = KeyServer::start().await;
        issuer.reply(KEYS, Reply::status(500, ""));
        let folder = TempDir::new().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("here.json"), key_set(&[here])).unwrap();
        let caller = |name: &str, more: &str| {
            format!(
                "[[callers]]\nname = \"{name}\"\nmatch = [{{ issuer = \"{name}\", subject = \"s\" }}]\n\
                 rpcs = [\"TokenService/*\"]\nscopes = [\"chat\"]\nuser_prefixes = [\"shop:\"]\n{more}"
            )
        };
        let issuers = format!(
            "[[issuers]]\nname = \"away\"\nissuer = \"https://away.example\"\naudience = \"acs-broker\"\n\
             jwks_url = \"{}\"\n\
             [[issuers]]\nname = \"here\"\nissuer = \"https://here.example\"\naudience = \"acs-broker\"\n\
             jwks_file = \"{}\"\n",
            issuer.url(KEYS),
            path("here.json")
        );
        let with_users = "[[callers]]\nname = \"portal\"\nmatch = [{ issuer = \"here\", subject = \"portal\" }]\n\
             rpcs = [\"TokenService/*\"]\nscopes = [\"chat\"]\nuser_prefixes = [\"shop:\"]\nuser_token = \"away\"\n";
        let policy = [issuers, caller("away", ""), caller("here", ""), with_users.to_owned()].concat();
        std::fs::write(path("policy.toml"), policy).unwrap();
        let (file, store) = (path("policy.toml"), path("store"));
        let settings = [
            ("AUTH__MODE", "policy"),
            ("AUTH__POLICY_FILE", file.as_str()),
            ("STORE__EMBEDDED__PATH", store.as_str()),
        ];
        let emulator = emulator_process().await;
        let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
        let tokens = broker.tokens().await;
        Self { issuer, broker, tokens, _emulator: emulator, _folder: folder }
    }

    async fn call(&self, token: &str, user_token: Option<&str>) -> Result<(), Status> {
        let scopes = vec![v1::Scope::Chat.into()];
        let message = v1::IssueTokenRequest { user_id: "shop:1".into(), scopes, ..Default::default() };
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        if let Some(user_token) = user_token {
            request.metadata_mut().insert("x-acs-broker-user-token", user_token.parse().unwrap());
        }
        self.tokens.clone().issue_token(request).await.map(|_| ())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_cannot_be_judged_is_the_brokers_fault_and_touches_no_other_issuer() {
    let (away, here) = (Signer::p256("away"), Signer::p256("here"));
    let world = World::start(&here).await;
    let (of_away, of_here) =
        (away.sign("ES256", &claims("away", "s")), here.sign("ES256", &claims("here", "s")));
    until("the keys that are here are read", async || world.call(&of_here, None).await.is_ok()).await;

    let refused = world.call(&of_away, None).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "ISSUER_UNAVAILABLE"));
    let retry = refused.get_error_details().retry_info().unwrap().retry_delay.unwrap();
    assert!(retry >= Duration::from_secs(1), "{retry:?}");
    // It is ready, for others are served, and says what is wrong.
    let shown = world.broker.readiness().await;
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
    assert!(shown.contains("\"issuer_keys\"") && shown.contains(": away\""), "{shown}");
    let metrics = world.broker.metrics().await;
    assert!(metrics.contains("acs_broker_jwks_lacking 1\n"), "{metrics}");
    assert!(metrics.contains("acs_broker_bearer_tokens_total{outcome=\"keys_not_yet\"}"), "{metrics}");

    // What is bad whatever the keys are is refused as ever, and so is all that names the issuer whose keys are there.
    let with = |claims: Value, name: &str, value: Value| {
        let mut claims = claims;
        claims[name] = value;
        claims
    };
    let stranger = Signer::p256("stranger");
    let forger = Signer::p256("here");
    let (of, nobody) = (claims("away", "s"), claims("nobody", "s"));
    for (what, token) in [
        ("malformed", "a.b.c".to_owned()),
        ("another audience", away.sign("ES256", &with(of.clone(), "aud", json!("other")))),
        ("expired", away.sign("ES256", &with(of.clone(), "exp", json!(now() - 600)))),
        ("an algorithm that is not allowed", away.sign_headed("ES256", &json!({"alg": "none"}), &of)),
        ("an issuer nobody configured", away.sign("ES256", &nobody)),
        ("a key that the issuer does not have", stranger.sign("ES256", &claims("here", "s"))),
        ("the other issuer's key", away.sign("ES256", &claims("here", "s"))),
        ("a forged signature", forger.sign("ES256", &claims("here", "s"))),
    ] {
        let refused = world.call(&token, None).await.unwrap_err();
        assert_eq!(
            (refused.code(), reason(&refused).as_str()),
            (Code::Unauthenticated, "CALLER_UNAUTHENTICATED"),
            "{what}"
        );
    }
    // However many come with tokens that cannot be judged, the others are judged.
    let flood = (0..700).map(|_| async { reason(&world.call(&of_away, None).await.unwrap_err()) });
    let flood = futures_util::future::join_all(flood);
    let others = async {
        for number in 0..20 {
            let fresh = here.sign("ES256", &with(claims("here", "s"), "jti", json!(number)));
            world.call(&fresh, None).await.unwrap();
            let refused = world.call(&stranger.sign("ES256", &claims("here", "s")), None).await.unwrap_err();
            assert_eq!(reason(&refused), "CALLER_UNAUTHENTICATED");
        }
    };
    let (flooded, ()) = futures_util::future::join(flood, others).await;
    assert!(flooded.iter().all(|reason| reason == "ISSUER_UNAVAILABLE"));

    // The end user's own token, likewise: the caller's is good, and the user's cannot be judged.
    let portal = here.sign("ES256", &claims("here", "portal"));
    let users = away.sign("ES256", &claims("away", "shop:1"));
    let refused = world.call(&portal, Some(&users)).await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "ISSUER_UNAVAILABLE"));
    let refused = world.call(&portal, Some("a.b.c")).await.unwrap_err();
    assert_eq!(reason(&refused), "PERMISSION_MISSING");

    world.issuer.reply(KEYS, Reply::Keys(key_set(&[&away]), 3600));
    let patience = tokio::time::Instant::now() + Duration::from_secs(60);
    while world.call(&of_away, None).await.is_err() {
        assert!(tokio::time::Instant::now() < patience, "the keys were not fetched again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(world.call(&portal, Some(&users)).await.is_ok());
    assert_eq!(
        reason(&world.call(&stranger.sign("ES256", &of), None).await.unwrap_err()),
        "CALLER_UNAUTHENTICATED"
    );
    until("it says no more that anything is wrong", async || {
        !world.broker.readiness().await.contains("issuer_keys")
    })
    .await;
    assert!(world.broker.metrics().await.contains("acs_broker_jwks_lacking 0\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_of_the_webhook_without_keys_is_noted_until_they_are_there() {
    const TENANT: &str = "11111111-2222-4333-8444-555555555555";
    let keys = format!("/{TENANT}/discovery/v2.0/keys");
    let (entra, folder) = (KeyServer::start().await, TempDir::new().unwrap());
    entra.reply(&keys, Reply::status(500, ""));
    let (authority, store) = (entra.url(""), folder.path().join("store").display().to_string());
    let settings = [
        ("WEBHOOK__ENTRA_TENANT", TENANT),
        ("WEBHOOK__ENTRA_AUDIENCE", "api://one, api://two"),
        ("WEBHOOK__ENTRA_AUTHORITY", authority.as_str()),
        ("STORE__EMBEDDED__PATH", store.as_str()),
    ];
    let emulator = emulator_process().await;
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    // Ready, for calls are served and other posts are taken in; and said once, whatever a tenant is several issuers of.
    let note = "\"issuer_keys\"";
    until("it is noted", async || broker.readiness().await.contains(note)).await;
    let shown = broker.readiness().await;
    assert!(shown.starts_with("HTTP/1.1 200") && shown.contains(": webhook.entra_tenant\""), "{shown}");
    assert!(broker.metrics().await.contains("acs_broker_jwks_lacking 1\n"));
    entra.reply(&keys, Reply::Keys(key_set(&[&Signer::p256("entra")]), 3600));
    until("it is noted no more", async || !broker.readiness().await.contains("issuer_keys")).await;
}
