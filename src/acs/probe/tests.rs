//! What a refusal leads to, against scripted servers: which key signs what, and how many requests go out.

use super::super::testing::{ACCESS_KEY, Play, Received, Server, Ticking, settings};
use super::super::{
    Class, Client, ConnectionString, Error, Fate, Fingerprint, Settings, Sms, SmsRecipient, Token,
};
use super::*;
use crate::secret::Secret;

const OTHER_KEY: &str = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA=";
const ID: &str = "8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";

fn refused() -> Play {
    Play::json(401, r#"{"error":{"code":"Denied","message":"Denied by the resource provider."}}"#)
}

/// What a good credential gets for the probe, as recorded.
fn accepted() -> Play {
    Play::json(
        401,
        r#"{"error":{"code":"InvalidAccessToken","message":"Provided access token is not valid."}}"#,
    )
}

fn issued() -> Play {
    Play::json(200, r#"{"token":"t.t.t","expiresOn":"2025-03-04T06:06:07.0000000+00:00"}"#)
}

fn two_keys(server: &Server) -> Client {
    let of = |key: &str| format!("endpoint={}/;accesskey={key}", server.endpoint());
    let settings = Settings { secondary_connection_string: Secret::new(of(OTHER_KEY)), ..settings() };
    let first = ConnectionString::parse(&of(ACCESS_KEY)).unwrap();
    Client::new(&settings, first, Arc::new(Ticking::default())).unwrap()
}

fn one_key(server: &Server) -> Client {
    super::super::testing::client(&settings(), &server.endpoint())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(8)
}

async fn issue(client: &Client) -> Result<Token, Error> {
    client.identity().issue_token(ID, &["chat"], 60, soon()).await
}

fn targets(received: &[Received]) -> Vec<&str> {
    received.iter().map(|request| request.target.split(['?', ':']).next().unwrap()).collect()
}

const PROBE: &str = "/teamsUser/";

#[tokio::test]
async fn a_refused_key_gives_way_to_one_that_a_probe_shows_to_be_good() {
    let server = Server::start([refused(), refused(), accepted(), issued(), issued()]).await;
    let client = two_keys(&server);
    let first = client.standing().in_use;
    let token = issue(&client).await.unwrap();
    let standing = client.standing();
    assert_eq!((token.issuer, standing.spare), (standing.in_use, Some(first)));
    assert_ne!(standing.in_use, first);
    assert!(standing.first_refused && standing.refused.is_none());
    assert_eq!((client.fate(first), client.fate(standing.in_use)), (Fate::Dead, Fate::InUse));
    let received = server.received();
    let issuing =
        "/identities/8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429/";
    assert_eq!(targets(&received), [issuing, PROBE, PROBE, issuing]);
    for (request, key) in received.iter().zip([ACCESS_KEY, ACCESS_KEY, OTHER_KEY, OTHER_KEY]) {
        request.assert_signed_with(key);
    }
    // It is remembered.
    issue(&client).await.unwrap();
    server.received()[4].assert_signed_with(OTHER_KEY);
}

/// A wrong clock makes ACS refuse every signature.
#[tokio::test]
async fn what_makes_acs_refuse_every_key_moves_none_and_is_asked_no_more() {
    let server = Server::start([refused(), refused(), refused()]).await;
    let client = two_keys(&server);
    let first = client.standing().in_use;
    for attempts in [1, 0, 0] {
        let error = issue(&client).await.unwrap_err();
        assert_eq!((error.class(), error.attempts()), (Class::CredentialsRefused, attempts), "{error}");
    }
    assert_eq!(server.received().len(), 3);
    let standing = client.standing();
    assert_eq!((standing.in_use, standing.refused), (first, Some(Refusal::Acs(401))));
    client.tend().await;
    assert_eq!(server.received().len(), 3, "nothing is due yet");
}

#[tokio::test]
async fn a_refusal_that_a_probe_does_not_bear_out_is_tried_once_more_with_the_same_key() {
    let server = Server::start([refused(), accepted(), issued(), refused(), accepted(), refused()]).await;
    let client = two_keys(&server);
    let first = client.standing().in_use;
    assert_eq!(issue(&client).await.unwrap().issuer, first);
    let error = issue(&client).await.unwrap_err();
    assert_eq!((error.class(), error.attempts()), (Class::CredentialsRefused, 2), "once, and not for ever");
    assert_eq!((client.standing().in_use, client.standing().refused), (first, None));
}

/// Somebody who sends from a number that is not the resource's gets 401 too, as often as they like.
#[tokio::test]
async fn a_refusal_of_what_was_asked_moves_no_key_and_costs_one_probe() {
    let unowned = || Play::json(401, r#"{"error":{"code":"Unauthorized","message":""}}"#);
    let server = Server::start([unowned(), accepted(), unowned(), unowned()]).await;
    let client = two_keys(&server);
    let first = client.standing().in_use;
    let to = [SmsRecipient {
        to: "+14255550123".into(),
        repeatability_id: uuid::Uuid::nil(),
        first_sent: crate::clock::Timestamp::default(),
    }];
    let sms = Sms { from: "+18005550100", to: &to, text: "x", delivery_report: false, tag: None };
    for _ in 0..3 {
        let error = client.sms().send(&sms, soon()).await.unwrap_err();
        assert_eq!((error.class(), error.target()), (Class::Rejected, Some("from")));
    }
    assert_eq!(targets(&server.received()), ["/sms", PROBE, "/sms", "/sms"]);
    assert_eq!((client.standing().in_use, client.standing().refused), (first, None));
}

/// ACS slows down or fails while it is asked: that tells of no key that it is good, nor that it is bad.
#[tokio::test]
async fn a_probe_without_an_answer_that_tells_moves_no_key_and_clears_none() {
    let slow = || Play::json(429, r#"{"error":{"code":"TooManyRequests","message":""}}"#);
    let away = || Play::json(503, r#"{"error":{"code":"ServiceUnavailable","message":""}}"#);
    for (plays, requests) in [
        (vec![refused(), slow(), issued()], 2),
        (vec![refused(), Play::json(408, "{}"), issued()], 2),
        (vec![refused(), away(), issued()], 2),
        (vec![refused(), refused(), slow(), issued()], 3),
        (vec![refused(), refused(), away(), issued()], 3),
    ] {
        let server = Server::start(plays).await;
        let client = two_keys(&server);
        let first = client.standing().in_use;
        assert_eq!(issue(&client).await.unwrap_err().class(), Class::CredentialsRefused);
        assert_eq!(server.received().len(), requests);
        assert_eq!((client.standing().in_use, client.standing().refused), (first, None));
    }
}

#[tokio::test]
async fn a_lonely_key_that_is_refused_says_so() {
    let server = Server::start([refused(), refused()]).await;
    let client = one_key(&server);
    assert_eq!(issue(&client).await.unwrap_err().class(), Class::CredentialsRefused);
    assert_eq!(client.standing().refused, Some(Refusal::Acs(401)));
}

#[tokio::test]
async fn the_credential_is_looked_at_though_nobody_calls() {
    let server = Server::start([accepted(), issued()]).await;
    let client = one_key(&server);
    client.tend().await;
    client.tend().await;
    assert_eq!(targets(&server.received()), [PROBE], "once; then it is proven for a while");
    server.received()[0].assert_signed();
    let server = Server::start([issued()]).await;
    let client = one_key(&server);
    issue(&client).await.unwrap();
    client.tend().await;
    assert_eq!(server.received().len(), 1, "a call that went well proves it too");
    let server = Server::start([refused(), refused()]).await;
    let client = two_keys(&server);
    client.tend().await;
    client.tend().await;
    assert_eq!(client.standing().refused, Some(Refusal::Acs(401)));
    assert_eq!(server.received().len(), 2, "each key once");
}

#[tokio::test]
async fn the_key_that_is_put_first_is_used_once_a_probe_shows_it_to_be_good() {
    let server = Server::start([accepted(), refused(), accepted(), issued()]).await;
    let client = one_key(&server);
    let (first, of) =
        (client.standing().in_use, |key: &str| format!("endpoint={}/;accesskey={key}", server.endpoint()));
    client.tend().await;
    assert!(client.replace_keys(&of("AQIDBA=="), &of(ACCESS_KEY)).unwrap());
    client.tend().await;
    assert_eq!((client.standing().in_use, client.standing().first_refused), (first, true));
    assert!(client.replace_keys(&of(OTHER_KEY), &of(ACCESS_KEY)).unwrap());
    assert!(!client.replace_keys(&of(OTHER_KEY), &of(ACCESS_KEY)).unwrap(), "nothing new");
    client.tend().await;
    let standing = client.standing();
    assert_eq!((standing.spare, standing.first_refused), (Some(first), false));
    assert_eq!(client.fate(first), Fate::Spare, "the old key was not refused");
    assert_eq!(issue(&client).await.unwrap().issuer, standing.in_use);
    server.received()[3].assert_signed_with(OTHER_KEY);
}

#[tokio::test]
async fn connection_strings_that_are_none_or_of_another_resource_change_nothing() {
    let server = Server::start([]).await;
    let client = two_keys(&server);
    let of = |key: &str| format!("endpoint={}/;accesskey={key}", server.endpoint());
    let before = client.standing();
    let elsewhere = format!("endpoint=https://other.example/;accesskey={OTHER_KEY}");
    for (first, second) in [
        ("", ""),
        ("endpoint=x", ""),
        (elsewhere.as_str(), ""),
        (of(ACCESS_KEY).as_str(), elsewhere.as_str()),
        (of(ACCESS_KEY).as_str(), "nonsense"),
    ] {
        let error = client.replace_keys(first, second).unwrap_err().to_string();
        assert!(error.starts_with("acs.") && !error.contains(OTHER_KEY), "{error}");
        assert_eq!(client.standing(), before);
    }
}

#[test]
fn a_fingerprint_is_the_beginning_of_a_sha_256() {
    // printf 'abc' | sha256sum
    let abc = Fingerprint::of(&[b"a", b"bc"]);
    assert_eq!(abc.to_string(), "ba7816bf8f01cfea");
}
