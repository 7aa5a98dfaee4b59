//! The documents that Entra libraries read before they ask for a token.
//!
//! Links name the scheme and host that were called. Used by `issuer`.

use serde_json::{Value, json};

use super::oauth::Problem;
use super::principals::TENANT;
use super::token::Key;
use crate::emulator::answer::{self, Answer};

/// Whether a path names our tenant, or asks for whichever there is.
fn is_tenant(tenant: &str) -> bool {
    ["common", "organizations", TENANT].iter().any(|known| known.eq_ignore_ascii_case(tenant))
}

pub(super) fn configuration(base: &str, tenant: &str) -> Answer {
    if !is_tenant(tenant) {
        return Problem::no_tenant().answer();
    }
    let body: Value = json!({
        "issuer": format!("{base}/{TENANT}/v2.0"),
        "authorization_endpoint": format!("{base}/{TENANT}/oauth2/v2.0/authorize"),
        "token_endpoint": format!("{base}/{TENANT}/oauth2/v2.0/token"),
        "jwks_uri": format!("{base}/{TENANT}/discovery/v2.0/keys"),
        "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
        "response_types_supported": ["token"],
        "subject_types_supported": ["pairwise"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "profile", "email", "offline_access"],
    });
    answer::json(200, &body)
}

pub(super) fn keys(key: &Key, tenant: &str) -> Answer {
    if !is_tenant(tenant) {
        return Problem::no_tenant().answer();
    }
    answer::json(200, &json!({ "keys": [key.published()] }))
}

/// The clouds there are: the emulator alone.
pub(super) fn instance(base: &str, host: &str) -> Answer {
    let body = json!({
        "tenant_discovery_endpoint": format!("{base}/{TENANT}/v2.0/.well-known/openid-configuration"),
        "api-version": "1.1",
        "metadata": [{ "preferred_network": host, "preferred_cache": host, "aliases": [host] }],
    });
    answer::json(200, &body)
}
