//! What the intake leaves in the audit: a record for each request of somebody who is known, few for a flood of others.

use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::rig::{NOW, Rig, SECRET, report, status};
use super::*;
use crate::audit::{self, Whom, subject_hash};
use crate::clock::ManualClock;
use crate::messaging::types::State;

const KEY: &str = "a-key-for-tests-0123456789abcdef";
const TO: &str = "+14255550123";
const OTHER: &str = "+14255550124";
const SENDER: &str = "+18005550100";
const JSON: (&str, &str) = ("content-type", "application/json");

/// An intake with an audit, and where that is.
struct Audited {
    rig: Rig,
    audit: Audit,
    folder: TempDir,
}

impl Audited {
    async fn start(fail_closed: bool) -> Self {
        let folder = TempDir::new().unwrap();
        std::fs::create_dir(folder.path().join("here")).unwrap();
        let file = folder.path().join("here/audit.log").to_string_lossy().into_owned();
        let settings = audit::Settings { fail_closed, ..audit::Settings::to_file(file, Secret::new(KEY)) };
        let audit = Audit::open(&settings, Arc::new(ManualClock::at(NOW)), Metrics::new()).unwrap();
        let rig = Rig::audited(Settings::at("", Secret::new(SECRET)), audit.clone()).await;
        Self { rig, audit, folder }
    }

    async fn ask(&self, line: &str, headers: &[(&str, &str)], body: &str) -> u16 {
        status(&self.rig.ask(line, headers, body.as_bytes()).await)
    }

    /// Ends the intake, then the audit; what stands in its file.
    async fn end(self) -> (Vec<Value>, String) {
        self.rig.stop.cancel();
        self.rig.served.await.unwrap();
        assert!(self.audit.stop(Duration::from_secs(20)).await);
        read(&self.folder.path().join("here/audit.log"))
    }
}

fn read(path: &Path) -> (Vec<Value>, String) {
    let text = std::fs::read_to_string(path).unwrap();
    (text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), text)
}

fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

/// How often strangers were refused for a reason, and how many records say so.
fn refused(records: &[Value], why: &str) -> (u64, usize) {
    let told: Vec<_> =
        of_kind(records, "refusals").into_iter().filter(|record| record["why"] == why).collect();
    assert!(told.iter().all(|one| one["rpc"] == "webhook/events" && one["decision"] == "refused"));
    (told.iter().map(|one| one["count"].as_u64().unwrap()).sum(), told.len())
}

#[tokio::test]
async fn a_request_that_is_taken_in_leaves_what_became_of_its_events_and_nothing_plain() {
    let audited = Audited::start(false).await;
    audited.rig.send(1, &[TO, OTHER]).await;
    let inbound = json!({"id": "in", "source": "s", "type": "Microsoft.Communication.SMSReceived",
        "specversion": "1.0", "time": "2026-11-22T12:30:15Z",
        "data": {"messageId": "Incoming_1", "from": TO, "to": SENDER, "message": "canary text"}});
    let chat = json!({"id": "chat", "source": "s", "type": "Microsoft.Communication.ChatThreadCreated",
        "specversion": "1.0", "time": "2026-11-22T12:30:15Z",
        "data": {"threadId": "19:canary@thread.v2", "createdByCommunicationIdentifier": {"rawId": "8:acs:canary"},
                 "properties": {"topic": "canary topic"}}});
    let unknown = json!({"id": "call", "source": "s", "type": "Microsoft.Communication.CallEnded", "specversion": "1.0"});
    let reports = [report("a", TO, "Delivered"), report("b", OTHER, "Failed"), report("a", TO, "Delivered")];
    let batch = json!([reports[0], reports[1], reports[2], inbound, chat, unknown]);
    assert_eq!(audited.rig.post(&batch).await, 200);
    assert_eq!(audited.rig.post(&json!([])).await, 200);

    let (records, text) = audited.end().await;
    let calls = of_kind(&records, "call");
    assert_eq!(calls.len(), 2, "{text}");
    let call = calls[0];
    assert_eq!(
        ["caller", "rpc", "decision", "code"].map(|key| call[key].as_str().unwrap()),
        ["webhook:secret", "webhook/events", "allowed", "200"]
    );
    let effects = json!({"sms_reports_taken": 2, "events_repeated": 1, "sms_received": 1, "chat_events_taken": 1,
        "events_ignored": 1});
    assert_eq!(call["effects"], effects);
    let names = |whom, value| {
        let hash = subject_hash(&Secret::new(KEY), whom, value).into();
        call["for"].as_array().unwrap().contains(&hash)
    };
    // Who wrote the inbound SMS is its sender.
    for (whom, value) in [
        (Whom::Recipient, TO),
        (Whom::Recipient, OTHER),
        (Whom::Sender, SENDER),
        (Whom::Sender, TO),
        (Whom::Recipient, SENDER),
        (Whom::Thread, "19:canary@thread.v2"),
        (Whom::Identity, "8:acs:canary"),
    ] {
        assert!(names(whom, value), "{whom:?} {value}");
    }
    assert_eq!(calls[1].get("effects"), None, "nothing became of nothing");
    assert_ne!(calls[0]["request_id"], calls[1]["request_id"]);
    for plain in ["canary", &TO[1..], &OTHER[1..], &SENDER[1..], SECRET, "Outgoing", "Incoming"] {
        assert!(!text.contains(plain), "{plain} is in {text}");
    }
}

#[tokio::test]
async fn who_is_known_and_refused_all_the_same_leaves_why() {
    let audited = Audited::start(true).await;
    let secret = ("x-acs-broker-webhook-secret", SECRET);
    let (plain, origin) = (("content-type", "text/plain"), ("webhook-request-origin", "eventgrid.azure.net"));
    assert_eq!(audited.ask("POST /events", &[secret, plain], "[]").await, 415);
    assert_eq!(audited.ask("POST /events", &[secret, JSON], "no json").await, 400);
    assert_eq!(audited.ask("POST /events", &[secret, JSON], &" ".repeat(MAX_BODY + 1)).await, 413);
    assert_eq!(audited.ask("OPTIONS /events", &[secret], "").await, 400);
    assert_eq!(audited.ask("OPTIONS /events", &[secret, origin], "").await, 200);
    let validation = json!([{"id": "v", "topic": "t", "subject": "", "eventTime": "2026-11-22T12:30:15Z",
        "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent", "dataVersion": "1",
        "data": {"validationCode": "CODE"}}]);
    assert_eq!(audited.rig.post(&validation).await, 200);
    let (records, text) = audited.end().await;
    let of = |key: &str| -> Vec<String> {
        let calls = of_kind(&records, "call").into_iter();
        calls.map(|call| call[key].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(of("why"), ["type", "malformed", "oversized", "malformed", "", ""], "{text}");
    assert_eq!(of("code"), ["415", "400", "413", "400", "200", "200"]);
    let refused = ["refused"; 4].into_iter().chain(["allowed"; 2]);
    assert_eq!(of("decision"), refused.collect::<Vec<_>>());
    assert_eq!(
        of_kind(&records, "decision").len(),
        2,
        "both handshakes were on disk before they were answered"
    );
}

#[tokio::test]
async fn a_flood_of_strangers_leaves_few_records_and_every_one_is_counted() {
    let audited = Audited::start(false).await;
    let wrong = ("x-acs-broker-webhook-secret", "known to others");
    for _ in 0..300 {
        assert_eq!(audited.ask("POST /events", &[JSON, wrong], "[]").await, 401);
    }
    for _ in 0..3 {
        assert_eq!(audited.ask("POST /events", &[JSON], "[]").await, 401);
        assert_eq!(audited.ask("POST /canary-path", &[JSON], "[]").await, 404);
    }
    assert_eq!(audited.ask("CANARY /events", &[JSON], "[]").await, 405);
    let (records, text) = audited.end().await;
    assert_eq!(refused(&records, "wrong_secret"), (300, 2), "the first at once, the rest at the end: {text}");
    assert_eq!(refused(&records, "no_proof"), (3, 2));
    assert_eq!(refused(&records, "path"), (3, 2));
    assert_eq!(refused(&records, "method"), (1, 1));
    assert!(of_kind(&records, "call").is_empty() && !text.to_lowercase().contains("canary"), "{text}");
}

#[tokio::test]
async fn with_fail_closed_an_event_takes_no_effect_before_it_is_on_record() {
    let audited = Audited::start(true).await;
    audited.rig.send(1, &[TO]).await;
    let (here, away) = (audited.folder.path().join("here"), audited.folder.path().join("away"));
    std::fs::rename(&here, &away).unwrap();
    let batch = json!([report("a", TO, "Delivered")]);
    assert_eq!(audited.rig.post(&batch).await, 503);
    assert_eq!(audited.rig.states(1).await, [State::Sent], "nothing of it counts");
    assert!(!audited.rig.metrics.render().contains("outcome=\"taken\""));
    std::fs::rename(&away, &here).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while audited.rig.post(&batch).await != 200 {
        assert!(std::time::Instant::now() < deadline, "it is not taken in again");
    }
    assert_eq!(audited.rig.states(1).await, [State::Delivered]);
    let (records, text) = audited.end().await;
    let (decisions, calls) = (of_kind(&records, "decision"), of_kind(&records, "call"));
    let taken = *calls.last().unwrap();
    assert_eq!(taken["effects"], json!({"sms_reports_taken": 1}), "{text}");
    let decided = decisions.iter().find(|one| one["request_id"] == taken["request_id"]).unwrap();
    assert!(decided["seq"].as_u64() < taken["seq"].as_u64());
    assert_eq!(decided["for"], taken["for"], "whom it is about was on disk first");
    assert!(
        calls.iter().any(|call| call["code"] == "503" && call["reason"] == "AUDIT_UNAVAILABLE"),
        "{text}"
    );
}

#[tokio::test]
async fn what_could_not_be_kept_is_on_record_as_that() {
    let audited = Audited::start(false).await;
    audited.rig.send(1, &[TO]).await;
    audited.rig.log_is_down.store(true, Ordering::SeqCst);
    assert_eq!(audited.rig.post(&json!([report("a", TO, "Delivered")])).await, 503);
    let (records, text) = audited.end().await;
    let call = of_kind(&records, "call")[0];
    assert_eq!((&call["decision"], &call["code"]), (&"allowed".into(), &"503".into()), "{text}");
    assert_eq!(
        (&call["reason"], &call["effects"]),
        (&"STORE_UNAVAILABLE".into(), &json!({"events_failed": 1}))
    );
}

#[tokio::test]
async fn whoever_hangs_up_halfway_leaves_a_record_too() {
    use tokio::io::AsyncWriteExt;
    let audited = Audited::start(false).await;
    let mut stream = tokio::net::TcpStream::connect(audited.rig.address).await.unwrap();
    let head = format!(
        "POST /events HTTP/1.1\r\nhost: a\r\nx-acs-broker-webhook-secret: {SECRET}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 100\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut go_on).await.unwrap();
    drop(stream);
    let (records, text) = audited.end().await;
    let calls = of_kind(&records, "call");
    assert_eq!(calls.len(), 1, "{text}");
    let code = calls[0]["code"].as_str().unwrap();
    assert!(code == "gone" || code == "400", "{text}");
}
