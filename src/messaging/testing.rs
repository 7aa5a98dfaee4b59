//! A world for the tests of messaging: stores in memory, an ACS that knows its idempotency ids, and death at any call.
//!
//! Every call of a port is a step. A world can be told to die at a step, before or after it has had its effect: from
//! then on nothing this replica does has any effect, as when the process is gone. Another replica shares stores and ACS.

pub(crate) mod chat;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use tokio_util::task::TaskTracker;

use super::ports::{
    ChannelError, Cursor, EmailSender, EventLog, EventPage, EventsRead, FairBudget, FairTake, Mail,
    MailProgress, MessageStore, MessageStores, OptOutChange, SmsAnswer, SmsBatch, SmsSender, Versioned,
};
use super::types::{Failure, MessageId, Number};
use super::{Messaging, Settings};
use crate::broker::error::Error;
use crate::broker::ports::{Limit, StoreError, Taken};
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::metrics::Metrics;

/// When worlds begin.
pub(crate) const START: Timestamp = Timestamp::from_millis(1_795_348_800_000);

#[derive(Default)]
struct Kept {
    messages: HashMap<String, Versioned>,
    /// Until when each of them counts for whoever inserts.
    until: HashMap<String, Timestamp>,
    links: HashMap<String, (MessageId, u32)>,
    due: BTreeMap<String, Timestamp>,
    events: Vec<(String, Vec<u8>)>,
    budget: Option<Duration>,
    paused: Vec<String>,
    /// What is taken of each budget.
    spent: BTreeMap<String, i64>,
}

/// What everybody shares: the store, ACS, and the time.
pub(crate) struct World {
    kept: Mutex<Kept>,
    /// What ACS sent: the recipient by repeatability id.
    pub(crate) sms: Mutex<HashMap<uuid::Uuid, String>>,
    /// How often ACS was asked to send SMS.
    pub(crate) sms_calls: AtomicUsize,
    /// What ACS sent: mails by operation.
    pub(crate) mails: Mutex<HashMap<uuid::Uuid, String>>,
    /// What ACS answers to the next calls, instead of doing what it should.
    pub(crate) script: Mutex<Vec<ChannelError>>,
    /// Whether a mail is still under way.
    pub(crate) mail_progress: Mutex<MailProgress>,
    /// The threads of ACS.
    pub(crate) chat: Mutex<chat::Threads>,
    pub(crate) clock: ManualClock,
}

impl World {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            kept: Mutex::default(),
            sms: Mutex::default(),
            sms_calls: AtomicUsize::new(0),
            mails: Mutex::default(),
            script: Mutex::default(),
            mail_progress: Mutex::new(MailProgress::Sent),
            chat: Mutex::default(),
            clock: ManualClock::at(START),
        })
    }

    /// Budgets are used up for this long.
    pub(crate) fn use_up_budgets(&self, time: Option<Duration>) {
        self.kept.lock().unwrap().budget = time;
    }

    /// What is taken of the budgets whose names begin so.
    pub(crate) fn spent(&self, beginning: &str) -> i64 {
        let kept = self.kept.lock().unwrap();
        kept.spent.iter().filter(|(name, _)| name.starts_with(beginning)).map(|(_, taken)| taken).sum()
    }

    /// The buckets that were paused.
    pub(crate) fn paused(&self) -> Vec<String> {
        self.kept.lock().unwrap().paused.clone()
    }

    /// Everything the store holds, as text.
    pub(crate) fn dump(&self) -> String {
        let kept = self.kept.lock().unwrap();
        let records =
            kept.messages.values().map(|record| String::from_utf8_lossy(&record.bytes).into_owned());
        records
            .chain(kept.events.iter().map(|(_, event)| String::from_utf8_lossy(event).into_owned()))
            .collect()
    }
}

impl Clock for World {
    fn now(&self) -> Timestamp {
        self.clock.now()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("World")
    }
}

/// When a replica dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Never,
    /// At this step, which has no effect any more.
    Before(usize),
    /// At this step, which has had its effect.
    After(usize),
}

/// One process: its view of the world, until it dies.
pub(crate) struct Replica {
    world: Arc<World>,
    death: Death,
    steps: AtomicUsize,
}

impl Replica {
    /// Messaging in a process of its own.
    pub(crate) fn start(world: &Arc<World>, settings: Settings, death: Death) -> (Messaging, Arc<Self>) {
        let replica = Arc::new(Self { world: Arc::clone(world), death, steps: AtomicUsize::new(0) });
        let stores = MessageStores {
            messages: Arc::clone(&replica) as Arc<dyn MessageStore>,
            events: Arc::clone(&replica) as Arc<dyn EventLog>,
            budgets: Arc::clone(&replica) as Arc<dyn FairBudget>,
        };
        let messaging = Messaging::new(
            settings,
            stores,
            Arc::clone(&replica) as Arc<dyn SmsSender>,
            Arc::clone(&replica) as Arc<dyn EmailSender>,
            Arc::clone(world) as Arc<dyn Clock>,
            Metrics::new(),
            TaskTracker::new(),
        );
        (messaging, replica)
    }

    /// How many calls it made of its ports.
    pub(crate) fn steps(&self) -> usize {
        self.steps.load(Ordering::SeqCst)
    }

    /// One step: the effect happens unless the process is dead; a dead process never gets an answer.
    async fn step<T>(&self, effect: impl FnOnce(&World) -> T) -> T {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let (acts, lives) = match self.death {
            Death::Never => (true, true),
            Death::Before(last) => (step < last, step < last),
            Death::After(last) => (step <= last, step < last),
        };
        let result = acts.then(|| effect(&self.world));
        match result {
            Some(result) if lives => result,
            _ => std::future::pending().await,
        }
    }
}

fn store<T>(value: T) -> Result<T, StoreError> {
    Ok(value)
}

#[async_trait]
impl MessageStore for Replica {
    async fn insert(
        &self,
        id: &MessageId,
        record: &[u8],
        keep: Duration,
    ) -> Result<Option<Versioned>, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            let now = world.clock.now();
            if kept.until.get(id.as_str()).is_some_and(|until| *until <= now) {
                kept.messages.remove(id.as_str());
            }
            let known = kept.messages.get(id.as_str()).cloned();
            if known.is_none() {
                let new = Versioned { version: 1, bytes: record.to_vec() };
                kept.messages.insert(id.as_str().to_owned(), new);
                kept.until.insert(id.as_str().to_owned(), now.plus(keep));
            }
            store(known)
        })
        .await
    }

    async fn get(&self, id: &MessageId) -> Result<Option<Versioned>, StoreError> {
        self.step(|world| store(world.kept.lock().unwrap().messages.get(id.as_str()).cloned())).await
    }

    async fn replace(
        &self,
        id: &MessageId,
        expected: u64,
        record: &[u8],
        keep: Duration,
    ) -> Result<Result<u64, Option<Versioned>>, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            if kept.messages.get(id.as_str()).is_some_and(|known| known.version == expected) {
                kept.until.insert(id.as_str().to_owned(), world.clock.now().plus(keep));
            }
            store(match kept.messages.get_mut(id.as_str()) {
                Some(known) if known.version == expected => {
                    *known = Versioned { version: expected + 1, bytes: record.to_vec() };
                    Ok(expected + 1)
                }
                other => Err(other.cloned()),
            })
        })
        .await
    }

    async fn remove(&self, id: &MessageId, expected: u64) -> Result<bool, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            let is_it = kept.messages.get(id.as_str()).is_some_and(|known| known.version == expected);
            store(is_it && kept.messages.remove(id.as_str()).is_some())
        })
        .await
    }

    async fn link(&self, upstream: &[(String, u32)], id: &MessageId, _: Duration) -> Result<(), StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            kept.links.extend(upstream.iter().map(|(key, part)| (key.clone(), (id.clone(), *part))));
            store(())
        })
        .await
    }

    async fn linked(&self, upstream: &str) -> Result<Option<(MessageId, u32)>, StoreError> {
        self.step(|world| store(world.kept.lock().unwrap().links.get(upstream).cloned())).await
    }

    async fn schedule(&self, id: &MessageId, due: Option<Timestamp>) -> Result<(), StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            match due {
                Some(due) => kept.due.insert(id.as_str().to_owned(), due),
                None => kept.due.remove(id.as_str()),
            };
            store(())
        })
        .await
    }

    async fn take_due(
        &self,
        now: Timestamp,
        hold: Duration,
        limit: usize,
    ) -> Result<Vec<MessageId>, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            let due = kept.due.iter_mut().filter(|(_, due)| **due <= now).take(limit);
            store(
                due.map(|(id, due)| {
                    *due = now.plus(hold);
                    MessageId::stored(id.clone())
                })
                .collect(),
            )
        })
        .await
    }
}

#[async_trait]
impl EventLog for Replica {
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        _: Duration,
        _: Duration,
    ) -> Result<Option<Cursor>, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            if kept.events.iter().any(|(known, _)| known == key) {
                return store(None);
            }
            kept.events.push((key.to_owned(), event.to_vec()));
            store(Some(Cursor(kept.events.len().to_string())))
        })
        .await
    }

    async fn end(&self) -> Result<Cursor, StoreError> {
        self.step(|world| store(Cursor(world.kept.lock().unwrap().events.len().to_string()))).await
    }

    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError> {
        self.step(|world| {
            let kept = world.kept.lock().unwrap();
            let Ok(after) = after.0.parse::<usize>() else { return store(EventsRead::Foreign) };
            if after > kept.events.len() {
                return store(EventsRead::Foreign);
            }
            let events = kept.events.iter().enumerate().skip(after).take(limit);
            let events = events.map(|(place, (_, event))| (Cursor((place + 1).to_string()), event.clone()));
            store(EventsRead::Page(EventPage { events: events.collect() }))
        })
        .await
    }
}

#[async_trait]
impl FairBudget for Replica {
    async fn take_fair(&self, bucket: &str, _: &str, _: &[Limit], cost: u32) -> Result<FairTake, StoreError> {
        self.step(|world| {
            let mut kept = world.kept.lock().unwrap();
            let taken = match kept.budget {
                None => {
                    *kept.spent.entry(bucket.to_owned()).or_default() += i64::from(cost);
                    Taken::Go { remaining: 10 }
                }
                Some(after) => Taken::ComeBack { after },
            };
            store(FairTake { taken, at: world.clock.now() })
        })
        .await
    }

    async fn give_back(
        &self,
        bucket: &str,
        _: &str,
        _: &[Limit],
        cost: u32,
        taken_at: Timestamp,
    ) -> Result<(), StoreError> {
        self.step(|world| {
            assert_eq!(taken_at, world.clock.now(), "the time that the store told");
            *world.kept.lock().unwrap().spent.entry(bucket.to_owned()).or_default() -= i64::from(cost);
            store(())
        })
        .await
    }

    async fn pause(&self, bucket: &str, _: Duration) -> Result<(), StoreError> {
        self.step(|world| {
            world.kept.lock().unwrap().paused.push(bucket.to_owned());
            store(())
        })
        .await
    }
}

#[async_trait]
impl SmsSender for Replica {
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError> {
        self.step(|world| {
            world.sms_calls.fetch_add(1, Ordering::SeqCst);
            let scripted = world.script.lock().unwrap().pop();
            if let Some(error) = &scripted
                && !matches!(error, ChannelError::Unknown { .. })
            {
                return Err(error.clone());
            }
            let mut sent = world.sms.lock().unwrap();
            let answers = batch.to.iter().map(|recipient| {
                // A number that ends in 9 is refused, one that ends in 8 may pass later.
                let refused = |may_pass| SmsAnswer::Refused {
                    failure: Failure { code: "400".into(), detail: "refused".into() },
                    may_pass,
                };
                match recipient.to.as_str().as_bytes().last() {
                    Some(b'9') => refused(false),
                    Some(b'8') => refused(true),
                    _ => {
                        let id = recipient.repeatability_id;
                        sent.entry(id).or_insert_with(|| recipient.to.as_str().to_owned());
                        SmsAnswer::Taken { message_id: format!("out-{id}") }
                    }
                }
            });
            let answers = answers.collect();
            // Done, and nobody hears of it.
            scripted.map_or(Ok(answers), Err)
        })
        .await
    }

    async fn opt_outs(
        &self,
        change: OptOutChange,
        _: &str,
        recipients: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error> {
        Ok(recipients.iter().map(|_| Ok(change == OptOutChange::Add)).collect())
    }
}

#[async_trait]
impl EmailSender for Replica {
    async fn send(&self, operation: uuid::Uuid, mail: &Mail) -> Result<MailProgress, ChannelError> {
        self.step(|world| {
            let scripted = world.script.lock().unwrap().pop();
            if let Some(error) = &scripted
                && !matches!(error, ChannelError::Unknown { .. })
            {
                return Err(error.clone());
            }
            world.mails.lock().unwrap().entry(operation).or_insert_with(|| mail.subject.clone());
            scripted.map_or(Ok(MailProgress::UnderWay(None)), Err)
        })
        .await
    }

    async fn status(&self, operation: uuid::Uuid) -> Result<Option<MailProgress>, ChannelError> {
        self.step(|world| {
            let known = world.mails.lock().unwrap().contains_key(&operation);
            Ok(known.then(|| world.mail_progress.lock().unwrap().clone()))
        })
        .await
    }
}
