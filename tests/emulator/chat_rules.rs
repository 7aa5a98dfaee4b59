//! Chat: who may do what, and what is refused.

use std::time::Duration;

use serde_json::{Value, json};

use crate::emulator::chat::{NEW, OLD, User, assert_refused, model, participant};
use crate::emulator::harness::{Running, start};

const FORBIDDEN: &str = "The initiator doesn't have the permission to perform the requested operation.";

/// Every operation on a thread that a participant could ask for, with what it answers then.
fn operations(thread: &str, message: &str, other: &str) -> Vec<(&'static str, String, Option<Value>, u16)> {
    vec![
        ("GET", format!("/{thread}"), None, 200),
        ("GET", format!("/{thread}/participants"), None, 200),
        ("GET", format!("/{thread}/messages"), None, 200),
        ("GET", format!("/{thread}/messages/{message}"), None, 200),
        ("GET", format!("/{thread}/readReceipts"), None, 200),
        ("POST", format!("/{thread}/messages"), Some(json!({ "content": "x" })), 201),
        ("PATCH", format!("/{thread}/messages/{message}"), Some(json!({ "content": "x" })), 204),
        ("POST", format!("/{thread}/readReceipts"), Some(json!({ "chatMessageId": message })), 200),
        ("POST", format!("/{thread}/typing"), Some(json!({})), 200),
        ("DELETE", format!("/{thread}/messages/{message}"), None, 204),
        (
            "POST",
            format!("/{thread}/participants/:add"),
            Some(json!({ "participants": [participant(other)] })),
            201,
        ),
        ("POST", format!("/{thread}/participants/:remove"), Some(model(other)), 204),
        ("PATCH", format!("/{thread}"), Some(json!({ "topic": "x" })), 204),
        ("DELETE", format!("/{thread}"), None, 204),
    ]
}

#[tokio::test]
async fn scopes_allow_what_the_published_table_says() {
    let running = start().await;
    let owner = running.user().await;
    for (scopes, allowed) in [
        (vec!["chat"], 14),
        (vec!["chat.join"], 12),
        (vec!["chat.join.limited"], 10),
        (vec!["voip"], 0),
        (vec!["voip", "voip.join"], 0),
        (vec!["voip", "chat.join"], 12),
    ] {
        let user = running.user_with(&scopes).await;
        let other = running.create().await;
        let thread = running.thread(&owner, &[&user]).await;
        // Written with a full token of the same user, so that it can be changed with the narrow one.
        let full = User { token: running.token(&user.id).await, ..user.clone() };
        let message = running.say(&full, &thread, "mine").await;
        for (index, (method, path, body, status)) in
            operations(&thread, &message, &other).into_iter().enumerate()
        {
            let reply = running.chat(&user, method, &path, body).await;
            if index < allowed {
                assert_eq!(reply.status, status, "{scopes:?} {method} {path} {}", reply.text);
            } else {
                assert_refused(&reply, 403, "Forbidden");
            }
        }
        let reply = running.chat(&user, "POST", "", Some(json!({ "topic": "x" }))).await;
        assert_eq!(reply.status, if allowed == 14 { 201 } else { 403 }, "{scopes:?}");
        let reply = running.chat(&user, "GET", "", None).await;
        assert_eq!(reply.status, if allowed > 0 { 200 } else { 403 }, "{scopes:?}");
    }
}

#[tokio::test]
async fn who_is_not_in_the_thread_may_do_nothing_with_it() {
    let running = start().await;
    let (ada, eve) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[]).await;
    let message = running.say(&ada, &thread, "private").await;
    for (method, path, body, _) in operations(&thread, &message, &eve.id) {
        let reply = running.chat(&eve, method, &path, body).await;
        assert_refused(&reply, 403, "Forbidden");
        assert_eq!(reply.json()["CommunicationError"]["Message"], FORBIDDEN);
    }
    assert_eq!(running.chat(&ada, "GET", &format!("/{thread}"), None).await.status, 200);
}

#[tokio::test]
async fn an_unknown_thread_is_not_found_whatever_is_asked() {
    let running = start().await;
    let ada = running.user().await;
    for thread in [format!("19:{}@thread.v2", "A".repeat(44)), "no-thread".into(), "%00%F0%9F%A6%80".into()] {
        for (method, path, body, _) in operations(&thread, "1", &ada.id) {
            let reply = running.chat(&ada, method, &path, body).await;
            assert_refused(&reply, 404, "NotFound");
            assert_eq!(reply.json()["CommunicationError"].get("Message"), None);
        }
    }
}

#[tokio::test]
async fn only_a_users_own_messages_can_be_changed_and_none_of_the_service() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob]).await;
    let message = running.say(&ada, &thread, "mine").await;
    let ids = running.message_ids(&bob, &thread).await;
    assert_eq!(ids.len(), 3);
    for id in &ids {
        let path = format!("/{thread}/messages/{id}");
        let edit = running.chat(&bob, "PATCH", &path, Some(json!({ "content": "yours" }))).await;
        assert_refused(&edit, 403, "Forbidden");
        assert_refused(&running.chat(&bob, "DELETE", &path, None).await, 403, "Forbidden");
    }
    let system = format!("/{thread}/messages/{}", ids[2]);
    assert_refused(&running.chat(&ada, "DELETE", &system, None).await, 403, "Forbidden");
    let read = running.chat(&ada, "GET", &format!("/{thread}/messages/{message}"), None).await;
    assert_eq!(read.json()["content"]["message"], "mine");
    for id in ["1", "x", "-1", "99999999999999999999999"] {
        for (method, body) in [("GET", None), ("PATCH", Some(json!({ "content": "x" }))), ("DELETE", None)] {
            let reply = running.chat(&ada, method, &format!("/{thread}/messages/{id}"), body).await;
            assert_refused(&reply, 404, "NotFound");
        }
    }
    // Nothing asked for, nothing changed.
    let path = format!("/{thread}/messages/{message}");
    assert_eq!(running.chat(&ada, "PATCH", &path, Some(json!({}))).await.status, 204);
    assert_eq!(running.chat(&ada, "GET", &path, None).await.json().get("editedOn"), None);
}

#[tokio::test]
async fn who_is_unknown_cannot_be_brought_in_and_the_others_can() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let gone = running.create().await;
    running.send(crate::emulator::harness::Call::new("DELETE", crate::emulator::harness::of(&gone))).await;
    let never = format!("{}_00000000-0000-0000-0000-00000000abcd", ada.id.rsplit_once('_').unwrap().0);
    let foreign =
        "8:acs:00000000-0000-4000-8000-000000000000_00000000-0000-0000-0000-000000000001".to_owned();
    let invalid = |id: &str| json!({ "code": "403", "message": "Permissions check failed", "target": id });
    let named = json!([
        participant(&gone), participant(&never), participant(&bob.id), participant(&foreign),
        { "communicationIdentifier": { "phoneNumber": { "value": "+14255550123" } } },
        participant(&bob.id),
    ]);
    let wanted = json!([invalid(&gone), invalid(&never), invalid(&foreign), invalid("4:+14255550123")]);

    let body = json!({ "topic": "x", "participants": named });
    let created = running.chat(&ada, "POST", "", Some(body)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(created.json()["invalidParticipants"], wanted);
    let thread = created.json()["chatThread"]["id"].as_str().unwrap().to_owned();
    assert_eq!(running.all(&bob, &format!("/{thread}/participants")).await.len(), 2);

    let thread = running.thread(&ada, &[]).await;
    let body = json!({ "participants": named });
    let added = running.chat(&ada, "POST", &format!("/{thread}/participants/:add"), Some(body)).await;
    assert_eq!((added.status, added.json()), (201, json!({ "invalidParticipants": wanted })));
    assert_eq!(running.all(&bob, &format!("/{thread}/participants")).await.len(), 2);

    for (path, body) in [
        ("".to_owned(), json!({ "topic": "x", "participants": [participant("8:acs:broken")] })),
        (format!("/{thread}/participants/:add"), json!({ "participants": [participant("8:acs:broken")] })),
        (format!("/{thread}/participants/:remove"), model("8:acs:broken")),
    ] {
        let reply = running.chat(&ada, "POST", &path, Some(body)).await;
        assert_refused(&reply, 400, "BadRequest");
        let message = &reply.json()["CommunicationError"]["Message"];
        assert_eq!(message, "Identifier format is invalid (8:acs:broken).");
    }
}

#[tokio::test]
async fn teams_users_and_apps_take_part_by_their_own_models() {
    let running = start().await;
    let ada = running.user().await;
    let guid = "ac80d96a-85de-48b1-995d-a3a3fa3627c8";
    let models = [
        json!({ "microsoftTeamsUser": { "userId": guid, "isAnonymous": false, "cloud": "public" } }),
        json!({ "microsoftTeamsApp": { "appId": guid, "cloud": "gcch" } }),
    ];
    let participants: Vec<Value> =
        models.iter().map(|model| json!({ "communicationIdentifier": model })).collect();
    let body = json!({ "topic": "x", "participants": participants });
    let created = running.chat(&ada, "POST", "", Some(body)).await.json();
    assert_eq!(created.get("invalidParticipants"), None);
    let thread = created["chatThread"]["id"].as_str().unwrap();
    let listed = running.all(&ada, &format!("/{thread}/participants")).await;
    for ((listed, model), raw) in listed[1..].iter().zip(models).zip(["8:orgid:", "28:gcch:"]) {
        let mut model = model;
        model["rawId"] = format!("{raw}{guid}").into();
        assert_eq!(listed["communicationIdentifier"], model);
    }
}

#[tokio::test]
async fn whoever_makes_a_thread_is_in_it_once_and_may_leave_it_as_the_last() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let body = json!({ "topic": "x", "participants": [
        participant(&bob.id), { "communicationIdentifier": model(&ada.id), "displayName": "Ada" },
    ] });
    let created = running.chat(&ada, "POST", "", Some(body)).await.json();
    let thread = created["chatThread"]["id"].as_str().unwrap().to_owned();
    let listed = running.all(&bob, &format!("/{thread}/participants")).await;
    assert_eq!(listed.len(), 2);
    assert_eq!(listed[1]["displayName"], "Ada");

    let remove = format!("/{thread}/participants/:remove");
    assert_eq!(running.chat(&bob, "POST", &remove, Some(model(&ada.id))).await.status, 204);
    assert_eq!(running.chat(&bob, "POST", &remove, Some(model(&bob.id))).await.status, 204);
    for user in [&ada, &bob] {
        assert_refused(&running.chat(user, "GET", &format!("/{thread}"), None).await, 403, "Forbidden");
        assert_refused(&running.chat(user, "DELETE", &format!("/{thread}"), None).await, 403, "Forbidden");
        assert_eq!(running.all(user, "").await.len(), 0);
    }
}

#[tokio::test]
async fn a_change_that_asks_for_nothing_changes_and_tells_nothing() {
    let running = start().await;
    let ada = running.user().await;
    let thread = running.thread(&ada, &[]).await;
    let before = running.events(&thread).await.len();
    for body in [json!({}), json!({ "topic": null, "metadata": {} })] {
        assert_eq!(running.chat(&ada, "PATCH", &format!("/{thread}"), Some(body)).await.status, 204);
    }
    assert_eq!(running.events(&thread).await.len(), before);
    assert_eq!(running.message_ids(&ada, &thread).await.len(), 2);
}

async fn many(running: &Running, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(running.create().await);
    }
    ids
}

#[tokio::test]
async fn a_thread_holds_250_and_a_request_200() {
    let running = start().await;
    let ada = running.user().await;
    let ids = many(&running, 251).await;
    let list = |ids: &[String]| ids.iter().map(|id| participant(id)).collect::<Vec<_>>();
    let body = json!({ "topic": "x", "participants": list(&ids[..201]) });
    let reply = running.chat(&ada, "POST", "", Some(body)).await;
    assert_refused(&reply, 400, "BadRequest");
    assert_eq!(reply.json(), json!({ "CommunicationError": { "Code": "BadRequest", "Details": [] } }));

    let body = json!({ "topic": "x", "participants": list(&ids[..200]) });
    let created = running.chat(&ada, "POST", "", Some(body)).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let thread = created.json()["chatThread"]["id"].as_str().unwrap().to_owned();
    let add = format!("/{thread}/participants/:add");
    let body = |from: usize, to: usize| Some(json!({ "participants": list(&ids[from..to]) }));
    assert_refused(&running.chat(&ada, "POST", &add, body(200, 250)).await, 400, "BadRequest");
    assert_eq!(running.all(&ada, &format!("/{thread}/participants")).await.len(), 201, "all or none");
    assert_eq!(running.chat(&ada, "POST", &add, body(200, 249)).await.status, 201);
    assert_refused(&running.chat(&ada, "POST", &add, body(249, 250)).await, 400, "BadRequest");
    assert_eq!(running.chat(&ada, "POST", &add, body(100, 249)).await.status, 201, "they are in already");
    assert_eq!(running.all(&ada, &format!("/{thread}/participants")).await.len(), 250);

    // A message in a thread of 250 is told to 249, and to the thread.
    let before = running.events(&thread).await.last().unwrap()["sequence"].as_u64().unwrap();
    running.say(&ada, &thread, "hello").await;
    let events = running.events(&thread).await;
    let since: Vec<&Value> = events.iter().filter(|e| e["sequence"].as_u64().unwrap() > before).collect();
    assert_eq!(since.len(), 250);
}

#[tokio::test]
async fn large_threads_have_neither_receipts_nor_typing() {
    let running = start().await;
    let ada = running.user().await;
    let ids = many(&running, 20).await;
    let participants: Vec<Value> = ids[..19].iter().map(|id| participant(id)).collect();
    let created =
        running.chat(&ada, "POST", "", Some(json!({ "topic": "x", "participants": participants }))).await;
    let thread = created.json()["chatThread"]["id"].as_str().unwrap().to_owned();
    let message = running.say(&ada, &thread, "x").await;
    let receipt = Some(json!({ "chatMessageId": message }));
    let (receipts, typing) = (format!("/{thread}/readReceipts"), format!("/{thread}/typing"));
    assert_eq!(running.chat(&ada, "POST", &receipts, receipt.clone()).await.status, 200);
    assert_eq!(running.chat(&ada, "POST", &typing, None).await.status, 200);
    let body = json!({ "participants": [participant(&ids[19])] });
    running.chat(&ada, "POST", &format!("/{thread}/participants/:add"), Some(body)).await;
    assert_refused(&running.chat(&ada, "POST", &receipts, receipt).await, 400, "BadRequest");
    assert_refused(&running.chat(&ada, "POST", &typing, None).await, 400, "BadRequest");
    assert_eq!(running.all(&ada, &receipts).await.len(), 1, "what was read before can still be listed");
}

#[tokio::test]
async fn requests_that_break_a_rule_are_refused_and_change_nothing() {
    let running = start().await;
    let ada = running.user().await;
    let thread = running.thread(&ada, &[]).await;
    let message = running.say(&ada, &thread, "x").await;
    for (method, path, body, status, code) in [
        ("POST", String::new(), json!({}), 400, "BadRequest"),
        ("POST", String::new(), json!({ "topic": "x".repeat(251) }), 400, "BadRequest"),
        ("PATCH", format!("/{thread}"), json!({ "topic": "" }), 400, "BadRequest"),
        ("PATCH", format!("/{thread}"), json!([]), 400, "BadRequest"),
        ("POST", format!("/{thread}/messages"), json!({ "content": "" }), 400, "BadRequest"),
        (
            "POST",
            format!("/{thread}/messages"),
            json!({ "content": "x".repeat(28 * 1024 + 1) }),
            413,
            "RequestEntityTooLarge",
        ),
        (
            "POST",
            format!("/{thread}/messages"),
            json!({ "content": "x", "type": "topicUpdated" }),
            400,
            "BadRequest",
        ),
        ("PATCH", format!("/{thread}/messages/{message}"), json!({ "content": 7 }), 400, "BadRequest"),
        ("POST", format!("/{thread}/readReceipts"), json!({}), 400, "BadRequest"),
        ("POST", format!("/{thread}/readReceipts"), json!({ "chatMessageId": "1" }), 404, "NotFound"),
        ("POST", format!("/{thread}/typing"), json!({ "senderDisplayName": 7 }), 400, "BadRequest"),
        ("POST", format!("/{thread}/participants/:add"), json!({ "participants": [] }), 400, "BadRequest"),
        ("POST", format!("/{thread}/participants/:remove"), json!({}), 400, "BadRequest"),
    ] {
        let reply = running.chat(&ada, method, &path, Some(body)).await;
        assert_refused(&reply, status, code);
    }
    for query in ["maxPageSize=0", "maxPageSize=-1", "maxPageSize=x", "startTime=soon", "syncState=xyz"] {
        let reply = running.chat(&ada, "GET", &format!("/{thread}/messages?{query}"), None).await;
        assert_refused(&reply, 400, "BadRequest");
        assert_refused(&running.chat(&ada, "GET", &format!("?{query}"), None).await, 400, "BadRequest");
    }
    for list in ["participants", "readReceipts"] {
        let reply = running.chat(&ada, "GET", &format!("/{thread}/{list}?skip=-1"), None).await;
        assert_refused(&reply, 400, "BadRequest");
    }
    assert_eq!(running.message_ids(&ada, &thread).await.len(), 3);
    assert_eq!(running.all(&ada, "").await.len(), 1);
}

#[tokio::test]
async fn tokens_that_are_not_good_now_open_nothing() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob]).await;
    let path = format!("/{thread}");
    let unknown = User { token: "a.b.c".into(), ..ada.clone() };
    assert_refused(&running.chat(&unknown, "GET", &path, None).await, 401, "Unauthorized");
    running.send(crate::emulator::harness::Call::new("DELETE", crate::emulator::harness::of(&bob.id))).await;
    assert_refused(&running.chat(&bob, "GET", &path, None).await, 401, "Unauthorized");
    running.clock.advance(Duration::from_hours(25));
    assert_refused(&running.chat(&ada, "GET", &path, None).await, 401, "Unauthorized");
    let again = User { token: running.token(&ada.id).await, ..ada.clone() };
    assert_eq!(running.chat(&again, "GET", &path, None).await.status, 200);
    assert_eq!(
        running.all(&again, &format!("{path}/participants")).await.len(),
        2,
        "the deleted stay listed"
    );
}

#[tokio::test]
async fn metadata_and_retention_follow_the_rules_of_their_version() {
    let running = start().await;
    let ada = running.user().await;
    let old = User { version: OLD, ..ada.clone() };
    let policy = json!({ "kind": "threadCreationDate", "deleteThreadAfterDays": 30 });
    let body = json!({ "topic": "x", "metadata": { "a": "1", "b": "2" }, "retentionPolicy": policy });
    let created = running.chat(&ada, "POST", "", Some(body.clone())).await.json();
    assert_eq!(created["chatThread"]["metadata"], json!({ "a": "1", "b": "2" }));
    assert_eq!(created["chatThread"]["retentionPolicy"], policy);
    let path = format!("/{}", created["chatThread"]["id"].as_str().unwrap());

    let change = json!({ "metadata": { "b": "3", "c": "4", "a": null } });
    assert_eq!(running.chat(&ada, "PATCH", &path, Some(change)).await.status, 204);
    let thread = running.chat(&ada, "GET", &path, None).await.json();
    assert_eq!(thread["metadata"], json!({ "b": "3", "c": "4" }), "merged, and null takes away");
    assert_eq!((&thread["topic"], &thread["retentionPolicy"]), (&json!("x"), &policy));
    let too_much = json!({ "metadata": { "d": "x".repeat(1020) } });
    assert_refused(&running.chat(&ada, "PATCH", &path, Some(too_much)).await, 400, "BadRequest");

    let thread = running.chat(&old, "GET", &path, None).await.json();
    assert_eq!((thread.get("metadata"), thread.get("retentionPolicy")), (None, None));
    running.chat(&old, "PATCH", &path, Some(json!({ "metadata": { "b": "9" } }))).await;
    let thread = running.chat(&ada, "GET", &path, None).await.json();
    assert_eq!(thread["metadata"]["b"], "3", "the older version does not know it");
    let created = running.chat(&old, "POST", "", Some(body)).await.json();
    let path_of_old = format!("/{}", created["chatThread"]["id"].as_str().unwrap());
    assert_eq!(running.chat(&ada, "GET", &path_of_old, None).await.json().get("metadata"), None);

    // Metadata alone leaves no message; the day comes and the thread is gone.
    assert_eq!(running.message_ids(&ada, &path[1..]).await.len(), 2);
    running.handle.advance(Duration::from_hours(24 * 30));
    let again = User { token: running.token(&ada.id).await, version: NEW, ..ada };
    assert_refused(&running.chat(&again, "GET", &path, None).await, 404, "NotFound");
    assert_eq!(running.chat(&again, "GET", &path_of_old, None).await.status, 200);
}
