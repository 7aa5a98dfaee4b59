//! The webhook intake: Azure Event Grid posts here what became of messages, over an HTTP listener of its own.
//!
//! It checks who posts and what, reads it (`read`), leaves a record of it (`account`), and hands it to `messaging`, which keeps it once. What cannot be
//! kept now is answered 503, so that Event Grid brings it again; a request that was taken in half is safe to repeat.
//! Nothing of an event is ever logged or repeated in an answer. Everything is bounded: connections, their life, heads,
//! bodies, the shape of the JSON. Run by `app`.

mod account;
#[cfg(test)]
mod account_tests;
mod caller;
#[cfg(test)]
mod entra_tests;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod read;
#[cfg(test)]
mod rig;
mod server;
mod shape;
#[cfg(test)]
mod tests;
mod words;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::account::Account;
pub use self::caller::Callers;
use crate::audit::Audit;
use crate::auth::jwt::{Algorithm, Issuer};
use crate::clock::Clock;
use crate::messaging::Messaging;
use crate::metrics::Metrics;
use crate::secret::Secret;

/// The one path.
pub const PATH: &str = "/events";
/// The largest body: Event Grid posts at most 1 MB at a time.
const MAX_BODY: usize = 1_048_576;
/// The most events in one request.
const MAX_EVENTS: usize = 1000;
/// Connections at the same time; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 64;
/// Requests that are read and taken in at the same time; more wait. Bounds the memory that bodies take once read.
const MAX_AT_WORK: usize = 8;
/// The time a client has to send the head of its request.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// The time a client has to send the body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The time to take a request in; Event Grid waits 30 s for an answer.
const TAKE_IN_WITHIN: Duration = Duration::from_secs(20);
/// The time a connection lives at the most. One connection is one request.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(40);
/// By how much Entra's clock and ours may differ.
const LEEWAY: Duration = Duration::from_secs(60);
/// How long requests under way may go on after the end.
const DRAIN: Duration = Duration::from_secs(5);

/// `[webhook]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where it listens; empty: nowhere.
    pub address: String,
    /// What whoever posts must know; empty if it comes from the file. `config` resolves the two.
    #[serde(deserialize_with = "secret")]
    pub secret: Secret,
    /// The file that holds the secret.
    pub secret_file: String,
    /// The Microsoft Entra tenant whose tokens Event Grid may bring instead of the secret; empty: none.
    pub entra_tenant: String,
    /// Whom these tokens are for: application ids or URIs, separated by commas.
    pub entra_audience: String,
    /// Where the tenant is.
    pub entra_authority: String,
    /// The application that asks for these tokens: Event Grid.
    pub entra_app: String,
}

/// Where the tenants of Azure's public cloud are.
const AUTHORITY: &str = "https://login.microsoftonline.com";
/// The application id of Azure Event Grid, the same in every tenant.
const EVENT_GRID: &str = "4962773b-9cdb-44cf-a8bf-237846a00ab7";
/// The most audiences.
const MAX_AUDIENCES: usize = 8;

/// Whose tokens count.
struct Entra<'a> {
    issuers: Vec<Issuer>,
    app: &'a str,
}

fn secret<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
    String::deserialize(deserializer).map(Secret::new)
}

/// The shortest secret.
const MIN_SECRET: usize = 16;

impl Settings {
    /// Settings for code: listening at `address`, with this secret.
    pub fn at(address: impl Into<String>, secret: Secret) -> Self {
        Self {
            address: address.into(),
            secret,
            secret_file: String::new(),
            entra_tenant: String::new(),
            entra_audience: String::new(),
            entra_authority: AUTHORITY.to_owned(),
            entra_app: EVENT_GRID.to_owned(),
        }
    }

    /// Where to listen; none if nowhere.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.parse().ok()
    }

    /// What is wrong, by key.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if !self.secret.is_empty() && self.secret.expose().len() < MIN_SECRET {
            problems.push(("secret", format!("must have at least {MIN_SECRET} bytes")));
        }
        problems.extend(self.entra_problems());
        if self.is_open() {
            let what = "is not a loopback address, and without webhook.secret anybody could forge events; set the \
                        secret or its _file twin, or webhook.entra_tenant";
            problems.push(("address", what.into()));
        }
        problems
    }

    fn entra_problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |good: bool, key: &'static str, what: &str| {
            if !good {
                problems.push((key, what.to_owned()));
            }
        };
        let audiences = self.audiences().count();
        if self.entra_tenant.is_empty() {
            check(
                audiences == 0,
                "entra_tenant",
                "is not set, and webhook.entra_audience is; set both or none",
            );
            return problems;
        }
        check(
            is_guid(&self.entra_tenant),
            "entra_tenant",
            "must be the tenant's id, 36 letters, digits and `-`",
        );
        check(
            is_guid(&self.entra_app),
            "entra_app",
            "must be an application's id, 36 letters, digits and `-`",
        );
        check(
            (1..=MAX_AUDIENCES).contains(&audiences),
            "entra_audience",
            "must name 1 to 8 application ids or URIs, separated by commas, if webhook.entra_tenant is set",
        );
        let keys = Issuer { jwks_url: self.keys_url(), ..Issuer::new("entra", "entra", "entra") };
        let authority = keys.problems().into_iter().next().map(|(_, what)| what);
        check(authority.is_none(), "entra_authority", &authority.unwrap_or_default());
        problems
    }

    /// Whose tokens count, if any do. Entra signs the tokens of both versions with the same keys; they differ in `iss`.
    fn entra(&self) -> Option<Entra<'_>> {
        let tenant = self.entra_tenant.to_ascii_lowercase();
        if tenant.is_empty() {
            return None;
        }
        let authority = self.entra_authority.trim_end_matches('/');
        let china = ["https://login.chinacloudapi.cn", "https://login.partner.microsoftonline.cn"];
        let first = if china.contains(&authority) { "sts.chinacloudapi.cn" } else { "sts.windows.net" };
        let issuers = [format!("https://{first}/{tenant}/"), format!("{authority}/{tenant}/v2.0")];
        let of = |audience: &str| {
            issuers.each_ref().map(|issuer| Issuer {
                jwks_url: self.keys_url(),
                algorithms: vec![Algorithm::RS256],
                leeway: LEEWAY,
                // What an operator finds in the settings.
                ..Issuer::new("webhook.entra_tenant", issuer.as_str(), audience)
            })
        };
        Some(Entra { issuers: self.audiences().flat_map(of).collect(), app: &self.entra_app })
    }

    fn keys_url(&self) -> String {
        let authority = self.entra_authority.trim_end_matches('/');
        format!("{authority}/{}/discovery/v2.0/keys", self.entra_tenant.to_ascii_lowercase())
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        self.entra_audience.split(',').map(str::trim).filter(|audience| !audience.is_empty())
    }

    /// Whether anybody from another machine could post.
    pub fn is_open(&self) -> bool {
        self.secret.is_empty()
            && self.entra_tenant.is_empty()
            && self.address().is_some_and(|address| !address.ip().is_loopback())
    }
}

fn is_guid(text: &str) -> bool {
    text.len() == 36 && uuid::Uuid::parse_str(text).is_ok()
}

/// What a request is dealt with by.
struct Intake {
    messaging: Messaging,
    callers: Callers,
    account: Account,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    at_work: tokio::sync::Semaphore,
}

/// Serves those who are known until `shutdown`, then lets requests under way finish.
pub async fn serve(
    listener: TcpListener,
    callers: Callers,
    messaging: Messaging,
    audit: Audit,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    shutdown: CancellationToken,
) {
    let at_work = tokio::sync::Semaphore::new(MAX_AT_WORK);
    let account = Account::new(audit);
    let intake = Arc::new(Intake { messaging, callers, account, clock, metrics, at_work });
    server::run(listener, intake, shutdown).await;
}
