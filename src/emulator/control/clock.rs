//! The emulator's clock: reading it, and moving it ahead.

use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::super::answer::{self, Answer};
use super::super::shared::Shared;
use super::super::times;
use super::request::{self, Refusal, invalid};

/// The furthest that one request moves the clock.
const FURTHEST: Duration = Duration::from_hours(24 * 365);

/// `POST clock`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Advance {
    #[serde(default)]
    advance: Option<String>,
    #[serde(default)]
    advance_ms: Option<u64>,
}

/// `GET clock`.
pub(super) fn show(shared: &Shared) -> Answer {
    answer::json(200, &json!({ "now": times::iso_8601(shared.clock.now()), "ahead_ms": ahead(shared) }))
}

pub(super) fn ahead(shared: &Shared) -> u64 {
    u64::try_from(shared.clock.ahead().as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn advance(shared: &Shared, body: &[u8]) -> Result<Answer, Refusal> {
    let by = read(body)?;
    shared.advance(by);
    Ok(show(shared))
}

fn read(body: &[u8]) -> Result<Duration, Refusal> {
    let Advance { advance, advance_ms } = request::object(body)?;
    let (field, by) = match (advance, advance_ms) {
        (Some(text), None) => {
            let by = humantime::parse_duration(&text)
                .map_err(|_| invalid("advance", "must be a duration such as \"90s\" or \"12h\""))?;
            ("advance", by)
        }
        (None, Some(millis)) => ("advance_ms", Duration::from_millis(millis)),
        _ => return Err(invalid("advance", "or advance_ms must be there, not both")),
    };
    if by > FURTHEST {
        return Err(invalid(field, "must be 365 days at the most"));
    }
    Ok(by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_is_a_duration_or_milliseconds_up_to_a_year() {
        for (body, wanted) in [
            (r#"{"advance":"12h"}"#, Some(Duration::from_hours(12))),
            (r#"{"advance_ms":1500}"#, Some(Duration::from_millis(1500))),
            (r#"{"advance_ms":0}"#, Some(Duration::ZERO)),
            (r#"{"advance":"365d"}"#, Some(FURTHEST)),
            (r#"{"advance":"365d 1ms"}"#, None),
            (r#"{"advance_ms":31536000001}"#, None),
            (r#"{"advance":"soon"}"#, None),
            (r#"{"advance":"-1h"}"#, None),
            (r#"{"advance":"1h","advance_ms":1}"#, None),
            (r#"{"advance_ms":-1}"#, None),
            (r#"{"to":"2030"}"#, None),
            ("{}", None),
        ] {
            assert_eq!(read(body.as_bytes()).ok(), wanted, "{body}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic_and_no_jump_is_longer_than_a_year(text in "\\PC{0,30}") {
            if let Ok(by) = read(json!({ "advance": text }).to_string().as_bytes()) {
                proptest::prop_assert!(by <= FURTHEST);
            }
        }
    }
}
