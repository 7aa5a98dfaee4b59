//! The HMAC-SHA256 signature of a request to ACS (Microsoft Learn, "Authentication" of the ACS REST API).
//!
//! Pure: method, path and query as on the request line, host, date and body in; two header values out. It never sees
//! a connection. Each attempt of a call is signed anew, because the date is part of what is signed.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;

/// The last second an HTTP date can write: the end of the year 9999.
const LAST_HTTP_DATE: Timestamp = Timestamp::from_millis(253_402_300_799_000);

/// What is signed of a request.
pub(super) struct Signable<'a> {
    /// The method in upper case.
    pub method: &'a str,
    /// Path and query exactly as on the request line, percent-encoding untouched.
    pub path_and_query: &'a str,
    /// The value of the `Host` header.
    pub host: &'a str,
    /// The value of `x-ms-date`.
    pub date: &'a str,
    /// The body, empty if there is none.
    pub body: &'a [u8],
}

/// The header values that prove a request.
pub(super) struct Signature {
    /// `x-ms-content-sha256`.
    pub content_sha256: String,
    /// `Authorization`.
    pub authorization: String,
}

impl Signable<'_> {
    /// Signs with the decoded access key.
    pub(super) fn sign(&self, access_key: &[u8]) -> Signature {
        let content_sha256 = STANDARD.encode(Sha256::digest(self.body));
        #[expect(
            clippy::expect_used,
            reason = "HMAC takes keys of any length: RFC 2104 hashes long ones, pads short ones"
        )]
        let mut mac = Hmac::<Sha256>::new_from_slice(access_key).expect("any key length");
        let Self { method, path_and_query, host, date, .. } = self;
        for part in [method, "\n", path_and_query, "\n", date, ";", host, ";", content_sha256.as_str()] {
            mac.update(part.as_bytes());
        }
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let authorization =
            format!("HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256&Signature={signature}");
        Signature { content_sha256, authorization }
    }
}

/// A time as `x-ms-date` writes it: `Tue, 04 Mar 2025 05:06:07 GMT`.
pub(super) fn http_date(at: Timestamp) -> String {
    httpdate::fmt_http_date(at.min(LAST_HTTP_DATE).to_system_time())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Tue, 04 Mar 2025 05:06:07 GMT";

    fn sign(method: &str, path_and_query: &str, host: &str, body: &str) -> (String, String) {
        let key = STANDARD.decode("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let signable = Signable { method, path_and_query, host, date: DATE, body: body.as_bytes() };
        let signature = signable.sign(&key);
        let (start, proof) = signature.authorization.split_once("&Signature=").unwrap();
        assert_eq!(start, "HMAC-SHA256 SignedHeaders=x-ms-date;host;x-ms-content-sha256");
        (signature.content_sha256, proof.to_owned())
    }

    // The expected values of the next three were produced by the HMAC policies of azure-communication-identity 1.5.0
    // (Python) and @azure/communication-common 2.4.2 (JavaScript), not by this code.

    #[test]
    fn a_get_without_body_is_signed_as_the_official_sdks_sign_it() {
        let path =
            "/identities/8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000000-0000-0000-0000-000000000001";
        let query = "?api-version=2025-03-02-preview";
        let (hash, proof) = sign("GET", &format!("{path}{query}"), "contoso.communication.azure.com", "");
        assert_eq!(hash, "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
        assert_eq!(proof, "rI8xnLZXTbcLF6S8tHUHqxqIJcAHaa3WlxAhTZqv570=");
    }

    #[test]
    fn a_post_with_body_is_signed_as_the_official_sdks_sign_it() {
        let body = r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#;
        let (hash, proof) =
            sign("POST", "/identities?api-version=2023-10-01", "contoso.communication.azure.com", body);
        assert_eq!(hash, "jENEeifYNCidF9FcfXJ54WzhK3ED/2UrQyA4+oWOZKc=");
        assert_eq!(proof, "A1upm3yb4/iMMm2iBDz+A+C5/3VlE2L3klOeb7+nqoA=");
    }

    #[test]
    fn a_port_two_parameters_and_umlauts_are_signed_as_the_official_sdks_sign_them() {
        let body = r#"{"from":"+18005550100","smsRecipients":[{"to":"+14255550123"}],"message":"Grüße"}"#;
        let (hash, proof) = sign("POST", "/sms?api-version=2021-03-07&trace=a%2Cb", "127.0.0.1:8080", body);
        assert_eq!(hash, "pJmxqrRpD9Obtvg9GdgiiIpbXLhMfv7RR3CNYFy2KLA=");
        assert_eq!(proof, "hhh2NFB1fzGiOYJ0T8egOCf5+cUx1dTOSezcJvjrnpE=");
    }

    #[test]
    fn dates_are_rfc_1123_at_any_time() {
        assert_eq!(http_date(Timestamp::from_millis(1_741_064_767_999)), DATE);
        assert_eq!(http_date(Timestamp::default()), "Thu, 01 Jan 1970 00:00:00 GMT");
        assert_eq!(http_date(Timestamp::from_millis(u64::MAX)), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
