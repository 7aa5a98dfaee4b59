//! Drives every case and has the records judged; and shows the judge spoilt records, so that it is known to see.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use acs_broker::acs::{Client, ConnectionString, Settings};
use acs_broker::clock::SystemClock;
use serde_json::{Value, json};

use super::cases::{all, judge};
use super::drive::drive;
use super::server::Server;

const ACCESS_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn client(endpoint: &str) -> Client {
    let defaults: toml::Table = include_str!("../../config/default.toml").parse().unwrap();
    let settings: Settings = defaults["acs"].clone().try_into().unwrap();
    let resource = format!("endpoint={endpoint}/;accesskey={ACCESS_KEY}");
    Client::new(&settings, ConnectionString::parse(&resource).unwrap(), Arc::new(SystemClock)).unwrap()
}

/// One record per case: the case, and the only request that it made.
async fn records() -> Vec<Value> {
    let server = Server::start().await;
    let client = client(&server.endpoint);
    let mut records = Vec::new();
    for case in all() {
        server.expect(&case.operation);
        let result = drive(&client, &case.operation, &case.parameters).await;
        assert!(result.is_ok(), "{}: {:?}", case.name, result);
        let mut arrived = server.arrived();
        assert_eq!(arrived.len(), 1, "{}: one request", case.name);
        records.push(json!({
            "case": case.name,
            "operation": case.operation,
            "published": case.published,
            "parameters": case.parameters,
            "sent": arrived.remove(0),
        }));
    }
    records
}

/// Has the records judged and gives what the judge said.
async fn judged(arguments: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("records.json");
    std::fs::write(&file, serde_json::to_vec(&records().await).unwrap()).unwrap();
    let mut command = judge();
    command.arg(&file).args(arguments);
    let output = tokio::time::timeout(Duration::from_secs(120), command.output())
        .await
        .expect("the judge ends in time")
        .expect("the judge starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}\n{said}{complained}", output.status);
    eprintln!("{said}{complained}");
    said
}

#[tokio::test]
async fn every_operation_sends_what_is_published_and_the_examples_requests_come_out_equal() {
    let said = judged(&[]).await;
    assert!(said.contains("26 operations"), "{said}");
}

#[tokio::test]
async fn the_judge_objects_to_every_spoilt_request() {
    let said = judged(&["--spoilt"]).await;
    assert!(said.contains("all objected to"), "{said}");
}
