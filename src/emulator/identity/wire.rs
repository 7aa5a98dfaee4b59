//! The JSON bodies and headers of the Identity API, as the REST specification and recorded answers write them.
//!
//! Pure: texts in, values out. Unknown properties are ignored and `null` means absent, as in the real service.
//! What ACS was never seen to answer is marked a guess here and listed in docs/emulator.md. Used by `service` and
//! `identity`.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::emulator::answer::{self, Answer};

/// The scopes a token can have.
pub(super) const SCOPES: [&str; 5] = ["chat", "voip", "chat.join", "chat.join.limited", "voip.join"];

/// The validity of a token in minutes: the least, the most, and what is given when none is asked for.
const MINUTES: (i64, i64, u32) = (60, 1440, 1440);
/// The longest customId; the REST description says so, its schema does not.
const MAX_CUSTOM_ID: usize = 256;

/// What a body that must be there is missed with.
pub(super) const NO_BODY: &str = "A non-empty request body is required.";

/// The refusal of a body that lacks a required property.
pub(super) fn required(name: &str) -> Box<Answer> {
    invalid(Some(name), &format!("{name}: The {name} field is required."))
}

/// A refusal by model validation, which happens before versions are reported.
pub(super) fn invalid(target: Option<&str>, message: &str) -> Box<Answer> {
    Box::new(answer::error(400, "ValidationError", message, target))
}

/// What a create request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CreateRequest {
    pub(super) custom_id: Option<String>,
    /// Empty: no token.
    pub(super) scopes: Vec<&'static str>,
    pub(super) minutes: u32,
}

/// What a token request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TokenRequest {
    pub(super) scopes: Vec<&'static str>,
    pub(super) minutes: u32,
}

/// Reads the body of a create request: empty, `{}` or with any of its optional properties.
pub(super) fn create_request(body: &[u8], preview: bool) -> Result<CreateRequest, Box<Answer>> {
    let body = if body.is_empty() { Map::new() } else { object(body)? };
    let custom_id = match property(&body, "customId") {
        // The generally available versions do not know the property, and so ignore it.
        Some(value) if preview => Some(custom_id(value)?),
        _ => None,
    };
    let scopes = match property(&body, "createTokenWithScopes") {
        Some(value) => scopes(value, "CreateTokenWithScopes")?,
        None => Vec::new(),
    };
    Ok(CreateRequest { custom_id, scopes, minutes: minutes(&body)? })
}

/// Reads the body of a token request, whose scopes are required.
pub(super) fn token_request(body: &[u8]) -> Result<TokenRequest, Box<Answer>> {
    if body.is_empty() {
        return Err(invalid(None, NO_BODY));
    }
    let body = object(body)?;
    let scopes = match property(&body, "scopes") {
        Some(value) => scopes(value, "Scopes")?,
        None => return Err(required("Scopes")),
    };
    if scopes.is_empty() {
        let message = "Scopes: The field Scopes must be a string or array type with a minimum length of '1'.";
        return Err(invalid(Some("Scopes"), message));
    }
    Ok(TokenRequest { scopes, minutes: minutes(&body)? })
}

pub(super) fn object(body: &[u8]) -> Result<Map<String, Value>, Box<Answer>> {
    // serde_json stops at 128 levels of nesting, so a hostile body cannot exhaust the stack.
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(invalid(None, "The request body is not a valid JSON object.")),
    }
}

/// A property that is there and not null.
pub(super) fn property<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    body.get(name).filter(|value| !value.is_null())
}

/// Whether a customId has a length it may have.
pub(super) fn is_custom_id(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= MAX_CUSTOM_ID
}

/// Whether a token may live that many minutes.
pub(super) fn is_validity(minutes: u32) -> bool {
    (MINUTES.0..=MINUTES.1).contains(&i64::from(minutes))
}

/// These scopes, each once, in their order; nothing if one of them is none.
pub(super) fn known_scopes(names: &[String]) -> Option<Vec<&'static str>> {
    let mut scopes = Vec::new();
    for name in names {
        let scope = SCOPES.into_iter().find(|scope| scope == name)?;
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Some(scopes)
}

fn custom_id(value: &Value) -> Result<String, Box<Answer>> {
    match value.as_str() {
        Some(text) if is_custom_id(text) => Ok(text.to_owned()),
        _ => Err(invalid(
            Some("CustomId"),
            "CustomId: The field CustomId must be a string with a minimum length of 1 and a maximum length of 256.",
        )),
    }
}

/// Scopes in the order asked for, each once.
fn scopes(value: &Value, target: &str) -> Result<Vec<&'static str>, Box<Answer>> {
    let Some(items) = value.as_array() else {
        return Err(invalid(Some(target), &format!("{target}: The value is not an array of scopes.")));
    };
    let mut scopes = Vec::new();
    for item in items {
        match SCOPES.into_iter().find(|scope| item.as_str() == Some(*scope)) {
            Some(scope) if scopes.contains(&scope) => {}
            Some(scope) => scopes.push(scope),
            None => {
                let message = format!("{target}: The value is not one of the supported scopes.");
                return Err(invalid(Some(target), &message));
            }
        }
    }
    Ok(scopes)
}

fn minutes(body: &Map<String, Value>) -> Result<u32, Box<Answer>> {
    let Some(value) = property(body, "expiresInMinutes") else { return Ok(MINUTES.2) };
    let refuse = |message: &str| invalid(Some("ExpiresInMinutes"), message);
    let Some(number) = value.as_i64() else {
        return Err(refuse("ExpiresInMinutes: The value is not a 32-bit integer."));
    };
    match u32::try_from(number) {
        Ok(minutes) if (MINUTES.0..=MINUTES.1).contains(&number) => Ok(minutes),
        _ => {
            let message = format!(
                "ExpiresInMinutes value {number} is invalid. Value must be within the [60, 1440] interval."
            );
            // Seen with api-supported-versions, unlike the other refusals: the service itself checks it.
            Err(Box::new(Answer { names_versions: true, ..*refuse(&message) }))
        }
    }
}

/// An identity as the preview version describes it; the others show the id alone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct IdentityBody {
    pub(super) id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) custom_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_token_issued_at: Option<String>,
}

/// A token and its expiry.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct TokenBody {
    pub(super) token: String,
    pub(super) expires_on: String,
}

/// The answer to create.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreatedBody {
    pub(super) identity: IdentityBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) access_token: Option<TokenBody>,
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
