//! Who is connected: how many, from where, since when; and who has to leave.
//!
//! A connection is a stranger until its client's certificate is verified or a call of it was admitted and its message is
//! whole; it may come from anybody. When too many of them are here, the one that has been one longest goes, if it has had
//! its time. An honest one takes milliseconds. The time grows with each that becomes known and shrinks with each that had
//! it for nothing: a flood of silent ones keeps nobody waiting, and a crowd of honest ones waits its turn. Connections are asked to leave when they are too old, idle for too long, or when the client
//! certificate they came with is no longer good; from then on it proves nothing. It knows no HTTP.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::tls::Chain;
use super::unread::{Ages, Share, Shelf, Weight};
use crate::metrics::Metrics;

/// Strangers that are here at the same time. One that has begun HTTP/2 over TLS costs some 40 KiB.
pub(super) const MAX_STRANGERS: usize = 128;

/// The time that everybody gets to be no stranger any more, however many there are: at first, and at the least.
const GRACE: Duration = Duration::from_millis(250);
const LEAST_GRACE: Duration = Duration::from_millis(25);

/// What part of that time a stranger who is asked to leave may take for it; a call that it has under way by then is
/// served. It is less than half, so fewer leave at a time than are here.
const FAREWELL: f64 = 0.4;

/// How many turns of all tasks are added to both: where processors are short, it is not the stranger who is late.
const TURNS: u32 = 8;

/// The longest that a turn counts.
const LONGEST_TURN: Duration = Duration::from_millis(500);

/// How long anybody who is asked to leave may stay without a call. HTTP/2 alone would wait for ever for a peer that
/// answers its pings and not its farewell.
const LINGERING: Duration = Duration::from_secs(60);

/// What the settings say about guests. No age and no idle time mean for ever.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stay {
    /// Connections of one address.
    pub(super) most_per_peer: usize,
    /// How long one may stay, more or less a tenth.
    pub(super) age: Option<Duration>,
    /// How long one may stay without a call.
    pub(super) idle: Option<Duration>,
}

/// Everybody who is connected to one listener.
pub(super) struct Guests {
    stay: Stay,
    metrics: Metrics,
    shutdown: CancellationToken,
    list: Mutex<List>,
    /// How long a turn of all tasks takes, in microseconds.
    turn: AtomicU64,
    /// Told when there is a stranger less.
    fewer: Notify,
    shelf: Arc<Shelf>,
}

#[derive(Default)]
struct List {
    next: u64,
    open: BTreeMap<u64, Arc<Guest>>,
    /// The numbers of those that are strangers and not asked to leave, oldest first.
    strangers: BTreeSet<u64>,
    peers: HashMap<IpAddr, usize>,
    grace: Grace,
}

/// The time that strangers get.
#[derive(Debug, Clone, Copy)]
struct Grace(Duration);

impl Default for Grace {
    fn default() -> Self {
        Self(GRACE)
    }
}

impl Grace {
    /// Somebody had it for nothing. A room full of such makes it the least; a few in an honest crowd do not.
    fn shrink(&mut self) {
        self.0 = (self.0 * 31 / 32).max(LEAST_GRACE);
    }

    /// Somebody became known in it, or did not need it because there was room.
    fn grow(&mut self) {
        self.0 += (GRACE - self.0) / 4;
    }
}

/// One connection.
pub(super) struct Guest {
    guests: Weak<Guests>,
    number: u64,
    leave: CancellationToken,
    /// Whether it had to go because too many strangers were here.
    crowded_out: AtomicBool,
    known: AtomicBool,
    since: Instant,
    ends: Option<Instant>,
    began: AtomicU64,
    ended: AtomicU64,
    /// How many calls had begun when it was last looked at, and since when there has been none.
    quiet: Mutex<(u64, Instant)>,
    chain: OnceLock<Chain>,
    distrusted: AtomicBool,
    /// Small answers that nobody has taken, and room for large ones.
    ages: Ages,
    share: Arc<Share>,
    /// Told when it has to end at once.
    cut: Notify,
}

/// A connection's place among the guests; free again when dropped.
pub(super) struct Place {
    guests: Arc<Guests>,
    guest: Arc<Guest>,
    peer: IpAddr,
}

/// A call that runs on a connection.
pub(super) struct Running(Arc<Guest>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What counts as one address: an IPv6 host has a whole network to choose from.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)))
        }
        other => other,
    }
}

impl Guests {
    pub(super) fn new(stay: Stay, metrics: Metrics, shutdown: CancellationToken) -> Arc<Self> {
        Arc::new(Self {
            stay,
            metrics,
            shutdown,
            list: Mutex::default(),
            turn: AtomicU64::new(0),
            fewer: Notify::new(),
            shelf: Arc::default(),
        })
    }

    /// A turn of all tasks took so long. The longest of late counts.
    fn turn_took(&self, time: Duration) {
        let time = u64::try_from(time.min(LONGEST_TURN).as_micros()).unwrap_or_default();
        let before = self.turn.load(Ordering::Relaxed);
        self.turn.store(time.max(before - before / 16), Ordering::Relaxed);
    }

    /// This time and what the broker itself may be late by.
    fn lenient(&self, time: Duration) -> Duration {
        time + Duration::from_micros(self.turn.load(Ordering::Relaxed)) * TURNS
    }

    /// Waits until there is room for a stranger: until one is none any more, or has had time enough and is sent away.
    pub(super) async fn room(&self) {
        while self.is_full() {
            // Everybody who can go on does so before the accepting task is asked again.
            let began = Instant::now();
            tokio::task::yield_now().await;
            self.turn_took(began.elapsed());
            let Err(oldest_ends) = self.make_room() else { return };
            tokio::select! {
                () = self.fewer.notified() => {}
                () = tokio::time::sleep_until(oldest_ends) => {}
            }
        }
    }

    fn is_full(&self) -> bool {
        let mut list = lock(&self.list);
        if list.strangers.len() < MAX_STRANGERS / 2 {
            list.grace.grow();
        }
        list.strangers.len() >= MAX_STRANGERS
    }

    /// Asks the oldest of too many strangers to leave; if it has not had its time, the error says when it has.
    fn make_room(&self) -> Result<(), Instant> {
        let mut list = lock(&self.list);
        if list.strangers.len() < MAX_STRANGERS {
            return Ok(());
        }
        let grace = self.lenient(list.grace.0);
        let Some(oldest) = list.strangers.pop_first() else { return Ok(()) };
        let Some(guest) = list.open.get(&oldest) else { return Ok(()) };
        if guest.since.elapsed() < grace {
            let ends = guest.since + grace;
            list.strangers.insert(oldest);
            return Err(ends);
        }
        guest.crowded_out.store(true, Ordering::Relaxed);
        self.ask_to_leave(guest, "crowded_out");
        list.grace.shrink();
        Ok(())
    }

    /// How long a stranger that was asked to leave may take for it.
    fn farewell(&self) -> Duration {
        let grace = lock(&self.list).grace.0;
        self.lenient(grace.mul_f64(FAREWELL))
    }

    /// A place for a connection from there; none if that address has enough.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let peer = neighbourhood(address);
        let mut list = lock(&self.list);
        let here = list.peers.entry(peer).or_default();
        if *here >= self.stay.most_per_peer {
            self.metrics.connection_ended("peer_limit");
            return None;
        }
        *here += 1;
        let number = list.next;
        list.next += 1;
        let now = Instant::now();
        let guest = Arc::new(Guest {
            guests: Arc::downgrade(self),
            number,
            leave: self.shutdown.child_token(),
            crowded_out: AtomicBool::new(false),
            known: AtomicBool::new(false),
            since: now,
            ends: self.stay.age.map(|age| now + age.mul_f64(rand::random_range(0.9..1.1))),
            began: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            quiet: Mutex::new((0, now)),
            chain: OnceLock::new(),
            distrusted: AtomicBool::new(false),
            ages: Ages::new(Arc::clone(&self.shelf)),
            share: Arc::default(),
            cut: Notify::new(),
        });
        list.open.insert(number, Arc::clone(&guest));
        list.strangers.insert(number);
        self.metrics.connection_opened();
        Some(Place { guests: Arc::clone(self), guest, peer })
    }

    /// Asks whoever has been here for too long to leave; with `trusts` also whoever it does not trust any more.
    pub(super) async fn look(&self, trusts: Option<&(dyn Fn(&Chain) -> bool + Send + Sync)>) {
        let open: Vec<_> = lock(&self.list).open.values().cloned().collect();
        let now = Instant::now();
        for (count, guest) in open.iter().enumerate() {
            // A certificate takes a tenth of a millisecond; others want their turn too.
            if count % 32 == 31 {
                tokio::task::yield_now().await;
            }
            if guest.ages.too_old(now.saturating_duration_since(guest.since)) {
                // A farewell would lie behind what it does not take.
                self.metrics.connection_ended("unread");
                guest.cut.notify_one();
                continue;
            }
            if guest.leave.is_cancelled() && guest.chain.get().is_none() {
                continue;
            }
            let doubted = trusts.zip(guest.chain.get()).is_some_and(|(trusts, chain)| !trusts(chain));
            if doubted && !guest.distrusted.swap(true, Ordering::Relaxed) {
                self.ask_to_leave(guest, "certificate");
            } else if guest.ends.is_some_and(|ends| ends <= now) {
                self.ask_to_leave(guest, "age");
            } else if self.stay.idle.is_some_and(|idle| guest.quiet_for(now) >= idle) {
                self.ask_to_leave(guest, "idle");
            }
        }
    }

    fn ask_to_leave(&self, guest: &Guest, why: &'static str) {
        if !guest.leave.is_cancelled() {
            self.metrics.connection_ended(why);
            tracing::debug!(why, after = ?guest.since.elapsed(), "a connection is asked to leave");
            guest.leave.cancel();
        }
    }

    /// Says why a connection ended before its time.
    pub(super) fn note(&self, why: &'static str) {
        self.metrics.connection_ended(why);
    }
}

impl Guest {
    fn quiet_for(&self, now: Instant) -> Duration {
        let began = self.began.load(Ordering::Relaxed);
        let running = began != self.ended.load(Ordering::Relaxed);
        let mut quiet = lock(&self.quiet);
        if running || quiet.0 != began {
            *quiet = (began, now);
        }
        now.saturating_duration_since(quiet.1)
    }

    /// Who this is is known from now on, and nothing that strangers do concerns it.
    pub(super) fn becomes_known(&self) {
        if !self.known.swap(true, Ordering::Relaxed)
            && let Some(guests) = self.guests.upgrade()
        {
            let mut list = lock(&guests.list);
            list.strangers.remove(&self.number);
            list.grace.grow();
            drop(list);
            guests.fewer.notify_one();
        }
    }

    pub(super) fn is_known(&self) -> bool {
        self.known.load(Ordering::Relaxed)
    }

    /// Whether this answer is one too many that a stranger leaves lying.
    pub(super) fn may_leave_no_more_lying(&self) -> bool {
        !self.is_known() && self.ages.is_enough_for_a_stranger()
    }

    /// What of small answers lies here.
    pub(super) fn ages(&self) -> &Ages {
        &self.ages
    }

    /// Whether so many answers lie, of all guests, that no call of this one, which has its part in it, may make more.
    pub(super) fn is_crowded(&self) -> bool {
        let began = self.began.load(Ordering::Relaxed);
        self.ages.is_crowded(began.saturating_sub(self.ended.load(Ordering::Relaxed)))
    }

    /// What a large answer here weighs; nothing if nobody is left to weigh it.
    pub(super) fn weigh(&self, bytes: usize) -> Option<Weight> {
        Some(Weight::take(&self.guests.upgrade()?.shelf, &self.share, bytes))
    }

    /// An answer ends before it was taken.
    pub(super) fn gives_up(&self, why: &'static str) {
        if let Some(guests) = self.guests.upgrade() {
            guests.metrics.answer_given_up(why);
        }
    }

    /// A call that had been answered ends with an error all the same.
    pub(super) fn failed(&self, reason: &'static str) {
        if let Some(guests) = self.guests.upgrade() {
            guests.metrics.error(reason);
        }
    }

    /// Waits until the connection has to end at once.
    pub(super) async fn is_cut(&self) {
        self.cut.notified().await;
    }

    /// Cancelled when the connection has to end.
    pub(super) fn leave(&self) -> &CancellationToken {
        &self.leave
    }

    /// Whether its certificate is no longer good.
    pub(super) fn is_distrusted(&self) -> bool {
        self.distrusted.load(Ordering::Relaxed)
    }

    /// Waits until somebody who was asked to leave has had time enough: whoever is distrusted `for_distrusted`, a stranger
    /// who had to make room a moment, others until no call runs on it any more, and then some.
    pub(super) async fn overstays(&self, for_distrusted: Duration) {
        let asked = Instant::now();
        loop {
            if self.is_distrusted() {
                return tokio::time::sleep(for_distrusted).await;
            }
            let has_to_go = self.crowded_out.load(Ordering::Relaxed) && !self.is_known();
            let farewell = self.guests.upgrade().map_or(Duration::ZERO, |guests| guests.farewell());
            tokio::time::sleep(if has_to_go { farewell } else { Duration::from_secs(1) }).await;
            let stays_silent = self.quiet_for(Instant::now()).min(asked.elapsed()) >= LINGERING;
            if stays_silent || (has_to_go && !self.is_known()) {
                return;
            }
        }
    }

    /// A call begins; it runs until what is returned is dropped.
    pub(super) fn call(self: &Arc<Self>) -> Running {
        self.began.fetch_add(1, Ordering::Relaxed);
        Running(Arc::clone(self))
    }
}

impl Running {
    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.0
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.ended.fetch_add(1, Ordering::Relaxed);
    }
}

impl Place {
    pub(super) fn guest(&self) -> &Arc<Guest> {
        &self.guest
    }

    /// The connection has begun, with this certificate if any. Who has one that is good is no stranger.
    pub(super) fn begun(&self, chain: Option<Chain>) {
        if let Some(chain) = chain {
            // Set once, for a connection begins once.
            let _ = self.guest.chain.set(chain);
            self.guest.becomes_known();
        }
    }

    /// Says why it ended before its time.
    pub(super) fn note(&self, why: &'static str) {
        self.guests.note(why);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut list = lock(&self.guests.list);
        list.open.remove(&self.guest.number);
        list.strangers.remove(&self.guest.number);
        if let Some(here) = list.peers.get_mut(&self.peer) {
            *here -= 1;
            if *here == 0 {
                list.peers.remove(&self.peer);
            }
        }
        drop(list);
        self.guests.fewer.notify_one();
        self.guests.metrics.connection_closed();
    }
}

#[cfg(test)]
#[path = "guests_tests.rs"]
mod tests;
