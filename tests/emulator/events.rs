//! The webhook of the settings, as a program meets it: asked first, never by mistake, and let go at the end.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::clock::ManualClock;
use acs_broker::emulator::{self, Settings, StartError};
use axum::http::{HeaderMap, Method};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::harness::{START, start_with};

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
