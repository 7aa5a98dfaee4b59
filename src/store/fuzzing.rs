//! Fuzz targets: bytes that somebody else may have written into the store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::keys::Keys;
use super::{codec, records};
use crate::broker::ports::StoreError;
use crate::broker::types::UserId;
use crate::fuzzing::{Input, assert_silent};

fn silent(error: &StoreError) {
    let (StoreError::Corrupt(cause) | StoreError::Unavailable(cause)) = error;
    assert_silent("the error of a record", &format!("{error} {error:?} {cause} {cause:?}"));
}

/// Records of every kind: refused, or exactly what an encoder writes. The first byte says which.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let which = input.byte();
    let bytes = input.0;
    match which % 6 {
        0 => match codec::decode_identity(bytes) {
            Ok(record) => assert_eq!(codec::encode_identity(&record), bytes),
            Err(error) => silent(&error),
        },
        1 => match codec::decode_token(bytes) {
            Ok(token) => {
                assert_eq!(codec::encode_token(&token).as_slice(), bytes);
                assert_silent("Debug of a token", &format!("{token:?}"));
                let view = codec::TokenView::read(bytes).expect("a token is a view");
                assert!(view.generation == token.generation && view.expires_at == token.token.expires_at);
            }
            Err(error) => silent(&error),
        },
        2 => match codec::decode_ledger(bytes) {
            Ok(entry) => assert_eq!(codec::encode_ledger(&entry.digest, entry.outcome.as_deref()), bytes),
            Err(error) => silent(&error),
        },
        3 => match records::decode_message(bytes) {
            Ok(message) => assert_eq!(records::encode_message(message.version, &message.bytes), bytes),
            Err(error) => silent(&error),
        },
        4 => match records::decode_link(bytes) {
            Ok((id, part)) => assert_eq!(records::encode_link(&id, part), bytes),
            Err(error) => silent(&error),
        },
        _ => {
            let keys = Keys::new("acsb");
            if let Some(last) = keys.read_page_token(bytes) {
                assert_eq!(keys.page_token(&last), bytes);
            }
            if let Ok(user) = UserId::parse(&input.text()) {
                let token = keys.page_token(&user);
                assert!(keys.read_page_token(&token).as_ref() == Some(&user) && token.len() <= 512);
                assert_ne!(keys.record(&user), keys.tokens(&user));
            }
        }
    }
}
