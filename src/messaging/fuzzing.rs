//! Fuzz targets: what messaging reads back from the store, and the checks of a mail.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::duplicates::Mark;
use super::email::{check_content, check_recipients};
use super::record::Record;
use super::types::{Channel, EmailAddress, MessageId, Number};
use super::{Event, SendEmail};
use crate::broker::error::Error;
use crate::broker::types::{IdentityId, UserId};
use crate::fuzzing::{Input, assert_silent};

/// Everything that can be wrong with a mail before anybody is asked.
pub(crate) fn check_mail(mail: &SendEmail) -> Result<(), Error> {
    let mut violations = Vec::new();
    check_recipients(mail, &mut violations);
    check_content(mail, &mut violations);
    // The names of headers are names of fields, which a refusal must tell.
    violations.retain(|violation| !violation.field.starts_with("headers["));
    if violations.is_empty() { Ok(()) } else { Err(Error::InvalidField(violations)) }
}

/// Records of messages, marks of their content and events as the store keeps them.
pub fn records(data: &[u8]) {
    match Record::read(data) {
        Ok(record) => {
            let bytes = record.bytes();
            let again = Record::read(&bytes).expect("what was written is read");
            assert_eq!(again.bytes(), bytes);
        }
        Err(error) => assert_silent("an error", &format!("{error} {error:?}")),
    }
    match Mark::read(data) {
        Ok(mark) => {
            let bytes = mark.bytes();
            assert_eq!(Mark::read(&bytes).expect("what was written is read").bytes(), bytes);
        }
        Err(error) => assert_silent("an error", &format!("{error} {error:?}")),
    }
    if let Ok(event) = serde_json::from_slice::<Event>(data) {
        let bytes = serde_json::to_vec(&event).expect("an event is written");
        let again: Event = serde_json::from_slice(&bytes).expect("what was written is read");
        assert!(again == event);
    }
}

/// Ids, numbers and addresses as callers write them.
pub fn names(data: &[u8]) {
    let mut input = Input(data);
    let text = String::from_utf8_lossy(input.line()).into_owned();
    let name = input.text();
    let said = |what: &str, invalid: crate::broker::types::Invalid| assert_silent(what, &invalid.to_string());
    match Number::parse(&text) {
        Ok(number) => {
            assert_eq!(number.as_str(), text);
            let bytes = number.as_str().as_bytes();
            assert!(bytes.len() <= 16 && bytes[0] == b'+' && bytes[1..].iter().all(u8::is_ascii_digit));
            assert!(!format!("{number:?}").contains(&text));
        }
        Err(invalid) => said("a refused number", invalid),
    }
    match EmailAddress::parse(&text, &name) {
        Ok(address) => {
            assert!(!address.address().contains(|c: char| c.is_control() || c.is_whitespace()));
            assert!(!address.domain().is_empty() && address.address().ends_with(address.domain()));
            assert!(!address.display_name().contains(['\r', '\n', '\0']), "a name breaks a header");
            assert!(!address.address().contains([',', '<', '>']));
            let again = EmailAddress::parse(address.address(), address.display_name());
            assert!(again.is_ok_and(|again| again.address() == address.address()));
        }
        Err(invalid) => said("a refused address", invalid),
    }
    for channel in [Channel::Sms, Channel::Email] {
        match MessageId::parse(channel, &text) {
            Ok(id) => assert_eq!(id.as_str(), text),
            Err(invalid) => said("a refused message id", invalid),
        }
    }
    match UserId::of_caller(&text) {
        Ok(user) => {
            assert!(user.as_str() == text && !user.is_service());
            let shown = format!("{user:?}");
            let hash = shown.strip_prefix("UserId(#").and_then(|rest| rest.strip_suffix(')'));
            let is_hash = |hash: &str| hash.len() == 8 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(hash.is_some_and(is_hash), "Debug shows a user id");
        }
        Err(invalid) => said("a refused user id", invalid),
    }
    match IdentityId::parse(&text) {
        Ok(id) => assert_eq!(id.as_str(), text),
        Err(invalid) => said("a refused identity", invalid),
    }
}
