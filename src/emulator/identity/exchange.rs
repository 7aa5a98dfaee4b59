//! The exchanges: an Entra token of a person for an access token of the resource, which never outlives it.
//!
//! The Teams refusals are recorded answers; those of the two newer exchanges are guesses, listed in docs/emulator.md.
//! The Entra tokens are those of our own test issuer, no others. Called by `perform`.

use std::time::Duration;

use super::assignments::guid;
use super::state::{Holder, NotMade};
use super::wire::{CreatedBody, property};
use super::{Grant, body, full, issue, key, wire};
use crate::clock::Timestamp;
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::{Call, Principal};
use crate::emulator::issuer::{CLIENTS_AUDIENCE, TEAMS_AUDIENCE, User};
use crate::emulator::shared::Shared;

/// No access token lives longer.
const LONGEST: Duration = Duration::from_hours(24);

/// Permissions of an Entra token, and the scope that each becomes.
const TEAMS_USER: &[(&str, &str)] = &[("Teams.ManageCalls", "voip"), ("Teams.ManageChats", "chat")];
const TEAMS_EXTENSION: &[(&str, &str)] = &[("TeamsExtension.ManageCalls", "voip")];
const CLIENTS: &[(&str, &str)] = &[
    ("Chat", "chat"),
    ("Chat.Join", "chat.join"),
    ("Chat.Join.Limited", "chat.join.limited"),
    ("VoIP", "voip"),
    ("VoIP.Join", "voip.join"),
];

/// `POST /teamsUser/:exchangeAccessToken`: the token is looked at first, as recorded, then the other properties.
pub(super) fn teams_user(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    if call.body.is_empty() {
        return Err(wire::invalid(None, wire::NO_BODY));
    }
    let body = wire::object(call.body)?;
    let text = |name: &str| property(&body, name).and_then(serde_json::Value::as_str).unwrap_or_default();
    let (user, scopes) = source(shared, text("token"), TEAMS_AUDIENCE, TEAMS_USER)?;
    let (app, object) = (text("appId"), text("userId"));
    for (name, value) in [("AppId", app), ("UserId", object)] {
        if value.is_empty() {
            return Err(wire::required(name));
        }
    }
    if guid(app).as_ref() != Some(&user.client) {
        return Err(unexpected("appId", "AAD application is not the expected one."));
    }
    if guid(object).as_ref() != Some(&user.object) {
        return Err(unexpected("userId", "AAD user is not the expected one."));
    }
    let id = format!("8:orgid:{}", user.object);
    let grant = Grant { holder: Holder::TeamsUser, scopes, expires: end(call.now, &user), key: key(call) };
    Ok(answer::json(200, &issue(shared, &id, grant)?))
}

/// `POST /access/teamsExtension/:exchangeAccessToken`
pub(super) fn teams_extension(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let (user, scopes) = bearer(shared, call, TEAMS_AUDIENCE, TEAMS_EXTENSION)?;
    let id = {
        let state = shared.state();
        let assignment = state.assignments.teams(&user.tenant, &user.object);
        if !assignment.is_some_and(|assignment| assignment.allows(&user.client)) {
            return Err(forbidden());
        }
        format!("8:acs:{}_{}_{}", state.resource(), user.tenant, user.object)
    };
    exchanged(shared, call, &id, &user, scopes)
}

/// `POST /access/entra/:exchangeAccessToken`
pub(super) fn entra(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let (user, scopes) = bearer(shared, call, CLIENTS_AUDIENCE, CLIENTS)?;
    let id = {
        let state = shared.state();
        let objects = [("user", &user.object), ("tenant", &user.tenant)];
        let groups = user.groups.iter().map(|group| ("group", group));
        let is_assigned = objects.into_iter().chain(groups).any(|(kind, object)| {
            state.assignments.entra(object).is_some_and(|assignment| {
                assignment.principal == kind
                    && assignment.tenant == user.tenant
                    && assignment.allows(&user.client)
            })
        });
        if !is_assigned {
            return Err(forbidden());
        }
        format!("8:acs:{}_wf_{}_{}", state.resource(), user.tenant, user.object)
    };
    exchanged(shared, call, &id, &user, scopes)
}

/// The identity of an exchanged user and its token.
fn exchanged(
    shared: &Shared,
    call: &Call<'_>,
    id: &str,
    user: &User,
    scopes: Vec<&'static str>,
) -> Result<Answer, Box<Answer>> {
    // The body is an empty object; nothing in it is read, but it must be one.
    if !call.body.is_empty() {
        wire::object(call.body)?;
    }
    let made = shared.state().create_as(id);
    made.map_err(|_: NotMade| full("identities"))?;
    let grant = Grant { holder: Holder::Identity, scopes, expires: end(call.now, user), key: None };
    let token = issue(shared, id, grant)?;
    let view = shared.state().view(id).ok_or_else(|| Box::new(super::unknown(&super::Known::Gone)))?;
    Ok(answer::json(200, &CreatedBody { identity: body(view, call.version), access_token: Some(token) }))
}

/// The user of the bearer token, and the scopes it is worth.
fn bearer(
    shared: &Shared,
    call: &Call<'_>,
    audience: &str,
    permissions: &[(&str, &'static str)],
) -> Result<(User, Vec<&'static str>), Box<Answer>> {
    match &call.principal {
        Principal::EntraUser { token } => source(shared, token.expose(), audience, permissions),
        _ => Err(not_valid()),
    }
}

/// The user of a token to exchange, and the scopes it is worth; a token worth none is not valid here.
fn source(
    shared: &Shared,
    token: &str,
    audience: &str,
    permissions: &[(&str, &'static str)],
) -> Result<(User, Vec<&'static str>), Box<Answer>> {
    let user = shared.issuer.user(token, audience, shared.clock.now()).ok_or_else(not_valid)?;
    let granted = |name: &str| user.permissions.iter().any(|permission| permission == name);
    let scopes: Vec<_> =
        permissions.iter().filter(|(name, _)| granted(name)).map(|(_, scope)| *scope).collect();
    if scopes.is_empty() { Err(not_valid()) } else { Ok((user, scopes)) }
}

fn end(now: Timestamp, user: &User) -> Timestamp {
    now.plus(LONGEST).min(user.expires)
}

fn not_valid() -> Box<Answer> {
    Box::new(answer::error(401, "InvalidAccessToken", "Provided access token is not valid.", None))
}

fn unexpected(target: &str, message: &str) -> Box<Answer> {
    Box::new(answer::error(400, "ValidationError", message, Some(target)).naming_versions())
}

fn forbidden() -> Box<Answer> {
    let message = "The user or the application has no assignment that allows the exchange.";
    Box::new(answer::error(403, "Forbidden", message, None).naming_versions())
}
