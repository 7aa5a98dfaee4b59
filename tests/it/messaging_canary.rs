//! A canary test of messages: no number, address, text or subject in any log at TRACE, in metrics or in an error; and
//! no text or subject that was sent anywhere in what the store ever wrote down.
//!
//! Each of them is found nowhere else. They go through every RPC that takes them and through its failures, on both
//! stores. Redis writes its commands to a file as they come, so that what was kept only for a moment is found too.

use std::path::Path;

use acs_broker::grpc::proto::v1;
use serde_json::json;
use tonic::Status;

use crate::harness::messages::{address, new_id, participant, sending};
use crate::harness::{BrokerProcess, WEBHOOK_SECRET, emulator_process, until};
use crate::redis_server::RedisServer;

const NUMBER: &str = "+14255559731";
const OPTED: &str = "+14255559732";
const INBOUND: &str = "+14255559733";
/// Numbers and addresses, which the record of a message holds because they are asked for.
const PEOPLE: [&str; 9] = [
    "4255559731",
    "4255559732",
    "4255559733",
    "canary-to-6c1d@",
    "canary-cc-6c1d@",
    "canary-bcc-6c1d@",
    "canary-reply-6c1d@",
    "canary-name-6c1d",
    "canary-user-6c1d",
];
/// What is never kept.
const CONTENTS: [&str; 12] = [
    "canary-sms-text-e5a2",
    "canary-subject-e5a2",
    "canary-plain-e5a2",
    "canary-html-e5a2",
    "canary-file-e5a2",
    "Y2FuYXJ5LWZpbGUtZTVhM",
    "canary-filename-e5a2",
    "canary-header-e5a2",
    "canary-topic-e5a2",
    "canary-chat-e5a2",
    "canary-edited-e5a2",
    "canary-metadata-e5a2",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_number_address_text_or_subject_is_said_aloud_and_no_text_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    said_nothing(&[("STORE__EMBEDDED__PATH", &path)], folder.path(), async || {}).await;

    let redis = RedisServer::start_with(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]);
    let (url, folder) = (redis.url(), redis.folder().to_owned());
    let redis = std::sync::Mutex::new(redis);
    let settings = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", url.as_str())];
    said_nothing(&settings, &folder, async || redis.lock().unwrap().kill()).await;
}

async fn said_nothing(settings: &[(&str, &str)], kept_in: &Path, break_the_store: impl AsyncFnOnce()) {
    let emulator = emulator_process().await;
    let settings: Vec<_> = sending()
        .into_iter()
        .filter(|(key, _)| *key != "STORE__REDIS__TIMEOUT")
        .chain(settings.iter().copied())
        .chain([("TELEMETRY__FILTER", "trace")])
        .collect();
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    // What happens in a chat is told with its text, and so is kept until it is told: reports and what people send to
    // the resource are taken in here, chats are not.
    let kinds = ["SMSDeliveryReportReceived", "EmailDeliveryReportReceived", "SMSReceived"];
    emulator.post_events_to(json!([{ "url": broker.webhook_with_secret(), "kinds": kinds }])).await;
    let mut errors = Vec::new();
    let sent = calls(&broker, &mut errors).await;
    assert!(sent >= 5, "messages were sent, a thread was made: {sent} of 5; {errors:?}");
    emulator.api().receive_sms(INBOUND, crate::harness::messages::NUMBER, "told to watchers").await;
    let webhook = broker.webhook_with_secret();
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for body in [format!("[{{\"data\":\"{NUMBER} {}\"}}]", CONTENTS[0]), format!("{NUMBER} {}", CONTENTS[0])]
    {
        let request = http.post(&webhook).header("content-type", "application/json").body(body);
        let answer = request.send().await.unwrap();
        errors.push(Status::unknown(String::from_utf8_lossy(&answer.bytes().await.unwrap())));
    }
    until("reports were taken in", async || broker.admin().await.contains("kind=\"sms_received\"")).await;
    for operation in ["send_sms", "send_email", "send_message", "create_thread"] {
        let refusal = json!({ "operation": operation, "effect": "answer", "status": 400, "count": 1 });
        emulator.api().fault(refusal).await;
    }
    calls(&broker, &mut errors).await;
    let kept = everything_in(kept_in);
    break_the_store().await;
    calls(&broker, &mut errors).await;
    let emulator_log = emulator.log();
    drop(emulator);
    calls(&broker, &mut errors).await;

    let (log, admin, errors) = (broker.log(), broker.admin().await, format!("{errors:?}"));
    assert!(log.contains("\"level\":\"DEBUG\"") && log.contains("SendSms"), "there is something to search");
    for (name, said) in
        [("log", &log), ("emulator's log", &emulator_log), ("metrics", &admin), ("errors", &errors)]
    {
        for secret in PEOPLE.iter().chain(&CONTENTS).chain([&WEBHOOK_SECRET]) {
            if let Some(at) = said.find(secret) {
                let around = &said[at.saturating_sub(300)..at];
                panic!("the {name} holds {secret} after: {around}");
            }
        }
    }
    // The search finds what is there.
    let find = |text: &str| kept.windows(text.len()).position(|part| part == text.as_bytes());
    assert!(find("sms_").is_some() && kept.len() > 1000, "{} bytes were kept", kept.len());
    for content in CONTENTS {
        if let Some(at) = find(content) {
            let around = String::from_utf8_lossy(&kept[at.saturating_sub(300)..at]).into_owned();
            panic!("the store holds {content} after: {around}");
        }
    }
    println!(
        "canary: {} bytes of log, {} of the emulator's, {} of errors, {} of the store searched",
        log.len(),
        emulator_log.len(),
        errors.len(),
        kept.len()
    );
}

/// The bytes of every file under a folder.
fn everything_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            bytes.extend(everything_in(&path));
        } else {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

/// Every RPC of messages, well and badly asked; says how many of the five that send or make something succeeded.
async fn calls(broker: &BrokerProcess, errors: &mut Vec<Status>) -> usize {
    let mut done = 0;
    let wish = v1::SendSmsRequest {
        request_id: new_id(),
        to: vec![NUMBER.into()],
        text: CONTENTS[0].into(),
        enable_delivery_report: true,
        ..Default::default()
    };
    let request_id = wish.request_id.clone();
    let sms = broker.sms();
    for wish in [
        wish.clone(),
        wish.clone(),
        v1::SendSmsRequest { text: format!("{} again", CONTENTS[0]), ..wish.clone() },
        v1::SendSmsRequest { to: vec![NUMBER.into(), NUMBER.into()], ..wish.clone() },
        v1::SendSmsRequest { to: vec![format!("{NUMBER}x")], from: NUMBER.into(), ..wish.clone() },
        v1::SendSmsRequest { text: CONTENTS[0].repeat(200), tag: CONTENTS[0].repeat(20), ..wish },
    ] {
        match sms.clone().send_sms(wish).await {
            Ok(_) => done += 1,
            Err(error) => errors.push(error),
        }
    }
    let name = Some(v1::get_sms_request::Name::RequestId(request_id));
    errors.extend(sms.clone().get_sms(v1::GetSmsRequest { name }).await.err());
    let name = Some(v1::get_sms_request::Name::SmsId(NUMBER.into()));
    errors.extend(sms.clone().get_sms(v1::GetSmsRequest { name }).await.err());
    let recipients = vec![OPTED.to_owned()];
    let add = v1::AddSmsOptOutsRequest { from: String::new(), recipients: recipients.clone() };
    errors.extend(sms.clone().add_sms_opt_outs(add).await.err());
    let check = v1::CheckSmsOptOutsRequest { from: OPTED.into(), recipients };
    errors.extend(sms.clone().check_sms_opt_outs(check).await.err());

    let file = v1::EmailAttachment {
        name: format!("{}.txt", CONTENTS[6]),
        content_type: "text/plain".into(),
        // Its base64 begins with the fifth of the contents.
        content: b"canary-file-e5a3 canary-file-e5a2".to_vec(),
        ..Default::default()
    };
    let shown = |address: &str| v1::EmailAddress { address: address.into(), display_name: PEOPLE[7].into() };
    let mail = v1::SendEmailRequest {
        request_id: new_id(),
        to: vec![shown("canary-to-6c1d@example.com")],
        cc: vec![shown("canary-cc-6c1d@example.com")],
        bcc: vec![address("canary-bcc-6c1d@example.com")],
        reply_to: vec![address("canary-reply-6c1d@example.com")],
        subject: CONTENTS[1].into(),
        plain_text: CONTENTS[2].into(),
        html: format!("<p>{}</p>", CONTENTS[3]),
        attachments: vec![file],
        headers: [("X-Canary".to_owned(), CONTENTS[7].to_owned())].into(),
        ..Default::default()
    };
    let email = broker.email();
    for mail in [
        mail.clone(),
        mail.clone(),
        v1::SendEmailRequest { subject: format!("{}\r\nBcc: x", CONTENTS[1]), ..mail.clone() },
        v1::SendEmailRequest { to: vec![address("canary-to-6c1d@")], ..mail.clone() },
        v1::SendEmailRequest { from: "canary-to-6c1d@example.com".into(), ..mail.clone() },
        v1::SendEmailRequest {
            headers: [("X-Canary".to_owned(), format!("{}\n", CONTENTS[7]))].into(),
            ..mail
        },
    ] {
        match email.clone().send_email(mail).await {
            Ok(_) => done += 1,
            Err(error) => errors.push(error),
        }
    }
    let name = Some(v1::get_email_request::Name::EmailId("canary-to-6c1d@example.com".into()));
    errors.extend(email.clone().get_email(v1::GetEmailRequest { name, wait: true }).await.err());

    done + chat_calls(broker, errors).await
}

async fn chat_calls(broker: &BrokerProcess, errors: &mut Vec<Status>) -> usize {
    let (mut chats, user) = (broker.chats(), || PEOPLE[8].to_owned());
    let metadata = || [("canary".to_owned(), CONTENTS[11].to_owned())].into();
    let mut who = participant("canary-user-6c1d-b");
    who.display_name = PEOPLE[7].into();
    let create = v1::CreateChatThreadRequest {
        acting_user_id: user(),
        request_id: new_id(),
        topic: CONTENTS[8].into(),
        participants: vec![who],
        metadata: metadata(),
    };
    let too_long = v1::CreateChatThreadRequest { topic: CONTENTS[8].repeat(100), ..create.clone() };
    errors.extend(chats.create_chat_thread(too_long).await.err());
    let thread = match chats.create_chat_thread(create).await {
        Ok(created) => created.into_inner().thread.unwrap().thread_id,
        Err(error) => {
            errors.push(error);
            return 0;
        }
    };
    let say = v1::SendChatMessageRequest {
        acting_user_id: user(),
        thread_id: thread.clone(),
        request_id: new_id(),
        text: CONTENTS[9].into(),
        sender_display_name: PEOPLE[7].into(),
        metadata: metadata(),
        ..Default::default()
    };
    for bad in [
        v1::SendChatMessageRequest { text: CONTENTS[9].repeat(3000), ..say.clone() },
        v1::SendChatMessageRequest { thread_id: "19:no-such-thread@thread.v2".into(), ..say.clone() },
        v1::SendChatMessageRequest { acting_user_id: "canary-user-6c1d-stranger".into(), ..say.clone() },
    ] {
        errors.extend(chats.send_chat_message(bad).await.err());
    }
    let message = match chats.send_chat_message(say).await {
        Ok(sent) => sent.into_inner().message_id,
        Err(error) => {
            errors.push(error);
            return 1;
        }
    };
    let edit = v1::UpdateChatMessageRequest {
        acting_user_id: user(),
        thread_id: thread.clone(),
        message_id: message,
        text: CONTENTS[10].into(),
        ..Default::default()
    };
    errors.extend(chats.update_chat_message(edit).await.err());
    let typing = v1::SendTypingNotificationRequest {
        acting_user_id: user(),
        thread_id: thread.clone(),
        sender_display_name: PEOPLE[7].into(),
    };
    errors.extend(chats.send_typing_notification(typing).await.err());
    let list =
        v1::ListChatMessagesRequest { acting_user_id: user(), thread_id: thread, ..Default::default() };
    errors.extend(chats.list_chat_messages(list).await.err());
    2
}
