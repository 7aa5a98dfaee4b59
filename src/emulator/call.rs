//! A request that was let in, as the handlers of the services see it.
//!
//! Whoever holds a `Call` need not ask again who calls: authentication, version and the path are settled. What the body
//! says and whether this caller may do it is for the handler. Used by every service.

use http::HeaderMap;
use hyper::body::Bytes;
use percent_encoding::percent_decode_str;

use super::operation::Operation;
use super::version::Version;
use crate::clock::Timestamp;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Whoever holds the access key of this number.
    Key(u64),
    /// An Entra principal that may use the resource.
    Entra,
    /// An ACS user, by an access token that is good now.
    User {
        /// The raw id.
        id: String,
        /// The scopes of the token.
        scopes: Vec<String>,
    },
    /// Whoever brings an Entra token to exchange. The handler checks it.
    EntraUser {
        /// The token.
        token: crate::secret::Secret,
    },
}

impl Principal {
    /// Its kind, for the log of calls.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Key(_) => "key",
            Self::Entra => "entra",
            Self::User { .. } => "user",
            Self::EntraUser { .. } => "entra_user",
        }
    }
}

/// A request that was let in.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    pub(super) version: Version,
    /// The decoded parameters of the path, in order.
    pub(super) parameters: &'a [String],
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
    /// Scheme and host that the caller used, such as `https://127.0.0.1:8083`: what absolute links begin with.
    pub(super) base: &'a str,
    /// The raw query, without the question mark.
    pub(super) raw_query: &'a str,
    pub(super) principal: Principal,
    /// When the request was let in, by the emulator's clock.
    pub(super) now: Timestamp,
}

impl Call<'_> {
    /// A parameter of the path; the empty text if there is none, which no handler is called with.
    pub(super) fn parameter(&self, index: usize) -> &str {
        self.parameters.get(index).map_or("", String::as_str)
    }

    /// The first query parameter of this name, decoded.
    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.raw_query.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded =
                |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
            decoded(key).eq_ignore_ascii_case(name).then(|| decoded(value))
        })
    }

    /// A header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}
