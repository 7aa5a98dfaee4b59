//! The `api-version` rules: every call names exactly one version, and only a supported one.
//!
//! Pure. The texts are those of the published REST examples. Used by `service`, after authentication.

use percent_encoding::percent_decode_str;

use super::answer::{self, Answer};
use super::operation::{Operation, Service};

/// A version of an API. Versions of one service compare by date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Version(&'static str);

impl Version {
    pub(super) const IDENTITY_2023: Self = Self("2023-10-01");
    /// Knows `customId` and can read an identity.
    pub(super) const IDENTITY_PREVIEW: Self = Self("2025-03-02-preview");
    pub(super) const IDENTITY_2025: Self = Self("2025-06-30");
    pub(super) const SMS_2021: Self = Self("2021-03-07");
    pub(super) const SMS_2026: Self = Self("2026-01-23");
    pub(super) const EMAIL_2023: Self = Self("2023-03-31");
    pub(super) const EMAIL_2025: Self = Self("2025-09-01");
    pub(super) const CHAT_2024: Self = Self("2024-03-07");
    pub(super) const CHAT_2025: Self = Self("2025-03-15");

    /// As the query names it.
    pub(super) const fn text(self) -> &'static str {
        self.0
    }
}

/// What the header `api-supported-versions` says of a service.
pub(super) fn supported(service: Service) -> String {
    let names: Vec<&str> = service.versions().iter().map(|version| version.text()).collect();
    names.join(", ")
}

/// Finds the version of a request. `uri` is its address without the query, for the messages.
pub(super) fn check(query: Option<&str>, uri: &str, operation: Operation) -> Result<Version, Box<Answer>> {
    let mut named: Vec<String> = Vec::new();
    for pair in query.unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if decoded(name).eq_ignore_ascii_case("api-version") {
            let value = decoded(value);
            if !value.is_empty() && !named.contains(&value) {
                named.push(value);
            }
        }
    }
    let refuse = |code, message: &str| {
        let answer = answer::version_error(code, message);
        // Email's specification has this header on every error.
        let is_email = operation.service() == Service::Email;
        Err(Box::new(if is_email { answer.with_header("x-ms-error-code", code) } else { answer }))
    };
    let unsupported = |value: &str| {
        format!(
            "The HTTP resource that matches the request URI '{uri}' does not support the API version '{value}'."
        )
    };
    match named.as_slice() {
        [] => refuse("ApiVersionUnspecified", "An API version is required, but was not specified."),
        [value] => {
            let known =
                operation.service().versions().iter().find(|known| known.text().eq_ignore_ascii_case(value));
            match known {
                Some(version) if !operation.versions().contains(version) => {
                    refuse("UnsupportedApiVersion", &unsupported(value))
                }
                Some(version) => Ok(*version),
                None if is_well_formed(value) => refuse("UnsupportedApiVersion", &unsupported(value)),
                None => refuse("InvalidApiVersion", &unsupported(value)),
            }
        }
        several => refuse(
            "AmbiguousApiVersion",
            &format!(
                "The following API versions were requested: {}. At most, only a single API version may be \
                 specified. Please update the intended API version and retry the request.",
                several.join(", ")
            ),
        ),
    }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// `YYYY-MM-DD`, optionally followed by `-` and a status such as `preview`.
fn is_well_formed(value: &str) -> bool {
    let (date, status) = match value.split_at_checked(10) {
        Some((date, status)) => (date, status),
        None => return false,
    };
    let day = time::Date::parse(date, time::macros::format_description!("[year]-[month]-[day]"));
    let status_is_fine = match status.strip_prefix('-') {
        Some(status) => !status.is_empty() && status.chars().all(|c| c.is_ascii_alphanumeric() || c == '.'),
        None => status.is_empty(),
    };
    day.is_ok() && status_is_fine
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(query: Option<&str>, operation: Operation) -> String {
        match check(query, "http://h/identities", operation) {
            Ok(version) => version.text().to_owned(),
            Err(answer) => {
                let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
                body["error"]["code"].as_str().unwrap().to_owned()
            }
        }
    }

    #[test]
    fn each_way_to_name_a_version_has_its_own_answer() {
        let create = Operation::CreateIdentity;
        for (query, wanted) in [
            (None, "ApiVersionUnspecified"),
            (Some(""), "ApiVersionUnspecified"),
            (Some("api-version="), "ApiVersionUnspecified"),
            (Some("apiversion=2023-10-01"), "ApiVersionUnspecified"),
            (Some("api-version=2023-10-01"), "2023-10-01"),
            (Some("x=1&API-Version=2025%2D06-30"), "2025-06-30"),
            (Some("api-version=2025-03-02-PREVIEW"), "2025-03-02-preview"),
            (Some("api-version=2023-10-01&api-version=2023-10-01"), "2023-10-01"),
            (Some("api-version=2023-10-01&api-version=2025-06-30"), "AmbiguousApiVersion"),
            (Some("api-version=2021-01-01"), "UnsupportedApiVersion"),
            (Some("api-version=2021-01-01-preview"), "UnsupportedApiVersion"),
            (Some("api-version=2024-12-10w-preview"), "InvalidApiVersion"),
            (Some("api-version=2024-13-10"), "InvalidApiVersion"),
            (Some("api-version=%FF"), "InvalidApiVersion"),
            (Some("api-version=2023-10-0\u{e9}"), "InvalidApiVersion"),
        ] {
            assert_eq!(code(query, create), wanted, "{query:?}");
        }
    }

    #[test]
    fn reading_an_identity_is_for_the_preview_alone() {
        assert_eq!(code(Some("api-version=2023-10-01"), Operation::GetIdentity), "UnsupportedApiVersion");
        assert_eq!(code(Some("api-version=2025-06-30"), Operation::GetIdentity), "UnsupportedApiVersion");
        assert_eq!(
            code(Some("api-version=2025-03-02-preview"), Operation::GetIdentity),
            "2025-03-02-preview"
        );
    }
}
