//! The control paths as one table, and which of them a request asks for.
//!
//! Pure. A path that is not in the table is named and refused; so is a method that its path does not have.

use super::super::answer;
use super::request::Refusal;

/// What a control request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Home,
    Page,
    Status,
    Messages,
    Message,
    Wait,
    Assert,
    Threads,
    Identities,
    Seed,
    ReceiveSms,
    Engage,
    MailPart,
    ListFaults,
    AddFault,
    ClearFaults,
    Clock,
    Advance,
    Rotate,
    Calls,
    Log,
    LogText,
    Events,
    Validate,
    Webhooks,
    SetWebhooks,
    Reset,
    Stream,
}

/// Method, path and action; `{}` is a parameter.
const TABLE: &[(&str, &[&str], Action)] = &[
    ("GET", &[], Action::Home),
    ("GET", &[""], Action::Page),
    ("GET", &["status"], Action::Status),
    ("GET", &["messages"], Action::Messages),
    ("POST", &["messages", "wait"], Action::Wait),
    ("POST", &["messages", "assert"], Action::Assert),
    ("GET", &["messages", "{}"], Action::Message),
    ("GET", &["threads"], Action::Threads),
    ("GET", &["identities"], Action::Identities),
    ("POST", &["identities"], Action::Seed),
    ("POST", &["sms", "inbound"], Action::ReceiveSms),
    ("POST", &["emails", "{}", "engagement"], Action::Engage),
    ("GET", &["emails", "{}", "source"], Action::MailPart),
    ("GET", &["emails", "{}", "preview"], Action::MailPart),
    ("GET", &["emails", "{}", "attachments", "{}"], Action::MailPart),
    ("GET", &["faults"], Action::ListFaults),
    ("POST", &["faults"], Action::AddFault),
    ("DELETE", &["faults"], Action::ClearFaults),
    ("GET", &["clock"], Action::Clock),
    ("POST", &["clock"], Action::Advance),
    ("POST", &["keys", "rotate"], Action::Rotate),
    ("GET", &["calls"], Action::Calls),
    ("GET", &["calls", "log"], Action::Log),
    ("GET", &["calls", "log.txt"], Action::LogText),
    ("GET", &["events"], Action::Events),
    ("GET", &["events", "validate"], Action::Validate),
    ("POST", &["events", "validate"], Action::Validate),
    ("GET", &["webhooks"], Action::Webhooks),
    ("PUT", &["webhooks"], Action::SetWebhooks),
    ("POST", &["reset"], Action::Reset),
    ("GET", &["stream"], Action::Stream),
];

const PARAMETER: &str = "{}";

/// The action and the parameters of its path.
pub(super) fn route<'p>(method: &str, path: &[&'p str]) -> Result<(Action, Vec<&'p str>), Refusal> {
    // The first row whose path fits says which path it is, so that `messages/wait` is never the message called `wait`.
    let Some((_, wanted, _)) = TABLE.iter().find(|(_, wanted, _)| fits(wanted, path)) else {
        return Err(unknown(path));
    };
    let rows = || TABLE.iter().filter(|(_, each, _)| each == wanted);
    let Some((_, _, action)) = rows().find(|(each, _, _)| *each == method) else {
        let allowed: Vec<&str> = rows().map(|(method, _, _)| *method).collect();
        let message = format!("/_emulator/{} is asked for with {}.", wanted.join("/"), allowed.join(", "));
        let refusal = answer::error(405, "MethodNotAllowed", &message, None);
        return Err(Box::new(refusal.with_header("allow", allowed.join(", "))));
    };
    let given = wanted.iter().zip(path).filter(|(segment, _)| **segment == PARAMETER);
    Ok((*action, given.map(|(_, text)| *text).collect()))
}

fn fits(wanted: &[&str], path: &[&str]) -> bool {
    wanted.len() == path.len()
        && wanted.iter().zip(path).all(|(wanted, segment)| {
            if *wanted == PARAMETER { !segment.is_empty() } else { wanted == segment }
        })
}

fn unknown(path: &[&str]) -> Refusal {
    let path: String = path.join("/").chars().take(100).collect();
    let message = format!("There is no control path /_emulator/{path}. See docs/emulator.md.");
    Box::new(answer::error(404, "NotFound", &message, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_reached_by_its_own_method_and_path() {
        for (method, path, action) in TABLE {
            let path: Vec<&str> =
                path.iter().map(|part| if *part == PARAMETER { "19:a@thread.v2/7" } else { part }).collect();
            let (found, parameters) = route(method, &path).unwrap();
            assert_eq!(found, *action);
            assert!(parameters.iter().all(|parameter| *parameter == "19:a@thread.v2/7"));
        }
    }

    #[test]
    fn unknown_paths_and_methods_are_told_apart_and_named() {
        for path in [&["keys"][..], &["status", ""], &["messages", ""], &["emails", "x"], &["faults", "1"]] {
            let refusal = route("GET", path).unwrap_err();
            assert_eq!(refusal.status, 404, "{path:?}");
            assert!(String::from_utf8_lossy(&refusal.body).contains(&path.join("/")), "{path:?}");
        }
        for (method, path, allowed) in [
            ("DELETE", &["calls"][..], "GET"),
            ("GET", &["messages", "wait"], "POST"),
            ("PUT", &["faults"], "GET, POST, DELETE"),
            ("HEAD", &[""], "GET"),
        ] {
            let refusal = route(method, path).unwrap_err();
            assert_eq!(refusal.status, 405, "{method} {path:?}");
            assert_eq!(refusal.headers, [("allow", allowed.to_owned())]);
        }
    }
}
