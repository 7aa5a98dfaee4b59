//! What becomes of messages is told by others, who repeat themselves, come late and out of order, or lie.
//!
//! Three brokers share a Redis; Event Grid, as the emulator plays it, posts every event three times and out of order to
//! two of them. States only move forward, forged events change nothing, and who watches misses nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use acs_broker::grpc::proto::v1;
use serde_json::{Value, json};
use tonic::Streaming;
use v1::MessageState::{Delivered, Failed, Sent};
use v1::get_sms_request::Name;
use v1::watch_events_response::Event;

use crate::harness::messages::{Clients, Fleet, NUMBER, new_id, recipient, sms};
use crate::harness::{BrokerProcess, emulator_with, until};

const RECIPIENTS: usize = 300;
const PER_REQUEST: usize = 50;
/// Magic recipients: one who cannot be reached, and one whose report comes ten minutes late.
const UNREACHABLE: &str = "+12065550106";
const LATE: &str = "+12065550130";

pub(crate) type Events = Streaming<v1::WatchEventsResponse>;

pub(crate) async fn watch(broker: &BrokerProcess, cursor: &str) -> Events {
    let wish =
        v1::WatchEventsRequest { cursor: cursor.into(), kinds: vec![v1::EventKind::SmsDelivery.into()] };
    broker.events().watch_events(wish).await.unwrap().into_inner()
}

pub(crate) async fn next(events: &mut Events) -> (String, v1::SmsDeliveryEvent) {
    let event =
        tokio::time::timeout(Duration::from_secs(20), events.message()).await.expect("an event in time");
    let event = event.unwrap().expect("the stream goes on");
    let Some(Event::SmsDelivery(delivery)) = event.event else { panic!("of another kind") };
    (event.cursor, delivery)
}

pub(crate) async fn outcomes(clients: &Clients, sms_id: &str) -> Vec<v1::SmsOutcome> {
    let name = Some(Name::SmsId(sms_id.into()));
    clients.sms.clone().get_sms(v1::GetSmsRequest { name }).await.unwrap().into_inner().outcomes
}

/// A delivery report as Event Grid posts it.
pub(crate) fn report(id: &str, message_id: &str, to: &str, status: &str) -> Value {
    json!([{
        "id": id, "topic": "/subscriptions/s", "subject": format!("/phonenumber/{to}"),
        "eventType": "Microsoft.Communication.SMSDeliveryReportReceived", "dataVersion": "1.0",
        "metadataVersion": "1", "eventTime": "2026-11-22T12:00:00Z",
        "data": {
            "messageId": message_id, "from": NUMBER, "to": to, "deliveryStatus": status,
            "deliveryStatusDetails": "as posted", "deliveryAttempts": [],
            "receivedTimestamp": "2026-11-22T12:00:00Z", "tag": ""
        }
    }])
}

pub(crate) async fn post(url: &str, body: &Value) -> u16 {
    try_to_post(url, body).await.expect("somebody is there")
}

/// The same; none if nobody answers.
pub(crate) async fn try_to_post(url: &str, body: &Value) -> Option<u16> {
    // The client wants one, although it speaks plain HTTP here.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(10)).build().unwrap();
    let request = http.post(url).header("content-type", "application/json").body(body.to_string());
    request.send().await.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread")]
async fn states_only_move_forward_and_watchers_miss_nothing_however_events_come() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let mut fleet = Fleet::start(&emulator, 3, &[]).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let hook = |broker: &BrokerProcess| {
        json!({ "url": broker.webhook_with_secret(), "duplicate": 1, "reorder": true,
                "kinds": ["SMSDeliveryReportReceived"] })
    };
    emulator.post_events_to(json!([hook(&fleet.brokers[0]), hook(&fleet.brokers[1])])).await;
    // One watches from the beginning to the end; another one's broker dies.
    let mut steady = watch(&fleet.brokers[1], "").await;
    let mut broken = watch(&fleet.brokers[2], "").await;

    let mut sent = BTreeMap::new();
    for request in 0..RECIPIENTS / PER_REQUEST {
        let mut to: Vec<_> = (0..PER_REQUEST).map(|part| recipient(request * PER_REQUEST + part)).collect();
        if request == 0 {
            to.extend([UNREACHABLE.to_owned(), LATE.to_owned()]);
        }
        let wish = sms(&new_id(), to, "are you there?");
        let answer = clients[request % 3].sms.clone().send_sms(wish).await.unwrap().into_inner();
        sent.insert(answer.sms_id, answer.outcomes);
    }
    let first = sent.iter().find(|(_, outcomes)| outcomes.iter().any(|one| one.to == LATE));
    let (mixed, of_mixed) = first.map(|(id, outcomes)| (id.clone(), outcomes.clone())).unwrap();
    let message_id = |to: &str| of_mixed.iter().find(|one| one.to == to).unwrap().message_id.clone();

    // The second watcher deals with some events, its broker is killed, and it goes on elsewhere.
    let (mut resumed, mut last) = (Vec::new(), String::new());
    for _ in 0..40 {
        let (cursor, delivery) = next(&mut broken).await;
        resumed.push(delivery.message_id);
        last = cursor;
    }
    fleet.brokers[2].kill();
    let mut broken = watch(&fleet.brokers[0], &last).await;
    let told_without_late = RECIPIENTS + 1;
    while resumed.len() < told_without_late {
        resumed.push(next(&mut broken).await.1.message_id);
    }
    let (mut told, mut states) = (Vec::new(), BTreeMap::new());
    while told.len() < told_without_late {
        let (_, delivery) = next(&mut steady).await;
        assert!(sent.contains_key(&delivery.sms_id), "each event names its request");
        states.insert(delivery.message_id.clone(), delivery.state());
        told.push(delivery.message_id);
    }
    assert_eq!(told, resumed, "both were told the same in the same order, and nothing was missed");
    assert_eq!(states.len(), told.len(), "events that ACS repeats are told once");
    for (id, outcomes_then) in &sent {
        for (now, then) in outcomes(&clients[1], id).await.iter().zip(outcomes_then) {
            let expected = match now.to.as_str() {
                UNREACHABLE => Failed,
                LATE => Sent,
                _ => Delivered,
            };
            assert_eq!((now.state(), &now.message_id), (expected, &then.message_id));
            assert_eq!(now.to == LATE, !states.contains_key(&now.message_id));
        }
    }

    // Forged: without the secret, with another one, and with a report that nobody could have sent.
    let webhook = fleet.brokers[0].webhook();
    let forged = report("forged", &message_id(LATE), LATE, "Delivered");
    assert_eq!(post(&webhook, &forged).await, 401);
    assert_eq!(post(&format!("{webhook}?code=a-secret-between-others-entirely"), &forged).await, 401);
    let known = fleet.brokers[0].webhook_with_secret();
    assert_eq!(post(&known, &json!([{ "id": "x" }])).await, 400);
    assert_eq!(post(&known, &report("nobodys", "a-message-of-nobody", LATE, "Delivered")).await, 200);
    let state_of =
        |outcomes: &[v1::SmsOutcome], to: &str| outcomes.iter().find(|one| one.to == to).unwrap().state();
    assert_eq!(state_of(&outcomes(&clients[0], &mixed).await, LATE), Sent);

    // Late: a report that contradicts a final one changes nothing, whichever way.
    let delivered = of_mixed.iter().find(|one| ![LATE, UNREACHABLE].contains(&one.to.as_str())).unwrap();
    for (id, message, to, status) in [
        ("late-1", delivered.message_id.as_str(), delivered.to.as_str(), "Failed"),
        ("late-2", &message_id(UNREACHABLE), UNREACHABLE, "Delivered"),
    ] {
        assert_eq!(post(&known, &report(id, message, to, status)).await, 200);
    }
    let now = outcomes(&clients[0], &mixed).await;
    assert_eq!((state_of(&now, &delivered.to), state_of(&now, UNREACHABLE)), (Delivered, Failed));

    // And what really comes ten minutes later is taken in.
    emulator.api().advance("11m").await;
    until("the late report", async || state_of(&outcomes(&clients[1], &mixed).await, LATE) == Delivered)
        .await;

    let hooks = emulator.api().webhooks().await;
    let posted: u64 = hooks.iter().map(|hook| hook["delivered"].as_u64().unwrap()).sum();
    println!(
        "events: {} messages, {posted} events posted by two hooks, each twice and out of order; {} told to each of 2 \
         watchers, one of them across a killed broker",
        RECIPIENTS + 2,
        told.len()
    );
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told_without_late);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_that_is_there_before_the_answer_is_not_lost() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn"), ("EMULATOR__DELIVER_AFTER", "0s")]).await;
    let fleet = Fleet::start(&emulator, 2, &[]).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let hook = json!([{ "url": fleet.brokers[1].webhook_with_secret(), "duplicate": 2 }]);
    emulator.post_events_to(hook).await;
    // Half of the answers come long after the report, the others at the same time.
    let slow = json!({ "operation": "send_sms", "effect": "proceed", "commit": "after", "delay_ms": 300,
                       "probability": 0.5, "seed": 5 });
    emulator.api().fault(slow).await;
    let mut sends = tokio::task::JoinSet::new();
    for number in 0..60 {
        let mut client = clients[0].sms.clone();
        let to = (0..5).map(|part| recipient(number * 5 + part)).collect();
        sends.spawn(async move {
            client.send_sms(sms(&new_id(), to, "quick")).await.unwrap().into_inner().sms_id
        });
    }
    let ids = sends.join_all().await;
    let mut wrong = BTreeMap::new();
    until("each is DELIVERED", async || {
        wrong.clear();
        for id in &ids {
            for outcome in outcomes(&clients[1], id).await {
                if outcome.state() != Delivered || outcome.message_id.is_empty() {
                    *wrong.entry((outcome.state(), outcome.message_id.is_empty())).or_insert(0) += 1;
                }
            }
        }
        if !wrong.is_empty() {
            tokio::time::sleep(Duration::from_millis(300)).await;
            eprintln!("not yet: {wrong:?}");
        }
        wrong.is_empty()
    })
    .await;
}
