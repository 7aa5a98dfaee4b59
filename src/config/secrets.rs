//! Takes the secrets out of the settings: from the setting itself or from the file its `_file` twin names.
//!
//! After this no secret is left in the tables that other settings are read from, so none can be printed. A path is never
//! repeated in a message, because people do put the secret itself where its path belongs.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use toml::Value;

use super::layers::Layers;
use super::rules;
use crate::secret::Secret;

/// The largest secret file that is read.
const MAX_SECRET_BYTES: u64 = 65_536;

/// The secrets of the settings by key; an absent secret is an empty one.
#[derive(Debug, Clone, Default)]
pub(super) struct Secrets(BTreeMap<&'static str, Taken>);

/// A secret, and whether it came from its file.
#[derive(Debug, Clone)]
struct Taken {
    secret: Secret,
    from_file: bool,
}

impl Secrets {
    /// The secret of a key such as `acs.connection_string`; empty if not set.
    pub(super) fn get(&self, key: &str) -> Secret {
        self.0.get(key).map_or_else(|| Secret::new(""), |taken| taken.secret.clone())
    }

    /// Whether it came from its file.
    pub(super) fn is_from_file(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|taken| taken.from_file)
    }

    /// The key to name in a message about this secret: its own, or that of its file.
    pub(super) fn named(&self, key: &str) -> String {
        if self.is_from_file(key) { format!("{key}_file") } else { key.to_owned() }
    }
}

/// Moves every secret out of `layers`.
pub(super) fn take(layers: &mut Layers) -> Secrets {
    let mut taken = BTreeMap::new();
    for key in rules::secrets() {
        let (secret, from_file) = resolve(layers, key);
        layers.replace(key, Value::String(String::new()));
        taken.insert(key, Taken { secret, from_file });
    }
    Secrets(taken)
}

fn resolve(layers: &mut Layers, key: &'static str) -> (Secret, bool) {
    let twin = format!("{key}_file");
    let inline = Secret::new(layers.text(key));
    let path = layers.text(&twin).to_owned();
    if path.is_empty() {
        return (inline, false);
    }
    if !inline.is_empty() {
        let (here, there) = (layers.source(key), layers.source(&twin));
        if here.same_layer(&there) {
            layers.problem(key, format!("and {twin} are both set; keep one of them"));
            return (inline, false);
        }
        if here > there {
            return (inline, false);
        }
    }
    match read(Path::new(&path)) {
        Ok(secret) => (secret, true),
        Err(what) => {
            layers.problem(&twin, what);
            (Secret::new(""), true)
        }
    }
}

/// The content of a secret file less one trailing line end; or what is wrong with the setting that names it.
pub fn read(path: &Path) -> Result<Secret, String> {
    let cannot = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => "names a file that does not exist; it must hold a path".to_owned(),
        std::io::ErrorKind::PermissionDenied => "names a file that this user may not read".to_owned(),
        kind => format!("names a file that cannot be read ({kind})"),
    };
    // Opening a pipe that nobody writes to would wait for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err("must name a regular file".into());
    }
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    match file.take(MAX_SECRET_BYTES + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 > MAX_SECRET_BYTES => {
            return Err(format!("names a file of more than {MAX_SECRET_BYTES} bytes"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            return Err("names a file that is not UTF-8 text".into());
        }
        Err(error) => return Err(cannot(error)),
    }
    let line = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if line.is_empty() {
        return Err("names an empty file".into());
    }
    Ok(Secret::new(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> Result<Secret, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, content).unwrap();
        read(&path)
    }

    #[test]
    fn one_trailing_line_end_is_not_part_of_the_secret() {
        for (content, secret) in [("s", "s"), ("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n"), (" s ", " s ")]
        {
            assert_eq!(written(content.as_bytes()).unwrap().expose(), secret, "{content:?}");
        }
    }

    #[test]
    fn files_that_are_no_secret_are_told_apart() {
        assert!(written(b"").unwrap_err().contains("empty"));
        assert!(written(b"\n").unwrap_err().contains("empty"));
        assert!(written(&[0xff, 0xfe]).unwrap_err().contains("UTF-8"));
        assert!(written(&vec![b'x'; 65_537]).unwrap_err().contains("65536"));
        assert!(read(Path::new("/")).unwrap_err().contains("regular"));
        assert!(read(Path::new("/no/such")).unwrap_err().contains("exist"));
    }
}
