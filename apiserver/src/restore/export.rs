//! Streams a backup: every key at one revision, page by page, while writes go on.

use std::sync::Arc;

use bytes::Bytes;
use drover_api::backup::{Encoder, Header};
use drover_store::{Backend, Error, Range, RangeResult, Revision};
use futures::Stream;

use super::{PAGE, gate::Gate, is_ours_to_back_up};
use crate::registry::ROOT;

/// Tries of a backup whose revision was compacted before it was complete: its reader is too slow, or writes too many.
const ATTEMPTS: usize = 5;

/// A backup under way.
pub(super) struct Export {
    gate: Arc<Gate>,
    header: Header,
    attempts: usize,
    state: State,
}

enum State {
    /// A page is read and waits to be encoded.
    Page {
        encoder: Encoder,
        out: Vec<u8>,
        after: Bytes,
        more: bool,
    },
    Done,
}

impl Export {
    /// Reads the first page; `header` says everything but the revision.
    ///
    /// # Errors
    /// The store's.
    pub(super) async fn begin(gate: Arc<Gate>, header: Header) -> Result<Self, Error> {
        let mut export = Self { gate, header, attempts: 0, state: State::Done };
        export.start_over().await?;
        Ok(export)
    }

    /// The bytes of the file, as [`drover_api::backup::Decoder::live`] reads them.
    pub(super) fn into_stream(self) -> impl Stream<Item = Result<Bytes, Error>> + Send {
        futures::stream::try_unfold(self, |mut export| async move {
            let bytes = export.next().await?;
            Ok(bytes.map(|bytes| (bytes, export)))
        })
    }

    async fn start_over(&mut self) -> Result<(), Error> {
        let found = self.read(Bytes::new(), None).await?;
        self.header.revision = found.revision;
        let (mut encoder, mut out) = Encoder::begin(&self.header);
        if self.attempts > 0 {
            out.splice(0..0, Encoder::void());
        }
        self.attempts += 1;
        let after = write(&mut encoder, &mut out, &found);
        self.state = State::Page { encoder, out, after, more: found.more };
        Ok(())
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let State::Page { mut encoder, mut out, after, more } = std::mem::replace(&mut self.state, State::Done) else {
            return Ok(None);
        };
        if !more {
            out.extend(encoder.finish());
            return Ok(Some(out.into()));
        }
        let sent = Bytes::from(std::mem::take(&mut out));
        match self.read(after, Some(self.header.revision)).await {
            Ok(found) => {
                let after = write(&mut encoder, &mut out, &found);
                self.state = State::Page { encoder, out, after, more: found.more };
            }
            Err(Error::Compacted { .. }) if self.attempts < ATTEMPTS => self.start_over().await?,
            Err(error) => return Err(error),
        }
        Ok(Some(sent))
    }

    async fn read(&self, after: Bytes, at: Option<Revision>) -> Result<RangeResult, Error> {
        self.gate.range(Range { prefix: ROOT.into(), after, limit: PAGE, at }).await
    }
}

fn write(encoder: &mut Encoder, out: &mut Vec<u8>, found: &RangeResult) -> Bytes {
    for item in found.items.iter().filter(|item| is_ours_to_back_up(&item.key)) {
        encoder.record(&item.key, &item.value, out);
    }
    found.items.last().map(|item| item.key.clone()).unwrap_or_default()
}
