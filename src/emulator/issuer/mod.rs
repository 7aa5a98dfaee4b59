//! A test issuer of Entra tokens: what a managed identity, a workload identity or a client secret gets one from.
//!
//! It stands in for `login.microsoftonline.com` and for the metadata service of Azure's machines. Its signing key, its
//! secret and its principals are published with the source (`principals`): nothing real may ever trust it. Tokens are
//! of version 1.0, whose application is the claim `appid`, as the REST specification of the exchanges has it. Called
//! by `service` (requests and bearer tokens) and by `identity` (tokens to exchange).

mod discovery;
mod machine;
mod oauth;
mod principals;
mod token;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header;
use hyper::body::Bytes;

use self::principals::{Application, ISSUER, RESOURCE_AUDIENCES, TENANT};
use self::token::{Claims, Key};
use super::SigningKeyError;
use super::answer::Answer;
use super::shared::Shared;
use crate::clock::Timestamp;

pub(super) use principals::{CLIENTS_AUDIENCE, TEAMS_AUDIENCE};

/// The issuer's state.
pub(super) struct Issuer {
    key: Key,
    /// Makes two tokens of the same second differ.
    issued: AtomicU64,
}

/// A user, by a token that is good now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) tenant: String,
    pub(super) object: String,
    /// The application the user signed in to.
    pub(super) client: String,
    pub(super) groups: Vec<String>,
    /// What the user allowed the application to do.
    pub(super) permissions: Vec<String>,
    pub(super) expires: Timestamp,
}

/// Whom a token is for, and how the application proved itself.
enum Bearer<'a> {
    App { application: &'a Application, proof: &'static str },
    User { client: &'a str, object: &'a str, groups: Vec<String>, permissions: String },
}

impl Issuer {
    pub(super) fn new() -> Result<Self, SigningKeyError> {
        Ok(Self { key: Key::new()?, issued: AtomicU64::new(0) })
    }

    /// Nothing is remembered: tokens that are out stay good, as at the real issuer.
    #[expect(clippy::unused_self, reason = "every part of the emulator is reset the same way")]
    pub(super) fn reset(&self) {}

    /// Whether a token lets its holder use the resource: one of ours, for the resource, good now, of an application
    /// with a role.
    pub(super) fn admits(&self, shared: &Shared, token: &str) -> bool {
        self.good(token, shared.clock.now()).is_some_and(|claims| {
            let application = principals::application(&claims.appid);
            RESOURCE_AUDIENCES.contains(&claims.aud.as_str())
                && claims.idtyp == "app"
                && application.is_some_and(|known| known.has_role && known.object == claims.oid)
        })
    }

    /// The user of a token for this audience, if it is good now.
    pub(super) fn user(&self, token: &str, audience: &str, now: Timestamp) -> Option<User> {
        let claims = self.good(token, now)?;
        if claims.aud != audience || claims.idtyp != "user" {
            return None;
        }
        let permissions = claims.scp.unwrap_or_default();
        Some(User {
            tenant: claims.tid,
            object: claims.oid,
            client: claims.appid,
            groups: claims.groups,
            permissions: permissions.split(' ').map(str::to_owned).collect(),
            expires: Timestamp::from_millis(claims.exp.saturating_mul(1000)),
        })
    }

    /// The claims of a token that we signed, that says it is ours, and whose time it is.
    fn good(&self, token: &str, now: Timestamp) -> Option<Claims> {
        let claims = self.key.verify(token)?;
        let now = now.as_millis();
        let begun = claims.nbf.saturating_mul(1000) <= now;
        let ended = claims.exp.saturating_mul(1000) <= now;
        (claims.iss == ISSUER && claims.tid == TENANT && begun && !ended).then_some(claims)
    }

    fn issue(
        &self,
        bearer: Bearer<'_>,
        audience: &str,
        now: Timestamp,
        lifetime: Duration,
    ) -> Option<String> {
        let number = self.issued.fetch_add(1, Ordering::Relaxed);
        let seconds = now.as_millis() / 1000;
        let (client, proof, idtyp, object, groups, scp) = match bearer {
            Bearer::App { application, proof } => {
                (application.client, proof, "app", application.object, Vec::new(), None)
            }
            Bearer::User { client, object, groups, permissions } => {
                (client, "0", "user", object, groups, Some(permissions))
            }
        };
        self.key.sign(&Claims {
            aud: audience.to_owned(),
            iss: ISSUER.to_owned(),
            iat: seconds,
            nbf: seconds,
            exp: seconds.saturating_add(lifetime.as_secs()),
            appid: client.to_owned(),
            appidacr: proof.to_owned(),
            groups,
            idtyp: idtyp.to_owned(),
            oid: object.to_owned(),
            scp,
            sub: object.to_owned(),
            tid: TENANT.to_owned(),
            uti: format!("{number:022}"),
            ver: "1.0".to_owned(),
            emulator: "acs-broker".to_owned(),
        })
    }
}

/// Answers a request for a token, a key set or a discovery document; `path` is the whole path.
pub(super) fn handle(
    shared: &Shared,
    scheme: &str,
    head: &http::request::Parts,
    path: &[String],
    body: &Bytes,
) -> Answer {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let base = format!("{scheme}://{host}");
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let answer = match path.as_slice() {
        // One official library ends the address of the machine with a slash.
        ["metadata", "identity", "oauth2", "token"] | ["metadata", "identity", "oauth2", "token", ""] => {
            only("GET", head, |head| machine::token(shared, head))
        }
        ["common", "discovery", "instance"] => only("GET", head, |_| discovery::instance(&base, host)),
        [tenant, "v2.0", ".well-known", "openid-configuration"] => {
            only("GET", head, |_| discovery::configuration(&base, tenant))
        }
        [tenant, "discovery", "v2.0", "keys"] => {
            only("GET", head, |_| discovery::keys(&shared.issuer.key, tenant))
        }
        [tenant, "oauth2", "v2.0", "token"] => only("POST", head, |_| oauth::token(shared, tenant, body)),
        _ => {
            let message = "The acs-broker emulator does not implement this endpoint of Microsoft Entra ID.";
            oauth::Problem::new(501, "not_implemented", 0, message).answer()
        }
    };
    answer.with_header("cache-control", "no-store, no-cache").with_header("pragma", "no-cache")
}

fn only(
    method: &str,
    head: &http::request::Parts,
    answer: impl FnOnce(&http::request::Parts) -> Answer,
) -> Answer {
    if head.method.as_str() == method {
        return answer(head);
    }
    let message = format!("The endpoint only accepts {method} requests.");
    oauth::Problem::new(405, "invalid_request", 900_561, &message).answer()
}
