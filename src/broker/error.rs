//! The one error of the core: each variant is an answer to "what should the caller do now?".
//!
//! Its `Display` text may be shown to any caller: it holds no upstream text, no secret, no user id and no address.
//! Causes are only in `source()`, for the log. Status codes are not known here; `grpc/status.rs` has the table.

use std::sync::Arc;
use std::time::Duration;

use super::policy::Missing;

/// What a cause is kept as; shared, because one failure may answer many callers.
pub type Cause = Arc<dyn std::error::Error + Send + Sync + 'static>;

/// A field of a request that is not acceptable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The path of the field as the API names it, such as `user_id` or `scopes[1]`.
    pub field: String,
    /// What is wrong and what would be right; never the value itself.
    pub description: String,
}

impl FieldViolation {
    /// A violation of `field`.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self { field: field.into(), description: description.into() }
    }
}

/// Why a call failed, in terms of what the caller should do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Mend the request.
    #[error("{}", describe(.0))]
    InvalidField(Vec<FieldViolation>),
    /// Authenticate.
    #[error("the caller could not be authenticated")]
    CallerUnauthenticated,
    /// Retry; the broker cannot judge the token that was brought.
    #[error(
        "the broker has not got the keys of the token's issuer, so it cannot judge the token; retry later"
    )]
    IssuerUnavailable {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Ask the operator for the permission, or do without.
    #[error("this caller lacks the permission {permission}")]
    PermissionMissing {
        /// Which one.
        permission: Missing,
    },
    /// Wait; the caller has had what the policy allows it.
    #[error("this caller has used up its quota of calls; retry later")]
    CallerQuotaExceeded {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Create the identity first.
    #[error("the user has no identity; IssueToken or ResolveIdentity creates one")]
    IdentityNotFound,
    /// Decide which user the ACS identity belongs to.
    #[error("the ACS identity or the user is linked otherwise already")]
    IdentityAlreadyLinked,
    /// Do the whole operation again.
    #[error("the identity changed while the call was running; repeat the whole operation")]
    ConcurrentChange,
    /// Wait, and retry with the same request id.
    #[error("a request with this request_id is still running; retry with the same request_id")]
    RequestInProgress {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Use a new request id.
    #[error("this request_id was used for another request; use a new one")]
    RequestIdReused,
    /// Look what became of the earlier message.
    #[error("you sent the same content under another request_id a short while ago; nothing was sent now")]
    DuplicateContent {
        /// The id of the earlier message.
        earlier: String,
    },
    /// Wait; more would be over a published limit of ACS.
    #[error("a published rate limit of Azure Communication Services is used up; retry later")]
    AcsLimitReached {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Ask the operator to set it up.
    #[error("no sender is configured for {channel}; an operator must set one")]
    ChannelNotConfigured {
        /// The channel.
        channel: &'static str,
    },
    /// Only send to whom this environment may.
    #[error("a recipient is not on the list of those that this environment may reach")]
    RecipientNotAllowed,
    /// Look elsewhere: it was never sent by this caller, or too long ago.
    #[error("no such message of this caller is known")]
    MessageNotFound,
    /// Act as somebody who may: a participant of the thread, the sender of the message.
    #[error("Azure Communication Services does not let the acting user do this in this thread")]
    ChatForbidden,
    /// Look elsewhere.
    #[error("there is no such thread, or no such message in it")]
    ChatNotFound,
    /// Retry with the same request id: the outcome is found out, never sent twice.
    #[error("it was sent, and no answer came; retry with the same request_id to learn the outcome")]
    OutcomeUnknown {
        /// How long to wait.
        retry_after: Duration,
        /// What happened, for the log.
        #[source]
        cause: Option<Cause>,
    },
    /// Start again without a cursor: what came after it is no longer kept.
    #[error("what came after this cursor is no longer kept; start again without one")]
    CursorExpired,
    /// Wait; ACS asks for it.
    #[error("Azure Communication Services limits the rate of requests; retry later")]
    AcsThrottled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// Retry.
    #[error("Azure Communication Services cannot be reached or failed; retry later")]
    AcsUnavailable {
        /// How long to wait.
        retry_after: Duration,
        /// What happened, for the log.
        #[source]
        cause: Option<Cause>,
    },
    /// Nothing the caller can mend by retrying: ACS will not do this.
    #[error("Azure Communication Services refused the request (status {status}, code {code})")]
    AcsRejected {
        /// The HTTP status.
        status: u16,
        /// The error code of ACS, made of ASCII letters, digits, `.`, `_` and `-`; `unknown` if it gave none.
        code: String,
        /// The `x-ms-client-request-id` of the call, for a support request.
        request_id: String,
    },
    /// Nothing the caller can do; the operator must mend the credential.
    #[error("the broker's own credential was refused upstream; an operator must mend it")]
    AcsCredentialsRefused,
    /// Retry.
    #[error("the store cannot be reached; retry later")]
    StoreUnavailable {
        /// How long to wait.
        retry_after: Duration,
        /// What happened, for the log.
        #[source]
        cause: Option<Cause>,
    },
    /// Give more time.
    #[error("the deadline passed before the work was done; it may still complete")]
    DeadlineExceeded,
    /// Report it.
    #[error("an internal error; report the request id")]
    Internal {
        /// What happened, for the log.
        #[source]
        cause: Option<Cause>,
    },
}

impl Error {
    /// One bad field.
    pub fn invalid(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::InvalidField(vec![FieldViolation::new(field, description)])
    }

    /// An internal error from a text for the log.
    pub fn internal(what: &'static str) -> Self {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Bug(&'static str);
        Self::Internal { cause: Some(Arc::new(Bug(what))) }
    }

    /// The stable reason: `ErrorInfo.reason` towards callers, a label in metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::InvalidField(_) => "INVALID_FIELD",
            Self::CallerUnauthenticated => "CALLER_UNAUTHENTICATED",
            Self::IssuerUnavailable { .. } => "ISSUER_UNAVAILABLE",
            Self::PermissionMissing { .. } => "PERMISSION_MISSING",
            Self::CallerQuotaExceeded { .. } => "CALLER_QUOTA_EXCEEDED",
            Self::IdentityNotFound => "IDENTITY_NOT_FOUND",
            Self::IdentityAlreadyLinked => "IDENTITY_ALREADY_LINKED",
            Self::ConcurrentChange => "CONCURRENT_CHANGE",
            Self::RequestInProgress { .. } => "REQUEST_IN_PROGRESS",
            Self::RequestIdReused => "IDEMPOTENCY_KEY_REUSED",
            Self::DuplicateContent { .. } => "DUPLICATE_CONTENT",
            Self::AcsLimitReached { .. } => "ACS_LIMIT_REACHED",
            Self::ChannelNotConfigured { .. } => "CHANNEL_NOT_CONFIGURED",
            Self::RecipientNotAllowed => "RECIPIENT_NOT_ALLOWED",
            Self::MessageNotFound => "MESSAGE_NOT_FOUND",
            Self::ChatForbidden => "CHAT_FORBIDDEN",
            Self::ChatNotFound => "CHAT_NOT_FOUND",
            Self::OutcomeUnknown { .. } => "OUTCOME_UNKNOWN",
            Self::CursorExpired => "CURSOR_EXPIRED",
            Self::AcsThrottled { .. } => "ACS_THROTTLED",
            Self::AcsUnavailable { .. } => "ACS_UNAVAILABLE",
            Self::AcsRejected { .. } => "ACS_REJECTED",
            Self::AcsCredentialsRefused => "ACS_CREDENTIALS_REFUSED",
            Self::StoreUnavailable { .. } => "STORE_UNAVAILABLE",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::Internal { .. } => "INTERNAL",
        }
    }

    /// How long the caller should wait before a retry; none where a retry cannot help or needs no wait.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RequestInProgress { retry_after }
            | Self::IssuerUnavailable { retry_after }
            | Self::CallerQuotaExceeded { retry_after }
            | Self::AcsLimitReached { retry_after }
            | Self::OutcomeUnknown { retry_after, .. }
            | Self::AcsThrottled { retry_after }
            | Self::AcsUnavailable { retry_after, .. }
            | Self::StoreUnavailable { retry_after, .. } => Some(*retry_after),
            Self::InvalidField(_)
            | Self::CallerUnauthenticated
            | Self::PermissionMissing { .. }
            | Self::IdentityNotFound
            | Self::IdentityAlreadyLinked
            | Self::ChannelNotConfigured { .. }
            | Self::RecipientNotAllowed
            | Self::MessageNotFound
            | Self::ChatForbidden
            | Self::ChatNotFound
            | Self::CursorExpired
            | Self::ConcurrentChange
            | Self::RequestIdReused
            | Self::DuplicateContent { .. }
            | Self::AcsRejected { .. }
            | Self::AcsCredentialsRefused
            | Self::DeadlineExceeded
            | Self::Internal { .. } => None,
        }
    }

    /// The cause, for the log only.
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::AcsUnavailable { cause, .. }
            | Self::OutcomeUnknown { cause, .. }
            | Self::StoreUnavailable { cause, .. }
            | Self::Internal { cause } => cause.as_ref(),
            _ => None,
        }
    }
}

/// Violations that the text names. A status travels in headers, of which clients take 8 KiB.
const DESCRIBED: usize = 8;

fn describe(violations: &[FieldViolation]) -> String {
    let mut text = String::from("invalid request");
    for violation in violations.iter().take(DESCRIBED) {
        text.push_str(": ");
        text.push_str(&violation.field);
        text.push(' ');
        text.push_str(&violation.description);
    }
    if violations.len() > DESCRIBED {
        text.push_str(": and more");
    }
    text
}
