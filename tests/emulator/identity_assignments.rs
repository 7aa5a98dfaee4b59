//! Assignments: who may exchange an Entra token. Every operation, its statuses, bodies and refusals.

use serde_json::{Value, json};

use super::harness::{Call, GA, PREVIEW, Running, start};

const STABLE: &str = "api-version=2025-06-30";
const TENANT: &str = "3f14cf17-84d5-42c2-8689-a6365c474b4e";
const CLIENT: &str = "07474a86-625a-452f-977b-db4e13f21260";
const USER: &str = "350adb03-7be9-4846-b078-35adb0d0e119";
const OTHER: &str = "d7233e76-d261-46c6-94b3-39073103ae81";

async fn call(running: &Running, method: &'static str, target: &str, body: &str) -> (u16, Value) {
    let reply = running.send(Call::new(method, target).body(body)).await;
    if reply.text.is_empty() {
        assert_eq!(reply.header("content-type"), None);
        return (reply.status, Value::Null);
    }
    let wanted = if reply.status < 300 { "application/json; charset=utf-8" } else { "application/json" };
    assert_eq!(reply.header("content-type"), Some(wanted));
    (reply.status, reply.json())
}

fn entra() -> Value {
    json!({ "principalType": "user", "tenantId": TENANT, "clientIds": [CLIENT] })
}

fn with_object(mut body: Value, object: &str) -> Value {
    body["objectId"] = object.into();
    body
}

#[tokio::test]
async fn a_teams_extension_assignment_is_put_read_replaced_and_deleted() {
    let running = start().await;
    for version in [STABLE, PREVIEW] {
        let target = format!("/access/teamsExtension/tenants/{TENANT}/assignments/{USER}?{version}");
        assert_eq!(call(&running, "GET", &target, "").await.0, 404);
        let bare = json!({ "objectId": USER, "tenantId": TENANT, "principalType": "resourceAccount" });
        let (status, body) = call(&running, "PUT", &target, r#"{"principalType":"resourceAccount"}"#).await;
        assert_eq!((status, &body), (201, &bare));
        let put = json!({ "principalType": "user", "clientIds": [CLIENT.to_uppercase()] }).to_string();
        let (status, body) = call(&running, "PUT", &target, &put).await;
        let full =
            json!({ "objectId": USER, "tenantId": TENANT, "principalType": "user", "clientIds": [CLIENT] });
        assert_eq!((status, &body), (200, &full));
        assert_eq!(call(&running, "GET", &target.replace(USER, &USER.to_uppercase()), "").await, (200, full));
        assert_eq!(call(&running, "GET", &target.replace(TENANT, OTHER), "").await.0, 404);
        for _ in 0..2 {
            assert_eq!(call(&running, "DELETE", &target, "").await, (204, Value::Null));
        }
        assert_eq!(call(&running, "GET", &target, "").await.0, 404);
    }
}

#[tokio::test]
async fn an_entra_assignment_is_put_read_replaced_and_deleted() {
    let running = start().await;
    let target = format!("/access/entra/assignments/{USER}?{PREVIEW}");
    let (status, body) = call(&running, "GET", &target, "").await;
    assert_eq!((status, body["error"]["code"].as_str()), (404, Some("NotFound")));
    for status in [201, 200] {
        assert_eq!(
            call(&running, "PUT", &target, &entra().to_string()).await,
            (status, with_object(entra(), USER))
        );
    }
    assert_eq!(call(&running, "GET", &target, "").await, (200, with_object(entra(), USER)));
    for _ in 0..2 {
        assert_eq!(call(&running, "DELETE", &target, "").await, (204, Value::Null));
    }
    assert_eq!(call(&running, "GET", &target, "").await.0, 404);
}

#[tokio::test]
async fn a_merge_patch_sets_and_removes_many_at_once() {
    let running = start().await;
    let target = format!("/access/entra/assignments?{PREVIEW}");
    let patch = async |body: &Value, content_type: &str| {
        let call =
            Call::new("PATCH", target.clone()).body(body.to_string()).header("content-type", content_type);
        running.send(call).await
    };
    let both = json!({ USER: entra(), OTHER: entra() });
    let reply = patch(&both, "application/merge-patch+json").await;
    let all = json!({ "value": [with_object(entra(), USER), with_object(entra(), OTHER)] });
    assert_eq!((reply.status, reply.json()), (200, all.clone()));
    assert_eq!(call(&running, "GET", &target, "").await, (200, all.clone()));

    let group = json!({ "principalType": "group", "tenantId": TENANT, "clientIds": [] });
    let faulty = json!({ OTHER: null, USER: { "principalType": "user" } });
    assert_eq!(patch(&faulty, "application/json").await.status, 400);
    assert_eq!(call(&running, "GET", &target, "").await, (200, all), "all of a patch or nothing of it");

    let reply = patch(&json!({ OTHER: null, USER: group }), "application/json").await;
    assert_eq!((reply.status, reply.json()), (200, json!({ "value": [with_object(group, USER)] })));
    let reply = patch(&json!({ OTHER: null, USER: null }), "application/merge-patch+json").await;
    assert_eq!((reply.status, reply.text.as_str()), (204, ""));
    assert_eq!(call(&running, "GET", &target, "").await, (200, json!({ "value": [] })));
}

#[tokio::test]
async fn a_long_list_comes_in_pages_with_links_to_the_host_that_was_called() {
    let running = start().await;
    let target = format!("/access/entra/assignments?{PREVIEW}");
    let id = |n: usize| format!("{n:08x}-0000-4000-8000-000000000000");
    let many: serde_json::Map<String, Value> = (0..250).map(|n| (id(n), entra())).collect();
    assert_eq!(call(&running, "PATCH", &target, &Value::Object(many).to_string()).await.0, 200);
    let (mut seen, mut next) = (Vec::new(), Some(target.clone()));
    let mut pages = 0;
    while let Some(target) = next {
        let (status, page) = call(&running, "GET", &target, "").await;
        assert_eq!(status, 200);
        let objects = page["value"].as_array().unwrap().iter();
        seen.extend(objects.map(|one| one["objectId"].as_str().unwrap().to_owned()));
        next = page.get("nextLink").map(|link| {
            link.as_str().unwrap().strip_prefix(&running.base()).expect("an absolute link").to_owned()
        });
        pages += 1;
    }
    assert_eq!((pages, seen), (3, (0..250).map(id).collect()));
    let odd = format!("{target}&continuationToken=%FF%00~");
    assert_eq!(call(&running, "GET", &odd, "").await, (200, json!({ "value": [] })));
}

#[tokio::test]
async fn assignments_are_bounded() {
    let running = start().await;
    let target = format!("/access/entra/assignments?{PREVIEW}");
    let patch = |from: usize, to: usize| {
        let many = (from..to).map(|n| (format!("{n:08x}-0000-4000-8000-000000000000"), entra()));
        Value::Object(many.collect()).to_string()
    };
    for hundreds in 0..5 {
        let body = patch(hundreds * 200, hundreds * 200 + 200);
        assert_eq!(call(&running, "PATCH", &target, &body).await.0, 200);
    }
    let (status, body) = call(&running, "PATCH", &target, &patch(1000, 1001)).await;
    assert_eq!((status, body["error"]["code"].as_str()), (507, Some("EmulatorFull")));
    let one = format!("/access/entra/assignments/{USER}?{PREVIEW}");
    assert_eq!(call(&running, "PUT", &one, &entra().to_string()).await.0, 507);
    running.handle.reset();
    assert_eq!(call(&running, "GET", &target, "").await, (200, json!({ "value": [] })));
    assert_eq!(call(&running, "PUT", &one, &entra().to_string()).await.0, 201);
}

#[tokio::test]
async fn what_is_wrong_with_an_assignment_is_named() {
    let running = start().await;
    let teams = |tenant: &str, user: &str| {
        format!("/access/teamsExtension/tenants/{tenant}/assignments/{user}?{STABLE}")
    };
    let one = |user: &str| format!("/access/entra/assignments/{user}?{PREVIEW}");
    let all = format!("/access/entra/assignments?{PREVIEW}");
    let body = entra().to_string();
    for (method, target, body, wanted) in [
        ("PUT", teams("contoso", USER), body.as_str(), Some("TenantId")),
        ("PUT", teams(TENANT, "sally"), body.as_str(), Some("ObjectId")),
        ("GET", teams(TENANT, "sally"), "", Some("ObjectId")),
        ("DELETE", teams("contoso", USER), "", Some("TenantId")),
        ("PUT", teams(TENANT, USER), "", None),
        ("PUT", teams(TENANT, USER), "[]", None),
        ("PUT", teams(TENANT, USER), "{}", Some("PrincipalType")),
        ("PUT", teams(TENANT, USER), r#"{"principalType":"tenant"}"#, Some("PrincipalType")),
        ("GET", one("sally"), "", Some("ObjectId")),
        ("DELETE", one("sally"), "", Some("ObjectId")),
        ("PUT", one("sally"), body.as_str(), Some("ObjectId")),
        ("PUT", one(USER), r#"{"principalType":"user","clientIds":[]}"#, Some("TenantId")),
        ("PATCH", all.clone(), "", None),
        ("PATCH", all.clone(), r#"{"sally":null}"#, Some("ObjectId")),
        ("PATCH", all, &format!(r#"{{"{USER}":7}}"#), Some("ObjectId")),
    ] {
        let (status, answer) = call(&running, method, &target, body).await;
        let error = &answer["error"];
        assert_eq!(
            (status, error["code"].as_str(), error["target"].as_str()),
            (400, Some("ValidationError"), wanted),
            "{method} {target} {body}"
        );
    }
    let (_, answer) = call(&running, "PUT", &teams(TENANT, USER), "{}").await;
    assert_eq!(answer["error"]["message"], "PrincipalType: The PrincipalType field is required.");
}

#[tokio::test]
async fn assignments_are_in_their_versions_alone_and_need_authentication() {
    let running = start().await;
    let teams = format!("/access/teamsExtension/tenants/{TENANT}/assignments/{USER}");
    let one = format!("/access/entra/assignments/{USER}");
    for (target, version) in [
        (teams.as_str(), GA),
        (one.as_str(), GA),
        (one.as_str(), STABLE),
        ("/access/entra/assignments", STABLE),
    ] {
        let (status, body) = call(&running, "GET", &format!("{target}?{version}"), "").await;
        assert_eq!(
            (status, body["error"]["code"].as_str()),
            (400, Some("UnsupportedApiVersion")),
            "{target}"
        );
    }
    for target in [&teams, &one] {
        assert_eq!(running.plain("GET", &format!("{target}?{PREVIEW}"), "").await.status, 401);
    }
}
