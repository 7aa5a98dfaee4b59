//! What Chat answers when it refuses.
//!
//! Pure. Statuses and texts that ACS was never seen to send are guesses, listed in docs/emulator.md. A text repeats an
//! identifier only where the real service does. Used by every part of `chat`.

use crate::emulator::answer::{self, Answer};

/// A refusal: nothing was done.
pub(super) type Refusal = Box<Answer>;

fn refuse(status: u16, code: &str, message: Option<&str>) -> Refusal {
    Box::new(answer::chat_error(status, code, message).naming_versions())
}

/// The request makes no sense.
pub(super) fn bad_request(message: &str) -> Refusal {
    refuse(400, "BadRequest", Some(message))
}

/// An identifier of no form that ACS knows.
pub(super) fn malformed(raw_id: &str) -> Refusal {
    let shown: String = raw_id.chars().take(256).collect();
    bad_request(&format!("Identifier format is invalid ({shown})."))
}

/// More participants than a request or a thread may have. The real service says no more than this.
pub(super) fn too_many_participants() -> Refusal {
    refuse(400, "BadRequest", None)
}

/// The token's scopes, or the caller's place in the thread, do not allow it.
pub(super) fn forbidden() -> Refusal {
    let message = "The initiator doesn't have the permission to perform the requested operation.";
    refuse(403, "Forbidden", Some(message))
}

/// There is no such thread or message for this caller.
pub(super) fn not_found() -> Refusal {
    refuse(404, "NotFound", None)
}

/// The message is longer than a message may be.
pub(super) fn too_large() -> Refusal {
    refuse(413, "RequestEntityTooLarge", Some("The message is larger than 28 KB."))
}
