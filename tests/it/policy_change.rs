//! The policy changes while callers call: whoever asks after a change gets what the new policy says, whoever asked
//! before it what the old one said, and a file with a mistake changes nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use acs_broker::auth::policy::{self, Policy};
use acs_broker::metrics::Metrics;
use acs_broker::reload::{self, Reloadable};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::harness::proof::{by, gate};
use crate::harness::{Rig, Wish, chat, until};

/// A caller of tokens.
fn caller(name: &str, rpcs: &str) -> String {
    format!(
        "[[callers]]\nname = \"{name}\"\nmatch = [{{ mesh = \"{name}\" }}]\nrpcs = [{rpcs}]\nscopes = [\"chat\"]\n\
         user_prefixes = [\"shop:\"]\n"
    )
}

const ISSUE: &str = "\"TokenService/IssueToken\"";

fn odd() -> String {
    caller("a", ISSUE) + &caller("b", "") + &caller("c", ISSUE)
}

fn even() -> String {
    caller("a", "") + &caller("b", ISSUE)
}

/// What a version of the policy says; the first one is odd.
fn expected(version: usize, caller: &str) -> Code {
    match (caller, version % 2 == 1) {
        ("a" | "c", true) | ("b", false) => Code::Ok,
        ("c", false) => Code::Unauthenticated,
        _ => Code::PermissionDenied,
    }
}

/// Counts the versions that are in force.
struct Counted {
    policy: Arc<Policy>,
    loaded: AtomicUsize,
}

impl Reloadable for Counted {
    fn name(&self) -> &'static str {
        "policy"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.policy.files()
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        self.policy.reload(contents)?;
        self.loaded.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

#[derive(Default)]
struct Tally {
    judged: AtomicUsize,
    either: AtomicUsize,
    wrong: AtomicUsize,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_changes_under_load_gives_no_wrong_answer() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let write = |text: &str| {
        let draft = folder.path().join("draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, &path).unwrap();
    };
    write(&odd());
    let file = policy::read(&path).unwrap();
    let policy = Policy::new(&path, &file, None, Box::new(|_| Ok(())));
    let rig = Arc::new(Rig::start(Wish { gate: gate(policy.clone()), ..Wish::default() }).await);
    let counted = Arc::new(Counted { policy, loaded: AtomicUsize::new(0) });
    let (metrics, stop) = (Metrics::new(), CancellationToken::new());
    let following = tokio::spawn(reload::follow(vec![counted.clone()], metrics.clone(), stop.clone()));
    let loaded = || counted.loaded.load(Ordering::SeqCst);
    until("the first look", async || loaded() == 1).await;

    // A version cannot be in force before it is written, and is from when it is loaded.
    let written = Arc::new(AtomicUsize::new(1));
    let tally = Arc::new(Tally::default());
    let callers: Vec<_> = (0..6)
        .map(|worker| {
            let (rig, counted, written) = (rig.clone(), counted.clone(), written.clone());
            let (tally, stop) = (tally.clone(), stop.clone());
            tokio::spawn(async move {
                let mut turn = worker;
                while !stop.is_cancelled() {
                    turn += 1;
                    let name = ["a", "b", "c"][turn % 3];
                    let from = counted.loaded.load(Ordering::SeqCst);
                    let answer = rig.tokens().issue_token(by(&format!("mesh={name}"), chat("shop:1"))).await;
                    let to = written.load(Ordering::SeqCst);
                    let got = answer.map_or_else(|status| status.code(), |_| Code::Ok);
                    if !(from..=to).any(|version| expected(version, name) == got) {
                        tally.wrong.fetch_add(1, Ordering::SeqCst);
                    }
                    let counter = if from == to { &tally.judged } else { &tally.either };
                    counter.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();

    let mut asked = 0;
    for version in 2..=7 {
        // Under this version alone, so that its answers have nothing to hide behind.
        asked += 300;
        until("calls", async || tally.judged.load(Ordering::SeqCst) >= asked).await;
        write("[[callers]]\nname = \"a\"\nrpcs = [\"*\"]\n# a mistake: nobody is this caller\n");
        let failed = "acs_broker_reload_failed{what=\"policy\"} 1";
        until("the mistake is told", async || metrics.render().contains(failed)).await;
        asked = tally.judged.load(Ordering::SeqCst) + 300;
        until("calls after the mistake", async || tally.judged.load(Ordering::SeqCst) >= asked).await;
        written.store(version, Ordering::SeqCst);
        write(&if version % 2 == 1 { odd() } else { even() });
        until("the change", async || loaded() == version).await;
        asked = tally.judged.load(Ordering::SeqCst);
    }
    let end = asked + 300;
    until("calls after the last change", async || tally.judged.load(Ordering::SeqCst) >= end).await;
    tokio::time::sleep(Duration::from_millis(1)).await;
    stop.cancel();
    for one in callers {
        one.await.unwrap();
    }
    following.await.unwrap();
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    println!(
        "{} calls under one version, {} during a change, {} wrong; 6 changes, 6 mistakes",
        count(&tally.judged),
        count(&tally.either),
        count(&tally.wrong)
    );
    assert_eq!(count(&tally.wrong), 0);
}
