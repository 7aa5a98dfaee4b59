//! `sms send|get|opt-out`: the SMS service from the command line.

use clap::{Args, Subcommand};
use serde_json::json;

use super::delivery::{self, By, RequestId};
use super::output::{Exit, Io, Stop};
use super::remote::Remote;
use crate::grpc::client::{Client, NewSms};
use crate::messaging::ports::OptOutChange;

/// The commands of `sms`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Send one text to 1 to 100 numbers.
    ///
    /// The answer means that ACS has taken it, number by number, not that it arrived.
    Send(Send),
    /// Print what became of an SMS.
    Get(Get),
    /// Look at or change who does not want messages from a sender.
    #[command(subcommand)]
    OptOut(OptOut),
}

/// `sms send`.
#[derive(Args)]
pub(super) struct Send {
    /// The recipients, such as +14255550123. Comma-separated or repeated.
    #[arg(long, required = true, value_delimiter = ',', value_name = "NUMBERS")]
    to: Vec<String>,
    /// The text.
    #[arg(long)]
    text: String,
    /// The sender. Default: the server's first.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SENDER")]
    from: String,
    /// Have the delivery reported; `sms get` and `event watch` tell it.
    #[arg(long)]
    delivery_report: bool,
    /// A text that comes back in the delivery report.
    #[arg(long, default_value = "", hide_default_value = true)]
    tag: String,
    #[command(flatten)]
    request: RequestId,
    #[command(flatten)]
    remote: Remote,
}

impl std::fmt::Debug for Send {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Send { .. }")
    }
}

/// `sms get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    by: By,
    #[command(flatten)]
    remote: Remote,
}

/// The commands of `sms opt-out`.
#[derive(Debug, Subcommand)]
pub(super) enum OptOut {
    /// Print for each number whether it has opted out.
    Check(Numbers),
    /// Opt numbers out.
    Add(Numbers),
    /// Opt numbers in again.
    Remove(Numbers),
}

/// Whose opt-outs.
#[derive(Args)]
pub(super) struct Numbers {
    /// The numbers, such as +14255550123.
    #[arg(required = true)]
    numbers: Vec<String>,
    /// The sender. Default: the server's first.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "SENDER")]
    from: String,
    #[command(flatten)]
    remote: Remote,
}

impl std::fmt::Debug for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Numbers { .. }")
    }
}

impl Command {
    pub(super) fn remote(&self) -> &Remote {
        match self {
            Self::Send(send) => &send.remote,
            Self::Get(get) => &get.remote,
            Self::OptOut(OptOut::Check(numbers) | OptOut::Add(numbers) | OptOut::Remove(numbers)) => {
                &numbers.remote
            }
        }
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let client = self.remote().client()?;
        let as_json = self.remote().json;
        match self {
            Self::Send(send) => {
                let request_id = send.request.id();
                let sms = NewSms {
                    request_id: request_id.clone(),
                    from: send.from.clone(),
                    to: send.to.clone(),
                    text: send.text.clone(),
                    delivery_report: send.delivery_report,
                    tag: send.tag.clone(),
                };
                let sent = client.send_sms(sms).await;
                let sent = send.request.told(io, as_json, sent)?;
                delivery::print(io, "sms", &sent, Some(&request_id), as_json)
            }
            Self::Get(get) => {
                let found = client.get_sms(get.by.name()).await?;
                delivery::print(io, "sms", &found, None, as_json)
            }
            Self::OptOut(OptOut::Check(numbers)) => opt_outs(&client, io, OptOutChange::Check, numbers).await,
            Self::OptOut(OptOut::Add(numbers)) => opt_outs(&client, io, OptOutChange::Add, numbers).await,
            Self::OptOut(OptOut::Remove(numbers)) => {
                opt_outs(&client, io, OptOutChange::Remove, numbers).await
            }
        }
    }
}

async fn opt_outs(
    client: &Client,
    io: &mut Io<'_>,
    change: OptOutChange,
    numbers: &Numbers,
) -> Result<Exit, Stop> {
    let opt_outs = client.opt_outs(change, numbers.from.clone(), numbers.numbers.clone()).await?;
    let all_done = opt_outs.iter().all(|opt_out| opt_out.outcome.is_ok());
    if numbers.remote.json {
        let entries: Vec<_> = opt_outs
            .iter()
            .map(|opt_out| {
                let failure = opt_out.outcome.as_ref().err();
                json!({
                    "recipient": opt_out.recipient,
                    "opted_out": opt_out.outcome.as_ref().ok(),
                    "failure": failure.map(|(code, detail)| json!({"code": code, "detail": detail})),
                })
            })
            .collect();
        writeln!(io.out, "{}", json!({"opt_outs": entries}))?;
    } else {
        for opt_out in &opt_outs {
            match &opt_out.outcome {
                Ok(true) => writeln!(io.out, "{}\topted out", opt_out.recipient)?,
                Ok(false) => writeln!(io.out, "{}\tnot opted out", opt_out.recipient)?,
                Err((code, detail)) => writeln!(io.out, "{}\tfailed\t{code} {detail}", opt_out.recipient)?,
            }
        }
    }
    Ok(if all_done { Exit::Success } else { Exit::Failure })
}
