//! No key at all: the real binary signs in at Entra, as a workload, as a machine and with a secret. The issuer is the
//! emulator's, over HTTPS with its own CA.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Duration, Instant};

use crate::harness::messages::reason;
use crate::harness::{BrokerProcess, Emulator, chat, emulator_with};

const TENANT: &str = "00000000-ac5b-4000-8000-000000000000";
const WITH_ROLE: &str = "00000000-ac5b-4000-8000-000000000001";
const WITHOUT_ROLE: &str = "00000000-ac5b-4000-8000-000000000002";
const SECRET: &str = "emulator-client-secret";

async fn quiet() -> Emulator {
    emulator_with(&[("TELEMETRY__FILTER", "warn")]).await
}

fn at(scheme: &str, address: &str) -> String {
    if address.contains("://") { address.to_owned() } else { format!("{scheme}://{address}") }
}

/// The settings of a broker without a key, and those that tell how it signs in.
async fn broker(emulator: &Emulator, more: &[(&str, &str)]) -> BrokerProcess {
    let tls = at("https", &emulator.ready("emulator_tls"));
    let (ca, store) = (emulator.ready("ca_file"), TempDir::new().unwrap().keep());
    let store = store.join("broker.redb");
    let mut settings = vec![
        ("ACS__CREDENTIAL", "entra"),
        ("ACS__ENDPOINT", tls.as_str()),
        ("ACS__CA_FILE", ca.as_str()),
        ("ACS__ENTRA__AUTHORITY", tls.as_str()),
        ("STORE__EMBEDDED__PATH", store.to_str().unwrap()),
    ];
    settings.extend(more);
    BrokerProcess::start("", &settings).await
}

/// What Kubernetes mounts: a token of the service account.
fn federated(folder: &TempDir, subject: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "sub": subject, "aud": "api://AzureADTokenExchange", "iss": "https://cluster.example", "exp": 4_102_444_800_u64,
    });
    let token = format!("{}.{}.c2ln", part(json!({ "alg": "RS256", "typ": "JWT" })), part(claims));
    let path = folder.path().join("token");
    std::fs::write(&path, token).unwrap();
    path.to_str().unwrap().to_owned()
}

async fn issues(emulator: &Emulator, broker: &BrokerProcess) {
    let answer = broker.tokens().await.issue_token(chat("alice")).await.unwrap().into_inner();
    assert!(answer.acs_user_id.starts_with("8:acs:"));
    let log = emulator.api().call_log(0).await;
    let made = log.iter().find(|call| call["operation"] == "create_identity").unwrap();
    assert_eq!((&made["status"], &made["by"]), (&json!(201), &json!("entra")), "{made}");
    let page = broker.admin_page("/readyz").await;
    assert_eq!((&page["ready"], &page["notes"]), (&json!(true), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workload_identity_issues_a_token() {
    let (emulator, folder) = (quiet().await, TempDir::new().unwrap());
    let token = federated(&folder, "system:serviceaccount:default:acs-broker");
    let settings = [
        ("ACS__ENTRA__KIND", "workload"),
        ("ACS__ENTRA__TENANT_ID", TENANT),
        ("ACS__ENTRA__CLIENT_ID", WITH_ROLE),
        ("ACS__ENTRA__FEDERATED_TOKEN", token.as_str()),
    ];
    let broker = broker(&emulator, &settings).await;
    issues(&emulator, &broker).await;
    let signed_in = broker.log();
    assert!(!signed_in.contains("c2ln"), "the federated token is in the log");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_identity_issues_a_token() {
    let emulator = quiet().await;
    let metadata = at("http", &emulator.ready("emulator"));
    let settings = [("ACS__ENTRA__KIND", "managed"), ("ACS__ENTRA__METADATA", metadata.as_str())];
    let broker = broker(&emulator, &settings).await;
    issues(&emulator, &broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_secret_issues_a_token_and_outlives_the_end_of_the_entra_token() {
    let emulator = quiet().await;
    let settings = [
        ("ACS__ENTRA__KIND", "secret"),
        ("ACS__ENTRA__TENANT_ID", TENANT),
        ("ACS__ENTRA__CLIENT_ID", WITH_ROLE),
        ("ACS__ENTRA__CLIENT_SECRET", SECRET),
    ];
    let broker = broker(&emulator, &settings).await;
    issues(&emulator, &broker).await;
    // The token in hand is over by the clock of whoever checks it: one refusal, a new token, and the call is done.
    emulator.api().advance("30h").await;
    let answer = broker.tokens().await.issue_token(chat("bob")).await.unwrap().into_inner();
    assert!(!answer.token.is_empty());
    assert!(!broker.log().contains(SECRET));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_without_the_role_is_told_what_it_lacks() {
    let emulator = quiet().await;
    let settings = [
        ("ACS__ENTRA__KIND", "secret"),
        ("ACS__ENTRA__TENANT_ID", TENANT),
        ("ACS__ENTRA__CLIENT_ID", WITHOUT_ROLE),
        ("ACS__ENTRA__CLIENT_SECRET", SECRET),
    ];
    let broker = broker(&emulator, &settings).await;
    told(&broker, "Communication and Email Service Owner").await;
    let (code, doctor) = broker.doctor();
    assert_eq!(code, Some(1), "{doctor}");
    assert!(doctor.contains("fail  credential") && doctor.contains("give it a role"), "{doctor}");
    assert!(!doctor.contains(SECRET), "{doctor}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_refuses_the_sign_in_is_named() {
    let emulator = quiet().await;
    let settings = [
        ("ACS__ENTRA__KIND", "secret"),
        ("ACS__ENTRA__TENANT_ID", TENANT),
        ("ACS__ENTRA__CLIENT_ID", WITH_ROLE),
        ("ACS__ENTRA__CLIENT_SECRET", "another"),
    ];
    let broker = broker(&emulator, &settings).await;
    told(&broker, "Entra gives the broker no token").await;
    let (code, doctor) = broker.doctor();
    assert_eq!(code, Some(1), "{doctor}");
    assert!(doctor.contains("Entra gives the broker no token"), "{doctor}");
}

/// `/readyz` says this within ten seconds, and calls are refused at once.
async fn told(broker: &BrokerProcess, what: &str) {
    let began = Instant::now();
    loop {
        let page = broker.admin_page("/readyz").await;
        let note = &page["notes"][0];
        if note["message"].as_str().is_some_and(|message| message.contains(what)) {
            assert_eq!(note["code"], "acs_credential");
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{page}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let status = broker.tokens().await.issue_token(chat("alice")).await.unwrap_err();
    assert_eq!(reason(&status), "ACS_CREDENTIALS_REFUSED");
}
