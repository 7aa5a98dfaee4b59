//! What the emulated resource remembers: its keys, its identities, and which tokens were issued to whom.
//!
//! Plain data without I/O; `Shared` in `service` holds it behind one lock. Bounded: identities are refused beyond a
//! count, tokens are forgotten once they are long expired or too many. Token texts are never kept, only their digests.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use super::assignments::Assignments;
use super::revocation::Revocations;
use crate::clock::Timestamp;
use crate::emulator::settings::StartError;
use crate::secret::Secret;

/// How long a token is remembered: longer than any token lives, so that `Expired` can be told from `Unknown`.
const TOKEN_MEMORY: Duration = Duration::from_hours(48);
/// How many tokens of an identity are listed.
pub(super) const LISTED_TOKENS: usize = 5;

/// How much is remembered at the most.
#[derive(Debug, Clone, Copy)]
pub(in crate::emulator) struct Limits {
    pub(in crate::emulator) identities: usize,
    pub(in crate::emulator) tokens: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { identities: 250_000, tokens: 500_000 }
    }
}

/// One of the two access keys of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AccessKey {
    /// The key in the connection strings that the emulator hands out.
    Primary,
    /// The other key, which lets one be replaced without an outage.
    Secondary,
}

/// What the emulator knows of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenState {
    /// The real service would accept it.
    Valid {
        /// The raw id of its identity.
        identity: String,
        /// Its scopes in the order they were asked for.
        scopes: Vec<String>,
        /// When it ends.
        expires: Timestamp,
    },
    /// The tokens of its identity were revoked after it was issued.
    Revoked,
    /// Its identity was deleted.
    Deleted,
    /// Its time is over.
    Expired,
    /// The access key with which it was issued was replaced.
    KeyRotated,
    /// Not issued by this emulator since its start or last reset, or so long ago that it was forgotten.
    Unknown,
}

/// An access key and the number by which tokens remember it; a replaced key's number never comes back.
struct Key {
    number: u64,
    text: Secret,
    bytes: Vec<u8>,
}

#[derive(Default)]
pub(super) struct Identity {
    pub(super) custom_id: Option<String>,
    pub(super) last_token_issued: Option<Timestamp>,
    /// Its place in the order of creation.
    number: u64,
    revocations: Revocations,
    /// The digests of its last tokens, newest last.
    pub(super) recent: VecDeque<Digest256>,
}

/// What a token is known by: its text is never kept.
pub(super) type Digest256 = [u8; 32];

pub(super) struct Token {
    identity: Arc<str>,
    holder: Holder,
    pub(super) scopes: Vec<&'static str>,
    pub(super) issued: Timestamp,
    pub(super) expires: Timestamp,
    sequence: u64,
    /// The access key it was issued with; none for a token that a holder of an Entra token got.
    key: Option<u64>,
    /// Its first six characters and its last four.
    pub(super) edges: [u8; 10],
}

/// Whose token it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::emulator) enum Holder {
    /// An identity of the resource: the token dies with it.
    Identity,
    /// A user of Teams, whom the resource neither makes nor deletes.
    TeamsUser,
}

/// An identity as operations see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::emulator) struct IdentityView {
    pub(in crate::emulator) id: String,
    pub(in crate::emulator) custom_id: Option<String>,
    pub(in crate::emulator) last_token_issued: Option<Timestamp>,
}

/// How an id of a request relates to the resource.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::emulator) enum Known {
    /// It names a living identity.
    Alive,
    /// It could be an id of this resource, but names nothing alive: deleted, or never made.
    Gone,
    /// It is the id of another resource.
    Foreign,
    /// It is no ACS user id at all.
    Malformed,
}

/// Why an identity was not made.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::emulator) enum NotMade {
    /// No room for another identity.
    Full,
    /// The id that was drawn is taken: draw again.
    Taken,
}

pub(in crate::emulator) struct State {
    resource: String,
    primary: Key,
    secondary: Key,
    next_key: u64,
    pub(super) identities: HashMap<Arc<str>, Identity>,
    /// The identities in the order of their creation.
    pub(super) order: BTreeMap<u64, Arc<str>>,
    next_number: u64,
    custom_ids: HashMap<String, Arc<str>>,
    pub(super) tokens: HashMap<Digest256, Token>,
    /// Digests by age, for forgetting.
    token_ages: VecDeque<(Digest256, Timestamp)>,
    sequence: u64,
    pub(super) assignments: Assignments,
    limits: Limits,
}

impl State {
    /// `resource` is the GUID that all ids of this resource share.
    pub(in crate::emulator) fn new(
        access_key: Option<&Secret>,
        limits: Limits,
        resource: uuid::Uuid,
    ) -> Result<Self, StartError> {
        let primary = match access_key {
            Some(text) => Key {
                number: 0,
                text: text.clone(),
                bytes: STANDARD
                    .decode(text.expose())
                    .ok()
                    .filter(|bytes| !bytes.is_empty())
                    .ok_or(StartError::AccessKey)?,
            },
            None => Key::random(0),
        };
        Ok(Self {
            resource: resource.to_string(),
            primary,
            secondary: Key::random(1),
            next_key: 2,
            identities: HashMap::new(),
            order: BTreeMap::new(),
            next_number: 0,
            custom_ids: HashMap::new(),
            tokens: HashMap::new(),
            token_ages: VecDeque::new(),
            sequence: 0,
            assignments: Assignments::default(),
            limits,
        })
    }

    /// Forgets identities, tokens and assignments; keys and resource stay.
    pub(in crate::emulator) fn reset(&mut self) {
        self.identities.clear();
        self.order.clear();
        self.custom_ids.clear();
        self.tokens.clear();
        self.token_ages.clear();
        self.assignments.clear();
    }

    pub(in crate::emulator) fn resource(&self) -> &str {
        &self.resource
    }

    pub(in crate::emulator) fn key_text(&self, which: AccessKey) -> Secret {
        match which {
            AccessKey::Primary => self.primary.text.clone(),
            AccessKey::Secondary => self.secondary.text.clone(),
        }
    }

    /// The keys a request may be signed with.
    pub(in crate::emulator) fn keys(&self) -> [(u64, Vec<u8>); 2] {
        [&self.primary, &self.secondary].map(|key| (key.number, key.bytes.clone()))
    }

    /// The number of the primary key.
    pub(in crate::emulator) fn primary_key(&self) -> u64 {
        self.primary.number
    }

    /// Replaces a key; every token issued with the old one is dead from now on.
    pub(in crate::emulator) fn rotate(&mut self, which: AccessKey) {
        let key = Key::random(self.next_key);
        self.next_key = self.next_key.saturating_add(1);
        match which {
            AccessKey::Primary => self.primary = key,
            AccessKey::Secondary => self.secondary = key,
        }
    }

    /// Makes an identity, or finds the one that already has this customId. `chance` becomes the user's part of the id.
    pub(in crate::emulator) fn create(
        &mut self,
        custom_id: Option<String>,
        chance: [u8; 12],
    ) -> Result<IdentityView, NotMade> {
        if let Some(known) = custom_id.as_ref().and_then(|custom_id| self.custom_ids.get(custom_id)) {
            let id = known.to_string();
            return self.view(&id).ok_or(NotMade::Full);
        }
        let id: Arc<str> = format!("8:acs:{}_{}", self.resource, user_part(chance)).into();
        if self.identities.contains_key(&id) {
            return Err(NotMade::Taken);
        }
        self.insert(&id, custom_id.clone())?;
        if let Some(custom_id) = &custom_id {
            self.custom_ids.insert(custom_id.clone(), Arc::clone(&id));
        }
        Ok(IdentityView { id: id.to_string(), custom_id, last_token_issued: None })
    }

    /// Makes the identity of this id unless it is there: that of a user who exchanges a token.
    pub(in crate::emulator) fn create_as(&mut self, id: &str) -> Result<(), NotMade> {
        if self.identities.contains_key(id) { Ok(()) } else { self.insert(&id.into(), None) }
    }

    fn insert(&mut self, id: &Arc<str>, custom_id: Option<String>) -> Result<(), NotMade> {
        if self.identities.len() >= self.limits.identities {
            return Err(NotMade::Full);
        }
        self.next_number = self.next_number.saturating_add(1);
        self.order.insert(self.next_number, Arc::clone(id));
        let identity = Identity { custom_id, number: self.next_number, ..Identity::default() };
        self.identities.insert(Arc::clone(id), identity);
        Ok(())
    }

    /// Takes an identity of an earlier run as its own, if the id is one of ACS and there is room; says whether it is
    /// alive now.
    pub(in crate::emulator) fn adopt(&mut self, id: &str) -> bool {
        match self.known(id) {
            Known::Alive => true,
            Known::Malformed => false,
            Known::Gone | Known::Foreign => self.insert(&id.into(), None).is_ok(),
        }
    }

    pub(in crate::emulator) fn view(&self, id: &str) -> Option<IdentityView> {
        let identity = self.identities.get(id)?;
        Some(IdentityView {
            id: id.to_owned(),
            custom_id: identity.custom_id.clone(),
            last_token_issued: identity.last_token_issued,
        })
    }

    pub(in crate::emulator) fn known(&self, id: &str) -> Known {
        if self.identities.contains_key(id) {
            return Known::Alive;
        }
        let parts = id.strip_prefix("8:acs:").and_then(|rest| rest.split_once('_'));
        match parts {
            Some((resource, user)) if is_guid(resource) && is_user_part(user) => {
                if resource == self.resource { Known::Gone } else { Known::Foreign }
            }
            _ => Known::Malformed,
        }
    }

    /// Forgets an identity, which kills its tokens and frees its customId.
    pub(in crate::emulator) fn delete(&mut self, id: &str) {
        let Some(identity) = self.identities.remove(id) else { return };
        self.order.remove(&identity.number);
        if let Some(custom_id) = identity.custom_id {
            self.custom_ids.remove(&custom_id);
        }
    }

    /// Revokes every token issued to the identity so far, with effect after `delay`.
    pub(in crate::emulator) fn revoke(&mut self, id: &str, now: Timestamp, delay: Duration) {
        let sequence = self.sequence;
        if let Some(identity) = self.identities.get_mut(id) {
            identity.revocations.add(sequence, now.plus(delay), now);
        }
    }

    /// Takes the number of a token about to be issued. What is revoked later includes it, even if it is signed later.
    /// Nothing if it is for an identity that is not there.
    pub(in crate::emulator) fn begin_token(
        &mut self,
        id: &str,
        holder: Holder,
        now: Timestamp,
    ) -> Option<u64> {
        match self.identities.get_mut(id) {
            Some(identity) => identity.last_token_issued = Some(now),
            None if holder == Holder::TeamsUser => {}
            None => return None,
        }
        self.sequence = self.sequence.saturating_add(1);
        Some(self.sequence)
    }

    /// Remembers a token that was signed under `sequence`.
    pub(in crate::emulator) fn record_token(
        &mut self,
        text: &str,
        contents: &super::token::Contents<'_>,
        holder: Holder,
        key: Option<u64>,
    ) {
        let digest = digest(text);
        let identity = match self.identities.get_key_value(contents.identity) {
            Some((id, _)) => Arc::clone(id),
            // A user of Teams; or deleted while the token was being signed.
            None => contents.identity.into(),
        };
        if let Some(identity) = self.identities.get_mut(contents.identity) {
            identity.recent.push_back(digest);
            if identity.recent.len() > LISTED_TOKENS {
                identity.recent.pop_front();
            }
        }
        let token = Token {
            identity,
            holder,
            scopes: contents.scopes.to_vec(),
            issued: contents.issued,
            expires: contents.expires,
            sequence: contents.sequence,
            key,
            edges: super::listing::edges(text),
        };
        self.tokens.insert(digest, token);
        self.token_ages.push_back((digest, contents.issued));
        while let Some((oldest, issued)) = self.token_ages.front() {
            let is_old = contents.issued.since(*issued) > TOKEN_MEMORY;
            if !is_old && self.token_ages.len() <= self.limits.tokens {
                break;
            }
            self.tokens.remove(oldest);
            self.token_ages.pop_front();
        }
    }

    pub(in crate::emulator) fn token_state(&self, text: &str, now: Timestamp) -> TokenState {
        match self.tokens.get(&digest(text)) {
            Some(token) => self.state_of(token, now),
            None => TokenState::Unknown,
        }
    }

    pub(super) fn state_of(&self, token: &Token, now: Timestamp) -> TokenState {
        match self.identities.get(&token.identity) {
            Some(identity) if identity.revocations.cover(token.sequence, now) => return TokenState::Revoked,
            None if token.holder == Holder::Identity => return TokenState::Deleted,
            Some(_) | None => {}
        }
        if token.key.is_some_and(|key| key != self.primary.number && key != self.secondary.number) {
            return TokenState::KeyRotated;
        }
        if token.expires <= now {
            return TokenState::Expired;
        }
        TokenState::Valid {
            identity: token.identity.to_string(),
            scopes: token.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
            expires: token.expires,
        }
    }

    pub(in crate::emulator) fn alive(&self) -> usize {
        self.identities.len()
    }

    /// The ids of all living identities, in order.
    pub(in crate::emulator) fn alive_ids(&self) -> BTreeSet<String> {
        self.identities.keys().map(|id| id.to_string()).collect()
    }
}

impl Key {
    fn random(number: u64) -> Self {
        let bytes: [u8; 64] = rand::random();
        Self { number, text: Secret::new(STANDARD.encode(bytes)), bytes: bytes.to_vec() }
    }
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text).into()
}

/// The second part of an id: shaped like a GUID, but not one of version 4; real ones begin with a slow counter.
fn user_part(chance: [u8; 12]) -> String {
    let [a, b, c, d, e, f, g, h, i, j, k, l] = chance;
    format!(
        "0000001a-{a:02x}{b:02x}-{c:02x}{d:02x}-{e:02x}{f:02x}-{g:02x}{h:02x}{i:02x}{j:02x}{k:02x}{l:02x}"
    )
}

/// What may follow the resource in an id: a user of the resource, a Teams-extension user (tenant and object), or an
/// Entra user (the same behind `wf_`).
fn is_user_part(text: &str) -> bool {
    let exchanged = text.strip_prefix("wf_").unwrap_or(text);
    match exchanged.split_once('_') {
        Some((tenant, object)) => is_guid(tenant) && is_guid(object),
        None => is_guid(text),
    }
}

/// Lower-case hexadecimal in groups of 8, 4, 4, 4 and 12.
pub(super) fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
