//! Events: what WatchEvents asks for, and each event as it goes out.

use super::sms::{failure, state, time};
use super::{Check, Error};
use crate::grpc::page_token;
use crate::grpc::proto::v1;
use crate::grpc::proto::v1::watch_events_response::Event as Told;
use crate::messaging::ports::Cursor;
use crate::messaging::{Event, EventKind, Happened};

/// The most entries of `kinds`; repetition is allowed, so it is more than there are kinds.
const MAX_KINDS: usize = 16;

/// WatchEvents: from where, and which.
pub(crate) fn watch(request: &v1::WatchEventsRequest) -> Result<(Option<Cursor>, Vec<EventKind>), Error> {
    let mut check = Check::default();
    let cursor = check.cursor(&request.cursor);
    let kinds = check.kinds(&request.kinds);
    match (cursor, kinds) {
        (Some(cursor), Some(kinds)) => Ok((cursor, kinds)),
        _ => Err(check.into_error()),
    }
}

/// A party of a chat: who it is to ACS and, if that is known, to the app.
pub(crate) fn party(acs_user_id: String, user_id: Option<String>) -> Option<v1::ChatParty> {
    (!acs_user_id.is_empty()).then(|| v1::ChatParty { user_id: user_id.unwrap_or_default(), acs_user_id })
}

/// An event as it is told; the parties of a chat have no user ids yet.
pub(crate) fn event(cursor: &Cursor, event: Event) -> v1::WatchEventsResponse {
    let message = event.message.unwrap_or_default();
    v1::WatchEventsResponse {
        cursor: page_token::encode(cursor.0.as_bytes()),
        event_time: time(event.at),
        event: Some(told(message, event.happened)),
    }
}

fn told(message: String, happened: Happened) -> Told {
    match happened {
        Happened::SmsDelivery { upstream_id, to, from, state: now, detail, tag } => {
            Told::SmsDelivery(v1::SmsDeliveryEvent {
                sms_id: message,
                message_id: upstream_id,
                to,
                from,
                state: state(now).into(),
                detail: Some(failure(detail)),
                tag,
            })
        }
        Happened::SmsReceived { upstream_id, from, to, text } => {
            Told::SmsReceived(v1::SmsReceivedEvent { message_id: upstream_id, from, to, text })
        }
        Happened::EmailDelivery { upstream_id: _, address, state: now, detail } => {
            Told::EmailDelivery(v1::EmailDeliveryEvent {
                email_id: message,
                address,
                state: state(now).into(),
                detail: Some(failure(detail)),
            })
        }
        Happened::EmailEngagement { upstream_id: _, address, engagement, link } => {
            Told::EmailEngagement(v1::EmailEngagementEvent { email_id: message, address, engagement, link })
        }
        Happened::Chat { name, thread, message, actor, subject, text, topic } => Told::Chat(v1::ChatEvent {
            r#type: name,
            thread_id: thread,
            message_id: message,
            actor: party(actor, None),
            subject: party(subject, None),
            text,
            topic,
        }),
    }
}

/// The core's kind for a number on the wire.
fn kind(number: i32) -> Option<EventKind> {
    match v1::EventKind::try_from(number).ok()? {
        v1::EventKind::Unspecified => None,
        v1::EventKind::SmsDelivery => Some(EventKind::SmsDelivery),
        v1::EventKind::SmsReceived => Some(EventKind::SmsReceived),
        v1::EventKind::EmailDelivery => Some(EventKind::EmailDelivery),
        v1::EventKind::EmailEngagement => Some(EventKind::EmailEngagement),
        v1::EventKind::Chat => Some(EventKind::Chat),
    }
}

impl Check {
    /// Empty, or what [`event`] made of a place in the log.
    fn cursor(&mut self, text: &str) -> Option<Option<Cursor>> {
        if text.is_empty() {
            return Some(None);
        }
        let is_place = |place: &String| {
            (1..=64).contains(&place.len()) && place.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        match page_token::decode(text).and_then(|place| String::from_utf8(place).ok()).filter(is_place) {
            Some(place) => Some(Some(Cursor(place))),
            None => {
                self.violation("cursor", "must be empty or the cursor of an event of this stream, unchanged")
            }
        }
    }

    fn kinds(&mut self, kinds: &[i32]) -> Option<Vec<EventKind>> {
        if kinds.len() > MAX_KINDS {
            return self.violation("kinds", format!("must have at most {MAX_KINDS} entries"));
        }
        let known = kinds.iter().enumerate().filter_map(|(index, &number)| {
            let unspecified = number == 0;
            kind(number).or_else(|| {
                let wrong = if unspecified {
                    "must not be EVENT_KIND_UNSPECIFIED"
                } else {
                    "must be a kind this version knows"
                };
                self.violation(&format!("kinds[{index}]"), wrong)
            })
        });
        let known: Vec<_> = known.collect();
        (known.len() == kinds.len()).then_some(known)
    }
}
