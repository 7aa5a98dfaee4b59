//! Single flight: callers who want the same thing at the same time share one piece of work.
//!
//! The work runs in a task of its own, so it outlives the caller that started it; an owner's tracker waits for it at
//! shutdown. A flight ends before its result is seen: nobody joins work that is already done. It holds no result.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;

type Flight<V> = Shared<BoxFuture<'static, Option<V>>>;

/// The work under way, by key.
pub(super) struct Flights<K, V> {
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

/// A share in a piece of work.
pub(super) struct Joined<V> {
    flight: Flight<V>,
    /// Whether this call started it; if not, it may have begun any time before.
    pub(super) started_here: bool,
}

impl<V: Clone> Joined<V> {
    /// The result; none if the work panicked or the runtime ended.
    pub(super) async fn result(self) -> Option<V> {
        self.flight.await
    }
}

impl<K, V> Flights<K, V>
where
    K: Eq + Hash + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(super) fn new() -> Self {
        Self { under_way: Arc::new(Mutex::new(HashMap::new())) }
    }

    /// Joins the work for `key`, starting it if nobody is at it.
    pub(super) fn join<F>(&self, key: K, tasks: &TaskTracker, work: impl FnOnce() -> F) -> Joined<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        match under_way.entry(key) {
            Entry::Occupied(entry) => Joined { flight: entry.get().clone(), started_here: false },
            Entry::Vacant(entry) => {
                let landing = Landing { key: entry.key().clone(), under_way: Arc::clone(&self.under_way) };
                let work = work();
                let task = tasks.spawn(async move {
                    // Dropped before the value is returned, and also if the work panics.
                    let _landing = landing;
                    work.await
                });
                let flight = async move { task.await.ok() }.boxed().shared();
                entry.insert(flight.clone());
                Joined { flight, started_here: true }
            }
        }
    }
}

struct Landing<K: Eq + Hash, V> {
    key: K,
    under_way: Arc<Mutex<HashMap<K, Flight<V>>>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_thousand_callers_share_one_piece_of_work() {
        let (flights, tasks) = (Flights::<u8, u32>::new(), TaskTracker::new());
        let (runs, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        let joined: Vec<_> = (0..1000)
            .map(|_| {
                let (runs, gate) = (Arc::clone(&runs), Arc::clone(&gate));
                flights.join(1, &tasks, || async move {
                    gate.notified().await;
                    runs.fetch_add(1, Ordering::SeqCst) + 1
                })
            })
            .collect();
        assert_eq!(joined.iter().filter(|joined| joined.started_here).count(), 1);
        gate.notify_one();
        for share in joined {
            assert_eq!(share.result().await, Some(1));
        }
        assert!(flights.under_way.lock().unwrap().is_empty());
    }

    #[tokio::test]
    async fn the_work_outlives_the_caller_that_started_it() {
        let (flights, tasks) = (Flights::<u8, u8>::new(), TaskTracker::new());
        let gate = Arc::new(Notify::new());
        let inner = Arc::clone(&gate);
        drop(flights.join(1, &tasks, || async move {
            inner.notified().await;
            7
        }));
        let share = flights.join(1, &tasks, || async { 9 });
        assert!(!share.started_here);
        gate.notify_one();
        assert_eq!(share.result().await, Some(7));
    }

    #[tokio::test]
    async fn a_panic_answers_none_and_frees_the_key() {
        let (flights, tasks) = (Flights::<u8, u8>::new(), TaskTracker::new());
        assert_eq!(flights.join(1, &tasks, || async { panic!("on purpose") }).result().await, None);
        assert_eq!(flights.join(1, &tasks, || async { 1 }).result().await, Some(1));
    }

    #[tokio::test]
    async fn nobody_joins_work_that_is_done() {
        let (flights, tasks) = (Flights::<u8, u8>::new(), TaskTracker::new());
        assert_eq!(flights.join(1, &tasks, || async { 1 }).result().await, Some(1));
        assert!(flights.join(1, &tasks, || async { 2 }).started_here);
    }
}
