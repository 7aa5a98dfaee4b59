//! The operations on messages: send, list, get, update, delete.
//!
//! A participant sees what was sent since the history is shared with it. Only a user's own messages can be changed.
//! Used by `perform`.

use serde_json::json;

use super::events::{self, Audience, MessageChange};
use super::message::{Content, Message};
use super::refusal::{self, Refusal};
use super::request::{self, SendMessage};
use super::store::Store;
use super::thread::Draft;
use super::{location_of, paging, path_of, wire};
use crate::clock::Timestamp;
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::shared::Shared;

/// How many messages a page has if nobody says, as recorded.
const PAGE: usize = 10;

pub(super) fn send(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let SendMessage { text, sender_name, is_html, metadata } = request::send_message(call.body)?;
    let content = if is_html { Content::Html(text) } else { Content::Text(text) };
    let mut store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    let draft = Draft { author: store.shared_id(user), author_name: sender_name, content, metadata };
    let message = store.append(number, draft, shared.feed.next_sequence(), call.now)?;
    let thread = store.thread(number)?;
    let audience = Audience::of(thread);
    let location = format!("{}{}/messages/{}", call.base, location_of(&thread.id), message.id);
    store.settle(number);
    drop(store);

    events::message(shared, &audience, &message, MessageChange::Received);
    shared.feed.changed();
    let body = json!({ "id": message.id.to_string() });
    Ok(answer::json(201, &body).with_header("location", location))
}

pub(super) fn list(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let size = paging::size(call, PAGE)?;
    let start = paging::start_time(call)?;
    let before = paging::place(call)?;
    let store = shared.chat.store_at(call.now);
    let thread = store.thread(store.entered_alive(call.parameter(0), user)?)?;
    let shared_since = thread.participant(user).map_or(Timestamp::default(), |one| one.share_history);
    let earliest = start.unwrap_or_default().max(shared_since);
    let (page, next) = thread.page(before, size, |message| message.created >= earliest);
    let items = page.into_iter().map(wire::message).collect();
    let path = format!("{}/messages", path_of(&thread.id));
    let next = next.map(|place| paging::link_to_place(call, &path, place, size, start));
    // Writing a page may take long; others need not wait for it.
    drop(store);
    Ok(answer::json(200, &wire::page(items, next)))
}

/// The number of the thread and the message that the path names, if the user may see it.
fn seen<'a>(store: &'a Store, call: &Call<'_>, user: &str) -> Result<(u64, &'a Message), Refusal> {
    let number = store.entered_alive(call.parameter(0), user)?;
    let thread = store.thread(number)?;
    let since = thread.participant(user).map_or(Timestamp::default(), |one| one.share_history);
    let message = thread.message(request::message_id(call.parameter(1))?);
    let message = message.filter(|message| message.created >= since).ok_or_else(refusal::not_found)?;
    Ok((number, message))
}

/// A message of the user's own.
struct Own {
    thread: u64,
    id: u64,
    is_deleted: bool,
}

fn own(store: &Store, call: &Call<'_>, user: &str) -> Result<Own, Refusal> {
    let (thread, message) = seen(store, call, user)?;
    if !message.is_of_user() || *message.author != *user {
        return Err(refusal::forbidden());
    }
    Ok(Own { thread, id: message.id, is_deleted: message.deleted.is_some() })
}

pub(super) fn get(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let store = shared.chat.store_at(call.now);
    let (_, message) = seen(&store, call, user)?;
    Ok(answer::json(200, &wire::message(message)))
}

pub(super) fn update(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let request = request::update_message(call.body)?;
    let mut store = shared.chat.store_at(call.now);
    let own = own(&store, call, user)?;
    if own.is_deleted {
        return Err(refusal::not_found());
    }
    if request.text.is_none() && request.metadata.is_none() {
        return Ok(answer::no_content());
    }
    let message = store.edit(own.thread, own.id, (request.text, request.metadata), call.now)?;
    let audience = Audience::of(store.thread(own.thread)?);
    store.settle(own.thread);
    drop(store);

    events::message(shared, &audience, &message, MessageChange::Edited);
    shared.feed.changed();
    Ok(answer::no_content())
}

pub(super) fn delete(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let mut store = shared.chat.store_at(call.now);
    let own = own(&store, call, user)?;
    if own.is_deleted {
        return Ok(answer::no_content());
    }
    let message = store.erase(own.thread, own.id, call.now)?;
    let audience = Audience::of(store.thread(own.thread)?);
    store.settle(own.thread);
    drop(store);

    events::message(shared, &audience, &message, MessageChange::Deleted);
    shared.feed.changed();
    Ok(answer::no_content())
}
