//! Every caller × RPC × user × scopes × validity × sender gets what an oracle says that shares nothing with the broker.
//!
//! The calls go through a real server, gate and policy; the oracle is a Python program that reads the same file.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

use acs_broker::grpc::proto::v1;
use futures_util::StreamExt;
use serde::Deserialize;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::harness::messages::new_id;
use crate::harness::proof::{by, gate, policy};
use crate::harness::{Rig, Wish, messages_settings};

const POLICY: &str = include_str!("policy_table.toml");

/// A call and what must become of it.
#[derive(Debug, Clone, Deserialize)]
struct Cell {
    proof: String,
    rpc: String,
    user: Option<String>,
    others: Vec<String>,
    scopes: Vec<String>,
    validity: Option<i64>,
    sender: Option<String>,
    verdict: String,
}

fn cells() -> Vec<Cell> {
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/");
    let oracle = Command::new("python3")
        .arg(format!("{here}policy_oracle.py"))
        .arg(format!("{here}policy_table.toml"))
        .output()
        .unwrap();
    assert!(oracle.status.success(), "{}", String::from_utf8_lossy(&oracle.stderr));
    String::from_utf8(oracle.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_policy_is_what_an_independent_oracle_says() {
    let mut messages = messages_settings();
    messages.sms.senders.push_str(", +18005550109, Contoso");
    let rig = Rig::start(Wish { gate: gate(policy(POLICY)), messages, ..Wish::default() }).await;
    let (rig, cells) = (Arc::new(rig), cells());
    assert!(cells.len() > 5000, "{} cells", cells.len());
    let judged = futures_util::stream::iter(cells)
        .map(|cell| {
            let rig = Arc::clone(&rig);
            tokio::spawn(async move {
                let got = got(&rig, &cell).await;
                (cell, got)
            })
        })
        .buffer_unordered(32);
    let judged: Vec<_> = judged.map(Result::unwrap).collect().await;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut wrong = Vec::new();
    for (cell, got) in &judged {
        *counts.entry(cell.verdict.split(':').next().unwrap()).or_default() += 1;
        if *got != cell.verdict {
            wrong.push((cell, got));
        }
    }
    println!("{} cells: {counts:?}", judged.len());
    assert!(wrong.is_empty(), "{} of {} wrong, such as {:#?}", wrong.len(), judged.len(), wrong.first());
    for verdict in ["allow", "deny", "invalid", "unauthenticated"] {
        assert!(counts[verdict] >= 20, "the table tells too little: {counts:?}");
    }
}

/// What became of it, in the words of the oracle.
async fn got(rig: &Rig, cell: &Cell) -> String {
    for _ in 0..10 {
        match answer(rig, cell).await {
            // The server closes a connection on which many streams were given up, as watches are here.
            Err(status) if is_lost(&status) => {}
            Err(status) => return verdict(&status),
            Ok(()) => return "allow".into(),
        }
    }
    panic!("no answer to {cell:?}");
}

/// Whether there was no answer at all.
fn is_lost(status: &Status) -> bool {
    status.code() == Code::Unknown && status.get_error_details().error_info().is_none()
}

async fn answer(rig: &Rig, cell: &Cell) -> Result<(), Status> {
    let service = cell.rpc.split('/').next().unwrap();
    match service {
        "TokenService" | "IdentityService" => identity(rig, cell).await,
        "SmsService" | "EmailService" => message(rig, cell).await,
        "ChatService" => chat(rig, cell).await,
        _ => {
            let wish = asked(cell, v1::WatchEventsRequest::default());
            rig.events().watch_events(wish).await.map(drop)
        }
    }
}

fn verdict(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    match (status.code(), info.reason.as_str()) {
        (Code::Unauthenticated, _) => "unauthenticated".into(),
        (Code::PermissionDenied, "PERMISSION_MISSING") => format!("deny:{}", info.metadata["permission"]),
        (Code::InvalidArgument, _) => {
            let violations = &details.bad_request().unwrap().field_violations;
            match violations[0].field.as_str() {
                "validity" => "invalid:validity".into(),
                // It is allowed, and the broker has no such sender.
                "from" => "allow".into(),
                field => panic!("the test's own request is bad: {field}"),
            }
        }
        (Code::Internal | Code::Unknown, _) => panic!("{status:?}"),
        _ => "allow".into(),
    }
}

fn asked<T>(cell: &Cell, message: T) -> Request<T> {
    if cell.proof.is_empty() { Request::new(message) } else { by(&cell.proof, message) }
}

fn scopes(cell: &Cell) -> Vec<i32> {
    let scope = |name: &String| match name.as_str() {
        "chat" => v1::Scope::Chat,
        "voip" => v1::Scope::Voip,
        "chat.join" => v1::Scope::ChatJoin,
        "chat.join.limited" => v1::Scope::ChatJoinLimited,
        "voip.join" => v1::Scope::VoipJoin,
        other => panic!("{other}"),
    };
    cell.scopes.iter().map(|name| scope(name).into()).collect()
}

async fn identity(rig: &Rig, cell: &Cell) -> Result<(), Status> {
    let user_id = cell.user.clone().unwrap_or_default();
    let validity = cell.validity.map(|minutes| prost_types::Duration { seconds: minutes * 60, nanos: 0 });
    let (mut tokens, mut identities) = (rig.tokens(), rig.identities());
    match cell.rpc.split('/').nth(1).unwrap() {
        "IssueToken" => {
            let wish =
                v1::IssueTokenRequest { user_id, scopes: scopes(cell), validity, ..Default::default() };
            tokens.issue_token(asked(cell, wish)).await.map(drop)
        }
        "RefreshToken" => {
            let wish = v1::RefreshTokenRequest { user_id, scopes: scopes(cell), validity };
            tokens.refresh_token(asked(cell, wish)).await.map(drop)
        }
        "RevokeTokens" => {
            let wish = v1::RevokeTokensRequest { user_id, ..Default::default() };
            tokens.revoke_tokens(asked(cell, wish)).await.map(drop)
        }
        "ResolveIdentity" => {
            identities.resolve_identity(asked(cell, v1::ResolveIdentityRequest { user_id })).await.map(drop)
        }
        "GetIdentity" => {
            let key = Some(v1::get_identity_request::Key::UserId(user_id));
            identities.get_identity(asked(cell, v1::GetIdentityRequest { key })).await.map(drop)
        }
        "DeleteIdentity" => {
            let wish = v1::DeleteIdentityRequest { user_id, ..Default::default() };
            identities.delete_identity(asked(cell, wish)).await.map(drop)
        }
        "ListIdentities" => {
            identities.list_identities(asked(cell, v1::ListIdentitiesRequest::default())).await.map(drop)
        }
        "ImportIdentities" => {
            let identity = v1::Identity {
                acs_user_id: format!("8:acs:imported_{}", new_id()),
                user_id,
                create_time: None,
            };
            let row = v1::ImportIdentitiesRequest { identity: Some(identity), validate_only: true };
            let done = identities.import_identities(asked(cell, tokio_stream::iter([row]))).await?;
            match done.into_inner().problems.first() {
                // The row is refused and not the call; said here as if it were.
                Some(problem) if problem.reason == "PERMISSION_MISSING" => {
                    assert!(problem.message.ends_with("permission user"), "{problem:?}");
                    Err(missing_user())
                }
                _ => Ok(()),
            }
        }
        other => panic!("{other}"),
    }
}

fn missing_user() -> Status {
    let metadata = std::collections::HashMap::from([("permission".to_owned(), "user".to_owned())]);
    let details = tonic_types::ErrorDetails::with_error_info("PERMISSION_MISSING", "acsbroker", metadata);
    Status::with_error_details(Code::PermissionDenied, "in a row", details)
}

async fn message(rig: &Rig, cell: &Cell) -> Result<(), Status> {
    let from = cell.sender.clone().unwrap_or_default();
    let recipients = vec!["+14255550123".to_owned()];
    let (mut sms, mut email) = (rig.sms(), rig.emails());
    match cell.rpc.split('/').nth(1).unwrap() {
        "SendSms" => {
            let request_id = new_id();
            let wish = v1::SendSmsRequest {
                request_id,
                from,
                to: recipients,
                text: "t".into(),
                ..Default::default()
            };
            sms.send_sms(asked(cell, wish)).await.map(drop)
        }
        "GetSms" => {
            let name = Some(v1::get_sms_request::Name::RequestId(new_id()));
            sms.get_sms(asked(cell, v1::GetSmsRequest { name })).await.map(drop)
        }
        "CheckSmsOptOuts" => {
            let wish = v1::CheckSmsOptOutsRequest { from, recipients };
            sms.check_sms_opt_outs(asked(cell, wish)).await.map(drop)
        }
        "AddSmsOptOuts" => {
            sms.add_sms_opt_outs(asked(cell, v1::AddSmsOptOutsRequest { from, recipients })).await.map(drop)
        }
        "RemoveSmsOptOuts" => {
            let wish = v1::RemoveSmsOptOutsRequest { from, recipients };
            sms.remove_sms_opt_outs(asked(cell, wish)).await.map(drop)
        }
        "SendEmail" => {
            let to = v1::EmailAddress { address: "to@example.com".into(), display_name: String::new() };
            let wish = v1::SendEmailRequest {
                request_id: new_id(),
                from,
                to: vec![to],
                subject: "s".into(),
                plain_text: "t".into(),
                ..Default::default()
            };
            email.send_email(asked(cell, wish)).await.map(drop)
        }
        "GetEmail" => {
            let name = Some(v1::get_email_request::Name::RequestId(new_id()));
            email.get_email(asked(cell, v1::GetEmailRequest { name, wait: false })).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

const THREAD: &str = "19:none@thread.v2";

async fn chat(rig: &Rig, cell: &Cell) -> Result<(), Status> {
    let acting_user_id = cell.user.clone().unwrap_or_default();
    let (thread_id, message_id) = (THREAD.to_owned(), "1700000000000".to_owned());
    let party = |user: &String| v1::ChatParticipant {
        party: Some(v1::ChatParty { user_id: user.clone(), ..Default::default() }),
        ..Default::default()
    };
    let mut participants: Vec<_> = cell.others.iter().map(party).collect();
    let mask = |path: &str| Some(prost_types::FieldMask { paths: vec![path.into()] });
    let mut chats = rig.chats();
    macro_rules! call {
        ($method:ident, $message:expr) => {
            chats.$method(asked(cell, $message)).await.map(drop)
        };
    }
    match cell.rpc.split('/').nth(1).unwrap() {
        "CreateChatThread" => call!(
            create_chat_thread,
            v1::CreateChatThreadRequest {
                acting_user_id,
                request_id: new_id(),
                topic: "t".into(),
                participants,
                ..Default::default()
            }
        ),
        "GetChatThread" => call!(get_chat_thread, v1::GetChatThreadRequest { acting_user_id, thread_id }),
        "ListChatThreads" => {
            call!(list_chat_threads, v1::ListChatThreadsRequest { acting_user_id, ..Default::default() })
        }
        "UpdateChatThread" => call!(
            update_chat_thread,
            v1::UpdateChatThreadRequest {
                acting_user_id,
                thread_id,
                topic: "t".into(),
                update_mask: mask("topic"),
                ..Default::default()
            }
        ),
        "DeleteChatThread" => {
            call!(delete_chat_thread, v1::DeleteChatThreadRequest { acting_user_id, thread_id })
        }
        "AddChatParticipants" => {
            // There must be one.
            if participants.is_empty() {
                participants.push(party(&cell.user.clone().unwrap_or_else(|| "shop:1".into())));
            }
            call!(
                add_chat_participants,
                v1::AddChatParticipantsRequest { acting_user_id, thread_id, participants }
            )
        }
        "ListChatParticipants" => call!(
            list_chat_participants,
            v1::ListChatParticipantsRequest { acting_user_id, thread_id, ..Default::default() }
        ),
        "RemoveChatParticipant" => call!(
            remove_chat_participant,
            v1::RemoveChatParticipantRequest { acting_user_id, thread_id, user_id: cell.others[0].clone() }
        ),
        "SendChatMessage" => call!(
            send_chat_message,
            v1::SendChatMessageRequest {
                acting_user_id,
                thread_id,
                request_id: new_id(),
                text: "t".into(),
                ..Default::default()
            }
        ),
        "GetChatMessage" => {
            call!(
                get_chat_message,
                v1::GetChatMessageRequest { acting_user_id, thread_id, message_id, ..Default::default() }
            )
        }
        "ListChatMessages" => call!(
            list_chat_messages,
            v1::ListChatMessagesRequest { acting_user_id, thread_id, ..Default::default() }
        ),
        "UpdateChatMessage" => call!(
            update_chat_message,
            v1::UpdateChatMessageRequest {
                acting_user_id,
                thread_id,
                message_id,
                text: "t".into(),
                update_mask: mask("text"),
                ..Default::default()
            }
        ),
        "DeleteChatMessage" => {
            call!(delete_chat_message, v1::DeleteChatMessageRequest { acting_user_id, thread_id, message_id })
        }
        "SendReadReceipt" => {
            call!(send_read_receipt, v1::SendReadReceiptRequest { acting_user_id, thread_id, message_id })
        }
        "ListReadReceipts" => call!(
            list_read_receipts,
            v1::ListReadReceiptsRequest { acting_user_id, thread_id, ..Default::default() }
        ),
        "SendTypingNotification" => call!(
            send_typing_notification,
            v1::SendTypingNotificationRequest { acting_user_id, thread_id, ..Default::default() }
        ),
        other => panic!("{other}"),
    }
}
