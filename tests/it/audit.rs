//! The audit from outside: what calls leave behind, that nothing plain is in it, that a full disk stops calls before they
//! do anything, and that a broker killed under load leaves a chain that the command verifies.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acs_broker::audit::{Audit, Settings, Whom, subject_hash};
use acs_broker::clock::SystemClock;
use acs_broker::emulator::Operation;
use acs_broker::grpc::proto::{FILE_DESCRIPTOR_SET, v1};
use acs_broker::metrics::Metrics;
use acs_broker::secret::Secret;
use prost::Message;
use serde_json::Value;
use tempfile::TempDir;
use tonic::{Code, Request, Status};
use v1::email_service_client::EmailServiceClient;

use crate::error_table::raw_call;
use crate::harness::messages::{NUMBER, mail, new_id, participant, reason, sms};
use crate::harness::{BrokerProcess, Rig, Wish, chat, emulator_process, until};
use crate::redis_server::RedisServer;

pub(crate) const KEY: &str = "a-key-for-tests-0123456789abcdef";
const USER: &str = "canary-user-31aa";
const OTHER: &str = "canary-other-31aa";
const TO: &str = "+14255550123";
const MAIL_TO: &str = "canary-mail-31aa@example.com";
const TEXT: &str = "canary-text-31aa";

pub(crate) fn strict(folder: &Path) -> Audit {
    let file = folder.join("audit.log").to_string_lossy().into_owned();
    let settings = Settings { fail_closed: true, ..Settings::to_file(file, Secret::new(KEY)) };
    Audit::open(&settings, Arc::new(SystemClock), Metrics::new()).unwrap()
}

/// The whole lines of a file.
pub(crate) fn records(path: &Path) -> Vec<Value> {
    let content = std::fs::read(path).unwrap();
    content.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// A request whose records can be found: `ok-` and the method.
fn named<T>(method: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("x-request-id", format!("ok-{method}").parse().unwrap());
    request
}

/// Every method of ours, as `package.Service/Method`.
fn methods() -> BTreeSet<String> {
    let files = prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap().file;
    let names = files.iter().flat_map(|file| {
        file.service.iter().flat_map(move |service| {
            service
                .method
                .iter()
                .map(move |method| format!("{}.{}/{}", file.package(), service.name(), method.name()))
        })
    });
    names.collect()
}

/// Calls every method, well; gives the tokens that were served.
async fn every_method(rig: &Rig) -> Vec<String> {
    let (mut tokens, mut identities) = (rig.tokens(), rig.identities());
    let (mut texts, mut chats, mut events) = (rig.sms(), rig.chats(), rig.events());
    let mut mails = EmailServiceClient::new(rig.channel());
    let user_id = || USER.to_owned();
    let mut seen = Vec::new();

    seen.push(tokens.issue_token(named("IssueToken", chat(USER))).await.unwrap().into_inner().token);
    let refresh = v1::RefreshTokenRequest { user_id: user_id(), scopes: vec![2], validity: None };
    seen.push(tokens.refresh_token(named("RefreshToken", refresh)).await.unwrap().into_inner().token);
    let revoke = v1::RevokeTokensRequest { user_id: user_id(), request_id: new_id() };
    tokens.revoke_tokens(named("RevokeTokens", revoke)).await.unwrap();

    let resolve = v1::ResolveIdentityRequest { user_id: user_id() };
    identities.resolve_identity(named("ResolveIdentity", resolve)).await.unwrap();
    let key = Some(v1::get_identity_request::Key::UserId(user_id()));
    let found = identities.get_identity(named("GetIdentity", v1::GetIdentityRequest { key })).await.unwrap();
    let list = v1::ListIdentitiesRequest::default();
    identities.list_identities(named("ListIdentities", list)).await.unwrap();
    let entry = v1::ImportIdentitiesRequest { identity: found.into_inner().identity, validate_only: false };
    let stray = v1::Identity {
        user_id: "canary-imported-31aa".into(),
        acs_user_id: "8:acs:00000000-0000-4000-8000-000000000000_00000000-0000-0000-0000-000000000001".into(),
        create_time: None,
    };
    let new = v1::ImportIdentitiesRequest { identity: Some(stray), validate_only: false };
    let entries = tokio_stream::iter([entry, new]);
    identities.import_identities(named("ImportIdentities", entries)).await.unwrap();

    let send = v1::SendSmsRequest { from: NUMBER.into(), ..sms(&new_id(), vec![TO.into()], TEXT) };
    let id = send.request_id.clone();
    texts.send_sms(named("SendSms", send)).await.unwrap();
    let name = Some(v1::get_sms_request::Name::RequestId(id));
    texts.get_sms(named("GetSms", v1::GetSmsRequest { name })).await.unwrap();
    let (from, recipients) = (String::new(), vec![TO.to_owned()]);
    let add = v1::AddSmsOptOutsRequest { from: from.clone(), recipients: recipients.clone() };
    texts.add_sms_opt_outs(named("AddSmsOptOuts", add)).await.unwrap();
    let check = v1::CheckSmsOptOutsRequest { from: from.clone(), recipients: recipients.clone() };
    texts.check_sms_opt_outs(named("CheckSmsOptOuts", check)).await.unwrap();
    let remove = v1::RemoveSmsOptOutsRequest { from, recipients };
    texts.remove_sms_opt_outs(named("RemoveSmsOptOuts", remove)).await.unwrap();

    let send = mail(&new_id(), MAIL_TO, TEXT);
    let name = Some(v1::get_email_request::Name::RequestId(send.request_id.clone()));
    mails.send_email(named("SendEmail", send)).await.unwrap();
    mails.get_email(named("GetEmail", v1::GetEmailRequest { name, wait: false })).await.unwrap();

    drop(events.watch_events(named("WatchEvents", v1::WatchEventsRequest::default())).await.unwrap());

    let acting_user_id = user_id();
    let create = v1::CreateChatThreadRequest {
        acting_user_id: user_id(),
        request_id: new_id(),
        topic: TEXT.into(),
        participants: vec![participant(USER)],
        ..Default::default()
    };
    let created = chats.create_chat_thread(named("CreateChatThread", create)).await.unwrap();
    let thread_id = created.into_inner().thread.unwrap().thread_id;
    let get = v1::GetChatThreadRequest { acting_user_id: user_id(), thread_id: thread_id.clone() };
    chats.get_chat_thread(named("GetChatThread", get)).await.unwrap();
    let list = v1::ListChatThreadsRequest { acting_user_id: user_id(), ..Default::default() };
    chats.list_chat_threads(named("ListChatThreads", list)).await.unwrap();
    let update = v1::UpdateChatThreadRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        topic: TEXT.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["topic".into()] }),
        ..Default::default()
    };
    chats.update_chat_thread(named("UpdateChatThread", update)).await.unwrap();
    let add = v1::AddChatParticipantsRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        participants: vec![participant(OTHER)],
    };
    chats.add_chat_participants(named("AddChatParticipants", add)).await.unwrap();
    let list = v1::ListChatParticipantsRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    chats.list_chat_participants(named("ListChatParticipants", list)).await.unwrap();
    let say = v1::SendChatMessageRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        request_id: new_id(),
        text: TEXT.into(),
        ..Default::default()
    };
    let message_id =
        chats.send_chat_message(named("SendChatMessage", say)).await.unwrap().into_inner().message_id;
    let get = v1::GetChatMessageRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        message_id: message_id.clone(),
        ..Default::default()
    };
    chats.get_chat_message(named("GetChatMessage", get)).await.unwrap();
    let list = v1::ListChatMessagesRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    chats.list_chat_messages(named("ListChatMessages", list)).await.unwrap();
    let update = v1::UpdateChatMessageRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        message_id: message_id.clone(),
        text: TEXT.into(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["text".into()] }),
        ..Default::default()
    };
    chats.update_chat_message(named("UpdateChatMessage", update)).await.unwrap();
    let read = v1::SendReadReceiptRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        message_id: message_id.clone(),
    };
    chats.send_read_receipt(named("SendReadReceipt", read)).await.unwrap();
    let list = v1::ListReadReceiptsRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    chats.list_read_receipts(named("ListReadReceipts", list)).await.unwrap();
    let typing = v1::SendTypingNotificationRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        ..Default::default()
    };
    chats.send_typing_notification(named("SendTypingNotification", typing)).await.unwrap();
    let delete =
        v1::DeleteChatMessageRequest { acting_user_id: user_id(), thread_id: thread_id.clone(), message_id };
    chats.delete_chat_message(named("DeleteChatMessage", delete)).await.unwrap();
    let remove = v1::RemoveChatParticipantRequest {
        acting_user_id: user_id(),
        thread_id: thread_id.clone(),
        user_id: OTHER.into(),
    };
    chats.remove_chat_participant(named("RemoveChatParticipant", remove)).await.unwrap();
    let delete = v1::DeleteChatThreadRequest { acting_user_id, thread_id };
    chats.delete_chat_thread(named("DeleteChatThread", delete)).await.unwrap();

    let delete = v1::DeleteIdentityRequest { user_id: user_id(), request_id: new_id() };
    identities.delete_identity(named("DeleteIdentity", delete)).await.unwrap();
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_decided_on_disk_before_it_is_done_and_leaves_one_record() {
    let folder = TempDir::new().unwrap();
    let audit = strict(folder.path());
    let rig = Rig::start(Wish { audit: audit.clone(), ..Wish::default() }).await;
    let tokens = every_method(&rig).await;
    let mut failed = 0;
    for method in methods().iter().map(String::as_str).chain(["no.such.Service/Method"]) {
        // A tag whose field has no end.
        let id = format!("bad-{}", method.rsplit('/').next().unwrap());
        let body = &[0, 0, 0, 0, 2, 0x0a, 0xff];
        let status = raw_call(&rig, &format!("/{method}"), &[("x-request-id", &id)], body).await;
        assert_ne!(status.code(), Code::Ok, "{method}");
        failed += 1;
    }
    drop(rig);
    assert!(audit.stop(Duration::from_secs(20)).await);

    let path = folder.path().join("audit.log");
    let all = records(&path);
    let found = |kind: &str, id: &str| -> Vec<usize> {
        (0..all.len()).filter(|&at| all[at]["kind"] == kind && all[at]["request_id"] == id).collect()
    };
    for method in methods() {
        let short = method.rsplit('/').next().unwrap();
        let (decisions, calls) =
            (found("decision", &format!("ok-{short}")), found("call", &format!("ok-{short}")));
        assert_eq!((decisions.len(), calls.len()), (1, 1), "{method}");
        assert!(decisions[0] < calls[0], "{method}");
        for record in [&all[decisions[0]], &all[calls[0]]] {
            assert_eq!((&record["rpc"], &record["decision"]), (&method.as_str().into(), &"allowed".into()));
            assert_eq!(record["caller"], "unauthenticated", "{method}");
        }
        assert_eq!(all[calls[0]]["code"], "OK", "{method}");
        let bad = found("call", &format!("bad-{short}"));
        assert_eq!(bad.len(), 1, "{method}");
        assert_eq!(
            (&all[bad[0]]["rpc"], &all[bad[0]]["code"]),
            (&method.as_str().into(), &"INVALID_ARGUMENT".into())
        );
        assert_eq!(all[bad[0]]["reason"], "MESSAGE_MALFORMED", "{method}");
    }
    let unknown = &all[found("call", "bad-Method")[0]];
    assert_eq!((&unknown["rpc"], &unknown["code"]), (&"_OTHER".into(), &"UNIMPLEMENTED".into()));
    let calls = all.iter().filter(|record| record["kind"] == "call").count();
    assert_eq!(calls, methods().len() + failed, "and no others");

    // For whom and what.
    let key = Secret::new(KEY);
    let call = |method: &str| all[found("call", &format!("ok-{method}"))[0]].clone();
    let names = |record: &Value, whom, value| {
        record["for"].as_array().unwrap().contains(&subject_hash(&key, whom, value).into())
    };
    let issued = call("IssueToken");
    assert!(names(&issued, Whom::User, USER));
    assert_eq!((&issued["scopes"][0], &issued["effects"]["token_issued"]), (&"chat".into(), &1.into()));
    let sent = call("SendSms");
    assert!(names(&sent, Whom::Recipient, TO) && names(&sent, Whom::Sender, NUMBER));
    assert_eq!(sent["effects"]["sms_accepted"], 1);
    assert!(names(&call("SendEmail"), Whom::Recipient, MAIL_TO));
    assert!(names(&call("RemoveChatParticipant"), Whom::User, OTHER));
    assert!(names(&call("DeleteIdentity"), Whom::User, USER));
    let imported = all.iter().find(|record| record["effect"] == "identity_imported").unwrap();
    assert!(names(imported, Whom::User, "canary-imported-31aa"));
    assert_eq!(call("ImportIdentities")["effects"]["identities_imported"], 1);

    let text = std::fs::read_to_string(&path).unwrap();
    let secrets = [USER, OTHER, TO, &TO[1..], NUMBER, MAIL_TO, TEXT, "canary", "8:acs", "@thread", "contoso"];
    // The signature of a token alone is as good as the token to whoever searches for it.
    let signatures = tokens.iter().map(|token| token.rsplit('.').next().unwrap());
    for secret in tokens.iter().map(String::as_str).chain(signatures).chain(secrets) {
        assert!(!text.contains(secret), "the audit holds {secret}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_nobody_knows_is_recorded_as_refused() {
    let folder = TempDir::new().unwrap();
    let audit = strict(folder.path());
    let gate = Arc::new(acs_broker::auth::Gate::shut());
    let rig = Rig::start(Wish { audit: audit.clone(), gate, ..Wish::default() }).await;
    rig.tokens().issue_token(chat(USER)).await.unwrap_err();
    assert!(audit.stop(Duration::from_secs(20)).await);
    let all = records(&folder.path().join("audit.log"));
    let call = all.iter().find(|record| record["kind"] == "call").unwrap();
    assert_eq!((&call["decision"], &call["why"]), (&"refused".into(), &"CALLER_UNAUTHENTICATED".into()));
    assert_eq!((call.get("caller"), call.get("for")), (None, None), "nothing of the message was read");
    assert!(!all.iter().any(|record| record["kind"] == "decision"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_refused_calls_is_counted_whole_in_few_records() {
    let folder = TempDir::new().unwrap();
    let audit = strict(folder.path());
    let gate = Arc::new(acs_broker::auth::Gate::shut());
    let rig = Rig::start(Wish { audit: audit.clone(), gate, ..Wish::default() }).await;
    let began = std::time::Instant::now();
    for _ in 0..1_500 {
        rig.tokens().issue_token(chat(USER)).await.unwrap_err();
    }
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(audit.stop(Duration::from_secs(20)).await);
    let all = records(&folder.path().join("audit.log"));
    let own = all.iter().filter(|record| record["kind"] == "call").count();
    assert!((200..=300 + seconds).contains(&own), "{own} after {seconds} s");
    let added = all.iter().filter(|record| record["kind"] == "refusals").map(|record| {
        assert_eq!((&record["rpc"], &record["why"]), (&"grpc/any".into(), &"CALLER_UNAUTHENTICATED".into()));
        usize::try_from(record["count"].as_u64().unwrap()).unwrap()
    });
    assert_eq!(own + added.sum::<usize>(), 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_file_a_strict_broker_does_nothing_and_goes_on_once_it_is_back() {
    let folder = TempDir::new().unwrap();
    let (here, away) = (folder.path().join("here"), folder.path().join("away"));
    std::fs::create_dir(&here).unwrap();
    let rig = Rig::start(Wish { audit: strict(&here), ..Wish::default() }).await;
    std::fs::rename(&here, &away).unwrap();
    let refused = |status: Status| {
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "AUDIT_UNAVAILABLE"));
    };
    refused(rig.tokens().issue_token(chat(USER)).await.unwrap_err());
    refused(rig.sms().send_sms(sms(&new_id(), vec![TO.into()], TEXT)).await.unwrap_err());
    let calls = [Operation::CreateIdentity, Operation::IssueToken, Operation::SendSms];
    assert_eq!(calls.map(|operation| rig.emulator.calls(operation)), [0; 3], "nothing reached ACS");
    std::fs::rename(&away, &here).unwrap();
    until("calls are served again", async || rig.tokens().issue_token(chat(USER)).await.is_ok()).await;
}

pub(crate) fn command(arguments: &[&str]) -> Output {
    let binary = env!("CARGO_BIN_EXE_acs-broker");
    Command::new(binary).env_clear().args(arguments).output().unwrap()
}

/// A folder with the key in a file.
fn with_key() -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, format!("{KEY}\n")).unwrap();
    (folder, key)
}

/// `audit verify` of every audit file in the folder: whether the chain is whole, and what it says.
fn verify(folder: &Path, more: &[&str]) -> (bool, String) {
    let key = folder.join("key");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let is_audit = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("audit.log");
    let files: Vec<_> = entries.filter(is_audit).map(|path| path.to_string_lossy().into_owned()).collect();
    let mut arguments = vec!["audit", "verify", "--key-file", key.to_str().unwrap()];
    arguments.extend(more);
    arguments.extend(files.iter().map(String::as_str));
    let output = command(&arguments);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    (output.status.code() == Some(0), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_killed_under_load_leaves_a_chain_with_every_call_it_answered() {
    const KILLS: usize = 6;
    let (folder, key) = with_key();
    let (log, store) = (folder.path().join("audit.log"), folder.path().join("store.redb"));
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let (log_text, key_text, store_text) = (text(&log), text(&key), text(&store));
    let settings = [
        ("AUDIT__FILE", log_text.as_str()),
        ("AUDIT__KEY_FILE", key_text.as_str()),
        ("AUDIT__FAIL_CLOSED", "true"),
        ("AUDIT__MAX_BYTES", "65536"),
        ("AUDIT__KEEP", "100000"),
        ("STORE__EMBEDDED__PATH", store_text.as_str()),
    ];
    let emulator = emulator_process().await;
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let mut answered = Vec::new();
    let count = Arc::new(AtomicUsize::new(0));
    for kill in 0..KILLS {
        let mut callers = Vec::new();
        for caller in 0..8 {
            let (mut tokens, count) = (broker.tokens().await, Arc::clone(&count));
            callers.push(tokio::spawn(async move {
                let mut answered = Vec::new();
                for number in 0.. {
                    let id = format!("load-{kill}-{caller}-{number}");
                    let mut request = Request::new(chat(&format!("user-{caller}-{}", number % 4)));
                    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
                    if tokens.issue_token(request).await.is_err() {
                        break;
                    }
                    answered.push(id);
                    count.fetch_add(1, Ordering::Relaxed);
                }
                answered
            }));
        }
        let enough = count.load(Ordering::Relaxed) + 40 + 37 * kill;
        until("there is load", async || count.load(Ordering::Relaxed) >= enough).await;
        broker.kill();
        for caller in callers {
            answered.extend(caller.await.unwrap());
        }
        broker.restart().await;
    }
    let (whole, said) = verify(folder.path(), &[]);
    assert!(whole, "{said}");
    broker.kill();
    let (mut decided, mut done) = (BTreeSet::new(), BTreeSet::new());
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_string_lossy().starts_with("audit.log") {
            let all = records(&path);
            let effects = all.iter().filter(|record| record["kind"] == "effect" && record["outcome"] == "ok");
            done.extend(effects.flat_map(|record| {
                let on = record["for"].as_array().unwrap().iter();
                on.map(|on| (record["effect"].to_string(), on.to_string())).collect::<Vec<_>>()
            }));
            let decisions = all.into_iter().filter(|record| record["kind"] == "decision");
            decided.extend(decisions.map(|record| record["request_id"].as_str().unwrap().to_owned()));
        }
    }
    // What was done at ACS has records of its own, which name the same users; those of a kill may be missing.
    let user = subject_hash(&Secret::new(KEY), Whom::User, "user-0-1");
    for effect in ["identity_created", "token_issued"] {
        assert!(done.contains(&(format!("{effect:?}"), format!("{user:?}"))), "{effect}: {done:?}");
    }
    let missing: Vec<_> = answered.iter().filter(|id| !decided.contains(*id)).collect();
    assert!(missing.is_empty(), "answered and not recorded: {missing:?}");
    println!(
        "{} calls answered in {KILLS} lives, each with its decision in the file; {said}",
        answered.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_a_whole_chain_from_one_that_was_changed_or_cut() {
    let (folder, key) = with_key();
    let log = folder.path().join("audit.log");
    let settings = Settings::to_file(log.to_string_lossy(), Secret::new(KEY));
    let audit = Audit::open(&settings, Arc::new(SystemClock), Metrics::new()).unwrap();
    let rig = Rig::start(Wish { audit: audit.clone(), ..Wish::default() }).await;
    for user in ["alice", "bob", "eve"] {
        rig.tokens().issue_token(chat(user)).await.unwrap();
    }
    assert!(audit.stop(Duration::from_secs(20)).await);
    let (whole, said) = verify(folder.path(), &["--json"]);
    assert!(whole, "{said}");
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(
        (&report["records"], &report["stopped"]),
        (&6.into(), &true.into()),
        "file, start, 3 calls, stop"
    );
    let head = report["head"].as_str().unwrap().to_owned();
    assert!(verify(folder.path(), &["--head", &head]).0);

    let good = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<_> = good.lines().collect();
    let write = |lines: &[&str]| std::fs::write(&log, lines.join("\n") + "\n").unwrap();
    std::fs::write(&log, good.replacen("\"code\":\"OK\"", "\"code\":\"NO\"", 1)).unwrap();
    let (whole, said) = verify(folder.path(), &[]);
    assert!(!whole && said.contains("audit.log:3") && said.contains("changed"), "{said}");
    write(&[&lines[..3], &lines[4..]].concat());
    let (whole, said) = verify(folder.path(), &[]);
    assert!(!whole && said.contains("audit.log:4") && said.contains("missing"), "{said}");
    write(&lines[..5]);
    let (whole, said) = verify(folder.path(), &[]);
    assert!(whole && said.contains("cut off"), "it says what it cannot show: {said}");
    let (whole, said) = verify(folder.path(), &["--head", &head]);
    assert!(!whole && said.contains("the end was cut off"), "{said}");

    // Who stands in it.
    let mut child = Command::new(env!("CARGO_BIN_EXE_acs-broker"))
        .env_clear()
        .args(["audit", "subject", "user", "--key-file"])
        .arg(&key)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"bob\n").unwrap();
    let answer = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(good.matches(answer.trim()).count(), 1, "{answer}");

    std::fs::write(&key, "short").unwrap();
    assert!(!verify(folder.path(), &[]).0, "another key proves nothing");
    let output = command(&["audit", "verify", log.to_str().unwrap(), "--key-file", "no/such/file"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_strict_broker_refuses_before_it_does_anything() {
    let (folder, key) = with_key();
    let log = folder.path().join("audit.log");
    let (log_text, key_text) = (log.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    let redis = RedisServer::start();
    let url = redis.url();
    let settings = [
        ("AUDIT__FILE", log_text.as_str()),
        ("AUDIT__KEY_FILE", key_text.as_str()),
        ("AUDIT__FAIL_CLOSED", "true"),
        ("STORE__BACKEND", "redis"),
        ("STORE__REDIS__URL", url.as_str()),
        ("STORE__REDIS__TIMEOUT", "5s"),
        ("TELEMETRY__FILTER", "error"),
    ];
    let emulator = emulator_process().await;
    // No file of this process gets longer.
    let limit = 32 * 1024;
    let broker = BrokerProcess::start_with_file_limit(&emulator.connection_string, &settings, limit).await;
    let mut tokens = broker.tokens().await;
    let mut served = 0;
    let refused = loop {
        match tokens.issue_token(chat(&format!("user-{served}"))).await {
            Ok(_) => served += 1,
            Err(status) => break status,
        }
        assert!(served < 1000, "the file has no limit");
    };
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "AUDIT_UNAVAILABLE"));
    assert!(served > 5, "the disk was not full from the start");
    let before = emulator.control("calls").await;
    for number in 0..20 {
        let refused = tokens.issue_token(chat(&format!("late-{number}"))).await.unwrap_err();
        assert_eq!(reason(&refused), "AUDIT_UNAVAILABLE");
    }
    assert_eq!(emulator.control("calls").await, before, "ACS was asked for nothing more");
    assert_eq!(std::fs::metadata(&log).unwrap().len(), limit, "it is full to the last byte");
    let metrics = broker.metrics().await;
    assert!(metrics.contains("acs_broker_audit_available 0"), "{metrics}");
    let not_ready = "\"ready\":false,\"reasons\":[{\"code\":\"audit\"";
    until("it is not ready", async || broker.readiness().await.contains(not_ready)).await;
    let (whole, said) = verify(folder.path(), &[]);
    assert!(whole && said.contains("no whole record"), "what was written before is proven: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_file_tells_an_orderly_stop_from_a_crash() {
    let (folder, key) = with_key();
    let log = folder.path().join("audit.log");
    let settings = [("AUDIT__FILE", log.to_str().unwrap()), ("AUDIT__KEY_FILE", key.to_str().unwrap())];
    let emulator = emulator_process().await;
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    broker.tokens().await.issue_token(chat("alice")).await.unwrap();
    broker.terminate().await;
    let (whole, said) = verify(folder.path(), &[]);
    assert!(whole && said.contains("the process stopped in order"), "{said}");
    broker.restart().await;
    broker.kill();
    let (whole, said) = verify(folder.path(), &[]);
    assert!(whole && said.contains("still runs or crashed"), "{said}");
}

#[test]
fn a_broker_that_cannot_open_its_audit_does_not_start() {
    let (folder, key) = with_key();
    let start = |file: &str, key: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_acs-broker"));
        let connection = "endpoint=https://x.communication.azure.com/;accesskey=a2V5";
        command.env_clear().arg("serve").env("ACS_BROKER__ACS__CONNECTION_STRING", connection);
        command.env("ACS_BROKER__AUDIT__FILE", file).env("ACS_BROKER__AUDIT__KEY_FILE", key);
        command
            .env("ACS_BROKER__SERVER__ADDRESS", "127.0.0.1:0")
            .env("ACS_BROKER__ADMIN__ADDRESS", "127.0.0.1:0");
        command.env("ACS_BROKER__STORE__EMBEDDED__PATH", folder.path().join("store.redb"));
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let key = key.to_string_lossy().into_owned();
    let (code, said) = start(&folder.path().join("no/such/audit.log").to_string_lossy(), &key);
    assert!(code == Some(1) && said.contains("audit.file") && said.contains("folder must exist"), "{said}");
    let (code, said) = start(&key, &key);
    assert!(code == Some(1) && said.contains("something other than audit records"), "{said}");
    let (code, said) = start(&folder.path().join("audit.log").to_string_lossy(), "");
    assert!(code == Some(2) && said.contains("audit.key"), "{said}");
}
