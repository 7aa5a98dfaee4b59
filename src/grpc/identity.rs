//! Handlers of IdentityService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use tonic::{Request, Response, Status, Streaming};

use super::convert::IdentityKey;
use super::import::Imports;
use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::identity_service_server::IdentityService;
use super::{convert, page_token, status, trail};
use crate::audit::Whom;
use crate::broker::Broker;

/// IdentityService over the core.
pub(crate) struct Identities {
    broker: Broker,
    imports: Imports,
}

impl Identities {
    /// Over that core.
    pub(crate) fn new(broker: Broker) -> Self {
        Self { broker, imports: Imports::default() }
    }
}

#[tonic::async_trait]
impl IdentityService for Identities {
    async fn resolve_identity(
        &self,
        request: Request<v1::ResolveIdentityRequest>,
    ) -> Result<Response<v1::ResolveIdentityResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let user = convert::user(&request.into_inner().user_id).map_err(status::of)?;
        trail.subject(Whom::User, user.as_str());
        let caller = permit.user(&user).map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let (record, created) =
            self.broker.resolve_identity(caller, user.clone()).await.map_err(status::of)?;
        trail.subject(Whom::Identity, record.identity.as_str()).effect("identity_created", created.into());
        let identity = Some(convert::identity(&user, &record));
        Ok(Response::new(v1::ResolveIdentityResponse { identity, created }))
    }

    async fn get_identity(
        &self,
        request: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::GetIdentityResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let key = convert::identity_key(request.into_inner()).map_err(status::of)?;
        let found = match key {
            IdentityKey::User(user) => {
                trail.subject(Whom::User, user.as_str());
                let caller = permit.user(&user).map_err(status::of)?;
                trail::admitted(&trail, caller).await?;
                self.broker.get_identity(caller, user.clone()).await
            }
            // The core shows the caller only users it may name.
            IdentityKey::Identity(identity) => {
                trail.subject(Whom::Identity, identity.as_str());
                trail::admitted(&trail, permit.own()).await?;
                self.broker.get_identity_by_acs_id(permit.own(), identity).await
            }
        };
        let (user, record) = found.map_err(status::of)?;
        trail.subject(Whom::User, user.as_str()).subject(Whom::Identity, record.identity.as_str());
        permit.found(&user).map_err(status::of)?;
        let identity = Some(convert::identity(&user, &record));
        Ok(Response::new(v1::GetIdentityResponse { identity }))
    }

    async fn delete_identity(
        &self,
        request: Request<v1::DeleteIdentityRequest>,
    ) -> Result<Response<v1::DeleteIdentityResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let v1::DeleteIdentityRequest { user_id, request_id } = request.into_inner();
        let (user, request_id) = convert::user_request(&user_id, &request_id).map_err(status::of)?;
        trail.subject(Whom::User, user.as_str());
        let caller = permit.user(&user).map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        self.broker.delete_identity(caller, user.clone(), request_id).await.map_err(status::of)?;
        trail.effect("identity_deleted", 1);
        Ok(Response::new(v1::DeleteIdentityResponse {}))
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let wish = convert::page(request.get_ref()).map_err(status::of)?;
        let caller = permit.every_user().map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let page = self.broker.list_identities(caller, wish.from, wish.limit).await.map_err(status::of)?;
        let page = page.ok_or_else(|| status::of(convert::bad_page_token()))?;
        let identities = page.entries.iter().map(|(user, record)| convert::identity(user, record)).collect();
        trail.effect("identities_listed", page.entries.len());
        let next_page_token = page.next.as_deref().map(page_token::encode).unwrap_or_default();
        Ok(Response::new(v1::ListIdentitiesResponse { identities, next_page_token }))
    }

    async fn import_identities(
        &self,
        request: Request<Streaming<v1::ImportIdentitiesRequest>>,
    ) -> Result<Response<v1::ImportIdentitiesResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        trail::admitted(&trail, permit.own()).await?;
        self.imports.run(&self.broker, &permit, &trail, request.into_inner()).await.map(Response::new)
    }
}
