//! Follows files that change while the broker runs: certificates, keys, policies.
//!
//! Files are read once a second and compared by content, not by time stamp: a mounted Kubernetes secret is a link that
//! is pointed elsewhere. A change counts once two readings in a row show it, so that a file that is being written is not
//! taken for a shorter one. What a [`Reloadable`] refuses changes nothing: it goes on with what it has. Nothing of a file's
//! content ever reaches a log.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::zeroize::Zeroizing;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// How often files are read.
pub const INTERVAL: Duration = Duration::from_secs(1);

/// How long a file must stay as it is, once it has changed.
const WHILE_WRITTEN: Duration = Duration::from_millis(50);

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1_048_576;

/// Something made of files that can be made anew.
pub trait Reloadable: Send + Sync {
    /// What it is, for logs and as a label: `tls`, `policy`.
    fn name(&self) -> &'static str;

    /// The files it is made of.
    fn files(&self) -> Vec<PathBuf>;

    /// Takes the contents of [`Self::files`] over, in their order, or says what is wrong with them and goes on with what
    /// it has. Called once at the start and after each change, so taking the same contents twice must be harmless. The
    /// error is for the log: it names files, lines and keys, never a content.
    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String>;
}

/// Follows the files of all these until `stop`.
pub async fn follow(things: Vec<Arc<dyn Reloadable>>, metrics: Metrics, stop: CancellationToken) {
    let mut seen = Seen::default();
    while !things.is_empty() {
        let (turn, what) = (things.clone(), metrics.clone());
        // Files may be on a network; a slow one holds up nothing but this loop.
        let looked = tokio::task::spawn_blocking(move || {
            seen.look(&turn, &what);
            seen
        });
        match looked.await {
            Ok(back) => seen = back,
            // It panicked, which the panic hook has told; begin anew.
            Err(_) => seen = Seen::default(),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(INTERVAL) => {}
        }
    }
}

/// What each thing was last given: a digest of its files, or of why they could not be read.
#[derive(Default)]
struct Seen(BTreeMap<usize, [u8; 32]>);

impl Seen {
    fn look(&mut self, things: &[Arc<dyn Reloadable>], metrics: &Metrics) {
        self.look_twice(things, metrics, || std::thread::sleep(WHILE_WRITTEN));
    }

    /// A change counts if it is still the same after `between`: somebody may be writing just now.
    fn look_twice(&mut self, things: &[Arc<dyn Reloadable>], metrics: &Metrics, mut between: impl FnMut()) {
        for (place, thing) in things.iter().enumerate() {
            let read = read_all(thing.as_ref());
            let now = digest(&read);
            let before = self.0.get(&place).copied();
            if before == Some(now) {
                continue;
            }
            if before.is_some() {
                between();
                // Half a policy may be one, of fewer callers; half a key ring is one of fewer keys.
                if digest(&read_all(thing.as_ref())) != now {
                    continue;
                }
            }
            self.0.insert(place, now);
            let name = thing.name();
            let contents = read.map(|contents| contents.into_iter().map(|mut one| std::mem::take(&mut *one)));
            match contents.and_then(|contents| thing.reload(contents.collect())) {
                // At the start it was read already by whoever made it.
                Ok(()) if before.is_none() => metrics.reloaded(name, true),
                Ok(()) => {
                    metrics.reloaded(name, true);
                    tracing::info!(what = name, "a file has changed and was read again");
                }
                Err(problem) => {
                    metrics.reloaded(name, false);
                    tracing::error!(
                        what = name,
                        problem,
                        "a file has changed and cannot be used; what was read before stays in force"
                    );
                }
            }
        }
    }
}

/// What the files hold; wiped when dropped, for it may be keys.
type Contents = Vec<Zeroizing<Vec<u8>>>;

fn read_all(thing: &dyn Reloadable) -> Result<Contents, String> {
    thing.files().iter().map(|path| read(path).map(Zeroizing::new)).collect()
}

fn digest(read: &Result<Contents, String>) -> [u8; 32] {
    let mut sha = Sha256::new();
    match read {
        Ok(contents) => {
            for content in contents {
                sha.update((content.len() as u64).to_be_bytes());
                sha.update(content);
            }
        }
        Err(problem) => sha.update(problem.as_bytes()),
    }
    sha.finalize().into()
}

/// A file of at most as many bytes as are followed.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_up_to(path, MAX_FILE_BYTES)
}

/// A file of at most so many bytes; the error names its path and no content.
pub(crate) fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    content(path, most).map_err(|what| format!("{} {what}", path.display()))
}

/// A file of at most so many bytes; the error says what is wrong with it, and leaves it to others to name it.
pub(crate) fn content(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let cannot = |error: std::io::Error| format!("cannot be read ({})", error.kind());
    // Opening a pipe that nobody writes to would wait for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("is not a regular file".into());
    }
    let file = std::fs::File::open(path).map_err(cannot)?;
    // As large as it becomes, so that growing leaves no copy of a key behind.
    let expected = file.metadata().map_err(cannot)?.len().min(most).saturating_add(1);
    let mut content = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    let size = file.take(most + 1).read_to_end(&mut content).map_err(cannot)?;
    if size as u64 > most { Err(format!("has more than {most} bytes")) } else { Ok(content) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Takes texts without an `x`.
    struct Taken {
        files: Vec<PathBuf>,
        contents: Mutex<Vec<Vec<Vec<u8>>>>,
    }

    impl Reloadable for Taken {
        fn name(&self) -> &'static str {
            "taken"
        }

        fn files(&self) -> Vec<PathBuf> {
            self.files.clone()
        }

        fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
            if contents.iter().any(|content| content.contains(&b'x')) {
                return Err("holds an x".into());
            }
            self.contents.lock().unwrap().push(contents);
            Ok(())
        }
    }

    struct Rig {
        folder: tempfile::TempDir,
        taken: Arc<Taken>,
        things: Vec<Arc<dyn Reloadable>>,
        seen: Seen,
        metrics: Metrics,
    }

    impl Rig {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let files = vec![folder.path().join("a"), folder.path().join("b")];
            let taken = Arc::new(Taken { files, contents: Mutex::default() });
            let things = vec![Arc::clone(&taken) as Arc<dyn Reloadable>];
            Self { folder, taken, things, seen: Seen::default(), metrics: Metrics::new() }
        }

        fn write(&self, name: &str, content: &[u8]) {
            std::fs::write(self.folder.path().join(name), content).unwrap();
        }

        fn look(&mut self) -> usize {
            self.seen.look(&self.things, &self.metrics);
            self.taken.contents.lock().unwrap().len()
        }

        fn failed(&self) -> bool {
            self.metrics.render().contains("acs_broker_reload_failed{what=\"taken\"} 1")
        }
    }

    #[test]
    fn a_change_is_taken_over_once_and_by_content() {
        let mut rig = Rig::new();
        rig.write("a", b"1");
        rig.write("b", b"2");
        assert_eq!((rig.look(), rig.look()), (1, 1));
        rig.write("a", b"1");
        assert_eq!(rig.look(), 1, "written again with the same content");
        rig.write("a", b"12");
        rig.write("b", b"");
        assert_eq!(rig.look(), 2);
        assert_eq!(rig.taken.contents.lock().unwrap()[1], [b"12".to_vec(), Vec::new()]);
    }

    #[test]
    fn what_cannot_be_used_is_told_and_changes_nothing_until_it_is_mended() {
        let mut rig = Rig::new();
        rig.write("a", b"1");
        assert_eq!(rig.look(), 0, "b is missing");
        assert!(rig.failed());
        rig.write("b", b"x");
        assert_eq!((rig.look(), rig.failed()), (0, true));
        rig.write("b", &vec![b'-'; 1_048_577]);
        assert_eq!((rig.look(), rig.failed()), (0, true));
        rig.write("b", b"2");
        assert_eq!((rig.look(), rig.failed()), (1, false));
        std::fs::remove_file(rig.folder.path().join("b")).unwrap();
        std::fs::create_dir(rig.folder.path().join("b")).unwrap();
        assert_eq!((rig.look(), rig.failed()), (1, true));
    }

    #[test]
    fn a_file_that_is_being_written_is_left_until_it_is_whole() {
        let mut rig = Rig::new();
        rig.write("a", b"1");
        rig.write("b", b"one, two");
        assert_eq!(rig.look(), 1);
        let folder = rig.folder.path().to_owned();
        let mut writing = [&b""[..], b"one", b"one, two, three"].into_iter();
        for _ in 0..5 {
            // What is there when it is first looked, and what when it is looked again.
            let write = |content: Option<&[u8]>| {
                content.into_iter().for_each(|content| std::fs::write(folder.join("b"), content).unwrap());
            };
            write(writing.next());
            rig.seen.look_twice(&rig.things, &rig.metrics, || write(writing.next()));
        }
        let taken = rig.taken.contents.lock().unwrap();
        let of_b: Vec<_> = taken.iter().map(|contents| contents[1].as_slice()).collect();
        assert_eq!(of_b, [&b"one, two"[..], b"one, two, three"]);
        assert!(!rig.failed());
    }

    #[tokio::test(start_paused = true)]
    async fn files_are_followed_until_the_end() {
        let rig = Rig::new();
        rig.write("a", b"1");
        rig.write("b", b"2");
        let stop = CancellationToken::new();
        let following = tokio::spawn(follow(rig.things.clone(), rig.metrics.clone(), stop.clone()));
        let taken = || rig.taken.contents.lock().unwrap().len();
        while taken() < 1 {
            tokio::time::sleep(INTERVAL).await;
        }
        rig.write("b", b"3");
        while taken() < 2 {
            tokio::time::sleep(INTERVAL).await;
        }
        stop.cancel();
        following.await.unwrap();
    }
}
