//! Key sets over a scripted source and a clock that stands still: when it is asked, who waits, what an outage does.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::auth::jwt::trial::{Signer, key_set};

/// What the source does next; the last step is repeated.
#[derive(Clone)]
enum Step {
    Keys(String, Option<Duration>),
    Fail,
    Impostor,
    Hang,
}

#[derive(Clone)]
struct Script {
    steps: Arc<Mutex<VecDeque<Step>>>,
    asked: Arc<AtomicUsize>,
}

#[async_trait]
impl Fetch for Script {
    async fn fetch(&self) -> Result<Fetched, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let step = {
            let mut steps = self.steps.lock().unwrap();
            if steps.len() > 1 { steps.pop_front().unwrap() } else { steps[0].clone() }
        };
        tokio::time::sleep(Duration::from_millis(100)).await;
        match step {
            Step::Keys(text, max_age) => Ok(Fetched { keys: Keys::read(text.as_bytes()).unwrap(), max_age }),
            Step::Fail => Err("away".into()),
            Step::Impostor => Err(Fault { what: "somebody else".into(), is_impostor: true }),
            Step::Hang => std::future::pending().await,
        }
    }
}

struct Rig {
    script: Script,
    keys: Arc<KeySet>,
    metrics: Metrics,
}

const RS256: Algorithm = Algorithm::RS256;

impl Rig {
    fn new(steps: impl IntoIterator<Item = Step>) -> Self {
        let script =
            Script { steps: Arc::new(Mutex::new(steps.into_iter().collect())), asked: Arc::default() };
        let metrics = Metrics::new();
        let fetch = Box::new(script.clone());
        let keys = KeySet::new("a".into(), fetch, false, Timing::default(), metrics.clone());
        Self { script, keys: Arc::new(keys), metrics }
    }

    fn asked(&self) -> usize {
        self.script.asked.load(Ordering::SeqCst)
    }

    fn next(&self, step: Step) {
        *self.script.steps.lock().unwrap() = VecDeque::from([step]);
    }

    async fn know(&self, kid: &str) -> Result<(), NoKey> {
        self.keys.with(Some(kid), RS256).await.map(|_| ())
    }

    fn failing(&self) -> bool {
        self.metrics.render().contains("acs_broker_jwks_failing 1")
    }

    fn lacking(&self) -> bool {
        self.metrics.render().contains("acs_broker_jwks_lacking 1")
    }
}

fn keys(kids: &[&str]) -> Step {
    let signers: Vec<Signer> = kids.iter().map(|kid| Signer::rsa(kid)).collect();
    Step::Keys(key_set(&signers.iter().collect::<Vec<_>>()), None)
}

async fn pass(time: Duration) {
    tokio::time::sleep(time).await;
}

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn the_first_calls_wait_for_one_fetch_and_later_ones_for_none() {
    let rig = Rig::new([keys(&["one"])]);
    let calls = (0..100).map(|_| rig.know("one"));
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|known| known.is_ok()));
    let before = Instant::now();
    assert_eq!(rig.know("one").await, Ok(()));
    assert_eq!((rig.asked(), before.elapsed()), (1, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
    let rig = Rig::new([keys(&["one"])]);
    assert_eq!(rig.know("one").await, Ok(()));
    let began = Instant::now();
    // A call every 50 ms with yet another key, for nine minutes; the keys are due only after that.
    let mut call = 0;
    while began.elapsed() < 9 * MINUTE {
        call += 1;
        assert_eq!(rig.know(&format!("no such {call}")).await, Err(NoKey::Unknown));
        pass(Duration::from_millis(50)).await;
        let minutes = usize::try_from(began.elapsed().as_secs() / 60).unwrap();
        assert!(rig.asked() <= 1 + minutes + 1, "{} after {minutes} minutes", rig.asked());
    }
    assert!(rig.asked() >= 9, "asked {} times", rig.asked());
    assert_eq!(rig.know("one").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_new_key_is_found_by_the_call_that_brings_it() {
    let rig = Rig::new([keys(&["one"])]);
    assert_eq!(rig.know("one").await, Ok(()));
    pass(MINUTE).await;
    rig.next(keys(&["one", "two"]));
    let calls = (0..100).map(|_| rig.know("two"));
    assert!(futures_util::future::join_all(calls).await.into_iter().all(|known| known.is_ok()));
    assert_eq!(rig.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_dropped_is_dropped_without_any_call() {
    let rig = Rig::new([keys(&["one", "two"])]);
    assert_eq!(rig.know("one").await, Ok(()));
    rig.next(keys(&["two"]));
    pass(Timing::default().usual_age + SECOND).await;
    assert!(!rig.keys.current().unwrap().know(Some("one"), RS256));
    assert_eq!(rig.know("two").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_did_not_change_stays_the_same_set() {
    let rig = Rig::new([keys(&["one"])]);
    rig.know("one").await.unwrap();
    let before = rig.keys.current().unwrap().id();
    pass(Timing::default().usual_age + SECOND).await;
    assert_eq!((rig.asked(), rig.keys.current().unwrap().id()), (2, before));
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_for_a_minute_at_least_and_a_day_at_most() {
    for (said, least, most) in [(0, MINUTE, MINUTE + SECOND), (u64::MAX, 21 * HOUR, 24 * HOUR + SECOND)] {
        let Step::Keys(text, _) = keys(&["one"]) else { unreachable!() };
        let rig = Rig::new([Step::Keys(text, Some(Duration::from_secs(said)))]);
        rig.know("one").await.unwrap();
        pass(least - SECOND).await;
        assert_eq!(rig.asked(), 1, "{said}");
        pass(most - least + 2 * SECOND).await;
        assert_eq!(rig.asked(), 2, "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_survived_for_a_day_and_told() {
    for trouble in [Step::Fail, Step::Hang] {
        let rig = Rig::new([keys(&["one"])]);
        rig.know("one").await.unwrap();
        assert!(!rig.failing());
        rig.next(trouble);
        pass(23 * HOUR).await;
        let before = Instant::now();
        assert_eq!((rig.know("one").await, before.elapsed()), (Ok(()), Duration::ZERO));
        assert!(rig.failing());
        // Tried again all the while, at most about once a minute.
        assert!((23 * 50..=23 * 125).contains(&rig.asked()), "{}", rig.asked());
        pass(2 * HOUR).await;
        assert_eq!(rig.know("one").await, Err(NoKey::Unavailable));
        rig.next(keys(&["one"]));
        pass(MINUTE + 10 * SECOND).await;
        assert_eq!((rig.know("one").await, rig.failing()), (Ok(()), false));
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_away_at_the_start_holds_a_call_up_for_a_bounded_time() {
    let rig = Rig::new([Step::Hang]);
    let before = Instant::now();
    assert_eq!(rig.know("one").await, Err(NoKey::NotYet));
    assert_eq!(before.elapsed(), Timing::default().wait);
    rig.next(keys(&["one"]));
    pass(15 * SECOND).await;
    assert_eq!(rig.know("one").await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn keys_that_could_never_be_fetched_are_another_thing_than_keys_that_nobody_has() {
    let rig = Rig::new([Step::Fail]);
    assert_eq!((rig.know("one").await, rig.keys.standing()), (Err(NoKey::NotYet), Standing::Lacking));
    assert!(rig.lacking());
    // Whoever asks, and however often: it stays the broker that lacks something.
    pass(HOUR).await;
    assert_eq!(rig.know("no such").await, Err(NoKey::NotYet));
    rig.next(keys(&["one"]));
    pass(MINUTE + 10 * SECOND).await;
    assert_eq!((rig.know("one").await, rig.keys.standing()), (Ok(()), Standing::Good));
    assert!(!rig.lacking());
    // From now on there is a good set, and a key that is not in it is nobody's, whatever else goes wrong.
    rig.next(Step::Fail);
    pass(HOUR).await;
    assert_eq!((rig.know("no such").await, rig.keys.standing()), (Err(NoKey::Unknown), Standing::Old));
    assert!(!rig.lacking() && rig.failing());
    pass(24 * HOUR).await;
    assert_eq!((rig.know("one").await, rig.keys.standing()), (Err(NoKey::Unavailable), Standing::Lacking));
    assert!(rig.lacking());
}

#[tokio::test(start_paused = true)]
async fn keys_of_somebody_who_is_not_the_issuer_are_none_that_are_still_to_come() {
    let rig = Rig::new([Step::Impostor, Step::Impostor, Step::Fail]);
    pass(SECOND).await;
    assert_eq!(rig.know("one").await, Err(NoKey::Unavailable));
    pass(10 * MINUTE).await;
    assert_eq!(rig.know("one").await, Err(NoKey::NotYet), "now nobody answers");
}

#[tokio::test(start_paused = true)]
async fn only_so_many_calls_wait() {
    let rig = Rig::new([Step::Hang]);
    let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| Box::pin(rig.know("one"))).collect();
    for call in &mut waiting {
        assert!(futures_util::poll!(call.as_mut()).is_pending());
    }
    let before = Instant::now();
    assert_eq!((rig.know("one").await, before.elapsed()), (Err(NoKey::NotYet), Duration::ZERO));
    drop(waiting);
    assert!(futures_util::poll!(Box::pin(rig.know("one"))).is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_dropped_asks_no_more_and_fails_no_more() {
    let Rig { script, keys, metrics } = Rig::new([Step::Fail]);
    pass(10 * SECOND).await;
    let asked = script.asked.load(Ordering::SeqCst);
    assert!(asked > 1 && metrics.render().contains("acs_broker_jwks_failing 1"));
    assert!(metrics.render().contains("acs_broker_jwks_lacking 1"));
    drop(keys);
    pass(HOUR).await;
    assert_eq!(script.asked.load(Ordering::SeqCst), asked);
    assert!(metrics.render().contains("acs_broker_jwks_failing 0"));
    assert!(metrics.render().contains("acs_broker_jwks_lacking 0"));
}

#[test]
fn keys_that_cannot_verify_are_passed_over_and_a_set_of_nothing_else_is_refused() {
    let good = Signer::p256("good").jwk();
    let with = |name: &str, value: serde_json::Value| {
        let mut key = good.clone();
        key[name] = value;
        key
    };
    let rsa = |n: usize| json!({"kty": "RSA", "kid": "good", "e": "AQAB", "n": crate::auth::jwt::trial::base64(vec![0xff; n])});
    for bad in [
        with("use", json!("enc")),
        with("use", json!(1)),
        with("key_ops", json!(["sign"])),
        with("key_ops", json!("verify")),
        with("alg", json!("HS256")),
        with("alg", json!("RS256")),
        with("alg", json!("none")),
        with("kid", json!(7)),
        with("kid", json!("k".repeat(257))),
        with("crv", json!("P-384")),
        with("crv", json!("P-521")),
        with("x", json!("AAAA")),
        with("x", json!(null)),
        with("kty", json!("oct")),
        json!({"kty": "oct", "kid": "good", "k": "c2VjcmV0"}),
        rsa(255),
        rsa(1025),
        json!("a key"),
        json!({}),
    ] {
        let alone = json!({"keys": [bad]}).to_string();
        assert_eq!(Keys::read(alone.as_bytes()).err(), Some(key::Unusable::NoneUsable), "{bad}");
        let beside = json!({"keys": [bad, good]}).to_string();
        assert_eq!(Keys::read(beside.as_bytes()).unwrap().len(), 1, "{bad}");
    }
    let twice = format!(r#"{{"keys":[],"keys":[{good}]}}"#);
    for bad in ["", "null", "[]", "{}", r#"{"keys":{}}"#, "<html>", &twice] {
        assert_eq!(Keys::read(bad.as_bytes()).err(), Some(key::Unusable::NotAKeySet), "{bad}");
    }
    let many = json!({"keys": vec![good; 101]}).to_string();
    assert_eq!(Keys::read(many.as_bytes()).err(), Some(key::Unusable::TooMany));
    assert!(Keys::read(json!({"keys": [rsa(256), rsa(1024)]}).to_string().as_bytes()).unwrap().len() == 2);
}

#[test]
fn without_a_key_id_only_a_key_without_rival_is_used() {
    let (one, other, point) = (Signer::rsa("one"), Signer::other_rsa("other"), Signer::p256("point"));
    let set = |signers: &[&Signer]| Keys::read(key_set(signers).as_bytes()).unwrap();
    assert!(set(&[&one, &point]).know(None, RS256));
    assert!(set(&[&one, &point]).know(None, Algorithm::ES256));
    assert!(!set(&[&one, &other]).know(None, RS256));
    assert!(!set(&[&one, &other]).know(None, Algorithm::ES256));
    assert!(set(&[&one, &other]).know(Some("other"), RS256));
    assert!(!set(&[&one, &other]).know(Some("other"), Algorithm::ES384));
    assert!(!set(&[&one]).know(Some("../one"), RS256));
}

proptest! {
    #[test]
    fn no_key_set_is_a_surprise(
        bytes in prop::collection::vec(any::<u8>(), 0..512),
        n in "[A-Za-z0-9_-]{0,400}",
        kind in "(RSA|EC|OKP|oct)",
        curve in "(P-256|P-384|Ed25519|x)",
    ) {
        let _ = Keys::read(&bytes);
        let key = json!({"kty": kind, "crv": curve, "n": n, "e": n, "x": n, "y": n, "kid": n});
        if let Ok(keys) = Keys::read(json!({"keys": [key]}).to_string().as_bytes()) {
            for algorithm in [Algorithm::RS256, Algorithm::PS512, Algorithm::ES256, Algorithm::ES384, Algorithm::EdDSA] {
                prop_assert!(!keys.have_signed(Some(&n), algorithm, &bytes, n.as_bytes()));
            }
        }
    }
}
