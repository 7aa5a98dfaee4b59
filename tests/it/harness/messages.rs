//! Requests to send, fleets that send them, and a caller who repeats a request until it has an answer.

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use tonic::transport::Channel;
use tonic::{Response, Status};
use tonic_types::StatusExt;
use v1::chat_service_client::ChatServiceClient;
use v1::email_service_client::EmailServiceClient;
use v1::sms_service_client::SmsServiceClient;

use super::{BrokerProcess, Emulator};
use crate::redis_server::RedisServer;

/// The sender of SMS that the emulated resource owns, and one of mail.
pub(crate) const NUMBER: &str = "+18005550100";
pub(crate) const ADDRESS: &str = "noreply@contoso.example";

/// Brokers that share a Redis and may send.
pub(crate) struct Fleet {
    pub(crate) _redis: RedisServer,
    pub(crate) brokers: Vec<BrokerProcess>,
}

impl Fleet {
    /// `count` brokers. `settings` are given to each of them, after those that every fleet has.
    pub(crate) async fn start(emulator: &Emulator, count: usize, settings: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start();
        let url = redis.url();
        let mut brokers = Vec::new();
        for _ in 0..count {
            let common = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", url.as_str())];
            let settings: Vec<_> =
                common.into_iter().chain(sending()).chain(settings.iter().copied()).collect();
            brokers.push(BrokerProcess::start(&emulator.connection_string, &settings).await);
        }
        Self { _redis: redis, brokers }
    }
}

/// Settings of a broker that sends without being held up by limits; a machine that also compiles may be slow.
pub(crate) fn sending() -> [(&'static str, &'static str); 4] {
    [
        ("MESSAGES__SMS__SENDERS", NUMBER),
        ("MESSAGES__EMAIL__SENDERS", ADDRESS),
        ("MESSAGES__LIMITS", "10000"),
        ("STORE__REDIS__TIMEOUT", "5s"),
    ]
}

/// One client of each kind for one broker.
#[derive(Clone)]
pub(crate) struct Clients {
    pub(crate) sms: SmsServiceClient<Channel>,
    pub(crate) email: EmailServiceClient<Channel>,
    pub(crate) chat: ChatServiceClient<Channel>,
}

impl Clients {
    pub(crate) fn of(broker: &BrokerProcess) -> Self {
        Self { sms: broker.sms(), email: broker.email(), chat: broker.chats() }
    }
}

pub(crate) fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// The recipient with this number, each another one: `+1` and ten digits that no magic number has.
pub(crate) fn recipient(number: usize) -> String {
    format!("+1425{:07}", 2_000_000 + number)
}

/// An SMS with a delivery report.
pub(crate) fn sms(request_id: &str, to: Vec<String>, text: &str) -> v1::SendSmsRequest {
    v1::SendSmsRequest {
        request_id: request_id.into(),
        to,
        text: text.into(),
        enable_delivery_report: true,
        ..Default::default()
    }
}

/// A mail to one recipient.
pub(crate) fn mail(request_id: &str, to: &str, subject: &str) -> v1::SendEmailRequest {
    v1::SendEmailRequest {
        request_id: request_id.into(),
        to: vec![address(to)],
        subject: subject.into(),
        plain_text: "a mail".into(),
        ..Default::default()
    }
}

pub(crate) fn address(address: &str) -> v1::EmailAddress {
    v1::EmailAddress { address: address.into(), display_name: String::new() }
}

pub(crate) fn participant(user: &str) -> v1::ChatParticipant {
    let party = v1::ChatParty { user_id: user.into(), acs_user_id: String::new() };
    v1::ChatParticipant { party: Some(party), ..Default::default() }
}

/// The stable reason of an error; what did not come from the broker has none.
pub(crate) fn reason(status: &Status) -> String {
    status.get_error_details().error_info().map_or_else(String::new, |info| info.reason.clone())
}

/// What repeating a request came to.
pub(crate) struct Repeated<T> {
    /// Every answer that was no error, in order.
    pub(crate) answers: Vec<T>,
    /// How often it was asked.
    pub(crate) asked: usize,
    /// How many times the outcome was not known.
    pub(crate) unknown: usize,
}

/// Asks at least `least` times and until there is an answer, each time by the next broker. Only errors that tell the
/// caller to repeat the request as it is are met with a repetition; any other is a failed test.
pub(crate) async fn repeat<T, F>(first: usize, least: usize, ask: impl Fn(usize) -> F) -> Repeated<T>
where
    F: Future<Output = Result<Response<T>, Status>>,
{
    let mut repeated = Repeated { answers: Vec::new(), asked: 0, unknown: 0 };
    while repeated.asked < least || repeated.answers.is_empty() {
        assert!(repeated.asked < 400, "no answer in {} tries", repeated.asked);
        let broker = first + repeated.asked;
        repeated.asked += 1;
        match ask(broker).await {
            Ok(answer) => repeated.answers.push(answer.into_inner()),
            Err(status) => match reason(&status).as_str() {
                "OUTCOME_UNKNOWN" => repeated.unknown += 1,
                // Somebody works on it; their time is not ours to guess, so: soon again.
                "REQUEST_IN_PROGRESS" => tokio::time::sleep(Duration::from_millis(50)).await,
                "ACS_UNAVAILABLE" | "STORE_UNAVAILABLE" | "DEADLINE_EXCEEDED" => {}
                _ => panic!("not to be repeated: {status:?}"),
            },
        }
    }
    repeated
}
