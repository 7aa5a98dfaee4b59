//! The audit trail of a call: put into its request when it arrives, noted on by its handler.
//!
//! A handler names whom it is about, and then calls [`admitted`] before it lets the core do anything. A handler that is
//! reached without a trail refuses, so that nothing is done that leaves no record.

use tonic::Status;

use super::status::{self, Refusal};
use crate::audit::{Trail, Unrecorded, Whom};
use crate::broker::ServedToken;
use crate::broker::error::Error;
use crate::broker::types::{Caller, ScopeSet, UserId};
use crate::messaging::types::{Outcome, State};

/// The trail of a request.
pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Trail, Status> {
    let trail = request.extensions().get().cloned();
    trail.ok_or_else(|| status::of(Error::internal("a call has no audit trail")))
}

/// The call may go on; what is noted so far is on disk if that is asked for.
pub(crate) async fn admitted(trail: &Trail, caller: &Caller) -> Result<(), Status> {
    trail.admitted(caller.name()).await.map_err(|Unrecorded| status::of(Refusal::AuditUnavailable))
}

/// The call is about a user's token of these scopes.
pub(crate) fn about_token(trail: &Trail, user: &UserId, scopes: ScopeSet) {
    trail.subject(Whom::User, user.as_str()).scopes(scopes.iter().map(|scope| scope.as_str()));
}

/// The caller gets this token.
pub(crate) fn served(trail: &Trail, token: &ServedToken) {
    let effect = if token.from_cache { "token_served_from_cache" } else { "token_issued" };
    trail.subject(Whom::Identity, token.identity.as_str()).effect(effect, 1).degraded(token.degraded);
}

/// Words for what became of a message: accepted, refused, unknown.
pub(crate) type Words = [&'static str; 3];

/// What the caller is told of a message that it sent, by recipient.
pub(crate) fn sent(trail: &Trail, outcomes: &[Outcome], [accepted, refused, unknown]: Words) {
    let count = |wanted: State| outcomes.iter().filter(|outcome| outcome.state == wanted).count();
    let (failed, lost) = (count(State::Failed), count(State::Unknown));
    trail.effect(accepted, outcomes.len() - failed - lost).effect(refused, failed).effect(unknown, lost);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_trail_is_refused() {
        let status = of(&tonic::Request::new(())).err().unwrap();
        assert_eq!(status.code(), tonic::Code::Internal);
    }
}
