//! Tokens from issuers whose keys are in a file: which are good, which are refused and why, and what is remembered.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::trial::{Signer, base64, key_set, unsigned_with};
use super::*;
use crate::auth::Peer;
use crate::clock::{ManualClock, Timestamp};

const NOW: u64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

struct Rig {
    folder: TempDir,
    clock: Arc<ManualClock>,
    metrics: Metrics,
    verifier: Verifier,
}

fn every_algorithm() -> Vec<Algorithm> {
    use Algorithm::*;
    vec![RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA]
}

impl Rig {
    /// A broker that trusts one issuer with these keys, for every algorithm.
    fn new(keys: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(NOW * 1000)));
        let metrics = Metrics::new();
        let verifier = Verifier::new(Vec::new(), clock.clone(), metrics.clone());
        let rig = Self { folder, clock, metrics, verifier };
        rig.keys("keys", keys);
        rig.verifier.replace(vec![rig.issuer()]);
        rig
    }

    fn issuer(&self) -> Issuer {
        let jwks_file = self.path("keys").display().to_string();
        Issuer { jwks_file, algorithms: every_algorithm(), ..Issuer::new("cluster", ISSUER, "acs-broker") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn keys(&self, name: &str, keys: &str) {
        std::fs::write(self.path(name), keys).unwrap();
    }

    async fn judge(&self, token: &str) -> Result<Arc<Claims>, Refusal> {
        self.verifier.identify(token).await
    }

    async fn with_headers(&self, headers: &HeaderMap) -> Verdict {
        let peer = Peer::default();
        self.verifier.authenticate(&Credentials { peer: &peer, headers }).await
    }

    fn counted(&self, outcome: &str) -> u64 {
        let line = format!("acs_broker_bearer_tokens_total{{outcome=\"{outcome}\"}} ");
        let text = self.metrics.render();
        text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }
}

fn claims() -> Value {
    json!({"iss": ISSUER, "aud": ["acs-broker"], "sub": "system:serviceaccount:shop:orders", "exp": NOW + 600,
        "iat": NOW - 10, "nbf": NOW - 10, "kubernetes.io": {"namespace": "shop"}})
}

fn but(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

#[tokio::test]
async fn a_token_of_every_algorithm_is_good_with_its_own_key_and_no_other() {
    let (rsa, p256, p384) = (Signer::rsa("rsa"), Signer::p256("p256"), Signer::p384("p384"));
    let ed25519 = Signer::ed25519("ed25519");
    let signers = [&rsa, &p256, &p384, &ed25519];
    let rig = Rig::new(&key_set(&signers));
    let pairs = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"].map(|name| (name, &rsa));
    for (name, signer) in pairs.into_iter().chain([
        ("ES256", &p256),
        ("ES384", &p384),
        ("EdDSA", &ed25519),
        ("Ed25519", &ed25519),
    ]) {
        let token = signer.sign(name, &claims());
        let said = rig.judge(&token).await.unwrap();
        assert_eq!((&*said.issuer, said.subject.as_str()), ("cluster", "system:serviceaccount:shop:orders"));
        assert_eq!(said.all["kubernetes.io"]["namespace"], "shop");
        // The same signature under the id of every other key, and under every other algorithm of the same key.
        for other in signers.iter().filter(|other| other.kid != signer.kid) {
            let header = json!({"alg": name, "kid": other.kid});
            let token = signer.sign_headed(name, &header, &claims());
            assert!(rig.judge(&token).await.is_err(), "{name} as {}", other.kid);
        }
        for (other, _) in pairs.into_iter().filter(|(other, _)| *other != name) {
            let token = signer.sign_headed(name, &json!({"alg": other, "kid": signer.kid}), &claims());
            assert!(rig.judge(&token).await.is_err(), "{name} as {other}");
        }
    }
}

/// Signed by others: RFC 7515 appendix A.3, RFC 8037 appendix A.4, and OpenSSL.
#[test]
fn signatures_that_others_made_are_verified() {
    let keys = json!({"keys": [
        {"kty": "EC", "crv": "P-256", "kid": "7515",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
        {"kty": "OKP", "crv": "Ed25519", "kid": "8037", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},
        Signer::other_rsa("b").jwk(),
    ]});
    let keys = crate::auth::jwks::key::Keys::read(keys.to_string().as_bytes()).unwrap();
    let openssl = include_str!("../../../tests/fixtures/jwt/openssl.txt");
    let rfc = [
        ("7515 ES256 eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
        ("8037 EdDSA eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"),
    ];
    let vectors: Vec<&str> = rfc.into_iter().chain(openssl.lines()).collect();
    assert_eq!(vectors.len(), 7);
    for vector in vectors {
        let [kid, algorithm, token] = vector.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let signature = base64::Engine::decode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, signature).unwrap();
        let algorithm = Algorithm::named(algorithm).unwrap();
        assert!(keys.have_signed(Some(kid), algorithm, message.as_bytes(), &signature), "{vector}");
        let other = format!("{message}x");
        assert!(!keys.have_signed(Some(kid), algorithm, other.as_bytes(), &signature), "{vector}");
    }
}

#[tokio::test]
async fn claims_must_be_there_and_right() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    assert!(rig.judge(&signer.sign("ES256", &claims())).await.is_ok());
    for (claims, refusal) in [
        (without("iss"), Refusal::Claims),
        (but("iss", json!([ISSUER])), Refusal::Claims),
        (but("iss", json!("https://issuer.example/")), Refusal::Issuer),
        (but("iss", json!("https://ISSUER.example")), Refusal::Issuer),
        (but("iss", json!("")), Refusal::Issuer),
        (without("aud"), Refusal::Claims),
        (but("aud", json!("acs-broker ")), Refusal::Audience),
        (but("aud", json!("ACS-broker")), Refusal::Audience),
        (but("aud", json!([])), Refusal::Audience),
        (but("aud", json!(["other"])), Refusal::Audience),
        (but("aud", json!(["acs-broker", 1])), Refusal::Claims),
        (but("aud", json!({"acs-broker": true})), Refusal::Claims),
        (without("sub"), Refusal::Claims),
        (but("sub", json!("")), Refusal::Claims),
        (but("sub", json!(7)), Refusal::Claims),
        (but("sub", json!("s".repeat(1025))), Refusal::Claims),
        (without("exp"), Refusal::Claims),
        (but("exp", json!("1800000600")), Refusal::Claims),
        (but("exp", json!(null)), Refusal::Claims),
        (but("exp", json!(-1)), Refusal::Claims),
        (but("exp", json!(NOW - 30)), Refusal::Expired),
        (but("exp", json!(NOW as f64 - 30.5)), Refusal::Expired),
        (but("nbf", json!(NOW + 31)), Refusal::NotYet),
        (but("nbf", json!("now")), Refusal::Claims),
        (but("iat", json!(NOW + 31)), Refusal::NotYet),
        (but("iat", json!(u64::MAX)), Refusal::NotYet),
        (but("iat", json!([])), Refusal::Claims),
    ] {
        assert_eq!(rig.judge(&signer.sign("ES256", &claims)).await, Err(refusal), "{claims}");
    }
    for claims in [
        but("aud", json!("acs-broker")),
        but("aud", json!(["other", "acs-broker"])),
        but("exp", json!(NOW - 29)),
        but("exp", json!(NOW as f64 + 0.5)),
        but("exp", json!(u64::MAX)),
        but("exp", json!(1e15)),
        but("nbf", json!(NOW + 30)),
        but("iat", json!(NOW + 30)),
        without("nbf"),
        without("iat"),
    ] {
        assert!(rig.judge(&signer.sign("ES256", &claims)).await.is_ok(), "{claims}");
    }
}

#[tokio::test]
async fn headers_that_ask_for_more_are_refused() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    let with = |name: &str, value: Value| {
        let mut header = json!({"alg": "ES256", "kid": "k"});
        header[name] = value;
        header
    };
    for (header, refusal) in [
        (with("crit", json!(["exp"])), Refusal::Header),
        (with("crit", json!([])), Refusal::Header),
        (with("b64", json!(true)), Refusal::Header),
        (with("zip", json!("DEF")), Refusal::Header),
        (with("enc", json!("A128GCM")), Refusal::Header),
        (with("cty", json!("JWT")), Refusal::Header),
        (with("typ", json!("dpop+jwt")), Refusal::Header),
        (with("typ", json!("logout+jwt")), Refusal::Header),
        (with("typ", json!(1)), Refusal::Header),
        (with("kid", json!(1)), Refusal::Header),
        (with("kid", json!("k".repeat(257))), Refusal::Header),
        (with("kid", json!("../k")), Refusal::UnknownKey),
        (with("kid", json!("")), Refusal::UnknownKey),
        (with("alg", json!("none")), Refusal::Algorithm),
        (with("alg", json!("None")), Refusal::Algorithm),
        (with("alg", json!("HS256")), Refusal::Algorithm),
        (with("alg", json!("es256")), Refusal::Algorithm),
        (with("alg", json!("")), Refusal::Algorithm),
        (with("alg", json!(null)), Refusal::Malformed),
        (with("alg", json!(["ES256"])), Refusal::Malformed),
        (json!({"kid": "k"}), Refusal::Malformed),
    ] {
        let token = signer.sign_headed("ES256", &header, &claims());
        assert_eq!(rig.judge(&token).await, Err(refusal), "{header}");
    }
    let attacker = Signer::p256("k");
    for header in
        [with("jwk", attacker.jwk()), with("jku", json!("http://127.0.0.1:1/")), with("x5c", json!([]))]
    {
        let token = attacker.sign_headed("ES256", &header, &claims());
        assert_eq!(rig.judge(&token).await, Err(Refusal::Signature), "{header}");
        assert!(rig.judge(&signer.sign_headed("ES256", &header, &claims())).await.is_ok(), "{header}");
    }
    for kind in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
        let token = signer.sign_headed("ES256", &with("typ", json!(kind)), &claims());
        assert!(rig.judge(&token).await.is_ok(), "{kind}");
    }
}

#[tokio::test]
async fn what_is_no_token_is_refused() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    let good = signer.sign("ES256", &claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, body) = message.split_once('.').unwrap();
    let claims = claims().to_string();
    for (token, refusal) in [
        (String::new(), Refusal::Malformed),
        ("..".into(), Refusal::Malformed),
        ("...".into(), Refusal::Malformed),
        (message.into(), Refusal::Malformed),
        (format!("{good}."), Refusal::Malformed),
        (format!("{good}.{signature}"), Refusal::Malformed),
        (format!("{header}.{body}.{signature}="), Refusal::Malformed),
        (format!("{header}.{body}.{}+/", &signature[2..]), Refusal::Malformed),
        (format!("{header}.{body}."), Refusal::Signature),
        (format!("{header}.{body}.{}", base64([0; 64])), Refusal::Signature),
        (format!("{header}.{body}.{}", base64([0; 63])), Refusal::Signature),
        (format!("{header}.{body}.{}", base64([0xff; 64])), Refusal::Signature),
        (
            signer.sign_text("ES256", r#"{"alg":"ES256","kid":"k","alg":"ES256"}"#, &claims),
            Refusal::Malformed,
        ),
        (
            signer.sign_text(
                "ES256",
                r#"{"alg":"ES256","kid":"k"}"#,
                &claims.replacen('{', "{\"sub\":\"a\",", 1),
            ),
            Refusal::Malformed,
        ),
        (
            signer.sign_text(
                "ES256",
                r#"{"alg":"ES256","kid":"k"}"#,
                &claims.replacen('{', "{\"x\":{\"y\":1,\"y\":1},", 1),
            ),
            Refusal::Malformed,
        ),
        (
            signer.sign_text("ES256", r#"{"alg":"ES256","kid":"k"}"#, &format!("{claims}{claims}")),
            Refusal::Malformed,
        ),
        (signer.sign_text("ES256", r#"{"alg":"ES256","kid":"k"}"#, &good), Refusal::Malformed),
        (signer.sign_text("ES256", r#"{"alg":"ES256","kid":"k"}"#, "\"text\""), Refusal::Malformed),
        (signer.sign_text("ES256", "[]", &claims), Refusal::Malformed),
        (signer.sign("ES256", &but("pad", json!("x".repeat(8192)))), Refusal::TooLong),
        ("a".repeat(8193), Refusal::TooLong),
        ("ä".repeat(10), Refusal::Malformed),
    ] {
        assert_eq!(rig.judge(&token).await, Err(refusal), "{token}");
    }
    assert!(rig.judge(&good).await.is_ok());
}

#[tokio::test]
async fn only_the_issuers_own_algorithms_count() {
    let (rsa, p256) = (Signer::rsa("rsa"), Signer::p256("p256"));
    let rig = Rig::new(&key_set(&[&rsa, &p256]));
    rig.verifier.replace(vec![Issuer { algorithms: vec![Algorithm::ES256], ..rig.issuer() }]);
    assert_eq!(rig.judge(&rsa.sign("RS256", &claims())).await, Err(Refusal::Algorithm));
    assert!(rig.judge(&p256.sign("ES256", &claims())).await.is_ok());
}

#[tokio::test]
async fn a_token_known_already_is_judged_by_time_issuer_and_keys_again() {
    let (one, two) = (Signer::p256("one"), Signer::p256("two"));
    let rig = Rig::new(&key_set(&[&one]));
    let token = one.sign("ES256", &claims());
    let first = rig.judge(&token).await.unwrap();
    let again = rig.judge(&token).await.unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    assert_eq!((rig.counted("verified"), rig.counted("known")), (1, 1));

    // Time, in both directions.
    rig.clock.advance(Duration::from_secs(630));
    assert_eq!(rig.judge(&token).await, Err(Refusal::Expired));
    rig.clock.set(Timestamp::from_millis((NOW - 100) * 1000));
    assert_eq!(rig.judge(&token).await, Err(Refusal::NotYet));
    rig.clock.set(Timestamp::from_millis(NOW * 1000));

    // An issuer of another name is another one, though all else is the same.
    rig.verifier.replace(vec![Issuer { name: "other".into(), ..rig.issuer() }]);
    assert_eq!(&*rig.judge(&token).await.unwrap().issuer, "other");
    rig.verifier.replace(Vec::new());
    assert_eq!(rig.judge(&token).await, Err(Refusal::Issuer));
    rig.verifier.replace(vec![rig.issuer()]);
    assert!(rig.judge(&token).await.is_ok());

    // The key is gone: so is every token that it signed.
    rig.keys("keys", &key_set(&[&two]));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while rig.judge(&token).await != Err(Refusal::UnknownKey) {
        assert!(tokio::time::Instant::now() < deadline, "the key is still trusted");
        tokio::task::yield_now().await;
    }
    assert!(rig.judge(&two.sign("ES256", &claims())).await.is_ok());
}

#[tokio::test]
async fn a_token_counts_for_the_issuer_that_was_asked_for_only() {
    let (cluster, portal) = (Signer::p256("a"), Signer::p256("b"));
    let rig = Rig::new(&key_set(&[&cluster]));
    rig.keys("portal", &key_set(&[&portal]));
    let file = rig.path("portal").display().to_string();
    let second = Issuer { jwks_file: file, ..Issuer::new("portal", "https://portal.example", "shop") };
    rig.verifier.replace(vec![rig.issuer(), second]);
    let of_cluster = cluster.sign("ES256", &claims());
    let of_portal = portal.sign(
        "ES256",
        &json!({"iss": "https://portal.example", "aud": "shop", "sub": "user", "exp": NOW + 60}),
    );
    assert_eq!(rig.verifier.verify("portal", &of_portal).await.unwrap().subject, "user");
    for _ in 0..2 {
        // Also once it is known as one of the cluster.
        assert!(rig.verifier.verify("cluster", &of_cluster).await.is_ok());
        assert_eq!(
            rig.verifier.verify("portal", &of_cluster).await,
            Err(Unproven::Bad(Refusal::Issuer.text()))
        );
        assert_eq!(
            rig.verifier.verify("no such", &of_cluster).await,
            Err(Unproven::Bad(Refusal::Issuer.text()))
        );
    }
    let forged = cluster.sign(
        "ES256",
        &json!({"iss": "https://portal.example", "aud": "shop", "sub": "user", "exp": NOW + 60}),
    );
    assert_eq!(rig.verifier.verify("portal", &forged).await, Err(Unproven::Bad(Refusal::UnknownKey.text())));
}

#[tokio::test]
async fn two_audiences_of_one_issuer_are_two_issuers() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    let users = Issuer { name: "users".into(), audience: "portal".into(), ..rig.issuer() };
    rig.verifier.replace(vec![rig.issuer(), users]);
    for (audience, name) in [("acs-broker", "cluster"), ("portal", "users")] {
        let token = signer.sign("ES256", &but("aud", json!(audience)));
        assert_eq!(&*rig.judge(&token).await.unwrap().issuer, name);
    }
}

#[tokio::test]
async fn the_authorization_header_is_read_strictly() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    let token = signer.sign("ES256", &claims());
    let headers = |values: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    };
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let verdict = rig.with_headers(&headers(&[format!("{scheme} {token}").as_bytes()])).await;
        assert!(matches!(verdict, Verdict::Proven(Principal::Token(_))), "{verdict:?}");
    }
    for nothing in [headers(&[]), headers(&[b"Basic YTpi"]), headers(&[b"Digest a=b"])] {
        assert_eq!(rig.with_headers(&nothing).await, Verdict::NotPresented);
    }
    let bearer = format!("Bearer {token}");
    for bad in [
        headers(&[bearer.as_bytes(), bearer.as_bytes()]),
        headers(&[b"Basic YTpi", bearer.as_bytes()]),
        headers(&[token.as_bytes()]),
        headers(&[b"Bearer"]),
        headers(&[b"Bearer "]),
        headers(&[b""]),
        headers(&["Bearer ü".as_bytes()]),
        headers(&[format!("Bearer {token},{token}").as_bytes()]),
        headers(&[format!("Bearer {token} {token}").as_bytes()]),
    ] {
        let verdict = rig.with_headers(&bad).await;
        assert!(matches!(verdict, Verdict::Refused(_)), "{bad:?}: {verdict:?}");
    }
}

#[tokio::test]
async fn nothing_of_a_token_is_in_any_debug_text() {
    let signer = Signer::p256("k");
    let rig = Rig::new(&key_set(&[&signer]));
    let token = signer.sign("ES256", &claims());
    let said = rig.judge(&token).await.unwrap();
    let text = format!("{said:?} {:?} {:?}", Principal::Token(said.clone()), rig.verifier);
    assert!(!text.contains("orders") && !text.contains(&token), "{text}");
}

#[test]
fn an_issuer_with_problems_is_not_trusted_and_needs_no_runtime() {
    let clock = Arc::new(ManualClock::at(Timestamp::default()));
    let bad = Issuer::new("a", "http://issuer.example", "b");
    let verifier = Verifier::new(vec![bad], clock, Metrics::new());
    assert!(format!("{verifier:?}").contains("issuers: 0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_token_with_any_character_changed_is_refused(place in 0usize..10_000, with in "[A-Za-z0-9_.=+/-]") {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let signer = Signer::rsa("k");
            let rig = Rig::new(&key_set(&[&signer]));
            let token = signer.sign("RS256", &claims());
            assert!(rig.judge(&token).await.is_ok());
            let place = place % token.len();
            let mut changed = token.clone();
            changed.replace_range(place..=place, &with);
            assert_eq!(rig.judge(&changed).await.is_ok(), changed == token, "{changed}");
            let cut = &token[..place];
            assert!(rig.judge(cut).await.is_err());
        });
    }

    #[test]
    fn no_text_is_a_surprise(text in ".{0,64}", header in ".{0,64}", claims in ".{0,64}") {
        let _ = token::read(&text);
        let _ = token::read(&unsigned_with(&header, &claims));
        let claims = json!({"exp": claims, "sub": header, "aud": text});
        let _ = token::read(&unsigned_with("{\"alg\":\"RS256\"}", &claims.to_string()));
    }
}
