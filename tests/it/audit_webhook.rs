//! The audit of the intake from outside: what a real broker leaves of what Event Grid posts, of a flood of forged posts,
//! and that with `audit.fail_closed` a full disk lets no event take effect.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use acs_broker::audit::{Whom, subject_hash};
use acs_broker::secret::Secret;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::audit::{KEY, command, records};
use crate::harness::messages::{Clients, new_id, recipient, sending, sms};
use crate::harness::{BrokerProcess, Emulator, WEBHOOK_SECRET, emulator_process};
use crate::messaging_events::{post, report};
use crate::redis_server::RedisServer;

/// A broker that sends, over Redis, and records in that folder; no file of it gets longer than `limit`.
async fn start(emulator: &Emulator, redis: &RedisServer, folder: &Path, limit: Option<u64>) -> BrokerProcess {
    let key = folder.join("key");
    std::fs::write(&key, KEY).unwrap();
    let (file, key) = (folder.join("audit.log"), key.to_string_lossy().into_owned());
    let (file, url) = (file.to_string_lossy().into_owned(), redis.url());
    let settings: Vec<_> = sending()
        .into_iter()
        .chain([
            ("AUDIT__FILE", file.as_str()),
            ("AUDIT__KEY_FILE", key.as_str()),
            ("AUDIT__FAIL_CLOSED", if limit.is_some() { "true" } else { "false" }),
            ("STORE__BACKEND", "redis"),
            ("STORE__REDIS__URL", url.as_str()),
            ("TELEMETRY__FILTER", "warn"),
        ])
        .collect();
    match limit {
        Some(limit) => {
            BrokerProcess::start_with_file_limit(&emulator.connection_string, &settings, limit).await
        }
        None => BrokerProcess::start(&emulator.connection_string, &settings).await,
    }
}

fn of_the_webhook(folder: &Path, kind: &str) -> Vec<Value> {
    let all = records(&folder.join("audit.log")).into_iter();
    all.filter(|record| record["kind"] == kind && record["rpc"] == "webhook/events").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_event_grid_brings_is_on_record_and_a_flood_of_forged_posts_fills_no_disk() {
    const FORGED: usize = 1500;
    let folder = TempDir::new().unwrap();
    let (emulator, redis) = (emulator_process().await, RedisServer::start());
    let mut broker = start(&emulator, &redis, folder.path(), None).await;
    let clients = Clients::of(&broker);
    let to = recipient(1);
    let sent = clients.sms.clone().send_sms(sms(&new_id(), vec![to.clone()], "canary text")).await.unwrap();
    let sent = sent.into_inner();
    let event = report("event-1", &sent.outcomes[0].message_id, &to, "Delivered");
    for _ in 0..2 {
        assert_eq!(post(&broker.webhook_with_secret(), &event).await, 200);
    }
    let before = std::fs::metadata(folder.path().join("audit.log")).unwrap().len();
    let next = Arc::new(AtomicUsize::new(0));
    let forgers = (0..16).map(|_| {
        let (next, event) = (Arc::clone(&next), event.clone());
        let url = format!("{}?code=canary-guess", broker.webhook());
        tokio::spawn(async move {
            let http = reqwest::Client::builder().no_proxy().build().unwrap();
            while next.fetch_add(1, Ordering::SeqCst) < FORGED {
                let answer = http.post(&url).body(event.to_string()).send().await.unwrap();
                assert_eq!(answer.status().as_u16(), 401);
            }
        })
    });
    for forger in forgers.collect::<Vec<_>>() {
        forger.await.unwrap();
    }
    // Whoever is known is still heard.
    let second = report("event-2", &sent.outcomes[0].message_id, &to, "Delivered");
    assert_eq!(post(&broker.webhook_with_secret(), &second).await, 200);
    broker.terminate().await;

    let taken = of_the_webhook(folder.path(), "call");
    let effects: Vec<_> = taken.iter().map(|one| one["effects"].clone()).collect();
    let (new, known) = (json!({"sms_reports_taken": 1}), json!({"events_repeated": 1}));
    assert_eq!(effects, [new.clone(), known, new]);
    let hash = subject_hash(&Secret::new(KEY), Whom::Recipient, &to);
    assert!(taken.iter().all(|one| one["for"].as_array().unwrap().contains(&hash.as_str().into())));
    assert!(taken.iter().all(|one| one["caller"] == "webhook:secret" && one["decision"] == "allowed"));
    let refused = of_the_webhook(folder.path(), "refusals");
    assert!(refused.iter().all(|one| one["why"] == "wrong_secret" && one["decision"] == "refused"));
    let count: u64 = refused.iter().map(|one| one["count"].as_u64().unwrap()).sum();
    let text = std::fs::read_to_string(folder.path().join("audit.log")).unwrap();
    println!(
        "{FORGED} forged posts left {} records; the file grew from {before} to {} bytes",
        refused.len(),
        text.len()
    );
    assert_eq!(count, FORGED as u64, "every one is counted: {refused:?}");
    assert!(refused.len() <= 6, "{refused:?}");
    let file = folder.path().join("audit.log").to_string_lossy().into_owned();
    let key = folder.path().join("key").to_string_lossy().into_owned();
    let verified = command(&["audit", "verify", "--key-file", &key, &file]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");
    for plain in ["canary", &to[1..], WEBHOOK_SECRET] {
        assert!(!text.contains(plain), "the audit holds {plain}");
    }
    // The id stands where ACS gave it, and nowhere else: who posts may write anything.
    let id = &sent.outcomes[0].message_id;
    let naming: Vec<_> = text.lines().filter(|line| line.contains(id.as_str())).collect();
    assert!(naming.len() == 1 && naming[0].contains("\"effect\":\"sms_sent\""), "{naming:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_a_strict_broker_takes_no_event_in() {
    let folder = TempDir::new().unwrap();
    let (emulator, redis) = (emulator_process().await, RedisServer::start());
    let broker = start(&emulator, &redis, folder.path(), Some(32 * 1024)).await;
    let clients = Clients::of(&broker);
    let to = recipient(1);
    let sent = clients.sms.clone().send_sms(sms(&new_id(), vec![to.clone()], "text")).await.unwrap();
    let sent = sent.into_inner();
    let nobodys = |number: usize| report(&format!("e{number}"), "nobodys", &recipient(2), "Delivered");
    let mut taken = 0;
    while post(&broker.webhook_with_secret(), &nobodys(taken)).await == 200 {
        taken += 1;
        assert!(taken < 1000, "the file has no limit");
    }
    assert!(taken > 5, "the disk was not full from the start");
    let event = report("last", &sent.outcomes[0].message_id, &to, "Delivered");
    for _ in 0..5 {
        assert_eq!(post(&broker.webhook_with_secret(), &event).await, 503);
    }
    let metrics = broker.metrics().await;
    let counted =
        format!("acs_broker_webhook_events_total{{kind=\"sms_delivery\",outcome=\"taken\"}} {taken}\n");
    assert!(metrics.contains(&counted), "{taken} and none of the later ones: {metrics}");
    // Every event that was taken in is there with its decision.
    let decisions = of_the_webhook(folder.path(), "decision");
    println!("{taken} events taken in before the disk was full, {} decisions on it", decisions.len());
    assert!(decisions.len() >= taken);
}
