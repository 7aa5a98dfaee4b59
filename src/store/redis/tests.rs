//! The Redis backend against real servers: the contract on every topology, and how many commands things cost.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::broker::types::*;
use crate::clock::SystemClock;
use crate::store::contract::{Harness, Time, run_all};

#[path = "../../../tests/support/redis_server.rs"]
mod redis_server;

use redis_server::{RedisCluster, RedisServer, Sentinel};

/// Settings for tests: patient, for the machine may be busy with other tests.
fn patient(url: &str) -> Settings {
    Settings { url: Secret::new(url), timeout: Duration::from_secs(5), ..Settings::default() }
}

async fn open_with(settings: &Settings) -> Result<Arc<Redis>, OpenError> {
    start(settings, Arc::new(SystemClock), Metrics::new()).await
}

async fn suite(settings: &Settings, keep: impl std::any::Any + Send + Sync) {
    let redis = open_with(settings).await.unwrap();
    run_all(&Harness::new(stores(redis), Time::Real, keep)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_single_node() {
    let server = RedisServer::start();
    suite(&patient(&server.url()), server).await;
}
