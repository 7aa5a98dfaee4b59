//! A failed call in words of the API: code, reason, fields, when to retry.
//!
//! Read from the google.rpc details of the status; details that cannot be read count as none. Used by `client`.

use std::time::Duration;

use tonic::Status;
use tonic_types::StatusExt;

use crate::grpc::status::code_name;

/// Why a call failed, as the caller of the API sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The gRPC status, such as `NOT_FOUND`.
    pub code: &'static str,
    /// What the server said, or why it could not be asked.
    pub message: String,
    /// The stable reason of docs/errors.md, if the server gave one.
    pub reason: Option<String>,
    /// When a retry makes sense, if the server said so.
    pub retry_after: Option<Duration>,
    /// The fields that are wrong and what is wrong with each.
    pub fields: Vec<(String, String)>,
    /// The server's id of the call, for a report.
    pub request_id: Option<String>,
}

impl Failure {
    /// Whether the same call may succeed later.
    pub fn is_passing(&self) -> bool {
        // gRPC has one code for what is too much now and for what is too large for ever.
        let for_ever = self.reason.as_deref() == Some("MESSAGE_TOO_LARGE");
        !for_ever
            && matches!(self.code, "UNAVAILABLE" | "RESOURCE_EXHAUSTED" | "ABORTED" | "DEADLINE_EXCEEDED")
    }

    pub(super) fn local(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            reason: None,
            retry_after: None,
            fields: Vec::new(),
            request_id: None,
        }
    }

    pub(super) fn of(status: &Status) -> Self {
        let details = status.get_error_details();
        let fields = details.bad_request().map_or_else(Vec::new, |bad| {
            bad.field_violations
                .iter()
                .map(|field| (field.field.clone(), field.description.clone()))
                .collect()
        });
        let request_id = status.metadata().get("x-request-id").and_then(|id| id.to_str().ok());
        Self {
            code: code_name(status.code()),
            message: status.message().to_owned(),
            reason: details.error_info().map(|info| info.reason.clone()),
            retry_after: details.retry_info().and_then(|info| info.retry_delay),
            fields,
            request_id: request_id.map(str::to_owned),
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn a_failure_tells_reason_fields_and_when_to_retry() {
        let mut details = ErrorDetails::new();
        details
            .set_error_info("ACS_THROTTLED", "acsbroker", std::collections::HashMap::<String, String>::new())
            .set_retry_info(Some(Duration::from_secs(3)))
            .add_bad_request_violation("user_id", "must not be empty");
        let status = Status::with_error_details(Code::ResourceExhausted, "slow down", details);
        let failure = Failure::of(&status);
        assert_eq!(failure.code, "RESOURCE_EXHAUSTED");
        assert_eq!(failure.reason.as_deref(), Some("ACS_THROTTLED"));
        assert_eq!(failure.retry_after, Some(Duration::from_secs(3)));
        assert_eq!(failure.fields, [("user_id".to_owned(), "must not be empty".to_owned())]);
        assert!(failure.is_passing());
    }

    #[test]
    fn details_that_cannot_be_read_are_no_details() {
        let status = Status::with_details(Code::NotFound, "gone", vec![0xff; 16].into());
        let failure = Failure::of(&status);
        assert_eq!((failure.code, failure.reason, failure.fields.len()), ("NOT_FOUND", None, 0));
    }
}
