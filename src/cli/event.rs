//! `event watch`: delivery reports, inbound SMS and chat events as they come in, one line each.

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::output::{Exit, Io, Stop, rfc3339};
use super::remote::Remote;
use crate::grpc::client::Happening;
use crate::messaging::EventKind;

/// The kinds by the names they are printed with.
const KINDS: [(&str, EventKind); 5] = [
    ("sms_delivery", EventKind::SmsDelivery),
    ("sms_received", EventKind::SmsReceived),
    ("email_delivery", EventKind::EmailDelivery),
    ("email_engagement", EventKind::EmailEngagement),
    ("chat", EventKind::Chat),
];

/// The commands of `event`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print events until it is interrupted, or the server ends the stream; then the last cursor is printed, too.
    Watch(Watch),
}

/// `event watch`.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Go on after this event. Default: only what comes from now on.
    #[arg(long, default_value = "", hide_default_value = true)]
    cursor: String,
    /// Which events. Comma-separated or repeated. Default: all.
    #[arg(long = "kind", value_delimiter = ',', value_name = "KINDS",
          value_parser = PossibleValuesParser::new(KINDS.map(|(name, _)| name)))]
    kinds: Vec<String>,
    /// End after this many events. Default: never.
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    #[command(flatten)]
    remote: Remote,
}

impl Command {
    pub(super) fn remote(&self) -> &Remote {
        let Self::Watch(watch) = self;
        &watch.remote
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let Self::Watch(watch) = self;
        let client = watch.remote.client()?;
        let wanted =
            |(name, kind): &(&str, EventKind)| watch.kinds.iter().any(|k| k == name).then_some(*kind);
        let kinds: Vec<_> = KINDS.iter().filter_map(wanted).collect();
        let mut events = client.watch_events(&watch.cursor, &kinds).await?;
        writeln!(io.err, "watching")?;
        let (mut left, mut last) = (watch.count.unwrap_or(u64::MAX), watch.cursor.clone());
        while left > 0 {
            match events.next().await {
                Ok(Some(event)) => {
                    last.clone_from(&event.cursor);
                    print(io, &event, watch.remote.json)?;
                    left -= 1;
                }
                Ok(None) => break,
                Err(failure) => {
                    if !watch.remote.json && !last.is_empty() {
                        writeln!(io.err, "to go on: --cursor {last}")?;
                    }
                    return Err(failure.into());
                }
            }
        }
        Ok(Exit::Success)
    }
}

/// One line, at once: whoever reads it does not wait for the next.
fn print(io: &mut Io<'_>, event: &Happening, as_json: bool) -> Result<(), Stop> {
    let at = event.at.map(rfc3339).unwrap_or_default();
    if as_json {
        let mut line = Map::new();
        line.insert("cursor".into(), event.cursor.clone().into());
        line.insert("event_time".into(), at.into());
        line.insert("kind".into(), event.kind.into());
        let fields =
            event.fields.iter().map(|(name, value)| ((*name).to_owned(), Value::from(value.clone())));
        line.extend(fields);
        writeln!(io.out, "{}", Value::Object(line))?;
    } else {
        write!(io.out, "{at}  {}", event.kind)?;
        for (name, value) in &event.fields {
            // Others' texts: no control character of theirs may reach the terminal.
            let value: String = value.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            write!(io.out, "  {name}={value}")?;
        }
        writeln!(io.out)?;
    }
    io.out.flush()?;
    Ok(())
}
