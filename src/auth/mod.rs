//! Who is calling: evidence goes in, a [`Caller`] or nothing comes out.
//!
//! Nobody is let in by omission: an empty chain, or one in which nobody claims the caller, refuses. The transport
//! gathers the [`Credentials`] and runs the chain for every call; why somebody was refused is for the log alone.

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use serde::Deserialize;

use crate::broker::types::Caller;

/// `[auth]`: who may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How callers prove who they are.
    pub mode: Mode,
    /// Also accept unauthenticated callers that are not on this machine.
    pub allow_off_loopback: bool,
}

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not at all: anybody who can connect, with every permission.
    Unauthenticated,
}

impl Settings {
    /// The authenticators in the order in which they are asked.
    pub fn chain(&self) -> Vec<Arc<dyn Authenticator>> {
        match self.mode {
            Mode::Unauthenticated => {
                vec![Arc::new(Unauthenticated { allow_off_loopback: self.allow_off_loopback })]
            }
        }
    }
}

/// What a call brings along to prove who makes it.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The address of the other end; none if the transport has no addresses.
    pub peer: Option<SocketAddr>,
}

/// What one authenticator says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This is the caller.
    Caller(Caller),
    /// There is no evidence of the kind this authenticator reads; another may find some.
    NotPresented,
    /// There is evidence, and it is bad. Ends the chain. The text is for the log and holds nothing the caller sent.
    Refused(&'static str),
}

/// Reads one kind of evidence.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Who makes the call.
    async fn authenticate(&self, credentials: &Credentials) -> Verdict;
}

/// Why a chain found no caller; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No authenticator found evidence, or there is none to ask.
    #[error("no authenticator claims the caller")]
    NotClaimed,
    /// One found bad evidence.
    #[error("{0}")]
    Refused(&'static str),
}

/// Asks the authenticators in order. The first that knows the caller or refuses ends it; if none does, nobody called.
pub async fn identify(
    chain: &[Arc<dyn Authenticator>],
    credentials: &Credentials,
) -> Result<Caller, Unidentified> {
    for authenticator in chain {
        match authenticator.authenticate(credentials).await {
            Verdict::Caller(caller) => return Ok(caller),
            Verdict::Refused(why) => return Err(Unidentified::Refused(why)),
            Verdict::NotPresented => {}
        }
    }
    Err(Unidentified::NotClaimed)
}

/// Lets in anybody on this machine, and anybody at all if told twice.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated {
    /// Whether callers from elsewhere are let in too.
    pub allow_off_loopback: bool,
}

/// Made once: cloning it for each call allocates nothing.
static ANYBODY: LazyLock<Caller> = LazyLock::new(|| Caller::new("unauthenticated"));

#[async_trait]
impl Authenticator for Unauthenticated {
    async fn authenticate(&self, credentials: &Credentials) -> Verdict {
        // An IPv4 peer of an IPv6 socket shows as ::ffff:127.0.0.1.
        let local = credentials.peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        if local || self.allow_off_loopback {
            Verdict::Caller(ANYBODY.clone())
        } else {
            Verdict::Refused("unauthenticated callers are accepted from this machine only")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Verdict);

    #[async_trait]
    impl Authenticator for Says {
        async fn authenticate(&self, _: &Credentials) -> Verdict {
            self.0.clone()
        }
    }

    fn chain(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<Arc<dyn Authenticator>> {
        verdicts.into_iter().map(|verdict| Arc::new(Says(verdict)) as Arc<dyn Authenticator>).collect()
    }

    fn from(peer: &str) -> Credentials {
        Credentials { peer: Some(peer.parse().unwrap()) }
    }

    #[tokio::test]
    async fn the_first_refusal_ends_the_chain() {
        let known = Verdict::Caller(Caller::new("orders"));
        let chain = chain([Verdict::NotPresented, Verdict::Refused("bad"), known]);
        assert_eq!(identify(&chain, &Credentials::default()).await, Err(Unidentified::Refused("bad")));
    }

    #[tokio::test]
    async fn the_first_to_know_the_caller_names_it() {
        let chain = chain([
            Verdict::NotPresented,
            Verdict::Caller(Caller::new("orders")),
            Verdict::Caller(Caller::new("other")),
        ]);
        assert_eq!(identify(&chain, &Credentials::default()).await, Ok(Caller::new("orders")));
    }

    #[tokio::test]
    async fn a_caller_nobody_claims_is_refused() {
        let nobody = Err(Unidentified::NotClaimed);
        assert_eq!(identify(&[], &from("127.0.0.1:1")).await, nobody);
        assert_eq!(identify(&chain([Verdict::NotPresented]), &from("127.0.0.1:1")).await, nobody);
    }

    #[tokio::test]
    async fn unauthenticated_means_this_machine_unless_said_twice() {
        let local = Unauthenticated { allow_off_loopback: false };
        for peer in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(matches!(local.authenticate(&from(peer)).await, Verdict::Caller(_)), "{peer}");
        }
        let anywhere = Unauthenticated { allow_off_loopback: true };
        for peer in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[2001:db8::1]:1"] {
            assert!(matches!(local.authenticate(&from(peer)).await, Verdict::Refused(_)), "{peer}");
            assert!(matches!(anywhere.authenticate(&from(peer)).await, Verdict::Caller(_)), "{peer}");
        }
        assert!(matches!(local.authenticate(&Credentials::default()).await, Verdict::Refused(_)));
    }
}
