//! A canary test: no key, token, password or user id in any log at TRACE, in metrics, or in an error.
//!
//! Each of them is a text found nowhere else. They go through every RPC and through its failures, on both stores; then
//! everything the processes said is searched.

use acs_broker::grpc::proto::v1;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};
use v1::get_identity_request::Key;

use crate::harness::{BrokerProcess, Emulator, WEBHOOK_SECRET, chat, emulator_process};
use crate::redis_server::RedisServer;

const USER: &str = "canary-user-4b1f";
const OTHER: &str = "canary-user-77e0";
const PASSWORD: &str = "canary-password-c0de";
/// The key of the second connection string; the text in it is "canary-second-key-e11a-canary-xx".
const SECOND_KEY: &str = "Y2FuYXJ5LXNlY29uZC1rZXktZTExYS1jYW5hcnkteHg=";
/// What every call brings along, whether somebody reads it or not.
const BROUGHT: [(&str, &str); 5] = [
    ("authorization", "Bearer canary-bearer-5a1f.canary-claims-5a1f.canary-signature-5a1f"),
    ("x-acs-broker-user-token", "canary-user-token-5a1f.claims.canary-user-signature-5a1f"),
    ("x-forwarded-client-cert", "By=spiffe://c/p;URI=spiffe://c/canary-workload-5a1f"),
    ("l5d-client-id", "canary-linkerd-5a1f.serviceaccount.identity.linkerd.cluster.local"),
    ("cookie", "session=canary-cookie-5a1f"),
];
/// What may be found of it nowhere.
const PARTS: [&str; 8] = [
    "canary-bearer-5a1f",
    "canary-claims-5a1f",
    "canary-signature-5a1f",
    "canary-user-token-5a1f",
    "canary-user-signature-5a1f",
    "canary-workload-5a1f",
    "canary-linkerd-5a1f",
    "canary-cookie-5a1f",
];

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_and_no_user_id_is_ever_said_aloud() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    said_nothing(&[("STORE__EMBEDDED__PATH", &path)], async || {}).await;

    let mut redis = RedisServer::start_with(&["--requirepass", PASSWORD]);
    redis.log_in("default", PASSWORD);
    let url = redis.url().replace("redis://", &format!("redis://:{PASSWORD}@"));
    let settings = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", url.as_str())];
    let redis = std::sync::Mutex::new(redis);
    said_nothing(&settings, async || redis.lock().unwrap().kill()).await;
}

/// Runs every RPC and its failures, breaks the store last, and searches what was said.
async fn said_nothing(settings: &[(&str, &str)], break_the_store: impl AsyncFnOnce()) {
    let emulator = emulator_process().await;
    let (endpoint, _) = emulator.connection_string.split_once("accesskey=").unwrap();
    let second = format!("{endpoint}accesskey={SECOND_KEY}");
    let more = [("TELEMETRY__FILTER", "trace"), ("ACS__SECONDARY_CONNECTION_STRING", second.as_str())];
    let settings: Vec<_> = settings.iter().copied().chain(more).collect();
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let mut errors = Vec::new();
    let mut secrets = calls(&broker, &mut errors).await;
    break_the_store().await;
    secrets.extend(calls(&broker, &mut errors).await);
    drop_acs(&broker, emulator, &mut errors, secrets).await;
}

async fn drop_acs(
    broker: &BrokerProcess,
    emulator: Emulator,
    errors: &mut Vec<Status>,
    mut secrets: Vec<String>,
) {
    let key = emulator.connection_string.split("accesskey=").nth(1).unwrap().to_owned();
    let emulator_log = emulator.log();
    drop(emulator);
    secrets.extend(calls(broker, errors).await);
    assert!(secrets.len() >= 3, "tokens were issued");
    let log = broker.log();
    assert!(
        log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""),
        "the log is detailed"
    );
    assert!(log.contains("IssueToken") && errors.len() > 10, "there is something to search");
    let errors = format!("{errors:?}");
    let admin = broker.admin().await;
    for (name, said) in
        [("log", &log), ("emulator's log", &emulator_log), ("metrics", &admin), ("errors", &errors)]
    {
        let others = [&key[..], SECOND_KEY, "canary-second-key-e11a", USER, OTHER, PASSWORD, WEBHOOK_SECRET];
        for secret in secrets.iter().map(String::as_str).chain(others).chain(PARTS) {
            // The signature of a token alone is as good as the token to whoever searches for it.
            for part in [secret, secret.rsplit('.').next().unwrap()] {
                if let Some(at) = said.find(part) {
                    let around = &said[at.saturating_sub(120)..at];
                    panic!("the {name} holds a secret ({} bytes long) after: {around}", part.len());
                }
            }
        }
    }
}

/// A request with everything that a caller may bring along.
fn dressed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in BROUGHT {
        request.metadata_mut().insert(name, MetadataValue::from_static(value));
    }
    request
}

/// Every RPC, well and badly asked; gives the tokens seen.
async fn calls(broker: &BrokerProcess, errors: &mut Vec<Status>) -> Vec<String> {
    let (mut tokens, mut identities) = (broker.tokens().await, broker.identities().await);
    let mut seen = Vec::new();
    let user_id = || USER.to_owned();
    for request in [chat(USER), chat(USER), chat(OTHER)] {
        match tokens.issue_token(dressed(request)).await {
            Ok(answer) => seen.push(answer.into_inner().token),
            Err(error) => errors.push(error),
        }
    }
    let scopes = vec![1, 2];
    let refresh = v1::RefreshTokenRequest { user_id: user_id(), scopes, validity: None };
    match tokens.refresh_token(dressed(refresh)).await {
        Ok(answer) => seen.push(answer.into_inner().token),
        Err(error) => errors.push(error),
    }
    let mut failed = |error: Option<Status>| errors.extend(error);
    let resolve = v1::ResolveIdentityRequest { user_id: user_id() };
    failed(identities.resolve_identity(dressed(resolve)).await.err());
    let get = v1::GetIdentityRequest { key: Some(Key::UserId(user_id())) };
    let acs_user_id = match identities.get_identity(dressed(get)).await {
        Ok(answer) => answer.into_inner().identity.unwrap().acs_user_id,
        Err(error) => {
            failed(Some(error));
            "8:acs:unknown".into()
        }
    };
    let get = v1::GetIdentityRequest { key: Some(Key::AcsUserId(acs_user_id.clone())) };
    failed(identities.get_identity(dressed(get)).await.err());
    let list = v1::ListIdentitiesRequest { page_size: 10, page_token: String::new() };
    failed(identities.list_identities(dressed(list)).await.err());
    for (user, identity) in [(USER, acs_user_id.as_str()), (USER, "8:acs:other"), ("", OTHER)] {
        let identity =
            Some(v1::Identity { user_id: user.into(), acs_user_id: identity.into(), create_time: None });
        let entry = v1::ImportIdentitiesRequest { identity, validate_only: false };
        match identities.import_identities(dressed(tokio_stream::iter([entry]))).await {
            Ok(answer) => {
                for problem in answer.into_inner().problems {
                    failed(Some(Status::unknown(format!("{} {}", problem.reason, problem.message))));
                }
            }
            Err(error) => failed(Some(error)),
        }
    }
    let id = "6a0f3c52-93c1-4a10-8d2b-0c8f7a6b5d4e";
    let revoke = v1::RevokeTokensRequest { user_id: user_id(), request_id: id.into() };
    failed(tokens.revoke_tokens(dressed(revoke)).await.err());
    let reused = v1::RevokeTokensRequest { user_id: OTHER.into(), request_id: id.into() };
    failed(tokens.revoke_tokens(dressed(reused)).await.err());
    // Bad requests that carry the user's id in every field there is.
    let everywhere = format!("{USER}\n");
    failed(tokens.issue_token(dressed(chat(&everywhere))).await.err());
    let page = v1::ListIdentitiesRequest { page_size: -1, page_token: everywhere.clone() };
    failed(identities.list_identities(dressed(page)).await.err());
    let get = v1::GetIdentityRequest { key: Some(Key::AcsUserId(everywhere.clone())) };
    failed(identities.get_identity(dressed(get)).await.err());
    let delete = v1::DeleteIdentityRequest { user_id: everywhere.clone(), request_id: everywhere };
    failed(identities.delete_identity(dressed(delete)).await.err());
    let delete = v1::DeleteIdentityRequest { user_id: user_id(), request_id: String::new() };
    failed(identities.delete_identity(dressed(delete.clone())).await.err());
    failed(identities.delete_identity(dressed(delete)).await.err());
    seen
}
