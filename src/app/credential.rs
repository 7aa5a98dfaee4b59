//! Looks after the credential towards ACS while the broker runs: probes, new keys from files, rotation, what is told of it.
//!
//! It decides nothing: which key signs is `acs`'s affair, which tokens are replaced `broker`'s. It never shows a key.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio_util::sync::CancellationToken;

use super::upstream::Upstream;
use crate::acs::{self, CredentialKind, Refusal};
use crate::admin::{Readiness, Reason};
use crate::broker::Broker;
use crate::broker::types::Validity;
use crate::clock::Timestamp;
use crate::metrics::Metrics;
use crate::reload::Reloadable;
use crate::secret::Secret;

/// How often it is looked whether something is due.
const EVERY: Duration = Duration::from_millis(500);
/// A clock that differs by more is told of: ACS refuses signatures from five minutes on.
pub(crate) const SKEW_TOLD: Duration = Duration::from_secs(60);

/// How it is looked after.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner {
    kind: CredentialKind,
    reissue_per_second: u32,
}

impl Manner {
    pub(super) fn of(settings: &acs::Settings) -> Self {
        Self { kind: settings.credential, reissue_per_second: settings.reissue_per_second }
    }
}

/// Looks after it until `shutdown`.
pub(super) async fn tend(
    upstream: Arc<Upstream>,
    broker: Broker,
    manner: Manner,
    metrics: Metrics,
    readiness: Readiness,
    shutdown: CancellationToken,
) {
    let rotation = {
        async {
            loop {
                if let Err(error) = broker.tend_rotation(manner.reissue_per_second).await {
                    tracing::debug!(
                        reason = error.reason(),
                        "the tokens of other keys are looked for again later"
                    );
                }
                tokio::time::sleep(EVERY).await;
            }
        }
    };
    let probing = async {
        loop {
            let client = upstream.client();
            client.tend().await;
            metrics.credential_refused(client.standing().refused.is_some());
            readiness.credential(problem(client, manner.kind));
            tokio::time::sleep(EVERY).await;
        }
    };
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = rotation => {}
        () = probing => {}
    }
}

/// What is wrong with the credential, for `/readyz`.
fn problem(client: &acs::Client, kind: CredentialKind) -> Option<Reason> {
    let standing = client.standing();
    if let Some(refusal) = standing.refused {
        return Some(Reason { code: "acs_credential", message: mend(refusal, kind, client.skew()) });
    }
    standing.first_refused.then(|| Reason {
        code: "acs_key",
        message: "ACS refuses the key in acs.connection_string, and the broker uses the other one; put a good key first"
            .into(),
    })
}

/// What is wrong when ACS accepts no credential, and what to do.
pub(crate) fn mend(refusal: Refusal, kind: CredentialKind, skew_millis: Option<i64>) -> String {
    let skew = Duration::from_millis(skew_millis.unwrap_or_default().unsigned_abs());
    match (refusal, kind) {
        (Refusal::Entra, _) => {
            "Entra gives the broker no token: check [acs.entra], and the federation or the secret of that application"
                .into()
        }
        (Refusal::Acs(_), CredentialKind::Entra) => {
            "ACS refuses the broker's Entra identity: give it a role on the ACS resource, such as Communication and \
             Email Service Owner"
                .into()
        }
        (Refusal::Acs(_), CredentialKind::Key) if skew > SKEW_TOLD => format!(
            "ACS refuses the broker's signature, and this machine's clock is {} s off: set the clock",
            skew.as_secs()
        ),
        (Refusal::Acs(_), CredentialKind::Key) => {
            "ACS refuses the broker's key: no new tokens; mend acs.connection_string (acs-broker doctor says more)"
                .into()
        }
    }
}

/// How far a rotation is, as JSON.
pub(super) fn rotation(broker: &Broker) -> Value {
    let status = broker.rotation();
    let time = |at: Timestamp| {
        let seconds = i64::try_from(at.as_millis() / 1000).unwrap_or(i64::MAX);
        OffsetDateTime::from_unix_timestamp(seconds).ok().and_then(|at| at.format(&Rfc3339).ok())
    };
    json!({
        "key_in_use": status.signing.key.hex(),
        "other_key": status.signing.spare.map(|key| key.hex()),
        "in_use_since": time(status.signing.since),
        "tokens_of_other_keys": status.tokens_of_other_keys,
        "tokens_reissued": status.reissued,
        "looked_through_at": status.walked_at.and_then(time),
        "other_key_used_elsewhere": status.used_elsewhere,
        "safe_to_regenerate_other_key": status.not_yet().is_none(),
        "not_yet_because": status.not_yet(),
        // What callers were given before lives on with them.
        "tokens_handed_out_before_end_by": time(status.signing.since.plus(Validity::MAX.as_duration())),
    })
}

/// The connection strings, taken anew when their files change.
pub(super) struct Keys {
    upstream: Arc<Upstream>,
    first: Place,
    second: Place,
}

/// Where a connection string is.
enum Place {
    /// In this file.
    File(PathBuf),
    /// In the settings, or nowhere.
    Settings(Secret),
}

impl Place {
    fn of(file: Option<&PathBuf>, set: &Secret) -> Self {
        file.map_or_else(|| Self::Settings(set.clone()), |path| Self::File(path.clone()))
    }

    fn file(&self) -> Option<PathBuf> {
        if let Self::File(path) = self { Some(path.clone()) } else { None }
    }

    /// The text: from the next of the files' contents, or from the settings.
    fn text(&self, contents: &mut impl Iterator<Item = Vec<u8>>) -> Result<Secret, String> {
        match self {
            Self::Settings(secret) => Ok(secret.clone()),
            Self::File(path) => {
                let bytes = Zeroizing::new(contents.next().unwrap_or_default());
                let text = std::str::from_utf8(&bytes);
                text.map(|text| Secret::new(text.trim()))
                    .map_err(|_| format!("{} is not UTF-8 text", path.display()))
            }
        }
    }
}

impl Keys {
    /// None if no file holds a key.
    pub(super) fn of(settings: &acs::Settings, upstream: &Arc<Upstream>) -> Option<Arc<dyn Reloadable>> {
        let first = Place::of(settings.connection_string_file.as_ref(), &settings.connection_string);
        let second = Place::of(
            settings.secondary_connection_string_file.as_ref(),
            &settings.secondary_connection_string,
        );
        let follows =
            settings.credential == CredentialKind::Key && (first.file().is_some() || second.file().is_some());
        follows.then(|| Arc::new(Self { upstream: Arc::clone(upstream), first, second }) as _)
    }
}

impl Reloadable for Keys {
    fn name(&self) -> &'static str {
        "acs_keys"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.first.file().into_iter().chain(self.second.file()).collect()
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        let mut contents = contents.into_iter();
        let (first, second) = (self.first.text(&mut contents)?, self.second.text(&mut contents)?);
        let client = self.upstream.client();
        match client.replace_keys(first.expose(), second.expose()) {
            Ok(true) => {
                tracing::info!("new keys of ACS: each is used after a probe has shown it to be good");
                Ok(())
            }
            Ok(false) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acs::testing::{Server, client, settings};
    use crate::clock::SystemClock;

    #[tokio::test]
    async fn keys_in_files_are_followed_whichever_of_the_two_it_is_and_none_with_entra() {
        let server = Server::start([]).await;
        let client = client(&settings(), &server.endpoint());
        let (clock, off) = (Arc::new(SystemClock), crate::acs::CustomId::Off);
        let upstream = Arc::new(Upstream::new(client, off, Duration::from_secs(8), clock, Metrics::new()));
        let (first, second) = (PathBuf::from("first"), PathBuf::from("second"));
        let followed = |files: [Option<&PathBuf>; 2], kind| {
            let [first, second] = files.map(Option::<&PathBuf>::cloned);
            let settings = acs::Settings {
                connection_string_file: first,
                secondary_connection_string_file: second,
                credential: kind,
                ..settings()
            };
            Keys::of(&settings, &upstream).map(|keys| keys.files())
        };
        let both = vec![first.clone(), second.clone()];
        assert_eq!(followed([None, None], CredentialKind::Key), None);
        assert_eq!(followed([Some(&first), None], CredentialKind::Key), Some(vec![first.clone()]));
        assert_eq!(followed([None, Some(&second)], CredentialKind::Key), Some(vec![second.clone()]));
        assert_eq!(followed([Some(&first), Some(&second)], CredentialKind::Key), Some(both));
        assert_eq!(followed([Some(&first), None], CredentialKind::Entra), None);
    }
}
