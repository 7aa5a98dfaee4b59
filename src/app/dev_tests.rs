//! A broker and its emulator together: what is sent comes back as delivered, through the webhook, in either schema.

use std::collections::BTreeMap;
use std::time::Duration;

use super::*;
use crate::broker::types::Caller;
use crate::clock::SystemClock;
use crate::config::{Given, Inputs, Purpose, Source, load};
use crate::messaging::types::{EmailAddress, MessageName, Number, State};
use crate::messaging::{EventKind, Happened, SendEmail, SendSms};

fn config(dir: &Path, more: &[(&'static str, &str)]) -> Config {
    let free = "127.0.0.1:0";
    let path = dir.join("store.redb").to_string_lossy().into_owned();
    let all = [
        ("server.address", free),
        ("admin.address", free),
        ("webhook.address", free),
        ("emulator.address", free),
        ("emulator.tls_address", free),
        ("store.embedded.path", path.as_str()),
        ("messages.sms.senders", "+18005550100"),
        ("messages.email.senders", "noreply@contoso.example"),
    ];
    let given = |(key, value): &(&'static str, &str)| Given {
        key,
        value: (*value).to_owned(),
        source: Source::Command("test"),
    };
    let flags: Vec<Given> = all.iter().chain(more).map(given).collect();
    let environment = BTreeMap::new();
    load(&Inputs {
        purpose: Purpose::Dev,
        presumed: &[],
        file: None,
        environment: &environment,
        flags: &flags,
    })
    .unwrap()
}

async fn delivered(more: &[(&'static str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let dev = Dev::start(config(dir.path(), more), dir.path(), Arc::new(SystemClock)).await.unwrap();
    let messaging = dev.app().messaging().clone();
    assert!(dev.whereabouts().webhook.is_some());
    let stop = CancellationToken::new();
    let running = tokio::spawn(dev.run(stop.clone()));

    let caller = Caller::unlimited("shop");
    let mut watch = messaging.watch(None, Vec::new()).await.unwrap();
    let (sms, mail) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let request = SendSms {
        request_id: sms,
        from: None,
        to: vec![Number::parse("+14255550123").unwrap()],
        text: "Hello".into(),
        delivery_report: true,
        tag: Some("greeting".into()),
    };
    messaging.send_sms(&caller, request).await.unwrap();
    let request = SendEmail {
        request_id: mail,
        from: None,
        to: vec![EmailAddress::parse("someone@example.com", "").unwrap()],
        cc: Vec::new(),
        bcc: Vec::new(),
        reply_to: Vec::new(),
        subject: "Hello".into(),
        plain_text: Some("Hello".into()),
        html: None,
        attachments: Vec::new(),
        headers: BTreeMap::new(),
        tracking_disabled: true,
    };
    messaging.send_email(&caller, request).await.unwrap();

    let mut told = Vec::new();
    tokio::time::timeout(Duration::from_secs(30), async {
        while told.len() < 2 {
            told.extend(watch.next().await.unwrap().into_iter().map(|(_, event)| event));
        }
    })
    .await
    .unwrap();
    for event in &told {
        let state = match &event.happened {
            Happened::SmsDelivery { state, tag, .. } if tag == "greeting" => *state,
            Happened::EmailDelivery { state, .. } => *state,
            _ => panic!("an event of another kind: {:?}", event.kind()),
        };
        assert_eq!(state, State::Delivered);
        assert!(event.message.is_some(), "it is tied to its message");
    }
    assert!(told.iter().any(|event| event.kind() == EventKind::EmailDelivery));

    let report = messaging.get_sms(&caller, MessageName::Request(sms)).await.unwrap();
    assert_eq!(report.outcomes[0].state, State::Delivered);
    // Nobody but the background task asks ACS how far the mail has come.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let report = messaging.get_email(&caller, MessageName::Request(mail), Some(deadline)).await.unwrap();
    assert_eq!((report.state, report.outcomes[0].state), (State::Sent, State::Delivered));

    drop((watch, messaging));
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(15), running).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn what_is_sent_in_dev_comes_back_as_delivered() {
    delivered(&[]).await;
}

#[tokio::test]
async fn so_it_does_as_cloud_events_with_a_secret_of_odd_letters() {
    delivered(&[
        ("emulator.webhook_schema", "cloud_events"),
        ("webhook.secret", "odd &letters=%41+ä#?in a secret"),
    ])
    .await;
}

#[tokio::test]
async fn an_open_webhook_without_a_secret_is_not_listened_at() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path(), &[]);
    config.webhook.address = "0.0.0.0:0".into();
    assert!(matches!(Listeners::bind(&config).await, Err(StartError::OpenWebhook { .. })));
}

#[test]
fn the_emulator_posts_to_an_address_it_can_reach() {
    let url = |address: &str| webhook_url(address.parse().unwrap(), &Secret::new(""));
    assert_eq!(url("0.0.0.0:80"), "http://127.0.0.1:80/events");
    assert_eq!(url("[::]:80"), "http://[::1]:80/events");
    assert_eq!(url("192.0.2.1:80"), "http://192.0.2.1:80/events");
}
