//! Reads the error bodies of ACS, which differ by service, version and the proxy in front of it.
//!
//! Lenient: whatever cannot be read yields nothing, never a failure. What ACS wrote is reduced before anything else
//! sees it: codes to a small alphabet, messages to ordinary words. The pipeline uses it for answers that are no success.

use serde_json::{Map, Value};

/// The longest code or target that is kept.
const MAX_CODE: usize = 64;
/// The longest message that is kept, in characters.
const MAX_MESSAGE: usize = 300;

/// What an error body says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fault {
    /// The code.
    pub code: Option<String>,
    /// The part of the request it blames.
    pub target: Option<String>,
    /// The message, reduced; for the log.
    pub message: Option<Message>,
}

/// A message of ACS, reduced to ordinary words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("ACS said: {0}")]
pub(super) struct Message(String);

/// Reads an error body. `private` are values of the request that a message may repeat and that must not be kept.
pub(super) fn read(body: &[u8], private: &[&str]) -> Fault {
    let Ok(Value::Object(body)) = serde_json::from_slice::<Value>(body) else { return Fault::default() };
    let (code, target, message) = match field(&body, "error").or_else(|| field(&body, "communicationerror")) {
        Some(Value::Object(error)) => (text(error, "code"), text(error, "target"), text(error, "message")),
        Some(Value::String(code)) => (Some(code.as_str()), None, None),
        _ => outside_an_envelope(&body),
    };
    Fault {
        code: code.and_then(word),
        target: target.and_then(word),
        message: message.and_then(|message| reduce(message, private)).map(Message),
    }
}

type Parts<'a> = (Option<&'a str>, Option<&'a str>, Option<&'a str>);

/// Problem details (RFC 9457, with ASP.NET's `errors`), or a bare map from fields to complaints.
fn outside_an_envelope(body: &Map<String, Value>) -> Parts<'_> {
    let complaints = match field(body, "errors") {
        Some(Value::Object(errors)) => errors,
        _ => body,
    };
    let complaint = complaints.iter().find_map(|(name, complaint)| match complaint {
        Value::Array(list) => Some((name.as_str(), list.first()?.as_str()?)),
        _ => None,
    });
    let message = complaint.map(|(_, message)| message).or_else(|| text(body, "title"));
    (text(body, "code"), complaint.map(|(name, _)| name), message)
}

/// A field by name, whatever its case: ACS writes both `error.code` and `CommunicationError.Code`.
fn field<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    field(object, name)?.as_str()
}

/// A code as it may be shown: 1 to 64 ASCII letters, digits, `.`, `_`, `-`.
pub(super) fn word(code: &str) -> Option<String> {
    let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let code: String = code.chars().filter(allowed).take(MAX_CODE).collect();
    (!code.is_empty()).then_some(code)
}

/// A message reduced to ordinary words and short numbers; anything else, and any private value, becomes `…`.
pub(super) fn reduce(message: &str, private: &[&str]) -> Option<String> {
    let mut message: String = message.chars().take(4 * MAX_MESSAGE).collect();
    for value in private {
        message = without(&message, value);
    }
    let words: Vec<&str> =
        message.split_whitespace().map(|word| if is_ordinary(word) { word } else { "…" }).collect();
    let reduced: String = words.join(" ").chars().take(MAX_MESSAGE).collect();
    (!reduced.is_empty()).then_some(reduced)
}

/// `text` with each occurrence of `value` replaced, in whatever case.
fn without(text: &str, value: &str) -> String {
    if value.is_empty() {
        return text.to_owned();
    }
    // Lower-casing ASCII alone keeps byte positions, so that they are valid in the original.
    let (haystack, needle) = (text.to_ascii_lowercase(), value.to_ascii_lowercase());
    let (mut kept, mut from) = (String::with_capacity(text.len()), 0);
    for (at, found) in haystack.match_indices(&needle) {
        kept.push_str(text.get(from..at).unwrap_or_default());
        kept.push('…');
        from = at + found.len();
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// Words such as `ExpiresInMinutes`, `x-ms-content-sha256` or `[60,`: no ids, numbers, addresses, tokens.
fn is_ordinary(word: &str) -> bool {
    let core = word.trim_matches(|c: char| c.is_ascii_punctuation());
    let digits = core.bytes().filter(u8::is_ascii_digit).count();
    core.len() <= 24
        && digits <= 4
        && core.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && word.len() <= core.len() + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parts(body: &str) -> (String, String, String) {
        let fault = read(body.as_bytes(), &[]);
        let message = fault.message.map(|message| message.0);
        (fault.code.unwrap_or_default(), fault.target.unwrap_or_default(), message.unwrap_or_default())
    }

    #[test]
    fn every_envelope_that_acs_was_seen_to_answer_is_read() {
        for (body, code, target, message) in [
            (
                r#"{"error":{"code":"ValidationError","target":"ExpiresInMinutes","message":"ExpiresInMinutes value 59 is invalid. Value must be within the [60, 1440] interval."}}"#,
                "ValidationError",
                "ExpiresInMinutes",
                "ExpiresInMinutes value 59 is invalid. Value must be within the [60, 1440] interval.",
            ),
            (
                r#"{"error":{"code":"X","message":"m","target":null,"details":null,"innererror":null}}"#,
                "X",
                "",
                "m",
            ),
            (
                r#"{"CommunicationError":{"Code":"Forbidden","Message":"The initiator is not allowed","Details":[]}}"#,
                "Forbidden",
                "",
                "The initiator is not allowed",
            ),
            (
                r#"{"From":["Invalid from phone number format."]}"#,
                "",
                "From",
                "Invalid from phone number format.",
            ),
            (
                r#"{"type":"t","title":"One or more validation errors occurred.","status":400,"errors":{"To":["bad"]},"traceId":"x"}"#,
                "",
                "To",
                "bad",
            ),
            (r#"{"type":"t","title":"Not Found","status":404,"traceId":"x"}"#, "", "", "Not Found"),
            (r#"{"error":"invalid_request"}"#, "invalid_request", "", ""),
            ("", "", "", ""),
            ("<html><body>502 Bad Gateway</body></html>", "", "", ""),
            ("[1,2]", "", "", ""),
            (r#"{"error":{"code":7,"message":[]}}"#, "", "", ""),
            (r#"{"error":{"code":"<b>\n' or 1","message":""}}"#, "bor1", "", ""),
        ] {
            assert_eq!(parts(body), (code.into(), target.into(), message.into()), "{body}");
        }
    }

    #[test]
    fn ids_numbers_addresses_and_tokens_do_not_survive_in_messages() {
        let body = r#"{"error":{"code":"c","message":"Identity 8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429 of alice@example.com (+14255550123) with token eyJhbGciOiJSUzI1NiJ9.eyJzIjoxfQ.c2ln and id AliceB is unknown. GUID 1b3c5d7e-0000-4000-8000-0123456789ab"}}"#;
        let (_, _, message) = {
            let fault = read(body.as_bytes(), &["aliceb"]);
            (fault.code, fault.target, fault.message.unwrap().to_string())
        };
        assert_eq!(message, "ACS said: Identity … of … … with token … and id … is unknown. GUID …");
    }

    proptest! {
        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&body, &["x"]);
        }

        #[test]
        fn private_values_never_survive(private in "[a-zA-Z ]{2,12}", before in ".{0,20}", after in ".{0,20}") {
            let private = private.trim();
            prop_assume!(!private.is_empty() && !"ACS said".to_lowercase().contains(&private.to_lowercase()));
            let body = serde_json::json!({"error": {"code": "x", "message": format!("{before} {private} {after}")}});
            let fault = read(body.to_string().as_bytes(), &[private]);
            if let Some(message) = fault.message {
                prop_assert!(!message.0.to_lowercase().contains(&private.to_lowercase()), "{}", message);
            }
        }

        #[test]
        fn codes_keep_to_their_alphabet(code in ".{0,100}") {
            if let Some(word) = word(&code) {
                prop_assert!((1..=64).contains(&word.len()));
                prop_assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            }
        }
    }
}
