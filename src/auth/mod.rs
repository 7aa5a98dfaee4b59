//! Who is calling: evidence goes in, a [`Caller`] or nothing comes out.
//!
//! Two steps. An [`Authenticator`] finds out from the [`Credentials`] who was proven, a [`Principal`]; [`Callers`], the
//! policy, knows what the principal is called here and what it may do. [`Gate`] runs both for every call.
//! Nobody is let in by omission: an empty chain, one in which nobody claims the caller, or a principal the policy does
//! not list, is refused. Why somebody was refused is for the log alone.

#[cfg(any(fuzzing, test))]
pub mod fuzzing;
mod json;
pub mod jwks;
pub mod jwt;
pub mod mesh;
pub mod mtls;
pub mod policy;
pub mod shadow;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use http::HeaderMap;
use serde::Deserialize;

use self::shadow::Shadow;
use crate::broker::policy::EndUserRule;
use crate::broker::types::Caller;

/// The header in which a caller passes on the token of the user it acts for.
pub const USER_TOKEN: http::HeaderName = http::HeaderName::from_static("x-acs-broker-user-token");

/// How many policies one call is asked of while they change.
const EDITIONS: usize = 3;

/// `[auth]`: who may call.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// How callers prove who they are.
    pub mode: Mode,
    /// Also accept unauthenticated callers that are not on this machine.
    pub allow_off_loopback: bool,
    /// The policy: who is who, and who may do what.
    pub policy_file: PathBuf,
    /// Note what the policy would refuse, and let it in.
    pub shadow: bool,
    /// `[auth.mesh]`.
    pub mesh: mesh::Settings,
}

/// How callers prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Not at all: anybody who can connect, with every permission.
    Unauthenticated,
    /// With evidence, and may do what the policy file says.
    Policy,
}

/// What is known of the other end of a connection, found out once when it begins.
#[derive(Debug, Clone, Default)]
pub struct Peer {
    /// Its address; none if the transport has no addresses.
    pub address: Option<SocketAddr>,
    /// The client certificate that TLS verified; none without mutual TLS.
    pub certificate: Option<Arc<Certificate>>,
}

impl Peer {
    /// Whether it is on this machine.
    pub fn is_local(&self) -> bool {
        // An IPv4 peer of an IPv6 socket shows as ::ffff:127.0.0.1.
        self.address.is_some_and(|peer| peer.ip().to_canonical().is_loopback())
    }
}

/// The names in a certificate that TLS has verified: chain, validity and possession of its key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Certificate {
    /// URI names, SPIFFE ids among them, in the order of the certificate.
    pub uris: Vec<String>,
    /// DNS names.
    pub dns: Vec<String>,
}

/// What a call brings along to prove who makes it. Headers are what the caller wrote: nothing in them is proven.
#[derive(Debug, Clone, Copy)]
pub struct Credentials<'a> {
    /// The connection it came on.
    pub peer: &'a Peer,
    /// The headers of the call.
    pub headers: &'a HeaderMap,
}

/// Who was proven, before the policy gives it a name. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub enum Principal {
    /// Nobody in particular: somebody who could connect.
    Anybody,
    /// Whoever holds the key of this certificate.
    Certificate(Arc<Certificate>),
    /// Whom a verified token names.
    Token(Arc<Claims>),
    /// Whom a pinned proxy of the mesh vouches for: the SPIFFE id or the workload's DNS-like name it has proven.
    Mesh(Arc<str>),
}

/// What a verified token says.
#[derive(Clone, PartialEq, Eq)]
pub struct Claims {
    /// The name that the policy file gives the issuer.
    pub issuer: Arc<str>,
    /// `sub`.
    pub subject: String,
    /// Every claim of the token.
    pub all: serde_json::Map<String, serde_json::Value>,
}

/// What one authenticator says of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// This was proven.
    Proven(Principal),
    /// There is no evidence of the kind this authenticator reads; another may find some.
    NotPresented,
    /// There is evidence, and it is bad. Ends the chain. The text is for the log and holds nothing the caller sent.
    Refused(&'static str),
    /// There is evidence, and the broker lacks what it takes to judge it. Ends the chain. The text is for the log.
    Unclear(&'static str),
}

/// Reads one kind of evidence.
#[async_trait]
pub trait Authenticator: Send + Sync {
    /// Who is proven to make the call.
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict;
}

/// Knows what proven principals are called here: the policy.
pub trait Callers: Send + Sync {
    /// The caller with what it may do; none if the policy does not list it.
    fn caller(&self, principal: &Principal) -> Option<Caller>;

    /// Tells one policy from the next. Whoever was proven under one is not looked up in another: the same name of an
    /// issuer may mean somebody else there.
    fn edition(&self) -> u64 {
        0
    }
}

/// Verifies the tokens of end users that callers pass on.
#[async_trait]
pub trait EndUsers: Send + Sync {
    /// What the token says, if this issuer of the policy has signed it.
    async fn verify(&self, issuer: &str, token: &str) -> Result<Arc<Claims>, Unproven>;
}

/// Why the token of an end user does not count. The texts are for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unproven {
    /// It is missing or bad.
    Bad(&'static str),
    /// The broker lacks what it takes to judge it.
    Unclear(&'static str),
}

impl Unproven {
    /// Its text.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Bad(text) | Self::Unclear(text) => text,
        }
    }
}

impl From<&'static str> for Unproven {
    fn from(text: &'static str) -> Self {
        Self::Bad(text)
    }
}

/// Why no caller was found; for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unidentified {
    /// No authenticator found evidence, or there is none to ask.
    #[error("no authenticator claims the caller")]
    NotClaimed,
    /// One found bad evidence.
    #[error("{0}")]
    Refused(&'static str),
    /// One found evidence that cannot be judged now.
    #[error("{0}")]
    Unclear(&'static str),
    /// The evidence is good, and the policy does not list whom it proves.
    #[error("the policy lists no such caller")]
    NotListed,
}

/// What every call passes before a handler sees it.
pub struct Gate {
    chain: Vec<Arc<dyn Authenticator>>,
    callers: Arc<dyn Callers>,
    end_users: Option<Arc<dyn EndUsers>>,
    shadow: Option<Arc<Shadow>>,
}

impl Gate {
    /// Asks the authenticators in this order, and this policy for the name.
    pub fn new(chain: Vec<Arc<dyn Authenticator>>, callers: Arc<dyn Callers>) -> Self {
        Self { chain, callers, end_users: None, shadow: None }
    }

    /// Lets anybody on this machine do anything, and anybody at all if told twice.
    pub fn open(allow_off_loopback: bool) -> Self {
        Self::new(vec![Arc::new(Unauthenticated { allow_off_loopback })], Arc::new(Everything))
    }

    /// Lets nobody in.
    pub fn shut() -> Self {
        Self::new(Vec::new(), Arc::new(Everything))
    }

    /// With somebody who verifies the tokens of end users. Without, none is good.
    #[must_use]
    pub fn with_end_users(self, end_users: Arc<dyn EndUsers>) -> Self {
        Self { end_users: Some(end_users), ..self }
    }

    /// In shadow mode: whom it would refuse, it notes and lets in.
    #[must_use]
    pub fn in_shadow(self, shadow: Arc<Shadow>) -> Self {
        Self { shadow: Some(shadow), ..self }
    }

    /// Who makes the call. The first authenticator that knows the principal or refuses ends the chain. All of it is asked
    /// of one policy: if that changes meanwhile, it is asked again of the new one.
    pub async fn identify(&self, credentials: &Credentials<'_>) -> Result<Caller, Unidentified> {
        for _ in 0..EDITIONS {
            let edition = self.callers.edition();
            let identified = self.identify_in_one(credentials).await;
            if self.callers.edition() == edition {
                return identified;
            }
        }
        Err(Unidentified::Unclear("the policy changes too often"))
    }

    async fn identify_in_one(&self, credentials: &Credentials<'_>) -> Result<Caller, Unidentified> {
        let (principal, why) = match self.prove(credentials).await {
            Ok(principal) => match self.callers.caller(&principal) {
                Some(caller) => return Ok(caller),
                None => (Some(principal), Unidentified::NotListed),
            },
            Err(why) => (None, why),
        };
        match &self.shadow {
            Some(shadow) => shadow.stranger(credentials.peer, principal.as_ref(), why),
            None => Err(why),
        }
    }

    async fn prove(&self, credentials: &Credentials<'_>) -> Result<Principal, Unidentified> {
        for authenticator in &self.chain {
            match authenticator.authenticate(credentials).await {
                Verdict::Proven(principal) => return Ok(principal),
                Verdict::Refused(why) => return Err(Unidentified::Refused(why)),
                Verdict::Unclear(why) => return Err(Unidentified::Unclear(why)),
                Verdict::NotPresented => {}
            }
        }
        Err(Unidentified::NotClaimed)
    }

    /// The user id that the end user's own token names, if it is there and good.
    pub async fn end_user(
        &self,
        rule: &EndUserRule,
        credentials: &Credentials<'_>,
    ) -> Result<String, Unproven> {
        let end_users = self.end_users.as_ref().ok_or("nobody verifies the tokens of end users")?;
        let mut sent = credentials.headers.get_all(&USER_TOKEN).iter();
        let token = match (sent.next(), sent.next()) {
            (Some(token), None) => token.to_str().map_err(|_| "the end user's token is no text")?,
            (None, _) => return Err("there is no token of the end user".into()),
            (Some(_), Some(_)) => return Err("there is more than one token of the end user".into()),
        };
        let claims = end_users.verify(&rule.issuer, token).await?;
        match claims.all.get(rule.claim.as_ref()) {
            Some(serde_json::Value::String(id)) => Ok(id.clone()),
            _ => Err("the end user's token has no such claim, or it is no text".into()),
        }
    }
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("authenticators", &self.chain.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Certificate({} URI names, {} DNS names)", self.uris.len(), self.dns.len())
    }
}

impl fmt::Debug for Claims {
    /// How many there are: what they say may be about a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Claims({} of issuer {})", self.all.len(), self.issuer)
    }
}

impl fmt::Debug for Principal {
    /// The kind alone: a token's subject may be a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anybody => "Anybody",
            Self::Certificate(_) => "Certificate",
            Self::Token(_) => "Token",
            Self::Mesh(_) => "Mesh",
        })
    }
}

/// The policy of a broker that authenticates nobody: anybody is one caller, with every permission.
#[derive(Debug, Clone, Copy)]
struct Everything;

/// What callers are called who have proven nothing.
pub(crate) const UNAUTHENTICATED: &str = "unauthenticated";

/// Made once: cloning it for each call allocates nothing.
static ANYBODY: LazyLock<Caller> = LazyLock::new(|| Caller::unlimited(UNAUTHENTICATED));

impl Callers for Everything {
    fn caller(&self, principal: &Principal) -> Option<Caller> {
        matches!(principal, Principal::Anybody).then(|| ANYBODY.clone())
    }
}

/// Lets in anybody on this machine, and anybody at all if told twice.
#[derive(Debug, Clone, Copy)]
pub struct Unauthenticated {
    /// Whether callers from elsewhere are let in too.
    pub allow_off_loopback: bool,
}

#[async_trait]
impl Authenticator for Unauthenticated {
    async fn authenticate(&self, credentials: &Credentials<'_>) -> Verdict {
        if credentials.peer.is_local() || self.allow_off_loopback {
            Verdict::Proven(Principal::Anybody)
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
        async fn authenticate(&self, _: &Credentials<'_>) -> Verdict {
            self.0.clone()
        }
    }

    /// Knows callers of the mesh only, by the name the mesh gives them.
    struct ByMeshName;

    impl Callers for ByMeshName {
        fn caller(&self, principal: &Principal) -> Option<Caller> {
            match principal {
                Principal::Mesh(name) => Some(Caller::new(Arc::clone(name))),
                _ => None,
            }
        }
    }

    fn known(name: &str) -> Verdict {
        Verdict::Proven(Principal::Mesh(name.into()))
    }

    async fn identified(verdicts: impl IntoIterator<Item = Verdict>) -> Result<Caller, Unidentified> {
        let chain =
            verdicts.into_iter().map(|verdict| Arc::new(Says(verdict)) as Arc<dyn Authenticator>).collect();
        let (peer, headers) = (Peer::default(), HeaderMap::new());
        Gate::new(chain, Arc::new(ByMeshName)).identify(&Credentials { peer: &peer, headers: &headers }).await
    }

    async fn from(peer: Option<&str>, allow_off_loopback: bool) -> Result<Caller, Unidentified> {
        let peer = Peer { address: peer.map(|peer| peer.parse().unwrap()), certificate: None };
        let headers = HeaderMap::new();
        Gate::open(allow_off_loopback).identify(&Credentials { peer: &peer, headers: &headers }).await
    }

    #[tokio::test]
    async fn the_first_refusal_ends_the_chain() {
        let verdicts = [Verdict::NotPresented, Verdict::Refused("bad"), known("orders")];
        assert_eq!(identified(verdicts).await, Err(Unidentified::Refused("bad")));
    }

    #[tokio::test]
    async fn the_first_to_know_the_principal_decides() {
        let verdicts = [Verdict::NotPresented, known("orders"), known("other")];
        assert_eq!(identified(verdicts).await, Ok(Caller::new("orders")));
        let verdicts = [Verdict::Proven(Principal::Anybody), known("other")];
        assert_eq!(identified(verdicts).await, Err(Unidentified::NotListed), "not asked any further");
    }

    #[tokio::test]
    async fn a_caller_nobody_claims_is_refused() {
        assert_eq!(identified([]).await, Err(Unidentified::NotClaimed));
        assert_eq!(identified([Verdict::NotPresented]).await, Err(Unidentified::NotClaimed));
        let (peer, headers) = (Peer::default(), HeaderMap::new());
        let shut = Gate::shut().identify(&Credentials { peer: &peer, headers: &headers }).await;
        assert_eq!(shut, Err(Unidentified::NotClaimed));
    }

    #[tokio::test]
    async fn unauthenticated_means_this_machine_unless_said_twice() {
        for peer in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(from(Some(peer), false).await.is_ok(), "{peer}");
        }
        for peer in ["10.0.0.1:1", "[::ffff:10.0.0.1]:1", "[2001:db8::1]:1"] {
            assert!(matches!(from(Some(peer), false).await, Err(Unidentified::Refused(_))), "{peer}");
            assert!(from(Some(peer), true).await.is_ok(), "{peer}");
        }
        assert!(matches!(from(None, false).await, Err(Unidentified::Refused(_))));
    }
}
