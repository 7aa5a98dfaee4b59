//! Handlers of TokenService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use tonic::{Request, Response, Status};

use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::token_service_server::TokenService;
use super::{convert, status, trail};
use crate::audit::Whom;
use crate::broker::Broker;
use crate::broker::types::Validity;

/// TokenService over the core.
pub(crate) struct Tokens {
    broker: Broker,
    default_validity: Validity,
}

impl Tokens {
    /// With the validity that holds when a caller names none.
    pub(crate) const fn new(broker: Broker, default_validity: Validity) -> Self {
        Self { broker, default_validity }
    }
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let default = permit.default_validity(self.default_validity);
        let mut wish = convert::issue_token(request.into_inner(), default).map_err(status::of)?;
        trail::about_token(&trail, &wish.user, wish.scopes);
        let caller = permit
            .token(&wish.user, wish.scopes, &mut wish.validity, self.default_validity)
            .map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let served = self.broker.issue_token(caller, wish).await.map_err(status::of)?;
        trail::served(&trail, &served);
        Ok(Response::new(convert::issued(&served)))
    }

    async fn refresh_token(
        &self,
        request: Request<v1::RefreshTokenRequest>,
    ) -> Result<Response<v1::RefreshTokenResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let mut wish = convert::refresh_token(request.into_inner()).map_err(status::of)?;
        trail::about_token(&trail, &wish.user, wish.scopes);
        let caller = permit
            .token(&wish.user, wish.scopes, &mut wish.validity, self.default_validity)
            .map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let served = self.broker.refresh_token(caller, wish).await.map_err(status::of)?;
        trail::served(&trail, &served);
        Ok(Response::new(convert::refreshed(&served)))
    }

    async fn revoke_tokens(
        &self,
        request: Request<v1::RevokeTokensRequest>,
    ) -> Result<Response<v1::RevokeTokensResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let v1::RevokeTokensRequest { user_id, request_id } = request.into_inner();
        let (user, request_id) = convert::user_request(&user_id, &request_id).map_err(status::of)?;
        trail.subject(Whom::User, user.as_str());
        let caller = permit.user(&user).map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        self.broker.revoke_tokens(caller, user.clone(), request_id).await.map_err(status::of)?;
        trail.effect("tokens_revoked", 1);
        Ok(Response::new(v1::RevokeTokensResponse {}))
    }
}
