//! Is a credential good? Asked with a signed request that can do nothing, and answered once for everybody.
//!
//! The request is a Teams token exchange without a token: whatever a good credential gets for it, no identity, token or
//! message comes of it, and only a refused credential gets 401 without `InvalidAccessToken`. See ADR 18. It never sends
//! more than one probe at a time, and while every credential is refused one per ten seconds.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use tokio::time::Instant;

use super::credential::ring::{Blame, Due, Next, PROBE_EVERY, Probed, Refusal};
use super::credential::{Credential, Fingerprint, Kind};
use super::failure::Failure;
use super::pipeline::{Call, Pipeline};

/// The version of the Identity API that the client speaks otherwise too.
const VERSION: &str = "2023-10-01";
/// The time for the work that is due.
const TEND_WITHIN: Duration = Duration::from_secs(10);

/// What an examination came to.
enum Found {
    /// The credential in use is good.
    Good,
    /// It is not, and another has taken its place.
    Another,
    /// None is accepted.
    None,
    /// No answer that tells.
    Nothing,
}

impl Pipeline {
    /// Asks ACS whether it accepts this credential.
    pub(super) async fn probe(&self, credential: &Arc<Credential>, deadline: Instant) -> Probed {
        let call = Call {
            body: br#"{"token":"","appId":"","userId":""}"#.to_vec(),
            ..Call::new("check_credential", Method::POST, "/teamsUser/:exchangeAccessToken", VERSION)
        };
        let Some(url) = self.url(&call) else { return Probed::Unknown };
        let id = uuid::Uuid::new_v4().to_string();
        let failure = match self.sign_with(credential, deadline).await {
            Ok(signer) => match self.attempt(&call, &url, &id, 1, deadline, &signer).await {
                Ok(_) => return Probed::Accepted,
                Err(failure) => failure,
            },
            Err(failure) => failure,
        };
        if let Some(refusal) = failure.refusal() {
            return Probed::Refused(refusal);
        }
        match failure {
            // It was looked at; what is said of it does not matter.
            Failure::Answered { status, .. }
                if status.is_client_error() && !is_undecided(status.as_u16()) =>
            {
                Probed::Accepted
            }
            _ => Probed::Unknown,
        }
    }

    /// A request that this credential signed was refused. Finds out, once for all requests it happened to, whether the
    /// credential is to blame, and changes to another that is good.
    pub(super) async fn examine(
        &self,
        refused: Fingerprint,
        signed: Instant,
        blame: Blame,
        deadline: Instant,
    ) -> Next {
        let Ok(_turn) = tokio::time::timeout_at(deadline, self.examining.lock()).await else {
            return Next::Stand;
        };
        if let Some(next) = self.ring.known(refused, signed, blame, Instant::now()) {
            return next;
        }
        let Ok(in_use) = self.ring.in_use() else { return Next::Stand };
        match (self.check(&in_use, deadline).await, blame) {
            (Found::Another, _) => Next::Retry,
            // It is good after all: such refusals are known to happen, and pass.
            (Found::Good, Blame::Surely) => Next::Retry,
            (Found::Good, Blame::Perhaps) | (Found::None | Found::Nothing, _) => Next::Stand,
        }
    }

    /// Probes, and does not bring a token again that was refused.
    async fn probe_anew(&self, credential: &Arc<Credential>, deadline: Instant) -> Probed {
        if let Kind::Entra(principal) = &credential.kind {
            principal.forget();
        }
        self.probe(credential, deadline).await
    }

    /// Probes the credential in use, and if it is refused the others.
    async fn check(&self, in_use: &Arc<Credential>, deadline: Instant) -> Found {
        let began = Instant::now();
        match self.probe_anew(in_use, deadline).await {
            Probed::Accepted => {
                self.ring.confirmed(in_use.name, began);
                Found::Good
            }
            Probed::Unknown => Found::Nothing,
            Probed::Refused(why) => self.refused(in_use, why, deadline).await,
        }
    }

    /// The credential in use was just refused: the first of the others that is accepted takes its place.
    async fn refused(&self, in_use: &Arc<Credential>, why: Refusal, deadline: Instant) -> Found {
        for other in self.ring.others() {
            match self.probe(&other, deadline).await {
                Probed::Accepted => {
                    tracing::warn!(
                        from = %in_use.name, to = %other.name,
                        "ACS refuses the key in use and accepts the other one: changed to that"
                    );
                    self.ring.switch(&other, Some(in_use.name), Instant::now(), self.now());
                    return Found::Another;
                }
                Probed::Refused(_) => {}
                // Nobody knows: the next refusal asks again.
                Probed::Unknown => return Found::Nothing,
            }
        }
        tracing::error!(
            skew_ms = self.skew(),
            "ACS refuses every credential: check acs.connection_string and this machine's clock"
        );
        self.ring.all_refused(why, Instant::now());
        Found::None
    }

    /// Does what is due: renews a token, checks the credential in use, tries refused ones again, takes new ones into use.
    /// Cheap when nothing is. Returns whether it did something.
    pub(super) async fn tend(&self) -> bool {
        self.tend_within(Instant::now() + TEND_WITHIN).await
    }

    pub(super) async fn tend_within(&self, deadline: Instant) -> bool {
        if let Ok(in_use) = self.ring.in_use()
            && let Kind::Entra(principal) = &in_use.kind
        {
            principal.renew_if_due().await;
        }
        let deadline = deadline.min(Instant::now() + TEND_WITHIN);
        let Ok(_turn) = tokio::time::timeout_at(deadline, self.examining.lock()).await else { return false };
        match self.ring.due(self.check_every, Instant::now()) {
            None => return false,
            Some(Due::Check) => {
                if let Ok(in_use) = self.ring.in_use() {
                    self.look_in(&in_use, deadline).await;
                }
            }
            Some(Due::Recover(credential)) => match self.probe_anew(&credential, deadline).await {
                Probed::Accepted => self.recovered(&credential, deadline).await,
                Probed::Refused(why) => self.ring.still_refused(why),
                Probed::Unknown => {}
            },
            Some(Due::Prefer(credential)) => match self.probe(&credential, deadline).await {
                Probed::Accepted => {
                    tracing::info!(key = %credential.name, "ACS accepts the key that was put first: changed to it");
                    self.ring.switch(&credential, None, Instant::now(), self.now());
                }
                Probed::Refused(_) => {
                    tracing::error!(
                        key = %credential.name,
                        "ACS refuses the key that was put first; the one in use stays, and it is tried again every {PROBE_EVERY:?}"
                    );
                    self.ring.first_refused();
                }
                Probed::Unknown => {}
            },
        }
        true
    }

    /// This one is accepted while none was. The one in use keeps its place if it is good again too: its tokens are.
    async fn recovered(&self, credential: &Arc<Credential>, deadline: Instant) {
        let in_use = self.ring.name();
        let mut dead = None;
        if credential.name != in_use
            && let Some(before) = self.ring.find(in_use)
        {
            match self.probe(&before, deadline).await {
                Probed::Accepted => return self.back(&before),
                Probed::Refused(_) => dead = Some(in_use),
                Probed::Unknown => {}
            }
        }
        tracing::info!(key = %credential.name, "ACS accepts the credential again");
        self.ring.switch(credential, dead, Instant::now(), self.now());
    }

    fn back(&self, credential: &Arc<Credential>) {
        tracing::info!(key = %credential.name, "ACS accepts the credential again");
        self.ring.switch(credential, None, Instant::now(), self.now());
    }

    /// The regular look: a first probe, and only if that is refused what a refused call would bring about.
    async fn look_in(&self, in_use: &Arc<Credential>, deadline: Instant) {
        let began = Instant::now();
        match self.probe(in_use, deadline).await {
            Probed::Accepted => self.ring.confirmed(in_use.name, began),
            Probed::Refused(Refusal::Acs(_)) if matches!(in_use.kind, Kind::Entra(_)) => {
                // Perhaps only its token is too old.
                self.check(in_use, deadline).await;
            }
            Probed::Refused(why) => {
                self.refused(in_use, why, deadline).await;
            }
            Probed::Unknown => {}
        }
    }
}

/// Statuses that say nothing of the credential: asked too often, too slow.
fn is_undecided(status: u16) -> bool {
    matches!(status, 408 | 429)
}

#[cfg(test)]
mod tests;
