//! Who may use the control paths: programs on this machine, its own page, and others that bring the token.
//!
//! Pure. No foreign web page gets in, whether it names the emulator itself (`Origin`, `Sec-Fetch-Site`) or through a
//! name that it rebound to this machine (`Host`). Tokens are compared in constant time.

use std::net::IpAddr;

use http::{HeaderMap, header};

use super::super::answer::{self, Answer};
use super::super::service::Origin;
use super::request::Refusal;
use crate::secret::Secret;

/// Lets the request in, or says why not.
pub(super) fn check(
    token: Option<&Secret>,
    origin: Origin,
    head: &http::request::Parts,
) -> Result<(), Refusal> {
    let headers = &head.headers;
    let Some(host) = only(headers, header::HOST.as_str()) else {
        return Err(forbidden("The request names no host."));
    };
    if !is_of_no_foreign_page(headers, origin.scheme, host) {
        return Err(forbidden("The emulator's control paths are not for other sites' pages."));
    }
    if origin.peer.ip().to_canonical().is_loopback() && is_loopback(host) {
        return Ok(());
    }
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let message = "The emulator's control paths are for programs on this machine. Start it with a control token \
                       to let others in.";
        return Err(forbidden(message));
    };
    match only(headers, header::AUTHORIZATION.as_str()).and_then(bearer) {
        Some(brought) if Secret::new(brought) == *token => Ok(()),
        _ => {
            let message = "From other machines, the emulator's control paths want the control token.";
            let refusal = answer::error(401, "Unauthorized", message, None);
            Err(Box::new(refusal.with_header("www-authenticate", "Bearer")))
        }
    }
}

fn forbidden(message: &str) -> Box<Answer> {
    Box::new(answer::error(403, "Forbidden", message, None))
}

/// The value of a header that is there exactly once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    let (value, None) = (values.next()?, values.next()) else { return None };
    value.to_str().ok()
}

fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// Browsers say with every POST which site it comes from, and newer ones with every request.
fn is_of_no_foreign_page(headers: &HeaderMap, scheme: &str, host: &str) -> bool {
    let absent_or = |name: &str, is_own: &dyn Fn(&str) -> bool| {
        !headers.contains_key(name) || only(headers, name).is_some_and(is_own)
    };
    absent_or("origin", &|origin| origin.eq_ignore_ascii_case(&format!("{scheme}://{host}")))
        && absent_or("sec-fetch-site", &|site| matches!(site, "same-origin" | "none"))
}

/// Whether a name, with or without a port, means this machine wherever it is looked up.
fn is_loopback(host: &str) -> bool {
    if host.contains('@') {
        return false;
    }
    let Ok(host) = host.parse::<http::uri::Authority>() else { return false };
    let name = host.host();
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
#[path = "access_tests.rs"]
mod tests;
