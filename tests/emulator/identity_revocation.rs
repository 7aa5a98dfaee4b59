//! The delay of a revocation, and what a seed repeats.

use std::time::Duration;

use acs_broker::emulator::{AccessKey, Settings, TokenState};
use acs_broker::secret::Secret;

use super::harness::{Call, PREVIEW, Running, action, of, start_with};

const DELAY: Duration = Duration::from_mins(15);

async fn start_slow() -> Running {
    start_with(Settings { revoke_after: DELAY, ..Settings::on_free_ports() }).await
}

async fn revoke(running: &Running, id: &str) {
    assert_eq!(running.send(Call::new("POST", action(id, "revokeAccessTokens"))).await.status, 204);
}

#[track_caller]
fn assert_valid(running: &Running, token: &str) {
    let state = running.handle.token_state(token);
    assert!(matches!(state, TokenState::Valid { .. }), "{state:?}");
}

#[tokio::test]
async fn a_revoked_token_works_until_the_delay_is_over_by_the_emulators_clock() {
    let running = start_slow().await;
    let id = running.create().await;
    let before = running.token(&id).await;
    revoke(&running, &id).await;
    let after = running.token(&id).await;
    running.clock.advance(DELAY - Duration::from_mins(5));
    running.handle.advance(Duration::from_mins(5) - Duration::from_millis(1));
    assert_valid(&running, &before);
    running.handle.advance(Duration::from_millis(1));
    assert_eq!(running.handle.token_state(&before), TokenState::Revoked);
    assert_valid(&running, &after);
}

#[tokio::test]
async fn revoking_again_does_not_put_it_off() {
    let running = start_slow().await;
    let id = running.create().await;
    let first = running.token(&id).await;
    revoke(&running, &id).await;
    running.clock.advance(Duration::from_mins(10));
    let second = running.token(&id).await;
    revoke(&running, &id).await;
    running.clock.advance(Duration::from_mins(5));
    assert_eq!(running.handle.token_state(&first), TokenState::Revoked);
    assert_valid(&running, &second);
    running.clock.advance(Duration::from_mins(10));
    assert_eq!(running.handle.token_state(&second), TokenState::Revoked);
}

#[tokio::test]
async fn deleting_and_replacing_a_key_do_not_wait() {
    let running = start_slow().await;
    let (gone, kept) = (running.create().await, running.create().await);
    let (of_gone, of_kept) = (running.token(&gone).await, running.token(&kept).await);
    assert_eq!(running.send(Call::new("DELETE", of(&gone))).await.status, 204);
    assert_eq!(running.handle.token_state(&of_gone), TokenState::Deleted);
    running.handle.rotate_key(AccessKey::Primary);
    assert_eq!(running.handle.token_state(&of_kept), TokenState::KeyRotated);
}

/// The ids and a token of a short run.
async fn run(settings: Settings) -> (Vec<String>, String, String) {
    let running = start_with(settings).await;
    let mut ids = vec![running.create().await, running.create().await];
    let body = r#"{"customId":"sally"}"#;
    let reply = running.send(Call::new("POST", format!("/identities?{PREVIEW}")).body(body)).await;
    ids.push(reply.json()["identity"]["id"].as_str().unwrap().to_owned());
    let token = running.token(&ids[0]).await;
    (ids, token, running.access_key(AccessKey::Primary))
}

#[tokio::test]
async fn a_seed_repeats_ids_and_tokens_and_never_keys() {
    let seeded = |seed| Settings { seed, ..Settings::on_free_ports() };
    let (first, second, other) = (run(seeded(7)).await, run(seeded(7)).await, run(seeded(8)).await);
    assert_eq!((&first.0, &first.1), (&second.0, &second.1));
    assert_ne!(first.2, second.2, "access keys are random whatever the seed");
    assert!(first.0.iter().all(|id| !other.0.contains(id)));
    assert_ne!(first.0[0].split('_').next(), other.0[0].split('_').next(), "the resource differs too");
    assert_ne!(run(seeded(0)).await.0, run(seeded(0)).await.0, "without a seed nothing repeats");
    let given = Settings { access_key: Some(Secret::new("AAEC")), ..seeded(7) };
    let given = run(given).await;
    assert_eq!((given.0, given.2.as_str()), (first.0, "AAEC"));
}

#[tokio::test]
async fn an_id_of_an_earlier_run_with_the_same_seed_is_not_given_twice() {
    let settings = Settings { seed: 7, ..Settings::on_free_ports() };
    let (ids, ..) = run(settings.clone()).await;
    let running = start_with(settings).await;
    assert!(running.handle.adopt(&ids[0]));
    assert_ne!(running.create().await, ids[0]);
    assert_eq!(running.handle.identities_alive(), 2);
}
