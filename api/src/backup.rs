//! The backup file: one stream that says what it is, and in which any damage shows. Pure.
//!
//! Sixteen bytes of magic, then frames of kind (1 byte), length (4 bytes, little endian) and payload: one header, the
//! records in strictly ascending key order, one trailer with their number and a SHA-256 over everything before it.
//! Written by the API server, read by it again and by `droverctl`, which checks a file before it sends it.

mod decode;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use decode::{Decoder, Error, Item, read_records};

/// What every file starts with; the digit is the format's version.
pub const MAGIC: &[u8; 16] = b"DROVER-BACKUP/1\n";
/// Longest payload of a frame: an object is at most 3 MiB (a request's bound), with room for what is put around it.
pub const FRAME_BYTES_MAX: usize = 8 << 20;
/// Bytes before a frame's payload.
const FRAME_HEAD: usize = 5;
const DIGEST_BYTES: usize = 32;
const COUNT_BYTES: usize = 8;

const HEADER: u8 = b'H';
const RECORD: u8 = b'R';
const TRAILER: u8 = b'T';
/// Only on the wire, never in a file: what came so far is void, a whole new file follows.
const VOID: u8 = b'V';

/// What a file says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The cluster's name.
    pub cluster: String,
    /// The one revision that every record shows.
    pub revision: u64,
    /// When it was taken, RFC 3339 in whole seconds.
    pub taken_at: String,
    /// The version of the server that wrote it.
    pub server_version: String,
}

/// One stored key, as the store holds it: what is sealed at rest is sealed here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Vec<u8>,
    /// The value.
    pub value: Vec<u8>,
}

/// What a complete file amounts to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Records.
    pub records: u64,
    /// SHA-256 of the file up to its last 32 bytes, in hexadecimal.
    pub digest: String,
}

/// Writes a file piece by piece; every call returns the bytes to append.
#[derive(Debug, Clone)]
pub struct Encoder {
    hasher: Sha256,
    records: u64,
}

impl Encoder {
    /// Begins a file.
    pub fn begin(header: &Header) -> (Self, Vec<u8>) {
        let mut encoder = Self { hasher: Sha256::new(), records: 0 };
        let mut bytes = MAGIC.to_vec();
        // A struct of strings and a number always encodes.
        push_frame(&mut bytes, HEADER, &[&serde_json::to_vec(header).unwrap_or_default()]);
        encoder.hasher.update(&bytes);
        (encoder, bytes)
    }

    /// Appends a record to `out`. Keys must ascend: the reader refuses anything else.
    pub fn record(&mut self, key: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let start = out.len();
        push_record(out, key, value);
        self.hasher.update(&out[start..]);
        self.records += 1;
    }

    /// Ends the file.
    pub fn finish(mut self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEAD + COUNT_BYTES + DIGEST_BYTES);
        push_head(&mut bytes, TRAILER, COUNT_BYTES + DIGEST_BYTES);
        bytes.extend_from_slice(&self.records.to_le_bytes());
        self.hasher.update(&bytes);
        bytes.extend_from_slice(&self.hasher.finalize());
        bytes
    }

    /// Says on the wire that what was sent so far is void and a new file follows.
    pub fn void() -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FRAME_HEAD);
        push_head(&mut bytes, VOID, 0);
        bytes
    }
}

/// Appends one record in the form that [`read_records`] reads.
pub fn push_record(out: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // A key is bounded by the length of names, far below 4 GiB.
    let key_length = u32::try_from(key.len()).unwrap_or(u32::MAX);
    push_frame(out, RECORD, &[&key_length.to_le_bytes(), key, value]);
}

fn push_frame(out: &mut Vec<u8>, kind: u8, parts: &[&[u8]]) {
    push_head(out, kind, parts.iter().map(|part| part.len()).sum());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

fn push_head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    // The reader refuses frames beyond `FRAME_BYTES_MAX`.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
}
