//! Chat over HTTP: what its tests share, and the life of a thread in both versions. The rules are in `chat_*.rs`.

use serde_json::{Value, json};

use crate::emulator::harness::{Reply, Running, START, start};

pub(crate) const OLD: &str = "2024-03-07";
pub(crate) const NEW: &str = "2025-03-15";

/// A user of chat with a token.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) id: String,
    pub(crate) token: String,
    pub(crate) version: &'static str,
}

impl Running {
    pub(crate) async fn user(&self) -> User {
        self.user_with(&["chat"]).await
    }

    pub(crate) async fn user_with(&self, scopes: &[&str]) -> User {
        let id = self.create().await;
        let reply = self.issue(&id, &json!({ "scopes": scopes }).to_string()).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        User { id, token, version: NEW }
    }

    /// A call of chat; `path` follows `/chat/threads` and may have a query.
    pub(crate) async fn chat(&self, user: &User, method: &str, path: &str, body: Option<Value>) -> Reply {
        self.chat_with(user, method, path, body, &[]).await
    }

    pub(crate) async fn chat_with(
        &self,
        user: &User,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let separator = if path.contains('?') { '&' } else { '?' };
        let target = format!("/chat/threads{path}{separator}api-version={}", user.version);
        self.chat_at(user, method, &target, body, headers).await
    }

    /// The same for a path with all that belongs to it.
    pub(crate) async fn chat_at(
        &self,
        user: &User,
        method: &str,
        target: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Reply {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let bearer = format!("Bearer {}", user.token);
        let mut all = vec![("authorization", bearer.as_str()), ("content-type", kind)];
        all.extend_from_slice(headers);
        self.bare(method, target, body.map_or(String::new(), |body| body.to_string()), &all).await
    }

    /// A new thread of `user` with the others.
    pub(crate) async fn thread(&self, user: &User, others: &[&User]) -> String {
        let participants: Vec<Value> = others.iter().map(|other| participant(&other.id)).collect();
        let body = json!({ "topic": "Lunch", "participants": participants });
        let reply = self.chat(user, "POST", "", Some(body)).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["chatThread"]["id"].as_str().unwrap().to_owned()
    }

    /// The id of a new message.
    pub(crate) async fn say(&self, user: &User, thread: &str, text: &str) -> String {
        let path = format!("/{thread}/messages");
        let reply = self.chat(user, "POST", &path, Some(json!({ "content": text }))).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        reply.json()["id"].as_str().unwrap().to_owned()
    }

    /// Every item of a list, page after page.
    pub(crate) async fn all(&self, user: &User, path: &str) -> Vec<Value> {
        let mut reply = self.chat(user, "GET", path, None).await;
        let mut items = Vec::new();
        loop {
            assert_eq!(reply.status, 200, "{}", reply.text);
            let page = reply.json();
            items.extend(page["value"].as_array().unwrap().iter().cloned());
            let Some(link) = page.get("nextLink") else { return items };
            let target = link.as_str().unwrap().strip_prefix(&self.base()).unwrap();
            reply = self.chat_at(user, "GET", target, None, &[]).await;
        }
    }

    /// The ids of all messages that the user may see.
    pub(crate) async fn message_ids(&self, user: &User, thread: &str) -> Vec<String> {
        let messages = self.all(user, &format!("/{thread}/messages")).await;
        messages.iter().map(|message| message["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The events so far of one thread, oldest first.
    pub(crate) async fn events(&self, thread: &str) -> Vec<Value> {
        let reply = self.plain("GET", "/_emulator/events?limit=1000", "").await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        let mut events = reply.json()["events"].as_array().unwrap().clone();
        events.retain(|event| event["data"]["threadId"] == *thread);
        events.sort_by_key(|event| event["sequence"].as_u64());
        events
    }
}

pub(crate) fn model(id: &str) -> Value {
    json!({ "rawId": id, "communicationUser": { "id": id } })
}

pub(crate) fn participant(id: &str) -> Value {
    json!({ "communicationIdentifier": model(id) })
}

#[track_caller]
pub(crate) fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.json()["CommunicationError"]["Code"], code, "{}", reply.text);
    assert_eq!(reply.json()["CommunicationError"]["Details"], json!([]));
    assert_eq!(reply.header("content-type"), Some("application/json"));
}

/// 2026-11-22T12:00:00.123Z, as bodies write it.
pub(crate) const NOW: &str = "2026-11-22T12:00:00Z";
const EPOCH: &str = "1970-01-01T00:00:00Z";

#[tokio::test]
async fn a_thread_lives_in_both_versions() {
    let running = start().await;
    for version in [OLD, NEW] {
        let ada = User { version, ..running.user().await };
        let bob = User { version, ..running.user().await };
        let body = json!({
            "topic": "Lunch",
            "participants": [{ "communicationIdentifier": model(&bob.id), "displayName": "Bob" }],
        });
        let reply = running.chat(&ada, "POST", "", Some(body)).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        assert_eq!(reply.header("content-type"), Some("application/json; charset=utf-8"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("*"));
        let created = reply.json();
        let id = created["chatThread"]["id"].as_str().unwrap().to_owned();
        let inner = id.strip_prefix("19:").unwrap().strip_suffix("@thread.v2").unwrap();
        assert_eq!(inner.len(), 44);
        assert!(inner.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let thread = json!({
            "id": id, "topic": "Lunch", "createdOn": NOW, "createdByCommunicationIdentifier": model(&ada.id),
        });
        assert_eq!(created, json!({ "chatThread": thread }));
        let location = format!("{}/chat/threads/{}", running.base(), id.replace(':', "%3A"));
        assert_eq!(reply.header("location"), Some(location.as_str()));

        let reply = running.chat(&bob, "GET", &format!("/{id}"), None).await;
        assert_eq!((reply.status, reply.json()), (200, thread));
        let reply = running.chat(&bob, "GET", "", None).await;
        assert_eq!((reply.status, reply.json()), (200, json!({ "value": [{ "id": id, "topic": "Lunch" }] })));
        let reply = running.chat(&bob, "GET", &format!("/{id}/participants"), None).await;
        let wanted = json!({ "value": [
            { "communicationIdentifier": model(&ada.id), "shareHistoryTime": EPOCH },
            { "communicationIdentifier": model(&bob.id), "displayName": "Bob", "shareHistoryTime": EPOCH },
        ] });
        assert_eq!((reply.status, reply.json()), (200, wanted));

        let reply = running.chat(&ada, "PATCH", &format!("/{id}"), Some(json!({ "topic": "Dinner" }))).await;
        assert_eq!((reply.status, reply.text.as_str(), reply.header("content-type")), (204, "", None));
        let reply = running.chat(&ada, "DELETE", &format!("/{id}"), None).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""));
        let again = running.chat(&bob, "DELETE", &format!("/{id}"), None).await;
        assert_eq!(again.status, 204, "a second time is no error");
        assert_refused(&running.chat(&ada, "GET", &format!("/{id}"), None).await, 404, "NotFound");
        let send =
            running.chat(&ada, "POST", &format!("/{id}/messages"), Some(json!({ "content": "x" }))).await;
        assert_refused(&send, 404, "NotFound");
        let listed = running.chat(&bob, "GET", "", None).await.json();
        assert_eq!(listed, json!({ "value": [{ "id": id, "topic": "Dinner", "deletedOn": NOW }] }));
    }
}

#[tokio::test]
async fn a_message_lives_in_both_versions() {
    let running = start().await;
    for version in [OLD, NEW] {
        let ada = User { version, ..running.user().await };
        let bob = User { version, ..running.user().await };
        let id = running.thread(&ada, &[&bob]).await;
        let messages = format!("/{id}/messages");
        let body = json!({
            "content": "Grüße", "senderDisplayName": "Ada", "type": "html", "metadata": { "a": "1", "b": "2" },
        });
        let reply = running.chat(&ada, "POST", &messages, Some(body)).await;
        assert_eq!(reply.status, 201, "{}", reply.text);
        let message = (START.as_millis() + 2).to_string();
        assert_eq!(reply.json(), json!({ "id": message }), "after the two of the new thread");
        let location =
            format!("{}/chat/threads/{}/messages/{message}", running.base(), id.replace(':', "%3A"));
        assert_eq!(reply.header("location"), Some(location.as_str()));
        let path = format!("{messages}/{message}");
        let mut wanted = json!({
            "id": message, "type": "html", "sequenceId": "3", "version": message,
            "content": { "message": "Grüße" }, "senderDisplayName": "Ada", "createdOn": NOW,
            "senderCommunicationIdentifier": model(&ada.id), "metadata": { "a": "1", "b": "2" },
        });
        let reply = running.chat(&bob, "GET", &path, None).await;
        assert_eq!((reply.status, reply.json()), (200, wanted.clone()));

        running.clock.advance(std::time::Duration::from_secs(5));
        let change = json!({ "content": "Hi", "metadata": { "c": "3" } });
        let reply = running.chat(&ada, "PATCH", &path, Some(change)).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""));
        wanted["content"]["message"] = "Hi".into();
        wanted["metadata"] = json!({ "c": "3" });
        wanted["editedOn"] = "2026-11-22T12:00:05Z".into();
        wanted["version"] = (START.as_millis() + 5000).to_string().into();
        wanted["sequenceId"] = "4".into();
        assert_eq!(running.chat(&bob, "GET", &path, None).await.json(), wanted);

        let reply = running.chat(&ada, "DELETE", &path, None).await;
        assert_eq!((reply.status, reply.text.as_str()), (204, ""));
        wanted["content"]["message"] = "".into();
        wanted.as_object_mut().unwrap().remove("metadata");
        wanted["deletedOn"] = "2026-11-22T12:00:05Z".into();
        wanted["version"] = (START.as_millis() + 5001).to_string().into();
        assert_eq!(running.chat(&bob, "GET", &path, None).await.json(), wanted);
        let listed = running.chat(&bob, "GET", &messages, None).await.json();
        assert_eq!(listed["value"][0], wanted, "a deleted message stays in the list");
        assert_eq!(running.chat(&ada, "DELETE", &path, None).await.status, 204, "a second time is no error");
        let late = running.chat(&ada, "PATCH", &path, Some(json!({ "content": "Hi" }))).await;
        assert_refused(&late, 404, "NotFound");
        running.clock.set(START);
    }
}

#[tokio::test]
async fn participants_come_and_go_in_both_versions() {
    let running = start().await;
    for version in [OLD, NEW] {
        let ada = User { version, ..running.user().await };
        let (bob, carol) = (running.user().await, running.user().await);
        let id = running.thread(&ada, &[]).await;
        let body = json!({ "participants": [
            { "communicationIdentifier": model(&bob.id), "displayName": "Bob", "metadata": { "a": "1" } },
            { "communicationIdentifier": { "communicationUser": { "id": carol.id } },
              "shareHistoryTime": "2024-05-06T07:08:09Z" },
        ] });
        let add = format!("/{id}/participants/:add");
        let reply = running.chat(&ada, "POST", &add, Some(body.clone())).await;
        assert_eq!((reply.status, reply.json()), (201, json!({})));
        let again = running.chat(&ada, "POST", &add, Some(body)).await;
        assert_eq!((again.status, again.json()), (201, json!({})), "who is there already is no change");

        let mut wanted = json!([
            { "communicationIdentifier": model(&ada.id), "shareHistoryTime": EPOCH },
            { "communicationIdentifier": model(&bob.id), "displayName": "Bob", "shareHistoryTime": EPOCH },
            { "communicationIdentifier": model(&carol.id), "shareHistoryTime": "2024-05-06T07:08:09Z" },
        ]);
        if version == NEW {
            wanted[1]["metadata"] = json!({ "a": "1" });
        }
        let listed = running.all(&ada, &format!("/{id}/participants")).await;
        assert_eq!(Value::from(listed), wanted);

        let remove = format!("/{id}/participants/:remove");
        let body = json!({ "communicationUser": { "id": bob.id } });
        for time in ["first", "second"] {
            let reply = running.chat(&ada, "POST", &remove, Some(body.clone())).await;
            assert_eq!((reply.status, reply.text.as_str()), (204, ""), "the {time} time");
        }
        assert_refused(&running.chat(&bob, "GET", &format!("/{id}"), None).await, 403, "Forbidden");
        assert_eq!(running.chat(&bob, "GET", "", None).await.json(), json!({ "value": [] }));

        // Each change left one message, the ones without effect none.
        let messages = running.all(&ada, &format!("/{id}/messages")).await;
        let kinds: Vec<&str> = messages.iter().map(|message| message["type"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["participantRemoved", "participantAdded", "topicUpdated", "participantAdded"]);
        let sequences: Vec<&str> = messages.iter().map(|m| m["sequenceId"].as_str().unwrap()).collect();
        assert_eq!(sequences, ["4", "3", "2", "1"]);
        let removed = json!({
            "id": messages[0]["id"], "type": "participantRemoved", "sequenceId": "4",
            "version": messages[0]["id"], "createdOn": NOW, "content": {
                "participants": [
                    { "communicationIdentifier": model(&bob.id), "displayName": "Bob", "shareHistoryTime": EPOCH },
                ],
                "initiatorCommunicationIdentifier": model(&ada.id),
            },
        });
        assert_eq!(messages[0], removed, "no sender, no name of one");
        let topic = json!({ "topic": "Lunch", "initiatorCommunicationIdentifier": model(&ada.id) });
        assert_eq!(messages[2]["content"], topic);
    }
}

#[tokio::test]
async fn receipts_and_typing_work_in_both_versions() {
    let running = start().await;
    for version in [OLD, NEW] {
        let ada = User { version, ..running.user().await };
        let bob = User { version, ..running.user().await };
        let id = running.thread(&ada, &[&bob]).await;
        let (first, second) = (running.say(&ada, &id, "1").await, running.say(&ada, &id, "2").await);
        let receipts = format!("/{id}/readReceipts");
        assert_eq!(running.chat(&ada, "GET", &receipts, None).await.json(), json!({ "value": [] }));
        for message in [&first, &second, &first] {
            let reply =
                running.chat(&bob, "POST", &receipts, Some(json!({ "chatMessageId": message }))).await;
            assert_eq!((reply.status, reply.text.as_str()), (200, ""));
            assert_eq!((reply.header("content-type"), reply.header("content-length")), (None, Some("0")));
        }
        running.chat(&ada, "POST", &receipts, Some(json!({ "chatMessageId": first }))).await;
        let receipt = |user: &User, message: &str| {
            json!({
                "senderCommunicationIdentifier": model(&user.id), "chatMessageId": message, "readOn": NOW,
            })
        };
        let wanted = json!({ "value": [receipt(&ada, &first), receipt(&bob, &second)] });
        assert_eq!(
            running.chat(&ada, "GET", &receipts, None).await.json(),
            wanted,
            "one for each, the latest"
        );

        for body in [None, Some(json!({})), Some(json!({ "senderDisplayName": "Bob" }))] {
            let reply = running.chat(&bob, "POST", &format!("/{id}/typing"), body).await;
            assert_eq!((reply.status, reply.text.as_str()), (200, ""));
            assert_eq!((reply.header("content-type"), reply.header("content-length")), (None, Some("0")));
        }
    }
}
