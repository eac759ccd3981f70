//! Reads a backup file as it comes, in pieces of any size, and refuses the first thing that is not as it was written.

use sha2::{Digest as _, Sha256};

use super::{
    COUNT_BYTES, DIGEST_BYTES, FRAME_BYTES_MAX, FRAME_HEAD, HEADER, Header, MAGIC, RECORD, Record, Summary, TRAILER,
    VOID,
};

/// Why a file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It starts with something else.
    #[error("this is not a backup file")]
    Magic,
    /// It is of a later version of the format.
    #[error("the file has a format that this version does not know")]
    Format,
    /// It ends before its trailer.
    #[error("the file is cut short: it has no trailer after {records} records")]
    Truncated {
        /// Whole records before the end.
        records: u64,
    },
    /// A frame cannot be what was written.
    #[error("the file is damaged: {0}")]
    Damaged(&'static str),
    /// Everything reads well, and is not what was written.
    #[error("the file is damaged: its digest does not match its content")]
    Digest,
}

/// One thing read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// What the file says of itself; always the first.
    Header(Header),
    /// A record. Nothing is proved of it before [`Item::End`].
    Record(Record),
    /// What came so far is void; a header follows.
    Void,
    /// The file is complete and undamaged; always the last.
    End(Summary),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Magic,
    Header,
    Records,
    Ended,
}

/// Reads a file in pieces.
#[derive(Debug, Clone)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes of the buffer that were read already.
    start: usize,
    hasher: Sha256,
    state: State,
    records: u64,
    last_key: Vec<u8>,
    live: bool,
}

impl Decoder {
    /// Reads a file.
    pub fn file() -> Self {
        Self {
            buffer: Vec::new(),
            start: 0,
            hasher: Sha256::new(),
            state: State::Magic,
            records: 0,
            last_key: Vec::new(),
            live: false,
        }
    }

    /// Reads the answer of a server, which may begin anew.
    pub fn live() -> Self {
        Self { live: true, ..Self::file() }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next item, `None` when more bytes are needed.
    ///
    /// # Errors
    /// [`Error`], after which nothing of the file may be used.
    #[expect(clippy::should_implement_trait, reason = "an iterator could not say that it needs more bytes")]
    pub fn next(&mut self) -> Result<Option<Item>, Error> {
        if self.state == State::Magic && !self.read_magic()? {
            return Ok(None);
        }
        let rest = &self.buffer[self.start..];
        if self.state == State::Ended {
            return if rest.is_empty() { Ok(None) } else { Err(Error::Damaged("something follows its trailer")) };
        }
        let Some((kind, length)) = read_head(rest)? else { return Ok(None) };
        let Some(frame) = rest.get(..FRAME_HEAD + length) else { return Ok(None) };
        let item = match (self.state, kind) {
            (State::Header, HEADER) => {
                let header = serde_json::from_slice(&frame[FRAME_HEAD..]);
                self.state = State::Records;
                Item::Header(header.map_err(|_| Error::Damaged("its header cannot be read"))?)
            }
            (State::Records, RECORD) => {
                let record = read_record(&frame[FRAME_HEAD..])?;
                if self.records > 0 && record.key <= self.last_key {
                    return Err(Error::Damaged("its keys are out of order"));
                }
                self.records += 1;
                self.last_key.clone_from(&record.key);
                Item::Record(record)
            }
            (State::Records, TRAILER) => {
                let summary = self.read_trailer(frame)?;
                self.state = State::Ended;
                Item::End(summary)
            }
            (State::Header | State::Records, VOID) if self.live && length == 0 => {
                *self = Self { buffer: self.buffer.split_off(self.start + FRAME_HEAD), ..Self::live() };
                return Ok(Some(Item::Void));
            }
            _ => return Err(Error::Damaged("it has a frame where none of its kind can be")),
        };
        self.hasher.update(frame);
        self.start += FRAME_HEAD + length;
        Ok(Some(item))
    }

    /// The bytes that were pushed and not read yet: right after [`Item::Void`], the beginning of the new file.
    pub fn unread(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// Says whether the bytes so far were a whole file.
    ///
    /// # Errors
    /// [`Error::Truncated`], or what [`Decoder::next`] says about bytes that were pushed and not read.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.next()? {
            None if self.state == State::Ended => Ok(()),
            None | Some(_) => Err(Error::Truncated { records: self.records }),
        }
    }

    fn read_magic(&mut self) -> Result<bool, Error> {
        let rest = &self.buffer[self.start..];
        // All but the version's digit and the line's end.
        let name = MAGIC.len() - 2;
        let known = rest.len().min(MAGIC.len());
        if rest[..known.min(name)] != MAGIC[..known.min(name)] {
            return Err(Error::Magic);
        }
        if rest[..known] != MAGIC[..known] {
            return Err(Error::Format);
        }
        if known < MAGIC.len() {
            return Ok(false);
        }
        self.hasher.update(MAGIC);
        self.start += MAGIC.len();
        self.state = State::Header;
        Ok(true)
    }

    fn read_trailer(&self, frame: &[u8]) -> Result<Summary, Error> {
        let (counted, digest) = frame.split_at(frame.len().saturating_sub(DIGEST_BYTES));
        let count = counted.get(FRAME_HEAD..).and_then(|bytes| <[u8; COUNT_BYTES]>::try_from(bytes).ok());
        let count = count.ok_or(Error::Damaged("its trailer cannot be read"))?;
        let actual = self.hasher.clone().chain_update(counted).finalize();
        if actual.as_slice() != digest || u64::from_le_bytes(count) != self.records {
            return Err(Error::Digest);
        }
        Ok(Summary { records: self.records, digest: digest.iter().map(|byte| format!("{byte:02x}")).collect() })
    }
}

/// Reads records that [`super::push_record`] wrote one after another.
///
/// # Errors
/// [`Error::Damaged`] when they are something else.
pub fn read_records(mut bytes: &[u8]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let cut = Error::Damaged("a record is cut short");
        let (kind, length) = read_head(bytes)?.ok_or_else(|| cut.clone())?;
        let frame = bytes.get(FRAME_HEAD..FRAME_HEAD + length).ok_or(cut)?;
        if kind != RECORD {
            return Err(Error::Damaged("it has a frame where none of its kind can be"));
        }
        records.push(read_record(frame)?);
        bytes = &bytes[FRAME_HEAD + length..];
    }
    Ok(records)
}

/// Reads kind and length of a frame; `None` when they are not complete.
fn read_head(bytes: &[u8]) -> Result<Option<(u8, usize)>, Error> {
    let Some((head, _)) = bytes.split_at_checked(FRAME_HEAD) else { return Ok(None) };
    let length = u32::from_le_bytes([head[1], head[2], head[3], head[4]]) as usize;
    // A damaged length must not make the reader wait for, or hold, gigabytes.
    if length > FRAME_BYTES_MAX {
        return Err(Error::Damaged("it has a frame of impossible length"));
    }
    Ok(Some((head[0], length)))
}

fn read_record(payload: &[u8]) -> Result<Record, Error> {
    let cut = || Error::Damaged("a record is cut short");
    let (length, rest) = payload.split_at_checked(4).ok_or_else(cut)?;
    let length = u32::from_le_bytes([length[0], length[1], length[2], length[3]]) as usize;
    let (key, value) = rest.split_at_checked(length).ok_or_else(cut)?;
    Ok(Record { key: key.to_vec(), value: value.to_vec() })
}
