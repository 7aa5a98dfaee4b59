//! The operations on threads: create, list, get, update, delete.
//!
//! A thread that was deleted stays in the list of its participants, with `deletedOn`; all else about it is not found.
//! Used by `perform`.

use serde_json::{Map, Value};

use super::events::{self, Audience, Told};
use super::message::Content;
use super::refusal::{self, Refusal};
use super::repeats::Repeats;
use super::request::{self, NewParticipant};
use super::thread::{Draft, Participant, Thread};
use super::{identifier, location_of, paging, wire};
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::shared::Shared;

/// How many threads a page has if nobody says.
const PAGE: usize = 100;
/// The longest id of a repeatable request.
const MAX_REQUEST_ID: usize = 256;

pub(super) fn create(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let request = request::create_thread(call.body, call.version)?;
    let repeatable = match call.header("repeatability-request-id") {
        Some(id) if id.len() > MAX_REQUEST_ID => {
            return Err(refusal::bad_request("The header repeatability-request-id is too long."));
        }
        Some(id) if !id.is_empty() => Some(Repeats::key(user, id)),
        _ => None,
    };
    let (welcome, invalid) = sort_out(shared, request.participants);
    let id = thread_id(shared);

    let mut store = shared.chat.store_at(call.now);
    if let Some(number) = repeatable.as_ref().and_then(|key| store.made_by(key)) {
        let body = wire::thread(store.thread(number)?, call.version);
        drop(store);
        return Ok(created(call, body, &invalid));
    }
    let creator = store.shared_id(user);
    let mut thread = Thread::new(id.into(), request.topic.clone(), creator.clone(), call.now);
    thread.metadata = request.metadata;
    let mut participants: Vec<Participant> =
        welcome.into_iter().map(|new| participant(store.shared_id(&new.id), new)).collect();
    // Whoever makes a thread is in it, named or not.
    if !participants.iter().any(|participant| participant.id == creator) {
        participants.insert(0, participant(creator.clone(), newcomer(user)));
    }
    thread.participants.clone_from(&participants);
    let audience = Audience::of(&thread);
    let number = store.insert(thread);
    store.retain(number, request.retention);
    let added = Content::ParticipantAdded(participants.iter().map(Participant::mentioned).collect());
    for content in [added, Content::TopicUpdated(request.topic)] {
        store.append(number, Draft::of_service(&creator, content), shared.feed.next_sequence(), call.now)?;
    }
    if let Some(key) = repeatable {
        store.remember(key, number, call.now);
    }
    let thread = store.thread(number)?;
    let body = wire::thread(thread, call.version);
    let told = told(thread, call.now.as_millis());
    store.settle(number);
    drop(store);

    events::thread_created(shared, &audience, user, &told, &participants);
    shared.feed.changed();
    Ok(created(call, body, &invalid))
}

fn created(call: &Call<'_>, thread: Value, invalid: &[String]) -> Answer {
    let id = thread.get("id").and_then(Value::as_str).unwrap_or_default();
    let location = format!("{}{}", call.base, location_of(id));
    let mut body = Map::new();
    body.insert("chatThread".into(), thread);
    add_invalid(&mut body, invalid);
    answer::json(201, &body).with_header("location", location)
}

/// Those who could not be taken in are named only if there are any.
pub(super) fn add_invalid(body: &mut Map<String, Value>, invalid: &[String]) {
    if !invalid.is_empty() {
        let invalid = invalid.iter().map(|id| wire::invalid_participant(id)).collect();
        body.insert("invalidParticipants".into(), invalid);
    }
}

/// Parts those who may take part, each once, from the ids of the others.
pub(super) fn sort_out(shared: &Shared, named: Vec<NewParticipant>) -> (Vec<NewParticipant>, Vec<String>) {
    let (mut welcome, mut invalid) = (Vec::<NewParticipant>::new(), Vec::new());
    let state = shared.state();
    for participant in named {
        if !identifier::may_take_part(&state, &participant.id) {
            invalid.push(participant.id);
        } else if !welcome.iter().any(|known| known.id == participant.id) {
            welcome.push(participant);
        }
    }
    (welcome, invalid)
}

/// A participant who has read nothing yet.
pub(super) fn participant(id: std::sync::Arc<str>, new: NewParticipant) -> Participant {
    Participant {
        id,
        display_name: new.display_name,
        share_history: new.share_history,
        metadata: new.metadata,
        receipt: None,
    }
}

fn newcomer(user: &str) -> NewParticipant {
    NewParticipant {
        id: user.to_owned(),
        display_name: None,
        share_history: crate::clock::Timestamp::default(),
        metadata: std::collections::BTreeMap::new(),
    }
}

/// `19:`, 44 characters of base64url, `@thread.v2`.
fn thread_id(shared: &Shared) -> String {
    use base64::Engine as _;
    let bytes: [u8; 33] = shared.random.bytes();
    format!("19:{}@thread.v2", base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

fn told(thread: &Thread, version: u64) -> Told {
    Told { topic: thread.topic.clone(), metadata: thread.metadata.clone(), version }
}

pub(super) fn list(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let size = paging::size(call, PAGE)?;
    let start = paging::start_time(call)?;
    let before = paging::place(call)?.unwrap_or(u64::MAX);
    let store = shared.chat.store_at(call.now);
    let mut wanted = store.threads_of(user).filter(|(number, thread)| {
        // What happened last in a thread decides whether it is new enough.
        let last = thread.last_received.unwrap_or(thread.created);
        *number < before && start.is_none_or(|start| last >= start)
    });
    let page: Vec<(u64, &Thread)> = wanted.by_ref().take(size).collect();
    let next = wanted.next().and(page.last()).map(|(number, _)| *number);
    let items = page.iter().map(|(_, thread)| wire::thread_item(thread)).collect();
    let next = next.map(|place| paging::link_to_place(call, "/chat/threads", place, size, start));
    Ok(answer::json(200, &wire::page(items, next)))
}

pub(super) fn get(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    Ok(answer::json(200, &wire::thread(store.thread(number)?, call.version)))
}

pub(super) fn update(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let request = request::update_thread(call.body, call.version)?;
    let mut store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    if request.topic.is_none() && request.metadata.is_empty() && request.retention.is_none() {
        return Ok(answer::no_content());
    }
    let mut metadata = store.thread(number)?.metadata.clone();
    for (name, value) in request.metadata {
        match value {
            Some(value) => metadata.insert(name, value),
            None => metadata.remove(&name),
        };
    }
    request::check_merged(&metadata)?;
    if request.retention.is_some() {
        store.retain(number, request.retention);
    }
    let editor = store.shared_id(user);
    let thread = store.thread_mut(number)?;
    thread.metadata = metadata;
    let version = if let Some(topic) = request.topic {
        thread.topic.clone_from(&topic);
        let draft = Draft::of_service(&editor, Content::TopicUpdated(topic));
        store.append(number, draft, shared.feed.next_sequence(), call.now)?.version
    } else {
        thread.stamp(call.now)
    };
    let thread = store.thread(number)?;
    let (audience, told) = (Audience::of(thread), told(thread, version));
    store.settle(number);
    drop(store);

    events::thread_updated(shared, &audience, user, &told, call.now);
    shared.feed.changed();
    Ok(answer::no_content())
}

pub(super) fn delete(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let mut store = shared.chat.store_at(call.now);
    let number = store.entered(call.parameter(0), user)?;
    let thread = store.thread_mut(number)?;
    if thread.deleted.is_some() {
        return Ok(answer::no_content());
    }
    thread.deleted = Some(call.now);
    let (audience, version) = (Audience::of(thread), thread.stamp(call.now));
    store.settle(number);
    drop(store);

    events::thread_deleted(shared, &audience, user, version, call.now);
    shared.feed.changed();
    Ok(answer::no_content())
}
