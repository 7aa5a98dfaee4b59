//! Lays out a ConfigMap or Secret as kubelet does: files are links through `..data`, a link to a folder of one version,
//! and a new version comes by pointing that one link elsewhere.
//!
//! Used by the Helm tests alone. A file that was read is never written to.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Puts a version with these files into a volume; what it held before is gone.
pub(crate) fn bring(volume: &Path, files: &BTreeMap<String, String>) {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let version = format!("..version_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    std::fs::create_dir(volume.join(&version)).unwrap();
    for (name, content) in files {
        std::fs::write(volume.join(&version).join(name), content).unwrap();
    }
    symlink(&version, volume.join("..data_tmp")).unwrap();
    let before = std::fs::read_link(volume.join("..data")).ok();
    std::fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    for name in files.keys() {
        let link = volume.join(name);
        if std::fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    if let Some(before) = before {
        std::fs::remove_dir_all(volume.join(before)).unwrap();
    }
}

/// The files of a volume.
pub(crate) fn files(volume: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(volume.join("..data")).unwrap().map(Result::unwrap);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    entries.map(|entry| (entry.file_name().into_string().unwrap(), read(&entry.path()))).collect()
}
