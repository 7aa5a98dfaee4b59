//! An emulator for tests of its parts: a clock that stands still, and handlers called without HTTP in between.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use hyper::body::Bytes;
use serde_json::Value;

use super::answer::Answer;
use super::call::{Call, Principal};
use super::handle::EmulatorHandle;
use super::mailbox::Message;
use super::operation::{Operation, Service};
use super::settings::Settings;
use super::shared::Shared;
use super::version::Version;
use super::{email, sms, start};
use crate::clock::{ManualClock, Timestamp};

/// 2026-11-22T12:00:00.123Z: within the validity of the certificates, which live in real time.
pub(super) const START: Timestamp = Timestamp::from_millis(1_795_348_800_123);

pub(super) struct Trial {
    pub(super) handle: EmulatorHandle,
}

/// What a handler answered.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) status: u16,
    pub(super) body: Value,
    pub(super) headers: Vec<(&'static str, String)>,
    /// Whether it counts as done.
    pub(super) done: bool,
}

impl Said {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

pub(super) async fn trial() -> Trial {
    trial_with(Settings::on_free_ports()).await
}

pub(super) async fn trial_with(settings: Settings) -> Trial {
    Trial { handle: start(settings, Arc::new(ManualClock::at(START))).await.unwrap() }
}

impl Trial {
    pub(super) fn shared(&self) -> &Shared {
        &self.handle.shared
    }

    pub(super) fn ask(&self, operation: Operation, version: Version, body: &Value) -> Said {
        self.ask_with(operation, version, &[], &[], body.to_string())
    }

    pub(super) fn get(&self, operation: Operation, version: Version, parameter: &str) -> Said {
        self.ask_with(operation, version, &[parameter], &[], String::new())
    }

    pub(super) fn ask_with(
        &self,
        operation: Operation,
        version: Version,
        parameters: &[&str],
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes>,
    ) -> Said {
        let parameters: Vec<String> = parameters.iter().map(|&parameter| parameter.to_owned()).collect();
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap())
            })
            .collect();
        let call = Call {
            operation,
            version,
            parameters: &parameters,
            headers: &headers,
            body: &body.into(),
            base: "https://127.0.0.1:8083",
            raw_query: "",
            principal: Principal::Key(0),
            now: self.shared().clock.now(),
        };
        let performed = match operation.service() {
            Service::Email => email::perform(self.shared(), &call),
            _ => sms::perform(self.shared(), &call),
        };
        let done = performed.is_ok();
        let Answer { status, body, headers, .. } = performed.unwrap_or_else(|refusal| *refusal);
        Said { status, body: serde_json::from_slice(&body).unwrap(), headers, done }
    }

    pub(super) fn advance(&self, by: Duration) {
        self.handle.advance(by);
    }

    /// Waits until `is_so`; whatever makes it so must ring the bell.
    pub(super) async fn until(&self, what: &str, mut is_so: impl FnMut(&Shared) -> bool) {
        let mut changes = self.shared().feed.subscribe();
        let waited = tokio::time::timeout(Duration::from_secs(20), async {
            while !is_so(self.shared()) {
                changes.changed().await.unwrap();
            }
        });
        assert!(waited.await.is_ok(), "waited in vain until {what}");
    }

    /// Moves the clock and waits until nothing is left to do that fell due.
    pub(super) async fn pass(&self, by: Duration) {
        self.advance(by);
        let (done, is_done) = tokio::sync::oneshot::channel();
        // Jobs run in the order they fall due: once this one ran, so did those that were due before.
        self.shared().scheduler.at(self.shared().clock.now(), move |_| {
            let _ = done.send(());
        });
        tokio::time::timeout(Duration::from_secs(20), is_done).await.unwrap().unwrap();
    }

    /// The events of a kind, oldest first.
    pub(super) fn events(&self, kind: &str) -> Vec<Value> {
        let mut events = self.shared().events.latest(0, usize::MAX);
        events.retain(|event| event["kind"] == kind);
        events.reverse();
        events
    }

    pub(super) fn sms(&self) -> Vec<Message> {
        let mut seen = Vec::new();
        self.shared().sms.newest_first(&mut |message| {
            seen.push(message);
            std::ops::ControlFlow::Continue(())
        });
        seen
    }

    pub(super) fn mails(&self) -> Vec<Message> {
        let mut seen = Vec::new();
        self.shared().email.newest_first(&mut |message| {
            seen.push(message);
            std::ops::ControlFlow::Continue(())
        });
        seen
    }
}
