//! The table of errors: what each means in gRPC, in one place, and the only place that names status codes.
//!
//! Every failure becomes a status with google.rpc details: ErrorInfo always, and what its row adds. Messages and
//! details never hold a value of the request. `docs/errors.md` is generated from the same rows.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{
    ErrorDetails, FieldViolation as BadField, PreconditionViolation, QuotaViolation, StatusExt,
};

use crate::broker::error::{Error, FieldViolation};

/// `ErrorInfo.domain` of every error.
pub(crate) const DOMAIN: &str = "acsbroker";

/// `ResourceInfo.resource_type` of a user's identity.
const IDENTITY: &str = "acsbroker.v1.Identity";

/// What QuotaFailure says.
const QUOTA_USED_UP: &str = "the calls that the broker's policy allows this caller are used up";

/// Violations that are listed: a status travels in headers, of which clients take 8 KiB.
const MAX_VIOLATIONS: usize = 24;

/// What the transport refuses before, or instead of, asking the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// As many calls as allowed are being worked on.
    #[error("the broker is working on as many calls as it may; retry later")]
    Overloaded,
    /// A request message is larger than the limit.
    #[error(
        "a request message is larger than the broker takes (server.max_message_bytes; 16 MiB for SendEmail); send a smaller one"
    )]
    MessageTooLarge,
    /// The bytes of a request message are not what its type demands.
    #[error("the request message is missing, incomplete or cannot be decoded")]
    MessageMalformed,
    /// There is no such service or method.
    #[error("there is no such method")]
    MethodUnknown,
    /// The request is compressed.
    #[error("compressed requests are not supported")]
    CompressionUnsupported,
    /// A watcher did not take what was ready for it.
    #[error("the watcher did not keep up; watch again from the last cursor")]
    WatcherTooSlow,
    /// Other rules hold for this caller than when its stream began.
    #[error("the policy for this caller has changed; watch again from the last cursor")]
    PolicyChanged,
    /// This process ends, and a stream with it.
    #[error("this broker is stopping; watch again from the last cursor")]
    Stopping,
    /// What is asked for must be recorded first, and cannot be.
    #[error("the audit record of this call cannot be written, and without it nothing is done; retry later")]
    AuditUnavailable,
}

/// Anything an RPC can fail with; travels in the source of its [`Status`].
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The core's answer.
    #[error(transparent)]
    Core(Error),
    /// The transport's own.
    #[error(transparent)]
    Transport(Refusal),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Core(error)
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Transport(refusal)
    }
}

/// The details a row adds to ErrorInfo.
enum Detail<'a> {
    None,
    /// BadRequest, a violation per field path.
    BadRequest(&'a [FieldViolation]),
    /// RetryInfo.
    RetryInfo(Duration),
    /// ResourceInfo about an identity; never its name.
    ResourceInfo(&'static str),
    /// PreconditionFailure.
    PreconditionFailure {
        kind: &'static str,
        subject: &'static str,
        description: &'static str,
    },
    /// Entries of ErrorInfo.metadata.
    Metadata(Vec<(&'static str, String)>),
    /// QuotaFailure, and RetryInfo.
    Quota(Duration),
}

/// One row of the table.
struct Row<'a> {
    reason: &'static str,
    code: Code,
    detail: Detail<'a>,
    #[cfg_attr(not(test), allow(dead_code, reason = "read by the test that writes docs/errors.md"))]
    advice: &'static str,
}

impl Failure {
    /// The table.
    fn row(&self) -> Row<'_> {
        let (reason, code, detail, advice) = match self {
            Self::Core(error) => {
                let (code, detail, advice) = core_row(error);
                (error.reason(), code, detail, advice)
            }
            Self::Transport(refusal) => transport_row(*refusal),
        };
        Row { reason, code, detail, advice }
    }

    /// The stable reason: `ErrorInfo.reason`, and the label in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Core(error) => error.reason(),
            Self::Transport(refusal) => transport_row(*refusal).0,
        }
    }

    /// Why the caller may not do what it asks, if that is what failed; for the audit.
    pub(crate) fn refusal_of_the_caller(&self) -> Option<&'static str> {
        let refused = matches!(
            self,
            Self::Core(
                Error::CallerUnauthenticated
                    | Error::IssuerUnavailable { .. }
                    | Error::PermissionMissing { .. }
                    | Error::CallerQuotaExceeded { .. }
            )
        );
        refused.then(|| self.reason())
    }

    /// The status with all its details, and with the request id if there is one.
    pub(crate) fn status(&self, request_id: Option<&str>) -> Status {
        let row = self.row();
        let mut metadata = HashMap::new();
        if let Detail::Metadata(entries) = &row.detail {
            metadata.extend(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        }
        if let Some(id) = request_id {
            metadata.insert("request_id".to_owned(), id.to_owned());
        }
        let mut details = ErrorDetails::with_error_info(row.reason, DOMAIN, metadata);
        if let Some(id) = request_id {
            details.set_request_info(id, "");
        }
        match row.detail {
            Detail::None | Detail::Metadata(_) => {}
            Detail::BadRequest(violations) => {
                let fields = violations.iter().take(MAX_VIOLATIONS);
                let fields = fields.map(|field| BadField::new(&field.field, &field.description));
                details.set_bad_request(fields.collect::<Vec<_>>());
            }
            Detail::RetryInfo(delay) => {
                details.set_retry_info(Some(delay));
            }
            Detail::Quota(delay) => {
                details.set_retry_info(Some(delay));
                details.set_quota_failure(vec![QuotaViolation::new("caller", QUOTA_USED_UP)]);
            }
            Detail::ResourceInfo(description) => {
                details.set_resource_info(IDENTITY, "", "", description);
            }
            Detail::PreconditionFailure { kind, subject, description } => {
                details.set_precondition_failure(vec![PreconditionViolation::new(
                    kind,
                    subject,
                    description,
                )]);
            }
        }
        Status::with_error_details(row.code, self.to_string(), details)
    }
}

/// The core's errors. No wildcard: a new variant is a compile error here until it has its row.
fn core_row(error: &Error) -> (Code, Detail<'_>, &'static str) {
    match error {
        Error::InvalidField(violations) => (
            Code::InvalidArgument,
            Detail::BadRequest(violations),
            "Mend the fields named in BadRequest, at most 24 at a time, and then perhaps others. Do not retry as it is.",
        ),
        Error::CallerUnauthenticated => (
            Code::Unauthenticated,
            Detail::None,
            "Authenticate as the operator of the broker prescribes. Which check failed is in the broker's log only.",
        ),
        Error::IssuerUnavailable { retry_after } => (
            Code::Unavailable,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo, with backoff. The token may be good: the broker could not fetch the keys of \
             its issuer since it started. `/readyz` and the log tell the operator which and why. Nothing was looked up and \
             nothing was done.",
        ),
        Error::PermissionMissing { permission } => (
            Code::PermissionDenied,
            Detail::Metadata(vec![("permission", permission.to_string())]),
            "Do not retry as it is. Ask the operator of the broker to grant what `permission` names in the policy \
             (docs/policy.md), or ask for less. Nothing was looked up and nothing was done.",
        ),
        Error::CallerQuotaExceeded { retry_after } => (
            Code::ResourceExhausted,
            Detail::Quota(*retry_after),
            "Retry after the delay in RetryInfo. The operator sets quotas in the policy (docs/policy.md). Nothing was done.",
        ),
        Error::IdentityNotFound => (
            Code::NotFound,
            Detail::ResourceInfo("the user has no identity"),
            "Create the identity with IssueToken or ResolveIdentity, or import it.",
        ),
        Error::IdentityAlreadyLinked => (
            Code::AlreadyExists,
            Detail::ResourceInfo("the identity or the user is linked otherwise"),
            "Decide which user the ACS identity belongs to; delete the mapping that is wrong.",
        ),
        Error::AcsLimitReached { retry_after } => (
            Code::ResourceExhausted,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo with the same `request_id`. You have had your share of a published limit of ACS, or all callers together have used it up. Nothing was sent.",
        ),
        Error::ChannelNotConfigured { .. } => (
            Code::FailedPrecondition,
            Detail::PreconditionFailure {
                kind: "SENDER",
                subject: "messages",
                description: "no sender is configured for this channel",
            },
            "Ask the operator of the broker to set senders (`messages.sms.senders`, `messages.email.senders`). Nothing was sent.",
        ),
        Error::RecipientNotAllowed => (
            Code::FailedPrecondition,
            Detail::PreconditionFailure {
                kind: "RECIPIENT",
                subject: "messages",
                description: "a recipient is not on the list of those that may be reached",
            },
            "Do not retry as it is: the operator lists who may be reached from here. Nothing was sent, not to the other recipients either.",
        ),
        Error::MessageNotFound => (
            Code::NotFound,
            Detail::None,
            "You sent no such message, or longer ago than it is remembered (`messages.retention`). After a SendSms or \
             SendEmail without an answer it means that nothing was sent.",
        ),
        Error::ChatForbidden => (
            Code::PermissionDenied,
            Detail::None,
            "Act as a participant of the thread, or for a message as its sender. Nothing was done.",
        ),
        Error::ChatNotFound => (
            Code::NotFound,
            Detail::None,
            "There is no such thread, or no such message in it; it may have been deleted.",
        ),
        Error::OutcomeUnknown { retry_after, .. } => (
            Code::Unavailable,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo with the same `request_id`: that finds out what became of it and sends nothing twice. With another `request_id` it would be sent again.",
        ),
        Error::CursorExpired => (
            Code::OutOfRange,
            Detail::None,
            "Watch without a cursor, and ask GetSms and GetEmail for what you may have missed.",
        ),
        Error::ConcurrentChange => {
            (Code::Aborted, Detail::None, "Repeat the whole operation, from reading the identity on.")
        }
        Error::RequestInProgress { retry_after } => (
            Code::Aborted,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo with the same request_id.",
        ),
        Error::RequestIdReused => (
            Code::FailedPrecondition,
            Detail::PreconditionFailure {
                kind: "REQUEST_ID",
                subject: "request_id",
                description: "was used for another request; use a new one",
            },
            "Use a new request_id for a new request, and the old one only to repeat the old request unchanged.",
        ),
        Error::DuplicateContent { earlier } => (
            Code::AlreadyExists,
            Detail::Metadata(vec![("earlier_message_id", earlier.clone())]),
            "Ask GetSms or GetEmail for `earlier_message_id`. To send it once more all the same, wait until `messages.duplicates_within` is over. Nothing was sent.",
        ),
        Error::AcsThrottled { retry_after } => (
            Code::ResourceExhausted,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo; ACS limits the rate of requests.",
        ),
        Error::AcsUnavailable { retry_after, .. } => (
            Code::Unavailable,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo, with backoff.",
        ),
        Error::AcsRejected { status, code, request_id } => (
            Code::FailedPrecondition,
            Detail::Metadata(vec![
                ("acs_status", status.to_string()),
                ("acs_code", code.clone()),
                ("acs_request_id", request_id.clone()),
            ]),
            "Do not retry: ACS will not do this. ErrorInfo.metadata holds its status and code, and the id of the \
             request for a support case.",
        ),
        Error::AcsCredentialsRefused => (
            Code::Internal,
            Detail::None,
            "Report it to the operator of the broker, who must mend the ACS credential.",
        ),
        Error::StoreUnavailable { retry_after, .. } => (
            Code::Unavailable,
            Detail::RetryInfo(*retry_after),
            "Retry after the delay in RetryInfo, with backoff.",
        ),
        Error::DeadlineExceeded => (
            Code::DeadlineExceeded,
            Detail::None,
            "Retry with a longer deadline. The work may have gone on: a retry often finds its result.",
        ),
        Error::Internal { .. } => {
            (Code::Internal, Detail::None, "Report it with the request id to the operator of the broker.")
        }
    }
}

/// The transport's refusals, likewise.
fn transport_row(refusal: Refusal) -> (&'static str, Code, Detail<'static>, &'static str) {
    match refusal {
        Refusal::Overloaded => (
            "BROKER_OVERLOADED",
            Code::ResourceExhausted,
            Detail::RetryInfo(Duration::from_secs(1)),
            "Retry after the delay in RetryInfo, with backoff and jitter. Nothing was done.",
        ),
        Refusal::MessageTooLarge => (
            "MESSAGE_TOO_LARGE",
            Code::ResourceExhausted,
            Detail::None,
            "Send smaller messages: the setting `server.max_message_bytes`, for SendEmail 16 MiB. Do not retry as it is.",
        ),
        Refusal::MessageMalformed => (
            "MESSAGE_MALFORMED",
            Code::InvalidArgument,
            Detail::None,
            "Send exactly one message of the method's type, text in valid UTF-8. Do not retry as it is.",
        ),
        Refusal::MethodUnknown => (
            "METHOD_UNKNOWN",
            Code::Unimplemented,
            Detail::None,
            "Compare the client's proto files with the broker's version.",
        ),
        Refusal::CompressionUnsupported => (
            "COMPRESSION_UNSUPPORTED",
            Code::Unimplemented,
            Detail::None,
            "Send requests without compression.",
        ),
        Refusal::WatcherTooSlow => (
            "WATCHER_TOO_SLOW",
            Code::Unavailable,
            Detail::RetryInfo(Duration::from_secs(1)),
            "Watch again with the cursor of the last event you dealt with, which misses nothing; and take events off \
             the stream before you work on them.",
        ),
        Refusal::PolicyChanged => (
            "POLICY_CHANGED",
            Code::Unavailable,
            Detail::RetryInfo(Duration::from_secs(1)),
            "Watch again with the cursor of the last event you dealt with; what you see follows the new policy.",
        ),
        Refusal::Stopping => (
            "BROKER_STOPPING",
            Code::Unavailable,
            Detail::RetryInfo(Duration::from_secs(1)),
            "Watch again with the cursor of the last event you dealt with; another replica goes on.",
        ),
        Refusal::AuditUnavailable => (
            "AUDIT_UNAVAILABLE",
            Code::Unavailable,
            Detail::RetryInfo(Duration::from_secs(1)),
            "Retry after the delay in RetryInfo, with backoff. Nothing was done. The operator has set \
             `audit.fail_closed` and must make room for the audit file.",
        ),
    }
}

/// The status of a failure, for handlers. The request id is added on the way out by [`complete`].
pub(crate) fn of(failure: impl Into<Failure>) -> Status {
    let failure = failure.into();
    let mut status = failure.status(None);
    status.set_source(Arc::new(failure));
    status
}

/// What failed with this status: the failure it was made from, or for a status that tonic made, what that means.
pub(crate) fn failure_of(status: &Status, method_known: bool) -> Failure {
    let source = std::error::Error::source(status);
    if let Some(failure) = source.and_then(|source| source.downcast_ref::<Failure>()) {
        return failure.clone();
    }
    Failure::Transport(match status.code() {
        // tonic says OUT_OF_RANGE; gRPC's list of codes and its other servers say RESOURCE_EXHAUSTED.
        Code::OutOfRange | Code::ResourceExhausted => Refusal::MessageTooLarge,
        Code::Unimplemented if method_known => Refusal::CompressionUnsupported,
        Code::Unimplemented => Refusal::MethodUnknown,
        // tonic's decoder says INTERNAL, whatever is wrong with the bytes; our own INTERNAL has a source. Other codes
        // come of requests cut short, whose callers are gone.
        _ => Refusal::MessageMalformed,
    })
}

/// The name of a code as metrics and logs write it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// Writes the causes of a failure for the log, outermost first; nothing if there is none.
pub(crate) struct Causes<'a>(pub(crate) &'a Failure);

impl Causes<'_> {
    /// Whether there is a cause.
    pub(crate) fn any(&self) -> bool {
        matches!(self.0, Failure::Core(error) if error.cause().is_some())
    }
}

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure::Core(error) = self.0 else { return Ok(()) };
        let Some(cause) = error.cause() else { return Ok(()) };
        write!(f, "{cause}")?;
        let mut next = cause.source();
        while let Some(cause) = next {
            write!(f, ": {cause}")?;
            next = cause.source();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;
