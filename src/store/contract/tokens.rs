//! The rules of `TokenCache`.

use super::*;

pub(crate) async fn a_token_is_found_with_the_record_it_was_put_for(h: &Harness) {
    let nobody = h.stores.tokens.look_up(&h.user(), &chat()).await.unwrap();
    assert_eq!((nobody.record, nobody.token), (None, None));
    let (user, record) = h.mapped().await;
    let bare = h.stores.tokens.look_up(&user, &chat()).await.unwrap();
    assert_eq!((bare.record, bare.token), (Some(record.clone()), None));
    let token = h.token(&record, "eyJ.one", HOUR);
    assert!(h.put(&user, &chat(), &token).await);
    let found = h.stores.tokens.look_up(&user, &chat()).await.unwrap();
    assert_eq!((found.record, found.token), (Some(record), Some(token)));
}

pub(crate) async fn scopes_and_validities_are_kept_apart(h: &Harness) {
    let (user, record) = h.mapped().await;
    let mut kept = Vec::new();
    for bits in 1u8..32 {
        let scopes: Vec<Scope> = Scope::ALL
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| bits & (1 << bit) != 0)
            .map(|(_, scope)| scope)
            .collect();
        for minutes in [60, 61, 316, 1440] {
            let (key, text) = (token_key(&scopes, minutes), format!("{bits}/{minutes}"));
            // Nothing put for another key answers for this one.
            assert_eq!(h.cached(&user, &key).await, None, "{text}");
            let token = h.token(&record, &text, HOUR);
            assert!(h.put(&user, &key, &token).await);
            kept.push((key, token));
        }
    }
    for (key, token) in kept {
        assert_eq!(h.cached(&user, &key).await, Some(token));
    }
}

pub(crate) async fn the_keys_of_a_users_tokens_are_known(h: &Harness) {
    let ((user, record), (other, others)) = (h.mapped().await, h.mapped().await);
    assert_eq!(h.stores.tokens.keys_of(&user).await.unwrap(), []);
    let mut keys = vec![chat(), token_key(&[Scope::Voip, Scope::ChatJoin], 61), token_key(&Scope::ALL, 1440)];
    for key in &keys {
        for text in ["one", "two"] {
            assert!(h.put(&user, key, &h.token(&record, text, HOUR)).await);
        }
    }
    let elsewhere = token_key(&[Scope::Voip], 60);
    assert!(h.put(&other, &elsewhere, &h.token(&others, "x", HOUR)).await);
    let order = |key: &TokenKey| (key.scopes, key.validity);
    let mut found = h.stores.tokens.keys_of(&user).await.unwrap();
    found.sort_by_key(order);
    keys.sort_by_key(order);
    assert_eq!(found, keys);
    assert_eq!(h.stores.tokens.keys_of(&other).await.unwrap(), [elsewhere]);
    h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
    assert_eq!(h.stores.tokens.keys_of(&user).await.unwrap(), []);
}

pub(crate) async fn users_with_odd_names_have_their_own_tokens(h: &Harness) {
    let mut kept = Vec::new();
    for name in odd_names() {
        let user = UserId::parse(&name).unwrap();
        let record = h.record();
        assert_eq!(h.insert(&user, &record).await, Inserted::New);
        let token = h.token(&record, &name, HOUR);
        assert!(h.put(&user, &chat(), &token).await);
        kept.push((user, record, token));
    }
    for (user, record, token) in &kept {
        assert_eq!(h.cached(user, &chat()).await.as_ref(), Some(token), "{:?}", user.as_str());
        h.stores.identities.advance_generation(user, &record.identity).await.unwrap();
        assert_eq!(h.cached(user, &chat()).await, None, "{:?}", user.as_str());
    }
    for (user, record, _) in kept {
        assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
    }
}

pub(crate) async fn a_newer_token_replaces_an_older_one(h: &Harness) {
    let (user, record) = h.mapped().await;
    let (old, new) = (h.token(&record, "old", HOUR), h.token(&record, "new", 2 * HOUR));
    assert!(h.put(&user, &chat(), &old).await);
    assert!(h.put(&user, &chat(), &new).await);
    assert_eq!(h.cached(&user, &chat()).await, Some(new.clone()));
    // The older one's end is not the newer one's.
    h.elapse(HOUR);
    assert_eq!(h.cached(&user, &chat()).await, Some(new));
}

pub(crate) async fn a_token_of_another_generation_identity_or_user_is_not_kept(h: &Harness) {
    let (user, record) = h.mapped().await;
    let (_, stranger) = h.mapped().await;
    assert!(!h.put(&h.user(), &chat(), &h.token(&record, "of nobody", HOUR)).await);
    assert!(!h.put(&user, &chat(), &h.token(&stranger, "of a stranger", HOUR)).await);
    let later = IdentityRecord { generation: 1, ..record.clone() };
    assert!(!h.put(&user, &chat(), &h.token(&later, "from the future", HOUR)).await);
    let good = h.token(&record, "good", HOUR);
    assert!(h.put(&user, &chat(), &good).await);
    // A refused put leaves what was there.
    assert!(!h.put(&user, &chat(), &h.token(&stranger, "of a stranger", HOUR)).await);
    assert_eq!(h.cached(&user, &chat()).await, Some(good));

    h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
    assert!(!h.put(&user, &chat(), &h.token(&record, "of before", HOUR)).await);
    assert_eq!(h.cached(&user, &chat()).await, None);
    let renewed = h.token(&later, "renewed", HOUR);
    assert!(h.put(&user, &chat(), &renewed).await);
    assert_eq!(h.cached(&user, &chat()).await, Some(renewed));

    assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert!(!h.put(&user, &chat(), &h.token(&later, "of a user who is gone", HOUR)).await);
    let gone = h.stores.tokens.look_up(&user, &chat()).await.unwrap();
    assert_eq!((gone.record, gone.token), (None, None));
}

pub(crate) async fn a_revocation_ends_every_token_of_the_user_and_of_nobody_else(h: &Harness) {
    let (user, record) = h.mapped().await;
    let (other_user, other) = h.mapped().await;
    let keys = [chat(), token_key(&[Scope::Chat, Scope::Voip], 60), token_key(&[Scope::VoipJoin], 90)];
    let other_token = h.token(&other, "other", HOUR);
    for key in &keys {
        assert!(h.put(&user, key, &h.token(&record, "mine", HOUR)).await);
        assert!(h.put(&other_user, key, &other_token).await);
    }
    h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
    for key in &keys {
        assert_eq!(h.cached(&user, key).await, None);
        assert_eq!(h.cached(&other_user, key).await.as_ref(), Some(&other_token));
    }
}

pub(crate) async fn a_user_mapped_again_gets_no_token_of_before(h: &Harness) {
    let (user, record) = h.mapped().await;
    let old = h.token(&record, "old", HOUR);
    assert!(h.put(&user, &chat(), &old).await);
    assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.cached(&user, &chat()).await, None);
    // Even with the same identity and generation, as an import may do.
    assert_eq!(h.insert(&user, &record).await, Inserted::New);
    assert_eq!(h.cached(&user, &chat()).await, None);
    assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
    assert_eq!(h.insert(&user, &h.record()).await, Inserted::New);
    assert_eq!(h.cached(&user, &chat()).await, None);
    assert!(!h.put(&user, &chat(), &old).await);
}

pub(crate) async fn an_expired_token_is_neither_kept_nor_given(h: &Harness) {
    let (user, record) = h.mapped().await;
    let mut expired = h.token(&record, "expired", HOUR);
    expired.token.expires_at = h.now().minus(Duration::from_millis(1));
    assert!(!h.put(&user, &chat(), &expired).await);
    assert_eq!(h.cached(&user, &chat()).await, None);

    let other = token_key(&[Scope::Voip], 60);
    let lasting = h.token(&record, "lasting", LONG);
    assert!(h.put(&user, &other, &lasting).await);
    let short = h.token(&record, "short", SHORT);
    assert!(h.put(&user, &chat(), &short).await);
    h.elapse(SHORT);
    h.until("the token expires", || async { h.cached(&user, &chat()).await.is_none() }).await;
    assert!(h.now() >= short.token.expires_at, "gone before its time");
    // It goes alone: neither the user's other token nor the record is touched.
    let found = h.stores.tokens.look_up(&user, &other).await.unwrap();
    assert_eq!((found.record, found.token), (Some(record), Some(lasting)));
}

pub(crate) async fn a_long_token_is_kept_whole(h: &Harness) {
    let (user, record) = h.mapped().await;
    for length in [1, 4096, 70_000, 1 << 20] {
        let token = h.token(&record, &"t".repeat(length), HOUR);
        assert!(h.put(&user, &chat(), &token).await, "{length}");
        // Not assert_eq: a failure would print a megabyte.
        assert!(h.cached(&user, &chat()).await == Some(token), "{length}");
    }
}

pub(crate) async fn a_put_that_races_a_revocation_leaves_no_older_token(h: &Harness) {
    let (user, record) = h.mapped().await;
    for generation in 0..40 {
        let of_now = IdentityRecord { generation, ..record.clone() };
        let mut puts = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (stores, user) = (h.stores.clone(), user.clone());
            let token = h.token(&of_now, &format!("{generation}/{number}"), HOUR);
            puts.spawn(async move { stores.tokens.put(&user, &chat(), &token).await.unwrap() });
        }
        let new = h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
        assert_eq!(new, Some(generation + 1));
        // From here on no token of an older generation is found, whether its put is under way or over.
        assert_eq!(h.cached(&user, &chat()).await, None);
        while puts.join_next().await.is_some() {
            assert_eq!(h.cached(&user, &chat()).await, None);
        }
    }
}

pub(crate) async fn a_put_that_races_a_removal_leaves_no_token_of_the_old_identity(h: &Harness) {
    let user = h.user();
    for round in 0..25 {
        let record = h.record();
        assert_eq!(h.insert(&user, &record).await, Inserted::New);
        let mut puts = tokio::task::JoinSet::new();
        for number in 0..4 {
            let (stores, user) = (h.stores.clone(), user.clone());
            let token = h.token(&record, &format!("{round}/{number}"), HOUR);
            puts.spawn(async move { stores.tokens.put(&user, &chat(), &token).await.unwrap() });
        }
        assert!(h.stores.identities.remove(&user, &record.identity).await.unwrap());
        let next = h.record();
        assert_eq!(h.insert(&user, &next).await, Inserted::New);
        assert_eq!(h.cached(&user, &chat()).await, None);
        while puts.join_next().await.is_some() {
            assert_eq!(h.cached(&user, &chat()).await, None);
        }
        assert!(h.stores.identities.remove(&user, &next.identity).await.unwrap());
    }
}

pub(crate) async fn a_look_up_sees_one_point_in_time(h: &Harness) {
    let (user, record) = h.mapped().await;
    let stop = tokio_util::sync::CancellationToken::new();
    let seen = Arc::new(AtomicU64::new(0));
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (stores, user, stop, seen) = (h.stores.clone(), user.clone(), stop.clone(), seen.clone());
        readers.spawn(async move {
            let mut newest = 0;
            while !stop.is_cancelled() {
                let found = stores.tokens.look_up(&user, &chat()).await.unwrap();
                let record = found.record.expect("the user is mapped all the time");
                assert!(record.generation >= newest, "the generation went back");
                newest = record.generation;
                if let Some(token) = found.token {
                    assert_eq!(token.generation, record.generation);
                    assert_eq!(token.token.secret.expose(), format!("token {}", record.generation));
                    seen.fetch_add(1, Ordering::Relaxed);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    let generation = AtomicU64::new(0);
    h.until("readers see tokens of many generations", || async {
        let generation = generation.fetch_add(1, Ordering::Relaxed);
        let of_now = IdentityRecord { generation, ..record.clone() };
        assert!(h.put(&user, &chat(), &h.token(&of_now, &format!("token {generation}"), HOUR)).await);
        h.stores.identities.advance_generation(&user, &record.identity).await.unwrap();
        generation >= 60 && seen.load(Ordering::Relaxed) >= 20
    })
    .await;
    stop.cancel();
    readers.join_all().await;
}
