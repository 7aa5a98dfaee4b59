//! The operations of the Identity API on the emulator's state.
//!
//! Called by `service` once a request is authenticated and its version known. It never holds the lock while signing a
//! token, which is the only slow step. Answers that ACS was never seen to give are guesses, listed in docs/emulator.md.

use std::time::Duration;

use super::operation::Operation;
use super::service::Shared;
use super::state::{IdentityView, Known};
use super::token::Contents;
use super::version::Version;
use super::wire::{self, Answer, CreatedBody, IdentityBody, TokenBody};

/// An authenticated request.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    /// The identity the path names, if any.
    pub(super) id: &'a str,
    pub(super) version: Version,
    pub(super) body: &'a [u8],
    /// The number of the access key that signed the request.
    pub(super) key: u64,
}

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    match call.operation {
        Operation::CreateIdentity => create(shared, call),
        Operation::IssueToken => {
            let request = wire::token_request(call.body)?;
            alive(shared, call.id)?;
            let token = issue(shared, call.id, request.scopes, request.minutes, call.key)?;
            Ok(wire::json(200, &token))
        }
        Operation::RevokeTokens => {
            let mut state = shared.state();
            match state.known(call.id) {
                Known::Alive => {
                    state.revoke(call.id);
                    Ok(wire::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::DeleteIdentity => {
            let mut state = shared.state();
            match state.known(call.id) {
                // Deleting twice is no error, as in the emulator that a Microsoft employee published.
                Known::Alive | Known::Gone => {
                    state.delete(call.id);
                    Ok(wire::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::GetIdentity => {
            let state = shared.state();
            match state.view(call.id) {
                Some(view) => Ok(wire::json(200, &body(view, call.version))),
                None => Err(Box::new(unknown(&state.known(call.id)))),
            }
        }
        Operation::Any => Err(Box::new(wire::error(501, "NotImplemented", "Not an operation.", None))),
    }
}

fn create(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let request = wire::create_request(call.body, call.version.is_preview())?;
    let created = shared.state().create(request.custom_id);
    let Ok(mut view) = created else {
        let message = "The emulator holds as many identities as it may. Delete some, or reset it.";
        return Err(Box::new(wire::error(507, "EmulatorFull", message, None)));
    };
    let access_token = if request.scopes.is_empty() {
        None
    } else {
        let token = issue(shared, &view.id, request.scopes, request.minutes, call.key)?;
        if let Some(now) = shared.state().view(&view.id) {
            view = now;
        }
        Some(token)
    };
    Ok(wire::json(201, &CreatedBody { identity: body(view, call.version), access_token }))
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
        return Err(Box::new(super::faults::answer(500, None)));
    };
    shared.state().record_token(&token, &contents, key);
    shared.counters.token_issued();
    Ok(TokenBody { token, expires_on: wire::iso_8601(expires) })
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
            wire::error(400, "ValidationError", "Id: The identity is not well formed.", Some("Id"))
        }
        Known::Alive | Known::Gone | Known::Foreign => {
            wire::error(404, "NotFound", "The identity was not found.", Some("Id"))
        }
    };
    Answer { names_versions: true, ..answer }
}

/// The identity as this version describes it.
fn body(view: IdentityView, version: Version) -> IdentityBody {
    if !version.is_preview() {
        return IdentityBody { id: view.id, custom_id: None, last_token_issued_at: None };
    }
    IdentityBody {
        id: view.id,
        custom_id: view.custom_id,
        last_token_issued_at: view.last_token_issued.map(wire::iso_8601),
    }
}
