//! Which messages are meant, and looking for them through all kinds, newest first.
//!
//! A look is bounded in what it brings back, never in what it sees. Used by `messages` and `wait`.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::Deserialize;

use super::super::mailbox::{Kind, Message};
use super::super::shared::Shared;
use super::request::{Query, Refusal, invalid};

pub(super) const KINDS: [Kind; 3] = [Kind::Sms, Kind::Email, Kind::Chat];

/// An answer with more text than this, in bytes and per kind, is cut short.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Numbers are given before messages are kept, so that a message can turn up behind a younger one. As many are looked
/// at again.
const STRAGGLERS: usize = 16;
/// As many messages that may match yet are looked at one by one; beyond, everything is.
const MAX_NEARLY: usize = 128;

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Direction {
    Inbound,
    Outbound,
}

/// Which messages are meant: those that fit everything that is said.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Match {
    kind: Option<Kind>,
    direction: Option<Direction>,
    from: Option<String>,
    to: Option<String>,
    contains: Option<String>,
    thread: Option<String>,
    status: Option<String>,
    tag: Option<String>,
    /// Only messages with a greater number.
    after: u64,
}

impl Match {
    /// The same from a query, out of which it takes what it knows.
    pub(super) fn from_query(query: &mut Query) -> Result<Self, Refusal> {
        let kind = match query.take("kind").as_deref() {
            None => None,
            Some("sms") => Some(Kind::Sms),
            Some("email") => Some(Kind::Email),
            Some("chat") => Some(Kind::Chat),
            Some(_) => return Err(invalid("kind", "must be sms, email or chat")),
        };
        let direction = match query.take("direction").as_deref() {
            None => None,
            Some("inbound") => Some(Direction::Inbound),
            Some("outbound") => Some(Direction::Outbound),
            Some(_) => return Err(invalid("direction", "must be inbound or outbound")),
        };
        // In a query a plus sign means a space, but no number or address begins with one.
        let number = |text: String| match text.strip_prefix(' ') {
            Some(rest) => format!("+{rest}"),
            None => text,
        };
        Ok(Self {
            kind,
            direction,
            from: query.take("from").map(number),
            to: query.take("to").map(number),
            contains: query.take("contains"),
            thread: query.take("thread"),
            status: query.take("status"),
            tag: query.take("tag"),
            after: query.after()?,
        })
    }

    /// The same among messages with a greater number than this.
    pub(super) fn after(mut self, number: u64) -> Self {
        self.after = self.after.max(number);
        self
    }

    fn is_of(&self, kind: Kind) -> bool {
        self.kind.is_none_or(|wanted| wanted == kind)
    }

    /// Whether this message is meant.
    pub(super) fn fits(&self, message: &Message) -> bool {
        self.fits_for_good(message)
            && same(self.status.as_ref(), &message.status)
            && self.contains.as_ref().is_none_or(|part| contains(message, part))
    }

    /// Whether this message, which is not meant now, may be later: statuses change, and chat messages are edited.
    fn may_fit_later(&self, message: &Message) -> bool {
        let has_part = || self.contains.as_ref().is_none_or(|part| contains(message, part));
        let changes = match message.kind {
            Kind::Chat => self.status.is_some() || self.contains.is_some(),
            Kind::Sms | Kind::Email => self.status.is_some() && has_part(),
        };
        changes && self.fits_for_good(message)
    }

    /// What can be said of a message once and for all.
    fn fits_for_good(&self, message: &Message) -> bool {
        let exactly = |wanted: &Option<String>, text: &Option<String>| {
            wanted.is_none() || wanted.as_deref() == text.as_deref()
        };
        let direction = match self.direction {
            None => true,
            Some(Direction::Inbound) => message.direction == "inbound",
            Some(Direction::Outbound) => message.direction == "outbound",
        };
        message.sequence > self.after
            && self.is_of(message.kind)
            && direction
            && same(self.from.as_ref(), &message.from)
            && (self.to.is_none() || message.to.iter().any(|to| same(self.to.as_ref(), to)))
            && exactly(&self.thread, &message.thread)
            && exactly(&self.tag, &message.tag)
    }
}

/// Whether a text is the wanted one, if one is wanted; without case.
fn same(wanted: Option<&String>, text: &str) -> bool {
    wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(text))
}

fn contains(message: &Message, part: &str) -> bool {
    let part = part.to_lowercase();
    let holds = |text: &str| text.to_lowercase().contains(&part);
    holds(&message.text) || message.subject.as_deref().is_some_and(holds)
}

/// Shows the messages of a kind, newest first: those numbered above `seen`, and a few below in case they came late.
pub(super) fn each(shared: &Shared, kind: Kind, seen: u64, show: &mut dyn FnMut(Message) -> ControlFlow<()>) {
    let mut behind: usize = 0;
    let mut visit = |message: Message| {
        if message.sequence <= seen {
            behind = behind.saturating_add(1);
            if behind > STRAGGLERS {
                return ControlFlow::Break(());
            }
        }
        show(message)
    };
    match kind {
        Kind::Sms => shared.sms.newest_first(&mut visit),
        Kind::Email => shared.email.newest_first(&mut visit),
        Kind::Chat => shared.chat.newest_first(&mut visit),
    }
}

/// The newest that match, and whether there are more.
pub(super) fn newest(shared: &Shared, wanted: &Match, limit: usize) -> (Vec<Message>, bool) {
    let (mut found, mut more, mut complete_from) = (Vec::new(), false, 0);
    for kind in KINDS.into_iter().filter(|kind| wanted.is_of(*kind)) {
        let (mut count, mut bytes) = (0_usize, 0_usize);
        each(shared, kind, wanted.after, &mut |message| {
            if !wanted.fits(&message) {
                return ControlFlow::Continue(());
            }
            if count > limit || bytes > MAX_BYTES {
                more = true;
                // What is older than this is not known to be complete.
                complete_from = complete_from.max(message.sequence);
                return ControlFlow::Break(());
            }
            count = count.saturating_add(1);
            bytes = bytes.saturating_add(message.text.len());
            found.push(message);
            ControlFlow::Continue(())
        });
    }
    found.retain(|message| message.sequence > complete_from);
    found.sort_unstable_by_key(|message| std::cmp::Reverse(message.sequence));
    more |= found.len() > limit;
    found.truncate(limit);
    (found, more)
}

/// The numbers of messages that match, and those that may match yet.
#[derive(Default)]
pub(super) struct Tally {
    numbers: BTreeSet<u64>,
    /// Kinds and ids.
    nearly: BTreeMap<u64, (Kind, String)>,
    /// There were more than are kept of those.
    is_short: bool,
}

impl Tally {
    /// Counts a message, if it is meant.
    pub(super) fn take(&mut self, wanted: &Match, message: &Message) {
        if wanted.fits(message) {
            self.numbers.insert(message.sequence);
        } else if wanted.may_fit_later(message) {
            if self.nearly.len() < MAX_NEARLY {
                self.nearly.insert(message.sequence, (message.kind, message.id.clone()));
            } else {
                self.is_short = true;
            }
        }
    }

    /// Looks again at those that may match yet.
    pub(super) fn look_again(&mut self, shared: &Shared, wanted: &Match) {
        for (kind, id) in std::mem::take(&mut self.nearly).into_values() {
            let found = match kind {
                Kind::Sms => shared.sms.find(&id),
                Kind::Email => shared.email.find(&id),
                Kind::Chat => shared.chat.find(&id),
            };
            if let Some(found) = found {
                self.take(wanted, &found.message);
            }
        }
    }

    /// Whether there are too many that may match yet to look at each by itself.
    pub(super) fn is_short(&self) -> bool {
        self.is_short
    }

    pub(super) fn count(&self) -> usize {
        self.numbers.len()
    }

    /// The least of the numbers.
    pub(super) fn first(&self) -> u64 {
        self.numbers.first().copied().unwrap_or_default()
    }

    fn of_all(shared: &Shared, wanted: &Match) -> Self {
        let mut tally = Self::default();
        for kind in KINDS.into_iter().filter(|kind| wanted.is_of(*kind)) {
            each(shared, kind, wanted.after, &mut |message| {
                tally.take(wanted, &message);
                ControlFlow::Continue(())
            });
        }
        tally
    }
}

/// Looks at everything that is kept, off the threads that serve others, and one look at a time.
pub(super) async fn look_at_all(shared: &Arc<Shared>, wanted: &Match) -> Tally {
    let permit = Arc::clone(&shared.watchers.looks).acquire_owned().await;
    let (shared, wanted) = (Arc::clone(shared), wanted.clone());
    let look = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        Tally::of_all(&shared, &wanted)
    });
    look.await.unwrap_or_default()
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
