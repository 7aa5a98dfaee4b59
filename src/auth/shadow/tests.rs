//! Shadow mode by itself: who is let in, what is counted, what is remembered and what never is.

use super::*;
use crate::auth::Certificate;
use crate::broker::types::{Scope, ScopeSet, UserId, Validity};
use crate::clock::ManualClock;

fn shadow() -> (Arc<Shadow>, Metrics) {
    let metrics = Metrics::new();
    (Shadow::new(false, Arc::new(ManualClock::at(Timestamp::from_millis(0))), metrics.clone()), metrics)
}

fn peer(address: &str) -> Peer {
    Peer { address: address.parse().ok(), certificate: None }
}

#[test]
fn a_stranger_is_let_in_from_where_unauthenticated_callers_are() {
    let (shadow, metrics) = shadow();
    let why = Unidentified::NotClaimed;
    assert_eq!(shadow.stranger(&peer("10.0.0.1:1"), None, why), Err(why));
    let stranger = shadow.stranger(&peer("127.0.0.1:1"), None, why).unwrap();
    assert_eq!(stranger.name(), UNAUTHENTICATED);
    stranger.may(Rpc::SendSms, Need::Rpc).unwrap();
    stranger.may(Rpc::SendSms, Need::SmsSender("+18005550100")).unwrap();
    assert!(stranger.permissions().may_know(&UserId::parse("anybody").unwrap()));
    let counted = "acs_broker_shadow_refusals_total{rpc=\"SmsService/SendSms\",permission=\"caller\"} 1";
    assert!(metrics.render().contains(counted), "counted once, for being a stranger");
}

#[test]
fn what_was_used_is_told_as_a_policy_that_allows_just_that() {
    let (shadow, _) = shadow();
    for user in ["shop:1", "shop:2", "shop:3", "alice:home"] {
        let user = UserId::parse(user).unwrap();
        shadow.needed("orders", Rpc::IssueToken, Need::Rpc, None);
        shadow.needed("orders", Rpc::IssueToken, Need::User(&user), Some(Missing::User));
    }
    let scopes = ScopeSet::new([Scope::Voip, Scope::Chat]).unwrap();
    shadow.needed("orders", Rpc::IssueToken, Need::Scopes(scopes), None);
    shadow.needed("orders", Rpc::IssueToken, Need::Validity(Validity::MIN), None);
    shadow.needed("orders", Rpc::SendSms, Need::SmsSender("+18005550100"), None);
    let told = shadow.policy();
    for line in [
        "name = \"orders\"",
        "rpcs = [\"TokenService/IssueToken\"]",
        "scopes = [\"chat\", \"voip\"]",
        "max_validity = \"1h\"",
        "user_prefixes = [\"shop:\"]",
        "sms_senders = [\"+18005550100\"]",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    assert!(!told.contains("alice"), "what one user alone has may be a name: {told}");
    // With a match it is a policy.
    let completed = told.replace("match = []", "match = [{ mesh = \"m\" }]");
    assert!(crate::auth::policy::parse(completed.as_bytes()).is_ok(), "{completed}");
}

#[test]
fn ids_without_a_common_beginning_need_all_users_and_are_never_told() {
    let (shadow, _) = shadow();
    for user in ["alice@example.com", "bob"] {
        shadow.needed("crm", Rpc::GetIdentity, Need::User(&UserId::parse(user).unwrap()), None);
    }
    let told = shadow.policy();
    assert!(told.contains("user_prefixes = [\"*\"]") && !told.contains("alice") && !told.contains("bob"));
}

#[test]
fn a_stranger_is_described_by_what_a_match_would_say_and_a_person_not_at_all() {
    let (shadow, _) = shadow();
    let certificate =
        Certificate { uris: vec!["spiffe://corp/sa/new\"".into()], dns: vec!["new.svc".into()] };
    let claims = |subject: &str| crate::auth::Claims {
        issuer: "portal".into(),
        subject: subject.into(),
        all: serde_json::Map::new(),
    };
    for principal in [
        Principal::Certificate(Arc::new(certificate)),
        Principal::Token(Arc::new(claims("system:serviceaccount:shop:new"))),
        Principal::Token(Arc::new(claims("alice@example.com"))),
    ] {
        let why = Unidentified::NotListed;
        let stranger = shadow.stranger(&peer("[::1]:1"), Some(&principal), why).unwrap();
        stranger.may(Rpc::GetSms, Need::Rpc).unwrap();
    }
    let unproven = shadow.stranger(&peer("[::1]:1"), None, Unidentified::NotClaimed).unwrap();
    unproven.may(Rpc::SendSms, Need::Rpc).unwrap();
    let told = shadow.policy();
    assert!(told.contains("name = \"\"  # a stranger: what would prove who it is?\nmatch = []\n"), "{told}");
    assert!(!told.contains("as it is in the policy"), "no policy lists any of these: {told}");
    assert!(told.contains("match = [{ spiffe = 'spiffe://corp/sa/new\"' }]"), "{told}");
    assert!(told.contains("{ issuer = \"portal\", subject = \"system:serviceaccount:shop:new\" }"), "{told}");
    assert!(!told.contains("alice"), "{told}");
}

#[test]
fn what_a_caller_writes_as_its_sender_opens_nothing_in_the_policy_that_is_made_of_it() {
    let (shadow, _) = shadow();
    for sender in ["*", "", "+1*", "*1", " x", "+18005550100"] {
        shadow.needed("one", Rpc::SendSms, Need::SmsSender(sender), Some(Missing::SmsSender));
    }
    for sender in ["*", "", "*@shop.example", "a@*", "no address", "a@shop.example"] {
        shadow.needed("one", Rpc::SendEmail, Need::EmailSender(sender), Some(Missing::EmailSender));
    }
    let told = shadow.policy();
    assert!(told.contains("\nsms_senders = [\"+18005550100\"]\n"), "{told}");
    assert!(told.contains("\nemail_senders = [\"a@shop.example\"]\n"), "{told}");
    assert!(told.contains("# Senders that no policy can name"), "{told}");
}

#[test]
fn what_is_remembered_is_bounded() {
    let (shadow, _) = shadow();
    for number in 0..5000 {
        let caller = format!("caller-{number}");
        let user = UserId::parse(&format!("p{number}:x")).unwrap();
        shadow.needed(&caller, Rpc::GetIdentity, Need::User(&user), Some(Missing::User));
        shadow.needed("one", Rpc::GetIdentity, Need::User(&user), None);
        shadow.needed("one", Rpc::SendSms, Need::SmsSender(&format!("+1425555{number}")), None);
    }
    // A sender is whatever stands in a request.
    shadow.needed(
        "two",
        Rpc::SendEmail,
        Need::EmailSender(&"x".repeat(4_000_000)),
        Some(Missing::EmailSender),
    );
    shadow.needed("two", Rpc::SendSms, Need::SmsSender(&"x".repeat(321)), Some(Missing::SmsSender));
    let notes = shadow.notes.lock().unwrap();
    assert_eq!(notes.seen.len(), MAX_CALLERS + 1);
    assert!(notes.logged.len() <= MAX_LOGGED);
    drop(notes);
    assert!(shadow.policy().len() < 200_000);
}

#[test]
fn the_same_refusal_is_logged_once_a_minute() {
    let clock = Arc::new(ManualClock::at(Timestamp::from_millis(0)));
    let shadow = Shadow::new(false, Arc::clone(&clock) as Arc<dyn Clock>, Metrics::new());
    let logged_at = || {
        shadow.needed("shop", Rpc::SendSms, Need::Rpc, Some(Missing::Rpc(Rpc::SendSms)));
        let notes = shadow.notes.lock().unwrap();
        assert_eq!(notes.logged.len(), 1);
        notes.logged.values().next().unwrap().as_millis()
    };
    assert_eq!(logged_at(), 0);
    clock.advance(LOG_EVERY - Duration::from_millis(1));
    assert_eq!(logged_at(), 0);
    clock.advance(Duration::from_millis(1));
    assert_eq!(logged_at(), 60_000);
}
