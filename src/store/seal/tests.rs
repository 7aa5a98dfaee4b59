//! What sealing promises by itself: nothing opens but what was sealed, as what it was sealed and where it belongs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::broker::types::{
    AccessToken, CachedToken, IdentityId, IdentityRecord, KeyId, Scope, ScopeSet, TokenKey, Validity,
};
use crate::clock::Timestamp;
use crate::secret::Secret;
use crate::store::codec::{Place, TokenView, encode_token_for};

/// A hash key.
pub(super) const HASH_KEY: &str = "a hash key of at least thirty-two bytes";

/// A line of a key file: the key is made of this number.
pub(crate) fn line(id: &str, number: u8) -> String {
    let key: Vec<u8> = (0..32).map(|at| number.wrapping_mul(31).wrapping_add(at)).collect();
    format!("{id}:{}", STANDARD.encode(key))
}

/// A vault with one key and no hash key.
pub(crate) fn vault_of(mode: Mode) -> Vault {
    vault(&[line("k1", 1)], mode)
}

/// A vault with this key file.
fn vault(lines: &[String], mode: Mode) -> Vault {
    Vault::of(Some(Arc::new(KeyRing::parse(&lines.join("\n")).unwrap())), mode, None)
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn chat() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
}

fn record() -> IdentityRecord {
    IdentityRecord {
        identity: IdentityId::parse("8:acs:r_1").unwrap(),
        generation: 3,
        created_at: Timestamp::from_millis(1),
    }
}

fn token() -> CachedToken {
    CachedToken {
        identity: record().identity,
        generation: 3,
        token: AccessToken {
            secret: Secret::new("ey.canary.token"),
            issued_at: Timestamp::from_millis(4),
            expires_at: Timestamp::from_millis(500),
            key: KeyId([7; 8]),
        },
    }
}

fn sealed(vault: &Vault, of: &str) -> Vec<u8> {
    let (name, key) = (vault.name(&user(of)), chat());
    encode_token_for(&token(), Place { user: &name, key: &key }, vault).unwrap().to_vec()
}

/// The text of a token in these bytes for this user, if it is to be had.
fn got(vault: &Vault, of: &str, key: &TokenKey, bytes: &[u8]) -> Option<String> {
    let name = vault.name(&user(of));
    let view = TokenView::read(bytes).ok()?;
    let token = view.token_of(&record(), Place { user: &name, key }, vault).ok()??;
    Some(token.token.secret.expose().to_owned())
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|part| part == text.as_bytes())
}

#[test]
fn a_sealed_token_is_unreadable_and_opens_for_its_user_scopes_and_validity_alone() {
    let vault = Vault::full();
    let bytes = sealed(&vault, "alice");
    assert!(!holds(&bytes, "canary") && !holds(&bytes, "alice"));
    assert_eq!(got(&vault, "alice", &chat(), &bytes).as_deref(), Some("ey.canary.token"));
    assert_eq!(got(&vault, "bob", &chat(), &bytes), None);
    let voip = TokenKey { scopes: ScopeSet::new([Scope::Voip]).unwrap(), ..chat() };
    assert_eq!(got(&vault, "alice", &voip, &bytes), None);
    assert_eq!(got(&vault, "alice", &TokenKey { validity: Validity::MIN, ..chat() }, &bytes), None);
    let counted = vault.rendered_metrics();
    assert!(counted.contains("store_unopened_total{kind=\"token\",why=\"damaged\"} 3"), "{counted}");
}

#[test]
fn every_byte_of_a_sealed_record_counts() {
    let vault = Vault::full();
    let bytes = sealed(&vault, "alice");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        assert_eq!(got(&vault, "alice", &chat(), &changed), None, "byte {at}");
        assert_eq!(got(&vault, "alice", &chat(), &bytes[..at]), None, "cut at {at}");
    }
    assert_eq!(got(&vault, "alice", &chat(), &[bytes.as_slice(), b"x"].concat()), None);
}

#[test]
fn two_seals_of_the_same_have_nothing_in_common_after_the_head() {
    let vault = Vault::full();
    let (one, two) = (sealed(&vault, "alice"), sealed(&vault, "alice"));
    let nonce = one.len() - "ey.canary.token".len() - 40;
    assert_eq!(one[..nonce], two[..nonce]);
    assert_ne!(one[nonce..nonce + 24], two[nonce..nonce + 24]);
    assert_ne!(one[nonce + 24..], two[nonce + 24..]);
}

#[test]
fn a_rotation_of_the_ring_loses_nothing_until_the_old_key_goes() {
    let (old, new) = (line("old", 1), line("new", 2));
    let ring = Arc::new(KeyRing::parse(&old).unwrap());
    let vault = Vault::of(Some(ring.clone()), Mode::Seal, None);
    let before = sealed(&vault, "alice");
    assert!(holds(&before, "old"));
    // First every replica knows the new key, then it seals.
    assert_eq!(ring.replace(&format!("{old}\n{new}")), Ok(true));
    assert!(holds(&sealed(&vault, "alice"), "old"));
    assert_eq!(ring.replace(&format!("{new}\n{old}")), Ok(true));
    assert!(got(&vault, "alice", &chat(), &before).is_some());
    let after = sealed(&vault, "alice");
    assert!(holds(&after, "new") && !holds(&after, "old"));
    assert_eq!(ring.replace(&new), Ok(true));
    assert!(got(&vault, "alice", &chat(), &after).is_some());
    assert_eq!(got(&vault, "alice", &chat(), &before), None);
    assert!(vault.rendered_metrics().contains("store_unopened_total{kind=\"token\",why=\"no_key\"} 1"));
    // The same id with another key is another key.
    assert_eq!(ring.replace(&line("new", 3)), Ok(true));
    assert_eq!(got(&vault, "alice", &chat(), &after), None);
}

#[test]
fn sealing_is_turned_on_and_off_without_losing_what_is_stored() {
    let lines = [line("k", 1)];
    let (off, seal) = (Vault::plain(), vault(&lines, Mode::Seal));
    let (open, require) = (vault(&lines, Mode::Open), vault(&lines, Mode::Require));
    let (plain, closed) = (sealed(&off, "alice"), sealed(&seal, "alice"));
    assert!(holds(&plain, "canary") && holds(&sealed(&open, "alice"), "canary"));
    assert!(!holds(&closed, "canary") && !holds(&sealed(&require, "alice"), "canary"));
    for (vault, reads_plain, reads_sealed) in
        [(&off, true, false), (&seal, true, true), (&open, true, true), (&require, false, true)]
    {
        assert_eq!(got(vault, "alice", &chat(), &plain).is_some(), reads_plain);
        assert_eq!(got(vault, "alice", &chat(), &closed).is_some(), reads_sealed);
        let (as_is, shut) =
            (off.close(Kind::Event, &[], b"text").unwrap(), seal.close(Kind::Event, &[], b"text").unwrap());
        assert_eq!(vault.open(Kind::Event, &[], &as_is).is_ok(), reads_plain);
        assert_eq!(vault.open(Kind::Event, &[], &shut).is_ok(), reads_sealed);
    }
}

#[test]
fn what_was_sealed_as_one_thing_opens_as_nothing_else() {
    let vault = Vault::full();
    let bytes = vault.close(Kind::Outcome, &[b"a"], b"done").unwrap();
    assert_eq!(vault.open(Kind::Outcome, &[b"a"], &bytes).unwrap(), b"done");
    for (kind, bound_to) in [
        (Kind::Event, &[&b"a"[..]][..]),
        (Kind::Outcome, &[b"b"]),
        (Kind::Outcome, &[]),
        (Kind::Outcome, &[b"", b"a"]),
        (Kind::Outcome, &[b"a", b""]),
    ] {
        assert_eq!(vault.open(kind, bound_to, &bytes), Err(Unopened::Damaged));
    }
}

#[test]
fn names_hide_users_and_lead_back_to_them_with_the_key_alone() {
    let vault = Vault::full();
    let name = vault.name(&user("alice"));
    assert_eq!(name.as_str().len(), 43);
    assert!(vault.name(&user("alice")) == name && vault.name(&user("alicf")) != name);
    assert!(vault.read_name(name.as_str()) == Some(name.clone()));
    for text in ["alice", "", &name.as_str()[..42], "=", &"ü".repeat(43)] {
        assert!(vault.read_name(text).is_none(), "{text}");
    }
    let kept = vault.keep_user(&user("alice"), &name).unwrap().unwrap();
    assert!(!holds(&kept, "alice"));
    assert_eq!(vault.user(&name, Some(&kept)).unwrap(), user("alice"));
    assert!(vault.user(&vault.name(&user("bob")), Some(&kept)).is_err());
    assert!(vault.user(&name, None).is_err());
    let other = Vault::of(None, Mode::Seal, Some("another hash key of thirty-two bytes"));
    assert!(other.name(&user("alice")) != name && other.user(&name, Some(&kept)).is_err());
    assert_ne!(other.digest(&["a"]), vault.digest(&["a"]));
    assert_ne!(vault.digest_again(&[1; 32]), [1; 32]);
    assert!(!format!("{name:?}").contains(name.as_str()));
}

#[test]
fn a_store_with_other_names_is_told_apart() {
    let (none, one) = (Vault::plain(), Vault::full());
    let two = Vault::of(None, Mode::Seal, Some("another hash key of thirty-two bytes"));
    for (ours, theirs, expected) in [
        (&none, &none, Ok(())),
        (&one, &one, Ok(())),
        (&one, &none, Err(NamesProblem::NotHashed)),
        (&none, &one, Err(NamesProblem::Hashed)),
        (&one, &two, Err(NamesProblem::OtherKey)),
    ] {
        assert_eq!(ours.check_names(theirs.names_mark()), expected);
    }
}

#[test]
fn a_known_answer_does_not_change_unnoticed() {
    // What is stored must open after an upgrade. Made by another implementation, in Python, which gives the published
    // vector of draft-irtf-cfrg-xchacha too.
    let vault = Vault::full();
    let name = vault.name(&user("alice"));
    assert_eq!(name.as_str(), "bT7dnkLXnob2EF8KiohsOg4a6xgr4JfrJCb0f9y2Iww");
    let stored =
        STANDARD.decode("AAECazEAAQIDBAUGBwgJCgsMDQ4PEBESExQVFhfRsrWOQfE7sw4UJbPLXC1VyScvC0A=").unwrap();
    assert_eq!(vault.open(Kind::Message, &[b"id", b"1"], &stored).unwrap(), b"known");
}

proptest! {
    #[test]
    fn whatever_is_closed_is_opened_again(bytes: Vec<u8>, marked: bool, part: Vec<u8>) {
        let bytes = if marked { [&[MARK], bytes.as_slice()].concat() } else { bytes };
        let lines = [line("k", 1)];
        for vault in [Vault::plain(), vault(&lines, Mode::Seal), vault(&lines, Mode::Open), Vault::full()] {
            let stored = vault.close(Kind::Message, &[&part], &bytes).unwrap();
            prop_assert_eq!(vault.open(Kind::Message, &[&part], &stored).unwrap(), bytes.clone());
        }
    }

    #[test]
    fn no_bytes_make_opening_panic_and_none_open(bytes: Vec<u8>, id in 0usize..4) {
        let start: &[u8] = [&[][..], &[MARK, SEALED], &[MARK, SEALED, 2, b'k', b'1'], &[MARK, SEALED, 255]][id];
        let bytes = [start, &bytes].concat();
        let vault = vault(&[line("k1", 1)], Mode::Require);
        prop_assert!(vault.open(Kind::Event, &[], &bytes).is_err());
        prop_assert!(vault.unseal(Kind::Token, &[b"a"], &bytes).is_err());
        let full = Vault::full();
        prop_assert!(full.user(&full.name(&user("a")), Some(&bytes)).is_err());
        let _ = (full.open(Kind::Event, &[], &bytes), got(&full, "a", &chat(), &bytes));
    }

    #[test]
    fn a_corrupted_record_is_a_miss(at: prop::sample::Index, to: u8, cut: prop::sample::Index) {
        let vault = Vault::full();
        let bytes = sealed(&vault, "alice");
        let mut changed = bytes.clone();
        let at = at.index(bytes.len());
        changed[at] = to;
        prop_assert_eq!(got(&vault, "alice", &chat(), &changed).is_some(), bytes[at] == to);
        prop_assert_eq!(got(&vault, "alice", &chat(), &bytes[..cut.index(bytes.len())]), None);
    }
}
