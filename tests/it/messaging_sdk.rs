//! The users of a chat that the broker made go on with the official chat SDK: with the tokens that IssueToken hands out,
//! at ACS itself, without the broker between.
//!
//! `make tools` installs the SDK; without it this fails, as tests/conformance.rs does.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::{Value, json};

use crate::harness::messages::{new_id, participant, sending};
use crate::harness::{BrokerProcess, Emulator, chat, emulator_process};

/// The Python of `make tools`: in `$ACS_BROKER_TOOLS`, or `.tools` beside Cargo.toml.
#[allow(clippy::disallowed_methods, reason = "where the tools are is told as tests/conformance.rs is told")]
fn python() -> PathBuf {
    let tools = std::env::var_os("ACS_BROKER_TOOLS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools"), PathBuf::from);
    let python = tools.join("python/bin/python3");
    assert!(python.exists(), "{} is missing: run `make tools` first", python.display());
    python
}

/// What a user sees with the SDK, and says.
async fn with_the_sdk(emulator: &Emulator, token: &str, thread: &str, text: &str) -> Value {
    let endpoint = emulator.connection_string_tls.split_once("endpoint=").unwrap().1;
    let running = tokio::process::Command::new(python())
        .arg("-B")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sdk/chat_as.py"))
        .env_clear()
        .env("ACS_ENDPOINT", endpoint.split(';').next().unwrap())
        .env("REQUESTS_CA_BUNDLE", &emulator.ca_file)
        .envs([("TOKEN", token), ("THREAD", thread), ("TEXT", text)])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), running).await.expect("it ends").unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_both_users_work_in_the_official_sdk_and_the_broker_sees_what_they_say() {
    let (emulator, folder) = (emulator_process().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    let settings: Vec<_> = sending().into_iter().chain([("STORE__EMBEDDED__PATH", path.as_str())]).collect();
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let mut chats = broker.chats();
    let wish = v1::CreateChatThreadRequest {
        acting_user_id: "alice".into(),
        request_id: new_id(),
        topic: "Order 17".into(),
        participants: vec![participant("bob")],
        ..Default::default()
    };
    let thread = chats.create_chat_thread(wish).await.unwrap().into_inner().thread.unwrap().thread_id;
    let hello = v1::SendChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: thread.clone(),
        request_id: new_id(),
        text: "Where is it?".into(),
        ..Default::default()
    };
    chats.send_chat_message(hello).await.unwrap();

    let mut before = vec!["Where is it?"];
    let mut people = Vec::new();
    let mut tokens = Vec::new();
    for user in ["alice", "bob"] {
        let issued = broker.tokens().await.issue_token(chat(user)).await.unwrap().into_inner();
        people.push(issued.acs_user_id.clone());
        tokens.push(issued);
    }
    people.sort();
    for (issued, text) in tokens.iter().zip(["Has it left?", "An hour ago."]) {
        let seen = with_the_sdk(&emulator, &issued.token, &thread, text).await;
        assert_eq!(
            (&seen["threads"], &seen["topic"], &seen["people"]),
            (&json!([thread]), &json!("Order 17"), &json!(people))
        );
        assert_eq!(seen["before"], json!(before), "newest first");
        before.insert(0, text);

        let list = v1::ListChatMessagesRequest {
            acting_user_id: "bob".into(),
            thread_id: thread.clone(),
            ..Default::default()
        };
        let heard = chats.list_chat_messages(list).await.unwrap().into_inner().messages;
        let newest = &heard[0];
        assert_eq!((newest.text.as_str(), json!(newest.message_id)), (text, seen["sent"].clone()));
        assert_eq!(newest.sender.as_ref().unwrap().acs_user_id, issued.acs_user_id);
    }
    let log = broker.log();
    assert!(tokens.iter().all(|issued| !log.contains(&issued.token)), "no token in the log");
}
