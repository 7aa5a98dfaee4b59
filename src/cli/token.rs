//! `token issue`, `token refresh`, `token revoke`: the token service from the command line.
//!
//! The one place that prints a token, and to standard output only: that is what it was asked for.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;

use super::output::{Exit, Io, Stop, duration, rfc3339};
use super::remote::Remote;
use crate::broker::types::Scope;
use crate::grpc::client::Issued;

/// The commands of `token`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print an access token for a user: from the cache if a good one is there, else a new one.
    ///
    /// The user's ACS identity is created on the first call.
    Issue(Issue),
    /// Print a newly issued access token for a user that has an identity; never one from the cache.
    Refresh(Refresh),
    /// Revoke every access token of a user.
    Revoke(Revoke),
}

/// Which token.
#[derive(Debug, Args)]
pub(super) struct Wanted {
    /// The app's own id of the user.
    user: String,
    /// What the token allows, exactly: chat, chat.join, chat.join.limited, voip, voip.join. Comma-separated or repeated.
    #[arg(long = "scope", required = true, value_delimiter = ',', value_name = "SCOPES", value_parser = scope)]
    scopes: Vec<Scope>,
    /// How long a new token is valid: 1h to 24h in whole minutes. Default: the server's setting.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    validity: Option<Duration>,
}

/// `token issue`.
#[derive(Debug, Args)]
pub(super) struct Issue {
    #[command(flatten)]
    wanted: Wanted,
    /// The least time the token must still be valid. Default: the server's floor.
    #[arg(long, value_parser = duration, value_name = "DURATION")]
    min_remaining: Option<Duration>,
    #[command(flatten)]
    remote: Remote,
}

/// `token refresh`.
#[derive(Debug, Args)]
pub(super) struct Refresh {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    remote: Remote,
}

/// `token revoke`.
#[derive(Debug, Args)]
pub(super) struct Revoke {
    /// The app's own id of the user.
    user: String,
    /// A UUID that names this request: a retry with the same one does not revoke again.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    request_id: String,
    #[command(flatten)]
    remote: Remote,
}

fn scope(text: &str) -> Result<Scope, String> {
    text.parse().map_err(|wrong: crate::broker::types::Invalid| wrong.to_string())
}

impl Command {
    pub(super) fn remote(&self) -> &Remote {
        match self {
            Self::Issue(issue) => &issue.remote,
            Self::Refresh(refresh) => &refresh.remote,
            Self::Revoke(revoke) => &revoke.remote,
        }
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let client = self.remote().client()?;
        let as_json = self.remote().json;
        match self {
            Self::Issue(Issue { wanted, min_remaining, .. }) => {
                let issued =
                    client.issue_token(&wanted.user, &wanted.scopes, wanted.validity, *min_remaining).await?;
                print(io, &issued, as_json)
            }
            Self::Refresh(Refresh { wanted, .. }) => {
                let issued = client.refresh_token(&wanted.user, &wanted.scopes, wanted.validity).await?;
                print(io, &issued, as_json)
            }
            Self::Revoke(Revoke { user, request_id, .. }) => {
                client.revoke_tokens(user, request_id).await?;
                if as_json {
                    writeln!(io.out, "{}", json!({"revoked": true}))?;
                } else {
                    writeln!(
                        io.out,
                        "revoked; ACS may take up to 15 minutes to stop honouring the old tokens"
                    )?;
                }
                Ok(Exit::Success)
            }
        }
    }
}

fn print(io: &mut Io<'_>, issued: &Issued, as_json: bool) -> Result<Exit, Stop> {
    let (expires, refresh) = (rfc3339(issued.expires), rfc3339(issued.refresh));
    if as_json {
        let answer = json!({
            "token": issued.token.expose(),
            "expire_time": expires,
            "refresh_time": refresh,
            "acs_user_id": issued.acs_user_id,
            "source": issued.source,
            "degraded": issued.degraded,
        });
        writeln!(io.out, "{answer}")?;
        return Ok(Exit::Success);
    }
    writeln!(io.out, "token     {}", issued.token.expose())?;
    writeln!(io.out, "expires   {expires}")?;
    writeln!(io.out, "refresh   {refresh}")?;
    writeln!(io.out, "acs user  {}", issued.acs_user_id)?;
    writeln!(io.out, "source    {}", issued.source)?;
    if issued.degraded {
        writeln!(
            io.out,
            "degraded  it has less time left than asked for: ACS could not issue a better one just now"
        )?;
    }
    Ok(Exit::Success)
}
