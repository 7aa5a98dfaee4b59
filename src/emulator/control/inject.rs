//! What people do with messages, done for them: answering an SMS, opening a mail, following its links.

use serde::Deserialize;
use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::shared::Shared;
use super::super::{email, sms};
use super::request::{self, Refusal, invalid};

/// `POST sms/inbound`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Inbound {
    from: String,
    to: String,
    message: String,
}

pub(super) fn sms(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let Inbound { from, to, message } = request::object(body)?;
    let id = sms::receive(shared, &from, &to, &message).map_err(|problem| invalid("", problem))?;
    Ok(answer::json(200, &json!({ "id": id })))
}

/// `POST emails/{id}/engagement`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Engagement {
    recipient: String,
    #[serde(rename = "type")]
    kind: EngagementKind,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum EngagementKind {
    View,
    Click,
}

pub(super) fn engagement(shared: &Shared, id: &str, body: &[u8]) -> Result<Answer, Refusal> {
    let Engagement { recipient, kind } = request::object(body)?;
    let kind = match kind {
        EngagementKind::View => "view",
        EngagementKind::Click => "click",
    };
    if shared.email.find(id).is_none() {
        return Err(request::not_found("There is no mail with this id."));
    }
    email::engage(shared, id, &recipient, kind).map_err(|problem| invalid("", problem))?;
    Ok(answer::no_content())
}
