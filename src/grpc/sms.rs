//! Handlers of SmsService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use tonic::{Request, Response, Status};

use super::convert::sms as convert;
use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::sms_service_server::SmsService;
use super::{status, trail};
use crate::audit::{Trail, Whom};
use crate::messaging::Messaging;
use crate::messaging::ports::OptOutChange;
use crate::messaging::types::Number;

/// SmsService over the core.
pub(crate) struct Texts {
    messaging: Messaging,
}

impl Texts {
    /// Over that core.
    pub(crate) const fn new(messaging: Messaging) -> Self {
        Self { messaging }
    }

    async fn opt_outs(
        &self,
        permit: &Permit,
        trail: &Trail,
        change: OptOutChange,
        from: String,
        recipients: &[String],
    ) -> Result<Vec<v1::SmsOptOut>, Status> {
        let (from, recipients) = convert::recipients(from, recipients).map_err(status::of)?;
        let sender = from.as_deref().or_else(|| self.messaging.default_sms_sender());
        trail.subjects(Whom::Sender, sender);
        trail.subjects(Whom::Recipient, recipients.iter().map(Number::as_str));
        let caller = permit.sms_from(sender).map_err(status::of)?;
        trail::admitted(trail, caller).await?;
        let opt_outs = self.messaging.opt_outs(change, from, recipients).await.map_err(status::of)?;
        let done = opt_outs.iter().filter(|opt_out| opt_out.outcome.is_ok()).count();
        let effect = match change {
            OptOutChange::Check => "opt_outs_told",
            OptOutChange::Add => "opted_out",
            OptOutChange::Remove => "opted_in",
        };
        trail.effect(effect, done);
        Ok(convert::opt_outs(opt_outs))
    }
}

#[tonic::async_trait]
impl SmsService for Texts {
    async fn send_sms(
        &self,
        request: Request<v1::SendSmsRequest>,
    ) -> Result<Response<v1::SendSmsResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let wish = convert::send(request.into_inner()).map_err(status::of)?;
        let sender = wish.from.as_deref().or_else(|| self.messaging.default_sms_sender());
        trail.subjects(Whom::Sender, sender);
        trail.subjects(Whom::Recipient, wish.to.iter().map(Number::as_str));
        let caller = permit.sms_from(sender).map_err(status::of)?;
        trail::admitted(&trail, caller).await?;
        let report = self.messaging.send_sms(caller, wish).await.map_err(status::of)?;
        trail::sent(&trail, &report.outcomes, ["sms_accepted", "sms_refused", "sms_unknown"]);
        Ok(Response::new(convert::sent(report)))
    }

    async fn get_sms(
        &self,
        request: Request<v1::GetSmsRequest>,
    ) -> Result<Response<v1::GetSmsResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let name = convert::name(request.into_inner()).map_err(status::of)?;
        trail::admitted(&trail, permit.own()).await?;
        let report = self.messaging.get_sms(permit.own(), name).await.map_err(status::of)?;
        Ok(Response::new(convert::found(report)))
    }

    async fn check_sms_opt_outs(
        &self,
        request: Request<v1::CheckSmsOptOutsRequest>,
    ) -> Result<Response<v1::CheckSmsOptOutsResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let v1::CheckSmsOptOutsRequest { from, recipients } = request.into_inner();
        let opt_outs = self.opt_outs(&permit, &trail, OptOutChange::Check, from, &recipients).await?;
        Ok(Response::new(v1::CheckSmsOptOutsResponse { opt_outs }))
    }

    async fn add_sms_opt_outs(
        &self,
        request: Request<v1::AddSmsOptOutsRequest>,
    ) -> Result<Response<v1::AddSmsOptOutsResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let v1::AddSmsOptOutsRequest { from, recipients } = request.into_inner();
        let opt_outs = self.opt_outs(&permit, &trail, OptOutChange::Add, from, &recipients).await?;
        Ok(Response::new(v1::AddSmsOptOutsResponse { opt_outs }))
    }

    async fn remove_sms_opt_outs(
        &self,
        request: Request<v1::RemoveSmsOptOutsRequest>,
    ) -> Result<Response<v1::RemoveSmsOptOutsResponse>, Status> {
        let (permit, trail) = (Permit::of(&request)?, trail::of(&request)?);
        let v1::RemoveSmsOptOutsRequest { from, recipients } = request.into_inner();
        let opt_outs = self.opt_outs(&permit, &trail, OptOutChange::Remove, from, &recipients).await?;
        Ok(Response::new(v1::RemoveSmsOptOutsResponse { opt_outs }))
    }
}
