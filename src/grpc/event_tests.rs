//! A watch by itself: what is told of a change of the policy in the instant in which it comes. The service as watchers meet
//! it is tested on the server.

use http::HeaderMap;

use super::*;
use crate::auth::{Credentials, Gate, Peer};
use crate::broker::policy::{Permissions, Rpc, Rules};
use crate::broker::types::Caller;
use crate::clock::{Clock, SystemClock};
use crate::grpc::server::tests::Unreached;
use crate::messaging::testing::{Death, Replica, World};
use crate::messaging::{Event, Happened};

/// A watch with so many events ahead, of a watcher who may see them all and for whom so many fit into the queue.
async fn watching(ahead: u32, room: usize) -> (Teller, Watch, mpsc::Receiver<WatchEventsResponse>) {
    let (clock, metrics) = (Arc::new(SystemClock), Metrics::new());
    let stores = crate::store::memory(Arc::clone(&clock) as _).core;
    let settings = crate::broker::Settings::default();
    let broker = Broker::new(settings, Arc::new(Unreached), stores, Arc::clone(&clock) as _, metrics);
    let messaging = Replica::start(&World::new(), crate::messaging::Settings::default(), Death::Never).0;
    let watch = messaging.watch(None, Vec::new()).await.unwrap();
    for number in 1..=ahead {
        let [from, to] = ["+14255550120", "+18005550100"].map(str::to_owned);
        let happened = Happened::SmsReceived { upstream_id: number.to_string(), from, to, text: "x".into() };
        let event =
            Event { id: format!("e{number}"), at: clock.now(), message: None, caller: None, happened };
        assert!(messaging.take_in(event).await.unwrap());
    }
    let permissions = Arc::new(Permissions::new(Rules::everything(), Vec::new()));
    let (caller, peer, headers) = (Caller::allowed("shop", permissions), Peer::default(), HeaderMap::new());
    let credentials = Credentials { peer: &peer, headers: &headers };
    let permit = Permit::enter(&Gate::shut(), &credentials, &caller, Rpc::WatchEvents, None).await;
    let sight = permit.unwrap().events();
    let (events, taken) = mpsc::channel(room);
    let (trail, stopping) = (Trail::default(), CancellationToken::new());
    (Teller { broker, sight, trail, told: 0, names: HashMap::new(), events, stopping }, watch, taken)
}

#[tokio::test]
async fn what_was_found_under_the_old_policy_is_not_told_under_the_new_one() {
    let (mut teller, watch, mut taken) = watching(6, 1).await;
    let replaced = teller.sight.caller().permissions().replaced().clone();
    let telling = tokio::spawn(async move { teller.tell(watch).await });
    // One is ready, one is judged and waits for room, and four were found with them.
    let is_ready = async {
        while taken.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), is_ready).await.expect("an event");
    replaced.cancel();
    let mut told = 0;
    while taken.recv().await.is_some() {
        told += 1;
    }
    assert_eq!(told, 2, "those that were judged before the change, and no other");
    assert_eq!(telling.await.unwrap().unwrap_err().reason(), "POLICY_CHANGED");
}
