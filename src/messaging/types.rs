//! The words of messaging: numbers, addresses, states. Each value is valid once it exists.
//!
//! No type here has a `Debug` that shows a number, an address or a text. Parsing says what is wrong without repeating
//! the value.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::broker::types::{Caller, Invalid};
use crate::clock::Timestamp;

/// A telephone number in E.164 form: `+`, then 7 to 15 digits, the first of them not 0.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Number(String);

impl Number {
    /// Checks and takes a number.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid("must be a telephone number in E.164 form, such as +14255550123".into());
        let digits = text.strip_prefix('+').ok_or_else(wrong)?;
        let is_well_formed = (7..=15).contains(&digits.len())
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && !digits.starts_with('0');
        if is_well_formed { Ok(Self(text.to_owned())) } else { Err(wrong()) }
    }

    /// The number itself; never to be logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Number {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        Self::parse(&text)
    }
}

impl From<Number> for String {
    fn from(number: Number) -> Self {
        number.0
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Number(…)")
    }
}

/// A mail address with the name it is shown with.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EmailAddress {
    address: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    display_name: String,
}

impl EmailAddress {
    /// Checks and takes an address: one `@` between a local part of 1 to 64 bytes and a domain with a dot, 254 bytes in
    /// all, no white space or control character; and a name of at most 256 bytes without control characters.
    pub fn parse(address: &str, display_name: &str) -> Result<Self, Invalid> {
        let wrong = || Invalid("must be a mail address, such as someone@example.com".into());
        let (local, domain) = address.rsplit_once('@').ok_or_else(wrong)?;
        let is_hidden = |c: char| c.is_whitespace() || c.is_control();
        let labels_are_fine = domain.split('.').count() >= 2
            && domain.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || c == '-' || !(c.is_ascii() || is_hidden(c)))
            });
        let local_is_fine = (1..=64).contains(&local.len())
            && !local.starts_with('.')
            && !local.ends_with('.')
            && !local.contains("..")
            && local.chars().all(|c| !is_hidden(c) && !r#"@"(),:;<>[\]"#.contains(c));
        if address.len() > 254 || !local_is_fine || !labels_are_fine {
            return Err(wrong());
        }
        if display_name.len() > 256 || display_name.chars().any(char::is_control) {
            return Err(Invalid("must have a name of at most 256 bytes without control characters".into()));
        }
        Ok(Self { address: address.to_owned(), display_name: display_name.to_owned() })
    }

    /// The address itself; never to be logged.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The name; empty for none.
    pub fn display_name(&self) -> &str {
        &self.display_name
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.address.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl fmt::Debug for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(…)")
    }
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// SMS.
    Sms,
    /// E-mail.
    Email,
    /// A chat message or thread.
    Chat,
}

impl Channel {
    /// Its name: in ids, metrics, logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sms => "sms",
            Self::Email => "email",
            Self::Chat => "chat",
        }
    }
}

/// Names a request for ever: made of who asked and under which request id, so that asking again names the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(String);

impl MessageId {
    /// The id of a caller's request.
    pub fn of(channel: Channel, caller: &Caller, request: &uuid::Uuid) -> Self {
        let digest = Sha256::new()
            .chain_update("acsbroker.v1.message\0")
            .chain_update(channel.name())
            .chain_update([0])
            .chain_update(caller.name())
            .chain_update([0])
            .chain_update(request.as_bytes())
            .finalize();
        let hex: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Self(format!("{}_{hex}", channel.name()))
    }

    /// Reads an id that was given out: the channel's name, `_`, 32 hexadecimal digits.
    pub fn parse(channel: Channel, text: &str) -> Result<Self, Invalid> {
        let hex = text.strip_prefix(channel.name()).and_then(|rest| rest.strip_prefix('_'));
        let is_ours =
            |hex: &&str| hex.len() == 32 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match hex.filter(is_ours) {
            Some(_) => Ok(Self(text.to_owned())),
            None => Err(Invalid("must be an id that this service gave out".into())),
        }
    }

    /// Whether it is one of this channel.
    pub fn is_of(&self, channel: Channel) -> bool {
        self.0.strip_prefix(channel.name()).is_some_and(|rest| rest.starts_with('_'))
    }

    /// An id as the store keeps it. It was valid when it was written.
    pub fn stored(text: String) -> Self {
        Self(text)
    }

    /// The id itself. It tells nothing of caller or request, and may be logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// An id for ACS that is the same whenever it is made for the same part of the same request.
    pub fn upstream(&self, part: &str) -> uuid::Uuid {
        uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, format!("acsbroker:{}/{part}", self.0).as_bytes())
    }
}

/// How far a message to one recipient has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// The broker has it; ACS may not have seen it yet.
    Accepted,
    /// It was sent to ACS and no answer came.
    Unknown,
    /// ACS has it.
    Sent,
    /// It will not arrive.
    Failed,
    /// It arrived.
    Delivered,
}

impl State {
    /// Whether nothing can change any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Delivered | Self::Failed)
    }

    /// Whether a message in this state may go over to `next`: only ever forward.
    pub const fn may_become(self, next: Self) -> bool {
        match self {
            Self::Accepted => true,
            Self::Unknown => !matches!(next, Self::Accepted),
            Self::Sent => matches!(next, Self::Failed | Self::Delivered),
            Self::Failed | Self::Delivered => false,
        }
    }

    /// Its name in metrics and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unknown => "unknown",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
        }
    }
}

/// Why a message failed, in terms of the channel. Never holds a number, an address or a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The channel's code; empty if none is known.
    pub code: String,
    /// What the channel says about it, reduced to ordinary words; at most 1 KiB.
    pub detail: String,
}

/// What became of a message for one recipient.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The number or address, as it was asked for.
    pub to: String,
    /// ACS's id of the message, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_id: Option<String>,
    /// How far it has come.
    pub state: State,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When the state was last learnt.
    pub updated: Timestamp,
}

/// What a request is asked for by: the id that was given out, or the caller's own request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageName {
    /// The id.
    Id(MessageId),
    /// The request id.
    Request(uuid::Uuid),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_an_address_hides_what_cannot_be_seen() {
        for good in ["a@example.com", "ä@bücher.example", "a@xn--bcher-kva.example", "a+b@例え.テスト"]
        {
            assert!(EmailAddress::parse(good, "").is_ok(), "{good}");
        }
        for hidden in ['\0', '\t', ' ', '\u{7f}', '\u{85}', '\u{9b}', '\u{a0}', '\u{2028}', '\u{3000}'] {
            for bad in [format!("a{hidden}@example.com"), format!("a@exa{hidden}mple.com")] {
                assert!(EmailAddress::parse(&bad, "").is_err(), "{bad:?}");
            }
        }
    }
}
