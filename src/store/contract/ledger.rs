//! The rules of `OutcomeLedger`.

use super::*;
use crate::broker::ports::{Begun, LedgerKey};

const DIGEST: [u8; 32] = [1; 32];
const OTHER: [u8; 32] = [2; 32];

fn request(h: &Harness) -> LedgerKey {
    LedgerKey { caller: "orders".into(), operation: "RevokeTokens", request_id: h.name("request") }
}

async fn begin(h: &Harness, key: &LedgerKey, digest: &[u8; 32]) -> Begun {
    h.stores.ledger.begin(key, digest, LONG).await.unwrap()
}

async fn finish(h: &Harness, key: &LedgerKey, digest: &[u8; 32], outcome: &[u8]) {
    h.stores.ledger.finish(key, digest, outcome, HOUR).await.unwrap();
}

fn in_progress(begun: &Begun) -> bool {
    matches!(begun, Begun::InProgress(wait) if *wait > Duration::ZERO && *wait <= LONG)
}

pub(crate) async fn a_request_is_started_once_and_in_progress_for_the_others(h: &Harness) {
    let key = request(h);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    for _ in 0..2 {
        let again = begin(h, &key, &DIGEST).await;
        assert!(in_progress(&again), "{again:?}");
    }
}

pub(crate) async fn of_100_concurrent_beginners_one_starts(h: &Harness) {
    let key = request(h);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (stores, key) = (h.stores.clone(), key.clone());
        tasks.spawn(async move { stores.ledger.begin(&key, &DIGEST, LONG).await.unwrap() });
    }
    let begun = tasks.join_all().await;
    assert_eq!(begun.iter().filter(|begun| **begun == Begun::Started).count(), 1);
    assert_eq!(begun.iter().filter(|begun| in_progress(begun)).count(), 99);
}

pub(crate) async fn another_digest_is_reuse_before_and_after_the_end(h: &Harness) {
    let key = request(h);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    assert_eq!(begin(h, &key, &OTHER).await, Begun::Reused);
    // The one that was refused can neither give the reservation back nor end it.
    h.stores.ledger.abandon(&key, &OTHER).await.unwrap();
    assert!(in_progress(&begin(h, &key, &DIGEST).await));
    finish(h, &key, &OTHER, b"not mine").await;
    assert!(in_progress(&begin(h, &key, &DIGEST).await));
    finish(h, &key, &DIGEST, b"done").await;
    assert_eq!(begin(h, &key, &OTHER).await, Begun::Reused);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Finished(b"done".to_vec()));
}

pub(crate) async fn a_finished_request_answers_with_its_outcome(h: &Harness) {
    for outcome in [&b"done"[..], b"", b"\0\xff\r\n", &[7; 5000]] {
        let key = request(h);
        assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
        finish(h, &key, &DIGEST, outcome).await;
        for _ in 0..2 {
            assert_eq!(begin(h, &key, &DIGEST).await, Begun::Finished(outcome.to_vec()));
        }
    }
}

pub(crate) async fn an_abandoned_request_can_be_started_again(h: &Harness) {
    let key = request(h);
    // Abandoning what was never begun does nothing.
    h.stores.ledger.abandon(&key, &DIGEST).await.unwrap();
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    h.stores.ledger.abandon(&key, &DIGEST).await.unwrap();
    assert_eq!(begin(h, &key, &OTHER).await, Begun::Started);
}

pub(crate) async fn a_finished_request_stays_finished_when_abandoned(h: &Harness) {
    let key = request(h);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    finish(h, &key, &DIGEST, b"done").await;
    h.stores.ledger.abandon(&key, &DIGEST).await.unwrap();
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Finished(b"done".to_vec()));
}

pub(crate) async fn the_first_outcome_stays(h: &Harness) {
    let key = request(h);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    finish(h, &key, &DIGEST, b"first").await;
    finish(h, &key, &DIGEST, b"second").await;
    finish(h, &key, &OTHER, b"third").await;
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Finished(b"first".to_vec()));
}

pub(crate) async fn an_unfinished_reservation_lapses(h: &Harness) {
    let key = request(h);
    let began = h.now();
    assert_eq!(h.stores.ledger.begin(&key, &DIGEST, SHORT).await.unwrap(), Begun::Started);
    h.elapse(SHORT);
    // Even another request may have the id then.
    h.until("the reservation lapses", || async {
        h.stores.ledger.begin(&key, &OTHER, LONG).await.unwrap() == Begun::Started
    })
    .await;
    // Half a tick of tolerance: a store may count in whole milliseconds from its own start of one.
    assert!(h.now().since(began) + Duration::from_millis(2) >= SHORT, "lapsed before its time");
    assert!(in_progress(&begin(h, &key, &OTHER).await));
}

pub(crate) async fn an_outcome_is_recorded_after_the_reservation_lapsed(h: &Harness) {
    let key = request(h);
    assert_eq!(h.stores.ledger.begin(&key, &DIGEST, SHORT).await.unwrap(), Begun::Started);
    let probe = request(h);
    assert_eq!(h.stores.ledger.begin(&probe, &DIGEST, SHORT).await.unwrap(), Begun::Started);
    h.elapse(SHORT);
    // The probe was reserved later, so when it has lapsed the other has too.
    h.until("the reservation lapses", || async { begin(h, &probe, &DIGEST).await == Begun::Started }).await;
    finish(h, &key, &DIGEST, b"late").await;
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Finished(b"late".to_vec()));
    assert_eq!(begin(h, &key, &OTHER).await, Begun::Reused);
}

pub(crate) async fn an_outcome_is_forgotten_after_its_time(h: &Harness) {
    let (key, kept) = (request(h), request(h));
    for key in [&key, &kept] {
        assert_eq!(begin(h, key, &DIGEST).await, Begun::Started);
    }
    finish(h, &kept, &DIGEST, b"kept").await;
    h.stores.ledger.finish(&key, &DIGEST, b"brief", SHORT).await.unwrap();
    h.elapse(SHORT);
    h.until("the outcome is forgotten", || async { begin(h, &key, &DIGEST).await == Begun::Started }).await;
    assert_eq!(begin(h, &kept, &DIGEST).await, Begun::Finished(b"kept".to_vec()));
}

pub(crate) async fn names_with_odd_parts_stay_apart(h: &Harness) {
    let stem = h.name("");
    let mut keys = vec![
        LedgerKey { caller: "a:b".into(), operation: "Op", request_id: format!("c{stem}") },
        LedgerKey { caller: "a".into(), operation: "Op", request_id: format!("b:c{stem}") },
        LedgerKey { caller: "a:b".into(), operation: "Op2", request_id: format!("c{stem}") },
        LedgerKey { caller: "a".into(), operation: "b:Op", request_id: format!("c{stem}") },
        LedgerKey { caller: String::new(), operation: "Op", request_id: format!("a:b:c{stem}") },
        LedgerKey { caller: "a".into(), operation: "Op", request_id: "r".repeat(1 << 20) + &stem },
        LedgerKey { caller: "a".into(), operation: "Op", request_id: "r".repeat((1 << 20) - 1) + &stem },
    ];
    for name in odd_names() {
        keys.push(LedgerKey { caller: name.clone(), operation: "Op", request_id: stem.clone() });
        keys.push(LedgerKey { caller: stem.clone(), operation: "Op", request_id: name });
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(begin(h, key, &DIGEST).await, Begun::Started, "{number}");
        finish(h, key, &DIGEST, number.to_string().as_bytes()).await;
    }
    for (number, key) in keys.iter().enumerate() {
        assert_eq!(begin(h, key, &DIGEST).await, Begun::Finished(number.to_string().into_bytes()));
    }
}

pub(crate) async fn an_outcome_of_1_mib_is_kept_whole(h: &Harness) {
    let (key, outcome) = (request(h), vec![0xa5; 1 << 20]);
    assert_eq!(begin(h, &key, &DIGEST).await, Begun::Started);
    finish(h, &key, &DIGEST, &outcome).await;
    assert!(begin(h, &key, &DIGEST).await == Begun::Finished(outcome));
}
