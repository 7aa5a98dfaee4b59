//! Opening the file: what is created, what is refused, and that nothing is ever started empty over something.

use std::fs;
use std::path::Path;

use redb::{ReadableDatabase, TableDefinition};

use super::*;

/// A closed store with three mappings and a token.
async fn filled() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let stores = open_in(&folder).unwrap();
    for number in 1..=3 {
        insert(&stores, &format!("user {number}"), &format!("8:acs:{number}")).await;
    }
    folder
}

fn refused(folder: &tempfile::TempDir) -> OpenError {
    match open_in(folder) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

/// That the message names the setting, the file, and what to do.
fn assert_helpful(error: &OpenError, mend: &str) {
    let text = error.to_string();
    for part in ["store.embedded.path", "broker.redb", mend] {
        assert!(text.contains(part), "{part:?} is not in {text:?}");
    }
}

#[tokio::test]
async fn a_mapping_is_there_after_the_file_is_closed_and_opened_again() {
    let folder = filled().await;
    for _ in 0..3 {
        let stores = open_in(&folder).unwrap();
        assert_eq!(find(&stores, "user 2").await, Some(record("8:acs:2")));
        assert_eq!(stores.identities.check().await, Ok(()));
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_new_file_is_readable_by_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt;

    let folder = filled().await;
    let mode = fs::metadata(settings(&folder).path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["broker.redb"], "nothing else is left behind");
}

#[test]
fn a_missing_folder_is_named_and_not_created() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Settings { path: folder.path().join("missing").join("broker.redb") };
    let Err(error) = open(&settings, Vault::plain(), clock(), Metrics::new()) else {
        panic!("it was opened")
    };
    assert!(matches!(error, OpenError::FolderMissing(_)));
    assert_helpful(&error, "create it");
    assert!(!folder.path().join("missing").exists());
}

#[test]
fn a_folder_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(settings(&folder).path).unwrap();
    let error = refused(&folder);
    assert!(matches!(error, OpenError::Inaccessible { .. }), "{error:?}");
    assert_helpful(&error, "must be a file");
}

#[test]
fn an_empty_file_is_refused_and_stays_empty() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(settings(&folder).path, b"").unwrap();
    let error = refused(&folder);
    assert!(matches!(error, OpenError::Empty(_)), "{error:?}");
    assert_helpful(&error, "restore it from a backup");
    assert_eq!(fs::metadata(settings(&folder).path).unwrap().len(), 0);
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    for content in [&b"x"[..], b"hello, world\n", &[0; 100], &[0; 100_000], b"redb", &[b'r'; 65_536]] {
        fs::write(&path, content).unwrap();
        let error = refused(&folder);
        assert!(
            matches!(error, OpenError::Foreign(_) | OpenError::Damaged { .. }),
            "{error:?} for {} bytes",
            content.len()
        );
        assert_helpful(&error, "file");
        assert_eq!(fs::read(&path).unwrap(), content, "it was changed");
    }
}

#[test]
fn a_redb_file_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = settings(&folder).path;
    let table: TableDefinition<&str, u64> = TableDefinition::new("theirs");
    {
        let database = redb::Database::create(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        transaction.open_table(table).unwrap().insert("one", 1).unwrap();
        transaction.commit().unwrap();
    }
    let error = refused(&folder);
    assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
    let database = redb::Database::open(&path).unwrap();
    let one = database.begin_read().unwrap().open_table(table).unwrap().get("one").unwrap().unwrap().value();
    assert_eq!(one, 1, "their data was changed");
}

fn set_format(path: &Path, format: &[u8]) {
    let database = redb::Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut tables = Tables::open(&transaction).unwrap();
        tables.meta.insert(super::super::tables::FORMAT_ENTRY, format).unwrap();
    }
    transaction.commit().unwrap();
}

#[tokio::test]
async fn a_newer_format_is_refused_and_can_be_opened_by_the_newer_program_still() {
    let folder = filled().await;
    set_format(&settings(&folder).path, &[2]);
    let error = refused(&folder);
    assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error:?}");
    assert_helpful(&error, "run the newer version");
    // Nothing was changed: with the format set back all is there.
    set_format(&settings(&folder).path, &[1]);
    let stores = open_in(&folder).unwrap();
    assert_eq!(find(&stores, "user 3").await, Some(record("8:acs:3")));
}

#[tokio::test]
async fn a_file_that_lost_a_table_is_damaged_and_not_started_empty() {
    let folder = filled().await;
    {
        let database = redb::Database::open(settings(&folder).path).unwrap();
        let transaction = database.begin_write().unwrap();
        let identities: TableDefinition<&[u8], &[u8]> = TableDefinition::new("identities");
        assert!(transaction.delete_table(identities).unwrap());
        transaction.commit().unwrap();
    }
    let error = refused(&folder);
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_in_use_is_refused_until_it_is_closed() {
    let folder = tempfile::tempdir().unwrap();
    let first = open_in(&folder).unwrap();
    insert(&first, "user", "8:acs:1").await;
    let error = refused(&folder);
    assert!(matches!(error, OpenError::InUse(_)), "{error:?}");
    assert_helpful(&error, "another process");
    // The refusal did no harm to the one that has it.
    insert(&first, "other", "8:acs:2").await;
    drop(first);
    let second = open_in(&folder).unwrap();
    assert_eq!(find(&second, "other").await, Some(record("8:acs:2")));
}

#[tokio::test]
async fn what_a_crash_left_of_a_file_being_created_is_not_in_the_way() {
    for left in [&b""[..], b"half a file", &[0xff; 300_000]] {
        let folder = tempfile::tempdir().unwrap();
        let unfinished = folder.path().join("broker.redb.new");
        fs::write(&unfinished, left).unwrap();
        let stores = open_in(&folder).unwrap();
        insert(&stores, "user", "8:acs:1").await;
        drop(stores);
        assert_eq!(find(&open_in(&folder).unwrap(), "user").await, Some(record("8:acs:1")));
        assert!(!unfinished.exists());
    }
}

#[tokio::test]
async fn of_many_that_create_the_same_file_one_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| open_in(&folder))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (stores, errors): (Vec<_>, Vec<_>) = opened.into_iter().partition(Result::is_ok);
    assert_eq!(stores.len(), 1);
    for error in errors {
        assert!(matches!(error, Err(OpenError::InUse(_))), "{:?}", error.err());
    }
    assert_eq!(stores[0].as_ref().unwrap().identities.check().await, Ok(()));
}

#[tokio::test]
async fn a_file_cut_anywhere_is_refused_or_whole_but_never_empty() {
    let folder = filled().await;
    let path = settings(&folder).path;
    let whole = fs::read(&path).unwrap();
    let mut cuts: Vec<usize> = (1..40).map(|part| whole.len() * part / 40).collect();
    cuts.extend([1, 8, 9, 63, 64, 319, 320, 4095, 4096, 4097, whole.len() - 1]);
    for cut in cuts {
        fs::write(&path, &whole[..cut]).unwrap();
        match open_in(&folder) {
            Err(error) => {
                assert_helpful(&error, "");
                assert!(fs::read(&path).unwrap() == whole[..cut], "cut to {cut}: it was changed");
            }
            // Only empty space was cut off.
            Ok(stores) => assert_all_there(&stores, &format!("cut to {cut}")).await,
        }
    }
}

#[tokio::test]
async fn a_file_with_damaged_bytes_is_refused_or_whole_but_never_wrong() {
    let folder = filled().await;
    let path = settings(&folder).path;
    let whole = fs::read(&path).unwrap();
    let mut refusals = 0;
    // Places in the header and places where something is stored, a different bit at each.
    let stored: Vec<usize> = (512..whole.len()).filter(|&at| whole[at] != 0).collect();
    let places = (0..320).step_by(5).chain(stored.iter().copied().step_by(stored.len() / 60 + 1));
    for at in places {
        let mut damaged = whole.clone();
        damaged[at] ^= 1 << (at % 8);
        fs::write(&path, &damaged).unwrap();
        match open_in(&folder) {
            Err(error) => {
                refusals += 1;
                assert_helpful(&error, "");
                assert!(fs::read(&path).unwrap() == damaged, "{at}: it was changed");
            }
            // A bit that holds nothing, or that the other copy of the header outvotes.
            Ok(stores) => assert_all_there(&stores, &format!("changed at {at}")).await,
        }
    }
    assert!(refusals > 20, "hardly any damage was noticed: {refusals}");
}

async fn assert_all_there(stores: &Stores, when: &str) {
    for number in 1..=3 {
        let found = find(stores, &format!("user {number}")).await;
        assert_eq!(found, Some(record(&format!("8:acs:{number}"))), "{when}");
    }
    let page = stores.identities.list(None, 10).await.unwrap().unwrap();
    assert_eq!(page.entries.len(), 3, "{when}");
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_was_removed_or_replaced_makes_the_store_unfit() {
    let folder = filled().await;
    let path = settings(&folder).path;
    let stores = open_in(&folder).unwrap();
    assert_eq!(stores.identities.check().await, Ok(()));
    let aside = folder.path().join("aside");
    fs::rename(&path, &aside).unwrap();
    assert_eq!(stores.identities.check().await, Err(StoreProblem::Emptied));
    fs::copy(&aside, &path).unwrap();
    assert_eq!(stores.identities.check().await, Err(StoreProblem::Emptied));
    fs::rename(&aside, &path).unwrap();
    assert_eq!(stores.identities.check().await, Ok(()));
}
