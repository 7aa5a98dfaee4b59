//! A shelf: what a service keeps, found by id and in order of arrival, within bounds of count, age and bytes.
//!
//! Beyond a bound the oldest goes first; what went is as if it had never been. The newest always stays, however large
//! it is, so that nothing vanishes between being accepted and being looked at. It knows no clock: whoever calls says
//! what time it is. Used by `sms` and `email`.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::mailbox::Bounds;
use crate::clock::Timestamp;

/// What an item costs beside what the caller says, roughly: its entries here and the allocator's share.
const OVERHEAD: usize = 256;

struct Item<T> {
    id: Arc<str>,
    at: Timestamp,
    bytes: usize,
    value: T,
}

/// What is kept, oldest to newest.
pub(super) struct Shelf<T> {
    bounds: Bounds,
    items: BTreeMap<u64, Item<T>>,
    numbers: HashMap<Arc<str>, u64>,
    next: u64,
    bytes: usize,
}

impl<T> Shelf<T> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, items: BTreeMap::new(), numbers: HashMap::new(), next: 0, bytes: 0 }
    }

    /// Puts an item on the shelf as its newest, instead of one of the same id. `bytes` is what the value holds.
    pub(super) fn put(&mut self, id: &str, at: Timestamp, bytes: usize, value: T) {
        self.remove(id);
        self.expire(at);
        let id: Arc<str> = id.into();
        let bytes = bytes.saturating_add(id.len()).saturating_add(size_of::<T>()).saturating_add(OVERHEAD);
        let number = self.next;
        self.next = number.saturating_add(1);
        self.bytes = self.bytes.saturating_add(bytes);
        self.numbers.insert(Arc::clone(&id), number);
        self.items.insert(number, Item { id, at, bytes, value });
        while self.items.len() > 1 && (self.items.len() > self.bounds.count || self.bytes > self.bounds.bytes)
        {
            self.pop_oldest();
        }
    }

    /// Lets go of what is too old at `now`.
    pub(super) fn expire(&mut self, now: Timestamp) {
        while self.goes_at().is_some_and(|due| due <= now) {
            self.pop_oldest();
        }
    }

    /// When the oldest item becomes too old.
    pub(super) fn goes_at(&self) -> Option<Timestamp> {
        self.items.first_key_value().map(|(_, item)| item.at.plus(self.bounds.age))
    }

    pub(super) fn get(&self, id: &str) -> Option<&T> {
        self.items.get(self.numbers.get(id)?).map(|item| &item.value)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut T> {
        self.items.get_mut(self.numbers.get(id)?).map(|item| &mut item.value)
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<T> {
        let number = self.numbers.remove(id)?;
        let item = self.items.remove(&number)?;
        self.bytes = self.bytes.saturating_sub(item.bytes);
        Some(item.value)
    }

    /// The ids and items, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (&str, &T)> {
        self.items.values().rev().map(|item| (&*item.id, &item.value))
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn clear(&mut self) {
        self.items.clear();
        self.numbers.clear();
        self.bytes = 0;
    }

    fn pop_oldest(&mut self) {
        if let Some((_, item)) = self.items.pop_first() {
            self.numbers.remove(&item.id);
            self.bytes = self.bytes.saturating_sub(item.bytes);
        }
    }
}

#[cfg(test)]
#[path = "shelf_tests.rs"]
mod tests;
