//! The policy file and what is made of it: form, problems, matches, tests, changes.

use tokio::time::Instant;

use super::*;
use crate::auth::{Authenticator, Claims, Credentials, Gate, Peer, Unidentified, Verdict};
use crate::broker::policy::{Missing, Need, Rpc};
use crate::broker::types::{Scope, ScopeSet, UserId};
use crate::clock::{ManualClock, Timestamp};
use crate::metrics::Metrics;

const EXAMPLE: &str = include_str!("../../../config/policy.example.toml");

/// A caller with nothing but a name and a match.
fn minimal(name: &str, more: &str) -> String {
    format!("[[callers]]\nname = \"{name}\"\nmatch = [{{ mesh = \"{name}\" }}]\n{more}\n")
}

fn problems(text: &str) -> Vec<String> {
    parse(text.as_bytes()).err().unwrap_or_default().iter().map(ToString::to_string).collect()
}

fn policy(text: &str) -> Arc<Policy> {
    let file = parse(text.as_bytes()).unwrap();
    Policy::new(Path::new("policy.toml"), &file, None, Box::new(|_| Ok(())))
}

fn mesh(policy: &Policy, name: &str) -> Option<Caller> {
    policy.caller(&Principal::Mesh(name.into()))
}

fn certificate(uris: &[&str], dns: &[&str]) -> Principal {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Principal::Certificate(Arc::new(Certificate { uris: owned(uris), dns: owned(dns) }))
}

fn subject(issuer: &str, subject: &str) -> Principal {
    let claims = Claims { issuer: issuer.into(), subject: subject.into(), all: serde_json::Map::new() };
    Principal::Token(Arc::new(claims))
}

#[test]
fn the_example_is_a_policy_and_its_tests_pass() {
    let file = parse(EXAMPLE.as_bytes()).unwrap();
    assert_eq!((file.callers.len(), file.issuers.len(), file.tests()), (4, 2, 3));
}

#[test]
fn a_principal_is_the_caller_that_lists_it_whole_and_nobody_else() {
    let policy = policy(EXAMPLE);
    let name = |principal: &Principal| policy.caller(principal).map(|caller| caller.name().to_owned());
    let orders = "spiffe://corp.example/ns/shop/sa/orders";
    let (sa, of) = ("system:serviceaccount:shop:orders", |name: &str| Some(name.to_owned()));
    for (principal, expected) in [
        (certificate(&[orders], &[]), of("orders")),
        (certificate(&["spiffe://other/x", orders], &["x.y"]), of("orders")),
        (certificate(&[], &["STOREFRONT.shop.svc"]), of("storefront")),
        (subject("cluster", sa), of("orders")),
        (Principal::Mesh("spiffe://corp.example/ns/mail/sa/marketing".into()), of("marketing")),
        (certificate(&[&orders[..orders.len() - 1]], &[]), None),
        (certificate(&[&format!("{orders}2")], &[]), None),
        (certificate(&[], &[]), None),
        (certificate(&[], &["x.storefront.shop.svc"]), None),
        (certificate(&["spiffe://corp.example/ns/mail/sa/marketing"], &[]), None),
        (certificate(&[], &[orders]), None),
        (subject("portal", sa), None),
        (subject("cluster", "system:serviceaccount:shop:order"), None),
        (Principal::Mesh(orders.into()), None),
        (Principal::Anybody, None),
    ] {
        assert_eq!(name(&principal), expected, "{principal:?}");
    }
}

#[test]
fn a_certificate_with_the_names_of_two_callers_is_nobodys() {
    let policy = policy(EXAMPLE);
    let both = certificate(&["spiffe://corp.example/ns/shop/sa/orders"], &["storefront.shop.svc"]);
    assert!(policy.caller(&both).is_none());
}

#[test]
fn every_problem_is_told_at_once_with_its_line_and_key_and_without_its_value() {
    let text = r#"
colour = "red"
[[issuers]]
issuer = "https://needle"
[[callers]]
name = "a b"
match = [{ spiffe = "http://needle" }, { dns = "*.needle" }, { issuer = "needle", subject = "s" }, { spiffe = "spiffe://a", dns = "b" }]
rpcs = ["TokenService/IssueTokens", 7]
scopes = ["needle"]
max_validity = "25h"
user_prefixes = ["", "a*b"]
sms_senders = ["*x*"]
user_prefix = ["needle"]
quotas = { "TokenService/*" = "fast", "NeedleService/*" = "1/s" }
events = "some"
user_token = "needle"
[[callers]]
name = "b"
[[callers]]
name = "unauthenticated"
match = [{ mesh = "m" }]
[[callers]]
name = "b"
match = [{ mesh = "m" }]
[[tests]]
caller = "nobody"
rpc = "x"
expect = "perhaps"
"#;
    let found = problems(text);
    for part in [
        "line 2: colour is not known here; known are issuers, callers, tests",
        "line 3: issuers[0].name is missing",
        "line 6: callers[0].name must be 1 to 64",
        "line 7: callers[0].match[0].spiffe must be a whole SPIFFE id",
        "line 7: callers[0].match[1].dns must be a whole DNS name",
        "line 7: callers[0].match[2].issuer must be the name of one of [[issuers]]",
        "line 7: callers[0].match[3] must be one of",
        "line 8: callers[0].rpcs[0] must be an RPC",
        "line 8: callers[0].rpcs[1] must be a text",
        "line 9: callers[0].scopes[0] must be one of chat",
        "line 10: callers[0].max_validity must be a duration from 1h to 24h",
        "line 11: callers[0].user_prefixes[0] must be the beginning",
        "line 11: callers[0].user_prefixes[1] must be the beginning",
        "line 12: callers[0].sms_senders[0] must be a sender",
        "line 13: callers[0].user_prefix is not known here",
        "line 14: callers[0].quotas.\"TokenService/*\" must be a rate",
        "line 14: callers[0].quotas.\"NeedleService/*\" must be an RPC",
        "line 15: callers[0].events must be \"own\" or \"all\"",
        "line 16: callers[0].user_token must be the name of one of [[issuers]]",
        "line 17: callers[1].match must say who this caller is",
        "line 20: callers[2].name is what callers are called who have proven nothing",
        "line 23: callers[3].name is the name of another caller already",
        "line 24: callers[3].match[0] is a match of \"unauthenticated\" already",
        "line 26: tests[0].caller must be the name",
        "line 27: tests[0].rpc must be an RPC",
        "line 28: tests[0].expect must be \"allow\" or \"deny\"",
    ] {
        assert!(found.iter().any(|problem| problem.contains(part)), "{part}\n{found:#?}");
    }
    assert_eq!(found.len(), 26, "{found:#?}");
    let told = found.join("\n");
    assert!(!told.contains("needle") && !told.contains("fast"), "{told}");
    assert_eq!(problems("[[callers]\n").len(), 1);
    assert!(problems("[[callers]\n")[0].starts_with("line 1: this is no TOML"));
    for none in
        ["# callers\n", "[[issuers]]\nname = \"a\"\nissuer = \"https://a.example\"\naudience = \"b\"\n"]
    {
        assert_eq!(problems(none), ["line 1: callers is missing; to let nobody in write callers = []"]);
    }
    assert_eq!(problems("callers = []"), [""; 0]);
    assert_eq!(parse(&[0xff]).unwrap_err()[0].to_string(), "the file is not UTF-8 text");
}

#[test]
fn what_is_wrong_with_an_issuer_is_told_like_all_else() {
    let issuer = |rest: &str| format!("callers = []\n[[issuers]]\nname = \"a\"\naudience = \"b\"\n{rest}\n");
    let good = "issuer = \"https://issuer.example\"";
    assert_eq!(problems(&issuer(good)), [""; 0]);
    for (rest, told) in [
        ("", "line 2: issuers[0].issuer is missing"),
        ("issuer = \"http://needle.example\"", "line 2: issuers[0].issuer must begin with https://"),
        ("issuer = 7", "line 2: issuers[0].issuer must be a string"),
        ("issuer = \"https://a.example\"\nneedles = 1", "line 2: issuers[0].needles is not known here"),
        (
            "issuer = \"https://a.example\"\nalgorithms = [\"needle\"]",
            "line 2: issuers[0].algorithms[0] must be one of",
        ),
        ("issuer = \"https://a.example\"\nleeway = \"1h\"", "line 2: issuers[0].leeway must be a duration"),
    ] {
        let found = problems(&issuer(rest));
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(told) && !found[0].contains("\"needle"), "{found:?}");
    }
    let twice = issuer(good) + issuer(good).trim_start_matches("callers = []\n");
    assert!(problems(&twice)[0].contains("line 6: issuers[1].issuer is that of another issuer"), "{twice}");
}

#[test]
fn what_costs_more_than_memory_is_bounded_and_the_first_too_many_is_named() {
    let issuers = |count: usize| -> String {
        let one = |number| {
            format!(
                "[[issuers]]\nname = \"i{number}\"\nissuer = \"https://{number}.example\"\naudience = \"b\"\n"
            )
        };
        "callers = []\n".to_owned() + &(0..count).map(one).collect::<String>()
    };
    let entries = |key: &str, entry: &str, count: usize| {
        minimal("a", &format!("{key} = [\n{}]", format!("{entry},\n").repeat(count)))
    };
    let tests = |count: usize| {
        let test = "[[tests]]\ncaller = \"a\"\nrpc = \"SmsService/GetSms\"\nexpect = \"deny\"\n";
        minimal("a", "") + &test.repeat(count)
    };
    let callers =
        |count: usize| -> String { (0..count).map(|number| minimal(&format!("a{number}"), "")).collect() };
    for (text, told) in [
        (issuers(32), ""),
        (issuers(33), "line 130: issuers[32] is one too many: there may be at most 32"),
        (issuers(5000), "line 130: issuers[32] is one too many: there may be at most 32"),
        (entries("user_prefixes", "\"p:\"", 1000), ""),
        (
            entries("user_prefixes", "\"p:\"", 1001),
            "line 1005: callers[0].user_prefixes[1000] is one too many",
        ),
        (entries("sms_senders", "\"*1\"", 1001), "line 1005: callers[0].sms_senders[1000] is one too many"),
        (
            entries("email_senders", "\"*@a.example\"", 1001),
            "line 1005: callers[0].email_senders[1000] is one too many",
        ),
        (entries("rpcs", "\"*\"", 1001), "line 1005: callers[0].rpcs[1000] is one too many"),
        (tests(1000), ""),
        (tests(1001), "line 4005: tests[1000] is one too many"),
        (callers(10_001), "line 40001: callers[10000] is one too many"),
    ] {
        let found = problems(&text);
        assert_eq!(found.len(), usize::from(!told.is_empty()), "{told}: {found:?}");
        assert!(found.iter().all(|problem| problem.starts_with(told)), "{told}: {found:?}");
    }
    let matches: String = (0..1001).map(|number| format!("{{ dns = \"d{number}\" }},\n")).collect();
    let found = problems(&format!("[[callers]]\nname = \"a\"\nmatch = [\n{matches}]\n"));
    assert_eq!(found, ["line 1004: callers[0].match[1000] is one too many: there may be at most 1000"]);
}

#[test]
fn a_file_of_nothing_but_depth_is_refused() {
    for text in ["[".repeat(500_000), "a.".repeat(500_000) + "a = 1", format!("a = {}", "[".repeat(500_000))]
    {
        assert!(!problems(&text).is_empty());
    }
    let deep = format!("[[callers]]\nname = \"a\"\nmatch = {}{}\n", "[".repeat(70), "]".repeat(70));
    assert!(!problems(&deep).is_empty());
}

#[test]
fn a_policy_whose_own_tests_fail_is_none() {
    let deny = EXAMPLE.replace("expect = \"allow\"", "expect = \"deny\"");
    assert_eq!(problems(&deny).len(), 1);
    assert!(problems(&deny)[0].contains("tests[0] fails: expected \"deny\", and it is allowed"));
    let other = EXAMPLE.replace("missing = \"user\"", "missing = \"scope:chat\"");
    assert!(
        problems(&other)[0].contains("tests[1] fails: expected another permission to be missing than user")
    );
    let tighter = EXAMPLE.replace("scopes = [\"chat\", \"voip.join\"]", "scopes = []");
    assert!(problems(&tighter)[0].contains("expected \"allow\", and scope:chat is missing"));
}

#[test]
fn an_explanation_names_the_entry_that_allows_or_the_permission_that_is_missing() {
    let file = parse(EXAMPLE.as_bytes()).unwrap();
    let mut case = Case {
        rpc: Rpc::SendSms,
        user: None,
        scopes: None,
        validity: None,
        sender: Some("+18005550100".into()),
    };
    let answers = |caller: &str, case: &Case| -> Result<Vec<Result<String, Missing>>, BadCase> {
        Ok(file.explain(caller, case)?.into_iter().map(|step| step.answer).collect())
    };
    let by = ["rpcs[2] = \"SmsService/*\"", "sms_senders[0] = \"+18005550100\""];
    assert_eq!(answers("orders", &case), Ok(by.iter().map(|by| Ok((*by).to_owned())).collect()));
    case.sender = Some("+1".into());
    assert_eq!(answers("orders", &case).unwrap().last(), Some(&Err(Missing::SmsSender)));
    assert_eq!(answers("marketing", &case), Ok(vec![Err(Missing::Rpc(Rpc::SendSms))]));
    assert_eq!(answers("nobody", &case), Err(BadCase::NoSuchCaller));
    case.rpc = Rpc::IssueToken;
    assert_eq!(answers("orders", &case), Err(BadCase::NoSender));
    let (user, scopes) = (UserId::parse("shop:1").ok(), ScopeSet::new([Scope::Chat]).ok());
    let case = Case { rpc: Rpc::IssueToken, user, scopes, validity: None, sender: None };
    let by = ["rpcs[0] = \"TokenService/IssueToken\"", "user_prefixes[0] = \"shop:\"", "scopes"];
    assert_eq!(answers("orders", &case), Ok(by.iter().map(|by| Ok((*by).to_owned())).collect()));
}

#[test]
fn what_a_call_of_the_rpc_does_not_name_cannot_be_asked_about() {
    let file = parse(minimal("a", "rpcs = [\"*\"]").as_bytes()).unwrap();
    let user = || UserId::parse("shop:1").ok();
    let plain = |rpc| Case { rpc, user: None, scopes: None, validity: None, sender: None };
    for rpc in Rpc::ALL.iter().copied() {
        assert!(file.explain("a", &plain(rpc)).is_ok(), "{rpc:?}");
        let named = !matches!(rpc.service(), "SmsService" | "EmailService" | "EventService")
            && rpc != Rpc::ListIdentities;
        let asked = file.explain("a", &Case { user: user(), ..plain(rpc) });
        assert_eq!(asked.is_ok(), named, "{rpc:?}");
        let scopes = ScopeSet::new([Scope::Chat]).ok();
        let asked = file.explain("a", &Case { scopes, ..plain(rpc) });
        assert_eq!(asked.is_ok(), matches!(rpc, Rpc::IssueToken | Rpc::RefreshToken), "{rpc:?}");
        let asked = file.explain("a", &Case { sender: Some("x".into()), ..plain(rpc) });
        let sends = matches!(rpc.service(), "SmsService" | "EmailService")
            && !matches!(rpc, Rpc::GetSms | Rpc::GetEmail);
        assert_eq!(asked.is_ok(), sends, "{rpc:?}");
    }
}

#[test]
fn an_explanation_tells_of_the_end_users_own_token() {
    let issuer = "[[issuers]]\nname = \"portal\"\nissuer = \"https://x\"\naudience = \"y\"\n";
    let rules = "rpcs = [\"*\"]\nuser_prefixes = [\"*\"]\nuser_token = \"portal\"";
    let file = parse(format!("{issuer}{}", minimal("a", rules)).as_bytes()).unwrap();
    let last = |rpc, user: Option<&str>| {
        let user = user.map(|user| UserId::parse(user).unwrap());
        let case = Case { rpc, user, scopes: None, validity: None, sender: None };
        file.explain("a", &case).unwrap().pop().unwrap().answer
    };
    assert!(last(Rpc::RevokeTokens, Some("shop:1")).unwrap().contains("user_token = \"portal\""));
    assert_eq!(last(Rpc::ListIdentities, None), Err(Missing::EndUser), "as the gate says");
}

#[test]
fn a_mail_sender_that_fits_domains_of_others_is_a_problem_at_the_start_and_on_reload() {
    let of = |senders: &str| minimal("a", &format!("email_senders = [{senders}]"));
    let good = of("\"a@b.example\", \"*@b.example\", \"*.b.example\", \"news@*\", \"*\"");
    assert_eq!(problems(&good), [""; 0]);
    let policy = policy(&good);
    for (bad, told) in [
        ("\"*needle.example\"", "fits every domain that ends alike"),
        ("\"a@needle*\"", "fits every domain that begins alike"),
        ("\"needle.example\"", "must be a whole address"),
    ] {
        let bad = of(&format!("\"*@b.example\", {bad}"));
        let found = problems(&bad);
        assert_eq!(found.len(), 1, "{found:?}");
        let place = "line 4: callers[0].email_senders[1] ";
        assert!(found[0].starts_with(place) && found[0].contains(told), "{found:?}");
        assert!(!found[0].contains("needle"), "{found:?}");
        let refused = policy.reload(vec![bad.into_bytes()]).unwrap_err();
        assert!(refused.contains(told), "{refused}");
    }
}

#[test]
fn a_bad_file_changes_nothing_and_a_good_one_everything() {
    let policy = policy(&minimal("a", "rpcs = [\"*\"]"));
    let before = mesh(&policy, "a").unwrap();
    for bad in [" \n", "callers = []", "x", &minimal("a", "rpcs = [\"nothing\"]"), &minimal("a", "[[tests]]")]
    {
        let taken = policy.reload(vec![bad.as_bytes().to_vec()]);
        let is_policy = bad.starts_with("callers");
        assert_eq!(taken.is_ok(), is_policy, "that nobody may do anything is one, if it is said");
        if is_policy {
            assert!(mesh(&policy, "a").is_none());
            policy.reload(vec![minimal("a", "rpcs = [\"*\"]").into_bytes()]).unwrap();
        }
        assert!(mesh(&policy, "a").unwrap().may(Rpc::IssueToken, Need::Rpc).is_ok());
    }
    assert!(before.permissions().replaced().is_cancelled(), "an empty policy came in between");
    policy.reload(vec![minimal("b", "").into_bytes()]).unwrap();
    assert!(mesh(&policy, "a").is_none());
    assert!(mesh(&policy, "b").unwrap().may(Rpc::IssueToken, Need::Rpc).is_err());
}

#[test]
fn only_callers_with_other_rules_are_told_to_ask_again() {
    let both = |of_a: &str| minimal("a", of_a) + &minimal("b", "rpcs = [\"*\"]");
    let policy = policy(&both("rpcs = [\"SmsService/*\"]"));
    let (a, b) = (mesh(&policy, "a").unwrap(), mesh(&policy, "b").unwrap());
    policy.reload(vec![both("rpcs = []").into_bytes()]).unwrap();
    assert!(a.permissions().replaced().is_cancelled());
    assert!(!b.permissions().replaced().is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn a_change_of_the_policy_fills_no_bucket_that_stays_as_it_was() {
    let with = |more: &str| minimal("a", &format!("rpcs = [\"*\"]\n{more}quotas = {{ \"*\" = \"1/d\" }}"));
    let policy = policy(&with(""));
    let count = || {
        let caller = mesh(&policy, "a").unwrap();
        caller.permissions().count(caller.name(), Rpc::GetSms, Instant::now()).is_ok()
    };
    assert_eq!((count(), count()), (true, false));
    policy.reload(vec![with("user_prefixes = [\"x\"]\n").into_bytes()]).unwrap();
    assert!(!count());
    policy.reload(vec![with("").replace("1/d", "2/d").into_bytes()]).unwrap();
    assert!(count(), "another rate is another bucket");
}

#[tokio::test(start_paused = true)]
async fn two_quotas_that_are_alike_have_a_bucket_each_also_after_a_change() {
    let quotas = "quotas = { \"EventService/*\" = \"2/d\", \"EventService/WatchEvents\" = \"2/d\" }";
    let with = |more: &str| minimal("a", &format!("rpcs = [\"*\"]\n{more}{quotas}"));
    let policy = policy(&with(""));
    policy.reload(vec![with("user_prefixes = [\"x\"]\n").into_bytes()]).unwrap();
    let caller = mesh(&policy, "a").unwrap();
    let count = || caller.permissions().count(caller.name(), Rpc::WatchEvents, Instant::now()).is_ok();
    assert_eq!((count(), count(), count()), (true, true, false));
}

#[test]
fn who_verifies_tokens_hears_of_a_policy_first_and_may_refuse_it() {
    let file = parse(minimal("a", "").as_bytes()).unwrap();
    let listener: Listener =
        Box::new(|file| if file.issuers.is_empty() { Ok(()) } else { Err("no such issuer".into()) });
    let policy = Policy::new(Path::new("p"), &file, None, listener);
    let issuer = "[[issuers]]\nname = \"i\"\nissuer = \"https://x\"\naudience = \"y\"\n";
    let with_issuer = format!("{issuer}{}", minimal("b", ""));
    assert_eq!(policy.reload(vec![with_issuer.into_bytes()]), Err("no such issuer".into()));
    assert!(mesh(&policy, "a").is_some() && mesh(&policy, "b").is_none());
}

/// Finds the same subject of the same issuer, as whoever verifies tokens knows issuers now, and notes which these were.
struct Verifies {
    issuers: Arc<AtomicU64>,
    proven_by: Arc<AtomicU64>,
}

#[async_trait::async_trait]
impl Authenticator for Verifies {
    async fn authenticate(&self, _: &Credentials<'_>) -> Verdict {
        self.proven_by.store(self.issuers.load(Ordering::SeqCst), Ordering::SeqCst);
        Verdict::Proven(subject("i", "s"))
    }
}

#[test]
fn nobody_is_proven_by_the_issuers_of_one_policy_and_let_in_by_the_callers_of_another() {
    let text = |caller: &str| {
        format!(
            "[[issuers]]\nname = \"i\"\nissuer = \"https://{caller}\"\naudience = \"y\"\n\
             [[callers]]\nname = \"{caller}\"\nmatch = [{{ issuer = \"i\", subject = \"s\" }}]\n"
        )
    };
    let (issuers, proven_by) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(9)));
    let (halfway, is_halfway) = std::sync::mpsc::channel();
    let (known, is_known) = std::sync::mpsc::channel::<()>();
    let (changed, is_known) = (Arc::clone(&issuers), std::sync::Mutex::new(is_known));
    let listener: Listener = Box::new(move |_| {
        changed.store(1, Ordering::SeqCst);
        halfway.send(()).unwrap();
        // Issuers have changed and callers have not. Whoever could be let in now would be within this time.
        let _ = is_known.lock().unwrap().recv_timeout(std::time::Duration::from_millis(300));
        Ok(())
    });
    let file = parse(text("zero").as_bytes()).unwrap();
    let policy = Policy::new(Path::new("p"), &file, None, listener);
    let verifies = Verifies { issuers, proven_by: Arc::clone(&proven_by) };
    let gate = Gate::new(vec![Arc::new(verifies)], Arc::clone(&policy) as _);
    std::thread::scope(|threads| {
        threads.spawn(|| policy.reload(vec![text("one").into_bytes()]).unwrap());
        is_halfway.recv().unwrap();
        let (peer, headers) = (Peer::default(), http::HeaderMap::new());
        let credentials = Credentials { peer: &peer, headers: &headers };
        let caller = futures_util::FutureExt::now_or_never(gate.identify(&credentials)).unwrap().unwrap();
        let _ = known.send(());
        assert_eq!((caller.name(), proven_by.load(Ordering::SeqCst)), ("one", 1));
    });
}

/// A policy that is another one each time.
struct Restless(AtomicU64);

impl Callers for Restless {
    fn caller(&self, _: &Principal) -> Option<Caller> {
        Some(Caller::new("a"))
    }

    fn edition(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

#[test]
fn a_policy_that_changes_without_end_holds_nobody_up_and_lets_nobody_in() {
    let chain = Verifies { issuers: Arc::default(), proven_by: Arc::default() };
    let gate = Gate::new(vec![Arc::new(chain)], Arc::new(Restless(AtomicU64::new(0))));
    let (peer, headers) = (Peer::default(), http::HeaderMap::new());
    let credentials = Credentials { peer: &peer, headers: &headers };
    let identified = futures_util::FutureExt::now_or_never(gate.identify(&credentials)).unwrap();
    assert!(matches!(identified, Err(Unidentified::Unclear(_))), "{identified:?}");
}

#[test]
fn in_shadow_mode_nothing_is_refused_to_whom_the_policy_lists() {
    let metrics = Metrics::new();
    let shadow = Shadow::new(false, Arc::new(ManualClock::at(Timestamp::from_millis(0))), metrics.clone());
    let file = parse(minimal("a", "").as_bytes()).unwrap();
    let policy = Policy::new(Path::new("p"), &file, Some(shadow), Box::new(|_| Ok(())));
    assert!(mesh(&policy, "a").unwrap().may(Rpc::SendSms, Need::Rpc).is_ok());
    let counted = "acs_broker_shadow_refusals_total{rpc=\"SmsService/SendSms\",permission=\"rpc\"} 1";
    assert!(metrics.render().contains(counted), "{}", metrics.render());
}
