//! Where events are posted: reading and replacing the list.

use std::sync::Arc;

use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::events::{self, Events, Webhook};
use super::super::shared::Shared;
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

/// `GET events/validate`: the address that a webhook finds in the question whether it wants events.
pub(super) fn validate(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let code = query.take("id").unwrap_or_default();
    query.end()?;
    if !events::confirm(shared, &code) {
        return Err(invalid("id", "is the code of no webhook that was asked in the last ten minutes"));
    }
    let text = "Webhook successfully validated as a subscription endpoint";
    Ok(answer::content("text/plain; charset=utf-8", text.to_owned()))
}
