//! The stream of changes as the gate passes it on: nothing of a restore in the middle, and an end with it.

use std::sync::Arc;

use drover_store::{ChangeStream, Changes, Error, Event, EventKind, Revision};
use futures::StreamExt;
use tokio::sync::watch;

use super::{
    MARKER,
    gate::{shown, shown_error},
    marker::Known,
};

/// Passes changes on until a restore begins, keeps quiet while it is applied, and ends with
/// [`Error::Compacted`] once it is complete: whoever reads on must list again.
pub(super) fn guarded(inner: ChangeStream, known: Arc<watch::Sender<Known>>, offset: Revision) -> ChangeStream {
    let guard = Guard { inner, known, offset, frozen: false, ended: false };
    futures::stream::unfold(guard, |mut guard| async move {
        let item = guard.next().await?;
        Some((item, guard))
    })
    .boxed()
}

struct Guard {
    inner: ChangeStream,
    known: Arc<watch::Sender<Known>>,
    offset: Revision,
    frozen: bool,
    ended: bool,
}

impl Guard {
    async fn next(&mut self) -> Option<Result<Changes, Error>> {
        if self.ended {
            return None;
        }
        loop {
            let changes = match self.inner.next().await? {
                Ok(changes) => changes,
                Err(error) => return self.end(shown_error(error, self.offset)),
            };
            let marked = changes.events.iter().find(|event| event.current.key == MARKER);
            if let Some(event) = marked.filter(|event| event.kind == EventKind::Put) {
                let found = match Known::read(Some(&event.current)) {
                    Ok(found) => found,
                    Err(error) => return self.end(error),
                };
                let (was_frozen, floor) = (self.frozen, found.marker.floor + found.marker.offset);
                self.frozen = found.is_closed();
                self.learn(found);
                if was_frozen && !self.frozen {
                    return self.end(Error::Compacted { oldest: floor });
                }
            }
            if !self.frozen {
                return Some(Ok(self.shown(changes)));
            }
        }
    }

    fn learn(&self, found: Known) {
        self.known.send_if_modified(|known| {
            let newer = found.revision > known.revision;
            if newer {
                *known = found;
            }
            newer
        });
    }

    fn end(&mut self, error: Error) -> Option<Result<Changes, Error>> {
        self.ended = true;
        Some(Err(error))
    }

    fn shown(&self, changes: Changes) -> Changes {
        let event = |event: Event| Event {
            kind: event.kind,
            current: shown(event.current, self.offset),
            previous: event.previous.map(|previous| shown(previous, self.offset)),
        };
        Changes { revision: changes.revision + self.offset, events: changes.events.into_iter().map(event).collect() }
    }
}
