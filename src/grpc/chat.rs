//! Handlers of ChatService: check the message, ask for the permission and then the core, convert the answer. No rule of its own.

use tonic::{Request, Response, Status};

use super::convert::chat as convert;
use super::convert::chat::Wanted;
use super::permit::Permit;
use super::proto::v1;
use super::proto::v1::chat_service_server::ChatService;
use super::{status, trail};
use crate::audit::{Trail, Whom};
use crate::broker::types::{Caller, UserId};
use crate::messaging::chat::Chat;

/// ChatService over the core.
pub(crate) struct Chats {
    chat: Chat,
}

impl Chats {
    /// Over that core.
    pub(crate) const fn new(chat: Chat) -> Self {
        Self { chat }
    }
}

/// A call that has not been let in yet.
struct Call {
    permit: Permit,
    trail: Trail,
}

impl Call {
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        Ok(Self { permit: Permit::of(request)?, trail: trail::of(request)? })
    }

    /// Whoever calls, if it may chat as this user, or as the broker itself, about these users, and if that is on record.
    /// The thread is empty where the call is about none.
    async fn admit(
        &self,
        actor: Option<&UserId>,
        thread: &str,
        about: &[&UserId],
    ) -> Result<&Caller, Status> {
        self.trail.subjects(Whom::User, actor.into_iter().chain(about.iter().copied()).map(UserId::as_str));
        self.trail.subjects(Whom::Thread, (!thread.is_empty()).then_some(thread));
        let caller = self.permit.chat(actor, about.iter().copied()).map_err(status::of)?;
        trail::admitted(&self.trail, caller).await?;
        Ok(caller)
    }
}

#[tonic::async_trait]
impl ChatService for Chats {
    async fn create_chat_thread(
        &self,
        request: Request<v1::CreateChatThreadRequest>,
    ) -> Result<Response<v1::CreateChatThreadResponse>, Status> {
        let call = Call::of(&request)?;
        let (actor, wish) = convert::create(request.into_inner()).map_err(status::of)?;
        let about: Vec<_> = wish.participants.iter().map(|one| &one.user).collect();
        let caller = call.admit(actor.as_ref(), "", &about).await?;
        let created = self.chat.create_thread(caller, actor, wish).await.map_err(status::of)?;
        call.trail.subject(Whom::Thread, &created.thread.id).effect("chat_thread_created", 1);
        Ok(Response::new(convert::created(created)))
    }

    async fn get_chat_thread(
        &self,
        request: Request<v1::GetChatThreadRequest>,
    ) -> Result<Response<v1::GetChatThreadResponse>, Status> {
        let call = Call::of(&request)?;
        let v1::GetChatThreadRequest { acting_user_id, thread_id } = request.into_inner();
        let actor = convert::actor(&acting_user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &thread_id, &[]).await?;
        let thread = self.chat.thread(caller, actor, &thread_id).await.map_err(status::of)?;
        Ok(Response::new(v1::GetChatThreadResponse { thread: Some(convert::thread(thread)) }))
    }

    async fn list_chat_threads(
        &self,
        request: Request<v1::ListChatThreadsRequest>,
    ) -> Result<Response<v1::ListChatThreadsResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let wish = convert::page(Wanted {
            list: "threads",
            acting_user_id: &wanted.acting_user_id,
            thread_id: "",
            page_size: wanted.page_size,
            page_token: &wanted.page_token,
            start_time: wanted.start_time,
        })
        .map_err(status::of)?;
        let caller = call.admit(wish.actor.as_ref(), "", &[]).await?;
        let page = self.chat.threads(caller, wish.actor.clone(), wish.range.clone()).await;
        let page = page.map_err(status::of)?;
        let next_page_token = wish.next(&page);
        let threads = page.entries.into_iter().map(convert::thread).collect();
        Ok(Response::new(v1::ListChatThreadsResponse { threads, next_page_token }))
    }

    async fn update_chat_thread(
        &self,
        request: Request<v1::UpdateChatThreadRequest>,
    ) -> Result<Response<v1::UpdateChatThreadResponse>, Status> {
        let call = Call::of(&request)?;
        let (actor, wish) = convert::update_thread(request.into_inner()).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &wish.thread, &[]).await?;
        self.chat.update_thread(caller, actor, wish).await.map_err(status::of)?;
        call.trail.effect("chat_thread_updated", 1);
        Ok(Response::new(v1::UpdateChatThreadResponse {}))
    }

    async fn delete_chat_thread(
        &self,
        request: Request<v1::DeleteChatThreadRequest>,
    ) -> Result<Response<v1::DeleteChatThreadResponse>, Status> {
        let call = Call::of(&request)?;
        let v1::DeleteChatThreadRequest { acting_user_id, thread_id } = request.into_inner();
        let actor = convert::actor(&acting_user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &thread_id, &[]).await?;
        self.chat.delete_thread(caller, actor, &thread_id).await.map_err(status::of)?;
        call.trail.effect("chat_thread_deleted", 1);
        Ok(Response::new(v1::DeleteChatThreadResponse {}))
    }

    async fn add_chat_participants(
        &self,
        request: Request<v1::AddChatParticipantsRequest>,
    ) -> Result<Response<v1::AddChatParticipantsResponse>, Status> {
        let call = Call::of(&request)?;
        let (actor, thread, participants) = convert::add(request.into_inner()).map_err(status::of)?;
        let about: Vec<_> = participants.iter().map(|one| &one.user).collect();
        let caller = call.admit(actor.as_ref(), &thread, &about).await?;
        let wanted = participants.len();
        let refused = self.chat.add_participants(caller, actor, &thread, participants).await;
        let refused: Vec<_> = refused.map_err(status::of)?.into_iter().map(convert::refused).collect();
        call.trail.effect("chat_participants_added", wanted.saturating_sub(refused.len()));
        Ok(Response::new(v1::AddChatParticipantsResponse { refused }))
    }

    async fn list_chat_participants(
        &self,
        request: Request<v1::ListChatParticipantsRequest>,
    ) -> Result<Response<v1::ListChatParticipantsResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let wish = convert::page(Wanted {
            list: "participants",
            acting_user_id: &wanted.acting_user_id,
            thread_id: &wanted.thread_id,
            page_size: wanted.page_size,
            page_token: &wanted.page_token,
            start_time: None,
        })
        .map_err(status::of)?;
        let caller = call.admit(wish.actor.as_ref(), &wanted.thread_id, &[]).await?;
        let page =
            self.chat.participants(caller, wish.actor.clone(), &wanted.thread_id, wish.range.clone()).await;
        let page = page.map_err(status::of)?;
        let next_page_token = wish.next(&page);
        let participants = page.entries.into_iter().map(convert::participant).collect();
        Ok(Response::new(v1::ListChatParticipantsResponse { participants, next_page_token }))
    }

    async fn remove_chat_participant(
        &self,
        request: Request<v1::RemoveChatParticipantRequest>,
    ) -> Result<Response<v1::RemoveChatParticipantResponse>, Status> {
        let call = Call::of(&request)?;
        let v1::RemoveChatParticipantRequest { acting_user_id, thread_id, user_id } = request.into_inner();
        let (actor, removed) = convert::remove(&acting_user_id, &user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &thread_id, &[&removed]).await?;
        self.chat.remove_participant(caller, actor, &thread_id, removed).await.map_err(status::of)?;
        call.trail.effect("chat_participant_removed", 1);
        Ok(Response::new(v1::RemoveChatParticipantResponse {}))
    }

    async fn send_chat_message(
        &self,
        request: Request<v1::SendChatMessageRequest>,
    ) -> Result<Response<v1::SendChatMessageResponse>, Status> {
        let call = Call::of(&request)?;
        let (actor, wish) = convert::send(request.into_inner()).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &wish.thread, &[]).await?;
        let message_id = self.chat.send_message(caller, actor, wish).await.map_err(status::of)?;
        call.trail.effect("chat_message_sent", 1);
        Ok(Response::new(v1::SendChatMessageResponse { message_id }))
    }

    async fn get_chat_message(
        &self,
        request: Request<v1::GetChatMessageRequest>,
    ) -> Result<Response<v1::GetChatMessageResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let wish = convert::message_wanted(&wanted).map_err(status::of)?;
        let caller = call.admit(wish.actor.as_ref(), &wanted.thread_id, &[]).await?;
        let message = match wish.request {
            Some(request) => {
                self.chat.message_of_request(caller, wish.actor, &wanted.thread_id, request).await
            }
            None => self.chat.message(caller, wish.actor, &wanted.thread_id, &wanted.message_id).await,
        };
        let message = message.map_err(status::of)?;
        Ok(Response::new(v1::GetChatMessageResponse { message: Some(convert::message(message)) }))
    }

    async fn list_chat_messages(
        &self,
        request: Request<v1::ListChatMessagesRequest>,
    ) -> Result<Response<v1::ListChatMessagesResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let wish = convert::page(Wanted {
            list: "messages",
            acting_user_id: &wanted.acting_user_id,
            thread_id: &wanted.thread_id,
            page_size: wanted.page_size,
            page_token: &wanted.page_token,
            start_time: wanted.start_time,
        })
        .map_err(status::of)?;
        let caller = call.admit(wish.actor.as_ref(), &wanted.thread_id, &[]).await?;
        let page =
            self.chat.messages(caller, wish.actor.clone(), &wanted.thread_id, wish.range.clone()).await;
        let page = page.map_err(status::of)?;
        let next_page_token = wish.next(&page);
        let messages = page.entries.into_iter().map(convert::message).collect();
        Ok(Response::new(v1::ListChatMessagesResponse { messages, next_page_token }))
    }

    async fn update_chat_message(
        &self,
        request: Request<v1::UpdateChatMessageRequest>,
    ) -> Result<Response<v1::UpdateChatMessageResponse>, Status> {
        let call = Call::of(&request)?;
        let (actor, wish) = convert::update_message(request.into_inner()).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &wish.thread, &[]).await?;
        self.chat.update_message(caller, actor, wish).await.map_err(status::of)?;
        call.trail.effect("chat_message_updated", 1);
        Ok(Response::new(v1::UpdateChatMessageResponse {}))
    }

    async fn delete_chat_message(
        &self,
        request: Request<v1::DeleteChatMessageRequest>,
    ) -> Result<Response<v1::DeleteChatMessageResponse>, Status> {
        let call = Call::of(&request)?;
        let v1::DeleteChatMessageRequest { acting_user_id, thread_id, message_id } = request.into_inner();
        let actor = convert::actor(&acting_user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &thread_id, &[]).await?;
        self.chat.delete_message(caller, actor, &thread_id, &message_id).await.map_err(status::of)?;
        call.trail.effect("chat_message_deleted", 1);
        Ok(Response::new(v1::DeleteChatMessageResponse {}))
    }

    async fn send_read_receipt(
        &self,
        request: Request<v1::SendReadReceiptRequest>,
    ) -> Result<Response<v1::SendReadReceiptResponse>, Status> {
        let call = Call::of(&request)?;
        let v1::SendReadReceiptRequest { acting_user_id, thread_id, message_id } = request.into_inner();
        let actor = convert::actor(&acting_user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &thread_id, &[]).await?;
        self.chat.send_read_receipt(caller, actor, &thread_id, &message_id).await.map_err(status::of)?;
        call.trail.effect("chat_read_receipt_sent", 1);
        Ok(Response::new(v1::SendReadReceiptResponse {}))
    }

    async fn list_read_receipts(
        &self,
        request: Request<v1::ListReadReceiptsRequest>,
    ) -> Result<Response<v1::ListReadReceiptsResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let wish = convert::page(Wanted {
            list: "receipts",
            acting_user_id: &wanted.acting_user_id,
            thread_id: &wanted.thread_id,
            page_size: wanted.page_size,
            page_token: &wanted.page_token,
            start_time: None,
        })
        .map_err(status::of)?;
        let caller = call.admit(wish.actor.as_ref(), &wanted.thread_id, &[]).await?;
        let page =
            self.chat.read_receipts(caller, wish.actor.clone(), &wanted.thread_id, wish.range.clone()).await;
        let page = page.map_err(status::of)?;
        let next_page_token = wish.next(&page);
        let receipts = page.entries.into_iter().map(convert::receipt).collect();
        Ok(Response::new(v1::ListReadReceiptsResponse { receipts, next_page_token }))
    }

    async fn send_typing_notification(
        &self,
        request: Request<v1::SendTypingNotificationRequest>,
    ) -> Result<Response<v1::SendTypingNotificationResponse>, Status> {
        let call = Call::of(&request)?;
        let wanted = request.into_inner();
        let actor = convert::actor(&wanted.acting_user_id).map_err(status::of)?;
        let caller = call.admit(actor.as_ref(), &wanted.thread_id, &[]).await?;
        let name = &wanted.sender_display_name;
        self.chat.send_typing(caller, actor, &wanted.thread_id, name).await.map_err(status::of)?;
        call.trail.effect("chat_typing_shown", 1);
        Ok(Response::new(v1::SendTypingNotificationResponse {}))
    }
}
