//! Permissions by themselves: default deny, the meaning of each list, quotas.

use super::*;

fn user(id: &str) -> UserId {
    UserId::parse(id).unwrap()
}

fn scopes(list: &[Scope]) -> ScopeSet {
    ScopeSet::new(list.iter().copied()).unwrap()
}

#[test]
fn permissions_made_from_nothing_allow_nothing() {
    let (rules, alice) = (Rules::default(), user("alice"));
    for &rpc in Rpc::ALL {
        assert_eq!(rules.allow(rpc, Need::Rpc), Err(Missing::Rpc(rpc)));
    }
    let needs = [
        (Need::User(&alice), Missing::User),
        (Need::EveryUser, Missing::EveryUser),
        (Need::Scopes(scopes(&[Scope::Chat])), Missing::Scope(Scope::Chat)),
        (Need::SmsSender("+18005550100"), Missing::SmsSender),
        (Need::EmailSender("a@b.example"), Missing::EmailSender),
        (Need::ServiceIdentity, Missing::ServiceIdentity),
        (Need::EveryEvent, Missing::EveryEvent),
    ];
    for (need, missing) in needs {
        assert_eq!(rules.allow(Rpc::IssueToken, need), Err(missing));
        assert_eq!(Rules::everything().allow(Rpc::IssueToken, need), Ok(()));
    }
}

#[test]
fn an_rpc_is_allowed_by_name_by_service_or_with_all() {
    let allows = |pattern: &str| RpcSet::of_pattern(pattern).map(|set| set.iter().collect::<Vec<_>>());
    assert_eq!(allows("TokenService/IssueToken"), Some(vec![Rpc::IssueToken]));
    assert_eq!(allows("EmailService/*"), Some(vec![Rpc::SendEmail, Rpc::GetEmail]));
    assert_eq!(allows("*").unwrap().len(), Rpc::ALL.len());
    for wrong in
        ["", "/", "/*", "TokenService", "TokenService/", "TokenService/Issue*", "Token*", "NoService/*"]
    {
        assert_eq!(allows(wrong), None, "{wrong:?}");
    }
    for &rpc in Rpc::ALL {
        assert_eq!(Rpc::named(rpc.name()), Some(rpc));
    }
}

#[test]
fn users_are_told_by_the_beginning_of_their_id_as_it_is_written() {
    let rules = Rules { users: Patterns::beginnings(["shop:", "Ä"]), ..Rules::default() };
    for (id, allowed) in [
        ("shop:1", true),
        ("shop:", true),
        ("Shop:1", false),
        ("shop", false),
        ("xshop:1", false),
        ("Äa", true),
    ] {
        assert_eq!(rules.allow(Rpc::IssueToken, Need::User(&user(id))).is_ok(), allowed, "{id}");
    }
    assert_eq!(rules.allow(Rpc::ListIdentities, Need::EveryUser), Err(Missing::EveryUser));
}

#[test]
fn senders_are_told_whole_by_beginning_or_by_end() {
    let sms_senders = Patterns::senders(["+1425*", "Contoso"]);
    let email_senders = Patterns::senders(["*@Shop.example", "a@b.example"]);
    let rules = Rules { sms_senders, email_senders, ..Rules::default() };
    for (sender, allowed) in
        [("+14255550100", true), ("+1424", false), ("CONTOSO", true), ("contoso2", false)]
    {
        assert_eq!(rules.allow(Rpc::SendSms, Need::SmsSender(sender)).is_ok(), allowed, "{sender}");
    }
    for (sender, allowed) in [
        ("x@SHOP.example", true),
        ("x@notshop.example", false),
        ("x@shop.example.evil.example", false),
        ("\"x@shop.example\"@evil.example", false),
        ("A@b.example", true),
        ("aa@b.example", false),
    ] {
        assert_eq!(rules.allow(Rpc::SendEmail, Need::EmailSender(sender)).is_ok(), allowed, "{sender}");
    }
}

#[test]
fn every_scope_asked_for_must_be_allowed_by_itself() {
    let rules = Rules { scopes: Some(scopes(&[Scope::Chat, Scope::VoipJoin])), ..Rules::default() };
    let ask = |list: &[Scope]| rules.allow(Rpc::IssueToken, Need::Scopes(scopes(list)));
    assert_eq!(ask(&[Scope::Chat, Scope::VoipJoin]), Ok(()));
    assert_eq!(ask(&[Scope::Chat, Scope::Voip]), Err(Missing::Scope(Scope::Voip)));
    assert_eq!(ask(&[Scope::ChatJoin]), Err(Missing::Scope(Scope::ChatJoin)), "less is not included in more");
}

#[test]
fn a_missing_permission_is_named_without_a_value() {
    let names = [
        (Missing::Rpc(Rpc::SendSms), "rpc:SmsService/SendSms"),
        (Missing::Scope(Scope::Voip), "scope:voip"),
        (Missing::User, "user"),
        (Missing::SmsSender, "sms_sender"),
    ];
    for (missing, name) in names {
        assert_eq!(missing.to_string(), name);
    }
}

#[test]
fn rates_are_so_many_per_unit() {
    for good in ["1/s", "100/s", "1000000/d", "60/m", "7/h"] {
        assert!(good.parse::<Rate>().is_ok(), "{good}");
    }
    for bad in ["", "1", "/s", "0/s", "1000001/s", "1/w", "+1/s", "1 / s", "1.5/s", "-1/s", "1/S"] {
        assert_eq!(bad.parse::<Rate>(), Err(BadRate), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bucket_gives_its_rate_at_once_and_then_evenly() {
    let quota = Quota::new(RpcSet::ALL, "10/s".parse().unwrap());
    let taken = |quota: &Quota| (0..100).take_while(|_| quota.take(Instant::now()).is_ok()).count();
    assert_eq!(taken(&quota), 10);
    let wait = quota.take(Instant::now()).unwrap_err();
    assert_eq!(wait, Duration::from_millis(100));
    tokio::time::advance(wait).await;
    assert_eq!(taken(&quota), 1);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(taken(&quota.clone()), 10, "never more than one period's worth");
    assert_eq!(taken(&quota), 0, "clones share a bucket");
}

#[tokio::test(start_paused = true)]
async fn a_quota_counts_only_the_rpcs_it_names() {
    let quota = Quota::new(RpcSet::of_pattern("SmsService/SendSms").unwrap(), "1/h".parse().unwrap());
    let permissions = Permissions::new(Rules::everything(), vec![quota]);
    let count = |rpc| permissions.count("shop", rpc, Instant::now());
    assert_eq!((count(Rpc::SendSms), count(Rpc::GetSms), count(Rpc::GetSms)), (Ok(true), Ok(true), Ok(true)));
    assert_eq!(count(Rpc::SendSms), Err(Duration::from_secs(3600)));
}

#[tokio::test(start_paused = true)]
async fn every_quota_that_covers_an_rpc_counts() {
    let quota = |rpcs, rate: &str| Quota::new(RpcSet::of_pattern(rpcs).unwrap(), rate.parse().unwrap());
    for quotas in [["*", "SmsService/SendSms"], ["SmsService/SendSms", "*"]] {
        let rates = quotas.map(|rpcs| quota(rpcs, if rpcs == "*" { "9/h" } else { "1/h" }));
        let permissions = Permissions::new(Rules::everything(), rates.into());
        let count = || permissions.count("shop", Rpc::SendSms, Instant::now()).is_ok();
        assert_eq!((count(), count()), (true, false), "{quotas:?}");
    }
}
