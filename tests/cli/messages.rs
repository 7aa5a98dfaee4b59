//! The commands of SMS, mail and events against a running broker with its emulator.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{Dev, PATIENCE, Running, binary};

const UUID: &str = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";

/// Asks until the answer is as wished.
fn until(dev: &Dev, arguments: &[&str], wish: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = dev.json(arguments);
        if wish(&answer) {
            return answer;
        }
        assert!(Instant::now() < deadline, "it never came to that: {answer}");
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

/// Watches from now on, and ends after this many events.
fn watching(dev: &Dev, count: &str, arguments: &[&str]) -> Running {
    let mut command = binary();
    command.args(["event", "watch", "--json", "--count", count]).args(arguments);
    let mut watch = Running::start(command.env("ACS_BROKER_SERVER", dev.server()));
    watch.err.until("watching");
    watch
}

#[test]
fn an_sms_is_sent_once_delivered_and_told() {
    let dev = Dev::start(&[]);
    let mut watch = watching(&dev, "1", &["--kind", "sms_delivery"]);
    let send = ["sms", "send", "--to", "+14255550123", "--text", "hello", "--delivery-report", "--tag", "t"];
    let sent = dev.json(&[&send[..], &["--request-id", UUID]].concat());
    assert_eq!((&sent["request_id"], &sent["outcomes"][0]["state"]), (&UUID.into(), &"SENT".into()));
    let again = dev.json(&[&send[..], &["--request-id", UUID]].concat());
    assert_eq!(again["outcomes"][0]["message_id"], sent["outcomes"][0]["message_id"]);

    let id = sent["sms_id"].as_str().unwrap();
    let found = until(&dev, &["sms", "get", id], |found| found["outcomes"][0]["state"] == "DELIVERED");
    assert_eq!((&found["tag"], &found["sms_id"]), (&"t".into(), &sent["sms_id"]));
    let by_request = dev.json(&["sms", "get", "--request-id", UUID]);
    assert_eq!(by_request, found);
    assert!(watch.wait().success());
    let event: Value = serde_json::from_str(&watch.out.rest()).unwrap();
    assert_eq!((&event["kind"], &event["sms_id"]), (&"sms_delivery".into(), &sent["sms_id"]));
    assert_eq!((&event["state"], &event["to"]), (&"DELIVERED".into(), &"+14255550123".into()));

    let other = dev.ask(&[&send[..4], &["--text", "another", "--request-id", UUID]].concat());
    assert_eq!(other.code, Some(1), "{other:?}");
    assert!(other.err.contains("IDEMPOTENCY_KEY_REUSED"), "{}", other.err);
}

#[test]
fn who_resumes_with_a_cursor_gets_what_came_after_it() {
    let dev = Dev::start(&[]);
    let mut watch = watching(&dev, "2", &[]);
    for number in ["+14255550123", "+14255550124"] {
        dev.json(&["sms", "send", "--to", number, "--text", "hello", "--delivery-report"]);
    }
    assert!(watch.wait().success());
    let out = watch.out.rest();
    let events: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut resumed = watching(&dev, "1", &["--cursor", events[0]["cursor"].as_str().unwrap()]);
    assert!(resumed.wait().success());
    let event: Value = serde_json::from_str(&resumed.out.rest()).unwrap();
    assert_eq!(event, events[1]);
    let wrong = dev.ask(&["event", "watch", "--cursor", "nonsense"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("field    cursor"), "{}", wrong.err);
}

#[test]
fn a_mail_with_files_is_sent_and_waited_for() {
    let dev = Dev::start(&[]);
    let file = dev.dir.path().join("invoice.pdf");
    std::fs::write(&file, b"%PDF-1.7 an invoice").unwrap();
    let image = dev.dir.path().join("logo.png");
    std::fs::write(&image, b"\x89PNG\r\n\x1a\nan image").unwrap();
    let (file, image) = (file.to_str().unwrap(), image.to_str().unwrap());
    let inline = format!("logo={image}");
    let send = [
        "email",
        "send",
        "--to",
        "Alice <alice@example.com>",
        "--bcc",
        "bob@example.com",
        "--subject",
        "Your invoice",
        "--html",
        "<img src=\"cid:logo\">",
        "--text",
        "See the attachment.",
        "--attach",
        file,
        "--inline",
        &inline,
        "--header",
        "X-Priority: 1",
        "--request-id",
        UUID,
        "--wait",
    ];
    let sent = dev.json(&send);
    assert_eq!(sent["state"], "SENT", "{sent}");
    let to: Vec<_> =
        sent["outcomes"].as_array().unwrap().iter().map(|one| one["to"].as_str().unwrap()).collect();
    assert_eq!(to, ["alice@example.com", "bob@example.com"]);
    assert_eq!(dev.json(&send)["email_id"], sent["email_id"]);
    let id = sent["email_id"].as_str().unwrap();
    let all_there =
        |found: &Value| found["outcomes"].as_array().unwrap().iter().all(|one| one["state"] == "DELIVERED");
    until(&dev, &["email", "get", id], all_there);

    let lie = format!("{image}:application/pdf");
    let refused = dev.ask(&[
        "email",
        "send",
        "--to",
        "a@example.com",
        "--subject",
        "s",
        "--text",
        "t",
        "--attach",
        &lie,
    ]);
    assert!(refused.err.contains("field    attachments[0].content_type"), "{refused:?}");
    let missing = dev.ask(&[
        "email",
        "send",
        "--to",
        "a@example.com",
        "--subject",
        "s",
        "--text",
        "t",
        "--attach",
        "no/such",
    ]);
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.err.contains("cannot attach no/such"), "{}", missing.err);
}

#[test]
fn opt_outs_come_and_go() {
    let dev = Dev::start(&[]);
    let number = "+14255550125";
    let state =
        |dev: &Dev| dev.json(&["sms", "opt-out", "check", number])["opt_outs"][0]["opted_out"].clone();
    assert_eq!(state(&dev), false);
    assert_eq!(dev.ask(&["sms", "opt-out", "add", number]).out, "+14255550125\topted out\n");
    assert_eq!(state(&dev), true);
    dev.json(&["sms", "opt-out", "remove", number]);
    assert_eq!(state(&dev), false);
    let wrong = dev.ask(&["sms", "opt-out", "check", number, "0123"]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.err.contains("field    recipients[1]"), "{}", wrong.err);
}

#[test]
fn a_request_id_that_was_made_up_is_printed_for_the_next_try() {
    // Nobody listens there: the command cannot know whether it was heard.
    let finished = crate::process::finish(
        binary().args([
            "sms",
            "send",
            "--to",
            "+14255550123",
            "--text",
            "x",
            "--server",
            "http://127.0.0.1:1",
        ]),
        "",
    );
    assert_eq!(finished.code, Some(4), "{finished:?}");
    assert!(finished.err.contains("--request-id "), "{}", finished.err);
    let dev = Dev::start(&[]);
    let sent = dev.ask(&["sms", "send", "--to", "+14255550123,+14255550124", "--text", "x"]);
    assert!(sent.out.contains("request   ") && sent.out.contains("+14255550124  SENT"), "{sent:?}");
    let id = sent.out.lines().find_map(|line| line.strip_prefix("request   ")).unwrap();
    assert_eq!(dev.ask(&["sms", "get", "--request-id", id]).code, Some(0));
    assert_eq!(dev.ask(&["sms", "get", "--request-id", UUID]).code, Some(3));
}
