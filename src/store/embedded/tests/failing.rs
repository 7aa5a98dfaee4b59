//! A disk that fails, and one that hangs: nothing is acknowledged, nobody waits for ever, readiness says so.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;

/// A disk in memory that fails when told to.
#[derive(Debug, Default)]
struct Disk {
    memory: InMemoryBackend,
    broken: Arc<AtomicBool>,
}

impl Disk {
    fn works(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) { Err(io::Error::other("no space left")) } else { Ok(()) }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        self.memory.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.memory.read(offset, out)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.works()?;
        self.memory.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.works()?;
        self.memory.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.works()?;
        self.memory.write(offset, data)
    }
}

fn store_on_a_disk() -> (Stores, Arc<Engine>, Arc<AtomicBool>, Metrics) {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Disk { broken: broken.clone(), ..Disk::default() };
    let database = redb::Builder::new().create_with_backend(disk).unwrap();
    file::initialise(&database, Some(&[])).unwrap();
    let engine = Arc::new(Engine::new(database, clock(), Bounds::default()).unwrap());
    let metrics = Metrics::new();
    let writer = Writer::thread(&engine).unwrap();
    let stores = Embedded::new(engine.clone(), writer, Bounds::default(), metrics.clone(), Vault::plain())
        .into_opened()
        .core;
    (stores, engine, broken, metrics)
}

#[tokio::test]
async fn a_disk_that_fails_ends_all_writes_and_the_fitness_but_not_the_reads() {
    let (stores, _engine, broken, metrics) = store_on_a_disk();
    insert(&stores, "before", "8:acs:1").await;
    assert!(metrics.render().contains("acs_broker_store_available 1"));
    broken.store(true, Ordering::SeqCst);
    let user = UserId::parse("after").unwrap();
    for _ in 0..3 {
        let inserted = stores.identities.insert_if_absent(&user, &record("8:acs:2")).await;
        assert!(matches!(inserted, Err(StoreError::Unavailable(_))), "{inserted:?}");
        assert_eq!(stores.identities.check().await, Err(StoreProblem::Unreachable));
    }
    assert!(metrics.render().contains("acs_broker_store_available 0"));
    // What was acknowledged is still answered, what was not is not.
    assert_eq!(find(&stores, "before").await, Some(record("8:acs:1")));
    assert_eq!(find(&stores, "after").await, None);
    // A disk that works again does not mend it: what it holds is not known any more. The process starts anew.
    broken.store(false, Ordering::SeqCst);
    assert!(stores.identities.insert_if_absent(&user, &record("8:acs:2")).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_does_not_hang_the_caller() {
    let (stores, engine, _, _) = store_on_a_disk();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let (blocked, is_blocked) = std::sync::mpsc::channel();
    let disk = std::thread::spawn(move || {
        engine.with_write_blocked(|| {
            blocked.send(()).unwrap();
            let _ = released.recv_timeout(Duration::from_secs(30));
        });
    });
    is_blocked.recv().unwrap();
    let began = tokio::time::Instant::now();
    let user = UserId::parse("user").unwrap();
    let inserted = stores.identities.insert_if_absent(&user, &record("8:acs:1")).await;
    assert!(matches!(inserted, Err(StoreError::Unavailable(_))), "{inserted:?}");
    assert!(began.elapsed() <= Duration::from_secs(6), "{:?}", began.elapsed());
    // Reads do not wait for writes.
    assert_eq!(stores.identities.find(&user).await.unwrap(), None);
    release.send(()).unwrap();
    disk.join().unwrap();
}
