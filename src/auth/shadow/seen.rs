//! What one caller has used, in so few words that no user can be told from them.
//!
//! A beginning of user ids is remembered up to its first separator, and shown once three different users had it: what
//! one user alone has may be that user's name. Bounded in every direction.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use crate::broker::policy::{Need, Rpc, RpcSet, mail_pattern_problem};
use crate::broker::types::{Scope, Validity};

/// Beginnings, and senders of a kind, that are remembered.
const MAX_NAMES: usize = 32;

/// The longest sender that is remembered: an address is no longer. Nobody has looked yet at what a caller wrote there.
const MAX_SENDER_BYTES: usize = 320;

/// So many users make a beginning fit to be shown.
const CROWD: usize = 3;

/// What separates the part of a user id that is not the user's own.
const SEPARATORS: [char; 4] = [':', '/', '|', '#'];

/// What one caller has used.
pub(super) struct Seen {
    rpcs: RpcSet,
    scopes: BTreeSet<Scope>,
    validity: Option<Validity>,
    beginnings: BTreeMap<String, BTreeSet<u64>>,
    /// There were user ids that share no beginning, or too many beginnings.
    any_user: bool,
    sms_senders: BTreeSet<String>,
    email_senders: BTreeSet<String>,
    /// There were senders that would be a pattern in a policy, or nothing.
    stray_senders: bool,
    service_identity: bool,
    every_event: bool,
    /// Tells users apart without remembering them; its key is made up at the start and shown to nobody.
    hasher: RandomState,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            rpcs: RpcSet::NONE,
            scopes: BTreeSet::new(),
            validity: None,
            beginnings: BTreeMap::new(),
            any_user: false,
            sms_senders: BTreeSet::new(),
            email_senders: BTreeSet::new(),
            stray_senders: false,
            service_identity: false,
            every_event: false,
            hasher: RandomState::new(),
        }
    }
}

impl Seen {
    pub(super) fn note(&mut self, rpc: Rpc, need: Need<'_>) {
        // A caller that writes `*` must not find it in the policy that somebody makes of this.
        let mut add = |to: &mut BTreeSet<String>, name: &str, is_fit: bool| {
            if name.is_empty() || name.contains('*') || name.trim() != name || !is_fit {
                self.stray_senders = true;
            } else if to.len() < MAX_NAMES && name.len() <= MAX_SENDER_BYTES && !to.contains(name) {
                to.insert(name.to_owned());
            }
        };
        match need {
            Need::Rpc => self.rpcs = self.rpcs.with(rpc),
            Need::User(user) => self.user(user.as_str()),
            Need::EveryUser => self.any_user = true,
            Need::Scopes(scopes) => self.scopes.extend(scopes.iter()),
            Need::Validity(validity) => self.validity = self.validity.max(Some(validity)),
            Need::SmsSender(sender) => add(&mut self.sms_senders, sender, true),
            Need::EmailSender(sender) => {
                add(&mut self.email_senders, sender, mail_pattern_problem(sender).is_none());
            }
            Need::ServiceIdentity => self.service_identity = true,
            Need::EveryEvent => self.every_event = true,
        }
    }

    fn user(&mut self, id: &str) {
        let Some(end) = id.find(SEPARATORS) else {
            self.any_user = true;
            return;
        };
        let hash = self.hasher.hash_one(id);
        // Separators are one byte long.
        let beginning = id.get(..=end).unwrap_or(id);
        let has_room = self.beginnings.len() < MAX_NAMES;
        match self.beginnings.get_mut(beginning) {
            Some(users) if users.len() >= CROWD => {}
            Some(users) => drop(users.insert(hash)),
            None if has_room => {
                self.beginnings.insert(beginning.to_owned(), BTreeSet::from([hash]));
            }
            None => self.any_user = true,
        }
    }

    /// As a table of a policy. What `name` is not fit to be, a name or a match, is said in a comment.
    pub(super) fn rendered(&self, name: &str) -> String {
        let list = |names: Vec<&str>| {
            toml::Value::from(names.into_iter().map(str::to_owned).collect::<Vec<_>>()).to_string()
        };
        let shown = |names: &BTreeSet<String>| list(names.iter().map(String::as_str).collect());
        let mut text = String::from("\n[[callers]]\n");
        if name.starts_with('{') {
            text.push_str(&format!("name = \"\"  # the policy does not list it yet\nmatch = [{name}]\n"));
        } else if name.contains(' ') {
            // What is said of those who cannot be told apart; no name of a caller has a space.
            text.push_str(&format!("name = \"\"  # {name}: what would prove who it is?\nmatch = []\n"));
        } else {
            text.push_str(&format!(
                "name = {}\nmatch = []  # as it is in the policy\n",
                toml::Value::from(name)
            ));
        }
        text.push_str(&format!("rpcs = {}\n", list(self.rpcs.iter().map(Rpc::name).collect())));
        if !self.scopes.is_empty() {
            text.push_str(&format!("scopes = {}\n", list(self.scopes.iter().map(|s| s.as_str()).collect())));
        }
        if let Some(validity) = self.validity {
            let longest = humantime::format_duration(validity.as_duration());
            text.push_str(&format!("max_validity = \"{longest}\"  # the longest asked for\n"));
        }
        let crowds = self.beginnings.iter().filter(|(_, users)| users.len() >= CROWD);
        let mut prefixes: Vec<&str> = crowds.map(|(beginning, _)| beginning.as_str()).collect();
        let rare = self.beginnings.len() - prefixes.len();
        if self.any_user {
            prefixes = vec!["*"];
            text.push_str("# Users were named whose ids share no beginning such as \"shop:\".\n");
        }
        if rare > 0 {
            text.push_str(&format!("# {rare} beginnings that fewer than {CROWD} users had are not shown.\n"));
        }
        if !prefixes.is_empty() {
            text.push_str(&format!("user_prefixes = {}\n", list(prefixes)));
        }
        for (key, names) in [("sms_senders", &self.sms_senders), ("email_senders", &self.email_senders)] {
            if !names.is_empty() {
                text.push_str(&format!("{key} = {}\n", shown(names)));
            }
        }
        if self.stray_senders {
            text.push_str("# Senders that no policy can name, for they are empty, no address or a pattern, are not shown.\n");
        }
        if self.service_identity {
            text.push_str("service_identity = true\n");
        }
        if self.every_event {
            text.push_str("# It watched events: set events = \"all\" if it needs those of others too.\n");
        }
        text
    }
}
