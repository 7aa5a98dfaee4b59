//! Writes to the embedded store: one writer, whose batches share a transaction and with it an `fsync`.
//!
//! A caller queues its work and waits for the commit; a full queue refuses at once. A batch is durable if any work in
//! it must be; what need not be (tokens) is made durable within [`FLUSH_AFTER`]. After an I/O error the engine takes no
//! more writes, and neither does this. It must never acknowledge what is not committed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase};
use tokio::sync::oneshot;

use super::housekeeping;
use super::tables::{Tables, View};
use crate::broker::ports::StoreError;
use crate::clock::Clock;

/// Work waiting for the writer; more is refused.
const QUEUE: usize = 1024;
/// Work done in one transaction.
const BATCH: usize = 256;
/// How long a write that need not be durable may stay so.
const FLUSH_AFTER: Duration = Duration::from_secs(1);
/// How long a caller waits for its commit; a disk that hangs must not hang callers.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether a write must survive a crash once it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// It must: the mapping, the ledger.
    Durably,
    /// It may be lost: tokens.
    Relaxed,
}

/// Why work did not get done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The engine failed; the whole batch is undone.
    Engine(redb::Error),
    /// This work alone has no result, and has written nothing.
    Answer(StoreError),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Engine(error.into())
    }
}

#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum Refusal {
    #[error("the embedded store's write queue is full")]
    QueueFull,
    #[error("the embedded store stopped after an earlier error; restart the process")]
    Stopped,
    #[error("the embedded store's disk did not finish a write in time")]
    TooSlow,
    #[error("the embedded store holds as many entries as it may")]
    Full,
}

impl From<Refusal> for StoreError {
    fn from(refusal: Refusal) -> Self {
        Self::Unavailable(Arc::new(refusal))
    }
}

pub(super) fn engine_error(error: redb::Error) -> StoreError {
    match error {
        redb::Error::Corrupted(_) => StoreError::Corrupt(Arc::new(error)),
        other => StoreError::Unavailable(Arc::new(other)),
    }
}

/// Tells the caller how its work ended, once the fate of the batch is known.
type Reply = Box<dyn FnOnce(Result<(), StoreError>) + Send>;
/// Work on the tables; an error undoes the batch.
type Work = Box<dyn FnOnce(&mut Tables<'_>) -> Result<Reply, (redb::Error, Reply)> + Send>;

pub(super) struct Job {
    keep: Keep,
    work: Work,
}

/// What the writer and the readers share.
pub(super) struct Engine {
    /// Where readers read: what was committed last. Replaced after every commit, before anybody hears of it.
    view: RwLock<Arc<View>>,
    database: Database,
    clock: Arc<dyn Clock>,
    bounds: housekeeping::Bounds,
    stopped: AtomicBool,
}

impl Engine {
    pub(super) fn new(
        database: Database,
        clock: Arc<dyn Clock>,
        bounds: housekeeping::Bounds,
    ) -> Result<Self, redb::Error> {
        let view = RwLock::new(Arc::new(View::open(&database.begin_read()?)?));
        Ok(Self { view, database, clock, bounds, stopped: AtomicBool::new(false) })
    }

    /// What was committed last.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// Whether no write can succeed any more.
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    fn stop(&self, error: &redb::Error) {
        if !self.stopped.swap(true, Ordering::AcqRel) {
            tracing::error!(error = %error, "the embedded store failed and takes no more writes; restart the process");
        }
    }

    /// Does all the work in one transaction, and only then answers.
    fn commit(&self, batch: Vec<Job>, durability: Durability) {
        if self.is_stopped() {
            for job in batch {
                drop(job);
            }
            return;
        }
        let mut replies = Vec::with_capacity(batch.len());
        match self.write(batch, durability, &mut replies) {
            Ok(()) => replies.into_iter().for_each(|reply| reply(Ok(()))),
            Err(error) => {
                self.stop(&error);
                let error = engine_error(error);
                replies.into_iter().for_each(|reply| reply(Err(error.clone())));
            }
        }
    }

    fn write(
        &self,
        batch: Vec<Job>,
        durability: Durability,
        replies: &mut Vec<Reply>,
    ) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(durability)?;
        {
            let mut tables = Tables::open(&transaction)?;
            for job in batch {
                match (job.work)(&mut tables) {
                    Ok(reply) => replies.push(reply),
                    Err((error, reply)) => {
                        replies.push(reply);
                        return Err(error);
                    }
                }
            }
            housekeeping::drop_expired(&mut tables, self.clock.now(), self.bounds)?;
        }
        transaction.commit()?;
        let view = Arc::new(View::open(&self.database.begin_read()?)?);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = view;
        Ok(())
    }
}

/// The way to write.
pub(super) enum Writer {
    /// Each write is a transaction of its own, in the caller's task. For the store in memory: nothing there waits for
    /// a disk, and a test whose runtime jumps its clock whenever all tasks wait must not wait for a thread.
    Inline(Mutex<()>),
    /// A thread that commits in batches.
    Thread { queue: Option<SyncSender<Job>>, thread: Option<JoinHandle<()>> },
}

impl Writer {
    pub(super) fn inline() -> Self {
        Self::Inline(Mutex::new(()))
    }

    pub(super) fn thread(engine: &Arc<Engine>) -> std::io::Result<Self> {
        let (queue, jobs) = sync_channel(QUEUE);
        let engine = Arc::clone(engine);
        let thread =
            std::thread::Builder::new().name("store-writer".into()).spawn(move || run(&engine, &jobs))?;
        Ok(Self::Thread { queue: Some(queue), thread: Some(thread) })
    }

    /// Has `work` done in a transaction and waits until that is committed.
    pub(super) async fn write<R: Send + 'static>(
        &self,
        engine: &Engine,
        keep: Keep,
        work: impl FnOnce(&mut Tables<'_>) -> Result<R, Failure> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |tables| match work(tables) {
            Ok(result) => Ok(Box::new(move |fate| {
                // The caller may have gone; the work is done all the same.
                let _ = answer.send(fate.map(|()| result));
            })),
            Err(Failure::Answer(error)) => Ok(Box::new(move |_| {
                let _ = answer.send(Err(error));
            })),
            Err(Failure::Engine(error)) => Err((
                error,
                Box::new(move |fate: Result<(), StoreError>| {
                    let _ = answer.send(fate.and(Err(Refusal::Stopped.into())));
                }),
            )),
        });
        let job = Job { keep, work };
        match self {
            Self::Inline(one_at_a_time) => {
                let guard = one_at_a_time.lock().unwrap_or_else(PoisonError::into_inner);
                engine.commit(vec![job], Durability::Immediate);
                drop(guard);
                answered.await.unwrap_or_else(|_| Err(Refusal::Stopped.into()))
            }
            Self::Thread { queue, .. } => {
                let queue = queue.as_ref().ok_or(Refusal::Stopped)?;
                queue.try_send(job).map_err(|error| match error {
                    TrySendError::Full(_) => Refusal::QueueFull,
                    TrySendError::Disconnected(_) => Refusal::Stopped,
                })?;
                match tokio::time::timeout(PATIENCE, answered).await {
                    Ok(Ok(answer)) => answer,
                    Ok(Err(_)) => Err(Refusal::Stopped.into()),
                    Err(_) => Err(Refusal::TooSlow.into()),
                }
            }
        }
    }

    /// Whether there is nobody to write.
    pub(super) fn is_dead(&self) -> bool {
        match self {
            Self::Inline(_) => false,
            Self::Thread { thread, .. } => thread.as_ref().is_none_or(JoinHandle::is_finished),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Self::Thread { queue, thread } = self {
            // Without a sender the thread ends, after a last flush; then the file is closed and unlocked.
            drop(queue.take());
            if let Some(thread) = thread.take() {
                let _ = thread.join();
            }
        }
    }
}

fn run(engine: &Engine, jobs: &Receiver<Job>) {
    let mut flushed = Instant::now();
    let mut unflushed = false;
    loop {
        let first = if unflushed {
            match jobs.recv_timeout(FLUSH_AFTER.saturating_sub(flushed.elapsed())) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            }
        } else {
            match jobs.recv() {
                Ok(job) => Some(job),
                Err(_) => break,
            }
        };
        let batch: Vec<Job> = first.into_iter().chain(jobs.try_iter()).take(BATCH).collect();
        let durable = batch.is_empty()
            || batch.iter().any(|job| job.keep == Keep::Durably)
            || (unflushed && flushed.elapsed() >= FLUSH_AFTER);
        if !unflushed {
            // The time runs from the first write that waits for a flush.
            flushed = Instant::now();
        }
        unflushed = !durable;
        engine.commit(batch, if durable { Durability::Immediate } else { Durability::None });
    }
    if unflushed {
        engine.commit(Vec::new(), Durability::Immediate);
    }
}

#[cfg(test)]
impl Engine {
    /// Shows the tables as they are, and changes nothing.
    pub(super) fn with_tables(&self, look: impl FnOnce(&Tables<'_>)) {
        let transaction = self.database.begin_write().unwrap();
        look(&Tables::open(&transaction).unwrap());
        transaction.abort().unwrap();
    }

    /// Runs `meanwhile` while no write can be committed.
    pub(super) fn with_write_blocked(&self, meanwhile: impl FnOnce()) {
        let transaction = self.database.begin_write().unwrap();
        meanwhile();
        transaction.abort().unwrap();
    }
}
