//! The well-known values of the test issuer: its tenant, applications and user. docs/emulator.md lists them.
//!
//! They are published on purpose, the secret too: whoever reaches the emulator may be any of these. Used by `issuer`.

/// The only tenant.
pub(super) const TENANT: &str = "00000000-ac5b-4000-8000-000000000000";
/// Who issues the tokens, as resources see it in tokens of version 1.0.
pub(super) const ISSUER: &str = "https://sts.windows.net/00000000-ac5b-4000-8000-000000000000/";
/// The client secret of every application.
pub(super) const SECRET: &str = "emulator-client-secret";
/// The subject of the tokens that every application accepts in place of a secret: workload identity federation.
pub(super) const FEDERATED_SUBJECT: &str = "system:serviceaccount:default:acs-broker";
/// The audience such a token is for.
pub(super) const FEDERATED_AUDIENCE: &str = "api://AzureADTokenExchange";
/// The user that tokens are for when no other is named.
pub(super) const USER: &str = "00000000-ac5b-4000-8000-000000000021";

/// An application of the tenant and its service principal.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Application {
    pub(super) client: &'static str,
    pub(super) object: &'static str,
    /// Whether its service principal has a role on the resource.
    pub(super) has_role: bool,
}

/// May use the resource. It is the managed identity of the machine, too.
pub(super) const OWNER: Application = Application {
    client: "00000000-ac5b-4000-8000-000000000001",
    object: "00000000-ac5b-4000-8000-000000000011",
    has_role: true,
};
/// Gets tokens as well, but has no role on the resource.
pub(super) const STRANGER: Application = Application {
    client: "00000000-ac5b-4000-8000-000000000002",
    object: "00000000-ac5b-4000-8000-000000000012",
    has_role: false,
};
/// The application that users sign in to. It has no role either.
pub(super) const USER_APP: Application = Application {
    client: "00000000-ac5b-4000-8000-000000000003",
    object: "00000000-ac5b-4000-8000-000000000013",
    has_role: false,
};

/// The application of this client id, in any case.
pub(super) fn application(client: &str) -> Option<&'static Application> {
    [&OWNER, &STRANGER, &USER_APP].into_iter().find(|known| known.client.eq_ignore_ascii_case(client))
}

/// What the REST APIs of the resource are called as; written with and without the slash at its end.
pub(super) const RESOURCE_AUDIENCES: [&str; 2] =
    ["https://communication.azure.com/", "https://communication.azure.com"];
/// What Teams users' tokens are for.
pub(in crate::emulator) const TEAMS_AUDIENCE: &str = "https://auth.msft.communication.azure.com";
/// What Entra users' tokens are for.
pub(in crate::emulator) const CLIENTS_AUDIENCE: &str = "https://communication.azure.com/clients";

/// The permissions of users on an audience; what `.default` gives is marked.
pub(super) fn permissions(audience: &str) -> &'static [(&'static str, bool)] {
    match audience {
        TEAMS_AUDIENCE => {
            &[("Teams.ManageCalls", true), ("Teams.ManageChats", true), ("TeamsExtension.ManageCalls", true)]
        }
        CLIENTS_AUDIENCE => &[
            ("Chat", true),
            ("VoIP", true),
            ("Chat.Join", false),
            ("Chat.Join.Limited", false),
            ("VoIP.Join", false),
        ],
        _ => &[],
    }
}

/// Whether tokens for this audience are issued at all.
pub(super) fn is_audience(audience: &str) -> bool {
    RESOURCE_AUDIENCES.contains(&audience) || [TEAMS_AUDIENCE, CLIENTS_AUDIENCE].contains(&audience)
}
