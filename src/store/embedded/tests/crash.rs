//! `kill -9` while mappings are written: what was acknowledged is there afterwards, and the file opens by itself.
//!
//! The writer is this test binary again, told by its environment to be the writer; it prints each acknowledged mapping.
//! Its exit is never waited for: it is killed at a random moment.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::*;
use crate::broker::types::{AccessToken, CachedToken, KeyId, Scope, ScopeSet, TokenKey, Validity};
use crate::clock::{Clock, SystemClock};
use crate::secret::Secret;

const THIS_TEST: &str = "store::embedded::tests::crash::no_acknowledged_mapping_is_lost_by_kill_9";
/// The folder of the store, given to the writer and to nobody else.
const FOLDER: &str = "ACS_BROKER_TEST_CRASH_FOLDER";
const ROUNDS: usize = 20;

fn chat() -> TokenKey {
    TokenKey { scopes: ScopeSet::new([Scope::Chat]).unwrap(), validity: Validity::MAX }
}

async fn write_until_killed(folder: &str) {
    let settings = Settings { path: std::path::Path::new(folder).join("broker.redb") };
    let stores = open(&settings, Vault::plain(), Arc::new(SystemClock), Metrics::new()).unwrap().core;
    println!("opened");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..16 {
        let stores = stores.clone();
        tasks.spawn(async move {
            for number in 0.. {
                let name = format!("{}-{task}-{number}", std::process::id());
                insert(&stores, &name, &name).await;
                println!("stored {name}");
                let now = SystemClock.now();
                let token = CachedToken {
                    identity: IdentityId::parse(&name).unwrap(),
                    generation: 0,
                    token: AccessToken {
                        secret: Secret::new("t".repeat(1100)),
                        issued_at: now,
                        expires_at: now.plus(Duration::from_millis(500)),
                        key: KeyId([0; 8]),
                    },
                };
                let user = UserId::parse(&name).unwrap();
                stores.tokens.put(&user, &chat(), &token).await.unwrap();
                if number % 3 == 0 {
                    stores.identities.advance_generation(&user, &token.identity).await.unwrap();
                    println!("revoked {name}");
                }
                if number % 5 == 0 {
                    println!("removing {name}");
                    stores.identities.remove(&user, &token.identity).await.unwrap();
                    println!("removed {name}");
                }
            }
        });
    }
    tasks.join_all().await;
}

#[derive(Default)]
struct Acknowledged {
    stored: std::collections::BTreeSet<String>,
    revoked: std::collections::BTreeSet<String>,
    removing: std::collections::BTreeSet<String>,
    removed: std::collections::BTreeSet<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::disallowed_methods, reason = "how a test tells its own child process what to do")]
async fn no_acknowledged_mapping_is_lost_by_kill_9() {
    if let Ok(folder) = std::env::var(FOLDER) {
        return write_until_killed(&folder).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut known = Acknowledged::default();
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS_TEST, "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        // The test harness prints before it, on the same line.
        assert!(lines.any(|line| line.ends_with("opened")), "round {round}: the store did not open again");
        // Killed after a random number of answers, which is any moment for the writers.
        let answers = rand::random_range(1..400);
        let mut heard: Vec<String> = lines.by_ref().take(answers).collect();
        assert_eq!(heard.len(), answers, "round {round}: the writer ended by itself");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died; the last line may be cut.
        heard.extend(lines);
        for line in heard {
            let Some((what, name)) = line.split_once(' ') else { continue };
            match what {
                "stored" => known.stored.insert(name.into()),
                "revoked" => known.revoked.insert(name.into()),
                "removing" => known.removing.insert(name.into()),
                "removed" => known.removed.insert(name.into()),
                _ => continue,
            };
        }
        let stores = open(&settings(&folder), Vault::plain(), clock(), Metrics::new()).unwrap().core;
        assert_nothing_lost(&stores, &known, round).await;
    }
    assert!(known.stored.len() > ROUNDS, "hardly anything was written");
}

async fn assert_nothing_lost(stores: &Stores, known: &Acknowledged, round: usize) {
    for name in &known.stored {
        let found = find(stores, name).await;
        if known.removed.contains(name) {
            assert_eq!(found, None, "round {round}: {name} is back");
        } else if !known.removing.contains(name) {
            let found = found.unwrap_or_else(|| panic!("round {round}: {name} is lost"));
            assert_eq!(found.identity.as_str(), name);
            assert!(
                found.generation == 1 || !known.revoked.contains(name),
                "round {round}: {name} not revoked"
            );
            let user = UserId::parse(name).unwrap();
            let back = stores.identities.find_user(&found.identity).await.unwrap();
            assert_eq!(back, Some((user.clone(), found.clone())));
            let snapshot = stores.tokens.look_up(&user, &chat()).await.unwrap();
            assert!(snapshot.token.is_none_or(|token| token.generation == found.generation));
        }
    }
}
