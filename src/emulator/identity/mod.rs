//! The operations of the Identity API on the emulator's state.
//!
//! Called by `service` once a request is authenticated and its version known. It never holds the lock while signing a
//! token, which is the only slow step. Answers that ACS was never seen to give are guesses, listed in docs/emulator.md.

mod access;
mod assignments;
mod exchange;
mod listing;
mod revocation;
mod seed;
mod state;
mod token;
mod wire;

use std::time::Duration;

use self::state::{Holder, IdentityView, Known, NotMade};
use self::token::Contents;
use self::wire::{CreatedBody, IdentityBody, TokenBody};
use super::answer::{self, Answer};
use super::call::{Call, Principal};
use super::operation::{Operation, Service};
use super::shared::Shared;
use super::times;
use super::version::Version;
use crate::clock::Timestamp;

pub(super) use seed::seed;
pub use state::{AccessKey, TokenState};
pub(super) use state::{Limits, State};
pub(super) use token::Signer;
pub use token::SigningKeyError;

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let id = call.parameter(0);
    match call.operation {
        Operation::CreateIdentity => create(shared, call),
        Operation::IssueToken => {
            let request = wire::token_request(call.body)?;
            alive(shared, id)?;
            let grant = Grant {
                holder: Holder::Identity,
                scopes: request.scopes,
                expires: until(call.now, request.minutes),
                key: key(call),
            };
            Ok(answer::json(200, &issue(shared, id, grant)?))
        }
        Operation::RevokeTokens => {
            let mut state = shared.state();
            match state.known(id) {
                Known::Alive => {
                    state.revoke(id, call.now, shared.settings.revoke_after);
                    Ok(answer::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::DeleteIdentity => {
            let mut state = shared.state();
            match state.known(id) {
                // Deleting twice is no error, as in the emulator that a Microsoft employee published.
                Known::Alive | Known::Gone => {
                    state.delete(id);
                    Ok(answer::no_content())
                }
                other => Err(Box::new(unknown(&other))),
            }
        }
        Operation::GetIdentity => {
            let state = shared.state();
            match state.view(id) {
                Some(view) => Ok(answer::json(200, &body(view, call.version))),
                None => Err(Box::new(unknown(&state.known(id)))),
            }
        }
        Operation::ExchangeTeamsUserToken => exchange::teams_user(shared, call),
        Operation::ExchangeTeamsExtensionToken => exchange::teams_extension(shared, call),
        Operation::ExchangeEntraToken => exchange::entra(shared, call),
        _ => access::perform(shared, call),
    }
}

fn create(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let request = wire::create_request(call.body, call.version == Version::IDENTITY_PREVIEW)?;
    let mut view = make(shared, request.custom_id)?;
    let access_token = if request.scopes.is_empty() {
        None
    } else {
        let grant = Grant {
            holder: Holder::Identity,
            scopes: request.scopes,
            expires: until(call.now, request.minutes),
            key: key(call),
        };
        let token = issue(shared, &view.id, grant)?;
        if let Some(now) = shared.state().view(&view.id) {
            view = now;
        }
        Some(token)
    };
    Ok(answer::json(201, &CreatedBody { identity: body(view, call.version), access_token }))
}

/// Makes an identity, or finds the one of this customId.
fn make(shared: &Shared, custom_id: Option<String>) -> Result<IdentityView, Box<Answer>> {
    loop {
        // Drawn before the lock is taken: no two locks at once.
        let chance = shared.random.bytes();
        let made = shared.state().create(custom_id.clone(), chance);
        match made {
            Ok(view) => return Ok(view),
            Err(NotMade::Taken) => {}
            Err(NotMade::Full) => return Err(full("identities")),
        }
    }
}

/// What a token is to allow, and how long.
struct Grant {
    holder: Holder,
    scopes: Vec<&'static str>,
    expires: Timestamp,
    key: Option<u64>,
}

/// Signs a token and remembers it.
fn issue(shared: &Shared, identity: &str, grant: Grant) -> Result<TokenBody, Box<Answer>> {
    let issued = shared.clock.now();
    let Grant { holder, scopes, expires, key } = grant;
    let (sequence, resource) = {
        let mut state = shared.state();
        let sequence = state.begin_token(identity, holder, issued);
        let sequence = sequence.ok_or_else(|| Box::new(unknown(&Known::Gone)))?;
        (sequence, state.resource().to_owned())
    };
    let contents = Contents { identity, resource: &resource, scopes: &scopes, issued, expires, sequence };
    let Some(token) = shared.signer.sign(&contents) else {
        return Err(Box::new(super::faults::answer(Service::Identity, 500, None)));
    };
    shared.state().record_token(&token, &contents, holder, key);
    shared.calls.token_issued();
    Ok(TokenBody { token, expires_on: times::iso_8601(expires) })
}

fn until(now: Timestamp, minutes: u32) -> Timestamp {
    now.plus(Duration::from_secs(u64::from(minutes).saturating_mul(60)))
}

/// The key that the tokens of this call are issued with. Those of an Entra principal outlive every key.
fn key(call: &Call<'_>) -> Option<u64> {
    match call.principal {
        Principal::Key(number) => Some(number),
        _ => None,
    }
}

/// Refuses ids that name no living identity.
fn alive(shared: &Shared, id: &str) -> Result<(), Box<Answer>> {
    let known = shared.state().known(id);
    if known == Known::Alive { Ok(()) } else { Err(Box::new(unknown(&known))) }
}

/// There is no room for more.
fn full(what: &str) -> Box<Answer> {
    let message = format!("The emulator holds as many {what} as it may. Delete some, or reset it.");
    Box::new(answer::error(507, "EmulatorFull", &message, None))
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
    answer.naming_versions()
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
