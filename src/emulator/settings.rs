//! How an emulator is set up, and what can stop it from starting.
//!
//! Used by `config` (the part that a settings file may hold) and by whoever starts an emulator in process.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::secret::Secret;

/// How an emulator is set up. The section `[emulator]` of the settings holds the two addresses; the rest is for code.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where HTTP is served, as IP address and port. Port 0 takes a free one.
    pub address: String,
    /// Where HTTPS is served, as IP address and port. Port 0 takes a free one.
    pub tls_address: String,
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
    /// The built-in signing key cannot be used.
    #[error(transparent)]
    SigningKey(#[from] super::token::SigningKeyError),
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
        assert_eq!((read.address, read.tls_address), (built_in.address, built_in.tls_address));
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
