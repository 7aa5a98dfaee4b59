//! What the emulator was asked to send, in one shape for all services: how the inbox and the control paths see it.
//!
//! Each service keeps its own messages and shows them in this shape; nothing is kept twice. `Bounds` says how much a
//! service may keep. Used by `sms`, `email`, `chat`, and read by `control`.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Sms,
    Email,
    Chat,
}

/// A message in a list.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Message {
    /// Grows across messages of all kinds; see `Feed::next_sequence`.
    pub(super) sequence: u64,
    pub(super) kind: Kind,
    /// SMS: the message id. E-mail: the operation id. Chat: thread id, a slash, message id.
    pub(super) id: String,
    /// When it was taken in, ISO 8601, by the emulator's clock.
    pub(super) at: String,
    /// `outbound`: the resource sent it. `inbound`: somebody sent it to the resource (SMS only).
    pub(super) direction: &'static str,
    /// Number, address, or raw id of the sender.
    pub(super) from: String,
    /// The name that the sender goes by, if any.
    pub(super) from_name: Option<String>,
    /// Numbers or addresses: to, cc and bcc. Of a chat message, none.
    pub(super) to: Vec<String>,
    /// Of a mail, its subject; of a chat message, the topic of its thread.
    pub(super) subject: Option<String>,
    /// The text; of a mail the plain text, or what is left of the HTML without its tags.
    pub(super) text: String,
    /// The status in the service's own words, such as `Queued`, `Delivered`, `Failed`, `Running`, `Succeeded`.
    pub(super) status: String,
    /// The thread it is in (chat).
    pub(super) thread: Option<String>,
    /// How many files are attached (e-mail).
    pub(super) attachments: usize,
    /// The tag it was sent with (SMS).
    pub(super) tag: Option<String>,
}

/// A message with everything there is to know: the list's fields, and under `detail` what only its kind has.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Detailed {
    #[serde(flatten)]
    pub(super) message: Message,
    pub(super) detail: Value,
}

/// How much a service may keep. Beyond it the oldest goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Messages.
    pub(super) count: usize,
    /// How old a message may become, by the emulator's clock.
    pub(super) age: Duration,
    /// All that is kept of them together, in bytes.
    pub(super) bytes: usize,
}
