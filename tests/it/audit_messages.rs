//! The audit's records of what was sent: each names its messages as ACS does, so that an auditor finds them in ACS's own
//! logs, and as nobody else may.

use std::path::Path;
use std::time::Duration;

use acs_broker::audit::{Whom, subject_hash};
use acs_broker::grpc::proto::v1;
use acs_broker::secret::Secret;
use serde_json::{Value, json};

use crate::audit::{KEY, command, records};
use crate::harness::messages::{mail, new_id, participant, recipient, sending, sms};
use crate::harness::{BrokerProcess, emulator_process};

/// What was done, by the name of the effect.
fn effects(folder: &Path, name: &str) -> Vec<Value> {
    let all = records(&folder.join("audit.log")).into_iter();
    all.filter(|record| record["kind"] == "effect" && record["effect"] == name).collect()
}

fn hashes(record: &Value, whom: Whom) -> Vec<String> {
    let on = record["for"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned());
    on.filter(|one| one.starts_with(whom.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_on_record_under_the_ids_that_acs_knows_it_by() {
    // The emulator refuses one of these and has never heard of the other.
    const REFUSED: &str = "+12065550133";
    const NO_MESSAGE: &str = "1591137790999";
    let (emulator, folder) = (emulator_process().await, tempfile::tempdir().unwrap());
    let key = folder.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let text = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (file, key, store) = (text("audit.log"), text("key"), text("store.redb"));
    let more = [
        ("AUDIT__FILE", file.as_str()),
        ("AUDIT__KEY_FILE", key.as_str()),
        ("STORE__EMBEDDED__PATH", store.as_str()),
    ];
    let settings: Vec<_> = sending().into_iter().chain(more).collect();
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;

    let to = vec![recipient(1), REFUSED.to_owned(), recipient(2)];
    broker.sms().send_sms(sms(&new_id(), to, "hello")).await.unwrap();
    let wish = mail(&new_id(), "somebody@example.com", "a subject");
    broker.email().send_email(wish).await.unwrap();
    let create = v1::CreateChatThreadRequest {
        acting_user_id: "alice".into(),
        request_id: new_id(),
        topic: "t".into(),
        participants: vec![participant("alice")],
        ..Default::default()
    };
    let created = broker.chats().create_chat_thread(create).await.unwrap().into_inner();
    let thread_id = created.thread.unwrap().thread_id;
    let say = v1::SendChatMessageRequest {
        acting_user_id: "alice".into(),
        thread_id: thread_id.clone(),
        request_id: new_id(),
        text: "hello".into(),
        ..Default::default()
    };
    let said = broker.chats().send_chat_message(say).await.unwrap().into_inner().message_id;
    for message_id in [said, NO_MESSAGE.to_owned()] {
        let (acting_user_id, thread_id) = ("alice".to_owned(), thread_id.clone());
        let delete = v1::DeleteChatMessageRequest { acting_user_id, thread_id, message_id };
        let _ = broker.chats().delete_chat_message(delete).await;
    }

    // What ACS has, by its own ids.
    let there = emulator.api().wait(json!({ "kind": "sms" }), 2, Duration::from_secs(10)).await.unwrap();
    let sms_id = |number: &str| {
        let found = there.iter().find(|message| message.to == [number]);
        found.map(|message| message.id.clone()).unwrap()
    };
    let mails = emulator.api().wait(json!({ "kind": "email" }), 1, Duration::from_secs(10)).await.unwrap();
    let chats = emulator.api().wait(json!({ "kind": "chat" }), 1, Duration::from_secs(10)).await.unwrap();
    let (thread, message) = chats[0].id.split_once('/').unwrap();
    broker.terminate().await;

    let key = Secret::new(KEY);
    let (taken, refused): (Vec<_>, Vec<_>) =
        effects(folder.path(), "sms_sent").into_iter().partition(|record| record["outcome"] == "ok");
    let ([taken], [refused, ..]) = (taken.as_slice(), refused.as_slice()) else { panic!("{taken:?}") };
    assert_eq!(refused["outcome"], "refused");
    assert_eq!(taken["message_ids"], json!([sms_id(&recipient(1)), sms_id(&recipient(2))]));
    let whom = [recipient(1), recipient(2)].map(|number| subject_hash(&key, Whom::Recipient, &number));
    assert_eq!(hashes(taken, Whom::Recipient), whom, "in the order of the ids");
    assert_eq!(hashes(refused, Whom::Recipient), [subject_hash(&key, Whom::Recipient, REFUSED)]);
    assert_eq!(refused.get("message_ids"), None);

    let sent = effects(folder.path(), "mail_sent");
    assert_eq!((sent.len(), &sent[0]["message_ids"]), (1, &json!([mails[0].id])));

    let sent = effects(folder.path(), "chat_message_sent");
    assert_eq!((sent.len(), &sent[0]["message_ids"]), (1, &json!([message])));
    // The thread stands there as a hash, which whoever has ACS's logs and the key computes.
    assert_eq!(hashes(&sent[0], Whom::Thread), [subject_hash(&key, Whom::Thread, thread)]);
    let deleted = effects(folder.path(), "chat_message_deleted");
    let ids: Vec<_> = deleted.iter().map(|record| record.get("message_ids").cloned()).collect();
    assert_eq!(ids, [Some(json!([message])), None], "what ACS does not confirm is no id of its");

    let text = std::fs::read_to_string(&file).unwrap();
    for plain in [NO_MESSAGE, thread, &REFUSED[1..], &recipient(1)[1..], "somebody@", "hello"] {
        assert!(!text.contains(plain), "{plain}");
    }
    let whole = command(&["audit", "verify", "--key-file", &text_of(folder.path(), "key"), &file]);
    assert!(whole.status.success(), "{whole:?}");
}

fn text_of(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}
