//! The operations of ACS as one table, and which of them a request asks for: the only place that knows paths.
//!
//! Pure. It never guesses: a path or method that is not in the table is named and refused, so that nobody mistakes a
//! plausible answer for the real one. Used by `service`.

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use super::version::Version;

/// A REST API of ACS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    Identity,
    Sms,
    Email,
    Chat,
}

impl Service {
    /// The versions that this emulator knows of the service, in order; what `api-supported-versions` says.
    pub(super) const fn versions(self) -> &'static [Version] {
        match self {
            Self::Identity => ALL_IDENTITY,
            Self::Sms => &[Version::SMS_2021, Version::SMS_2026],
            Self::Email => &[Version::EMAIL_2023, Version::EMAIL_2025],
            Self::Chat => &[Version::CHAT_2024, Version::CHAT_2025],
        }
    }

    /// The longest request body that is read, in bytes: somewhat more than the service itself allows.
    pub(super) const fn max_body(self) -> usize {
        match self {
            Self::Identity => 64 * 1024,
            Self::Sms => 256 * 1024,
            Self::Email => 12 * 1024 * 1024,
            Self::Chat => 1024 * 1024,
        }
    }
}

/// Who may ask for an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Whoever signs with an access key, or brings an Entra token for the resource.
    Resource,
    /// An ACS user with an access token.
    User,
    /// A person or app that brings an Entra token of its own, to exchange it.
    EntraUser,
}

const ALL_IDENTITY: &[Version] = &[Version::IDENTITY_2023, Version::IDENTITY_PREVIEW, Version::IDENTITY_2025];
const TEAMS_EXTENSION: &[Version] = &[Version::IDENTITY_PREVIEW, Version::IDENTITY_2025];
const IDENTITY_PREVIEW: &[Version] = &[Version::IDENTITY_PREVIEW];
const SMS_2026: &[Version] = &[Version::SMS_2026];

/// What is known of an operation. Segments in braces are parameters, in the order handlers get them.
struct Row {
    operation: Operation,
    name: &'static str,
    service: Service,
    method: &'static str,
    path: &'static [&'static str],
    /// The versions it is in; empty: all of its service.
    versions: &'static [Version],
    access: Access,
}

/// The operations by name. Written once: the enum, the list and the table cannot differ.
macro_rules! operations {
    ($( $(#[$doc:meta])* $variant:ident $name:literal $service:ident $method:literal $path:expr, $versions:expr, $access:ident; )*) => {
        /// An operation of ACS.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Operation {
            $( $(#[$doc])* $variant, )*
            /// All of the above together: a fault for whichever comes next, or the sum of the counts.
            Any,
        }

        impl Operation {
            /// Every single operation, in the order of the counters.
            pub(super) const ALL: &[Self] = &[$( Self::$variant, )*];

            /// The name in control requests and answers.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Self::$variant => $name, )*
                    Self::Any => "any",
                }
            }
        }

        const TABLE: &[Row] = &[$( Row {
            operation: Operation::$variant,
            name: $name,
            service: Service::$service,
            method: $method,
            path: &$path,
            versions: $versions,
            access: Access::$access,
        }, )*];
    };
}

operations! {
    /// `POST /identities`
    CreateIdentity "create_identity" Identity "POST" ["identities"], &[], Resource;
    /// `GET /identities/{id}`, in the preview version only
    GetIdentity "get_identity" Identity "GET" ["identities", "{id}"], IDENTITY_PREVIEW, Resource;
    /// `DELETE /identities/{id}`
    DeleteIdentity "delete_identity" Identity "DELETE" ["identities", "{id}"], &[], Resource;
    /// `POST /identities/{id}/:issueAccessToken`
    IssueToken "issue_token" Identity "POST" ["identities", "{id}", ":issueAccessToken"], &[], Resource;
    /// `POST /identities/{id}/:revokeAccessTokens`
    RevokeTokens "revoke_tokens" Identity "POST" ["identities", "{id}", ":revokeAccessTokens"], &[], Resource;
    /// `POST /teamsUser/:exchangeAccessToken`
    ExchangeTeamsUserToken "exchange_teams_user_token" Identity "POST" ["teamsUser", ":exchangeAccessToken"], &[], Resource;
    /// `POST /access/teamsExtension/:exchangeAccessToken`
    ExchangeTeamsExtensionToken "exchange_teams_extension_token" Identity "POST" ["access", "teamsExtension", ":exchangeAccessToken"], TEAMS_EXTENSION, EntraUser;
    /// `GET /access/teamsExtension/tenants/{tenantId}/assignments/{objectId}`
    GetTeamsExtensionAssignment "get_teams_extension_assignment" Identity "GET" ["access", "teamsExtension", "tenants", "{tenant}", "assignments", "{object}"], TEAMS_EXTENSION, Resource;
    /// `PUT /access/teamsExtension/tenants/{tenantId}/assignments/{objectId}`
    PutTeamsExtensionAssignment "put_teams_extension_assignment" Identity "PUT" ["access", "teamsExtension", "tenants", "{tenant}", "assignments", "{object}"], TEAMS_EXTENSION, Resource;
    /// `DELETE /access/teamsExtension/tenants/{tenantId}/assignments/{objectId}`
    DeleteTeamsExtensionAssignment "delete_teams_extension_assignment" Identity "DELETE" ["access", "teamsExtension", "tenants", "{tenant}", "assignments", "{object}"], TEAMS_EXTENSION, Resource;
    /// `POST /access/entra/:exchangeAccessToken`
    ExchangeEntraToken "exchange_entra_token" Identity "POST" ["access", "entra", ":exchangeAccessToken"], IDENTITY_PREVIEW, EntraUser;
    /// `GET /access/entra/assignments`
    ListEntraAssignments "list_entra_assignments" Identity "GET" ["access", "entra", "assignments"], IDENTITY_PREVIEW, Resource;
    /// `PATCH /access/entra/assignments`
    UpdateEntraAssignments "update_entra_assignments" Identity "PATCH" ["access", "entra", "assignments"], IDENTITY_PREVIEW, Resource;
    /// `GET /access/entra/assignments/{objectId}`
    GetEntraAssignment "get_entra_assignment" Identity "GET" ["access", "entra", "assignments", "{object}"], IDENTITY_PREVIEW, Resource;
    /// `PUT /access/entra/assignments/{objectId}`
    PutEntraAssignment "put_entra_assignment" Identity "PUT" ["access", "entra", "assignments", "{object}"], IDENTITY_PREVIEW, Resource;
    /// `DELETE /access/entra/assignments/{objectId}`
    DeleteEntraAssignment "delete_entra_assignment" Identity "DELETE" ["access", "entra", "assignments", "{object}"], IDENTITY_PREVIEW, Resource;
    /// `POST /sms`
    SendSms "send_sms" Sms "POST" ["sms"], &[], Resource;
    /// `POST /sms/optouts:add`
    AddOptOuts "add_opt_outs" Sms "POST" ["sms", "optouts:add"], SMS_2026, Resource;
    /// `POST /sms/optouts:remove`
    RemoveOptOuts "remove_opt_outs" Sms "POST" ["sms", "optouts:remove"], SMS_2026, Resource;
    /// `POST /sms/optouts:check`
    CheckOptOuts "check_opt_outs" Sms "POST" ["sms", "optouts:check"], SMS_2026, Resource;
    /// `GET /deliveryReports/{outgoingMessageId}`
    GetDeliveryReport "get_delivery_report" Sms "GET" ["deliveryReports", "{message}"], SMS_2026, Resource;
    /// `POST /emails:send`
    SendEmail "send_email" Email "POST" ["emails:send"], &[], Resource;
    /// `GET /emails/operations/{operationId}`
    GetEmailOperation "get_email_operation" Email "GET" ["emails", "operations", "{operation}"], &[], Resource;
    /// `POST /chat/threads`
    CreateThread "create_thread" Chat "POST" ["chat", "threads"], &[], User;
    /// `GET /chat/threads`
    ListThreads "list_threads" Chat "GET" ["chat", "threads"], &[], User;
    /// `GET /chat/threads/{id}`
    GetThread "get_thread" Chat "GET" ["chat", "threads", "{thread}"], &[], User;
    /// `PATCH /chat/threads/{id}`
    UpdateThread "update_thread" Chat "PATCH" ["chat", "threads", "{thread}"], &[], User;
    /// `DELETE /chat/threads/{id}`
    DeleteThread "delete_thread" Chat "DELETE" ["chat", "threads", "{thread}"], &[], User;
    /// `GET /chat/threads/{id}/participants`
    ListParticipants "list_participants" Chat "GET" ["chat", "threads", "{thread}", "participants"], &[], User;
    /// `POST /chat/threads/{id}/participants/:add`
    AddParticipants "add_participants" Chat "POST" ["chat", "threads", "{thread}", "participants", ":add"], &[], User;
    /// `POST /chat/threads/{id}/participants/:remove`
    RemoveParticipant "remove_participant" Chat "POST" ["chat", "threads", "{thread}", "participants", ":remove"], &[], User;
    /// `POST /chat/threads/{id}/messages`
    SendMessage "send_message" Chat "POST" ["chat", "threads", "{thread}", "messages"], &[], User;
    /// `GET /chat/threads/{id}/messages`
    ListMessages "list_messages" Chat "GET" ["chat", "threads", "{thread}", "messages"], &[], User;
    /// `GET /chat/threads/{id}/messages/{messageId}`
    GetMessage "get_message" Chat "GET" ["chat", "threads", "{thread}", "messages", "{message}"], &[], User;
    /// `PATCH /chat/threads/{id}/messages/{messageId}`
    UpdateMessage "update_message" Chat "PATCH" ["chat", "threads", "{thread}", "messages", "{message}"], &[], User;
    /// `DELETE /chat/threads/{id}/messages/{messageId}`
    DeleteMessage "delete_message" Chat "DELETE" ["chat", "threads", "{thread}", "messages", "{message}"], &[], User;
    /// `GET /chat/threads/{id}/readReceipts`
    ListReadReceipts "list_read_receipts" Chat "GET" ["chat", "threads", "{thread}", "readReceipts"], &[], User;
    /// `POST /chat/threads/{id}/readReceipts`
    SendReadReceipt "send_read_receipt" Chat "POST" ["chat", "threads", "{thread}", "readReceipts"], &[], User;
    /// `POST /chat/threads/{id}/typing`
    SendTyping "send_typing" Chat "POST" ["chat", "threads", "{thread}", "typing"], &[], User;
}

impl Operation {
    fn row(self) -> Option<&'static Row> {
        TABLE.iter().find(|row| row.operation == self)
    }

    /// The service it belongs to. `Any` belongs to none; it counts as Identity where an answer must have a form.
    pub(super) fn service(self) -> Service {
        self.row().map_or(Service::Identity, |row| row.service)
    }

    /// The versions it is in.
    pub(super) fn versions(self) -> &'static [Version] {
        match self.row() {
            Some(row) if !row.versions.is_empty() => row.versions,
            _ => self.service().versions(),
        }
    }

    /// Who may ask for it.
    pub(super) fn access(self) -> Access {
        self.row().map_or(Access::Resource, |row| row.access)
    }

    /// The operation of this name.
    pub(super) fn named(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.name == name).map(|row| row.operation)
    }
}

/// What a request line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// An operation of ACS, with the decoded parameters of its path.
    Emulated(Operation, Vec<String>),
    /// The emulator's own control paths: the decoded segments after `/_emulator/`.
    Control(Vec<String>),
    /// The front page, which leads to the inbox.
    Home,
    /// The test issuer of Entra tokens: the decoded segments of the whole path.
    Issuer(Vec<String>),
    /// Anything else, by the name its specification gives it.
    NotEmulated(&'static str),
}

/// Reads method and raw path (without the query).
pub(super) fn route(method: &str, path: &str) -> Route {
    let Some(segments) = segments(path) else {
        return Route::NotEmulated("a path that is not UTF-8");
    };
    let names: Vec<&str> = segments.iter().map(String::as_str).collect();
    for row in TABLE.iter().filter(|row| row.method == method && row.path.len() == names.len()) {
        if row.path.iter().zip(&names).all(|(wanted, name)| is_parameter(wanted) || wanted == name) {
            let given = row.path.iter().zip(&segments).filter(|(wanted, _)| is_parameter(wanted));
            let parameters: Vec<String> = given.map(|(_, name)| name.clone()).collect();
            if parameters.iter().any(String::is_empty) {
                return Route::NotEmulated("an operation on nothing");
            }
            return Route::Emulated(row.operation, parameters);
        }
    }
    match names.as_slice() {
        [""] if method == "GET" => Route::Home,
        ["_emulator", ..] => Route::Control(segments.into_iter().skip(1).collect()),
        ["metadata", "identity", ..]
        | ["common", "discovery", ..]
        | [_, "oauth2", ..]
        | [_, "v2.0", ..]
        | [_, "discovery", ..] => Route::Issuer(segments),
        names => Route::NotEmulated(elsewhere(names)),
    }
}

fn is_parameter(segment: &str) -> bool {
    segment.starts_with('{')
}

/// The decoded segments of a path. A segment is decoded once, after splitting, so that `%2F` never splits.
fn segments(path: &str) -> Option<Vec<String>> {
    path.strip_prefix('/')
        .unwrap_or(path)
        .split('/')
        .map(|segment| percent_decode_str(segment).decode_utf8().ok().map(|text| text.into_owned()))
        .collect()
}

/// What a request was about that is in no specification this emulator knows.
fn elsewhere(segments: &[&str]) -> &'static str {
    match segments {
        ["identities" | "teamsUser" | "access", ..] => "an Identity operation it does not know",
        ["sms" | "deliveryReports", ..] => "an SMS operation it does not know",
        ["emails" | "emails:send", ..] => "an Email operation it does not know",
        ["chat", ..] => "a Chat operation it does not know",
        ["rooms", ..] => "a Rooms operation",
        ["calling" | "networkTraversal", ..] => "a Calling operation",
        ["phoneNumbers" | "availablePhoneNumbers", ..] => "a Phone Numbers operation",
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
                Route::Emulated(Operation::DeleteIdentity, vec!["8:acs:a_b".into()])
            );
        }
        assert_eq!(
            route("POST", "/identities/8:acs:a_b/%3AissueAccessToken"),
            Route::Emulated(Operation::IssueToken, vec!["8:acs:a_b".into()])
        );
        assert_eq!(
            route("GET", "/chat/threads/19%3Ax%40thread.v2/messages/7"),
            Route::Emulated(Operation::GetMessage, vec!["19:x@thread.v2".into(), "7".into()])
        );
    }

    #[test]
    fn an_encoded_slash_does_not_split_a_segment() {
        assert_eq!(
            route("GET", "/identities/a%2Fb"),
            Route::Emulated(Operation::GetIdentity, vec!["a/b".into()])
        );
    }

    #[test]
    fn what_is_not_emulated_is_named() {
        for (method, path, name) in [
            ("GET", "/sms", "an SMS operation it does not know"),
            ("GET", "/rooms", "a Rooms operation"),
            ("PUT", "/identities/x", "an Identity operation it does not know"),
            ("POST", "/identities/", "an Identity operation it does not know"),
            ("DELETE", "/identities/", "an operation on nothing"),
            ("GET", "/identities/%FF", "a path that is not UTF-8"),
        ] {
            assert_eq!(route(method, path), Route::NotEmulated(name), "{method} {path}");
        }
    }

    #[test]
    fn every_operation_is_reached_by_its_own_row() {
        assert_eq!(TABLE.len(), 39);
        for row in TABLE {
            let path: String =
                row.path.iter().map(|segment| format!("/{}", segment.trim_matches(['{', '}']))).collect();
            let Route::Emulated(operation, parameters) = route(row.method, &path) else { panic!("{path}") };
            assert_eq!(operation, row.operation);
            assert_eq!(parameters.len(), row.path.iter().filter(|segment| is_parameter(segment)).count());
            assert_eq!(Operation::named(row.name), Some(row.operation));
            assert_eq!(operation.name(), row.name);
        }
    }
}
