//! What lies in the store: with a key ring and a hash key, nothing that names, reaches or impersonates a person.
//!
//! Texts found nowhere else go through identities, tokens, messages and events; then every key and value of Redis, what
//! Redis ever wrote to its file, and every byte of the embedded file are searched. The same run without keys must find
//! them, or the search would prove nothing.

use std::path::Path;

use acs_broker::grpc::proto::v1;
use redis::Value;
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::harness::messages::{self, address, new_id, participant, sending};
use crate::harness::{BrokerProcess, chat, emulator_process, until};
use crate::redis_server::RedisServer;

const USER: &str = "canary-user-91d3";
const REVOKED: &str = "canary-revoked-91d3";
const CHATTING: &str = "canary-chatting-91d3";
/// What people are reached by, and what they say; each with whether a store without keys holds it.
const CANARIES: [(&str, bool); 13] = [
    (USER, true),
    (REVOKED, true),
    (CHATTING, true),
    ("4255558841", true),
    ("4255558842", true),
    ("canary-tag-91d3", true),
    ("canary-to-91d3@example.com", true),
    ("canary-cc-91d3@example.com", true),
    ("canary-inbound-91d3", true),
    ("canary-said-91d3", true),
    ("canary-topic-91d3", true),
    // What is sent is never kept at all.
    ("canary-text-91d3", false),
    ("canary-subject-91d3", false),
];

const HASH_KEY: &str = "b9qvJYTPeRB1tV5ZrQ2mXc8LwHs3NdKf";

fn key_line(id: &str, number: u8) -> String {
    use base64::Engine as _;
    let key: Vec<u8> = (0..32u8).map(|at| at.wrapping_mul(7).wrapping_add(number)).collect();
    format!("{id}:{}\n", base64::engine::general_purpose::STANDARD.encode(key))
}

/// Everything a broker writes down; gives the tokens it issued.
async fn run(settings: &[(&str, &str)]) -> (BrokerProcess, Vec<String>) {
    let emulator = emulator_process().await;
    let settings: Vec<_> = sending().into_iter().chain(settings.iter().copied()).collect();
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    emulator.post_events_to(json!([{ "url": broker.webhook_with_secret() }])).await;
    let (mut tokens, mut identities) = (broker.tokens().await, broker.identities().await);
    let mut issued = Vec::new();
    for user in [USER, REVOKED, USER] {
        issued.push(tokens.issue_token(chat(user)).await.unwrap().into_inner().token);
    }
    assert_eq!(issued[0], issued[2], "the second is from the cache");
    let revoke = v1::RevokeTokensRequest { user_id: REVOKED.into(), request_id: new_id() };
    tokens.revoke_tokens(revoke.clone()).await.unwrap();
    tokens.revoke_tokens(revoke).await.unwrap();
    issued.push(tokens.issue_token(chat(REVOKED)).await.unwrap().into_inner().token);

    let mut sms = messages::sms(&new_id(), vec!["+14255558841".into()], "canary-text-91d3");
    sms.tag = "canary-tag-91d3".into();
    let request_id = sms.request_id.clone();
    broker.sms().send_sms(sms.clone()).await.unwrap();
    broker.sms().send_sms(sms).await.unwrap();
    let name = Some(v1::get_sms_request::Name::RequestId(request_id));
    let kept = broker.sms().get_sms(v1::GetSmsRequest { name }).await.unwrap().into_inner();
    assert_eq!(kept.outcomes[0].to, "+14255558841");
    let mut mail = messages::mail(&new_id(), "canary-to-91d3@example.com", "canary-subject-91d3");
    mail.cc = vec![address("canary-cc-91d3@example.com")];
    broker.email().send_email(mail).await.unwrap();
    let create = v1::CreateChatThreadRequest {
        acting_user_id: CHATTING.into(),
        request_id: new_id(),
        topic: "canary-topic-91d3".into(),
        participants: vec![participant(USER)],
        ..Default::default()
    };
    let thread = broker.chats().create_chat_thread(create).await.unwrap().into_inner().thread.unwrap();
    let say = v1::SendChatMessageRequest {
        acting_user_id: CHATTING.into(),
        thread_id: thread.thread_id,
        request_id: new_id(),
        text: "canary-said-91d3".into(),
        ..Default::default()
    };
    broker.chats().send_chat_message(say).await.unwrap();
    emulator.api().receive_sms("+14255558842", messages::NUMBER, "canary-inbound-91d3").await;
    for kind in ["sms_delivery", "sms_received", "email_delivery", "chat"] {
        let counted = format!("kind=\"{kind}\"");
        until(kind, async || broker.admin().await.contains(&counted)).await;
    }

    let list = v1::ListIdentitiesRequest { page_size: 1000, page_token: String::new() };
    let page = identities.list_identities(list).await.unwrap().into_inner();
    let listed: Vec<&str> = page.identities.iter().map(|identity| identity.user_id.as_str()).collect();
    for user in [USER, REVOKED, CHATTING] {
        assert!(listed.contains(&user), "{user} is listed");
    }
    (broker, issued)
}

/// How often each canary is in what is kept: its name and how often.
fn search(kept: &[u8], tokens: &[String]) -> Vec<(String, usize)> {
    let mut counts = Vec::new();
    let mut count = |name: &str, wanted: &[u8]| {
        let found = kept.windows(wanted.len()).filter(|part| *part == wanted).count();
        counts.push((name.to_owned(), found));
    };
    for (number, token) in tokens.iter().enumerate() {
        count(&format!("token {number}"), token.as_bytes());
        count(&format!("signature of token {number}"), token.rsplit('.').next().unwrap().as_bytes());
    }
    for (canary, _) in CANARIES {
        count(canary, canary.as_bytes());
    }
    for user in [USER, REVOKED, CHATTING] {
        // Whoever has a list of users can hash it.
        let digest = Sha256::digest(user.as_bytes());
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        count(&format!("sha256 of {user}"), &digest);
        count(&format!("sha256 of {user}, hex"), hex.as_bytes());
    }
    counts
}

fn judge(kept: &[u8], tokens: &[String], is_sealed: bool) {
    let counts = search(kept, tokens);
    let found: usize = counts.iter().map(|(_, count)| count).sum();
    let how = if is_sealed { "sealed" } else { "without keys" };
    println!("at rest, {how}: {} bytes searched for {} texts, {found} found", kept.len(), counts.len());
    if is_sealed {
        assert_eq!(found, 0, "{counts:?}");
        return;
    }
    for (canary, is_kept) in CANARIES {
        let (_, count) = counts.iter().find(|(name, _)| name == canary).unwrap();
        assert_eq!(*count > 0, is_kept, "{canary}: {counts:?}");
    }
    // The last token of each user is there.
    for token in [2, 3] {
        let name = format!("token {token}");
        assert!(counts.iter().any(|(found, count)| *found == name && *count > 0), "{counts:?}");
    }
}

/// The bytes in a reply.
fn flatten(reply: Value, into: &mut Vec<u8>) {
    match reply {
        Value::BulkString(bytes) => into.extend([bytes.as_slice(), b"\n"].concat()),
        Value::SimpleString(text) => into.extend(text.into_bytes()),
        Value::Array(all) | Value::Set(all) => all.into_iter().for_each(|reply| flatten(reply, into)),
        Value::Map(all) => all.into_iter().for_each(|(key, value)| {
            flatten(key, into);
            flatten(value, into);
        }),
        _ => {}
    }
}

/// Every key and value of a Redis.
fn all_of(server: &RedisServer) -> Vec<u8> {
    let mut bytes = Vec::new();
    let keys: Vec<String> = server.command(&["KEYS", "*"]);
    assert!(keys.len() > 15, "{keys:?}");
    for key in keys {
        let kind: String = server.command(&["TYPE", &key]);
        let value: Value = match kind.as_str() {
            "string" => server.command(&["GET", &key]),
            "zset" => server.command(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]),
            "stream" => server.command(&["XRANGE", &key, "-", "+"]),
            "hash" => server.command(&["HGETALL", &key]),
            "none" => continue,
            other => panic!("a {other} is not searched"),
        };
        bytes.extend_from_slice(key.as_bytes());
        bytes.push(b'\n');
        flatten(value, &mut bytes);
    }
    bytes
}

/// The bytes of every file under a folder.
fn files_in(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() { files_in(&path) } else { std::fs::read(path).unwrap() });
    }
    bytes
}

async fn redis_tells(is_sealed: bool, seal: &[(&str, &str)]) {
    let server = RedisServer::start_with(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no"]);
    let url = server.url();
    let common = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", url.as_str())];
    let settings: Vec<_> = common.into_iter().chain(seal.iter().copied()).collect();
    let (broker, tokens) = run(&settings).await;
    judge(&all_of(&server), &tokens, is_sealed);
    drop(broker);
    // What it wrote as it went: also what was kept only for a moment.
    judge(&files_in(server.folder()), &tokens, is_sealed);
}

async fn a_file_tells(is_sealed: bool, seal: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    let settings: Vec<_> =
        [("STORE__EMBEDDED__PATH", path.as_str())].into_iter().chain(seal.iter().copied()).collect();
    let (broker, tokens) = run(&settings).await;
    // Tokens reach the file within a second.
    until("the last token is in the file", async || {
        let size = |bytes: &[u8]| search(bytes, &tokens).iter().filter(|(_, count)| *count > 0).count();
        is_sealed || size(&files_in(folder.path())) > CANARIES.len()
    })
    .await;
    drop(broker);
    judge(&files_in(folder.path()), &tokens, is_sealed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_store_tells_nothing_to_whoever_reads_it() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys").to_string_lossy().into_owned();
    std::fs::write(&keys, key_line("k1", 1)).unwrap();
    let seal = [
        ("STORE__SEAL__KEYS_FILE", keys.as_str()),
        ("STORE__SEAL__MODE", "require"),
        ("STORE__SEAL__HASH_KEY", HASH_KEY),
    ];
    redis_tells(true, &seal).await;
    a_file_tells(true, &seal).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_search_finds_all_of_it_in_a_store_without_keys() {
    redis_tells(false, &[]).await;
    a_file_tells(false, &[]).await;
}

const USERS: usize = 40;

/// Issues a token for each user; says how many came from the cache.
async fn cached(broker: &BrokerProcess) -> usize {
    let mut tokens = broker.tokens().await;
    let mut cached = 0;
    for number in 0..USERS {
        let answer = tokens.issue_token(chat(&format!("user-{number}"))).await.unwrap().into_inner();
        cached += usize::from(answer.source() == v1::TokenSource::Cache);
    }
    cached
}

#[tokio::test(flavor = "multi_thread")]
async fn seal_keys_rotate_under_a_running_broker_without_a_cache_miss() {
    let (server, folder) = (RedisServer::start(), tempfile::tempdir().unwrap());
    let keys = folder.path().join("keys");
    let (old, new) = (key_line("old", 1), key_line("new", 2));
    std::fs::write(&keys, &old).unwrap();
    let emulator = emulator_process().await;
    let (url, file) = (server.url(), keys.to_string_lossy().into_owned());
    let settings = [
        ("STORE__BACKEND", "redis"),
        ("STORE__REDIS__URL", url.as_str()),
        ("STORE__REDIS__TIMEOUT", "5s"),
        ("STORE__SEAL__KEYS_FILE", file.as_str()),
    ];
    let broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    assert_eq!(cached(&broker).await, 0);
    let mut looked = 0;
    let said = |what: &str| broker.log().matches(what).count();
    // In force once it is said; a bad file in between changes nothing.
    for (content, keys_now) in [(format!("{old}{new}"), "old,new"), (format!("{new}{old}"), "new,old")] {
        std::fs::write(&keys, "not a key file").unwrap();
        until("the bad file is refused", async || said("cannot be used") > 0).await;
        assert_eq!(cached(&broker).await, USERS);
        std::fs::write(&keys, content).unwrap();
        until("the new file is read", async || said(&format!("\"keys\":\"{keys_now}\"")) > 0).await;
        assert_eq!(cached(&broker).await, USERS);
        looked += 2 * USERS;
    }
    println!("{looked} calls while the seal keys rotated: {looked} from the cache");
    let mut tokens = broker.tokens().await;
    tokens.issue_token(chat("user-new")).await.unwrap();
    let sealed_with = |id: &str| {
        let kept = all_of(&server);
        let id = [&[u8::try_from(id.len()).unwrap()], id.as_bytes()].concat();
        kept.windows(id.len()).filter(|part| **part == id).count()
    };
    assert_eq!((sealed_with("old") >= USERS, sealed_with("new")), (true, 1));
    // The old key goes: its tokens are missed, and no call fails.
    std::fs::write(&keys, &new).unwrap();
    until("the old key is gone", async || said("\"keys\":\"new\"") > 0).await;
    assert_eq!(cached(&broker).await, 0);
    assert_eq!(cached(&broker).await, USERS);
    let line = "acs_broker_store_unopened_total{kind=\"token\",why=\"no_key\"}";
    assert!(broker.admin().await.contains(line));
    for secret in [&old, &new] {
        let key = secret.trim().split_once(':').unwrap().1;
        assert!(!broker.log().contains(key), "a key is in the log");
    }
}
