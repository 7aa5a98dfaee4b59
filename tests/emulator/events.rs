//! Webhooks as a program meets them: asked first, agreed by answer or by address, sent what happened, and let go at the
//! end.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::ManualClock;
use acs_broker::emulator::{self, Settings, StartError};
use axum::http::{HeaderMap, Method};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::harness::{START, start, start_with};
use crate::emulator_control::Control;

type Request = (Method, HeaderMap, String);

/// A receiver that tells every request it gets.
async fn receiver() -> (String, mpsc::UnboundedReceiver<Request>) {
    let (told, requests) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/api/updates?code=secret", listener.local_addr().unwrap());
    let handler = move |method: Method, headers: HeaderMap, body: String| {
        let _ = told.send((method, headers, body));
        async { "" }
    };
    let app = axum::Router::new().route("/api/updates", axum::routing::any(handler));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, requests)
}

async fn next(requests: &mut mpsc::UnboundedReceiver<Request>) -> Request {
    tokio::time::timeout(Duration::from_secs(20), requests.recv()).await.unwrap().unwrap()
}

fn settings(url: &str, schema: &str) -> Settings {
    Settings { webhook_url: url.to_owned(), webhook_schema: schema.to_owned(), ..Settings::on_free_ports() }
}

#[tokio::test]
async fn a_webhook_is_asked_at_the_start_with_an_address_on_the_emulator() {
    let (url, mut requests) = receiver().await;
    let running = start_with(settings(&url, "event_grid")).await;
    let (method, headers, body) = next(&mut requests).await;
    assert_eq!(
        (method, headers["aeg-event-type"].as_bytes()),
        (Method::POST, b"SubscriptionValidation".as_slice())
    );
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body.as_array().unwrap().len(), 1);
    let address = body[0]["data"]["validationUrl"].as_str().unwrap();
    assert!(address.starts_with(&format!("{}/_emulator/events/validate?", running.base())), "{address}");
    running.handle.shutdown().await;
}

#[tokio::test]
async fn cloud_events_are_asked_for_with_options() {
    let (url, mut requests) = receiver().await;
    let running = start_with(settings(&url, "cloud_events")).await;
    let (method, headers, body) = next(&mut requests).await;
    assert_eq!((method, body.as_str()), (Method::OPTIONS, ""));
    assert_eq!(headers["webhook-request-origin"], "eventgrid.azure.net");
    running.handle.shutdown().await;
}

#[tokio::test]
async fn a_webhook_that_is_no_address_stops_the_start_and_names_the_setting() {
    for (url, schema) in [("localhost:80", "event_grid"), ("https://a.example", "eventgrid")] {
        let clock = Arc::new(ManualClock::at(START));
        let error = emulator::start(settings(url, schema), clock).await.unwrap_err();
        assert!(matches!(error, StartError::Webhook(_)), "{error}");
        assert!(error.to_string().contains("emulator.webhook_url"));
    }
}

#[tokio::test]
async fn a_message_that_comes_in_is_posted_once_the_address_in_the_question_was_called() {
    let (url, mut requests) = receiver().await;
    let running = start().await;
    let control = Control::at(running.base());
    control.set_webhooks(json!([{ "url": url, "kinds": ["SMSReceived"] }])).await;
    let id = control.receive_sms("+14255550123", "+18005550100", "Hello").await;

    let (_, _, question) = next(&mut requests).await;
    let question: Value = serde_json::from_str(&question).unwrap();
    let address = question[0]["data"]["validationUrl"].as_str().unwrap();
    let path = address.strip_prefix(&running.base()).unwrap();
    assert_eq!(running.plain("GET", &format!("{path}0"), "").await.status, 400);
    let reply = running.plain("GET", path, "").await;
    assert_eq!(reply.status, 200, "{}", reply.text);

    let (_, headers, event) = next(&mut requests).await;
    assert_eq!(headers["aeg-event-type"], "Notification");
    let event: Value = serde_json::from_str(&event).unwrap();
    assert_eq!(event[0]["eventType"], "Microsoft.Communication.SMSReceived");
    assert_eq!(event[0]["data"]["messageId"], id);
    let delivered = async {
        loop {
            let events = control.events(0).await;
            if events[0]["deliveries"][0]["status"] == "delivered" {
                return events;
            }
        }
    };
    let events = tokio::time::timeout(Duration::from_secs(20), delivered).await.unwrap();
    assert_eq!(events[0]["id"], event[0]["id"]);
    assert_eq!(control.webhooks().await[0]["validation"]["state"], "validated");
    assert_eq!(control.status().await["counts"]["events"], events.len());
}

#[tokio::test]
async fn webhooks_that_make_no_sense_are_refused_and_nothing_changes() {
    let running = start().await;
    let control = Control::at(running.base());
    control.set_webhooks(json!([{ "url": "http://127.0.0.1:9/" }])).await;
    let too_many = Value::Array(vec![json!({ "url": "http://127.0.0.1:9/" }); 17]);
    for body in [
        json!([{ "url": "ftp://127.0.0.1/" }]),
        json!([{ "url": "http://127.0.0.1:9/", "schema": "xml" }]),
        json!([{ "url": "http://127.0.0.1:9/", "duplicate": 1000 }]),
        too_many,
    ] {
        let reply = running.plain("PUT", "/_emulator/webhooks", &body.to_string()).await;
        assert_eq!(reply.status, 400, "{}", reply.text);
    }
    assert_eq!(control.webhooks().await.len(), 1);
}
