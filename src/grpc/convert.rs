//! Messages to the core's values and back, with the path of every field that is not acceptable.
//!
//! All violations of a request are reported together, none repeats the value. Nothing here can panic, whatever the
//! message holds: a message that decodes is still a stranger's.

pub(crate) mod chat;
pub(crate) mod email;
pub(crate) mod event;
pub(crate) mod sms;

use std::time::Duration;

use prost_types::{Duration as ProtoDuration, Timestamp as ProtoTimestamp};

use super::page_token;
use super::proto::v1;
use crate::broker::error::{Error, FieldViolation};
use crate::broker::types::{IdentityId, IdentityRecord, Invalid, Scope, ScopeSet, UserId, Validity};
use crate::broker::{IssueToken, RefreshToken, ServedToken};
use crate::clock::Timestamp;

/// The most entries of `scopes`; repetition is allowed, so it is more than there are scopes.
const MAX_SCOPES: usize = 16;

/// What `min_remaining` leaves of the validity, so that a token just issued always qualifies.
const MIN_REMAINING_MARGIN: Duration = Duration::from_secs(5 * 60);

/// Entries of a page when the caller does not say, and at the most.
const DEFAULT_PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// The last second of the year 9999, the end of protobuf's timestamps.
const MAX_TIMESTAMP_SECONDS: i64 = 253_402_300_799;

/// IssueToken; `default` is the validity when the caller names none.
pub(crate) fn issue_token(request: v1::IssueTokenRequest, default: Validity) -> Result<IssueToken, Error> {
    let mut check = Check::default();
    let user = check.user("user_id", &request.user_id);
    let scopes = check.scopes(&request.scopes);
    let min_remaining = check.duration("min_remaining", request.min_remaining);
    let validity = check.validity(request.validity);
    if let Some(least) = min_remaining {
        // A validity that is itself wrong is reported as such; then only what no validity allows is wrong here.
        let issued = validity.map_or(Validity::MAX, |validity| validity.unwrap_or(default));
        if least > issued.as_duration().saturating_sub(MIN_REMAINING_MARGIN) {
            check.violation::<()>("min_remaining", "must be from 0 to 5 minutes less than the validity");
        }
    }
    match (user, scopes, min_remaining, validity) {
        (Some(user), Some(scopes), Some(min_remaining), Some(validity)) if check.is_clean() => {
            Ok(IssueToken { user, scopes, validity, min_remaining })
        }
        _ => Err(check.into_error()),
    }
}

/// RefreshToken.
pub(crate) fn refresh_token(request: v1::RefreshTokenRequest) -> Result<RefreshToken, Error> {
    let mut check = Check::default();
    let user = check.user("user_id", &request.user_id);
    let scopes = check.scopes(&request.scopes);
    let validity = check.validity(request.validity);
    match (user, scopes, validity) {
        (Some(user), Some(scopes), Some(validity)) => Ok(RefreshToken { user, scopes, validity }),
        _ => Err(check.into_error()),
    }
}

/// A user and a request id: RevokeTokens and DeleteIdentity.
pub(crate) fn user_request(user_id: &str, request_id: &str) -> Result<(UserId, Option<String>), Error> {
    let mut check = Check::default();
    let user = check.user("user_id", user_id);
    let request_id = check.request_id(request_id);
    match (user, request_id) {
        (Some(user), Some(request_id)) => Ok((user, request_id)),
        _ => Err(check.into_error()),
    }
}

/// A user alone: ResolveIdentity.
pub(crate) fn user(user_id: &str) -> Result<UserId, Error> {
    UserId::of_caller(user_id).map_err(|invalid| Error::invalid("user_id", invalid.to_string()))
}

/// Which identity GetIdentity asks for.
#[derive(Debug)]
pub(crate) enum IdentityKey {
    /// By the app's user.
    User(UserId),
    /// By the ACS identity.
    Identity(IdentityId),
}

/// GetIdentity.
pub(crate) fn identity_key(request: v1::GetIdentityRequest) -> Result<IdentityKey, Error> {
    match request.key {
        Some(v1::get_identity_request::Key::UserId(id)) => user(&id).map(IdentityKey::User),
        Some(v1::get_identity_request::Key::AcsUserId(id)) => IdentityId::parse(&id)
            .map(IdentityKey::Identity)
            .map_err(|invalid| Error::invalid("acs_user_id", invalid.to_string())),
        None => Err(Error::invalid("key", "must be set: either user_id or acs_user_id")),
    }
}

/// A page of the mapping to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PageRequest {
    /// Where to go on; none for the first page.
    pub(crate) from: Option<Vec<u8>>,
    /// The most entries.
    pub(crate) limit: usize,
}

/// ListIdentities.
pub(crate) fn page(request: &v1::ListIdentitiesRequest) -> Result<PageRequest, Error> {
    let mut check = Check::default();
    let limit = match usize::try_from(request.page_size) {
        Ok(0) => Some(DEFAULT_PAGE),
        Ok(size) => Some(size.min(MAX_PAGE)),
        Err(_) => {
            check.violation("page_size", "must not be negative; 0 means 100, more than 1000 means 1000")
        }
    };
    let from = if request.page_token.is_empty() {
        Some(None)
    } else {
        match page_token::decode(&request.page_token) {
            Some(position) => Some(Some(position)),
            None => check.violation("page_token", BAD_PAGE_TOKEN),
        }
    };
    match (limit, from) {
        (Some(limit), Some(from)) => Ok(PageRequest { from, limit }),
        _ => Err(check.into_error()),
    }
}

const BAD_PAGE_TOKEN: &str =
    "must be empty or the next_page_token of an earlier page, unchanged; start again from the first page";

/// A page token that decodes, but means nothing to the store.
pub(crate) fn bad_page_token() -> Error {
    Error::invalid("page_token", BAD_PAGE_TOKEN)
}

/// An entry of an import.
#[derive(Debug)]
pub(crate) struct ImportEntry {
    /// The app's user.
    pub(crate) user: UserId,
    /// The ACS identity.
    pub(crate) identity: IdentityId,
    /// When the mapping was made, if the caller says.
    pub(crate) created_at: Option<Timestamp>,
    /// Whether to check only.
    pub(crate) validate_only: bool,
}

/// ImportIdentities: one message of the stream.
pub(crate) fn import_entry(request: v1::ImportIdentitiesRequest) -> Result<ImportEntry, Error> {
    let Some(identity) = request.identity else {
        return Err(Error::invalid("identity", "must be set"));
    };
    let mut check = Check::default();
    // The broker's own identity too, for it is part of what a list returns and what is restored from it; and no other
    // of the ids that are reserved.
    let user = match UserId::parse(&identity.user_id) {
        Ok(user) if user.is_service() => Some(user),
        _ => check.take("identity.user_id", UserId::of_caller(&identity.user_id)),
    };
    let id = check.take("identity.acs_user_id", IdentityId::parse(&identity.acs_user_id));
    let created_at = check.timestamp("identity.create_time", identity.create_time);
    match (user, id, created_at) {
        (Some(user), Some(identity), Some(created_at)) => {
            Ok(ImportEntry { user, identity, created_at, validate_only: request.validate_only })
        }
        _ => Err(check.into_error()),
    }
}

/// A token for IssueToken's caller.
pub(crate) fn issued(served: &ServedToken) -> v1::IssueTokenResponse {
    let source = if served.from_cache { v1::TokenSource::Cache } else { v1::TokenSource::Issued };
    v1::IssueTokenResponse {
        token: served.token.secret.expose().to_owned(),
        expire_time: Some(timestamp(served.token.expires_at)),
        refresh_time: Some(timestamp(served.refresh_at)),
        acs_user_id: served.identity.as_str().to_owned(),
        source: source.into(),
        degraded: served.degraded,
    }
}

/// A token for RefreshToken's caller.
pub(crate) fn refreshed(served: &ServedToken) -> v1::RefreshTokenResponse {
    v1::RefreshTokenResponse {
        token: served.token.secret.expose().to_owned(),
        expire_time: Some(timestamp(served.token.expires_at)),
        refresh_time: Some(timestamp(served.refresh_at)),
        acs_user_id: served.identity.as_str().to_owned(),
    }
}

/// An entry of the mapping.
pub(crate) fn identity(user: &UserId, record: &IdentityRecord) -> v1::Identity {
    v1::Identity {
        user_id: user.as_str().to_owned(),
        acs_user_id: record.identity.as_str().to_owned(),
        create_time: Some(timestamp(record.created_at)),
    }
}

/// A point in time; beyond the year 9999, which protobuf cannot say, its end.
pub(crate) fn timestamp(time: Timestamp) -> ProtoTimestamp {
    let seconds = i64::try_from(time.as_millis() / 1000).unwrap_or(i64::MAX);
    if seconds > MAX_TIMESTAMP_SECONDS {
        return ProtoTimestamp { seconds: MAX_TIMESTAMP_SECONDS, nanos: 999_000_000 };
    }
    // Less than 1000, so the product fits.
    let millis = i32::try_from(time.as_millis() % 1000).unwrap_or(0);
    ProtoTimestamp { seconds, nanos: millis * 1_000_000 }
}

/// Gathers what is wrong with a request.
#[derive(Default)]
struct Check(Vec<FieldViolation>);

impl Check {
    /// Notes a violation; returns none, so that it can stand in for the value.
    fn violation<T>(&mut self, field: &str, description: impl Into<String>) -> Option<T> {
        self.0.push(FieldViolation::new(field, description));
        None
    }

    fn take<T>(&mut self, field: &str, value: Result<T, Invalid>) -> Option<T> {
        value.map_err(|invalid| self.violation::<T>(field, invalid.to_string())).ok()
    }

    fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    fn into_error(self) -> Error {
        Error::InvalidField(self.0)
    }

    fn user(&mut self, field: &str, id: &str) -> Option<UserId> {
        self.take(field, UserId::of_caller(id))
    }

    fn scopes(&mut self, scopes: &[i32]) -> Option<ScopeSet> {
        if scopes.len() > MAX_SCOPES {
            return self.violation("scopes", format!("must have at most {MAX_SCOPES} entries"));
        }
        let violations_before = self.0.len();
        let mut known = [Scope::Chat; MAX_SCOPES];
        for ((index, &number), slot) in scopes.iter().enumerate().zip(&mut known) {
            match scope(number) {
                Some(scope) => *slot = scope,
                None if number == 0 => {
                    self.violation::<()>(&format!("scopes[{index}]"), "must not be SCOPE_UNSPECIFIED");
                }
                None => {
                    self.violation::<()>(&format!("scopes[{index}]"), "must be a scope this version knows");
                }
            }
        }
        if self.0.len() > violations_before {
            return None;
        }
        self.take("scopes", ScopeSet::new(known.into_iter().take(scopes.len())))
    }

    /// A duration that is not negative; zero if absent.
    fn duration(&mut self, field: &str, duration: Option<ProtoDuration>) -> Option<Duration> {
        let Some(ProtoDuration { seconds, nanos }) = duration else { return Some(Duration::ZERO) };
        match (u64::try_from(seconds), u32::try_from(nanos)) {
            (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => Some(Duration::new(seconds, nanos)),
            _ if seconds < 0 || nanos < 0 => self.violation(field, "must not be negative"),
            _ => self.violation(field, "must have nanos from 0 to 999,999,999"),
        }
    }

    fn validity(&mut self, duration: Option<ProtoDuration>) -> Option<Option<Validity>> {
        if duration.is_none() {
            return Some(None);
        }
        let duration = self.duration("validity", duration)?;
        self.take("validity", Validity::from_duration(duration)).map(Some)
    }

    /// Empty or a UUID; in the one canonical form, so that a retry that writes it otherwise is still a retry.
    fn request_id(&mut self, id: &str) -> Option<Option<String>> {
        if id.is_empty() {
            return Some(None);
        }
        match uuid::Uuid::try_parse(id) {
            Ok(uuid) if id.len() == 36 && !uuid.is_nil() => Some(Some(uuid.hyphenated().to_string())),
            _ => self.violation(
                "request_id",
                "must be empty or a UUID such as f81d4fae-7dec-41d0-a765-00a0c91e6bf6, not the nil one",
            ),
        }
    }

    /// A UUID that must be there; the nil one names nothing.
    fn request_uuid(&mut self, id: &str) -> Option<uuid::Uuid> {
        match uuid::Uuid::try_parse(id) {
            Ok(uuid) if id.len() == 36 && !uuid.is_nil() => Some(uuid),
            _ => self.violation(
                "request_id",
                "must be a UUID such as f81d4fae-7dec-41d0-a765-00a0c91e6bf6, not the nil one",
            ),
        }
    }

    fn timestamp(&mut self, field: &str, time: Option<ProtoTimestamp>) -> Option<Option<Timestamp>> {
        let Some(ProtoTimestamp { seconds, nanos }) = time else { return Some(None) };
        match (u64::try_from(seconds), u64::try_from(nanos)) {
            (Ok(whole), Ok(nanos)) if seconds <= MAX_TIMESTAMP_SECONDS && nanos < 1_000_000_000 => {
                Some(Some(Timestamp::from_millis(whole * 1000 + nanos / 1_000_000)))
            }
            _ => {
                self.violation(field, "must be from the year 1970 to 9999, with nanos from 0 to 999,999,999")
            }
        }
    }
}

/// The core's scope for a number on the wire.
fn scope(number: i32) -> Option<Scope> {
    match v1::Scope::try_from(number).ok()? {
        v1::Scope::Unspecified => None,
        v1::Scope::Chat => Some(Scope::Chat),
        v1::Scope::Voip => Some(Scope::Voip),
        v1::Scope::ChatJoin => Some(Scope::ChatJoin),
        v1::Scope::ChatJoinLimited => Some(Scope::ChatJoinLimited),
        v1::Scope::VoipJoin => Some(Scope::VoipJoin),
    }
}

#[cfg(test)]
#[path = "convert_tests.rs"]
mod tests;
