//! What a chat request may hold: the limits of ACS, checked before anybody is asked.
//!
//! Pure. All violations of a request are reported together, none repeats a value. Used by `chat` and its parts.

use std::collections::HashSet;

use super::{MARK, NewParticipant};
use crate::broker::error::{Error, FieldViolation};
use crate::messaging::ports::Metadata;

/// The longest text in bytes of UTF-8, the most participants of a request, and the longest names (Microsoft Learn,
/// "Service limits for Azure Communication Services", chat).
const MAX_TEXT: usize = 28 * 1024;
const MAX_PARTICIPANTS: usize = 200;
const MAX_TOPIC: usize = 1024;
const MAX_NAME: usize = 256;
/// ACS takes 1 KiB of metadata; the rest is for the broker's own mark.
const MAX_METADATA: usize = 960;

/// Gathers what is wrong with a request.
#[derive(Default)]
pub(super) struct Check(Vec<FieldViolation>);

impl Check {
    fn wrong(&mut self, field: impl Into<String>, what: impl Into<String>) {
        self.0.push(FieldViolation::new(field, what));
    }

    /// Nothing is wrong, or everything that is.
    pub(super) fn done(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::InvalidField(self.0)) }
    }

    /// A thread's id; what ACS makes of it is for ACS to say.
    pub(super) fn thread(mut self, id: &str) -> Self {
        self.id("thread_id", id, 256);
        self
    }

    /// A message's id.
    pub(super) fn message(mut self, id: &str) -> Self {
        self.id("message_id", id, 64);
        self
    }

    fn id(&mut self, field: &str, id: &str, most: usize) {
        if id.is_empty() || id.len() > most {
            self.wrong(field, format!("must have 1 to {most} bytes"));
        } else if !id.bytes().all(|byte| byte.is_ascii_graphic()) || id == "." || id == ".." {
            self.wrong(field, "must be an id that ACS gave out");
        }
    }

    pub(super) fn topic(mut self, topic: &str) -> Self {
        if !(1..=MAX_TOPIC).contains(&topic.len()) {
            let what = format!("must have 1 to {MAX_TOPIC} bytes of UTF-8, has {}", topic.len());
            self.wrong("topic", what);
        } else if topic.chars().any(char::is_control) {
            self.wrong("topic", "must not hold control characters");
        }
        self
    }

    pub(super) fn text(mut self, text: &str) -> Self {
        if !(1..=MAX_TEXT).contains(&text.len()) {
            self.wrong("text", format!("must have 1 to {MAX_TEXT} bytes of UTF-8, has {}", text.len()));
        }
        self
    }

    pub(super) fn name(mut self, field: &str, name: &str) -> Self {
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            self.wrong(field, format!("must have at most {MAX_NAME} bytes and no control characters"));
        }
        self
    }

    pub(super) fn metadata(mut self, metadata: &Metadata) -> Self {
        let size: usize = metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if size > MAX_METADATA {
            let what =
                format!("must have at most {MAX_METADATA} bytes, keys and values together, has {size}");
            self.wrong("metadata", what);
        }
        if metadata.keys().any(String::is_empty) {
            self.wrong("metadata", "must not have an empty key");
        }
        if metadata.keys().any(|key| key.eq_ignore_ascii_case(MARK)) {
            self.wrong("metadata", format!("must not have the key {MARK}, which is the broker's"));
        }
        self
    }

    /// Participants to add: `least` to 200 together with those who are there anyway, each once.
    pub(super) fn participants(mut self, list: &[NewParticipant], least: usize, there: usize) -> Self {
        let most = MAX_PARTICIPANTS - there.min(MAX_PARTICIPANTS);
        if !(least..=most).contains(&list.len()) {
            let what = format!("must have {least} to {most} entries, has {}", list.len());
            self.wrong("participants", what);
        }
        let mut seen = HashSet::new();
        for (index, one) in list.iter().enumerate() {
            if !seen.insert(&one.user) {
                self.wrong(format!("participants[{index}].party.user_id"), "must not be repeated");
            }
            self = self.name(&format!("participants[{index}].display_name"), &one.display_name);
        }
        self
    }
}
