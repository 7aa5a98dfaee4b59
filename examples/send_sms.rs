//! Sends an SMS through the broker, retries safely, and waits for the delivery report.
//!
//! `acs-broker dev` in one shell, `cargo run --example send_sms -- +14255550123` in another.

#![expect(clippy::print_stdout, reason = "an example talks to whoever runs it")]

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use tonic::{Code, Request};
use v1::event_service_client::EventServiceClient;
use v1::sms_service_client::SmsServiceClient;
use v1::watch_events_response::Event;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let to = arguments.next().unwrap_or_else(|| "+14255550123".into());
    let server = arguments.next().unwrap_or_else(|| "http://127.0.0.1:50051".into());
    let channel = tonic::transport::Endpoint::from_shared(server)?.connect().await?;

    // Watch before sending, so that the report cannot come too early.
    let watch =
        v1::WatchEventsRequest { kinds: vec![v1::EventKind::SmsDelivery.into()], ..Default::default() };
    let mut events = EventServiceClient::new(channel.clone()).watch_events(watch).await?.into_inner();

    // One id for all tries: however often this is repeated, one SMS goes out.
    let request = v1::SendSmsRequest {
        request_id: uuid::Uuid::new_v4().to_string(),
        to: vec![to],
        text: "Your order is on its way.".into(),
        enable_delivery_report: true,
        tag: "order-4711".into(),
        ..Default::default()
    };
    let mut sms = SmsServiceClient::new(channel);
    let sent = loop {
        let mut call = Request::new(request.clone());
        call.set_timeout(Duration::from_secs(15));
        match sms.send_sms(call).await {
            Ok(sent) => break sent.into_inner(),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::Aborted) => {
                println!("not yet: {}", status.message());
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Err(status) => return Err(status.into()),
        }
    };
    for outcome in &sent.outcomes {
        println!("{} {}", outcome.to, outcome.state().as_str_name());
    }
    while let Some(told) = events.message().await? {
        if let Some(Event::SmsDelivery(delivery)) = told.event
            && delivery.sms_id == sent.sms_id
        {
            println!("{} {}", delivery.to, delivery.state().as_str_name());
            break;
        }
    }
    Ok(())
}
