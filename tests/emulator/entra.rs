//! The test issuer of Entra tokens: what it hands out, what it refuses, and which tokens open the resource.
//!
//! Tokens that it would never issue are signed here with its own key, which is published with the source.

use std::time::Duration;

use acs_broker::clock::Clock;
use acs_broker::emulator::{AccessKey, Operation, TokenState};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use serde_json::{Value, json};

use super::harness::{GA, Reply, Running, start};

pub(crate) const TENANT: &str = "00000000-ac5b-4000-8000-000000000000";
pub(crate) const OWNER: &str = "00000000-ac5b-4000-8000-000000000001";
const OWNER_OBJECT: &str = "00000000-ac5b-4000-8000-000000000011";
const STRANGER: &str = "00000000-ac5b-4000-8000-000000000002";
pub(crate) const USER_APP: &str = "00000000-ac5b-4000-8000-000000000003";
pub(crate) const USER: &str = "00000000-ac5b-4000-8000-000000000021";
const SECRET: &str = "emulator-client-secret";
const SUBJECT: &str = "system:serviceaccount:default:acs-broker";
const RESOURCE: &str = "https://communication.azure.com/";
const SCOPE: &str = "https://communication.azure.com//.default";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const START_SECONDS: u64 = 1_795_348_800;

/// Fields of a form, or headers.
type Pairs = Vec<(&'static str, &'static str)>;

/// Sends a request that is not signed.
pub(crate) async fn ask(
    running: &Running,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Reply {
    let address = format!("{}{target}", running.base());
    let mut request = running.http.request(method.parse().unwrap(), address).body(body);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    Reply { status, headers, text: response.text().await.unwrap() }
}

fn form(fields: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

async fn post(running: &Running, fields: &[(&str, &str)]) -> Reply {
    ask(running, "POST", &format!("/{TENANT}/oauth2/v2.0/token"), &[], form(fields)).await
}

/// A token of an application.
async fn app_token(running: &Running, client: &str) -> String {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", client),
        ("client_secret", SECRET),
        ("scope", SCOPE),
    ];
    let reply = post(running, &fields).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

/// A token of the test user, or as the fields say.
pub(crate) async fn user_token(running: &Running, scope: &str, more: &[(&str, &str)]) -> String {
    let mut fields = more.to_vec();
    fields.extend([
        ("grant_type", "urn:acs-broker:emulator:user"),
        ("client_id", USER_APP),
        ("scope", scope),
    ]);
    let reply = post(running, &fields).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()["access_token"].as_str().unwrap().to_owned()
}

async fn create_with(running: &Running, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    let body = r#"{"createTokenWithScopes":["chat"]}"#;
    ask(running, "POST", &format!("/identities?{GA}"), &headers, body).await
}

#[track_caller]
fn assert_denied(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text);
    let wanted = json!({ "error": { "code": "Denied", "message": "Denied by the resource provider." } });
    assert_eq!(reply.json(), wanted);
}

pub(crate) fn part(token: &str, index: usize) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(index).unwrap()).unwrap()).unwrap()
}

/// Signs any header and claims, with the issuer's key unless told another.
pub(crate) fn sign(header: &Value, claims: &Value, key: Option<&RsaKeyPair>) -> String {
    let own =
        RsaKeyPair::from_pkcs8(include_bytes!("../../src/emulator/issuer/entra_signing_key.der")).unwrap();
    let key = key.unwrap_or(&own);
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", encode(header), encode(claims));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// What a cluster would sign for a pod.
fn federated(change: impl FnOnce(&mut Value)) -> String {
    let mut claims = json!({
        "iss": "https://cluster.example",
        "sub": SUBJECT,
        "aud": ["api://AzureADTokenExchange"],
        "exp": START_SECONDS + 600,
    });
    change(&mut claims);
    sign(&json!({ "alg": "RS256", "kid": "cluster" }), &claims, None)
}

async fn post_federated(running: &Running, assertion: &str) -> Reply {
    let fields = [
        ("grant_type", "client_credentials"),
        ("client_id", OWNER),
        ("client_assertion_type", ASSERTION),
        ("client_assertion", assertion),
        ("scope", SCOPE),
    ];
    post(running, &fields).await
}

#[tokio::test]
async fn a_client_secret_gets_a_token_that_opens_the_resource() {
    let running = start().await;
    let token = app_token(&running, OWNER).await;
    let mut claims = part(&token, 1);
    assert!(claims.as_object_mut().unwrap().remove("uti").is_some());
    assert_eq!(
        claims,
        json!({
            "aud": RESOURCE, "iss": format!("https://sts.windows.net/{TENANT}/"), "iat": START_SECONDS,
            "nbf": START_SECONDS, "exp": START_SECONDS + 3599, "appid": OWNER, "appidacr": "1", "idtyp": "app",
            "oid": OWNER_OBJECT, "sub": OWNER_OBJECT, "tid": TENANT, "ver": "1.0", "emulator": "acs-broker",
        })
    );
    let reply = create_with(&running, &token).await;
    assert_eq!(reply.status, 201, "{}", reply.text);
    assert_ne!(token, app_token(&running, OWNER).await, "two tokens of a second differ");
}

#[tokio::test]
async fn tokens_issued_to_an_entra_principal_outlive_every_access_key() {
    let running = start().await;
    let entra = app_token(&running, OWNER).await;
    let reply = create_with(&running, &entra).await.json();
    let token = reply["accessToken"]["token"].as_str().unwrap();
    running.handle.rotate_key(AccessKey::Primary);
    running.handle.rotate_key(AccessKey::Secondary);
    assert!(matches!(running.handle.token_state(token), TokenState::Valid { .. }));
}

#[tokio::test]
async fn a_federated_token_takes_the_place_of_a_secret() {
    let running = start().await;
    for change in [
        json!({}),
        json!({ "aud": "api://AzureADTokenExchange" }),
        json!({ "nbf": START_SECONDS }),
        json!({ "exp": START_SECONDS as f64 + 0.5 }),
    ] {
        let assertion = federated(|claims| merge(claims, &change));
        let reply = post_federated(&running, &assertion).await;
        assert_eq!(reply.status, 200, "{change} {}", reply.text);
        let token = reply.json()["access_token"].as_str().unwrap().to_owned();
        assert_eq!(part(&token, 1)["appidacr"], "2");
        assert_eq!(create_with(&running, &token).await.status, 201);
    }
    running.handle.advance(Duration::from_hours(12));
    let reply = post_federated(&running, &federated(|_| ())).await;
    assert_eq!(reply.status, 200, "the cluster's clock need not have jumped ahead: {}", reply.text);
}

fn merge(claims: &mut Value, change: &Value) {
    for (name, value) in change.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
}

#[tokio::test]
async fn a_federated_token_of_anybody_else_is_refused() {
    let running = start().await;
    for (change, code) in [
        (json!({ "sub": "system:serviceaccount:default:other" }), 700_213),
        (json!({ "sub": null }), 700_213),
        (json!({ "iss": null }), 700_213),
        (json!({ "aud": "https://kubernetes.default.svc" }), 700_212),
        (json!({ "aud": ["x"] }), 700_212),
        (json!({ "aud": 7 }), 700_212),
        (json!({ "exp": START_SECONDS }), 700_024),
        (json!({ "exp": null }), 700_024),
        (json!({ "exp": "never" }), 700_024),
        (json!({ "nbf": START_SECONDS + 60 }), 700_024),
        (json!({ "nbf": "now" }), 700_024),
    ] {
        let reply = post_federated(&running, &federated(|claims| merge(claims, &change))).await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (401, Some("invalid_client")), "{change}");
        assert_eq!(reply.json()["error_codes"], json!([code]), "{change}");
    }
    let good = federated(|_| ());
    let (unsigned, _) = good.rsplit_once('.').unwrap();
    let none = sign(&json!({ "alg": "none" }), &part(&good, 1), None);
    for odd in ["x", "a.b.c", "..", unsigned, &format!("{unsigned}."), &none, &"x".repeat(40_000)] {
        let reply = post_federated(&running, odd).await;
        assert_eq!(reply.json()["error_codes"], json!([50_027]), "{}", reply.text);
        assert!(!reply.text.contains(unsigned));
    }
}

#[tokio::test]
async fn each_fault_of_a_token_request_is_answered_in_the_form_of_oauth() {
    let running = start().await;
    let (grant, id, secret, scope) = (
        ("grant_type", "client_credentials"),
        ("client_id", OWNER),
        ("client_secret", SECRET),
        ("scope", SCOPE),
    );
    let user = ("grant_type", "urn:acs-broker:emulator:user");
    let chat = ("scope", "https://communication.azure.com/clients/Chat");
    let cases: Vec<(Pairs, u16, &str, u32)> = vec![
        (vec![], 400, "invalid_request", 900_144),
        (vec![("grant_type", "password"), id, scope], 400, "unsupported_grant_type", 70_003),
        (vec![("grant_type", "authorization_code")], 400, "unsupported_grant_type", 70_003),
        (
            vec![("grant_type", "urn:ietf:params:oauth:grant-type:device_code")],
            400,
            "unsupported_grant_type",
            70_003,
        ),
        (vec![grant, secret, scope], 400, "invalid_request", 900_144),
        (vec![grant, ("client_id", USER), secret, scope], 400, "unauthorized_client", 700_016),
        (vec![grant, id, scope], 401, "invalid_client", 7_000_218),
        (vec![grant, id, ("client_secret", "wrong"), scope], 401, "invalid_client", 7_000_215),
        (vec![grant, id, secret, ("client_assertion", "x"), scope], 400, "invalid_request", 90_023),
        (vec![grant, id, ("client_assertion", "x"), scope], 400, "invalid_request", 900_144),
        (vec![grant, id, secret], 400, "invalid_request", 900_144),
        (vec![grant, id, secret, ("scope", "openid")], 400, "invalid_scope", 70_011),
        (
            vec![grant, id, secret, ("scope", "https://communication.azure.com/chat")],
            400,
            "invalid_scope",
            1_002_012,
        ),
        (
            vec![grant, id, secret, ("scope", "https://vault.azure.net/.default")],
            400,
            "invalid_resource",
            500_011,
        ),
        (vec![grant, id, secret, ("scope", "a/.default b/.default")], 400, "invalid_scope", 70_011),
        (vec![user, id], 400, "invalid_request", 900_144),
        (vec![user, chat], 400, "invalid_request", 900_144),
        (vec![user, id, scope], 400, "invalid_resource", 500_011),
        (vec![user, id, ("scope", "Chat")], 400, "invalid_scope", 70_011),
        (
            vec![user, id, ("scope", "https://communication.azure.com/clients/Fax")],
            400,
            "invalid_scope",
            65_005,
        ),
        (
            vec![
                user,
                id,
                (
                    "scope",
                    "https://communication.azure.com/clients/Chat https://auth.msft.communication.azure.com/.default",
                ),
            ],
            400,
            "invalid_scope",
            70_011,
        ),
        (vec![user, id, chat, ("object_id", "sally")], 400, "invalid_request", 90_014),
        (vec![user, id, chat, ("groups", "a,b")], 400, "invalid_request", 90_014),
        (vec![user, id, chat, ("expires_in", "0")], 400, "invalid_request", 90_014),
        (vec![user, id, chat, ("expires_in", "86401")], 400, "invalid_request", 90_014),
        (vec![user, id, chat, ("expires_in", "soon")], 400, "invalid_request", 90_014),
    ];
    for (fields, status, error, code) in cases {
        let reply = post(&running, &fields).await;
        let body = reply.json();
        assert_eq!(
            (reply.status, body["error"].as_str()),
            (status, Some(error)),
            "{fields:?} {}",
            reply.text
        );
        assert_eq!(body["error_codes"], json!([code]), "{fields:?}");
        assert!(body["error_description"].as_str().unwrap().starts_with(&format!("AADSTS{code}: ")));
        assert_eq!(reply.header("cache-control"), Some("no-store, no-cache"));
        assert!(!reply.text.contains(SECRET));
    }
    let other = format!("/{USER}/oauth2/v2.0/token");
    let reply = ask(&running, "POST", &other, &[], form(&[grant, id, secret, scope])).await;
    assert_eq!((reply.status, reply.json()["error_codes"].clone()), (400, json!([90_002])));
}

#[tokio::test]
async fn hostile_requests_are_refused_and_do_no_harm() {
    let running = start().await;
    let token = format!("/{TENANT}/oauth2/v2.0/token");
    let reply = ask(&running, "POST", &token, &[], vec![0xff_u8; 1000]).await;
    assert_eq!(reply.status, 400);
    assert_eq!(ask(&running, "POST", &token, &[], "&=&&==%zz%".repeat(1000)).await.status, 400);
    assert_eq!(ask(&running, "POST", &token, &[], "x".repeat(65 * 1024)).await.status, 413);
    for (method, path, status) in [
        ("GET", token.as_str(), 405),
        ("POST", "/common/discovery/instance", 405),
        ("POST", "/metadata/identity/oauth2/token", 405),
        ("POST", "/common/oauth2/v2.0/devicecode", 501),
        ("GET", "/common/oauth2/v2.0/authorize", 501),
        ("POST", "/common/oauth2/token", 501),
        ("GET", "/metadata/identity/info", 501),
        ("GET", "/contoso/v2.0/.well-known/openid-configuration", 400),
        ("GET", "/contoso/discovery/v2.0/keys", 400),
    ] {
        let reply = ask(&running, method, path, &[], "").await;
        assert_eq!(reply.status, status, "{method} {path}");
        assert!(reply.json()["error"].is_string(), "{}", reply.text);
    }
}

#[tokio::test]
async fn the_machines_metadata_service_gives_tokens_and_demands_its_header() {
    let running = start().await;
    let (metadata, proxy) = (("Metadata", "true"), ("X-Forwarded-For", "10.0.0.1"));
    let target = |query: &str| format!("/metadata/identity/oauth2/token?{query}");
    let good = "api-version=2018-02-01&resource=https%3A%2F%2Fcommunication.azure.com%2F";
    let newer = good.replace("2018-02-01", "2019-08-01");
    for (query, client) in
        [(good.to_owned(), OWNER), (format!("{good}&client_id={STRANGER}"), STRANGER), (newer, OWNER)]
    {
        let reply = ask(&running, "GET", &target(&query), &[metadata], "").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let body = reply.json();
        let token = body["access_token"].as_str().unwrap();
        assert_eq!(
            body,
            json!({
                "access_token": token, "client_id": client, "expires_in": "86399", "ext_expires_in": "86399",
                "expires_on": (START_SECONDS + 86_399).to_string(), "not_before": START_SECONDS.to_string(),
                "resource": RESOURCE, "token_type": "Bearer",
            })
        );
        assert_eq!(part(token, 1)["exp"], START_SECONDS + 86_399);
        assert_eq!(create_with(&running, token).await.status, if client == OWNER { 201 } else { 401 });
    }
    let cases: Vec<(String, Pairs, &str)> = vec![
        (good.into(), vec![], "bad_request_102"),
        (good.into(), vec![("Metadata", "false")], "bad_request_102"),
        (good.into(), vec![metadata, proxy], "invalid_request"),
        ("resource=https://communication.azure.com/".into(), vec![metadata], "invalid_request"),
        (good.replace("2018", "2017"), vec![metadata], "invalid_request"),
        ("api-version=2018-02-01".into(), vec![metadata], "invalid_request"),
        ("api-version=2018-02-01&resource=".into(), vec![metadata], "invalid_request"),
        (format!("{good}&client_id={USER}"), vec![metadata], "invalid_request"),
        (format!("{good}&object_id={USER}"), vec![metadata], "invalid_request"),
        (format!("{good}&msi_res_id=/subscriptions/x"), vec![metadata], "invalid_request"),
        (good.replace("communication", "management"), vec![metadata], "invalid_resource"),
    ];
    for (query, headers, error) in cases {
        let reply = ask(&running, "GET", &target(&query), &headers, "").await;
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some(error)), "{query} {headers:?}");
    }
}

#[tokio::test]
async fn the_documents_lead_to_the_key_that_verifies_the_tokens() {
    let running = start().await;
    let get = async |path: &str| {
        let reply = ask(&running, "GET", path, &[], "").await;
        assert_eq!(reply.status, 200, "{path} {}", reply.text);
        reply.json()
    };
    let base = running.base();
    let within = |link: &Value| link.as_str().unwrap().strip_prefix(&base).unwrap().to_owned();
    let instance = get("/common/discovery/instance?api-version=1.1&authorization_endpoint=x").await;
    let host = base.strip_prefix("http://").unwrap();
    assert_eq!(instance["metadata"][0]["aliases"], json!([host]));
    let configuration = get(&within(&instance["tenant_discovery_endpoint"])).await;
    assert_eq!(configuration["issuer"], format!("{base}/{TENANT}/v2.0"));
    assert_eq!(within(&configuration["token_endpoint"]), format!("/{TENANT}/oauth2/v2.0/token"));
    assert_eq!(get("/common/v2.0/.well-known/openid-configuration").await, configuration);
    let keys = get(&within(&configuration["jwks_uri"])).await;

    let token = app_token(&running, OWNER).await;
    let key = &keys["keys"][0];
    assert_eq!(
        part(&token, 0),
        json!({ "typ": "JWT", "alg": "RS256", "x5t": key["kid"], "kid": key["kid"] })
    );
    let number = |name: &str| URL_SAFE_NO_PAD.decode(key[name].as_str().unwrap()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    RsaPublicKeyComponents { n: number("n"), e: number("e") }
        .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap())
        .unwrap();
}

#[tokio::test]
async fn a_principal_without_the_role_is_denied_and_so_is_a_user() {
    let running = start().await;
    for client in [STRANGER, USER_APP] {
        assert_denied(&create_with(&running, &app_token(&running, client).await).await);
    }
    for scope in [
        "https://communication.azure.com/clients/.default",
        "https://auth.msft.communication.azure.com/.default",
    ] {
        assert_denied(&create_with(&running, &user_token(&running, scope, &[]).await).await);
    }
    assert_eq!(running.handle.successes(Operation::CreateIdentity), 0);
}

#[tokio::test]
async fn a_token_works_from_its_first_moment_to_its_last_by_the_emulators_clock() {
    let running = start().await;
    let early = {
        let token = app_token(&running, OWNER).await;
        let mut claims = part(&token, 1);
        claims["nbf"] = (START_SECONDS + 60).into();
        sign(&part(&token, 0), &claims, None)
    };
    let token = app_token(&running, OWNER).await;
    assert_denied(&create_with(&running, &early).await);
    running.handle.advance(Duration::from_secs(60));
    assert_eq!(create_with(&running, &early).await.status, 201);
    running.clock.advance(Duration::from_secs(3599 - 60) - Duration::from_millis(124));
    assert_eq!(running.clock.now().as_millis() + 60_000, (START_SECONDS + 3599) * 1000 - 1);
    assert_eq!(create_with(&running, &token).await.status, 201);
    running.clock.advance(Duration::from_millis(1));
    assert_denied(&create_with(&running, &token).await);
}

#[tokio::test]
async fn every_token_that_is_not_exactly_one_of_ours_is_denied() {
    let running = start().await;
    let good = app_token(&running, OWNER).await;
    let (header, claims) = (part(&good, 0), part(&good, 1));
    let claiming = |change: Value| {
        let mut claims = claims.clone();
        merge(&mut claims, &change);
        sign(&header, &claims, None)
    };
    assert_eq!(
        create_with(&running, &claiming(json!({}))).await.status,
        201,
        "the signature made here is good"
    );
    let without_slash = claiming(json!({ "aud": "https://communication.azure.com" }));
    assert_eq!(create_with(&running, &without_slash).await.status, 201);

    let other_key =
        RsaKeyPair::from_pkcs8(include_bytes!("../../src/emulator/identity/token_signing_key.der")).unwrap();
    let (unsigned, signature) = good.rsplit_once('.').unwrap();
    let acs_user = {
        let id = running.create().await;
        running.token(&id).await
    };
    let mut bad = vec![
        String::new(),
        "x".into(),
        "..".into(),
        "a.b.c".into(),
        unsigned.into(),
        format!("{unsigned}."),
        format!("{good}."),
        format!("{good}x"),
        format!("{unsigned}.{}", signature.to_uppercase()),
        acs_user,
        federated(|_| ()),
        sign(&header, &claims, Some(&other_key)),
        sign(&json!({ "typ": "JWT", "alg": "none", "kid": header["kid"] }), &claims, None),
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), good.split('.').nth(1).unwrap()),
        sign(&json!({ "alg": "HS256", "kid": header["kid"] }), &claims, None),
        sign(&json!({ "alg": "RS256" }), &claims, None),
        sign(&header, &json!({}), None),
        sign(&header, &json!([claims]), None),
    ];
    for change in [
        json!({ "aud": "https://communication.azure.com/clients" }),
        json!({ "aud": "https://communication.azure.com//" }),
        json!({ "aud": "https://management.azure.com/" }),
        json!({ "aud": [RESOURCE] }),
        json!({ "aud": null }),
        json!({ "iss": "https://sts.windows.net/" }),
        json!({ "iss": format!("https://sts.windows.net/{USER}/") }),
        json!({ "iss": format!("{}/{TENANT}/v2.0", running.base()) }),
        json!({ "tid": USER }),
        json!({ "tid": null }),
        json!({ "exp": START_SECONDS }),
        json!({ "exp": null }),
        json!({ "exp": -1 }),
        json!({ "exp": "later" }),
        json!({ "nbf": START_SECONDS + 1 }),
        json!({ "nbf": u64::MAX }),
        json!({ "nbf": null }),
        json!({ "appid": STRANGER }),
        json!({ "appid": "" }),
        json!({ "oid": USER }),
        json!({ "idtyp": "user" }),
        json!({ "sub": "x".repeat(17_000) }),
    ] {
        bad.push(claiming(change));
    }
    for token in &bad {
        assert_denied(&create_with(&running, token).await);
    }
    let twice = [("authorization", &*format!("Bearer {good}")), ("authorization", "Bearer x")];
    assert_denied(&ask(&running, "POST", &format!("/identities?{GA}"), &twice, "").await);
    assert_eq!(ask(&running, "POST", &format!("/identities?{GA}"), &twice[..1], "").await.status, 201);
}

#[tokio::test]
async fn an_entra_token_opens_the_resource_and_no_chat() {
    let running = start().await;
    let authorization = format!("Bearer {}", app_token(&running, OWNER).await);
    let headers = [("authorization", authorization.as_str())];
    let reply = ask(&running, "GET", "/chat/threads?api-version=2024-03-07", &headers, "").await;
    assert_eq!(reply.status, 401);
}
