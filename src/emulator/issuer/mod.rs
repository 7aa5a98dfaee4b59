//! A test issuer of Entra tokens: what a managed identity, a workload identity or a client secret gets one from.
//!
//! It stands in for `login.microsoftonline.com` and for the metadata service of Azure's machines. Its signing key is
//! published with the source: nothing real may ever trust it. Called by `service`.

use hyper::body::Bytes;

use super::answer::{self, Answer};
use super::service::Shared;

/// The issuer's state.
#[derive(Default)]
pub(super) struct Issuer;

impl Issuer {
    /// Forgets what was set; the key stays.
    pub(super) fn reset(&self) {}

    /// Whether a token lets its holder use the resource.
    pub(super) fn admits(&self, _shared: &Shared, _token: &str) -> bool {
        false
    }
}

/// Answers a request for a token, a key set or a discovery document; `path` is the whole path.
pub(super) fn handle(
    _shared: &Shared,
    _scheme: &str,
    _head: &http::request::Parts,
    _path: &[String],
    _body: &Bytes,
) -> Answer {
    answer::error(501, "NotImplemented", "The acs-broker emulator issues no Entra tokens.", None)
}
