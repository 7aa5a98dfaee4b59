//! What the policy refuses, or would refuse in shadow mode, stands in the audit with the caller and whom it was about.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::audit::{Whom, subject_hash};
use acs_broker::auth::Gate;
use acs_broker::auth::policy::{self, Policy};
use acs_broker::auth::shadow::Shadow;
use acs_broker::clock::SystemClock;
use acs_broker::grpc::proto::v1;
use acs_broker::metrics::Metrics;
use acs_broker::secret::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::Request;

use crate::audit::{KEY, records, strict};
use crate::harness::messages::{NUMBER, mail, new_id, sms};
use crate::harness::proof::{self, Proof, by};
use crate::harness::{Rig, Wish, chat};

const POLICY: &str = r#"
[[callers]]
name = "shop"
match = [{ mesh = "shop" }]
rpcs = ["TokenService/*", "SmsService/SendSms", "EmailService/SendEmail", "IdentityService/ImportIdentities"]
scopes = ["chat"]
max_validity = "12h"
user_prefixes = ["shop:"]
quotas = { "TokenService/RevokeTokens" = "1/h" }
"#;

const SHOP: &str = "mesh=shop";
const TO: &str = "+14255550123";

/// The message as a request of that caller, under an id to find its record by.
fn call<T>(id: &str, caller: &str, message: T) -> Request<T> {
    let mut request = by(caller, message);
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

fn revoke() -> v1::RevokeTokensRequest {
    v1::RevokeTokensRequest { user_id: "shop:1".into(), request_id: new_id() }
}

/// Entries: user and number of the ACS identity, and whether it is only to be checked.
fn rows(
    rows: &[(&str, u32, bool)],
) -> impl tokio_stream::Stream<Item = v1::ImportIdentitiesRequest> + Send + 'static {
    let row = |(user, number, validate_only): &(&str, u32, bool)| {
        let acs_user_id =
            format!("8:acs:00000000-0000-4000-8000-000000000000_00000000-0000-0000-0000-{number:012}");
        let identity = v1::Identity { user_id: (*user).into(), acs_user_id, create_time: None };
        v1::ImportIdentitiesRequest { identity: Some(identity), validate_only: *validate_only }
    };
    tokio_stream::iter(rows.iter().map(row).collect::<Vec<_>>())
}

/// New ones, one that is there already, one of another app, two that contradict, one that is none, one to be checked.
fn mixed() -> impl tokio_stream::Stream<Item = v1::ImportIdentitiesRequest> + Send + 'static {
    rows(&[
        ("shop:7", 7, false),
        ("shop:8", 8, false),
        ("shop:7", 7, false),
        ("crm:9", 9, false),
        ("shop:7", 10, false),
        ("shop:11", 8, false),
        ("", 12, false),
        ("shop:13", 13, true),
    ])
}

/// Makes these calls under that gate; what their records say.
async fn recorded(gate: Arc<Gate>) -> impl Fn(&str) -> Value {
    let folder = TempDir::new().unwrap();
    let audit = strict(folder.path());
    let rig = Rig::start(Wish { audit: audit.clone(), gate, ..Wish::default() }).await;
    let _ = rig.tokens().issue_token(call("good", SHOP, chat("shop:1"))).await.unwrap();
    let _ = rig.tokens().issue_token(call("user", SHOP, chat("crm:1"))).await;
    let mut join = chat("shop:1");
    join.scopes = vec![3];
    let _ = rig.tokens().issue_token(call("scope", SHOP, join)).await;
    let text = v1::SendSmsRequest { from: NUMBER.into(), ..sms(&new_id(), vec![TO.into()], "t") };
    let _ = rig.sms().send_sms(call("sender", SHOP, text)).await;
    let text = sms(&new_id(), vec![TO.into()], "t");
    let _ = rig.sms().send_sms(call("default-sender", SHOP, text)).await;
    let letter = v1::SendEmailRequest { from: String::new(), ..mail(&new_id(), "a@b.example", "s") };
    let _ = rig.emails().send_email(call("default-mail-sender", SHOP, letter)).await;
    let list = v1::ListIdentitiesRequest::default();
    let _ = rig.identities().list_identities(call("rpc", SHOP, list)).await;
    rig.tokens().revoke_tokens(call("quota-1", SHOP, revoke())).await.unwrap();
    let _ = rig.tokens().revoke_tokens(call("quota-2", SHOP, revoke())).await;
    rig.identities().import_identities(call("row", SHOP, rows(&[("crm:1", 1, false)]))).await.unwrap();
    rig.identities().import_identities(call("rows", SHOP, mixed())).await.unwrap();
    for (id, hours) in [("validity", 13), ("validity-allowed", 12), ("validity-nonsense", 25)] {
        let validity = Some(prost_types::Duration { seconds: hours * 3600, nanos: 0 });
        let long = v1::IssueTokenRequest { validity, ..chat("shop:1") };
        let _ = rig.tokens().issue_token(call(id, SHOP, long)).await;
    }
    let _ = rig.tokens().issue_token(call("stranger", "mesh=other", chat("shop:1"))).await;
    drop(rig);
    assert!(audit.stop(Duration::from_secs(20)).await);
    let all = records(&folder.path().join("audit.log"));
    move |id: &str| {
        let mut calls = all.iter().filter(|one| one["kind"] == "call" && one["request_id"] == id);
        calls.next().unwrap_or_else(|| panic!("no record of {id}")).clone()
    }
}

fn names(record: &Value, whom: Whom, value: &str) -> bool {
    let hash = subject_hash(&Secret::new(KEY), whom, value).into();
    record["for"].as_array().is_some_and(|list| list.contains(&hash))
}

/// The caller, the decision and why.
fn judged(record: &Value) -> [&str; 3] {
    ["caller", "decision", "why"].map(|key| record[key].as_str().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_refuses_is_recorded_with_the_caller_and_whom_it_was_about() {
    let record = recorded(proof::gate(proof::policy(POLICY))).await;
    assert_eq!(judged(&record("good")), ["shop", "allowed", ""]);
    for id in ["user", "scope", "sender", "default-sender", "default-mail-sender", "rpc"] {
        assert_eq!(judged(&record(id)), ["shop", "refused", "PERMISSION_MISSING"], "{id}");
    }
    assert_eq!(judged(&record("quota-1")), ["shop", "allowed", ""]);
    assert_eq!(judged(&record("quota-2")), ["shop", "refused", "CALLER_QUOTA_EXCEEDED"]);
    assert_eq!(judged(&record("stranger")), ["", "refused", "CALLER_UNAUTHENTICATED"]);
    assert!(names(&record("user"), Whom::User, "crm:1"));
    for id in ["sender", "default-sender"] {
        assert!(names(&record(id), Whom::Sender, NUMBER) && names(&record(id), Whom::Recipient, TO), "{id}");
    }
    assert_eq!(record("rpc").get("for"), None, "nothing of the message was read");
    // To its caller it is a bad field, but it was the policy that refused it; what nobody may ask for was never judged.
    for (id, decision, why) in [("validity", "refused", "validity"), ("validity-nonsense", "none", "")] {
        assert_eq!(judged(&record(id))[1..], [decision, why], "{id}");
        assert_eq!(record(id)["reason"], "INVALID_FIELD", "{id}");
    }
    assert_eq!(judged(&record("validity-allowed")), ["shop", "allowed", ""]);
    let effects = json!({"identities_imported": 2, "identities_checked": 1, "identities_unchanged": 1,
        "identities_refused": 1, "identities_failed": 3});
    assert_eq!(record("rows")["effects"], effects);
    assert_eq!(record("row")["effects"], json!({"identities_refused": 1}));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_shadow_mode_the_record_says_what_would_be_refused() {
    let shadow = Shadow::new(false, Arc::new(SystemClock), Metrics::new());
    let file = policy::parse(POLICY.as_bytes()).unwrap();
    let policy = Policy::new(Path::new("p"), &file, Some(Arc::clone(&shadow)), Box::new(|_| Ok(())));
    let gate = Gate::new(vec![Arc::new(Proof)], policy).in_shadow(shadow);
    let record = recorded(Arc::new(gate)).await;
    assert_eq!(judged(&record("good")), ["shop", "allowed", ""]);
    let wanted = [
        ("user", "user"),
        ("scope", "scope"),
        ("sender", "sms_sender"),
        ("default-sender", "sms_sender"),
        ("default-mail-sender", "email_sender"),
        ("rpc", "rpc"),
        ("quota-2", "quota"),
        ("row", "user"),
        ("rows", "user"),
        ("validity", "validity"),
    ];
    for (id, why) in wanted {
        assert_eq!(judged(&record(id)), ["shop", "would_refuse", why], "{id}");
        assert_eq!(record(id)["code"], "OK", "{id}");
    }
    assert_eq!(judged(&record("stranger")), ["unauthenticated", "would_refuse", "caller"]);
    assert_eq!(judged(&record("validity-allowed")), ["shop", "allowed", ""]);
    let effects = json!({"identities_imported": 3, "identities_checked": 1, "identities_unchanged": 1,
        "identities_failed": 3});
    assert_eq!(record("rows")["effects"], effects);
}
