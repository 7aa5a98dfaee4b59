//! The promises of messaging in a world that dies, repeats, loses answers and gets events in any order.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::ports::{ChannelError, MailProgress};
use super::testing::{Death, Replica, START, World};
use super::types::{EmailAddress, Failure, MessageName, Number, State};
use super::*;
use crate::broker::types::Caller;

pub(super) const TEXT: &str = "a private text";

pub(super) fn settings() -> Settings {
    let mut settings = Settings::default();
    settings.sms.senders = "+18005550100, Contoso".into();
    settings.email.senders = "news@contoso.com".into();
    settings
}

pub(super) fn caller() -> Caller {
    Caller::unlimited("shop")
}

pub(super) fn sms(request: u128, to: &[&str]) -> SendSms {
    SendSms {
        request_id: uuid::Uuid::from_u128(request),
        from: None,
        to: to.iter().map(|to| Number::parse(to).unwrap()).collect(),
        text: TEXT.into(),
        delivery_report: true,
        tag: None,
    }
}

pub(super) fn mail(request: u128) -> SendEmail {
    SendEmail {
        request_id: uuid::Uuid::from_u128(request),
        from: None,
        to: vec![EmailAddress::parse("a@example.com", "").unwrap()],
        cc: Vec::new(),
        bcc: vec![EmailAddress::parse("b@example.com", "").unwrap()],
        reply_to: Vec::new(),
        subject: "a private subject".into(),
        plain_text: Some(TEXT.into()),
        html: None,
        attachments: Vec::new(),
        headers: std::collections::BTreeMap::new(),
        tracking_disabled: false,
    }
}

fn alive(world: &Arc<World>) -> Messaging {
    Replica::start(world, settings(), Death::Never).0
}

pub(super) fn states(report: &SmsReport) -> Vec<State> {
    report.outcomes.iter().map(|outcome| outcome.state).collect()
}

#[tokio::test]
async fn a_new_sms_takes_two_trips_to_the_store_and_one_to_acs() {
    let world = World::new();
    let (messaging, replica) = Replica::start(&world, settings(), Death::Never);
    let report =
        messaging.send_sms(&caller(), SendSms { delivery_report: false, ..sms(1, &["+14255550123"]) }).await;
    assert_eq!(states(&report.unwrap()), [State::Sent]);
    // Record and budget together, then ACS, then outcome and link together.
    assert_eq!(replica.steps(), 5);
}

#[tokio::test]
async fn asking_again_sends_nothing_and_answers_the_same() {
    let world = World::new();
    let to = ["+14255550120", "+14255550129"];
    let first = alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert_eq!(states(&first), [State::Sent, State::Failed]);
    let again = alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert!(again == first);
    let known = alive(&world).get_sms(&caller(), MessageName::Id(first.id.clone())).await.unwrap();
    assert!(known == first);
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 1);
    let other = alive(&world).send_sms(&Caller::unlimited("other"), sms(1, &to)).await.unwrap();
    assert!(other.id != first.id, "another caller's request id is another request");
    let stolen = alive(&world).get_sms(&Caller::unlimited("other"), MessageName::Id(first.id)).await;
    assert!(matches!(stolen, Err(Error::MessageNotFound)));
}

#[tokio::test]
async fn what_sends_nothing_spends_nothing() {
    let world = World::new();
    let to = ["+14255550120", "+14255550128"];
    alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    alive(&world).send_email(&caller(), mail(1)).await.unwrap();
    assert_eq!((world.spent("sms"), world.spent("email")), (2, 1));
    // One of the two was refused for now: only that one is asked for again.
    alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert_eq!((world.spent("sms"), world.sms_calls.load(Ordering::SeqCst)), (3, 2));
    alive(&world).send_sms(&caller(), sms(2, &to[..1])).await.unwrap();
    assert_eq!(world.spent("sms"), 4);
    for _ in 0..3 {
        // Settled, under way, and an id that was used for something else.
        alive(&world).send_sms(&caller(), sms(2, &to[..1])).await.unwrap();
        alive(&world).send_email(&caller(), mail(1)).await.unwrap();
        alive(&world).send_sms(&caller(), sms(2, &to[1..])).await.err().unwrap();
    }
    let twice = tokio::join!(async { alive(&world).send_sms(&caller(), sms(3, &to[..1])).await }, async {
        alive(&world).send_sms(&caller(), sms(3, &to[..1])).await
    },);
    assert!(twice.0.is_ok() != twice.1.is_ok(), "one of them is running");
    assert_eq!((world.spent("sms"), world.spent("email")), (5, 1));
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn a_message_exists_for_its_own_caller_alone() {
    let world = World::new();
    let sms = alive(&world).send_sms(&caller(), sms(1, &["+14255550120"])).await.unwrap();
    let mail = alive(&world).send_email(&caller(), mail(2)).await.unwrap();
    let other = Caller::new("other");
    for name in [MessageName::Id(sms.id), MessageName::Request(uuid::Uuid::from_u128(1))] {
        let found = alive(&world).get_sms(&caller(), name.clone()).await;
        assert!(found.is_ok());
        let found = alive(&world).get_sms(&other, name).await;
        assert!(matches!(found, Err(Error::MessageNotFound)));
    }
    for name in [MessageName::Id(mail.id), MessageName::Request(uuid::Uuid::from_u128(2))] {
        let found = alive(&world).get_email(&caller(), name.clone(), None).await;
        assert!(found.is_ok());
        let found = alive(&world).get_email(&other, name, None).await;
        assert!(matches!(found, Err(Error::MessageNotFound)));
    }
}

#[tokio::test]
async fn a_request_id_that_was_used_for_something_else_is_refused() {
    let world = World::new();
    alive(&world).send_sms(&caller(), sms(1, &["+14255550120"])).await.unwrap();
    for changed in [
        SendSms { text: "another".into(), ..sms(1, &["+14255550120"]) },
        sms(1, &["+14255550121"]),
        SendSms { tag: Some("t".into()), ..sms(1, &["+14255550120"]) },
        SendSms { delivery_report: false, ..sms(1, &["+14255550120"]) },
        SendSms { from: Some("Contoso".into()), ..sms(1, &["+14255550120"]) },
    ] {
        let refused = alive(&world).send_sms(&caller(), changed).await;
        assert!(matches!(refused, Err(Error::RequestIdReused)));
    }
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_of_a_send_doubles_nothing_and_asking_again_ends_it() {
    let to = ["+14255550120", "+14255550121"];
    let mut deaths = 0;
    for after in [false, true] {
        for step in 0..8 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = Replica::start(&world, settings(), death);
            let attempt =
                tokio::time::timeout(Duration::from_secs(1), doomed.send_sms(&caller(), sms(1, &to))).await;
            deaths += usize::from(attempt.is_err());
            // While the dead one still holds it, it is running; afterwards it is not known.
            let seen = alive(&world).get_sms(&caller(), MessageName::Request(uuid::Uuid::from_u128(1))).await;
            let held = alive(&world).send_sms(&caller(), sms(1, &to)).await;
            if let Ok(seen) = &seen
                && attempt.is_err()
                && states(seen).contains(&State::Accepted)
            {
                assert!(matches!(held, Err(Error::RequestInProgress { .. })), "{death:?}");
            }
            world.clock.advance(settings().hold);
            let report = alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
            assert_eq!(states(&report), [State::Sent; 2], "{death:?}");
            let mut sent: Vec<String> = world.sms.lock().unwrap().values().cloned().collect();
            sent.sort();
            assert_eq!(sent, to, "{death:?}");
        }
    }
    assert_eq!(deaths, 10, "five steps, before and after each");
}

#[tokio::test]
async fn an_answer_that_is_lost_leaves_unknown_until_asking_again_finds_out() {
    let world = World::new();
    let lost = ChannelError::Unknown { retry_after: None, cause: None };
    *world.script.lock().unwrap() = vec![lost.clone(), lost];
    let to = ["+14255550120"];
    for _ in 0..2 {
        let error = alive(&world).send_sms(&caller(), sms(1, &to)).await.err().unwrap();
        assert!(matches!(error, Error::OutcomeUnknown { .. }));
        let seen =
            alive(&world).get_sms(&caller(), MessageName::Request(uuid::Uuid::from_u128(1))).await.unwrap();
        assert_eq!(states(&seen), [State::Unknown]);
    }
    let report = alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert_eq!((states(&report), world.sms.lock().unwrap().len()), (vec![State::Sent], 1));
}

#[tokio::test]
async fn what_was_not_sent_is_forgotten_and_may_be_asked_for_anew() {
    let world = World::new();
    let to = ["+14255550120"];
    let wait = Duration::from_secs(7);
    let refused = ChannelError::NotSent(Error::AcsUnavailable { retry_after: wait, cause: None });
    *world.script.lock().unwrap() = vec![refused, ChannelError::Throttled(wait)];
    let throttled = alive(&world).send_sms(&caller(), sms(1, &to)).await;
    assert!(matches!(throttled, Err(Error::AcsThrottled { retry_after }) if retry_after == wait));
    assert_eq!(world.paused(), ["sms_number:+18005550100"], "the whole fleet pauses");
    let unavailable = alive(&world).send_sms(&caller(), sms(1, &to)).await;
    assert!(matches!(unavailable, Err(Error::AcsUnavailable { .. })));
    world.use_up_budgets(Some(wait));
    let limited = alive(&world).send_sms(&caller(), sms(1, &to)).await;
    assert!(matches!(limited, Err(Error::AcsLimitReached { retry_after }) if retry_after == wait));
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 2, "over a limit ACS is not asked");
    world.use_up_budgets(None);
    // Another text under the same id: nothing was sent under it.
    let anew = SendSms { text: "another".into(), ..sms(1, &to) };
    assert_eq!(states(&alive(&world).send_sms(&caller(), anew).await.unwrap()), [State::Sent]);
}

#[tokio::test]
async fn a_recipient_that_may_pass_is_tried_again_and_the_others_are_not() {
    let world = World::new();
    let to = ["+14255550120", "+14255550128"];
    let first = alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert_eq!(states(&first), [State::Sent, State::Accepted]);
    assert!(first.outcomes[1].failure.is_some());
    alive(&world).send_sms(&caller(), sms(1, &to)).await.unwrap();
    assert_eq!((world.sms_calls.load(Ordering::SeqCst), world.sms.lock().unwrap().len()), (2, 1));
}

#[tokio::test]
async fn every_violation_is_named_and_nothing_is_sent() {
    let world = World::new();
    let fields = |request: SendSms| {
        let messaging = alive(&world);
        async move {
            match messaging.send_sms(&caller(), request).await {
                Err(Error::InvalidField(violations)) => {
                    violations.into_iter().map(|v| v.field).collect::<Vec<_>>()
                }
                _ => Vec::new(),
            }
        }
    };
    let many: Vec<String> = (0..101).map(|n| format!("+1425555{n:04}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(fields(sms(1, &[])).await, ["to"]);
    assert_eq!(fields(sms(1, &many)).await, ["to"]);
    assert_eq!(fields(sms(1, &["+14255550120", "+14255550121", "+14255550120"])).await, ["to[2]"]);
    let long = SendSms { text: "x".repeat(2049), tag: Some("t".repeat(129)), ..sms(1, &["+14255550120"]) };
    assert_eq!(fields(long).await, ["text", "tag"]);
    let empty =
        SendSms { text: String::new(), from: Some("+18005550199".into()), ..sms(1, &["+14255550120"]) };
    assert_eq!(fields(empty).await, ["from", "text"]);
    assert_eq!(world.sms_calls.load(Ordering::SeqCst), 0);
    assert_eq!(world.dump(), "");
}

#[tokio::test]
async fn outside_production_messages_reach_only_whom_they_may() {
    let world = World::new();
    let mut careful = settings();
    careful.sms.allow = "+1425*".into();
    careful.sms.redirect = "+14255550100".into();
    let (messaging, _) = Replica::start(&world, careful, Death::Never);
    let refused = messaging.send_sms(&caller(), sms(1, &["+14255550120", "+442071838750"])).await;
    assert!(matches!(refused, Err(Error::RecipientNotAllowed)));
    let report = messaging.send_sms(&caller(), sms(2, &["+14255550120"])).await.unwrap();
    assert_eq!(report.outcomes[0].to, "+14255550120", "the caller hears of the one they asked for");
    assert_eq!(world.sms.lock().unwrap().values().collect::<Vec<_>>(), ["+14255550100"]);
}

#[tokio::test]
async fn no_text_is_ever_kept() {
    let world = World::new();
    alive(&world).send_sms(&caller(), sms(1, &["+14255550120"])).await.unwrap();
    alive(&world).send_email(&caller(), mail(2)).await.unwrap();
    let dump = world.dump();
    assert!(dump.contains("+14255550120") && !dump.contains("private"), "{dump}");
}

fn delivered(id: &str, upstream_id: &str, state: State) -> Event {
    Event {
        id: id.into(),
        at: START,
        message: None,
        caller: None,
        happened: Happened::SmsDelivery {
            upstream_id: upstream_id.into(),
            to: "+14255550120".into(),
            from: "18005550100".into(),
            state,
            detail: Failure { code: "2000".into(), detail: "No Error".into() },
            tag: String::new(),
        },
    }
}

#[tokio::test]
async fn delivery_moves_forward_only_however_events_come() {
    let world = World::new();
    let messaging = alive(&world);
    let sent = messaging.send_sms(&caller(), sms(1, &["+14255550120"])).await.unwrap();
    let upstream = sent.outcomes[0].upstream_id.clone().unwrap();
    for (event, state) in [
        (delivered("1", &upstream, State::Sent), State::Sent),
        (delivered("2", &upstream, State::Delivered), State::Delivered),
        (delivered("2", &upstream, State::Delivered), State::Delivered),
        (delivered("3", &upstream, State::Failed), State::Delivered),
        (delivered("4", "somebody else's", State::Failed), State::Delivered),
    ] {
        messaging.take_in(event).await.unwrap();
        let seen = messaging.get_sms(&caller(), MessageName::Id(sent.id.clone())).await.unwrap();
        assert_eq!(states(&seen), [state]);
    }
    let mut watch = messaging.watch(Some(super::ports::Cursor("0".into())), Vec::new()).await.unwrap();
    let events = watch.next().await.unwrap();
    assert_eq!(events.len(), 4, "a repeated event is told once");
    assert_eq!(events[0].1.message.as_deref(), Some(sent.id.as_str()));
    assert_eq!(events[3].1.message, None);
}

#[tokio::test]
async fn an_event_that_comes_before_the_answer_to_the_send_is_not_lost() {
    let world = World::new();
    let messaging = alive(&world);
    // The upstream id is known beforehand because this ACS makes it of the repeatability id.
    let id = MessageId::of(Channel::Sms, &caller(), &uuid::Uuid::from_u128(1));
    let upstream = format!("out-{}", id.upstream("+14255550120"));
    messaging.take_in(delivered("1", &upstream, State::Delivered)).await.unwrap();
    messaging.send_sms(&caller(), sms(1, &["+14255550120"])).await.unwrap();
    messaging.0.tasks.close();
    messaging.0.tasks.wait().await;
    let seen = messaging.get_sms(&caller(), MessageName::Id(id)).await.unwrap();
    assert_eq!(states(&seen), [State::Delivered]);
}

#[tokio::test]
async fn a_watcher_resumes_where_it_was_and_hears_of_what_comes() {
    let world = World::new();
    let (messaging, other) = (alive(&world), alive(&world));
    let mut watch = messaging.watch(None, vec![EventKind::SmsDelivery]).await.unwrap();
    other.take_in(delivered("1", "x", State::Sent)).await.unwrap();
    let known = messaging.look_at_the_log(None).await.unwrap();
    let first = watch.next().await.unwrap();
    assert_eq!((first.len(), &first[0].0), (1, &known));
    messaging.take_in(delivered("2", "x", State::Delivered)).await.unwrap();
    assert_eq!(watch.next().await.unwrap().len(), 1);
    let mut resumed = other.watch(Some(known), Vec::new()).await.unwrap();
    assert_eq!(resumed.next().await.unwrap()[0].1.id, "2");
    let foreign = other.watch(Some(super::ports::Cursor("99".into())), Vec::new()).await;
    assert!(matches!(foreign, Err(Error::InvalidField(_))));
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_asked_after_by_one_replica_and_told_to_all_who_wait() {
    let world = World::new();
    let messaging = alive(&world);
    let sent = messaging.send_email(&caller(), mail(1)).await.unwrap();
    assert_eq!(sent.state, State::Accepted);
    let waits = (0..50).map(|_| {
        let (messaging, id) = (messaging.clone(), sent.id.clone());
        tokio::spawn(async move {
            let until = tokio::time::Instant::now() + Duration::from_secs(60);
            messaging.get_email(&caller(), MessageName::Id(id), Some(until)).await.unwrap().state
        })
    });
    let waits: Vec<_> = waits.collect();
    assert_eq!(messaging.follow_operations().await.unwrap(), 0, "not due yet");
    world.clock.advance(Duration::from_secs(2));
    assert_eq!(messaging.follow_operations().await.unwrap(), 1);
    assert_eq!(alive(&world).follow_operations().await.unwrap(), 0, "once is enough");
    for wait in waits {
        assert_eq!(wait.await.unwrap(), State::Sent);
    }
}

#[tokio::test(start_paused = true)]
async fn death_at_any_step_of_a_mail_sends_it_once_and_its_end_is_found_out() {
    for after in [false, true] {
        for step in 0..9 {
            let world = World::new();
            let death = if after { Death::After(step) } else { Death::Before(step) };
            let (doomed, _) = Replica::start(&world, settings(), death);
            let _ = tokio::time::timeout(Duration::from_secs(1), doomed.send_email(&caller(), mail(1))).await;
            // Nobody asks again: within five minutes its end is known to those who look.
            let messaging = alive(&world);
            for _ in 0..8 {
                world.clock.advance(Duration::from_secs(60));
                messaging.follow_operations().await.unwrap();
            }
            let name = MessageName::Request(uuid::Uuid::from_u128(1));
            let seen = messaging.get_email(&caller(), name, None).await;
            let was_sent = !world.mails.lock().unwrap().is_empty();
            match seen {
                Ok(report) => {
                    let wanted = if was_sent { State::Sent } else { State::Failed };
                    // Died between record and schedule: surfaced as unknown.
                    assert!(
                        report.state == wanted || report.state == State::Unknown,
                        "{death:?} {:?}",
                        report.state
                    );
                }
                Err(error) => assert!(matches!(error, Error::MessageNotFound) && !was_sent, "{death:?}"),
            }
            let again = messaging.send_email(&caller(), mail(1)).await;
            assert!(again.is_ok(), "{death:?}");
            assert!(world.mails.lock().unwrap().len() <= 1, "{death:?}");
        }
    }
}

#[tokio::test]
async fn a_mail_that_fails_tells_every_recipient_why() {
    let world = World::new();
    let messaging = alive(&world);
    let failure = Failure { code: "EmailDroppedAllRecipientsSuppressed".into(), detail: String::new() };
    *world.mail_progress.lock().unwrap() = MailProgress::Failed(failure.clone());
    let sent = messaging.send_email(&caller(), mail(1)).await.unwrap();
    world.clock.advance(Duration::from_secs(2));
    messaging.follow_operations().await.unwrap();
    let seen = messaging.get_email(&caller(), MessageName::Id(sent.id), None).await.unwrap();
    assert_eq!((seen.state, seen.failure.as_ref()), (State::Failed, Some(&failure)));
    assert!(seen.outcomes.iter().all(|outcome| outcome.failure.as_ref() == Some(&failure)));
}

#[tokio::test]
async fn what_is_wrong_with_a_mail_is_named() {
    let world = World::new();
    let address = |n: usize| EmailAddress::parse(&format!("a{n}@example.com"), "").unwrap();
    let file = |name: &str, kind: &str, content: &[u8]| super::ports::Attachment {
        name: name.into(),
        content_type: kind.into(),
        content: content.to_vec(),
        content_id: None,
    };
    let headers = |name: &str, value: &str| [(name.to_owned(), value.to_owned())].into_iter().collect();
    let cases: Vec<(SendEmail, &[&str])> = vec![
        (SendEmail { to: Vec::new(), bcc: Vec::new(), ..mail(1) }, &["to"]),
        (SendEmail { to: (0..51).map(address).collect(), bcc: Vec::new(), ..mail(1) }, &["to"]),
        (
            SendEmail { cc: vec![EmailAddress::parse("A@example.com", "").unwrap()], ..mail(1) },
            &["cc[0].address"],
        ),
        (SendEmail { subject: "a\r\nBcc: x@y.z".into(), ..mail(1) }, &["subject"]),
        (SendEmail { plain_text: None, ..mail(1) }, &["plain_text"]),
        (SendEmail { headers: headers("X-A\r\nBcc", "x"), ..mail(1) }, &["headers[0]"]),
        (SendEmail { headers: headers("Bcc", "x@y.z"), ..mail(1) }, &["headers[0]"]),
        (SendEmail { headers: headers("X-A", "x\r\nBcc: y"), ..mail(1) }, &["headers[0]"]),
        (
            SendEmail { attachments: vec![file("../a", "pdf", b"")], ..mail(1) },
            &["attachments[0].name", "attachments[0].content_type", "attachments[0].content"],
        ),
        (SendEmail { attachments: vec![file("a", "a/b", &vec![0; 8 << 20])], ..mail(1) }, &["attachments"]),
        (SendEmail { from: Some("other@contoso.com".into()), ..mail(1) }, &["from"]),
    ];
    for (request, wanted) in cases {
        let Err(Error::InvalidField(violations)) = alive(&world).send_email(&caller(), request).await else {
            panic!("{wanted:?} was let through")
        };
        assert_eq!(violations.into_iter().map(|v| v.field).collect::<Vec<_>>(), wanted);
    }
    assert!(world.mails.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_channel_without_senders_says_that_it_is_not_set_up() {
    let world = World::new();
    let (messaging, _) = Replica::start(&world, Settings::default(), Death::Never);
    let sms = messaging.send_sms(&caller(), sms(1, &["+14255550120"])).await;
    assert!(matches!(sms, Err(Error::ChannelNotConfigured { channel: "sms" })));
    let mail = messaging.send_email(&caller(), mail(1)).await;
    assert!(matches!(mail, Err(Error::ChannelNotConfigured { channel: "email" })));
}

#[tokio::test]
async fn asking_again_for_a_mail_under_way_does_not_put_off_its_end() {
    let world = World::new();
    let first = alive(&world).send_email(&caller(), mail(1)).await.unwrap();
    for _ in 0..20 {
        alive(&world).send_email(&caller(), mail(1)).await.unwrap();
        let other = SendEmail { subject: "another".into(), ..mail(1) };
        assert!(matches!(alive(&world).send_email(&caller(), other).await, Err(Error::RequestIdReused)));
        world.clock.advance(Duration::from_millis(500));
        alive(&world).follow_operations().await.unwrap();
    }
    let report = alive(&world).get_email(&caller(), MessageName::Id(first.id), None).await.unwrap();
    assert_eq!(report.state, State::Sent);
}

#[tokio::test]
async fn a_report_that_comes_while_the_answer_is_kept_and_the_answer_both_count() {
    let world = World::new();
    let messaging = alive(&world);
    let report = messaging.send_sms(&caller(), sms(1, &["+14255550120", "+14255550121"])).await.unwrap();
    let kept = messaging.0.stores.messages.get(&report.id).await.unwrap().unwrap();
    // As if the answer were kept only now: it was read before the report changed the record.
    let answer = Record::read(&kept.bytes).unwrap();
    let mut early = answer.clone();
    for outcome in &mut early.outcomes {
        (outcome.upstream_id, outcome.state) = (None, State::Accepted);
    }
    early.advance(0, State::Delivered, None, world.clock.now());
    let (messages, bytes) = (&messaging.0.stores.messages, early.bytes());
    let replaced = messages.replace(&report.id, kept.version, &bytes, settings().retention).await;
    assert!(replaced.unwrap().is_ok());
    messaging.keep(&report.id, kept.version, &answer).await;
    let now = messaging.get_sms(&caller(), MessageName::Id(report.id.clone())).await.unwrap();
    assert_eq!(states(&now), [State::Delivered, State::Sent]);
    assert!(now.outcomes.iter().all(|outcome| outcome.upstream_id.is_some()));
}
