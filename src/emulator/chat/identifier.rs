//! Identifier models: `{"rawId", "communicationUser": {"id"}}` and its kin, read from requests and written to answers.
//!
//! Pure but for the look at who is known. A raw id decides what kind it is, whichever way it was written. Used by
//! `request`, `wire`, `events` and the operations on participants.

use serde_json::{Map, Value, json};

use super::refusal::{self, Refusal};
use crate::emulator::identity;

/// What a raw id says.
#[derive(Debug, PartialEq, Eq)]
enum Kind<'a> {
    CommunicationUser,
    PhoneNumber { value: &'a str, asserted: Option<&'a str> },
    TeamsUser { user: &'a str, is_anonymous: bool, cloud: &'static str },
    TeamsApp { app: &'a str, cloud: &'static str },
    TeamsExtension { resource: &'a str, tenant: &'a str, user: &'a str, cloud: &'static str },
}

/// Raw ids of ACS users by what they begin with, and the cloud they belong to.
const USERS: [(&str, &str); 3] = [("8:acs:", "public"), ("8:dod-acs:", "dod"), ("8:gcch-acs:", "gcch")];
const TEAMS_USERS: [(&str, &str); 3] = [("8:orgid:", "public"), ("8:dod:", "dod"), ("8:gcch:", "gcch")];
const TEAMS_APPS: [(&str, &str); 3] = [("28:orgid:", "public"), ("28:dod:", "dod"), ("28:gcch:", "gcch")];
const VISITOR: &str = "8:teamsvisitor:";

/// Tells the kind of a raw id; nothing if it has no form that ACS knows.
fn kind(raw_id: &str) -> Option<Kind<'_>> {
    let after = |known: [(&'static str, &'static str); 3]| {
        known.into_iter().find_map(|(prefix, cloud)| Some((raw_id.strip_prefix(prefix)?, cloud)))
    };
    if let Some(number) = raw_id.strip_prefix("4:") {
        let (value, asserted) = match number.split_once('_') {
            Some((value, asserted)) => (value, Some(asserted)),
            None => (number, None),
        };
        return is_number(value).then_some(Kind::PhoneNumber { value, asserted });
    }
    if let Some((rest, cloud)) = after(USERS) {
        let parts: Vec<&str> = rest.split('_').collect();
        return match parts.as_slice() {
            [resource, user] => (is_guid(resource) && is_guid(user)).then_some(Kind::CommunicationUser),
            [resource, tenant, user] => {
                let fine = [resource, tenant, user].into_iter().all(|part| is_guid(part));
                fine.then_some(Kind::TeamsExtension { resource, tenant, user, cloud })
            }
            // A user of the tenant who came by an Entra token.
            [resource, "wf", tenant, user] => {
                let fine = [resource, tenant, user].into_iter().all(|part| is_guid(part));
                fine.then_some(Kind::CommunicationUser)
            }
            _ => None,
        };
    }
    if let Some(user) = raw_id.strip_prefix(VISITOR) {
        return is_word(user).then_some(Kind::TeamsUser { user, is_anonymous: true, cloud: "public" });
    }
    if let Some((user, cloud)) = after(TEAMS_USERS) {
        return is_guid(user).then_some(Kind::TeamsUser { user, is_anonymous: false, cloud });
    }
    let (app, cloud) = after(TEAMS_APPS)?;
    is_guid(app).then_some(Kind::TeamsApp { app, cloud })
}

/// The model of a raw id, with its member for the kind. Recorded answers have no `kind` member, and so has this.
pub(super) fn model(raw_id: &str) -> Value {
    let (name, member) = match kind(raw_id) {
        Some(Kind::PhoneNumber { value, asserted }) => {
            let mut member = json!({ "value": value });
            if let (Some(asserted), Some(member)) = (asserted, member.as_object_mut()) {
                member.insert("assertedId".into(), asserted.into());
            }
            ("phoneNumber", member)
        }
        Some(Kind::TeamsUser { user, is_anonymous, cloud }) => {
            ("microsoftTeamsUser", json!({ "userId": user, "isAnonymous": is_anonymous, "cloud": cloud }))
        }
        Some(Kind::TeamsApp { app, cloud }) => ("microsoftTeamsApp", json!({ "appId": app, "cloud": cloud })),
        Some(Kind::TeamsExtension { resource, tenant, user, cloud }) => {
            let member =
                json!({ "userId": user, "tenantId": tenant, "resourceId": resource, "cloud": cloud });
            ("teamsExtensionUser", member)
        }
        Some(Kind::CommunicationUser) | None => ("communicationUser", json!({ "id": raw_id })),
    };
    let mut model = Map::new();
    model.insert("rawId".into(), raw_id.into());
    model.insert(name.into(), member);
    Value::Object(model)
}

/// The raw id that a model of a request means. Its member for the kind says it, else `rawId`.
pub(super) fn read(model: &Value) -> Result<String, Refusal> {
    const MEMBERS: [&str; 5] =
        ["communicationUser", "phoneNumber", "microsoftTeamsUser", "microsoftTeamsApp", "teamsExtensionUser"];
    let Some(model) = model.as_object() else {
        return Err(refusal::bad_request("An identifier must be an object."));
    };
    let mut members =
        MEMBERS.into_iter().filter_map(|name| Some((name, model.get(name).filter(|m| !m.is_null())?)));
    let raw_id = match (members.next(), members.next()) {
        (Some(_), Some(_)) => {
            return Err(refusal::bad_request("An identifier may be of one kind only."));
        }
        (Some((name, member)), None) => of_member(name, member)?,
        (None, _) => text(model.get("rawId")).unwrap_or_default(),
    };
    // Whatever is neither a word of the grammar nor printable is no identifier, and need not be repeated at length.
    if kind(&raw_id).is_some() { Ok(raw_id) } else { Err(refusal::malformed(&raw_id)) }
}

fn of_member(name: &str, member: &Value) -> Result<String, Refusal> {
    let field = |name: &str| {
        let missing = || refusal::bad_request(&format!("The {name} of an identifier is required."));
        text(member.get(name)).filter(|value| !value.is_empty()).ok_or_else(missing)
    };
    let cloud = text(member.get("cloud")).unwrap_or_else(|| "public".to_owned());
    let prefix = |known: [(&'static str, &'static str); 3]| {
        let found = known.into_iter().find(|(_, name)| name.eq_ignore_ascii_case(&cloud));
        found
            .map(|(prefix, _)| prefix)
            .ok_or_else(|| refusal::bad_request("The cloud must be public, dod or gcch."))
    };
    Ok(match name {
        "phoneNumber" => match text(member.get("assertedId")) {
            Some(asserted) => format!("4:{}_{asserted}", field("value")?),
            None => format!("4:{}", field("value")?),
        },
        "microsoftTeamsUser" if member.get("isAnonymous") == Some(&Value::Bool(true)) => {
            format!("{VISITOR}{}", field("userId")?)
        }
        "microsoftTeamsUser" => format!("{}{}", prefix(TEAMS_USERS)?, field("userId")?),
        "microsoftTeamsApp" => format!("{}{}", prefix(TEAMS_APPS)?, field("appId")?),
        "teamsExtensionUser" => {
            let (resource, tenant) = (field("resourceId")?, field("tenantId")?);
            format!("{}{resource}_{tenant}_{}", prefix(USERS)?, field("userId")?)
        }
        _ => field("id")?,
    })
}

/// Whether the resource may have this user in a thread: its own living users, and Teams users and apps as if the
/// tenant had been linked. Phone numbers cannot chat.
pub(super) fn may_take_part(state: &identity::State, raw_id: &str) -> bool {
    match kind(raw_id) {
        Some(Kind::CommunicationUser) | None => state.view(raw_id).is_some(),
        Some(Kind::TeamsExtension { resource, .. }) => {
            state.view(raw_id).is_some() || resource == state.resource()
        }
        Some(Kind::PhoneNumber { .. }) => false,
        Some(Kind::TeamsUser { .. } | Kind::TeamsApp { .. }) => true,
    }
}

fn text(value: Option<&Value>) -> Option<String> {
    value?.as_str().map(str::to_owned)
}

/// E.164, or `anonymous`.
fn is_number(text: &str) -> bool {
    match text.strip_prefix('+') {
        Some(digits) => (1..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()),
        None => text == "anonymous",
    }
}

/// Lower-case or upper-case hexadecimal in groups of 8, 4, 4, 4 and 12.
fn is_guid(text: &str) -> bool {
    let lengths = text.split('-').map(str::len);
    lengths.eq([8, 4, 4, 4, 12]) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

fn is_word(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
#[path = "identifier_tests.rs"]
mod tests;
