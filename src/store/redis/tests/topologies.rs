//! The contract of the ports on every kind of Redis there is.

use std::any::Any;
use std::sync::Arc;

use tempfile::TempDir;

use super::super::{Redis, Settings, Topology, opened};
use super::redis_server::{RedisCluster, RedisServer, Sentinel, wait_until};
use super::{chat, open_sealed, open_with, patient, record, token, user};
use crate::broker::ports::{IdentityStore as _, Inserted, TokenCache as _};
use crate::broker::types::CachedToken;
use crate::clock::{Clock as _, ManualClock, SystemClock};
use crate::secret::Secret;
use crate::store::contract::{Harness, Time, run_all};
use crate::store::seal::Vault;

/// The same Redis, with fair budgets by a clock that tests move.
pub(super) async fn simulated(settings: &Settings) -> (Arc<Redis>, Arc<ManualClock>) {
    simulated_with(settings, Vault::plain()).await
}

async fn simulated_with(settings: &Settings, vault: Vault) -> (Arc<Redis>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::at(SystemClock.now()));
    let mut redis = Arc::into_inner(open_sealed(settings, vault).await.unwrap()).unwrap();
    redis.budget_clock = Some(clock.clone());
    (Arc::new(redis), clock)
}

async fn suite(settings: &Settings, keep: impl Any + Send + Sync) {
    suite_with(settings, Vault::plain(), keep).await;
}

async fn suite_with(settings: &Settings, vault: Vault, keep: impl Any + Send + Sync) {
    let redis = open_sealed(settings, vault.clone()).await.unwrap();
    let (simulated, clock) = simulated_with(settings, vault).await;
    run_all(&Harness::new(opened(redis), Time::Real, keep).with_simulated(simulated, clock)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_single_node() {
    let server = RedisServer::start();
    suite(&patient(&server.url()), server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_on_a_single_node_where_all_is_sealed() {
    let server = RedisServer::start();
    suite_with(&patient(&server.url()), Vault::full(), server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_in_a_cluster_where_all_is_sealed() {
    let cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, ..patient(&cluster.url()) };
    suite_with(&settings, Vault::full(), cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_in_a_cluster_of_three_for_a_limited_user() {
    let mut cluster = RedisCluster::start();
    cluster.nodes.iter_mut().for_each(limited_user);
    let settings = Settings {
        topology: Topology::Cluster,
        username: "broker".into(),
        password: Secret::new("hunter2"),
        ..patient(&cluster.url())
    };
    suite(&settings, cluster).await;
}

fn sentinel_settings(servers: &Sentinel) -> Settings {
    Settings { topology: Topology::Sentinel, sentinel_master: "main".into(), ..patient(&servers.url()) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_behind_a_sentinel() {
    let servers = Sentinel::start();
    suite(&sentinel_settings(&servers), servers).await;
}

/// A user who may touch the broker's keys only, and run only what `docs/store-keys.md` lists.
pub(super) fn limited_user(server: &mut RedisServer) {
    let mut rule = vec!["ACL", "SETUSER", "broker", "on", ">hunter2"];
    let documented = include_str!("../../../../docs/store-keys.md");
    let line = documented.lines().find(|line| line.starts_with("ACL SETUSER")).expect("the rule in the docs");
    rule.extend(line.split_whitespace().skip_while(|word| !word.starts_with('~')));
    server.command::<()>(&rule);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_for_a_user_who_may_only_what_the_docs_list() {
    let mut server = RedisServer::start();
    limited_user(&mut server);
    let denied = |parts: &[&str]| {
        let url = format!("redis://broker:hunter2@127.0.0.1:{}", server.port());
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        redis::cmd(parts[0]).arg(&parts[1..]).exec(&mut connection).unwrap_err().code() == Some("NOPERM")
    };
    assert!(denied(&["GET", "other:1:key"]), "the rule does not limit the keys");
    assert!(denied(&["FLUSHALL"]), "the rule does not limit the commands");
    let settings =
        Settings { username: "broker".into(), password: Secret::new("hunter2"), ..patient(&server.url()) };
    suite(&settings, server).await;
}

/// A CA and a certificate for 127.0.0.1, in files.
fn certificates() -> TempDir {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let folder = TempDir::new().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().signed_by(&key, &ca).unwrap();
    std::fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
    std::fs::write(folder.path().join("server.pem"), server.pem()).unwrap();
    std::fs::write(folder.path().join("server.key"), key.serialize_pem()).unwrap();
    folder
}

/// A server that speaks TLS on another port than plain text, and that port.
pub(super) fn tls_server() -> (RedisServer, u16) {
    let folder = certificates();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (ca, certificate, key) = (file("ca.pem"), file("server.pem"), file("server.key"));
    let port = super::redis_server::free_port();
    let arguments = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &certificate,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]
    .map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    (RedisServer::start_in(folder, &arguments), port)
}

pub(super) fn tls_settings(server: &RedisServer, port: u16) -> Settings {
    let ca_file = server.folder().join("ca.pem").to_str().unwrap().to_owned();
    Settings { ca_file, ..patient(&format!("rediss://127.0.0.1:{port}")) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_contract_holds_over_tls() {
    let (server, port) = tls_server();
    suite(&tls_settings(&server, port), server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_the_sentinel_leads_to_the_new_primary_and_nothing_is_lost() {
    let mut servers = Sentinel::start();
    let redis = open_with(&sentinel_settings(&servers)).await.unwrap();
    for number in 0..20 {
        assert_eq!(redis.insert_if_absent(&user(number), &record(number)).await.unwrap(), Inserted::New);
    }
    servers.wait_until_replicated();
    servers.primary.kill();
    let began = std::time::Instant::now();
    let mut errors = 0;
    let found = loop {
        match redis.find(&user(0)).await {
            Ok(found) => break found,
            Err(_) => errors += 1,
        }
        assert!(began.elapsed().as_secs() < 20, "no new primary is found");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    println!("the new primary answers {:?} after the old was killed; {errors} errors", began.elapsed());
    assert_eq!(found, Some(record(0)));
    for number in 0..20 {
        assert_eq!(redis.find(&user(number)).await.unwrap(), Some(record(number)));
    }
    // It takes writes, and it is the other server.
    assert!(redis.put(&user(1), &chat(), &token(1)).await.unwrap());
    assert!(servers.replica.command::<String>(&["INFO", "replication"]).contains("role:master"));
    assert!(servers.replica.calls("evalsha") > 0 || servers.replica.calls("eval") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_moves_a_slot_is_followed() {
    let cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, ..patient(&cluster.url()) };
    let redis = open_with(&settings).await.unwrap();
    redis.insert_if_absent(&user(0), &record(0)).await.unwrap();
    let key = redis.keys.record(&super::name(0));
    let slot: u64 = cluster.nodes[0].command(&["CLUSTER", "KEYSLOT", &key]);
    let slot = slot.to_string();
    let ids: Vec<String> = cluster.nodes.iter().map(|node| node.command(&["CLUSTER", "MYID"])).collect();
    let has = |at: usize| cluster.nodes[at].command::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", &slot]) > 0;
    let from = (0..3).find(|&at| has(at)).unwrap();
    let to = (from + 1) % 3;
    // Half-way: keys move one by one, and the old node says ASK for what has left.
    cluster.nodes[to].command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[from]]);
    cluster.nodes[from].command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[to]]);
    assert_eq!(redis.find(&user(0)).await.unwrap(), Some(record(0)));
    let keys: Vec<String> = cluster.nodes[from].command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
    let port = cluster.nodes[to].port().to_string();
    for key in &keys {
        cluster.nodes[from].command::<()>(&["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }
    assert_eq!(redis.find(&user(0)).await.unwrap(), Some(record(0)));
    // Neither node may answer for several keys of which one is nowhere: an error, in time, and nothing is done.
    assert!(redis.put(&user(0), &chat(), &token(0)).await.is_err());
    // Done: the old node says MOVED.
    for node in [to, from] {
        cluster.nodes[node].command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &ids[to]]);
    }
    assert_eq!(redis.find(&user(0)).await.unwrap(), Some(record(0)));
    assert_eq!(
        redis.advance_generation(&user(0), &record(0).identity).await.unwrap(),
        Some(1),
        "a write follows too, and is done once"
    );
    let later = CachedToken { generation: 1, ..token(0) };
    assert!(redis.put(&user(0), &chat(), &later).await.unwrap());
    assert_eq!(redis.look_up(&user(0), &chat()).await.unwrap().token.unwrap().generation, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_loses_a_node_and_gets_it_back_is_whole_again() {
    let mut cluster = RedisCluster::start();
    let settings = Settings { topology: Topology::Cluster, ..patient(&cluster.url()) };
    let redis = open_with(&settings).await.unwrap();
    for number in 0..30 {
        redis.insert_if_absent(&user(number), &record(number)).await.unwrap();
    }
    cluster.nodes[1].kill();
    wait_until("the loss shows", || {
        cluster.nodes[0].command::<String>(&["CLUSTER", "INFO"]).contains("cluster_state:fail")
    });
    let mut errors = 0;
    for number in 0..30 {
        match redis.find(&user(number)).await {
            Ok(found) => assert_eq!(found, Some(record(number)), "a wrong answer"),
            Err(_) => errors += 1,
        }
    }
    assert!(errors > 0, "nobody noticed the loss");
    cluster.nodes[1].restart();
    cluster.wait_until_whole();
    let began = std::time::Instant::now();
    for number in 0..30 {
        while redis.find(&user(number)).await.is_err() {
            assert!(began.elapsed().as_secs() < 5, "still errors long after the Cluster is whole");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(redis.find(&user(number)).await.unwrap(), Some(record(number)));
    }
    println!("the whole Cluster is used {:?} after it was whole", began.elapsed());
}
