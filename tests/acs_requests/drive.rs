//! Calls the operation of the client that a case names, with the case's parameters as far as the client can express
//! them. It never looks at what is sent: what gets lost on the way is for the judge to find.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use acs_broker::acs::{
    ChatParticipant, ChatParty, ChatRange, Client, Error, Mail, MailAddress, MailAttachment, OptOutChange,
    Sms, SmsRecipient,
};
use acs_broker::clock::Timestamp;
use acs_broker::secret::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;
use uuid::Uuid;

/// What stands for ids and times that a case does not have and the client must have.
const SOME_ID: Uuid = Uuid::from_u128(0x0f8b_2c54_7a1d_4e0e_9d7c_3b1a_5c6d_7e8f);
const SOME_TIME: Timestamp = Timestamp::from_millis(1_741_064_767_000);

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn texts(value: &Value) -> Option<BTreeMap<String, String>> {
    serde_json::from_value(value.clone()).unwrap()
}

fn id(value: &Value) -> Uuid {
    value.as_str().map_or(SOME_ID, |id| id.parse().unwrap())
}

fn time(value: &Value) -> Option<Timestamp> {
    let time = OffsetDateTime::parse(value.as_str()?, &Rfc3339).unwrap();
    Some(Timestamp::from_system_time(SystemTime::from(time)))
}

/// The body: the only parameter that is an object.
fn body(parameters: &Value) -> &Value {
    parameters.as_object().unwrap().values().find(|value| value.is_object()).unwrap_or(&Value::Null)
}

/// Calls the operation.
pub(crate) async fn drive(client: &Client, operation: &str, parameters: &Value) -> Result<(), Error> {
    let deadline = Instant::now() + Duration::from_secs(20);
    match operation {
        "create_identity" | "issue_token" | "revoke_tokens" | "delete_identity" => {
            identity(client, operation, parameters, deadline).await
        }
        "send_sms" => send_sms(client, body(parameters), deadline).await,
        "check_opt_outs" => opt_outs(client, OptOutChange::Check, body(parameters), deadline).await,
        "add_opt_outs" => opt_outs(client, OptOutChange::Add, body(parameters), deadline).await,
        "remove_opt_outs" => opt_outs(client, OptOutChange::Remove, body(parameters), deadline).await,
        "send_email" => send_email(client, parameters, deadline).await,
        "get_email_operation" => {
            client.email().status(id(&parameters["operationId"]), deadline).await.map(drop)
        }
        _ => chat(client, operation, parameters, deadline).await,
    }
}

async fn identity(client: &Client, operation: &str, p: &Value, deadline: Instant) -> Result<(), Error> {
    let (body, identity) = (body(p), client.identity());
    let scopes =
        |value: &'_ Value| list(value).iter().map(|scope| text(scope).to_owned()).collect::<Vec<_>>();
    let minutes = || u16::try_from(body["expiresInMinutes"].as_u64().unwrap()).unwrap();
    match operation {
        "create_identity" => {
            let scopes = scopes(&body["createTokenWithScopes"]);
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            let first = (!scopes.is_empty()).then(|| (scopes.as_slice(), minutes()));
            identity.create_identity(body["customId"].as_str(), first, deadline).await.map(drop)
        }
        "issue_token" => {
            let scopes = scopes(&body["scopes"]);
            let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
            identity.issue_token(text(&p["id"]), &scopes, minutes(), deadline).await.map(drop)
        }
        "revoke_tokens" => identity.revoke_tokens(text(&p["id"]), deadline).await,
        _ => identity.delete_identity(text(&p["id"]), deadline).await,
    }
}

async fn send_sms(client: &Client, body: &Value, deadline: Instant) -> Result<(), Error> {
    let recipient = |one: &Value| SmsRecipient {
        to: text(&one["to"]).to_owned(),
        repeatability_id: id(&one["repeatabilityRequestId"]),
        first_sent: one["repeatabilityFirstSent"]
            .as_str()
            .map_or(SOME_TIME, |date| Timestamp::from_system_time(httpdate::parse_http_date(date).unwrap())),
    };
    let to: Vec<_> = list(&body["smsRecipients"]).iter().map(recipient).collect();
    let options = &body["smsSendOptions"];
    let sms = Sms {
        from: text(&body["from"]),
        to: &to,
        text: text(&body["message"]),
        delivery_report: options["enableDeliveryReport"].as_bool().unwrap_or_default(),
        tag: options["tag"].as_str(),
    };
    let results = client.sms().send(&sms, deadline).await?;
    assert_eq!(results.len(), to.len());
    Ok(())
}

async fn opt_outs(
    client: &Client,
    change: OptOutChange,
    body: &Value,
    deadline: Instant,
) -> Result<(), Error> {
    let to: Vec<_> = list(&body["recipients"]).iter().map(|one| text(&one["to"]).to_owned()).collect();
    client.sms().opt_outs(change, text(&body["from"]), &to, deadline).await.map(drop)
}

async fn send_email(client: &Client, p: &Value, deadline: Instant) -> Result<(), Error> {
    let body = body(p);
    let addresses = |value: &Value| {
        let address = |one: &Value| MailAddress {
            address: text(&one["address"]).to_owned(),
            display_name: one["displayName"].as_str().unwrap_or_default().to_owned(),
        };
        list(value).iter().map(address).collect::<Vec<_>>()
    };
    let attachment = |one: &Value| MailAttachment {
        name: text(&one["name"]).to_owned(),
        content_type: text(&one["contentType"]).to_owned(),
        content: STANDARD.decode(text(&one["contentInBase64"])).unwrap(),
        content_id: one["contentId"].as_str().map(str::to_owned),
    };
    let (content, recipients) = (&body["content"], &body["recipients"]);
    let mail = Mail {
        from: text(&body["senderAddress"]),
        subject: text(&content["subject"]),
        plain_text: content["plainText"].as_str(),
        html: content["html"].as_str(),
        to: &addresses(&recipients["to"]),
        cc: &addresses(&recipients["cc"]),
        bcc: &addresses(&recipients["bcc"]),
        reply_to: &addresses(&body["replyTo"]),
        attachments: &list(&body["attachments"]).iter().map(attachment).collect::<Vec<_>>(),
        headers: &texts(&body["headers"]).unwrap_or_default(),
        tracking_disabled: body["userEngagementTrackingDisabled"].as_bool().unwrap_or_default(),
    };
    client.email().send(id(&p["operation-id"]), &mail, deadline).await.map(drop)
}

fn participant(one: &Value) -> ChatParticipant {
    ChatParticipant {
        party: ChatParty { id: text(&one["communicationIdentifier"]["rawId"]).to_owned() },
        display_name: one["displayName"].as_str().unwrap_or_default().to_owned(),
        share_history: time(&one["shareHistoryTime"]),
    }
}

async fn chat(client: &Client, operation: &str, p: &Value, deadline: Instant) -> Result<(), Error> {
    let token = Secret::new("e30.e30.e30");
    let (chat, body) = (client.chat(&token), body(p));
    let thread = p["chatThreadId"].as_str().unwrap_or_default();
    let message = p["chatMessageId"].as_str().unwrap_or_default();
    let participants: Vec<_> = list(&body["participants"]).iter().map(participant).collect();
    let metadata = texts(&body["metadata"]);
    let some_metadata = metadata.clone().unwrap_or_default();
    let (topic, content, name) =
        (body["topic"].as_str(), body["content"].as_str(), body["senderDisplayName"].as_str());
    // Where a page ends is a text of ACS's own; a client gets there by no other way than `from`.
    let from = p["skip"].as_u64().map(|skip| {
        let size = p["maxPageSize"].as_u64().map(|size| format!("&maxPageSize={size}")).unwrap_or_default();
        format!("skip={skip}{size}")
    });
    let range = ChatRange {
        size: p["maxPageSize"].as_u64().map(|size| u32::try_from(size).unwrap()),
        since: time(&p["startTime"]),
        from: from.as_deref(),
    };
    match operation {
        "create_thread" => {
            let given = p.get("repeatability-request-id").or_else(|| p.get("idempotency-token"));
            let repeatability_id = id(given.unwrap_or(&Value::Null));
            chat.create_thread(repeatability_id, topic.unwrap(), &participants, &some_metadata, deadline)
                .await
                .map(drop)
        }
        "get_thread" => chat.thread(thread, deadline).await.map(drop),
        "list_threads" => chat.threads(range, deadline).await.map(drop),
        "update_thread" => chat.update_thread(thread, topic, metadata.as_ref(), deadline).await,
        "delete_thread" => chat.delete_thread(thread, deadline).await,
        "add_participants" => chat.add_participants(thread, &participants, deadline).await.map(drop),
        "list_participants" => chat.participants(thread, range, deadline).await.map(drop),
        "remove_participant" => chat.remove_participant(thread, text(&body["rawId"]), deadline).await,
        "send_message" => {
            let is_html = body["type"] == "html";
            chat.send_message(thread, content.unwrap(), is_html, name, &some_metadata, deadline)
                .await
                .map(drop)
        }
        "get_message" => chat.message(thread, message, deadline).await.map(drop),
        "list_messages" => chat.messages(thread, range, deadline).await.map(drop),
        "update_message" => chat.update_message(thread, message, content, metadata.as_ref(), deadline).await,
        "delete_message" => chat.delete_message(thread, message, deadline).await,
        "send_read_receipt" => chat.send_read_receipt(thread, text(&body["chatMessageId"]), deadline).await,
        "list_read_receipts" => chat.read_receipts(thread, range, deadline).await.map(drop),
        "send_typing" => chat.send_typing(thread, name, deadline).await,
        other => panic!("no operation {other}"),
    }
}
