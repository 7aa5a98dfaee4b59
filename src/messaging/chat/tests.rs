//! The promises of chat in a world that dies, loses answers, shows messages late and refuses tokens.

use std::sync::Arc;
use std::time::Duration;

use super::super::testing::chat::{Threads, lost, start};
use super::super::testing::{Death, World};
use super::*;
use crate::clock::Clock;
use crate::messaging::Settings;

const THREAD: &str = "19:0@thread.v2";
const TEXT: &str = "a private text";

fn settings() -> Settings {
    Settings::default()
}

fn caller() -> Caller {
    Caller::unlimited("shop")
}

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn alice() -> Actor {
    Some(user("alice"))
}

fn alive(world: &Arc<World>) -> Chat {
    start(world, settings(), Death::Never).0
}

fn hello(request: u128) -> SendChatMessage {
    SendChatMessage {
        request_id: uuid::Uuid::from_u128(request),
        thread: THREAD.into(),
        text: TEXT.into(),
        is_html: false,
        sender_display_name: String::new(),
        metadata: Metadata::from([("own".to_owned(), "1".to_owned())]),
    }
}

fn topic(request: u128, participants: &[&str]) -> CreateThread {
    let participant =
        |name: &&str| NewParticipant { user: user(name), display_name: String::new(), share_history: None };
    CreateThread {
        request_id: uuid::Uuid::from_u128(request),
        topic: "tea".into(),
        participants: participants.iter().map(participant).collect(),
        metadata: Metadata::new(),
    }
}

fn sent(world: &World) -> usize {
    world.chat.lock().unwrap().messages.len()
}

/// Asks a replica that may die meanwhile; none if it did.
async fn try_to_send(chat: &Chat) -> Option<Result<String, Error>> {
    let within = Duration::from_millis(50);
    tokio::time::timeout(within, chat.send_message(&caller(), alice(), hello(1))).await.ok()
}

/// Asks again until there is an answer that is an end; the time that took.
async fn ask_until_it_ends(world: &Arc<World>) -> (Result<String, Error>, Duration) {
    let began = world.clock.now();
    loop {
        let result = alive(world).send_message(&caller(), alice(), hello(1)).await;
        let Some(wait) = result.as_ref().err().and_then(Error::retry_after) else {
            return (result, world.clock.now().since(began));
        };
        assert!(!wait.is_zero() && wait <= settings().hold, "{wait:?}");
        world.clock.advance(wait);
        assert!(world.clock.now().since(began) < Duration::from_mins(5), "it does not end");
    }
}

#[tokio::test]
async fn a_new_message_takes_two_trips_to_the_store_and_one_to_acs() {
    let world = World::new();
    let (chat, replica) = start(&world, settings(), Death::Never);
    chat.send_message(&caller(), alice(), hello(1)).await.unwrap();
    // Record, budget, token and when to look at it together, then ACS, then the outcome and that nobody needs to look.
    assert_eq!(replica.steps(), 7);
    assert_eq!(chat.follow_operations().await.unwrap(), 0);
}

#[tokio::test]
async fn asking_again_sends_nothing_and_answers_the_same() {
    let world = World::new();
    let first = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    assert_eq!(alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap(), first);
    assert_eq!(sent(&world), 1);
    alive(&world).send_message(&Caller::unlimited("other"), alice(), hello(1)).await.unwrap();
    assert_eq!(sent(&world), 2, "another caller's request id is another request");
    assert!(!world.dump().contains(TEXT) && !world.dump().contains("own"), "{}", world.dump());
}

#[tokio::test]
async fn a_request_id_that_was_used_for_something_else_is_refused() {
    let world = World::new();
    alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    for changed in [
        SendChatMessage { text: "another".into(), ..hello(1) },
        SendChatMessage { thread: "19:1@thread.v2".into(), ..hello(1) },
        SendChatMessage { is_html: true, ..hello(1) },
        SendChatMessage { sender_display_name: "A".into(), ..hello(1) },
        SendChatMessage { metadata: Metadata::new(), ..hello(1) },
    ] {
        let refused = alive(&world).send_message(&caller(), alice(), changed).await;
        assert!(matches!(refused, Err(Error::RequestIdReused)));
    }
    let as_another = alive(&world).send_message(&caller(), None, hello(1)).await;
    assert!(matches!(as_another, Err(Error::RequestIdReused)));
    let a_thread = alive(&world).create_thread(&caller(), alice(), topic(1, &[])).await;
    assert!(matches!(a_thread, Err(Error::RequestIdReused)));
    assert_eq!(sent(&world), 1);
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_of_a_send_doubles_nothing_and_asking_again_ends_it() {
    let mut deaths = 0;
    for after in [false, true] {
        for step in 0..9 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = start(&world, settings(), death);
            deaths += usize::from(try_to_send(&doomed).await.is_none());
            let (result, _) = ask_until_it_ends(&world).await;
            result.unwrap();
            assert_eq!(sent(&world), 1, "{death:?}");
        }
    }
    assert_eq!(deaths, 14, "seven steps, before and after each");
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_of_finding_out_doubles_nothing() {
    // Whether the first try had reached ACS, and whether its message is there by the time somebody looks.
    for (first, later) in [(Death::Before(3), Duration::ZERO), (Death::After(3), Duration::ZERO)] {
        for wait in [settings().hold, settings().hold + Duration::from_secs(90)] {
            for after in [false, true] {
                for step in 0..14 {
                    let world = World::new();
                    world.chat.lock().unwrap().late = later;
                    let (doomed, _) = start(&world, settings(), first);
                    assert!(try_to_send(&doomed).await.is_none());
                    world.clock.advance(wait);
                    let death = if after { Death::After(step) } else { Death::Before(step) };
                    let (second, _) = start(&world, settings(), death);
                    let _ = try_to_send(&second).await;
                    let (result, _) = ask_until_it_ends(&world).await;
                    result.unwrap();
                    assert_eq!(sent(&world), 1, "{first:?} {wait:?} {death:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_is_lost_is_found_out_at_once() {
    let world = World::new();
    for (request, text) in [(10, "earlier"), (11, "and another"), (12, "and a third")] {
        let other = SendChatMessage { text: text.into(), ..hello(request) };
        alive(&world).send_message(&caller(), alice(), other).await.unwrap();
    }
    world.chat.lock().unwrap().script = vec![lost()];
    let found = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    let chat = world.chat.lock().unwrap();
    assert_eq!(chat.messages.last().unwrap().1.id, found);
    assert_eq!(chat.texts(), ["earlier", "and another", "and a third", TEXT]);
}

#[tokio::test]
async fn a_message_that_acs_shows_late_is_not_sent_again() {
    let world = World::new();
    world.chat.lock().unwrap().script = vec![lost()];
    world.chat.lock().unwrap().late = Duration::from_secs(45);
    let unknown = alive(&world).send_message(&caller(), alice(), hello(1)).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { .. })));
    let (result, took) = ask_until_it_ends(&world).await;
    assert_eq!(result.unwrap(), world.chat.lock().unwrap().messages[0].1.id);
    assert_eq!(sent(&world), 1);
    assert!(took <= Duration::from_secs(61), "{took:?}");
}

#[tokio::test]
async fn a_message_that_never_arrived_is_sent_again_once_that_is_certain() {
    let world = World::new();
    let (doomed, _) = start(&world, settings(), Death::Before(3));
    assert!(try_to_send(&doomed).await.is_none());
    let (result, took) = ask_until_it_ends(&world).await;
    result.unwrap();
    assert_eq!(sent(&world), 1);
    let certain = settings().hold + Duration::from_secs(60);
    assert!(took >= certain && took < certain + Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn who_cannot_look_does_not_send() {
    let world = World::new();
    world.chat.lock().unwrap().script = vec![lost()];
    world.chat.lock().unwrap().is_blind = true;
    for _ in 0..5 {
        let unknown = alive(&world).send_message(&caller(), alice(), hello(1)).await;
        assert!(matches!(unknown, Err(Error::OutcomeUnknown { .. })));
        world.clock.advance(Duration::from_mins(10));
    }
    assert_eq!(sent(&world), 1);
    world.chat.lock().unwrap().is_shut = true;
    let shut = alive(&world).send_message(&caller(), alice(), hello(1)).await;
    assert!(matches!(shut, Err(Error::ChatForbidden)));
    world.chat.lock().unwrap().is_blind = false;
    world.chat.lock().unwrap().is_shut = false;
    alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    assert_eq!(sent(&world), 1);
}

#[tokio::test]
async fn what_acs_refuses_is_forgotten_and_may_be_asked_again() {
    let world = World::new();
    for (error, reason) in [
        (ChatError::NotDone(Error::ChatForbidden), "CHAT_FORBIDDEN"),
        (ChatError::NotDone(Error::ChatNotFound), "CHAT_NOT_FOUND"),
        (ChatError::Throttled(Duration::from_secs(9)), "ACS_THROTTLED"),
    ] {
        world.chat.lock().unwrap().script = vec![error];
        let refused = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap_err();
        assert_eq!(refused.reason(), reason);
    }
    assert_eq!(world.paused().len(), 1, "a 429 pauses the fleet");
    assert!(world.paused()[0].starts_with("chat_change_messages:"));
    world.use_up_budgets(Some(Duration::from_secs(4)));
    let limited = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap_err();
    assert_eq!(
        (limited.reason(), limited.retry_after()),
        ("ACS_LIMIT_REACHED", Some(Duration::from_secs(4)))
    );
    world.use_up_budgets(None);
    assert_eq!(sent(&world), 0);
    alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    assert_eq!((sent(&world), world.chat.lock().unwrap().looks), (1, 0), "no need to look");
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let world = World::new();
    world.chat.lock().unwrap().refused.insert("alice#0".into());
    alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    assert_eq!((sent(&world), world.chat.lock().unwrap().tokens), (1, (2, 1)));
    world.chat.lock().unwrap().refused.extend(["alice#1".to_owned(), "alice#2".to_owned()]);
    let refused = alive(&world).send_message(&caller(), alice(), hello(2)).await;
    assert!(matches!(refused, Err(Error::Internal { .. })), "the error of the second refusal");
    assert_eq!((sent(&world), world.chat.lock().unwrap().tokens), (1, (4, 2)));
}

#[tokio::test]
async fn the_mark_is_on_the_message_survives_edits_and_is_shown_to_nobody() {
    let world = World::new();
    let id = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    let marks = |world: &World| world.chat.lock().unwrap().messages[0].1.metadata.get(MARK).cloned();
    let mark = marks(&world).unwrap();
    assert!(mark.starts_with("chat_"));
    let edit = UpdateMessage {
        thread: THREAD.into(),
        message: id.clone(),
        text: Some("new".into()),
        metadata: Some(Metadata::from([("own".to_owned(), "2".to_owned())])),
    };
    alive(&world).update_message(&caller(), alice(), edit).await.unwrap();
    assert_eq!(marks(&world), Some(mark));
    let shown = alive(&world).message(&caller(), alice(), THREAD, &id).await.unwrap();
    assert_eq!(shown.metadata, Metadata::from([("own".to_owned(), "2".to_owned())]));
    assert_eq!(shown.sender.unwrap().user, alice());
    let page = alive(&world).messages(&caller(), alice(), THREAD, ChatRange::default()).await.unwrap();
    assert!(page.entries.iter().all(|message| !message.metadata.contains_key(MARK)));
    for key in [MARK, "ACSBROKERREQUEST"] {
        let metadata = Metadata::from([(key.to_owned(), "forged".to_owned())]);
        let wish = SendChatMessage { metadata, ..hello(2) };
        let forged = alive(&world).send_message(&caller(), alice(), wish).await;
        assert!(matches!(forged, Err(Error::InvalidField(_))));
    }
}

#[tokio::test]
async fn the_service_acts_as_one_identity_that_is_nobody_of_the_app() {
    let world = World::new();
    let created = alive(&world).create_thread(&caller(), None, topic(1, &["bob"])).await.unwrap();
    let creator = created.thread.creator.unwrap();
    assert_eq!((creator.id.as_str(), creator.user), ("8:acs:world_acsbroker:service", None));
    assert!(UserId::of_caller("acsbroker:service").is_err() && UserId::of_caller("acsbroker:x").is_err());
    assert!(UserId::service().is_service() && !user("acsbroker").is_service());
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_of_creating_a_thread_makes_one_thread() {
    for after in [false, true] {
        for step in 0..8 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = start(&world, settings(), death);
            let caller = caller();
            let attempt = doomed.create_thread(&caller, alice(), topic(1, &["bob"]));
            let _ = tokio::time::timeout(Duration::from_millis(50), attempt).await;
            world.clock.advance(settings().hold);
            let created = alive(&world).create_thread(&caller, alice(), topic(1, &["bob"])).await.unwrap();
            assert_eq!(created.thread.id, "19:0@thread.v2", "{death:?}");
            assert_eq!(world.chat.lock().unwrap().threads.len(), 1, "{death:?}");
        }
    }
}

#[tokio::test]
async fn a_thread_is_created_once_and_tells_each_time_who_was_refused() {
    let world = World::new();
    world.chat.lock().unwrap().script = vec![lost()];
    let wish = topic(1, &["bob", "stranger"]);
    let unknown = alive(&world).create_thread(&caller(), alice(), wish.clone()).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { .. })));
    let first = alive(&world).create_thread(&caller(), alice(), wish.clone()).await.unwrap();
    assert_eq!(first.refused.len(), 1);
    assert_eq!(first.refused[0].party.user, Some(user("stranger")));
    assert_eq!(first.thread.creator.as_ref().unwrap().user, alice());
    assert!(alive(&world).create_thread(&caller(), alice(), wish).await.unwrap() == first);
    assert_eq!(world.chat.lock().unwrap().threads.len(), 1);
    let other = alive(&world).create_thread(&caller(), alice(), topic(1, &["carol"])).await;
    assert!(matches!(other, Err(Error::RequestIdReused)));
}

async fn by_request(world: &Arc<World>) -> Result<Message, Error> {
    let request = uuid::Uuid::from_u128(1);
    alive(world).message_of_request(&caller(), alice(), THREAD, request).await
}

/// Lets the time go by in steps until nobody looks any more; says how many messages were looked at.
async fn follow_to_the_end(world: &Arc<World>) -> usize {
    let mut looked = 0;
    for _ in 0..300 {
        looked += alive(world).follow_operations().await.unwrap();
        world.clock.advance(Duration::from_secs(2));
    }
    looked
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_found_while_nobody_asks() {
    let world = World::new();
    {
        let mut chat = world.chat.lock().unwrap();
        (chat.script, chat.late) = (vec![lost()], Duration::from_secs(20));
    }
    let unknown = alive(&world).send_message(&caller(), alice(), hello(1)).await;
    assert!(matches!(unknown, Err(Error::OutcomeUnknown { .. })));
    assert!(matches!(by_request(&world).await, Err(Error::OutcomeUnknown { .. })));
    let looked = follow_to_the_end(&world).await;
    assert!((2..=8).contains(&looked), "every few seconds, and not once it is found: {looked}");
    let found = by_request(&world).await.unwrap();
    assert_eq!((found.text.as_str(), found.metadata.contains_key(MARK)), (TEXT, false));
    let looks = world.chat.lock().unwrap().looks;
    assert_eq!(alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap(), found.id);
    assert_eq!((sent(&world), world.chat.lock().unwrap().looks), (1, looks), "a repetition need not look");
    // It is the caller's own, and of that thread.
    let request = uuid::Uuid::from_u128(1);
    let other = alive(&world).message_of_request(&Caller::new("other"), alice(), THREAD, request).await;
    assert!(matches!(other, Err(Error::MessageNotFound)));
    let elsewhere = alive(&world).message_of_request(&caller(), alice(), "19:1@thread.v2", request).await;
    assert!(matches!(elsewhere, Err(Error::MessageNotFound)));
}

#[tokio::test]
async fn a_message_that_never_arrived_is_known_not_to_have_and_is_sent_when_its_caller_asks() {
    let world = World::new();
    let (doomed, _) = start(&world, settings(), Death::Before(4));
    assert!(try_to_send(&doomed).await.is_none());
    assert!(matches!(by_request(&world).await, Err(Error::RequestInProgress { .. })));
    follow_to_the_end(&world).await;
    assert!(matches!(by_request(&world).await, Err(Error::MessageNotFound)), "{}", world.dump());
    assert_eq!(sent(&world), 0, "following never sends");
    let id = alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    assert_eq!((by_request(&world).await.unwrap().id, sent(&world)), (id, 1));
}

#[tokio::test]
async fn death_at_any_step_is_found_out_while_nobody_asks() {
    for after in [false, true] {
        for step in 0..8 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = start(&world, settings(), death);
            let answer = try_to_send(&doomed).await;
            let was_sent = sent(&world);
            follow_to_the_end(&world).await;
            let known = by_request(&world).await;
            match (was_sent, answer) {
                (1, _) => assert_eq!(known.unwrap().text, TEXT, "{death:?}"),
                (_, _) => assert!(matches!(known, Err(Error::MessageNotFound)), "{death:?}"),
            }
            assert_eq!(sent(&world), was_sent, "{death:?}: following never sends");
        }
    }
}

#[tokio::test]
async fn following_gives_up_where_nobody_can_tell() {
    for change in [|chat: &mut Threads| chat.is_shut = true, |chat: &mut Threads| chat.is_blind = true] {
        let world = World::new();
        {
            let mut chat = world.chat.lock().unwrap();
            (chat.script, chat.late) = (vec![lost()], Duration::from_hours(1));
        }
        alive(&world).send_message(&caller(), alice(), hello(1)).await.err().unwrap();
        change(&mut world.chat.lock().unwrap());
        follow_to_the_end(&world).await;
        assert_eq!(alive(&world).follow_operations().await.unwrap(), 0, "it has ended");
        assert!(matches!(by_request(&world).await, Err(Error::OutcomeUnknown { .. })));
    }
}

#[tokio::test]
async fn two_replicas_never_look_for_the_same_message_at_once() {
    let world = World::new();
    world.chat.lock().unwrap().script = vec![lost()];
    world.chat.lock().unwrap().late = Duration::from_hours(1);
    alive(&world).send_message(&caller(), alice(), hello(1)).await.err().unwrap();
    world.clock.advance(Duration::from_secs(6));
    let (first, second) = (alive(&world), alive(&world));
    let (first, second) = tokio::join!(first.follow_operations(), second.follow_operations());
    assert_eq!(first.unwrap() + second.unwrap(), 1);
}

#[tokio::test]
async fn what_sends_nothing_spends_nothing() {
    let world = World::new();
    alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
    alive(&world).create_thread(&caller(), alice(), topic(2, &["bob"])).await.unwrap();
    let spent = || (world.spent("chat_change_messages"), world.spent("chat_create_thread"));
    assert_eq!(spent(), (1, 1));
    for _ in 0..3 {
        alive(&world).send_message(&caller(), alice(), hello(1)).await.unwrap();
        alive(&world).create_thread(&caller(), alice(), topic(2, &["bob"])).await.unwrap();
        let other = SendChatMessage { text: "another".into(), ..hello(1) };
        alive(&world).send_message(&caller(), alice(), other).await.err().unwrap();
    }
    assert_eq!(spent(), (1, 1));
}

#[tokio::test]
async fn removing_one_without_an_identity_asks_acs_nothing() {
    let world = World::new();
    let (chat, replica) = start(&world, settings(), Death::Never);
    chat.remove_participant(&caller(), alice(), THREAD, user("nobody")).await.unwrap();
    assert_eq!(replica.steps(), 1, "one look into the mapping");
}

fn fields<T>(result: Result<T, Error>) -> Vec<String> {
    let Err(Error::InvalidField(violations)) = result else { panic!("not refused") };
    violations.into_iter().map(|violation| violation.field).collect()
}

#[tokio::test]
async fn bad_requests_name_every_field_and_ask_nobody() {
    let world = World::new();
    let (chat, replica) = start(&world, settings(), Death::Never);
    let metadata = |size: usize| Metadata::from([("k".to_owned(), "v".repeat(size - 1))]);
    for (wish, wrong) in [
        (SendChatMessage { text: "x".repeat(28 * 1024 + 1), ..hello(1) }, "text"),
        (SendChatMessage { text: String::new(), ..hello(1) }, "text"),
        (SendChatMessage { thread: String::new(), ..hello(1) }, "thread_id"),
        (SendChatMessage { thread: "a b".into(), ..hello(1) }, "thread_id"),
        (SendChatMessage { thread: "..".into(), ..hello(1) }, "thread_id"),
        (SendChatMessage { metadata: metadata(961), ..hello(1) }, "metadata"),
        (SendChatMessage { sender_display_name: "a\r\nb".into(), ..hello(1) }, "sender_display_name"),
        (SendChatMessage { sender_display_name: "n".repeat(257), ..hello(1) }, "sender_display_name"),
    ] {
        assert_eq!(fields(chat.send_message(&caller(), alice(), wish).await), [wrong]);
    }
    let everything =
        SendChatMessage { text: String::new(), thread: String::new(), metadata: metadata(961), ..hello(1) };
    assert_eq!(
        fields(chat.send_message(&caller(), alice(), everything).await),
        ["thread_id", "text", "metadata"]
    );
    let crowd: Vec<String> = (0..200).map(|number| format!("user-{number}")).collect();
    let crowd: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let too_many = chat.create_thread(&caller(), alice(), topic(1, &crowd)).await;
    assert_eq!(fields(too_many), ["participants"]);
    let twice = chat.create_thread(&caller(), alice(), topic(1, &["bob", "carol", "bob"])).await;
    assert_eq!(fields(twice), ["participants[2].party.user_id"]);
    let long = CreateThread { topic: "t".repeat(1025), ..topic(1, &[]) };
    assert_eq!(fields(chat.create_thread(&caller(), alice(), long).await), ["topic"]);
    assert_eq!(fields(chat.add_participants(&caller(), alice(), THREAD, vec![]).await), ["participants"]);
    assert_eq!(fields(chat.message(&caller(), alice(), THREAD, "").await), ["message_id"]);
    assert_eq!(replica.steps(), 0);
    let largest = SendChatMessage { text: "x".repeat(28 * 1024), metadata: metadata(960), ..hello(1) };
    chat.send_message(&caller(), alice(), largest).await.unwrap();
}
