//! Permits by themselves: validity, end users, what a watcher sees. That every call passes one is tested on the server.

use std::sync::Arc;

use async_trait::async_trait;
use http::HeaderMap;

use super::*;
use crate::auth::{Claims, EndUsers, Peer, USER_TOKEN};
use crate::broker::policy::{EndUserRule, Patterns, Permissions, Rules};
use crate::broker::types::Scope;
use crate::clock::Timestamp;

/// A token is who it names.
struct Portal;

#[async_trait]
impl EndUsers for Portal {
    async fn verify(&self, issuer: &str, token: &str) -> Result<Arc<Claims>, Unproven> {
        if issuer != "portal" || token.starts_with("bad") {
            return Err(Unproven::Bad("bad"));
        }
        if token.starts_with("unclear") {
            return Err(Unproven::Unclear("no keys"));
        }
        let mut all = serde_json::Map::new();
        all.insert("uid".into(), token.into());
        all.insert("number".into(), 7.into());
        Ok(Arc::new(Claims { issuer: issuer.into(), subject: "other".into(), all }))
    }
}

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn chat() -> ScopeSet {
    ScopeSet::new([Scope::Chat]).unwrap()
}

fn permit(rules: Rules, rpc: Rpc) -> Permit {
    let permissions = Arc::new(Permissions::new(rules, Vec::new()));
    Permit { caller: Caller::allowed("shop", permissions), rpc, trail: Trail::default(), end_user: None }
}

fn ruled(claim: &str) -> Rules {
    let end_user = Some(EndUserRule { issuer: "portal".into(), claim: claim.into() });
    Rules { end_user, ..Rules::everything() }
}

async fn with_tokens(rules: Rules, tokens: &[&str]) -> Permit {
    let permissions = Arc::new(Permissions::new(rules, Vec::new()));
    let caller = Caller::allowed("shop", permissions);
    let mut headers = HeaderMap::new();
    for token in tokens {
        headers.append(USER_TOKEN, token.parse().unwrap());
    }
    let peer = Peer::default();
    let credentials = Credentials { peer: &peer, headers: &headers };
    let gate = Gate::shut().with_end_users(Arc::new(Portal));
    Permit::enter(&gate, &credentials, &caller, Rpc::IssueToken, None).await.unwrap()
}

fn reason(result: Result<&Caller, Error>) -> String {
    match result {
        Ok(_) => "allowed".into(),
        Err(Error::PermissionMissing { permission }) => permission.to_string(),
        Err(other) => other.reason().into(),
    }
}

#[test]
fn more_validity_than_allowed_is_a_violation_and_the_default_is_cut() {
    let hours = |hours: u64| Validity::from_minutes(hours * 60).unwrap();
    let permit = permit(Rules { max_validity: hours(12), ..Rules::everything() }, Rpc::IssueToken);
    let ask = |mut validity, default| {
        let answer = reason(permit.token(&user("a"), chat(), &mut validity, default));
        (answer, validity)
    };
    assert_eq!(ask(Some(hours(12)), hours(24)), ("allowed".into(), Some(hours(12))));
    assert_eq!(ask(Some(hours(13)), hours(24)).0, "INVALID_FIELD");
    assert_eq!(ask(None, hours(24)), ("allowed".into(), Some(hours(12))));
    assert_eq!(ask(None, hours(6)), ("allowed".into(), None), "the default stays what it is");
    let violation = permit.token(&user("a"), chat(), &mut Some(hours(13)), hours(24)).unwrap_err();
    assert!(violation.to_string().contains("validity must be at most 12h"), "{violation}");
}

#[tokio::test]
async fn where_the_policy_asks_for_it_the_end_users_own_token_must_name_the_user() {
    for (tokens, answer) in [
        (&["alice"][..], "allowed"),
        (&["bob"], "user_token"),
        (&[], "user_token"),
        (&["bad"], "user_token"),
        (&["alice", "alice"], "user_token"),
    ] {
        let permit = with_tokens(ruled("uid"), tokens).await;
        let alice = user("alice");
        assert_eq!(reason(permit.user(&alice)), answer, "{tokens:?}");
        assert_eq!(reason(permit.chat(Some(&alice), [&user("bob")])), answer, "{tokens:?}");
        assert_eq!(permit.found(&alice).is_ok(), answer == "allowed", "{tokens:?}");
        assert_eq!(reason(permit.every_user()), "user_token");
        assert_eq!(reason(permit.chat(None, [])), "user_token");
    }
    // Whose keys are missing is not the caller's fault; and it tells nothing of who exists.
    let permit = with_tokens(ruled("uid"), &["unclear"]).await;
    assert_eq!(reason(permit.user(&user("alice"))), "ISSUER_UNAVAILABLE");
    assert!(matches!(permit.found(&user("alice")), Err(Error::IdentityNotFound)));
    assert_eq!(reason(permit.every_user()), "user_token", "no token would do");
    for claim in ["sub", "number", "none"] {
        let permit = with_tokens(ruled(claim), &["alice"]).await;
        assert_eq!(reason(permit.user(&user("alice"))), "user_token", "{claim}");
    }
    let no_rule = with_tokens(Rules::everything(), &["bad"]).await;
    assert_eq!(reason(no_rule.user(&user("alice"))), "allowed", "nobody asked for one");
}

#[test]
fn acting_as_the_broker_is_a_permission_of_its_own() {
    let rules = Rules { service_identity: false, ..Rules::everything() };
    let permit = permit(rules, Rpc::GetChatThread);
    assert_eq!(reason(permit.chat(None, [])), "service_identity");
    assert_eq!(reason(permit.chat(Some(&user("alice")), [])), "allowed");
}

#[test]
fn everybody_a_chat_is_about_must_be_one_the_caller_may_name() {
    let rules = Rules { users: Patterns::beginnings(["shop:"]), ..Rules::everything() };
    let permit = permit(rules, Rpc::AddChatParticipants);
    let (ours, theirs) = (user("shop:1"), user("crm:1"));
    assert_eq!(reason(permit.chat(Some(&ours), [&ours])), "allowed");
    assert_eq!(reason(permit.chat(Some(&ours), [&ours, &theirs])), "user");
    assert_eq!(reason(permit.chat(Some(&theirs), [&ours])), "user");
    assert_eq!(reason(permit.chat(None, [&theirs])), "user");
}

#[test]
fn a_watcher_sees_its_own_unless_it_may_see_all() {
    let event = |caller: Option<&str>, happened| Event {
        id: "e".into(),
        at: Timestamp::from_millis(0),
        message: None,
        caller: caller.map(str::to_owned),
        happened,
    };
    let engagement = || Happened::EmailEngagement {
        upstream_id: String::new(),
        address: String::new(),
        engagement: String::new(),
        link: String::new(),
    };
    let inbound = |to: &str| Happened::SmsReceived {
        upstream_id: String::new(),
        from: String::new(),
        to: to.into(),
        text: String::new(),
    };
    let own =
        Rules { every_event: false, sms_senders: Patterns::senders(["+18005550100"]), ..Rules::everything() };
    let (own, all) =
        (permit(own, Rpc::WatchEvents).events(), permit(Rules::everything(), Rpc::WatchEvents).events());
    for (event, seen) in [
        (event(Some("shop"), engagement()), true),
        (event(Some("crm"), engagement()), false),
        (event(None, engagement()), false),
        (event(None, inbound("+18005550100")), true),
        (event(None, inbound("+18005550101")), false),
    ] {
        assert_eq!(own.includes(&event), seen);
        assert!(all.includes(&event));
    }
}

#[tokio::test]
async fn a_watcher_who_must_bring_an_end_users_token_sees_the_chats_of_that_user_alone() {
    let inbound = Event {
        id: "e".into(),
        at: Timestamp::from_millis(0),
        message: None,
        caller: None,
        happened: Happened::SmsReceived {
            upstream_id: String::new(),
            from: String::new(),
            to: "+18005550100".into(),
            text: String::new(),
        },
    };
    // Whatever else it may do: it sees nothing for being allowed to see all.
    let rules = || Rules { sms_senders: Patterns::default(), ..ruled("uid") };
    for (tokens, alice) in [(&["alice"][..], true), (&["bob"], false), (&["bad"], false), (&[], false)] {
        let sight = with_tokens(rules(), tokens).await.events();
        assert_eq!(sight.includes_user("alice"), alice, "{tokens:?}");
        assert!(!sight.includes_user("") && !sight.includes(&inbound), "{tokens:?}");
    }
    let free = with_tokens(Rules::everything(), &[]).await.events();
    assert!(free.includes_user("alice") && free.includes(&inbound), "nobody asked for one");
}
