//! Messaging: SMS, mail and chat for callers that name their own users and numbers, each effect once.
//!
//! It decides and does no I/O: the channels of ACS and the store are ports (`ports`), time comes from `clock`. It never
//! sees gRPC. A message is kept before it is sent, under an id made of caller and request id, with upstream ids made
//! of that one: whoever goes on with it, after a crash or on another replica, sends the same again, which ACS takes for
//! the same. What ACS did not answer is UNKNOWN, and is found out, never sent blindly.

pub mod chat;
mod duplicates;
mod email;
mod events;
#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod limits;
mod media;
pub mod ports;
mod record;
mod safety;
mod settings;
mod sms;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod types;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio_util::task::TaskTracker;

pub use self::email::{EmailReport, SendEmail};
pub use self::events::{Event, EventKind, Happened, Watch};
use self::limits::{Bucket, Limits};
use self::ports::{EmailSender, MessageStores, SmsSender};
use self::record::Record;
pub use self::sms::{OptOut, SendSms, SmsReport};
use self::types::{Channel, MessageId, MessageName};
use crate::broker::error::Error;
use crate::broker::ports::{StoreError, Taken};
use crate::broker::types::Caller;
use crate::clock::{Clock, Timestamp};
use crate::metrics::Metrics;

/// When to ask again for what no answer came to.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// `[messages]`: what holds for all channels. Ranges are checked by [`Settings::problems`].
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How long a request and its outcome are remembered.
    #[serde(with = "crate::duration")]
    pub retention: Duration,
    /// How long one replica may work on a request before another may take it over.
    #[serde(with = "crate::duration")]
    pub hold: Duration,
    /// How long an outcome that is not known is looked for.
    #[serde(with = "crate::duration")]
    pub find_out_within: Duration,
    /// For how long the same content of a caller is not sent under another request id; zero for no such guard.
    #[serde(with = "crate::duration")]
    pub duplicates_within: Duration,
    /// The published limits of ACS times this; more if Microsoft raised yours, 0 for none.
    pub limits: f64,
    /// SMS.
    pub sms: SmsSettings,
    /// E-mail.
    pub email: EmailSettings,
}

/// `[messages.sms]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmsSettings {
    /// The senders callers may use, separated by commas; the first is the default. Empty: no SMS.
    pub senders: String,
    /// The recipients that are allowed, separated by commas: whole numbers or beginnings such as `+1425*`. Empty: all.
    pub allow: String,
    /// Where every SMS goes instead of to its recipients. Empty: to them.
    pub redirect: String,
}

/// `[messages.email]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmailSettings {
    /// The sender addresses callers may use, separated by commas; the first is the default. Empty: no mail.
    pub senders: String,
    /// The recipients that are allowed, separated by commas: whole addresses or `*@domain`. Empty: all.
    pub allow: String,
    /// Where every mail goes instead of to its recipients. Empty: to them.
    pub redirect: String,
}

impl Default for Settings {
    /// The values of `config/default.toml`.
    fn default() -> Self {
        let open = || (String::new(), String::new());
        let ((allow, redirect), (allow_mail, redirect_mail)) = (open(), open());
        Self {
            retention: Duration::from_hours(7 * 24),
            hold: Duration::from_secs(75),
            find_out_within: Duration::from_mins(5),
            duplicates_within: Duration::ZERO,
            limits: 1.0,
            sms: SmsSettings { senders: String::new(), allow, redirect },
            email: EmailSettings { senders: String::new(), allow: allow_mail, redirect: redirect_mail },
        }
    }
}

/// When a call's cost was taken out of its budget, by the store's clock; none without limits.
#[derive(Debug, Clone, Copy)]
struct Spent(Option<Timestamp>);

/// What messaging is made of. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Messaging(Arc<Parts>);

struct Parts {
    settings: Settings,
    limits: Limits,
    stores: MessageStores,
    sms: Arc<dyn SmsSender>,
    email: Arc<dyn EmailSender>,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// Work that outlives the caller who started it.
    tasks: TaskTracker,
    /// Rung when the log of events grew.
    tail: events::Tail,
}

impl Messaging {
    /// Messaging over these ports. `tasks` are waited for when the process ends.
    pub fn new(
        settings: Settings,
        stores: MessageStores,
        sms: Arc<dyn SmsSender>,
        email: Arc<dyn EmailSender>,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Self {
        let limits = Limits::new(settings.limits);
        let tail = events::Tail::default();
        Self(Arc::new(Parts { settings, limits, stores, sms, email, clock, metrics, tasks, tail }))
    }

    /// Where an SMS comes from that names no sender; none if none is set up.
    pub fn default_sms_sender(&self) -> Option<&str> {
        safety::sender(&self.0.settings.sms.senders, None)
    }

    /// Where a mail comes from that names no sender; none if none is set up.
    pub fn default_email_sender(&self) -> Option<&str> {
        safety::sender(&self.0.settings.email.senders, None)
    }

    /// Runs work that goes on when its caller hangs up.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        match self.0.tasks.spawn(work).await {
            Ok(result) => result,
            Err(_) => Err(Error::internal("the work on a message ended by a bug")),
        }
    }

    /// The record of a request of this caller.
    async fn record(
        &self,
        channel: Channel,
        caller: &Caller,
        name: MessageName,
    ) -> Result<(MessageId, Record), Error> {
        let id = match name {
            MessageName::Id(id) => id,
            MessageName::Request(request) => MessageId::of(channel, caller, &request),
        };
        let kept = self.0.stores.messages.get(&id).await?.ok_or(Error::MessageNotFound)?;
        let record = Record::read(&kept.bytes)?;
        if !record.is_of(caller) {
            return Err(Error::MessageNotFound);
        }
        Ok((id, record.seen(self.0.clock.now())))
    }

    /// Takes a call's cost out of its budget, or says when to come back.
    async fn take(&self, bucket: &Bucket, caller: &Caller, cost: u32) -> Result<Spent, Error> {
        if bucket.limits.is_empty() {
            return Ok(Spent(None));
        }
        let take = self.0.stores.budgets.take_fair(&bucket.name, caller.name(), &bucket.limits, cost).await?;
        match take.taken {
            Taken::Go { remaining } => {
                self.0.metrics.budget(bucket.kind, remaining);
                Ok(Spent(Some(take.at)))
            }
            Taken::ComeBack { after } => Err(Error::AcsLimitReached { retry_after: after }),
        }
    }

    /// Gives back what was taken for a call that ACS is not asked for after all, such as a repetition of one that is
    /// done. It is a further trip to the store, off the way of a message that is sent.
    async fn unspend(&self, bucket: &Bucket, caller: &Caller, cost: u32, spent: &Result<Spent, Error>) {
        if let Ok(Spent(Some(at))) = spent
            && cost > 0
        {
            let budgets = &self.0.stores.budgets;
            let given = budgets.give_back(&bucket.name, caller.name(), &bucket.limits, cost, *at).await;
            report(given, "a call that was not made counts in its limit");
        }
    }

    /// Stops the whole fleet from using a bucket for a while, because ACS asked for it.
    async fn pause(&self, bucket: &Bucket, time: Duration) {
        if let Err(error) = self.0.stores.budgets.pause(&bucket.name, time).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a pause is not shared with the fleet");
        }
    }

    /// Nothing was sent: a request that is new is forgotten, so that asking again starts afresh; one that was asked for
    /// before stays as it was, open to whoever asks next.
    async fn give_back(&self, id: &MessageId, version: u64, mut record: Record, now: Timestamp) {
        let messages = &self.0.stores.messages;
        let given_back = if version == 1 {
            messages.remove(id, version).await.map(drop)
        } else {
            record.release(now);
            messages.replace(id, version, &record.bytes(), self.0.settings.retention).await.map(drop)
        };
        report(given_back, "a request id is held until it lapses");
    }

    /// Keeps what became of a request. If the store fails now, the upstream ids still keep ACS from doing it again.
    async fn keep(&self, id: &MessageId, mut version: u64, record: &Record) {
        let mut record = record.clone();
        for _ in 0..events::TRIES {
            let keep = self.0.settings.retention;
            match self.0.stores.messages.replace(id, version, &record.bytes(), keep).await {
                // A delivery report was there first: both count.
                Ok(Err(Some(now))) => {
                    version = now.version;
                    let Ok(now) = Record::read(&now.bytes) else { break };
                    record.take_over(&now);
                }
                kept => {
                    return report(kept.map(drop), "an outcome is not kept; asking again will find it out");
                }
            }
        }
        tracing::warn!("an outcome is not kept; asking again will find it out");
    }

    async fn keep_links(&self, id: &MessageId, links: &[(String, u32)]) {
        if !links.is_empty() {
            let kept = self.0.stores.messages.link(links, id, self.0.settings.retention).await;
            report(kept, "a delivery report may not find its message");
        }
    }
}

/// Logs a failure of the store that changes nothing for the caller.
fn report(result: Result<(), StoreError>, what: &'static str) {
    if let Err(error) = result {
        tracing::warn!(error = &error as &dyn std::error::Error, "{what}");
    }
}
