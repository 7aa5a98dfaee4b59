//! Fuzz targets: what is posted to the webhook, by Event Grid or by anybody.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use http::{HeaderName, HeaderValue, Request};

use super::read::{self, Malformed, Post};
use super::{MAX_BODY, MAX_EVENTS, caller, shape, words};
use crate::clock::Timestamp;
use crate::fuzzing::{CANARY, Input};
use crate::messaging::{Event, Happened};
use crate::secret::Secret;

/// The longest text of an event.
const LONGEST: usize = 65_536;

fn depth(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(items) => 1 + items.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// A body: its shape, and what is read of it.
pub fn events(data: &[u8]) {
    if data.len() > MAX_BODY || !shape::is_sane(data) {
        return;
    }
    if let Ok(value) = serde_json::from_slice::<serde_json::Value>(data) {
        assert!(depth(&value) <= 32, "deeper than its shape allows");
    }
    let now = Timestamp::from_millis(1_795_348_800_123);
    match read::read(data, MAX_EVENTS, now) {
        Ok(Post::Validation(code)) => assert!((1..=1024).contains(&code.len())),
        Ok(Post::Events(events)) => {
            assert!(events.len() <= MAX_EVENTS);
            for event in events.into_iter().flatten() {
                looked_at(&event);
            }
        }
        Err(Malformed::Event(place)) => assert!(place >= 1),
        Err(Malformed::Body | Malformed::TooMany) => {}
    }
}

fn looked_at(event: &Event) {
    assert!((1..=1024).contains(&event.id.len()) && !event.id.contains(char::is_control));
    let bytes = serde_json::to_vec(event).expect("an event is kept");
    let again: Event = serde_json::from_slice(&bytes).expect("what is kept is read");
    assert!(again == *event, "an event is another after the store");
    if let Happened::SmsDelivery { detail, .. } | Happened::EmailDelivery { detail, .. } = &event.happened {
        assert!(detail.code.len() <= 64 && detail.detail.chars().count() <= 300);
        assert!(!detail.detail.contains(['@', '+']) && !detail.detail.contains(char::is_control));
        assert_eq!(words::ordinary(&detail.detail), detail.detail, "reduced words are ordinary");
    }
    if let Happened::SmsReceived { text, .. } | Happened::Chat { text, .. } = &event.happened {
        assert!(text.len() <= LONGEST);
    }
}

/// Who posts: the first line is the target, the others are headers. Nobody is known who does not bring the secret.
pub fn callers(data: &[u8]) {
    let secret = format!("s3cret/{CANARY}");
    let mut input = Input(data);
    let target = String::from_utf8_lossy(input.line()).into_owned();
    let mut request = Request::builder().uri(target);
    while !input.is_empty() {
        let mut line = Input(input.line());
        let name = HeaderName::from_bytes(line.until(b":"));
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.0.trim_ascii())) else { continue };
        request = request.header(name, value);
        if request.headers_ref().is_some_and(|headers| headers.len() > 100) {
            break;
        }
    }
    let Ok(request) = request.body(()) else { return };
    let head = request.into_parts().0;
    if caller::knows_secret(&head, &Secret::new(secret.clone())) {
        let decoded = percent_encoding::percent_decode(data).decode_utf8_lossy();
        assert!(decoded.contains(&secret), "somebody is known who did not bring the secret");
    }
}
