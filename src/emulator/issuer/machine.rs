//! The metadata service of an Azure machine, as far as managed identities need it.
//!
//! Versions 2018-02-01 and 2019-08-01, which the official libraries ask for; they answer alike. It refuses what comes through a proxy or without the header that no browser sends. Used by `issuer`.

use std::time::Duration;

use serde_json::json;

use super::Bearer;
use super::oauth::Problem;
use super::principals::{self, OWNER};
use crate::emulator::answer::{self, Answer};
use crate::emulator::shared::Shared;

/// How long tokens of managed identities live: a day, less a second.
const LIFETIME: Duration = Duration::from_secs(86_399);

/// `GET /metadata/identity/oauth2/token?api-version=2018-02-01&resource=…`
pub(super) fn token(shared: &Shared, head: &http::request::Parts) -> Answer {
    grant(shared, head).unwrap_or_else(|problem| problem.answer())
}

fn grant(shared: &Shared, head: &http::request::Parts) -> Result<Answer, Problem> {
    let refuse = |error: &'static str, message: &str| Err(Problem::new(400, error, 0, message));
    let marked =
        head.headers.get("metadata").is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"true"));
    if !marked {
        return refuse("bad_request_102", "Required metadata header not specified");
    }
    if head.headers.contains_key("x-forwarded-for") {
        return refuse("invalid_request", "The request must not come through a proxy.");
    }
    let query: Vec<_> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).collect();
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_ref());
    match value("api-version") {
        None | Some("") => {
            return refuse("invalid_request", "Required query variable 'api-version' is missing");
        }
        Some("2018-02-01" | "2019-08-01") => {}
        Some(_) => {
            let what = "The query variable 'api-version' must be 2018-02-01 or 2019-08-01";
            return refuse("invalid_request", what);
        }
    }
    let resource = value("resource").unwrap_or_default();
    if resource.is_empty() {
        return refuse("invalid_request", "Required query variable 'resource' is missing");
    }
    let application = match value("client_id") {
        Some(client) => principals::application(client),
        None if query
            .iter()
            .any(|(key, _)| matches!(key.as_ref(), "object_id" | "msi_res_id" | "mi_res_id")) =>
        {
            None
        }
        None => Some(&OWNER),
    };
    let Some(application) = application else { return refuse("invalid_request", "Identity not found") };
    if !principals::is_audience(resource) {
        return Err(Problem::no_resource());
    }
    let now = shared.clock.now();
    let bearer = Bearer::App { application, proof: "2" };
    let token = shared.issuer.issue(bearer, resource, now, LIFETIME).ok_or_else(Problem::unavailable)?;
    let seconds = now.as_millis() / 1000;
    Ok(answer::json(
        200,
        &json!({
            "access_token": token,
            "client_id": application.client,
            "expires_in": LIFETIME.as_secs().to_string(),
            "expires_on": seconds.saturating_add(LIFETIME.as_secs()).to_string(),
            "ext_expires_in": LIFETIME.as_secs().to_string(),
            "not_before": seconds.to_string(),
            "resource": resource,
            "token_type": "Bearer",
        }),
    ))
}
