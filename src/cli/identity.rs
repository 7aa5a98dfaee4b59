//! `identity resolve|get|list|delete|import|export`: the identity service from the command line.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::lines::{self, Outcome};
use super::output::{Exit, Io, Stop, rfc3339};
use super::remote::Remote;
use crate::grpc::client::{Client, Mapping};

/// Entries sent in one call. The server lists the first 100 problems of a call, and a failure in the middle should
/// cost little.
const ENTRIES_PER_CALL: usize = 100;

/// The commands of `identity`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Print the ACS identity of a user, and create it if there is none.
    Resolve(User),
    /// Print a mapping without creating one.
    Get(Get),
    /// Print a page of the mapping.
    List(List),
    /// Delete a user's ACS identity, at ACS and in the mapping. All its tokens end.
    Delete(Delete),
    /// Import mappings from JSON Lines: {"user_id", "acs_user_id", "create_time"}. Makes no call to ACS.
    ///
    /// A file with a line that cannot be read, or that contradicts an earlier one, is reported in full and nothing of
    /// it is imported. A line that contradicts what is stored is refused alone. Safe to repeat: what is stored already
    /// changes nothing.
    Import(Import),
    /// Print the whole mapping as JSON Lines.
    Export(Export),
}

/// `identity resolve`.
#[derive(Debug, Args)]
pub(super) struct User {
    /// The app's own id of the user.
    user: String,
    #[command(flatten)]
    remote: Remote,
}

/// `identity get`.
#[derive(Debug, Args)]
#[group(id = "whom", required = true, multiple = false, args = ["user", "acs_id"])]
pub(super) struct Get {
    /// The app's own id of the user.
    user: Option<String>,
    /// The ACS identity to look up instead.
    #[arg(long, value_name = "ID")]
    acs_id: Option<String>,
    #[command(flatten)]
    remote: Remote,
}

/// `identity list`.
#[derive(Debug, Args)]
pub(super) struct List {
    /// Entries of the page, 1 to 1000.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=1000), value_name = "N")]
    page_size: i32,
    /// Where the page starts, as the page before said.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    page_token: String,
    #[command(flatten)]
    remote: Remote,
}

/// `identity delete`.
#[derive(Debug, Args)]
pub(super) struct Delete {
    /// The app's own id of the user.
    user: String,
    /// A UUID that names this request: a retry with the same one succeeds.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "UUID")]
    request_id: String,
    #[command(flatten)]
    remote: Remote,
}

/// `identity import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file; `-` for standard input.
    file: PathBuf,
    /// Say what would happen, and change nothing.
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    remote: Remote,
}

/// `identity export`.
#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    remote: Remote,
}

impl Command {
    pub(super) fn remote(&self) -> &Remote {
        match self {
            Self::Resolve(User { remote, .. })
            | Self::Get(Get { remote, .. })
            | Self::List(List { remote, .. })
            | Self::Delete(Delete { remote, .. })
            | Self::Import(Import { remote, .. })
            | Self::Export(Export { remote }) => remote,
        }
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let client = self.remote().client()?;
        let as_json = self.remote().json;
        match self {
            Self::Resolve(User { user, .. }) => {
                let (mapping, created) = client.resolve_identity(user).await?;
                print(io, &mapping, as_json, Some(created))?;
            }
            Self::Get(Get { user, acs_id, .. }) => {
                let mapping = match (user, acs_id) {
                    (_, Some(id)) => client.get_identity_by_acs_id(id).await?,
                    (user, None) => client.get_identity(user.as_deref().unwrap_or_default()).await?,
                };
                print(io, &mapping, as_json, None)?;
            }
            Self::List(List { page_size, page_token, .. }) => {
                list(&client, io, *page_size, page_token, as_json).await?;
            }
            Self::Delete(Delete { user, request_id, .. }) => {
                client.delete_identity(user, request_id).await?;
                let answer =
                    if as_json { json!({"deleted": true}).to_string() } else { "deleted".to_owned() };
                writeln!(io.out, "{answer}")?;
            }
            Self::Import(command) => return import(&client, io, command).await,
            Self::Export(_) => export(&client, io).await?,
        }
        Ok(Exit::Success)
    }
}

fn print(io: &mut Io<'_>, mapping: &Mapping, as_json: bool, created: Option<bool>) -> Result<(), Stop> {
    let since = mapping.created.map(rfc3339);
    if as_json {
        let mut answer = json!({
            "user_id": mapping.user_id,
            "acs_user_id": mapping.acs_user_id,
            "create_time": since,
        });
        if let (Some(created), Some(answer)) = (created, answer.as_object_mut()) {
            answer.insert("created".into(), created.into());
        }
        writeln!(io.out, "{answer}")?;
        return Ok(());
    }
    writeln!(io.out, "user      {}", mapping.user_id)?;
    writeln!(io.out, "acs user  {}", mapping.acs_user_id)?;
    if let Some(since) = since {
        writeln!(io.out, "since     {since}")?;
    }
    if let Some(created) = created {
        writeln!(io.out, "created   {}", if created { "yes, by this call" } else { "no, it existed" })?;
    }
    Ok(())
}

async fn list(
    client: &Client,
    io: &mut Io<'_>,
    page_size: i32,
    page_token: &str,
    as_json: bool,
) -> Result<(), Stop> {
    let page = client.list_identities(page_size, page_token).await?;
    if as_json {
        let entries: Vec<_> = page
            .entries
            .iter()
            .map(|entry| {
                json!({
                    "user_id": entry.user_id,
                    "acs_user_id": entry.acs_user_id,
                    "create_time": entry.created.map(rfc3339),
                })
            })
            .collect();
        writeln!(io.out, "{}", json!({"identities": entries, "next_page_token": page.next}))?;
        return Ok(());
    }
    for entry in &page.entries {
        let since = entry.created.map(rfc3339).unwrap_or_default();
        writeln!(io.out, "{}\t{}\t{since}", entry.user_id, entry.acs_user_id)?;
    }
    if !page.next.is_empty() {
        writeln!(io.err, "more: --page-token {}", page.next)?;
    }
    Ok(())
}

async fn export(client: &Client, io: &mut Io<'_>) -> Result<(), Stop> {
    let mut token = String::new();
    let mut count = 0u64;
    loop {
        let page = match client.list_identities(1000, &token).await {
            Ok(page) => page,
            Err(failure) => {
                writeln!(io.err, "the export is not complete: it stopped after {count} entries")?;
                return Err(failure.into());
            }
        };
        for entry in &page.entries {
            writeln!(io.out, "{}", lines::write(entry))?;
            count += 1;
        }
        // A server that names the same page again would keep us for ever.
        if page.next.is_empty() || page.next == token {
            io.out.flush()?;
            writeln!(io.err, "{count} entries")?;
            return Ok(());
        }
        token = page.next;
    }
}

/// What an import has come to so far.
#[derive(Default)]
struct Tally {
    imported: u64,
    unchanged: u64,
    rejected: u64,
    problems: Vec<serde_json::Value>,
}

impl Tally {
    /// Reports a refused line: at once for people, in the answer for programs.
    fn refuse(
        &mut self,
        io: &mut Io<'_>,
        as_json: bool,
        line: u64,
        reason: &str,
        message: &str,
    ) -> Result<(), Stop> {
        /// More would make the answer as large as the file.
        const MAX_LISTED: usize = 10_000;
        if as_json {
            if self.problems.len() < MAX_LISTED {
                self.problems.push(json!({"line": line, "reason": reason, "message": message}));
            }
        } else {
            writeln!(io.err, "line {line}: {message}")?;
        }
        Ok(())
    }
}

async fn import(client: &Client, io: &mut Io<'_>, command: &Import) -> Result<Exit, Stop> {
    let as_json = command.remote.json;
    let input: Box<dyn BufRead> = if command.file.as_os_str() == "-" {
        std::mem::replace(&mut io.input, Box::new(std::io::empty()))
    } else {
        let file = std::fs::File::open(&command.file).map_err(|error| {
            Stop::Because(Exit::Usage, format!("cannot open {} ({})", command.file.display(), error.kind()))
        })?;
        Box::new(BufReader::new(file))
    };
    let mut tally = Tally::default();
    // The whole file first: which of two contradictory lines is right, nobody here can tell, so none may be sent.
    let entries = read(lines::Reader::new(input), io, as_json, &mut tally)?;
    let refused = tally.rejected;
    let validate_only = command.validate_only || refused > 0;
    let mut entries = entries.into_iter().peekable();
    while entries.peek().is_some() {
        let batch = entries.by_ref().take(ENTRIES_PER_CALL).collect();
        send(client, io, as_json, validate_only, &mut tally, batch).await?;
    }
    if refused > 0 && !command.validate_only {
        // The rest was only looked at, to report all problems at once.
        tally.imported = 0;
        if !as_json {
            writeln!(io.err, "nothing is imported: mend the lines of the file and repeat the command")?;
        }
    }
    if as_json {
        let answer = json!({
            "imported": tally.imported,
            "unchanged": tally.unchanged,
            "rejected": tally.rejected,
            "validate_only": command.validate_only,
            "problems": tally.problems,
        });
        writeln!(io.out, "{answer}")?;
    } else {
        let would = if command.validate_only { "would be " } else { "" };
        writeln!(
            io.out,
            "{would}imported {}, {would}unchanged {}, rejected {}",
            tally.imported, tally.unchanged, tally.rejected
        )?;
    }
    Ok(if tally.rejected == 0 { Exit::Success } else { Exit::Failure })
}

/// Reads all entries to send, with their line numbers, and reports the lines that cannot be sent.
fn read(
    mut reader: lines::Reader<Box<dyn BufRead + '_>>,
    io: &mut Io<'_>,
    as_json: bool,
    tally: &mut Tally,
) -> Result<Vec<(u64, Mapping)>, Stop> {
    let mut entries = Vec::new();
    loop {
        let next = reader.next().map_err(|error| {
            Stop::Because(Exit::Failure, format!("cannot read the file ({})", error.kind()))
        })?;
        match next {
            Some((line, Outcome::Entry(entry))) => entries.push((line, entry)),
            Some((_, Outcome::Repeated)) => tally.unchanged += 1,
            Some((line, Outcome::Bad(what))) => {
                tally.rejected += 1;
                tally.refuse(io, as_json, line, "INVALID_FIELD", &what)?;
            }
            None => return Ok(entries),
        }
    }
}

async fn send(
    client: &Client,
    io: &mut Io<'_>,
    as_json: bool,
    validate_only: bool,
    tally: &mut Tally,
    batch: Vec<(u64, Mapping)>,
) -> Result<(), Stop> {
    let (numbers, entries): (Vec<u64>, Vec<Mapping>) = batch.into_iter().unzip();
    let first = numbers.first().copied().unwrap_or_default();
    let outcome = match client.import_identities(entries, validate_only).await {
        Ok(outcome) => outcome,
        Err(failure) => {
            let imported = if validate_only { 0 } else { tally.imported };
            writeln!(
                io.err,
                "stopped at line {first}: {imported} imported so far; the same command goes on where it stopped"
            )?;
            return Err(failure.into());
        }
    };
    tally.imported += outcome.imported;
    tally.unchanged += outcome.unchanged;
    tally.rejected += outcome.rejected;
    let listed = outcome.problems.len() as u64;
    for (index, reason, message) in outcome.problems {
        let line = numbers.get(index).copied().unwrap_or(first);
        tally.refuse(io, as_json, line, &reason, &message)?;
    }
    if outcome.rejected > listed {
        let more = outcome.rejected - listed;
        tally.refuse(io, as_json, first, "", &format!("and {more} more from this line on"))?;
    }
    Ok(())
}
