//! The control API under `/_emulator/`: what tests and the inbox page read and steer. Not part of ACS.
//!
//! It answers programs on this machine, and others only with a token (`access`); it never lets a foreign web page in.
//! It keeps nothing itself: each part asks the service that has it. Called by `service`; docs/emulator.md lists it.

mod access;
mod clock;
mod faults;
mod identities;
mod inject;
mod keys;
mod matching;
mod messages;
mod recent;
mod record;
mod request;
mod routing;
mod stream;
mod wait;
mod webhooks;

use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::recent::Recent;
use self::request::{Query, Refusal};
use self::routing::Action;
use super::answer::{self, Answer};
use super::inbox;
use super::respond::ReplyBody;
use super::service::Origin;
use super::shared::Shared;

/// Waits that go on at the same time.
const MAX_WAITS: usize = 256;
/// Streams that are open at the same time.
const MAX_STREAMS: usize = 64;

/// What a control request is answered with.
pub(super) enum Reply {
    /// An answer like any other.
    Answer(Answer),
    /// A response that goes on until the caller has enough.
    Stream(http::Response<ReplyBody>),
}

/// The places for those who watch, so that they are bounded.
pub(super) struct Watchers {
    waits: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// One look through everything that is kept at a time, so that many watchers take one core at the most.
    looks: Arc<Semaphore>,
    recent: Recent,
}

impl Default for Watchers {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self {
            waits: places(MAX_WAITS),
            streams: places(MAX_STREAMS),
            looks: places(1),
            recent: Recent::default(),
        }
    }
}

impl Watchers {
    /// How many watch now.
    fn watching(&self) -> Value {
        json!({
            "waits": MAX_WAITS.saturating_sub(self.waits.available_permits()),
            "streams": MAX_STREAMS.saturating_sub(self.streams.available_permits()),
        })
    }
}

/// Answers a control request; `path` is what follows `/_emulator/`, in segments.
pub(super) async fn handle(
    shared: &Arc<Shared>,
    origin: Origin,
    head: &http::request::Parts,
    path: &[String],
    body: &[u8],
) -> Reply {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    if !is_for_everybody(head, &path)
        && let Err(refusal) = access::check(shared.settings.control_token.as_ref(), origin, head)
    {
        return Reply::Answer(*refusal);
    }
    let (action, parameters) = match routing::route(head.method.as_str(), &path) {
        Ok(found) => found,
        Err(refusal) => return Reply::Answer(*refusal),
    };
    let answer = match action {
        Action::Stream => stream::open(shared),
        action => {
            perform(shared, action, &path, &parameters, head.uri.query(), body).await.map(Reply::Answer)
        }
    };
    match answer {
        // What a control path says is true now and never later.
        Ok(Reply::Answer(answer)) => Reply::Answer(uncached(answer)),
        Ok(stream) => stream,
        Err(refusal) => Reply::Answer(*refusal),
    }
}

/// The page is the same for everybody and holds no data. Webhooks may be anywhere, and bring the code they were sent.
fn is_for_everybody(head: &http::request::Parts, path: &[&str]) -> bool {
    match path {
        [] | [""] => head.method == http::Method::GET,
        path => *path == ["events", "validate"],
    }
}

async fn perform(
    shared: &Arc<Shared>,
    action: Action,
    path: &[&str],
    parameters: &[&str],
    query: Option<&str>,
    body: &[u8],
) -> Result<Answer, Refusal> {
    let query = Query::read(query)?;
    let parameter = parameters.first().copied().unwrap_or_default();
    // Those that have a query hand it on; with any other it is a mistake.
    match action {
        Action::Messages => return messages::list(shared, query).await,
        Action::Threads => return messages::threads(shared, query),
        Action::Identities => return identities::list(shared, query),
        Action::ClearFaults => return faults::clear(shared, query),
        Action::Log => return record::log(shared, query),
        Action::Events => return record::events(shared, query),
        Action::Validate => return webhooks::validate(shared, query),
        // The page reads its own address.
        Action::Page | Action::MailPart => {}
        _ => query.end()?,
    }
    match action {
        Action::Home => Ok(answer::empty(302).with_header("location", "/_emulator/")),
        Action::Page | Action::MailPart => inbox::handle(shared, path)
            .ok_or_else(|| request::not_found("There is no such mail or part of it.")),
        Action::Status => Ok(record::status(shared)),
        Action::Message => messages::one(shared, parameter),
        Action::Wait => wait::until(shared, body).await,
        Action::Assert => messages::assert(shared, body).await,
        Action::Seed => identities::seed(shared, body).await,
        Action::ReceiveSms => inject::sms(shared, body),
        Action::Engage => inject::engagement(shared, parameter, body),
        Action::ListFaults => Ok(faults::list(shared)),
        Action::AddFault => faults::add(shared, body),
        Action::Clock => Ok(clock::show(shared)),
        Action::Advance => clock::advance(shared, body),
        Action::Rotate => keys::rotate(shared, body),
        Action::Calls => Ok(record::calls(shared)),
        Action::LogText => Ok(record::log_text(shared)),
        Action::Webhooks => Ok(webhooks::list(shared)),
        Action::SetWebhooks => webhooks::set(shared, body),
        Action::Reset => {
            shared.reset();
            Ok(answer::no_content())
        }
        // These were answered above.
        Action::Messages
        | Action::Threads
        | Action::Identities
        | Action::ClearFaults
        | Action::Log
        | Action::Events
        | Action::Validate
        | Action::Stream => Err(request::not_found("There is no such control path.")),
    }
}

fn uncached(answer: Answer) -> Answer {
    if answer.headers.iter().any(|(name, _)| *name == "cache-control") {
        answer
    } else {
        answer.with_header("cache-control", "no-store")
    }
}
