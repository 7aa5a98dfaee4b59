//! Handlers of EmailService: check the message, ask the core, convert the answer. No rule of its own.

use std::time::Duration;

use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::authn::caller;
use super::convert::email as convert;
use super::observe::budget;
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
        let (caller, trail) = (caller(&request)?, trail::of(&request)?);
        let wish = convert::send(request.into_inner()).map_err(status::of)?;
        if let Some(from) = &wish.from {
            trail.subject(Whom::Sender, from);
        }
        for list in [&wish.to, &wish.cc, &wish.bcc] {
            trail.subjects(Whom::Recipient, list.iter().map(EmailAddress::address));
        }
        trail::admitted(&trail, &caller).await?;
        let report = self.messaging.send_email(&caller, wish).await.map_err(status::of)?;
        trail::sent(&trail, &report.outcomes, ["mail_accepted", "mail_refused", "mail_unknown"]);
        Ok(Response::new(convert::sent(report)))
    }

    async fn get_email(
        &self,
        request: Request<v1::GetEmailRequest>,
    ) -> Result<Response<v1::GetEmailResponse>, Status> {
        let (caller, trail) = (caller(&request)?, trail::of(&request)?);
        // The core ends its wait early enough for the answer to be in time.
        let deadline =
            Instant::now() + budget(request.metadata().as_ref().get("grpc-timeout"), self.default_deadline);
        let (name, wait) = convert::name(request.into_inner()).map_err(status::of)?;
        trail::admitted(&trail, &caller).await?;
        let report =
            self.messaging.get_email(&caller, name, wait.then_some(deadline)).await.map_err(status::of)?;
        Ok(Response::new(convert::found(report)))
    }
}
