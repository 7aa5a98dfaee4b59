//! The HTTP client of Azure Communication Services.
//!
//! A plain client: it knows neither gRPC nor the broker nor the store, and shares no type with the emulator. It never
//! puts a key, a signature, a token or an id into a log, an error or a `Debug` text. `app/upstream.rs` uses it.

mod body;
mod chat;
mod connection_string;
mod credential;
mod email;
mod error;
mod failure;
mod fault;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod identity;
mod pipeline;
mod probe;
mod signing;
mod sms;
#[cfg(test)]
pub(crate) mod testing;
mod tls;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use tokio::time::Instant;

pub use self::chat::{
    ChatOperations, Message as ChatMessage, Page as ChatPage, Participant as ChatParticipant,
    Party as ChatParty, Range as ChatRange, Receipt as ReadReceipt, Refused as RefusedParticipant,
    Thread as ChatThread,
};
pub use self::connection_string::{ConnectionString, ConnectionStringError, Endpoint};
use self::credential::Credential;
pub use self::credential::Fingerprint;
use self::credential::entra::Principal;
pub use self::credential::entra::{Settings as EntraSettings, SignIn};
use self::credential::ring::Ring;
pub use self::credential::ring::{Fate, Probed, Refusal, Standing};
pub use self::email::{EmailOperations, Mail, MailAddress, MailAttachment, MailStatus};
pub use self::error::{BuildError, Class, Error};
pub use self::identity::{Created, IdentityOperations, Token};
use self::pipeline::Pipeline;
pub use self::sms::{OptOut, OptOutChange, Sms, SmsOperations, SmsRecipient, SmsRefusal, SmsResult};
use crate::clock::Clock;
use crate::secret::Secret;

/// `[acs]`: where ACS is and how patiently it is called. `config/default.toml` explains each key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The connection string itself; empty if it comes from the file. `config` resolves the two.
    #[serde(deserialize_with = "secret")]
    pub connection_string: Secret,
    /// The file that holds the connection string.
    #[serde(deserialize_with = "path")]
    pub connection_string_file: Option<PathBuf>,
    /// The connection string with the resource's other key; empty if there is none.
    #[serde(deserialize_with = "secret")]
    pub secondary_connection_string: Secret,
    /// The file that holds it.
    #[serde(deserialize_with = "path")]
    pub secondary_connection_string_file: Option<PathBuf>,
    /// What the broker proves itself with.
    pub credential: CredentialKind,
    /// Where the resource is, if no connection string says so.
    pub endpoint: String,
    /// How long the credential in use may go unproven before it is probed.
    #[serde(with = "crate::duration")]
    pub check_every: Duration,
    /// How many cached tokens of another key are replaced per second.
    pub reissue_per_second: u32,
    /// `[acs.entra]`.
    pub entra: EntraSettings,
    /// A PEM file of authorities to trust beside the system's.
    #[serde(deserialize_with = "path")]
    pub ca_file: Option<PathBuf>,
    /// The time for a call with all its attempts.
    #[serde(with = "crate::duration")]
    pub timeout: Duration,
    /// The time for an attempt.
    #[serde(with = "crate::duration")]
    pub attempt_timeout: Duration,
    /// Attempts at the most.
    pub attempts: u32,
    /// Calls under way at the same time.
    pub max_concurrency: usize,
    /// What ACS is told of the user.
    pub custom_id: CustomId,
}

/// What ACS is told of the user when an identity is created, so that it makes no second one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CustomId {
    /// Nothing.
    Off,
    /// A hash of the user id.
    Sha256,
    /// The user id.
    Plain,
}

/// What the broker proves itself with to ACS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CredentialKind {
    /// An access key of the resource.
    Key,
    /// An identity of Entra.
    Entra,
}

impl Settings {
    /// The settings that are out of range: key within `[acs]`, and what would be right.
    pub fn problems(&self) -> Vec<(String, String)> {
        let minute = Duration::from_secs(60);
        let mut problems = Vec::new();
        if !(Duration::from_secs(5)..=60 * minute).contains(&self.check_every) {
            problems.push(("check_every", "must be from 5s to 1h".to_owned()));
        }
        if !(Duration::from_millis(100)..=minute).contains(&self.timeout) {
            problems.push(("timeout", "must be from 100ms to 60s".to_owned()));
        }
        if !(Duration::from_millis(50)..=minute).contains(&self.attempt_timeout) {
            problems.push(("attempt_timeout", "must be from 50ms to 60s".to_owned()));
        } else if self.attempt_timeout > self.timeout {
            let timeout = crate::duration::text(self.timeout);
            problems.push(("attempt_timeout", format!("must not be longer than acs.timeout ({timeout})")));
        }
        if !(1..=10).contains(&self.attempts) {
            problems.push(("attempts", "must be from 1 to 10".to_owned()));
        }
        if !(1..=10_000).contains(&self.max_concurrency) {
            problems.push(("max_concurrency", "must be from 1 to 10000".to_owned()));
        }
        if !(1..=1000).contains(&self.reissue_per_second) {
            problems.push(("reissue_per_second", "must be from 1 to 1000".to_owned()));
        }
        let mut problems: Vec<_> = problems.into_iter().map(|(key, what)| (key.to_owned(), what)).collect();
        if self.credential == CredentialKind::Entra {
            if let Err(wrong) = Endpoint::parse(&self.endpoint) {
                problems.push(("endpoint".to_owned(), wrong.of_endpoint()));
            }
            let entra = self.entra.problems();
            problems.extend(entra.into_iter().map(|(key, what)| (format!("entra.{key}"), what)));
        }
        problems
    }
}

fn secret<'de, D: Deserializer<'de>>(from: D) -> Result<Secret, D::Error> {
    String::deserialize(from).map(Secret::new)
}

/// An empty text is no path.
fn path<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    String::deserialize(from).map(|text| (!text.is_empty()).then(|| PathBuf::from(text)))
}

/// A client of one ACS resource; cheap to clone, clones share connections and the limit of concurrent calls.
#[derive(Clone)]
pub struct Client(Arc<Pipeline>);

impl Client {
    /// A client that proves itself as the settings say; reads the authorities to trust, connects to nothing yet.
    pub fn from_settings(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, BuildError> {
        if settings.credential == CredentialKind::Key {
            let resource = ConnectionString::parse(settings.connection_string.expose())
                .map_err(|problem| BuildError::ConnectionString { key: "acs.connection_string", problem })?;
            return Self::new(settings, resource, clock);
        }
        let endpoint = Endpoint::parse(&settings.endpoint)
            .map_err(|problem| BuildError::Endpoint { problem: problem.of_endpoint() })?;
        let principal =
            Principal::new(settings.entra.clone(), settings.ca_file.as_deref(), Arc::clone(&clock))?;
        let ring = Ring::new(Credential::entra(principal), None, clock.now());
        Pipeline::new(settings, endpoint, ring, clock).map(|pipeline| Self(Arc::new(pipeline)))
    }

    /// A client with the key of this connection string, and the settings' secondary one if there is one.
    pub fn new(
        settings: &Settings,
        resource: ConnectionString,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        let second = other_key(&resource, settings.secondary_connection_string.expose())?;
        let ring = Ring::new(Credential::key(&resource), second, clock.now());
        Pipeline::new(settings, resource.endpoint().clone(), ring, clock)
            .map(|pipeline| Self(Arc::new(pipeline)))
    }

    /// Takes new connection strings, as they are in their files now; an empty second one is none. The key in use stays
    /// until a probe has shown another to be good. Says whether anything changed.
    ///
    /// # Errors
    /// Says what is wrong with them; nothing has changed then. Another resource is not taken without a restart.
    pub fn replace_keys(&self, first: &str, second: &str) -> Result<bool, BuildError> {
        let key = "acs.connection_string";
        let first = ConnectionString::parse(first)
            .map_err(|problem| BuildError::ConnectionString { key, problem })?;
        if first.endpoint() != &self.0.endpoint {
            return Err(BuildError::OtherResource { key });
        }
        let second = other_key(&first, second)?;
        Ok(self.0.ring.replace(Credential::key(&first), second, Instant::now()))
    }

    /// Does what is due for the credential: renews a token of Entra, probes. To be called every second or so; cheap when
    /// nothing is due.
    pub async fn tend(&self) {
        self.0.tend().await;
    }

    /// Asks ACS about every credential by itself, whatever is in use: for a doctor. Nothing changes.
    pub async fn examine_each(&self, deadline: Instant) -> Vec<(Fingerprint, Probed)> {
        let mut seen = Vec::new();
        for credential in self.0.ring.every() {
            seen.push((credential.name, self.0.probe(&credential, deadline).await));
        }
        seen
    }

    /// Which credential is in use, and whether ACS accepts it.
    pub fn standing(&self) -> Standing {
        self.0.ring.standing()
    }

    /// What is known of the credential of that name, and so of the tokens it issued.
    pub fn fate(&self, name: Fingerprint) -> Fate {
        self.0.ring.fate(name)
    }

    /// How often the credential in use has changed.
    pub fn credential_changes(&self) -> u64 {
        self.0.ring.changes()
    }

    /// How far ACS's clock was ahead of ours when it last answered, in milliseconds.
    pub fn skew(&self) -> Option<i64> {
        self.0.skew()
    }

    /// Where the resource is.
    pub fn endpoint(&self) -> &Endpoint {
        &self.0.endpoint
    }

    /// The operations on identities and their tokens.
    pub fn identity(&self) -> IdentityOperations<'_> {
        IdentityOperations(&self.0)
    }

    /// The operations on SMS.
    pub fn sms(&self) -> SmsOperations<'_> {
        SmsOperations(&self.0)
    }

    /// The operations on mail.
    pub fn email(&self) -> EmailOperations<'_> {
        EmailOperations(&self.0)
    }

    /// The operations on chat, in the name of the user whose access token this is.
    pub fn chat<'a>(&'a self, token: &'a Secret) -> ChatOperations<'a> {
        ChatOperations { pipeline: &self.0, token }
    }
}

/// The key of a second connection string, which must be of the same resource; none if the text is empty.
fn other_key(first: &ConnectionString, second: &str) -> Result<Option<Credential>, BuildError> {
    let key = "acs.secondary_connection_string";
    if second.is_empty() {
        return Ok(None);
    }
    let second =
        ConnectionString::parse(second).map_err(|problem| BuildError::ConnectionString { key, problem })?;
    if second.endpoint() != first.endpoint() {
        return Err(BuildError::OtherResource { key });
    }
    Ok(Some(Credential::key(&second)))
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("acs::Client").field(&self.0.endpoint).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::settings;
    use super::*;

    #[test]
    fn the_default_settings_are_in_range() {
        let settings = settings();
        assert_eq!(settings.problems(), []);
        assert_eq!((settings.custom_id, settings.attempts), (CustomId::Off, 3));
        assert_eq!((settings.ca_file.clone(), settings.connection_string_file.clone()), (None, None));
    }

    #[test]
    fn each_setting_out_of_range_is_named() {
        let keys = |change: fn(&mut Settings)| {
            let mut settings = settings();
            change(&mut settings);
            settings.problems().into_iter().map(|(key, _)| key).collect::<Vec<_>>()
        };
        assert_eq!(keys(|s| s.timeout = Duration::from_millis(99)), ["timeout", "attempt_timeout"]);
        assert_eq!(keys(|s| s.timeout = Duration::from_secs(61)), ["timeout"]);
        assert_eq!(keys(|s| s.attempt_timeout = Duration::from_secs(9)), ["attempt_timeout"]);
        assert_eq!(keys(|s| s.attempt_timeout = Duration::from_millis(49)), ["attempt_timeout"]);
        assert_eq!(keys(|s| s.attempts = 0), ["attempts"]);
        assert_eq!(keys(|s| s.attempts = 11), ["attempts"]);
        assert_eq!(keys(|s| s.max_concurrency = 0), ["max_concurrency"]);
        assert_eq!(keys(|s| s.max_concurrency = 10_001), ["max_concurrency"]);
    }

    #[test]
    fn settings_show_no_connection_string() {
        let mut settings = settings();
        settings.connection_string = Secret::new("endpoint=https://h/;accesskey=QUJD");
        assert!(!format!("{settings:?}").contains("QUJD"));
    }
}
