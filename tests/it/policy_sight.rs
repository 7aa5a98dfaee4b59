//! What a caller learns of others: nothing. Events, identities and names in chats are shown as far as the policy goes;
//! shadow mode shows everything and says so.

use std::sync::Arc;
use std::time::Duration;

use acs_broker::auth::Gate;
use acs_broker::auth::policy;
use acs_broker::auth::policy::Policy;
use acs_broker::auth::shadow::Shadow;
use acs_broker::clock::{Clock, SystemClock};
use acs_broker::grpc::proto::v1;
use acs_broker::messaging::types::{Failure, State};
use acs_broker::messaging::{Event, Happened};
use acs_broker::metrics::Metrics;
use acs_broker::reload::Reloadable;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;
use v1::get_identity_request::Key;

use crate::harness::messages::{NUMBER, new_id, sms};
use crate::harness::proof::{self, Proof, by};
use crate::harness::{Rig, Wish, chat};

const POLICY: &str = r#"
[[callers]]
name = "shop"
match = [{ mesh = "shop" }]
rpcs = ["*"]
scopes = ["chat"]
user_prefixes = ["shop:"]
sms_senders = ["+18005550100"]

[[callers]]
name = "crm"
match = [{ mesh = "crm" }]
rpcs = ["*"]
scopes = ["chat"]
user_prefixes = ["crm:"]
sms_senders = ["+18005550100"]

[[callers]]
name = "desk"
match = [{ mesh = "desk" }]
rpcs = ["*"]
user_prefixes = ["*"]
events = "all"
"#;

const SHOP: &str = "mesh=shop";
const CRM: &str = "mesh=crm";
const DESK: &str = "mesh=desk";

async fn rig(policy: Arc<Policy>) -> Rig {
    Rig::start(Wish { gate: proof::gate(policy), ..Wish::default() }).await
}

async fn watch(rig: &Rig, proof: &str) -> Streaming<v1::WatchEventsResponse> {
    rig.events().watch_events(by(proof, v1::WatchEventsRequest::default())).await.unwrap().into_inner()
}

async fn next(watch: &mut Streaming<v1::WatchEventsResponse>) -> Result<String, Status> {
    let event = tokio::time::timeout(Duration::from_secs(10), watch.message()).await.expect("an event")?;
    Ok(match event.expect("the stream goes on").event.unwrap() {
        v1::watch_events_response::Event::SmsDelivery(told) => told.message_id,
        v1::watch_events_response::Event::SmsReceived(told) => told.message_id,
        v1::watch_events_response::Event::Chat(told) => {
            let user = |party: Option<v1::ChatParty>| party.map(|party| party.user_id).unwrap_or_default();
            format!("{} {} {}", told.message_id, user(told.actor), user(told.subject))
        }
        _ => "of another kind".into(),
    })
}

fn event(id: &str, happened: Happened) -> Event {
    Event { id: id.into(), at: SystemClock.now(), message: None, caller: None, happened }
}

fn delivered(upstream_id: &str) -> Event {
    let detail = Failure { code: "Delivered".into(), detail: String::new() };
    let (to, from) = ("+14255550123".into(), NUMBER.into());
    let state = State::Delivered;
    let happened = Happened::SmsDelivery {
        upstream_id: upstream_id.into(),
        to,
        from,
        state,
        detail,
        tag: String::new(),
    };
    event(&format!("event-{upstream_id}"), happened)
}

fn received(id: &str, to: &str) -> Event {
    let (from, text) = ("+14255550123".into(), "hello".into());
    event(id, Happened::SmsReceived { upstream_id: id.into(), from, to: to.into(), text })
}

fn said(id: &str, actor: &str, subject: &str) -> Event {
    let [name, thread, topic] = ["ChatMessageReceived", "19:t@thread.v2", ""].map(str::to_owned);
    let (actor, subject, text) = (actor.to_owned(), subject.to_owned(), "hello".into());
    event(id, Happened::Chat { name, thread, message: id.into(), actor, subject, text, topic })
}

async fn sent(rig: &Rig, proof: &str) -> String {
    let wish = sms(&new_id(), vec!["+14255550123".into()], "hello");
    rig.sms().send_sms(by(proof, wish)).await.unwrap().into_inner().outcomes.remove(0).message_id
}

async fn identity(rig: &Rig, proof: &str, user: &str) -> String {
    rig.tokens().issue_token(by(proof, chat(user))).await.unwrap().into_inner().acs_user_id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_its_own_events_until_its_policy_changes() {
    let policy = proof::policy(POLICY);
    let rig = rig(policy.clone()).await;
    let (ours, theirs) = (sent(&rig, SHOP).await, sent(&rig, CRM).await);
    let (alice, bob) = (identity(&rig, SHOP, "shop:alice").await, identity(&rig, CRM, "crm:bob").await);
    let (mut shop, mut desk) = (watch(&rig, SHOP).await, watch(&rig, DESK).await);
    for event in [
        delivered(&theirs),
        delivered(&ours),
        delivered("nobody-sent-it"),
        received("other", "+18005550199"),
        received("in", NUMBER),
        said("foreign", &bob, &bob),
        said("joint", &bob, &alice),
    ] {
        rig.messaging.take_in(event).await.unwrap();
    }
    // Of a joint chat the shop sees its own user's name and not the other's.
    for seen in [ours.as_str(), "in", "joint  shop:alice"] {
        assert_eq!(next(&mut shop).await.unwrap(), seen);
    }
    let all = [
        theirs.as_str(),
        &ours,
        "nobody-sent-it",
        "other",
        "in",
        "foreign crm:bob crm:bob",
        "joint crm:bob shop:alice",
    ];
    for seen in all {
        assert_eq!(next(&mut desk).await.unwrap(), seen);
    }

    policy.reload(vec![POLICY.replace("\"shop:\"", "\"shop:\", \"kiosk:\"").into_bytes()]).unwrap();
    let ended = next(&mut shop).await.unwrap_err();
    assert_eq!(ended.get_error_details().error_info().unwrap().reason, "POLICY_CHANGED");
    rig.messaging.take_in(received("last", NUMBER)).await.unwrap();
    assert_eq!(next(&mut desk).await.unwrap(), "last", "whose rules are as they were goes on");
    let mut shop = watch(&rig, SHOP).await;
    rig.messaging.take_in(received("again", NUMBER)).await.unwrap();
    assert_eq!(next(&mut shop).await.unwrap(), "again");
}

/// A status without what differs from call to call.
fn told(status: &Status) -> String {
    let mut details = status.get_error_details();
    details.set_request_info("", "");
    let info = details.error_info().unwrap().clone();
    let metadata: std::collections::HashMap<_, _> =
        info.metadata.into_iter().filter(|(key, _)| key != "request_id").collect();
    details.set_error_info(info.reason, info.domain, metadata);
    format!("{:?} {} {details:?}", status.code(), status.message())
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_identity_looks_like_none() {
    let rig = rig(proof::policy(POLICY)).await;
    let (alice, bob) = (identity(&rig, SHOP, "shop:alice").await, identity(&rig, CRM, "crm:bob").await);
    let get = async |proof: &str, id: &str| {
        let key = Some(Key::AcsUserId(id.into()));
        rig.identities().get_identity(by(proof, v1::GetIdentityRequest { key })).await
    };
    let unknown = "8:acs:00000000-0000-4000-8000-000000000000_00000000-0000-0000-0000-000000000001";
    let (theirs, none) = (get(SHOP, &bob).await.unwrap_err(), get(SHOP, unknown).await.unwrap_err());
    assert_eq!(told(&theirs), told(&none));
    assert_eq!(theirs.code(), Code::NotFound);
    assert_eq!(get(SHOP, &alice).await.unwrap().into_inner().identity.unwrap().user_id, "shop:alice");
    assert_eq!(get(DESK, &bob).await.unwrap().into_inner().identity.unwrap().user_id, "crm:bob");
    // By the user's own id neither exists more than the other.
    let by_user = async |user: &str| {
        let key = Some(Key::UserId(user.into()));
        rig.identities().get_identity(by(SHOP, v1::GetIdentityRequest { key })).await.unwrap_err()
    };
    assert_eq!(told(&by_user("crm:bob").await), told(&by_user("crm:nobody").await));
}

#[tokio::test(flavor = "multi_thread")]
async fn others_in_a_chat_have_no_names_of_other_apps() {
    let rig = rig(proof::policy(POLICY)).await;
    identity(&rig, CRM, "crm:bob").await;
    let party = |user: &str| v1::ChatParticipant {
        party: Some(v1::ChatParty { user_id: user.into(), ..Default::default() }),
        ..Default::default()
    };
    let desk = POLICY.replace("name = \"desk\"", "name = \"desk\"\nservice_identity = true");
    let wish = v1::CreateChatThreadRequest {
        request_id: new_id(),
        topic: "t".into(),
        participants: vec![party("shop:alice"), party("crm:bob")],
        ..Default::default()
    };
    let refused = rig.chats().create_chat_thread(by(DESK, wish.clone())).await.unwrap_err();
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["permission"], "service_identity");
    drop(rig);

    let rig = self::rig(proof::policy(&desk)).await;
    let thread = rig.chats().create_chat_thread(by(DESK, wish)).await.unwrap().into_inner().thread.unwrap();
    let list = v1::ListChatParticipantsRequest {
        acting_user_id: "shop:alice".into(),
        thread_id: thread.thread_id,
        ..Default::default()
    };
    let listed = rig.chats().list_chat_participants(by(SHOP, list)).await.unwrap().into_inner();
    let mut names: Vec<_> = listed.participants.into_iter().map(|one| one.party.unwrap().user_id).collect();
    names.sort();
    assert_eq!(names, ["", "", "shop:alice"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn shadow_mode_lets_everything_in_and_counts_what_it_would_refuse() {
    let metrics = Metrics::new();
    let shadow = Shadow::new(false, Arc::new(SystemClock), metrics.clone());
    let file = policy::parse(POLICY.as_bytes()).unwrap();
    let policy =
        Policy::new(std::path::Path::new("p"), &file, Some(Arc::clone(&shadow)), Box::new(|_| Ok(())));
    let gate = Gate::new(vec![Arc::new(Proof)], policy).in_shadow(Arc::clone(&shadow));
    let rig = Rig::start(Wish { gate: Arc::new(gate), ..Wish::default() }).await;
    for user in ["shop:1", "shop:2", "shop:3", "crm:1"] {
        rig.tokens().issue_token(by(SHOP, chat(user))).await.unwrap();
    }
    rig.tokens().issue_token(chat("anybody")).await.unwrap();
    rig.tokens().issue_token(by("mesh=spiffe://corp/new", chat("shop:1"))).await.unwrap();
    let text = metrics.render();
    let issue = "acs_broker_shadow_refusals_total{rpc=\"TokenService/IssueToken\"";
    assert!(text.contains(&format!("{issue},permission=\"user\"}} 1")), "{text}");
    assert!(text.contains(&format!("{issue},permission=\"caller\"}} 2")), "{text}");
    let seen = shadow.policy();
    assert!(seen.contains("name = \"shop\"") && seen.contains("user_prefixes = [\"shop:\"]"), "{seen}");
    assert!(seen.contains("match = [{ mesh = \"spiffe://corp/new\" }]"), "{seen}");
    assert!(!seen.contains("crm:") && !seen.contains("anybody"), "{seen}");
}
