//! Health, reflection and the end of the server.

use std::time::Duration;

use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::harness::{anybody, start, start_default, wish};

fn of(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.into() }
}

#[tokio::test]
async fn health_follows_the_app_for_the_server_and_each_service() {
    // Nobody may call, but anybody may probe.
    let server = start(std::sync::Arc::new(acs_broker::auth::Gate::shut()), Settings::default()).await;
    let mut health = HealthClient::new(server.channel().await);
    for serving in [true, false, true] {
        server.health.set_serving(serving);
        let expected = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for service in ["", "acsbroker.v1.TokenService", "acsbroker.v1.IdentityService"] {
            assert_eq!(health.check(of(service)).await.unwrap().into_inner().status(), expected);
        }
    }
    assert_eq!(health.check(of("no.such.Service")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn watches_see_each_change_and_do_not_hold_up_the_drain() {
    let server = start_default().await;
    let mut health = HealthClient::new(server.channel().await);
    let mut watch = health.watch(of("")).await.unwrap().into_inner();
    let mut unknown = health.watch(of("no.such.Service")).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    assert_eq!(unknown.message().await.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
    server.health.set_serving(false);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    server.health.set_serving(true);
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    server.shutdown.cancel();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert_eq!(watch.message().await.unwrap(), None);
    assert_eq!(unknown.message().await.unwrap(), None);
    timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_lets_running_calls_end_and_accepts_no_more() {
    let server = start_default().await;
    let permits = server.acs.gate.available_permits();
    let call = server.hanging_call().await;

    server.shutdown.cancel();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while TcpStream::connect(server.address).await.is_ok() {
        assert!(tokio::time::Instant::now() < deadline, "the listener stays open");
    }
    assert!(!server.served.is_finished());
    server.acs.gate.add_permits(permits);
    assert_eq!(call.await.unwrap().unwrap().into_inner().token, "token-1");
    timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_with_its_time_even_if_a_call_does_not() {
    let settings = Settings { drain_timeout: Duration::from_millis(100), ..Settings::default() };
    let server = start(anybody(), settings).await;
    let call = server.hanging_call().await;
    // A connection on which nothing was ever sent must not hold it up either.
    let silent = TcpStream::connect(server.address).await.unwrap();
    server.shutdown.cancel();
    timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
    call.await.unwrap().unwrap_err();
    drop(silent);
}

#[tokio::test]
async fn a_connection_that_is_not_http2_is_closed() {
    let server = start_default().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // Closed or reset, but not left open.
    let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(server.tokens().await.issue_token(wish("user")).await.unwrap().into_inner().token, "token-1");
}

fn list_services() -> ServerReflectionRequest {
    let message_request = Some(MessageRequest::ListServices(String::new()));
    ServerReflectionRequest { host: String::new(), message_request }
}

#[tokio::test]
async fn reflection_lists_the_services_when_it_is_on() {
    let server = start(
        std::sync::Arc::new(acs_broker::auth::Gate::shut()),
        Settings { reflection: true, ..Settings::default() },
    )
    .await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let mut answers = client
        .server_reflection_info(futures_util::stream::iter([list_services()]))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for name in ["acsbroker.v1.TokenService", "acsbroker.v1.IdentityService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|listed| listed == name), "{names:?}");
    }
    let alpha = tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient::new(
        server.channel().await,
    )
    .server_reflection_info(futures_util::stream::iter([
        tonic_reflection::pb::v1alpha::ServerReflectionRequest::default(),
    ]))
    .await;
    assert!(alpha.is_ok());
}

#[tokio::test]
async fn reflection_is_unknown_when_it_is_off() {
    let server = start_default().await;
    let mut client = ServerReflectionClient::new(server.channel().await);
    let status: Status =
        client.server_reflection_info(futures_util::stream::iter([list_services()])).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn a_server_not_told_that_it_serves_says_so() {
    let server = start_default().await;
    server.health.set_serving(false);
    let mut health = HealthClient::new(server.channel().await);
    assert_eq!(health.check(of("")).await.unwrap().into_inner().status(), ServingStatus::NotServing);
    let request = v1::ResolveIdentityRequest { user_id: "user".into() };
    server.identities().await.resolve_identity(request).await.unwrap();
}
