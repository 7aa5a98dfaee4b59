//! `email send|get`: the e-mail service from the command line. Reads the files that are attached.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::delivery::{self, By, RequestId};
use super::output::{Exit, Io, Stop};
use super::remote::Remote;
use crate::grpc::client::{Name, NewEmail};
use crate::messaging::ports::Attachment;

/// The largest file that is read: more than any mail may have.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// The media types of common file name endings; any other file is `application/octet-stream`.
const TYPES: [(&str, &str); 24] = [
    ("avi", "video/x-msvideo"),
    ("bmp", "image/bmp"),
    ("csv", "text/csv"),
    ("doc", "application/msword"),
    ("docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html"),
    ("html", "text/html"),
    ("ics", "text/calendar"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("json", "application/json"),
    ("md", "text/markdown"),
    ("mp3", "audio/mpeg"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain"),
    ("xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    ("xml", "application/xml"),
    ("zip", "application/zip"),
];

/// The commands of `email`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Send one mail to 1 to 50 addresses.
    ///
    /// The answer means that ACS has taken it; with --wait, that ACS has sent it on.
    Send(Box<Send>),
    /// Print what became of a mail.
    Get(Box<Get>),
}

/// `email send`.
#[derive(Args)]
pub(super) struct Send {
    /// The recipients: `alice@example.com` or `Alice <alice@example.com>`. Repeat it for more.
    #[arg(long, required_unless_present_any = ["cc", "bcc"], value_name = "ADDRESS")]
    to: Vec<String>,
    /// Recipients of a copy.
    #[arg(long, value_name = "ADDRESS")]
    cc: Vec<String>,
    /// Recipients that the others do not see.
    #[arg(long, value_name = "ADDRESS")]
    bcc: Vec<String>,
    /// Where answers go. Default: to the sender.
    #[arg(long, value_name = "ADDRESS")]
    reply_to: Vec<String>,
    /// The sender's address. Default: the server's first.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "ADDRESS")]
    from: String,
    /// The subject.
    #[arg(long)]
    subject: String,
    /// The mail as plain text.
    #[arg(long, required_unless_present = "html")]
    text: Option<String>,
    /// The mail as HTML.
    #[arg(long)]
    html: Option<String>,
    /// A file to attach. Its type is guessed from its name's ending, else write FILE:TYPE, as in notes:text/plain.
    #[arg(long, value_name = "FILE")]
    attach: Vec<String>,
    /// An inline image as ID=FILE; the HTML names it as cid:ID.
    #[arg(long, value_name = "ID=FILE")]
    inline: Vec<String>,
    /// One more header, such as "X-Priority: 1".
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
    /// Do not track opens and clicks.
    #[arg(long)]
    no_tracking: bool,
    /// Wait until ACS has sent it on or refused it, at most as long as --timeout.
    #[arg(long)]
    wait: bool,
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

/// `email get`.
#[derive(Debug, Args)]
pub(super) struct Get {
    #[command(flatten)]
    by: By,
    /// Wait until ACS has sent it on or refused it, at most as long as --timeout.
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    remote: Remote,
}

impl Command {
    pub(super) fn remote(&self) -> &Remote {
        match self {
            Self::Send(send) => &send.remote,
            Self::Get(get) => &get.remote,
        }
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let client = self.remote().client()?;
        let as_json = self.remote().json;
        match self {
            Self::Send(send) => {
                let request_id = send.request.id();
                let sent = client.send_email(send.mail(&request_id)?).await;
                let mut sent = send.request.told(io, as_json, sent)?;
                if send.wait {
                    let found = client.get_email(Name::Id(sent.id.clone()), true).await;
                    sent = send.request.told(io, as_json, found)?;
                }
                delivery::print(io, "email", &sent, Some(&request_id), as_json)
            }
            Self::Get(get) => {
                let found = client.get_email(get.by.name(), get.wait).await?;
                delivery::print(io, "email", &found, None, as_json)
            }
        }
    }
}

impl Send {
    fn mail(&self, request_id: &str) -> Result<NewEmail, Stop> {
        let addresses = |list: &[String]| list.iter().map(|text| address(text)).collect();
        let mut attachments = Vec::new();
        for file in &self.attach {
            let (path, content_type) = named_type(file);
            attachments.push(read(path, content_type, None)?);
        }
        for inline in &self.inline {
            let (id, path) = inline.split_once('=').ok_or_else(|| usage("--inline must be ID=FILE"))?;
            attachments.push(read(path, None, Some(id.to_owned()))?);
        }
        Ok(NewEmail {
            request_id: request_id.to_owned(),
            from: self.from.clone(),
            to: addresses(&self.to),
            cc: addresses(&self.cc),
            bcc: addresses(&self.bcc),
            reply_to: addresses(&self.reply_to),
            subject: self.subject.clone(),
            plain_text: self.text.clone().unwrap_or_default(),
            html: self.html.clone().unwrap_or_default(),
            attachments,
            headers: headers(&self.header)?,
            tracking_disabled: self.no_tracking,
        })
    }
}

fn usage(what: impl Into<String>) -> Stop {
    Stop::Because(Exit::Usage, what.into())
}

/// An address and the name before it, if there is one. What is wrong with either is for the server to say.
fn address(text: &str) -> (String, String) {
    match text.trim().strip_suffix('>').and_then(|rest| rest.rsplit_once('<')) {
        Some((name, address)) => (address.trim().to_owned(), name.trim().trim_matches('"').to_owned()),
        None => (text.trim().to_owned(), String::new()),
    }
}

fn headers(lines: &[String]) -> Result<BTreeMap<String, String>, Stop> {
    let mut headers = BTreeMap::new();
    for line in lines {
        let (name, value) =
            line.split_once(':').ok_or_else(|| usage("--header must be like \"X-Priority: 1\""))?;
        if headers.insert(name.trim().to_owned(), value.trim().to_owned()).is_some() {
            return Err(usage("--header must name each header once"));
        }
    }
    Ok(headers)
}

/// A path, and the type after it, if there is one.
fn named_type(file: &str) -> (&str, Option<&str>) {
    match file.rsplit_once(':') {
        // In a path a colon may stand too; a type has one slash and is not absolute.
        Some((path, kind))
            if kind.matches('/').count() == 1 && !kind.starts_with('/') && !path.is_empty() =>
        {
            (path, Some(kind))
        }
        _ => (file, None),
    }
}

fn guess(name: &str) -> &'static str {
    let ending = name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    TYPES.iter().find(|(known, _)| *known == ending).map_or("application/octet-stream", |(_, kind)| kind)
}

fn read(path: &str, content_type: Option<&str>, content_id: Option<String>) -> Result<Attachment, Stop> {
    let path = PathBuf::from(path);
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let cannot = |why: String| usage(format!("cannot attach {} ({why})", path.display()));
    let size = std::fs::metadata(&path).map_err(|error| cannot(error.kind().to_string()))?.len();
    if size > MAX_FILE_BYTES {
        return Err(cannot("it is larger than any mail may be".into()));
    }
    let content = std::fs::read(&path).map_err(|error| cannot(error.kind().to_string()))?;
    let content_type = content_type.unwrap_or_else(|| guess(&name)).to_owned();
    Ok(Attachment { name, content_type, content, content_id })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn addresses_come_with_or_without_a_name() {
        for (text, expected) in [
            ("alice@example.com", ("alice@example.com", "")),
            ("Alice <alice@example.com>", ("alice@example.com", "Alice")),
            ("\"Alice, A.\" <alice@example.com> ", ("alice@example.com", "Alice, A.")),
            ("<alice@example.com>", ("alice@example.com", "")),
            ("nonsense>", ("nonsense>", "")),
        ] {
            assert_eq!(address(text), (expected.0.into(), expected.1.into()), "{text}");
        }
    }

    #[test]
    fn types_are_guessed_from_the_ending_or_named_after_the_file() {
        assert!(TYPES.is_sorted());
        for (name, kind) in [
            ("a.pdf", "application/pdf"),
            ("A.PDF", "application/pdf"),
            ("a.tar.gz", "application/gzip"),
            ("pdf", "application/octet-stream"),
            ("a.unheard-of", "application/octet-stream"),
        ] {
            assert_eq!(guess(name), kind, "{name}");
        }
        assert_eq!(named_type("notes:text/plain"), ("notes", Some("text/plain")));
        assert_eq!(named_type("C:/notes.txt"), ("C:/notes.txt", None));
        assert_eq!(named_type("a/b.txt"), ("a/b.txt", None));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".*") {
            let _ = (address(&text), headers(std::slice::from_ref(&text)), named_type(&text), guess(&text));
        }
    }
}
