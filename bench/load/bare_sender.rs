//! The yardstick of `bench/load/sends.py`: a stock tonic server that makes the same call of ACS as the broker does, and
//! nothing else: no store, no limits, no checks, no metrics.
//!
//! Arguments: the connection string, and a broker's URL, which it asks once for a user's token to chat with.
#![allow(clippy::print_stdout, reason = "the driver reads the address from standard output")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs;
use acs_broker::clock::{Clock, SystemClock};
use acs_broker::config;
use acs_broker::grpc::proto::v1;
use acs_broker::secret::Secret;
use tonic::{Request, Response, Status};
use v1::chat_service_server::{ChatService, ChatServiceServer};
use v1::sms_service_server::{SmsService, SmsServiceServer};
use v1::token_service_client::TokenServiceClient;

#[derive(Clone)]
struct Bare {
    client: acs::Client,
    token: Secret,
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + Duration::from_secs(8)
}

fn failed(_: acs::Error) -> Status {
    Status::unavailable("ACS did not take it")
}

impl Bare {
    async fn text(&self, wish: v1::SendSmsRequest) -> Result<v1::SendSmsResponse, Status> {
        let now = SystemClock.now();
        let recipient =
            |to: String| acs::SmsRecipient { to, repeatability_id: uuid::Uuid::new_v4(), first_sent: now };
        let to: Vec<_> = wish.to.into_iter().map(recipient).collect();
        let (report, from) = (wish.enable_delivery_report, "+18005550100");
        let sms = acs::Sms { from, to: &to, text: &wish.text, delivery_report: report, tag: None };
        let results = self.client.sms().send(&sms, deadline()).await.map_err(failed)?;
        let outcome = |result: acs::SmsResult| v1::SmsOutcome {
            message_id: result.outcome.unwrap_or_default(),
            ..Default::default()
        };
        Ok(v1::SendSmsResponse {
            sms_id: String::new(),
            outcomes: results.into_iter().map(outcome).collect(),
        })
    }

    async fn say(&self, wish: v1::SendChatMessageRequest) -> Result<v1::SendChatMessageResponse, Status> {
        let chat = self.client.chat(&self.token);
        let sent =
            chat.send_message(&wish.thread_id, &wish.text, false, None, &BTreeMap::new(), deadline()).await;
        Ok(v1::SendChatMessageResponse { message_id: sent.map_err(failed)? })
    }
}

/// A service whose other methods are not there.
macro_rules! service {
    ($service:ident: $method:ident($request:ident) -> $response:ident by $by:ident; $($other:ident($wish:ident) -> $answer:ident;)*) => {
        #[tonic::async_trait]
        impl $service for Bare {
            async fn $method(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
                self.$by(request.into_inner()).await.map(Response::new)
            }
            $(async fn $other(&self, _: Request<v1::$wish>) -> Result<Response<v1::$answer>, Status> {
                Err(Status::unimplemented("the yardstick only sends"))
            })*
        }
    };
}

service!(SmsService: send_sms(SendSmsRequest) -> SendSmsResponse by text;
    get_sms(GetSmsRequest) -> GetSmsResponse;
    check_sms_opt_outs(CheckSmsOptOutsRequest) -> CheckSmsOptOutsResponse;
    add_sms_opt_outs(AddSmsOptOutsRequest) -> AddSmsOptOutsResponse;
    remove_sms_opt_outs(RemoveSmsOptOutsRequest) -> RemoveSmsOptOutsResponse;
);
service!(ChatService: send_chat_message(SendChatMessageRequest) -> SendChatMessageResponse by say;
    create_chat_thread(CreateChatThreadRequest) -> CreateChatThreadResponse;
    get_chat_thread(GetChatThreadRequest) -> GetChatThreadResponse;
    list_chat_threads(ListChatThreadsRequest) -> ListChatThreadsResponse;
    update_chat_thread(UpdateChatThreadRequest) -> UpdateChatThreadResponse;
    delete_chat_thread(DeleteChatThreadRequest) -> DeleteChatThreadResponse;
    add_chat_participants(AddChatParticipantsRequest) -> AddChatParticipantsResponse;
    list_chat_participants(ListChatParticipantsRequest) -> ListChatParticipantsResponse;
    remove_chat_participant(RemoveChatParticipantRequest) -> RemoveChatParticipantResponse;
    get_chat_message(GetChatMessageRequest) -> GetChatMessageResponse;
    list_chat_messages(ListChatMessagesRequest) -> ListChatMessagesResponse;
    update_chat_message(UpdateChatMessageRequest) -> UpdateChatMessageResponse;
    delete_chat_message(DeleteChatMessageRequest) -> DeleteChatMessageResponse;
    send_read_receipt(SendReadReceiptRequest) -> SendReadReceiptResponse;
    list_read_receipts(ListReadReceiptsRequest) -> ListReadReceiptsResponse;
    send_typing_notification(SendTypingNotificationRequest) -> SendTypingNotificationResponse;
);

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: bare_sender CONNECTION_STRING BROKER_URL";
    let (resource, broker) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let scopes = vec![v1::Scope::Chat as i32];
    let wish = v1::IssueTokenRequest { user_id: "bench".into(), scopes, ..Default::default() };
    let token = TokenServiceClient::connect(broker).await?.issue_token(wish).await?.into_inner().token;
    let file = [("ACS_BROKER__ACS__CONNECTION_STRING".to_owned(), resource.clone())].into();
    let inputs = config::Inputs {
        purpose: config::Purpose::Serve,
        presumed: &[],
        file: None,
        environment: &file,
        flags: &[],
    };
    let settings = config::load(&inputs).map_err(|problems| problems.to_string())?.acs;
    let client =
        acs::Client::new(&settings, acs::ConnectionString::parse(&resource)?, Arc::new(SystemClock))?;
    let bare = Bare { client, token: Secret::new(token) };

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    let incoming = tonic::transport::server::TcpIncoming::from(listener).with_nodelay(Some(true));
    tonic::transport::Server::builder()
        .add_service(SmsServiceServer::new(bare.clone()))
        .add_service(ChatServiceServer::new(bare))
        .serve_with_incoming(incoming)
        .await?;
    Ok(())
}
