//! Every call has a caller, or it gets nothing.
//!
//! [`admit`] runs before any handler and puts the [`Caller`] into the request; [`caller`] is how a handler gets it.
//! A handler that is reached some other way finds none and refuses, so forgetting the first step lets nobody in.
//! The open methods, health and reflection, are those of [`Method::is_open`] and no others.

use tonic::Status;

use super::method::Method;
use super::observe::Identified;
use super::status;
use crate::auth::{Credentials, Gate, Peer};
use crate::broker::error::Error;
use crate::broker::types::Caller;

/// Finds out who calls, and notes it in the request for the handler and in `who` for the log.
pub(crate) async fn admit<B>(
    gate: &Gate,
    peer: &Peer,
    method: &Method,
    request: &mut http::Request<B>,
    who: &Identified,
) -> Result<(), Error> {
    if method.is_open() {
        return Ok(());
    }
    let identified = gate.identify(&Credentials { peer, headers: request.headers() }).await;
    match who.get_or_init(|| identified) {
        Ok(caller) => {
            request.extensions_mut().insert(caller.clone());
            Ok(())
        }
        Err(_) => Err(Error::CallerUnauthenticated),
    }
}

/// The caller of a request that was admitted.
pub(crate) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    request.extensions().get().cloned().ok_or_else(|| status::of(Error::CallerUnauthenticated))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Unidentified;
    use crate::grpc::method;

    #[tokio::test]
    async fn a_method_of_ours_is_admitted_with_a_caller_only() {
        let issue = method::at("/acsbroker.v1.TokenService/IssueToken");
        let mut request = http::Request::new(());
        let nobody = Peer::default();
        for method in [issue, method::at("/no.such/Method")] {
            let who = Identified::new();
            assert!(admit(&Gate::shut(), &nobody, method, &mut request, &who).await.is_err());
            assert_eq!(who.get(), Some(&Err(Unidentified::NotClaimed)));
        }
        assert!(caller(&tonic::Request::from_http(request)).is_err());

        let mut request = http::Request::new(());
        admit(&Gate::open(true), &nobody, issue, &mut request, &Identified::new()).await.unwrap();
        assert_eq!(caller(&tonic::Request::from_http(request)).unwrap().name(), "unauthenticated");
    }

    #[tokio::test]
    async fn an_open_method_needs_no_caller_and_gets_none() {
        let check = method::at("/grpc.health.v1.Health/Check");
        let mut request = http::Request::new(());
        admit(&Gate::shut(), &Peer::default(), check, &mut request, &Identified::new()).await.unwrap();
        assert!(caller(&tonic::Request::from_http(request)).is_err());
    }

    #[test]
    fn a_request_that_was_not_admitted_has_no_caller() {
        let status = caller(&tonic::Request::new(())).unwrap_err();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
