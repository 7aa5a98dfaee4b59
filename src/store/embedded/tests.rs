//! What is particular to the embedded store: the file, its faults, crashes, bounds. The ports' contracts are proved in
//! `store/contract.rs`.

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

fn record(identity: &str) -> IdentityRecord {
    IdentityRecord {
        identity: IdentityId::parse(identity).unwrap(),
        generation: 0,
        created_at: Timestamp::from_millis(5),
    }
}

#[tokio::test]
async fn a_mapping_is_there_after_the_file_is_closed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let user = UserId::parse("alice").unwrap();
    let stores = open(&settings(&folder), clock(), Metrics::new()).unwrap();
    assert_eq!(stores.identities.insert_if_absent(&user, &record("8:acs:1")).await.unwrap(), Inserted::New);
    drop(stores);
    let stores = open(&settings(&folder), clock(), Metrics::new()).unwrap();
    assert_eq!(stores.identities.find(&user).await.unwrap(), Some(record("8:acs:1")));
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

mod in_a_file {
    use super::*;
    use crate::store::contract::{Harness, Time, contract_suite};

    async fn harness() -> Harness {
        let (clock, folder) = (clock(), tempfile::tempdir().unwrap());
        let stores = open(&settings(&folder), clock.clone(), Metrics::new()).unwrap();
        Harness::new(stores, Time::Manual(clock), folder)
    }

    contract_suite!(harness);
}
