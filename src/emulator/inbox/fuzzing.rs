//! Fuzz target: the parts of a mail that the inbox hands out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::super::answer::Answer;
use super::super::email::Attachment;
use super::mail;
use crate::fuzzing::Input;

/// Names of files and previews: the first lines are an attachment's name, id and type, then comes HTML.
pub(in crate::emulator) fn parts(data: &[u8]) {
    let mut input = Input(data);
    let mut line = || String::from_utf8_lossy(input.line()).into_owned();
    let (name, id, content_type) = (line(), line(), line());
    let html = input.text();

    let clean = mail::file_name(&name);
    assert!(!clean.is_empty() && clean.chars().count() <= 121, "{clean:?}");
    assert!(!clean.contains(['/', '\\', '"', ':']) && !clean.contains(char::is_control), "{clean:?}");
    assert!(!clean.starts_with('.') && !clean.ends_with(['.', ' ']), "{clean:?}");
    // But for the longest names of devices, which have a character more than others.
    assert!(clean.chars().count() > 120 || mail::file_name(&clean) == clean, "{clean:?} is not clean");

    let file = |bytes: &'static [u8]| Attachment {
        name: name.clone(),
        content_type: content_type.clone(),
        bytes: bytes.into(),
        content_id: Some(id.clone()),
    };
    looked_at(&mail::attachment(file(b"bytes")));
    let preview = mail::preview(&html, [file(b"\x89PNG"), file(b"")].into_iter());
    looked_at(&preview);
    assert!(preview.body.len() <= 32 * 1024 * 1024 + html.len());
    looked_at(&mail::source(html));
}

/// No answer is a document, and its headers are headers.
fn looked_at(answer: &Answer) {
    assert!(answer.status == 200);
    let is_document = answer.content_type.is_some_and(|kind| kind.contains("html") || kind.contains("svg"));
    assert!(!is_document, "{:?}", answer.content_type);
    for (name, value) in &answer.headers {
        http::HeaderValue::from_str(value).unwrap_or_else(|_| panic!("{name}: {value:?}"));
    }
}
