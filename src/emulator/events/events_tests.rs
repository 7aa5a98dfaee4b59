//! Events from a service to a receiver over real HTTP, on a clock that stands still unless it is moved.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;

use super::receiver::{LONG, Malice, Receiver, Reply, Seen, hostile, willing};
use super::*;
use crate::clock::{Clock, ManualClock};
use crate::emulator::{self, EmulatorHandle};

/// 2026-11-22T12:00:00.123Z.
const START: Timestamp = Timestamp::from_millis(1_795_348_800_123);

struct World {
    handle: EmulatorHandle,
}

async fn world() -> World {
    world_with(Settings::on_free_ports()).await
}

async fn world_with(settings: Settings) -> World {
    let clock = Arc::new(ManualClock::at(START)) as Arc<dyn Clock>;
    World { handle: emulator::start(settings, clock).await.unwrap() }
}

impl World {
    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn emit(&self, number: u64) {
        self.emit_of("SMSReceived", number);
    }

    fn emit_of(&self, kind: &'static str, number: u64) {
        let subject = "/phonenumber/18005550100".to_owned();
        emit(self.shared(), Event { kind, subject, data: json!({ "number": number }) });
    }

    fn set(&self, webhooks: Value) {
        let webhooks: Vec<Webhook> = serde_json::from_value(webhooks).unwrap();
        Events::set_webhooks(self.shared(), webhooks).unwrap();
    }

    /// Sets one webhook with these properties beside its address.
    fn hook(&self, receiver: &Receiver, properties: Value) {
        let mut webhook = properties;
        webhook["url"] = receiver.url().into();
        self.set(json!([webhook]));
    }

    fn webhook(&self) -> Value {
        self.shared().events.webhooks()[0].clone()
    }

    /// What became of the newest event at the first webhook.
    fn delivery(&self) -> Value {
        self.shared().events.latest(0, 1)[0]["deliveries"][0].clone()
    }

    /// Waits until what is looked at is as it should be.
    async fn until(&self, mut is_so: impl FnMut() -> bool) {
        let mut changes = self.shared().feed.subscribe();
        let wait = async {
            while !is_so() {
                changes.changed().await.unwrap();
            }
        };
        let state = || (self.shared().events.webhooks(), self.shared().events.latest(0, 3));
        assert!(tokio::time::timeout(LONG, wait).await.is_ok(), "it is not so: {:#?}", state());
    }

    async fn until_status(&self, status: &str, attempts: u64) {
        self.until(|| {
            let delivery = self.delivery();
            delivery["status"] == status && delivery["attempts"] == attempts
        })
        .await;
    }

    async fn until_validated(&self) {
        let is_validated = |hook: &Value| hook["validation"]["state"] == "validated";
        self.until(|| self.shared().events.webhooks().iter().all(is_validated)).await;
    }

    /// The receiver's patience is tried less long than in earnest.
    fn be_impatient(&self) {
        *self.shared().events.patience.lock().unwrap() = Duration::from_secs(3);
    }
}

/// Willing, but answers the events with these statuses first.
fn answering(statuses: &[u16]) -> impl FnMut(&Seen) -> Reply + Send + 'static {
    let mut statuses = Vec::from(statuses).into_iter();
    move |seen| match seen.asks() {
        true => willing(seen),
        false => statuses.next().map_or_else(|| willing(seen), |status| (status, Vec::new(), String::new())),
    }
}

fn numbers(seen: &[Seen]) -> Vec<u64> {
    seen.iter().map(Seen::number).collect()
}

#[tokio::test]
async fn an_event_arrives_in_event_grids_schema_after_the_webhook_agreed() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({}));
    world.emit(7);
    receiver.until_events(1).await;
    let seen = receiver.seen();
    assert_eq!(seen.len(), 2, "{seen:?}");

    let (asked, event) = (&seen[0], &seen[1]);
    assert_eq!((asked.method.as_str(), event.method.as_str()), ("POST", "POST"));
    assert_eq!(asked.header("aeg-event-type"), Some("SubscriptionValidation"));
    assert_eq!(asked.body[0]["eventType"], "Microsoft.EventGrid.SubscriptionValidationEvent");
    let code = asked.body[0]["data"]["validationCode"].as_str().unwrap();
    let http = world.handle.http_addr();
    let url = format!("http://{http}/_emulator/events/validate?id={code}");
    assert_eq!(asked.body[0]["data"]["validationUrl"], url);

    for (name, value) in [
        ("content-type", "application/json; charset=utf-8"),
        ("aeg-event-type", "Notification"),
        ("aeg-subscription-name", "WEBHOOK-1"),
        ("aeg-delivery-count", "0"),
        ("aeg-data-version", "1.0"),
        ("aeg-metadata-version", "1"),
        ("aeg-output-event-id", event.id()),
    ] {
        assert_eq!(event.header(name), Some(value), "{name}");
    }
    let kept = &world.shared().events.latest(0, 10)[0];
    let expected = json!([{
        "id": kept["id"],
        "topic": world.shared().events.topic(),
        "subject": "/phonenumber/18005550100",
        "data": { "number": 7 },
        "eventType": "Microsoft.Communication.SMSReceived",
        "eventTime": "2026-11-22T12:00:00.1230000Z",
        "dataVersion": "1.0",
        "metadataVersion": "1",
    }]);
    assert_eq!(event.body, expected);
    world.until_status("delivered", 1).await;
    assert_eq!(
        world.delivery(),
        json!({"url": receiver.url(), "status": "delivered", "attempts": 1, "last": "200"})
    );
}

#[tokio::test]
async fn an_event_arrives_as_a_cloud_event_after_options_were_answered() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({ "schema": "cloud_events" }));
    world.emit(7);
    receiver.until_events(1).await;
    let seen = receiver.seen();
    let (asked, event) = (&seen[0], &seen[1]);
    assert_eq!((asked.method.as_str(), event.method.as_str()), ("OPTIONS", "POST"));
    assert_eq!(asked.header("webhook-request-origin"), Some("eventgrid.azure.net"));
    assert_eq!(event.header("content-type"), Some("application/cloudevents+json; charset=utf-8"));
    assert_eq!(event.header("aeg-event-type"), Some("Notification"));
    let expected = json!({
        "id": world.shared().events.latest(0, 1)[0]["id"],
        "source": world.shared().events.topic(),
        "subject": "/phonenumber/18005550100",
        "type": "Microsoft.Communication.SMSReceived",
        "time": "2026-11-22T12:00:00.1230000Z",
        "data": { "number": 7 },
        "specversion": "1.0",
    });
    assert_eq!(event.body, expected);
}

#[tokio::test]
async fn the_webhook_of_the_settings_is_used() {
    let receiver = Receiver::start(willing).await;
    let settings = Settings {
        webhook_url: receiver.url(),
        webhook_schema: "cloud_events".to_owned(),
        ..Settings::on_free_ports()
    };
    let world = world_with(settings).await;
    world.emit(1);
    assert_eq!(numbers(&receiver.until_events(1).await), [1]);
}

#[tokio::test]
async fn a_webhook_of_the_settings_that_is_none_stops_the_start_and_is_not_printed() {
    for (url, schema) in [("ftp://a.example/?key=SECRET", "event_grid"), ("http://a.example/?SECRET", "xml")]
    {
        let settings = Settings {
            webhook_url: url.to_owned(),
            webhook_schema: schema.to_owned(),
            ..Settings::on_free_ports()
        };
        let clock = Arc::new(ManualClock::at(START));
        let error = emulator::start(settings, clock).await.unwrap_err();
        assert!(matches!(error, StartError::Webhook(_)));
        assert!(!format!("{error} {error:?}").contains("SECRET"));
    }
}

#[tokio::test]
async fn nothing_is_posted_to_a_webhook_that_does_not_agree_and_it_is_asked_again() {
    // 202, the wrong code, an error; then it agrees.
    let mut answers = vec![
        (500, String::new()),
        (200, json!({ "validationResponse": "wrong" }).to_string()),
        (202, String::new()),
    ];
    let receiver = Receiver::start(move |seen| match answers.pop() {
        Some((202, _)) => (202, Vec::new(), willing(seen).2),
        Some((status, body)) => (status, Vec::new(), body),
        None => willing(seen),
    })
    .await;
    let world = world().await;
    world.hook(&receiver, json!({}));
    world.emit(1);
    for (asked, (wait, status)) in [(1, "202"), (2, "200"), (4, "500")].into_iter().enumerate() {
        world
            .until(|| {
                world.webhook()["validation"]["attempts"] == asked + 1
                    && world.webhook()["validation"]["last"] == status
            })
            .await;
        assert_eq!(world.webhook()["validation"]["state"], "pending");
        assert_eq!(world.webhook()["waiting"], 1);
        assert_eq!(receiver.events().len(), 0);
        world.handle.advance(Duration::from_secs(wait));
    }
    receiver.until_events(1).await;
    assert_eq!(receiver.seen().len(), 5);
    let codes: BTreeSet<String> =
        receiver.seen().iter().filter(|seen| seen.asks()).map(|seen| seen.id().to_owned()).collect();
    assert_eq!(codes.len(), 4, "each question has a code of its own");
}

#[tokio::test]
async fn a_webhook_may_agree_by_the_address_within_ten_minutes() {
    for schema in ["event_grid", "cloud_events"] {
        let receiver = Receiver::start(|_| (200, Vec::new(), String::new())).await;
        let world = world().await;
        world.hook(&receiver, json!({ "schema": schema }));
        world.emit(1);
        world.until(|| world.webhook()["validation"]["state"] == "awaiting_manual_action").await;
        let code = |seen: &Seen| {
            let url = match seen.header("webhook-request-callback") {
                Some(url) => url.to_owned(),
                None => seen.body[0]["data"]["validationUrl"].as_str().unwrap().to_owned(),
            };
            url.split_once("validate?id=").unwrap().1.to_owned()
        };
        // Too late for the first question; so there is a second.
        world.handle.advance(Duration::from_mins(10));
        let asked = receiver.until(2, Seen::asks).await;
        assert!(!confirm(world.shared(), &code(&asked[0])));
        assert!(!confirm(world.shared(), "no-such-code"));
        world.handle.advance(Duration::from_mins(9));
        assert!(confirm(world.shared(), &code(&asked[1])));
        assert_eq!(receiver.until_events(1).await.len(), 1);
        assert_eq!(world.webhook()["validation"]["state"], "validated");
    }
}

#[tokio::test]
async fn cloud_events_need_the_origin_or_a_star() {
    for (allowed, state) in
        [("*", "validated"), ("EventGrid.azure.net", "validated"), ("other.example", "pending")]
    {
        let receiver = Receiver::start(move |_| {
            (200, vec![("webhook-allowed-origin", allowed.to_owned())], String::new())
        })
        .await;
        let world = world().await;
        world.hook(&receiver, json!({ "schema": "cloud_events" }));
        world.until(|| world.webhook()["validation"]["last"] == "200").await;
        assert_eq!(world.webhook()["validation"]["state"], state, "{allowed}");
    }
}

#[tokio::test]
async fn retries_come_when_the_emulators_clock_says_so() {
    let (world, receiver) = (world().await, Receiver::start(answering(&[503, 500, 429])).await);
    world.hook(&receiver, json!({}));
    world.emit(1);
    for (attempts, (status, wait)) in (1..).zip([("503", 10), ("500", 30), ("429", 60)]) {
        world.until_status("pending", attempts).await;
        assert_eq!(world.delivery()["last"], status);
        world.handle.advance(Duration::from_secs(wait));
    }
    world.until_status("delivered", 4).await;
    let events = receiver.events();
    let counts: Vec<_> = events.iter().map(|seen| seen.header("aeg-delivery-count").unwrap()).collect();
    assert_eq!(counts, ["0", "1", "2", "3"]);
    assert!(events.iter().all(|seen| seen.id() == events[0].id()));
}

#[tokio::test]
async fn an_event_that_is_refused_is_given_up_and_the_next_one_goes_on() {
    for status in [400, 413] {
        let (world, receiver) = (world().await, Receiver::start(answering(&[status])).await);
        world.hook(&receiver, json!({}));
        world.emit(1);
        world.until_status("failed", 1).await;
        assert_eq!(world.delivery()["last"], status.to_string());
        world.handle.advance(Duration::from_hours(24));
        world.emit(2);
        assert_eq!(numbers(&receiver.until_events(2).await), [1, 2]);
        world.until_status("delivered", 1).await;
        assert_eq!((&world.webhook()["failed"], &world.webhook()["waiting"]), (&json!(1), &json!(0)));
    }
}

#[tokio::test]
async fn each_event_is_posted_as_often_as_asked_with_the_same_id() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({ "duplicate": 2 }));
    world.emit(1);
    world.emit(2);
    let events = receiver.until_events(6).await;
    for number in [1, 2] {
        let copies: Vec<&Seen> = events.iter().filter(|seen| seen.number() == number).collect();
        assert_eq!(copies.len(), 3);
        assert!(copies.iter().all(|seen| seen.body == copies[0].body));
    }
    world.until(|| world.webhook()["waiting"] == 0).await;
    assert_eq!(world.webhook()["delivered"], 2);
    assert_eq!(receiver.events().len(), 6);
}

#[tokio::test]
async fn out_of_order_loses_nothing_and_holds_nothing_back() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({ "reorder": true }));
    world.until_validated().await;
    for number in 0..9 {
        world.emit(number);
    }
    let arrived = numbers(&receiver.until_events(9).await);
    let mut sorted = arrived.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..9).collect::<Vec<u64>>(), "each exactly once");
    assert_ne!(arrived, sorted);
    assert_eq!(arrived[8], 8, "the last had nothing to be swapped with, and came all the same");
}

#[tokio::test]
async fn a_webhook_gets_the_kinds_it_lists() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({ "kinds": ["Microsoft.Communication.ChatThreadCreated"] }));
    world.emit_of("SMSReceived", 1);
    world.emit_of("ChatThreadCreated", 2);
    assert_eq!(numbers(&receiver.until_events(1).await), [2]);
    let latest = world.shared().events.latest(0, 10);
    assert_eq!(latest[1]["deliveries"], json!([]));
    assert_eq!(latest[0]["deliveries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn every_event_arrives_although_the_receiver_goes_away_and_comes_back() {
    let world = world().await;
    let receiver = Receiver::start(willing).await;
    let address = receiver.address;
    world.hook(&receiver, json!({}));
    world.emit(1);
    let mut arrived: BTreeSet<u64> = numbers(&receiver.until_events(1).await).into_iter().collect();
    drop(receiver);
    for number in 2..5 {
        world.emit(number);
    }
    let all_failed_once = || {
        let latest = world.shared().events.latest(1, 10);
        latest.iter().all(|event| event["deliveries"][0]["attempts"] == 1)
    };
    world.until(all_failed_once).await;
    assert_eq!(world.delivery()["last"], "no connection");
    let receiver = Receiver::start_at(address, willing).await;
    world.handle.advance(Duration::from_secs(10));
    arrived.extend(numbers(&receiver.until_events(3).await));
    assert_eq!(arrived, (1..5).collect());
}

#[tokio::test]
async fn a_hostile_webhook_harms_neither_the_emulator_nor_the_others() {
    let cases = [
        (Malice::Silent, "pending", "no answer in time"),
        (Malice::Resets, "pending", "no connection"),
        (Malice::Garbage, "pending", "no connection"),
        (Malice::EndlessHeaders, "pending", "no connection"),
        (Malice::EndlessBody, "delivered", "200"),
        (Malice::SlowBody, "delivered", "200"),
        (Malice::RedirectsToItself, "pending", "307"),
        (Malice::LiesAboutLength, "delivered", "200"),
    ];
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    let (mut webhooks, mut servers) = (vec![json!({ "url": receiver.url() })], Vec::new());
    for (malice, _, _) in cases {
        let (url, server) = hostile(malice).await;
        webhooks.push(json!({ "url": url }));
        servers.push(server);
    }
    world.set(Value::Array(webhooks));
    world.until_validated().await;
    world.be_impatient();
    world.emit(1);
    receiver.until_events(1).await;
    let deliveries = || world.shared().events.latest(0, 1)[0]["deliveries"].as_array().unwrap().clone();
    world.until(|| deliveries().iter().all(|delivery| delivery["attempts"] == 1)).await;
    for ((malice, status, last), delivery) in cases.iter().zip(&deliveries()[1..]) {
        assert_eq!((&delivery["status"], &delivery["last"]), (&json!(status), &json!(last)), "{malice:?}");
    }
}

#[tokio::test]
async fn nobody_listening_is_seen_in_the_list_and_asked_again() {
    let world = world().await;
    // A port that was free a moment ago.
    let address = Receiver::start(willing).await.address;
    world.set(json!([{ "url": format!("http://{address}/") }]));
    world.until(|| world.webhook()["validation"]["last"] == "no connection").await;
    let receiver = Receiver::start_at(address, willing).await;
    world.handle.advance(Duration::from_secs(1));
    world.until_validated().await;
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test]
async fn https_to_a_certificate_that_nobody_trusts_is_no_connection() {
    let world = world().await;
    // The emulator itself is such a server.
    world.set(json!([{ "url": format!("https://{}/", world.handle.tls_addr()) }]));
    world.until(|| world.webhook()["validation"]["last"] == "no connection").await;
    assert_eq!(world.webhook()["validation"]["state"], "pending");
}

#[tokio::test]
async fn a_clock_at_its_end_makes_no_flood() {
    let (world, receiver) = (world().await, Receiver::start(|_| (500, Vec::new(), String::new())).await);
    world.handle.advance(Duration::MAX);
    let started = Instant::now();
    world.hook(&receiver, json!({}));
    world.emit(1);
    receiver.until(5, Seen::asks).await;
    assert!(started.elapsed() >= Duration::from_millis(200), "50 ms after each");
}

#[tokio::test]
async fn the_oldest_events_go_and_what_waited_of_them_is_counted() {
    let settings = Settings { max_messages: 5, ..Settings::on_free_ports() };
    let (world, receiver) =
        (world_with(settings).await, Receiver::start(|_| (500, vec![], String::new())).await);
    world.hook(&receiver, json!({}));
    for number in 1..=8 {
        world.emit(number);
    }
    assert_eq!(world.shared().events.count(), 5);
    let latest = world.shared().events.latest(5, 2);
    assert_eq!((latest.len(), &latest[0]["sequence"], &latest[1]["sequence"]), (2, &json!(8), &json!(7)));
    assert_eq!((&world.webhook()["dropped"], &world.webhook()["waiting"]), (&json!(3), &json!(5)));
}

#[tokio::test]
async fn a_reset_forgets_events_but_not_the_webhook_nor_its_consent() {
    let (world, receiver) = (world().await, Receiver::start(answering(&[503])).await);
    world.hook(&receiver, json!({}));
    world.emit(1);
    world.until_status("pending", 1).await;
    world.handle.reset();
    assert_eq!((world.shared().events.count(), &world.webhook()["waiting"]), (0, &json!(0)));
    world.handle.advance(Duration::from_mins(1));
    world.emit(2);
    assert_eq!(numbers(&receiver.until_events(2).await), [1, 2], "the first was not tried again");
    assert_eq!(receiver.seen().len(), 3, "it was asked once");
    assert_eq!(world.shared().events.latest(0, 9)[0]["sequence"], 2, "numbers go on");
}

#[tokio::test]
async fn a_webhook_that_stays_keeps_what_waits_and_one_that_goes_drops_it() {
    let world = world().await;
    let (one, other) = (Receiver::start(answering(&[503])).await, Receiver::start(answering(&[503])).await);
    world.set(json!([{ "url": one.url() }, { "url": other.url() }]));
    world.emit(1);
    let tried = |delivery: &Value| delivery["attempts"] == 1;
    world
        .until(|| world.shared().events.latest(0, 1)[0]["deliveries"].as_array().unwrap().iter().all(tried))
        .await;
    world.set(json!([{ "url": other.url() }]));
    let deliveries = world.shared().events.latest(0, 1)[0]["deliveries"].clone();
    assert_eq!(deliveries[0]["status"], "failed");
    assert_eq!(deliveries[0]["last"], "dropped: the webhook was removed");
    assert_eq!(deliveries[1]["status"], "pending");
    world.handle.advance(Duration::from_secs(10));
    other.until_events(2).await;
    assert_eq!(other.seen().len(), 3, "it was asked once");
    assert_eq!(one.events().len(), 1);
    world.set(json!([]));
    assert!(world.shared().events.webhooks().is_empty());
}

#[tokio::test]
async fn a_list_with_a_bad_webhook_changes_nothing() {
    let (world, receiver) = (world().await, Receiver::start(willing).await);
    world.hook(&receiver, json!({}));
    let bad: Vec<Webhook> = serde_json::from_value(json!([{ "url": "nowhere" }])).unwrap();
    assert!(Events::set_webhooks(world.shared(), bad).is_err());
    assert_eq!(world.webhook()["url"], receiver.url());
}

#[tokio::test]
async fn shutting_down_ends_every_task_even_in_the_middle_of_a_request() {
    let world = world().await;
    let (url, _server) = hostile(Malice::Silent).await;
    world.set(json!([{ "url": url }, { "url": "http://127.0.0.1:1/" }]));
    world.emit(1);
    world.until(|| world.webhook()["validation"]["state"] == "validated").await;
    let left = Arc::downgrade(world.shared());
    let started = Instant::now();
    world.handle.shutdown().await;
    assert!(started.elapsed() < Duration::from_secs(3));
    assert!(left.upgrade().is_none(), "somebody still holds the emulator");
}

#[tokio::test]
async fn the_same_seed_gives_the_same_events_and_the_same_order() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let receiver = Receiver::start(willing).await;
        let world = world_with(Settings { seed: 7, ..Settings::on_free_ports() }).await;
        world.hook(&receiver, json!({ "reorder": true }));
        world.until_validated().await;
        for number in 0..8 {
            world.emit(number);
        }
        let arrived = receiver.until_events(8).await;
        runs.push((numbers(&arrived), arrived[0].body.clone()));
    }
    assert_eq!(runs[0], runs[1]);
}
