//! The tables and the bytes in them. Pure: no I/O.
//!
//! Every version of a key is one row of [`VERSIONS`]; [`LOG`] says which keys each revision touched, in key order.
//! The newest row of a key is its live state, so a value is on disk once, and a read at a revision or a watch needs
//! nothing else. Compaction drops the rows that no readable revision can see.

use bytes::Bytes;
use redb::TableDefinition;

use crate::{Error, KeyValue, Revision};

/// (key, revision) → version record.
pub(crate) const VERSIONS: TableDefinition<'_, (&[u8], u64), &[u8]> = TableDefinition::new("versions");
/// (revision, position in it) → key.
pub(crate) const LOG: TableDefinition<'_, (u64, u32), &[u8]> = TableDefinition::new("log");
/// The few numbers of the store.
pub(crate) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// Newest committed revision.
pub(crate) const META_REVISION: &str = "revision";
/// Oldest revision that can still be read.
pub(crate) const META_COMPACTED: &str = "compacted";
/// Version of this layout.
pub(crate) const META_FORMAT: &str = "format";
/// The only layout so far.
pub(crate) const FORMAT: u64 = 1;

/// What a key was at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Version {
    /// It had a value.
    Put {
        /// Revision of the write that made the key.
        create_revision: Revision,
        /// The value.
        value: Bytes,
    },
    /// It was removed.
    Tombstone,
}

impl Version {
    /// The key-value pair that this version of `key` at `revision` stands for; `None` for a tombstone.
    pub(crate) fn into_key_value(self, key: Bytes, revision: Revision) -> Option<KeyValue> {
        match self {
            Self::Put { create_revision, value } => {
                Some(KeyValue { key, value, create_revision, mod_revision: revision })
            }
            Self::Tombstone => None,
        }
    }
}

const KIND_PUT: u8 = 1;
const KIND_TOMBSTONE: u8 = 2;
const CHECKSUM_LEN: usize = 4;
const HEADER_LEN: usize = CHECKSUM_LEN + 1 + 8;

/// Encodes a version record: checksum (over key, revision and the rest), kind, create revision, value.
pub(crate) fn encode(key: &[u8], revision: Revision, version: &Version) -> Vec<u8> {
    let (kind, create_revision, value): (u8, Revision, &[u8]) = match version {
        Version::Put { create_revision, value } => (KIND_PUT, *create_revision, value),
        Version::Tombstone => (KIND_TOMBSTONE, 0, &[]),
    };
    let mut record = Vec::with_capacity(HEADER_LEN + value.len());
    record.extend_from_slice(&[0; CHECKSUM_LEN]);
    record.push(kind);
    record.extend_from_slice(&create_revision.to_le_bytes());
    record.extend_from_slice(value);
    let sum = checksum(key, revision, &record[CHECKSUM_LEN..]);
    record[..CHECKSUM_LEN].copy_from_slice(&sum.to_le_bytes());
    record
}

/// Decodes a version record.
///
/// # Errors
/// [`Error::Broken`] when the record is not what was written under this key and revision.
pub(crate) fn decode(key: &[u8], revision: Revision, record: &[u8]) -> Result<Version, Error> {
    let corrupt =
        || Error::Broken(format!("record of key {:?} at revision {revision} is corrupt", Bytes::copy_from_slice(key)));
    let (header, value) = record.split_at_checked(HEADER_LEN).ok_or_else(corrupt)?;
    let (stored_sum, rest) = header.split_at(CHECKSUM_LEN);
    let checked = !drover_api::mutants::active("D11-no-checksum");
    if checked && stored_sum != checksum(key, revision, &record[CHECKSUM_LEN..]).to_le_bytes() {
        return Err(corrupt());
    }
    match rest[0] {
        KIND_PUT => {
            let mut create_revision = [0; 8];
            create_revision.copy_from_slice(&rest[1..]);
            Ok(Version::Put {
                create_revision: Revision::from_le_bytes(create_revision),
                value: Bytes::copy_from_slice(value),
            })
        }
        KIND_TOMBSTONE => Ok(Version::Tombstone),
        _unknown_kind => Err(corrupt()),
    }
}

/// CRC-32C.
fn checksum(key: &[u8], revision: Revision, rest: &[u8]) -> u32 {
    let sum = crc32c::crc32c(key);
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &revision.to_le_bytes()), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_of_older_files_is_understood() {
        let record = encode(b"key", 9, &Version::Put { create_revision: 7, value: Bytes::from_static(b"value") });
        assert_eq!(record[..CHECKSUM_LEN], [79, 208, 27, 242], "as format 1 has it");
    }

    #[test]
    fn a_record_survives_encoding() {
        for version in [
            Version::Put { create_revision: 7, value: Bytes::from_static(b"value") },
            Version::Put { create_revision: u64::MAX, value: Bytes::new() },
            Version::Tombstone,
        ] {
            assert_eq!(decode(b"key", 9, &encode(b"key", 9, &version)), Ok(version));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let record = encode(b"key", 9, &Version::Put { create_revision: 7, value: Bytes::from_static(b"value") });
        for bit in 0..record.len() * 8 {
            let mut flipped = record.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(b"key", 9, &flipped).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_key_or_revision_is_refused() {
        let record = encode(b"key", 9, &Version::Tombstone);
        assert!(decode(b"kez", 9, &record).is_err());
        assert!(decode(b"key", 8, &record).is_err());
        assert!(decode(b"key", 9, &record[..5]).is_err());
    }
}
