//! The users of chat over the core of identities and tokens.
//!
//! Tokens come from the core's cache and are renewed by it, those of the broker's own identity like any other. Nothing
//! is remembered here. Used by `chat`.

use std::collections::HashMap;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::StreamExt;

use crate::broker::error::Error;
use crate::broker::types::{Caller, IdentityId, Scope, ScopeSet, UserId};
use crate::broker::{Broker, IssueToken, RefreshToken};
use crate::messaging::ports::{ActingToken, ChatUsers};

/// Look-ups at the same time; the store sends those that wait together in one go.
const AT_ONCE: usize = 64;

#[async_trait]
impl ChatUsers for Broker {
    async fn token(&self, caller: &Caller, user: &UserId, renew: bool) -> Result<ActingToken, Error> {
        let scopes = ScopeSet::new([Scope::Chat]).map_err(|_| Error::internal("chat is no scope"))?;
        let user = user.clone();
        let served = if renew {
            self.refresh_token(caller, RefreshToken { user, scopes, validity: None }).await?
        } else {
            let wish = IssueToken { user, scopes, validity: None, min_remaining: Duration::ZERO };
            self.issue_token(caller, wish).await?
        };
        Ok(ActingToken { token: served.token.secret, acs_user_id: served.identity.as_str().to_owned() })
    }

    async fn identity(&self, caller: &Caller, user: &UserId) -> Result<IdentityId, Error> {
        self.resolve_identity(caller, user.clone()).await.map(|(record, _)| record.identity)
    }

    async fn known_identity(&self, caller: &Caller, user: &UserId) -> Result<Option<IdentityId>, Error> {
        match self.get_identity(caller, user.clone()).await {
            Ok((_, record)) => Ok(Some(record.identity)),
            Err(Error::IdentityNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn users_of(
        &self,
        caller: &Caller,
        ids: Vec<IdentityId>,
    ) -> Result<HashMap<String, UserId>, Error> {
        let look_up = |id: IdentityId| async move {
            match self.get_identity_by_acs_id(caller, id.clone()).await {
                Ok((user, _)) => Ok(Some((id.as_str().to_owned(), user))),
                Err(Error::IdentityNotFound) => Ok(None),
                Err(error) => Err(error),
            }
        };
        let mut found = HashMap::new();
        let look_ups: Vec<_> = ids.into_iter().map(look_up).collect();
        let mut look_ups = futures_util::stream::iter(look_ups).buffer_unordered(AT_ONCE);
        while let Some(one) = look_ups.next().await {
            found.extend(one?);
        }
        Ok(found)
    }
}
