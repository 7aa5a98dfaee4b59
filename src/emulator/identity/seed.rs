//! Users and tokens made by the emulator itself, for tests that want them before their first call.
//!
//! What it makes is like what `POST /identities` makes with the primary key. Used by `control`.

use serde_json::{Value, json};

use super::state::Holder;
use super::{Grant, issue, make, until, wire};
use crate::emulator::shared::Shared;

/// Makes an identity, or finds the one of this customId, and a token if scopes are asked for.
pub(in crate::emulator) fn seed(
    shared: &Shared,
    custom_id: Option<&str>,
    scopes: &[String],
    minutes: u32,
) -> Result<Value, String> {
    let scopes = wire::known_scopes(scopes)
        .ok_or_else(|| format!("the scopes of a user must be among {}", wire::SCOPES.join(", ")))?;
    if !scopes.is_empty() && !wire::is_validity(minutes) {
        return Err("the minutes of a token must be from 60 to 1440".to_owned());
    }
    if custom_id.is_some_and(|id| !wire::is_custom_id(id)) {
        return Err("a custom id must have from 1 to 256 characters".to_owned());
    }
    let refused = |_| "the emulator holds as many identities as it may".to_owned();
    let identity = make(shared, custom_id.map(str::to_owned)).map_err(refused)?;
    let token = if scopes.is_empty() {
        None
    } else {
        let (key, expires) = (shared.state().primary_key(), until(shared.clock.now(), minutes));
        let grant = Grant { holder: Holder::Identity, scopes, expires, key: Some(key) };
        Some(issue(shared, &identity.id, grant).map_err(|_| "the token could not be signed".to_owned())?)
    };
    shared.feed.changed();
    let (token, expires_on) = token.map(|token| (token.token, token.expires_on)).unzip();
    Ok(json!({
        "id": identity.id,
        "custom_id": identity.custom_id,
        "token": token,
        "expires_on": expires_on,
    }))
}

#[cfg(test)]
#[path = "seed_tests.rs"]
mod tests;
