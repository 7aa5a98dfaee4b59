//! Every method this server knows, by path. The names here, never what a caller typed, go into metrics and logs.
//!
//! A test holds the table against the compiled proto files, so that no method can be added without its line, and no
//! method of ours can be open to everybody.

use crate::broker::policy::Rpc;

/// Which service answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// acsbroker.v1.TokenService.
    Token,
    /// acsbroker.v1.IdentityService.
    Identity,
    /// acsbroker.v1.SmsService.
    Sms,
    /// acsbroker.v1.EmailService.
    Email,
    /// acsbroker.v1.ChatService.
    Chat,
    /// acsbroker.v1.EventService.
    Event,
    /// grpc.health.v1.Health.
    Health,
    /// grpc.reflection.v1.ServerReflection.
    Reflection,
    /// grpc.reflection.v1alpha.ServerReflection, which older tools ask.
    ReflectionAlpha,
    /// Nobody.
    Unknown,
}

/// A method.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Method {
    /// The full name, as OpenTelemetry writes `rpc.method`.
    pub(crate) name: &'static str,
    /// Who answers.
    pub(crate) service: Service,
    /// What policies call it; none for what is not of our API.
    pub(crate) rpc: Option<Rpc>,
}

impl Method {
    /// Whether callers need not say who they are: health, for those who probe, and reflection, which tells what the
    /// public proto files tell.
    pub(crate) const fn is_open(&self) -> bool {
        match self.service {
            Service::Health | Service::Reflection | Service::ReflectionAlpha => true,
            Service::Token
            | Service::Identity
            | Service::Sms
            | Service::Email
            | Service::Chat
            | Service::Event
            | Service::Unknown => false,
        }
    }

    /// Whether there is such a method.
    pub(crate) fn is_known(&self) -> bool {
        self.service != Service::Unknown
    }

    /// Whether calls are counted against the limit: probes must be answered at full load too.
    pub(crate) const fn takes_a_seat(&self) -> bool {
        !matches!(self.service, Service::Health)
    }
}

const fn method(name: &'static str, service: Service) -> Method {
    Method { name, service, rpc: None }
}

/// A method of ours.
const fn ours(name: &'static str, service: Service, rpc: Rpc) -> Method {
    Method { name, service, rpc: Some(rpc) }
}

/// The most frequent first.
static METHODS: [Method; 36] = [
    ours("acsbroker.v1.TokenService/IssueToken", Service::Token, Rpc::IssueToken),
    ours("acsbroker.v1.TokenService/RefreshToken", Service::Token, Rpc::RefreshToken),
    ours("acsbroker.v1.TokenService/RevokeTokens", Service::Token, Rpc::RevokeTokens),
    ours("acsbroker.v1.IdentityService/ResolveIdentity", Service::Identity, Rpc::ResolveIdentity),
    ours("acsbroker.v1.IdentityService/GetIdentity", Service::Identity, Rpc::GetIdentity),
    ours("acsbroker.v1.IdentityService/DeleteIdentity", Service::Identity, Rpc::DeleteIdentity),
    ours("acsbroker.v1.IdentityService/ListIdentities", Service::Identity, Rpc::ListIdentities),
    ours("acsbroker.v1.IdentityService/ImportIdentities", Service::Identity, Rpc::ImportIdentities),
    ours("acsbroker.v1.SmsService/SendSms", Service::Sms, Rpc::SendSms),
    ours("acsbroker.v1.SmsService/GetSms", Service::Sms, Rpc::GetSms),
    ours("acsbroker.v1.SmsService/CheckSmsOptOuts", Service::Sms, Rpc::CheckSmsOptOuts),
    ours("acsbroker.v1.SmsService/AddSmsOptOuts", Service::Sms, Rpc::AddSmsOptOuts),
    ours("acsbroker.v1.SmsService/RemoveSmsOptOuts", Service::Sms, Rpc::RemoveSmsOptOuts),
    ours("acsbroker.v1.EmailService/SendEmail", Service::Email, Rpc::SendEmail),
    ours("acsbroker.v1.EmailService/GetEmail", Service::Email, Rpc::GetEmail),
    ours("acsbroker.v1.ChatService/CreateChatThread", Service::Chat, Rpc::CreateChatThread),
    ours("acsbroker.v1.ChatService/GetChatThread", Service::Chat, Rpc::GetChatThread),
    ours("acsbroker.v1.ChatService/ListChatThreads", Service::Chat, Rpc::ListChatThreads),
    ours("acsbroker.v1.ChatService/UpdateChatThread", Service::Chat, Rpc::UpdateChatThread),
    ours("acsbroker.v1.ChatService/DeleteChatThread", Service::Chat, Rpc::DeleteChatThread),
    ours("acsbroker.v1.ChatService/AddChatParticipants", Service::Chat, Rpc::AddChatParticipants),
    ours("acsbroker.v1.ChatService/ListChatParticipants", Service::Chat, Rpc::ListChatParticipants),
    ours("acsbroker.v1.ChatService/RemoveChatParticipant", Service::Chat, Rpc::RemoveChatParticipant),
    ours("acsbroker.v1.ChatService/SendChatMessage", Service::Chat, Rpc::SendChatMessage),
    ours("acsbroker.v1.ChatService/GetChatMessage", Service::Chat, Rpc::GetChatMessage),
    ours("acsbroker.v1.ChatService/ListChatMessages", Service::Chat, Rpc::ListChatMessages),
    ours("acsbroker.v1.ChatService/UpdateChatMessage", Service::Chat, Rpc::UpdateChatMessage),
    ours("acsbroker.v1.ChatService/DeleteChatMessage", Service::Chat, Rpc::DeleteChatMessage),
    ours("acsbroker.v1.ChatService/SendReadReceipt", Service::Chat, Rpc::SendReadReceipt),
    ours("acsbroker.v1.ChatService/ListReadReceipts", Service::Chat, Rpc::ListReadReceipts),
    ours("acsbroker.v1.ChatService/SendTypingNotification", Service::Chat, Rpc::SendTypingNotification),
    ours("acsbroker.v1.EventService/WatchEvents", Service::Event, Rpc::WatchEvents),
    method("grpc.health.v1.Health/Check", Service::Health),
    method("grpc.health.v1.Health/Watch", Service::Health),
    method("grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Service::Reflection),
    method("grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Service::ReflectionAlpha),
];

/// Every method of ours.
#[cfg(test)]
pub(crate) fn of_ours() -> impl Iterator<Item = &'static Method> {
    METHODS.iter().filter(|method| method.rpc.is_some())
}

/// Stands for every path that is not in the table; OpenTelemetry's word for it.
static OTHER: Method = method("_OTHER", Service::Unknown);

/// The method at a path such as `/acsbroker.v1.TokenService/IssueToken`.
pub(crate) fn at(path: &str) -> &'static Method {
    let name = path.strip_prefix('/').unwrap_or_default();
    METHODS.iter().find(|method| method.name == name).unwrap_or(&OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message;

    #[test]
    fn the_table_holds_exactly_the_methods_of_the_proto_files_and_none_is_open() {
        let files = prost_types::FileDescriptorSet::decode(crate::grpc::proto::FILE_DESCRIPTOR_SET).unwrap();
        let mut declared = Vec::new();
        for file in files.file {
            for service in &file.service {
                for method in &service.method {
                    declared.push(format!("{}.{}/{}", file.package(), service.name(), method.name()));
                }
            }
        }
        declared.sort();
        let mut listed: Vec<_> = METHODS.iter().filter(|method| !method.is_open()).collect();
        listed.sort_by_key(|method| method.name);
        assert_eq!(listed.iter().map(|method| method.name).collect::<Vec<_>>(), declared);
    }

    #[test]
    fn every_method_of_ours_has_the_rpc_that_policies_name_and_no_other_has_one() {
        let mut named = Vec::new();
        for method in &METHODS {
            match method.rpc {
                Some(rpc) => {
                    assert_eq!(method.name, format!("acsbroker.v1.{}", rpc.name()));
                    named.push(rpc);
                }
                None => assert!(method.is_open(), "{}", method.name),
            }
        }
        named.sort();
        assert_eq!(named, Rpc::ALL);
    }

    #[test]
    fn only_the_exact_path_finds_a_method() {
        assert_eq!(at("/acsbroker.v1.TokenService/IssueToken").name, "acsbroker.v1.TokenService/IssueToken");
        for other in [
            "",
            "/",
            "acsbroker.v1.TokenService/IssueToken",
            "/acsbroker.v1.TokenService/IssueToken/",
            "//acsbroker.v1.TokenService/IssueToken",
            "/acsbroker.v1.TokenService/issueToken",
            "/grpc.health.v1.Health/check",
        ] {
            assert_eq!(at(other), &OTHER, "{other}");
        }
        assert!(!OTHER.is_open());
    }
}
