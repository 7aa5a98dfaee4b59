//! Which operation a request asks for: the only place that knows paths.
//!
//! Pure. It never guesses: a path or method that is not one of the emulated operations is named and refused, so that
//! nobody mistakes a plausible answer for the real one. Used by `service`.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

/// An operation of the Identity API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// `POST /identities`
    CreateIdentity,
    /// `GET /identities/{id}`, in the preview version only
    GetIdentity,
    /// `DELETE /identities/{id}`
    DeleteIdentity,
    /// `POST /identities/{id}/:issueAccessToken`
    IssueToken,
    /// `POST /identities/{id}/:revokeAccessTokens`
    RevokeTokens,
    /// All of the above together: a fault for whichever comes next, or the sum of the counts.
    Any,
}

impl Operation {
    /// Every single operation, in the order of the counters.
    pub(super) const ALL: [Self; 5] =
        [Self::CreateIdentity, Self::GetIdentity, Self::DeleteIdentity, Self::IssueToken, Self::RevokeTokens];

    /// The name in control requests and answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreateIdentity => "create_identity",
            Self::GetIdentity => "get_identity",
            Self::DeleteIdentity => "delete_identity",
            Self::IssueToken => "issue_token",
            Self::RevokeTokens => "revoke_tokens",
            Self::Any => "any",
        }
    }
}

/// What a request line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// An emulated operation, with the decoded identity id where the path has one.
    Emulated(Operation, Option<String>),
    /// The emulator's own control paths; the text is what follows `/_emulator/`.
    Control(String),
    /// Anything else, by the name its specification gives it.
    NotEmulated(&'static str),
}

/// Reads method and raw path (without the query).
pub(super) fn route(method: &str, path: &str) -> Route {
    let Some(segments) = segments(path) else {
        return Route::NotEmulated("a path that is not UTF-8");
    };
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match (method, segments.as_slice()) {
        ("POST", ["identities"]) => Route::Emulated(Operation::CreateIdentity, None),
        (_, ["identities", ""]) => Route::NotEmulated("an operation on no identity"),
        ("GET", ["identities", id]) => Route::Emulated(Operation::GetIdentity, Some((*id).to_owned())),
        ("DELETE", ["identities", id]) => Route::Emulated(Operation::DeleteIdentity, Some((*id).to_owned())),
        ("POST", ["identities", id, ":issueAccessToken"]) => {
            Route::Emulated(Operation::IssueToken, Some((*id).to_owned()))
        }
        ("POST", ["identities", id, ":revokeAccessTokens"]) => {
            Route::Emulated(Operation::RevokeTokens, Some((*id).to_owned()))
        }
        (_, ["_emulator", rest @ ..]) => Route::Control(rest.join("/")),
        (method, segments) => Route::NotEmulated(elsewhere(method, segments)),
    }
}

/// The decoded segments of a path. A segment is decoded once, after splitting, so that `%2F` never splits.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')
        .unwrap_or(path)
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned()))
        .collect()
}

/// The specification's name for an operation that exists at ACS but not here.
fn elsewhere(method: &str, segments: &[&str]) -> &'static str {
    match (method, segments) {
        ("POST", ["teamsUser", ":exchangeAccessToken"]) => {
            "CommunicationIdentity_ExchangeTeamsUserAccessToken"
        }
        ("POST", ["access", "teamsExtension", ":exchangeAccessToken"]) => "TeamsExtensionToken_Exchange",
        (_, ["access", "teamsExtension", ..]) => "a TeamsExtensionAssignment operation",
        ("POST", ["access", "entra", ":exchangeAccessToken"]) => "EntraIdToken_Exchange",
        (_, ["access", "entra", ..]) => "an EntraIdAssignment operation",
        ("POST", ["sms"]) => "Sms_Send",
        (_, ["sms", ..] | ["deliveryReports", ..]) => "an SMS operation",
        ("POST", ["emails:send"]) => "Email_Send",
        (_, ["emails", ..]) => "an Email operation",
        (_, ["chat", ..]) => "a Chat operation",
        _ => "an operation it does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_encoded_and_plain() {
        for path in ["/identities/8%3Aacs%3Aa_b", "/identities/8:acs:a_b"] {
            assert_eq!(
                route("DELETE", path),
                Route::Emulated(Operation::DeleteIdentity, Some("8:acs:a_b".into()))
            );
        }
        assert_eq!(
            route("POST", "/identities/8:acs:a_b/%3AissueAccessToken"),
            Route::Emulated(Operation::IssueToken, Some("8:acs:a_b".into()))
        );
    }

    #[test]
    fn an_encoded_slash_does_not_split_a_segment() {
        assert_eq!(
            route("GET", "/identities/a%2Fb"),
            Route::Emulated(Operation::GetIdentity, Some("a/b".into()))
        );
    }

    #[test]
    fn what_is_not_emulated_is_named() {
        for (method, path, name) in [
            ("POST", "/sms", "Sms_Send"),
            ("POST", "/emails:send", "Email_Send"),
            ("GET", "/chat/threads", "a Chat operation"),
            ("POST", "/teamsUser/:exchangeAccessToken", "CommunicationIdentity_ExchangeTeamsUserAccessToken"),
            ("PUT", "/identities/x", "an operation it does not know"),
            ("POST", "/identities/", "an operation on no identity"),
            ("GET", "/identities/%FF", "a path that is not UTF-8"),
        ] {
            assert_eq!(route(method, path), Route::NotEmulated(name), "{method} {path}");
        }
    }
}
