//! `audit`: checks audit files against their key, and finds out under which hash somebody stands in them.
//!
//! Both work on files alone; no broker is asked. Keys come from files and are never shown.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{Exit, Io, Stop};
use crate::audit::{Head, Report, Verifier, Whom, subject_hash};
use crate::config;
use crate::secret::Secret;

/// Commands about audit files.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Check that no record of a chain was changed, removed, added or moved. Exit code 0 or 1.
    Verify(Verify),
    /// Print the hash that stands for somebody in records. Values come from standard input, one a line.
    Subject(Subject),
}

/// `audit verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The files of one chain, in any order; those that are not named are not checked.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The file that holds the audit key; several, if the key was changed.
    #[arg(long, required = true, env = "ACS_BROKER__AUDIT__KEY_FILE", value_name = "FILE")]
    key_file: Vec<PathBuf>,
    /// A record that must be there, as the broker's log told it ("audit chain"). Only this shows an end that was cut off.
    #[arg(long, value_name = "NUMBER:HASH")]
    head: Option<Head>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

/// `audit subject`.
#[derive(Debug, Args)]
pub(super) struct Subject {
    /// What the values are.
    kind: Kind,
    /// The file that holds the audit key.
    #[arg(long, env = "ACS_BROKER__AUDIT__KEY_FILE", value_name = "FILE")]
    key_file: PathBuf,
}

/// [`Whom`] on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    User,
    Identity,
    Recipient,
    Sender,
    Thread,
}

impl From<Kind> for Whom {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::User => Self::User,
            Kind::Identity => Self::Identity,
            Kind::Recipient => Self::Recipient,
            Kind::Sender => Self::Sender,
            Kind::Thread => Self::Thread,
        }
    }
}

impl Command {
    pub(super) fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        match self {
            Self::Verify(verify) => verify.run(io),
            Self::Subject(subject) => subject.run(io),
        }
    }

    /// Whether the answer is to be JSON.
    pub(super) fn json(&self) -> bool {
        matches!(self, Self::Verify(verify) if verify.json)
    }
}

fn key(path: &Path) -> Result<Secret, Stop> {
    // The path is not repeated: people do put the secret itself where its path belongs.
    config::read_secret(path).map_err(|what| Stop::Because(Exit::Usage, format!("--key-file {what}")))
}

impl Verify {
    fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let keys = self.key_file.iter().map(|path| key(path)).collect::<Result<Vec<_>, _>>()?;
        let report = Verifier::new(&keys)
            .verify(&self.files, self.head.as_ref())
            .map_err(|error| Stop::Because(Exit::Failure, error.to_string()))?;
        let answer = if self.json { as_json(&report) } else { as_text(&report, self.head.is_some()) };
        writeln!(io.out, "{answer}")?;
        Ok(if report.broken.is_none() { Exit::Success } else { Exit::Failure })
    }
}

fn as_json(report: &Report) -> String {
    let mark = |mark: &Option<crate::audit::Mark>| {
        mark.as_ref().map(|mark| json!({"number": mark.seq, "time": mark.time}))
    };
    let broken = report.broken.as_ref().map(
        |broken| json!({"file": broken.file.display().to_string(), "line": broken.line, "what": broken.what}),
    );
    json!({
        "ok": report.broken.is_none(),
        "files": report.files,
        "records": report.records,
        "first": mark(&report.first),
        "last": mark(&report.last),
        "head": report.head,
        "lost": report.lost,
        "torn_bytes": report.torn_bytes,
        "stopped": report.stopped,
        "broken": broken,
    })
    .to_string()
}

fn as_text(report: &Report, head_is_known: bool) -> String {
    let mut lines = vec![format!("files    {}", report.files), format!("records  {}", report.records)];
    for (name, mark) in [("first", &report.first), ("last", &report.last)] {
        if let Some(mark) = mark {
            lines.push(format!("{name:<8} {} at {}", mark.seq, mark.time));
        }
    }
    if report.lost > 0 {
        lines.push(format!("lost     {} records that the broker could not write and counted", report.lost));
    }
    match &report.broken {
        Some(broken) => {
            let place = if broken.line > 0 { format!(":{}", broken.line) } else { String::new() };
            lines.push(format!("BROKEN   {}{place}: {}", broken.file.display(), broken.what));
            lines.push("         nothing after this place is proven".into());
        }
        None if report.records == 0 => {
            lines.push("chain    not begun".into());
            let torn = format!("{} bytes are the torn beginning of its first record", report.torn_bytes);
            let what = if report.torn_bytes > 0 { &torn } else { "there is no record yet" };
            lines.push(format!("note     {what}: the process ended, or the disk was full, before"));
            lines.push(
                "         that record was whole. The broker goes on from there. Whether records".into(),
            );
            lines.push(
                "         were removed shows only with --head and a number that the broker's log told".into(),
            );
        }
        None => {
            lines.push("chain    whole".into());
            lines.push(format!("head     {}", report.head));
            if report.first.as_ref().is_some_and(|first| first.seq > 1) {
                lines.push(
                    "note     the chain began before these files; what came earlier is not checked".into(),
                );
            }
            if report.torn_bytes > 0 {
                let note = "bytes at the end are no whole record: a crash, a full disk, or a write under way";
                lines.push(format!("note     {} {note}", report.torn_bytes));
            }
            if !head_is_known {
                let end = if report.stopped {
                    "the process stopped in order after the last record; it may have run again since"
                } else {
                    "the process still runs or crashed after the last record"
                };
                lines.push(format!("note     {end}. Whether later records were cut off shows only"));
                lines.push("         with --head and a number that the broker's log told".into());
            }
        }
    }
    lines.join("\n")
}

impl Subject {
    fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let key = key(&self.key_file)?;
        let mut line = String::new();
        loop {
            line.clear();
            let read = io.input.read_line(&mut line);
            let read =
                read.map_err(|_| Stop::Because(Exit::Usage, "standard input is not UTF-8 text".into()))?;
            if read == 0 {
                return Ok(Exit::Success);
            }
            let value = line.strip_suffix('\n').unwrap_or(&line);
            writeln!(io.out, "{}", subject_hash(&key, self.kind.into(), value))?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Break;

    #[test]
    fn a_file_that_holds_no_whole_record_yet_is_neither_whole_nor_broken() {
        for (torn_bytes, what) in [(0, "no record yet"), (12, "12 bytes are the torn beginning")] {
            let text = as_text(&Report { files: 1, torn_bytes, ..Report::default() }, false);
            assert!(text.contains(what) && text.contains("not begun"), "{text}");
            assert!(!text.contains("whole\n") && !text.contains("BROKEN"), "{text}");
        }
    }

    #[test]
    fn a_broken_chain_is_told_with_its_place_and_a_whole_one_with_what_it_cannot_show() {
        let mut report = Report { files: 1, records: 3, head: "3:ab".into(), ..Report::default() };
        let text = as_text(&report, false);
        assert!(
            text.contains("chain    whole") && text.contains("cut off") && text.contains("head     3:ab")
        );
        assert!(!as_text(&report, true).contains("cut off"));
        report.broken = Some(Break { file: "a.log".into(), line: 4, what: "changed".into() });
        let text = as_text(&report, false);
        assert!(text.contains("BROKEN   a.log:4: changed") && !text.contains("whole"), "{text}");
        let answer: serde_json::Value = serde_json::from_str(&as_json(&report)).unwrap();
        assert_eq!((&answer["ok"], &answer["broken"]["line"]), (&false.into(), &4.into()));
    }
}
