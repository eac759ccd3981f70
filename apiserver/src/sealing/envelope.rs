//! The bytes of a sealed value: AES-256-GCM under a key made for this one value, bound to the key it is stored under.
//!
//! Pure: chance comes in as an argument. The layout is `magic ‖ key id ‖ salt ‖ nonce ‖ ciphertext ‖ tag`. Every value
//! has a key of its own, HMAC-SHA-256(sealing key, salt), so that no number of writes can repeat a nonce under a key.

use ring::{aead, hmac};

use super::keyring::{Key, KeyId, Keyring};

/// First bytes of every sealed value. No stored JSON starts with a zero byte.
const MAGIC: &[u8; 8] = b"\0drover1";
const ID_BYTES: usize = 8;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = aead::NONCE_LEN;
const HEADER_BYTES: usize = MAGIC.len() + ID_BYTES + SALT_BYTES + NONCE_BYTES;
/// Separates these keys from whatever else may be derived from a sealing key.
const DERIVATION: &[u8] = b"drover sealing v1";

/// Random bytes that one seal takes.
pub(crate) const CHANCE_BYTES: usize = SALT_BYTES + NONCE_BYTES;

/// Why a value cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The value is not sealed at all.
    #[error("it is not sealed")]
    Plain,
    /// The key is not at hand.
    #[error("it is sealed with key {0}, which is not in pki/sealing.keys")]
    UnknownKey(KeyId),
    /// Somebody changed the value, or moved it from another name.
    #[error("it was changed or moved from another name")]
    Forged,
}

/// Seals `value` for the store key `name`.
pub(crate) fn seal(key: &Key, name: &[u8], value: &[u8], chance: &[u8; CHANCE_BYTES]) -> Vec<u8> {
    let (salt, nonce) = chance.split_at(SALT_BYTES);
    let mut sealed = Vec::with_capacity(HEADER_BYTES + value.len() + aead::AES_256_GCM.tag_len());
    sealed.extend_from_slice(MAGIC);
    sealed.extend_from_slice(&key.id().0);
    sealed.extend_from_slice(salt);
    sealed.extend_from_slice(nonce);
    let mut text = value.to_vec();
    let tag = cipher(key, salt)
        .seal_in_place_separate_tag(nonce_of(nonce), aead::Aad::from(name), &mut text)
        .expect("only a value beyond 64 GiB is refused, and a request body ends at 3 MiB");
    sealed.extend_from_slice(&text);
    sealed.extend_from_slice(tag.as_ref());
    sealed
}

/// Opens what [`seal`] made for the same name.
///
/// # Errors
/// [`Error`].
pub(crate) fn open(keys: &Keyring, name: &[u8], stored: &[u8]) -> Result<Vec<u8>, Error> {
    let id = key_id(stored).ok_or(Error::Plain)?;
    let key = keys.get(id).ok_or(Error::UnknownKey(id))?;
    let (header, text) = stored.split_at_checked(HEADER_BYTES).ok_or(Error::Forged)?;
    let (salt, nonce) = header[MAGIC.len() + ID_BYTES..].split_at(SALT_BYTES);
    let mut text = text.to_vec();
    let length = cipher(key, salt)
        .open_in_place(nonce_of(nonce), aead::Aad::from(name), &mut text)
        .map_err(|_| Error::Forged)?
        .len();
    text.truncate(length);
    Ok(text)
}

/// Returns the id of the key that a value says it is sealed with; `None` when it is not sealed.
pub(crate) fn key_id(stored: &[u8]) -> Option<KeyId> {
    stored.strip_prefix(MAGIC)?.first_chunk().copied().map(KeyId)
}

/// Stands for a value that had to be sealed and is not. Nothing opens it.
pub(crate) fn refused() -> Vec<u8> {
    [MAGIC.as_slice(), &KeyId::NONE.0].concat()
}

fn cipher(key: &Key, salt: &[u8]) -> aead::LessSafeKey {
    let mut context = hmac::Context::with_key(key.derivation());
    context.update(DERIVATION);
    context.update(salt);
    let derived = context.sign();
    let unbound = aead::UnboundKey::new(&aead::AES_256_GCM, derived.as_ref())
        .expect("HMAC-SHA-256 makes the 32 bytes that AES-256 takes");
    aead::LessSafeKey::new(unbound)
}

fn nonce_of(bytes: &[u8]) -> aead::Nonce {
    aead::Nonce::try_assume_unique_for_key(bytes).expect("the caller cut exactly twelve bytes")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> Key {
        Key::new([byte; 32], Timestamp::UNIX_EPOCH)
    }

    fn ring(bytes: &[u8]) -> Keyring {
        let mut ring = Keyring::default();
        bytes.iter().for_each(|byte| ring.add(key(*byte)));
        ring
    }

    #[test]
    fn a_value_opens_under_its_own_name_and_key_only() {
        let sealed = seal(&key(1), b"/registry/core/secrets/a/b", b"canary", &[9; CHANCE_BYTES]);
        assert_eq!(open(&ring(&[2, 1]), b"/registry/core/secrets/a/b", &sealed).as_deref(), Ok(&b"canary"[..]));
        assert_eq!(open(&ring(&[1]), b"/registry/core/secrets/a/c", &sealed), Err(Error::Forged), "moved");
        assert_eq!(open(&ring(&[2]), b"/registry/core/secrets/a/b", &sealed), Err(Error::UnknownKey(key(1).id())));
        assert_eq!(open(&ring(&[1]), b"x", b"{\"kind\":\"Secret\"}"), Err(Error::Plain));
        assert!(!sealed.windows(6).any(|window| window == b"canary"));
    }

    #[test]
    fn no_changed_bit_goes_unnoticed() {
        let sealed = seal(&key(1), b"n", b"value", &[9; CHANCE_BYTES]);
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&ring(&[1]), b"n", &forged).is_err(), "bit {bit}");
        }
        assert!(open(&ring(&[1]), b"n", &refused()).is_err());
    }

    proptest! {
        #[test]
        fn any_value_survives_and_any_junk_is_refused(
            name: Vec<u8>, value: Vec<u8>, chance: [u8; CHANCE_BYTES], cut in 0usize..80, junk: Vec<u8>,
        ) {
            let sealed = seal(&key(3), &name, &value, &chance);
            prop_assert_eq!(open(&ring(&[3]), &name, &sealed), Ok(value));
            prop_assert!(open(&ring(&[3]), &name, &sealed[..cut.min(sealed.len() - 1)]).is_err());
            prop_assert!(open(&ring(&[3]), &name, &junk).is_err());
        }
    }
}
