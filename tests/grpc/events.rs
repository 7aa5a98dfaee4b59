//! EventService as watchers meet it: told, resumed, filtered, cut off, ended.

use std::time::Duration;

use acs_broker::clock::Timestamp;
use acs_broker::grpc::Settings;
use acs_broker::grpc::proto::v1;
use acs_broker::grpc::proto::v1::event_service_client::EventServiceClient;
use acs_broker::grpc::proto::v1::watch_events_response::Event as Told;
use acs_broker::messaging::types::{Failure, State};
use acs_broker::messaging::{Event, Happened};
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::harness::{Server, anybody, eventually, refused, start, start_default, wish};
use crate::ports::insert;

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

fn event(id: &str, happened: Happened) -> Event {
    Event {
        id: id.into(),
        at: Timestamp::from_millis(1_795_348_800_123),
        message: None,
        caller: None,
        happened,
    }
}

pub fn received(id: &str, text: &str) -> Event {
    let [from, to] = ["+14255550120", "+18005550100"].map(str::to_owned);
    event(id, Happened::SmsReceived { upstream_id: format!("in-{id}"), from, to, text: text.into() })
}

fn delivered(id: &str, upstream_id: &str, state: State) -> Event {
    let detail = Failure { code: String::new(), detail: "reported".into() };
    let [to, from] = ["+14255550120", "+18005550100"].map(str::to_owned);
    let upstream_id = upstream_id.to_owned();
    event(id, Happened::SmsDelivery { upstream_id, to, from, state, detail, tag: "login".into() })
}

fn chat(id: &str, actor: &str, subject: &str) -> Event {
    let text = |text: &str| text.to_owned();
    event(
        id,
        Happened::Chat {
            name: text("ChatMessageReceivedInThread"),
            thread: text("19:thread"),
            message: text("7"),
            actor: text(actor),
            subject: text(subject),
            text: text("hello"),
            topic: String::new(),
        },
    )
}

type Answers = Streaming<v1::WatchEventsResponse>;

async fn watch(server: &Server, cursor: &str, kinds: &[v1::EventKind]) -> Result<Answers, Status> {
    let kinds = kinds.iter().map(|kind| i32::from(*kind)).collect();
    let request = v1::WatchEventsRequest { cursor: cursor.into(), kinds };
    Ok(server.events().await.watch_events(request).await?.into_inner())
}

async fn next(answers: &mut Answers) -> v1::WatchEventsResponse {
    timeout(Duration::from_secs(10), answers.message()).await.unwrap().unwrap().unwrap()
}

async fn ended(answers: &mut Answers) -> Status {
    timeout(Duration::from_secs(10), answers.message()).await.unwrap().unwrap_err()
}

/// Checks what every error of a stream promises.
#[track_caller]
fn ended_by(status: &Status, code: Code, reason: &str) {
    let details = status.get_error_details();
    assert_eq!((status.code(), details.error_info().unwrap().reason.as_str()), (code, reason));
    assert_eq!(details.error_info().unwrap().domain, "acsbroker");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    // The errors that end a stream come long after the call was let in, and name it all the same.
    let request_id = &details.request_info().unwrap().request_id;
    assert_eq!(details.error_info().unwrap().metadata.get("request_id"), Some(request_id));
    assert!(!request_id.is_empty());
}

fn text(told: &v1::WatchEventsResponse) -> &str {
    match &told.event {
        Some(Told::SmsReceived(sms)) => &sms.text,
        // No text of these tests is empty.
        _ => "",
    }
}

#[tokio::test]
async fn the_delivery_of_an_sms_is_told_to_every_watcher_and_found_afterwards() {
    let server = start_default().await;
    let mut watchers = [watch(&server, "", &[]).await.unwrap(), watch(&server, "", &[]).await.unwrap()];
    let request = v1::SendSmsRequest {
        request_id: UUID.into(),
        to: vec!["+14255550120".into()],
        text: "hello".into(),
        enable_delivery_report: true,
        ..v1::SendSmsRequest::default()
    };
    let sent = server.sms().await.send_sms(request).await.unwrap().into_inner();
    let upstream = sent.outcomes[0].message_id.clone();
    server.messaging.take_in(delivered("e1", &upstream, State::Delivered)).await.unwrap();
    for watcher in &mut watchers {
        let told = next(watcher).await;
        assert_eq!(told.event_time.unwrap().seconds, 1_795_348_800);
        let Some(Told::SmsDelivery(delivery)) = told.event else { panic!("a delivery") };
        assert_eq!((delivery.sms_id, delivery.message_id.as_str()), (sent.sms_id.clone(), upstream.as_str()));
        assert_eq!(delivery.state, i32::from(v1::MessageState::Delivered));
        assert_eq!((delivery.to.as_str(), delivery.tag.as_str()), ("+14255550120", "login"));
        assert_eq!(delivery.detail.unwrap().detail, "reported");
    }
    // Late and repeated reports change nothing.
    server.messaging.take_in(delivered("e2", &upstream, State::Sent)).await.unwrap();
    let name = Some(v1::get_sms_request::Name::SmsId(sent.sms_id));
    let found = server.sms().await.get_sms(v1::GetSmsRequest { name }).await.unwrap().into_inner();
    assert_eq!(found.outcomes[0].state(), v1::MessageState::Delivered);
}

#[tokio::test]
async fn mail_events_are_told_in_full() {
    let server = start_default().await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    let [upstream_id, address, link] = ["op", "alice@example.com", "https://contoso.com/"].map(str::to_owned);
    let detail = Failure { code: "Bounced".into(), detail: String::new() };
    let (id, to) = (upstream_id.clone(), address.clone());
    let delivery = Happened::EmailDelivery { upstream_id: id, address: to, state: State::Failed, detail };
    server.messaging.take_in(event("e1", delivery)).await.unwrap();
    let engagement = Happened::EmailEngagement { upstream_id, address, engagement: "click".into(), link };
    server.messaging.take_in(event("e2", engagement)).await.unwrap();
    let Some(Told::EmailDelivery(told)) = next(&mut watcher).await.event else { panic!("a delivery") };
    assert_eq!((told.address.as_str(), told.state()), ("alice@example.com", v1::MessageState::Failed));
    assert_eq!(told.detail.unwrap().code, "Bounced");
    let Some(Told::EmailEngagement(told)) = next(&mut watcher).await.event else { panic!("a click") };
    assert_eq!((told.engagement.as_str(), told.link.as_str()), ("click", "https://contoso.com/"));
    assert_eq!(told.email_id, "");
}

#[tokio::test]
async fn who_resumes_misses_nothing_and_who_has_no_cursor_gets_what_is_new() {
    let server = start_default().await;
    server.messaging.take_in(received("old", "old")).await.unwrap();
    let mut first = watch(&server, "", &[]).await.unwrap();
    for n in 0..250 {
        server.messaging.take_in(received(&format!("e{n}"), &n.to_string())).await.unwrap();
    }
    let mut cursor = String::new();
    for n in 0..100 {
        let told = next(&mut first).await;
        assert_eq!(text(&told), n.to_string());
        cursor = told.cursor;
    }
    drop(first);
    let mut second = watch(&server, &cursor, &[]).await.unwrap();
    for n in 100..250 {
        assert_eq!(text(&next(&mut second).await), n.to_string());
    }
    assert!(timeout(Duration::from_millis(50), second.message()).await.is_err(), "that is all");
    server.messaging.take_in(received("new", "new")).await.unwrap();
    assert_eq!(text(&next(&mut second).await), "new");
}

#[tokio::test]
async fn a_watcher_gets_the_kinds_it_asks_for() {
    let server = start_default().await;
    let mut watcher = watch(&server, "", &[v1::EventKind::Chat, v1::EventKind::Chat]).await.unwrap();
    for n in 0..120 {
        server.messaging.take_in(received(&format!("e{n}"), "no")).await.unwrap();
    }
    server.messaging.take_in(chat("c1", "8:acs:a_1", "")).await.unwrap();
    assert!(matches!(next(&mut watcher).await.event, Some(Told::Chat(_))));
}

#[tokio::test]
async fn parties_of_a_chat_have_the_apps_names_where_the_broker_knows_them() {
    let server = start_default().await;
    insert(&server.store, "alice", "8:acs:a_1").await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    server.messaging.take_in(chat("c1", "8:acs:a_1", "8:acs:a_2")).await.unwrap();
    let Some(Told::Chat(told)) = next(&mut watcher).await.event else { panic!("a chat event") };
    let (actor, subject) = (told.actor.unwrap(), told.subject.unwrap());
    assert_eq!((actor.user_id.as_str(), actor.acs_user_id.as_str()), ("alice", "8:acs:a_1"));
    assert_eq!((subject.user_id.as_str(), subject.acs_user_id.as_str()), ("", "8:acs:a_2"));
    assert_eq!((told.r#type.as_str(), told.text.as_str()), ("ChatMessageReceivedInThread", "hello"));
    // Known by the next event: not being known is not remembered. Nobody at all is no party.
    insert(&server.store, "bob", "8:acs:a_2").await;
    server.messaging.take_in(chat("c2", "8:acs:a_2", "")).await.unwrap();
    let Some(Told::Chat(told)) = next(&mut watcher).await.event else { panic!("a chat event") };
    assert_eq!((told.actor.unwrap().user_id.as_str(), told.subject), ("bob", None));
}

#[tokio::test]
async fn a_cursor_of_another_stream_and_kinds_nobody_knows_are_refused() {
    let server = start_default().await;
    let other = start_default().await;
    let mut elsewhere = watch(&other, "", &[]).await.unwrap();
    for n in 0..3 {
        other.messaging.take_in(received(&format!("e{n}"), "x")).await.unwrap();
    }
    let foreign = next(&mut elsewhere).await.cursor;
    for user in ["a", "b", "c"] {
        insert(&server.store, user, &format!("8:acs:r_{user}")).await;
    }
    let page = v1::ListIdentitiesRequest { page_size: 1, page_token: String::new() };
    let page = server.identities().await.list_identities(page).await.unwrap().into_inner();
    let cut = &foreign[..foreign.len() - 1];
    for cursor in ["x", "1", cut, &format!("{foreign}A"), &foreign, &page.next_page_token, &"A".repeat(5000)]
    {
        assert!(!cursor.is_empty());
        let Err(status) = watch(&server, cursor, &[]).await else { panic!("{cursor} is taken") };
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "cursor");
    }
    for kinds in [vec![1, 0], vec![1, 99], vec![1, -1], vec![1; 17]] {
        let request = v1::WatchEventsRequest { cursor: String::new(), kinds: kinds.clone() };
        let status = server.events().await.watch_events(request).await.unwrap_err();
        let details = refused(&status, Code::InvalidArgument, "INVALID_FIELD");
        let expected = if kinds.len() == 17 { "kinds" } else { "kinds[1]" };
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, expected);
    }
}

#[tokio::test]
async fn a_cursor_older_than_what_is_kept_is_told_so() {
    let server = start_default().await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    server.messaging.take_in(received("e1", "x")).await.unwrap();
    let cursor = next(&mut watcher).await.cursor;
    server.messaging.take_in(received("e2", "x")).await.unwrap();
    server.world.forgotten.store(2, std::sync::atomic::Ordering::SeqCst);
    let Err(status) = watch(&server, &cursor, &[]).await else { panic!("it is taken") };
    refused(&status, Code::OutOfRange, "CURSOR_EXPIRED");
}

#[tokio::test]
async fn open_watches_hold_up_no_other_call_of_their_connection_and_take_no_seat() {
    let server = start(anybody(), Settings { max_in_flight: 2, ..Settings::default() }).await;
    let channel = server.channel().await;
    let mut open = Vec::new();
    for _ in 0..20 {
        let mut events = EventServiceClient::new(channel.clone());
        open.push(events.watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner());
    }
    let mut tokens = v1::token_service_client::TokenServiceClient::new(channel);
    for _ in 0..50 {
        timeout(Duration::from_secs(5), tokens.issue_token(wish("user"))).await.unwrap().unwrap();
    }
    server.messaging.take_in(received("e1", "x")).await.unwrap();
    for watcher in &mut open {
        assert_eq!(text(&next(watcher).await), "x");
    }
}

#[tokio::test]
async fn a_watch_outlives_the_default_deadline() {
    let settings = Settings { default_deadline: Duration::from_millis(100), ..Settings::default() };
    let server = start(anybody(), settings).await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    assert!(timeout(Duration::from_millis(300), watcher.message()).await.is_err());
    server.messaging.take_in(received("e1", "x")).await.unwrap();
    assert_eq!(text(&next(&mut watcher).await), "x");
}

#[tokio::test]
async fn a_drain_ends_watches_and_does_not_wait_for_them() {
    let server = start_default().await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    server.messaging.take_in(received("e1", "x")).await.unwrap();
    assert_eq!(text(&next(&mut watcher).await), "x");
    server.shutdown.cancel();
    ended_by(&ended(&mut watcher).await, Code::Unavailable, "BROKER_STOPPING");
    timeout(Duration::from_secs(5), server.served).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_store_that_is_gone_ends_the_watch_which_can_be_resumed() {
    let server = start_default().await;
    let mut watcher = watch(&server, "", &[]).await.unwrap();
    server.messaging.take_in(received("e1", "1")).await.unwrap();
    let cursor = next(&mut watcher).await.cursor;
    // The watch gets to read only after this.
    server.messaging.take_in(received("e2", "2")).await.unwrap();
    *server.world.store_is_down.lock().unwrap() = true;
    ended_by(&ended(&mut watcher).await, Code::Unavailable, "STORE_UNAVAILABLE");
    *server.world.store_is_down.lock().unwrap() = false;

    // The names of users come from the other store.
    let mut watcher = watch(&server, &cursor, &[]).await.unwrap();
    assert_eq!(text(&next(&mut watcher).await), "2");
    server.store.set(crate::ports::Trouble::Unavailable);
    server.messaging.take_in(chat("c1", "8:acs:a_1", "")).await.unwrap();
    ended_by(&ended(&mut watcher).await, Code::Unavailable, "STORE_UNAVAILABLE");
    server.store.set(crate::ports::Trouble::None);
    let mut resumed = watch(&server, &cursor, &[]).await.unwrap();
    assert_eq!(text(&next(&mut resumed).await), "2");
    assert!(matches!(next(&mut resumed).await.event, Some(Told::Chat(_))));
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_ended_and_resumes_without_a_gap() {
    const EVENTS: usize = 60;
    let server = start_default().await;
    let channel = Endpoint::from_shared(format!("http://{}", server.address)).unwrap();
    let channel = channel.initial_stream_window_size(65_535).connect().await.unwrap();
    let mut slow = EventServiceClient::new(channel.clone())
        .watch_events(v1::WatchEventsRequest::default())
        .await
        .unwrap()
        .into_inner();
    for n in 0..EVENTS {
        let text = format!("{n} {}", "x".repeat(20_000));
        server.messaging.take_in(received(&format!("e{n}"), &text)).await.unwrap();
    }
    let reason = "errors_total{reason=\"WATCHER_TOO_SLOW\"} 1";
    // Its patience begins once nothing more fits; from then on only time must pass.
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if server.metrics.render().contains(reason) {
            break;
        }
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(11)).await;
        tokio::time::resume();
    }
    eventually("it is given up", || server.metrics.render().contains(reason)).await;
    // Others on its connection are not concerned.
    let mut tokens = v1::token_service_client::TokenServiceClient::new(channel);
    tokens.issue_token(wish("user")).await.unwrap();

    let (mut count, mut cursor) = (0, String::new());
    let status = loop {
        match timeout(Duration::from_secs(10), slow.message()).await.unwrap() {
            Ok(told) => {
                let told = told.unwrap();
                assert!(text(&told).starts_with(&format!("{count} ")));
                (count, cursor) = (count + 1, told.cursor);
            }
            Err(status) => break status,
        }
    };
    ended_by(&status, Code::Unavailable, "WATCHER_TOO_SLOW");
    assert!(count < EVENTS, "all of it fitted");
    let mut resumed = watch(&server, &cursor, &[]).await.unwrap();
    for n in count..EVENTS {
        assert!(text(&next(&mut resumed).await).starts_with(&format!("{n} ")));
    }
}

#[tokio::test]
async fn nobody_gets_anything_of_the_services_of_messages() {
    let server = start(std::sync::Arc::new(acs_broker::auth::Gate::shut()), Settings::default()).await;
    let (mut sms, mut email) = (server.sms().await, server.email().await);
    let mut answers = vec![
        sms.send_sms(v1::SendSmsRequest::default()).await.err(),
        sms.get_sms(v1::GetSmsRequest::default()).await.err(),
        sms.check_sms_opt_outs(v1::CheckSmsOptOutsRequest::default()).await.err(),
        sms.add_sms_opt_outs(v1::AddSmsOptOutsRequest::default()).await.err(),
        sms.remove_sms_opt_outs(v1::RemoveSmsOptOutsRequest::default()).await.err(),
        email.send_email(v1::SendEmailRequest::default()).await.err(),
        email.get_email(v1::GetEmailRequest::default()).await.err(),
    ];
    answers.push(watch(&server, "", &[]).await.err());
    for answer in answers {
        refused(&answer.unwrap(), Code::Unauthenticated, "CALLER_UNAUTHENTICATED");
    }
}
