//! Who posts: whether a request brings the shared secret, or a token that Microsoft Entra gave to Event Grid.
//!
//! The secret is looked for in three places, because not every way to set up a subscription can fill each: the query
//! (`?code=`), a header of its own, and `Authorization: Bearer`. It is compared in constant time. A token is one of the
//! tenant for our audience, asked for by the application that is Event Grid. Either suffices; neither is ever logged.
//! Used by `server`.

use std::sync::Arc;

use http::request::Parts;
use percent_encoding::percent_decode_str;
use serde_json::Value;

use super::{Entra, Settings};
use crate::auth::jwt::Verifier;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// The header of its own.
const HEADER: &str = "x-acs-broker-webhook-secret";
/// The query parameter.
const PARAMETER: &str = "code";

/// Knows who may post.
pub struct Callers {
    secret: Secret,
    entra: Option<EventGrid>,
}

/// Knows the tokens of Event Grid.
struct EventGrid {
    verifier: Arc<Verifier>,
    /// The id of the application that asked for the token.
    app: String,
}

impl Callers {
    /// Begins to fetch the tenant's keys, if there is one. Must be called inside a runtime.
    pub fn new(settings: &Settings, clock: Arc<dyn Clock>, metrics: Metrics) -> Self {
        let entra = settings.entra().map(|Entra { issuers, app }| EventGrid {
            verifier: Arc::new(Verifier::new(issuers, clock, metrics)),
            app: app.to_owned(),
        });
        Self { secret: settings.secret.clone(), entra }
    }

    /// Who verifies tokens of the tenant, if there is one.
    pub fn issuers(&self) -> Option<Arc<Verifier>> {
        self.entra.as_ref().map(|event_grid| Arc::clone(&event_grid.verifier))
    }

    /// Who posts; anybody is known if neither a secret nor a tenant is configured.
    pub(super) async fn know(&self, request: &Parts) -> Poster {
        if knows_secret(request, &self.secret) {
            return Poster::Known("webhook:secret");
        }
        match (&self.entra, bearer(request)) {
            (Some(event_grid), Some(token)) => event_grid.sent(token).await,
            (None, _) if self.secret.is_empty() => Poster::Known("webhook:anybody"),
            _ if presented(request).next().is_some() => Poster::Unknown("wrong_secret"),
            _ => Poster::Unknown("no_proof"),
        }
    }
}

/// Who posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Poster {
    /// Somebody who has proven to be Event Grid; how, in a name that no caller of a policy can have.
    Known(&'static str),
    /// Somebody who has not; why, in a word.
    Unknown(&'static str),
    /// Somebody with a token that cannot be judged, because the tenant's keys could not be fetched yet.
    Unclear,
}

impl EventGrid {
    /// Whether the token is one that Entra gave to Event Grid for us.
    async fn sent(&self, token: &str) -> Poster {
        let claims = match self.verifier.identify(token).await {
            Ok(claims) => claims,
            Err(refusal) => {
                tracing::debug!(why = refusal.text(), "a token of Event Grid was refused");
                return if refusal.is_ours() { Poster::Unclear } else { Poster::Unknown(refusal.label()) };
            }
        };
        // Version 1.0 calls the application that asked `appid`, version 2.0 `azp`. A token that says both is neither.
        let said = |name: &str| claims.all.get(name).and_then(Value::as_str);
        let app = match (said("appid"), said("azp")) {
            (Some(app), None) | (None, Some(app)) => app,
            _ => return Poster::Unknown("application"),
        };
        if app.eq_ignore_ascii_case(&self.app) {
            Poster::Known("webhook:entra")
        } else {
            Poster::Unknown("application")
        }
    }
}

/// The token of `Authorization: Bearer`, if there is just one such header.
fn bearer(request: &Parts) -> Option<&str> {
    let mut headers = request.headers.get_all("authorization").iter();
    let (Some(header), None) = (headers.next(), headers.next()) else { return None };
    let (scheme, token) = header.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Whether whoever posts knows the secret; nobody does if there is none.
pub(super) fn knows_secret(request: &Parts, secret: &Secret) -> bool {
    if secret.is_empty() {
        return false;
    }
    // Every one is compared, so that the time tells nothing of which was right.
    presented(request).map(Secret::new).fold(false, |known, one| (one == *secret) | known)
}

/// Everything that may be meant as the secret.
fn presented(request: &Parts) -> impl Iterator<Item = String> {
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let in_query = request.uri.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == PARAMETER).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    });
    in_query.chain(header(HEADER).map(str::to_owned)).chain(bearer(request).map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "kept/between+us=and=nobody";

    fn known(uri: &str, header: Option<(&str, &str)>) -> bool {
        let mut request = http::Request::builder().uri(uri);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        knows_secret(&request.body(()).unwrap().into_parts().0, &Secret::new(SECRET))
    }

    #[test]
    fn the_secret_is_taken_from_the_query_its_header_or_as_bearer() {
        assert!(known(&format!("/events?code={SECRET}"), None));
        assert!(known("/events?a=b&code=kept%2Fbetween%2Bus%3Dand%3Dnobody&c", None));
        assert!(known("/events", Some((HEADER, SECRET))));
        assert!(known("/events", Some(("authorization", &format!("bearer {SECRET}")))));
        assert!(known("/events?code=wrong", Some((HEADER, SECRET))));
    }

    #[test]
    fn anything_else_is_refused() {
        for uri in ["/events", "/events?code=", "/events?code", "/events?Code=kept", "/events?code=%ff"] {
            assert!(!known(uri, None), "{uri}");
        }
        let longer = format!("{SECRET}x");
        for value in ["", "kept", &longer, &SECRET.to_uppercase()] {
            assert!(!known("/events", Some((HEADER, value))));
            assert!(!known("/events", Some(("authorization", &format!("Bearer {value}")))));
        }
        assert!(!known("/events", Some(("authorization", SECRET))));
        assert!(!known("/events", Some(("authorization", &format!("Basic {SECRET}")))));
    }

    #[tokio::test]
    async fn without_a_secret_and_a_tenant_anybody_is_known() {
        let request = http::Request::builder().uri("/events").body(()).unwrap().into_parts().0;
        let known = async |settings: &Settings| {
            let clock = Arc::new(crate::clock::SystemClock);
            Callers::new(settings, clock, Metrics::new()).know(&request).await
        };
        assert!(!knows_secret(&request, &Secret::new("")));
        let open = Settings::at("", Secret::new(""));
        assert_eq!(known(&open).await, Poster::Known("webhook:anybody"));
        assert_eq!(known(&Settings::at("", Secret::new(SECRET))).await, Poster::Unknown("no_proof"));
        let tenant = uuid::Uuid::nil().to_string();
        let entra = Settings { entra_tenant: tenant.clone(), entra_audience: tenant, ..open };
        assert_eq!(known(&entra).await, Poster::Unknown("no_proof"));
    }
}
