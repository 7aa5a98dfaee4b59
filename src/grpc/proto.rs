//! The generated messages, clients and servers of `proto/`, and the descriptor set for reflection.
//!
//! The messages have no derived `Debug`: it would print tokens, user ids, numbers and texts. The one given here prints the type alone.

#![allow(missing_docs, unreachable_pub, clippy::all, clippy::disallowed_methods, reason = "generated code")]

/// Version 1 of the API.
pub mod v1 {
    tonic::include_proto!("acsbroker.v1");
}

/// The compiled proto files, for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("acsbroker_descriptor");

macro_rules! opaque_debug {
    ($($message:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($message), " { .. }"))
            }
        }
    )+};
}

opaque_debug!(
    v1::Identity,
    v1::ResolveIdentityRequest,
    v1::ResolveIdentityResponse,
    v1::GetIdentityRequest,
    v1::get_identity_request::Key,
    v1::GetIdentityResponse,
    v1::DeleteIdentityRequest,
    v1::DeleteIdentityResponse,
    v1::ListIdentitiesRequest,
    v1::ListIdentitiesResponse,
    v1::ImportIdentitiesRequest,
    v1::ImportIdentitiesResponse,
    v1::ImportProblem,
    v1::IssueTokenRequest,
    v1::IssueTokenResponse,
    v1::RefreshTokenRequest,
    v1::RefreshTokenResponse,
    v1::RevokeTokensRequest,
    v1::RevokeTokensResponse,
);

// What is sent, and what became of it.
opaque_debug!(
    v1::MessageFailure,
    v1::SmsOutcome,
    v1::SendSmsRequest,
    v1::SendSmsResponse,
    v1::GetSmsRequest,
    v1::get_sms_request::Name,
    v1::GetSmsResponse,
    v1::CheckSmsOptOutsRequest,
    v1::SmsOptOut,
    v1::CheckSmsOptOutsResponse,
    v1::AddSmsOptOutsRequest,
    v1::AddSmsOptOutsResponse,
    v1::RemoveSmsOptOutsRequest,
    v1::RemoveSmsOptOutsResponse,
    v1::EmailAddress,
    v1::EmailAttachment,
    v1::SendEmailRequest,
    v1::SendEmailResponse,
    v1::GetEmailRequest,
    v1::get_email_request::Name,
    v1::EmailDelivery,
    v1::GetEmailResponse,
    v1::ChatParty,
    v1::ChatThread,
    v1::ChatParticipant,
    v1::RefusedParticipant,
    v1::ChatMessage,
    v1::CreateChatThreadRequest,
    v1::CreateChatThreadResponse,
    v1::GetChatThreadRequest,
    v1::GetChatThreadResponse,
    v1::ListChatThreadsRequest,
    v1::ListChatThreadsResponse,
    v1::UpdateChatThreadRequest,
    v1::UpdateChatThreadResponse,
    v1::DeleteChatThreadRequest,
    v1::DeleteChatThreadResponse,
    v1::AddChatParticipantsRequest,
    v1::AddChatParticipantsResponse,
    v1::ListChatParticipantsRequest,
    v1::ListChatParticipantsResponse,
    v1::RemoveChatParticipantRequest,
    v1::RemoveChatParticipantResponse,
    v1::SendChatMessageRequest,
    v1::SendChatMessageResponse,
    v1::GetChatMessageRequest,
    v1::GetChatMessageResponse,
    v1::ListChatMessagesRequest,
    v1::ListChatMessagesResponse,
    v1::UpdateChatMessageRequest,
    v1::UpdateChatMessageResponse,
    v1::DeleteChatMessageRequest,
    v1::DeleteChatMessageResponse,
    v1::SendReadReceiptRequest,
    v1::SendReadReceiptResponse,
    v1::ListReadReceiptsRequest,
    v1::ReadReceipt,
    v1::ListReadReceiptsResponse,
    v1::SendTypingNotificationRequest,
    v1::SendTypingNotificationResponse,
    v1::WatchEventsRequest,
    v1::WatchEventsResponse,
    v1::watch_events_response::Event,
    v1::SmsDeliveryEvent,
    v1::SmsReceivedEvent,
    v1::EmailDeliveryEvent,
    v1::EmailEngagementEvent,
    v1::ChatEvent,
);

// Enums hold nothing of anybody: they print their names.
macro_rules! named_debug {
    ($($enumeration:ty),+ $(,)?) => {$(
        impl std::fmt::Debug for $enumeration {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str_name())
            }
        }
    )+};
}

named_debug!(v1::Scope, v1::TokenSource, v1::MessageState, v1::ChatMessageType, v1::EventKind);
