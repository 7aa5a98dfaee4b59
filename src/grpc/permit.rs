//! What a caller may have in this call: the one way from a request to a [`Caller`] that the core takes.
//!
//! [`Permit::enter`] runs for every call before its message is read: who calls, whether it may call this RPC at all,
//! its quota, its end user's token. A handler takes the permit out of the request and names what it is about to touch;
//! only then it gets the caller. So a handler that forgets to ask does not compile, and a refusal comes before anything
//! is looked up and tells nothing about which users exist.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::status;
use crate::audit::Trail;
use crate::auth::{Credentials, Gate, UNAUTHENTICATED, Unproven};
use crate::broker::error::Error;
use crate::broker::policy::{Missing, Need, Rpc};
use crate::broker::types::{Caller, ScopeSet, UserId, Validity};
use crate::messaging::{Event, Happened};

/// A call that was let in, and what it may touch.
#[derive(Debug, Clone)]
pub(crate) struct Permit {
    caller: Caller,
    rpc: Rpc,
    /// Where it is noted what is refused in another name, and in shadow mode what would be.
    trail: Trail,
    /// The user id that the end user's own token names, if the policy asks for one.
    end_user: Option<Result<String, NoEndUser>>,
}

/// The end user's token does not count; why is in the log.
#[derive(Debug, Clone, Copy)]
enum NoEndUser {
    /// It is missing or bad.
    Bad,
    /// It cannot be judged now.
    Unclear,
}

impl Permit {
    /// Lets the caller in if it may call this RPC now.
    pub(crate) async fn enter(
        gate: &Gate,
        credentials: &Credentials<'_>,
        caller: &Caller,
        rpc: Rpc,
        trail: Option<&Trail>,
    ) -> Result<Self, Error> {
        let trail = trail.cloned().unwrap_or_default();
        let mut permit = Self { caller: caller.clone(), rpc, trail, end_user: None };
        permit.ask(Need::Rpc)?;
        let counted = caller.permissions().count(caller.name(), rpc, Instant::now());
        let within =
            counted.map_err(|wait| Error::CallerQuotaExceeded { retry_after: wait.max(MIN_WAIT) })?;
        if !within {
            permit.would_refuse(Missing::Quota);
        }
        permit.end_user = match &caller.permissions().rules().end_user {
            None => None,
            Some(rule) => Some(gate.end_user(rule, credentials).await.map_err(|why| {
                let (caller, refusal) = (caller.name(), why.text());
                tracing::info!(caller, refusal, "the end user's token is not accepted");
                match why {
                    Unproven::Bad(_) => NoEndUser::Bad,
                    Unproven::Unclear(_) => NoEndUser::Unclear,
                }
            })),
        };
        Ok(permit)
    }

    /// The permit of a request; one that did not enter has none and gets nothing.
    pub(crate) fn of<T>(request: &tonic::Request<T>) -> Result<Self, Status> {
        request.extensions().get().cloned().ok_or_else(|| status::of(Error::CallerUnauthenticated))
    }

    /// For what is the caller's own by its name: the core shows it nothing else.
    pub(crate) fn own(&self) -> &Caller {
        &self.caller
    }

    /// For this user.
    pub(crate) fn user(&self, user: &UserId) -> Result<&Caller, Error> {
        self.ask(Need::User(user))?;
        self.as_end_user(Some(user))?;
        Ok(&self.caller)
    }

    /// For a user who was found by something else: one the caller may not name is not found.
    pub(crate) fn found(&self, user: &UserId) -> Result<(), Error> {
        self.user(user).map(drop).map_err(|_| Error::IdentityNotFound)
    }

    /// For all users.
    pub(crate) fn every_user(&self) -> Result<&Caller, Error> {
        self.ask(Need::EveryUser)?;
        self.as_end_user(None)?;
        Ok(&self.caller)
    }

    /// The validity of a token whose caller names none.
    pub(crate) fn default_validity(&self, default: Validity) -> Validity {
        let permissions = self.caller.permissions();
        if permissions.is_shadow() { default } else { default.min(permissions.rules().max_validity) }
    }

    /// For a token. More validity than allowed is a violation; none is made the longest allowed, if that is less than
    /// the `default`.
    pub(crate) fn token(
        &self,
        user: &UserId,
        scopes: ScopeSet,
        validity: &mut Option<Validity>,
        default: Validity,
    ) -> Result<&Caller, Error> {
        self.user(user)?;
        self.ask(Need::Scopes(scopes))?;
        match validity {
            Some(asked) => match self.ask(Need::Validity(*asked)) {
                Err(Error::PermissionMissing { permission }) => {
                    // To the caller it is a bad field, which it can mend; it was the policy that refused.
                    self.trail.refused(permission.kind());
                    let most = self.caller.permissions().rules().max_validity.as_duration();
                    let most = humantime::format_duration(most);
                    let what = format!("must be at most {most}: the policy allows this caller no longer");
                    return Err(Error::invalid("validity", what));
                }
                judged => judged?,
            },
            none => {
                let allowed = self.default_validity(default);
                *none = (allowed != default).then_some(allowed);
            }
        }
        Ok(&self.caller)
    }

    /// For an SMS, or a question about opt-outs, from this sender; none if none is set up, which the core tells.
    pub(crate) fn sms_from(&self, sender: Option<&str>) -> Result<&Caller, Error> {
        sender.map_or(Ok(()), |sender| self.ask(Need::SmsSender(sender)))?;
        Ok(&self.caller)
    }

    /// For a mail from this sender; none if none is set up, which the core tells.
    pub(crate) fn email_from(&self, sender: Option<&str>) -> Result<&Caller, Error> {
        sender.map_or(Ok(()), |sender| self.ask(Need::EmailSender(sender)))?;
        Ok(&self.caller)
    }

    /// For chat as this user, or as the broker itself, about these users.
    pub(crate) fn chat<'u>(
        &self,
        actor: Option<&UserId>,
        about: impl IntoIterator<Item = &'u UserId>,
    ) -> Result<&Caller, Error> {
        match actor {
            Some(actor) => drop(self.user(actor)?),
            None => {
                self.ask(Need::ServiceIdentity)?;
                self.as_end_user(None)?;
            }
        }
        for user in about {
            self.ask(Need::User(user))?;
        }
        Ok(&self.caller)
    }

    /// What a watcher may see of the events.
    pub(crate) fn events(self) -> Sight {
        let all = self.ask(Need::EveryEvent).is_ok();
        let enforced = !self.caller.permissions().is_shadow();
        let only = self.end_user.filter(|_| enforced).map(Result::ok);
        Sight { caller: self.caller, all: all && only.is_none(), only }
    }

    /// If the policy asks for the end user's own token: it must name this user, and stands for nobody else.
    fn as_end_user(&self, user: Option<&UserId>) -> Result<(), Error> {
        let proven = match &self.end_user {
            None => return Ok(()),
            Some(proven) => proven.as_ref().ok().map(String::as_str),
        };
        match user {
            Some(user) if proven == Some(user.as_str()) => Ok(()),
            Some(_) if self.is_unclear() => Err(Error::IssuerUnavailable { retry_after: JUDGE_AGAIN }),
            _ => {
                self.would_refuse(Missing::EndUser);
                self.caller.refuse(self.rpc, Missing::EndUser)
            }
        }
    }

    /// Whether it is the broker's fault that nobody knows who the end user is, and this matters.
    fn is_unclear(&self) -> bool {
        matches!(self.end_user, Some(Err(NoEndUser::Unclear))) && !self.caller.permissions().is_shadow()
    }

    /// Whether the caller may have this; in shadow mode it may, and the call's record says what would be refused.
    fn ask(&self, need: Need<'_>) -> Result<(), Error> {
        let permissions = self.caller.permissions();
        if permissions.is_shadow()
            && let Err(missing) = permissions.rules().allow(self.rpc, need)
        {
            self.would_refuse(missing);
        }
        self.caller.may(self.rpc, need)
    }

    /// Notes what would be refused, where refusals are not real. A stranger lacks everything, for one reason.
    fn would_refuse(&self, missing: Missing) {
        if !self.caller.permissions().is_shadow() {
            return;
        }
        let is_stranger = self.caller.name() == UNAUTHENTICATED;
        self.trail.would_refuse(if is_stranger { "caller" } else { missing.kind() });
    }
}

/// When to come back with a token that could not be judged: keys that fail are fetched again after 2 to 60 seconds.
pub(super) const JUDGE_AGAIN: Duration = Duration::from_secs(5);

/// RetryInfo with no delay would be taken for none.
const MIN_WAIT: Duration = Duration::from_millis(1);

/// What one watcher sees of the events.
#[derive(Debug, Clone)]
pub(crate) struct Sight {
    caller: Caller,
    all: bool,
    /// If the policy asks for the end user's own token: whom that names, if it is good.
    only: Option<Option<String>>,
}

impl Sight {
    /// Who watches.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Whether the watcher may see what this user takes part in, whom it may name.
    pub(crate) fn includes_user(&self, user: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only.as_deref() == Some(user))
    }

    /// Whether the watcher may see an event: all of them, or reports of what it sent itself, SMS to numbers it may send
    /// from. Of chat it may see beside that what concerns a user whom it may name, which is found out elsewhere.
    pub(crate) fn includes(&self, event: &Event) -> bool {
        if self.all {
            return true;
        }
        match &event.happened {
            Happened::SmsDelivery { .. }
            | Happened::EmailDelivery { .. }
            | Happened::EmailEngagement { .. } => event.caller.as_deref() == Some(self.caller.name()),
            Happened::SmsReceived { to, .. } => {
                self.caller.permissions().rules().allow(Rpc::WatchEvents, Need::SmsSender(to)).is_ok()
            }
            Happened::Chat { .. } => false,
        }
    }
}

#[cfg(test)]
#[path = "permit_tests.rs"]
mod tests;
