//! Fuzz targets: what ACS, or whoever answers in its place, may answer; and connection strings.
//!
//! The client is the real one, with its pipeline, its limits and its retries; only the connection is left out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::credential::entra::{Principal, SignIn};
use super::{
    ChatRange, Client, ConnectionString, Error, Mail, MailAddress, OptOutChange, Settings, Sms, SmsRecipient,
};
use crate::clock::{Clock, Timestamp};
use crate::fuzzing::{CANARY, Input, assert_silent};
use crate::secret::Secret;

thread_local! {
    static ANSWER: RefCell<Option<http::Response<Vec<u8>>>> = const { RefCell::new(None) };
    static STAGE: RefCell<Option<Stage>> = const { RefCell::new(None) };
}

/// The answer that was made up for the requests of this input, if one was.
pub(super) fn made_up() -> Option<reqwest::Response> {
    ANSWER.with_borrow(Option::clone).map(reqwest::Response::from)
}

struct Stage {
    runtime: tokio::runtime::Runtime,
    client: Client,
    token: Secret,
}

/// A clock that stands still.
#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_795_348_800_123)
    }
}

impl Stage {
    fn new() -> Self {
        let defaults: toml::Table =
            include_str!("../../config/default.toml").parse().expect("the default settings");
        let settings = defaults["acs"].clone().try_into::<Settings>().expect("the defaults of [acs]");
        // One attempt: there is one answer.
        let settings = Settings { attempts: 1, ..settings };
        let text = format!("endpoint=http://127.0.0.1:1/;accesskey={}", STANDARD.encode(CANARY));
        let resource = ConnectionString::parse(&text).expect("a connection string");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client = Client::new(&settings, resource, Arc::new(Still)).expect("a client");
        Self { runtime, client, token: Secret::new(format!("ey.{CANARY}.token")) }
    }
}

/// An answer to each operation: the first byte says which, the rest of the line is the status, then come headers, an
/// empty line and the body.
pub fn answers(data: &[u8]) {
    let mut input = Input(data);
    let which = input.byte();
    let status = std::str::from_utf8(input.line()).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let mut answer = http::Response::builder()
        .status(status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK));
    loop {
        let line = input.line();
        if line.is_empty() || answer.headers_ref().is_some_and(|headers| headers.len() >= 64) {
            break;
        }
        let mut line = Input(line);
        let name = HeaderName::from_bytes(line.until(b":"));
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.0.trim_ascii())) else { continue };
        answer = answer.header(name, value);
    }
    let answer = answer.body(input.0.to_vec()).expect("an answer");
    // A client whose credential was refused is another one from then on.
    let refused = matches!(answer.status().as_u16(), 401 | 403);
    ANSWER.set(Some(answer));
    let stage = STAGE.take().unwrap_or_else(Stage::new);
    stage.runtime.block_on(operation(&stage, which));
    ANSWER.set(None);
    STAGE.set((!refused).then_some(stage));
}

/// What failed says nothing of what was asked, whatever the answer repeats of it.
fn failed(error: Error) {
    let mut text = format!("{error} {error:?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(next) = cause {
        let _ = write!(text, " {next} {next:?}");
        cause = next.source();
    }
    assert_silent("an error of ACS", &text);
    for word in [error.code(), error.target()].into_iter().flatten() {
        assert!((1..=64).contains(&word.len()));
        assert!(word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-{}".contains(&byte)), "{word}");
    }
    if let super::Class::Throttled { retry_after: Some(wait) }
    | super::Class::ServerFailed { retry_after: Some(wait) } = error.class()
    {
        assert!(wait <= crate::retry::LONGEST_WAIT);
    }
}

async fn operation(Stage { client, token, .. }: &Stage, which: u8) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let id = format!("8:acs:1b3c5d7e_{CANARY}");
    let (thread, nothing) = (format!("19:{CANARY}@thread.v2"), BTreeMap::new());
    let number = "+14255550123";
    let (identity, sms, email, chat) = (client.identity(), client.sms(), client.email(), client.chat(token));
    let page = ChatRange { size: Some(10), since: None, from: None };
    let outcome = match which % 19 {
        0 => identity.create_identity(None, Some((&["chat"], 60)), deadline).await.map(|created| {
            assert!(!created.id.is_empty() && created.token.is_some());
            assert_silent("Debug of an identity", &format!("{created:?}"));
        }),
        1 => identity.create_identity(Some(CANARY), None, deadline).await.map(drop),
        2 => identity.issue_token(&id, &["voip"], 60, deadline).await.map(|token| {
            assert!(!token.secret.is_empty());
            assert_silent("Debug of a token", &format!("{token:?}"));
        }),
        3 => identity.revoke_tokens(&id, deadline).await,
        4 => identity.delete_identity(&id, deadline).await,
        5 => {
            let to = ["+14255550123", "+14255550124", CANARY].map(|to| SmsRecipient {
                to: to.to_owned(),
                repeatability_id: uuid::Uuid::from_u128(7),
                first_sent: Still.now(),
            });
            let text = format!("The text is {CANARY}");
            let sent = Sms { from: number, to: &to, text: &text, delivery_report: true, tag: Some(CANARY) };
            sms.send(&sent, deadline).await.map(|results| {
                assert_eq!(results.len(), to.len());
                for (result, asked) in results.iter().zip(&to) {
                    assert_eq!(result.to, asked.to, "the results are in another order");
                    if let Err(refusal) = &result.outcome {
                        assert_silent("the refusal of a recipient", &format!("{refusal:?}"));
                    }
                }
            })
        }
        6 => {
            let asked = [number.to_owned(), CANARY.to_owned()];
            sms.opt_outs(OptOutChange::Check, number, &asked, deadline).await.map(|found| {
                assert_eq!(found.len(), asked.len());
                for one in &found {
                    if let Err(refusal) = &one.outcome {
                        assert_silent("a refused opt-out", &format!("{refusal:?}"));
                    }
                }
            })
        }
        7 => {
            let to =
                [MailAddress { address: format!("{CANARY}@example.com"), display_name: CANARY.to_owned() }];
            let mail = Mail {
                from: "shop@example.com",
                subject: CANARY,
                plain_text: Some(CANARY),
                html: None,
                to: &to,
                cc: &[],
                bcc: &[],
                reply_to: &[],
                attachments: &[],
                headers: &nothing,
                tracking_disabled: false,
            };
            email.send(uuid::Uuid::from_u128(7), &mail, deadline).await.map(drop)
        }
        8 => email.status(uuid::Uuid::from_u128(7), deadline).await.map(drop),
        9 => chat.create_thread(uuid::Uuid::from_u128(7), CANARY, &[], &nothing, deadline).await.map(
            |(thread, refused)| {
                assert!(!thread.id.is_empty());
                drop(refused);
            },
        ),
        10 => chat.thread(&thread, deadline).await.map(drop),
        11 => match chat.threads(page, deadline).await {
            Ok(page) => goes_on(client, token, page.next.as_deref(), deadline).await,
            Err(error) => Err(error),
        },
        12 => chat.add_participants(&thread, &[], deadline).await.map(drop),
        13 => chat.participants(&thread, page, deadline).await.map(drop),
        14 => chat.send_message(&thread, CANARY, false, None, &nothing, deadline).await.map(|message| {
            assert!(!message.is_empty());
        }),
        15 => chat.message(&thread, "1", deadline).await.map(drop),
        16 => chat.messages(&thread, page, deadline).await.map(drop),
        17 => chat.read_receipts(&thread, page, deadline).await.map(drop),
        _ => chat.remove_participant(&thread, &id, deadline).await,
    };
    if let Err(error) = outcome {
        failed(error);
    }
}

/// Where a list goes on is asked of the same list, whatever the link named; the second answer is an empty one.
async fn goes_on(
    client: &Client,
    token: &Secret,
    next: Option<&str>,
    deadline: Instant,
) -> Result<(), Error> {
    let Some(next) = next else { return Ok(()) };
    ANSWER.set(Some(http::Response::new(br#"{"value":[]}"#.to_vec())));
    let range = ChatRange { from: Some(next), ..ChatRange::default() };
    let page = client.chat(token).threads(range, deadline).await;
    let page = page.expect("a place that the client gave out is taken back");
    assert!(page.entries.is_empty() && page.next.is_none());
    Ok(())
}

struct Lobby {
    runtime: tokio::runtime::Runtime,
    /// With a secret at Entra, and as the machine's identity at its metadata service.
    principals: [Principal; 2],
}

thread_local! {
    static LOBBY: RefCell<Option<Lobby>> = const { RefCell::new(None) };
}

impl Lobby {
    fn new() -> Self {
        let defaults: toml::Table =
            include_str!("../../config/default.toml").parse().expect("the default settings");
        let settings = defaults["acs"].clone().try_into::<Settings>().expect("the defaults of [acs]").entra;
        let principal = |kind| {
            let mut settings = settings.clone();
            settings.kind = kind;
            settings.tenant_id = "a-tenant".to_owned();
            settings.client_id = "a-client".to_owned();
            settings.client_secret = Secret::new(CANARY);
            Principal::new(settings, None, Arc::new(Still)).expect("an identity")
        };
        // Whoever waits, that passes at once.
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().expect("a runtime");
        Self { runtime, principals: [principal(SignIn::Secret), principal(SignIn::Managed)] }
    }
}

/// An answer to a sign-in: the first byte says to which kind, the rest of the line is the status, then comes the body.
pub fn sign_ins(data: &[u8]) {
    let mut input = Input(data);
    let which = usize::from(input.byte());
    let status = std::str::from_utf8(input.line()).ok().and_then(|text| text.trim().parse::<u16>().ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
    let answer = http::Response::builder().status(status).body(input.0.to_vec()).expect("an answer");
    ANSWER.set(Some(answer));
    let lobby = LOBBY.take().unwrap_or_else(Lobby::new);
    let principal = &lobby.principals[which % 2];
    principal.forget();
    lobby.runtime.block_on(async {
        match principal.token(Instant::now() + Duration::from_secs(20)).await {
            Ok(token) => {
                assert!(status.is_success(), "a token of an answer that refuses it");
                assert!(HeaderValue::from_str(token.expose()).is_ok_and(|value| !value.is_empty()));
                // What is not looked at need not be text.
                if let Ok(body) = serde_json::from_slice::<serde_json::Value>(input.0) {
                    assert_eq!(body["access_token"].as_str(), Some(token.expose()));
                }
                // The same one, or another of the same answer.
                let again = principal.token(Instant::now() + Duration::from_secs(20)).await;
                assert!(again.is_ok_and(|again| again.expose() == token.expose()));
            }
            Err(error) => assert_silent("why there is no token", &format!("{error} {error:?}")),
        }
        assert_silent("Debug of an identity", &format!("{principal:?}"));
    });
    ANSWER.set(None);
    LOBBY.set(Some(lobby));
}

/// Connection strings.
pub fn connection_strings(data: &[u8]) {
    let text = Input(data).text();
    match ConnectionString::parse(&text) {
        Ok(parsed) => {
            let endpoint = parsed.endpoint();
            let (base, authority) = (endpoint.as_str(), endpoint.authority());
            assert!(endpoint.is_https() || endpoint.is_loopback(), "unencrypted, and not on this machine");
            assert!(!base.ends_with('/') && !authority.contains(['/', '@', ' ']));
            let key = STANDARD.encode(parsed.access_key());
            assert!(key.len() < 12 || !format!("{parsed:?}").contains(&key), "Debug shows the key");
            if !key.is_empty() {
                let again = ConnectionString::parse(&format!("endpoint={base}/;accesskey={key}"));
                let again = again.expect("the plainest form is read");
                assert!(again.endpoint() == endpoint && again.access_key() == parsed.access_key());
            }
        }
        Err(wrong) => assert_silent("a refused connection string", &format!("{wrong} {wrong:?}")),
    }
}
