//! What the emulated resource remembers: its keys, its identities, and which tokens were issued to whom.
//!
//! Plain data without I/O; `Shared` in `service` holds it behind one lock. Bounded: identities are refused beyond a
//! count, tokens are forgotten once they are long expired or too many. Token texts are never kept, only their digests.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

use crate::clock::Timestamp;
use crate::emulator::settings::StartError;
use crate::secret::Secret;

/// How long a token is remembered: longer than any token lives, so that `Expired` can be told from `Unknown`.
const TOKEN_MEMORY: Duration = Duration::from_hours(48);

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

struct Identity {
    custom_id: Option<String>,
    last_token_issued: Option<Timestamp>,
    /// Tokens up to this sequence number are revoked.
    revoked_through: u64,
}

struct Token {
    identity: Arc<str>,
    scopes: Vec<&'static str>,
    expires: Timestamp,
    sequence: u64,
    key: u64,
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

/// No room for another identity.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::emulator) struct Full;

pub(in crate::emulator) struct State {
    resource: String,
    primary: Key,
    secondary: Key,
    next_key: u64,
    identities: HashMap<Arc<str>, Identity>,
    custom_ids: HashMap<String, Arc<str>>,
    tokens: HashMap<[u8; 32], Token>,
    /// Digests by age, for forgetting.
    token_ages: VecDeque<([u8; 32], Timestamp)>,
    sequence: u64,
    limits: Limits,
}

impl State {
    pub(in crate::emulator) fn new(access_key: Option<&Secret>, limits: Limits) -> Result<Self, StartError> {
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
            resource: uuid::Uuid::new_v4().to_string(),
            primary,
            secondary: Key::random(1),
            next_key: 2,
            identities: HashMap::new(),
            custom_ids: HashMap::new(),
            tokens: HashMap::new(),
            token_ages: VecDeque::new(),
            sequence: 0,
            limits,
        })
    }

    /// Forgets identities and tokens; keys and resource stay.
    pub(in crate::emulator) fn reset(&mut self) {
        self.identities.clear();
        self.custom_ids.clear();
        self.tokens.clear();
        self.token_ages.clear();
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

    /// Makes an identity, or finds the one that already has this customId.
    pub(in crate::emulator) fn create(&mut self, custom_id: Option<String>) -> Result<IdentityView, Full> {
        if let Some(known) = custom_id.as_ref().and_then(|custom_id| self.custom_ids.get(custom_id)) {
            let id = known.to_string();
            return self.view(&id).ok_or(Full);
        }
        if self.identities.len() >= self.limits.identities {
            return Err(Full);
        }
        let id: Arc<str> = loop {
            let id = format!("8:acs:{}_{}", self.resource, user_part());
            if !self.identities.contains_key(id.as_str()) {
                break id.into();
            }
        };
        if let Some(custom_id) = &custom_id {
            self.custom_ids.insert(custom_id.clone(), Arc::clone(&id));
        }
        let identity = Identity { custom_id: custom_id.clone(), last_token_issued: None, revoked_through: 0 };
        self.identities.insert(Arc::clone(&id), identity);
        Ok(IdentityView { id: id.to_string(), custom_id, last_token_issued: None })
    }

    /// Takes an identity of an earlier run as its own, if the id is one of ACS and there is room; says whether it is
    /// alive now.
    pub(in crate::emulator) fn adopt(&mut self, id: &str) -> bool {
        match self.known(id) {
            Known::Alive => true,
            Known::Malformed => false,
            Known::Gone | Known::Foreign if self.identities.len() >= self.limits.identities => false,
            Known::Gone | Known::Foreign => {
                let identity = Identity { custom_id: None, last_token_issued: None, revoked_through: 0 };
                self.identities.insert(id.into(), identity);
                true
            }
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
            Some((resource, user)) if is_guid(resource) && is_guid(user) => {
                if resource == self.resource {
                    Known::Gone
                } else {
                    Known::Foreign
                }
            }
            _ => Known::Malformed,
        }
    }

    /// Forgets an identity, which kills its tokens and frees its customId.
    pub(in crate::emulator) fn delete(&mut self, id: &str) {
        if let Some(custom_id) = self.identities.remove(id).and_then(|identity| identity.custom_id) {
            self.custom_ids.remove(&custom_id);
        }
    }

    /// Revokes every token issued to the identity so far.
    pub(in crate::emulator) fn revoke(&mut self, id: &str) {
        let sequence = self.sequence;
        if let Some(identity) = self.identities.get_mut(id) {
            identity.revoked_through = sequence;
        }
    }

    /// Takes the number of a token about to be issued. What is revoked later includes it, even if it is signed later.
    pub(in crate::emulator) fn begin_token(&mut self, id: &str, now: Timestamp) -> Option<u64> {
        let identity = self.identities.get_mut(id)?;
        identity.last_token_issued = Some(now);
        self.sequence = self.sequence.saturating_add(1);
        Some(self.sequence)
    }

    /// Remembers a token that was signed under `sequence`.
    pub(in crate::emulator) fn record_token(
        &mut self,
        text: &str,
        contents: &super::token::Contents<'_>,
        key: u64,
    ) {
        let identity = match self.identities.get_key_value(contents.identity) {
            Some((id, _)) => Arc::clone(id),
            // Deleted while the token was being signed.
            None => contents.identity.into(),
        };
        let digest = digest(text);
        self.tokens.insert(
            digest,
            Token {
                identity,
                scopes: contents.scopes.to_vec(),
                expires: contents.expires,
                sequence: contents.sequence,
                key,
            },
        );
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
        let Some(token) = self.tokens.get(&digest(text)) else { return TokenState::Unknown };
        let Some(identity) = self.identities.get(&token.identity) else { return TokenState::Deleted };
        if token.sequence <= identity.revoked_through {
            return TokenState::Revoked;
        }
        if token.key != self.primary.number && token.key != self.secondary.number {
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

    pub(in crate::emulator) fn listing(&self, _now: Timestamp, limit: usize) -> Vec<serde_json::Value> {
        self.identities.keys().take(limit).map(|id| serde_json::json!({ "id": **id })).collect()
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
fn user_part() -> String {
    let (a, b, c): (u16, u64, u16) = rand::random();
    let [b0, b1, b2, b3, b4, b5, b6, b7] = b.to_be_bytes();
    format!("0000001a-{a:04x}-{b0:02x}{b1:02x}-{c:04x}-{b2:02x}{b3:02x}{b4:02x}{b5:02x}{b6:02x}{b7:02x}")
}

/// Lower-case hexadecimal in groups of 8, 4, 4, 4 and 12.
fn is_guid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12])
        && groups.iter().all(|group| group.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

#[cfg(test)]
#[path = "state_tests.rs"]
mod tests;
