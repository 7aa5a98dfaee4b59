//! What a failed attempt means: whether another may be made, and what the caller is told in the end.
//!
//! Pure decisions, apart from the pipeline that acts on them. The rule behind all of them: a create that may have been
//! done is never repeated, because ACS knows no idempotency key for it and a second one leaves an orphan identity.

use std::time::Duration;

use http::StatusCode;

use super::credential::ring::{Blame, Refusal};
use super::error::{Class, Detail, Error, Fixed, Source};
use super::fault::Fault;
use super::pipeline::{Call, Proof};

/// How an attempt failed.
pub(super) enum Failure {
    /// Nothing has left.
    NeverSent(Source),
    /// Nothing has left, because ACS accepts none of the credentials.
    NoCredential(Refusal),
    /// It left, or may have, and no whole answer came.
    PerhapsSent(Source),
    /// A success that cannot be used; asking again would bring the same.
    Unusable(StatusCode, Source),
    /// An answer that is no success.
    Answered { status: StatusCode, fault: Fault, retry_after: Option<Duration> },
}

impl Failure {
    /// Whether another attempt may be made. Throttled requests were not done, whatever they are, and neither were 503s,
    /// unless what is asked for is to happen a `single` time: a gateway may say 503 of what was done behind it.
    pub(super) fn may_retry(&self, idempotent: bool, single: bool) -> bool {
        match self {
            Self::NeverSent(_) => true,
            Self::NoCredential(_) => false,
            Self::PerhapsSent(_) => idempotent,
            Self::Unusable(..) => false,
            Self::Answered { status, .. } => match status.as_u16() {
                429 => true,
                503 => !single,
                408 | 500 | 502 | 504 => idempotent,
                _ => false,
            },
        }
    }

    /// Whether ACS may have done what it was asked to.
    pub(super) fn perhaps_done(&self) -> bool {
        match self {
            Self::PerhapsSent(_) | Self::Unusable(..) => true,
            Self::NeverSent(_) | Self::NoCredential(_) => false,
            Self::Answered { status, .. } => matches!(status.as_u16(), 408 | 500..=502 | 504..=599),
        }
    }

    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::NeverSent(_) => "never_sent",
            Self::NoCredential(_) => "no_credential",
            Self::PerhapsSent(_) => "perhaps_sent",
            Self::Unusable(..) => "unusable",
            Self::Answered { .. } => "refused_or_failed",
        }
    }

    pub(super) fn asked(&self) -> Option<Duration> {
        if let Self::Answered { retry_after, .. } = self { *retry_after } else { None }
    }

    pub(super) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Answered { status, .. } | Self::Unusable(status, _) => Some(*status),
            Self::NeverSent(_) | Self::NoCredential(_) | Self::PerhapsSent(_) => None,
        }
    }

    /// Whether the broker's own credential may be to blame, and how surely.
    pub(super) fn blames(&self, call: &Call<'_>) -> Option<Blame> {
        let Self::Answered { status, fault, retry_after } = self else { return None };
        let code = fault.code.as_deref();
        let refused = classify(*status, code, *retry_after) == Class::CredentialsRefused;
        if !refused || matches!(call.proof, Proof::User(_)) {
            return None;
        }
        // `Unauthorized` is also what an SMS sender gets that the resource does not own, and 403 may be about anything.
        let surely = *status == StatusCode::UNAUTHORIZED && code != Some("Unauthorized");
        Some(if surely { Blame::Surely } else { Blame::Perhaps })
    }

    /// What it says of the credential that signed.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::NoCredential(refusal) => Some(*refusal),
            Self::Answered { status, fault, retry_after }
                if classify(*status, fault.code.as_deref(), *retry_after) == Class::CredentialsRefused =>
            {
                Some(Refusal::Acs(status.as_u16()))
            }
            _ => None,
        }
    }

    /// The error of a call whose last attempt failed so; `perhaps_done` counts the attempts before it too.
    pub(super) fn explain(
        self,
        call: &Call<'_>,
        perhaps_done: bool,
        client_request_id: String,
        attempts: u32,
    ) -> Error {
        let status = self.status().map(|status| status.as_u16());
        let (class, code, target, source) = match self {
            Self::NoCredential(_) => {
                let why = Fixed("ACS accepted none of the credentials a moment ago; it is probed every 10 s");
                (Class::CredentialsRefused, None, None, Some(why.into()))
            }
            Self::NeverSent(source) if !perhaps_done => (Class::NeverSent, None, None, Some(source)),
            Self::NeverSent(source) | Self::PerhapsSent(source) | Self::Unusable(_, source) => {
                (Class::PerhapsSent, None, None, Some(source))
            }
            Self::Answered { status, fault, retry_after } => {
                let class = match (classify(status, fault.code.as_deref(), retry_after), call.proof) {
                    // Chat answers 403 to users who may not, and 401 to a token that is no longer good.
                    (Class::CredentialsRefused, Proof::User(_)) if status == StatusCode::UNAUTHORIZED => {
                        Class::TokenRefused
                    }
                    (Class::CredentialsRefused, Proof::User(_)) => Class::Rejected,
                    (class, _) => class,
                };
                (class, fault.code, fault.target, fault.message.map(Source::from))
            }
        };
        let operation = call.operation;
        Detail { operation, class, status, code, target, client_request_id, attempts, source }.into()
    }
}

/// What an answer that is no success means.
fn classify(status: StatusCode, code: Option<&str>, retry_after: Option<Duration>) -> Class {
    match (status.as_u16(), code) {
        (429, _) => Class::Throttled { retry_after },
        // A refused proof inside the body, such as a Teams token, is no fault of the broker's own credential.
        (401, code) if code != Some("InvalidAccessToken") => Class::CredentialsRefused,
        (403, None | Some("Denied" | "Unauthorized" | "Forbidden")) => Class::CredentialsRefused,
        (408 | 500..=599, _) => Class::ServerFailed { retry_after },
        _ => Class::Rejected,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(status: u16) -> Failure {
        let status = StatusCode::from_u16(status).unwrap();
        Failure::Answered { status, fault: Fault::default(), retry_after: None }
    }

    #[test]
    fn only_what_was_surely_not_done_is_repeated_for_a_create() {
        let tried = |idempotent, single| {
            (300..600).filter(|&status| answered(status).may_retry(idempotent, single)).collect::<Vec<u16>>()
        };
        let statuses = |idempotent| tried(idempotent, false);
        assert_eq!(tried(false, true), [429]);
        assert_eq!(statuses(false), [429, 503]);
        assert_eq!(statuses(true), [408, 429, 500, 502, 503, 504]);
        let done = |status: &u16| answered(*status).perhaps_done();
        assert!(!statuses(false).iter().any(done));
        assert!([408, 500, 502, 504].iter().all(done));
    }

    #[test]
    fn a_refused_teams_token_does_not_blame_the_brokers_credential() {
        let class = |status, code| classify(StatusCode::from_u16(status).unwrap(), code, None);
        assert_eq!(class(401, Some("InvalidAccessToken")), Class::Rejected);
        assert_eq!(class(401, Some("Denied")), Class::CredentialsRefused);
        assert_eq!(class(401, Some("SomethingNew")), Class::CredentialsRefused);
        assert_eq!(class(403, Some("QuotaOfKind")), Class::Rejected);
        assert_eq!(class(403, None), Class::CredentialsRefused);
    }
}
