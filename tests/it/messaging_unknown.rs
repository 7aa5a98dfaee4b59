//! A chat message whose answer was lost: while its caller asks for nothing more, one broker of the fleet finds it in the
//! thread, and everybody may know.

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::json;

use crate::harness::messages::{Clients, Fleet, new_id, reason};
use crate::harness::{emulator_with, until};

const MESSAGES: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_chat_message_is_found_by_one_replica_without_a_repetition() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let fleet = Fleet::start(&emulator, 3, &[]).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let wish = v1::CreateChatThreadRequest {
        acting_user_id: "alice".into(),
        request_id: new_id(),
        topic: "Order 17".into(),
        ..Default::default()
    };
    let thread = clients[0].chat.clone().create_chat_thread(wish).await.unwrap().into_inner();
    let thread_id = thread.thread.unwrap().thread_id;
    let get = |request_id: &str| v1::GetChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: thread_id.clone(),
        request_id: request_id.into(),
        ..Default::default()
    };
    // The answers are lost, and the thread cannot be read at once.
    emulator.api().fault(json!({ "operation": "send_message", "effect": "drop", "commit": "after" })).await;
    emulator.api().fault(json!({ "operation": "list_messages", "effect": "answer", "status": 503 })).await;
    let mut requests = Vec::new();
    for number in 0..MESSAGES {
        let request_id = new_id();
        let wish = v1::SendChatMessageRequest {
            acting_user_id: "alice".into(),
            thread_id: thread_id.clone(),
            request_id: request_id.clone(),
            text: format!("message {number}"),
            ..Default::default()
        };
        let lost = clients[number % 3].chat.clone().send_chat_message(wish).await.unwrap_err();
        assert_eq!(reason(&lost), "OUTCOME_UNKNOWN", "{lost:?}");
        let unknown = clients[0].chat.clone().get_chat_message(get(&request_id)).await.unwrap_err();
        assert_eq!(reason(&unknown), "OUTCOME_UNKNOWN");
        requests.push(request_id);
    }
    emulator.api().clear_faults(None).await;
    let looks_before = emulator.api().calls().await["list_messages"];
    for (number, request_id) in requests.iter().enumerate() {
        let mut found = None;
        let client = &clients[(number + 1) % 3];
        // A broker looks again every few seconds; later if it failed before.
        for _ in 0..4 {
            let known = async || client.chat.clone().get_chat_message(get(request_id)).await;
            if let Ok(answer) = known().await {
                found = Some(answer.into_inner().message.unwrap());
                break;
            }
            let waited = tokio::time::timeout(
                Duration::from_secs(9),
                until("it is found", async || known().await.is_ok()),
            );
            let _ = waited.await;
        }
        assert_eq!(found.expect("found while nobody repeats").text, format!("message {number}"));
    }
    let looks = emulator.api().calls().await["list_messages"] - looks_before;
    let counts = emulator.api().status().await["counts"].clone();
    println!("{MESSAGES} lost answers: found with {looks} looks by a fleet of 3; at ACS {counts}");
    assert_eq!(counts["chat"], MESSAGES, "none is sent again");
    assert!(looks <= 2 * MESSAGES as u64, "one replica looks for all: {looks}");
    let nobodys = clients[0].chat.clone().get_chat_message(get(&new_id())).await.unwrap_err();
    assert_eq!(reason(&nobodys), "MESSAGE_NOT_FOUND");
    let both = v1::GetChatMessageRequest { message_id: "1".into(), ..get(&requests[0]) };
    let refused = clients[0].chat.clone().get_chat_message(both).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELD");
}
