//! What `doctor` finds, against a real emulator: whatever would keep `serve` from starting or from serving.
//!
//! It must not find a broker healthy that would not start, nor name a setting that is not the one at fault.

use std::path::Path;

use crate::process::{Dev, Finished, binary, finish, text};

/// `doctor` with the key of this emulator and these settings besides.
fn doctor(dev: &Dev, folder: &Path, settings: &[(&str, &str)]) -> Finished {
    let connection = dev.places["connection_string"].as_str().unwrap();
    let mut command = binary();
    command.arg("doctor").current_dir(folder).env("ACS_BROKER__ACS__CONNECTION_STRING", connection);
    for (key, value) in settings {
        command.env(format!("ACS_BROKER__{key}"), value);
    }
    finish(&mut command, "")
}

fn written(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    text(&path).to_owned()
}

const KEYS: &str =
    r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

#[test]
fn doctor_finds_what_would_keep_a_broker_from_starting() {
    let (dev, dir) = (Dev::start(&[]), tempfile::tempdir().unwrap());
    let folder = dir.path();
    let key = written(folder, "audit.key", &"k".repeat(32));
    let keys = written(folder, "keys.json", KEYS);
    let policy = format!(
        "[[issuers]]\nname = \"i\"\nissuer = \"https://i.example\"\naudience = \"a\"\njwks_file = {keys:?}\n\
         [[callers]]\nname = \"orders\"\nmatch = [{{ issuer = \"i\", subject = \"orders\" }}]\n"
    );
    let good = written(folder, "good.toml", &policy);
    let bad = written(folder, "bad.toml", &policy.replace("match", "mach"));
    let log = folder.join("audit.log");
    let base = [("AUTH__MODE", "policy"), ("AUDIT__KEY_FILE", key.as_str())];
    let with = |policy: &str, audit: &str| {
        doctor(&dev, folder, &[&base[..], &[("AUTH__POLICY_FILE", policy), ("AUDIT__FILE", audit)]].concat())
    };

    let well = with(&good, text(&log));
    assert_eq!(well.code, Some(0), "{well:?}");
    for line in
        ["ok    policy      1 callers", "ok    issuers     1: ", "ok    audit       the file will be made"]
    {
        assert!(well.out.contains(line), "{line}: {well:?}");
    }
    assert!(!log.exists(), "doctor changes nothing");
    std::fs::write(&log, "").unwrap();
    assert!(with(&good, text(&log)).out.contains("ok    audit       the file is there"));

    let ill = with(&bad, text(&folder.join("no/audit.log")));
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("fail  policy") && ill.out.contains("callers[0].match"), "{ill:?}");
    assert!(ill.out.contains("fail  audit       the folder of audit.file does not exist"), "{ill:?}");
    let ill = with(&good, text(folder));
    assert!(ill.out.contains("fail  audit       audit.file cannot be written"), "{ill:?}");
}

#[test]
fn doctor_says_what_to_look_at_if_redis_is_not_there() {
    let (dev, dir) = (Dev::start(&[]), tempfile::tempdir().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = [("STORE__BACKEND", "redis"), ("STORE__REDIS__URL", &*format!("redis://{nobody}"))];
    let ill = doctor(&dev, dir.path(), &settings);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("fail  store") && ill.out.contains("check store.redis.url"), "{ill:?}");
}

#[test]
fn doctor_finds_an_issuer_whose_keys_cannot_be_fetched() {
    let (dev, dir) = (Dev::start(&[]), tempfile::tempdir().unwrap());
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let policy = format!(
        "[[issuers]]\nname = \"portal\"\nissuer = \"https://i.example\"\naudience = \"a\"\n\
         jwks_url = \"http://{nobody}/keys\"\n[[callers]]\nname = \"orders\"\nmatch = [{{ dns = \"orders.svc\" }}]\n"
    );
    let policy = written(dir.path(), "policy.toml", &policy);
    let settings = [("AUTH__MODE", "policy"), ("AUTH__POLICY_FILE", policy.as_str())];
    let ill = doctor(&dev, dir.path(), &settings);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("ok    policy"), "{ill:?}");
    assert!(ill.out.contains("fail  issuers") && ill.out.contains("portal"), "{ill:?}");
}

#[test]
fn doctor_names_the_setting_of_the_key_that_acs_refuses() {
    let (dev, dir) = (Dev::start(&[]), tempfile::tempdir().unwrap());
    let good = dev.places["connection_string"].as_str().unwrap();
    let endpoint = good.split("accesskey=").next().unwrap();
    let wrong = format!("{endpoint}accesskey=bm90LXRoZS1rZXk=");
    let ill = doctor(&dev, dir.path(), &[("ACS__SECONDARY_CONNECTION_STRING", &wrong)]);
    assert_eq!(ill.code, Some(1), "{ill:?}");
    let lines: Vec<_> = ill.out.lines().filter(|line| line.contains("credential")).collect();
    assert!(lines[0].starts_with("ok ") && lines[0].contains("the first key"), "{ill:?}");
    assert!(lines[1].starts_with("fail ") && lines[1].contains("the second key"), "{ill:?}");
    assert!(lines[1].contains("acs.secondary_connection_string"), "{ill:?}");
    assert!(!lines[1].contains("acs-broker doctor"), "it is doctor who says this: {ill:?}");
    let ill = doctor(&dev, dir.path(), &[("ACS__CONNECTION_STRING", &wrong)]);
    assert!(ill.out.contains("again into acs.connection_string (or"), "{ill:?}");
    assert!(!format!("{ill:?}").contains("bm90LXRoZS1rZXk"), "{ill:?}");
}

#[test]
fn doctor_names_the_token_of_a_workload_that_is_not_there() {
    let (dev, dir) = (Dev::start(&[]), tempfile::tempdir().unwrap());
    let authority = format!("https://{}", dev.places["emulator_tls"].as_str().unwrap());
    let mut command = binary();
    command.arg("doctor").current_dir(dir.path());
    for (key, value) in [
        ("ACS_BROKER__ACS__CREDENTIAL", "entra"),
        ("ACS_BROKER__ACS__ENDPOINT", authority.as_str()),
        ("ACS_BROKER__ACS__CA_FILE", dev.places["ca_file"].as_str().unwrap()),
        ("AZURE_AUTHORITY_HOST", authority.as_str()),
        ("AZURE_TENANT_ID", "00000000-ac5b-4000-8000-000000000000"),
        ("AZURE_CLIENT_ID", "00000000-ac5b-4000-8000-000000000001"),
        ("AZURE_FEDERATED_TOKEN_FILE", "no-such-token"),
    ] {
        command.env(key, value);
    }
    let ill = finish(&mut command, "");
    assert_eq!(ill.code, Some(1), "{ill:?}");
    assert!(ill.out.contains("acs.entra.federated_token cannot be read (entity not found)"), "{ill:?}");
}
