//! What is remembered, what kills a token, and that memory stays bounded.

use super::super::token::Contents;
use super::*;

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);
const HOUR: Duration = Duration::from_hours(1);

fn state() -> State {
    State::new(None, Limits { identities: 3, tokens: 5 }, uuid::Uuid::new_v4()).unwrap()
}

fn create(state: &mut State, custom_id: Option<&str>) -> Result<IdentityView, NotMade> {
    state.create(custom_id.map(str::to_owned), rand::random())
}

/// Issues a token with the key of that number; its text is made up, for the state never reads it.
fn issue(state: &mut State, id: &str, text: &str, issued: Timestamp, key: u64) {
    let sequence = state.begin_token(id, Holder::Identity, issued).unwrap();
    record(state, id, text, issued, key, sequence);
}

fn record(state: &mut State, id: &str, text: &str, issued: Timestamp, key: u64, sequence: u64) {
    let resource = state.resource().to_owned();
    let contents = Contents {
        identity: id,
        resource: &resource,
        scopes: &["chat"],
        issued,
        expires: issued.plus(HOUR),
        sequence,
    };
    state.record_token(text, &contents, Holder::Identity, Some(key));
}

fn is_valid(state: &State, text: &str) -> bool {
    matches!(state.token_state(text, NOW), TokenState::Valid { .. })
}

#[test]
fn ids_look_like_those_of_one_resource() {
    let mut state = state();
    let (a, b) = (create(&mut state, None).unwrap().id, create(&mut state, None).unwrap().id);
    assert_ne!(a, b);
    for id in [&a, &b] {
        let (resource, user) = id.strip_prefix("8:acs:").unwrap().split_once('_').unwrap();
        assert_eq!(resource, state.resource());
        assert!(is_guid(resource) && is_guid(user), "{id}");
        assert_eq!(state.known(id), Known::Alive);
    }
}

#[test]
fn an_id_that_names_nothing_alive_is_told_from_one_that_is_none() {
    let mut state = state();
    let id = create(&mut state, None).unwrap().id;
    state.delete(&id);
    assert_eq!(state.known(&id), Known::Gone);
    assert_eq!(
        state.known("8:acs:ac80d96a-85de-48b1-995d-a3a3fa3627c8_0000000a-b1cc-8a94-e3c7-593a0d003a89"),
        Known::Foreign
    );
    let upper = id.to_uppercase();
    let long = format!("{id}_{id}");
    for odd in
        ["", "8:acs:", "8:acs:_", "4:+14255550123", "8:orgid:x", "x", upper.as_str(), &long, "8:acs:ü_ü"]
    {
        assert_eq!(state.known(odd), Known::Malformed, "{odd}");
    }
}

#[test]
fn the_ids_of_exchanged_users_have_two_more_forms() {
    let mut state = state();
    let resource = state.resource().to_owned();
    let (tenant, user) = (uuid::Uuid::new_v4(), uuid::Uuid::new_v4());
    for part in [format!("{tenant}_{user}"), format!("wf_{tenant}_{user}")] {
        let id = format!("8:acs:{resource}_{part}");
        assert_eq!(state.known(&id), Known::Gone);
        assert_eq!(state.known(&format!("8:acs:{tenant}_{part}")), Known::Foreign);
        state.create_as(&id).unwrap();
        state.create_as(&id).unwrap();
        assert_eq!(state.known(&id), Known::Alive);
        state.delete(&id);
        assert_eq!(state.known(&id), Known::Gone);
    }
    for odd in [format!("wf_{user}"), format!("{tenant}_{user}_{user}"), format!("xx_{tenant}_{user}")] {
        assert_eq!(state.known(&format!("8:acs:{resource}_{odd}")), Known::Malformed, "{odd}");
    }
}

#[test]
fn the_same_custom_id_finds_the_same_identity_until_it_is_deleted() {
    let mut state = state();
    let first = create(&mut state, Some("Sally")).unwrap();
    assert_eq!(create(&mut state, Some("Sally")).unwrap(), first);
    assert_ne!(create(&mut state, Some("sally")).unwrap().id, first.id);
    assert_eq!(state.alive(), 2);
    state.delete(&first.id);
    assert_ne!(create(&mut state, Some("Sally")).unwrap().id, first.id);
}

#[test]
fn revocation_kills_what_was_issued_before_it_and_nothing_later_or_elsewhere() {
    let mut state = state();
    let (a, b) = (create(&mut state, None).unwrap().id, create(&mut state, None).unwrap().id);
    issue(&mut state, &a, "a1", NOW, 0);
    issue(&mut state, &b, "b1", NOW, 0);
    let being_signed = state.begin_token(&a, Holder::Identity, NOW).unwrap();
    state.revoke(&a, NOW, Duration::ZERO);
    record(&mut state, &a, "a2", NOW, 0, being_signed);
    issue(&mut state, &a, "a3", NOW, 0);
    assert_eq!(state.token_state("a1", NOW), TokenState::Revoked);
    assert_eq!(state.token_state("a2", NOW), TokenState::Revoked);
    assert!(is_valid(&state, "a3") && is_valid(&state, "b1"));
}

#[test]
fn deletion_and_expiry_kill_tokens() {
    let mut state = state();
    let id = create(&mut state, None).unwrap().id;
    issue(&mut state, &id, "t", NOW, 0);
    assert!(is_valid(&state, "t"));
    assert!(matches!(
        state.token_state("t", NOW.plus(HOUR - Duration::from_millis(1))),
        TokenState::Valid { .. }
    ));
    assert_eq!(state.token_state("t", NOW.plus(HOUR)), TokenState::Expired);
    let being_signed = state.begin_token(&id, Holder::Identity, NOW).unwrap();
    state.delete(&id);
    record(&mut state, &id, "late", NOW, 0, being_signed);
    assert_eq!(state.token_state("t", NOW), TokenState::Deleted);
    assert_eq!(state.token_state("late", NOW), TokenState::Deleted);
    assert_eq!(state.begin_token(&id, Holder::Identity, NOW), None);
    assert_eq!(state.token_state("never issued", NOW), TokenState::Unknown);
}

#[test]
fn replacing_a_key_kills_the_tokens_it_issued_and_no_others() {
    let mut state = state();
    let id = create(&mut state, None).unwrap().id;
    let [(primary, old), (secondary, _)] = state.keys();
    issue(&mut state, &id, "p", NOW, primary);
    issue(&mut state, &id, "s", NOW, secondary);
    state.rotate(AccessKey::Primary);
    assert_eq!(state.token_state("p", NOW), TokenState::KeyRotated);
    assert!(is_valid(&state, "s"));
    assert!(state.keys().iter().all(|(number, bytes)| *number != primary && *bytes != old));
    state.rotate(AccessKey::Secondary);
    assert_eq!(state.token_state("s", NOW), TokenState::KeyRotated);
}

#[test]
fn identities_beyond_the_limit_are_refused_and_tokens_beyond_theirs_forgotten() {
    let mut state = state();
    let id = create(&mut state, Some("known")).unwrap().id;
    create(&mut state, None).unwrap();
    create(&mut state, None).unwrap();
    assert_eq!(create(&mut state, None), Err(NotMade::Full));
    assert_eq!(state.create_as("8:acs:x"), Err(NotMade::Full));
    assert!(!state.adopt("8:acs:ac80d96a-85de-48b1-995d-a3a3fa3627c8_0000000a-b1cc-8a94-e3c7-593a0d003a89"));
    assert_eq!(create(&mut state, Some("known")).unwrap().id, id, "one that is known needs no room");
    for n in 0..50 {
        issue(&mut state, &id, &n.to_string(), NOW, 0);
    }
    assert_eq!((state.tokens.len(), state.token_ages.len()), (5, 5));
    assert_eq!(state.token_state("44", NOW), TokenState::Unknown);
    assert!(is_valid(&state, "45"));
    let much_later = NOW.plus(Duration::from_hours(49));
    issue(&mut state, &id, "last", much_later, 0);
    assert_eq!((state.tokens.len(), state.token_ages.len()), (1, 1));
    state.reset();
    assert_eq!((state.tokens.len(), state.token_ages.len(), state.alive()), (0, 0, 0));
    assert_eq!((state.custom_ids.len(), state.order.len()), (0, 0));
}

fn with_key(key: &str) -> Result<State, StartError> {
    State::new(Some(&Secret::new(key)), Limits::default(), uuid::Uuid::new_v4())
}

#[test]
fn a_given_key_must_be_base64_and_not_empty() {
    for odd in ["", "not base64!", "AAA"] {
        assert!(matches!(with_key(odd), Err(StartError::AccessKey)));
    }
    let given = with_key("AAEC").unwrap();
    assert_eq!(given.keys()[0].1, [0, 1, 2]);
    assert_eq!(given.key_text(AccessKey::Primary).expose(), "AAEC");
}
