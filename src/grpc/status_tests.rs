//! The table of errors, checked row by row, and `docs/errors.md` written from it.

use std::path::Path;

use super::*;
use crate::broker::policy::{Missing, Rpc};

/// One of each failure. The match below stops compiling when one is missing.
fn samples() -> Vec<Failure> {
    let cause: crate::broker::error::Cause = Arc::new(std::io::Error::other("secret upstream text"));
    let core = [
        Error::invalid("user_id", "must not be empty"),
        Error::CallerUnauthenticated,
        Error::IdentityNotFound,
        Error::IdentityAlreadyLinked,
        Error::ConcurrentChange,
        Error::RequestInProgress { retry_after: Duration::from_secs(1) },
        Error::RequestIdReused,
        Error::AcsThrottled { retry_after: Duration::from_secs(7) },
        Error::AcsUnavailable { retry_after: Duration::from_secs(1), cause: Some(cause.clone()) },
        Error::AcsRejected { status: 400, code: "BadRequest".into(), request_id: "f81d4fae".into() },
        Error::AcsCredentialsRefused,
        Error::StoreUnavailable { retry_after: Duration::from_secs(1), cause: Some(cause.clone()) },
        Error::DeadlineExceeded,
        Error::Internal { cause: Some(cause.clone()) },
        Error::AcsLimitReached { retry_after: Duration::from_secs(3) },
        Error::ChannelNotConfigured { channel: "sms" },
        Error::RecipientNotAllowed,
        Error::MessageNotFound,
        Error::OutcomeUnknown { retry_after: Duration::from_secs(2), cause: Some(cause) },
        Error::CursorExpired,
        Error::ChatForbidden,
        Error::ChatNotFound,
        Error::PermissionMissing { permission: Missing::Rpc(Rpc::SendSms) },
        Error::CallerQuotaExceeded { retry_after: Duration::from_secs(4) },
        Error::DuplicateContent { earlier: "sms_0".into() },
        Error::IssuerUnavailable { retry_after: Duration::from_secs(5) },
    ];
    let transport = [
        Refusal::Overloaded,
        Refusal::MessageTooLarge,
        Refusal::MessageMalformed,
        Refusal::MethodUnknown,
        Refusal::CompressionUnsupported,
        Refusal::WatcherTooSlow,
        Refusal::Stopping,
        Refusal::PolicyChanged,
        Refusal::AuditUnavailable,
    ];
    core.into_iter().map(Failure::Core).chain(transport.map(Failure::Transport)).collect()
}

fn position(failure: &Failure) -> usize {
    match failure {
        Failure::Core(error) => match error {
            Error::InvalidField(_) => 0,
            Error::CallerUnauthenticated => 1,
            Error::IdentityNotFound => 2,
            Error::IdentityAlreadyLinked => 3,
            Error::ConcurrentChange => 4,
            Error::RequestInProgress { .. } => 5,
            Error::RequestIdReused => 6,
            Error::AcsThrottled { .. } => 7,
            Error::AcsUnavailable { .. } => 8,
            Error::AcsRejected { .. } => 9,
            Error::AcsCredentialsRefused => 10,
            Error::StoreUnavailable { .. } => 11,
            Error::DeadlineExceeded => 12,
            Error::Internal { .. } => 13,
            Error::AcsLimitReached { .. } => 14,
            Error::ChannelNotConfigured { .. } => 15,
            Error::RecipientNotAllowed => 16,
            Error::MessageNotFound => 17,
            Error::OutcomeUnknown { .. } => 18,
            Error::CursorExpired => 19,
            Error::ChatForbidden => 20,
            Error::ChatNotFound => 21,
            Error::PermissionMissing { .. } => 22,
            Error::CallerQuotaExceeded { .. } => 23,
            Error::DuplicateContent { .. } => 24,
            Error::IssuerUnavailable { .. } => 25,
        },
        Failure::Transport(refusal) => match refusal {
            Refusal::Overloaded => 26,
            Refusal::MessageTooLarge => 27,
            Refusal::MessageMalformed => 28,
            Refusal::MethodUnknown => 29,
            Refusal::CompressionUnsupported => 30,
            Refusal::WatcherTooSlow => 31,
            Refusal::Stopping => 32,
            Refusal::PolicyChanged => 33,
            Refusal::AuditUnavailable => 34,
        },
    }
}

#[test]
fn every_failure_has_a_sample_and_a_reason_of_its_own() {
    let samples = samples();
    let positions: Vec<_> = samples.iter().map(position).collect();
    assert_eq!(positions, (0..35).collect::<Vec<_>>());
    let mut reasons: Vec<_> = samples.iter().map(Failure::reason).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), samples.len());
}

#[test]
fn every_status_carries_reason_domain_and_request_id() {
    for failure in samples() {
        let status = failure.status(Some("call-1"));
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str(), info.metadata["request_id"].as_str()),
            (failure.reason(), "acsbroker", "call-1")
        );
        assert_eq!(details.request_info().unwrap().request_id, "call-1");
        assert_ne!(status.code(), Code::Ok);
        assert_eq!(status.message(), failure.to_string());
    }
}

#[test]
fn the_delay_of_an_error_is_in_retry_info_and_nowhere_else() {
    for failure in samples() {
        let delay = match &failure {
            Failure::Core(error) => error.retry_after(),
            Failure::Transport(
                Refusal::Overloaded
                | Refusal::WatcherTooSlow
                | Refusal::Stopping
                | Refusal::PolicyChanged
                | Refusal::AuditUnavailable,
            ) => Some(Duration::from_secs(1)),
            Failure::Transport(_) => None,
        };
        let details = failure.status(None).get_error_details();
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), delay, "{failure}");
    }
}

#[test]
fn violations_are_in_bad_request_in_their_order() {
    let error = Error::InvalidField(vec![
        FieldViolation::new("user_id", "must not be empty"),
        FieldViolation::new("scopes[1]", "must not be SCOPE_UNSPECIFIED"),
    ]);
    let details = Failure::from(error).status(None).get_error_details();
    let fields: Vec<_> =
        details.bad_request().unwrap().field_violations.iter().map(|field| field.field.clone()).collect();
    assert_eq!(fields, ["user_id", "scopes[1]"]);
}

#[test]
fn a_missing_identity_is_named_by_its_type_only() {
    let details = Failure::from(Error::IdentityNotFound).status(None).get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str(), resource.owner.as_str()),
        ("acsbroker.v1.Identity", "", "")
    );
}

#[test]
fn a_cause_is_for_the_log_and_never_in_the_status() {
    for failure in samples() {
        let status = failure.status(Some("call-1"));
        let sent = format!("{} {}", status.message(), String::from_utf8_lossy(status.details()));
        assert!(!sent.contains("secret upstream text"), "{failure}");
    }
    let unavailable = samples().into_iter().find(|failure| failure.reason() == "STORE_UNAVAILABLE").unwrap();
    assert_eq!(Causes(&unavailable).to_string(), "secret upstream text");
}

#[test]
fn a_status_leads_back_to_its_failure() {
    for failure in samples() {
        let reason = failure.reason();
        assert_eq!(failure_of(&of(failure), true).reason(), reason);
    }
}

#[test]
fn what_tonic_refuses_gets_a_row_too() {
    for (status, known, reason) in [
        (Status::out_of_range("too large"), true, "MESSAGE_TOO_LARGE"),
        (Status::internal("cannot decode"), true, "MESSAGE_MALFORMED"),
        (Status::unimplemented("gzip"), true, "COMPRESSION_UNSUPPORTED"),
        (Status::unimplemented(""), false, "METHOD_UNKNOWN"),
    ] {
        assert_eq!(failure_of(&status, known).reason(), reason);
    }
}

fn detail_text(detail: &Detail<'_>) -> String {
    match detail {
        Detail::None => "–".to_owned(),
        Detail::BadRequest(_) => "BadRequest, a violation per field".to_owned(),
        Detail::RetryInfo(_) => "RetryInfo".to_owned(),
        Detail::Quota(_) => "QuotaFailure, RetryInfo".to_owned(),
        Detail::ResourceInfo(_) => format!("ResourceInfo of type `{IDENTITY}`, without a name"),
        Detail::PreconditionFailure { kind, .. } => format!("PreconditionFailure of type `{kind}`"),
        Detail::Metadata(entries) => {
            let keys: Vec<_> = entries.iter().map(|(key, _)| format!("`{key}`")).collect();
            format!("in ErrorInfo.metadata {}", keys.join(", "))
        }
    }
}

fn page() -> String {
    let mut page = String::from(
        "# Errors\n\n\
         <!-- Generated from the table in src/grpc/status.rs by a test. Rewrite it with: UPDATE_DOCS=1 cargo test errors_md -->\n\n\
         Every error of the API is a gRPC status with a `google.rpc.ErrorInfo` (domain `acsbroker`, a `reason` of this\n\
         page) and a `google.rpc.RequestInfo`. The request id is also in `ErrorInfo.metadata[\"request_id\"]` and in the\n\
         response metadata `x-request-id`: send your own in `x-request-id` (1 to 128 letters, digits, `.`, `_`, `-`), or\n\
         the broker makes one. `ImportProblem.reason` uses the same reasons. Decide by `reason`, which is stable;\n\
         messages are for people and may change. No message or detail repeats a value of the request.\n\n\
         | reason | code | further details | what happened | what the caller should do |\n\
         |---|---|---|---|---|\n",
    );
    for failure in samples() {
        let row = failure.row();
        let happened = match &failure {
            Failure::Core(Error::InvalidField(_)) => {
                "one or more fields of the request are not acceptable".into()
            }
            Failure::Core(Error::PermissionMissing { .. }) => {
                "the policy does not allow this caller to do this, or not for this user or sender".into()
            }
            Failure::Core(Error::AcsRejected { .. }) => {
                "Azure Communication Services refused the request".into()
            }
            other => other.to_string(),
        };
        page.push_str(&format!(
            "| `{}` | `{}` | {} | {} | {} |\n",
            row.reason,
            code_name(row.code),
            detail_text(&row.detail),
            happened,
            row.advice
        ));
    }
    page.push_str(
        "\nHealth and reflection answer with the statuses of their own definitions. A request that is not gRPC gets an\n\
         HTTP status: 405 for another method than POST, 415 for another content type than `application/grpc`.\n",
    );
    page
}

#[test]
#[expect(clippy::disallowed_methods, reason = "UPDATE_DOCS asks this test to write the file")]
fn errors_md_is_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
    let page = page();
    if std::env::var("UPDATE_DOCS").is_ok_and(|value| value == "1") {
        std::fs::write(&file, &page).unwrap();
    }
    let written = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(written == page, "docs/errors.md is stale: run UPDATE_DOCS=1 cargo test errors_md");
}
