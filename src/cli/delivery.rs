//! What `sms` and `email` share: request ids, how a message is named, and how what became of it is printed.

use clap::Args;
use serde_json::{Value, json};

use super::output::{Exit, Io, Stop, rfc3339};
use crate::grpc::client::{Delivery, Failure, Message, Name};

/// Names a request to send.
#[derive(Debug, Args)]
pub(super) struct RequestId {
    /// A UUID that names this request: repeated with the same one, nothing is sent twice. Default: a new one, which is
    /// printed.
    #[arg(long, value_parser = uuid, value_name = "UUID")]
    request_id: Option<uuid::Uuid>,
    /// The one made up, if none was given.
    #[arg(skip = uuid::Uuid::new_v4())]
    made_up: uuid::Uuid,
}

fn uuid(text: &str) -> Result<uuid::Uuid, String> {
    let uuid = uuid::Uuid::try_parse(text).ok().filter(|uuid| !uuid.is_nil());
    uuid.ok_or_else(|| "must be a UUID such as f81d4fae-7dec-41d0-a765-00a0c91e6bf6".into())
}

impl RequestId {
    /// The same at every call.
    pub(super) fn id(&self) -> String {
        self.request_id.unwrap_or(self.made_up).to_string()
    }

    /// Says how to repeat what failed, where repeating is safe only with the id that was made up.
    pub(super) fn told<T>(
        &self,
        io: &mut Io<'_>,
        as_json: bool,
        sent: Result<T, Failure>,
    ) -> Result<T, Stop> {
        if let Err(failure) = &sent
            && failure.is_passing()
            && self.request_id.is_none()
        {
            if as_json {
                writeln!(io.err, "{}", json!({"repeat_with_request_id": self.id()}))?;
            } else {
                writeln!(io.err, "to repeat it and send nothing twice: --request-id {}", self.id())?;
            }
        }
        Ok(sent?)
    }
}

/// Which message.
#[derive(Debug, Args)]
#[group(id = "by", required = true, multiple = false, args = ["id", "by_request_id"])]
pub(super) struct By {
    /// The id that sending it printed.
    id: Option<String>,
    /// The request id it was sent with, instead.
    #[arg(long = "request-id", value_name = "UUID")]
    by_request_id: Option<String>,
}

impl By {
    pub(super) fn name(&self) -> Name {
        match (&self.by_request_id, &self.id) {
            (Some(id), _) => Name::Request(id.clone()),
            (None, id) => Name::Id(id.clone().unwrap_or_default()),
        }
    }
}

/// Prints a message; the exit code tells whether all of it is well so far.
pub(super) fn print(
    io: &mut Io<'_>,
    channel: &str,
    message: &Message,
    request_id: Option<&str>,
    as_json: bool,
) -> Result<Exit, Stop> {
    if as_json {
        writeln!(io.out, "{}", as_value(channel, message, request_id))?;
    } else {
        writeln!(io.out, "{channel:<9} {}", message.id)?;
        if let Some(id) = request_id {
            writeln!(io.out, "request   {id}")?;
        }
        if let Some(created) = message.created {
            writeln!(io.out, "taken     {}", rfc3339(created))?;
        }
        if !message.tag.is_empty() {
            writeln!(io.out, "tag       {}", message.tag)?;
        }
        if let Some(state) = message.state {
            writeln!(io.out, "state     {state}{}", why(message.failure.as_ref()))?;
        }
        for Delivery { to, state, failure, .. } in &message.deliveries {
            writeln!(io.out, "to        {to}  {state}{}", why(failure.as_ref()))?;
        }
    }
    let states = message.deliveries.iter().map(|delivery| delivery.state).chain(message.state);
    Ok(if states.into_iter().any(|state| state == "FAILED") { Exit::Failure } else { Exit::Success })
}

fn why(failure: Option<&(String, String)>) -> String {
    failure.map_or_else(String::new, |(code, detail)| format!("  {code} {detail}"))
}

fn as_value(channel: &str, message: &Message, request_id: Option<&str>) -> Value {
    let failure = |failure: &Option<(String, String)>| {
        failure.as_ref().map(|(code, detail)| json!({"code": code, "detail": detail}))
    };
    let deliveries: Vec<_> = message
        .deliveries
        .iter()
        .map(|delivery| {
            json!({
                "to": delivery.to,
                "message_id": delivery.message_id,
                "state": delivery.state,
                "failure": failure(&delivery.failure),
                "update_time": delivery.updated.map(rfc3339),
            })
        })
        .collect();
    let mut value = json!({
        "tag": message.tag,
        "create_time": message.created.map(rfc3339),
        "state": message.state,
        "failure": failure(&message.failure),
        "outcomes": deliveries,
    });
    if let Some(object) = value.as_object_mut() {
        object.insert(format!("{channel}_id"), message.id.clone().into());
        if let Some(id) = request_id {
            object.insert("request_id".into(), id.into());
        }
        // What this channel's answers never have.
        object.retain(|_, value| !value.is_null() && value != "");
    }
    value
}
