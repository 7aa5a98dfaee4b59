//! The intake over real HTTP, into messaging over the embedded store in memory: who and what is refused, both
//! handshakes, both schemas, and that no order, repetition or loss of events leads to a wrong state.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{Rig, SECRET, caller, report, status};
use super::*;
use crate::messaging::types::{EmailAddress, MessageName, State};
use crate::messaging::{Happened, SendEmail};

/// The body of an answer.
fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn whoever_does_not_know_the_secret_is_refused_before_anything_is_read() {
    let rig = Rig::start(SECRET).await;
    rig.send(1, &["+14255550123"]).await;
    let forged = json!([report("e", "+14255550123", "Delivered")]).to_string();
    let json = ("content-type", "application/json");
    let almost = format!("Bearer {SECRET}x");
    for headers in [
        vec![json],
        vec![json, ("x-acs-broker-webhook-secret", "known to Event Grid")],
        vec![json, ("authorization", &almost)],
        vec![],
    ] {
        let answer = rig.ask("POST /events?code=known", &headers, forged.as_bytes()).await;
        assert_eq!(status(&answer), 401, "{answer}");
        assert!(answer.to_lowercase().contains("www-authenticate: bearer"), "{answer}");
    }
    let handshake =
        rig.ask("OPTIONS /events", &[("webhook-request-origin", "eventgrid.azure.net")], b"").await;
    assert_eq!(status(&handshake), 401);
    // A body that never comes is not waited for.
    let endless = rig.raw(b"POST /events HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n").await;
    assert_eq!(status(&endless), 401);
    assert_eq!(rig.states(1).await, [State::Sent], "nothing of it counts");
    assert!(rig.counted("requests_total{outcome=\"forged\"} 6"), "{}", rig.metrics.render());
    for line in [
        "POST /events?code=known%20to%20Event%20Grid%20alone",
        "POST /events?x=y&code=known%20to%20Event%20Grid%20alone",
    ] {
        assert_eq!(status(&rig.ask(line, &[json], forged.as_bytes()).await), 200);
    }
    assert_eq!(rig.states(1).await, [State::Delivered]);
}

#[tokio::test]
async fn paths_methods_and_types_other_than_the_published_are_refused() {
    let rig = Rig::start("").await;
    let json = [("content-type", "application/json")];
    for line in ["POST /", "POST /events/", "POST /Events", "POST /events/x", "GET /metrics"] {
        assert_eq!(status(&rig.ask(line, &json, b"[]").await), 404, "{line}");
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "TRACE"] {
        let answer = rig.ask(&format!("{method} /events"), &json, b"[]").await;
        assert_eq!(status(&answer), 405, "{method}");
        assert!(answer.to_lowercase().contains("allow: options, post"), "{answer}");
    }
    for wrong in
        ["text/plain", "application/xml", "application/json; charset=utf-16", "application/jsonx", ""]
    {
        assert_eq!(status(&rig.ask("POST /events", &[("content-type", wrong)], b"[]").await), 415, "{wrong}");
    }
    assert_eq!(status(&rig.ask("POST /events", &[], b"[]").await), 415);
    for right in [
        "application/json",
        "Application/CloudEvents+JSON; charset=UTF-8",
        "application/cloudevents-batch+json",
    ] {
        assert_eq!(status(&rig.ask("POST /events", &[("content-type", right)], b"[]").await), 200, "{right}");
    }
    assert!(rig.raw(b"\x01\x02\r\n\r\n").await.starts_with("HTTP/1.1 400"));
}

#[tokio::test]
async fn sizes_beyond_the_limit_are_refused_whether_announced_or_not() {
    let rig = Rig::start(SECRET).await;
    let spaces = |size: usize| [vec![b' '; size - 2], b"[]".to_vec()].concat();
    assert_eq!(rig.post_text(&spaces(MAX_BODY)).await, 200);
    assert_eq!(rig.post_text(&spaces(MAX_BODY + 1)).await, 413);
    let head = "POST /events HTTP/1.1\r\nhost: a\r\nx-acs-broker-webhook-secret: known to Event Grid alone\r\n\
                content-type: application/json\r\n";
    let announced = format!("{head}content-length: 99999999999\r\n\r\n");
    assert_eq!(status(&rig.raw(announced.as_bytes()).await), 413, "without a byte of it");
    let mut chunked = format!("{head}transfer-encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..20 {
        chunked.extend_from_slice(b"10000\r\n");
        chunked.extend_from_slice(&vec![b' '; 65_536]);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"2\r\n[]\r\n0\r\n\r\n");
    assert_eq!(status(&rig.raw(&chunked).await), 413);
    let long_head = format!("POST /events HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(1 << 20));
    let answer = rig.raw(long_head.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(rig.post(&json!([])).await, 200, "still alive");
}

#[tokio::test]
async fn what_is_malformed_is_refused_whole() {
    let rig = Rig::start(SECRET).await;
    rig.send(1, &["+14255550123"]).await;
    let good = report("good", "+14255550123", "Delivered");
    let mut without_id = good.clone();
    without_id["id"] = Value::Null;
    assert_eq!(rig.post(&json!([good, without_id])).await, 400);
    assert_eq!(rig.states(1).await, [State::Sent], "nor is the good one taken");
    let too_many = Value::Array(vec![good.clone(); MAX_EVENTS + 1]);
    let deep = "[".repeat(200) + &"]".repeat(200);
    for text in ["", "[", "{}", "\"x\"", "[[]]", "{\"id\":\"1\"}", &deep, &too_many.to_string()] {
        assert_eq!(rig.post_text(text.as_bytes()).await, 400, "{text:.40}");
    }
    assert_eq!(rig.post_text(&[0xff, 0xfe, 0x00]).await, 400);
    assert!(rig.counted("events_total{kind=\"other\",outcome=\"malformed\"} 10"), "{}", rig.metrics.render());
    assert_eq!(rig.post(&Value::Array(vec![good; MAX_EVENTS])).await, 200, "as many as are allowed");
    assert_eq!(rig.states(1).await, [State::Delivered]);
}

#[tokio::test]
async fn event_grids_question_is_answered_with_its_code_at_once() {
    let rig = Rig::start(SECRET).await;
    let question = json!([{
        "id": "2d1781af", "topic": "/subscriptions/s", "subject": "",
        "data": {"validationCode": "512d38b6-c7b8", "validationUrl": "https://rp.example/validate?id=1"},
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "eventTime": "2026-11-22T12:00:00Z",
        "metadataVersion": "1", "dataVersion": "1",
    }]);
    let headers = [
        ("authorization", "Bearer known to Event Grid alone"),
        ("content-type", "application/json; charset=utf-8"),
        ("aeg-event-type", "SubscriptionValidation"),
    ];
    let answer = rig.ask("POST /events", &headers, question.to_string().as_bytes()).await;
    assert_eq!(status(&answer), 200);
    assert!(answer.to_lowercase().contains("content-type: application/json"), "{answer}");
    let said: Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(said, json!({"validationResponse": "512d38b6-c7b8"}));
    assert!(rig.counted("requests_total{outcome=\"handshake\"} 1"), "{}", rig.metrics.render());
}

#[tokio::test]
async fn the_handshake_of_cloud_events_names_the_origin_and_a_rate() {
    let rig = Rig::start(SECRET).await;
    let line = "OPTIONS /events?code=known%20to%20Event%20Grid%20alone";
    let asked = [("webhook-request-origin", "eventgrid.azure.net"), ("webhook-request-rate", "120")];
    let answer = rig.ask(line, &asked, b"").await.to_lowercase();
    assert_eq!(status(&answer), 200);
    for header in [
        "webhook-allowed-origin: eventgrid.azure.net\r\n",
        "webhook-allowed-rate: *\r\n",
        "allow: options, post",
    ] {
        assert!(answer.contains(header), "{header} is not in {answer}");
    }
    assert_eq!(status(&rig.ask(line, &[], b"").await), 400);
    let long = "x".repeat(300);
    assert_eq!(status(&rig.ask(line, &[("webhook-request-origin", &long)], b"").await), 400);
}

#[tokio::test]
async fn cloud_events_come_alone_or_in_batches_and_are_told_to_watchers() {
    let rig = Rig::start(SECRET).await;
    let mut watch = rig.messaging.watch(None, Vec::new()).await.unwrap();
    let event = |id: &str, kind: &str, data: Value| {
        json!({"id": id, "source": "/subscriptions/s", "type": format!("Microsoft.Communication.{kind}"),
               "subject": "s", "time": "2026-11-22T12:30:15Z", "specversion": "1.0", "data": data})
    };
    let received =
        json!({"messageId": "Incoming_1", "from": "14255550123", "to": "18005550100", "message": "Hi"});
    let thread = json!({"threadId": "19:t@thread.v2", "properties": {"topic": "Lunch"}});
    let other =
        json!({"id": "3", "source": "s", "type": "Microsoft.Communication.CallEnded", "specversion": "1.0"});
    let post = async |kind: &str, body: Value| {
        let headers = [("x-acs-broker-webhook-secret", SECRET), ("content-type", kind)];
        status(&rig.ask("POST /events", &headers, body.to_string().as_bytes()).await)
    };
    assert_eq!(post("application/cloudevents+json", event("1", "SMSReceived", received)).await, 200);
    let batch = json!([other, event("2", "ChatThreadCreated", thread)]);
    assert_eq!(post("application/cloudevents-batch+json; charset=utf-8", batch).await, 200);
    let mut told = Vec::new();
    while told.len() < 2 {
        let page = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
        told.extend(page.into_iter().map(|(_, event)| event));
    }
    assert!(
        matches!(&told[0].happened, Happened::SmsReceived { text, from, .. } if text == "Hi" && from == "+14255550123")
    );
    assert!(
        matches!(&told[1].happened, Happened::Chat { topic, name, .. } if topic == "Lunch" && name == "ChatThreadCreated")
    );
    for line in [
        "events_total{kind=\"sms_received\",outcome=\"taken\"} 1",
        "events_total{kind=\"chat\",outcome=\"taken\"} 1",
        "events_total{kind=\"other\",outcome=\"ignored\"} 1",
        "requests_total{outcome=\"taken\"} 2",
    ] {
        assert!(rig.counted(line), "{line}\n{}", rig.metrics.render());
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_asked_for_again_and_then_counts_once() {
    let rig = Rig::start(SECRET).await;
    let mut watch = rig.messaging.watch(None, Vec::new()).await.unwrap();
    rig.send(1, &["+14255550123", "+14255550124"]).await;
    let batch = json!([report("a", "+14255550123", "Delivered"), report("b", "+14255550124", "Failed")]);
    rig.log_is_down.store(true, Ordering::SeqCst);
    let headers = [("x-acs-broker-webhook-secret", SECRET), ("content-type", "application/json")];
    let answer = rig.ask("POST /events", &headers, batch.to_string().as_bytes()).await;
    assert_eq!(status(&answer), 503);
    assert!(answer.to_lowercase().contains("retry-after: "), "{answer}");
    assert!(!answer.contains("4255550123"), "{answer}");
    rig.log_is_down.store(false, Ordering::SeqCst);
    for _ in 0..3 {
        assert_eq!(rig.post(&batch).await, 200);
    }
    assert_eq!(rig.states(1).await, [State::Delivered, State::Failed]);
    let told = tokio::time::timeout(Duration::from_secs(10), watch.next()).await.unwrap().unwrap();
    let ids: Vec<_> = told.iter().map(|(_, event)| event.id.as_str()).collect();
    assert_eq!(ids, ["a", "b"], "each is told once");
    assert!(told.iter().all(|(_, event)| event.message.is_some()), "and tied to its message");
}

#[tokio::test]
async fn a_report_of_a_mail_finds_its_recipient() {
    let rig = Rig::start(SECRET).await;
    let to = |address: &str| EmailAddress::parse(address, "").unwrap();
    let request_id = uuid::Uuid::from_u128(9);
    let request = SendEmail {
        request_id,
        from: None,
        to: vec![to("a@example.com"), to("b@example.com")],
        cc: Vec::new(),
        bcc: vec![to("c@example.com")],
        reply_to: Vec::new(),
        subject: "s".into(),
        plain_text: Some("t".into()),
        html: None,
        attachments: Vec::new(),
        headers: std::collections::BTreeMap::new(),
        tracking_disabled: false,
    };
    let sent = rig.messaging.send_email(&caller(), request).await.unwrap();
    let operation = sent.id.upstream("operation").to_string().to_uppercase();
    let event = |id: &str, address: &str, status: &str| {
        json!({"id": id, "eventType": "Microsoft.Communication.EmailDeliveryReportReceived",
               "eventTime": "2026-11-22T12:30:15Z", "dataVersion": "1.0", "topic": "t", "subject": "s",
               "data": {"sender": "x@y.example", "recipient": address, "messageId": operation, "status": status,
                        "deliveryStatusDetails": {"statusMessage": "No mailbox for a@example.com"}}})
    };
    let batch = json!([
        event("1", "A@example.com", "Bounced"),
        event("2", "b@example.com", "delivered"),
        event("3", "c@example.com", "Expanded"),
        event("4", "stranger@example.com", "Delivered"),
    ]);
    assert_eq!(rig.post(&batch).await, 200);
    let report = rig.messaging.get_email(&caller(), MessageName::Request(request_id), None).await.unwrap();
    let states: Vec<_> = report.outcomes.iter().map(|outcome| outcome.state).collect();
    assert_eq!(states, [State::Failed, State::Delivered, State::Sent]);
    let failure = report.outcomes[0].failure.clone().unwrap();
    assert_eq!((failure.code.as_str(), failure.detail.as_str()), ("Bounced", "No mailbox for …"));
}

#[tokio::test]
async fn idle_connections_do_not_lock_others_out_and_a_slow_body_is_given_up() {
    let rig = Rig::start(SECRET).await;
    tokio::time::pause();
    let mut idle = Vec::new();
    for _ in 0..MAX_CONNECTIONS + 8 {
        idle.push(TcpStream::connect(rig.address).await.unwrap());
    }
    let answer = tokio::time::timeout(Duration::from_secs(120), rig.post(&json!([]))).await.unwrap();
    assert_eq!(answer, 200);
    drop(idle);
    let slow =
        b"POST /events HTTP/1.1\r\nhost: a\r\nx-acs-broker-webhook-secret: known to Event Grid alone\r\n\
                 content-type: application/json\r\ncontent-length: 100\r\n\r\n[";
    let answer = tokio::time::timeout(Duration::from_secs(120), rig.raw(slow)).await.unwrap();
    assert_eq!(status(&answer), 408);
}

#[tokio::test]
async fn at_the_end_a_request_under_way_is_still_answered_and_no_other_is_taken() {
    let rig = Rig::start(SECRET).await;
    let event = json!([report("a", "+14255550123", "Delivered")]).to_string();
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: a\r\nx-acs-broker-webhook-secret: {SECRET}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: {}\r\n\r\n",
        event.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    stream.read_exact(&mut go_on).await.unwrap();
    assert!(go_on.starts_with(b"HTTP/1.1 100 "), "it is being read");
    rig.stop.cancel();
    let mut refused = false;
    for _ in 0..200 {
        refused = TcpStream::connect(rig.address).await.is_err();
        if refused {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(refused, "nobody listens any more");
    stream.write_all(event.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 200);
    tokio::time::timeout(Duration::from_secs(20), rig.served).await.unwrap().unwrap();
}

#[test]
fn the_settings_file_is_read_and_an_open_listener_without_a_secret_is_a_mistake() {
    let file: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    let read: Settings = file["webhook"].clone().try_into().unwrap();
    assert_eq!(format!("{read:?}"), format!("{:?}", Settings::at("", Secret::new(""))));
    assert!(read.address().is_none() && read.problems().is_empty());
    let keys = |address: &str, secret: &str| {
        let problems = Settings::at(address, Secret::new(secret)).problems();
        problems.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    };
    assert_eq!(keys("127.0.0.1:8084", ""), [""; 0]);
    assert_eq!(keys("[::1]:8084", ""), [""; 0]);
    for open in ["0.0.0.0:8084", "[::]:8084", "192.0.2.1:8084"] {
        assert_eq!(keys(open, ""), ["address"], "{open}");
        assert_eq!(keys(open, SECRET), [""; 0], "{open}");
    }
    assert_eq!(keys("127.0.0.1:8084", "fifteen bytes.."), ["secret"]);
}

/// What may come of the reports of one number: none, or the first final one that was taken in.
fn allowed(statuses: &[&str]) -> Vec<State> {
    let finals = statuses.iter().filter_map(|status| match *status {
        "Delivered" => Some(State::Delivered),
        "Failed" => Some(State::Failed),
        _ => None,
    });
    finals.take(1).chain([State::Sent]).take(1).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn reports_repeated_reordered_forged_and_early_end_in_states_that_only_went_forward(
        posts in prop::collection::vec((0..3_usize, 0..4_usize, 0..3_u8, any::<bool>()), 0..14),
        send_at in 0..14_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let rig = Rig::start(SECRET).await;
            let numbers = ["+14255550121", "+14255550122", "+14255550123"];
            let statuses = ["Delivered", "Failed", "Pending", "delivered "];
            let (mut sent, mut before) = (false, Vec::new());
            let mut taken: [Vec<&str>; 3] = Default::default();
            for (index, (number, status, times, is_forged)) in posts.into_iter().enumerate() {
                if index == send_at {
                    rig.send(1, &numbers).await;
                    sent = true;
                }
                let event = report(&format!("e{index}"), numbers[number], statuses[status]);
                if is_forged {
                    let body = json!([event]).to_string();
                    let answer = rig.ask("POST /events", &[("content-type", "application/json")], body.as_bytes()).await;
                    assert_eq!(super::rig::status(&answer), 401);
                } else {
                    for _ in 0..=times {
                        assert_eq!(rig.post(&json!([event])).await, 200);
                    }
                    taken[number].push(statuses[status]);
                }
                if sent {
                    let now = rig.states(1).await;
                    for (was, is) in before.iter().zip(&now) {
                        assert!(was == is || State::may_become(*was, *is), "{was:?} became {is:?}");
                    }
                    before = now;
                }
            }
            if !sent {
                rig.send(1, &numbers).await;
            }
            // Reports that came before the message are applied behind the caller's back.
            let right = |states: &[State]| {
                states.iter().zip(&taken).all(|(state, statuses)| allowed(statuses).contains(state))
            };
            let mut states = rig.states(1).await;
            for _ in 0..200 {
                if right(&states) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
                states = rig.states(1).await;
            }
            assert!(right(&states), "{states:?} after {taken:?}");
        });
    }

    #[test]
    fn no_body_makes_it_panic_or_answer_but_with_a_status(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let status = runtime.block_on(async { Rig::start(SECRET).await.post_text(&body).await });
        prop_assert!(matches!(status, 200 | 400));
    }
}
