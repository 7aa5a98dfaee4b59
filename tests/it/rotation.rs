//! Changing the ACS key: no token is served that dies with the old one.

use std::sync::Arc;

use acs_broker::clock::SystemClock;
use acs_broker::emulator::{AccessKey, TokenState};
use acs_broker::grpc::proto::v1::TokenSource;

use crate::harness::{Rig, Wish, chat};

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_old_key_is_replaced_before_that_key_goes() {
    let stores = acs_broker::store::memory(Arc::new(SystemClock)).core;
    let before = Rig::start(Wish { stores: Some(stores.clone()), ..Wish::default() }).await;
    let acs = &before.emulator;
    let old = before.tokens().issue_token(chat("alice")).await.unwrap().into_inner();

    // A replica with the secondary key, as after a rolling restart, on the same store.
    let connection_string = Some(acs.connection_string_with(AccessKey::Secondary));
    let after = Rig::start(Wish { stores: Some(stores), connection_string, ..Wish::default() }).await;
    let new = after.tokens().issue_token(chat("alice")).await.unwrap().into_inner();
    assert_eq!(new.source(), TokenSource::Issued, "a token of the other key is no cache hit");
    assert_eq!(new.acs_user_id, old.acs_user_id);

    acs.rotate_key(AccessKey::Primary);
    assert!(matches!(acs.token_state(&old.token), TokenState::KeyRotated));
    assert!(matches!(acs.token_state(&new.token), TokenState::Valid { .. }));
    let served = after.tokens().issue_token(chat("alice")).await.unwrap().into_inner();
    assert_eq!((served.source(), &served.token), (TokenSource::Cache, &new.token));
}
