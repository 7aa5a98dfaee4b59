//! Handlers of IdentityService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use tonic::{Request, Response, Status, Streaming};

use super::convert::IdentityKey;
use super::import::Imports;
use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::identity_service_server::IdentityService;
use super::{convert, page_token, status};
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
        let permit = Permit::of(&request)?;
        let user = convert::user(&request.into_inner().user_id).map_err(status::of)?;
        let caller = permit.user(&user).map_err(status::of)?;
        let (record, created) =
            self.broker.resolve_identity(caller, user.clone()).await.map_err(status::of)?;
        let identity = Some(convert::identity(&user, &record));
        Ok(Response::new(v1::ResolveIdentityResponse { identity, created }))
    }

    async fn get_identity(
        &self,
        request: Request<v1::GetIdentityRequest>,
    ) -> Result<Response<v1::GetIdentityResponse>, Status> {
        let permit = Permit::of(&request)?;
        let found = match convert::identity_key(request.into_inner()).map_err(status::of)? {
            IdentityKey::User(user) => {
                let caller = permit.user(&user).map_err(status::of)?;
                self.broker.get_identity(caller, user.clone()).await
            }
            // The core shows the caller only users it may name.
            IdentityKey::Identity(identity) => {
                self.broker.get_identity_by_acs_id(permit.own(), identity).await
            }
        };
        let (user, record) = found.map_err(status::of)?;
        permit.found(&user).map_err(status::of)?;
        let identity = Some(convert::identity(&user, &record));
        Ok(Response::new(v1::GetIdentityResponse { identity }))
    }

    async fn delete_identity(
        &self,
        request: Request<v1::DeleteIdentityRequest>,
    ) -> Result<Response<v1::DeleteIdentityResponse>, Status> {
        let permit = Permit::of(&request)?;
        let v1::DeleteIdentityRequest { user_id, request_id } = request.into_inner();
        let (user, request_id) = convert::user_request(&user_id, &request_id).map_err(status::of)?;
        let caller = permit.user(&user).map_err(status::of)?;
        self.broker.delete_identity(caller, user.clone(), request_id).await.map_err(status::of)?;
        Ok(Response::new(v1::DeleteIdentityResponse {}))
    }

    async fn list_identities(
        &self,
        request: Request<v1::ListIdentitiesRequest>,
    ) -> Result<Response<v1::ListIdentitiesResponse>, Status> {
        let permit = Permit::of(&request)?;
        let wish = convert::page(request.get_ref()).map_err(status::of)?;
        let caller = permit.every_user().map_err(status::of)?;
        let page = self.broker.list_identities(caller, wish.from, wish.limit).await.map_err(status::of)?;
        let page = page.ok_or_else(|| status::of(convert::bad_page_token()))?;
        let identities = page.entries.iter().map(|(user, record)| convert::identity(user, record)).collect();
        let next_page_token = page.next.as_deref().map(page_token::encode).unwrap_or_default();
        Ok(Response::new(v1::ListIdentitiesResponse { identities, next_page_token }))
    }

    async fn import_identities(
        &self,
        request: Request<Streaming<v1::ImportIdentitiesRequest>>,
    ) -> Result<Response<v1::ImportIdentitiesResponse>, Status> {
        let permit = Permit::of(&request)?;
        self.imports.run(&self.broker, &permit, request.into_inner()).await.map(Response::new)
    }
}
