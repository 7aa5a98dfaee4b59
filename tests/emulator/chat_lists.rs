//! Chat: pages, history, numbers under concurrency, repeatable requests, bounds.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::emulator::Settings;
use serde_json::{Value, json};

use crate::emulator::chat::{NEW, OLD, assert_refused, model, participant};
use crate::emulator::harness::{start, start_with};

fn texts(messages: &[Value]) -> Vec<&str> {
    messages.iter().filter_map(|message| message["content"]["message"].as_str()).collect()
}

#[tokio::test]
async fn pages_of_messages_are_newest_first_and_show_each_once() {
    let running = start().await;
    let ada = running.user().await;
    let thread = running.thread(&ada, &[]).await;
    let mut wanted = running.message_ids(&ada, &thread).await;
    for n in 0..21 {
        wanted.insert(0, running.say(&ada, &thread, &n.to_string()).await);
    }
    let first = running.chat(&ada, "GET", &format!("/{thread}/messages"), None).await.json();
    assert_eq!(first["value"].as_array().unwrap().len(), 10, "ten if nobody says");
    let link = first["nextLink"].as_str().unwrap();
    let start = format!("{}/chat/threads/{thread}/messages?syncState=", running.base());
    assert!(link.starts_with(&start), "absolute, with the thread's id as it is: {link}");
    assert!(link.ends_with("&startTime=0&maxPageSize=10&api-version=2025-03-15"), "{link}");
    let state = link[start.len()..].split('&').next().unwrap();
    assert!(state.bytes().all(|b| b.is_ascii_hexdigit()));
    for size in [1, 2, 7, 22, 23, 24, 200, 1000] {
        let listed = running.all(&ada, &format!("/{thread}/messages?maxPageSize={size}")).await;
        let ids: Vec<&str> = listed.iter().map(|message| message["id"].as_str().unwrap()).collect();
        assert_eq!(ids, wanted, "{size}");
    }
    let whole = running.chat(&ada, "GET", &format!("/{thread}/messages?maxPageSize=23"), None).await.json();
    assert_eq!(whole.get("nextLink"), None, "the last page has no link");
}

#[tokio::test]
async fn no_page_is_larger_than_200() {
    let running = start().await;
    let ada = running.user().await;
    let thread = running.thread(&ada, &[]).await;
    for n in 0..199 {
        running.say(&ada, &thread, &n.to_string()).await;
    }
    let page = running.chat(&ada, "GET", &format!("/{thread}/messages?maxPageSize=500"), None).await.json();
    assert_eq!(page["value"].as_array().unwrap().len(), 200);
    assert!(page["nextLink"].as_str().unwrap().contains("&maxPageSize=200&"));
}

#[tokio::test]
async fn start_times_leave_out_what_is_older() {
    let running = start().await;
    let ada = running.user().await;
    let old_thread = running.thread(&ada, &[]).await;
    running.say(&ada, &old_thread, "old").await;
    running.clock.advance(Duration::from_secs(60));
    let thread = running.thread(&ada, &[]).await;
    for n in 0..5 {
        running.say(&ada, &old_thread, &n.to_string()).await;
    }
    let path = format!("/{old_thread}/messages?maxPageSize=2&startTime=2026-11-22T12:00:30Z");
    let listed = running.all(&ada, &path).await;
    assert_eq!(texts(&listed), ["4", "3", "2", "1", "0"], "also on the pages that follow");
    let none = running.all(&ada, &format!("/{old_thread}/messages?startTime=2026-11-22T12:02:00Z")).await;
    assert_eq!(none.len(), 0);

    let ids = |threads: Vec<Value>| {
        threads.iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let all = running.all(&ada, "").await;
    assert_eq!(all[1]["lastMessageReceivedOn"], "2026-11-22T12:01:00Z");
    assert_eq!(all[0].get("lastMessageReceivedOn"), None, "nobody wrote in it yet");
    assert_eq!(ids(all), [thread.clone(), old_thread.clone()]);
    running.clock.advance(Duration::from_secs(60));
    let newest = running.thread(&ada, &[]).await;
    let recent = running.all(&ada, "?startTime=2026-11-22T12:02:00Z").await;
    assert_eq!(ids(recent), [newest]);
}

#[tokio::test]
async fn history_is_shared_from_the_time_that_was_said() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[]).await;
    let before = running.say(&ada, &thread, "before").await;
    running.clock.advance(Duration::from_secs(60));
    let body = json!({ "participants": [
        { "communicationIdentifier": model(&bob.id), "shareHistoryTime": "2026-11-22T12:00:30Z" },
    ] });
    running.chat(&ada, "POST", &format!("/{thread}/participants/:add"), Some(body)).await;
    let after = running.say(&ada, &thread, "after").await;

    let listed = running.all(&bob, &format!("/{thread}/messages?maxPageSize=1")).await;
    let kinds: Vec<&str> = listed.iter().map(|message| message["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["text", "participantAdded"]);
    let read = |id: &str| format!("/{thread}/messages/{id}");
    assert_eq!(running.chat(&bob, "GET", &read(&after), None).await.status, 200);
    assert_refused(&running.chat(&bob, "GET", &read(&before), None).await, 404, "NotFound");
    let receipt = Some(json!({ "chatMessageId": before }));
    let reply = running.chat(&bob, "POST", &format!("/{thread}/readReceipts"), receipt).await;
    assert_refused(&reply, 404, "NotFound");
    // A start time of one's own does not open what is not shared; an edit does not either.
    let early = running.all(&bob, &format!("/{thread}/messages?startTime=1970-01-01T00:00:00Z")).await;
    assert_eq!(early.len(), 2);
    running.chat(&ada, "PATCH", &read(&before), Some(json!({ "content": "edited" }))).await;
    assert_eq!(running.message_ids(&bob, &thread).await.len(), 2);
    assert_eq!(running.message_ids(&ada, &thread).await.len(), 5);
}

#[tokio::test]
async fn participants_receipts_and_threads_come_in_pages() {
    let running = start().await;
    let ada = running.user().await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(running.user().await);
    }
    let thread = running.thread(&ada, &others.iter().collect::<Vec<_>>()).await;
    let message = running.say(&ada, &thread, "x").await;
    for other in &others {
        let receipt = Some(json!({ "chatMessageId": message }));
        running.chat(other, "POST", &format!("/{thread}/readReceipts"), receipt).await;
    }
    for (list, count) in [("participants", 7), ("readReceipts", 6)] {
        let all = running.all(&ada, &format!("/{thread}/{list}")).await;
        assert_eq!(all.len(), count);
        for size in 1..=8 {
            let listed = running.all(&ada, &format!("/{thread}/{list}?maxPageSize={size}")).await;
            assert_eq!(listed, all, "{list} {size}");
        }
        let rest = running.all(&ada, &format!("/{thread}/{list}?skip=4&maxPageSize=1")).await;
        assert_eq!(rest, all[4..]);
        let page = running.chat(&ada, "GET", &format!("/{thread}/{list}?maxPageSize=2"), None).await.json();
        let link = format!(
            "{}/chat/threads/{thread}/{list}?skip=2&maxPageSize=2&api-version=2025-03-15",
            running.base()
        );
        assert_eq!(page["nextLink"], link);
        assert_eq!(running.all(&ada, &format!("/{thread}/{list}?skip=999")).await.len(), 0);
    }
    let mut made = vec![thread];
    for _ in 0..6 {
        made.insert(0, running.thread(&ada, &[]).await);
    }
    for size in 1..=8 {
        let listed = running.all(&ada, &format!("?maxPageSize={size}")).await;
        let ids: Vec<&str> = listed.iter().map(|thread| thread["id"].as_str().unwrap()).collect();
        assert_eq!(ids, made, "newest first, {size}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_senders_at_once_get_numbers_of_their_own() {
    let running = Arc::new(start().await);
    let (ada, bob) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob]).await;
    let senders: Vec<_> = (0..16)
        .map(|n| {
            let (running, thread) = (Arc::clone(&running), thread.clone());
            let user = if n % 2 == 0 { ada.clone() } else { bob.clone() };
            tokio::spawn(async move {
                for m in 0..10 {
                    let id = running.say(&user, &thread, &format!("{n} {m}")).await;
                    if m % 3 == 0 {
                        let path = format!("/{thread}/messages/{id}");
                        let edit =
                            running.chat(&user, "PATCH", &path, Some(json!({ "content": "new" }))).await;
                        assert_eq!(edit.status, 204);
                    }
                }
            })
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let messages = running.all(&ada, &format!("/{thread}/messages?maxPageSize=50")).await;
    assert_eq!(messages.len(), 162);
    for field in ["id", "sequenceId", "version"] {
        let different: BTreeSet<&str> =
            messages.iter().map(|message| message[field].as_str().unwrap()).collect();
        assert_eq!(different.len(), 162, "{field}");
    }
    let sequences: Vec<u64> =
        messages.iter().map(|message| message["sequenceId"].as_str().unwrap().parse().unwrap()).collect();
    assert!(sequences.windows(2).all(|two| two[0] > two[1]), "in the order of the list");
    assert_eq!(sequences[0], 2 + 160 + 64);
}

#[tokio::test]
async fn a_request_with_the_same_id_makes_one_thread() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let create = async |user, id: &str, topic: &str| {
        let body = Some(json!({ "topic": topic, "participants": [participant(&bob.id)] }));
        let reply = running.chat_with(user, "POST", "", body, &[("repeatability-request-id", id)]).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        assert!(reply.header("location").is_some());
        reply.json()["chatThread"].clone()
    };
    let first = create(&ada, "one", "Lunch").await;
    assert_eq!(create(&ada, "one", "Lunch").await, first);
    assert_eq!(create(&ada, "one", "Dinner").await, first, "also with another body");
    assert_ne!(create(&ada, "two", "Lunch").await["id"], first["id"]);
    assert_ne!(create(&bob, "one", "Lunch").await["id"], first["id"], "ids are each user's own");
    assert_ne!(create(&ada, "", "Lunch").await["id"], create(&ada, "", "Lunch").await["id"]);
    let thread = first["id"].as_str().unwrap();
    assert_eq!(running.message_ids(&ada, thread).await.len(), 2, "nothing happened twice");
    let created = running.events(thread).await;
    assert_eq!(created.iter().filter(|event| event["kind"] == "ChatThreadCreated").count(), 1);

    let long = "x".repeat(257);
    let body = Some(json!({ "topic": "x" }));
    let reply = running.chat_with(&ada, "POST", "", body, &[("repeatability-request-id", &long)]).await;
    assert_refused(&reply, 400, "BadRequest");

    running.handle.advance(Duration::from_hours(24) + Duration::from_millis(1));
    let ada = crate::emulator::chat::User { token: running.token(&ada.id).await, ..ada.clone() };
    assert_ne!(create(&ada, "one", "Lunch").await["id"], first["id"], "remembered for a day");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_same_request_sent_at_once_many_times_makes_one_thread() {
    let running = Arc::new(start().await);
    let ada = running.user().await;
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let (running, ada) = (Arc::clone(&running), ada.clone());
            tokio::spawn(async move {
                let body = Some(json!({ "topic": "x" }));
                let headers = [("Repeatability-Request-Id", "5e2ea4f4-52ba-4a4a-9ccd-0b4bd3a0f9a6")];
                running.chat_with(&ada, "POST", "", body, &headers).await.json()["chatThread"]["id"]
                    .to_string()
            })
        })
        .collect();
    let mut ids = BTreeSet::new();
    for call in calls {
        ids.insert(call.await.unwrap());
    }
    assert_eq!(ids.len(), 1);
    assert_eq!(running.all(&ada, "").await.len(), 1);
}

#[tokio::test]
async fn the_oldest_messages_go_when_there_is_no_room() {
    let running = start_with(Settings { max_messages: 5, ..Settings::on_free_ports() }).await;
    let ada = running.user().await;
    let (one, two) = (running.thread(&ada, &[]).await, running.thread(&ada, &[]).await);
    let mut ids = Vec::new();
    for n in 0..8 {
        ids.push(running.say(&ada, if n % 2 == 0 { &one } else { &two }, &n.to_string()).await);
    }
    assert_eq!(texts(&running.all(&ada, &format!("/{one}/messages")).await), ["6", "4"]);
    assert_eq!(texts(&running.all(&ada, &format!("/{two}/messages")).await), ["7", "5", "3"]);
    let gone = running.chat(&ada, "GET", &format!("/{one}/messages/{}", ids[0]), None).await;
    assert_refused(&gone, 404, "NotFound");
    assert_eq!(running.plain("GET", "/_emulator/status", "").await.json()["counts"]["chat"], 5);
}

#[tokio::test]
async fn the_control_paths_show_what_users_wrote() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob]).await;
    let body = json!({ "content": "first", "senderDisplayName": "Ada", "metadata": { "a": "1" } });
    let path = format!("/{thread}/messages");
    let first = running.chat(&ada, "POST", &path, Some(body)).await.json()["id"].as_str().unwrap().to_owned();
    let second = running.say(&bob, &thread, "second").await;
    running.chat(&bob, "PATCH", &format!("{path}/{second}"), Some(json!({ "content": "2nd" }))).await;

    let listed = running.plain("GET", "/_emulator/messages?kind=chat", "").await.json();
    let listed = listed["messages"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2, "the service's own messages are not among them");
    assert_eq!(listed[0]["text"], "2nd");
    assert_eq!((&listed[0]["status"], &listed[1]["status"]), (&json!("Edited"), &json!("Sent")));
    let id = format!("{thread}/{first}");
    for (field, value) in [
        ("id", json!(id)),
        ("kind", json!("chat")),
        ("from", json!(ada.id)),
        ("from_name", json!("Ada")),
        ("to", json!([])),
        ("subject", json!("Lunch")),
        ("text", json!("first")),
        ("thread", json!(thread)),
        ("direction", json!("outbound")),
        ("at", json!("2026-11-22T12:00:00.1230000+00:00")),
    ] {
        assert_eq!(listed[1][field], value, "{field}");
    }
    let encoded = id.replace(':', "%3A").replace('@', "%40").replace('/', "%2F");
    let one = running.plain("GET", &format!("/_emulator/messages/{encoded}"), "").await.json();
    let detail = json!({
        "type": "text", "version": first, "sequence_id": "3", "edited_at": null, "deleted_at": null,
        "metadata": { "a": "1" },
    });
    assert_eq!(one["detail"], detail);
    let missing =
        running.plain("GET", &format!("/_emulator/messages/{}", encoded.replace("%2F", "")), "").await;
    assert_eq!(missing.status, 404);

    running.chat(&ada, "DELETE", &format!("{path}/{first}"), None).await;
    let one = running.plain("GET", &format!("/_emulator/messages/{encoded}"), "").await.json();
    assert_eq!((&one["text"], &one["status"]), (&json!(""), &json!("Deleted")));

    let threads = running.plain("GET", "/_emulator/threads", "").await.json();
    let wanted = json!({
        "id": thread, "topic": "Lunch", "created_at": "2026-11-22T12:00:00.1230000+00:00",
        "created_by": ada.id, "deleted_at": null, "messages": 2,
        "participants": [
            { "id": ada.id, "display_name": null }, { "id": bob.id, "display_name": null },
        ],
    });
    assert_eq!(threads["threads"], json!([wanted]));

    assert_eq!(running.plain("POST", "/_emulator/reset", "").await.status, 204);
    assert_eq!(running.plain("GET", "/_emulator/threads", "").await.json()["threads"], json!([]));
    assert_eq!(running.plain("GET", "/_emulator/status", "").await.json()["counts"]["chat"], 0);
}

#[tokio::test]
async fn links_stay_on_the_version_and_the_host_that_was_asked() {
    let running = start().await;
    let ada = running.user().await;
    let thread = running.thread(&ada, &[]).await;
    for (version, user) in
        [(OLD, crate::emulator::chat::User { version: OLD, ..ada.clone() }), (NEW, ada.clone())]
    {
        let path = format!("/{thread}/messages?maxPageSize=1");
        let page = running.chat_with(&user, "GET", &path, None, &[("host", "acs.example:9")]).await.json();
        let link = page["nextLink"].as_str().unwrap();
        assert!(link.starts_with("http://acs.example:9/chat/threads/19:"), "{link}");
        assert!(link.ends_with(&format!("&api-version={version}")), "{link}");
    }
}
