//! The Identity area of the ACS REST API: create and delete identities, issue and revoke their access tokens.
//!
//! Version 2023-10-01, except that a create with `customId` needs 2025-03-02-preview (Azure REST API specifications).
//! Nothing here interprets an id or a token. An answer that cannot be read is an error, never a panic.

use std::fmt;

use http::Method;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::body;
use super::credential::Fingerprint;
use super::error::Error;
use super::pipeline::{Call, Pipeline};
use crate::clock::Timestamp;
use crate::secret::Secret;

const STABLE: &str = "2023-10-01";
/// The only published version that knows `customId`.
const PREVIEW: &str = "2025-03-02-preview";

/// An access token with its expiry as ACS said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The token.
    pub secret: Secret,
    /// When it expires.
    pub expires_on: Timestamp,
    /// The credential that issued it; a key's tokens die with the key.
    pub issuer: Fingerprint,
}

/// A new identity.
#[derive(Clone, PartialEq, Eq)]
pub struct Created {
    /// Its raw id.
    pub id: String,
    /// Its first token, if one was asked for.
    pub token: Option<Token>,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created").field("token", &self.token).finish_non_exhaustive()
    }
}

/// The operations of the Identity area.
#[derive(Clone, Copy)]
pub struct IdentityOperations<'a>(pub(super) &'a Pipeline);

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CreateBody<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    custom_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    create_token_with_scopes: Option<&'a [&'a str]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_in_minutes: Option<u16>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct IssueBody<'a> {
    scopes: &'a [&'a str],
    expires_in_minutes: u16,
}

// The bodies below hold tokens and ids: no `Debug`.

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CreatedBody {
    identity: IdentityBody,
    access_token: Option<TokenBody>,
}

#[derive(Deserialize)]
struct IdentityBody {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenBody {
    token: String,
    expires_on: String,
}

impl IdentityOperations<'_> {
    /// Creates an identity, with a first token of these scopes and minutes if asked. Never tried again once ACS may
    /// have done it; also not with `custom_id`, because what a preview does with two at once is not documented.
    pub async fn create_identity(
        &self,
        custom_id: Option<&str>,
        first: Option<(&[&str], u16)>,
        deadline: Instant,
    ) -> Result<Created, Error> {
        let version = if custom_id.is_some() { PREVIEW } else { STABLE };
        let body = body::json(&CreateBody {
            custom_id,
            create_token_with_scopes: first.map(|(scopes, _)| scopes),
            expires_in_minutes: first.map(|(_, minutes)| minutes),
        });
        let call = Call {
            body,
            private: &[custom_id.unwrap_or_default()],
            // A gateway may say 503 of what was done behind it, and then a second one would be an orphan that nobody
            // knows. With a custom id it would be the same identity again.
            single: custom_id.is_none(),
            ..Call::new("create_identity", Method::POST, "/identities", version)
        };
        let answer = self.0.send(&call, deadline).await?;
        let created = body::parse::<CreatedBody>(&answer).and_then(|body| {
            let id = body.identity.id;
            if id.is_empty() {
                return Err("the identity has an empty id");
            }
            // A token that was not asked for is not looked at; one that was asked for must be there.
            let token = match (first, body.access_token) {
                (None, _) => None,
                (Some(_), Some(token)) => Some(token.read(answer.by)?),
                (Some(_), None) => return Err("the first token is missing"),
            };
            Ok(Created { id, token })
        });
        created.map_err(|problem| body::unusable(&call, answer, problem))
    }

    /// Issues a token of exactly these scopes, valid for so many minutes.
    pub async fn issue_token(
        &self,
        id: &str,
        scopes: &[&str],
        minutes: u16,
        deadline: Instant,
    ) -> Result<Token, Error> {
        let body = body::json(&IssueBody { scopes, expires_in_minutes: minutes });
        let call = Call {
            ids: &[id],
            body,
            idempotent: true,
            private: &[id],
            ..Call::new("issue_token", Method::POST, "/identities/{id}/:issueAccessToken", STABLE)
        };
        let answer = self.0.send(&call, deadline).await?;
        body::parse::<TokenBody>(&answer)
            .and_then(|body| body.read(answer.by))
            .map_err(|problem| body::unusable(&call, answer, problem))
    }

    /// Revokes every token of the identity. ACS may take up to 15 minutes to stop honouring them.
    pub async fn revoke_tokens(&self, id: &str, deadline: Instant) -> Result<(), Error> {
        let call = Call {
            ids: &[id],
            idempotent: true,
            private: &[id],
            ..Call::new("revoke_tokens", Method::POST, "/identities/{id}/:revokeAccessTokens", STABLE)
        };
        self.0.send(&call, deadline).await.map(drop)
    }

    /// Deletes the identity and with it all its tokens. One that is gone already is deleted.
    pub async fn delete_identity(&self, id: &str, deadline: Instant) -> Result<(), Error> {
        let call = Call {
            ids: &[id],
            idempotent: true,
            private: &[id],
            ..Call::new("delete_identity", Method::DELETE, "/identities/{id}", STABLE)
        };
        match self.0.send(&call, deadline).await {
            Err(error) if error.status() == Some(404) => Ok(()),
            result => result.map(drop),
        }
    }
}

impl TokenBody {
    fn read(self, issuer: Fingerprint) -> Result<Token, &'static str> {
        if self.token.is_empty() {
            return Err("the token is empty");
        }
        let expires_on = body::time(&self.expires_on).ok_or("expiresOn is no time")?;
        Ok(Token { secret: Secret::new(self.token), expires_on, issuer })
    }
}

#[cfg(test)]
mod tests;
