//! grpc.health.v1: what kubelet and the mesh probe, and the handle with which the app says whether it serves.
//!
//! Own code and not tonic-health's service, for two reasons: its Watch streams never end, so that one open watch would
//! hold up every drain for its whole time; and it answers Watch of an unknown service with an error, where the
//! protocol wants SERVICE_UNKNOWN. All services share one state: they stand on the same core. One name stands beside
//! them, for the question whether to restart the process, which no outage of the store should answer with yes.

use std::pin::Pin;

use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use super::status::{self, Refusal};

/// The names that have a state; the empty one stands for the whole server.
const SERVICES: [&str; 7] = [
    "",
    "acsbroker.v1.TokenService",
    "acsbroker.v1.IdentityService",
    "acsbroker.v1.SmsService",
    "acsbroker.v1.EmailService",
    "acsbroker.v1.ChatService",
    "acsbroker.v1.EventService",
];

/// The name that serves as long as the process answers at all: a liveness probe asks for it.
const LIVENESS: &str = "liveness";

/// Watch streams open at the same time; anybody may open one, so there must be an end.
const MAX_WATCHES: usize = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    NotServing,
    Serving,
    /// Not serving, and never again.
    Draining,
}

impl State {
    const fn on_the_wire(self) -> ServingStatus {
        match self {
            Self::Serving => ServingStatus::Serving,
            Self::NotServing | Self::Draining => ServingStatus::NotServing,
        }
    }
}

/// Says whether the server serves. Cheap to clone; starts as not serving.
#[derive(Debug, Clone)]
pub struct Health(watch::Sender<State>);

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

impl Health {
    /// A server that does not serve yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(State::NotServing))
    }

    /// Says whether calls can be answered now. Without effect once the server drains.
    pub fn set_serving(&self, serving: bool) {
        let next = if serving { State::Serving } else { State::NotServing };
        self.0.send_if_modified(|state| {
            let changes = *state != State::Draining && *state != next;
            if changes {
                *state = next;
            }
            changes
        });
    }

    /// Whether calls can be answered now.
    pub fn is_serving(&self) -> bool {
        *self.0.borrow() == State::Serving
    }

    /// Says that the server ends; watches are told and closed.
    pub(crate) fn drain(&self) {
        self.0.send_replace(State::Draining);
    }

    /// The service for the server.
    pub(crate) fn service(&self) -> HealthServer<impl HealthService + use<>> {
        HealthServer::new(Probes(self.0.clone())).max_decoding_message_size(4096)
    }
}

struct Probes(watch::Sender<State>);

type Answers = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl HealthService for Probes {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        match Subject::of(request.get_ref()).status(*self.0.borrow()) {
            ServingStatus::ServiceUnknown => Err(Status::not_found("there is no such service")),
            status => Ok(Response::new(answer(status))),
        }
    }

    type WatchStream = Answers;

    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Answers>, Status> {
        if self.0.receiver_count() >= MAX_WATCHES {
            return Err(status::of(Refusal::Overloaded));
        }
        Ok(Response::new(watch(self.0.subscribe(), Subject::of(request.get_ref()))))
    }
}

/// What is asked about.
#[derive(Debug, Clone, Copy)]
enum Subject {
    /// Whether calls can be answered.
    Service,
    /// Whether the process lives.
    Process,
    Unknown,
}

impl Subject {
    fn of(request: &HealthCheckRequest) -> Self {
        match request.service.as_str() {
            LIVENESS => Self::Process,
            service if SERVICES.contains(&service) => Self::Service,
            _ => Self::Unknown,
        }
    }

    const fn status(self, state: State) -> ServingStatus {
        match self {
            Self::Service => state.on_the_wire(),
            Self::Process => ServingStatus::Serving,
            Self::Unknown => ServingStatus::ServiceUnknown,
        }
    }
}

fn answer(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// The state now and at each change, until the server drains.
fn watch(states: watch::Receiver<State>, subject: Subject) -> Answers {
    let start = (states, None::<ServingStatus>);
    Box::pin(stream::unfold(start, move |(mut states, told)| async move {
        loop {
            let state = *states.borrow_and_update();
            let status = subject.status(state);
            if told != Some(status) {
                return Some((Ok(answer(status)), (states, Some(status))));
            }
            if state == State::Draining || states.changed().await.is_err() {
                return None;
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    async fn next(answers: &mut Answers) -> Option<ServingStatus> {
        answers.next().await.map(|answer| answer.unwrap().status())
    }

    #[tokio::test]
    async fn a_watch_sees_each_change_and_ends_with_the_drain() {
        let health = Health::new();
        let mut answers = watch(health.0.subscribe(), Subject::Service);
        assert_eq!(next(&mut answers).await, Some(ServingStatus::NotServing));
        health.set_serving(true);
        assert_eq!(next(&mut answers).await, Some(ServingStatus::Serving));
        health.drain();
        assert_eq!(next(&mut answers).await, Some(ServingStatus::NotServing));
        assert_eq!(next(&mut answers).await, None);
    }

    #[tokio::test]
    async fn a_watch_of_an_unknown_service_says_so_and_ends_with_the_drain() {
        let health = Health::new();
        let mut answers = watch(health.0.subscribe(), Subject::Unknown);
        assert_eq!(next(&mut answers).await, Some(ServingStatus::ServiceUnknown));
        health.drain();
        assert_eq!(next(&mut answers).await, None);
    }

    #[tokio::test]
    async fn a_process_lives_whether_or_not_it_can_serve() {
        let health = Health::new();
        let probes = Probes(health.0.clone());
        let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for _ in 0..2 {
            let live = probes.check(Request::new(ask("liveness"))).await.unwrap();
            assert_eq!(live.into_inner().status(), ServingStatus::Serving);
            let serves = probes.check(Request::new(ask(""))).await.unwrap();
            assert_eq!(serves.into_inner().status(), ServingStatus::NotServing);
            health.drain();
        }
        assert_eq!(
            probes.check(Request::new(ask("livenes"))).await.unwrap_err().code(),
            tonic::Code::NotFound
        );
    }

    #[test]
    fn a_draining_server_never_serves_again() {
        let health = Health::new();
        health.set_serving(true);
        assert!(health.is_serving());
        health.drain();
        health.set_serving(true);
        assert!(!health.is_serving());
    }

    #[tokio::test]
    async fn watches_are_bounded() {
        let health = Health::new();
        let probes = Probes(health.0.clone());
        let open: Vec<_> = (0..MAX_WATCHES).map(|_| health.0.subscribe()).collect();
        assert!(probes.watch(Request::new(HealthCheckRequest::default())).await.is_err());
        drop(open);
        assert!(probes.watch(Request::new(HealthCheckRequest::default())).await.is_ok());
    }
}
