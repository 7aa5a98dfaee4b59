//! Every rule about the fields of requests, and that nothing a stranger sends can panic.

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::broker::types::{AccessToken, KeyId};
use crate::secret::Secret;

const HOUR: i64 = 3600;

fn seconds(seconds: i64) -> Option<ProtoDuration> {
    Some(ProtoDuration { seconds, nanos: 0 })
}

fn good() -> v1::IssueTokenRequest {
    v1::IssueTokenRequest {
        user_id: "user".into(),
        scopes: vec![v1::Scope::Chat.into()],
        min_remaining: None,
        validity: None,
    }
}

/// The fields that are refused, in order.
fn fields<T: std::fmt::Debug>(result: Result<T, Error>) -> Vec<String> {
    match result {
        Ok(_) => Vec::new(),
        Err(Error::InvalidField(violations)) => violations.into_iter().map(|field| field.field).collect(),
        Err(other) => panic!("{other}"),
    }
}

fn issue(request: v1::IssueTokenRequest) -> Result<IssueToken, Error> {
    issue_token(request, Validity::MAX)
}

#[test]
fn a_good_request_becomes_the_cores_words() {
    let wish = issue(v1::IssueTokenRequest {
        scopes: vec![5, 1, 1, 4, 2, 3],
        min_remaining: Some(ProtoDuration { seconds: 90, nanos: 5 }),
        validity: seconds(2 * HOUR),
        ..good()
    })
    .unwrap();
    assert_eq!(wish.user.as_str(), "user");
    assert_eq!(wish.scopes, ScopeSet::new(Scope::ALL).unwrap());
    assert_eq!(wish.min_remaining, Duration::new(90, 5));
    assert_eq!(wish.validity.unwrap().minutes(), 120);
    let plain = issue(good()).unwrap();
    assert_eq!((plain.validity, plain.min_remaining), (None, Duration::ZERO));
}

#[test]
fn every_number_on_the_wire_is_its_own_scope() {
    for (number, name) in [
        (v1::Scope::Chat, "chat"),
        (v1::Scope::Voip, "voip"),
        (v1::Scope::ChatJoin, "chat.join"),
        (v1::Scope::ChatJoinLimited, "chat.join.limited"),
        (v1::Scope::VoipJoin, "voip.join"),
    ] {
        let wish = issue(v1::IssueTokenRequest { scopes: vec![number.into()], ..good() }).unwrap();
        assert_eq!(wish.scopes.canonical(), name);
    }
}

#[test]
fn all_violations_are_reported_together() {
    let request = v1::IssueTokenRequest {
        user_id: String::new(),
        scopes: vec![1, 0, 2, 99, -1],
        min_remaining: seconds(-1),
        validity: seconds(59 * 60),
    };
    assert_eq!(
        fields(issue(request)),
        ["user_id", "scopes[1]", "scopes[3]", "scopes[4]", "min_remaining", "validity"]
    );
    assert_eq!(fields(refresh_token(v1::RefreshTokenRequest::default())), ["user_id", "scopes"]);
    assert_eq!(fields(user_request("", "x")), ["user_id", "request_id"]);
    let page_request = v1::ListIdentitiesRequest { page_size: -1, page_token: "?".into() };
    assert_eq!(fields(page(&page_request)), ["page_size", "page_token"]);
    let entry = v1::ImportIdentitiesRequest {
        identity: Some(v1::Identity {
            create_time: Some(ProtoTimestamp { seconds: -1, nanos: 0 }),
            ..v1::Identity::default()
        }),
        validate_only: false,
    };
    assert_eq!(
        fields(import_entry(entry)),
        ["identity.user_id", "identity.acs_user_id", "identity.create_time"]
    );
}

#[test]
fn scopes_have_1_to_16_entries() {
    let with = |count: usize| fields(issue(v1::IssueTokenRequest { scopes: vec![1; count], ..good() }));
    assert_eq!(with(0), ["scopes"]);
    assert_eq!(with(16), [""; 0]);
    assert_eq!(with(17), ["scopes"]);
    // A long list of nonsense is one violation, not one each.
    assert_eq!(fields(issue(v1::IssueTokenRequest { scopes: vec![0; 60_000], ..good() })), ["scopes"]);
}

#[test]
fn validity_is_1_h_to_24_h_in_whole_minutes() {
    let with = |validity| fields(issue(v1::IssueTokenRequest { validity, ..good() }));
    for bad in [0, 59 * 60, HOUR + 1, 24 * HOUR + 60, -HOUR, i64::MAX, i64::MIN] {
        assert_eq!(with(seconds(bad)), ["validity"], "{bad}");
    }
    for bad in [1, -1, i32::MAX, i32::MIN, 1_000_000_000] {
        assert_eq!(with(Some(ProtoDuration { seconds: HOUR, nanos: bad })), ["validity"], "{bad}");
    }
    for good in [HOUR, HOUR + 60, 24 * HOUR] {
        assert_eq!(with(seconds(good)), [""; 0], "{good}");
    }
}

#[test]
fn min_remaining_leaves_5_minutes_of_the_validity_in_force() {
    let with = |min_remaining, validity, default| {
        fields(issue_token(
            v1::IssueTokenRequest { min_remaining: seconds(min_remaining), validity, ..good() },
            default,
        ))
    };
    assert_eq!(with(55 * 60, seconds(HOUR), Validity::MAX), [""; 0]);
    assert_eq!(with(55 * 60 + 1, seconds(HOUR), Validity::MAX), ["min_remaining"]);
    assert_eq!(with(55 * 60, None, Validity::MIN), [""; 0]);
    assert_eq!(with(55 * 60 + 1, None, Validity::MIN), ["min_remaining"]);
    assert_eq!(with(55 * 60 + 1, None, Validity::MAX), [""; 0]);
    assert_eq!(with(i64::MAX, None, Validity::MAX), ["min_remaining"]);
    // A wrong validity is reported beside it, and does not decide about it.
    assert_eq!(with(24 * HOUR, seconds(1), Validity::MIN), ["validity", "min_remaining"]);
    assert_eq!(with(23 * HOUR, seconds(1), Validity::MIN), ["validity"]);
}

#[test]
fn a_request_id_is_a_uuid_and_means_the_same_however_it_is_written() {
    let id = "f81d4fae-7dec-41d0-a765-00a0c91e6bf6";
    let (_, parsed) = user_request("user", &id.to_uppercase()).unwrap();
    assert_eq!(parsed.as_deref(), Some(id));
    assert_eq!(user_request("user", "").unwrap().1, None);
    for bad in [
        "x",
        "f81d4fae7dec41d0a76500a0c91e6bf6",
        "{f81d4fae-7dec-41d0-a765-00a0c91e6bf6}",
        "urn:uuid:f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
        "00000000-0000-0000-0000-000000000000",
        " f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
        "f81d4fae-7dec-41d0-a765-00a0c91e6bfg",
    ] {
        assert_eq!(fields(user_request("user", bad)), ["request_id"], "{bad}");
    }
}

#[test]
fn a_page_has_100_entries_unless_said_and_never_more_than_1000() {
    for (size, limit) in [(0, 100), (1, 1), (1000, 1000), (1001, 1000), (i32::MAX, 1000)] {
        let request = v1::ListIdentitiesRequest { page_size: size, page_token: String::new() };
        assert_eq!(page(&request).unwrap(), PageRequest { from: None, limit });
    }
    let request = v1::ListIdentitiesRequest { page_size: 0, page_token: page_token::encode(b"here") };
    assert_eq!(page(&request).unwrap().from.as_deref(), Some(&b"here"[..]));
}

#[test]
fn get_identity_needs_one_side_of_the_mapping() {
    use v1::get_identity_request::Key;
    let with = |key| fields(identity_key(v1::GetIdentityRequest { key }));
    assert_eq!(with(None), ["key"]);
    assert_eq!(with(Some(Key::UserId(" a".into()))), ["user_id"]);
    assert_eq!(with(Some(Key::AcsUserId(String::new()))), ["acs_user_id"]);
    assert_eq!(with(Some(Key::AcsUserId("8:acs:a_b".into()))), [""; 0]);
}

#[test]
fn an_import_entry_needs_an_identity() {
    assert_eq!(fields(import_entry(v1::ImportIdentitiesRequest::default())), ["identity"]);
}

#[test]
fn a_token_is_answered_with_its_times_and_source() {
    let mut served = ServedToken {
        token: AccessToken {
            secret: Secret::new("token"),
            issued_at: Timestamp::from_millis(0),
            expires_at: Timestamp::from_millis(86_400_123),
            key: KeyId([0; 8]),
        },
        refresh_at: Timestamp::from_millis(43_200_000),
        identity: IdentityId::parse("8:acs:a_b").unwrap(),
        from_cache: true,
        degraded: true,
    };
    let answer = issued(&served);
    assert_eq!((answer.token.as_str(), answer.acs_user_id.as_str()), ("token", "8:acs:a_b"));
    assert_eq!(answer.expire_time, Some(ProtoTimestamp { seconds: 86_400, nanos: 123_000_000 }));
    assert_eq!(answer.refresh_time, Some(ProtoTimestamp { seconds: 43_200, nanos: 0 }));
    assert_eq!((answer.source, answer.degraded), (v1::TokenSource::Cache.into(), true));
    served.from_cache = false;
    assert_eq!(issued(&served).source, i32::from(v1::TokenSource::Issued));
    assert_eq!(refreshed(&served).token, "token");
}

#[test]
fn no_violation_repeats_the_value() {
    let marker = "\u{1}needle-in-a-haystack";
    let errors = [
        issue(v1::IssueTokenRequest { user_id: marker.into(), ..good() }).unwrap_err(),
        user_request("user", marker).unwrap_err(),
        page(&v1::ListIdentitiesRequest { page_size: 0, page_token: marker.into() }).unwrap_err(),
    ];
    for error in errors {
        assert!(!format!("{error} {error:?}").contains("needle"), "{error}");
    }
}

fn durations() -> impl Strategy<Value = Option<ProtoDuration>> {
    let odd = prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), -10..200_000i64];
    proptest::option::of((odd, any::<i32>()).prop_map(|(seconds, nanos)| ProtoDuration { seconds, nanos }))
}

proptest! {
    #[test]
    fn no_message_panics_and_what_is_accepted_obeys_the_rules(
        user_id in ".{0,300}",
        scopes in proptest::collection::vec(prop_oneof![0..6i32, any::<i32>()], 0..20),
        min_remaining in durations(),
        validity in durations(),
    ) {
        if let Ok(wish) = issue(v1::IssueTokenRequest { user_id, scopes: scopes.clone(), min_remaining, validity }) {
            let issued = wish.validity.unwrap_or(Validity::MAX).as_duration();
            prop_assert!(wish.min_remaining + MIN_REMAINING_MARGIN <= issued);
            prop_assert!((1..=16).contains(&scopes.len()) && scopes.iter().all(|scope| (1..=5).contains(scope)));
        }
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = v1::IssueTokenRequest::decode(bytes.as_slice()) {
            let _ = issue(request);
        }
        if let Ok(request) = v1::ImportIdentitiesRequest::decode(bytes.as_slice()) {
            let _ = import_entry(request);
        }
        if let Ok(request) = v1::GetIdentityRequest::decode(bytes.as_slice()) {
            let _ = identity_key(request);
        }
        if let Ok(request) = v1::ListIdentitiesRequest::decode(bytes.as_slice()) {
            let _ = page(&request);
        }
    }

    #[test]
    fn times_survive_the_round_trip(millis in 0..253_402_300_799_999u64) {
        let time = Timestamp::from_millis(millis);
        let back = Check::default().timestamp("t", Some(timestamp(time)));
        prop_assert_eq!(back, Some(Some(time)));
    }

    #[test]
    fn no_time_panics_and_all_are_within_protobufs_years(millis: u64, seconds: i64, nanos: i32) {
        let time = timestamp(Timestamp::from_millis(millis));
        prop_assert!((0..=MAX_TIMESTAMP_SECONDS).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos));
        let _ = Check::default().timestamp("t", Some(ProtoTimestamp { seconds, nanos }));
    }
}
