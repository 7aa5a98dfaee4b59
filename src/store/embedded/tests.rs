//! What is particular to the embedded store: the file, its faults, crashes, bounds. The ports' contracts are proved in
//! `store/contract`, the agreement with a model in `store/model.rs`.

mod bounds;
mod crash;
mod failing;
mod messaging;
mod opening;
mod sealing;

use std::sync::Arc;

use super::*;
use crate::broker::ports::Inserted;
use crate::broker::types::{IdentityId, IdentityRecord, UserId};
use crate::clock::{ManualClock, Timestamp};

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(Timestamp::from_millis(1_700_000_000_000)))
}

fn settings(folder: &tempfile::TempDir) -> Settings {
    Settings { path: folder.path().join("broker.redb") }
}

fn open_in(folder: &tempfile::TempDir) -> Result<Stores, OpenError> {
    open(&settings(folder), Vault::plain(), clock(), Metrics::new()).map(|opened| opened.core)
}

fn record(identity: &str) -> IdentityRecord {
    IdentityRecord {
        identity: IdentityId::parse(identity).unwrap(),
        generation: 0,
        created_at: Timestamp::from_millis(5),
    }
}

async fn insert(stores: &Stores, user: &str, identity: &str) {
    let user = UserId::parse(user).unwrap();
    assert_eq!(stores.identities.insert_if_absent(&user, &record(identity)).await.unwrap(), Inserted::New);
}

async fn find(stores: &Stores, user: &str) -> Option<IdentityRecord> {
    stores.identities.find(&UserId::parse(user).unwrap()).await.unwrap()
}

mod in_memory {
    use super::*;
    use crate::store::contract::{Harness, Time, contract_suite};

    async fn harness() -> Harness {
        let clock = clock();
        Harness::new(memory(clock.clone()), Time::Manual(clock), ())
    }

    contract_suite!(harness);
}

mod in_memory_sealed {
    use super::*;
    use crate::store::contract::{Harness, Time, contract_suite};

    async fn harness() -> Harness {
        let clock = clock();
        Harness::new(memory_with(Vault::full(), clock.clone()), Time::Manual(clock), ())
    }

    contract_suite!(harness);
}

mod in_a_sealed_file {
    use super::*;
    use crate::store::contract::{Harness, Time, run_all};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_contract_holds() {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let stores = open(&settings(&folder), Vault::full(), clock.clone(), Metrics::new()).unwrap();
        run_all(&Harness::new(stores, Time::Manual(clock), folder)).await;
    }
}

mod in_a_file {
    use super::*;
    use crate::store::contract::{Harness, Time, contract_suite};

    async fn harness() -> Harness {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let stores = open(&settings(&folder), Vault::plain(), clock.clone(), Metrics::new()).unwrap();
        Harness::new(stores, Time::Manual(clock), folder)
    }

    contract_suite!(harness);
}
