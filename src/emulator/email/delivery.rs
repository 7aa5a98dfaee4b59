//! What becomes of a mail that was taken in: the end of the operation, and a report for each recipient.
//!
//! Everything happens by the emulator's clock, through the scheduler. A mail that is gone by then has no reports. Used
//! by `email`.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::state::{Delivery, Kept, Status};
use crate::clock::Timestamp;
use crate::emulator::events::{self, Event};
use crate::emulator::magic::{self, MailOutcome};
use crate::emulator::shared::Shared;
use crate::emulator::times;

const DELIVERED: &str = "Delivered";

/// Has a mail meet its fate later.
pub(super) fn schedule(shared: &Shared, key: String, now: Timestamp) {
    let due = now.plus(shared.settings.deliver_after);
    shared.scheduler.at(due, move |shared| conclude(shared, &key, due));
}

/// Ends the operation and reports of the recipients, of some of them later.
fn conclude(shared: &Shared, key: &str, due: Timestamp) {
    let now = shared.clock.now();
    let mut later = Vec::new();
    let mut events = Vec::new();
    let mut state = shared.email.state();
    let Some(kept) = state.mails.get_mut(key) else { return };
    let mut seen = HashSet::new();
    let recipients: Vec<(String, MailOutcome)> = kept
        .mail
        .recipients()
        // Somebody who is named twice gets the mail once.
        .filter(|address| seen.insert(address.address.to_lowercase()))
        .map(|address| (address.address.clone(), magic::mail(&address.address)))
        .collect();
    kept.status = status(&recipients);
    for (recipient, outcome) in recipients {
        let (status, details) = match outcome {
            MailOutcome::Reported(status, details) => (status, details),
            MailOutcome::Suppressed => ("Suppressed", Some("The recipient is on the suppression list.")),
            MailOutcome::Dropped => ("Failed", Some(DROPPED.1)),
            MailOutcome::Delayed(by) => {
                later.push((recipient, due.plus(by)));
                continue;
            }
            MailOutcome::Never => continue,
        };
        events.push(kept.report(Delivery { recipient, status, details }, now));
    }
    drop(state);
    for (recipient, due) in later {
        let key = key.to_owned();
        shared.scheduler.at(due, move |shared| report_late(shared, &key, recipient));
    }
    for event in events {
        events::emit(shared, event);
    }
    shared.feed.changed();
}

const SUPPRESSED: (&str, &str) =
    ("EmailDroppedAllRecipientsSuppressed", "Message dropped because all recipients were suppressed");
const DROPPED: (&str, &str) = ("EmailDropped", "Email was dropped after several attempts to deliver.");

/// How an operation ends: it succeeds as soon as there is anybody to send to.
fn status(recipients: &[(String, MailOutcome)]) -> Status {
    let all = |wanted: &[MailOutcome]| recipients.iter().all(|(_, outcome)| wanted.contains(outcome));
    if all(&[MailOutcome::Suppressed]) {
        Status::Failed(SUPPRESSED.0, SUPPRESSED.1)
    } else if all(&[MailOutcome::Suppressed, MailOutcome::Dropped]) {
        Status::Failed(DROPPED.0, DROPPED.1)
    } else {
        Status::Succeeded
    }
}

fn report_late(shared: &Shared, key: &str, recipient: String) {
    let now = shared.clock.now();
    let mut state = shared.email.state();
    let Some(kept) = state.mails.get_mut(key) else { return };
    let event = kept.report(Delivery { recipient, status: DELIVERED, details: None }, now);
    drop(state);
    events::emit(shared, event);
    shared.feed.changed();
}

impl Kept {
    /// Notes what became of a recipient. Returned: `EmailDeliveryReportReceived`, to be emitted without the lock.
    fn report(&mut self, delivery: Delivery, now: Timestamp) -> Event {
        let mut data = Map::new();
        data.insert("sender".into(), self.mail.sender.as_str().into());
        data.insert("recipient".into(), delivery.recipient.as_str().into());
        data.insert("messageId".into(), self.id.as_str().into());
        data.insert("status".into(), delivery.status.into());
        if let Some(details) = delivery.details {
            data.insert("deliveryStatusDetails".into(), json!({ "statusMessage": details }));
        }
        data.insert("deliveryAttemptTimestamp".into(), times::iso_8601(now).into());
        self.deliveries.push(delivery);
        Event { kind: "EmailDeliveryReportReceived", subject: self.subject(), data: Value::Object(data) }
    }

    /// What events about this mail are about.
    pub(super) fn subject(&self) -> String {
        format!("sender/{}/message/{}", self.mail.sender, self.id)
    }
}
