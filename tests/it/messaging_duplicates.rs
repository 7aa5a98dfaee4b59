//! Callers who lose their request ids and ask with new ones, through every replica at once: with the guard on, the same
//! content goes out once.

use std::collections::BTreeSet;

use acs_broker::grpc::proto::v1;
use serde_json::json;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::emulator_with;
use crate::harness::messages::{Clients, Fleet, mail, new_id, reason, recipient, sms};

const CONTENTS: usize = 60;
const TIMES: usize = 6;
const GUARD: &[(&str, &str)] = &[("MESSAGES__DUPLICATES_WITHIN", "1h")];

/// The message that a refusal names.
fn earlier(status: &Status) -> String {
    assert_eq!((status.code(), reason(status).as_str()), (Code::AlreadyExists, "DUPLICATE_CONTENT"));
    status.get_error_details().error_info().unwrap().metadata["earlier_message_id"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_the_same_content_sent_through_two_replicas_at_once_one_arrives_and_the_others_name_it() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let fleet = Fleet::start(&emulator, 2, GUARD).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let mut all = tokio::task::JoinSet::new();
    for number in 0..CONTENTS {
        let clients = clients.clone();
        all.spawn(async move {
            let mut sends = tokio::task::JoinSet::new();
            for time in 0..TIMES {
                let mut client = clients[(number + time) % 2].clone();
                sends.spawn(async move {
                    if number % 2 == 0 {
                        let wish = sms(&new_id(), vec![recipient(number)], "the same");
                        client.sms.send_sms(wish).await.map(|answer| answer.into_inner().sms_id)
                    } else {
                        let wish = mail(&new_id(), &format!("reader-{number}@example.com"), "the same");
                        client.email.send_email(wish).await.map(|answer| answer.into_inner().email_id)
                    }
                });
            }
            let (sent, refused): (Vec<_>, Vec<_>) =
                sends.join_all().await.into_iter().partition(Result::is_ok);
            let sent: Vec<_> = sent.into_iter().map(Result::unwrap).collect();
            let named: BTreeSet<_> = refused.iter().map(|one| earlier(one.as_ref().unwrap_err())).collect();
            assert_eq!((sent.len(), refused.len()), (1, TIMES - 1));
            assert_eq!(named.into_iter().collect::<Vec<_>>(), sent, "the others name the one that was sent");
        });
    }
    all.join_all().await;
    let counts = emulator.api().status().await["counts"].clone();
    println!("{CONTENTS} contents, each {TIMES} times at once through 2 replicas: at ACS {counts}");
    assert_eq!((&counts["sms"], &counts["email"]), (&json!(CONTENTS / 2), &json!(CONTENTS / 2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_failed_at_acs_may_be_sent_anew_through_another_replica() {
    let emulator = emulator_with(&[("TELEMETRY__FILTER", "warn")]).await;
    let fleet = Fleet::start(&emulator, 2, GUARD).await;
    let clients: Vec<_> = fleet.brokers.iter().map(Clients::of).collect();
    let wish = || sms(&new_id(), vec![recipient(1)], "anew");
    // ACS refuses the first one as a whole; of the second one the answer is lost.
    for (fault, expected) in [
        (json!({ "operation": "send_sms", "effect": "answer", "status": 400, "count": 1 }), "ACS_REJECTED"),
        (
            json!({ "operation": "send_sms", "effect": "drop", "commit": "after", "count": 100 }),
            "OUTCOME_UNKNOWN",
        ),
    ] {
        emulator.api().fault(fault).await;
        let failed = clients[0].sms.clone().send_sms(wish()).await.unwrap_err();
        assert_eq!(reason(&failed), expected);
        emulator.api().clear_faults(None).await;
    }
    let blocked = clients[1].sms.clone().send_sms(wish()).await.unwrap_err();
    let name = Some(v1::get_sms_request::Name::SmsId(earlier(&blocked)));
    let seen = clients[1].sms.clone().get_sms(v1::GetSmsRequest { name }).await.unwrap().into_inner();
    assert_eq!(seen.outcomes[0].state(), v1::MessageState::Unknown, "it may have arrived");
    assert_eq!(emulator.api().status().await["counts"]["sms"], 1);
}
