//! What a call does when the server, the network or the time run out on it, against scripted servers.

use std::collections::HashSet;
use std::error::Error as _;

use super::super::testing::{ACCESS_KEY, Closed, Play, Server, client, hasty, settings};
use super::super::{Client, Token};
use super::*;

const ID: &str = "8:acs:1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429";
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJleHAiOjF9.c2VjcmV0";

fn issued() -> Play {
    Play::json(200, &format!(r#"{{"token":"{TOKEN}","expiresOn":"2025-03-05T05:06:07.1234567+00:00"}}"#))
}

fn created() -> Play {
    Play::json(201, &format!(r#"{{"identity":{{"id":"{ID}"}}}}"#))
}

fn within(millis: u64) -> Instant {
    Instant::now() + Duration::from_millis(millis)
}

async fn issue(client: &Client, millis: u64) -> Result<Token, Error> {
    client.identity().issue_token(ID, &["chat"], 60, within(millis)).await
}

async fn create(client: &Client, millis: u64) -> Result<(), Error> {
    client.identity().create_identity(None, None, within(millis)).await.map(drop)
}

/// Everything that an error could show anywhere.
fn shown(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(" / {error} {error:?}"));
        cause = error.source();
    }
    text
}

fn assert_shows_nothing(text: &str) {
    for secret in [ACCESS_KEY, ID, TOKEN, "8%3Aacs", "1b3c5d7e", "Signature=", "SignedHeaders", "c2VjcmV0"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test]
async fn each_attempt_is_signed_anew_and_all_share_one_request_id() {
    let server = Server::start([Play::json(503, ""), Play::json(500, ""), issued()]).await;
    let token = issue(&client(&settings(), &server.endpoint()), 8000).await.unwrap();
    assert_eq!(token.secret.expose(), TOKEN);
    let received = server.received();
    assert_eq!(received.len(), 3);
    received.iter().for_each(super::super::testing::Received::assert_signed);
    let distinct = |name| received.iter().map(|request| request.header(name)).collect::<HashSet<_>>().len();
    assert_eq!(
        (distinct("x-ms-date"), distinct("authorization"), distinct("x-ms-client-request-id")),
        (3, 3, 1)
    );
    let first = &received[0];
    assert!(uuid::Uuid::parse_str(first.header("x-ms-client-request-id")).is_ok());
    assert_eq!(first.header("host"), server.address.to_string());
    assert_eq!(
        first.target,
        "/identities/8%3Aacs%3A1b3c5d7e-0000-4000-8000-0123456789ab_00000011-9f42-71b4-88f7-08482200b429/:issueAccessToken?api-version=2023-10-01"
    );
}

#[tokio::test]
async fn a_retry_after_that_fits_is_waited_for() {
    for status in [429, 503] {
        let server = Server::start([Play::with(status, "retry-after-ms: 700\r\n", ""), issued()]).await;
        let started = Instant::now();
        issue(&client(&settings(), &server.endpoint()), 8000).await.unwrap();
        assert!(started.elapsed() >= Duration::from_millis(700), "{:?}", started.elapsed());
        assert_eq!(server.received().len(), 2, "{status}");
    }
}

/// A gateway may say 503 of what was done behind it, and the second identity would be an orphan.
#[tokio::test]
async fn a_create_without_a_custom_id_is_not_repeated_after_a_503() {
    let server = Server::start([Play::json(503, ""), created()]).await;
    let error = create(&client(&settings(), &server.endpoint()), 8000).await.unwrap_err();
    assert_eq!((error.class(), error.attempts()), (Class::ServerFailed { retry_after: None }, 1));
    assert_eq!(server.received().len(), 1);
    let server = Server::start([Play::json(429, ""), created()]).await;
    create(&client(&settings(), &server.endpoint()), 8000).await.unwrap();
    let server = Server::start([Play::json(503, ""), created()]).await;
    let client = client(&settings(), &server.endpoint());
    let deadline = Instant::now() + Duration::from_secs(8);
    client.identity().create_identity(Some("alice"), None, deadline).await.unwrap();
}

#[tokio::test]
async fn a_retry_after_beyond_the_budget_ends_the_call_at_once() {
    let wait = Some(Duration::from_secs(30));
    for (status, class) in
        [(429, Class::Throttled { retry_after: wait }), (503, Class::ServerFailed { retry_after: wait })]
    {
        let server = Server::start([Play::with(status, "Retry-After: 30\r\n", ""), issued()]).await;
        let started = Instant::now();
        let error = issue(&client(&settings(), &server.endpoint()), 8000).await.unwrap_err();
        assert_eq!((error.class(), error.status(), error.attempts()), (class, Some(status), 1));
        assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
        assert_eq!(server.received().len(), 1);
    }
}

#[tokio::test]
async fn the_deadline_holds_over_all_attempts() {
    let server = Server::start(vec![Play::Hang; 20]).await;
    let client = client(&Settings { attempts: 10, ..hasty() }, &server.endpoint());
    let started = Instant::now();
    let error = issue(&client, 900).await.unwrap_err();
    let took = started.elapsed();
    assert_eq!(error.class(), Class::PerhapsSent);
    assert!(error.attempts() > 1, "{error}");
    assert!(took >= Duration::from_millis(250) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test]
async fn a_deadline_that_has_passed_sends_nothing() {
    let server = Server::start([created()]).await;
    let error = create(&client(&settings(), &server.endpoint()), 0).await.unwrap_err();
    assert_eq!(error.class(), Class::NeverSent);
    assert_eq!(server.received().len(), 0);
}

#[tokio::test]
async fn a_refused_connection_is_never_sent_and_tried_again_even_for_create() {
    let closed = Closed::new();
    let error = create(&client(&settings(), &closed.endpoint()), 8000).await.unwrap_err();
    assert_eq!((error.class(), error.status(), error.attempts()), (Class::NeverSent, None, 3));
}

#[tokio::test]
async fn a_create_that_perhaps_arrived_is_not_repeated() {
    let settings = Settings { attempt_timeout: Duration::from_secs(1), ..settings() };
    let half = "HTTP/1.1 201 S\r\nContent-Length: 100\r\n\r\n{\"identity\":".to_owned();
    for play in [
        Play::Reset,
        Play::Cut(String::new()),
        Play::Cut(half),
        Play::Hang,
        Play::json(500, ""),
        Play::json(504, ""),
    ] {
        let server = Server::start([play, created()]).await;
        let error = create(&client(&settings, &server.endpoint()), 8000).await.unwrap_err();
        assert!(matches!(error.class(), Class::PerhapsSent | Class::ServerFailed { .. }), "{error}");
        assert_eq!((error.attempts(), server.received().len()), (1, 1), "{error}");
    }
}

#[tokio::test]
async fn an_issue_that_perhaps_arrived_is_repeated() {
    let settings = Settings { attempt_timeout: Duration::from_secs(1), ..settings() };
    let half = "HTTP/1.1 200 S\r\nContent-Length: 100\r\n\r\n{\"token\":".to_owned();
    for play in [
        Play::Reset,
        Play::Cut(String::new()),
        Play::Cut(half),
        Play::Hang,
        Play::json(408, ""),
        Play::json(502, "<html>"),
    ] {
        let server = Server::start([play, issued()]).await;
        issue(&client(&settings, &server.endpoint()), 8000).await.unwrap();
        assert_eq!(server.received().len(), 2);
    }
}

#[tokio::test]
async fn a_later_attempt_that_was_never_sent_does_not_hide_an_earlier_one_that_was() {
    let server = Server::start([Play::Reset, Play::Hang]).await;
    let client = client(&Settings { max_concurrency: 1, ..settings() }, &server.endpoint());
    let other = client.clone();
    let first = tokio::spawn(async move { issue(&other, 1000).await });
    server.wait_for(1).await;
    // The first attempt is lost; before the second this call takes the only turn.
    let second = tokio::spawn(async move { issue(&client, 20_000).await });
    let error = first.await.unwrap().unwrap_err();
    assert_eq!((error.class(), error.attempts()), (Class::PerhapsSent, 2), "{}", shown(&error));
    second.abort();
}

#[tokio::test]
async fn a_success_that_cannot_be_used_is_an_error_and_not_repeated() {
    let head = "HTTP/1.1 200 S\r\nContent-Type: application/json\r\n";
    for play in [
        Play::json(200, "not json"),
        Play::json(200, ""),
        Play::json(200, r#"{"token":"","expiresOn":"2025-03-05T05:06:07Z"}"#),
        Play::json(200, &format!(r#"{{"token":"{TOKEN}"}}"#)),
        Play::json(200, &format!(r#"{{"token":"{TOKEN}","expiresOn":"{TOKEN}"}}"#)),
        Play::json(200, &format!(r#"{{"token":["{TOKEN}"],"expiresOn":7}}"#)),
        Play::json(200, &" ".repeat(300_000)),
        Play::Endless(format!("{head}Content-Length: 99999999\r\n\r\n")),
        Play::Endless(format!("{head}\r\n")),
    ] {
        let server = Server::start([play, issued()]).await;
        let error = issue(&client(&settings(), &server.endpoint()), 5000).await.unwrap_err();
        assert_eq!((error.class(), error.status()), (Class::PerhapsSent, Some(200)), "{}", shown(&error));
        assert_eq!(server.received().len(), 1);
        assert_shows_nothing(&shown(&error));
    }
}

#[tokio::test]
async fn something_that_does_not_speak_http_is_an_error() {
    for words in ["SSH-2.0-OpenSSH_9.2\r\n", "HTTP/1.1 banana\r\n\r\n", "\0\0\0\0", "HTTP/1.1 200 S\r\n"] {
        let server = Server::start(vec![Play::Cut(words.to_owned()); 3]).await;
        let error = issue(&client(&settings(), &server.endpoint()), 5000).await.unwrap_err();
        assert_eq!(
            (error.class(), error.attempts()),
            (Class::PerhapsSent, 3),
            "{words:?}: {}",
            shown(&error)
        );
    }
}

#[tokio::test]
async fn error_bodies_of_any_kind_keep_the_status() {
    let html = "<html><body>Bad gateway</body></html>";
    let endless = Play::Endless("HTTP/1.1 400 S\r\n\r\n".to_owned());
    for (play, status, class) in [
        (Play::json(500, html), 500, Class::ServerFailed { retry_after: None }),
        (Play::json(501, html), 501, Class::ServerFailed { retry_after: None }),
        (Play::json(404, ""), 404, Class::Rejected),
        (Play::json(400, "[[[["), 400, Class::Rejected),
        (Play::Cut("HTTP/1.1 400 S\r\nContent-Length: 9\r\n\r\n{".to_owned()), 400, Class::Rejected),
        (endless, 400, Class::Rejected),
    ] {
        let server = Server::start([play]).await;
        let error = create(&client(&settings(), &server.endpoint()), 5000).await.unwrap_err();
        assert_eq!((error.status(), error.class(), error.attempts()), (Some(status), class, 1), "{error}");
    }
}

#[tokio::test]
async fn a_refusal_that_nothing_explains_is_not_tried_again() {
    for (status, body) in [
        (401, r#"{"error":{"code":"Denied","message":"Denied by the resource provider."}}"#),
        (401, r#"{"error":{"code":"Unauthorized","message":""}}"#),
        (401, ""),
        (403, r#"{"error":{"code":"Denied","message":"no"}}"#),
        (403, ""),
    ] {
        // The probe says nothing.
        let server = Server::start([Play::json(status, body), Play::json(500, ""), issued()]).await;
        let error = issue(&client(&settings(), &server.endpoint()), 5000).await.unwrap_err();
        assert_eq!((error.class(), error.attempts()), (Class::CredentialsRefused, 1), "{error}");
        assert_eq!(server.received().len(), 2);
    }
}

#[tokio::test]
async fn a_rejection_names_code_and_target_and_repeats_nothing_private() {
    let body = format!(
        r#"{{"error":{{"code":"ValidationError","target":"ExpiresInMinutes","message":"Identity {ID} with {TOKEN}: value 59 is invalid."}}}}"#
    );
    let server = Server::start([Play::json(400, &body)]).await;
    let error = issue(&client(&settings(), &server.endpoint()), 5000).await.unwrap_err();
    assert_eq!(error.class(), Class::Rejected);
    assert_eq!((error.code(), error.target()), (Some("ValidationError"), Some("ExpiresInMinutes")));
    assert!(!error.to_string().contains("invalid"), "{error}");
    assert!(error.source().unwrap().to_string().contains("value 59 is invalid"), "{}", shown(&error));
    assert_shows_nothing(&shown(&error));
    assert!(error.to_string().contains(server.received()[0].header("x-ms-client-request-id")));
}

#[tokio::test]
async fn redirects_are_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Server::start([Play::no_content()]).await;
        let location = format!("Location: {}/identities\r\n", elsewhere.endpoint());
        let server = Server::start([Play::with(status, &location, "")]).await;
        let client = client(&settings(), &server.endpoint());
        let error = client.identity().revoke_tokens(ID, within(5000)).await.unwrap_err();
        assert_eq!((error.class(), error.status()), (Class::Rejected, Some(status)));
        assert_eq!(elsewhere.received().len(), 0);
    }
}

#[tokio::test]
async fn errors_of_the_network_do_not_name_the_address_they_were_sent_to() {
    let closed = Closed::new();
    let half = "HTTP/1.1 200 S\r\nContent-Length: 100\r\n\r\n{".to_owned();
    for play in [None, Some(Play::Reset), Some(Play::Cut("SSH-2.0\r\n".to_owned())), Some(Play::Cut(half))] {
        let server = Server::start(play.clone()).await;
        let endpoint = if play.is_some() { server.endpoint() } else { closed.endpoint() };
        let client = client(&Settings { attempts: 1, ..settings() }, &endpoint);
        let error = issue(&client, 5000).await.unwrap_err();
        assert!(error.source().is_some());
        assert_shows_nothing(&shown(&error));
        assert!(!shown(&error).contains("identities/"), "{}", shown(&error));
    }
}

#[tokio::test]
async fn ids_that_would_change_the_path_are_not_sent_and_others_are_escaped() {
    let server = Server::start([Play::no_content(), Play::no_content()]).await;
    let client = client(&settings(), &server.endpoint());
    for id in [".", ".."] {
        let error = client.identity().delete_identity(id, within(5000)).await.unwrap_err();
        assert_eq!((error.class(), error.status()), (Class::Rejected, None), "{id}");
    }
    assert_eq!(server.received().len(), 0);
    for (id, target) in [("../x?y#z", "..%2Fx%3Fy%23z"), ("ü\\ %2e", "%C3%BC%5C%20%252e")] {
        client.identity().delete_identity(id, within(5000)).await.unwrap();
        let last = server.received().pop().unwrap();
        assert_eq!(last.target, format!("/identities/{target}?api-version=2023-10-01"));
        last.assert_signed();
    }
}

#[tokio::test]
async fn a_call_waits_for_its_turn_no_longer_than_its_deadline() {
    let server = Server::start([Play::Hang]).await;
    let client = client(&Settings { max_concurrency: 1, ..settings() }, &server.endpoint());
    let other = client.clone();
    let first = tokio::spawn(async move { issue(&other, 20_000).await });
    server.wait_for(1).await;
    let started = Instant::now();
    let error = create(&client, 150).await.unwrap_err();
    assert_eq!(error.class(), Class::NeverSent);
    assert!(started.elapsed() < Duration::from_secs(2));
    assert_eq!(server.received().len(), 1);
    first.abort();
}

#[tokio::test]
async fn logs_hold_no_key_signature_token_or_id() {
    let captured = Captured::default();
    let writer = captured.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let echo = format!(r#"{{"error":{{"code":"X","message":"{ID} {TOKEN}"}}}}"#);
    // Other tests of this process have no subscriber, and theirs may be what the place of the event remembers.
    while !captured.text().contains("ACS request") {
        let server = Server::start([issued()]).await;
        issue(&client(&settings(), &server.endpoint()), 8000).await.unwrap();
        tracing::callsite::rebuild_interest_cache();
    }
    captured.0.lock().unwrap().clear();
    let server = Server::start([Play::json(502, &echo), Play::Reset, issued(), Play::json(400, &echo)]).await;
    let client = client(&settings(), &server.endpoint());
    let token = issue(&client, 8000).await.unwrap();
    let error = issue(&client, 8000).await.unwrap_err();
    tracing::error!(?error, %error, ?client, ?token, "what others might log");
    let text = captured.text();
    assert_eq!(text.matches("ACS request").count(), 4, "{text}");
    assert!(text.contains("/identities/{id}/:issueAccessToken") && text.contains("attempt=3"), "{text}");
    assert_shows_nothing(&text);
}

#[derive(Clone, Default)]
struct Captured(Arc<std::sync::Mutex<Vec<u8>>>);

impl Captured {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

mod https {
    //! TLS against a server whose certificate authority is made in the test.

    use std::io::{Read, Write};
    use std::path::PathBuf;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

    use super::*;

    /// A PEM file of a new authority, and the configuration of a server for 127.0.0.1 that it vouches for.
    fn authority(folder: &std::path::Path, name: &str) -> (PathBuf, rustls::ServerConfig) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let path = folder.join(name);
        std::fs::write(&path, certificate.pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let leaf_key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()])
            .unwrap()
            .signed_by(&leaf_key, &issuer)
            .unwrap();
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], private)
            .unwrap();
        (path, server)
    }

    /// Answers the first request of one connection with 204; its result is the start of what it read.
    fn serve_once(
        config: rustls::ServerConfig,
    ) -> (String, std::thread::JoinHandle<std::io::Result<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (socket, _) = listener.accept()?;
            socket.set_read_timeout(Some(Duration::from_secs(10)))?;
            let session = rustls::ServerConnection::new(Arc::new(config)).map_err(std::io::Error::other)?;
            let mut stream = rustls::StreamOwned::new(session, socket);
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request)?;
            stream.write_all(b"HTTP/1.1 204 S\r\nConnection: close\r\n\r\n")?;
            Ok(String::from_utf8_lossy(&request[..read]).into_owned())
        });
        (endpoint, thread)
    }

    #[tokio::test]
    async fn a_server_that_the_ca_file_vouches_for_is_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let (ca_file, config) = authority(folder.path(), "ca.pem");
        let (endpoint, thread) = serve_once(config);
        let client = client(&Settings { ca_file: Some(ca_file), ..settings() }, &endpoint);
        client.identity().delete_identity(ID, within(8000)).await.unwrap();
        assert!(thread.join().unwrap().unwrap().starts_with("DELETE /identities/8%3Aacs"));
    }

    #[tokio::test]
    async fn a_server_of_another_authority_gets_no_request() {
        let folder = tempfile::tempdir().unwrap();
        let (_, config) = authority(folder.path(), "theirs.pem");
        let (ca_file, _) = authority(folder.path(), "ours.pem");
        let (endpoint, thread) = serve_once(config);
        let client = client(&Settings { ca_file: Some(ca_file), attempts: 1, ..settings() }, &endpoint);
        let error = client.identity().delete_identity(ID, within(8000)).await.unwrap_err();
        assert_eq!(error.class(), Class::NeverSent, "{}", shown(&error));
        assert!(shown(&error).contains("InvalidCertificate"), "{}", shown(&error));
        assert!(thread.join().unwrap().is_err(), "no request was read");
    }

    #[tokio::test]
    async fn a_handshake_that_hangs_is_never_sent() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("https://{}", listener.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (ca_file, _) = authority(folder.path(), "ca.pem");
        let client = client(&Settings { ca_file: Some(ca_file), ..hasty() }, &endpoint);
        let error = create(&client, 5000).await.unwrap_err();
        assert_eq!((error.class(), error.attempts()), (Class::NeverSent, 3), "{}", shown(&error));
    }
}
