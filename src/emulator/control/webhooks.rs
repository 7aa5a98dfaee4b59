//! Where events are posted: reading and replacing the list, and the address that a webhook confirms itself at.

use std::sync::Arc;

use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::events::{self, Events, Webhook};
use super::super::service::Shared;
use super::request::{self, Query, Refusal, invalid};

/// `GET webhooks`.
pub(super) fn list(shared: &Shared) -> Answer {
    answer::json(200, &json!({ "webhooks": shared.events.webhooks() }))
}

/// `PUT webhooks`.
pub(super) fn set(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, Refusal> {
    let webhooks: Vec<Webhook> = request::array(body)?;
    Events::set_webhooks(shared, webhooks).map_err(|problem| invalid("", problem))?;
    Ok(answer::no_content())
}

/// `GET events/validate`: the `validationUrl` of the handshake.
pub(super) fn validate(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let code = query.take("id").ok_or_else(|| invalid("id", "must be there"))?;
    query.end()?;
    if events::confirm(shared, &code) {
        Ok(answer::content("text/plain; charset=utf-8", "The webhook is validated."))
    } else {
        Err(request::not_found("This is not the code of the last question to a webhook, or it is too old."))
    }
}
