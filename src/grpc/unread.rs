//! Answers that lie here because their caller does not take them: how long, and how much of memory they hold.
//!
//! HTTP/2 lets a caller ask and give no room for the answer. What hyper holds then it holds for ever: it asks a body for
//! nothing more, so no body can end itself. Here is counted what lies, for a connection by age and for all of them by
//! weight; `answer` tells what lies, `guests` looks at the ages. It knows bytes alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::task::AtomicWaker;

/// How long an answer, or the next piece of a large one, may lie.
pub(super) const TAKEN_WITHIN: Duration = Duration::from_secs(30);

/// How often an answer that is followed is looked at.
const STEPS: u32 = 8;

/// The ages that are told apart: what has become the oldest has lain for [`TAKEN_WITHIN`].
const AGES: usize = 32;
const AGE: Duration = Duration::from_secs(1);

/// How old an answer may become while too many lie, and how many those are, of all connections. Each holds some 10 KiB.
const HURRIED: usize = 3;
const MOST_SMALL: usize = 4096;

/// How many calls of a connection, at work or lying, go on however many answers of others lie.
const FEW: u64 = 16;

/// How many may lie of a connection on which nobody is known. Of all that may be here this is a quarter of what there is
/// room for, so strangers cost nobody an answer.
const FEW_OF_A_STRANGER: u32 = 8;

/// What all large answers together may weigh. The buffer of one may be twice as large.
const MOST_OF_ALL: usize = 32 * 1024 * 1024;

/// The small answers of a connection that lie, by when they began to.
pub(super) struct Ages {
    counts: [AtomicU32; AGES],
    now: AtomicUsize,
    /// When the last age began, in milliseconds since the connection did.
    began: AtomicU64,
    shelf: Arc<Shelf>,
}

impl Ages {
    /// Of a connection whose answers lie there.
    pub(super) fn new(shelf: Arc<Shelf>) -> Self {
        let counts = std::array::from_fn(|_| AtomicU32::new(0));
        Self { counts, now: AtomicUsize::new(0), began: AtomicU64::new(0), shelf }
    }

    fn count(&self, age: usize) -> Option<&AtomicU32> {
        self.counts.get(age % AGES)
    }

    /// One more lies; what is returned is to be told when it does no longer.
    pub(super) fn lies(&self) -> usize {
        let age = self.now.load(Ordering::Relaxed);
        if let Some(count) = self.count(age) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.shelf.small.fetch_add(1, Ordering::Relaxed);
        age
    }

    /// One that began to lie in that age does no longer.
    pub(super) fn taken(&self, age: usize) {
        if let Some(count) = self.count(age) {
            count.fetch_sub(1, Ordering::Relaxed);
        }
        self.shelf.small.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether so many lie, of all connections, that this one, with so many calls that are not over, may make no more.
    pub(super) fn is_crowded(&self, calls: u64) -> bool {
        calls > FEW && self.shelf.is_full()
    }

    /// Whether so many lie as may on a connection on which nobody is known.
    pub(super) fn is_enough_for_a_stranger(&self) -> bool {
        let all: u32 = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        all >= FEW_OF_A_STRANGER
    }

    /// So long after the connection began: whether one has lain for too long. To be asked by one only, often.
    pub(super) fn too_old(&self, at: Duration) -> bool {
        let at = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let since = Duration::from_millis(at.saturating_sub(self.began.load(Ordering::Relaxed)));
        if since < AGE {
            return false;
        }
        self.began.store(at, Ordering::Relaxed);
        let next = (self.now.load(Ordering::Relaxed) + 1) % AGES;
        self.now.store(next, Ordering::Relaxed);
        // Where there is room, what is the oldest lies in the place that comes now.
        let allowed = if self.shelf.hurries() { HURRIED } else { AGES };
        (next..=next + AGES - allowed)
            .any(|age| self.count(age).is_some_and(|count| count.load(Ordering::Relaxed) > 0))
    }
}

/// Where the answers of all connections lie.
#[derive(Default)]
pub(super) struct Shelf {
    /// How many small ones.
    small: AtomicUsize,
    /// What all large ones weigh.
    large: AtomicUsize,
}

impl Shelf {
    /// Whether so many small answers lie that whoever leaves them lying may make no more.
    pub(super) fn is_full(&self) -> bool {
        self.small.load(Ordering::Relaxed) >= MOST_SMALL
    }

    /// Whether so many lie that they have to be taken soon.
    fn hurries(&self) -> bool {
        self.small.load(Ordering::Relaxed) >= MOST_SMALL / 2
    }
}

/// What one connection has on it.
#[derive(Default)]
pub(super) struct Share(AtomicUsize);

/// Room on a shelf that is taken, until it is dropped.
pub(super) struct Weight {
    shelf: Arc<Shelf>,
    share: Arc<Share>,
    bytes: usize,
}

impl Weight {
    /// Takes room for so much.
    pub(super) fn take(shelf: &Arc<Shelf>, share: &Arc<Share>, bytes: usize) -> Self {
        shelf.large.fetch_add(bytes, Ordering::Relaxed);
        share.0.fetch_add(bytes, Ordering::Relaxed);
        Self { shelf: Arc::clone(shelf), share: Arc::clone(share), bytes }
    }

    /// Whether there is that room: a connection may have as much as it leaves to others.
    pub(super) fn fits(&self) -> bool {
        let (all, own) = (self.shelf.large.load(Ordering::Relaxed), self.share.0.load(Ordering::Relaxed));
        all.saturating_add(own) <= MOST_OF_ALL
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.shelf.large.fetch_sub(self.bytes, Ordering::Relaxed);
        self.share.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How far an answer has come that is given in pieces.
#[derive(Default)]
pub(super) struct Progress {
    given: AtomicU32,
    taken: AtomicU32,
    waiting: AtomicWaker,
}

impl Progress {
    /// A piece is given.
    pub(super) fn gives(&self) {
        self.given.fetch_add(1, Ordering::Relaxed);
    }

    /// A piece is taken.
    pub(super) fn takes(&self) {
        self.taken.fetch_add(1, Ordering::Release);
        self.waiting.wake();
    }

    fn is_all_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire) == self.given.load(Ordering::Relaxed)
    }

    /// Waits until every piece is taken.
    pub(super) fn poll_all_taken(&self, cx: &std::task::Context<'_>) -> std::task::Poll<()> {
        self.waiting.register(cx.waker());
        if self.is_all_taken() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    }

    /// Waits until a piece has lain for too long.
    pub(super) async fn stands_still(&self) {
        let (mut taken, mut steps) = (0, 0);
        // One step more, for it may have been given just before the first.
        while steps <= STEPS {
            tokio::time::sleep(TAKEN_WITHIN / STEPS).await;
            let now = self.taken.load(Ordering::Relaxed);
            steps = if now != taken || self.is_all_taken() { 0 } else { steps + 1 };
            taken = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[test]
    fn what_lies_is_too_old_after_thirty_seconds() {
        for begins in 0..70 {
            let ages = Ages::new(Arc::default());
            let at = |second: u64| ages.too_old(Duration::from_secs(second));
            assert!((0..begins).all(|second| !at(second)));
            let age = ages.lies();
            let end = (begins..200).find(|second| at(*second)).unwrap();
            assert!((begins + 30..=begins + 33).contains(&end), "from {begins} to {end}");
            ages.taken(age);
            assert!((end..end + 100).all(|second| !at(second)));
        }
    }

    #[test]
    fn many_that_are_taken_in_time_hide_none_that_is_not() {
        let ages = Ages::new(Arc::default());
        let _lies = ages.lies();
        let mut taken = ages.lies();
        let end = (0..100).find(|second| {
            ages.taken(taken);
            taken = ages.lies();
            ages.too_old(Duration::from_secs(*second))
        });
        assert!((30..=33).contains(&end.unwrap()));
    }

    #[test]
    fn where_many_lie_nobody_may_let_them_lie_for_long() {
        let shelf = Arc::new(Shelf::default());
        let (hoards, busy) = (Ages::new(Arc::clone(&shelf)), Ages::new(Arc::clone(&shelf)));
        let lying: Vec<_> = (0..MOST_SMALL).map(|_| hoards.lies()).collect();
        assert!(shelf.is_full());
        assert!(hoards.is_crowded(FEW + 1) && busy.is_crowded(FEW + 1));
        assert!(!busy.is_crowded(FEW), "whoever has few calls goes on");
        let mut taken = busy.lies();
        let end = (1..100).find(|second| {
            busy.taken(taken);
            assert!(!busy.too_old(Duration::from_secs(*second)), "it takes what it asks for");
            taken = busy.lies();
            hoards.too_old(Duration::from_secs(*second))
        });
        assert!((2..=4).contains(&end.unwrap()), "{end:?}");
        busy.taken(taken);
        lying.into_iter().for_each(|age| hoards.taken(age));
        assert!(!hoards.is_crowded(1000), "there is room again");
        assert_eq!(shelf.small.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn nobody_takes_more_than_is_left_for_others_and_all_comes_back() {
        const MIB: usize = 1024 * 1024;
        let shelf = Arc::new(Shelf::default());
        let fill = || {
            let share = Arc::default();
            std::iter::from_fn(|| Some(Weight::take(&shelf, &share, MIB)).filter(Weight::fits))
                .collect::<Vec<_>>()
        };
        let shares: Vec<_> = (0..5).map(|_| fill()).collect();
        assert_eq!(shares.iter().map(Vec::len).collect::<Vec<_>>(), [16, 8, 4, 2, 1]);
        assert!(shelf.large.load(Ordering::Relaxed) <= MOST_OF_ALL);
        drop(shares);
        assert_eq!(shelf.large.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_piece_that_lies_is_waited_for_as_long_and_one_that_is_taken_gives_time_again() {
        let progress = Progress::default();
        let still = progress.stands_still();
        tokio::pin!(still);
        assert!(timeout(TAKEN_WITHIN * 100, &mut still).await.is_err(), "nothing lies");
        for _ in 0..20 {
            progress.gives();
            assert!(timeout(TAKEN_WITHIN - Duration::from_secs(1), &mut still).await.is_err());
            progress.takes();
        }
        progress.gives();
        let began = Instant::now();
        still.await;
        assert!((TAKEN_WITHIN..=TAKEN_WITHIN + TAKEN_WITHIN / STEPS * 2).contains(&began.elapsed()));
    }
}
