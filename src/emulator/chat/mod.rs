//! The Chat API: threads, participants, messages, read receipts, typing.
//!
//! Called by `service` once the user's token was found good and the version is known. What the token's scopes allow and
//! who is in which thread is checked here. The lock on the threads is let go before an event is emitted. Answers that
//! ACS was never seen to give are guesses, listed in docs/emulator.md.

mod events;
mod identifier;
mod message;
mod messages;
mod notifications;
mod paging;
mod participants;
mod refusal;
mod repeats;
mod request;
mod store;
mod thread;
mod threads;
mod times;
mod view;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

use self::store::Store;
use super::answer::{self, Answer};
use super::call::{Call, Principal};
use super::operation::Operation;
use super::service;
use super::settings::Settings;
use super::shared::Shared;
use crate::clock::Timestamp;

/// The threads of the resource.
pub(super) struct Chat {
    store: Mutex<Store>,
    settings: Settings,
}

impl Chat {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { store: Mutex::new(Store::new(settings.bounds())), settings: settings.clone() }
    }

    /// Forgets all threads.
    pub(super) fn reset(&self) {
        let fresh = Store::new(self.settings.bounds());
        // The old threads are dropped after the lock is let go: there may be many.
        let old = std::mem::replace(&mut *self.store(), fresh);
        drop(old);
    }

    /// The threads. Never keep it across an await, an event, or another lock.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The threads without what is too old by now.
    fn store_at(&self, now: Timestamp) -> MutexGuard<'_, Store> {
        let mut store = self.store();
        store.expire(now);
        store
    }
}

/// How much a token's scopes allow, by the published table; each allows what the one before allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Right {
    /// `voip` and `voip.join` alone: nothing here.
    None,
    /// `chat.join.limited`: to read and write in threads.
    Take,
    /// `chat.join`: to bring others in and put them out, too.
    Bring,
    /// `chat`: everything.
    Own,
}

fn granted(scopes: &[String]) -> Right {
    let right = |scope: &String| match scope.as_str() {
        "chat" => Right::Own,
        "chat.join" => Right::Bring,
        "chat.join.limited" => Right::Take,
        _ => Right::None,
    };
    scopes.iter().map(right).max().unwrap_or(Right::None)
}

const fn needed(operation: Operation) -> Right {
    match operation {
        Operation::CreateThread | Operation::UpdateThread | Operation::DeleteThread => Right::Own,
        Operation::AddParticipants | Operation::RemoveParticipant => Right::Bring,
        _ => Right::Take,
    }
}

/// Carries the request out. `Err` is a refusal: nothing was done.
pub(super) fn perform(shared: &Shared, call: &Call<'_>) -> Result<Answer, Box<Answer>> {
    let Principal::User { id: user, scopes } = &call.principal else { return Err(Box::new(unauthorized())) };
    if granted(scopes) < needed(call.operation) {
        return Err(refusal::forbidden());
    }
    match call.operation {
        Operation::CreateThread => threads::create(shared, call, user),
        Operation::ListThreads => threads::list(shared, call, user),
        Operation::GetThread => threads::get(shared, call, user),
        Operation::UpdateThread => threads::update(shared, call, user),
        Operation::DeleteThread => threads::delete(shared, call, user),
        Operation::ListParticipants => participants::list(shared, call, user),
        Operation::AddParticipants => participants::add(shared, call, user),
        Operation::RemoveParticipant => participants::remove(shared, call, user),
        Operation::SendMessage => messages::send(shared, call, user),
        Operation::ListMessages => messages::list(shared, call, user),
        Operation::GetMessage => messages::get(shared, call, user),
        Operation::UpdateMessage => messages::update(shared, call, user),
        Operation::DeleteMessage => messages::delete(shared, call, user),
        Operation::ListReadReceipts => notifications::receipts(shared, call, user),
        Operation::SendReadReceipt => notifications::read(shared, call, user),
        Operation::SendTyping => notifications::typing(shared, call, user),
        operation => Err(Box::new(service::not_emulated(operation))),
    }
}

/// The answer to a call without a token that is good now, in the words of the published examples.
pub(super) fn unauthorized() -> Answer {
    answer::chat_error(401, "Unauthorized", Some("Request is not authorized."))
}

/// `/chat/threads/{id}` as links have it; in the header `Location` the first colon is escaped, as recorded.
fn path_of(thread: &str) -> String {
    format!("/chat/threads/{thread}")
}

fn location_of(thread: &str) -> String {
    format!("/chat/threads/{}", thread.replace(':', "%3A"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_widest_scope_counts() {
        let granted = |scopes: &[&str]| granted(&scopes.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(granted(&[]), Right::None);
        assert_eq!(granted(&["voip", "voip.join"]), Right::None);
        assert_eq!(granted(&["voip", "chat.join.limited"]), Right::Take);
        assert_eq!(granted(&["chat.join", "chat.join.limited"]), Right::Bring);
        assert_eq!(granted(&["chat.join.limited", "chat"]), Right::Own);
    }
}
