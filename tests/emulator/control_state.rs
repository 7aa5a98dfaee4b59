//! Steering the emulator over the control API: keys, clock, users, faults, the log of calls, webhooks.

use acs_broker::emulator::{AccessKey, TokenState};
use serde_json::{Value, json};

use super::harness::{Call, GA, start};
use crate::emulator_control::Control;

fn create() -> Call {
    Call::new("POST", format!("/identities?{GA}"))
}

fn key(connection_string: &str) -> String {
    connection_string.split_once(";accesskey=").unwrap().1.to_owned()
}

#[tokio::test]
async fn a_rotated_key_is_dead_and_the_new_one_works() {
    let running = start().await;
    let control = Control::at(running.base());
    for which in ["primary", "secondary"] {
        let handle_key = if which == "primary" { AccessKey::Primary } else { AccessKey::Secondary };
        let old = running.access_key(handle_key);
        let rotated = control.rotate(which).await;
        assert!(rotated.connection_string.starts_with(&format!("endpoint={}/;", running.base())));
        let tls = format!("endpoint=https://{}/;", running.handle.tls_addr());
        assert!(rotated.connection_string_tls.starts_with(&tls));
        let new = key(&rotated.connection_string);
        assert_eq!(new, key(&rotated.connection_string_tls));
        assert_ne!(old, new);
        let with = |key: String| Call { key: Some(key), ..create() };
        assert_eq!(running.send(with(old)).await.status, 401, "{which}");
        assert_eq!(running.send(with(new)).await.status, 201, "{which}");
    }
}

#[tokio::test]
async fn a_jump_of_the_clock_lets_tokens_expire() {
    let running = start().await;
    let control = Control::at(running.base());
    let token = running.token(&running.create().await).await;
    assert!(matches!(running.handle.token_state(&token), TokenState::Valid { .. }));
    let before = control.clock().await;
    assert_eq!((before.now.as_str(), before.ahead_ms), ("2026-11-22T12:00:00.1230000+00:00", 0));
    let after = control.advance("23h 59m").await;
    assert_eq!(after.now, "2026-11-23T11:59:00.1230000+00:00");
    assert!(matches!(running.handle.token_state(&token), TokenState::Valid { .. }));
    let answered = control.post("clock", &json!({ "advance_ms": 60_000 })).await;
    assert_eq!(answered.body["ahead_ms"], 86_400_000);
    assert_eq!(running.handle.token_state(&token), TokenState::Expired);
    assert_eq!(control.status().await["ahead_ms"], 86_400_000);
    assert_eq!(
        running.send(create()).await.status,
        201,
        "callers whose clocks did not jump are still let in"
    );
}

#[tokio::test]
async fn the_clock_stays_within_what_can_be_written_however_often_it_is_moved() {
    let running = start().await;
    let control = Control::at(running.base());
    for _ in 0..50 {
        control.advance("365d").await;
    }
    assert_eq!(control.clock().await.ahead_ms, 50 * 365 * 86_400_000);
    assert_eq!(running.send(create()).await.status, 201);
}

#[tokio::test]
async fn users_are_made_in_one_request() {
    let running = start().await;
    let control = Control::at(running.base());
    let users = json!([
        { "custom_id": "alice", "scopes": ["chat"], "minutes": 60 },
        { "scopes": ["chat", "voip"] },
        {},
    ]);
    let made = control.seed(users).await;
    assert_eq!(made.len(), 3);
    assert_eq!(made[0].custom_id.as_deref(), Some("alice"));
    assert_eq!(made[0].expires_on.as_deref(), Some("2026-11-22T13:00:00.1230000+00:00"));
    for (user, scopes) in made.iter().zip([&["chat"][..], &["chat", "voip"]]) {
        let state = running.handle.token_state(user.token.as_ref().unwrap());
        let TokenState::Valid { identity, scopes: granted, .. } = state else { panic!("{state:?}") };
        assert_eq!(
            (identity.as_str(), granted),
            (user.id.as_str(), scopes.iter().map(|s| (*s).to_owned()).collect())
        );
    }
    assert_eq!((&made[2].token, &made[2].expires_on), (&None, &None));
    let again = control.seed(json!([{ "custom_id": "alice" }])).await;
    assert_eq!(again[0].id, made[0].id, "a custom id has one identity");

    let listing = control.identities().await;
    assert_eq!(listing["alive"], 3);
    assert_eq!(listing["ids"].as_array().unwrap().len(), 3);
    let of = |id: &str| -> Value {
        let listed = listing["identities"].as_array().unwrap();
        listed.iter().find(|identity| identity["id"] == id).unwrap().clone()
    };
    let alice = of(&made[0].id);
    assert_eq!(alice["custom_id"], "alice");
    assert_eq!(alice["tokens"][0]["scopes"], json!(["chat"]));
    assert!(!listing.to_string().contains(made[0].token.as_ref().unwrap()), "no token is listed in clear");
    assert_eq!(control.get("identities?limit=1").await.body["identities"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn faults_are_listed_as_they_wait_and_can_be_taken_back() {
    let running = start().await;
    let control = Control::at(running.base());
    let chance =
        json!({ "operation": "any", "effect": "answer", "status": 503, "probability": 0.5, "seed": 7 });
    control.fault(chance.clone()).await;
    control
        .fault(json!({ "operation": "create_identity", "effect": "answer", "status": 429, "count": 2 }))
        .await;
    assert_eq!(running.send(create()).await.status, 429);
    let listed = control.faults().await;
    assert_eq!(listed.len(), 2);
    for (name, value) in chance.as_object().unwrap() {
        assert_eq!(&listed[0][name], value, "{name}");
    }
    assert_eq!((&listed[1]["operation"], &listed[1]["count"]), (&json!("create_identity"), &json!(1)));
    for fault in &listed {
        assert_eq!(
            control.post("faults", fault).await.status,
            204,
            "a fault is listed as it can be asked for"
        );
    }
    control.clear_faults(Some("create_identity")).await;
    assert_eq!(control.faults().await.len(), 2);
    control.clear_faults(None).await;
    assert!(control.faults().await.is_empty());
    assert_eq!(running.send(create()).await.status, 201);
}

#[tokio::test]
async fn a_slow_body_arrives_whole_and_late() {
    let running = start().await;
    let control = Control::at(running.base());
    let fault = json!({ "operation": "create_identity", "effect": "slow_body", "over_ms": 200, "count": 1 });
    control.fault(fault).await;
    let began = std::time::Instant::now();
    running.create().await;
    assert!(began.elapsed() >= std::time::Duration::from_millis(200));
    assert!(control.faults().await.is_empty());
}

#[tokio::test]
async fn the_log_of_calls_is_read_newest_first_and_as_text() {
    let running = start().await;
    let control = Control::at(running.base());
    running.create().await;
    control.fault(json!({ "operation": "any", "effect": "answer", "status": 503, "count": 1 })).await;
    running.send(create()).await;
    let log = control.call_log(0).await;
    let seen: Vec<_> = log.iter().map(|call| (&call["number"], &call["status"], &call["done"])).collect();
    assert_eq!(seen, [(&json!(2), &json!(503), &json!(false)), (&json!(1), &json!(201), &json!(true))]);
    assert_eq!(control.call_log(1).await, log[..1]);
    assert_eq!(
        control.call_log_text().await,
        "1 create_identity 2023-10-01 key 201 done - -\n2 create_identity 2023-10-01 key 503 - - answer 503\n"
    );
    assert_eq!(control.calls().await["create_identity"], 2);
}

#[tokio::test]
async fn webhooks_are_replaced_as_a_whole() {
    let running = start().await;
    let control = Control::at(running.base());
    assert!(control.webhooks().await.is_empty());
    let url = "http://127.0.0.1:9/hook";
    control.set_webhooks(json!([{ "url": url, "schema": "event_grid", "kinds": [] }])).await;
    let listed = control.webhooks().await;
    assert_eq!((listed.len(), &listed[0]["url"]), (1, &json!(url)));
    control.set_webhooks(json!([])).await;
    assert!(control.webhooks().await.is_empty());
}

#[tokio::test]
async fn what_happened_is_in_the_events_newest_first() {
    let running = start().await;
    let control = Control::at(running.base());
    let (from, to) = (super::control_messages::ALICE, super::control_messages::SENDER);
    control.receive_sms(from, to, "one").await;
    control.receive_sms(from, to, "two").await;
    let events = control.events(0).await;
    assert_eq!(events.len(), 2);
    assert_eq!(events[0]["kind"], "SMSReceived");
    assert_eq!(events[0]["data"]["message"], "two");
    let first = events[1]["sequence"].as_u64().unwrap();
    assert_eq!(control.events(first).await, events[..1]);
    assert_eq!(control.status().await["counts"]["events"], 2);
}
