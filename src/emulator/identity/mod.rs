//! The operations of the Identity API on the emulator's state.
//!
//! Called by `service` once a request is authenticated and its version known. It never holds the lock while signing a
//! token, which is the only slow step. Answers that ACS was never seen to give are guesses, listed in docs/emulator.md.

mod state;
mod token;
mod wire;

use std::time::Duration;

use self::state::{IdentityView, Known};
use self::token::Contents;
use self::wire::{CreatedBody, IdentityBody, TokenBody};
use super::answer::{self, Answer};
use super::call::{Call, Principal};
use super::operation::{Operation, Service};
use super::service::Shared;
use super::times;
use super::version::Version;

pub use state::{AccessKey, TokenState};
pub(super) use state::{Limits, State};
pub(super) use token::Signer;
pub use token::SigningKeyError;

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    match call.operation {
        Operation::CreateIdentity => create(shared, call),
        Operation::IssueToken => {
            let request = wire::token_request(call.body)?;
            alive(shared, call.parameter(0))?;
            let token = issue(shared, call.parameter(0), request.scopes, request.minutes, key(shared, call))?;
            Ok(answer::json(200, &token))
        }
        Operation::RevokeTokens => {
            let mut state = shared.state();
            match state.known(call.parameter(0)) {
                Known::Alive => {
                    state.revoke(call.parameter(0));
                    Ok(answer::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::DeleteIdentity => {
            let mut state = shared.state();
            match state.known(call.parameter(0)) {
                // Deleting twice is no error, as in the emulator that a Microsoft employee published.
                Known::Alive | Known::Gone => {
                    state.delete(call.parameter(0));
                    Ok(answer::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::GetIdentity => {
            let state = shared.state();
            match state.view(call.parameter(0)) {
                Some(view) => Ok(answer::json(200, &body(view, call.version))),
                None => Err(Box::new(unknown(&state.known(call.parameter(0))))),
            }
        }
        other => Err(Box::new(super::service::not_emulated(other))),
    }
}

fn create(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let request = wire::create_request(call.body, call.version == Version::IDENTITY_PREVIEW)?;
    let created = shared.state().create(request.custom_id);
    let Ok(mut view) = created else {
        let message = "The emulator holds as many identities as it may. Delete some, or reset it.";
        return Err(Box::new(answer::error(507, "EmulatorFull", message, None)));
    };
    let access_token = if request.scopes.is_empty() {
        None
    } else {
        let token = issue(shared, &view.id, request.scopes, request.minutes, key(shared, call))?;
        if let Some(now) = shared.state().view(&view.id) {
            view = now;
        }
        Some(token)
    };
    Ok(answer::json(201, &CreatedBody { identity: body(view, call.version), access_token }))
}

fn issue(
    shared: &Shared,
    identity: &str,
    scopes: Vec<&'static str>,
    minutes: u32,
    key: u64,
) -> Result<TokenBody, Box<Answer>> {
    let issued = shared.clock.now();
    let expires = issued.plus(Duration::from_secs(u64::from(minutes).saturating_mul(60)));
    let (sequence, resource) = {
        let mut state = shared.state();
        let sequence = state.begin_token(identity, issued).ok_or_else(|| Box::new(unknown(&Known::Gone)))?;
        (sequence, state.resource().to_owned())
    };
    let contents = Contents { identity, resource: &resource, scopes: &scopes, issued, expires, sequence };
    let Some(token) = shared.signer.sign(&contents) else {
        return Err(Box::new(super::faults::answer(Service::Identity, 500, None)));
    };
    shared.state().record_token(&token, &contents, key);
    shared.calls.token_issued();
    Ok(TokenBody { token, expires_on: times::iso_8601(expires) })
}

/// The key that the tokens of this call are issued with; without one, the primary key.
fn key(shared: &Shared, call: &Call<'_>) -> u64 {
    match call.principal {
        Principal::Key(number) => number,
        _ => shared.state().primary_key(),
    }
}

/// Refuses ids that name no living identity.
fn alive(shared: &Shared, id: &str) -> Result<(), Box<Answer>> {
    let known = shared.state().known(id);
    if known == Known::Alive { Ok(()) } else { Err(Box::new(unknown(&known))) }
}

/// The answer about an identity that is not there.
fn unknown(known: &Known) -> Answer {
    let answer = match known {
        Known::Malformed => {
            answer::error(400, "ValidationError", "Id: The identity is not well formed.", Some("Id"))
        }
        Known::Alive | Known::Gone | Known::Foreign => {
            answer::error(404, "NotFound", "The identity was not found.", Some("Id"))
        }
    };
    Answer { names_versions: true, ..answer }
}

/// The identity as this version describes it.
fn body(view: IdentityView, version: Version) -> IdentityBody {
    if version != Version::IDENTITY_PREVIEW {
        return IdentityBody { id: view.id, custom_id: None, last_token_issued_at: None };
    }
    IdentityBody {
        id: view.id,
        custom_id: view.custom_id,
        last_token_issued_at: view.last_token_issued.map(times::iso_8601),
    }
}

pub(super) fn seed(
    shared: &Shared,
    custom_id: Option<&str>,
    scopes: &[String],
    minutes: u32,
) -> Result<serde_json::Value, String> {
    let view = shared.state().create(custom_id.map(str::to_owned)).map_err(|_| "full".to_owned())?;
    let _ = (scopes, minutes);
    Ok(serde_json::json!({ "id": view.id, "custom_id": view.custom_id, "token": null, "expires_on": null }))
}
