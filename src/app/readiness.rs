//! Watches what traffic depends on, and says so to `/readyz` and to the gRPC health service.
//!
//! It asks the store once a second, outside the request path. One missed answer is forgiven, so that a single slow reply
//! does not take every replica out at once; a store that lost data or may lose it is not.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::{Readiness, Reason};
use crate::audit::Audit;
use crate::auth::jwt::Verifier;
use crate::broker::Broker;
use crate::broker::ports::StoreProblem;
use crate::grpc::Health;

/// How often the store is asked.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long one answer may take, whatever the store's own limits are.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How many answers in a row may be missing before traffic is turned away.
const FORGIVEN: u32 = 1;

/// What the last answers come to.
#[derive(Debug, Default)]
struct Judgement {
    missed: u32,
    answered_once: bool,
}

impl Judgement {
    /// The reason to turn traffic away after this answer, if there is one.
    fn after(&mut self, answer: Result<(), StoreProblem>) -> Option<StoreProblem> {
        match answer {
            Ok(()) => {
                self.missed = 0;
                self.answered_once = true;
                None
            }
            Err(StoreProblem::Unreachable) => {
                self.missed = self.missed.saturating_add(1);
                (self.missed > FORGIVEN || !self.answered_once).then_some(StoreProblem::Unreachable)
            }
            Err(problem) => Some(problem),
        }
    }
}

/// Watches until `shutdown`.
pub(super) async fn watch(
    broker: Broker,
    audit: Audit,
    issuers: Vec<Arc<Verifier>>,
    readiness: Readiness,
    health: Health,
    shutdown: CancellationToken,
) {
    let mut judgement = Judgement::default();
    let mut told = None;
    loop {
        let answer = tokio::time::timeout(ANSWER_WITHIN, broker.check())
            .await
            .unwrap_or(Err(StoreProblem::Unreachable));
        let problem = judgement.after(answer);
        if told.as_ref() != Some(&problem) {
            match &problem {
                None => tracing::info!("ready: the store answers"),
                Some(problem) => tracing::warn!(%problem, "not ready"),
            }
        }
        readiness.store(problem.as_ref().map(ToString::to_string));
        readiness.audit(audit.problem(), audit.is_fail_closed());
        let trouble = issuers.iter().flat_map(|issuers| issuers.trouble());
        readiness.issuers(trouble.map(|(code, message)| Reason { code, message }).collect());
        readiness.started();
        health.set_serving(readiness.report().ready);
        told = Some(problem);
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_missed_answer_is_forgiven_and_two_are_not() {
        let missed = || Err(StoreProblem::Unreachable);
        let mut judgement = Judgement::default();
        assert_eq!(judgement.after(Ok(())), None);
        assert_eq!(judgement.after(missed()), None);
        assert_eq!(judgement.after(missed()), Some(StoreProblem::Unreachable));
        assert_eq!(judgement.after(Ok(())), None, "one answer is enough to be ready again");
        assert_eq!(judgement.after(missed()), None);
    }

    #[test]
    fn a_store_that_never_answered_is_not_forgiven() {
        let mut judgement = Judgement::default();
        assert_eq!(judgement.after(Err(StoreProblem::Unreachable)), Some(StoreProblem::Unreachable));
    }

    #[test]
    fn lost_data_is_never_forgiven() {
        let mut judgement = Judgement::default();
        assert_eq!(judgement.after(Ok(())), None);
        assert_eq!(judgement.after(Err(StoreProblem::Emptied)), Some(StoreProblem::Emptied));
    }
}
