//! SmsService as a client meets it: every RPC, every bad input, every way it can end.

use std::time::Duration;

use acs_broker::broker::error::Error;
use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use acs_broker::messaging::ports::ChannelError;
use tonic::{Code, Status};

use crate::harness::{Server, anybody, refused, start_default, start_messaging};
use crate::messages::{SENDER, settings};

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

fn sms(to: &[&str]) -> v1::SendSmsRequest {
    v1::SendSmsRequest {
        request_id: UUID.into(),
        to: to.iter().map(|to| (*to).into()).collect(),
        text: "Your code is 1234".into(),
        ..v1::SendSmsRequest::default()
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("+1425555{:04}", n * 10)).collect()
}

async fn send(server: &Server, request: v1::SendSmsRequest) -> Result<v1::SendSmsResponse, Status> {
    Ok(server.sms().await.send_sms(request).await?.into_inner())
}

fn by_request(id: &str) -> v1::GetSmsRequest {
    v1::GetSmsRequest { name: Some(v1::get_sms_request::Name::RequestId(id.into())) }
}

#[tokio::test]
async fn an_sms_is_taken_recipient_by_recipient_and_found_by_either_name() {
    let server = start_default().await;
    let request = v1::SendSmsRequest {
        tag: "login".into(),
        enable_delivery_report: true,
        ..sms(&["+14255550120", "+14255550129"])
    };
    let sent = send(&server, request).await.unwrap();
    let states: Vec<_> = sent.outcomes.iter().map(|outcome| (outcome.to.as_str(), outcome.state())).collect();
    assert_eq!(
        states,
        [("+14255550120", v1::MessageState::Sent), ("+14255550129", v1::MessageState::Failed)]
    );
    assert!(sent.outcomes[0].message_id.starts_with("out-") && sent.outcomes[0].failure.is_none());
    let failure = sent.outcomes[1].failure.as_ref().unwrap();
    assert_eq!((failure.code.as_str(), sent.outcomes[1].message_id.as_str()), ("400", ""));
    assert!(sent.outcomes.iter().all(|outcome| outcome.update_time.is_some()));
    let batch = server.world.sms.lock().unwrap().values().next().unwrap().1.clone();
    assert_eq!((batch.from.as_str(), batch.delivery_report), (SENDER, true));

    let by_id = v1::get_sms_request::Name::SmsId(sent.sms_id.clone());
    for request in [v1::GetSmsRequest { name: Some(by_id) }, by_request(UUID)] {
        let found = server.sms().await.get_sms(request).await.unwrap().into_inner();
        assert_eq!((&found.sms_id, found.tag.as_str()), (&sent.sms_id, "login"));
        assert_eq!(found.outcomes, sent.outcomes);
        assert!(found.create_time.is_some());
    }
}

#[tokio::test]
async fn repeated_it_sends_nothing_and_for_something_else_it_is_refused() {
    let server = start_default().await;
    let first = send(&server, sms(&["+14255550120"])).await.unwrap();
    // Another way to write the same id.
    let shouted = v1::SendSmsRequest { request_id: UUID.to_uppercase(), ..sms(&["+14255550120"]) };
    assert_eq!(send(&server, shouted).await.unwrap(), first);
    assert_eq!(server.world.sent(), 1);
    let other = v1::SendSmsRequest { text: "Your code is 4321".into(), ..sms(&["+14255550120"]) };
    let status = send(&server, other).await.unwrap_err();
    let details = refused(&status, Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED");
    assert_eq!(details.precondition_failure().unwrap().violations[0].subject, "request_id");
    assert_eq!(server.world.sent(), 1);
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_sent() {
    let server = start_default().await;
    let many = |count| v1::SendSmsRequest { to: numbers(count), ..sms(&[]) };
    let to = |to: &[&str]| sms(to);
    let text = |text: String| v1::SendSmsRequest { text, ..sms(&["+14255550120"]) };
    let id = |id: &str| v1::SendSmsRequest { request_id: id.into(), ..sms(&["+14255550120"]) };
    let cases: Vec<(v1::SendSmsRequest, &[&str])> = vec![
        (id(""), &["request_id"]),
        (id("f81d4fae7dec41d0a76500a0c91e6bf6"), &["request_id"]),
        (id("00000000-0000-0000-0000-000000000000"), &["request_id"]),
        (many(0), &["to"]),
        (many(101), &["to"]),
        (many(3000), &["to"]),
        (to(&["+14255550120", "14255550121"]), &["to[1]"]),
        (
            to(&["", "+1 425 555 0120", "+04255550120", "+1425555012345678"]),
            &["to[0]", "to[1]", "to[2]", "to[3]"],
        ),
        (to(&["+14255550120", "+14255550130", "+14255550120"]), &["to[2]"]),
        (text(String::new()), &["text"]),
        (text("x".repeat(2049)), &["text"]),
        // Two code units each.
        (text("😀".repeat(1025)), &["text"]),
        (v1::SendSmsRequest { tag: "x".repeat(129), ..sms(&["+14255550120"]) }, &["tag"]),
        (v1::SendSmsRequest { tag: "a\r\nb".into(), ..sms(&["+14255550120"]) }, &["tag"]),
        (v1::SendSmsRequest { from: "+18005550199".into(), ..sms(&["+14255550120"]) }, &["from"]),
        (
            v1::SendSmsRequest { from: "x".into(), text: String::new(), ..sms(&["+14255550120"]) },
            &["from", "text"],
        ),
    ];
    for (request, expected) in cases {
        let status = send(&server, request).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        let violations = &details.bad_request().unwrap().field_violations;
        let fields: Vec<_> = violations.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(fields, expected);
        assert!(!status.message().contains("4255550120"), "{status}");
    }
    assert_eq!(server.world.sent(), 0);
    let status = server.sms().await.get_sms(by_request(UUID)).await.unwrap_err();
    refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
}

#[tokio::test]
async fn what_is_just_within_the_limits_is_sent() {
    let server = start_default().await;
    let request = v1::SendSmsRequest {
        to: numbers(100),
        text: "😀".repeat(1024),
        tag: "x".repeat(128),
        from: "50505".into(),
        ..sms(&[])
    };
    assert_eq!(send(&server, request).await.unwrap().outcomes.len(), 100);
    assert_eq!(server.world.sent(), 100);
}

#[tokio::test]
async fn a_hundred_bad_numbers_still_make_a_status_that_any_client_takes() {
    let server = start_default().await;
    let bad: Vec<_> = (0..100).map(|n| format!("not a number {n}")).collect();
    let status = send(&server, v1::SendSmsRequest { to: bad, ..sms(&[]) }).await.unwrap_err();
    let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(details.bad_request().unwrap().field_violations.len(), 24);
    let size = status.message().len() + status.details().len() * 4 / 3;
    assert!(size < 6 * 1024, "{size} bytes of headers");
}

#[tokio::test]
async fn get_sms_wants_a_name_of_the_right_kind() {
    let server = start_default().await;
    let by_id = |id: &str| Some(v1::get_sms_request::Name::SmsId(id.into()));
    let mail = format!("email_{}", "0".repeat(32));
    for (name, field) in [
        (None, "name"),
        (by_id(""), "sms_id"),
        (by_id("sms_zz"), "sms_id"),
        (by_id(&mail), "sms_id"),
        (by_request("x").name, "request_id"),
    ] {
        let status = server.sms().await.get_sms(v1::GetSmsRequest { name }).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let unknown = by_id(&format!("sms_{}", "0".repeat(32)));
    let status = server.sms().await.get_sms(v1::GetSmsRequest { name: unknown }).await.unwrap_err();
    refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
}

#[tokio::test]
async fn limits_and_failures_tell_what_to_do_and_send_nothing() {
    let server = start_default().await;
    let seconds = Duration::from_secs;
    *server.world.used_up_for.lock().unwrap() = Some(seconds(7));
    let status = send(&server, sms(&["+14255550120"])).await.unwrap_err();
    let details = refused(&status, Code::ResourceExhausted, "ACS_LIMIT_REACHED");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(seconds(7)));
    *server.world.used_up_for.lock().unwrap() = None;

    let unavailable = Error::AcsUnavailable { retry_after: seconds(3), cause: None };
    for (error, code, reason, delay) in [
        (ChannelError::Throttled(seconds(9)), Code::ResourceExhausted, "ACS_THROTTLED", Some(seconds(9))),
        (ChannelError::NotSent(unavailable), Code::Unavailable, "ACS_UNAVAILABLE", Some(seconds(3))),
        (
            ChannelError::NotSent(Error::AcsCredentialsRefused),
            Code::Internal,
            "ACS_CREDENTIALS_REFUSED",
            None,
        ),
    ] {
        *server.world.next.lock().unwrap() = Some(error);
        let status = send(&server, sms(&["+14255550120"])).await.unwrap_err();
        let details = refused(&status, code, reason);
        assert_eq!(details.retry_info().and_then(|info| info.retry_delay), delay);
    }
    *server.world.store_is_down.lock().unwrap() = true;
    let status = send(&server, sms(&["+14255550120"])).await.unwrap_err();
    assert!(refused(&status, Code::Unavailable, "STORE_UNAVAILABLE").retry_info().is_some());
    *server.world.store_is_down.lock().unwrap() = false;
    assert_eq!(server.world.sent(), 0);
    // Nothing was sent, so the same id is good for the first time.
    send(&server, sms(&["+14255550120"])).await.unwrap();
    assert_eq!(server.world.sent(), 1);
}

#[tokio::test]
async fn an_answer_that_never_came_is_unknown_until_the_request_is_repeated() {
    let server = start_default().await;
    let lost = ChannelError::Unknown { retry_after: Some(Duration::from_secs(4)), cause: None };
    *server.world.next.lock().unwrap() = Some(lost);
    let status = send(&server, sms(&["+14255550120"])).await.unwrap_err();
    let details = refused(&status, Code::Unavailable, "OUTCOME_UNKNOWN");
    assert_eq!(details.retry_info().unwrap().retry_delay, Some(Duration::from_secs(4)));
    let found = server.sms().await.get_sms(by_request(UUID)).await.unwrap().into_inner();
    assert_eq!(found.outcomes[0].state(), v1::MessageState::Unknown);
    let sent = send(&server, sms(&["+14255550120"])).await.unwrap();
    assert_eq!(sent.outcomes[0].state(), v1::MessageState::Sent);
}

#[tokio::test]
async fn who_is_not_on_the_list_is_not_reached_and_neither_are_the_others() {
    let mut messages = settings();
    messages.sms.allow = "+1425*".into();
    messages.email.senders = String::new();
    let server = start_messaging(anybody(), Settings::default(), messages).await;
    let status = send(&server, sms(&["+14255550120", "+442071838750"])).await.unwrap_err();
    let details = refused(&status, Code::FailedPrecondition, "RECIPIENT_NOT_ALLOWED");
    assert_eq!(details.precondition_failure().unwrap().violations[0].r#type, "RECIPIENT");
    assert_eq!(server.world.sent(), 0);
    send(&server, sms(&["+14255550120"])).await.unwrap();

    let mail = v1::SendEmailRequest { request_id: UUID.into(), ..v1::SendEmailRequest::default() };
    let status = server.email().await.send_email(mail).await.unwrap_err();
    let details = refused(&status, Code::FailedPrecondition, "CHANNEL_NOT_CONFIGURED");
    assert_eq!(details.precondition_failure().unwrap().violations[0].r#type, "SENDER");
}

#[tokio::test]
async fn opt_outs_are_looked_at_and_changed_recipient_by_recipient() {
    let server = start_default().await;
    let mut client = server.sms().await;
    let recipients = vec!["+14255550120".to_owned(), "+14255550129".to_owned()];
    let (from, to) = (String::new(), recipients.clone());
    let added = client.add_sms_opt_outs(v1::AddSmsOptOutsRequest { from, recipients: to }).await.unwrap();
    let [first, second] = &added.get_ref().opt_outs[..] else { panic!("two answers") };
    assert_eq!((first.recipient.as_str(), first.opted_out, &first.failure), ("+14255550120", true, &None));
    assert_eq!(second.failure.as_ref().unwrap().code, "400");
    let (from, to) = (SENDER.to_owned(), recipients.clone());
    let removed =
        client.remove_sms_opt_outs(v1::RemoveSmsOptOutsRequest { from, recipients: to }).await.unwrap();
    assert!(!removed.get_ref().opt_outs[0].opted_out);
    let (from, to) = (String::new(), recipients);
    client.check_sms_opt_outs(v1::CheckSmsOptOutsRequest { from, recipients: to }).await.unwrap();

    for (from, recipients, field) in [
        ("", vec![], "recipients"),
        ("", numbers(101), "recipients"),
        ("", vec!["+14255550120".into(), "x".into()], "recipients[1]"),
        ("", vec!["+14255550120".into(), "+14255550120".into()], "recipients[1]"),
        ("+18005550199", vec!["+14255550120".into()], "from"),
    ] {
        let request = v1::CheckSmsOptOutsRequest { from: from.into(), recipients };
        let status = client.check_sms_opt_outs(request).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
}
