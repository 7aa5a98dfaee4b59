//! What the operations send and how they read the answers.

use std::time::Duration;

use proptest::prelude::*;
use time::OffsetDateTime;

use super::super::Class;
use super::super::testing::{Play, Server, client, settings};
use super::*;

const ID: &str = "8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";
const ESCAPED: &str = "8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(8)
}

fn created_with_token() -> Play {
    // The `+` is escaped as some servers' JSON writers do it.
    let body = format!(
        r#"{{"identity":{{"id":"{ID}","customId":"x"}},"accessToken":{{"token":"t.t.t","expiresOn":"2022-11-16T09:48:02.7233445\u002B00:00"}},"later":1}}"#
    );
    Play::json(201, &body)
}

#[tokio::test]
async fn create_sends_what_was_asked_for_in_the_version_that_knows_it() {
    let bare = || Play::json(201, &format!(r#"{{"identity":{{"id":"{ID}"}}}}"#));
    let server = Server::start([bare(), created_with_token(), bare(), created_with_token()]).await;
    let client = client(&settings(), &server.endpoint());
    let identity = client.identity();
    let first: Option<(&[&str], u16)> = Some((&["chat", "voip"], 60));
    let none = identity.create_identity(None, None, soon()).await.unwrap();
    assert_eq!(none, Created { id: ID.to_owned(), token: None });
    let some = identity.create_identity(None, first, soon()).await.unwrap();
    assert_eq!(some.id, ID);
    let token = some.token.unwrap();
    assert_eq!(
        (token.secret.expose(), token.expires_on),
        ("t.t.t", Timestamp::from_millis(1_668_592_082_723))
    );
    identity.create_identity(Some("ü"), None, soon()).await.unwrap();
    identity.create_identity(Some("ü"), first, soon()).await.unwrap();
    let sent: Vec<(String, String)> = server
        .received()
        .into_iter()
        .map(|request| {
            request.assert_signed();
            assert_eq!(
                (request.method.as_str(), request.header("content-type")),
                ("POST", "application/json")
            );
            (request.target, request.body)
        })
        .collect();
    let expected = [
        ("/identities?api-version=2023-10-01", "{}"),
        (
            "/identities?api-version=2023-10-01",
            r#"{"createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#,
        ),
        ("/identities?api-version=2025-03-02-preview", r#"{"customId":"ü"}"#),
        (
            "/identities?api-version=2025-03-02-preview",
            r#"{"customId":"ü","createTokenWithScopes":["chat","voip"],"expiresInMinutes":60}"#,
        ),
    ];
    assert_eq!(sent, expected.map(|(target, body)| (target.to_owned(), body.to_owned())));
}

#[tokio::test]
async fn issue_revoke_and_delete_name_the_identity_in_the_path() {
    let token = Play::json(200, r#"{"token":"t","expiresOn":"2022-11-16T09:48:02Z"}"#);
    let server = Server::start([token, Play::no_content(), Play::no_content()]).await;
    let client = client(&settings(), &server.endpoint());
    let identity = client.identity();
    let token = identity.issue_token(ID, &["chat.join", "voip"], 1440, soon()).await.unwrap();
    assert_eq!(token.expires_on, Timestamp::from_millis(1_668_592_082_000));
    identity.revoke_tokens(ID, soon()).await.unwrap();
    identity.delete_identity(ID, soon()).await.unwrap();
    let received = server.received();
    let sent = |at: usize| {
        let request = &received[at];
        request.assert_signed();
        (
            request.method.as_str(),
            request.target.as_str(),
            request.body.as_str(),
            request.header("content-length"),
        )
    };
    let (issue, revoke, delete) = (
        format!("/identities/{ESCAPED}/:issueAccessToken?api-version=2023-10-01"),
        format!("/identities/{ESCAPED}/:revokeAccessTokens?api-version=2023-10-01"),
        format!("/identities/{ESCAPED}?api-version=2023-10-01"),
    );
    let body = r#"{"scopes":["chat.join","voip"],"expiresInMinutes":1440}"#;
    assert_eq!(sent(0), ("POST", issue.as_str(), body, body.len().to_string().as_str()));
    assert_eq!(sent(1), ("POST", revoke.as_str(), "", "0"));
    assert_eq!(sent(2), ("DELETE", delete.as_str(), "", "0"));
}

#[tokio::test]
async fn deleting_what_is_gone_succeeds_and_revoking_it_does_not() {
    let gone = || Play::json(404, r#"{"error":{"code":"NotFound","message":"gone"}}"#);
    let server = Server::start([gone(), gone()]).await;
    let client = client(&settings(), &server.endpoint());
    client.identity().delete_identity(ID, soon()).await.unwrap();
    let error = client.identity().revoke_tokens(ID, soon()).await.unwrap_err();
    assert_eq!((error.class(), error.status(), error.code()), (Class::Rejected, Some(404), Some("NotFound")));
}

#[tokio::test]
async fn a_create_that_lacks_the_id_or_the_token_asked_for_is_perhaps_done() {
    for body in [
        r#"{"identity":{"id":""}}"#,
        r#"{"identity":{}}"#,
        r#"{"accessToken":{"token":"t","expiresOn":"2022-11-16T09:48:02Z"}}"#,
        r#"{"identity":{"id":"8:acs:x"}}"#,
        r#"{"identity":{"id":"8:acs:x"},"accessToken":null}"#,
        r#"{"identity":{"id":"8:acs:x"},"accessToken":{"token":"t","expiresOn":"tomorrow"}}"#,
    ] {
        let server = Server::start([Play::json(201, body)]).await;
        let client = client(&settings(), &server.endpoint());
        let result = client.identity().create_identity(None, Some((&["chat"], 60)), soon()).await;
        let error = result.unwrap_err();
        assert_eq!((error.class(), error.status()), (Class::PerhapsSent, Some(201)), "{body}");
    }
}

#[test]
fn expiry_is_read_in_every_form_acs_writes() {
    for (text, millis) in [
        ("2022-11-16T09:48:02.7233445+00:00", 1_668_592_082_723),
        ("2022-11-16T09:48:02.72+00:00", 1_668_592_082_720),
        ("2022-11-16T09:48:02+00:00", 1_668_592_082_000),
        ("2022-11-16T09:48:02Z", 1_668_592_082_000),
        ("2022-11-16T11:48:02.999999999+02:00", 1_668_592_082_999),
    ] {
        assert_eq!(body::time(text), Some(Timestamp::from_millis(millis)), "{text}");
    }
    for text in [
        "",
        "2022-11-16",
        "2022-11-16T09:48:02",
        "2022-13-16T09:48:02Z",
        "1969-12-31T23:59:59Z",
        "1668592082",
    ] {
        assert_eq!(body::time(text), None, "{text}");
    }
}

#[test]
fn what_was_created_shows_neither_id_nor_token() {
    let token =
        Token { secret: Secret::new("t.t.t"), expires_on: Timestamp::default(), issuer: Fingerprint([0; 8]) };
    let shown = format!("{:?}", Created { id: ID.to_owned(), token: Some(token) });
    assert!(!shown.contains("8:acs") && !shown.contains("t.t.t"), "{shown}");
}

proptest! {
    #[test]
    fn no_expiry_text_panics(text in "[0-9TZ:.+ -]{0,40}") {
        let _ = body::time(&text);
    }

    #[test]
    fn any_time_is_read_back_to_the_millisecond(millis in 0u64..253_402_300_799_000, digits in 3usize..=7) {
        let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).unwrap();
        let text = format!(
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:0<digits$}+00:00",
            at.year(), u8::from(at.month()), at.day(), at.hour(), at.minute(), at.second(),
            format!("{:03}", at.millisecond()),
        );
        prop_assert_eq!(body::time(&text), Some(Timestamp::from_millis(millis)), "{}", text);
    }
}
