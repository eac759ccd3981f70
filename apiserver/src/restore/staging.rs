//! Uploads wait in the store, in pieces, until the whole of them is proved: no object is touched before that, and what
//! is to be applied outlives the server that took it.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use drover_api::backup::{Record, push_record, read_records};
use drover_store::{Backend, Operation, Range, Transaction, TransactionResult};

use super::{
    Error, STAGING,
    gate::{Gate, bound_to},
    marker::Known,
};

/// Bytes to a piece: a third of what etcd takes in one request, so that a record that does not fit any more still does.
const CHUNK_BYTES: usize = 512 << 10;
/// Pieces removed at once.
const CHUNKS_AT_ONCE: usize = 16;
/// Tries of a write of the marker against other writers of it.
const ATTEMPTS: usize = 8;

/// Writes one upload.
pub(super) struct Writer<'a> {
    gate: &'a Gate,
    known: Known,
    id: String,
    chunk: Vec<u8>,
    chunks: u64,
}

impl<'a> Writer<'a> {
    /// Begins an upload; one that began before and is not applied yet is given up.
    pub(super) async fn begin(gate: &'a Gate, id: String) -> Result<Self, Error> {
        for _ in 0..ATTEMPTS {
            let known = gate.refresh().await?;
            if known.is_closed() {
                return Err(Error::Busy("another backup is being restored".to_owned()));
            }
            let marker = super::marker::Marker { staging: Some(id.clone()), ..known.marker.clone() };
            if gate.mark(&known, marker).await? {
                clean(gate).await?;
                return Ok(Self { known: gate.known(), gate, id, chunk: Vec::new(), chunks: 0 });
            }
        }
        Err(Error::Busy("other restores keep beginning".to_owned()))
    }

    pub(super) async fn push(&mut self, record: &Record) -> Result<(), Error> {
        if !self.chunk.is_empty() && self.chunk.len() + record.key.len() + record.value.len() > CHUNK_BYTES {
            self.flush().await?;
        }
        push_record(&mut self.chunk, &record.key, &record.value);
        Ok(())
    }

    /// Writes the last piece; returns how many there are, and the marker they are bound to.
    pub(super) async fn finish(mut self) -> Result<(u64, Known), Error> {
        if !self.chunk.is_empty() {
            self.flush().await?;
        }
        Ok((self.chunks, self.known))
    }

    async fn flush(&mut self) -> Result<(), Error> {
        let (key, value) = (chunk_key(&self.id, self.chunks).into(), Bytes::from(std::mem::take(&mut self.chunk)));
        let put = Operation::Put { key, value };
        for _ in 0..ATTEMPTS {
            let transaction = Transaction { compares: vec![bound_to(&self.known)], operations: vec![put.clone()] };
            match self.gate.inner.commit(transaction).await? {
                TransactionResult::Committed { .. } => {
                    self.chunks += 1;
                    return Ok(());
                }
                TransactionResult::Conflict { .. } => {
                    self.known = self.gate.refresh().await?;
                    let ours = self.known.marker.staging.as_deref() == Some(&self.id);
                    if !ours || self.known.is_closed() {
                        return Err(Error::Busy("another restore has begun".to_owned()));
                    }
                }
            }
        }
        Err(Error::Busy("the store is too busy".to_owned()))
    }
}

/// Forgets an upload that will not be applied.
pub(super) async fn give_up(gate: &Gate, id: &str) -> Result<(), Error> {
    let known = gate.refresh().await?;
    if known.marker.staging.as_deref() == Some(id) {
        let marker = super::marker::Marker { staging: None, ..known.marker.clone() };
        // Whoever was quicker has given it up as well.
        gate.mark(&known, marker).await?;
    }
    clean(gate).await
}

/// Removes what is staged and wanted by nobody.
pub(super) async fn clean(gate: &Gate) -> Result<(), Error> {
    let mut after = Bytes::new();
    loop {
        let range = Range { prefix: STAGING.into(), after, limit: CHUNKS_AT_ONCE, at: None };
        let found = gate.inner.range(range).await?;
        let Some(last) = found.items.last() else { return Ok(()) };
        after = last.key.clone();
        let known = gate.refresh().await?;
        let applying = known.marker.applying.as_ref().map(|applying| &applying.staged);
        let wanted: Vec<String> = known.marker.staging.iter().chain(applying).map(|id| chunk_prefix(id)).collect();
        let unwanted = |key: &Bytes| !wanted.iter().any(|prefix| key.starts_with(prefix.as_bytes()));
        let operations: Vec<Operation> = found
            .items
            .into_iter()
            .filter(|item| unwanted(&item.key))
            .map(|item| Operation::Delete { key: item.key })
            .collect();
        if operations.is_empty() {
            continue;
        }
        // Bound to the marker: what has become wanted since is not removed, and waits for the next cleaning.
        gate.inner.commit(Transaction { compares: vec![bound_to(&known)], operations }).await?;
    }
}

/// Reads one upload back, record by record.
pub(super) struct Reader {
    inner: Arc<dyn Backend>,
    id: String,
    chunks: u64,
    next: u64,
    records: VecDeque<Record>,
}

impl Reader {
    pub(super) fn new(inner: Arc<dyn Backend>, id: String, chunks: u64) -> Self {
        Self { inner, id, chunks, next: 0, records: VecDeque::new() }
    }

    pub(super) async fn next(&mut self) -> Result<Option<Record>, Error> {
        while self.records.is_empty() && self.next < self.chunks {
            let key = chunk_key(&self.id, self.next);
            let found = self.inner.get(key.as_bytes()).await?;
            let lost = || drover_store::Error::Broken(format!("{key} of a restore is missing"));
            self.records = read_records(&found.ok_or_else(lost)?.value)?.into();
            self.next += 1;
        }
        Ok(self.records.pop_front())
    }
}

fn chunk_prefix(id: &str) -> String {
    format!("{STAGING}{id}/")
}

fn chunk_key(id: &str, number: u64) -> String {
    format!("{}{number:010}", chunk_prefix(id))
}
