//! The words of the core: users, identities, scopes, validity, tokens. Each value is valid once it exists.
//!
//! No type here has a `Debug` that shows a token or a user id. Parsing says what is wrong without repeating the value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::error::Error;
use super::policy::{Missing, Need, Permissions, Rpc};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// The longest user id and ACS id, in bytes of UTF-8.
pub const MAX_ID_BYTES: usize = 256;

/// How user ids begin that callers cannot use.
const RESERVED: &str = "acsbroker:";

/// Who calls the broker: a configured name, not a person, with what it may do. The name may be logged and used as a
/// label, and two callers are the same if their names are.
#[derive(Clone)]
pub struct Caller {
    name: Arc<str>,
    permissions: Arc<Permissions>,
}

impl Caller {
    /// The caller of that name, who may do nothing.
    pub fn new(name: impl Into<Arc<str>>) -> Self {
        Self::allowed(name, Permissions::nothing())
    }

    /// The caller of that name with these permissions.
    pub fn allowed(name: impl Into<Arc<str>>, permissions: Arc<Permissions>) -> Self {
        Self { name: name.into(), permissions }
    }

    /// The caller of that name with every permission.
    pub fn unlimited(name: impl Into<Arc<str>>) -> Self {
        Self::allowed(name, Permissions::everything())
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it may do.
    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Whether it may have this now.
    ///
    /// # Errors
    /// `PermissionMissing`.
    pub fn may(&self, rpc: Rpc, need: Need<'_>) -> Result<(), Error> {
        self.permissions
            .judge(&self.name, rpc, need)
            .map_err(|permission| Error::PermissionMissing { permission })
    }

    /// Refuses for a reason that is found out elsewhere.
    ///
    /// # Errors
    /// `PermissionMissing`, unless refusals are only noted.
    pub fn refuse(&self, rpc: Rpc, missing: Missing) -> Result<(), Error> {
        self.permissions
            .refuse(&self.name, rpc, missing)
            .map_err(|permission| Error::PermissionMissing { permission })
    }
}

impl PartialEq for Caller {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Caller {}

impl std::hash::Hash for Caller {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?})", self.name)
    }
}

/// What is wrong with a value, phrased to follow a field name: "must not be empty".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

fn check_id(text: &str) -> Result<(), Invalid> {
    if text.is_empty() {
        return Err(Invalid("must not be empty".into()));
    }
    if text.len() > MAX_ID_BYTES {
        return Err(Invalid(format!("must have at most {MAX_ID_BYTES} bytes of UTF-8, has {}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid("must not hold control characters".into()));
    }
    if text.trim() != text {
        return Err(Invalid("must not start or end with white space".into()));
    }
    Ok(())
}

/// SHA-256 in hexadecimal.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Eight hexadecimal digits that stand for `text` where it must not be shown.
fn short_hash(text: &str) -> String {
    let mut hash = hash(text);
    hash.truncate(8);
    hash
}

/// An app's own id of one of its users: 1 to 256 bytes, no control characters, no surrounding white space.
/// Compared byte by byte: no case folding, no Unicode normalisation.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(std::sync::Arc<str>);

impl UserId {
    /// Checks and takes the id.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        check_id(text)?;
        Ok(Self(text.into()))
    }

    /// As [`Self::parse`], for a user whom a caller names: ids that begin with `acsbroker:` are the broker's own.
    pub fn of_caller(text: &str) -> Result<Self, Invalid> {
        if text.starts_with(RESERVED) {
            return Err(Invalid(format!("must not begin with {RESERVED}, which is reserved")));
        }
        Self::parse(text)
    }

    /// The user id under which the mapping keeps the identity that the broker itself acts as: one for the fleet.
    pub fn service() -> Self {
        Self(format!("{RESERVED}service").into())
    }

    /// Whether it is the broker's own.
    pub fn is_service(&self) -> bool {
        *self == Self::service()
    }

    /// The id itself; never to be logged.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A name that does not tell who it is and is the same everywhere: SHA-256 of the id in hexadecimal.
    pub fn sha256_hex(&self) -> String {
        hash(&self.0)
    }

    /// A short hash for logs.
    pub fn log_hash(&self) -> String {
        short_hash(&self.0)
    }
}

impl fmt::Debug for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UserId(#{})", self.log_hash())
    }
}

/// The raw id of an ACS identity, such as `8:acs:<resource>_<user>`. Opaque: nothing in it is interpreted.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdentityId(std::sync::Arc<str>);

impl IdentityId {
    /// Checks and takes the id: 1 to 256 bytes, no control characters, no surrounding white space.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        check_id(text)?;
        Ok(Self(text.into()))
    }

    /// The raw id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for IdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdentityId(#{})", short_hash(&self.0))
    }
}

/// What a token allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Full chat.
    Chat,
    /// Join and take part in chat.
    ChatJoin,
    /// As `ChatJoin`, without changing participants.
    ChatJoinLimited,
    /// Full calling.
    Voip,
    /// Join calls.
    VoipJoin,
}

impl Scope {
    /// Every scope, in canonical order.
    pub const ALL: [Self; 5] =
        [Self::Chat, Self::ChatJoin, Self::ChatJoinLimited, Self::Voip, Self::VoipJoin];

    /// The name ACS uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::ChatJoin => "chat.join",
            Self::ChatJoinLimited => "chat.join.limited",
            Self::Voip => "voip",
            Self::VoipJoin => "voip.join",
        }
    }

    const fn bit(self) -> u8 {
        match self {
            Self::Chat => 1,
            Self::ChatJoin => 2,
            Self::ChatJoinLimited => 4,
            Self::Voip => 8,
            Self::VoipJoin => 16,
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text).ok_or_else(|| {
            Invalid("must be one of chat, chat.join, chat.join.limited, voip, voip.join".into())
        })
    }
}

/// A set of at least one scope. Order and repetition do not matter; two sets are equal only if they are the same set.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeSet(u8);

impl ScopeSet {
    /// The set of these scopes.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Result<Self, Invalid> {
        let bits = scopes.into_iter().fold(0, |bits, scope| bits | scope.bit());
        if bits == 0 { Err(Invalid("must name at least one scope".into())) } else { Ok(Self(bits)) }
    }

    /// The scopes in canonical order.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.0 & scope.bit() != 0)
    }

    /// The canonical text: the names in canonical order, joined with commas.
    pub fn canonical(self) -> String {
        self.iter().map(Scope::as_str).collect::<Vec<_>>().join(",")
    }

    /// The set as bits, for keys: 1 to 31.
    pub const fn bits(self) -> u8 {
        self.0
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.canonical())
    }
}

/// How long a new token is valid: 60 to 1440 whole minutes, the range ACS accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Validity(u16);

impl Validity {
    /// One hour.
    pub const MIN: Self = Self(60);
    /// One day.
    pub const MAX: Self = Self(1440);

    /// A validity of that many minutes.
    pub fn from_minutes(minutes: u64) -> Result<Self, Invalid> {
        match u16::try_from(minutes) {
            Ok(minutes) if (Self::MIN.0..=Self::MAX.0).contains(&minutes) => Ok(Self(minutes)),
            _ => Err(Invalid("must be from 1 h to 24 h".into())),
        }
    }

    /// A validity of that duration, which must be whole minutes.
    pub fn from_duration(duration: Duration) -> Result<Self, Invalid> {
        if duration.subsec_nanos() != 0 || !duration.as_secs().is_multiple_of(60) {
            return Err(Invalid("must be whole minutes, from 1 h to 24 h".into()));
        }
        Self::from_minutes(duration.as_secs() / 60)
    }

    /// In minutes.
    pub const fn minutes(self) -> u16 {
        self.0
    }

    /// As a duration.
    pub const fn as_duration(self) -> Duration {
        Duration::from_secs(self.0 as u64 * 60)
    }
}

/// Names the upstream credential that issued a token, without telling it: the first 8 bytes of a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId(pub [u8; 8]);

impl KeyId {
    /// The id of a credential, from its bytes.
    pub fn of(credential: &[u8]) -> Self {
        let mut id = [0; 8];
        for (to, from) in id.iter_mut().zip(Sha256::digest(credential)) {
            *to = from;
        }
        Self(id)
    }

    /// Sixteen hexadecimal digits.
    pub fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is known of a credential that issued a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyStanding {
    /// It signs.
    InUse,
    /// It is the operator's other one, and was not refused.
    Spare,
    /// Nobody here knows it: it was in use before a restart, or is in use elsewhere.
    Unknown,
    /// It was refused while another was accepted: its tokens are dead.
    Dead,
}

/// Which credential signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signing {
    /// That one.
    pub key: KeyId,
    /// Since when; tokens of others that were issued before are to be replaced.
    pub since: Timestamp,
    /// The one that could take its place.
    pub spare: Option<KeyId>,
}

/// An access token of ACS: opaque text with its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessToken {
    /// The token itself.
    pub secret: Secret,
    /// When the broker asked for it, by the broker's clock: not later than ACS issued it.
    pub issued_at: Timestamp,
    /// When it expires, as ACS said.
    pub expires_at: Timestamp,
    /// The credential that issued it; the token dies with that credential.
    pub key: KeyId,
}

/// What the mapping says of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityRecord {
    /// The user's ACS identity.
    pub identity: IdentityId,
    /// Raised by every revocation; a token of an older generation is never served.
    pub generation: u64,
    /// When the mapping was made.
    pub created_at: Timestamp,
}

/// Which of a user's tokens: exact scopes and validity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenKey {
    /// The exact scopes.
    pub scopes: ScopeSet,
    /// The validity it was asked for with.
    pub validity: Validity,
}

impl TokenKey {
    /// The key of these scopes, as bits, and minutes; none if they are no key.
    pub fn from_parts(scopes: u8, minutes: u64) -> Option<Self> {
        let chosen = Scope::ALL.into_iter().filter(|scope| scopes & scope.bit() != 0);
        let set = ScopeSet::new(chosen).ok().filter(|set| set.bits() == scopes)?;
        Some(Self { scopes: set, validity: Validity::from_minutes(minutes).ok()? })
    }
}

/// A token in the cache, with what it was issued for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedToken {
    /// The identity it belongs to.
    pub identity: IdentityId,
    /// The generation of the identity's record when its issue began.
    pub generation: u64,
    /// The token.
    pub token: AccessToken,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_user_id_has_1_to_256_bytes_and_no_control_characters() {
        for good in ["a", "user@example.com", "ü", "a b", &"x".repeat(256), "{1}"] {
            assert!(UserId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", " a", "a ", "\u{a0}a", "a\nb", "a\0", "\u{85}x", &"x".repeat(257), &"ü".repeat(129)]
        {
            assert!(UserId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn validity_is_1_h_to_24_h_in_whole_minutes() {
        assert!(Validity::from_duration(Duration::from_secs(3600)).is_ok());
        assert!(Validity::from_duration(Duration::from_secs(86_400)).is_ok());
        for bad in [0, 3599, 3601, 3540, 86_460, u64::MAX] {
            assert!(Validity::from_duration(Duration::from_secs(bad)).is_err(), "{bad}");
        }
        assert!(Validity::from_duration(Duration::from_millis(3_600_001)).is_err());
    }

    #[test]
    fn debug_texts_hold_no_ids() {
        let user = UserId::parse("alice@example.com").unwrap();
        let identity = IdentityId::parse("8:acs:one_two").unwrap();
        let text = format!("{user:?} {identity:?}");
        assert!(!text.contains("alice") && !text.contains("one_two"), "{text}");
    }

    proptest! {
        #[test]
        fn scope_sets_ignore_order_and_repetition(picks in proptest::collection::vec(0usize..5, 1..12), seed: u64) {
            let scopes: Vec<Scope> = picks.iter().map(|&pick| Scope::ALL[pick]).collect();
            let mut other = scopes.clone();
            other.extend_from_slice(&scopes);
            let turn = usize::try_from(seed % other.len() as u64).unwrap();
            other.rotate_left(turn);
            let (one, two) = (ScopeSet::new(scopes.clone()).unwrap(), ScopeSet::new(other).unwrap());
            prop_assert_eq!(one, two);
            prop_assert_eq!(one.canonical(), two.canonical());
            let parsed = ScopeSet::new(one.canonical().split(',').map(|name| name.parse::<Scope>().unwrap())).unwrap();
            prop_assert_eq!(parsed, one);
            for scope in Scope::ALL {
                prop_assert_eq!(one.iter().any(|member| member == scope), scopes.contains(&scope));
            }
        }

        #[test]
        fn different_sets_have_different_texts(one in 1u8..32, two in 1u8..32) {
            prop_assert_eq!(ScopeSet(one).canonical() == ScopeSet(two).canonical(), one == two);
        }
    }
}
