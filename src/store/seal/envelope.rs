//! One envelope: bytes sealed with a key of the ring, bound to what they are and where they belong.
//!
//! | field | bytes |
//! |---|---|
//! | length of the key's id | 1 |
//! | id of the key | 1 to 32 |
//! | nonce | 24, random |
//! | what is sealed | as many as it has |
//! | tag | 16 |
//!
//! XChaCha20-Poly1305: its nonce is long enough to be drawn at random for ever, so that any number of replicas seal with
//! one key and need not agree on anything. Pure but for the randomness. No bytes make [`open`] panic.

use chacha20poly1305::{AeadInOut as _, Key, KeyInit as _, Tag, XChaCha20Poly1305, XNonce};
use ring::rand::{SecureRandom as _, SystemRandom};
use secrecy::zeroize::Zeroizing;

use super::ring::Keys;
use super::{Kind, Unopened};

/// The bytes of a nonce.
const NONCE: usize = 24;
/// The bytes of a tag.
const TAG: usize = 16;

/// What was in an envelope; wiped when dropped.
pub(crate) type Opened = Zeroizing<Vec<u8>>;

/// Why nothing could be sealed.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no randomness, or what is to be sealed is too long")]
pub(super) struct CannotSeal;

/// The most that an envelope adds.
pub(super) const fn overhead() -> usize {
    1 + 32 + NONCE + TAG
}

/// What an envelope is bound to, as bytes: each part with its length, so that no two lists give the same.
fn bound(what: &str, id: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let all = || [what.as_bytes(), id].into_iter().chain(parts.iter().copied());
    let mut bytes = Vec::with_capacity(all().map(|part| 8 + part.len()).sum());
    for part in all() {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

/// Appends nonce, `plain` sealed, and tag.
pub(super) fn seal_with(
    key: &[u8; 32],
    into: &mut Vec<u8>,
    bound_to: &[u8],
    plain: &[u8],
) -> Result<(), CannotSeal> {
    let mut nonce = [0; NONCE];
    SystemRandom::new().fill(&mut nonce).map_err(|_| CannotSeal)?;
    // At once as long as it becomes: growing would leave a copy of what is to be sealed behind.
    into.reserve_exact(NONCE + plain.len() + TAG);
    into.extend_from_slice(&nonce);
    let start = into.len();
    into.extend_from_slice(plain);
    let Some(sealed) = into.get_mut(start..) else { return Err(CannotSeal) };
    let cipher = XChaCha20Poly1305::new(&Key::from(*key));
    let tag = cipher.encrypt_inout_detached(&XNonce::from(nonce), bound_to, sealed.into());
    match tag {
        Ok(tag) => {
            into.extend_from_slice(tag.as_slice());
            Ok(())
        }
        Err(_) => {
            into.truncate(start);
            Err(CannotSeal)
        }
    }
}

/// What [`seal_with`] appended, opened; none if it is not that.
pub(super) fn open_with(key: &[u8; 32], bound_to: &[u8], bytes: &[u8]) -> Option<Opened> {
    let (nonce, rest) = bytes.split_first_chunk::<NONCE>()?;
    let (sealed, tag) = rest.split_last_chunk::<TAG>()?;
    let mut plain = Zeroizing::new(sealed.to_vec());
    let cipher = XChaCha20Poly1305::new(&Key::from(*key));
    cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            bound_to,
            plain.as_mut_slice().into(),
            &Tag::from(*tag),
        )
        .ok()?;
    Some(plain)
}

/// Appends an envelope.
pub(super) fn seal(
    keys: &Keys,
    into: &mut Vec<u8>,
    kind: Kind,
    parts: &[&[u8]],
    plain: &[u8],
) -> Result<(), CannotSeal> {
    let entry = keys.sealing().ok_or(CannotSeal)?;
    let id = entry.id().as_bytes();
    into.reserve_exact(1 + id.len() + NONCE + plain.len() + TAG);
    into.push(u8::try_from(id.len()).map_err(|_| CannotSeal)?);
    into.extend_from_slice(id);
    seal_with(entry.key(), into, &bound(kind.name(), id, parts), plain)
}

/// Opens an envelope.
pub(super) fn open(keys: &Keys, kind: Kind, parts: &[&[u8]], bytes: &[u8]) -> Result<Opened, Unopened> {
    let (length, rest) = bytes.split_first().ok_or(Unopened::Damaged)?;
    let (id, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Unopened::Damaged)?;
    if rest.len() < NONCE + TAG {
        return Err(Unopened::Damaged);
    }
    let entry = keys.of(id).ok_or(Unopened::NoKey)?;
    open_with(entry.key(), &bound(kind.name(), id, parts), rest).ok_or(Unopened::Damaged)
}

/// What the id of a user is bound to.
pub(super) fn bound_to_name(name: &str) -> Vec<u8> {
    bound("user id", b"", &[name.as_bytes()])
}
