//! Every call has a caller and a permit, or it gets nothing.
//!
//! [`admit`] runs before any handler and puts a [`Permit`] into the request. A handler that is reached some other way
//! finds none and refuses, so forgetting this step lets nobody in. The open methods, health and reflection, are those of
//! [`Method::is_open`] and no others.

use super::method::Method;
use super::observe::Identified;
use super::permit::{JUDGE_AGAIN, Permit};
use crate::auth::{Credentials, Gate, Peer, Unidentified};
use crate::broker::error::Error;

/// Finds out who calls and whether it may, and notes it in the request for the handler and in `who` for the log.
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
    let credentials = Credentials { peer, headers: request.headers() };
    let identified = gate.identify(&credentials).await;
    let caller = match who.get_or_init(|| identified) {
        Ok(caller) => caller,
        Err(Unidentified::Unclear(_)) => return Err(Error::IssuerUnavailable { retry_after: JUDGE_AGAIN }),
        Err(_) => return Err(Error::CallerUnauthenticated),
    };
    // Without one there is no such method, which is told only to those who are known.
    if let Some(rpc) = method.rpc {
        let trail = request.extensions().get();
        let permit = Permit::enter(gate, &credentials, caller, rpc, trail).await?;
        request.extensions_mut().insert(permit);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert!(Permit::of(&tonic::Request::from_http(request)).is_err());

        let mut request = http::Request::new(());
        admit(&Gate::open(true), &nobody, issue, &mut request, &Identified::new()).await.unwrap();
        assert_eq!(Permit::of(&tonic::Request::from_http(request)).unwrap().own().name(), "unauthenticated");
    }

    #[tokio::test]
    async fn an_open_method_needs_no_caller_and_gets_none() {
        let check = method::at("/grpc.health.v1.Health/Check");
        let mut request = http::Request::new(());
        admit(&Gate::shut(), &Peer::default(), check, &mut request, &Identified::new()).await.unwrap();
        assert!(Permit::of(&tonic::Request::from_http(request)).is_err());
    }

    #[test]
    fn a_request_that_was_not_admitted_has_no_permit() {
        let status = Permit::of(&tonic::Request::new(())).err().unwrap();
        assert_eq!(status.code(), tonic::Code::Unauthenticated);
    }
}
