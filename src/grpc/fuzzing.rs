//! Fuzz targets: what callers send over gRPC, up to the core.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a panic here is a finding"
)]

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use super::convert::{self, chat, email, event, sms};
use super::proto::v1;
use super::{codec, observe, page_token, status, tls};
use crate::broker::error::Error;
use crate::broker::types::Validity;
use crate::fuzzing::{CANARY, Input, assert_silent};

/// A message that decodes is the same after another round on the wire.
fn decoded<M: Message + Default + PartialEq>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    let again = M::decode(message.encode_to_vec().as_slice()).expect("what was encoded decodes");
    assert!(message == again, "a message is another after a round on the wire");
    Some(message)
}

/// A refusal repeats nothing of the request, neither in what the caller gets nor in what is logged.
fn refused(error: Error) {
    let failure = status::failure_of(&status::of(error), true);
    assert_silent("the cause of an error", &status::Causes(&failure).to_string());
    let status = failure.status(Some("request"));
    assert_silent("the message of a status", status.message());
    assert_silent("the details of a status", &String::from_utf8_lossy(status.details()));
    // Statuses travel in headers, of which clients take 8 KiB, in base64.
    assert!(status.details().len() <= 6 * 1024, "{} bytes of details", status.details().len());
}

/// Decodes a message, converts it, and looks at the refusal if it is refused.
fn converted<M: Message + Default + PartialEq, T>(
    bytes: &[u8],
    convert: impl FnOnce(M) -> Result<T, Error>,
) -> Option<T> {
    convert(decoded::<M>(bytes)?).map_err(refused).ok()
}

/// A request message of each method, from its bytes to the core's values. The first byte says which.
pub fn requests(data: &[u8]) {
    let mut input = Input(data);
    let which = input.byte();
    let bytes = input.0;
    match which % 25 {
        0 => {
            if let Some(wish) = converted(bytes, |m| convert::issue_token(m, Validity::MAX)) {
                assert!(wish.min_remaining < Duration::from_secs(24 * 3600));
            }
        }
        1 => drop(converted(bytes, convert::refresh_token)),
        2 => drop(converted(bytes, |m: v1::RevokeTokensRequest| {
            convert::user_request(&m.user_id, &m.request_id)
        })),
        3 => drop(converted(bytes, |m: v1::ResolveIdentityRequest| convert::user(&m.user_id))),
        4 => drop(converted(bytes, convert::identity_key)),
        5 => {
            if let Some(page) = converted(bytes, |m: v1::ListIdentitiesRequest| convert::page(&m)) {
                assert!((1..=1000).contains(&page.limit));
            }
        }
        6 => {
            if let Some(entry) = converted(bytes, convert::import_entry)
                && let Some(at) = entry.created_at
            {
                // What is kept of a time is a time of the API again, to the millisecond.
                assert!(convert::timestamp(at).seconds <= 253_402_300_799);
            }
        }
        7 => {
            if let Some(wish) = converted(bytes, sms::send) {
                assert!((1..=100).contains(&wish.to.len()));
            }
        }
        8 => drop(converted(bytes, sms::name)),
        9 => drop(converted(bytes, |m: v1::CheckSmsOptOutsRequest| sms::recipients(m.from, &m.recipients))),
        10 => drop(converted(bytes, |m| {
            let mail = email::send(m)?;
            crate::messaging::fuzzing::check_mail(&mail)
        })),
        11 => drop(converted(bytes, email::name)),
        12 => {
            if let Some((cursor, kinds)) = converted(bytes, |m: v1::WatchEventsRequest| event::watch(&m)) {
                assert!(kinds.len() <= 16 && cursor.is_none_or(|cursor| cursor.0.len() <= 64));
            }
        }
        13 => drop(converted(bytes, chat::create)),
        14 => drop(converted(bytes, chat::update_thread)),
        15 => drop(converted(bytes, chat::add)),
        16 => drop(converted(bytes, |m: v1::RemoveChatParticipantRequest| {
            chat::remove(&m.acting_user_id, &m.user_id)
        })),
        17 => drop(converted(bytes, chat::send)),
        18 => drop(converted(bytes, chat::update_message)),
        19 => {
            let page = converted(bytes, |m: v1::ListChatMessagesRequest| {
                chat::page(chat::Wanted {
                    list: "messages",
                    acting_user_id: &m.acting_user_id,
                    thread_id: &m.thread_id,
                    page_size: m.page_size,
                    page_token: &m.page_token,
                    start_time: m.start_time,
                })
            });
            if let Some(page) = page {
                assert!(page.range.size.is_some_and(|size| (1..=100).contains(&size)));
            }
        }
        20 => drop(converted(bytes, |m: v1::SendTypingNotificationRequest| chat::actor(&m.acting_user_id))),
        21 => drop(converted(bytes, |m: v1::DeleteIdentityRequest| {
            convert::user_request(&m.user_id, &m.request_id)
        })),
        22 => drop(converted(bytes, |m: v1::AddSmsOptOutsRequest| sms::recipients(m.from, &m.recipients))),
        23 => drop(converted(bytes, |m: v1::GetChatMessageRequest| chat::message_wanted(&m))),
        _ => drop(converted(bytes, |m: v1::SendReadReceiptRequest| chat::actor(&m.acting_user_id))),
    }
}

/// The count of fields that stands before the decoder of large messages: no list gets past it.
pub fn large_messages(data: &[u8]) {
    const MOST: usize = 8;
    if codec::has_more_fields(data, MOST) {
        return;
    }
    if let Ok(mail) = v1::SendEmailRequest::decode(data) {
        let entries =
            [mail.to.len(), mail.cc.len(), mail.bcc.len(), mail.reply_to.len(), mail.attachments.len()];
        let all = entries.iter().sum::<usize>() + mail.headers.len();
        assert!(all <= MOST, "{all} entries in {MOST} fields");
    }
    if let Ok(thread) = v1::CreateChatThreadRequest::decode(data) {
        assert!(thread.participants.len() + thread.metadata.len() <= MOST);
    }
    if let Ok(sms) = v1::SendSmsRequest::decode(data) {
        assert!(sms.to.len() <= MOST);
    }
}

/// Page tokens and cursors: what is taken is exactly what was given out.
pub fn page_tokens(data: &[u8]) {
    let mut input = Input(data);
    let list = String::from_utf8_lossy(input.line()).into_owned();
    let text = input.text();
    if let Some(position) = page_token::decode(&text) {
        assert_eq!(page_token::encode(&position), text, "another text for the same position");
    }
    let list = ["messages", list.as_str(), "thread", ""];
    if let Some(place) = page_token::decode_of(&list, &text) {
        assert_eq!(page_token::encode_of(&list, &place), text);
        let other = ["messages", list[1], "thread", "1"];
        assert_eq!(page_token::decode_of(&other, &text), None, "a token of another list");
    }
    let given = page_token::encode_of(&list, &text);
    if given.len() <= 8 * 1024 {
        assert_eq!(page_token::decode_of(&list, &given).as_deref(), Some(text.as_str()));
    }
    let watch = v1::WatchEventsRequest { cursor: text.clone(), ..v1::WatchEventsRequest::default() };
    match event::watch(&watch) {
        Ok((Some(cursor), _)) => assert_eq!(page_token::encode(cursor.0.as_bytes()), text),
        Ok((None, _)) => assert!(text.is_empty()),
        Err(error) => refused(error),
    }
}

/// The headers of a call: deadline and request id.
pub fn headers(data: &[u8]) {
    let mut input = Input(data);
    let mut headers = HeaderMap::new();
    while !input.is_empty() && headers.len() < 64 {
        let mut line = Input(input.line());
        let name = HeaderName::from_bytes(line.until(b":"));
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(line.0.trim_ascii())) else { continue };
        headers.append(name, value);
    }
    let default = Duration::from_secs(10);
    let timeout = headers.get("grpc-timeout");
    let budget = observe::budget(timeout, default);
    assert!(budget <= Duration::from_secs(3600), "{budget:?}");
    // Exactly what the gRPC specification allows counts as one.
    let valid = timeout.is_some_and(|value| {
        let text = value.as_bytes();
        text.split_last().is_some_and(|(unit, digits)| {
            b"HMSmun".contains(unit)
                && (1..=8).contains(&digits.len())
                && digits.iter().all(u8::is_ascii_digit)
        })
    });
    assert!(valid || budget == default, "a timeout that is none counts");
    let id = observe::request_id(headers.get(observe::REQUEST_ID));
    let text = id.to_str().expect("a request id is text");
    assert!((1..=128).contains(&text.len()) && !text.contains(|c: char| c.is_control() || c == ' '));
    assert!(!text.contains(CANARY) || headers.get(observe::REQUEST_ID) == Some(&id));
}

/// What a client that nobody vouches for brings as its certificate: never trusted, and read without trusting it.
pub fn client_certificates(data: &[u8]) {
    let leaf = CertificateDer::from(data.to_vec());
    if let Ok((names, chain)) = tls::named(std::slice::from_ref(&leaf)) {
        assert_eq!(*chain, *std::slice::from_ref(&leaf));
        crate::auth::fuzzing::names(&names, data);
    }
    let trusted = TRUSTED.with(|clients| clients.verify_client_cert(&leaf, &[], now()).is_ok());
    // An authority is no client, not even the one that is trusted.
    assert!(!trusted, "a certificate is trusted that nobody has signed");
    assert!(tls::named(&vec![leaf; 9]).is_err(), "a chain without end is kept");
}

/// An authority whose key was thrown away: no certificate can be its own.
const AUTHORITY: &str = concat!(
    "-----BEGIN CERTIFICATE-----\n",
    "MIIBbjCCARWgAwIBAgIUeOds6NIEKOif4sZdvH3q01kYZvgwCgYIKoZIzj0EAwIw\n",
    "DDEKMAgGA1UEAwwBYTAgFw0yNjExMjMwMzI1NDNaGA8yMTI2MTAzMDAzMjU0M1ow\n",
    "DDEKMAgGA1UEAwwBYTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDRHfpbF4ltv\n",
    "a55xSg1kWr9ecCqD8Lp/RSrdvPpeYZrt673wiBls9/n09bEkzuaE0fGk5DI85Yzz\n",
    "rI05+KUD80ijUzBRMB0GA1UdDgQWBBQOu40t/1hym0RmrHQ2EyS7JrwL6DAfBgNV\n",
    "HSMEGDAWgBQOu40t/1hym0RmrHQ2EyS7JrwL6DAPBgNVHRMBAf8EBTADAQH/MAoG\n",
    "CCqGSM49BAMCA0cAMEQCIHubEqLNRWLGlbq8mpm6BsOX9xxOXO1gdqJt/z2SGUzE\n",
    "AiBVkWx8RLEWZEx4uAhib1UfFB2oUG8k+CJKBCPrdKds1Q==\n",
    "-----END CERTIFICATE-----\n",
);

/// Within the validity of the authority.
fn now() -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(1_900_000_000))
}

thread_local! {
    static TRUSTED: Arc<dyn ClientCertVerifier> = {
        let authority = CertificateDer::from_pem_slice(AUTHORITY.as_bytes()).expect("an authority");
        let mut roots = RootCertStore::empty();
        roots.add(authority).expect("an authority");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().expect("a verifier")
    };
}
