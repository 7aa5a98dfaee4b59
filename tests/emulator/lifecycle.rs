//! What ends a token's life, and what a restart leaves.

use std::time::Duration;

use acs_broker::clock::Clock;
use acs_broker::emulator::{AccessKey, Settings, StartError, TokenState};
use acs_broker::secret::Secret;

use super::harness::{Call, GA, Running, action, of, start, start_with};

#[track_caller]
fn assert_valid(running: &Running, token: &str) {
    let state = running.handle.token_state(token);
    assert!(matches!(state, TokenState::Valid { .. }), "{state:?}");
}

#[tokio::test]
async fn a_fresh_token_is_valid_for_its_identity_and_scopes() {
    let running = start().await;
    let id = running.create().await;
    let reply = running.issue(&id, r#"{"scopes":["voip.join","chat"],"expiresInMinutes":60}"#).await.json();
    let token = reply["token"].as_str().unwrap();
    assert_eq!(
        running.handle.token_state(token),
        TokenState::Valid {
            identity: id,
            scopes: vec!["voip.join".into(), "chat".into()],
            expires: running.clock.now().plus(Duration::from_hours(1)),
        }
    );
    assert_eq!(running.handle.token_state(&format!("{token}x")), TokenState::Unknown);
}

#[tokio::test]
async fn revocation_bites_what_was_issued_and_spares_what_comes_after() {
    let running = start().await;
    let (id, other) = (running.create().await, running.create().await);
    let (before, elsewhere) = (running.token(&id).await, running.token(&other).await);
    assert_eq!(running.send(Call::new("POST", action(&id, "revokeAccessTokens"))).await.status, 204);
    let after = running.token(&id).await;
    assert_eq!(running.handle.token_state(&before), TokenState::Revoked);
    assert_valid(&running, &after);
    assert_valid(&running, &elsewhere);
}

#[tokio::test]
async fn deletion_bites() {
    let running = start().await;
    let id = running.create().await;
    let token = running.token(&id).await;
    assert_eq!(running.send(Call::new("DELETE", of(&id))).await.status, 204);
    assert_eq!(running.handle.token_state(&token), TokenState::Deleted);
    assert!(!running.handle.identity_ids().contains(&id));
}

#[tokio::test]
async fn expiry_bites_to_the_millisecond() {
    let running = start().await;
    let id = running.create().await;
    let token = running.token(&id).await;
    running.clock.advance(Duration::from_hours(24) - Duration::from_millis(1));
    assert_valid(&running, &token);
    running.clock.advance(Duration::from_millis(1));
    assert_eq!(running.handle.token_state(&token), TokenState::Expired);
}

#[tokio::test]
async fn replacing_a_key_kills_its_tokens_and_shuts_it_out() {
    let running = start().await;
    let id = running.create().await;
    let old_key = running.access_key(AccessKey::Primary);
    let of_primary = running.token(&id).await;
    let with_secondary = Call {
        key: Some(running.access_key(AccessKey::Secondary)),
        ..Call::new("POST", action(&id, "issueAccessToken")).body(r#"{"scopes":["chat"]}"#)
    };
    let reply = running.send(with_secondary).await.json();
    let of_secondary = reply["token"].as_str().unwrap();

    let new = running.handle.rotate_key(AccessKey::Primary);
    assert_eq!(new, running.handle.connection_string());
    assert!(!new.contains(&old_key));
    assert_eq!(running.handle.token_state(&of_primary), TokenState::KeyRotated);
    assert_valid(&running, of_secondary);
    let with_old = Call { key: Some(old_key), ..Call::new("POST", format!("/identities?{GA}")) };
    assert_eq!(running.send(with_old).await.status, 401);
    assert_valid(&running, &running.token(&id).await);
}

#[tokio::test]
async fn the_connection_strings_are_of_the_form_the_portal_shows() {
    let running =
        start_with(Settings { access_key: Some(Secret::new("c2VjcmV0")), ..Settings::on_free_ports() }).await;
    let handle = &running.handle;
    assert_eq!(
        handle.connection_string(),
        format!("endpoint=http://{}/;accesskey=c2VjcmV0", handle.http_addr())
    );
    assert_eq!(
        handle.connection_string_tls(),
        format!("endpoint=https://{}/;accesskey=c2VjcmV0", handle.tls_addr())
    );
    assert!(!handle.connection_string_with(AccessKey::Secondary).contains("c2VjcmV0"));
    assert!(!format!("{handle:?}").contains("c2VjcmV0"));
}

#[tokio::test]
async fn a_restart_on_the_same_port_forgets_everything() {
    let running = start().await;
    let id = running.create().await;
    let token = running.token(&id).await;
    let key = running.access_key(AccessKey::Primary);
    let (address, tls_address) =
        (running.handle.http_addr().to_string(), running.handle.tls_addr().to_string());
    let ca_file = running.handle.ca_file().to_owned();
    running.handle.shutdown().await;
    assert!(!ca_file.exists(), "the folder made for the CA goes with the emulator");

    let again = start_with(Settings {
        address,
        tls_address,
        access_key: Some(Secret::new(key)),
        ..Settings::default()
    })
    .await;
    assert_eq!(again.handle.identities_alive(), 0);
    assert_eq!(again.handle.token_state(&token), TokenState::Unknown);
    assert_eq!(again.issue(&id, r#"{"scopes":["chat"]}"#).await.status, 404);
    assert_ne!(again.create().await, id);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let running = start().await;
    let address = running.handle.http_addr().to_string();
    let settings = Settings { address: address.clone(), ..Settings::on_free_ports() };
    let error = acs_broker::emulator::start(settings, running.clock.clone()).await.unwrap_err();
    assert!(matches!(error, StartError::Bind { setting: "emulator.address", .. }), "{error}");
    assert!(error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn starting_takes_less_than_a_tenth_of_a_second() {
    // The best of several, for the machine may be busy with other tests.
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let before = std::time::Instant::now();
        let running = start().await;
        best = best.min(before.elapsed());
        running.handle.shutdown().await;
    }
    assert!(best < Duration::from_millis(100), "{best:?}");
}
