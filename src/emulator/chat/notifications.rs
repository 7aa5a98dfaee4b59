//! Read receipts and typing: what participants tell each other beside messages.
//!
//! One receipt is kept for each reader, and it only moves forward. Typing is checked and goes nowhere: it travels by a
//! channel that is not part of the REST API. Neither is for large threads. Used by `perform`.

use super::refusal::{self, Refusal};
use super::thread::{Receipt, Thread};
use super::{paging, path_of, request, wire};
use crate::emulator::answer::{self, Answer};
use crate::emulator::call::Call;
use crate::emulator::shared::Shared;

/// Threads of more participants have neither receipts nor typing.
const MAX_PARTICIPANTS: usize = 20;
/// How many receipts a page has if nobody says.
const PAGE: usize = 100;

fn check_size(thread: &Thread) -> Result<(), Refusal> {
    if thread.participants.len() > MAX_PARTICIPANTS {
        let message = "Read receipts and typing are not supported in threads of more than 20 participants.";
        return Err(refusal::bad_request(message));
    }
    Ok(())
}

pub(super) fn receipts(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let size = paging::size(call, PAGE)?;
    let store = shared.chat.store_at(call.now);
    let thread = store.thread(store.entered_alive(call.parameter(0), user)?)?;
    let items = thread.participants.iter().filter_map(|reader| Some(wire::receipt(reader, reader.receipt?)));
    let path = format!("{}/readReceipts", path_of(&thread.id));
    let (items, next) = paging::by_count(call, &path, size, items)?;
    Ok(answer::json(200, &wire::page(items, next)))
}

pub(super) fn read(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    let message = request::read_receipt(call.body)?;
    let mut store = shared.chat.store_at(call.now);
    let number = store.entered_alive(call.parameter(0), user)?;
    let thread = store.thread_mut(number)?;
    check_size(thread)?;
    let created = thread.message(message).ok_or_else(refusal::not_found)?.created;
    let reader = thread.participant_mut(user).ok_or_else(refusal::forbidden)?;
    if created < reader.share_history {
        return Err(refusal::not_found());
    }
    if reader.receipt.is_none_or(|receipt| receipt.message <= message) {
        reader.receipt = Some(Receipt { message, at: call.now });
    }
    drop(store);
    shared.feed.changed();
    Ok(answer::empty(200))
}

pub(super) fn typing(shared: &Shared, call: &Call<'_>, user: &str) -> Result<Answer, Refusal> {
    request::typing(call.body)?;
    let store = shared.chat.store_at(call.now);
    let thread = store.thread(store.entered_alive(call.parameter(0), user)?)?;
    check_size(thread)?;
    Ok(answer::empty(200))
}
