//! Somebody opens a mail, or follows a link in it: told as an event.
//!
//! ACS learns of it from what it hides in the HTML; here whoever tests says so. Used by `control`.

use serde_json::json;

use super::state::key;
use crate::emulator::events::{self, Event};
use crate::emulator::shared::Shared;
use crate::emulator::times;

/// Tells of a `view` or a `click`. Returned: what is wrong.
pub(in crate::emulator) fn engage(
    shared: &Shared,
    operation_id: &str,
    recipient: &str,
    kind: &str,
) -> Result<(), String> {
    let wrong = |what: &str| Err(what.to_owned());
    if !["view", "click"].contains(&kind) {
        return wrong("type must be view or click");
    }
    let now = shared.clock.now();
    let state = shared.email.state();
    let Some(kept) = state.mails.get(&key(operation_id)) else {
        return wrong("there is no mail with this operation id");
    };
    if kept.mail.is_tracking_disabled {
        return wrong("the mail was sent with userEngagementTrackingDisabled");
    }
    let Some(recipient) = kept.mail.recipients().find(|known| known.address.eq_ignore_ascii_case(recipient))
    else {
        return wrong("recipient is none of the mail's");
    };
    let link = match kind {
        "click" => kept.mail.html.as_deref().and_then(first_link).unwrap_or_default(),
        _ => "",
    };
    let event = Event {
        kind: "EmailEngagementTrackingReportReceived",
        subject: kept.subject(),
        data: json!({
            "sender": kept.mail.sender,
            "recipient": recipient.address,
            "messageId": kept.id,
            "userActionTimestamp": times::iso_8601(now),
            "engagementContext": link,
            "userAgent": "acs-broker emulator",
            "engagementType": kind,
        }),
    };
    drop(state);
    events::emit(shared, event);
    shared.feed.changed();
    Ok(())
}

/// The first address of the web in double or single quotes.
fn first_link(html: &str) -> Option<&str> {
    let (at, _) = html.match_indices("href=").find(|(at, _)| {
        let value = html.get(at.saturating_add(6)..).unwrap_or_default();
        value.starts_with("http://") || value.starts_with("https://")
    })?;
    let value = html.get(at.saturating_add(6)..)?;
    value.split(['"', '\'']).next()
}
