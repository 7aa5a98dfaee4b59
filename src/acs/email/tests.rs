//! What mail calls put on the wire and what they make of the answers, against scripted servers.

use serde_json::{Value, json};

use super::super::Class;
use super::super::testing::{Play, Server, client, settings};
use super::*;

const ID: uuid::Uuid = uuid::Uuid::from_u128(7);

fn address(address: &str, name: &str) -> MailAddress {
    MailAddress { address: address.to_owned(), display_name: name.to_owned() }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn status(status: &str) -> Play {
    let body = json!({ "id": ID.to_string(), "status": status, "error": null });
    Play::with(202, "Content-Type: application/json\r\nRetry-After: 30\r\n", &body.to_string())
}

async fn send(server: &Server, mail: &Mail<'_>) -> Result<MailStatus, Error> {
    client(&settings(), &server.endpoint()).email().send(ID, mail, soon()).await
}

fn plain<'a>(to: &'a [MailAddress], headers: &'a BTreeMap<String, String>) -> Mail<'a> {
    Mail {
        from: "news@contoso.com",
        subject: "Secret subject",
        plain_text: Some("Secret text"),
        html: None,
        to,
        cc: &[],
        bcc: &[],
        reply_to: &[],
        attachments: &[],
        headers,
        tracking_disabled: false,
    }
}

#[tokio::test]
async fn a_whole_mail_says_what_the_specification_wants() {
    let server = Server::start([status("Running")]).await;
    let (to, cc) = ([address("a@example.com", "A")], [address("c@example.com", "")]);
    let headers = BTreeMap::from([("X-Priority".to_owned(), "1".to_owned())]);
    let attachments = [MailAttachment {
        name: "logo.png".to_owned(),
        content_type: "image/png".to_owned(),
        content: vec![1, 2, 3],
        content_id: Some("logo".to_owned()),
    }];
    let mail = Mail {
        html: Some("<img src=\"cid:logo\">"),
        cc: &cc,
        bcc: &to,
        reply_to: &cc,
        attachments: &attachments,
        tracking_disabled: true,
        ..plain(&to, &headers)
    };
    let sent = send(&server, &mail).await.unwrap();
    assert_eq!(sent, MailStatus::UnderWay { ask_again: Some(Duration::from_secs(30)) });
    let received = &server.received()[0];
    received.assert_signed();
    assert_eq!(received.target, "/emails:send?api-version=2025-09-01");
    assert_eq!(received.header("operation-id"), ID.to_string());
    assert_eq!(
        serde_json::from_str::<Value>(&received.body).unwrap(),
        json!({
            "senderAddress": "news@contoso.com",
            "content": {
                "subject": "Secret subject", "plainText": "Secret text", "html": "<img src=\"cid:logo\">"
            },
            "recipients": {
                "to": [{ "address": "a@example.com", "displayName": "A" }],
                "cc": [{ "address": "c@example.com" }],
                "bcc": [{ "address": "a@example.com", "displayName": "A" }]
            },
            "attachments": [{
                "name": "logo.png", "contentType": "image/png", "contentInBase64": "AQID", "contentId": "logo"
            }],
            "replyTo": [{ "address": "c@example.com" }],
            "headers": { "X-Priority": "1" },
            "userEngagementTrackingDisabled": true
        })
    );
}

#[tokio::test]
async fn a_plain_mail_leaves_out_what_it_does_not_have() {
    let server = Server::start([status("NotStarted")]).await;
    let (to, headers) = ([address("a@example.com", "")], BTreeMap::new());
    send(&server, &plain(&to, &headers)).await.unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(&server.received()[0].body).unwrap(),
        json!({
            "senderAddress": "news@contoso.com",
            "content": { "subject": "Secret subject", "plainText": "Secret text" },
            "recipients": { "to": [{ "address": "a@example.com" }] }
        })
    );
}

#[tokio::test]
async fn a_send_without_an_answer_is_repeated_under_the_same_id() {
    let server = Server::start([Play::Reset, Play::json(503, ""), status("Running")]).await;
    let (to, headers) = ([address("a@example.com", "")], BTreeMap::new());
    send(&server, &plain(&to, &headers)).await.unwrap();
    let received = server.received();
    assert_eq!(received.len(), 3);
    assert!(received.iter().all(|request| request.header("operation-id") == ID.to_string()));
}

#[tokio::test]
async fn a_conflict_means_that_it_was_taken_before() {
    let server = Server::start([Play::json(409, ""), status("Succeeded")]).await;
    let (to, headers) = ([address("a@example.com", "")], BTreeMap::new());
    assert_eq!(send(&server, &plain(&to, &headers)).await.unwrap(), MailStatus::Succeeded);
    assert_eq!(server.received()[1].target, format!("/emails/operations/{ID}?api-version=2025-09-01"));
}

#[tokio::test]
async fn each_state_is_read_without_case_and_a_failure_says_why() {
    let failed = json!({
        "id": ID.to_string(), "status": "failed",
        "error": { "code": "EmailDroppedAllRecipientsSuppressed", "message": "Message dropped: a@example.com" }
    });
    for (body, wanted) in [
        (json!({ "status": "SUCCEEDED" }), MailStatus::Succeeded),
        (json!({ "status": "Canceled" }), MailStatus::Canceled),
        (json!({ "status": "running" }), MailStatus::UnderWay { ask_again: None }),
    ] {
        let server = Server::start([Play::json(200, &body.to_string())]).await;
        let read = client(&settings(), &server.endpoint()).email().status(ID, soon()).await.unwrap();
        assert_eq!(read, wanted);
    }
    let server = Server::start([Play::json(200, &failed.to_string())]).await;
    let read = client(&settings(), &server.endpoint()).email().status(ID, soon()).await.unwrap();
    let MailStatus::Failed { code, message } = read else { panic!("{read:?}") };
    assert_eq!(code.as_deref(), Some("EmailDroppedAllRecipientsSuppressed"));
    assert!(!message.unwrap().contains("a@example.com"));
    let server = Server::start([Play::json(200, r#"{"status":"Sleeping"}"#)]).await;
    let error = client(&settings(), &server.endpoint()).email().status(ID, soon()).await.unwrap_err();
    assert_eq!(error.class(), Class::PerhapsSent);
}

#[tokio::test]
async fn a_rejection_shows_neither_address_nor_text() {
    let body = json!({ "error": {
        "code": "InvalidEmailAddress", "target": "recipients",
        "message": "Secret text to a@example.com with Secret subject is not valid"
    } });
    let server = Server::start([Play::json(400, &body.to_string())]).await;
    let (to, headers) = ([address("a@example.com", "")], BTreeMap::new());
    let error = send(&server, &plain(&to, &headers)).await.unwrap_err();
    assert_eq!(
        (error.class(), error.code(), error.target()),
        (Class::Rejected, Some("InvalidEmailAddress"), Some("recipients"))
    );
    let shown = format!("{error} {error:?}");
    for private in ["a@example.com", "Secret text", "Secret subject"] {
        assert!(!shown.contains(private), "{shown}");
    }
}
