//! The operations on participants: list, add, remove.
//!
//! Whoever is there already stays as before; whoever is not there need not be removed. Used by `perform`.

use serde_json::Map;

use super::events::{self, Audience};
use super::message::Content;
use super::refusal::{self, Refusal};
use super::thread::{Draft, Participant};
use super::{paging, path_of, request, threads, wire};
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::shared::Shared;

/// The most participants of a thread.
const MAX_PARTICIPANTS: usize = 250;
/// How many participants a page has if nobody says.
const PAGE: usize = 100;

pub(super) fn list(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let size = paging::size(call, PAGE)?;
    let store = shared.chat.store_at(call.now);
    let thread = store.thread(store.entered_alive(call.parameter(0), user)?)?;
    let items = thread.participants.iter().map(|participant| wire::participant(participant, call.version));
    let path = format!("{}/participants", path_of(&thread.id));
    let (items, next) = paging::by_count(call, &path, size, items)?;
    Ok(answer::json(200, &wire::page(items, next)))
}

pub(super) fn add(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let named = request::add_participants(call.body, call.version)?;
    let (welcome, invalid) = threads::sort_out(shared, named);
    let mut body = Map::new();
    threads::add_invalid(&mut body, &invalid);

    let mut store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    let thread = store.thread(number)?;
    let new: Vec<Participant> = welcome
        .into_iter()
        .filter(|new| thread.participant(&new.id).is_none())
        .map(|new| threads::participant(store.shared_id(&new.id), new))
        .collect();
    if thread.participants.len().saturating_add(new.len()) > MAX_PARTICIPANTS {
        return Err(refusal::too_many_participants());
    }
    if new.is_empty() {
        return Ok(answer::json(201, &body));
    }
    let by = store.shared_id(user);
    for participant in &new {
        store.joined(number, &participant.id);
    }
    store.thread_mut(number)?.participants.extend(new.iter().cloned());
    let content = Content::ParticipantAdded(new.iter().map(Participant::mentioned).collect());
    let draft = Draft::of_service(&by, content);
    let version = store.append(number, draft, shared.feed.next_sequence(), call.now)?.version;
    let audience = Audience::of(store.thread(number)?);
    store.settle(number);
    drop(store);

    events::participants_added(shared, &audience, user, (&new, version), call.now);
    shared.feed.changed();
    Ok(answer::json(201, &body))
}

pub(super) fn remove(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let removed = request::remove_participant(call.body)?;
    let mut store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    let by = store.shared_id(user);
    let thread = store.thread_mut(number)?;
    let audience = Audience::of(thread);
    let Some(place) = thread.participants.iter().position(|participant| *participant.id == *removed) else {
        return Ok(answer::no_content());
    };
    let removed = thread.participants.remove(place);
    store.left(number, &removed.id);
    let draft = Draft::of_service(&by, Content::ParticipantRemoved(vec![removed.mentioned()]));
    let version = store.append(number, draft, shared.feed.next_sequence(), call.now)?.version;
    store.settle(number);
    drop(store);

    events::participant_removed(shared, &audience, user, (&removed, version), call.now);
    shared.feed.changed();
    Ok(answer::no_content())
}
