//! An SMS that somebody sends to the resource: kept, told as an event, and heard if it is a keyword.
//!
//! ACS has no operation for it; the phone network does. Used by `control`.

use serde_json::json;

use super::delivery::in_event;
use super::number::{self, Sender};
use super::send::compact;
use super::state::{self, Sent, pair};
use super::text;
use crate::emulator::events::{self, Event};
use crate::emulator::shared::Shared;

/// The longest text that can come in.
const MAX_MESSAGE: usize = 2048;

/// What a text says to a toll-free number.
#[derive(Debug, PartialEq, Eq)]
enum Keyword {
    Stop,
    Start,
}

fn keyword(text: &str) -> Option<Keyword> {
    match text.trim().to_ascii_uppercase().as_str() {
        "STOP" => Some(Keyword::Stop),
        "START" | "UNSTOP" => Some(Keyword::Start),
        // HELP has no effect of its own: whoever owns the number answers it.
        _ => None,
    }
}

/// Takes in a message to one of the resource's senders. Returned: its id, or what is wrong.
pub(in crate::emulator) fn receive(
    shared: &Shared,
    from: &str,
    to: &str,
    text: &str,
) -> Result<String, String> {
    let wrong = |what: &str| Err(what.to_owned());
    if !number::is_recipient(from) {
        return wrong("from must be a phone number in E.164 form");
    }
    match number::sender(to) {
        Some(Sender::Number | Sender::ShortCode) if shared.settings.owns_sender(to) => {}
        Some(Sender::Alphanumeric) => {
            return wrong("to must be a number or a short code: names cannot receive");
        }
        _ => return wrong("to must be one of the emulator's senders"),
    }
    if text::length(text) > MAX_MESSAGE {
        return wrong("message must have at most 2048 characters");
    }
    let now = shared.clock.now();
    let id = format!("Incoming_{}{}", compact(now), shared.random.uuid());
    let sent = Sent {
        sequence: shared.feed.next_sequence(),
        at: now,
        from: from.into(),
        to: to.to_owned(),
        text: text.into(),
        tag: None,
        is_inbound: true,
        delivery_report: false,
        repeatability_id: None,
        partner_id: None,
        delivery: None,
    };
    let mut state = shared.sms.state();
    state.messages.put(&id, now, sent.bytes(), sent);
    if number::is_toll_free(to) {
        let key = pair(to, from);
        match keyword(text) {
            Some(Keyword::Stop) => state.opt_outs.put(&key, now, 0, ()),
            Some(Keyword::Start) => {
                state.opt_outs.remove(&key);
            }
            None => {}
        }
    }
    drop(state);
    state::sweep_later(shared);
    // Both numbers without their plus, as in every example.
    let (bare_from, bare_to) = (from.trim_start_matches('+'), to.trim_start_matches('+'));
    let event = Event {
        kind: "SMSReceived",
        subject: format!("/phonenumber/{bare_to}"),
        data: json!({
            "messageId": id,
            "from": bare_from,
            "to": bare_to,
            "message": text,
            "receivedTimestamp": in_event(now),
            "segmentCount": text::segments(text).1,
        }),
    };
    events::emit(shared, event);
    shared.feed.changed();
    Ok(id)
}
