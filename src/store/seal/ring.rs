//! The key ring: keys of 256 bits with ids, read from a file. The first seals; all of them open.
//!
//! The file has one `id:base64` per line; empty lines and lines that begin with `#` do not count. A file that is wrong
//! in any line changes nothing: the ring stays what it was. Errors name the line and never what is in it. Keys are wiped
//! when they go. Used by [`super::Vault`] and, when the file changes, by whoever follows it.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;
use subtle::ConstantTimeEq as _;

use crate::reload::Reloadable;

/// The bytes of a key.
pub(super) const KEY_BYTES: usize = 32;
/// The longest id.
const MAX_ID_BYTES: usize = 32;
/// The most keys: each rotation adds one, and old ones go.
const MAX_KEYS: usize = 32;
/// The largest key file that is read.
const MAX_FILE_BYTES: u64 = 65_536;

/// What is wrong with a key file. No text shows an id or a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("the file cannot be read ({0})")]
    Unreadable(std::io::ErrorKind),
    /// It is not a file of text.
    #[error("must name a regular file of text, at most {MAX_FILE_BYTES} bytes")]
    NoText,
    /// It has no key.
    #[error("the file holds no key; write a line such as 2026-11:<base64 of 32 random bytes>")]
    Empty,
    /// It has too many.
    #[error("the file holds more than {MAX_KEYS} keys; remove those that nothing is sealed with any more")]
    TooMany,
    /// A line has no colon.
    #[error("line {0} is not `id:base64`")]
    NoColon(usize),
    /// An id is odd.
    #[error("line {0} has an id that is not 1 to {MAX_ID_BYTES} ASCII letters, digits, `.`, `-` or `_`")]
    BadId(usize),
    /// A key is no base64.
    #[error("line {0} has a key that is not base64")]
    NotBase64(usize),
    /// A key has the wrong length.
    #[error("line {0} has a key of another length than {KEY_BYTES} bytes; openssl rand -base64 {KEY_BYTES}")]
    WrongLength(usize),
    /// A key is all the same byte.
    #[error("line {0} has a key whose bytes are all the same")]
    NotRandom(usize),
    /// The id is there already.
    #[error("line {0} has the id of line {1}")]
    SameId(usize, usize),
    /// The key is there already.
    #[error("line {0} has the key of line {1} under another id")]
    SameKey(usize, usize),
}

/// One key.
pub(super) struct Entry {
    id: Box<str>,
    key: Zeroizing<[u8; KEY_BYTES]>,
    line: usize,
}

impl Entry {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn key(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }
}

/// The keys at one moment: at least one.
pub(super) struct Keys(Vec<Entry>);

impl Keys {
    /// The key that seals.
    pub(super) fn sealing(&self) -> Option<&Entry> {
        self.0.first()
    }

    /// The key of that id.
    pub(super) fn of(&self, id: &[u8]) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.id.as_bytes() == id)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self.0.iter().zip(&other.0).all(|(one, two)| {
                one.id == two.id && bool::from(one.key.as_slice().ct_eq(two.key.as_slice()))
            })
    }
}

/// The keys, which may be replaced while they are used.
pub struct KeyRing {
    keys: RwLock<Arc<Keys>>,
    /// Where they come from; none in tests.
    file: Option<PathBuf>,
}

impl KeyRing {
    /// The ring in this text.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        Ok(Self { keys: RwLock::new(Arc::new(parse(text)?)), file: None })
    }

    /// The ring in this file.
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let keys = parse(&text_of(path)?)?;
        Ok(Self { keys: RwLock::new(Arc::new(keys)), file: Some(path.to_owned()) })
    }

    /// Takes the keys of a new text instead; says whether they are others. On an error the ring stays what it was.
    pub fn replace(&self, text: &str) -> Result<bool, KeyFileError> {
        let new = parse(text)?;
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = !keys.is_same(&new);
        if is_new {
            *keys = Arc::new(new);
        }
        Ok(is_new)
    }

    /// The ids of the keys, the sealing one first. They are no secret.
    pub fn ids(&self) -> Vec<String> {
        self.now().0.iter().map(|entry| entry.id.as_ref().to_owned()).collect()
    }

    /// The keys at this moment.
    pub(super) fn now(&self) -> Arc<Keys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reloadable for KeyRing {
    fn name(&self) -> &'static str {
        "seal_keys"
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.iter().cloned().collect()
    }

    fn reload(&self, contents: Vec<Vec<u8>>) -> Result<(), String> {
        let content = Zeroizing::new(contents.into_iter().next().unwrap_or_default());
        let text = std::str::from_utf8(&content).map_err(|_| KeyFileError::NoText.to_string())?;
        if self.replace(text).map_err(|error| error.to_string())? {
            tracing::info!(
                keys = self.ids().join(","),
                "the first of these keys seals what is stored from now on"
            );
        }
        Ok(())
    }
}

fn text_of(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let cannot = |error: std::io::Error| KeyFileError::Unreadable(error.kind());
    // Opening a pipe that nobody writes to would wait for ever.
    if !std::fs::metadata(path).map_err(cannot)?.is_file() {
        return Err(KeyFileError::NoText);
    }
    // As large as it may become, so that growing leaves no copy behind.
    let most = usize::try_from(MAX_FILE_BYTES).unwrap_or(usize::MAX).saturating_add(1);
    let mut text = Zeroizing::new(String::with_capacity(most));
    let file = std::fs::File::open(path).map_err(cannot)?;
    match file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text) {
        Ok(size) if size as u64 > MAX_FILE_BYTES => Err(KeyFileError::NoText),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Err(KeyFileError::NoText),
        Err(error) => Err(cannot(error)),
    }
}

fn parse(text: &str) -> Result<Keys, KeyFileError> {
    let mut keys: Vec<Entry> = Vec::new();
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().map(str::trim).enumerate();
    for (number, text) in lines {
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let line = number + 1;
        let (id, key) = text.split_once(':').ok_or(KeyFileError::NoColon(line))?;
        let (id, key) = (id.trim(), key.trim());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if id.is_empty() || id.len() > MAX_ID_BYTES || !id.bytes().all(allowed) {
            return Err(KeyFileError::BadId(line));
        }
        let bytes = Zeroizing::new(STANDARD.decode(key).map_err(|_| KeyFileError::NotBase64(line))?);
        let array = <[u8; KEY_BYTES]>::try_from(bytes.as_slice());
        let key = Zeroizing::new(array.map_err(|_| KeyFileError::WrongLength(line))?);
        if key.iter().all(|byte| Some(byte) == key.first()) {
            return Err(KeyFileError::NotRandom(line));
        }
        if let Some(same) = keys.iter().find(|entry| *entry.id == *id) {
            return Err(KeyFileError::SameId(line, same.line));
        }
        if let Some(same) = keys.iter().find(|entry| entry.key.as_slice().ct_eq(key.as_slice()).into()) {
            return Err(KeyFileError::SameKey(line, same.line));
        }
        if keys.len() >= MAX_KEYS {
            return Err(KeyFileError::TooMany);
        }
        keys.push(Entry { id: id.into(), key, line });
    }
    if keys.is_empty() { Err(KeyFileError::Empty) } else { Ok(Keys(keys)) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> KeyFileError {
        KeyRing::parse(text).err().unwrap()
    }

    #[test]
    fn lines_are_keys_in_their_order_and_the_first_seals() {
        let text = format!("# keys\r\n\n  {}  \n{}\n", line("b", 1), line("a.1_-", 2));
        let ring = KeyRing::parse(&text).unwrap();
        assert_eq!(ring.ids(), ["b", "a.1_-"]);
        assert_eq!(ring.now().sealing().unwrap().id(), "b");
        assert!(ring.now().of(b"a.1_-").is_some() && ring.now().of(b"c").is_none());
    }

    #[test]
    fn each_fault_names_its_line_and_nothing_that_is_in_it() {
        let good = line("good", 1);
        let short = STANDARD.encode([7u8; 31]);
        for (text, expected) in [
            (String::new(), KeyFileError::Empty),
            ("# only\n\n".into(), KeyFileError::Empty),
            (format!("{good}\nhunter2"), KeyFileError::NoColon(2)),
            (format!("\n{good}\n:{short}"), KeyFileError::BadId(3)),
            (format!("hunter 2:{short}"), KeyFileError::BadId(1)),
            (format!("{}:{short}", "x".repeat(33)), KeyFileError::BadId(1)),
            ("a:hunter2!".into(), KeyFileError::NotBase64(1)),
            ("a:".into(), KeyFileError::WrongLength(1)),
            (format!("a:{short}"), KeyFileError::WrongLength(1)),
            (format!("a:{}", STANDARD.encode([0u8; 32])), KeyFileError::NotRandom(1)),
            (format!("{good}\n#\n{}", line("good", 2)), KeyFileError::SameId(3, 1)),
            (format!("{good}\n{}", line("other", 1)), KeyFileError::SameKey(2, 1)),
            ((0..33).map(|n| line(&n.to_string(), n) + "\n").collect(), KeyFileError::TooMany),
        ] {
            let found = error(&text);
            assert_eq!(found, expected);
            assert!(!format!("{found} {found:?}").contains("hunter"));
        }
    }

    #[test]
    fn a_bad_file_changes_nothing_and_a_good_one_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, line("one", 1)).unwrap();
        let ring = KeyRing::read(&path).unwrap();
        assert_eq!(ring.files(), [path]);
        assert_eq!(ring.replace(&line("one", 1)), Ok(false));
        for bad in [&b""[..], b"nonsense", b"one:AAAA", &[0xff]] {
            assert!(ring.reload(vec![bad.to_vec()]).is_err());
            assert_eq!(ring.ids(), ["one"]);
        }
        let both = format!("{}\n{}", line("two", 2), line("one", 1));
        assert_eq!(ring.reload(vec![both.into_bytes()]), Ok(()));
        assert_eq!(ring.ids(), ["two", "one"]);
    }

    #[test]
    fn files_that_are_no_key_file_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(KeyRing::read(folder.path()).err(), Some(KeyFileError::NoText));
        let path = folder.path().join("keys");
        let missing = KeyFileError::Unreadable(std::io::ErrorKind::NotFound);
        assert_eq!(KeyRing::read(&path).err(), Some(missing));
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert_eq!(KeyRing::read(&path).err(), Some(KeyFileError::NoText));
        std::fs::write(&path, vec![b'#'; 65_537]).unwrap();
        assert_eq!(KeyRing::read(&path).err(), Some(KeyFileError::NoText));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\PC{0,60}\n?|[a-z]{1,5}:[A-Za-z0-9+/=]{0,60}\n){0,8}") {
            if let Ok(ring) = KeyRing::parse(&text) {
                prop_assert!(!ring.ids().is_empty());
            }
        }
    }
}
