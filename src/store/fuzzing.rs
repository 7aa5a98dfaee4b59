//! Fuzz targets: bytes that somebody else may have written into the store.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use super::keys::Keys;
use super::seal::{KeyRing, Kind, Vault};
use super::{codec, records};
use crate::broker::ports::StoreError;
use crate::broker::types::UserId;
use crate::fuzzing::{CANARY, Input, assert_silent};
use crate::messaging::types::MessageId;

pub(super) fn silent(error: &StoreError) {
    let (StoreError::Corrupt(cause) | StoreError::Unavailable(cause)) = error;
    assert_silent("the error of a record", &format!("{error} {error:?} {cause} {cause:?}"));
}

/// Records of every kind: refused, or exactly what an encoder writes. The first byte says which.
pub fn records(data: &[u8]) {
    let mut input = Input(data);
    let which = input.byte();
    let bytes = input.0;
    match which % 6 {
        0 => match codec::decode_mapping(bytes) {
            Ok((record, kept)) => {
                assert_eq!(codec::encode_mapping(&record, kept), bytes);
                assert!(codec::decode_identity(bytes).is_ok_and(|alone| alone == record));
            }
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
        3 => {
            let (plain, id) = (Vault::plain(), MessageId::stored("sms_1".to_owned()));
            match records::decode_message(&plain, &id, bytes) {
                Ok(message) => {
                    let written = records::encode_message(&plain, &id, message.version, &message.bytes);
                    let written = written.expect("a message is kept");
                    let read = records::decode_message(&plain, &id, &written).expect("what is kept is read");
                    assert!(read.version == message.version && read.bytes == message.bytes);
                }
                Err(error) => silent(&error),
            }
        }
        4 => match records::decode_link(bytes) {
            Ok((id, part)) => assert_eq!(records::encode_link(&id, part), bytes),
            Err(error) => silent(&error),
        },
        _ => {
            let (keys, vault) = (Keys::new("acsb", Vault::plain()), Vault::plain());
            if let Some(last) = keys.read_page_token(bytes) {
                assert_eq!(keys.page_token(&last), bytes);
            }
            if let Ok(user) = UserId::parse(&input.text()) {
                let name = vault.name(&user);
                let token = keys.page_token(&name);
                assert!(keys.read_page_token(&token).as_ref() == Some(&name) && token.len() <= 512);
                assert_ne!(keys.record(&name), keys.tokens(&name));
            }
        }
    }
}

/// A file of keys. No error shows a part of it.
pub fn key_files(data: &[u8]) {
    let text = Input(data).text();
    match KeyRing::parse(&text) {
        Ok(ring) => {
            let ids = ring.ids();
            assert!((1..=32).contains(&ids.len()));
            let mut once = ids.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), ids.len(), "two keys of one id");
            assert_eq!(ring.replace(&text), Ok(false), "the same keys are no others");
        }
        Err(error) => assert_silent("a refused key file", &format!("{error} {error:?}")),
    }
}

/// Envelopes: what somebody else wrote does not open, and what was sealed opens nowhere else. The first byte says what
/// they are said to be.
pub fn envelopes(data: &[u8]) {
    const KINDS: [Kind; 2] = [Kind::Message, Kind::Event];
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let vault = Vault::with_a_known_key();
    let (kind, other) = (KINDS[which % 2], KINDS[(which + 1) % 2]);
    let place = input.line();
    let bytes = input.0;
    match vault.open(kind, &[place], bytes) {
        // Without an envelope it is read as it is, for that is how older records are; marked ones are never guessed.
        Ok(opened) => assert!(opened.len() <= bytes.len() && bytes.ends_with(&opened)),
        Err(why) => assert_silent("an envelope", &format!("{why:?} {}", StoreError::from(why))),
    }
    let sealed = vault.close(kind, &[place], bytes).expect("it is sealed");
    assert!(bytes.len() < 16 || !sealed.windows(bytes.len()).any(|window| window == bytes), "it can be read");
    assert_eq!(vault.open(kind, &[place], &sealed).expect("it opens where it belongs"), bytes);
    assert!(vault.open(kind, &[place, CANARY.as_bytes()], &sealed).is_err(), "it opens in another place");
    assert!(vault.open(other, &[place], &sealed).is_err(), "it opens as another kind");
    let mut changed = sealed;
    let at = which * 7 % changed.len();
    changed[at] ^= 1;
    if let Ok(opened) = vault.open(kind, &[place], &changed) {
        // Only the mark itself can be changed, which makes it a record that was never sealed.
        assert!(at < 2 && opened != bytes, "a changed envelope opens");
    }
}

/// Replies of Redis to every command there is.
pub fn replies(data: &[u8]) {
    super::redis::fuzzing::replies(data);
}
