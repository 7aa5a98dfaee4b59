//! Leaves an audit record of every effect at ACS, whoever or whatever asked for it.
//!
//! A layer over the core's ports: work that outlives its caller, renewals and the removal of surplus identities pass
//! here too. A record says what was done or tried and on whom, as keyed hashes; who asked stands in the record of the
//! call, which names the same hashes. It changes no answer and waits for nothing.

mod chat;

use std::sync::Arc;

use async_trait::async_trait;

use crate::audit::{Audit, Whom};
use crate::broker::error::Error;
use crate::broker::ports::{CreatedIdentity, TokenIssuer};
use crate::broker::types::{
    AccessToken, IdentityId, KeyId, KeyStanding, ScopeSet, Signing, UserId, Validity,
};
use crate::messaging::ports::{
    ChannelError, EmailSender, Mail, MailProgress, OptOutChange, SmsAnswer, SmsBatch, SmsSender,
};
use crate::messaging::types::{Failure, Number};
use crate::reload::Reloadable;

/// A port that leaves records.
pub(super) struct Audited<T: ?Sized> {
    inner: Arc<T>,
    audit: Audit,
}

impl<T: ?Sized> Audited<T> {
    /// Records what goes through `inner`.
    pub(super) const fn new(inner: Arc<T>, audit: Audit) -> Self {
        Self { inner, audit }
    }
}

/// How it ended, in a word.
const OK: &str = "ok";

fn word<T>(result: &Result<T, Error>) -> &'static str {
    result.as_ref().map_or_else(Error::reason, |_| OK)
}

fn word_of_channel<T>(result: &Result<T, ChannelError>) -> &'static str {
    match result {
        Ok(_) => OK,
        Err(ChannelError::NotSent(error)) => error.reason(),
        Err(ChannelError::Throttled(_)) => "ACS_THROTTLED",
        Err(ChannelError::Unknown { .. }) => "OUTCOME_UNKNOWN",
    }
}

#[async_trait]
impl<T: TokenIssuer> TokenIssuer for Audited<T> {
    fn key(&self) -> KeyId {
        self.inner.key()
    }

    fn signing(&self) -> Signing {
        self.inner.signing()
    }

    fn standing(&self, key: KeyId) -> KeyStanding {
        self.inner.standing(key)
    }

    async fn create_identity(
        &self,
        user: &UserId,
        first_token: Option<(ScopeSet, Validity)>,
    ) -> Result<CreatedIdentity, Error> {
        let result = self.inner.create_identity(user, first_token).await;
        let mut on = vec![(Whom::User, user.as_str())];
        if let Ok(created) = &result {
            on.push((Whom::Identity, created.identity.as_str()));
        }
        self.audit.effect("identity_created", word(&result), 1, &on);
        if result.as_ref().is_ok_and(|created| created.token.is_some()) {
            self.audit.effect("token_issued", OK, 1, &on);
        }
        result
    }

    async fn issue_token(
        &self,
        identity: &IdentityId,
        scopes: ScopeSet,
        validity: Validity,
    ) -> Result<AccessToken, Error> {
        let result = self.inner.issue_token(identity, scopes, validity).await;
        self.audit.effect("token_issued", word(&result), 1, &[(Whom::Identity, identity.as_str())]);
        result
    }

    async fn revoke_tokens(&self, identity: &IdentityId) -> Result<(), Error> {
        let result = self.inner.revoke_tokens(identity).await;
        self.audit.effect("tokens_revoked", word(&result), 1, &[(Whom::Identity, identity.as_str())]);
        result
    }

    async fn delete_identity(&self, identity: &IdentityId) -> Result<(), Error> {
        let result = self.inner.delete_identity(identity).await;
        self.audit.effect("identity_deleted", word(&result), 1, &[(Whom::Identity, identity.as_str())]);
        result
    }
}

#[async_trait]
impl<T: SmsSender> SmsSender for Audited<T> {
    async fn send(&self, batch: &SmsBatch) -> Result<Vec<SmsAnswer>, ChannelError> {
        let result = self.inner.send(batch).await;
        let recipients = || batch.to.iter().map(|recipient| (Whom::Recipient, recipient.to.as_str()));
        let record = |outcome, whom: &[(Whom, &str)], ids: &[&str]| {
            if !whom.is_empty() {
                let on = [&[(Whom::Sender, batch.from.as_str())], whom].concat();
                self.audit.effect_on_messages("sms_sent", outcome, whom.len(), &on, ids);
            }
        };
        match &result {
            Ok(answers) => {
                let (mut taken, mut refused, mut ids) = (Vec::new(), Vec::new(), Vec::new());
                for (recipient, answer) in recipients().zip(answers) {
                    match answer {
                        SmsAnswer::Taken { message_id } => {
                            taken.push(recipient);
                            ids.push(message_id.as_str());
                        }
                        SmsAnswer::Refused { .. } => refused.push(recipient),
                    }
                }
                record(OK, &taken, &ids);
                record("refused", &refused, &[]);
            }
            Err(_) => record(word_of_channel(&result), &recipients().collect::<Vec<_>>(), &[]),
        }
        result
    }

    async fn opt_outs(
        &self,
        change: OptOutChange,
        from: &str,
        recipients: &[Number],
    ) -> Result<Vec<Result<bool, Failure>>, Error> {
        let result = self.inner.opt_outs(change, from, recipients).await;
        let name = match change {
            OptOutChange::Check => return result,
            OptOutChange::Add => "opted_out",
            OptOutChange::Remove => "opted_in",
        };
        let done = result
            .as_ref()
            .map_or(recipients.len(), |answers| answers.iter().filter(|answer| answer.is_ok()).count());
        let on: Vec<_> = std::iter::once((Whom::Sender, from))
            .chain(recipients.iter().map(|recipient| (Whom::Recipient, recipient.as_str())))
            .collect();
        self.audit.effect(name, word(&result), done, &on);
        result
    }
}

#[async_trait]
impl<T: EmailSender> EmailSender for Audited<T> {
    async fn send(&self, operation: uuid::Uuid, mail: &Mail) -> Result<MailProgress, ChannelError> {
        let result = self.inner.send(operation, mail).await;
        let lists = [&mail.to, &mail.cc, &mail.bcc];
        let recipients = lists.into_iter().flatten().map(|address| (Whom::Recipient, address.address()));
        let on: Vec<_> = std::iter::once((Whom::Sender, mail.from.as_str())).chain(recipients).collect();
        let outcome = match &result {
            Ok(MailProgress::Failed(_)) => "refused",
            _ => word_of_channel(&result),
        };
        // ACS calls the mail by the operation that sends it, also one whose answer was lost.
        let id = operation.to_string();
        self.audit.effect_on_messages("mail_sent", outcome, on.len() - 1, &on, &[&id]);
        result
    }

    async fn status(&self, operation: uuid::Uuid) -> Result<Option<MailProgress>, ChannelError> {
        self.inner.status(operation).await
    }
}

/// Rules and keys that are read again leave a record, too.
impl Reloadable for Audited<dyn Reloadable> {
    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        self.inner.files()
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        let result = self.inner.reload(contents);
        let outcome = if result.is_ok() { OK } else { "refused" };
        self.audit.event("reload", &[("what", self.name()), ("outcome", outcome)]);
        result
    }
}
