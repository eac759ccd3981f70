//! The sealing keys: their names, and the text file that holds them. Pure, except for [`KeyStore`]'s implementations.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use ring::hmac;

/// Bytes of a key: AES-256.
pub(crate) const KEY_BYTES: usize = 32;
/// First word of every line that holds a key.
const LINE: &str = "drover-sealing-key";
const HEADER: &str =
    "# Drover's sealing keys: name, creation, key. Newest last. Keep a copy: without them no Secret can be read.\n";

/// Names a key by what it is, so that two keys never share a name. Tells nothing about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub(super) [u8; 8]);

/// One sealing key.
#[derive(Clone)]
pub struct Key {
    id: KeyId,
    secret: [u8; KEY_BYTES],
    derivation: hmac::Key,
    created: Timestamp,
}

/// Every key at hand, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keyring {
    keys: Vec<Key>,
}

/// Where the keys are kept: `pki/sealing.keys`, or a simulation's memory. Never the store.
pub trait KeyStore: Send + Sync + fmt::Debug + 'static {
    /// Reads the keys.
    ///
    /// # Errors
    /// When they cannot be read, are damaged, or others can read them too.
    fn load(&self) -> Result<Keyring, KeyStoreError>;

    /// Reads the keys, changes them and writes them back, whole or not at all, with no other writer in between.
    ///
    /// # Errors
    /// As [`KeyStore::load`]. After an error the change may or may not be kept.
    fn update(&self, change: &mut dyn FnMut(&mut Keyring)) -> Result<Keyring, KeyStoreError>;
}

/// Why the keys cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("sealing keys: {0}")]
pub struct KeyStoreError(pub String);

impl KeyId {
    /// Stands for no key.
    pub(super) const NONE: Self = Self([0; 8]);

    /// Reads sixteen hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let mut id = [0; 8];
        if text.len() != 16 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
            return None;
        }
        for (at, byte) in id.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[at * 2..at * 2 + 2], 16).ok()?;
        }
        Some(Self(id))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Key {
    /// Builds a key of random bytes.
    pub fn new(secret: [u8; KEY_BYTES], created: Timestamp) -> Self {
        let derivation = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let name = hmac::sign(&derivation, b"drover sealing key id");
        let id = KeyId(*name.as_ref().first_chunk().expect("a tag of 32 bytes has eight"));
        Self { id, secret, derivation, created }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// When it was made.
    pub fn created(&self) -> Timestamp {
        self.created
    }

    /// What the keys of single values are derived with.
    pub(super) fn derivation(&self) -> &hmac::Key {
        &self.derivation
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Key {}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &format_args!("{}", self.id)).finish_non_exhaustive()
    }
}

impl Keyring {
    /// Finds a key by its name.
    pub fn get(&self, id: KeyId) -> Option<&Key> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// The key made last.
    pub fn newest(&self) -> Option<&Key> {
        self.keys.last()
    }

    /// Every key, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.keys.iter()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds a key as the newest one.
    pub fn add(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// Drops a key.
    pub fn remove(&mut self, id: KeyId) {
        self.keys.retain(|key| key.id != id);
    }

    /// Reads the file's text.
    ///
    /// # Errors
    /// What is wrong, with the number of the line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut ring = Self::default();
        for (line, number) in text.lines().zip(1..) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            ring.add(parse_line(line).map_err(|why| format!("line {number}: {why}"))?);
        }
        Ok(ring)
    }

    /// Writes the file's text.
    pub fn render(&self) -> String {
        let lines =
            self.keys.iter().map(|key| format!("{LINE} {} {} {}\n", key.id, key.created, STANDARD.encode(key.secret)));
        HEADER.to_owned() + &lines.collect::<String>()
    }
}

fn parse_line(line: &str) -> Result<Key, &'static str> {
    let words: Vec<&str> = line.split(' ').collect();
    let [LINE, id, created, secret] = words.as_slice() else {
        return Err("must be `drover-sealing-key NAME TIME KEY`");
    };
    let created = created.parse().map_err(|_| "the time is no RFC 3339 time")?;
    let secret = STANDARD.decode(secret).ok().and_then(|secret| secret.try_into().ok());
    let key = Key::new(secret.ok_or("the key is not base64 of 32 bytes")?, created);
    if KeyId::parse(id) == Some(key.id) { Ok(key) } else { Err("the key is damaged: it does not match its name") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_reads_back_and_says_what_is_wrong_with_it() {
        let mut ring = Keyring::default();
        ring.add(Key::new([1; 32], Timestamp::UNIX_EPOCH));
        ring.add(Key::new([2; 32], Timestamp::UNIX_EPOCH));
        let text = ring.render();
        assert_eq!(Keyring::parse(&text), Ok(ring));
        assert_eq!(
            Keyring::parse(&text.replace("AQEB", "AQEC")).unwrap_err(),
            "line 2: the key is damaged: it does not match its name"
        );
        let cut = text.trim_end().trim_end_matches('=');
        assert_eq!(Keyring::parse(&cut[..cut.len() - 9]).unwrap_err(), "line 3: the key is not base64 of 32 bytes");
        assert!(Keyring::parse("key").unwrap_err().starts_with("line 1: must be"));
    }

    #[test]
    fn debug_output_holds_no_key() {
        let text = format!("{:?}", Key::new([0x41; 32], Timestamp::UNIX_EPOCH));
        assert!(!text.contains("AAAA") && !text.contains("65, 65"), "{text}");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            if let Ok(ring) = Keyring::parse(&text) {
                prop_assert_eq!(Keyring::parse(&ring.render()), Ok(ring));
            }
        }
    }
}
