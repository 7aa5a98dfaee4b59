//! The RPCs as permissions name them, `TokenService/IssueToken`, and sets of them.
//!
//! A test of `grpc` holds this list against the proto files, so that no RPC can be added that no policy can name.

/// Declares the RPCs once: a variant each, with its service.
macro_rules! rpcs {
    ($($service:ident { $($rpc:ident),+ $(,)? })+) => {
        /// An RPC of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Rpc {
            $($(
                #[doc = concat!(stringify!($service), ".", stringify!($rpc))]
                $rpc,
            )+)+
        }

        impl Rpc {
            /// All of them, service by service.
            pub const ALL: &[Self] = &[$($(Self::$rpc,)+)+];

            /// The name in policies: `TokenService/IssueToken`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$rpc => concat!(stringify!($service), "/", stringify!($rpc)),)+)+
                }
            }
        }
    };
}

rpcs! {
    TokenService { IssueToken, RefreshToken, RevokeTokens }
    IdentityService { ResolveIdentity, GetIdentity, DeleteIdentity, ListIdentities, ImportIdentities }
    SmsService { SendSms, GetSms, CheckSmsOptOuts, AddSmsOptOuts, RemoveSmsOptOuts }
    EmailService { SendEmail, GetEmail }
    ChatService {
        CreateChatThread, GetChatThread, ListChatThreads, UpdateChatThread, DeleteChatThread,
        AddChatParticipants, ListChatParticipants, RemoveChatParticipant,
        SendChatMessage, GetChatMessage, ListChatMessages, UpdateChatMessage, DeleteChatMessage,
        SendReadReceipt, ListReadReceipts, SendTypingNotification,
    }
    EventService { WatchEvents }
}

// A set is a word of bits.
const _: () = assert!(Rpc::ALL.len() < 64);

impl Rpc {
    /// The RPC of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|rpc| rpc.name() == name)
    }

    /// The service it belongs to: `TokenService`.
    pub fn service(self) -> &'static str {
        self.name().split('/').next().unwrap_or_default()
    }

    const fn bit(self) -> u64 {
        1 << self as u32
    }
}

/// A set of RPCs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RpcSet(u64);

impl RpcSet {
    /// No RPC.
    pub const NONE: Self = Self(0);
    /// Every RPC.
    pub const ALL: Self = Self((1 << Rpc::ALL.len()) - 1);

    /// What a pattern stands for: one RPC by its name, `TokenService/*` or `*`; none if there is no such RPC.
    pub fn of_pattern(pattern: &str) -> Option<Self> {
        let fits = |rpc: &Rpc| match pattern.strip_suffix("/*") {
            Some(service) => rpc.service() == service,
            None => pattern == "*" || rpc.name() == pattern,
        };
        let bits = Rpc::ALL.iter().copied().filter(fits).fold(0, |bits, rpc| bits | rpc.bit());
        (bits != 0).then_some(Self(bits))
    }

    /// Both sets in one.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// With this RPC too.
    #[must_use]
    pub const fn with(self, rpc: Rpc) -> Self {
        Self(self.0 | rpc.bit())
    }

    /// Whether it is in the set.
    pub const fn contains(self, rpc: Rpc) -> bool {
        self.0 & rpc.bit() != 0
    }

    /// The RPCs in it.
    pub fn iter(self) -> impl Iterator<Item = Rpc> {
        Rpc::ALL.iter().copied().filter(move |rpc| self.contains(*rpc))
    }
}
