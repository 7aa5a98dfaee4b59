//! The exchanges of an Entra token for an access token of the resource.

use std::time::Duration;

use acs_broker::clock::Clock;
use acs_broker::emulator::{AccessKey, TokenState};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::entra::{OWNER, TENANT, USER, USER_APP, ask, part, sign, user_token};
use super::harness::{Call, GA, PREVIEW, Reply, Running, action, of, start};

const STABLE: &str = "api-version=2025-06-30";
const TEAMS: &str = "https://auth.msft.communication.azure.com/.default";
const CLIENTS: &str = "https://communication.azure.com/clients/.default";
const OTHER: &str = "350adb03-7be9-4846-b078-35adb0d0e119";

async fn teams_user(running: &Running, body: &Value) -> Reply {
    let target = format!("/teamsUser/:exchangeAccessToken?{GA}");
    running.send(Call::new("POST", target).body(body.to_string())).await
}

async fn exchange(running: &Running, what: &str, version: &str, token: &str) -> Reply {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    ask(running, "POST", &format!("/access/{what}/:exchangeAccessToken?{version}"), &headers, "{}").await
}

async fn put(running: &Running, target: &str, body: Value) {
    let reply = running.send(Call::new("PUT", target).body(body.to_string())).await;
    assert!([200, 201].contains(&reply.status), "{}", reply.text);
}

async fn assign_teams(running: &Running, body: Value) {
    let target = format!("/access/teamsExtension/tenants/{TENANT}/assignments/{USER}?{STABLE}");
    put(running, &target, body).await;
}

async fn assign_entra(running: &Running, object: &str, principal: &str, tenant: &str, client: &str) {
    let body = json!({ "principalType": principal, "tenantId": tenant, "clientIds": [client] });
    put(running, &format!("/access/entra/assignments/{object}?{PREVIEW}"), body).await;
}

/// The claims of a token, read as the Python SDK reads them: with the standard base64 alphabet.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let padded = format!("{payload}{}", "=".repeat((4 - payload.len() % 4) % 4));
    serde_json::from_slice(&STANDARD.decode(padded).unwrap()).unwrap()
}

#[track_caller]
fn assert_refused(reply: &Reply, status: u16, code: &str, message: &str, target: Option<&str>) {
    let mut wanted = json!({ "error": { "code": code, "message": message } });
    if let Some(target) = target {
        wanted["error"]["target"] = target.into();
    }
    assert_eq!((reply.status, reply.json()), (status, wanted));
}

#[track_caller]
fn assert_not_valid(reply: &Reply) {
    assert_refused(reply, 401, "InvalidAccessToken", "Provided access token is not valid.", None);
    assert_eq!(reply.header("api-supported-versions"), None);
}

#[tokio::test]
async fn a_teams_users_token_is_exchanged_for_one_that_ends_with_it() {
    let running = start().await;
    let source = user_token(&running, TEAMS, &[("expires_in", "5400")]).await;
    let body = json!({ "token": source, "appId": USER_APP.to_uppercase(), "userId": USER });
    let reply = teams_user(&running, &body).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    let answer = reply.json();
    let token = answer["token"].as_str().unwrap();
    assert_eq!(answer, json!({ "token": token, "expiresOn": "2026-11-22T13:30:00.0000000+00:00" }));
    let read = claims(token);
    assert_eq!(read["skypeid"], format!("orgid:{USER}"));
    assert_eq!((read["acsScope"].as_str(), &read["exp"]), (Some("voip,chat"), &part(&source, 1)["exp"]));
    assert_eq!(
        running.handle.token_state(token),
        TokenState::Valid {
            identity: format!("8:orgid:{USER}"),
            scopes: vec!["voip".into(), "chat".into()],
            expires: running.clock.now().plus(Duration::from_millis(5_400_000 - 123)),
        }
    );
    assert_eq!(running.handle.identities_alive(), 0, "a Teams user is no identity of the resource");
    assert_eq!(running.send(Call::new("DELETE", of(&format!("8:orgid:{USER}")))).await.status, 400);

    running.clock.advance(Duration::from_secs(5400));
    assert_eq!(running.handle.token_state(token), TokenState::Expired);
    assert_not_valid(&teams_user(&running, &body).await);
}

#[tokio::test]
async fn a_teams_users_token_dies_with_the_key_it_was_exchanged_with_and_lives_a_day_at_most() {
    let running = start().await;
    let source = user_token(&running, TEAMS, &[("expires_in", "86400")]).await;
    let far = {
        let mut claims = part(&source, 1);
        claims["exp"] = 4_000_000_000_u64.into();
        sign(&part(&source, 0), &claims, None)
    };
    let body = json!({ "token": far, "appId": USER_APP, "userId": USER });
    let answer = teams_user(&running, &body).await.json();
    assert_eq!(answer["expiresOn"], "2026-11-23T12:00:00.1230000+00:00");
    running.handle.rotate_key(AccessKey::Primary);
    assert_eq!(running.handle.token_state(answer["token"].as_str().unwrap()), TokenState::KeyRotated);
}

#[tokio::test]
async fn a_teams_exchange_looks_at_the_token_first_and_refuses_in_the_recorded_words() {
    let running = start().await;
    let good = user_token(&running, TEAMS, &[]).await;
    let voip = "https://auth.msft.communication.azure.com/Teams.ManageCalls";
    let calls = user_token(&running, voip, &[]).await;
    let reply = teams_user(&running, &json!({ "token": calls, "appId": USER_APP, "userId": USER })).await;
    assert_eq!(claims(reply.json()["token"].as_str().unwrap())["acsScope"], "voip");

    let extension = "https://auth.msft.communication.azure.com/TeamsExtension.ManageCalls";
    let bad = [
        json!(""),
        json!(null),
        json!(7),
        json!("invalid"),
        json!(format!("{good}x")),
        json!(user_token(&running, CLIENTS, &[]).await),
        json!(user_token(&running, extension, &[]).await),
    ];
    for token in bad {
        for (app, user) in
            [(json!(USER_APP), json!(USER)), (json!(""), json!("")), (json!(null), json!(null))]
        {
            let body = json!({ "token": token, "appId": app, "userId": user });
            assert_not_valid(&teams_user(&running, &body).await);
        }
    }
    assert_not_valid(&teams_user(&running, &json!({})).await);
    for (change, target, message) in [
        (json!({ "appId": "" }), "AppId", "AppId: The AppId field is required."),
        (json!({ "appId": null }), "AppId", "AppId: The AppId field is required."),
        (json!({ "appId": "", "userId": "" }), "AppId", "AppId: The AppId field is required."),
        (json!({ "userId": "" }), "UserId", "UserId: The UserId field is required."),
        (json!({ "appId": OWNER }), "appId", "AAD application is not the expected one."),
        (json!({ "appId": "x" }), "appId", "AAD application is not the expected one."),
        (json!({ "userId": OTHER }), "userId", "AAD user is not the expected one."),
    ] {
        let mut body = json!({ "token": good, "appId": USER_APP, "userId": USER });
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let reply = teams_user(&running, &body).await;
        assert_refused(&reply, 400, "ValidationError", message, Some(target));
    }
    let target = format!("/teamsUser/:exchangeAccessToken?{GA}");
    for body in ["", "[]", "x"] {
        let reply = running.send(Call::new("POST", target.clone()).body(body)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "ValidationError"));
    }
    assert_eq!(running.plain("POST", &target, "{}").await.status, 401);
    assert_eq!(running.handle.tokens_issued(), 1);
}

#[tokio::test]
async fn a_teams_extension_token_needs_an_assignment_of_its_user_and_client() {
    let running = start().await;
    let source = user_token(&running, TEAMS, &[("expires_in", "600")]).await;
    for version in [STABLE, PREVIEW] {
        let reply = exchange(&running, "teamsExtension", version, &source).await;
        assert_eq!((reply.status, reply.code().as_str()), (403, "Forbidden"));
    }
    assign_teams(&running, json!({ "principalType": "user", "clientIds": [OWNER] })).await;
    assert_eq!(exchange(&running, "teamsExtension", STABLE, &source).await.status, 403);
    assign_teams(&running, json!({ "principalType": "user" })).await;
    assert_eq!(exchange(&running, "teamsExtension", STABLE, &source).await.status, 200);
    assign_teams(&running, json!({ "principalType": "user", "clientIds": [OWNER, USER_APP] })).await;
    let reply = exchange(&running, "teamsExtension", STABLE, &source).await;
    assert_eq!(reply.status, 200, "{}", reply.text);

    let answer = reply.json();
    let (id, token) =
        (answer["identity"]["id"].as_str().unwrap(), answer["accessToken"]["token"].as_str().unwrap());
    let resource = claims(token)["resourceId"].as_str().unwrap().to_owned();
    assert_eq!(id, format!("8:acs:{resource}_{TENANT}_{USER}"));
    assert_eq!(
        answer,
        json!({
            "identity": { "id": id },
            "accessToken": { "token": token, "expiresOn": "2026-11-22T12:10:00.0000000+00:00" },
        })
    );
    assert_eq!(running.handle.identity_ids(), [id]);
    assert_eq!(claims(token)["acsScope"], "voip");
    assert!(
        matches!(running.handle.token_state(token), TokenState::Valid { identity, .. } if identity == id)
    );
    assert_eq!(running.send(Call::new("POST", action(id, "revokeAccessTokens"))).await.status, 204);
    assert_eq!(running.handle.token_state(token), TokenState::Revoked);
    for _ in 0..2 {
        assert_eq!(running.send(Call::new("DELETE", of(id))).await.status, 204);
    }
}

#[tokio::test]
async fn an_entra_token_needs_an_assignment_of_its_user_group_or_tenant() {
    let running = start().await;
    let group = "00000000-ac5b-4000-8000-000000000031";
    let source = user_token(&running, CLIENTS, &[("groups", group), ("expires_in", "600")]).await;
    let status = async || exchange(&running, "entra", PREVIEW, &source).await.status;
    assert_eq!(status().await, 403);
    for (object, principal) in [(USER, "user"), (group, "group"), (TENANT, "tenant")] {
        let target = format!("/access/entra/assignments/{object}?{PREVIEW}");
        assign_entra(&running, object, principal, OTHER, USER_APP).await;
        assert_eq!(status().await, 403, "of another tenant");
        assign_entra(&running, object, principal, TENANT, OWNER).await;
        assert_eq!(status().await, 403, "for another client");
        let another = if principal == "user" { "group" } else { "user" };
        assign_entra(&running, object, another, TENANT, USER_APP).await;
        assert_eq!(status().await, 403, "of another kind");
        assign_entra(&running, object, principal, TENANT, USER_APP).await;
        assert_eq!(status().await, 200, "{principal}");
        assert_eq!(running.send(Call::new("DELETE", target)).await.status, 204);
        assert_eq!(status().await, 403);
    }
    assign_entra(&running, USER, "user", TENANT, USER_APP).await;
    let answer = exchange(&running, "entra", PREVIEW, &source).await.json();
    let (id, token) =
        (answer["identity"]["id"].as_str().unwrap(), answer["accessToken"]["token"].as_str().unwrap());
    let read = claims(token);
    assert_eq!(id, format!("8:acs:{}_wf_{TENANT}_{USER}", read["resourceId"].as_str().unwrap()));
    assert_eq!(format!("8:{}", read["skypeid"].as_str().unwrap()), id);
    assert_eq!(read["acsScope"], "chat,voip");
    assert_eq!(
        answer["identity"],
        json!({ "id": id, "lastTokenIssuedAt": "2026-11-22T12:00:00.1230000+00:00" })
    );
    assert_eq!(answer["accessToken"]["expiresOn"], "2026-11-22T12:10:00.0000000+00:00");
    assert_eq!(running.handle.identity_ids(), [id], "the same user is the same identity");
    running.handle.rotate_key(AccessKey::Primary);
    running.handle.rotate_key(AccessKey::Secondary);
    assert!(matches!(running.handle.token_state(token), TokenState::Valid { .. }), "no key issued it");
    running.clock.advance(Duration::from_mins(10));
    assert_eq!(running.handle.token_state(token), TokenState::Expired);
    assert_not_valid(&exchange(&running, "entra", PREVIEW, &source).await);
}

#[tokio::test]
async fn each_permission_becomes_its_scope() {
    let running = start().await;
    assign_entra(&running, USER, "user", TENANT, USER_APP).await;
    let clients = "https://communication.azure.com/clients";
    for (asked, given) in [
        (format!("{clients}/Chat"), "chat"),
        (format!("{clients}/chat.join"), "chat.join"),
        (format!("{clients}/Chat.Join.Limited openid"), "chat.join.limited"),
        (format!("{clients}/VoIP {clients}/Chat.Join {clients}/VoIP"), "chat.join,voip"),
        (format!("{clients}/VoIP.Join"), "voip.join"),
    ] {
        let source = user_token(&running, &asked, &[]).await;
        let answer = exchange(&running, "entra", PREVIEW, &source).await.json();
        assert_eq!(claims(answer["accessToken"]["token"].as_str().unwrap())["acsScope"], given, "{asked}");
    }
}

#[tokio::test]
async fn a_token_for_something_else_is_not_exchanged() {
    let running = start().await;
    assign_teams(&running, json!({ "principalType": "user" })).await;
    assign_entra(&running, USER, "user", TENANT, USER_APP).await;
    let (teams, clients) = (user_token(&running, TEAMS, &[]).await, user_token(&running, CLIENTS, &[]).await);
    let id = running.create().await;
    let acs = running.token(&id).await;
    let app = {
        let mut claims = part(&clients, 1);
        claims["idtyp"] = "app".into();
        sign(&part(&clients, 0), &claims, None)
    };
    let manage = "https://auth.msft.communication.azure.com/Teams.ManageCalls";
    let other_permission = user_token(&running, manage, &[]).await;
    for token in [teams.as_str(), &acs, &app, "x", &format!("{clients}x")] {
        assert_not_valid(&exchange(&running, "entra", PREVIEW, token).await);
    }
    for token in [clients.as_str(), &acs, &other_permission, "x"] {
        assert_not_valid(&exchange(&running, "teamsExtension", STABLE, token).await);
    }
    let other_user = user_token(&running, CLIENTS, &[("object_id", OTHER)]).await;
    assert_eq!(exchange(&running, "entra", PREVIEW, &other_user).await.status, 403);
    for (what, version) in [("entra", STABLE), ("entra", GA), ("teamsExtension", GA)] {
        let reply = exchange(&running, what, version, &clients).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "UnsupportedApiVersion"));
    }
    for what in ["entra", "teamsExtension"] {
        let target = format!("/access/{what}/:exchangeAccessToken?{PREVIEW}");
        let reply = running.send(Call::new("POST", target.clone()).body("{}")).await;
        assert_eq!((reply.status, reply.code().as_str()), (401, "Denied"), "a key is no user");
        let token = if what == "entra" { &clients } else { &teams };
        let authorization = format!("Bearer {token}");
        let headers = [("authorization", &*authorization), ("content-type", "application/json")];
        assert_eq!(ask(&running, "POST", &target, &headers, "[]").await.status, 400);
        assert_eq!(ask(&running, "POST", &target, &headers[..1], "").await.status, 200);
    }
}
