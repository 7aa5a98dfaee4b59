//! Who asks: a signature of an access key, an Entra token, or a user's access token, as the operation demands.
//!
//! It never tells more than the real service does about what was wrong. Used by `service`.

use http::{HeaderMap, header};
use hyper::body::Bytes;

use super::answer::{self, Answer};
use super::call::Principal;
use super::operation::{Access, Operation, Service};
use super::shared::Shared;
use super::signature::{self, Received, Refusal};
use super::{chat, identity};

/// Finds out who asks, in the way the operation demands.
pub(super) fn authenticate(
    shared: &Shared,
    head: &http::request::Parts,
    operation: Operation,
    body: &Bytes,
) -> Result<Principal, Box<Answer>> {
    let service = operation.service();
    let denied = || Box::new(answer::error_of(service, 401, "Denied", "Denied by the resource provider."));
    let bearer = bearer(&head.headers);
    match (operation.access(), bearer) {
        (Access::Resource, Some(token)) => {
            if shared.issuer.admits(shared, token) {
                Ok(Principal::Entra)
            } else {
                Err(denied())
            }
        }
        (Access::Resource, None) => {
            let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
            let received = Received { method: head.method.as_str(), target, headers: &head.headers, body };
            let keys = shared.state().keys();
            let keys = keys.iter().map(|(number, bytes)| (*number, bytes.as_slice()));
            // Callers' clocks need not have jumped with the emulator's.
            let times = [shared.clock.base_now(), shared.clock.now()];
            signature::verify(&received, keys, &times, shared.settings.date_margin)
                .map(Principal::Key)
                .map_err(|refusal| Box::new(refused(service, refusal)))
        }
        (Access::User, Some(token)) => {
            let state = shared.state().token_state(token, shared.clock.now());
            match state {
                identity::TokenState::Valid { identity, scopes, .. } => {
                    Ok(Principal::User { id: identity, scopes })
                }
                _ => Err(Box::new(chat::unauthorized())),
            }
        }
        (Access::User, None) => Err(Box::new(chat::unauthorized())),
        (Access::EntraUser, Some(token)) => {
            Ok(Principal::EntraUser { token: crate::secret::Secret::new(token) })
        }
        (Access::EntraUser, None) => Err(denied()),
    }
}

/// The token of `Authorization: Bearer`, if that header is there exactly once.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?.to_str().ok()?, values.next()) else { return None };
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn refused(service: Service, refusal: Refusal) -> Answer {
    let message = match refusal {
        Refusal::Denied => "Denied by the resource provider.",
        Refusal::ContentHash => "Request 'x-ms-content-sha256' differs from generated content hash.",
        Refusal::ClockSkew => {
            "The given request could not be resolved: the time difference between originating client and server \
             is greater than the allowed margin of 5 minutes."
        }
    };
    answer::error_of(service, 401, "Denied", message)
}
