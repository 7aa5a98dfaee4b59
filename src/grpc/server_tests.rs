//! Every handler refuses a call that did not pass the gate, and every method asks the policy for itself.

use async_trait::async_trait;
use http_body_util::Full;
use tonic::Code;
use tonic_types::StatusExt;

use super::*;
use crate::audit::Audit;
use crate::broker::error::Error;
use crate::broker::policy::{Permissions, RpcSet, Rules};
use crate::broker::ports::{CreatedIdentity, TokenIssuer};
use crate::broker::types::{AccessToken, Caller, IdentityId, KeyId, ScopeSet, UserId, Validity};
use crate::broker::{self, Broker};
use crate::clock::SystemClock;
use crate::messaging;
use crate::messaging::testing::{Death, World};

/// Nobody may get this far.
pub(in crate::grpc) struct Unreached;

#[async_trait]
impl TokenIssuer for Unreached {
    fn key(&self) -> KeyId {
        KeyId([0; 8])
    }

    async fn create_identity(
        &self,
        _: &UserId,
        _: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        Err(Error::internal("reached"))
    }

    async fn issue_token(&self, _: &IdentityId, _: ScopeSet, _: Validity) -> Result<AccessToken, Error> {
        Err(Error::internal("reached"))
    }

    async fn revoke_tokens(&self, _: &IdentityId) -> Result<(), Error> {
        Err(Error::internal("reached"))
    }

    async fn delete_identity(&self, _: &IdentityId) -> Result<(), Error> {
        Err(Error::internal("reached"))
    }
}

fn server() -> Server {
    let (clock, metrics) = (Arc::new(SystemClock), Metrics::new());
    let stores = crate::store::memory(clock.clone()).core;
    let broker =
        Broker::new(broker::Settings::default(), Arc::new(Unreached), stores, clock, metrics.clone());
    let world = World::new();
    let messaging =
        messaging::testing::Replica::start(&world, messaging::Settings::default(), Death::Never).0;
    let chat = messaging::testing::chat::start(&world, messaging::Settings::default(), Death::Never).0;
    let cores = Cores { broker, messaging: Some(messaging), chat: Some(chat), audit: Audit::off() };
    let (health, stop) = (Health::new(), CancellationToken::new());
    Server::new(&Settings::default(), cores, Arc::new(Gate::shut()), metrics, &health, &stop).unwrap()
}

/// A call with an empty message.
fn empty(method: &Method) -> Request<Full<Bytes>> {
    Request::post(format!("/{}", method.name))
        .header(CONTENT_TYPE, "application/grpc")
        .body(Full::from(vec![0; 5]))
        .unwrap()
}

fn status(response: &Response<Body>) -> tonic::Status {
    tonic::Status::from_header_map(response.headers()).expect("an error is in the headers")
}

#[tokio::test]
async fn a_handler_that_is_reached_without_the_gate_refuses() {
    let server = server();
    let mut methods = 0;
    for method in method::of_ours() {
        let refused = status(&server.dispatch(method, empty(method)).await);
        assert_eq!(refused.code(), Code::Unauthenticated, "{}", method.name);
        methods += 1;
    }
    assert_eq!(methods, crate::broker::policy::Rpc::ALL.len());
}

#[tokio::test]
async fn a_caller_gets_exactly_the_methods_that_the_policy_names() {
    let server = server();
    for allowed in method::of_ours() {
        let rules = Rules { rpcs: RpcSet::NONE.with(allowed.rpc.unwrap()), ..Rules::everything() };
        let caller = Caller::allowed("shop", Arc::new(Permissions::new(rules, Vec::new())));
        for method in method::of_ours() {
            let gate =
                Gate::new(vec![Arc::new(crate::auth::Unauthenticated { allow_off_loopback: true })], {
                    Arc::new(One(caller.clone()))
                });
            let mut request = empty(method);
            let who = Identified::new();
            let admitted = authn::admit(&gate, &Peer::default(), method, &mut request, &who).await;
            if method.name == allowed.name {
                assert!(admitted.is_ok(), "{}", method.name);
                continue;
            }
            let refused = status::of(admitted.unwrap_err());
            assert_eq!(refused.code(), Code::PermissionDenied, "{}", method.name);
            let details = refused.get_error_details();
            let missing = &details.error_info().unwrap().metadata["permission"];
            assert_eq!(*missing, format!("rpc:{}", method.rpc.unwrap().name()));
            assert_eq!(status(&server.dispatch(method, request).await).code(), Code::Unauthenticated);
        }
    }
}

/// Everybody is this one.
struct One(Caller);

impl crate::auth::Callers for One {
    fn caller(&self, _: &crate::auth::Principal) -> Option<Caller> {
        Some(self.0.clone())
    }
}
