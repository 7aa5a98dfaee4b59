//! The bytes of messaging's records, the same in every backend; `codec` has those of identities and tokens.
//!
//! Integers are big-endian. What a message record means is not known here and never looked at. Bytes that no encoder
//! here wrote are `StoreError::Corrupt`: never a panic, never a guess. The record is as `seal` closes it, bound to the
//! message's id and version. One that does not open is an error and never taken as absent: whoever finds no record sends.
//!
//! | record | layout (bytes) |
//! |---|---|
//! | message | layout 1 · version 8 · the record |
//! | link | layout 1 · part 4 · message id |

use std::sync::Arc;

use crate::broker::ports::StoreError;
use crate::messaging::ports::Versioned;
use crate::messaging::types::MessageId;
use crate::store::seal::{Kind, Vault};

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

/// The bytes of a message of this version.
pub(super) fn encode_message(
    vault: &Vault,
    id: &MessageId,
    version: u64,
    record: &[u8],
) -> Result<Vec<u8>, StoreError> {
    let closed = vault.close(Kind::Message, &[id.as_str().as_bytes(), &version.to_be_bytes()], record)?;
    Ok([message_head(version).as_slice(), &closed].concat())
}

/// The version, and what follows it.
pub(super) fn message_version(bytes: &[u8]) -> Result<(u64, &[u8]), StoreError> {
    match bytes.split_first_chunk::<9>() {
        Some(([LAYOUT, version @ ..], record)) => Ok((u64::from_be_bytes(*version), record)),
        _ => Err(unreadable("message")),
    }
}

pub(super) fn decode_message(vault: &Vault, id: &MessageId, bytes: &[u8]) -> Result<Versioned, StoreError> {
    let (version, closed) = message_version(bytes)?;
    let bytes = vault.open(Kind::Message, &[id.as_str().as_bytes(), &version.to_be_bytes()], closed)?;
    Ok(Versioned { version, bytes })
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

    fn id(text: &str) -> MessageId {
        MessageId::stored(text.into())
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(version: u64, record: Vec<u8>, part: u32, text in "[a-z_0-9ü]{0,60}") {
            for vault in [Vault::plain(), Vault::full()] {
                let bytes = encode_message(&vault, &id(&text), version, &record).unwrap();
                prop_assert!(bytes.starts_with(&message_head(version)));
                let read = decode_message(&vault, &id(&text), &bytes).unwrap();
                prop_assert_eq!((read.version, read.bytes), (version, record.clone()));
            }
            prop_assert_eq!(decode_link(&encode_link(&id(&text), part)).unwrap(), (id(&text), part));
        }

        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, sealed: bool) {
            let mut bytes = bytes;
            if sealed {
                bytes.splice(..0, [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 2, b'k', b'1']);
            }
            for vault in [Vault::plain(), Vault::full()] {
                let _ = (decode_message(&vault, &id("a"), &bytes), decode_link(&bytes), message_id(&bytes));
            }
        }
    }

    #[test]
    fn a_sealed_message_is_of_its_id_and_version_alone() {
        let vault = Vault::full();
        let bytes = encode_message(&vault, &id("a"), 7, b"to +1425").unwrap();
        assert!(!bytes.windows(5).any(|part| part == b"+1425"));
        let mut later = bytes.clone();
        later[8] = 8;
        for (name, bytes) in [("b", &bytes), ("a", &later)] {
            assert!(matches!(decode_message(&vault, &id(name), bytes), Err(StoreError::Corrupt(_))));
        }
        // Without the key it may only be that the key is late.
        let keyless = decode_message(&Vault::plain(), &id("a"), &bytes);
        assert!(matches!(keyless, Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn bytes_that_are_short_or_of_another_layout_are_corrupt() {
        for bytes in [&b""[..], &[1; 8], &[2; 30]] {
            let read = decode_message(&Vault::plain(), &id("a"), bytes);
            assert!(matches!(read, Err(StoreError::Corrupt(_))));
        }
        for bytes in [&b""[..], &[1; 4], &[2; 30]] {
            assert!(matches!(decode_link(bytes), Err(StoreError::Corrupt(_))));
        }
    }
}
