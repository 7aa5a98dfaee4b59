//! The first thing a caller does, by each channel: an SMS with delivery report, a mail with an attachment, a chat
//! between two users of the app. The caller holds no key; the emulator stands for ACS and for Event Grid.

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::json;
use v1::get_email_request::Name as MailName;
use v1::get_sms_request::Name as SmsName;
use v1::watch_events_response::Event;

use crate::harness::messages::{NUMBER, address, mail, new_id, participant, sending, sms};
use crate::harness::{BrokerProcess, Emulator, chat, emulator_process};

/// A broker on a file of its own that is told what becomes of messages.
async fn told_broker(emulator: &Emulator, folder: &tempfile::TempDir) -> BrokerProcess {
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    let settings: Vec<_> = sending().into_iter().chain([("STORE__EMBEDDED__PATH", path.as_str())]).collect();
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    emulator.post_events_to(json!([{ "url": broker.webhook_with_secret() }])).await;
    broker
}

#[tokio::test(flavor = "multi_thread")]
async fn an_sms_is_delivered_and_everybody_who_asks_or_watches_is_told() {
    let (emulator, folder) = (emulator_process().await, tempfile::tempdir().unwrap());
    let broker = told_broker(&emulator, &folder).await;
    let mut events =
        broker.events().watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
    let (request_id, to) = (new_id(), "+14255550123");
    let wish = v1::SendSmsRequest {
        tag: "order-17".into(),
        ..sms(&request_id, vec![to.into()], "It is on its way")
    };
    let sent = broker.sms().send_sms(wish).await.unwrap().into_inner();
    let outcome = &sent.outcomes[0];
    assert_eq!((outcome.to.as_str(), outcome.state()), (to, v1::MessageState::Sent));

    let inbox =
        emulator.api().wait(json!({ "kind": "sms", "to": to }), 1, Duration::from_secs(5)).await.unwrap();
    let arrived = &inbox[0];
    assert_eq!((inbox.len(), arrived.id.as_str()), (1, outcome.message_id.as_str()));
    assert_eq!((arrived.from.as_str(), arrived.text.as_str()), (NUMBER, "It is on its way"));
    assert_eq!(arrived.tag.as_deref(), Some("order-17"));

    let told =
        tokio::time::timeout(Duration::from_secs(10), events.message()).await.unwrap().unwrap().unwrap();
    let Some(Event::SmsDelivery(delivery)) = told.event else { panic!("not a delivery") };
    assert_eq!(delivery.state(), v1::MessageState::Delivered);
    assert_eq!((&delivery.sms_id, &delivery.message_id), (&sent.sms_id, &outcome.message_id));
    assert_eq!(
        (delivery.to.as_str(), delivery.from.as_str(), delivery.tag.as_str()),
        (to, NUMBER, "order-17")
    );
    assert!(!told.cursor.is_empty() && told.event_time.is_some());

    for name in [SmsName::SmsId(sent.sms_id.clone()), SmsName::RequestId(request_id.clone())] {
        let found = broker.sms().get_sms(v1::GetSmsRequest { name: Some(name) }).await.unwrap().into_inner();
        assert_eq!(found.outcomes[0].state(), v1::MessageState::Delivered);
        assert_eq!((found.sms_id, found.tag.as_str()), (sent.sms_id.clone(), "order-17"));
        assert!(found.outcomes[0].failure.is_none() && found.create_time.is_some());
    }
    let calls = emulator.api().calls().await;
    println!("SMS: one call of ACS ({}), DELIVERED by GetSms and WatchEvents", calls["send_sms"]);
    assert_eq!(calls["send_sms"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mail_with_an_attachment_arrives_whole_and_each_recipient_is_accounted_for() {
    let (emulator, folder) = (emulator_process().await, tempfile::tempdir().unwrap());
    let broker = told_broker(&emulator, &folder).await;
    let kinds = vec![v1::EventKind::EmailDelivery.into()];
    let watch = v1::WatchEventsRequest { kinds, ..Default::default() };
    let mut events = broker.events().watch_events(watch).await.unwrap().into_inner();
    let bytes: Vec<u8> = b"%PDF-1.7\n".iter().copied().chain((0..=255).cycle().take(30_000)).collect();
    let file = v1::EmailAttachment {
        name: "invoice.pdf".into(),
        content_type: "application/pdf".into(),
        content: bytes.clone(),
        ..Default::default()
    };
    let wish = v1::SendEmailRequest {
        html: "<p>Your invoice</p>".into(),
        cc: vec![address("bounce@magic.example.net")],
        bcc: vec![address("third@example.com")],
        attachments: vec![file],
        ..mail(&new_id(), "first@example.com", "Invoice 17")
    };
    let sent = broker.email().send_email(wish).await.unwrap().into_inner();
    assert!(!sent.email_id.is_empty());

    let name = Some(MailName::EmailId(sent.email_id.clone()));
    let mut wait = tonic::Request::new(v1::GetEmailRequest { name: name.clone(), wait: true });
    wait.set_timeout(Duration::from_secs(10));
    let ended = broker.email().get_email(wait).await.unwrap().into_inner();
    assert_eq!(ended.state(), v1::MessageState::Sent);

    let inbox = emulator.api().messages(&[("kind", "email")]).await.messages;
    assert_eq!((inbox.len(), inbox[0].attachments), (1, 1));
    assert_eq!(inbox[0].subject.as_deref(), Some("Invoice 17"));
    let path = format!("emails/{}/attachments/0", inbox[0].id);
    let response = emulator.api().request("GET", &path).send().await.unwrap();
    assert_eq!(response.bytes().await.unwrap(), bytes, "the file as it was");

    let mut told = std::collections::BTreeMap::new();
    while told.len() < 3 {
        let event = tokio::time::timeout(Duration::from_secs(10), events.message()).await.unwrap();
        let Some(Event::EmailDelivery(delivery)) = event.unwrap().unwrap().event else {
            panic!("of another kind")
        };
        assert_eq!(delivery.email_id, sent.email_id);
        told.insert(delivery.address.clone(), delivery.state());
    }
    let found =
        broker.email().get_email(v1::GetEmailRequest { name, wait: false }).await.unwrap().into_inner();
    let states: Vec<_> = found.deliveries.iter().map(|one| (one.address.as_str(), one.state())).collect();
    let (delivered, failed) = (v1::MessageState::Delivered, v1::MessageState::Failed);
    let expected = [
        ("first@example.com", delivered),
        ("bounce@magic.example.net", failed),
        ("third@example.com", delivered),
    ];
    assert_eq!(states, expected);
    assert!(expected.iter().all(|(address, state)| told.get(*address) == Some(state)), "{told:?}");
    assert_eq!(found.deliveries[1].failure.as_ref().unwrap().code, "Bounced");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_users_of_the_app_chat_and_their_tokens_work_at_acs_itself() {
    let (emulator, folder) = (emulator_process().await, tempfile::tempdir().unwrap());
    let broker = told_broker(&emulator, &folder).await;
    let mut chats = broker.chats();
    let wish = v1::CreateChatThreadRequest {
        acting_user_id: "alice".into(),
        request_id: new_id(),
        topic: "Order 17".into(),
        participants: vec![participant("bob")],
        ..Default::default()
    };
    let created = chats.create_chat_thread(wish.clone()).await.unwrap().into_inner();
    assert!(created.refused.is_empty());
    let thread = created.thread.unwrap();
    assert_eq!(thread.creator.as_ref().unwrap().user_id, "alice");
    let again = chats.create_chat_thread(wish).await.unwrap().into_inner().thread.unwrap();
    assert_eq!((again.thread_id, emulator.api().threads().await.len()), (thread.thread_id.clone(), 1));

    let say = |user: &str, text: &str| v1::SendChatMessageRequest {
        acting_user_id: user.into(),
        thread_id: thread.thread_id.clone(),
        request_id: new_id(),
        text: text.into(),
        ..Default::default()
    };
    for (user, text) in [("alice", "Where is it?"), ("bob", "On its way.")] {
        let wish = say(user, text);
        let first = chats.send_chat_message(wish.clone()).await.unwrap().into_inner();
        let second = chats.send_chat_message(wish).await.unwrap().into_inner();
        assert_eq!(first.message_id, second.message_id, "once");
    }
    let outsider = chats.send_chat_message(say("mallory", "Let me in")).await.unwrap_err();
    assert_eq!(outsider.code(), tonic::Code::PermissionDenied, "{outsider:?}");
    let list = v1::ListChatMessagesRequest {
        acting_user_id: "bob".into(),
        thread_id: thread.thread_id.clone(),
        ..Default::default()
    };
    let heard = chats.list_chat_messages(list).await.unwrap().into_inner().messages;
    let said = |message: &v1::ChatMessage| {
        (message.sender.clone().unwrap_or_default().user_id, message.text.clone())
    };
    let texts: Vec<_> =
        heard.iter().filter(|one| one.r#type() == v1::ChatMessageType::Text).map(said).collect();
    assert_eq!(texts, [("bob".into(), "On its way.".into()), ("alice".into(), "Where is it?".into())]);

    // ACS itself takes the token that IssueToken hands out, and shows the same chat.
    let token = broker.tokens().await.issue_token(chat("alice")).await.unwrap().into_inner().token;
    let endpoint = emulator.connection_string.split_once("endpoint=").unwrap().1.split(';').next().unwrap();
    let thread_id: String = thread.thread_id.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let url = format!(
        "{}/chat/threads/{thread_id}/messages?api-version=2024-03-07",
        endpoint.trim_end_matches('/')
    );
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = http.get(&url).bearer_auth(&token).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let texts = body["value"].as_array().unwrap().iter().filter(|one| one["type"] == "text").count();
    assert_eq!(texts, 2);
    assert_eq!(http.get(&url).send().await.unwrap().status(), 401, "without a token");
}
