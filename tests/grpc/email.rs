//! EmailService as a client meets it: every RPC, every bad input, mails as large as ACS takes.

use std::time::Duration;

use acs_broker::grpc::proto::v1;
use acs_broker::messaging::ports::MailProgress;
use acs_broker::messaging::types::Failure;
use tokio::time::Instant;
use tonic::{Code, Request, Status};

use crate::harness::{Server, eventually, refused, start_default};
use crate::messages::MAIL_SENDER;

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

fn address(address: &str) -> v1::EmailAddress {
    v1::EmailAddress { address: address.into(), display_name: String::new() }
}

fn mail() -> v1::SendEmailRequest {
    v1::SendEmailRequest {
        request_id: UUID.into(),
        to: vec![address("alice@example.com")],
        subject: "Your invoice".into(),
        plain_text: "See the attachment.".into(),
        ..v1::SendEmailRequest::default()
    }
}

fn file(content: Vec<u8>) -> v1::EmailAttachment {
    v1::EmailAttachment {
        name: "a.bin".into(),
        content_type: "application/octet-stream".into(),
        content,
        content_id: String::new(),
    }
}

async fn send(server: &Server, request: v1::SendEmailRequest) -> Result<v1::SendEmailResponse, Status> {
    Ok(server.email().await.send_email(request).await?.into_inner())
}

fn by_request(wait: bool) -> v1::GetEmailRequest {
    v1::GetEmailRequest { name: Some(v1::get_email_request::Name::RequestId(UUID.into())), wait }
}

#[tokio::test]
async fn a_mail_goes_out_whole_once_and_is_found_by_either_name() {
    let server = start_default().await;
    let request = v1::SendEmailRequest {
        cc: vec![v1::EmailAddress { address: "bob@example.com".into(), display_name: "Bob".into() }],
        bcc: vec![address("carol@example.com")],
        reply_to: vec![address("help@contoso.com")],
        html: "<p>See the attachment.</p>".into(),
        attachments: vec![v1::EmailAttachment {
            name: "logo.png".into(),
            content_type: "image/png".into(),
            content: b"\x89PNG\r\n\x1a\nrest".to_vec(),
            content_id: "logo".into(),
        }],
        headers: [("X-Priority".to_owned(), "1".to_owned())].into(),
        disable_engagement_tracking: true,
        ..mail()
    };
    let sent = send(&server, request.clone()).await.unwrap();
    assert_eq!((sent.state(), sent.failure.as_ref()), (v1::MessageState::Accepted, None));
    assert_eq!(send(&server, request).await.unwrap(), sent);
    let mails = server.world.mails.lock().unwrap().clone();
    let [mail] = &mails.values().collect::<Vec<_>>()[..] else { panic!("one mail") };
    assert_eq!((mail.from.as_str(), mail.cc[0].display_name()), (MAIL_SENDER, "Bob"));
    assert_eq!(mail.attachments[0].content_id.as_deref(), Some("logo"));
    assert_eq!((mail.headers["X-Priority"].as_str(), mail.tracking_disabled), ("1", true));
    assert_eq!((mail.bcc.len(), mail.reply_to.len()), (1, 1));

    let by_id = v1::get_email_request::Name::EmailId(sent.email_id.clone());
    for request in [v1::GetEmailRequest { name: Some(by_id), wait: false }, by_request(false)] {
        let found = server.email().await.get_email(request).await.unwrap().into_inner();
        assert_eq!((&found.email_id, found.state()), (&sent.email_id, v1::MessageState::Accepted));
        let to: Vec<_> = found.deliveries.iter().map(|delivery| delivery.address.as_str()).collect();
        assert_eq!(to, ["alice@example.com", "bob@example.com", "carol@example.com"]);
        assert!(found.create_time.is_some());
    }
}

#[tokio::test]
async fn every_bad_field_is_named_and_nothing_is_sent() {
    let server = start_default().await;
    let list = |count: usize| (0..count).map(|n| address(&format!("u{n}@example.com"))).collect::<Vec<_>>();
    let named = |name: &str| v1::EmailAddress { address: "a@example.com".into(), display_name: name.into() };
    let header = |name: &str, value: &str| v1::SendEmailRequest {
        headers: [(name.to_owned(), value.to_owned())].into(),
        ..mail()
    };
    let attached = |file: v1::EmailAttachment| v1::SendEmailRequest { attachments: vec![file], ..mail() };
    let with = |change: fn(&mut v1::EmailAttachment)| {
        let mut file = file(b"x".to_vec());
        change(&mut file);
        attached(file)
    };
    let cases: Vec<(v1::SendEmailRequest, &[&str])> = vec![
        (v1::SendEmailRequest { request_id: String::new(), ..mail() }, &["request_id"]),
        (v1::SendEmailRequest { from: "ceo@contoso.com".into(), ..mail() }, &["from"]),
        (v1::SendEmailRequest { to: vec![], ..mail() }, &["to"]),
        (v1::SendEmailRequest { to: list(51), ..mail() }, &["to"]),
        (v1::SendEmailRequest { to: list(30), cc: list(51).split_off(30), ..mail() }, &["to"]),
        (v1::SendEmailRequest { reply_to: list(51), ..mail() }, &["reply_to"]),
        (
            v1::SendEmailRequest { cc: vec![address("b@example.com"), address("nobody")], ..mail() },
            &["cc[1].address"],
        ),
        (v1::SendEmailRequest { bcc: vec![address("a@b@c")], ..mail() }, &["bcc[0].address"]),
        (
            v1::SendEmailRequest { to: vec![address("a@example.com\r\nBcc: x@y.z")], ..mail() },
            &["to[0].address"],
        ),
        (v1::SendEmailRequest { to: vec![named("A\r\nBcc: x@y.z")], ..mail() }, &["to[0].display_name"]),
        (v1::SendEmailRequest { to: vec![named(&"x".repeat(257))], ..mail() }, &["to[0].display_name"]),
        (v1::SendEmailRequest { cc: vec![address("ALICE@example.com")], ..mail() }, &["cc[0].address"]),
        (v1::SendEmailRequest { subject: String::new(), ..mail() }, &["subject"]),
        (v1::SendEmailRequest { subject: "x\r\nBcc: a@b.c".into(), ..mail() }, &["subject"]),
        (v1::SendEmailRequest { subject: "x".repeat(999), ..mail() }, &["subject"]),
        (v1::SendEmailRequest { plain_text: String::new(), ..mail() }, &["plain_text"]),
        (header("X-A", "1\r\nBcc: a@b.c"), &["headers[0]"]),
        (header("X-A\r\nBcc", "a@b.c"), &["headers[0]"]),
        (header("Bcc", "a@b.c"), &["headers[0]"]),
        (header("", "x"), &["headers[0]"]),
        (
            v1::SendEmailRequest {
                headers: (0..51).map(|n| (format!("X-{n}"), "1".to_owned())).collect(),
                ..mail()
            },
            &["headers"],
        ),
        (with(|file| file.name = "../etc/passwd".into()), &["attachments[0].name"]),
        (with(|file| file.name = "a\r\nb".into()), &["attachments[0].name"]),
        (with(|file| file.name = String::new()), &["attachments[0].name"]),
        (with(|file| file.content_type = "pdf".into()), &["attachments[0].content_type"]),
        (with(|file| file.content_type = "a/b\r\nX: y".into()), &["attachments[0].content_type"]),
        (with(|file| file.content = Vec::new()), &["attachments[0].content"]),
        (with(|file| file.content_id = "a b".into()), &["attachments[0].content_id"]),
        (with(|file| file.content_type = "image/png".into()), &["attachments[0].content_type"]),
        (v1::SendEmailRequest { attachments: vec![file(b"x".to_vec()); 201], ..mail() }, &["attachments"]),
    ];
    for (n, (request, expected)) in cases.into_iter().enumerate() {
        let status = send(&server, request).await.expect_err(&format!("case {n}: {expected:?}"));
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        let violations = &details.bad_request().unwrap().field_violations;
        let fields: Vec<_> = violations.iter().map(|field| field.field.as_str()).collect();
        assert_eq!(fields, expected, "case {n}");
        assert!(!status.message().contains("example.com\r"), "{status}");
    }
    assert_eq!(server.world.sent(), 0);
}

#[tokio::test]
async fn ten_megabytes_of_base64_are_taken_and_more_is_refused() {
    let server = start_default().await;
    // Base64 makes four bytes of three.
    let fits = 10 * 1024 * 1024 / 4 * 3 - 3000;
    send(&server, v1::SendEmailRequest { attachments: vec![file(vec![7; fits])], ..mail() }).await.unwrap();
    assert_eq!(server.world.sent(), 1);

    let over = v1::SendEmailRequest { attachments: vec![file(vec![7; fits + 9000])], ..mail() };
    let status = send(&server, over).await.unwrap_err();
    let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
    assert_eq!(details.bad_request().unwrap().field_violations[0].field, "attachments");
    let far_over = v1::SendEmailRequest { attachments: vec![file(vec![7; 17 * 1024 * 1024])], ..mail() };
    let status = send(&server, far_over).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
    // Other services are not as generous.
    let request = v1::SendSmsRequest { text: "x".repeat(70_000), ..v1::SendSmsRequest::default() };
    let status = server.sms().await.send_sms(request).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn millions_of_empty_entries_are_refused_before_they_take_a_place_in_memory() {
    let server = start_default().await;
    let bomb = v1::SendEmailRequest { to: vec![v1::EmailAddress::default(); 1_000_000], ..mail() };
    let status = send(&server, bomb).await.unwrap_err();
    refused(&status, Code::ResourceExhausted, "MESSAGE_TOO_LARGE");
}

#[tokio::test]
async fn more_large_mails_at_once_than_fit_into_memory_are_refused_and_room_comes_back() {
    let server = start_default().await;
    // Too large for ACS, so that each ends at once, and never mind in which order they come.
    let large = || v1::SendEmailRequest { attachments: vec![file(vec![7; 15 * 1024 * 1024])], ..mail() };
    let clients: Vec<_> = futures_util::future::join_all((0..8).map(|_| server.email())).await;
    let answers = clients.into_iter().map(|mut client| async move { client.send_email(large()).await });
    let answers = futures_util::future::join_all(answers).await;
    let mut overloaded = 0;
    for answer in answers {
        let status = answer.unwrap_err();
        if status.code() == Code::ResourceExhausted {
            assert!(refused(&status, Code::ResourceExhausted, "BROKER_OVERLOADED").retry_info().is_some());
            overloaded += 1;
        } else {
            refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        }
    }
    assert!(overloaded >= 1, "eight times fifteen megabytes are more than may be there at once");
    let status = send(&server, large()).await.unwrap_err();
    refused(&status, Code::InvalidArgument, "INVALID_FIELD");
}

#[tokio::test]
async fn who_waits_is_told_the_end_and_without_one_just_before_the_deadline() {
    let server = start_default().await;
    send(&server, mail()).await.unwrap();
    let mut client = server.email().await;
    let began = Instant::now();
    let mut request = Request::new(by_request(true));
    request.set_timeout(Duration::from_millis(1500));
    let found = client.get_email(request).await.unwrap().into_inner();
    assert_eq!(found.state(), v1::MessageState::Accepted);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(700) && took < Duration::from_millis(1500), "{took:?}");

    let waiting = tokio::spawn(async move { client.get_email(by_request(true)).await });
    let failure = Failure { code: "Bounced".into(), detail: "no such mailbox".into() };
    *server.world.progress.lock().unwrap() = Some(MailProgress::Failed(failure));
    server.messaging.follow_operations().await.unwrap();
    let found = waiting.await.unwrap().unwrap().into_inner();
    assert_eq!(found.state(), v1::MessageState::Failed);
    assert_eq!(found.failure.unwrap().code, "Bounced");
    assert_eq!(found.deliveries[0].state(), v1::MessageState::Failed);
    eventually("the seats are free", || server.metrics.render().contains("acs_broker_rpcs_in_flight 0"))
        .await;
}

#[tokio::test]
async fn get_email_wants_a_name_of_the_right_kind() {
    let server = start_default().await;
    let by_id = |id: &str| Some(v1::get_email_request::Name::EmailId(id.into()));
    let sms = format!("sms_{}", "0".repeat(32));
    let nil = Some(v1::get_email_request::Name::RequestId("00000000-0000-0000-0000-000000000000".into()));
    for (name, field) in
        [(None, "name"), (by_id(&sms), "email_id"), (by_id("email_"), "email_id"), (nil, "request_id")]
    {
        let request = v1::GetEmailRequest { name, wait: true };
        let status = server.email().await.get_email(request).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
    }
    let status = server.email().await.get_email(by_request(true)).await.unwrap_err();
    refused(&status, Code::NotFound, "MESSAGE_NOT_FOUND");
}
