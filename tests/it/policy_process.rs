//! The policy in a real process, with the evidence that is really read: bearer tokens, a mesh's header, end users' tokens.

use std::path::PathBuf;

use acs_broker::clock::{Clock as _, SystemClock};
use acs_broker::grpc::proto::v1;
use serde_json::json;
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::{BrokerProcess, Emulator, chat, emulator_with, until};
use crate::token_signer::{Signer, key_set};

const SUBJECT: &str = "system:serviceaccount:shop:orders";

/// A policy file, the keys of its two issuers, and who signs with them.
struct House {
    folder: TempDir,
    cluster: Signer,
    portal: Signer,
    emulator: Emulator,
}

impl House {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (cluster, portal) = (Signer::p256("cluster"), Signer::p256("portal"));
        for (name, signer) in [("cluster", &cluster), ("portal", &portal)] {
            std::fs::write(folder.path().join(format!("{name}.json")), key_set(&[signer])).unwrap();
        }
        let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
        let house = Self { folder, cluster, portal, emulator };
        house.write("\"shop:\"");
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The policy in which `orders` may name users with these prefixes.
    fn write(&self, prefixes: &str) {
        let issuer = |name: &str, audience: &str| {
            let keys = self.path(&format!("{name}.json"));
            format!(
                "[[issuers]]\nname = \"{name}\"\nissuer = \"https://{name}.example\"\naudience = \"{audience}\"\n\
                 jwks_file = {keys:?}\nalgorithms = [\"ES256\"]\n"
            )
        };
        let caller = |name: &str, is: &str, more: &str| {
            format!(
                "[[callers]]\nname = \"{name}\"\nmatch = [{{ {is} }}]\nrpcs = [\"TokenService/IssueToken\"]\n\
                 scopes = [\"chat\"]\n{more}\n"
            )
        };
        let token = format!("issuer = \"cluster\", subject = \"{SUBJECT}\"");
        let text = issuer("cluster", "acs-broker")
            + &issuer("portal", "shop")
            + &caller("orders", &token, &format!("user_prefixes = [{prefixes}]"))
            + &caller(
                "front",
                "mesh = \"spiffe://corp/front\"",
                "user_prefixes = [\"shop:\"]\nuser_token = \"portal\"",
            );
        let draft = self.path("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path("policy.toml")).unwrap();
    }

    async fn broker(&self, more: &[(&str, &str)]) -> BrokerProcess {
        let (policy, store) = (self.path("policy.toml"), self.path("store.redb"));
        let mut settings = vec![
            ("AUTH__MODE", "policy"),
            ("AUTH__POLICY_FILE", policy.to_str().unwrap()),
            ("AUTH__MESH__HEADER", "xfcc"),
            ("AUTH__MESH__PINNED", "loopback"),
            ("STORE__EMBEDDED__PATH", store.to_str().unwrap()),
        ];
        settings.extend(more);
        BrokerProcess::start(&self.emulator.connection_string, &settings).await
    }
}

fn token(signer: &Signer, issuer: &str, audience: &str, subject: &str) -> String {
    let now = SystemClock.now().as_millis() / 1000;
    let claims = json!({
        "iss": format!("https://{issuer}.example"), "aud": audience, "sub": subject, "iat": now, "exp": now + 600,
    });
    signer.sign("ES256", &claims)
}

async fn ask(
    broker: &BrokerProcess,
    user: &str,
    headers: &[(&'static str, &str)],
) -> Result<v1::IssueTokenResponse, Status> {
    let mut request = Request::new(chat(user));
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    broker.tokens().await.issue_token(request).await.map(tonic::Response::into_inner)
}

fn missing(answer: Result<v1::IssueTokenResponse, Status>) -> String {
    let status = answer.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    status.get_error_details().error_info().unwrap().metadata["permission"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_prove_themselves_and_may_do_what_the_file_says_now() {
    let house = House::open().await;
    let broker = house.broker(&[]).await;
    let bearer = format!("Bearer {}", token(&house.cluster, "cluster", "acs-broker", SUBJECT));
    let orders = [("authorization", bearer.as_str())];
    let stranger = token(&house.cluster, "cluster", "acs-broker", "system:serviceaccount:shop:other");
    let stranger = format!("Bearer {stranger}");

    for headers in [&[][..], &[("authorization", stranger.as_str())], &[("authorization", "Bearer x.y.z")]] {
        let refused = ask(&broker, "shop:1", headers).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
    }
    ask(&broker, "shop:1", &orders).await.unwrap();
    assert_eq!(missing(ask(&broker, "crm:1", &orders).await), "user");

    let front = ("x-forwarded-client-cert", "By=spiffe://corp/broker;Hash=ab;URI=spiffe://corp/front");
    let alice = token(&house.portal, "portal", "shop", "shop:alice");
    let forged = token(&house.cluster, "portal", "shop", "shop:alice");
    let user = |token| [front, ("x-acs-broker-user-token", token)];
    ask(&broker, "shop:alice", &user(alice.as_str())).await.unwrap();
    assert_eq!(missing(ask(&broker, "shop:bob", &user(alice.as_str())).await), "user_token");
    assert_eq!(missing(ask(&broker, "shop:alice", &user(forged.as_str())).await), "user_token");
    assert_eq!(missing(ask(&broker, "shop:alice", &[front]).await), "user_token");

    house.write("\"shop:\", \"crm:\"");
    until("the new policy is in force", async || ask(&broker, "crm:1", &orders).await.is_ok()).await;
    std::fs::write(house.path("policy.toml"), "[[callers]]\nname = \"orders\"\nrpcs = [\"*\"]\n").unwrap();
    let told = "callers[0].match must say who this caller is";
    until("the mistake is told", async || broker.log().contains(told)).await;
    ask(&broker, "crm:1", &orders).await.unwrap();
    assert!(broker.admin().await.contains("acs_broker_reload_failed{what=\"policy\"} 1"));
    house.write("");
    until("nobody may be named", async || ask(&broker, "shop:1", &orders).await.is_err()).await;
    assert_eq!(missing(ask(&broker, "shop:1", &orders).await), "user");
    let log = broker.log();
    for private in ["shop:alice", "crm:1", alice.as_str(), bearer.as_str(), SUBJECT] {
        assert!(!log.contains(private), "the log holds what it must not");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_refuses_nobody_and_prints_what_was_used() {
    let house = House::open().await;
    let broker = house.broker(&[("AUTH__SHADOW", "true")]).await;
    let bearer = format!("Bearer {}", token(&house.cluster, "cluster", "acs-broker", SUBJECT));
    for user in ["crm:1", "crm:2", "crm:3"] {
        ask(&broker, user, &[("authorization", bearer.as_str())]).await.unwrap();
    }
    ask(&broker, "shop:1", &[]).await.unwrap();
    ask(&broker, "shop:1", &[("authorization", "Bearer x.y.z")]).await.unwrap();
    let seen = broker.shown("/policy/seen").await;
    assert!(seen.contains("name = \"orders\"") && seen.contains("user_prefixes = [\"crm:\"]"), "{seen}");
    let counted = broker.admin().await;
    let refusals = "acs_broker_shadow_refusals_total{rpc=\"TokenService/IssueToken\"";
    assert!(counted.contains(&format!("{refusals},permission=\"user\"}} 3")), "{counted}");
    assert!(counted.contains(&format!("{refusals},permission=\"caller\"}} 2")), "{counted}");
    let log = broker.log();
    assert!(log.contains("shadow mode: this would be refused") && !log.contains("crm:"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_counts_as_the_file_says_now_and_each_change_is_on_record() {
    let house = House::open().await;
    let (log, key) = (house.path("audit.log"), "k".repeat(32));
    let audit = [("AUDIT__FILE", log.to_str().unwrap()), ("AUDIT__KEY", key.as_str())];
    let broker = house.broker(&audit).await;
    let bearer = |audience| format!("Bearer {}", token(&house.cluster, "cluster", audience, SUBJECT));
    let (before, after) = (bearer("acs-broker"), bearer("acs-broker-2"));
    let asked = async |bearer: &str| ask(&broker, "shop:1", &[("authorization", bearer)]).await;
    asked(&before).await.unwrap();
    // The command line brings a token along, too.
    let file = house.path("token");
    std::fs::write(&file, format!("{}\n", before.trim_start_matches("Bearer "))).unwrap();
    let issue = ["token", "issue", "shop:1", "--scope", "chat"];
    let (code, said) = broker.command(&[&issue[..], &["--token-file", file.to_str().unwrap()]].concat());
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = broker.command(&issue);
    assert!(code == Some(1) && said.contains("CALLER_UNAUTHENTICATED"), "{said}");
    assert_eq!(asked(&after).await.unwrap_err().code(), Code::Unauthenticated);

    let text = std::fs::read_to_string(house.path("policy.toml")).unwrap();
    std::fs::write(house.path("draft"), text.replace("\"acs-broker\"", "\"acs-broker-2\"")).unwrap();
    std::fs::rename(house.path("draft"), house.path("policy.toml")).unwrap();
    until("the issuer is the new one", async || asked(&after).await.is_ok()).await;
    assert_eq!(asked(&before).await.unwrap_err().code(), Code::Unauthenticated, "though it was good before");

    std::fs::write(house.path("policy.toml"), "[[callers]]").unwrap();
    let recorded = |outcome: &str| {
        let record = format!("\"event\":\"reload\",\"what\":\"policy\",\"outcome\":\"{outcome}\"");
        std::fs::read_to_string(&log).unwrap().matches(&record).count()
    };
    until("the bad one is on record", async || recorded("refused") == 1).await;
    assert_eq!(recorded("ok"), 2, "the first one and the change");
}
