//! The names of keys in a shared store, and the page tokens made of them; `docs/store-keys.md` explains the layout.
//!
//! Pure: nothing here does I/O. A key must never be readable as another kind of key, whatever the ids in it, so the
//! free text is always the last part. Used by `redis`.

use sha2::{Digest, Sha256};

use crate::broker::ports::LedgerKey;
use crate::broker::types::{IdentityId, TokenKey};
use crate::messaging::types::MessageId;
use crate::store::seal::{Name, Vault};

/// The version of the layout, part of every key: another layout would not see these keys at all.
const LAYOUT: &str = "1";

/// The kind and version of a page token.
const PAGE_TOKEN: [u8; 2] = *b"R1";

/// Makes the keys of one broker.
#[derive(Clone)]
pub(crate) struct Keys {
    /// The prefix and the layout version: `acsb:1:`.
    root: String,
    vault: Vault,
}

/// One of the 256 groups users are dealt out to; each is a hash tag, so in one slot of a Cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(u8);

impl Bucket {
    /// The bucket of a user.
    pub(crate) fn of_user(user: &Name) -> Self {
        Self(user.bucket())
    }

    /// The bucket itself and those after it.
    pub(crate) fn and_later(self) -> impl Iterator<Item = Self> {
        (self.0..=u8::MAX).map(Self)
    }

    /// The first bucket.
    pub(crate) const FIRST: Self = Self(0);
}

impl Keys {
    /// The keys with this prefix, which settings have checked, and with this vault's names.
    pub(crate) fn new(prefix: &str, vault: Vault) -> Self {
        Self { root: format!("{prefix}:{LAYOUT}:"), vault }
    }

    /// A digest of parts as hexadecimal digits.
    fn hash(&self, parts: &[&str]) -> String {
        self.vault.digest(parts).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bucket of a text.
    fn bucket(&self, text: &str) -> Bucket {
        Bucket(self.vault.digest_text(text).first().copied().unwrap_or_default())
    }

    /// The user's record in the mapping.
    pub(crate) fn record(&self, user: &Name) -> String {
        let Bucket(bucket) = Bucket::of_user(user);
        format!("{}{{{bucket:02x}}}:u:{}", self.root, user.as_str())
    }

    /// One of the user's tokens: the same slot as the record.
    pub(crate) fn token(&self, user: &Name, key: &TokenKey) -> String {
        format!("{}{}:{}", self.tokens_root(user), self.token_part(key), user.as_str())
    }

    /// What the keys of the user's tokens start with.
    pub(crate) fn tokens_root(&self, user: &Name) -> String {
        let Bucket(bucket) = Bucket::of_user(user);
        format!("{}{{{bucket:02x}}}:t:", self.root)
    }

    /// What tells the user's tokens from one another.
    pub(crate) fn token_part(&self, key: &TokenKey) -> String {
        format!("{}:{}", key.scopes.bits(), key.validity.minutes())
    }

    /// The list of the user's tokens: the same slot as the record.
    pub(crate) fn tokens(&self, user: &Name) -> String {
        let Bucket(bucket) = Bucket::of_user(user);
        format!("{}{{{bucket:02x}}}:k:{}", self.root, user.as_str())
    }

    /// The sorted set of the users of a bucket: the same slot as their records.
    pub(crate) fn index(&self, Bucket(bucket): Bucket) -> String {
        format!("{}{{{bucket:02x}}}:i", self.root)
    }

    /// The user an ACS identity belongs to: a slot of its own.
    pub(crate) fn owner(&self, identity: &IdentityId) -> String {
        format!("{}a:{}", self.root, identity.as_str())
    }

    /// A request of a caller.
    pub(crate) fn ledger(&self, key: &LedgerKey) -> String {
        format!("{}l:{}", self.root, self.hash(&[&key.caller, key.operation, &key.request_id]))
    }

    /// The budget of that name.
    pub(crate) fn budget(&self, name: &str) -> String {
        format!("{}b:{}", self.root, self.hash(&[name]))
    }

    /// The lease of that name.
    pub(crate) fn lease(&self, name: &str) -> String {
        let Bucket(bucket) = self.bucket(name);
        format!("{}{{{bucket:02x}}}:x:{}", self.root, self.hash(&[name]))
    }

    /// The counter that numbers the leases of a bucket: the same slot as the lease.
    pub(crate) fn fence(&self, name: &str) -> String {
        let Bucket(bucket) = self.bucket(name);
        format!("{}{{{bucket:02x}}}:f", self.root)
    }

    /// The record of a message: a slot of its own.
    pub(crate) fn message(&self, id: &MessageId) -> String {
        format!("{}m:{}", self.root, self.hash(&[id.as_str()]))
    }

    /// The message that an id of ACS belongs to, and one of the 16 groups that key is in, each one slot.
    pub(crate) fn link(&self, upstream: &str) -> (u8, String) {
        let Bucket(bucket) = self.bucket(upstream);
        let group = bucket >> 4;
        (group, format!("{}{{n{group:x}}}:n:{}", self.root, self.hash(&[upstream])))
    }

    /// The sorted set of messages to be looked at, by when.
    pub(crate) fn due(&self) -> String {
        format!("{}d", self.root)
    }

    /// The stream of events.
    pub(crate) fn events(&self) -> String {
        format!("{}{{e}}:s", self.root)
    }

    /// What the log of events is and where it ends: the same slot as the stream.
    pub(crate) fn events_head(&self) -> String {
        format!("{}{{e}}:h", self.root)
    }

    /// The key an event was appended under: the same slot as the stream.
    pub(crate) fn event_key(&self, key: &str) -> String {
        format!("{}{{e}}:q:{}", self.root, self.hash(&[key]))
    }

    /// The fair budget of that name.
    pub(crate) fn fair_budget(&self, name: &str) -> String {
        format!("{}w:{}", self.root, self.hash(&[name]))
    }

    /// The marker that says this store was set up, so that an emptied one is noticed.
    pub(crate) fn meta(&self) -> String {
        format!("{}meta", self.root)
    }

    /// The page token that continues after `last`.
    pub(crate) fn page_token(&self, last: &Name) -> Vec<u8> {
        let mut token = PAGE_TOKEN.to_vec();
        token.extend_from_slice(&self.page_check(last.as_str()));
        token.extend_from_slice(last.as_str().as_bytes());
        token
    }

    /// The user a page token continues after; none if it is not one of [`Keys::page_token`].
    pub(crate) fn read_page_token(&self, token: &[u8]) -> Option<Name> {
        let (kind, rest) = token.split_first_chunk::<2>()?;
        let (check, last) = rest.split_first_chunk::<4>()?;
        let last = std::str::from_utf8(last).ok()?;
        let ours = *kind == PAGE_TOKEN && *check == self.page_check(last);
        if ours { self.vault.read_name(last) } else { None }
    }

    /// Tells our page tokens from those of other backends and prefixes; it is no secret and protects nothing.
    fn page_check(&self, last: &str) -> [u8; 4] {
        let digest =
            Sha256::new().chain_update(self.root.as_bytes()).chain_update(last.as_bytes()).finalize();
        digest.first_chunk().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::types::{Scope, ScopeSet, UserId, Validity};
    use proptest::prelude::*;

    fn keys() -> Keys {
        Keys::new("acsb", Vault::plain())
    }

    fn user(text: &str) -> Name {
        Vault::plain().name(&UserId::parse(text).unwrap())
    }

    fn token_key() -> TokenKey {
        TokenKey { scopes: ScopeSet::new([Scope::Chat, Scope::Voip]).unwrap(), validity: Validity::MAX }
    }

    /// The hash tag as a Cluster finds it: the text between the first `{` and the next `}`.
    fn hash_tag(key: String) -> Option<String> {
        let (_, rest) = key.split_once('{')?;
        let (tag, _) = rest.split_once('}')?;
        Some(tag.to_owned()).filter(|tag| !tag.is_empty())
    }

    #[test]
    fn names_do_not_change_unnoticed() {
        assert_eq!(keys().record(&user("alice")), "acsb:1:{2b}:u:alice");
        assert_eq!(keys().token(&user("alice"), &token_key()), "acsb:1:{2b}:t:9:1440:alice");
        assert_eq!(keys().index(Bucket::of_user(&user("alice"))), "acsb:1:{2b}:i");
        assert_eq!(keys().owner(&IdentityId::parse("8:acs:a_b").unwrap()), "acsb:1:a:8:acs:a_b");
        assert_eq!(keys().meta(), "acsb:1:meta");
        assert_eq!(keys().due(), "acsb:1:d");
        assert_eq!(
            (keys().events().as_str(), keys().events_head().as_str()),
            ("acsb:1:{e}:s", "acsb:1:{e}:h")
        );
        let id = MessageId::stored("sms_1".into());
        assert!(keys().message(&id).starts_with("acsb:1:m:") && keys().message(&id).len() == 9 + 64);
        assert!(keys().fair_budget("alice").starts_with("acsb:1:w:"));
        assert!(keys().link("alice").1.starts_with("acsb:1:{n2}:n:"));
    }

    #[test]
    fn requests_that_differ_in_any_part_have_keys_of_their_own() {
        let key = |caller: &str, operation, request_id: &str| {
            keys().ledger(&LedgerKey { caller: caller.into(), operation, request_id: request_id.into() })
        };
        assert_ne!(key("a", "b", "c"), key("ab", "", "c"));
        assert_ne!(key("a", "b", "c"), key("a", "bc", ""));
        assert_ne!(key("a", "b", "c"), key("a", "b", "d"));
        assert_eq!(key("a", "b", "c"), key("a", "b", "c"));
    }

    proptest! {
        #[test]
        fn keys_that_change_together_are_in_one_slot(text in "[a-z{}:*ü@]{1,40}") {
            for vault in [Vault::plain(), Vault::full()] {
            let user = vault.name(&UserId::parse(&text).unwrap());
            let keys = Keys::new("acsb", vault);
            let tag = hash_tag(keys.record(&user));
            prop_assert!(tag.is_some());
            prop_assert_eq!(&tag, &hash_tag(keys.token(&user, &token_key())));
            prop_assert_eq!(&tag, &hash_tag(keys.tokens(&user)));
            prop_assert_eq!(&tag, &hash_tag(keys.index(Bucket::of_user(&user))));
            prop_assert_eq!(hash_tag(keys.lease(&text)), hash_tag(keys.fence(&text)));
            prop_assert_eq!(hash_tag(keys.events()), hash_tag(keys.event_key(&text)));
            prop_assert_eq!(hash_tag(keys.events()), hash_tag(keys.events_head()));
            let (group, link) = keys.link(&text);
            prop_assert_eq!(hash_tag(link), Some(format!("n{group:x}")));
            }
        }

        #[test]
        fn no_record_has_the_key_of_a_token(one in "[a-z0-9:{}]{1,30}", two in "[a-z0-9:{}]{1,30}") {
            prop_assert_ne!(keys().record(&user(&one)), keys().token(&user(&two), &token_key()));
        }

        #[test]
        fn a_page_token_is_read_back_by_the_same_prefix_only(text in "[a-zü{}]{1,100}", noise: Vec<u8>) {
            let last = user(&text);
            let token = keys().page_token(&last);
            prop_assert!(token.len() <= 512);
            prop_assert_eq!(keys().read_page_token(&token), Some(last));
            prop_assert_eq!(Keys::new("other", Vault::plain()).read_page_token(&token), None);
            prop_assert_eq!(keys().read_page_token(&noise), None);
            prop_assert_eq!(keys().read_page_token(&token[..token.len() - 1]), None);
        }
    }

    #[test]
    fn every_user_is_in_a_bucket_that_a_walk_reaches() {
        assert_eq!(Bucket::FIRST.and_later().count(), 256);
    }
}
