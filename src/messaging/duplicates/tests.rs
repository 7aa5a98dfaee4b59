//! The guard against the same content under another request id, in a world that dies, loses answers and races.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::*;
use crate::messaging::ports::{Attachment, ChannelError};
use crate::messaging::testing::{Death, Replica, World};
use crate::messaging::tests::{caller, mail, settings, sms, states};
use crate::messaging::types::State;
use crate::messaging::{SendEmail, SendSms, Settings};

const WITHIN: Duration = Duration::from_hours(1);
const TO: [&str; 2] = ["+14255550120", "+14255550121"];

fn guarded() -> Settings {
    Settings { duplicates_within: WITHIN, ..settings() }
}

fn alive(world: &Arc<World>) -> Messaging {
    Replica::start(world, guarded(), Death::Never).0
}

fn is_duplicate_of<T>(result: Result<T, Error>, earlier: &MessageId) -> bool {
    matches!(result, Err(Error::DuplicateContent { earlier: id }) if id == earlier.as_str())
}

fn numbers(world: &World) -> Vec<String> {
    let mut sent: Vec<_> = world.sms.lock().unwrap().values().cloned().collect();
    sent.sort();
    sent
}

#[tokio::test]
async fn the_same_content_under_another_id_is_refused_before_anything_is_sent() {
    let world = World::new();
    let first = alive(&world).send_sms(&caller(), sms(1, &TO)).await.unwrap();
    let again = alive(&world).send_sms(&caller(), sms(2, &TO)).await;
    assert!(is_duplicate_of(again, &first.id));
    // What differs in how it is asked for and in nothing that arrives is the same content.
    let turned = SendSms { tag: Some("t".into()), delivery_report: false, ..sms(3, &[TO[1], TO[0]]) };
    assert!(is_duplicate_of(alive(&world).send_sms(&caller(), turned).await, &first.id));
    assert!(alive(&world).send_sms(&caller(), sms(1, &TO)).await.unwrap() == first, "the request itself");
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 1);
    for (number, other) in [
        SendSms { text: "another".into(), ..sms(4, &TO) },
        SendSms { from: Some("Contoso".into()), ..sms(5, &TO) },
        sms(6, &TO[..1]),
    ]
    .into_iter()
    .enumerate()
    {
        alive(&world).send_sms(&caller(), other).await.unwrap();
        assert_eq!(world.sms_calls.load(Ordering::SeqCst), number + 2);
    }
    alive(&world).send_sms(&Caller::new("other"), sms(7, &TO)).await.unwrap();
    let refused = MessageId::of(Channel::Sms, &caller(), &uuid::Uuid::from_u128(2));
    let seen = alive(&world).get_sms(&caller(), crate::messaging::types::MessageName::Id(refused)).await;
    assert!(matches!(seen, Err(Error::MessageNotFound)), "a refused request leaves nothing behind");
}

#[tokio::test]
async fn the_same_mail_is_refused_and_one_with_another_file_is_not() {
    let world = World::new();
    let file = |byte| Attachment {
        name: "a.bin".into(),
        content_type: "application/octet-stream".into(),
        content: vec![byte; 1000],
        content_id: None,
    };
    let with = |request, byte| SendEmail { attachments: vec![file(byte)], ..mail(request) };
    let first = alive(&world).send_email(&caller(), with(1, 1)).await.unwrap();
    assert!(is_duplicate_of(alive(&world).send_email(&caller(), with(2, 1)).await, &first.id));
    assert!(alive(&world).send_email(&caller(), with(1, 1)).await.unwrap() == first);
    alive(&world).send_email(&caller(), with(3, 2)).await.unwrap();
    assert_eq!(world.mails.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn it_is_off_by_default_and_over_after_its_time() {
    let world = World::new();
    let unguarded = || Replica::start(&world, settings(), Death::Never).0;
    for request in 1..3 {
        unguarded().send_sms(&caller(), sms(request, &TO)).await.unwrap();
    }
    alive(&world).send_sms(&caller(), sms(3, &TO)).await.unwrap();
    world.clock.advance(WITHIN - Duration::from_millis(1));
    assert!(alive(&world).send_sms(&caller(), sms(4, &TO)).await.is_err());
    world.clock.advance(Duration::from_millis(1));
    // A repetition of what was sent long ago begins no new time.
    alive(&world).send_sms(&caller(), sms(3, &TO)).await.unwrap();
    alive(&world).send_sms(&caller(), sms(5, &TO)).await.unwrap();
    // Nor does one that is refused because its id was used for something else.
    assert!(alive(&world).send_sms(&caller(), sms(3, &TO[..1])).await.is_err());
    alive(&world).send_sms(&caller(), sms(6, &TO[..1])).await.unwrap();
}

#[tokio::test]
async fn what_failed_or_was_not_sent_is_in_nobodys_way() {
    let world = World::new();
    let failing = ["+14255550129"];
    let failed = alive(&world).send_sms(&caller(), sms(1, &failing)).await.unwrap();
    assert_eq!(states(&failed), [State::Failed]);
    let second = alive(&world).send_sms(&caller(), sms(2, &failing)).await.unwrap();
    assert_eq!(states(&second), [State::Failed]);
    // One of two has arrived: that one must not get it again.
    let partly = alive(&world).send_sms(&caller(), sms(3, &[TO[0], failing[0]])).await.unwrap();
    let again = alive(&world).send_sms(&caller(), sms(4, &[TO[0], failing[0]])).await;
    assert!(is_duplicate_of(again, &partly.id));

    let wait = Duration::from_secs(7);
    for refusal in [
        ChannelError::NotSent(Error::AcsUnavailable { retry_after: wait, cause: None }),
        ChannelError::Throttled(wait),
    ] {
        *world.script.lock().unwrap() = vec![refusal.clone()];
        assert!(alive(&world).send_sms(&caller(), sms(5, &TO)).await.is_err());
        *world.script.lock().unwrap() = vec![refusal];
        assert!(alive(&world).send_email(&caller(), mail(5)).await.is_err());
    }
    world.use_up_budgets(Some(wait));
    assert!(alive(&world).send_sms(&caller(), sms(6, &TO)).await.is_err());
    assert!(alive(&world).send_email(&caller(), mail(6)).await.is_err());
    world.use_up_budgets(None);
    alive(&world).send_sms(&caller(), sms(7, &TO)).await.unwrap();
    alive(&world).send_email(&caller(), mail(7)).await.unwrap();
}

#[tokio::test]
async fn what_may_have_been_sent_blocks_others_and_not_itself() {
    let world = World::new();
    *world.script.lock().unwrap() = vec![ChannelError::Unknown { retry_after: None, cause: None }];
    let unknown = alive(&world).send_sms(&caller(), sms(1, &TO)).await.err().unwrap();
    assert!(matches!(unknown, Error::OutcomeUnknown { .. }));
    let first = MessageId::of(Channel::Sms, &caller(), &uuid::Uuid::from_u128(1));
    assert!(is_duplicate_of(alive(&world).send_sms(&caller(), sms(2, &TO)).await, &first));
    // Even when the time is over and another one has sent it since: its own outcome can still be found out.
    world.clock.advance(WITHIN);
    alive(&world).send_sms(&caller(), sms(3, &TO)).await.unwrap();
    let report = alive(&world).send_sms(&caller(), sms(1, &TO)).await.unwrap();
    assert_eq!(states(&report), [State::Sent; 2]);
}

#[tokio::test]
async fn the_guard_costs_no_further_trip_to_the_store() {
    let world = World::new();
    let (messaging, replica) = Replica::start(&world, guarded(), Death::Never);
    messaging.send_sms(&caller(), SendSms { delivery_report: false, ..sms(1, &TO) }).await.unwrap();
    // Record, budget and mark together, then ACS, then outcome and links together.
    assert_eq!(replica.steps(), 6);
}

#[tokio::test]
async fn of_many_at_once_one_is_sent() {
    let world = World::new();
    let mut sends = tokio::task::JoinSet::new();
    for request in 0..50 {
        let replica = alive(&world);
        sends.spawn(async move { replica.send_sms(&caller(), sms(request, &TO)).await });
    }
    let results = sends.join_all().await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    assert!(results.iter().all(|r| matches!(r, Ok(_) | Err(Error::DuplicateContent { .. }))));
    assert_eq!(numbers(&world), TO);
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_doubles_nothing_and_blocks_its_content_no_longer_than_it_must() {
    let mut freed = 0;
    for after in [false, true] {
        for step in 0..8 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = Replica::start(&world, guarded(), death);
            let shop = caller();
            let attempt = doomed.send_sms(&shop, sms(1, &TO));
            let _ = tokio::time::timeout(Duration::from_secs(1), attempt).await;
            let sent_by_the_dead = numbers(&world);
            world.clock.advance(guarded().hold + Duration::from_millis(1));
            // Its caller lost the id and asks under another one.
            let other = alive(&world).send_sms(&caller(), sms(2, &TO)).await;
            freed += usize::from(other.is_ok());
            assert!(other.is_err() || sent_by_the_dead.is_empty(), "{death:?}: doubled");
            let own = alive(&world).send_sms(&caller(), sms(1, &TO)).await;
            assert!(own.is_ok() != other.is_ok(), "{death:?}: one of the two goes through");
            assert_eq!(numbers(&world), TO, "{death:?}");
        }
    }
    assert!(freed >= 2, "a mark without a message, or nothing at all, is in nobody's way: {freed}");
}
