//! The probe listener: health in plain text, for kubelet and the mesh, and nothing else.
//!
//! Where the API wants TLS and client certificates, kubelet has neither. Whoever reaches this port learns whether the
//! process lives and serves, never more: every other method is unknown here, reflection too. No call is counted.

use http::{Request, Response};
use hyper::body::Incoming;
use tonic::body::Body;
use tower::ServiceExt;
use tower::util::BoxCloneSyncService;

use super::arriving::Arriving;
use super::health::Health;
use super::method::{self, Service};
use super::server::{Boxed, refuse_other_than_grpc};
use super::status::{self, Refusal};

/// What answers probes.
pub(crate) struct Probes(Boxed);

impl Probes {
    /// Says what `health` says.
    pub(crate) fn new(health: &Health) -> Self {
        Self(BoxCloneSyncService::new(health.service()))
    }

    /// Answers a call. Never fails.
    pub(super) async fn call(&self, request: Request<Arriving<Incoming>>) -> Response<Body> {
        if let Some(refused) = refuse_other_than_grpc(&request) {
            return refused;
        }
        if method::at(request.uri().path()).service != Service::Health {
            return status::of(Refusal::MethodUnknown).into_http();
        }
        let Ok(response) = self.0.clone().oneshot(request.map(Body::new)).await;
        response
    }
}
