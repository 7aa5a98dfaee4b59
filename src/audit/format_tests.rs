//! What records look like from outside: ids that ACS's own logs have too, the longest line, and a file of an earlier build.

use serde_json::json;
use tempfile::TempDir;

use super::record::LONGEST_LINE;
use super::tests::*;
use super::trail::MOST_SUBJECTS;
use super::*;

/// A file as it was written before effects had the ids of messages, with what a crash left in its middle.
const EARLIER: &str = include_str!("format_1.log");

#[test]
fn a_file_of_an_earlier_build_verifies_and_is_continued() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("audit.log");
    std::fs::write(&path, EARLIER).unwrap();
    let report = verify(folder.path());
    assert_eq!((report.broken, report.records, report.stopped), (None, 9, true));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let audit = Audit::open(&settings(folder.path()), clock(), Metrics::new()).unwrap();
        audit.effect_on_messages("sms_sent", "ok", 1, &[(Whom::Recipient, "+14255550123")], &["id-1"]);
        stop(audit).await;
    });
    let lines = lines_of(&path);
    let [before, after] = [&lines[3], &lines[10]];
    assert_eq!((&before["for"][1], before.get("message_ids")), (&after["for"][0], None));
    assert_eq!((&after["effect"], &after["message_ids"]), (&"sms_sent".into(), &json!(["id-1"])));
    let report = verify(folder.path());
    assert_eq!((report.broken, report.records), (None, 12));
}

#[tokio::test]
async fn ids_of_messages_stand_in_records_as_they_are_and_nothing_else_with_them() {
    let folder = TempDir::new().unwrap();
    let audit = Audit::open(&settings(folder.path()), clock(), Metrics::new()).unwrap();
    audit.effect_on_messages("sms_sent", "ok", 2, &[], &["Outgoing_1-a_noam", "+14255550123"]);
    audit.effect("token_issued", "ok", 1, &[]);
    stop(audit).await;
    let lines = lines_of(&folder.path().join("audit.log"));
    // What cannot be an id keeps its place, so that the others keep theirs.
    assert_eq!(lines[2]["message_ids"], json!(["Outgoing_1-a_noam", ""]));
    assert_eq!(lines[3].get("message_ids"), None);
}

#[tokio::test]
async fn the_longest_records_are_not_longer_than_is_said() {
    let folder = TempDir::new().unwrap();
    let audit =
        Audit::open(&Settings { fail_closed: true, ..settings(folder.path()) }, clock(), Metrics::new());
    let audit = audit.unwrap();
    let many: Vec<_> = (0..2 * MOST_SUBJECTS).map(|number| number.to_string()).collect();
    let ids: Vec<_> = (0..200).map(|number| format!("{number:0>128}")).collect();
    let caller = "c".repeat(64);
    let trail = audit.trail("acsbroker.v1.ChatService/SendTypingNotification", &"r".repeat(128));
    trail.subjects(Whom::Recipient, &many).scopes(["chat.join.limited", "chat.join", "voip.join", "chat"]);
    for effect in ["identities_imported", "identities_checked", "identities_unchanged", "identities_refused"]
    {
        trail.effect(effect, usize::MAX);
    }
    trail.would_refuse("service_identity").degraded(true);
    trail.admitted(&caller).await.unwrap();
    let reason = Some("END_USER_TOKEN_INVALID");
    trail.ended(Some(&caller), None, Outcome { code: "INVALID_ARGUMENT", reason, took: Duration::MAX });
    // An SMS goes to 100, and 200 are added to a thread.
    let on: Vec<_> = many.iter().take(201).map(|value| (Whom::Recipient, value.as_str())).collect();
    let ids: Vec<_> = ids.iter().map(String::as_str).collect();
    audit.effect_on_messages("chat_participants_added", "OUTCOME_UNKNOWN", usize::MAX, &on, &ids);
    stop(audit).await;
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    let longest = text.lines().map(str::len).max().unwrap();
    assert!((LONGEST_LINE / 2..LONGEST_LINE).contains(&longest), "{longest} bytes");
}
