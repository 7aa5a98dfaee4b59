//! Mail, chat and their events over the control API: each kind through its own API, seen in one inbox.

use std::time::Duration;

use serde_json::{Value, json};

use super::harness::{Call, Running, client_builder, start};
use crate::emulator_control::{Control, Seeded};

const LONG: Duration = Duration::from_secs(30);

/// Sends a mail through the Email API, signed, and returns its operation's id.
async fn send_mail(running: &Running, subject: &str) -> String {
    let body = json!({
        "senderAddress": "DoNotReply@contoso.example",
        "recipients": { "to": [{ "address": "alice@example.com", "displayName": "Alice" }],
                        "bcc": [{ "address": "bob@example.com" }] },
        "content": { "subject": subject, "plainText": "Your code is 123456.", "html": "<p>Your code</p>" },
        "attachments": [{ "name": "a.txt", "contentType": "text/plain", "contentInBase64": "aGVsbG8=" }],
    });
    let reply =
        running.send(Call::new("POST", "/emails:send?api-version=2023-03-31").body(body.to_string())).await;
    assert_eq!(reply.status, 202, "{}", reply.text);
    reply.json()["id"].as_str().unwrap().to_owned()
}

/// A call of the Chat API by a user.
async fn chat(running: &Running, user: &Seeded, path: &str, body: &Value) -> Value {
    let url = format!("{}/chat/threads{path}?api-version=2024-03-07", running.base());
    let request = client_builder().build().unwrap().post(url).bearer_auth(user.token.as_ref().unwrap());
    let response = request.json(body).send().await.unwrap();
    assert_eq!(response.status(), 201, "{path}");
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_mail_is_found_with_its_parts_and_can_be_opened_by_its_recipient() {
    let running = start().await;
    let control = Control::at(running.base());
    let id = send_mail(&running, "Grüße aus Köln").await;
    let wanted = json!({ "kind": "email", "to": "BOB@example.com", "contains": "KÖLN" });
    let mail = control.wait(wanted, 1, LONG).await.unwrap().remove(0);
    assert_eq!((&mail.id, mail.attachments), (&id, 1));
    let detail = control.message(&id).await.unwrap().detail;
    assert_eq!(detail["bcc"][0]["address"], "bob@example.com");
    assert_eq!(detail["html"], "<p>Your code</p>");
    assert_eq!(control.get(&format!("emails/{id}/source")).await.status, 200);
    assert_eq!(control.get(&format!("emails/{id}/preview")).await.status, 200);
    let attachment = control.get(&format!("emails/{id}/attachments/0")).await;
    assert_eq!((attachment.status, attachment.body), (200, json!("hello")));
    assert_eq!(control.get(&format!("emails/{id}/attachments/1")).await.status, 404);

    control.advance("1h").await;
    let delivered = json!({ "kind": "email", "status": "Succeeded" });
    assert_eq!(control.wait(delivered, 1, LONG).await.unwrap()[0].id, id);
    control.engage(&id, "alice@example.com", "view").await;
    control.engage(&id, "alice@example.com", "click").await;
    let kinds: Vec<Value> = control.events(0).await.iter().map(|event| event["kind"].clone()).collect();
    let engaged = kinds.iter().filter(|kind| **kind == "EmailEngagementTrackingReportReceived").count();
    assert_eq!(engaged, 2, "{kinds:?}");
    for (id, body, status) in [
        (id.as_str(), json!({ "recipient": "carol@example.com", "type": "view" }), 400),
        (&id, json!({ "recipient": "alice@example.com", "type": "print" }), 400),
        ("none", json!({ "recipient": "alice@example.com", "type": "view" }), 404),
    ] {
        let answered = control.post(&format!("emails/{id}/engagement"), &body).await;
        assert_eq!(answered.refused().0, status, "{body}");
    }
}

#[tokio::test]
async fn a_chat_message_is_found_by_an_id_that_holds_a_slash() {
    let running = start().await;
    let control = Control::at(running.base());
    let users = control.seed(json!([{ "custom_id": "ada", "scopes": ["chat"] }])).await;
    let created = chat(&running, &users[0], "", &json!({ "topic": "Plans" })).await;
    let thread = created["chatThread"]["id"].as_str().unwrap();
    let path = format!("/{}/messages", thread.replace(':', "%3A").replace('@', "%40"));
    let sent = chat(&running, &users[0], &path, &json!({ "content": "Hello all" })).await;
    let message =
        control.wait(json!({ "thread": thread, "contains": "hello" }), 1, LONG).await.unwrap().remove(0);
    assert_eq!(message.id, format!("{thread}/{}", sent["id"].as_str().unwrap()));
    assert_eq!((message.from.as_str(), message.subject.as_deref()), (users[0].id.as_str(), Some("Plans")));
    assert_eq!(control.message(&message.id).await.unwrap().message, message);
    assert_eq!(control.messages(&[("thread", thread)]).await.messages, [message]);

    let threads = control.threads().await;
    assert_eq!(threads.len(), 1);
    assert_eq!((&threads[0]["id"], &threads[0]["topic"]), (&json!(thread), &json!("Plans")));
    let counts = control.status().await["counts"].clone();
    assert_eq!((&counts["threads"], &counts["chat"]), (&json!(1), &json!(1)));
}

#[tokio::test]
async fn the_inbox_is_in_the_order_of_arrival_whatever_the_kind() {
    let running = start().await;
    let control = Control::at(running.base());
    let users = control.seed(json!([{ "scopes": ["chat"] }])).await;
    let thread = chat(&running, &users[0], "", &json!({ "topic": "Plans" })).await;
    let thread = thread["chatThread"]["id"].as_str().unwrap();
    let path = format!("/{}/messages", thread.replace(':', "%3A").replace('@', "%40"));
    for number in 0..3 {
        super::control_messages::send_sms(&running, super::control_messages::ALICE, &format!("{number}"))
            .await;
        chat(&running, &users[0], &path, &json!({ "content": format!("{number}") })).await;
        send_mail(&running, &format!("{number}")).await;
    }
    let kinds = |limit| {
        let control = control.clone();
        async move {
            let page = control.messages(&[("limit", limit)]).await;
            assert!(page.messages.is_sorted_by(|newer, older| newer.sequence > older.sequence));
            (page.messages.into_iter().map(|message| message.kind).collect::<Vec<_>>(), page.more)
        }
    };
    assert_eq!(kinds("4").await, (["email", "chat", "sms", "email"].map(String::from).to_vec(), true));
    assert_eq!(kinds("100").await.0, ["email", "chat", "sms"].repeat(3));
}

#[tokio::test]
async fn a_wait_sees_a_chat_message_change_its_text() {
    let running = start().await;
    let control = Control::at(running.base());
    let users = control.seed(json!([{ "scopes": ["chat"] }])).await;
    let thread = chat(&running, &users[0], "", &json!({ "topic": "Plans" })).await;
    let thread = thread["chatThread"]["id"].as_str().unwrap().replace(':', "%3A").replace('@', "%40");
    let sent = chat(&running, &users[0], &format!("/{thread}/messages"), &json!({ "content": "Helo" })).await;
    let url = format!(
        "{}/chat/threads/{thread}/messages/{}?api-version=2024-03-07",
        running.base(),
        sent["id"].as_str().unwrap()
    );
    let (waited, ()) = tokio::join!(control.wait(json!({ "contains": "hello" }), 1, LONG), async {
        while control.status().await["watching"]["waits"] != 1 {}
        let request =
            client_builder().build().unwrap().patch(url).bearer_auth(users[0].token.as_ref().unwrap());
        let request = request.header("content-type", "application/merge-patch+json");
        assert_eq!(request.body(r#"{"content":"Hello"}"#).send().await.unwrap().status(), 204);
    });
    assert_eq!(waited.unwrap()[0].text, "Hello");
}
