//! Who posts: whether a request brings the shared secret.
//!
//! Three places are looked at, because not every way to set up a subscription can fill each: the query (`?code=`), a
//! header of its own, and `Authorization: Bearer`. Compared in constant time; never logged. Used by `server`.

use http::request::Parts;
use percent_encoding::percent_decode_str;

use crate::secret::Secret;

/// The header of its own.
const HEADER: &str = "x-acs-broker-webhook-secret";
/// The query parameter.
const PARAMETER: &str = "code";

/// Whether whoever posts knows the secret; anybody does if there is none.
pub(super) fn is_known(request: &Parts, secret: &Secret) -> bool {
    if secret.is_empty() {
        return true;
    }
    let header = |name: &str| request.headers.get(name).and_then(|value| value.to_str().ok());
    let in_query = request.uri.query().into_iter().flat_map(|query| query.split('&')).filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        (name == PARAMETER).then(|| percent_decode_str(value).decode_utf8_lossy().into_owned())
    });
    let bearer = header("authorization").and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
    });
    let presented = in_query.chain(header(HEADER).map(str::to_owned)).chain(bearer);
    // Every one is compared, so that the time tells nothing of which was right.
    presented.map(Secret::new).fold(false, |known, one| (one == *secret) | known)
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
        is_known(&request.body(()).unwrap().into_parts().0, &Secret::new(SECRET))
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

    #[test]
    fn without_a_secret_anybody_is_known() {
        let request = http::Request::builder().uri("/events").body(()).unwrap().into_parts().0;
        assert!(is_known(&request, &Secret::new("")));
    }
}
