//! The token endpoint, and errors in the form of OAuth with the codes of Entra.
//!
//! Grants: `client_credentials` with a secret or a federated token, and one of our own for tokens of users, which the
//! real issuer would ask for on a sign-in page. No answer repeats a secret or a token. Used by `issuer`.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Map, Value, json};
use subtle::ConstantTimeEq;

use super::Bearer;
use super::principals::{
    self, Application, FEDERATED_AUDIENCE, FEDERATED_SUBJECT, RESOURCE_AUDIENCES, SECRET, TENANT, USER,
};
use super::token::read_foreign;
use crate::clock::Timestamp;
use crate::emulator::answer::{self, Answer};
use crate::emulator::shared::Shared;

/// The grant for tokens of users: `client_id`, `scope`, and if wanted `object_id`, `groups` (separated by commas) and
/// `expires_in` (seconds).
pub(super) const USER_GRANT: &str = "urn:acs-broker:emulator:user";
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// How long tokens live unless asked otherwise.
const LIFETIME: Duration = Duration::from_secs(3599);
/// How many groups a token may name.
const MOST_GROUPS: usize = 50;
/// Scopes that every sign-in may add, and that mean nothing here.
const IGNORED_SCOPES: [&str; 4] = ["openid", "profile", "email", "offline_access"];

/// A refusal in the form of OAuth.
#[derive(Debug)]
pub(super) struct Problem {
    status: u16,
    error: &'static str,
    /// The number of the error at Entra; 0 is none.
    code: u32,
    message: String,
}

impl Problem {
    pub(super) fn new(status: u16, error: &'static str, code: u32, message: &str) -> Self {
        Self { status, error, code, message: message.to_owned() }
    }

    pub(super) fn no_tenant() -> Self {
        Self::new(400, "invalid_request", 90_002, "The tenant was not found.")
    }

    pub(super) fn no_resource() -> Self {
        let message = "The resource principal was not found in the tenant.";
        Self::new(400, "invalid_resource", 500_011, message)
    }

    pub(super) fn unavailable() -> Self {
        Self::new(503, "temporarily_unavailable", 90_033, "A transient error has occurred. Please try again.")
    }

    fn missing(name: &str) -> Self {
        let message = format!("The request body must contain the following parameter: '{name}'.");
        Self::new(400, "invalid_request", 900_144, &message)
    }

    fn scope() -> Self {
        let message = "The provided value for the input parameter 'scope' is not valid.";
        Self::new(400, "invalid_scope", 70_011, message)
    }

    pub(super) fn answer(self) -> Answer {
        let mut body = Map::new();
        body.insert("error".into(), self.error.into());
        let description = match self.code {
            0 => self.message,
            code => format!("AADSTS{code}: {}", self.message),
        };
        body.insert("error_description".into(), description.into());
        if self.code != 0 {
            body.insert("error_codes".into(), json!([self.code]));
        }
        let id = uuid::Uuid::new_v4().to_string();
        body.insert("trace_id".into(), id.clone().into());
        body.insert("correlation_id".into(), id.into());
        let body = Value::Object(body);
        Answer {
            content_type: Some("application/json; charset=utf-8"),
            ..answer::failure(self.status, &body)
        }
    }
}

/// The parameters of a request. The first of a name counts.
struct Form(HashMap<String, String>);

impl Form {
    fn read(body: &[u8]) -> Self {
        let mut form = HashMap::new();
        for (name, value) in url::form_urlencoded::parse(body) {
            form.entry(name.into_owned()).or_insert_with(|| value.into_owned());
        }
        Self(form)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn need(&self, name: &str) -> Result<&str, Problem> {
        self.get(name).ok_or_else(|| Problem::missing(name))
    }
}

/// `POST /{tenant}/oauth2/v2.0/token`
pub(super) fn token(shared: &Shared, tenant: &str, body: &[u8]) -> Answer {
    let form = Form::read(body);
    let granted = (|| {
        if !tenant.eq_ignore_ascii_case(TENANT) {
            return Err(Problem::no_tenant());
        }
        match form.need("grant_type")? {
            "client_credentials" => client_credentials(shared, &form),
            USER_GRANT => user(shared, &form),
            _ => {
                let message = "The app requested an unsupported grant type.";
                Err(Problem::new(400, "unsupported_grant_type", 70_003, message))
            }
        }
    })();
    granted.unwrap_or_else(Problem::answer)
}

fn client_credentials(shared: &Shared, form: &Form) -> Result<Answer, Problem> {
    let application = application(form)?;
    let proof = prove(shared, form)?;
    let scopes = scopes_of(form)?;
    let [scope] = scopes.as_slice() else { return Err(Problem::scope()) };
    let Some(audience) = scope.strip_suffix("/.default") else {
        let message = "The provided value for scope is not valid. Client credential flows must have a scope value \
                       with /.default suffixed to the resource identifier (application ID URI).";
        return Err(Problem::new(400, "invalid_scope", 1_002_012, message));
    };
    if !principals::is_audience(audience) {
        return Err(Problem::no_resource());
    }
    let now = shared.clock.now();
    let bearer = Bearer::App { application, proof };
    let token = shared.issuer.issue(bearer, audience, now, LIFETIME).ok_or_else(Problem::unavailable)?;
    Ok(answer::json(
        200,
        &json!({
            "token_type": "Bearer",
            "expires_in": LIFETIME.as_secs(),
            "ext_expires_in": LIFETIME.as_secs(),
            "access_token": token,
        }),
    ))
}

fn application(form: &Form) -> Result<&'static Application, Problem> {
    principals::application(form.need("client_id")?).ok_or_else(|| {
        let message = "The application was not found in the directory.";
        Problem::new(400, "unauthorized_client", 700_016, message)
    })
}

/// How the application proves itself: by its secret or by a federated token.
fn prove(shared: &Shared, form: &Form) -> Result<&'static str, Problem> {
    let refuse = |code, message: &str| Err(Problem::new(401, "invalid_client", code, message));
    match (form.get("client_secret"), form.get("client_assertion")) {
        (Some(secret), None) if bool::from(secret.as_bytes().ct_eq(SECRET.as_bytes())) => Ok("1"),
        (Some(_), None) => refuse(7_000_215, "Invalid client secret provided."),
        (None, Some(assertion)) => {
            if form.get("client_assertion_type") != Some(ASSERTION_TYPE) {
                return Err(Problem::missing("client_assertion_type"));
            }
            federated(shared, assertion).map(|()| "2")
        }
        (Some(_), Some(_)) => Err(Problem::new(
            400,
            "invalid_request",
            90_023,
            "The request body must not contain both 'client_secret' and 'client_assertion'.",
        )),
        (None, None) => refuse(
            7_000_218,
            "The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
        ),
    }
}

/// Checks a token of a cluster or another cloud. Its signature is not looked at: nobody here knows its key.
fn federated(shared: &Shared, assertion: &str) -> Result<(), Problem> {
    let refuse = |code, message: &str| Err(Problem::new(401, "invalid_client", code, message));
    let Some(claims) = read_foreign(assertion) else {
        return refuse(50_027, "JWT token is invalid or malformed.");
    };
    let text = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let is_for_us = match claims.get("aud") {
        Some(Value::String(audience)) => audience == FEDERATED_AUDIENCE,
        Some(Value::Array(audiences)) => audiences.iter().any(|one| one == FEDERATED_AUDIENCE),
        _ => false,
    };
    if !is_for_us {
        return refuse(
            700_212,
            "No matching federated identity record found for presented assertion audience.",
        );
    }
    if text("sub") != FEDERATED_SUBJECT || text("iss").is_empty() {
        return refuse(
            700_213,
            "No matching federated identity record found for presented assertion subject.",
        );
    }
    // Whoever signed it need not have jumped ahead with the emulator's clock.
    let moments = [shared.clock.base_now(), shared.clock.now()];
    if !moments.into_iter().any(|now| is_current(&claims, now)) {
        return refuse(700_024, "Client assertion is not within its valid time range.");
    }
    Ok(())
}

fn is_current(claims: &Map<String, Value>, now: Timestamp) -> bool {
    let now = Duration::from_millis(now.as_millis()).as_secs_f64();
    let moment = |name: &str| claims.get(name).and_then(Value::as_f64);
    let begun = claims.get("nbf").is_none() || moment("nbf").is_some_and(|from| from <= now);
    begun && moment("exp").is_some_and(|end| end > now)
}

/// A token of a user who has signed in to an application and consented to these scopes.
fn user(shared: &Shared, form: &Form) -> Result<Answer, Problem> {
    let application = application(form)?;
    let guid = |name: &str, text: &str| match uuid::Uuid::try_parse(text) {
        Ok(id) => Ok(id.hyphenated().to_string()),
        Err(_) => Err(Problem::new(
            400,
            "invalid_request",
            90_014,
            &format!("The parameter '{name}' must be a GUID."),
        )),
    };
    let object = guid("object_id", form.get("object_id").unwrap_or(USER))?;
    let groups = form.get("groups").unwrap_or_default().split(',').filter(|group| !group.is_empty());
    let groups =
        groups.take(MOST_GROUPS).map(|group| guid("groups", group)).collect::<Result<Vec<_>, _>>()?;
    let lifetime = match form.get("expires_in").map(str::parse::<u64>) {
        None => LIFETIME,
        Some(Ok(seconds @ 1..=86_400)) => Duration::from_secs(seconds),
        Some(_) => {
            let message = "The parameter 'expires_in' must be from 1 to 86400.";
            return Err(Problem::new(400, "invalid_request", 90_014, message));
        }
    };
    let (audience, permissions) = consent(&scopes_of(form)?)?;
    let now = shared.clock.now();
    let bearer = Bearer::User {
        client: application.client,
        object: &object,
        groups,
        permissions: permissions.clone(),
    };
    let token = shared.issuer.issue(bearer, &audience, now, lifetime).ok_or_else(Problem::unavailable)?;
    let scope: Vec<String> = permissions.split(' ').map(|name| format!("{audience}/{name}")).collect();
    Ok(answer::json(
        200,
        &json!({
            "token_type": "Bearer",
            "scope": scope.join(" "),
            "expires_in": lifetime.as_secs(),
            "ext_expires_in": lifetime.as_secs(),
            "access_token": token,
        }),
    ))
}

/// The one audience of these scopes, and the permissions on it.
fn consent(scopes: &[&str]) -> Result<(String, String), Problem> {
    let mut granted: Vec<&str> = Vec::new();
    let mut audience = None;
    for scope in scopes {
        let (resource, name) = scope.rsplit_once('/').ok_or_else(Problem::scope)?;
        if *audience.get_or_insert(resource) != resource {
            // A token is for one resource.
            return Err(Problem::scope());
        }
        // Users have no permissions on the REST APIs: those are for applications.
        if RESOURCE_AUDIENCES.contains(&resource) || !principals::is_audience(resource) {
            return Err(Problem::no_resource());
        }
        let wanted = |(permission, by_default): &&(&str, bool)| {
            if name == ".default" { *by_default } else { name.eq_ignore_ascii_case(permission) }
        };
        let mut given =
            principals::permissions(resource).iter().filter(wanted).map(|(name, _)| *name).peekable();
        if given.peek().is_none() {
            let message = "The application does not know one of the permissions asked for.";
            return Err(Problem::new(400, "invalid_scope", 65_005, message));
        }
        for permission in given {
            if !granted.contains(&permission) {
                granted.push(permission);
            }
        }
    }
    let audience = audience.ok_or_else(Problem::scope)?;
    Ok((audience.to_owned(), granted.join(" ")))
}

/// The scopes asked for, without those that mean nothing here.
fn scopes_of(form: &Form) -> Result<Vec<&str>, Problem> {
    let scopes: Vec<&str> = form
        .need("scope")?
        .split_ascii_whitespace()
        .filter(|scope| !IGNORED_SCOPES.contains(scope))
        .collect();
    if scopes.is_empty() { Err(Problem::scope()) } else { Ok(scopes) }
}

#[cfg(test)]
#[path = "oauth_tests.rs"]
mod tests;
