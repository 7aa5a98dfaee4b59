//! How an emulator is set up, and what can stop it from starting.
//!
//! Used by `config` (the part that a settings file may hold) and by whoever starts an emulator in process.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::mailbox::Bounds;
use crate::secret::Secret;

/// How an emulator is set up. The section `[emulator]` of the settings holds most of it; the rest is for code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where HTTP is served, as IP address and port. Port 0 takes a free one.
    pub address: String,
    /// Where HTTPS is served, as IP address and port. Port 0 takes a free one.
    pub tls_address: String,
    /// The SMS senders the resource owns: numbers in E.164 form, short codes, alphanumeric names; separated by commas.
    pub senders: String,
    /// The domains that are not linked to the resource, so that mail from them is refused; separated by commas. Mail
    /// from any other domain is sent.
    pub unlinked_domains: String,
    /// How long after it was accepted a message is delivered and its report posted, by the emulator's clock.
    #[serde(with = "crate::duration")]
    pub deliver_after: Duration,
    /// What `Retry-After` says about a mail that is under way, in seconds. At least 1: Python's SDK takes 0 for 30.
    pub email_retry_after: u64,
    /// How long after a revocation the tokens still work; the real service may take 15 minutes.
    #[serde(with = "crate::duration")]
    pub revoke_after: Duration,
    /// The published rate limits times this; 0 is none.
    pub throttle: f64,
    /// Where events are posted, as an HTTP or HTTPS address; empty: nowhere.
    pub webhook_url: String,
    /// The schema of the events: `event_grid` or `cloud_events`.
    pub webhook_schema: String,
    /// How many messages of each kind are kept.
    pub max_messages: usize,
    /// How many MiB of messages of each kind are kept.
    pub max_megabytes: usize,
    /// How long a message is kept.
    #[serde(with = "crate::duration")]
    pub max_age: Duration,
    /// Makes ids and chance repeatable; 0 is none.
    pub seed: u64,
    /// What callers from other machines must bring for the control paths and the inbox; without it they are refused.
    #[serde(skip)]
    pub control_token: Option<Secret>,
    /// Where the CA file is written; without it, a new private folder under the system's temporary one, which goes
    /// when the emulator does.
    #[serde(skip)]
    pub data_dir: Option<PathBuf>,
    /// The primary access key, base64; without it a random one.
    #[serde(skip)]
    pub access_key: Option<Secret>,
    /// How far the date of a request may be from the emulator's clock.
    #[serde(skip)]
    pub date_margin: Duration,
    /// Whether addresses that other machines can reach are allowed.
    #[serde(skip)]
    pub allow_off_loopback: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:8082".into(),
            tls_address: "127.0.0.1:8083".into(),
            senders: "+18005550100, 50505, Contoso".into(),
            unlinked_domains: "not-linked.example.net".into(),
            deliver_after: Duration::from_millis(200),
            email_retry_after: 1,
            revoke_after: Duration::ZERO,
            throttle: 0.0,
            webhook_url: String::new(),
            webhook_schema: "event_grid".into(),
            max_messages: 50_000,
            max_megabytes: 64,
            max_age: Duration::from_hours(24),
            seed: 0,
            control_token: None,
            data_dir: None,
            access_key: None,
            date_margin: Duration::from_mins(5),
            allow_off_loopback: false,
        }
    }
}

impl Settings {
    /// The default settings on free loopback ports, for tests and for running several at once.
    pub fn on_free_ports() -> Self {
        Self { address: "127.0.0.1:0".into(), tls_address: "127.0.0.1:0".into(), ..Self::default() }
    }

    /// The seed, if there is one.
    pub(super) fn seed(&self) -> Option<u64> {
        (self.seed != 0).then_some(self.seed)
    }

    /// How much each service may keep.
    pub(super) fn bounds(&self) -> Bounds {
        let bytes = self.max_megabytes.saturating_mul(1024 * 1024);
        Bounds { count: self.max_messages, age: self.max_age, bytes }
    }

    /// Whether the resource owns this SMS sender. Alphanumeric names compare without case.
    pub(super) fn owns_sender(&self, sender: &str) -> bool {
        listed(&self.senders).any(|owned| owned.eq_ignore_ascii_case(sender))
    }

    /// Whether mail from this domain is sent.
    pub(super) fn is_linked(&self, domain: &str) -> bool {
        !listed(&self.unlinked_domains).any(|unlinked| unlinked.eq_ignore_ascii_case(domain))
    }

    /// The two addresses, checked.
    pub(super) fn addresses(&self) -> Result<(SocketAddr, SocketAddr), StartError> {
        let check = |setting: &'static str, text: &str| {
            let address: SocketAddr =
                text.parse().map_err(|_| StartError::Address { setting, text: text.to_owned() })?;
            if !address.ip().is_loopback() && !self.allow_off_loopback {
                return Err(StartError::OffLoopback { setting, address });
            }
            Ok(address)
        };
        Ok((check("emulator.address", &self.address)?, check("emulator.tls_address", &self.tls_address)?))
    }
}

/// The items of a list separated by commas.
fn listed(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Why an emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address is not one.
    #[error("{setting} is {text:?}, but must be an IP address and port such as 127.0.0.1:8082")]
    Address {
        /// The setting.
        setting: &'static str,
        /// Its value.
        text: String,
    },
    /// An address that other machines can reach was not explicitly allowed.
    #[error(
        "{setting} is {address}, which other machines can reach; the emulator stays on loopback unless told otherwise"
    )]
    OffLoopback {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: SocketAddr,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({setting}); is another emulator running? Port 0 takes a free port")]
    Bind {
        /// The setting.
        setting: &'static str,
        /// Its value.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The given access key is not base64, or empty.
    #[error("the emulator's access key must be non-empty base64")]
    AccessKey,
    /// The webhook of the settings is not one. Its address is not told: it may hold a key.
    #[error("emulator.webhook_url and webhook_schema: {0}")]
    Webhook(String),
    /// The built-in rate limits cannot be read.
    #[error("the emulator's rate limits cannot be read")]
    Limits,
    /// The built-in signing key cannot be used.
    #[error(transparent)]
    SigningKey(#[from] super::identity::SigningKeyError),
    /// The certificates for HTTPS could not be made.
    #[error("cannot make the emulator's certificates")]
    Certificate(#[from] rcgen::Error),
    /// HTTPS could not be set up with the certificates.
    #[error("cannot set up the emulator's HTTPS")]
    Tls(#[from] rustls::Error),
    /// The CA file could not be written.
    #[error("cannot write the emulator's CA file {}", path.display())]
    CaFile {
        /// The file or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_default_settings_file() {
        let file: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
        let read: Settings = file["emulator"].clone().try_into().unwrap();
        let built_in = Settings::default();
        assert_eq!(format!("{read:?}"), format!("{built_in:?}"));
    }

    #[test]
    fn senders_and_domains_are_lists() {
        let settings = Settings::default();
        for (sender, owned) in
            [("+18005550100", true), ("50505", true), ("contoso", true), ("+18005550101", false), ("", false)]
        {
            assert_eq!(settings.owns_sender(sender), owned, "{sender:?}");
        }
        assert!(settings.is_linked("example.com"));
        assert!(!settings.is_linked("Not-Linked.example.net"));
    }

    #[test]
    fn unknown_settings_are_refused() {
        assert!(toml::from_str::<Settings>("adress = \"127.0.0.1:1\"").is_err());
    }

    #[test]
    fn addresses_off_loopback_need_to_be_allowed() {
        for text in ["0.0.0.0:0", "[::]:0", "192.0.2.1:80"] {
            let settings = Settings { tls_address: text.into(), ..Settings::on_free_ports() };
            assert!(matches!(
                settings.addresses(),
                Err(StartError::OffLoopback { setting: "emulator.tls_address", .. })
            ));
            let allowed = Settings { allow_off_loopback: true, ..settings };
            assert_eq!(allowed.addresses().unwrap().1.to_string(), text);
        }
        for text in ["127.0.0.1", "localhost:80", "", "127.0.0.1:99999"] {
            let settings = Settings { address: text.into(), ..Settings::on_free_ports() };
            assert!(matches!(settings.addresses(), Err(StartError::Address { .. })), "{text:?}");
        }
    }
}
