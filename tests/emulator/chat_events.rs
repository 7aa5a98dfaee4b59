//! Chat: which events go to whom, with what in them.

use serde_json::{Value, json};

use crate::emulator::chat::{model, participant};
use crate::emulator::harness::{START, start};

const AT: &str = "2026-11-22T12:00:00.123Z";

/// The kind, and the subject without the thread's part.
fn told(thread: &str, events: &[Value]) -> Vec<(String, String)> {
    let prefix = format!("thread/{thread}/");
    let of = |event: &Value| {
        let subject = event["subject"].as_str().unwrap();
        (event["kind"].as_str().unwrap().to_owned(), subject.strip_prefix(&prefix).unwrap().to_owned())
    };
    events.iter().map(of).collect()
}

/// The data without what differs from run to run.
fn data(event: &Value) -> Value {
    let mut data = event["data"].clone();
    let transaction = data.as_object_mut().unwrap().remove("transactionId").unwrap();
    assert!(transaction.as_str().unwrap().contains(".1.1.1.1."));
    data
}

#[tokio::test]
async fn messages_are_told_to_everybody_but_their_sender_and_to_the_thread() {
    let running = start().await;
    let (ada, bob, carol) = (running.user().await, running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob, &carol]).await;
    let before = running.events(&thread).await.len();
    let path = format!("/{thread}/messages");
    let body = json!({ "content": "hello", "senderDisplayName": "Ada", "metadata": { "a": "1" } });
    let id = running.chat(&ada, "POST", &path, Some(body)).await.json()["id"].as_str().unwrap().to_owned();
    running.chat(&ada, "PATCH", &format!("{path}/{id}"), Some(json!({ "content": "bye" }))).await;
    running.chat(&ada, "DELETE", &format!("{path}/{id}"), None).await;
    running.chat(&ada, "DELETE", &format!("{path}/{id}"), None).await;

    let events = running.events(&thread).await.split_off(before);
    let sender = format!("sender/{}", ada.id);
    let wanted: Vec<(String, String)> = ["Received", "Edited", "Deleted"]
        .iter()
        .flat_map(|what| {
            [
                (format!("ChatMessage{what}"), format!("{sender}/recipient/{}", bob.id)),
                (format!("ChatMessage{what}"), format!("{sender}/recipient/{}", carol.id)),
                (format!("ChatMessage{what}InThread"), sender.clone()),
            ]
        })
        .collect();
    assert_eq!(told(&thread, &events), wanted);

    let number: u64 = id.parse().unwrap();
    let mut received = json!({
        "messageId": id, "messageBody": "hello", "metadata": { "a": "1" }, "type": "Text", "version": number,
        "senderCommunicationIdentifier": model(&ada.id), "senderDisplayName": "Ada", "composeTime": AT,
        "threadId": thread,
    });
    assert_eq!(data(&events[2]), received, "the thread's own has no recipient");
    received["recipientCommunicationIdentifier"] = model(&bob.id);
    assert_eq!(data(&events[0]), received);
    let edited = data(&events[3]);
    assert_eq!((&edited["messageBody"], &edited["editTime"]), (&json!("bye"), &json!(AT)));
    assert_eq!(edited["version"], number + 1);
    let deleted = data(&events[6]);
    assert_eq!(
        (deleted.get("messageBody"), &deleted["deleteTime"]),
        (None, &json!(AT)),
        "nothing of it is told"
    );
    assert_eq!(deleted["version"], number + 2);
}

#[tokio::test]
async fn the_life_of_a_thread_is_told() {
    let running = start().await;
    let (ada, bob) = (running.user().await, running.user().await);
    let body = json!({
        "topic": "Lunch", "metadata": { "a": "1" },
        "participants": [{ "communicationIdentifier": model(&bob.id), "displayName": "Bob" }],
    });
    let created = running.chat(&ada, "POST", "", Some(body)).await.json();
    let thread = created["chatThread"]["id"].as_str().unwrap().to_owned();
    let change = json!({ "topic": "Dinner", "metadata": { "b": "2" } });
    running.chat(&bob, "PATCH", &format!("/{thread}"), Some(change)).await;
    running.chat(&ada, "DELETE", &format!("/{thread}"), None).await;
    running.chat(&ada, "DELETE", &format!("/{thread}"), None).await;

    let events = running.events(&thread).await;
    let (a, b) = (&ada.id, &bob.id);
    let wanted = [
        ("ChatThreadCreatedWithUser", format!("createdBy/{a}/recipient/{b}")),
        ("ChatThreadCreated", format!("createdBy/{a}")),
        ("ChatThreadPropertiesUpdatedPerUser", format!("editedBy/{b}/recipient/{a}")),
        ("ChatThreadPropertiesUpdated", format!("editedBy/{b}")),
        ("ChatThreadWithUserDeleted", format!("deletedBy/{a}/recipient/{b}")),
        ("ChatThreadDeleted", format!("deletedBy/{a}")),
    ];
    assert_eq!(told(&thread, &events), wanted.map(|(kind, subject)| (kind.to_owned(), subject)));
    let who = |id: &str, name: &str| json!({ "displayName": name, "participantCommunicationIdentifier": model(id), "metadata": {} });
    let mut wanted = json!({
        "createdByCommunicationIdentifier": model(a), "properties": { "topic": "Lunch" },
        "metadata": { "a": "1" }, "participants": [who(a, ""), who(b, "Bob")], "createTime": AT,
        "version": START.as_millis(), "threadId": thread,
    });
    assert_eq!(data(&events[1]), wanted);
    wanted["recipientCommunicationIdentifier"] = model(b);
    assert_eq!(data(&events[0]), wanted);
    let wanted = json!({
        "editedByCommunicationIdentifier": model(b), "editTime": AT, "properties": { "topic": "Dinner" },
        "metadata": { "a": "1", "b": "2" }, "createTime": AT, "version": START.as_millis() + 2, "threadId": thread,
    });
    assert_eq!(data(&events[3]), wanted);
    let wanted = json!({
        "deletedByCommunicationIdentifier": model(a), "deleteTime": AT, "createTime": AT,
        "version": START.as_millis() + 3, "threadId": thread,
    });
    assert_eq!(data(&events[5]), wanted);
}

#[tokio::test]
async fn who_comes_and_who_goes_is_told_to_the_others() {
    let running = start().await;
    let (ada, bob, carol) = (running.user().await, running.user().await, running.user().await);
    let thread = running.thread(&ada, &[&bob]).await;
    let before = running.events(&thread).await.len();
    let body = json!({ "participants": [
        { "communicationIdentifier": model(&carol.id), "displayName": "Carol", "metadata": { "a": "1" } },
        participant(&bob.id),
    ] });
    running.chat(&ada, "POST", &format!("/{thread}/participants/:add"), Some(body)).await;
    running.chat(&carol, "POST", &format!("/{thread}/participants/:remove"), Some(model(&carol.id))).await;
    running.chat(&ada, "POST", &format!("/{thread}/participants/:remove"), Some(model(&carol.id))).await;

    let events = running.events(&thread).await.split_off(before);
    let (a, b, c) = (&ada.id, &bob.id, &carol.id);
    let wanted = [
        ("ChatParticipantAddedToThreadWithUser", format!("participantAdded/{c}/recipient/{b}")),
        ("ChatParticipantAddedToThreadWithUser", format!("participantAdded/{c}/recipient/{c}")),
        ("ChatThreadParticipantAdded", format!("participantadded/{c}")),
        ("ChatParticipantRemovedFromThreadWithUser", format!("participantRemoved/{c}/recipient/{a}")),
        ("ChatParticipantRemovedFromThreadWithUser", format!("participantRemoved/{c}/recipient/{b}")),
        ("ChatThreadParticipantRemoved", format!("participantremoved/{c}")),
    ];
    assert_eq!(told(&thread, &events), wanted.map(|(kind, subject)| (kind.to_owned(), subject)));
    let who = json!({
        "displayName": "Carol", "participantCommunicationIdentifier": model(c), "metadata": { "a": "1" },
    });
    let wanted = json!({
        "time": AT, "addedByCommunicationIdentifier": model(a), "participantAdded": who, "createTime": AT,
        "version": START.as_millis() + 2, "threadId": thread,
    });
    assert_eq!(data(&events[2]), wanted);
    let wanted = json!({
        "time": AT, "removedByCommunicationIdentifier": model(c), "participantRemoved": who, "createTime": AT,
        "version": START.as_millis() + 3, "threadId": thread,
    });
    assert_eq!(data(&events[5]), wanted);
}

#[tokio::test]
async fn where_many_join_at_once_each_is_told_of_itself_alone() {
    let running = start().await;
    let ada = running.user().await;
    let mut participants = Vec::new();
    for _ in 0..51 {
        participants.push(participant(&running.create().await));
    }
    let body = json!({ "topic": "x", "participants": participants });
    let created = running.chat(&ada, "POST", "", Some(body.clone())).await.json();
    let thread = created["chatThread"]["id"].as_str().unwrap();
    let events = running.events(thread).await;
    assert_eq!(events.len(), 52, "51 who were named, and the thread");
    let named = |event: &Value| event["data"]["participants"].as_array().unwrap().len();
    assert!(events[..51].iter().all(|event| named(event) == 1));
    assert_eq!(named(&events[51]), 52);

    let thread = running.thread(&ada, &[]).await;
    let before = running.events(&thread).await.len();
    running.chat(&ada, "POST", &format!("/{thread}/participants/:add"), Some(body)).await;
    let events = running.events(&thread).await.split_off(before);
    assert_eq!(events.len(), 102, "one for each who joined, and one for the thread of each");
}
