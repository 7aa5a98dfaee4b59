//! Ports of messaging as the test says: a store in a few maps, and channels of ACS that answer, refuse, hang or fail.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use acs_broker::broker::error::Error;
use acs_broker::broker::ports::{Limit, StoreError, Taken};
use acs_broker::clock::{SystemClock, Timestamp};
use acs_broker::messaging::ports::*;
use acs_broker::messaging::types::{Failure, MessageId, Number};
use acs_broker::messaging::{EmailSettings, Messaging, Settings, SmsSettings};
use acs_broker::metrics::Metrics;
use async_trait::async_trait;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub const SENDER: &str = "+18005550100";
pub const MAIL_SENDER: &str = "noreply@contoso.com";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[derive(Default)]
struct Kept {
    messages: HashMap<String, Versioned>,
    links: HashMap<String, (MessageId, u32)>,
    due: HashMap<String, Timestamp>,
    events: Vec<(String, Vec<u8>)>,
}

/// Store and channels in one.
#[derive(Default)]
pub struct World {
    kept: Mutex<Kept>,
    /// What the next call of a channel comes to, instead of what it should.
    pub next: Mutex<Option<ChannelError>>,
    /// What every budget says.
    pub used_up_for: Mutex<Option<Duration>>,
    /// Whether the store answers.
    pub store_is_down: Mutex<bool>,
    /// Events up to here are no longer kept.
    pub forgotten: AtomicUsize,
    /// What went out, recipient by recipient, under its repeatability id.
    pub sms: Mutex<HashMap<Uuid, (String, SmsBatch)>>,
    /// What went out, under its operation.
    pub mails: Mutex<HashMap<Uuid, Mail>>,
    /// How far mails have come.
    pub progress: Mutex<Option<MailProgress>>,
}

/// Senders for both channels.
pub fn settings() -> Settings {
    let sms = SmsSettings { senders: format!("{SENDER},50505"), ..Settings::default().sms };
    let email = EmailSettings { senders: MAIL_SENDER.into(), ..Settings::default().email };
    Settings { sms, email, ..Settings::default() }
}

impl World {
    pub fn messaging(self: &Arc<Self>, settings: Settings) -> Messaging {
        let stores = MessageStores { messages: self.clone(), events: self.clone(), budgets: self.clone() };
        let (clock, tasks) = (Arc::new(SystemClock), TaskTracker::new());
        Messaging::new(settings, stores, self.clone(), self.clone(), clock, Metrics::new(), tasks)
    }

    /// How many SMS and mails went out.
    pub fn sent(&self) -> usize {
        lock(&self.sms).len() + lock(&self.mails).len()
    }

    fn store<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> Result<T, StoreError> {
        if *lock(&self.store_is_down) {
            return Err(StoreError::Unavailable(Arc::new(std::io::Error::other("for the log"))));
        }
        Ok(work(&mut lock(&self.kept)))
    }
}

#[async_trait]
impl MessageStore for World {
    async fn insert(
        &self,
        id: &MessageId,
        record: &[u8],
        _: Duration,
    ) -> Result<Option<Versioned>, StoreError> {
        self.store(|kept| {
            let known = kept.messages.get(id.as_str()).cloned();
            if known.is_none() {
                let new = Versioned { version: 1, bytes: record.to_vec() };
                kept.messages.insert(id.as_str().to_owned(), new);
            }
            known
        })
    }

    async fn get(&self, id: &MessageId) -> Result<Option<Versioned>, StoreError> {
        self.store(|kept| kept.messages.get(id.as_str()).cloned())
    }

    async fn replace(
        &self,
        id: &MessageId,
        expected: u64,
        record: &[u8],
        _: Duration,
    ) -> Result<Result<u64, Option<Versioned>>, StoreError> {
        self.store(|kept| match kept.messages.get_mut(id.as_str()) {
            Some(known) if known.version == expected => {
                *known = Versioned { version: expected + 1, bytes: record.to_vec() };
                Ok(expected + 1)
            }
            other => Err(other.cloned()),
        })
    }

    async fn remove(&self, id: &MessageId, _: u64) -> Result<bool, StoreError> {
        self.store(|kept| kept.messages.remove(id.as_str()).is_some())
    }

    async fn link(&self, upstream: &[(String, u32)], id: &MessageId, _: Duration) -> Result<(), StoreError> {
        self.store(|kept| {
            kept.links.extend(upstream.iter().map(|(key, part)| (key.clone(), (id.clone(), *part))));
        })
    }

    async fn linked(&self, upstream: &str) -> Result<Option<(MessageId, u32)>, StoreError> {
        self.store(|kept| kept.links.get(upstream).cloned())
    }

    async fn schedule(&self, id: &MessageId, due: Option<Timestamp>) -> Result<(), StoreError> {
        self.store(|kept| match due {
            Some(due) => drop(kept.due.insert(id.as_str().to_owned(), due)),
            None => drop(kept.due.remove(id.as_str())),
        })
    }

    async fn take_due(&self, _: Timestamp, _: Duration, limit: usize) -> Result<Vec<MessageId>, StoreError> {
        // Whatever is wanted at all is due: tests do not wait.
        self.store(|kept| kept.due.keys().take(limit).map(|id| MessageId::stored(id.clone())).collect())
    }
}

#[async_trait]
impl EventLog for World {
    async fn append(
        &self,
        key: &str,
        event: &[u8],
        _: Duration,
        _: Duration,
    ) -> Result<Option<Cursor>, StoreError> {
        self.store(|kept| {
            if kept.events.iter().any(|(known, _)| known == key) {
                return None;
            }
            kept.events.push((key.to_owned(), event.to_vec()));
            Some(Cursor(kept.events.len().to_string()))
        })
    }

    async fn end(&self) -> Result<Cursor, StoreError> {
        self.store(|kept| Cursor(kept.events.len().to_string()))
    }

    async fn read(&self, after: &Cursor, limit: usize) -> Result<EventsRead, StoreError> {
        let forgotten = self.forgotten.load(Ordering::SeqCst);
        self.store(|kept| {
            let Ok(after) = after.0.parse::<usize>() else { return EventsRead::Foreign };
            if after > kept.events.len() {
                return EventsRead::Foreign;
            }
            if after < forgotten {
                return EventsRead::TooOld;
            }
            let events = kept.events.iter().enumerate().skip(after).take(limit);
            let events = events.map(|(at, (_, event))| (Cursor((at + 1).to_string()), event.clone()));
            EventsRead::Page(EventPage { events: events.collect() })
        })
    }
}

#[async_trait]
impl FairBudget for World {
    async fn take_fair(&self, _: &str, _: &str, _: &[Limit], _: u32) -> Result<FairTake, StoreError> {
        let used_up = *lock(&self.used_up_for);
        self.store(|_| {
            let taken = match used_up {
                None => Taken::Go { remaining: 10 },
                Some(after) => Taken::ComeBack { after },
            };
            FairTake { taken, at: Timestamp::from_millis(0) }
        })
    }

    async fn give_back(&self, _: &str, _: &str, _: &[Limit], _: u32, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn pause(&self, _: &str, _: Duration) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl SmsSender for World {
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError> {
        if let Some(error) = lock(&self.next).take() {
            return Err(error);
        }
        let mut sent = lock(&self.sms);
        let answers = batch.to.iter().map(|recipient| {
            // A number that ends in 9 is refused.
            if recipient.to.as_str().ends_with('9') {
                let failure =
                    Failure { code: "400".into(), detail: "Invalid To phone number format.".into() };
                return SmsAnswer::Refused { failure, may_pass: false };
            }
            let id = recipient.repeatability_id;
            sent.entry(id).or_insert_with(|| (recipient.to.as_str().to_owned(), batch.clone()));
            SmsAnswer::Taken { message_id: format!("out-{id}") }
        });
        Ok(answers.collect())
    }

    async fn opt_outs(
        &self,
        change: OptOutChange,
        _: &str,
        recipients: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error> {
        let one = |number: &Number| {
            if number.as_str().ends_with('9') {
                return Err(Failure { code: "400".into(), detail: "no such number".into() });
            }
            Ok(change == OptOutChange::Add)
        };
        Ok(recipients.iter().map(one).collect())
    }
}

#[async_trait]
impl EmailSender for World {
    async fn send(&self, operation: Uuid, mail: &Mail) -> Result<MailProgress, ChannelError> {
        if let Some(error) = lock(&self.next).take() {
            return Err(error);
        }
        lock(&self.mails).entry(operation).or_insert_with(|| mail.clone());
        Ok(MailProgress::UnderWay(None))
    }

    async fn status(&self, operation: Uuid) -> Result<Option<MailProgress>, ChannelError> {
        let known = lock(&self.mails).contains_key(&operation);
        let progress = lock(&self.progress).clone().unwrap_or(MailProgress::UnderWay(None));
        Ok(known.then_some(progress))
    }
}
