//! The client side of our own API, for the commands of `cli`.
//!
//! Keeps tonic and the generated messages to itself: what goes in and comes out are plain values, and an error is told
//! in words of the API (code, reason, fields, when to retry). It never retries and never logs. Not a library for
//! other programs: they generate their own client from `proto/`.

mod chat;
mod connect;
mod failure;
mod messages;

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

pub use self::chat::{ChatMessage, ChatPerson, ChatSend, ChatThread, Listed, RefusedPerson};
pub use self::connect::Proof;
pub use self::failure::Failure;
pub use self::messages::{Delivery, Events, Happening, Message, Name, NewEmail, NewSms, OptOut};
use super::proto::v1;
use crate::broker::types::Scope;
use crate::clock::Timestamp;
use crate::secret::Secret;

/// A token as the API returned it.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The token.
    pub token: Secret,
    /// When it expires.
    pub expires: Timestamp,
    /// From when on a newer one is worth asking for.
    pub refresh: Timestamp,
    /// Whose it is.
    pub acs_user_id: String,
    /// `CACHE` or `ISSUED`.
    pub source: &'static str,
    /// Whether it has less time left than asked for.
    pub degraded: bool,
}

/// One entry of the mapping.
#[derive(Clone, PartialEq, Eq)]
pub struct Mapping {
    /// The app's own id.
    pub user_id: String,
    /// The ACS identity.
    pub acs_user_id: String,
    /// When the mapping was made.
    pub created: Option<Timestamp>,
}

impl std::fmt::Debug for Mapping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mapping { .. }")
    }
}

/// A page of the mapping and where the next one starts; empty on the last page.
#[derive(Debug, Clone)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Mapping>,
    /// The token of the next page.
    pub next: String,
}

/// What became of an import.
#[derive(Debug, Clone, Default)]
pub struct ImportOutcome {
    /// New entries.
    pub imported: u64,
    /// Entries that were there already.
    pub unchanged: u64,
    /// Entries refused.
    pub rejected: u64,
    /// The refused entries: index in the import, reason, message. The server reports the first 100.
    pub problems: Vec<(usize, String, String)>,
}

/// A client of one server. Connects on first use.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    bearer: Option<MetadataValue<Ascii>>,
    server: String,
    timeout: Duration,
}

/// What a client needs to know.
#[derive(Debug, Clone)]
pub struct Target {
    /// `http://host:port` or `https://host:port`.
    pub server: String,
    /// The longest a call may take, connecting included.
    pub timeout: Duration,
    /// What to bring along.
    pub proof: Proof,
}

impl Client {
    /// A client of `target`; the error names a flag and how to mend it.
    pub fn new(target: &Target) -> Result<Self, (&'static str, String)> {
        let channel = connect::channel(target)?;
        let bearer = target.proof.token.as_ref().map(connect::bearer).transpose()?;
        Ok(Self { channel, bearer, server: target.server.clone(), timeout: target.timeout })
    }

    async fn call<T, F>(&self, call: F) -> Result<T, Failure>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failure(&status)),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Failure {
        let within = crate::duration::text(self.timeout);
        Failure::local("DEADLINE_EXCEEDED", format!("no answer within {within}; see --timeout"))
    }

    fn failure(&self, status: &Status) -> Failure {
        let causes = || std::iter::successors(std::error::Error::source(status), |error| error.source());
        // tonic ends a call by the timeout that the request carries, too.
        if causes().any(|error| error.is::<tonic::TimeoutExpired>()) {
            return self.too_late();
        }
        let tls = causes().find_map(|error| {
            let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()).or_else(|| error.downcast_ref())
        });
        if let Some(error) = tls {
            let message =
                format!("TLS with {} failed: {error}; see --ca, --cert, --server-name", self.server);
            return Failure::local("UNAVAILABLE", message);
        }
        let connecting =
            causes().any(|error| error.is::<std::io::Error>() || error.is::<tonic::ConnectError>());
        if status.code() == Code::Unavailable && connecting && status.details().is_empty() {
            let message = format!("cannot connect to {}; is the broker running? see --server", self.server);
            return Failure::local("UNAVAILABLE", message);
        }
        Failure::of(status)
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = self.untimed(message);
        // The server learns how long its answer is of use; our own clock ends the call.
        request.set_timeout(self.timeout);
        request
    }

    fn untimed<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(bearer) = &self.bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        request
    }

    fn tokens(&self) -> v1::token_service_client::TokenServiceClient<Channel> {
        v1::token_service_client::TokenServiceClient::new(self.channel.clone())
    }

    fn identities(&self) -> v1::identity_service_client::IdentityServiceClient<Channel> {
        v1::identity_service_client::IdentityServiceClient::new(self.channel.clone())
    }

    /// `TokenService.IssueToken`.
    pub async fn issue_token(
        &self,
        user: &str,
        scopes: &[Scope],
        validity: Option<Duration>,
        min_remaining: Option<Duration>,
    ) -> Result<Issued, Failure> {
        let request = v1::IssueTokenRequest {
            user_id: user.into(),
            scopes: wire(scopes),
            min_remaining: min_remaining.map(span),
            validity: validity.map(span),
        };
        let issued = self.call(self.tokens().issue_token(self.request(request))).await?;
        let source = match issued.source() {
            v1::TokenSource::Cache => "CACHE",
            v1::TokenSource::Issued => "ISSUED",
            v1::TokenSource::Unspecified => "UNSPECIFIED",
        };
        Ok(Issued {
            token: Secret::new(issued.token),
            expires: time(issued.expire_time).unwrap_or_default(),
            refresh: time(issued.refresh_time).unwrap_or_default(),
            acs_user_id: issued.acs_user_id,
            source,
            degraded: issued.degraded,
        })
    }

    /// `TokenService.RefreshToken`.
    pub async fn refresh_token(
        &self,
        user: &str,
        scopes: &[Scope],
        validity: Option<Duration>,
    ) -> Result<Issued, Failure> {
        let request = v1::RefreshTokenRequest {
            user_id: user.into(),
            scopes: wire(scopes),
            validity: validity.map(span),
        };
        let issued = self.call(self.tokens().refresh_token(self.request(request))).await?;
        Ok(Issued {
            token: Secret::new(issued.token),
            expires: time(issued.expire_time).unwrap_or_default(),
            refresh: time(issued.refresh_time).unwrap_or_default(),
            acs_user_id: issued.acs_user_id,
            source: "ISSUED",
            degraded: false,
        })
    }

    /// `TokenService.RevokeTokens`.
    pub async fn revoke_tokens(&self, user: &str, request_id: &str) -> Result<(), Failure> {
        let request = v1::RevokeTokensRequest { user_id: user.into(), request_id: request_id.into() };
        self.call(self.tokens().revoke_tokens(self.request(request))).await.map(drop)
    }

    /// `IdentityService.ResolveIdentity`; true if the identity is new.
    pub async fn resolve_identity(&self, user: &str) -> Result<(Mapping, bool), Failure> {
        let request = v1::ResolveIdentityRequest { user_id: user.into() };
        let resolved = self.call(self.identities().resolve_identity(self.request(request))).await?;
        Ok((mapping(resolved.identity.unwrap_or_default()), resolved.created))
    }

    /// `IdentityService.GetIdentity` by the app's own id.
    pub async fn get_identity(&self, user: &str) -> Result<Mapping, Failure> {
        self.get(v1::get_identity_request::Key::UserId(user.into())).await
    }

    /// `IdentityService.GetIdentity` by the ACS identity.
    pub async fn get_identity_by_acs_id(&self, id: &str) -> Result<Mapping, Failure> {
        self.get(v1::get_identity_request::Key::AcsUserId(id.into())).await
    }

    async fn get(&self, key: v1::get_identity_request::Key) -> Result<Mapping, Failure> {
        let request = v1::GetIdentityRequest { key: Some(key) };
        let found = self.call(self.identities().get_identity(self.request(request))).await?;
        Ok(mapping(found.identity.unwrap_or_default()))
    }

    /// `IdentityService.DeleteIdentity`.
    pub async fn delete_identity(&self, user: &str, request_id: &str) -> Result<(), Failure> {
        let request = v1::DeleteIdentityRequest { user_id: user.into(), request_id: request_id.into() };
        self.call(self.identities().delete_identity(self.request(request))).await.map(drop)
    }

    /// `IdentityService.ListIdentities`.
    pub async fn list_identities(&self, page_size: i32, page_token: &str) -> Result<Page, Failure> {
        let request = v1::ListIdentitiesRequest { page_size, page_token: page_token.into() };
        let page = self.call(self.identities().list_identities(self.request(request))).await?;
        Ok(Page { entries: page.identities.into_iter().map(mapping).collect(), next: page.next_page_token })
    }

    /// `IdentityService.ImportIdentities`.
    pub async fn import_identities(
        &self,
        entries: Vec<Mapping>,
        validate_only: bool,
    ) -> Result<ImportOutcome, Failure> {
        let messages = entries.into_iter().map(move |entry| v1::ImportIdentitiesRequest {
            identity: Some(v1::Identity {
                user_id: entry.user_id,
                acs_user_id: entry.acs_user_id,
                create_time: entry.created.map(|created| created.to_system_time().into()),
            }),
            validate_only,
        });
        let messages = tokio_stream::iter(messages.collect::<Vec<_>>());
        let outcome = self.call(self.identities().import_identities(self.request(messages))).await?;
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        Ok(ImportOutcome {
            imported: count(outcome.imported_count),
            unchanged: count(outcome.unchanged_count),
            rejected: count(outcome.rejected_count),
            problems: outcome
                .problems
                .into_iter()
                .map(|problem| {
                    (usize::try_from(problem.index).unwrap_or(usize::MAX), problem.reason, problem.message)
                })
                .collect(),
        })
    }

    /// Whether the server says that the service is serving; the empty name stands for the whole server.
    pub async fn is_serving(&self, service: &str) -> Result<bool, Failure> {
        let request = HealthCheckRequest { service: service.into() };
        let mut health = HealthClient::new(self.channel.clone());
        let answer = self.call(health.check(self.request(request))).await?;
        Ok(answer.status() == ServingStatus::Serving)
    }
}

fn wire(scopes: &[Scope]) -> Vec<i32> {
    scopes
        .iter()
        .map(|scope| match scope {
            Scope::Chat => v1::Scope::Chat,
            Scope::ChatJoin => v1::Scope::ChatJoin,
            Scope::ChatJoinLimited => v1::Scope::ChatJoinLimited,
            Scope::Voip => v1::Scope::Voip,
            Scope::VoipJoin => v1::Scope::VoipJoin,
        } as i32)
        .collect()
}

fn span(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    }
}

fn time(time: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    let time = time?;
    let seconds = u64::try_from(time.seconds).unwrap_or_default();
    let millis = u64::try_from(time.nanos).unwrap_or_default() / 1_000_000;
    Some(Timestamp::from_millis(seconds.saturating_mul(1000).saturating_add(millis)))
}

fn mapping(identity: v1::Identity) -> Mapping {
    Mapping {
        user_id: identity.user_id,
        acs_user_id: identity.acs_user_id,
        created: time(identity.create_time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_that_is_not_there_is_told_so() {
        // Bound and closed again: nobody listens there.
        let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let target = target(&format!("http://{address}"));
        let failure = Client::new(&target).unwrap().get_identity("alice").await.unwrap_err();
        assert_eq!(failure.code, "UNAVAILABLE");
        assert!(failure.message.starts_with(&format!("cannot connect to http://{address}")), "{failure}");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_costs_the_timeout() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let timeout = Duration::from_millis(50);
        let target = Target { timeout, ..target(&format!("http://{}", listener.local_addr().unwrap())) };
        let failure = Client::new(&target).unwrap().get_identity("alice").await.unwrap_err();
        assert_eq!(failure.code, "DEADLINE_EXCEEDED");
    }

    fn target(server: &str) -> Target {
        Target { server: server.into(), timeout: Duration::from_secs(10), proof: Proof::default() }
    }

    #[test]
    fn an_address_without_scheme_is_refused_with_the_mend() {
        for server in ["127.0.0.1:50051", "ftp://127.0.0.1:1", "", "http://", "https://user@host:1"] {
            let (flag, what) = Client::new(&target(server)).unwrap_err();
            assert!(flag == "--server" && what.contains("http://127.0.0.1:50051"), "{server}");
        }
    }

    #[tokio::test]
    async fn a_token_leaves_this_machine_over_tls_alone_and_shows_nowhere() {
        let with_token = |server: &str, token: &str| {
            let proof = Proof { token: Some(Secret::new(token)), ..Proof::default() };
            Client::new(&Target { proof, ..target(server) })
        };
        for server in ["http://127.0.0.1:1", "http://[::1]:1", "http://localhost:1"] {
            let client = with_token(server, "a.secret.token\n").unwrap();
            assert_eq!(client.request(()).metadata().get("authorization").unwrap(), "Bearer a.secret.token");
            assert!(!format!("{client:?} {:?}", client.request(())).contains("secret"));
        }
        for server in
            ["http://10.0.0.1:1", "http://broker:1", "http://localhost.evil:1", "http://127.0.0.1.nip.io:1"]
        {
            assert_eq!(with_token(server, "t").unwrap_err().0, "--token-file", "{server}");
        }
        for token in ["", " \n", "two\nlines", "\u{1}"] {
            assert_eq!(with_token("http://127.0.0.1:1", token).unwrap_err().0, "--token-file");
        }
    }

    #[test]
    fn what_needs_tls_is_refused_without_it_and_what_is_no_pem_is_named() {
        let pem = || Some(b"nonsense".to_vec());
        let proofs = [
            (Proof { ca: pem(), ..Proof::default() }, "--ca"),
            (Proof { identity: pem().map(|pem| (pem, Secret::new("x"))), ..Proof::default() }, "--cert"),
        ];
        for (proof, flag) in proofs {
            for server in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
                let target = Target { proof: proof.clone(), ..target(server) };
                assert_eq!(Client::new(&target).unwrap_err().0, flag, "{server}");
            }
        }
        let named = Proof { server_name: Some("broker".into()), ..Proof::default() };
        let target = Target { proof: named, ..target("http://127.0.0.1:1") };
        assert_eq!(Client::new(&target).unwrap_err().0, "--server-name");
    }
}
