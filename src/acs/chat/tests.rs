//! What chat calls put on the wire and what they make of the answers, against scripted servers.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::testing::{Play, Received, Server, client, settings};
use super::*;

const THREAD: &str = "19:abc_def-1@thread.v2";
const ALICE: &str = "8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";
const TOKEN: &str = "header.payload.signature";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn party(id: &str) -> Value {
    json!({ "rawId": id, "communicationUser": { "id": id } })
}

fn thread() -> Value {
    json!({
        "id": THREAD, "topic": "t", "createdOn": "2026-11-22T12:00:00Z",
        "createdByCommunicationIdentifier": party(ALICE), "metadata": { "k": "v" }
    })
}

/// Makes one call to a server that answers so; what it made of the answer, and what was sent.
async fn one<T, F>(answer: Play, call: impl FnOnce(super::super::Client, Secret) -> F) -> (T, Received)
where
    F: Future<Output = T>,
{
    let server = Server::start([answer]).await;
    let result = call(client(&settings(), &server.endpoint()), Secret::new(TOKEN)).await;
    let mut received = server.received();
    assert_eq!(received.len(), 1);
    (result, received.remove(0))
}

fn body(received: &Received) -> Value {
    serde_json::from_str(&received.body).unwrap()
}

#[tokio::test]
async fn calls_bring_the_users_token_and_no_signature() {
    let (read, received) = one(Play::json(200, &thread().to_string()), async |client, token| {
        client.chat(&token).thread(THREAD, soon()).await
    })
    .await;
    assert_eq!(read.unwrap().metadata, BTreeMap::from([("k".to_owned(), "v".to_owned())]));
    assert_eq!(received.target, "/chat/threads/19%3Aabc_def-1%40thread.v2?api-version=2025-03-15");
    assert_eq!(received.header("authorization"), format!("Bearer {TOKEN}"));
    assert!(
        !received.headers.iter().any(|(name, _)| name.starts_with("x-ms-content") || name == "x-ms-date")
    );
}

#[tokio::test]
async fn a_thread_is_created_under_an_id_of_the_callers() {
    let answer = json!({
        "chatThread": thread(),
        "invalidParticipants": [{ "code": "403", "message": format!("Permissions check failed for {ALICE}"), "target": ALICE }]
    });
    let participants = [Participant {
        party: Party { id: ALICE.to_owned() },
        display_name: "Alice".to_owned(),
        share_history: Some(Timestamp::from_millis(1_741_064_767_999)),
    }];
    let (created, received) = one(Play::json(201, &answer.to_string()), async |client, token| {
        let id = uuid::Uuid::from_u128(9);
        client.chat(&token).create_thread(id, "t", &participants, &BTreeMap::new(), soon()).await
    })
    .await;
    let (thread, refused) = created.unwrap();
    assert_eq!((thread.id.as_str(), thread.creator.unwrap().id.as_str()), (THREAD, ALICE));
    assert_eq!((refused[0].id.as_str(), refused[0].code.as_deref()), (ALICE, Some("403")));
    assert!(!refused[0].message.as_ref().unwrap().contains(ALICE));
    assert_eq!(received.header("repeatability-request-id"), "00000000-0000-0000-0000-000000000009");
    assert_eq!(
        body(&received),
        json!({ "topic": "t", "participants": [{
            "communicationIdentifier": party(ALICE), "displayName": "Alice",
            "shareHistoryTime": "2025-03-04T05:06:07Z"
        }] })
    );
}

#[tokio::test]
async fn changes_are_merge_patches_that_hold_only_what_changes() {
    let (done, received) = one(Play::no_content(), async |client, token| {
        client.chat(&token).update_message(THREAD, "17", Some("new"), None, soon()).await
    })
    .await;
    done.unwrap();
    assert_eq!(received.method, "PATCH");
    assert_eq!(
        received.target,
        "/chat/threads/19%3Aabc_def-1%40thread.v2/messages/17?api-version=2025-03-15"
    );
    assert_eq!(received.header("content-type"), "application/merge-patch+json");
    assert_eq!(body(&received), json!({ "content": "new" }));
}

#[tokio::test]
async fn a_message_that_may_have_been_sent_is_never_sent_again() {
    let server = Server::start([Play::Reset, Play::json(201, r#"{"id":"1"}"#)]).await;
    let client = client(&settings(), &server.endpoint());
    let token = Secret::new(TOKEN);
    let error = client
        .chat(&token)
        .send_message(THREAD, "private words", false, None, &BTreeMap::new(), soon())
        .await
        .unwrap_err();
    assert_eq!((error.class(), server.received().len()), (Class::PerhapsSent, 1));
    assert!(!format!("{error} {error:?}").contains("private words"));
}

#[tokio::test]
async fn a_list_goes_on_where_the_link_leads_but_never_to_another_host() {
    let link = "https://elsewhere.example/chat/threads/19:x@thread.v2/messages?syncState=ab%2Bc&startTime=1&\
                maxPageSize=2&api-version=2025-03-15&evil=1";
    let message = json!({
        "id": "1", "type": "text", "sequenceId": "3", "version": "1", "content": { "message": "hi" },
        "senderDisplayName": "", "createdOn": "2026-11-22T12:00:00Z",
        "senderCommunicationIdentifier": party(ALICE)
    });
    let first = json!({ "value": [message], "nextLink": link });
    let server =
        Server::start([Play::json(200, &first.to_string()), Play::json(200, r#"{"value":[]}"#)]).await;
    let client = client(&settings(), &server.endpoint());
    let token = Secret::new(TOKEN);
    let range = Range { size: Some(2), since: Some(Timestamp::from_millis(1_741_064_767_000)), from: None };
    let page = client.chat(&token).messages(THREAD, range, soon()).await.unwrap();
    assert_eq!((page.entries.len(), page.entries[0].sequence), (1, 3));
    let next = page.next.unwrap();
    let last =
        client.chat(&token).messages(THREAD, Range { from: Some(&next), ..range }, soon()).await.unwrap();
    assert!(last.next.is_none() && last.entries.is_empty());
    let received = server.received();
    let path = "/chat/threads/19%3Aabc_def-1%40thread.v2/messages?api-version=2025-03-15";
    assert_eq!(received[0].target, format!("{path}&maxPageSize=2&startTime=2025-03-04T05%3A06%3A07Z"));
    assert_eq!(received[1].target, format!("{path}&syncState=ab%2Bc&startTime=1&maxPageSize=2"));
    let invented = Range { from: Some("api-version=1&x=2"), ..range };
    let error = client.chat(&token).messages(THREAD, invented, soon()).await.err().unwrap();
    assert_eq!((error.class(), error.target()), (Class::Rejected, Some("from")));
}

#[tokio::test]
async fn a_refused_token_is_told_from_a_user_who_may_not() {
    let refusal = |code: &str| format!(r#"{{"CommunicationError":{{"Code":"{code}","Details":[]}}}}"#);
    for (status, code, class) in [
        (401, "Unauthorized", Class::TokenRefused),
        (403, "Forbidden", Class::Rejected),
        (404, "NotFound", Class::Rejected),
    ] {
        let (read, _) = one(Play::json(status, &refusal(code)), async |client, token| {
            client.chat(&token).thread(THREAD, soon()).await.map(drop)
        })
        .await;
        let error = read.unwrap_err();
        assert_eq!((error.class(), error.code()), (class, Some(code)));
    }
}

#[tokio::test]
async fn what_is_gone_needs_no_removing() {
    let (deleted, _) = one(Play::json(404, ""), async |client, token| {
        client.chat(&token).delete_thread(THREAD, soon()).await
    })
    .await;
    deleted.unwrap();
}

#[tokio::test]
async fn notifications_expect_nothing_back() {
    let empty = || Play::with(200, "", "");
    let (sent, received) =
        one(empty(), async |client, token| client.chat(&token).send_read_receipt(THREAD, "17", soon()).await)
            .await;
    sent.unwrap();
    assert_eq!(body(&received), json!({ "chatMessageId": "17" }));
    let (sent, received) = one(empty(), async |client, token| {
        client.chat(&token).send_typing(THREAD, Some("Alice"), soon()).await
    })
    .await;
    sent.unwrap();
    assert_eq!(body(&received), json!({ "senderDisplayName": "Alice" }));
}

#[tokio::test]
async fn system_messages_are_read_with_whom_they_concern() {
    let message = json!({
        "id": "1", "type": "participantAdded", "sequenceId": "1", "version": "1",
        "createdOn": "2026-11-22T12:00:00Z",
        "content": {
            "participants": [{ "communicationIdentifier": party(ALICE), "displayName": "Alice", "shareHistoryTime": "1970-01-01T00:00:00Z" }],
            "initiatorCommunicationIdentifier": party(ALICE)
        }
    });
    let (read, _) = one(Play::json(200, &message.to_string()), async |client, token| {
        client.chat(&token).message(THREAD, "1", soon()).await
    })
    .await;
    let read = read.unwrap();
    assert_eq!(
        (read.participants[0].display_name.as_str(), read.initiator.unwrap().id.as_str()),
        ("Alice", ALICE)
    );
    assert!(read.sender.is_none() && read.text.is_none());
}

proptest! {
    #[test]
    fn no_place_to_go_on_can_name_anything_but_the_list(place in "[ -~]{0,80}") {
        if let Some(query) = wire::continuation(&place) {
            let known = ["syncState", "startTime", "maxPageSize", "skip"];
            prop_assert!(query.iter().all(|(name, _)| known.contains(name)));
        }
    }
}
