//! The bytes of stored records, the same in every backend: identity records, cached tokens, ledger entries.
//!
//! Every record starts with a version byte. Bytes of an unknown version, or that no encoder here wrote, are
//! `StoreError::Corrupt`: never a panic, never a guess. Integers are big-endian and at fixed offsets, so that a script
//! in Redis can compare a token's generation and identity with the mapping's without decoding the rest.
//!
//! | record | layout (bytes) |
//! |---|---|
//! | identity | version 1 · generation 8 · created at 8 (ms) · identity |
//! | identity, where users have hashed names | the same · 0 · the user id, sealed |
//! | token | version 1 · generation 8 · issued at 8 · expires at 8 · key id 8 · form 1 · identity length 2 · identity · token |
//! | ledger | version 1 · state 1 · digest 32 · outcome |
//!
//! The token itself is the last field; `form` says what it is: 0 is the plain text, 1 an envelope (`seal`) that is bound
//! to all that stands before it, to the user's name, the scopes and the validity. An identity holds no control
//! character, so a 0 ends it. Outcomes are as `seal` closes them, and opaque here.

use std::sync::Arc;

use secrecy::zeroize::Zeroizing;

use crate::broker::ports::StoreError;
use crate::broker::types::{AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, TokenKey};
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::store::seal::{Kind, Name, Unopened, Vault};

/// The version this code writes, and the only one it reads.
pub const VERSION: u8 = 1;

/// The token field is the text of the token.
const FORM_PLAIN: u8 = 0;

/// The token field is an envelope.
const FORM_SEALED: u8 = 1;

/// What ends the identity in a record that goes on after it.
const END_OF_IDENTITY: u8 = 0;

const STATE_BEGUN: u8 = 1;
const STATE_FINISHED: u8 = 2;

/// Why bytes are no record; tells nothing of their content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum Unreadable {
    #[error("the {0} record has version {1}; this program reads version {VERSION}, a newer one may read it")]
    Version(&'static str, u8),
    #[error("the {0} record is damaged: {1}")]
    Damaged(&'static str, &'static str),
}

impl From<Unreadable> for StoreError {
    fn from(error: Unreadable) -> Self {
        Self::Corrupt(Arc::new(error))
    }
}

/// Reads a record front to back; every step says whether there was enough left.
struct Fields<'a> {
    what: &'static str,
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    fn open(what: &'static str, bytes: &'a [u8]) -> Result<Self, Unreadable> {
        match bytes.split_first() {
            Some((&VERSION, rest)) => Ok(Self { what, rest }),
            Some((&other, _)) => Err(Unreadable::Version(what, other)),
            None => Err(Unreadable::Damaged(what, "it is empty")),
        }
    }

    fn damaged(&self, why: &'static str) -> Unreadable {
        Unreadable::Damaged(self.what, why)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let (taken, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| self.damaged("it is too short"))?;
        self.rest = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, Unreadable> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Result<u64, Unreadable> {
        self.array().map(u64::from_be_bytes)
    }

    fn time(&mut self) -> Result<Timestamp, Unreadable> {
        self.number().map(Timestamp::from_millis)
    }

    fn slice(&mut self, length: usize) -> Result<&'a [u8], Unreadable> {
        let (taken, rest) =
            self.rest.split_at_checked(length).ok_or_else(|| self.damaged("it is too short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn identity(&self, bytes: &[u8]) -> Result<IdentityId, Unreadable> {
        let text = std::str::from_utf8(bytes).map_err(|_| self.damaged("its identity is not UTF-8"))?;
        IdentityId::parse(text).map_err(|_| self.damaged("its identity is not valid"))
    }
}

/// The bytes of an identity record.
pub fn encode_identity(record: &IdentityRecord) -> Vec<u8> {
    let identity = record.identity.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(17 + identity.len());
    bytes.push(VERSION);
    bytes.extend_from_slice(&record.generation.to_be_bytes());
    bytes.extend_from_slice(&record.created_at.as_millis().to_be_bytes());
    bytes.extend_from_slice(identity);
    bytes
}

/// The bytes of an identity record that keeps its user's id, sealed.
pub(crate) fn encode_mapping(record: &IdentityRecord, user: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = encode_identity(record);
    if let Some(user) = user {
        bytes.reserve_exact(1 + user.len());
        bytes.push(END_OF_IDENTITY);
        bytes.extend_from_slice(user);
    }
    bytes
}

/// The identity record in these bytes.
pub fn decode_identity(bytes: &[u8]) -> Result<IdentityRecord, StoreError> {
    decode_mapping(bytes).map(|(record, _)| record)
}

/// The identity record in these bytes, and the user id that it keeps, if it does.
pub(crate) fn decode_mapping(bytes: &[u8]) -> Result<(IdentityRecord, Option<&[u8]>), StoreError> {
    let mut fields = Fields::open("identity", bytes)?;
    let generation = fields.number()?;
    let created_at = fields.time()?;
    let mut parts = fields.rest.splitn(2, |byte| *byte == END_OF_IDENTITY);
    let identity = fields.identity(parts.next().unwrap_or_default())?;
    Ok((IdentityRecord { identity, generation, created_at }, parts.next()))
}

/// Which token of whom: what a sealed token is bound to beside its own fields.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The user's name in the store.
    pub(crate) user: &'a Name,
    /// Which of the user's tokens.
    pub(crate) key: &'a TokenKey,
}

impl Place<'_> {
    /// Runs `work` with what is bound: the fields of the record, the user, the scopes, the validity.
    fn bind<R>(&self, fields: &[u8], work: impl FnOnce(&[&[u8]]) -> R) -> R {
        let (scopes, validity) = ([self.key.scopes.bits()], self.key.validity.minutes().to_be_bytes());
        work(&[fields, self.user.as_str().as_bytes(), &scopes, &validity])
    }
}

/// The bytes of a cached token, as the vault wants it; they are wiped when dropped.
pub(crate) fn encode_token_for(
    cached: &CachedToken,
    place: Place<'_>,
    vault: &Vault,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    if !vault.seals() {
        return Ok(encode_token(cached));
    }
    let token = cached.token.secret.expose().as_bytes();
    let mut bytes = Zeroizing::new(token_head(cached, FORM_SEALED, 128 + token.len()));
    let head = bytes.clone();
    place.bind(&head, |bound_to| vault.seal_onto(&mut bytes, Kind::Token, bound_to, token))?;
    Ok(bytes)
}

/// The bytes of a cached token as it is; they are wiped when dropped.
pub fn encode_token(cached: &CachedToken) -> Zeroizing<Vec<u8>> {
    let token = cached.token.secret.expose().as_bytes();
    let mut bytes = Zeroizing::new(token_head(cached, FORM_PLAIN, token.len()));
    bytes.extend_from_slice(token);
    bytes
}

/// What a token record starts with, with room for `more` bytes.
fn token_head(cached: &CachedToken, form: u8, more: usize) -> Vec<u8> {
    let identity = cached.identity.as_str().as_bytes();
    // The exact size at once: a buffer that grew would leave copies of the token behind.
    let mut bytes = Vec::with_capacity(36 + identity.len() + more);
    bytes.push(VERSION);
    bytes.extend_from_slice(&cached.generation.to_be_bytes());
    bytes.extend_from_slice(&cached.token.issued_at.as_millis().to_be_bytes());
    bytes.extend_from_slice(&cached.token.expires_at.as_millis().to_be_bytes());
    bytes.extend_from_slice(&cached.token.key.0);
    bytes.push(form);
    // An identity has at most 256 bytes.
    bytes.extend_from_slice(&u16::try_from(identity.len()).unwrap_or(u16::MAX).to_be_bytes());
    bytes.extend_from_slice(identity);
    bytes
}

/// What a token record says beside the token: enough to decide whether it may be used, without touching the token.
#[derive(Clone, Copy)]
pub struct TokenView<'a> {
    /// The generation it was issued for.
    pub generation: u64,
    /// When it was asked for.
    pub issued_at: Timestamp,
    /// When it expires.
    pub expires_at: Timestamp,
    /// The credential that issued it.
    pub key: KeyId,
    /// The identity it was issued for, as bytes.
    pub identity: &'a [u8],
    sealed: bool,
    /// All before the token.
    head: &'a [u8],
    token: &'a [u8],
}

impl<'a> TokenView<'a> {
    /// Reads the record; the identity and the token are not checked yet.
    pub fn read(bytes: &'a [u8]) -> Result<Self, StoreError> {
        let mut fields = Fields::open("token", bytes)?;
        let generation = fields.number()?;
        let issued_at = fields.time()?;
        let expires_at = fields.time()?;
        let key = KeyId(fields.array()?);
        let sealed = match fields.byte()? {
            FORM_PLAIN => false,
            FORM_SEALED => true,
            _ => return Err(fields.damaged("its token has an unknown form").into()),
        };
        let length = fields.array().map(u16::from_be_bytes)?;
        let identity = fields.slice(usize::from(length))?;
        let head = bytes.split_at(bytes.len().saturating_sub(fields.rest.len())).0;
        Ok(Self { generation, issued_at, expires_at, key, identity, sealed, head, token: fields.rest })
    }

    /// Whether it was issued for this record's identity and generation.
    pub fn belongs_to(&self, record: &IdentityRecord) -> bool {
        self.generation == record.generation && self.identity == record.identity.as_str().as_bytes()
    }

    /// The token, if it belongs to this record and opens; shares the record's identity. One that does not open is as
    /// good as none, and counted.
    pub(crate) fn token_of(
        &self,
        record: &IdentityRecord,
        place: Place<'_>,
        vault: &Vault,
    ) -> Result<Option<CachedToken>, StoreError> {
        if !self.belongs_to(record) {
            return Ok(None);
        }
        if !self.sealed {
            if !vault.reads_plain() {
                vault.unopened(Kind::Token, Unopened::Plain);
                return Ok(None);
            }
            return self.with_identity(record.identity.clone(), self.token).map(Some);
        }
        let opened = place.bind(self.head, |bound_to| vault.unseal(Kind::Token, bound_to, self.token));
        match opened {
            Ok(token) => self.with_identity(record.identity.clone(), &token).map(Some),
            Err(why) => {
                vault.unopened(Kind::Token, why);
                Ok(None)
            }
        }
    }

    fn with_identity(&self, identity: IdentityId, token: &[u8]) -> Result<CachedToken, StoreError> {
        let text =
            std::str::from_utf8(token).map_err(|_| Unreadable::Damaged("token", "its token is not UTF-8"))?;
        if text.is_empty() {
            return Err(Unreadable::Damaged("token", "its token is empty").into());
        }
        let token = AccessToken {
            secret: Secret::new(text),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            key: self.key,
        };
        Ok(CachedToken { identity, generation: self.generation, token })
    }
}

/// The cached token in these bytes, which are not sealed.
pub fn decode_token(bytes: &[u8]) -> Result<CachedToken, StoreError> {
    let view = TokenView::read(bytes)?;
    if view.sealed {
        return Err(Unreadable::Damaged("token", "it is sealed").into());
    }
    let identity = Fields { what: "token", rest: &[] }.identity(view.identity)?;
    view.with_identity(identity, view.token)
}

/// What the ledger keeps of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The digest of the request.
    pub digest: [u8; 32],
    /// Its outcome; none while it is reserved.
    pub outcome: Option<Vec<u8>>,
}

/// The bytes of a ledger entry.
pub fn encode_ledger(digest: &[u8; 32], outcome: Option<&[u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(34 + outcome.map_or(0, <[u8]>::len));
    bytes.push(VERSION);
    bytes.push(if outcome.is_some() { STATE_FINISHED } else { STATE_BEGUN });
    bytes.extend_from_slice(digest);
    bytes.extend_from_slice(outcome.unwrap_or_default());
    bytes
}

/// The ledger entry in these bytes.
pub fn decode_ledger(bytes: &[u8]) -> Result<LedgerEntry, StoreError> {
    let mut fields = Fields::open("ledger", bytes)?;
    let state = fields.byte()?;
    let digest = fields.array()?;
    match state {
        STATE_BEGUN if fields.rest.is_empty() => Ok(LedgerEntry { digest, outcome: None }),
        STATE_FINISHED => Ok(LedgerEntry { digest, outcome: Some(fields.rest.to_vec()) }),
        _ => Err(fields.damaged("its state is unknown").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::types::{Scope, ScopeSet, UserId, Validity};
    use proptest::prelude::*;

    fn identities() -> impl Strategy<Value = IdentityRecord> {
        ("[a-z0-9:{}*ü_-]{1,100}", any::<u64>(), any::<u64>()).prop_map(|(identity, generation, created)| {
            IdentityRecord {
                identity: IdentityId::parse(&identity).unwrap(),
                generation,
                created_at: Timestamp::from_millis(created),
            }
        })
    }

    fn tokens() -> impl Strategy<Value = CachedToken> {
        (identities(), "[!-~]{1,2000}", any::<[u8; 8]>(), any::<u64>(), any::<u64>()).prop_map(
            |(record, secret, key, issued, expires)| CachedToken {
                identity: record.identity,
                generation: record.generation,
                token: AccessToken {
                    secret: Secret::new(secret),
                    issued_at: Timestamp::from_millis(issued),
                    expires_at: Timestamp::from_millis(expires),
                    key: KeyId(key),
                },
            },
        )
    }

    fn chat() -> TokenKey {
        TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
    }

    fn is_corrupt<T>(result: Result<T, StoreError>) -> bool {
        matches!(result, Err(StoreError::Corrupt(_)))
    }

    #[test]
    fn layouts_do_not_change_unnoticed() {
        let record = IdentityRecord {
            identity: IdentityId::parse("8:acs:a_b").unwrap(),
            generation: 3,
            created_at: Timestamp::from_millis(0x0102),
        };
        assert_eq!(encode_identity(&record), b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\x01\x028:acs:a_b");
        let token = CachedToken {
            identity: record.identity,
            generation: 3,
            token: AccessToken {
                secret: Secret::new("ey.J"),
                issued_at: Timestamp::from_millis(4),
                expires_at: Timestamp::from_millis(5),
                key: KeyId(*b"keykeyke"),
            },
        };
        assert_eq!(
            encode_token(&token).as_slice(),
            b"\x01\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04\0\0\0\0\0\0\0\x05keykeyke\0\0\x098:acs:a_bey.J"
        );
        assert_eq!(encode_ledger(&[7; 32], None), [&[1, 1][..], &[7; 32]].concat());
        assert_eq!(encode_ledger(&[7; 32], Some(b"ok")), [&[1, 2][..], &[7; 32], b"ok"].concat());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_equal(
            record in identities(), token in tokens(), digest: [u8; 32], outcome: Option<Vec<u8>>
        ) {
            prop_assert_eq!(&decode_identity(&encode_identity(&record)).unwrap(), &record);
            prop_assert_eq!(&decode_token(&encode_token(&token)).unwrap(), &token);
            let entry = decode_ledger(&encode_ledger(&digest, outcome.as_deref())).unwrap();
            prop_assert_eq!(entry, LedgerEntry { digest, outcome });
        }

        #[test]
        fn arbitrary_bytes_are_corrupt_or_a_record_but_never_a_panic(bytes: Vec<u8>, versioned: bool) {
            let mut bytes = bytes;
            if versioned && let Some(first) = bytes.first_mut() {
                *first = VERSION;
            }
            if let Ok((record, user)) = decode_mapping(&bytes) {
                prop_assert_eq!(encode_mapping(&record, user), bytes.clone());
            }
            if let Ok(token) = decode_token(&bytes) {
                prop_assert_eq!(encode_token(&token).to_vec(), bytes.clone());
            }
            if let Ok(entry) = decode_ledger(&bytes) {
                prop_assert_eq!(encode_ledger(&entry.digest, entry.outcome.as_deref()), bytes);
            }
        }

        #[test]
        fn another_version_and_a_cut_record_are_corrupt(record in identities(), token in tokens(), version in 2u8.., cut: prop::sample::Index) {
            let (mut identity, mut token) = (encode_identity(&record), encode_token(&token));
            let header = cut.index(17);
            prop_assert!(is_corrupt(decode_identity(&identity[..header])));
            let header = cut.index(36);
            prop_assert!(is_corrupt(decode_token(&token[..header])));
            let mut ledger = encode_ledger(&[0; 32], Some(b"done"));
            prop_assert!(is_corrupt(decode_ledger(&ledger[..cut.index(34)])));
            identity[0] = version;
            token[0] = version;
            ledger[0] = version;
            prop_assert!(is_corrupt(decode_identity(&identity)));
            prop_assert!(is_corrupt(decode_token(&token)));
            prop_assert!(is_corrupt(decode_ledger(&ledger)));
        }

        #[test]
        fn a_token_is_given_only_to_the_record_it_was_issued_for(token in tokens(), other in identities(), generation: u64) {
            let bytes = encode_token(&token);
            let view = TokenView::read(&bytes).unwrap();
            let (vault, name, key) = (Vault::plain(), Vault::plain().name(&UserId::parse("a").unwrap()), chat());
            let place = Place { user: &name, key: &key };
            let same = IdentityRecord { identity: token.identity.clone(), generation: token.generation, created_at: other.created_at };
            prop_assert_eq!(view.token_of(&same, place, &vault).unwrap(), Some(token.clone()));
            let later = IdentityRecord { generation, ..same.clone() };
            prop_assert_eq!(view.token_of(&later, place, &vault).unwrap().is_some(), generation == token.generation);
            let stranger = IdentityRecord { identity: other.identity, ..same.clone() };
            prop_assert_eq!(view.token_of(&stranger, place, &vault).unwrap().is_some(), stranger.identity == token.identity);
        }
    }

    #[test]
    fn a_record_without_a_token_is_corrupt() {
        let token = AccessToken {
            secret: Secret::new(""),
            issued_at: Timestamp::from_millis(4),
            expires_at: Timestamp::from_millis(5),
            key: KeyId([0; 8]),
        };
        let identity = IdentityId::parse("8:acs:a_b").unwrap();
        let bytes = encode_token(&CachedToken { identity, generation: 3, token });
        assert!(is_corrupt(decode_token(&bytes)));
    }

    #[test]
    fn errors_tell_nothing_of_the_content() {
        let mut bytes = encode_ledger(&[0; 32], Some(b"hunter2"));
        bytes[1] = 9;
        let Err(StoreError::Corrupt(cause)) = decode_ledger(&bytes) else { panic!("not corrupt") };
        assert!(!format!("{cause} {cause:?}").contains("hunter2"));
    }
}
