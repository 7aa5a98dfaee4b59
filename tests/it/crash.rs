//! A broker on the embedded file is killed under write load: what it acknowledged is there when it comes back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use acs_broker::grpc::proto::v1;
use rand::RngExt;

use crate::harness::{BrokerProcess, emulator_process};

const KILLS: usize = 50;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_kills_under_write_load_lose_no_acknowledged_mapping() {
    let emulator = emulator_process().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store.redb").to_string_lossy().into_owned();
    let settings = [("STORE__EMBEDDED__PATH", path.as_str())];
    let mut broker = BrokerProcess::start(&emulator.connection_string, &settings).await;
    let acknowledged = Arc::new(Mutex::new(BTreeMap::new()));
    for kill in 0..KILLS {
        let mut workers = Vec::new();
        for worker in 0..8 {
            let (mut identities, acknowledged) = (broker.identities().await, acknowledged.clone());
            workers.push(tokio::spawn(async move {
                for number in 0.. {
                    let user_id = format!("user-{kill}-{worker}-{number}");
                    let request = v1::ResolveIdentityRequest { user_id: user_id.clone() };
                    let Ok(answer) = identities.resolve_identity(request).await else { return };
                    let identity = answer.into_inner().identity.unwrap().acs_user_id;
                    acknowledged.lock().unwrap().insert(user_id, identity);
                }
            }));
        }
        let until_the_kill = rand::rng().random_range(20..200);
        tokio::time::sleep(Duration::from_millis(until_the_kill)).await;
        broker.kill();
        for worker in workers {
            worker.await.unwrap();
        }
        broker.restart().await;
    }
    let acknowledged = acknowledged.lock().unwrap().clone();
    println!("{KILLS} kills, {} mappings acknowledged", acknowledged.len());
    assert!(acknowledged.len() > KILLS, "there was load");
    let mut stored = BTreeMap::new();
    let mut identities = broker.identities().await;
    let mut page_token = String::new();
    loop {
        let request = v1::ListIdentitiesRequest { page_size: 1000, page_token };
        let page = identities.list_identities(request).await.unwrap().into_inner();
        stored.extend(page.identities.into_iter().map(|entry| (entry.user_id, entry.acs_user_id)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    for (user, identity) in acknowledged {
        assert_eq!(stored.get(&user), Some(&identity), "{user}");
    }
}
