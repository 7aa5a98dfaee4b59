//! Users made by the emulator itself, and how they and others are listed.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock, ManualClock, Timestamp};
use crate::emulator::identity::{AccessKey, TokenState};
use crate::emulator::{EmulatorHandle, Settings, start};

/// 2027-01-15T08:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

async fn emulator() -> EmulatorHandle {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(START));
    start(Settings::on_free_ports(), clock).await.unwrap()
}

fn listing(emulator: &EmulatorHandle, limit: usize) -> Vec<Value> {
    let now = emulator.shared.clock.now();
    emulator.shared.state().listing(now, limit)
}

fn scopes(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

#[tokio::test]
async fn a_seeded_user_has_a_token_like_any_other() {
    let emulator = emulator().await;
    let mut bell = emulator.shared.feed.subscribe();
    let made = seed(&emulator.shared, Some("sally"), &scopes(&["voip", "chat", "voip"]), 60).unwrap();
    assert!(bell.has_changed().unwrap());
    bell.mark_unchanged();
    assert_eq!(text(&made, "custom_id"), "sally");
    assert_eq!(text(&made, "expires_on"), "2027-01-15T09:00:00.0000000+00:00");
    let state = TokenState::Valid {
        identity: text(&made, "id").to_owned(),
        scopes: scopes(&["voip", "chat"]),
        expires: START.plus(Duration::from_hours(1)),
    };
    assert_eq!(emulator.token_state(text(&made, "token")), state);
    let again = seed(&emulator.shared, Some("sally"), &[], 0).unwrap();
    assert_eq!(again, json!({ "id": made["id"], "custom_id": "sally", "token": null, "expires_on": null }));
    assert_eq!(emulator.identities_alive(), 1);
    emulator.rotate_key(AccessKey::Primary);
    assert_eq!(emulator.token_state(text(&made, "token")), TokenState::KeyRotated);
}

#[tokio::test]
async fn a_user_who_makes_no_sense_is_not_made() {
    let emulator = emulator().await;
    let long = "x".repeat(257);
    for (custom_id, names, minutes) in [
        (None, vec!["chat"], 59),
        (None, vec!["chat"], 1441),
        (None, vec!["chat", "Chat"], 60),
        (None, vec![""], 60),
        (Some(""), vec![], 60),
        (Some(long.as_str()), vec![], 60),
    ] {
        let refused = seed(&emulator.shared, custom_id, &scopes(&names), minutes);
        assert!(refused.is_err(), "{custom_id:?} {names:?} {minutes}");
    }
    assert_eq!(emulator.identities_alive(), 0);
}

#[tokio::test]
async fn identities_are_listed_newest_first_with_their_latest_tokens_masked() {
    let emulator = emulator().await;
    let first = seed(&emulator.shared, Some("first"), &[], 60).unwrap();
    let second = seed(&emulator.shared, None, &[], 60).unwrap();
    let mut tokens = Vec::new();
    for minutes in 61..=67 {
        let made = seed(&emulator.shared, Some("first"), &scopes(&["chat"]), minutes).unwrap();
        tokens.push(text(&made, "token").to_owned());
        emulator.advance(Duration::from_secs(60));
    }
    let listed = listing(&emulator, 10);
    assert_eq!(
        listed[0],
        json!({ "id": second["id"], "custom_id": null, "last_token_issued_at": null, "tokens": [] })
    );
    let sally = &listed[1];
    assert_eq!((&sally["id"], text(sally, "custom_id")), (&first["id"], "first"));
    assert_eq!(text(sally, "last_token_issued_at"), "2027-01-15T08:06:00.0000000+00:00");
    let shown = sally["tokens"].as_array().unwrap();
    assert_eq!(shown.len(), 5);
    for (shown, token) in shown.iter().zip(tokens.iter().rev()) {
        let masked = format!("{}…{}", &token[..6], &token[token.len() - 4..]);
        assert_eq!((text(shown, "masked"), &shown["scopes"]), (masked.as_str(), &json!(["chat"])));
        assert_eq!(text(shown, "state"), "valid");
    }
    assert_eq!(
        (text(&shown[0], "issued_at"), text(&shown[0], "expires_at")),
        ("2027-01-15T08:06:00.0000000+00:00", "2027-01-15T09:13:00.0000000+00:00")
    );
    let whole = serde_json::to_string(&listed).unwrap();
    assert!(
        tokens
            .iter()
            .all(|token| !whole.contains(&token[..20]) && !whole.contains(&token[token.len() - 20..]))
    );
    assert_eq!(listing(&emulator, 1), listed[..1]);
    assert_eq!(listing(&emulator, 0), Vec::<Value>::new());
}

#[tokio::test]
async fn the_state_of_a_listed_token_is_that_of_the_token() {
    let emulator = emulator().await;
    let made = seed(&emulator.shared, None, &scopes(&["chat"]), 60).unwrap();
    let id = text(&made, "id");
    let state = || listing(&emulator, 1)[0]["tokens"][0]["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "valid");
    emulator.advance(Duration::from_hours(1));
    assert_eq!(state(), "expired");
    let revoke = || emulator.shared.state().revoke(id, emulator.shared.clock.now(), Duration::ZERO);
    revoke();
    assert_eq!(state(), "revoked");
    let other = seed(&emulator.shared, None, &scopes(&["chat"]), 60).unwrap();
    emulator.rotate_key(AccessKey::Primary);
    assert_eq!(state(), "key_rotated");
    emulator.shared.state().delete(text(&other, "id"));
    assert_eq!(text(&listing(&emulator, 1)[0], "id"), id);
    emulator.reset();
    assert_eq!(listing(&emulator, 10), Vec::<Value>::new());
}
