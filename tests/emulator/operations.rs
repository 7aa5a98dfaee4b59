//! Every operation: status, headers and body of its successes and of its own refusals.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::harness::{Call, GA, PREVIEW, Reply, action, of, start};

const MISSING: &str = "8:acs:ac80d96a-85de-48b1-995d-a3a3fa3627c8_0000000a-b1cc-8a94-e3c7-593a0d003a89";

/// The claims of a token, read as the Python SDK reads them: with the standard base64 alphabet.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    let padded = format!("{payload}{}", "=".repeat((4 - payload.len() % 4) % 4));
    serde_json::from_slice(&STANDARD.decode(padded).unwrap()).unwrap()
}

fn assert_usual_headers(reply: &Reply) {
    assert_eq!(
        reply.header("date"),
        Some("Sun, 22 Nov 2026 12:00:00 GMT"),
        "the date of the emulator's clock"
    );
    assert_eq!(reply.header("request-context"), Some("appId="));
    let vector = reply.header("ms-cv").unwrap();
    assert!(vector.len() == 24 && vector.ends_with(".0"), "{vector}");
    let took = reply.header("x-processing-time").unwrap();
    assert!(took.strip_suffix("ms").unwrap().parse::<u64>().is_ok(), "{took}");
}

#[tokio::test]
async fn a_create_of_nothing_answers_an_identity_alone() {
    let running = start().await;
    for (body, content_type) in [
        ("", "application/json"),
        ("{}", "application/json"),
        (r#"{"createTokenWithScopes":null,"expiresInMinutes":null}"#, "application/json; charset=utf-8"),
    ] {
        let call = Call::new("POST", format!("/identities?{GA}"))
            .body(body)
            .header("content-type", content_type)
            .header("x-ms-client-request-id", "3e2f");
        let reply = running.send(call).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(
            reply.header("api-supported-versions"),
            Some("2023-10-01, 2025-03-02-preview, 2025-06-30")
        );
        assert_eq!(reply.header("x-ms-client-request-id"), Some("3e2f"));
        assert_usual_headers(&reply);
        let id = reply.json()["identity"]["id"].as_str().unwrap().to_owned();
        assert_eq!(reply.json(), json!({ "identity": { "id": id } }));
        assert!(running.handle.identity_ids().contains(&id));
    }
    assert_eq!(running.handle.identities_alive(), 3);
    assert_eq!(running.handle.tokens_issued(), 0);
}

#[tokio::test]
async fn a_create_with_scopes_answers_a_token_too() {
    let running = start().await;
    let body = r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#;
    let reply = running.send(Call::new("POST", format!("/identities?{GA}")).body(body)).await;
    assert_eq!(reply.status, 201);
    let answer = reply.json();
    let token = answer["accessToken"]["token"].as_str().unwrap();
    assert_eq!(
        answer,
        json!({
            "identity": { "id": answer["identity"]["id"] },
            "accessToken": { "token": token, "expiresOn": "2026-11-22T13:00:00.1230000+00:00" },
        })
    );
    let claims = claims(token);
    assert_eq!(claims["exp"], 1_795_352_400, "13:00:00 UTC, as expiresOn says");
    assert_eq!(claims["acsScope"], "chat,voip");
    let id = answer["identity"]["id"].as_str().unwrap();
    assert_eq!(format!("8:{}", claims["skypeid"].as_str().unwrap()), id);
    assert!(id.contains(claims["resourceId"].as_str().unwrap()));
    assert_eq!(running.handle.tokens_issued(), 1);
}

#[tokio::test]
async fn issuing_answers_a_new_token_for_exactly_the_scopes_and_time_asked_for() {
    let running = start().await;
    let id = running.create().await;
    let mut tokens = std::collections::HashSet::new();
    for scope in ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"] {
        for (minutes, expires) in
            [("60", "2026-11-22T13"), ("1440", "2026-11-23T12"), ("null", "2026-11-23T12")]
        {
            let body = format!(r#"{{"scopes":["{scope}"],"expiresInMinutes":{minutes}}}"#);
            let reply = running.issue(&id, &body).await;
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
            assert_usual_headers(&reply);
            let answer = reply.json();
            assert_eq!(answer.as_object().unwrap().len(), 2);
            assert_eq!(answer["expiresOn"], format!("{expires}:00:00.1230000+00:00"));
            let token = answer["token"].as_str().unwrap();
            assert_eq!(claims(token)["acsScope"], scope);
            assert!(tokens.insert(token.to_owned()), "a token was issued twice");
        }
    }
    assert_eq!(running.handle.tokens_issued(), 15);
}

#[tokio::test]
async fn a_validity_out_of_range_and_missing_scopes_are_refused_in_the_recorded_words() {
    let running = start().await;
    let id = running.create().await;
    for minutes in [59, 1441] {
        let message = format!(
            "ExpiresInMinutes value {minutes} is invalid. Value must be within the [60, 1440] interval."
        );
        let wanted = json!({ "error": { "code": "ValidationError", "message": message, "target": "ExpiresInMinutes" } });
        let reply =
            running.issue(&id, &format!(r#"{{"scopes":["chat"],"expiresInMinutes":{minutes}}}"#)).await;
        assert_eq!((reply.status, reply.json()), (400, wanted.clone()));
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert!(reply.header("api-supported-versions").is_some());
        let body = format!(r#"{{"createTokenWithScopes":["chat"],"expiresInMinutes":{minutes}}}"#);
        let reply = running.send(Call::new("POST", format!("/identities?{GA}")).body(body)).await;
        assert_eq!((reply.status, reply.json()), (400, wanted));
    }
    let reply = running.issue(&id, r#"{"scopes":null,"expiresInMinutes":null}"#).await;
    let wanted = json!({ "error": {
        "code": "ValidationError", "message": "Scopes: The Scopes field is required.", "target": "Scopes"
    } });
    assert_eq!((reply.status, reply.json()), (400, wanted));
    assert_eq!(reply.header("api-supported-versions"), None, "model validation comes before versions");
    assert_eq!(running.handle.identities_alive(), 1, "a refused create makes nothing");
    assert_eq!(running.handle.tokens_issued(), 0);
}

#[tokio::test]
async fn revoke_and_delete_answer_nothing_and_say_so_in_no_header() {
    let running = start().await;
    let id = running.create().await;
    let calls = [Call::new("POST", action(&id, "revokeAccessTokens")), Call::new("DELETE", of(&id))];
    for call in calls {
        let reply = running.send(call.header("x-ms-client-request-id", "77")).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""));
        assert_eq!(reply.header("content-type"), None);
        assert_eq!(reply.header("content-length"), None);
        assert_eq!(reply.header("x-ms-client-request-id"), Some("77"));
        assert!(reply.header("api-supported-versions").is_some());
        assert_usual_headers(&reply);
    }
    assert_eq!(running.handle.identities_alive(), 0);
}

#[tokio::test]
async fn ids_may_come_with_their_colons_encoded_or_not() {
    let running = start().await;
    let id = running.create().await;
    let plain = format!("/identities/{id}/:issueAccessToken?{GA}");
    let reply = running.send(Call::new("POST", plain).body(r#"{"scopes":["chat"]}"#)).await;
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(running.issue(&id, r#"{"scopes":["chat"]}"#).await.status, 200);
}

#[tokio::test]
async fn an_identity_that_is_not_there_is_not_found_and_deleting_it_twice_is_no_error() {
    let running = start().await;
    let deleted = running.create().await;
    for _ in 0..2 {
        assert_eq!(running.send(Call::new("DELETE", of(&deleted))).await.status, 204);
    }
    for id in [deleted.as_str(), MISSING] {
        let reply = running.issue(id, r#"{"scopes":["chat"]}"#).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NotFound"));
        let reply = running.send(Call::new("POST", action(id, "revokeAccessTokens"))).await;
        assert_eq!((reply.status, reply.code().as_str()), (404, "NotFound"));
    }
    assert_eq!(running.send(Call::new("DELETE", of(MISSING))).await.status, 404);
    let reply = running.send(Call::new("DELETE", of("4:+14255550123"))).await;
    assert_eq!((reply.status, reply.code().as_str()), (400, "ValidationError"));
}

#[tokio::test]
async fn custom_id_gives_the_same_identity_in_the_preview_and_is_ignored_elsewhere() {
    let running = start().await;
    let body = r#"{"customId":"sally@contoso.com","createTokenWithScopes":["chat"]}"#;
    let create = |version: &str| Call::new("POST", format!("/identities?{version}")).body(body);
    let (first, second) = (running.send(create(PREVIEW)).await, running.send(create(PREVIEW)).await);
    assert_eq!((first.status, second.status), (201, 201));
    let identity = first.json()["identity"].clone();
    assert_eq!(identity["customId"], "sally@contoso.com");
    assert_eq!(identity["lastTokenIssuedAt"], "2026-11-22T12:00:00.1230000+00:00");
    assert_eq!(identity, second.json()["identity"]);
    let elsewhere = running.send(create(GA)).await.json();
    assert_ne!(elsewhere["identity"]["id"], identity["id"]);
    assert_eq!(elsewhere["identity"].as_object().unwrap().len(), 1, "the other versions show the id alone");
    assert_eq!(running.handle.identities_alive(), 2);
}

#[tokio::test]
async fn the_preview_reads_an_identity_and_the_other_versions_do_not() {
    let running = start().await;
    let body = r#"{"customId":"sally"}"#;
    let created = running.send(Call::new("POST", format!("/identities?{PREVIEW}")).body(body)).await.json();
    let id = created["identity"]["id"].as_str().unwrap();
    let get = |version: &str| Call::new("GET", format!("/identities/{id}?{version}"));
    let reply = running.send(get(PREVIEW)).await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "id": id, "customId": "sally" })));
    running.token(id).await;
    let reply = running.send(get(PREVIEW)).await;
    assert_eq!(reply.json()["lastTokenIssuedAt"], "2026-11-22T12:00:00.1230000+00:00");
    for version in [GA, "api-version=2025-06-30"] {
        let reply = running.send(get(version)).await;
        assert_eq!((reply.status, reply.code().as_str()), (400, "UnsupportedApiVersion"));
    }
    let missing = Call::new("GET", format!("/identities/{MISSING}?{PREVIEW}"));
    assert_eq!(running.send(missing).await.status, 404);
}
