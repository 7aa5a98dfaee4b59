//! Three broker processes on one Redis: one identity and one call upstream, however many ask at once.

use std::collections::BTreeSet;

use acs_broker::grpc::proto::v1;

use crate::harness::{BrokerProcess, chat, emulator_process, until};
use crate::redis_server::RedisServer;

const ROUNDS: usize = 100;
const CALLS: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_make_one_identity_with_one_upstream_call_over_100_rounds() {
    let redis = RedisServer::start();
    let emulator = emulator_process().await;
    let mut brokers = Vec::new();
    for _ in 0..3 {
        // Two hundred calls at once on a machine that also compiles: here counts matter, and not the time for them.
        let settings = [
            ("STORE__BACKEND", "redis"),
            ("STORE__REDIS__URL", &redis.url()),
            ("STORE__REDIS__TIMEOUT", "5s"),
        ];
        brokers.push(BrokerProcess::start(&emulator.connection_string, &settings).await);
    }
    let mut clients = Vec::new();
    for broker in &brokers {
        clients.push(broker.tokens().await);
    }
    let mut mapped = BTreeSet::new();
    for round in 0..ROUNDS {
        let user = format!("user-{round}");
        let calls: Vec<_> = (0..CALLS)
            .map(|number| {
                let (mut client, request) = (clients[number % 3].clone(), chat(&user));
                tokio::spawn(async move { client.issue_token(request).await.unwrap().into_inner() })
            })
            .collect();
        let (mut named, mut tokens) = (BTreeSet::new(), BTreeSet::new());
        for call in calls {
            let answer = call.await.unwrap();
            named.insert(answer.acs_user_id);
            tokens.insert(answer.token);
        }
        assert_eq!((named.len(), tokens.len()), (1, 1), "round {round}: identities and tokens named");
        let mut identities = brokers[round % 3].identities().await;
        let key = Some(v1::get_identity_request::Key::UserId(user));
        let stored = identities.get_identity(v1::GetIdentityRequest { key }).await.unwrap().into_inner();
        assert_eq!(named.first(), Some(&stored.identity.unwrap().acs_user_id), "round {round}");
        mapped.extend(named);
    }
    assert_eq!(mapped.len(), ROUNDS);
    // Surplus identities, if there were any, would be deleted behind the callers' backs.
    until("only the mapped identities are alive", async || {
        emulator.control("identities").await["alive"] == ROUNDS
    })
    .await;
    let calls = emulator.control("calls").await;
    println!("{ROUNDS} rounds of {CALLS} calls over 3 processes: {calls}");
    let count = |operation: &str| calls[operation].as_u64().unwrap_or(0);
    assert_eq!((count("create_identity"), count("issue_token")), (ROUNDS as u64, 0), "{calls}");
    assert_eq!(count("delete_identity"), 0, "nothing was made in vain");
}
