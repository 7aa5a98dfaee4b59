//! ImportIdentities: what is counted, what is reported, and what ends it.

use acs_broker::grpc::proto::v1;
use tonic::{Code, Request};

use crate::harness::{Server, refused, start_default};
use crate::ports::insert;

fn entry(user: &str, identity: &str, validate_only: bool) -> v1::ImportIdentitiesRequest {
    let identity = v1::Identity { user_id: user.into(), acs_user_id: identity.into(), create_time: None };
    v1::ImportIdentitiesRequest { identity: Some(identity), validate_only }
}

async fn import(server: &Server, entries: Vec<v1::ImportIdentitiesRequest>) -> v1::ImportIdentitiesResponse {
    let mut request = Request::new(futures_util::stream::iter(entries));
    request.set_timeout(std::time::Duration::from_secs(60));
    server.identities().await.import_identities(request).await.unwrap().into_inner()
}

fn counts(response: &v1::ImportIdentitiesResponse) -> (i64, i64, i64) {
    (response.imported_count, response.unchanged_count, response.rejected_count)
}

fn problems(response: &v1::ImportIdentitiesResponse) -> Vec<(i64, &str)> {
    response.problems.iter().map(|problem| (problem.index, problem.reason.as_str())).collect()
}

/// New, equal, contradicting either way, and invalid entries, some of them against what is stored.
fn mixture(validate_only: bool) -> Vec<v1::ImportIdentitiesRequest> {
    [
        ("a", "8:acs:r_a"),
        ("a", "8:acs:r_a"),      // equal to an earlier one
        ("a", "8:acs:r_other"),  // same user, other identity
        ("b", "8:acs:r_a"),      // same identity, other user
        ("b", "8:acs:r_b"),      // the rejected entry above must not stand in the way
        ("", "8:acs:r_c"),       // no user
        ("stored", "8:acs:r_s"), // equal to what is stored
        ("stored", "8:acs:r_t"), // contradicts what is stored
        ("c", "8:acs:r_s"),      // likewise, from the other side
        ("c", "8:acs:r_other"),
    ]
    .map(|(user, identity)| entry(user, identity, validate_only))
    .to_vec()
}

const REJECTED: [(i64, &str); 5] = [
    (2, "IDENTITY_ALREADY_LINKED"),
    (3, "IDENTITY_ALREADY_LINKED"),
    (5, "INVALID_FIELD"),
    (7, "IDENTITY_ALREADY_LINKED"),
    (8, "IDENTITY_ALREADY_LINKED"),
];

#[tokio::test]
async fn duplicates_are_unchanged_and_contradictions_rejected() {
    let server = start_default().await;
    insert(&server.store, "stored", "8:acs:r_s").await;
    let response = import(&server, mixture(false)).await;
    assert_eq!(counts(&response), (3, 2, 5));
    assert_eq!(problems(&response), REJECTED);
    assert!(response.problems[2].message.contains("identity.user_id"));
    assert_eq!(server.store.users(), 4);
    let again = import(&server, mixture(false)).await;
    assert_eq!(counts(&again), (0, 5, 5));
}

#[tokio::test]
async fn validate_only_finds_the_same_and_changes_nothing() {
    let server = start_default().await;
    insert(&server.store, "stored", "8:acs:r_s").await;
    let response = import(&server, mixture(true)).await;
    assert_eq!(counts(&response), (3, 2, 5));
    assert_eq!(problems(&response), REJECTED);
    assert_eq!(server.store.users(), 1);
}

#[tokio::test]
async fn the_first_hundred_problems_are_listed_and_all_counted() {
    let server = start_default().await;
    let entries = (0..1_000).map(|_| entry("", "8:acs:r_a", false)).collect();
    let response = import(&server, entries).await;
    assert_eq!((response.rejected_count, response.problems.len()), (1_000, 100));
    assert_eq!(response.problems[99].index, 99);
}

#[tokio::test]
async fn many_entries_keep_their_order_and_times() {
    let server = start_default().await;
    let mut entries = Vec::new();
    for number in 0..3_000 {
        let mut entry = entry(&format!("user-{number}"), &format!("8:acs:r_{number}"), false);
        let time = prost_types::Timestamp { seconds: number, nanos: 5_000_000 };
        entry.identity.as_mut().unwrap().create_time = Some(time);
        entries.push(entry);
        if number % 100 == 0 {
            entries.push(self::entry(&format!("user-{number}"), "8:acs:r_elsewhere", false));
        }
    }
    let response = import(&server, entries).await;
    assert_eq!(counts(&response), (3_000, 0, 30));
    let indexes: Vec<_> = response.problems.iter().map(|problem| problem.index).collect();
    assert_eq!(indexes, (0..30).map(|number| number * 101 + 1).collect::<Vec<_>>());
    let key = Some(v1::get_identity_request::Key::UserId("user-1234".into()));
    let found = server.identities().await.get_identity(v1::GetIdentityRequest { key }).await.unwrap();
    let time = found.into_inner().identity.unwrap().create_time.unwrap();
    assert_eq!((time.seconds, time.nanos), (1234, 5_000_000));
}

#[tokio::test]
async fn a_store_that_goes_away_in_the_middle_is_an_error_and_the_import_can_be_repeated() {
    let server = start_default().await;
    server.store.fail_after(500);
    let entries =
        || futures_util::stream::iter((0..1_000).map(|n| entry(&format!("u{n}"), &format!("i{n}"), false)));
    let status = server.identities().await.import_identities(entries()).await.unwrap_err();
    refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert_eq!(server.store.users(), 500);
    server.store.fail_after(usize::MAX);
    let response = server.identities().await.import_identities(entries()).await.unwrap().into_inner();
    assert_eq!(counts(&response), (500, 500, 0));
}

#[tokio::test]
async fn an_empty_import_counts_nothing() {
    let server = start_default().await;
    assert_eq!(import(&server, Vec::new()).await, v1::ImportIdentitiesResponse::default());
}
