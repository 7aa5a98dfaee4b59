//! `chat thread`, `chat participant`, `chat message`: the chat service from the command line.
//!
//! Prints texts and ids to standard output only: that is what it was asked for. It remembers nothing between calls;
//! whoever repeats a command with the same `--request-id` has its effect once.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::output::{Exit, Io, Stop, rfc3339};
use super::remote::Remote;
use crate::clock::Timestamp;
use crate::grpc::client::{ChatMessage, ChatPerson, ChatSend, ChatThread, RefusedPerson};

/// The commands of `chat`.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create, show, list and delete threads.
    #[command(subcommand)]
    Thread(Thread),
    /// Add, list and remove the participants of a thread.
    #[command(subcommand)]
    Participant(Participant),
    /// Send, list, show and delete messages.
    #[command(subcommand)]
    Message(Message),
}

/// Who acts, and where.
#[derive(Debug, Args)]
pub(super) struct Who {
    /// The app's own id of the user who acts. Default: the broker's own identity.
    #[arg(long = "as", default_value = "", hide_default_value = true, value_name = "USER")]
    actor: String,
    #[command(flatten)]
    remote: Remote,
}

/// A name for a request.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// A UUID that names this request: a retry with the same one has its effect once. Default: a new one.
    #[arg(long, value_name = "UUID")]
    request_id: Option<String>,
}

/// Which part of a list.
#[derive(Debug, Args)]
pub(super) struct Part {
    /// Entries at the most, 1 to 100.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(i32).range(1..=100), value_name = "N")]
    page_size: i32,
    /// Where to go on: what the page before ended with.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TOKEN")]
    page_token: String,
}

/// The commands of `chat thread`.
#[derive(Debug, Subcommand)]
pub(super) enum Thread {
    /// Create a thread.
    Create {
        /// What it is about.
        topic: String,
        /// A user to add beside the one who acts; comma-separated or repeated.
        #[arg(long = "participant", value_delimiter = ',', value_name = "USER")]
        participants: Vec<String>,
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        who: Who,
    },
    /// Show a thread.
    Get {
        /// The thread's id.
        thread: String,
        #[command(flatten)]
        who: Who,
    },
    /// List the threads of the one who acts.
    List {
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        who: Who,
    },
    /// Delete a thread.
    Delete {
        /// The thread's id.
        thread: String,
        #[command(flatten)]
        who: Who,
    },
}

/// The commands of `chat participant`.
#[derive(Debug, Subcommand)]
pub(super) enum Participant {
    /// Add users to a thread.
    Add {
        /// The thread's id.
        thread: String,
        /// The app's own ids of the users.
        #[arg(required = true)]
        users: Vec<String>,
        #[command(flatten)]
        who: Who,
    },
    /// List who is in a thread.
    List {
        /// The thread's id.
        thread: String,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        who: Who,
    },
    /// Remove a user from a thread.
    Remove {
        /// The thread's id.
        thread: String,
        /// The app's own id of the user.
        user: String,
        #[command(flatten)]
        who: Who,
    },
}

/// The commands of `chat message`.
#[derive(Debug, Subcommand)]
pub(super) enum Message {
    /// Send a message.
    Send {
        /// The thread's id.
        thread: String,
        /// The text.
        text: String,
        /// The text is HTML.
        #[arg(long)]
        html: bool,
        /// The name the sender goes by.
        #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
        display_name: String,
        #[command(flatten)]
        named: Named,
        #[command(flatten)]
        who: Who,
    },
    /// List the messages of a thread, newest first.
    List {
        /// The thread's id.
        thread: String,
        #[command(flatten)]
        part: Part,
        #[command(flatten)]
        who: Who,
    },
    /// Show a message.
    Get {
        /// The thread's id.
        thread: String,
        /// The message's id.
        message: String,
        #[command(flatten)]
        who: Who,
    },
    /// Delete a message.
    Delete {
        /// The thread's id.
        thread: String,
        /// The message's id.
        message: String,
        #[command(flatten)]
        who: Who,
    },
}

impl Named {
    fn id(&self) -> String {
        self.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }
}

impl Command {
    fn who(&self) -> &Who {
        match self {
            Self::Thread(
                Thread::Create { who, .. }
                | Thread::Get { who, .. }
                | Thread::List { who, .. }
                | Thread::Delete { who, .. },
            )
            | Self::Participant(
                Participant::Add { who, .. }
                | Participant::List { who, .. }
                | Participant::Remove { who, .. },
            )
            | Self::Message(
                Message::Send { who, .. }
                | Message::List { who, .. }
                | Message::Get { who, .. }
                | Message::Delete { who, .. },
            ) => who,
        }
    }

    pub(super) fn remote(&self) -> &Remote {
        &self.who().remote
    }

    pub(super) async fn run(&self, io: &mut Io<'_>) -> Result<Exit, Stop> {
        let answer = match self {
            Self::Thread(command) => self.thread(command).await?,
            Self::Participant(command) => self.participant(command).await?,
            Self::Message(command) => self.message(command).await?,
        };
        if self.remote().json {
            writeln!(io.out, "{}", answer.json)?;
        } else {
            for line in answer.lines {
                writeln!(io.out, "{line}")?;
            }
        }
        Ok(Exit::Success)
    }

    async fn thread(&self, command: &Thread) -> Result<Answer, Stop> {
        let (client, actor) = (self.remote().client()?, self.who().actor.as_str());
        Ok(match command {
            Thread::Create { topic, participants, named, .. } => {
                let id = named.id();
                let (thread, refused) = client.create_chat_thread(actor, &id, topic, participants).await?;
                let mut answer = Answer::of(thread_lines(&thread), thread_json(&thread));
                answer.set("request_id", json!(id));
                answer.refused(&refused);
                answer
            }
            Thread::Get { thread, .. } => {
                let thread = client.get_chat_thread(actor, thread).await?;
                Answer::of(thread_lines(&thread), thread_json(&thread))
            }
            Thread::List { part, .. } => {
                let (threads, next) =
                    client.list_chat_threads(actor, part.page_size, &part.page_token).await?;
                let line = |one: &ChatThread| {
                    let gone = if one.deleted.is_some() { "  deleted" } else { "" };
                    format!("{}  {}{gone}", one.thread_id, shown(&one.topic))
                };
                Answer::list("threads", &threads, line, thread_json, &next)
            }
            Thread::Delete { thread, .. } => {
                client.delete_chat_thread(actor, thread).await?;
                Answer::of(vec!["deleted".into()], json!({"deleted": true}))
            }
        })
    }

    async fn participant(&self, command: &Participant) -> Result<Answer, Stop> {
        let (client, actor) = (self.remote().client()?, self.who().actor.as_str());
        Ok(match command {
            Participant::Add { thread, users, .. } => {
                let refused = client.add_chat_participants(actor, thread, users).await?;
                let added = users.len().saturating_sub(refused.len());
                let mut answer = Answer::of(vec![format!("added     {added}")], json!({"added": added}));
                answer.refused(&refused);
                answer
            }
            Participant::List { thread, part, .. } => {
                let page = client.list_chat_participants(actor, thread, part.page_size, &part.page_token);
                let (people, next) = page.await?;
                Answer::list("participants", &people, person_line, person_json, &next)
            }
            Participant::Remove { thread, user, .. } => {
                client.remove_chat_participant(actor, thread, user).await?;
                Answer::of(vec!["removed".into()], json!({"removed": true}))
            }
        })
    }

    async fn message(&self, command: &Message) -> Result<Answer, Stop> {
        let (client, actor) = (self.remote().client()?, self.who().actor.as_str());
        Ok(match command {
            Message::Send { thread, text, html, display_name, named, .. } => {
                let id = named.id();
                let send = ChatSend { actor, thread, request_id: &id, text, is_html: *html, display_name };
                let message = client.send_chat_message(send).await?;
                Answer::of(
                    vec![format!("message   {message}"), format!("request   {id}")],
                    json!({"message_id": message, "request_id": id}),
                )
            }
            Message::List { thread, part, .. } => {
                let page = client.list_chat_messages(actor, thread, part.page_size, &part.page_token);
                let (messages, next) = page.await?;
                Answer::list("messages", &messages, message_line, message_json, &next)
            }
            Message::Get { thread, message, .. } => {
                let message = client.get_chat_message(actor, thread, message).await?;
                Answer::of(vec![message_line(&message)], message_json(&message))
            }
            Message::Delete { thread, message, .. } => {
                client.delete_chat_message(actor, thread, message).await?;
                Answer::of(vec!["deleted".into()], json!({"deleted": true}))
            }
        })
    }
}

/// What is printed, in either form.
struct Answer {
    lines: Vec<String>,
    json: Value,
}

impl Answer {
    fn of(lines: Vec<String>, json: Value) -> Self {
        Self { lines, json }
    }

    fn set(&mut self, key: &str, value: Value) {
        if let Some(object) = self.json.as_object_mut() {
            object.insert(key.to_owned(), value);
        }
    }

    fn list<T>(
        name: &str,
        entries: &[T],
        line: impl Fn(&T) -> String,
        json: impl Fn(&T) -> Value,
        next: &str,
    ) -> Self {
        let mut lines: Vec<String> = entries.iter().map(line).collect();
        if !next.is_empty() {
            lines.push(format!("more with --page-token {next}"));
        }
        let entries: Vec<Value> = entries.iter().map(json).collect();
        let mut answer = Self::of(lines, json!({"next_page_token": next}));
        answer.set(name, Value::Array(entries));
        answer
    }

    /// Tells who was not let in: the rest is done.
    fn refused(&mut self, refused: &[RefusedPerson]) {
        let line = |one: &RefusedPerson| {
            format!("refused   {} ({}: {})", person_line(&one.person), shown(&one.code), shown(&one.detail))
        };
        self.lines.extend(refused.iter().map(line));
        let one = |one: &RefusedPerson| {
            json!({
                "user_id": one.person.user_id,
                "acs_user_id": one.person.acs_user_id,
                "code": one.code,
                "detail": one.detail,
            })
        };
        self.set("refused", refused.iter().map(one).collect());
    }
}

/// A stranger's text on one line, without anything that a terminal would obey.
fn shown(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

fn at(time: Option<Timestamp>) -> Option<String> {
    time.map(rfc3339)
}

fn thread_lines(thread: &ChatThread) -> Vec<String> {
    let mut lines =
        vec![format!("thread    {}", thread.thread_id), format!("topic     {}", shown(&thread.topic))];
    lines.extend(at(thread.created).map(|time| format!("created   {time}")));
    lines.extend(thread.creator.as_ref().map(|creator| format!("creator   {}", person_line(creator))));
    lines.extend(at(thread.deleted).map(|time| format!("deleted   {time}")));
    lines
}

fn thread_json(thread: &ChatThread) -> Value {
    json!({
        "thread_id": thread.thread_id,
        "topic": thread.topic,
        "create_time": at(thread.created),
        "delete_time": at(thread.deleted),
        "creator": thread.creator.as_ref().map(person_json),
    })
}

fn person_line(person: &ChatPerson) -> String {
    let id = if person.user_id.is_empty() { &person.acs_user_id } else { &person.user_id };
    if person.display_name.is_empty() {
        shown(id)
    } else {
        format!("{} ({})", shown(id), shown(&person.display_name))
    }
}

fn person_json(person: &ChatPerson) -> Value {
    json!({
        "user_id": person.user_id,
        "acs_user_id": person.acs_user_id,
        "display_name": person.display_name,
    })
}

fn message_line(message: &ChatMessage) -> String {
    let when = at(message.created).unwrap_or_default();
    let what = match (&message.sender, message.deleted) {
        (_, Some(_)) => "deleted".to_owned(),
        (Some(_), None) => shown(&message.text),
        (None, None) => message.kind.to_lowercase().replace('_', " "),
    };
    let who = message.sender.as_ref().map(person_line).unwrap_or_default();
    format!("{}  {when}  {who}: {what}", message.message_id)
}

fn message_json(message: &ChatMessage) -> Value {
    json!({
        "message_id": message.message_id,
        "type": message.kind,
        "text": message.text,
        "sender": message.sender.as_ref().map(person_json),
        "create_time": at(message.created),
        "edit_time": at(message.edited),
        "delete_time": at(message.deleted),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_cannot_move_the_cursor_or_break_the_line() {
        assert_eq!(shown("a\u{1b}[2Jb\nc\u{9b}ü"), "a\\u{1b}[2Jb\\nc\\u{9b}ü");
    }

    #[test]
    fn a_message_of_nobody_is_told_by_its_kind() {
        let message = ChatMessage {
            message_id: "17".into(),
            kind: "PARTICIPANT_ADDED",
            text: String::new(),
            sender: None,
            created: Some(Timestamp::from_millis(0)),
            edited: None,
            deleted: None,
        };
        assert!(message_line(&message).ends_with(": participant added"), "{}", message_line(&message));
    }
}
