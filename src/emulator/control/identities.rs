//! The identities of the resource: listing them, and making some in one request.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::identity;
use super::super::shared::Shared;
use super::request::{self, Query, Refusal, invalid};

/// The most users in one request.
const MAX_USERS: usize = 1000;

/// `GET identities`.
pub(super) fn list(shared: &Shared, mut query: Query) -> Result<Answer, Refusal> {
    let limit = query.limit()?;
    query.end()?;
    let now = shared.clock.now();
    let (ids, identities) = {
        let state = shared.state();
        (state.alive_ids(), state.listing(now, limit))
    };
    Ok(answer::json(200, &json!({ "alive": ids.len(), "ids": ids, "identities": identities })))
}

/// `POST identities`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    users: Vec<User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    #[serde(default)]
    custom_id: Option<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default = "a_day")]
    minutes: u32,
}

fn a_day() -> u32 {
    24 * 60
}

/// Those before a user that is refused are made.
pub(super) async fn seed(shared: &Arc<Shared>, body: &[u8]) -> Result<Answer, Refusal> {
    let Seed { users } = request::object(body)?;
    if users.len() > MAX_USERS {
        return Err(invalid("users", format_args!("must be {MAX_USERS} at the most")));
    }
    for (index, user) in users.iter().enumerate() {
        if !(60..=a_day()).contains(&user.minutes) {
            return Err(invalid(&format!("users[{index}].minutes"), "must be from 60 to 1440"));
        }
    }
    let mut made = Vec::with_capacity(users.len());
    for (index, user) in users.iter().enumerate() {
        let seeded = identity::seed(shared, user.custom_id.as_deref(), &user.scopes, user.minutes);
        made.push(seeded.map_err(|problem| invalid(&format!("users[{index}]"), problem))?);
        // Signing a token takes a while.
        tokio::task::yield_now().await;
    }
    shared.feed.changed();
    Ok(answer::json(200, &json!({ "users": made })))
}
