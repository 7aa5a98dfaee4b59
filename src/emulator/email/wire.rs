//! The JSON body of a mail, and the refusals of the Email API.
//!
//! Pure: a text in, a mail out. Unknown properties are ignored and `null` means absent. The first field that is wrong is
//! named. Codes and texts that ACS was never seen to send are guesses, listed in docs/emulator.md. Used by `email`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::body::Bytes;
use serde_json::{Map, Value, json};

use super::address;
use crate::emulator::answer::{self, Answer};
use crate::emulator::version::Version;

/// The largest request, attachments in base64 included.
const MAX_REQUEST: usize = 10 * 1024 * 1024;
/// The most recipients: to, cc and bcc together.
const MAX_RECIPIENTS: usize = 50;

/// A mail to send.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Mail {
    pub(super) sender: String,
    pub(super) subject: String,
    pub(super) plain_text: Option<String>,
    pub(super) html: Option<String>,
    pub(super) to: Vec<Address>,
    pub(super) cc: Vec<Address>,
    pub(super) bcc: Vec<Address>,
    pub(super) reply_to: Vec<Address>,
    /// Names and values, which are texts.
    pub(super) headers: Map<String, Value>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) is_tracking_disabled: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) address: String,
    pub(super) display_name: Option<String>,
}

/// A file that came with a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emulator) struct Attachment {
    pub(in crate::emulator) name: String,
    pub(in crate::emulator) content_type: String,
    pub(in crate::emulator) bytes: Bytes,
    /// By what the HTML refers to it.
    pub(in crate::emulator) content_id: Option<String>,
}

type Read<T> = Result<T, Box<Answer>>;

impl Mail {
    /// To, cc and bcc.
    pub(super) fn recipients(&self) -> impl Iterator<Item = &Address> {
        self.to.iter().chain(&self.cc).chain(&self.bcc)
    }
}

/// Reads a mail in a version of the API.
pub(super) fn mail(body: &[u8], version: Version) -> Read<Mail> {
    if body.len() > MAX_REQUEST {
        let message = "The request, attachments included, is larger than 10 MB.";
        return Err(Box::new(answer::email_error(413, "RequestEntityTooLarge", message, None)));
    }
    let body = object(body)?;
    let Some(sender) = text(&body, "", "senderAddress")? else { return Err(required("senderAddress")) };
    if !address::is_address(&sender) {
        return Err(no_address("senderAddress"));
    }
    let Some(content) = child(&body, "content")? else { return Err(required("content")) };
    let subject = text(content, "content.", "subject")?.unwrap_or_default();
    if subject.is_empty() {
        return Err(required("content.subject"));
    }
    if breaks_a_line(&subject) {
        return Err(bad("content.subject", "must not hold a line break"));
    }
    let plain_text = text(content, "content.", "plainText")?.filter(|text| !text.is_empty());
    let html = text(content, "content.", "html")?.filter(|text| !text.is_empty());
    if plain_text.is_none() && html.is_none() {
        return Err(bad("content", "must have plainText or html"));
    }
    let Some(recipients) = child(&body, "recipients")? else { return Err(required("recipients")) };
    let mail = Mail {
        sender,
        subject,
        plain_text,
        html,
        to: addresses(recipients, "recipients.", "to")?,
        cc: addresses(recipients, "recipients.", "cc")?,
        bcc: addresses(recipients, "recipients.", "bcc")?,
        reply_to: addresses(&body, "", "replyTo")?,
        headers: headers(&body)?,
        attachments: attachments(&body, version)?,
        is_tracking_disabled: match property(&body, "userEngagementTrackingDisabled") {
            None => false,
            Some(Value::Bool(disabled)) => *disabled,
            Some(_) => return Err(bad("userEngagementTrackingDisabled", "must be true or false")),
        },
    };
    match mail.recipients().count() {
        0 => Err(bad("recipients", "must hold at least one address")),
        1..=MAX_RECIPIENTS => Ok(mail),
        _ => Err(bad("recipients", "must hold at most 50 addresses, to, cc and bcc together")),
    }
}

fn object(body: &[u8]) -> Read<Map<String, Value>> {
    // serde_json stops at 128 levels of nesting, so a hostile body cannot exhaust the stack.
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(bad("emailMessage", "must be a JSON object")),
    }
}

/// A list of addresses; none if it is not there.
fn addresses(parent: &Map<String, Value>, path: &str, name: &str) -> Read<Vec<Address>> {
    let path = format!("{path}{name}");
    let items = list(parent, &path, name)?;
    // Before they are copied: a request of 10 MB could hold half a million.
    if items.len() > MAX_RECIPIENTS {
        return Err(bad(&path, "must hold at most 50 addresses"));
    }
    let mut addresses = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = format!("{path}[{index}]");
        let Value::Object(item) = item else { return Err(bad(&path, "must be an object")) };
        let prefix = format!("{path}.");
        let target = format!("{path}.address");
        let Some(address) = text(item, &prefix, "address")? else { return Err(required(&target)) };
        if !address::is_address(&address) {
            return Err(no_address(&target));
        }
        let display_name = text(item, &prefix, "displayName")?;
        if display_name.as_deref().is_some_and(breaks_a_line) {
            return Err(bad(&format!("{path}.displayName"), "must not hold a line break"));
        }
        addresses.push(Address { address, display_name });
    }
    Ok(addresses)
}

fn headers(body: &Map<String, Value>) -> Read<Map<String, Value>> {
    let Some(headers) = child(body, "headers")? else { return Ok(Map::new()) };
    for (name, value) in headers {
        // RFC 5322: printable ASCII but the colon.
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            return Err(bad("headers", "has a name that is no header's"));
        }
        match value {
            Value::String(value) if !breaks_a_line(value) => {}
            Value::String(_) => return Err(bad("headers", "has a value with a line break")),
            _ => return Err(bad("headers", "has a value that is no text")),
        }
    }
    Ok(headers.clone())
}

fn attachments(body: &Map<String, Value>, version: Version) -> Read<Vec<Attachment>> {
    let mut attachments = Vec::new();
    for (index, item) in list(body, "attachments", "attachments")?.iter().enumerate() {
        let path = format!("attachments[{index}]");
        let Value::Object(item) = item else { return Err(bad(&path, "must be an object")) };
        let prefix = format!("{path}.");
        let line = |name: &str| {
            let target = format!("{prefix}{name}");
            match text(item, &prefix, name)? {
                Some(line) if breaks_a_line(&line) => Err(bad(&target, "must not hold a line break")),
                line => Ok(line.filter(|line| !line.is_empty())),
            }
        };
        let Some(name) = line("name")? else { return Err(required(&format!("{path}.name"))) };
        let Some(content_type) = line("contentType")? else {
            return Err(required(&format!("{path}.contentType")));
        };
        let target = format!("{path}.contentInBase64");
        let bytes = match property(item, "contentInBase64") {
            None => return Err(required(&target)),
            Some(Value::String(content)) => STANDARD.decode(content).ok(),
            Some(_) => None,
        };
        let Some(bytes) = bytes else { return Err(bad(&target, "must be base64")) };
        let is_known = version >= Version::EMAIL_2025;
        let content_id = if is_known { line("contentId")? } else { None };
        attachments.push(Attachment { name, content_type, bytes: bytes.into(), content_id });
    }
    Ok(attachments)
}

fn list<'b>(parent: &'b Map<String, Value>, path: &str, name: &str) -> Read<&'b [Value]> {
    match property(parent, name) {
        None => Ok(&[]),
        Some(Value::Array(items)) => Ok(items),
        Some(_) => Err(bad(path, "must be a list")),
    }
}

fn child<'b>(parent: &'b Map<String, Value>, name: &str) -> Read<Option<&'b Map<String, Value>>> {
    match property(parent, name) {
        None => Ok(None),
        Some(Value::Object(map)) => Ok(Some(map)),
        Some(_) => Err(bad(name, "must be an object")),
    }
}

fn text(parent: &Map<String, Value>, path: &str, name: &str) -> Read<Option<String>> {
    match property(parent, name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(bad(&format!("{path}{name}"), "must be a text")),
    }
}

/// A property that is there; `null` is not.
fn property<'b>(object: &'b Map<String, Value>, name: &str) -> Option<&'b Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// Whether a text could end the line of a header it is put into.
fn breaks_a_line(text: &str) -> bool {
    text.contains(['\r', '\n', '\0'])
}

fn required(target: &str) -> Box<Answer> {
    bad(target, "is required")
}

/// A field is wrong. `why` never holds what was in the field.
pub(super) fn bad(target: &str, why: &str) -> Box<Answer> {
    Box::new(answer::email_error(400, "BadRequest", &format!("{target} {why}."), Some(target)))
}

fn no_address(target: &str) -> Box<Answer> {
    Box::new(answer::email_error(
        400,
        "InvalidEmailAddress",
        "Invalid format for email address",
        Some(target),
    ))
}

/// The sender's domain is not the resource's.
pub(super) fn not_linked() -> Box<Answer> {
    let message = "The specified sender domain has not been linked.";
    Box::new(answer::email_error(404, "DomainNotLinked", message, None))
}

/// There is no such operation.
pub(super) fn no_operation() -> Box<Answer> {
    Box::new(answer::email_error(404, "NotFound", "The operation was not found.", None).naming_versions())
}

/// Addresses as the inbox shows them.
pub(super) fn shown(addresses: &[Address]) -> Value {
    addresses
        .iter()
        .map(|address| json!({ "address": address.address, "display_name": address.display_name }))
        .collect()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
