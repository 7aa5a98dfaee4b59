//! The emulator's own paths under `/_emulator/`, for tests that run it in another process.
//!
//! Only peers on this machine may use them, and no web page: a request with an `Origin`, or for a host that is not
//! loopback, is refused, so that neither a foreign site nor a rebound name can reach them. Not part of ACS.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answer::{self, Answer};
use super::calls::Count;
use super::faults::{Commit, Effect, Fault, LONGEST};
use super::operation::Operation;
use super::service::{Origin, ReplyBody, Shared};

/// More waiting faults than this are refused over HTTP.
const MAX_FAULTS: usize = 1000;

/// `POST /_emulator/faults`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultRequest {
    operation: Operation,
    effect: EffectName,
    #[serde(default)]
    status: Option<u16>,
    #[serde(default)]
    retry_after_seconds: Option<u64>,
    #[serde(default)]
    commit: CommitName,
    #[serde(default)]
    delay_ms: u64,
    /// How many requests it strikes; absent: until the next reset.
    #[serde(default)]
    count: Option<u64>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum EffectName {
    Proceed,
    Answer,
    Drop,
    Hang,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "snake_case")]
enum CommitName {
    #[default]
    Before,
    After,
}

/// What a control request is answered with.
pub(super) enum Reply {
    /// An answer like any other.
    Answer(Answer),
    /// A response that goes on until the caller has enough.
    Stream(http::Response<ReplyBody>),
}

/// Answers a control request; `path` is what follows `/_emulator/`, in segments.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    origin: Origin,
    head: &http::request::Parts,
    path: &[String],
    body: &[u8],
) -> Reply {
    Reply::Answer(answer(shared, origin.peer, head, &path.join("/"), body))
}

fn answer(shared: &Shared, peer: SocketAddr, head: &http::request::Parts, path: &str, body: &[u8]) -> Answer {
    if !peer.ip().to_canonical().is_loopback() || !is_from_no_web_page(head) {
        let message = "The emulator's control paths are for programs on this machine.";
        return answer::error(403, "Forbidden", message, None);
    }
    match (head.method.as_str(), path) {
        ("GET", "calls") => answer::json(200, &calls(shared)),
        ("GET", "identities") => {
            let ids = shared.state().alive_ids();
            answer::json(200, &json!({ "alive": ids.len(), "ids": ids }))
        }
        ("POST", "faults") => match fault(body) {
            Ok(_) if shared.faults.pending() >= MAX_FAULTS => {
                answer::error(400, "TooManyFaults", "Too many faults are waiting. Reset the emulator.", None)
            }
            Ok((operation, fault, Some(count))) => {
                shared.faults.next(operation, fault, count);
                answer::no_content()
            }
            Ok((operation, fault, None)) => {
                shared.faults.until_cleared(operation, fault);
                answer::no_content()
            }
            Err(problem) => answer::error(400, "InvalidFault", &problem, None),
        },
        ("POST", "reset") => {
            shared.reset();
            answer::no_content()
        }
        _ => answer::error(404, "NotFound", "There is no such control path. See docs/emulator.md.", None),
    }
}

/// The calls of each operation.
fn calls(shared: &Shared) -> Map<String, Value> {
    Operation::ALL
        .iter()
        .map(|operation| (operation.name().to_owned(), shared.calls.get(Count::Calls, *operation).into()))
        .collect()
}

fn fault(body: &[u8]) -> Result<(Operation, Fault, Option<u64>), String> {
    let request: FaultRequest = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let effect = match (request.effect, request.status) {
        (EffectName::Answer, Some(status)) if (400..600).contains(&status) => {
            Effect::Answer { status, retry_after_seconds: request.retry_after_seconds }
        }
        (EffectName::Answer, _) => return Err("an answer needs a status from 400 to 599".to_owned()),
        (EffectName::Proceed, _) => Effect::Proceed,
        (EffectName::Drop, _) => Effect::Drop,
        (EffectName::Hang, _) => Effect::Hang,
    };
    let commit = match request.commit {
        CommitName::Before => Commit::Before,
        CommitName::After => Commit::After,
    };
    let delay = Duration::from_millis(request.delay_ms).min(LONGEST);
    Ok((request.operation, Fault { delay, effect, commit }, request.count))
}

/// Browsers send `Origin` with every POST; and a name that was rebound to this machine shows in `Host`.
fn is_from_no_web_page(head: &http::request::Parts) -> bool {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let host: http::uri::Authority = match host.parse() {
        Ok(host) => host,
        Err(_) => return false,
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    let is_loopback =
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback());
    is_loopback && !head.headers.contains_key(header::ORIGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_all_its_parts() {
        let read = fault(
            br#"{"operation":"issue_token","effect":"answer","status":503,"retry_after_seconds":2,
                 "commit":"after","delay_ms":100,"count":3}"#,
        );
        let wanted =
            Fault::status(503).with_retry_after(2).after_commit().delayed(Duration::from_millis(100));
        assert_eq!(read, Ok((Operation::IssueToken, wanted, Some(3))));
        assert_eq!(
            fault(br#"{"operation":"any","effect":"hang"}"#),
            Ok((Operation::Any, Fault::hang(), None))
        );
    }

    #[test]
    fn a_fault_that_makes_no_sense_is_refused() {
        for body in [
            "",
            "[]",
            r#"{"operation":"any"}"#,
            r#"{"operation":"sms","effect":"drop"}"#,
            r#"{"operation":"any","effect":"answer"}"#,
            r#"{"operation":"any","effect":"answer","status":200}"#,
            r#"{"operation":"any","effect":"drop","times":1}"#,
        ] {
            assert!(fault(body.as_bytes()).is_err(), "{body}");
        }
    }
}
