//! Tokens of Microsoft Entra at the intake: a real listener, a real server of the tenant's keys.

use serde_json::{Value, json};

use super::rig::{NOW, Rig, SECRET, status};
use super::*;
use crate::auth::jwt::key_server::{KeyServer, Reply};
use crate::auth::jwt::trial::{Signer, key_set};

const TENANT: &str = "11111111-2222-4333-8444-555555555555";
const AUDIENCE: &str = "99999999-2222-4333-8444-555555555555";

fn settings(server: &KeyServer, secret: &str) -> Settings {
    Settings {
        entra_tenant: TENANT.into(),
        entra_audience: format!("{AUDIENCE}, api://acs-broker"),
        entra_authority: server.url(""),
        ..Settings::at("", Secret::new(secret))
    }
}

/// What Entra says in a token of version 1.0.
fn first() -> Value {
    let now = NOW.as_millis() / 1000;
    json!({"aud": "api://acs-broker", "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": now - 300,
        "nbf": now - 300, "exp": now + 3600, "appid": EVENT_GRID, "appidacr": "2", "oid": "o", "sub": "o",
        "tid": TENANT, "ver": "1.0", "roles": ["AzureEventGridSecureWebhookSubscriber"]})
}

/// What it says in one of version 2.0.
fn second(server: &KeyServer) -> Value {
    let mut claims = first();
    claims["aud"] = json!(AUDIENCE);
    claims["iss"] = json!(server.url(&format!("/{TENANT}/v2.0")));
    claims["ver"] = json!("2.0");
    claims["azp"] = claims["appid"].take();
    claims.as_object_mut().unwrap().remove("appid");
    claims
}

async fn post(rig: &Rig, token: Option<&str>) -> u16 {
    let bearer = format!("Bearer {}", token.unwrap_or_default());
    let mut headers = vec![("content-type", "application/json")];
    if token.is_some() {
        headers.push(("authorization", &bearer));
    }
    status(&rig.ask("POST /events", &headers, b"[]").await)
}

#[tokio::test]
async fn event_grid_is_known_by_its_token_and_nobody_else_is() {
    let (server, signer) = (KeyServer::start().await, Signer::rsa("entra"));
    let keys = format!("/{TENANT}/discovery/v2.0/keys");
    server.reply(&keys, Reply::Keys(key_set(&[&signer]), 86_400));
    let rig = Rig::with(settings(&server, "")).await;
    for good in [first(), second(&server)] {
        assert_eq!(post(&rig, Some(&signer.sign("RS256", &good))).await, 200, "{good}");
    }
    let but = |name: &str, value: Value| {
        let mut claims = first();
        claims[name] = value;
        claims
    };
    let now = NOW.as_millis() / 1000;
    let mut of_nobody = first();
    of_nobody.as_object_mut().unwrap().remove("appid");
    for bad in [
        but("aud", json!("api://other")),
        but("appid", json!(TENANT)),
        but("appid", json!([EVENT_GRID])),
        but("azp", json!(EVENT_GRID)),
        but("iss", json!("https://sts.windows.net/22222222-2222-4333-8444-555555555555/")),
        but("iss", json!(format!("https://sts.windows.net/{TENANT}"))),
        but("exp", json!(now - 60)),
        but("nbf", json!(now + 120)),
        of_nobody,
    ] {
        assert_eq!(post(&rig, Some(&signer.sign("RS256", &bad))).await, 401, "{bad}");
    }
    let forger = Signer::other_rsa("entra");
    for token in
        [forger.sign("RS256", &first()), signer.sign("PS256", &first()), String::new(), "a.b.c".into()]
    {
        assert_eq!(post(&rig, Some(&token)).await, 401, "{token}");
    }
    assert_eq!(post(&rig, None).await, 401);
    let with_secret = [("x-acs-broker-webhook-secret", SECRET), ("content-type", "application/json")];
    assert_eq!(status(&rig.ask("POST /events", &with_secret, b"[]").await), 401);
    assert!(rig.counted("requests_total{outcome=\"forged\"} 15"), "{}", rig.metrics.render());
    assert_eq!(server.asked(&keys), 1);
}

#[tokio::test]
async fn either_proof_suffices_where_both_are_configured() {
    let (server, signer) = (KeyServer::start().await, Signer::rsa("entra"));
    server.reply(&format!("/{TENANT}/discovery/v2.0/keys"), Reply::Keys(key_set(&[&signer]), 86_400));
    let rig = Rig::with(settings(&server, SECRET)).await;
    assert_eq!(post(&rig, Some(&signer.sign("RS256", &first()))).await, 200);
    assert_eq!(post(&rig, Some(SECRET)).await, 200);
    let with_secret = [("x-acs-broker-webhook-secret", SECRET), ("content-type", "application/json")];
    assert_eq!(status(&rig.ask("POST /events", &with_secret, b"[]").await), 200);
    assert_eq!(post(&rig, None).await, 401);
    // The handshake of CloudEvents is no way around it.
    let origin = [("webhook-request-origin", "eventgrid.azure.net")];
    assert_eq!(status(&rig.ask("OPTIONS /events", &origin, b"").await), 401);
}

#[tokio::test]
async fn a_tenant_that_cannot_be_reached_lets_nobody_in() {
    let (server, signer) = (KeyServer::start().await, Signer::rsa("entra"));
    server.reply(&format!("/{TENANT}/discovery/v2.0/keys"), Reply::status(500, ""));
    let rig = Rig::with(settings(&server, "")).await;
    // Event Grid comes again sooner than after a 401; of bad tokens nothing else is said than ever.
    assert_eq!(post(&rig, Some(&signer.sign("RS256", &first()))).await, 503);
    assert_eq!(post(&rig, Some("a.b.c")).await, 401);
    assert_eq!(post(&rig, None).await, 401);
    assert!(rig.counted("requests_total{outcome=\"failed\"} 1"), "{}", rig.metrics.render());
}

#[test]
fn the_settings_of_a_tenant_go_together() {
    let good = Settings {
        entra_tenant: TENANT.into(),
        entra_audience: AUDIENCE.into(),
        ..Settings::at("0.0.0.0:8084", Secret::new(""))
    };
    let keys = |settings: Settings| settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(keys(good.clone()), [""; 0], "a tenant is enough off loopback");
    let text = String::from;
    for (settings, key) in [
        (Settings { entra_tenant: text("common"), ..good.clone() }, "entra_tenant"),
        (Settings { entra_tenant: TENANT.replace('-', ""), ..good.clone() }, "entra_tenant"),
        (Settings { entra_audience: text(" , "), ..good.clone() }, "entra_audience"),
        (Settings { entra_audience: text("a,").repeat(9), ..good.clone() }, "entra_audience"),
        (Settings { entra_app: text("Event Grid"), ..good.clone() }, "entra_app"),
        (Settings { entra_authority: text("http://login.example"), ..good.clone() }, "entra_authority"),
        (Settings { entra_authority: text("login.example"), ..good.clone() }, "entra_authority"),
    ] {
        assert_eq!(keys(settings), [key]);
    }
    let alone = Settings { entra_tenant: String::new(), ..good.clone() };
    assert_eq!(keys(alone), ["entra_tenant", "address"]);
    let issuers = |authority: &'static str| {
        let settings = Settings { entra_authority: text(authority), ..good.clone() };
        settings.entra().unwrap().issuers.into_iter().map(|issuer| issuer.issuer).collect::<Vec<_>>()
    };
    assert_eq!(
        issuers("https://login.microsoftonline.com/"),
        [
            format!("https://sts.windows.net/{TENANT}/"),
            format!("https://login.microsoftonline.com/{TENANT}/v2.0")
        ]
    );
    let china = issuers("https://login.partner.microsoftonline.cn");
    assert_eq!(china[0], format!("https://sts.chinacloudapi.cn/{TENANT}/"));
}
