//! What the commands read and write, and how they end.
//!
//! Commands write through [`Io`], never to the process's own streams, so that tests can read them. Answers go to `out`,
//! everything else to `err`.

use std::io::{BufRead, Write};

use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::clock::Timestamp;
use crate::grpc::client::Failure;

/// The streams of a command.
pub(super) struct Io<'a> {
    /// Where a file named `-` is read from.
    pub input: Box<dyn BufRead + 'a>,
    /// Answers.
    pub out: Box<dyn Write + 'a>,
    /// Everything else.
    pub err: Box<dyn Write + 'a>,
}

/// How a command ended; becomes the exit code of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Exit {
    /// It did what was asked.
    Success = 0,
    /// It failed, and the same command would fail again.
    Failure = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// What was asked for does not exist.
    NotFound = 3,
    /// Not now: the same command may succeed later.
    TryAgain = 4,
}

/// Why a command could not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// The API refused.
    Refused(Box<Failure>),
    /// Something else; told to the user as it is.
    Because(Exit, String),
    /// Nobody reads the answer any more.
    OutputClosed,
}

impl From<Failure> for Stop {
    fn from(failure: Failure) -> Self {
        Self::Refused(Box::new(failure))
    }
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Because(Exit::Failure, format!("cannot write the answer ({})", error.kind()))
        }
    }
}

impl Stop {
    /// Tells the user why, and returns the exit code.
    pub(super) fn tell(&self, err: &mut dyn Write, as_json: bool) -> Exit {
        // If even standard error is closed there is nobody left to tell.
        match self {
            Self::OutputClosed => Exit::Failure,
            Self::Because(exit, message) => {
                let _ = if as_json {
                    writeln!(err, "{}", json!({"error": {"message": message}}))
                } else {
                    writeln!(err, "error: {message}")
                };
                *exit
            }
            Self::Refused(failure) => {
                let text = if as_json { failure_json(failure) } else { failure_text(failure) };
                let _ = writeln!(err, "{text}");
                match failure.code {
                    "NOT_FOUND" => Exit::NotFound,
                    _ if failure.is_passing() => Exit::TryAgain,
                    _ => Exit::Failure,
                }
            }
        }
    }
}

fn failure_json(failure: &Failure) -> String {
    let fields: Vec<_> = failure
        .fields
        .iter()
        .map(|(field, description)| json!({"field": field, "description": description}))
        .collect();
    json!({"error": {
        "code": failure.code,
        "reason": failure.reason,
        "message": failure.message,
        "retry_after_seconds": failure.retry_after.map(|after| after.as_secs_f64()),
        "fields": fields,
        "request_id": failure.request_id,
    }})
    .to_string()
}

fn failure_text(failure: &Failure) -> String {
    let mut lines = vec![format!("error: {}", failure.message)];
    match &failure.reason {
        Some(reason) => lines.push(format!("  reason   {reason} ({})", failure.code)),
        None => lines.push(format!("  code     {}", failure.code)),
    }
    for (field, description) in &failure.fields {
        lines.push(format!("  field    {field} {description}"));
    }
    if let Some(after) = failure.retry_after {
        lines.push(format!("  retry    after {}", crate::duration::text(after)));
    } else if failure.is_passing() {
        lines.push("  retry    may succeed later".into());
    }
    if let Some(id) = &failure.request_id {
        lines.push(format!("  request  {id}"));
    }
    lines.extend(hint(failure).map(str::to_owned));
    lines.join("\n")
}

/// What to look at, if a call failed without an answer: each of a broker's has a reason.
pub(super) fn hint(failure: &Failure) -> Option<&'static str> {
    let broke_off = failure.reason.is_none() && failure.request_id.is_none();
    (broke_off && matches!(failure.code, "UNKNOWN" | "CANCELLED")).then_some(
        "  hint     the connection was closed before a broker answered. Does it speak TLS (https://)?\n           \
         Does it ask for a client certificate (--cert, --key) of an authority it trusts?",
    )
}

/// A time as RFC 3339 in UTC, to the millisecond.
pub(super) fn rfc3339(time: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(time.as_millis()) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "out of range".into())
}

/// The time that an RFC 3339 text names.
pub(super) fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok().map(Timestamp::from_millis)
}

/// Reads a duration on the command line.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    humantime::parse_duration(text).map_err(|_| "must be a duration such as 30s, 15m or 24h".into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn failure(code: &'static str) -> Failure {
        Failure {
            code,
            message: "no".into(),
            reason: Some("WHY".into()),
            retry_after: Some(Duration::from_millis(1500)),
            fields: vec![("user_id".into(), "must not be empty".into())],
            request_id: Some("r1".into()),
        }
    }

    #[test]
    fn exit_codes_tell_what_to_do() {
        for (code, exit) in [
            ("NOT_FOUND", Exit::NotFound),
            ("UNAVAILABLE", Exit::TryAgain),
            ("RESOURCE_EXHAUSTED", Exit::TryAgain),
            ("ABORTED", Exit::TryAgain),
            ("INVALID_ARGUMENT", Exit::Failure),
            ("INTERNAL", Exit::Failure),
        ] {
            assert_eq!(Stop::from(failure(code)).tell(&mut Vec::new(), false), exit, "{code}");
        }
    }

    #[test]
    fn a_failure_is_told_in_full() {
        let mut text = Vec::new();
        Stop::from(failure("UNAVAILABLE")).tell(&mut text, false);
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "error: no\n  reason   WHY (UNAVAILABLE)\n  field    user_id must not be empty\n  \
             retry    after 1s 500ms\n  request  r1\n"
        );
        let mut text = Vec::new();
        Stop::from(failure("UNAVAILABLE")).tell(&mut text, true);
        let error: serde_json::Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(error["error"]["retry_after_seconds"], 1.5);
        assert_eq!(error["error"]["fields"][0]["field"], "user_id");
    }

    #[test]
    fn a_call_that_no_broker_answered_is_told_with_what_to_look_at() {
        let told = |code, reason: Option<&str>| {
            let failure = Failure { reason: reason.map(str::to_owned), request_id: None, ..failure(code) };
            let mut text = Vec::new();
            Stop::from(failure).tell(&mut text, false);
            String::from_utf8(text).unwrap()
        };
        for code in ["UNKNOWN", "CANCELLED"] {
            assert!(told(code, None).contains("https://") && told(code, None).contains("--cert"), "{code}");
            assert!(!told(code, Some("WHY")).contains("hint"), "a broker has answered: {code}");
        }
        assert!(!told("NOT_FOUND", None).contains("hint"));
    }

    #[test]
    fn times_survive_being_written_and_read() {
        for millis in [0, 1, 1_700_000_000_123, 253_402_300_799_999] {
            let time = Timestamp::from_millis(millis);
            assert_eq!(parse_rfc3339(&rfc3339(time)), Some(time), "{millis}");
        }
        assert_eq!(rfc3339(Timestamp::from_millis(u64::MAX)), "out of range");
        assert_eq!(rfc3339(Timestamp::from_millis(1_700_000_000_120)), "2023-11-14T22:13:20.12Z");
    }
}
