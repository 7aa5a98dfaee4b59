//! EventService: a stream of what happened, to any number of watchers.
//!
//! Each watch has a task that reads the log and hands events over through a short queue, so that a watcher costs the
//! same however slow it is. One that takes nothing for a while is ended and may resume where it was: its place is in
//! the cursor it has, and nowhere here. Decides nothing about events; parties of a chat get the app's names for them.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::stream::{self, Stream};
use tokio::sync::mpsc::error::SendTimeoutError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::convert::event as convert;
use super::observe::RequestId;
use super::permit::{Permit, Sight};
use super::proto::v1;
use super::proto::v1::WatchEventsResponse;
use super::proto::v1::event_service_server::EventService;
use super::proto::v1::watch_events_response::Event as Told;
use super::status::{self, Failure, Refusal};
use super::trail;
use crate::audit::Trail;
use crate::broker::Broker;
use crate::broker::error::Error;
use crate::broker::types::IdentityId;
use crate::messaging::{Messaging, Watch};
use crate::metrics::Metrics;

/// Watches open at the same time.
const MAX_WATCHES: usize = 4096;

/// Events that are ready for a watcher, beside what HTTP/2 has on its way.
const READY: usize = 16;

/// How long a watcher may take nothing although something is ready.
const PATIENCE: Duration = Duration::from_secs(10);

/// Names of users that a watch remembers; beyond, it starts to learn them again.
const NAMES: usize = 1024;

/// EventService over the core.
pub(crate) struct Events {
    messaging: Messaging,
    broker: Broker,
    metrics: Metrics,
    stopping: CancellationToken,
    seats: Arc<Semaphore>,
}

impl Events {
    /// Over these cores; watches end when `stopping` is cancelled.
    pub(crate) fn new(
        messaging: Messaging,
        broker: Broker,
        metrics: Metrics,
        stopping: CancellationToken,
    ) -> Self {
        Self { messaging, broker, metrics, stopping, seats: Arc::new(Semaphore::new(MAX_WATCHES)) }
    }
}

/// What a watcher is sent.
pub(crate) type Answers = Pin<Box<dyn Stream<Item = Result<WatchEventsResponse, Status>> + Send>>;

#[tonic::async_trait]
impl EventService for Events {
    type WatchEventsStream = Answers;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Answers>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let (from, kinds) = convert::watch(request.get_ref()).map_err(status::of)?;
        let seat = Arc::clone(&self.seats).try_acquire_owned();
        let seat = seat.map_err(|_| status::of(Refusal::Overloaded))?;
        let sight = permit.events();
        trail::admitted(&trail, sight.caller()).await?;
        let request_id = request.extensions().get::<RequestId>().cloned();
        let watch = self.messaging.watch(from, kinds).await.map_err(status::of)?;
        let (events, taken) = mpsc::channel(READY);
        let end = Arc::new(OnceLock::new());
        let teller = Teller {
            broker: self.broker.clone(),
            sight,
            trail,
            told: 0,
            names: HashMap::new(),
            events,
            stopping: self.stopping.clone(),
        };
        tokio::spawn(tell_to_the_end(watch, teller, Arc::clone(&end), self.metrics.clone()));
        Ok(Response::new(answers(taken, end, request_id, seat)))
    }
}

/// What is ready, then why it ended.
fn answers(
    taken: mpsc::Receiver<WatchEventsResponse>,
    end: Arc<OnceLock<Failure>>,
    request_id: Option<RequestId>,
    seat: OwnedSemaphorePermit,
) -> Answers {
    Box::pin(stream::unfold(Some((taken, end, request_id, seat)), |state| async move {
        let (mut taken, end, request_id, seat) = state?;
        if let Some(event) = taken.recv().await {
            return Some((Ok(event), Some((taken, end, request_id, seat))));
        }
        let failure = end.get().cloned().unwrap_or_else(|| Refusal::Stopping.into());
        Some((Err(failure.status(request_id.as_ref().and_then(RequestId::as_str))), None))
    }))
}

/// Tells a watcher until there is a reason to end.
async fn tell_to_the_end(watch: Watch, mut teller: Teller, end: Arc<OnceLock<Failure>>, metrics: Metrics) {
    if let Err(failure) = teller.tell(watch).await {
        metrics.error(failure.reason());
        tracing::info!(
            reason = failure.reason(),
            caller = teller.sight.caller().name(),
            "a watch of events ends"
        );
        let _ = end.set(failure);
    }
    // The call's own record was made when the stream began.
    teller.trail.did("events_told", teller.told, &[]);
    // The teller goes, and with it the queue's end: only now the reason is looked for.
}

/// Hands events over to one watcher.
struct Teller {
    broker: Broker,
    sight: Sight,
    trail: Trail,
    /// Events told so far.
    told: u32,
    /// User ids by ACS identity; an identity belongs to one user for ever.
    names: HashMap<String, String>,
    events: mpsc::Sender<WatchEventsResponse>,
    stopping: CancellationToken,
}

impl Teller {
    /// Until the watcher is gone, which is no failure, or something ends the watch.
    async fn tell(&mut self, mut watch: Watch) -> Result<(), Failure> {
        let replaced = self.sight.caller().permissions().replaced().clone();
        loop {
            let found = tokio::select! {
                found = watch.next() => found?,
                () = self.events.closed() => return Ok(()),
                () = self.stopping.cancelled() => return Err(Refusal::Stopping.into()),
                () = replaced.cancelled() => return Err(Refusal::PolicyChanged.into()),
            };
            for (cursor, event) in found {
                let mut sees = self.sight.includes(&event);
                let mut response = convert::event(&cursor, event);
                if let Some(Told::Chat(chat)) = &mut response.event {
                    for party in [&mut chat.actor, &mut chat.subject].into_iter().flatten() {
                        self.name(party).await?;
                        sees |= !party.user_id.is_empty() && self.sight.includes_user(&party.user_id);
                    }
                }
                if replaced.is_cancelled() {
                    return Err(Refusal::PolicyChanged.into());
                }
                if !sees {
                    continue;
                }
                let sent = tokio::select! {
                    sent = self.events.send_timeout(response, PATIENCE) => sent,
                    () = self.stopping.cancelled() => return Err(Refusal::Stopping.into()),
                };
                match sent {
                    Ok(()) => self.told = self.told.saturating_add(1),
                    Err(SendTimeoutError::Closed(_)) => return Ok(()),
                    Err(SendTimeoutError::Timeout(_)) => return Err(Refusal::WatcherTooSlow.into()),
                }
            }
        }
    }

    /// Gives a party the app's name for it, if the broker knows one.
    async fn name(&mut self, party: &mut v1::ChatParty) -> Result<(), Error> {
        if let Some(name) = self.names.get(&party.acs_user_id) {
            party.user_id.clone_from(name);
            return Ok(());
        }
        let Ok(identity) = IdentityId::parse(&party.acs_user_id) else { return Ok(()) };
        match self.broker.get_identity_by_acs_id(self.sight.caller(), identity).await {
            Ok((user, _)) => {
                user.as_str().clone_into(&mut party.user_id);
                if self.names.len() >= NAMES {
                    self.names.clear();
                }
                self.names.insert(party.acs_user_id.clone(), party.user_id.clone());
                Ok(())
            }
            // It may get a name later.
            Err(Error::IdentityNotFound) => Ok(()),
            // Whoever resumes gets the event with its names; without them it would seem to have none.
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
