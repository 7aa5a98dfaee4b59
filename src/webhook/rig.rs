//! What the tests of the intake stand on: a real listener over messaging with the embedded store in memory.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::task::TaskTracker;

use super::*;
use crate::broker::error::Error;
use crate::broker::ports::StoreError;
use crate::broker::types::Caller;
use crate::clock::{ManualClock, Timestamp};
use crate::messaging::ports::{
    ChannelError, Cursor, EmailSender, EventLog, EventsRead, Mail, MailProgress, OptOutChange, SmsAnswer,
    SmsBatch, SmsSender,
};
use crate::messaging::types::{Failure, MessageName, Number, State};
use crate::messaging::{SendSms, Settings as Messages};

pub(super) const SECRET: &str = "known to Event Grid alone";
pub(super) const NOW: Timestamp = Timestamp::from_millis(1_795_348_800_000);

/// An ACS that takes everything.
struct Acs;

#[async_trait]
impl SmsSender for Acs {
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError> {
        let taken = |number: &str| SmsAnswer::Taken { message_id: format!("Outgoing_{}", &number[1..]) };
        Ok(batch.to.iter().map(|recipient| taken(recipient.to.as_str())).collect())
    }

    async fn opt_outs(
        &self,
        _: OptOutChange,
        _: &str,
        _: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl EmailSender for Acs {
    async fn send(&self, _: uuid::Uuid, _: &Mail) -> Result<MailProgress, ChannelError> {
        Ok(MailProgress::Sent)
    }

    async fn status(&self, _: uuid::Uuid) -> Result<Option<MailProgress>, ChannelError> {
        Ok(Some(MailProgress::Sent))
    }
}

/// A log of events that can be made to fail.
struct Log {
    inner: Arc<dyn EventLog>,
    down: Arc<AtomicBool>,
}

#[async_trait]
impl EventLog for Log {
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        unique_for: Duration,
        keep: Duration,
    ) -> Result<Option<Cursor>, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Unavailable(Arc::new(std::io::Error::other("down"))));
        }
        self.inner.append(key, event, unique_for, keep).await
    }

    async fn end(&self) -> Result<Cursor, StoreError> {
        self.inner.end().await
    }

    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError> {
        self.inner.read(after, limit).await
    }
}

pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) messaging: Messaging,
    pub(super) metrics: Metrics,
    pub(super) log_is_down: Arc<AtomicBool>,
    pub(super) stop: CancellationToken,
    pub(super) served: tokio::task::JoinHandle<()>,
}

impl Rig {
    pub(super) async fn start(secret: &str) -> Self {
        Self::with(Settings::at("", Secret::new(secret))).await
    }

    pub(super) async fn with(webhook: Settings) -> Self {
        Self::audited(webhook, Audit::off()).await
    }

    /// One that leaves records there.
    pub(super) async fn audited(webhook: Settings, audit: Audit) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(NOW));
        let mut stores = crate::store::memory(Arc::clone(&clock)).messages;
        let down = Arc::new(AtomicBool::new(false));
        stores.events = Arc::new(Log { inner: stores.events, down: Arc::clone(&down) });
        let mut settings = Messages::default();
        settings.sms.senders = "+18005550100".into();
        settings.email.senders = "noreply@contoso.example".into();
        let metrics = Metrics::new();
        let (acs, tasks) = (Arc::new(Acs), TaskTracker::new());
        let messaging = Messaging::new(
            settings,
            stores,
            Arc::clone(&acs) as _,
            acs,
            Arc::clone(&clock),
            metrics.clone(),
            tasks,
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (intake, shared, stopped) = (messaging.clone(), metrics.clone(), stop.clone());
        let callers = Callers::new(&webhook, Arc::clone(&clock), metrics.clone());
        let served = tokio::spawn(serve(listener, callers, intake, audit, clock, shared, stopped));
        Self { address, messaging, metrics, log_is_down: down, stop, served }
    }

    /// Sends raw bytes; everything that comes back.
    pub(super) async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The server may answer and hang up before all of it is sent.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub(super) async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &[u8]) -> String {
        let mut request = format!("{line} HTTP/1.1\r\nhost: broker\r\ncontent-length: {}\r\n", body.len());
        for (name, value) in headers {
            request += &format!("{name}: {value}\r\n");
        }
        self.raw(&[request.as_bytes(), b"\r\n", body].concat()).await
    }

    /// Posts a body as Event Grid would; the status.
    pub(super) async fn post(&self, body: &Value) -> u16 {
        self.post_text(body.to_string().as_bytes()).await
    }

    pub(super) async fn post_text(&self, body: &[u8]) -> u16 {
        let headers =
            [("x-acs-broker-webhook-secret", SECRET), ("content-type", "application/json; charset=utf-8")];
        status(&self.ask("POST /events", &headers, body).await)
    }

    pub(super) fn counted(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|shown| shown == format!("acs_broker_webhook_{line}"))
    }

    pub(super) async fn send(&self, request: u128, to: &[&str]) {
        let request = SendSms {
            request_id: uuid::Uuid::from_u128(request),
            from: None,
            to: to.iter().map(|to| Number::parse(to).unwrap()).collect(),
            text: "Hello".into(),
            delivery_report: true,
            tag: None,
        };
        self.messaging.send_sms(&caller(), request).await.unwrap();
    }

    pub(super) async fn states(&self, request: u128) -> Vec<State> {
        let name = MessageName::Request(uuid::Uuid::from_u128(request));
        let report = self.messaging.get_sms(&caller(), name).await.unwrap();
        report.outcomes.iter().map(|outcome| outcome.state).collect()
    }
}

pub(super) fn caller() -> Caller {
    Caller::unlimited("shop")
}

pub(super) fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{answer:?}"))
}

pub(super) fn report(id: &str, number: &str, status: &str) -> Value {
    json!({
        "id": id, "topic": "/subscriptions/s", "subject": "/phonenumber/18005550100",
        "data": {"MessageId": format!("Outgoing_{}", &number[1..]), "From": "18005550100", "To": number,
                 "DeliveryStatus": status, "DeliveryStatusDetails": "No error.", "Tag": "t"},
        "eventType": "Microsoft.Communication.SMSDeliveryReportReceived",
        "eventTime": "2026-11-22T12:30:15.1234567Z", "dataVersion": "1.0", "metadataVersion": "1",
    })
}
