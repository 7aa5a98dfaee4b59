//! Handlers of EmailService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::convert::email as convert;
use super::observe::budget;
use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::email_service_server::EmailService;
use super::{status, trail};
use crate::audit::Whom;
use crate::messaging::Messaging;
use crate::messaging::types::EmailAddress;

/// EmailService over the core.
pub(crate) struct Emails {
    messaging: Messaging,
    default_deadline: Duration,
}

impl Emails {
    /// With the time a call has when its caller sets no deadline.
    pub(crate) const fn new(messaging: Messaging, default_deadline: Duration) -> Self {
        Self { messaging, default_deadline }
    }
}

#[tonic::async_trait]
impl EmailService for Emails {
    async fn send_email(
        &self,
        request: Request<v1::SendEmailRequest>,
    ) -> Result<Response<v1::SendEmailResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let wish = convert::send(request.into_inner()).map_err(status::of)?;
        let sender = wish.from.as_deref().or_else(|| self.messaging.default_email_sender());
        trail.subjects(Whom::Sender, sender);
        for list in [&wish.to, &wish.cc, &wish.bcc] {
            trail.subjects(Whom::Recipient, list.iter().map(EmailAddress::address));
        }
        let caller = permit.email_from(sender).map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let report = self.messaging.send_email(caller, wish).await.map_err(status::of)?;
        trail::sent(&trail, &report.outcomes, ["mail_accepted", "mail_refused", "mail_unknown"]);
        Ok(Response::new(convert::sent(report)))
    }

    async fn get_email(
        &self,
        request: Request<v1::GetEmailRequest>,
    ) -> Result<Response<v1::GetEmailResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        // The core ends its wait early enough for the answer to be in time.
        let deadline =
            Instant::now() + budget(request.metadata().as_ref().get("grpc-timeout"), self.default_deadline);
        let (name, wait) = convert::name(request.into_inner()).map_err(status::of)?;
        trail::admitted(&trail, permit.own()).await?;
        let until = wait.then_some(deadline);
        let report = self.messaging.get_email(permit.own(), name, until).await.map_err(status::of)?;
        Ok(Response::new(convert::found(report)))
    }
}
