//! Where events are posted: reading and replacing the list.

use std::sync::Arc;

use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::events::{Events, Webhook};
use super::super::service::Shared;
use super::request::{self, Refusal, invalid};

/// `GET webhooks`.
pub(super) fn list(shared: &Shared) -> Answer {
    answer::json(200, &json!({ "webhooks": shared.events.webhooks() }))
}

/// `PUT webhooks`.
pub(super) fn set(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, Refusal> {
    let webhooks: Vec<Webhook> = request::array(body)?;
    Events::set_webhooks(shared, webhooks).map_err(|problem| invalid("", problem))?;
    shared.feed.changed();
    Ok(answer::no_content())
}
