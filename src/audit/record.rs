//! What is recorded, and how it is written: JSON members in a fixed order, one line each.
//!
//! By construction nothing here holds a token, a user id, a number, an address or a text: whoever is concerned is in a
//! record as a keyed hash, made where it is noted (`trail`). Words are static, but for the caller's name, the request id,
//! ACS's ids of messages, and the details of events, which come from settings and from nobody's request.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;

use super::chain::{hex, push_hex};
use super::trail::{Noted, Rpc};
use crate::clock::Timestamp;

/// No record is longer, with its number and its hash. What callers choose is bounded where they are listened to: request
/// ids have 128 bytes, names of callers 64.
pub(super) const LONGEST_LINE: usize = 32_768;

/// Somebody or something that is concerned, as a kind and a keyed hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) kind: &'static str,
    pub(super) hash: [u8; 16],
}

/// The most ids of one record: an SMS has 100 recipients, each with a message of its own.
pub(super) const MOST_IDS: usize = 100;

/// What ACS calls a message: its own logs have the same. Empty if it is nothing that could be such an id, so that no
/// number, address or text gets in with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MessageId(Box<str>);

impl MessageId {
    /// The longest one.
    const MOST_BYTES: usize = 128;

    pub(super) fn of(id: &str) -> Self {
        let is_one = id.len() <= Self::MOST_BYTES
            && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
        Self(if is_one { id.into() } else { "".into() })
    }
}

/// What was decided about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may be done.
    Allowed,
    /// It may not; a stable word says why.
    Refused(&'static str),
    /// It may for now, but not under the rules that are tried out; the word says why.
    WouldRefuse(&'static str),
}

/// A record.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) at: Timestamp,
    pub(super) what: What,
}

/// What there are records of.
#[derive(Debug)]
pub(super) enum What {
    /// A call ended.
    Call { rpc: Arc<Rpc>, code: &'static str, reason: Option<&'static str>, took: Duration },
    /// A call may go on, and nothing of it has been done yet.
    Decision { rpc: Arc<Rpc> },
    /// Something was done, or tried, at ACS or in the store.
    Effect {
        rpc: Option<Arc<Rpc>>,
        name: &'static str,
        outcome: &'static str,
        count: u32,
        on: Vec<Subject>,
        ids: Vec<MessageId>,
    },
    /// Requests of nobody who is known ended for one reason, so many since the last such record. Without a reason nobody
    /// decided.
    Refusals { rpc: &'static str, why: Option<&'static str>, count: u64 },
    /// Something happened to the process or its rules.
    Event { name: &'static str, details: Vec<(&'static str, String)> },
}

/// What a crash left behind the last whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: [u8; 32],
}

impl Torn {
    fn write(&self, to: &mut String) {
        let _ = write!(to, ",\"torn_bytes\":{},\"torn_sha256\":\"{}\"", self.bytes, hex(&self.sha256));
    }
}

/// The first line of a file.
pub(super) struct FileHead<'a> {
    pub(super) chain: &'a str,
    pub(super) part: u64,
    pub(super) key: &'a str,
    pub(super) prev: &'a [u8; 32],
    pub(super) torn: Option<&'a Torn>,
}

impl FileHead<'_> {
    pub(super) fn write(&self, at: Timestamp, to: &mut String) {
        begin(at, "file", to);
        let Self { chain, part, key, prev, torn } = self;
        let prev = hex(*prev);
        let _ = write!(
            to,
            ",\"format\":1,\"chain\":\"{chain}\",\"part\":{part},\"key\":\"{key}\",\"prev\":\"{prev}\""
        );
        if let Some(torn) = torn {
            torn.write(to);
        }
    }
}

/// The line that closes what a crash left in the same file.
pub(super) fn write_recovered(at: Timestamp, torn: &Torn, to: &mut String) {
    begin(at, "event", to);
    member("event", "recovered", to);
    torn.write(to);
}

impl Record {
    /// Appends the members of this record.
    pub(super) fn write(&self, to: &mut String) {
        match &self.what {
            What::Call { rpc, code, reason, took } => {
                begin(self.at, "call", to);
                rpc.write(to);
                rpc.with_noted(|noted| {
                    decision(noted.decision, to);
                    concerned(noted, to);
                    let mut effects = noted.effects.iter().peekable();
                    if effects.peek().is_some() {
                        to.push_str(",\"effects\":{");
                        list(effects, to, |(name, count), to| {
                            let _ = write!(to, "\"{name}\":{count}");
                        });
                        to.push('}');
                    }
                    if noted.degraded {
                        to.push_str(",\"degraded\":true");
                    }
                });
                member("code", code, to);
                if let Some(reason) = reason {
                    member("reason", reason, to);
                }
                let _ = write!(to, ",\"ms\":{}", took.as_millis());
            }
            What::Decision { rpc } => {
                begin(self.at, "decision", to);
                rpc.write(to);
                rpc.with_noted(|noted| {
                    decision(noted.decision, to);
                    concerned(noted, to);
                });
            }
            What::Effect { rpc, name, outcome, count, on, ids } => {
                begin(self.at, "effect", to);
                if let Some(rpc) = rpc {
                    rpc.write(to);
                }
                member("effect", name, to);
                member("outcome", outcome, to);
                let _ = write!(to, ",\"count\":{count}");
                subjects(on.iter().copied(), to);
                if !ids.is_empty() {
                    to.push_str(",\"message_ids\":[");
                    list(ids.iter(), to, |MessageId(id), to| {
                        let _ = write!(to, "\"{id}\"");
                    });
                    to.push(']');
                }
            }
            What::Refusals { rpc, why, count } => {
                begin(self.at, "refusals", to);
                member("rpc", rpc, to);
                decision(why.map(Decision::Refused), to);
                let _ = write!(to, ",\"count\":{count}");
            }
            What::Event { name, details } => {
                begin(self.at, "event", to);
                member("event", name, to);
                for (key, value) in details {
                    member(key, value, to);
                }
            }
        }
    }
}

fn begin(at: Timestamp, kind: &str, to: &mut String) {
    to.push_str("\"time\":\"");
    push_time(at, to);
    let _ = write!(to, "\",\"kind\":\"{kind}\"");
}

/// RFC 3339 in UTC, always with milliseconds.
pub(super) fn push_time(at: Timestamp, to: &mut String) {
    let nanos = i128::from(at.as_millis()) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    let (hour, minute, second, milli) = (time.hour(), time.minute(), time.second(), time.millisecond());
    let _ = write!(to, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z");
}

/// A member whose value is a text.
pub(super) fn member(key: &str, value: &str, to: &mut String) {
    to.push_str(",\"");
    to.push_str(key);
    to.push_str("\":");
    let plain = |byte: u8| byte.is_ascii() && !byte.is_ascii_control() && byte != b'"' && byte != b'\\';
    if value.bytes().all(plain) {
        to.push('"');
        to.push_str(value);
        to.push('"');
    } else {
        // A text always becomes JSON.
        to.push_str(&serde_json::to_string(value).unwrap_or_else(|_| "\"\"".into()));
    }
}

fn list<T>(values: impl Iterator<Item = T>, to: &mut String, mut write: impl FnMut(T, &mut String)) {
    for (index, value) in values.enumerate() {
        if index > 0 {
            to.push(',');
        }
        write(value, to);
    }
}

fn decision(decision: Option<Decision>, to: &mut String) {
    let (word, why) = match decision {
        // The call ended before anybody decided: it could not be read, or there was no room for it.
        None => ("none", None),
        Some(Decision::Allowed) => ("allowed", None),
        Some(Decision::Refused(why)) => ("refused", Some(why)),
        Some(Decision::WouldRefuse(why)) => ("would_refuse", Some(why)),
    };
    member("decision", word, to);
    if let Some(why) = why {
        member("why", why, to);
    }
}

/// For whom, and what.
fn concerned(noted: &Noted, to: &mut String) {
    let mut scopes = noted.scopes.iter().peekable();
    if scopes.peek().is_some() {
        to.push_str(",\"scopes\":[");
        list(scopes, to, |scope, to| {
            let _ = write!(to, "\"{scope}\"");
        });
        to.push(']');
    }
    subjects(noted.subjects.iter(), to);
    if noted.subjects.left_out() > 0 {
        let _ = write!(to, ",\"for_more\":{}", noted.subjects.left_out());
    }
}

fn subjects(subjects: impl Iterator<Item = Subject>, to: &mut String) {
    let mut subjects = subjects.peekable();
    if subjects.peek().is_some() {
        to.push_str(",\"for\":[");
        list(subjects, to, |subject, to| {
            to.push('"');
            to.push_str(subject.kind);
            to.push(':');
            push_hex(to, &subject.hash);
            to.push('"');
        });
        to.push(']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_to_the_millisecond() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_120, "2023-11-14T22:13:20.120Z"),
            (u64::MAX, "1970-01-01T00:00:00.000Z"),
        ] {
            let mut to = String::new();
            push_time(Timestamp::from_millis(millis), &mut to);
            assert_eq!(to, text);
        }
    }

    #[test]
    fn only_what_could_be_an_id_of_acs_gets_into_a_record() {
        for id in [
            "Outgoing_20200610203725bfd4ba70-bbe1-41b5-a2c9-6ed0d2b9a1b5_noam",
            "1591137790240",
            "00000000-0000-4000-8000-000000000001",
            &"x".repeat(128),
        ] {
            assert_eq!(&*MessageId::of(id).0, id);
        }
        for other in ["+14255550123", "a@example.com", "two words", "a\"b", "é", "8:acs:x", &"x".repeat(129)]
        {
            assert_eq!(MessageId::of(other), MessageId::of(""), "{other}");
        }
    }

    #[test]
    fn texts_cannot_leave_their_member() {
        for value in ["plain", "a\"b", "a\\", "line\nend", "\u{7f}\u{2028}é", ""] {
            let mut to = String::from("{\"a\":1");
            member("b", value, &mut to);
            to.push('}');
            let read: serde_json::Value = serde_json::from_str(&to).unwrap();
            assert_eq!(read["b"], value);
            assert!(!to.contains('\n'), "{to:?}");
        }
    }
}
