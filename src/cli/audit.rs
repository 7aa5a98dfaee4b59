//! `audit`: checks audit files against their key, and finds out under which hash somebody stands in them.
//!
//! Both work on files alone; no broker is asked. Keys come from files and are never shown.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;

use super::output::{Exit, Io, Stop};
use crate::audit::{Head, Report, Verifier, Whom, subject_hash};
use crate::broker::types::{IdentityId, Invalid, UserId};
use crate::config;
use crate::messaging::types::{EmailAddress, Number};
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
        let answer = if self.json { as_json(&report) } else { as_text(&report, self.head.as_ref()) };
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

fn as_text(report: &Report, head: Option<&Head>) -> String {
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
            // A head vouches for what is up to it; the end itself is vouched for only if it is the end's own.
            let of_the_end = report.head.parse::<Head>().ok();
            if head.is_some() && of_the_end.as_ref() != head {
                lines.push(
                    "note     records after the one that --head names could still have been cut off; a newer"
                        .into(),
                );
                lines.push("         head from the broker's log shows it".into());
            }
            if head.is_none() {
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
        for number in 1_u64.. {
            line.clear();
            let read = io.input.read_line(&mut line);
            let read =
                read.map_err(|_| Stop::Because(Exit::Usage, "standard input is not UTF-8 text".into()))?;
            if read == 0 {
                return Ok(Exit::Success);
            }
            let value = line.strip_suffix('\n').unwrap_or(&line);
            let value = value.strip_suffix('\r').unwrap_or(value);
            // The hash of what is in no record would be found in none, and be taken for an answer.
            let possible = self.kind.check(value);
            possible.map_err(|Invalid(what)| Stop::Because(Exit::Usage, format!("line {number} {what}")))?;
            writeln!(io.out, "{}", subject_hash(&key, self.kind.into(), value))?;
        }
        Ok(Exit::Success)
    }
}

impl Kind {
    /// Whether records can be about such a value: what a request may hold.
    fn check(self, value: &str) -> Result<(), Invalid> {
        match self {
            Self::User => UserId::parse(value).map(drop),
            Self::Identity => IdentityId::parse(value).map(drop),
            Self::Recipient if value.contains('@') => EmailAddress::parse(value, "").map(drop),
            Self::Recipient => Number::parse(value).map(drop),
            Self::Sender | Self::Thread if value.trim() != value || value.contains(char::is_control) => {
                Err(Invalid("must not hold control characters, nor white space around it".into()))
            }
            Self::Sender | Self::Thread if value.is_empty() => Err(Invalid("must not be empty".into())),
            Self::Sender | Self::Thread => Ok(()),
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
            let text = as_text(&Report { files: 1, torn_bytes, ..Report::default() }, None);
            assert!(text.contains(what) && text.contains("not begun"), "{text}");
            assert!(!text.contains("whole\n") && !text.contains("BROKEN"), "{text}");
        }
    }

    #[test]
    fn a_broken_chain_is_told_with_its_place_and_a_whole_one_with_what_it_cannot_show() {
        let mut report = Report { files: 1, records: 3, head: "3:ab".into(), ..Report::default() };
        let text = as_text(&report, None);
        assert!(
            text.contains("chain    whole") && text.contains("cut off") && text.contains("head     3:ab")
        );
        let head = |seq: u64| Some(format!("{seq}:{}", "ab".repeat(32)).parse::<Head>().unwrap());
        report.head = format!("3:{}", "ab".repeat(32));
        assert!(!as_text(&report, head(3).as_ref()).contains("cut off"), "the end is what the log told");
        let text = as_text(&report, head(2).as_ref());
        assert!(
            text.contains("after the one that --head names"),
            "what came later is not vouched for: {text}"
        );
        report.broken = Some(Break { file: "a.log".into(), line: 4, what: "changed".into() });
        let text = as_text(&report, None);
        assert!(text.contains("BROKEN   a.log:4: changed") && !text.contains("whole"), "{text}");
        let answer: serde_json::Value = serde_json::from_str(&as_json(&report)).unwrap();
        assert_eq!((&answer["ok"], &answer["broken"]["line"]), (&false.into(), &4.into()));
    }

    fn subjects(kind: Kind, input: &str) -> (Result<Exit, String>, String) {
        let folder = tempfile::tempdir().unwrap();
        let key_file = folder.path().join("key");
        std::fs::write(&key_file, "k".repeat(32)).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut io =
            Io { input: Box::new(input.as_bytes()), out: Box::new(&mut out), err: Box::new(&mut err) };
        let ended = Subject { kind, key_file }.run(&mut io).map_err(|stop| format!("{stop:?}"));
        drop(io);
        (ended, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_value_is_the_same_whatever_ends_its_line() {
        let (ended, hashes) = subjects(Kind::User, "alice\nalice\r\nalice");
        let hashes: Vec<_> = hashes.lines().collect();
        assert_eq!((ended, hashes.len()), (Ok(Exit::Success), 3));
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    }

    #[test]
    fn what_can_be_in_no_record_is_refused_and_not_hashed() {
        for (kind, value) in [
            (Kind::User, ""),
            (Kind::User, " alice"),
            (Kind::User, "a\tb"),
            (Kind::Identity, ""),
            (Kind::Recipient, "+1 (425) 555-0123"),
            (Kind::Recipient, "2065550199"),
            (Kind::Recipient, "alice@"),
            (Kind::Sender, ""),
            (Kind::Thread, "19:a@thread.v2 "),
        ] {
            let (ended, hashes) = subjects(kind, &format!("{value}\n"));
            let why = ended.unwrap_err();
            assert!(why.contains("Usage") && why.contains("line 1 must"), "{kind:?} {value:?}: {why}");
            assert!(hashes.is_empty(), "{kind:?} {value:?}");
            assert!(value.trim().is_empty() || !why.contains(value.trim()), "a value is not repeated: {why}");
        }
        for (kind, value) in [
            (Kind::Recipient, "+14255550123"),
            (Kind::Recipient, "alice@contoso.example"),
            (Kind::Sender, "50505"),
            (Kind::Thread, "19:a@thread.v2"),
        ] {
            assert_eq!(subjects(kind, value).0, Ok(Exit::Success), "{kind:?}");
        }
    }
}
