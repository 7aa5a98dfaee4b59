//! One call, from its HTTP request to its HTTP response: observed, admitted, and given to the service it names.
//!
//! Plain functions and not tower layers: each step runs once, in this order, and the compiler checks it. The paths
//! are our own table instead of a router, because metrics need their names anyway.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::CONTENT_TYPE;
use http::{Method as HttpMethod, Request, Response, StatusCode};
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, Bytes, Service as _, StdError};
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::arriving::Arriving;
use super::chat::Chats;
use super::email::Emails;
use super::event::Events;
use super::health::Health;
use super::identity::Identities;
use super::method::{self, Method, Service};
use super::observe::{Identified, Observer};
use super::proto::FILE_DESCRIPTOR_SET;
use super::proto::v1::chat_service_server::ChatServiceServer;
use super::proto::v1::email_service_server::EmailServiceServer;
use super::proto::v1::event_service_server::EventServiceServer;
use super::proto::v1::identity_service_server::IdentityServiceServer;
use super::proto::v1::sms_service_server::SmsServiceServer;
use super::proto::v1::token_service_server::TokenServiceServer;
use super::scales::Weight;
use super::sms::Texts;
use super::status::{self, Refusal};
use super::token::Tokens;
use super::{Cores, ServeError, Settings, authn};
use crate::auth::{Gate, Peer};
use crate::messaging::Messaging;
use crate::metrics::Metrics;

/// The largest SendEmail: what ACS takes, 10 MB in base64, with room to tell the caller by how much it is too large.
const MAX_MAIL_BYTES: usize = 16 * 1024 * 1024;

/// The largest request of chat: 200 participants with the longest ids and names there are.
const MAX_CHAT_BYTES: usize = 256 * 1024;

/// A service whose speed does not matter.
pub(super) type Boxed = BoxCloneSyncService<Request<Body>, Response<Body>, Infallible>;

/// Everything that answers calls.
pub(crate) struct Server {
    observer: Observer,
    gate: Arc<Gate>,
    tokens: TokenServiceServer<Tokens>,
    identities: IdentityServiceServer<Identities>,
    messages: Option<Messages>,
    chat: Option<ChatServiceServer<Chats>>,
    health: Boxed,
    reflection: Option<[Boxed; 2]>,
}

/// The services that stand on messaging.
struct Messages {
    sms: SmsServiceServer<Texts>,
    email: EmailServiceServer<Emails>,
    events: EventServiceServer<Events>,
}

impl Messages {
    fn new(settings: &Settings, sms: Messaging, events: Events) -> Self {
        let limit = settings.max_message_bytes;
        let email = Emails::new(sms.clone(), settings.default_deadline);
        Self {
            sms: SmsServiceServer::new(Texts::new(sms)).max_decoding_message_size(limit),
            email: EmailServiceServer::new(email).max_decoding_message_size(limit.max(MAX_MAIL_BYTES)),
            events: EventServiceServer::new(events).max_decoding_message_size(limit),
        }
    }
}

impl Server {
    /// With these limits, over that core.
    pub(crate) fn new(
        settings: &Settings,
        cores: Cores,
        gate: Arc<Gate>,
        metrics: Metrics,
        health: &Health,
        shutdown: &CancellationToken,
    ) -> Result<Self, ServeError> {
        let limit = settings.max_message_bytes;
        let Cores { broker, messaging, chat, audit } = cores;
        let messages = messaging.map(|messaging| {
            let events = Events::new(messaging.clone(), broker.clone(), metrics.clone(), shutdown.clone());
            Messages::new(settings, messaging, events)
        });
        let tokens = Tokens::new(broker.clone(), broker.settings().default_validity());
        Ok(Self {
            observer: Observer::new(metrics, audit, settings.default_deadline, settings.max_in_flight),
            gate,
            tokens: TokenServiceServer::new(tokens).max_decoding_message_size(limit),
            identities: IdentityServiceServer::new(Identities::new(broker)).max_decoding_message_size(limit),
            messages,
            chat: chat.map(|chat| {
                ChatServiceServer::new(Chats::new(chat)).max_decoding_message_size(limit.max(MAX_CHAT_BYTES))
            }),
            health: BoxCloneSyncService::new(health.service()),
            reflection: settings.reflection.then(reflection).transpose()?,
        })
    }

    /// Answers a call. Never fails: whatever goes wrong is a gRPC status, or for what is not gRPC, an HTTP one. In a `crowd`,
    /// of answers that nobody takes, none but probes have theirs.
    pub(super) async fn call<B>(
        &self,
        peer: &Peer,
        crowd: bool,
        mut request: Request<Arriving<B>>,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        if let Some(refused) = refuse_other_than_grpc(&request) {
            return refused;
        }
        let method = method::at(request.uri().path());
        let who = Identified::new();
        let call = self.observer.begin(method, request.headers(), &who);
        // Its errors may come long after the call was observed.
        if method.service == method::Service::Event {
            request.extensions_mut().insert(call.request_id());
        }
        if !method.is_open() {
            request.extensions_mut().insert(call.trail());
        }
        call.run(async {
            if crowd && method.takes_a_seat() {
                return status::of(Refusal::Overloaded).into_http();
            }
            self.answer(method, peer, request, &who).await
        })
        .await
    }

    async fn answer<B>(
        &self,
        method: &'static Method,
        peer: &Peer,
        mut request: Request<Arriving<B>>,
        who: &Identified,
    ) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        if let Err(error) = authn::admit(&self.gate, peer, method, &mut request, who).await {
            return status::of(error).into_http();
        }
        if !method.is_open() {
            request.body_mut().admitted();
        }
        // Of these requests much is still there while they are worked on.
        let stays = matches!(method.service, Service::Sms | Service::Email | Service::Chat);
        let weight = stays.then(Weight::default);
        if let Some(weight) = &weight {
            request.body_mut().held_by(weight);
        }
        self.dispatch(method, request).await
    }

    /// Gives a call to its service. One that was not admitted is refused there.
    async fn dispatch<B>(&self, method: &'static Method, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let boxed = match (method.service, &self.reflection) {
            (Service::Token, _) => {
                let Ok(response) = self.tokens.clone().call(request).await;
                return response;
            }
            (Service::Identity, _) => {
                let Ok(response) = self.identities.clone().call(request).await;
                return response;
            }
            (Service::Sms | Service::Email | Service::Event | Service::Chat, _) => {
                return self.message(method.service, request).await;
            }
            (Service::Health, _) => &self.health,
            (Service::Reflection, Some([v1, _])) => v1,
            (Service::ReflectionAlpha, Some([_, v1alpha])) => v1alpha,
            (Service::Reflection | Service::ReflectionAlpha, None) | (Service::Unknown, _) => {
                return status::of(Refusal::MethodUnknown).into_http();
            }
        };
        let Ok(response) = boxed.clone().oneshot(request.map(Body::new)).await;
        response
    }

    /// The services that stand on messaging; boxed, so that they do not make the future of a token's call larger.
    async fn message<B>(&self, service: Service, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        if let (Service::Chat, Some(chat)) = (service, &self.chat) {
            let Ok(response) = Box::pin(chat.clone().call(request)).await;
            return response;
        }
        let Some(messages) = self.messages.as_ref().filter(|_| service != Service::Chat) else {
            return status::of(Refusal::MethodUnknown).into_http();
        };
        let Ok(response) = match service {
            Service::Sms => Box::pin(messages.sms.clone().call(request)).await,
            Service::Email => Box::pin(messages.email.clone().call(request)).await,
            _ => Box::pin(messages.events.clone().call(request)).await,
        };
        response
    }
}

/// The gRPC specification wants 415 for other content; other methods than POST are not gRPC either.
pub(super) fn refuse_other_than_grpc<B>(request: &Request<B>) -> Option<Response<Body>> {
    let is_grpc = |value: &http::HeaderValue| value.as_bytes().starts_with(b"application/grpc");
    let refused = if request.method() != HttpMethod::POST {
        StatusCode::METHOD_NOT_ALLOWED
    } else if !request.headers().get(CONTENT_TYPE).is_some_and(is_grpc) {
        StatusCode::UNSUPPORTED_MEDIA_TYPE
    } else {
        return None;
    };
    let mut response = Response::new(Body::empty());
    *response.status_mut() = refused;
    Some(response)
}

fn reflection() -> Result<[Boxed; 2], tonic_reflection::server::Error> {
    let builder = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok([
        BoxCloneSyncService::new(builder().build_v1()?.max_decoding_message_size(4096)),
        BoxCloneSyncService::new(builder().build_v1alpha()?.max_decoding_message_size(4096)),
    ])
}

#[cfg(test)]
#[path = "server_tests.rs"]
pub(super) mod tests;
