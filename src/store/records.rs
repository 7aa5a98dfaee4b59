//! The bytes of messaging's records, the same in every backend; `codec` has those of identities and tokens.
//!
//! Integers are big-endian. What a message record means is not known here and never looked at. Bytes that no encoder
//! here wrote are `StoreError::Corrupt`: never a panic, never a guess.
//!
//! | record | layout (bytes) |
//! |---|---|
//! | message | layout 1 · version 8 · the record |
//! | link | layout 1 · part 4 · message id |

use std::sync::Arc;

use crate::broker::ports::StoreError;
use crate::messaging::ports::Versioned;
use crate::messaging::types::MessageId;

/// The layout this code writes, and the only one it reads.
const LAYOUT: u8 = 1;

#[derive(Debug, thiserror::Error)]
#[error("a stored {0} cannot be read: it is damaged, or a newer program wrote it")]
struct Unreadable(&'static str);

fn unreadable(what: &'static str) -> StoreError {
    StoreError::Corrupt(Arc::new(Unreadable(what)))
}

/// What the bytes of a message of this version start with.
pub(super) fn message_head(version: u64) -> [u8; 9] {
    let mut head = [LAYOUT; 9];
    if let Some((_, rest)) = head.split_first_mut() {
        rest.copy_from_slice(&version.to_be_bytes());
    }
    head
}

pub(super) fn encode_message(version: u64, record: &[u8]) -> Vec<u8> {
    [message_head(version).as_slice(), record].concat()
}

/// The version, and where the record itself starts.
pub(super) fn message_version(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    match bytes.split_first_chunk::<9>() {
        Some(([LAYOUT, version @ ..], record)) => Ok((u64::from_be_bytes(*version), record)),
        _ => Err(unreadable("message")),
    }
}

pub(super) fn decode_message(bytes: &[u8]) -> Result<Versioned, StoreError> {
    message_version(bytes).map(|(version, record)| Versioned { version, bytes: record.to_vec() })
}

pub(super) fn encode_link(id: &MessageId, part: u32) -> Vec<u8> {
    [&[LAYOUT], part.to_be_bytes().as_slice(), id.as_str().as_bytes()].concat()
}

pub(super) fn decode_link(bytes: &[u8]) -> Result<(MessageId, u32), StoreError> {
    match bytes.split_first_chunk::<5>() {
        Some(([LAYOUT, part @ ..], id)) => Ok((message_id(id)?, u32::from_be_bytes(*part))),
        _ => Err(unreadable("link")),
    }
}

/// An id that the store kept.
pub(super) fn message_id(bytes: &[u8]) -> Result<MessageId, StoreError> {
    let text = std::str::from_utf8(bytes).map_err(|_| unreadable("message id"))?;
    Ok(MessageId::stored(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(version: u64, record: Vec<u8>, part: u32, id in "[a-z_0-9ü]{0,60}") {
            let bytes = encode_message(version, &record);
            prop_assert!(bytes.starts_with(&message_head(version)));
            let read = decode_message(&bytes).unwrap();
            prop_assert_eq!((read.version, read.bytes), (version, record));
            let id = MessageId::stored(id);
            prop_assert_eq!(decode_link(&encode_link(&id, part)).unwrap(), (id, part));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _ = (decode_message(&bytes), decode_link(&bytes), message_id(&bytes));
        }
    }

    #[test]
    fn bytes_that_are_short_or_of_another_layout_are_corrupt() {
        for bytes in [&b""[..], &[1; 8], &[2; 30]] {
            assert!(matches!(decode_message(bytes), Err(StoreError::Corrupt(_))));
        }
        for bytes in [&b""[..], &[1; 4], &[2; 30]] {
            assert!(matches!(decode_link(bytes), Err(StoreError::Corrupt(_))));
        }
    }
}
